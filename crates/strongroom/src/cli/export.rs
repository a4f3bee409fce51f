//! `strongroom export`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::json;
use strongroom_model::time::human_duration;
use strongroom_model::{ByteSize, PointId, SourceName};
use strongroom_ops::OpsError;
use strongroom_ops::export::{ExportPlan, Exported, export, plan};
use strongroom_ops::restore::{facts_of, major_of, open_point};
use strongroom_postgres::export::{ExportTarget, Layout};
use strongroom_postgres::facts::PostgresFacts;
use strongroom_postgres::logical::export::{Compressed, Shape};
use strongroom_postgres::recovery::shell_word;

use crate::cli::restore::placing::{mapping, of_folder, tablespaces};
use crate::cli::restore::{Frozen, of_target, refusal, room, thawed};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::losses::lost_pages;
use crate::output::Outcome;

mod dumped;

/// Write a recovery point as pg_basebackup or pg_dump would have left it, for recovery without Strongroom
#[derive(clap::Args)]
#[command(after_help = "\
The folder must be empty or absent; nothing is ever overwritten. pg_wal holds the WAL that the point needs, and
backup_manifest is the server's own: pg_verifybackup checks it. No recovery setting or signal file is written: a server
started there comes up as of the point, and archives as its settings say.
A dump becomes one file of SQL for psql, or a folder for pg_restore, with roles and tablespaces in globals.sql beside it or in it.

Examples:
  strongroom export orders --format pg_basebackup --to /srv/export
  strongroom export orders --point 20261120T120000Z-1f2e3d4c --to /srv/export --tablespace-map fast=/srv/fast
  strongroom export orders --tar --to /srv/archives --dry-run
  pg_verifybackup /srv/export
  strongroom export shop --format sql --to '/srv/{source}-{time}.sql.zst' --no-owner --no-privileges
  strongroom export shop --format sql --to - | psql -X -v ON_ERROR_STOP=1 -d shop
  strongroom export shop --format directory --to /srv/shop && pg_restore -j 4 -d shop /srv/shop")]
pub struct Arguments {
    /// The source; may be left out if there is only one
    source: Option<SourceName>,
    /// The folder to write into; of --format sql the file, or - for standard output. Of a dump {source}, {point} and {time}
    /// (20261120_120000, UTC) in it stand for its own
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Whose layout it is to have
    #[arg(long, value_enum, default_value = "pg_basebackup")]
    format: Whose,
    /// How the files of --format directory are compressed [default: not at all]
    #[arg(long, value_enum, value_name = "HOW")]
    compress: Option<Compress>,
    /// Of --format sql: everything belongs to the role that runs it
    #[arg(long)]
    no_owner: bool,
    /// Of --format sql: nobody is given any rights
    #[arg(long)]
    no_privileges: bool,
    /// As archives (pg_basebackup -Ft): base.tar, one OID.tar per tablespace, pg_wal.tar
    #[arg(long)]
    tar: bool,
    /// This recovery point
    #[arg(long, value_name = "POINT")]
    point: Option<PointId>,
    /// The newest recovery point (this is the default)
    #[arg(long, conflicts_with = "point")]
    latest: bool,
    /// Put a tablespace elsewhere than where it was; may be repeated
    #[arg(long, value_name = "NAME_OR_OID=DIR", value_parser = mapping, conflicts_with = "tar")]
    tablespace_map: Vec<(String, PathBuf)>,
    /// Threads that fetch, check and write
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Thaw what is frozen first, and wait for it: hours
    #[arg(long)]
    thaw: bool,
    /// The folder of pg_restore, which --format sql runs, if not where packages put it [env: STRONGROOM_PROGRAMS]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Print what would be written and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// The tool whose layout is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Whose {
    #[value(name = "pg_basebackup")]
    PgBasebackup,
    /// Of a dump: one file for psql, compressed if its name ends with .gz or .zst
    Sql,
    /// Of a dump: a folder for pg_restore, several tables at a time
    Directory,
}

/// How files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compress {
    Gzip,
    /// Read by pg_restore from 16 on
    Zstd,
}

