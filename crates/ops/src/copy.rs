//! Copying a source's pages into a vault: parallel readers, one packer each.
//!
//! ```text
//! entries ▶ items of at most 128 MiB ▶ worker: read 1 MiB, pack ▶ … ▶ rows: what was read, where it is
//!                                           └ or adopt: the source's record says that the parent has it
//! ```
//!
//! Where the source keeps a record of what changed, what it does not name is taken over from the parent unread
//! (docs/decisions/0016). A share is read all the same. If that shows the record to be wrong, it is believed for
//! nothing: what had been taken over is read in a second pass, in this same copy.
//!
//! Items are claimed by number and their results kept by number; before the rows are made it is checked that every
//! item has a result (incident 4: a queue that lost a file).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_engine::{BackupSession, ChangedPages, LateFile, PageRead, PageSource, Reader};
use strongroom_model::entry::{Entry, EntryKind};
use strongroom_model::page::{PAGE_SIZE, Run, complete_map, page_count};
use strongroom_model::point::{FileRow, Reading};
use strongroom_model::proof::is_due;
use strongroom_model::{Cx, Timestamp};
use strongroom_vault::upload::{Packer, Upload};
use strongroom_vault::{EarlierFile, VaultError};
use tokio::runtime::Handle;

use crate::error::OpsError;
use crate::threads::join_all;

/// Pages of one item: 128 MiB, so that one 1 GiB file keeps all workers busy.
pub(crate) const ITEM_PAGES: u32 = 16 << 10;

/// Bytes read at a time.
const READ_SIZE: usize = 1 << 20;

/// Pages said to be unchanged, between others, that are read over: cheaper than another request to the disk.
const GAP: u32 = 16;

/// A stretch of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    entry: usize,
    first: u32,
    pages: u32,
}

/// The source's record of what changed since the parent, and how far it is believed.
pub struct Record {
    /// The record.
    pub changed: Arc<dyn ChangedPages>,
    /// Each stretch is read all the same once in this time.
    pub prove_within: std::time::Duration,
    /// When the parent was begun, and this point.
    pub times: (Timestamp, Timestamp),
}

/// What is known of an item before it is read.
enum Known {
    /// Nothing: all of it is read.
    Nothing,
    /// That all but these pages are the parent's. They are read all the same, to prove it.
    ToProve(Vec<u32>),
    /// The same, and it is believed.
    Believed(Vec<u32>),
}

/// What reading an item gave. `None` for the map: the file was gone.
#[derive(Debug)]
struct Part {
    map: Option<Vec<Run>>,
    end: u64,
    damaged: Vec<u32>,
    reading: Reading,
}

/// Everything a copy needs, shared by its workers.
struct Work {
    cx: Cx,
    reader: Arc<dyn Reader>,
    entries: Vec<Entry>,
    items: Vec<Item>,
    /// What the parent knows of the entries; empty without a record.
    earlier: Vec<Option<EarlierFile>>,
    record: Option<Record>,
    doomed: AtomicBool,
    /// The record was found wrong: nothing of it is believed any more.
    refuted: AtomicBool,
    parts: Mutex<Vec<Option<Part>>>,
}

/// Copies every entry of the session, with the help of a `record` of what changed since the upload's parent, if there is one.
pub async fn copy(
    cx: &Cx,
    session: &mut dyn BackupSession,
    (upload, record): (&Upload, Option<Record>),
    workers: usize,
) -> Result<(Vec<FileRow>, Reading), OpsError> {
    let entries = session.entries().to_vec();
    let items = items(&entries)?;
    let mut earlier = Vec::new();
    if record.is_some() {
        upload.prepare_adoption().await?;
        earlier.extend(entries.iter().map(|entry| upload.earlier(&entry.path)));
    }
    let work = Arc::new(Work {
        cx: cx.clone(),
        reader: session.reader(),
        parts: Mutex::new(items.iter().map(|_| None).collect()),
        entries,
        items,
        earlier,
        record,
        doomed: AtomicBool::new(false),
        refuted: AtomicBool::new(false),
    });
    pass(session, upload, workers, &work, (0..work.items.len()).collect()).await?;
    if work.refuted.load(Ordering::Relaxed) {
        let adopted = work.adopted();
        pass(session, upload, workers, &work, adopted).await?;
    }
    rows(&work)
}

