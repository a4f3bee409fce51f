//! The stretch of time to which a source can be restored, with its gaps in plain sight.
//!
//! ```text
//! point     |        |    *            |         ticks; * is held
//!           ████████████████░░░░░░░░░░░██████▒   stretches ░ gaps ▒ not arrived yet
//!           from                             to
//! ```

use serde::Serialize;
use strongroom_model::{PointId, Timestamp};

use super::listing::{Listed, ListedPoint, ListedWindow, Stage};

/// Every second of it can be restored to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// The first.
    pub from: Timestamp,
    /// The last.
    pub to: Timestamp,
}

/// No second of it can be restored to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The last second before it.
    pub from: Timestamp,
    /// The first one behind it.
    pub to: Timestamp,
    /// The WAL segment that is missing, if one is known.
    pub segment: Option<String>,
}

/// A point on the band.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tick {
    /// When it became consistent.
    pub at: Timestamp,
    /// The point.
    pub point: PointId,
    /// Whether it is held.
    pub held: bool,
}

/// The band.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Band {
    /// Where it begins.
    pub from: Timestamp,
    /// Where it ends: when it was read.
    pub to: Timestamp,
    /// What can be restored to, in order and apart. Empty for dumps.
    pub stretches: Vec<Stretch>,
    /// What lies between, and behind, without being restorable.
    pub gaps: Vec<Gap>,
    /// Points that can be restored, oldest first.
    pub ticks: Vec<Tick>,
}

/// The band of what was listed at `read_at`; `None` if nothing can be restored.
pub fn band(listed: &Listed, read_at: Timestamp) -> Option<Band> {
    let ticks: Vec<Tick> = listed.points.iter().filter_map(tick).collect();
    let mut windows: Vec<&ListedWindow> = listed.windows.iter().collect();
    windows.sort_unstable_by_key(|window| (window.from, window.to));
    let mut stretches = Vec::<Stretch>::new();
    // What each stretch ended with last: the window that reaches furthest.
    let mut furthest = Vec::<&ListedWindow>::new();
    for window in windows {
        let (from, to) = (window.from, end(window));
        match (stretches.last_mut(), furthest.last_mut()) {
            (Some(stretch), Some(last)) if stretch.to >= from || leads_on(last, window) => {
                if to >= stretch.to {
                    *last = window;
                }
                stretch.to = stretch.to.max(to);
            }
            _ => {
                stretches.push(Stretch { from, to });
                furthest.push(window);
            }
        }
    }
    let firsts = [stretches.first().map(|stretch| stretch.from), ticks.first().map(|tick| tick.at)];
    let from = firsts.into_iter().flatten().min()?;
    let ends = [stretches.last().map(|stretch| stretch.to), ticks.last().map(|tick| tick.at)];
    let to = ends.into_iter().flatten().max().unwrap_or(from).max(read_at);
    let next = stretches.iter().skip(1).map(|stretch| Some(stretch.from)).chain([None]);
    let gaps = stretches.iter().zip(next).zip(&furthest);
    let gaps = gaps.filter_map(|((stretch, next), last)| match (next, last.gap.clone()) {
        (Some(next), segment) => Some(Gap { from: stretch.to, to: next, segment }),
        (None, Some(segment)) => Some(Gap { from: stretch.to, to, segment: Some(segment) }),
        (None, None) => None,
    });
    let gaps = gaps.collect();
    Some(Band { from, to, stretches, gaps, ticks })
}

fn end(window: &ListedWindow) -> Timestamp {
    window.to.unwrap_or(window.from).max(window.from)
}

/// Whether the journal goes on from one window to the next without a gap: in the time between nothing was written.
fn leads_on(last: &ListedWindow, next: &ListedWindow) -> bool {
    last.gap.is_none() && last.timeline == next.timeline && last.to_lsn >= next.from_lsn
}

fn tick(row: &ListedPoint) -> Option<Tick> {
    match &row.stage {
        Stage::Committed { summary } if !row.expired => {
            Some(Tick { at: summary.stopped_at, point: row.point.clone(), held: row.held })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
