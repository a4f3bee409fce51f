//! The server of a drill that restores files.
//!
//! ```text
//! new: programs, user, guard ▶ target (the caller restores into it) ▶ prepare: settings ▶ options (the caller starts it) ▶ checks
//! ▶ stop ▶ page checksums ▶ end: gone, or leave: runs on
//! ```
//!
//! **Invariants**
//! - Its settings are ours alone: what the source's files say of addresses, archiving, logs, files elsewhere and memory does not
//!   count, and neither does what of that `ALTER SYSTEM` left, for the command line outweighs it. Of the source's settings only
//!   the libraries are taken that are on this host.
//! - What a link of the source's led to outside its data is restored into the drill's folder: the source's own is not written to.

#![allow(clippy::disallowed_methods, reason = "runs the server's own programs")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use strongroom_engine::EngineError;
use strongroom_model::Cx;
use strongroom_model::drill::Answer;
use strongroom_model::entry::{Entry, EntryKind, EntryPath};
use tokio::process::Command;

use crate::drill::checks::shortened;
use crate::drill::libraries::Libraries;
use crate::drill::place::DrillPlace;
use crate::drill::subject::Subject;
use crate::facts::PostgresFacts;
use crate::files::may_be_linked;
use crate::guard::{Guard, as_user};
use crate::launch::{LaunchError, pg_ctl};
use crate::logical::program::Program;
use crate::logical::scratch::user;
use crate::quote::quoted_string;
use crate::recovery::shell_word;
use crate::target::{FolderTarget, OwnerPolicy, TargetOptions};
use crate::version::Major;

/// What the file of settings begins with; whatever a source needs besides is added behind. The limits are wide: a server in
/// recovery takes over all prepared transactions with their locks.
const SETTINGS: &str = "\
lc_messages = 'C'
log_destination = 'stderr'
logging_collector = off
shared_buffers = '128MB'
max_connections = 50
max_prepared_transactions = 100
max_locks_per_transaction = 256
max_logical_replication_workers = 0
autovacuum = off
";

/// What nothing may outweigh, on the command line.
const FIXED: [(&str, &str); 10] = [
    ("listen_addresses", ""),
    ("port", "5432"),
    ("archive_mode", "off"),
    ("hot_standby", "off"),
    ("max_logical_replication_workers", "0"),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("ssl", "off"),
    ("logging_collector", "off"),
    ("external_pid_file", ""),
];

/// How long a server may take to stop: its last checkpoint writes what replay left in memory.
const STOPS_WITHIN_S: &str = "3600";

/// A drill's server, from the empty folder to its end.
pub struct FilesServer {
    subject: Subject,
    /// The version of programs and data.
    pub major: Major,
    data: PathBuf,
    folder: PathBuf,
    pg_ctl: PathBuf,
    user: Option<(u32, u32)>,
    guard: Guard,
    options: String,
}

