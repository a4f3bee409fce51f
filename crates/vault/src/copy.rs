//! Copying into a replica: objects travel as they are, sealed, and are checked on departure and at arrival.
//!
//! ```text
//! intent (the target's own, marked as a copy) ▶ manifest ▶ packs the target lacks ▶ all there? ▶ DECISION
//! ```
//!
//! **The manifest goes before the packs**, unlike in a backup: a sweep of the target sees what the undecided copy will
//! reach. A sweep writes down what it will delete *before* it lists undecided points for the last time; a copy reads
//! those records *after* its intent and manifest are there. So of a sweep that would delete a pack and a copy that
//! would leave it out because it is there, at least one sees the other, and the copy stops.
//!
//! On a crash the target's point is undecided, which is invisible. No sweep revokes it; the next copy goes on where
//! this one stopped: every step asks whether it is done already.
//!
//! Memory: `in_flight` packs or WAL files, besides one manifest and the names of what is to be copied.

mod repair;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt, iter};
use serde::Serialize;
use strongroom_codec::digest::object_hash;
use strongroom_codec::header::Kind;
use strongroom_codec::manifest::to_hex;
use strongroom_codec::stream::StreamReader;
use strongroom_model::point::{Decision, PackRef};
use strongroom_model::{Cx, PointId, SourceName, SystemId, WalFile};
use strongroom_store::{Head, Key, PutError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{VaultError, damaged, written};
use crate::layout::{self, PointPart};
use crate::lineage::Lineage;
use crate::open::Vault;
use crate::point::Point;
use crate::tail::finished;
use crate::upload::IntentRecord;

/// Two objects of one WAL file that was shipped twice differ in length by what their times and compression differ in
/// text: not more than this, in bytes. Beyond it both are read and compared.
const SLACK: u64 = 64;

/// How to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// Objects on their way at a time.
    pub in_flight: usize,
    /// Whether to read every pack back from the target and compare its hash.
    pub read_back: bool,
    /// The most bytes a second.
    pub limit: Option<u64>,
}

/// What copying some objects came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Brought {
    /// Objects that the target had not.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that both have under one name, with different content.
    pub differing: Vec<String>,
    /// Objects that the source has and that do not read there, and why.
    pub damaged: Vec<String>,
}

impl Brought {
    /// Both together.
    pub fn and(mut self, other: Brought) -> Brought {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.differing.extend(other.differing);
        self.damaged.extend(other.damaged);
        self
    }

    /// Whether the target has all of it now, and the same.
    pub fn is_complete(&self) -> bool {
        self.differing.is_empty() && self.damaged.is_empty()
    }
}

/// The way from one vault into its replica.
pub struct Copying {
    from: Arc<Vault>,
    to: Arc<Vault>,
    options: CopyOptions,
    free_at: Mutex<Option<Instant>>,
}

impl Copying {
    /// From `from` into `to`; refused unless they are replicas of each other at two places.
    pub fn new(from: Arc<Vault>, to: Arc<Vault>, options: CopyOptions) -> Result<Copying, VaultError> {
        to.check_replica(&from)?;
        Ok(Copying { from, to, options, free_at: Mutex::default() })
    }

    /// Copies a committed point. Done again, or after a crash, it only does what is left to do.
    pub async fn point(&self, cx: &Cx, source: &SourceName, id: &PointId) -> Result<Brought, VaultError> {
        let point = self.from.open_point(source, id).await?;
        let decision_key = layout::point_part(source, id, PointPart::Decision);
        let decision = self.depart(&decision_key, Kind::Decision).await?;
        self.begin(cx, source, id).await?;
        let manifest_key = layout::point_part(source, id, PointPart::Manifest);
        let manifest = self.put_same(&manifest_key, point.manifest()).await?;
        self.arrived(&manifest_key, point.manifest().len() as u64).await?;
        let condemned = self.to.condemned(source).await?;
        if point.packs().all().iter().any(|pack| condemned.contains(&layout::pack(source, pack))) {
            return Err(VaultError::Condemned { place: self.to.place(), point: id.clone() });
        }
        let mut brought = self.bring_packs(cx, source, &point).await?;
        let absent = self.absent(source, &point).await?;
        if let Some(pack) = absent.first() {
            let key = layout::pack(source, pack).to_string();
            return Err(VaultError::Missing { key, place: self.to.place() });
        }
        cx.check()?;
        self.decide(source, id, decision).await?;
        brought.objects += u64::from(manifest);
        brought.bytes += if manifest { point.manifest().len() as u64 } else { 0 };
        Ok(brought)
    }

