//! What is read: from entries of the streams to home shards, and what is missing of them.

use super::Engine;
use crate::bus::call::Fenced;
use crate::bus::cursor::{Look, Step};
use crate::bus::{Entry, Item};
use crate::ids::Moment;
use crate::mesh::{Asker, ToHome};

/// Why a stream does not go on from where it was read.
#[derive(Clone, Copy)]
enum Break {
    /// An entry is missing.
    Hole,
    /// A new epoch begins.
    Epoch,
}

impl Engine {
    /// The server that the reader or the writer asks has said where a stream stands.
    pub fn on_fenced(&mut self, stream: usize, fenced: &Fenced) {
        let state = &mut self.streams[stream];
        match state.cursor.on_fenced(fenced.id, fenced.before) {
            Step::Epoch if crate::sabotage!(SkippedFence) => {}
            Step::Epoch => {
                self.adrift(stream, Break::Epoch);
                self.tell_known(stream);
            }
            Step::Regressed => state.unfenced = true,
            Step::Next | Step::Old | Step::Hole => self.tell_known(stream),
        }
    }

    /// Entries of `stream`, in the order in which they stand in it.
    pub fn on_entries(&mut self, now: Moment, stream: usize, entries: &[Entry]) {
        for entry in entries {
            match self.streams[stream].cursor.on_entry(entry.id) {
                Step::Old | Step::Regressed => continue,
                Step::Next => {}
                Step::Hole => self.adrift(stream, Break::Hole),
                Step::Epoch => self.adrift(stream, Break::Epoch),
            }
            self.counters.entries.add(1);
            match entry.items(&self.options.settings.channel.namespaces, now) {
                Ok(items) => items.into_iter().for_each(|item| self.deliver(item)),
                Err(_) => {
                    self.counters.malformed.add(1);
                    self.adrift(stream, Break::Hole);
                }
            }
        }
        if self.streams[stream].cursor.turn() {
            self.adrift(stream, Break::Epoch);
        }
        self.tell_known(stream);
    }

    /// Meta was looked at, a while after entries of `stream` were last read. Returns false if the
    /// stream is behind what was read: the reader may be asking the wrong server.
    pub fn on_tail(&mut self, now: Moment, stream: usize, look: Look) -> bool {
        let state = &mut self.streams[stream];
        let end = look.tail.0.unwrap_or_default();
        state.absent = state.unread.is_absent(look.asked, end);
        state.unread.note(now, end, state.cursor.at());
        let step = state.cursor.on_tail(now, look.tail);
        match step {
            Step::Regressed => state.unfenced = true,
            Step::Hole => self.adrift(stream, Break::Hole),
            Step::Epoch => self.adrift(stream, Break::Epoch),
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
                lane.push(ToHome::HistoryRemove { channel, asker: Asker::Nobody });
            }
        }
    }

    /// Tells every home shard that channels of `stream` may have missed something.
    fn adrift(&mut self, stream: usize, broken: Break) {
        let counter = match broken {
            Break::Hole => &self.counters.holes,
            Break::Epoch => &self.counters.epoch_changes,
        };
        counter.add(1);
        let state = &mut self.streams[stream];
        state.locator.on_adrift(state.cursor.at());
        state.unread.on_epoch(state.cursor.at().epoch);
        let streams = self.options.settings.redis.streams;
        for lane in self.outbound.shards() {
            lane.push(ToHome::Adrift { stream, streams });
        }
    }
}
