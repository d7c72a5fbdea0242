//! The table of a shard's connections. It consists of pages, which are added when needed and never
//! move, so growing copies nothing.

use core::net::{IpAddr, Ipv6Addr};

use super::{Connection, State};
use crate::ids::{Generation, Slot, Tick};
use crate::kernel::{ConnectionKey, Socket};
use crate::protocol::Protocol;
use crate::subnets::SubnetId;
use crate::wire::Wire;

/// Number of slots of a page: 64 KiB of connections, so that adding a page takes little time.
const PAGE_SLOTS: usize = 1024;

/// A page of connections. Their deadlines are separate, so that heartbeats read only 4 bytes per
/// connection. So are their subnets, which only limits need, and the addresses that proxies named,
/// which most servers do not need at all.
struct Page {
    connections: Box<[Connection]>,
    deadlines: Box<[Tick]>,
    subnets: Box<[SubnetId]>,
    /// The addresses of clients that a proxy named; unspecified for the others. `None` as long as
    /// there is none on the page.
    addresses: Option<Box<[Ipv6Addr]>>,
}

/// The table of a shard's connections.
#[derive(Default)]
pub struct Slots {
    pages: Vec<Page>,
    free: Vec<Slot>,
    used: usize,
    reached: usize,
}

impl Slots {
    /// Returns the number of connections in the table.
    pub fn count(&self) -> usize {
        self.used
    }

    /// Returns the number of slots that have ever been used. All connections are in slots below it.
    pub fn reached(&self) -> usize {
        self.reached
    }

    /// Adds a connection, which `subnet` has already counted.
    pub fn insert(
        &mut self,
        socket: Socket,
        subnet: SubnetId,
        now: Tick,
        deadline: Tick,
    ) -> ConnectionKey {
        let slot = self.free.pop().unwrap_or_else(|| self.insert_reach());
        let page = &mut self.pages[slot.index() / PAGE_SLOTS];
        let connection = &mut page.connections[slot.index() % PAGE_SLOTS];
        assert_eq!(connection.state, State::Vacant, "a free slot has no tenant");
        let generation = connection.generation.next();
        *connection = Connection::new(socket, generation, now);
        page.deadlines[slot.index() % PAGE_SLOTS] = deadline;
        page.subnets[slot.index() % PAGE_SLOTS] = subnet;
        if let Some(addresses) = &mut page.addresses {
            addresses[slot.index() % PAGE_SLOTS] = Ipv6Addr::UNSPECIFIED;
        }
        self.used += 1;
        ConnectionKey { slot, generation }
    }

    fn insert_reach(&mut self) -> Slot {
        let slot = Slot::new(self.reached);
        if self.reached == self.pages.len() * PAGE_SLOTS {
            let vacant = || Connection {
                state: State::Vacant,
                wire: Wire::websocket(Protocol::Plain),
                ..Connection::new(Socket::new(-1), Generation::new(0), Tick::default())
            };
            self.pages.push(Page {
                connections: std::iter::repeat_with(vacant).take(PAGE_SLOTS).collect(),
                deadlines: vec![Tick::NEVER; PAGE_SLOTS].into(),
                subnets: vec![SubnetId::EXEMPT; PAGE_SLOTS].into(),
                addresses: None,
            });
        }
        self.reached += 1;
        slot
    }

    /// Frees a slot. Returns the subnet of its connection, so that the caller can uncount it.
    pub fn remove(&mut self, slot: Slot) -> SubnetId {
        let page = &mut self.pages[slot.index() / PAGE_SLOTS];
        let connection = &mut page.connections[slot.index() % PAGE_SLOTS];
        assert_ne!(connection.state, State::Vacant, "the slot is already free");
        assert!(connection.busy.is_none(), "a freed slot holds no memory");
        assert!(connection.session.is_none(), "a freed slot has no subscriptions");
        connection.state = State::Vacant;
        page.deadlines[slot.index() % PAGE_SLOTS] = Tick::NEVER;
        let subnet = page.subnets[slot.index() % PAGE_SLOTS];
        self.free.push(slot);
        self.used -= 1;
        subnet
    }

    /// Returns the connection in a slot, if there is one.
    pub fn at(&mut self, slot: Slot) -> Option<&mut Connection> {
        let page = self.pages.get_mut(slot.index() / PAGE_SLOTS)?;
        let connection = &mut page.connections[slot.index() % PAGE_SLOTS];
        (connection.state != State::Vacant).then_some(connection)
    }

    /// Returns the connection with `key`, if it still exists.
    pub fn get(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        let stale = crate::sabotage!(StaleGeneration);
        self.at(key.slot).filter(|found| stale || found.generation == key.generation)
    }

    /// Returns the connection with `key`, which must exist. Within the handling of an event it
    /// does, because a slot is freed only between two events of its socket.
    ///
    /// # Panics
    /// If it no longer exists, because a key was kept for too long.
    #[expect(clippy::expect_used, reason = "no slot is freed during the handling of an event")]
    pub fn connection(&mut self, key: ConnectionKey) -> &mut Connection {
        self.get(key).expect("a connection keeps its slot during the handling of an event")
    }

