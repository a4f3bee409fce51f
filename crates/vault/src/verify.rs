//! Verification: reads what is there and compares it with what it should be. Needs no local state (I9).
//!
//! - structure: every manifest is the committed one and reads to its end; every pack is there in its full size, and its
//!   footer opens;
//! - data: besides, every byte of every pack is read and has the hash that its manifest was committed with. The manifest's
//!   own hash is in the sealed decision, so what has that hash is what was written, to the last bit;
//! - pages: besides, every page is opened, decompressed and fingerprinted, as a restore would.
//!
//! A pack is read once, however many points refer to it. One that has another hash is opened page by page whatever the
//! depth, so that damage is named by object, and by the files and pages that are lost with it.
//!
//! With a budget, packs that were never verified come first, then those whose last time is longest ago; when that was is
//! read from the vault's own evidence.
//!
//! Memory: `workers` packs, the names of all packs, and one manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_codec::digest::object_hash;
use strongroom_codec::header::{HEADER_SIZE, Header, Kind};
use strongroom_codec::pack::PackReader;
use strongroom_model::page::Place;
use strongroom_model::point::PackRef;
use strongroom_model::{Cx, PointId, SourceName, Timestamp};
use tokio::runtime::Handle;

use crate::error::VaultError;
use crate::layout::{self, PointPart};
use crate::open::Vault;
use crate::pack_reader::Packs;
use crate::point::Point;
use crate::record::FORGED;

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Manifests, sizes and footers.
    Structure,
    /// Every byte, against the hash it was committed with.
    Data,
    /// Every page, as a restore would read it.
    Pages,
}

/// How much of it to do at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Bytes read from packs; a pack that was begun is finished.
    pub bytes: Option<u64>,
    /// Time; a pack that was begun is finished.
    pub time: Option<Duration>,
}

/// How to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// How much to read.
    pub depth: Depth,
    /// Threads that read.
    pub workers: usize,
    /// When to stop.
    pub budget: Budget,
}

/// A pack's name among all of a source: its owner and number.
pub type PackName = (PointId, u32);

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The object at fault.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
    /// What is lost: files, and the pages of each.
    pub lost: Vec<LostPages>,
    /// What it was committed as, if it is a pack.
    #[serde(skip)]
    pub pack: Option<PackRef>,
}

impl Damage {
    /// An object at fault, and nothing known to be lost with it.
    pub fn of(object: impl Into<String>, why: impl Into<String>) -> Damage {
        Damage { object: object.into(), why: why.into(), lost: Vec::new(), pack: None }
    }
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
    /// Rows of its manifest.
    pub entries: u64,
    /// Packs it refers to.
    pub packs: u64,
    /// Those of them that were not reached within the budget.
    pub left: u64,
    /// What is wrong.
    pub damage: Vec<Damage>,
}

/// What verifying the packs of some points came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceVerdict {
    /// Each point.
    pub points: Vec<PointVerdict>,
    /// Packs that are as they were committed.
    pub good: BTreeSet<PackName>,
    /// Packs that are not.
    pub bad: BTreeSet<PackName>,
    /// Packs that were not reached within the budget.
    pub left: u64,
    /// Bytes read from packs.
    pub bytes: u64,
}

/// Pages of a pack that do not read: all of them, or some frames'; and why.
type Bad = (String, Vec<Range<u32>>);

/// Every pack of the points, once, and the keys to open them.
#[derive(Default)]
struct Table {
    packs: BTreeMap<PackName, PackRef>,
    keys: BTreeMap<PointId, strongroom_codec::keys::PointKey>,
}

impl Table {
    /// Adds a point's packs and their keys; whether all are as other points tell of them. The first word counts.
    fn agrees(&mut self, packs: &Packs) -> bool {
        let mut agrees = true;
        for pack in packs.all() {
            agrees &= self.packs.entry(name_of(pack)).or_insert_with(|| pack.clone()) == pack;
        }
        for (owner, key) in packs.keys() {
            agrees &= self.keys.entry(owner.clone()).or_insert_with(|| key.clone()) == key;
        }
        agrees
    }
}

