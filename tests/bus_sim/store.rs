//! The data of the bus on one Redis server, and a model of the scripts, with the same order of
//! checks, reads and writes as in `src/bus/scripts`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use corecast::bus::{
    Append, AppendFailed, Appended, Appending, Durable, Entry, EntryId, Fenced, Offset, Older,
    Once, Probed, Reply, RunId, Stand, Tops,
};
use corecast::ids::Moment;
use corecast::limits::{BUS_OLDER_BYTES_MAX, BUS_PUBLISHER_TTL, IDEMPOTENCY_TTL};
use corecast::mesh::Found;
use corecast::sabotage;

use super::places::{Counts, Places};

/// The fields of `meta` of one stream.
#[derive(Clone)]
struct Meta {
    run: u64,
    epoch: u64,
    number: u64,
    bytes: usize,
    marked: usize,
    counts: Counts,
    /// Start of the generation of places.
    began_ms: u64,
    /// The last entry of the previous epoch.
    was: Option<EntryId>,
    ingested: BTreeMap<Arc<str>, (u64, u64, u32)>,
}

/// A publisher's last batch: its number, and the answer that is repeated.
#[derive(Clone)]
struct Last {
    number: u64,
    epoch: u64,
    entry: u64,
    /// Time at which it expires.
    until: u64,
    bases: String,
    repeats: String,
}

/// Time and record by incarnation and offset.
type History = BTreeMap<(u64, u64), (u64, Arc<[u8]>)>;

/// The keys of one stream.
#[derive(Clone, Default)]
pub struct Stream {
    entries: BTreeMap<EntryId, Arc<Entry>>,
    /// The highest id that the stream has had; absent if there is no stream.
    last: Option<EntryId>,
    meta: Option<Meta>,
    marks: VecDeque<(EntryId, usize)>,
    publishers: BTreeMap<u64, Last>,
    /// Entries that contain a publisher's first batch, with the publisher.
    firsts: BTreeMap<EntryId, u64>,
    /// The places of channels.
    pub places: Places,
    /// Histories of single channels.
    histories: BTreeMap<String, History>,
    /// Positions by channel and key, with their time of expiry.
    keys: BTreeMap<(String, String), (u64, String)>,
}

/// The requests that a server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuses {
    Nothing,
    /// `OOM`: commands that need memory, unless the script has written before.
    Growth,
    /// `MISCONF`, `READONLY`: all writes.
    Writes,
    /// The same, with a message that says that another server may accept writes.
    WritesHere,
}

/// The server that runs a script, and its time.
#[derive(Clone, Copy)]
pub struct Host {
    pub run: u64,
    pub wall_ms: u64,
    pub refuses: Refuses,
    /// Maximum size of a stream in bytes.
    pub bytes_max: usize,
}

impl Host {
    fn refusal(self) -> AppendFailed {
        match self.refuses {
            Refuses::Growth => AppendFailed::Refused("OOM command not allowed".to_owned()),
            Refuses::WritesHere => AppendFailed::WrongServer("READONLY a replica".to_owned()),
            _ => AppendFailed::Refused("MISCONF no space left on device".to_owned()),
        }
    }
}

fn bytes(text: impl std::fmt::Display) -> Reply {
    Reply::Bytes(format!("{text}").into_bytes())
}

/// The effects of an append, before anything is written.
#[derive(Default)]
struct Draft {
    /// Channels in the order in which they get offsets: name, incarnation, offset before, after.
    places: Vec<(String, u64, u64, u64)>,
    records: Vec<u8>,
    count: usize,
    repeats: Vec<String>,
    keys: Vec<((String, String), String)>,
    ingested: Option<(Arc<str>, (u64, u64, u32))>,
    /// Changes of histories.
    kept: Vec<Kept>,
    /// Publications that are not repeats, for the checker: index and place.
    taken: Vec<(usize, Option<(u64, u64)>)>,
}

