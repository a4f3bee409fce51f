//! Copying into a vault what a source sends, in its own order: one feeder, and the same packers as for files.
//!
//! ```text
//! session.next ▶ feeder: cut into batches of at most 2 MiB ▶ queue ▶ worker: check, pack ▶ … ▶ rows: what came, where it is
//! ```
//!
//! Memory: the queue holds one batch for each worker, each worker has one, the feeder fills one; with what the packers hold
//! (`memory_ceiling`) that is all. A source that sends faster than packs are stored waits: its connection is not read meanwhile.
//!
//! Stretches are those of files that are read, so what is taken over from a parent is the same.
//!
//! Batches carry their place, and each row takes them in order; before rows are given out it is checked that all their pages
//! came back (incident 4: a queue that lost a file).

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use strongroom_engine::{PageCheck, Sent, StreamSession};
use strongroom_model::entry::{Entry, EntryKind, EntryPath};
use strongroom_model::page::{PAGE_SIZE, Run, page_count, push_run};
use strongroom_model::point::FileRow;
use strongroom_model::{Cancelled, Cx};
use strongroom_vault::upload::{Packer, Upload};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::copy::{ITEM_PAGES, too_large};
use crate::error::OpsError;
use crate::threads::{Doom, join_all};

/// Pages of one batch. A divisor of [`ITEM_PAGES`], so that no batch lies in two stretches.
const BATCH_PAGES: u32 = 256;

const BATCH: usize = BATCH_PAGES as usize * PAGE_SIZE;

/// Pages that follow one another in a file.
struct Batch {
    row: usize,
    path: Arc<EntryPath>,
    /// The stretch of the file that they are of.
    stretch: Range<u32>,
    first: u32,
    pages: Vec<u8>,
}

/// What became of a batch.
struct Part {
    first: u32,
    pages: u32,
    map: Vec<Run>,
    damaged: Vec<u32>,
}

/// An entry that was sent, and what is known of where its pages are.
struct Row {
    row: FileRow,
    /// Pages from 0 on that are in the map.
    mapped: u32,
    /// What came back before what lies in front of it.
    early: Vec<Part>,
}

impl Row {
    fn new(entry: Entry) -> Row {
        let row = FileRow { entry, map: Vec::new(), damaged: Vec::new() };
        Row { row, mapped: 0, early: Vec::new() }
    }

    fn take(&mut self, part: Part) {
        self.early.push(part);
        while let Some(at) = self.early.iter().position(|part| part.first == self.mapped) {
            let part = self.early.swap_remove(at);
            for run in part.map {
                push_run(&mut self.row.map, run);
            }
            self.row.damaged.extend(part.damaged);
            self.mapped += part.pages;
        }
    }
}

/// Everything a copy needs, shared by its workers.
struct Work {
    cx: Cx,
    checks: Option<Arc<dyn PageCheck>>,
    batches: Mutex<mpsc::Receiver<Batch>>,
    rows: Mutex<Vec<Row>>,
    doom: Doom,
}

