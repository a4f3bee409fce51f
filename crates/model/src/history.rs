//! Timeline histories: where each timeline branched off (PostgreSQL `timeline.c`).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::position::{Lsn, Timeline};

/// The content of a `.history` file: how one timeline came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineHistory {
    /// The timeline.
    pub timeline: Timeline,
    /// Its ancestors, oldest first, each with the position where it was left.
    pub ancestors: Vec<(Timeline, Lsn)>,
}

/// A history file that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the history of timeline {timeline} does not read: line {line}")]
pub struct HistoryError {
    /// Whose history.
    pub timeline: Timeline,
    /// Counted from 1.
    pub line: usize,
}

impl TimelineHistory {
    /// The history of the first timeline, which has no file.
    pub fn of_first() -> TimelineHistory {
        TimelineHistory { timeline: Timeline::FIRST, ancestors: Vec::new() }
    }

    /// Reads a history file. Empty lines and comments are skipped; an empty file means no ancestors (PostgreSQL
    /// reads it so, too).
    pub fn parse(timeline: Timeline, text: &str) -> Result<TimelineHistory, HistoryError> {
        let mut ancestors: Vec<(Timeline, Lsn)> = Vec::new();
        for (line, content) in text.lines().enumerate() {
            let content = content.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let mut words = content.split_whitespace();
            let ancestor = words.next().and_then(|word| Timeline::from_str(word).ok());
            let left_at = words.next().and_then(|word| Lsn::from_str(word).ok());
            let rises = |ancestor: Timeline| {
                ancestor < timeline && ancestors.last().is_none_or(|(last, _)| *last < ancestor)
            };
            match (ancestor, left_at) {
                (Some(ancestor), Some(left_at)) if rises(ancestor) => ancestors.push((ancestor, left_at)),
                _ => return Err(HistoryError { timeline, line: line + 1 }),
            }
        }
        Ok(TimelineHistory { timeline, ancestors })
    }

    /// The timeline that holds the byte at `lsn` on the way to this one.
    pub fn timeline_at(&self, lsn: Lsn) -> Timeline {
        let holding = self.ancestors.iter().find(|(_, left_at)| lsn < *left_at);
        holding.map_or(self.timeline, |(ancestor, _)| *ancestor)
    }

    /// Where `timeline` was left on the way to this one; `None` if it is this one or no ancestor.
    pub fn left_at(&self, timeline: Timeline) -> Option<Lsn> {
        self.ancestors.iter().find(|(ancestor, _)| *ancestor == timeline).map(|(_, left_at)| *left_at)
    }

    /// Whether WAL of `timeline` is on the way to this one.
    pub fn passes(&self, timeline: Timeline) -> bool {
        timeline == self.timeline || self.left_at(timeline).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tl(id: u32) -> Timeline {
        Timeline::new(id).unwrap()
    }

    #[test]
    fn a_history_tells_which_timeline_holds_a_position() {
        let text =
            "1\t0/3000158\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-11-20 12:00:00+00\n";
        let history = TimelineHistory::parse(tl(3), text).unwrap();
        for (lsn, timeline) in [(0, 1), (0x300_0157, 1), (0x300_0158, 2), (0x4FF_FFFF, 2), (0x500_0000, 3)] {
            assert_eq!(history.timeline_at(Lsn(lsn)), tl(timeline), "{lsn:X}");
        }
        assert_eq!(history.left_at(tl(2)), Some(Lsn(0x500_0000)));
        assert!(history.passes(tl(3)) && history.passes(tl(1)) && !history.passes(tl(4)));
    }

    #[test]
    fn empty_and_commented_files_read_and_wrong_ones_do_not() {
        assert_eq!(TimelineHistory::parse(tl(2), "").unwrap().ancestors, []);
        assert_eq!(TimelineHistory::parse(tl(2), "# a comment\n").unwrap().ancestors, []);
        for wrong in ["x\t0/1\t", "1\n", "1\t0/x\t", "2\t0/1\t", "0\t0/1\t"] {
            assert!(TimelineHistory::parse(tl(2), wrong).is_err(), "{wrong}");
        }
        assert!(TimelineHistory::parse(tl(9), "3\t0/1\t\n2\t0/2\t").is_err(), "ancestors must rise");
    }
}
