//! `strongroom import`

use std::path::PathBuf;

use strongroom_model::time::human_duration;
use strongroom_model::{ByteSize, SourceName, Timestamp};
use strongroom_ops::dump::DumpRequest;
use strongroom_ops::import::{Imported, import, look};
use strongroom_postgres::logical::import::ImportOptions;
use strongroom_postgres::logical::incoming::Incoming;
use strongroom_vault::Compression;
use strongroom_vault::upload::UploadOptions;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Outcome;
use crate::settings::parse_time;
use crate::surroundings;

/// Take a file that pg_dump made into the vault, as a recovery point that is known to restore
#[derive(clap::Args)]
#[command(after_help = "\
The file is restored first, into a server made for it on this host and removed afterwards: a file that is truncated or does
not restore is refused with psql's or pg_restore's own words. Plain SQL (also .gz and .zst), custom, directory and tar
archives are taken. The point shows the moment at which the file was written last, or --taken-at.

Examples:
  strongroom import /srv/dumps/shop.sql.gz --source shop
  strongroom import /srv/dumps/shop.dump --source shop --taken-at '2026-11-20 03:00:00+00'
  strongroom import /srv/dumps/shop --source shop --role reporting
  strongroom import /srv/dumps/shop.sql.zst --source shop --dry-run --output json")]
pub struct Arguments {
    /// The file, or the folder of a directory archive
    file: PathBuf,
    /// The source to put it under; it need not be configured
    #[arg(long, value_name = "SOURCE")]
    source: SourceName,
    /// The moment that the dump shows, if not that at which the file was written last
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    taken_at: Option<Timestamp>,
    /// A role to make before restoring, besides those that the file names; may be repeated
    #[arg(long, value_name = "NAME")]
    role: Vec<String>,
    /// Where to make the scratch server; it needs as much room as the database [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// The folder of the server's programs, if not where packages put them [env: STRONGROOM_PROGRAMS]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Threads that restore, read, compress and encrypt
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// none, lz4, zstd or zstd:LEVEL
    #[arg(long, value_name = "HOW")]
    compression: Option<Compression>,
    /// Read the file to its end, say what it is, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let began = context.cx.now();
    let file = look(&context.cx, arguments.file.clone()).await?;
    let text = describe(&file, &arguments.source);
    if arguments.dry_run {
        return Ok(Outcome::new(&file, text));
    }
    let vault = context.vault().await?;
    context.printer.note(&text);
    let defaults = &context.settings.backup;
    let workers = arguments.workers.unwrap_or(defaults.workers).max(1);
    let request = DumpRequest {
        source: arguments.source.clone(),
        workers,
        upload: UploadOptions {
            compression: arguments.compression.unwrap_or(defaults.compression),
            uploads: defaults.uploads.max(1),
            rebase_after: defaults.rebase_after(),
            rate_limit: None,
        },
        afresh: false,
        followers: Vec::new(),
        host: surroundings::host(),
        tool: surroundings::tool(),
    };
    let options = ImportOptions {
        programs: context.programs(arguments.programs.as_deref()),
        scratch: arguments.scratch.clone(),
        database: arguments.source.to_string(),
        roles: arguments.role.clone(),
        jobs: workers,
        taken_at: arguments.taken_at,
    };
    let imported = import(&context.cx, &vault, file, (&request, &options)).await?;
    let took = human_duration(context.cx.now().since(began));
    let text = tell(&imported, &took);
    Ok(Outcome::new(&imported, text))
}

fn describe(file: &Incoming, source: &SourceName) -> String {
    let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "not said".to_owned());
    let mut lines = vec![
        format!("import {} as a point of {source}", file.path.display()),
        format!("  file       {}, {}, written {}", file.kind, ByteSize(file.bytes), file.modified),
        format!("  BLAKE3     {}", file.blake3),
        format!("  server     {}", said(&file.server)),
        format!("  pg_dump    {}", said(&file.program)),
    ];
    lines.extend(file.database.iter().map(|name| format!("  database   {name}")));
    let roles: Vec<&str> = file.roles.iter().map(String::as_str).collect();
    lines.extend((!roles.is_empty()).then(|| format!("  roles      {}", roles.join(", "))));
    lines.join("\n")
}

fn tell(imported: &Imported, took: &str) -> String {
    let Imported { point, file } = imported;
    format!(
        "recovery point {} of {}, imported from {}\n{} in {} parts, {} stored, in {took}; it restored without an error\nrestores to {}, the moment it shows",
        point.point,
        point.source,
        file.path.display(),
        ByteSize(point.bytes),
        point.entries,
        ByteSize(point.stored),
        point.stopped_at,
    )
}