/// Copies these items. While workers copy, the session is asked every few seconds whether it is still alive: without it the
/// copy is worthless.
async fn pass(
    session: &mut dyn BackupSession,
    upload: &Upload,
    workers: usize,
    work: &Arc<Work>,
    numbers: Vec<usize>,
) -> Result<(), OpsError> {
    let sizes = numbers.iter().filter_map(|number| work.items.get(*number)).map(|item| {
        let (first, pages) = (u64::from(item.first), u64::from(item.pages));
        work.entries[item.entry].size().min((first + pages) * PAGE_SIZE as u64) - first * PAGE_SIZE as u64
    });
    work.cx.progress.begin("copying", sizes.sum());
    let runtime = Handle::current();
    let packers: Vec<Packer> = (0..workers.max(1)).map(|_| upload.packer(runtime.clone())).collect();
    let shared = Arc::clone(work);
    let mut copying = tokio::task::spawn_blocking(move || run(&shared, packers, &numbers));
    let mut alive = tokio::time::interval(std::time::Duration::from_secs(5));
    let mut lost = None;
    let copied = loop {
        tokio::select! {
            copied = &mut copying => break copied,
            _ = alive.tick(), if lost.is_none() => if let Err(error) = session.check().await {
                work.doomed.store(true, Ordering::Relaxed);
                lost = Some(error);
            },
        }
    };
    if let Some(error) = lost {
        return Err(error.into());
    }
    copied.map_err(|why| OpsError::Worker(why.to_string()))?
}

fn items(entries: &[Entry]) -> Result<Vec<Item>, OpsError> {
    let mut items = Vec::new();
    for (entry, listed) in entries.iter().enumerate() {
        let EntryKind::File(size) = listed.kind else { continue };
        let pages = page_count(size).ok_or_else(|| too_large(listed))?;
        let mut first = 0;
        while first < pages {
            let count = ITEM_PAGES.min(pages - first);
            items.push(Item { entry, first, pages: count });
            first += count;
        }
    }
    Ok(items)
}

pub(crate) fn too_large(listed: &Entry) -> VaultError {
    VaultError::TooLarge(format!("{} has more pages than the format can count", listed.path))
}

fn run(work: &Work, packers: Vec<Packer>, numbers: &[usize]) -> Result<(), OpsError> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let next = &next;
        let threads: Vec<_> = packers
            .into_iter()
            .map(|packer| scope.spawn(move || worker(work, packer, (numbers, next))))
            .collect();
        join_all(threads)
    })
}

fn worker(
    work: &Work,
    mut packer: Packer,
    (numbers, next): (&[usize], &AtomicUsize),
) -> Result<(), OpsError> {
    let mut buffer = vec![0; READ_SIZE];
    let outcome = loop {
        let number = numbers.get(next.fetch_add(1, Ordering::Relaxed));
        let Some((number, item)) = number.and_then(|number| Some((*number, work.items.get(*number)?))) else {
            break packer.finish().map_err(OpsError::from);
        };
        match copy_item(work, item, &mut packer, &mut buffer) {
            Ok(part) => {
                let mut parts = work.parts.lock().unwrap_or_else(PoisonError::into_inner);
                parts[number] = Some(part);
            }
            Err(error) => break Err(error),
        }
    };
    if outcome.is_err() {
        work.doomed.store(true, Ordering::Relaxed);
    }
    outcome
}

impl Work {
    /// The items of which something was adopted.
    fn adopted(&self) -> Vec<usize> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let adopted = |part: &Option<Part>| part.as_ref().is_some_and(|part| part.reading.adopted > 0);
        (0..parts.len()).filter(|number| adopted(&parts[*number])).collect()
    }

    /// What is known of an item. A file that the parent does not have, has longer, or has with damage is read, as is what
    /// changed by nine tenths: a record spares little there. Pages beyond the parent's end count as changed.
    fn known(&self, item: &Item) -> Known {
        let entry = &self.entries[item.entry];
        let (Some(record), Some(Some(earlier))) = (&self.record, self.earlier.get(item.entry)) else {
            return Known::Nothing;
        };
        if earlier.damaged || earlier.size > entry.size() {
            return Known::Nothing;
        }
        let end = item.first + item.pages;
        let shared =
            u32::try_from(earlier.size / PAGE_SIZE as u64).unwrap_or(u32::MAX).clamp(item.first, end);
        let Some(mut changed) = record.changed.changed(item.entry, item.first..shared) else {
            return Known::Nothing;
        };
        changed.extend(shared..end);
        let Record { prove_within, times, .. } = record;
        let refuted = self.refuted.load(Ordering::Relaxed);
        if refuted || is_due(&entry.path, item.first, *times, *prove_within) {
            return Known::ToProve(changed);
        }
        match changed.len() as u64 * 10 >= u64::from(item.pages) * 9 {
            true => Known::Nothing,
            false => Known::Believed(changed),
        }
    }
}

