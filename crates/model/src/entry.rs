//! Files, folders and links of a source, as listed and as restored.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path that cannot be an entry's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' cannot be the path of an entry: it must be relative, without '..', empty segments or NUL")]
pub struct PathError(pub String);

/// A path relative to the source's root, as raw bytes (Unix names need not be UTF-8).
///
/// **Invariant**: not empty, not absolute, no empty, `.` or `..` segment, no NUL: joined to a folder it stays inside,
/// unless a symbolic link on the way leads out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Reads a path.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<EntryPath, PathError> {
        let bytes = bytes.into();
        let good = |segment: &[u8]| {
            !segment.is_empty() && segment != b"." && segment != b".." && !segment.contains(&0)
        };
        if bytes.split(|c| *c == b'/').all(good) {
            Ok(EntryPath(bytes))
        } else {
            Err(PathError(String::from_utf8_lossy(&bytes).into_owned()))
        }
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a path, to be joined to a root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether this is exactly that path.
    pub fn is(&self, path: &str) -> bool {
        self.0 == path.as_bytes()
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A symbolic link and where it points (raw bytes; may be absolute).
    Link(Vec<u8>),
    /// A file of this many bytes: when listed, what `stat` said; when stored, what was read.
    File(u64),
    /// What a source sent that has no files: a part of a dump. Its pages are cut by its content.
    Stream {
        /// Its bytes.
        size: u64,
        /// The pages they were cut into.
        pages: u32,
    },
}

/// Who owns an entry: numbers as on the source's host, and the names they had there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// User name, if it had one.
    pub user: Option<String>,
    /// Group name, if it had one.
    pub group: Option<String>,
}

/// A file, folder or link of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where, relative to the source's root.
    pub path: EntryPath,
    /// What.
    pub kind: EntryKind,
    /// Permission bits (lowest 12).
    pub mode: u32,
    /// Whose.
    pub owner: Owner,
    /// Last modification, seconds since 1970 UTC.
    pub modified: i64,
}

impl Entry {
    /// The size, for a file or a stream; 0 otherwise.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File(size) | EntryKind::Stream { size, .. } => size,
            EntryKind::Folder | EntryKind::Link(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_their_root() {
        for good in
            [&b"PG_VERSION"[..], b"base/5/1259", b"pg_tblspc/16401/PG_15_202209061/5/1", b"odd \xff\n name"]
        {
            assert!(EntryPath::new(good).is_ok());
        }
        for bad in [&b""[..], b"/", b"/etc/passwd", b"a//b", b"a/", b"..", b"a/../../b", b"./a", b"a\0b"] {
            assert!(EntryPath::new(bad).is_err(), "{bad:?}");
        }
    }
}
