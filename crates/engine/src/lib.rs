//! The port every kind of source implements.
//!
//! ```text
//! Engine ── inspect ──▶ Inspection                          what the source is, and whether it can be protected
//!        └─ start ────▶ BackupSession ── entries, reader ─▶ pages, read in parallel by the caller's threads
//!                    or StreamSession ── next ────────────▶ pages, as the source sends them
//!                                     └─ stop ────────────▶ Stopped: where the copy becomes consistent
//! DumpEngine, DumpTarget                            the same for sources that are read as streams of their own making
//! Target ── prepare ──▶ open ▶ PageSink::write … ▶ finish   the way back, in parallel as well
//! ```
//!
//! An engine reads its source and never writes to it: nothing in this port could (incident 23 of the semantics
//! page: a tool that wrote to the source because both sides were paths).
//!
//! Modules are in flow order; each may name only those above it.

pub mod error;
pub mod backup;
pub mod target;
pub mod dump;

pub use backup::{
    BackupSession, ChangedPages, Changes, Engine, Inspection, LateFile, PageCheck, PageRead, PageSource,
    Reader, Sent, Session, StartOptions, Started, Stopped, StreamSession,
};
pub use dump::{
    DumpEngine, DumpInspection, DumpPart, DumpSession, DumpTarget, Dumped, LoadPlan, Loaded, PartReader,
    PartWriter,
};
pub use error::EngineError;
pub use target::{PageSink, Target};
