//! The time of the current turn, and random numbers. Both are the same for a whole turn and on any
//! hardware, so a simulation can be repeated from its seed.

use crate::ids::{Moment, Tick};

/// The time of a turn, and a generator of random numbers.
pub struct Clock {
    now: Moment,
    tick: Tick,
    random: u64,
}

impl Clock {
    /// Creates a clock that shows `now`. Its random numbers are derived from `seed`.
    pub fn new(now: Moment, seed: u64) -> Clock {
        Clock { now, tick: now.tick(), random: seed | 1 }
    }

    /// Begins a turn at `now`.
    pub fn begin_turn(&mut self, now: Moment) {
        self.now = now;
        self.tick = now.tick();
    }

    /// The time of the current turn.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The tick of the current turn.
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// A random number for spreading work over time (splitmix64). It is not fit for secrets.
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
