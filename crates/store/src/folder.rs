//! A local folder as a store.
//!
//! ```text
//! put_new   .tmp/<name> ── write ── fsync ── link to its key ── fsync folders ── unlink .tmp/<name>
//! ```
//!
//! `link(2)` fails if the name is taken, so of any number of writers, in any number of processes, one wins and the
//! object appears whole or not at all. A writer that dies leaves a file in `.tmp`, which nobody reads and no later
//! writer minds.
//!
//! **Invariants**
//! - `Ok` and `Exists` are said only after the folder that holds the name was fsynced: both are taken as "it is
//!   durably there".
//! - A missing file is `NotFound` only while the vault's root is really there. An unmounted disk leaves an empty
//!   folder, or none, under the same path; that must never look like "no such WAL file", which ends a recovery.
//!   So, once `vault.json` exists, its absence turns every miss into an error.
//!
//! Large bodies are written past the page cache (`O_DIRECT`) where the file system can: a backup would otherwise push
//! the server's own pages out, and the fsync at the end costs several times the write (measured here: 1.5 GB/s
//! direct, 0.34 GB/s buffered and fsynced).

#![allow(
    clippy::disallowed_methods,
    reason = "this module is where a local vault's files are read and written"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::key::Key;
use crate::port::{Body, Head, Page, PutError, Store, StoreError};

/// Where unfinished objects are.
const TEMPORARY: &str = ".tmp";

/// The object that shows that the folder is the vault and not the empty place where it is mounted.
const MARKER: &str = "vault.json";

/// Objects of a page of a listing.
const PAGE: usize = 1000;

/// Bodies from this size on are written past the page cache.
const DIRECT_FROM: u64 = 1 << 20;

/// Bytes of a direct write, and what its memory and offset are aligned to: enough for any disk.
const DIRECT_CHUNK: usize = 1 << 20;
const ALIGNMENT: usize = 4096;

