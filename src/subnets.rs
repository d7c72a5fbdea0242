//! The networks that clients come from, and how much the clients of each one use on the whole node:
//! a limit for an address holds however many shards its connections are spread over. One table of a
//! fixed size, shared by all shards, without locks.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::limits::{SUBNETS_BUCKET, SUBNETS_MAX};

/// A client's network: the /24 of an IPv4 address, the /64 of an IPv6 address. Providers hand these
/// out whole, so a limit for a single address would be no limit. An IPv4 address that is written as
/// an IPv6 address (mapped, or behind the well-known prefix of NAT64) counts as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet(u64);

impl Subnet {
    /// Loopback and unix sockets, which no limit for an address applies to: whoever is on this host
    /// is a proxy with many clients behind it, or could do worse than connect.
    pub const EXEMPT: Subnet = Subnet(0);

    /// Marks IPv4 networks. As a /64 it lies in `::/8`, where no client can have an address.
    const IPV4: u64 = 1 << 32;

    /// The first 12 bytes of an IPv4 address that is mapped (RFC 4291 §2.5.5.2), compatible
    /// (§2.5.5.1) or translated (RFC 6052 §2.1).
    const IPV4_PREFIXES: [[u8; 12]; 3] = [
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        [0; 12],
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0],
    ];

    /// The subnet of an IPv4 address.
    pub const fn of_ipv4([a, b, c, _]: [u8; 4]) -> Subnet {
        match a {
            127 => Subnet::EXEMPT,
            _ => Subnet(Subnet::IPV4 | u32::from_be_bytes([0, a, b, c]) as u64),
        }
    }

    /// The subnet of an IPv6 address.
    pub fn of_ipv6(address: [u8; 16]) -> Subnet {
        let &[prefix @ .., a, b, c, d] = &address;
        if u128::from_be_bytes(address) == 1 {
            return Subnet::EXEMPT;
        }
        if Subnet::IPV4_PREFIXES.contains(&prefix) {
            return Subnet::of_ipv4([a, b, c, d]);
        }
        Subnet((u128::from_be_bytes(address) >> 64) as u64)
    }

    /// Whether no limit for an address applies.
    pub const fn is_exempt(self) -> bool {
        self.0 == Subnet::EXEMPT.0
    }
}

/// A subnet's row in the table: what a connection carries in place of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetId(u32);

impl SubnetId {
    /// The row of [`Subnet::EXEMPT`], which has none.
    pub const EXEMPT: SubnetId = SubnetId(u32::MAX);
}

/// What the clients of one subnet use at present. Whatever is to be limited for an address is
/// counted here, by all shards; [`Row::clear`] makes it ready for another subnet.
#[derive(Debug, Default)]
pub struct Row {
    /// The subnet that it was last taken for. It changes only while `connections` is
    /// [`Row::TAKEN`].
    subnet: AtomicU64,
    /// Connections. The row is free while there are none, and keeps its subnet until another one
    /// needs it: what was counted in the present second is still known to a client that comes back.
    connections: AtomicU32,
    /// Channels that came to a shard with a subscription from this subnet, once for each shard.
    channels: AtomicU32,
    /// Channels that its clients have created.
    created: PerSecond,
}

/// How often something happened in the present second, on all shards.
#[derive(Debug, Default)]
pub struct PerSecond(AtomicU64);

impl PerSecond {
    /// How often it happened in the second with number `second`.
    pub fn count(&self, second: u32) -> u32 {
        let value = self.0.load(Ordering::Relaxed);
        if (value >> 32) as u32 == second { value as u32 } else { 0 }
    }

    /// It happened once more.
    pub fn add(&self, second: u32) {
        let add = |value: u64| {
            let count = if (value >> 32) as u32 == second { value as u32 } else { 0 };
            Some(u64::from(second) << 32 | u64::from(count.saturating_add(1)))
        };
        // It never declines.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok();
    }

    /// One that was counted in the second with number `second` has not happened.
    pub fn take_back(&self, second: u32) {
        let take = |value: u64| {
            let counted = (value >> 32) as u32 == second && value as u32 > 0;
            counted.then(|| value - 1)
        };
        // It declines if that second is over.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok();
    }
}

impl Row {
    /// In the place of the number of connections while one thread takes the row.
    const TAKEN: u32 = u32::MAX;

    /// Connections, in whatever state.
    pub fn connections(&self) -> u32 {
        match self.connections.load(Ordering::Relaxed) {
            Row::TAKEN => 0,
            count => count,
        }
    }

