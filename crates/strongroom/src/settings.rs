//! `strongroom.toml`: parsed once, into values that cannot be wrong any more.
//!
//! Flag > environment > file: the first two are clap's; what they leave open is taken from here.

#![allow(clippy::disallowed_methods, reason = "this module is where the settings file is read")]

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use strongroom_model::plan::{Plan, objectives_of, retention_of};
use strongroom_model::retention::Retention;
use strongroom_model::source::{Objectives, Protected, Shipping, SourceKind};
use strongroom_model::span::Span;
use strongroom_model::{ByteSize, PlanName, RuleName, SourceName, Timestamp};
use strongroom_postgres::sender::SlotName;
use strongroom_postgres::session::Access;
use strongroom_vault::Compression;
use strongroom_vault::audit::sha_256;
use strongroom_vault::upload::REBASE_AFTER;

use crate::secret::Reference;

mod mistake;
mod agent;
mod drill;
mod vault;
pub mod watching;
pub mod access;
pub mod reporting;
mod references;

use access::{HttpSettings, PersonName, TokenSettings, UserSettings};
pub use agent::{AgentSettings, CatalogSettings};
pub use drill::{DrillSettings, ScratchSettings};
use mistake::Mistake;
use reporting::ReportSettings;
pub use vault::{ClassSettings, LockSettings, VaultSettings, parse_class};
use watching::{AlertSettings, ChannelName, WatchSettings};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the vault is and what opens it.
    #[serde(default)]
    pub vault: VaultSettings,
    /// Further vaults that WAL is shipped to and fetched from. Those that are replicas of `[vault]` get points, too.
    #[serde(default, rename = "also")]
    pub further: Vec<VaultSettings>,
    /// How to back up.
    #[serde(default)]
    pub backup: BackupSettings,
    /// What is kept of sources that do not say it themselves. Without any, everything is.
    pub retention: Option<Retention>,
    /// What is protected.
    #[serde(default, rename = "source")]
    pub sources: BTreeMap<SourceName, SourceSettings>,
    /// When it is, how long it is kept, and what is promised for it.
    #[serde(default, rename = "plan")]
    pub plans: BTreeMap<PlanName, Plan>,
    /// How `strongroom run` is reached, and how it works.
    #[serde(default)]
    pub agent: AgentSettings,
    /// Where jobs are kept.
    #[serde(default)]
    pub catalog: CatalogSettings,
    /// When people are told, and of what.
    #[serde(default)]
    pub watch: WatchSettings,
    /// How they are told.
    #[serde(default, rename = "alert")]
    pub alerts: BTreeMap<ChannelName, AlertSettings>,
    /// Which reports go to whom, and when.
    #[serde(default, rename = "report")]
    pub reports: BTreeMap<RuleName, ReportSettings>,
    /// Where metrics, the page and the API are served. Without it they are not.
    pub http: Option<HttpSettings>,
    /// What must be written down.
    #[serde(default)]
    pub audit: AuditSettings,
    /// Who may sign in there.
    #[serde(default, rename = "user")]
    pub users: BTreeMap<PersonName, UserSettings>,
    /// What programs show instead.
    #[serde(default, rename = "token")]
    pub tokens: BTreeMap<PersonName, TokenSettings>,
    /// PostgreSQL on this host.
    #[serde(default)]
    pub postgres: PostgresSettings,
    /// Where drills are carried out.
    #[serde(default)]
    pub drill: ScratchSettings,
    /// Where these settings came from.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    /// Tells one content of that file from another.
    #[serde(skip)]
    pub fingerprint: u64,
    /// The SHA-256 of that file, in hexadecimal: what the audit log knows it by.
    #[serde(skip)]
    pub hash: Option<String>,
}

/// `[audit]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSettings {
    /// What may only begin when that is in the audit log.
    pub required: Required,
}

/// Acts that must be in the audit log before they begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Required {
    /// None.
    Nothing,
    /// Those that take away what cannot be had back. Recovery waits for no log.
    #[default]
    Destroying,
    /// Those that hand data out as well.
    Everything,
}

/// `[postgres]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
    /// The folder of its programs (`pg_dump`, `pg_restore`, `psql`, `initdb`), if not where packages put them.
    pub programs: Option<PathBuf>,
}

