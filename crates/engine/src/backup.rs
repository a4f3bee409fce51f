//! Reading a source: inspect it, start, copy pages in parallel or as they are sent, stop.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strongroom_model::entry::{Entry, EntryPath};
use strongroom_model::point::PointFacts;
use strongroom_model::{Cx, Lsn, SegmentSize, SystemId, Timeline, Timestamp};

use crate::error::EngineError;

/// What a source is, as its server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// For people: `PostgreSQL 17.4`.
    pub product: String,
    /// Names the lineage.
    pub lineage: SystemId,
    /// Where the server writes now.
    pub timeline: Timeline,
    /// Size of its WAL segments.
    pub segment_size: SegmentSize,
    /// The server's time zone (IANA), in which zoneless restore targets are read.
    pub time_zone: String,
    /// Everything else the engine found, in the engine's own shape.
    pub facts: serde_json::Value,
}

/// How to start a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartOptions {
    /// The label the server keeps for it: the recovery point's id.
    pub label: String,
    /// Checkpoint now instead of waiting for the next one (`fast` of `pg_backup_start`).
    pub fast: bool,
}

/// Where a backup starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Which history this belongs to.
    pub lineage: SystemId,
    /// The timeline it starts on.
    pub timeline: Timeline,
    /// Where replay will begin.
    pub lsn: Lsn,
    /// Server's clock at start.
    pub at: Timestamp,
}

/// A file whose content is known only at the end: the backup label, the control file. Stored after all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateFile {
    /// Path, mode, owner; its size is the content's.
    pub entry: Entry,
    /// The whole content.
    pub content: Bytes,
}

/// Where the copy becomes consistent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Replay must reach this position (exclusive end) before the copy is consistent.
    pub lsn: Lsn,
    /// Still the start's timeline, or the backup would have failed.
    pub timeline: Timeline,
    /// Server's clock at stop: the earliest time this point can be restored to.
    pub at: Timestamp,
    /// Files to store last.
    pub late: Vec<LateFile>,
    /// The engine's facts about this point, for the manifest.
    pub facts: serde_json::Value,
}

/// A kind of source.
#[async_trait::async_trait]
pub trait Engine: Send + Sync {
    /// `postgres`. Written into every point; a restore picks the engine by it.
    fn name(&self) -> &'static str;

    /// Asks the source what it is.
    async fn inspect(&self, cx: &Cx) -> Result<Inspection, EngineError>;

    /// Brings the source into a state that can be copied, and lists what to copy or has it sent.
    async fn start(&self, cx: &Cx, options: &StartOptions) -> Result<Session, EngineError>;

    /// Asks the source to close and ship its open journal file, where it would otherwise wait for more to write.
    async fn nudge_journal(&self, _cx: &Cx) -> Result<(), EngineError> {
        Ok(())
    }

    /// What the source says is wrong with its shipping, for a message to a person; `None` if nothing.
    async fn journal_trouble(&self, _cx: &Cx) -> Option<String> {
        None
    }
}

/// A backup under way, in one of two ways.
pub enum Session {
    /// The source's files are read here, in any order and from many threads.
    Files(Box<dyn BackupSession>),
    /// The source sends them, one after the other.
    Stream(Box<dyn StreamSession>),
}

impl Session {
    /// Where it started.
    pub fn started(&self) -> &Started {
        match self {
            Session::Files(session) => session.started(),
            Session::Stream(session) => session.started(),
        }
    }

    /// Whether it is a standby that is copied.
    pub fn is_of_standby(&self) -> bool {
        match self {
            Session::Files(session) => session.is_of_standby(),
            Session::Stream(session) => session.is_of_standby(),
        }
    }
}

/// A backup that the source sends, in its own order. Dropped without `stop`, the source forgets it and nothing was taken.
#[async_trait::async_trait]
pub trait StreamSession: Send {
    /// Where it started.
    fn started(&self) -> &Started;

    /// How the files come, and why they are not read: for people.
    fn reason(&self) -> &str;

    /// Whether it is a standby that sends itself: its journal is written and shipped by another server.
    fn is_of_standby(&self) -> bool {
        false
    }

    /// About how many bytes will come; 0 if the source does not say.
    fn estimate(&self) -> u64;