    /// Channels that clients of the subnet have brought to shards.
    pub fn channels(&self) -> u32 {
        self.channels.load(Ordering::Relaxed)
    }

    /// Channels that clients of the subnet have created in the present second.
    pub fn created(&self) -> &PerSecond {
        &self.created
    }

    /// Forgets all that was counted for another subnet.
    fn clear(&self) {
        self.channels.store(0, Ordering::Relaxed);
        self.created.0.store(0, Ordering::Relaxed);
    }

    fn is_of(&self, subnet: Subnet) -> bool {
        self.subnet.load(Ordering::Relaxed) == subnet.0
    }

    /// Adds a connection of `subnet`, whose row it is. Returns false if it is not any more.
    fn enter(&self, subnet: Subnet) -> bool {
        let another = |count| (count != 0 && count != Row::TAKEN).then(|| count + 1);
        if self.connections.fetch_update(Ordering::Acquire, Ordering::Relaxed, another).is_err() {
            return self.is_of(subnet) && self.take(subnet);
        }
        // From here on the row can't be taken for another subnet; before, it may have been.
        let same = self.is_of(subnet);
        if !same {
            self.leave();
        }
        same
    }

    /// Takes the row for the first connection of `subnet`. Returns false if it has connections.
    fn take(&self, subnet: Subnet) -> bool {
        let (from, to) = (0, Row::TAKEN);
        let taken =
            self.connections.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            return false;
        }
        if !self.is_of(subnet) {
            self.clear();
            self.subnet.store(subnet.0, Ordering::Relaxed);
        }
        self.connections.store(1, Ordering::Release);
        true
    }

    fn leave(&self) {
        let before = self.connections.fetch_sub(1, Ordering::Release);
        assert!(before != 0 && before != Row::TAKEN, "a connection leaves its subnet once");
    }
}

/// The table. A subnet has one of the rows of its bucket; where all of them are in use, it shares
/// the last one with others that came too late, and with them the limits. Two threads that take a
/// row for a new subnet in the same moment may take two: its limits are then twice as high until
/// the connections of one of them have ended.
#[derive(Debug)]
pub struct Subnets {
    /// Keyed, so that nobody can aim at the bucket of another subnet.
    hasher: RandomState,
    rows: Box<[Row]>,
}

impl Subnets {
    /// A table for a node of `connections_max` connections: of [`SUBNETS_MAX`] rows, or fewer where
    /// fewer can be in use.
    pub fn new(connections_max: usize) -> Subnets {
        let count = connections_max.clamp(SUBNETS_BUCKET, SUBNETS_MAX).next_power_of_two();
        let rows = std::iter::repeat_with(Row::default).take(count).collect();
        Subnets { hasher: RandomState::new(), rows }
    }

    /// Counts a connection of `subnet`. Whoever calls it calls [`Subnets::leave`] when that ends.
    pub fn enter(&self, subnet: Subnet) -> SubnetId {
        if subnet.is_exempt() {
            return SubnetId::EXEMPT;
        }
        let begin = self.bucket(subnet);
        let (shared, own) = self.rows[begin..begin + SUBNETS_BUCKET]
            .split_last()
            .unwrap_or_else(|| unreachable!("a bucket has rows"));
        let is_unused = |row: &Row| row.is_of(Subnet::EXEMPT);
        let position = own
            .iter()
            .position(|row| row.is_of(subnet) && row.enter(subnet))
            // A row that was never used comes before one that still knows its subnet.
            .or_else(|| own.iter().position(|row| is_unused(row) && row.take(subnet)))
            .or_else(|| own.iter().position(|row| row.take(subnet)));
        let position = position.unwrap_or_else(|| {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            own.len()
        });
        SubnetId((begin + position) as u32)
    }

    /// A connection that was counted has ended.
    pub fn leave(&self, id: SubnetId) {
        if let Some(row) = self.row(id)
            && !crate::sabotage!(LeakedSubnet)
        {
            row.leave();
        }
    }

