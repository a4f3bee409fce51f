//! From any error to what a person is told and what a script sees. The one table of exit codes and hints.

use serde::{Deserialize, Serialize};
use strongroom_catalog::CatalogError;
use strongroom_engine::EngineError;
use strongroom_model::foreign_plan::ImportError;
use strongroom_model::restore_plan::PlanError;
use strongroom_model::simulation::SimulationError;
use strongroom_ops::OpsError;
use strongroom_postgres::archive::ArchiveError;
use strongroom_postgres::conninfo::ConninfoError;
use strongroom_postgres::launch::LaunchError;
use strongroom_store::StoreError;
use strongroom_vault::VaultError;

use crate::secret::SecretError;
use crate::settings::SettingsError;

/// Exit codes: a promise (`docs/exit-codes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Code {
    /// It was done.
    Ok = 0,
    /// `wal fetch`: the vault says with authority that there is no such file.
    Absent = 1,
    /// Wrong words on the command line.
    Usage = 2,
    /// Settings are wrong or missing.
    Settings = 3,
    /// Done, and something was found that a person must look at.
    Problems = 4,
    /// The source cannot be reached, or something about it stands in the way.
    Source = 5,
    /// The store cannot be reached, refuses, or is full.
    Store = 6,
    /// Wrong key or passphrase, or no vault.
    Key = 7,
    /// An object of the vault is damaged or missing.
    Damaged = 8,
    /// Nothing can be restored as asked.
    NoRestore = 9,
    /// The target folder cannot be restored into.
    Target = 10,
    /// The vault is of a newer format.
    Newer = 11,
    /// Another cluster, or another file of the same name.
    Conflict = 12,
    /// The journal did not arrive.
    Journal = 13,
    /// Done, and not in every vault.
    Incomplete = 14,
    /// Restored, and a check of it failed.
    Unproven = 15,
    /// Restored and sound, and not within the time it may take.
    TooSlow = 16,
    /// Not done, for another reason.
    Failed = 20,
    /// A broken invariant of Strongroom's own.
    Bug = 101,
    /// Stopped on request.
    Cancelled = 130,
}

impl Code {
    /// As a word: `no-restore`.
    pub fn word(self) -> String {
        let word = serde_json::to_value(self).ok();
        word.as_ref().and_then(|word| word.as_str()).unwrap_or_default().to_owned()
    }

    /// Every code.
    #[cfg(test)]
    pub const ALL: [Code; 20] = [
        Code::Ok,
        Code::Absent,
        Code::Usage,
        Code::Settings,
        Code::Problems,
        Code::Source,
        Code::Store,
        Code::Key,
        Code::Damaged,
        Code::NoRestore,
        Code::Target,
        Code::Newer,
        Code::Conflict,
        Code::Journal,
        Code::Incomplete,
        Code::Unproven,
        Code::TooSlow,
        Code::Failed,
        Code::Bug,
        Code::Cancelled,
    ];
}

/// Why a command did not do what it was asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The kind, as exit code and as word.
    pub kind: Code,
    /// What happened: operation, object, place.
    pub message: String,
    /// What caused it, outermost first.
    pub causes: Vec<String>,
    /// The way out.
    pub hint: Option<String>,
    /// There is no vault at this place, and there may be one at another.
    #[serde(skip)]
    pub elsewhere: bool,
}