/// `[backup]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupSettings {
    /// Threads that read, compress and seal.
    #[serde(deserialize_with = "at_least_one")]
    pub workers: usize,
    /// Packs on their way to the store at a time.
    #[serde(deserialize_with = "at_least_one")]
    pub uploads: usize,
    /// `zstd:1`, `lz4`, `none`.
    #[serde(deserialize_with = "from_text")]
    pub compression: Compression,
    /// How long to wait for the last WAL of a backup.
    #[serde(deserialize_with = "duration")]
    pub wal_timeout: Duration,
    /// Days after which unchanged pages are stored afresh instead of referred to.
    #[serde(deserialize_with = "at_least_one")]
    pub rebase_days: usize,
    /// Whether the server's WAL summaries are believed as to which pages changed.
    pub hints: Hints,
    /// Days within which each page is read even though the server says that it did not change.
    #[serde(deserialize_with = "at_least_one")]
    pub prove_days: usize,
    /// A dump that has fewer percent of the bytes of the one before it is a problem. 0: none is.
    #[serde(deserialize_with = "percent")]
    pub least_percent: u32,
}

/// `hints` of `[backup]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hints {
    /// Where they are complete.
    Auto,
    /// They are not looked at.
    Off,
}

impl Default for BackupSettings {
    fn default() -> Self {
        BackupSettings {
            workers: 2,
            uploads: 4,
            compression: Compression::default(),
            wal_timeout: Duration::from_secs(60),
            rebase_days: (REBASE_AFTER.as_secs() / DAY) as usize,
            hints: Hints::Auto,
            prove_days: 7,
            least_percent: 50,
        }
    }
}

impl BackupSettings {
    /// [`BackupSettings::rebase_days`] as a length of time.
    pub fn rebase_after(&self) -> Duration {
        Duration::from_secs(DAY.saturating_mul(self.rebase_days as u64))
    }

    /// [`BackupSettings::prove_days`] as a length of time.
    pub fn prove_within(&self) -> Duration {
        Duration::from_secs(DAY.saturating_mul(self.prove_days as u64))
    }
}

/// Seconds in a day.
const DAY: u64 = 24 * 3600;

/// How long WAL that is new waits for more, unless somebody says otherwise.
pub const RECEIVE_INTERVAL: Duration = Duration::from_secs(1);

/// `[source.<name>]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// `postgres` or `postgres-logical`.
    pub kind: SourceKind,
    /// libpq connection string or URI; empty: what PG… environment variables say.
    #[serde(default)]
    pub connection: String,
    /// Where the password for it is.
    pub password: Option<Reference>,
    /// What `connection` is for its primary, if `connection` leads to a standby.
    pub primary: Option<String>,
    /// Where its files are, if the server should not be asked.
    pub data_directory: Option<PathBuf>,
    /// Whether its files are read here, or sent by the server.
    #[serde(default)]
    pub access: SourceAccess,
    /// What is kept of it.
    pub retention: Option<Retention>,
    /// The server's own `archive_timeout`: what it archives by itself is no older. `doctor` holds the server to it.
    pub archive_timeout: Option<Span>,
    /// How its WAL is received. Being there it says that the agent does it.
    pub receive: Option<ReceiveSettings>,
    /// What plans may choose it by.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The newest so much of it may be lost; what its plans say if left out.
    pub rpo: Option<Span>,
    /// A restore of it may take so long; what its plans say if left out.
    pub rto: Option<Span>,
    /// What its drills look at.
    #[serde(default)]
    pub drill: DrillSettings,
}

impl SourceSettings {
    /// As plans see it.
    pub fn protected(&self, name: &SourceName) -> Protected {
        let waits = |receive: &ReceiveSettings| receive.interval.unwrap_or(RECEIVE_INTERVAL);
        Protected {
            name: name.clone(),
            kind: self.kind,
            tags: self.tags.clone(),
            objectives: Objectives { rpo: self.rpo, rto: self.rto },
            shipping: match (&self.receive, self.archive_timeout) {
                (Some(receive), _) => Shipping::Streamed(Span(waits(receive))),
                (None, Some(timeout)) => Shipping::Archived(timeout),
                (None, None) => Shipping::None,
            },
            retention: self.retention.clone(),
        }
    }
}

