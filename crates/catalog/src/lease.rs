//! Leases: which agent works on which job, until when, and what its work came to.
//!
//! A lease has a token, which grows with every lease of the job. An agent that was silent for too long has lost the lease: the job
//! goes to the next one under a higher token, and nothing that comes under the old one is taken any more.
//!
//! **Invariants**
//! - A source has one leased job at a time: a unique index of the database says so, not the order in which agents ask.
//! - A job that was leased ends: by its agent, or by whoever finds that the lease ran out.
//! - What an agent says of a lease it lost changes nothing, and the agent is told so.

use std::time::Duration;

use strongroom_model::Timestamp;

use crate::catalog::{Catalog, CatalogError};
use crate::database::{Cell, Statement};
use crate::history::{COLUMNS, read_job};
use crate::job::{Job, JobId, Order, State, later};
use crate::queue::{ordered, ordering};
use crate::retry::Retry;

/// How often a lease is tried when others are a moment earlier; the next look tries again.
const TRIES: u32 = 4;

/// What an agent's run of a job came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// How it ended.
    pub how: How,
    /// Its exit code, if it had one.
    pub exit_code: Option<i64>,
    /// Its result, for scripts.
    pub result: Option<serde_json::Value>,
    /// What it said on the side.
    pub said: Option<String>,
    /// What is ordered next, if it is done.
    pub sequels: Vec<Order>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was done.
    Done,
    /// It was not done, and may be if it is tried again.
    Failed,
    /// It was not done, and a person must mend something first.
    FailedForGood,
    /// It was called off.
    Cancelled,
    /// Its agent leaves: the job waits for another, and the attempt does not count.
    GivenBack,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The lease goes on.
    Held,
    /// It does, and somebody called the job off.
    CalledOff,
    /// Another has the job, or nobody.
    Lost,
}

/// What had become of leases and windows in the meantime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Jobs that nobody began in time, and those that were given up between two attempts.
    pub closed: Vec<JobId>,
    /// Jobs whose agent fell silent.
    pub silent: Vec<JobId>,
}

impl Catalog {
    /// Leases the job that has waited longest, of `seats` that have none leased; `None` if there is none. `owner` has it until
    /// `until`, unless its heart goes on beating.
    pub async fn lease(
        &self,
        owner: &str,
        seats: &[String],
        (now, until): (Timestamp, Timestamp),
    ) -> Result<Option<Job>, CatalogError> {
        let dialect = self.dialect();
        let (texts, skip_locked) = (dialect.texts_of("$4"), dialect.skip_locked());
        let sql = format!(
            "update jobs set state = 'leased', owner = $1, token = token + 1, attempt = attempt + 1, lease_until = $2,
               heartbeat_at = $3,
               end_by = case when began_at is null then $3 + completion_window else end_by end, began_at = coalesce(began_at, $3), ended_at = null, exit_code = null, result = null, said = null
             where state = 'queued' and id = (
               select j.id from jobs j
               where j.state = 'queued' and j.run_at <= $3 and j.seat in ({texts})
                 and not exists (select 1 from jobs o where o.seat = j.seat and o.state = 'leased')
               order by j.run_at, j.id limit 1 {skip_locked})
             returning {COLUMNS}"
        );
        let seats = serde_json::json!(seats).to_string();
        for _ in 0..TRIES {
            let cells = [owner.into(), until.into(), now.into(), seats.as_str().into()];
            match self.rows("lease a job in", sql.as_str(), cells).await {
                // Another agent leased a job of the same source a moment before: the next try sees that.
                Err(error) if error.is_taken() => {}
                done => return done?.first().map(|row| read_job(self, row)).transpose(),
            }
        }
        Ok(None)
    }

    /// Says that the agent is at work, until `until` at least.
    pub async fn beat(&self, job: &Job, (now, until): (Timestamp, Timestamp)) -> Result<Beat, CatalogError> {
        let sql = "update jobs set lease_until = $3, heartbeat_at = $4
             where id = $1 and token = $2 and state = 'leased' returning cancelling";
        let cells = [job.id.into(), job.token.into(), until.into(), now.into()];
        let rows = self.rows("beat in", sql, cells).await?;
        Ok(match rows.first().and_then(|row| row.0.first()) {
            None => Beat::Lost,
            Some(Cell::Number(0)) => Beat::Held,
            Some(_) => Beat::CalledOff,
        })
    }

