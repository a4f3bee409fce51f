//! What a sweep must spare: every pack that a committed, unexpired or undecided point can reach.
//!
//! A source's points are looked at in an order that carries the proof: tombstones, holds, intents, decisions.
//! A writer puts its intent before it looks for its parent's tombstone. So if a look takes a point for expired, every
//! child that did not see the tombstone has its intent in the same look, and what the point reaches is spared for it. In the
//! same way whoever holds a point puts the hold before looking for the tombstone.
//!
//! **I6**: intents, decisions and tombstones are never deleted, so a later look must contain an earlier one. A listing
//! that shrank is a store that lies; the sweep stops. Any record or manifest that does not read stops it as well: what
//! it reaches cannot be known.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use strongroom_codec::header::Kind;
use strongroom_codec::manifest::ManifestReader;
use strongroom_model::point::{Decision, Intent, PackRef};
use strongroom_model::{Cx, PointId, SourceName};
use strongroom_store::PutError;

use crate::catalog::RECORDS_AT_ONCE;
use crate::error::{VaultError, damaged};
use crate::layout::{self, PointPart};
use crate::open::Vault;

/// How many points of each kind a look saw. None of these numbers can ever fall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Points that were begun.
    pub intents: u64,
    /// Points that were committed, abandoned or revoked.
    pub decisions: u64,
    /// Points that retention let go.
    pub tombstones: u64,
}

/// Who sweeps, and what it takes for dead.
pub(crate) struct Sweeper<'a> {
    pub(crate) cx: &'a Cx,
    pub(crate) vault: &'a Arc<Vault>,
    pub(crate) source: &'a SourceName,
    /// The sweep's name, which revoked points carry.
    pub(crate) id: String,
    /// An undecided point begun longer ago than this is revoked. A guess: if it is wrong, the writer loses its point and
    /// says so, and nothing else is lost.
    pub(crate) stale_after: Duration,
    /// Whether nothing may be written.
    pub(crate) dry_run: bool,
}

/// Everything known of a source's points; it only grows.
#[derive(Default)]
pub(crate) struct Roots {
    tombstones: BTreeSet<PointId>,
    held: BTreeSet<PointId>,
    intents: BTreeSet<PointId>,
    decisions: BTreeMap<PointId, Decision>,
    /// Undecided and not stale, with what they declared.
    undecided: BTreeMap<PointId, Intent>,
    /// Stale, and now revoked (in a dry run: to be revoked).
    pub(crate) revoked: BTreeSet<PointId>,
    /// Points whose whole reach is in `reached`.
    read: HashSet<PointId>,
    reached: HashSet<(PointId, u32)>,
}

impl Roots {
    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        Seen {
            intents: self.intents.len() as u64,
            decisions: self.decisions.len() as u64,
            tombstones: self.tombstones.len() as u64,
        }
    }

    /// Undecided points that may still be committed.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = &Intent> {
        self.undecided.values()
    }

    fn has_expired(&self, point: &PointId) -> bool {
        self.tombstones.contains(point) && !self.held.contains(point)
    }

    /// Committed points that have not expired.
    pub(crate) fn committed(&self) -> impl Iterator<Item = &strongroom_model::point::Summary> {
        self.decisions.iter().filter_map(|(id, decision)| match decision {
            Decision::Commit { summary, .. } if !self.has_expired(id) => Some(&**summary),
            _ => None,
        })
    }

    /// Why pack `number` of `owner` may go; `None` if it must stay.
    pub(crate) fn why_pack_may_go(&self, owner: &PointId, number: u32) -> Option<&'static str> {
        if self.undecided.contains_key(owner) || self.reached.contains(&(owner.clone(), number)) {
            return None;
        }
        Some(match self.decisions.get(owner) {
            Some(Decision::Commit { .. }) if self.has_expired(owner) => {
                "its point has expired and no other refers to it"
            }
            Some(Decision::Commit { .. }) => "no point refers to it",
            Some(Decision::Abandoned { .. }) => "its point was given up",
            Some(Decision::Revoked { .. }) => "its point was revoked",
            None if self.revoked.contains(owner) => "its writer is taken for dead",
            None if self.intents.contains(owner) => return None,
            None => "a copy brought it, and no point refers to it",
        })
    }

    /// Why the manifest of a point may go; `None` if it must stay. A child that is being written may need it.
    pub(crate) fn why_manifest_may_go(&self, point: &PointId) -> Option<&'static str> {
        if self.undecided.values().any(|child| child.parent.as_ref() == Some(point)) {
            return None;
        }
        match self.decisions.get(point) {
            Some(Decision::Commit { .. }) if self.has_expired(point) => Some("its point has expired"),
            Some(Decision::Abandoned { .. }) => Some("its point was given up"),
            Some(Decision::Revoked { .. }) => Some("its point was revoked"),
            Some(Decision::Commit { .. }) | None => None,
        }
    }
}