/// A publication for its channel's own history.
struct Kept {
    channel: String,
    place: Option<(u64, u64)>,
    durable: Durable,
    record: Arc<[u8]>,
}

/// A publication that was appended, for the checker.
pub struct Taken {
    /// Its number in the batch.
    pub index: usize,
    /// Epoch of the stream, incarnation and offset of the channel, if it got one.
    pub place: Option<(u64, u64, u64)>,
}

impl Stream {
    /// `append.lua`.
    ///
    /// # Errors
    /// The errors of the script.
    pub fn append(
        &mut self,
        host: Host,
        append: &Append,
    ) -> Result<(Appended, Vec<Taken>), AppendFailed> {
        self.keys.retain(|_, (until, _)| *until > host.wall_ms);
        self.publishers.retain(|_, last| last.until > host.wall_ms);
        let Some(meta) = self.meta.as_ref().filter(|meta| meta.run == host.run) else {
            return Err(AppendFailed::Fenced);
        };
        let epoch = meta.epoch;
        let before = self.publishers.get(&append.publisher);
        if let Some(last) = before.filter(|last| last.number == append.number) {
            let reply = answer("dup", last);
            // This answer is not valid for another batch with the same number.
            let appended = append.answer(&reply).ok_or(AppendFailed::Lost)?;
            return Ok((appended, Vec::new()));
        }
        if append.epoch != epoch {
            return Err(AppendFailed::Fenced);
        }
        if meta.number < append.seen && !sabotage!(IgnoredSetback) {
            return Err(AppendFailed::Fenced);
        }
        if append.number != before.map_or(0, |last| last.number) + 1 {
            return Err(AppendFailed::OutOfOrder);
        }
        let end = EntryId { epoch, number: meta.number };
        if before.is_none()
            && append.again.is_some_and(|since| self.may_be_there(append, since, end))
        {
            return Err(AppendFailed::OutOfOrder);
        }
        let lost = self.places.are_lost(meta.counts);
        let draft = self.draft(epoch, append);
        if lost && draft.places.iter().any(|(name, ..)| !self.places.is_at_hand(name)) {
            return Err(AppendFailed::Fenced);
        }
        if host.refuses != Refuses::Nothing {
            return Err(host.refusal());
        }
        let taken = draft.taken.iter().map(|&(index, place)| {
            let place = place.map(|(incarnation, offset)| (epoch, incarnation, offset));
            Taken { index, place }
        });
        let taken = taken.collect();
        let last = self.write(host, append, draft);
        let reply = answer("ok", &last);
        self.publishers.insert(append.publisher, last);
        Ok((append.answer(&reply).expect("an answer"), taken))
    }

    /// Whether a repeated first batch may have been taken, as far as the entries after `since`
    /// tell.
    fn may_be_there(&self, append: &Append, since: u64, end: EntryId) -> bool {
        use std::ops::Bound::{Excluded, Unbounded};
        let since = EntryId { number: since, ..end };
        let found = self.entries.range((Excluded(since), Unbounded)).map(|(id, _)| id);
        let found: Vec<&EntryId> = found.take(65).collect();
        let all = found.len() <= 64 && found.len() as u64 == end.number - since.number;
        let there = found.iter().any(|id| self.firsts.get(id) == Some(&append.publisher));
        (!all || there) && !sabotage!(ForgottenPublisher)
    }

