//! Verification: reads what is there and compares it with what it should be. Needs no local state (I9).
//!
//! - structure: the manifest is the committed one and reads to its end; every pack is there in its full size, and
//!   its footer opens and has the pages that the page maps name;
//! - data: besides, every byte of every pack is read, hashed, opened, decompressed and fingerprinted.
//!
//! Damage is named by object, and by the files and pages that are lost with it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use strongroom_codec::header::{HEADER_SIZE, Header, Kind};
use strongroom_codec::pack::{PackReader, object_hash};
use strongroom_model::page::Place;
use strongroom_model::point::PackRef;
use strongroom_model::{Cx, PointId, SourceName};
use tokio::runtime::Handle;

use crate::error::VaultError;
use crate::layout::{self, PointPart};
use crate::open::Vault;
use crate::point::Point;

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Manifests, sizes and footers.
    Structure,
    /// Every byte.
    Data,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The object at fault.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
    /// What is lost: files, and the pages of each.
    pub lost: Vec<LostPages>,
}

/// Pages of a file that cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostPages {
    /// The file.
    pub path: String,
    /// Half-open ranges of page numbers.
    pub pages: Vec<Range<u32>>,
}

/// What verifying a point came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PointVerdict {
    /// The point.
    pub point: PointId,
    /// How much was read.
    pub depth: Depth,
    /// Rows of its manifest.
    pub entries: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Bytes read from packs.
    pub bytes: u64,
    /// What is wrong.
    pub damage: Vec<Damage>,
}

/// Pages of a pack that do not read: all of them, or some frames'.
type Bad = (String, Vec<Range<u32>>);

impl Vault {
    /// Verifies one point. Damage is an answer, not an error; an error means that the vault could not be asked.
    /// Blocks: call it on a worker thread.
    pub fn verify_point(
        self: &Arc<Self>,
        cx: &Cx,
        runtime: &Handle,
        (source, id): (&SourceName, &PointId),
        (depth, workers): (Depth, usize),
    ) -> Result<PointVerdict, VaultError> {
        let mut verdict =
            PointVerdict { point: id.clone(), depth, entries: 0, packs: 0, bytes: 0, damage: Vec::new() };
        let point = match runtime.block_on(self.open_point(source, id)) {
            Ok(point) => point,
            Err(error) => {
                verdict.damage.push(as_damage(error)?);
                return Ok(verdict);
            }
        };
        match runtime.block_on(self.intent(source, id)) {
            Ok(Some(_)) => {}
            Ok(None) => verdict.damage.push(Damage {
                object: layout::point_part(source, id, PointPart::Intent).to_string(),
                why: "it is missing".into(),
                lost: Vec::new(),
            }),
            Err(error) => verdict.damage.push(as_damage(error)?),
        }
        let packs = point.packs().all();
        cx.progress.begin("verifying", packs.iter().map(|pack| pack.size).sum());
        let bad = check_packs(cx, runtime, &point, depth, workers)?;
        verdict.packs = packs.len() as u64;
        if depth == Depth::Data {
            verdict.bytes = packs.iter().map(|pack| pack.size).sum();
        }
        match lost(&point, &bad) {
            Ok((entries, mut lost)) => {
                verdict.entries = entries;
                for (number, (why, _)) in &bad {
                    let object = packs.get(*number as usize).map(|pack| point.packs().key(pack).to_string());
                    let lost = lost.remove(number).unwrap_or_default();
                    verdict.damage.push(Damage {
                        object: object.unwrap_or_default(),
                        why: why.clone(),
                        lost,
                    });
                }
            }
            Err(error) => verdict.damage.push(as_damage(error)?),
        }
        Ok(verdict)
    }
}

/// An error that means damage becomes a finding; any other stays an error.
fn as_damage(error: VaultError) -> Result<Damage, VaultError> {
    match error {
        VaultError::Damaged { key, why, .. } => Ok(Damage { object: key, why, lost: Vec::new() }),
        VaultError::Missing { key, .. } => {
            Ok(Damage { object: key, why: "it is missing".into(), lost: Vec::new() })
        }
        other => Err(other),
    }
}

