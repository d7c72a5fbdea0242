//! Questions to the bus about channels, and the requests that wait for their answers.
//!
//! With a bus, a request waits here if its channel's position, or the older part of its history, is
//! unknown. There is one open question per channel.

use std::collections::BTreeSet;

use super::request::Request;
use crate::bus::stream_of;
use crate::channel::ChannelName;
use crate::collections::{Named, Table};
use crate::ids::Moment;
use crate::limits::PLACE_TIMEOUT;
use crate::mesh::{Post, ToBus};
use crate::settings::Redis;

/// Times of first requests, with their channels.
type Deadlines = BTreeSet<(Moment, ChannelName)>;

/// Channels whose position or history was requested from the bus.
pub(super) struct Awaiting {
    /// Whether the window of the bus is still being read.
    loading: bool,
    /// Requests that wait for an answer about their channel.
    waiting: Table<OpenQuestion>,
    /// The channels in `waiting`, by the time of their first request.
    deadlines: Deadlines,
    /// The arrival time of the request that is being rechecked. A question that is asked now is
    /// later than that.
    judging: Option<Moment>,
    /// The streams that the bridge reads late, and the number of all streams.
    late: (Vec<usize>, usize),
}

/// A question about a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The position of the channel.
    Position,
    /// The publications before an offset that Redis keeps.
    Older(u64),
}

/// A request that waits.
pub(super) struct Arrived {
    /// The time of its arrival, or the time at which its client began to wait.
    pub(super) came: Moment,
    /// The request.
    pub(super) request: Request,
}

/// A question that the bus has not answered, and the requests that wait for it.
struct OpenQuestion {
    channel: ChannelName,
    question: Question,
    /// The time of the first request. `None` if all requests were given up, so that nothing waits
    /// for the answer. It does not help later requests, because it is older than they are.
    since: Option<Moment>,
    /// The requests before the question, in order. The answer is for them.
    asked: Vec<Arrived>,
    /// The later requests. The answer may be older than the positions of their clients.
    later: Vec<Arrived>,
}

impl Named for OpenQuestion {
    fn name(&self) -> &str {
        self.channel.as_str()
    }
}

impl Awaiting {
    /// Creates an empty set. With a bus, nothing is asked before its window has been read.
    pub(super) fn new(redis: &Redis) -> Awaiting {
        Awaiting {
            loading: redis.is_on(),
            waiting: Table::default(),
            deadlines: Deadlines::new(),
            judging: None,
            late: (Vec::new(), 0),
        }
    }

    /// Whether the window of the bus is still being read, so that no position is known.
    pub(super) fn is_loading(&self) -> bool {
        self.loading
    }

    /// Ends loading, and asks the questions that were held back.
    pub(super) fn end_loading(&mut self, post: &mut Post) {
        self.loading = false;
        for (_, waiting) in self.waiting.iter() {
            ask_bus(waiting.channel.clone(), Question::Position, post);
        }
    }

    /// Records whether the bridge is late with a stream.
    pub(super) fn set_late(&mut self, stream: usize, streams: usize, late: bool) {
        let list = &mut self.late.0;
        list.retain(|other| *other != stream);
        list.extend(late.then_some(stream));
        self.late.1 = streams;
    }

    /// Whether the known state of `channel` may be old, so that new requests must wait for the
    /// bridge. A request that has already waited does not wait again.
    pub(super) fn is_late(&self, channel: &str) -> bool {
        let (late, streams) = &self.late;
        self.judging.is_none() && !late.is_empty() && late.contains(&stream_of(channel, *streams))
    }

    /// Whether a question about `channel` is open.
    pub(super) fn is_asked(&self, channel: &ChannelName) -> bool {
        self.waiting.find(channel.as_str()).is_some()
    }

    /// Whether waiting requests are being rechecked.
    pub(super) fn is_judging(&self) -> bool {
        self.judging.is_some()
    }

    /// Begins to recheck a request that arrived at `came`.
    pub(super) fn judge(&mut self, came: Moment) {
        self.judging = Some(came);
    }

    /// Ends the recheck of waiting requests.
    pub(super) fn end_judging(&mut self) {
        self.judging = None;
    }

    /// Keeps a request until the bus has answered a question about its channel. Returns the request
    /// if its client has already waited long enough. The question is asked nevertheless, because
    /// the answer helps later requests.
    pub(super) fn keep(
        &mut self,
        now: Moment,
        question: Question,
        request: Request,
        post: &mut Post,
    ) -> Option<Arrived> {
        let channel = request.channel().clone();
        let unserved = request.unserved();
        match unserved.filter(|since| self.judging.is_none() && is_over(now, *since)) {
            Some(since) => {
                self.ask(now, channel, question, post);
                Some(Arrived { came: since, request })
            }
            None => {
                let came = self.judging.or(unserved).unwrap_or(now);
                if self.wait(came, &channel, question, Some(request)) {
                    ask_bus(channel, question, post);
                }
                None
            }
        }
    }

