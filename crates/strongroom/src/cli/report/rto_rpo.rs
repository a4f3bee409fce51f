//! `strongroom report rto-rpo`

use std::time::Duration;

use strongroom_model::SourceName;
use strongroom_model::drill::Trend;
use strongroom_model::time::human_duration;
use strongroom_ops::report::rto_rpo::{Concern, RtoRpo, rto_rpo};

use super::{Form, Made, made_by, promises};
use crate::context::Context;
use crate::failure::Failure;
use crate::paper::{Paper, Part, Row, Rows};

/// Report what was promised, what would be lost now, how long drills took, and how that is known
#[derive(clap::Args)]
#[command(after_help = "\
Every figure comes from the vault: what would be lost from its WAL and dumps, recovery times from the signed evidence of drills.
A record whose signature is not the vault's is named, and does not count. Objectives are those of the settings:
rpo = \"5m\" and rto = \"30m\" under [source.NAME]. Exits with 4 if anything needs a person's attention.

Examples:
  strongroom report rto-rpo
  strongroom report rto-rpo orders --output json
  strongroom report rto-rpo --format html > rto-rpo.html")]
pub struct Arguments {
    /// Only this source
    source: Option<SourceName>,
    #[command(flatten)]
    pub form: Form,
}

const HEAD: [&str; 8] = [
    "source",
    "RPO objective",
    "RPO now",
    "RPO worst",
    "RTO objective",
    "RTO by drills",
    "last drill",
    "attention",
];

pub async fn made(context: &Context, arguments: &Arguments) -> Result<Made, Failure> {
    let vault = context.answering().await?;
    let lines = rto_rpo(&context.cx, &vault, &promises(context), arguments.source.as_ref()).await?;
    let now = context.cx.now();
    let rows = lines.iter().map(|line| Row::judged(row(line, now), line.concerns.is_empty())).collect();
    let paper = Paper {
        title: "RPO and RTO".to_owned(),
        note: made_by(context, &format!("what is in {}", vault.place())),
        lead: String::new(),
        parts: vec![Part::Table(String::new(), Rows { head: &HEAD, rows })],
    };
    Ok(Made::new(&lines, paper, lines.iter().all(|line| line.concerns.is_empty())))
}

fn row(line: &RtoRpo, now: strongroom_model::Timestamp) -> Vec<String> {
    let time = |seconds: Option<f64>| {
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.map_or_else(|| "-".to_owned(), human_duration)
    };
    let known = |seconds: Option<f64>| seconds.map_or_else(|| "not known".to_owned(), |_| time(seconds));
    let drills = &line.drills;
    let by_drills = match drills.last_seconds {
        None => "not measured".to_owned(),
        Some(_) => format!(
            "last {}, median {}, worst {} ({}{})",
            time(drills.last_seconds),
            time(drills.median_seconds),
            time(drills.worst_seconds),
            match drills.drills {
                1 => "1 drill".to_owned(),
                count => format!("{count} drills"),
            },
            match drills.trend {
                None => "",
                Some(Trend::Rising) => ", rising",
                Some(Trend::Steady) => ", steady",
                Some(Trend::Falling) => ", falling",
            }
        ),
    };
    let last = match (drills.last_at, line.evidence.last()) {
        (Some(at), Some(id)) => format!("{} ago ({id})", human_duration(now.since(at))),
        _ => "never drilled".to_owned(),
    };
    let attention: Vec<String> = line.concerns.iter().map(|concern| describe(*concern, line)).collect();
    vec![
        line.source.to_string(),
        time(line.rpo_objective_s),
        known(line.rpo_now_s),
        known(line.rpo_worst_s),
        time(line.rto_objective_s),
        by_drills,
        last,
        if attention.is_empty() { "none".to_owned() } else { attention.join("; ") },
    ]
}

fn describe(concern: Concern, line: &RtoRpo) -> String {
    match concern {
        Concern::NoPoint => "there is no recovery point".to_owned(),
        Concern::RpoBroken => "more would be lost than may be".to_owned(),
        Concern::RtoBroken => "the last drill took longer than it may".to_owned(),
        Concern::NeverDrilled => format!("never drilled: strongroom drill {}", line.source),
        Concern::NeverPassed => "no drill ever passed".to_owned(),
        Concern::Overdue => match line.due_at {
            Some(due) => format!("a drill was due by {due}"),
            None => "a drill is due".to_owned(),
        },
        Concern::LastFailed => "the last drill did not pass".to_owned(),
        Concern::FalseEvidence => {
            let records = line.discounted.iter().map(|(id, why)| format!("{id} ({why})"));
            format!("records that do not count: {}", records.collect::<Vec<_>>().join(", "))
        }
    }
}
