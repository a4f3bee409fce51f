//! Strongroom's verbs. The only crate that sees an engine and a vault.
//!
//! One file per verb, each read like its page in `docs/runbook/`: a stranger at three in the morning can follow it.
//! Nothing here prints; every verb returns a value.
//!
//! Modules are in flow order; each may name only those above it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on should stop"))]

pub mod error;
pub mod threads;
pub mod hand;
pub mod lineage;
pub mod journal;
pub mod copy;
pub mod copy_stream;
pub mod init;
pub mod copy_points;
pub mod backup;
pub mod dump;
pub mod wal_push;
pub mod wal_receive;
pub mod wal_fetch;
pub mod wal_status;
pub mod list;
pub mod status;
pub mod restore;
pub mod measure;
pub mod restore_dump;
mod drill_course;
mod drill_files;
mod drill_dump;
pub mod drill;
pub mod export;
pub mod import;
pub mod verify;
pub mod repair;
pub mod key;
pub mod hold;
pub mod keeping;
pub mod thaw;
pub mod lifecycle;
pub mod expire;
pub mod sweep;
pub mod doctor;
pub mod plan;
pub mod audit;
pub mod report;
pub mod checklist;

pub use error::OpsError;
