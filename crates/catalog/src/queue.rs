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

use serde_json::{Value, json};
use strongroom_model::Timestamp;
use strongroom_model::due::Due;

use crate::catalog::{Catalog, CatalogError};
use crate::database::{Cell, Dialect, Row, Statement};
use crate::job::{Order, Standing, State, later};

/// So far ahead of this clock another agent's may be without this one taking its own for one that went back.
const SKEW: Duration = Duration::from_secs(60);

/// Rules in one transaction: a fleet's nightly backups are all due in one second.
const BATCH: usize = 500;

/// What one look at a rule's schedule came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Jobs that are to run.
    pub ordered: u64,
    /// Instants that went by.
    pub missed: u64,
}

/// One job as it is ordered, for [`ordering`].
pub(crate) fn ordered(order: &Order, state: State, now: Timestamp) -> Value {
    let Order { standing, due } = order;
    let micros = |time: Timestamp| time.0.as_microsecond();
    json!({
        "key": order.key(),
        "standing": standing.key(),
        "kind": standing.kind.word(),
        "source": standing.source,
        "vault": standing.vault,
        "plan": standing.plan,
        "rule": standing.rule,
        "seat": order.seat(),
        "due_at": micros(*due),
        "start_by": micros(order.start_by()),
        "end_by": micros(order.end_by()),
        "start_window": micros(order.start_by()) - micros(*due),
        "completion_window": micros(order.end_by()) - micros(order.start_by()),
        "state": state.word(),
        "ended_at": (state != State::Queued).then_some(micros(now)),
    })
}

/// Orders the jobs that have no row yet, and gives their states; as sequels only if the job before them, by number and token, is
/// done.
pub(crate) fn ordering(dialect: Dialect, jobs: &[Value], (after, token): (i64, i64)) -> Statement {
    let objects = dialect.objects_of("$1");
    let numbers = ["due_at", "start_by", "end_by", "start_window", "completion_window", "due_at", "ended_at"];
    let numbers = numbers.map(|name| format!("cast(value ->> '{name}' as bigint)")).join(", ");
    let texts = ["key", "standing", "kind", "source", "vault", "plan", "rule", "seat", "state"];
    let texts = texts.map(|name| format!("value ->> '{name}'")).join(", ");
    let sql = format!(
        "insert into jobs (key, standing, kind, source, vault, plan, rule, seat, state,
           due_at, start_by, end_by, start_window, completion_window, run_at, ended_at)
         select {texts}, {numbers} from {objects}
         where cast($2 as bigint) = 0
           or exists (select 1 from jobs o where o.id = cast($2 as bigint) and o.token = cast($3 as bigint) and o.state = 'done')
         on conflict (key) do nothing
         returning state"
    );
    Statement::new(sql, [json!(jobs).to_string().as_str().into(), after.into(), token.into()])
}

/// Plans rules up to the given times; `anew` says what becomes of those that are planned up to another.
fn planned(dialect: Dialect, standings: &[(&Standing, Timestamp)], anew: &str) -> Statement {
    let row = |(standing, to): &(&Standing, Timestamp)| json!({ "standing": standing.key(), "to": to.0.as_microsecond() });
    let rows = Value::from(standings.iter().map(row).collect::<Vec<_>>());
    let objects = dialect.objects_of("$1");
    let sql = format!(
        "insert into standings (standing, planned_to)
         select value ->> 'standing', cast(value ->> 'to' as bigint) from {objects} where true
         on conflict (standing) do {anew}"
    );
    Statement::new(sql, [rows.to_string().as_str().into()])
}

/// They go on from there.
const MOVE: &str = "update set planned_to = excluded.planned_to";

/// Another agent was a moment earlier.
const LEAVE: &str = "nothing";

impl Catalog {
    /// Up to where each rule has been planned, by [`Standing::key`].
    pub async fn planned_to(&self) -> Result<BTreeMap<String, Timestamp>, CatalogError> {
        let rows =
            self.rows("look up what is planned in", "select standing, planned_to from standings", []).await?;
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
        for batch in begun.chunks(BATCH) {
            self.together("begin to plan in", vec![planned(self.dialect(), batch, LEAVE)]).await?;
        }
        Ok(())
    }

    /// Orders what rules made due up to `now`; afterwards they are planned up to there.
    pub async fn order(&self, due: &[(&Standing, Due)], now: Timestamp) -> Result<Planned, CatalogError> {
        let mut total = Planned::default();
        for batch in due.chunks(BATCH) {
            let mut jobs = Vec::new();
            for (standing, due) in batch {
                let missed = due.missed.iter().map(|missed| (*missed, State::Missed));
                let all = missed.chain(due.run.map(|run| (run, State::Queued)));
                jobs.extend(all.map(|(at, state)| ordered(&standing.order(at), state, now)));
                total.missed += due.uncounted;
            }
            let to: Vec<_> = batch.iter().map(|(standing, _)| (*standing, now)).collect();
            let statements =
                vec![ordering(self.dialect(), &jobs, (0, 0)), planned(self.dialect(), &to, MOVE)];
            let answers = self.together("order jobs in", statements).await?;
            for row in answers.iter().flatten() {
                match row.0.first() {
                    Some(Cell::Text(state)) if state == State::Missed.word() => total.missed += 1,
                    _ => total.ordered += 1,
                }
            }
        }
        Ok(total)
    }

    /// Unmakes what rules ordered for instants that are yet to come and that did not begin; afterwards they are planned up to `now`.
    pub async fn take_back(&self, standings: &[&Standing], now: Timestamp) -> Result<(), CatalogError> {
        let sql = format!(
            "delete from jobs where standing in ({}) and due_at > $2 and began_at is null",
            self.dialect().texts_of("$1")
        );
        for batch in standings.chunks(BATCH) {
            let keys: Vec<String> = batch.iter().map(|standing| standing.key()).collect();
            let to: Vec<_> = batch.iter().map(|standing| (*standing, now)).collect();
            let unmake = Statement::new(sql.as_str(), [json!(keys).to_string().as_str().into(), now.into()]);
            let statements = vec![unmake, planned(self.dialect(), &to, MOVE)];
            self.together("plan anew after the clock went back in", statements).await?;
        }
        Ok(())
    }

    /// Writes down what was done without the catalog's knowledge, as the vault tells it.
    pub async fn remember(&self, done: &[(Order, Value)]) -> Result<(), CatalogError> {
        let ended =
            "update jobs set began_at = due_at, ended_at = due_at, exit_code = 0, result = $2 where key = $1";
        for batch in done.chunks(BATCH) {
            let jobs: Vec<Value> =
                batch.iter().map(|(done, _)| ordered(done, State::Done, done.due)).collect();
            let told = batch.iter().map(|(done, result)| {
                let cells = [done.key().as_str().into(), result.to_string().as_str().into()];
                Statement::new(ended, cells)
            });
            let statements = std::iter::once(ordering(self.dialect(), &jobs, (0, 0))).chain(told).collect();
            self.together("write down what the vault tells in", statements).await?;
        }
        Ok(())
    }
}

/// Whether this clock went back behind what is planned: by more than two agents' clocks may differ.
pub fn went_back(planned_to: Timestamp, now: Timestamp) -> bool {
    planned_to > later(now, SKEW)
}
