//! What every verb needs: settings with the flags laid over them, the store, the vault, the source's engine.

#![allow(
    clippy::disallowed_methods,
    reason = "this module is where secrets are read from files and the environment"
)]

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ArgAction;
use strongroom_model::{Cx, SourceName};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::recovery::command;
use strongroom_postgres::session::Physical;
use strongroom_store::Store;
use strongroom_store::address::{StoreAddress, StoreOptions, open};
use strongroom_vault::{Unlock, Vault};
use zeroize::Zeroizing;

use crate::failure::{Code, Failure};
use crate::output::{Color, Format, Printer};
use crate::settings::{LockSettings, Settings, SettingsError, SourceKind, VaultSettings};

/// Flags that every verb has.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "For every command")]
pub struct Global {
    /// Settings file
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "STRONGROOM_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// The vault: a folder or s3://bucket/prefix
    #[arg(long, global = true, value_name = "URL", env = "STRONGROOM_VAULT", hide_env_values = true)]
    pub vault: Option<String>,
    // Its environment is read below: a flag must win over STRONGROOM_PASSPHRASE, which wins over the file's name there.
    /// File whose first line is the vault's passphrase [env: STRONGROOM_PASSPHRASE_FILE; the passphrase itself: STRONGROOM_PASSPHRASE]
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// age identity file that opens the vault
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "STRONGROOM_IDENTITY_FILE",
        hide_env_values = true
    )]
    pub identity_file: Option<PathBuf>,
    /// For people or for scripts
    #[arg(long, global = true, value_name = "FORMAT", default_value = "human")]
    pub output: Format,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Say more (-v: what is done; -vv: every detail)
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing on the side
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// The surroundings of one command.
pub struct Context {
    /// Clock, chance, progress, cancellation.
    pub cx: Cx,
    /// The flags that every verb has.
    pub global: Global,
    /// The file's settings.
    pub settings: Settings,
    /// Where output goes.
    pub printer: Printer,
}

impl Context {
    /// The vault's url: flag or environment, else file.
    pub fn url(&self) -> Result<String, Failure> {
        let of_file = || self.settings.vault.url.as_ref().map(|url| self.url_beside_file(url));
        let url = self.global.vault.clone().or_else(of_file);
        let missing = || SettingsError::Missing("where is the vault? No url is set".into());
        Ok(url.ok_or_else(missing)?)
    }

    fn url_beside_file(&self, url: &str) -> String {
        match url.contains("://") {
            true => url.to_owned(),
            false => self.beside_file(Path::new(url)).to_string_lossy().into_owned(),
        }
    }

    /// A path in the settings file is relative to the file, so that it means the same from every working directory.
    fn beside_file(&self, path: &Path) -> PathBuf {
        let folder = self.settings.path.as_deref().and_then(Path::parent);
        folder.map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// The store that the vault is in.
    pub fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        store_at(&self.url()?, &self.settings.vault)
    }

    /// The folder of a local vault.
    pub fn vault_folder(&self) -> Option<PathBuf> {
        match StoreAddress::parse(&self.url().ok()?).ok()? {
            StoreAddress::Folder(path) => Some(path),
            StoreAddress::Bucket { .. } => None,
        }
    }

    /// The vault, opened with whatever key was given.
    pub async fn vault(&self) -> Result<Arc<Vault>, Failure> {
        let given = (self.global.identity_file.clone(), self.given_passphrase()?);
        let unlock = self.unlock(&self.settings.vault, given)?;
        Ok(Arc::new(Vault::open(self.store()?, &unlock).await?))
    }

    /// Every vault that WAL goes to and comes from, the main one first; each opened, or why not.
    pub async fn journal_vaults(&self) -> Vec<Result<Arc<Vault>, Failure>> {
        let mut vaults = vec![self.vault().await];
        for settings in &self.settings.further {
            vaults.push(self.further_vault(settings).await);
        }
        vaults
    }

    async fn further_vault(&self, settings: &VaultSettings) -> Result<Arc<Vault>, Failure> {
        let url = settings.url.as_ref().map(|url| self.url_beside_file(url));
        let url = url.ok_or_else(|| SettingsError::Missing("an [[also]] vault has no url".into()))?;
        let mut unlock = self.unlock(settings, (None, None))?;
        if unlock.passphrase.is_none() {
            // What is given for the main vault may fit here, too, but never instead of this one's own.
            unlock.passphrase = self.given_passphrase()?;
        }
        Ok(Arc::new(Vault::open(store_at(&url, settings)?, &unlock).await?))
    }

    /// What opens a vault: an identity file and a passphrase that were given, else what its settings name.
    fn unlock(
        &self,
        vault: &VaultSettings,
        (identity_file, passphrase): (Option<PathBuf>, Option<Zeroizing<String>>),
    ) -> Result<Unlock, Failure> {
        let of_file = |path: &Option<PathBuf>| path.as_ref().map(|path| self.beside_file(path));
        let mut unlock = Unlock { passphrase, ..Unlock::default() };
        if let Some(path) = identity_file.or_else(|| of_file(&vault.identity_file)) {
            unlock.identities = Some(self.secret(&path)?);
        }
        if let (None, Some(path)) = (&unlock.passphrase, of_file(&vault.passphrase_file)) {
            unlock.passphrase = Some(self.passphrase(&path)?);
        }
        Ok(unlock)
    }

