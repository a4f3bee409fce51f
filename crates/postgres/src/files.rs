//! What of a data directory belongs into a backup: the listing.
//!
//! ```text
//! root ── base/<database>/<relation files>        copied, but for temporary and unlogged relations
//!      ├─ global/                                 copied; pg_control is stored last, by the session
//!      ├─ pg_tblspc/<oid> ─▶ PG_<version>_…/      links followed, only this version's folder
//!      ├─ pg_wal, pg_replslot …                   the folder alone: its content is another server's or made anew
//!      └─ anything else                           copied; links are stored as links, and noted
//! ```
//!
//! **Invariants**
//! - What the server needs and what could not be listed is an error, never an omission.
//! - Files that vanish while listing are left out: WAL tells replay that they went.
//! - Folders come before what is in them, links with them; files last, the biggest first, so that workers end together.
//!
//! What is left out is what `pg_basebackup` leaves out (`backup/basebackup.c`), and `recovery.signal`, `standby.signal`:
//! a restore writes its own.

#![allow(clippy::disallowed_methods, reason = "this module is where a data directory is listed")]

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{FileType, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use strongroom_engine::EngineError;
use strongroom_model::entry::{Entry, EntryKind, EntryPath, PathError};

use crate::owner::OwnerNames;
use crate::relation::{Fork, RelationFile, folder_number, is_temporary};
use crate::version::Major;

/// Folders of the root whose content is not copied.
const EMPTIED: [&[u8]; 8] = [
    b"pg_wal",
    b"pg_replslot",
    b"pg_dynshmem",
    b"pg_notify",
    b"pg_serial",
    b"pg_snapshots",
    b"pg_stat_tmp",
    b"pg_subtrans",
];

/// Folders of the root without which there is no server. One that is a link would be copied as a link.
const NEEDED: [&[u8]; 9] = [
    b"base",
    b"global",
    b"pg_tblspc",
    b"pg_xact",
    b"pg_multixact",
    b"pg_commit_ts",
    b"pg_twophase",
    b"pg_logical",
    b"pg_stat",
];

/// Files of the root that are not copied.
const LEFT_OUT: [&[u8]; 11] = [
    b"postmaster.pid",
    b"postmaster.opts",
    b"backup_label",
    b"backup_label.old",
    b"tablespace_map",
    b"tablespace_map.old",
    b"backup_manifest",
    b"recovery.signal",
    b"standby.signal",
    b"postgresql.auto.conf.tmp",
    b"current_logfiles.tmp",
];

/// Why a data directory cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// `list` or `read`.
        operation: &'static str,
        /// What.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A file that may not be read.
    #[error("list {}: the file may not be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
    },
    /// A pipe or device.
    #[error("list {}: it is a {kind}, which cannot be copied", path.display())]
    Special {
        /// Which.
        path: PathBuf,
        /// `pipe` or `device`.
        kind: &'static str,
    },
    /// Something the server keeps its data in was moved away and replaced by a link.
    #[error("list {}: it is a link to {}, whose content would not be copied", path.display(), target.display())]
    Moved {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// A tablespace within the data directory: its files would be copied twice.
    #[error("list {}: the tablespace at {} lies within the data directory", path.display(), target.display())]
    TablespaceInside {
        /// Its link.
        path: PathBuf,
        /// Where it is.
        target: PathBuf,
    },
    /// A tablespace's folder is not where its link points.
    #[error("list {}: the tablespace's folder {} is not there", path.display(), target.display())]
    TablespaceGone {
        /// Its link.
        path: PathBuf,
        /// Where it should be.
        target: PathBuf,
    },
    /// A name that cannot be an entry's.
    #[error(transparent)]
    Name(#[from] PathError),
}

impl ListError {
    fn hint(&self) -> &'static str {
        match self {
            ListError::Io { .. } | ListError::Unreadable { .. } => {
                "run strongroom as the system user that runs the server (often postgres)"
            }
            ListError::Special { .. } => {
                "does it belong there? remove it, or move it out of the data directory"
            }
            ListError::Moved { .. } => "move the folder back, or move its relations with CREATE TABLESPACE",
            ListError::TablespaceInside { .. } => {
                "move it with ALTER DATABASE or ALTER TABLE … SET TABLESPACE to a location outside, and drop it"
            }
            ListError::TablespaceGone { .. } => "is its disk mounted on this host, under the same path?",
            ListError::Name(_) => "rename the file",
        }
    }
}

