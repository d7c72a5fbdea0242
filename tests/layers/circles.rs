//! Finds modules that use each other in a circle. A module includes everything below it.
//!
//! A name belongs to the module that defines it, regardless of `pub use`. The file of a module that
//! has parts is called [`TOP`], and counts as one of them: if it uses its parts, they must not use
//! its own definitions. A `pub use` of a part's names does not count as a use.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::names;
use crate::source::Source;

/// The path of a module in its crate.
type Path = Vec<String>;

/// Maximum number of `use`s from a name to its definition.
const HOPS_MAX: usize = 10;

/// The part that is a module's own file.
const TOP: &str = "mod";

/// For each part, the parts that it uses.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// Parts of one module that use each other, directly or through others.
#[derive(Debug, PartialEq, Eq)]
pub struct Circle {
    /// The path of the module, such as `src/api`.
    pub room: String,
    /// Its parts.
    pub parts: Vec<String>,
    /// The uses among the parts, each with an example.
    pub uses: Vec<String>,
}

/// One file of a crate.
#[derive(Default)]
struct Module {
    /// All paths that it uses.
    named: Vec<Path>,
    /// Names that its `use`s define here, with their paths.
    bound: BTreeMap<String, Path>,
    /// Paths that it only reexports.
    passed_on: BTreeSet<Path>,
}

/// The modules of one crate.
pub struct Crate {
    root: String,
    modules: BTreeMap<Path, Module>,
}

impl Crate {
    /// Creates the crate with sources below `root`, such as `src/`.
    pub fn new(root: &str, sources: &[Source]) -> Crate {
        let mut modules = BTreeMap::new();
        for source in sources.iter().filter(|source| source.is_rust() && !source.is_test()) {
            let Some(inner) = source.path.strip_prefix(root) else { continue };
            modules.insert(place(inner), Module::new(&source.code()));
        }
        Crate { root: root.to_owned(), modules }
    }

    /// Returns the circles of the crate.
    pub fn circles(&self) -> Vec<Circle> {
        let mut circles = Vec::new();
        for (above, edges) in self.edges() {
            for parts in strongly_connected(&edges) {
                let mut room = vec![self.root.trim_end_matches('/').to_owned()];
                room.extend(above.iter().cloned());
                let pairs =
                    parts.iter().flat_map(|user| parts.iter().map(move |used| (user, used)));
                let pairs = pairs.filter(|(user, used)| edges[*user].contains(*used));
                let uses = pairs.map(|(user, used)| self.example(&above, user, used)).collect();
                circles.push(Circle { room: room.join("/"), parts, uses });
            }
        }
        circles
    }

    /// Returns the uses among the parts of each module.
    fn edges(&self) -> BTreeMap<Path, Edges> {
        let mut edges: BTreeMap<Path, Edges> = BTreeMap::new();
        for (from, module) in &self.modules {
            for named in &module.named {
                let Some((above, user, used)) = self.edge(from, module, named) else { continue };
                let siblings = edges.entry(above).or_default();
                siblings.entry(user.clone()).or_default().insert(used);
                siblings.entry(user).or_default();
            }
        }
        edges
    }

    /// Returns the module in which `named` leads from one part to another, and both parts.
    fn edge(&self, from: &Path, module: &Module, named: &Path) -> Option<(Path, String, String)> {
        let to = self.resolve(from, named, HOPS_MAX)?;
        let common = from.iter().zip(&to).take_while(|(left, right)| left == right).count();
        let part = |path: &Path| path.get(common).cloned().unwrap_or_else(|| TOP.to_owned());
        let (user, used) = (part(from), part(&to));
        // Everything is below the root of the crate, so uses of the root don't count.
        let counts = common > 0 || user != TOP && used != TOP;
        let passes_on = from.len() == common && module.passed_on.contains(named);
        (user != used && counts && !passes_on).then(|| (from[..common].to_vec(), user, used))
    }

    /// Returns an example of a use of `used` by `user`.
    fn example(&self, above: &[String], user: &str, used: &str) -> String {
        for (from, module) in self.modules.iter().filter(|(from, _)| from.starts_with(above)) {
            let meant = (above.to_vec(), user.to_owned(), used.to_owned());
            let crosses =
                |named: &&Path| self.edge(from, module, named).is_some_and(|edge| edge == meant);
            if let Some(named) = module.named.iter().find(crosses) {
                return format!("{user} -> {used}: {} names {}", from.join("::"), named.join("::"));
            }
        }
        format!("{user} -> {used}")
    }

