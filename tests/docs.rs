//! Checks the documents: generated pages are current, links have targets, the architecture names
//! what exists, and the front page is short.
//!
//! `UPDATE_DOCS=1 cargo test --test docs` rewrites the generated parts of `docs`.
#![allow(clippy::expect_used, reason = "a panic is how a check fails")]

#[allow(dead_code, reason = "its other half is for code")]
mod source;
mod documents;

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use documents::names::{Library, quoted};
use documents::{codes, configuration, metrics};
use source::Source;

/// The lines around the generated part of a page.
const BEGIN: &str =
    "<!-- Generated from the source. To refresh: UPDATE_DOCS=1 cargo test --test docs -->\n";
const END: &str = "<!-- End of the generated part -->\n";

/// Maximum number of lines of the front page. Longer content belongs in `docs`.
const README_LINES_MAX: usize = 160;

/// Compares the generated part of `docs/NAME` with `made`, or rewrites it.
fn check_page(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = std::fs::read_to_string(&path).expect("the page exists");
    let (before, rest) = text.split_once(BEGIN).expect("the page has a generated part");
    let (found, after) = rest.split_once(END).expect("the generated part ends");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let page = format!("{before}{BEGIN}{made}{END}{after}");
        std::fs::write(&path, page).expect("the page can be written");
        return;
    }
    let different = found.lines().zip(made.lines()).find(|(old, new)| old != new);
    assert!(
        found == made,
        "docs/{name} is not current: run UPDATE_DOCS=1 cargo test --test docs. First difference \
         (page, source): {different:?}"
    );
}

#[test]
fn the_page_of_settings_is_current() {
    check_page("configuration.md", &configuration::page());
}

#[test]
fn the_page_of_codes_is_current() {
    check_page("codes.md", &codes::page());
}

#[test]
fn the_page_of_metrics_is_current() {
    check_page("metrics.md", &metrics::page());
}

#[test]
fn the_front_page_is_short() {
    let count = include_str!("../README.md").lines().count();
    assert!(count <= README_LINES_MAX, "README.md has {count} lines: move details to docs");
}

#[test]
fn the_architecture_names_files_modules_and_types_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = Library::new(&Source::all());
    let lines = prose(include_str!("../ARCHITECTURE.md"));
    let lacking: Vec<&str> =
        lines.flat_map(quoted).filter(|code| library.lacks(root, code)).collect();
    assert!(lacking.is_empty(), "ARCHITECTURE.md names what does not exist: {lacking:?}");
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages: Vec<Source> =
        Source::all().into_iter().filter(|source| source.path.ends_with(".md")).collect();
    let anchors: HashMap<&str, HashSet<String>> =
        pages.iter().map(|page| (page.path.as_str(), anchors(&page.text))).collect();
    let mut errors = Vec::new();
    for page in &pages {
        for link in links(&page.text) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.path.clone() } else { beside(&page.path, file) };
            if !root.join(&target).exists() {
                errors.push(format!("{}: ({link}): there is no {target}", page.path));
            } else if !anchor.is_empty()
                && anchors.get(&*target).is_some_and(|known| !known.contains(anchor))
            {
                errors.push(format!("{}: ({link}): {target} has no such heading", page.path));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

/// Converts `file`, which is relative to the page at `from`, to a path from the root.
fn beside(from: &str, file: &str) -> String {
    let mut path = PathBuf::from(from);
    path.pop();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{from}: ({file}) leaves the repository"),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path.display().to_string()
}

/// Returns targets of the links in `text` that stay in this repository. Code is skipped.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            if !target.contains("://") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// Returns the lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// Returns the anchors that GitHub generates for the headings of `text`.
fn anchors(text: &str) -> HashSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|&one| one.is_alphanumeric() || " -_".contains(one));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn anchors_are_those_of_forges() {
    assert_eq!(anchor("What is missed, and why"), "what-is-missed-and-why");
    assert_eq!(anchor("`server.listen`"), "serverlisten");
    assert_eq!(anchor("tcp_mem"), "tcp_mem");
    assert_eq!(links("a [b](c.md#d) [e](https://f)\n```\n[g](h)\n```\n"), ["c.md#d"]);
    assert_eq!(beside("docs/api.md", "../README.md"), "README.md");
}
