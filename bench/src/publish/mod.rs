//! Publishing: by HTTP, by a message on a WebSocket, or by a byte to a server that sends canned
//! frames. Sending blocks, with the scenario's timeout, because publications are few and deliveries
//! many. Answers are handled as they arrive, so that they don't hold up an open loop.

mod frames;
mod http;
mod line;

use crate::error::{Error, PublishError};
use crate::profile::Profile;
use crate::sys;
use crate::target::{self, Endpoint, Target};
use crate::wire::mark::Mark;
use frames::Frames;
use http::Http;
use line::Line;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Minimum time between two checks for answers, in nanoseconds.
const ANSWERS_INTERVAL_NS: u64 = 500_000;
/// A line that was unused for this time is checked before it is used again.
const PAUSE_NS: u64 = 50_000_000;
/// Interval of checks of lines without awaited answers, because the server may ping or close.
const SILENCE_NS: u64 = 1_000_000_000;

/// How to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// Publish each message with a POST.
    Http,
    /// Publish each message with a WebSocket message.
    Frame,
    /// Publish each message with one byte.
    Trigger,
}

/// The target of publications. It has been checked, but is not connected.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    speech: Speech,
    address: SocketAddr,
    /// Number of connections. Each channel always uses the same one, to keep its order.
    pub(crate) lines: usize,
    pub(crate) way: Way,
}

/// The protocol on the lines.
#[derive(Clone, Debug)]
enum Speech {
    Http(Http),
    Frame(Frames),
    Trigger,
}

/// Values from the command line that replace those of the profile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) way: Option<Way>,
    pub(crate) url: Option<String>,
    /// Headers of HTTP requests, as `Name: value`.
    pub(crate) headers: Vec<String>,
    /// The URL of subscribers. Publishers use the same address, if they do so in the profile.
    pub(crate) client_url: String,
    pub(crate) lines: usize,
}

impl Entrance {
    /// Returns the entrance of the server of `profile` for all channels of `target`.
    pub(crate) fn new(
        profile: &Profile,
        target: &Target,
        overrides: &Overrides,
    ) -> Result<Self, Error> {
        let publish = &profile.publish;
        let way = overrides.way.or(match publish {
            _ if publish.http.is_some() => Some(Way::Http),
            _ if publish.frame.is_some() => Some(Way::Frame),
            _ => publish.trigger.as_ref().map(|_| Way::Trigger),
        });
        let missing = || Error::Usage("the profile lacks this way to publish".to_owned());
        let way = way.ok_or_else(missing)?;
        let given = publish.http.as_ref().filter(|_| way == Way::Http).map(|http| &http.url);
        let given = given.or(publish.frame.as_ref().and_then(|frame| frame.url.as_ref()));
        let moved = given.map(|given| target::moved(given, &profile.url, &overrides.client_url));
        let url = overrides.url.as_deref().or(moved.as_deref());
        let lines = overrides.lines;
        let (speech, address) = match way {
            Way::Http => {
                let http = publish.http.as_ref().ok_or_else(missing)?;
                let endpoint = |channel: &str| {
                    let url = crate::wire::script::fill_channel(url.unwrap_or(&http.url), channel);
                    Endpoint::parse(&url)
                };
                let address = endpoint("")?.address;
                let http = Http::new(http, target, &overrides.headers, endpoint)?;
                (Speech::Http(http), address)
            }
            Way::Frame => {
                let frame = publish.frame.as_ref().ok_or_else(missing)?;
                let url = url.unwrap_or(&overrides.client_url);
                if url.contains("{channel}") && target.entries.len() > lines {
                    return Err(Error::Usage(format!(
                        "the publisher's url names the channel, so {} channels need as many \
                         --publishers",
                        target.entries.len()
                    )));
                }
                let frames = Frames::new(profile, frame, target, url)?;
                let address = frames.address();
                (Speech::Frame(frames), address)
            }
            Way::Trigger => {
                let trigger = publish.trigger.as_ref().ok_or_else(missing)?;
                let address = url.map_or(Ok(trigger.address), |url| {
                    url.parse().map_err(|_| {
                        Error::Usage(format!("{url:?} is not an address such as 127.0.0.1:8101"))
                    })
                });
                (Speech::Trigger, address?)
            }
        };
        Ok(Self { speech, address, lines, way })
    }
}

/// Open lines to publish on.
pub(crate) struct Publisher {
    speech: Speech,
    address: SocketAddr,
    timeout: Duration,
    lines: Vec<Line>,
    /// Ids of publications whose answers are awaited, for each line.
    awaited: Vec<VecDeque<u64>>,
    id: u64,
    looked_ns: u64,
    looked_everywhere_ns: u64,
    /// Time of the last message sent on each line.
    sent_ns: Vec<u64>,
}

