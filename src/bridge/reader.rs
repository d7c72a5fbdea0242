//! Follows the streams of the bus, on a connection of its own: a read that waits for news must not
//! stand before anything else.

use std::rc::Rc;

use tokio::time::Instant;

use super::events::unix_millis;
use super::link::{Link, LinkError};
use super::writer::{fence, not_an_answer};
use super::{Backoff, Bridge};
use crate::bus::{Entry, EntryId, Reply, RunId, Script, Tail};
use crate::limits::{
    BUS_BLOCK, BUS_EPOCH_MAX, BUS_READ_BYTES, BUS_READ_ENTRIES_MAX, BUS_READ_TIMEOUT,
    BUS_TAIL_INTERVAL, BUS_WINDOW_INTERVAL, RETRY_INTERVAL,
};

/// Connects, follows `streams` until the connection fails, and begins anew: for ever.
pub(super) async fn run(bridge: Rc<Bridge>, streams: Vec<usize>) {
    let (mut backoff, mut reads) = (Backoff::new(), false);
    loop {
        let failed = match Link::connect(&bridge, BUS_READ_TIMEOUT).await {
            Ok(link) => {
                bridge.counters.connects.add(1);
                follow(&bridge, &link, &streams, (&mut backoff, &mut reads)).await
            }
            Err(error) => error,
        };
        bridge.with_engine(|engine, _| streams.iter().for_each(|&at| engine.on_reader(at, None)));
        bridge.set_reads(&mut reads, false);
        if backoff.is_worth_a_line() {
            tracing::warn!(place = %bridge.place, error = %failed, "the bus can't be read");
        }
        backoff.pause().await;
    }
}

