//! A year of a plan in a moment: points, storage, cost and the worst RPO, by the code that decides in earnest.
//!
//! ```text
//! schedules ──▶ runs ──▶ points ──▶ plan_expiry, once a day ──▶ what is still there ──▶ its class by age ──▶ its price
//! ```
//!
//! **Invariants**
//! - The clock is the simulation's, and so is chance: the same question has the same answer.
//! - When a run is due and what is let go is decided by [`Schedule`](crate::schedule::Schedule) and [`plan_expiry`], as in
//!   production. What a point adds to the vault is an assumption, and is said with the result.
//! - Storage is an upper bound: a pack counts as needed as long as any point may refer to it.

use std::time::Duration;

use serde::Serialize;

use crate::expiry_plan::plan_expiry;
use crate::lifecycle::Lifecycle;
use crate::plan::Timetable;
use crate::price::PriceList;
use crate::retention::{Retention, RetentionError};
use crate::source::Shipping;
use crate::time::Timestamp;

mod shelf;
mod bill;

use bill::Bill;
use shelf::Shelf;

/// How much there is, and how it grows. Bytes as they are stored: compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Growth {
    /// A point that refers to no other.
    pub full: u64,
    /// What changes in a day.
    pub change_a_day: u64,
    /// WAL of a day.
    pub wal_a_day: u64,
}

/// What is simulated: one source.
#[derive(Clone, Debug)]
pub struct Simulated<'a> {
    /// When it is backed up.
    pub backups: Vec<Timetable<'a>>,
    /// What is kept of it; everything if that is nowhere said.
    pub retention: Option<Retention>,
    /// Whether it has WAL.
    pub has_journal: bool,
    /// How that is shipped.
    pub shipping: Shipping,
    /// How long a backup takes.
    pub takes: Duration,
    /// How much there is; without that there is neither storage nor cost.
    pub growth: Option<Growth>,
}

/// Where and when it is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// When it begins.
    pub begin: Timestamp,
    /// How many days.
    pub days: u32,
    /// Runs begin late by chance, as their start windows allow; without a seed, in time.
    pub seed: Option<u64>,
    /// Where the bucket moves objects as they age.
    pub lifecycle: &'a Lifecycle,
    /// Days for which later points refer to a pack.
    pub rebase_days: u32,
    /// What keeping costs.
    pub prices: &'a PriceList,
}

/// What it came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Backups that were taken.
    pub taken: usize,
    /// Points that are kept at the end.
    pub points: usize,
    /// The most that were kept at a time.
    pub most_points: usize,
    /// The most that could have been lost, in seconds; `None` if less than two backups were taken.
    pub worst_rpo: Option<u64>,
    /// Bytes in the vault at the end; `None` if it is not known how much there is.
    pub stored: Option<u64>,
    /// The most bytes at a time.
    pub most_stored: Option<u64>,
    /// What all of it cost; `None` if that is not known, or a class has no price.
    pub cost: Option<f64>,
    /// Of this for classes that are paid for longer than objects were in them.
    pub early_deletion: Option<f64>,
    /// Month by month.
    pub months: Vec<Month>,
}

/// The state at the end of a month (of 30 days), and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Month {
    /// From 1 on.
    pub month: u32,
    /// Points that are kept.
    pub points: usize,
    /// Bytes in the vault.
    pub stored: Option<u64>,
    /// What this month cost.
    pub cost: Option<f64>,
}

/// A plan that cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulationError {
    /// Nobody needs so many runs to see where it goes.
    #[error("these rules come to more than {MOST_RUNS} backups of a source")]
    TooManyRuns,
    /// What is kept does not work out.
    #[error(transparent)]
    Retention(#[from] RetentionError),
}

/// The most backups of a source that are simulated.
const MOST_RUNS: usize = 120_000;

/// The longest time that is simulated: a hundred years.
pub const MOST_DAYS: u32 = 36_525;

const DAY: Duration = Duration::from_secs(86_400);

/// Days of a month here.
const MONTH: u32 = 30;

