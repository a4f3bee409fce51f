//! Pages: the unit of everything stored of a file.
//!
//! Every file, relation or not, is a sequence of 8 KiB pages; the last may be short. A page that is all zeros is
//! not stored. Every other page has one place: a number counted from zero over all pages of one pack.
//!
//! A stream is a sequence of pages as well, each of at most 8 KiB and as long as its content made it; all are stored.
//!
//! ```text
//! file     | 0 | 1 | 2 | 3 | 4 | 5 | 6 |         pages of 8 KiB (the last may be short)
//! runs     [0..3) pack 7 page 120  [3..5) zero  [5..7) pack 9 page 0
//! ```

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Bytes in a page: PostgreSQL's default block size, and our unit for every file.
pub const PAGE_SIZE: usize = 8192;

/// Pages in a full frame of files.
pub const FRAME_PAGES: usize = 16;

/// Pages in a frame of streams at most, however short they are.
pub const STREAM_FRAME_PAGES: usize = 64;

/// Bytes in a full frame before compression: 128 KiB.
pub const FRAME_SIZE: usize = PAGE_SIZE * FRAME_PAGES;

/// Pages in a file of `size` bytes. `None` above 2³² pages (32 TiB).
pub fn page_count(size: u64) -> Option<u32> {
    u32::try_from(size.div_ceil(PAGE_SIZE as u64)).ok()
}

/// Where a run's pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Place {
    /// Nowhere: they are all zeros.
    Zero,
    /// In a pack, side by side.
    Pack {
        /// Index into the manifest's table of packs.
        pack: u32,
        /// The first page's number in that pack.
        page: u32,
    },
}

/// Pages `first..first + count` of a file, and where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run {
    /// First page of the file.
    pub first: u32,
    /// How many pages; never 0.
    pub count: u32,
    /// Where they are.
    pub place: Place,
}

impl Run {
    /// One past the last page. Runs come from checked decoders, so this cannot overflow for valid ones.
    pub fn end(&self) -> u32 {
        self.first.saturating_add(self.count)
    }

    /// Whether `next` goes on where this run ends, in the file and in the pack, so that the two are one.
    fn continues_in(&self, next: &Run) -> bool {
        self.end() == next.first
            && match (self.place, next.place) {
                (Place::Zero, Place::Zero) => true,
                (Place::Pack { pack, page }, Place::Pack { pack: next_pack, page: next_page }) => {
                    pack == next_pack && page.checked_add(self.count) == Some(next_page)
                }
                _ => false,
            }
    }
}

/// Adds `run` at the end of `runs`, joining it to the last where it goes on.
pub fn push_run(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.continues_in(&run) => last.count += run.count,
        _ => runs.push(run),
    }
}

/// What `map`, whose runs are in order, says of `pages`, of which there is at least one: its runs there, cut to them.
pub fn runs_within(map: &[Run], pages: Range<u32>) -> impl Iterator<Item = Run> {
    let begin = map.partition_point(|run| run.end() <= pages.start);
    let cut = move |run: &Run| {
        let (first, end) = (run.first.max(pages.start), run.end().min(pages.end));
        let place = match run.place {
            Place::Zero => Place::Zero,
            Place::Pack { pack, page } => Place::Pack { pack, page: page.saturating_add(first - run.first) },
        };
        Run { first, count: end - first, place }
    };
    map[begin..].iter().take_while(move |run| run.first < pages.end).map(cut)
}

/// A page map that does not cover its file exactly once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the page map does not cover the file: page {at} of {pages} is missing, doubled or beyond the end")]
pub struct MapError {
    /// The first page at fault.
    pub at: u32,
    /// Pages in the file.
    pub pages: u32,
}