    /// Writes the target's intent: the source's, with the point's key, marked as a copy.
    async fn begin(&self, cx: &Cx, source: &SourceName, id: &PointId) -> Result<(), VaultError> {
        let key = layout::point_part(source, id, PointPart::Intent);
        if self.to.intent(source, id).await?.is_some() {
            return Ok(());
        }
        let missing = |vault: &Vault| VaultError::Missing { key: key.to_string(), place: vault.place() };
        let record: Option<IntentRecord> = self.from.get_record(&key, Kind::Intent).await?;
        let mut record = record.ok_or_else(|| missing(&self.from))?;
        record.intent.copied_at = Some(cx.now());
        match self.to.put_record(cx, &key, Kind::Intent, &record).await {
            // Another copy of the same point was faster: both go on.
            Ok(()) | Err(PutError::Exists { .. }) => {}
            Err(PutError::Store(error)) => return Err(error.into()),
        }
        // Not only acknowledged: a sweep must see it before anything is left out because it is there.
        self.to.intent(source, id).await?.map(|_| ()).ok_or_else(|| missing(&self.to))
    }

    async fn bring_packs(&self, cx: &Cx, source: &SourceName, point: &Point) -> Result<Brought, VaultError> {
        let absent = self.absent(source, point).await?;
        let bytes = absent.iter().map(|pack| pack.size).sum();
        cx.progress.begin(&format!("copying {}", point.summary().point), bytes);
        let packs: Vec<_> = absent.iter().map(|pack| self.bring_pack(cx, source, pack)).collect();
        iter(packs).buffer_unordered(self.options.in_flight.max(1)).try_collect::<()>().await?;
        Ok(Brought { objects: absent.len() as u64, bytes, ..Brought::default() })
    }

    async fn bring_pack(&self, cx: &Cx, source: &SourceName, pack: &PackRef) -> Result<(), VaultError> {
        cx.check()?;
        let key = layout::pack(source, pack);
        let object = self.proven_pack(&key, pack).await?;
        self.wait_for(pack.size).await;
        match self.to.store.put_new(&key, object.into()).await {
            // Of another copy, or of our own try whose reply was lost: `absent` looks at its size.
            Ok(()) | Err(PutError::Exists { .. }) => {}
            Err(PutError::Store(error)) => return Err(error.into()),
        }
        if self.options.read_back && object_hash(self.to.suite, &self.to.store.get(&key).await?) != pack.hash
        {
            return Err(damaged(key, self.to.place(), "it was read back with other bytes".to_owned()));
        }
        cx.progress.advance(pack.size);
        cx.progress.store(pack.size);
        Ok(())
    }

    /// The point's packs that the target has not. One of another size is damage: no key is written twice.
    async fn absent(&self, source: &SourceName, point: &Point) -> Result<Vec<PackRef>, VaultError> {
        let owners: BTreeSet<&PointId> = point.packs().all().iter().map(|pack| &pack.owner).collect();
        let mut there = BTreeMap::new();
        for owner in owners {
            let listed = self.to.list(&layout::packs(source, owner)).await?;
            there.extend(listed.into_iter().map(|head| (head.key, head.size)));
        }
        let mut absent = Vec::new();
        for pack in point.packs().all() {
            let key = layout::pack(source, pack);
            match there.get(&key) {
                Some(size) if *size == pack.size => {}
                Some(size) => {
                    let why = format!("it has {size} bytes instead of {}", pack.size);
                    return Err(damaged(key, self.to.place(), why));
                }
                None => absent.push(pack.clone()),
            }
        }
        Ok(absent)
    }

    async fn decide(&self, source: &SourceName, id: &PointId, decision: Bytes) -> Result<(), VaultError> {
        let key = layout::point_part(source, id, PointPart::Decision);
        match self.put_same(&key, &decision).await {
            Ok(_) => {}
            Err(VaultError::Taken { key, place }) => {
                return Err(match self.to.decision(source, id).await? {
                    Some(Decision::Abandoned { why }) => lost(id, format!("abandoned ({why})")),
                    Some(Decision::Revoked { by }) => lost(id, format!("revoked by {by}")),
                    Some(Decision::Commit { .. }) | None => VaultError::Taken { key, place },
                });
            }
            Err(error) => return Err(error),
        }
        // Success is what the store gives back, not what it acknowledged (I2).
        match self.to.decision(source, id).await? {
            Some(Decision::Commit { .. }) => Ok(()),
            _ => Err(VaultError::Missing { key: key.to_string(), place: self.to.place() }),
        }
    }

