//! Takes publications in from a stream to which applications add them: on a connection of its own,
//! and on one node at a time, so that they keep their order.
//!
//! A lease says which node. Whoever has it reads by a script that looks at the lease, so that a
//! node which lost it without noticing reads nothing. What such a node has read before may still
//! reach the bus from both: in the same order, and the second time as a repeat.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::link::{Link, LinkError};
use super::standing::Witness;
use super::writer::not_an_answer;
use super::{Backoff, Bridge};
use crate::bus::{
    EntryOutcome, Fields, IngestId, IngestQueue, IngestRequest, Reply, Script, read_entries,
};
use crate::limits::{
    BUS_BLOCK, BUS_READ_TIMEOUT, INGEST_DEAD_MAX, INGEST_ENTRIES_MAX, INGEST_LEASE,
    INGEST_LEASE_LOOK, INGEST_PAGE_BYTES, INGEST_PAGE_ENTRIES_MAX, INGEST_RENEW_INTERVAL,
    INGEST_RETRY_PAUSE, RETRY_INTERVAL,
};
use crate::mesh::{Answer, Ticket};

/// What an error of a script for the lease's holder begins with where that is another node.
const UNLEASED: &str = "UNLEASED";

/// Where answers of the bus arrive.
#[derive(Default)]
pub(super) struct Mailbox {
    arrived: RefCell<Vec<(Ticket, Answer)>>,
    news: Notify,
}

impl Mailbox {
    pub(super) fn put(&self, ticket: Ticket, answer: Answer) {
        self.arrived.borrow_mut().push((ticket, answer));
        self.news.notify_one();
    }
}

/// Connects, takes publications in until the connection fails, and begins anew: for ever.
pub(super) async fn run(bridge: Rc<Bridge>, stream: Arc<str>) {
    let (mut backoff, witness) = (Backoff::new(), Witness::default());
    let reading = Reading::new(&bridge);
    loop {
        let failed = match Link::connect(&bridge, BUS_READ_TIMEOUT).await {
            Ok(link) => {
                bridge.counters.connects.add(1);
                let ingest = Ingest {
                    bridge: &bridge,
                    link,
                    key: stream.as_bytes().to_vec(),
                    group: bridge.settings.redis.prefix.as_bytes(),
                    lease: bridge.keys.lease(&stream),
                    stream: Arc::clone(&stream),
                    token: &bridge.token,
                    renewed: Cell::new(Instant::now()),
                    witness: &witness,
                    reading: &reading,
                };
                ingest.take_turns(&mut backoff).await
            }
            Err(error) => error,
        };
        reading.set(false);
        if backoff.is_worth_a_line() {
            tracing::warn!(%stream, error = %failed, "a stream can't be ingested");
        }
        backoff.pause().await;
    }
}

/// Gives up the leases of this node, which stops: another one need not wait until they run out.
pub(super) async fn leave(bridge: &Bridge, link: &Link) {
    for stream in &bridge.settings.redis.ingest {
        let lease = bridge.keys.lease(stream);
        let names = vec![lease.clone(), stream.as_bytes().to_vec()];
        let args = vec![bridge.token.clone(), b"DEL".to_vec(), lease];
        // What can't be given up runs out.
        link.script(Script::Leased, names, args).await.map(drop).unwrap_or_default();
    }
}

/// One stream on one connection.
struct Ingest<'a> {
    bridge: &'a Bridge,
    link: Link,
    stream: Arc<str>,
    key: Vec<u8>,
    /// The consumer group, and its only consumer: what one node has not finished is the next one's.
    /// Nodes of another prefix have another one.
    group: &'a [u8],
    lease: Vec<u8>,
    /// Whose lease it is: no other process has this.
    token: &'a [u8],
    renewed: Cell<Instant>,
    witness: &'a Witness,
    reading: &'a Reading<'a>,
}

/// Where the next read begins.
struct Cursor {
    /// The last entry that was read again because it is not done. Absent when all were.
    undone: Option<IngestId>,
    /// The last entry that the stream is known to have had.
    seen: IngestId,
    /// Entries that the next page may have. At first one: nothing is known of how long they are,
    /// and a page that takes longer than a read may would be asked for again for ever.
    count: usize,
}

