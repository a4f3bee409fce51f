//! Looks every second at what has become due, and orders it.
//!
//! ```text
//! settings ▶ agenda ▶ never planned before? ─ what the vault knows ▶ stand
//!                 └──▶ instant came? ▶ order      clock went back? ▶ take back
//! ```
//!
//! **Invariants**
//! - On an empty machine nothing is doubled: a source is planned from its newest point on, as the vault has it.
//! - A rule that is new orders nothing for the past, unless its source has points: then it goes on where they end.
//! - Between two looks nothing is written: an idle agent leaves its catalog alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use strongroom_catalog::job::{Order, Standing};
use strongroom_catalog::queue::{Planned, went_back};
use strongroom_catalog::worker::Worker;
use strongroom_catalog::{Catalog, CatalogError, Kind};
use strongroom_model::due::due;
use strongroom_model::{Cx, PointId, SourceName, Timestamp};
use tokio::sync::watch;

use crate::agent::agenda::{Line, agenda, counted};
use crate::agent::jobs::newest_points;
use crate::agent::present::Present;
use crate::context::Context;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks after which the vault is asked again, if it did not answer.
const ASK_AGAIN: u64 = 60;

/// What a job that the vault tells of is called, instead of a rule.
const TOLD: &str = "vault";

/// A line of the agenda, and up to where it is planned.
struct Planning {
    line: Line,
    planned_to: Timestamp,
    next: Option<Timestamp>,
}

impl Planning {
    fn new(line: Line, planned_to: Timestamp) -> Planning {
        let next = line.next_after(planned_to);
        Planning { line, planned_to, next }
    }

    fn planned(&mut self, to: Timestamp) {
        (self.planned_to, self.next) = (to, self.line.next_after(to));
    }
}

/// Orders what the settings say, when they say it.
pub struct Scheduler {
    cx: Cx,
    settings: Arc<Present>,
    catalog: Arc<Catalog>,
    worker: Arc<Worker>,
    plannings: Vec<Planning>,
    /// The settings that these are of; `None` while some could not be begun.
    followed: Option<u64>,
    /// What stood in the way when it was last said.
    said: String,
}

impl Scheduler {
    /// One that orders nothing yet.
    pub fn new(settings: Arc<Present>, catalog: Arc<Catalog>, worker: Arc<Worker>) -> Scheduler {
        let cx = settings.context().cx.clone();
        Scheduler {
            cx,
            settings,
            catalog,
            worker,
            plannings: Vec::new(),
            followed: None,
            said: String::new(),
        }
    }

    /// Orders until `leave` says so.
    pub async fn keep(mut self, mut leave: watch::Receiver<bool>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 0_u64.. {
            tokio::select! {
                _ = leave.wait_for(|leave| *leave) => return,
                _ = looks.tick() => {}
            }
            if let Err(error) = self.look(look).await {
                let why = error.to_string();
                if why != self.said {
                    tracing::error!("nothing is ordered, trying again: {why}");
                }
                self.said = why;
            } else {
                self.said.clear();
            }
        }
    }

    async fn look(&mut self, look: u64) -> Result<(), CatalogError> {
        let context = self.settings.context();
        let fingerprint = context.settings.fingerprint;
        let asks =
            self.followed.is_some_and(|followed| followed != fingerprint) || look.is_multiple_of(ASK_AGAIN);
        if self.followed != Some(fingerprint) && asks {
            self.followed = self.follow(&context).await?.then_some(fingerprint);
        }
        let now = self.cx.now();
        self.take_back(now).await?;
        self.order(now).await
    }

    /// Takes up the agenda of these settings; whether all of it is planned.
    async fn follow(&mut self, context: &Context) -> Result<bool, CatalogError> {
        let lines = agenda(&context.settings);
        let known = self.catalog.planned_to().await?;
        let is_new = |line: &&Line| !known.contains_key(&line.standing.key());
        let new: Vec<&Line> = lines.iter().filter(is_new).collect();
        let told = match new.iter().any(|line| line.standing.kind == Kind::Backup) {
            true => newest_points(context, None).await,
            false => Some(BTreeMap::new()),
        };
        if let Some(told) = &told {
            if known.is_empty() {
                self.catalog.remember(&history(told)).await?;
            }
            let now = self.cx.now();
            let from = |line: &Line| match &line.standing.source {
                Some(source) if line.standing.kind == Kind::Backup => {
                    told.get(source).and_then(PointId::begun).unwrap_or(now)
                }
                _ => now,
            };
            let begun: Vec<(&Standing, Timestamp)> =
                new.iter().map(|line| (&line.standing, from(line))).collect();
            self.catalog.stand(&begun).await?;
        }
        let known = self.catalog.planned_to().await?;
        let counted = counted(&lines);
        let planned = lines.into_iter().filter_map(|line| {
            let planned_to = known.get(&line.standing.key()).copied()?;
            Some(Planning::new(line, planned_to))
        });
        self.plannings = planned.collect();
        context.printer.note(&format!("jobs of {} rules: {counted}", self.plannings.len()));
        Ok(told.is_some())
    }

    /// Goes back with the clock.
    async fn take_back(&mut self, now: Timestamp) -> Result<(), CatalogError> {
        let mut ahead: Vec<&mut Planning> =
            self.plannings.iter_mut().filter(|planning| went_back(planning.planned_to, now)).collect();
        if ahead.is_empty() {
            return Ok(());
        }
        tracing::warn!("the clock went back: what did not begin is ordered anew when its time comes");
        let standings: Vec<&Standing> = ahead.iter().map(|planning| &planning.line.standing).collect();
        self.catalog.take_back(&standings, now).await?;
        ahead.iter_mut().for_each(|planning| planning.planned(now));
        Ok(())
    }

    async fn order(&mut self, now: Timestamp) -> Result<(), CatalogError> {
        let is_due = |planning: &&mut Planning| planning.next.is_some_and(|next| next <= now);
        let mut come: Vec<&mut Planning> = self.plannings.iter_mut().filter(is_due).collect();
        if come.is_empty() {
            return Ok(());
        }
        let of = |planning: &&mut Planning| {
            let (line, standing) = (&planning.line, &planning.line.standing);
            due(|last| line.next_after(last), (planning.planned_to, now), standing.start_window)
        };
        let found: Vec<_> = come.iter().map(of).collect();
        let standings = come.iter().map(|planning| &planning.line.standing);
        let ordered = self.catalog.order(&standings.zip(found).collect::<Vec<_>>(), now).await?;
        come.iter_mut().for_each(|planning| planning.planned(now));
        let Planned { ordered, missed } = ordered;
        if missed > 0 {
            tracing::warn!(
                "{missed} instants went by while no agent was there: `strongroom jobs list --state missed`"
            );
        }
        if ordered > 0 {
            self.worker.wake();
        }
        Ok(())
    }
}

/// The newest points of the vault as backups that were done.
fn history(told: &BTreeMap<SourceName, PointId>) -> Vec<(Order, Value)> {
    let done = |(source, point): (&SourceName, &PointId)| {
        let standing = Standing {
            kind: Kind::Backup,
            source: Some(source.clone()),
            vault: String::new(),
            plan: String::new(),
            rule: TOLD.to_owned(),
            start_window: Duration::ZERO,
            completion_window: Duration::ZERO,
        };
        Some((standing.order(point.begun()?), json!({ "source": source, "point": point })))
    };
    told.iter().filter_map(done).collect()
}
