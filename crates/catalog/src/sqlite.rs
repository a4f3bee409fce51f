//! The catalog in a file: for one machine, without any setup.
//!
//! **Invariants**
//! - A transaction begins as a writer (`begin immediate`): two agents on one file wait for one another, and never both read before
//!   either writes.
//! - What was answered is on disk (`synchronous = full`): an agent that ended a job has ended it after a power cut as well.
//! - A transaction runs to its end on a thread of its own, whatever becomes of the caller.

#![allow(clippy::disallowed_methods, reason = "this module is where the catalog's file is made")]

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql, TransactionBehavior, ffi};

use crate::database::{Cell, Database, DatabaseError, Dialect, Row, Statement};

/// How long one agent waits for another's transaction, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts at what does not wait by itself.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// A catalog's file, open.
pub struct File {
    connection: Arc<Mutex<Connection>>,
    place: String,
}

impl File {
    /// Opens the file at `path`; makes it, for its owner alone, if it is not there. Its folder must be.
    pub async fn open(path: &Path) -> Result<File, DatabaseError> {
        let (owned, place) = (path.to_owned(), path.display().to_string());
        let opening = tokio::task::spawn_blocking(move || connect(&owned));
        let opened = opening.await.map_err(|why| broken("open", &place, why.into()))?;
        let connection = opened.map_err(|why| broken("open", &place, why))?;
        Ok(File { connection: Arc::new(Mutex::new(connection)), place })
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn broken(operation: &'static str, place: &str, source: Cause) -> DatabaseError {
    DatabaseError::Refused { operation, place: place.to_owned(), source }
}

fn connect(path: &Path) -> Result<Connection, Cause> {
    // SQLite would let everybody read it; what it makes beside it has the rights of this file.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    // Of two that change the mode at once one is refused without waiting, whatever the timeout (sqlite.org/wal.html).
    let mut attempts = PATIENCE.as_millis() / BETWEEN_ATTEMPTS.as_millis();
    while let Err(error) = connection.pragma_update(None, "journal_mode", "wal") {
        if attempts == 0 || error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
            return Err(error.into());
        }
        attempts -= 1;
        std::thread::sleep(BETWEEN_ATTEMPTS);
    }
    connection.pragma_update(None, "synchronous", "full")?;
    Ok(connection)
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Cell::Null => ToSqlOutput::Owned(Value::Null),
            Cell::Number(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Cell::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}

fn carry_out(connection: &mut Connection, statements: &[Statement]) -> rusqlite::Result<Vec<Vec<Row>>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut answers = Vec::with_capacity(statements.len());
    for Statement { sql, cells } in statements {
        // `$1` would be a name, numbered by where it stands; `?1` is a number.
        let mut prepared = transaction.prepare_cached(&sql.replace('$', "?"))?;
        let columns = prepared.column_count();
        let rows = prepared.query_map(rusqlite::params_from_iter(cells), |row| {
            let cell = |column| {
                Ok(match row.get_ref(column)? {
                    ValueRef::Null => Cell::Null,
                    ValueRef::Integer(number) => Cell::Number(number),
                    other => Cell::Text(other.as_str()?.to_owned()),
                })
            };
            (0..columns).map(cell).collect::<rusqlite::Result<Vec<Cell>>>().map(Row)
        })?;
        answers.push(rows.collect::<rusqlite::Result<Vec<Row>>>()?);
    }
    transaction.commit()?;
    Ok(answers)
}

#[async_trait]
impl Database for File {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn place(&self) -> &str {
        &self.place
    }

    async fn together(
        &self,
        operation: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Row>>, DatabaseError> {
        let connection = Arc::clone(&self.connection);
        let work = move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            carry_out(&mut connection, &statements)
        };
        let done = tokio::task::spawn_blocking(work).await;
        let place = self.place.clone();
        match done.map_err(|why| broken(operation, &place, why.into()))? {
            Ok(answers) => Ok(answers),
            Err(rusqlite::Error::SqliteFailure(error, _))
                if matches!(
                    error.extended_code,
                    ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                ) =>
            {
                Err(DatabaseError::Taken { operation, place })
            }
            Err(error) => {
                let may_pass = [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked, ErrorCode::DiskFull];
                match error.sqlite_error_code().is_some_and(|code| may_pass.contains(&code)) {
                    true => Err(DatabaseError::Passing { operation, place, source: error.into() }),
                    false => Err(broken(operation, &place, error.into())),
                }
            }
        }
    }
}
