//! Clients of proxies that have to wait. A proxy names its client in the first bytes of a
//! connection, so the client counts for its own network as soon as they arrive. Until then it waits
//! here.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::waiting::Client;
use crate::ids::Moment;
use crate::limits::{
    ACCEPT_LOOK_INTERVAL, ACCEPT_UNNAMED_MAX, ACCEPT_UNNAMED_TIME, PROXY_HEADER_BYTES_MAX,
    SETTING_HANDSHAKE_BYTES_MAX,
};
use crate::metrics::ShardCounters;
use crate::proxies::{First, Peer, Proxies, first_client};
use crate::shard::guarded;
use crate::subnets::Subnet;
use crate::sys;

/// The queue of one shard.
pub(super) struct Unnamed {
    proxies: Proxies,
    queue: VecDeque<Nameless>,
    /// The time at which the queue was looked through.
    looked: Moment,
    /// Bytes of a proxy. It is empty as long as no client of a proxy has had to wait.
    buffer: Vec<u8>,
    counters: Arc<ShardCounters>,
}

/// A socket whose proxy has not named the client.
struct Nameless {
    socket: OwnedFd,
    /// When it was accepted.
    since: Moment,
}

impl Unnamed {
    pub(super) fn new(proxies: Proxies, counters: Arc<ShardCounters>) -> Unnamed {
        let (queue, buffer) = (VecDeque::new(), Vec::new());
        Unnamed { proxies, queue, looked: Moment::default(), buffer, counters }
    }

    /// Returns the subnet of a peer, for which its connection counts unless it is a proxy.
    pub(super) fn subnet(&self, peer: Peer) -> Subnet {
        let address = peer.address().filter(|_| !self.proxies.contains(peer));
        address.map_or(Subnet::EXEMPT, Subnet::of)
    }

    /// Returns the client of a new socket, or the socket if its proxy has not named the client yet.
    pub(super) fn name(&mut self, socket: OwnedFd, peer: Peer) -> Result<Client, OwnedFd> {
        if !self.proxies.contains(peer) {
            return Ok(Client { socket, subnet: self.subnet(peer) });
        }
        match self.read(socket.as_fd()) {
            First::Incomplete => Err(socket),
            First::Client(client) => Ok(Client { socket, subnet: subnet_of(client) }),
        }
    }

