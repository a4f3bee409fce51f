//! A lineage's journal as the vault has it: which segments, which histories, where the gaps are.
//!
//! ```text
//! timeline 1   ████████████░░████████            two windows: the gap between them is reported, never bridged
//! timeline 2              └─────────███████▌     continues where timeline 1 was left; its last segment is still open
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::TimelineHistory;
use crate::position::{Lsn, SystemId, Timeline};
use crate::segment::{SegmentSize, WalFile, WalSegment};
use crate::tail::{Stretch, cover};

/// Contiguous segments of one timeline, both ends included. The last may be there in part only: its tail.
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
    /// Where its last segment, or what is there of it, ends (exclusive).
    pub end: Lsn,
    /// Bytes that are there of its last segment, if that is not there as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
}

impl Window {
    fn new(timeline: Timeline, first: u64, last: u64, size: SegmentSize) -> Window {
        let (start, end) = (Lsn(first * size.bytes()), Lsn((last + 1).saturating_mul(size.bytes())));
        Window { timeline, first, last, start, end, tail: None }
    }

    /// The same with so many bytes of its last segment.
    fn with_tail(self, bytes: u32, size: SegmentSize) -> Window {
        Window { end: Lsn(self.last * size.bytes() + u64::from(bytes)), tail: Some(bytes), ..self }
    }

    /// How many whole segments.
    pub fn segments(&self) -> u64 {
        self.last - self.first + u64::from(self.tail.is_none())
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
    /// Everything before this position is there (exclusive end of what is contiguous).
    pub end: Lsn,
    /// The last segment that is there without a gap, if only in part; `None` if even the first is missing.
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
        let mut parts: BTreeMap<(Timeline, u64), Vec<Stretch>> = BTreeMap::new();
        let mut timelines = Vec::new();
        for file in files {
            timelines.push(file.timeline());
            let Some(number) = file.segment().and_then(|segment| segment.number(segment_size)) else {
                continue;
            };
            match file {
                WalFile::Segment(_) => numbers.entry(file.timeline()).or_default().push(number),
                WalFile::Part(_, stretch) => {
                    parts.entry((file.timeline(), number)).or_default().push(stretch)
                }
                WalFile::Partial(_) | WalFile::BackupLabel(..) | WalFile::History(_) => {}
            }
        }
        timelines.sort_unstable();
        timelines.dedup();
        let mut tails = Vec::new();
        for ((timeline, number), parts) in parts {
            match cover(parts).last().map(|last| last.end()) {
                // Its parts hold all of it: as good as whole.
                Some(end) if u64::from(end) >= segment_size.bytes() => {
                    numbers.entry(timeline).or_default().push(number);
                }
                Some(end) => tails.push((timeline, number, end)),
                None => {}
            }
        }
        let mut windows: BTreeMap<Timeline, Vec<Window>> = BTreeMap::new();
        for (timeline, mut numbers) in numbers {
            numbers.sort_unstable();
            numbers.dedup();
            let runs = numbers.chunk_by(|left, right| left + 1 == *right);
            let window = |run: &[u64]| Window::new(timeline, run[0], run[run.len() - 1], segment_size);
            windows.insert(timeline, runs.map(window).collect());
        }
        for (timeline, number, end) in tails {
            let tail = Window::new(timeline, number, number, segment_size).with_tail(end, segment_size);
            add_tail(windows.entry(timeline).or_default(), tail);
        }
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
            let left_at = history.left_at(timeline).unwrap_or(Lsn(u64::MAX));
            let left = left_at.0 / size.bytes();
            let to = window.last.min(left.saturating_sub(1)).max(number);
            last = Some(WalSegment::numbered(timeline, to, size));
            if to == left || (to == window.last && window.tail.is_some()) {
                // What the newer timeline wrote behind its beginning in this segment, or what follows a tail, is missing.
                let gap = self.any_after(history, to).then_some(WalSegment::numbered(newer, to, size));
                return Reach { end: window.end.min(left_at).max(start), last, gap };
            }
            number = to + 1;
        }
    }
}

