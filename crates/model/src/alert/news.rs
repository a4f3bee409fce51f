//! From what is wrong now and what was told before: what is news.
//!
//! ```text
//!           seen ▶ firing ──┬ still there, long after it was last told ▶ reminded ┐
//!                     ▲     └──────────────────────────────────────────────◀──────┘
//!                     │ seen again        no longer there ▶ recovered
//!                     └──────────────────────────┘
//! ```
//!
//! **Invariants**
//! - Each beginning and each end is news once. What goes on is news again after the time that settings say.
//! - An alert whose source could not be looked at stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AlertKind, Condition, Severity};
use crate::name::SourceName;
use crate::time::Timestamp;

/// An alert that fires: people were told of it, and not yet of its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// What is wrong, as it was last seen.
    #[serde(flatten)]
    pub condition: Condition,
    /// When it was first told.
    pub fired_at: Timestamp,
    /// When it was last told.
    pub told_at: Timestamp,
}

/// What happened to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// It began.
    Fired,
    /// It goes on.
    Reminded,
    /// It is over.
    Recovered,
}

impl Event {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Event::Fired => "fired",
            Event::Reminded => "reminded",
            Event::Recovered => "recovered",
        }
    }
}

/// What people are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// What happened.
    pub event: Event,
    /// To what.
    pub condition: Condition,
    /// When its alert was first told.
    pub fired_at: Timestamp,
    /// When this happened.
    pub at: Timestamp,
}

impl News {
    /// The key of its alert's occasion: the same for its beginning, reminders and end, another when it comes again.
    pub fn occasion(&self) -> String {
        format!("{}@{}", self.condition.key(), self.fired_at.0.as_microsecond())
    }

    /// For a subject line.
    pub fn headline(&self) -> String {
        let Condition { kind, source, severity, .. } = &self.condition;
        let of = source.as_ref().map_or_else(String::new, |source| format!(" of {source}"));
        match self.event {
            Event::Fired => format!("{severity}: {kind}{of}"),
            Event::Reminded => format!("still {severity}: {kind}{of}"),
            Event::Recovered => format!("recovered: {kind}{of}"),
        }
    }
}

/// Which conditions could be seen, if they were there.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The sources that are watched here.
    pub sources: &'a BTreeSet<SourceName>,
    /// What concerns all of them is watched here.
    pub has_vault: bool,
    /// The vault's answer is fresh.
    pub is_fresh: bool,
    /// Sources whose servers said which slots they have.
    pub slots: &'a BTreeSet<SourceName>,
}

impl Sight<'_> {
    fn sees(self, condition: &Condition) -> bool {
        use AlertKind::*;
        let is_watched =
            condition.source.as_ref().map_or(self.has_vault, |source| self.sources.contains(source));
        // What the catalog and the settings tell alone needs no answer of the vault.
        let by_catalog = matches!(
            condition.kind,
            BackupFailed | JobFailed | Damage | VerifyOverdue | AgentSilent | ChannelFails | VaultSilent
        );
        let by_server = condition.kind == Slot
            && condition.source.as_ref().is_some_and(|source| self.slots.contains(source));
        is_watched && (by_server || (condition.kind != Slot && (self.is_fresh || by_catalog)))
    }

    /// That the vault answers again only an answer shows: an agent that has just begun has waited for none yet.
    fn sees_end_of(self, condition: &Condition) -> bool {
        self.sees(condition) && (self.is_fresh || condition.kind != AlertKind::VaultSilent)
    }
}

/// What is news, given the alerts that fire. Those of which nothing is news are as they were.
pub fn news(
    firing: &[Alert],
    conditions: &[Condition],
    sight: Sight<'_>,
    (now, remind_after): (Timestamp, Duration),
) -> Vec<News> {
    let found: BTreeMap<String, &Condition> =
        conditions.iter().map(|condition| (condition.key(), condition)).collect();
    let known: BTreeSet<String> = firing.iter().map(|alert| alert.condition.key()).collect();
    let began = found.iter().filter(|(key, condition)| !known.contains(*key) && sight.sees(condition));
    let mut news: Vec<News> = began
        .map(|(_, condition)| News {
            event: Event::Fired,
            condition: (*condition).clone(),
            fired_at: now,
            at: now,
        })
        .collect();
    for alert in firing.iter().filter(|alert| sight.sees(&alert.condition)) {
        let told = |event, condition: &Condition| News {
            event,
            condition: condition.clone(),
            fired_at: alert.fired_at,
            at: now,
        };
        match found.get(&alert.condition.key()) {
            None if !sight.sees_end_of(&alert.condition) => {}
            None => news.push(told(Event::Recovered, &alert.condition)),
            Some(condition) if now.since(alert.told_at) >= remind_after => {
                news.push(told(Event::Reminded, condition))
            }
            Some(_) => {}
        }
    }
    news
}

/// Whether a channel that takes `least` and worse takes this. What it was told the beginning of it is told the end of.
pub fn is_for(news: &News, least: Severity, channel: &str) -> bool {
    let Condition { kind, detail, severity, .. } = &news.condition;
    // A channel cannot be told of its own silence.
    let is_own = *kind == AlertKind::ChannelFails && detail == channel;
    *severity >= least && !is_own
}
