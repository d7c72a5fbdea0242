//! What clients and control act in.

use super::network::Network;
use super::setup::Setup;
use super::truth::Truth;

pub struct Scene<'a> {
    pub network: &'a mut Network,
    pub truth: &'a mut Truth,
    pub setup: &'a Setup,
    /// Notices that something was missed.
    pub notices: usize,
}

impl Scene<'_> {
    /// Notes an attempt to publish; answers its number.
    pub fn invoke(&mut self, channel: usize, publisher: usize) -> usize {
        self.truth.invoke((self.setup, &mut self.network.random), channel, publisher)
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.network.random.chance(percent)
    }
}
