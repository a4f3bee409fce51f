//! Restoring into a folder.
//!
//! ```text
//! create   the target and mapped tablespaces: empty folders of ours, locked ── anything else is refused, nothing removed
//! prepare  folders, links (tablespaces' to where they go now), files of their size, all holes
//! open     pages, in large direct writes
//! finish   everything durable ▶ pg_control gets its name ▶ that durable, too
//! ```
//!
//! **Invariants**
//! - Until `finish` has made everything durable there is no `global/pg_control`, without which no server starts. A
//!   crash at any point leaves a folder that the next restore refuses as not empty, and a server as no cluster.
//! - No entry's path leads out of the target: links are never followed but for tablespaces, whose folders are held open.
//! - The server finds tablespaces where they were restored to, not where the source had them ([`RENAMED`]).
//! - Files are made anew (`O_EXCL`): what is there is never overwritten.
//! - The restored control file is poisoned ([`crate::control::poisoned`]): the server starts with the backup label or
//!   not at all.

#![allow(clippy::disallowed_methods, reason = "this module is where a data directory is written")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use strongroom_engine::{EngineError, PageSink, Target};
use strongroom_model::entry::{Entry, EntryKind, EntryPath, Owner};

use crate::control::{CONTROL_FILE, ControlError, poisoned};
use crate::owner::numbers;
use crate::relation::folder_number;

pub(crate) mod place;
mod sink;
pub mod tar;

use place::Place;
use sink::{DIRECT_FROM, FileSink, Prepared, write_error};

/// The control file's name until everything else is durable.
const CONTROL_UNFINISHED: &str = "global/pg_control.strongroom-unfinished";

/// Files that do not get their stored name. A `tablespace_map` would make the server replace the links by those of the
/// source; under the name that the server itself gives to one it has used, it is kept for people.
const RENAMED: [(&str, &str); 2] =
    [(CONTROL_FILE, CONTROL_UNFINISHED), ("tablespace_map", "tablespace_map.old")];

/// Why a folder cannot be written into. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Something is in it.
    #[error("write into {}: the folder is not empty (it holds '{found}')", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// A server runs in it.
    #[error("write into {}: a server runs in it (process {pid})", path.display())]
    Running {
        /// The folder.
        path: PathBuf,
        /// Of the server.
        pid: i32,
    },
    /// Another restore goes into it.
    #[error("write into {}: another process is writing into it", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// It is a link.
    #[error("write into {}: it is a link", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// It is a file.
    #[error("write into {}: it is not a folder", path.display())]
    NotAFolder {
        /// What is there.
        path: PathBuf,
    },
    /// It belongs to someone else.
    #[error("write into {}: the folder belongs to user {owner}", path.display())]
    ForeignOwner {
        /// The folder.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
    },
    /// A tablespace's new place would be of no use.
    #[error("put tablespace {oid} into {}: {why}", path.display())]
    Tablespace {
        /// Which.
        oid: u32,
        /// Its place.
        path: PathBuf,
        /// A clause.
        why: &'static str,
    },
    /// The system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl From<TargetError> for EngineError {
    fn from(error: TargetError) -> EngineError {
        let hint = match error {
            TargetError::Io { operation, path, source } => return EngineError::io(operation, path, source),
            TargetError::NotEmpty { .. } => "restore into a new folder, or move what is in this one away",
            TargetError::Running { .. } => {
                "restore into a new folder, or stop that server and move its files away"
            }
            TargetError::Busy { .. } => "wait for it to end, or restore into another folder",
            TargetError::Link { .. } => "give the folder it points to",
            TargetError::NotAFolder { .. } => "give a folder",
            TargetError::ForeignOwner { .. } => "restore as that user, or give the folder away with chown",
            TargetError::Tablespace { .. } => {
                "give each tablespace an empty folder of its own, outside the target"
            }
        };
        EngineError::Unfit { what: error.to_string(), hint: hint.to_owned() }
    }
}

/// Who is to own the restored files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnerPolicy {
    /// As stored: by name where this host knows it, else by number. Takes root; others own what they restore.
    #[default]
    AsStored,
    /// Whoever restores.
    Ourselves,
    /// This user and group. Takes root.
    Numbers {
        /// User number.
        uid: u32,
        /// Group number.
        gid: u32,
    },
}

/// What becomes of the control file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlPolicy {
    /// Poisoned: the server starts with the backup label or not at all.
    #[default]
    Poison,
    /// As stored, byte for byte: to compare, and to hand out as `pg_basebackup` would (`export`).
    AsStored,
}

