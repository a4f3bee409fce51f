//! `strongroom report status`: to which second each source can be recovered, and how that is known; problems first.

use std::collections::BTreeMap;

use serde::Serialize;
use strongroom_model::drill::DrillOutcome;
use strongroom_model::{Cx, PointId, SourceName, Timestamp};
use strongroom_vault::Vault;

use super::rto_rpo::{Concern, Promise, RtoRpo, rto_rpo};
use crate::error::OpsError;
use crate::status::{SourceStatus, status};

/// A source's line.
#[derive(Debug, Serialize)]
pub struct Standing {
    /// The source.
    pub source: SourceName,
    /// Points that can be restored.
    pub points: usize,
    /// The newest of them.
    pub last_point: Option<PointId>,
    /// When it became consistent.
    pub last_point_at: Option<Timestamp>,
    /// The last moment that can be restored.
    pub recoverable_to: Option<Timestamp>,
    /// How that is known.
    pub known_by: String,
    /// Seconds that may be lost at most, and that would be lost now.
    pub rpo_s: (Option<f64>, Option<f64>),
    /// Seconds that a restore may take, and that the last drill took.
    pub rto_s: (Option<f64>, Option<f64>),
    /// When a drill last ended, and what it came to.
    pub drill: Option<(Timestamp, DrillOutcome)>,
    /// What a drill of it broke, or that there is none.
    pub concerns: Vec<Concern>,
    /// What else a person must look at.
    pub problems: Vec<String>,
}

impl Standing {
    /// Whether nobody need look at it.
    pub fn is_sound(&self) -> bool {
        self.concerns.is_empty() && self.problems.is_empty()
    }
}

/// Every source of the vault and every one that was promised something, or `only` one; those that a person must look at first.
pub async fn standings(
    cx: &Cx,
    vault: &Vault,
    promises: &BTreeMap<SourceName, Promise>,
    only: Option<&SourceName>,
) -> Result<Vec<Standing>, OpsError> {
    let lines = rto_rpo(cx, vault, promises, only).await?;
    let states = status(cx, vault, None).await?;
    let mut states: BTreeMap<SourceName, SourceStatus> =
        states.into_iter().map(|state| (state.source.clone(), state)).collect();
    let mut standings: Vec<Standing> =
        lines.into_iter().map(|line| standing(states.remove(&line.source), line)).collect();
    standings.sort_by_key(Standing::is_sound);
    Ok(standings)
}

fn standing(state: Option<SourceStatus>, line: RtoRpo) -> Standing {
    let drill = line.drills.last_at.zip(line.last_outcome);
    let rpo_s = (line.rpo_objective_s, line.rpo_now_s);
    let rto_s = (line.rto_objective_s, line.drills.last_seconds);
    let concerns = line.concerns.iter().copied().collect();
    let Some(state) = state else {
        let known_by = "nothing of it is in the vault".to_owned();
        let (points, problems) = (0, Vec::new());
        let (last_point, last_point_at, recoverable_to) = (None, None, None);
        let source = line.source;
        return Standing {
            source,
            points,
            last_point,
            last_point_at,
            recoverable_to,
            known_by,
            rpo_s,
            rto_s,
            drill,
            concerns,
            problems,
        };
    };
    let known_by = match (state.recoverable_to, state.dumped) {
        (None, _) => "no recovery point leads anywhere".to_owned(),
        (Some(_), true) => "the moment that the newest dump shows".to_owned(),
        (Some(_), false) => "the last transaction in WAL that has no gap behind a point".to_owned(),
    };
    Standing {
        source: line.source,
        points: state.points,
        last_point: state.last_point,
        last_point_at: state.last_point_at,
        recoverable_to: state.recoverable_to,
        known_by,
        rpo_s,
        rto_s,
        drill,
        concerns,
        problems: state.problems,
    }
}
