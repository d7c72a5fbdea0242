//! What a server of each kind expects after the upgrade, and how its messages read.

use crate::failure::{Failure, Fault};
use crate::wire::mark::{self, Mark};
use serde_json::{Value, json};

/// Command ids of the opening message. A reply bears the id of its command.
const CONNECT_ID: u64 = 1;
const SUBSCRIBE_ID: u64 = 2;

/// A ping of the Centrifugo protocol, and its answer.
pub(crate) const EMPTY_COMMAND: &[u8] = b"{}";

/// What is spoken inside the WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Centrifugo's client protocol in JSON: connect and subscribe, then pushes and pings.
    Centrifugo,
    /// Plain WebSocket: the request subscribed already, frames are payloads.
    Plain,
    /// Anything else that upgrades: frames come unasked.
    Bare,
}

impl Dialect {
    /// The dialect served at a path (without its query).
    pub(crate) fn of_path(path: &str) -> Self {
        match path {
            "/connection/websocket" => Self::Centrifugo,
            "/ws" => Self::Plain,
            _ => Self::Bare,
        }
    }

    /// What to send once upgraded, if the subscription is asked for in a message. One message for
    /// both commands: SDKs do the same.
    pub(crate) fn opening(self, channel: &str) -> Option<String> {
        (self == Self::Centrifugo).then(|| {
            let connect = json!({"id": CONNECT_ID, "connect": {}});
            let subscribe = json!({"id": SUBSCRIBE_ID, "subscribe": {"channel": channel}});
            format!("{connect}\n{subscribe}")
        })
    }
}

/// What one message said. Kept between messages: everyone gets the same bytes in a broadcast, so
/// most messages equal the one before and need not be read again.
pub(crate) struct Heard {
    dialect: Dialect,
    message: Vec<u8>,
    /// Publications, in order.
    pub(crate) marks: Vec<Mark>,
    /// Pings of the dialect (not WebSocket's) that want an answer.
    pub(crate) pings: u32,
    /// The subscription stands.
    pub(crate) subscribed: bool,
    /// The server wants its pings answered; it said so when the client connected.
    answers_pings: bool,
}

impl Heard {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            message: Vec::new(),
            marks: Vec::new(),
            pings: 0,
            subscribed: false,
            answers_pings: false,
        }
    }

    /// Reads `message`. Fails if it refuses connection or subscription.
    pub(crate) fn read(&mut self, message: &[u8]) -> Result<(), Failure> {
        if message == self.message {
            return Ok(());
        }
        self.marks.clear();
        self.pings = 0;
        self.subscribed = false;
        self.message.clear();
        if self.dialect == Dialect::Centrifugo {
            for line in message.split(|byte| *byte == b'\n') {
                self.read_line(line)?;
            }
        } else {
            mark::find(message, &mut self.marks);
        }
        self.message.extend_from_slice(message);
        Ok(())
    }

    fn read_line(&mut self, line: &[u8]) -> Result<(), Failure> {
        if line == EMPTY_COMMAND {
            self.pings += u32::from(self.answers_pings);
            return Ok(());
        }
        let found = self.marks.len();
        mark::find(line, &mut self.marks);
        if self.marks.len() > found {
            return Ok(());
        }
        let Ok(reply) = serde_json::from_slice::<Value>(line) else {
            let text = format!("not JSON: {}", String::from_utf8_lossy(line));
            return Err(Failure::new(Fault::Protocol, text));
        };
        let id = reply.get("id").and_then(Value::as_u64).unwrap_or(0);
        if let Some(error) = reply.get("error").filter(|_| id <= SUBSCRIBE_ID) {
            return Err(Failure::new(Fault::Subscribe, error.to_string()));
        }
        if let Some(connect) = reply.get("connect") {
            self.answers_pings = connect.get("pong").and_then(Value::as_bool) == Some(true);
        }
        self.subscribed |= id == SUBSCRIBE_ID && reply.get("subscribe").is_some();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTED: &str =
        r#"{"id":1,"connect":{"client":"c","version":"x","ping":25,"pong":true}}"#;

    #[test]
    fn the_path_decides() {
        assert_eq!(Dialect::of_path("/connection/websocket"), Dialect::Centrifugo);
        assert_eq!(Dialect::of_path("/ws"), Dialect::Plain);
        assert_eq!(Dialect::of_path("/echo"), Dialect::Bare);
        assert_eq!(Dialect::Plain.opening("a"), None);
    }

    #[test]
    fn a_subscription_stands_with_its_own_reply_only() {
        let mut heard = Heard::new(Dialect::Centrifugo);
        heard.read(CONNECTED.as_bytes()).unwrap();
        assert!(!heard.subscribed);
        heard.read(br#"{"id":2,"subscribe":{}}"#).unwrap();
        assert!(heard.subscribed);
        let mut heard = Heard::new(Dialect::Centrifugo);
        heard.read(format!("{CONNECTED}\n{{\"id\":2,\"subscribe\":{{}}}}").as_bytes()).unwrap();
        assert!(heard.subscribed);
    }

    #[test]
    fn a_refusal_fails_with_the_servers_words() {
        let mut heard = Heard::new(Dialect::Centrifugo);
        let refusal = br#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        let failure = heard.read(refusal).unwrap_err();
        assert_eq!(failure.fault, Fault::Subscribe);
        assert!(failure.text.contains("permission denied"));
        assert_eq!(heard.read(b"{").unwrap_err().fault, Fault::Protocol);
    }

    #[test]
    fn pings_count_only_where_answers_are_wanted_and_each_time() {
        let mut heard = Heard::new(Dialect::Centrifugo);
        heard.read(b"{}").unwrap();
        assert_eq!(heard.pings, 0);
        heard.read(CONNECTED.as_bytes()).unwrap();
        for _ in 0..2 {
            heard.read(b"{}").unwrap();
            assert_eq!(heard.pings, 1);
        }
    }

    #[test]
    fn publications_are_read_in_every_dialect() {
        let data = Mark { sequence: 3, sent_ns: 30 }.payload(64);
        let push = format!("{{\"push\":{{\"channel\":\"c\",\"pub\":{{\"data\":{data}}}}}}}");
        for (dialect, message) in [
            (Dialect::Centrifugo, push.as_str()),
            (Dialect::Plain, data.as_str()),
            (Dialect::Bare, data.as_str()),
        ] {
            let mut heard = Heard::new(dialect);
            for _ in 0..2 {
                heard.read(message.as_bytes()).unwrap();
                assert_eq!(heard.marks, [Mark { sequence: 3, sent_ns: 30 }]);
            }
        }
    }
}
