//! Asks where channels stand that this node has not read about, many in one call.

use std::collections::{BTreeMap, VecDeque};

use super::arguments::PlacesKeys;
use super::{EntryId, Keys, Reply, channel_epoch};
use crate::channel::ChannelName;
use crate::ids::{Moment, Position};
use crate::limits::{BUS_LOCATE_CHANNELS_MAX, BUS_LOCATES_MAX};

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
        let channels = self.channels.iter().map(|name| name.as_str().as_bytes().to_vec());
        (PlacesKeys::new(keys, self.stream).into_list(), channels.collect())
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

/// A channel that was asked for, when that was wanted, and where it stands.
type Held = (ChannelName, Moment, Position);

/// The questions about one stream.
#[derive(Debug, Default)]
pub(super) struct Locator {
    /// Channels to ask for, with the moment at which that was wanted.
    wanted: BTreeMap<ChannelName, Moment>,
    /// Asked and not answered.
    asked: Vec<(ChannelName, Moment)>,
    /// Answered, for when the stream has been read so far.
    held: VecDeque<(EntryId, Vec<Held>)>,
    /// Entries up to here may not have been read: what was answered before tells too little.
    least: EntryId,
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
            Some(stand) if stand.at >= self.least => {
                // Answers that were given at later entries are from a server that is gone. The
                // stream may never be read so far, and whoever waits behind them would wait for it.
                while let Some((_, channels)) = self.held.pop_back_if(|(at, _)| *at > stand.at) {
                    self.wanted.extend(channels.into_iter().map(|(name, since, _)| (name, since)));
                }
                let asked = asked.into_iter().zip(stand.positions);
                let held = asked.map(|((name, since), position)| (name, since, position));
                self.held.push_back((stand.at, held.collect()));
            }
            _ => self.wanted.extend(asked),
        }
    }

    /// Something up to `until` may have been missed.
    pub(super) fn on_adrift(&mut self, until: EntryId) {
        self.least = until;
        while let Some((_, channels)) = self.held.pop_front_if(|(at, _)| *at < until) {
            self.wanted.extend(channels.into_iter().map(|(name, since, _)| (name, since)));
        }
    }

    /// What is known now that the stream has been read up to `at`: answers given at its later
    /// numbers wait, for what lies between them is still to be read.
    pub(super) fn known(&mut self, at: EntryId) -> Vec<(ChannelName, Position)> {
        let mut known = Vec::new();
        while let Some((until, channels)) = self.held.pop_front_if(|(until, _)| *until <= at) {
            for (name, since, position) in channels {
                if until.epoch == at.epoch {
                    known.push((name, position));
                } else {
                    // A position of an epoch that has ended.
                    self.wanted.insert(name, since);
                }
            }
        }
        known
    }

    /// Those that have been wanted for too long; they are wanted no more.
    pub(super) fn expire(&mut self, is_over: impl Fn(Moment) -> bool) -> Vec<ChannelName> {
        let wanted = self.wanted.extract_if(.., |_, since| is_over(*since));
        let mut over: Vec<ChannelName> = wanted.map(|(name, _)| name).collect();
        for (_, channels) in &mut self.held {
            let held = channels.extract_if(.., |(_, since, _)| is_over(*since));
            over.extend(held.map(|(name, ..)| name));
        }
        self.held.retain(|(_, channels)| !channels.is_empty());
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    fn at(epoch: u64, number: u64) -> EntryId {
        EntryId { epoch, number }
    }

    /// Asks for a channel, and is answered at this entry.
    fn locate(locator: &mut Locator, name: &str, at: EntryId) {
        assert!(locator.want(Moment::default(), ChannelName::new(name)));
        let positions = |tops: Tops| {
            let position = Position { epoch: Epoch::new(at.epoch), offset: 1 };
            tops.channels.iter().map(|_| position).collect()
        };
        let positions = positions(locator.ask(0));
        locator.on_answer(Some(Stand { at, positions }));
    }

    fn known(locator: &mut Locator, at: EntryId) -> Vec<String> {
        locator.known(at).iter().map(|(name, _)| name.as_str().to_owned()).collect()
    }

    #[test]
    fn an_answer_of_a_server_that_is_gone_holds_up_no_other() {
        let mut locator = Locator::default();
        locate(&mut locator, "a", at(9, 1));
        locate(&mut locator, "b", at(7, 3));
        assert!(known(&mut locator, at(7, 2)).is_empty(), "there is an entry to read before");
        assert_eq!(known(&mut locator, at(7, 3)), ["b"]);
        assert!(locator.is_ready(), "the other one is asked for again");
        let tops = locator.ask(0);
        assert_eq!(tops.channels.iter().map(ChannelName::as_str).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn nothing_is_left_of_an_answer_for_which_nobody_waits() {
        let mut locator = Locator::default();
        locate(&mut locator, "a", at(9, 1));
        assert_eq!(locator.expire(|_| true).len(), 1);
        assert!(locator.held.is_empty());
    }
}
