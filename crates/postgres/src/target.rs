//! Restoring into a folder.
//!
//! ```text
//! create   the target and mapped tablespaces: empty folders of ours, locked ── anything else is refused, nothing removed
//! over     or: an older, newer or damaged copy of the same cluster ── its control file loses its name, what is not the
//!          point's goes, files keep their content for the caller to compare ([`survey`])
//! prepare  folders, links (tablespaces' to where they go now), files of their size, all holes
//! open     pages, in large direct writes
//! finish   everything durable ▶ pg_control gets its name ▶ that durable, too
//! read_ahead   large files into memory, if there is room ([`warm`])
//! ```
//!
//! **Invariants**
//! - Until `finish` has made everything durable there is no `global/pg_control`, without which no server starts. A
//!   crash at any point leaves a folder that the next restore refuses as not empty, or goes on with, and a server as no
//!   cluster. What was begun there stands in a note ([`begun`]).
//! - No entry's path leads out of the target: links are never followed but for tablespaces, and for folders that were asked
//!   to be elsewhere (`pg_wal`); these are held open.
//! - The server finds tablespaces where they were restored to, not where the source had them ([`RENAMED`]).
//! - Files are made anew (`O_EXCL`): what is there is never overwritten, unless a survey found it to be the same cluster's.
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

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use strongroom_engine::{EngineError, PageSink, PageSource, Target};
use strongroom_model::entry::{Entry, EntryKind, EntryPath, Owner};
use strongroom_model::{Cx, PointId, SystemId};

use crate::control::{CONTROL_FILE, ControlError, poisoned};
use crate::owner::numbers;
use crate::relation::folder_number;

pub mod begun;
pub(crate) mod place;
mod sink;
mod present;
pub mod survey;
pub mod tar;
mod warm;

