//! Drills: which state is proven, what was found, and what many of them say together. Pure values and decisions.
//!
//! ```text
//! choice, points, windows ▶ chosen (point, target) ▶ phases, checks ▶ outcome ▶ statement, signed ▶ what they say together
//! ```
//!
//! **Invariants**
//! - A check that was not run never counts as passed: it says why it was not.
//! - The same seed draws the same from the same points and windows.

use serde::{Deserialize, Serialize};

use crate::name::{PointId, SourceName};
use crate::point::Summary;
use crate::restore_plan::PitrWindow;
use crate::target::RecoveryTarget;
use crate::time::Timestamp;

/// The shape of the statements that this build writes, and the newest that it reads.
pub const SHAPE: u32 = 1;

/// How many recovery times are shown one by one.
const SHOWN: usize = 10;

/// Recovery times that a trend takes at least.
const TREND_FROM: usize = 4;

/// By how much the later half must differ from the earlier one to be no accident.
const TREND_BY: f64 = 1.2;

/// Which state is to be proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", content = "value")]
pub enum Choice {
    /// The newest there is: what would be restored if the source were lost now.
    Latest,
    /// This point, as soon as it is consistent.
    Point(PointId),
    /// One of the points that can be restored, drawn by this seed.
    RandomPoint(u64),
    /// The state at this time.
    Time(Timestamp),
    /// The state at a second that can be restored to, drawn by this seed.
    RandomTime(u64),
}

/// What a choice comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// This point; `None` for the best one that leads to the target.
    pub point: Option<PointId>,
    /// Where to.
    pub target: RecoveryTarget,
}

/// Why nothing can be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// There is no point at all.
    #[error("draw a recovery point of source {0}: there is none that can be restored")]
    NoPoint(SourceName),
    /// No window has a whole second.
    #[error("draw a time of source {0}: no WAL leads on from its recovery points")]
    NoWindow(SourceName),
}

/// Makes the choice. `points` are those that can be restored; `windows` is what they lead to.
pub fn choose(
    choice: &Choice,
    source: &SourceName,
    points: &[&Summary],
    windows: &[PitrWindow],
) -> Result<Chosen, ChoiceError> {
    let of_point = |point: &PointId| Chosen { point: Some(point.clone()), target: RecoveryTarget::Immediate };
    Ok(match choice {
        Choice::Latest => Chosen { point: None, target: RecoveryTarget::Latest },
        Choice::Point(point) => of_point(point),
        Choice::RandomPoint(seed) => {
            let mut ids: Vec<&PointId> = points.iter().map(|summary| &summary.point).collect();
            ids.sort_unstable();
            let drawn = ids.get(drawn(*seed, ids.len() as u64) as usize);
            of_point(drawn.ok_or_else(|| ChoiceError::NoPoint(source.clone()))?)
        }
        Choice::Time(time) => Chosen { point: None, target: RecoveryTarget::Time(*time) },
        Choice::RandomTime(seed) => {
            let second = random_second(*seed, windows);
            let time = second.and_then(Timestamp::from_unix_seconds);
            let time = time.ok_or_else(|| ChoiceError::NoWindow(source.clone()))?;
            Chosen { point: None, target: RecoveryTarget::Time(time) }
        }
    })
}

/// A whole second within any of the windows, each as likely as the others. The end itself is not drawn: only behind a time
/// is there a transaction to stop before.
fn random_second(seed: u64, windows: &[PitrWindow]) -> Option<i64> {
    let next_second = |time: Timestamp| {
        let micros = time.0.as_microsecond();
        micros.div_euclid(1_000_000) + i64::from(micros.rem_euclid(1_000_000) > 0)
    };
    let spans = windows.iter().filter_map(|window| Some((next_second(window.from), next_second(window.to?))));
    let mut spans: Vec<(i64, i64)> = spans.filter(|(from, to)| from < to).collect();
    spans.sort_unstable();
    let mut apart = Vec::<(i64, i64)>::new();
    for (from, to) in spans {
        match apart.last_mut() {
            Some((_, end)) if *end >= from => *end = to.max(*end),
            _ => apart.push((from, to)),
        }
    }
    let length = |(from, to): &(i64, i64)| to.abs_diff(*from);
    let mut left = drawn(seed, apart.iter().map(length).sum());
    for span in &apart {
        if left < length(span) {
            return span.0.checked_add_unsigned(left);
        }
        left -= length(span);
    }
    None
}

/// A number below `below`, by a seed (SplitMix64). Zero of nothing.
fn drawn(seed: u64, below: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    ((u128::from(mixed) * u128::from(below)) >> 64) as u64
}

/// A stretch of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// `plan`, `write`, `sync`, `replay`, `connect`, `load`, `checks`…
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// Bytes worked through, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether somebody who waits for the data waits for this, too.
    pub in_rto: bool,
}

/// A length of time as statements have it: seconds, to the millisecond.
pub fn seconds_of(time: std::time::Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// It holds.
    Passed,
    /// It does not, or could not be found out.
    Failed,
    /// It cannot be looked at here; nothing is known.
    NotRun,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it came out.
    pub outcome: CheckOutcome,
    /// What was found, or why it was not looked at.
    pub detail: String,
}

