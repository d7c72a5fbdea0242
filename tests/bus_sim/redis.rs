//! Redis as nodes see it: servers that are replaced behind one address, connections that delay,
//! break, or break silently, and requests that are carried out although the client has
//! disconnected.

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
    /// A blocking `XREAD` with a cursor for each stream.
    Read(Vec<EntryId>),
    /// `tail.lua`.
    Look(usize),
    Probe(Probe),
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// `None` if the server refuses.
    Fenced(Option<Fenced>),
    Appended(Result<Appended, AppendFailed>),
    /// `None` if the stream belongs to another process.
    Located(Option<Stand>),
    /// `None` if the stream belongs to another process.
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
    /// The client has closed its end. The server may still have requests of it.
    left: bool,
    /// The connection is cut. The value says whether the client has been told.
    cut: Option<bool>,
}

struct Server {
    run: u64,
    streams: Vec<Stream>,
    /// The server has ended for good.
    gone: bool,
    refuses: Refuses,
    /// The server hangs until this time.
    hung_until: Moment,
    /// Earlier states of its streams, before its last writes.
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
    /// The server behind the address.
    current: usize,
    /// Connecting fails until this time.
    away_until: Moment,
    connections: BTreeMap<Link, Connection>,
    next_link: u64,
    /// Milliseconds since 1970 at the start, by the clock of the present server.
    wall_ms: i64,
    /// Maximum delay of a message in milliseconds.
    pub delay_max: usize,
    pub bytes_max: usize,
    /// Appends since the last check.
    pub done: Vec<Done>,
    /// Data was lost, or a server has replaced another one.
    pub broken: bool,
    /// The clock was set back: remembered epochs are higher than those of the clock, and forgotten
    /// ones could be repeated.
    pub set_back: bool,
    /// The clock has jumped so far that keys with a lifetime have expired.
    pub forgetful: bool,
}

/// Number of earlier stream states that are kept, for failovers that lose the last writes.
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

    /// Returns the streams of the server that all nodes must agree with in the end.
    pub fn truth(&self) -> &[Stream] {
        &self.servers[self.current].streams
    }

    fn delay(&mut self) -> Duration {
        let most = self.delay_max * 1000;
        Duration::from_micros(self.random.between(most / 20, most) as u64)
    }

    /// Connects, unless the address is unavailable.
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

    /// Returns the next answer that has arrived, or an error if the connection has ended.
    #[allow(clippy::result_unit_err, reason = "there is nothing to say about it")]
    pub fn receive(&mut self, link: Link, now: Moment) -> Result<Option<Answer>, ()> {
        let connection = self.connections.get_mut(&link).ok_or(())?;
        if connection.answers.front().is_some_and(|(at, _)| *at <= now) {
            return Ok(connection.answers.pop_front().map(|(_, answer)| answer));
        }
        if connection.cut == Some(true) { Err(()) } else { Ok(None) }
    }

    /// Closes the client's end. Its requests may still be carried out.
    pub fn close(&mut self, link: Link) {
        let late = self.random.chance(50);
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.left = true;
            if !late {
                self.connections.remove(&link);
            }
        }
    }

    /// Carries out requests that have arrived.
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
                let fenced = self.servers[server].streams[stream].fence(host, seen);
                log(now, || {
                    format!("server {server} fences stream {stream} above {seen}: {fenced:?}")
                });
                Answer::Fenced(fenced)
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

/// Faults.
impl Redis {
    /// Breaks one connection, before or after messages on their way. With `silently` the client is
    /// not told.
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

    /// Connects one link to another living server from now on, like a proxy that distributes
    /// requests. Returns that server, if there is one.
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

    /// Returns the server of a connection.
    pub fn server_of(&self, link: Link) -> Option<usize> {
        self.connections.get(&link).map(|connection| connection.server)
    }

    /// Returns connections whose client end is open.
    pub fn links(&self) -> Vec<Link> {
        let open = self.connections.iter().filter(|(_, one)| !one.left && one.cut.is_none());
        open.map(|(link, _)| *link).collect()
    }

    /// Replaces the present server by another process, which has lost the last `lost` writes, or
    /// everything. If the old one `lingers`, it still serves its connections.
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

    /// Makes the present server lose its last `lost` writes without a new process. This happens to
    /// a primary that was the replica of an older state for a while. All connections end.
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

    /// Ends lingering servers.
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

    /// Moves the clock of all servers.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_ms += by_ms;
        self.set_back |= by_ms < 0;
        self.forgetful |= by_ms >= IDEMPOTENCY_TTL.as_millis() as i64;
    }

    /// Applies a fault to all streams.
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
