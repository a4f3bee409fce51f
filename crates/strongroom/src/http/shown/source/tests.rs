//! What verbs say is read, and told in words.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use serde_json::json;
use strongroom_model::point::{JournalRange, PointState};
use strongroom_model::restore_plan::PitrWindow;
use strongroom_model::tier::StorageClass;
use strongroom_model::{Lsn, SegmentSize, SystemId, Timeline};
use strongroom_ops::list::SourceListing;
use strongroom_vault::catalog::PointRow;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + seconds).unwrap()
}

fn id(number: u8) -> PointId {
    PointId::new(at(i64::from(number)), [0, 0, 0, number])
}

fn summary(number: u8, is_dump: bool) -> Summary {
    let segment_size = SegmentSize::new(1 << 24).unwrap();
    let range = JournalRange {
        lineage: SystemId(7),
        timeline: Timeline::new(1).unwrap(),
        segment_size,
        start: Lsn(0),
        stop: Lsn(9),
    };
    Summary {
        point: id(number),
        source: "orders".parse().unwrap(),
        engine: "postgres".into(),
        product: "PostgreSQL 15".into(),
        parent: None,
        started_at: at(0),
        stopped_at: at(i64::from(number)),
        committed_at: at(100),
        journal: (!is_dump).then_some(range),
        entries: 1,
        bytes: 100,
        stored: 10,
        packs: 1,
        damaged_pages: u64::from(number == 6),
        from_standby: false,
        reading: None,
    }
}

fn row(number: u8, state: PointState) -> PointRow {
    PointRow { point: id(number), state, expired: number == 5, held: number == 3 }
}

fn window(number: u8, gap: bool) -> PitrWindow {
    PitrWindow {
        point: id(number),
        timeline: Timeline::new(1).unwrap(),
        from: at(i64::from(number)),
        from_lsn: Lsn(1),
        to_lsn: Lsn(2),
        to: Some(at(50)),
        gap: gap.then(|| "00000001000000000000000A".to_owned()),
    }
}

/// What `list` says is read here, with every state that a point can have.
#[test]
fn what_list_says_is_understood_and_told_in_words() {
    let committed = |number, is_dump| PointState::Committed { summary: Box::new(summary(number, is_dump)) };
    let unreadable = PointState::Unreadable { object: "o".into(), why: "forged".into() };
    let listing = SourceListing {
        source: "orders".parse().unwrap(),
        points: vec![
            row(1, committed(1, false)),
            row(2, committed(2, false)),
            row(3, committed(3, false)),
            row(4, committed(4, true)),
            row(5, committed(5, true)),
            row(6, committed(6, true)),
            row(7, PointState::Abandoned { why: "w".into() }),
            row(8, PointState::Revoked { by: "b".into() }),
            row(9, unreadable),
            row(10, committed(10, false)),
            row(11, committed(11, true)),
        ],
        windows: vec![window(1, false), window(2, true), window(3, false)],
        frozen: BTreeMap::from([(id(11), StorageClass::DeepArchive)]),
    };
    let listed: Listed = serde_json::from_value(serde_json::to_value(&listing).unwrap()).unwrap();
    let said: Vec<(String, bool, bool)> = point_lines(&listed)
        .into_iter()
        .rev()
        .map(|line| (line.state, line.is_sound, line.is_restorable))
        .collect();
    let expected = [
        ("ok", true, true),
        ("gap at 00000001000000000000000A", false, true),
        ("held", true, true),
        ("ok", true, true),
        ("expired", true, false),
        ("source was damaged", false, true),
        ("abandoned", true, false),
        ("revoked", true, false),
        ("unreadable: forged", false, false),
        ("lacks WAL", false, false),
        ("frozen in DEEP_ARCHIVE: thaw it first", true, true),
    ];
    assert_eq!(said, expected.map(|(state, sound, restorable)| (state.to_owned(), sound, restorable)));
    let band = band(&listed, at(60)).unwrap();
    assert_eq!(band.ticks.len(), 7);
    assert_eq!(band.ticks.iter().filter(|tick| tick.held).count(), 1);
}

/// Holds that ended, by a hand or by their date, are not shown as if they held.
#[test]
fn only_holds_in_force_are_shown() {
    let hold = |until: Option<i64>, released: bool| {
        let record = json!({ "reason": "r", "owner": "o", "at": at(-100), "until": until.map(at) });
        let end = json!({ "reason": "r", "owner": "o", "at": at(-50), "until": null });
        json!({ "point": id(1), "id": "x", "placed": record, "released": released.then_some(end) })
    };
    let held = json!([{ "source": "orders", "holds": [hold(None, false), hold(Some(5), false), hold(Some(-5), false), hold(None, true)] }]);
    let held: Vec<Held> = serde_json::from_value(held).unwrap();
    assert_eq!(hold_lines(&held, at(0)).len(), 2);
}

/// Nothing that was not read looks as if it were well.
#[test]
fn what_is_not_known_says_so() {
    let drills = drills(&Told::Asking, None);
    assert_eq!((drills.knowledge, drills.drills.len(), drills.median_seconds), (Knowledge::Asking, 0, None));
    let silent = super::drills(&Told::Silent("gone".into()), Some(1.0));
    assert_eq!(silent.knowledge, Knowledge::NotRead { why: "gone".into() });
}
