//! What of a file that is there already is not as a point has it.
//!
//! Truth is the fingerprint, as for what a new point takes over from its parent: the page that is there
//! is read and compared with the fingerprint in its pack's footer. Nothing is taken on the word of a size, a modification
//! time or an LSN. Only footers are fetched for this: less than a hundredth of the pages.
//!
//! Pages of a pack whose footer cannot be had are taken for different: fetching them tells what is lost.
//!
//! Memory: a stretch of one file, its fingerprints, and 16 MiB of footers.

use std::ops::Range;

use strongroom_codec::fingerprint::{Fingerprint, is_zero};
use strongroom_model::Cx;
use strongroom_model::page::{PAGE_SIZE, Place, Run, push_run, runs_within};
use strongroom_model::point::FileRow;
use tokio::runtime::Handle;

use crate::error::VaultError;
use crate::point::Point;

/// Pages compared at once: 1 MiB.
const STRETCH: u32 = 128;

/// What reads the file that is there: `(first page, whole pages to fill)`, and says how many bytes the file had.
pub type Present<'a, E> = dyn FnMut(u32, &mut [u8]) -> Result<usize, E> + 'a;

/// The pages of a file that are not as the point has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differing {
    /// To be fetched: a part of the file's page map.
    pub stored: Vec<Run>,
    /// To be made zeros.
    pub zeros: Vec<Range<u32>>,
}

/// What the point has of one page.
#[derive(Clone, Copy)]
enum Kept {
    Zeros,
    /// `None`: its pack does not say.
    Page(Place, Option<Fingerprint>),
}

impl Point {
    /// Compares `pages` of the file that `present` reads with the point's, one by one. The file has its final size. Blocks.
    pub fn differing<E: From<VaultError>>(
        &self,
        (cx, runtime): (&Cx, &Handle),
        (row, pages): (&FileRow, Range<u32>),
        present: &mut Present<'_, E>,
    ) -> Result<Differing, E> {
        let size = row.entry.size();
        let (mut differing, mut buffer) = (Differing::default(), vec![0; STRETCH as usize * PAGE_SIZE]);
        let mut first = pages.start;
        while first < pages.end {
            cx.check().map_err(VaultError::from)?;
            let end = pages.end.min(first + STRETCH);
            let kept = self.kept(runtime, &row.map, first..end)?;
            let wanted = (size - u64::from(first) * PAGE_SIZE as u64).min(buffer.len() as u64) as usize;
            let bytes = present(first, &mut buffer[..wanted])?;
            // What could not be read is not there: no page is like it.
            let mut there = buffer[..bytes.min(wanted)].chunks(PAGE_SIZE);
            for (at, kept) in (first..end).zip(kept) {
                let length = (size - u64::from(at) * PAGE_SIZE as u64).min(PAGE_SIZE as u64) as usize;
                let page = there.next().filter(|page| page.len() == length);
                self.judge(at, page, kept, &mut differing);
            }
            first = end;
        }
        Ok(differing)
    }

    fn judge(&self, at: u32, page: Option<&[u8]>, kept: Kept, differing: &mut Differing) {
        match kept {
            Kept::Zeros if page.is_some_and(is_zero) => {}
            Kept::Zeros => match differing.zeros.last_mut() {
                Some(last) if last.end == at => last.end += 1,
                _ => differing.zeros.push(at..at + 1),
            },
            Kept::Page(place, print) => {
                let print_of = |page: &[u8]| self.packs().vault().fingerprints.print(page);
                // A stored page is never all zeros: a hole need not be hashed.
                let same = page.is_some_and(|page| !is_zero(page) && Some(print_of(page)) == print);
                if !same {
                    push_run(&mut differing.stored, Run { first: at, count: 1, place });
                }
            }
        }
    }

    /// What the point has of these pages of a file, in order.
    fn kept(&self, runtime: &Handle, map: &[Run], pages: Range<u32>) -> Result<Vec<Kept>, VaultError> {
        let mut kept = vec![Kept::Zeros; pages.len()];
        let mut runs: Vec<Run> = runs_within(map, pages.clone()).collect();
        // One pack after the other: each footer is opened once a stretch.
        runs.sort_unstable_by_key(|run| run.place);
        for run in runs {
            let Place::Pack { pack, page } = run.place else { continue };
            let reader = match runtime.block_on(self.packs().open(pack)) {
                Ok(reader) => Some(reader),
                Err(VaultError::Damaged { .. } | VaultError::Missing { .. }) => None,
                Err(error) => return Err(error),
            };
            for at in run.first..run.end() {
                let page = page.saturating_add(at - run.first);
                let print = reader.as_ref().and_then(|reader| {
                    let frame = &reader.frames()[reader.frame_of(page)?];
                    frame.prints.get((page - frame.first_page) as usize).copied()
                });
                kept[(at - pages.start) as usize] = Kept::Page(Place::Pack { pack, page }, print);
            }
        }
        Ok(kept)
    }
}
