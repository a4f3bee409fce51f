//! Object keys: `/`-separated segments that every store and file system takes.

use std::fmt;

/// Text that cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' cannot be an object key: use segments of A-Z, a-z, 0-9, '.', '_', '-' joined by '/'")]
pub struct KeyError(pub String);

/// The longest key, in bytes: below the 1024 of S3, with room for a user's prefix.
const LONGEST: usize = 900;

/// The key of one object, relative to the vault's root: `sources/orders/points/…/manifest`.
///
/// **Invariant**: no empty segment, no `.` or `..`, no leading or trailing `/`, plain ASCII; so a key can be
/// joined to a folder without leaving it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Reads a key.
    pub fn new(text: impl Into<String>) -> Result<Key, KeyError> {
        let text = text.into();
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(allowed);
        if text.len() <= LONGEST && text.split('/').all(segment) {
            Ok(Key(text))
        } else {
            Err(KeyError(text))
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last `/`.
    pub fn last_segment(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside_their_folder() {
        for good in ["a", "vault.json", "sources/orders/points/20261120T120000Z-1f2e3d4c/packs/000001-ab"] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a b", "ö", "a\\b", "a\0b", &"x".repeat(901)]
        {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
    }
}
