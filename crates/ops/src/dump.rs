//! `strongroom backup` of a source that is dumped.
//!
//! ```text
//! engine.start (one snapshot) ▶ intent ▶ parts, each: read ▶ queue ▶ cut, look for in the parent, pack ▶ stop ▶ commit
//! ```
//!
//! As many parts are read at a time as there are workers; whoever is done takes the next. Parts are claimed by number and
//! their rows kept by number; before the rows are given out it is checked that every part has one (incident 4).
//!
//! Memory: for each worker a queue of 1 MiB, what is known of the parent's part (7 MiB), and what its packer holds
//! (`memory_ceiling`). A source that sends faster than packs are stored waits.
//!
//! On a crash at any place the point is undecided, and the server forgets the snapshot with the connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::try_join_all;
use strongroom_engine::{DumpEngine, DumpPart, DumpSession};
use strongroom_model::entry::{Entry, Owner};
use strongroom_model::point::{FileRow, Intent, PointFacts, Summary};
use strongroom_model::trend::{Shrunk, shrunk};
use strongroom_model::{Cancelled, Cx, PointId, SourceName, Timestamp};
use strongroom_vault::Vault;
use strongroom_vault::catalog::PointRow;
use strongroom_vault::upload::{Packer, Upload, UploadOptions};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::backup::decide;
use crate::error::OpsError;
use crate::threads::{Doom, join_all};

/// Bytes gathered before they are handed to a packer: a server may send row by row.
pub(crate) const PIECE: usize = 64 << 10;

/// Pieces that wait for a packer: 1 MiB.
pub(crate) const QUEUE: usize = 16;

/// A dump as the user asked for it.
#[derive(Clone, Debug)]
pub struct DumpRequest {
    /// What to dump.
    pub source: SourceName,
    /// Parts read at a time, and threads that cut, compress and seal.
    pub workers: usize,
    /// How to store.
    pub upload: UploadOptions,
    /// Store everything, even what the newest dump has.
    pub afresh: bool,
    /// Replicas that get each pack while it is at hand. The rest of the point is brought by `copy`, afterwards.
    pub followers: Vec<Arc<Vault>>,
    /// This host's name.
    pub host: String,
    /// This build: `strongroom 0.1.0`.
    pub tool: String,
}

/// Takes a dump as a recovery point: the source's first stores everything, later ones what changed since the newest. When
/// this returns `Ok`, the point is durably in the vault.
pub async fn dump(
    cx: &Cx,
    vault: &Arc<Vault>,
    engine: &dyn DumpEngine,
    request: &DumpRequest,
) -> Result<Summary, OpsError> {
    let inspection = engine.inspect(cx).await?;
    expect_no_journal(vault, &request.source).await?;
    let point = PointId::new(cx.now(), cx.random());
    cx.progress.begin("starting", 0);
    let session = engine.start(cx).await?;
    let parent = match request.afresh {
        true => None,
        false => parent(vault, &request.source, engine.name()).await?,
    };
    let intent = Intent {
        point,
        source: request.source.clone(),
        engine: engine.name().to_owned(),
        parent,
        began_at: cx.now(),
        host: request.host.clone(),
        tool: request.tool.clone(),
        copied_at: None,
    };
    let upload = vault.begin(cx, intent, request.upload, &request.followers).await?;
    let taken = take(cx, session, (&upload, inspection.product), request.workers).await;
    decide(cx, upload, taken.map(|(facts, rows)| (facts, rows, None))).await
}

/// A source has WAL or is dumped: under one name nobody could tell what a restore to a time means.
pub(crate) async fn expect_no_journal(vault: &Vault, source: &SourceName) -> Result<(), OpsError> {
    match vault.lineages(source).await?.last() {
        None => Ok(()),
        Some(last) => Err(OpsError::NotDumped { source_name: source.clone(), registered: last.system_id }),
    }
}

/// The newest dump of the same engine, whose parts are likely much the same.
async fn parent(vault: &Vault, source: &SourceName, engine: &str) -> Result<Option<PointId>, OpsError> {
    let points = vault.points(source).await?;
    let fits = |point: &&Summary| point.engine == engine && point.journal.is_none();
    let newest =
        points.iter().filter_map(PointRow::restorable).filter(fits).max_by_key(|point| point.committed_at);
    Ok(newest.map(|point| point.point.clone()))
}

/// Whether a dump that was taken is far smaller than the one before it.
pub async fn has_shrunk(
    vault: &Vault,
    dumped: &Summary,
    least_percent: u32,
) -> Result<Option<Shrunk>, OpsError> {
    let points = vault.points(&dumped.source).await?;
    Ok(shrunk(points.iter().filter_map(PointRow::restorable), dumped, least_percent))
}

/// Everything between the intent and the commit.
async fn take(
    cx: &Cx,
    session: Box<dyn DumpSession>,
    (upload, product): (&Upload, String),
    workers: usize,
) -> Result<(PointFacts, Vec<FileRow>), OpsError> {
    let at = session.at();
    let rows = read(cx, &*session, upload, workers).await?;
    cx.progress.begin("stopping", 0);
    let dumped = session.stop(cx).await?;
    let intent = upload.intent();
    let facts = PointFacts {
        point: intent.point.clone(),
        source: intent.source.clone(),
        engine: intent.engine.clone(),
        product,
        parent: upload.parent().cloned(),
        // What it restores to is what its snapshot shows, however long it took to read that.
        started_at: at,
        stopped_at: at,
        journal: None,
        from_standby: false,
        engine_facts: dumped.facts,
    };
    Ok((facts, rows))
}

