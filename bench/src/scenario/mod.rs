//! The scenarios, and their common code.

mod broadcast;
pub(crate) mod churn;
pub(crate) mod compare;
pub(crate) mod connect;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod ladder;
pub(crate) mod slow;
pub(crate) mod storm;
pub(crate) mod window;

use crate::fleet::Fleet;
use crate::process::{Sample, Usage, Watched};
use crate::report::OwnUsage;
use crate::sys;
use std::time::Instant;

/// First source address of a second fleet, counted in threads. The first fleet has fewer threads.
const SECOND_FLEET_SOURCES: usize = 1024;

/// The start of a measured stretch.
struct Stretch {
    began: Instant,
    server: Option<Sample>,
    own_cpu_ns: u64,
    busy_ns: Vec<u64>,
}

impl Stretch {
    fn begin(fleet: &Fleet, watched: Option<&Watched>) -> Self {
        Self {
            server: sample(watched),
            own_cpu_ns: sys::own_cpu_ns(),
            busy_ns: fleet.busy_ns(),
            began: Instant::now(),
        }
    }

    /// Returns the usage since the beginning. That of the server is present if it is watched and
    /// was running at both ends.
    fn end(&self, fleet: &Fleet, watched: Option<&Watched>) -> Used {
        let seconds = self.began.elapsed().as_secs_f64();
        let after = sample(watched);
        let cpu_ns = sys::own_cpu_ns().saturating_sub(self.own_cpu_ns);
        let server = self.server.zip(after);
        Used {
            seconds,
            server: server.map(|(before, after)| Usage::between(before, after, seconds)),
            generator: OwnUsage::between(cpu_ns, &self.busy_ns, &fleet.busy_ns(), seconds),
        }
    }
}

/// The usage of a measured stretch.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    seconds: f64,
    server: Option<Usage>,
    generator: OwnUsage,
}

/// Reads the server's usage so far. Prints a warning if the server has ended.
fn sample(watched: Option<&Watched>) -> Option<Sample> {
    let watched = watched?;
    match watched.sample() {
        Ok(sample) => Some(sample),
        Err(error) => {
            eprintln!("WARNING: cannot read process {:?}: {error}", watched.pids);
            None
        }
    }
}
