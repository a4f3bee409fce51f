//! What was and what is: jobs listed and shown, called off and taken up again, and the agents that were heard of.

use std::time::Duration;

use serde::Serialize;
use strongroom_model::{SourceName, Timestamp};

use crate::catalog::{Catalog, CatalogError};
use crate::database::{Cell, Row, Statement};
use crate::job::{Job, JobId, State};

/// How long jobs that ended are remembered: a year's report, and some.
const REMEMBERED: Duration = Duration::from_secs(400 * 24 * 3600);

/// How long agents that were killed are.
const AGENTS_REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

/// What [`read_job`] reads, in its order.
pub(crate) const COLUMNS: &str = "id, kind, source, vault, plan, rule, due_at, start_by, end_by, state, attempt, run_at, owner, token, \
lease_until, heartbeat_at, began_at, ended_at, cancelling, exit_code, result, said, person, act";

/// Which jobs are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this source.
    pub source: Option<SourceName>,
    /// Only those that stand so.
    pub state: Option<State>,
    /// Only those behind this one: what was due then, and its number.
    pub before: Option<(Timestamp, JobId)>,
    /// So many, the newest.
    pub most: i64,
}

/// An agent that was heard of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// Its name: the host's, and what tells it from others there.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its build.
    pub build: String,
    /// When it began.
    pub began: Timestamp,
    /// When it was last heard of.
    pub seen: Timestamp,
}

impl Catalog {
    /// The newest jobs that fit, newest first.
    pub async fn jobs(&self, filter: &Filter) -> Result<Vec<Job>, CatalogError> {
        let sql = format!(
            "select {COLUMNS} from jobs
             where (cast($1 as text) is null or source = cast($1 as text)) and (cast($2 as text) is null or state = cast($2 as text))
               and (cast($4 as bigint) is null or due_at < cast($4 as bigint) or (due_at = cast($4 as bigint) and id < cast($5 as bigint)))
             order by due_at desc, id desc limit cast($3 as bigint)"
        );
        let (before, behind) = filter.before.unzip();
        let source = filter.source.as_ref().map(SourceName::as_str);
        let cells = [
            source.into(),
            filter.state.map(State::word).into(),
            filter.most.into(),
            before.into(),
            behind.into(),
        ];
        self.rows("list jobs in", sql, cells).await?.iter().map(|row| read_job(self, row)).collect()
    }

    /// Every job that was due after `since` and not after `until`, oldest first.
    pub async fn jobs_due(&self, since: Timestamp, until: Timestamp) -> Result<Vec<Job>, CatalogError> {
        let sql =
            format!("select {COLUMNS} from jobs where due_at > $1 and due_at <= $2 order by due_at, id");
        let rows = self.rows("list jobs in", sql, [since.into(), until.into()]).await?;
        rows.iter().map(|row| read_job(self, row)).collect()
    }

    /// One job.
    pub async fn job(&self, id: JobId) -> Result<Job, CatalogError> {
        let rows = self
            .rows("show a job in", format!("select {COLUMNS} from jobs where id = $1"), [id.into()])
            .await?;
        let missing = || CatalogError::NoSuchJob { place: self.place().to_owned(), id };
        read_job(self, rows.first().ok_or_else(missing)?)
    }

    /// Calls a job off: one that waits is cancelled, one that an agent works on is stopped by that agent at its next heartbeat.
    pub async fn cancel(&self, id: JobId, now: Timestamp) -> Result<Job, CatalogError> {
        let waiting = "update jobs set state = 'cancelled', ended_at = $2 where id = $1 and state = 'queued' returning id";
        let working = "update jobs set cancelling = 1 where id = $1 and state = 'leased' returning id";
        let statements =
            vec![Statement::new(waiting, [id.into(), now.into()]), Statement::new(working, [id.into()])];
        let changed = self.together("cancel a job in", statements).await?.iter().any(|rows| !rows.is_empty());
        let job = self.job(id).await?;
        if changed { Ok(job) } else { Err(CatalogError::NotNow { id, state: job.state }) }
    }

    /// Queues a job that ended without being done anew: its windows begin now, and its attempts are counted afresh.
    pub async fn take_up_again(&self, id: JobId, now: Timestamp) -> Result<Job, CatalogError> {
        let sql = format!(
            "update jobs set state = 'queued', run_at = $2, start_by = $2 + start_window, end_by = $2 + start_window + completion_window,
               attempt = 0, began_at = null, ended_at = null, cancelling = 0, exit_code = null, result = null, said = null
             where id = $1 and state in ('failed', 'cancelled', 'missed', 'expired') returning {COLUMNS}"
        );
        let rows = self.rows("take a job up again in", sql, [id.into(), now.into()]).await?;
        match rows.first() {
            Some(row) => read_job(self, row),
            None => Err(CatalogError::NotNow { id, state: self.job(id).await?.state }),
        }
    }

    /// Says that this agent is there, and forgets what ended long ago.
    pub async fn present(&self, agent: &Agent) -> Result<(), CatalogError> {
        let here = "insert into agents (name, host, build, began_at, seen_at) values ($1, $2, $3, $4, $5)
             on conflict (name) do update set seen_at = excluded.seen_at";
        let cells = [
            agent.name.as_str().into(),
            agent.host.as_str().into(),
            agent.build.as_str().into(),
            agent.began.into(),
            agent.seen.into(),
        ];
        let mut statements = vec![Statement::new(here, cells)];
        if let Some(before) = agent.seen.earlier(REMEMBERED) {
            let of_jobs =
                "delete from jobs where due_at < $1 and ended_at < $1 and state not in ('queued', 'leased')";
            statements.push(Statement::new(of_jobs, [before.into()]));
        }
        if let Some(before) = agent.seen.earlier(AGENTS_REMEMBERED) {
            statements.push(Statement::new("delete from agents where seen_at < $1", [before.into()]));
        }
        self.together("say that this agent is there in", statements).await.map(drop)
    }

