//! Functions, files and argument lists stay small enough to be read in one go.
//!
//! What is over a limit today stands in `xtask/ratchet.toml` with its size, which may only fall: whoever makes such an
//! item smaller lowers the number, and whoever brings it below the limit takes the line out.

use std::collections::BTreeMap;

use super::Finding;
use crate::rust::Source;
use crate::tree::Tree;

const RATCHET: &str = "xtask/ratchet.toml";

/// A limit, and the words for what it limits.
struct Limit {
    /// The table in the ratchet file.
    table: &'static str,
    most: usize,
    unit: &'static str,
    mend: &'static str,
}

const FUNCTION_LINES: Limit =
    Limit { table: "function_lines", most: 70, unit: "lines", mend: "which two steps are in it? name them" };
const FILE_LINES: Limit =
    Limit { table: "file_lines", most: 800, unit: "lines", mend: "which two rooms is it?" };
const PARAMETERS: Limit = Limit {
    table: "parameters",
    most: 5,
    unit: "parameters",
    mend: "which of them belong together? give that a type",
};
const LIMITS: [&Limit; 3] = [&FUNCTION_LINES, &FILE_LINES, &PARAMETERS];

/// Something over a limit.
struct Excess {
    limit: &'static Limit,
    /// `path` or `path::function`: its name in the ratchet file.
    key: String,
    path: String,
    line: usize,
    size: usize,
}

/// Names everything over a limit that the ratchet file does not excuse, and every excuse that has become too wide.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let excuses = match read_ratchet(tree.get(RATCHET).unwrap_or("")) {
        Ok(excuses) => excuses,
        Err(problem) => return vec![Finding::new(RATCHET, 1, problem, "see the comment at its top")],
    };
    let mut worst: BTreeMap<(&str, String), Excess> = BTreeMap::new();
    let mut findings = Vec::new();
    for excess in tree.rust_files().flat_map(|(path, text)| measure(path, text)) {
        let key = (excess.limit.table, excess.key.clone());
        // One line excuses one item: of two functions of one name in a file the smaller has no excuse.
        let smaller = match worst.remove(&key) {
            Some(other) if other.size >= excess.size => (excess, worst.insert(key, other)).0,
            Some(other) => (other, worst.insert(key, excess)).0,
            None => {
                worst.insert(key, excess);
                continue;
            }
        };
        findings.push(over(&smaller));
    }
    for (key, excess) in &worst {
        match excuses.get(key) {
            Some(allowed) if excess.size == *allowed => {}
            Some(allowed) if excess.size < *allowed => {
                let mend = format!("lower it to {}", excess.size);
                findings.push(Finding::new(
                    RATCHET,
                    1,
                    format!("{} is excused up to {allowed}", excess.key),
                    mend,
                ));
            }
            _ => findings.push(over(excess)),
        }
    }
    let gone = excuses.keys().filter(|key| !worst.contains_key(key));
    findings.extend(gone.map(|(table, key)| {
        Finding::new(RATCHET, 1, format!("{key} needs no excuse in [{table}] any more"), "take the line out")
    }));
    findings
}

fn over(excess: &Excess) -> Finding {
    let Excess { limit, key, path, line, size } = excess;
    let what = format!("{key} has {size} {}, the limit is {}", limit.unit, limit.most);
    Finding::new(path, *line, what, limit.mend)
}

/// Everything in a file that is over a limit.
fn measure(path: &str, text: &str) -> Vec<Excess> {
    let mut found = Vec::new();
    let mut weigh = |limit: &'static Limit, key: String, line: usize, size: usize| {
        if size > limit.most {
            found.push(Excess { limit, key, path: path.to_owned(), line, size });
        }
    };
    weigh(&FILE_LINES, path.to_owned(), 1, text.lines().count());
    for function in Source::read(text).functions() {
        let key = format!("{path}::{}", function.name);
        weigh(&FUNCTION_LINES, key.clone(), function.line, function.lines);
        if !function.is_of_trait {
            weigh(&PARAMETERS, key, function.line, function.parameters);
        }
    }
    found
}

/// The ratchet file: table and key to the size excused.
fn read_ratchet(text: &str) -> Result<BTreeMap<(&'static str, String), usize>, String> {
    let tables: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let mut excuses = BTreeMap::new();
    for (name, rows) in &tables {
        let limit =
            LIMITS.iter().find(|limit| limit.table == name).ok_or(format!("no limit is called {name}"))?;
        for (key, size) in rows.as_table().ok_or(format!("{name} is not a table"))? {
            let size = size.as_integer().and_then(|size| usize::try_from(size).ok());
            excuses.insert(
                (limit.table, key.clone()),
                size.ok_or(format!("the size of {key} is not a number"))?,
            );
        }
    }
    Ok(excuses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::seen;

    const PATH: &str = "crates/x/src/a.rs";

    /// A function of that many lines, last line included.
    fn long(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "x();\n".repeat(lines - 2))
    }

    fn check_both(code: &str, ratchet: &str) -> Vec<String> {
        seen(check, &[(PATH, code), (RATCHET, ratchet)])
    }

    #[test]
    fn limits_are_the_last_size_that_passes() {
        assert_eq!(check_both(&long("f", 70), ""), [""; 0]);
        assert_eq!(
            check_both(&long("f", 71), ""),
            [format!("{PATH}:1: {PATH}::f has 71 lines, the limit is 70")]
        );
        assert_eq!(check_both(&"//\n".repeat(800), ""), [""; 0]);
        assert_eq!(
            check_both(&"//\n".repeat(801), ""),
            [format!("{PATH}:1: {PATH} has 801 lines, the limit is 800")]
        );
        assert_eq!(check_both("fn f(a: A, b: A, c: A, d: A, e: A) {}", ""), [""; 0]);
        assert_eq!(check_both("fn f(&self, a: A, b: A, c: A, d: A, e: A) {}", ""), [""; 0]);
        assert_eq!(check_both("fn f(a: A, b: A, c: A, d: A, e: A, f: A) {}", "").len(), 1);
        assert_eq!(check_both("impl T for A { fn f(a: A, b: A, c: A, d: A, e: A, f: A) {} }", ""), [""; 0]);
    }

    #[test]
    fn the_ratchet_only_falls() {
        let excuse = |size: usize| format!("[function_lines]\n\"{PATH}::f\" = {size}");
        assert_eq!(check_both(&long("f", 90), &excuse(90)), [""; 0]);
        assert_eq!(check_both(&long("f", 91), &excuse(90)).len(), 1, "grown");
        assert_eq!(
            check_both(&long("f", 80), &excuse(90)),
            [format!("{RATCHET}:1: {PATH}::f is excused up to 90")]
        );
        let gone = format!("{RATCHET}:1: {PATH}::f needs no excuse in [function_lines] any more");
        assert_eq!(check_both(&long("f", 60), &excuse(90)), [gone]);
    }

    #[test]
    fn one_line_excuses_one_function() {
        let two = format!("{}{}", long("f", 80), long("f", 90));
        let excuse = format!("[function_lines]\n\"{PATH}::f\" = 90");
        assert_eq!(check_both(&two, &excuse), [format!("{PATH}:1: {PATH}::f has 80 lines, the limit is 70")]);
    }

    #[test]
    fn a_ratchet_that_cannot_be_read_is_said() {
        assert_eq!(check_both("", "[speed]\nf = 1"), [format!("{RATCHET}:1: no limit is called speed")]);
    }
}
