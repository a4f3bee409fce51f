//! Reading a source as streams of its own making: rows as text, a schema, not files and pages.
//!
//! ```text
//! DumpEngine ── start (one snapshot) ▶ parts, listed ▶ open, many at a time, each from its beginning to its end ▶ stop (facts)
//! DumpTarget ── plan (refuses, or says what it wants) ▶ open the first parts, then the rest, many at a time ▶ finish (checks)
//! ```
//!
//! A dump has no journal: it restores to the one moment its snapshot was taken.

use bytes::Bytes;
use serde::Serialize;
use strongroom_model::entry::EntryPath;
use strongroom_model::{Cx, Timestamp};

use crate::error::EngineError;

/// A stream that a dump consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpPart {
    /// Its name in the point. The same part of the next dump has the same name, which is how what did not change is found.
    pub path: EntryPath,
    /// About how many bytes it will have; 0 if the source does not say.
    pub estimate: u64,
}

/// A dump that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// Server's clock at the moment that all parts show, as [`DumpSession::at`] said: what the point restores to.
    pub at: Timestamp,
    /// What a restore compares with, and whatever else the engine wants to know then, in its own shape.
    pub facts: serde_json::Value,
}

/// What a source is that is dumped, as its server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DumpInspection {
    /// For people: `PostgreSQL 17.4`.
    pub product: String,
    /// What is dumped, for people: `database shop at db.example.org:5432`.
    pub what: String,
    /// Everything else the engine found, in the engine's own shape.
    pub facts: serde_json::Value,
}

/// A kind of source that is dumped.
#[async_trait::async_trait]
pub trait DumpEngine: Send + Sync {
    /// `postgres-logical`. Written into every point; a restore picks the engine by it.
    fn name(&self) -> &'static str;

    /// Asks the source what it is, and whether it can be dumped whole.
    async fn inspect(&self, cx: &Cx) -> Result<DumpInspection, EngineError>;

    /// Takes the snapshot, and lists the parts.
    async fn start(&self, cx: &Cx) -> Result<Box<dyn DumpSession>, EngineError>;
}

/// A dump under way. Dropped without `stop`, the source forgets it and nothing was taken.
#[async_trait::async_trait]
pub trait DumpSession: Send + Sync {
    /// Server's clock at the moment that all parts show.
    fn at(&self) -> Timestamp;

    /// What there is to read, in the order in which it should be begun: what takes longest first.
    fn parts(&self) -> &[DumpPart];

    /// Begins to read a part. As many may be read at a time as there are workers.
    async fn open(&self, cx: &Cx, part: usize) -> Result<Box<dyn PartReader>, EngineError>;

    /// Ends the dump, after every part was read to its end.
    async fn stop(self: Box<Self>, cx: &Cx) -> Result<Dumped, EngineError>;
}

/// One part, being read.
#[async_trait::async_trait]
pub trait PartReader: Send {
    /// What comes next, in pieces of any length; `None` after the last. A part that ends early is an error, never `None`.
    async fn next(&mut self, cx: &Cx) -> Result<Option<Bytes>, EngineError>;
}

/// What a restore wants of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadPlan {
    /// Parts that are written first, whole, one after the other.
    pub first: Vec<EntryPath>,
    /// Parts that are written then, several at a time.
    pub rest: Vec<EntryPath>,
    /// What will be done, line by line, for people.
    pub steps: Vec<String>,
}

/// A dump that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What was compared with the dump's facts, and how it came out, in the engine's own shape.
    pub report: serde_json::Value,
    /// The same, line by line, for people.
    pub lines: Vec<String>,
}

/// Where a dump is restored to.
#[async_trait::async_trait]
pub trait DumpTarget: Send + Sync {
    /// Looks whether this dump can be restored here, and refuses with every reason there is. Writes nothing.
    async fn plan(&self, cx: &Cx, dumped: &Dumped) -> Result<LoadPlan, EngineError>;

    /// Begins to write a part of the plan.
    async fn open(&self, cx: &Cx, part: &EntryPath) -> Result<Box<dyn PartWriter>, EngineError>;

    /// After every part was written: builds what is built last, compares with the dump's facts, and puts the result in its
    /// place. Until then what is there under its own name stays as it was.
    async fn finish(&self, cx: &Cx) -> Result<Loaded, EngineError>;
}

/// One part, being written.
#[async_trait::async_trait]
pub trait PartWriter: Send {
    /// Writes what comes next.
    async fn write(&mut self, cx: &Cx, bytes: Bytes) -> Result<(), EngineError>;

    /// Ends the part. Dropped without it, nothing of the part was written, or the whole restore has failed.
    async fn close(self: Box<Self>, cx: &Cx) -> Result<(), EngineError>;
}
