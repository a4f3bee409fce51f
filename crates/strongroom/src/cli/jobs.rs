//! `strongroom jobs`

use anstyle::AnsiColor;
use serde_json::json;
use strongroom_catalog::history::{Agent, Filter};
use strongroom_catalog::{Job, JobId, State};
use strongroom_model::time::human_duration;
use strongroom_model::{SourceName, Timestamp};

use crate::catalog::open;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Outcome, table, tinted};

/// Show what the agent has done and is about to do, and steer it
#[derive(clap::Subcommand)]
pub enum Verb {
    /// The newest jobs, and the agents that work on them
    #[command(after_help = "\
Examples:
  strongroom jobs list
  strongroom jobs list --source orders --state failed
  strongroom jobs list --most 1000 --output json")]
    List(List),
    /// One job: its times, its result and what it said
    #[command(after_help = "\
Examples:
  strongroom jobs show 42
  strongroom jobs show 42 --output json")]
    Show(One),
    /// Call a job off: one that waits is cancelled, one that runs is stopped within a quarter of a minute
    #[command(after_help = "\
Examples:
  strongroom jobs cancel 42")]
    Cancel(One),
    /// Take up a job again that failed, or was cancelled, missed or expired
    #[command(after_help = "\
Examples:
  strongroom jobs retry 42")]
    Retry(One),
}

#[derive(clap::Args)]
pub struct List {
    /// Only of this source
    #[arg(long, value_name = "NAME")]
    source: Option<SourceName>,
    /// Only those that stand so: queued, leased, done, failed, cancelled, missed, expired
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// So many, the newest
    #[arg(long, value_name = "N", default_value = "50")]
    most: u32,
}

#[derive(clap::Args)]
pub struct One {
    /// The job's number
    id: JobId,
}

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    let (catalog, now) = (open(context).await?, context.cx.now());
    match verb {
        Verb::List(List { source, state, most }) => {
            let filter =
                Filter { source: source.clone(), state: *state, most: i64::from(*most), before: None };
            let (jobs, agents) = (catalog.jobs(&filter).await?, catalog.agents().await?);
            let text = show_all(&jobs, &agents, now);
            Ok(Outcome::new(&json!({ "jobs": jobs, "agents": agents }), text))
        }
        Verb::Show(One { id }) => {
            let job = catalog.job(*id).await?;
            let text = show(&job, now);
            Ok(Outcome::new(&job, text))
        }
        Verb::Cancel(One { id }) => {
            let job = catalog.cancel(*id, now).await?;
            let text = match (&job.owner, job.state) {
                (Some(owner), State::Leased) => format!("job {id} is about to be stopped by agent {owner}"),
                _ => format!("job {id} is cancelled"),
            };
            Ok(Outcome::new(&job, text))
        }
        Verb::Retry(One { id }) => {
            let job = catalog.take_up_again(*id, now).await?;
            let text = format!("job {id} is queued again, and may begin until {}", job.start_by);
            Ok(Outcome::new(&job, text))
        }
    }
}

fn show_all(jobs: &[Job], agents: &[Agent], now: Timestamp) -> String {
    let mut text = match jobs.is_empty() {
        true => "there is no such job".to_owned(),
        false => {
            let rows: Vec<Vec<String>> = jobs.iter().map(|job| cells(job, now)).collect();
            table(&["job", "what", "source", "due", "state", "took", "rule"], &rows, &[0])
        }
    };
    for agent in agents {
        let ago = human_duration(now.since(agent.seen));
        text.push_str(&format!("\nagent {} ({}), last heard of {ago} ago", agent.name, agent.build));
    }
    text
}

fn cells(job: &Job, now: Timestamp) -> Vec<String> {
    let rule = if job.plan.is_empty() { job.rule.clone() } else { format!("{}/{}", job.plan, job.rule) };
    let what =
        if job.vault.is_empty() { job.kind.to_string() } else { format!("{} to {}", job.kind, job.vault) };
    let source = job.source.as_ref().map_or_else(|| "-".to_owned(), SourceName::to_string);
    vec![job.id.to_string(), what, source, job.due.to_string(), standing(job), took(job, now), rule]
}

/// Where it stands, in the colour of how much that matters.
fn standing(job: &Job) -> String {
    let has_findings = job.exit_code.is_some_and(|code| code != 0);
    let text = match (job.state, job.exit_code) {
        (State::Leased, _) if job.cancelling => "stopping".to_owned(),
        (State::Leased, _) => "running".to_owned(),
        (State::Queued, _) if job.attempt > 0 => format!("attempt {} at {}", job.attempt + 1, job.run_at),
        (state, Some(code)) if code != 0 => format!("{state}, exit code {code}"),
        (state, _) => state.to_string(),
    };
    match job.state {
        State::Done if has_findings => tinted(&text, AnsiColor::Yellow),
        State::Done => tinted(&text, AnsiColor::Green),
        State::Failed | State::Expired => tinted(&text, AnsiColor::Red),
        State::Missed | State::Cancelled => tinted(&text, AnsiColor::Yellow),
        State::Queued | State::Leased => text,
    }
}

fn took(job: &Job, now: Timestamp) -> String {
    match (job.began, job.ended) {
        (Some(began), Some(ended)) => human_duration(ended.since(began)),
        (Some(began), None) => human_duration(now.since(began)),
        (None, _) => "-".to_owned(),
    }
}

fn show(job: &Job, now: Timestamp) -> String {
    let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
    let [id, what, source, due, standing, took, rule]: [String; 7] =
        cells(job, now).try_into().unwrap_or_default();
    let mut text = format!(
        "job {id}: {what} of {source}, ordered by {rule}\n\
         due      {due}, begins until {}, is given up at {}\n\
         state    {standing}, attempts: {}, took {took}\n\
         began    {}\n\
         ended    {}",
        job.start_by,
        job.end_by,
        job.attempt,
        time(job.began),
        time(job.ended),
    );
    if let Some(person) = &job.person {
        let act = job.act.as_ref().map_or_else(String::new, |act| format!(", as {act}"));
        text.push_str(&format!("\nperson   {person}{act}"));
    }
    if let Some(owner) = &job.owner {
        text.push_str(&format!("\nagent    {owner}, last heard of {}", time(job.heartbeat)));
    }
    if let Some(said) = &job.said {
        text.push_str(&format!("\nsaid     {}", said.replace('\n', "\n         ")));
    }
    if let Some(result) = &job.result {
        text.push_str(&format!("\nresult   {}", format!("{result:#}").replace('\n', "\n         ")));
    }
    text
}
