//! Counts parameters that hide their meaning: tuples, which evade the limit of arguments, and
//! `bool`s, whose values say nothing in a call.

use crate::source::{Source, is_name};

/// Parameters of functions, each as `file:line: name: type`. Closures don't count.
#[derive(Default)]
pub struct Found {
    pub tuples: Vec<String>,
    pub bools: Vec<String>,
}

/// Finds such parameters in one file.
pub fn find(source: &Source, found: &mut Found) {
    let code = source.code();
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && is_name(code.as_bytes()[at - 1]) {
            continue;
        }
        let Some(parameters) = parameters(&code[at + 3..]) else { continue };
        for parameter in parameters {
            let Some((pattern, kind)) = split_at_colon(parameter) else { continue };
            let line = code[..at].matches('\n').count() + 1;
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let entry = format!("{}:{line}: {}: {}", source.path, words(pattern), words(kind));
            let plain = kind.trim_start_matches('&').trim_start().trim_start_matches("mut ");
            if plain.starts_with('(') && pieces(inside(plain)).len() > 1 {
                found.tuples.push(entry);
            } else if kind == "bool" {
                found.bools.push(entry);
            }
        }
    }
}

/// Returns the parameters of the function whose name is at the start of `rest`.
fn parameters(rest: &str) -> Option<Vec<&str>> {
    let name = rest.bytes().take_while(|&byte| is_name(byte)).count();
    let mut rest = rest[name..].trim_start();
    if rest.starts_with('<') {
        rest = rest[end_of_group(rest)..].trim_start();
    }
    (name > 0 && rest.starts_with('(')).then(|| pieces(inside(rest)))
}

/// Returns the text between the bracket at the start of `text` and its partner.
fn inside(text: &str) -> &str {
    &text[1..(end_of_group(text) - 1).max(1)]
}

/// Returns the end of the group at the start of `text`. An arrow does not end a group.
fn end_of_group(text: &str) -> usize {
    let (mut depth, mut before) = (0, ' ');
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
        before = letter;
    }
    text.len()
}

/// Cuts `text` at commas outside of groups.
fn pieces(text: &str) -> Vec<&str> {
    let (mut begin, mut at, mut pieces) = (0, 0, Vec::new());
    while let Some(letter) = text[at..].chars().next() {
        match letter {
            '(' | '[' | '{' | '<' => {
                at += end_of_group(&text[at..]);
                continue;
            }
            ',' => {
                pieces.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
        at += letter.len_utf8();
    }
    pieces.push(text[begin..].trim());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// Returns the pattern and the type of a parameter, or `None` for `self`.
fn split_at_colon(parameter: &str) -> Option<(&str, &str)> {
    let mut at = 0;
    while let Some(letter) = parameter[at..].chars().next() {
        match letter {
            '(' | '[' | '{' => at += end_of_group(&parameter[at..]),
            ':' if parameter[at..].starts_with("::") => at += 2,
            ':' => return Some((parameter[..at].trim(), parameter[at + 1..].trim())),
            _ => at += letter.len_utf8(),
        }
    }
    None
}

#[test]
fn parameters_are_told_apart() {
    let text = "fn a<F: Fn(u8) -> u8>(self, (b, c): (F, [u8; 2]), d: bool) -> (bool, bool) {}\n\
                pub fn e(f: &mut (u8, u8), g: (u8), h: &[(u8, u8)], i: Option<bool>) {\n\
                let j = |k: (u8, u8), l: bool| k; let m: fn(bool, (u8, u8)) = n; }\n\
                fn o(p::Q { r, s }: p::Q, t: impl Fn((u8, u8)) -> bool, u: ()) {}";
    let source = Source { path: "src/x.rs".to_owned(), text: text.to_owned() };
    let mut found = Found::default();
    find(&source, &mut found);
    assert_eq!(found.tuples, ["src/x.rs:1: (b, c): (F, [u8; 2])", "src/x.rs:2: f: &mut (u8, u8)"]);
    assert_eq!(found.bools, ["src/x.rs:1: d: bool"]);
}
