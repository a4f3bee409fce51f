//! What an operation needs of its surroundings: the clock, chance, how far it is, and whether to stop.
//!
//! The binary hands in the real ones; tests and the simulator hand in seeded ones. Passed first, as `cx`.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::time::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// Where chance comes from. Must be cryptographically strong in production.
pub trait Entropy: Send + Sync {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
}

/// The operation was asked to stop (Ctrl-C). What it had stored is invisible until committed, so nothing is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request")]
pub struct Cancelled;

/// How far an operation is. Counters only grow within a phase; the reader decides how to show them.
#[derive(Default)]
pub struct Progress {
    phase: Mutex<String>,
    total: AtomicU64,
    done: AtomicU64,
    stored: AtomicU64,
}

impl Progress {
    /// Starts a phase: a short present participle such as `copying`, with the bytes it will work through (0 = unknown).
    pub fn begin(&self, phase: &str, total: u64) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase.to_owned();
        self.done.store(0, Ordering::Relaxed);
        self.stored.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// Counts bytes worked through.
    pub fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes made durable in a vault.
    pub fn store(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The phase, bytes done, bytes in total (0 = unknown) and bytes stored.
    pub fn read(&self) -> (String, u64, u64, u64) {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (phase, read(&self.done), read(&self.total), read(&self.stored))
    }
}

/// The surroundings of one operation. Cheap to clone.
#[derive(Clone)]
pub struct Cx {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of random bits.
    pub entropy: Arc<dyn Entropy>,
    /// How far the operation is.
    pub progress: Arc<Progress>,
    cancel: Arc<AtomicBool>,
}

impl Cx {
    /// Surroundings made of this clock and this entropy.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Cx {
        Cx { clock, entropy, progress: Arc::default(), cancel: Arc::default() }
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// `N` random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.entropy.fill(&mut out);
        out
    }

    /// Asks the operation to stop at its next safe place.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    /// `Err` once [`Cx::cancel`] was called. To be asked at every frame and every wait.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.cancel.load(Ordering::Relaxed) { Err(Cancelled) } else { Ok(()) }
    }
}

impl fmt::Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").finish_non_exhaustive()
    }
}
