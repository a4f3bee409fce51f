//! `strongroom wal push | receive | fetch | status`

use std::path::PathBuf;

use anstyle::AnsiColor;
use serde_json::json;
use strongroom_model::time::human_duration;
use strongroom_model::{ByteSize, SourceName, WalFile};
use strongroom_ops::wal_fetch::{Fetched, wal_fetch};
use strongroom_ops::wal_push::{WalInput, ship_waiting, wal_push};
use strongroom_ops::wal_status::wal_status;
use strongroom_postgres::archive::{control_beside, place};
use strongroom_vault::journal::Shipped;
use strongroom_vault::lineage::Lineage;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table, tinted};

mod receive;

/// Ship WAL, bring it back, look at it
#[derive(clap::Subcommand)]
pub enum Verb {
    /// Ship one finished WAL file; for archive_command
    #[command(after_help = "\
Succeeds only when the vault durably holds this file. The same file again is fine; another file of the same name is
refused and what is there stays. Exit codes are 0 or 1 to 125, as the archiver needs them.

Example, in postgresql.conf (or let `strongroom doctor --fix` write it):
  archive_command = 'strongroom --config /etc/strongroom/strongroom.toml wal push --source orders \"%p\"'")]
    Push {
        /// The file, as in %p
        path: PathBuf,
        /// The source; may be left out if there is only one
        #[arg(long)]
        source: Option<SourceName>,
    },
    Receive(receive::Arguments),
    /// Bring one WAL file back; for restore_command
    #[command(after_help = "\
Exits with 0 when the file is in place, whole and checked; with 1 only when the vault says with authority that there is
none; with 200 for everything else, so that a store that is down stops recovery and never ends it early.")]
    Fetch {
        /// The file's name, as in %f
        name: String,
        /// Where to put it, as in %p
        destination: PathBuf,
        /// The source; may be left out if there is only one
        #[arg(long)]
        source: Option<SourceName>,
    },
    /// Show what of the journal is in the vault, and its gaps
    Status {
        /// The source; may be left out if there is only one
        source: Option<SourceName>,
    },
}

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::Push { path, source } => push(context, path, source.as_ref()).await,
        Verb::Receive(arguments) => receive::run(context, arguments).await,
        Verb::Fetch { name, destination, source } => fetch(context, name, destination, source.as_ref()).await,
        Verb::Status { source } => status(context, source.as_ref()).await,
    }
}

async fn push(
    context: &Context,
    path: &std::path::Path,
    source: Option<&SourceName>,
) -> Result<Outcome, Failure> {
    let source = context.source(source)?;
    context.check_places()?;
    let input = WalInput::of_postgres(&context.cx, path)?;
    // Every vault gets its chance: one that is down must not keep the file from the others. The file counts as shipped
    // only when all have it; the server offers it again otherwise, and those that have it say so.
    let (mut outcomes, mut failed, mut sound) = (Vec::new(), None, Vec::new());
    for vault in context.journal_vaults().await {
        let shipped = match vault {
            Ok(vault) => {
                let shipped = wal_push(&context.cx, &vault, &source, &input).await.map_err(Failure::from);
                shipped.inspect(|shipped| {
                    outcomes.push(json!({ "vault": vault.place(), "outcome": shipped }));
                    sound.push(vault);
                })
            }
            Err(failure) => Err(failure),
        };
        match shipped {
            Ok(Shipped::Stored { bytes }) => {
                tracing::info!("shipped {} of {source}, {bytes} bytes", input.file)
            }
            Ok(Shipped::AlreadyThere) => {
                tracing::info!("{} of {source} was there already, the same", input.file)
            }
            Err(failure) => keep_first(&mut failed, failure),
        }
    }
    if failed.is_some() && !sound.is_empty() {
        // What the others lack is what waits behind this file.
        match ship_waiting(&context.cx, &sound, &source, (&input, path)).await {
            Ok(0) => {}
            Ok(shipped) => tracing::warn!("shipped {shipped} files ahead of {}", input.file),
            Err(error) => tracing::warn!("{}", Failure::from(error).on_one_line()),
        }
    }
    match failed {
        Some(failure) => Err(failure),
        None => Ok(Outcome::new(
            &json!({ "file": input.file.to_string(), "source": source, "vaults": outcomes }),
            "",
        )),
    }
}

