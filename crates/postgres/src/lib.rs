//! PostgreSQL, versions 13 to 18, as a source: its files, its journal, its server.
//!
//! ```text
//! back up  conninfo ▶ connect ▶ inspect ▶ session ─ start ▶ files (list) ▶ read (pages, checked) ▶ stop ▶ late files
//!                                                  ├─ wal_summary ▶ changes (what need not be read)
//!                                                  └─ standby (what is otherwise when the server is one)
//!          or, where the files cannot be read: replication ▶ ustar ▶ stream (files and pages, as the server sends them) ▶ late files
//! ship     archive_command ▶ archive ▶ wal (whose segment? what happened in it, when?) ▶ vault
//! receive  conninfo ▶ connect ▶ sender (may it? its slot) ▶ replication (WAL as it is written) ▶ receiving ▶ vault
//! restore  vault ▶ selection (whose files stay zeros) ▶ target (folders, links, pages; pg_control last) ▶ recovery (what to recover to) ▶ server
//! dump     conninfo ▶ connect ▶ logical (schema, rows and facts of one moment, and back)
//! drill    vault ▶ drill (a server of its own) ▶ recovery ▶ checks from all sides ▶ gone
//! export   vault ▶ target (a folder, or archives) ▶ backup_manifest ▶ pg_verifybackup, and a server without us
//! ```
//!
//! What differs between versions is one row each in [`version`]. A source is never written to: its files are opened
//! for reading only, and only a restore's own target folder is written.
//!
//! Modules are in flow order; each may name only those above it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test stops where something it needs is missing"))]

pub mod version;
pub mod control;
pub mod page;
pub mod wal;
pub mod label;
pub mod owner;
pub mod relation;
pub mod wal_summary;
pub mod selection;
pub mod files;
pub mod read;
pub mod ustar;
pub mod changes;
pub mod target;
pub mod backup_manifest;
pub mod export;
#[cfg(feature = "test-cluster")]
pub mod cluster;
pub mod quote;
pub(crate) mod guard;
pub mod archive;
pub mod recovery;
pub mod course;
pub mod launch;
pub mod passfile;
pub mod conninfo;
pub mod tls;
pub mod refusal;
pub mod connect;
pub mod inspect;
pub mod facts;
pub mod standby;
pub mod sender;
pub mod replication;
pub mod receiving;
pub mod advice;
pub mod stream;
pub mod session;
pub mod logical;
pub mod drill;
