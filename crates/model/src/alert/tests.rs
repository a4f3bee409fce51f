//! Tables: what is found wrong, and what of it is news.

use std::collections::BTreeSet;
use std::time::Duration;

use super::news::{Alert, Event, News, Sight, is_for, news};
use super::observed::{
    AgentState, ChannelState, DrillState, End, Held, JobEnd, Observed, SlotState, SourceState, Written,
};
use super::rules::conditions;
use super::{AlertKind, Condition, Severity};
use crate::name::PointId;
use crate::position::{Lsn, SystemId};
use crate::span::Span;
use crate::time::Timestamp;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// So many seconds after noon of a certain day; every table counts from there.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + seconds).unwrap()
}

fn point(begun: i64) -> (PointId, Timestamp) {
    (PointId::new(at(begun), [1; 4]), at(begun))
}

/// A source that is well at hour 0: backed up an hour ago, its WAL a minute old.
fn well() -> SourceState {
    let held = Held {
        points: 1,
        last_point: Some(point(-HOUR)),
        last_point_at: Some(at(-HOUR + 60)),
        journal_at: Some(at(-60)),
        ..Held::default()
    };
    SourceState {
        name: "orders".parse().unwrap(),
        has_journal: true,
        rpo: Some(Span::from_secs(300)),
        known_since: at(-30 * DAY),
        held: Some(held),
        backups_due: vec![("nightly".into(), at(-2 * HOUR))],
        verify_due: None,
        drill_due: None,
        is_backed_up_now: false,
        verified_at: None,
        slots: None,
        caught_up_at: None,
        jobs: Vec::new(),
    }
}

fn held(source: &mut SourceState) -> &mut Held {
    source.held.as_mut().unwrap()
}

fn job(kind: &str, end: End, ended: i64) -> JobEnd {
    let said = "first\nthe server is away\n".to_owned();
    JobEnd { id: 7, kind: kind.into(), vault: String::new(), end, at: at(ended), said }
}

/// What is found at hour 0 after `change` was done to a source that is well.
fn check(what: &str, change: impl FnOnce(&mut SourceState), expected: &str) {
    let mut source = well();
    change(&mut source);
    let found = conditions(&Observed { sources: vec![source], ..Observed::default() }, at(0));
    let words: Vec<String> = found
        .iter()
        .map(|found| format!("{} {}", found.kind, found.since.unix_seconds() - at(0).unix_seconds()))
        .collect();
    assert_eq!(words.join(", "), expected, "{what}: {found:?}");
}

#[test]
fn backups_that_fail_or_do_not_come_are_told() {
    check("well", |_| {}, "");
    check("failed", |source| source.jobs = vec![job("backup", End::Failed, -60)], "backup-failed -60");
    check("not begun", |source| source.jobs = vec![job("backup", End::NotBegun, -60)], "backup-failed -60");
    check(
        "not in every vault",
        |source| source.jobs = vec![job("backup", End::Incomplete, -60)],
        "job-failed -60",
    );
    check("a point since, by hand", |source| source.jobs = vec![job("backup", End::Failed, -HOUR - 60)], "");
    check("done", |source| source.jobs = vec![job("backup", End::Well, -60)], "");
    check("due since", |source| source.backups_due[0].1 = at(-HOUR + 1), "late -3599");
    check(
        "due since, and under way",
        |source| (source.backups_due[0].1, source.is_backed_up_now) = (at(-60), true),
        "",
    );
    check(
        "of two rules the later one",
        |source| source.backups_due.extend([("b".into(), at(-60)), ("c".into(), at(-90))]),
        "late -60",
    );
    check("vault unread", |source| (source.held, source.backups_due[0].1) = (None, at(-60)), "");
    let never = |known: i64| {
        move |source: &mut SourceState| {
            (source.held, source.known_since, source.rpo) = (Some(Held::default()), at(known), None);
        }
    };
    check("never, and due since it is known", never(-3 * HOUR), "late -7200");
    check("never, and not yet due", never(-HOUR), "");
}

