//! The server's side of `archive_command` and `restore_command`: reading the file it offers, placing the one it asks for.
//!
//! ```text
//! archive_command   %p ─▶ read, name, header, system id, transactions ─▶ to be shipped
//! restore_command   fetched ─▶ header checked ─▶ temporary file ─▶ renamed to %p
//! ```
//!
//! **Invariant**: nothing ever lies at `%p` that was not checked; the server takes whatever it finds there (incident 19).

#![allow(clippy::disallowed_methods, reason = "this module is where WAL files are read and placed")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use strongroom_model::segment::NotAWalFile;
use strongroom_model::{SegmentSize, SystemId, Timestamp, WalFile};

use crate::control::{CONTROL_FILE, Control, ReadControlError, read_stable};
use crate::wal::{WalError, check_segment, commit_times};

/// What stands in the way of shipping or placing a WAL file.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not a WAL file's name.
    #[error(transparent)]
    Name(#[from] NotAWalFile),
    /// The file cannot be read or written.
    #[error("{operation} {path}")]
    Io {
        /// `read` or `write`.
        operation: &'static str,
        /// Which.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The cluster the file belongs to cannot be told.
    #[error("tell which cluster {file} belongs to: it does not lie in the pg_wal of a data directory")]
    Homeless {
        /// Which.
        file: WalFile,
        /// What reading `pg_control` said.
        #[source]
        source: ReadControlError,
    },
    /// The file is not what its name or its cluster says.
    #[error("{file} is not what it should be")]
    Wrong {
        /// Which.
        file: WalFile,
        /// Why.
        #[source]
        source: WalError,
    },
    /// A segment that is not as long as a segment.
    #[error("{file} has {found} bytes and a segment of this cluster has {wanted}")]
    Size {
        /// Which.
        file: WalFile,
        /// Its length.
        found: u64,
        /// What it should be.
        wanted: u64,
    },
}

/// A WAL file that the server has finished, read and checked.
#[derive(Debug)]
pub struct FinishedWal {
    /// Its name.
    pub file: WalFile,
    /// Its whole content.
    pub content: Vec<u8>,
    /// The cluster it is of.
    pub system_id: SystemId,
    /// Of that cluster.
    pub segment_size: SegmentSize,
    /// `PostgreSQL 17`.
    pub product: String,
    /// When the first and last transaction in it ended.
    pub transactions: Option<(Timestamp, Timestamp)>,
}

/// Reads the file that the server offers as `%p`: relative to the data directory, which is the working directory then,
/// or absolute.
pub fn read_finished(path: &Path) -> Result<FinishedWal, ArchiveError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let file = WalFile::parse(&name)?;
    let control = control_beside(path).map_err(|source| ArchiveError::Homeless { file, source })?;
    let content = fs::read(path).map_err(|source| io("read", path, source))?;
    let mut transactions = None;
    if let WalFile::Segment(segment) | WalFile::Partial(segment) = file {
        let wanted = control.segment_size.bytes();
        if content.len() as u64 != wanted {
            return Err(ArchiveError::Size { file, found: content.len() as u64, wanted });
        }
        check_segment(&content, segment, control.system_id)
            .map_err(|source| ArchiveError::Wrong { file, source })?;
        transactions = commit_times(&content);
    }
    Ok(FinishedWal {
        file,
        content,
        system_id: control.system_id,
        segment_size: control.segment_size,
        product: format!("PostgreSQL {}", control.major.number()),
        transactions,
    })
}

/// Segments after the file at `path` that the server has finished and still offers, in their order: those that
/// `archive_status` beside it calls ready (PostgreSQL's `pgarch.c`).
pub fn ready_after(path: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let status = folder.join("archive_status");
    let unreadable = |source| io("read", &status, source);
    let mut ready = Vec::new();
    for entry in fs::read_dir(&status).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".ready")) else { continue };
        let is_segment = matches!(WalFile::parse(name), Ok(WalFile::Segment(_)));
        if is_segment && path.file_name().is_some_and(|first| first.as_encoded_bytes() < name.as_bytes()) {
            ready.push(folder.join(name));
        }
    }
    ready.sort();
    Ok(ready)
}

/// The control file of the data directory whose `pg_wal` holds `path` (which need not exist).
pub fn control_beside(path: &Path) -> Result<Control, ReadControlError> {
    let data = path.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    read_stable(&data.join(CONTROL_FILE)).map(|(control, _)| control)
}

/// Puts a fetched file at `destination` (the server's `%p`), whole and checked or not at all.
pub fn place(
    destination: &Path,
    file: WalFile,
    content: &[u8],
    system_id: SystemId,
    size: SegmentSize,
) -> Result<(), ArchiveError> {
    if let WalFile::Segment(segment) = file {
        if content.len() as u64 != size.bytes() {
            return Err(ArchiveError::Size { file, found: content.len() as u64, wanted: size.bytes() });
        }
        check_segment(content, segment, system_id).map_err(|source| ArchiveError::Wrong { file, source })?;
    }
    let mut temporary = destination.as_os_str().to_owned();
    temporary.push(format!(".strongroom-{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = File::create(&temporary)
        .and_then(|mut out| out.write_all(content))
        .and_then(|()| fs::rename(&temporary, destination));
    written.map_err(|source| {
        // The first error is the answer; a temporary file left behind is cleared by the server at its next start.
        let _ = fs::remove_file(&temporary);
        io("write", destination, source)
    })
}

fn io(operation: &'static str, path: &Path, source: std::io::Error) -> ArchiveError {
    ArchiveError::Io { operation, path: path.display().to_string(), source }
}
