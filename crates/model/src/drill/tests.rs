//! What is drawn, what a statement reads as, and what drills say together.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::position::{Lsn, Timeline};

fn at(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(1_800_000_000_000_000 + micros).unwrap()
}

fn source() -> SourceName {
    "orders".parse().unwrap()
}

fn window(from: i64, to: Option<i64>) -> PitrWindow {
    PitrWindow {
        point: PointId::new(at(from), [7; 4]),
        timeline: Timeline::FIRST,
        from: at(from),
        from_lsn: Lsn(0),
        to_lsn: Lsn(1),
        to: to.map(at),
        gap: None,
    }
}

fn point(second: i64) -> Summary {
    Summary {
        point: PointId::new(at(second * 1_000_000), [second as u8; 4]),
        source: source(),
        engine: "postgres".into(),
        product: "PostgreSQL 17".into(),
        parent: None,
        started_at: at(second),
        stopped_at: at(second),
        committed_at: at(second),
        journal: None,
        entries: 1,
        bytes: 1,
        stored: 1,
        packs: 1,
        damaged_pages: 0,
        from_standby: false,
        reading: None,
    }
}

fn time_drawn(seed: u64, windows: &[PitrWindow]) -> Result<i64, ChoiceError> {
    let chosen = choose(&Choice::RandomTime(seed), &source(), &[], windows)?;
    let RecoveryTarget::Time(time) = chosen.target else { panic!("{chosen:?}") };
    Ok(time.0.as_microsecond() - 1_800_000_000_000_000)
}

#[test]
fn every_second_of_the_windows_is_drawn_and_no_other() {
    // Two that overlap, one apart, one that ends where it begins, one whose end nobody knows.
    let windows = [
        window(500_000, Some(4_000_000)),
        window(2_000_000, Some(5_100_000)),
        window(9_000_000, Some(11_000_000)),
        window(20_000_000, Some(20_000_000)),
        window(30_000_000, None),
    ];
    let drawn: std::collections::BTreeSet<i64> =
        (0..500).map(|seed| time_drawn(seed, &windows).unwrap() / 1_000_000).collect();
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 9, 10]);
    assert_eq!(time_drawn(7, &windows[3..]), Err(ChoiceError::NoWindow(source())));
    assert_eq!(time_drawn(7, &[window(100, Some(999_999))]), Err(ChoiceError::NoWindow(source())));
}

#[test]
fn every_point_is_drawn_whatever_their_order() {
    let points: Vec<Summary> = (1..6).map(point).collect();
    let (forth, back): (Vec<&Summary>, Vec<&Summary>) =
        (points.iter().collect(), points.iter().rev().collect());
    let draw = |seed, points: &[&Summary]| {
        let chosen = choose(&Choice::RandomPoint(seed), &source(), points, &[]).unwrap();
        assert_eq!(chosen.target, RecoveryTarget::Immediate);
        chosen.point.unwrap()
    };
    let drawn: std::collections::BTreeSet<PointId> = (0..200).map(|seed| draw(seed, &forth)).collect();
    assert_eq!(drawn.len(), 5);
    assert!((0..50).all(|seed| draw(seed, &forth) == draw(seed, &back)));
    let none = choose(&Choice::RandomPoint(1), &source(), &[], &[]);
    assert_eq!(none, Err(ChoiceError::NoPoint(source())));
}

#[test]
fn what_is_said_is_taken() {
    let chosen = |choice: Choice| choose(&choice, &source(), &[], &[]).unwrap();
    assert_eq!(chosen(Choice::Latest), Chosen { point: None, target: RecoveryTarget::Latest });
    let time = Chosen { point: None, target: RecoveryTarget::Time(at(1)) };
    assert_eq!(chosen(Choice::Time(at(1))), time);
}

fn drill(second: i64, rto: Option<f64>, outcome: DrillOutcome) -> Drill {
    Drill {
        drill: SHAPE,
        vault: "v".into(),
        source: source(),
        point: point(1).point,
        product: "PostgreSQL 17".into(),
        chosen: Choice::Latest,
        target: RecoveryTarget::Latest,
        reached: None,
        began_at: at(second * 1_000_000),
        ended_at: at(second * 1_000_000 + 1),
        host: "h".into(),
        tool: "t".into(),
        server: None,
        phases: Vec::new(),
        rto_seconds: rto,
        objective_seconds: None,
        checks: Vec::new(),
        outcome,
        why: None,
    }
}

/// Recovery times; the last, the middle one, the worst and the trend.
fn check(seconds: &[f64], expected: (f64, f64, f64), trend: Option<Trend>) {
    let drills: Vec<Drill> =
        (1..).zip(seconds).map(|(at, rto)| drill(at, Some(*rto), DrillOutcome::Passed)).collect();
    let found = history(&drills);
    let figures = (found.last_seconds, found.median_seconds, found.worst_seconds);
    assert_eq!(figures, (Some(expected.0), Some(expected.1), Some(expected.2)), "{seconds:?}");
    assert_eq!(found.trend, trend, "{seconds:?}");
}

