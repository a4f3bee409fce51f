//! The vault format: bytes to values and back. Pure; nonces and keys are passed in.
//!
//! ```text
//! (stream ▶ cut ▶) pages ▶ fingerprint ▶ compress ▶ seal ▶ pack          stored once, never changed
//! rows, records, journal segments ▶ compress ▶ seal ▶ stream
//! ```
//!
//! Each module holds both directions of its step: writing reads the list below downwards, reading upwards. Every
//! decoder takes any bytes at all and answers with a value or an error: it never panics and never allocates more
//! than the input's length or a fixed cap allows. `docs/format.md` is this crate in prose.
//!
//! Modules are in flow order; each may name only those above it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on should stop"))]

pub mod wire;
pub mod header;
pub mod digest;
pub mod fingerprint;
mod agree;
pub mod keys;
pub mod compress;
pub mod seal;
pub mod sign;
pub mod stream;
pub mod cut;
pub mod pack;
pub mod manifest;