impl Work {
    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies everything that the session sends: one row for each entry, folders and links before files.
pub async fn copy_stream(
    cx: &Cx,
    session: &mut dyn StreamSession,
    upload: &Upload,
    workers: usize,
) -> Result<Vec<FileRow>, OpsError> {
    cx.progress.begin("copying", session.estimate());
    let (sender, receiver) = mpsc::channel(workers.max(1));
    let work = Arc::new(Work {
        cx: cx.clone(),
        checks: session.checks(),
        batches: Mutex::new(receiver),
        rows: Mutex::default(),
        doom: Doom::default(),
    });
    let runtime = Handle::current();
    let packers: Vec<Packer> = (0..workers.max(1)).map(|_| upload.packer(runtime.clone())).collect();
    let shared = Arc::clone(&work);
    let packing = tokio::task::spawn_blocking(move || run(&shared, packers));
    work.doom.feed(feed(session, &work, sender), packing).await?;
    Ok(finished(std::mem::take(&mut *work.rows())))
}

/// A file whose content is coming.
struct Filling {
    row: usize,
    path: Arc<EntryPath>,
    /// Pages that it was announced with.
    announced: u32,
    /// Bytes in batches that are full.
    done: u64,
    pages: Vec<u8>,
}

/// Cuts what the session sends into batches, and hands them to the workers.
async fn feed(
    session: &mut dyn StreamSession,
    work: &Work,
    sender: mpsc::Sender<Batch>,
) -> Result<(), OpsError> {
    let mut filling: Option<Filling> = None;
    while let Some(sent) = session.next(&work.cx).await? {
        match sent {
            Sent::Entry(entry) => {
                if let Some(mut filling) = filling.take() {
                    hand_over(work, &sender, &mut filling).await?;
                }
                filling = begin(work, entry)?;
            }
            Sent::Content(mut bytes) => {
                let Some(filling) = filling.as_mut() else {
                    unreachable!("an engine sent content that belongs to no file")
                };
                while !bytes.is_empty() {
                    fill(filling, &mut bytes);
                    if filling.pages.len() == BATCH {
                        hand_over(work, &sender, filling).await?;
                    }
                }
            }
        }
    }
    match filling {
        Some(mut filling) => hand_over(work, &sender, &mut filling).await,
        None => Ok(()),
    }
}

/// Makes the entry's row. A file is filled from now on; how long it is will be seen.
fn begin(work: &Work, entry: Entry) -> Result<Option<Filling>, OpsError> {
    let mut rows = work.rows();
    let EntryKind::File(size) = entry.kind else {
        rows.push(Row::new(entry));
        return Ok(None);
    };
    let announced = page_count(size).ok_or_else(|| too_large(&entry))?;
    let (row, path) = (rows.len(), Arc::new(entry.path.clone()));
    rows.push(Row::new(Entry { kind: EntryKind::File(0), ..entry }));
    let pages = Vec::with_capacity(BATCH.min(announced as usize * PAGE_SIZE));
    Ok(Some(Filling { row, path, announced, done: 0, pages }))
}

fn fill(filling: &mut Filling, bytes: &mut Bytes) {
    let length = bytes.len().min(BATCH - filling.pages.len());
    filling.pages.extend_from_slice(&bytes.split_to(length));
}

/// Hands the batch that is being filled to the workers, and begins the next. Waits while they have enough.
async fn hand_over(work: &Work, sender: &mpsc::Sender<Batch>, filling: &mut Filling) -> Result<(), OpsError> {
    work.cx.check()?;
    if filling.pages.is_empty() {
        return Ok(());
    }
    let first = (filling.done / PAGE_SIZE as u64) as u32;
    filling.done += filling.pages.len() as u64;
    let end = page_count(filling.done).unwrap_or(u32::MAX).max(filling.announced);
    let begin = first / ITEM_PAGES * ITEM_PAGES;
    let stretch = begin..end.min(begin + ITEM_PAGES);
    let left = (end as usize * PAGE_SIZE).saturating_sub(filling.done as usize);
    let pages = std::mem::replace(&mut filling.pages, Vec::with_capacity(BATCH.min(left)));
    if let Some(row) = work.rows().get_mut(filling.row) {
        row.row.entry.kind = EntryKind::File(filling.done);
    }
    let batch = Batch { row: filling.row, path: Arc::clone(&filling.path), stretch, first, pages };
    // No worker is left: one of them has the reason.
    sender.send(batch).await.map_err(|_| Cancelled.into())
}

fn run(work: &Work, packers: Vec<Packer>) -> Result<(), OpsError> {
    std::thread::scope(|scope| {
        let worker = |packer| scope.spawn(|| work.doom.note(pack_all(work, packer)));
        join_all(packers.into_iter().map(worker).collect())
    })
}

fn pack_all(work: &Work, mut packer: Packer) -> Result<(), OpsError> {
    let mut expected = None;
    loop {
        let batch = work.batches.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        if work.doom.is_doomed() {
            return Err(Cancelled.into());
        }
        let Some(Batch { row, path, stretch, first, pages }) = batch else {
            return packer.finish().map_err(OpsError::from);
        };
        if expected.as_ref() != Some(&(row, stretch.clone())) {
            packer.expect(&path, stretch.clone())?;
            expected = Some((row, stretch));
        }
        let damaged = work.checks.as_ref().map(|checks| checks.damaged(&path, first, &pages));
        let mut map = Vec::new();
        packer.add(row as u32, first, &pages, &mut map)?;
        work.cx.progress.advance(pages.len() as u64);
        let part = Part {
            first,
            pages: pages.len().div_ceil(PAGE_SIZE) as u32,
            map,
            damaged: damaged.unwrap_or_default(),
        };
        if let Some(row) = work.rows().get_mut(row) {
            row.take(part);
        }
    }
}

/// The rows, when everything was packed: folders and links first, parents before what is in them.
fn finished(rows: Vec<Row>) -> Vec<FileRow> {
    for Row { row, mapped, early } in &rows {
        let mapped_all = early.is_empty() && page_count(row.entry.size()) == Some(*mapped);
        assert!(mapped_all, "pages of {} were sent and not packed", row.entry.path);
    }
    let is_file = |row: &FileRow| matches!(row.entry.kind, EntryKind::File(_));
    let (files, mut others): (Vec<_>, Vec<_>) = rows.into_iter().map(|row| row.row).partition(is_file);
    others.sort_by(|a, b| a.entry.path.as_bytes().cmp(b.entry.path.as_bytes()));
    others.extend(files);
    others
}