    fn draft(&self, epoch: u64, append: &Append) -> Draft {
        let mut draft = Draft::default();
        for (index, one) in append.publications.iter().enumerate() {
            let Appending { channel, offset, once, record, durable } = one;
            let name = channel.as_str().to_owned();
            let (key, ingested) = match once {
                Once::Never => (None, None),
                Once::Key(key) => (Some(key), None),
                Once::Ingested { stream, place, key } => (key.as_ref(), Some((stream, *place))),
            };
            let key = key.map(|key| (name.clone(), key.to_string()));
            let mut first = None;
            if let Some((stream, place)) = ingested {
                let meta = self.meta.as_ref().expect("checked before");
                let before = meta.ingested.get(stream).copied().unwrap_or_default();
                if place <= draft.ingested.as_ref().map_or(before, |(_, last)| *last) {
                    first = Some("-".to_owned());
                } else {
                    draft.ingested = Some((Arc::clone(stream), place));
                }
            }
            if let (None, Some(key)) = (&first, &key) {
                let now = draft.keys.iter().find(|(other, _)| other == key);
                let now = now.map(|(_, place)| place);
                first = now.or(self.keys.get(key).map(|(_, place)| place)).cloned();
            }
            if let Some(first) = first {
                draft.repeats.push(format!("{index}={first}"));
                continue;
            }
            let place = (*offset == Offset::Next).then(|| self.draft_place(&mut draft, &name));
            draft.taken.push((index, place));
            draft.records.extend_from_slice(record);
            let (durable, record) = (*durable, Arc::clone(record));
            draft.kept.push(Kept { channel: name, place, durable, record });
            draft.count += 1;
            if let Some(key) = key {
                let text = place.map_or("-".to_owned(), |(incarnation, offset)| {
                    format!("{epoch}:{incarnation}:{offset}")
                });
                draft.keys.push((key, text));
            }
        }
        draft
    }

    fn draft_place(&self, draft: &mut Draft, name: &str) -> (u64, u64) {
        let at = draft.places.iter().position(|(other, ..)| other == name).unwrap_or_else(|| {
            let (incarnation, offset) = self.places.place(name);
            draft.places.push((name.to_owned(), incarnation, offset, offset));
            draft.places.len() - 1
        });
        let place = &mut draft.places[at];
        place.3 += 1;
        (place.1, place.3)
    }

    fn write(&mut self, host: Host, append: &Append, draft: Draft) -> Last {
        let until = host.wall_ms + IDEMPOTENCY_TTL.as_millis() as u64;
        for (key, place) in draft.keys {
            self.keys.insert(key, (until, place));
        }
        for Kept { channel: name, place, durable, record } in draft.kept {
            match (durable, place) {
                (Durable::Keep { size, .. }, Some(place)) => {
                    let history = self.histories.entry(name).or_default();
                    if history.last_key_value().is_some_and(|(last, _)| *last >= place) {
                        history.clear();
                    }
                    history.insert(place, (host.wall_ms, record));
                    while history.len() > size {
                        history.pop_first();
                    }
                }
                (Durable::Forget, _) => drop(self.histories.remove(&name)),
                (Durable::None | Durable::Keep { .. }, _) => {}
            }
        }
        let starts = draft
            .places
            .iter()
            .map(|(_, incarnation, before, _)| format!("{incarnation}:{before}"));
        let starts: Vec<String> = starts.collect();
        let meta = self.meta.as_mut().expect("checked before");
        for (name, incarnation, _, after) in &draft.places {
            self.places.set(name, (*incarnation, *after), &mut meta.counts);
        }
        if draft.count > 0 {
            meta.began_ms = self.places.turn(host.wall_ms, meta.began_ms, &mut meta.counts);
        }
        if draft.count > 0 {
            meta.number += 1;
            meta.bytes += 128 + draft.records.len();
            let id = EntryId { epoch: meta.epoch, number: meta.number };
            assert!(self.last < Some(id), "XADD takes {id} only above {:?}", self.last);
            self.last = Some(id);
            let bases = starts.join(" ").into_bytes();
            let entry = Entry { id, appended_ms: host.wall_ms, bases, records: draft.records };
            self.entries.insert(id, Arc::new(entry));
            if append.number == 1 {
                self.firsts.insert(id, append.publisher);
            }
            if meta.bytes - meta.marked >= host.bytes_max / 64 {
                meta.marked = meta.bytes;
                self.marks.push_back((id, meta.bytes));
                while let Some(&(until, total)) = self.marks.front() {
                    if meta.bytes - total < host.bytes_max {
                        break;
                    }
                    self.marks.pop_front();
                    let least = EntryId { number: until.number + 1, ..until };
                    self.entries = self.entries.split_off(&least);
                }
            }
        }
        if let Some((stream, place)) = draft.ingested {
            meta.ingested.insert(stream, place);
        }
        let numbers = append.channels();
        let bases = draft.places.iter().map(|(name, incarnation, before, _)| {
            let number = numbers.iter().position(|other| other == name).expect("it is one of them");
            format!("{}={incarnation}:{before}", number + 1)
        });
        let bases = bases.collect::<Vec<_>>().join(" ");
        let (epoch, entry, repeats) = (meta.epoch, meta.number, draft.repeats.join(" "));
        let until = host.wall_ms + BUS_PUBLISHER_TTL.as_millis() as u64;
        Last { number: append.number, epoch, entry, until, bases, repeats }
    }

