//! Asks where channels stand that this node has not read about, many in one call.

use std::collections::{BTreeMap, VecDeque};

use super::{EntryId, Keys, Reply, channel_epoch};
use crate::channel::ChannelName;
use crate::ids::{Moment, Position};
use crate::limits::{BUS_CHANNEL_TTL, BUS_LOCATE_CHANNELS_MAX, BUS_LOCATES_MAX};

/// A question about channels of one stream.
#[derive(Clone, Debug)]
pub struct Tops {
    /// Which stream.
    pub stream: usize,
    /// Which channels.
    pub channels: Vec<ChannelName>,
}

/// Where channels of a stream stood when its last entry was `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The stream's last entry.
    pub at: EntryId,
    /// The channels' positions, in the order of the question.
    pub positions: Vec<Position>,
}

impl Tops {
    /// Keys and arguments of the script.
    pub fn keys_and_args(&self, keys: &Keys) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut names = vec![keys.meta(self.stream)];
        names.extend(self.channels.iter().map(|name| keys.channel(self.stream, name.as_str())));
        (names, vec![BUS_CHANNEL_TTL.as_millis().to_string().into_bytes()])
    }

    /// What the script's answer says. Absent if it is not one.
    pub fn answer(&self, reply: &Reply) -> Option<Stand> {
        let [epoch, number, channels @ ..] = reply.list()? else { return None };
        let at = EntryId { epoch: epoch.number()?, number: number.number()? };
        let position = |channel: &Reply| {
            let (incarnation, offset) = channel.text()?.split_once(':')?;
            let epoch = channel_epoch(at.epoch, incarnation.parse().ok()?);
            Some(Position { epoch, offset: offset.parse().ok()? })
        };
        let positions: Option<Vec<Position>> = channels.iter().map(position).collect();
        let positions = positions.filter(|found| found.len() == self.channels.len())?;
        Some(Stand { at, positions })
    }
}

/// The questions about one stream.
#[derive(Debug, Default)]
pub(super) struct Locator {
    /// Channels to ask for, with the moment at which that was wanted.
    wanted: BTreeMap<ChannelName, Moment>,
    /// Asked and not answered.
    asked: Vec<(ChannelName, Moment)>,
    /// Answered, for when the stream has been read so far.
    held: VecDeque<(EntryId, Vec<(ChannelName, Position)>)>,
}

impl Locator {
    /// Wants to know where `channel` stands. Not if too many are wanted.
    pub(super) fn want(&mut self, now: Moment, channel: ChannelName) -> bool {
        if self.wanted.len() >= BUS_LOCATES_MAX {
            return false;
        }
        self.wanted.entry(channel).or_insert(now);
        true
    }

    /// Whether there is something to ask, and nothing has been asked.
    pub(super) fn is_ready(&self) -> bool {
        self.asked.is_empty() && !self.wanted.is_empty()
    }

    /// The next question.
    pub(super) fn ask(&mut self, stream: usize) -> Tops {
        while self.asked.len() < BUS_LOCATE_CHANNELS_MAX
            && let Some(next) = self.wanted.pop_first()
        {
            self.asked.push(next);
        }
        Tops { stream, channels: self.asked.iter().map(|(name, _)| name.clone()).collect() }
    }

    /// The answer is here, or none will come.
    pub(super) fn on_answer(&mut self, stand: Option<Stand>) {
        let asked = std::mem::take(&mut self.asked);
        match stand {
            Some(stand) => {
                let names = asked.into_iter().map(|(name, _)| name);
                self.held.push_back((stand.at, names.zip(stand.positions).collect()));
            }
            None => self.wanted.extend(asked),
        }
    }

    /// What is known now that the stream has been read up to `at`: answers given at its later
    /// numbers wait, for what lies between them is still to be read.
    pub(super) fn known(&mut self, now: Moment, at: EntryId) -> Vec<(ChannelName, Position)> {
        let mut known = Vec::new();
        while let Some((until, _)) = self.held.front() {
            if *until > at {
                break;
            }
            let Some((until, channels)) = self.held.pop_front() else { break };
            if until.epoch == at.epoch {
                known.extend(channels);
            } else {
                // Positions of an epoch that has ended.
                self.wanted.extend(channels.into_iter().map(|(name, _)| (name, now)));
            }
        }
        known
    }

    /// Those that have been wanted for longer than `patience`; they are wanted no more.
    pub(super) fn expire(&mut self, is_over: impl Fn(Moment) -> bool) -> Vec<ChannelName> {
        let over: Vec<ChannelName> = self
            .wanted
            .iter()
            .filter(|(_, since)| is_over(**since))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &over {
            self.wanted.remove(name);
        }
        over
    }
}