    /// Number of sockets in the queue.
    pub(super) fn count(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is room for one more socket, or the oldest one has had its time.
    pub(super) fn has_room(&self, now: Moment) -> bool {
        let waited = self.queue.front().map(|oldest| now.since(oldest.since));
        self.queue.len() < ACCEPT_UNNAMED_MAX
            || waited.is_some_and(|waited| waited >= ACCEPT_UNNAMED_TIME)
    }

    /// Adds a socket that was accepted at `now`.
    pub(super) fn push(&mut self, socket: OwnedFd, now: Moment) {
        self.queue.push_back(Nameless { socket, since: now });
    }

    /// Removes and returns the oldest socket.
    pub(super) fn pop(&mut self) -> Option<Client> {
        let Nameless { socket, .. } = self.queue.pop_front()?;
        Some(Client { socket, subnet: Subnet::EXEMPT })
    }

    /// Removes and returns the clients that have been named since the last call. A call soon after
    /// another one returns none.
    pub(super) fn take_named(&mut self, now: Moment) -> Vec<Client> {
        let mut clients = Vec::new();
        if self.queue.is_empty() || now.since(self.looked) < ACCEPT_LOOK_INTERVAL {
            return clients;
        }
        self.looked = now;
        for nameless in std::mem::take(&mut self.queue) {
            match self.read(nameless.socket.as_fd()) {
                First::Incomplete => self.queue.push_back(nameless),
                First::Client(client) => {
                    let socket = nameless.socket;
                    clients.push(Client { socket, subnet: subnet_of(client) });
                }
            }
        }
        clients
    }

    /// Returns the address of a client, for the log. `None` on Unix sockets, unless a proxy has
    /// named it.
    pub(super) fn address(&mut self, socket: BorrowedFd<'_>) -> Option<IpAddr> {
        let peer = sys::peer(socket)?;
        match self.proxies.contains(peer).then(|| self.read(socket)) {
            Some(First::Client(Some(client))) => Some(client),
            Some(First::Client(None) | First::Incomplete) | None => peer.address(),
        }
    }

    /// Reads the bytes that wait in a proxy's socket. They stay there.
    fn read(&mut self, socket: BorrowedFd<'_>) -> First {
        self.buffer.resize(PROXY_HEADER_BYTES_MAX + SETTING_HANDSHAKE_BYTES_MAX, 0);
        let count = sys::peek(socket, &mut self.buffer);
        let bytes = &self.buffer[..count];
        guarded(|| first_client(bytes, &self.proxies)).unwrap_or_else(|_panicked| {
            self.counters.panics.add(1);
            First::Incomplete
        })
    }
}

/// The subnet of a client that a proxy has named. Its own checks have no client.
fn subnet_of(client: Option<IpAddr>) -> Subnet {
    client.map_or(Subnet::EXEMPT, Subnet::of)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_client_counts_for_its_own_network_once_its_proxy_has_named_it() {
        let proxies = Proxies::parse(&["unix".to_owned(), "10.0.0.0/8".to_owned()]).unwrap();
        let mut unnamed = Unnamed::new(proxies, Arc::default());
        for (peer, exempt) in [("10.1.2.3", true), ("192.0.2.1", false), ("127.0.0.1", true)] {
            assert_eq!(unnamed.subnet(Peer::of(address(peer))).is_exempt(), exempt, "{peer}");
        }
        let (mut proxy, socket) = UnixStream::pair().unwrap();
        let socket = unnamed.name(socket.into(), Peer::Unix).unwrap_err();
        assert_eq!(unnamed.address(socket.as_fd()), None);
        unnamed.push(socket, at(10));
        assert!(unnamed.take_named(at(10)).is_empty() && unnamed.count() == 1);
        proxy.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 1\r\n").unwrap();
        assert!(unnamed.take_named(at(10)).is_empty(), "it was looked through just now");
        let mut clients = unnamed.take_named(at(20));
        let Client { socket, subnet } = clients.pop().unwrap();
        assert_eq!((subnet, unnamed.count()), (Subnet::of(address("192.0.2.7")), 0));
        assert_eq!(unnamed.address(socket.as_fd()), Some(address("192.0.2.7")));
        let again = unnamed.name(socket, Peer::Unix).unwrap();
        assert_eq!(again.subnet, subnet);
        let stranger = unnamed.name(again.socket, Peer::of(address("198.51.100.1"))).unwrap();
        assert_eq!(stranger.subnet, Subnet::of(address("198.51.100.1")), "it is no proxy");
        let mut left = [0; 6];
        UnixStream::from(stranger.socket).read_exact(&mut left).unwrap();
        assert_eq!(&left, b"PROXY ", "the bytes stay for the connection");
    }

    #[test]
    fn where_there_is_no_room_the_oldest_must_have_had_its_time() {
        let proxies = Proxies::parse(&["unix".to_owned()]).unwrap();
        let mut unnamed = Unnamed::new(proxies, Arc::default());
        for number in 0..ACCEPT_UNNAMED_MAX {
            assert!(unnamed.has_room(at(0)), "{number}");
            let (socket, _) = UnixStream::pair().unwrap();
            unnamed.push(socket.into(), at(0));
        }
        assert!(!unnamed.has_room(at(19)) && unnamed.has_room(at(20)));
    }

    #[test]
    fn without_proxies_nothing_is_read() {
        let mut unnamed = Unnamed::new(Proxies::default(), Arc::default());
        let (mut peer, socket) = UnixStream::pair().unwrap();
        peer.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 1\r\n").unwrap();
        let client = unnamed.name(socket.into(), Peer::Unix).unwrap();
        assert!(client.subnet.is_exempt());
        assert_eq!(unnamed.address(client.socket.as_fd()), None);
        assert_eq!(unnamed.buffer.capacity(), 0);
    }
}