impl From<ListError> for EngineError {
    fn from(error: ListError) -> EngineError {
        match error {
            ListError::Io { operation, path, source } if source.kind() != ErrorKind::PermissionDenied => {
                EngineError::io(operation, path, source)
            }
            ListError::Io { ref source, .. } => {
                EngineError::Unfit { what: format!("{error}: {source}"), hint: error.hint().to_owned() }
            }
            other => EngineError::Unfit { what: other.to_string(), hint: other.hint().to_owned() },
        }
    }
}

/// Something the user should know of a listing, which is complete all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A link in place of a folder whose content is not copied: stored as a plain folder.
    FolderWasLink {
        /// Which.
        path: EntryPath,
        /// Where it points.
        target: PathBuf,
    },
    /// A link that leads somewhere else: stored as a link, what it points to is not stored.
    LinkNotFollowed {
        /// Which.
        path: EntryPath,
        /// Where it points.
        target: PathBuf,
    },
    /// A socket: nothing to store.
    SocketLeftOut {
        /// Which.
        path: EntryPath,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::FolderWasLink { path, target } => {
                write!(f, "{path} is a link to {}: it will be restored as a folder", target.display())
            }
            Note::LinkNotFollowed { path, target } => {
                write!(f, "{path} is a link to {}, which is not backed up", target.display())
            }
            Note::SocketLeftOut { path } => write!(f, "{path} is a socket and left out"),
        }
    }
}

/// A tablespace outside the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablespaceLink {
    /// Its number, which names its link in `pg_tblspc`.
    pub oid: u32,
    /// Where the link points.
    pub location: PathBuf,
}

/// What to copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Folders and links, parents first; then files, the biggest first.
    pub entries: Vec<Entry>,
    /// What the user should know.
    pub notes: Vec<Note>,
    /// Tablespaces outside the data directory, by number.
    pub tablespaces: Vec<TablespaceLink>,
}

/// Lists the data directory at `root`, of a server of this version.
pub fn list(root: &Path, major: Major) -> Result<Listing, ListError> {
    let canonical = std::fs::canonicalize(root).map_err(|source| io_error("list", root, source))?;
    let mut walk = Walk {
        root,
        canonical,
        version_folder: major.tablespace_folder(),
        names: OwnerNames::default(),
        files: Vec::new(),
        listing: Listing::default(),
        reads_all: rustix::process::geteuid().is_root(),
    };
    walk.folder(None, Zone::Root)?;
    let Walk { mut files, mut listing, .. } = walk;
    files.sort_by(|a, b| b.size().cmp(&a.size()).then_with(|| a.path.cmp(&b.path)));
    listing.entries.append(&mut files);
    listing.tablespaces.sort_by_key(|tablespace| tablespace.oid);
    Ok(listing)
}

/// Whether what a server sends under this path does not belong into a backup: [`list`] would not list it.
pub fn leaves_out(path: &EntryPath, major: Major) -> bool {
    let version_folder = major.tablespace_folder();
    let mut zone = Zone::Root;
    let mut names = path.as_bytes().split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        let is_emptied = zone == Zone::Root && EMPTIED.contains(&name) && names.peek().is_some();
        if is_emptied || zone.leaves_out(name, &version_folder) {
            return true;
        }
        zone = zone.below(name);
    }
    false
}

/// Which part of a data directory a folder is: what may be in it, and what of that is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    /// The data directory.
    Root,
    /// `base`, and this version's folder of a tablespace.
    Databases,
    /// A database's folder.
    Database,
    /// `global`.
    Global,
    /// `pg_tblspc`.
    Tablespaces,
    /// A tablespace.
    Tablespace,
    /// Other folders of the server.
    Server,
    /// Folders the server knows nothing of, and `log`.
    Foreign,
}

