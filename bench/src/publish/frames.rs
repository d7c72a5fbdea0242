//! Publishing by messages on separate WebSockets of the publisher.

use super::line::Line;
use crate::error::{AddressError, PublishError};
use crate::profile::{Profile, PublishFrame};
use crate::target::Target;
use crate::wire::frame::{self, Opcode};
use crate::wire::script::{self, Script};
use crate::wire::upgrade;
use memchr::memmem;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Id of the first publication. Smaller ids are for the opening.
pub(super) const ID_FIRST: u64 = 10;

/// The messages for a server, complete except for the data.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    /// How a publisher connects, for each channel.
    target: Target,
    /// The message for each channel.
    messages: Vec<String>,
    confirm: Option<String>,
}

impl Frames {
    pub(super) fn new(
        profile: &Profile,
        publish: &PublishFrame,
        target: &Target,
        url: &str,
    ) -> Result<Self, AddressError> {
        let channels = target.entries.iter().map(|entry| entry.channel.clone());
        let channels = channels.collect::<Vec<_>>();
        let open = publish.open.clone().unwrap_or_else(|| profile.open.clone());
        let own = Profile { open, recover: None, ..profile.clone() };
        let message = |channel: &String| script::fill_channel(&publish.send, channel);
        Ok(Self {
            target: Target::new(&own, url, &channels)?,
            messages: channels.iter().map(message).collect(),
            confirm: publish.confirm.clone(),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.target.address
    }

    /// Whether the server confirms publications.
    pub(super) fn confirms(&self) -> bool {
        self.confirm.is_some()
    }

    /// Upgrades a line and takes the steps after the upgrade.
    pub(super) fn open(&self, index: usize, line: &mut Line) -> Result<(), PublishError> {
        let entry = &self.target.entries[index % self.target.entries.len()];
        line.send(&entry.request)?;
        line.read_until(|bytes| match upgrade::check(bytes) {
            Ok(head_bytes) => Ok(head_bytes.map(|used| ((), used))),
            Err(failure) => Err(PublishError::Refused(failure.text)),
        })?;
        for step in &entry.opening.steps {
            while let Some(awaited) = &step.wait {
                let (opcode, payload) = line.read_until(next_frame)?;
                let lines = self.lines(line, opcode, &payload)?;
                if lines.iter().any(|text| memmem::find(text, awaited).is_some()) {
                    break;
                }
            }
            if let Some(frame) = &step.send {
                line.send(frame)?;
            }
        }
        Ok(())
    }

    /// Returns the message that publishes `data` to a channel.
    pub(super) fn message(&self, channel: usize, id: u64, data: &str) -> Vec<u8> {
        let text = self.messages[channel].replace("{id}", &id.to_string());
        script::text_frame(&text.replace("{data}", data))
    }

    /// Handles received messages of a line: answers pings, and removes confirmed publications.
    pub(super) fn take(
        &self,
        line: &mut Line,
        awaited: &mut VecDeque<u64>,
    ) -> Result<(), PublishError> {
        while let Some(((opcode, payload), used)) = next_frame(&line.bytes)? {
            line.bytes.drain(..used);
            for text in self.lines(line, opcode, &payload)? {
                let Some(confirm) = &self.confirm else { continue };
                // Usually this is the first one, but servers may confirm in another order.
                let confirms = |id: &u64| {
                    let sought = confirm.replace("{id}", &id.to_string());
                    memmem::find(&text, sought.as_bytes()).is_some()
                };
                if let Some(at) = awaited.iter().position(confirms) {
                    awaited.remove(at);
                }
            }
        }
        Ok(())
    }

    /// Returns the lines of a message that are not pings. A refusal and a close are errors.
    fn lines(
        &self,
        line: &mut Line,
        opcode: Opcode,
        payload: &[u8],
    ) -> Result<Vec<Vec<u8>>, PublishError> {
        let script: &Script = &self.target.script;
        match opcode {
            Opcode::Ping => line.send(&frame::encode(Opcode::Pong, payload))?,
            Opcode::Pong => {}
            Opcode::Close => return Err(PublishError::Refused(frame::close_text(payload))),
            Opcode::Text | Opcode::Binary => {
                let mut lines = Vec::new();
                for text in payload.split(|byte| *byte == b'\n') {
                    if let Some(failure) = script.refusal(text) {
                        return Err(PublishError::Refused(failure.text));
                    }
                    match &script.pong {
                        Some(pong) if script.is_ping(text) => line.send(pong)?,
                        _ => lines.push(text.to_vec()),
                    }
                }
                return Ok(lines);
            }
        }
        Ok(Vec::new())
    }
}

/// Returns the complete frame at the start of `bytes`, and its length.
#[expect(clippy::type_complexity, reason = "a pair in the shape that `read_until` takes")]
fn next_frame(bytes: &[u8]) -> Result<Option<((Opcode, Vec<u8>), usize)>, PublishError> {
    match frame::next(bytes) {
        Ok(Some(frame)) => Ok(Some(((frame.opcode, frame.payload.to_vec()), frame.used))),
        Ok(None) => Ok(None),
        Err(violation) => Err(PublishError::Refused(violation.to_string())),
    }
}
