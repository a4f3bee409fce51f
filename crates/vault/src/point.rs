//! Reading a recovery point back: its manifest, and its pages.
//!
//! Pages are read per batch of rows: their places are sorted by pack and frame, neighbouring frames fetched in one
//! range, several ranges at a time while the ones before are decoded, each frame opened once, every page checked against
//! its fingerprint and handed to the caller with its file and number.
//!
//! What later points changed is a page here and a page there, in packs of their own. Such pages are read first and held, and
//! are given where they belong between the others: a disk takes one long write in the time of a few short ones.
//!
//! Memory: one batch's runs, a few ranges, and 24 MiB of pages held, whatever the database's size.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use strongroom_codec::digest::object_hash;
use strongroom_codec::manifest::{ManifestReader, to_hex};
use strongroom_codec::pack::PackReader;
use strongroom_model::page::{PAGE_SIZE, Place};
use strongroom_model::point::{Decision, FileRow, PackRef, PointFacts, Summary};
use strongroom_model::{Cx, PointId, SourceName, WalFile};
use strongroom_store::Key;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::error::{VaultError, damaged};
use crate::layout::{self, PointPart};
use crate::open::Vault;
use crate::pack_reader::{Lender, Packs};

/// Bytes fetched in one request at most, bytes under way ahead of what is being decoded, and requests under way.
const FETCH: u64 = 2 << 20;
const AHEAD: u64 = 4 * FETCH;
const REQUESTS: u64 = 16;

/// Bytes of pages held at most until their neighbours are read; what is more is given as it comes.
const HOLD: u64 = 24 << 20;

/// Pages that lie together in a pack, on average, from which on it is not worth holding them: 512 KiB.
const LONG: u64 = 64;

/// Bytes between two wanted frames that are cheaper to read over than to ask for again.
const GAP: u64 = 64 << 10;

/// A committed point, open for reading.
pub struct Point {
    summary: Summary,
    manifest: Bytes,
    path: Key,
    facts: PointFacts,
    packs: Packs,
}

/// Pages of one file that lie side by side in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    pack: u32,
    page: u32,
    count: u32,
    row: usize,
    first: u32,
}

/// What takes the pages of a batch: `(index of the row in the batch, first page, bytes)`.
pub type Take<'a, E> = dyn FnMut(usize, u32, &[u8]) -> Result<(), E> + 'a;

/// What is told of pages that no vault has whole: `(index of the row in the batch, pages of the file, why)`. It says whether
/// to go on without them.
pub type Lose<'a> = dyn FnMut(usize, Range<u32>, &VaultError) -> bool + 'a;

impl Vault {
    /// Opens a committed point: reads its decision and its manifest, and checks the one against the other.
    pub async fn open_point(
        self: &Arc<Self>,
        source: &SourceName,
        point: &PointId,
    ) -> Result<Point, VaultError> {
        let not_committed = |state| VaultError::NotCommitted { point: point.clone(), state };
        let (hash, size, summary) = match self.decision(source, point).await? {
            Some(Decision::Commit { manifest_hash, manifest_size, summary }) => {
                (manifest_hash, manifest_size, summary)
            }
            Some(Decision::Abandoned { .. }) => return Err(not_committed("abandoned")),
            Some(Decision::Revoked { .. }) => return Err(not_committed("revoked")),
            None => return Err(self.why_undecided(source, point).await?),
        };
        let path = layout::point_part(source, point, PointPart::Manifest);
        let manifest = self.store.get(&path).await.map_err(|error| match error.is_not_found() {
            true => VaultError::Missing { key: path.to_string(), place: self.place() },
            false => error.into(),
        })?;
        if manifest.len() as u64 != size || to_hex(&object_hash(self.suite, &manifest)) != hash {
            return Err(damaged(path, self.place(), "it is not the manifest that was committed".to_owned()));
        }
        let reader = ManifestReader::new(self.scope(&path), &manifest)
            .map_err(|why| damaged(&path, self.place(), why))?;
        let facts = reader.facts().clone();
        let packs =
            Packs::new(Arc::clone(self), source.clone(), reader.owners().to_vec(), reader.packs().to_vec());
        drop(reader);
        Ok(Point { summary: *summary, manifest, path, facts, packs })
    }

