//! The catalog in PostgreSQL: for a fleet of agents.
//!
//! **Invariant**: a connection is out of its place while a transaction is open on it. Who is cut short in the middle drops it, the
//! server undoes what was begun, and the next one connects anew.

use async_trait::async_trait;
use strongroom_postgres::connect::{Client, connect};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::refusal::SqlError;
use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;

use crate::database::{Cell, Database, DatabaseError, Dialect, Row, Statement};

/// The tables are in a schema of their own; functions are still PostgreSQL's, whose schema comes first unless it is named.
const PATH: &str = "set search_path = strongroom, pg_temp";

/// What is asked of the server, in its own errors: what it was for is told around them.
const ASKING: &str = "ask";

/// `unique_violation`
const TAKEN: &str = "23505";

/// `deadlock_detected`, `serialization_failure`, `lock_not_available`, `query_canceled`: whose statement is tried again does better.
const PASSING: [&str; 4] = ["40P01", "40001", "55P03", "57014"];

/// A database on a server.
pub struct Server {
    conninfo: Conninfo,
    place: String,
    client: Mutex<Option<Client>>,
}

impl Server {
    /// That database. It is connected to when something is asked of it.
    pub fn new(conninfo: Conninfo) -> Server {
        let host = conninfo.hosts.first().map(ToString::to_string).unwrap_or_default();
        let place = format!("{} at {host}", conninfo.database);
        Server { conninfo, place, client: Mutex::new(None) }
    }

    async fn connected(&self, operation: &'static str) -> Result<Client, DatabaseError> {
        let client = connect(&self.conninfo).await.map_err(|error| DatabaseError::Passing {
            operation,
            place: self.place.clone(),
            source: error.into(),
        })?;
        client.run(ASKING, PATH).await.map_err(|error| self.failure(operation, error))?;
        Ok(client)
    }

    fn failure(&self, operation: &'static str, error: SqlError) -> DatabaseError {
        let place = self.place.clone();
        match &error {
            SqlError::Refused { code, .. } if code == TAKEN => DatabaseError::Taken { operation, place },
            SqlError::Refused { code, .. } if !PASSING.contains(&code.as_str()) => {
                DatabaseError::Refused { operation, place, source: error.into() }
            }
            SqlError::Denied { .. } => DatabaseError::Refused { operation, place, source: error.into() },
            _ => DatabaseError::Passing { operation, place, source: error.into() },
        }
    }
}

#[async_trait]
impl Database for Server {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn place(&self) -> &str {
        &self.place
    }

    async fn together(
        &self,
        operation: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Row>>, DatabaseError> {
        let mut kept = self.client.lock().await;
        let client = match kept.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.connected(operation).await?,
        };
        match carry_out(&client, &statements).await {
            Ok(answers) => {
                *kept = Some(client);
                Ok(answers)
            }
            Err(error) => {
                // What the server refused leaves a connection that is good for the next one.
                if matches!(error, SqlError::Refused { .. }) && client.run(ASKING, "rollback").await.is_ok() {
                    *kept = Some(client);
                }
                Err(self.failure(operation, error))
            }
        }
    }
}

async fn carry_out(client: &Client, statements: &[Statement]) -> Result<Vec<Vec<Row>>, SqlError> {
    client.run(ASKING, "begin").await?;
    let mut answers = Vec::with_capacity(statements.len());
    for Statement { sql, cells } in statements {
        let values: Vec<&(dyn ToSql + Sync)> = cells.iter().map(value).collect();
        let rows = client.rows(ASKING, sql, &values).await?;
        let rows: Result<Vec<Row>, SqlError> = rows.iter().map(|row| read(client, row)).collect();
        answers.push(rows?);
    }
    client.run(ASKING, "commit").await?;
    Ok(answers)
}

fn value(cell: &Cell) -> &(dyn ToSql + Sync) {
    match cell {
        Cell::Null => &Nothing,
        Cell::Number(number) => number,
        Cell::Text(text) => text,
    }
}

/// NULL of whatever type the server expects.
#[derive(Debug)]
struct Nothing;

impl ToSql for Nothing {
    fn to_sql(
        &self,
        _: &Type,
        _: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(tokio_postgres::types::IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

fn read(client: &Client, row: &tokio_postgres::Row) -> Result<Row, SqlError> {
    let cell = |index: usize| -> Result<Cell, tokio_postgres::Error> {
        Ok(match *row.columns()[index].type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(index)?.into(),
            _ => row.try_get::<_, Option<String>>(index)?.map_or(Cell::Null, Cell::Text),
        })
    };
    let cells: Result<Vec<Cell>, _> = (0..row.len()).map(cell).collect();
    cells.map(Row).map_err(|error| client.unreadable(ASKING, error.into()))
}