impl FilesServer {
    /// One for data of this version in the drill's folder; nothing is in it yet. From here on the guard watches.
    pub fn new(place: &DrillPlace, major: Major, superuser: &str) -> Result<FilesServer, EngineError> {
        let (pg_ctl, user) = (pg_ctl(major).map_err(unfit)?, user()?);
        let (data, socket) = (place.make_folder("data", user)?, place.make_folder("socket", user)?);
        let guard = Guard::watch(&pg_ctl, (&data, place.folder()), user);
        let guard = guard.map_err(|source| EngineError::io("run", "/bin/sh", source))?;
        let programs = pg_ctl.parent().map(Path::to_owned).unwrap_or_default();
        let subject = Subject::new(&socket, superuser, (&programs, major.number()), place.id());
        let folder = place.folder().to_owned();
        Ok(FilesServer { subject, major, data, folder, pg_ctl, user, guard, options: String::new() })
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The server, to be asked once it runs.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What its programs are told; empty before [`FilesServer::prepare`].
    pub fn options(&self) -> &str {
        &self.options
    }

    /// Where to restore to. `links` are those of the point's entries that lead out of the data directory.
    pub fn target(
        &self,
        place: &DrillPlace,
        facts: &PostgresFacts,
        links: &[EntryPath],
    ) -> Result<FolderTarget, EngineError> {
        let inside = |folder: &str, name: String| -> Result<PathBuf, EngineError> {
            place.make_folder(&format!("{folder}/{name}"), self.user)
        };
        // What is in them is made by us; who owns it must get through.
        for folder in ["tablespaces", "links"] {
            place.make_folder(folder, self.user)?;
        }
        let mut tablespaces = BTreeMap::new();
        for space in &facts.tablespaces {
            tablespaces.insert(space.oid, inside("tablespaces", space.oid.to_string())?);
        }
        let mut elsewhere = BTreeMap::new();
        for (number, path) in links.iter().enumerate() {
            elsewhere.insert(path.clone(), inside("links", number.to_string())?);
        }
        let owner = self.user.map_or(OwnerPolicy::Ourselves, |(uid, gid)| OwnerPolicy::Numbers { uid, gid });
        let options = TargetOptions { tablespaces, links: elsewhere, owner, ..TargetOptions::default() };
        Ok(FolderTarget::create(&self.data, options)?)
    }

    /// Writes its settings, with further ones of the user's, once its data are there; which libraries it loads.
    pub fn prepare(
        &mut self,
        place: &DrillPlace,
        further: &BTreeMap<String, String>,
    ) -> Result<Libraries, EngineError> {
        let libraries = Libraries::of(&self.data, &self.subject.programs);
        let mut text = SETTINGS.to_owned();
        for (name, value) in further {
            text.push_str(&format!("{name} = {}\n", quoted_string(value)));
        }
        let settings = place.write("postgresql.conf", &text)?;
        // Nobody but its user gets to the socket.
        let hba = place.write("pg_hba.conf", "local all all trust\n")?;
        let ident = place.write("pg_ident.conf", "")?;
        let mut options = String::new();
        let mut option = |name: &str, value: &str| {
            options.push_str(&format!(" -c {}", shell_word(&format!("{name}={value}"))));
        };
        FIXED.iter().for_each(|(name, value)| option(name, value));
        if !further.contains_key("shared_preload_libraries") {
            option("shared_preload_libraries", &libraries.found.join(","));
        }
        for (name, path) in [
            ("config_file", settings.as_path()),
            ("hba_file", &hba),
            ("ident_file", &ident),
            ("data_directory", &self.data),
            ("unix_socket_directories", &self.subject.socket),
        ] {
            option(name, &path.to_string_lossy());
        }
        self.options = options.trim_start().to_owned();
        Ok(libraries)
    }

    /// Stops it cleanly.
    pub async fn stop(&self, cx: &Cx) -> Result<(), EngineError> {
        let (program, mut command) = self.control("stop");
        command.args(["-m", "fast", "-t", STOPS_WITHIN_S]);
        let object = self.data.display().to_string();
        Ok(program.run(cx, &mut command, &object).await.map(drop)?)
    }

    /// Every page's checksum, of a server that was stopped.
    pub async fn checksums(&self, cx: &Cx, facts: &PostgresFacts) -> Result<Answer, EngineError> {
        if !facts.data_checksums {
            return Ok(Answer::not_run("the cluster's pages have none (initdb --data-checksums)"));
        }
        let path = self.subject.program("pg_checksums");
        if !path.exists() {
            return Ok(Answer::not_run(format!("there is no {} on this host", path.display())));
        }
        let program = Program { name: "pg_checksums", path, major: self.major.number() };
        let mut command = as_user(program.on_files(), self.user);
        command.args(["--check", "-D"]).arg(&self.data);
        let (is_sound, said) = program.ask(cx, &mut command).await?;
        let said = shortened(&said);
        Ok(if is_sound { Answer::passed(said) } else { Answer::failed(said) })
    }

    /// Stops it in whatever state it is, and empties the folder as far as its user may.
    pub async fn end(self) {
        self.guard.end().await;
    }

    /// Starts it once more, and leaves it to itself; how to connect, and how to get rid of it.
    pub async fn leave(self, cx: &Cx) -> Result<Vec<String>, EngineError> {
        let (program, mut command) = self.control("start");
        let log = self.data.join("strongroom_recovery.log");
        command.arg("-l").arg(log).args(["-o", &self.options]);
        let object = self.data.display().to_string();
        program.run_detached(cx, &mut command, &object).await?;
        let failed = |source| EngineError::io("leave", &self.folder, source);
        self.guard.leave().await.map_err(failed)?;
        let connect = format!("connect: {}", self.subject.how_to_connect());
        Ok([vec![connect], self.subject.how_to_end(&self.data, &self.folder).to_vec()].concat())
    }

    fn control(&self, action: &str) -> (Program, Command) {
        let program = Program { name: "pg_ctl", path: self.pg_ctl.clone(), major: self.major.number() };
        let mut command = as_user(program.on_files(), self.user);
        command.args([action, "-w", "-s", "-D"]).arg(&self.data);
        (program, command)
    }
}

/// Whether an entry leads out of the data directory, and can be put elsewhere. Tablespaces have their own way.
pub fn leads_out(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Link(_)) && may_be_linked(&entry.path)
}

fn unfit(error: LaunchError) -> EngineError {
    EngineError::Unfit {
        what: error.to_string(),
        hint: "a drill starts what it restored: install that version here, or drill on a host that has it"
            .to_owned(),
    }
}