/// Whether `runs` cover pages `0..pages` in order, each once.
pub fn check_map(runs: &[Run], pages: u32) -> Result<(), MapError> {
    let mut at = 0u32;
    for run in runs {
        let end = run.first.checked_add(run.count).filter(|end| *end <= pages);
        match end {
            Some(end) if run.first == at && run.count > 0 => at = end,
            _ => return Err(MapError { at, pages }),
        }
    }
    if at == pages { Ok(()) } else { Err(MapError { at, pages }) }
}

/// Sorts runs that may have been stored out of order and fills what none covers with zeros: what a file that
/// shrank while it was copied leaves behind, and the journal's replay restores.
pub fn complete_map(mut runs: Vec<Run>, pages: u32) -> Vec<Run> {
    runs.sort_unstable_by_key(|run| run.first);
    let mut complete = Vec::with_capacity(runs.len());
    let mut at = 0;
    for run in runs {
        if run.first > at {
            push_run(&mut complete, Run { first: at, count: run.first - at, place: Place::Zero });
        }
        at = run.end();
        push_run(&mut complete, run);
    }
    if pages > at {
        push_run(&mut complete, Run { first: at, count: pages - at, place: Place::Zero });
    }
    complete
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zero(first: u32, count: u32) -> Run {
        Run { first, count, place: Place::Zero }
    }

    fn at(first: u32, count: u32, pack: u32, page: u32) -> Run {
        Run { first, count, place: Place::Pack { pack, page } }
    }

    #[test]
    fn runs_join_only_where_they_go_on() {
        for (left, right, joined) in [
            (zero(0, 2), zero(2, 3), 1),
            (zero(0, 2), zero(3, 1), 2),
            (at(0, 2, 7, 10), at(2, 1, 7, 12), 1),
            (at(0, 2, 7, 10), at(2, 1, 7, 13), 2),
            (at(0, 2, 7, 10), at(2, 1, 8, 12), 2),
            (at(0, 2, 7, 10), zero(2, 1), 2),
        ] {
            let mut runs = vec![left];
            push_run(&mut runs, right);
            assert_eq!(runs.len(), joined, "{left:?} {right:?}");
        }
    }

    #[test]
    fn a_map_is_cut_to_a_stretch() {
        let map = [at(0, 3, 7, 120), zero(3, 2), at(5, 2, 9, 0)];
        for (pages, expected) in [
            (0..7, map.to_vec()),
            (1..3, vec![at(1, 2, 7, 121)]),
            (2..6, vec![at(2, 1, 7, 122), zero(3, 2), at(5, 1, 9, 0)]),
            (4..5, vec![zero(4, 1)]),
            (6..9, vec![at(6, 1, 9, 1)]),
            (7..9, vec![]),
        ] {
            assert_eq!(runs_within(&map, pages.clone()).collect::<Vec<_>>(), expected, "{pages:?}");
        }
        assert_eq!(runs_within(&[], 0..7).count(), 0);
    }

    #[test]
    fn a_map_covers_its_file_exactly_once() {
        assert_eq!(check_map(&[], 0), Ok(()));
        assert_eq!(check_map(&[at(0, 2, 0, 0), zero(2, 1)], 3), Ok(()));
        for (runs, pages) in [
            (vec![], 1),
            (vec![zero(1, 1)], 2),
            (vec![zero(0, 2), zero(1, 1)], 2),
            (vec![zero(0, 3)], 2),
            (vec![zero(0, 0), zero(0, 2)], 2),
            (vec![zero(0, u32::MAX), zero(u32::MAX, 2)], u32::MAX),
        ] {
            assert!(check_map(&runs, pages).is_err(), "{runs:?}");
        }
    }

    #[test]
    fn holes_become_zeros() {
        let map = complete_map(vec![at(4, 2, 0, 9), at(0, 2, 0, 0)], 8);
        assert_eq!(map, vec![at(0, 2, 0, 0), zero(2, 2), at(4, 2, 0, 9), zero(6, 2)]);
        assert_eq!(check_map(&map, 8), Ok(()));
    }
}