    /// Checks pages that were sent, from any thread; `None` if the source has nothing to check them by.
    fn checks(&self) -> Option<Arc<dyn PageCheck>>;

    /// What comes next; `None` after the last file. Files in [`Stopped::late`] are not among these. Fails if the source
    /// stopped sending: what was sent before is worthless then.
    async fn next(&mut self, cx: &Cx) -> Result<Option<Sent>, EngineError>;

    /// Ends the backup. To be called after `next` gave `None`, with the number of pages that the checks found damaged: a
    /// source that reports damage nobody saw did not send what it has.
    async fn stop(self: Box<Self>, cx: &Cx, damaged_pages: u64) -> Result<Stopped, EngineError>;
}

/// What a source sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A folder or a link; or a file of this size, whose content comes next.
    Entry(Entry),
    /// A piece of the file named last, of any length but 0.
    Content(Bytes),
}

/// Tells damaged pages from good ones.
pub trait PageCheck: Send + Sync {
    /// Of these pages of the file at `path`, from page number `first` on, the numbers of those whose checksum is wrong for
    /// good: damaged on the source's disk. A last, short one is not checked.
    fn damaged(&self, path: &EntryPath, first: u32, pages: &[u8]) -> Vec<u32>;
}

/// A backup whose files are read here. Dropped without `stop`, the source forgets it and nothing was taken.
#[async_trait::async_trait]
pub trait BackupSession: Send {
    /// Where it started.
    fn started(&self) -> &Started;

    /// Whether it is a standby that is copied: its journal is written and shipped by another server.
    fn is_of_standby(&self) -> bool {
        false
    }

    /// What to copy; folders before what is in them. Files in [`Stopped::late`] are not among these.
    fn entries(&self) -> &[Entry];

    /// Opens entries for reading, from any thread.
    fn reader(&self) -> Arc<dyn Reader>;

    /// What the source recorded of its changes from the start of `earlier`, a point of it, to the start of this backup. Waits
    /// for a record that is being written, for a bounded time.
    async fn changes_since(&mut self, _cx: &Cx, _earlier: &PointFacts) -> Result<Changes, EngineError> {
        Ok(Changes::Unrecorded("this kind of source keeps no record of what changes".to_owned()))
    }

    /// Fails if the session with the server was lost, so that a doomed copy stops early.
    async fn check(&mut self) -> Result<(), EngineError>;

    /// Ends the backup. To be called after every page was read.
    async fn stop(self: Box<Self>, cx: &Cx) -> Result<Stopped, EngineError>;
}

/// What a source recorded of its changes.
pub enum Changes {
    /// All of them.
    Recorded(Arc<dyn ChangedPages>),
    /// Nothing that could be relied on: every page must be read. Why, for people.
    Unrecorded(String),
}

/// A source's record of the pages that changed since an earlier point.
pub trait ChangedPages: Send + Sync {
    /// Which of `pages` of the entry with this index in [`BackupSession::entries`] may have changed, in order; `None` if it
    /// says nothing of that file, so that all may have. It is asked only for whole pages that the earlier point has, of a
    /// file that did not become shorter.
    fn changed(&self, entry: usize, pages: Range<u32>) -> Option<Vec<u32>>;

    /// Whether a page that is not the earlier point's any more, and that this record does not name, proves it wrong. Not
    /// every such page does: it may have changed after this backup began, or in a way that no record is kept of and that
    /// need not be restored.
    fn is_contradicted_by(&self, page: &[u8]) -> bool;
}

/// Opens files for copying.
pub trait Reader: Send + Sync {
    /// Opens the entry with this index in [`BackupSession::entries`]; `None` if it is gone (the journal tells
    /// replay that it went).
    fn open(&self, entry: usize) -> Result<Option<Box<dyn PageSource>>, EngineError>;
}

/// An open file of the source.
pub trait PageSource: Send {
    /// Reads pages from `first` (a page number) into `buf` (a whole number of pages). Fewer bytes than asked for
    /// means the file ends there. Pages are checked where the source has checksums; a torn one was read again.
    fn read(&mut self, first: u32, buf: &mut [u8]) -> Result<PageRead, EngineError>;
}

/// What a read gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRead {
    /// Bytes read.
    pub bytes: usize,
    /// Page numbers in the file whose checksum is wrong for good: damaged on the source's disk.
    pub damaged: Vec<u32>,
}
