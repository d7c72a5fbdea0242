//! The codes of closed connections, failed requests and ended subscriptions, from the table of
//! reasons.

use std::fmt::{Debug, Write as _};

use corecast::reason::{ClientError, CloseReason, Details, UnsubscribeReason};

use super::escaped;

const SOURCE: &str = include_str!("../../src/reason.rs");

/// Returns the generated part of `codes.md`.
pub fn page() -> String {
    let mut page = String::new();
    let closes = CloseReason::ALL.iter().map(|reason| (name(reason), reason.details()));
    page.push_str("## Close codes\n\n| code | reason | reconnect | meaning | `reason` of ");
    page.push_str("`corecast_closes_total` |\n|---|---|---|---|---|\n");
    rows(&mut page, "CloseReason", closes, |details| format!("| `{}` |", details.label));
    page.push_str("\n## Errors\n\n| code | message | temporary | meaning |\n|---|---|---|---|\n");
    let errors = ClientError::ALL.iter().map(|error| (name(error), error.details()));
    rows(&mut page, "ClientError", errors, |_| "|".to_owned());
    page.push_str("\n## Unsubscribe codes\n\n| code | reason | meaning |\n|---|---|---|\n");
    for reason in [UnsubscribeReason::Server, UnsubscribeReason::InsufficientState] {
        let (code, text) = reason.code_and_text();
        let meaning = meaning("UnsubscribeReason", &name(&reason));
        writeln!(page, "| {code} | {text} | {meaning} |").expect("a text");
    }
    page
}

/// Adds rows of a table in the order of their codes. Those without a code come last.
fn rows(
    page: &mut String,
    of: &str,
    reasons: impl Iterator<Item = (String, Details)>,
    last: impl Fn(&Details) -> String,
) {
    let mut all: Vec<(String, Details)> = reasons.collect();
    all.sort_by_key(|(_, details)| if details.code == 0 { u16::MAX } else { details.code });
    for (name, details) in all {
        let code = if details.code == 0 { "–".to_owned() } else { details.code.to_string() };
        let yes = if details.reconnect { "yes" } else { "no" };
        let (text, meaning) = (escaped(details.text), meaning(of, &name));
        writeln!(page, "| {code} | {text} | {yes} | {meaning} {}", last(&details)).expect("a text");
    }
}

fn name(variant: &impl Debug) -> String {
    format!("{variant:?}")
}

/// Returns the doc comment of a variant.
fn meaning(of: &str, variant: &str) -> String {
    let start = SOURCE
        .match_indices(&format!("{of} {{"))
        .map(|(at, _)| at)
        .find(|at| !SOURCE[..*at].ends_with("impl "))
        .expect("the enum is in the source");
    let mut doc: Vec<&str> = Vec::new();
    for line in SOURCE[start..].lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
        } else if line.starts_with(&format!("{variant} ")) || line == format!("{variant},") {
            return escaped(&without_links(&doc.join(" ")));
        } else {
            doc.clear();
        }
    }
    panic!("{of}::{variant} has no row in the source");
}

/// Replaces links in `text` by their names.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[`") {
        let (name, after) = after.split_once("`]").expect("the link ends");
        out.push_str(&format!("{before}`{name}`"));
        rest = match after.strip_prefix('(') {
            Some(target) => target.split_once(')').expect("its target ends").1,
            None => after,
        };
    }
    out + rest
}
