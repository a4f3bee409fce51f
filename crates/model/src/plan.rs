//! Plans: rules (when, what is kept, where copies go), a selection of sources, what is promised for them.
//!
//! ```text
//! [plan.production]                              which sources, and what is promised
//!   [[plan.production.rule]]                     when they are backed up, what is kept, where copies go
//!   [[plan.production.exclude]]                  which are left out, and why
//!   [plan.production.drill] verify expire        when else something is done with them
//! ```
//!
//! A plan says when something becomes due, and nothing of what became of it: the agent's catalog knows that.
//! What is kept of a source is what any rule of any plan that covers it keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{PlanName, RuleName};
use crate::retention::Retention;
use crate::schedule::Schedule;
use crate::source::{Objectives, Protected};
use crate::span::Span;
use crate::time::Timestamp;
use crate::zone::Zone;

mod selection;

pub use selection::{Exclusion, Pattern, PatternError, Selection};

/// How long a job may wait for its start: AWS Backup's default.
pub const START_WINDOW: Span = Span::from_hours(8);

/// How long a job may take once it started: AWS Backup's default.
pub const COMPLETION_WINDOW: Span = Span::from_hours(7 * 24);

/// `[plan.NAME]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Which sources it is for.
    pub select: Selection,
    /// Which it is not for, and why.
    #[serde(default, rename = "exclude")]
    pub exclusions: Vec<Exclusion>,
    /// The newest so much of each source may be lost.
    pub rpo: Option<Span>,
    /// A restore of each source may take so long.
    pub rto: Option<Span>,
    /// Whose clock its schedules follow.
    #[serde(default)]
    pub timezone: Zone,
    /// It is to outlive the place of the first vault.
    #[serde(default)]
    pub disaster_recovery: bool,
    /// When backups are taken, and what is kept of them.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
    /// When a restore is tried.
    pub drill: Option<Chore>,
    /// When what is in the vault is verified.
    pub verify: Option<Chore>,
    /// When retention lets go.
    pub expire: Option<Chore>,
}

/// `[[plan.NAME.rule]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called.
    pub name: RuleName,
    /// When a backup is due.
    pub schedule: Schedule,
    /// Whose clock the schedule follows, if not the plan's.
    pub timezone: Option<Zone>,
    /// A job that did not start so long after it was due is not started any more.
    #[serde(default = "start_window")]
    pub start_window: Span,
    /// A job that is not done so long after it started is stopped.
    #[serde(default = "completion_window")]
    pub completion_window: Span,
    /// What it keeps. Without any what else is kept decides.
    pub retention: Option<Retention>,
    /// Days after which its points are to lie in a cold storage class.
    pub cold_after_days: Option<u32>,
    /// Other vaults that its points are copied to.
    #[serde(default)]
    pub copies: Vec<String>,
}

/// `[plan.NAME.drill]` and the like: what is done with sources beside backups.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chore {
    /// When it is due.
    pub schedule: Schedule,
    /// Whose clock the schedule follows, if not the plan's.
    pub timezone: Option<Zone>,
    /// A job that did not start so long after it was due is not started any more.
    #[serde(default = "start_window")]
    pub start_window: Span,
    /// A job that is not done so long after it started is stopped.
    #[serde(default = "completion_window")]
    pub completion_window: Span,
}

fn start_window() -> Span {
    START_WINDOW
}

fn completion_window() -> Span {
    COMPLETION_WINDOW
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Take a point, and copy it where the rule says.
    Backup,
    /// Try a restore.
    Drill,
    /// Verify what is in the vault.
    Verify,
    /// Let go what retention no longer keeps.
    Expire,
}

impl Work {
    /// The verb that does it.
    pub fn as_str(self) -> &'static str {
        match self {
            Work::Backup => "backup",
            Work::Drill => "drill",
            Work::Verify => "verify",
            Work::Expire => "expire",
        }
    }
}

/// Work with its times: what a scheduler evaluates.
#[derive(Clone, Copy, Debug)]
pub struct Timetable<'a> {
    /// What is due.
    pub work: Work,
    /// By which rule: a backup's rule, else the work's own name.
    pub rule: &'a str,
    /// When.
    pub schedule: &'a Schedule,
    /// Whose clock the schedule follows.
    pub zone: &'a Zone,
    /// How long it may wait for its start.
    pub start_window: Span,
    /// How long it may take.
    pub completion_window: Span,
    /// Vaults that points are copied to.
    pub copies: &'a [String],
}

/// A plan that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanMistake {
    /// It is for nothing.
    #[error(
        "plan {0} selects nothing: say sources, kinds or tags in select; sources = [\"*\"] is every source"
    )]
    SelectsNothing(PlanName),
    /// It does nothing.
    #[error("plan {0} has no rule: add [[plan.{0}.rule]] with name and schedule")]
    NoRule(PlanName),
    /// Two rules would be the same job.
    #[error("plan {plan} has two rules called {rule}")]
    SameName {
        /// The plan.
        plan: PlanName,
        /// The name.
        rule: String,
    },
    /// A window in which nothing fits.
    #[error("{what} of {rule} in plan {plan} is {span}: it must be at least a minute")]
    Window {
        /// The plan.
        plan: PlanName,
        /// The rule.
        rule: String,
        /// Which window.
        what: &'static str,
        /// How long.
        span: Span,
    },
    /// What it keeps does not work out.
    #[error("rule {rule} of plan {plan}: {error}")]
    Retention {
        /// The plan.
        plan: PlanName,
        /// The rule.
        rule: String,
        /// Why.
        error: crate::retention::RetentionError,
    },
}

