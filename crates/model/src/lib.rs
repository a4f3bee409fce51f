//! Strongroom's words as values.
//!
//! Everything here is pure: no I/O, no async, no wall clock, no randomness. What a function needs of the
//! outside world (the time, random bits, whether the user pressed Ctrl-C) comes in as an argument, mostly
//! through [`Cx`]. So every decision (which point to restore, what to expire, where a gap is) can be tested
//! as a table and replays exactly.
//!
//! Modules are in flow order; each may name only those above it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on should stop"))]

pub mod word;
pub mod size;
pub mod time;
pub mod span;
pub mod zone;
pub mod schedule;
pub mod cx;
pub mod name;
pub mod position;
pub mod tail;
pub mod segment;
pub mod history;
pub mod page;
pub mod entry;
pub mod point;
pub mod trend;
pub mod proof;
pub mod journal;
pub mod target;
pub mod restore_plan;
pub mod drill;
pub mod audit;
pub mod estimate;
pub mod retention;
pub mod expiry_plan;
pub mod tier;
pub mod lifecycle;
pub mod due;
pub mod source;
pub mod plan;
pub mod alert;
pub mod control;
pub mod checklist;
pub mod lint;
pub mod forecast;
pub mod price;
pub mod simulation;
pub mod foreign_plan;

pub use cx::{Cancelled, Clock, Cx, Entropy, Progress};
pub use name::{NameError, PlanName, PointId, RuleName, SourceName, VaultId};
pub use position::{Lsn, SystemId, Timeline};
pub use segment::{SegmentSize, WalFile, WalSegment};
pub use size::ByteSize;
pub use time::Timestamp;
