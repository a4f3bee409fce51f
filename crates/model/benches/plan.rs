//! How fast 10,000 sources are planned: what each is due next, and the linter. One thread; `cargo bench -p strongroom-model`.

use std::collections::BTreeMap;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use strongroom_model::lint::{Measured, Situation, VaultPolicy, lint};
use strongroom_model::plan::Plan;
use strongroom_model::source::{Objectives, Protected, Shipping, SourceKind};
use strongroom_model::span::Span;
use strongroom_model::{PlanName, SourceName, Timestamp};

const SOURCES: usize = 10_000;

/// As many as there are teams; each source has a tag of one, so that one plan covers it.
const PLANS: usize = 50;

const SCHEDULES: [&str; 5] =
    ["30 2 * * *", "0 */6 * * *", "cron(0 3 ? * SUN *)", "rate(4 hours)", "cron(15 10 ? * 6L *)"];
const ZONES: [&str; 3] = ["UTC", "Europe/Berlin", "America/New_York"];

fn source(number: usize) -> Option<Protected> {
    let name = format!("source-{number}").parse().ok()?;
    let team = format!("team-{}", number % PLANS);
    Some(Protected {
        name,
        kind: SourceKind::Postgres,
        tags: [("team".to_owned(), team)].into(),
        objectives: Objectives { rpo: Some(Span::from_hours(30)), rto: Some(Span::from_hours(4)) },
        shipping: Shipping::None,
        retention: None,
    })
}

fn plan(number: usize) -> Option<(PlanName, Plan)> {
    let toml = serde_json::json!({
        "select": { "tags": { "team": format!("team-{number}") } },
        "timezone": ZONES[number % ZONES.len()],
        "rule": [
            { "name": "often", "schedule": SCHEDULES[number % 2], "retention": { "keep_days": 7 } },
            { "name": "seldom", "schedule": SCHEDULES[2 + number % 3], "retention": { "weekly": 5 } },
        ],
        "drill": { "schedule": "0 4 1 * *" },
    });
    Some((format!("plan-{number}").parse().ok()?, serde_json::from_value(toml).ok()?))
}

fn planning(criterion: &mut Criterion) {
    let sources: Vec<Protected> = (0..SOURCES).filter_map(source).collect();
    let plans: BTreeMap<PlanName, Plan> = (0..PLANS).filter_map(plan).collect();
    let Some(now) = Timestamp::from_unix_seconds(1_795_305_600) else { return };
    let measured = Measured {
        backup: Some(Duration::from_secs(600)),
        restore: Some(Duration::from_secs(1200)),
        ..Measured::default()
    };
    let measured: BTreeMap<SourceName, Measured> =
        sources.iter().map(|source| (source.name.clone(), measured)).collect();
    let vaults = [VaultPolicy { name: "vault".to_owned(), ..VaultPolicy::default() }];
    let mut group = criterion.benchmark_group("plan");
    group.sample_size(10);
    group.bench_function("10,000 sources: what is due next of each rule", |bench| {
        bench.iter(|| {
            let of_source = |source: &Protected| {
                let covering = plans.values().filter(|plan| plan.covers(source));
                covering.flat_map(Plan::timetables).filter_map(|table| table.next_after(now)).count()
            };
            let due: usize = sources.iter().map(of_source).sum();
            assert_eq!(due, 3 * SOURCES);
        });
    });
    group.bench_function("10,000 sources: lint", |bench| {
        bench.iter(|| {
            lint(&Situation {
                plans: &plans,
                sources: &sources,
                vaults: &vaults,
                retention: None,
                rebase_days: 30,
                measured: &measured,
                now,
            })
        });
    });
    group.finish();
}

criterion_group!(benches, planning);
criterion_main!(benches);