impl Sweeper<'_> {
    /// Looks at every point and adds what must be spared to `roots`.
    pub(crate) async fn look(&self, roots: &mut Roots) -> Result<(), VaultError> {
        let tombstones = self.tombstones(&roots.tombstones).await?;
        let held = self.vault.held(self.source).await?;
        let intents = self.having(PointPart::Intent).await?;
        let decided = self.having(PointPart::Decision).await?;
        let shrank = !roots.tombstones.is_subset(&tombstones)
            || !roots.intents.is_subset(&intents)
            || roots.decisions.keys().any(|point| !decided.contains(point));
        if shrank {
            return Err(self.stopped("the store no longer lists points that it listed a moment ago"));
        }
        let new: Vec<PointId> = decided.into_iter().filter(|id| !roots.decisions.contains_key(id)).collect();
        let let_go = |point: &PointId| tombstones.contains(point) && !held.contains(point);
        let decisions = futures::stream::iter(new)
            .map(|point| async move {
                let decision = self.decision(&point, let_go(&point)).await?;
                Ok::<_, VaultError>((point, decision))
            })
            .buffered(RECORDS_AT_ONCE);
        roots.decisions.extend(decisions.try_collect::<Vec<_>>().await?);
        roots.tombstones = tombstones;
        // A hold that was released since still counts in this sweep: sparing more is always right.
        roots.held.extend(held);
        roots.intents = intents;
        self.settle_undecided(roots).await?;
        let alive: Vec<PointId> = roots.committed().map(|summary| summary.point.clone()).collect();
        for point in alive {
            self.reach_of_committed(roots, &point).await?;
        }
        Ok(())
    }

    /// Points that were let go by who may; of those `known` it was asked before.
    async fn tombstones(&self, known: &BTreeSet<PointId>) -> Result<BTreeSet<PointId>, VaultError> {
        let found = self.having(PointPart::Expired).await?;
        let proven = futures::stream::iter(found)
            .map(|point| async move {
                let key = layout::point_part(self.source, &point, PointPart::Expired);
                let counts = known.contains(&point) || self.vault.is_proven(&key, Kind::Tombstone).await?;
                Ok::<_, VaultError>(counts.then_some(point))
            })
            .buffered(RECORDS_AT_ONCE);
        proven.try_filter_map(async |point| Ok(point)).try_collect().await
    }

    async fn having(&self, part: PointPart) -> Result<BTreeSet<PointId>, VaultError> {
        let parts = self.vault.point_parts(self.source).await?;
        let having = parts.into_iter().filter(|(_, parts)| parts.iter().any(|name| name == part.name()));
        Ok(having.map(|(point, _)| point).collect())
    }

    /// A decision that was listed. It is never deleted, so its absence is a lie. That of a point that was let go by name need
    /// not read: nothing is spared for it.
    async fn decision(&self, point: &PointId, let_go: bool) -> Result<Decision, VaultError> {
        let decision = match self.vault.decision(self.source, point).await {
            Err(VaultError::Damaged { why, .. }) if let_go => Some(Decision::Abandoned { why }),
            decision => decision.map_err(|error| self.unknown(point, error))?,
        };
        decision.ok_or_else(|| self.stopped(&format!("the decision of {point} is listed and is not there")))
    }

    /// A record that does not read stops the sweep: what its point reaches is not known.
    fn unknown(&self, point: &PointId, error: VaultError) -> VaultError {
        match error {
            VaultError::Missing { .. } | VaultError::Damaged { .. } => {
                self.stopped(&format!("what {point} refers to cannot be known: {error}"))
            }
            error => error,
        }
    }

    /// Sorts the undecided points: revoked now, decided meanwhile, or alive with what they may reach.
    async fn settle_undecided(&self, roots: &mut Roots) -> Result<(), VaultError> {
        let open: Vec<PointId> =
            roots.intents.iter().filter(|point| !roots.decisions.contains_key(*point)).cloned().collect();
        roots.undecided.clear();
        for point in open {
            self.cx.check()?;
            let intent = match self.vault.intent(self.source, &point).await {
                // Rubbish or rot: whatever it declared, once revoked it can no longer be committed.
                Err(VaultError::Damaged { .. }) if self.is_stale(&point) => None,
                intent => Some(intent.map_err(|error| self.unknown(&point, error))?.ok_or_else(|| {
                    self.stopped(&format!("the intent of {point} is listed and is not there"))
                })?),
            };
            // A copy that stopped goes on where it was: revoked, its point could never be copied to this vault again.
            let alive = |intent: &Intent| intent.copied_at.is_some() || !self.is_stale(&point);
            let Some(intent) = intent.filter(alive) else {
                self.revoke(roots, &point).await?;
                continue;
            };
            self.reach_of_undecided(roots, &intent).await?;
            if !roots.decisions.contains_key(&point) {
                roots.undecided.insert(point, intent);
            }
        }
        Ok(())
    }

    /// Whether the point was begun, by its writer's clock, longer ago than a writer may take.
    fn is_stale(&self, point: &PointId) -> bool {
        let oldest = self.cx.now().earlier(self.stale_after);
        oldest.is_some_and(|oldest| *point < PointId::new(oldest, [0; 4]))
    }

    /// Decides a point in its writer's stead, unless the writer was faster.
    async fn revoke(&self, roots: &mut Roots, point: &PointId) -> Result<(), VaultError> {
        let decision = Decision::Revoked { by: format!("sweep {}", self.id) };
        if self.dry_run {
            roots.revoked.insert(point.clone());
            return Ok(());
        }
        let path = layout::point_part(self.source, point, PointPart::Decision);
        match self.vault.put_record(self.cx, &path, Kind::Decision, &decision).await {
            Ok(()) | Err(PutError::Exists { .. }) => {}
            Err(PutError::Store(error)) => return Err(error.into()),
        }
        let decision = self.decision(point, false).await?;
        if matches!(decision, Decision::Revoked { .. }) {
            roots.revoked.insert(point.clone());
        }
        roots.decisions.insert(point.clone(), decision);
        Ok(())
    }

    async fn reach_of_committed(&self, roots: &mut Roots, point: &PointId) -> Result<(), VaultError> {
        if roots.read.contains(point) {
            return Ok(());
        }
        self.cx.check()?;
        let opened = self.vault.open_point(self.source, point).await;
        let opened = opened.map_err(|error| self.unknown(point, error))?;
        reach(roots, point, opened.packs().all());
        Ok(())
    }

    /// What a point that is being written may refer to: all that its parent reaches; for a copy, its manifest, which it
    /// writes before any pack.
    async fn reach_of_undecided(&self, roots: &mut Roots, intent: &Intent) -> Result<(), VaultError> {
        if intent.copied_at.is_some() {
            let packs = self.undecided_manifest(&intent.point).await?;
            // Without a manifest it has neither brought nor spared a pack yet, and will look for sweeps before it does.
            if let Some(packs) = packs {
                roots.reached.extend(packs.into_iter().map(|pack| (pack.owner, pack.number)));
            }
            return Ok(());
        }
        let Some(parent) = &intent.parent else { return Ok(()) };
        if roots.has_expired(parent) && self.manifest_is_gone(parent).await? {
            // Either the parent had expired before this child looked at it, and the child does without it; or the child
            // was decided since, and another sweep was right to take the parent's manifest: then the child's own counts.
            let Some(decision) = self.vault.decision(self.source, &intent.point).await? else {
                return Ok(());
            };
            let committed = matches!(decision, Decision::Commit { .. });
            roots.decisions.insert(intent.point.clone(), decision);
            return if committed { self.reach_of_committed(roots, &intent.point).await } else { Ok(()) };
        }
        match self.reach_of_committed(roots, parent).await {
            // No writer can have opened it.
            Err(VaultError::NotCommitted { .. } | VaultError::NoSuchPoint { .. }) => Ok(()),
            result => result,
        }
    }

    async fn manifest_is_gone(&self, point: &PointId) -> Result<bool, VaultError> {
        match self.vault.store.head(&layout::point_part(self.source, point, PointPart::Manifest)).await {
            Ok(_) => Ok(false),
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    async fn undecided_manifest(&self, point: &PointId) -> Result<Option<Vec<PackRef>>, VaultError> {
        let path = layout::point_part(self.source, point, PointPart::Manifest);
        let manifest = match self.vault.store.get(&path).await {
            Ok(manifest) => manifest,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let reader = ManifestReader::new(self.vault.scope(&path), &manifest)
            .map_err(|why| damaged(&path, self.vault.place(), why))?;
        Ok(Some(reader.packs().to_vec()))
    }

    /// The sweep cannot go on; nothing was deleted on its account.
    pub(crate) fn stopped(&self, why: &str) -> VaultError {
        VaultError::SweepStopped {
            source_name: self.source.clone(),
            place: self.vault.place(),
            why: why.to_owned(),
        }
    }
}

fn reach(roots: &mut Roots, point: &PointId, packs: &[PackRef]) {
    roots.reached.extend(packs.iter().map(|pack| (pack.owner.clone(), pack.number)));
    roots.read.insert(point.clone());
}
