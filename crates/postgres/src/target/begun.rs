//! The note in a folder that a restore into it is under way, or was when it was killed.
//!
//! It says of which cluster: a folder whose control file is not yet written, or half written, can still be told from a
//! stranger's. It is durable before anything in the folder is changed, and goes once everything else is durable.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use strongroom_model::{PointId, SystemId};

/// The note's name in the folder.
pub const UNFINISHED: &str = "strongroom_unfinished.json";

/// What is being restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Of which cluster.
    pub system_id: SystemId,
    /// Which point.
    pub point: PointId,
}

impl Begun {
    /// Writes the note into an open folder, durably, in place of one that an earlier restore left.
    pub(super) fn note(&self, folder: impl AsFd) -> Result<(), Errno> {
        // Two strings, which JSON cannot refuse.
        let text = serde_json::to_vec(self).unwrap_or_else(|why| unreachable!("a note is not JSON: {why}"));
        // Under another name first: a torn note would say nothing of whose the folder is.
        let new = "strongroom_unfinished.json.new";
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, new, flags, Mode::RUSR | Mode::WUSR)?;
        super::write_all(&file, &text, 0)?;
        rustix::fs::fsync(&file)?;
        rustix::fs::renameat(&folder, new, &folder, UNFINISHED)?;
        rustix::fs::fsync(&folder)
    }

    /// The note in the folder `path`, if there is one that reads.
    pub(super) fn read(path: &Path) -> Option<Begun> {
        serde_json::from_slice(&std::fs::read(path.join(UNFINISHED)).ok()?).ok()
    }

    /// Takes the note away.
    pub(super) fn done(folder: impl AsFd) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&folder, UNFINISHED, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            gone => gone.and_then(|()| rustix::fs::fsync(&folder)),
        }
    }
}
