//! From what was seen of a source to a finding per control. One function a control.

use std::time::Duration;

use super::{Control, Cover, Finding, LockSeen, Seen, Taken, Verdict, longest_days, time};
use crate::name::PointId;
use crate::time::{Timestamp, human_duration};

/// Times that are named one by one.
const NAMED: usize = 3;

const DAY: Duration = Duration::from_secs(86_400);

/// Judges every control. Of a source that is left out only the first is asked.
pub fn judge(seen: &Seen) -> Vec<Finding> {
    let mut findings = vec![in_plan(seen)];
    if matches!(seen.cover, Cover::LeftOut { .. }) && seen.newest.is_none() {
        return findings;
    }
    findings.extend([
        frequency(seen),
        retention(seen),
        encrypted(seen),
        immutable(seen),
        copied(seen),
        drilled(seen),
        no_manual_delete(seen),
        objectives(seen),
    ]);
    findings
}

fn finding(control: Control, verdict: Verdict, found: impl Into<String>) -> Finding {
    Finding { control, verdict, found: found.into(), evidence: Vec::new() }
}

fn with(finding: Finding, evidence: Vec<String>) -> Finding {
    Finding { evidence, ..finding }
}

fn in_plan(seen: &Seen) -> Finding {
    let of = |verdict, found: String| finding(Control::InPlan, verdict, found);
    match &seen.cover {
        Cover::Plans(plans) => {
            let evidence = plans.iter().map(|plan| format!("settings: [plan.{plan}]")).collect();
            with(of(Verdict::Passed, format!("in {}", plans.join(", "))), evidence)
        }
        Cover::LeftOut { plan, reason, review } => {
            let is_past = seen.now.0.to_zoned(jiff::tz::TimeZone::UTC).date() > *review;
            let (verdict, when) = match is_past {
                true => (Verdict::Failed, format!("and that was to be looked at again by {review}")),
                false => (Verdict::Passed, format!("to be looked at again by {review}")),
            };
            let evidence = vec![format!("settings: [[plan.{plan}.exclude]]")];
            with(of(verdict, format!("left out by {plan}: {reason}, {when}")), evidence)
        }
        Cover::None => of(Verdict::Failed, "in no plan, and nobody said why".to_owned()),
    }
}

/// Each time that one was due, and the next was not yet, or the patience with it lasted, one was begun. Times before the first point do not
/// count: nobody knows since when the plan is as it is.
fn frequency(seen: &Seen) -> Finding {
    let of = |verdict, found: String| finding(Control::Frequency, verdict, found);
    let Some(first) = seen.taken.first() else {
        return of(Verdict::Failed, "no recovery point was ever taken".to_owned());
    };
    let counted: Vec<Timestamp> = seen
        .due
        .iter()
        .copied()
        .filter(|due| *due >= first.begun && seen.now.since(*due) > seen.patience)
        .collect();
    let Some(oldest) = counted.first() else {
        return of(Verdict::NotKnown, "none was due in the time that is looked at".to_owned());
    };
    let begun_for = |number: usize, due: Timestamp| {
        let until = counted.get(number + 1).copied();
        seen.taken.iter().find(|taken| {
            let in_time = taken.begun.since(due) <= seen.patience;
            // An id has whole seconds.
            taken.begun.unix_seconds() >= due.unix_seconds()
                && (in_time || until.is_some_and(|next| taken.begun < next))
        })
    };
    let of_due: Vec<(Timestamp, Option<&Taken>)> =
        counted.iter().enumerate().map(|(number, due)| (*due, begun_for(number, *due))).collect();
    let missed: Vec<String> =
        of_due.iter().filter(|(_, taken)| taken.is_none()).map(|(due, _)| due.to_string()).collect();
    let evidence = of_due.iter().rev().filter_map(|(_, taken)| *taken);
    let evidence: Vec<String> = evidence.take(NAMED).map(|taken| seen.key(&taken.point, "intent")).collect();
    let held = format!("{} of {} since {oldest} were taken", counted.len() - missed.len(), counted.len());
    match missed.is_empty() {
        true => with(of(Verdict::Passed, held), evidence),
        false => with(of(Verdict::Failed, format!("{held}; none for {}", shortened(&missed))), evidence),
    }
}

