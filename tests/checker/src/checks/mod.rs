//! The eleven checks. Each scans the history and describes violations of a guarantee.

mod aborted;
mod acknowledged;
mod agreement;
mod duplicates;
mod fabrication;
mod ingest;
mod liveness;
mod notices;
mod realtime;
mod recovery;
mod sessions;
#[cfg(test)]
pub(crate) mod scene;

use crate::history::{History, Micros, Publication, Sighting, seconds};

/// Maximum number of violations kept per check, because one cause can produce thousands.
const VIOLATIONS_KEPT_MAX: usize = 1000;

/// A violation that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Its time, if it has one.
    pub(crate) at: Option<Micros>,
    /// What is wrong, and in whose observation.
    pub(crate) text: String,
}

impl Violation {
    fn at(at: Micros, text: String) -> Violation {
        // Final histories have no time.
        Violation { at: (at < Micros::MAX).then_some(at), text }
    }

    fn whenever(text: String) -> Violation {
        Violation { at: None, text }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(at) = self.at {
            write!(f, "at {}: ", seconds(at))?;
        }
        f.write_str(&self.text)
    }
}

/// Returns a violation for each observation that `wrong` describes. `wrong` gets the observation,
/// and the publication if it is known.
fn wrongly_seen(
    history: &History,
    wrong: impl Fn(&Sighting, Option<&Publication>) -> Option<String>,
) -> Vec<Violation> {
    let judge = |seen: Sighting| {
        let wrong = wrong(&seen, history.publications.get(seen.pid as usize))?;
        let place = history.show(seen.channel, seen.place);
        let text = format!("{} has publication {} at {place}, {wrong}", seen.by, seen.pid);
        Some(Violation::at(seen.at, text))
    };
    history.seen().filter_map(judge).collect()
}

/// One check.
pub(crate) struct Check {
    /// The name on the command line and in the report.
    pub(crate) name: &'static str,
    /// The guarantee that it checks.
    pub(crate) promise: &'static str,
    run: fn(&History) -> Vec<Violation>,
}

impl Check {
    /// Returns violations of the guarantee.
    pub(crate) fn violations(&self, history: &History) -> Vec<Violation> {
        let mut found = (self.run)(history);
        // The first violation is usually the cause of the others. Those without a time come last.
        found.sort_by_key(|violation| violation.at.unwrap_or(Micros::MAX));
        found.truncate(VIOLATIONS_KEPT_MAX);
        found
    }
}

/// All checks, in the order of the report.
pub(crate) const CHECKS: [Check; 11] = [
    Check {
        name: "fabrication",
        promise: "what is received was published, in that channel",
        run: fabrication::check,
    },
    Check {
        name: "agreement",
        promise: "a place holds one publication, whoever asks",
        run: agreement::check,
    },
    Check { name: "duplicates", promise: "a publication has one place", run: duplicates::check },
    Check {
        name: "order",
        promise: "offsets of a subscription count up by one",
        run: sessions::check,
    },
    Check {
        name: "recovery",
        promise: "recovered means everything from the position on",
        run: recovery::check,
    },
    Check {
        name: "acknowledged",
        promise: "what was acknowledged is there, or its epoch ended for a reason",
        run: acknowledged::check,
    },
    Check {
        name: "ingest",
        promise: "what Redis was given is published, or set aside if it can't be",
        run: ingest::check,
    },
    Check { name: "aborted", promise: "what was refused is never seen", run: aborted::check },
    Check {
        name: "realtime",
        promise: "acknowledged before another began stands before it",
        run: realtime::check,
    },
    Check {
        name: "liveness",
        promise: "after the faults everything works, and nothing has leaked",
        run: liveness::check,
    },
    Check {
        name: "notices",
        promise: "who is told of a gap or a new epoch is told for a reason",
        run: notices::check,
    },
];
