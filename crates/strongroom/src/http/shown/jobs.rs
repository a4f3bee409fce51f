//! Jobs: what the agent has done, does, and is about to do.

use serde::Serialize;
use strongroom_catalog::history::Agent;
use strongroom_catalog::job::JobId;
use strongroom_catalog::{Job, State};
use strongroom_model::{SourceName, Timestamp};

/// Of what a job said so much is shown in a list: its end.
const SAID: usize = 300;

/// How a job's state is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tone {
    /// It came to a good end.
    Good,
    /// A person should look at it.
    Look,
    /// It did not do what it was for.
    Bad,
    /// It goes on, or waits.
    Going,
}

/// A job in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobLine {
    /// Its number.
    pub id: JobId,
    /// What it does: `backup`, `copy to off-site`.
    pub what: String,
    /// To which source; `None` if to a whole vault.
    pub source: Option<SourceName>,
    /// By which plan and rule.
    pub rule: String,
    /// The instant it was ordered for.
    pub due: Timestamp,
    /// When it was first begun.
    pub began: Option<Timestamp>,
    /// When it came to where it stands.
    pub ended: Option<Timestamp>,
    /// How long it took, or takes by now; seconds.
    pub took_s: Option<u64>,
    /// Where it stands, in words.
    pub state: String,
    /// How that is to be taken.
    pub tone: Tone,
    /// Whether it can be called off.
    pub can_cancel: bool,
    /// The end of what it said.
    pub said: String,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentLine {
    /// Its name.
    pub name: String,
    /// Its build.
    pub build: String,
    /// When it was last heard of.
    pub seen: Timestamp,
}

/// The newest jobs, and who works on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jobs {
    /// When this was read.
    pub at: Timestamp,
    /// Newest first.
    pub jobs: Vec<JobLine>,
    /// Agents that were heard of.
    pub agents: Vec<AgentLine>,
}

/// What the catalog says, as it is shown.
pub fn jobs(jobs: &[Job], agents: &[Agent], now: Timestamp) -> Jobs {
    let agent =
        |agent: &Agent| AgentLine { name: agent.name.clone(), build: agent.build.clone(), seen: agent.seen };
    Jobs {
        at: now,
        jobs: jobs.iter().map(|job| job_line(job, now)).collect(),
        agents: agents.iter().map(agent).collect(),
    }
}

/// One job.
pub fn job_line(job: &Job, now: Timestamp) -> JobLine {
    let rule = if job.plan.is_empty() { job.rule.clone() } else { format!("{}/{}", job.plan, job.rule) };
    let what =
        if job.vault.is_empty() { job.kind.to_string() } else { format!("{} to {}", job.kind, job.vault) };
    let said = job.said.as_deref().unwrap_or_default().trim();
    let skipped = said.chars().count().saturating_sub(SAID);
    let (state, tone) = standing(job);
    JobLine {
        id: job.id,
        what,
        source: job.source.clone(),
        rule,
        due: job.due,
        began: job.began,
        ended: job.ended,
        took_s: job.began.map(|began| job.ended.unwrap_or(now).since(began).as_secs()),
        state,
        tone,
        can_cancel: matches!(job.state, State::Queued | State::Leased) && !job.cancelling,
        said: said.chars().skip(skipped).collect(),
    }
}

fn standing(job: &Job) -> (String, Tone) {
    let code = job.exit_code.filter(|code| *code != 0);
    let with_code =
        || code.map_or_else(|| job.state.to_string(), |code| format!("{}, exit code {code}", job.state));
    match job.state {
        State::Leased if job.cancelling => ("stopping".to_owned(), Tone::Look),
        State::Leased => ("running".to_owned(), Tone::Going),
        State::Queued if job.attempt > 0 => (format!("waits for attempt {}", job.attempt + 1), Tone::Look),
        State::Queued => ("waits".to_owned(), Tone::Going),
        State::Done if code.is_some() => (with_code(), Tone::Look),
        State::Done => (with_code(), Tone::Good),
        State::Failed | State::Expired => (with_code(), Tone::Bad),
        State::Missed | State::Cancelled => (with_code(), Tone::Look),
    }
}

#[cfg(test)]
mod tests;
