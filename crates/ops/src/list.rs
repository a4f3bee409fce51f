//! `strongroom list` and `show`: what can be restored.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use strongroom_model::entry::EntryKind;
use strongroom_model::point::{PointFacts, Summary};
use strongroom_model::restore_plan::{Candidate, PitrWindow, pitr_windows};
use strongroom_model::tier::StorageClass;
use strongroom_model::{PointId, SourceName};
use strongroom_vault::catalog::PointRow;
use strongroom_vault::{Vault, VaultError};

use crate::error::OpsError;
use crate::journal;

/// A source, as a listing shows it.
#[derive(Debug, Serialize)]
pub struct SourceListing {
    /// The source.
    pub source: SourceName,
    /// Its points, oldest first, whatever their state.
    pub points: Vec<PointRow>,
    /// What the restorable ones lead to. A dump leads nowhere: it is the one moment it shows.
    pub windows: Vec<PitrWindow>,
    /// Points that must be thawed before they can be restored, and from which storage class.
    pub frozen: BTreeMap<PointId, StorageClass>,
}

/// Lists `source`, or every source in the vault.
pub async fn list(vault: &Vault, source: Option<&SourceName>) -> Result<Vec<SourceListing>, OpsError> {
    let known = vault.sources().await?;
    let wanted = match source {
        Some(source) if known.contains(source) => vec![source.clone()],
        Some(source) => return Err(OpsError::UnknownSource(source.clone())),
        None => known,
    };
    let mut listings = Vec::new();
    for source in wanted {
        listings.push(list_source(vault, source).await?);
    }
    Ok(listings)
}

async fn list_source(vault: &Vault, source: SourceName) -> Result<SourceListing, OpsError> {
    // Each may be a long listing, and neither needs the other.
    let points = async { vault.points(&source).await.map_err(OpsError::from) };
    let journals = async { journal::load_all(vault, &source).await.map_err(OpsError::from) };
    let (points, journals) = tokio::try_join!(points, journals)?;
    let mut windows = Vec::new();
    for (journal, transactions) in &journals {
        let candidates = journal::candidates(&points, journal);
        let floors = vault.floors(&source, journal.lineage).await?;
        let of_journal = pitr_windows(&candidates, &|reach| transactions.before(reach));
        for (window, candidate) in with_candidates(of_journal, &candidates) {
            let first = candidate.range.segments().0;
            let floor = floors.get(&(journal.lineage, first.timeline));
            windows.push(if floor.is_some_and(|floor| first < *floor) { for_itself(window) } else { window });
        }
    }
    windows.sort_by_key(|window| window.from);
    Ok(SourceListing { source, points, windows, frozen: BTreeMap::new() })
}

fn with_candidates<'a>(
    windows: Vec<PitrWindow>,
    candidates: &'a [Candidate<'a>],
) -> impl Iterator<Item = (PitrWindow, &'a Candidate<'a>)> {
    // Windows come in the order of the candidates, some of which have none.
    let mut candidates = candidates.iter();
    windows.into_iter().filter_map(move |window| {
        let candidate = candidates.find(|candidate| candidate.summary.point == window.point)?;
        Some((window, candidate))
    })
}

/// A point whose WAL retention let go, but for what it needs to become consistent: no gap, and no more than itself.
fn for_itself(window: PitrWindow) -> PitrWindow {
    PitrWindow { to: Some(window.from), to_lsn: window.from_lsn, gap: None, ..window }
}

/// A point in full.
#[derive(Debug, Serialize)]
pub struct PointView {
    /// In a few lines.
    pub summary: Summary,
    /// What its engine knows.
    pub facts: PointFacts,
    /// The first and last WAL segment it needs; none if it is a dump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal: Option<(String, String)>,
    /// The streams of a dump, with their bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<(String, u64)>,
    /// Pages damaged on the source, by file.
    pub damaged: Vec<(String, Vec<u32>)>,
}

/// Shows one point, of whichever source has it.
pub async fn show(vault: &Arc<Vault>, point: &PointId) -> Result<PointView, OpsError> {
    let source = source_of(vault, point).await?;
    let opened = match vault.open_point(&source, point).await {
        // A sweep took it, and nobody behind anybody's back.
        Err(VaultError::Missing { .. }) if has_expired(vault, &source, point).await? => {
            return Err(VaultError::NotCommitted { point: point.clone(), state: "expired" }.into());
        }
        opened => opened?,
    };
    let (mut damaged, mut streams) = (Vec::new(), Vec::new());
    opened.rows(|row| {
        if let EntryKind::Stream { size, .. } = row.entry.kind {
            streams.push((row.entry.path.to_string(), size));
        }
        if !row.damaged.is_empty() {
            damaged.push((row.entry.path.to_string(), row.damaged));
        }
        Ok::<(), VaultError>(())
    })?;
    let segments = opened.summary().journal.map(|range| range.segments());
    Ok(PointView {
        summary: opened.summary().clone(),
        facts: opened.facts().clone(),
        wal: segments.map(|(first, last)| (first.to_string(), last.to_string())),
        streams,
        damaged,
    })
}

async fn has_expired(vault: &Vault, source: &SourceName, point: &PointId) -> Result<bool, VaultError> {
    Ok(vault.points(source).await?.iter().any(|row| row.point == *point && row.expired))
}

/// The source that has this point.
pub async fn source_of(vault: &Vault, point: &PointId) -> Result<SourceName, OpsError> {
    let sources = vault.sources().await?;
    for source in &sources {
        if vault.points(source).await?.iter().any(|row| row.point == *point) {
            return Ok(source.clone());
        }
    }
    match sources.into_iter().next() {
        Some(source_name) => Err(VaultError::NoSuchPoint { source_name, point: point.clone() }.into()),
        None => {
            Err(VaultError::NotCommitted { point: point.clone(), state: "in no source of this vault" }.into())
        }
    }
}
