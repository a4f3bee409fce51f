//! Surroundings from a seed: the clock advances a second with every look; chance is SplitMix64.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_model::{Clock, Cx, Entropy, Timestamp};

/// A clock that advances one second each time it is read.
struct StepClock(AtomicU64);

impl Clock for StepClock {
    fn now(&self) -> Timestamp {
        let second = self.0.fetch_add(1, Ordering::Relaxed);
        match Timestamp::from_unix_seconds(second as i64) {
            Some(now) => now,
            None => unreachable!("the simulated clock ran past the year 9999"),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough to make names differ, not to keep secrets.
struct SeededEntropy(AtomicU64);

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let mut z = self
                .0
                .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
                .wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// The surroundings that belong to `seed`: the same every time. The clock begins at 2026-11-20 12:00:00 UTC.
pub fn world(seed: u64) -> Cx {
    world_at(seed, 0)
}

/// The surroundings that belong to `seed`, with a clock that begins so many seconds later: after a pause, or on a host whose
/// clock is wrong.
pub fn world_at(seed: u64, seconds: u64) -> Cx {
    let clock = StepClock(AtomicU64::new(1_795_176_000 + seconds));
    Cx::new(Arc::new(clock), Arc::new(SeededEntropy(AtomicU64::new(seed))))
}
