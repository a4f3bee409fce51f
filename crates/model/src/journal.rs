//! A lineage's journal as the vault has it: which segments, which histories, where the gaps are.
//!
//! ```text
//! timeline 1   ████████████░░████████            two windows: the gap between them is reported, never bridged
//! timeline 2              └─────────███████      continues where timeline 1 was left
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::TimelineHistory;
use crate::position::{Lsn, SystemId, Timeline};
use crate::segment::{SegmentSize, WalFile, WalSegment};

/// Contiguous segments of one timeline, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Window {
    /// On which timeline.
    pub timeline: Timeline,
    #[serde(skip)]
    first: u64,
    #[serde(skip)]
    last: u64,
    /// Where its first segment begins.
    pub start: Lsn,
    /// Where its last segment ends (exclusive).
    pub end: Lsn,
}

impl Window {
    fn new(timeline: Timeline, first: u64, last: u64, size: SegmentSize) -> Window {
        let (start, end) = (Lsn(first * size.bytes()), Lsn((last + 1).saturating_mul(size.bytes())));
        Window { timeline, first, last, start, end }
    }

    /// How many segments.
    pub fn segments(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Its last segment.
    pub fn last_segment(&self, size: SegmentSize) -> WalSegment {
        WalSegment::numbered(self.timeline, self.last, size)
    }

    /// Its first segment.
    pub fn first_segment(&self, size: SegmentSize) -> WalSegment {
        WalSegment::numbered(self.timeline, self.first, size)
    }
}

/// How far replay gets from a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// Everything before this position is there (exclusive end of the last contiguous segment).
    pub end: Lsn,
    /// The last segment that is there without a gap; `None` if even the first is missing.
    #[serde(serialize_with = "as_name")]
    pub last: Option<WalSegment>,
    /// The first missing segment that has later ones behind it: a real gap, not just the end of what was shipped.
    #[serde(serialize_with = "as_name")]
    pub gap: Option<WalSegment>,
}

fn as_name<S: serde::Serializer>(segment: &Option<WalSegment>, serializer: S) -> Result<S::Ok, S::Error> {
    match segment {
        Some(segment) => serializer.collect_str(segment),
        None => serializer.serialize_none(),
    }
}

/// A lineage's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Whose.
    pub lineage: SystemId,
    /// Of its segments.
    pub segment_size: SegmentSize,
    windows: BTreeMap<Timeline, Vec<Window>>,
    histories: BTreeMap<Timeline, TimelineHistory>,
    timelines: Vec<Timeline>,
}

impl Journal {
    /// From the names of all shipped files (in any order) and the histories among them, read.
    pub fn new(
        lineage: SystemId,
        segment_size: SegmentSize,
        files: impl IntoIterator<Item = WalFile>,
        histories: impl IntoIterator<Item = TimelineHistory>,
    ) -> Journal {
        let mut numbers: BTreeMap<Timeline, Vec<u64>> = BTreeMap::new();
        let mut timelines = Vec::new();
        for file in files {
            timelines.push(file.timeline());
            if let WalFile::Segment(segment) = file
                && let Some(number) = segment.number(segment_size)
            {
                numbers.entry(segment.timeline).or_default().push(number);
            }
        }
        timelines.sort_unstable();
        timelines.dedup();
        let windows = numbers.into_iter().map(|(timeline, mut numbers)| {
            numbers.sort_unstable();
            numbers.dedup();
            let runs = numbers.chunk_by(|left, right| left + 1 == *right);
            let window = |run: &[u64]| Window::new(timeline, run[0], run[run.len() - 1], segment_size);
            (timeline, runs.map(window).collect())
        });
        let windows = windows.collect();
        let histories = histories.into_iter().map(|history| (history.timeline, history)).collect();
        Journal { lineage, segment_size, windows, histories, timelines }
    }

