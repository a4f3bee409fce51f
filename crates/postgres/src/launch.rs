//! Starting a restored server, and watching its recovery by its own files: its control file and its log. No role, password or
//! connection is needed for that.
//!
//! That recovery reached its target the server says itself: since version 13 it ends with an error rather than promote before,
//! and the history of its new timeline says where it left the old one and why ([`crate::course`]), which is compared with what
//! was asked for. One that was shut down by the target's action has no new timeline: it got there, or would have said why not.

#![allow(clippy::disallowed_methods, reason = "starts a server and looks at its files")]

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use strongroom_model::{Cancelled, Cx, Lsn, Timeline};

use crate::control::{CONTROL_FILE, ClusterState, POISON, ReadControlError, read_stable};
use crate::course::{Course, Ended, Watch, ended};
use crate::target::place::running_server;
use crate::version::Major;

/// Where the server writes what it has to say, in its data directory.
const LOG: &str = "strongroom_recovery.log";

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long a server may take to write its process number.
const APPEARS_WITHIN: Duration = Duration::from_secs(60);

/// Lines of the log that an error quotes.
const QUOTED: usize = 8;

/// Why a restored server did not get where it should.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Its programs are not here.
    #[error("start the restored server: there is no pg_ctl of PostgreSQL {major}; looked in {looked}")]
    NoPrograms {
        /// Its version.
        major: Major,
        /// Where they would be.
        looked: String,
    },
    /// It cannot run as root.
    #[error("start the restored server: {} belongs to root, as which no server runs", data.display())]
    Root {
        /// Its data directory.
        data: PathBuf,
    },
    /// It stopped before its target.
    #[error("recovery in {} ended before its target", data.display())]
    Ended {
        /// Its data directory.
        data: PathBuf,
        /// The end of its log.
        #[source]
        log: LogTail,
    },
    /// It is in production, and did not come from where it should.
    #[error("recovery in {} ended at {ended} instead of at {wanted}", data.display())]
    Astray {
        /// Its data directory.
        data: PathBuf,
        /// Where it ended, and why.
        ended: Ended,
        /// What was asked for.
        wanted: String,
    },
    /// Its control file does not read.
    #[error(transparent)]
    Control(#[from] ReadControlError),
    /// The system refused.
    #[error("{operation} {object}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The user asked to stop watching. The server goes on.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// The end of a server's log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LogTail(String);

/// A server whose recovery reached its target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Launched {
    /// The timeline it is on now.
    pub timeline: Timeline,
    /// Its last checkpoint: replay got at least that far.
    pub checkpoint: Lsn,
    /// Where recovery ended and why, in the server's words; `None` if the target's action shut it down.
    pub ended: Option<Ended>,
    /// Whether it runs; the target's action may have shut it down.
    pub running: bool,
    /// What it said meanwhile.
    pub log: PathBuf,
    /// From its start until it was in production, in seconds.
    pub seconds: f64,
}

/// Starts the server in `data`, with further `options` of its own (`-p 5433`), and comes back when it reached its target. Blocks.
pub fn launch(
    cx: &Cx,
    data: &Path,
    (major, options): (Major, &str),
    course: &Course,
    environment: &[(&str, PathBuf)],
) -> Result<Launched, LaunchError> {
    let began = Instant::now();
    let (log, mut watch) = (data.join(LOG), Watch::new(course.begins));
    start(data, &log, (major, options), environment)?;
    loop {
        cx.check()?;
        std::thread::sleep(LOOK_AGAIN);
        // Before the control file: one that dies in between has not got there.
        let server = running_server(data);
        let (control, _) = read_stable(&data.join(CONTROL_FILE))?;
        let there = |running, ended| Launched {
            timeline: control.timeline,
            checkpoint: control.checkpoint,
            ended,
            running,
            log: log.clone(),
            seconds: began.elapsed().as_secs_f64(),
        };
        match (control.state, server) {
            // Still as it was restored: the source's own state, when it was copied.
            _ if control.checkpoint == POISON && server.is_some() => {}
            (ClusterState::InProduction, Some(_)) => {
                return Ok(there(true, checked_end(data, control.timeline, course)?));
            }
            // By `recovery_target_action = shutdown`, once the target was reached.
            (ClusterState::ShutDownInRecovery, None) => return Ok(there(false, None)),
            (_, None) => {
                return Err(LaunchError::Ended { data: data.to_owned(), log: tail(&log) });
            }
            (_, Some(server)) => {
                let at = control.min_recovery.map_or(control.checkpoint, |(lsn, _)| lsn);
                let reached = watch.look(data, server, course.segment_size, at);
                cx.progress.begin(&course.describe(reached), 0);
            }
        }
    }
}

