//! Holds the layers: a module names only modules of its own layer or below, and nothing pure names
//! the kernel, a clock, a runtime or a thread.
#![allow(clippy::expect_used, reason = "a panic is how a check fails")]

mod source;

use std::collections::BTreeMap;
use std::fmt;

use source::{Source, is_name};

/// The layers, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// What every part may say. No state, no logic to speak of.
    Words,
    /// Bytes, state and `now` in, values out: so that whole nodes run under a simulated clock.
    Pure,
    /// What touches the kernel, a clock, a runtime.
    Shell,
    /// What puts the others together.
    Root,
}

use Layer::{Pure, Root, Shell, Words};

/// Every module at the top of `src`. A part of one may have a layer of its own.
const LAYERS: [(&str, Layer); 36] = [
    ("ids", Words),
    ("limits", Words),
    ("reason", Words),
    ("secret", Words),
    ("units", Words),
    ("sabotage", Words),
    ("collections", Pure),
    ("pool", Pure),
    ("subnets", Pure),
    ("readiness", Pure),
    ("handshake", Pure),
    ("ws", Pure),
    ("protocol", Pure),
    ("wire", Pure),
    ("connection", Pure),
    ("channel", Pure),
    ("settings", Pure),
    ("bus", Pure),
    ("home", Pure),
    ("kernel", Pure),
    ("shard", Pure),
    // Its queues are crossbeam's, which is memory like any other; the wake is a trait.
    ("mesh", Pure),
    // What shards count. The page that shows it, and /proc, are the rest of `metrics`.
    ("metrics::counters", Pure),
    ("metrics", Shell),
    // From readings to findings; who reads /proc is `doctor::proc`.
    ("doctor::findings", Pure),
    ("doctor::keys", Pure),
    ("doctor::readings", Pure),
    ("doctor", Shell),
    ("bridge", Shell),
    ("accept", Shell),
    ("api", Shell),
    ("sys", Shell),
    ("config", Root),
    ("server", Root),
    ("cli", Root),
    ("main", Root),
];

/// What nothing pure may name, and what to use instead.
const FORBIDDEN: [(&str, &str); 14] = [
    ("monoio", "plain functions that `server` calls"),
    ("tokio", "plain functions that `server` or `api` calls"),
    ("hyper", "`api`"),
    ("axum", "`api`"),
    ("io_uring", "`kernel::Sockets`"),
    ("libc", "`kernel::Sockets`, or a function of `sys`"),
    ("std::net", "`kernel::Socket`"),
    ("std::os", "`kernel::Socket`"),
    ("std::fs", "a value that `config` has read"),
    ("std::env", "a value that `config` has read"),
    ("std::thread", "a message through `mesh`"),
    ("std::process", "a return value"),
    ("Instant", "`ids::Moment`, handed in as now"),
    ("SystemTime", "`ids::Moment`, handed in as now"),
];

/// A path such as `crate::a::b` in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    line: usize,
    segments: Vec<String>,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segments.join("::"))
    }
}

/// A file of the library with its place among modules.
struct Module {
    file: String,
    /// `["shard", "homes"]` for `src/shard/homes/mod.rs`.
    path: Vec<String>,
    named: Vec<Named>,
}

impl Module {
    fn new(source: &Source) -> Module {
        let inner = source.path.strip_prefix("src/").expect("a file of the library");
        let inner = inner.strip_suffix(".rs").expect("a file of Rust");
        let inner = inner.strip_suffix("/mod").unwrap_or(inner);
        let path = match inner {
            "lib" => Vec::new(),
            other => other.split('/').map(str::to_owned).collect(),
        };
        Module { file: source.path.clone(), path, named: names(&source.code()) }
    }

    /// The path from the top of the library that `named` means; none for other crates' and local
    /// ones.
    fn resolve(&self, named: &Named) -> Option<Vec<String>> {
        let mut base = match named.segments.first()?.as_str() {
            "crate" | "corecast" => Vec::new(),
            "self" | "super" => self.path.clone(),
            _ => return None,
        };
        for segment in &named.segments {
            match segment.as_str() {
                "crate" | "corecast" | "self" => {}
                "super" => drop(base.pop()),
                other => base.push(other.to_owned()),
            }
        }
        Some(base)
    }
}

/// All paths in `code`, each with the line that it begins on.
fn names(code: &str) -> Vec<Named> {
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
            found.extend(paths.into_iter().map(|segments| Named { line, segments }));
            line += code[at..tree_end].matches('\n').count();
            at = tree_end;
        } else {
            let segments = chain.split("::").map(str::to_owned).collect();
            found.push(Named { line, segments });
            at = end;
        }
    }
    found
}

/// Where the chain of names and `::` that begins at `at` ends.
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