impl Failure {
    /// A failure with neither cause nor hint.
    pub fn new(kind: Code, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), causes: Vec::new(), hint: None, elsewhere: false }
    }

    /// With a way out.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into()).filter(|hint: &String| !hint.is_empty());
        self
    }

    /// A command line that clap refused, from what it would print: `error: …`, an empty line, tips and usage.
    pub fn of_usage(printed: &str) -> Failure {
        let mut parts = printed.trim_end().split("\n\n").map(str::trim);
        let message = parts.next().unwrap_or_default();
        let failure = Failure::new(Code::Usage, message.strip_prefix("error: ").unwrap_or(message));
        let hint: Vec<&str> = parts.filter(|part| !part.starts_with("For more information")).collect();
        match hint.is_empty() {
            true => failure.hint("see --help"),
            false => failure.hint(hint.join("; ").replace('\n', " ")),
        }
    }

    /// Whether another vault could do what this one could not: it is not there, does not answer, or is damaged.
    pub fn is_of_this_place(&self) -> bool {
        self.elsewhere || matches!(self.kind, Code::Store | Code::Damaged)
    }

    /// The same of what the settings, flags or environment say under `key`.
    pub fn under(self, key: &str) -> Failure {
        Failure { message: format!("{key}: {}", self.message), ..self }
    }

    /// All of it but the hint, for a log.
    pub fn on_one_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    fn of(kind: Code, error: &dyn std::error::Error) -> Failure {
        let mut failure = Failure::new(kind, error.to_string());
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if failure.causes.last() != Some(&text) && failure.message != text {
                failure.causes.push(text);
            }
            cause = error.source();
        }
        failure
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Failure {
        let failure = Failure::of(Code::Settings, &error);
        match error {
            SettingsError::Missing(_) => {
                failure.hint("set it in strongroom.toml, or see --help for the flag")
            }
            SettingsError::Wrong { suggestion: Some(meant), .. } => {
                failure.hint(format!("did you mean '{meant}'?"))
            }
            SettingsError::Read { .. } | SettingsError::Key { .. } => {
                failure.hint("is the path right, and may this user read it?")
            }
            SettingsError::Wrong { .. } => failure,
        }
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Failure {
        Failure::of(Code::Settings, &error).hint(error.hint())
    }
}

