//! Source files for the structural tests: their paths, and their text with or without comments.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that contain no files of this project.
const FOREIGN_DIRS: [&str; 6] =
    [".git", ".cache", ".venv", "node_modules", "target", "__pycache__"];

/// Inputs of fuzz targets, which are bytes and not text.
const BYTES_DIRS: [&str; 2] = ["fuzz/corpus", "fuzz/artifacts"];

/// A file of this repository.
pub struct Source {
    /// Its path from the root of the repository.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Returns every text file of the repository.
    pub fn all() -> Vec<Source> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = Vec::new();
        collect(root, root, &mut found);
        assert!(found.len() > 100, "only {} files found under {}", found.len(), root.display());
        found
    }

    /// Whether it is a Rust file.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the whole file is a test, or part of one.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| matches!(part, "tests" | "tests.rs"))
    }

    /// Returns its code outside test modules. Comments, literals and tests are replaced by blanks,
    /// so that lines keep their numbers.
    pub fn code(&self) -> String {
        without_tests(&without_comments_and_literals(&self.text))
    }
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<Source>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("a directory can be read to its end").path())
        .filter(|path| !path.is_symlink())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let relative = path.strip_prefix(root).expect("below the top").display().to_string();
        if path.is_dir() {
            let foreign = FOREIGN_DIRS.contains(&&*name) || BYTES_DIRS.contains(&&*relative);
            if !foreign {
                collect(root, &path, found);
            }
        } else if let Ok(text) = fs::read_to_string(&path)
            && !name.ends_with(".lock")
            && name != "package-lock.json"
        {
            found.push(Source { path: relative, text });
        }
    }
}

/// Replaces comments, strings and characters in `text` by blanks.
fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip_blanked(bytes, at);
        if end == at {
            at += 1;
            continue;
        }
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8(out).expect("whole characters are blanked")
}

/// Returns the end of the comment or literal that begins at `at`, or `at` if there is none.
fn skip_blanked(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let follows_name = at > 0 && is_name(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + block_comment_bytes(rest);
    }
    match rest[0] {
        b'"' => at + quoted_bytes(rest, b'"'),
        b'\'' => at + character_bytes(rest),
        b'r' if !follows_name || bytes[at - 1] == b'b' => at + raw_string_bytes(rest),
        _ => at,
    }
}

fn block_comment_bytes(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Returns the length of a literal, including both `quote`s.
fn quoted_bytes(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Returns the length of a character literal, or 0 for a lifetime.
fn character_bytes(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return quoted_bytes(rest, b'\'');
    }
    // A character has up to four bytes.
    let end = rest.iter().skip(2).take(4).position(|&byte| byte == b'\'');
    let whole =
        |length: usize| std::str::from_utf8(&rest[1..=length]).map(|one| one.chars().count());
    end.map(|extra| extra + 1)
        .filter(|&length| whole(length) == Ok(1))
        .map_or(0, |length| length + 2)
}

/// Returns the length of `r"…"` or `r#"…"#`, or 0 for a name that begins with r.
fn raw_string_bytes(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = &rest[2 + hashes..];
    let length = body.windows(end.len()).position(|window| window == end).unwrap_or(body.len());
    (2 + hashes + length + end.len()).min(rest.len())
}

/// Replaces items with `#[cfg(test)]` in `code` by blanks.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let begin = from + found;
        let end = begin + item_bytes(&code.as_bytes()[begin..]);
        out[begin..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        from = end;
    }
    String::from_utf8(out).expect("whole items are blanked")
}

/// Returns the length of the item at the start of `rest`, up to its `;` or the end of its block.
fn item_bytes(rest: &[u8]) -> usize {
    let mut depth = 0;
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth -= 1;
                if depth == 0 && *byte == b'}' {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether `byte` may be part of a name.
pub fn is_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

#[test]
fn code_is_what_is_neither_comment_nor_literal_nor_test() {
    let text = r##"
a("x // \" y", 'z', '\'', b"q", r#"r " s"#); // c
/* d /* e */ f */ fn g<'h>(i: &'h str) {}
#[cfg(test)]
mod j { fn k() { l[0]; } }
m
"##;
    let code = Source { path: String::new(), text: text.to_owned() }.code();
    let words: Vec<&str> = code.split_whitespace().collect();
    let rest = ["a(", ",", ",", ",", "b", ",", ");", "fn", "g<'h>(i:", "&'h", "str)", "{}", "m"];
    assert_eq!(words, rest);
    assert_eq!(code.lines().count(), text.lines().count());
}
