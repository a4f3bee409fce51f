//! Which point a restore starts from, drawn.

use super::*;
use crate::SourceName;
use crate::journal::Journal;
use crate::point::JournalRange;
use crate::segment::{SegmentSize, WalFile};
use crate::target::TargetAction;

const SIZE: u64 = 16 << 20;

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + second).unwrap()
}

/// A point that started in segment `from` of timeline `timeline` and became consistent in segment `to`, at second `to`.
fn point(timeline: u32, from: u64, to: u64) -> Summary {
    let source: SourceName = "orders".parse().unwrap();
    Summary {
        point: PointId::new(at(to as i64), [timeline as u8; 4]),
        source,
        engine: "postgres".into(),
        product: "PostgreSQL 17".into(),
        parent: None,
        started_at: at(from as i64),
        stopped_at: at(to as i64),
        committed_at: at(to as i64),
        journal: Some(JournalRange {
            lineage: SystemId(1),
            timeline: Timeline::new(timeline).unwrap(),
            segment_size: SegmentSize::DEFAULT,
            start: Lsn(from * SIZE + 40),
            stop: Lsn(to * SIZE + 400),
        }),
        entries: 1,
        bytes: 1,
        stored: 1,
        packs: 1,
        damaged_pages: 0,
        from_standby: false,
        reading: None,
    }
}

fn journal(picture: &[&str], histories: &[(u32, &[(u32, u64)])]) -> Journal {
    let mut files = Vec::new();
    for (id, line) in (1..).zip(picture) {
        let timeline = Timeline::new(id).unwrap();
        let there = line.chars().enumerate().filter(|(_, c)| *c == '#');
        files.extend(
            there.map(|(n, _)| {
                WalFile::Segment(WalSegment::numbered(timeline, n as u64, SegmentSize::DEFAULT))
            }),
        );
    }
    let histories = histories.iter().map(|(id, ancestors)| TimelineHistory {
        timeline: Timeline::new(*id).unwrap(),
        ancestors: ancestors.iter().map(|(id, lsn)| (Timeline::new(*id).unwrap(), Lsn(*lsn))).collect(),
    });
    Journal::new(SystemId(1), SegmentSize::DEFAULT, files, histories)
}

fn to(target: RecoveryTarget) -> RestoreRequest {
    RestoreRequest {
        target,
        inclusive: true,
        timeline: TimelineChoice::Latest,
        action: TargetAction::Promote,
    }
}

/// The second of the chosen point's end, or the error's text.
fn chosen(
    points: &[Summary],
    journal: &Journal,
    request: &RestoreRequest,
    last: Option<Timestamp>,
) -> Result<i64, String> {
    let candidates: Vec<Candidate<'_>> =
        points.iter().filter_map(|summary| Candidate::new(summary, journal)).collect();
    let plan = plan_restore(&candidates, request, None, &|_, _| last).map_err(|error| error.to_string())?;
    Ok(plan.point.stopped_at.unix_seconds() - 1_800_000_000)
}

#[test]
fn the_newest_point_before_the_target_is_chosen() {
    let points = [point(1, 1, 2), point(1, 4, 5), point(1, 7, 8)];
    let journal = journal(&["##########"], &[]);
    let lsn = |segment: u64| RecoveryTarget::Lsn(Lsn(segment * SIZE + 1000));
    for (target, second) in [
        (RecoveryTarget::Latest, Ok(8)),
        (RecoveryTarget::Immediate, Ok(8)),
        (RecoveryTarget::Time(at(8)), Ok(8)),
        (RecoveryTarget::Time(at(7)), Ok(5)),
        (RecoveryTarget::Time(at(3)), Ok(2)),
        (lsn(9), Ok(8)),
        (lsn(6), Ok(5)),
        (RecoveryTarget::Xid(7), Ok(8)),
        (RecoveryTarget::Name("before".into()), Ok(8)),
    ] {
        assert_eq!(chosen(&points, &journal, &to(target.clone()), Some(at(9))), second, "{target}");
    }
}

