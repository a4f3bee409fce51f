//! `strongroom report jobs`

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use strongroom_catalog::{Job, State};
use strongroom_model::Timestamp;
use strongroom_ops::report::jobs::{Fate, JobFigures, Ran, figures};

use super::{Form, Made, made_by, time};
use crate::catalog::open;
use crate::context::Context;
use crate::failure::Failure;
use crate::paper::{Paper, Part, Row, Rows};

/// Report what became of the agent's jobs: by kind, how many succeeded, how long they took, what was missed
#[derive(clap::Args)]
#[command(after_help = "\
Comes from the catalog of jobs, which remembers 400 days. The success rate counts what failed, was missed or began too late against what
was done; what somebody called off counts neither way. Exits with 4 if any job failed, was missed or began too late.

Examples:
  strongroom report jobs
  strongroom report jobs --days 7 --format csv > jobs.csv")]
pub struct Arguments {
    /// Jobs that were due in so many days
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..=400))]
    days: u32,
    #[command(flatten)]
    pub form: Form,
}

const HEAD: [&str; 11] = [
    "kind",
    "ordered",
    "done",
    "with findings",
    "failed",
    "missed",
    "too late",
    "called off",
    "retried",
    "success rate",
    "took (median, 95 %)",
];

pub async fn made(context: &Context, arguments: &Arguments) -> Result<Made, Failure> {
    let now = context.cx.now();
    let since = since(now, arguments.days);
    let found = figures_of(context, arguments.days).await?;
    let is_sound = |of: &JobFigures| of.failed + of.missed + of.expired == 0;
    let rows = found.iter().map(|(kind, of)| Row::judged(cells(kind, of), is_sound(of))).collect();
    let (done, of) = found.values().fold((0, 0), |(done, of), figures| {
        (done + figures.done, of + figures.done + figures.failed + figures.missed + figures.expired)
    });
    let paper = Paper {
        title: "Jobs".to_owned(),
        note: made_by(context, &format!("the catalog of jobs, since {since}")),
        lead: match of {
            0 => "No job came to an end.".to_owned(),
            of => format!("{done} of {of} jobs were done ({}).", percent(done as f64 / of as f64)),
        },
        parts: vec![Part::Table(String::new(), Rows { head: &HEAD, rows })],
    };
    let is_fine = found.values().all(is_sound);
    Ok(Made::new(&json!({ "since": since, "until": now, "kinds": found }), paper, is_fine))
}

/// What became of the jobs that were due in so many days, by kind.
pub async fn figures_of(context: &Context, days: u32) -> Result<BTreeMap<String, JobFigures>, Failure> {
    let now = context.cx.now();
    let jobs = open(context).await?.jobs_due(since(now, days), now).await?;
    Ok(figures(&jobs.iter().map(ran).collect::<Vec<_>>()))
}

fn since(now: Timestamp, days: u32) -> Timestamp {
    now.earlier(Duration::from_secs(u64::from(days) * 86_400)).unwrap_or(now)
}

fn ran(job: &Job) -> Ran {
    let fate = match (job.state, job.exit_code) {
        (State::Queued | State::Leased, _) => Fate::Open,
        (State::Done, Some(0) | None) => Fate::Done,
        (State::Done, Some(_)) => Fate::DoneWithFindings,
        (State::Failed, _) => Fate::Failed,
        (State::Cancelled, _) => Fate::Cancelled,
        (State::Missed, _) => Fate::Missed,
        (State::Expired, _) => Fate::Expired,
    };
    let took = job.began.zip(job.ended).map(|(began, ended)| ended.since(began));
    Ran { kind: job.kind.to_string(), fate, attempts: job.attempt.unsigned_abs(), took }
}

/// Never 100 % where anything is missing.
fn percent(share: f64) -> String {
    format!("{:.1} %", (share * 1000.0).floor() / 10.0)
}

fn cells(kind: &str, of: &JobFigures) -> Vec<String> {
    let counts =
        [of.ordered, of.done, of.with_findings, of.failed, of.missed, of.expired, of.cancelled, of.retried];
    let mut cells = vec![kind.to_owned()];
    cells.extend(counts.map(|count| count.to_string()));
    cells.push(of.success_rate.map_or_else(|| "not known".to_owned(), percent));
    cells.push(match of.p50_s.zip(of.p95_s) {
        Some((half, most)) => format!("{}, {}", time(half), time(most)),
        None => "not measured".to_owned(),
    });
    cells
}