/// How to restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetOptions {
    /// Where tablespaces go, by number. One not named goes where it was.
    pub tablespaces: BTreeMap<u32, PathBuf>,
    /// Who is to own the files.
    pub owner: OwnerPolicy,
    /// What becomes of the control file.
    pub control: ControlPolicy,
}

/// A data directory being restored.
pub struct FolderTarget {
    root: Arc<Place>,
    tablespaces: Mutex<BTreeMap<u32, Arc<Place>>>,
    options: TargetOptions,
    /// Folders made, to be synced one by one where one sync does not take all.
    folders: Mutex<Vec<EntryPath>>,
    owner_not_kept: AtomicBool,
}

impl FolderTarget {
    /// Takes the folder `path` and the mapped tablespaces' folders, making those that are not there.
    pub fn create(path: &Path, options: TargetOptions) -> Result<FolderTarget, TargetError> {
        let root = Arc::new(Place::take(path)?);
        let mut tablespaces = BTreeMap::new();
        for (oid, location) in &options.tablespaces {
            tablespaces.insert(*oid, take_tablespace(*oid, location, &root)?);
        }
        Ok(FolderTarget {
            root,
            tablespaces: Mutex::new(tablespaces),
            options,
            folders: Mutex::default(),
            owner_not_kept: AtomicBool::new(false),
        })
    }

    /// The target folder.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Writes a file that is not the recovery point's (`recovery.signal`); before `finish`.
    pub fn add_file(&self, path: &EntryPath, content: &[u8], owner: &Owner) -> Result<(), EngineError> {
        let kind = EntryKind::File(content.len() as u64);
        let entry = Entry { path: path.clone(), kind, mode: 0o600, owner: owner.clone(), modified: 0 };
        self.make_file(&entry, 0)?;
        self.append_file(path, content)
    }

