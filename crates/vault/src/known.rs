//! What the parent has of a stream: its pages by their content, wherever in it they lie.
//!
//! ```text
//! parent's part   | dropped |████████ known, at most 2¹⁸ pages ████████| not yet looked at |
//!                                        ▲ where the new stream is, as far as its pages were found
//! ```
//!
//! A part of some 200 MiB is known whole: engines keep most of theirs to that. Of a longer one there is a window that goes forward with
//! the stream, so that memory does not grow with it: 28 bytes a page, 7 MiB at most.

use std::ops::Range;

use strongroom_codec::fingerprint::StreamPrint;
use strongroom_model::entry::EntryPath;
use strongroom_model::page::Place;
use tokio::runtime::Handle;

use crate::error::VaultError;
use crate::parent::{Parent, StreamPage};

/// Pages known at a time: of some 800 bytes on average, 200 MiB of a stream.
const KNOWN: u32 = 1 << 18;

/// Pages that are judged together, whether they may be taken over: some 6 MiB.
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
        if let Some(window) = further(self.at, self.next, self.all, KNOWN) {
            self.look_further((parent, runtime), &window)?;
        }
        let found = self.pages.binary_search_by_key(&print, |page| page.print).ok();
        let found = found.map(|index| self.pages[index]);
        self.at = found.map_or(self.at, |page| self.at.max(page.at)).saturating_add(1);
        Ok(found.map(|StreamPage { pack, page, .. }| Place::Pack { pack, page }))
    }

    /// Drops what lies before the window, and learns what of it comes next.
    fn look_further(
        &mut self,
        (parent, runtime): (&Parent, &Handle),
        window: &Range<u32>,
    ) -> Result<(), VaultError> {
        self.pages.retain(|page| page.at >= window.start);
        self.pages.reserve_exact((window.end - self.next) as usize);
        while self.next < window.end {
            let stretch = self.next..window.end.min(self.next.saturating_add(STRETCH));
            parent.learn(runtime, &self.path, stretch.clone(), &mut self.pages)?;
            self.next = stretch.end;
        }
        self.pages.sort_unstable_by_key(|page| page.print);
        Ok(())
    }
}

/// The window that should be known of a stream's `all` pages when the new stream is at page `at` of it, and those before `next`
/// were looked at; `None` if it need not move. It moves by halves, so that what lies a little behind is still known.
fn further(at: u32, next: u32, all: u32, size: u32) -> Option<Range<u32>> {
    let kept = next.saturating_sub(size / 2);
    (next < all && at >= kept).then(|| kept..all.min(kept.saturating_add(size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The windows that a stream goes through which is the same as the parent's, of eight pages each.
    fn windows(all: u32) -> Vec<Range<u32>> {
        let (mut windows, mut next) = (Vec::new(), 0);
        for at in 0..all {
            if let Some(window) = further(at, next, all, 8) {
                next = window.end;
                windows.push(window);
            }
            let known = windows.last().unwrap();
            assert!(known.contains(&at) && known.len() <= 8, "{at} in {known:?}");
        }
        windows
    }

    #[test]
    fn the_window_goes_forward_with_the_stream() {
        assert_eq!(windows(3), vec![Range { start: 0, end: 3 }]);
        assert_eq!(windows(8), vec![Range { start: 0, end: 8 }]);
        assert_eq!(windows(21), [0..8, 4..12, 8..16, 12..20, 16..21]);
        assert_eq!(windows(0), []);
        // Far beyond what the parent has, there is nothing more to know.
        assert_eq!(further(u32::MAX, 21, 21, 8), None);
        assert_eq!(further(u32::MAX, u32::MAX - 1, u32::MAX, 8), Some(u32::MAX - 5..u32::MAX));
    }
}
