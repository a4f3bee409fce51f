//! `strongroom report coverage`

use serde_json::json;
use strongroom_ops::report::coverage::{Cover, Covered, coverage};

use super::{Form, Made, made_by};
use crate::context::Context;
use crate::failure::Failure;
use crate::paper::{Paper, Part, Row, Rows, Tone};

/// Report what is in a plan, what is left out and why, and what is in the vault that no settings name
#[derive(clap::Args)]
#[command(after_help = "\
Whoever is left out has a reason, an owner and a day to look again ([[plan.NAME.exclude]]). What runs elsewhere and is named nowhere this
report cannot see. Exits with 4 if a source is forgotten, a review is overdue, or nothing of a source is in the vault yet.

Examples:
  strongroom report coverage
  strongroom report coverage --format csv > coverage.csv")]
pub struct Arguments {
    #[command(flatten)]
    pub form: Form,
}

const HEAD: [&str; 5] = ["source", "kind", "covered", "plans and rules", "left out"];

pub async fn made(context: &Context, _: &Arguments) -> Result<Made, Failure> {
    let vault = context.answering().await?;
    let in_vault = vault.sources().await.map_err(Failure::from)?;
    let settings = &context.settings;
    let lines = coverage(&settings.plans, &settings.protected(), &in_vault, context.cx.now());
    let is_fine = lines.iter().all(|line| line.cover.is_sound());
    let count = |cover| lines.iter().filter(|line| line.cover == cover).count();
    let lead = format!(
        "{} covered, {} left out for a reason, {} forgotten, {} whose review is overdue, {} of which nothing is in the vault, {} that only the vault knows.",
        count(Cover::Covered),
        count(Cover::LeftOut),
        count(Cover::Forgotten),
        count(Cover::ReviewOverdue),
        count(Cover::NothingYet),
        count(Cover::OnlyInVault),
    );
    let rows = lines.iter().map(|line| Row { cells: cells(line), tone: tone(line.cover) }).collect();
    let not_seen = "Databases of a cluster whose files are backed up are all covered with it. Of a server that is dumped only the configured \
                    databases are known; other servers, and other databases there, this report cannot see.";
    let paper = Paper {
        title: "Coverage".to_owned(),
        note: made_by(context, &format!("the settings and what is in {}", vault.place())),
        lead,
        parts: vec![
            Part::Table(String::new(), Rows { head: &HEAD, rows }),
            Part::Prose("What is not in it".to_owned(), not_seen.to_owned()),
        ],
    };
    Ok(Made::new(&json!({ "sources": lines, "not_seen": not_seen }), paper, is_fine))
}

fn tone(cover: Cover) -> Tone {
    match cover {
        Cover::Covered | Cover::LeftOut => Tone::Good,
        Cover::OnlyInVault => Tone::Unsure,
        Cover::Forgotten | Cover::ReviewOverdue | Cover::NothingYet => Tone::Bad,
    }
}

fn cells(line: &Covered) -> Vec<String> {
    let said = match line.cover {
        Cover::Forgotten => "no: in no plan, and nobody said why",
        Cover::ReviewOverdue => "the review of why it is left out is overdue",
        Cover::NothingYet => "in a plan, and nothing of it is in the vault",
        Cover::OnlyInVault => "in the vault only: no settings here name it",
        Cover::LeftOut => "left out",
        Cover::Covered => "yes",
    };
    let plans = line.plans.iter().map(|(plan, rules)| format!("{plan} ({})", rules.join(", ")));
    let left_out = line.left_out.iter().map(|(plan, exclusion)| {
        let (reason, owner, review) = (&exclusion.reason, &exclusion.owner, exclusion.review);
        format!("by {plan}: {reason}; {owner} answers for it, and looks again by {review}")
    });
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    vec![
        line.source.to_string(),
        line.kind.map_or_else(|| "-".to_owned(), |kind| kind.to_string()),
        said.to_owned(),
        dash(plans.collect::<Vec<_>>().join("; ")),
        dash(left_out.collect::<Vec<_>>().join("; ")),
    ]
}