    /// Adds to a restored file (`postgresql.auto.conf`); before `finish`.
    pub fn append_file(&self, path: &EntryPath, content: &[u8]) -> Result<(), EngineError> {
        let (place, relative) = self.locate(path);
        let shown = place.show(&relative);
        let (folder, name) = place.parent(&relative)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&folder, name, flags, Mode::empty());
        let file = file.map_err(|errno| EngineError::io("open", &shown, errno.into()))?;
        let found =
            rustix::fs::fstat(&file).map_err(|errno| EngineError::io("look at", &shown, errno.into()))?;
        write_all(&file, content, found.st_size as u64).map_err(|errno| write_error(&shown, errno))?;
        rustix::fs::fsync(&file).map_err(|errno| EngineError::io("sync", &shown, errno.into()))
    }

    /// What the user should know of how things were restored.
    pub fn notes(&self) -> Vec<String> {
        let note = "the files belong to the user who restored, not to their stored owner: only root can give them away";
        if self.owner_not_kept.load(Ordering::Relaxed) { vec![note.to_owned()] } else { Vec::new() }
    }

    /// Which place an entry is in, and where there.
    fn locate(&self, path: &EntryPath) -> (Arc<Place>, Vec<u8>) {
        let bytes = path.as_bytes();
        if let Some((oid, rest)) = within_tablespace(bytes)
            && let Some(place) = lock(&self.tablespaces).get(&oid).filter(|_| !rest.is_empty())
        {
            return (place.clone(), rest.to_vec());
        }
        let renamed = RENAMED.iter().find(|(stored, _)| path.is(stored));
        let relative = renamed.map_or(bytes, |(_, restored)| restored.as_bytes());
        (self.root.clone(), relative.to_vec())
    }

    /// The numbers an entry is to be owned by; `None` leaves it to who makes it.
    fn owner(&self, stored: &Owner) -> Option<(u32, u32)> {
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let wanted = match self.options.owner {
            OwnerPolicy::Ourselves => return None,
            OwnerPolicy::Numbers { uid, gid } => (uid, gid),
            OwnerPolicy::AsStored => numbers(stored),
        };
        if wanted == me {
            return None;
        }
        if me.0 != 0 {
            self.owner_not_kept.store(true, Ordering::Relaxed);
            return None;
        }
        Some(wanted)
    }

    fn make_folder(&self, entry: &Entry) -> Result<(), EngineError> {
        let (place, relative) = self.locate(&entry.path);
        let (parent, name) = place.parent(&relative)?;
        let made = rustix::fs::mkdirat(&parent, name, Mode::RWXU);
        made.map_err(|errno| EngineError::io("create", place.show(&relative), errno.into()))?;
        // We must be able to go on writing into it.
        let (mode, owner) = (entry.mode | 0o700, self.owner(&entry.owner));
        place.dress(&relative, mode, owner)?;
        // The data directory and tablespaces are no entries themselves: they follow a folder the server has in each.
        let first_of_tablespace = !Arc::ptr_eq(&place, &self.root) && !relative.contains(&b'/');
        if entry.path.is("global") || first_of_tablespace {
            let me = rustix::process::geteuid().as_raw();
            if ![me, owner.map_or(me, |(uid, _)| uid)].contains(&place.owner) {
                return Err(
                    TargetError::ForeignOwner { path: place.path().to_owned(), owner: place.owner }.into()
                );
            }
            place.dress(b"", mode, owner)?;
        }
        lock(&self.folders).push(entry.path.clone());
        Ok(())
    }

    fn make_link(&self, entry: &Entry, target: &[u8]) -> Result<(), EngineError> {
        let tablespace = within_tablespace(entry.path.as_bytes()).filter(|(_, rest)| rest.is_empty());
        let target = match tablespace {
            Some((oid, _)) => self.tablespace(oid, target)?.path().as_os_str().as_bytes().to_vec(),
            None => target.to_vec(),
        };
        let relative = entry.path.as_bytes();
        let (parent, name) = self.root.parent(relative)?;
        let made = rustix::fs::symlinkat(target.as_slice(), &parent, name).and_then(|()| {
            match self.owner(&entry.owner) {
                Some((uid, gid)) => {
                    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                    rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                }
                None => Ok(()),
            }
        });
        made.map_err(|errno| EngineError::io("create", self.root.show(relative), errno.into()))
    }

    /// The place of a tablespace: where it was mapped to, or where it was.
    fn tablespace(&self, oid: u32, stored: &[u8]) -> Result<Arc<Place>, EngineError> {
        let mut tablespaces = lock(&self.tablespaces);
        if let Some(place) = tablespaces.get(&oid) {
            return Ok(place.clone());
        }
        let place = take_tablespace(oid, Path::new(OsStr::from_bytes(stored)), &self.root)?;
        tablespaces.insert(oid, place.clone());
        Ok(place)
    }

    /// Makes an empty file of its final size: a hole.
    fn make_file(&self, entry: &Entry, size: u64) -> Result<(), EngineError> {
        let (place, relative) = self.locate(&entry.path);
        let shown = place.show(&relative);
        let (parent, name) = place.parent(&relative)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(|errno| EngineError::io("create", &shown, errno.into()))?;
        let made = place::dress(&file, entry.mode, self.owner(&entry.owner));
        made.and_then(|()| rustix::fs::ftruncate(&file, size)).map_err(|errno| write_error(&shown, errno))
    }

    /// Gives the control file its name, everything else being durable.
    fn reveal_control(&self) -> Result<(), EngineError> {
        let (folder, unfinished) = self.root.parent(CONTROL_UNFINISHED.as_bytes())?;
        let shown = self.root.show(CONTROL_FILE.as_bytes());
        let renamed = rustix::fs::renameat(&folder, unfinished, &folder, "pg_control");
        renamed
            .and_then(|()| rustix::fs::fsync(&folder))
            .map_err(|errno| EngineError::io("rename", &shown, errno.into()))
    }

    /// Replaces the written control file's content by its poisoned form.
    fn poison_control(&self) -> Result<(), EngineError> {
        let shown = self.root.show(CONTROL_FILE.as_bytes());
        let (folder, name) = self.root.parent(CONTROL_UNFINISHED.as_bytes())?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                return Err(unusable("the recovery point has no global/pg_control".to_owned()));
            }
            file => file.map_err(|errno| EngineError::io("open", &shown, errno.into()))?,
        };
        if self.options.control == ControlPolicy::Poison {
            let bytes = read_all(&file).map_err(|errno| EngineError::io("read", &shown, errno.into()))?;
            let bytes = poisoned(&bytes).map_err(|error: ControlError| unusable(error.to_string()))?;
            write_all(&file, &bytes, 0).map_err(|errno| write_error(&shown, errno))?;
        }
        rustix::fs::fsync(&file).map_err(|errno| EngineError::io("sync", &shown, errno.into()))
    }
}

