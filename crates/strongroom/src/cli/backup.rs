//! `strongroom backup`

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use strongroom_engine::Engine;
use strongroom_model::point::{Reading, Summary};
use strongroom_model::time::human_duration;
use strongroom_model::{ByteSize, SourceName};
use strongroom_ops::backup::{BackupRequest, Trust, backup};
use strongroom_ops::copy_points::{Choice, CopyRequest, copy};
use strongroom_ops::lineage::NewLineage;
use strongroom_vault::copy::CopyOptions;
use strongroom_vault::upload::{UploadOptions, memory_ceiling};
use strongroom_vault::{Compression, Vault, VaultError};

use crate::context::{Context, called};
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::settings::{BackupSettings, Hints, SourceAccess, parse_duration, parse_rate};
use crate::surroundings;

pub mod dumping;

/// Vaults that get the point, and names of those that do not, with the reason.
type Followers = (Vec<Arc<Vault>>, Vec<(String, String)>);

/// Take a recovery point
#[derive(clap::Args)]
#[command(after_help = "\
The point is complete when the command succeeds: all pages, and all WAL they need, are durably in the vault.
Only pages that differ from the newest point's are stored. Each point restores on its own.
Where PostgreSQL (17 or later) summarises its WAL, pages that did not change are not even read,
but for a share that goes round in prove_days (7) and finds a summary that is wrong.
Stopped or killed at any moment it leaves the vault as it was.

Examples:
  strongroom backup orders
  strongroom backup orders --workers 8 --compression zstd:3
  strongroom backup orders --full                (read and compare every page, store what changed)
  strongroom backup orders --rate-limit 50MiB/s  (leave the disk to others)
  strongroom backup orders --access stream       (the server is on another host, or in Kubernetes)
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
    /// Read no more than so many bytes a second: 100MiB/s
    #[arg(long, value_name = "SIZE/s", value_parser = parse_rate)]
    rate_limit: Option<ByteSize>,
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
    /// Read every page, also those that the server says did not change, and hold its word against them
    #[arg(long, conflicts_with_all = ["afresh", "no_hints"])]
    full: bool,
    /// Do not ask the server which pages changed: read every page
    #[arg(long)]
    no_hints: bool,
    /// Read the server's files here, or have it send them; by default what `access` of the source says
    #[arg(long, value_name = "HOW")]
    access: Option<SourceAccess>,
    /// Only look at the source and say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    context.check_places()?;
    let mut request = request(context, arguments)?;
    if let Some(engine) = context.dump_engine(&request.source)? {
        return dumping::run(context, arguments, (request, &*engine)).await;
    }
    let engine = context.engine_with(&request.source, arguments.access)?;
    let vault = context.vault().await?;
    let (followers, missed) = followers(context, &vault).await?;
    if arguments.dry_run {
        let inspection = engine.inspect(&context.cx).await?;
        let places = std::iter::once(&vault).chain(&followers).map(|vault| vault.place());
        let text = format!(
            "would back up {} ({}, system {}) into {} with {} workers, {} compression and at most {} of memory for packs\nits pages come {}",
            request.source,
            inspection.product,
            inspection.lineage,
            places.collect::<Vec<_>>().join(" and "),
            request.workers,
            request.upload.compression,
            ByteSize(memory_ceiling(request.workers, request.upload.uploads)),
            engine.describe_way(&context.cx).await?,
        );
        return Ok(Outcome::new(&inspection, text));
    }
    request.followers.clone_from(&followers);
    let began = context.cx.now();
    let summary = backup(&context.cx, &vault, &engine, &request).await?;
    let text = describe(&summary, context.cx.now().since(began));
    tell(context, &vault, (&summary, text), (followers, missed)).await
}

/// Brings the point to the vaults that follow, and tells what was done.
async fn tell(
    context: &Context,
    vault: &Arc<Vault>,
    (summary, mut text): (&Summary, String),
    (followers, mut missed): Followers,
) -> Result<Outcome, Failure> {
    let mut places = vec![vault.place()];
    for follower in &followers {
        // The point is committed, whatever becomes of this: also when the user has asked to stop.
        match complete(context, vault, follower, summary).await {
            Ok(()) => places.push(follower.place()),
            Err(failure) => missed.push((follower.place(), failure.on_one_line())),
        }
    }
    if places.len() > 1 {
        text.push_str(&format!("\nin {}", places.join(" and ")));
    }
    for (place, why) in &missed {
        text.push_str(&format!(
            "\nwarning: {place} has it not yet: {why}; `strongroom copy --all` brings it there"
        ));
    }
    let mut json = serde_json::to_value(summary).unwrap_or_default();
    let is_sent = summary.reading.as_ref().is_some_and(|reading| reading.streamed.is_some());
    json["access"] = json!(match summary.journal {
        None => "dump",
        Some(_) if is_sent => "stream",
        Some(_) => "files",
    });
    if !context.settings.further.is_empty() {
        let missed = missed.iter().map(|(place, why)| json!({ "vault": place, "why": why }));
        json["vaults"] = json!(places);
        json["missed"] = missed.collect();
    }
    let contradicted = summary.reading.as_ref().is_some_and(|reading| reading.contradicted > 0);
    let code = match (summary.damaged_pages > 0 || contradicted, missed.is_empty()) {
        (true, _) => Code::Problems,
        (false, false) => Code::Incomplete,
        (false, true) => Code::Ok,
    };
    Ok(Outcome::new(&json, text).with_code(code))
}

