//! A drill's server: restored into a folder of its own, reached by nobody else, looked at from all sides, and gone.
//!
//! ```text
//! place   scratch folder ▶ what earlier drills left goes ▶ a folder of ours, marked and locked
//! files   settings of our own ▶ restored and recovered (by the caller) ▶ started on a socket of our own
//! dumped  a scratch server with the dump's roles ▶ loaded (by the caller)
//! subject ▶ facts ▶ databases ▶ amcheck ▶ assertions ▶ stopped ▶ page checksums
//! ```
//!
//! **Invariants**
//! - The source is never contacted, nor anything of its on this host written: the server has settings of its own, no archiving, no
//!   workers that replicate, no address but a socket in a folder that only its user may enter.
//! - A check that cannot be made here is not run, and says why; it never passes.
//!
//! Modules are in flow order; each may name only those above it.

pub mod place;
pub mod libraries;
pub mod subject;
pub mod assertion;
pub mod checks;
pub mod files;
pub mod dumped;
