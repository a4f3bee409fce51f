//! A folder to restore into, held open: everything in it is reached from its descriptor, step by step, so that no link
//! on the way can lead out.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::process::Pid;
use strongroom_engine::EngineError;

use super::TargetError;
use super::begun::Begun;

/// A file system's promise about `syncfs`: it writes back everything, and tells when that did not work.
const WHOLE_FILE_SYSTEMS: [u64; 3] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
];

/// A folder that is being restored into.
#[derive(Debug)]
pub(super) struct Place {
    folder: OwnedFd,
    path: PathBuf,
    /// Who owned it when we came.
    pub(super) owner: u32,
    /// Whether one `syncfs` at the end makes everything durable. Otherwise each file is synced when it is closed.
    pub(super) synced_whole: bool,
}

impl Place {
    /// Takes `path`, making it if it is not there. Refuses what is not an empty folder of ours, and never removes
    /// anything.
    pub(super) fn take(path: &Path) -> Result<Place, TargetError> {
        match rustix::fs::lstat(path) {
            Err(Errno::NOENT) => make(path)?,
            found => check_kind(path, &found.map_err(io("look at", path))?)?,
        }
        let place = Place::hold(path)?;
        check_empty(path)?;
        Ok(place)
    }

    /// Takes `path` with what is in it; `None` if there is no such folder. Refuses what is not a folder of ours, or has a
    /// server running in it.
    pub(super) fn take_with_content(path: &Path) -> Result<Option<Place>, TargetError> {
        match rustix::fs::lstat(path) {
            Err(Errno::NOENT) => return Ok(None),
            found => check_kind(path, &found.map_err(io("look at", path))?)?,
        }
        let place = Place::hold(path)?;
        place.check_idle()?;
        Ok(Some(place))
    }

    /// Opens and locks a folder of ours.
    fn hold(path: &Path) -> Result<Place, TargetError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(io("open", path))?;
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(TargetError::Busy { path: path.to_owned() }),
            // Network file systems without locks for folders: `O_EXCL` still keeps two restores apart.
            Err(Errno::BADF | Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            locked => locked.map_err(io("lock", path))?,
        }
        let found = rustix::fs::fstat(&folder).map_err(io("look at", path))?;
        let me = rustix::process::geteuid();
        if !me.is_root() && found.st_uid != me.as_raw() {
            return Err(TargetError::ForeignOwner { path: path.to_owned(), owner: found.st_uid });
        }
        let synced_whole = syncs_whole(&folder);
        Ok(Place { folder, path: path.to_owned(), owner: found.st_uid, synced_whole })
    }

    /// Refuses a folder that a server runs in.
    pub(super) fn check_idle(&self) -> Result<(), TargetError> {
        match running_server(&self.path) {
            Some(pid) => {
                Err(TargetError::Running { path: self.path.clone(), pid: pid.as_raw_nonzero().get() })
            }
            None => Ok(()),
        }
    }

    /// Refuses a folder with anything in it.
    pub(super) fn check_empty(&self) -> Result<(), TargetError> {
        check_empty(&self.path)
    }

    /// The names in a folder (empty: this one), sorted, and what each is; links are not followed.
    pub(super) fn names(&self, relative: &[u8]) -> Result<Vec<(Vec<u8>, Stat)>, EngineError> {
        let failed = |errno: Errno| EngineError::io("list", self.show(relative), errno.into());
        let folder = self.open_folder(relative)?;
        let mut found = Vec::new();
        for entry in Dir::read_from(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            match rustix::fs::statat(&folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                stat => found.push((name, stat.map_err(failed)?)),
            }
        }
        found.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        Ok(found)
    }

    /// Where the link at `relative` points.
    pub(super) fn read_link(&self, relative: &[u8]) -> Result<Vec<u8>, EngineError> {
        let (parent, name) = self.parent(relative)?;
        let target = rustix::fs::readlinkat(&parent, name, Vec::new());
        let target = target.map_err(|errno| EngineError::io("read", self.show(relative), errno.into()))?;
        Ok(target.into_bytes())
    }

    /// Removes a file, a link, or an empty folder.
    pub(super) fn remove(&self, relative: &[u8], is_folder: bool) -> Result<(), EngineError> {
        let (parent, name) = self.parent(relative)?;
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(&parent, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(EngineError::io("remove", self.show(relative), errno.into())),
        }
    }

    /// The folder's path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open folder.
    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// A path within, for messages.
    pub(super) fn show(&self, relative: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(relative))
    }

    /// The folder that `relative` is in, and its name there.
    pub(super) fn parent<'p>(&self, relative: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), EngineError> {
        let mut segments: Vec<&[u8]> = relative.split(|byte| *byte == b'/').collect();
        let name = segments.pop().unwrap_or_default();
        let copy = self.folder.try_clone();
        let mut folder = copy.map_err(|source| EngineError::io("open", &self.path, source))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for segment in segments {
            folder = match rustix::fs::openat(&folder, segment, flags, Mode::empty()) {
                Err(Errno::LOOP | Errno::NOTDIR) => return Err(self.leads_out(relative)),
                next => next.map_err(|errno| {
                    EngineError::io("open the folder of", self.show(relative), errno.into())
                })?,
            };
        }
        Ok((folder, name))
    }

    /// Opens the folder at `relative` (empty: this one).
    pub(super) fn open_folder(&self, relative: &[u8]) -> Result<OwnedFd, EngineError> {
        if relative.is_empty() {
            return self.folder.try_clone().map_err(|source| EngineError::io("open", &self.path, source));
        }
        // A last segment `.` makes the folder itself the parent of what is asked for.
        Ok(self.parent(&[relative, b"/."].concat())?.0)
    }

    /// Gives a folder its mode and, if it is to have one, its owner.
    pub(super) fn dress(
        &self,
        relative: &[u8],
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<(), EngineError> {
        dress(&self.open_folder(relative)?, mode, owner)
            .map_err(|errno| EngineError::io("set owner and mode of", self.show(relative), errno.into()))
    }

    /// Makes all that was written to this place's file system durable.
    pub(super) fn sync(&self) -> Result<(), EngineError> {
        let synced = match self.synced_whole {
            true => rustix::fs::syncfs(&self.folder),
            false => rustix::fs::fsync(&self.folder),
        };
        synced.map_err(|errno| EngineError::io("sync", &self.path, errno.into()))
    }

    /// An entry whose path runs through a link or a file of the same recovery point.
    fn leads_out(&self, relative: &[u8]) -> EngineError {
        EngineError::Damaged {
            what: format!(
                "restore {}: its path runs through a link, out of the target",
                self.show(relative).display()
            ),
            hint: "the recovery point was not made by strongroom, or is damaged: try another".to_owned(),
        }
    }
}

