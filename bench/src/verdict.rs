//! How a scenario went, which is what the exit code says.

use crate::fleet::Ended;

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Interrupted,
}

impl Verdict {
    /// An interrupt hides what was not reached, so it is told apart from both.
    pub(crate) fn of(ended: Ended, faultless: bool) -> Self {
        match ended {
            Ended::Interrupted => Self::Interrupted,
            Ended::Done if faultless => Self::Passed,
            Ended::Done | Ended::TimedOut | Ended::Broken | Ended::Overloaded => Self::Failed,
        }
    }
}
