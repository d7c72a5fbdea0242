//! Streams of Redis as sources. A lease decides which node reads a stream. The holder reads with a
//! script that checks the lease, so a node that has lost it without noticing reads nothing more.
//! Entries that such a node has read before may still reach the bus from both nodes. They come in
//! the same order, and the bus recognises repeats.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::entry::{Fields, IngestId};
use super::source::{Ingest, Page, Source, SourceError, Turn};
use crate::bridge::Bus;
use crate::bus::{Reply, Script};
use crate::limits::{
    BUS_BLOCK, BUS_READ_TIMEOUT, INGEST_DEAD_MAX, INGEST_ENTRIES_MAX, INGEST_LEASE,
    INGEST_PAGE_BYTES, INGEST_PAGE_ENTRIES_MAX, INGEST_RENEW_INTERVAL,
};
use crate::metrics::BridgeCounters;
use crate::redis::{self, Link, LinkError, Witness, not_an_answer};
use crate::settings::Settings;

/// Prefix of the errors of `leased.lua` if another node has the lease.
const UNLEASED: &str = "UNLEASED";

/// The leases of this node, and everything that its streams share.
pub(crate) struct Leases {
    redis: Rc<redis::Handle>,
    settings: Arc<Settings>,
    counters: Arc<BridgeCounters>,
    /// The value of this node's leases. No other process uses it.
    token: Vec<u8>,
    /// Whether this node is stopping and takes no leases any more.
    leaving: Cell<bool>,
}

impl Leases {
    /// Creates the state without leases.
    pub(crate) fn new(
        redis: &Rc<redis::Handle>,
        settings: &Arc<Settings>,
        counters: Arc<BridgeCounters>,
    ) -> Leases {
        Leases {
            redis: Rc::clone(redis),
            settings: Arc::clone(settings),
            counters,
            token: format!("{:016x}", redis::seed()).into_bytes(),
            leaving: Cell::new(false),
        }
    }

    /// Stops this node from taking leases.
    pub(crate) fn set_leaving(&self) {
        self.leaving.set(true);
    }

    /// Gives up the leases of this node, so that another one need not wait until they expire.
    pub(crate) async fn give_up(&self, link: &Link) {
        assert!(self.leaving.get(), "a node that does not stop would take the leases again");
        for stream in &self.settings.redis.ingest {
            let lease = self.redis.keys().lease(stream);
            let names = vec![lease.clone(), stream.as_bytes().to_vec()];
            let args = vec![self.token.clone(), b"DEL".to_vec(), lease];
            // A lease that can't be given up expires.
            link.script(Script::Leased, names, args).await.map(drop).unwrap_or_default();
        }
    }
}

/// One stream on one connection.
pub(crate) struct RedisStream<'a> {
    leases: &'a Leases,
    link: Link,
    name: &'a str,
    key: &'a [u8],
    /// The consumer group, and also the name of its only consumer. The next node reads as the same
    /// consumer, so it gets the entries that this one has not finished. Nodes with another prefix
    /// have another group.
    group: &'a [u8],
    lease: Vec<u8>,
    renewed: Cell<Instant>,
    witness: &'a Witness,
    cursor: Cursor,
}

/// The position of the next read.
#[derive(Default)]
struct Cursor {
    /// The last pending entry that was read again. `None` if there are no more.
    undone: Option<IngestId>,
    /// The last entry that the stream is known to have had.
    seen: IngestId,
    /// Maximum number of entries in the next page. At first it is one, because the length of
    /// entries is unknown: a page that exceeds the timeout of a read would be requested forever.
    count: usize,
}

impl RedisStream<'_> {
    /// Publishes the entries of a stream. Never returns.
    pub(crate) async fn ingest(leases: Rc<Leases>, bus: Rc<Bus>, stream: Arc<str>) {
        let ingest = Ingest {
            name: Arc::clone(&stream),
            bus,
            settings: Arc::clone(&leases.settings),
            counters: Arc::clone(&leases.counters),
        };
        let witness = leases.redis.witness();
        ingest.run(async || RedisStream::connect(&leases, &stream, &witness).await).await
    }

    async fn connect<'a>(
        leases: &'a Leases,
        stream: &'a str,
        witness: &'a Witness,
    ) -> Result<RedisStream<'a>, SourceError> {
        let link = leases.redis.connect(BUS_READ_TIMEOUT).await?;
        leases.counters.connects.add(1);
        witness.verify(&link).await?;
        Ok(RedisStream {
            leases,
            link,
            name: stream,
            key: stream.as_bytes(),
            group: leases.settings.redis.prefix.as_bytes(),
            lease: leases.redis.keys().lease(stream),
            renewed: Cell::new(Instant::now()),
            witness,
            cursor: Cursor::default(),
        })
    }

    async fn renew_in_time(&self) -> Result<(), LinkError> {
        if self.renewed.get().elapsed() < INGEST_RENEW_INTERVAL {
            return Ok(());
        }
        self.renew().await
    }

    async fn renew(&self) -> Result<(), LinkError> {
        let (asked, millis) = (Instant::now(), INGEST_LEASE.as_millis().to_string());
        self.leased(&[b"PEXPIRE", &self.lease, millis.as_bytes()]).await?;
        // The time of the request, because the lease may have been renewed as early as that.
        self.renewed.set(asked);
        Ok(())
    }

    /// Runs a command, if this node has the lease.
    async fn leased(&self, command: &[&[u8]]) -> Result<Reply, LinkError> {
        let keys = vec![self.lease.clone(), self.key.to_vec()];
        self.link.script(Script::Leased, keys, args(&self.leases.token, command)).await
    }
}

