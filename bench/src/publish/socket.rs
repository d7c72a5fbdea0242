//! Publishing by frames on a WebSocket that subscribes to nothing of interest.

use super::{Line, PublishError};
use crate::target::Target;
use crate::wire::dialect::{Dialect, EMPTY_COMMAND};
use crate::wire::frame::{self, Opcode};
use crate::wire::upgrade;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

/// A WebSocket of the publisher's own.
pub(crate) struct SocketPublisher {
    line: Line,
    dialect: Dialect,
    channel: String,
    /// Id of the last command sent; the next reply awaited is for `confirmed + 1`.
    sent: u64,
    confirmed: u64,
}

impl SocketPublisher {
    pub(super) fn open(target: &Target, timeout: Duration) -> Result<Self, PublishError> {
        let mut own = target.clone();
        if own.dialect == Dialect::Plain {
            // It must name some channel, and would only have to throw away what comes in its own.
            own.path = format!("/ws?channels={0}-publisher&publish={0}", own.channel);
        }
        let mut line = Line::open(own.address, timeout)?;
        line.stream.write_all(&upgrade::request(&own))?;
        line.read_until(|bytes| match upgrade::check(bytes) {
            Ok(head_bytes) => Ok(head_bytes.map(|used| ((), used))),
            Err(failure) => Err(PublishError::Refused(failure.text)),
        })?;
        let Target { dialect, channel, .. } = own;
        let mut publisher = Self { line, dialect, channel, sent: 0, confirmed: 0 };
        if dialect == Dialect::Centrifugo {
            publisher.command(&json!({"id": 1, "connect": {}}).to_string())?;
            publisher.confirm()?;
        }
        Ok(publisher)
    }

    pub(super) fn send(&mut self, data: &str) -> Result<(), PublishError> {
        if self.dialect == Dialect::Centrifugo {
            let (id, channel) = (self.sent + 1, Value::from(self.channel.as_str()));
            let publish = format!("{{\"channel\":{channel},\"data\":{data}}}");
            return self.command(&format!("{{\"id\":{id},\"publish\":{publish}}}"));
        }
        self.command(data)
    }

    /// Waits for the reply where the dialect has one; elsewhere takes only what is there already.
    pub(super) fn confirm(&mut self) -> Result<(), PublishError> {
        if self.dialect != Dialect::Centrifugo {
            self.confirmed += 1;
            return self.drain();
        }
        let awaited = self.confirmed + 1;
        while self.confirmed < awaited {
            let (opcode, payload) = self.line.read_until(next_frame)?;
            self.take(opcode, &payload)?;
        }
        Ok(())
    }

    /// Reads without waiting, so that pings are answered and a close is noticed.
    fn drain(&mut self) -> Result<(), PublishError> {
        self.line.stream.set_nonblocking(true)?;
        let filled = self.line.fill();
        self.line.stream.set_nonblocking(false)?;
        match filled {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            Err(_) | Ok(()) => {}
        }
        while let Some(((opcode, payload), used)) = next_frame(&self.line.bytes)? {
            self.line.bytes.drain(..used);
            self.take(opcode, &payload)?;
        }
        Ok(())
    }

    fn take(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), PublishError> {
        match opcode {
            Opcode::Ping => {
                self.line.stream.write_all(&frame::encode(Opcode::Pong, payload))?;
            }
            Opcode::Close => return Err(PublishError::Refused(frame::close_text(payload))),
            Opcode::Text | Opcode::Binary if self.dialect == Dialect::Centrifugo => {
                for line in payload.split(|byte| *byte == b'\n') {
                    self.take_reply(line)?;
                }
            }
            Opcode::Text | Opcode::Binary | Opcode::Pong => {}
        }
        Ok(())
    }

    fn take_reply(&mut self, line: &[u8]) -> Result<(), PublishError> {
        if line == EMPTY_COMMAND {
            let pong = frame::encode(Opcode::Text, EMPTY_COMMAND);
            return Ok(self.line.stream.write_all(&pong)?);
        }
        let reply = serde_json::from_slice::<Value>(line).unwrap_or_default();
        if let Some(error) = reply.get("error") {
            return Err(PublishError::Refused(error.to_string()));
        }
        if reply.get("id").is_some() {
            self.confirmed += 1;
        }
        Ok(())
    }

    fn command(&mut self, text: &str) -> Result<(), PublishError> {
        self.sent += 1;
        Ok(self.line.stream.write_all(&frame::encode(Opcode::Text, text.as_bytes()))?)
    }
}

/// A whole frame at the start of `bytes`, and its length.
#[expect(clippy::type_complexity, reason = "a pair in the shape that `read_until` takes")]
fn next_frame(bytes: &[u8]) -> Result<Option<((Opcode, Vec<u8>), usize)>, PublishError> {
    match frame::next(bytes) {
        Ok(Some(frame)) => Ok(Some(((frame.opcode, frame.payload.to_vec()), frame.used))),
        Ok(None) => Ok(None),
        Err(violation) => Err(PublishError::Refused(violation.to_string())),
    }
}
