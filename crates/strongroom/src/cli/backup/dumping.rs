//! `strongroom backup` of a source that is dumped.

use std::time::Duration;

use serde_json::json;
use strongroom_engine::DumpEngine;
use strongroom_model::ByteSize;
use strongroom_model::point::Summary;
use strongroom_model::time::human_duration;
use strongroom_model::trend::Shrunk;
use strongroom_ops::backup::BackupRequest;
use strongroom_ops::dump::{DumpRequest, dump, has_shrunk};
use strongroom_vault::Vault;
use strongroom_vault::upload::memory_ceiling;

use super::{Arguments, followers, tell};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;

/// Takes a dump, as the request says as far as it concerns one.
pub async fn run(
    context: &Context,
    arguments: &Arguments,
    (request, engine): (BackupRequest, &dyn DumpEngine),
) -> Result<Outcome, Failure> {
    refuse_what_is_of_files(arguments)?;
    let vault = context.vault().await?;
    let (followers, missed) = followers(context, &vault).await?;
    if arguments.dry_run {
        let inspection = engine.inspect(&context.cx).await?;
        let places = std::iter::once(&vault).chain(&followers).map(|vault| vault.place());
        let text = format!(
            "would dump {} ({}, {}) into {} with {} workers, {} compression and at most {} of memory for packs",
            request.source,
            inspection.product,
            inspection.what,
            places.collect::<Vec<_>>().join(" and "),
            request.workers,
            request.upload.compression,
            ByteSize(memory_ceiling(request.workers, request.upload.uploads)),
        );
        return Ok(Outcome::new(&inspection, text));
    }
    let BackupRequest { source, workers, upload, afresh, host, tool, .. } = request;
    let request = DumpRequest { source, workers, upload, afresh, followers: followers.clone(), host, tool };
    let began = context.cx.now();
    let summary = dump(&context.cx, &vault, engine, &request).await?;
    let text = describe(&summary, context.cx.now().since(began));
    let shrunk = shrunk(&vault, &summary, context.settings.backup.least_percent).await;
    let outcome = tell(context, &vault, (&summary, text), (followers, missed)).await?;
    Ok(with_size(outcome, shrunk.as_ref()))
}

/// Whether a dump is far smaller than the one before it. It is committed: what cannot be found out is no failure.
pub async fn shrunk(vault: &Vault, summary: &Summary, least_percent: u32) -> Option<Shrunk> {
    match has_shrunk(vault, summary, least_percent).await {
        Ok(shrunk) => shrunk,
        Err(error) => {
            let why = Failure::from(error).on_one_line();
            tracing::warn!("whether the dump is smaller than the one before it is not known: {why}");
            None
        }
    }
}

/// Adds to a report that the dump is smaller than it should be, if it is: a problem, however whole the dump is.
pub fn with_size(mut outcome: Outcome, shrunk: Option<&Shrunk>) -> Outcome {
    outcome.json["shrunk"] = json!(shrunk);
    let Some(shrunk) = shrunk else { return outcome };
    outcome.human.push_str(&format!(
        "\nwarning: {shrunk}; is it the right database, with all that was in it? (least_percent of [backup])"
    ));
    outcome.with_code(Code::Problems)
}

/// A flag that would do nothing is a mistake about what is done.
fn refuse_what_is_of_files(arguments: &Arguments) -> Result<(), Failure> {
    let flags = [
        ("--spread", arguments.spread),
        ("--wal-timeout", arguments.wal_timeout.is_some()),
        ("--new-lineage", arguments.new_lineage),
        ("--full", arguments.full),
        ("--no-hints", arguments.no_hints),
        ("--access", arguments.access.is_some()),
    ];
    match flags.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            let failure = Failure::new(
                Code::Usage,
                format!("{flag} concerns files and WAL, and this source is dumped"),
            );
            Err(failure.hint("leave it out: a dump reads everything, and needs no WAL"))
        }
        None => Ok(()),
    }
}

/// What was taken, for people.
pub fn describe(summary: &Summary, took: Duration) -> String {
    let rate = ByteSize((summary.bytes as f64 / took.as_secs_f64().max(0.001)) as u64);
    format!(
        "recovery point {} of {}, a dump\n{} in {} parts, {} stored, in {} ({rate}/s)\nrestores to {}, the moment it shows",
        summary.point,
        summary.source,
        ByteSize(summary.bytes),
        summary.entries,
        ByteSize(summary.stored),
        human_duration(took),
        summary.stopped_at,
    )
}