    /// Returns the connection in a slot, which must have one.
    ///
    /// # Panics
    /// If the slot is free.
    #[expect(clippy::expect_used, reason = "references to a slot are removed with its connection")]
    pub fn tenant(&mut self, slot: Slot) -> &mut Connection {
        self.at(slot).expect("tables refer only to slots with a connection")
    }

    /// Returns the key of the connection in a slot, if there is one.
    pub fn key(&mut self, slot: Slot) -> Option<ConnectionKey> {
        self.at(slot).map(|connection| ConnectionKey { slot, generation: connection.generation })
    }

    /// Returns the subnet of the connection in a slot, or of the last one.
    pub fn subnet(&self, slot: Slot) -> SubnetId {
        self.pages[slot.index() / PAGE_SLOTS].subnets[slot.index() % PAGE_SLOTS]
    }

    /// Replaces the subnet of the connection in a slot. The caller has counted the new one, and
    /// uncounts the old one.
    pub fn set_subnet(&mut self, slot: Slot, subnet: SubnetId) {
        self.pages[slot.index() / PAGE_SLOTS].subnets[slot.index() % PAGE_SLOTS] = subnet;
    }

    /// Sets the address of the client in a slot, which a proxy has named.
    pub fn set_address(&mut self, slot: Slot, address: IpAddr) {
        let page = &mut self.pages[slot.index() / PAGE_SLOTS];
        let none = || vec![Ipv6Addr::UNSPECIFIED; PAGE_SLOTS].into();
        page.addresses.get_or_insert_with(none)[slot.index() % PAGE_SLOTS] = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
    }

    /// Returns the address of the client in a slot, if a proxy has named it.
    pub fn address(&self, slot: Slot) -> Option<IpAddr> {
        let addresses = self.pages[slot.index() / PAGE_SLOTS].addresses.as_ref()?;
        let address = addresses[slot.index() % PAGE_SLOTS];
        (!address.is_unspecified()).then(|| IpAddr::V6(address).to_canonical())
    }

    /// Sets the time of the next heartbeat of the connection.
    pub fn set_deadline(&mut self, slot: Slot, deadline: Tick) {
        self.pages[slot.index() / PAGE_SLOTS].deadlines[slot.index() % PAGE_SLOTS] = deadline;
    }

    /// Moves the next heartbeat of the connection to `deadline`, unless it is earlier.
    pub fn bring_forward(&mut self, slot: Slot, deadline: Tick) {
        self.set_deadline(slot, self.deadline(slot).min(deadline));
    }

    /// Returns the time of the next heartbeat of the connection.
    pub fn deadline(&self, slot: Slot) -> Tick {
        self.pages[slot.index() / PAGE_SLOTS].deadlines[slot.index() % PAGE_SLOTS]
    }

    /// Appends slots whose deadline has passed to `due`. It checks every `stride`th group of 64
    /// slots, beginning with group `phase`, so that `stride` calls check every slot once.
    pub fn due(&self, now: Tick, phase: usize, stride: usize, due: &mut Vec<Slot>) {
        const GROUP: usize = 64;
        let mut begin = phase * GROUP;
        while begin < self.reached {
            let page = &self.pages[begin / PAGE_SLOTS].deadlines;
            let group = &page[begin % PAGE_SLOTS..][..GROUP];
            for (at, &deadline) in group.iter().enumerate() {
                if deadline <= now {
                    due.push(Slot::new(begin + at));
                }
            }
            begin += stride * GROUP;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_the_last_tenant_finds_nothing() {
        let mut slots = Slots::default();
        let now = Tick::new(1);
        let first = slots.insert(Socket::new(5), SubnetId::EXEMPT, now, Tick::NEVER);
        slots.remove(first.slot);
        let second = slots.insert(Socket::new(6), SubnetId::EXEMPT, now, Tick::NEVER);
        assert_eq!(first.slot, second.slot);
        assert!(slots.get(first).is_none());
        assert_eq!(slots.get(second).map(|found| found.socket), Some(Socket::new(6)));
    }

    #[test]
    fn an_address_ends_with_its_connection() {
        let mut slots = Slots::default();
        let insert = |slots: &mut Slots| {
            slots.insert(Socket::new(5), SubnetId::PROXY, Tick::new(1), Tick::NEVER).slot
        };
        let slot = insert(&mut slots);
        assert_eq!(slots.address(slot), None);
        for text in ["192.0.2.1", "2001:db8::1"] {
            let address: IpAddr = text.parse().unwrap();
            slots.set_address(slot, address);
            assert_eq!(slots.address(slot), Some(address));
        }
        slots.remove(slot);
        assert_eq!(insert(&mut slots), slot);
        assert_eq!(slots.address(slot), None);
    }

    #[test]
    fn every_deadline_is_seen_once_in_a_round() {
        let mut slots = Slots::default();
        for number in 0..5000 {
            let (socket, deadline) = (Socket::new(number), Tick::new(number as u32 % 7));
            slots.insert(socket, SubnetId::EXEMPT, Tick::new(0), deadline);
        }
        let mut due = Vec::new();
        (0..10).for_each(|phase| slots.due(Tick::new(3), phase, 10, &mut due));
        due.sort();
        let expected: Vec<Slot> = (0..5000).filter(|at| at % 7 <= 3).map(Slot::new).collect();
        assert_eq!(due, expected);
    }
}
