//! What a person wants and a second one must agree to.
//!
//! ```text
//! asked ▶ waiting ─┬▶ approved (by another person) ▶ a job
//!                  ├▶ declined (by anybody who may, or by who asked)
//!                  └▶ lapsed   (nobody did either in time)
//! ```
//!
//! **Invariants**
//! - A request is decided once; what is approved becomes one job, in the same transaction.
//! - Nobody approves what they asked for themselves. The database is asked for that, not the caller.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use strongroom_model::{SourceName, Timestamp};

use crate::by_hand::{BY_HAND, HandOrder, windows};
use crate::catalog::{Catalog, CatalogError};
use crate::database::{Row, Statement};
use crate::history::{COLUMNS, Reader, read_job};
use crate::job::{Job, JobId, Kind, RequestState, later};

/// A request waits so long.
pub const LAPSES_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Decided requests are remembered as long as jobs are.
const REMEMBERED: Duration = Duration::from_secs(400 * 24 * 3600);

/// What [`read_request`] reads, in its order.
const REQUEST: &str =
    "id, kind, source, act, person, asked_at, lapses_at, state, decided_by, decided_at, job";

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Request {
    /// Its number.
    pub id: i64,
    /// The verb.
    pub kind: Kind,
    /// Of which source.
    pub source: Option<SourceName>,
    /// Exactly what.
    pub act: Value,
    /// Who wants it.
    pub person: String,
    /// When they said so.
    pub asked: Timestamp,
    /// When it lapses.
    pub lapses: Timestamp,
    /// Where it stands.
    pub state: RequestState,
    /// Who decided.
    pub decided_by: Option<String>,
    /// When.
    pub decided: Option<Timestamp>,
    /// The job that it became.
    pub job: Option<JobId>,
}

impl Catalog {
    /// Asks for it; whether this was the first time, and the request.
    pub async fn ask(&self, order: &HandOrder, now: Timestamp) -> Result<(bool, Request), CatalogError> {
        let key = format!("{}/{}", order.person, order.key);
        let insert = "insert into requests (key, kind, source, seat, act, person, asked_at, lapses_at, state)
             values ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting') on conflict (key) do nothing returning id";
        let cells = [
            key.as_str().into(),
            order.kind.word().into(),
            order.source.as_str().into(),
            order.seat.as_str().into(),
            order.act.to_string().as_str().into(),
            order.person.as_str().into(),
            now.into(),
            later(now, LAPSES_AFTER).into(),
        ];
        let read = format!("select {REQUEST} from requests where key = $1");
        let mut statements = vec![Statement::new(insert, cells), Statement::new(read, [key.as_str().into()])];
        if let Some(before) = now.earlier(REMEMBERED) {
            statements.push(Statement::new("delete from requests where lapses_at < $1", [before.into()]));
        }
        let answers = self.together("ask in", statements).await?;
        let is_new = answers.first().is_some_and(|rows| !rows.is_empty());
        let other = || CatalogError::OtherOrder { person: order.person.clone(), key: order.key.clone() };
        let row = answers.get(1).and_then(|rows| rows.first()).ok_or_else(other)?;
        let request = read_request(self, row, now)?;
        if request.act != order.act { Err(other()) } else { Ok((is_new, request)) }
    }

    /// The newest requests, newest first: so many.
    pub async fn requests(&self, most: i64, now: Timestamp) -> Result<Vec<Request>, CatalogError> {
        let sql = format!("select {REQUEST} from requests order by id desc limit $1");
        let rows = self.rows("list requests in", sql, [most.into()]).await?;
        rows.iter().map(|row| read_request(self, row, now)).collect()
    }

    /// One request.
    pub async fn request(&self, id: i64, now: Timestamp) -> Result<Request, CatalogError> {
        let sql = format!("select {REQUEST} from requests where id = $1");
        let rows = self.rows("show a request in", sql, [id.into()]).await?;
        let missing = || CatalogError::NoSuchRequest { place: self.place().to_owned(), id };
        read_request(self, rows.first().ok_or_else(missing)?, now)
    }

