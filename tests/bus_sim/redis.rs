//! Redis as nodes see it: servers that come and go behind one address, connections that delay,
//! break, and break unnoticed, and requests that are carried out although nobody waits any more.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use corecast::bus::{
    Append, AppendFailed, Appended, Entry, EntryId, Fenced, Older, Probe, Probed, RunId, Stand,
    Tail, Tops,
};
use corecast::ids::Moment;
use corecast::limits::{BUS_BLOCK, BUS_READ_ENTRIES_MAX, IDEMPOTENCY_TTL};
use corecast::mesh::Found;

use super::log::log;
use super::store::{Host, Refuses, Stream, Taken};
use crate::sim::random::Random;

/// A request of a node.
#[derive(Clone, Debug)]
pub enum Request {
    Fence {
        stream: usize,
        seen: EntryId,
    },
    Append(Append),
    Tops(Tops),
    Older(Older),
    /// `XREAD` that waits; a cursor for each stream.
    Read(Vec<EntryId>),
    /// `tail.lua`.
    Look(usize),
    Probe(Probe),
}

/// What it is answered with.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Nothing if the server refuses.
    Fenced(Option<Fenced>),
    Appended(Result<Appended, AppendFailed>),
    /// Nothing if the stream belongs to another process.
    Located(Option<Stand>),
    /// Nothing if the stream belongs to another process.
    Found(Option<Vec<Found>>),
    Entries(Vec<(usize, Vec<Entry>)>),
    Tail(RunId, Tail),
    Probed(Result<Probed, AppendFailed>),
}

/// A connection, for the whole schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(u64);

struct Connection {
    server: usize,
    requests: VecDeque<(Moment, Request)>,
    answers: VecDeque<(Moment, Answer)>,
    /// The client's end is closed; the server may still have requests of it.
    left: bool,
    /// Nothing goes through any more; whether the client has been told.
    cut: Option<bool>,
}

struct Server {
    run: u64,
    streams: Vec<Stream>,
    /// It is gone, for ever.
    gone: bool,
    refuses: Refuses,
    /// It does nothing until then.
    hung_until: Moment,
    /// What its streams were before its last writes.
    past: VecDeque<(usize, Stream)>,
}

/// An append that was carried out, for the checker.
pub struct Done {
    pub append: Append,
    pub taken: Vec<Taken>,
}

pub struct Redis {
    pub random: Random,
    servers: Vec<Server>,
    /// Where the address leads.
    current: usize,
    /// Nobody can connect before.
    away_until: Moment,
    connections: BTreeMap<Link, Connection>,
    next_link: u64,
    /// Milliseconds since 1970 at the beginning, as the present server sees it.
    wall_ms: i64,
    /// Milliseconds that a message takes at most.
    pub delay_max: usize,
    pub bytes_max: usize,
    /// What was appended since the checker looked last.
    pub done: Vec<Done>,
    /// Something was lost, or a server has taken another's place.
    pub broken: bool,
    /// The clock was set back: epochs are above those that are remembered, and those that are not
    /// could come again.
    pub set_back: bool,
    /// The clock has gone on by so much that Redis has forgotten what it keeps for a while.
    pub forgetful: bool,
}

/// States of streams that are remembered for a failover that loses the last ones.
const PAST_MAX: usize = 12;

impl Redis {
    pub fn new(streams: usize, mut random: Random) -> Redis {
        let server = Server {
            run: random.number(),
            streams: vec![Stream::default(); streams],
            gone: false,
            refuses: Refuses::Nothing,
            hung_until: Moment::default(),
            past: VecDeque::new(),
        };
        Redis {
            random,
            servers: vec![server],
            current: 0,
            away_until: Moment::default(),
            connections: BTreeMap::new(),
            next_link: 0,
            wall_ms: 1_800_000_000_000,
            delay_max: 5,
            bytes_max: 1 << 20,
            done: Vec::new(),
            broken: false,
            set_back: false,
            forgetful: false,
        }
    }

    fn host(&self, server: usize, now: Moment) -> Host {
        let wall_ms = self.wall_ms + (now.nanos() / 1_000_000) as i64;
        let server = &self.servers[server];
        let (run, refuses) = (server.run, server.refuses);
        Host { run, wall_ms: wall_ms.unsigned_abs(), refuses, bytes_max: self.bytes_max }
    }

    /// The streams of the server that nodes are to agree with in the end.
    pub fn truth(&self) -> &[Stream] {
        &self.servers[self.current].streams
    }

    fn delay(&mut self) -> Duration {
        let most = self.delay_max * 1000;
        Duration::from_micros(self.random.between(most / 20, most) as u64)
    }

    /// Connects, if there is somebody.
    pub fn connect(&mut self, now: Moment) -> Option<Link> {
        if now < self.away_until {
            return None;
        }
        let link = Link(self.next_link);
        self.next_link += 1;
        let connection = Connection {
            server: self.current,
            requests: VecDeque::new(),
            answers: VecDeque::new(),
            left: false,
            cut: None,
        };
        self.connections.insert(link, connection);
        Some(link)
    }

