//! How fast a restore may fetch, and a backup read: so many bytes a second, over all of its workers.
//!
//! Each stretch is given its turn when it is asked for: the turn before, later by what that one takes at this rate. A reader
//! that was slower for a while may not catch up on more than a second's worth.
#![allow(clippy::disallowed_methods, reason = "waiting for its turn is what this module is for")]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use strongroom_model::{Cancelled, Cx};
use tokio::time::Instant;

/// What was not used up is good for this long.
const BURST: Duration = Duration::from_secs(1);

/// How often one who waits long looks whether the user pressed Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A limit that all workers share.
pub(crate) struct Pace {
    bytes_per_second: u64,
    /// When all that was asked for so far has had its time.
    due: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64) -> Pace {
        Pace { bytes_per_second: bytes_per_second.max(1), due: Mutex::new(Instant::now()) }
    }

    /// Comes back when so many bytes may be fetched.
    pub(crate) async fn turn(&self, bytes: u64) {
        tokio::time::sleep_until(self.next(Instant::now(), bytes)).await;
    }

    /// Comes back when so many bytes may have been read, or the user asks to stop.
    pub(crate) async fn turn_of(&self, cx: &Cx, bytes: u64) -> Result<(), Cancelled> {
        let due = self.next(Instant::now(), bytes);
        while Instant::now() < due {
            cx.check()?;
            tokio::time::sleep_until(due.min(Instant::now() + LOOK_EVERY)).await;
        }
        Ok(())
    }

    /// When so many bytes, asked for now, have had their time.
    fn next(&self, now: Instant, bytes: u64) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = now.checked_sub(BURST).map_or(*due, |oldest| (*due).max(oldest));
        *due = turn + takes;
        *due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for bytes at these seconds, and expects the turn at those.
    fn check(turns: &[(f64, u64, f64)]) {
        let began = Instant::now();
        let pace = Pace { bytes_per_second: 1000, due: Mutex::new(began) };
        for (asked, bytes, expected) in turns {
            let turn = pace.next(began + Duration::from_secs_f64(*asked), *bytes) - began;
            assert!((turn.as_secs_f64() - expected).abs() < 1e-6, "{turn:?} in {turns:?}");
        }
    }

    #[test]
    fn bytes_take_their_time_however_they_are_cut() {
        check(&[(0.0, 10_000, 10.0)]);
        check(&[(0.0, 5_000, 5.0), (0.0, 5_000, 10.0)]);
        check(&[(0.0, 1_000, 1.0), (1.0, 1_000, 2.0), (2.0, 500, 2.5)]);
    }

    #[test]
    fn more_than_a_second_is_not_caught_up_on() {
        check(&[(60.0, 5_000, 64.0)]);
        check(&[(0.0, 1_000, 1.0), (1.5, 1_000, 2.0)]);
    }
}
