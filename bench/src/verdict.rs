//! The result of a scenario, which determines the exit code.

use crate::fleet::Ended;

/// The result of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Interrupted,
}

impl Verdict {
    /// Expectations may be missed because of an interrupt, so it is neither a success nor a
    /// failure.
    pub(crate) fn of(ended: Ended, faultless: bool) -> Self {
        match ended {
            Ended::Interrupted => Self::Interrupted,
            Ended::Done if faultless => Self::Passed,
            Ended::Done | Ended::TimedOut | Ended::Broken | Ended::Overloaded => Self::Failed,
        }
    }
}