impl From<Compress> for Compressed {
    fn from(compress: Compress) -> Compressed {
        match compress {
            Compress::Gzip => Compressed::Gzip,
            Compress::Zstd => Compressed::Zstd,
        }
    }
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    // What was imported need not be configured.
    let source = match (&arguments.source, arguments.format) {
        (Some(named), Whose::Sql | Whose::Directory) => named.clone(),
        (named, _) => context.source(named.as_ref())?,
    };
    match arguments.format {
        Whose::PgBasebackup => {}
        Whose::Sql => return dumped::run(context, arguments, (&source, Shape::Sql)).await,
        Whose::Directory => return dumped::run(context, arguments, (&source, Shape::Directory)).await,
    }
    refuse_what_is_of_dumps(arguments)?;
    let vault = context.answering().await?;
    let plan = match plan(&vault, &source, arguments.point.as_ref()).await {
        Ok(plan) => plan,
        Err(OpsError::Plan(error)) => return Err(refusal(&vault, &source, error).await),
        Err(error) => return Err(error.into()),
    };
    let vaults: Vec<_> = [vec![vault.clone()], context.replicas_of(&vault).await].concat();
    let facts = facts_of(&open_point(&vaults, &plan.point).await?)?;
    thawed(context, &vault, &plan.point, Frozen::of(arguments.dry_run, arguments.thaw)).await?;
    let map = tablespaces(&facts, &arguments.tablespace_map)?;
    let text = describe(&plan, &facts, &map, arguments);
    if arguments.dry_run {
        return Ok(Outcome::new(&plan, text));
    }
    let major = major_of(&plan.point.point, &facts)?;
    context.printer.note(&text);
    let layout = if arguments.tar { Layout::Archives } else { Layout::Plain(map) };
    let target =
        ExportTarget::create(&arguments.to, major, layout).map_err(|error| of_folder(error, "export"))?;
    let target = Arc::new(target);
    let workers = arguments.workers.unwrap_or(context.settings.backup.workers).max(1);
    let exported = export(&context.cx, &vaults, &plan, target.clone(), workers).await;
    let exported = exported.map_err(|error| failure(error, &facts))?;
    let text = tell(&exported, &vault.place(), (&source, arguments), &target.notes());
    Ok(Outcome::new(&json!({ "plan": plan, "exported": exported, "notes": target.notes() }), text))
}

/// A flag that would do nothing is a mistake about what is done.
fn refuse_what_is_of_dumps(arguments: &Arguments) -> Result<(), Failure> {
    let flags = [
        ("--compress concerns --format directory", arguments.compress.is_some()),
        ("--no-owner concerns --format sql", arguments.no_owner),
        ("--no-privileges concerns --format sql", arguments.no_privileges),
        ("--programs concerns --format sql", arguments.programs.is_some()),
    ];
    match flags.into_iter().find(|(_, given)| *given) {
        Some((why, _)) => Err(Failure::new(Code::Usage, why)),
        None => Ok(()),
    }
}

/// Lost pages are named one file a line.
fn failure(error: OpsError, facts: &PostgresFacts) -> Failure {
    let lines = match &error {
        OpsError::LostPages { lost, .. } => lost_pages(lost, Some(facts)),
        _ => Vec::new(),
    };
    let mut failure = of_target(error);
    failure.causes.extend(lines.iter().map(|line| line.trim_start().to_owned()));
    failure
}

fn describe(
    plan: &ExportPlan,
    facts: &PostgresFacts,
    map: &BTreeMap<u32, PathBuf>,
    arguments: &Arguments,
) -> String {
    let (point, tar) = (&plan.point, arguments.tar);
    let range = plan.restore.range;
    let wal = ByteSize(plan.segments * range.segment_size.bytes());
    let how = if tar { "archives, as pg_basebackup -Ft" } else { "a folder, as pg_basebackup -Fp" };
    let mut lines = vec![
        format!("export {} ({}) to {}: {how}", point.source, point.product, arguments.to.display()),
        format!("  point      {} (consistent at {}, {})", point.point, point.stopped_at, range.stop),
        format!("  pages      {} in {} entries", ByteSize(point.bytes), point.entries),
        format!("  WAL        {} to {}: {wal}", plan.first_segment, plan.last_segment),
    ];
    lines.extend(room(plan.bytes, &arguments.to));
    for space in &facts.tablespaces {
        let to = match (tar, map.get(&space.oid)) {
            (true, _) => format!("{}.tar", space.oid),
            (false, Some(folder)) => folder.display().to_string(),
            (false, None) => space.location.clone(),
        };
        lines.push(format!("  tablespace {} to {to}", space.name));
    }
    lines.extend(plan.notes.iter().map(|note| format!("  note       {note}")));
    lines.join("\n")
}

/// The report of an export.
fn tell(
    exported: &Exported,
    place: &str,
    (source, arguments): (&SourceName, &Arguments),
    notes: &[String],
) -> String {
    let rate = ByteSize((exported.bytes as f64 / exported.seconds.max(0.001)) as u64);
    let to: &Path = &arguments.to;
    let mut text = format!(
        "exported {} of {source} to {}\n{} in {} entries and {} WAL files in {} ({rate}/s), durable",
        exported.point,
        to.display(),
        ByteSize(exported.bytes),
        exported.entries,
        exported.wal.len(),
        human_duration(std::time::Duration::from_secs_f64(exported.seconds)),
    );
    text.push_str(&match arguments.tar {
        true => "\nunpack base.tar into a new folder, pg_wal.tar into its pg_wal, each OID.tar where tablespace_map says".to_owned(),
        false => {
            let word = shell_word(&to.to_string_lossy());
            format!("\ncheck it: pg_verifybackup {word}\nstart it: pg_ctl -D {word} start")
        }
    });
    text.push_str("\nnote: a server started on it archives as its settings say: archive_mode = off for a copy to look at");
    for (replica, packs) in &exported.from_replicas {
        text.push_str(&format!(
            "\nwarning: {packs} packs are missing, damaged or out of reach in {place} and came from {replica}: strongroom verify --repair-from"
        ));
    }
    notes.iter().for_each(|note| text.push_str(&format!("\nnote: {note}")));
    text
}