fn copy_item(work: &Work, item: &Item, packer: &mut Packer, buffer: &mut [u8]) -> Result<Part, OpsError> {
    let entry = &work.entries[item.entry];
    let known = work.known(item);
    let mut part = Part { map: Some(Vec::new()), end: 0, damaged: Vec::new(), reading: Reading::default() };
    let pages = item.first..item.first + item.pages;
    if let Known::Believed(changed) = &known
        && changed.is_empty()
        && let Some(map) = packer.adopt(&entry.path, pages.clone())
    {
        part.map = Some(map);
        part.end = u64::from(pages.end) * PAGE_SIZE as u64;
        part.reading.adopted = pages.len() as u64 * PAGE_SIZE as u64;
        work.cx.progress.advance(part.reading.adopted);
        return Ok(part);
    }
    let Some(source) = work.reader.open(item.entry)? else {
        part.map = None;
        return Ok(part);
    };
    packer.expect(&entry.path, pages.clone())?;
    let mut copier = Copier { work, item, source, packer, buffer, part };
    match known {
        Known::Nothing => copier.read(pages, None).map(drop)?,
        Known::ToProve(changed) => copier.read(pages, Some(&changed)).map(drop)?,
        Known::Believed(changed) => copier.read_or_adopt(pages, &changed)?,
    }
    Ok(copier.part)
}

/// One item being copied.
struct Copier<'a> {
    work: &'a Work,
    item: &'a Item,
    source: Box<dyn PageSource>,
    packer: &'a mut Packer,
    buffer: &'a mut [u8],
    part: Part,
}

impl Copier<'_> {
    /// Reads what changed, and adopts what lies between if it is more than a little.
    fn read_or_adopt(&mut self, pages: Range<u32>, changed: &[u32]) -> Result<(), OpsError> {
        let mut at = pages.start;
        for stretch in stretches(changed) {
            let goes_on =
                self.adopt(at..stretch.start, changed)? && self.read(stretch.clone(), Some(changed))?;
            if !goes_on {
                return Ok(());
            }
            at = stretch.end;
        }
        self.adopt(at..pages.end, changed).map(drop)
    }

    /// Takes pages over from the parent, or reads them if it does not have them in a place that may be referred to.
    fn adopt(&mut self, pages: Range<u32>, changed: &[u32]) -> Result<bool, OpsError> {
        let adopted = match self.part.map.as_mut() {
            Some(map) => !pages.is_empty() && self.packer.adopt_some(pages.clone(), map),
            None => false,
        };
        if !adopted {
            return self.read(pages, Some(changed));
        }
        let bytes = pages.len() as u64 * PAGE_SIZE as u64;
        self.part.reading.adopted += bytes;
        self.part.end = u64::from(pages.end) * PAGE_SIZE as u64;
        self.work.cx.progress.advance(bytes);
        Ok(true)
    }

    /// Reads pages and packs them; `false` if the file ended before. Those that are not among `changed`, where that is
    /// known, prove the record, or refute it.
    fn read(&mut self, pages: Range<u32>, changed: Option<&[u32]>) -> Result<bool, OpsError> {
        // Not beyond the size that was listed: what a file gained since is the journal's business.
        let size = self.work.entries[self.item.entry].size();
        let until = size.min(u64::from(pages.end) * PAGE_SIZE as u64);
        let mut first = pages.start;
        loop {
            self.work.cx.check()?;
            if self.work.doomed.load(Ordering::Relaxed) {
                // Another worker has the reason.
                return Err(strongroom_model::Cancelled.into());
            }
            let at = u64::from(first) * PAGE_SIZE as u64;
            let wanted = until.saturating_sub(at).min(READ_SIZE as u64) as usize;
            if wanted == 0 {
                return Ok(true);
            }
            let read = self.source.read(first, &mut self.buffer[..wanted.next_multiple_of(PAGE_SIZE)])?;
            let bytes = read.bytes.min(wanted);
            if let Some(map) = self.part.map.as_mut().filter(|_| bytes > 0) {
                let new = self.packer.add(self.item.entry as u32, first, &self.buffer[..bytes], map)?;
                if let Some(changed) = changed {
                    self.compare(first, &read, &new, changed);
                }
                self.part.reading.read += bytes as u64;
                self.part.end = at + bytes as u64;
                self.part.damaged.extend(read.damaged);
                self.work.cx.progress.advance(bytes as u64);
            }
            if bytes < wanted {
                return Ok(false);
            }
            first += bytes.div_ceil(PAGE_SIZE) as u32;
        }
    }

    /// Holds what was read against the record: of `new`, the pages that are not the parent's, all should be among `changed`.
    /// A damaged page is the disk's fault, and one that is read in part is being cut off.
    fn compare(&mut self, first: u32, read: &PageRead, new: &[u32], changed: &[u32]) {
        let Some(record) = &self.work.record else { return };
        let end = first + (read.bytes / PAGE_SIZE) as u32;
        let named =
            changed.partition_point(|page| *page < end) - changed.partition_point(|page| *page < first);
        self.part.reading.proven += (u64::from(end - first) - named as u64) * PAGE_SIZE as u64;
        for page in new.iter().filter(|page| **page < end) {
            let start = (page - first) as usize * PAGE_SIZE;
            let content = &self.buffer[start..start + PAGE_SIZE];
            let expected = changed.binary_search(page).is_ok() || read.damaged.contains(page);
            if expected || !record.changed.is_contradicted_by(content) {
                continue;
            }
            self.part.reading.contradicted += 1;
            if !self.work.refuted.swap(true, Ordering::Relaxed) {
                let path = &self.work.entries[self.item.entry].path;
                tracing::error!(
                    "page {page} of {path} changed and the source's record of changes does not name it: all that it vouched for is read"
                );
            }
        }
    }
}

