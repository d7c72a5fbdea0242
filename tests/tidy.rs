//! Checks habits that a machine can check. Each error names the alternative.
#![allow(clippy::expect_used, reason = "a panic is how a check fails")]

#[path = "tidy/parameters.rs"]
mod parameters;
mod source;

use source::{Source, is_name};

/// Maximum number of lines of a file, so that it can be kept in mind.
const FILE_LINES_MAX: usize = 500;

/// Maximum number of columns of a line, so that two files fit side by side.
const LINE_COLUMNS_MAX: usize = 100;

/// Files with code. Rows of tables in Markdown and inline tables of TOML can't be wrapped.
const CODE_SUFFIXES: [&str; 5] = [".rs", ".py", ".mjs", ".html", ".sh"];

/// Files that may contain `unsafe`.
const UNSAFE_HOMES: [&str; 3] = ["src/sys/", "bench/src/sys.rs", "tests/descriptors.rs"];

/// Words that postpone work. They are split, so that this file contains none.
const PUT_OFF: [(&str, &str); 4] = [("TO", "DO"), ("FIX", "ME"), ("X", "XX"), ("for ", "now")];

/// The endings of names of bounds.
const BOUND_ENDINGS: [&str; 8] =
    ["_MAX", "_MIN", "_TIMEOUT", "_INTERVAL", "_PATIENCE", "_TTL", "_PAUSE", "_DEADLINE"];

/// Constants that are named like bounds, but are sizes of types or formats.
const NO_BOUNDS: [&str; 6] = [
    "src/redis/check.rs:VERSION_MIN",
    "src/channel/name.rs:BYTES_MAX",
    "src/ids.rs:COUNT_MAX",
    "src/collections/table.rs:CAPACITY_MIN",
    "src/ws/encode.rs:HEADER_BYTES_MAX",
    "src/ws/header.rs:HEADER_BYTES_MAX",
];

/// Number of tuple parameters of functions in `src`. It may only be lowered.
const TUPLE_PARAMETERS: usize = 0;

/// Number of `bool` parameters of functions in `src`. It may only be lowered.
const BOOL_PARAMETERS: usize = 5;

/// Names without a meaning.
const EMPTY_NAMES: [&str; 5] = ["utils", "util", "helpers", "manager", "misc"];

/// Adds an error for each line of `source` for which `wrong` returns a message.
fn lines(source: &Source, errors: &mut Vec<String>, wrong: impl Fn(&str) -> Option<String>) {
    for (at, line) in source.text.lines().enumerate() {
        if let Some(words) = wrong(line) {
            errors.push(format!("{}:{}: {words}", source.path, at + 1));
        }
    }
}

/// Whether `text` contains `word` with no letter, digit or `_` next to it.
fn has_word(text: &str, word: &str) -> bool {
    let bytes = text.as_bytes();
    let beside = |at: usize| bytes.get(at).is_some_and(|&byte| is_name(byte));
    text.match_indices(word).any(|(at, _)| {
        let before = at > 0 && beside(at - 1);
        !before && !beside(at + word.len())
    })
}

/// Runs `check` on every file, and fails with its errors.
fn check(check: impl Fn(&Source, &mut Vec<String>)) {
    let mut errors = Vec::new();
    Source::all().iter().for_each(|source| check(source, &mut errors));
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

fn is_code(source: &Source) -> bool {
    CODE_SUFFIXES.iter().any(|suffix| source.path.ends_with(suffix)) || is_script(source)
}

fn is_script(source: &Source) -> bool {
    source.text.starts_with("#!")
}

fn is_shell(source: &Source) -> bool {
    let first = source.text.lines().next().unwrap_or_default();
    first.starts_with("#!") && first.ends_with("sh")
}

#[test]
fn files_and_lines_are_short() {
    check(|source, errors| {
        if !is_code(source) {
            return;
        }
        let count = source.text.lines().count();
        if count > FILE_LINES_MAX {
            errors.push(format!(
                "{}: {count} lines, where {FILE_LINES_MAX} are allowed. Split it by what it does: \
                 the parent keeps the branches, its parts the loops",
                source.path
            ));
        }
        lines(source, errors, |line| {
            let columns = line.chars().count();
            (columns > LINE_COLUMNS_MAX).then(|| {
                format!("{columns} columns, where {LINE_COLUMNS_MAX} are allowed. Break the line")
            })
        });
    });
}

#[test]
fn every_module_says_what_it_is_for() {
    check(|source, errors| {
        if source.is_rust() && !source.text.starts_with("//!") {
            errors.push(format!(
                "{}:1: begins without `//!`. Say in a sentence what it is for, and where it stands \
                 on a message's path",
                source.path
            ));
        }
    });
}

#[test]
fn nothing_is_put_off() {
    check(|source, errors| {
        lines(source, errors, |line| {
            let words = PUT_OFF.iter().map(|(front, back)| format!("{front}{back}"));
            let found = words.into_iter().find(|word| has_word(line, word))?;
            Some(format!(
                "{found:?}. Do it, or say what is absent and why; work goes into an issue"
            ))
        });
    });
}

#[test]
fn unsafe_stands_where_system_calls_are() {
    check(|source, errors| {
        let home = UNSAFE_HOMES.iter().any(|home| source.path.starts_with(home));
        if !source.is_rust() || home {
            return;
        }
        for (at, line) in source.code().lines().enumerate() {
            if has_word(line, "unsafe") {
                errors.push(format!(
                    "{}:{}: `unsafe` outside {UNSAFE_HOMES:?}. Use a safe crate, or a function of \
                     `sys`",
                    source.path,
                    at + 1
                ));
            }
        }
    });
}

#[test]
fn nothing_is_unwrapped() {
    check(|source, errors| {
        if !source.is_rust() || source.is_test() {
            return;
        }
        for (at, line) in source.code().lines().enumerate() {
            if line.contains(".unwrap()") {
                errors.push(format!(
                    "{}:{}: `unwrap()`. Return an error for what the world does; for what is \
                     proven `expect`, under `#[expect(clippy::expect_used, reason = …)]`",
                    source.path,
                    at + 1
                ));
            }
        }
    });
}

#[test]
fn a_silenced_lint_says_why() {
    check(|source, errors| {
        if !source.is_rust() {
            return;
        }
        let code = source.code();
        for opening in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            for (at, _) in code.match_indices(opening) {
                let attribute = code[at..].split(']').next().unwrap_or_default();
                if !has_word(attribute, "reason") {
                    let line = code[..at].matches('\n').count() + 1;
                    errors.push(format!(
                        "{}:{line}: {opening}…) without a reason. Add reason = \"…\", or fix what \
                         the lint found",
                        source.path
                    ));
                }
            }
        }
    });
}