    /// An agent leaves, in an orderly manner.
    pub async fn absent(&self, name: &str) -> Result<(), CatalogError> {
        self.rows("say that this agent leaves in", "delete from agents where name = $1", [name.into()])
            .await
            .map(drop)
    }

    /// The agents that were heard of and did not say that they leave, by name.
    pub async fn agents(&self) -> Result<Vec<Agent>, CatalogError> {
        let sql = "select name, host, build, began_at, seen_at from agents order by name";
        let rows = self.rows("list agents in", sql, []).await?;
        rows.iter().map(|row| read_agent(self, row)).collect()
    }
}

fn read_agent(catalog: &Catalog, row: &Row) -> Result<Agent, CatalogError> {
    let mut reader = Reader::of(catalog, row);
    Ok(Agent {
        name: reader.text("name")?,
        host: reader.text("host")?,
        build: reader.text("build")?,
        began: reader.time("began_at")?,
        seen: reader.time("seen_at")?,
    })
}

/// Reads the columns of [`COLUMNS`].
pub(crate) fn read_job(catalog: &Catalog, row: &Row) -> Result<Job, CatalogError> {
    let mut reader = Reader::of(catalog, row);
    reader.id = reader.number("id")?;
    Ok(Job {
        id: reader.id,
        kind: reader.word("kind")?,
        source: reader.some_text("source")?.map(|name| reader.source(name)).transpose()?,
        vault: reader.text("vault")?,
        plan: reader.text("plan")?,
        rule: reader.text("rule")?,
        due: reader.time("due_at")?,
        start_by: reader.time("start_by")?,
        end_by: reader.time("end_by")?,
        state: reader.word("state")?,
        attempt: reader.number("attempt")?,
        run_at: reader.time("run_at")?,
        owner: reader.some_text("owner")?,
        token: reader.number("token")?,
        lease_until: reader.some_time("lease_until")?,
        heartbeat: reader.some_time("heartbeat_at")?,
        began: reader.some_time("began_at")?,
        ended: reader.some_time("ended_at")?,
        cancelling: reader.number("cancelling")? != 0,
        exit_code: reader.some_number("exit_code")?,
        // What is no JSON is shown as the text it is.
        result: reader
            .some_text("result")?
            .map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))),
        said: reader.some_text("said")?,
        person: reader.some_text("person")?,
        act: reader
            .some_text("act")?
            .map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))),
    })
}

/// Reads a row from left to right.
pub(crate) struct Reader<'a> {
    catalog: &'a Catalog,
    row: &'a Row,
    at: usize,
    id: JobId,
}

impl<'a> Reader<'a> {
    /// At its first column.
    pub(crate) fn of(catalog: &'a Catalog, row: &'a Row) -> Reader<'a> {
        Reader { catalog, row, at: 0, id: 0 }
    }

    fn cell(&mut self) -> &Cell {
        self.at += 1;
        self.row.0.get(self.at - 1).unwrap_or(&Cell::Null)
    }

    pub(crate) fn some_number(&mut self, column: &'static str) -> Result<Option<i64>, CatalogError> {
        match self.cell().clone() {
            Cell::Null => Ok(None),
            Cell::Number(number) => Ok(Some(number)),
            other => Err(self.catalog.unreadable(self.id, column, &other)),
        }
    }

    pub(crate) fn number(&mut self, column: &'static str) -> Result<i64, CatalogError> {
        self.some_number(column)?.ok_or_else(|| self.catalog.unreadable(self.id, column, &Cell::Null))
    }

    pub(crate) fn some_text(&mut self, column: &'static str) -> Result<Option<String>, CatalogError> {
        match self.cell().clone() {
            Cell::Null => Ok(None),
            Cell::Text(text) => Ok(Some(text)),
            other => Err(self.catalog.unreadable(self.id, column, &other)),
        }
    }

    pub(crate) fn text(&mut self, column: &'static str) -> Result<String, CatalogError> {
        self.some_text(column)?.ok_or_else(|| self.catalog.unreadable(self.id, column, &Cell::Null))
    }

    pub(crate) fn some_time(&mut self, column: &'static str) -> Result<Option<Timestamp>, CatalogError> {
        let Some(number) = self.some_number(column)? else { return Ok(None) };
        let time = Timestamp::from_unix_micros(number);
        time.map(Some).ok_or_else(|| self.catalog.unreadable(self.id, column, &Cell::Number(number)))
    }

    pub(crate) fn time(&mut self, column: &'static str) -> Result<Timestamp, CatalogError> {
        self.some_time(column)?.ok_or_else(|| self.catalog.unreadable(self.id, column, &Cell::Null))
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        column: &'static str,
    ) -> Result<T, CatalogError> {
        let text = self.text(column)?;
        serde_json::from_str(&text)
            .map_err(|_| self.catalog.unreadable(self.id, column, &Cell::Text(text.clone())))
    }

    pub(crate) fn word<T>(&mut self, column: &'static str) -> Result<T, CatalogError>
    where
        T: std::str::FromStr<Err = strongroom_model::word::UnknownWord>,
    {
        self.text(column)?.parse().map_err(|word| self.catalog.unknown(self.id, column, &word))
    }

    pub(crate) fn source(&self, name: String) -> Result<SourceName, CatalogError> {
        let unreadable = |_| self.catalog.unreadable(self.id, "source", &Cell::Text(name.clone()));
        name.parse().map_err(unreadable)
    }
}
