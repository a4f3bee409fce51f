//! Who is covered, and what is kept and promised.

use super::*;
use crate::name::SourceName;
use crate::source::{Shipping, SourceKind};

fn plan(json: serde_json::Value) -> Plan {
    serde_json::from_value(json).unwrap()
}

fn source(name: &str, kind: SourceKind, tags: &[(&str, &str)]) -> Protected {
    Protected {
        name: name.parse::<SourceName>().unwrap(),
        kind,
        tags: tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect(),
        objectives: Objectives::default(),
        shipping: Shipping::None,
        retention: None,
    }
}

#[test]
fn a_pattern_fits_as_in_a_shell() {
    for (pattern, name, fits) in [
        ("orders", "orders", true),
        ("orders", "orders2", false),
        ("*", "orders", true),
        ("orders*", "orders", true),
        ("o*s", "orders", true),
        ("o*r", "orders", false),
        ("*er*", "orders", true),
        ("o?ders", "orders", true),
        ("o?ders", "oders", false),
        ("*a*b*c", "xaxbxbxc", true),
        ("*a*b*c", "xaxbxbx", false),
        ("a**b", "ab", true),
    ] {
        assert_eq!(Pattern::try_from(pattern.to_owned()).unwrap().fits(name), fits, "{pattern} {name}");
    }
    for wrong in ["", "Orders", "a/b", "[ab]"] {
        assert!(Pattern::try_from(wrong.to_owned()).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_said_must_all_hold() {
    let (files, dumps) = (SourceKind::Postgres, SourceKind::PostgresLogical);
    let orders = source("orders", files, &[("env", "prod"), ("team", "shop")]);
    for (select, covers) in [
        (serde_json::json!({ "sources": ["orders"] }), true),
        (serde_json::json!({ "sources": ["x", "ord*"] }), true),
        (serde_json::json!({ "sources": ["x"] }), false),
        (serde_json::json!({ "kinds": ["postgres"] }), true),
        (serde_json::json!({ "kinds": ["postgres-logical"] }), false),
        (serde_json::json!({ "tags": { "env": "prod" } }), true),
        (serde_json::json!({ "tags": { "env": "prod", "team": "x" } }), false),
        (serde_json::json!({ "tags": { "tier": "1" } }), false),
        (serde_json::json!({ "sources": ["*"], "kinds": ["postgres-logical"] }), false),
        (serde_json::json!({}), false),
    ] {
        assert_eq!(plan(serde_json::json!({ "select": select })).covers(&orders), covers, "{select}");
    }
    let excluding = plan(serde_json::json!({
        "select": { "sources": ["*"] },
        "exclude": [{ "source": "scratch-*", "reason": "made anew each night", "owner": "ops", "review": "2027-01-01" }],
    }));
    assert!(excluding.covers(&orders) && excluding.covers(&source("a", dumps, &[])));
    let scratch = source("scratch-1", dumps, &[]);
    assert!(!excluding.covers(&scratch));
    assert_eq!(excluding.exclusion(&scratch).unwrap().owner, "ops");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let name: PlanName = "p".parse().unwrap();
    let rule = |more: serde_json::Value| {
        let mut rule = serde_json::json!({ "name": "nightly", "schedule": "@daily" });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let checked = |rules: Vec<serde_json::Value>| {
        let plan = plan(
            serde_json::json!({ "select": { "sources": ["*"] }, "rule": rules, "drill": { "schedule": "@monthly" } }),
        );
        plan.check(&name).map_err(|error| error.to_string())
    };
    let none = serde_json::json!({});
    assert_eq!(checked(vec![rule(none.clone())]), Ok(()));
    for (rules, says) in [
        (vec![], "plan p has no rule"),
        (vec![rule(none.clone()), rule(none.clone())], "plan p has two rules called nightly"),
        (vec![rule(serde_json::json!({ "name": "drill" }))], "plan p has two rules called drill"),
        (
            vec![rule(serde_json::json!({ "start_window": "59s" }))],
            "start_window of nightly in plan p is 59s",
        ),
        (vec![rule(serde_json::json!({ "completion_window": "0s" }))], "completion_window of nightly"),
        (
            vec![rule(serde_json::json!({ "retention": {} }))],
            "rule nightly of plan p: this retention keeps nothing",
        ),
    ] {
        let error = checked(rules).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    let empty = plan(serde_json::json!({ "select": {}, "rule": [rule(none)] }));
    assert_eq!(empty.check(&name), Err(PlanMistake::SelectsNothing(name)));
}

#[test]
fn times_follow_the_rules_own_clock_or_the_plans() {
    let plan = plan(serde_json::json!({
        "select": { "sources": ["*"] },
        "timezone": "Asia/Singapore",
        "rule": [
            { "name": "nightly", "schedule": "0 2 * * *" },
            { "name": "utc", "schedule": "0 2 * * *", "timezone": "UTC", "start_window": "1h" },
        ],
        "verify": { "schedule": "0 2 * * *", "timezone": "Europe/Berlin" },
    }));
    let after: Timestamp = Timestamp("2026-07-01T00:00:00Z".parse().unwrap());
    let found: Vec<(Work, &str, String, Span)> = plan
        .timetables()
        .map(|table| {
            (table.work, table.rule, table.next_after(after).unwrap().to_string(), table.start_window)
        })
        .collect();
    assert_eq!(
        found,
        [
            (Work::Backup, "nightly", "2026-07-01 18:00:00+00".to_owned(), START_WINDOW),
            (Work::Backup, "utc", "2026-07-01 02:00:00+00".to_owned(), Span::from_hours(1)),
            (Work::Verify, "verify", "2026-07-02 00:00:00+00".to_owned(), START_WINDOW),
        ]
    );
}

#[test]
fn all_plans_of_a_source_keep_and_promise_together() {
    let kept = |retention: serde_json::Value, rpo: Option<&str>, rto: Option<&str>, of: &str| {
        plan(serde_json::json!({
            "select": { "sources": [of] }, "rpo": rpo, "rto": rto,
            "rule": [{ "name": "a", "schedule": "@daily", "retention": retention }, { "name": "b", "schedule": "@weekly" }],
        }))
    };
    let plans: BTreeMap<PlanName, Plan> = [
        ("a", kept(serde_json::json!({ "keep_days": 3, "daily": 7 }), Some("12h"), Some("4h"), "orders")),
        (
            "b",
            kept(
                serde_json::json!({ "weekly": 5, "daily": 2, "timezone": "Asia/Tokyo" }),
                Some("1h"),
                None,
                "o*",
            ),
        ),
        ("c", kept(serde_json::json!({ "yearly": 9 }), Some("1s"), Some("1s"), "other")),
    ]
    .map(|(name, plan)| (name.parse().unwrap(), plan))
    .into();
    let mut orders = source("orders", SourceKind::Postgres, &[]);
    let together = Retention {
        keep_days: 3,
        daily: 7,
        weekly: 5,
        timezone: "Asia/Tokyo".into(),
        ..Retention::default()
    };
    assert_eq!(retention_of(&plans, &orders), Some(together));
    let hours = |hours| Some(Span::from_hours(hours));
    assert_eq!(objectives_of(&plans, &orders), Objectives { rpo: hours(1), rto: hours(4) });
    orders.objectives.rpo = hours(24);
    assert_eq!(objectives_of(&plans, &orders), Objectives { rpo: hours(24), rto: hours(4) });
    assert_eq!(retention_of(&plans, &source("x", SourceKind::Postgres, &[])), None);
}