/// Puts a tail behind the window that it continues, or between the others as one of its own.
fn add_tail(windows: &mut Vec<Window>, tail: Window) {
    let at = windows.partition_point(|window| window.first <= tail.first);
    match at.checked_sub(1).and_then(|before| windows.get_mut(before)) {
        Some(before) if before.last + 1 == tail.first && before.tail.is_none() => {
            *before = Window { last: tail.last, end: tail.end, tail: tail.tail, ..*before };
        }
        // The segment is there as a whole.
        Some(before) if before.last >= tail.first => {}
        _ => windows.insert(at, tail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    fn tl(id: u32) -> Timeline {
        Timeline::new(id).unwrap()
    }

    /// A picture: one line per timeline, `#` a segment that is there, `1` to `9` so many MiB of one.
    fn journal(picture: &[&str], histories: &[(u32, &[(u32, u64)])]) -> Journal {
        let mut files = Vec::new();
        for (id, line) in (1..).zip(picture) {
            for (n, c) in line.chars().enumerate() {
                let segment = WalSegment::numbered(tl(id), n as u64, SegmentSize::DEFAULT);
                match c.to_digit(10) {
                    Some(mib) => {
                        let (middle, end) = (mib << 19, mib << 20);
                        let parts = [Stretch::new(middle, end), Stretch::new(0, middle)];
                        files.extend(parts.into_iter().flatten().map(|part| WalFile::Part(segment, part)));
                    }
                    None if c == '#' => files.push(WalFile::Segment(segment)),
                    None => {}
                }
            }
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

    /// `end` in MiB.
    fn ends_at(picture: &[&str], histories: &[(u32, &[(u32, u64)])], to: u32, end: u64, gap: Option<&str>) {
        let journal = journal(picture, histories);
        let reach = journal.reach(Lsn(SIZE + 40), &journal.history(tl(to)).unwrap());
        let gap_found = reach.gap.map(|gap| gap.to_string());
        assert_eq!((reach.end.0 >> 20, gap_found.as_deref()), (end, gap), "{picture:?}");
    }

    #[test]
    fn replay_reaches_the_end_of_a_tail() {
        ends_at(&[" ##5  "], &[], 1, 3 * 16 + 5, None);
        ends_at(&[" 5    "], &[], 1, 16 + 5, None);
        ends_at(&["  5   "], &[], 1, 16, Some("000000010000000000000001"));
        ends_at(&[" #5## "], &[], 1, 2 * 16 + 5, Some("000000010000000000000002"));
        ends_at(&[" #55  "], &[], 1, 2 * 16 + 5, Some("000000010000000000000002"));
        // Timeline 2 left timeline 1 in the middle of segment 3.
        let half = 3 * SIZE + SIZE / 2;
        let histories: &[(u32, &[(u32, u64)])] = &[(2, &[(1, half)])];
        ends_at(&[" ###  ", "   9  "], histories, 2, 3 * 16 + 9, None);
        ends_at(&[" ##9  ", "      "], histories, 2, 3 * 16 + 8, None);
        ends_at(&[" ##7  ", "      "], histories, 2, 3 * 16 + 7, None);
        ends_at(&[" ##9  ", "   ## "], histories, 2, 5 * 16, None);
        ends_at(&[" ##9  ", "    # "], histories, 2, 3 * 16 + 8, Some("000000020000000000000003"));
        ends_at(&[" ##9  ", "   9# "], histories, 1, 3 * 16 + 9, None);
    }

    #[test]
    fn a_newer_timeline_s_share_of_a_segment_is_not_in_the_older_one_s() {
        let half = 3 * SIZE + SIZE / 2;
        ends_at(&[" ###  ", "    ##"], &[(2, &[(1, half)])], 2, 3 * 16 + 8, Some("000000020000000000000003"));
        ends_at(&[" ###  ", "      "], &[(2, &[(1, half)])], 2, 3 * 16 + 8, None);
    }

    #[test]
    fn parts_that_hold_all_of_a_segment_are_as_good_as_whole() {
        let segment = |number| WalSegment::numbered(tl(1), number, SegmentSize::DEFAULT);
        let all = Stretch::new(0, SIZE as u32).unwrap();
        let files = [WalFile::Part(segment(1), all), WalFile::Segment(segment(2))];
        let journal = Journal::new(SystemId(1), SegmentSize::DEFAULT, files, []);
        let windows: Vec<_> = journal.windows().map(|window| (window.segments(), window.tail)).collect();
        assert_eq!(windows, [(2, None)]);
    }

    #[test]
    fn parts_of_a_segment_that_is_there_as_a_whole_say_nothing() {
        let segment = |number| WalSegment::numbered(tl(1), number, SegmentSize::DEFAULT);
        let part = Stretch::new(0, 5).unwrap();
        for number in 1..=3 {
            let files = (1..=3).map(|number| WalFile::Segment(segment(number)));
            let files = files.chain([WalFile::Part(segment(number), part)]);
            let journal = Journal::new(SystemId(1), SegmentSize::DEFAULT, files, []);
            let windows: Vec<_> = journal.windows().map(|window| (window.segments(), window.tail)).collect();
            assert_eq!(windows, [(3, None)], "{number}");
        }
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
        let with_tails = self::journal(&["##5#", "5  5", "#5"], &[]);
        let mib = |window: &Window| (window.start.0 >> 20, window.end.0 >> 20, window.segments());
        let windows: Vec<_> = with_tails.windows().map(mib).collect();
        assert_eq!(windows, [(0, 37, 2), (48, 64, 1), (0, 5, 0), (48, 53, 0), (0, 21, 1)]);
    }
}
