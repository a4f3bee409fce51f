//! A server of our own, in a folder of its own, for as long as something is restored into it to be looked at.
//!
//! ```text
//! folder ▶ guard (waits for our end) ▶ initdb ▶ settings ▶ pg_ctl start ▶ …… ▶ our end of the pipe closes ▶ guard: stop, remove
//! ```
//!
//! **Invariants**
//! - The server never outlives us: a guard, a shell whose standard input we hold, stops it and removes its folder when that
//!   closes, whatever closed it: the end of the work, an error, Ctrl-C, `kill -9`.
//! - Nobody else reaches it: it listens on a socket in a folder that only its user may enter.

#![allow(clippy::disallowed_methods, reason = "makes a folder and starts programs in it")]

use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use strongroom_model::Cx;
use tokio::process::{Child, ChildStdin, Command};

use crate::conninfo::Conninfo;
use crate::logical::copying::unless_cancelled;
use crate::logical::failure::LogicalError;
use crate::logical::program::{Program, Programs};

/// Stops the server and removes the folder, once nobody holds the other end of its standard input.
const GUARD: &str =
    r#"read -r _; "$1" stop -D "$2/data" -m immediate -s -w >/dev/null 2>&1; cd / && rm -rf "$2""#;

/// Nothing in it must survive a crash, and it must take whatever a dump has.
const SETTINGS: &str = "\
listen_addresses = ''
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = '4GB'
maintenance_work_mem = '128MB'
max_locks_per_transaction = 1024
logging_collector = off
lc_messages = 'C'
";

/// Bytes of the log that an error quotes.
const QUOTED: usize = 2000;

/// A server that runs.
pub(crate) struct Scratch {
    folder: PathBuf,
    guard: Child,
    /// Held: the guard waits for its end.
    held: Option<ChildStdin>,
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
        parent: Option<&Path>,
    ) -> Result<Scratch, LogicalError> {
        let initdb = match at_least {
            Some(major) => programs.find("initdb", major).await?,
            None => programs.newest("initdb").await?,
        };
        let pg_ctl = programs.find("pg_ctl", initdb.major).await?;
        let user = user()?;
        let folder = make_folder(parent, user)?;
        let (guard, held) = guard(&pg_ctl, &folder, user)?;
        let scratch = Scratch { folder, guard, held, programs: programs.clone(), major: initdb.major };
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
        let settings = format!("{SETTINGS}unix_socket_directories = '{folder}'\n");
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
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let folder = self.folder.display().to_string();
        let text = format!(
            "host='{}' port=5432 user=postgres sslmode=disable dbname='{}'",
            quoted(&folder),
            quoted(database)
        );
        Conninfo::read(&text, &|_| None).map_err(|error| LogicalError::Malformed {
            what: "the scratch server's address".into(),
            why: error.to_string(),
        })
    }

    /// Stops it and waits until it and its folder are gone.
    pub(crate) async fn stop(mut self) {
        drop(self.held.take());
        // Whether it ended well changes nothing: it was asked, and there is no one else to ask.
        let _ = self.guard.wait().await;
    }
}

/// No server runs as root: then as `postgres`.
fn user() -> Result<Option<(u32, u32)>, LogicalError> {
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

fn guard(
    pg_ctl: &Program,
    folder: &Path,
    user: Option<(u32, u32)>,
) -> Result<(Child, Option<ChildStdin>), LogicalError> {
    let mut command = as_user(Command::new("/bin/sh"), user);
    command.args(["-c", GUARD, "guard"]).arg(&pg_ctl.path).arg(folder);
    // In a group of its own: Ctrl-C on a terminal is for us, and it hears of it by our end.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let spawned = command.spawn();
    let path = PathBuf::from("/bin/sh");
    let mut guard = spawned.map_err(|source| LogicalError::Io { operation: "run", path, source })?;
    let held = guard.stdin.take();
    Ok((guard, held))
}

fn as_user(mut command: Command, user: Option<(u32, u32)>) -> Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command.env("LC_ALL", "C").current_dir("/");
    command
}
