//! What is sound passes, and each control fails for its own reason.

use super::*;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + hours * 3600).unwrap()
}

fn taken(hours: i64) -> Taken {
    Taken { point: PointId::new(at(hours), [hours as u8; 4]), begun: at(hours) }
}

/// A source of which everything is as it should be: a point a day for a week, the newest two hours ago.
fn sound() -> Seen {
    let points: Vec<Taken> = (0..7).map(|day| taken(day * 24)).collect();
    let newest = points.last().cloned();
    Seen {
        source: "orders".parse().unwrap(),
        now: at(6 * 24 + 2),
        cover: Cover::Plans(vec!["gold".into()]),
        due: (0..7).map(|day| at(day * 24)).collect(),
        patience: Duration::from_secs(3600),
        taken: points,
        newest: newest.clone(),
        retention: Some(Retention { keep_days: 7, ..Retention::default() }),
        lost_early: Vec::new(),
        restorable: 7,
        suite: Some("aes-256-gcm-x25519".into()),
        lock: LockSeen::Until("d".into(), at(6 * 24 + 7 * 24)),
        copies: vec![CopySeen {
            vault: "dr".into(),
            points: newest.iter().map(|newest| newest.point.clone()).collect(),
            silent: None,
        }],
        drilled_at: Some(at(24)),
        drilled_within: Duration::from_secs(31 * 86_400),
        drills: vec!["e".into()],
        damage: Vec::new(),
        by_name: Vec::new(),
        rpo: (Some(300.0), Some(10.0)),
        rto: (Some(1800.0), Some(60.0)),
    }
}

/// How the control comes out once this is changed about what is sound, and what is said of it.
fn check(control: Control, change: impl Fn(&mut Seen), verdict: Verdict, says: &str) {
    let mut seen = sound();
    change(&mut seen);
    let found = judge(&seen).into_iter().find(|finding| finding.control == control).unwrap();
    assert_eq!(found.verdict, verdict, "{found:?}");
    assert!(found.found.contains(says), "{}", found.found);
}

#[test]
fn what_is_sound_passes_every_control() {
    let findings = judge(&sound());
    assert_eq!(findings.len(), Control::ALL.len());
    for finding in findings {
        assert_eq!(finding.verdict, Verdict::Passed, "{finding:?}");
    }
}

