//! What goes and what stays, as tables; and the promises, by properties.

use proptest::prelude::*;

use super::*;
use crate::point::{Intent, JournalRange};
use crate::segment::{SegmentSize, WalFile};
use crate::{Lsn, SourceName, Timeline};

const SIZE: u64 = 16 << 20;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// 2026-11-20 00:00:00 UTC, a Friday.
const NOW: i64 = 1_795_132_800;

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_seconds(second).unwrap()
}

/// A point of this lineage that began in segment `segment` and became consistent in it, at `second`.
fn point(lineage: u64, segment: u64, second: i64) -> PointState {
    let source: SourceName = "orders".parse().unwrap();
    PointState::Committed {
        summary: Box::new(Summary {
            point: PointId::new(at(second), (segment as u32).to_be_bytes()),
            source,
            engine: "postgres".into(),
            product: "PostgreSQL 17".into(),
            parent: None,
            started_at: at(second),
            stopped_at: at(second),
            committed_at: at(second),
            journal: Some(JournalRange {
                lineage: SystemId(lineage),
                timeline: Timeline::FIRST,
                segment_size: SegmentSize::DEFAULT,
                start: Lsn(segment * SIZE + 40),
                stop: Lsn(segment * SIZE + 400),
            }),
            entries: 1,
            bytes: 1,
            stored: 1,
            packs: 1,
            damaged_pages: 0,
            from_standby: false,
            reading: None,
        }),
    }
}

fn id(state: &PointState) -> PointId {
    match state {
        PointState::Committed { summary } => summary.point.clone(),
        PointState::Undecided { intent } => intent.point.clone(),
        other => panic!("{other:?} has no id of its own"),
    }
}

fn journal(lineage: u64, segments: impl IntoIterator<Item = u64>) -> Journal {
    let file = |n| WalFile::Segment(WalSegment::numbered(Timeline::FIRST, n, SegmentSize::DEFAULT));
    let files: Vec<WalFile> = segments.into_iter().map(file).collect();
    Journal::new(SystemId(lineage), SegmentSize::DEFAULT, files, [])
}

fn plan(states: &[PointState], journals: &[Journal], retention: &Retention) -> ExpiryPlan {
    plan_held(states, journals, retention, &[])
}

fn plan_held(
    states: &[PointState],
    journals: &[Journal],
    retention: &Retention,
    held: &[PointId],
) -> ExpiryPlan {
    plan_shelved(states, journals, retention, (held, &[]))
}

fn plan_shelved(
    states: &[PointState],
    journals: &[Journal],
    retention: &Retention,
    (held, expired): (&[PointId], &[PointId]),
) -> ExpiryPlan {
    let ids: Vec<PointId> = states.iter().map(id).collect();
    let shelved: Vec<Shelved<'_>> = ids
        .iter()
        .zip(states)
        .map(|(point, state)| Shelved {
            point,
            state,
            expired: expired.contains(point),
            held: held.contains(point).then(|| "audit".to_owned()),
        })
        .collect();
    plan_expiry(&shelved, journals, retention, at(NOW)).unwrap()
}

/// Which of the points (by index) go.
fn going(states: &[PointState], plan: &ExpiryPlan) -> Vec<usize> {
    let gone: Vec<&PointId> = plan.expiring().map(|line| &line.point).collect();
    states.iter().enumerate().filter(|(_, state)| gone.contains(&&id(state))).map(|(at, _)| at).collect()
}

/// One point a day for ten days, the last one today; segment n belongs to day n.
fn ten_days() -> Vec<PointState> {
    (0..10).map(|day| point(1, day, NOW - (9 - day as i64) * DAY - HOUR)).collect()
}

#[test]
fn each_rule_keeps_what_it_says() {
    let none = Retention::default();
    for (retention, gone) in [
        (Retention { keep_last: 3, ..none.clone() }, (0..7).collect::<Vec<_>>()),
        (Retention { keep_days: 3, ..none.clone() }, (0..7).collect()),
        (Retention { keep_last: 1, minimum_redundancy: 4, ..none.clone() }, (0..6).collect()),
        (Retention { daily: 2, ..none.clone() }, (0..8).collect()),
        // Points of 10 to 19 November; weeks end on Sunday the 15th, which is point 5.
        (Retention { weekly: 2, ..none.clone() }, vec![0, 1, 2, 3, 4, 6, 7, 8]),
        (Retention { monthly: 5, ..none.clone() }, (0..9).collect()),
        (Retention { yearly: 5, ..none.clone() }, (0..9).collect()),
        // The window begins on the 17th at midnight; the point before it is that of the 16th, 23:00.
        (Retention { pitr_days: 3, ..none.clone() }, (0..6).collect()),
        (Retention { pitr_days: 100, ..none.clone() }, vec![]),
    ] {
        let states = ten_days();
        let plan = plan(&states, &[journal(1, 0..12)], &retention);
        assert_eq!(going(&states, &plan), gone, "{retention:?}\n{plan:#?}");
    }
}