impl Vault {
    /// Verifies committed points of a source. Damage is an answer, not an error; an error means that the vault could not
    /// be asked. `last` says when packs were verified before. Blocks: call it on a worker thread.
    pub fn verify_points(
        self: &Arc<Self>,
        cx: &Cx,
        runtime: &Handle,
        (source, points): (&SourceName, &[PointId]),
        (options, last): (&VerifyOptions, &BTreeMap<PackName, Timestamp>),
    ) -> Result<SourceVerdict, VaultError> {
        let mut verdict = SourceVerdict::default();
        let mut table = Table::default();
        let mut referred = Vec::new();
        cx.progress.begin("reading manifests", 0);
        for id in points {
            cx.check()?;
            let (point, names) = self.verify_manifest(runtime, (source, id), &mut table)?;
            verdict.points.push(point);
            referred.push(names);
        }
        let mut ordered: Vec<PackRef> = table.packs.into_values().collect();
        ordered.sort_by_key(|pack| last.get(&name_of(pack)).copied());
        let keys = table.keys.into_iter().collect();
        let packs = Packs::new(Arc::clone(self), source.clone(), keys, ordered);
        let (checked, bytes) = check_packs(cx, runtime, &packs, options)?;
        verdict.bytes = bytes;
        for (point, names) in verdict.points.iter_mut().zip(&referred) {
            point.left = names.iter().filter(|name| !checked.contains_key(*name)).count() as u64;
            if names.iter().any(|name| checked.get(name).is_some_and(Option::is_some)) {
                self.name_losses(runtime, source, point, &checked)?;
            }
        }
        verdict.left = packs.all().len() as u64 - checked.len() as u64;
        for (name, bad) in checked {
            if bad.is_some() { &mut verdict.bad } else { &mut verdict.good }.insert(name);
        }
        Ok(verdict)
    }

    /// The small records of a source that do not read or count: tombstones, floors, holds, ends of sweeps; and evidence, which is everybody's.
    pub async fn damaged_records(&self, source: &SourceName) -> Result<Vec<Damage>, VaultError> {
        let mut records = Vec::new();
        for (folder, kind) in [
            (layout::holds(source), Kind::Hold),
            (layout::all_floors(source), Kind::Floor),
            (layout::EVIDENCE.to_owned(), Kind::Evidence),
        ] {
            records.extend(self.list(&folder).await?.into_iter().map(|object| (object.key, kind)));
        }
        let ends = self.list(&layout::sweeps(source)).await?.into_iter().map(|object| object.key);
        records.extend(ends.filter(layout::lets_go).map(|key| (key, Kind::Sweep)));
        for (point, parts) in self.point_parts(source).await? {
            if parts.iter().any(|part| part == PointPart::Expired.name()) {
                records.push((layout::point_part(source, &point, PointPart::Expired), Kind::Tombstone));
            }
        }
        let mut damage = Vec::new();
        for (key, kind) in records {
            match self.get_record::<serde_json::Value>(&key, kind).await {
                // A sweep took the record of an earlier one meanwhile.
                Ok(None) => {}
                Ok(_) if !layout::lets_go(&key) || self.is_proven(&key, kind).await? => {}
                Ok(_) => damage.push(Damage::of(key.as_str(), FORGED)),
                Err(error) => damage.push(as_damage(error)?),
            }
        }
        Ok(damage)
    }

