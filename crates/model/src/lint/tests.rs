//! Every rule has plans that break it, and plans that just do not.

use serde_json::{Value, json};

use super::*;
use crate::lifecycle::Step;
use crate::source::{Objectives, Shipping, SourceKind};
use crate::span::Span;
use crate::tier::StorageClass;

/// What plans are judged by, to be changed in one place by each row of a table.
struct World {
    plans: BTreeMap<PlanName, Plan>,
    sources: Vec<Protected>,
    vaults: Vec<VaultPolicy>,
    measured: BTreeMap<SourceName, Measured>,
}

/// One source, backed up twice a day, copied, drilled, kept, measured: nothing is wrong with it.
fn sound() -> Value {
    json!({
        "select": { "sources": ["orders"] },
        "rpo": "13h", "rto": "1h",
        "disaster_recovery": true,
        "rule": [{
            "name": "half-daily", "schedule": "0 2,14 * * *", "start_window": "30m", "completion_window": "2h",
            "retention": { "keep_days": 30 }, "copies": ["dr"],
        }],
        "drill": { "schedule": "0 4 1 * *" },
    })
}

fn world(plan: Value) -> World {
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    let measured =
        Measured { backup: minutes(10), restore: minutes(20), bytes: 1 << 30, ..Measured::default() };
    let vault = |name: &str| VaultPolicy { name: name.to_owned(), ..VaultPolicy::default() };
    World {
        plans: [("p".parse().unwrap(), serde_json::from_value(plan).unwrap())].into(),
        sources: vec![source("orders")],
        vaults: vec![vault("vault"), vault("dr")],
        measured: [("orders".parse().unwrap(), measured)].into(),
    }
}

fn source(name: &str) -> Protected {
    Protected {
        name: name.parse().unwrap(),
        kind: SourceKind::Postgres,
        tags: BTreeMap::new(),
        objectives: Objectives::default(),
        shipping: Shipping::None,
        retention: None,
    }
}

/// The sound plan with these members changed, and others of its rule.
fn with(plan: Value, rule: Value) -> Value {
    let mut changed = sound();
    let set = |of: &mut Value, to: Value| of.as_object_mut().unwrap().extend(to.as_object().unwrap().clone());
    set(&mut changed["rule"][0], rule);
    set(&mut changed, plan);
    changed
}

impl World {
    fn found(&self) -> Vec<Finding> {
        lint(&Situation {
            plans: &self.plans,
            sources: &self.sources,
            vaults: &self.vaults,
            retention: None,
            rebase_days: 30,
            measured: &self.measured,
            now: Timestamp("2026-11-21T12:00:00Z".parse().unwrap()),
        })
    }

    fn numbers(&self) -> Vec<(&'static str, Severity)> {
        self.found().iter().map(|finding| (finding.number, finding.severity)).collect()
    }

    fn changed(mut self, change: impl FnOnce(&mut World)) -> World {
        change(&mut self);
        self
    }
}

const REFUSE: Severity = Severity::Refuse;
const WARN: Severity = Severity::Warn;

fn check(what: &str, world: World, expected: &[(&str, Severity)]) {
    assert_eq!(world.numbers(), expected, "{what}: {:#?}", world.found());
}

#[test]
fn a_sound_plan_has_no_findings() {
    check("sound", world(sound()), &[]);
}

#[test]
fn who_is_covered() {
    let excluded = |review: &str, source: &str| json!({ "select": { "sources": ["*"] }, "exclude": [{ "source": source, "reason": "a cache", "owner": "ops", "review": review }] });
    let two = |plan| world(with(plan, json!({}))).changed(|world| world.sources.push(source("cache")));
    check(
        "a name that nobody has",
        world(with(json!({ "select": { "sources": ["order"] } }), json!({}))),
        &[("P001", REFUSE), ("P002", WARN), ("P006", WARN)],
    );
    check("a source in no plan", two(json!({})), &[("P002", WARN)]);
    check("excluded with a reason", two(excluded("2026-11-21", "cache")), &[]);
    check("to be looked at again", two(excluded("2026-11-20", "cache")), &[("P005", WARN)]);
    check("all excluded", world(with(excluded("2027-01-01", "*"), json!({}))), &[("P001", REFUSE)]);
    check("excluded, and gone", world(with(excluded("2027-01-01", "cache"), json!({}))), &[("P006", WARN)]);
    check("copied to nowhere", world(with(json!({}), json!({ "copies": ["rd"] }))), &[("P003", REFUSE)]);
    check("copied to itself", world(with(json!({}), json!({ "copies": ["vault"] }))), &[("P007", REFUSE)]);
    check(
        "a disaster plan without a copy",
        world(with(json!({}), json!({ "copies": [] }))),
        &[("P004", REFUSE)],
    );
}

