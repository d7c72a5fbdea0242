//! What is done to a server: each scenario in a file, and what they share.

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

/// Where the source addresses of a second fleet begin, counted in threads, of which the first has
/// fewer.
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

    /// What was used since the beginning; of the server, if it is watched and was there at both
    /// ends.
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

/// What a measured stretch took.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    seconds: f64,
    server: Option<Usage>,
    generator: OwnUsage,
}

/// Reads the server's use so far. A server that has ended is told on standard error.
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
