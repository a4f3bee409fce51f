//! A vault: the format over a store.
//!
//! ```text
//! vault.json                                       what this vault is; written once
//! keys/<key id>/<n>                                the vault key, wrapped for one recipient each
//! sources/<source>/lineages/<n>                    which clusters this source has been
//! sources/<source>/points/<id>/intent              ─┐
//! sources/<source>/points/<id>/packs/<n>-<nonce>    │ one recovery point, in the order of writing;
//! sources/<source>/points/<id>/manifest             │ the decision is the commit
//! sources/<source>/points/<id>/decision            ─┘
//! sources/<source>/wal/<lineage>/<timeline>/<stretch>/<file>     one object per WAL file, and parts of the open segment
//! sources/<source>/wal/<lineage>/<timeline>.history
//! audit/<n>                                        who did what, each entry chained to the one before
//! ```
//!
//! **Invariants** (numbers as in docs/format.md): a committed manifest's packs all exist (I1); success is reported
//! only after that holds durably (I2); no key is written twice with different bytes (I3); a failed list never
//! shrinks what is taken to exist (I6); every error path leaves a vault the next run can use (I10).
//!
//! On a crash nothing needs repair: what no decision commits is invisible.
//!
//! Modules are in flow order; each may name only those above it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on should stop"))]

pub mod layout;
pub mod error;
pub mod keys;
pub mod open;
pub mod replica;
pub mod record;
pub mod lineage;
pub mod journal;
pub mod tail;
pub mod hold;
pub mod expire;
pub mod catalog;
pub mod recipients;
mod pace;
pub mod pack_reader;
pub mod point;
mod stream;
pub mod delta;
mod parent;
mod known;
pub mod upload;
mod roots;
pub mod sweep;
pub mod copy;
pub mod verify;
pub mod evidence;
pub mod drills;
pub mod audit;
pub mod checklists;

pub use error::VaultError;
pub use keys::{Recipient, Unlock};
pub use open::Vault;
pub use parent::EarlierFile;
pub use strongroom_codec::compress::Compression;
pub use strongroom_codec::header::Suite;
