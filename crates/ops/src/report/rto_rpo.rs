//! `strongroom report rto-rpo`: what was promised, what would be lost now, how long it takes to have it back, and how that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_model::drill::{Drill, DrillHistory, DrillOutcome, history};
use strongroom_model::{Cx, PointId, SourceName, Timestamp};
use strongroom_vault::Vault;
use strongroom_vault::drills::DrillEvidence;

use crate::error::OpsError;
use crate::status::status;

/// Drills of a source that are looked at: the newest.
const NEWEST: usize = 100;

/// What was promised for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The most that may be lost, in time.
    pub rpo: Option<Duration>,
    /// The longest until it is back.
    pub rto: Option<Duration>,
    /// How old the last drill that passed may be.
    pub drilled_within: Duration,
}

/// What a person must look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concern {
    /// There is no recovery point.
    NoPoint,
    /// More would be lost now than may be.
    RpoBroken,
    /// The last drill took longer than it may.
    RtoBroken,
    /// There never was a drill that counts.
    NeverDrilled,
    /// None ever passed.
    NeverPassed,
    /// The last one that passed is too old.
    Overdue,
    /// The last one did not pass.
    LastFailed,
    /// A record does not count, and is none of this vault's.
    FalseEvidence,
}

/// A drill that counts, in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its record.
    pub evidence: String,
    /// When it ended.
    pub ended_at: Timestamp,
    /// From which point.
    pub point: PointId,
    /// Where recovery was to stop.
    pub target: String,
    /// What it came to.
    pub outcome: DrillOutcome,
    /// Seconds until the data could be used; `None` if it did not get there.
    pub rto_seconds: Option<f64>,
    /// Seconds that it might have taken; `None` if nobody said.
    pub objective_seconds: Option<f64>,
    /// What was found wrong.
    pub wrong: Vec<String>,
}

impl Trial {
    fn of(record: &DrillEvidence) -> Option<Trial> {
        let drill = record.drill.as_ref()?;
        let failed = drill.failed().map(|check| format!("{}: {}", check.name, check.detail));
        Some(Trial {
            evidence: record.id.clone(),
            ended_at: drill.ended_at,
            point: drill.point.clone(),
            target: drill.target.to_string(),
            outcome: drill.outcome,
            rto_seconds: drill.rto_seconds,
            objective_seconds: drill.objective_seconds,
            wrong: drill.why.iter().cloned().chain(failed).collect(),
        })
    }
}

/// A source's line.
#[derive(Debug, Serialize)]
pub struct RtoRpo {
    /// The source.
    pub source: SourceName,
    /// Seconds that may be lost at most, as was promised.
    pub rpo_objective_s: Option<f64>,
    /// Seconds that would be lost now: since the last dump, or since WAL was last shipped.
    pub rpo_now_s: Option<f64>,
    /// The most that could have been lost at any time since the oldest point, as far as is known: between dumps; of WAL it is not.
    pub rpo_worst_s: Option<f64>,
    /// How that is known.
    pub rpo_by: &'static str,
    /// Seconds until it must be back, as was promised.
    pub rto_objective_s: Option<f64>,
    /// Seconds that drills took, and how many there were.
    #[serde(flatten)]
    pub drills: DrillHistory,
    /// What the last one came to.
    pub last_outcome: Option<DrillOutcome>,
    /// By when the next one must have passed; `None` if that time cannot be told, for none ever did.
    pub due_at: Option<Timestamp>,
    /// The records that say so.
    pub evidence: Vec<String>,
    /// What they say, oldest first.
    pub trials: Vec<Trial>,
    /// Records that do not count, and why.
    pub discounted: BTreeMap<String, &'static str>,
    /// What a person must look at.
    pub concerns: BTreeSet<Concern>,
}

/// What is known of how much would be lost.
struct Loss {
    now_s: Option<f64>,
    worst_s: Option<f64>,
    by: &'static str,
    has_points: bool,
}

/// Reports on every source of the vault and every one that was promised something; or on `only` one.
pub async fn rto_rpo(
    cx: &Cx,
    vault: &Vault,
    promises: &BTreeMap<SourceName, Promise>,
    only: Option<&SourceName>,
) -> Result<Vec<RtoRpo>, OpsError> {
    vault.check_may_read()?;
    let known: BTreeSet<SourceName> = vault.sources().await?.into_iter().collect();
    let mut sources: BTreeSet<SourceName> = known.iter().chain(promises.keys()).cloned().collect();
    if let Some(only) = only {
        if !sources.contains(only) {
            return Err(OpsError::UnknownSource(only.clone()));
        }
        sources.retain(|source| source == only);
    }
    let mut lines = Vec::new();
    for source in sources {
        let loss = match known.contains(&source) {
            true => loss(cx, vault, &source).await?,
            false => {
                Loss { now_s: None, worst_s: None, by: "nothing of it is in the vault", has_points: false }
            }
        };
        let promise = promises.get(&source).copied();
        lines.push(line(cx, vault, source, (loss, promise)).await?);
    }
    Ok(lines)
}