fn retention(seen: &Seen) -> Finding {
    let of = |verdict, found: String| finding(Control::Retention, verdict, found);
    let points = match seen.restorable {
        1 => "1 recovery point".to_owned(),
        count => format!("{count} recovery points"),
    };
    match (&seen.retention, seen.lost_early.is_empty()) {
        _ if seen.taken.is_empty() => of(Verdict::NotKnown, "there is nothing to keep yet".to_owned()),
        (_, false) => {
            let evidence = keys(seen, &seen.lost_early, "expired");
            let found = format!("let go although retention keeps them: {}", ids(&seen.lost_early));
            with(of(Verdict::Failed, found), evidence)
        }
        (None, true) => of(Verdict::Passed, format!("everything is kept: {points}")),
        (Some(_), true) => of(Verdict::Passed, format!("{points}; none was let go that retention keeps")),
    }
}

fn encrypted(seen: &Seen) -> Finding {
    let evidence = vec!["vault.json".to_owned()];
    with(
        match &seen.suite {
            Some(suite) => finding(
                Control::Encrypted,
                Verdict::Passed,
                format!("sealed with suite {suite} before it leaves the host"),
            ),
            None => finding(
                Control::Encrypted,
                Verdict::Failed,
                "the vault's suite is none: nothing is encrypted",
            ),
        },
        evidence,
    )
}

fn immutable(seen: &Seen) -> Finding {
    let of = |verdict, found: String| finding(Control::Immutable, verdict, found);
    let needed = seen.retention.as_ref().and_then(longest_days);
    match (&seen.lock, &seen.newest, needed) {
        (_, None, _) => of(Verdict::NotKnown, "there is no recovery point to be locked".to_owned()),
        (LockSeen::Impossible(why), ..) => of(Verdict::Failed, why.clone()),
        (LockSeen::Unasked(why), ..) => of(Verdict::NotKnown, why.clone()),
        (LockSeen::Open(key), ..) => {
            with(of(Verdict::Failed, "the newest recovery point is not locked".to_owned()), vec![key.clone()])
        }
        (LockSeen::Until(key, until), _, None) => {
            let found = format!(
                "locked until {until}; whether that is long enough nobody can tell: retention does not say for how many days it keeps"
            );
            with(of(Verdict::NotKnown, found), vec![key.clone()])
        }
        (LockSeen::Until(key, until), Some(newest), Some(days)) => {
            let needed = DAY.saturating_mul(days);
            // A lock begins when its object is written, which is after the point was begun.
            let is_enough = until.since(newest.begun) + DAY >= needed;
            let word = if is_enough { "which is" } else { "which is less than" };
            let found = format!("locked until {until}, {word} the {days} days that retention keeps");
            let found = if is_enough { found.replace("which is the", "which covers the") } else { found };
            let verdict = if is_enough { Verdict::Passed } else { Verdict::Failed };
            with(of(verdict, found), vec![key.clone()])
        }
    }
}

fn copied(seen: &Seen) -> Finding {
    let of = |verdict, found: String| finding(Control::Copied, verdict, found);
    let Some(newest) = &seen.newest else {
        return of(Verdict::NotKnown, "there is no recovery point to be copied".to_owned());
    };
    if seen.copies.is_empty() {
        return of(Verdict::Failed, "there is no second vault".to_owned());
    }
    let has = |copy: &&super::CopySeen| copy.points.contains(&newest.point);
    if let Some(copy) = seen.copies.iter().find(has) {
        let evidence = vec![format!("{}: {}", copy.vault, seen.key(&newest.point, "decision"))];
        return with(
            of(Verdict::Passed, format!("the newest recovery point is in {}", copy.vault)),
            evidence,
        );
    }
    // Copies follow backups: one of the last day may be on its way.
    let is_young = seen.now.since(newest.begun) < DAY;
    let latest = seen
        .copies
        .iter()
        .filter_map(|copy| Some((copy.points.iter().max()?, copy)))
        .max_by_key(|(point, _)| *point);
    let silent = seen.copies.iter().find_map(|copy| Some((&copy.vault, copy.silent.as_ref()?)));
    match (latest, silent) {
        (Some((point, copy)), _) => {
            let evidence = vec![format!("{}: {}", copy.vault, seen.key(point, "decision"))];
            let found =
                format!("the newest in {} is {point}, and the newest of all is {}", copy.vault, newest.point);
            let is_near = is_young && point.begun().is_some_and(|begun| seen.now.since(begun) < DAY * 2);
            with(of(if is_near { Verdict::Passed } else { Verdict::Failed }, found), evidence)
        }
        (None, Some((vault, why))) => of(Verdict::NotKnown, format!("{vault} does not say: {why}")),
        (None, None) => of(Verdict::Failed, "no other vault has a copy".to_owned()),
    }
}