impl Zone {
    /// The zone of the folder `name` in this one.
    fn below(self, name: &[u8]) -> Zone {
        match self {
            Zone::Root => match name {
                b"base" => Zone::Databases,
                b"global" => Zone::Global,
                b"pg_tblspc" => Zone::Tablespaces,
                _ if NEEDED.contains(&name) => Zone::Server,
                _ => Zone::Foreign,
            },
            Zone::Databases if folder_number(name).is_some() => Zone::Database,
            Zone::Tablespaces if folder_number(name).is_some() => Zone::Tablespace,
            Zone::Tablespace => Zone::Databases,
            Zone::Foreign => Zone::Foreign,
            _ => Zone::Server,
        }
    }

    /// Whether `name` in this zone is left out, whatever it is.
    fn leaves_out(self, name: &[u8], version_folder: &str) -> bool {
        if name.starts_with(b"pgsql_tmp") {
            return true;
        }
        match self {
            Zone::Root => LEFT_OUT.contains(&name),
            Zone::Global => name == b"pg_control" || name.starts_with(b"pg_internal.init"),
            Zone::Database => name.starts_with(b"pg_internal.init") || is_temporary(name),
            // Another version's folder: a pg_upgrade from or to it is under way, or was.
            Zone::Tablespace => name != version_folder.as_bytes(),
            _ => false,
        }
    }

    /// Whether a link here hides what the server needs.
    fn suffers_links(self, name: &[u8]) -> bool {
        match self {
            Zone::Root => !NEEDED.contains(&name),
            Zone::Tablespaces | Zone::Foreign => true,
            _ => false,
        }
    }
}

/// Whether what is at `path` can be a link to a folder elsewhere: a backup stores its content, or does without it.
pub fn may_be_linked(path: &EntryPath) -> bool {
    let mut segments = path.as_bytes().split(|byte| *byte == b'/');
    let first = segments.next().unwrap_or_default();
    let is_emptied = EMPTIED.contains(&first);
    !NEEDED.contains(&first) && (!is_emptied || segments.next().is_none())
}

/// A listing under way.
struct Walk<'r> {
    root: &'r Path,
    canonical: PathBuf,
    version_folder: String,
    names: OwnerNames,
    files: Vec<Entry>,
    listing: Listing,
    /// Root may read every file; others are asked for each.
    reads_all: bool,
}