#[test]
fn drills_together_say_last_middle_worst_and_where_it_goes() {
    check(&[3.0], (3.0, 3.0, 3.0), None);
    check(&[3.0, 1.0], (1.0, 3.0, 3.0), None);
    check(&[1.0, 1.0, 2.0, 2.0], (2.0, 2.0, 2.0), Some(Trend::Rising));
    check(&[4.0, 4.0, 2.0, 2.0], (2.0, 4.0, 4.0), Some(Trend::Falling));
    check(&[4.0, 4.1, 4.0, 4.1], (4.1, 4.1, 4.1), Some(Trend::Steady));
    assert_eq!(history(&[]), DrillHistory::default());
    let mixed = [
        drill(1, Some(2.0), DrillOutcome::Passed),
        drill(2, Some(f64::NAN), DrillOutcome::Failed),
        drill(3, None, DrillOutcome::Interrupted),
    ];
    let found = history(&mixed);
    assert_eq!((found.drills, found.passed, found.last_seconds), (3, 1, Some(2.0)));
    assert_eq!((found.last_passed_at, found.last_at), (Some(mixed[0].ended_at), Some(mixed[2].ended_at)));
}

#[test]
fn only_slow_is_told_from_wrong() {
    let with = |failed: &[&str], why: Option<&str>| {
        let check = |name: &&str| Check {
            name: (*name).into(),
            outcome: CheckOutcome::Failed,
            seconds: 0.0,
            detail: String::new(),
        };
        let checks = failed.iter().map(check).collect();
        Drill { checks, why: why.map(str::to_owned), ..drill(1, None, DrillOutcome::Failed) }.is_only_slow()
    };
    assert!(with(&["rto"], None));
    assert!(!with(&["rto", "sql 1"], None) && !with(&["sql 1"], None) && !with(&[], None));
    assert!(!with(&["rto"], Some("it broke")));
}

/// The words are a promise: a statement of today is read for ever.
#[test]
fn a_statement_has_these_words() {
    let phase = Phase { name: "write".into(), seconds: 1.5, bytes: Some(8192), in_rto: true };
    let answer = Answer::not_run("there is none");
    let check =
        Check { name: "amcheck".into(), outcome: answer.outcome, seconds: 0.25, detail: answer.detail };
    let chosen = Choice::RandomTime(7);
    let drill = Drill {
        phases: vec![phase],
        checks: vec![check],
        chosen,
        ..drill(1, Some(1.5), DrillOutcome::Passed)
    };
    let text = serde_json::to_string(&drill).unwrap();
    for words in [
        r#""drill":1,"vault":"v","source":"orders","point":"20270115T080001Z-01010101","product":"PostgreSQL 17""#,
        r#""chosen":{"by":"random-time","value":7},"target":{"kind":"latest"}"#,
        r#""phases":[{"name":"write","seconds":1.5,"bytes":8192,"in_rto":true}],"rto_seconds":1.5,"objective_seconds":null"#,
        r#""checks":[{"name":"amcheck","outcome":"not-run","seconds":0.25,"detail":"there is none"}],"outcome":"passed"}"#,
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(serde_json::from_str::<Drill>(&text).unwrap(), drill);
}

proptest! {
    #[test]
    fn a_number_drawn_is_below_its_limit(seed: u64, below in 1_u64..) {
        prop_assert!(drawn(seed, below) < below);
    }

    #[test]
    fn a_second_drawn_lies_in_a_window(seed: u64, spans in proptest::collection::vec((0_i64..10_000_000, 0_i64..10_000_000), 1..5)) {
        let windows: Vec<PitrWindow> = spans.iter().map(|(from, length)| window(*from, Some(from + length))).collect();
        if let Ok(micros) = time_drawn(seed, &windows) {
            prop_assert!(windows.iter().any(|window| window.from <= at(micros) && at(micros) < window.to.unwrap()));
        }
    }

    #[test]
    fn a_statement_reads_as_it_was_written(millis in 0_u64..1_000_000_000_000, seed: u64, detail: String) {
        let seconds = seconds_of(Duration::from_millis(millis));
        let check = Check { name: "sql 1".into(), outcome: CheckOutcome::Failed, seconds, detail };
        let drill = Drill { checks: vec![check], chosen: Choice::RandomPoint(seed), ..drill(1, Some(seconds), DrillOutcome::Failed) };
        let text = serde_json::to_string(&drill).unwrap();
        prop_assert_eq!(serde_json::from_str::<Drill>(&text).unwrap(), drill);
    }

    #[test]
    fn no_statement_panics(text: String) {
        let _ = serde_json::from_str::<Drill>(&text);
    }
}
