//! What the parent has of a stream: its pages by their content, wherever in it they lie.
//!
//! ```text
//! parent's part   | dropped |████████ known, at most 2¹⁸ pages ████████| not yet looked at |
//!                                        ▲ where the new stream is, as far as its pages were found
//! ```
//!
//! A part that an engine keeps to its bound of 1 GiB is known whole. Of a longer one there is a window that goes forward with
//! the stream, so that memory does not grow with it: 28 bytes a page, 7 MiB at most.

use strongroom_codec::fingerprint::StreamPrint;
use strongroom_model::entry::EntryPath;
use strongroom_model::page::Place;
use tokio::runtime::Handle;

use crate::error::VaultError;
use crate::parent::{Parent, StreamPage};

/// Pages known at a time: of some 5.2 KiB on average, 1.3 GiB of a stream.
const KNOWN: u32 = 1 << 18;

/// Pages that are judged together, whether they may be taken over: some 42 MiB.
const STRETCH: u32 = 1 << 13;

/// The parent's pages of one stream, as far as they are known.
pub(crate) struct Known {
    path: EntryPath,
    /// How many the parent has.
    all: u32,
    /// In order of their prints.
    pages: Vec<StreamPage>,
    /// The parent's page behind those that were looked at.
    next: u32,
    /// The parent's page at which the new stream would be if it were the same from what was found last.
    at: u32,
}

impl Known {
    /// Nothing of the stream yet.
    pub(crate) fn of(parent: &Parent, path: &EntryPath) -> Known {
        Known { path: path.clone(), all: parent.pages(path), pages: Vec::new(), next: 0, at: 0 }
    }

    /// Where the parent has the stream's next page, if it has it. Blocks.
    pub(crate) fn find(
        &mut self,
        (parent, runtime): (&Parent, &Handle),
        print: StreamPrint,
    ) -> Result<Option<Place>, VaultError> {
        if self.next < self.all && self.at >= self.next.saturating_sub(KNOWN / 2) {
            self.look_further((parent, runtime))?;
        }
        let found = self.pages.binary_search_by_key(&print, |page| page.print).ok();
        let found = found.map(|index| self.pages[index]);
        self.at = found.map_or(self.at, |page| self.at.max(page.at)).saturating_add(1);
        Ok(found.map(|StreamPage { pack, page, .. }| Place::Pack { pack, page }))
    }

    /// Drops what lies far behind, and learns what comes next.
    fn look_further(&mut self, (parent, runtime): (&Parent, &Handle)) -> Result<(), VaultError> {
        let kept = self.next.saturating_sub(KNOWN / 2);
        self.pages.retain(|page| page.at >= kept);
        let end = self.all.min(kept.saturating_add(KNOWN));
        self.pages.reserve_exact((end - self.next) as usize);
        while self.next < end {
            let stretch = self.next..end.min(self.next + STRETCH);
            parent.learn(runtime, &self.path, stretch.clone(), &mut self.pages)?;
            self.next = stretch.end;
        }
        self.pages.sort_unstable_by_key(|page| page.print);
        Ok(())
    }
}
