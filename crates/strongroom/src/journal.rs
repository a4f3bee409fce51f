//! WAL files, to and from every configured vault: what `wal push` and `wal fetch` come to, with the agent or without.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use strongroom_model::{SourceName, SystemId, WalFile};
use strongroom_ops::wal_fetch::{Fetched, wal_fetch};
use strongroom_ops::wal_push::{WalInput, ship_waiting, wal_push};
use strongroom_postgres::archive::{control_beside, place};
use strongroom_vault::Vault;
use strongroom_vault::journal::Shipped;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;

/// Ships the finished file at `path` to every vault.
pub async fn push(context: &Context, path: &Path, source: &SourceName) -> Result<Outcome, Failure> {
    context.check_places()?;
    let input = WalInput::of_postgres(&context.cx, path)?;
    // Every vault gets its chance: one that is down must not keep the file from the others. The file counts as shipped
    // only when all have it; the server offers it again otherwise, and those that have it say so.
    let (mut outcomes, mut failed, mut sound) = (Vec::new(), None, Vec::new());
    for (number, vault) in context.journal_vaults().await.into_iter().enumerate() {
        match ship(context, vault, source, &input).await {
            Ok((vault, shipped)) => {
                outcomes.push(json!({ "vault": vault.place(), "outcome": shipped }));
                sound.push(vault);
            }
            Err(failure) => {
                context.close_journal_vault(number);
                keep_first(&mut failed, failure);
            }
        }
    }
    if failed.is_some() && !sound.is_empty() {
        // What the others lack is what waits behind this file.
        match ship_waiting(&context.cx, &sound, source, (&input, path)).await {
            Ok(0) => {}
            Ok(shipped) => tracing::warn!("shipped {shipped} files ahead of {}", input.file),
            Err(error) => tracing::warn!("{}", Failure::from(error).on_one_line()),
        }
    }
    let json = json!({ "file": input.file.to_string(), "source": source, "vaults": outcomes });
    failed.map_or_else(|| Ok(Outcome::new(&json, "")), Err)
}

async fn ship(
    context: &Context,
    vault: Result<Arc<Vault>, Failure>,
    source: &SourceName,
    input: &WalInput,
) -> Result<(Arc<Vault>, Shipped), Failure> {
    let vault = vault?;
    let shipped = wal_push(&context.cx, &vault, source, input).await?;
    match shipped {
        Shipped::Stored { bytes } => tracing::info!("shipped {} of {source}, {bytes} bytes", input.file),
        Shipped::AlreadyThere => tracing::info!("{} of {source} was there already, the same", input.file),
    }
    Ok((vault, shipped))
}

/// The first failure is what the command answers; of the others the log has a line.
fn keep_first(first: &mut Option<Failure>, failure: Failure) {
    match first {
        None => *first = Some(failure),
        Some(_) => tracing::warn!("{}", failure.on_one_line()),
    }
}

/// A WAL file as one of the vaults has it, or as all of them together lack it.
pub struct Found {
    /// The vault it comes from; `None` if it is absent.
    vault: Option<String>,
    /// What it has.
    pub fetched: Fetched,
}

/// Looks for a WAL file in every vault: the first that has it whole will do. It is absent, or there in part, only if every
/// one of them says so.
pub async fn find(
    context: &Context,
    source: &SourceName,
    (system_id, file): (Option<SystemId>, WalFile),
) -> Result<Found, Failure> {
    let (mut failed, mut best): (Option<Failure>, _) =
        (None, Found { vault: None, fetched: Fetched::Absent });
    for number in 0..context.journal_places() {
        let found = match context.journal_vault(number).await {
            Ok(vault) => {
                let fetched = wal_fetch(&vault, source, system_id, file).await;
                fetched.map(|fetched| (vault.place(), fetched)).map_err(Failure::from)
            }
            Err(failure) => Err(failure),
        };
        match found {
            Ok((vault, fetched @ Fetched::File { .. })) => {
                if let Some(failure) = failed {
                    tracing::warn!("{file} comes from {vault}: {}", failure.on_one_line());
                }
                return Ok(Found { vault: Some(vault), fetched });
            }
            Ok((vault, fetched)) if received(&fetched) > received(&best.fetched) => {
                best = Found { vault: Some(vault), fetched };
            }
            Ok(_) => {}
            Err(failure) => {
                context.close_journal_vault(number);
                keep_first(&mut failed, failure);
            }
        }
    }
    failed.map_or(Ok(best), Err)
}

fn received(fetched: &Fetched) -> usize {
    match fetched {
        Fetched::Tail { received, .. } => *received,
        Fetched::File { .. } | Fetched::Absent => 0,
    }
}

/// Puts what was found at `destination`, whole and checked, and says so.
pub fn deliver(
    (file, destination): (WalFile, &Path),
    source: &SourceName,
    Found { vault, fetched }: Found,
) -> Result<Outcome, Failure> {
    let (content, lineage, received) = match fetched {
        Fetched::File { content, lineage } => (content, lineage, None),
        Fetched::Tail { content, received, lineage } => {
            tracing::info!("{file} was never finished: {received} bytes of it were received");
            (content, lineage, Some(received))
        }
        Fetched::Absent => {
            tracing::info!("{file} is in none of the vaults");
            return Ok(absent(source, &file.to_string()));
        }
    };
    place(destination, file, &content, lineage.system_id, lineage.segment_size)?;
    let outcome = if received.is_some() { "tail" } else { "fetched" };
    let mut json = json!({ "file": file.to_string(), "source": source, "outcome": outcome, "vault": vault });
    if let Some(received) = received {
        json["received"] = received.into();
    }
    Ok(Outcome::new(&json, ""))
}

/// The answer that there is no such file: the only one that ends recovery.
pub fn absent(source: &SourceName, name: &str) -> Outcome {
    Outcome::new(&json!({ "file": name, "source": source, "outcome": "absent" }), "").with_code(Code::Absent)
}

/// The cluster whose `pg_wal` holds `destination`, if one does.
pub fn cluster_of(destination: &Path) -> Option<SystemId> {
    control_beside(destination).ok().map(|control| control.system_id)
}

/// Brings a WAL file back to `destination`.
pub async fn fetch(
    context: &Context,
    (file, destination): (WalFile, &Path),
    source: &SourceName,
) -> Result<Outcome, Failure> {
    let found = find(context, source, (cluster_of(destination), file)).await?;
    deliver((file, destination), source, found)
}
