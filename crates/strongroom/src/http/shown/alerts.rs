//! Alerts that fire, and the channels they go to.

use serde::Serialize;
use strongroom_model::alert::news::Alert;
use strongroom_model::alert::{AlertKind, Severity};
use strongroom_model::{SourceName, Timestamp};

use super::Sight;

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertLine {
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong.
    pub kind: AlertKind,
    /// With which source; `None` if with all of them.
    pub source: Option<SourceName>,
    /// In one sentence.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
    /// When people were first told.
    pub told_at: Timestamp,
    /// What to type next.
    pub command: String,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelLine {
    /// Its name.
    pub name: String,
    /// Since when it takes nothing; `None` if it took the last, or was never told anything.
    pub failing_since: Option<Timestamp>,
    /// Why.
    pub why: Option<String>,
    /// How often it took something; `None` if it was never told anything.
    pub told: Option<i64>,
    /// How often it did not.
    pub refused: Option<i64>,
}

/// What is wrong, and who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alerts {
    /// When this was made.
    pub at: Timestamp,
    /// Why what is said may no longer hold; `None` if it does.
    pub stale: Option<String>,
    /// What fires, the worst first, the oldest of these first.
    pub alerts: Vec<AlertLine>,
    /// Channels of the settings.
    pub channels: Vec<ChannelLine>,
    /// What they are still to be told.
    pub waiting: i64,
}

/// Everything that fires, of sources that `may_see` lets be seen, and of the vault.
pub fn alerts(sight: Sight<'_>, may_see: impl Fn(&SourceName) -> bool) -> Alerts {
    let facts = sight.snapshot.map(|snapshot| &snapshot.facts);
    let record = |name: &str| facts?.channels.iter().find(|record| record.name == name);
    let channel = |name: &str| {
        let record = record(name);
        ChannelLine {
            name: name.to_owned(),
            failing_since: record.and_then(|record| record.failing_since),
            why: record.and_then(|record| record.why.clone()),
            told: record.map(|record| record.told),
            refused: record.map(|record| record.refused),
        }
    };
    Alerts {
        at: sight.now,
        stale: sight.staleness(),
        alerts: firing(sight, |source| source.is_none_or(&may_see)),
        channels: sight.settings.alerts.keys().map(|name| channel(name.as_str())).collect(),
        waiting: facts.map_or(0, |facts| facts.waiting),
    }
}

/// Those of one source.
pub fn of_source(sight: Sight<'_>, name: &SourceName) -> Vec<AlertLine> {
    firing(sight, |source| source == Some(name))
}

fn firing(sight: Sight<'_>, is_wanted: impl Fn(Option<&SourceName>) -> bool) -> Vec<AlertLine> {
    let facts = sight.snapshot.map(|snapshot| &snapshot.facts);
    let alerts = facts.into_iter().flat_map(|facts| &facts.alerts);
    let wanted = alerts.filter(|alert| is_wanted(alert.condition.source.as_ref()));
    let mut lines: Vec<AlertLine> = wanted.map(line).collect();
    lines.sort_by_key(|line| (std::cmp::Reverse(line.severity), line.since));
    lines
}

fn line(alert: &Alert) -> AlertLine {
    let condition = &alert.condition;
    AlertLine {
        severity: condition.severity,
        kind: condition.kind,
        source: condition.source.clone(),
        text: condition.text.clone(),
        since: condition.since,
        told_at: alert.fired_at,
        command: condition.command.clone(),
    }
}
