//! `strongroom wal fetch`: bring one WAL file back. Called by the server's `restore_command`.
//!
//! The answer "there is none" ends recovery and promotes, so it is given only when the vault says so with authority
//! and nothing else in the vault contradicts it (semantics §7.2, behaviour 14).

use strongroom_model::journal::Journal;
use strongroom_model::{SourceName, SystemId, Timeline, WalFile};
use strongroom_vault::Vault;
use strongroom_vault::lineage::Lineage;
use strongroom_vault::tail::Held;

use crate::error::OpsError;
use crate::journal;
use crate::lineage::is_dumped;

/// What the vault has under a WAL file's name.
#[derive(Debug)]
pub enum Fetched {
    /// The file, whole and checked.
    File {
        /// Its content.
        content: Vec<u8>,
        /// The lineage it is of.
        lineage: Lineage,
    },
    /// A segment that nobody finished, as far as it was received: zeros follow, at which the server's recovery ends.
    Tail {
        /// A segment's worth of bytes.
        content: Vec<u8>,
        /// How many of them were received.
        received: usize,
        /// The lineage it is of.
        lineage: Lineage,
    },
    /// There is none, authoritatively.
    Absent,
}

/// Fetches `file` of the lineage with this system identifier, or of the source's newest.
pub async fn wal_fetch(
    vault: &Vault,
    source: &SourceName,
    system_id: Option<SystemId>,
    file: WalFile,
) -> Result<Fetched, OpsError> {
    let mut lineages = vault.lineages(source).await?;
    let newest = lineages.last().map(|lineage| lineage.system_id);
    if newest.is_none() && is_dumped(vault, source).await? {
        return Err(OpsError::Dumped { source_name: source.clone() });
    }
    let wanted = system_id.or(newest).ok_or_else(|| OpsError::UnknownSource(source.clone()))?;
    let Some(at) = lineages.iter().position(|lineage| lineage.system_id == wanted) else {
        let registered = newest.ok_or_else(|| OpsError::UnknownSource(source.clone()))?;
        return Err(OpsError::OtherLineage { source_name: source.clone(), registered, found: wanted });
    };
    let lineage = lineages.swap_remove(at);
    if let WalFile::Segment(segment) = file {
        return Ok(match vault.fetch_segment(source, wanted, segment).await? {
            Some(Held::Whole(content)) => Fetched::File { content, lineage },
            Some(Held::Tail(mut content)) => {
                let received = content.len();
                content.resize(lineage.segment_size.bytes() as usize, 0);
                Fetched::Tail { content, received, lineage }
            }
            None => Fetched::Absent,
        });
    }
    match (vault.fetch(source, wanted, file).await?, file) {
        (Some((_, content)), _) => Ok(Fetched::File { content, lineage }),
        (None, WalFile::History(timeline)) => {
            let journal = journal::load(vault, source, &lineage).await?;
            if is_needed(&journal, timeline) {
                return Err(OpsError::HistoryMissing { source_name: source.clone(), timeline });
            }
            Ok(Fetched::Absent)
        }
        (None, _) => Ok(Fetched::Absent),
    }
}

/// Whether something in the vault cannot be reached without the history of `timeline`: then it was lost, and the
/// server must not take its absence for the end of history.
fn is_needed(journal: &Journal, timeline: Timeline) -> bool {
    let missing = journal.missing_histories();
    missing.contains(&timeline)
        || missing.iter().any(|other| *other > timeline)
        || journal.timelines().iter().any(|other| {
            journal
                .history(*other)
                .is_some_and(|history| history.timeline != timeline && history.passes(timeline))
        }) && journal.timelines().first().is_some_and(|lowest| *lowest < timeline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use strongroom_model::history::TimelineHistory;
    use strongroom_model::{Lsn, SegmentSize, WalSegment};

    fn tl(id: u32) -> Timeline {
        Timeline::new(id).unwrap()
    }

    /// Segments on these timelines, histories of those (with their ancestors).
    fn needed(segments: &[u32], histories: &[(u32, &[u32])], asked: u32) -> bool {
        let files = segments
            .iter()
            .map(|id| WalFile::Segment(WalSegment::holding(tl(*id), Lsn(1), SegmentSize::DEFAULT)));
        let history_files = histories.iter().map(|(id, _)| WalFile::History(tl(*id)));
        let read = histories.iter().map(|(id, ancestors)| TimelineHistory {
            timeline: tl(*id),
            ancestors: ancestors.iter().map(|ancestor| (tl(*ancestor), Lsn(8))).collect(),
        });
        is_needed(
            &Journal::new(SystemId(1), SegmentSize::DEFAULT, files.chain(history_files), read),
            tl(asked),
        )
    }

    #[test]
    fn behaviour_14_a_lost_history_is_not_an_absent_one() {
        assert!(!needed(&[1], &[], 2), "nothing beyond timeline 1");
        assert!(!needed(&[1, 2], &[(2, &[1])], 3), "nothing beyond timeline 2");
        assert!(needed(&[1, 2], &[], 2), "timeline 2 has segments");
        assert!(needed(&[1, 3], &[], 2), "timeline 3 came from somewhere");
        assert!(needed(&[1, 3], &[(3, &[1, 2])], 2), "timeline 3 came through 2");
        assert!(!needed(&[1, 3], &[(3, &[1])], 2), "timeline 3 came from 1: there never was a 2 here");
        assert!(!needed(&[3], &[], 3), "the vault began on timeline 3");
    }
}
