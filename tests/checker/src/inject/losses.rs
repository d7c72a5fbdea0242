//! Losses of keys in Redis while the server keeps running.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use super::Done;
use crate::cluster::Cluster;
use crate::faults::Planned;

/// Maximum number of channels that lose their places at once.
const PLACES_MAX: usize = 3;

/// Time in which a client publishes to a channel with a lost place, or subscribes to it.
const MISSED: Duration = Duration::from_secs(2);

/// Time in which Redis looks for expired keys at least once.
const EXPIRED: Duration = Duration::from_millis(500);

impl Cluster {
    /// Deletes the places of some channels of a stream. Their entries in the stream stay.
    pub(super) async fn lose_places(&mut self, planned: &Planned) -> Result<Done> {
        let (key, channels) = self.stream(planned)?;
        let places = key.replace(":bus", ":places");
        let known = self.primary()?.command(&["HKEYS", &places]).await?;
        let known: Vec<&str> = known.lines().filter(|name| !name.is_empty()).collect();
        let first = (planned.length * known.len() as f64) as usize;
        let some = known.iter().copied().cycle().skip(first).take(PLACES_MAX.min(known.len()));
        let some: Vec<&str> = some.collect();
        if !some.is_empty() {
            self.primary()?.command(&[&["HDEL", &places], &some[..]].concat()).await?;
        }
        // Other channels of the stream stay in its epoch until one of these is used.
        sleep(MISSED).await;
        Ok((format!("{places}: {}", some.join(", ")), channels))
    }

    /// Sets the clock of the Redis servers wrong for a while.
    pub(super) async fn step_clock(&mut self, planned: &Planned, by: i64) -> Result<Done> {
        let clock = self.clock.as_ref().context("the clock of Redis can't be put wrong")?;
        let length = planned.between(1.0, 5.0);
        clock.step_to(by)?;
        sleep(length.max(EXPIRED)).await;
        clock.step_to(0)?;
        Ok((format!("by {by} s, for {:.1} s", length.as_secs_f64()), None))
    }
}
