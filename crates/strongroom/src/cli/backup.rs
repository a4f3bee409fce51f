//! `strongroom backup`

use std::time::Duration;

use strongroom_engine::Engine;
use strongroom_model::time::human_duration;
use strongroom_model::{ByteSize, SourceName};
use strongroom_ops::backup::{BackupRequest, backup};
use strongroom_ops::lineage::NewLineage;
use strongroom_vault::Compression;
use strongroom_vault::upload::{UploadOptions, memory_ceiling};

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::settings::parse_duration;
use crate::surroundings;

/// Take a recovery point
#[derive(clap::Args)]
#[command(after_help = "\
The point is complete when the command succeeds: all pages, and all WAL they need, are durably in the vault.
Every page is read; only those that differ from the newest point's are stored. Each point restores on its own.
Stopped or killed at any moment it leaves the vault as it was.

Examples:
  strongroom backup orders
  strongroom backup orders --workers 8 --compression zstd:3
  strongroom backup orders --new-lineage         (after pg_upgrade)")]
pub struct Arguments {
    /// The source; may be left out if there is only one
    source: Option<SourceName>,
    /// Threads that read, compress and encrypt
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Packs on their way to the store at a time
    #[arg(long, value_name = "N")]
    uploads: Option<usize>,
    /// none, lz4, zstd or zstd:LEVEL
    #[arg(long, value_name = "HOW")]
    compression: Option<Compression>,
    /// Wait for the server's next checkpoint instead of asking for one now
    #[arg(long)]
    spread: bool,
    /// How long to wait for the last WAL to arrive in the vault
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wal_timeout: Option<Duration>,
    /// The source is a new cluster from now on: after pg_upgrade or a new initdb
    #[arg(long)]
    new_lineage: bool,
    /// Store every page, even those that earlier points have: this point shares nothing with them
    #[arg(long)]
    afresh: bool,
    /// Only look at the source and say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let source = context.source(arguments.source.as_ref())?;
    let engine = context.engine(&source)?;
    let defaults = &context.settings.backup;
    let upload = UploadOptions {
        compression: arguments.compression.unwrap_or(defaults.compression),
        uploads: arguments.uploads.unwrap_or(defaults.uploads).max(1),
        rebase_after: defaults.rebase_after(),
    };
    let request = BackupRequest {
        source,
        workers: arguments.workers.unwrap_or(defaults.workers).max(1),
        upload,
        afresh: arguments.afresh,
        fast: !arguments.spread,
        journal_timeout: arguments.wal_timeout.unwrap_or(defaults.wal_timeout),
        new_lineage: if arguments.new_lineage { NewLineage::Accept } else { NewLineage::Refuse },
        host: surroundings::host(),
        tool: surroundings::tool(),
    };
    let vault = context.vault().await?;
    if arguments.dry_run {
        let inspection = engine.inspect(&context.cx).await?;
        let text = format!(
            "would back up {} ({}, system {}) into {} with {} workers, {} compression and at most {} of memory for packs",
            request.source,
            inspection.product,
            inspection.lineage,
            vault.place(),
            request.workers,
            upload.compression,
            ByteSize(memory_ceiling(request.workers, upload.uploads)),
        );
        return Ok(Outcome::new(&inspection, text));
    }
    let began = context.cx.now();
    let summary = backup(&context.cx, &vault, &engine, &request).await?;
    let took = context.cx.now().since(began);
    let rate = ByteSize((summary.bytes as f64 / took.as_secs_f64().max(0.001)) as u64);
    let mut text = format!(
        "recovery point {} of {}\n{} in {} entries, {} stored, in {} ({rate}/s)\nrestores to {} and later",
        summary.point,
        summary.source,
        ByteSize(summary.bytes),
        summary.entries,
        ByteSize(summary.stored),
        human_duration(took),
        summary.stopped_at,
    );
    if summary.damaged_pages > 0 {
        text.push_str(&format!(
            "\nwarning: {} pages are damaged on the source's own disk; `strongroom show {}` names them",
            summary.damaged_pages, summary.point
        ));
    }
    let code = if summary.damaged_pages > 0 { Code::Problems } else { Code::Ok };
    Ok(Outcome::new(&summary, text).with_code(code))
}