impl Answer {
    /// It holds.
    pub fn passed(detail: impl Into<String>) -> Answer {
        Answer { outcome: CheckOutcome::Passed, detail: detail.into() }
    }

    /// It does not.
    pub fn failed(detail: impl Into<String>) -> Answer {
        Answer { outcome: CheckOutcome::Failed, detail: detail.into() }
    }

    /// It was not looked at, for this reason.
    pub fn not_run(detail: impl Into<String>) -> Answer {
        Answer { outcome: CheckOutcome::NotRun, detail: detail.into() }
    }
}

/// A check of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// `pages`, `libraries`, `recovery`, `journal`, `facts`, `databases`, `rows`, `amcheck`, `sql 1`, `checksums`, `rto`…
    pub name: String,
    /// How it came out.
    pub outcome: CheckOutcome,
    /// How long it took.
    pub seconds: f64,
    /// What was found, or why it was not looked at.
    pub detail: String,
}

/// The check that is about the time alone.
pub const RTO: &str = "rto";

/// What a drill came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillOutcome {
    /// It was restored, no check failed, and it took no longer than it may.
    Passed,
    /// Not so.
    Failed,
    /// Somebody asked it to stop.
    Interrupted,
}

/// What a drill says of itself: the statement that is signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// The shape of this statement: [`SHAPE`].
    pub drill: u32,
    /// The vault's id, as text.
    pub vault: String,
    /// What was restored.
    pub source: SourceName,
    /// From which point.
    pub point: PointId,
    /// What it was taken of: `PostgreSQL 17.4`.
    pub product: String,
    /// How point and target were chosen.
    pub chosen: Choice,
    /// Where recovery was to stop; of a dump [`RecoveryTarget::Immediate`], the moment it shows.
    pub target: RecoveryTarget,
    /// Where it did stop, in the server's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
    /// By the host's clock.
    pub began_at: Timestamp,
    /// By the host's clock.
    pub ended_at: Timestamp,
    /// On which host.
    pub host: String,
    /// By which build: `strongroom 0.1.0`.
    pub tool: String,
    /// The server that was started, as it names its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What it did, in order.
    pub phases: Vec<Phase>,
    /// Until the data could be used; `None` if it did not get there.
    pub rto_seconds: Option<f64>,
    /// How long that may take; `None` if nobody said.
    pub objective_seconds: Option<f64>,
    /// What was looked at, in order.
    pub checks: Vec<Check>,
    /// What it came to.
    pub outcome: DrillOutcome,
    /// Why it did not get to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Drill {
    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.outcome == CheckOutcome::Failed)
    }

    /// Whether all that is wrong is that it took too long.
    pub fn is_only_slow(&self) -> bool {
        self.why.is_none() && self.failed().count() == 1 && self.failed().all(|check| check.name == RTO)
    }
}

/// Where recovery times go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trend {
    /// The later ones took longer.
    Rising,
    /// They take about as long as they did.
    Steady,
    /// The later ones took less long.
    Falling,
}

/// What many drills of one source say together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DrillHistory {
    /// How many there were.
    pub drills: usize,
    /// How many of them passed.
    pub passed: usize,
    /// When the last one ended.
    pub last_at: Option<Timestamp>,
    /// When the last one ended that passed.
    pub last_passed_at: Option<Timestamp>,
    /// Seconds until the data could be used: in the last drill that got so far.
    pub last_seconds: Option<f64>,
    /// In the middle of them all; the slower of two.
    pub median_seconds: Option<f64>,
    /// In the slowest.
    pub worst_seconds: Option<f64>,
    /// In the newest of them, oldest first.
    pub recent_seconds: Vec<f64>,
    /// The later half against the earlier; `None` if there are too few to tell.
    pub trend: Option<Trend>,
}

/// Puts drills of one source together, given oldest first.
pub fn history<'a>(drills: impl IntoIterator<Item = &'a Drill>) -> DrillHistory {
    let mut history = DrillHistory::default();
    let mut seconds = Vec::new();
    for drill in drills {
        history.drills += 1;
        history.last_at = history.last_at.max(Some(drill.ended_at));
        if drill.outcome == DrillOutcome::Passed {
            history.passed += 1;
            history.last_passed_at = history.last_passed_at.max(Some(drill.ended_at));
        }
        seconds.extend(drill.rto_seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0));
    }
    let (earlier, later) = seconds.split_at(seconds.len() / 2);
    if let (true, Some(before), Some(now)) = (seconds.len() >= TREND_FROM, median(earlier), median(later)) {
        history.trend = Some(match now / before.max(f64::MIN_POSITIVE) {
            ratio if ratio > TREND_BY => Trend::Rising,
            ratio if ratio < 1.0 / TREND_BY => Trend::Falling,
            _ => Trend::Steady,
        });
    }
    history.last_seconds = seconds.last().copied();
    history.median_seconds = median(&seconds);
    history.worst_seconds = seconds.iter().copied().max_by(f64::total_cmp);
    history.recent_seconds = seconds[seconds.len().saturating_sub(SHOWN)..].to_vec();
    history
}

fn median(seconds: &[f64]) -> Option<f64> {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests;
