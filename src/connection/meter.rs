//! How much a client sends and is given: if it exceeds a rate, its connection ends, or it waits.

use crate::ids::Tick;
use crate::limits::{REPLAY_BURST_BYTES, REPLAY_BYTES_PER_TICK};

/// How much a client has sent in the present second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    second: u32,
    frames: u32,
    pings: u32,
    replays: Debt,
}

/// Frames and pings in one second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Frames, of whatever kind; and further commands of one message.
    pub frames: u32,
    /// Pings among them.
    pub pings: u32,
}

impl Meter {
    /// Counts frames and pings. Returns whether there are more of either than `most`.
    pub fn count(&mut self, now: Tick, more: Rates, most: Rates) -> bool {
        let second = now.index() / 10;
        if self.second != second {
            *self = Meter { second, frames: 0, pings: 0, replays: self.replays };
        }
        self.frames = self.frames.saturating_add(more.frames);
        self.pings = self.pings.saturating_add(more.pings);
        self.frames > most.frames || self.pings > most.pings
    }

    /// Notes that the client was given `bytes` of a history.
    pub fn count_replay(&mut self, now: Tick, bytes: usize) {
        self.replays.settle(now);
        self.replays.kib = self.replays.kib.saturating_add(bytes.div_ceil(1024) as u16);
    }

    /// Whether the client may be given more of a history now.
    pub fn may_replay(&mut self, now: Tick) -> bool {
        self.replays.settle(now);
        usize::from(self.replays.kib) * 1024 <= REPLAY_BURST_BYTES
    }
}

/// What a client has been given of histories and has not made up for by waiting.
#[derive(Clone, Copy, Debug, Default)]
struct Debt {
    /// The end of the tick up to which waiting has been counted, modulo 2^16: 109 minutes.
    tick: u16,
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