/// Gives an open file or folder its mode and owner. The owner first: changing it can take bits off the mode.
pub(super) fn dress(file: impl AsFd, mode: u32, owner: Option<(u32, u32)>) -> Result<(), Errno> {
    if let Some((uid, gid)) = owner {
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))
}

fn io(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> TargetError {
    let path = path.to_owned();
    move |errno| TargetError::Io { operation, path, source: errno.into() }
}

/// Makes a folder that only its owner may enter, and the folders above it, for all.
fn make(path: &Path) -> Result<(), TargetError> {
    let above = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let made = above.and_then(|()| rustix::fs::mkdir(path, Mode::RWXU).map_err(std::io::Error::from));
    made.map_err(|source| TargetError::Io { operation: "create", path: path.to_owned(), source })
}

fn check_kind(path: &Path, found: &Stat) -> Result<(), TargetError> {
    use rustix::fs::FileType;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => Ok(()),
        FileType::Symlink => Err(TargetError::Link { path: path.to_owned() }),
        _ => Err(TargetError::NotAFolder { path: path.to_owned() }),
    }
}

/// Refuses a folder with anything in it; one that a server runs in with an error of its own.
fn check_empty(path: &Path) -> Result<(), TargetError> {
    let io = |source| TargetError::Io { operation: "list", path: path.to_owned(), source };
    if let Some(pid) = running_server(path) {
        return Err(TargetError::Running { path: path.to_owned(), pid: pid.as_raw_nonzero().get() });
    }
    match std::fs::read_dir(path).map_err(io)?.next() {
        None => Ok(()),
        Some(found) => {
            if let Some(Begun { point, .. }) = Begun::read(path) {
                return Err(TargetError::Unfinished { path: path.to_owned(), point });
            }
            let found = found.map_err(io)?.file_name().to_string_lossy().into_owned();
            Err(TargetError::NotEmpty { path: path.to_owned(), found })
        }
    }
}

/// The process that `postmaster.pid` names, if it is alive.
pub(crate) fn running_server(path: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(path.join("postmaster.pid")).ok()?;
    let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
    match rustix::process::test_kill_process(pid) {
        Ok(()) | Err(Errno::PERM) => Some(pid),
        Err(_) => None,
    }
}

/// Whether `syncfs` here is as good as syncing each file: on file systems known for it, and on kernels (5.8 and later)
/// that report what could not be written.
fn syncs_whole(folder: &OwnedFd) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().unwrap_or(0));
    let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // The number's type differs between machines; all of these are positive.
    let known = |kind| WHOLE_FILE_SYSTEMS.iter().any(|whole| u64::try_from(kind) == Ok(*whole));
    kernel >= (5, 8) && rustix::fs::fstatfs(folder).is_ok_and(|found| known(found.f_type))
}