impl Source for RedisStream<'_> {
    async fn take_turn(&mut self) -> Result<Turn, SourceError> {
        if self.leases.leaving.get() {
            return std::future::pending().await;
        }
        self.witness.verify_in_time(&self.link).await?;
        let millis = INGEST_LEASE.as_millis().to_string();
        let options: [&[u8]; 4] = [&self.leases.token, b"NX", b"PX", millis.as_bytes()];
        let args = args(&self.lease, &options);
        self.renewed.set(Instant::now());
        if self.link.call("SET", &self.lease, args).await? != Reply::Nil {
            return Ok(Turn::Ours);
        }
        // This node may still have it, from a connection that has failed.
        match self.renew().await {
            Ok(()) => Ok(Turn::Ours),
            Err(error) if error.is(UNLEASED) => Ok(Turn::Others),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates the group, and gets the entries that its consumers have not finished.
    async fn begin(&mut self) -> Result<(), SourceError> {
        let create: [&[u8]; 4] = [self.key, self.group, b"0", b"MKSTREAM"];
        match self.link.call("XGROUP", self.key, args(b"CREATE", &create)).await {
            Err(error) if !error.is("BUSYGROUP") => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        let mut from = b"0-0".to_vec();
        let count = INGEST_ENTRIES_MAX.to_string();
        loop {
            let claim: [&[u8]; 8] = [
                b"XAUTOCLAIM",
                self.key,
                self.group,
                self.group,
                b"0",
                &from,
                b"COUNT",
                count.as_bytes(),
            ];
            let reply = self.leased(&[&claim[..], &[b"JUSTID"]].concat()).await?;
            let list = reply.list().unwrap_or_default();
            // Redis 7 reports deleted entries here. Older versions show them when they are read.
            let deleted = list.get(2).and_then(Reply::list).map_or(0, <[Reply]>::len);
            self.leases.counters.ingest_deleted.add(deleted as u64);
            from = list.first().and_then(Reply::bytes).ok_or_else(|| not_an_answer(&reply))?.into();
            if from == b"0-0" {
                break;
            }
            self.renew_in_time().await?;
        }
        // Entries after this one are new. It is looked up before the first read of new entries, so
        // that `wait_for_news` misses none.
        let last: [&[u8]; 4] = [b"+", b"-", b"COUNT", b"1"];
        let reply = self.link.call("XREVRANGE", self.key, args(self.key, &last)).await?;
        let id = reply.list().and_then(|list| list.first()).and_then(Reply::list);
        let id = id.and_then(|entry| IngestId::parse(entry.first()?.text()?));
        let seen = id.unwrap_or_default();
        self.cursor = Cursor { undone: Some(IngestId::default()), seen, count: 1 };
        Ok(())
    }

    async fn keep_turn(&mut self) -> Result<(), SourceError> {
        self.renew_in_time().await?;
        Ok(self.witness.verify_in_time(&self.link).await?)
    }

    async fn read(&mut self) -> Result<Page, SourceError> {
        let from = self.cursor.undone.map_or_else(|| ">".to_owned(), |id| id.to_string());
        let count = self.cursor.count.to_string();
        let command: [&[u8]; 9] = [
            b"XREADGROUP",
            b"GROUP",
            self.group,
            self.group,
            b"COUNT",
            count.as_bytes(),
            b"STREAMS",
            self.key,
            from.as_bytes(),
        ];
        let reply = self.leased(&command).await?;
        let entries = read_entries(&reply).ok_or_else(|| not_an_answer(&reply))?;
        let Some((last, _)) = entries.last() else {
            // The pending entries are followed by the new ones.
            let is_over = self.cursor.undone.take().is_none();
            return Ok(if is_over { Page::End } else { Page::Entries(Vec::new()) });
        };
        self.cursor.seen = self.cursor.seen.max(*last);
        self.cursor.undone = self.cursor.undone.map(|_| *last);
        let (mut bytes, mut deleted, read) = (0, Vec::new(), entries.len());
        let mut page = Vec::with_capacity(read);
        for (id, fields) in entries {
            match fields {
                None => deleted.push(id),
                Some(fields) => {
                    let lengths = fields.iter().map(|(name, value)| name.len() + value.len());
                    bytes += lengths.sum::<usize>();
                    page.push((id, fields));
                }
            }
        }
        self.leases.counters.ingest_deleted.add(deleted.len() as u64);
        let fitting = INGEST_PAGE_BYTES / (bytes / read).max(1);
        let most = fitting.clamp(1, INGEST_PAGE_ENTRIES_MAX);
        self.cursor.count = most.min(2 * self.cursor.count);
        if !deleted.is_empty() {
            self.acknowledge(&deleted).await?;
        }
        Ok(Page::Entries(page))
    }

    /// Only waits. Entries are taken by the script, which checks the lease.
    async fn wait_for_news(&mut self) -> Result<(), SourceError> {
        let (millis, seen) = (BUS_BLOCK.as_millis().to_string(), self.cursor.seen.to_string());
        let options: [&[u8]; 7] =
            [b"COUNT", b"1", b"BLOCK", millis.as_bytes(), b"STREAMS", self.key, seen.as_bytes()];
        let args = options.iter().map(|arg| arg.to_vec()).collect();
        let reply = self.link.call_blocking("XREAD", self.key, args).await?;
        let entries = read_entries(&reply).ok_or_else(|| not_an_answer(&reply))?;
        self.cursor.seen = entries.last().map_or(self.cursor.seen, |(id, _)| *id);
        Ok(())
    }

    /// Publications on another server may be lost with it, so the bus must be on the server of the
    /// stream.
    fn may_acknowledge(&self) -> bool {
        self.witness.agrees()
    }

    async fn park(
        &mut self,
        id: IngestId,
        fields: Fields,
        reason: &str,
    ) -> Result<(), SourceError> {
        if crate::sabotage!(LostLetter) {
            return Ok(());
        }
        let dead = format!("{}:dead", self.name).into_bytes();
        let most = INGEST_DEAD_MAX.to_string();
        let limit: [&[u8]; 4] = [b"MAXLEN", b"~", most.as_bytes(), b"*"];
        let mut args = args(&dead, &limit);
        args.extend(fields.into_iter().flat_map(|(name, value)| [name, value]));
        for (name, value) in [("id", &id.to_string()[..]), ("reason", reason)] {
            args.extend([name.as_bytes().to_vec(), value.as_bytes().to_vec()]);
        }
        self.link.call("XADD", &dead, args).await?;
        self.leases.counters.ingest_parked.add(1);
        Ok(self.renew_in_time().await?)
    }

    async fn acknowledge(&mut self, done: &[IngestId]) -> Result<(), SourceError> {
        assert!(!done.is_empty(), "XACK without ids is an error");
        let mut args = args(self.key, &[self.group]);
        args.extend(done.iter().map(|id| id.to_string().into_bytes()));
        Ok(self.link.call("XACK", self.key, args).await.map(drop)?)
    }
}

impl From<LinkError> for SourceError {
    fn from(error: LinkError) -> SourceError {
        if error.is(UNLEASED) {
            SourceError::NotOurTurn
        } else {
            SourceError::Failed(error.to_string())
        }
    }
}

/// Parses the reply to XREAD or XREADGROUP for one stream. Entries without fields were deleted
/// before they were done. Returns `None` if the reply has another form.
pub fn read_entries(reply: &Reply) -> Option<Vec<(IngestId, Option<Fields>)>> {
    if *reply == Reply::Nil {
        return Some(Vec::new());
    }
    let [stream] = reply.list()? else { return None };
    let [_name, entries] = stream.list()? else { return None };
    entries.list()?.iter().map(read_entry).collect()
}

fn read_entry(reply: &Reply) -> Option<(IngestId, Option<Fields>)> {
    let [id, fields] = reply.list()? else { return None };
    let id = IngestId::parse(id.text()?)?;
    if *fields == Reply::Nil {
        return Some((id, None));
    }
    let (pairs, rest) = fields.list()?.as_chunks::<2>();
    let pair = |[name, value]: &[Reply; 2]| Some((name.bytes()?.to_vec(), value.bytes()?.to_vec()));
    let fields: Option<Fields> = pairs.iter().map(pair).collect();
    Some((id, Some(fields.filter(|_| rest.is_empty())?)))
}

fn args(first: &[u8], others: &[&[u8]]) -> Vec<Vec<u8>> {
    std::iter::once(&first).chain(others).map(|arg| arg.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &[u8])]) -> Fields {
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn answers_of_redis_become_entries() {
        let bytes = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
        let entry = |id: &str, fields| Reply::List(vec![bytes(id), fields]);
        let answer =
            |entries| Reply::List(vec![Reply::List(vec![bytes("s"), Reply::List(entries)])]);
        let both = Reply::List(vec![bytes("channel"), bytes("a")]);
        let read = read_entries(&answer(vec![entry("5-1", both), entry("6-0", Reply::Nil)]));
        let first = (IngestId(5, 1), Some(fields(&[("channel", b"a")])));
        assert_eq!(read, Some(vec![first, (IngestId(6, 0), None)]));
        assert_eq!(read_entries(&Reply::Nil), Some(Vec::new()));
        assert_eq!(read_entries(&answer(Vec::new())), Some(Vec::new()));
        assert_eq!(read_entries(&answer(vec![entry("x", Reply::Nil)])), None);
        assert_eq!(read_entries(&answer(vec![entry("5-1", Reply::List(vec![bytes("a")]))])), None);
    }
}