    /// Every object that a committed point needs to be restored to its own end: records, packs, and its stretch of WAL.
    pub async fn objects_of(
        self: &Arc<Self>,
        source: &SourceName,
        point: &PointId,
    ) -> Result<Vec<Key>, VaultError> {
        let open = self.open_point(source, point).await?;
        let parts = [PointPart::Intent, PointPart::Manifest, PointPart::Decision];
        let mut objects: Vec<Key> =
            parts.into_iter().map(|part| layout::point_part(source, point, part)).collect();
        objects.extend(open.packs().all().iter().map(|pack| open.packs().key(pack)));
        let Some(journal) = &open.summary().journal else { return Ok(objects) };
        let (first, last) = journal.segments();
        for file in self.journal_files(source, journal.lineage).await? {
            let needed = match file {
                WalFile::Segment(segment) => first <= segment && segment <= last,
                WalFile::History(timeline) => timeline == journal.timeline,
                WalFile::Partial(_) | WalFile::BackupLabel(..) | WalFile::Part(..) => false,
            };
            if needed {
                objects.push(layout::wal_file(source, journal.lineage, file));
            }
        }
        Ok(objects)
    }

    async fn why_undecided(&self, source: &SourceName, point: &PointId) -> Result<VaultError, VaultError> {
        let there = !self.list(&layout::point(source, point)).await?.is_empty();
        Ok(match there {
            true => VaultError::NotCommitted { point: point.clone(), state: "unfinished" },
            false => VaultError::NoSuchPoint { source_name: source.clone(), point: point.clone() },
        })
    }
}

impl Point {
    /// The point in a few lines.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Its facts, with what its engine needs.
    pub fn facts(&self) -> &PointFacts {
        &self.facts
    }

    /// Goes on with `replicas` of its vault when a pack turns out missing or damaged.
    pub fn with_replicas(mut self, replicas: Vec<Arc<Vault>>) -> Point {
        self.packs.go_on_with(replicas);
        self
    }

    /// Fetches its pages at no more than so many bytes a second, all readers together.
    pub fn limited_to(self, bytes_per_second: Option<u64>) -> Point {
        if let Some(limit) = bytes_per_second {
            self.packs.limit(limit);
        }
        self
    }

    /// The key of its manifest.
    pub(crate) fn path(&self) -> &Key {
        &self.path
    }

    /// Its manifest, as committed.
    pub(crate) fn manifest(&self) -> &Bytes {
        &self.manifest
    }

    /// Its packs.
    pub fn packs(&self) -> &Packs {
        &self.packs
    }

    /// Calls `each` with every row, in order.
    pub fn rows<E: From<VaultError>>(&self, mut each: impl FnMut(FileRow) -> Result<(), E>) -> Result<(), E> {
        let vault = self.packs.vault();
        let unreadable = |why| E::from(damaged(&self.path, vault.place(), why));
        let mut reader = ManifestReader::new(vault.scope(&self.path), &self.manifest).map_err(unreadable)?;
        while let Some(row) = reader.next_row().map_err(unreadable)? {
            each(row)?;
        }
        Ok(())
    }

