//! What one check came to.

use serde::Serialize;

/// What a finding comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Fine,
    /// It goes on, slower or less safely.
    Note,
    /// Could not be read here.
    Unknown,
    /// So many connections can't be.
    Stops,
}

/// One check, and what it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; a kernel setting by its name.
    pub check: String,
    /// What is.
    pub found: String,
    /// What should be.
    pub needed: String,
    /// What that comes to.
    pub verdict: Verdict,
    /// What happens otherwise. Empty where nothing is to be done.
    pub why: String,
    /// What mends it: a command, or a setting. Empty where nothing is to be done.
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

    /// The same with a verdict, unless it `holds`.
    pub(super) fn failing_if_not(
        self,
        holds: bool,
        verdict: Verdict,
        why: &str,
        fix: impl Into<String>,
    ) -> Finding {
        if holds {
            return self;
        }
        Finding { verdict, why: why.to_owned(), fix: fix.into(), ..self }
    }

    pub(super) fn unknown(check: &str, needed: impl Into<String>, why: &str) -> Finding {
        Finding::new(check, "unknown", needed).failing_if_not(false, Verdict::Unknown, why, "")
    }
}