impl Publisher {
    /// Opens the lines. No later call blocks longer than `timeout`.
    pub(crate) fn open(entrance: &Entrance, timeout: Duration) -> Result<Self, PublishError> {
        let mut lines = Vec::with_capacity(entrance.lines);
        for index in 0..entrance.lines {
            let mut line = Line::open(entrance.address, timeout)?;
            if let Speech::Frame(frames) = &entrance.speech {
                frames.open(index, &mut line)?;
            }
            lines.push(line);
        }
        Ok(Self {
            speech: entrance.speech.clone(),
            address: entrance.address,
            timeout,
            awaited: vec![VecDeque::new(); lines.len()],
            sent_ns: vec![sys::now_ns(); lines.len()],
            lines,
            id: frames::ID_FIRST,
            looked_ns: 0,
            looked_everywhere_ns: 0,
        })
    }

    /// Sends a publication with `mark` to a channel, padded to `bytes`.
    pub(crate) fn send(
        &mut self,
        channel: usize,
        mark: Mark,
        bytes: usize,
    ) -> Result<(), PublishError> {
        let at = channel % self.lines.len();
        let now_ns = sys::now_ns();
        if now_ns > self.sent_ns[at] + PAUSE_NS {
            // The last answer may have arrived but not been handled yet, with the end behind it.
            if !self.awaited[at].is_empty() && self.lines[at].fill_now()? {
                self.take_line(at)?;
            }
            if self.awaited[at].is_empty() {
                self.reopen_ended(at)?;
            }
        }
        self.sent_ns[at] = now_ns;
        let line = &mut self.lines[at];
        match &self.speech {
            Speech::Http(http) => line.send(&http.request(channel, &mark.payload(bytes)))?,
            Speech::Frame(frames) => {
                line.send(&frames.message(channel, self.id, &mark.payload(bytes)))?;
                if !frames.confirms() {
                    return Ok(());
                }
            }
            Speech::Trigger => return Ok(line.send(&[0])?),
        }
        self.awaited[at].push_back(self.id);
        self.id += 1;
        Ok(())
    }

    /// Handles input of a line on which no answer is awaited, and reopens the line if the server
    /// has closed it. Servers do that when a connection was silent for long.
    fn reopen_ended(&mut self, at: usize) -> Result<(), PublishError> {
        let mut nothing = VecDeque::new();
        let line = &mut self.lines[at];
        let tended = match (line.fill_now(), &self.speech) {
            (Ok(true), Speech::Frame(frames)) => frames.take(line, &mut nothing),
            (filled, _) => filled.map(|_| ()),
        };
        let Err(error) = tended else { return Ok(()) };
        if let Speech::Trigger = self.speech {
            return Err(error);
        }
        if let Speech::Frame(_) = self.speech {
            eprintln!("WARNING: a connection for publishing ended ({error}); reopening it");
        }
        self.lines[at] = Line::open(self.address, self.timeout)?;
        match &self.speech {
            Speech::Frame(frames) => frames.open(at, &mut self.lines[at]),
            Speech::Http(_) | Speech::Trigger => Ok(()),
        }
    }

    /// Handles available answers, and occasionally all other input. A refusal is an error.
    pub(crate) fn take_answers(&mut self) -> Result<(), PublishError> {
        let now_ns = sys::now_ns();
        if now_ns < self.looked_ns + ANSWERS_INTERVAL_NS {
            return Ok(());
        }
        self.looked_ns = now_ns;
        let looks_everywhere = now_ns >= self.looked_everywhere_ns + SILENCE_NS;
        if looks_everywhere {
            self.looked_everywhere_ns = now_ns;
        }
        for at in 0..self.lines.len() {
            let awaits = !self.awaited[at].is_empty();
            if !awaits && matches!(self.speech, Speech::Http(_)) {
                continue;
            }
            if (awaits || looks_everywhere) && self.lines[at].fill_now()? {
                self.take_line(at)?;
            }
        }
        Ok(())
    }

    /// Waits for all answers.
    pub(crate) fn settle(&mut self) -> Result<(), PublishError> {
        for at in 0..self.lines.len() {
            self.take_line(at)?;
            while !self.awaited[at].is_empty() {
                self.lines[at].fill()?;
                self.take_line(at)?;
            }
        }
        Ok(())
    }

    fn take_line(&mut self, at: usize) -> Result<(), PublishError> {
        let (line, awaited) = (&mut self.lines[at], &mut self.awaited[at]);
        match &self.speech {
            Speech::Http(http) => {
                while let Some(used) = http.answer(&line.bytes)? {
                    line.bytes.drain(..used);
                    awaited.pop_front();
                }
            }
            Speech::Frame(frames) => frames.take(line, awaited)?,
            Speech::Trigger => line.bytes.clear(),
        }
        Ok(())
    }
}
