//! Modules stand in flow order: a module names only those declared above it.
//!
//! So a crate can be read from top to bottom, and no two modules can lean on each other. A name that a parent re-exports
//! (`pub use point::PointId;`) counts as the module it comes from. Code marked `#[cfg(test)]` is free: a test may put a
//! later module to use.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::rust::{Kind, Source};
use crate::tree::{Tree, in_source};

/// A module's place: `["files", "links"]` is `crate::files::links`.
type Place = Vec<String>;

/// A path as written, made absolute, and the line it stands on.
struct Reference {
    to: Place,
    line: usize,
}

struct Module<'a> {
    path: &'a str,
    source: Source<'a>,
    /// Children, in order.
    children: Vec<String>,
    /// Names made available here, and where they come from.
    exports: BTreeMap<String, Place>,
    references: Vec<Reference>,
}

/// Names every reference to a module declared further down.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let folders: BTreeSet<&str> =
        tree.rust_files().filter_map(|(path, _)| Some(in_source(path)?.0)).collect();
    folders.into_iter().flat_map(|folder| of_crate(tree, folder)).collect()
}

fn of_crate(tree: &Tree, folder: &str) -> Vec<Finding> {
    let files = tree.rust_files().filter_map(|(path, text)| Some((path, in_source(path)?, text)));
    let ours = files.filter(|(_, (of, _), _)| *of == folder);
    let modules: BTreeMap<Place, Module<'_>> =
        ours.map(|(path, (_, below), text)| (place_of(below), read(path, &place_of(below), text))).collect();
    let mut findings = Vec::new();
    for (place, module) in &modules {
        if is_test_module(&modules, place) {
            continue;
        }
        for reference in &module.references {
            if let Some((later, earlier)) = breach(&modules, place, reference) {
                let what = format!("module {earlier} names {later}, which is declared below it");
                let mend = "move the `mod` line, or move what is shared up into a module above both";
                findings.push(Finding::new(module.path, reference.line, what, mend));
            }
        }
    }
    findings
}

/// `a/b.rs` and `a/b/mod.rs` are `["a", "b"]`; `lib.rs` and `main.rs` are the root.
fn place_of(below: &str) -> Place {
    let mut place: Place = below.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    let last = place.last().map_or("", String::as_str);
    if last == "mod" || (place.len() == 1 && matches!(last, "lib" | "main")) {
        place.pop();
    }
    place
}

fn read<'a>(path: &'a str, place: &[String], text: &'a str) -> Module<'a> {
    let source = Source::read(text).without_tests();
    let mut module =
        Module { path, source, children: Vec::new(), exports: BTreeMap::new(), references: Vec::new() };
    let source = &module.source;
    for index in 0..source.tokens.len() {
        let starts_path = index == 0 || source.text(index - 1) != "::";
        match source.text(index) {
            "mod" if source.text(index + 2) == ";" => module.children.push(source.text(index + 1).to_owned()),
            "crate" | "super" if starts_path && source.text(index + 1) == "::" => {
                let mut paths = Vec::new();
                written_paths(source, index, &mut Vec::new(), &mut paths);
                let absolute =
                    paths.into_iter().filter_map(|(path, _, line)| Some((resolve(place, &path)?, line)));
                module.references.extend(absolute.map(|(to, line)| Reference { to, line }));
            }
            _ => {}
        }
    }
    for index in 0..source.tokens.len() {
        if source.text(index) == "use" && source.tokens[index].kind == Kind::Word {
            let mut paths = Vec::new();
            written_paths(source, index + 1, &mut Vec::new(), &mut paths);
            for (path, name, _) in paths {
                if let Some(to) = resolve_use(place, &module.children, &path) {
                    module.exports.insert(name, to);
                }
            }
        }
    }
    module
}

/// Collects the paths of a (possibly grouped) path at `index`: segments, the name it is known by, its line. Returns the
/// index after it.
fn written_paths(
    source: &Source<'_>,
    index: usize,
    prefix: &mut Place,
    found: &mut Vec<(Place, String, usize)>,
) -> usize {
    let (depth, mut index) = (prefix.len(), index);
    loop {
        let text = source.text(index);
        if text == "{" {
            let close = source.closing(index);
            index += 1;
            while index < close {
                index = if source.text(index) == "," {
                    index + 1
                } else {
                    written_paths(source, index, prefix, found)
                };
            }
            index = close + 1;
            break;
        }
        let is_word = source.tokens.get(index).is_some_and(|token| token.kind == Kind::Word);
        if is_word {
            prefix.push(text.to_owned());
        }
        if is_word && source.text(index + 1) == "::" {
            index += 2;
            continue;
        }
        let renamed = source.text(index + 1) == "as";
        let name = if renamed { source.text(index + 2) } else { text };
        let line = source.tokens.get(index).map_or(1, |token| token.line);
        found.push((prefix.clone(), name.to_owned(), line));
        index += if renamed { 3 } else { 1 };
        break;
    }
    prefix.truncate(depth);
    index
}