    /// The passphrase by flag, else by environment.
    pub fn given_passphrase(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        if let Some(path) = &self.global.passphrase_file {
            return self.passphrase(path).map(Some);
        }
        match std::env::var("STRONGROOM_PASSPHRASE").map(Zeroizing::new) {
            Ok(passphrase) if !passphrase.is_empty() => return Ok(Some(passphrase)),
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Failure::new(Code::Settings, "STRONGROOM_PASSPHRASE is not UTF-8 text"));
            }
            _ => {}
        }
        self.passphrase_file().map(|path| self.passphrase(&path)).transpose()
    }

    /// The passphrase file by flag, else by environment.
    pub fn passphrase_file(&self) -> Option<PathBuf> {
        let named = || std::env::var_os("STRONGROOM_PASSPHRASE_FILE").filter(|path| !path.is_empty());
        self.global.passphrase_file.clone().or_else(|| named().map(PathBuf::from))
    }

    /// The passphrase that every later command will use: as given, else by the settings file.
    pub fn usual_passphrase(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let of_file = self.settings.vault.passphrase_file.as_ref();
        match (self.given_passphrase()?, of_file) {
            (None, Some(path)) => self.passphrase(&self.beside_file(path)).map(Some),
            (given, _) => Ok(given),
        }
    }

    /// A passphrase file's first line.
    fn passphrase(&self, path: &Path) -> Result<Zeroizing<String>, Failure> {
        let text = self.secret(path)?;
        match text.lines().next().unwrap_or_default() {
            "" => {
                let failure =
                    Failure::new(Code::Settings, format!("read a passphrase from {}", path.display()));
                Err(failure.hint("its first line is empty: write the passphrase there"))
            }
            line => Ok(Zeroizing::new(line.to_owned())),
        }
    }

    fn secret(&self, path: &Path) -> Result<Zeroizing<String>, Failure> {
        let read = |source| SettingsError::Key { path: path.display().to_string(), source };
        let facts = std::fs::metadata(path).map_err(read)?;
        if facts.is_file() && facts.mode() & 0o077 != 0 {
            tracing::warn!("{} can be read by others: chmod 600 it", path.display());
        }
        Ok(Zeroizing::new(std::fs::read_to_string(path).map_err(read)?))
    }

    /// A new passphrase, typed twice. `None` if nobody is there to type.
    pub fn ask_new_passphrase(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        if !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let ask = |text: &str| {
            let typed = rpassword::prompt_password(text).map(Zeroizing::new);
            typed.map_err(|error| Failure::new(Code::Usage, format!("read the passphrase: {error}")))
        };
        let first = ask("Passphrase for the new vault: ")?;
        let second = ask("The same again: ")?;
        match *first == *second {
            true => Ok(Some(first)),
            false => Err(Failure::new(Code::Usage, "the two passphrases differ")),
        }
    }

    /// The source that was named, or the only one.
    pub fn source(&self, named: Option<&SourceName>) -> Result<SourceName, Failure> {
        Ok(self.settings.source(named)?)
    }

    /// The engine of a configured source.
    pub fn engine(&self, source: &SourceName) -> Result<Physical, Failure> {
        let missing =
            || SettingsError::Missing(format!("source {source} is not configured: add [source.{source}]"));
        let settings = self.settings.sources.get(source).ok_or_else(missing)?;
        let conninfo =
            Conninfo::read(&settings.connection, &|name| std::env::var(name).ok()).map_err(|error| {
                let failure = Failure::new(Code::Settings, format!("connection of source {source}: {error}"));
                failure.hint(error.hint())
            })?;
        match settings.kind {
            SourceKind::Postgres => Ok(Physical::new(conninfo, settings.data_directory.clone())),
        }
    }

    /// Whether the vault's key is to be had from this process's environment only, which no server has.
    pub fn key_is_in_environment(&self) -> bool {
        let vault = &self.settings.vault;
        let files = [
            &self.global.identity_file,
            &vault.identity_file,
            &self.passphrase_file(),
            &vault.passphrase_file,
        ];
        files.iter().all(|file| file.is_none())
            && self.usual_passphrase().is_ok_and(|passphrase| passphrase.is_some())
    }

    /// This binary, called for `source` with the same settings: for `archive_command` and `restore_command`.
    pub fn command(&self, verb: &[&str], source: &SourceName, placeholders: &str) -> Result<String, Failure> {
        let binary = std::env::current_exe()
            .map_err(|error| Failure::new(Code::Failed, format!("find this binary's own path: {error}")))?;
        let config = self.settings.path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let mut words: Vec<String> = Vec::new();
        words.extend(config.into_iter().flat_map(|path| ["--config".to_owned(), path]));
        // What the file does not say must be on the command line: the server has another environment.
        let flags = [
            (
                "--vault",
                self.global.vault.as_deref().map(|url| {
                    if url.contains("://") {
                        url.to_owned()
                    } else {
                        absolute(Some(Path::new(url))).unwrap_or_default()
                    }
                }),
            ),
            ("--identity-file", absolute(self.global.identity_file.as_deref())),
            ("--passphrase-file", absolute(self.passphrase_file().as_deref())),
        ];
        words.extend(
            flags.into_iter().flat_map(|(flag, value)| value.map(|value| [flag.to_owned(), value])).flatten(),
        );
        words.extend(verb.iter().map(ToString::to_string));
        words.extend(["--source".to_owned(), source.to_string()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(command(&binary, &words, placeholders))
    }
}

/// The store at `url`, reached as `settings` say.
fn store_at(url: &str, settings: &VaultSettings) -> Result<Arc<dyn Store>, Failure> {
    let address =
        StoreAddress::parse(url).map_err(|error| Failure::new(Code::Settings, error.to_string()))?;
    let options = StoreOptions {
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        path_style: settings.path_style,
        allow_http: settings.allow_http,
        profile: settings.profile.clone(),
        lock: settings.lock.as_ref().map(LockSettings::lock),
    };
    open(&address, &options).map_err(Failure::from)
}

fn absolute(path: Option<&Path>) -> Option<String> {
    let path = path?;
    Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned())
}
