//! `strongroom status`

use std::time::Duration;

use anstyle::AnsiColor;
use strongroom_model::SourceName;
use strongroom_model::time::human_duration;
use strongroom_ops::status::status;

use crate::cli::drill::in_short;
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table, tinted};

/// Show how well each source is protected right now
#[derive(clap::Args)]
#[command(after_help = "Exits with 4 if anything needs a person's attention.")]
pub struct Arguments {
    /// Only this source
    source: Option<SourceName>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let vault = context.answering().await?;
    let sources = status(&context.cx, &vault, arguments.source.as_ref()).await?;
    let ago = |duration: Duration| format!("{} ago", human_duration(duration));
    let rows: Vec<Vec<String>> = sources
        .iter()
        .map(|source| {
            vec![
                source.source.to_string(),
                source.points.to_string(),
                source.last_point_at.map_or_else(|| "never".into(), |at| ago(context.cx.now().since(at))),
                source.recoverable_to.map_or_else(|| "-".into(), |at| at.to_string()),
                match source.journal_age_s {
                    Some(age) => ago(Duration::from_secs(age)),
                    // A dump needs no WAL.
                    None if source.dumped => "-".into(),
                    None => "never".into(),
                },
                match &source.drill {
                    Some(drill) => in_short(drill.at, context.cx.now(), (drill.outcome, drill.rto_seconds)),
                    None if vault.may_read() => "never".into(),
                    // Who may only append cannot check the records.
                    None => "-".into(),
                },
                match source.problems.is_empty() {
                    true => tinted("ok", AnsiColor::Green),
                    false => tinted("look below", AnsiColor::Red),
                },
            ]
        })
        .collect();
    let mut text = match rows.is_empty() {
        true => format!("{} protects nothing yet", vault.place()),
        false => {
            let head = ["source", "points", "last point", "recoverable to", "last WAL", "drilled", "state"];
            table(&head, &rows, &[1])
        }
    };
    for source in &sources {
        for problem in &source.problems {
            text.push_str(&format!("\n{} {}: {problem}", tinted("!", AnsiColor::Red), source.source));
        }
    }
    let sound = sources.iter().all(|source| source.problems.is_empty());
    Ok(Outcome::new(&sources, text).with_code(if sound { Code::Ok } else { Code::Problems }))
}
