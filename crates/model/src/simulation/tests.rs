//! Simulations whose outcome can be reckoned by hand.

use super::*;
use crate::lifecycle::Step;
use crate::plan::Plan;
use crate::price::ClassPrice;
use crate::span::Span;
use crate::tier::StorageClass;

const GB: u64 = 1_000_000_000;

fn prices() -> PriceList {
    let price = |gb_month, thousand_puts| ClassPrice { gb_month, thousand_puts };
    PriceList {
        date: jiff::civil::date(2025, 11, 1),
        source: "test".into(),
        region: "test".into(),
        currency: "USD".into(),
        class: [(StorageClass::Standard, price(0.02, 0.0)), (StorageClass::GlacierIr, price(0.004, 0.0))]
            .into(),
    }
}

/// A rule for each schedule, beginning on 2026-01-01.
struct Case<'a> {
    schedules: &'a [&'a str],
    retention: Option<Retention>,
    growth: Option<Growth>,
    days: u32,
    seed: Option<u64>,
    lifecycle: Lifecycle,
    shipping: Shipping,
}

const NIGHTLY: Case<'static> = Case {
    schedules: &["0 2 * * *"],
    retention: None,
    growth: None,
    days: 360,
    seed: None,
    lifecycle: Lifecycle { packs: Vec::new(), wal: Vec::new(), noncurrent_days: None },
    shipping: Shipping::None,
};

fn play(case: &Case<'_>) -> Result<Outcome, SimulationError> {
    let rules: Vec<serde_json::Value> = case
        .schedules
        .iter()
        .enumerate()
        .map(|(number, schedule)| serde_json::json!({ "name": format!("r{number}"), "schedule": schedule }))
        .collect();
    let plan: Plan = serde_json::from_value(serde_json::json!({ "select": {}, "rule": rules })).unwrap();
    let simulated = Simulated {
        backups: plan.timetables().collect(),
        retention: case.retention.clone(),
        has_journal: true,
        shipping: case.shipping,
        takes: Duration::from_secs(600),
        growth: case.growth,
    };
    let prices = prices();
    let setting = Setting {
        begin: Timestamp("2026-01-01T00:00:00Z".parse().unwrap()),
        days: case.days,
        seed: case.seed,
        lifecycle: &case.lifecycle,
        rebase_days: 30,
        prices: &prices,
    };
    simulate(&simulated, &setting)
}

fn keep_days(keep_days: u32) -> Option<Retention> {
    Some(Retention { keep_days, ..Retention::default() })
}

#[test]
fn points_are_those_that_retention_keeps() {
    let points = |case| {
        let outcome = play(&case).unwrap();
        (outcome.taken, outcome.points, outcome.most_points)
    };
    assert_eq!(points(NIGHTLY), (360, 360, 360));
    assert_eq!(points(Case { retention: keep_days(7), ..NIGHTLY }), (360, 7, 8));
    let gfs = Retention { daily: 7, weekly: 4, monthly: 12, ..Retention::default() };
    // On 2026-12-27: the 20th to the 26th, the Sundays before (6th, 13th), and the last days of January to November.
    let outcome = play(&Case { retention: Some(gfs), ..NIGHTLY }).unwrap();
    assert_eq!(outcome.points, 7 + 2 + 11);
    let twice = Case { schedules: &["0 2,14 * * *"], retention: keep_days(7), ..NIGHTLY };
    assert_eq!(points(twice), (720, 14, 16));
    // The window's base stays beside what is inside.
    let window = Retention { pitr_days: 7, ..Retention::default() };
    assert_eq!(points(Case { retention: Some(window), ..NIGHTLY }), (360, 8, 9));
    assert_eq!(play(&Case { schedules: &["* * * * *"], ..NIGHTLY }), Err(SimulationError::TooManyRuns));
}