fn check_packs(
    cx: &Cx,
    runtime: &Handle,
    point: &Point,
    depth: Depth,
    workers: usize,
) -> Result<BTreeMap<u32, Bad>, VaultError> {
    let packs = point.packs().all();
    let (next, bad, failed) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, packs.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(pack) = packs.get(number) else { return };
                    match check_pack(cx, runtime, point, (number as u32, pack), depth) {
                        Ok(None) => {}
                        Ok(Some(found)) => {
                            bad.lock().unwrap_or_else(PoisonError::into_inner).insert(number as u32, found);
                        }
                        Err(error) => {
                            next.store(packs.len(), Ordering::Relaxed);
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            return;
                        }
                    }
                    cx.progress.advance(pack.size);
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(bad.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// What is wrong with one pack, and which of its pages are lost.
fn check_pack(
    cx: &Cx,
    runtime: &Handle,
    point: &Point,
    (number, pack): (u32, &PackRef),
    depth: Depth,
) -> Result<Option<Bad>, VaultError> {
    cx.check()?;
    let everything = || std::iter::once(0..u32::MAX).collect();
    let whole = |error: VaultError| as_damage(error).map(|damage| Some((damage.why, everything())));
    let (store, key) = (&point.packs().vault().store, point.packs().key(pack));
    let size = match runtime.block_on(store.head(&key)) {
        Ok(head) => head.size,
        Err(error) if error.is_not_found() => return Ok(Some(("it is missing".into(), everything()))),
        Err(error) => return Err(error.into()),
    };
    if size != pack.size {
        return Ok(Some((format!("it has {size} bytes instead of {}", pack.size), everything())));
    }
    let reader = match runtime.block_on(point.packs().open(number)) {
        Ok(reader) => reader,
        Err(error) => return whole(error),
    };
    if depth == Depth::Structure {
        return Ok(None);
    }
    let object = runtime.block_on(store.get(&key))?;
    let mut object: Vec<u8> = object.into();
    let intact = object_hash(&object) == pack.hash && object.len() as u64 == pack.size;
    let header = Header::read(&object[..HEADER_SIZE.min(object.len())], Kind::Pack);
    let lost = check_frames(&reader, &mut object);
    match (intact, header, lost.is_empty()) {
        (true, Ok(_), true) => Ok(None),
        (_, Err(why), _) => Ok(Some((why.to_string(), lost))),
        (_, Ok(_), false) => Ok(Some((format!("{} of its frames do not open", lost.len()), lost))),
        (false, Ok(_), true) => {
            Ok(Some(("its bytes are not those that were committed; all pages still read".into(), lost)))
        }
    }
}

/// The pages of frames that do not open, decompress or match their fingerprints.
fn check_frames(reader: &PackReader, object: &mut [u8]) -> Vec<Range<u32>> {
    let (mut lost, mut raw) = (Vec::new(), Vec::new());
    for (index, frame) in reader.frames().iter().enumerate() {
        let range = frame.range();
        let stored = object.get_mut(range.start as usize..range.end as usize);
        let reads = stored.is_some_and(|stored| reader.read_frame(index, stored, &mut raw).is_ok());
        if !reads {
            lost.push(frame.first_page..frame.first_page + frame.prints.len() as u32);
        }
    }
    lost
}

/// Which files lose which pages with the bad parts of packs, by pack; and how many rows there are.
fn lost(point: &Point, bad: &BTreeMap<u32, Bad>) -> Result<(u64, BTreeMap<u32, Vec<LostPages>>), VaultError> {
    let (mut entries, mut lost) = (0, BTreeMap::<u32, Vec<LostPages>>::new());
    point.rows(|row| {
        entries += 1;
        let mut by_pack = BTreeMap::<u32, Vec<Range<u32>>>::new();
        for run in &row.map {
            let Place::Pack { pack, page } = run.place else { continue };
            for range in bad.get(&pack).map(|(_, ranges)| ranges.as_slice()).unwrap_or_default() {
                let (from, to) = (range.start.max(page), range.end.min(page.saturating_add(run.count)));
                if from < to {
                    by_pack.entry(pack).or_default().push(run.first + (from - page)..run.first + (to - page));
                }
            }
        }
        for (pack, pages) in by_pack {
            lost.entry(pack).or_default().push(LostPages { path: row.entry.path.to_string(), pages });
        }
        Ok::<(), VaultError>(())
    })?;
    Ok((entries, lost))
}
