//! `global/pg_control`: who a cluster is, what state it is in, where its last checkpoint lies.
//!
//! ```text
//!   0 system identifier   8 control version   12 catalogue version   16 state   32 checkpoint
//!  40 copy of the checkpoint: redo, timeline …   136 minimum recovery point, timeline
//! 216 block size   220 blocks per file   224 WAL block size   228 segment size   252 page checksums   crc: `Major`
//! ```
//!
//! The offsets are those of `ControlFileData` on 64-bit little-endian machines, the same from 13 to 18 but for the
//! checksum's. The server writes the file in one piece, but a read may still see half of it: [`read_stable`].
//!
//! **Invariant**: a [`Control`] exists only for bytes whose CRC-32C held, of a version Strongroom knows, with 8 KiB blocks.

#![allow(clippy::disallowed_methods, reason = "this module is where pg_control is read from disk")]

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_engine::EngineError;
use strongroom_model::page::PAGE_SIZE;
use strongroom_model::{Lsn, SegmentSize, SystemId, Timeline};

use crate::version::Major;

/// Where it is in a data directory.
pub const CONTROL_FILE: &str = "global/pg_control";

/// Bytes of the file (`PG_CONTROL_FILE_SIZE`); all after the checksum are zero.
pub const CONTROL_SIZE: usize = 8192;

/// The checkpoint of a poisoned file. A server checks that it lies within a page (`XRecOffIsValid`) before it looks for
/// a backup label, so it must; and it lies in segment 0, which no cluster ever writes.
pub(crate) const POISON: Lsn = Lsn(0xDEAD);

/// How often, and how long apart, a torn file is read again. The server's own tools try for about a second.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

const OFFSET_CHECKPOINT: usize = 32;

/// Why a control file is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Too short to be one.
    #[error("pg_control has {bytes} bytes instead of {CONTROL_SIZE}")]
    Short {
        /// How long it is.
        bytes: usize,
    },
    /// Of another version, another byte order, or no control file.
    #[error(
        "pg_control has control version {control} and catalogue version {catalog}: that is none of PostgreSQL 13 to 18"
    )]
    UnknownVersion {
        /// `pg_control_version`.
        control: u32,
        /// `catalog_version_no`.
        catalog: u32,
    },
    /// Half written, or damaged.
    #[error("pg_control of PostgreSQL {major} does not fit its checksum")]
    Checksum {
        /// The version it says it is of.
        major: Major,
    },
    /// Built with another block size.
    #[error(
        "the cluster has blocks of {blocks} bytes and WAL blocks of {wal_blocks} bytes: only 8192 is supported"
    )]
    BlockSize {
        /// Of relations.
        blocks: u32,
        /// Of WAL.
        wal_blocks: u32,
    },
    /// A field with a value no server writes.
    #[error("pg_control says {field} is {value}, which no server writes")]
    Field {
        /// Which.
        field: &'static str,
        /// What it says.
        value: u64,
    },
}

/// Why a control file could not be read from disk.
#[derive(Debug, thiserror::Error)]
pub enum ReadControlError {
    /// The system refused.
    #[error("read {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Its content is of no use, also after reading it again.
    #[error("read {}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ControlError,
    },
}

impl From<ReadControlError> for EngineError {
    fn from(error: ReadControlError) -> EngineError {
        match error {
            ReadControlError::Io { path, source } => EngineError::io("read", path, source),
            ReadControlError::Content { ref source, .. } => {
                let what = format!("{error}: {source}");
                match source {
                    ControlError::UnknownVersion { .. } | ControlError::BlockSize { .. } => EngineError::Unfit {
                        what,
                        hint: "is this the data directory, and of a server of a supported version?".to_owned(),
                    },
                    _ => EngineError::Damaged {
                        what,
                        hint: "does `pg_controldata` read it? A damaged control file has to be restored from a backup"
                            .to_owned(),
                    },
                }
            }
        }
    }
}

/// What the server was doing when it wrote the file (`DBState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Starting.
    Startup,
    /// Shut down cleanly.
    ShutDown,
    /// A standby that was shut down cleanly.
    ShutDownInRecovery,
    /// Shutting down.
    ShuttingDown,
    /// Recovering from a crash.
    CrashRecovery,
    /// Recovering from a backup, or a standby.
    ArchiveRecovery,
    /// Running.
    InProduction,
}

