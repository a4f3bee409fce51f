//! What the vault says of the sources: `status` in a process of its own, whose memory goes with it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use strongroom_model::alert::observed::{DrillState, Held};
use strongroom_model::{Lsn, PointId, SourceName, SystemId, Timestamp};

use crate::agent::jobs::told_states;
use crate::context::Context;

/// How long a vault may take to say what it holds.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the vault said.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When it was asked.
    pub at: Timestamp,
    /// What it said of each source.
    pub sources: BTreeMap<SourceName, Said>,
}

/// Of one source, what `status --output json` says of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    source: SourceName,
    points: u64,
    last_point: Option<PointId>,
    last_point_at: Option<Timestamp>,
    /// The last transaction that can be restored.
    pub recoverable_to: Option<Timestamp>,
    journal_age_s: Option<u64>,
    journal_end: Option<JournalEnd>,
    gap: Option<String>,
    /// Bytes of the source in its points, oldest first.
    pub sizes: Vec<u64>,
    /// Bytes that its points added to the vault.
    pub stored_bytes: u64,
    /// Bytes that the newest added.
    pub last_point_stored_bytes: Option<u64>,
    /// How long the newest took.
    pub last_point_seconds: Option<u64>,
    holds: Vec<HoldEnd>,
    drill: Option<DrillSaid>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct JournalEnd {
    lineage: SystemId,
    end: Lsn,
}

#[derive(Clone, Debug, Deserialize)]
struct HoldEnd {
    point: PointId,
    until: Timestamp,
}

#[derive(Clone, Debug, Deserialize)]
struct DrillSaid {
    at: Timestamp,
    outcome: String,
    rto_seconds: Option<f64>,
}

/// Asks it.
pub async fn read(context: &Context) -> Result<Reading, String> {
    let at = context.cx.now();
    let states = tokio::time::timeout(PATIENCE, told_states(context, None)).await;
    let states = states.map_err(|_| "it does not answer in time".to_owned())??;
    let said = |state| {
        serde_json::from_value::<Said>(state)
            .map_err(|error| format!("status says what does not read: {error}"))
    };
    let sources = states.into_iter().map(|state| said(state).map(|said| (said.source.clone(), said)));
    Ok(Reading { at, sources: sources.collect::<Result<_, _>>()? })
}

impl Reading {
    /// How far the WAL of a source is in the vault, and whose positions these are.
    pub fn journal_end(&self, source: &SourceName) -> Option<(SystemId, Lsn)> {
        let end = self.sources.get(source)?.journal_end?;
        Some((end.lineage, end.end))
    }

    /// What it means for alerts. A source that it does not name has nothing in the vault.
    pub fn held(&self, source: &SourceName) -> Held {
        let Some(said) = self.sources.get(source) else { return Held::default() };
        let begun = |point: &PointId| Some((point.clone(), point.begun()?));
        Held {
            points: said.points,
            last_point: said.last_point.as_ref().and_then(begun),
            last_point_at: said.last_point_at,
            journal_at: said.journal_age_s.and_then(|age| self.at.earlier(Duration::from_secs(age))),
            gap: said.gap.clone(),
            sizes: said.sizes.clone(),
            holds: said.holds.iter().map(|hold| (hold.point.clone(), hold.until)).collect(),
            drill: said.drill.as_ref().filter(|drill| drill.outcome != "interrupted").map(|drill| {
                DrillState { at: drill.at, passed: drill.outcome == "passed", rto_seconds: drill.rto_seconds }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_model::drill::DrillOutcome;
    use strongroom_ops::status::{self, Figures, HoldEnd, LastDrill, SourceStatus};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000 + seconds).unwrap()
    }

    /// What `status` says is read here, with every member that is used.
    #[test]
    fn what_status_says_is_understood() {
        for (outcome, expected) in [
            (DrillOutcome::Passed, Some(true)),
            (DrillOutcome::Failed, Some(false)),
            (DrillOutcome::Interrupted, None),
        ] {
            let point = PointId::new(at(-100), [1; 4]);
            let status = SourceStatus {
                source: "orders".parse().unwrap(),
                points: 2,
                last_point: Some(point.clone()),
                last_point_at: Some(at(-90)),
                dumped: false,
                recoverable_to: Some(at(-61)),
                journal_age_s: Some(60),
                journal_end: Some(status::JournalEnd { lineage: SystemId(7), end: Lsn(9) }),
                gap: Some("00000001000000000000000A".into()),
                figures: Figures {
                    sizes: vec![1, 2],
                    stored_bytes: 3,
                    last_point_stored_bytes: Some(1),
                    last_point_seconds: Some(10),
                },
                holds: vec![HoldEnd { point: point.clone(), until: at(5) }],
                drill: Some(LastDrill { evidence: "e".into(), at: at(-9), outcome, rto_seconds: Some(7.5) }),
                problems: Vec::new(),
            };
            let said: Said = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
            let sources = [(status.source.clone(), said)].into();
            let reading = Reading { at: at(0), sources };
            assert_eq!(reading.journal_end(&status.source), Some((SystemId(7), Lsn(9))));
            let held = reading.held(&status.source);
            assert_eq!((held.points, held.last_point_at, held.journal_at), (2, Some(at(-90)), Some(at(-60))));
            assert_eq!((held.last_point, held.sizes), (Some((point.clone(), at(-100))), vec![1, 2]));
            assert_eq!((held.holds, held.gap), (vec![(point, at(5))], status.gap));
            assert_eq!(held.drill.as_ref().map(|drill| drill.passed), expected);
            assert!(held.drill.is_none_or(|drill| drill.at == at(-9) && drill.rto_seconds == Some(7.5)));
        }
    }
}
