//! What clients and control act in.

use std::sync::LazyLock;

use super::network::Network;
use super::setup::Setup;
use super::truth::{Publisher, Truth};

pub struct Scene<'a> {
    pub network: &'a mut Network,
    pub truth: &'a mut Truth,
    pub setup: &'a Setup,
    /// Notices that something was missed.
    pub notices: usize,
}

impl Scene<'_> {
    /// Notes an attempt to publish; answers its number.
    pub fn invoke(&mut self, channel: usize, publisher: Publisher) -> usize {
        self.truth.invoke((self.setup, &mut self.network.random), channel, publisher)
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.network.random.chance(percent)
    }
}

/// Says what happens, if the variable `CORECAST_SIM_TRACE` is set: for the replay of a seed.
pub fn trace(text: impl FnOnce() -> String) {
    static IS_ON: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("CORECAST_SIM_TRACE").is_some());
    if *IS_ON {
        println!("{}", text());
    }
}
