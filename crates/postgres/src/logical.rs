//! A database read and written through its server alone: rows as text, the schema as `pg_dump` writes it.
//!
//! ```text
//! dump     connect ▶ snapshot ▶ catalogue ▶ locks ─┬─ pg_dump (schema) ──────────────┐
//!                                                  ├─ COPY (rows, counted) × workers ├▶ facts
//!                                                  └─ large objects ─────────────────┘
//! restore  facts ▶ plan (every reason against it) ▶ pg_restore (tables) ▶ COPY × workers ▶ pg_restore (indexes …) ▶ ANALYZE
//!          ▶ read back and compare with the facts ▶ rename
//! export   parts ▶ one file of SQL, or a folder as pg_dump -Fd makes it
//! import   a file of pg_dump's ▶ scratch server ▶ psql or pg_restore ▶ dump, as above
//! ```
//!
//! **Invariants**
//! - A dump is of one moment, and whatever is not in it is named in its facts.
//! - A restore is equal to the dump, row by row, or it fails and says where; what had the name before keeps it until then.
//!
//! Modules are in flow order; each may name only those above it.

pub mod failure;
pub mod part;
pub mod tally;
pub mod facts;
pub(crate) mod fingerprint;
pub(crate) mod copying;
pub mod program;
pub(crate) mod archive;
pub mod roles;
pub(crate) mod outlet;
pub(crate) mod catalog;
pub(crate) mod snapshot;
pub(crate) mod large_objects;
pub(crate) mod statement;
pub(crate) mod reader;
pub mod dump;
pub mod options;
pub(crate) mod listing;
pub(crate) mod choice;
pub(crate) mod fit;
pub(crate) mod loading;
pub(crate) mod aside;
pub(crate) mod foundation;
pub(crate) mod writer;
pub(crate) mod comparison;
pub(crate) mod completion;
pub mod load;
pub mod incoming;
pub(crate) mod scratch;
pub mod import;
pub(crate) mod exporting;
pub mod export;
