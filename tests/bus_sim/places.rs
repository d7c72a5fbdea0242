//! The places of channels, as Redis stores them: two hashes, one for channels with publications in
//! this generation, and one for those of the previous generation.

use std::collections::BTreeMap;

use corecast::limits::BUS_CHANNEL_TTL;
use corecast::sabotage;

/// A hash: the generation in its field without a name, and incarnation and offset of channels.
#[derive(Clone)]
struct Hash {
    generation: u64,
    channels: BTreeMap<String, (u64, u64)>,
}

/// Both hashes, if they exist.
#[derive(Clone, Default)]
pub struct Places {
    places: Option<Hash>,
    silent: Option<Hash>,
}

/// The number of fields of each hash, as stored in `meta`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    places: usize,
    silent: usize,
}

fn fields(hash: Option<&Hash>) -> usize {
    hash.map_or(0, |hash| hash.channels.len() + 1)
}

impl Places {
    pub fn counts(&self) -> Counts {
        Counts { places: fields(self.places.as_ref()), silent: fields(self.silent.as_ref()) }
    }

    /// Whether fields were lost since `meta` was written.
    pub fn are_lost(&self, counts: Counts) -> bool {
        self.counts() != counts && !sabotage!(LostPlace)
    }

    /// Does what `fence.lua` does at the start of an epoch.
    pub fn begin(&mut self) {
        let all = [&self.places, &self.silent].into_iter().flatten();
        let generation = all.map(|hash| hash.generation).max().unwrap_or(0) + 1;
        let none = Hash { generation, channels: BTreeMap::new() };
        self.places.get_or_insert(none).generation = generation;
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let hash = |hash: &Option<Hash>| hash.as_ref()?.channels.get(name).copied();
        hash(&self.places).or_else(|| hash(&self.silent))
    }

    fn generation(&self) -> u64 {
        self.places.as_ref().map_or(0, |hash| hash.generation)
    }

    /// Returns the place that the next append finds for a channel.
    pub fn place(&self, name: &str) -> (u64, u64) {
        self.find(name).unwrap_or((self.generation(), 0))
    }

    /// Returns the place that `tops.lua` returns for a channel.
    pub fn foretold(&self, name: &str) -> (u64, u64) {
        let wrong = u64::from(sabotage!(FalseForetelling));
        self.find(name).unwrap_or((self.generation() + wrong, 0))
    }

    /// Returns incarnation and offset of a channel, if they are stored.
    pub fn kept(&self, name: &str) -> Option<(u64, u64)> {
        self.find(name)
    }

    /// Whether an append finds a channel directly, and need not check whether places are lost.
    pub fn is_at_hand(&self, name: &str) -> bool {
        self.places.as_ref().is_some_and(|hash| hash.channels.contains_key(name))
    }

    pub fn set(&mut self, name: &str, place: (u64, u64), counts: &mut Counts) {
        let silent = self.silent.as_mut().and_then(|silent| silent.channels.remove(name));
        counts.silent -= usize::from(silent.is_some());
        // The hash was lost, and no script has noticed it yet.
        let none = Hash { generation: 0, channels: BTreeMap::new() };
        let hash = self.places.get_or_insert(none);
        let before = hash.channels.insert(name.to_owned(), place);
        counts.places += usize::from(before.is_none());
    }

    /// Starts a new generation if it is due. Returns the start of the present one.
    pub fn turn(&mut self, now_ms: u64, began_ms: u64, counts: &mut Counts) -> u64 {
        if now_ms >= began_ms && now_ms - began_ms < BUS_CHANNEL_TTL.as_millis() as u64 {
            return began_ms;
        }
        if now_ms < began_ms {
            return now_ms;
        }
        if self.places.is_none() {
            return began_ms;
        }
        let forgets = counts.silent > 1 && !sabotage!(ReusedGeneration);
        let generation = self.generation() + u64::from(forgets);
        let none = Hash { generation, channels: BTreeMap::new() };
        self.silent = self.places.replace(none);
        *counts = Counts { places: 1, silent: counts.places };
        now_ms
    }
}

/// Faults.
impl Places {
    /// `HDEL` of a channel.
    pub fn lose(&mut self, name: &str) {
        for hash in [&mut self.places, &mut self.silent].into_iter().flatten() {
            hash.channels.remove(name);
        }
    }

    /// `DEL` of one or both of the hashes, as eviction does it.
    pub fn lose_hashes(&mut self, places: bool, silent: bool) {
        self.places.take_if(|_| places);
        self.silent.take_if(|_| silent);
    }

    /// `HSET` of an offset that the channel had before. Returns false if it had none.
    pub fn set_back(&mut self, name: &str, by: u64) -> bool {
        let all = [&mut self.places, &mut self.silent].into_iter().flatten();
        let found = all.filter_map(|hash| hash.channels.get_mut(name)).next();
        found.is_some_and(|(_, offset)| {
            let before = *offset;
            *offset = before.saturating_sub(by);
            *offset < before
        })
    }
}