    /// `fence.lua`. Returns `None` if the server refuses.
    pub fn fence(&mut self, host: Host, seen: EntryId) -> Option<Fenced> {
        let fenced = |id, before| Fenced { id, before, run: RunId::new(host.run) };
        let meta = self.meta.as_ref();
        let end = meta.map(|meta| EntryId { epoch: meta.epoch, number: meta.number });
        let is_behind = end.is_some_and(|end| {
            end < seen && !(sabotage!(IgnoredSetback) && end.epoch == seen.epoch)
        });
        let same = meta.filter(|meta| meta.run == host.run);
        if let Some(meta) = same.filter(|meta| !self.places.are_lost(meta.counts) && !is_behind) {
            return end.map(|end| fenced(end, meta.was));
        }
        let kept = meta.is_some() && !(same.is_some() && is_behind);
        // The first write is DEL, which needs no memory, and commands after a write are accepted.
        if !matches!(host.refuses, Refuses::Nothing | Refuses::Growth) {
            return None;
        }
        let highest = meta.map_or(0, |meta| meta.epoch).max(seen.epoch);
        let highest = highest.max(self.last.map_or(0, |last| last.epoch));
        let epoch = (host.wall_ms * 1024).max(highest) + 1 + host.run % 1024;
        let ingested = meta.map(|meta| meta.ingested.clone()).unwrap_or_default();
        let (run, number) = (host.run, 0);
        let (bytes, marked) = meta.filter(|_| kept).map_or((0, 0), |one| (one.bytes, one.marked));
        let was = self.entries.keys().next_back().copied().filter(|_| kept);
        let began_ms = meta.map_or(host.wall_ms, |meta| meta.began_ms);
        self.places.begin();
        let counts = self.places.counts();
        self.meta =
            Some(Meta { run, epoch, number, bytes, marked, counts, began_ms, was, ingested });
        if !kept {
            self.marks.clear();
            self.entries.clear();
        }
        Some(fenced(EntryId { epoch, number: 0 }, was))
    }

    /// `probe.lua`.
    ///
    /// # Errors
    /// The errors of the script.
    pub fn probe(&self, host: Host) -> Result<Probed, AppendFailed> {
        let meta = self.meta.as_ref().filter(|meta| meta.run == host.run);
        let Some(meta) = meta else { return Err(AppendFailed::Fenced) };
        if host.refuses != Refuses::Nothing {
            return Err(host.refusal());
        }
        let tail = EntryId { epoch: meta.epoch, number: meta.number };
        Ok(Probed { run: RunId::new(host.run), tail, policy: String::new() })
    }

