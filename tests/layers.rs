//! Checks the layers: a module uses only modules of its own layer or below, no modules use each
//! other in a circle, and pure modules don't use the kernel, a clock, a runtime or threads.
#![allow(clippy::expect_used, reason = "a panic is how a check fails")]

#[path = "layers/circles.rs"]
mod circles;
#[path = "layers/names.rs"]
mod names;
mod source;

use std::collections::BTreeMap;

use circles::Crate;
use names::{Named, names};
use source::Source;

/// The layers, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// Types and constants that every module may use. They have no state and hardly any logic.
    Words,
    /// Takes bytes, state and `now`, and returns values, so that whole nodes run with a simulated
    /// clock.
    Pure,
    /// Uses the kernel, a clock or a runtime.
    Shell,
    /// Connects the other layers.
    Root,
}

use Layer::{Pure, Root, Shell, Words};

/// Every module at the top of `src`. A part of a module may have a layer of its own.
const LAYERS: [(&str, Layer); 49] = [
    ("ids", Words),
    ("limits", Words),
    ("reason", Words),
    ("secret", Words),
    ("units", Words),
    ("sabotage", Words),
    ("collections", Pure),
    ("repeats", Pure),
    ("pool", Pure),
    ("subnets", Pure),
    ("proxies", Pure),
    ("readiness", Pure),
    ("origins", Pure),
    ("handshake", Pure),
    ("ws", Pure),
    ("protocol", Pure),
    ("wire", Pure),
    ("connection", Pure),
    ("channel", Pure),
    ("auth", Pure),
    ("settings", Pure),
    ("bus", Pure),
    ("home", Pure),
    ("kernel", Pure),
    ("shard", Pure),
    // Its queues are from crossbeam and only use memory. The wake is a trait.
    ("mesh", Pure),
    // The counters and delivery times of shards. The rest of `metrics` has the page for
    // Prometheus and reads /proc.
    ("metrics::counters", Pure),
    ("metrics::latency", Pure),
    ("metrics", Shell),
    // Turns readings into findings. `doctor::proc` reads /proc.
    ("doctor::findings", Pure),
    ("doctor::keys", Pure),
    ("doctor::readings", Pure),
    ("doctor", Shell),
    ("redis", Shell),
    ("bridge", Shell),
    // The content of an entry, and its way to the bus. The rest of `ingest` has the sources.
    ("ingest::entry", Pure),
    ("ingest::queue", Pure),
    ("ingest", Shell),
    ("cluster", Shell),
    ("events::queue", Pure),
    ("events", Shell),
    ("fatal", Shell),
    ("accept", Shell),
    ("api", Shell),
    ("sys", Shell),
    ("config", Root),
    ("server", Root),
    ("cli", Root),
    ("main", Root),
];

/// The crates of the workspace.
const CRATES: [&str; 5] =
    ["src/", "bench/src/", "perf/limit/src/", "perf/paths/src/", "tests/checker/src/"];

/// Dependencies that `deny.toml` accepts with a reason, and the files that may use them.
const DEPENDENCIES: [(&str, &[&str]); 2] =
    [("monoio", &["src/server/shards.rs", "src/sys/calls.rs"]), ("fred", &["src/redis/link.rs"])];

/// Names that pure modules must not use, and their replacements.
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

/// A file of the library, and its path as a module.
struct Module {
    file: String,
    /// `["shard", "session"]` for `src/shard/session/mod.rs`.
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

    /// Returns the path from the root of the library that `named` refers to, or `None` for other
    /// crates and for local names.
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

/// Returns the names that the top of a module reexports from its parts. With `pub use
/// counters::Counter` in `src/metrics/mod.rs`, `Counter` belongs to `metrics::counters`.
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

/// Returns the table row for `path`.
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
fn no_modules_name_each_other_in_a_circle() {
    let sources = Source::all();
    let circles = CRATES.iter().flat_map(|root| Crate::new(root, &sources).circles());
    let errors: Vec<String> = circles
        .map(|circle| {
            format!(
                "{}: {} use each other. Move what one of them needs to where both may use it, or \
                 hand it in:\n  {}",
                circle.room,
                circle.parts.join(", "),
                circle.uses.join("\n  ")
            )
        })
        .collect();
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
                continue; // An environment variable switches on its faults.
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
        // The server waits on a queue until its shards have started.
        if matches!(top, Some("mesh" | "server")) {
            continue;
        }
        for named in &module.named {
            if named.segments.iter().any(|one| one == "crossbeam_channel" || one == "mpsc") {
                errors.push(format!(
                    "{}:{}: `{named}`: only `mesh` sends between threads. Add a \
                     variant to the receiver's enum, such as `mesh::ToShard`",
                    module.file, named.line
                ));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

#[test]
fn a_file_of_sessions_uses_only_files_above_it_in_their_list() {
    let root = include_str!("../src/shard/session/mod.rs");
    let declared = root.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let list: Vec<&str> = declared.collect();
    assert!(list.len() > 20, "only {} files found", list.len());
    let position = |path: &[String]| match path {
        [shard, session, file, ..] if shard == "shard" && session == "session" => {
            list.iter().position(|listed| listed == file)
        }
        _ => None,
    };
    let mut errors = Vec::new();
    for module in modules() {
        let Some(own) = position(&module.path) else { continue };
        for named in &module.named {
            let used = module.resolve(named).and_then(|path| position(&path));
            if used.is_some_and(|used| used > own) {
                errors.push(format!(
                    "{}:{}: `{named}` is below this file in the list of src/shard/session/mod.rs. \
                     Return a value to the caller instead",
                    module.file, named.line
                ));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

#[test]
fn dependencies_that_may_be_replaced_are_known_to_few() {
    for (name, knowing) in DEPENDENCIES {
        for module in modules() {
            let known = knowing.iter().any(|one| module.file.starts_with(one));
            let named = module.named.iter().find(|named| named.segments[0] == name);
            assert!(
                known || named.is_none(),
                "{}: names {name}, which only {knowing:?} may: see deny.toml",
                module.file
            );
        }
    }
}

/// Returns the replacement of `segments`, if that name is forbidden.
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
fn what_is_forbidden_is_so_however_it_is_named() {
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
