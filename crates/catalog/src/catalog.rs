//! A catalog, open: its place, its tables and their version.
//!
//! **Invariants**
//! - A catalog that a newer build made is left alone.
//! - Two agents that open a new catalog at once make its tables once: a version's row is its lock.

use std::path::PathBuf;

use strongroom_postgres::conninfo::Conninfo;

use crate::database::{Cell, Database, DatabaseError, Dialect, Row, Statement};
use crate::server::Server;
use crate::sqlite::File;
use strongroom_model::word::UnknownWord;

/// Each version's statements, from nothing on. What a catalog went through is never changed here: the next version is added.
const VERSIONS: [&[&str]; 3] = [FIRST, crate::alert_tables::TABLES, crate::hand_tables::TABLES];

const FIRST: &[&str] = &[
    "create table jobs (
        id {numbered},
        key text not null unique,
        standing text not null,
        kind text not null,
        source text,
        vault text not null,
        plan text not null,
        rule text not null,
        seat text not null,
        due_at bigint not null,
        start_by bigint not null,
        end_by bigint not null,
        start_window bigint not null,
        completion_window bigint not null,
        state text not null,
        attempt bigint not null default 0,
        run_at bigint not null,
        owner text,
        token bigint not null default 0,
        lease_until bigint,
        heartbeat_at bigint,
        began_at bigint,
        ended_at bigint,
        cancelling bigint not null default 0,
        exit_code bigint,
        result text,
        said text)",
    // The database itself sees to it that a source has one job at a time.
    "create unique index jobs_leased on jobs (seat) where state = 'leased'",
    "create index jobs_queued on jobs (run_at, id) where state = 'queued'",
    "create index jobs_due on jobs (due_at, id)",
    "create index jobs_standing on jobs (standing, due_at)",
    "create table standings (standing text primary key, planned_to bigint not null)",
    "create table agents (
        name text primary key,
        host text not null,
        build text not null,
        began_at bigint not null,
        seen_at bigint not null)",
];

/// Where a catalog is.
pub enum Place {
    /// In a file, whose folder is there.
    File(PathBuf),
    /// On a server.
    Server(Box<Conninfo>),
}

/// Why the catalog did not do it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database would not.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A newer build made it.
    #[error("the catalog {place} is of version {found}, and this build knows up to {known}")]
    Newer {
        /// Which catalog.
        place: String,
        /// Its version.
        found: i64,
        /// The last one that this build knows.
        known: i64,
    },
    /// A row holds what no build wrote.
    #[error("row {row} of the catalog {place} does not read: {column} is {found}")]
    Unreadable {
        /// Which catalog.
        place: String,
        /// The job's number.
        row: i64,
        /// Where.
        column: &'static str,
        /// What is there.
        found: String,
    },
    /// There is no such job.
    #[error("the catalog {place} has no job {id}")]
    NoSuchJob {
        /// Which catalog.
        place: String,
        /// Its number.
        id: i64,
    },
    /// There is no such request.
    #[error("the catalog {place} has no request {id}")]
    NoSuchRequest {
        /// Which catalog.
        place: String,
        /// Its number.
        id: i64,
    },
    /// The request was decided before, or has lapsed.
    #[error("request {id} is {state}")]
    Decided {
        /// Its number.
        id: i64,
        /// Where it stands.
        state: crate::job::RequestState,
    },
    /// Who asked for something does not agree to it as well.
    #[error("request {id} is {person}'s own: somebody else must agree to it")]
    OwnRequest {
        /// Its number.
        id: i64,
        /// Who asked.
        person: String,
    },
    /// A key that stands for something else already.
    #[error("{person} ordered something else under the key '{key}' before")]
    OtherOrder {
        /// Who ordered.
        person: String,
        /// The key.
        key: String,
    },
    /// The job is not in a state in which that can be done.
    #[error("job {id} is {state}")]
    NotNow {
        /// Its number.
        id: i64,
        /// Where it stands.
        state: crate::job::State,
    },
}