    pub fn send(&mut self, link: Link, now: Moment, request: Request) {
        let at = now.after(self.delay());
        let Some(connection) = self.connections.get_mut(&link) else { return };
        if connection.cut.is_none() {
            let last = connection.requests.back().map_or(at, |(last, _)| at.max(*last));
            connection.requests.push_back((last, request));
        }
    }

    /// The next answer that has arrived. An error says that the connection has ended.
    #[allow(clippy::result_unit_err, reason = "there is nothing to say about it")]
    pub fn receive(&mut self, link: Link, now: Moment) -> Result<Option<Answer>, ()> {
        let connection = self.connections.get_mut(&link).ok_or(())?;
        if connection.answers.front().is_some_and(|(at, _)| *at <= now) {
            return Ok(connection.answers.pop_front().map(|(_, answer)| answer));
        }
        if connection.cut == Some(true) { Err(()) } else { Ok(None) }
    }

    /// The client closes its end. What it has sent may still be carried out.
    pub fn close(&mut self, link: Link) {
        let late = self.random.chance(50);
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.left = true;
            if !late {
                self.connections.remove(&link);
            }
        }
    }

    /// Carries out what has arrived.
    pub fn step(&mut self, now: Moment) {
        let mut links: Vec<Link> = self.connections.keys().copied().collect();
        while !links.is_empty() {
            let at = self.random.below(links.len());
            let link = links.swap_remove(at);
            while self.step_one(link, now) {}
            let over =
                |one: &Connection| one.requests.is_empty() && (one.left || one.cut.is_some());
            if self.connections.get(&link).is_some_and(|one| one.left && over(one)) {
                self.connections.remove(&link);
            }
        }
    }

    fn step_one(&mut self, link: Link, now: Moment) -> bool {
        let Some(connection) = self.connections.get_mut(&link) else { return false };
        let server = connection.server;
        if self.servers[server].gone {
            connection.requests.clear();
            connection.cut.get_or_insert(true);
            return false;
        }
        let due = connection.requests.front().is_some_and(|(at, _)| *at <= now);
        if !due || self.servers[server].hung_until > now {
            return false;
        }
        let Some((at, request)) = connection.requests.pop_front() else { return false };
        if let Request::Read(cursors) = &request {
            let found = self.read(server, cursors);
            let answer = if found.is_empty() && now.since(at) < BUS_BLOCK {
                None
            } else {
                Some(Answer::Entries(found))
            };
            let Some(answer) = answer else {
                let connection = self.connections.get_mut(&link).expect("it was there");
                connection.requests.push_front((at, request));
                return false;
            };
            self.answer(link, now, answer);
            return true;
        }
        let answer = self.carry_out(server, request, now);
        self.answer(link, now, answer);
        true
    }

    fn answer(&mut self, link: Link, now: Moment, answer: Answer) {
        let at = now.after(self.delay());
        let connection = self.connections.get_mut(&link).expect("it was there");
        if !connection.left && connection.cut.is_none() {
            let last = connection.answers.back().map_or(at, |(last, _)| at.max(*last));
            connection.answers.push_back((last, answer));
        }
    }

    fn read(&self, server: usize, cursors: &[EntryId]) -> Vec<(usize, Vec<Entry>)> {
        let streams = self.servers[server].streams.iter().zip(cursors).enumerate();
        let found =
            streams.map(|(at, (stream, cursor))| (at, stream.read(*cursor, BUS_READ_ENTRIES_MAX)));
        found.filter(|(_, entries)| !entries.is_empty()).collect()
    }

    fn carry_out(&mut self, server: usize, request: Request, now: Moment) -> Answer {
        let host = self.host(server, now);
        match request {
            Request::Fence { stream, seen } => {
                self.remember(server, stream);
                let id = self.servers[server].streams[stream].fence(host, seen);
                log(now, || format!("server {server} fences stream {stream} above {seen}: {id:?}"));
                let run = RunId::new(host.run);
                Answer::Fenced(id.map(|id| Fenced { id, run }))
            }
            Request::Append(append) => {
                self.remember(server, append.stream);
                let result = self.servers[server].streams[append.stream].append(host, &append);
                log(now, || {
                    let result = result
                        .as_ref()
                        .map(|(appended, taken)| (taken.len(), appended.positions.clone()));
                    let (publisher, number) = (append.publisher, append.number);
                    let count = append.publications.len();
                    format!(
                        "server {server} appends to stream {} batch {number} of {publisher:x}, \
                         {count} publications: {result:?}",
                        append.stream
                    )
                });
                let result = result.map(|(appended, taken)| {
                    self.done.push(Done { append, taken });
                    appended
                });
                Answer::Appended(result)
            }
            Request::Tops(tops) => {
                let stand = self.servers[server].streams[tops.stream].tops(host, &tops);
                log(now, || format!("server {server} says of {:?}: {stand:?}", tops.channels));
                Answer::Located(stand)
            }
            Request::Older(older) => {
                let found = self.servers[server].streams[older.stream].older(host, &older);
                log(now, || format!("server {server} has of {:?}: {found:?}", older.channels));
                Answer::Found(found)
            }
            Request::Look(stream) => {
                let tail = self.servers[server].streams[stream].tail();
                Answer::Tail(RunId::new(host.run), Tail(tail))
            }
            Request::Probe(probe) => {
                let result = self.servers[server].streams[probe.stream].probe(host);
                log(now, || format!("server {server} is probed: {result:?}"));
                Answer::Probed(result)
            }
            Request::Read(_) => unreachable!("reads may wait"),
        }
    }

    fn remember(&mut self, server: usize, stream: usize) {
        let server = &mut self.servers[server];
        server.past.push_back((stream, server.streams[stream].clone()));
        if server.past.len() > PAST_MAX {
            server.past.pop_front();
        }
    }
}

