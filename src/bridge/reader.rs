//! Follows the streams of the bus on its own connection, because a read that waits for new entries
//! would delay all other commands.

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

/// Connects, follows `streams` until the connection fails, and starts over. Never returns.
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

/// Follows some of the streams, over all its connections.
struct Reader<'a> {
    bus: &'a Bus,
    streams: Vec<usize>,
    reading: Success<'a>,
    backoff: Backoff,
}

impl Reader<'_> {
    /// Follows the streams until the connection fails. Returns the reason.
    async fn follow(&mut self, link: &Link) -> LinkError {
        // This connection may lead to another server than the last one.
        if let Err(error) = self.take_over(link).await {
            return error;
        }
        let (mut looked, mut measured) = (Instant::now(), Instant::now());
        // The streams are measured in turn, because nothing is read meanwhile.
        let measure_interval = BUS_WINDOW_INTERVAL / self.streams.len() as u32;
        let mut unmeasured = self.streams.len();
        let mut turns = self.streams.iter().cycle();
        let mut count = 1;
        loop {
            // Gives slow shards time to catch up, because entries without room would become gaps.
            self.wait_for_room().await;
            match self.read(link, count).await {
                Ok(entry_bytes) => count = next_count(count, entry_bytes, self.streams.len()),
                Err(error) => return error,
            }
            if self.reading.succeed() {
                // A request to `/ready` must see this success immediately.
                self.bus.with_engine(|_, _| {});
            }
            if self.backoff.reset() {
                let address = self.bus.redis.address();
                tracing::info!(redis_address = %address, "resumed reading the bus");
            }
            if looked.elapsed() >= BUS_TAIL_INTERVAL {
                looked = Instant::now();
                if let Err(error) = self.look(link).await {
                    return error;
                }
            }
            if (unmeasured > 0 || measured.elapsed() >= measure_interval)
                && let Some(&stream) = turns.next()
            {
                measured = Instant::now();
                unmeasured = unmeasured.saturating_sub(1);
                if let Err(error) = self.measure(link, stream).await {
                    return error;
                }
            }
        }
    }

    /// Records that the connection has failed.
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
    /// an entry, or `None` if there were no entries.
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

    /// Passes entries to the engine. Returns their bytes.
    fn on_entries(&self, stream: usize, replies: &[Reply]) -> Result<usize, LinkError> {
        let mut entries = Vec::with_capacity(replies.len());
        for reply in replies {
            match Entry::from_reply(reply) {
                Ok(entry) if entry.id.epoch > BUS_EPOCH_MAX => {
                    // No entry can follow this one. The fence on the next connection removes it.
                    let text =
                        format!("stream {stream} has entry {}, which no node wrote", entry.id);
                    return Err(LinkError::Lost(text));
                }
                Ok(entry) => entries.push(entry),
                // The next entry will show that the number of this one is missing.
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

    /// Checks where the streams end, and which process replies. If entries are lost at the end of a
    /// stream, reads show no hole.
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
                // The server is a former primary, or it has lost data. The next connection shows
                // which.
                return Err(LinkError::Lost(
                    "this server has fewer entries than the node has read".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Measures how far back in time a stream reaches.
    async fn measure(&self, link: &Link, stream: usize) -> Result<(), LinkError> {
        let key = self.bus.redis.keys().stream(stream);
        // Entries of ended epochs are kept only for nodes that have not read them.
        let first = self.bus.engine.borrow().cursor(stream).epoch.to_string();
        let args = [first.as_str(), "+", "COUNT", "1"].map(|arg| arg.as_bytes().to_vec());
        let args = std::iter::once(key.clone()).chain(args).collect();
        let reply = link.call("XRANGE", &key, args).await?;
        let first = reply.list().and_then(|list| list.first());
        let entry = first.and_then(|entry| Entry::from_reply(entry).ok());
        let seconds = entry.map(|entry| unix_millis().saturating_sub(entry.appended_ms) / 1000);
        self.bus.set_window(stream, seconds);
        Ok(())
    }

    /// Waits until shards have room for the entries that were read. While the first window is
    /// loaded, the wait has no limit. Later it is short, because one slow shard would delay all
    /// others.
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

/// Returns how many entries of each stream to request next, from the last `count` and the average
/// bytes of an entry. A reply must arrive before its timeout even over a slow link.
fn next_count(count: usize, entry_bytes: Option<usize>, streams: usize) -> usize {
    let Some(entry_bytes) = entry_bytes else { return count };
    let fits = BUS_READ_BYTES / (entry_bytes.max(1) * streams);
    fits.min(2 * count).clamp(1, BUS_READ_ENTRIES_MAX)
}
