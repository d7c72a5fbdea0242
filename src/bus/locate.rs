//! Looks up the positions of channels about which this node has read nothing, many in one call.

use std::collections::{BTreeMap, VecDeque};

use super::arguments::PlacesKeys;
use super::{EntryId, Keys, Reply, channel_epoch};
use crate::channel::ChannelName;
use crate::ids::{Moment, Position};
use crate::limits::{BUS_LOCATE_CHANNELS_MAX, BUS_LOCATES_MAX};

/// A lookup of the positions of channels of one stream.
#[derive(Clone, Debug)]
pub struct Tops {
    /// Index of the stream.
    pub stream: usize,
    /// The channels to look up.
    pub channels: Vec<ChannelName>,
}

/// Positions of channels at the time when the last entry of their stream was `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The stream's last entry.
    pub at: EntryId,
    /// Positions in the order of [`Tops::channels`].
    pub positions: Vec<Position>,
}

impl Tops {
    /// Returns the keys and arguments of the script.
    pub fn keys_and_args(&self, keys: &Keys) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let channels = self.channels.iter().map(|name| name.as_str().as_bytes().to_vec());
        (PlacesKeys::new(keys, self.stream).into_list(), channels.collect())
    }

    /// Parses the script's reply. Returns `None` if it has another form.
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

/// The place of a channel in the queue. An earlier one compares as less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// When the channel was first requested.
    since: Moment,
    /// Its number among all requests.
    number: u64,
}

/// The position of a channel that was looked up.
#[derive(Debug)]
struct FoundPosition {
    channel: ChannelName,
    turn: Turn,
    position: Position,
}

impl FoundPosition {
    /// Discards the position.
    fn into_request(self) -> (ChannelName, Turn) {
        (self.channel, self.turn)
    }
}

/// Channels to look up, each once, in the order in which they were requested.
#[derive(Debug, Default)]
struct Queue {
    queue: BTreeMap<Turn, ChannelName>,
    turns: BTreeMap<ChannelName, Turn>,
}

impl Queue {
    /// Adds a channel. If it is queued already, it keeps the earlier turn. Returns whether it is
    /// new.
    fn add(&mut self, channel: ChannelName, turn: Turn) -> bool {
        let known = self.turns.get(&channel).copied();
        if known.is_some_and(|before| before <= turn) {
            return false;
        }
        known.and_then(|later| self.queue.remove(&later));
        self.queue.insert(turn, channel.clone());
        self.turns.insert(channel, turn);
        known.is_none()
    }

    /// Takes the channel that has waited longest, if `fits` accepts its time.
    fn take_first(&mut self, fits: impl FnOnce(Moment) -> bool) -> Option<(ChannelName, Turn)> {
        let first = self.queue.first_entry().filter(|first| fits(first.key().since))?;
        let (turn, channel) = first.remove_entry();
        self.turns.remove(&channel);
        Some((channel, turn))
    }
}

/// The lookups of positions in one stream.
#[derive(Debug, Default)]
pub(super) struct Locator {
    wanted: Queue,
    /// Channels of the call in progress.
    asked: Vec<(ChannelName, Turn)>,
    /// Positions to report once the stream has been read up to the entry.
    found: VecDeque<(EntryId, Vec<FoundPosition>)>,
    /// Entries up to this one may have been missed, so positions from before it are too old.
    least: EntryId,
    /// Number of channels that are wanted, asked or found.
    count: usize,
    /// Number of requests so far.
    turns: u64,
}

impl Locator {
    /// Queues a lookup of `channel`. Returns false if too many channels wait.
    pub(super) fn want(&mut self, now: Moment, channel: ChannelName) -> bool {
        if self.count >= BUS_LOCATES_MAX {
            return false;
        }
        self.turns += 1;
        self.count +=
            usize::from(self.wanted.add(channel, Turn { since: now, number: self.turns }));
        true
    }

    /// Queues channels again whose lookup failed.
    fn want_again(&mut self, channels: impl IntoIterator<Item = (ChannelName, Turn)>) {
        for (channel, turn) in channels {
            self.count -= usize::from(!self.wanted.add(channel, turn));
        }
    }

    /// Whether channels wait and no call is in progress.
    pub(super) fn is_ready(&self) -> bool {
        self.asked.is_empty() && !self.wanted.queue.is_empty()
    }

    /// Returns the next call.
    pub(super) fn ask(&mut self, stream: usize) -> Tops {
        while self.asked.len() < BUS_LOCATE_CHANNELS_MAX
            && let Some(next) = self.wanted.take_first(|_| true)
        {
            self.asked.push(next);
        }
        Tops { stream, channels: self.asked.iter().map(|(name, _)| name.clone()).collect() }
    }