impl From<ConninfoError> for Failure {
    fn from(error: ConninfoError) -> Failure {
        Failure::of(Code::Settings, &error).hint(error.hint())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        // S3's word for an object that must be thawed first.
        let is_frozen = std::error::Error::source(&error)
            .is_some_and(|source| format!("{source:?}").contains("InvalidObjectState"));
        let hint = match &error {
            _ if is_frozen => "it is frozen: `strongroom thaw POINT` makes it readable for a while",
            StoreError::NotFound { .. } => "",
            StoreError::Denied { .. } => {
                "does this user, or these credentials, have the right to do that there?"
            }
            StoreError::Full { .. } => {
                "free space or raise the quota, then run the same command again: nothing is lost"
            }
            StoreError::Passing { .. } => {
                "is the store up and reachable? Run the same command again: nothing is lost"
            }
            StoreError::Broken { .. } => {
                "is the vault's url right, and its disk mounted? `strongroom doctor` tests it"
            }
        };
        Failure::of(Code::Store, &error).hint(hint)
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Failure {
        let (kind, hint) = match &error {
            LaunchError::NoPrograms { .. } => {
                (Code::Target, "the restored folder is whole: install that version, or start it yourself")
            }
            LaunchError::Root { .. } => {
                (Code::Target, "give the folder to the server's user with chown, then start it as that user")
            }
            LaunchError::Ended { .. } => (
                Code::NoRestore,
                "the folder stays as it is; the whole log is in it: strongroom_recovery.log",
            ),
            LaunchError::Astray { .. } => (
                Code::NoRestore,
                "the server runs, on another state than was asked for: stop it, and restore once more",
            ),
            LaunchError::Control(_) | LaunchError::Io { .. } => (Code::Target, ""),
            LaunchError::Cancelled(_) => (Code::Cancelled, "the server goes on recovering"),
        };
        Failure::of(kind, &error).hint(hint)
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Failure {
        let elsewhere = matches!(error, VaultError::NotAVault { .. });
        let (kind, hint) = match error {
            VaultError::Store(store) => return store.into(),
            VaultError::NotAVault { .. } => {
                (Code::Key, "is the url right? `strongroom init` makes a vault there")
            }
            VaultError::AlreadyAVault { .. } => (Code::Conflict, "use it as it is, or choose another url"),
            VaultError::VaultFile { .. } => {
                (Code::Damaged, "restore vault.json from a copy of the vault: nothing else is lost")
            }
            VaultError::Newer { .. } => (Code::Newer, "use a newer strongroom for this vault"),
            VaultError::Locked { .. } => (
                Code::Key,
                "set passphrase (env:NAME, file:/path, command:…) or identity_file in [vault], or STRONGROOM_PASSPHRASE in the environment",
            ),
            VaultError::WrongKey { .. } => {
                (Code::Key, "is this the key of this vault? `strongroom init` said where it was kept")
            }
            VaultError::AppendOnly { .. } => (
                Code::Key,
                "use a passphrase, identity or key service that opens the whole vault: `strongroom key list` names them",
            ),
            VaultError::Recipient(_) => (Code::Settings, ""),
            VaultError::Kms(_) => (
                Code::Key,
                "is the service up, and may these credentials use its key? Another recipient opens the vault without it",
            ),
            VaultError::LastRecipient { .. } => (
                Code::Conflict,
                "open the vault with the one that is to stay, or with both: --identity-file, --passphrase-file",
            ),
            VaultError::Damaged { .. } => (
                Code::Damaged,
                "`strongroom verify --data` names everything that is damaged, by object, file and page",
            ),
            VaultError::Missing { .. } => (
                Code::Damaged,
                "was something deleted behind Strongroom's back? `strongroom verify` lists what is lost",
            ),
            VaultError::Taken { .. } => (Code::Conflict, "do two vaults share this place?"),
            VaultError::JournalDiffers { .. } => (
                Code::Conflict,
                "are two clusters shipping under one source name, or was this one restored and promoted twice?",
            ),
            VaultError::LostDecision { .. } => (Code::Failed, "run the backup again"),
            VaultError::NoSuchPoint { .. } | VaultError::NotCommitted { .. } => {
                (Code::NoRestore, "`strongroom list` shows what can be restored")
            }
            VaultError::NotAReplica { .. } => (
                Code::Conflict,
                "objects are sealed for one id and key: make the target with `strongroom init --copy-of`",
            ),
            VaultError::SamePlace { .. } => {
                (Code::Conflict, "a second copy needs a second place: give the other vault another url")
            }
            VaultError::Condemned { .. } => (Code::Conflict, "run the copy again when it has ended"),
            VaultError::SweepStopped { .. } => (
                Code::Damaged,
                "`strongroom verify` names what does not read; repair it from a copy, or let its point expire",
            ),
            VaultError::TooLarge(_) => (Code::Failed, ""),
            VaultError::Crowded { .. } => (Code::Store, "run the same command again"),
            VaultError::Cancelled(_) => (Code::Cancelled, ""),
        };
        Failure { elsewhere, ..Failure::of(kind, &error).hint(hint) }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let kind = match &error {
            EngineError::Unreachable { .. } | EngineError::Unfit { .. } | EngineError::Overtaken { .. } => {
                Code::Source
            }
            EngineError::Damaged { .. } => Code::Damaged,
            EngineError::Io { .. } => Code::Failed,
            EngineError::Cancelled(_) => Code::Cancelled,
        };
        let hint = match &error {
            EngineError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "free space there, then go on with --delta (a restore), or empty the folder and start anew"
                    .to_owned()
            }
            EngineError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                "does this user have the right? Backups and restores run as the server's own user, or as root"
                    .to_owned()
            }
            other => other.hint().unwrap_or_default().to_owned(),
        };
        Failure::of(kind, &error).hint(hint)
    }
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Failure {
        let (kind, hint) = match error {
            OpsError::Vault(error) => return error.into(),
            OpsError::Engine(error) => return error.into(),
            OpsError::Archive(error) => return error.into(),
            OpsError::Plan(error) => return error.into(),
            OpsError::Launch(error) => return error.into(),
            OpsError::Choice(_) => (Code::NoRestore, "`strongroom list` shows what can be restored"),
            OpsError::Facts { .. } => (
                Code::Damaged,
                "was the point made by a newer strongroom? Use that one, or another point (--point)",
            ),
            OpsError::NoRoom { .. } => (
                Code::Target,
                "name a folder on a larger disk: --scratch, or scratch of [drill] in strongroom.toml",
            ),
            OpsError::OtherLineage { .. } => (
                Code::Conflict,
                "is this the right cluster for this source? After pg_upgrade or a new initdb: strongroom backup SOURCE --new-lineage",
            ),
            OpsError::JournalMissing { .. } => (
                Code::Journal,
                "is archive_command set to `strongroom wal push` and does it succeed, or does `strongroom wal receive` run? `strongroom doctor` looks; --wal-timeout waits longer",
            ),
            OpsError::Dumped { .. } => (
                Code::Conflict,
                "back up the server's files and WAL as a source of another name, and dump this one as it is",
            ),
            OpsError::NotDumped { .. } => {
                (Code::Conflict, "give what is to be dumped a source of its own, with another name")
            }
            OpsError::PartMissing { .. } => (
                Code::NoRestore,
                "`strongroom show POINT --output json` names its parts; choose another point with --point",
            ),
            OpsError::HistoryMissing { .. } => (
                Code::Journal,
                "ship it from the pg_wal of any server on that timeline: strongroom wal push PATH",
            ),
            OpsError::Retention(_) => (Code::Settings, "see docs/runbook/expire.md for what each rule keeps"),
            OpsError::PlanChanged { .. } => (Code::Conflict, "look at the new plan: run the command again"),
            OpsError::NotToLetGo { .. } => (
                Code::Conflict,
                "--point is for points that cannot be restored any more; retention lets go of the others",
            ),
            OpsError::BelowFloor { .. } => {
                (Code::Source, "is this an old primary that was left behind? Its timeline is no longer kept")
            }
            OpsError::ServerBehind { .. } => {
                (Code::Source, "is it a standby that lags? Receiving goes on when it has caught up")
            }
            OpsError::OtherTimeline { .. } => (
                Code::Source,
                "is this an old primary that was left behind? Name the new one in the source's connection",
            ),
            OpsError::UnknownRecipient(_) => (Code::Usage, "`strongroom key list` shows them"),
            OpsError::UnknownSource(_) => {
                (Code::Settings, "`strongroom list` shows the sources of this vault")
            }
            OpsError::LostPages { .. } => (
                Code::Damaged,
                "put them back with `strongroom verify --data --repair-from REPLICA`, or choose an older point (--point)",
            ),
            OpsError::Worker(_) => (Code::Bug, "please report this, with the message"),
            OpsError::Cancelled(_) => (Code::Cancelled, ""),
        };
        Failure::of(kind, &error).hint(hint)
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Failure {
        let (kind, hint) = match &error {
            CatalogError::Database(error) if error.is_passing() => {
                (Code::Failed, "is its server up, or its disk full? Jobs wait until it answers")
            }
            CatalogError::Database(_) => (
                Code::Failed,
                "is url in [catalog] right, and may this user read and write there? Without the file a new one is made from the vault",
            ),
            CatalogError::Newer { .. } => (Code::Newer, "use a newer strongroom with this catalog"),
            CatalogError::Unreadable { .. } => (
                Code::Damaged,
                "move the catalog away: a new one is made from the vault, and history is lost",
            ),
            CatalogError::NoSuchJob { .. } => (Code::Usage, "`strongroom jobs list` shows them"),
            CatalogError::NoSuchRequest { .. } => {
                (Code::Usage, "the list of requests has those that there are")
            }
            CatalogError::Decided { .. } => (Code::Conflict, "ask for it once more if it is still wanted"),
            CatalogError::OwnRequest { .. } => {
                (Code::Conflict, "have another operator or admin sign in and agree")
            }
            CatalogError::OtherOrder { .. } => (Code::Conflict, "use another key for another order"),
            CatalogError::NotNow { .. } => (
                Code::Conflict,
                "what waits or runs can be cancelled; what failed, or was cancelled, missed or expired, can be retried",
            ),
        };
        Failure::of(kind, &error).hint(hint)
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Failure {
        let hint = match &error {
            PlanError::NoPoint => "take one: strongroom backup",
            PlanError::Dump(_) => "restore it into a database, or choose another source or point",
            PlanError::NoJournal { .. } => {
                "choose a time with --at: the newest dump from before it is taken; files and WAL restore to any second"
            }
            PlanError::NotADump(_) => "restore it into a folder with --to, or choose another source or point",
            PlanError::Timeline { .. } => {
                "choose a timeline with --timeline current or --timeline N, or an older point with --point"
            }
            PlanError::Inconsistent { .. } => {
                "ship the missing segment from a server's pg_wal, or choose another point with --point"
            }
            PlanError::NotRestorable(_) | PlanError::TooEarly { .. } | PlanError::TooLate { .. } => {
                "`strongroom list` shows what can be restored"
            }
        };
        Failure::of(Code::NoRestore, &error).hint(hint)
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Failure {
        let hint = match &error {
            ImportError::Json(_) | ImportError::Unknown => {
                "`aws backup get-backup-plan --backup-plan-id ID` prints a plan as it is read here"
            }
            ImportError::OnlySelections => "`aws backup get-backup-plan --backup-plan-id ID` prints it",
            ImportError::Aws(_) => "",
            ImportError::Schedule { .. } => "docs/plans.md says how schedules are written",
        };
        Failure::of(Code::Settings, &error).hint(hint)
    }
}

impl From<SimulationError> for Failure {
    fn from(error: SimulationError) -> Failure {
        let hint = match &error {
            SimulationError::TooManyRuns => "say fewer with --days, or --source and a plan",
            SimulationError::Retention(_) => "see docs/runbook/expire.md for what each rule keeps",
        };
        Failure::of(Code::Settings, &error).hint(hint)
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Failure {
        let (kind, hint) = match &error {
            ArchiveError::Name(_) => (Code::Usage, "archive_command passes %p, restore_command %f and %p"),
            ArchiveError::Io { .. } => (Code::Failed, ""),
            ArchiveError::Homeless { .. } => {
                (Code::Source, "push files from where the server keeps them: DATA_DIRECTORY/pg_wal/…")
            }
            ArchiveError::Wrong { .. } | ArchiveError::Size { .. } => (Code::Damaged, ""),
        };
        Failure::of(kind, &error).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page is the promise: every code is on it, with its word, and nothing else is.
    #[test]
    fn the_page_of_exit_codes_is_the_table() {
        let page = include_str!("../../../docs/exit-codes.md");
        let rows: Vec<(u8, String)> = page
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
                Some((cells.next()?.parse().ok()?, cells.next()?.to_owned()))
            })
            .collect();
        let word = |code: &Code| serde_json::to_value(code).unwrap().as_str().unwrap().to_owned();
        let table: Vec<(u8, String)> = Code::ALL.iter().map(|code| (*code as u8, word(code))).collect();
        assert_eq!(rows, table);
    }

    #[test]
    fn a_refused_command_line_keeps_its_message_and_its_tips() {
        let printed = "error: unrecognized subcommand 'lst'\n\n  tip: a similar subcommand exists: 'list'\n\n\
                       Usage: strongroom [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.\n";
        let failure = Failure::of_usage(printed);
        assert_eq!(failure.message, "unrecognized subcommand 'lst'");
        assert_eq!(
            failure.hint.as_deref(),
            Some("tip: a similar subcommand exists: 'list'; Usage: strongroom [OPTIONS] <COMMAND>")
        );
    }
}
