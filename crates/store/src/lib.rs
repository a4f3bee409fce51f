//! Where a vault's objects live: one write-once port, its adapters and wrappers, one conformance suite.
//!
//! # Why not a file-system interface?
//!
//! A vault needs six things of its store and nothing else, so that every store that has them will do: write a
//! key that does not exist, read it, read a range of it, ask for its size, list keys, delete one. There is **no
//! overwrite and no rename**: a key's bytes never change, so nothing a reader holds can go stale and a writer
//! that lost its power cannot harm what is there.
//!
//! ```text
//! vault ▶ Retry (asks again; recognises its own lost reply) ▶ Memory | Folder | Bucket
//! ```
//!
//! Modules are in flow order; each may name only those above it.

pub mod key;
pub mod port;
pub mod custody;
pub mod memory;
pub mod folder;
mod profile;
pub mod retry;
pub mod bucket;
pub mod as_of;
pub mod lifecycle;
pub mod address;
pub mod probe;
#[cfg(feature = "conformance")]
pub mod conformance;

pub use as_of::AsOf;
pub use bucket::{Bucket, BucketOptions, Lock, Manner, Provider, TAG, aws_credentials};
pub use custody::{Custody, LockMode};
pub use folder::Folder;
pub use key::{Key, KeyError};
pub use memory::Memory;
pub use port::{Body, Head, Page, PutError, Store, StoreError};
pub use retry::Retry;
