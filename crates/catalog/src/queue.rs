//! What is due comes into the queue, each instant of a rule once.
//!
//! Up to where a rule has been planned is a row of `standings`; it is written in the transaction that orders the jobs, so an agent
//! that dies in between has ordered all of them, or none, and the next one finds the same instants.
//!
//! ```text
//! clock went on     planned_to ── instants ──▶ now      the newest runs, the others were missed; planned_to := now
//! clock went back   now ◀── ordered too early ── planned_to      what did not begin is unmade; planned_to := now
//! ```
//!
//! **Invariants**
//! - An instant has one job: its key is unique, whoever plans it and however often.
//! - A clock that jumped ahead and came back loses nothing: what was ordered, or written down as missed, for instants that are yet
//!   to come is unmade, and ordered when they come. What has begun stays, and is not begun again.

use std::collections::BTreeMap;
use std::time::Duration;

use strongroom_model::Timestamp;
use strongroom_model::due::Due;

use crate::catalog::{Catalog, CatalogError};
use crate::database::{Cell, Row, Statement};
use crate::job::{Order, Standing, State, later};

/// So far ahead of this clock another agent's may be without this one taking its own for one that went back.
const SKEW: Duration = Duration::from_secs(60);

/// Rules in one transaction: a fleet's nightly backups are all due in one second.
const BATCH: usize = 500;

/// Orders a job that has no row yet; as a sequel only if the job before it, by number and token, is done.
const ORDER: &str = "\
insert into jobs (key, standing, kind, source, vault, plan, rule, seat, due_at, start_by, end_by, start_window, completion_window,
  run_at, state, ended_at)
select cast($1 as text), cast($2 as text), cast($3 as text), cast($4 as text), cast($5 as text), cast($6 as text), cast($7 as text),
  cast($8 as text), cast($9 as bigint), cast($10 as bigint), cast($11 as bigint),
  cast($10 as bigint) - cast($9 as bigint), cast($11 as bigint) - cast($10 as bigint), cast($9 as bigint), cast($12 as text), cast($13 as bigint)
where cast($14 as bigint) = 0
  or exists (select 1 from jobs o where o.id = cast($14 as bigint) and o.token = cast($15 as bigint) and o.state = 'done')
on conflict (key) do nothing
returning id";

const PLANNED_TO: &str = "\
insert into standings (standing, planned_to) values ($1, $2)
on conflict (standing) do update set planned_to = excluded.planned_to";

/// What one look at a rule's schedule came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Jobs that are to run.
    pub ordered: u64,
    /// Instants that went by.
    pub missed: u64,
}

/// A statement that orders `order`; as it stands from the beginning.
pub(crate) fn order(order: &Order, state: State, now: Timestamp, (after, token): (i64, i64)) -> Statement {
    let Order { standing, due } = order;
    let source = standing.source.as_ref().map(|source| source.as_str());
    let ended = (state != State::Queued).then_some(now);
    let cells: [Cell; 15] = [
        order.key().as_str().into(),
        standing.key().as_str().into(),
        standing.kind.word().into(),
        source.into(),
        standing.vault.as_str().into(),
        standing.plan.as_str().into(),
        standing.rule.as_str().into(),
        order.seat().as_str().into(),
        (*due).into(),
        order.start_by().into(),
        order.end_by().into(),
        state.word().into(),
        ended.into(),
        after.into(),
        token.into(),
    ];
    Statement::new(ORDER, cells)
}

impl Catalog {
    /// Up to where each rule has been planned, by [`Standing::key`].
    pub async fn planned_to(&self) -> Result<BTreeMap<String, Timestamp>, CatalogError> {
        let rows =
            self.rows("look up what is planned", "select standing, planned_to from standings", []).await?;
        let read = |row: Row| match &row.0[..] {
            [Cell::Text(standing), Cell::Number(at)] => {
                Timestamp::from_unix_micros(*at).map(|at| (standing.clone(), at))
            }
            _ => None,
        };
        // A row that does not read is as good as none: its rule is planned as one that was never seen.
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Begins to plan rules that have not been planned before: nothing up to the given times is due.
    pub async fn stand(&self, begun: &[(&Standing, Timestamp)]) -> Result<(), CatalogError> {
        let begin =
            "insert into standings (standing, planned_to) values ($1, $2) on conflict (standing) do nothing";
        let row = |(standing, from): &(&Standing, Timestamp)| {
            Statement::new(begin, [standing.key().as_str().into(), (*from).into()])
        };
        for batch in begun.chunks(BATCH) {
            self.together("begin to plan", batch.iter().map(row).collect()).await?;
        }
        Ok(())
    }

    /// Orders what rules made due up to `now`; afterwards they are planned up to there.
    pub async fn order(&self, due: &[(&Standing, Due)], now: Timestamp) -> Result<Planned, CatalogError> {
        let mut planned = Planned::default();
        for batch in due.chunks(BATCH) {
            let (mut statements, mut states) = (Vec::new(), Vec::new());
            for (standing, due) in batch {
                if due.uncounted > 0 {
                    tracing::warn!(
                        "{}: {} more instants were missed before those",
                        standing.key(),
                        due.uncounted
                    );
                }
                planned.missed += due.uncounted;
                let missed = due.missed.iter().map(|missed| (*missed, State::Missed));
                for (at, state) in missed.chain(due.run.map(|run| (run, State::Queued))) {
                    statements.push(order(&standing.order(at), state, now, (0, 0)));
                    states.push(state);
                }
            }
            statements.extend(batch.iter().map(|(standing, _)| planned_up_to(standing, now)));
            let answers = self.together("order jobs", statements).await?;
            for (state, made) in states.iter().zip(&answers) {
                match state {
                    State::Missed => planned.missed += made.len() as u64,
                    _ => planned.ordered += made.len() as u64,
                }
            }
        }
        Ok(planned)
    }

    /// Unmakes what rules ordered for instants that are yet to come and that did not begin; afterwards they are planned up to `now`.
    pub async fn take_back(&self, standings: &[&Standing], now: Timestamp) -> Result<(), CatalogError> {
        let unmake = "delete from jobs where standing = $1 and due_at > $2 and began_at is null";
        for batch in standings.chunks(BATCH) {
            let unmade = batch
                .iter()
                .map(|standing| Statement::new(unmake, [standing.key().as_str().into(), now.into()]));
            let planned = batch.iter().map(|standing| planned_up_to(standing, now));
            self.together("plan anew after the clock went back", unmade.chain(planned).collect()).await?;
        }
        Ok(())
    }

    /// Writes down what was done without the catalog's knowledge, as the vault tells it.
    pub async fn remember(&self, done: &[(Order, serde_json::Value)]) -> Result<(), CatalogError> {
        let ended =
            "update jobs set began_at = due_at, ended_at = due_at, exit_code = 0, result = $2 where key = $1";
        for batch in done.chunks(BATCH) {
            let rows = batch.iter().flat_map(|(done, result)| {
                let told = [done.key().as_str().into(), result.to_string().as_str().into()];
                [order(done, State::Done, done.due, (0, 0)), Statement::new(ended, told)]
            });
            self.together("write down what the vault tells", rows.collect()).await?;
        }
        Ok(())
    }
}

fn planned_up_to(standing: &Standing, now: Timestamp) -> Statement {
    Statement::new(PLANNED_TO, [standing.key().as_str().into(), now.into()])
}

/// Whether this clock went back behind what is planned: by more than two agents' clocks may differ.
pub fn went_back(planned_to: Timestamp, now: Timestamp) -> bool {
    planned_to > later(now, SKEW)
}
