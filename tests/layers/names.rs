//! Finds the paths in a file, which are its uses of other modules.

use std::fmt;

use crate::source::is_name;

/// A path such as `crate::a::b` in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    pub segments: Vec<String>,
    /// The name that a `use` gives it; `*` if it imports everything below it.
    pub bound: Option<String>,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segments.join("::"))
    }
}

/// Returns all paths in `code` with their lines.
pub fn names(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let bytes = code.as_bytes();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        if !is_name(bytes[at]) {
            line += usize::from(bytes[at] == b'\n');
            at += 1;
            continue;
        }
        let end = chain_end(bytes, at);
        let chain = &code[at..end];
        if chain == "use" {
            let tree_end = end + code[end..].find(';').unwrap_or(code.len() - end);
            let mut paths = Vec::new();
            expand(&code[end..tree_end], &[], &mut paths);
            let named = |(segments, bound)| Named { line, segments, bound: Some(bound) };
            found.extend(paths.into_iter().map(named));
            line += code[at..tree_end].matches('\n').count();
            at = tree_end;
        } else {
            let segments = chain.split("::").map(str::to_owned).collect();
            found.push(Named { line, segments, bound: None });
            at = end;
        }
    }
    found
}

/// Returns the end of the chain of names and `::` that begins at `at`.
fn chain_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        while bytes.get(at).is_some_and(|&byte| is_name(byte)) {
            at += 1;
        }
        let goes_on =
            bytes[at..].starts_with(b"::") && bytes.get(at + 2).is_some_and(|&byte| is_name(byte));
        if !goes_on {
            return at;
        }
        at += 2;
    }
}

/// Returns every path of a `use` tree with its name: `a::{b, c::d as e}` is `a::b` as `b` and
/// `a::c::d` as `e`.
fn expand(tree: &str, before: &[String], paths: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    let (front, group) = match tree.split_once('{') {
        Some((front, group)) => (front, Some(group.strip_suffix('}').unwrap_or(group))),
        None => (tree, None),
    };
    let (front, renamed) = match front.split_once(" as ") {
        Some((front, renamed)) => (front, Some(renamed.trim().to_owned())),
        None => (front, None),
    };
    let segments = front.split("::").map(str::trim).filter(|segment| !segment.is_empty());
    let mut path = before.to_vec();
    path.extend(segments.map(str::to_owned));
    let Some(group) = group else {
        if path.len() > before.len() {
            let last = path.iter().rev().find(|segment| *segment != "self").cloned();
            let bound = renamed.or(last).unwrap_or_default();
            paths.push((path, bound));
        }
        return;
    };
    let (mut depth, mut begin) = (0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&group[begin..at], &path, paths);
                begin = at + 1;
            }
            _ => {}
        }
    }
    expand(&group[begin..], &path, paths);
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let code = "use crate::a::{self, b::C, d as e};\nfn f() -> super::G { crate::h::i!(J) }\n\
                pub use k::{l::*};";
    let found: Vec<String> = names(code).iter().map(|one| format!("{}:{one}", one.line)).collect();
    let paths = [
        "1:crate::a::self",
        "1:crate::a::b::C",
        "1:crate::a::d",
        "2:fn",
        "2:f",
        "2:super::G",
        "2:crate::h::i",
        "2:J",
        "3:pub",
        "3:k::l::*",
    ];
    assert_eq!(found, paths);
    let names = names(code);
    let bound: Vec<&str> = names.iter().filter_map(|one| one.bound.as_deref()).collect();
    assert_eq!(bound, ["a", "C", "e", "*"]);
}