/// A dump taken at `second`.
fn dump(number: u64, second: i64) -> PointState {
    let PointState::Committed { summary } = point(1, number, second) else { unreachable!() };
    PointState::Committed { summary: Box::new(Summary { journal: None, ..*summary }) }
}

#[test]
fn dumps_are_kept_by_the_same_rules_and_by_themselves() {
    let none = Retention::default();
    let ten: Vec<PointState> = (0..10).map(|day| dump(day, NOW - (9 - day as i64) * DAY - HOUR)).collect();
    for (retention, gone) in [
        (Retention { keep_last: 3, ..none.clone() }, (0..7).collect::<Vec<_>>()),
        (Retention { keep_days: 3, ..none.clone() }, (0..7).collect()),
        (Retention { weekly: 2, ..none.clone() }, vec![0, 1, 2, 3, 4, 6, 7, 8]),
        // No window is promised from dumps, and the last one stays all the same.
        (Retention { pitr_days: 100, ..none.clone() }, (0..9).collect()),
    ] {
        let plan = plan(&ten, &[], &retention);
        assert_eq!(going(&ten, &plan), gone, "{retention:?}");
        assert_eq!(plan.notes.len(), usize::from(retention.pitr_days > 0), "{:?}", plan.notes);
        assert_eq!(plan.floors, []);
    }
    // Neither kind takes the other's place.
    let mut both = ten_days();
    both.extend((10..20).map(|day| dump(day, NOW - (19 - day as i64) * DAY - HOUR)));
    let last = Retention { keep_last: 1, ..none };
    let plan = plan(&both, &[journal(1, 0..12)], &last);
    assert_eq!(going(&both, &plan), (0..9).chain(10..19).collect::<Vec<_>>());
    assert_eq!(plan.floors[0].segment.number(SegmentSize::DEFAULT), Some(9));
}

#[test]
fn a_zone_moves_the_ends_of_days() {
    // 23:30 and 00:30 UTC are one day in Berlin, and two in UTC.
    let states = [
        point(1, 0, NOW - 2 * DAY - HOUR / 2),
        point(1, 1, NOW - 2 * DAY + HOUR / 2),
        point(1, 2, NOW - HOUR),
    ];
    let retention = Retention { daily: 2, ..Retention::default() };
    assert_eq!(going(&states, &plan(&states, &[journal(1, 0..9)], &retention)), [0]);
    let three = Retention { daily: 3, ..retention.clone() };
    assert_eq!(going(&states, &plan(&states, &[journal(1, 0..9)], &three)), Vec::<usize>::new());
    let berlin = Retention { timezone: "Europe/Berlin".into(), ..three };
    assert_eq!(going(&states, &plan(&states, &[journal(1, 0..9)], &berlin)), [0]);
}

#[test]
fn the_untouchable_stay() {
    let retention = Retention { keep_last: 1, ..Retention::default() };
    let mut states = ten_days();
    let held = id(&states[2]);
    let plan = plan_held(&states, &[journal(1, 0..12)], &retention, &[held]);
    assert_eq!(going(&states, &plan), [0, 1, 3, 4, 5, 6, 7, 8]);
    assert_eq!(plan.lines[2].why, ["held: audit"]);
    // A clock that ran ahead neither lets its own point go nor pushes out the true newest.
    states.push(point(1, 10, NOW + 400 * DAY));
    let plan = plan_held(&states, &[journal(1, 0..12)], &retention, &[]);
    assert_eq!(going(&states, &plan), (0..9).collect::<Vec<_>>());
    assert_eq!(plan.lines[10].why, ["its time lies ahead of this clock"]);
}

#[test]
fn a_point_without_its_wal_is_no_good_point() {
    let states = ten_days();
    let retention = Retention { keep_last: 2, ..Retention::default() };
    // The segments of the last two days are lost.
    let plan = plan(&states, &[journal(1, 0..8)], &retention);
    assert_eq!(going(&states, &plan), [0, 1, 2, 3, 4, 5, 8, 9]);
}

#[test]
fn behaviour_an_older_cluster_never_looks_newest() {
    // The old cluster's clock ran ahead by a day; then came a pg_upgrade.
    let old = [point(7, 0, NOW - 30 * DAY), point(7, 1, NOW - HOUR)];
    let new = [point(8, 0, NOW - 3 * DAY), point(8, 1, NOW - 2 * DAY)];
    let states = [old, new].concat();
    let journals = [journal(7, 0..3), journal(8, 0..3)];
    let one = Retention { keep_last: 1, ..Retention::default() };
    assert_eq!(going(&states, &plan(&states, &journals, &one)), [0, 1, 2]);
    // The new cluster does not reach back far enough yet: the old one keeps the promise.
    let window = Retention { pitr_days: 20, ..Retention::default() };
    assert_eq!(going(&states, &plan(&states, &journals, &window)), Vec::<usize>::new());
}

