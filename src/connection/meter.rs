//! Limits for the rates of a client. If it sends too many frames or reads too much history, it must
//! wait. If it has to wait again and again because of its frames, its connection is closed.

use crate::ids::Tick;
use crate::limits::{
    EXCESS_SECONDS_MAX, REPLAY_BURST_BYTES, REPLAY_BYTES_PER_TICK, SETTING_FRAMES_PER_SECOND_MAX,
    SETTING_PINGS_PER_SECOND_MAX,
};

/// The frames of a client in the current second, and the bytes of histories that it has received.
/// Every connection has one, so it is small.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    second: Second,
    counts: Counts,
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
        if self.second.advance(now) {
            self.counts = Counts::default();
        }
        let counts = self.counts.plus(more);
        self.counts = counts;
        counts.frames() > most.frames || counts.pings() > most.pings
    }

    /// Records that the client exceeds its rates in this second. Returns in how many seconds
    /// without a break it has exceeded them, up to [`EXCESS_SECONDS_MAX`].
    pub fn note_excess(&mut self) -> usize {
        self.second.note_excess()
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

/// The second of the counts, with the excesses of the client up to then. The lower 11 bits are the
/// second: a client that is silent for exactly 34 minutes finds the counts of its last second. The
/// next bit tells whether the rates were exceeded in it, and the others in how many seconds without
/// a break that happened.
#[derive(Clone, Copy, Debug, Default)]
struct Second(u16);

impl Second {
    const BITS: u16 = (1 << 11) - 1;
    const EXCEEDED: u16 = 1 << 11;
    const EXCESS: u16 = 1 << 12;

    /// Goes on to the second of `now`. Returns false if it is the present one.
    fn advance(&mut self, now: Tick) -> bool {
        let second = (now.index() / 10) as u16 & Self::BITS;
        if self.0 & Self::BITS == second {
            return false;
        }
        let next = (self.0 + 1) & Self::BITS;
        let goes_on = second == next && self.0 & Self::EXCEEDED != 0;
        let excesses = if goes_on { self.0 & !(Self::BITS | Self::EXCEEDED) } else { 0 };
        self.0 = second | excesses;
        true
    }

    fn note_excess(&mut self) -> usize {
        let excesses = usize::from(self.0 / Self::EXCESS);
        if self.0 & Self::EXCEEDED != 0 {
            return excesses;
        }
        let excesses = (excesses + 1).min(EXCESS_SECONDS_MAX);
        let second = self.0 & Self::BITS;
        self.0 = second | Self::EXCEEDED | (excesses as u16 * Self::EXCESS);
        excesses
    }
}

const _: () = assert!(EXCESS_SECONDS_MAX < 1 << 4, "four bits count the seconds");

/// Frames in the lower 20 bits, pings in the others, in halves so that they need no alignment of 4.
#[derive(Clone, Copy, Debug, Default)]
struct Counts([u16; 2]);

impl Counts {
    const FRAMES_BITS: u32 = 20;
    const FRAMES_FULL: u32 = (1 << Self::FRAMES_BITS) - 1;
    const PINGS_FULL: u32 = u32::MAX >> Self::FRAMES_BITS;

    fn packed(self) -> u32 {
        u32::from(self.0[0]) | u32::from(self.0[1]) << 16
    }

    fn frames(self) -> u32 {
        self.packed() & Self::FRAMES_FULL
    }

    fn pings(self) -> u32 {
        self.packed() >> Self::FRAMES_BITS
    }

    /// The sums, which stop at what fits.
    fn plus(self, more: Rates) -> Counts {
        let frames = self.frames().saturating_add(more.frames).min(Self::FRAMES_FULL);
        let pings = self.pings().saturating_add(more.pings).min(Self::PINGS_FULL);
        let packed = frames | pings << Self::FRAMES_BITS;
        Counts([packed as u16, (packed >> 16) as u16])
    }
}

const _: () = assert!(
    SETTING_FRAMES_PER_SECOND_MAX < Counts::FRAMES_FULL,
    "counters must be able to exceed the limit"
);
const _: () = assert!(
    SETTING_PINGS_PER_SECOND_MAX < Counts::PINGS_FULL,
    "counters must be able to exceed the limit"
);

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

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Rates = Rates { frames: 1, pings: 1 };

    #[test]
    fn frames_and_pings_of_one_second_are_counted_apart() {
        let (mut meter, now) = (Meter::default(), Tick::new(10_000));
        let most = Rates { frames: 300_000, pings: 3_000 };
        let frames = Rates { frames: 1, pings: 0 };
        assert!((0..297_000).all(|_| !meter.count(now, frames, most)));
        assert!((0..3_000).all(|_| !meter.count(now, ONE, most)));
        assert!(meter.count(now, frames, most) && meter.count(now, ONE, most));
        assert!(!meter.count(Tick::new(10_010), ONE, most), "the next second begins at zero");
    }

    #[test]
    fn seconds_of_excess_count_until_one_has_none() {
        let mut meter = Meter::default();
        let mut exceed = |second: u32| {
            meter.count(Tick::new(second * 10), ONE, ONE);
            (meter.note_excess(), meter.note_excess())
        };
        assert_eq!(exceed(2_047), (1, 1), "once in a second");
        assert_eq!(exceed(2_048), (2, 2));
        assert_eq!(exceed(2_050), (1, 1), "after a break");
        for second in 2_051..2_100 {
            let excesses = (second as usize - 2_049).min(EXCESS_SECONDS_MAX);
            assert_eq!(exceed(second), (excesses, excesses));
        }
        meter.count(Tick::new(21_000), ONE, ONE);
        meter.count(Tick::new(21_010), ONE, ONE);
        assert_eq!(meter.note_excess(), 1, "after a second within the rates");
    }

    #[test]
    fn the_highest_limits_can_be_exceeded_and_counts_do_not_wrap() {
        let (mut meter, now) = (Meter::default(), Tick::new(10));
        let most =
            Rates { frames: SETTING_FRAMES_PER_SECOND_MAX, pings: SETTING_PINGS_PER_SECOND_MAX };
        let many = Rates { frames: u32::MAX, pings: u32::MAX };
        assert!((0..3).all(|_| meter.count(now, many, most)));
        assert_eq!(meter.counts.frames(), Counts::FRAMES_FULL);
        assert_eq!(meter.counts.pings(), Counts::PINGS_FULL);
    }
}
