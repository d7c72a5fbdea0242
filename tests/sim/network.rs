//! Simulated TCP: bounded buffers, short writes, late and reordered events, peers that reset or
//! vanish, and immediate reuse of descriptor numbers. Errors that a kernel would punish (use of a
//! closed descriptor, a close under a watch) panic.

use std::collections::VecDeque;
use std::time::Duration;

use corecast::ids::{Moment, Tick};
use corecast::kernel::{ConnectionKey, Ready, Received, Release, Socket, Write, Wrote};
use corecast::subnets::Subnet;

use super::random::Random;

/// One TCP connection, for the whole schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(usize);

/// Minimum room for bytes to a client on a link without faults.
const CALM_BYTES_MAX: usize = 64 * 1024;

/// The faults of the network, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Writes that are accepted only in part although there is room.
    pub short_writes: usize,
    /// Events that are delayed until another delivery.
    pub late_news: usize,
    /// Events that overtake those of other sockets.
    pub swapped_news: usize,
    /// Events without a cause.
    pub idle_news: usize,
    /// Writes that fail for lack of memory, although no bytes wait for the peer.
    pub no_memory: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Open,
    /// The peer has ended its stream, but still reads.
    Finished,
    /// The peer has closed its socket, and answers with a reset.
    Gone,
    /// The connection is reset.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    None,
    On(ConnectionKey),
    /// The watch has ended, but the shard has not received this event yet.
    Ending(ConnectionKey),
}

struct Link {
    shard: usize,
    socket: Option<Socket>,
    accepted: bool,
    up: VecDeque<u8>,
    up_bytes_max: usize,
    down: VecDeque<u8>,
    down_bytes_max: usize,
    watch: Watch,
    /// A write was not accepted in full, so free room is an event.
    wants_room: bool,
    /// The server has ended its stream.
    finished: bool,
    released: Option<Release>,
    /// The server has closed its socket.
    closed: bool,
    /// The client will see a reset.
    reset: bool,
    peer: Peer,
}

/// Returns the subnet of a client: one of more networks than a small table has rows, or this host.
fn subnet(link: LinkId) -> Subnet {
    match link.0 % 12 {
        0 => Subnet::EXEMPT,
        number => Subnet::of_ipv4([10, 0, number as u8, 1]),
    }
}

struct News {
    link: LinkId,
    ready: Ready,
}

/// The state of one shard's kernel.
#[derive(Default)]
struct Desk {
    descriptors: Vec<Option<LinkId>>,
    backlog: VecDeque<LinkId>,
    travelling: VecDeque<News>,
    arrived: VecDeque<News>,
    next_tick: Moment,
    ticked: bool,
}

/// The result of a client's read.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Bytes(Vec<u8>),
    Nothing,
    End,
    Reset,
}

pub struct Network {
    pub random: Random,
    pub weather: Weather,
    now: Moment,
    links: Vec<Link>,
    desks: Vec<Desk>,
}

impl Network {
    pub fn new(shards: usize, random: Random) -> Network {
        // Not 0, because a real shard has always been running for some time.
        let now = Moment::default().after(Duration::from_secs(1));
        let desks = (0..shards).map(|_| Desk::default()).collect();
        Network { random, weather: Weather::default(), now, links: Vec::new(), desks }
    }

    pub fn now(&self) -> Moment {
        self.now
    }