/// `[source.<name>.receive]`, and the flags of `wal receive` with the same names
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiveSettings {
    /// The replication slot.
    #[serde(deserialize_with = "some_from_text")]
    pub slot: Option<SlotName>,
    /// Without a slot.
    pub no_slot: bool,
    /// What `synchronous_standby_names` calls it.
    pub name: Option<String>,
    /// How long what is new waits for more.
    #[serde(deserialize_with = "some_duration")]
    pub interval: Option<Duration>,
    /// So much does not wait.
    #[serde(deserialize_with = "some_from_text")]
    pub part_size: Option<ByteSize>,
    /// The agent leaves it to a `wal receive` that runs by itself.
    pub not_by_agent: bool,
}

impl ReceiveSettings {
    /// These, and what they leave open as `others` have it.
    pub fn or(&self, others: &ReceiveSettings) -> ReceiveSettings {
        let of_slot = if self.no_slot || self.slot.is_some() { self } else { others };
        ReceiveSettings {
            slot: of_slot.slot.clone(),
            no_slot: of_slot.no_slot,
            name: self.name.clone().or_else(|| others.name.clone()),
            interval: self.interval.or(others.interval),
            part_size: self.part_size.or(others.part_size),
            not_by_agent: self.not_by_agent || others.not_by_agent,
        }
    }
}

/// `access` of `[source.<name>]`, and `--access`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SourceAccess {
    /// Read its files here
    Files,
    /// Have the server send them over the replication protocol
    Stream,
    /// Read them where they can be read, else have them sent
    #[default]
    Auto,
}

impl From<SourceAccess> for Access {
    fn from(access: SourceAccess) -> Access {
        match access {
            SourceAccess::Files => Access::Files,
            SourceAccess::Stream => Access::Stream,
            SourceAccess::Auto => Access::Auto,
        }
    }
}

fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn some_from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    from_text(deserializer).map(Some)
}

fn at_least_one<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(serde::de::Error::custom("it must be at least 1")),
        number => Ok(number),
    }
}

