//! Kernel memory of connections, from the sizes and counts of kernel objects. They are read from
//! /proc/slabinfo, which requires root.

use serde::Serialize;
use std::fs;

/// Objects of every socket, at both ends of a connection. Ordinary files have `filp` and `dentry`,
/// too, so a measurement is only right while no other process opens many files.
const OF_SOCKETS: [&str; 5] = ["TCP", "TCPv6", "sock_inode_cache", "filp", "dentry"];
/// Objects of the ring that a server waits on. The generator has none, because it uses epoll.
const OF_RINGS: [&str; 1] = ["io_kiocb"];

/// Bytes of kernel objects at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct KernelMemory {
    /// Bytes of sockets, at both ends.
    pub(crate) sockets_bytes: u64,
    /// Bytes of rings.
    pub(crate) rings_bytes: u64,
}

impl KernelMemory {
    /// Reads the present values. Returns `None` if /proc/slabinfo can't be read.
    pub(crate) fn read() -> Option<Self> {
        fs::read_to_string("/proc/slabinfo").ok().map(|text| Self::parse(&text))
    }

    fn parse(slabinfo: &str) -> Self {
        Self {
            sockets_bytes: bytes(slabinfo, &OF_SOCKETS),
            rings_bytes: bytes(slabinfo, &OF_RINGS),
        }
    }

    /// Returns the growth since `before` at the server's end, for a server on this host: half of
    /// the sockets, and all of the rings.
    pub(crate) fn growth(self, before: Self) -> f64 {
        let sockets = self.sockets_bytes as f64 - before.sockets_bytes as f64;
        let rings = self.rings_bytes as f64 - before.rings_bytes as f64;
        sockets / 2.0 + rings
    }
}

/// Adds up objects in use times their size, for these caches. A line contains name, objects in use,
/// objects, size of one object, and more.
fn bytes(slabinfo: &str, caches: &[&str]) -> u64 {
    let lines = slabinfo.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?;
        let used: u64 = fields.next()?.parse().ok()?;
        let size: u64 = fields.nth(1)?.parse().ok()?;
        caches.contains(&name).then_some(used * size)
    });
    lines.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLABINFO: &str = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\n\
                            TCP 10 20 2368 13 8 : tunables\nfilp 100 120 192 21 1 :\n\
                            io_kiocb 7 9 256 16 1 :\nTCPx 5 5 5 5 5\n";

    #[test]
    fn objects_in_use_are_counted_by_cache() {
        let memory = KernelMemory::parse(SLABINFO);
        assert_eq!(memory.sockets_bytes, 10 * 2368 + 100 * 192);
        assert_eq!(memory.rings_bytes, 7 * 256);
        let growth = memory.growth(KernelMemory::default());
        assert!((growth - (21_440.0 + 1792.0)).abs() < 1e-9, "{growth}");
    }
}
