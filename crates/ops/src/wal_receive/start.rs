//! Where receiving begins: behind what the vault has, and not before what the server has.

use strongroom_model::history::TimelineHistory;
use strongroom_model::{Lsn, SegmentSize, SourceName, SystemId, WalFile};
use strongroom_vault::{Vault, VaultError};

/// Where a vault's whole segments end on the way to the server's timeline. `None` if it has none there.
///
/// What it has of the next one in parts is received once more: nothing is built on what an earlier receiver stored.
pub async fn end_in(
    vault: &Vault,
    source: &SourceName,
    lineage: SystemId,
    (history, size): (&TimelineHistory, SegmentSize),
) -> Result<Option<Lsn>, VaultError> {
    Ok(end_of(&vault.journal_files(source, lineage).await?, history, size))
}

/// The beginning of the segment that holds `at`.
pub fn floor(at: Lsn, size: SegmentSize) -> Lsn {
    Lsn(at.0 / size.bytes() * size.bytes())
}

/// The end of the last whole segment on the way to the history's timeline. Of a timeline that was left, what lies behind
/// the segment in which it was left is another branch's.
fn end_of(files: &[WalFile], history: &TimelineHistory, size: SegmentSize) -> Option<Lsn> {
    let end = |file: &WalFile| match file {
        WalFile::Segment(segment) if history.passes(segment.timeline) => {
            let end = Lsn((segment.number(size)? + 1) * size.bytes());
            let left_at = history.left_at(segment.timeline);
            Some(left_at.map_or(end, |left_at| end.min(floor(left_at, size))))
        }
        _ => None,
    };
    files.iter().filter_map(end).max()
}

#[cfg(test)]
mod tests {
    use strongroom_model::{Timeline, WalSegment};

    use super::*;

    const SIZE: u64 = 16 << 20;

    fn tl(id: u32) -> Timeline {
        Timeline::new(id).unwrap()
    }

    /// Timeline 3 left 2 in the middle of segment 7, which had left 1 in the middle of segment 4.
    fn check(files: &[(u32, u64)], expected: Option<u64>) {
        let size = SegmentSize::DEFAULT;
        let ancestors = vec![(tl(1), Lsn(4 * SIZE + 100)), (tl(2), Lsn(7 * SIZE + 100))];
        let history = TimelineHistory { timeline: tl(3), ancestors };
        let files: Vec<WalFile> = files
            .iter()
            .map(|(timeline, number)| WalFile::Segment(WalSegment::numbered(tl(*timeline), *number, size)))
            .collect();
        let end = end_of(&files, &history, size);
        assert_eq!(end, expected.map(|number| Lsn(number * SIZE)), "{files:?}");
    }

    #[test]
    fn receiving_begins_behind_the_last_whole_segment_of_this_branch() {
        check(&[], None);
        check(&[(1, 2), (1, 3)], Some(4));
        check(&[(1, 3), (1, 4), (1, 9)], Some(4));
        check(&[(1, 3), (2, 4), (2, 5)], Some(6));
        check(&[(2, 6), (2, 8)], Some(7));
        check(&[(2, 6), (3, 7)], Some(8));
        check(&[(4, 40)], None);
    }
}
