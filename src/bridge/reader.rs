//! Follows the streams of the bus, on a connection of its own: a read that waits for news must not
//! stand before anything else.

use std::rc::Rc;

use tokio::time::Instant;

use super::shell::Bus;
use super::standing::Success;
use super::writer::fence;
use crate::bus::{Entry, EntryId, Look, Reply, RunId, Script, Tail};
use crate::limits::{
    BUS_BLOCK, BUS_EPOCH_MAX, BUS_READ_BYTES, BUS_READ_ENTRIES_MAX, BUS_READ_TIMEOUT,
    BUS_TAIL_INTERVAL, BUS_WINDOW_INTERVAL, RETRY_INTERVAL,
};
use crate::redis::{Backoff, Link, LinkError, not_an_answer};
use crate::sys::unix_millis;

/// Connects, follows `streams` until the connection fails, and begins anew: for ever.
pub(super) async fn run(bus: Rc<Bus>, streams: Vec<usize>) {
    let reading = bus.standing.reader();
    let mut reader = Reader { bus: &bus, streams, reading, backoff: Backoff::new() };
    loop {
        let failed = match bus.redis.connect(BUS_READ_TIMEOUT).await {
            Ok(link) => {
                bus.counters.connects.add(1);
                reader.follow(&link).await
            }
            Err(error) => error,
        };
        reader.stop();
        if reader.backoff.is_worth_a_line() {
            let address = bus.redis.address();
            tracing::warn!(redis_address = %address, error = %failed, "could not read the bus");
        }
        reader.backoff.pause().await;
    }
}

/// Follows some of the streams.
struct Reader<'a> {
    bus: &'a Bus,
    streams: Vec<usize>,
    reading: Success<'a>,
    backoff: Backoff,
}

