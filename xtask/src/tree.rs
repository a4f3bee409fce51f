//! The project's text files: what git tracks, and what it would track if it were added.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Paths relative to the root, with `/`, and their text. Files that are not UTF-8 (fixtures) are not in it.
#[derive(Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the work tree at `root`. The error is a sentence.
    pub fn read(root: &Path) -> Result<Tree, String> {
        let listing = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("run git ls-files in {}: {error}", root.display()))?;
        if !listing.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listing.stderr).trim()));
        }
        let mut tree = Tree::default();
        for path in String::from_utf8_lossy(&listing.stdout).split('\0').filter(|path| !path.is_empty()) {
            match std::fs::read(root.join(path)).map(String::from_utf8) {
                Ok(Ok(text)) => drop(tree.files.insert(path.to_owned(), text)),
                Ok(Err(_binary)) => {}
                // Tracked but deleted, or a link to a folder: nothing to read.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => {}
                Err(error) => return Err(format!("read {path}: {error}")),
            }
        }
        Ok(tree)
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// A file's text.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Every file, in order of path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The Rust files we write, in order of path.
    pub fn rust_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".rs") && is_ours(path))
    }
}

/// Whether the path belongs to the code (rather than to fixtures or documents).
pub fn is_ours(path: &str) -> bool {
    ["crates/", "xtask/", "fuzz/"].iter().any(|folder| path.starts_with(folder))
        && !path.contains("/testdata/")
}

/// The crate folder (`crates/model`, `xtask`) whose `src` the path is in, and the path below `src`.
pub fn in_source(path: &str) -> Option<(&str, &str)> {
    let (folder, below) = path.split_once("/src/")?;
    (is_ours(path) && !folder.contains("/tests")).then_some((folder, below))
}

#[cfg(test)]
impl Tree {
    /// A tree out of thin air.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }
}
