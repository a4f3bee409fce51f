//! How people are told: one channel each for mail, chat, webhooks, PagerDuty, Amazon SNS, and programs of theirs.
//!
//! ```text
//! News ▶ Message: the same words for all ▶ channel's own shape ▶ sent once ▶ taken, or why not
//! ```
//!
//! Reports go the same way as a [`Letter`], with a file where the channel carries files.
//!
//! A channel tries once and says what came of it; who calls it keeps what was not taken, and tries again.
//!
//! **Invariants**
//! - No error shows a secret: of an address only scheme and host are named, since the rest of it often is the secret.
//! - Nothing takes longer than [`PATIENCE`].
//!
//! Modules are in flow order; each may name only those above it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on should stop"))]

mod message;
mod letter;
mod post;
mod mail;
mod webhook;
mod slack;
mod pager_duty;
mod sns;
mod program;
mod channel;

pub use channel::Channel;
pub use letter::{Attached, Letter};
pub use mail::{Mail, MailTls};
pub use message::Message;
pub use pager_duty::PagerDuty;
pub use post::{PATIENCE, TellError, WebAddress, ping};
pub use program::Program;
pub use slack::Slack;
pub use sns::Sns;
pub use webhook::Webhook;