/// A folder on a local or mounted file system.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The store in `root`, which need not exist yet: the first write makes it.
    pub fn open(root: impl Into<PathBuf>) -> Folder {
        Folder { root: root.into() }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn error(&self, operation: &'static str, key: &str, error: io::Error) -> StoreError {
        let (key, place) = (key.to_owned(), self.place());
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                StoreError::Denied { operation, key, place, source: error.into() }
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                StoreError::Full { operation, key, place, source: error.into() }
            }
            ErrorKind::Interrupted | ErrorKind::TimedOut | ErrorKind::StaleNetworkFileHandle => {
                StoreError::Passing { operation, key, place, source: error.into() }
            }
            _ => StoreError::Broken { operation, key, place, source: error.into() },
        }
    }

    /// What a missing file means: only in a vault that is really there is it an answer.
    fn missing(&self, operation: &'static str, key: &Key) -> StoreError {
        let asked_for_marker = key.as_str() == MARKER;
        match (fs::symlink_metadata(&self.root), self.root.join(MARKER).try_exists()) {
            (Ok(_), Ok(true)) => StoreError::NotFound { key: key.to_string(), place: self.place() },
            (Ok(_), Ok(false)) if asked_for_marker => {
                StoreError::NotFound { key: key.to_string(), place: self.place() }
            }
            // Before `init` there is nothing: the folder itself may be missing, but only for who asks for the vault.
            (Err(error), _) if asked_for_marker && error.kind() == ErrorKind::NotFound => {
                StoreError::NotFound { key: key.to_string(), place: self.place() }
            }
            (Err(error), _) | (_, Err(error)) => self.error(operation, key.as_str(), error),
            (Ok(_), Ok(false)) => {
                let why = io::Error::other("there is no vault.json: is the disk mounted?");
                self.error(operation, key.as_str(), why)
            }
        }
    }

    fn read_error(&self, key: &Key, error: io::Error) -> StoreError {
        match error.kind() {
            ErrorKind::NotFound => self.missing("read", key),
            _ => self.error("read", key.as_str(), error),
        }
    }

    fn put(&self, key: &Key, body: &Body) -> Result<(), PutError> {
        let failed = |error| self.error("write", key.as_str(), error);
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&self.root);
        let temporary_folder = self.root.join(TEMPORARY);
        make_folders(&temporary_folder).map_err(failed)?;
        let temporary = temporary_folder.join(temporary_name());
        let placed = write_durably(&temporary, body)
            .and_then(|()| make_folders(folder))
            .and_then(|()| link(&temporary, &path))
            // Also when the name is taken: who won may not have got as far as this yet.
            .and_then(|outcome| File::open(folder)?.sync_all().map(|()| outcome));
        let removed = fs::remove_file(&temporary);
        match placed.map_err(failed)? {
            Placed::Taken => Err(PutError::Exists { key: key.to_string(), place: self.place() }),
            // A leftover in .tmp does no harm, but a disk that cannot remove it is about to do some.
            Placed::Ours => removed.map_err(failed).map_err(PutError::Store),
        }
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let file = File::open(self.path(key)).map_err(|error| self.read_error(key, error))?;
        let failed = |error| self.error("read", key.as_str(), error);
        let size = file.metadata().map_err(failed)?.len();
        let range = range.unwrap_or(0..size);
        if range.start > range.end || range.end > size {
            return Err(failed(io::Error::other(format!(
                "{size} bytes are there, and {range:?} was asked for"
            ))));
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start).map_err(failed)?;
        Ok(bytes.into())
    }

    fn list_page(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        if !self.root.join(MARKER).try_exists().map_err(|error| self.error("list", prefix, error))? {
            let probing = prefix.is_empty() || prefix == "probe";
            if !probing {
                let why = io::Error::other("there is no vault.json: is the disk mounted?");
                return Err(self.error("list", prefix, why));
            }
        }
        let mut walk = Walk { after: after.map_or("", Key::as_str), found: Vec::new() };
        walk.folder(&self.root.join(prefix), prefix).map_err(|error| self.error("list", prefix, error))?;
        let more = walk.found.len() > PAGE;
        walk.found.truncate(PAGE);
        let next = walk.found.last().filter(|_| more).map(|last| last.key.clone());
        Ok(Page { objects: walk.found, next })
    }

    async fn off_the_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> T + Send + 'static,
    ) -> T {
        let folder = self.clone();
        match tokio::task::spawn_blocking(move || work(&folder)).await {
            Ok(done) => done,
            // Our own code panicked, or the runtime is being torn down under us: nothing can be said of the store.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Bytes that an ordinary user may still write in the file system of `folder`, or of the nearest folder above it that
/// exists.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let facts = rustix::fs::statvfs(there)?;
    Ok(facts.f_bavail * facts.f_frsize)
}

enum Placed {
    Ours,
    Taken,
}

fn link(temporary: &Path, path: &Path) -> io::Result<Placed> {
    match fs::hard_link(temporary, path) {
        Ok(()) => Ok(Placed::Ours),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Placed::Taken),
        // File systems without hard links (exFAT, some network mounts) have an exclusive rename at best.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(rustix::fs::CWD, temporary, rustix::fs::CWD, path, flags) {
                // What is removed afterwards as the temporary file must be there.
                Ok(()) => File::create(temporary).map(|_| Placed::Ours),
                Err(rustix::io::Errno::EXIST) => Ok(Placed::Taken),
                Err(_) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// A name no other writer uses, in this process or any other on any host: the process number, a count, and the time.
fn temporary_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{count}-{:x}", std::process::id(), now.as_nanos())
}

/// Makes `folder` and what it lies in, each durable in its parent before anything is put into it.
fn make_folders(folder: &Path) -> io::Result<()> {
    match fs::symlink_metadata(folder) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folders(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

fn write_durably(path: &Path, body: &Body) -> io::Result<()> {
    let direct = if body.len() >= DIRECT_FROM { write_direct(path, body)? } else { Wrote::Nothing };
    if direct == Wrote::Nothing {
        let mut file = new_file(path, 0)?;
        for part in body.parts() {
            file.write_all(part)?;
        }
        file.sync_all()?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Wrote {
    Everything,
    Nothing,
}

/// Writes past the page cache; `Nothing` where the file system cannot.
fn write_direct(path: &Path, body: &Body) -> io::Result<Wrote> {
    let file = match new_file(path, rustix::fs::OFlags::DIRECT.bits() as i32) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(Wrote::Nothing),
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
                        fs::remove_file(path)?;
                        return Ok(Wrote::Nothing);
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
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)
}

/// A walk in ascending byte order of whole keys, which is not the order of folder entries: "a.b" sorts before "a/b".
struct Walk<'a> {
    after: &'a str,
    found: Vec<Head>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // Nothing was ever put here, or the last of it was just deleted.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let is_folder = entry.file_type()?.is_dir();
            // Names that cannot be keys are not ours.
            if let Some(name) = entry.file_name().to_str().filter(|name| *name != TEMPORARY) {
                names.push(if is_folder { format!("{name}/") } else { name.to_owned() });
            }
        }
        names.sort_unstable();
        for name in names {
            if self.found.len() > PAGE {
                return Ok(());
            }
            let path = match prefix {
                "" => name.clone(),
                _ => format!("{prefix}/{name}"),
            };
            match path.strip_suffix('/') {
                // Everything in a folder begins with its path: skip it whole if that is so for none after `after`.
                Some(inside) if path.as_str() > self.after || self.after.starts_with(&path) => {
                    self.folder(&folder.join(name.trim_end_matches('/')), inside)?;
                }
                Some(_) => {}
                None if path.as_str() > self.after => self.file(&folder.join(&name), &path)?,
                None => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &Path, path: &str) -> io::Result<()> {
        let Ok(key) = Key::new(path) else { return Ok(()) };
        match fs::symlink_metadata(file) {
            Ok(facts) => self.found.push(Head { key, size: facts.len() }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Store for Folder {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        let key = key.clone();
        self.off_the_runtime(move |folder| folder.put(&key, &body)).await
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        let key = key.clone();
        self.off_the_runtime(move |folder| folder.read(&key, None)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let key = key.clone();
        self.off_the_runtime(move |folder| folder.read(&key, Some(range))).await
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        let key = key.clone();
        let size = |folder: &Folder, key: &Key| match fs::symlink_metadata(folder.path(key)) {
            Ok(facts) if facts.is_file() => Ok(Head { key: key.clone(), size: facts.len() }),
            Ok(_) => Err(folder.missing("read", key)),
            Err(error) if error.kind() == ErrorKind::NotADirectory => Err(folder.missing("read", key)),
            Err(error) => Err(folder.read_error(key, error)),
        };
        self.off_the_runtime(move |folder| size(folder, &key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.off_the_runtime(move |folder| folder.list_page(&prefix, after.as_ref())).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let key = key.clone();
        let remove = |folder: &Folder, key: &Key| match fs::remove_file(folder.path(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(folder.error("delete", key.as_str(), error))
            }
            _ => Ok(()),
        };
        self.off_the_runtime(move |folder| remove(folder, &key)).await
    }
}
