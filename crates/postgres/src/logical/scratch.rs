//! A server of our own, in a folder of its own, for as long as something is restored into it to be looked at.
//!
//! ```text
//! folder ▶ guard (waits for our end) ▶ initdb ▶ settings ▶ pg_ctl start ▶ …… ▶ our end comes ▶ guard: stop, remove
//! ```
//!
//! **Invariants**
//! - The server does not outlive us, whatever ends us: its [`Guard`] stops it and removes its folder.
//! - Nobody else reaches it: it listens on a socket in a folder that only its user may enter.

#![allow(clippy::disallowed_methods, reason = "makes a folder and starts programs in it")]

use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use strongroom_model::Cx;

use crate::conninfo::Conninfo;
use crate::guard::{Guard, as_user};
use crate::logical::copying::unless_cancelled;
use crate::logical::failure::LogicalError;
use crate::logical::program::{Program, Programs};

/// It must take whatever a dump has, and nobody else may reach it.
const SETTINGS: &str = "\
listen_addresses = ''
wal_level = minimal
max_wal_senders = 0
max_wal_size = '4GB'
maintenance_work_mem = '128MB'
max_locks_per_transaction = 1024
logging_collector = off
lc_messages = 'C'
";

/// Nothing in it must survive a crash.
const HURRIED: &str = "\
fsync = off
synchronous_commit = off
full_page_writes = off
";

/// How much is at stake in a scratch server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// It is read once, and gone.
    Hurried,
    /// It is timed: what a server in earnest has to do, it does.
    InEarnest,
}

/// Bytes of the log that an error quotes.
const QUOTED: usize = 2000;

/// A server that runs.
pub(crate) struct Scratch {
    folder: PathBuf,
    guard: Guard,
    haste: Haste,
    /// Where programs are.
    pub(crate) programs: Programs,
    /// Its major version.
    pub(crate) major: u16,
}

impl Scratch {
    /// Makes a server of the lowest version that is at least this, or else of the newest one, and starts it. `parent` is the
    /// folder to make its folder in, the system's for temporary files if `None`.
    pub(crate) async fn start(
        cx: &Cx,
        programs: &Programs,
        at_least: Option<u16>,
        (parent, haste): (Option<&Path>, Haste),
    ) -> Result<Scratch, LogicalError> {
        let initdb = match at_least {
            Some(major) => programs.find("initdb", major).await?,
            None => programs.newest("initdb").await?,
        };
        let pg_ctl = programs.find("pg_ctl", initdb.major).await?;
        let user = user()?;
        let folder = make_folder(parent, user)?;
        let guard = Guard::watch(&pg_ctl.path, (&folder.join("data"), &folder), user);
        let path = PathBuf::from("/bin/sh");
        let guard = guard.map_err(|source| LogicalError::Io { operation: "run", path, source })?;
        let (programs, major) = (programs.clone(), initdb.major);
        let scratch = Scratch { folder, guard, haste, programs, major };
        match scratch.begin(cx, (&initdb, &pg_ctl), user).await {
            Ok(()) => Ok(scratch),
            Err(error) => {
                scratch.stop().await;
                Err(error)
            }
        }
    }

    async fn begin(
        &self,
        cx: &Cx,
        (initdb, pg_ctl): (&Program, &Program),
        user: Option<(u32, u32)>,
    ) -> Result<(), LogicalError> {
        let data = self.folder.join("data");
        let mut command = as_user(initdb.on_files(), user);
        command.arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "--auth=trust",
            "--no-locale",
            "-E",
            "UTF8",
            "-N",
        ]);
        initdb.run(cx, &mut command, "a scratch server").await?;
        let path = data.join("postgresql.auto.conf");
        let folder = self.folder.display().to_string().replace('\'', "''");
        let hurried = if self.haste == Haste::Hurried { HURRIED } else { "" };
        let settings = format!("{SETTINGS}{hurried}unix_socket_directories = '{folder}'\n");
        let written = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(settings.as_bytes()));
        written.map_err(|source| LogicalError::Io { operation: "write", path, source })?;
        let log = self.folder.join("log");
        let mut command = as_user(pg_ctl.on_files(), user);
        command.args(["start", "-w", "-s", "-D"]).arg(&data).arg("-l").arg(&log);
        // The server inherits them, and whoever reads a pipe to its end would wait for the server's.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let started = unless_cancelled(cx, command.status()).await?;
        let started = started.map_err(|source| LogicalError::Io {
            operation: "run",
            path: pg_ctl.path.clone(),
            source,
        })?;
        if !started.success() {
            let said = std::fs::read(&log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said[said.len().saturating_sub(QUOTED)..]).into_owned();
            return Err(LogicalError::Program {
                program: pg_ctl.name,
                object: "a scratch server".to_owned(),
                said: said.trim().replace('\n', " "),
            });
        }
        Ok(())
    }

    /// How to reach one of its databases.
    pub(crate) fn conninfo(&self, database: &str) -> Result<Conninfo, LogicalError> {
        let read = Conninfo::of_socket(&self.folder, "postgres", database);
        read.map_err(|error| LogicalError::Malformed {
            what: "the scratch server's address".into(),
            why: error.to_string(),
        })
    }

    /// The folder that everything of it is in, its socket as well.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops it and waits until it and its folder are gone.
    pub(crate) async fn stop(self) {
        self.guard.end().await;
    }

    /// Leaves it to itself, running; where its folder is.
    pub(crate) async fn leave(self) -> Result<PathBuf, LogicalError> {
        let path = self.folder;
        match self.guard.leave().await {
            Ok(()) => Ok(path),
            Err(source) => Err(LogicalError::Io { operation: "leave", path, source }),
        }
    }
}

/// No server runs as root: then as `postgres`.
pub(crate) fn user() -> Result<Option<(u32, u32)>, LogicalError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    match nix::unistd::User::from_name("postgres") {
        Ok(Some(user)) => Ok(Some((user.uid.as_raw(), user.gid.as_raw()))),
        _ => Err(LogicalError::NoUser),
    }
}

fn make_folder(parent: Option<&Path>, user: Option<(u32, u32)>) -> Result<PathBuf, LogicalError> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    let made = tempfile::Builder::new().prefix("strongroom-scratch-").tempdir_in(&parent);
    let made = made.and_then(|folder| {
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid))?;
        }
        // From here on the guard removes it.
        Ok(folder.keep())
    });
    made.map_err(|source| LogicalError::Io { operation: "create a folder in", path: parent, source })
}
