//! Deleting what nothing needs, beside writers on other hosts, without locks and without trusting a clock.
//!
//! ```text
//! 1  list packs, manifests, WAL, floors   candidates can only be what was there before the points are looked at
//! 2  look at the points                   tombstones, holds, intents, decisions, in this order; stale intents are revoked by put_new
//! 3  say what will go                     sources/<source>/sweeps/<id>: a copy that wants one of these packs steps aside
//! 4  look at the points again             whatever appeared since is spared as well; a listing that shrank stops the sweep
//! 5  delete                               what was a candidate in 1, and may go after 2 and after 4
//! 6  sweeps/<id>.done                     with how many points were seen: the next sweep must see at least as many
//! ```
//!
//! WAL goes below its timeline's floor, but for what points that are still there need to become consistent, and not at all
//! while a point is being written: what that one needs is not known yet. Its writer puts its intent before it looks at
//! the floors, so one of the two sees the other. Parts of a segment go as soon as 1 lists the segment itself, or a part
//! that holds their bytes: who reads them looks again when one is gone.
//!
//! Writers need no right to delete; only the identity that sweeps does. Intents, decisions and tombstones stay for ever:
//! they are what makes 4 and 6 possible.
//!
//! **Invariant** (I4): a deleted pack was reachable from no committed, unexpired point. [`crate::roots`] has the argument.
//!
//! On a crash or error the record of 3 stays without its end. It delays nothing but copies that need the very packs it
//! names, until `strongroom sweep --forget` says that the process is dead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use strongroom_codec::header::Kind;
use strongroom_codec::manifest::to_hex;
use strongroom_codec::stream::{StreamError, StreamReader, StreamWriter};
use strongroom_model::{Cx, PointId, SourceName, SystemId, Timestamp, WalFile, WalSegment};
use strongroom_store::{Head, Key};

use crate::error::{VaultError, damaged, written};
use crate::expire::Floors;
use crate::layout;
use crate::open::Vault;
use crate::roots::{Roots, Seen, Sweeper};
use crate::tail::finished;

/// Deletions under way at a time.
const DELETIONS: usize = 16;

/// How to sweep.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// An undecided point begun longer ago than this is taken for dead.
    pub stale_after: Duration,
    /// Only say what would be deleted.
    pub dry_run: bool,
    /// This host's name, for the record.
    pub host: String,
    /// This build: `strongroom 0.1.0`.
    pub tool: String,
}

/// An object that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// The object.
    #[serde(serialize_with = "as_text")]
    pub key: Key,
    /// Its length in bytes.
    pub size: u64,
    /// Why it may go.
    pub why: &'static str,
}

fn as_text<S: serde::Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(key.as_str())
}

/// What a sweep of one source came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// The source.
    pub source: SourceName,
    /// The sweep's name.
    pub sweep: String,
    /// Points seen.
    pub seen: Seen,
    /// Points taken for dead and revoked (in a dry run: that would be).
    pub revoked: Vec<PointId>,
    /// Points being written, whose packs and parents were spared.
    pub spared: Vec<PointId>,
    /// What was deleted (in a dry run: would be).
    pub garbage: Vec<Garbage>,
    /// Sweeps that began and did not say that they ended.
    pub unfinished: Vec<String>,
}

impl Swept {
    /// Bytes of all that was deleted.
    pub fn bytes(&self) -> u64 {
        self.garbage.iter().map(|object| object.size).sum()
    }
}

/// The front of a sweep's record; the keys follow, one a line.
#[derive(Serialize, Deserialize)]
struct SweepRecord {
    began_at: Timestamp,
    host: String,
    tool: String,
}

/// A sweep's end.
#[derive(Serialize, Deserialize)]
struct SweepEnd {
    ended_at: Timestamp,
    seen: Seen,
    objects: u64,
    bytes: u64,
}

/// The sweeps of a source, as their records lie there.
struct Sweeps {
    ended: Vec<String>,
    unfinished: Vec<String>,
}

