//! `strongroom audit`

#![allow(clippy::disallowed_methods, reason = "copies of the log are files that the user names")]

use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use serde_json::json;
use strongroom_model::audit::{Head, Line, Voucher};
use strongroom_model::time::human_duration;
use strongroom_model::{SourceName, Timestamp};
use strongroom_ops::audit::{Filter, Verdict, head, list, record, verify, verify_copies};

use crate::agent::leash;
use crate::agent::sightings::{SIGHTINGS, Sighting};
use crate::context::{Context, variable};
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table, tinted};
use crate::settings::parse_time;
use crate::surroundings::tool;

/// Who did what to the vault, and whether nobody changed the record of it since
#[derive(clap::Subcommand)]
pub enum Verb {
    /// List what was done, the newest last
    #[command(after_help = "\
An act that was begun and has no end goes on, or its process died.

Examples:
  strongroom audit list
  strongroom audit list --since 2026-11-01T00:00:00Z --verb restore --output json
  strongroom audit list --source orders --actor ada --newest 1000")]
    List(List),
    /// Prove that no entry was changed, left out, doubled or added since
    #[command(after_help = "\
Each entry names the SHA-256 of the one before it. That the end was cut off shows only against a head that was kept elsewhere:
`strongroom audit head`. Exits with 8 if anything is wrong.

With --files neither vault, key nor settings are needed: anybody can prove a copy of the folder audit/ of a vault.

Examples:
  strongroom audit verify
  strongroom audit verify --head 42:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  strongroom audit verify --files ./audit --signer 3b6a27bc…")]
    Verify(Verify),
    /// Print the newest entry's number and hash, to be kept where nobody who can reach the vault can change it
    #[command(after_help = "\
Examples:
  strongroom audit head
  strongroom audit head --output json >> /mnt/elsewhere/heads.json")]
    Head(Where),
    /// Record which settings hold: the agent does so whenever it reads them
    #[command(after_help = "\
Examples:
  strongroom audit settings")]
    Settings,
    /// Record what people did at an agent's door: only an agent does so
    #[command(hide = true)]
    Testify,
}

#[derive(clap::Args)]
pub struct Where {
    /// Another vault than the first, by name or url
    #[arg(long = "in", value_name = "VAULT")]
    named: Option<String>,
}

#[derive(clap::Args)]
pub struct List {
    /// From then on
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Up to then
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// By whom: a part of what the list shows
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// To this source
    #[arg(long, value_name = "SOURCE")]
    source: Option<SourceName>,
    /// By this verb: restore, hold, 'hold release'…
    #[arg(long, value_name = "VERB")]
    verb: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value = "100")]
    newest: usize,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
pub struct Verify {
    /// Copies of the log's objects, in this folder or in `audit` in it
    #[arg(long, value_name = "DIR", conflicts_with = "named")]
    files: Option<PathBuf>,
    /// The vault's public key, as `audit head` prints it: signatures of copies are checked with it
    #[arg(long, value_name = "HEX", requires = "files")]
    signer: Option<String>,
    /// A head that was kept elsewhere; may be repeated
    #[arg(long = "head", value_name = "NUMBER:HASH")]
    heads: Vec<Head>,
    #[command(flatten)]
    place: Where,
}

impl Verb {
    /// Whether it needs nothing but files.
    pub fn is_offline(&self) -> bool {
        matches!(self, Verb::Verify(Verify { files: Some(_), .. }))
    }
}

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::List(arguments) => {
            let List { since, until, actor, source, verb, newest, place } = arguments;
            let vault = context.vault_or_called(place.named.as_deref()).await?;
            let (actor, source, verb) = (actor.clone(), source.clone(), verb.clone());
            let filter = Filter { since: *since, until: *until, actor, source, verb };
            let lines = list(&vault, &filter, *newest).await?;
            Ok(Outcome::new(&lines, show(&lines)))
        }
        Verb::Verify(Verify { files: Some(folder), signer, heads, .. }) => {
            let signer = signer.as_deref().map(read_signer).transpose()?;
            let copies = copies(folder)?;
            Ok(told(&verify_copies(&copies, heads, signer.as_deref()), &folder.display().to_string()))
        }
        Verb::Verify(Verify { heads, place, .. }) => {
            let vault = context.vault_or_called(place.named.as_deref()).await?;
            Ok(told(&verify(&vault, heads).await?, &vault.place()))
        }
        Verb::Head(place) => {
            let vault = context.vault_or_called(place.named.as_deref()).await?;
            let newest = head(&vault).await?;
            let signer = newest.public_key.as_deref().map(|key| format!("\nsigned by {key}"));
            let text = match &newest.head {
                Some(head) => format!("{head}{}", signer.unwrap_or_default()),
                None => format!("the audit log of {} has no entry yet", vault.place()),
            };
            Ok(Outcome::new(&newest, text))
        }
        Verb::Settings => {
            // Where the entry goes; it is written as that of every act is.
            context.vault().await?;
            let path = context.settings.path.as_ref().map(|path| path.display().to_string());
            let hash = context.settings.hash.clone();
            let shown = path.as_deref().unwrap_or("no file");
            let text = format!("settings of {shown}: {}", hash.as_deref().unwrap_or("the defaults"));
            Ok(Outcome::new(&json!({ "path": path, "sha_256": hash }), text))
        }
        Verb::Testify => testify(context).await,
    }
}