    /// Reads every stored page of `rows`, which are files', and gives it to `take`, in the order of the packs, but what is
    /// scattered in them where it belongs in its file. All-zero pages are not given. What no vault has whole is told to
    /// `lose`, which says whether to go on without. Blocks: call it on a worker thread, with the runtime that fetches.
    pub fn read_pages<E: From<VaultError>>(
        &self,
        (cx, runtime): (&Cx, &Handle),
        rows: &[FileRow],
        take: &mut Take<'_, E>,
        lose: &mut Lose<'_>,
    ) -> Result<(), E> {
        self.packs.vault().check_may_read()?;
        let pieces = pieces(rows);
        let (given, lost) = (Cell::new(0u64), Cell::new(0u64));
        let mut take = |row, first, bytes: &[u8]| {
            given.set(given.get() + bytes.len().div_ceil(PAGE_SIZE) as u64);
            take(row, first, bytes)
        };
        let mut lose = |row, pages: Range<u32>, why: &VaultError| {
            lost.set(lost.get() + pages.len() as u64);
            lose(row, pages, why)
        };
        let scattered = scattered(&pieces);
        let (held, rest): (Vec<_>, Vec<_>) = pieces
            .chunk_by(|left, right| left.pack == right.pack)
            .partition(|of_pack| of_pack.first().is_some_and(|piece| scattered.contains(&piece.pack)));
        let mut aside = BTreeMap::new();
        for of_pack in held {
            let mut hold = |row, first, bytes: &[u8]| {
                aside.insert((row, first), bytes.to_vec());
                Ok(())
            };
            self.read_pack((cx, runtime), of_pack, &mut hold, &mut lose)?;
        }
        for of_pack in rest {
            let mut fill_in = |row, first, bytes: &[u8]| {
                while let Some((&(_, held), _)) = aside.range((row, 0)..(row, first)).next() {
                    take(row, held, &aside.remove(&(row, held)).unwrap_or_default())?;
                }
                take(row, first, bytes)
            };
            self.read_pack((cx, runtime), of_pack, &mut fill_in, &mut lose)?;
        }
        aside.into_iter().try_for_each(|((row, first), bytes)| take(row, first, &bytes))?;
        // Count in = count out (incident 4): a map whose pieces overlap would leave pages ungiven.
        let wanted: u64 = pieces.iter().map(|piece| u64::from(piece.count)).sum();
        let (given, lost) = (given.get(), lost.get());
        if given + lost == wanted {
            return Ok(());
        }
        let why = format!("its page maps name {wanted} pages and its packs gave {given}");
        Err(damaged(&self.path, self.packs.vault().place(), why).into())
    }

    /// Reads the wanted pages of one pack.
    fn read_pack<E: From<VaultError>>(
        &self,
        of: (&Cx, &Handle),
        mut pieces: &[Piece],
        take: &mut Take<'_, E>,
        lose: &mut Lose<'_>,
    ) -> Result<(), E> {
        let mut next = 0;
        if let Err(error) = self.read_frames(of, (&mut pieces, &mut next), take, lose)? {
            lose_all(next..u32::MAX, pieces, error, lose)?;
        }
        Ok(())
    }

    /// Reads the frames of one pack in which wanted pages are. `pieces` are those still to come, from page `next` of the pack
    /// on: what an inner error leaves is lost with the pack.
    fn read_frames<E: From<VaultError>>(
        &self,
        (cx, runtime): (&Cx, &Handle),
        (pieces, next): (&mut &[Piece], &mut u32),
        take: &mut Take<'_, E>,
        lose: &mut Lose<'_>,
    ) -> Result<Result<(), VaultError>, E> {
        let Some(number) = pieces.first().map(|piece| piece.pack) else { return Ok(Ok(())) };
        let reader = match runtime.block_on(self.packs.open(number)) {
            Ok(reader) => reader,
            Err(error) => return Ok(Err(error)),
        };
        // `open` has just found it.
        let Some(pack) = self.packs.all().get(number as usize) else { return Ok(Ok(())) };
        let (key, place) = (self.packs.key(pack), self.packs.vault().place());
        let Some(spans) = spans(&reader, pieces) else {
            let why = "it has fewer pages than its manifest says".to_owned();
            return Ok(Err(damaged(&key, place, why)));
        };
        let (mut fetched, mut raw) = (fetch(runtime, self.packs.lender(pack), &spans), Vec::new());
        for span in &spans {
            cx.check().map_err(VaultError::from)?;
            let bytes =
                fetched.blocking_recv().unwrap_or_else(|| unreachable!("a fetch ended without an answer"));
            let mut bytes = match bytes {
                Ok(bytes) if bytes.len() as u64 == span.bytes.end - span.bytes.start => bytes,
                Ok(bytes) => {
                    let why = format!("{} bytes came back of {:?}", bytes.len(), span.bytes);
                    return Ok(Err(damaged(&key, place, why)));
                }
                Err(error) => return Ok(Err(error)),
            };
            for index in span.frames.clone() {
                let frame = &reader.frames()[index];
                let pages = frame.first_page..frame.first_page + frame.prints.len() as u32;
                let start = (frame.range().start - span.bytes.start) as usize;
                let stored = &mut bytes[start..start + (frame.range().end - frame.range().start) as usize];
                if !wants(pages.end, pieces) {
                    continue;
                }
                let read = reader.read_frame(index, stored, &mut raw).or_else(|why| {
                    let error = damaged(&key, place.clone(), why);
                    self.mend(runtime, (&reader, pack, index), error, &mut raw)
                });
                *pieces = match read {
                    Ok(()) => give(&reader, index, &raw, pieces, take)?,
                    Err(error) => lose_all(pages.clone(), pieces, error, lose)?,
                };
                *next = pages.end;
            }
        }
        Ok(Ok(()))
    }

