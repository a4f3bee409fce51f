//! What the web page and the API show: plain values, made of what the watch saw last, of the settings, and of what verbs told.
//!
//! ```text
//! board ─────────┐
//! settings ──────┼▶ shown ▶ the page, as HTML
//! catalog, told ─┘      └▶ the API, as JSON
//! ```
//!
//! **Invariants**
//! - Pure: nothing is asked for here, and the clock comes in.
//! - What is not known is `None`, or says so in words; it never counts as good. Whatever is old says how old.

pub mod listing;
pub mod line;
pub mod overview;
pub mod band;
pub mod jobs;
pub mod alerts;
pub mod source;
pub mod drills;
pub mod storage;
pub mod plans;
pub mod audit;

use std::time::Duration;

use strongroom_model::Timestamp;

use crate::agent::watch::board::Snapshot;
use crate::settings::Settings;

/// Beyond three rounds of the watch a reading of the vault is old: a round may take its time.
const BEYOND: Duration = Duration::from_secs(120);

/// What there is to look at, and when.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// What the watch saw last; `None` before its first round.
    pub snapshot: Option<&'a Snapshot>,
    /// The settings that hold now.
    pub settings: &'a Settings,
    /// The moment it is shown.
    pub now: Timestamp,
}

impl Sight<'_> {
    /// When the vault last said what it holds.
    pub fn read_at(&self) -> Option<Timestamp> {
        Some(self.snapshot?.reading.as_ref()?.at)
    }

    /// Why what the vault said last may no longer hold; `None` if it does.
    pub fn staleness(&self) -> Option<String> {
        let Some(snapshot) = self.snapshot else { return Some("the agent has looked at nothing yet".into()) };
        if let Some((_, why)) = &snapshot.observed.vault.silent {
            return Some(format!("the vault does not say what it holds: {why}"));
        }
        let Some(reading) = &snapshot.reading else {
            return Some("the vault was never read".into());
        };
        let most = self.settings.watch.every.0 * 3 + BEYOND;
        (self.now.since(reading.at) > most).then(|| "the vault was not read for long".into())
    }
}
