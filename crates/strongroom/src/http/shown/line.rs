//! A source in a line: to which second it can be recovered, how that is known, and how it stands.
//!
//! **Invariant**: a source is proven only by a drill that passed, is not too old, and of which nothing since says otherwise.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use strongroom_model::alert::Severity;
use strongroom_model::alert::observed::{DrillState, SourceState};
use strongroom_model::alert::rules::durable_at;
use strongroom_model::plan::{Work, objectives_of};
use strongroom_model::source::Protected;
use strongroom_model::time::human_duration;
use strongroom_model::{SourceName, Timestamp, words};

use super::Sight;

/// How a source stands, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Something would be lost if it were needed now.
    Broken,
    /// Something should be mended in days.
    Doubtful,
    /// What is known of it is old, or nothing is.
    Unknown,
    /// It can be recovered, as far as one can tell without trying.
    Unproven,
    /// A drill restored it, lately.
    Proven,
}

words!(
    Standing,
    "standing",
    Broken = "broken",
    Doubtful = "doubtful",
    Unknown = "unknown",
    Unproven = "unproven",
    Proven = "proven"
);

/// What is, beside what was promised. Seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// What it is now, or was when it was last measured; `None` if that is not known.
    pub seconds: Option<f64>,
    /// What it may be; `None` if nobody said.
    pub objective_seconds: Option<f64>,
    /// Whether it is kept; `None` if that cannot be said.
    pub is_met: Option<bool>,
}

impl Measure {
    /// What was found, beside what was promised.
    pub fn new(seconds: Option<f64>, objective: Option<Duration>) -> Measure {
        let objective_seconds = objective.map(|objective| objective.as_secs_f64());
        let is_met = seconds.zip(objective_seconds).map(|(seconds, most)| seconds <= most);
        Measure { seconds, objective_seconds, is_met }
    }
}

/// The newest drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proof {
    /// When it ended.
    pub at: Timestamp,
    /// Whether it proved that a restore works, in time.
    pub passed: bool,
    /// Whether it is no older than the settings want.
    pub is_current: bool,
}

/// What is due next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Next {
    /// When.
    pub at: Timestamp,
    /// What: `backup`, `drill` and so on.
    pub work: Work,
    /// By which plan and rule.
    pub rule: String,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceLine {
    /// Its name.
    pub source: SourceName,
    /// What it is: `postgres`, `postgres-logical`.
    pub kind: String,
    /// How it stands.
    pub standing: Standing,
    /// Why it stands so, in one sentence.
    pub why: String,
    /// Points that can be restored; `None` if that is not known.
    pub points: Option<u64>,
    /// The last second to which it can be recovered; `None` if to none, or if that is not known.
    pub recoverable_to: Option<Timestamp>,
    /// All that the server had written until then was in the vault, if that is later than the last transaction there.
    pub nothing_newer_at: Option<Timestamp>,
    /// How it is known to which second.
    pub known_by: String,
    /// The newest drill; `None` if there was never one, or if that is not known.
    pub proof: Option<Proof>,
    /// The last verification that came to its end.
    pub verified_at: Option<Timestamp>,
    /// How much would be lost now.
    pub rpo: Measure,
    /// How long the last drill took until the data could be used.
    pub rto: Measure,
    /// What is due next; `None` if no plan covers it.
    pub next: Option<Next>,
    /// Its alerts.
    pub alerts: usize,
}

/// Every source of the settings, the worst first, and then by name.
pub fn lines(sight: Sight<'_>) -> Vec<SourceLine> {
    let staleness = sight.staleness();
    let dues = dues(sight);
    let seen = sight.snapshot.map(|snapshot| &snapshot.observed.sources);
    let seen: BTreeMap<&SourceName, &SourceState> =
        seen.into_iter().flatten().map(|source| (&source.name, source)).collect();
    let mut lines: Vec<SourceLine> = sight
        .settings
        .protected()
        .iter()
        .map(|source| {
            let next = next_of(sight, source, &dues);
            let state = seen.get(&source.name).copied();
            line(sight, (source, state), (staleness.as_deref(), next))
        })
        .collect();
    lines.sort_by(|one, other| (one.standing, &one.source).cmp(&(other.standing, &other.source)));
    lines
}

/// What each rule of each plan orders next.
fn dues(sight: Sight<'_>) -> BTreeMap<&str, Vec<Next>> {
    let of_plan = |(name, plan): (&'_ strongroom_model::PlanName, &'_ strongroom_model::plan::Plan)| {
        let next = plan.timetables().filter_map(|table| {
            let at = table.next_after(sight.now)?;
            Some(Next { at, work: table.work, rule: format!("{name}/{}", table.rule) })
        });
        next.collect()
    };
    sight.settings.plans.iter().map(|(name, plan)| (name.as_str(), of_plan((name, plan)))).collect()
}

fn next_of(sight: Sight<'_>, source: &Protected, dues: &BTreeMap<&str, Vec<Next>>) -> Option<Next> {
    let covering = sight.settings.plans.iter().filter(|(_, plan)| plan.covers(source));
    let due = covering.filter_map(|(name, _)| dues.get(name.as_str())).flatten();
    due.min_by_key(|next| next.at).cloned()
}