    /// Takes what a run came to. `Lost` if the lease was lost before: nothing is taken then.
    pub async fn finish(
        &self,
        job: &Job,
        ended: &Ended,
        (now, chance, retry): (Timestamp, [u8; 1], &Retry),
    ) -> Result<Result<State, Lost>, CatalogError> {
        let again = retry.pause_after(job.attempt, chance).map(|pause| later(now, pause));
        let again = again.filter(|at| *at < job.end_by);
        let (state, run_at) = match (ended.how, again) {
            (How::Done, _) => (State::Done, now),
            (How::Cancelled, _) => (State::Cancelled, now),
            (How::GivenBack, _) => (State::Queued, now),
            (How::Failed, Some(at)) => (State::Queued, at),
            (How::Failed | How::FailedForGood, _) => (State::Failed, now),
        };
        let uncounted = i64::from(ended.how == How::GivenBack);
        // One that was called off meanwhile is not begun again.
        let finish = "update jobs
             set state = case when cancelling <> 0 and cast($3 as text) = 'queued' then 'cancelled' else cast($3 as text) end,
               run_at = $4, ended_at = $5, exit_code = $6, result = $7, said = $8, attempt = attempt - $9, owner = null, lease_until = null
             where id = $1 and token = $2 and state = 'leased' returning state";
        let result = ended.result.as_ref().map(ToString::to_string);
        let cells = [
            job.id.into(),
            job.token.into(),
            state.word().into(),
            run_at.into(),
            now.into(),
            ended.exit_code.into(),
            result.as_deref().into(),
            ended.said.as_deref().into(),
            uncounted.into(),
        ];
        let mut statements = vec![Statement::new(finish, cells)];
        if !ended.sequels.is_empty() {
            let sequels: Vec<_> =
                ended.sequels.iter().map(|next| ordered(next, State::Queued, now)).collect();
            statements.push(ordering(self.dialect(), &sequels, (job.id, job.token)));
        }
        let answers = self.together("finish a job in", statements).await?;
        match answers.first().and_then(|rows| rows.first()).and_then(|row| row.0.first()) {
            None => Ok(Err(Lost)),
            Some(Cell::Text(word)) => match word.parse() {
                Ok(state) => Ok(Ok(state)),
                Err(word) => Err(self.unknown(job.id, "state", &word)),
            },
            Some(other) => Err(self.unreadable(job.id, "state", other)),
        }
    }

    /// Closes what has run out: start windows, completion windows and leases. A lease is taken for `lease` long; one that ends much
    /// later than that is of a clock that went back since, or of another agent's, and is cut to that length.
    pub async fn tend(
        &self,
        now: Timestamp,
        (lease, retry): (Duration, &Retry),
    ) -> Result<Tended, CatalogError> {
        let expired = "update jobs set state = 'expired', ended_at = $1, said = 'no agent began it within its start window'
             where state = 'queued' and began_at is null and start_by < $1 returning id";
        let given_up = "update jobs set state = 'failed', ended_at = $1
             where state = 'queued' and began_at is not null and end_by < $1 returning id";
        let silent = "update jobs
             set state = case when cancelling <> 0 then 'cancelled' when attempt >= $2 or end_by <= $1 then 'failed' else 'queued' end,
               run_at = $1, ended_at = $1, owner = null, lease_until = null, said = 'agent ' || owner || ' fell silent'
             where state = 'leased' and lease_until < $1 returning id";
        let cut = "update jobs set lease_until = $2 where state = 'leased' and lease_until > $1 returning id";
        let until = later(now, lease);
        let statements = vec![
            Statement::new(expired, [now.into()]),
            Statement::new(given_up, [now.into()]),
            Statement::new(silent, [now.into(), retry.attempts.into()]),
            Statement::new(cut, [later(until, lease).into(), until.into()]),
        ];
        let mut answers = self.together("tend the queue in", statements).await?.into_iter();
        let mut ids = || -> Vec<JobId> {
            let rows = answers.next().unwrap_or_default();
            let id = |row: &crate::database::Row| match row.0.first() {
                Some(Cell::Number(id)) => Some(*id),
                _ => None,
            };
            rows.iter().filter_map(id).collect()
        };
        let mut closed = ids();
        closed.extend(ids());
        Ok(Tended { closed, silent: ids() })
    }
}

/// The lease was lost before: another agent has the job, or had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;
