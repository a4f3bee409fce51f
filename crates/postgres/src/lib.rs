//! Placeholder.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod version;
pub mod control;
pub mod page;
pub mod wal;
pub mod label;
pub mod owner;
pub mod relation;
pub mod files;
pub mod read;
#[cfg(feature = "test-cluster")]
pub mod cluster;
pub mod quote;
pub mod passfile;
pub mod conninfo;
pub mod tls;
pub mod refusal;
pub mod connect;
pub mod inspect;
pub mod advice;
pub mod session;