    /// Reads a frame that does not open from a replica; the first vault's `error` if none has it whole. Blocks.
    pub(crate) fn mend(
        &self,
        runtime: &Handle,
        (reader, pack, index): (&PackReader, &PackRef, usize),
        error: VaultError,
        raw: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        let range = reader.frames()[index].range();
        for bytes in runtime.block_on(self.packs.lender(pack).fetch_elsewhere(range, &error)) {
            if reader.read_frame(index, &mut Vec::from(bytes), raw).is_ok() {
                return Ok(());
            }
        }
        Err(error)
    }
}

/// Fetches spans, several at a time, and hands them over in their order. Large ones few at a time, for they wait in memory;
/// small ones many, for they wait for the store.
fn fetch(runtime: &Handle, lender: Lender, spans: &[Span]) -> mpsc::Receiver<Result<Vec<u8>, VaultError>> {
    let (sender, receiver) = mpsc::channel(1);
    let ranges: Vec<_> = spans.iter().map(|span| span.bytes.clone()).collect();
    let largest = ranges.iter().map(|range| range.end - range.start).max().unwrap_or(FETCH).max(1);
    let at_a_time = (AHEAD / largest).clamp(1, REQUESTS) as usize;
    runtime.spawn(async move {
        let lender = &lender;
        let mut fetched = stream::iter(ranges).map(|range| lender.fetch(range)).buffered(at_a_time);
        while let Some(bytes) = fetched.next().await {
            let bytes = bytes.map(Vec::from);
            let failed = bytes.is_err();
            // The reader hung up: it failed or was cancelled, and wants no more.
            if sender.send(bytes).await.is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Frames fetched together.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    frames: Range<usize>,
    bytes: Range<u64>,
}

/// Where the rows' stored pages are, in the order of the packs.
fn pieces(rows: &[FileRow]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (row, file) in rows.iter().enumerate() {
        pieces.extend(file.map.iter().filter_map(|run| match run.place {
            Place::Zero => None,
            Place::Pack { pack, page } => Some(Piece { pack, page, count: run.count, row, first: run.first }),
        }));
    }
    pieces.sort_unstable();
    pieces
}

/// The packs from which little is wanted, and that in short pieces: as many as may be held, those with least first. Never the
/// one from which most is wanted.
fn scattered(pieces: &[Piece]) -> BTreeSet<u32> {
    let of_pack = |of_pack: &[Piece]| {
        let pages: u64 = of_pack.iter().map(|piece| u64::from(piece.count)).sum();
        (pages, of_pack.len() as u64, of_pack.first().map_or(0, |piece| piece.pack))
    };
    let mut packs: Vec<_> = pieces.chunk_by(|left, right| left.pack == right.pack).map(of_pack).collect();
    packs.sort_unstable();
    packs.pop();
    packs.retain(|(pages, pieces, _)| *pages < LONG * pieces);
    let mut room = HOLD / PAGE_SIZE as u64;
    let fits = |(pages, _, _): &(u64, u64, u32)| {
        let left = room.checked_sub(*pages);
        room = left.unwrap_or_default();
        left.is_some()
    };
    packs.into_iter().take_while(fits).map(|(_, _, pack)| pack).collect()
}

/// The ranges of a pack to fetch for these pieces of it. `None` if a piece lies beyond the pack's end.
fn spans(reader: &PackReader, pieces: &[Piece]) -> Option<Vec<Span>> {
    let mut spans: Vec<Span> = Vec::new();
    for piece in pieces {
        let last = piece.page.checked_add(piece.count - 1)?;
        for index in reader.frame_of(piece.page)?..=reader.frame_of(last)? {
            let bytes = reader.frames()[index].range();
            match spans.last_mut() {
                Some(span) if index < span.frames.end => {}
                Some(span)
                    if bytes.start - span.bytes.end <= GAP && bytes.end - span.bytes.start <= FETCH =>
                {
                    span.frames.end = index + 1;
                    span.bytes.end = bytes.end;
                }
                _ => spans.push(Span { frames: index..index + 1, bytes }),
            }
        }
    }
    Some(spans)
}

/// Whether any of `pieces` (sorted, those behind done with) has pages before `end` of the pack.
fn wants(end: u32, pieces: &[Piece]) -> bool {
    pieces.first().is_some_and(|piece| piece.page < end)
}

/// Gives the pages of a decoded frame to `take`; returns the pieces that later frames go on with.
fn give<'p, E>(
    reader: &PackReader,
    index: usize,
    raw: &[u8],
    pieces: &'p [Piece],
    take: &mut Take<'_, E>,
) -> Result<&'p [Piece], E> {
    let frame = &reader.frames()[index];
    let pages = frame.first_page..frame.first_page + frame.prints.len() as u32;
    walk(pages, pieces, &mut |row, first, pages| {
        // Pages of one piece are neighbours in a file, so only the last can be short and the bytes are contiguous.
        let (start, end) = match (
            frame.page_range(pages.start - frame.first_page),
            frame.page_range(pages.end - 1 - frame.first_page),
        ) {
            (Some(start), Some(end)) => (start.start, end.end),
            _ => unreachable!("frame {index} has fewer pages than it says"),
        };
        take(row, first, &raw[start..end])
    })
}

/// Tells `lose` of the pieces' parts in `pages` of the pack; the pieces behind them. The error is the answer if it is not
/// damage, or if a loss is not accepted.
fn lose_all<'p>(
    pages: Range<u32>,
    pieces: &'p [Piece],
    error: VaultError,
    lose: &mut Lose<'_>,
) -> Result<&'p [Piece], VaultError> {
    if !matches!(error, VaultError::Damaged { .. } | VaultError::Missing { .. }) {
        return Err(error);
    }
    let walked = walk(pages, pieces, &mut |row, first, pages: Range<u32>| {
        if lose(row, first..first + pages.len() as u32, &error) { Ok(()) } else { Err(()) }
    });
    walked.map_err(|()| error)
}

