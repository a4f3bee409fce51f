//! Recovery points: what is promised when one begins, what is decided when it ends, what it consists of.
//!
//! ```text
//! intent ──▶ packs ──▶ manifest ──▶ decision          each written once; the decision is the one commit point
//! ```

use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::name::{PointId, SourceName};
use crate::page::Run;
use crate::position::{Lsn, SystemId, Timeline};
use crate::segment::{SegmentSize, WalSegment};
use crate::time::Timestamp;

/// What a writer says before it stores anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The point to be.
    pub point: PointId,
    /// Of which source.
    pub source: SourceName,
    /// The engine that reads it: `postgres`.
    pub engine: String,
    /// The point whose packs it may refer to, if any.
    pub parent: Option<PointId>,
    /// Writer's clock.
    pub began_at: Timestamp,
    /// The writer's host name.
    pub host: String,
    /// The writer's version: `strongroom 0.1.0`.
    pub tool: String,
    /// When a copy from another vault began, if it is one. A sweep never revokes it: the copy goes on where it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_at: Option<Timestamp>,
}

/// The stretch of journal a point needs to become consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRange {
    /// Whose journal.
    pub lineage: SystemId,
    /// On which timeline.
    pub timeline: Timeline,
    /// The size of its segments, in bytes.
    pub segment_size: SegmentSize,
    /// Replay begins here.
    pub start: Lsn,
    /// Replay must reach this (exclusive end).
    pub stop: Lsn,
}

impl JournalRange {
    /// The first and last segment needed.
    pub fn segments(&self) -> (WalSegment, WalSegment) {
        (
            WalSegment::holding(self.timeline, self.start, self.segment_size),
            WalSegment::ending(self.timeline, self.stop, self.segment_size),
        )
    }
}

/// A committed point in a few lines: what lists show without reading its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The point.
    pub point: PointId,
    /// Of which source.
    pub source: SourceName,
    /// The engine: `postgres`.
    pub engine: String,
    /// The server: `PostgreSQL 17.4`.
    pub product: String,
    /// The point whose packs it refers to, if any.
    pub parent: Option<PointId>,
    /// Server's clock at start.
    pub started_at: Timestamp,
    /// Server's clock at stop: the earliest time this point restores to. Of a dump: the moment its snapshot shows.
    pub stopped_at: Timestamp,
    /// Writer's clock at commit.
    pub committed_at: Timestamp,
    /// The journal it needs. `None` for a dump: it is the one moment `stopped_at`, and no journal leads on from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalRange>,
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Bytes this point added to the vault.
    pub stored: u64,
    /// Packs this point added to the vault.
    pub packs: u32,
    /// Pages whose checksum was wrong on the source's disk. Not zero = damage at the source.
    pub damaged_pages: u64,
    /// It was copied from a standby.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_standby: bool,
    /// How much of the source was looked at; `None` in dumps, and in points of builds that always read all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<Reading>,
}

/// How much of a source a point's writer read, and how much it took over from the parent on the source's own record of what
/// changed. Bytes; what is written at the end of a backup is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Read.
    pub read: u64,
    /// Taken over from the parent unread: the source's record says that it did not change.
    pub adopted: u64,
    /// Of what was read, what that record says did not change: read to prove it.
    pub proven: u64,
    /// Pages that changed and of which that record knows nothing. Not zero = it was believed for nothing in this point.
    pub contradicted: u64,
    /// Why there was no such record, or none that could be used: everything was read. `None` if there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_record: Option<String>,
    /// How the source sent its pages, and why they were not read from its files. `None` if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streamed: Option<String>,
}

/// The end of a point's making; written once, so of two that try one wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// It is whole.
    Commit {
        /// BLAKE3-128 of the manifest object, in hexadecimal.
        manifest_hash: String,
        /// Bytes of the manifest object.
        manifest_size: u64,
        /// The point in a few lines.
        summary: Box<Summary>,
    },
    /// Its writer gave up.
    Abandoned {
        /// Why.
        why: String,
    },
    /// A sweep took it for dead.
    Revoked {
        /// Which sweep.
        by: String,
    },
}

/// Where a point stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PointState {
    /// Begun and not decided: being written now, or its writer died.
    Undecided {
        /// What its writer said.
        intent: Intent,
    },
    /// Whole.
    Committed {
        /// In a few lines.
        summary: Box<Summary>,
    },
    /// Given up by its writer.
    Abandoned {
        /// Why.
        why: String,
    },
    /// Taken for dead by a sweep.
    Revoked {
        /// Which.
        by: String,
    },
    /// Its record is damaged or forged: whether it can be restored is not known. The other points are not affected.
    Unreadable {
        /// The record's key.
        object: String,
        /// Which record, and what is wrong with it.
        why: String,
    },
}

impl PointState {
    /// The state a decision leaves a point in.
    pub fn from_decision(decision: Decision) -> PointState {
        match decision {
            Decision::Commit { summary, .. } => PointState::Committed { summary },
            Decision::Abandoned { why } => PointState::Abandoned { why },
            Decision::Revoked { by } => PointState::Revoked { by },
        }
    }
}

/// A pack that a point refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackRef {
    /// The point that wrote it.
    pub owner: PointId,
    /// Its number among the owner's packs.
    pub number: u32,
    /// Its 128 random bits, part of its key.
    pub nonce: [u8; 16],
    /// Bytes of the object.
    pub size: u64,
    /// BLAKE3-128 of the object.
    pub hash: [u8; 16],
}

/// A file, folder or link of a point, and where its pages are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    /// Path, kind, mode, owner; a file's size is what was read.
    pub entry: Entry,
    /// Where its pages are; empty for folders and links. A stream has no page of zeros: how long it is only its pack knows.
    pub map: Vec<Run>,
    /// Pages whose checksum was wrong on the source's disk.
    pub damaged: Vec<u32>,
}

/// A manifest's first chunk: the point's facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointFacts {
    /// The point.
    pub point: PointId,
    /// Of which source.
    pub source: SourceName,
    /// The engine: `postgres`.
    pub engine: String,
    /// The server: `PostgreSQL 17.4`.
    pub product: String,
    /// The point whose packs it refers to, if any.
    pub parent: Option<PointId>,
    /// Server's clock at start and stop.
    pub started_at: Timestamp,
    /// The earliest time this point restores to.
    pub stopped_at: Timestamp,
    /// The journal it needs; `None` for a dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalRange>,
    /// It was copied from a standby.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_standby: bool,
    /// What the engine wants to know at restore, in its own shape.
    pub engine_facts: serde_json::Value,
}
