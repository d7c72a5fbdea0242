//! Names of files, modules and types in a page.

use std::collections::HashSet;
use std::path::Path;

use crate::source::{Source, is_name};

/// The identifiers in the code of the library, by file.
pub struct Library {
    files: Vec<(String, HashSet<String>)>,
}

impl Library {
    /// Reads the library from all files of the repository.
    pub fn new(sources: &[Source]) -> Library {
        let library = |source: &&Source| source.path.starts_with("src/") && source.is_rust();
        let files = sources.iter().filter(library).map(|source| {
            let code = source.code();
            let names = code.split(|one: char| !is_name_char(one)).map(str::to_owned);
            (source.path.clone(), names.collect())
        });
        Library { files: files.collect() }
    }

    /// Whether `code`, which stands between backticks, names something that does not exist. A path
    /// of a file begins at the root of the repository or in `src`. A Rust name begins at the root
    /// of the crate, or with a type. Everything else is not checked.
    pub fn lacks(&self, root: &Path, code: &str) -> bool {
        if is_path(code) {
            return !root.join(code).exists() && !root.join("src").join(code).exists();
        }
        let segments: Vec<&str> = code.split("::").collect();
        let named = segments.iter().all(|one| !one.is_empty() && one.chars().all(is_name_char));
        if !named || segments.len() == 1 && !is_camel_case(code) {
            return false;
        }
        let mut base = "src".to_owned();
        let mut items = &segments[..];
        while let [module, rest @ ..] = items
            && self.has_module(&format!("{base}/{module}"))
        {
            base = format!("{base}/{module}");
            items = rest;
        }
        let begins_below = base != "src" || is_camel_case(segments[0]);
        !begins_below || !items.iter().all(|item| self.has_name(&base, item))
    }

    fn has_module(&self, base: &str) -> bool {
        self.files.iter().any(|(file, _)| is_in(file, base))
    }

    fn has_name(&self, base: &str, name: &str) -> bool {
        self.files.iter().any(|(file, names)| is_in(file, base) && names.contains(name))
    }
}

/// Returns the texts between backticks of a line.
pub fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether `file` belongs to the module at `base`.
fn is_in(file: &str, base: &str) -> bool {
    file.strip_prefix(base).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn is_path(code: &str) -> bool {
    let allowed = |one: char| is_name_char(one) || "/.-".contains(one);
    code.contains('/') && !code.starts_with('/') && code.chars().all(allowed)
}

fn is_camel_case(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(char::is_uppercase) && chars.next().is_some_and(char::is_lowercase)
}

fn is_name_char(one: char) -> bool {
    u8::try_from(one).is_ok_and(is_name)
}

#[test]
fn only_existing_names_are_found() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let library = Library::new(&[
        source("src/home/mod.rs", "pub struct Home; enum Part { Whole }"),
        source("src/pool.rs", "pub struct Pool; // Gone"),
    ]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lacking = ["src/none.rs", "home::Pool", "none::Home", "pool::none", "Gone", "Part::Half"];
    for code in lacking {
        assert!(library.lacks(root, code), "{code} does not exist");
    }
    let known = ["src/lib.rs", "home/mod.rs", "/ready", "home::Home", "Pool", "Part::Whole"];
    let unchecked = ["append.lua", "a b", "<epoch>-<number>", "MSG_DONTWAIT", "--soak"];
    for code in known.into_iter().chain(unchecked) {
        assert!(!library.lacks(root, code), "{code} exists or is not checked");
    }
    assert!(quoted("a `b::c` d `e`").eq(["b::c", "e"]));
}
