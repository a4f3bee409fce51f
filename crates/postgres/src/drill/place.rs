//! Where a drill restores to: a folder of its own in the scratch folder.
//!
//! ```text
//! <scratch>/strongroom-drill-<id>/
//!   strongroom_drill.json   whose it is; locked as long as the drill lives
//!   data/  socket/  tablespaces/<oid>/  links/<n>/  *.conf  log
//! ```
//!
//! **Invariants**
//! - Only what proves to be a dead drill's of this user goes: the folder and its mark are this user's, the mark names the folder,
//!   says that it is not to be kept, and nobody holds its lock, which the system takes away with the process, however it ended.
//! - The mark goes last: a removal that was cut short is gone on with by the next drill.
//! - The mark appears locked and whole, by a rename. A folder that never got so far is empty but for it, and is left alone.

#![allow(clippy::disallowed_methods, reason = "this module is where a drill's folder is made and removed")]

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use strongroom_engine::EngineError;
use strongroom_model::{Cx, SourceName, Timestamp};

use crate::target::place::running_server;

/// The mark's name.
pub const MARK: &str = "strongroom_drill.json";

/// How the names of these folders begin.
const PREFIX: &str = "strongroom-drill-";

/// The longest path of a socket (`sun_path`), without the zero behind it.
const LONGEST_SOCKET: usize = 107;

/// How often, and how long apart, a server that was told to stop is looked at.
const LOOKS: u32 = 600;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Whose a folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// As the folder's name says.
    id: String,
    /// For people: the lock tells whether it lives.
    pid: u32,
    /// For people.
    began_at: Timestamp,
    /// What is restored.
    source: SourceName,
    /// Somebody wants to look at it.
    kept: bool,
}

/// A drill's folder.
#[derive(Debug)]
pub struct DrillPlace {
    folder: PathBuf,
    mark: Mark,
    /// Held for its lock.
    _lock: File,
}

impl DrillPlace {
    /// Makes one in `scratch`, which is made if it is not there.
    pub fn make(cx: &Cx, scratch: &Path, source: &SourceName) -> Result<DrillPlace, EngineError> {
        std::fs::create_dir_all(scratch).map_err(|source| EngineError::io("create", scratch, source))?;
        let scratch = std::fs::canonicalize(scratch).map_err(|why| EngineError::io("open", scratch, why))?;
        let id = format!("{:08x}", u32::from_le_bytes(cx.random()));
        let folder = scratch.join(format!("{PREFIX}{id}"));
        let socket = folder.join("socket/.s.PGSQL.5432");
        if socket.as_os_str().len() > LONGEST_SOCKET {
            return Err(EngineError::Unfit {
                what: format!("make {}: no socket can have a path that long", socket.display()),
                hint: "name a scratch folder with a shorter path".to_owned(),
            });
        }
        // The server's user must get through; what is in it is for nobody else.
        let made = DirBuilder::new().mode(0o711).create(&folder);
        made.map_err(|source| EngineError::io("create", &folder, source))?;
        let (pid, began_at) = (std::process::id(), cx.now());
        let mark = Mark { id, pid, began_at, source: source.clone(), kept: false };
        let lock = set_mark(&folder, &mark)?;
        Ok(DrillPlace { folder, mark, _lock: lock })
    }

    /// Its name's own part: letters and digits.
    pub fn id(&self) -> &str {
        &self.mark.id
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes a folder in it that only this user may enter; nobody but ourselves, if `None`.
    pub(crate) fn make_folder(&self, name: &str, user: Option<(u32, u32)>) -> Result<PathBuf, EngineError> {
        let path = self.join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        let given = made.and_then(|()| match user {
            Some((uid, gid)) => chown(&path, Some(uid), Some(gid)),
            None => Ok(()),
        });
        given.map_err(|source| EngineError::io("create", &path, source))?;
        Ok(path)
    }

    /// Writes a file into it that everybody on this host may read.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, EngineError> {
        let path = self.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| EngineError::io("write", &path, source))?;
        Ok(path)
    }

    /// Removes it with everything in it. No server may run in it any more.
    pub fn remove(self) -> Result<(), EngineError> {
        empty_out(&self.folder)
    }

    /// Leaves it for somebody to look at. From here on only a person removes it.
    pub fn keep(self) -> Result<PathBuf, EngineError> {
        set_mark(&self.folder, &Mark { kept: true, ..self.mark })?;
        Ok(self.folder)
    }
}

