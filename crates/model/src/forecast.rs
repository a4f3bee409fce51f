//! What becomes due, by the plans alone: every run between two instants, and for which sources.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::name::{PlanName, SourceName};
use crate::plan::{Plan, Timetable, Work};
use crate::source::Protected;
use crate::time::Timestamp;
use crate::zone::Zone;

/// One run of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Due<'a> {
    /// When.
    pub at: Timestamp,
    /// The same as a clock in the rule's zone shows it.
    pub local: String,
    /// The rule's zone.
    pub zone: &'a Zone,
    /// Of which plan.
    pub plan: &'a PlanName,
    /// By which rule.
    pub rule: &'a str,
    /// What is to be done.
    pub work: Work,
}

/// A plan's sources.
pub fn covered<'a>(plan: &Plan, sources: &'a [Protected]) -> Vec<&'a SourceName> {
    sources.iter().filter(|source| plan.covers(source)).map(|source| &source.name).collect()
}

/// Every run after `from` and not after `until`, in order of time; of a plan that covers no source none.
pub fn forecast<'a>(
    plans: &'a BTreeMap<PlanName, Plan>,
    sources: &[Protected],
    (from, until): (Timestamp, Timestamp),
) -> impl Iterator<Item = Due<'a>> {
    let alive = plans.iter().filter(|(_, plan)| sources.iter().any(|source| plan.covers(source)));
    let of_plan = |(name, plan): (&'a PlanName, &'a Plan)| plan.timetables().map(move |table| (name, table));
    let tables: Vec<(&'a PlanName, Timetable<'a>)> = alive.flat_map(of_plan).collect();
    // What is next of each: so much is held, however long the list gets.
    let mut next: Vec<Option<Timestamp>> = tables.iter().map(|(_, table)| table.next_after(from)).collect();
    std::iter::from_fn(move || {
        let due = next.iter().enumerate().filter_map(|(number, at)| Some(((*at)?, number)));
        let (at, number) = due.min().filter(|(at, _)| *at <= until)?;
        let (plan, table) = &tables[number];
        next[number] = table.next_after(at);
        let Timetable { zone, rule, work, .. } = *table;
        Some(Due { at, local: zone.shown(at), zone, plan, rule, work })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Objectives, Shipping, SourceKind};

    #[test]
    fn runs_come_in_order_and_in_two_clocks() {
        let plan = |value| serde_json::from_value::<Plan>(value).unwrap();
        let plans: BTreeMap<PlanName, Plan> = [
            (
                "night".parse().unwrap(),
                plan(serde_json::json!({
                    "select": { "sources": ["orders"] },
                    "timezone": "Asia/Singapore",
                    "rule": [{ "name": "twelve", "schedule": "cron(0 2,14 * * ? *)", "timezone": "UTC" }],
                    "drill": { "schedule": "0 9 * * *" },
                })),
            ),
            (
                "nobody".parse().unwrap(),
                plan(serde_json::json!({
                    "select": { "sources": ["x"] },
                    "rule": [{ "name": "a", "schedule": "* * * * *" }],
                })),
            ),
        ]
        .into();
        let sources = [Protected {
            name: "orders".parse().unwrap(),
            kind: SourceKind::Postgres,
            tags: BTreeMap::new(),
            objectives: Objectives::default(),
            shipping: Shipping::None,
            retention: None,
        }];
        let at = |text: &str| Timestamp(text.parse().unwrap());
        let window = (at("2026-11-22T00:00:00Z"), at("2026-11-23T01:59:00Z"));
        let runs: Vec<(String, String, Work)> =
            forecast(&plans, &sources, window).map(|due| (due.at.to_string(), due.local, due.work)).collect();
        let row = |at: &str, local: &str, work| (at.to_owned(), local.to_owned(), work);
        assert_eq!(
            runs,
            [
                row("2026-11-22 01:00:00+00", "2026-11-22 09:00 +0800", Work::Drill),
                row("2026-11-22 02:00:00+00", "2026-11-22 02:00 +0000", Work::Backup),
                row("2026-11-22 14:00:00+00", "2026-11-22 14:00 +0000", Work::Backup),
                row("2026-11-23 01:00:00+00", "2026-11-23 09:00 +0800", Work::Drill),
            ]
        );
    }
}
