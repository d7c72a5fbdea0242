//! The moment of the present turn, and chance. Both are the same for all of a turn and whatever
//! hardware, so a simulated world is repeated by its seed.

use crate::ids::{Moment, Tick};

/// The time of a turn.
pub struct Clock {
    now: Moment,
    tick: Tick,
    random: u64,
}

impl Clock {
    /// A clock that stands at `now`. Numbers that are drawn begin with `seed`.
    pub fn new(now: Moment, seed: u64) -> Clock {
        Clock { now, tick: now.tick(), random: seed | 1 }
    }

    /// Begins a turn.
    pub fn begin_turn(&mut self, now: Moment) {
        self.now = now;
        self.tick = now.tick();
    }

    /// The present turn's moment.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The present turn's tick.
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// A number that is hard to foresee, for spreading things in time (splitmix64).
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