/// Where the recovery ended that made this timeline; refused if that is not where it was to end.
fn checked_end(data: &Path, timeline: Timeline, course: &Course) -> Result<Option<Ended>, LaunchError> {
    // Until its first checkpoint there a control file may still name the timeline that was followed.
    let ended = if timeline > course.timeline { ended(data, timeline) } else { None };
    match ended {
        Some(ended) if !course.leads_to(&ended) => {
            Err(LaunchError::Astray { data: data.to_owned(), ended, wanted: course.target.to_string() })
        }
        ended => Ok(ended),
    }
}

fn start(
    data: &Path,
    log: &Path,
    (major, options): (Major, &str),
    environment: &[(&str, PathBuf)],
) -> Result<(), LaunchError> {
    let failed = |operation, object: String| move |source| LaunchError::Io { operation, object, source };
    let mut command = Command::new(pg_ctl(major)?);
    // Not waiting: how long recovery takes nobody knows.
    command.args(["start", "-s", "-W", "-D"]).arg(data).arg("-l").arg(log);
    if !options.is_empty() {
        command.args(["-o", options]);
    }
    // Root restores for others, and no server runs as root.
    if rustix::process::geteuid().is_root() {
        let owner = std::fs::metadata(data).map_err(failed("look at", data.display().to_string()))?;
        if owner.uid() == 0 {
            return Err(LaunchError::Root { data: data.to_owned() });
        }
        command.uid(owner.uid()).gid(owner.gid());
    }
    // The server inherits them, and whoever reads a pipe to its end would wait for the server's.
    let status = command
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(failed("run", format!("{command:?}")))?;
    let began = Instant::now();
    while status.success() && running_server(data).is_none() && began.elapsed() < APPEARS_WITHIN {
        // It came and went: to its target, or not.
        let has_begun =
            read_stable(&data.join(CONTROL_FILE)).is_ok_and(|(read, _)| read.checkpoint != POISON);
        if has_begun || log_has_fatal(log) {
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    match status.success() {
        true => Ok(()),
        false => Err(LaunchError::Ended { data: data.to_owned(), log: tail(log) }),
    }
}

/// The `pg_ctl` of this version, where packages put it and on `PATH`.
pub(crate) fn pg_ctl(major: Major) -> Result<PathBuf, LaunchError> {
    let usual = [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        usual.into_iter().map(PathBuf::from).chain(std::env::split_paths(&path)).collect();
    let is_it = |program: &PathBuf| {
        let said = Command::new(program).arg("--version").stdin(Stdio::null()).output();
        said.is_ok_and(|said| {
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            // `pg_ctl (PostgreSQL) 15.14 (Debian …)`, `18beta1`
            let version = said.split_whitespace().nth(2).unwrap_or_default();
            version.split(|c: char| !c.is_ascii_digit()).next() == Some(major.to_string().as_str())
        })
    };
    let found =
        folders.iter().map(|folder| folder.join("pg_ctl")).find(|program| program.exists() && is_it(program));
    found.ok_or_else(|| LaunchError::NoPrograms {
        major,
        looked: folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", "),
    })
}

fn log_has_fatal(log: &Path) -> bool {
    std::fs::read_to_string(log).is_ok_and(|text| text.contains("FATAL"))
}

fn tail(log: &Path) -> LogTail {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    LogTail(lines[lines.len().saturating_sub(QUOTED)..].join("\n"))
}