    /// `tops.lua`. Returns `None` if the stream belongs to another process.
    pub fn tops(&self, host: Host, tops: &Tops) -> Option<Stand> {
        let meta = self.meta.as_ref().filter(|meta| meta.run == host.run)?;
        if self.places.are_lost(meta.counts) {
            return None;
        }
        let mut reply = vec![bytes(meta.epoch), bytes(meta.number)];
        for channel in &tops.channels {
            let place = self.places.foretold(channel.as_str());
            reply.push(bytes(format!("{}:{}", place.0, place.1)));
        }
        tops.answer(&Reply::List(reply))
    }
}

impl Stream {
    /// `older.lua`. Returns `None` if the stream belongs to another process.
    pub fn older(&self, host: Host, older: &Older) -> Option<Vec<Found>> {
        let meta = self.meta.as_ref().filter(|meta| meta.run == host.run)?;
        let mut reply = vec![bytes(meta.epoch)];
        let mut left = BUS_OLDER_BYTES_MAX;
        for (channel, namespace, before) in &older.channels {
            let Some((incarnation, _)) = self.places.kept(channel.as_str()) else {
                reply.push(Reply::List(vec![bytes(0), bytes(1)]));
                continue;
            };
            let ttl = namespace.history_ttl.as_millis() as u64;
            let mut found = vec![bytes(incarnation), bytes(0)];
            let none = History::new();
            let history = self.histories.get(channel.as_str()).unwrap_or(&none);
            let before = history.range((incarnation, 1)..(incarnation, *before)).rev();
            let mut complete = left > 0;
            for ((_, offset), (at, record)) in before.take(namespace.history_size) {
                let age = host.wall_ms.saturating_sub(*at);
                if age >= ttl {
                    break;
                }
                if left == 0 {
                    complete = false;
                    break;
                }
                found.extend([bytes(offset), bytes(age), Reply::Bytes(record.to_vec())]);
                left = left.saturating_sub(record.len() + 64);
            }
            found[1] = bytes(u8::from(complete));
            reply.push(Reply::List(found));
        }
        older.answer(Moment::default(), &Reply::List(reply))
    }
}

fn answer(said: &str, last: &Last) -> Reply {
    Reply::List(vec![
        bytes(said),
        bytes(last.epoch),
        bytes(last.entry),
        bytes(&last.bases),
        bytes(&last.repeats),
    ])
}

/// Commands that are not scripts.
impl Stream {
    /// `XREAD`: entries after `cursor`.
    pub fn read(&self, cursor: EntryId, count: usize) -> Vec<Entry> {
        use std::ops::Bound::{Excluded, Unbounded};
        let found = self.entries.range((Excluded(cursor), Unbounded)).take(count);
        found.map(|(_, entry)| Entry::clone(entry)).collect()
    }

    /// Returns epoch and number from `meta`.
    pub fn tail(&self) -> Option<EntryId> {
        self.meta.as_ref().map(|meta| EntryId { epoch: meta.epoch, number: meta.number })
    }

    /// Returns stream epoch, incarnation and offset that the next append will find for a channel.
    pub fn place(&self, channel: &str) -> Option<(u64, u64, u64)> {
        let epoch = self.meta.as_ref()?.epoch;
        let (incarnation, offset) = self.places.place(channel);
        Some((epoch, incarnation, offset))
    }

    /// `XTRIM MAXLEN`.
    pub fn trim(&mut self, keep: usize) {
        while self.entries.len() > keep {
            self.entries.pop_first();
        }
    }

    /// `XDEL` of one entry, counted from the end.
    pub fn delete_entry(&mut self, from_end: usize) {
        let found = self.entries.keys().rev().nth(from_end).copied();
        found.and_then(|id| self.entries.remove(&id));
    }

    /// `DEL` of the stream alone.
    pub fn delete(&mut self) {
        self.entries.clear();
        self.last = None;
    }

    /// `DEL` of the keys of publishers.
    pub fn delete_publishers(&mut self) {
        self.publishers.clear();
    }

    /// `DEL` of meta alone.
    pub fn delete_meta(&mut self) {
        self.meta = None;
    }
}