impl Vault {
    /// Deletes the source's packs, manifests and WAL that nothing needs.
    pub async fn sweep(
        self: &Arc<Self>,
        cx: &Cx,
        source: &SourceName,
        options: &SweepOptions,
    ) -> Result<Swept, VaultError> {
        // Who let what go, only the whole key tells.
        self.check_may_read()?;
        let id = format!("{}-{}", cx.now().compact(), to_hex(&cx.random::<4>()));
        let sweeper = Sweeper {
            cx,
            vault: self,
            source,
            id,
            stale_after: options.stale_after,
            dry_run: options.dry_run,
        };
        cx.progress.begin("listing", 0);
        let sweeps = self.sweeps(source).await?;
        let candidates = self.candidates(source).await?;
        let mut roots = Roots::default();
        sweeper.look(&mut roots).await?;
        self.expect_no_fewer(&sweeper, &sweeps, roots.seen()).await?;
        let mut garbage = candidates.garbage(&roots);
        if !options.dry_run {
            garbage = self.delete_garbage(&sweeper, options, (&mut roots, &candidates, garbage)).await?;
            self.drop_records(source, &sweeps.ended).await?;
        }
        Ok(Swept {
            source: source.clone(),
            seen: roots.seen(),
            revoked: roots.revoked.iter().cloned().collect(),
            spared: roots.undecided().map(|intent| intent.point.clone()).collect(),
            sweep: sweeper.id,
            garbage,
            unfinished: sweeps.unfinished,
        })
    }

    /// What sweeps that have not ended are about to delete.
    pub async fn condemned(&self, source: &SourceName) -> Result<BTreeSet<Key>, VaultError> {
        let mut condemned = BTreeSet::new();
        for id in self.sweeps(source).await?.unfinished {
            condemned.extend(self.read_sweep(&layout::sweep(source, &id)).await?);
        }
        Ok(condemned)
    }

    /// Ends a sweep in its stead: its process must be dead, or a copy may lose a pack to it. `false` if there is no such
    /// unfinished sweep.
    pub async fn forget_sweep(&self, cx: &Cx, source: &SourceName, id: &str) -> Result<bool, VaultError> {
        if !self.sweeps(source).await?.unfinished.iter().any(|unfinished| unfinished == id) {
            return Ok(false);
        }
        self.end_sweep(
            cx,
            source,
            id,
            SweepEnd { ended_at: cx.now(), seen: Seen::default(), objects: 0, bytes: 0 },
        )
        .await?;
        Ok(true)
    }

    async fn sweeps(&self, source: &SourceName) -> Result<Sweeps, VaultError> {
        let mut sweeps = Sweeps { ended: Vec::new(), unfinished: Vec::new() };
        let listed = self.list(&layout::sweeps(source)).await?;
        let names: BTreeSet<&str> = listed.iter().map(|object| object.key.last_segment()).collect();
        for name in &names {
            match name.strip_suffix(layout::SWEEP_DONE) {
                Some(id) if self.is_proven(&layout::sweep_done(source, id), Kind::Sweep).await? => {
                    sweeps.ended.push(id.to_owned());
                }
                Some(_) => {}
                None => sweeps.unfinished.push((*name).to_owned()),
            }
        }
        sweeps.unfinished.retain(|id| !sweeps.ended.contains(id));
        Ok(sweeps)
    }

