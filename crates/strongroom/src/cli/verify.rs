//! `strongroom verify`

use anstyle::AnsiColor;
use strongroom_model::{ByteSize, PointId, SourceName};
use strongroom_ops::hand::Hand;
use strongroom_ops::list::source_of;
use strongroom_ops::verify::{VerifyRequest, verify};
use strongroom_vault::evidence::{Evidence, Verification};
use strongroom_vault::verify::{Budget, Damage, Depth};

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table, tinted};
use crate::settings::parse_duration;
use crate::surroundings;

/// Check that what is in the vault is what was put there
#[derive(clap::Args)]
#[command(after_help = "\
Names everything that is wrong by object, file and page, and exits with 4 then. With --data every byte is compared with
the hash it was committed with; with --pages every page is opened as well, as a restore would. What was verified is
recorded in the vault, signed; a budget begins with what was never verified, or not for the longest time.

Examples:
  strongroom verify                          every point's manifest and pack sizes, every WAL file's head
  strongroom verify orders --data            every byte of a source
  strongroom verify --data --budget 10GB     some of it every day; or --budget 10m
  strongroom verify --records                what was verified when, and how it came out")]
pub struct Arguments {
    /// A source, or one recovery point; everything if left out
    what: Option<String>,
    /// Read every byte
    #[arg(long)]
    data: bool,
    /// Open every page
    #[arg(long, conflicts_with = "data")]
    pages: bool,
    /// Stop after so many bytes or so much time: 10GB, 10m
    #[arg(long, value_name = "SIZE_OR_TIME", value_parser = parse_budget)]
    budget: Option<Budget>,
    /// Show the records of earlier runs
    #[arg(long, conflicts_with_all = ["data", "pages", "budget"])]
    records: bool,
    /// Threads that read
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

fn parse_budget(text: &str) -> Result<Budget, String> {
    if let Ok(ByteSize(bytes)) = text.parse() {
        return Ok(Budget { bytes: Some(bytes), time: None });
    }
    let time = parse_duration(text)
        .map_err(|_| format!("'{text}' is neither a size nor a length of time: write it as 10GB or 10m"))?;
    Ok(Budget { bytes: None, time: Some(time) })
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let vault = context.answering().await?;
    if arguments.records {
        let records = vault.evidence().await?;
        let text = show_records(&records, vault.signs());
        return Ok(Outcome::new(&records, text));
    }
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
    let depth = match (arguments.data, arguments.pages) {
        (_, true) => Depth::Pages,
        (true, _) => Depth::Data,
        _ => Depth::Structure,
    };
    let request = VerifyRequest {
        source,
        point,
        depth,
        workers: arguments.workers.unwrap_or(context.settings.backup.workers).max(1),
        budget: arguments.budget.unwrap_or_default(),
        hand: Some(Hand { host: surroundings::host(), tool: surroundings::tool() }),
    };
    let verdict = verify(&context.cx, &vault, &request).await?;
    let mut lines = Vec::new();
    for point in &verdict.points {
        let left = if point.left > 0 { format!(", {} packs not reached", point.left) } else { String::new() };
        lines.push(format!(
            "{}  {} entries, {} packs{left}: {}",
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
    lines.extend(verdict.records.iter().flat_map(describe));
    if depth > Depth::Structure {
        let left = match verdict.left {
            0 => String::new(),
            left => format!(", {left} packs are left for the next run"),
        };
        lines.push(format!("{} of packs read{left}", ByteSize(verdict.bytes)));
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

fn show_records(records: &[Evidence], signs: bool) -> String {
    let row = |record: &Evidence| {
        let Verification { source, depth, began_at, bytes, left, damage, .. } = &record.verification;
        let found = match (damage.len(), left) {
            (0, 0) => tinted("sound", AnsiColor::Green),
            (0, left) => format!("sound so far, {left} packs left"),
            (count, _) => tinted(&format!("{count} objects damaged"), AnsiColor::Red),
        };
        let signed = match (record.signed, signs) {
            (true, _) => "signed".to_owned(),
            (false, true) => tinted("signature is wrong", AnsiColor::Red),
            (false, false) => "unsigned: the vault has no key of its own".to_owned(),
        };
        let depth = format!("{depth:?}").to_lowercase();
        vec![began_at.to_string(), source.to_string(), depth, ByteSize(*bytes).to_string(), found, signed]
    };
    match records.is_empty() {
        true => "nothing was verified with --data or --pages yet".to_owned(),
        false => {
            let rows: Vec<_> = records.iter().map(row).collect();
            table(&["began", "source", "depth", "read", "found", "record"], &rows, &[3])
        }
    }
}