/// The shortest window.
const SHORTEST_WINDOW: Span = Span::from_secs(60);

impl Plan {
    /// Whether this can be meant, by itself.
    pub fn check(&self, name: &PlanName) -> Result<(), PlanMistake> {
        if self.select.is_empty() {
            return Err(PlanMistake::SelectsNothing(name.clone()));
        }
        if self.rules.is_empty() {
            return Err(PlanMistake::NoRule(name.clone()));
        }
        let mut seen = std::collections::BTreeSet::new();
        for timetable in self.timetables() {
            timetable.check(name)?;
            if !seen.insert(timetable.rule) {
                return Err(PlanMistake::SameName { plan: name.clone(), rule: timetable.rule.to_owned() });
            }
        }
        for rule in &self.rules {
            let checked = rule.retention.as_ref().map_or(Ok(()), Retention::check);
            let wrong =
                |error| PlanMistake::Retention { plan: name.clone(), rule: rule.name.to_string(), error };
            checked.map_err(wrong)?;
        }
        Ok(())
    }

    /// Whether it is for this source.
    pub fn covers(&self, source: &Protected) -> bool {
        self.select.holds(source) && self.exclusion(source).is_none()
    }

    /// Why it is not for a source that its selection names.
    pub fn exclusion(&self, source: &Protected) -> Option<&Exclusion> {
        self.exclusions.iter().find(|exclusion| exclusion.source.fits(source.name.as_str()))
    }

    /// Everything that becomes due: backups first, in the order of the settings.
    pub fn timetables(&self) -> impl Iterator<Item = Timetable<'_>> {
        let backups = self.rules.iter().map(move |rule| Timetable {
            work: Work::Backup,
            rule: rule.name.as_str(),
            schedule: &rule.schedule,
            zone: rule.timezone.as_ref().unwrap_or(&self.timezone),
            start_window: rule.start_window,
            completion_window: rule.completion_window,
            copies: &rule.copies,
        });
        let chores = [(Work::Drill, &self.drill), (Work::Verify, &self.verify), (Work::Expire, &self.expire)];
        let chores = chores.into_iter().filter_map(|(work, chore)| Some((work, chore.as_ref()?)));
        backups.chain(chores.map(|(work, chore)| Timetable {
            work,
            rule: work.as_str(),
            schedule: &chore.schedule,
            zone: chore.timezone.as_ref().unwrap_or(&self.timezone),
            start_window: chore.start_window,
            completion_window: chore.completion_window,
            copies: &[],
        }))
    }

    /// What is promised for its sources.
    pub fn objectives(&self) -> Objectives {
        Objectives { rpo: self.rpo, rto: self.rto }
    }
}

impl Timetable<'_> {
    /// The first time it is due after `after`.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next_after(after, self.zone)
    }

    /// The last time it was due after `since` and not after `until`.
    pub fn last_in(&self, since: Timestamp, until: Timestamp) -> Option<Timestamp> {
        self.schedule.last_in((since, until), self.zone)
    }

    fn check(&self, plan: &PlanName) -> Result<(), PlanMistake> {
        let windows = [("start_window", self.start_window), ("completion_window", self.completion_window)];
        match windows.into_iter().find(|(_, span)| *span < SHORTEST_WINDOW) {
            Some((what, span)) => {
                Err(PlanMistake::Window { plan: plan.clone(), rule: self.rule.to_owned(), what, span })
            }
            None => Ok(()),
        }
    }
}

/// What these plans keep of sources they cover, all of them together; `None` if none of their rules says anything.
pub fn kept_by<'a>(plans: impl Iterator<Item = &'a Plan>) -> Option<Retention> {
    let said = plans.flat_map(|plan| &plan.rules).filter_map(|rule| rule.retention.as_ref());
    said.cloned().reduce(Retention::with)
}

/// What these plans promise for sources they cover: the strictest of each.
pub fn promised_by<'a>(plans: impl Iterator<Item = &'a Plan>) -> Objectives {
    plans.map(Plan::objectives).fold(Objectives::default(), Objectives::and)
}

/// What the plans that cover a source keep of it.
pub fn retention_of(plans: &BTreeMap<PlanName, Plan>, source: &Protected) -> Option<Retention> {
    kept_by(plans.values().filter(|plan| plan.covers(source)))
}

/// What is promised for a source: what itself says, else the strictest of the plans that cover it.
pub fn objectives_of(plans: &BTreeMap<PlanName, Plan>, source: &Protected) -> Objectives {
    source.objectives.or(promised_by(plans.values().filter(|plan| plan.covers(source))))
}

#[cfg(test)]
mod tests;