impl Reader<'_> {
    /// Follows the streams until the connection fails; returns why.
    async fn follow(&mut self, link: &Link) -> LinkError {
        // It may lead to another server than the last one.
        if let Err(error) = self.take_over(link).await {
            return error;
        }
        let (mut looked, mut measured) = (Instant::now(), None::<Instant>);
        let mut count = 1;
        loop {
            // A shard that is behind gets time to catch up, or what is read would become gaps.
            self.wait_for_room().await;
            match self.read(link, count).await {
                Ok(entry_bytes) => count = next_count(count, entry_bytes, self.streams.len()),
                Err(error) => return error,
            }
            if self.reading.succeed() {
                // Whoever asks for it now is to see it.
                self.bus.with_engine(|_, _| {});
            }
            if self.backoff.reset() {
                let address = self.bus.redis.address();
                tracing::info!(redis_address = %address, "reading of the bus resumed");
            }
            if looked.elapsed() >= BUS_TAIL_INTERVAL {
                looked = Instant::now();
                if let Err(error) = self.look(link).await {
                    return error;
                }
            }
            if measured.is_none_or(|at| at.elapsed() >= BUS_WINDOW_INTERVAL) {
                measured = Some(Instant::now());
                if let Err(error) = self.measure(link).await {
                    return error;
                }
            }
        }
    }

    /// The connection has failed.
    fn stop(&self) {
        let streams = self.streams.iter();
        self.bus.with_engine(|engine, _| streams.for_each(|&at| engine.on_reader(at, None)));
        if self.reading.fail() {
            self.bus.with_engine(|_, _| {});
        }
    }

    async fn take_over(&self, link: &Link) -> Result<(), LinkError> {
        for &stream in &self.streams {
            let seen = self.bus.engine.borrow().seen(stream);
            let fenced = fence(self.bus, link, stream, seen).await?;
            self.bus.with_engine(|engine, _| {
                engine.on_reader(stream, Some(fenced.run));
                engine.on_fenced(stream, &fenced);
            });
        }
        Ok(())
    }

    /// Reads at most `count` entries of each stream, or waits for one. Returns the average bytes of
    /// an entry, if there was one.
    async fn read(&self, link: &Link, count: usize) -> Result<Option<usize>, LinkError> {
        let mut args: Vec<Vec<u8>> = vec![
            b"COUNT".to_vec(),
            count.to_string().into_bytes(),
            b"BLOCK".to_vec(),
            BUS_BLOCK.as_millis().to_string().into_bytes(),
            b"STREAMS".to_vec(),
        ];
        let names: Vec<Vec<u8>> =
            self.streams.iter().map(|&stream| self.bus.redis.keys().stream(stream)).collect();
        args.extend(names.iter().cloned());
        for &stream in &self.streams {
            let cursor = self.bus.engine.borrow().cursor(stream);
            args.push(cursor.to_string().into_bytes());
        }
        let reply = link.call_blocking("XREAD", &names[0], args).await?;
        self.bus.with_engine(|engine, _| {
            self.streams.iter().for_each(|&at| engine.set_read_lag(at, 0))
        });
        if reply == Reply::Nil {
            return Ok(None);
        }
        let (mut number, mut bytes) = (0, 0);
        for one in reply.list().ok_or_else(|| not_an_answer(&reply))? {
            let Some([name, entries]) = one.list() else { return Err(not_an_answer(one)) };
            let at = names.iter().position(|known| Some(&known[..]) == name.bytes());
            let entries = at.zip(entries.list());
            let (at, entries) = entries.ok_or_else(|| not_an_answer(one))?;
            number += entries.len();
            bytes += self.on_entries(self.streams[at], entries)?;
        }
        Ok(bytes.checked_div(number))
    }

    /// Takes entries; returns how many bytes they had.
    fn on_entries(&self, stream: usize, replies: &[Reply]) -> Result<usize, LinkError> {
        let mut entries = Vec::with_capacity(replies.len());
        for reply in replies {
            match Entry::from_reply(reply) {
                Ok(entry) if entry.id.epoch > BUS_EPOCH_MAX => {
                    // Nothing can follow it: fencing, the first thing on a connection, removes it.
                    let text =
                        format!("stream {stream} has entry {}, which no node wrote", entry.id);
                    return Err(LinkError::Lost(text));
                }
                Ok(entry) => entries.push(entry),
                // Its number is missed when the next one is read.
                Err(error) => self.bus.redis.complain(
                    "a stream of the bus has an entry that no node wrote",
                    &error.to_string(),
                ),
            }
        }
        let lag = entries.last().map_or(0, |last| unix_millis().saturating_sub(last.appended_ms));
        self.bus.with_engine(|engine, now| {
            engine.set_read_lag(stream, lag);
            engine.on_entries(now, stream, &entries);
        });
        Ok(entries.iter().map(|entry| entry.records.len()).sum())
    }

    /// Looks where the streams end, because a loss at their end leaves no hole that a read shows,
    /// and which process is read.
    async fn look(&self, link: &Link) -> Result<(), LinkError> {
        let asked = self.bus.now();
        let names = self.streams.iter().map(|&stream| self.bus.redis.keys().meta(stream)).collect();
        let reply = link.script(Script::Tail, names, Vec::new()).await?;
        let answer = reply.list().and_then(<[Reply]>::split_first);
        let (run, ends) = answer.ok_or_else(|| not_an_answer(&reply))?;
        let run = run.text().and_then(RunId::parse).ok_or_else(|| not_an_answer(&reply))?;
        for (&stream, [epoch, number]) in self.streams.iter().zip(ends.as_chunks::<2>().0) {
            let tail = epoch.number().zip(number.number());
            let tail = Tail(tail.map(|(epoch, number)| EntryId { epoch, number }));
            let is_right = self.bus.with_engine(|engine, now| {
                engine.on_reader(stream, Some(run));
                engine.on_tail(now, stream, Look { asked, tail })
            });
            if !is_right {
                // A primary that others have left behind, or one that has lost its data. Which of
                // them, shows when it is asked anew.
                return Err(LinkError::Lost(
                    "this server has fewer entries than the node has read".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Finds out how far back the streams reach.
    async fn measure(&self, link: &Link) -> Result<(), LinkError> {
        let mut window = None::<u64>;
        for &stream in &self.streams {
            let key = self.bus.redis.keys().stream(stream);
            // An epoch that is over may have left something for those who had not read it.
            let first = self.bus.engine.borrow().cursor(stream).epoch.to_string();
            let args = [first.as_str(), "+", "COUNT", "1"].map(|arg| arg.as_bytes().to_vec());
            let args = std::iter::once(key.clone()).chain(args).collect();
            let reply = link.call("XRANGE", &key, args).await?;
            let first = reply.list().and_then(|list| list.first());
            let Some(Ok(entry)) = first.map(Entry::from_reply) else { continue };
            let seconds = unix_millis().saturating_sub(entry.appended_ms) / 1000;
            window = Some(window.map_or(seconds, |shortest| shortest.min(seconds)));
        }
        self.bus.counters.window_seconds.set(window.unwrap_or(0));
        Ok(())
    }

    /// Waits until the shards have taken what was read: while the window is loaded for as long as
    /// it takes, later for a moment only, or one slow shard would delay all.
    async fn wait_for_room(&self) {
        let mut waits = 0;
        while self.bus.engine.borrow().is_behind() {
            if waits > 0 && self.bus.engine.borrow().is_loaded() {
                return;
            }
            waits += 1;
            tokio::time::sleep(RETRY_INTERVAL / 10).await;
            self.bus.with_engine(|_, _| {});
        }
    }
}

/// How many entries of each stream to ask for next, when `count` were asked for and those that came
/// had this many bytes each: a reply must come within its time-out over a slow link as well.
fn next_count(count: usize, entry_bytes: Option<usize>, streams: usize) -> usize {
    let Some(entry_bytes) = entry_bytes else { return count };
    let fits = BUS_READ_BYTES / (entry_bytes.max(1) * streams);
    fits.min(2 * count).clamp(1, BUS_READ_ENTRIES_MAX)
}
