//! What the settings order, and when: each timetable of each plan, for each source that the plan covers, and the vault's own chores.

use std::collections::BTreeMap;
use std::time::Duration;

use strongroom_catalog::Kind;
use strongroom_catalog::job::Standing;
use strongroom_model::plan::{Chore, Timetable, Work};
use strongroom_model::schedule::Schedule;
use strongroom_model::source::Protected;
use strongroom_model::zone::Zone;
use strongroom_model::{RuleName, SourceName, Timestamp};

use crate::settings::Settings;
use crate::settings::reporting::ReportSettings;

/// A report that was not begun so long after its time is of yesterday.
const REPORT_BEGINS: Duration = Duration::from_secs(12 * 3600);

/// What takes longer than this to be made and sent hangs.
const REPORT_TAKES: Duration = Duration::from_secs(3600);

/// One line: what is ordered at each instant of a schedule.
pub struct Line {
    /// What.
    pub standing: Standing,
    /// At which instants.
    pub schedule: Schedule,
    /// Whose clock the schedule follows.
    pub zone: Zone,
    /// Vaults that get a copy after it.
    pub copies: Vec<String>,
}

impl Line {
    /// The first instant after `after`.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next_after(after, &self.zone)
    }
}

/// Everything that these settings order.
pub fn agenda(settings: &Settings) -> Vec<Line> {
    let protected = settings.protected();
    let mut lines = Vec::new();
    for (name, plan) in &settings.plans {
        for table in plan.timetables() {
            let covered = protected.iter().filter(|source| plan.covers(source));
            lines.extend(covered.filter_map(|source| line(settings, name.as_str(), &table, source)));
        }
    }
    lines.extend(settings.agent.sweep.as_ref().map(sweep));
    lines.extend(settings.reports.iter().map(report));
    lines
}

/// How many lines each kind of work has, for people.
pub fn counted(lines: &[Line]) -> String {
    let mut counts = BTreeMap::<Kind, usize>::new();
    lines.iter().for_each(|line| *counts.entry(line.standing.kind).or_default() += 1);
    counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
}

fn line(settings: &Settings, plan: &str, table: &Timetable<'_>, source: &Protected) -> Option<Line> {
    let kind = match table.work {
        Work::Backup => Kind::Backup,
        Work::Verify => Kind::Verify,
        Work::Drill => Kind::Drill,
        // Nothing is let go of a source that keeps everything.
        Work::Expire if settings.retention_of(&source.name).is_some() => Kind::Expire,
        Work::Expire => return None,
    };
    let standing = standing(
        kind,
        Some(&source.name),
        (plan, table.rule),
        (table.start_window.0, table.completion_window.0),
    );
    let (schedule, zone) = (table.schedule.clone(), table.zone.clone());
    Some(Line { standing, schedule, zone, copies: table.copies.to_vec() })
}

fn sweep(chore: &Chore) -> Line {
    let windows = (chore.start_window.0, chore.completion_window.0);
    Line {
        standing: standing(Kind::Sweep, None, ("", "sweep"), windows),
        schedule: chore.schedule.clone(),
        zone: chore.timezone.clone().unwrap_or_default(),
        copies: Vec::new(),
    }
}

fn report((name, settings): (&RuleName, &ReportSettings)) -> Line {
    Line {
        standing: standing(Kind::Report, None, ("", name.as_str()), (REPORT_BEGINS, REPORT_TAKES)),
        schedule: settings.schedule.clone(),
        zone: settings.timezone.clone(),
        copies: Vec::new(),
    }
}

fn standing(
    kind: Kind,
    source: Option<&SourceName>,
    (plan, rule): (&str, &str),
    (start_window, completion_window): (Duration, Duration),
) -> Standing {
    let (plan, rule) = (plan.to_owned(), rule.to_owned());
    Standing {
        kind,
        source: source.cloned(),
        vault: String::new(),
        plan,
        rule,
        start_window,
        completion_window,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = r#"
        [agent]
        sweep = { schedule = "0 5 * * 0" }
        [alert.script]
        kind = "exec"
        command = "cat"
        [report.weekly]
        kind = "status"
        schedule = "0 7 * * 1"
        timezone = "Europe/Berlin"
        to = ["script"]
        [source.orders]
        kind = "postgres"
        [source.shop]
        kind = "postgres-logical"
        retention = { keep_last = 3 }
        [source.scratch]
        kind = "postgres"
        [plan.gold]
        select = { sources = ["*"] }
        timezone = "Asia/Singapore"
        verify = { schedule = "0 4 * * *" }
        expire = { schedule = "0 5 * * *", start_window = "1h" }
        [[plan.gold.rule]]
        name = "nightly"
        schedule = "0 2 * * *"
        [[plan.gold.exclude]]
        source = "scratch"
        reason = "made anew"
        owner = "ops"
        review = "2027-01-01"
    "#;

    #[test]
    fn each_timetable_is_ordered_for_each_source_that_it_covers() {
        let lines = agenda(&toml::from_str(SETTINGS).unwrap());
        let keys: Vec<String> = lines.iter().map(|line| line.standing.key()).collect();
        assert_eq!(
            keys,
            [
                "backup/orders//gold/nightly",
                "backup/shop//gold/nightly",
                "verify/orders//gold/verify",
                "verify/shop//gold/verify",
                // Nothing is let go of orders: it keeps everything.
                "expire/shop//gold/expire",
                "sweep/*///sweep",
                "report/*///weekly",
            ]
        );
        assert_eq!(counted(&lines), "backup 2, expire 1, report 1, sweep 1, verify 2");
        let after = Timestamp("2026-11-20T00:00:00Z".parse().unwrap());
        let next: Vec<String> =
            lines.iter().map(|line| line.next_after(after).unwrap().0.to_string()).collect();
        assert_eq!(next[0], "2026-11-20T18:00:00Z");
        assert_eq!(next[5], "2026-11-22T05:00:00Z");
        assert_eq!(next[6], "2026-11-23T06:00:00Z");
        assert_eq!(lines[4].standing.start_window.as_secs(), 3600);
    }

    #[test]
    fn settings_without_plans_order_nothing() {
        assert!(agenda(&Settings::default()).is_empty());
    }
}
