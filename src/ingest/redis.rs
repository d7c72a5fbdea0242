//! Streams of Redis as sources. A lease says which node reads a stream. Its holder reads with a
//! script that looks at the lease, so a node that lost it without noticing reads nothing. Entries
//! that such a node has read before may still reach the bus from both: in the same order, and the
//! second time as repeats.

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

/// An error of a script for the lease's holder begins so if that is another node.
const UNLEASED: &str = "UNLEASED";

/// The leases of this node, and what all its streams share.
pub(crate) struct Leases {
    redis: Rc<redis::Handle>,
    settings: Arc<Settings>,
    counters: Arc<BridgeCounters>,
    /// The value of a lease that is this node's: no other process has it.
    token: Vec<u8>,
    /// This node stops, and takes none any more.
    leaving: Cell<bool>,
}

impl Leases {
    /// None is held yet.
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

    /// From now on no lease is taken any more.
    pub(crate) fn set_leaving(&self) {
        self.leaving.set(true);
    }

    /// Gives up the leases of this node: another one need not wait until they run out.
    pub(crate) async fn give_up(&self, link: &Link) {
        assert!(self.leaving.get(), "or they would be taken again at once");
        for stream in &self.settings.redis.ingest {
            let lease = self.redis.keys().lease(stream);
            let names = vec![lease.clone(), stream.as_bytes().to_vec()];
            let args = vec![self.token.clone(), b"DEL".to_vec(), lease];
            // What can't be given up runs out.
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
    /// The consumer group, and its only consumer: entries that one node has not finished are the
    /// next one's. Nodes of another prefix have another one.
    group: &'a [u8],
    lease: Vec<u8>,
    renewed: Cell<Instant>,
    witness: &'a Witness,
    cursor: Cursor,
}

/// Where the next read begins.
#[derive(Default)]
struct Cursor {
    /// The last entry that was read again because it is not done. Absent when all were.
    undone: Option<IngestId>,
    /// The last entry that the stream is known to have had.
    seen: IngestId,
    /// Entries that the next page may have. At first one: nothing is known of how long they are,
    /// and a page that takes longer than a read may would be asked for again for ever.
    count: usize,
}

impl RedisStream<'_> {
    /// Publishes what a stream has: for ever.
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
        self.renewed.set(asked);
        Ok(())
    }

    /// Carries out a command if this node has the lease.
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
        // It may be this node's still, from a connection that has failed.
        match self.renew().await {
            Ok(()) => Ok(Turn::Ours),
            Err(error) if error.is(UNLEASED) => Ok(Turn::Others),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the group, and what all its consumers have not finished this one's.
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
            // Redis 7 says which were deleted; an older one shows that when they are read.
            let deleted = list.get(2).and_then(Reply::list).map_or(0, <[Reply]>::len);
            self.leases.counters.ingest_deleted.add(deleted as u64);
            from = list.first().and_then(Reply::bytes).ok_or_else(|| not_an_answer(&reply))?.into();
            if from == b"0-0" {
                break;
            }
            self.renew_in_time().await?;
        }
        // What comes after this one is news, so it is looked for before the first read of news.
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
            // After what was not done come news.
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

    /// This takes no entry: that is the script's.
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

    /// What is published elsewhere may be lost with that server: they must be one.
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
        // Not the reason, which may quote a payload.
        let name = self.name;
        let text = format!("{name} {id} is in {name}:dead");
        self.leases
            .redis
            .complain("could not publish an entry of an ingest stream; it was set aside", &text);
        Ok(self.renew_in_time().await?)
    }

    async fn acknowledge(&mut self, done: &[IngestId]) -> Result<(), SourceError> {
        assert!(!done.is_empty(), "XACK of nothing is an error");
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

/// Entries of one stream as XREAD and XREADGROUP answer them. Those without fields were deleted
/// before they were done. Absent if the answer is none.
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