#[test]
fn a_server_that_writes_nothing_loses_nothing() {
    const SEGMENT: u64 = 16 << 20;
    let (ours, other) = (SystemId(7), SystemId(8));
    for (end, written, timeout, expected) in [
        ((ours, 5 * SEGMENT), 5 * SEGMENT, 0, Some(0)),
        ((ours, 6 * SEGMENT), 5 * SEGMENT + 40, 60, Some(0)),
        ((ours, 5 * SEGMENT), 5 * SEGMENT + 40, 60, Some(-60)),
        ((ours, 5 * SEGMENT), 5 * SEGMENT + 40, 0, None),
        ((ours, 5 * SEGMENT - 1), 5 * SEGMENT + 40, 60, None),
        ((other, 6 * SEGMENT), 5 * SEGMENT, 60, None),
    ] {
        let archive_timeout = Duration::from_secs(timeout);
        let written = Written { lineage: ours, at: Lsn(written), segment_size: SEGMENT, archive_timeout };
        let found = written.caught_up_at((end.0, Lsn(end.1)), at(0));
        assert_eq!(found, expected.map(at), "{end:?} {written:?}");
    }
    let malformed =
        Written { lineage: ours, at: Lsn(5), segment_size: 0, archive_timeout: Default::default() };
    assert_eq!(malformed.caught_up_at((ours, Lsn(1)), at(0)), None);
}

#[test]
fn what_would_be_lost_is_told() {
    check("WAL as old as it may be", |source| held(source).journal_at = Some(at(-300)), "");
    check("older", |source| held(source).journal_at = Some(at(-301)), "rpo -1");
    check("no promise", |source| (held(source).journal_at, source.rpo) = (Some(at(-DAY)), None), "");
    check(
        "a point is newer than its WAL",
        |source| {
            (held(source).journal_at, held(source).last_point_at) = (Some(at(-301)), Some(at(-200)));
        },
        "",
    );
    check(
        "a dump has no WAL",
        |source| (source.has_journal, source.rpo) = (false, Some(Span::from_hours(1))),
        "",
    );
    check(
        "a dump that is too old",
        |source| (source.has_journal, source.rpo) = (false, Some(Span::from_secs(60))),
        "rpo -3480",
    );
    check(
        "nothing at all",
        |source| {
            (source.held, source.known_since, source.backups_due) =
                (Some(Held::default()), at(-400), Vec::new());
        },
        "rpo -100",
    );
    let idle = |caught_up: i64| {
        move |source: &mut SourceState| {
            (held(source).journal_at, source.caught_up_at) = (Some(at(-DAY)), Some(at(caught_up)));
        }
    };
    check("a server that writes nothing", idle(-300), "");
    check("one that has something again", idle(-301), "rpo -1");
    check("a gap", |source| held(source).gap = Some("00000001000000000000000A".into()), "wal-gap -3540");
}

#[test]
fn slots_that_nobody_reads_from_are_told() {
    let slot = |kept, is_lost| Some(vec![SlotState { name: "strongroom_orders".into(), kept, is_lost }]);
    for (slots, expected) in
        [(slot(100, false), ""), (slot(101, false), "warning"), (slot(0, true), "critical"), (None, "")]
    {
        let source = SourceState { slots, ..well() };
        let observed = Observed { sources: vec![source], slot_limit: 100, ..Observed::default() };
        let found: Vec<&str> =
            conditions(&observed, at(0)).iter().map(|found| found.severity.word()).collect();
        assert_eq!(found.join(" "), expected);
    }
    // What a server does not say is neither news nor over.
    let (sources, nobody) = (BTreeSet::from(["orders".parse().unwrap()]), BTreeSet::new());
    let condition = condition(AlertKind::Slot, "orders");
    let firing = [Alert { condition: condition.clone(), fired_at: at(0), told_at: at(0) }];
    for (slots, expected) in [(&sources, "recovered slot/orders/"), (&nobody, "")] {
        let sight = Sight { sources: &sources, has_vault: true, is_fresh: true, slots };
        assert_eq!(told(&news(&firing, &[], sight, (at(1), Duration::MAX))), expected);
    }
}

