//! Jobs that a person orders, now, instead of a rule at its instant.
//!
//! **Invariants**
//! - A key of a person's stands for one order: the same asked for again is the same job, something else under it is refused.

use std::time::Duration;

use serde_json::Value;
use strongroom_model::{SourceName, Timestamp};

use crate::catalog::{Catalog, CatalogError};
use crate::database::Statement;
use crate::history::{COLUMNS, read_job};
use crate::job::{Job, Kind, later};

/// What the column of rules has for these, and the column of standings.
pub(crate) const BY_HAND: &str = "by hand";

/// What a person wants.
#[derive(Clone, Debug)]
pub struct HandOrder {
    /// The verb.
    pub kind: Kind,
    /// Of which source.
    pub source: SourceName,
    /// What only one job at a time may work on.
    pub seat: String,
    /// Exactly what, for whoever carries it out.
    pub act: Value,
    /// Who wants it.
    pub person: String,
    /// What makes it the same order when it comes a second time.
    pub key: String,
}

/// How long a job of this kind may wait to begin, and take.
pub(crate) fn windows(kind: Kind) -> (Duration, Duration) {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    match kind {
        Kind::Hold | Kind::Expire => (hours(1), hours(4)),
        _ => (hours(12), hours(72)),
    }
}

impl Catalog {
    /// Orders it; whether this was the first time, and the job.
    pub async fn order_by_hand(
        &self,
        order: &HandOrder,
        now: Timestamp,
    ) -> Result<(bool, Job), CatalogError> {
        let key = format!("{BY_HAND}/{}/{}", order.person, order.key);
        let (start_window, completion_window) = windows(order.kind);
        let start_by = later(now, start_window);
        let end_by = later(start_by, completion_window);
        let micros = |window: Duration| i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let insert = "insert into jobs (key, standing, kind, source, vault, plan, rule, seat, state,
               due_at, start_by, end_by, start_window, completion_window, run_at, person, act)
             values ($1, $2, $3, $4, '', '', $2, $5, 'queued', $6, $7, $8, $9, $10, $6, $11, $12)
             on conflict (key) do nothing returning id";
        let cells = [
            key.as_str().into(),
            BY_HAND.into(),
            order.kind.word().into(),
            order.source.as_str().into(),
            order.seat.as_str().into(),
            now.into(),
            start_by.into(),
            end_by.into(),
            micros(start_window).into(),
            micros(completion_window).into(),
            order.person.as_str().into(),
            order.act.to_string().as_str().into(),
        ];
        let read = format!("select {COLUMNS} from jobs where key = $1");
        let statements = vec![Statement::new(insert, cells), Statement::new(read, [key.as_str().into()])];
        let answers = self.together("order a job in", statements).await?;
        let is_new = answers.first().is_some_and(|rows| !rows.is_empty());
        let other = || CatalogError::OtherOrder { person: order.person.clone(), key: order.key.clone() };
        let row = answers.get(1).and_then(|rows| rows.first()).ok_or_else(other)?;
        let job = read_job(self, row)?;
        if job.act.as_ref() != Some(&order.act) { Err(other()) } else { Ok((is_new, job)) }
    }
}
