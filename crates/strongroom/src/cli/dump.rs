//! `strongroom dump --once`: everything from flags and the environment, as the scripts have it that it stands for.
//!
//! ```text
//! table of variables ▶ server (can it be dumped?) ▶ vault, made if there is none ▶ dump ▶ let go what is too old
//! ```
//!
//! **Invariants**: nothing is made for a server that cannot be dumped; a vault is never made unencrypted; nothing is let go
//! before the new point is committed.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use strongroom_engine::{DumpEngine, DumpInspection};
use strongroom_model::lifecycle::{Lifecycle, Objection, Step, Surroundings};
use strongroom_model::point::Summary;
use strongroom_model::retention::Retention;
use strongroom_model::tier::StorageClass;
use strongroom_model::{ByteSize, SourceName};
use strongroom_ops::dump::{DumpRequest, dump};
use strongroom_ops::expire::{expire, plan};
use strongroom_ops::init::init;
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::logical::dump::Logical;
use strongroom_vault::upload::UploadOptions;
use strongroom_vault::{Compression, Recipient, Suite, Vault, VaultError};

use super::backup::dumping::{describe, shrunk, with_size};
use super::expire::ending;
use super::init::examine;
use crate::context::{Context, kept, variable};
use crate::conventions::{
    self, DATABASE, DaysError, Defaults, GLACIER_DAYS, HOST, KEEP_DAYS, PLACE, PORT, REGION, USER,
};
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::secret::{Reference, SecretError};
use crate::settings::{BackupSettings, ClassSettings, Settings, VaultSettings, parse_class, parse_rate};
use crate::surroundings;

