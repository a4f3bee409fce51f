//! What a schedule makes due: which of its instants run now, and which went by while nobody was there.
//!
//! ```text
//!        after                                     now
//! ────────┼──────×────────────×────────────×────────┼──────▶        ×: an instant of the schedule
//!                missed       missed       └ runs, if its start window is still open
//! ```
//!
//! **Invariants**
//! - Of all instants that went by, at most the newest one runs: whoever was away for a week gets one backup, not seven.
//! - The same question has the same answer, whoever asks and however often: what is due is known by its instant.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// Instants that are told apart when many went by. Those before them are only counted.
pub const MOST_MISSED: usize = 100;

/// What a schedule made due in a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The newest instant, if it may still begin.
    pub run: Option<Timestamp>,
    /// Those that went by, oldest first: at most [`MOST_MISSED`], the newest of them.
    pub missed: VecDeque<Timestamp>,
    /// How many went by before those.
    pub uncounted: u64,
}

/// What is due of the instants in `(after, now]`. `next_after` gives a schedule's first instant after another.
pub fn due(
    next_after: impl Fn(Timestamp) -> Option<Timestamp>,
    (after, now): (Timestamp, Timestamp),
    start_window: Duration,
) -> Due {
    let mut due = Due::default();
    let mut last = after;
    // A schedule that does not move on has ended.
    while let Some(next) = next_after(last).filter(|next| *next > last && *next <= now) {
        due.missed.push_back(next);
        if due.missed.len() > MOST_MISSED + 1 {
            due.missed.pop_front();
            due.uncounted += 1;
        }
        last = next;
    }
    let is_open = |newest: &Timestamp| now.since(*newest) <= start_window;
    due.run = due.missed.back().copied().filter(is_open);
    if due.run.is_some() {
        due.missed.pop_back();
    } else if due.missed.len() > MOST_MISSED {
        due.missed.pop_front();
        due.uncounted += 1;
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;
    use crate::zone::Zone;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds).unwrap()
    }

    /// Of a schedule with an instant at every multiple of `every`: what runs, what was missed, what was not counted.
    fn check(every: i64, (after, now, window): (i64, i64, u64), expected: (Option<i64>, &[i64], u64)) {
        let next = |last: Timestamp| Some(at((last.unix_seconds().div_euclid(every) + 1) * every));
        let found = due(next, (at(after), at(now)), Duration::from_secs(window));
        let missed: Vec<i64> = found.missed.iter().map(|missed| missed.unix_seconds()).collect();
        let found = (found.run.map(Timestamp::unix_seconds), &missed[..], found.uncounted);
        assert_eq!(found, expected, "every {every} s in ({after}, {now}], window {window} s");
    }

    #[test]
    fn the_newest_instant_runs_and_older_ones_were_missed() {
        check(10, (0, 9, 5), (None, &[], 0));
        check(10, (0, 10, 5), (Some(10), &[], 0));
        check(10, (10, 10, 5), (None, &[], 0));
        check(10, (0, 35, 5), (Some(30), &[10, 20], 0));
        // Its start window has closed: it was missed as well.
        check(10, (0, 36, 5), (None, &[10, 20, 30], 0));
        // The clock went back: nothing is between.
        check(10, (35, 12, 5), (None, &[], 0));
    }

    #[test]
    fn years_of_absence_are_told_in_a_hundred_rows() {
        let all: Vec<i64> = (900..1000).collect();
        check(1, (0, 1000, 5), (Some(1000), &all, 899));
        let check_closed = |expected: &[i64]| check(10, (0, 10_009, 5), (None, expected, 900));
        check_closed(&(901..=1000).map(|number| number * 10).collect::<Vec<_>>());
    }

    #[test]
    fn a_schedule_that_ends_or_stands_still_ends_the_walk() {
        assert_eq!(due(|_| None, (at(0), at(9)), Duration::MAX), Due::default());
        assert_eq!(due(Some, (at(0), at(9)), Duration::MAX), Due::default());
    }

    /// Looks every ten minutes over four days on which the clocks of Berlin change; once the clock goes back by an hour as well.
    #[test]
    fn a_job_of_each_night_is_due_once_on_days_when_clocks_change() {
        let (schedule, zone): (Schedule, Zone) =
            ("30 2 * * *".parse().unwrap(), "Europe/Berlin".to_owned().try_into().unwrap());
        for (from, expected) in [
            // 02:30 does not exist on 2026-03-29, and happens twice on 2026-10-25.
            ("2026-03-27T12:00:00Z", ["03-28 01:30", "03-29 01:00", "03-30 00:30", "03-31 00:30"]),
            ("2026-10-23T12:00:00Z", ["10-24 00:30", "10-25 00:30", "10-26 01:30", "10-27 01:30"]),
        ] {
            let from = Timestamp(from.parse().unwrap());
            let (mut planned_to, mut ordered) = (from, Vec::new());
            for look in 0..4 * 24 * 6_i64 {
                let back = if look % 100 == 99 { 3600 } else { 0 };
                let now = Timestamp::from_unix_seconds(from.unix_seconds() + look * 600 - back).unwrap();
                let next = |last| schedule.next_after(last, &zone);
                let found = due(next, (planned_to, now), Duration::from_secs(3600));
                assert!(found.missed.is_empty());
                ordered.extend(found.run.map(|run| run.0.strftime("%m-%d %H:%M").to_string()));
                planned_to = now;
            }
            // What the clock brought a second time has a key that is there already.
            ordered.dedup();
            assert_eq!(ordered, expected);
        }
    }
}