    /// A second person says yes: the job that it becomes.
    pub async fn approve(&self, id: i64, person: &str, now: Timestamp) -> Result<Job, CatalogError> {
        let request = self.request(id, now).await?;
        let (start_window, completion_window) = windows(request.kind);
        let start_by = later(now, start_window);
        let micros = |window: Duration| i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let decide = "update requests set state = 'approved', decided_by = $2, decided_at = $3
             where id = $1 and state = 'waiting' and lapses_at > $3 and person <> $2 returning id";
        let key = format!("{BY_HAND}/request/{id}");
        // Only who decided just now orders: a second decision finds the job's key, or no row.
        let order = format!(
            "insert into jobs (key, standing, kind, source, vault, plan, rule, seat, state,
               due_at, start_by, end_by, start_window, completion_window, run_at, person, act)
             select $2, $3, kind, source, '', '', $3, seat, 'queued',
               cast($4 as bigint), cast($5 as bigint), cast($6 as bigint), cast($7 as bigint), cast($8 as bigint), cast($4 as bigint),
               person || ', with ' || decided_by, act
             from requests where id = $1 and state = 'approved' and decided_by = $9 and decided_at = $4 and job is null
             on conflict (key) do nothing returning {COLUMNS}"
        );
        let ordered = [
            id.into(),
            key.as_str().into(),
            BY_HAND.into(),
            now.into(),
            start_by.into(),
            later(start_by, completion_window).into(),
            micros(start_window).into(),
            micros(completion_window).into(),
            person.into(),
        ];
        let note = "update requests set job = (select id from jobs where key = $2) where id = $1 and job is null and state = 'approved'";
        let statements = vec![
            Statement::new(decide, [id.into(), person.into(), now.into()]),
            Statement::new(order, ordered),
            Statement::new(note, [id.into(), key.as_str().into()]),
        ];
        let answers = self.together("approve a request in", statements).await?;
        match answers.get(1).and_then(|rows| rows.first()) {
            Some(row) => read_job(self, row),
            None => Err(self.why_not(id, person, now).await?),
        }
    }

    /// Somebody says no, or takes back what they asked for.
    pub async fn decline(&self, id: i64, person: &str, now: Timestamp) -> Result<Request, CatalogError> {
        let sql = "update requests set state = 'declined', decided_by = $2, decided_at = $3
             where id = $1 and state = 'waiting' and lapses_at > $3 returning id";
        let rows = self.rows("decline a request in", sql, [id.into(), person.into(), now.into()]).await?;
        let request = self.request(id, now).await?;
        match rows.is_empty() {
            false => Ok(request),
            true => Err(CatalogError::Decided { id, state: request.state }),
        }
    }

    async fn why_not(&self, id: i64, person: &str, now: Timestamp) -> Result<CatalogError, CatalogError> {
        let request = self.request(id, now).await?;
        Ok(match request.state {
            RequestState::Waiting if request.person == person => {
                CatalogError::OwnRequest { id, person: request.person }
            }
            state => CatalogError::Decided { id, state },
        })
    }
}

fn read_request(catalog: &Catalog, row: &Row, now: Timestamp) -> Result<Request, CatalogError> {
    let mut reader = Reader::of(catalog, row);
    let request = Request {
        id: reader.number("id")?,
        kind: reader.word("kind")?,
        source: reader.some_text("source")?.map(|name| reader.source(name)).transpose()?,
        act: reader.json("act")?,
        person: reader.text("person")?,
        asked: reader.time("asked_at")?,
        lapses: reader.time("lapses_at")?,
        state: reader.word("state")?,
        decided_by: reader.some_text("decided_by")?,
        decided: reader.some_time("decided_at")?,
        job: reader.some_number("job")?,
    };
    let has_lapsed = request.state == RequestState::Waiting && request.lapses <= now;
    Ok(if has_lapsed { Request { state: RequestState::Lapsed, ..request } } else { request })
}