    /// Advances time. Each shard's timer ticks at most once.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now.after(by);
        for desk in &mut self.desks {
            if self.now >= desk.next_tick {
                desk.ticked = true;
                desk.next_tick = self.now.after(Tick::PERIOD);
            }
        }
    }

    /// Delivers some of the pending events to a shard, in order for each socket.
    pub fn deliver(&mut self, shard: usize) {
        let weather = self.weather;
        let mut held: Vec<LinkId> = Vec::new();
        let mut kept = VecDeque::new();
        while let Some(news) = self.desks[shard].travelling.pop_front() {
            let late = held.contains(&news.link) || self.random.chance(weather.late_news);
            let arrived = &mut self.desks[shard].arrived;
            if late {
                held.push(news.link);
                kept.push_back(news);
            } else if self.random.chance(weather.swapped_news)
                && arrived.iter().all(|other| other.link != news.link)
            {
                arrived.push_front(news);
            } else {
                arrived.push_back(news);
            }
        }
        self.desks[shard].travelling = kept;
    }

    /// Whether an event would wake a shard.
    pub fn has_news(&self, shard: usize) -> bool {
        let desk = &self.desks[shard];
        desk.ticked || !desk.arrived.is_empty() || !desk.backlog.is_empty()
    }

    /// Whether no event is pending for any shard.
    pub fn is_quiet(&self) -> bool {
        self.desks.iter().all(|desk| {
            desk.travelling.is_empty() && desk.arrived.is_empty() && desk.backlog.is_empty()
        })
    }

    /// Returns the number of open descriptors of a shard.
    pub fn open_count(&self, shard: usize) -> usize {
        self.desks[shard].descriptors.iter().flatten().count()
    }

    fn tell(&mut self, link: LinkId, (readable, writable, hangup): (bool, bool, bool)) {
        let found = &self.links[link.0];
        let Watch::On(key) = found.watch else { return };
        let ready = Ready { key, readable, writable, hangup, ended: false };
        self.push_news(link, ready);
    }

    fn push_news(&mut self, link: LinkId, ready: Ready) {
        let merge = self.random.chance(50);
        let travelling = &mut self.desks[self.links[link.0].shard].travelling;
        let last = travelling.iter_mut().rev().find(|news| news.link == link);
        match last {
            Some(News { ready: last, .. }) if merge && !last.ended && last.key == ready.key => {
                last.readable |= ready.readable;
                last.writable |= ready.writable;
                last.hangup |= ready.hangup;
                last.ended |= ready.ended;
            }
            _ => travelling.push_back(News { link, ready }),
        }
    }
}

/// The clients' side.
impl Network {
    /// Opens a connection to a shard. It waits there to be accepted.
    pub fn connect(
        &mut self,
        shard: usize,
        (up_bytes_max, down_bytes_max): (usize, usize),
    ) -> LinkId {
        let link = LinkId(self.links.len());
        self.links.push(Link {
            shard,
            socket: None,
            accepted: false,
            up: VecDeque::new(),
            up_bytes_max,
            down: VecDeque::new(),
            down_bytes_max,
            watch: Watch::None,
            wants_room: false,
            finished: false,
            released: None,
            closed: false,
            reset: false,
            peer: Peer::Open,
        });
        self.desks[shard].backlog.push_back(link);
        link
    }

    /// Sends as much as there is room for. Returns the number of bytes sent.
    pub fn give(&mut self, link: LinkId, bytes: &[u8]) -> usize {
        let found = &mut self.links[link.0];
        if found.closed || found.reset || found.released.is_some() {
            found.reset |= found.released.is_none() || self.random.chance(30);
            return bytes.len(); // Accepted and dropped, and perhaps answered with a reset.
        }
        let count = bytes.len().min(found.up_bytes_max - found.up.len());
        if count > 0 {
            found.up.extend(&bytes[..count]);
            self.tell(link, (true, false, false));
        }
        count
    }

    /// Ends all faults. Narrow links become wide, because a client with large answers would
    /// otherwise wait for an hour.
    pub fn calm(&mut self) {
        self.weather = Weather::default();
        for link in &mut self.links {
            link.down_bytes_max = link.down_bytes_max.max(CALM_BYTES_MAX);
        }
    }

    /// Reads at most `bytes_max` bytes.
    pub fn take(&mut self, link: LinkId, bytes_max: usize) -> Taken {
        let found = &mut self.links[link.0];
        if !found.down.is_empty() {
            let count = found.down.len().min(bytes_max);
            let bytes = found.down.drain(..count).collect();
            if std::mem::take(&mut found.wants_room) {
                self.tell(link, (false, true, false));
            }
            return Taken::Bytes(bytes);
        }
        if found.reset {
            Taken::Reset
        } else if found.finished {
            Taken::End
        } else {
            Taken::Nothing
        }
    }

    /// Ends the client's stream. The client may still read.
    pub fn finish_client(&mut self, link: LinkId) {
        self.leave(link, Peer::Finished);
    }