    /// Ends a copy that will never be whole: with the source's own words if it gave the point up, else with `why`.
    pub async fn give_up(
        &self,
        cx: &Cx,
        source: &SourceName,
        id: &PointId,
        why: &str,
    ) -> Result<(), VaultError> {
        let key = layout::point_part(source, id, PointPart::Decision);
        if let Some(Decision::Abandoned { .. } | Decision::Revoked { .. }) =
            self.from.decision(source, id).await?
        {
            let decision = self.depart(&key, Kind::Decision).await?;
            return self.put_same(&key, &decision).await.map(|_| ());
        }
        let decision = Decision::Abandoned { why: why.to_owned() };
        written(self.to.put_record(cx, &key, Kind::Decision, &decision).await)
    }

    /// Copies which clusters the source has been, and what holds its points. To go before the points.
    pub async fn registers(&self, cx: &Cx, source: &SourceName) -> Result<Brought, VaultError> {
        let lineages = self.folder(cx, (&layout::lineages(source), Kind::Lineage), &|_| true).await?;
        let holds = self.folder(cx, (&layout::holds(source), Kind::Hold), &|_| true).await?;
        Ok(lineages.and(holds))
    }

    /// Copies the evidence of drills and verifications.
    pub async fn evidence(&self, cx: &Cx) -> Result<Brought, VaultError> {
        self.folder(cx, (layout::EVIDENCE, Kind::Evidence), &|_| true).await
    }

    /// Copies the WAL files of a lineage that the target lacks and has not let go.
    pub async fn journal(
        &self,
        cx: &Cx,
        source: &SourceName,
        lineage: SystemId,
    ) -> Result<Brought, VaultError> {
        let floors = self.to.floors(source, lineage).await?;
        let finished = finished(&self.from.journal_files(source, lineage).await?);
        let wanted = |key: &Key| {
            let Ok(file) = WalFile::parse_kept(key.last_segment()) else { return false };
            let floor = floors.get(&(lineage, file.timeline()));
            let is_below = file.segment().is_some_and(|segment| floor.is_some_and(|floor| segment < *floor));
            !is_below && !finished.contains(&file)
        };
        self.folder(cx, (&layout::wal(source, lineage), Kind::Journal), &wanted).await
    }

    /// Copies what is `wanted` of a folder of streams and the target lacks.
    async fn folder(
        &self,
        cx: &Cx,
        (folder, kind): (&str, Kind),
        wanted: &(dyn Fn(&Key) -> bool + Sync),
    ) -> Result<Brought, VaultError> {
        let (mut ours, mut theirs) = (Listing::new(&self.from, folder), Listing::new(&self.to, folder));
        let (mut absent, mut brought) = (Vec::new(), Brought::default());
        let mut there = theirs.next().await?;
        while let Some(here) = ours.next().await? {
            while there.as_ref().is_some_and(|there| there.key < here.key) {
                there = theirs.next().await?;
            }
            match there.as_ref().filter(|there| there.key == here.key) {
                Some(there) if self.same(kind, &here, there).await? => {}
                Some(_) => brought.differing.push(here.key.to_string()),
                None if wanted(&here.key) => absent.push(here),
                None => {}
            }
        }
        let bytes = absent.iter().map(|head| head.size).sum();
        if !absent.is_empty() {
            cx.progress.begin(&format!("copying {folder}"), bytes);
        }
        let objects: Vec<_> = absent.iter().map(|head| self.bring(cx, kind, head)).collect();
        let mut objects = iter(objects).buffer_unordered(self.options.in_flight.max(1));
        while let Some(size) = objects.try_next().await? {
            match size {
                Ok(size) => {
                    brought.objects += 1;
                    brought.bytes += size;
                }
                Err(why) => brought.damaged.push(why),
            }
        }
        Ok(brought)
    }

    /// Whether an object that both have is the same for whoever reads it. The bytes may differ: both were written here
    /// and there directly, each with its own nonce.
    async fn same(&self, kind: Kind, here: &Head, there: &Head) -> Result<bool, VaultError> {
        match kind {
            Kind::Journal if here.size.abs_diff(there.size) > SLACK => {
                self.from.is_same_journal(&here.key, &self.to).await
            }
            Kind::Lineage => {
                let ours: Option<Lineage> = self.from.get_record(&here.key, kind).await?;
                let theirs: Option<Lineage> = self.to.get_record(&there.key, kind).await?;
                Ok(ours.map(|lineage| lineage.system_id) == theirs.map(|lineage| lineage.system_id))
            }
            // Names nobody else chooses: 32 and more random bits, or the same file pushed here and there.
            _ => Ok(true),
        }
    }

