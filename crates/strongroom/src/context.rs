//! What every verb needs: settings with the flags laid over them, the store, the vault, the source's engine.

#![allow(
    clippy::disallowed_methods,
    reason = "this module is where secrets are read from files and the environment"
)]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use clap::ArgAction;
use strongroom_engine::DumpEngine;
use strongroom_model::lint::VaultPolicy;
use strongroom_model::retention::Retention;
use strongroom_model::source::SourceKind;
use strongroom_model::{Cx, SourceName, Timestamp};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::logical::dump::Logical;
use strongroom_postgres::logical::program::Programs;
use strongroom_postgres::recovery::command;
use strongroom_postgres::session::Physical;
use strongroom_store::address::{StoreAddress, StoreOptions, custody, open, open_as_of};
use strongroom_store::{Custody, Store};
use strongroom_vault::Vault;

use crate::conventions::{self, Defaults};
use crate::failure::{Code, Failure};
use crate::output::{Color, Format, Printer};
use crate::secret::Reference;
use crate::settings::{
    LockSettings, Settings, SettingsError, SourceAccess, SourceSettings, VaultSettings, parse_time,
};

mod unlocking;

/// What the first vault is called that has no name.
const MAIN: &str = "vault";

/// How long a restore waits for a replica that it may never need.
const REPLICA_PATIENCE: Duration = Duration::from_secs(5);

/// How long a segment waits for a vault before the next one is asked.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);

/// Names the folder of PostgreSQL's programs.
const PROGRAMS: &str = "STRONGROOM_PROGRAMS";

/// How long a probe stays locked.
const PROBE_LOCK: Duration = Duration::from_secs(60);

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
    /// The vault: a folder, or s3://, gs:// or az:// with bucket and prefix
    #[arg(long, global = true, value_name = "URL", env = "STRONGROOM_VAULT", hide_env_values = true)]
    pub vault: Option<String>,
    // Text, not a reference: clap would repeat what it cannot read.
    /// Where the vault's passphrase is: env:NAME, file:/path or command:…
    #[arg(long, global = true, value_name = "REFERENCE", conflicts_with = "passphrase_file")]
    pub passphrase: Option<String>,
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
    /// A key of AWS KMS that opens the vault: its id, alias or ARN
    #[arg(long, global = true, value_name = "KEY", env = "STRONGROOM_KMS_KEY", hide_env_values = true)]
    pub kms_key: Option<String>,
    /// A transit key of HashiCorp Vault or OpenBao that opens the vault: https://…/v1/transit/keys/NAME
    #[arg(long, global = true, value_name = "URL", env = "STRONGROOM_TRANSIT_KEY", hide_env_values = true)]
    pub transit_key: Option<String>,
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
    /// Read the vault as it was then: a bucket with versions remembers what was overwritten or deleted since
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_time)]
    pub as_of: Option<Timestamp>,
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
    /// Vaults that WAL goes to or comes from, by number, as far as they were opened.
    opened: Mutex<BTreeMap<usize, Arc<Vault>>>,
    /// The first vault that was opened: the one that this command is about.
    first: OnceLock<Arc<Vault>>,
    /// One that answered before anybody asked for it.
    answered: Mutex<Option<Arc<Vault>>>,
}

impl Context {
    /// The surroundings of a command with these flags and settings.
    pub fn new(cx: Cx, global: Global, settings: Settings, printer: Printer) -> Context {
        let (opened, first, answered) = (Mutex::default(), OnceLock::new(), Mutex::default());
        Context { cx, global, settings, printer, opened, first, answered }
    }