#[test]
fn lines_end_where_their_text_ends() {
    check(|source, errors| {
        lines(source, errors, |line| {
            let trimmed = line.trim_end();
            (trimmed.len() < line.len()).then(|| "blanks at the end. Remove them".to_owned())
        });
        if !source.text.is_empty() && !source.text.ends_with('\n') {
            errors.push(format!("{}: ends within a line. Add a line feed", source.path));
        }
    });
}

#[test]
fn shell_scripts_stop_at_their_first_error() {
    const SETTING: &str = "set -euo pipefail";
    check(|source, errors| {
        if !is_shell(source) {
            return;
        }
        let first = source.text.lines().find(|line| !line.starts_with('#') && !line.is_empty());
        if first != Some(SETTING) {
            let path = &source.path;
            errors.push(format!("{path}: begins with {first:?}. Write `{SETTING}` before it"));
        }
    });
}

#[test]
fn bounds_stand_in_limits() {
    check(|source, errors| {
        let own = source.path.starts_with("src/limits") || !source.path.starts_with("src/");
        if own || !source.is_rust() || source.is_test() {
            return;
        }
        let code = source.code();
        for (at, line) in code.lines().enumerate() {
            let Some(name) = line.split("const ").nth(1).and_then(|rest| rest.split(':').next())
            else {
                continue;
            };
            let is_bound = BOUND_ENDINGS.iter().any(|ending| name.ends_with(ending));
            if is_bound && !NO_BOUNDS.contains(&format!("{}:{name}", source.path).as_str()) {
                errors.push(format!(
                    "{}:{}: the bound {name}. Put it into `limits`, with what it costs and why it \
                     is as it is",
                    source.path,
                    at + 1
                ));
            }
        }
    });
}

#[test]
fn names_say_something() {
    check(|source, errors| {
        let name = source.path.rsplit('/').next().unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            errors.push(format!("{}: says nothing. Name it after what it holds", source.path));
        }
        if !source.is_rust() {
            return;
        }
        for (at, line) in source.code().lines().enumerate() {
            if line.contains("fn get_") || line.contains("fn do_") {
                errors.push(format!(
                    "{}:{}: `get_` and `do_` say nothing. Name what is answered, or done",
                    source.path,
                    at + 1
                ));
            }
        }
    });
}

#[test]
fn parameters_say_what_they_mean() {
    let mut found = parameters::Found::default();
    let sources = Source::all();
    let library = |one: &&Source| one.path.starts_with("src/") && one.is_rust() && !one.is_test();
    sources.iter().filter(library).for_each(|source| parameters::find(source, &mut found));
    for (kind, entries, allowed, instead) in [
        ("tuples", &found.tuples, TUPLE_PARAMETERS, "a struct with a name"),
        ("bools", &found.bools, BOOL_PARAMETERS, "an enum of two names, or two functions"),
    ] {
        let (count, list) = (entries.len(), entries.join("\n"));
        assert!(count <= allowed, "\n{list}\n{count} {kind}, {allowed} before. Use {instead}");
        assert_eq!(count, allowed, "there are fewer {kind} than before: lower the number");
    }
}
