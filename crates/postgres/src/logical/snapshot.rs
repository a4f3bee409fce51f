//! The one moment that a dump shows: a session that holds it, and sessions that see the same.
//!
//! ```text
//! connect ▶ BEGIN (repeatable read, read only) ▶ pg_export_snapshot ▶ catalogue ▶ lock all tables ▶ still the same tables? ▶ … ▶ end
//!                                                        └ workers: SET TRANSACTION SNAPSHOT ▶ lock, without waiting ▶ COPY
//! ```
//!
//! **Invariants**
//! - Rows are read only while the session lives that took the snapshot: its locks keep the tables as the snapshot shows them.
//! - A table that was truncated, rewritten, dropped or renamed between the snapshot and its lock would read as empty: it is
//!   found by its file and its name, and ends the dump.
//! - A worker never waits for a lock: behind one who waits to change a table it would wait for ever, since that one waits for us.

use strongroom_model::{Cx, Timestamp};

use crate::connect::{self, Client};
use crate::conninfo::Conninfo;
use crate::logical::catalog::Catalog;
use crate::logical::copying::{Copying, PREPARATION};
use crate::logical::failure::LogicalError;
use crate::quote::quoted_string;
use crate::refusal::SqlError;

const OPERATION: &str = "take a snapshot";

/// Tables locked by one statement.
const TOGETHER: usize = 50;

/// `lock_not_available`.
const LOCKED: &str = "55P03";

/// `undefined_table`, `invalid_schema_name`.
const GONE: [&str; 2] = ["42P01", "3F000"];

/// A snapshot, held.
pub(crate) struct Snapshot {
    client: Client,
    conninfo: Conninfo,
    /// By which others import it.
    pub(crate) id: String,
    /// Server's clock when it was taken.
    pub(crate) at: Timestamp,
    /// Whether the server is a standby.
    pub(crate) standby: bool,
    /// `server_version_num`.
    pub(crate) version_num: u32,
    /// `server_version`.
    pub(crate) version: String,
}

