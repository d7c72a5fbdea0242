//! Limits for the rates of a client. If it sends too many frames its connection is closed, and if
//! it reads too much history it must wait.

use crate::ids::Tick;
use crate::limits::{REPLAY_BURST_BYTES, REPLAY_BYTES_PER_TICK};

/// The frames of a client in the current second, and the bytes of histories that it has received.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    second: u32,
    frames: u32,
    pings: u32,
    replays: Debt,
}

/// Numbers of frames and pings.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Frames of any type. Each further command of a message counts as well.
    pub frames: u32,
    /// Pings among them.
    pub pings: u32,
}

impl Meter {
    /// Counts frames and pings. Returns whether there are more than `most` of either in this
    /// second.
    pub fn count(&mut self, now: Tick, more: Rates, most: Rates) -> bool {
        let second = now.index() / 10;
        if self.second != second {
            *self = Meter { second, frames: 0, pings: 0, replays: self.replays };
        }
        self.frames = self.frames.saturating_add(more.frames);
        self.pings = self.pings.saturating_add(more.pings);
        self.frames > most.frames || self.pings > most.pings
    }

    /// Counts `bytes` of a history that the client received.
    pub fn count_replay(&mut self, now: Tick, bytes: usize) {
        self.replays.settle(now);
        self.replays.kib = self.replays.kib.saturating_add(bytes.div_ceil(1024) as u16);
    }

    /// Whether the client may receive more of a history now.
    pub fn may_replay(&mut self, now: Tick) -> bool {
        self.replays.settle(now);
        usize::from(self.replays.kib) * 1024 <= REPLAY_BURST_BYTES
    }
}

/// The bytes of histories that a client has received and not yet paid off by waiting.
#[derive(Clone, Copy, Debug, Default)]
struct Debt {
    /// The tick of the last payment, modulo 2^16 (109 minutes). After such a time without requests,
    /// too little may be subtracted, which costs the client a few seconds at most.
    tick: u16,
    /// In KiB, each page rounded up, so that many small pages count as well.
    kib: u16,
}

impl Debt {
    fn settle(&mut self, now: Tick) {
        let now = now.index() as u16;
        let ticks = usize::from(now.wrapping_sub(std::mem::replace(&mut self.tick, now)));
        let paid = ticks * (REPLAY_BYTES_PER_TICK / 1024);
        self.kib = self.kib.saturating_sub(u16::try_from(paid).unwrap_or(u16::MAX));
    }
}