/// The request, without followers.
fn request(context: &Context, arguments: &Arguments) -> Result<BackupRequest, Failure> {
    let defaults = &context.settings.backup;
    let upload = UploadOptions {
        compression: arguments.compression.unwrap_or(defaults.compression),
        uploads: arguments.uploads.unwrap_or(defaults.uploads).max(1),
        rebase_after: defaults.rebase_after(),
        rate_limit: arguments.rate_limit.map(|rate| rate.0),
    };
    Ok(BackupRequest {
        source: context.source(arguments.source.as_ref())?,
        workers: arguments.workers.unwrap_or(defaults.workers).max(1),
        upload,
        afresh: arguments.afresh,
        trust: trust(arguments, defaults),
        fast: !arguments.spread,
        journal_timeout: arguments.wal_timeout.unwrap_or(defaults.wal_timeout),
        new_lineage: if arguments.new_lineage { NewLineage::Accept } else { NewLineage::Refuse },
        followers: Vec::new(),
        host: surroundings::host(),
        tool: surroundings::tool(),
    })
}

/// What command line and settings say about hints.
fn trust(arguments: &Arguments, defaults: &BackupSettings) -> Trust {
    match defaults.hints {
        Hints::Off => Trust::Nothing,
        Hints::Auto if arguments.no_hints => Trust::Nothing,
        Hints::Auto if arguments.full => Trust::Checked,
        Hints::Auto => Trust::ProvenWithin(defaults.prove_within()),
    }
}

fn describe(summary: &Summary, took: Duration) -> String {
    let rate = ByteSize((summary.bytes as f64 / took.as_secs_f64().max(0.001)) as u64);
    let mut text = format!(
        "recovery point {} of {}{}\n{} in {} entries, {} stored, in {} ({rate}/s)\n",
        summary.point,
        summary.source,
        if summary.from_standby { ", from a standby" } else { "" },
        ByteSize(summary.bytes),
        summary.entries,
        ByteSize(summary.stored),
        human_duration(took),
    );
    text.extend(summary.reading.as_ref().map(|reading| describe_reading(reading) + "\n"));
    text.push_str(&format!("restores to {} and later", summary.stopped_at));
    if let Some(reading) = summary.reading.as_ref().filter(|reading| reading.contradicted > 0) {
        text.push_str(&format!(
            "\nwarning: {} pages changed of which the server's WAL summaries know nothing: this point is sound, for every page \
             was read; earlier ones may hold stale pages: keep some from before summarize_wal was switched on, and set hints = \"off\"",
            reading.contradicted
        ));
    }
    if summary.damaged_pages > 0 {
        text.push_str(&format!(
            "\nwarning: {} pages are damaged on the source's own disk; `strongroom show {}` names them",
            summary.damaged_pages, summary.point
        ));
    }
    text
}

/// How much was read, in one line.
pub fn describe_reading(reading: &Reading) -> String {
    let Reading { read, adopted, proven, contradicted: _, no_record, streamed } = reading;
    if let Some(how) = streamed {
        return format!("{} sent {how}", ByteSize(*read));
    }
    match no_record {
        Some(why) => format!("{} read, which is all: {why}", ByteSize(*read)),
        None => format!(
            "{} read, {} of it unchanged and read to prove that; {} taken over unread",
            ByteSize(*read),
            ByteSize(*proven),
            ByteSize(*adopted)
        ),
    }
}

/// The further vaults that get this point, and those that cannot be asked, with the reason.
async fn followers(context: &Context, vault: &Arc<Vault>) -> Result<Followers, Failure> {
    let (mut followers, mut missed) = (Vec::new(), Vec::new());
    for settings in &context.settings.further {
        let other = match context.further_vault(settings).await {
            Ok(other) => other,
            Err(failure) => {
                tracing::warn!("backing up without {}: {}", called(settings), failure.on_one_line());
                missed.push((called(settings), failure.on_one_line()));
                continue;
            }
        };
        match other.check_replica(vault) {
            Ok(()) => followers.push(other),
            // `--vault` names a further one: it does not follow itself.
            Err(VaultError::SamePlace { .. }) if context.global.vault.is_some() => {}
            Err(same @ VaultError::SamePlace { .. }) => return Err(same.into()),
            Err(why) => context
                .printer
                .note(&format!("{why}: it gets WAL, and recovery points by backups of its own (--vault)")),
        }
    }
    Ok((followers, missed))
}

/// Brings a follower what it still lacks of this point, and of earlier ones.
async fn complete(
    context: &Context,
    vault: &Arc<Vault>,
    follower: &Arc<Vault>,
    summary: &Summary,
) -> Result<(), Failure> {
    let request = CopyRequest {
        source: Some(summary.source.clone()),
        choice: Choice::All,
        options: CopyOptions { in_flight: 4, read_back: false, limit: None },
    };
    let copied = copy(&context.cx, vault, follower, &request).await?;
    let left = copied.sources.iter().flat_map(|of| &of.left_out).find(|left| left.point == summary.point);
    left.map_or(Ok(()), |left| Err(Failure::new(Code::Incomplete, left.why.clone())))
}