    /// Handles the reply to the call. `None` if there will be no reply.
    pub(super) fn on_answer(&mut self, stand: Option<Stand>) {
        let asked = std::mem::take(&mut self.asked);
        match stand {
            Some(stand) if stand.at >= self.least => {
                // Positions at later entries are from a server that has been replaced. The stream
                // may never be read that far, and positions behind them in the queue would never be
                // reported.
                while let Some((_, channels)) = self.found.pop_back_if(|(at, _)| *at > stand.at) {
                    self.want_again(channels.into_iter().map(FoundPosition::into_request));
                }
                let asked = asked.into_iter().zip(stand.positions);
                let found = asked.map(|((channel, turn), position)| FoundPosition {
                    channel,
                    turn,
                    position,
                });
                self.found.push_back((stand.at, found.collect()));
            }
            _ => self.want_again(asked),
        }
    }

    /// Discards positions from before `until`, because the node may have missed entries up to
    /// there.
    pub(super) fn discard_before(&mut self, until: EntryId) {
        self.least = until;
        while let Some((_, channels)) = self.found.pop_front_if(|(at, _)| *at < until) {
            self.want_again(channels.into_iter().map(FoundPosition::into_request));
        }
    }

    /// Takes the positions that are certain now that the stream has been read up to `at`. Positions
    /// at later entries wait, because entries in between may belong to their channels.
    pub(super) fn known(&mut self, at: EntryId) -> Vec<(ChannelName, Position)> {
        let mut known = Vec::new();
        while let Some((until, channels)) = self.found.pop_front_if(|(until, _)| *until <= at) {
            for found in channels {
                if until.epoch == at.epoch {
                    known.push((found.channel, found.position));
                } else {
                    // The epoch of this position has ended.
                    self.want_again([found.into_request()]);
                }
            }
        }
        self.count -= known.len();
        known
    }

    /// Removes and returns channels that have waited too long.
    pub(super) fn expire(&mut self, is_over: impl Fn(Moment) -> bool) -> Vec<ChannelName> {
        let wanted = std::iter::from_fn(|| self.wanted.take_first(&is_over));
        let mut over: Vec<ChannelName> = wanted.map(|(name, _)| name).collect();
        for (_, channels) in &mut self.found {
            let expired = channels.extract_if(.., |found| is_over(found.turn.since));
            over.extend(expired.map(|found| found.channel));
        }
        self.found.retain(|(_, channels)| !channels.is_empty());
        self.count -= over.len();
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

    /// Looks up a channel, with the reply at this entry.
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
        assert!(locator.is_ready(), "the other channel is requested again");
        let tops = locator.ask(0);
        assert_eq!(tops.channels.iter().map(ChannelName::as_str).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn nothing_is_left_of_an_answer_for_which_nobody_waits() {
        let mut locator = Locator::default();
        locate(&mut locator, "a", at(9, 1));
        assert_eq!(locator.expire(|_| true).len(), 1);
        assert!(locator.found.is_empty());
        assert_eq!(locator.count, 0);
    }

    #[test]
    fn channels_are_asked_for_in_the_order_in_which_they_were_wanted() {
        let (mut locator, mut now) = (Locator::default(), Moment::default());
        let mut asked = Vec::new();
        assert!(locator.want(now, ChannelName::new("z")));
        // In each turn, more channels are requested than one call may name.
        for turn in 0..4 {
            for number in 0..2 * BUS_LOCATE_CHANNELS_MAX {
                locator.want(now, ChannelName::new(&format!("a{turn}-{number:04}")));
            }
            now = now.after(std::time::Duration::from_millis(1));
            asked.extend(locator.ask(0).channels);
            // The first reply is lost, so its channels come first again.
            let stand = |positions| Stand { at: at(1, 1), positions };
            let positions = vec![Position { epoch: Epoch::new(1), offset: 1 }; 256];
            locator.on_answer((turn > 0).then(|| stand(positions)));
        }
        let names: Vec<&str> = asked.iter().map(ChannelName::as_str).collect();
        assert_eq!([names[0], names[256], names[512]], ["z", "z", "a0-0255"]);
        let first: Vec<String> = (0..511).map(|number| format!("a0-{number:04}")).collect();
        assert_eq!(names[257..768], first);
        assert_eq!(known(&mut locator, at(1, 1)).len(), 3 * 256);
        assert_eq!(locator.count, 1 + 8 * BUS_LOCATE_CHANNELS_MAX - 3 * 256);
    }

    #[test]
    fn no_more_are_wanted_than_the_limit_wherever_they_are() {
        let (mut locator, now) = (Locator::default(), Moment::default());
        locate(&mut locator, "held", at(9, 1));
        let wants = |locator: &mut Locator, number: usize| {
            locator.want(now, ChannelName::new(&format!("c{number}")))
        };
        assert!((1..BUS_LOCATES_MAX).all(|number| wants(&mut locator, number)));
        assert!(!wants(&mut locator, BUS_LOCATES_MAX));
        locator.ask(0);
        assert!(!wants(&mut locator, BUS_LOCATES_MAX), "channels of the call in progress count");
        assert_eq!(known(&mut locator, at(9, 1)), ["held"]);
        assert!(wants(&mut locator, BUS_LOCATES_MAX));
        locator.on_answer(None);
        assert_eq!(locator.expire(|_| true).len(), BUS_LOCATES_MAX);
        assert_eq!(locator.count, 0);
    }
}