/// A path beginning with `crate` or `super`, made absolute.
fn resolve(place: &[String], path: &[String]) -> Option<Place> {
    let mut to = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "super" => place.split_last()?.1.to_vec(),
        _ => return None,
    };
    for segment in &path[1..] {
        match segment.as_str() {
            "super" => drop(to.pop()?),
            "self" => {}
            name => to.push(name.to_owned()),
        }
    }
    Some(to)
}

/// What a `use` here refers to, if it is in this crate.
fn resolve_use(place: &[String], children: &[String], path: &[String]) -> Option<Place> {
    let below = match path.first()?.as_str() {
        "crate" | "super" => return resolve(place, path),
        "self" => &path[1..],
        first if children.iter().any(|child| child == first) => path,
        _ => return None,
    };
    Some(place.iter().chain(below).cloned().collect())
}

/// Whether the module, or one it stands in, is declared only for tests (or not at all).
fn is_test_module(modules: &BTreeMap<Place, Module<'_>>, place: &[String]) -> bool {
    (0..place.len()).any(|depth| {
        modules
            .get(&place[..depth])
            .is_none_or(|parent| !parent.children.iter().any(|child| *child == place[depth]))
    })
}

/// The later and the earlier module, if the reference points down.
fn breach(
    modules: &BTreeMap<Place, Module<'_>>,
    from: &[String],
    reference: &Reference,
) -> Option<(String, String)> {
    let mut to = reference.to.clone();
    // A re-export may lead to another; a circle of them ends with the count.
    for _ in 0..8 {
        let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let (mine, theirs) = (from.get(shared)?, to.get(shared)?);
        let parent = modules.get(&from[..shared])?;
        let rank = |name: &str| parent.children.iter().position(|child| child == name);
        if let Some(later) = rank(theirs) {
            return (later > rank(mine)?).then(|| (theirs.clone(), mine.clone()));
        }
        let mut next = parent.exports.get(theirs)?.clone();
        next.extend_from_slice(&to[shared + 1..]);
        to = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::seen;

    fn check_b(lib: &str, b: &str) -> usize {
        seen(check, &[("crates/x/src/lib.rs", lib), ("crates/x/src/a.rs", ""), ("crates/x/src/b.rs", b)])
            .len()
    }

    #[test]
    fn a_name_further_down_is_found() {
        let (up, down) = ("mod a;\nmod b;", "pub mod b;\npub(crate) mod a;");
        for b in [
            "use crate::a::X;",
            "use crate::{c, a::{X, Y}};",
            "use super::a;",
            "fn f() { crate::a::g(); }",
            "fn f() -> Option<super::a::X> { None }",
            "use crate::a as z;",
        ] {
            assert_eq!((check_b(up, b), check_b(down, b)), (0, b.matches(&['X', 'Y']).count().max(1)), "{b}");
        }
        for b in [
            "// crate::a::X",
            "const S: &str = \"crate::a\";",
            "#[cfg(test)]\nmod tests { use crate::a::X; }",
        ] {
            assert_eq!(check_b(down, b), 0, "{b}");
        }
    }

    #[test]
    fn a_re_export_is_the_module_it_comes_from() {
        let b = "use crate::X;";
        assert_eq!(check_b("mod b;\nmod a;\npub use a::X;", b), 1);
        assert_eq!(check_b("mod b;\nmod a;\npub use self::a::{W, Y as X};", b), 1);
        assert_eq!(check_b("mod a;\nmod b;\npub use a::X;", b), 0);
        assert_eq!(check_b("mod b;\nmod a;\npub use other::X;", b), 0);
    }

    #[test]
    fn children_may_use_what_stands_above_their_parent_only() {
        let lib = ("crates/x/src/lib.rs", "mod a;\nmod b;\nmod c;");
        let b = ("crates/x/src/b.rs", "mod one;\nmod two;\n#[cfg(test)]\nmod tests;");
        let one = (
            "crates/x/src/b/one.rs",
            "use crate::a::X;\nuse crate::c::Y;\nuse super::two::Z;\nuse super::super::c::W;",
        );
        let tests = ("crates/x/src/b/tests.rs", "use crate::c::Y;");
        let found = seen(check, &[lib, b, one, tests]);
        let said = |line: usize, earlier: &str, later: &str| {
            format!(
                "crates/x/src/b/one.rs:{line}: module {earlier} names {later}, which is declared below it"
            )
        };
        assert_eq!(found, [said(2, "b", "c"), said(3, "one", "two"), said(4, "b", "c")]);
    }
}
