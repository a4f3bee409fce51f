//! `strongroom verify`

use std::collections::BTreeMap;
use std::sync::Arc;

use anstyle::AnsiColor;
use serde::Serialize;
use strongroom_model::{ByteSize, PointId, SourceName};
use strongroom_ops::list::source_of;
use strongroom_ops::repair::{Repair, repair};
use strongroom_ops::restore::facts_of;
use strongroom_ops::verify::{Verdict, VerifyRequest, verify};
use strongroom_postgres::facts::PostgresFacts;
use strongroom_vault::Vault;
use strongroom_vault::evidence::{Evidence, Verification};
use strongroom_vault::verify::{Budget, Damage, Depth};

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::losses::lost_pages;
use crate::output::{Outcome, table, tinted};
use crate::settings::parse_duration;
use crate::surroundings::hand;

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
  strongroom verify --repair-from offsite    put back what is damaged here and whole there
  strongroom verify --in offsite --data      the second copy
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
    /// Verify this vault of the settings
    #[arg(long = "in", value_name = "NAME")]
    of: Option<String>,
    /// Put back what is damaged or missing from this vault of the settings, a replica. Reads every byte, as --data does. Takes
    /// the right to delete
    #[arg(long, value_name = "NAME")]
    repair_from: Option<String>,
    /// Say what would be put back, and write nothing
    #[arg(long, requires = "repair_from")]
    dry_run: bool,
    /// Show the records of earlier runs
    #[arg(long, conflicts_with_all = ["data", "pages", "budget", "repair_from"])]
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
    let vault = match (&arguments.of, &arguments.repair_from) {
        (None, None) => context.answering().await?,
        // What is to be repaired is no other vault's damage.
        (of, _) => context.vault_or_called(of.as_deref()).await?,
    };
    if arguments.records {
        let records = vault.evidence().await?;
        let text = show_records(&records, (vault.signs(), vault.may_read()));
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
    // Damage that was not looked for would be left, and the vault called sound.
    let depth = match (arguments.data || arguments.repair_from.is_some(), arguments.pages) {
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
        hand: Some(hand()),
    };
    let replica = match &arguments.repair_from {
        Some(name) => Some(context.vault_called(name).await?),
        None => None,
    };
    if let Some(replica) = &replica {
        // Before hours of reading.
        vault.check_replica(replica)?;
    }
    let mut verdict = verify(&context.cx, &vault, &request).await?;
    let repair = match replica {
        Some(replica) if !verdict.sound => {
            let (vaults, found) = ((&vault, &replica), (&mut verdict, &request));
            Some(repair(&context.cx, vaults, found, !arguments.dry_run).await?)
        }
        _ => None,
    };
    let mut lines = describe_verdict(&verdict, depth, &facts_of_damaged(&vault, &verdict).await);
    if verdict.journals.is_empty() && verdict.points.is_empty() {
        lines.push(format!("{} holds nothing to verify yet", vault.place()));
    }
    lines.extend(repair.iter().flat_map(describe_repair));
    // A nightly check must not take the replica's health for that of the vault it was to look at.
    let stood_in = arguments.of.is_none() && !context.is_first(&vault);
    if stood_in {
        let what = tinted("the first vault was not verified", AnsiColor::Red);
        lines.push(format!("{what}: it does not answer, and {} does", vault.place()));
    }
    let code = if verdict.sound && !stood_in { Code::Ok } else { Code::Problems };
    let json = Answer { verdict: &verdict, vault: vault.place(), stood_in, repair: &repair };
    Ok(Outcome::new(&json, lines.join("\n")).with_code(code))
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    /// Which was verified, and whether it stood in for the first.
    vault: String,
    stood_in: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: &'a Option<Repair>,
}

fn describe_repair(repair: &Repair) -> Vec<String> {
    let how = if repair.carried_out { "repaired" } else { "could be repaired" };
    let mut lines: Vec<String> = repair
        .repaired
        .iter()
        .map(|done| {
            let word = tinted(how, AnsiColor::Green);
            format!("{word} from {}: {} ({})", repair.from, done.object, ByteSize(done.bytes))
        })
        .collect();
    let beyond = |damage: &Damage| {
        format!("{} {}: {}", tinted("beyond repair", AnsiColor::Red), damage.object, damage.why)
    };
    lines.extend(repair.beyond.iter().map(beyond));
    lines
}

fn describe_verdict(
    verdict: &Verdict,
    depth: Depth,
    facts: &BTreeMap<PointId, PostgresFacts>,
) -> Vec<String> {
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
        let facts = facts.get(&point.point);
        lines.extend(point.damage.iter().flat_map(|damage| describe(damage, facts)));
    }
    for journal in &verdict.journals {
        lines.push(format!("{}  {} WAL files: {}", journal.source, journal.files, word(&journal.damage)));
        lines.extend(journal.damage.iter().flat_map(|damage| describe(damage, None)));
        lines.extend(
            journal
                .inconsistent
                .iter()
                .map(|point| format!("  {} {point} lacks WAL it needs", tinted("!", AnsiColor::Red))),
        );
    }
    lines.extend(verdict.records.iter().flat_map(|damage| describe(damage, None)));
    if depth > Depth::Structure {
        let left = match verdict.left {
            0 => String::new(),
            left => format!(", {left} packs are left for the next run"),
        };
        lines.push(format!("{} of packs read{left}", ByteSize(verdict.bytes)));
    }
    lines
}

/// What points with lost pages were of: names for numbers. One whose facts do not read has none, and no dump: its parts have
/// names.
async fn facts_of_damaged(vault: &Arc<Vault>, verdict: &Verdict) -> BTreeMap<PointId, PostgresFacts> {
    let mut known = BTreeMap::new();
    for point in verdict.points.iter().filter(|point| point.damage.iter().any(|one| !one.lost.is_empty())) {
        let Ok(source) = source_of(vault, &point.point).await else { continue };
        let Ok(open) = vault.open_point(&source, &point.point).await else { continue };
        if open.summary().journal.is_none() {
            continue;
        }
        if let Ok(facts) = facts_of(&open) {
            known.insert(point.point.clone(), facts);
        }
    }
    known
}

fn word(damage: &[Damage]) -> String {
    match damage.len() {
        0 => tinted("sound", AnsiColor::Green),
        1 => tinted("1 object damaged", AnsiColor::Red),
        count => tinted(&format!("{count} objects damaged"), AnsiColor::Red),
    }
}

fn describe(damage: &Damage, facts: Option<&PostgresFacts>) -> Vec<String> {
    let mut lines = vec![format!("  {} {}: {}", tinted("!", AnsiColor::Red), damage.object, damage.why)];
    lines.extend(lost_pages(&damage.lost, facts));
    lines
}

fn show_records(records: &[Evidence], (signs, may_read): (bool, bool)) -> String {
    let row = |record: &Evidence| {
        let Verification { source, depth, began_at, bytes, left, damage, .. } = &record.verification;
        let found = match (damage.len(), left) {
            (0, 0) => tinted("sound", AnsiColor::Green),
            (0, left) => format!("sound so far, {left} packs left"),
            (count, _) => tinted(&format!("{count} objects damaged"), AnsiColor::Red),
        };
        let signed = match (record.signed, signs, may_read) {
            (true, ..) => "signed".to_owned(),
            (false, _, false) => "cannot be checked by who may only append".to_owned(),
            (false, true, true) => tinted("signature is wrong", AnsiColor::Red),
            (false, false, true) => "unsigned: the vault has no key of its own".to_owned(),
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