    /// The vault's url: flag or its variable, else file, else the variables of backup scripts.
    pub fn url(&self) -> Result<String, Failure> {
        let of_file = || self.settings.vault.url.as_ref().map(|url| self.url_beside_file(url));
        let of_scripts = || conventions::place(&variable).map(|(_, url)| url);
        let url = self.global.vault.clone().or_else(of_file).or_else(of_scripts);
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
    pub fn beside_file(&self, path: &Path) -> PathBuf {
        let folder = self.settings.path.as_deref().and_then(Path::parent);
        folder.map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// The store that the vault is in.
    pub fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        self.store_at(&self.url()?, &self.settings.vault)
    }

    /// The same, for probes: what it locks it locks for a minute, as long as the configured lock is there at all.
    pub fn probe_store(&self) -> Result<Arc<dyn Store>, Failure> {
        let (address, mut options) = self.way(None)?;
        if let Some(lock) = &mut options.manner.lock {
            lock.keep = PROBE_LOCK;
        }
        open(&address, &options).map_err(Failure::from)
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
        let unlock = self.unlock_of(None)?;
        Ok(self.noted(Vault::open(self.store()?, &unlock).await?.into()))
    }

    /// Notes the first vault that this command opens or makes.
    pub fn noted(&self, vault: Arc<Vault>) -> Arc<Vault> {
        self.first.get_or_init(|| Arc::clone(&vault));
        vault
    }

    /// The first vault that this command opened, if it opened one and can write to it.
    pub fn opened_first(&self) -> Option<Arc<Vault>> {
        self.first.get().filter(|_| self.global.as_of.is_none()).cloned()
    }

    /// The vault of the settings file, whatever `--vault` says.
    pub async fn main_of_file(&self) -> Result<Arc<Vault>, Failure> {
        let unlock = self.unlock_of(None)?;
        Ok(self.noted(Vault::open(self.store_of(&self.settings.vault)?, &unlock).await?.into()))
    }

    /// The vault that answers: the main one, or if that cannot be reached or read the first further one that can. Said aloud.
    /// A wrong key is no reason to go on: the answer would be another than the one that was asked for.
    pub async fn answering(&self) -> Result<Arc<Vault>, Failure> {
        if let Some(vault) = self.answered.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(vault);
        }
        let mut failure = match self.vault().await {
            Ok(vault) => return Ok(vault),
            Err(failure) if failure.is_of_this_place() => failure,
            Err(failure) => return Err(failure),
        };
        for settings in &self.settings.further {
            match self.further_vault(settings).await {
                Ok(vault) => {
                    tracing::warn!("going on with {}: {}", vault.place(), failure.on_one_line());
                    return Ok(vault);
                }
                Err(other) => failure.causes.push(other.on_one_line()),
            }
        }
        Err(failure)
    }