/// Writes the mark, which appears whole and locked.
fn set_mark(folder: &Path, mark: &Mark) -> Result<File, EngineError> {
    let (new, path) = (folder.join("mark.new"), folder.join(MARK));
    // Strings and numbers, which JSON cannot refuse.
    let text = serde_json::to_vec(mark).unwrap_or_else(|why| unreachable!("a mark is not JSON: {why}"));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    let locked = file.and_then(|mut file| {
        file.write_all(&text)?;
        file.lock()?;
        std::fs::rename(&new, &path)?;
        Ok(file)
    });
    locked.map_err(|source| EngineError::io("write", &path, source))
}

/// Removes a folder, its mark last.
fn empty_out(folder: &Path) -> Result<(), EngineError> {
    let failed = |source| EngineError::io("remove", folder, source);
    let entries = match std::fs::read_dir(folder) {
        // The guard was faster.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name() == MARK {
            continue;
        }
        let removed = match entry.file_type().map_err(failed)?.is_dir() {
            true => std::fs::remove_dir_all(entry.path()),
            false => std::fs::remove_file(entry.path()),
        };
        gone(removed).map_err(|source| EngineError::io("remove", entry.path(), source))?;
    }
    gone(std::fs::remove_file(folder.join(MARK))).map_err(failed)?;
    gone(std::fs::remove_dir(folder)).map_err(failed)
}

fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes what dead drills of this user left in `scratch`; which folders that were. What cannot be removed is said, and left.
/// Blocks.
pub fn remove_leftovers(scratch: &Path) -> Vec<PathBuf> {
    // As the system names it: a server is known by where it works.
    let Ok(scratch) = std::fs::canonicalize(scratch) else { return Vec::new() };
    let entries = std::fs::read_dir(scratch).into_iter().flatten().flatten();
    let mut removed = Vec::new();
    for folder in entries.map(|entry| entry.path()) {
        let Some(_lock) = dead(&folder) else { continue };
        if let Err(why) = stop_server(&folder.join("data")) {
            tracing::warn!("a drill left {}, and it stays: {why}", folder.display());
            continue;
        }
        match empty_out(&folder) {
            Ok(()) => removed.push(folder),
            Err(error) => tracing::warn!("a drill left {}, and it stays: {error}", folder.display()),
        }
    }
    removed
}

/// The lock of a dead drill's mark; `None` if the folder does not prove to be one's.
fn dead(folder: &Path) -> Option<File> {
    let id = folder.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let me = rustix::process::geteuid().as_raw();
    let found = std::fs::symlink_metadata(folder).ok()?;
    if !found.is_dir() || found.uid() != me {
        return None;
    }
    let path = folder.join(MARK);
    let is_ours = |found: &std::fs::Metadata| found.is_file() && found.uid() == me;
    std::fs::symlink_metadata(&path).ok().filter(is_ours)?;
    let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
    let mark: Mark = serde_json::from_reader(&file).ok()?;
    if mark.id != id || mark.kept {
        return None;
    }
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(why)) => {
            tracing::warn!("whether the drill of {} lives is not known: {why}", folder.display());
            None
        }
    }
}

/// Stops the server that runs in `data`, if one does. A process that does not work there is none of ours.
fn stop_server(data: &Path) -> Result<(), &'static str> {
    let Some(server) = running_server(data) else { return Ok(()) };
    let works_in = |pid: Pid| std::fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
    match works_in(server) {
        Ok(there) if there == data => {}
        // Its number was given to somebody else.
        Ok(_) => return Ok(()),
        Err(_) => return Err("whether its server runs cannot be told"),
    }
    // Gone by itself meanwhile, or about to be.
    let _ = rustix::process::kill_process(server, Signal::QUIT);
    for _ in 0..LOOKS {
        if works_in(server).is_err() {
            return Ok(());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Err("its server does not stop")
}

#[cfg(test)]
mod tests;
