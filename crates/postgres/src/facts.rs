//! What a recovery point of a cluster says of it, and what must hold of its label.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use strongroom_engine::{EngineError, Started};
use strongroom_model::{Lsn, SegmentSize, SystemId, Timestamp};

use crate::inspect::{PostgresInspection, Tablespace};
use crate::label::BackupLabel;

/// What a manifest keeps about a PostgreSQL recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresFacts {
    /// `server_version_num`: 150004 is 15.4.
    pub version_num: u32,
    /// `server_version`, with what the packager added.
    pub version: String,
    /// Names the lineage.
    pub system_id: SystemId,
    /// Version of the catalogs' layout, part of the folder names in tablespaces.
    pub catalog_version: u32,
    /// Size of pages, bytes.
    pub block_size: u32,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// Size of WAL segments.
    pub segment_size: SegmentSize,
    /// Where the files were; empty if the role could not see it and they were sent.
    pub data_directory: String,
    /// The tablespaces, and where they were.
    pub tablespaces: Vec<Tablespace>,
    /// Names of its databases, by number. Empty in points of builds before this was stored.
    #[serde(default)]
    pub databases: BTreeMap<u32, String>,
    /// What the server named the backup's start and end by.
    pub backup_label: String,
    /// Where replay begins.
    pub start_lsn: Lsn,
    /// Where the copy is consistent (exclusive).
    pub stop_lsn: Lsn,
    /// Server's clock at the end.
    pub stopped_at: Timestamp,
    /// What was amiss at the server and did not stand in the way.
    pub warnings: Vec<String>,
}

/// How a backup ended, whichever way its pages came.
pub(crate) struct End {
    pub(crate) data_directory: String,
    pub(crate) label: String,
    pub(crate) lsn: Lsn,
    pub(crate) at: Timestamp,
    pub(crate) warnings: Vec<String>,
}

impl PostgresFacts {
    /// The facts of a backup of this server.
    pub(crate) fn of(server: &PostgresInspection, started: &Started, end: End) -> PostgresFacts {
        PostgresFacts {
            version_num: server.version_num,
            version: server.version.clone(),
            system_id: server.system_id,
            catalog_version: server.catalog_version,
            block_size: server.block_size,
            data_checksums: server.data_checksums,
            segment_size: server.segment_size,
            data_directory: end.data_directory,
            tablespaces: server.tablespaces.clone(),
            databases: server.databases.clone(),
            backup_label: end.label,
            start_lsn: started.lsn,
            stop_lsn: end.lsn,
            stopped_at: end.at,
            warnings: end.warnings,
        }
    }
}

/// The label must tell of the backup that was begun. Read, if it does.
pub(crate) fn fitting_label(label: &str, started: &Started, place: &str) -> Result<BackupLabel, EngineError> {
    match BackupLabel::parse(label) {
        Ok(read) if (read.start, read.timeline) == (started.lsn, started.timeline) => return Ok(read),
        Ok(_) => {}
        Err(error) => tracing::warn!("{error}"),
    }
    Err(overtaken(format!(
        "end the backup at {place}: its label is not of what began at {} on timeline {}",
        started.lsn, started.timeline
    )))
}

/// What to ask of a folder that is not the server's own.
pub(crate) const OWN_FOLDER: &str = "is data_directory the one of this server, seen from this host?";

/// The folder is of the same cluster, and not the server's own.
pub(crate) fn a_copy(folder: &Path) -> EngineError {
    let place = folder.display();
    EngineError::Unfit {
        what: format!(
            "read {place}: it is a copy of the cluster (another server's or a clone's), not the server's own"
        ),
        hint: OWN_FOLDER.to_owned(),
    }
}

/// The server changed under the backup.
pub(crate) fn overtaken(what: String) -> EngineError {
    let hint = "was the server restarted or promoted, or the session ended? nothing was taken: run `strongroom backup` again";
    EngineError::Overtaken { what, hint: hint.to_owned() }
}
