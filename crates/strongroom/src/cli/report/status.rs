//! `strongroom report status`

use strongroom_model::SourceName;
use strongroom_model::plan::Plan;
use strongroom_model::time::human_duration;
use strongroom_ops::report::rto_rpo::Concern;
use strongroom_ops::report::status::{Standing, standings};

use super::{Form, Made, against, made_by, promises};
use crate::cli::drill::in_short;
use crate::context::Context;
use crate::failure::Failure;
use crate::paper::{Paper, Part, Row, Rows};

/// Report to which second each source can be recovered, and how that is known; problems first
#[derive(clap::Args)]
#[command(after_help = "\
Every figure comes from the vault. Objectives are those of the settings. Exits with 4 if anything needs a person's attention.

Examples:
  strongroom report status
  strongroom report status --format html > status.html
  strongroom report status orders --pdf status.pdf")]
pub struct Arguments {
    /// Only this source
    source: Option<SourceName>,
    #[command(flatten)]
    pub form: Form,
}

const HEAD: [&str; 8] = [
    "source",
    "recoverable to",
    "known by",
    "points",
    "loss now",
    "restore takes",
    "last drill",
    "attention",
];

pub async fn made(context: &Context, arguments: &Arguments) -> Result<Made, Failure> {
    let vault = context.answering().await?;
    let mut promises = promises(context);
    // Who is left out for a reason, and is not in the vault either, needs no attention here: `report coverage` has them.
    let settings = &context.settings;
    for source in settings.protected() {
        let is_covered = settings.plans.values().any(|plan| plan.covers(&source));
        let is_left_out = |plan: &Plan| plan.select.holds(&source) && plan.exclusion(&source).is_some();
        if !is_covered
            && settings.plans.values().any(is_left_out)
            && arguments.source.as_ref() != Some(&source.name)
        {
            promises.remove(&source.name);
        }
    }
    let lines = standings(&context.cx, &vault, &promises, arguments.source.as_ref()).await?;
    let sound = lines.iter().filter(|line| line.is_sound()).count();
    let rows = lines.iter().map(|line| Row::judged(cells(context, line), line.is_sound())).collect();
    let paper = Paper {
        title: "Status".to_owned(),
        note: made_by(context, &format!("what is in {}", vault.place())),
        lead: match lines.len() {
            0 => "Nothing is protected yet.".to_owned(),
            all if all == sound => format!("All {all} sources are as they should be."),
            all => format!("{} of {all} sources need attention.", all - sound),
        },
        parts: vec![Part::Table(String::new(), Rows { head: &HEAD, rows })],
    };
    Ok(Made::new(&lines, paper, sound == lines.len()))
}

fn cells(context: &Context, line: &Standing) -> Vec<String> {
    let now = context.cx.now();
    let points = match (line.points, line.last_point_at) {
        (0, _) | (_, None) => "none".to_owned(),
        (count, Some(at)) => format!("{count}, the newest {} ago", human_duration(now.since(at))),
    };
    let mut attention: Vec<String> =
        line.concerns.iter().map(|concern| in_words(*concern).to_owned()).collect();
    attention.extend(line.problems.iter().cloned());
    // Said twice in two manners.
    attention.dedup();
    vec![
        line.source.to_string(),
        line.recoverable_to.map_or_else(|| "not known".to_owned(), |at| at.to_string()),
        line.known_by.clone(),
        points,
        against(line.rpo_s, "not known"),
        against(line.rto_s, "not measured"),
        line.drill
            .map_or_else(|| "never".to_owned(), |(at, outcome)| in_short(at, now, (outcome, line.rto_s.1))),
        if attention.is_empty() { "none".to_owned() } else { attention.join("; ") },
    ]
}

/// A concern in a few words.
fn in_words(concern: Concern) -> &'static str {
    match concern {
        Concern::NoPoint => "there is no recovery point",
        Concern::RpoBroken => "more would be lost than may be",
        Concern::RtoBroken => "the last drill took longer than it may",
        Concern::NeverDrilled => "never drilled",
        Concern::NeverPassed => "no drill ever passed",
        Concern::Overdue => "a drill is due",
        Concern::LastFailed => "the last drill did not pass",
        Concern::FalseEvidence => "a drill's record does not count: strongroom report rto-rpo",
    }
}