    /// Reads a point's records to their end, and adds its packs to the table.
    fn verify_manifest(
        self: &Arc<Self>,
        runtime: &Handle,
        (source, id): (&SourceName, &PointId),
        table: &mut Table,
    ) -> Result<(PointVerdict, Vec<PackName>), VaultError> {
        let mut verdict =
            PointVerdict { point: id.clone(), entries: 0, packs: 0, left: 0, damage: Vec::new() };
        let point = match runtime.block_on(self.open_point(source, id)) {
            Ok(point) => point,
            Err(error) => {
                verdict.damage.push(as_damage(error)?);
                return Ok((verdict, Vec::new()));
            }
        };
        match runtime.block_on(self.intent(source, id)) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let intent = layout::point_part(source, id, PointPart::Intent);
                verdict.damage.push(Damage::of(intent.as_str(), "it is missing"));
            }
            Err(error) => verdict.damage.push(as_damage(error)?),
        }
        let read = point.rows(|_| {
            verdict.entries += 1;
            Ok::<(), VaultError>(())
        });
        if let Err(error) = read {
            verdict.damage.push(as_damage(error)?);
        }
        let packs = point.packs();
        verdict.packs = packs.all().len() as u64;
        if !table.agrees(packs) {
            let manifest = layout::point_part(source, id, PointPart::Manifest);
            let why = "it tells of packs otherwise than other points do: one of them is forged";
            verdict.damage.push(Damage::of(manifest.as_str(), why));
        }
        Ok((verdict, packs.all().iter().map(name_of).collect()))
    }

    /// Adds what the point loses with packs that are bad.
    fn name_losses(
        self: &Arc<Self>,
        runtime: &Handle,
        source: &SourceName,
        verdict: &mut PointVerdict,
        checked: &BTreeMap<PackName, Option<Bad>>,
    ) -> Result<(), VaultError> {
        let point = match runtime.block_on(self.open_point(source, &verdict.point)) {
            Ok(point) => point,
            // It was there a moment ago: a sweep took what retention let go.
            Err(error) => {
                verdict.damage.push(as_damage(error)?);
                return Ok(());
            }
        };
        let bad: BTreeMap<u32, Bad> = (0..)
            .zip(point.packs().all())
            .filter_map(|(number, pack)| Some((number, checked.get(&name_of(pack))?.clone()?)))
            .collect();
        let mut lost = lost(&point, &bad)?;
        for (number, (why, _)) in &bad {
            let pack = point.packs().all().get(*number as usize);
            let object = pack.map(|pack| point.packs().key(pack).to_string()).unwrap_or_default();
            let (lost, pack) = (lost.remove(number).unwrap_or_default(), pack.cloned());
            verdict.damage.push(Damage { object, why: why.clone(), lost, pack });
        }
        Ok(())
    }
}

fn name_of(pack: &PackRef) -> PackName {
    (pack.owner.clone(), pack.number)
}

/// An error that means damage becomes a finding; any other stays an error.
fn as_damage(error: VaultError) -> Result<Damage, VaultError> {
    match error {
        VaultError::Damaged { key, why, .. } => Ok(Damage::of(key, why)),
        VaultError::Missing { key, .. } => Ok(Damage::of(key, "it is missing")),
        other => Err(other),
    }
}

/// What the workers share.
struct Check<'a> {
    cx: &'a Cx,
    runtime: &'a Handle,
    packs: &'a Packs,
    options: &'a VerifyOptions,
    began: Timestamp,
    next: AtomicUsize,
    bytes: AtomicU64,
}

