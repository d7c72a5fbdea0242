//! A kernel that accepts every write in full and delivers prepared input. It is the minimum that a
//! shard's code needs to run.

use corecast::ids::{Moment, Tick};
use corecast::kernel::ConnectionKey;
use corecast::kernel::{Ready, Received, Release, Socket, Sockets, Write, Wrote};
use corecast::proxies::Peer;

/// Centrifugo's ping, as a frame from the server.
const PING: &[u8] = b"\x81\x02{}";

/// The input and the key of one client, by the number of its socket.
#[derive(Default)]
struct Client {
    key: Option<ConnectionKey>,
    said: Vec<u8>,
}

/// The kernel of one shard.
#[derive(Default)]
pub(crate) struct Accepting {
    clients: Vec<Client>,
    news: Vec<Ready>,
    now: Moment,
    ticked: bool,
    /// The clients' answer to pings. While it is empty, pings are not searched for.
    pong: Vec<u8>,
    writes: usize,
}

impl Accepting {
    /// Returns the socket of a new client.
    pub(crate) fn open(&mut self) -> Socket {
        self.clients.push(Client::default());
        Socket::new(self.clients.len() as i32 - 1)
    }

    /// Returns the number of sockets.
    pub(crate) fn count(&self) -> usize {
        self.clients.len()
    }

    /// Adds input of a client.
    pub(crate) fn say(&mut self, index: usize, bytes: &[u8]) {
        let client = &mut self.clients[index];
        client.said.extend_from_slice(bytes);
        let key = client.key.expect("the socket is watched");
        self.news.push(Ready { key, readable: true, writable: false, hangup: false, ended: false });
    }

    /// Makes clients answer pings with `pong`.
    pub(crate) fn answer_pings(&mut self, pong: Vec<u8>) {
        self.pong = pong;
    }

    /// Advances time by one tick.
    pub(crate) fn tick(&mut self) {
        self.now = self.now.after(Tick::PERIOD);
        self.ticked = true;
    }

    /// Returns the number of writes since the last call.
    pub(crate) fn take_writes(&mut self) -> usize {
        std::mem::take(&mut self.writes)
    }
}

impl Sockets for Accepting {
    fn watch(&mut self, socket: Socket, key: ConnectionKey) {
        self.clients[socket.number() as usize].key = Some(key);
    }

    fn peer(&self, _socket: Socket) -> Option<Peer> {
        None
    }

    fn receive(&mut self, socket: Socket, buffer: &mut [u8]) -> Received {
        let said = &mut self.clients[socket.number() as usize].said;
        if said.is_empty() {
            return Received::Nothing;
        }
        assert!(said.len() <= buffer.len(), "it fits one receive");
        buffer[..said.len()].copy_from_slice(said);
        let count = said.len();
        // A client without input keeps no memory, like the kernel's socket.
        *said = Vec::new();
        Received::Bytes(count)
    }

    fn send(&mut self, writes: &[Write<'_>], results: &mut Vec<Wrote>) {
        self.writes += writes.len();
        results.extend(writes.iter().map(|write| Wrote::Bytes(write.bytes.len())));
        if self.pong.is_empty() {
            return;
        }
        let pong = std::mem::take(&mut self.pong);
        for write in writes.iter().filter(|write| write.bytes == PING) {
            self.say(write.socket.number() as usize, &pong);
        }
        self.pong = pong;
    }

    fn has_sent_all(&self, _: Socket) -> bool {
        true
    }

    fn finish(&mut self, socket: Socket) {
        panic!("{socket:?} is to stay");
    }

    fn release(&mut self, socket: Socket, _: ConnectionKey, how: Release) {
        panic!("{socket:?} is to stay, not to end by {how:?}");
    }

    fn close(&mut self, socket: Socket) {
        panic!("{socket:?} is to stay");
    }

    fn poll(&mut self, ready: &mut Vec<Ready>) {
        ready.append(&mut self.news);
    }

    fn take_tick(&mut self) -> bool {
        std::mem::take(&mut self.ticked)
    }

    fn now(&self) -> Moment {
        self.now
    }

    fn is_open(&self, socket: Socket) -> bool {
        (socket.number() as usize) < self.clients.len()
    }
}