/// What a control file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Names the lineage.
    pub system_id: SystemId,
    /// Whose format it has.
    pub major: Major,
    /// `catalog_version_no`.
    pub catalog: u32,
    /// What the server was doing.
    pub state: ClusterState,
    /// The last checkpoint's record.
    pub checkpoint: Lsn,
    /// Where replay from that checkpoint begins.
    pub redo: Lsn,
    /// The checkpoint's timeline.
    pub timeline: Timeline,
    /// Replay must reach this before the cluster is consistent; `None` when not recovering from an archive.
    pub min_recovery: Option<(Lsn, Timeline)>,
    /// Of WAL segments.
    pub segment_size: SegmentSize,
    /// Blocks in a relation's file before the next one (`.1`, `.2`…) begins: 131072 unless built otherwise.
    pub blocks_per_file: u32,
    /// Whether pages of relations carry checksums.
    pub checksums: bool,
}

impl Control {
    /// Reads a control file's content.
    pub fn parse(bytes: &[u8]) -> Result<Control, ControlError> {
        if bytes.len() != CONTROL_SIZE {
            return Err(ControlError::Short { bytes: bytes.len() });
        }
        let (control, catalog) = (u32_at(bytes, 8), u32_at(bytes, 12));
        let major =
            Major::of_control(control, catalog).ok_or(ControlError::UnknownVersion { control, catalog })?;
        if crc(bytes, major) != u32_at(bytes, major.control_crc()) {
            return Err(ControlError::Checksum { major });
        }
        let (blocks, wal_blocks) = (u32_at(bytes, 216), u32_at(bytes, 224));
        if (blocks as usize, wal_blocks as usize) != (PAGE_SIZE, PAGE_SIZE) {
            return Err(ControlError::BlockSize { blocks, wal_blocks });
        }
        let state = u32_at(bytes, 16);
        let segment_size = u64::from(u32_at(bytes, 228));
        let timeline = u32_at(bytes, 48);
        Ok(Control {
            system_id: SystemId(u64_at(bytes, 0)),
            major,
            catalog,
            state: state_of(state).ok_or(ControlError::Field { field: "state", value: state.into() })?,
            checkpoint: Lsn(u64_at(bytes, OFFSET_CHECKPOINT)),
            redo: Lsn(u64_at(bytes, 40)),
            timeline: Timeline::new(timeline)
                .ok_or(ControlError::Field { field: "the timeline", value: timeline.into() })?,
            min_recovery: Timeline::new(u32_at(bytes, 144))
                .map(|timeline| (Lsn(u64_at(bytes, 136)), timeline)),
            segment_size: SegmentSize::new(segment_size)
                .ok_or(ControlError::Field { field: "the size of WAL segments", value: segment_size })?,
            blocks_per_file: u32_at(bytes, 220),
            checksums: u32_at(bytes, 252) != 0,
        })
    }
}

/// Reads the control file at `path`, again while it does not fit its checksum: the server may be writing it.
/// Gives the exact bytes that were parsed, too.
pub fn read_stable(path: &Path) -> Result<(Control, Vec<u8>), ReadControlError> {
    let mut tries = 1;
    loop {
        let bytes =
            std::fs::read(path).map_err(|source| ReadControlError::Io { path: path.to_owned(), source })?;
        match Control::parse(&bytes) {
            Ok(control) => return Ok((control, bytes)),
            // A torn write can mix any two versions of any field, but not for a second.
            Err(_) if tries < TRIES => {
                tries += 1;
                // Not a wait for our own threads: another process's write is to pass.
                std::thread::sleep(PAUSE);
            }
            Err(source) => return Err(ReadControlError::Content { path: path.to_owned(), source }),
        }
    }
}

