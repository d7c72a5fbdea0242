//! Counts the usage of clients by their network, on the whole node. So a limit for a network holds
//! even if its connections are spread over all shards. The counts are in a table of fixed size,
//! which all shards share without locks.

use core::net::IpAddr;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::limits::{SUBNETS_BUCKET, SUBNETS_MAX};

/// The network of a client: the /24 of an IPv4 address, or the /64 of an IPv6 address. Providers
/// assign such networks as a whole, so a limit for single addresses would have no effect. An IPv4
/// address in the form of an IPv6 address (mapped, or with the well-known prefix of NAT64) counts
/// as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet(u64);

impl Subnet {
    /// Loopback and Unix sockets, which have no limits. A client on this host is probably a proxy
    /// for many clients, and a malicious program on this host could do more harm in other ways.
    pub const EXEMPT: Subnet = Subnet(0);

    /// Marks IPv4 networks. Read as a /64 it is in `::/8`, where no client can have an address.
    const IPV4: u64 = 1 << 32;

    /// The first 12 bytes of IPv4 addresses that are mapped (RFC 4291 §2.5.5.2), compatible
    /// (§2.5.5.1) or translated (RFC 6052 §2.1).
    const IPV4_PREFIXES: [[u8; 12]; 3] = [
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        [0; 12],
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0],
    ];

    /// Returns the subnet of an address.
    pub fn of(address: IpAddr) -> Subnet {
        match address {
            IpAddr::V4(address) => Subnet::of_ipv4(address.octets()),
            IpAddr::V6(address) => Subnet::of_ipv6(address.octets()),
        }
    }

    /// Returns the subnet of an IPv4 address.
    pub const fn of_ipv4([a, b, c, _]: [u8; 4]) -> Subnet {
        match a {
            127 => Subnet::EXEMPT,
            _ => Subnet(Subnet::IPV4 | u32::from_be_bytes([0, a, b, c]) as u64),
        }
    }

    /// Returns the subnet of an IPv6 address.
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

    /// Whether limits for networks do not apply.
    pub const fn is_exempt(self) -> bool {
        self.0 == Subnet::EXEMPT.0
    }
}

/// The row of a subnet in the table. Connections store it instead of their address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetId(u32);

impl SubnetId {
    /// The id of [`Subnet::EXEMPT`], which has no row.
    pub const EXEMPT: SubnetId = SubnetId(u32::MAX);

    /// A connection of a proxy, of which nothing was received. A header of the PROXY protocol or a
    /// request follows. Limits for networks apply when the client is known.
    pub const PROXY: SubnetId = SubnetId(u32::MAX - 1);

    /// A connection of a proxy whose request may name the client. Only the request follows.
    pub const PROXY_REQUEST: SubnetId = SubnetId(u32::MAX - 2);

    /// Whether the id is that of a row.
    const fn has_row(self) -> bool {
        self.0 < SubnetId::PROXY_REQUEST.0
    }
}

/// The current usage of the clients of one subnet, on all shards. To limit something else by
/// network, add its count here, and reset it in `Row::clear`.
#[derive(Debug, Default)]
pub struct Row {
    /// The last subnet that used the row. It changes only while `connections` is [`Row::TAKEN`].
    subnet: AtomicU64,
    /// Number of connections. A row without connections is free, but keeps its subnet until another
    /// subnet needs the row. So a client can't reset its counts of the current second by
    /// reconnecting.
    connections: AtomicU32,
    /// Number of channels that clients of the subnet brought to shards, counted once per shard.
    channels: AtomicU32,
    /// Number of channels that its clients created.
    created: PerSecond,
}

/// A count of events in the current second, on all shards.
#[derive(Debug, Default)]
pub struct PerSecond(AtomicU64);

impl PerSecond {
    /// Returns the count of the second with number `second`.
    pub fn count(&self, second: u32) -> u32 {
        let value = self.0.load(Ordering::Relaxed);
        if (value >> 32) as u32 == second { value as u32 } else { 0 }
    }

    /// Adds one event.
    pub fn add(&self, second: u32) {
        let add = |value: u64| {
            let count = if (value >> 32) as u32 == second { value as u32 } else { 0 };
            Some(u64::from(second) << 32 | u64::from(count.saturating_add(1)))
        };
        // The update always succeeds, because `add` never returns `None`.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok();
    }

    /// Subtracts one event that was counted in the second with number `second`.
    pub fn take_back(&self, second: u32) {
        let take = |value: u64| {
            let counted = (value >> 32) as u32 == second && value as u32 > 0;
            counted.then(|| value - 1)
        };
        // If that second has passed, there is nothing to subtract from.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok();
    }
}

