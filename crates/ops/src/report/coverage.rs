//! `strongroom report coverage`: what is in a plan, what is left out and who answers for that, and what is in the vault that no settings name.
//!
//! What runs elsewhere and is named nowhere this report cannot see: it knows settings and vault, and asks no network who is there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Serialize;
use strongroom_model::plan::{Exclusion, Plan, Work};
use strongroom_model::source::{Protected, SourceKind};
use strongroom_model::{PlanName, SourceName, Timestamp};

/// How a source stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cover {
    /// It is configured, no plan is for it, and nobody said why.
    Forgotten,
    /// It is left out, and by now somebody should have looked again.
    ReviewOverdue,
    /// A plan is for it, and nothing of it is in the vault.
    NothingYet,
    /// It is in the vault, and no settings name it.
    OnlyInVault,
    /// It is left out, for a reason.
    LeftOut,
    /// A plan is for it, and it is in the vault.
    Covered,
}

impl Cover {
    /// Whether nobody need look at it. What is only in the vault may be of another host.
    pub fn is_sound(self) -> bool {
        matches!(self, Cover::Covered | Cover::LeftOut | Cover::OnlyInVault)
    }
}

/// A source's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Covered {
    /// The source.
    pub source: SourceName,
    /// What it is; `None` if no settings name it.
    pub kind: Option<SourceKind>,
    /// How it stands.
    pub cover: Cover,
    /// The plans that are for it, each with the rules that back it up.
    pub plans: BTreeMap<PlanName, Vec<String>>,
    /// Why it is left out, by plan.
    pub left_out: BTreeMap<PlanName, Exclusion>,
}

/// Every source of the settings and of the vault; those that a person must look at first.
pub fn coverage(
    plans: &BTreeMap<PlanName, Plan>,
    configured: &[Protected],
    in_vault: &[SourceName],
    now: Timestamp,
) -> Vec<Covered> {
    let today = now.0.to_zoned(jiff::tz::TimeZone::UTC).date();
    let known: BTreeSet<&SourceName> = in_vault.iter().collect();
    let mut lines: Vec<Covered> =
        configured.iter().map(|source| line(plans, source, (known.contains(&source.name), today))).collect();
    let named: BTreeSet<&SourceName> = configured.iter().map(|source| &source.name).collect();
    let nameless = in_vault.iter().filter(|source| !named.contains(source));
    lines.extend(nameless.map(|source| Covered {
        source: source.clone(),
        kind: None,
        cover: Cover::OnlyInVault,
        plans: BTreeMap::new(),
        left_out: BTreeMap::new(),
    }));
    lines.sort_by(|one, other| (one.cover, &one.source).cmp(&(other.cover, &other.source)));
    lines
}

fn line(plans: &BTreeMap<PlanName, Plan>, source: &Protected, (is_there, today): (bool, Date)) -> Covered {
    let rules = |plan: &Plan| {
        let backups = plan.timetables().filter(|table| table.work == Work::Backup);
        backups.map(|table| format!("{}: {}", table.rule, table.schedule)).collect::<Vec<_>>()
    };
    let covering = plans.iter().filter(|(_, plan)| plan.covers(source));
    let of_plans: BTreeMap<PlanName, Vec<String>> =
        covering.map(|(name, plan)| (name.clone(), rules(plan))).collect();
    let excluding = plans.iter().filter(|(_, plan)| plan.select.holds(source));
    let left_out: BTreeMap<PlanName, Exclusion> =
        excluding.filter_map(|(name, plan)| Some((name.clone(), plan.exclusion(source)?.clone()))).collect();
    let is_past = left_out.values().any(|exclusion| exclusion.review < today);
    let cover = match (of_plans.is_empty(), left_out.is_empty()) {
        (_, false) if is_past => Cover::ReviewOverdue,
        (true, true) => Cover::Forgotten,
        (true, false) => Cover::LeftOut,
        (false, _) if is_there => Cover::Covered,
        (false, _) => Cover::NothingYet,
    };
    Covered { source: source.name.clone(), kind: Some(source.kind), cover, plans: of_plans, left_out }
}

#[cfg(test)]
mod tests {
    use strongroom_model::plan::{Rule, Selection};
    use strongroom_model::source::{Objectives, Shipping};

    use super::*;

    fn protected(name: &str) -> Protected {
        Protected {
            name: name.parse().unwrap(),
            kind: SourceKind::Postgres,
            tags: BTreeMap::new(),
            objectives: Objectives::default(),
            shipping: Shipping::None,
            retention: None,
        }
    }

    fn exclusion(source: &str, year: i16) -> Exclusion {
        Exclusion {
            source: source.to_owned().try_into().unwrap(),
            reason: "made anew".into(),
            owner: "shop".into(),
            review: jiff::civil::date(year, 1, 1),
        }
    }

    #[test]
    fn each_source_stands_somewhere_and_the_forgotten_stand_first() {
        let rule: Rule =
            serde_json::from_value(serde_json::json!({ "name": "nightly", "schedule": "0 2 * * *" }))
                .unwrap();
        let plan = Plan {
            select: Selection { sources: vec!["a*".to_owned().try_into().unwrap()], ..Selection::default() },
            exclusions: vec![exclusion("a-cache", 2099), exclusion("a-old", 2020)],
            rules: vec![rule],
            ..Plan::default()
        };
        let plans = [("gold".parse().unwrap(), plan)].into();
        let configured = ["a", "a-cache", "a-new", "a-old", "b"].map(protected);
        let in_vault: Vec<SourceName> = ["a", "z"].map(|name| name.parse().unwrap()).into();
        let now = Timestamp::from_unix_seconds(1_800_000_000).unwrap();
        let lines = coverage(&plans, &configured, &in_vault, now);
        let found: Vec<(&str, Cover)> = lines.iter().map(|line| (line.source.as_str(), line.cover)).collect();
        assert_eq!(
            found,
            [
                ("b", Cover::Forgotten),
                ("a-old", Cover::ReviewOverdue),
                ("a-new", Cover::NothingYet),
                ("z", Cover::OnlyInVault),
                ("a-cache", Cover::LeftOut),
                ("a", Cover::Covered),
            ]
        );
        assert_eq!(lines[5].plans.values().next().unwrap(), &["nightly: 0 2 * * *"]);
    }
}