#[test]
fn a_target_outside_every_window_is_refused() {
    let points = [point(1, 1, 2)];
    let journal = journal(&["#####"], &[]);
    let refused = |target| chosen(&points, &journal, &to(target), Some(at(4))).unwrap_err();
    assert!(refused(RecoveryTarget::Time(at(1))).contains("before every recovery point"));
    assert!(refused(RecoveryTarget::Time(at(5))).contains("behind the end of the journal"));
    assert!(refused(RecoveryTarget::Lsn(Lsn(5 * SIZE + 1))).contains("behind the end of the journal"));
    assert!(refused(RecoveryTarget::Lsn(Lsn(8))).contains("before every recovery point"));
    assert!(
        chosen(&[], &journal, &to(RecoveryTarget::Latest), None).unwrap_err().contains("no recovery point")
    );
}

#[test]
fn a_point_whose_own_journal_has_a_gap_is_passed_over() {
    let points = [point(1, 1, 2), point(1, 4, 6)];
    let journal = journal(&["##### ####"], &[]);
    assert_eq!(chosen(&points, &journal, &to(RecoveryTarget::Immediate), None), Ok(2));
    let alone = chosen(&points[1..], &journal, &to(RecoveryTarget::Immediate), None).unwrap_err();
    assert!(alone.contains("needs WAL segment 000000010000000000000005"), "{alone}");
}

#[test]
fn a_gap_between_point_and_target_is_refused_and_reported() {
    let points = [point(1, 1, 2)];
    let journal = journal(&["#### ####"], &[]);
    let error = chosen(&points, &journal, &to(RecoveryTarget::Lsn(Lsn(6 * SIZE))), None).unwrap_err();
    assert!(error.contains("it ends at 0/4000000"), "{error}");
    let candidates = [Candidate::new(&points[0], &journal).unwrap()];
    let plan = plan_restore(&candidates, &to(RecoveryTarget::Latest), None, &|_, _| None).unwrap();
    assert!(
        plan.notes.iter().any(|note| note.contains("000000010000000000000004 is missing")),
        "{:?}",
        plan.notes
    );
    assert_eq!(pitr_windows(&candidates, &|_| None)[0].gap.as_deref(), Some("000000010000000000000004"));
}

#[test]
fn the_timeline_is_resolved_before_anything_is_touched() {
    let points = [point(1, 1, 2)];
    let branched = journal(&["#####  ", "   ####"], &[(2, &[(1, 3 * SIZE + 8)])]);
    let plan = |choice| {
        let candidates = [Candidate::new(&points[0], &branched).unwrap()];
        let request = RestoreRequest { timeline: choice, ..to(RecoveryTarget::Latest) };
        plan_restore(&candidates, &request, None, &|_, _| None)
            .map(|plan| (plan.timeline.get(), plan.reach.end.0 / SIZE))
    };
    let id = |id| TimelineChoice::Id(Timeline::new(id).unwrap());
    assert_eq!(plan(TimelineChoice::Latest), Ok((2, 7)));
    assert_eq!(plan(TimelineChoice::Current), Ok((1, 5)));
    assert_eq!(plan(id(1)), Ok((1, 5)));
    assert!(matches!(plan(id(3)), Err(PlanError::Timeline { .. })), "no history of timeline 3");
    // A point that became consistent after timeline 2 branched off cannot lead to it.
    let late = [point(1, 3, 4)];
    let candidates = [Candidate::new(&late[0], &branched).unwrap()];
    let error = plan_restore(&candidates, &to(RecoveryTarget::Latest), None, &|_, _| None).unwrap_err();
    assert!(matches!(error, PlanError::Timeline { .. }), "{error}");
}

#[test]
fn an_unrestorable_point_asked_for_by_name_is_an_error() {
    let points = [point(1, 1, 2)];
    let journal = journal(&["#####"], &[]);
    let candidates = [Candidate::new(&points[0], &journal).unwrap()];
    let other = PointId::new(at(99), [9; 4]);
    let error =
        plan_restore(&candidates, &to(RecoveryTarget::Latest), Some(&other), &|_, _| None).unwrap_err();
    assert_eq!(error, PlanError::NotRestorable(other));
}