/// Plays what happens to a source.
pub fn simulate(simulated: &Simulated<'_>, setting: &Setting<'_>) -> Result<Outcome, SimulationError> {
    let runs = runs(simulated, setting)?;
    let worst_rpo = worst_rpo(simulated, &runs);
    let mut shelf = Shelf::new(simulated.has_journal, setting.rebase_days);
    let mut bill = Bill::new(setting.prices, setting.lifecycle);
    let mut outcome = Outcome {
        taken: runs.len(),
        points: 0,
        most_points: 0,
        worst_rpo,
        stored: simulated.growth.map(|_| 0),
        most_stored: simulated.growth.map(|_| 0),
        cost: None,
        early_deletion: None,
        months: Vec::new(),
    };
    let (mut runs, mut paid) = (runs.into_iter().peekable(), 0.0);
    for day in 1..=setting.days {
        let Ok(now) = setting.begin.0.checked_add(DAY * day).map(Timestamp) else { break };
        while let Some(at) = runs.next_if(|at| *at < now) {
            shelf.take(at, simulated.takes, simulated.growth.as_ref());
        }
        outcome.most_points = outcome.most_points.max(shelf.points());
        if let Some(retention) = &simulated.retention {
            let plan = plan_expiry(&shelf.shelved(), &shelf.journals(), retention, now)?;
            shelf.let_go(&plan);
        }
        let gone = shelf.sweep();
        if let Some(growth) = &simulated.growth {
            let wal = shelf.wal(growth, (setting.begin, now), simulated.shipping);
            bill.day(now, shelf.packs(), &gone, &wal);
            let stored = shelf.stored() + wal.bytes;
            outcome.stored = Some(stored);
            outcome.most_stored = outcome.most_stored.max(Some(stored));
        }
        if day % MONTH == 0 || day == setting.days {
            let cost = simulated.growth.and_then(|_| bill.sum());
            let this = cost.map(|sum| sum - paid);
            paid = cost.unwrap_or(paid);
            let (points, stored) = (shelf.points(), outcome.stored);
            outcome.months.push(Month { month: day.div_ceil(MONTH), points, stored, cost: this });
        }
    }
    outcome.points = shelf.points();
    outcome.cost = simulated.growth.and_then(|_| bill.sum());
    outcome.early_deletion = simulated.growth.and_then(|_| bill.early_deletion());
    Ok(outcome)
}

/// When backups begin, in order. One at a time: what is due while another runs waits for it.
fn runs(simulated: &Simulated<'_>, setting: &Setting<'_>) -> Result<Vec<Timestamp>, SimulationError> {
    let until = setting.begin.0.checked_add(DAY * setting.days).map_or(setting.begin, Timestamp);
    let mut dice = Dice(setting.seed.unwrap_or_default());
    let mut due = Vec::new();
    for table in &simulated.backups {
        for at in table.schedule.times((setting.begin, until), table.zone) {
            let late = setting.seed.map_or(Duration::ZERO, |_| dice.below(table.start_window.0));
            due.push(at.0.checked_add(late).map_or(at, Timestamp));
            if due.len() > MOST_RUNS {
                return Err(SimulationError::TooManyRuns);
            }
        }
    }
    due.sort_unstable();
    let (mut free, mut begun) = (setting.begin, Vec::with_capacity(due.len()));
    for at in due {
        let at = at.max(free);
        free = at.0.checked_add(simulated.takes).map_or(at, Timestamp);
        begun.push(at);
    }
    Ok(begun)
}

/// A point shows the source as it was when the backup began, and can be restored from when it ended: until the next one
/// ended, all that happened since may be lost.
fn worst_rpo(simulated: &Simulated<'_>, runs: &[Timestamp]) -> Option<u64> {
    if let Shipping::Streamed(waits) = simulated.shipping {
        return Some(waits.as_secs());
    }
    let between = runs.windows(2).map(|pair| pair[1].since(pair[0])).max()?;
    Some((between + simulated.takes).as_secs())
}

/// Chance that replays: SplitMix64.
struct Dice(u64);

impl Dice {
    /// Some length of time below `most`, in seconds.
    fn below(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_secs((mixed ^ (mixed >> 31)) % most.as_secs().max(1))
    }
}

#[cfg(test)]
mod tests;
