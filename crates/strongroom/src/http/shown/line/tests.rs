//! How a source stands, by what is known of it.

#![allow(clippy::unwrap_used, reason = "a test")]

use serde_json::json;
use strongroom_model::alert::news::Alert;
use strongroom_model::alert::observed::{Held, Observed};
use strongroom_model::alert::{AlertKind, Condition};

use super::*;
use crate::agent::watch::board::{Facts, Reading, Snapshot};
use crate::settings::Settings;

/// So many seconds from now.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + seconds).unwrap()
}

const SETTINGS: &str = "[source.orders]\nkind = \"postgres\"\nrpo = \"5m\"\nrto = \"30m\"\n";

/// A source that nothing is wrong with, as the watch sees it.
fn well() -> SourceState {
    let drill = DrillState { at: at(-3600), passed: true, rto_seconds: Some(60.0) };
    SourceState {
        name: "orders".parse().unwrap(),
        has_journal: true,
        rpo: None,
        known_since: at(-9000),
        held: Some(Held {
            points: 3,
            last_point_at: Some(at(-600)),
            journal_at: Some(at(-10)),
            drill: Some(drill),
            ..Held::default()
        }),
        backups_due: Vec::new(),
        verify_due: None,
        drill_due: None,
        is_backed_up_now: false,
        verified_at: None,
        slots: None,
        caught_up_at: None,
        jobs: Vec::new(),
    }
}

/// A round of the watch that read the vault `age` seconds ago.
pub fn snapshot(sources: Vec<SourceState>, age: i64) -> Snapshot {
    let said = |source: &SourceState| {
        let said = json!({
            "source": source.name, "points": 3, "recoverable_to": at(-12), "sizes": [100, 120], "stored_bytes": 90,
            "last_point_stored_bytes": 20, "holds": [],
        });
        (source.name.clone(), serde_json::from_value(said).unwrap())
    };
    let reading = Reading { at: at(-age), sources: sources.iter().map(said).collect() };
    Snapshot {
        observed: Observed { sources, ..Observed::default() },
        reading: Some(reading),
        is_silent: false,
        facts: Facts::default(),
        build: "strongroom 0".into(),
    }
}

fn alert(kind: AlertKind) -> Alert {
    let source = "orders".parse().unwrap();
    let condition = Condition::new(kind, Some(&source), format!("it is {kind}"), at(-60));
    Alert { condition, fired_at: at(-50), told_at: at(-50) }
}

fn the_line(snapshot: &Snapshot) -> SourceLine {
    let settings = Settings::read(SETTINGS, "f").unwrap();
    let sight = Sight { snapshot: Some(snapshot), settings: &settings, now: at(0) };
    lines(sight).remove(0)
}

type Change = fn(&mut Snapshot);

fn held(snapshot: &mut Snapshot) -> &mut Held {
    snapshot.observed.sources[0].held.as_mut().unwrap()
}

/// Only a drill that passed lately makes a source proven, and whatever is worse is said first.
#[test]
fn a_source_stands_as_the_worst_that_is_known_of_it() {
    let table: [(Change, Standing, &str); 14] = [
        (|_| {}, Standing::Proven, "a drill restored it 1 h 0 min ago"),
        (|seen| held(seen).drill = None, Standing::Unproven, "never drilled"),
        (
            |seen| held(seen).drill.as_mut().unwrap().at = at(-40 * 86_400),
            Standing::Unproven,
            "40 d 0 h ago, longer",
        ),
        (|seen| held(seen).drill.as_mut().unwrap().passed = false, Standing::Broken, "did not prove"),
        (
            |seen| held(seen).drill.as_mut().unwrap().rto_seconds = Some(7200.0),
            Standing::Doubtful,
            "took 2 h 0 min, and it may take 30 min",
        ),
        (
            |seen| held(seen).journal_at = Some(at(-301)),
            Standing::Broken,
            "the newest 5 min 1 s would be lost, and 5 min 0 s may be",
        ),
        (|seen| held(seen).journal_at = Some(at(-300)), Standing::Proven, ""),
        (|seen| held(seen).points = 0, Standing::Broken, "never backed up"),
        (|seen| seen.observed.sources[0].held = None, Standing::Unknown, "not asked about it yet"),
        (|seen| seen.observed.sources.clear(), Standing::Unknown, "not asked about it yet"),
        (|seen| seen.reading.as_mut().unwrap().at = at(-1000), Standing::Unknown, "not read for long"),
        (
            |seen| seen.observed.vault.silent = Some((at(-9), "gone".into())),
            Standing::Unknown,
            "does not say what it holds: gone",
        ),
        (|seen| seen.facts.alerts = vec![alert(AlertKind::Slot)], Standing::Doubtful, "it is slot"),
        (
            |seen| seen.facts.alerts = vec![alert(AlertKind::Slot), alert(AlertKind::WalGap)],
            Standing::Broken,
            "it is wal-gap",
        ),
    ];
    for (number, (change, standing, why)) in table.into_iter().enumerate() {
        let mut seen = snapshot(vec![well()], 5);
        change(&mut seen);
        let line = the_line(&seen);
        assert_eq!(line.standing, standing, "{number}: {}", line.why);
        assert!(line.why.contains(why), "{number}: {}", line.why);
    }
}

#[test]
fn what_was_never_looked_at_is_not_known() {
    let settings = Settings::read(SETTINGS, "f").unwrap();
    let line = lines(Sight { snapshot: None, settings: &settings, now: at(0) }).remove(0);
    assert_eq!((line.standing, line.recoverable_to, line.points), (Standing::Unknown, None, None));
    assert_eq!((line.rpo.is_met, line.rto.is_met), (None, None));
    assert_eq!(line.known_by, "not known: the vault was not read yet");
}

/// Points that are gone lead nowhere, whatever a reading says beside it.
#[test]
fn without_a_point_nothing_is_recoverable() {
    let mut seen = snapshot(vec![well()], 5);
    assert_eq!(the_line(&seen).recoverable_to, Some(at(-12)));
    // A point that was taken since leads to itself, unless WAL is missing behind it.
    held(&mut seen).last_point_at = Some(at(-3));
    assert_eq!(the_line(&seen).recoverable_to, Some(at(-3)));
    held(&mut seen).gap = Some("00000001000000000000000A".into());
    assert_eq!(the_line(&seen).recoverable_to, Some(at(-12)));
    held(&mut seen).points = 0;
    assert_eq!(the_line(&seen).recoverable_to, None);
}

#[test]
fn what_is_due_next_is_the_first_of_all_plans() {
    let plans = "[plan.a]\nselect = { sources = [\"*\"] }\ndrill = { schedule = \"0 0 1 1 *\" }\n\
                 [[plan.a.rule]]\nname = \"yearly\"\nschedule = \"@yearly\"\n\
                 [plan.b]\nselect = { sources = [\"orders\"] }\n[[plan.b.rule]]\nname = \"often\"\nschedule = \"rate(5 minutes)\"\n\
                 [plan.c]\nselect = { sources = [\"other\"] }\n[[plan.c.rule]]\nname = \"always\"\nschedule = \"* * * * *\"\n";
    let other = "[source.other]\nkind = \"postgres\"\n[source.third]\nkind = \"postgres-logical\"\n";
    let settings = Settings::read(&format!("{SETTINGS}{other}{plans}"), "f").unwrap();
    let lines = lines(Sight { snapshot: None, settings: &settings, now: at(0) });
    let next: Vec<String> = lines.iter().map(|line| line.next.as_ref().unwrap().rule.clone()).collect();
    assert_eq!(next, ["b/often", "c/always", "a/yearly"]);
}