/// How much would be lost now, by the vault alone.
async fn loss(cx: &Cx, vault: &Vault, source: &SourceName) -> Result<Loss, OpsError> {
    let now = cx.now();
    let Some(state) = status(cx, vault, Some(source)).await?.into_iter().next() else {
        return Ok(Loss {
            now_s: None,
            worst_s: None,
            by: "nothing of it is in the vault",
            has_points: false,
        });
    };
    let has_points = state.points > 0;
    if !state.dumped {
        let now_s = state.journal_age_s.map(|seconds| seconds as f64).filter(|_| has_points);
        let by = "the time since WAL was last shipped; of the past the vault does not tell";
        return Ok(Loss { now_s, worst_s: None, by, has_points });
    }
    let points = vault.points(source).await?;
    let mut moments: Vec<Timestamp> =
        points.iter().filter_map(|row| row.restorable()).map(|summary| summary.stopped_at).collect();
    moments.sort_unstable();
    let seconds = |time: Duration| time.as_secs_f64();
    let between = moments.windows(2).map(|pair| seconds(pair[1].since(pair[0])));
    let now_s = moments.last().map(|last| seconds(now.since(*last)));
    let worst_s = between.chain(now_s).max_by(f64::total_cmp);
    Ok(Loss { now_s, worst_s, by: "the times between dumps, and since the last", has_points })
}

async fn line(
    cx: &Cx,
    vault: &Vault,
    source: SourceName,
    (loss, promise): (Loss, Option<Promise>),
) -> Result<RtoRpo, OpsError> {
    let records = vault.drills(&source, NEWEST).await?;
    let counted: Vec<&Drill> = records.iter().filter_map(|record| record.drill.as_ref()).collect();
    let drills = history(counted.iter().copied());
    let last = counted.last().copied();
    let objective =
        |of: fn(&Promise) -> Option<Duration>| promise.as_ref().and_then(of).map(|limit| limit.as_secs_f64());
    let (rpo, rto) = (objective(|promise| promise.rpo), objective(|promise| promise.rto));
    let within = promise.map(|promise| promise.drilled_within);
    let due_at = match (drills.last_passed_at, within) {
        (Some(at), Some(within)) => {
            let micros = i64::try_from(within.as_micros()).ok();
            micros.and_then(|micros| Timestamp::from_unix_micros(at.0.as_microsecond().checked_add(micros)?))
        }
        _ => None,
    };
    let discounted: BTreeMap<String, &'static str> =
        records.iter().filter_map(|record| Some((record.id.clone(), record.wrong?))).collect();
    let concerns = [
        (!loss.has_points, Concern::NoPoint),
        (broken(loss.now_s, rpo), Concern::RpoBroken),
        (broken(drills.last_seconds, rto), Concern::RtoBroken),
        (last.is_none(), Concern::NeverDrilled),
        (last.is_some() && drills.last_passed_at.is_none(), Concern::NeverPassed),
        (due_at.is_some_and(|due| due < cx.now()), Concern::Overdue),
        (last.is_some_and(|drill| drill.outcome != DrillOutcome::Passed), Concern::LastFailed),
        (!discounted.is_empty(), Concern::FalseEvidence),
    ];
    Ok(RtoRpo {
        source,
        rpo_objective_s: rpo,
        rpo_now_s: loss.now_s,
        rpo_worst_s: loss.worst_s,
        rpo_by: loss.by,
        rto_objective_s: rto,
        drills,
        last_outcome: last.map(|drill| drill.outcome),
        due_at,
        evidence: records
            .iter()
            .filter(|record| record.drill.is_some())
            .map(|record| record.id.clone())
            .collect(),
        trials: records.iter().filter_map(Trial::of).collect(),
        discounted,
        concerns: concerns.into_iter().filter_map(|(is, concern)| is.then_some(concern)).collect(),
    })
}

fn broken(found: Option<f64>, limit: Option<f64>) -> bool {
    matches!((found, limit), (Some(found), Some(limit)) if found > limit)
}