/// The same control file with a checkpoint that does not exist. A server that is given the backup label takes its
/// checkpoint from there and never looks; one whose label was removed, which would start from the wrong checkpoint
/// and corrupt itself silently, refuses to start instead.
pub fn poisoned(bytes: &[u8]) -> Result<Vec<u8>, ControlError> {
    let major = Control::parse(bytes)?.major;
    let mut poisoned = bytes.to_vec();
    poisoned[OFFSET_CHECKPOINT..OFFSET_CHECKPOINT + 8].copy_from_slice(&POISON.0.to_le_bytes());
    let at = major.control_crc();
    let crc = crc(&poisoned, major);
    poisoned[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(poisoned)
}

/// The checksum these bytes should carry.
fn crc(bytes: &[u8], major: Major) -> u32 {
    crc32c::crc32c(&bytes[..major.control_crc()])
}

fn state_of(number: u32) -> Option<ClusterState> {
    Some(match number {
        0 => ClusterState::Startup,
        1 => ClusterState::ShutDown,
        2 => ClusterState::ShutDownInRecovery,
        3 => ClusterState::ShuttingDown,
        4 => ClusterState::CrashRecovery,
        5 => ClusterState::ArchiveRecovery,
        6 => ClusterState::InProduction,
        _ => return None,
    })
}

/// Callers have checked the length: all offsets are constants below [`CONTROL_SIZE`].
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A control file of this version, as initdb leaves it.
    pub(crate) fn control(major: Major) -> Vec<u8> {
        let mut bytes = vec![0; CONTROL_SIZE];
        let (control, catalog) = match major.number() {
            18 => (1800, 202506291u32),
            17 => (1700, 202406281),
            16 => (1300, 202307071),
            15 => (1300, 202209061),
            14 => (1300, 202107181),
            _ => (1300, 202007201),
        };
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &7_710_384_190_146_594_273u64.to_le_bytes());
        put(8, &u32::to_le_bytes(control));
        put(12, &catalog.to_le_bytes());
        put(16, &1u32.to_le_bytes());
        put(32, &0x15_0000A0u64.to_le_bytes());
        put(40, &0x15_000028u64.to_le_bytes());
        put(48, &3u32.to_le_bytes());
        put(216, &8192u32.to_le_bytes());
        put(220, &131_072u32.to_le_bytes());
        put(224, &8192u32.to_le_bytes());
        put(228, &(16u32 << 20).to_le_bytes());
        put(252, &1u32.to_le_bytes());
        seal(bytes, major)
    }

    fn seal(mut bytes: Vec<u8>, major: Major) -> Vec<u8> {
        let crc = crc(&bytes, major);
        bytes[major.control_crc()..major.control_crc() + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn every_version_reads() {
        for major in Major::all() {
            let read = Control::parse(&control(major)).unwrap();
            assert_eq!(
                (read.major, read.timeline.get(), read.checksums, read.blocks_per_file),
                (major, 3, true, 131_072)
            );
            assert_eq!((read.checkpoint, read.redo), (Lsn(0x15_0000A0), Lsn(0x15_000028)));
            assert_eq!((read.state, read.min_recovery), (ClusterState::ShutDown, None));
        }
    }

    #[test]
    fn poison_changes_the_checkpoint_and_nothing_else() {
        for major in Major::all() {
            let bytes = control(major);
            let poisoned = poisoned(&bytes).unwrap();
            let (before, after) = (Control::parse(&bytes).unwrap(), Control::parse(&poisoned).unwrap());
            assert_eq!(after, Control { checkpoint: Lsn(0xDEAD), ..before });
            let changed = (0..CONTROL_SIZE).filter(|at| bytes[*at] != poisoned[*at]);
            let crc = major.control_crc();
            assert!(changed.into_iter().all(|at| (32..40).contains(&at) || (crc..crc + 4).contains(&at)));
        }
    }

    #[test]
    fn other_block_sizes_and_versions_are_refused() {
        let major = Major::new(15).unwrap();
        let mut big = control(major);
        big[216..220].copy_from_slice(&32768u32.to_le_bytes());
        assert_eq!(
            Control::parse(&seal(big, major)),
            Err(ControlError::BlockSize { blocks: 32768, wal_blocks: 8192 })
        );
        let mut old = control(major);
        old[8..12].copy_from_slice(&1201u32.to_le_bytes());
        assert!(matches!(Control::parse(&old), Err(ControlError::UnknownVersion { control: 1201, .. })));
        assert_eq!(Control::parse(&[0; 512]), Err(ControlError::Short { bytes: 512 }));
    }

    #[test]
    fn behaviour_20_a_torn_control_file_is_read_again_until_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pg_control");
        let whole = control(Major::new(17).unwrap());
        let mut torn = whole.clone();
        torn[40] ^= 1;
        std::fs::write(&path, &torn).unwrap();
        let (writer_path, writer_bytes) = (path.clone(), whole.clone());
        // Whichever comes first, the reader must end with the whole file: a rename is atomic.
        let writer = std::thread::spawn(move || {
            let other = writer_path.with_extension("new");
            std::fs::write(&other, writer_bytes).unwrap();
            std::fs::rename(other, writer_path).unwrap();
        });
        assert_eq!(read_stable(&path).unwrap().1, whole);
        writer.join().unwrap();
        std::fs::write(&path, torn).unwrap();
        let error = read_stable(&path).unwrap_err();
        assert!(matches!(error, ReadControlError::Content { source: ControlError::Checksum { .. }, .. }));
    }

    proptest! {
        #[test]
        fn no_flipped_bit_goes_unseen(at in 0usize..288, bit in 0u8..8) {
            let mut bytes = control(Major::new(16).unwrap());
            bytes[at] ^= 1 << bit;
            prop_assert!(Control::parse(&bytes).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut padded = bytes.clone();
            padded.resize(CONTROL_SIZE, 0);
            prop_assert!(Control::parse(&bytes).is_err());
            prop_assert!(Control::parse(&padded).is_err());
        }
    }
}