    /// Returns the module that defines `segments` as seen from `from`, or `None` for other crates.
    fn resolve(&self, from: &[String], segments: &[String], hops: usize) -> Option<Path> {
        let (first, rest) = segments.split_first()?;
        let child = |base: &[String], name: &String| [base, std::slice::from_ref(name)].concat();
        let (mut base, mut at) = match first.as_str() {
            "crate" => (Vec::new(), 1),
            "self" => (from.to_vec(), 1),
            "super" => (from.to_vec(), 0),
            // What stands before `::` is a module. A function may have the same name.
            _ if !rest.is_empty() && self.modules.contains_key(&child(from, first)) => {
                (from.to_vec(), 0)
            }
            _ => match self.modules.get(from)?.bound.get(first) {
                Some(bound) if bound != segments => {
                    let whole = [bound.as_slice(), rest].concat();
                    return self.resolve(from, &whole, hops.checked_sub(1)?);
                }
                _ if self.modules.contains_key(&child(from, first)) => (from.to_vec(), 0),
                _ => return None,
            },
        };
        while let Some(segment) = segments.get(at) {
            let below = child(&base, segment);
            if segment == "super" {
                base.pop();
            } else if self.modules.contains_key(&below) {
                base = below;
            } else if segment != "self" {
                return self.defining(base, &segments[at..], hops);
            }
            at += 1;
        }
        Some(base)
    }

    /// Returns the module that defines `segments` in `base`, if no part has that name.
    fn defining(&self, base: Path, segments: &[String], hops: usize) -> Option<Path> {
        let module = self.modules.get(&base)?;
        let hops = hops.checked_sub(1)?;
        if let Some(bound) = module.bound.get(&segments[0]) {
            let whole = [bound.as_slice(), &segments[1..]].concat();
            return self.resolve(&base, &whole, hops);
        }
        Some(base)
    }
}

impl Module {
    fn new(code: &str) -> Module {
        let mut module = Module::default();
        // A visibility is not a use.
        let code = &code.replace("pub(in ", "pub(").replace("pub(crate::", "pub(");
        for named in names(code) {
            let mut path = named.segments;
            if path.last().is_some_and(|last| last == "self" || last == "*") {
                path.pop();
            }
            // A single name is local, declares a part, or is from `pub(super)`.
            if named.bound.is_none() && path.len() == 1 {
                continue;
            }
            if let Some(bound) = named.bound.filter(|_| path.len() > 1) {
                module.bound.insert(bound, path.clone());
            }
            module.named.push(path);
        }
        for (at, _) in code.match_indices(" use ").filter(|(at, _)| is_passed_on(&code[..*at])) {
            let end = code[at..].find(';').map_or(code.len() - 1, |end| at + end);
            let passed = names(&code[at..=end]).into_iter().filter(|named| named.bound.is_some());
            module.passed_on.extend(passed.map(|named| named.segments));
        }
        module
    }
}

/// Whether the text after `before` is public in any scope.
fn is_passed_on(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default();
    line == "pub" || line.starts_with("pub(") && line.ends_with(')')
}

/// Returns the path of the file `inner` of a crate: `["shard", "sweep"]` for `shard/sweep.rs`.
fn place(inner: &str) -> Path {
    let inner = inner.strip_suffix(".rs").unwrap_or(inner);
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    match inner {
        "lib" | "main" => Vec::new(),
        other => other.split('/').map(str::to_owned).collect(),
    }
}

/// Returns the sets of parts that use each other, directly or not.
fn strongly_connected(edges: &Edges) -> Vec<Vec<String>> {
    let reached = |from: &String| {
        let mut found = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(next) = todo.pop() {
            for to in edges.get(next).into_iter().flatten() {
                if found.insert(to.clone()) {
                    todo.push(to);
                }
            }
        }
        found
    };
    let all: BTreeMap<&String, BTreeSet<String>> =
        edges.keys().map(|part| (part, reached(part))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (part, from_here) in &all {
        let back = |other: &&String| all.get(other).is_some_and(|there| there.contains(*part));
        let mut circle: Vec<String> = from_here.iter().filter(back).cloned().collect();
        circle.sort();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

#[test]
fn a_circle_is_found_behind_what_a_module_passes_on() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod h;"),
        ("a/mod.rs", "mod x; pub use x::X; pub(crate) fn f() -> X { x::g() }"),
        ("a/x.rs", "use crate::b::{Y, self}; pub struct X(Y); pub(super) fn g() {}"),
        ("b.rs", "pub struct Y(crate::a::X);"),
        ("c/mod.rs", "mod d; mod e; pub(crate) use e::E as F;"),
        ("c/d.rs", "use super::F; pub struct D(F);"),
        ("c/e.rs", "use super::d; pub struct E(d::D);"),
        ("h/mod.rs", "mod i; pub use i::i; pub struct H; fn f() { i::g() }"),
        ("h/i.rs", "pub fn i() {} pub(super) fn g(h: super::H) {}"),
    ];
    let source =
        |(path, text): (&str, &str)| Source { path: format!("src/{path}"), text: text.to_owned() };
    let circles = Crate::new("src/", &files.map(source)).circles();
    let found: Vec<String> = circles
        .iter()
        .map(|circle| format!("{}: {}", circle.room, circle.parts.join(" ")))
        .collect();
    assert_eq!(found, ["src: a b", "src/c: d e", "src/h: i mod"]);
    assert_eq!(circles[1].uses[0], "d -> e: c::d names super::F");
}