    /// Brings one stream and gives its size; or why it cannot leave the source, which keeps nothing else from leaving.
    async fn bring(&self, cx: &Cx, kind: Kind, head: &Head) -> Result<Result<u64, String>, VaultError> {
        cx.check()?;
        let key = &head.key;
        let object = match self.depart(key, kind).await {
            // Read once more: what was damaged on the way is whole where it lies.
            Err(VaultError::Damaged { .. }) => self.depart(key, kind).await,
            answer => answer,
        };
        let object = match object {
            Ok(object) => object,
            Err(error @ (VaultError::Damaged { .. } | VaultError::Missing { .. })) => {
                return Ok(Err(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let size = object.len() as u64;
        self.wait_for(size).await;
        match self.to.store.put_new(key, object.into()).await {
            Ok(()) => self.arrived(key, size).await?,
            // Pushed there directly since it was listed: the next copy compares them.
            Err(PutError::Exists { .. }) => drop(self.to.store.head(key).await?),
            Err(PutError::Store(error)) => return Err(error.into()),
        }
        cx.progress.advance(size);
        cx.progress.store(size);
        Ok(Ok(size))
    }

    /// A stream or record of the source, opened to its end: what is damaged does not travel. Of a WAL file, a host that may
    /// only append opens the front and counts the rest.
    async fn depart(&self, key: &Key, kind: Kind) -> Result<Bytes, VaultError> {
        let object = self.take(key).await?;
        if kind == Kind::Journal {
            self.from.check_journal(key, &object)?;
            return Ok(object);
        }
        let unreadable = |why| damaged(key, self.from.place(), why);
        let mut reader = StreamReader::new(self.from.scope(key), kind, &object).map_err(unreadable)?;
        while reader.next_chunk().map_err(unreadable)?.is_some() {}
        Ok(object)
    }

    /// A pack of the source, as it was committed.
    async fn proven_pack(&self, key: &Key, pack: &PackRef) -> Result<Bytes, VaultError> {
        let object = self.take(key).await?;
        match object.len() as u64 == pack.size && object_hash(self.from.suite, &object) == pack.hash {
            true => Ok(object),
            false => Err(self.not_as_committed(key)),
        }
    }

    fn not_as_committed(&self, key: &Key) -> VaultError {
        damaged(key, self.from.place(), "its bytes are not those that were committed".to_owned())
    }

    async fn take(&self, key: &Key) -> Result<Bytes, VaultError> {
        self.from.store.get(key).await.map_err(|error| match error.is_not_found() {
            true => VaultError::Missing { key: key.to_string(), place: self.from.place() },
            false => error.into(),
        })
    }

    /// Puts these bytes; the same there already is fine. Whether they were put.
    async fn put_same(&self, key: &Key, object: &Bytes) -> Result<bool, VaultError> {
        match self.to.store.put_new(key, object.clone().into()).await {
            Ok(()) => Ok(true),
            Err(PutError::Exists { .. }) if self.to.store.get(key).await? == *object => Ok(false),
            other => written(other).map(|()| true),
        }
    }

    /// Asks the target for what it acknowledged (I1).
    async fn arrived(&self, key: &Key, size: u64) -> Result<(), VaultError> {
        let missing = || VaultError::Missing { key: key.to_string(), place: self.to.place() };
        match self.to.store.head(key).await {
            Ok(head) if head.size == size => Ok(()),
            Ok(head) => {
                let why = format!("{size} bytes were written and {} are there", head.size);
                Err(damaged(key, self.to.place(), why))
            }
            Err(error) if error.is_not_found() => Err(missing()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until these bytes may go by the limit: each departure is put off by what those before it take.
    #[allow(
        clippy::disallowed_methods,
        reason = "holding to a rate is waiting; nothing is decided by the clock"
    )]
    async fn wait_for(&self, bytes: u64) {
        let Some(limit) = self.options.limit else { return };
        let now = Instant::now();
        let mut free_at = self.free_at.lock().await;
        let begin = free_at.map_or(now, |at| at.max(now));
        *free_at = Some(begin + Duration::from_secs_f64(bytes as f64 / limit.max(1) as f64));
        drop(free_at);
        tokio::time::sleep_until(begin).await;
    }
}

fn lost(point: &PointId, what: String) -> VaultError {
    VaultError::LostDecision { point: point.clone(), what }
}

#[cfg(test)]
mod tests;

/// A listing, one object after the other: memory of one page, however many there are.
struct Listing<'a> {
    vault: &'a Vault,
    folder: &'a str,
    page: VecDeque<Head>,
    after: Option<Key>,
    ended: bool,
}

impl<'a> Listing<'a> {
    fn new(vault: &'a Vault, folder: &'a str) -> Listing<'a> {
        Listing { vault, folder, page: VecDeque::new(), after: None, ended: false }
    }

    async fn next(&mut self) -> Result<Option<Head>, VaultError> {
        while self.page.is_empty() && !self.ended {
            let page = self.vault.store.list(self.folder, self.after.as_ref()).await?;
            self.page = page.objects.into();
            self.ended = page.next.is_none();
            self.after = page.next;
        }
        Ok(self.page.pop_front())
    }
}
