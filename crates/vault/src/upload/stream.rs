//! Packing a stream: cut by its content, and each page looked for in the parent before it is stored.
//!
//! ```text
//! bytes as they come ▶ first_page ▶ hash ▶ the parent's part has it? ▶ refer to it there
//!                                                              no? ▶ pack
//! ```
//!
//! Memory: what is not cut yet, at most a page and a piece; and what is known of the parent's part (`known`).

use strongroom_codec::cut::first_page;
use strongroom_model::entry::{EntryKind, EntryPath};
use strongroom_model::page::{PAGE_SIZE, Run, push_run};

use crate::error::VaultError;
use crate::known::Known;
use crate::upload::Packer;

/// A stream that is being packed. Dropped without [`StreamPacker::finish`], its last bytes are in no pack.
#[must_use = "a stream that is not finished lacks its end"]
pub struct StreamPacker<'p> {
    packer: &'p mut Packer,
    row: u32,
    path: EntryPath,
    known: Option<Known>,
    uncut: Vec<u8>,
    map: Vec<Run>,
    size: u64,
    pages: u32,
}

impl Packer {
    /// Begins the stream that will be row `row` of the manifest.
    pub fn stream(&mut self, row: u32, path: &EntryPath) -> StreamPacker<'_> {
        let known = self.shared.parent.as_ref().map(|parent| Known::of(parent, path));
        let (uncut, map) = (Vec::with_capacity(2 * PAGE_SIZE), Vec::new());
        StreamPacker { packer: self, row, path: path.clone(), known, uncut, map, size: 0, pages: 0 }
    }
}

impl StreamPacker<'_> {
    /// Adds what comes next, of any length. Blocks while the store is busy with earlier packs.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), VaultError> {
        self.uncut.extend_from_slice(bytes);
        let mut rest = std::mem::take(&mut self.uncut);
        let mut done = 0;
        // Looked at once a whole page is there, or rows of a few bytes would be looked at over and over.
        while rest.len() - done >= PAGE_SIZE {
            let Some(length) = first_page(&rest[done..]) else { break };
            self.add(&rest[done..done + length])?;
            done += length;
        }
        rest.drain(..done);
        self.uncut = rest;
        Ok(())
    }

    /// Ends the stream: what it is, and where its pages are or will be.
    pub fn finish(mut self) -> Result<(EntryKind, Vec<Run>), VaultError> {
        let rest = std::mem::take(&mut self.uncut);
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            let (page, left) = rest.split_at(first_page(rest).unwrap_or(rest.len()));
            self.add(page)?;
            rest = left;
        }
        Ok((EntryKind::Stream { size: self.size, pages: self.pages }, self.map))
    }

    fn add(&mut self, page: &[u8]) -> Result<(), VaultError> {
        let StreamPacker { packer, row, path, known, map, pages: at, .. } = self;
        let hash = packer.shared.vault.fingerprints.page_hash(page);
        let place = match (known, &packer.shared.parent) {
            (Some(known), Some(parent)) => known.find((parent, &packer.runtime), hash.stream_print())?,
            _ => None,
        };
        match place {
            Some(place) => push_run(map, Run { first: *at, count: 1, place }),
            None => packer.write(|writer| writer.add_of_stream(*row, *at, (page, &hash), map))?,
        }
        self.size += page.len() as u64;
        let too_large = || VaultError::TooLarge(format!("store {path}: it has more than 2³² pages"));
        self.pages = at.checked_add(1).ok_or_else(too_large)?;
        Ok(())
    }
}