    /// Asks a question for which no request waits.
    pub(super) fn ask(
        &mut self,
        now: Moment,
        channel: ChannelName,
        question: Question,
        post: &mut Post,
    ) {
        if self.wait(now, &channel, question, None) {
            ask_bus(channel, question, post);
        }
    }

    /// Adds a request to the question about its channel. Returns whether the question is a new one
    /// that must be sent to the bus now.
    fn wait(
        &mut self,
        came: Moment,
        channel: &ChannelName,
        question: Question,
        request: Option<Request>,
    ) -> bool {
        let request = request.map(|request| Arrived { came, request });
        if let Some(waiting) = self.waiting.find_mut(channel.as_str()) {
            // The answer counts for requests from before the question was sent. A rechecked request
            // is one of them, and while loading no question has been sent.
            let before = waiting.question == question && (self.judging.is_some() || self.loading);
            let list = if before { &mut waiting.asked } else { &mut waiting.later };
            list.extend(request);
            if waiting.since.is_none_or(|since| came < since) {
                if let Some(since) = waiting.since.replace(came) {
                    remove_deadline(&mut self.deadlines, since, channel);
                }
                add_deadline(&mut self.deadlines, came, channel);
            }
            return false;
        }
        let asked = request.into_iter().collect();
        let (since, name) = (Some(came), channel.clone());
        add_deadline(&mut self.deadlines, came, channel);
        self.waiting.insert(OpenQuestion {
            channel: name,
            question,
            since,
            asked,
            later: Vec::new(),
        });
        !self.loading
    }

    /// Ends the question about `channel` after its answer, and returns the requests that waited.
    /// Those that the answer is for are confirmed. `None` if there was no question.
    pub(super) fn take_answered(&mut self, channel: &ChannelName) -> Option<Vec<Arrived>> {
        let OpenQuestion { question, mut asked, later, .. } = self.take(channel)?;
        if question == Question::Position {
            asked.iter_mut().for_each(|arrived| arrived.request.confirm());
        }
        asked.extend(later);
        Some(asked)
    }

    /// Ends a question that the bus can't answer, like [`Self::take_answered`].
    pub(super) fn take_unanswered(&mut self, channel: &ChannelName) -> Option<Vec<Arrived>> {
        let OpenQuestion { mut asked, later, .. } = self.take(channel)?;
        asked.extend(later);
        Some(asked)
    }

    /// Removes the requests about one channel that have waited long enough. Returns `None` if there
    /// are none. The question stays open, because the answer may still arrive for requests that
    /// have not waited long enough.
    pub(super) fn take_expired(&mut self, now: Moment) -> Option<(ChannelName, Vec<Arrived>)> {
        self.deadlines.first().filter(|(came, _)| is_over(now, *came))?;
        let (came, channel) = self.deadlines.pop_first()?;
        let Some(waiting) = self.waiting.find_mut(channel.as_str()) else {
            unreachable!("a deadline is removed together with its question")
        };
        assert_eq!(waiting.since, Some(came), "a deadline is the time of the first request");
        waiting.since = None;
        let mut over = Vec::new();
        for list in [&mut waiting.asked, &mut waiting.later] {
            over.extend(list.extract_if(.., |arrived| is_over(now, arrived.came)));
            waiting.since = list.iter().map(|arrived| arrived.came).chain(waiting.since).min();
        }
        if let Some(since) = waiting.since {
            add_deadline(&mut self.deadlines, since, &channel);
        }
        Some((channel, over))
    }

    fn take(&mut self, channel: &ChannelName) -> Option<OpenQuestion> {
        let place = self.waiting.find(channel.as_str())?;
        let Some(waiting) = self.waiting.remove(place) else {
            unreachable!("the question was just found")
        };
        if let Some(since) = waiting.since {
            remove_deadline(&mut self.deadlines, since, channel);
        }
        Some(waiting)
    }
}

fn add_deadline(deadlines: &mut Deadlines, since: Moment, channel: &ChannelName) {
    let new = deadlines.insert((since, channel.clone()));
    assert!(new, "a question has one deadline at most");
}

fn remove_deadline(deadlines: &mut Deadlines, since: Moment, channel: &ChannelName) {
    let known = deadlines.remove(&(since, channel.clone()));
    assert!(known, "a question for which requests wait has a deadline");
}

/// Sends a question about a channel to the bus.
fn ask_bus(channel: ChannelName, question: Question, post: &mut Post) {
    post.to_bridge(match question {
        Question::Position => ToBus::Locate { channel },
        Question::Older(before) => ToBus::ReadOlder { channel, before },
    });
}

/// Whether a request that arrived at `came` has waited long enough for the bus.
fn is_over(now: Moment, came: Moment) -> bool {
    now.since(came) >= PLACE_TIMEOUT && !crate::sabotage!(EndlessPatience)
}