/// Calls `each` with every part of `pieces` that lies in `pages` of the pack: its row, its first page in the file and its
/// pages in the pack. Returns the pieces that go on behind.
fn walk<'p, E>(
    pages: Range<u32>,
    mut pieces: &'p [Piece],
    each: &mut dyn FnMut(usize, u32, Range<u32>) -> Result<(), E>,
) -> Result<&'p [Piece], E> {
    while let Some(piece) = pieces.first().filter(|piece| piece.page < pages.end) {
        let end = piece.page.saturating_add(piece.count);
        let (from, to) = (piece.page.max(pages.start), end.min(pages.end));
        each(piece.row, piece.first + (from - piece.page), from..to)?;
        if end > pages.end {
            break;
        }
        pieces = &pieces[1..];
    }
    Ok(pieces)
}

/// Bytes of stored (not all-zero) pages in a row's map, at most.
pub fn stored_bytes(row: &FileRow) -> u64 {
    let stored = row.map.iter().filter(|run| run.place != Place::Zero);
    stored.map(|run| u64::from(run.count) * PAGE_SIZE as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_little_of_a_pack_in_short_pieces() {
        let piece = |pack, page, count| Piece { pack, page, count, row: 0, first: 0 };
        let every_other =
            |pack, pieces| (0..pieces).map(move |at| piece(pack, 2 * at, 1)).collect::<Vec<_>>();
        let room = (HOLD / PAGE_SIZE as u64) as u32;
        for (what, pieces, held) in [
            ("nothing", vec![], vec![]),
            ("one pack, however scattered", every_other(3, 500), vec![]),
            ("an update here and there", [every_other(2, 100), vec![piece(9, 0, 5000)]].concat(), vec![2]),
            ("two long stretches", vec![piece(2, 0, 64), piece(9, 0, 5000)], vec![]),
            (
                "several updates",
                [every_other(1, 9), every_other(2, 7), vec![piece(9, 0, 99)]].concat(),
                vec![1, 2],
            ),
            (
                "what there is room for",
                [every_other(1, 9), every_other(2, room - 8), every_other(3, room)].concat(),
                vec![1],
            ),
        ] {
            assert_eq!(scattered(&pieces).into_iter().collect::<Vec<_>>(), held, "{what}");
        }
    }
}
