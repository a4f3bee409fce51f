//! Who asks, and what they may have done.
//!
//! ```text
//! authorization: Bearer … ▶ [token.NAME] ─┐
//! cookie ▶ session ▶ [user.NAME] ─────────┼▶ Person ▶ allowed(person, act, source)
//! neither, on loopback, and no users ─────┘
//! ```
//!
//! **Invariants**
//! - Whom the settings no longer know, or know otherwise, is signed out with the next request.
//! - An answer does not tell whether there is a user of that name, neither by its words nor by its time.

pub mod person;
pub mod password;
pub mod attempts;
pub mod sessions;