#[test]
fn sizes_are_compared_with_the_trend() {
    let mib = |sizes: &[u64]| sizes.iter().map(|size| size << 20).collect::<Vec<u64>>();
    for (sizes, expected) in [
        (&[1000, 1010, 990, 1000, 1999][..], ""),
        (&[1000, 1010, 990, 1000, 2001], "size -3600"),
        (&[1000, 1010, 990, 1000, 499], "size -3600"),
        (&[1000, 1010, 990, 1000, 500], ""),
        // No trend yet.
        (&[1000, 1000, 1000, 9000], ""),
        // Small things double every day.
        (&[8, 8, 8, 8, 60], ""),
        // One that was out of line does not move the middle.
        (&[1000, 1000, 9000, 1000, 1000, 1100], ""),
        (&[], ""),
    ] {
        check(&format!("{sizes:?}"), |source| held(source).sizes = mib(sizes), expected);
    }
}

#[test]
fn proofs_that_are_missing_or_failed_are_told() {
    let drilled = |ended: i64, passed| Some(DrillState { at: at(ended), passed, rto_seconds: Some(9.0) });
    check("damage", |source| source.jobs = vec![job("verify", End::Found, -60)], "damage -60");
    check("verify failed", |source| source.jobs = vec![job("verify", End::Failed, -60)], "job-failed -60");
    check(
        "verify overdue",
        |source| (source.verify_due, source.verified_at) = (Some(at(-60)), Some(at(-61))),
        "verify-overdue -60",
    );
    check("verified", |source| (source.verify_due, source.verified_at) = (Some(at(-60)), Some(at(-60))), "");
    check("never verified", |source| source.verify_due = Some(at(-60)), "verify-overdue -60");
    check("drill passed", |source| held(source).drill = drilled(-60, true), "");
    check("drill failed", |source| held(source).drill = drilled(-60, false), "drill-failed -60");
    check(
        "drill overdue",
        |source| (source.drill_due, held(source).drill) = (Some(at(-50)), drilled(-60, true)),
        "drill-overdue -50",
    );
    check("never drilled", |source| source.drill_due = Some(at(-50)), "drill-overdue -50");
    check(
        "never drilled, and not yet due",
        |source| (source.drill_due, source.known_since) = (Some(at(-50)), at(-40)),
        "",
    );
}

#[test]
fn what_ends_soon_is_told_a_week_before() {
    let hold =
        |until: i64| move |source: &mut SourceState| held(source).holds = vec![(point(-DAY).0, at(until))];
    check("in a week", hold(7 * DAY), "hold-ends 0");
    check("later", hold(7 * DAY + 1), "");
    check("over", hold(-1), "");
    for (begun, days, expected) in [(-22, 30, 0), (-23, 30, 1), (-31, 30, 1), (-10, 10, 0)] {
        let mut observed = Observed { sources: vec![well()], ..Observed::default() };
        held(&mut observed.sources[0]).last_point = Some(point(begun * DAY));
        observed.sources[0].backups_due.clear();
        observed.vault.lock_days = Some(days);
        let found = conditions(&observed, at(0));
        assert_eq!(
            found.iter().filter(|found| found.kind == AlertKind::LockEnds).count(),
            expected,
            "{begun} {days}"
        );
    }
}

#[test]
fn vault_agents_chores_and_channels_are_watched() {
    let gib = |gib: u64| Some(gib << 30);
    let agent = |host: &str, seen: i64| AgentState { host: host.into(), seen: at(seen) };
    let mut observed = Observed::default();
    observed.vault.silent = Some((at(-300), "no route".into()));
    (observed.vault.stored, observed.vault.expected) = (gib(81), gib(100));
    observed.chores = vec![job("sweep", End::Failed, -60)];
    // One host has a newer agent, one was given up long ago.
    observed.agents = vec![agent("a", -301), agent("b", -301), agent("b", -10), agent("c", -8 * DAY)];
    observed.channels = vec![
        ChannelState { name: "mail".into(), failing: Some((at(-5), "refused".into())) },
        ChannelState { name: "chat".into(), failing: None },
    ];
    let keys: Vec<String> = conditions(&observed, at(0)).iter().map(Condition::key).collect();
    assert_eq!(
        keys,
        ["vault-silent/*/", "storage/*/", "job-failed/*/sweep", "agent-silent/*/a", "channel-fails/*/mail"]
    );
    observed.vault.silent = Some((at(-299), "no route".into()));
    observed.vault.stored = gib(80);
    assert_eq!(conditions(&observed, at(0)).len(), 3);
    let said = &conditions(&observed, at(0))[0];
    assert!(said.text.ends_with("sweep failed: the server is away"), "{}", said.text);
    assert_eq!(said.command, "strongroom jobs show 7");
}