#[test]
fn wal_goes_below_what_is_kept() {
    let states = ten_days();
    let floor = |retention: &Retention| {
        plan(&states, &[journal(1, 0..12)], retention)
            .floors
            .iter()
            .map(|line| (line.segment.number(SegmentSize::DEFAULT).unwrap(), line.below))
            .collect::<Vec<_>>()
    };
    assert_eq!(floor(&Retention { keep_last: 3, ..Retention::default() }), [(7, 7)]);
    // The year's point is kept for itself; the journal serves the window.
    assert_eq!(floor(&Retention { keep_days: 30, pitr_days: 3, ..Retention::default() }), [(6, 6)]);
    assert_eq!(floor(&Retention { keep_days: 30, ..Retention::default() }), []);
}

#[test]
fn all_wal_of_a_lineage_that_kept_no_point_goes() {
    let states = [point(7, 1, NOW - 30 * DAY), point(8, 1, NOW - HOUR)];
    let journals = [journal(7, [0, 1, 2, 5, 6]), journal(8, 1..3)];
    let plan = plan(&states, &journals, &Retention { keep_last: 1, ..Retention::default() });
    assert_eq!(going(&states, &plan), [0]);
    let [floor] = &plan.floors[..] else { panic!("{plan:?}") };
    assert_eq!(floor.lineage, SystemId(7));
    assert_eq!((floor.segment.number(SegmentSize::DEFAULT).unwrap(), floor.below), (7, 5));
}

#[test]
fn what_expired_before_neither_counts_nor_is_planned_again() {
    let states = ten_days();
    let expired: Vec<PointId> = [0, 8, 9].map(|at| id(&states[at])).into();
    let retention = Retention { keep_last: 1, ..Retention::default() };
    let plan = plan_shelved(&states, &[journal(1, 0..12)], &retention, (&[], &expired));
    assert_eq!(going(&states, &plan), (1..7).collect::<Vec<_>>());
    assert!(plan.lines.iter().all(|line| !expired.contains(&line.point)), "{plan:?}");
}

#[test]
fn the_reasons_are_told() {
    let states = ten_days();
    let retention = Retention { keep_days: 1, minimum_redundancy: 2, ..Retention::default() };
    let plan = plan(&states, &[journal(1, 0..12)], &retention);
    assert_eq!(plan.lines[9].why, ["keep_days = 1", "the last good point"]);
    assert_eq!(plan.lines[8].why, ["minimum_redundancy = 2"]);
    assert_eq!(plan.lines[7].why, ["no rule keeps it"]);
}

#[test]
fn of_points_at_the_very_same_moment_the_later_one_stays() {
    let one = Retention { keep_last: 1, ..Retention::default() };
    let now = [point(1, 0, NOW), point(1, 1, NOW)];
    assert_eq!(going(&now, &plan(&now, &[journal(1, 0..9)], &one)), [0], "now is not ahead of now");
    // The window's very first moment can be reached from either.
    let begin = [point(1, 0, NOW - 3 * DAY), point(1, 1, NOW - 3 * DAY), point(1, 2, NOW - HOUR)];
    let window = Retention { pitr_days: 3, ..Retention::default() };
    assert_eq!(going(&begin, &plan(&begin, &[journal(1, 0..9)], &window)), [0]);
}

#[test]
fn an_older_cluster_goes_once_the_newer_one_keeps_the_window_alone() {
    let states = [point(7, 0, NOW - 30 * DAY), point(8, 0, NOW - 10 * DAY), point(8, 1, NOW - HOUR)];
    let journals = [journal(7, 0..3), journal(8, 0..3)];
    let gone = |pitr_days| {
        let retention = Retention { pitr_days, ..Retention::default() };
        going(&states, &plan(&states, &journals, &retention))
    };
    assert_eq!((gone(5), gone(20)), (vec![0], vec![]));
}

#[test]
fn no_wal_goes_while_a_point_is_being_written() {
    let mut states = ten_days();
    let point = PointId::new(at(NOW - 60), [9; 4]);
    let source: SourceName = "orders".parse().unwrap();
    let (engine, host, tool) = ("postgres".into(), String::new(), String::new());
    let intent =
        Intent { point, source, engine, parent: None, began_at: at(NOW - 60), host, tool, copied_at: None };
    states.push(PointState::Undecided { intent });
    let retention = Retention { keep_last: 1, ..Retention::default() };
    let plan = plan(&states, &[journal(1, 0..12)], &retention);
    assert_eq!(going(&states, &plan), (0..9).collect::<Vec<_>>());
    assert!(plan.floors.is_empty() && plan.notes.len() == 1, "{plan:?}");
}