/// Take one dump without any settings file
#[derive(clap::Args)]
#[command(after_help = "\
Flags, then POSTGRES_HOST, POSTGRES_PORT, POSTGRES_USER, POSTGRES_DB, POSTGRES_PASSWORD, S3_BUCKET, BACKUP_BUCKET, BACKUP_DIR,
RETENTION_DAYS, BACKUP_RETENTION_DAYS, GLACIER_TRANSITION_DAYS and AWS_REGION, then libpq's service file, variables and
~/.pgpass, then defaults: docs/environment.md has the table. A database that is dumped regularly is better a source of
strongroom.toml (kind = \"postgres-logical\"), with `strongroom backup`.

The first dump makes the vault, encrypted: it needs a passphrase (--passphrase, --passphrase-file, STRONGROOM_PASSPHRASE)
or a key service (--kms-key, --transit-key). After success dumps that are too old are let go, never the last good one;
`strongroom sweep` deletes what nothing needs.

Examples:
  strongroom dump --once --passphrase file:/run/secrets/vault
  strongroom dump --once --host db1 --user audit --dbname audit --password env:AUDIT_PASSWORD --vault s3://backups/audit
  strongroom dump --once --dry-run")]
pub struct Arguments {
    /// Once, now: everything comes from flags and the environment
    #[arg(long, required = true)]
    once: bool,
    /// The server, or the folder of its socket
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Its port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The role
    #[arg(long, short = 'U', value_name = "ROLE")]
    user: Option<String>,
    /// The database
    #[arg(long, short = 'd', value_name = "NAME")]
    dbname: Option<String>,
    // Text, not a reference: clap would repeat what it cannot read.
    /// Where the password is: env:NAME, file:/path or command:…
    #[arg(long, value_name = "REFERENCE")]
    password: Option<String>,
    /// What the vault calls this database; its own name if left out
    #[arg(long, value_name = "NAME")]
    source: Option<SourceName>,
    /// The bucket's region
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Days for which dumps are kept
    #[arg(long, value_name = "DAYS")]
    keep_days: Option<u32>,
    /// Newest dumps that are kept however old they are
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_last: u32,
    /// Percent of the last dump's bytes below which this one is a problem, and nothing is let go [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    least_percent: Option<u32>,
    /// Days after which the bucket freezes what it holds: dumps are stored afresh before, and what that costs is said
    #[arg(long, value_name = "DAYS")]
    glacier_days: Option<u32>,
    /// The storage class that a bucket keeps rows in, from the beginning: STANDARD_IA is paid for 30 days
    #[arg(long, value_name = "CLASS", value_parser = parse_class)]
    storage_class: Option<StorageClass>,
    /// Tables read at a time, and threads that compress and encrypt
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// none, lz4, zstd or zstd:LEVEL
    #[arg(long, value_name = "HOW")]
    compression: Option<Compression>,
    /// Store no more than so many bytes a second: 100MiB/s
    #[arg(long, value_name = "SIZE/s", value_parser = parse_rate)]
    rate_limit: Option<ByteSize>,
    /// Store everything, even what earlier dumps have
    #[arg(long)]
    afresh: bool,
    /// The folder of pg_dump, if not where packages put it [env: STRONGROOM_PROGRAMS]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Only look at the server and the vault, and say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// What flags and environment come to.
struct Wanted {
    conninfo: Conninfo,
    source: SourceName,
    retention: Retention,
    /// What is wrong with what the bucket is said to do.
    objections: Vec<Objection>,
    /// This command's surroundings, as a settings file would have them.
    context: Context,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    if context.global.config.is_some() {
        let failure = Failure::new(Code::Usage, "dump --once reads no settings file");
        return Err(failure.hint(
            "leave out --config and STRONGROOM_CONFIG; sources of a file are dumped by `strongroom backup`",
        ));
    }
    let wanted = wanted(context, arguments)?;
    for objection in &wanted.objections {
        context.printer.note(&format!("warning: {}\n         {}", objection.what, objection.instead));
    }
    let programs = context.programs(arguments.programs.as_deref());
    let engine = Logical::new(wanted.conninfo.clone(), programs);
    let found = engine.inspect(&wanted.context.cx).await?;
    if arguments.dry_run {
        return would(&wanted, &found).await;
    }
    let (vault, made) = vault(&wanted.context).await?;
    context.noted(Arc::clone(&vault));
    let began = wanted.context.cx.now();
    let summary = dump(&wanted.context.cx, &vault, &engine, &request(&wanted, arguments)).await?;
    let took = wanted.context.cx.now().since(began);
    let mut text = made.as_ref().map(|made| format!("{made}\n")).unwrap_or_default();
    text.push_str(&format!("{}\nin {}\n", describe(&summary, took), vault.place()));
    let least_percent = arguments.least_percent.unwrap_or(wanted.context.settings.backup.least_percent);
    let shrunk = shrunk(&vault, &summary, least_percent).await;
    let outcome = let_go(&wanted, &vault, (&summary, text, made.is_some()), shrunk.is_some()).await;
    Ok(with_size(outcome, shrunk.as_ref()))
}

/// Everything that is read from flags and the environment, before anything is done.
fn wanted(context: &Context, arguments: &Arguments) -> Result<Wanted, Failure> {
    let conninfo = conninfo(arguments)?;
    let of_days = |error: DaysError| {
        let hint = "write it as a whole number, such as 30";
        Failure::new(Code::Settings, error.to_string()).hint(hint)
    };
    let keep_days = KEEP_DAYS.days(arguments.keep_days, &variable).map_err(of_days)?;
    let keep_days = keep_days.unwrap_or_else(|| default_days(KEEP_DAYS.default));
    let retention = Retention { keep_days, keep_last: arguments.keep_last, ..Retention::default() };
    retention.check().map_err(|error| {
        Failure::new(Code::Settings, error.to_string())
            .hint("say --keep-days or RETENTION_DAYS, 1 or more, or --keep-last")
    })?;
    let place = conventions::place(&variable).filter(|_| context.global.vault.is_none());
    let glacier_days = GLACIER_DAYS.days(arguments.glacier_days, &variable).map_err(of_days)?;
    let is_theirs = place.as_ref().is_some_and(|(name, _)| *name == "BACKUP_BUCKET");
    let glacier_days = glacier_days.or(is_theirs.then(|| default_days(GLACIER_DAYS.default)));
    let url = context.global.vault.clone().or(place.map(|(_, url)| url));
    let url = url.or(PLACE.default.map(str::to_owned)).unwrap_or_default();
    // A folder freezes nothing.
    let glacier_days = glacier_days.filter(|_| url.contains("://"));
    let backup = backup(arguments, glacier_days);
    let class = arguments.storage_class.filter(|_| url.contains("://"));
    let objections = objections((glacier_days, class), &retention, &backup);
    let settings = Settings {
        vault: vault_settings(arguments),
        retention: Some(retention.clone()),
        backup,
        ..Settings::default()
    };
    let global = crate::context::Global { vault: Some(url), ..context.global.clone() };
    let source = source(arguments, &conninfo)?;
    let context = Context::new(context.cx.clone(), global, settings, context.printer);
    Ok(Wanted { conninfo, source, retention, objections, context })
}

fn default_days(default: Option<&str>) -> u32 {
    default.and_then(|days| days.parse().ok()).unwrap_or_default()
}

/// How to connect.
fn conninfo(arguments: &Arguments) -> Result<Conninfo, Failure> {
    let port = arguments.port.map(|port| port.to_string());
    let flags = [
        (&HOST, "host", arguments.host.as_deref()),
        (&PORT, "port", port.as_deref()),
        (&USER, "user", arguments.user.as_deref()),
        (&DATABASE, "dbname", arguments.dbname.as_deref()),
    ];
    let mut text = String::new();
    for (setting, keyword, value) in flags {
        let Some(value) = value else { continue };
        if value.is_empty() {
            let failure = Failure::new(Code::Usage, format!("{} is empty", setting.flag));
            return Err(failure.hint("leave it out, or say what it is"));
        }
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        text.push_str(&format!("{keyword}='{value}' "));
    }
    let conninfo = conventions::connection(&text, Defaults::Scripts, &variable)?;
    let Some(password) = &arguments.password else { return Ok(conninfo) };
    let of_flag = |failure: Failure| failure.under(conventions::PASSWORD.flag);
    let reference: Reference =
        password.parse().map_err(|error: SecretError| of_flag(Failure::from(error)))?;
    kept(conninfo, reference).map_err(of_flag)
}

/// What the vault calls it.
fn source(arguments: &Arguments, conninfo: &Conninfo) -> Result<SourceName, Failure> {
    if let Some(source) = &arguments.source {
        return Ok(source.clone());
    }
    conninfo.database.parse().map_err(|error: strongroom_model::NameError| {
        Failure::new(Code::Usage, error.to_string())
            .hint("say what the vault is to call this database: --source NAME")
    })
}

/// As far as a vault is spoken to otherwise than by its url.
fn vault_settings(arguments: &Arguments) -> VaultSettings {
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].into_iter().find_map(variable);
    VaultSettings {
        region: arguments.region.clone().or_else(|| REGION.of(&variable).map(|(_, region)| region)),
        // Stores that only speak S3 seldom have a host name for each bucket.
        path_style: endpoint.is_some(),
        classes: ClassSettings { packs: arguments.storage_class, wal: None },
        allow_http: variable("AWS_ALLOW_HTTP").is_some_and(|word| word == "true"),
        ..VaultSettings::default()
    }
}

fn backup(arguments: &Arguments, glacier_days: Option<u32>) -> BackupSettings {
    let defaults = BackupSettings::default();
    // A dump refers to what an earlier one stored, and must be able to read it.
    let thawed = glacier_days.map(|days| days.saturating_sub(1) as usize);
    BackupSettings {
        workers: arguments.workers.unwrap_or(defaults.workers).max(1),
        compression: arguments.compression.unwrap_or(defaults.compression),
        rebase_days: thawed.unwrap_or(defaults.rebase_days).min(defaults.rebase_days),
        ..defaults
    }
}

/// What `strongroom lifecycle` would say of a bucket that freezes everything after so many days, and of the class that packs
/// begin in.
fn objections(
    (glacier_days, class): (Option<u32>, Option<StorageClass>),
    retention: &Retention,
    backup: &BackupSettings,
) -> Vec<Objection> {
    let packs = glacier_days.map(|days| Step { days, class: StorageClass::Glacier }).into_iter().collect();
    let surroundings = Surroundings {
        rebase_days: backup.rebase_days as u32,
        retentions: vec![retention.clone()],
        lock_days: None,
        packs: class,
    };
    Lifecycle { packs, ..Lifecycle::default() }.objections(&surroundings)
}

fn request(wanted: &Wanted, arguments: &Arguments) -> DumpRequest {
    let settings = &wanted.context.settings.backup;
    DumpRequest {
        source: wanted.source.clone(),
        workers: settings.workers,
        upload: UploadOptions {
            compression: settings.compression,
            uploads: settings.uploads,
            rebase_after: settings.rebase_after(),
            rate_limit: arguments.rate_limit.map(|rate| rate.0),
        },
        // What is frozen at once nothing can refer to.
        afresh: arguments.afresh || settings.rebase_days == 0,
        followers: Vec::new(),
        host: surroundings::host(),
        tool: surroundings::tool(),
    }
}

/// What would be done. Of a vault that is there it is known whether the key opens it.
async fn would(wanted: &Wanted, found: &DumpInspection) -> Result<Outcome, Failure> {
    let place = wanted.context.store()?.place();
    let there = match wanted.context.vault().await {
        Ok(_) => true,
        Err(failure) if failure.elsewhere => {
            recipients(&wanted.context)?;
            false
        }
        Err(failure) => return Err(failure),
    };
    let text = format!(
        "would dump {} ({}, {}) into {} {place}, and let go dumps older than {} days",
        wanted.source,
        found.product,
        found.what,
        if there { "the vault" } else { "a new vault" },
        wanted.retention.keep_days,
    );
    let json = json!({ "source": wanted.source, "server": found, "vault": place, "made": !there, "objections": wanted.objections });
    Ok(Outcome::new(&json, text))
}

/// The vault, and what is said of it if it had to be made.
async fn vault(context: &Context) -> Result<(Arc<Vault>, Option<String>), Failure> {
    match context.vault().await {
        Ok(vault) => return Ok((vault, None)),
        Err(failure) if failure.elsewhere => {}
        Err(failure) => return Err(failure),
    }
    let (store, recipients) = (context.store()?, recipients(context)?);
    let suite = Suite::Aes256GcmX25519;
    let made = init(&context.cx, store, suite, &recipients, &surroundings::tool()).await;
    let said = match made {
        Ok(made) => {
            let (_, warnings, _) = examine(context, &context.probe_store()?).await;
            Some(format!(
                "made vault {} in {}: without its key nobody can read it{warnings}",
                made.vault, made.place
            ))
        }
        // Another dump was first.
        Err(strongroom_ops::OpsError::Vault(VaultError::AlreadyAVault { .. })) => None,
        Err(error) => return Err(error.into()),
    };
    Ok((context.vault().await?, said))
}

/// Whoever a new vault's key is for.
fn recipients(context: &Context) -> Result<Vec<Recipient>, Failure> {
    let services = context.kms_of(&context.settings.vault, true)?;
    let mut recipients: Vec<Recipient> = services.into_iter().map(Recipient::Kms).collect();
    recipients.extend(context.given_passphrase()?.map(Recipient::Passphrase));
    match recipients.is_empty() {
        false => Ok(recipients),
        true => {
            let what =
                format!("there is no vault in {} yet, and no key to make one with", context.store()?.place());
            Err(Failure::new(Code::Key, what).hint(
                "give --passphrase env:NAME, file:/path or command:…, or --kms-key; or make it with `strongroom init`",
            ))
        }
    }
}

/// Lets go what is too old. The dump is committed, whatever becomes of this. If it has shrunk, those before it may be what is
/// wanted: they stay.
async fn let_go(
    wanted: &Wanted,
    vault: &Arc<Vault>,
    (summary, mut text, made): (&Summary, String, bool),
    has_shrunk: bool,
) -> Outcome {
    let (cx, hand) = (&wanted.context.cx, surroundings::hand());
    let expiring = async {
        let plan = plan(vault, &wanted.source, &wanted.retention, cx.now()).await?;
        let expired = expire(cx, vault, &wanted.source, (&plan, &wanted.retention, &hand)).await?;
        Ok::<_, strongroom_ops::OpsError>((plan, expired))
    };
    let mut json = serde_json::to_value(summary).unwrap_or_default();
    let expired = match has_shrunk {
        true => None,
        false => Some(expiring.await),
    };
    let code = match expired {
        None => {
            text.push_str("nothing was let go");
            json["expired"] = json!({ "why_not": "the dump has shrunk" });
            Code::Problems
        }
        Some(Ok((plan, expired))) => {
            text.push_str(&ending(&plan, Some(&expired)));
            json["expired"] = json!(expired.points);
            Code::Ok
        }
        Some(Err(error)) => {
            let why = Failure::from(error).on_one_line();
            text.push_str(&format!("warning: the dump is taken, and nothing was let go: {why}"));
            json["expired"] = json!({ "why_not": why });
            Code::Problems
        }
    };
    json["vault"] = json!(vault.place());
    json["made"] = json!(made);
    json["objections"] = json!(wanted.objections);
    Outcome::new(&json, text).with_code(code)
}
