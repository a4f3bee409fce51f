//! `strongroom wal status`: what of the journal is in the vault, and where it has gaps.

use serde::Serialize;
use strongroom_model::journal::Window;
use strongroom_model::{Cx, SourceName, Timeline, Timestamp};
use strongroom_vault::Vault;
use strongroom_vault::lineage::Lineage;

use crate::error::OpsError;
use crate::journal::{self, LastTransactions};
use crate::lineage::is_dumped;

/// A source's journal.
#[derive(Debug, Serialize)]
pub struct JournalStatus {
    /// The source.
    pub source: SourceName,
    /// Its lineages, oldest first.
    pub lineages: Vec<LineageStatus>,
}

/// One lineage's journal.
#[derive(Debug, Serialize)]
pub struct LineageStatus {
    /// The cluster.
    #[serde(flatten)]
    pub lineage: Lineage,
    /// Contiguous stretches, by timeline, then position. Two on one timeline = a gap between them.
    pub windows: Vec<WindowStatus>,
    /// Timelines that have segments but no history: nothing can lead there.
    pub missing_histories: Vec<Timeline>,
}

/// A contiguous stretch.
#[derive(Debug, Serialize)]
pub struct WindowStatus {
    /// From where to where.
    #[serde(flatten)]
    pub window: Window,
    /// Its segments.
    pub first_segment: String,
    /// The last of them.
    pub last_segment: String,
    /// How many whole ones.
    pub segments: u64,
    /// The last transaction in it.
    pub last_transaction: Option<Timestamp>,
    /// When its last segment, or the end of its tail, was shipped, by the shipper's clock.
    pub last_shipped_at: Timestamp,
    /// Seconds since then.
    pub age_s: u64,
    /// Whether another stretch of the same timeline follows: then the segments between are missing.
    pub gap_follows: bool,
}

/// Reads the journal's state from the vault.
pub async fn wal_status(cx: &Cx, vault: &Vault, source: &SourceName) -> Result<JournalStatus, OpsError> {
    let mut lineages = Vec::new();
    for lineage in vault.lineages(source).await? {
        let journal = journal::load(vault, source, &lineage).await?;
        let transactions = LastTransactions::load(vault, source, &journal).await?;
        let all: Vec<Window> = journal.windows().copied().collect();
        let floors = vault.floors(source, lineage.system_id).await?;
        // What lies before a floor retention let go: that is no gap.
        let is_above = |next: &Window| {
            let floor = floors.get(&(lineage.system_id, next.timeline));
            floor.is_none_or(|floor| next.first_segment(journal.segment_size) > *floor)
        };
        let mut windows = Vec::new();
        for (at, window) in all.iter().enumerate() {
            let size = journal.segment_size;
            let last = window.last_segment(size);
            let facts = journal::facts(vault, source, lineage.system_id, last).await?;
            windows.push(WindowStatus {
                window: *window,
                first_segment: window.first_segment(size).to_string(),
                last_segment: last.to_string(),
                segments: window.segments(),
                last_transaction: transactions.at(last),
                last_shipped_at: facts.shipped_at,
                age_s: cx.now().since(facts.shipped_at).as_secs(),
                gap_follows: all
                    .get(at + 1)
                    .is_some_and(|next| next.timeline == window.timeline && is_above(next)),
            });
        }
        lineages.push(LineageStatus { windows, missing_histories: journal.missing_histories(), lineage });
    }
    if lineages.is_empty() && is_dumped(vault, source).await? {
        return Err(OpsError::Dumped { source_name: source.clone() });
    }
    if lineages.is_empty() {
        return Err(OpsError::UnknownSource(source.clone()));
    }
    Ok(JournalStatus { source: source.clone(), lineages })
}
