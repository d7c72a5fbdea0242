//! The messages of a profile, prepared for use: those that a subscriber of a channel sends, and
//! those that it recognises.

use crate::failure::{Failure, Fault};
use crate::profile::{Profile, Recover, Step};
use crate::wire::frame::{self, Opcode};
use crate::wire::mark::{Finder, Mark};
use memchr::memmem;

/// The messages of a subscriber of one channel after the upgrade.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) steps: Vec<Turn>,
    /// Replaces the first step's message when a client reconnects.
    pub(crate) recover: Option<String>,
}

/// One step, with its message as a frame.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) wait: Option<Vec<u8>>,
    pub(crate) send: Option<Vec<u8>>,
}

/// The parts that are the same for all channels.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    refuse: Option<Vec<u8>>,
    ping: Option<Vec<u8>>,
    /// The answer to a ping, as a frame.
    pub(crate) pong: Option<Vec<u8>>,
    recover: Option<Recover>,
}

impl Opening {
    pub(crate) fn new(steps: &[Step], recover: Option<&Recover>, channel: &str) -> Self {
        let fill = |text: &String| fill_channel(text, channel);
        let turn = |step: &Step| Turn {
            wait: step.wait.as_ref().map(|text| fill(text).into_bytes()),
            send: step.send.as_ref().map(|text| text_frame(&fill(text))),
        };
        let recover = recover.map(|recover| fill(&recover.send));
        Self { steps: steps.iter().map(turn).collect(), recover }
    }

    /// Returns the first message of a client that reconnects, as a frame.
    pub(crate) fn recovery(&self, epoch: &str, offset: u64) -> Option<Vec<u8>> {
        let text = self.recover.as_ref()?.replace("{epoch}", epoch);
        Some(text_frame(&text.replace("{offset}", &offset.to_string())))
    }
}

impl Script {
    pub(crate) fn new(profile: &Profile) -> Self {
        let ping = profile.ping.as_ref();
        let answer = ping.and_then(|ping| ping.answer.as_deref());
        Self {
            refuse: profile.refuse.as_ref().map(|text| text.clone().into_bytes()),
            ping: ping.map(|ping| ping.message.clone().into_bytes()),
            pong: answer.map(text_frame),
            recover: profile.recover.clone(),
        }
    }

    /// Whether `message`, received while opening, is a refusal.
    pub(crate) fn refusal(&self, message: &[u8]) -> Option<Failure> {
        let refuse = self.refuse.as_deref()?;
        memmem::find(message, refuse)?;
        let words = String::from_utf8_lossy(message).into_owned();
        Some(Failure::new(Fault::Subscribe, words))
    }

    /// Whether `line` is the server's ping.
    pub(crate) fn is_ping(&self, line: &[u8]) -> bool {
        self.ping.as_deref() == Some(line)
    }

    /// Returns the last offset in `message`.
    pub(crate) fn offset(&self, message: &[u8]) -> Option<u64> {
        let key = self.recover.as_ref()?.offset.as_bytes();
        let after = &message[memmem::rfind(message, key)? + key.len()..];
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&after[..digits]).ok()?.parse().ok()
    }

    /// Returns the epoch in `message`.
    pub(crate) fn epoch<'a>(&self, message: &'a [u8]) -> Option<&'a str> {
        let key = self.recover.as_ref()?.epoch.as_bytes();
        let after = &message[memmem::find(message, key)? + key.len()..];
        std::str::from_utf8(&after[..memchr::memchr(b'"', after)?]).ok()
    }
}

/// The parsed content of one message. It is kept between messages: a broadcast sends the same bytes
/// to all subscribers, so most messages equal the previous one and need not be parsed again.
pub(crate) struct Heard {
    finder: Finder,
    message: Vec<u8>,
    /// Marks of publications, in order.
    pub(crate) marks: Vec<Mark>,
    /// Number of pings of the server's protocol (not of WebSocket).
    pub(crate) pings: u32,
    /// The last offset, for a server that supports recovery.
    pub(crate) offset: Option<u64>,
}

impl Heard {
    pub(crate) fn new() -> Self {
        Self {
            finder: Finder::new(),
            message: Vec::new(),
            marks: Vec::new(),
            pings: 0,
            offset: None,
        }
    }

    pub(crate) fn read(&mut self, message: &[u8], script: &Script) {
        if message == self.message {
            return;
        }
        self.marks.clear();
        self.finder.find(message, &mut self.marks);
        self.offset = script.offset(message);
        self.pings = 0;
        if let Some(ping) = &script.ping {
            let lines = message.split(|byte| *byte == b'\n');
            self.pings = u32::try_from(lines.filter(|line| line == ping).count()).unwrap_or(0);
        }
        self.message.clear();
        self.message.extend_from_slice(message);
    }
}

/// Fills in the channel's name. Names here need no quoting in any format.
pub(crate) fn fill_channel(text: &str, channel: &str) -> String {
    text.replace("{channel}", channel)
}

/// Returns `text` as a client's frame.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    frame::encode(Opcode::Text, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corecast() -> Script {
        Script::new(&Profile::load("corecast").unwrap())
    }

    #[test]
    fn a_message_is_read_for_publications_pings_and_the_last_offset() {
        let data = Mark { sequence: 3, sent_ns: 30 }.payload(64);
        let push = |offset: u32| {
            format!("{{\"push\":{{\"pub\":{{\"data\":{data},\"offset\":{offset}}}}}}}")
        };
        let (script, mut heard) = (corecast(), Heard::new());
        let message = format!("{}\n{{}}\n{}", push(7), push(8));
        for _ in 0..2 {
            heard.read(message.as_bytes(), &script);
            assert_eq!(heard.marks, [Mark { sequence: 3, sent_ns: 30 }; 2]);
            assert_eq!((heard.pings, heard.offset), (1, Some(8)));
        }
        heard.read(b"{}", &script);
        assert_eq!((heard.marks.len(), heard.pings, heard.offset), (0, 1, None));
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let refusal = br#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        let failure = corecast().refusal(refusal).unwrap();
        assert_eq!(failure.fault, Fault::Subscribe);
        assert!(failure.text.contains("permission denied"));
        assert!(corecast().refusal(b"{\"id\":2}").is_none());
    }

    #[test]
    fn a_connection_that_comes_back_tells_where_it_was() {
        let profile = Profile::load("corecast").unwrap();
        let opening = Opening::new(&profile.open, profile.recover.as_ref(), "news");
        let frame = opening.recovery("abcd", 12).unwrap();
        let plain = opening.steps[0].send.clone().unwrap();
        assert!(frame.len() > plain.len());
        let reply = br#"{"id":2,"subscribe":{"epoch":"xyz","offset":41}}"#;
        assert_eq!(corecast().epoch(reply), Some("xyz"));
        assert_eq!(corecast().offset(reply), Some(41));
    }

    #[test]
    fn steps_name_the_channel() {
        let step = Step { wait: Some("{channel} ok".to_owned()), send: None };
        let opening = Opening::new(&[step], None, "news");
        assert_eq!(opening.steps[0].wait.as_deref(), Some(&b"news ok"[..]));
        assert!(opening.recovery("e", 1).is_none());
    }
}