impl Ingest<'_> {
    /// Takes entries in whenever the lease is to be had; answers why that has ended.
    async fn take_turns(&self, backoff: &mut Backoff) -> LinkError {
        if let Err(error) = self.witness.verify(self.bridge, &self.link).await {
            return error;
        }
        loop {
            if let Err(error) = self.acquire().await {
                return error;
            }
            backoff.reset();
            tracing::info!(stream = %self.stream, "this node ingests the stream");
            let error = {
                let _active = Active::new(self.bridge);
                self.take_in().await
            };
            if !error.is(UNLEASED) {
                return error;
            }
            tracing::info!(stream = %self.stream, "another node ingests the stream");
        }
    }

    /// Waits for the lease.
    async fn acquire(&self) -> Result<(), LinkError> {
        let millis = INGEST_LEASE.as_millis().to_string();
        loop {
            if self.bridge.nodes.is_leaving() {
                return std::future::pending().await;
            }
            self.witness.verify_in_time(self.bridge, &self.link).await?;
            let options: [&[u8]; 4] = [self.token, b"NX", b"PX", millis.as_bytes()];
            let args = args(&self.lease, &options);
            self.renewed.set(Instant::now());
            if self.link.call("SET", &self.lease, args).await? != Reply::Nil {
                return Ok(());
            }
            // It may be this node's still, from a connection that has failed.
            match self.renew().await {
                Err(error) if error.is(UNLEASED) => {
                    // It is for another node to say whether the stream can be read.
                    self.reading.set(true);
                    sleep(INGEST_LEASE_LOOK).await;
                }
                renewed => return renewed,
            }
        }
    }

    /// Takes entries in; answers why that has ended.
    async fn take_in(&self) -> LinkError {
        let mut cursor = match self.prepare().await {
            Ok(cursor) => cursor,
            Err(error) => return error,
        };
        self.reading.set(true);
        let mut intake = IngestQueue::new(Arc::clone(&self.stream));
        let mailbox = Rc::new(Mailbox::default());
        loop {
            if let Err(error) = self.step(&mut intake, &mut cursor, &mailbox).await {
                return error;
            }
        }
    }

    /// Makes the group, and what all its consumers have not finished this one's.
    async fn prepare(&self) -> Result<Cursor, LinkError> {
        let create: [&[u8]; 4] = [&self.key, self.group, b"0", b"MKSTREAM"];
        match self.link.call("XGROUP", &self.key, args(b"CREATE", &create)).await {
            Err(error) if !error.is("BUSYGROUP") => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let mut from = b"0-0".to_vec();
        let count = INGEST_ENTRIES_MAX.to_string();
        loop {
            let claim: [&[u8]; 8] = [
                b"XAUTOCLAIM",
                &self.key,
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
            self.bridge.counters.ingest_deleted.add(deleted as u64);
            from = list.first().and_then(Reply::bytes).ok_or_else(|| not_an_answer(&reply))?.into();
            if from == b"0-0" {
                break;
            }
            self.renew_in_time().await?;
        }
        // What comes after this one is news, so it is looked for before the first read of news.
        let last: [&[u8]; 4] = [b"+", b"-", b"COUNT", b"1"];
        let reply = self.link.call("XREVRANGE", &self.key, args(&self.key, &last)).await?;
        let id = reply.list().and_then(|list| list.first()).and_then(Reply::list);
        let id = id.and_then(|entry| IngestId::parse(entry.first()?.text()?));
        let seen = id.unwrap_or_default();
        Ok(Cursor { undone: Some(IngestId::default()), seen, count: 1 })
    }

    /// Sends what can be sent, ends what is done, and reads more, or waits.
    async fn step(
        &self,
        intake: &mut IngestQueue,
        cursor: &mut Cursor,
        mailbox: &Rc<Mailbox>,
    ) -> Result<(), LinkError> {
        self.renew_in_time().await?;
        self.witness.verify_in_time(self.bridge, &self.link).await?;
        self.send(intake, mailbox);
        if self.witness.agrees(self.bridge) {
            // What is done here is acknowledged here: they must be one server.
            self.settle(intake).await?;
        }
        if intake.is_stuck() {
            sleep(INGEST_RETRY_PAUSE).await;
            intake.repeat();
        } else if intake.has_room() && self.read(intake, cursor).await? {
            // There may be more.
        } else if intake.is_empty() {
            self.wait_for_news(cursor).await?;
        } else {
            // Also for entries that come meanwhile.
            timeout(RETRY_INTERVAL, mailbox.news.notified()).await.unwrap_or_default();
        }
        Ok(())
    }

    /// Hands the bus what it has room for. Nothing is awaited between an answer and the next
    /// publication, so none goes past one that has failed.
    fn send(&self, intake: &mut IngestQueue, mailbox: &Rc<Mailbox>) {
        loop {
            for (ticket, answer) in mailbox.arrived.take() {
                intake.on_answer(ticket, &answer);
            }
            if !self.bridge.engine.borrow().has_room() {
                return;
            }
            let ticket = self.bridge.ticket();
            let Some((publish, once)) = intake.send((self.bridge.now)(), ticket) else { return };
            self.bridge.mailboxes.borrow_mut().insert(ticket, Rc::clone(mailbox));
            self.bridge.with_engine(|engine, now| engine.publish(now, publish, once));
        }
    }

    /// Ends what is done.
    async fn settle(&self, intake: &mut IngestQueue) -> Result<(), LinkError> {
        let counters = &self.bridge.counters;
        let mut done = Vec::new();
        while let Some((id, fields, fate)) = intake.take_done() {
            match fate {
                EntryOutcome::Published => counters.ingest_published.add(1),
                EntryOutcome::Repeated => counters.ingest_repeated.add(1),
                EntryOutcome::Refused(reason) => self.park(id, fields, &reason).await?,
            }
            done.push(id);
        }
        self.acknowledge(&done).await
    }

    /// Puts aside what can't be published.
    async fn park(&self, id: IngestId, fields: Fields, reason: &str) -> Result<(), LinkError> {
        if crate::sabotage!(LostLetter) {
            return Ok(());
        }
        let dead = format!("{}:dead", self.stream).into_bytes();
        let most = INGEST_DEAD_MAX.to_string();
        let limit: [&[u8]; 4] = [b"MAXLEN", b"~", most.as_bytes(), b"*"];
        let mut args = args(&dead, &limit);
        args.extend(fields.into_iter().flat_map(|(name, value)| [name, value]));
        for (name, value) in [("id", &id.to_string()[..]), ("reason", reason)] {
            args.extend([name.as_bytes().to_vec(), value.as_bytes().to_vec()]);
        }
        self.link.call("XADD", &dead, args).await?;
        self.bridge.counters.ingest_parked.add(1);
        // Not the reason, which may quote a payload.
        let text = format!("{} {id} is in {}:dead", self.stream, self.stream);
        self.bridge.complain("an ingested entry can't be published", &text);
        self.renew_in_time().await
    }

    async fn acknowledge(&self, done: &[IngestId]) -> Result<(), LinkError> {
        if done.is_empty() {
            return Ok(());
        }
        let mut args = args(&self.key, &[self.group]);
        args.extend(done.iter().map(|id| id.to_string().into_bytes()));
        self.link.call("XACK", &self.key, args).await.map(drop)
    }

    /// Reads a page. Answers false if there is nothing.
    async fn read(&self, intake: &mut IngestQueue, cursor: &mut Cursor) -> Result<bool, LinkError> {
        let from = cursor.undone.map_or_else(|| ">".to_owned(), |id| id.to_string());
        let count = cursor.count.to_string();
        let command: [&[u8]; 9] = [
            b"XREADGROUP",
            b"GROUP",
            self.group,
            self.group,
            b"COUNT",
            count.as_bytes(),
            b"STREAMS",
            &self.key,
            from.as_bytes(),
        ];
        let reply = self.leased(&command).await?;
        let entries = read_entries(&reply).ok_or_else(|| not_an_answer(&reply))?;
        let Some((last, _)) = entries.last() else {
            // After what was not done come news.
            return Ok(cursor.undone.take().is_some());
        };
        cursor.seen = cursor.seen.max(*last);
        cursor.undone = cursor.undone.map(|_| *last);
        let (mut bytes, mut deleted, read) = (0, Vec::new(), entries.len());
        let settings = &self.bridge.settings;
        for (id, fields) in entries {
            let Some(fields) = fields else {
                deleted.push(id);
                continue;
            };
            bytes += fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            let most = settings.api.body_bytes_max;
            let asked = IngestRequest::parse(id, &fields, &settings.channel.namespaces, most);
            intake.push(id, fields, asked);
        }
        self.bridge.counters.ingest_deleted.add(deleted.len() as u64);
        let fitting = INGEST_PAGE_BYTES / (bytes / read).max(1);
        cursor.count = fitting.clamp(1, INGEST_PAGE_ENTRIES_MAX).min(2 * cursor.count);
        self.acknowledge(&deleted).await?;
        Ok(true)
    }

    /// Waits until there is an entry after the last one. This takes none: that is the script's.
    async fn wait_for_news(&self, cursor: &mut Cursor) -> Result<(), LinkError> {
        let (millis, seen) = (BUS_BLOCK.as_millis().to_string(), cursor.seen.to_string());
        let options: [&[u8]; 7] =
            [b"COUNT", b"1", b"BLOCK", millis.as_bytes(), b"STREAMS", &self.key, seen.as_bytes()];
        let args = options.iter().map(|arg| arg.to_vec()).collect();
        let reply = self.link.call_blocking("XREAD", &self.key, args).await?;
        let entries = read_entries(&reply).ok_or_else(|| not_an_answer(&reply))?;
        cursor.seen = entries.last().map_or(cursor.seen, |(id, _)| *id);
        Ok(())
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
        let keys = vec![self.lease.clone(), self.key.clone()];
        self.link.script(Script::Leased, keys, args(self.token, command)).await
    }
}

fn args(first: &[u8], others: &[&[u8]]) -> Vec<Vec<u8>> {
    std::iter::once(&first).chain(others).map(|arg| arg.to_vec()).collect()
}

/// Whether a stream can be ingested: by this node or, as far as it knows, by another one.
struct Reading<'a> {
    bridge: &'a Bridge,
    can: Cell<bool>,
}

impl<'a> Reading<'a> {
    fn new(bridge: &'a Bridge) -> Reading<'a> {
        Reading { bridge, can: Cell::new(true) }
    }

    fn set(&self, can: bool) {
        if self.can.replace(can) != can {
            let count = &self.bridge.not_ingesting;
            count.set(if can { count.get() - 1 } else { count.get() + 1 });
        }
    }
}

/// Counts a stream that is ingested, for as long as it lives.
struct Active<'a>(&'a Bridge);

impl<'a> Active<'a> {
    fn new(bridge: &'a Bridge) -> Active<'a> {
        bridge.counters.ingest_active.add(1);
        Active(bridge)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.counters.ingest_active.subtract(1);
    }
}