/// The first failure is what the command answers; of the others the log has a line.
fn keep_first(first: &mut Option<Failure>, failure: Failure) {
    match first {
        None => *first = Some(failure),
        Some(_) => tracing::warn!("{}", failure.on_one_line()),
    }
}

async fn fetch(
    context: &Context,
    name: &str,
    destination: &std::path::Path,
    source: Option<&SourceName>,
) -> Result<Outcome, Failure> {
    let source = context.source(source)?;
    let absent = |why: &str| {
        Outcome::new(&json!({ "file": name, "source": source, "outcome": why }), "").with_code(Code::Absent)
    };
    // Recovery asks for nothing but WAL files; a name that is none is certainly nowhere.
    let Ok(file) = WalFile::parse(name) else { return Ok(absent("not a WAL file")) };
    let system_id = control_beside(destination).ok().map(|control| control.system_id);
    // The first vault that has it whole will do. It is absent, or there in part, only if every one of them says so.
    let (mut failed, mut longest): (Option<Failure>, Option<Tail>) = (None, None);
    for number in 0..context.journal_places() {
        let fetched = match context.journal_vault(number).await {
            Ok(vault) => {
                let fetched = wal_fetch(&vault, &source, system_id, file).await;
                fetched.map(|fetched| (vault.place(), fetched)).map_err(Failure::from)
            }
            Err(failure) => Err(failure),
        };
        match fetched {
            Ok((_, Fetched::Absent)) => {}
            Ok((vault, Fetched::Tail { content, received, lineage })) => {
                if longest.as_ref().is_none_or(|tail| tail.received < received) {
                    longest = Some(Tail { vault, content, received, lineage });
                }
            }
            Ok((vault, Fetched::File { content, lineage })) => {
                place(destination, file, &content, lineage.system_id, lineage.segment_size)?;
                if let Some(failure) = failed {
                    tracing::warn!("{file} comes from {vault}: {}", failure.on_one_line());
                }
                let json = json!({ "file": name, "source": source, "outcome": "fetched", "vault": vault });
                return Ok(Outcome::new(&json, ""));
            }
            Err(failure) => keep_first(&mut failed, failure),
        }
    }
    match (failed, longest) {
        (Some(failure), _) => Err(failure),
        (None, Some(Tail { vault, content, received, lineage })) => {
            tracing::info!("{file} was never finished: {received} bytes of it were received");
            place(destination, file, &content, lineage.system_id, lineage.segment_size)?;
            let json = json!({ "file": name, "source": source, "outcome": "tail", "received": received, "vault": vault });
            Ok(Outcome::new(&json, ""))
        }
        (None, None) => {
            tracing::info!("{file} is in none of the vaults");
            Ok(absent("absent"))
        }
    }
}

/// What one vault has of a segment that nobody finished.
struct Tail {
    vault: String,
    content: Vec<u8>,
    received: usize,
    lineage: Lineage,
}

async fn status(context: &Context, source: Option<&SourceName>) -> Result<Outcome, Failure> {
    let source = context.source(source)?;
    let vault = context.answering().await?;
    let status = wal_status(&context.cx, &vault, &source).await?;
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for lineage in &status.lineages {
        for window in &lineage.windows {
            rows.push(vec![
                lineage.lineage.system_id.to_string(),
                window.window.timeline.to_string(),
                window.first_segment.clone(),
                window.last_segment.clone(),
                match window.window.tail {
                    Some(bytes) => format!("{} + {}", window.segments, ByteSize(bytes.into())),
                    None => window.segments.to_string(),
                },
                window.last_transaction.map_or_else(|| "-".into(), |time| time.to_string()),
                format!("{} ago", human_duration(std::time::Duration::from_secs(window.age_s))),
            ]);
            if window.gap_follows {
                problems.push(format!(
                    "gap on timeline {} after {}",
                    window.window.timeline, window.last_segment
                ));
            }
        }
        problems.extend(
            lineage.missing_histories.iter().map(|id| format!("the history of timeline {id} is missing")),
        );
    }
    let head = ["system", "timeline", "first", "last", "segments", "last transaction", "shipped"];
    let mut text = table(&head, &rows, &[1, 4]);
    for problem in &problems {
        text.push_str(&format!("\n{} {problem}", tinted("!", AnsiColor::Red)));
    }
    let code = if problems.is_empty() { Code::Ok } else { Code::Problems };
    Ok(Outcome::new(&status, text).with_code(code))
}