/// Follows the streams until the connection fails; answers why.
async fn follow(
    bridge: &Bridge,
    link: &Link,
    streams: &[usize],
    (backoff, reads): (&mut Backoff, &mut bool),
) -> LinkError {
    // It may lead to another server than the last one.
    for &stream in streams {
        let seen = bridge.engine.borrow().seen(stream);
        match fence(bridge, link, stream, seen).await {
            Ok(fenced) => bridge.with_engine(|engine, _| {
                engine.on_reader(stream, Some(fenced.run));
                engine.on_fenced(stream, &fenced);
            }),
            Err(error) => return error,
        }
    }
    let (mut looked, mut measured) = (Instant::now(), None::<Instant>);
    let mut count = 1;
    loop {
        // A shard that is behind gets time to catch up, or what is read would become gaps.
        bridge.wait_for_room().await;
        match read(bridge, link, streams, count).await {
            Ok(entry_bytes) => count = next_count(count, entry_bytes, streams.len()),
            Err(error) => return error,
        }
        bridge.set_reads(reads, true);
        if backoff.reset() {
            tracing::info!(place = %bridge.place, "the bus is read again");
        }
        if looked.elapsed() >= BUS_TAIL_INTERVAL {
            looked = Instant::now();
            if let Err(error) = look(bridge, link, streams).await {
                return error;
            }
        }
        if measured.is_none_or(|at| at.elapsed() >= BUS_WINDOW_INTERVAL) {
            measured = Some(Instant::now());
            if let Err(error) = measure(bridge, link, streams).await {
                return error;
            }
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

/// Reads what there is of at most `count` entries of each stream, or waits for it. Answers how many
/// bytes an entry had, if there was one.
async fn read(
    bridge: &Bridge,
    link: &Link,
    streams: &[usize],
    count: usize,
) -> Result<Option<usize>, LinkError> {
    let mut args: Vec<Vec<u8>> = vec![
        b"COUNT".to_vec(),
        count.to_string().into_bytes(),
        b"BLOCK".to_vec(),
        BUS_BLOCK.as_millis().to_string().into_bytes(),
        b"STREAMS".to_vec(),
    ];
    let names: Vec<Vec<u8>> = streams.iter().map(|&stream| bridge.keys.stream(stream)).collect();
    args.extend(names.iter().cloned());
    for &stream in streams {
        let cursor = bridge.engine.borrow().cursor(stream);
        args.push(cursor.to_string().into_bytes());
    }
    let reply = link.call_blocking("XREAD", &names[0], args).await?;
    bridge.with_engine(|engine, _| streams.iter().for_each(|&at| engine.set_read_lag(at, 0)));
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
        bytes += on_entries(bridge, streams[at], entries)?;
    }
    Ok(bytes.checked_div(number))
}

/// Takes entries; answers how many bytes they had.
fn on_entries(bridge: &Bridge, stream: usize, replies: &[Reply]) -> Result<usize, LinkError> {
    let mut entries = Vec::with_capacity(replies.len());
    for reply in replies {
        match Entry::from_reply(reply) {
            Ok(entry) if entry.id.epoch > BUS_EPOCH_MAX => {
                // Nothing can follow it: fencing, the first thing on a connection, removes it.
                let text = format!("stream {stream} has entry {}, which no node wrote", entry.id);
                return Err(LinkError::Lost(text));
            }
            Ok(entry) => entries.push(entry),
            // Its number is missed when the next one is read.
            Err(error) => bridge.complain("the bus has something else in it", &error.to_string()),
        }
    }
    let lag = entries.last().map_or(0, |last| unix_millis().saturating_sub(last.appended_ms));
    bridge.with_engine(|engine, now| {
        engine.set_read_lag(stream, lag);
        engine.on_entries(now, stream, &entries);
    });
    Ok(entries.iter().map(|entry| entry.records.len()).sum())
}

/// Looks where the streams end, for what is lost at their end leaves no hole that a read shows, and
/// who it is that is read.
async fn look(bridge: &Bridge, link: &Link, streams: &[usize]) -> Result<(), LinkError> {
    let asked = (bridge.now)();
    let names = streams.iter().map(|&stream| bridge.keys.meta(stream)).collect();
    let reply = link.script(Script::Tail, names, Vec::new()).await?;
    let answer = reply.list().and_then(<[Reply]>::split_first);
    let (run, ends) = answer.ok_or_else(|| not_an_answer(&reply))?;
    let run = run.text().and_then(RunId::parse).ok_or_else(|| not_an_answer(&reply))?;
    for (&stream, [epoch, number]) in streams.iter().zip(ends.as_chunks::<2>().0) {
        let tail = epoch.number().zip(number.number());
        let tail = Tail(tail.map(|(epoch, number)| EntryId { epoch, number }));
        let is_right = bridge.with_engine(|engine, now| {
            engine.on_reader(stream, Some(run));
            engine.on_tail((asked, now), stream, tail)
        });
        if !is_right {
            // A primary that others have left behind, or one that has lost its data: what it is,
            // shows when it is asked anew.
            return Err(LinkError::Lost("this server is behind what was read".to_owned()));
        }
    }
    Ok(())
}

/// Finds out how far back the streams reach.
async fn measure(bridge: &Bridge, link: &Link, streams: &[usize]) -> Result<(), LinkError> {
    let mut window = None::<u64>;
    for &stream in streams {
        let key = bridge.keys.stream(stream);
        // An epoch that is over may have left something for those who had not read it.
        let first = bridge.engine.borrow().cursor(stream).epoch.to_string();
        let args = [first.as_str(), "+", "COUNT", "1"].map(|arg| arg.as_bytes().to_vec());
        let args = std::iter::once(key.clone()).chain(args).collect();
        let reply = link.call("XRANGE", &key, args).await?;
        let first = reply.list().and_then(|list| list.first());
        let Some(Ok(entry)) = first.map(Entry::from_reply) else { continue };
        let seconds = unix_millis().saturating_sub(entry.appended_ms) / 1000;
        window = Some(window.map_or(seconds, |shortest| shortest.min(seconds)));
    }
    bridge.counters.window_seconds.set(window.unwrap_or(0));
    Ok(())
}

impl Bridge {
    /// One of the readers reads from now on, or does not.
    fn set_reads(&self, reads: &mut bool, now: bool) {
        if std::mem::replace(reads, now) != now {
            let count = self.not_reading.get();
            self.not_reading.set(if now { count - 1 } else { count + 1 });
            // Whoever asks for it now is to see it.
            self.with_engine(|_, _| {});
        }
    }

    /// Waits until the shards have taken what was read: while the window is loaded for as long as
    /// it takes, later for a moment only, or one slow shard would delay all.
    async fn wait_for_room(&self) {
        let mut waits = 0;
        while self.engine.borrow().is_behind() {
            if waits > 0 && self.engine.borrow().is_loaded() {
                return;
            }
            waits += 1;
            tokio::time::sleep(RETRY_INTERVAL / 10).await;
            self.with_engine(|_, _| {});
        }
    }
}
