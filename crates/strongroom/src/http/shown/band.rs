//! The stretch of time to which a source can be restored, with its gaps in plain sight.
//!
//! ```text
//! point     |        |    *            |         ticks; * is held
//!           ████████████████░░░░░░░░░░░██████▒   stretches ░ gaps ▒ not arrived yet
//!           from                             to
//! ```

use serde::Serialize;
use strongroom_model::{PointId, Timestamp};

use super::listing::{Listed, ListedPoint, Stage};

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
    let mut spans: Vec<(Timestamp, Timestamp, Option<&String>)> = listed
        .windows
        .iter()
        .map(|window| (window.from, window.to.unwrap_or(window.from).max(window.from), window.gap.as_ref()))
        .collect();
    spans.sort_unstable();
    let mut stretches = Vec::<Stretch>::new();
    // What is missing behind each stretch.
    let mut missing = Vec::<Option<String>>::new();
    for (from, to, gap) in spans {
        match stretches.last_mut() {
            Some(last) if last.to >= from => {
                if to >= last.to {
                    missing.pop();
                    missing.push(gap.cloned());
                }
                last.to = last.to.max(to);
            }
            _ => {
                stretches.push(Stretch { from, to });
                missing.push(gap.cloned());
            }
        }
    }
    let firsts = [stretches.first().map(|stretch| stretch.from), ticks.first().map(|tick| tick.at)];
    let from = firsts.into_iter().flatten().min()?;
    let ends = [stretches.last().map(|stretch| stretch.to), ticks.last().map(|tick| tick.at)];
    let to = ends.into_iter().flatten().max().unwrap_or(from).max(read_at);
    let next = stretches.iter().skip(1).map(|stretch| Some(stretch.from)).chain([None]);
    let gaps = stretches.iter().zip(next).zip(missing);
    let gaps = gaps.filter_map(|((stretch, next), segment)| match (next, segment) {
        (Some(next), segment) => Some(Gap { from: stretch.to, to: next, segment }),
        (None, Some(segment)) => Some(Gap { from: stretch.to, to, segment: Some(segment) }),
        (None, None) => None,
    });
    let gaps = gaps.collect();
    Some(Band { from, to, stretches, gaps, ticks })
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
