//! What a simulation costs: keeping by class and age, putting, moving, and days that are paid for though nothing is there.

use super::shelf::{Taken, Wal};
use crate::lifecycle::{Lifecycle, Step};
use crate::price::PriceList;
use crate::tier::StorageClass;
use crate::time::Timestamp;

/// A running sum.
pub struct Bill<'a> {
    prices: &'a PriceList,
    lifecycle: &'a Lifecycle,
    sum: Option<f64>,
    early: Option<f64>,
}

impl<'a> Bill<'a> {
    /// Nothing yet.
    pub fn new(prices: &'a PriceList, lifecycle: &'a Lifecycle) -> Bill<'a> {
        Bill { prices, lifecycle, sum: Some(0.0), early: Some(0.0) }
    }

    /// All of it; `None` once something had no price.
    pub fn sum(&self) -> Option<f64> {
        self.sum
    }

    /// Of this, for classes that are paid for longer than objects were in them.
    pub fn early_deletion(&self) -> Option<f64> {
        self.early
    }

    /// One day: what is there at its end, what went, and WAL.
    pub fn day(&mut self, now: Timestamp, packs: &[Taken], gone: &[Taken], wal: &Wal) {
        for pack in packs {
            let age = age(pack, now);
            let step = step_at(&self.lifecycle.packs, age);
            let class = step.map_or(StorageClass::Standard, |step| step.class);
            self.add(self.prices.keeping(class, pack.bytes, 1.0));
            if age == 0 {
                self.add(self.prices.putting(StorageClass::Standard, pack.objects));
            }
            if step.is_some_and(|step| step.days == age && age > 0) {
                self.add(self.prices.putting(class, pack.objects));
            }
        }
        for pack in gone {
            self.leave_early(pack, age(pack, now));
        }
        self.add(self.prices.keeping(StorageClass::Standard, wal.bytes, 1.0));
        self.add(self.prices.putting(StorageClass::Standard, wal.objects_a_day));
    }

    fn leave_early(&mut self, pack: &Taken, age: u32) {
        let Some(step) = step_at(&self.lifecycle.packs, age) else { return };
        let left = (step.days + step.class.minimum_days()).saturating_sub(age);
        let cost = self.prices.keeping(step.class, pack.bytes, f64::from(left));
        self.early = self.early.zip(cost).map(|(early, cost)| early + cost);
        self.add(cost);
    }

    fn add(&mut self, cost: Option<f64>) {
        self.sum = self.sum.zip(cost).map(|(sum, cost)| sum + cost);
    }
}

/// Whole days.
fn age(pack: &Taken, now: Timestamp) -> u32 {
    (now.since(pack.at).as_secs() / 86_400) as u32
}

/// Where an object of this age is; `None` while it is where it was put.
fn step_at(steps: &[Step], age: u32) -> Option<Step> {
    steps.iter().rev().find(|step| step.days <= age).copied()
}
