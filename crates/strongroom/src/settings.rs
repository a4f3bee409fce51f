//! `strongroom.toml`: parsed once, into values that cannot be wrong any more.
//!
//! Flag > environment > file: the first two are clap's; what they leave open is taken from here.

#![allow(clippy::disallowed_methods, reason = "this module is where the settings file is read")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use strongroom_model::SourceName;
use strongroom_vault::Compression;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the vault is and what opens it.
    #[serde(default)]
    pub vault: VaultSettings,
    /// Further vaults that WAL is shipped to and fetched from.
    #[serde(default, rename = "also")]
    pub further: Vec<VaultSettings>,
    /// How to back up.
    #[serde(default)]
    pub backup: BackupSettings,
    /// What is protected.
    #[serde(default, rename = "source")]
    pub sources: BTreeMap<SourceName, SourceSettings>,
    /// Where these settings came from.
    #[serde(skip)]
    pub path: Option<PathBuf>,
}

/// `[vault]` and `[[also]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultSettings {
    /// `s3://bucket/prefix` or a folder.
    pub url: Option<String>,
    /// Of an S3-compatible store.
    pub endpoint: Option<String>,
    /// Of the bucket.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name.
    #[serde(default)]
    pub path_style: bool,
    /// Plain HTTP: only for a store on this host or network that one trusts.
    #[serde(default)]
    pub allow_http: bool,
    /// A file that holds the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// An age identity file.
    pub identity_file: Option<PathBuf>,
}

/// `[backup]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupSettings {
    /// Threads that read, compress and seal.
    pub workers: usize,
    /// Packs on their way to the store at a time.
    pub uploads: usize,
    /// `zstd:1`, `lz4`, `none`.
    #[serde(deserialize_with = "from_text")]
    pub compression: Compression,
    /// How long to wait for the last WAL of a backup.
    #[serde(deserialize_with = "duration")]
    pub wal_timeout: Duration,
}

impl Default for BackupSettings {
    fn default() -> Self {
        BackupSettings {
            workers: 2,
            uploads: 4,
            compression: Compression::default(),
            wal_timeout: Duration::from_secs(60),
        }
    }
}

/// `[source.<name>]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// `postgres`.
    pub kind: SourceKind,
    /// libpq connection string or URI; empty: what PG… environment variables say.
    #[serde(default)]
    pub connection: String,
    /// Where its files are, if the server should not be asked.
    pub data_directory: Option<PathBuf>,
}

/// Kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A PostgreSQL cluster whose files can be read here.
    Postgres,
}

fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// Reads `60s`, `5m`, `1h 30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let read: Option<jiff::SignedDuration> = text.parse().ok();
    let wrong = || format!("'{text}' is not a length of time: write it as 60s, 5m or 1h 30m");
    Duration::try_from(read.ok_or_else(wrong)?).map_err(|_| wrong())
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
    /// The file is wrong.
    #[error("settings in {path}: {why}")]
    Wrong {
        /// Which.
        path: String,
        /// Where and why, with the line.
        why: String,
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
        let usual = || usual_places().into_iter().find(|path| path.exists());
        let Some(path) = named.map(Path::to_owned).or_else(usual) else { return Ok(Settings::default()) };
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path)
            .map_err(|source| SettingsError::Read { path: shown.clone(), source })?;
        let mut settings = Settings::parse(&text).map_err(|why| SettingsError::Wrong { path: shown, why })?;
        settings.path = Some(std::path::absolute(&path).unwrap_or(path));
        Ok(settings)
    }

    fn parse(text: &str) -> Result<Settings, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let settings: Settings =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        match settings.backup {
            BackupSettings { workers: 0, .. } => Err("backup.workers must be at least 1".into()),
            BackupSettings { uploads: 0, .. } => Err("backup.uploads must be at least 1".into()),
            _ => Ok(settings),
        }
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
            identity_file = "/etc/strongroom/identity.txt"
            [source.orders]
            kind = "postgres"
            connection = "host=/var/run/postgresql user=backup"
            [backup]
            workers = 4
            compression = "lz4"
            wal_timeout = "2m"
            "#,
        )
        .unwrap();
        assert_eq!(settings.vault.url.as_deref(), Some("s3://backups/prod"));
        assert_eq!(settings.backup.workers, 4);
        assert_eq!(settings.backup.uploads, 4);
        assert_eq!(settings.backup.wal_timeout, Duration::from_secs(120));
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
            ("[backup]\nworkers = -1\n", "line 2"),
            ("[backup]\ncompression = \"gzip\"\n", "'gzip' is not a compression"),
            ("[backup]\nwal_timeout = \"soon\"\n", "'soon' is not a length of time"),
            ("[backup]\nwal_timeout = \"-5s\"\n", "not a length of time"),
            ("[backup]\nuploads = \"4\"\n", "invalid type"),
        ] {
            let error = Settings::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn an_unnamed_source_must_be_the_only_one() {
        let two = "[source.a]\nkind = \"postgres\"\n[source.b]\nkind = \"postgres\"\n";
        let error = Settings::parse(two).unwrap().source(None).unwrap_err();
        assert_eq!(error.to_string(), "which source? There are a, b");
        assert!(Settings::default().source(None).is_err());
    }
}
