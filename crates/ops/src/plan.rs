//! `strongroom plan`: what of a vault plans are judged by: how long backups took, how much they added, how long restores take.

use std::time::Duration;

use strongroom_model::estimate::{Measure, Wanted, estimate};
use strongroom_model::lint::Measured;
use strongroom_model::point::Summary;
use strongroom_model::{Cx, SourceName};
use strongroom_vault::Vault;

use crate::error::OpsError;

/// Points that are looked at: the newest. Databases grow.
const NEWEST: usize = 16;

/// Restores that are looked at.
const MEASURES: usize = 16;

/// What was measured of a source, as far as it was. `host` is where a restore would be.
pub async fn measured(cx: &Cx, vault: &Vault, source: &SourceName, host: &str) -> Result<Measured, OpsError> {
    cx.check()?;
    let rows = vault.points(source).await?;
    let mut points: Vec<&Summary> = rows.iter().filter_map(|row| row.restorable()).collect();
    // Names tell the order of points to the second only.
    points.sort_by_key(|point| point.started_at);
    points.drain(..points.len().saturating_sub(NEWEST));
    let Some(newest) = points.last() else { return Ok(Measured::default()) };
    let records = vault.measures(source, MEASURES).await?;
    let measures: Vec<Measure> = records.into_iter().map(|record| record.measure).collect();
    // At worst everything that is written between two points is replayed.
    let replay = journal_between(&points);
    let wanted = Wanted { host, compared: false, pages: newest.bytes, replay: replay.unwrap_or(0) };
    let restore = estimate(&measures, &wanted).seconds().map(|[middle, ..]| Duration::from_secs_f64(middle));
    let whole = points.iter().rev().find(|point| point.parent.is_none());
    Ok(Measured {
        backup: points.iter().map(|point| point.committed_at.since(point.started_at)).max(),
        restore,
        bytes: newest.bytes,
        full: whole.map(|point| point.stored),
        change_a_day: change_a_day(&points),
        wal_a_day: wal_a_day(&points),
    })
}

fn days_between(first: &Summary, last: &Summary) -> Option<f64> {
    let seconds = last.started_at.since(first.started_at).as_secs_f64();
    (seconds > 0.0).then_some(seconds / 86_400.0)
}

/// By points that refer to an earlier one: what they added since then.
fn change_a_day(points: &[&Summary]) -> Option<u64> {
    let added: u64 =
        points.iter().skip(1).filter(|point| point.parent.is_some()).map(|point| point.stored).sum();
    Some((added as f64 / days_between(points.first()?, points.last()?)?) as u64)
}

/// By the positions at which points began, on one lineage.
fn wal_a_day(points: &[&Summary]) -> Option<u64> {
    let last = points.last()?;
    let range = last.journal?;
    let of_lineage = |point: &&&Summary| point.journal.is_some_and(|other| other.lineage == range.lineage);
    let first = points.iter().find(of_lineage)?;
    let written = range.start.0.checked_sub(first.journal?.start.0)?;
    Some((written as f64 / days_between(first, last)?) as u64)
}

/// The most WAL between two points that follow each other.
fn journal_between(points: &[&Summary]) -> Option<u64> {
    let between = |pair: &[&Summary]| {
        let (one, other) = (pair[0].journal?, pair[1].journal?);
        other.start.0.checked_sub(one.start.0).filter(|_| one.lineage == other.lineage)
    };
    points.windows(2).filter_map(between).max()
}

#[cfg(test)]
mod tests {
    use strongroom_model::point::JournalRange;
    use strongroom_model::{Lsn, PointId, SegmentSize, SystemId, Timeline, Timestamp};

    use super::*;

    /// A point of this day of 1970, so many bytes of WAL into its lineage.
    fn point(day: i64, lineage: u64, start: u64, stored: u64) -> Summary {
        let at = Timestamp::from_unix_seconds(day * 86_400).unwrap();
        let id = PointId::new(at, [0; 4]);
        Summary {
            point: id.clone(),
            source: "orders".parse().unwrap(),
            engine: "postgres".into(),
            product: "PostgreSQL 17".into(),
            parent: (day > 1).then_some(id),
            started_at: at,
            stopped_at: at,
            committed_at: at,
            journal: Some(JournalRange {
                lineage: SystemId(lineage),
                timeline: Timeline::FIRST,
                segment_size: SegmentSize::DEFAULT,
                start: Lsn(start),
                stop: Lsn(start + 1),
            }),
            entries: 1,
            bytes: 1000,
            stored,
            packs: 1,
            damaged_pages: 0,
            from_standby: false,
            reading: None,
        }
    }

    #[test]
    fn days_are_measured_between_points() {
        let points = [point(1, 7, 100, 900), point(2, 7, 300, 10), point(5, 7, 900, 30)];
        let of: Vec<&Summary> = points.iter().collect();
        assert_eq!(
            (change_a_day(&of), wal_a_day(&of), journal_between(&of)),
            (Some(10), Some(200), Some(600))
        );
        let one = &of[..1];
        assert_eq!((change_a_day(one), wal_a_day(one), journal_between(one)), (None, None, None));
        // Positions of another lineage tell nothing.
        let points = [point(1, 7, 1 << 40, 900), point(2, 8, 300, 10), point(3, 8, 700, 10)];
        let of: Vec<&Summary> = points.iter().collect();
        assert_eq!((wal_a_day(&of), journal_between(&of)), (Some(400), Some(400)));
    }
}
