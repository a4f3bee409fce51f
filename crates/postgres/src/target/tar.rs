//! Writing a recovery point as the archives of `pg_basebackup -Ft`.
//!
//! ```text
//! prepare  every member's header is written, and room for its content kept behind it: base.tar, OID.tar, pg_wal.tar
//! open     pages, each at its place in the archive, from several threads
//! finish   archives end ▶ all durable ▶ they get their names ▶ those durable, too
//! ```
//!
//! Sizes are known before the first page, so an archive is no stream here but a file laid out in advance; pages that are
//! zeros stay holes of it.
//!
//! **Invariants**
//! - Until `finish` has made everything durable each archive is named `….strongroom-unfinished`. A crash at any point leaves
//!   a folder that the next export refuses as not empty.
//! - Files are made anew (`O_EXCL`): what is there is never overwritten.
//! - Tablespaces' links are in no archive: `tablespace_map` has the server make them, as after `pg_basebackup -Ft`.

#![allow(clippy::disallowed_methods, reason = "this module is where archives are written")]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use strongroom_engine::{EngineError, PageSink};
use strongroom_model::entry::{Entry, EntryKind, EntryPath, Owner};
use strongroom_model::page::PAGE_SIZE;

use super::place::Place;
use super::sink::write_error;
use super::{TargetError, lock, sync_parent, within_tablespace, write_all};

/// Follows an archive's name until everything is durable.
const UNFINISHED: &str = ".strongroom-unfinished";

/// Bytes of a header, and what contents are rounded up to (POSIX `ustar`).
const BLOCK: u64 = 512;

/// The longest name and link that `pg_basebackup` writes, and that PostgreSQL reads back: the header's first field alone.
const LONGEST: usize = 99;

/// A folder of archives being written.
pub struct TarTarget {
    place: Place,
    archives: Mutex<BTreeMap<String, Archive>>,
    members: Mutex<BTreeMap<EntryPath, Member>>,
}

struct Archive {
    file: Arc<OwnedFd>,
    /// Where the next member goes.
    end: u64,
}

/// A file in an archive.
#[derive(Clone)]
struct Member {
    file: Arc<OwnedFd>,
    /// The archive, for messages.
    path: PathBuf,
    /// Where its content begins.
    at: u64,
    size: u64,
}

impl TarTarget {
    /// Takes the folder `path`, making it if it is not there.
    pub fn create(path: &Path) -> Result<TarTarget, TargetError> {
        let place = Place::take(path)?;
        Ok(TarTarget { place, archives: Mutex::default(), members: Mutex::default() })
    }

    /// Writes an entry's header, and keeps room for its content.
    pub fn prepare(&self, entry: &Entry) -> Result<(), EngineError> {
        let (archive, name) = archive_of(&entry.path);
        let mut archives = lock(&self.archives);
        let unfinished = format!("{archive}{UNFINISHED}");
        let shown = self.place.show(unfinished.as_bytes());
        let archive = match archives.entry(archive) {
            std::collections::btree_map::Entry::Occupied(archive) => archive.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(Archive { file: Arc::new(self.make(&unfinished)?), end: 0 })
            }
        };
        if name.is_empty() {
            // A tablespace's link: it has an archive, if only an empty one.
            return Ok(());
        }
        let header = header(entry, name).ok_or_else(|| EngineError::Unfit {
            what: format!(
                "write {} into {}: its path is too long for an archive",
                entry.path,
                shown.display()
            ),
            hint: "export a plain folder: leave out --tar".to_owned(),
        })?;
        write_all(&archive.file, &header, archive.end).map_err(|errno| write_error(&shown, errno))?;
        let (at, size) = (archive.end + BLOCK, entry.size());
        archive.end = at + size.next_multiple_of(BLOCK);
        if matches!(entry.kind, EntryKind::File(_)) {
            let member = Member { file: archive.file.clone(), path: shown, at, size };
            lock(&self.members).insert(entry.path.clone(), member);
        }
        Ok(())
    }

    /// Opens a prepared file for writing pages.
    pub fn open(&self, entry: &Entry) -> Result<Box<dyn PageSink>, EngineError> {
        let member = lock(&self.members).get(&entry.path).cloned();
        let missing = || EngineError::Damaged {
            what: format!("open {} in {}: it was not prepared", entry.path, self.place.path().display()),
            hint: "the recovery point's manifest contradicts itself: try another recovery point".to_owned(),
        };
        Ok(Box::new(member.ok_or_else(missing)?))
    }

    /// Writes a file beside the archives, durable once it has its name; after [`TarTarget::finish`] what marks the folder
    /// as complete.
    pub fn put_beside(&self, name: &str, content: &[u8]) -> Result<(), EngineError> {
        let unfinished = format!("{name}{UNFINISHED}");
        let (file, shown) = (self.make(&unfinished)?, self.place.show(unfinished.as_bytes()));
        write_all(&file, content, 0).map_err(|errno| write_error(&shown, errno))?;
        self.complete(&file, name)?;
        self.place.sync()
    }

    /// Ends the archives and gives them their names, everything being durable.
    pub fn finish(&self) -> Result<(), EngineError> {
        let archives = lock(&self.archives);
        for (name, archive) in archives.iter() {
            // Two blocks of zeros end an archive.
            let ended = rustix::fs::ftruncate(&archive.file, archive.end + 2 * BLOCK);
            ended.and_then(|()| rustix::fs::fsync(&archive.file)).map_err(|errno| {
                write_error(&self.place.show(format!("{name}{UNFINISHED}").as_bytes()), errno)
            })?;
        }
        for (name, archive) in archives.iter() {
            self.complete(&archive.file, name)?;
        }
        self.place.sync()?;
        sync_parent(self.place.path())
    }

    fn make(&self, name: &str) -> Result<OwnedFd, EngineError> {
        let (folder, file) = self.place.parent(name.as_bytes())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&folder, file, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| EngineError::io("create", self.place.show(name.as_bytes()), errno.into()))
    }

    /// Makes a file durable and gives it its name.
    fn complete(&self, file: &OwnedFd, name: &str) -> Result<(), EngineError> {
        let unfinished = format!("{name}{UNFINISHED}");
        let shown = self.place.show(unfinished.as_bytes());
        rustix::fs::fsync(file).map_err(|errno| EngineError::io("sync", &shown, errno.into()))?;
        let (folder, from) = self.place.parent(unfinished.as_bytes())?;
        rustix::fs::renameat(&folder, from, &folder, name)
            .map_err(|errno| EngineError::io("rename", &shown, errno.into()))
    }
}