impl Check<'_> {
    /// The next pack, while the budget lasts.
    fn claim(&self) -> Option<(u32, &PackRef)> {
        let Budget { bytes, time } = self.options.budget;
        let spent = bytes.is_some_and(|bytes| self.bytes.load(Ordering::Relaxed) >= bytes)
            || time.is_some_and(|time| self.cx.now().since(self.began) >= time);
        if spent {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let pack = self.packs.all().get(number)?;
        if self.options.depth > Depth::Structure {
            self.bytes.fetch_add(pack.size, Ordering::Relaxed);
        }
        Some((number as u32, pack))
    }

    fn work(&self, checked: &Mutex<BTreeMap<PackName, Option<Bad>>>) -> Result<(), VaultError> {
        while let Some((number, pack)) = self.claim() {
            let result = self.pack(number, pack).inspect_err(|_| {
                // Nobody claims another.
                self.next.store(self.packs.all().len(), Ordering::Relaxed);
            })?;
            checked.lock().unwrap_or_else(PoisonError::into_inner).insert(name_of(pack), result);
            self.cx.progress.advance(pack.size);
        }
        Ok(())
    }

    /// What is wrong with one pack, and which of its pages are lost.
    fn pack(&self, number: u32, pack: &PackRef) -> Result<Option<Bad>, VaultError> {
        self.cx.check()?;
        let everything = || std::iter::once(0..u32::MAX).collect();
        let (store, key) = (&self.packs.vault().store, self.packs.key(pack));
        if self.options.depth == Depth::Structure {
            let size = match self.runtime.block_on(store.head(&key)) {
                Ok(head) => head.size,
                Err(error) if error.is_not_found() => {
                    return Ok(Some(("it is missing".into(), everything())));
                }
                Err(error) => return Err(error.into()),
            };
            if size != pack.size {
                return Ok(Some((format!("it has {size} bytes instead of {}", pack.size), everything())));
            }
            return match self.runtime.block_on(self.packs.open(number)) {
                Ok(_) => Ok(None),
                Err(error) => as_damage(error).map(|damage| Some((damage.why, everything()))),
            };
        }
        let object = match self.runtime.block_on(store.get(&key)) {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(Some(("it is missing".into(), everything()))),
            Err(error) => return Err(error.into()),
        };
        let intact =
            object.len() as u64 == pack.size && object_hash(self.packs.vault().suite, &object) == pack.hash;
        if intact && self.options.depth == Depth::Data {
            return Ok(None);
        }
        if object.len() as u64 != pack.size {
            let why = format!("it has {} bytes instead of {}", object.len(), pack.size);
            return Ok(Some((why, everything())));
        }
        let reader = match self.runtime.block_on(self.packs.open(number)) {
            Ok(reader) => reader,
            Err(error) => return as_damage(error).map(|damage| Some((damage.why, everything()))),
        };
        Ok(judge(&reader, object.into(), intact))
    }
}

/// Opens every frame of a pack.
fn judge(reader: &PackReader, mut object: Vec<u8>, intact: bool) -> Option<Bad> {
    let header = Header::read(&object[..HEADER_SIZE.min(object.len())], Kind::Pack);
    let lost = check_frames(reader, &mut object);
    match (intact, header, lost.is_empty()) {
        (true, Ok(_), true) => None,
        (_, Err(why), _) => Some((why.to_string(), lost)),
        (_, Ok(_), false) => Some((format!("{} of its frames do not open", lost.len()), lost)),
        (false, Ok(_), true) => {
            Some(("its bytes are not those that were committed; all pages still read".into(), lost))
        }
    }
}

/// Checks packs in their order until the budget is spent; what was found, and how many bytes were read.
fn check_packs(
    cx: &Cx,
    runtime: &Handle,
    packs: &Packs,
    options: &VerifyOptions,
) -> Result<(BTreeMap<PackName, Option<Bad>>, u64), VaultError> {
    cx.progress.begin("verifying", packs.all().iter().map(|pack| pack.size).sum());
    let (began, next, bytes) = (cx.now(), AtomicUsize::new(0), AtomicU64::new(0));
    let check = Check { cx, runtime, packs, options, began, next, bytes };
    let checked = Mutex::default();
    let results: Vec<Result<(), VaultError>> = std::thread::scope(|scope| {
        let workers = options.workers.clamp(1, packs.all().len().max(1));
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| check.work(&checked))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    results.into_iter().collect::<Result<(), VaultError>>()?;
    Ok((checked.into_inner().unwrap_or_else(PoisonError::into_inner), check.bytes.into_inner()))
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

/// Which files lose which pages with the bad parts of packs, by pack.
fn lost(point: &Point, bad: &BTreeMap<u32, Bad>) -> Result<BTreeMap<u32, Vec<LostPages>>, VaultError> {
    let mut lost = BTreeMap::<u32, Vec<LostPages>>::new();
    point.rows(|row| {
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
    Ok(lost)
}