fn line(
    sight: Sight<'_>,
    (source, state): (&Protected, Option<&SourceState>),
    (staleness, next): (Option<&str>, Option<Next>),
) -> SourceLine {
    let objectives = objectives_of(&sight.settings.plans, source);
    let held = state.and_then(|state| state.held.as_ref());
    let reading = sight.snapshot.and_then(|snapshot| snapshot.reading.as_ref());
    let said = reading.and_then(|reading| reading.sources.get(&source.name));
    // The newest point may lead further than the last transaction that is known: as far as to itself.
    let itself = held.filter(|held| held.gap.is_none()).and_then(|held| held.last_point_at);
    let recoverable_to = said.and_then(|said| said.recoverable_to).max(itself);
    let recoverable_to = recoverable_to.filter(|_| held.is_some_and(|held| held.points > 0));
    let caught_up = state.and_then(|state| state.caught_up_at);
    let lost = state.and_then(durable_at).map(|durable| sight.now.since(durable).as_secs_f64());
    let drill = held.and_then(|held| held.drill.as_ref());
    let within = sight.settings.sources.get(&source.name).map(|settings| settings.drill.within());
    let proof = drill.map(|drill| proof(drill, within.unwrap_or_default(), sight.now));
    let told = sight.snapshot.map(|snapshot| snapshot.facts.alerts.iter());
    let alerts: Vec<(Severity, &str)> = told
        .into_iter()
        .flatten()
        .filter(|alert| alert.condition.source.as_ref() == Some(&source.name))
        .map(|alert| (alert.condition.severity, alert.condition.text.as_str()))
        .collect();
    let line = SourceLine {
        source: source.name.clone(),
        kind: source.kind.to_string(),
        standing: Standing::Proven,
        why: String::new(),
        points: held.map(|held| held.points),
        recoverable_to,
        nothing_newer_at: caught_up.filter(|at| recoverable_to.is_some_and(|to| *at > to)),
        known_by: known_by(state, source.kind.has_journal(), sight.now),
        proof,
        verified_at: state.and_then(|state| state.verified_at),
        rpo: Measure::new(lost, objectives.rpo.map(|span| span.0)),
        rto: Measure::new(drill.and_then(|drill| drill.rto_seconds), objectives.rto.map(|span| span.0)),
        next,
        alerts: alerts.len(),
    };
    let (standing, why) = judged(&line, &alerts, staleness, sight.now);
    SourceLine { standing, why, ..line }
}

fn proof(drill: &DrillState, within: Duration, now: Timestamp) -> Proof {
    Proof { at: drill.at, passed: drill.passed, is_current: now.since(drill.at) <= within }
}

/// How a line stands, and why.
fn judged(
    line: &SourceLine,
    alerts: &[(Severity, &str)],
    staleness: Option<&str>,
    now: Timestamp,
) -> (Standing, String) {
    let worst = alerts.iter().max_by_key(|(severity, _)| *severity);
    let span = |seconds: Option<f64>| match Duration::try_from_secs_f64(seconds.unwrap_or_default()) {
        Ok(span) => human_duration(span),
        Err(_) => "too much".to_owned(),
    };
    if let Some((Severity::Critical, text)) = worst {
        return (Standing::Broken, (*text).to_owned());
    }
    if line.points == Some(0) {
        return (Standing::Broken, "it was never backed up, or nothing of that is left".to_owned());
    }
    if line.rpo.is_met == Some(false) {
        let (lost, most) = (span(line.rpo.seconds), span(line.rpo.objective_seconds));
        return (Standing::Broken, format!("the newest {lost} would be lost, and {most} may be"));
    }
    if line.proof.as_ref().is_some_and(|proof| !proof.passed) {
        return (
            Standing::Broken,
            "its last drill did not prove that it can be recovered in time".to_owned(),
        );
    }
    if let Some(why) = staleness {
        return (Standing::Unknown, why.to_owned());
    }
    if line.points.is_none() {
        return (Standing::Unknown, "the vault was not asked about it yet".to_owned());
    }
    if let Some((Severity::Warning, text)) = worst {
        return (Standing::Doubtful, (*text).to_owned());
    }
    if line.rto.is_met == Some(false) {
        let (took, most) = (span(line.rto.seconds), span(line.rto.objective_seconds));
        return (Standing::Doubtful, format!("its last drill took {took}, and it may take {most}"));
    }
    match &line.proof {
        None => (Standing::Unproven, "never drilled: nobody knows whether it can be recovered".to_owned()),
        Some(proof) if !proof.is_current => {
            let ago = human_duration(now.since(proof.at));
            (Standing::Unproven, format!("its last drill was {ago} ago, longer than the settings allow"))
        }
        Some(proof) => {
            let ago = human_duration(now.since(proof.at));
            (Standing::Proven, format!("a drill restored it {ago} ago"))
        }
    }
}

fn known_by(state: Option<&SourceState>, has_journal: bool, now: Timestamp) -> String {
    let Some(held) = state.and_then(|state| state.held.as_ref()) else {
        return "not known: the vault was not read yet".to_owned();
    };
    let ago = |at: Timestamp| human_duration(now.since(at));
    match (held.points, held.journal_at, held.last_point_at) {
        (0, ..) => "nothing of it is in the vault".to_owned(),
        (_, Some(at), _) if has_journal => {
            format!("WAL in the vault; the last of it arrived {} ago", ago(at))
        }
        (_, _, Some(at)) if has_journal => format!("its newest point, {} old; no WAL follows it", ago(at)),
        (_, _, Some(at)) => format!("its newest dump, {} old", ago(at)),
        _ => "points in the vault".to_owned(),
    }
}

#[cfg(test)]
mod tests;
