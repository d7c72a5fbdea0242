//! The result of one check.

use serde::Serialize;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Fine,
    /// The connections are possible, but slower or less safe.
    Note,
    /// The state could not be read here.
    Unknown,
    /// So many connections are not possible.
    Stops,
}

/// One check with its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check. For a kernel setting it is the name of the setting.
    pub check: String,
    /// The present state.
    pub found: String,
    /// The needed state.
    pub needed: String,
    /// The severity.
    pub verdict: Verdict,
    /// The consequence. Empty if nothing has to be done.
    pub why: String,
    /// The fix: a command or a setting. Empty if nothing has to be done.
    pub fix: String,
}

impl Finding {
    pub(super) fn new(check: &str, found: impl Into<String>, needed: impl Into<String>) -> Finding {
        Finding {
            check: check.to_owned(),
            found: found.into(),
            needed: needed.into(),
            verdict: Verdict::Fine,
            why: String::new(),
            fix: String::new(),
        }
    }

    /// Returns the finding with this verdict, unless the check `holds`.
    pub(super) fn failing_if_not(
        self,
        holds: bool,
        verdict: Verdict,
        why: &str,
        fix: impl Into<String>,
    ) -> Finding {
        if holds { self } else { self.failing(verdict, why, fix) }
    }

    fn failing(self, verdict: Verdict, why: &str, fix: impl Into<String>) -> Finding {
        Finding { verdict, why: why.to_owned(), fix: fix.into(), ..self }
    }

    pub(super) fn unknown(check: &str, needed: impl Into<String>, why: &str) -> Finding {
        Finding::new(check, "unknown", needed).failing(Verdict::Unknown, why, "")
    }
}
