//! What a new point takes over from its parent: the pages that are the same.
//!
//! Truth is the fingerprint: a page of the source is read and compared with the fingerprint its parent stored for the
//! same block. What is the same is referred to where it lies, whoever wrote it; what differs is packed. Nothing is
//! taken on the word of a modification time or an LSN.
//!
//! Pages of a stream have no place of their own: what is inserted moves all that follows. They are looked for by their content,
//! among the pages of the same part (`known`).
//!
//! Pages that the source itself proves unchanged may be **adopted**: referred to without being read. The caller decides
//! which (docs/decisions/0016); here it is seen to that what is adopted is there, is not too old, and is whole pages.
//!
//! **Rolling rebase**: a stretch is stored afresh, and nothing of it taken over, when a restore would have to read more
//! than twice its pages to get at it, or when a pack it would refer to is older than the limit. So a restore reads at
//! most twice the data, and no point depends on a pack much older than that limit. The limit is spread over the
//! stretches, or all would be stored afresh on one day.
//!
//! A pack of the parent that is damaged or missing is not referred to: its pages are stored again.
//!
//! Memory: the parent's page maps, and 16 MiB of footers.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use strongroom_codec::fingerprint::{Fingerprint, FingerprintKey, StreamPrint, is_zero};
use strongroom_codec::pack::FrameRow;
use strongroom_model::entry::EntryPath;
use strongroom_model::page::{FRAME_PAGES, Place, Run, STREAM_FRAME_PAGES, push_run, runs_within};
use strongroom_model::point::PackRef;
use strongroom_model::{PointId, Timestamp};
use tokio::runtime::Handle;

use crate::error::VaultError;
use crate::point::Point;

/// A committed point whose packs a new one may refer to.
pub(crate) struct Parent {
    point: Point,
    files: HashMap<EntryPath, KeptFile>,
    began: Timestamp,
    rebase_after: Duration,
    /// Which of its packs are in the vault in their full size, once that was asked.
    there: OnceLock<Vec<bool>>,
}

/// A file as the parent has it.
struct KeptFile {
    earlier: EarlierFile,
    map: Vec<Run>,
}

/// What an earlier point knows of a file besides its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierFile {
    /// Its bytes.
    pub size: u64,
    /// Whether pages of it were damaged on the source's disk.
    pub damaged: bool,
}

/// What the parent has of a page.
#[derive(Clone, Copy)]
enum Had {
    /// Nothing, or nothing that may be used.
    Nothing,
    /// Zeros.
    Zero,
    /// A page of this fingerprint, there.
    Page(Fingerprint, Place),
}

/// What the parent has of a stretch of one file.
#[derive(Default)]
pub(crate) struct Inherited {
    first: u32,
    pages: Vec<Had>,
    /// Its pages may be compared, and not referred to: that would cost a restore too much.
    only_compare: bool,
}

/// What is told of a page: its number in the file, its frame and slot, and its place.
type EachPage<'a> = dyn FnMut(u32, (&FrameRow, u32), Place) + 'a;

/// A page of one of the parent's streams.
#[derive(Clone, Copy)]
pub(crate) struct StreamPage {
    /// Its content.
    pub(crate) print: StreamPrint,
    /// Its number in the stream.
    pub(crate) at: u32,
    /// Where it is: the pack's number in the parent's table, and the page's in the pack.
    pub(crate) pack: u32,
    pub(crate) page: u32,
}

/// What a page is, compared with the parent's.
pub(crate) enum Compared {
    /// The same, and it may be referred to there.
    Same(Place),
    /// Another, or there is none to compare it with: `true` if the parent has another.
    New(bool),
}

impl Inherited {
    /// Compares a page with the parent's.
    pub(crate) fn compare(&self, at: u32, page: &[u8], key: &FingerprintKey) -> Compared {
        let slot = at.checked_sub(self.first).map(|slot| slot as usize);
        match slot.and_then(|slot| self.pages.get(slot)).copied().unwrap_or(Had::Nothing) {
            Had::Nothing => Compared::New(false),
            Had::Zero => Compared::New(!is_zero(page)),
            Had::Page(print, place) => match key.print(page) == print {
                true if self.only_compare => Compared::New(false),
                true => Compared::Same(place),
                false => Compared::New(true),
            },
        }
    }

    /// Appends to `map` where the parent has these pages, unread. `false`, and nothing appended, if they are not all to
    /// be had.
    pub(crate) fn adopt(&self, pages: Range<u32>, map: &mut Vec<Run>) -> bool {
        let Some(slot) = pages.start.checked_sub(self.first).map(|slot| slot as usize) else { return false };
        let Some(had) = self.pages.get(slot..slot + pages.len()) else { return false };
        if self.only_compare || had.iter().any(|had| matches!(had, Had::Nothing)) {
            return false;
        }
        for (first, had) in pages.zip(had) {
            let place = if let Had::Page(_, place) = had { *place } else { Place::Zero };
            push_run(map, Run { first, count: 1, place });
        }
        true
    }
}