impl PageSink for Member {
    fn write(&mut self, first: u32, bytes: &[u8]) -> Result<(), EngineError> {
        let offset = u64::from(first) * PAGE_SIZE as u64;
        if offset + bytes.len() as u64 > self.size {
            // What comes behind it in the archive is another file's.
            return Err(EngineError::Damaged {
                what: format!(
                    "write {}: page {first} lies beyond its file's size of {}",
                    self.path.display(),
                    self.size
                ),
                hint: "the recovery point's manifest contradicts itself: try another recovery point"
                    .to_owned(),
            });
        }
        write_all(&self.file, bytes, self.at + offset).map_err(|errno| write_error(&self.path, errno))
    }

    fn close(self: Box<Self>) -> Result<(), EngineError> {
        Ok(())
    }
}

/// The archive an entry goes into, and its name there; none for a tablespace's link.
fn archive_of(path: &EntryPath) -> (String, &[u8]) {
    let bytes = path.as_bytes();
    match (within_tablespace(bytes), bytes.strip_prefix(b"pg_wal/")) {
        (Some((oid, rest)), _) => (format!("{oid}.tar"), rest),
        // The folders must be there before anything is put into them.
        (None, Some(rest)) if rest != b"archive_status" && rest != b"summaries" => {
            ("pg_wal.tar".to_owned(), rest)
        }
        _ => ("base.tar".to_owned(), bytes),
    }
}

/// A header as PostgreSQL writes them (`tarCreateHeader` of `port/tar.c`); `None` if a name does not fit, and for a dump's part,
/// which is no file.
fn header(entry: &Entry, name: &[u8]) -> Option<[u8; BLOCK as usize]> {
    let (mut name, mut target) = (name.to_vec(), &[][..]);
    let kind = match &entry.kind {
        EntryKind::File(_) => b'0',
        EntryKind::Link(to) => {
            target = to.as_slice();
            b'2'
        }
        EntryKind::Folder => {
            name.push(b'/');
            b'5'
        }
        EntryKind::Stream { .. } => return None,
    };
    if name.len() > LONGEST || target.len() > LONGEST {
        return None;
    }
    let Owner { uid, gid, user, group } = &entry.owner;
    let mut header = [0; BLOCK as usize];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    put(0, &name);
    put(100, &number::<8>(u64::from(entry.mode & 0o7777)));
    put(108, &number::<8>(u64::from(*uid)));
    put(116, &number::<8>(u64::from(*gid)));
    put(124, &number::<12>(entry.size()));
    put(136, &number::<12>(u64::try_from(entry.modified).unwrap_or_default()));
    put(156, &[kind]);
    put(157, target);
    put(257, b"ustar\x0000");
    let of_names = |name: &Option<String>| name.clone().filter(|name| name.len() < 32).unwrap_or_default();
    put(265, of_names(user).as_bytes());
    put(297, of_names(group).as_bytes());
    put(329, &number::<8>(0));
    put(337, &number::<8>(0));
    // The checksum counts its own field as blanks.
    put(148, b"        ");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(&number::<8>(sum));
    Some(header)
}