/// What goes wrong.
impl Redis {
    /// One connection breaks, before or after what is on its way; `silently` if the client is not
    /// told.
    pub fn cut(&mut self, link: Link, silently: bool) {
        let before = self.random.chance(50);
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.cut = Some(!silently);
            connection.answers.clear();
            if before {
                connection.requests.clear();
            }
        }
    }

    /// One connection leads to another living server from now on, as behind a proxy that looks into
    /// what it passes. Answers which, if there is one.
    pub fn move_link(&mut self, link: Link) -> Option<usize> {
        let from = self.server_of(link)?;
        let others = (0..self.servers.len()).filter(|&at| at != from && !self.servers[at].gone);
        let others: Vec<usize> = others.collect();
        if others.is_empty() {
            return None;
        }
        let to = others[self.random.below(others.len())];
        self.connections.get_mut(&link).expect("it leads somewhere").server = to;
        self.broken = true;
        Some(to)
    }

    /// Where a connection leads.
    pub fn server_of(&self, link: Link) -> Option<usize> {
        self.connections.get(&link).map(|connection| connection.server)
    }

    /// Connections with a client at the other end.
    pub fn links(&self) -> Vec<Link> {
        let open = self.connections.iter().filter(|(_, one)| !one.left && one.cut.is_none());
        open.map(|(link, _)| *link).collect()
    }

    /// Another process takes the place of the present one. It has lost the last `lost` writes, or
    /// everything; the old one goes on for those who are connected to it if it `lingers`.
    pub fn replace(&mut self, now: Moment, (lost, lingers): (Option<usize>, bool), away: Duration) {
        let old = &self.servers[self.current];
        let mut streams = old.streams.clone();
        let mut past = old.past.clone();
        match lost {
            None => streams.iter_mut().for_each(|stream| *stream = Stream::default()),
            Some(lost) => {
                for _ in 0..lost {
                    let Some((stream, state)) = past.pop_back() else { break };
                    streams[stream] = state;
                }
            }
        }
        self.servers[self.current].gone = !lingers;
        let run = self.random.number();
        let (refuses, past) = (Refuses::Nothing, VecDeque::new());
        let hung_until = Moment::default();
        self.servers.push(Server { run, streams, gone: false, refuses, hung_until, past });
        self.current = self.servers.len() - 1;
        self.away_until = now.after(away);
        self.broken = true;
    }

    /// The present server loses its last `lost` writes and is the same process, as a primary is
    /// that was a replica of one with less for a while. Nobody stays connected.
    pub fn go_back(&mut self, lost: usize) {
        let server = &mut self.servers[self.current];
        for _ in 0..lost {
            let Some((stream, state)) = server.past.pop_back() else { break };
            server.streams[stream] = state;
        }
        self.broken = true;
        for link in self.links() {
            self.cut(link, false);
        }
    }

    /// Those who have lingered are gone.
    pub fn end_old(&mut self) {
        let current = self.current;
        self.servers[..current].iter_mut().for_each(|server| server.gone = true);
    }

    pub fn hang(&mut self, until: Moment) {
        self.servers[self.current].hung_until = until;
    }

    pub fn refuse(&mut self, what: Refuses) {
        self.servers[self.current].refuses = what;
    }

    /// The clock of all servers jumps.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_ms += by_ms;
        self.set_back |= by_ms < 0;
        self.forgetful |= by_ms >= IDEMPOTENCY_TTL.as_millis() as i64;
    }

    /// Something is done to all streams.
    pub fn harm(&mut self, act: impl FnMut(&mut Stream)) {
        self.servers[self.current].streams.iter_mut().for_each(act);
        self.broken = true;
    }

    pub fn streams_count(&self) -> usize {
        self.servers[self.current].streams.len()
    }

    pub fn harm_one(&mut self, stream: usize, act: impl FnOnce(&mut Stream)) {
        act(&mut self.servers[self.current].streams[stream]);
        self.broken = true;
    }
}