    /// Whoever asks next for the vault that answers gets this one: a silent vault is not waited for twice, nor a passphrase
    /// stretched twice.
    pub fn has_answered(&self, vault: Arc<Vault>) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(vault);
    }

    /// Further replicas of a vault that can be opened now: a restore goes on with them.
    pub async fn replicas_of(&self, vault: &Arc<Vault>) -> Vec<Arc<Vault>> {
        let mut replicas = Vec::new();
        for settings in &self.settings.further {
            // One that is down must not keep a restore waiting for as long as it would be asked again.
            match tokio::time::timeout(REPLICA_PATIENCE, self.further_vault(settings)).await {
                Ok(Ok(other)) if other.check_replica(vault).is_ok() => replicas.push(other),
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => tracing::warn!("a restore without help: {}", failure.on_one_line()),
                Err(_) => tracing::warn!("a restore without help: {} is silent", called(settings)),
            }
        }
        replicas
    }

    /// Refuses a settings file in which two vaults are at one place: two names of one place are no second copy.
    pub fn check_places(&self) -> Result<(), Failure> {
        let mut seen = Vec::new();
        for settings in std::iter::once(&self.settings.vault).chain(&self.settings.further) {
            let Ok(url) = self.url_of(settings) else { continue };
            let address = StoreAddress::parse(&url);
            let address = address.map_err(|error| Failure::new(Code::Settings, error.to_string()))?;
            let place = (address, settings.endpoint.as_deref());
            if seen.contains(&place) {
                let failure = Failure::new(Code::Settings, format!("two vaults have the url {url}"));
                return Err(failure.hint("a second copy needs a second place: give one of them another url"));
            }
            seen.push(place);
        }
        Ok(())
    }

    /// The settings of the vault that goes by this name or url.
    pub fn vault_settings(&self, name: &str) -> Result<&VaultSettings, Failure> {
        let all = || std::iter::once(&self.settings.vault).chain(&self.settings.further);
        let by_url = |settings: &&VaultSettings| {
            settings.url.as_deref() == Some(name) || self.url_of(settings).is_ok_and(|url| url == name)
        };
        let main = Some(&self.settings.vault).filter(|main| name == MAIN && main.name.is_none());
        let mut named = all().filter(|settings| settings.name.as_deref() == Some(name));
        let found = named.next().or(main);
        if named.next().is_some() {
            let failure = Failure::new(Code::Settings, format!("two vaults are called {name}"));
            return Err(failure.hint("give one of them another name in strongroom.toml, or say its url"));
        }
        found.or_else(|| all().find(by_url)).ok_or_else(|| {
            let known: Vec<String> = all().filter(|settings| settings.url.is_some()).map(called).collect();
            let failure = Failure::new(Code::Usage, format!("no vault is called {name}"));
            failure.hint(match known.is_empty() {
                true => {
                    "name vaults in strongroom.toml: [vault] and [[also]], each with name and url".to_owned()
                }
                false => format!("there are {}; more are named in [[also]]", known.join(", ")),
            })
        })
    }

    /// The vault that goes by this name or url, opened.
    pub async fn vault_called(&self, name: &str) -> Result<Arc<Vault>, Failure> {
        self.configured_vault(self.vault_settings(name)?).await
    }

    /// The vault that goes by this name or url, or the first one.
    pub async fn vault_or_called(&self, name: Option<&str>) -> Result<Arc<Vault>, Failure> {
        match name {
            Some(name) => self.vault_called(name).await,
            None => self.vault().await,
        }
    }

    /// The vault of this name, or the first that answers, to write to: as it is now, also where it is read as it was.
    pub async fn writable(&self, name: Option<&str>) -> Result<Arc<Vault>, Failure> {
        match (self.global.as_of, name) {
            (None, None) => self.answering().await,
            (None, name) => self.vault_or_called(name).await,
            (Some(_), name) => {
                let (address, options) = self.way(name)?;
                let store = open(&address, &options).map_err(Failure::from)?;
                Ok(Arc::new(Vault::open(store, &self.unlock_of(name)?).await?))
            }
        }
    }

    /// What the vault of this name (the first, if none is said) keeps of a source.
    pub fn retention(&self, vault: Option<&str>, source: &SourceName) -> Result<Option<Retention>, Failure> {
        let of_vault = match vault {
            Some(name) => &self.vault_settings(name)?.retention,
            None => &self.settings.vault.retention,
        };
        Ok(of_vault.clone().or_else(|| self.settings.retention_of(source)))
    }

    /// Writes a secret to a new file that only its owner can read.
    pub fn write_secret(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| {
            let written = file.write_all(bytes).and_then(|()| file.sync_all());
            // Half a file would stand in the way of the next try.
            written.inspect_err(|_| drop(std::fs::remove_file(path)))
        });
        written.map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::AlreadyExists => "nothing is overwritten: name another file",
                ErrorKind::StorageFull => {
                    "free space there and run the same command again, or name another file"
                }
                ErrorKind::NotFound => "make its folder first, or name another file",
                ErrorKind::PermissionDenied => "name a file in a folder that this user may write to",
                _ => "",
            };
            Failure::new(Code::Failed, format!("write {}: {error}", path.display())).hint(hint)
        })
    }

    /// A vault of the settings file, opened.
    pub async fn configured_vault(&self, settings: &VaultSettings) -> Result<Arc<Vault>, Failure> {
        match std::ptr::eq(settings, &self.settings.vault) && self.global.vault.is_none() {
            true => self.vault().await,
            false => self.further_vault(settings).await,
        }
    }

    /// A configured vault's store.
    pub fn store_of(&self, settings: &VaultSettings) -> Result<Arc<dyn Store>, Failure> {
        self.store_at(&self.url_of(settings)?, settings)
    }

    /// The store at `url`, reached as `settings` say; as it was, if that was asked for.
    fn store_at(&self, url: &str, settings: &VaultSettings) -> Result<Arc<dyn Store>, Failure> {
        let (address, options) = way_to(url, settings)?;
        let store = match self.global.as_of {
            Some(time) => open_as_of(&address, &options, time.0),
            None => open(&address, &options),
        };
        store.map_err(Failure::from)
    }

    /// What the store of the vault of this name (the first, if none is said) does by itself to keep objects; `None` for a
    /// folder.
    pub fn custody(&self, name: Option<&str>) -> Result<Option<Arc<dyn Custody>>, Failure> {
        let (address, options) = self.way(name)?;
        custody(&address, &options).map_err(Failure::from)
    }

    /// The same for a vault that was opened: only the first one, and only as it is now.
    pub fn custody_of(&self, vault: &Vault) -> Result<Option<Arc<dyn Custody>>, Failure> {
        match self.global.as_of.is_none() && self.is_first(vault) {
            true => self.custody(None),
            false => Ok(None),
        }
    }

    /// Whether a vault that was opened is the first one, and none that stands in for it.
    pub fn is_first(&self, vault: &Vault) -> bool {
        self.store().is_ok_and(|store| store.place() == vault.place())
    }

    /// What stands before every key of that vault in its bucket; `None` for a folder.
    pub fn bucket_prefix(&self, name: Option<&str>) -> Result<Option<String>, Failure> {
        Ok(match self.way(name)?.0 {
            StoreAddress::Folder(_) => None,
            StoreAddress::Bucket { prefix, .. } => Some(prefix),
        })
    }

    /// Where the vault of this name is, or the first, and how it is spoken to.
    fn way(&self, name: Option<&str>) -> Result<(StoreAddress, StoreOptions), Failure> {
        let settings = self.named_settings(name)?;
        let url = if name.is_some() { self.url_of(settings)? } else { self.url()? };
        way_to(&url, settings)
    }

    /// What the vault of this name keeps, of whichever source.
    pub fn retentions(&self, name: Option<&str>) -> Result<Vec<Retention>, Failure> {
        let sources: Vec<&SourceName> = self.settings.sources.keys().collect();
        let mut found = Vec::new();
        for source in sources {
            found.extend(self.retention(name, source)?);
        }
        Ok(found)
    }

    /// Every vault as plans see it, the first one first.
    pub fn vault_policies(&self) -> Vec<VaultPolicy> {
        let further = self.settings.further.iter().map(|settings| (called(settings), settings));
        let main = &self.settings.vault;
        let first = (main.name.clone().unwrap_or_else(|| MAIN.to_owned()), main);
        let policy = |(name, settings): (String, &VaultSettings)| VaultPolicy {
            name,
            retention: settings.retention.clone(),
            lifecycle: settings.lifecycle.clone(),
            lock_days: settings.lock.as_ref().map(LockSettings::days),
            packs: settings.classes.packs,
        };
        std::iter::once(first).chain(further).map(policy).collect()
    }

    /// The settings of the vault of this name, or of the first.
    pub fn named_settings(&self, name: Option<&str>) -> Result<&VaultSettings, Failure> {
        name.map_or(Ok(&self.settings.vault), |name| self.vault_settings(name))
    }

    fn url_of(&self, settings: &VaultSettings) -> Result<String, Failure> {
        let url = settings.url.as_ref().map(|url| self.url_beside_file(url));
        Ok(url.ok_or_else(|| SettingsError::Missing("an [[also]] vault has no url".into()))?)
    }

    /// Every vault that WAL goes to, the main one first; each opened, or why not. What is opened stays open.
    pub async fn journal_vaults(&self) -> Vec<Result<Arc<Vault>, Failure>> {
        let mut vaults = Vec::new();
        for number in 0..self.journal_places() {
            vaults.push(match self.opened(number) {
                Some(vault) => Ok(vault),
                None => self.open_journal_vault(number).await,
            });
        }
        vaults
    }

    fn opened(&self, number: usize) -> Option<Arc<Vault>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    async fn open_journal_vault(&self, number: usize) -> Result<Arc<Vault>, Failure> {
        let further = number.checked_sub(1).and_then(|further| self.settings.further.get(further));
        let vault = match further {
            Some(settings) => self.further_vault(settings).await?,
            None => self.vault().await?,
        };
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(number, vault.clone());
        Ok(vault)
    }

    /// Opens this vault anew the next time: it may be gone, or have come back as another.
    pub fn close_journal_vault(&self, number: usize) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// How many vaults WAL may come from.
    pub fn journal_places(&self) -> usize {
        1 + self.settings.further.len()
    }

    /// The `n`th of them, opened when it is asked for. Recovery asks once per segment: one that is silent is asked for a
    /// shorter time while there is another to ask, which never makes a file count as absent.
    pub async fn journal_vault(&self, n: usize) -> Result<Arc<Vault>, Failure> {
        if let Some(vault) = self.opened(n) {
            return Ok(vault);
        }
        let opened = self.open_journal_vault(n);
        if self.journal_places() == 1 {
            return opened.await;
        }
        let further = n.checked_sub(1).and_then(|further| self.settings.further.get(further));
        let silent = |_| {
            let flag = self.global.vault.clone().filter(|_| further.is_none());
            let place = flag.unwrap_or_else(|| called(further.unwrap_or(&self.settings.vault)));
            let failure =
                Failure::new(Code::Store, format!("open vault {place}: it does not answer in time"));
            failure.hint(
                "is it up and reachable? If it is gone for good, take it out of the settings (docs/runbook/copy.md)",
            )
        };
        tokio::time::timeout(FETCH_PATIENCE, opened).await.map_err(silent)?
    }

    /// An `[[also]]` vault, opened.
    pub async fn further_vault(&self, settings: &VaultSettings) -> Result<Arc<Vault>, Failure> {
        let mut unlock = self.unlock(settings, (None, None))?;
        if unlock.passphrase.is_none() {
            // What is given for the main vault may fit here, too, but never instead of this one's own.
            unlock.passphrase = self.given_passphrase()?;
        }
        unlock.kms = self.kms_of(settings, false)?;
        Ok(self.noted(Vault::open(self.store_of(settings)?, &unlock).await?.into()))
    }

    /// The source that was named, or the only one.
    pub fn source(&self, named: Option<&SourceName>) -> Result<SourceName, Failure> {
        Ok(self.settings.source(named)?)
    }

    /// The same, for what concerns WAL: a source that is dumped has none.
    pub fn source_with_wal(&self, named: Option<&SourceName>) -> Result<SourceName, Failure> {
        let source = self.source(named)?;
        let kind = self.settings.sources.get(&source).map(|settings| settings.kind);
        if kind == Some(SourceKind::PostgresLogical) { Err(dumped(&source)) } else { Ok(source) }
    }

    fn source_settings(&self, source: &SourceName) -> Result<&SourceSettings, Failure> {
        let missing =
            || SettingsError::Missing(format!("source {source} is not configured: add [source.{source}]"));
        Ok(self.settings.sources.get(source).ok_or_else(missing)?)
    }

    /// A connection string, filled up from libpq's environment; `key` is where it was written.
    pub fn conninfo(&self, key: &str, text: &str) -> Result<Conninfo, Failure> {
        Conninfo::read(text, &variable).map_err(|error| Failure::from(error).under(key))
    }

    /// How to connect to a configured source. Of one that is dumped the variables of backup scripts say what the file does not.
    pub fn conninfo_of(&self, source: &SourceName) -> Result<Conninfo, Failure> {
        let settings = self.source_settings(source)?;
        let key = format!("connection of source {source}");
        let conninfo = match settings.kind {
            SourceKind::Postgres => self.conninfo(&key, &settings.connection)?,
            SourceKind::PostgresLogical => {
                let read = conventions::connection(&settings.connection, Defaults::Libpq, &variable);
                read.map_err(|error| Failure::from(error).under(&key))?
            }
        };
        self.with_password(conninfo, source, settings)
    }

    /// The same with the password that the source's settings refer to, if they do.
    fn with_password(
        &self,
        conninfo: Conninfo,
        source: &SourceName,
        settings: &SourceSettings,
    ) -> Result<Conninfo, Failure> {
        let Some(reference) = &settings.password else { return Ok(conninfo) };
        let reference = reference.beside(|path| self.beside_file(path));
        kept(conninfo, reference).map_err(|failure| failure.under(&format!("source {source}")))
    }

    /// The engine of a configured source that is dumped; `None` if its files are backed up.
    pub fn dump_engine(&self, source: &SourceName) -> Result<Option<Box<dyn DumpEngine>>, Failure> {
        let Some(settings) = self.settings.sources.get(source) else { return Ok(None) };
        if settings.kind == SourceKind::Postgres {
            return Ok(None);
        }
        let of_files = [
            ("data_directory", settings.data_directory.is_some()),
            ("primary", settings.primary.is_some()),
            ("access", settings.access != SourceAccess::Auto),
        ];
        if let Some((key, _)) = of_files.iter().find(|(_, is_set)| *is_set) {
            let what = format!("{key} of source {source} concerns files, and this source is dumped");
            return Err(Failure::new(Code::Settings, what).hint("leave it out"));
        }
        Ok(Some(Box::new(Logical::new(self.conninfo_of(source)?, self.programs(None)))))
    }

    /// Where PostgreSQL's programs are: flag, else its variable, else file, else wherever packages put them.
    pub fn programs(&self, flag: Option<&Path>) -> Programs {
        let of_variable = || variable(PROGRAMS).map(PathBuf::from);
        let of_file = || self.settings.postgres.programs.as_ref().map(|path| self.beside_file(path));
        Programs { folder: flag.map(Path::to_owned).or_else(of_variable).or_else(of_file) }
    }

    /// The engine of a configured source.
    pub fn engine(&self, source: &SourceName) -> Result<Physical, Failure> {
        self.engine_with(source, None)
    }

    /// The same, its files had in another way than the settings say.
    pub fn engine_with(
        &self,
        source: &SourceName,
        access: Option<SourceAccess>,
    ) -> Result<Physical, Failure> {
        let settings = self.source_settings(source)?;
        let conninfo = self.conninfo_of(source)?;
        let primary = settings.primary.as_deref();
        let read = |text| {
            let conninfo = self.conninfo(&format!("primary of source {source}"), text)?;
            self.with_password(conninfo, source, settings)
        };
        let primary = primary.map(read).transpose()?;
        match settings.kind {
            SourceKind::Postgres => {
                let access = access.unwrap_or(settings.access).into();
                let directory = settings.data_directory.clone();
                Ok(Physical::new(conninfo, directory, access).with_primary(primary))
            }
            SourceKind::PostgresLogical => Err(dumped(source)),
        }
    }

    /// The flags that say to another process of this binary what settings and flags said to this one.
    pub fn own_words(&self) -> Result<Vec<String>, Failure> {
        let config = self.settings.path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let mut words: Vec<String> = Vec::new();
        words.extend(config.into_iter().flat_map(|path| ["--config".to_owned(), path]));
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let referred = self.referred_passphrase()?.map(|reference| reference.beside(whole));
        let file = self.passphrase_file().filter(|_| referred.is_none());
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
            ("--as-of", self.global.as_of.map(|time| time.to_string())),
            ("--kms-key", self.global.kms_key.clone()),
            ("--transit-key", self.global.transit_key.clone()),
            ("--identity-file", absolute(self.global.identity_file.as_deref())),
            ("--passphrase", referred.map(|reference| reference.as_written())),
            ("--passphrase-file", absolute(file.as_deref())),
        ];
        words.extend(
            flags.into_iter().flat_map(|(flag, value)| value.map(|value| [flag.to_owned(), value])).flatten(),
        );
        Ok(words)
    }

    /// This binary, called for `source` with the same settings: for `archive_command` and `restore_command`.
    pub fn command(&self, verb: &[&str], source: &SourceName, placeholders: &str) -> Result<String, Failure> {
        let binary = std::env::current_exe()
            .map_err(|error| Failure::new(Code::Failed, format!("find this binary's own path: {error}")))?;
        let mut words = self.own_words()?;
        words.extend(verb.iter().map(ToString::to_string));
        words.extend(["--source".to_owned(), source.to_string()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(command(&binary, &words, placeholders))
    }
}

/// A source that has neither files nor WAL.
fn dumped(source: &SourceName) -> Failure {
    let what = format!("source {source} is dumped: a dump shows one moment, and no WAL leads on from it");
    let hint = "back up the server's files and WAL as a source of another name, with kind = \"postgres\"";
    Failure::new(Code::Settings, what).hint(hint)
}

/// What a person calls a configured vault.
pub fn called(settings: &VaultSettings) -> String {
    settings.name.clone().or_else(|| settings.url.clone()).unwrap_or_else(|| MAIN.to_owned())
}

/// Where `url` is, and how `settings` say to reach it.
fn way_to(url: &str, settings: &VaultSettings) -> Result<(StoreAddress, StoreOptions), Failure> {
    let address =
        StoreAddress::parse(url).map_err(|error| Failure::new(Code::Settings, error.to_string()))?;
    let options = StoreOptions {
        endpoint: settings.endpoint.clone(),
        account: settings.account.clone(),
        region: settings.region.clone(),
        path_style: settings.path_style,
        allow_http: settings.allow_http,
        profile: settings.profile.clone(),
        manner: settings.manner(),
    };
    Ok((address, options))
}

/// A connection whose password is where the reference says, now and whenever a server refuses it.
pub fn kept(conninfo: Conninfo, reference: Reference) -> Result<Conninfo, Failure> {
    let read = move || reference.read().map_err(Into::into);
    Ok(conninfo.with_password(Arc::new(read))?)
}

/// A variable of this process.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn absolute(path: Option<&Path>) -> Option<String> {
    let path = path?;
    Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned())
}