impl Target for FolderTarget {
    fn prepare(&self, entry: &Entry) -> Result<(), EngineError> {
        match &entry.kind {
            EntryKind::Folder => self.make_folder(entry),
            EntryKind::Link(target) => self.make_link(entry, target),
            EntryKind::File(size) => self.make_file(entry, *size),
        }
    }

    fn open(&self, entry: &Entry) -> Result<Box<dyn PageSink>, EngineError> {
        let (place, relative) = self.locate(&entry.path);
        let path = place.show(&relative);
        let (parent, name) = place.parent(&relative)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = |flags| rustix::fs::openat(&parent, name, flags, Mode::empty());
        let mut direct = entry.size() >= DIRECT_FROM;
        let file = match direct.then(|| open(flags | OFlags::DIRECT)) {
            Some(Ok(file)) => Ok(file),
            // Some file systems have no direct writes at all.
            Some(Err(Errno::INVAL | Errno::OPNOTSUPP)) | None => {
                direct = false;
                open(flags)
            }
            Some(Err(errno)) => Err(errno),
        };
        let file = file.map_err(|errno| EngineError::io("open", &path, errno.into()))?;
        let (size, modified, sync) = (entry.size(), entry.modified, !place.synced_whole);
        Ok(Box::new(FileSink::new(file, Prepared { path, size, modified, direct, sync })))
    }

    fn leave(&self, name: &str, text: &str) -> Result<(), EngineError> {
        let path = EntryPath::new(name).map_err(|error| EngineError::Unfit {
            what: error.to_string(),
            hint: "this is a mistake in strongroom".to_owned(),
        })?;
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        self.add_file(&path, text.as_bytes(), &Owner { uid, gid, user: None, group: None })
    }

    fn finish(&self) -> Result<(), EngineError> {
        self.poison_control()?;
        let tablespaces: Vec<Arc<Place>> = lock(&self.tablespaces).values().cloned().collect();
        for path in lock(&self.folders).iter() {
            let (place, relative) = self.locate(path);
            if !place.synced_whole {
                let folder = place.open_folder(&relative)?;
                rustix::fs::fsync(&folder)
                    .map_err(|errno| EngineError::io("sync", place.show(&relative), errno.into()))?;
            }
        }
        for place in tablespaces.iter().chain([&self.root]) {
            place.sync()?;
            sync_parent(place.path())?;
        }
        self.reveal_control()
    }
}

impl fmt::Debug for FolderTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderTarget")
            .field("path", &self.path())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Splits the path of a tablespace's link, or of what is behind it, into its number and the rest.
fn within_tablespace(path: &[u8]) -> Option<(u32, &[u8])> {
    let rest = path.strip_prefix(b"pg_tblspc/")?;
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    Some((folder_number(&rest[..end])?, rest.get(end + 1..).unwrap_or_default()))
}

/// Takes a tablespace's folder, which must lie outside the target.
fn take_tablespace(oid: u32, location: &Path, root: &Place) -> Result<Arc<Place>, TargetError> {
    let useless = |why| TargetError::Tablespace { oid, path: location.to_owned(), why };
    if !location.is_absolute() {
        return Err(useless("the path is not absolute"));
    }
    let place = Place::take(location)?;
    let real = |path: &Path| {
        std::fs::canonicalize(path).map_err(|source| TargetError::Io {
            operation: "look at",
            path: path.to_owned(),
            source,
        })
    };
    let (here, target) = (real(location)?, real(root.path())?);
    if here.starts_with(&target) || target.starts_with(&here) {
        return Err(useless("it and the target are not apart"));
    }
    Ok(Arc::new(place))
}

/// Makes a folder's own name durable: it may have been made by us.
fn sync_parent(path: &Path) -> Result<(), EngineError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let synced = rustix::fs::open(parent, flags, Mode::empty()).and_then(rustix::fs::fsync);
    match synced {
        // A folder that may not be read is not ours, and so not made by us.
        Ok(()) | Err(Errno::ACCESS) => Ok(()),
        Err(errno) => Err(EngineError::io("sync", parent, errno.into())),
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

fn read_all(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; rustix::fs::fstat(file)?.st_size as usize];
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut bytes[done..], done as u64))? {
            0 => break,
            count => done += count,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn unusable(what: String) -> EngineError {
    EngineError::Damaged {
        what: format!("finish the restore: {what}"),
        hint: "try another recovery point".to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is changed in single steps: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
