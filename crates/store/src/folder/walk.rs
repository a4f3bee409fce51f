//! A walk in ascending byte order of whole keys, which is not the order of folder entries: "a.b" sorts before "a/b".
//!
//! Memory: the names of one folder at each depth, and one page of objects.

use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::key::Key;
use crate::port::Head;

/// One walk, which ends when it has found enough.
pub(super) struct Walk<'a> {
    /// Only what sorts after this; empty for everything.
    pub(super) after: &'a str,
    /// Whether sizes are wanted.
    pub(super) sizes: bool,
    /// How much is enough.
    pub(super) enough: usize,
    /// What was found, in order.
    pub(super) found: Vec<Head>,
}

impl Walk<'_> {
    /// Finds the objects in `folder`, whose keys begin with `prefix`.
    pub(super) fn folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for (name, entry) in names(folder)? {
            if self.found.len() >= self.enough {
                return Ok(());
            }
            let path = match prefix {
                "" => name.clone(),
                _ => format!("{prefix}/{name}"),
            };
            match path.strip_suffix('/') {
                // Everything in a folder begins with its path: skip it whole if none of that sorts after `after`.
                Some(inside) if path.as_str() > self.after || self.after.starts_with(&path) => {
                    self.folder(&folder.join(name.trim_end_matches('/')), inside)?;
                }
                Some(_) => {}
                None if path.as_str() > self.after => self.file(&entry, path)?,
                None => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &DirEntry, path: String) -> io::Result<()> {
        let Ok(key) = Key::new(path) else { return Ok(()) };
        if !self.sizes {
            self.found.push(Head { key, size: 0 });
            return Ok(());
        }
        // Relative to the open folder: a long path is not walked again for each of a million files.
        match file.metadata() {
            Ok(facts) => self.found.push(Head { key, size: facts.len() }),
            // Deleted since the folder was read.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The names in a folder that can be part of a key, in order; those of folders end with "/", which sorts them as the
/// keys below them sort. What else lies about (`.tmp`, a file system's own `lost+found`) is not ours.
fn names(folder: &Path) -> io::Result<Vec<(String, DirEntry)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // Nothing was ever put here, or the last of it was just deleted.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().filter(|name| is_ours(name)) {
            let name = if entry.file_type()?.is_dir() { format!("{name}/") } else { name.to_owned() };
            names.push((name, entry));
        }
    }
    names.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    Ok(names)
}

fn is_ours(name: &str) -> bool {
    name != super::UNFINISHED && Key::new(name).is_ok()
}