#[test]
fn when_it_runs() {
    let rule = |rule| world(with(json!({}), rule));
    check("over", rule(json!({ "schedule": "cron(0 2 * * ? 2020)" })), &[("P101", REFUSE), ("P201", REFUSE)]);
    check(
        "a rate has no zone",
        rule(json!({ "schedule": "rate(12 hours)", "timezone": "Asia/Tokyo" })),
        &[("P103", WARN)],
    );
    check("a rate at UTC", rule(json!({ "schedule": "rate(12 hours)" })), &[]);
    check("faster than a backup", rule(json!({ "schedule": "*/9 * * * *" })), &[("P104", WARN)]);
    check("as fast as a backup", rule(json!({ "schedule": "*/10 * * * *" })), &[]);
    check("a short window", rule(json!({ "completion_window": "9m" })), &[("P105", REFUSE)]);
    let second = |schedule: &str| {
        let second = json!({ "name": "second", "schedule": schedule, "start_window": "30m", "retention": { "weekly": 4 } });
        let mut plan = sound();
        plan["rule"].as_array_mut().unwrap().push(second);
        world(plan)
    };
    check("at the same time", second("0 2 * * 0"), &[("P102", WARN)]);
    check("while the first one runs", second("9 2 * * 0"), &[("P102", WARN), ("P104", WARN)]);
    check("after it", second("10 2 * * 0"), &[]);
}

#[test]
fn what_is_promised() {
    let plan = |plan| world(with(plan, json!({})));
    // Twelve hours, ten minutes for the backup and as much for its copy.
    check("just enough", plan(json!({ "rpo": "12h 50m" })), &[]);
    check("not if a run begins late", plan(json!({ "rpo": "12h 49m" })), &[("P202", WARN)]);
    check("just broken", plan(json!({ "rpo": "12h 19m" })), &[("P201", REFUSE)]);
    check("copied for no disaster", plan(json!({ "rpo": "12h 40m", "disaster_recovery": false })), &[]);
    let shipped = |shipping, rpo: &str| {
        plan(json!({ "rpo": rpo })).changed(|world| world.sources[0].shipping = shipping)
    };
    let streamed = |waits: u64, rpo| shipped(Shipping::Streamed(Span::from_secs(waits)), rpo);
    let archived = |waits: u64, rpo| shipped(Shipping::Archived(Span::from_secs(waits)), rpo);
    check("archived", archived(60, "1m"), &[]);
    check("archived too seldom", archived(61, "1m"), &[("P201", REFUSE)]);
    check("streamed", streamed(1, "1s"), &[]);
    check("streamed too slowly", streamed(10, "9s"), &[("P201", REFUSE)]);
    check(
        "its own objective",
        plan(json!({ "rpo": "1m" })).changed(|world| {
            world.sources[0].objectives.rpo = Some(Span::from_hours(24));
        }),
        &[],
    );
    check("slow", plan(json!({ "rto": "19m" })), &[("P204", REFUSE)]);
    check("just fast enough", plan(json!({ "rto": "20m" })), &[]);
    check(
        "nothing measured",
        plan(json!({})).changed(|world| world.measured.clear()),
        &[("P203", WARN), ("P205", WARN)],
    );
    check("nothing tried", plan(json!({ "drill": null })), &[("P206", WARN)]);
    check("nothing promised", plan(json!({ "drill": null, "rpo": null, "rto": null })), &[]);
    // The lifecycle itself is sound, but for one thing: no pack lives long enough for it (P303).
    let frozen = |class| {
        plan(json!({})).changed(|world| world.vaults[0].lifecycle.packs = vec![Step { days: 40, class }])
    };
    check("frozen", frozen(StorageClass::Glacier), &[("P207", WARN), ("P303", WARN)]);
    check("cold, and read at once", frozen(StorageClass::GlacierIr), &[("P303", WARN)]);
}