impl Walk<'_> {
    /// Lists what is in a folder (`None`: the root).
    fn folder(&mut self, folder: Option<&EntryPath>, zone: Zone) -> Result<(), ListError> {
        let Some(names) = self.names_in(folder, zone)? else { return Ok(()) };
        let unlogged = match zone {
            Zone::Database => unlogged_relations(&names),
            _ => HashSet::new(),
        };
        for name in names {
            let name = name.into_vec();
            if zone.leaves_out(&name, &self.version_folder) || is_unlogged(&name, &unlogged) {
                continue;
            }
            let bytes = match folder {
                Some(folder) => [folder.as_bytes(), b"/", &name].concat(),
                None => name.clone(),
            };
            let path = EntryPath::new(bytes)?;
            self.entry(path, &name, zone)?;
        }
        Ok(())
    }

    /// The names in a folder, sorted; `None` if it is gone.
    fn names_in(&self, folder: Option<&EntryPath>, zone: Zone) -> Result<Option<Vec<OsString>>, ListError> {
        let path = folder.map_or_else(|| self.root.to_owned(), |folder| self.root.join(folder.as_path()));
        let found = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && zone != Zone::Root => return Ok(None),
            found => found.map_err(|source| io_error("list", &path, source))?,
        };
        let names = found.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>();
        let mut names = names.map_err(|source| io_error("list", &path, source))?;
        names.sort_unstable();
        Ok(Some(names))
    }

    /// Lists one file, folder or link, and what is in it.
    fn entry(&mut self, path: EntryPath, name: &[u8], zone: Zone) -> Result<(), ListError> {
        let place = self.root.join(path.as_path());
        let found = match std::fs::symlink_metadata(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found.map_err(|source| io_error("list", &place, source))?,
        };
        let kind = found.file_type();
        if kind.is_symlink() {
            return self.link(path, name, zone, &found);
        }
        if kind.is_dir() {
            self.add(path.clone(), EntryKind::Folder, &found);
            let emptied = zone == Zone::Root && EMPTIED.contains(&name);
            return if emptied { Ok(()) } else { self.folder(Some(&path), zone.below(name)) };
        }
        if kind.is_file() {
            if !self.reads_all && !may_read(&place)? {
                return Err(ListError::Unreadable { path: place });
            }
            self.add(path, EntryKind::File(found.len()), &found);
            return Ok(());
        }
        if kind.is_socket() {
            self.listing.notes.push(Note::SocketLeftOut { path });
            return Ok(());
        }
        Err(ListError::Special { path: place, kind: special(&kind) })
    }

    /// Lists a link: a tablespace is followed, a folder whose content is left out becomes one, all else stays a link.
    fn link(&mut self, path: EntryPath, name: &[u8], zone: Zone, found: &Metadata) -> Result<(), ListError> {
        let place = self.root.join(path.as_path());
        let target = match std::fs::read_link(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            target => target.map_err(|source| io_error("read", &place, source))?,
        };
        if zone == Zone::Root && EMPTIED.contains(&name) {
            let folder = std::fs::metadata(&place).map_err(|source| io_error("list", &place, source))?;
            self.add(path.clone(), EntryKind::Folder, &folder);
            self.listing.notes.push(Note::FolderWasLink { path, target });
            return Ok(());
        }
        if let (Zone::Tablespaces, Some(oid)) = (zone, folder_number(name)) {
            return self.tablespace(path, oid, target, found);
        }
        if !zone.suffers_links(name) {
            return Err(ListError::Moved { path: place, target });
        }
        self.add(path.clone(), EntryKind::Link(target.as_os_str().as_bytes().to_vec()), found);
        self.listing.notes.push(Note::LinkNotFollowed { path, target });
        Ok(())
    }

    fn tablespace(
        &mut self,
        path: EntryPath,
        oid: u32,
        target: PathBuf,
        found: &Metadata,
    ) -> Result<(), ListError> {
        let place = self.root.join(path.as_path());
        let real = match std::fs::canonicalize(&place) {
            // DROP TABLESPACE takes the link first.
            Err(error)
                if error.kind() == ErrorKind::NotFound && std::fs::symlink_metadata(&place).is_err() =>
            {
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(ListError::TablespaceGone { path: place, target });
            }
            real => real.map_err(|source| io_error("list", &place, source))?,
        };
        if real.starts_with(&self.canonical) {
            return Err(ListError::TablespaceInside { path: place, target });
        }
        self.add(path.clone(), EntryKind::Link(target.as_os_str().as_bytes().to_vec()), found);
        self.listing.tablespaces.push(TablespaceLink { oid, location: target });
        self.folder(Some(&path), Zone::Tablespace)
    }

    fn add(&mut self, path: EntryPath, kind: EntryKind, found: &Metadata) {
        let owner = self.names.owner(found.uid(), found.gid());
        let entry = Entry { path, kind, mode: found.mode() & 0o7777, owner, modified: found.mtime() };
        match entry.kind {
            EntryKind::File(_) => self.files.push(entry),
            EntryKind::Folder | EntryKind::Link(_) => self.listing.entries.push(entry),
            EntryKind::Stream { .. } => unreachable!("a folder has no streams"),
        }
    }
}

/// Relations of a database that have an init fork: after a crash, and so after a restore, the server resets them.
fn unlogged_relations(names: &[OsString]) -> HashSet<u32> {
    let relations = names.iter().filter_map(|name| RelationFile::parse(name.as_bytes()));
    relations.filter(|file| file.fork == Fork::Init).map(|file| file.number).collect()
}

fn is_unlogged(name: &[u8], unlogged: &HashSet<u32>) -> bool {
    !unlogged.is_empty()
        && RelationFile::parse(name)
            .is_some_and(|file| file.fork != Fork::Init && unlogged.contains(&file.number))
}

/// Whether this process may read the file; yes also when it is gone.
fn may_read(path: &Path) -> Result<bool, ListError> {
    match rustix::fs::accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(true),
        Err(rustix::io::Errno::ACCESS) => Ok(false),
        Err(errno) => Err(io_error("read", path, errno.into())),
    }
}

fn special(kind: &FileType) -> &'static str {
    if kind.is_fifo() { "pipe" } else { "device" }
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> ListError {
    ListError::Io { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