fn percent<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        percent @ 0..=100 => Ok(percent),
        _ => Err(serde::de::Error::custom("it must be between 0 and 100")),
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn some_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Reads `60s`, `5m`, `1h 30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let read: Option<jiff::SignedDuration> = text.parse().ok();
    let wrong = || format!("'{text}' is not a length of time: write it as 60s, 5m or 1h 30m");
    Duration::try_from(read.ok_or_else(wrong)?).map_err(|_| wrong())
}

/// Reads bytes a second: `100MiB/s`, `100MiB`.
pub fn parse_rate(text: &str) -> Result<ByteSize, String> {
    let rate: ByteSize =
        text.strip_suffix("/s").unwrap_or(text).parse().map_err(|error| format!("{error}"))?;
    if rate.0 == 0 { Err("nothing would ever arrive".into()) } else { Ok(rate) }
}

/// Reads an instant as ISO 8601 writes it, with its zone.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(Timestamp).map_err(|_| format!("'{text}' is not a time: write it as 2027-01-01T00:00:00Z"))
}

/// Tells one text from another; the same in every process of this build. No secret, and nothing that must hold against one
/// who looks for two texts with the same.
pub fn fingerprint(text: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}

/// Settings that do not read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file that was named is not there or may not be read.
    #[error("read settings from {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A passphrase or identity file is not there or may not be read.
    #[error("read the key in {path}")]
    Key {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is wrong.
    #[error("settings in {path}: {why}")]
    Wrong {
        /// Which.
        path: String,
        /// Where and why, with line, column and key; never with a value's text, which may hold a password.
        why: String,
        /// The known word that is nearest to an unknown one.
        suggestion: Option<String>,
    },
    /// Something needed is set nowhere.
    #[error("{0}")]
    Missing(String),
}

/// Where settings are looked for when none are named.
fn usual_places() -> Vec<PathBuf> {
    let home = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    let mut places = vec![PathBuf::from("strongroom.toml")];
    places.extend(home.map(|home| home.join("strongroom/strongroom.toml")));
    places.push(PathBuf::from("/etc/strongroom/strongroom.toml"));
    places
}

impl Settings {
    /// Reads the named file, or the first of the usual ones that exists, or none.
    pub fn load(named: Option<&Path>) -> Result<Settings, SettingsError> {
        // One that may not be looked at is taken, and then says so: another's settings would be worse.
        let usual = || usual_places().into_iter().find(|path| path.try_exists().unwrap_or(true));
        let Some(path) = named.map(Path::to_owned).or_else(usual) else { return Ok(Settings::default()) };
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path)
            .map_err(|source| SettingsError::Read { path: shown.clone(), source })?;
        let mut settings = Settings::read(&text, &shown)?;
        settings.path = Some(std::path::absolute(&path).unwrap_or(path));
        settings.fingerprint = fingerprint(text.as_bytes());
        settings.hash = Some(sha_256(text.as_bytes()));
        Ok(settings)
    }

    /// Reads a file's text; `shown` is what an error calls the file.
    pub fn read(text: &str, shown: &str) -> Result<Settings, SettingsError> {
        Settings::parse(text).map_err(|Mistake { why, suggestion }| SettingsError::Wrong {
            path: shown.to_owned(),
            why,
            suggestion,
        })
    }

    fn parse(text: &str) -> Result<Settings, Mistake> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let settings: Settings = toml::from_str(text).map_err(|error| Mistake::of(text, &error))?;
        let mistake = |why: String| Mistake { why, suggestion: None };
        for (name, plan) in &settings.plans {
            plan.check(name).map_err(|error| mistake(error.to_string()))?;
        }
        settings
            .http
            .as_ref()
            .map_or(Ok(()), |http| http.check(&settings))
            .map_err(|error| mistake(error.to_string()))?;
        reporting::check(&settings.reports, &settings.alerts).map_err(|error| mistake(error.to_string()))?;
        Ok(settings)
    }

    /// Every configured source, as plans see it.
    pub fn protected(&self) -> Vec<Protected> {
        self.sources.iter().map(|(name, source)| source.protected(name)).collect()
    }

    /// What is kept of a source, unless the vault says it: what itself says, or else its plans, or else all sources.
    pub fn retention_of(&self, source: &SourceName) -> Option<Retention> {
        let settings = self.sources.get(source);
        let own = settings.and_then(|settings| settings.retention.clone());
        let planned = || retention_of(&self.plans, &settings?.protected(source));
        own.or_else(planned).or_else(|| self.retention.clone())
    }

    /// What is promised for a source: by itself, or else by its plans.
    pub fn objectives_of(&self, source: &SourceName) -> Objectives {
        let protected = self.sources.get(source).map(|settings| settings.protected(source));
        protected.map(|protected| objectives_of(&self.plans, &protected)).unwrap_or_default()
    }

    /// The source that was named, or the only one there is.
    pub fn source(&self, named: Option<&SourceName>) -> Result<SourceName, SettingsError> {
        let mut known = self.sources.keys();
        match (named, known.next(), known.next()) {
            (Some(named), ..) => Ok(named.clone()),
            (None, Some(only), None) => Ok(only.clone()),
            (None, None, _) => Err(SettingsError::Missing("no source is configured: name one".into())),
            (None, Some(_), Some(_)) => {
                let names: Vec<&str> = self.sources.keys().map(SourceName::as_str).collect();
                Err(SettingsError::Missing(format!("which source? There are {}", names.join(", "))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_reads() {
        let settings = Settings::parse(
            r#"
            [vault]
            url = "s3://backups/prod"
            endpoint = "http://127.0.0.1:9000"
            path_style = true
            allow_http = true
            profile = "backup"
            identity_file = "/etc/strongroom/identity.txt"
            [source.orders]
            kind = "postgres"
            connection = "host=/var/run/postgresql user=backup"
            [backup]
            workers = 4
            compression = "lz4"
            wal_timeout = "2m"
            hints = "off"
            prove_days = 3
            "#,
        )
        .unwrap();
        assert_eq!(settings.vault.url.as_deref(), Some("s3://backups/prod"));
        assert_eq!(settings.vault.profile.as_deref(), Some("backup"));
        assert_eq!(settings.backup.workers, 4);
        assert_eq!(settings.backup.uploads, 4);
        assert_eq!(settings.backup.wal_timeout, Duration::from_secs(120));
        assert_eq!(settings.backup.hints, Hints::Off);
        assert_eq!(settings.backup.prove_within(), Duration::from_secs(3 * 24 * 3600));
        assert_eq!(settings.source(None).unwrap().as_str(), "orders");
    }

    #[test]
    fn an_empty_file_has_the_defaults() {
        for text in ["", "\u{feff}", "# nothing\n"] {
            assert_eq!(Settings::parse(text).unwrap().backup.workers, 2);
        }
    }

    #[test]
    fn mistakes_are_named_with_line_and_key() {
        for (text, says) in [
            ("[vault]\nurl = 3\n", "line 2"),
            ("[vault]\nulr = \"x\"\n", "unknown field `ulr`"),
            ("[vualt]\n", "unknown field `vualt`"),
            ("[vault\n", "line 1"),
            ("[vault]\nurl = \"a\"\nurl = \"b\"\n", "duplicate key"),
            ("[source.a]\nkind = \"oracle\"\n", "unknown variant `oracle`, expected `postgres`"),
            ("[source.a]\n", "missing field `kind`"),
            ("[source.A]\nkind = \"postgres\"\n", "cannot name a source"),
            ("[source.a]\nkind = \"postgres\"\n[source.a]\nkind = \"postgres\"\n", "duplicate key"),
            ("[backup]\nworkers = 0\n", "at least 1"),
            ("[backup]\nprove_days = 0\n", "at least 1"),
            ("[backup]\nleast_percent = 101\n", "between 0 and 100"),
            ("[backup]\nhints = \"always\"\n", "unknown variant `always`, expected `auto` or `off`"),
            ("[backup]\nworkers = -1\n", "line 2"),
            ("[backup]\ncompression = \"gzip\"\n", "'gzip' is not a compression"),
            ("[backup]\nwal_timeout = \"soon\"\n", "'soon' is not a length of time"),
            ("[backup]\nwal_timeout = \"-5s\"\n", "not a length of time"),
            ("[backup]\nuploads = \"4\"\n", "line 2, column 11, uploads: invalid type: a string, expected"),
            ("[backup]\nuploads = 0\n", "line 2, column 11, uploads: it must be at least 1"),
            (
                "[vault.lock]\nmode = \"compliance\"\ndays = 36501\n",
                "line 3, column 8, days: it must be between",
            ),
            ("[vault.lock]\nmode = \"none\"\ndays = 1\n", "unknown variant `none`"),
            ("[vault.classes]\npacks = \"GLACIER\"\n", "must be thawed before they can be read"),
            ("[vault.lifecycle]\npacks = [{ days = 1, class = \"COLD\" }]\n", "unknown variant `COLD`"),
            ("# ü\n[vault]\nü = 1\n", "line 3"),
            ("[vault]\nurl = \"ü", "line 2"),
            ("vault = 1\n", "line 1, column 9, vault: invalid type"),
            ("[agent]\njobs = 0\n", "line 2, column 8, jobs: "),
            (
                "[agent]\nverify_budget = \"some\"\n",
                "verify_budget: it is neither a size nor a length of time",
            ),
            ("[agent.sweep]\nschedule = \"at night\"\n", "a schedule is five"),
            ("[[also]]\nurll = \"x\"\n", "line 2, column 1, urll: unknown field `urll`"),
            ("\u{feff}[vault]\n ulr = 1\n", "line 2, column 2, ulr: unknown field"),
            (
                "[source.a]\nkind = \"postgres\"\n[source.a.receive]\nslot = \"A\"\n",
                "line 4, column 8, slot: 'A' cannot",
            ),
            ("[source.a]\nkind = \"postgres\"\n[source.a.receive]\ninterval = \"1\"\n", "length of time"),
            (
                "[source.a]\nkind = \"postgres\"\nrpo = \"soon\"\n",
                "line 3, column 7, rpo: 'soon' is not a length of time",
            ),
            ("[plan.p]\nselect = { sources = [\"*\"] }\n", "plan p has no rule"),
            (
                "[plan.p]\nselect = {}\n[[plan.p.rule]]\nname = \"a\"\nschedule = \"@daily\"\n",
                "plan p selects nothing",
            ),
            ("[[plan.p.rule]]\nname = \"a\"\nschedule = \"@daily\"\n", "missing field `select`"),
            (
                "[[plan.p.rule]]\nname = \"a\"\nschedule = \"0 24 * * *\"\n",
                "the hour is '24', and 24 is out of range",
            ),
            ("[plan.p]\ntimezone = \"Mars/Olympus\"\n", "'Mars/Olympus' is no time zone"),
            ("[plan.p]\nselect = { kinds = [\"oracle\"] }\n", "unknown variant `oracle`"),
            ("[[plan.p.exclude]]\nsource = \"a\"\nreason = \"\"\n", "it must say something"),
            ("[[plan.p.exclude]]\nreview = 2027-13-01\n", "line 2"),
            ("[[plan.p.exclude]]\nreview = 12:00:00\n", "'12:00:00' is no day"),
        ] {
            let error = Settings::parse(text).unwrap_err().why;
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        for (text, meant) in [
            ("[vault]\nulr = \"x\"\n", Some("url")),
            ("[vualt]\n", Some("vault")),
            ("[sources.a]\n", Some("source")),
            ("[source.a]\nkind = \"postgers\"\n", Some("postgres")),
            ("[source.a]\nkind = \"postgres\"\nconnectoin = \"\"\n", Some("connection")),
            ("[vault]\npassphrasefile = \"x\"\n", Some("passphrase_file")),
            ("[backup]\nwal-timeout = \"1s\"\n", Some("wal_timeout")),
            ("[source.a]\nkind = \"oracle\"\n", None),
            ("[backup]\nretention = 3\n", None),
            ("[[plan.p.rule]]\nshedule = \"@daily\"\n", Some("schedule")),
            ("[plan.p]\nselcet = {}\n", Some("select")),
        ] {
            assert_eq!(Settings::parse(text).unwrap_err().suggestion.as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn a_mistake_never_shows_a_password() {
        for text in [
            "[source.a]\nconnectoin = \"host=x password=canary\"\n",
            "[source.a]\nkind = \"postgres\"\nconnection = \"password=canary\n",
            "[source.a]\nkind = \"postgres\"\nconnection = password=canary\n",
            "[source.a]\nkind = \"postgres\"\nconnection = 'a' password=canary\n",
            "[source.a]\nkind = \"postgres\"\nconnection = [\"canary\"]\n",
            "[source.a]\nkind = \"postgres\"\nconnection = { password = \"canary\" }\n",
            "[source.a]\nkind = \"postgres\"\nconnection = \"\"\"\nhost=x\npassword=canary\n",
            "[source]\na = \"postgres://u:canary@h/db\"\n",
            "source = \"postgres://u:canary@h/db\"\n",
            "[source.a]\nkind = \"postgres\"\nconnection = \"can\\qary canary\"\n",
            "[backup]\nworkers = \"canary\"\n",
            "[vault]\npassphrase = \"canary\"\n",
            "[source.a]\nkind = \"postgres\"\npassword = \"canary:x\"\n",
            "\"canary\"\n",
        ] {
            let mistake = Settings::parse(text).unwrap_err();
            assert!(!format!("{mistake:?}").contains("canary"), "{text}: {mistake:?}");
        }
    }

    #[test]
    fn flags_win_over_how_a_source_is_received() {
        let text = "[source.a]\nkind = \"postgres\"\n[source.a.receive]\nslot = \"s\"\ninterval = \"2s\"\npart_size = \"2MiB\"\n";
        let settings = Settings::parse(text).unwrap();
        let of_file = settings.sources.values().next().unwrap().receive.clone().unwrap();
        let nothing = ReceiveSettings::default();
        let flags = ReceiveSettings { no_slot: true, interval: Some(Duration::ZERO), ..nothing.clone() };
        let shown = |of: ReceiveSettings| {
            (of.slot.map(|slot| slot.to_string()), of.no_slot, of.interval.unwrap(), of.part_size.unwrap().0)
        };
        assert_eq!(
            shown(nothing.or(&of_file)),
            (Some("s".to_owned()), false, Duration::from_secs(2), 2 << 20)
        );
        assert_eq!(shown(flags.or(&of_file)), (None, true, Duration::ZERO, 2 << 20));
        let named = ReceiveSettings { slot: Some("t".parse().unwrap()), ..nothing };
        let without = ReceiveSettings { no_slot: true, ..of_file };
        assert_eq!(shown(named.or(&without)).0.as_deref(), Some("t"));
    }

    #[test]
    fn an_unnamed_source_must_be_the_only_one() {
        let two = "[source.a]\nkind = \"postgres\"\n[source.b]\nkind = \"postgres\"\n";
        let error = Settings::parse(two).unwrap().source(None).unwrap_err();
        assert_eq!(error.to_string(), "which source? There are a, b");
        assert!(Settings::default().source(None).is_err());
    }
}
