//! The path of entries from the streams to home shards, and the handling of missing entries.

use super::Engine;
use crate::bus::call::Fenced;
use crate::bus::cursor::{Look, Step};
use crate::bus::{Entry, Item};
use crate::ids::Moment;
use crate::mesh::ToHome;

/// Reason why a stream does not continue at the reader's position.
#[derive(Clone, Copy)]
enum Break {
    /// An entry is missing.
    Hole,
    /// A new epoch begins.
    Epoch,
}

impl Engine {
    /// Handles the fence of a stream by the reader's or the writer's server.
    pub fn on_fenced(&mut self, stream: usize, fenced: &Fenced) {
        let state = &mut self.streams[stream];
        match state.cursor.on_fenced(fenced.id, fenced.before) {
            Step::Epoch if crate::sabotage!(SkippedFence) => {}
            Step::Epoch => {
                self.on_missed(stream, Break::Epoch);
                self.tell_known(stream);
            }
            Step::Regressed => state.unfenced = true,
            Step::Next | Step::Old | Step::Hole => self.tell_known(stream),
        }
    }

    /// Handles entries of `stream`, in the order of the stream.
    pub fn on_entries(&mut self, now: Moment, stream: usize, entries: &[Entry]) {
        for entry in entries {
            match self.streams[stream].cursor.on_entry(entry.id) {
                Step::Old | Step::Regressed => continue,
                Step::Next => {}
                // Homes must be told about a break before its entry. A publication that directly
                // follows the last one then proves that its channel has missed nothing.
                Step::Hole => self.on_missed(stream, Break::Hole),
                Step::Epoch => self.on_missed(stream, Break::Epoch),
            }
            self.counters.entries.add(1);
            match entry.items(&self.options.settings.channel.namespaces, now) {
                Ok(items) => items.into_iter().for_each(|item| self.deliver(item)),
                Err(_) => {
                    // The entry counts as read, because the reader would never get past it
                    // otherwise.
                    self.counters.malformed.add(1);
                    self.on_missed(stream, Break::Hole);
                }
            }
        }
        // These may have been the last entries of an epoch that has ended.
        if self.streams[stream].cursor.turn() {
            self.on_missed(stream, Break::Epoch);
        }
        self.tell_known(stream);
    }

    /// Handles a reading of `meta`, made a while after entries of `stream` were last read. Returns
    /// false if the stream ends before the reader's position: the reader may be asking the wrong
    /// server.
    pub fn on_tail(&mut self, now: Moment, stream: usize, look: Look) -> bool {
        let state = &mut self.streams[stream];
        let end = look.tail.0.unwrap_or_default();
        state.absent = state.unread.is_absent(look.asked, end);
        state.unread.note(now, end, state.cursor.at());
        let step = state.cursor.on_tail(now, look.tail);
        match step {
            Step::Regressed => state.unfenced = true,
            Step::Hole => self.on_missed(stream, Break::Hole),
            Step::Epoch => self.on_missed(stream, Break::Epoch),
            Step::Next | Step::Old => {}
        }
        self.tell_known(stream);
        step != Step::Regressed
    }

    fn deliver(&mut self, item: Item) {
        match item {
            Item::Publication { channel, epoch, publication } => {
                self.home_lane(&channel).push_read(&channel, epoch, &publication);
            }
            Item::RemoveHistory { channel } => {
                let lane = self.home_lane(&channel);
                lane.push(ToHome::HistoryRemove { channel, ticket: None });
            }
        }
    }

    /// Handles a break of the order of `stream`: tells every home shard that channels of it may
    /// have missed publications.
    fn on_missed(&mut self, stream: usize, broken: Break) {
        let counter = match broken {
            Break::Hole => &self.counters.holes,
            Break::Epoch => &self.counters.epoch_changes,
        };
        counter.add(1);
        let state = &mut self.streams[stream];
        state.locator.discard_before(state.cursor.at());
        state.unread.on_epoch(state.cursor.at().epoch);
        let streams = self.options.settings.redis.streams;
        for lane in self.outbound.shards() {
            lane.push(ToHome::Unverified { stream, streams });
        }
    }
}