impl Row {
    /// The value of `connections` while a thread takes the row.
    const TAKEN: u32 = u32::MAX;

    /// Returns the number of connections in any state.
    pub fn connections(&self) -> u32 {
        match self.connections.load(Ordering::Relaxed) {
            Row::TAKEN => 0,
            count => count,
        }
    }

    /// Returns the number of channels that clients of the subnet have brought to shards.
    pub fn channels(&self) -> u32 {
        self.channels.load(Ordering::Relaxed)
    }

    /// Returns the number of channels that clients of the subnet created in the current second.
    pub fn created(&self) -> &PerSecond {
        &self.created
    }

    /// Resets the counts of the previous subnet.
    fn clear(&self) {
        self.channels.store(0, Ordering::Relaxed);
        self.created.0.store(0, Ordering::Relaxed);
    }

    fn is_of(&self, subnet: Subnet) -> bool {
        self.subnet.load(Ordering::Relaxed) == subnet.0
    }

    /// Adds a connection of `subnet` to its row. Returns false if another subnet has taken the row
    /// in the meantime.
    fn enter(&self, subnet: Subnet) -> bool {
        let another = |count| (count != 0 && count != Row::TAKEN).then(|| count + 1);
        if self.connections.fetch_update(Ordering::Acquire, Ordering::Relaxed, another).is_err() {
            return self.is_of(subnet) && self.take(subnet);
        }
        // The row can't be taken from here on, but it may have been taken before the increment.
        let same = self.is_of(subnet);
        if !same {
            self.leave();
        }
        same
    }

    /// Takes the row for the first connection of `subnet`. Returns false if the row is in use.
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
        // `Release` pairs with the `Acquire` in `enter`, so that a thread that sees this count sees
        // the subnet as well.
        self.connections.store(1, Ordering::Release);
        true
    }

    fn leave(&self) {
        let before = self.connections.fetch_sub(1, Ordering::Release);
        assert!(
            before != 0 && before != Row::TAKEN,
            "a connection must leave its subnet exactly once"
        );
    }
}

/// The table. A subnet uses one row of its bucket. If all of them are in use, it shares the last
/// one, and its limits, with other subnets. Two threads that take a row for the same new subnet at
/// the same moment may take two rows. Then its limits are twice as high until the connections of
/// one row have ended.
#[derive(Debug)]
pub struct Subnets {
    /// With a random key, so that an attacker can't choose subnets that share a bucket with another
    /// one.
    hasher: RandomState,
    rows: Box<[Row]>,
}

impl Subnets {
    /// Creates the table of a node with `connections_max` connections. It has [`SUBNETS_MAX`] rows,
    /// or fewer if fewer can be in use.
    pub fn new(connections_max: usize) -> Subnets {
        let count = connections_max.clamp(SUBNETS_BUCKET, SUBNETS_MAX).next_power_of_two();
        let rows = std::iter::repeat_with(Row::default).take(count).collect();
        Subnets { hasher: RandomState::new(), rows }
    }

    /// Counts a connection of `subnet`. The caller must call [`Subnets::leave`] when the connection
    /// ends.
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
            // Prefer rows that were never used, because the others still have the counts of their
            // subnets.
            .or_else(|| own.iter().position(|row| is_unused(row) && row.take(subnet)))
            .or_else(|| own.iter().position(|row| row.take(subnet)));
        let position = position.unwrap_or_else(|| {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            own.len()
        });
        SubnetId((begin + position) as u32)
    }

    /// Uncounts a connection that has ended.
    pub fn leave(&self, id: SubnetId) {
        if let Some(row) = self.row(id)
            && !crate::sabotage!(LeakedSubnet)
        {
            row.leave();
        }
    }

    /// Counts a channel that a client of the subnet has brought to a shard.
    pub fn add_channel(&self, id: SubnetId) {
        if let Some(row) = self.row(id) {
            row.channels.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Uncounts a channel that has left the shard to which a client of the subnet brought it. If
    /// all clients of that subnet left before the channel, another subnet may have the row by now.
    /// Then that subnet is charged for too few channels.
    pub fn remove_channel(&self, id: SubnetId) {
        let less = |count: u32| count.checked_sub(1);
        if let Some(row) = self.row(id) {
            row.channels.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
        }
    }

    /// Returns the usage of a subnet, or `None` for clients that are exempt or not known yet.
    pub fn row(&self, id: SubnetId) -> Option<&Row> {
        id.has_row().then(|| &self.rows[id.0 as usize])
    }

    /// Returns the number of connections of all subnets. For audits.
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
        // More subnets than rows, one after another. Each gets its own row.
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