fn condition(kind: AlertKind, source: &str) -> Condition {
    Condition::new(kind, source.parse().ok().as_ref(), "x", at(0))
}

fn told(news: &[News]) -> String {
    let one = |news: &News| format!("{} {}", news.event.word(), news.condition.key());
    news.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What is news of `conditions` while `firing` were told of an hour ago, and reminders are due every two.
fn check_news(
    firing: &[Condition],
    conditions: &[Condition],
    (has_vault, is_fresh, later): (bool, bool, i64),
    expected: &str,
) {
    let sources: BTreeSet<_> = ["orders".parse().unwrap()].into();
    let firing: Vec<Alert> = firing
        .iter()
        .map(|condition| Alert { condition: condition.clone(), fired_at: at(-HOUR), told_at: at(-HOUR) })
        .collect();
    let sight = Sight { sources: &sources, has_vault, is_fresh, slots: &sources };
    assert_eq!(told(&news(&firing, conditions, sight, (at(later), Duration::from_secs(7200)))), expected);
}

#[test]
fn beginnings_and_ends_are_news_once() {
    use AlertKind::{JobFailed, Late, Rpo, Storage};
    let (late, rpo) = (condition(Late, "orders"), condition(Rpo, "orders"));
    let all = (true, true, 0);
    check_news(&[], &[], all, "");
    check_news(&[], &[late.clone(), rpo.clone()], all, "fired late/orders/, fired rpo/orders/");
    check_news(std::slice::from_ref(&late), &[late.clone(), rpo.clone()], all, "fired rpo/orders/");
    check_news(&[late.clone(), rpo.clone()], std::slice::from_ref(&rpo), all, "recovered late/orders/");
    check_news(
        std::slice::from_ref(&late),
        std::slice::from_ref(&late),
        (true, true, HOUR),
        "reminded late/orders/",
    );
    check_news(std::slice::from_ref(&late), std::slice::from_ref(&late), (true, true, HOUR - 1), "");
    // Somebody else's, and what cannot be seen now, stay as they are.
    let (other, storage) = (condition(Late, "other"), condition(Storage, "*"));
    check_news(&[other.clone(), storage.clone()], &[], (false, true, 0), "");
    check_news(&[], &[other, storage.clone()], (false, true, 0), "");
    check_news(&[late.clone(), storage.clone()], &[], (true, false, 0), "");
    check_news(&[condition(JobFailed, "orders")], &[], (true, false, 0), "recovered job-failed/orders/");
    let silent = condition(AlertKind::VaultSilent, "*");
    check_news(&[], std::slice::from_ref(&silent), (true, false, 0), "fired vault-silent/*/");
    check_news(std::slice::from_ref(&silent), &[], (true, false, 0), "");
    check_news(&[silent], &[], all, "recovered vault-silent/*/");
    check_news(std::slice::from_ref(&storage), &[], all, "recovered storage/*/");
}

#[test]
fn a_channel_is_told_what_it_takes_and_not_of_itself() {
    let news = |kind, detail: &str| {
        let condition = condition(kind, "*").of(detail);
        News { event: Event::Fired, condition, fired_at: at(0), at: at(0) }
    };
    let late = news(AlertKind::Late, "");
    assert!(is_for(&late, Severity::Critical, "mail") && is_for(&late, Severity::Info, "mail"));
    let size = news(AlertKind::Size, "");
    assert!(!is_for(&size, Severity::Critical, "mail") && is_for(&size, Severity::Warning, "mail"));
    let silent = news(AlertKind::ChannelFails, "mail");
    assert!(!is_for(&silent, Severity::Info, "mail") && is_for(&silent, Severity::Info, "chat"));
    assert_eq!(size.headline(), "warning: size");
    assert_ne!(size.occasion(), News { fired_at: at(1), ..size.clone() }.occasion());
}

#[test]
fn words_are_read_back() {
    for kind in AlertKind::ALL {
        assert_eq!(kind.word().parse(), Ok(*kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
    }
    for severity in Severity::ALL {
        assert_eq!(severity.word().parse(), Ok(*severity));
    }
    assert!("lat".parse::<AlertKind>().is_err());
}