/// Writes what the agent saw that started this process, the oldest first, as far as the vault takes it.
async fn testify(context: &Context) -> Result<Outcome, Failure> {
    let sent = variable(SIGHTINGS).filter(|_| leash::is_held());
    let refused = || {
        let failure = Failure::new(Code::Usage, "only an agent records what people did at its door");
        failure.hint("`strongroom run` does so by itself, and `strongroom audit list` shows it")
    };
    let sightings: Vec<Sighting> = serde_json::from_str(&sent.ok_or_else(refused)?).map_err(|_| refused())?;
    let vault = context.writable(None).await?;
    let mut written = 0;
    for sighting in sightings {
        let entry = sighting.record().ok_or_else(refused)?;
        if let Err(error) = record(&context.cx, &vault, &entry, &tool()).await {
            let failure = Failure::from(error);
            let why = failure.on_one_line();
            let outcome = Outcome::new(&json!({ "written": written, "why": why }), why);
            return Ok(outcome.with_code(failure.kind));
        }
        written += 1;
    }
    Ok(Outcome::new(&json!({ "written": written }), format!("{written} sightings are in the audit log")))
}

fn read_signer(text: &str) -> Result<Vec<u8>, Failure> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = text.trim().as_bytes().chunks(2).map(byte).collect();
    let key = bytes.filter(|bytes| bytes.len() == 32);
    key.ok_or_else(|| {
        let failure = Failure::new(Code::Usage, "--signer: a public key has 64 hexadecimal digits");
        failure.hint("`strongroom audit head` prints the vault's")
    })
}

/// Every file of the folder, or of `audit` in it, by name.
fn copies(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let within = folder.join("audit");
    let folder = if within.is_dir() { &within } else { folder };
    let unread = |path: &Path, error: std::io::Error| {
        let failure = Failure::new(Code::Failed, format!("read {}: {error}", path.display()));
        failure.hint("is it a copy of the folder audit/ of a vault, and may this user read it?")
    };
    let mut copies = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unread(folder, error))? {
        let path = entry.map_err(|error| unread(folder, error))?.path();
        let bytes = std::fs::read(&path).map_err(|error| unread(&path, error))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        copies.push((name.unwrap_or_default(), bytes));
    }
    match copies.is_empty() {
        true => {
            let failure = Failure::new(Code::Usage, format!("{} has no file", folder.display()));
            Err(failure.hint("name the folder of the copies of audit/ of a vault"))
        }
        false => Ok(copies),
    }
}

fn told(verdict: &Verdict, place: &str) -> Outcome {
    let Verdict { sound, entries, signed, sealed, unknown, head, findings } = verdict;
    let mut lines = vec![match sound {
        true => format!(
            "{} {entries} entries of {place}, each the one that the next was written after",
            tinted("sound:", AnsiColor::Green)
        ),
        false => format!("{} {entries} entries of {place}", tinted("not sound:", AnsiColor::Red)),
    }];
    lines.extend(findings.iter().map(|finding| format!("  {finding}")));
    let vouched = [
        (*signed, "signed by who has the whole key"),
        (*sealed, "sealed by who has a key of the vault"),
        (*unknown, "held by the chain alone: whose they are cannot be told from here"),
    ];
    lines.extend(
        vouched.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!("  {count} {how}")),
    );
    lines.extend(head.iter().map(|head| format!("head: {head}")));
    let code = if *sound { Code::Ok } else { Code::Damaged };
    Outcome::new(verdict, lines.join("\n")).with_code(code)
}

fn show(lines: &[Line]) -> String {
    let row = |line: &Line| {
        let outcome = match (&line.outcome, line.exit_code) {
            (Some(word), Some(0)) => tinted(word, AnsiColor::Green),
            (Some(word), _) => tinted(word, AnsiColor::Yellow),
            (None, _) => tinted("begun, no end known", AnsiColor::Red),
        };
        let took = line.ended_at.map(|end| format!(" in {}", human_duration(end.since(line.at))));
        let object = line.act.point.as_ref().map(ToString::to_string);
        let object = object.or_else(|| line.act.source.as_ref().map(ToString::to_string));
        let mut texts: Vec<String> = line.texts.iter().map(|(key, text)| format!("{key}: {text}")).collect();
        if let Voucher::Forged(why) = &line.voucher {
            texts.insert(0, tinted(&format!("forged: {why}"), AnsiColor::Red));
        }
        vec![
            line.number.to_string(),
            line.at.to_string(),
            line.actor.to_string(),
            format!("{} {}", line.act.verb, object.unwrap_or_default()).trim_end().to_owned(),
            format!("{outcome}{}", took.unwrap_or_default()),
            texts.join("; "),
        ]
    };
    match lines.is_empty() {
        true => "nothing of that kind is in the audit log".to_owned(),
        false => {
            let rows: Vec<_> = lines.iter().map(row).collect();
            table(&["number", "at", "who", "what", "outcome", "details"], &rows, &[0])
        }
    }
}
