//! What was seen last, for those who ask: no asking leads to the vault.

use std::sync::{Arc, PoisonError, RwLock};

use strongroom_model::alert::observed::Observed;

pub use crate::agent::watch::observe::Facts;
pub use crate::agent::watch::reading::Reading;

/// One round of the watch.
pub struct Snapshot {
    /// What alerts were decided by.
    pub observed: Observed,
    /// What the vault said, whenever it last did.
    pub reading: Option<Reading>,
    /// It did not answer when it was asked last.
    pub is_silent: bool,
    /// What the catalog knows.
    pub facts: Facts,
    /// This build.
    pub build: String,
}

/// Where the last round is.
#[derive(Default)]
pub struct Board(RwLock<Option<Arc<Snapshot>>>);

impl Board {
    /// What was seen last; `None` before the first round.
    pub fn last(&self) -> Option<Arc<Snapshot>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows this from now on.
    pub fn put(&self, snapshot: Snapshot) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(snapshot));
    }
}
