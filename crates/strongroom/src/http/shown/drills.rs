//! Drills of all sources: what was last proven of each, and what is due.

use serde::Serialize;
use strongroom_model::plan::Work;
use strongroom_model::{SourceName, Timestamp};

use super::Sight;
use super::line::{Measure, Proof, lines};

/// A source's drills in a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrilledLine {
    /// The source.
    pub source: SourceName,
    /// The newest drill; `None` if there was never one, or if that is not known.
    pub proof: Option<Proof>,
    /// Whether it is known that there was none.
    pub never: bool,
    /// How long it took, beside what was promised.
    pub rto: Measure,
    /// When a plan orders the next one; `None` if none does.
    pub next: Option<Timestamp>,
}

/// Drills of all sources.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drills {
    /// When this was made.
    pub at: Timestamp,
    /// When the vault was read.
    pub read_at: Option<Timestamp>,
    /// Why that may no longer hold; `None` if it does.
    pub stale: Option<String>,
    /// How many sources a drill proved lately.
    pub proven: usize,
    /// Those that need one most first: failed, never, too long ago, and then the oldest.
    pub sources: Vec<DrilledLine>,
}

/// Drills of sources that `may_see` lets be seen.
pub fn drills(sight: Sight<'_>, may_see: impl Fn(&SourceName) -> bool) -> Drills {
    let mut sources: Vec<DrilledLine> = lines(sight)
        .into_iter()
        .filter(|line| may_see(&line.source))
        .map(|line| DrilledLine {
            next: next(sight, &line.source),
            never: line.points.is_some() && line.proof.is_none(),
            proof: line.proof,
            rto: line.rto,
            source: line.source,
        })
        .collect();
    let need = |line: &DrilledLine| match &line.proof {
        Some(proof) if !proof.passed => (0, Some(proof.at)),
        None => (1, None),
        Some(proof) if !proof.is_current => (2, Some(proof.at)),
        Some(proof) => (3, Some(proof.at)),
    };
    sources.sort_by(|one, other| (need(one), &one.source).cmp(&(need(other), &other.source)));
    let is_proven =
        |line: &&DrilledLine| line.proof.as_ref().is_some_and(|proof| proof.passed && proof.is_current);
    Drills {
        at: sight.now,
        read_at: sight.read_at(),
        stale: sight.staleness(),
        proven: sources.iter().filter(is_proven).count(),
        sources,
    }
}

/// When a drill of it is due next.
fn next(sight: Sight<'_>, source: &SourceName) -> Option<Timestamp> {
    let protected = sight.settings.sources.get(source)?.protected(source);
    let covering = sight.settings.plans.values().filter(|plan| plan.covers(&protected));
    let tables = covering.flat_map(|plan| plan.timetables()).filter(|table| table.work == Work::Drill);
    tables.filter_map(|table| table.next_after(sight.now)).min()
}