#[test]
fn the_worst_loss_is_the_longest_gap_and_a_backup() {
    let worst = |case: Case<'_>| play(&case).unwrap().worst_rpo;
    assert_eq!(worst(NIGHTLY), Some(24 * 3600 + 600));
    assert_eq!(worst(Case { schedules: &["0 2 * * 1-5"], ..NIGHTLY }), Some(72 * 3600 + 600));
    assert_eq!(worst(Case { shipping: Shipping::Streamed(Span::from_secs(1)), ..NIGHTLY }), Some(1));
    assert_eq!(worst(Case { shipping: Shipping::Archived(Span::from_secs(60)), ..NIGHTLY }), Some(60));
    assert_eq!(worst(Case { days: 1, ..NIGHTLY }), None);
    // Late by chance, and by no more than a start window of eight hours; the same with the same seed.
    let late = worst(Case { seed: Some(1), ..NIGHTLY });
    assert!(late > Some(24 * 3600 + 600) && late < Some(32 * 3600 + 600), "{late:?}");
    assert_eq!(late, worst(Case { seed: Some(1), ..NIGHTLY }));
    assert_ne!(late, worst(Case { seed: Some(2), ..NIGHTLY }));
    // One at a time: the second of two at once begins when the first is done.
    assert_eq!(
        play(&Case { schedules: &["0 2 * * *", "0 2 * * *"], days: 1, ..NIGHTLY }).unwrap().worst_rpo,
        Some(1200)
    );
}

#[test]
fn storage_and_cost_can_be_reckoned_by_hand() {
    let growth = Some(Growth { full: 30 * GB, change_a_day: GB, wal_a_day: 0 });
    let outcome = play(&Case { growth, days: 1, ..NIGHTLY }).unwrap();
    assert_eq!(outcome.stored, Some(30 * GB));
    let near = |cost: Option<f64>, expected: f64| {
        assert!((cost.unwrap() - expected).abs() < 1e-6, "{cost:?} {expected}")
    };
    near(outcome.cost, 30.0 * 0.02 * 12.0 / 365.25);
    // Each day a GB that changed and a thirtieth of everything.
    assert_eq!(play(&Case { growth, days: 11, ..NIGHTLY }).unwrap().stored, Some(50 * GB));
    // After a week's retention packs stay for a week and the 30 days in which points refer to them.
    let kept = play(&Case { growth, retention: keep_days(7), ..NIGHTLY }).unwrap();
    assert_eq!(kept.stored, Some(2 * 37 * GB));
    let wal = Some(Growth { full: 0, change_a_day: 0, wal_a_day: GB });
    let window = Retention { pitr_days: 7, ..Retention::default() };
    let stored = play(&Case { growth: wal, retention: Some(window), ..NIGHTLY }).unwrap().stored.unwrap();
    assert!((7 * GB..8 * GB).contains(&stored), "{stored}");
    assert_eq!(outcome.months.len(), 1);
    assert_eq!(play(&NIGHTLY).unwrap().cost, None);
}

#[test]
fn cold_is_cheaper_unless_it_is_left_too_early() {
    let growth = Some(Growth { full: 30 * GB, change_a_day: GB, wal_a_day: 0 });
    let cold = |keep: u32, steps: Vec<Step>| {
        let lifecycle = Lifecycle { packs: steps, ..Lifecycle::default() };
        play(&Case { growth, retention: keep_days(keep), lifecycle, ..NIGHTLY }).unwrap()
    };
    let step = Step { days: 40, class: StorageClass::GlacierIr };
    let (warm, long) = (cold(200, vec![]), cold(200, vec![step]));
    assert!(long.cost < warm.cost && long.early_deletion == Some(0.0), "{:?} {:?}", long.cost, warm.cost);
    let short = cold(30, vec![step]);
    assert!(short.early_deletion > Some(0.0));
    assert_eq!(short.stored, cold(30, vec![]).stored);
    // A class without a price is no cheap one.
    assert_eq!(cold(200, vec![Step { days: 40, class: StorageClass::DeepArchive }]).cost, None);
}
