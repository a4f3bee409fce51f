//! `strongroom report jobs`: what became of the jobs of a stretch of time, by kind. Pure: the catalog is asked by who calls this.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits, or is worked on.
    Open,
    /// It came to its end.
    Done,
    /// The same, and something was found on the way.
    DoneWithFindings,
    /// It did not come to its end.
    Failed,
    /// Somebody called it off.
    Cancelled,
    /// Its instant went by while no agent was there.
    Missed,
    /// Nobody began it in time.
    Expired,
}

/// A job, as far as a report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What it did: a verb.
    pub kind: String,
    /// What became of it.
    pub fate: Fate,
    /// How often it was begun.
    pub attempts: u64,
    /// From its first beginning to its end, if it came to one.
    pub took: Option<Duration>,
}

/// The jobs of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JobFigures {
    /// How many were ordered.
    pub ordered: u64,
    /// How many came to their end.
    pub done: u64,
    /// Of those, how many found something on the way.
    pub with_findings: u64,
    /// How many did not.
    pub failed: u64,
    /// How many were called off.
    pub cancelled: u64,
    /// How many had no agent.
    pub missed: u64,
    /// How many began too late to begin at all.
    pub expired: u64,
    /// How many wait or run.
    pub open: u64,
    /// How many were begun more than once.
    pub retried: u64,
    /// Of those that could have been done, the share that was; `None` if there was none.
    pub success_rate: Option<f64>,
    /// Half of those that were done took no longer, in seconds.
    pub p50_s: Option<f64>,
    /// 95 of 100 took no longer, in seconds.
    pub p95_s: Option<f64>,
}

/// What became of them, by kind.
pub fn figures(jobs: &[Ran]) -> BTreeMap<String, JobFigures> {
    let mut by_kind = BTreeMap::<String, (JobFigures, Vec<Duration>)>::new();
    for job in jobs {
        let (figures, times) = by_kind.entry(job.kind.clone()).or_default();
        figures.ordered += 1;
        figures.retried += u64::from(job.attempts > 1);
        let counted = match job.fate {
            Fate::Open => &mut figures.open,
            Fate::Done | Fate::DoneWithFindings => &mut figures.done,
            Fate::Failed => &mut figures.failed,
            Fate::Cancelled => &mut figures.cancelled,
            Fate::Missed => &mut figures.missed,
            Fate::Expired => &mut figures.expired,
        };
        *counted += 1;
        figures.with_findings += u64::from(job.fate == Fate::DoneWithFindings);
        if matches!(job.fate, Fate::Done | Fate::DoneWithFindings) {
            times.extend(job.took);
        }
    }
    let whole = |(kind, (mut figures, mut times)): (String, (JobFigures, Vec<Duration>))| {
        let of = figures.done + figures.failed + figures.missed + figures.expired;
        figures.success_rate = (of > 0).then(|| figures.done as f64 / of as f64);
        times.sort_unstable();
        figures.p50_s = percentile(&times, 50);
        figures.p95_s = percentile(&times, 95);
        (kind, figures)
    };
    by_kind.into_iter().map(whole).collect()
}

/// By nearest rank: a time that was measured, and none in between.
fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).map(Duration::as_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(kind: &str, fate: Fate, attempts: u64, seconds: Option<u64>) -> Ran {
        Ran { kind: kind.into(), fate, attempts, took: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn what_was_called_off_is_no_failure_and_what_was_missed_is() {
        let mut jobs: Vec<Ran> =
            (1..=20).map(|seconds| ran("backup", Fate::Done, 1, Some(seconds))).collect();
        jobs.extend([
            ran("backup", Fate::DoneWithFindings, 2, Some(100)),
            ran("backup", Fate::Failed, 3, Some(9)),
            ran("backup", Fate::Missed, 0, None),
            ran("backup", Fate::Expired, 0, None),
            ran("backup", Fate::Cancelled, 1, None),
            ran("backup", Fate::Open, 1, None),
            ran("drill", Fate::Open, 0, None),
        ]);
        let found = figures(&jobs);
        let backup = &found["backup"];
        assert_eq!((backup.ordered, backup.done, backup.with_findings, backup.failed), (26, 21, 1, 1));
        assert_eq!((backup.cancelled, backup.missed, backup.expired, backup.open), (1, 1, 1, 1));
        assert_eq!((backup.retried, backup.success_rate), (2, Some(21.0 / 24.0)));
        // What failed tells nothing of how long one takes that does not.
        assert_eq!((backup.p50_s, backup.p95_s), (Some(11.0), Some(20.0)));
        let drill = &found["drill"];
        assert_eq!((drill.success_rate, drill.p50_s), (None, None));
        assert!(figures(&[]).is_empty());
    }
}
