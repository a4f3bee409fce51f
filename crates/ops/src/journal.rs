//! The vault's journals, read into values that plans can be made of.

use std::collections::BTreeMap;

use strongroom_model::history::TimelineHistory;
use strongroom_model::journal::{Journal, Reach};
use strongroom_model::restore_plan::Candidate;
use strongroom_model::{SourceName, SystemId, Timestamp, WalFile, WalSegment};
use strongroom_vault::catalog::PointRow;
use strongroom_vault::journal::JournalFacts;
use strongroom_vault::lineage::Lineage;
use strongroom_vault::{Vault, VaultError};

/// Segments looked back through for the last transaction before a window's end.
const LOOK_BACK: usize = 32;

/// A lineage's journal: its windows and the histories among its files.
pub async fn load(vault: &Vault, source: &SourceName, lineage: &Lineage) -> Result<Journal, VaultError> {
    let files = vault.journal_files(source, lineage.system_id).await?;
    let mut histories = Vec::new();
    for file in &files {
        if let WalFile::History(timeline) = file {
            let (_, content) = vault
                .fetch(source, lineage.system_id, *file)
                .await?
                .ok_or_else(|| VaultError::Missing { key: file.to_string(), place: vault.place() })?;
            let history = TimelineHistory::parse(*timeline, &String::from_utf8_lossy(&content));
            histories.push(history.map_err(|why| VaultError::Damaged {
                key: file.to_string(),
                place: vault.place(),
                why: why.to_string(),
            })?);
        }
    }
    Ok(Journal::new(lineage.system_id, lineage.segment_size, files, histories))
}

/// When the last transactions before the ends of a journal's windows ended, by the windows' last segments.
#[derive(Clone, Debug, Default)]
pub struct LastTransactions(BTreeMap<WalSegment, Timestamp>);

impl LastTransactions {
    /// Reads them from the facts of the windows' last segments; a window without any in its last segments has none.
    pub async fn load(
        vault: &Vault,
        source: &SourceName,
        journal: &Journal,
    ) -> Result<LastTransactions, VaultError> {
        let mut found = BTreeMap::new();
        for window in journal.windows() {
            let size = journal.segment_size;
            let last = window.last_segment(size);
            let number = |segment: WalSegment| segment.number(size).unwrap_or_default();
            let (low, high) = (number(window.first_segment(size)), number(last));
            for number in (low..=high).rev().take(LOOK_BACK) {
                let segment = WalSegment::numbered(window.timeline, number, size);
                let facts = facts(vault, source, journal.lineage, segment).await?;
                if let Some((_, ended)) = facts.transactions {
                    found.insert(last, ended);
                    break;
                }
            }
        }
        Ok(LastTransactions(found))
    }

    /// The last transaction before the end of `reach`, if known.
    pub fn before(&self, reach: &Reach) -> Option<Timestamp> {
        self.at(reach.last?)
    }

    /// The last transaction before the end of the window that this segment ends, if known.
    pub fn at(&self, last: WalSegment) -> Option<Timestamp> {
        self.0.get(&last).copied()
    }
}

/// The facts of a segment that a listing showed, or of what was there of it.
pub async fn facts(
    vault: &Vault,
    source: &SourceName,
    lineage: SystemId,
    segment: WalSegment,
) -> Result<JournalFacts, VaultError> {
    match vault.journal_facts(source, lineage, WalFile::Segment(segment)).await {
        Err(VaultError::Store(error)) if error.is_not_found() => {
            let facts = vault.tail_facts(source, lineage, segment).await?;
            // Nothing of it at all is the first answer's to tell.
            facts.ok_or(VaultError::Store(error))
        }
        facts => facts,
    }
}

/// The points of this journal's lineage that can be restored, each with the journal.
pub fn candidates<'a>(points: &'a [PointRow], journal: &'a Journal) -> Vec<Candidate<'a>> {
    let restorable = points.iter().filter_map(PointRow::restorable);
    restorable.filter_map(|summary| Candidate::new(summary, journal)).collect()
}

/// Every lineage of a source with its journal and what is known of its transactions.
pub async fn load_all(
    vault: &Vault,
    source: &SourceName,
) -> Result<Vec<(Journal, LastTransactions)>, VaultError> {
    let mut all = Vec::new();
    for lineage in vault.lineages(source).await? {
        let journal = load(vault, source, &lineage).await?;
        let transactions = LastTransactions::load(vault, source, &journal).await?;
        all.push((journal, transactions));
    }
    Ok(all)
}
