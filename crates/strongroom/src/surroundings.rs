//! The real clock, real chance and this host: the only module of the binary that touches them.

#![allow(
    clippy::disallowed_methods,
    reason = "this module is where the real clock and real randomness come in"
)]

use std::sync::Arc;

use strongroom_model::{Clock, Cx, Entropy, Timestamp};
use strongroom_ops::hand::Hand;

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now())
    }
}

struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, out: &mut [u8]) {
        // Keys come from here: without the system's random source nothing may go on.
        if let Err(error) = getrandom::fill(out) {
            panic!("the operating system gives no random bytes: {error}");
        }
    }
}

/// The surroundings of the real world.
pub fn real() -> Cx {
    Cx::new(Arc::new(SystemClock), Arc::new(OsEntropy))
}

/// Whose hand records of a vault name: this host's, and this build's.
pub fn hand() -> Hand {
    Hand { host: host(), tool: tool() }
}

/// This host's name, for people.
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".into(), |name| name.trim().to_owned())
}

/// This build, for records: `strongroom 0.1.0`.
pub fn tool() -> String {
    format!("strongroom {}", env!("CARGO_PKG_VERSION"))
}
