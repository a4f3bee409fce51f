//! `strongroom verify`

use anstyle::AnsiColor;
use strongroom_model::{ByteSize, PointId, SourceName};
use strongroom_ops::list::source_of;
use strongroom_ops::verify::{VerifyRequest, verify};
use strongroom_vault::verify::{Damage, Depth};

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, tinted};

/// Check that what is in the vault is what was put there
#[derive(clap::Args)]
#[command(after_help = "\
Names everything that is wrong by object, file and page, and exits with 4 then.

Examples:
  strongroom verify                  every point's manifest and pack sizes, every WAL file's head
  strongroom verify orders --data    every byte of a source")]
pub struct Arguments {
    /// A source, or one recovery point; everything if left out
    what: Option<String>,
    /// Read every byte
    #[arg(long)]
    data: bool,
    /// Threads that read
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let vault = context.answering().await?;
    let point: Option<PointId> = arguments.what.as_ref().and_then(|what| what.parse().ok());
    let source = match (&arguments.what, &point) {
        (None, _) => None,
        (Some(_), Some(point)) => Some(source_of(&vault, point).await?),
        (Some(what), None) => {
            let name: Result<SourceName, _> = what.parse();
            let name = name.map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
            if !vault.sources().await?.contains(&name) {
                return Err(strongroom_ops::OpsError::UnknownSource(name).into());
            }
            Some(name)
        }
    };
    let depth = if arguments.data { Depth::Data } else { Depth::Structure };
    let workers = arguments.workers.unwrap_or(context.settings.backup.workers).max(1);
    let verdict = verify(&context.cx, &vault, &VerifyRequest { source, point, depth, workers }).await?;
    let mut lines = Vec::new();
    for point in &verdict.points {
        let read =
            if depth == Depth::Data { format!(", {} read", ByteSize(point.bytes)) } else { String::new() };
        lines.push(format!(
            "{}  {} entries, {} packs{read}: {}",
            point.point,
            point.entries,
            point.packs,
            word(&point.damage)
        ));
        lines.extend(point.damage.iter().flat_map(describe));
    }
    for journal in &verdict.journals {
        lines.push(format!("{}  {} WAL files: {}", journal.source, journal.files, word(&journal.damage)));
        lines.extend(journal.damage.iter().flat_map(describe));
        lines.extend(
            journal
                .inconsistent
                .iter()
                .map(|point| format!("  {} {point} lacks WAL it needs", tinted("!", AnsiColor::Red))),
        );
    }
    let code = if verdict.sound { Code::Ok } else { Code::Problems };
    Ok(Outcome::new(&verdict, lines.join("\n")).with_code(code))
}

fn word(damage: &[Damage]) -> String {
    match damage.len() {
        0 => tinted("sound", AnsiColor::Green),
        1 => tinted("1 object damaged", AnsiColor::Red),
        count => tinted(&format!("{count} objects damaged"), AnsiColor::Red),
    }
}

fn describe(damage: &Damage) -> Vec<String> {
    let mut lines = vec![format!("  {} {}: {}", tinted("!", AnsiColor::Red), damage.object, damage.why)];
    for lost in &damage.lost {
        let pages: Vec<String> = lost
            .pages
            .iter()
            .map(|range| match range.len() {
                1 => range.start.to_string(),
                _ => format!("{}-{}", range.start, range.end - 1),
            })
            .collect();
        lines.push(format!("      {} loses pages {}", lost.path, pages.join(", ")));
    }
    lines
}
