//! Copying a source's pages into a vault: parallel readers, one packer each.
//!
//! ```text
//! entries ▶ items of at most 128 MiB ▶ worker: read 1 MiB, pack ▶ … ▶ rows: what was read, where it is
//! ```
//!
//! Items are claimed by number and their results kept by number; before the rows are made it is checked that every
//! item has a result (incident 4: a queue that lost a file).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_engine::{BackupSession, LateFile, Reader};
use strongroom_model::Cx;
use strongroom_model::entry::{Entry, EntryKind};
use strongroom_model::page::{PAGE_SIZE, Run, complete_map, page_count};
use strongroom_model::point::FileRow;
use strongroom_vault::VaultError;
use strongroom_vault::upload::{Packer, Upload};
use tokio::runtime::Handle;

use crate::error::OpsError;
use crate::threads::join_all;

/// Pages of one item: 128 MiB, so that one 1 GiB file keeps all workers busy.
const ITEM_PAGES: u32 = 16 << 10;

/// Bytes read at a time.
const READ_SIZE: usize = 1 << 20;

/// A stretch of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    entry: usize,
    first: u32,
    pages: u32,
}

/// What reading an item gave. `None` for the map: the file was gone.
#[derive(Debug)]
struct Part {
    map: Option<Vec<Run>>,
    end: u64,
    damaged: Vec<u32>,
}

/// Everything a copy needs, shared by its workers.
struct Work {
    cx: Cx,
    reader: Arc<dyn Reader>,
    entries: Vec<Entry>,
    items: Vec<Item>,
    next: AtomicUsize,
    doomed: AtomicBool,
    parts: Mutex<Vec<Option<Part>>>,
}

/// Copies every entry of the session. While workers copy, the session is asked every few seconds whether it is still
/// alive: without it the copy is worthless.
pub async fn copy(
    cx: &Cx,
    session: &mut dyn BackupSession,
    upload: &Upload,
    workers: usize,
) -> Result<Vec<FileRow>, OpsError> {
    let entries = session.entries().to_vec();
    cx.progress.begin("copying", entries.iter().map(Entry::size).sum());
    let items = items(&entries)?;
    let work = Arc::new(Work {
        cx: cx.clone(),
        reader: session.reader(),
        parts: Mutex::new(items.iter().map(|_| None).collect()),
        entries,
        items,
        next: AtomicUsize::new(0),
        doomed: AtomicBool::new(false),
    });
    let runtime = Handle::current();
    let packers: Vec<Packer> = (0..workers.max(1)).map(|_| upload.packer(runtime.clone())).collect();
    let shared = Arc::clone(&work);
    let mut copying = tokio::task::spawn_blocking(move || run(&shared, packers));
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
    copied.map_err(|why| OpsError::Worker(why.to_string()))??;
    rows(&work)
}

fn items(entries: &[Entry]) -> Result<Vec<Item>, OpsError> {
    let mut items = Vec::new();
    for (entry, listed) in entries.iter().enumerate() {
        let EntryKind::File(size) = listed.kind else { continue };
        let too_large =
            || VaultError::TooLarge(format!("{} has more pages than the format can count", listed.path));
        let pages = page_count(size).ok_or_else(too_large)?;
        let mut first = 0;
        while first < pages {
            let count = ITEM_PAGES.min(pages - first);
            items.push(Item { entry, first, pages: count });
            first += count;
        }
    }
    Ok(items)
}

fn run(work: &Work, packers: Vec<Packer>) -> Result<(), OpsError> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            packers.into_iter().map(|packer| scope.spawn(|| worker(work, packer))).collect();
        join_all(threads)
    })
}

fn worker(work: &Work, mut packer: Packer) -> Result<(), OpsError> {
    let mut buffer = vec![0; READ_SIZE];
    let outcome = loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        let Some(item) = work.items.get(number) else { break packer.finish().map_err(OpsError::from) };
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

fn copy_item(work: &Work, item: &Item, packer: &mut Packer, buffer: &mut [u8]) -> Result<Part, OpsError> {
    let entry = &work.entries[item.entry];
    let mut part = Part { map: Some(Vec::new()), end: 0, damaged: Vec::new() };
    let Some(mut source) = work.reader.open(item.entry)? else {
        part.map = None;
        return Ok(part);
    };
    packer.expect(&entry.path, item.first..item.first + item.pages)?;
    // Not beyond the size that was listed: what a file gained since is the journal's business.
    let until = entry.size().min(u64::from(item.first + item.pages) * PAGE_SIZE as u64);
    let mut first = item.first;
    loop {
        work.cx.check()?;
        if work.doomed.load(Ordering::Relaxed) {
            // Another worker has the reason.
            return Err(strongroom_model::Cancelled.into());
        }
        let at = u64::from(first) * PAGE_SIZE as u64;
        let wanted = until.saturating_sub(at).min(READ_SIZE as u64) as usize;
        if wanted == 0 {
            return Ok(part);
        }
        let read = source.read(first, &mut buffer[..wanted.next_multiple_of(PAGE_SIZE)])?;
        let bytes = read.bytes.min(wanted);
        if let Some(map) = part.map.as_mut().filter(|_| bytes > 0) {
            packer.add(item.entry as u32, first, &buffer[..bytes], map)?;
            part.end = at + bytes as u64;
            part.damaged.extend(read.damaged);
            work.cx.progress.advance(bytes as u64);
        }
        if bytes < wanted {
            return Ok(part);
        }
        first += bytes.div_ceil(PAGE_SIZE) as u32;
    }
}

/// One row per entry that was there to the end of its reading, with what was read of it.
fn rows(work: &Work) -> Result<Vec<FileRow>, OpsError> {
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
    Ok(rows.into_iter().flatten().map(complete).collect())
}

/// Every page that was read is in the map: only what lies behind a short read may be a hole (and then zeros).
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