/// A dump is nobody's candidate, and no folder's; a copy of files is no dump.
#[test]
fn a_dump_is_chosen_by_its_moment() {
    let dump = |second| Summary { journal: None, engine: "toy-dump".into(), ..point(1, second, second) };
    let files = point(1, 3, 4);
    let points = [dump(2), files.clone(), dump(8), dump(5)];
    let journal = journal(&["##########"], &[]);
    assert_eq!(points.iter().filter_map(|summary| Candidate::new(summary, &journal)).count(), 1);
    let chosen = |target, only: Option<&PointId>| {
        let dump = plan_dump(&points, &target, only)?;
        Ok::<i64, PlanError>(dump.stopped_at.unix_seconds() - 1_800_000_000)
    };
    assert_eq!(chosen(RecoveryTarget::Latest, None), Ok(8));
    assert_eq!(chosen(RecoveryTarget::Time(at(8)), None), Ok(8));
    assert_eq!(chosen(RecoveryTarget::Time(at(7)), None), Ok(5));
    assert_eq!(chosen(RecoveryTarget::Time(at(7)), Some(&points[0].point)), Ok(2));
    assert!(matches!(chosen(RecoveryTarget::Time(at(1)), None), Err(PlanError::TooEarly { .. })));
    let later = chosen(RecoveryTarget::Time(at(7)), Some(&points[2].point));
    assert!(matches!(later, Err(PlanError::TooEarly { .. })));
    for target in [RecoveryTarget::Lsn(Lsn(1)), RecoveryTarget::Xid(7), RecoveryTarget::Name("x".into())] {
        assert!(matches!(chosen(target, None), Err(PlanError::NoJournal { .. })));
    }
    let named = chosen(RecoveryTarget::Latest, Some(&files.point));
    assert_eq!(named, Err(PlanError::NotADump(files.point.clone())));
    let nowhere = PointId::new(at(99), [9; 4]);
    assert_eq!(chosen(RecoveryTarget::Latest, Some(&nowhere)), Err(PlanError::NotRestorable(nowhere)));
    assert_eq!(plan_dump(&[], &RecoveryTarget::Latest, None), Err(PlanError::NoPoint));
    let only_files = plan_dump([&files], &RecoveryTarget::Latest, None);
    assert_eq!(only_files, Err(PlanError::NotADump(files.point.clone())));
}

proptest::proptest! {
    /// Whatever is there and asked for: a plan's point precedes the target, and its journal reaches beyond its end.
    #[test]
    fn a_plan_never_promises_what_is_not_there(
        line in "[# ]{12}", ends in proptest::collection::vec((0u64..10, 1u64..3), 0..5), target in 0i64..14,
    ) {
        let points: Vec<Summary> = ends.iter().map(|(from, length)| point(1, *from, from + length)).collect();
        let journal = journal(&[&line], &[]);
        let candidates: Vec<Candidate<'_>> = points.iter().filter_map(|summary| Candidate::new(summary, &journal)).collect();
        if let Ok(plan) = plan_restore(&candidates, &to(RecoveryTarget::Time(at(target))), None, &|_, _| None) {
            proptest::prop_assert!(plan.point.stopped_at <= at(target));
            let (first, last) = plan.range.segments();
            for number in first.number(SegmentSize::DEFAULT).unwrap()..=last.number(SegmentSize::DEFAULT).unwrap() {
                proptest::prop_assert_eq!(line.as_bytes()[number as usize], b'#');
            }
        }
    }
}

#[test]
fn a_moment_is_compared_with_the_end_of_its_own_lineage() {
    let (of_first, first) = (point(1, 2, 3), journal(&["--####"], &[]));
    let mut of_second = point(1, 12, 13);
    of_second.journal = of_first.journal.map(|range| JournalRange { lineage: SystemId(2), ..range });
    let files = (2..6).map(|n| WalSegment::numbered(Timeline::FIRST, n, SegmentSize::DEFAULT));
    let second = Journal::new(SystemId(2), SegmentSize::DEFAULT, files.map(WalFile::Segment), []);
    let candidates = [(&of_first, &first), (&of_second, &second)]
        .map(|(summary, journal)| Candidate::new(summary, journal).unwrap());
    let ended = |lineage: SystemId, _: &Reach| Some(at(lineage.0 as i64 * 10));
    let plan = |only: &Summary| {
        plan_restore(&candidates, &to(RecoveryTarget::Time(at(15))), Some(&only.point), &ended)
    };
    assert_eq!(plan(&of_second).unwrap().point.point, of_second.point);
    assert!(matches!(plan(&of_first), Err(PlanError::TooLate { .. })));
}