impl Parent {
    /// Reads the page maps of `point`, for a child that began at `began`.
    pub(crate) fn new(point: Point, began: Timestamp, rebase_after: Duration) -> Result<Parent, VaultError> {
        let mut files = HashMap::new();
        point.rows(|row| {
            let earlier = EarlierFile { size: row.entry.size(), damaged: !row.damaged.is_empty() };
            files.insert(row.entry.path, KeptFile { earlier, map: row.map });
            Ok::<(), VaultError>(())
        })?;
        Ok(Parent { point, files, began, rebase_after, there: OnceLock::new() })
    }

    /// The point.
    pub(crate) fn point(&self) -> &Point {
        &self.point
    }

    /// What it knows of a file, if it has it.
    pub(crate) fn file(&self, path: &EntryPath) -> Option<EarlierFile> {
        self.files.get(path).map(|file| file.earlier)
    }

    /// Takes note of which of its packs are there: without that nothing is adopted.
    pub(crate) fn note_packs(&self, there: Vec<bool>) {
        self.there.get_or_init(|| there);
    }

    /// Where it has these pages of the file, which are referred to without being read; `None` if some are not to be had, or
    /// lie in a pack that is lost or too old. A whole stretch: what a restore would read for it has been weighed when it was
    /// stored.
    pub(crate) fn adopt(&self, path: &EntryPath, pages: Range<u32>) -> Option<Vec<Run>> {
        let there = self.there.get()?;
        let runs: Vec<Run> = self.runs(path, &pages).collect();
        let usable = |run: &Run| match run.place {
            Place::Zero => true,
            Place::Pack { pack, .. } => {
                there.get(pack as usize).is_some_and(|there| *there)
                    && !self.is_too_old(path, pages.start, pack)
            }
        };
        let covered: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
        (covered == pages.len() as u64 && runs.iter().all(usable)).then_some(runs)
    }

    /// What may be taken over of these pages of the file. Blocks.
    pub(crate) fn inherit(
        &self,
        runtime: &Handle,
        path: &EntryPath,
        pages: Range<u32>,
    ) -> Result<Inherited, VaultError> {
        let mut inherited =
            Inherited { first: pages.start, pages: vec![Had::Nothing; pages.len()], only_compare: false };
        let mut by_pack = BTreeMap::<u32, Vec<Run>>::new();
        for run in self.runs(path, &pages) {
            match run.place {
                Place::Pack { pack, .. } => by_pack.entry(pack).or_default().push(run),
                Place::Zero => {
                    let slot = (run.first - pages.start) as usize;
                    inherited.pages[slot..slot + run.count as usize].fill(Had::Zero);
                }
            }
        }
        let mut read = 0;
        for (pack, runs) in by_pack {
            if self.is_too_old(path, pages.start, pack) {
                return Ok(Inherited::default());
            }
            read += self.look_into(runtime, (pack, &runs), &mut |at, (frame, slot), place| {
                let print = frame.prints.get(slot as usize);
                inherited.pages[(at - pages.start) as usize] =
                    print.map_or(Had::Nothing, |print| Had::Page(*print, place));
            })?;
        }
        let wanted = inherited.pages.iter().filter(|had| matches!(had, Had::Page(..))).count();
        // What lies in a frame or two is cheap however little of it is wanted.
        inherited.only_compare = read > 2 * wanted.max(FRAME_PAGES);
        Ok(inherited)
    }

    /// How many pages it has of a file or stream.
    pub(crate) fn pages(&self, path: &EntryPath) -> u32 {
        self.files.get(path).and_then(|file| file.map.last()).map_or(0, Run::end)
    }

    /// Adds to `known` which of these pages of the stream may be taken over: all of them, or none if they are too old or lie
    /// so scattered that a restore would read too much. Blocks.
    pub(crate) fn learn(
        &self,
        runtime: &Handle,
        path: &EntryPath,
        pages: Range<u32>,
        known: &mut Vec<StreamPage>,
    ) -> Result<(), VaultError> {
        let mut by_pack = BTreeMap::<u32, Vec<Run>>::new();
        for run in self.runs(path, &pages) {
            let Place::Pack { pack, .. } = run.place else { continue };
            if self.is_too_old(path, pages.start, pack) {
                return Ok(());
            }
            by_pack.entry(pack).or_default().push(run);
        }
        let (before, mut read) = (known.len(), 0);
        for (pack, mut runs) in by_pack {
            // A stream may refer to one page many times, and back: each frame is counted once.
            runs.sort_unstable_by_key(|run| run.place);
            read += self.look_into(runtime, (pack, &runs), &mut |at, (frame, slot), place| {
                let (Some(print), Place::Pack { pack, page }) = (frame.stream_print(slot), place) else {
                    return;
                };
                known.push(StreamPage { print, at, pack, page });
            })?;
        }
        if read > 2 * (known.len() - before).max(STREAM_FRAME_PAGES) {
            known.truncate(before);
        }
        Ok(())
    }