impl CatalogError {
    /// Whether it may be over by itself.
    pub fn is_passing(&self) -> bool {
        matches!(self, CatalogError::Database(error) if error.is_passing())
    }

    /// Whether somebody else was a moment earlier.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, CatalogError::Database(DatabaseError::Taken { .. }))
    }
}

/// The history and the queue of jobs.
pub struct Catalog {
    database: Box<dyn Database>,
}

impl Catalog {
    /// Opens the catalog at `place`, and makes its tables if there are none.
    pub async fn open(place: Place) -> Result<Catalog, CatalogError> {
        let database: Box<dyn Database> = match place {
            Place::File(path) => Box::new(File::open(&path).await?),
            Place::Server(conninfo) => Box::new(Server::new(*conninfo)),
        };
        let catalog = Catalog { database };
        catalog.bring_up_to_date().await?;
        Ok(catalog)
    }

    /// Where it is, for people.
    pub fn place(&self) -> &str {
        self.database.place()
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.database.dialect()
    }

    pub(crate) async fn together(
        &self,
        operation: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Row>>, CatalogError> {
        Ok(self.database.together(operation, statements).await?)
    }

    /// One statement; its rows.
    pub(crate) async fn rows(
        &self,
        operation: &'static str,
        sql: impl Into<String>,
        cells: impl IntoIterator<Item = Cell>,
    ) -> Result<Vec<Row>, CatalogError> {
        let answers = self.together(operation, vec![Statement::new(sql, cells)]).await?;
        Ok(answers.into_iter().flatten().collect())
    }

    pub(crate) fn unreadable(&self, row: i64, column: &'static str, found: &Cell) -> CatalogError {
        let found = format!("{found:?}");
        CatalogError::Unreadable { place: self.place().to_owned(), row, column, found }
    }

    pub(crate) fn unknown(&self, row: i64, column: &'static str, word: &UnknownWord) -> CatalogError {
        let found = word.to_string();
        CatalogError::Unreadable { place: self.place().to_owned(), row, column, found }
    }

    async fn bring_up_to_date(&self) -> Result<(), CatalogError> {
        self.make_version_table().await?;
        let known = VERSIONS.len() as i64;
        loop {
            let found = self.version().await?;
            if found > known {
                return Err(CatalogError::Newer { place: self.place().to_owned(), found, known });
            }
            let Some(next) = usize::try_from(found).ok().and_then(|found| VERSIONS.get(found)) else {
                return Ok(());
            };
            let claim =
                Statement::new("insert into versions (version) values ($1)", [Cell::Number(found + 1)]);
            let numbered = self.dialect().numbered();
            let steps = next.iter().map(|sql| Statement::new(sql.replace("{numbered}", numbered), []));
            match self.together("make tables in", std::iter::once(claim).chain(steps).collect()).await {
                // Another agent is making them, or has: the next look tells.
                Err(error) if error.is_taken() => {}
                done => drop(done?),
            }
        }
    }

    async fn make_version_table(&self) -> Result<(), CatalogError> {
        let schema = match self.dialect() {
            Dialect::Sqlite => None,
            Dialect::Postgres => Some(Statement::new("create schema if not exists strongroom", [])),
        };
        let table = Statement::new("create table if not exists versions (version bigint primary key)", []);
        loop {
            let schema = schema.as_ref().map(|schema| Statement::new(schema.sql.clone(), []));
            let table = Statement::new(table.sql.clone(), []);
            match self.together("make tables in", schema.into_iter().chain([table]).collect()).await {
                // PostgreSQL's "if not exists" looks before it makes: another agent came between.
                Err(error) if error.is_taken() => {}
                done => return done.map(drop),
            }
        }
    }

    async fn version(&self) -> Result<i64, CatalogError> {
        let rows = self
            .rows("look for the version of", "select coalesce(max(version), 0) from versions", [])
            .await?;
        match rows.first().and_then(|row| row.0.first()) {
            Some(Cell::Number(version)) => Ok(*version),
            found => Err(self.unreadable(0, "version", found.unwrap_or(&Cell::Null))),
        }
    }
}
