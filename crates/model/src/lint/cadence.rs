//! How often something happens: the longest time between two runs of several timetables together.

use std::time::Duration;

use crate::plan::Timetable;
use crate::time::Timestamp;

/// How far ahead is looked: two years, so that what is due once a year is seen twice.
const HORIZON: Duration = Duration::from_secs(732 * 86_400);

/// How many times are looked at, at most: a rule of each minute has shown what it is long before.
const MOST: usize = 2048;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// The longest time between two.
    pub longest: Duration,
    /// The shortest.
    pub shortest: Duration,
}

/// Every time within the horizon at which any of them is due, in order; of two at one time the first one's first.
pub fn dues(tables: &[Timetable<'_>], now: Timestamp) -> Vec<(Timestamp, usize)> {
    let until = now.0.checked_add(HORIZON).map_or(now, Timestamp);
    let mut next: Vec<Option<Timestamp>> = tables.iter().map(|table| table.next_after(now)).collect();
    let following = || {
        let due = next.iter().enumerate().filter_map(|(number, at)| Some(((*at)?, number)));
        let (at, number) = due.min().filter(|(at, _)| *at <= until)?;
        next[number] = tables[number].next_after(at);
        Some((at, number))
    };
    std::iter::from_fn(following).take(MOST).collect()
}

/// How often that is; `None` if it is not twice within the horizon.
pub fn cadence(dues: &[(Timestamp, usize)]) -> Option<Cadence> {
    let mut found: Option<Cadence> = None;
    for pair in dues.windows(2).filter(|pair| pair[0].0 < pair[1].0) {
        let gap = pair[1].0.since(pair[0].0);
        let known = found.get_or_insert(Cadence { longest: gap, shortest: gap });
        known.longest = known.longest.max(gap);
        known.shortest = known.shortest.min(gap);
    }
    found
}