fn drilled(seen: &Seen) -> Finding {
    let of = |verdict, found: String| finding(Control::Drilled, verdict, found);
    let within = human_duration(seen.drilled_within);
    let evidence: Vec<String> = seen.drills.iter().rev().take(NAMED).cloned().collect();
    match (seen.drilled_at, seen.drills.is_empty()) {
        (None, true) => of(Verdict::Failed, "never drilled".to_owned()),
        (None, false) => with(of(Verdict::Failed, "drilled, and no drill passed".to_owned()), evidence),
        (Some(at), _) => {
            let ago = human_duration(seen.now.since(at));
            let is_recent = seen.now.since(at) <= seen.drilled_within;
            let verdict = if is_recent { Verdict::Passed } else { Verdict::Failed };
            with(of(verdict, format!("a drill passed {ago} ago; it may be {within}")), evidence)
        }
    }
}

fn no_manual_delete(seen: &Seen) -> Finding {
    let of = |verdict, found: String| finding(Control::NoManualDelete, verdict, found);
    match (seen.damage.is_empty(), seen.by_name.is_empty()) {
        _ if seen.taken.is_empty() => of(Verdict::NotKnown, "there is nothing to delete yet".to_owned()),
        (false, _) => with(
            of(Verdict::Failed, format!("damaged or missing: {}", shortened(&seen.damage))),
            seen.damage.clone(),
        ),
        (true, false) => {
            let evidence = keys(seen, &seen.by_name, "expired");
            with(of(Verdict::Failed, format!("let go by name: {}", ids(&seen.by_name))), evidence)
        }
        (true, true) => {
            let found =
                "records, manifests and packs of all committed points are there, and none was let go by name";
            of(Verdict::Passed, found.to_owned())
        }
    }
}

fn objectives(seen: &Seen) -> Finding {
    let of = |verdict, found: String| finding(Control::Objectives, verdict, found);
    let one = |what: &str, (limit, found): (Option<f64>, Option<f64>), none: &str| match (limit, found) {
        (None, _) => (None, format!("no {what} is promised")),
        (Some(limit), None) => (Some(Verdict::NotKnown), format!("{what} {}: {none}", time(limit))),
        (Some(limit), Some(found)) => {
            let verdict = if found <= limit { Verdict::Passed } else { Verdict::Failed };
            (Some(verdict), format!("{what} {}: measured {}", time(limit), time(found)))
        }
    };
    let (rpo, of_rpo) = one("RPO", seen.rpo, "nothing of it is in the vault");
    let (rto, of_rto) = one("RTO", seen.rto, "no drill measured it");
    let worst = rpo.into_iter().chain(rto).min().unwrap_or(Verdict::NotKnown);
    with(of(worst, format!("{of_rpo}; {of_rto}")), seen.drills.last().cloned().into_iter().collect())
}

fn ids(points: &[PointId]) -> String {
    shortened(&points.iter().map(PointId::to_string).collect::<Vec<_>>())
}

fn keys(seen: &Seen, points: &[PointId], part: &str) -> Vec<String> {
    points.iter().map(|point| seen.key(point, part)).collect()
}

/// The first few, and how many more there are.
fn shortened(all: &[String]) -> String {
    let more = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ") + &more
}