use begun::Begun;
use place::Place;
use present::Present;
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
    /// A restore into it was begun, and killed.
    #[error("write into {}: a restore of {point} into it was begun and not finished", path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
        /// What was being restored.
        point: PointId,
    },
    /// It holds another cluster.
    #[error("restore over {}: it holds the cluster with system identifier {found}, and the recovery point is of {wanted}", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: SystemId,
        /// Whose it should be.
        wanted: SystemId,
    },
    /// It does not prove to hold any cluster.
    #[error("restore over {}: it holds '{found}', and no control file that tells which cluster it is of", path.display())]
    NotACluster {
        /// The folder.
        path: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// A server ran in it since it was looked at.
    #[error("restore over {}: a server changed it since it was looked at", path.display())]
    Changed {
        /// The folder.
        path: PathBuf,
    },
    /// The new place of a tablespace or another folder would be of no use.
    #[error("put {what} into {}: {why}", path.display())]
    Elsewhere {
        /// Its path in the data directory.
        what: EntryPath,
        /// Its place.
        path: PathBuf,
        /// A clause.
        why: &'static str,
    },
    /// What lies there cannot be looked at, or removed.
    #[error(transparent)]
    Look(EngineError),
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
            TargetError::Look(error) => return error,
            TargetError::NotEmpty { .. } => "restore into a new folder, or move what is in this one away",
            TargetError::Running { .. } => {
                "restore into a new folder, or stop that server and move its files away"
            }
            TargetError::Busy { .. } => "wait for it to end, or restore into another folder",
            TargetError::Link { .. } => "give the folder it points to",
            TargetError::NotAFolder { .. } => "give a folder",
            TargetError::ForeignOwner { .. } => "restore as that user, or give the folder away with chown",
            TargetError::Unfinished { .. } => {
                "the same command with --delta goes on with it; or empty the folder and start anew"
            }
            TargetError::Foreign { .. } => "restore into another folder: this one is not the point's cluster",
            TargetError::Changed { .. } => "run the same command again, and look at the plan",
            TargetError::NotACluster { .. } => "restore into another folder, or empty this one yourself",
            TargetError::Elsewhere { .. } => {
                "give each tablespace or folder an empty folder of its own, outside the target"
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
    /// Folders of the data directory that go elsewhere, with a link in their place; and links that lead elsewhere.
    pub links: BTreeMap<EntryPath, PathBuf>,
    /// Where the server that was backed up had its files. If it runs on this host, its tablespaces are not restored over.
    pub source_folder: Option<PathBuf>,
    /// What is being restored, for the note that stays if the restore is killed. `None` leaves none.
    pub begun: Option<Begun>,
    /// Who is to own the files.
    pub owner: OwnerPolicy,
    /// What becomes of the control file.
    pub control: ControlPolicy,
}

impl TargetOptions {
    /// The links that are to lead to folders outside, as far as they were asked for.
    fn elsewhere(&self) -> BTreeMap<EntryPath, PathBuf> {
        let tablespaces = self.tablespaces.iter().filter_map(|(oid, location)| {
            Some((EntryPath::new(format!("pg_tblspc/{oid}")).ok()?, location.clone()))
        });
        tablespaces.chain(self.links.clone()).collect()
    }
}

/// A data directory being restored.
pub struct FolderTarget {
    root: Arc<Place>,
    /// Folders outside, by the link that leads there.
    linked: Mutex<BTreeMap<EntryPath, Arc<Place>>>,
    options: TargetOptions,
    /// Whether what is there stays and is compared.
    over: bool,
    /// Folders made, to be synced one by one where one sync does not take all.
    folders: Mutex<Vec<EntryPath>>,
    owner_not_kept: AtomicBool,
}

impl FolderTarget {
    /// Takes the folder `path` and the folders that parts of it go to, making those that are not there.
    pub fn create(path: &Path, options: TargetOptions) -> Result<FolderTarget, TargetError> {
        let root = Arc::new(Place::take(path)?);
        let mut linked = BTreeMap::new();
        for (path, location) in options.elsewhere() {
            let place = take_linked(&path, &location, &root)?;
            linked.insert(path, place);
        }
        let target = FolderTarget::new(root, linked, options, false);
        target.note_begun()?;
        Ok(target)
    }

    fn new(
        root: Arc<Place>,
        linked: BTreeMap<EntryPath, Arc<Place>>,
        options: TargetOptions,
        over: bool,
    ) -> FolderTarget {
        FolderTarget {
            root,
            linked: Mutex::new(linked),
            options,
            over,
            folders: Mutex::default(),
            owner_not_kept: AtomicBool::new(false),
        }
    }

    /// Notes in the folder what is being restored into it.
    fn note_begun(&self) -> Result<(), TargetError> {
        let Some(begun) = &self.options.begun else { return Ok(()) };
        let path = self.root.show(begun::UNFINISHED.as_bytes());
        let noted = begun.note(self.root.folder());
        noted.map_err(|errno| TargetError::Io { operation: "write", path, source: errno.into() })
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
        for (link, place) in lock(&self.linked).iter() {
            if let Some([b'/', rest @ ..]) = bytes.strip_prefix(link.as_bytes()) {
                return (place.clone(), rest.to_vec());
            }
        }
        let renamed = RENAMED.iter().find(|(stored, _)| path.is(stored));
        let relative = renamed.map_or(bytes, |(_, restored)| restored.as_bytes());
        (self.root.clone(), relative.to_vec())
    }

    /// The place that this very entry was asked to be in, unless it is a tablespace.
    fn mapped(&self, path: &EntryPath) -> Option<Arc<Place>> {
        self.options.links.contains_key(path).then(|| lock(&self.linked).get(path).cloned()).flatten()
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
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Err(Errno::EXIST) if self.over => {}
            made => made.map_err(|errno| EngineError::io("create", place.show(&relative), errno.into()))?,
        }
        // We must be able to go on writing into it.
        let (mode, owner) = (entry.mode | 0o700, self.owner(&entry.owner));
        place.dress(&relative, mode, owner)?;
        // The data directory and tablespaces are no entries themselves: they follow a folder the server has in each.
        let first_of_tablespace = !Arc::ptr_eq(&place, &self.root) && !relative.contains(&b'/');
        if entry.path.is("global") || first_of_tablespace {
            self.dress_place(&place, mode, owner)?;
        }
        lock(&self.folders).push(entry.path.clone());
        Ok(())
    }

    /// Gives a place itself mode and owner, if it is ours or its owner's already.
    fn dress_place(&self, place: &Place, mode: u32, owner: Option<(u32, u32)>) -> Result<(), EngineError> {
        let me = rustix::process::geteuid().as_raw();
        if ![me, owner.map_or(me, |(uid, _)| uid)].contains(&place.owner) {
            return Err(
                TargetError::ForeignOwner { path: place.path().to_owned(), owner: place.owner }.into()
            );
        }
        place.dress(b"", mode, owner)
    }

    fn make_link(&self, entry: &Entry, target: &[u8]) -> Result<(), EngineError> {
        let tablespace = within_tablespace(entry.path.as_bytes()).filter(|(_, rest)| rest.is_empty());
        let target = match tablespace {
            Some(_) => self.tablespace(&entry.path, target)?.path().as_os_str().as_bytes().to_vec(),
            None => target.to_vec(),
        };
        let (place, relative) = self.locate(&entry.path);
        let (parent, name) = place.parent(&relative)?;
        let failed = |errno: Errno| EngineError::io("create", place.show(&relative), errno.into());
        match rustix::fs::symlinkat(target.as_slice(), &parent, name) {
            Err(Errno::EXIST) if self.over && place.read_link(&relative)? == target => {}
            made => made.map_err(failed)?,
        }
        let Some((uid, gid)) = self.owner(&entry.owner) else { return Ok(()) };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// The place of the tablespace behind the link `path`: where it was mapped to, or where it was.
    fn tablespace(&self, path: &EntryPath, stored: &[u8]) -> Result<Arc<Place>, EngineError> {
        let mut linked = lock(&self.linked);
        if let Some(place) = linked.get(path) {
            return Ok(place.clone());
        }
        let place = take_linked(path, Path::new(OsStr::from_bytes(stored)), &self.root)?;
        linked.insert(path.clone(), place.clone());
        Ok(place)
    }

    /// Makes an empty file of its final size: a hole. One that is there already stays, cut or extended to that size.
    fn make_file(&self, entry: &Entry, size: u64) -> Result<(), EngineError> {
        let (place, relative) = self.locate(&entry.path);
        let shown = place.show(&relative);
        let (parent, name) = place.parent(&relative)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let anew = flags | OFlags::CREATE | OFlags::EXCL;
        let file = match rustix::fs::openat(&parent, name, anew, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) if self.over => {
                // Without NONBLOCK, opening what has become a pipe would wait for ever.
                let file = rustix::fs::openat(&parent, name, flags | OFlags::NONBLOCK, Mode::empty());
                let file = file.map_err(|errno| EngineError::io("open", &shown, errno.into()))?;
                return self.keep_file(entry, &file, &place).map_err(|errno| write_error(&shown, errno));
            }
            file => file.map_err(|errno| EngineError::io("create", &shown, errno.into()))?,
        };
        let made = place::dress(&file, entry.mode, self.owner(&entry.owner));
        made.and_then(|()| rustix::fs::ftruncate(&file, size)).map_err(|errno| write_error(&shown, errno))
    }

    /// Makes a file that is there what the point says of it, but for its content.
    fn keep_file(&self, entry: &Entry, file: &OwnedFd, place: &Place) -> Result<(), Errno> {
        let found = rustix::fs::fstat(file)?;
        // The survey let only such files stay: somebody changed the folder since.
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || found.st_nlink != 1 {
            return Err(Errno::BUSY);
        }
        place::dress(file, entry.mode, self.owner(&entry.owner))?;
        if found.st_size as u64 != entry.size() {
            rustix::fs::ftruncate(file, entry.size())?;
        }
        let at = Timespec { tv_sec: entry.modified, tv_nsec: 0 };
        rustix::fs::futimens(file, &Timestamps { last_access: at, last_modification: at })?;
        // What a killed restore wrote may be in memory only, and is not written again if it is right.
        if place.synced_whole { Ok(()) } else { rustix::fs::fsync(file) }
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
        if let Some(place) = self.mapped(&entry.path) {
            // What the target itself is no entry of goes by the mode of what it stands for.
            if entry.kind == EntryKind::Folder {
                self.dress_place(&place, entry.mode | 0o700, self.owner(&entry.owner))?;
            }
            return self.make_link(entry, place.path().as_os_str().as_bytes());
        }
        match &entry.kind {
            EntryKind::Folder => self.make_folder(entry),
            EntryKind::Link(target) => self.make_link(entry, target),
            EntryKind::File(size) => self.make_file(entry, *size),
            EntryKind::Stream { .. } => Err(EngineError::Unfit {
                what: format!("restore {} into a folder: it is part of a dump", entry.path),
                hint: "restore the dump into a database".into(),
            }),
        }
    }

    fn present(&self, entry: &Entry) -> Result<Option<Box<dyn PageSource>>, EngineError> {
        if !self.over {
            return Ok(None);
        }
        let (place, relative) = self.locate(&entry.path);
        let path = place.show(&relative);
        let (parent, name) = place.parent(&relative)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&parent, name, flags, Mode::empty());
        let file = file.map_err(|errno| EngineError::io("open", &path, errno.into()))?;
        Ok(Some(Box::new(Present::new(file, path))))
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
        let (file, mode) = match file {
            // A key that not even its owner may write (0400): it may be until it is closed.
            Err(Errno::ACCESS) if entry.mode & 0o200 == 0 => {
                let widened = Mode::from_raw_mode((entry.mode | 0o600) & 0o777);
                let opened = rustix::fs::chmodat(&parent, name, widened, AtFlags::empty());
                direct = false;
                (opened.and_then(|()| open(flags)), Some(entry.mode))
            }
            file => (file, None),
        };
        let file = file.map_err(|errno| EngineError::io("open", &path, errno.into()))?;
        let (size, modified, sync) = (entry.size(), entry.modified, !place.synced_whole);
        Ok(Box::new(FileSink::new(file, Prepared { path, size, modified, mode, direct, sync })))
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
        let linked: Vec<Arc<Place>> = lock(&self.linked).values().cloned().collect();
        for path in lock(&self.folders).iter() {
            let (place, relative) = self.locate(path);
            if !place.synced_whole {
                let folder = place.open_folder(&relative)?;
                rustix::fs::fsync(&folder)
                    .map_err(|errno| EngineError::io("sync", place.show(&relative), errno.into()))?;
            }
        }
        for place in linked.iter().chain([&self.root]) {
            place.sync()?;
            sync_parent(place.path())?;
        }
        // From here on the unfinished control file, which is whole, says what the note said.
        let note = self.root.show(begun::UNFINISHED.as_bytes());
        Begun::done(self.root.folder()).map_err(|errno| EngineError::io("remove", note, errno.into()))?;
        self.reveal_control()
    }

    fn read_ahead(&self, cx: &Cx, bytes: u64) {
        if !warm::has_room(bytes) {
            return;
        }
        for path in lock(&self.folders).iter() {
            let (place, relative) = self.locate(path);
            let Ok(folder) = place.open_folder(&relative) else { continue };
            for (name, found) in place.names(&relative).unwrap_or_default() {
                let size = found.st_size as u64;
                // Smaller ones went through the page cache, and are in it.
                if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || size < DIRECT_FROM {
                    continue;
                }
                if cx.check().is_err() {
                    return;
                }
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                if let Ok(file) = rustix::fs::openat(&folder, name.as_slice(), flags, Mode::empty()) {
                    warm::read_ahead(&file, size);
                }
            }
        }
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

/// Takes the empty folder that the link `path` is to lead to. It must lie outside the target.
fn take_linked(path: &EntryPath, location: &Path, root: &Place) -> Result<Arc<Place>, TargetError> {
    linked_folder(path, location)?;
    let place = Place::take(location)?;
    check_apart(path, location, root)?;
    Ok(Arc::new(place))
}

/// Refuses a path that would mean something else to the server.
fn linked_folder(path: &EntryPath, location: &Path) -> Result<(), TargetError> {
    match location.is_absolute() {
        true => Ok(()),
        false => Err(TargetError::Elsewhere {
            what: path.clone(),
            path: location.to_owned(),
            why: "the path is not absolute",
        }),
    }
}

/// Refuses a folder that lies in the target, or that the target lies in.
fn check_apart(path: &EntryPath, location: &Path, root: &Place) -> Result<(), TargetError> {
    let real = |path: &Path| {
        std::fs::canonicalize(path).map_err(|source| TargetError::Io {
            operation: "look at",
            path: path.to_owned(),
            source,
        })
    };
    let (here, target) = (real(location)?, real(root.path())?);
    match here.starts_with(&target) || target.starts_with(&here) {
        true => Err(TargetError::Elsewhere {
            what: path.clone(),
            path: location.to_owned(),
            why: "it and the target are not apart",
        }),
        false => Ok(()),
    }
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