/// What a packer gets: a part's number, its bytes, its end.
enum Fed {
    Begin(usize),
    Piece(Bytes),
    End,
}

/// What feeders and packers share.
struct Work {
    cx: Cx,
    at: Timestamp,
    parts: Vec<DumpPart>,
    next: AtomicUsize,
    rows: Mutex<Vec<Option<FileRow>>>,
    doom: Doom,
}

/// Reads every part into the vault: one row for each, in the order of the parts.
async fn read(
    cx: &Cx,
    session: &dyn DumpSession,
    upload: &Upload,
    workers: usize,
) -> Result<Vec<FileRow>, OpsError> {
    let parts = session.parts().to_vec();
    cx.progress.begin("dumping", parts.iter().map(|part| part.estimate).sum());
    let workers = workers.clamp(1, parts.len().max(1));
    let work = Arc::new(Work {
        cx: cx.clone(),
        at: session.at(),
        next: AtomicUsize::new(0),
        rows: Mutex::new(parts.iter().map(|_| None).collect()),
        parts,
        doom: Doom::default(),
    });
    let runtime = Handle::current();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(QUEUE)).unzip();
    let packers: Vec<_> = receivers.into_iter().map(|fed| (upload.packer(runtime.clone()), fed)).collect();
    let shared = Arc::clone(&work);
    let packing = tokio::task::spawn_blocking(move || run(&shared, packers));
    let feeders = try_join_all(senders.into_iter().map(|sender| feed(session, &work, sender)));
    work.doom.feed(async { feeders.await.map(drop) }, packing).await?;
    Ok(finished(&work))
}

/// Reads parts, one after the other, as long as there are any.
async fn feed(session: &dyn DumpSession, work: &Work, sender: mpsc::Sender<Fed>) -> Result<(), OpsError> {
    // No packer is left: it has the reason.
    let hung_up = |_| OpsError::from(Cancelled);
    loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        if number >= work.parts.len() {
            return Ok(());
        }
        work.cx.check()?;
        let mut part = session.open(&work.cx, number).await?;
        sender.send(Fed::Begin(number)).await.map_err(hung_up)?;
        let mut gathered = Vec::with_capacity(PIECE);
        while let Some(mut bytes) = part.next(&work.cx).await? {
            work.cx.check()?;
            if gathered.len() + bytes.len() > PIECE {
                let piece = std::mem::replace(&mut gathered, Vec::with_capacity(PIECE));
                sender.send(Fed::Piece(piece.into())).await.map_err(hung_up)?;
            }
            // A row may be longer than memory should be: it is not copied, and no second one waits behind it.
            while bytes.len() >= PIECE {
                sender.send(Fed::Piece(bytes.split_to(PIECE))).await.map_err(hung_up)?;
            }
            gathered.extend_from_slice(&bytes);
        }
        sender.send(Fed::Piece(gathered.into())).await.map_err(hung_up)?;
        sender.send(Fed::End).await.map_err(hung_up)?;
    }
}

fn run(work: &Work, packers: Vec<(Packer, mpsc::Receiver<Fed>)>) -> Result<(), OpsError> {
    std::thread::scope(|scope| {
        let worker = |(packer, fed)| scope.spawn(|| work.doom.note(pack(work, packer, fed)));
        join_all(packers.into_iter().map(worker).collect())
    })
}

/// Packs the parts that come, each whole.
fn pack(work: &Work, mut packer: Packer, mut fed: mpsc::Receiver<Fed>) -> Result<(), OpsError> {
    while let Some(next) = fed.blocking_recv() {
        let Fed::Begin(number) = next else { unreachable!("a part was fed that was not begun") };
        let path = &work.parts[number].path;
        let mut stream = packer.stream(number as u32, path);
        loop {
            if work.doom.is_doomed() {
                return Err(Cancelled.into());
            }
            match fed.blocking_recv() {
                Some(Fed::Piece(bytes)) => {
                    stream.write(&bytes)?;
                    work.cx.progress.advance(bytes.len() as u64);
                }
                Some(Fed::End) => break,
                // Whoever read it failed, and has the reason.
                None => return Err(Cancelled.into()),
                Some(Fed::Begin(_)) => unreachable!("part {path} was not ended"),
            }
        }
        let (kind, map) = stream.finish()?;
        let entry = Entry {
            path: path.clone(),
            kind,
            mode: 0o600,
            owner: Owner::default(),
            modified: work.at.unix_seconds(),
        };
        let row = FileRow { entry, map, damaged: Vec::new() };
        work.rows.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(row);
    }
    if work.doom.is_doomed() {
        return Err(Cancelled.into());
    }
    Ok(packer.finish()?)
}

/// The rows, when everything was packed.
fn finished(work: &Work) -> Vec<FileRow> {
    let rows = std::mem::take(&mut *work.rows.lock().unwrap_or_else(PoisonError::into_inner));
    let row = |(row, part): (Option<FileRow>, &DumpPart)| {
        row.unwrap_or_else(|| unreachable!("part {} was read and not packed", part.path))
    };
    rows.into_iter().zip(&work.parts).map(row).collect()
}