#[test]
fn each_control_fails_for_its_own_reason_and_knows_what_it_does_not_know() {
    use Verdict::{Failed, NotKnown, Passed};
    let past = |seen: &mut Seen, year| {
        let review = jiff::civil::date(year, 1, 1);
        seen.cover = Cover::LeftOut { plan: "gold".into(), reason: "made anew (shop)".into(), review };
    };
    check(Control::InPlan, |seen| seen.cover = Cover::None, Failed, "in no plan");
    check(Control::InPlan, |seen| past(seen, 2020), Failed, "to be looked at again by 2020-01-01");
    check(Control::InPlan, |seen| past(seen, 2099), Passed, "made anew (shop)");
    check(Control::Frequency, |seen| drop(seen.taken.remove(3)), Failed, "6 of 7 since");
    check(Control::Frequency, |seen| seen.taken.clear(), Failed, "no recovery point was ever taken");
    check(Control::Frequency, |seen| seen.due.clear(), NotKnown, "none was due");
    // The one that is due just now may still come.
    check(Control::Frequency, |seen| seen.due.push(seen.now), Passed, "7 of 7");
    // What was due before the first point does not count.
    check(Control::Frequency, |seen| seen.due.insert(0, at(-24)), Passed, "7 of 7");
    let early = |seen: &mut Seen| seen.lost_early = vec![taken(24).point];
    check(Control::Retention, early, Failed, "let go although retention keeps them");
    check(Control::Retention, |seen| seen.retention = None, Passed, "everything is kept");
    check(Control::Encrypted, |seen| seen.suite = None, Failed, "nothing is encrypted");
    check(Control::Immutable, |seen| seen.lock = LockSeen::Impossible("a folder".into()), Failed, "a folder");
    check(Control::Immutable, |seen| seen.lock = LockSeen::Unasked("away".into()), NotKnown, "away");
    check(Control::Immutable, |seen| seen.lock = LockSeen::Open("d".into()), Failed, "is not locked");
    let short = |seen: &mut Seen| seen.lock = LockSeen::Until("d".into(), at(6 * 24 + 5 * 24));
    check(Control::Immutable, short, Failed, "less than the 7 days");
    check(Control::Immutable, |_| (), Passed, "which covers the 7 days");
    check(Control::Immutable, |seen| seen.retention = None, NotKnown, "for how many days");
    check(Control::Copied, |seen| seen.copies.clear(), Failed, "no second vault");
    check(Control::Copied, |seen| seen.copies[0].points.clear(), Failed, "no other vault has a copy");
    let silent = |seen: &mut Seen| {
        seen.copies = vec![CopySeen { vault: "dr".into(), points: Vec::new(), silent: Some("away".into()) }];
    };
    check(Control::Copied, silent, NotKnown, "dr does not say: away");
    check(
        Control::Copied,
        |seen| seen.copies[0].points = vec![taken(5 * 24).point],
        Passed,
        "the newest in dr",
    );
    check(Control::Copied, |seen| seen.copies[0].points = vec![taken(24).point], Failed, "the newest in dr");
    check(
        Control::Drilled,
        |seen| seen.drilled_within = Duration::from_secs(86_400),
        Failed,
        "ago; it may be 24 h 0 min",
    );
    check(Control::Drilled, |seen| seen.drilled_at = None, Failed, "no drill passed");
    check(Control::NoManualDelete, |seen| seen.damage.push("x/packs/1".into()), Failed, "x/packs/1");
    check(Control::NoManualDelete, |seen| seen.by_name.push(taken(0).point), Failed, "let go by name");
    check(Control::Objectives, |seen| seen.rpo.1 = Some(301.0), Failed, "RPO 5 min 0 s: measured 5 min 1 s");
    check(Control::Objectives, |seen| seen.rto.1 = None, NotKnown, "no drill measured it");
    check(Control::Objectives, |seen| seen.rto.0 = None, Passed, "no RTO is promised");
    check(
        Control::Objectives,
        |seen| (seen.rpo.0, seen.rto.0) = (None, None),
        NotKnown,
        "no RPO is promised",
    );
}

#[test]
fn of_what_is_left_out_and_empty_only_the_reason_is_asked() {
    let review = jiff::civil::date(2099, 1, 1);
    let cover = Cover::LeftOut { plan: "gold".into(), reason: "r".into(), review };
    assert_eq!(judge(&Seen { cover: cover.clone(), newest: None, ..sound() }).len(), 1);
    assert_eq!(judge(&Seen { cover, ..sound() }).len(), Control::ALL.len());
}

#[test]
fn retention_is_as_long_as_its_longest_rule() {
    let days = |retention: Retention| longest_days(&retention);
    assert_eq!(days(Retention { weekly: 5, keep_days: 30, ..Retention::default() }), Some(35));
    assert_eq!(days(Retention { yearly: 7, monthly: 12, ..Retention::default() }), Some(2562));
    assert_eq!(days(Retention { keep_last: 9, ..Retention::default() }), None);
}

/// The page is the promise: every control is on it, with its clauses, and nothing else is.
#[test]
fn the_page_of_controls_is_the_table() {
    let page = include_str!("../../../../docs/compliance.md");
    let rows: Vec<Vec<String>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            line.replacen('`', "", 1)
                .trim_end_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect();
    let cell = |clauses: &[&str]| if clauses.is_empty() { "-".to_owned() } else { clauses.join(", ") };
    let table: Vec<Vec<String>> = Control::ALL
        .iter()
        .map(|control| {
            let Clauses { soc2, iso27001, pci_dss, nist_800_53, nist_csf } = control.clauses();
            let of = [soc2, iso27001, pci_dss, nist_800_53, nist_csf].map(cell);
            [vec![control.word().to_owned(), control.question().to_owned()], of.to_vec()].concat()
        })
        .collect();
    assert_eq!(rows, table);
}