    /// A client of a subnet has brought a channel to a shard.
    pub fn add_channel(&self, id: SubnetId) {
        if let Some(row) = self.row(id) {
            row.channels.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A channel has left the shard to which a client of this subnet had brought it. The row may be
    /// another subnet's by now, if that client and all others of its subnet left before the
    /// channel: then that one is charged for too few.
    pub fn remove_channel(&self, id: SubnetId) {
        let less = |count: u32| count.checked_sub(1);
        if let Some(row) = self.row(id) {
            row.channels.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
        }
    }

    /// What the clients of a subnet use; none for exempt ones.
    pub fn row(&self, id: SubnetId) -> Option<&Row> {
        (id != SubnetId::EXEMPT).then(|| &self.rows[id.0 as usize])
    }

    /// Connections of all subnets: for audits.
    pub fn connections(&self) -> usize {
        self.rows.iter().map(|row| row.connections() as usize).sum()
    }

    fn bucket(&self, subnet: Subnet) -> usize {
        let bucket = self.hasher.hash_one(subnet) as usize & (self.rows.len() / SUBNETS_BUCKET - 1);
        bucket * SUBNETS_BUCKET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: [u8; 4] = [192, 0, 2, 7];

    #[test]
    fn an_ipv4_subnet_is_24_bits_however_the_address_is_written() {
        let subnet = Subnet::of_ipv4(ADDRESS);
        assert_eq!(subnet, Subnet::of_ipv4([192, 0, 2, 200]));
        assert_ne!(subnet, Subnet::of_ipv4([192, 0, 3, 7]));
        for prefix in Subnet::IPV4_PREFIXES {
            let mut written = [0; 16];
            written[..12].copy_from_slice(&prefix);
            written[12..].copy_from_slice(&ADDRESS);
            assert_eq!(Subnet::of_ipv6(written), subnet, "{prefix:?}");
            written[12..].copy_from_slice(&[127, 0, 0, 1]);
            assert!(Subnet::of_ipv6(written).is_exempt(), "{prefix:?}");
        }
        assert!(!Subnet::of_ipv4([0; 4]).is_exempt());
    }

    #[test]
    fn an_ipv6_subnet_is_64_bits() {
        let of = |text: &str| Subnet::of_ipv6(text.parse::<std::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert!(of("::1").is_exempt());
        assert!(!of("::").is_exempt());
    }

    #[test]
    fn a_row_is_its_subnets_alone_and_free_after_the_last_connection() {
        let subnets = Subnets::new(64);
        let one = subnets.enter(Subnet::of_ipv4([10, 0, 0, 1]));
        assert_eq!(subnets.enter(Subnet::of_ipv4([10, 0, 0, 2])), one);
        assert_eq!(subnets.row(one).unwrap().connections(), 2);
        subnets.leave(one);
        subnets.leave(one);
        assert_eq!(subnets.connections(), 0);
        // More than there are rows, one after another: each finds one of its own.
        for number in 0..10_000u32 {
            let [_, a, b, _] = number.to_be_bytes();
            let id = subnets.enter(Subnet::of_ipv4([11, a, b, number as u8]));
            assert_eq!(subnets.row(id).unwrap().connections(), 1);
            subnets.leave(id);
        }
        let exempt = subnets.enter(Subnet::EXEMPT);
        assert!(subnets.row(exempt).is_none());
        subnets.leave(exempt);
        assert_eq!(subnets.connections(), 0);
    }

    #[test]
    fn subnets_beyond_the_table_share_a_row_and_all_are_counted() {
        let subnets = Subnets::new(1);
        let ids: Vec<_> =
            (0..20).map(|at| subnets.enter(Subnet::of_ipv4([10, 0, at, 1]))).collect();
        let counts = |at: usize| subnets.row(ids[at]).unwrap().connections();
        assert!((0..7).all(|at| counts(at) == 1), "the first have rows of their own");
        assert!((7..20).all(|at| counts(at) == 13), "the others share one");
        ids.iter().for_each(|&id| subnets.leave(id));
        assert_eq!(subnets.connections(), 0);
    }

    #[test]
    fn threads_that_come_and_go_leave_nothing_behind() {
        let subnets = Subnets::new(16);
        std::thread::scope(|threads| {
            for thread in 0..4u8 {
                let subnets = &subnets;
                threads.spawn(move || {
                    for turn in 0..20_000u32 {
                        let subnet = |at: u32| Subnet::of_ipv4([10, 0, (turn + at) as u8 % 24, 1]);
                        let ids = [0, 1, u32::from(thread)].map(|at| subnets.enter(subnet(at)));
                        for id in ids {
                            assert!(subnets.row(id).unwrap().connections() > 0);
                            subnets.leave(id);
                        }
                    }
                });
            }
        });
        assert_eq!(subnets.connections(), 0);
    }
}
