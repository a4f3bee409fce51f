//! Which stretches of a source are read although nothing is said to have changed in them: each once in a period.
//!
//! ```text
//! time     ──┬─────────┬─────────┬────▶      turns of one stretch: a period apart, from a phase of its own
//! points      p1  p2     p3   p4    p5        read at the first point after each turn: p3, p5
//! ```
//!
//! **Invariant**: along a chain of points, each the parent of the next, no stretch goes unread for longer than a period and
//! the time between two points. Nothing is remembered for it: a turn lies between the times of parent and child, or not.
//! Phases spread over the period, so that every point reads its share.

use std::time::Duration;

use crate::entry::EntryPath;
use crate::time::Timestamp;

/// Whether the stretch of `path` that begins with page `first` has a turn after `earlier`, the parent's time, and not after
/// `now`. A clock that stood still or went back says nothing: then it is due.
pub fn is_due(
    path: &EntryPath,
    first: u32,
    (earlier, now): (Timestamp, Timestamp),
    period: Duration,
) -> bool {
    let micros = |at: Timestamp| i128::from(at.0.as_microsecond());
    let period = i128::try_from(period.as_micros()).unwrap_or(i128::MAX);
    if period == 0 || now <= earlier {
        return true;
    }
    let phase = i128::from(hash(path, first)) % period;
    let turns = |at: Timestamp| (micros(at) - phase).div_euclid(period);
    turns(now) > turns(earlier)
}

/// FNV-1a: the same in every build, or a new one would begin its period anew.
fn hash(path: &EntryPath, first: u32) -> u64 {
    let bytes = path.as_bytes().iter().copied().chain(first.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Its high bits are the well mixed ones: a period that is a power of two would see only the low ones.
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 24 * 3600;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_700_000_000 + seconds as i64).unwrap()
    }

    fn path(number: u32) -> EntryPath {
        EntryPath::new(format!("base/5/{number}")).unwrap()
    }

    #[test]
    fn a_share_of_the_stretches_is_due_at_each_point() {
        let week = Duration::from_secs(7 * DAY);
        let due = |hours: u64| {
            let times = (at(1000), at(1000 + hours * 3600));
            (0..7000).filter(|number| is_due(&path(*number), 0, times, week)).count()
        };
        assert!((900..1100).contains(&due(24)), "{} of 7000 in a day", due(24));
        assert!((20..70).contains(&due(1)), "{} of 7000 in an hour", due(1));
        assert_eq!(due(7 * 24), 7000);
    }

    #[test]
    fn a_clock_that_does_not_go_on_makes_all_due() {
        let day = Duration::from_secs(DAY);
        for (earlier, now, period) in [(5, 5, day), (6, 5, day), (5, 6, Duration::ZERO)] {
            assert!(is_due(&path(1), 0, (at(earlier), at(now)), period));
        }
        assert!(!is_due(&path(1), 0, (at(5), at(5 + 1)), Duration::MAX));
    }

    proptest! {
        #[test]
        fn no_stretch_goes_unread_for_longer_than_a_period_and_a_gap(
            number: u32, first: u32, period in 1u64..30 * DAY, gaps in prop::collection::vec(1u64..3 * DAY, 1..60),
        ) {
            let (mut now, mut read, mut longest) = (0, 0, 0);
            for gap in &gaps {
                let times = (at(now), at(now + gap));
                now += gap;
                if is_due(&path(number), first, times, Duration::from_secs(period)) {
                    longest = longest.max(now - read);
                    read = now;
                }
            }
            longest = longest.max(now - read);
            prop_assert!(longest <= period + gaps.iter().max().unwrap(), "unread for {longest} s");
        }
    }
}