    /// The parent's runs in that stretch, cut to it.
    fn runs(&self, path: &EntryPath, pages: &Range<u32>) -> impl Iterator<Item = Run> {
        let map = self.files.get(path).map(|file| file.map.as_slice()).unwrap_or_default();
        runs_within(map, pages.clone())
    }

    /// Calls `each` with the pages of these runs, in order of the pack. Returns how many pages the frames hold that they lie in.
    fn look_into(
        &self,
        runtime: &Handle,
        (pack, runs): (u32, &[Run]),
        each: &mut EachPage<'_>,
    ) -> Result<usize, VaultError> {
        let reader = match runtime.block_on(self.point.packs().open(pack)) {
            Ok(reader) => reader,
            Err(error @ (VaultError::Damaged { .. } | VaultError::Missing { .. })) => {
                tracing::warn!("pages are stored again because a pack of the parent cannot be used: {error}");
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let (mut read, mut last) = (0, None);
        for run in runs {
            let Place::Pack { page, .. } = run.place else { continue };
            for offset in 0..run.count {
                let Some(index) = reader.frame_of(page + offset) else { break };
                let frame = &reader.frames()[index];
                if last.replace(index) != Some(index) {
                    read += frame.prints.len();
                }
                let slot = page + offset - frame.first_page;
                each(run.first + offset, (frame, slot), Place::Pack { pack, page: page + offset });
            }
        }
        Ok(read)
    }

    /// Whether the pack was written longer ago than this stretch may refer to: between three quarters of the limit and
    /// all of it, so that stretches do not come due together.
    fn is_too_old(&self, path: &EntryPath, first: u32, pack: u32) -> bool {
        let mut hasher = DefaultHasher::new();
        (path.as_bytes(), first).hash(&mut hasher);
        let share = 768 + (hasher.finish() % 257) as u32;
        let limit = self.rebase_after * share / 1024;
        let oldest = self.began.earlier(limit).map(|at| PointId::new(at, [0; 4]));
        let owner = self.point.packs().all().get(pack as usize).map(|pack| &pack.owner);
        owner.zip(oldest.as_ref()).is_some_and(|(owner, oldest)| owner < oldest)
    }
}

/// Drops from `inherited` the packs no map refers to and renumbers the maps: a manifest names only what its point needs.
/// `own` packs come behind the inherited ones and all stay.
pub(crate) fn compact(inherited: &[PackRef], own: &[PackRef], maps: &mut [&mut Vec<Run>]) -> Vec<PackRef> {
    let mut used = vec![false; inherited.len()];
    for run in maps.iter().flat_map(|map| map.iter()) {
        if let Place::Pack { pack, .. } = run.place
            && let Some(used) = used.get_mut(pack as usize)
        {
            *used = true;
        }
    }
    let mut numbers = Vec::with_capacity(inherited.len() + own.len());
    let mut next = 0;
    for used in used.iter().copied().chain(own.iter().map(|_| true)) {
        numbers.push(next);
        next += u32::from(used);
    }
    for run in maps.iter_mut().flat_map(|map| map.iter_mut()) {
        if let Place::Pack { pack, .. } = &mut run.place {
            // A map numbers only packs of the two tables: it was made of them.
            *pack = numbers[*pack as usize];
        }
    }
    let kept = inherited.iter().zip(used).filter_map(|(pack, used)| used.then_some(pack));
    kept.chain(own).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(number: u32) -> PackRef {
        let owner = "20261120T120000Z-1f2e3d4c".parse().unwrap();
        PackRef { owner, number, nonce: [0; 16], size: 1, hash: [0; 16] }
    }

    #[test]
    fn packs_that_nothing_refers_to_are_dropped() {
        let run = |first, pack| Run { first, count: 1, place: Place::Pack { pack, page: 9 } };
        let zero = Run { first: 1, count: 1, place: Place::Zero };
        let (mut one, mut two) = (vec![run(0, 2), zero, run(2, 3)], vec![run(0, 0)]);
        let table = compact(&[pack(0), pack(1), pack(2)], &[pack(7), pack(8)], &mut [&mut one, &mut two]);
        assert_eq!(table.iter().map(|pack| pack.number).collect::<Vec<_>>(), [0, 2, 7, 8]);
        assert_eq!((one, two), (vec![run(0, 1), zero, run(2, 2)], vec![run(0, 0)]));
    }
}