/// Every path of a `use` tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str, before: &[String], paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let (front, group) = match tree.split_once('{') {
        Some((front, group)) => (front, Some(group.strip_suffix('}').unwrap_or(group))),
        None => (tree.split(" as ").next().unwrap_or_default(), None),
    };
    let segments = front.split("::").map(str::trim).filter(|segment| !segment.is_empty());
    let mut path = before.to_vec();
    path.extend(segments.map(str::to_owned));
    let Some(group) = group else {
        if path.len() > before.len() {
            paths.push(path);
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

/// What the top of a module takes from its parts: `Counter` is `metrics::counters`' for
/// `pub use counters::Counter` in `src/metrics/mod.rs`.
fn reexports(modules: &[Module]) -> BTreeMap<[String; 2], String> {
    let mut found = BTreeMap::new();
    for module in modules.iter().filter(|module| module.path.len() == 1) {
        for named in &module.named {
            if let [part, name] = &named.segments[..] {
                found.insert([module.path[0].clone(), name.clone()], part.clone());
            }
        }
    }
    found
}

/// The row of the table for `path`.
fn row(path: &[String], parts: &BTreeMap<[String; 2], String>) -> Option<(&'static str, Layer)> {
    let find = |name: &str| LAYERS.iter().find(|(module, _)| *module == name).copied();
    let top = path.first()?;
    let part = path.get(1).map(|name| parts.get(&[top.clone(), name.clone()]).unwrap_or(name));
    part.and_then(|part| find(&format!("{top}::{part}"))).or_else(|| find(top))
}

fn modules() -> Vec<Module> {
    let sources = Source::all();
    let library = |one: &&Source| one.path.starts_with("src/") && one.is_rust() && !one.is_test();
    let modules: Vec<Module> = sources.iter().filter(library).map(Module::new).collect();
    assert!(modules.len() > 50, "only {} modules found", modules.len());
    modules
}

#[test]
fn a_module_names_only_its_own_layer_and_those_below() {
    let modules = modules();
    let parts = reexports(&modules);
    let mut errors = Vec::new();
    for module in modules.iter().filter(|module| !module.path.is_empty()) {
        let Some((name, layer)) = row(&module.path, &parts) else {
            errors.push(format!("{}: is in no layer; add it to LAYERS", module.file));
            continue;
        };
        for named in &module.named {
            let Some(path) = module.resolve(named) else { continue };
            let Some((other, above)) = row(&path, &parts) else { continue };
            if above > layer {
                errors.push(format!(
                    "{}:{}: `{named}`: {name} is of layer {layer:?} and may not name {other}, of \
                     layer {above:?}. Hand the value in, or move what is needed down",
                    module.file, named.line
                ));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

#[test]
fn nothing_pure_names_the_kernel_a_clock_a_runtime_or_a_thread() {
    let modules = modules();
    let parts = reexports(&modules);
    let mut errors = Vec::new();
    for module in &modules {
        let Some((name, layer)) = row(&module.path, &parts) else { continue };
        if layer > Pure {
            continue;
        }
        for named in &module.named {
            let Some(instead) = forbidden(&named.segments) else { continue };
            if layer == Words && name == "sabotage" {
                continue; // Whole processes are sabotaged by an environment variable.
            }
            errors.push(format!(
                "{}:{}: `{named}`: {name} is of layer {layer:?}, which is the same under a \
                 simulated clock and network. Use {instead}",
                module.file, named.line
            ));
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

#[test]
fn only_the_mesh_has_queues_between_threads() {
    let mut errors = Vec::new();
    for module in modules() {
        let top = module.path.first().map(String::as_str);
        // The server waits on one for its shards to have started.
        if matches!(top, Some("mesh" | "server")) {
            continue;
        }
        for named in &module.named {
            if named.segments.iter().any(|one| one == "crossbeam_channel" || one == "mpsc") {
                errors.push(format!(
                    "{}:{}: `{named}`: only `mesh` sends between threads. Add a `mesh::Message`",
                    module.file, named.line
                ));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

/// What to use instead of `segments`, if that is forbidden.
fn forbidden(segments: &[String]) -> Option<&'static str> {
    let path = segments.join("::");
    let hit = |(name, _): &&(&str, &str)| match name.split_once("::") {
        Some(_) => path == *name || path.starts_with(&format!("{name}::")),
        None => segments.iter().any(|segment| segment == name),
    };
    FORBIDDEN.iter().find(hit).map(|(_, instead)| *instead)
}

#[test]
fn the_table_and_the_library_name_the_same_modules() {
    let modules = modules();
    for (name, _) in LAYERS {
        let path: Vec<&str> = name.split("::").collect();
        let exists = modules.iter().any(|module| module.path == path);
        assert!(exists, "LAYERS names {name}, and src has no such module: remove the row");
    }
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
    for (path, instead) in [
        ("std::net::IpAddr", true),
        ("std::time::Instant", true),
        ("Instant::now", true),
        ("std::time::Duration", false),
        ("crate::shard::network", false),
        ("std::network", false),
    ] {
        let segments: Vec<String> = path.split("::").map(str::to_owned).collect();
        assert_eq!(forbidden(&segments).is_some(), instead, "{path}");
    }
}
