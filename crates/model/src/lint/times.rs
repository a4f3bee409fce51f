//! P1: when things run, and whether they get in each other's way. A source has one job at a time: the second one waits.

use std::time::Duration;

use super::cadence::cadence;
use super::coverage::{Group, names};
use super::{Finding, Situation};
use crate::name::{PlanName, SourceName};
use crate::plan::Timetable;
use crate::source::Protected;
use crate::time::{Timestamp, human_duration};

/// What is wrong with times.
pub fn findings(situation: &Situation<'_>, groups: &[Group<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, plan) in situation.plans {
        for table in plan.timetables() {
            found.extend(never_again(situation, name, &table));
            let zoned = *table.zone != plan.timezone || *table.zone != crate::zone::Zone::UTC;
            if table.schedule.is_rate() && zoned {
                let what = format!(
                    "{} of plan {name} is {}, which runs by universal time: {} changes nothing about it",
                    table.rule, table.schedule, table.zone
                );
                let instead = "write it as cron, or set its timezone to UTC";
                found.push(Finding::warn("P103", what, instead).of_plan(name));
            }
        }
    }
    for group in groups {
        found.extend(overlaps(situation, group));
        found.extend(slower_than_its_rhythm(situation, group));
        found.extend(windows(situation, group));
    }
    found
}

fn never_again(situation: &Situation<'_>, name: &PlanName, table: &Timetable<'_>) -> Option<Finding> {
    if table.next_after(situation.now).is_some() {
        return None;
    }
    let what = format!("{} of plan {name} never runs again: {} is over", table.rule, table.schedule);
    Some(Finding::refuse("P101", what, "write * for the year, or take the rule out").of_plan(name))
}

/// Two backups that fall together: once per pair, where it happens first.
fn overlaps(situation: &Situation<'_>, group: &Group<'_>) -> Vec<Finding> {
    let slowest = group.sources.iter().filter_map(|source| situation.measured(source).backup).max();
    let takes = slowest.unwrap_or_default().max(Duration::from_secs(60));
    let (mut found, mut told) = (Vec::new(), Vec::new());
    let mut last: Option<(Timestamp, usize)> = None;
    for &(at, number) in &group.dues {
        let near = last.filter(|(before, other)| *other != number && at.since(*before) < takes);
        last = Some((at, number));
        let Some((before, other)) = near else { continue };
        let pair = (other.min(number), other.max(number));
        if told.contains(&pair) {
            continue;
        }
        told.push(pair);
        let of = |number: usize| {
            let (plan, table) = &group.backups[number];
            format!("{} of plan {plan}", table.rule)
        };
        let when = match at == before {
            true => format!("both due at {at}"),
            false => format!("due at {before} and {at}, and a backup takes {}", human_duration(takes)),
        };
        let what = format!(
            "{} and {} are {when}: the second waits, and makes a second point",
            of(other),
            of(number)
        );
        let instead = "one point serves both rules: leave that time out of one of them, and let the other keep it longer";
        found.push(
            Finding::warn("P102", what, instead)
                .of_plan(group.backups[number].0)
                .of_sources(names(&group.sources)),
        );
    }
    found
}

/// Sources by what was measured of them, if that is longer than `most`.
fn slow<'a>(situation: &Situation<'_>, group: &Group<'a>, most: Duration) -> Vec<(&'a Protected, Duration)> {
    let measured = |source: &&'a Protected| Some((*source, situation.measured(source).backup?));
    group.sources.iter().filter_map(measured).filter(|(_, takes)| *takes > most).collect()
}

fn slowest<'a>(slow: &[(&'a Protected, Duration)]) -> Option<(&'a SourceName, Duration)> {
    slow.iter().max_by_key(|(_, takes)| *takes).map(|(source, takes)| (&source.name, *takes))
}

fn slower_than_its_rhythm(situation: &Situation<'_>, group: &Group<'_>) -> Option<Finding> {
    let shortest = cadence(&group.dues)?.shortest;
    let slow = slow(situation, group, shortest);
    let (source, takes) = slowest(&slow)?;
    let what = format!(
        "a backup of {source} took {}, and the next is due after {}",
        human_duration(takes),
        human_duration(shortest)
    );
    let finding = Finding::warn("P104", what, "take them less often, or with more workers in [backup]");
    let finding = finding.of_sources(slow.iter().map(|(source, _)| &source.name));
    Some(if let [(plan, _)] = &group.plans[..] { finding.of_plan(plan) } else { finding })
}

fn windows(situation: &Situation<'_>, group: &Group<'_>) -> Vec<Finding> {
    let finding = |(plan, table): &(&PlanName, Timetable<'_>)| {
        let slow = slow(situation, group, table.completion_window.0);
        let (source, takes) = slowest(&slow)?;
        let what = format!(
            "rule {} of plan {plan} stops a backup after {}, and one of {source} took {}",
            table.rule,
            table.completion_window,
            human_duration(takes)
        );
        let instead = format!("raise its completion_window to {} or more", doubled(takes));
        Some(
            Finding::refuse("P105", what, instead)
                .of_plan(plan)
                .of_sources(slow.iter().map(|(source, _)| &source.name)),
        )
    };
    group.backups.iter().filter_map(finding).collect()
}

/// Twice as long, in whole minutes: what took so long once may take longer.
fn doubled(takes: Duration) -> crate::span::Span {
    crate::span::Span::from_secs((takes.as_secs() * 2).div_ceil(60) * 60)
}