/// The pages to read, so that all of `changed` are: neighbours, and what lies close, in one.
fn stretches(changed: &[u32]) -> Vec<Range<u32>> {
    let mut stretches: Vec<Range<u32>> = Vec::new();
    for page in changed {
        match stretches.last_mut() {
            Some(last) if page - last.end < GAP => last.end = page + 1,
            _ => stretches.push(*page..page + 1),
        }
    }
    stretches
}

/// One row per entry that was there to the end of its reading, with what was read of it; and how much that was.
fn rows(work: &Work) -> Result<(Vec<FileRow>, Reading), OpsError> {
    let mut total = Reading::default();
    let mut parts = work.parts.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rows: Vec<Option<FileRow>> = work
        .entries
        .iter()
        .map(|entry| {
            let kind = match &entry.kind {
                EntryKind::File(_) => EntryKind::File(0),
                other => other.clone(),
            };
            Some(FileRow { entry: Entry { kind, ..entry.clone() }, map: Vec::new(), damaged: Vec::new() })
        })
        .collect();
    for (item, part) in work.items.iter().zip(parts.iter_mut()) {
        let part =
            part.take().unwrap_or_else(|| unreachable!("{} was not copied", work.entries[item.entry].path));
        check_part(item, &part);
        total.read += part.reading.read;
        total.adopted += part.reading.adopted;
        total.proven += part.reading.proven;
        total.contradicted += part.reading.contradicted;
        let slot = &mut rows[item.entry];
        match (part.map, slot.as_mut()) {
            (Some(map), Some(row)) => {
                row.map.extend(map);
                row.damaged.extend(part.damaged);
                row.entry.kind = EntryKind::File(row.entry.size().max(part.end));
            }
            _ => *slot = None,
        }
    }
    let complete = |mut row: FileRow| {
        if let EntryKind::File(size) = row.entry.kind {
            row.map = complete_map(row.map, page_count(size).unwrap_or(u32::MAX));
        }
        row
    };
    // What refuted the record may have changed once more before it was read a second time.
    total.contradicted = total.contradicted.max(u64::from(work.refuted.load(Ordering::Relaxed)));
    Ok((rows.into_iter().flatten().map(complete).collect(), total))
}

/// Every page that was read or adopted is in the map: only what lies behind a short read may be a hole (and then zeros).
fn check_part(item: &Item, part: &Part) {
    let Some(map) = &part.map else { return };
    let read = part.end.saturating_sub(u64::from(item.first) * PAGE_SIZE as u64);
    let mapped: u64 = map.iter().map(|run| u64::from(run.count)).sum();
    assert_eq!(
        mapped,
        read.div_ceil(PAGE_SIZE as u64),
        "pages of entry {} were read and not packed",
        item.entry
    );
}

/// Packs the files whose content is known only at the end.
pub async fn copy_late(
    upload: &Upload,
    first_number: usize,
    late: Vec<LateFile>,
) -> Result<Vec<FileRow>, OpsError> {
    let mut packer = upload.packer(Handle::current());
    let pack = move || {
        let mut rows = Vec::new();
        for (number, file) in (first_number..).zip(late) {
            let mut map = Vec::new();
            packer.add(number as u32, 0, &file.content, &mut map)?;
            let entry = Entry { kind: EntryKind::File(file.content.len() as u64), ..file.entry };
            rows.push(FileRow { entry, map, damaged: Vec::new() });
        }
        packer.finish()?;
        Ok(rows)
    };
    tokio::task::spawn_blocking(pack).await.map_err(|why| OpsError::Worker(why.to_string()))?
}
