//! Files that nobody can change, remove or rename, root included, until the flag is taken back: what `chattr +i` sets on ext4,
//! xfs, btrfs and others (ioctl_iflags(2)). Setting and clearing it takes CAP_LINUX_IMMUTABLE.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

/// Makes a file immutable. One that its writer still gives its name is left to it.
pub(super) fn lock(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let flags = ioctl_getflags(&file)?;
    if flags.contains(IFlags::IMMUTABLE) || file.metadata()?.nlink() > 1 {
        return Ok(());
    }
    match ioctl_setflags(&file, flags | IFlags::IMMUTABLE) {
        Ok(()) => Ok(()),
        Err(Errno::PERM | Errno::ACCESS) => Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "it is written and not locked: making a file immutable takes root, or CAP_LINUX_IMMUTABLE",
        )),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            Err(io::Error::other("it is written and not locked: this file system knows no immutable files"))
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Takes the flag back once a file is `keep` old; before that, an error.
pub(super) fn unlock(path: &Path, keep: Duration) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let flags = ioctl_getflags(&file)?;
    if !flags.contains(IFlags::IMMUTABLE) {
        return Ok(());
    }
    // A file from the future is as young as can be.
    let age = fs::metadata(path)?.modified()?.elapsed().unwrap_or_default();
    if age < keep {
        let left = (keep - age).as_secs().div_ceil(3600);
        let why = format!("it is locked for {left} h more");
        return Err(io::Error::new(ErrorKind::PermissionDenied, why));
    }
    Ok(ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?)
}