impl Snapshot {
    /// Connects and takes it.
    pub(crate) async fn take(conninfo: &Conninfo) -> Result<Snapshot, LogicalError> {
        let client = connect::connect(conninfo).await?;
        client.run(OPERATION, PREPARATION).await?;
        // Half a minute is what a table may be locked by others for.
        client.run(OPERATION, "SET lock_timeout = '30s'").await?;
        client.run(OPERATION, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let sql = "SELECT pg_catalog.pg_export_snapshot() AS id, pg_catalog.pg_is_in_recovery() AS standby, \
                   (pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()) * 1000000)::pg_catalog.int8 AS at, \
                   pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS version_num, \
                   pg_catalog.current_setting('server_version') AS version";
        let row = client.row(OPERATION, sql, &[]).await?;
        let at = Timestamp::from_unix_micros(client.get(OPERATION, &row, "at")?);
        let snapshot = Snapshot {
            id: client.get(OPERATION, &row, "id")?,
            at: at.ok_or_else(|| client.unreadable(OPERATION, "its clock is out of range".into()))?,
            standby: client.get(OPERATION, &row, "standby")?,
            version_num: client.get::<i32>(OPERATION, &row, "version_num")?.unsigned_abs(),
            version: client.get(OPERATION, &row, "version")?,
            // Of several hosts the one that it was taken at.
            conninfo: conninfo.only(client.place()),
            client,
        };
        Ok(snapshot)
    }

    /// The session that holds it.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// How to connect to the same server.
    pub(crate) fn conninfo(&self) -> &Conninfo {
        &self.conninfo
    }

    /// Keeps all tables as they are until the end, and makes sure that they are what the snapshot shows.
    pub(crate) async fn lock(&self, cx: &Cx, catalog: &Catalog) -> Result<(), LogicalError> {
        let mut tables: Vec<(u32, String)> =
            catalog.tables.iter().map(|table| (table.oid, table.quoted())).collect();
        tables.extend(catalog.partitioned.iter().map(|table| (table.oid, table.quoted())));
        for some in tables.chunks(TOGETHER) {
            cx.check()?;
            let names: Vec<String> = some.iter().map(|(_, name)| format!("ONLY {name}")).collect();
            let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
            self.client.run("lock the tables", &sql).await.map_err(|error| self.not_locked(some, error))?;
        }
        let (oids, names): (Vec<u32>, Vec<String>) = tables.into_iter().unzip();
        let sql = "SELECT t.name FROM unnest($1::oid[], $2::text[]) t(oid, name) \
                   LEFT JOIN pg_catalog.pg_class c ON c.oid = t.oid \
                   WHERE to_regclass(t.name)::oid IS DISTINCT FROM t.oid \
                   OR c.relkind = 'r' AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid) ORDER BY 1";
        let rows = self.client.rows("lock the tables", sql, &[&oids, &names]).await?;
        let changed = rows.iter().map(|row| self.client.get("lock the tables", row, "name"));
        let what = changed.collect::<Result<Vec<String>, SqlError>>()?;
        match what.is_empty() {
            true => Ok(()),
            false => Err(LogicalError::Changed { place: self.client.place().to_owned(), what }),
        }
    }

    fn not_locked(&self, some: &[(u32, String)], error: SqlError) -> LogicalError {
        let place = self.client.place().to_owned();
        match error {
            SqlError::Refused { code, .. } if code == LOCKED => {
                let names: Vec<&str> = some.iter().map(|(_, name)| name.as_str()).collect();
                let table = match names[..] {
                    [name] => name.to_owned(),
                    _ => format!("one of {}", names.join(", ")),
                };
                LogicalError::Waiting { table, place }
            }
            error => self.gone(error),
        }
    }

    /// Something that the snapshot shows was not there any more.
    pub(crate) fn gone(&self, error: SqlError) -> LogicalError {
        match error {
            SqlError::Refused { code, said, .. } if GONE.contains(&code.as_str()) => {
                LogicalError::Changed { place: self.client.place().to_owned(), what: vec![said] }
            }
            error => error.into(),
        }
    }

    /// The session is there, as far as we know.
    pub(crate) fn is_held(&self) -> Result<(), LogicalError> {
        match self.client.is_closed() {
            false => Ok(()),
            true => Err(self.lost("the connection is closed")),
        }
    }

    fn lost(&self, said: &str) -> LogicalError {
        LogicalError::SnapshotLost { place: self.client.place().to_owned(), said: said.to_owned() }
    }

    /// Another session that sees the same and reads rows.
    pub(crate) async fn copying(&self) -> Result<Copying, LogicalError> {
        let mut copying = Copying::connect(&self.conninfo).await?;
        let entered = copying.run("enter the snapshot", &self.entrance()).await;
        entered.map_err(|error| self.not_entered(error))?;
        Ok(copying)
    }

    /// Another session that sees the same and answers questions.
    pub(crate) async fn session(&self) -> Result<Client, LogicalError> {
        let client = connect::connect(&self.conninfo).await?;
        client.run("enter the snapshot", PREPARATION).await?;
        let entered = client.run("enter the snapshot", &self.entrance()).await;
        entered.map_err(|error| self.not_entered(error))?;
        Ok(client)
    }

    fn entrance(&self) -> String {
        let id = quoted_string(&self.id);
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT {id}")
    }

    fn not_entered(&self, error: SqlError) -> LogicalError {
        match error {
            SqlError::Refused { said, .. } => self.lost(&said),
            error => error.into(),
        }
    }

    /// Locks a table for a worker that is about to read it.
    pub(crate) async fn lock_for(&self, copying: &mut Copying, table: &str) -> Result<(), LogicalError> {
        let sql = format!("LOCK TABLE ONLY {table} IN ACCESS SHARE MODE NOWAIT");
        copying.run("lock a table", &sql).await.map_err(|error| match error {
            SqlError::Refused { code, .. } if code == LOCKED => {
                LogicalError::Waiting { table: table.to_owned(), place: self.client.place().to_owned() }
            }
            error => LogicalError::copy("read", table, error),
        })
    }

    /// Lets go of it, if it was held until now.
    pub(crate) async fn end(&self) -> Result<(), LogicalError> {
        match self.client.run("end the dump", "SELECT 1; COMMIT").await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.lost(&error.to_string())),
        }
    }
}