/// A number in octal and a blank; one that is too large for that in binary, marked by the highest bit (as GNU tar does).
fn number<const N: usize>(mut value: u64) -> [u8; N] {
    let mut field = [b' '; N];
    let octal = value >> (3 * (N - 1)) == 0;
    let (digits, bits) = if octal { (&mut field[..N - 1], 3) } else { (&mut field[..], 8) };
    for digit in digits.iter_mut().rev() {
        let low = (value & ((1 << bits) - 1)) as u8;
        *digit = if octal { b'0' + low } else { low };
        value >>= bits;
    }
    if !octal {
        field[0] |= 0x80;
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8], kind: EntryKind) -> Entry {
        let owner = Owner { uid: 26, gid: 26, user: Some("postgres".to_owned()), group: None };
        Entry { path: EntryPath::new(path).unwrap(), kind, mode: 0o600, owner, modified: 1_700_000_000 }
    }

    #[test]
    fn entries_go_where_pg_basebackup_puts_them() {
        for (path, archive, name) in [
            ("PG_VERSION", "base.tar", "PG_VERSION"),
            ("pg_tblspc", "base.tar", "pg_tblspc"),
            ("pg_tblspc/16401", "16401.tar", ""),
            ("pg_tblspc/16401/PG_15_202209061/5/1", "16401.tar", "PG_15_202209061/5/1"),
            ("pg_wal", "base.tar", "pg_wal"),
            ("pg_wal/archive_status", "base.tar", "pg_wal/archive_status"),
            ("pg_wal/summaries", "base.tar", "pg_wal/summaries"),
            ("pg_wal/archive_status/x.done", "pg_wal.tar", "archive_status/x.done"),
            ("pg_wal/000000010000000000000001", "pg_wal.tar", "000000010000000000000001"),
        ] {
            assert_eq!(archive_of(&EntryPath::new(path).unwrap()), (archive.to_owned(), name.as_bytes()));
        }
    }

    #[test]
    fn numbers_are_octal_as_long_as_they_fit() {
        assert_eq!(&number::<8>(0o600), b"0000600 ");
        assert_eq!(&number::<12>((8 << 30) - 1), b"77777777777 ");
        assert_eq!(number::<12>(8 << 30), [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(number::<8>(u64::from(u32::MAX)), [0x80, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_is_cut() {
        let long = [b'n'; LONGEST];
        assert!(header(&entry(&long, EntryKind::File(1)), &long).is_some());
        assert!(header(&entry(&long, EntryKind::Folder), &long).is_none(), "a folder's name ends in a slash");
        let link = |length| header(&entry(b"l", EntryKind::Link(vec![b'x'; length])), b"l");
        assert!(link(LONGEST).is_some() && link(LONGEST + 1).is_none());
        let root = tempfile::tempdir().unwrap();
        let target = TarTarget::create(root.path()).unwrap();
        let file = entry(b"PG_VERSION", EntryKind::File(3));
        target.prepare(&file).unwrap();
        assert!(target.open(&file).unwrap().write(0, b"16\n4").is_err(), "beyond its end is the next header");
        assert!(target.open(&entry(b"other", EntryKind::File(3))).is_err());
    }

    #[test]
    fn a_folder_is_unfinished_until_it_is_finished() {
        let root = tempfile::tempdir().unwrap();
        let names = || {
            let names = std::fs::read_dir(root.path()).unwrap();
            let mut names: Vec<_> =
                names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let target = TarTarget::create(root.path()).unwrap();
        let file = entry(b"PG_VERSION", EntryKind::File(3));
        target.prepare(&file).unwrap();
        target.open(&file).unwrap().write(0, b"16\n").unwrap();
        assert_eq!(names(), ["base.tar.strongroom-unfinished"]);
        assert!(matches!(TarTarget::create(root.path()), Err(TargetError::Busy { .. })));
        target.finish().unwrap();
        target.put_beside("backup_manifest", b"{}").unwrap();
        assert_eq!(names(), ["backup_manifest", "base.tar"]);
        assert_eq!(std::fs::metadata(root.path().join("base.tar")).unwrap().len(), 4 * BLOCK);
        drop(target);
        assert!(matches!(TarTarget::create(root.path()), Err(TargetError::NotEmpty { .. })));
    }
}