    async fn candidates<'a>(&self, source: &'a SourceName) -> Result<Candidates<'a>, VaultError> {
        let mut objects = self.list(&layout::points(source)).await?;
        let (mut floors, mut parts) = (Floors::new(), BTreeSet::new());
        for lineage in self.lineages(source).await? {
            let id = lineage.system_id;
            let of_lineage = self.floors(source, id).await?;
            let of_parts =
                self.journal_candidates(source, id, (!of_lineage.is_empty(), &mut objects)).await?;
            parts.extend(of_parts.into_iter().map(|part| layout::wal_file(source, id, part)));
            floors.extend(of_lineage);
        }
        Ok(Candidates { source, objects, floors, parts })
    }

    /// Adds a lineage's WAL to `objects`: `all` of it, or only the parts. Without a floor nothing else may go, and a journal's
    /// listing is the longest there is. Gives those parts that nobody needs any more.
    async fn journal_candidates(
        &self,
        source: &SourceName,
        lineage: SystemId,
        (all, objects): (bool, &mut Vec<Head>),
    ) -> Result<BTreeSet<WalFile>, VaultError> {
        let folder = layout::wal(source, lineage);
        // Parts, and the whole segments that parts are of: in order of key these come just before.
        let (mut files, mut before, mut after) = (Vec::new(), None, None);
        loop {
            let page = self.store.list(&folder, after.as_ref()).await?;
            for head in page.objects {
                let file = WalFile::parse_kept(head.key.last_segment()).ok();
                let is_part = matches!(file, Some(WalFile::Part(..)));
                if is_part {
                    files.extend(before.take());
                    files.extend(file);
                } else {
                    before = file;
                }
                if all || is_part {
                    objects.push(head);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(finished(&files)),
            }
        }
    }

    /// No listing may show fewer points than an earlier sweep saw: none of what is counted is ever deleted (I6).
    async fn expect_no_fewer(
        &self,
        sweeper: &Sweeper<'_>,
        sweeps: &Sweeps,
        seen: Seen,
    ) -> Result<(), VaultError> {
        for id in &sweeps.ended {
            let end: Option<SweepEnd> =
                self.get_record(&layout::sweep_done(sweeper.source, id), Kind::Sweep).await?;
            // Another sweep has removed the record of one that ended before it.
            let Some(end) = end else { continue };
            let fewer = seen.intents < end.seen.intents
                || seen.decisions < end.seen.decisions
                || seen.tombstones < end.seen.tombstones;
            if fewer {
                let why =
                    format!("sweep {id} saw more points ({:?}) than are listed now ({seen:?})", end.seen);
                return Err(sweeper.stopped(&why));
            }
        }
        Ok(())
    }

    async fn delete_garbage(
        &self,
        sweeper: &Sweeper<'_>,
        options: &SweepOptions,
        (roots, candidates, garbage): (&mut Roots, &Candidates<'_>, Vec<Garbage>),
    ) -> Result<Vec<Garbage>, VaultError> {
        let Sweeper { cx, source, id, .. } = sweeper;
        self.begin_sweep(cx, source, id, (options, &garbage)).await?;
        sweeper.look(roots).await?;
        let garbage: Vec<Garbage> = garbage
            .into_iter()
            .filter(|object| candidates.why_may_go(roots, &object.key).is_some())
            .collect();
        let bytes = garbage.iter().map(|object| object.size).sum();
        cx.progress.begin("deleting", bytes);
        // After an error a deletion may still be under way to the store: the sweep then has no end, and copies that need
        // what it named step aside.
        let deletions: Vec<_> = garbage.iter().map(|object| self.delete(cx, object)).collect();
        futures::stream::iter(deletions).buffer_unordered(DELETIONS).try_collect::<()>().await?;
        let objects = garbage.len() as u64;
        let end = SweepEnd { ended_at: cx.now(), seen: roots.seen(), objects, bytes };
        self.end_sweep(cx, source, id, end).await?;
        Ok(garbage)
    }

    async fn delete(&self, cx: &Cx, object: &Garbage) -> Result<(), VaultError> {
        cx.check()?;
        self.store.delete(&object.key).await?;
        cx.progress.advance(object.size);
        Ok(())
    }

    async fn begin_sweep(
        &self,
        cx: &Cx,
        source: &SourceName,
        id: &str,
        (options, garbage): (&SweepOptions, &[Garbage]),
    ) -> Result<(), VaultError> {
        let path = layout::sweep(source, id);
        let record =
            SweepRecord { began_at: cx.now(), host: options.host.clone(), tool: options.tool.clone() };
        // A plain struct with string keys, which JSON cannot refuse.
        let front =
            serde_json::to_vec(&record).unwrap_or_else(|why| unreachable!("a sweep is not JSON: {why}"));
        let keys = garbage.iter().fold(String::new(), |lines, object| lines + object.key.as_str() + "\n");
        let mut stream = StreamWriter::new(self.scope(&path), Kind::Sweep, cx.random());
        stream.push(&front);
        stream.push(keys.as_bytes());
        written(self.store.put_new(&path, stream.finish().into()).await)
    }

    async fn read_sweep(&self, path: &Key) -> Result<Vec<Key>, VaultError> {
        let object = match self.store.get(path).await {
            Ok(object) => object,
            // It ended, and a later sweep has removed its record.
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let unreadable = |why: StreamError| damaged(path, self.place(), why);
        let mut reader = StreamReader::new(self.scope(path), Kind::Sweep, &object).map_err(unreadable)?;
        let mut keys = Vec::new();
        reader.next_chunk().map_err(unreadable)?;
        while let Some(chunk) = reader.next_chunk().map_err(unreadable)? {
            keys.extend_from_slice(&chunk);
        }
        let keys = String::from_utf8_lossy(&keys);
        Ok(keys.lines().filter_map(|line| Key::new(line).ok()).collect())
    }

    async fn end_sweep(
        &self,
        cx: &Cx,
        source: &SourceName,
        id: &str,
        end: SweepEnd,
    ) -> Result<(), VaultError> {
        self.put_proven(cx, &layout::sweep_done(source, id), Kind::Sweep, &end).await
    }

    /// Removes the records of sweeps that ended before ours: ours counts from now on.
    async fn drop_records(&self, source: &SourceName, ended: &[String]) -> Result<(), VaultError> {
        for id in ended {
            // The end goes last: without it the sweep would look unfinished.
            self.store.delete(&layout::sweep(source, id)).await?;
            self.store.delete(&layout::sweep_done(source, id)).await?;
        }
        Ok(())
    }
}

/// What was there before the points were looked at, and how far retention let WAL go by then.
struct Candidates<'a> {
    source: &'a SourceName,
    objects: Vec<Head>,
    floors: Floors,
    /// Parts of segments whose bytes something else held as well.
    parts: BTreeSet<Key>,
}

impl Candidates<'_> {
    fn garbage(&self, roots: &Roots) -> Vec<Garbage> {
        let garbage = self.objects.iter().filter_map(|head| {
            let why = self.why_may_go(roots, &head.key)?;
            Some(Garbage { key: head.key.clone(), size: head.size, why })
        });
        garbage.collect()
    }

    /// Why the object may go; `None` for what must stay, and for what no sweep knows.
    fn why_may_go(&self, roots: &Roots, key: &Key) -> Option<&'static str> {
        if let Some((owner, number)) = layout::parse_pack(self.source, key) {
            return roots.why_pack_may_go(&owner, number);
        }
        if let Some(point) = layout::parse_manifest(self.source, key) {
            return roots.why_manifest_may_go(&point);
        }
        if self.parts.contains(key) {
            return Some("its segment, or another part of it, holds the same bytes");
        }
        let (lineage, segment) = layout::parse_segment(self.source, key)?;
        let floor = self.floors.get(&(lineage, segment.timeline))?;
        let below = segment < *floor && roots.undecided().next().is_none();
        (below && !Candidates::is_needed(roots, lineage, segment))
            .then_some("retention let WAL before its floor go")
    }

    /// Whether a point that is still there needs the segment to become consistent. Timelines are not told apart: a number
    /// that any of them needs is spared on all.
    fn is_needed(roots: &Roots, lineage: SystemId, segment: WalSegment) -> bool {
        let ranges = roots.committed().filter_map(|summary| summary.journal);
        ranges.filter(|range| range.lineage == lineage).any(|range| {
            let (size, (first, last)) = (range.segment_size, range.segments());
            let number = segment.number(size);
            number.is_none() || (first.number(size) <= number && number <= last.number(size))
        })
    }
}