fn any_retention() -> impl Strategy<Value = Retention> {
    let count = || 0..4u32;
    (count(), 0..40u32, count(), count(), count(), count(), 0..40u32, 0..4u32).prop_map(
        |(keep_last, keep_days, daily, weekly, monthly, yearly, pitr_days, minimum_redundancy)| Retention {
            keep_last: if keep_days + daily + weekly + monthly + yearly + pitr_days == 0 {
                1
            } else {
                keep_last
            },
            keep_days,
            daily,
            weekly,
            monthly,
            yearly,
            pitr_days,
            minimum_redundancy,
            timezone: "America/New_York".into(),
        },
    )
}

/// Points of up to 400 days in order of their segments, and a journal with holes.
fn any_points() -> impl Strategy<Value = (Vec<PointState>, Vec<u64>)> {
    let points = proptest::collection::btree_set(0..400i64 * 24, 1..30);
    (points, proptest::collection::vec(any::<u8>(), 31)).prop_map(|(hours, lost)| {
        let states =
            hours.iter().zip(0..).map(|(hour, n)| point(1, n, NOW - 400 * DAY + hour * HOUR)).collect();
        let there = lost.iter().zip(0..).filter(|(lost, _)| **lost > 20).map(|(_, n)| n).collect();
        (states, there)
    })
}

proptest! {
    #[test]
    fn the_promises_hold((states, segments) in any_points(), retention in any_retention()) {
        let journals = [journal(1, segments.iter().copied())];
        let before = plan(&states, &journals, &retention);
        let gone: Vec<PointId> = before.expiring().map(|line| line.point.clone()).collect();
        let stay: Vec<PointState> = states.iter().filter(|state| !gone.contains(&id(state))).cloned().collect();
        let usable = |state: &&PointState| match state {
            PointState::Committed { summary } => segments.contains(&(summary.journal.unwrap().start.0 / SIZE)),
            _ => false,
        };
        // As many good points as are promised, or all there are.
        let good = states.iter().filter(usable).count();
        let left = stay.iter().filter(usable).count();
        prop_assert!(left >= good.min(retention.minimum_redundancy.max(1) as usize));
        // The newest good point stays.
        if let Some(newest) = states.iter().rev().find(usable) {
            prop_assert!(!gone.contains(&id(newest)));
        }
        // Every moment of the window that could be restored before can be restored after, from the same base or a later one.
        let stopped = |state: &PointState| match state { PointState::Committed { summary } => summary.stopped_at, _ => at(NOW) };
        if retention.pitr_days > 0 {
            for hours in 0..i64::from(retention.pitr_days) * 24 {
                let moment = at(NOW - hours * HOUR);
                let base = |states: &[PointState]| states.iter().rev().filter(usable).find(|state| stopped(state) <= moment).map(id);
                prop_assert_eq!(base(&states), base(&stay), "{} hours ago", hours);
            }
        }
        // What was planned once is not planned again.
        let again = plan(&stay, &journals, &retention);
        prop_assert_eq!(again.expiring().count(), 0);
        // No WAL goes that a kept point's replay begins with, unless only its own copy needs it.
        for floor in &before.floors {
            let number = floor.segment.number(SegmentSize::DEFAULT).unwrap();
            if retention.pitr_days == 0 {
                for state in &stay {
                    let PointState::Committed { summary } = state else { continue };
                    prop_assert!(summary.journal.unwrap().start.0 / SIZE >= number);
                }
            }
        }
    }

    #[test]
    fn keeping_longer_never_lets_more_go((states, segments) in any_points(), retention in any_retention()) {
        let journals = [journal(1, segments.iter().copied())];
        let gone = |retention: &Retention| -> Vec<usize> { going(&states, &plan(&states, &journals, retention)) };
        let more = [
            Retention { keep_last: retention.keep_last + 1, ..retention.clone() },
            Retention { keep_days: retention.keep_days + 5, ..retention.clone() },
            Retention { weekly: retention.weekly + 1, ..retention.clone() },
            Retention { yearly: retention.yearly + 1, ..retention.clone() },
            Retention { pitr_days: retention.pitr_days + 5, ..retention.clone() },
            Retention { minimum_redundancy: retention.minimum_redundancy + 1, ..retention.clone() },
        ];
        let before = gone(&retention);
        for retention in more {
            let after = gone(&retention);
            prop_assert!(after.iter().all(|point| before.contains(point)), "{:?}: {:?} {:?}", retention, before, after);
        }
    }
}
