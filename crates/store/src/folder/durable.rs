//! Files and folders that are still there after a power cut, once these functions have returned.
//!
//! **Invariants**
//! - A file is fsynced before it gets its name. The folder that holds the name, and every folder between it and the
//!   vault's root that has not long been there, is fsynced before anyone is told that the object is there.
//! - Modes do not depend on the umask: 0700 and 0600. A vault is its owner's alone.
//!
//! A crash may leave a file among the unfinished ones, never half an object under a key.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use crate::port::Body;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Bodies from this size on are written past the page cache.
const DIRECT_FROM: u64 = 1 << 20;

/// Bytes of a direct write (larger ones were no faster), and what its memory and offset are aligned to: enough for
/// any disk.
const DIRECT_CHUNK: usize = 1 << 20;
const ALIGNMENT: usize = 4096;

/// A folder this old has reached the disk by itself, whoever made it: Linux writes back what is older than 30 s, and its
/// file systems close a transaction every 5 s (the defaults; with room for a slow disk).
const SETTLED: Duration = Duration::from_secs(120);

/// Folders whose names are known to be durable, so that this is seen to once in a process and not at every put.
///
/// That a folder is there is not enough: another process may have made it just now and not have come to its fsync,
/// and what is put into it would go with it. Looking at its age keeps `wal push`, a process per segment, from an fsync
/// for every folder above it: 20 ms on a busy disk.
#[derive(Debug, Default)]
pub(super) struct Folders {
    durable: Mutex<HashSet<PathBuf>>,
}

impl Folders {
    /// Makes `folder`, and what it lies in, durably. Above `root` only what is missing is ours to see to.
    pub(super) fn make(&self, root: &Path, folder: &Path) -> io::Result<()> {
        let mut unsure = Vec::new();
        for folder in folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty()) {
            let there = match fs::metadata(folder) {
                Ok(facts) => {
                    let below_root = folder != root && folder.starts_with(root);
                    // What is durable lies in something durable.
                    if !below_root || self.durable().contains(folder) || is_settled(&facts) {
                        break;
                    }
                    true
                }
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            unsure.push((folder, there));
        }
        for (folder, there) in unsure.into_iter().rev() {
            if !there {
                make_folder(folder)?;
            }
            sync_folder(parent(folder))?;
            self.durable().insert(folder.to_owned());
        }
        Ok(())
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the folder has been there long enough. Where a file system does not say, or says nonsense, it has not.
fn is_settled(facts: &fs::Metadata) -> bool {
    facts.created().is_ok_and(|made| made.elapsed().is_ok_and(|age| age > SETTLED))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE)),
        // Somebody else needs it too.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems know no fsync of a folder, and need none; PostgreSQL goes on there as well.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::BADF)) => Ok(()),
        outcome => outcome,
    }
}

/// How an object got its name, or did not.
pub(super) enum Placed {
    /// The name was free; the unfinished file is still there under its own.
    Linked,
    /// The name was free, and the unfinished file has it now.
    Renamed,
    /// The name is taken.
    Taken,
}

/// Gives the file `unfinished` the name `path` if nothing has it.
pub(super) fn place(unfinished: &Path, path: &Path) -> io::Result<Placed> {
    let error = match fs::hard_link(unfinished, path) {
        Ok(()) => return Ok(Placed::Linked),
        Err(error) => error,
    };
    match Errno::from_io_error(&error) {
        Some(Errno::EXIST) => Ok(Placed::Taken),
        // File systems without hard links (exFAT, some network mounts) have an exclusive rename at best.
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
            let (folder, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::NOREPLACE);
            match rustix::fs::renameat_with(folder, unfinished, folder, path, flags) {
                Ok(()) => Ok(Placed::Renamed),
                Err(Errno::EXIST) => Ok(Placed::Taken),
                Err(_) => Err(error),
            }
        }
        _ => Err(error),
    }
}

/// A name no other writer uses, in this process or any other on any host: the process number, a count, and the time.
pub(super) fn unfinished_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{count}-{:x}", std::process::id(), now.as_nanos())
}

/// Writes `body` to the new file `path` and fsyncs it.
pub(super) fn write(path: &Path, body: &Body) -> io::Result<()> {
    let direct = if body.len() >= DIRECT_FROM { write_direct(path, body)? } else { Wrote::Nothing };
    match direct {
        Wrote::Everything => Ok(()),
        Wrote::Nothing => {
            let mut file = new_file(path, 0)?;
            for part in body.parts() {
                file.write_all(part)?;
            }
            file.sync_all()
        }
    }
}

enum Wrote {
    Everything,
    Nothing,
}

/// Writes past the page cache; `Nothing` where the file system cannot.
fn write_direct(path: &Path, body: &Body) -> io::Result<Wrote> {
    let file = match new_file(path, rustix::fs::OFlags::DIRECT.bits() as i32) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            // Linux makes the file before it finds that it cannot open it so.
            return remove_if_there(path).map(|()| Wrote::Nothing);
        }
        Err(error) => return Err(error),
    };
    // Safe Rust has no aligned allocation: take more and use the aligned middle.
    let mut room = vec![0u8; DIRECT_CHUNK + ALIGNMENT];
    let shift = room.as_ptr().align_offset(ALIGNMENT);
    let chunk = &mut room[shift..shift + DIRECT_CHUNK];
    let (mut filled, mut at) = (0, 0u64);
    for part in body.parts() {
        let mut rest = &part[..];
        while !rest.is_empty() {
            let count = rest.len().min(DIRECT_CHUNK - filled);
            chunk[filled..filled + count].copy_from_slice(&rest[..count]);
            (filled, rest) = (filled + count, &rest[count..]);
            if filled == DIRECT_CHUNK {
                match file.write_all_at(chunk, at) {
                    // Opened but not writable so: some file systems say it only now.
                    Err(error) if at == 0 && error.kind() == ErrorKind::InvalidInput => {
                        return remove_if_there(path).map(|()| Wrote::Nothing);
                    }
                    other => other?,
                }
                (filled, at) = (0, at + DIRECT_CHUNK as u64);
            }
        }
    }
    // The tail is padded to the alignment, then cut off.
    let padded = filled.next_multiple_of(ALIGNMENT);
    chunk[filled..padded].fill(0);
    file.write_all_at(&chunk[..padded], at)?;
    file.set_len(at + filled as u64)?;
    file.sync_all()?;
    Ok(Wrote::Everything)
}

fn new_file(path: &Path, flags: i32) -> io::Result<File> {
    let file =
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).custom_flags(flags).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Removes a file that may already be gone.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