#[test]
fn what_is_kept() {
    let cold = |keep_days: u32, class| {
        let rule = json!({ "cold_after_days": 40, "retention": { "keep_days": keep_days } });
        world(with(json!({ "rto": null }), rule)).changed(|world| {
            world.vaults[0].lifecycle.packs = vec![Step { days: 40, class }];
        })
    };
    check("cold for 90 days", cold(130, StorageClass::GlacierIr), &[]);
    check("cold for 89 days", cold(129, StorageClass::GlacierIr), &[("P301", REFUSE)]);
    // Deep archive is paid for 180 days, infrequent access for 30, and AWS Backup's rule for 90 all the same.
    check("deep", cold(219, StorageClass::DeepArchive), &[("P301", REFUSE)]);
    check("infrequent", cold(129, StorageClass::StandardIa), &[("P301", REFUSE)]);
    check(
        "cold in words only",
        cold(400, StorageClass::GlacierIr).changed(|world| world.vaults[0].lifecycle.packs[0].days = 50),
        &[("P302", REFUSE)],
    );
    check(
        "a lifecycle that cannot work",
        world(sound()).changed(|world| {
            world.vaults[1].lifecycle.packs = vec![Step { days: 10, class: StorageClass::StandardIa }];
        }),
        &[("P303", REFUSE)],
    );
    let kept = |schedule: &str, retention: Value| {
        world(with(json!({ "rpo": null }), json!({ "schedule": schedule, "retention": retention })))
    };
    check("two days, every two days", kept("0 2 * * 1,3,5", json!({ "keep_days": 3 })), &[]);
    check("two days, and a weekend", kept("0 2 * * 1,3,5", json!({ "keep_days": 2 })), &[("P304", WARN)]);
    check(
        "two days, and the last one anyway",
        kept("0 2 * * 1,3,5", json!({ "keep_days": 2, "keep_last": 2 })),
        &[],
    );
    check("for ever", kept("0 2 * * *", Value::Null), &[("P305", WARN)]);
    let window = json!({ "pitr_days": 7 });
    check("a window", kept("0 2 * * *", window.clone()), &[]);
    check(
        "a window of dumps",
        kept("0 2 * * *", window).changed(|world| {
            world.sources[0].kind = SourceKind::PostgresLogical;
        }),
        &[("P307", WARN)],
    );
    let own = Retention { keep_last: 1, ..Retention::default() };
    check(
        "the source knows better",
        kept("0 2 * * *", json!({ "keep_days": 9 })).changed(|world| {
            world.sources[0].retention = Some(own.clone());
        }),
        &[("P308", WARN)],
    );
    check(
        "the vault knows better",
        kept("0 2 * * *", json!({ "keep_days": 9 })).changed(|world| {
            world.vaults[0].retention = Some(own.clone());
        }),
        &[("P308", WARN)],
    );
    let mut plan = sound();
    plan["rule"][0]["retention"]["timezone"] = "Asia/Tokyo".into();
    let second = json!({ "name": "b", "schedule": "0 8 * * *", "start_window": "1m", "retention": { "daily": 3, "timezone": "UTC" } });
    plan["rule"].as_array_mut().unwrap().push(second);
    check("two calendars", world(plan), &[("P306", WARN)]);
}

/// Every number of the linter has its row in the page, and no row is without its number.
#[test]
fn the_page_of_plans_has_every_number() {
    let page = include_str!("../../../../docs/plans.md");
    let rows: std::collections::BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| P")).filter_map(|row| row.get(..3)).collect();
    let sources = [
        include_str!("coverage.rs"),
        include_str!("times.rs"),
        include_str!("promises.rs"),
        include_str!("keeping.rs"),
    ];
    let used: std::collections::BTreeSet<&str> = sources
        .iter()
        .flat_map(|text| text.split("(\"P").skip(1).chain(text.split("\"P").skip(1)))
        .filter_map(|rest| rest.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())))
        .collect();
    assert_eq!(rows, used);
}