    /// Closes the client's socket.
    pub fn close_client(&mut self, link: LinkId) {
        self.leave(link, Peer::Gone);
    }

    /// Resets the connection. Data on its way may be lost, in both directions.
    pub fn reset_client(&mut self, link: LinkId) {
        if self.random.chance(50) {
            self.links[link.0].up.clear();
        }
        self.links[link.0].down.clear();
        self.links[link.0].reset = true;
        self.leave(link, Peer::Reset);
    }

    fn leave(&mut self, link: LinkId, how: Peer) {
        self.links[link.0].peer = how;
        let failed = how == Peer::Reset;
        self.tell(link, (true, failed, true));
    }

    /// Whether the server has closed its socket.
    pub fn is_closed(&self, link: LinkId) -> bool {
        self.links[link.0].closed
    }

    /// Whether bytes wait for the client or the server.
    pub fn has_bytes(&self, link: LinkId) -> bool {
        let found = &self.links[link.0];
        !found.up.is_empty() || !found.down.is_empty()
    }
}

/// The shards' side.
impl Network {
    fn link(&self, shard: usize, socket: Socket) -> LinkId {
        let number = usize::try_from(socket.number()).expect("a descriptor's number");
        let link = self.desks[shard].descriptors.get(number).copied().flatten();
        link.unwrap_or_else(|| panic!("shard {shard} uses descriptor {number}, which is closed"))
    }

    /// Accepts a client from the queue. Its descriptor is the smallest free number.
    pub fn accept(&mut self, shard: usize) -> Option<(Socket, Subnet)> {
        let desk = &mut self.desks[shard];
        let link = desk.backlog.pop_front()?;
        let number = desk.descriptors.iter().position(Option::is_none).unwrap_or_else(|| {
            desk.descriptors.push(None);
            desk.descriptors.len() - 1
        });
        desk.descriptors[number] = Some(link);
        let socket = Socket::new(number as i32);
        let found = &mut self.links[link.0];
        (found.socket, found.accepted) = (Some(socket), true);
        Some((socket, subnet(link)))
    }

    /// Closes a socket that no shard has accepted.
    pub fn refuse(&mut self, shard: usize, socket: Socket) {
        self.close(shard, socket);
    }

    pub fn watch(&mut self, shard: usize, socket: Socket, key: ConnectionKey) {
        let link = self.link(shard, socket);
        let found = &mut self.links[link.0];
        assert_eq!(found.watch, Watch::None, "{link:?} is watched once at a time");
        assert!(found.released.is_none(), "{link:?} is released and can't be watched");
        found.watch = Watch::On(key);
        // A new watch reports existing events at once.
        let hangup = found.peer != Peer::Open;
        let readable = hangup || !found.up.is_empty();
        self.tell(link, (readable, true, hangup));
    }

    /// Ends a watch like a kernel that gives it up. Its undelivered events are lost.
    pub fn end_watch(&mut self, link: LinkId) {
        let found = &mut self.links[link.0];
        if let Watch::On(key) = found.watch {
            found.watch = Watch::Ending(key);
            let shard = found.shard;
            self.desks[shard].travelling.retain(|news| news.link != link);
            self.push_news(link, ended(key));
        }
    }

    pub fn receive(&mut self, shard: usize, socket: Socket, buffer: &mut [u8]) -> Received {
        let link = self.link(shard, socket);
        let found = &mut self.links[link.0];
        assert!(found.released.is_none(), "{link:?} is released and can't be read");
        let count = found.up.len().min(buffer.len());
        if count > 0 {
            for (to, from) in buffer.iter_mut().zip(found.up.drain(..count)) {
                *to = from;
            }
            return Received::Bytes(count);
        }
        match found.peer {
            Peer::Open => Received::Nothing,
            Peer::Finished | Peer::Gone => Received::End,
            Peer::Reset => Received::Gone,
        }
    }

