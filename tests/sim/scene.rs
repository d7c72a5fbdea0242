//! The environment in which clients and control act.

use std::sync::LazyLock;

use super::network::Network;
use super::setup::Setup;
use super::truth::{Publisher, Truth};

pub struct Scene<'a> {
    pub network: &'a mut Network,
    pub truth: &'a mut Truth,
    pub setup: &'a Setup,
    /// Number of notices about missed publications.
    pub notices: usize,
}

impl Scene<'_> {
    /// Records a publish attempt. Returns its number.
    pub fn invoke(&mut self, channel: usize, publisher: Publisher) -> usize {
        self.truth.invoke((self.setup, &mut self.network.random), channel, publisher)
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.network.random.chance(percent)
    }
}

/// Prints an event if the variable `CORECAST_SIM_TRACE` is set, to examine the replay of a seed.
pub fn trace(text: impl FnOnce() -> String) {
    static IS_ON: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("CORECAST_SIM_TRACE").is_some());
    if *IS_ON {
        println!("{}", text());
    }
}
