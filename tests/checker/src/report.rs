//! The results of a run, for people and for programs.

use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::checks::{CHECKS, Violation};
use crate::history::{History, Usage, seconds};
use crate::load::Counts;

/// Maximum number of violations of a check that the table explains.
const EXPLAINED_MAX: usize = 5;

/// The results of all checks, in order.
pub(crate) struct Verdict {
    /// Each check's violations.
    found: Vec<Vec<Violation>>,
}

impl Verdict {
    /// Runs all checks.
    pub(crate) fn of(history: &History) -> Verdict {
        Verdict { found: CHECKS.iter().map(|check| check.violations(history)).collect() }
    }

    /// Whether every guarantee was kept.
    pub(crate) fn is_sound(&self) -> bool {
        self.found.iter().all(Vec::is_empty)
    }

    /// Whether the check with this name failed.
    pub(crate) fn fails(&self, name: &str) -> bool {
        CHECKS.iter().zip(&self.found).any(|(check, found)| check.name == name && !found.is_empty())
    }
}

/// Returns counters with their names, in the order of the report.
fn rows(history: &History, counts: &Counts) -> Vec<(&'static str, u64)> {
    let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
    vec![
        ("publications acknowledged", read(&counts.ok)),
        ("publications refused", read(&counts.fail)),
        ("publications of unknown result", read(&counts.info)),
        ("repeats with an idempotency key", read(&counts.repeats)),
        ("slowest answer, ms", read(&counts.slowest) / 1000),
        ("entries that Redis was given", history.entries.len() as u64),
        ("entries set aside", history.dead.len() as u64),
        ("received", read(&counts.received)),
        ("connections", read(&counts.connections)),
        ("recoveries with everything", read(&counts.recovered)),
        ("recoveries refused", read(&counts.unrecovered)),
        ("notices of a gap", read(&counts.notices)),
        ("epochs", history.epochs.len() as u64),
        ("faults", history.faults.len() as u64),
    ]
}

/// Returns the tables.
pub(crate) fn text(history: &History, counts: &Counts, verdict: &Verdict) -> String {
    let mut out = String::from("\n");
    for (name, value) in rows(history, counts) {
        out.push_str(&format!("{name:<33} {value:>9}\n"));
    }
    out.push('\n');
    for Usage { what, before, after, limit } in &history.usages {
        out.push_str(&format!("{what} from {before} to {after}, at most {limit}\n"));
    }
    out.push('\n');
    for (check, found) in CHECKS.iter().zip(&verdict.found) {
        let word =
            if found.is_empty() { "kept".to_owned() } else { format!("BROKEN {}", found.len()) };
        out.push_str(&format!("{:<13} {word:<11} {}\n", check.name, check.promise));
    }
    for (check, found) in CHECKS.iter().zip(&verdict.found).filter(|(_, found)| !found.is_empty()) {
        out.push_str(&format!("\n{}: {} violations", check.name, found.len()));
        out.push_str(if found.len() > EXPLAINED_MAX { ", the first:\n" } else { ":\n" });
        for violation in found.iter().take(EXPLAINED_MAX) {
            out.push_str(&format!("  {violation}{}\n", latest_fault(history, violation)));
        }
    }
    out
}

/// Describes the last fault before a violation, which is usually its cause.
fn latest_fault(history: &History, violation: &Violation) -> String {
    let Some(at) = violation.at else { return String::new() };
    let before = history.faults.iter().filter(|fault| fault.begin <= at);
    before.max_by_key(|fault| fault.begin).map_or(String::new(), |fault| {
        let (begin, end) = (seconds(fault.begin), seconds(fault.end));
        format!("\n    after {} from {begin} to {end}: {}", fault.kind, fault.detail)
    })
}

/// Returns the whole report as one object.
pub(crate) fn json(seed: u64, history: &History, counts: &Counts, verdict: &Verdict) -> Value {
    let counts: serde_json::Map<String, Value> = rows(history, counts)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let checks: Vec<Value> = CHECKS
        .iter()
        .zip(&verdict.found)
        .map(|(check, found)| {
            let texts: Vec<String> = found.iter().map(Violation::to_string).collect();
            json!({"name": check.name, "promise": check.promise, "kept": found.is_empty(),
                "violations": texts})
        })
        .collect();
    json!({"seed": seed, "kept": verdict.is_sound(), "counts": counts, "faults": history.faults,
        "checks": checks, "usages": history.usages})
}

/// Writes the history, one record per line.
///
/// # Errors
/// If the file can't be written.
pub(crate) fn keep(history: &History, directory: &Path) -> Result<()> {
    let path = directory.join("history.jsonl");
    let file = std::fs::File::create(&path);
    let file = file.with_context(|| format!("can't write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    let mut line = |value: &Value| writeln!(out, "{value}");
    line(&json!({"channels": history.channels, "epochs": history.epochs}))?;
    for fault in &history.faults {
        line(&json!({"fault": fault}))?;
    }
    for publication in &history.publications {
        line(&json!({"publication": publication}))?;
    }
    for (number, client) in history.clients.iter().enumerate() {
        for event in &client.events {
            line(&json!({"client": number, "event": event}))?;
        }
        line(&json!({"client": number, "end": client.end}))?;
    }
    for read in &history.finals {
        line(&json!({"final": read}))?;
    }
    for probe in &history.probes {
        line(&json!({"probe": probe}))?;
    }
    for usage in &history.usages {
        line(&json!({"usage": usage}))?;
    }
    out.flush().context("can't write the history")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::scene::sound;

    #[test]
    fn what_was_used_is_told_and_kept_also_when_it_is_flat() {
        let (history, counts) = (sound(), Counts::default());
        let text = text(&history, &counts, &Verdict::of(&history));
        let Usage { what, before, after, limit } = &history.usages[0];
        let line = format!("{what} from {before} to {after}, at most {limit}\n");
        assert!(text.contains(&line), "{text}");
        let directory = tempfile::tempdir().unwrap();
        keep(&history, directory.path()).unwrap();
        let kept = std::fs::read_to_string(directory.path().join("history.jsonl")).unwrap();
        assert!(kept.lines().any(|line| line.starts_with("{\"usage\":")), "{kept}");
    }
}
