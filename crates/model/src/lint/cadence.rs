//! How often something happens: the longest time between two runs of several timetables together.

use std::time::Duration;

use crate::plan::Timetable;
use crate::time::Timestamp;

/// How far ahead is looked: a year and a little, so that a yearly run is seen twice.
const HORIZON: Duration = Duration::from_secs(732 * 86_400);

/// How many runs are looked at, at most: a rule of each minute has shown what it is long before.
const MOST: usize = 4096;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// The longest time between two runs.
    pub longest: Duration,
    /// When that begins.
    pub from: Timestamp,
    /// The shortest.
    pub shortest: Duration,
}

/// Every run within the horizon, of all timetables in order of time; of two at one time the first one's first.
pub fn runs<'a>(
    tables: &'a [Timetable<'a>],
    now: Timestamp,
) -> impl Iterator<Item = (Timestamp, usize)> + 'a {
    let until = now.0.checked_add(HORIZON).map_or(now, Timestamp);
    let mut next: Vec<Option<Timestamp>> = tables.iter().map(|table| table.next_after(now)).collect();
    let following = move || {
        let due = next.iter().enumerate().filter_map(|(number, at)| Some(((*at)?, number)));
        let (at, number) = due.min().filter(|(at, _)| *at <= until)?;
        next[number] = tables[number].next_after(at);
        Some((at, number))
    };
    std::iter::from_fn(following).take(MOST)
}

/// How often any of them runs; `None` if that is not twice within the horizon.
pub fn cadence(tables: &[Timetable<'_>], now: Timestamp) -> Option<Cadence> {
    let mut found: Option<Cadence> = None;
    let mut before: Option<Timestamp> = None;
    for (at, _) in runs(tables, now) {
        if let Some(from) = before.filter(|from| *from < at) {
            let gap = at.since(from);
            let known = found.get_or_insert(Cadence { longest: gap, from, shortest: gap });
            if gap > known.longest {
                (known.longest, known.from) = (gap, from);
            }
            known.shortest = known.shortest.min(gap);
        }
        before = Some(at);
    }
    found
}