    pub fn send(&mut self, shard: usize, write: &Write<'_>) -> Wrote {
        let link = self.link(shard, write.socket);
        assert!(!write.bytes.is_empty(), "{link:?} is sent at least a byte");
        let short = self.random.chance(self.weather.short_writes);
        let share = self.random.between(1, write.bytes.len());
        let idle = self.random.chance(self.weather.idle_news);
        let no_memory = self.weather.no_memory > 0 && self.random.chance(self.weather.no_memory);
        let found = &mut self.links[link.0];
        assert!(found.released.is_none(), "{link:?} is released and can't be written");
        assert!(!found.finished, "{link:?} has been finished and can't be written");
        match found.peer {
            Peer::Open | Peer::Finished => {}
            Peer::Gone => {
                // The peer answers with a reset.
                found.peer = Peer::Reset;
                self.tell(link, (true, true, true));
                return Wrote::Bytes(write.bytes.len());
            }
            Peer::Reset => return Wrote::Gone,
        }
        if no_memory && found.down.is_empty() {
            return Wrote::Blocked;
        }
        let room = found.down_bytes_max - found.down.len();
        let count = room.min(if short { share } else { write.bytes.len() });
        found.down.extend(&write.bytes[..count]);
        if count < write.bytes.len() {
            found.wants_room = true;
            if count < room {
                found.wants_room = false;
                self.tell(link, (false, true, false));
            }
        } else if idle {
            self.tell(link, (true, true, false));
        }
        if count == 0 { Wrote::Blocked } else { Wrote::Bytes(count) }
    }

    /// Whether the client has read everything sent to it.
    pub fn has_sent_all(&self, shard: usize, socket: Socket) -> bool {
        self.links[self.link(shard, socket).0].down.is_empty()
    }

    pub fn finish(&mut self, shard: usize, socket: Socket) {
        let link = self.link(shard, socket);
        let found = &mut self.links[link.0];
        assert!(found.released.is_none(), "{link:?} is released and can't be finished");
        found.finished = true;
        if found.peer == Peer::Finished {
            self.tell(link, (true, true, true));
        }
    }

    pub fn release(&mut self, shard: usize, socket: Socket, key: ConnectionKey, how: Release) {
        let link = self.link(shard, socket);
        let found = &mut self.links[link.0];
        assert!(found.released.is_none(), "{link:?} is released once");
        found.released = Some(how);
        found.finished |= how == Release::Graceful;
        match found.watch {
            Watch::On(watching) => {
                assert_eq!(watching, key, "{link:?} is released by its tenant");
                found.watch = Watch::Ending(key);
                self.push_news(link, ended(key));
            }
            Watch::Ending(watching) => {
                assert_eq!(watching, key, "{link:?} is released by its tenant");
            }
            Watch::None => {
                panic!("{link:?} is released without a watch, and would never be closed")
            }
        }
    }

    pub fn close(&mut self, shard: usize, socket: Socket) {
        let link = self.link(shard, socket);
        let found = &mut self.links[link.0];
        assert_eq!(found.watch, Watch::None, "{link:?} is closed under its watch");
        found.closed = true;
        found.socket = None;
        // Unread bytes turn a close into a reset, which may overtake the data sent before.
        let lost = found.released != Some(Release::Graceful) || !found.up.is_empty();
        if lost {
            found.reset = true;
            let left = self.random.below(found.down.len() + 1);
            found.down.truncate(left);
        }
        found.finished = true;
        self.desks[shard].descriptors[socket.number() as usize] = None;
    }

    /// Takes the events that have arrived.
    pub fn poll(&mut self, shard: usize, ready: &mut Vec<Ready>) {
        while let Some(news) = self.desks[shard].arrived.pop_front() {
            if news.ready.ended {
                self.links[news.link.0].watch = Watch::None;
            }
            ready.push(news.ready);
        }
    }

    pub fn take_tick(&mut self, shard: usize) -> bool {
        std::mem::take(&mut self.desks[shard].ticked)
    }

    pub fn is_open(&self, shard: usize, socket: Socket) -> bool {
        let number = usize::try_from(socket.number());
        number.is_ok_and(|number| {
            self.desks[shard].descriptors.get(number).copied().flatten().is_some()
        })
    }
}

fn ended(key: ConnectionKey) -> Ready {
    Ready { key, readable: false, writable: false, hangup: false, ended: true }
}
