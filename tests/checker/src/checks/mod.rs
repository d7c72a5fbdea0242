//! The eleven checks, each a scan over the history: what breaks the promise, in words.

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

/// Violations of one check that are kept: one cause makes thousands.
const VIOLATIONS_KEPT_MAX: usize = 1000;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// When it showed, if it has a moment.
    pub(crate) at: Option<Micros>,
    /// What is wrong, where, and by whose word.
    pub(crate) text: String,
}

impl Violation {
    fn at(at: Micros, text: String) -> Violation {
        // Final histories are read at the end of time.
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

/// A violation for each time that somebody saw a publication for which `wrong` has words: it is
/// given who saw what, and the publication if there is one.
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
    /// What it is called on the command line and in the report.
    pub(crate) name: &'static str,
    /// The promise that it holds the server to.
    pub(crate) promise: &'static str,
    run: fn(&History) -> Vec<Violation>,
}

impl Check {
    /// What breaks the promise.
    pub(crate) fn violations(&self, history: &History) -> Vec<Violation> {
        let mut found = (self.run)(history);
        // The first one is most often the cause of the rest. What has no moment comes last.
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
