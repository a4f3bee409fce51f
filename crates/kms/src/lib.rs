//! Services that keep a key, never give it away, and wrap a vault's key with it.
//!
//! ```text
//! vault key ▶ service wraps it, for this vault's id only ▶ keys/<key id>/<n>
//! ```
//!
//! **Invariant**: a service is asked only if it was named by whoever runs Strongroom. What lies in a vault may name any, and
//! anybody who can write there could have credentials sent to a server of theirs.
//!
//! Modules are in flow order; each may name only those above it.

mod ask;
pub mod aws;
pub mod transit;

pub use aws::AwsKms;
pub use transit::{Transit, TransitAddress};
