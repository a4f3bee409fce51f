//! Keyed fingerprints: what tells whether two pages are the same without keeping either.
//!
//! BLAKE3 in keyed mode (BLAKE3 paper §2.2), or HMAC-SHA-256 in a vault of that suite, so that nobody without the
//! key can test a guess at a page's content against a fingerprint. One pass over the data serves both: a page's fingerprint is the front of its hash,
//! a frame's hash is the hash of its pages' hashes.

use strongroom_model::page::PAGE_SIZE;

use crate::digest::{Hashing, front};
use crate::header::Suite;

/// Eight bytes that stand for one page's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 8]);

/// Sixteen bytes that stand for one page of a stream. Such a page is looked for among all of a part, not held against the one
/// that was in its place: eight bytes would let two be taken for one in a vault of some terabytes (docs/decisions/0024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamPrint(pub [u8; 16]);

/// The whole hash of one page, from which its fingerprints and its frame's hash are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHash([u8; 32]);

impl PageHash {
    /// What a page of a stream is looked for by.
    pub fn stream_print(&self) -> StreamPrint {
        StreamPrint(front(&self.0))
    }
}

/// Sixteen bytes that stand for one frame's content.
pub type FrameHash = [u8; 16];

/// The key of all fingerprints in a vault: the same for every point, so that points can be compared.
#[derive(Clone)]
pub struct FingerprintKey {
    key: [u8; 32],
    hashing: Hashing,
}

impl FingerprintKey {
    pub(crate) fn new(suite: Suite, key: [u8; 32]) -> FingerprintKey {
        FingerprintKey { key, hashing: suite.hashing() }
    }

    /// What the vault's suite hashes with.
    pub(crate) fn hashing(&self) -> Hashing {
        self.hashing
    }

    fn hash(&self, bytes: &[u8]) -> [u8; 32] {
        self.hashing.keyed(&self.key, &[bytes])
    }

    /// Sixteen bytes that stand for content of any length.
    pub fn content_hash(&self, content: &[u8]) -> [u8; 16] {
        front(&self.hash(content))
    }

    /// The hash of one page, to be made once for all that is asked of it.
    pub fn page_hash(&self, page: &[u8]) -> PageHash {
        PageHash(self.hash(page))
    }

    /// The fingerprint of one page (the last of a file may be short).
    pub fn print(&self, page: &[u8]) -> Fingerprint {
        Fingerprint(front(&self.hash(page)))
    }
}

/// Fingerprints the pages of one frame as they are added.
#[derive(Default)]
pub struct FrameHasher {
    pages: Vec<u8>,
    prints: Vec<Fingerprint>,
}

impl FrameHasher {
    /// Adds a page (the last of a file may be short).
    pub fn add(&mut self, key: &FingerprintKey, page: &[u8]) {
        self.add_hashed(&key.page_hash(page));
    }

    /// Adds a page whose hash was made already.
    pub fn add_hashed(&mut self, hash: &PageHash) {
        self.prints.push(Fingerprint(front(&hash.0)));
        self.pages.extend_from_slice(&hash.0);
    }

    /// The second eight bytes of each page's hash so far: what a stream's fingerprints have beyond a file's.
    pub fn second_halves(&self) -> Vec<[u8; 8]> {
        let second = |hash: &[u8; 32]| {
            let (_, rest) = hash.split_at(8);
            front(rest)
        };
        self.pages.as_chunks::<32>().0.iter().map(second).collect()
    }

    /// The frame's hash and its pages' fingerprints; ready for the next frame.
    pub fn finish(&mut self, key: &FingerprintKey) -> (FrameHash, Vec<Fingerprint>) {
        let hash = key.hash(&self.pages);
        self.pages.clear();
        (front(&hash), std::mem::take(&mut self.prints))
    }
}

/// Whether a page is all zeros, which is not stored.
pub fn is_zero(page: &[u8]) -> bool {
    // Whole pages compare against a constant page: the compiler turns it into a vectorised memcmp that stops at
    // the first difference, almost always within the page header.
    static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
    page == ZEROS.get(..page.len()).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::SUITES;

    #[test]
    fn every_bit_of_a_page_and_the_key_matter() {
        for suite in SUITES {
            matters(suite);
        }
    }

    fn matters(suite: Suite) {
        let key = FingerprintKey::new(suite, [1; 32]);
        let page = vec![5u8; PAGE_SIZE];
        let print = |key: &FingerprintKey, page: &[u8]| {
            let mut hasher = FrameHasher::default();
            hasher.add(key, page);
            hasher.finish(key)
        };
        let (hash, prints) = print(&key, &page);
        assert_eq!(prints, [key.print(&page)]);
        let mut other = page.clone();
        other[PAGE_SIZE - 1] ^= 1;
        assert_ne!(print(&key, &other), (hash, prints.clone()));
        assert_ne!(print(&key, &page[..PAGE_SIZE - 1]), (hash, prints.clone()));
        assert_ne!(print(&FingerprintKey::new(suite, [2; 32]), &page), (hash, prints));
    }

    #[test]
    fn zero_pages_are_seen() {
        assert!(is_zero(&[0; PAGE_SIZE]));
        assert!(is_zero(&[0; 100]));
        let mut page = [0; PAGE_SIZE];
        page[PAGE_SIZE - 1] = 1;
        assert!(!is_zero(&page));
    }
}