    /// All windows, by timeline, then position.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.windows.values().flatten()
    }

    /// Every timeline that any file is of, in ascending order.
    pub fn timelines(&self) -> &[Timeline] {
        &self.timelines
    }

    /// The history of `timeline`; `None` if its file was not shipped, so that nobody can tell where it came from.
    pub fn history(&self, timeline: Timeline) -> Option<TimelineHistory> {
        match timeline {
            Timeline::FIRST => Some(TimelineHistory::of_first()),
            other => self.histories.get(&other).cloned(),
        }
    }

    /// Timelines that segments are of and whose history is missing, above the lowest one: recovery could not find
    /// its way to them (PostgreSQL stops probing at the first missing history, semantics §7.8).
    pub fn missing_histories(&self) -> Vec<Timeline> {
        let lowest = self.timelines.first().copied();
        let missing = |timeline: &Timeline| Some(*timeline) != lowest && self.history(*timeline).is_none();
        self.timelines.iter().copied().filter(missing).collect()
    }

    /// The newest timeline that PostgreSQL would find from `timeline` on (`findNewestTimeLine`): it asks for one
    /// history after the other and stops at the first that is missing.
    pub fn newest_timeline(&self, from: Timeline) -> Timeline {
        let mut newest = from;
        while let Some(next) = newest.get().checked_add(1).and_then(Timeline::new) {
            if !self.histories.contains_key(&next) {
                break;
            }
            newest = next;
        }
        newest
    }

    fn has(&self, timeline: Timeline, number: u64) -> Option<&Window> {
        let windows = self.windows.get(&timeline)?;
        windows.iter().find(|window| (window.first..=window.last).contains(&number))
    }

    fn any_after(&self, history: &TimelineHistory, number: u64) -> bool {
        let beyond = |window: &&Window| history.passes(window.timeline) && window.last > number;
        self.windows().any(|window| beyond(&window))
    }

    /// How far replay gets from `start` on the way of `history`, segment by segment.
    pub fn reach(&self, start: Lsn, history: &TimelineHistory) -> Reach {
        let size = self.segment_size;
        let mut number = start.0 / size.bytes();
        let mut last = None;
        loop {
            // A segment in which a timeline was left exists on the newer one, too: PostgreSQL prefers that.
            let segment_last_byte = Lsn((number + 1).saturating_mul(size.bytes()) - 1);
            let newer = history.timeline_at(segment_last_byte);
            let older = history.timeline_at(Lsn((number * size.bytes()).max(start.0)));
            let found =
                [newer, older].into_iter().find_map(|timeline| Some((timeline, self.has(timeline, number)?)));
            let Some((timeline, window)) = found else {
                let missing = WalSegment::numbered(newer, number, size);
                let gap = self.any_after(history, number).then_some(missing);
                return Reach { end: Lsn(number * size.bytes()).max(start), last, gap };
            };
            // Jump to the window's end, or to the segment in which this timeline is left.
            let left = history.left_at(timeline).map(|left_at| left_at.0 / size.bytes());
            let to = left.map_or(window.last, |left| window.last.min(left.saturating_sub(1)).max(number));
            last = Some(WalSegment::numbered(timeline, to, size));
            number = to + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    fn tl(id: u32) -> Timeline {
        Timeline::new(id).unwrap()
    }

    /// A picture: one line per timeline, `#` a segment that is there.
    fn journal(picture: &[&str], histories: &[(u32, &[(u32, u64)])]) -> Journal {
        let mut files = Vec::new();
        for (id, line) in (1..).zip(picture) {
            let there = line.chars().enumerate().filter(|(_, c)| *c == '#');
            files.extend(there.map(|(n, _)| {
                WalFile::Segment(WalSegment::numbered(tl(id), n as u64, SegmentSize::DEFAULT))
            }));
        }
        let histories = histories.iter().map(|(id, ancestors)| TimelineHistory {
            timeline: tl(*id),
            ancestors: ancestors.iter().map(|(ancestor, at)| (tl(*ancestor), Lsn(*at))).collect(),
        });
        Journal::new(SystemId(1), SegmentSize::DEFAULT, files, histories)
    }

    fn check(
        picture: &[&str],
        histories: &[(u32, &[(u32, u64)])],
        from: u64,
        to: u32,
        end: u64,
        gap: Option<&str>,
    ) {
        let journal = journal(picture, histories);
        let reach = journal.reach(Lsn(from * SIZE + 40), &journal.history(tl(to)).unwrap());
        let end = if end == from { Lsn(from * SIZE + 40) } else { Lsn(end * SIZE) };
        assert_eq!((reach.end, reach.gap.map(|gap| gap.to_string()).as_deref()), (end, gap), "{picture:?}");
    }

    #[test]
    fn replay_reaches_the_first_gap() {
        check(&[" #### "], &[], 1, 1, 5, None);
        check(&[" ## # "], &[], 1, 1, 3, Some("000000010000000000000003"));
        check(&["  ### "], &[], 1, 1, 1, Some("000000010000000000000001"));
        check(&[" "], &[], 1, 1, 1, None);
    }

    #[test]
    fn replay_follows_a_timeline_switch() {
        let half = 3 * SIZE + SIZE / 2;
        // Timeline 2 left timeline 1 in the middle of segment 3, which exists on both.
        check(&[" ###  ", "   ###"], &[(2, &[(1, half)])], 1, 2, 6, None);
        check(&[" ## ##", "   ###"], &[(2, &[(1, half)])], 1, 2, 6, None);
        check(&[" ## ##", "    ##"], &[(2, &[(1, half)])], 1, 2, 3, Some("000000020000000000000003"));
        // On a boundary: segment 3 exists on timeline 2 only.
        check(&[" ##   ", "   ###"], &[(2, &[(1, 3 * SIZE)])], 1, 2, 6, None);
        // To timeline 1, what timeline 2 has is no help.
        check(&[" ##   ", "   ###"], &[(2, &[(1, 3 * SIZE)])], 1, 1, 3, None);
    }

    #[test]
    fn replay_follows_two_promotions() {
        let histories: &[(u32, &[(u32, u64)])] =
            &[(2, &[(1, 2 * SIZE + 8)]), (3, &[(1, 2 * SIZE + 8), (2, 4 * SIZE + 8)])];
        check(&["###   ", "  ### ", "    ##"], histories, 0, 3, 6, None);
        check(&["###   ", "  # # ", "    ##"], histories, 0, 3, 3, Some("000000020000000000000003"));
    }

    #[test]
    fn probing_stops_at_the_first_missing_history() {
        let journal = journal(&["#", "#", "#", "#"], &[(2, &[(1, 8)]), (4, &[(1, 8), (3, 16)])]);
        assert_eq!(journal.newest_timeline(tl(1)), tl(2));
        assert_eq!(journal.missing_histories(), [tl(3)]);
        assert!(journal.history(tl(3)).is_none());
    }

    #[test]
    fn windows_are_contiguous() {
        let journal = journal(&["## #", " ##"], &[]);
        let windows: Vec<_> =
            journal.windows().map(|w| (w.timeline.get(), w.start.0 / SIZE, w.end.0 / SIZE)).collect();
        assert_eq!(windows, [(1, 0, 2), (1, 3, 4), (2, 1, 3)]);
    }
}
