//! A dump's parts, being written.
//!
//! **Invariant**: a part counts as written when the server, or the disk, has said so. Dropped before, the COPY is taken back
//! with its connection.

#![allow(clippy::disallowed_methods, reason = "keeps the schema's archive as a file, which pg_restore reads")]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use strongroom_engine::{EngineError, PartWriter};
use strongroom_model::Cx;
use tokio::io::AsyncWriteExt;

use crate::connect::{self, Client};
use crate::logical::copying::{Copying, unless_cancelled};
use crate::logical::facts::{Grant, TableFact};
use crate::logical::failure::LogicalError;
use crate::logical::large_objects::{Attributes, Item};
use crate::logical::loading::Loading;
use crate::logical::part::Part;
use crate::logical::statement::write_rows;
use crate::quote::{quoted_name, quoted_string};

const OPERATION: &str = "write rows";

/// Large objects written by one transaction: each holds a lock.
const TOGETHER: u32 = 500;

/// Rows of a table.
pub(crate) struct Rows {
    copying: Copying,
    table: String,
    part: Part,
    loading: Arc<Loading>,
}

impl Rows {
    pub(crate) async fn begin(
        loading: Arc<Loading>,
        table: &TableFact,
        part: Part,
    ) -> Result<Rows, LogicalError> {
        let mut copying = loading.copying().await?;
        let sql = write_rows(table, &loading.facts.database.encoding);
        let (begun, table) = (copying.copy_in(OPERATION, &sql).await, table.to_string());
        begun.map_err(|error| LogicalError::copy("write", &table, error))?;
        Ok(Rows { copying, table, part, loading })
    }

    async fn end(mut self, cx: &Cx) -> Result<(), LogicalError> {
        let ended = unless_cancelled(cx, self.copying.end_rows(OPERATION)).await?;
        ended.map_err(|error| LogicalError::copy("write", &self.table, error))?;
        self.loading.written(self.part);
        self.loading.give_back(self.copying);
        Ok(())
    }
}

#[async_trait::async_trait]
impl PartWriter for Rows {
    async fn write(&mut self, cx: &Cx, bytes: Bytes) -> Result<(), EngineError> {
        let written = match unless_cancelled(cx, self.copying.write_rows(OPERATION, &bytes)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => LogicalError::copy("write", &self.table, error),
            Err(cancelled) => cancelled.into(),
        };
        Err(self.loading.aside(written).into())
    }

    async fn close(self: Box<Self>, cx: &Cx) -> Result<(), EngineError> {
        let loading = self.loading.clone();
        Ok(self.end(cx).await.map_err(|error| loading.aside(error))?)
    }
}

/// The schema's archive.
pub(crate) struct Archive {
    file: tokio::fs::File,
    loading: Arc<Loading>,
}

impl Archive {
    pub(crate) async fn begin(loading: Arc<Loading>) -> Result<Archive, LogicalError> {
        let file = tokio::fs::File::create(&loading.archive).await;
        let path = loading.archive.clone();
        let file = file.map_err(|source| LogicalError::Io { operation: "create", path, source })?;
        Ok(Archive { file, loading })
    }
}

#[async_trait::async_trait]
impl PartWriter for Archive {
    async fn write(&mut self, cx: &Cx, bytes: Bytes) -> Result<(), EngineError> {
        cx.check()?;
        let written = self.file.write_all(&bytes).await;
        Ok(written.map_err(|source| EngineError::io("write", &self.loading.archive, source))?)
    }

    async fn close(mut self: Box<Self>, cx: &Cx) -> Result<(), EngineError> {
        let written = self.file.flush().await;
        written.map_err(|source| EngineError::io("write", &self.loading.archive, source))?;
        let made = crate::logical::foundation::lay(cx, &self.loading).await;
        made.map_err(|error| self.loading.aside(error))?;
        self.loading.written(Part::Schema);
        Ok(())
    }
}

/// Large objects.
pub(crate) struct LargeObjects {
    client: Client,
    arrived: BytesMut,
    /// The object being written, its attributes, and how far.
    current: Option<(u32, Attributes, i64)>,
    count: u64,
    /// How many there were to be, once that has arrived.
    announced: Option<u64>,
    part: Part,
    loading: Arc<Loading>,
}

impl LargeObjects {
    pub(crate) async fn begin(loading: Arc<Loading>, part: Part) -> Result<LargeObjects, LogicalError> {
        let client = connect::connect(&loading.conninfo).await?;
        client.run(OPERATION, "SET synchronous_commit = off; BEGIN").await?;
        let arrived = BytesMut::new();
        Ok(LargeObjects { client, arrived, current: None, count: 0, announced: None, part, loading })
    }

    async fn take(&mut self, cx: &Cx, bytes: &[u8]) -> Result<(), LogicalError> {
        self.arrived.extend_from_slice(bytes);
        loop {
            cx.check()?;
            match Item::read(&mut self.arrived).map_err(|why| self.malformed(why))? {
                Some(item) if self.announced.is_none() => self.write_item(item).await?,
                Some(_) => return Err(self.malformed("something follows its end".to_owned())),
                None => return Ok(()),
            }
        }
    }

    async fn write_item(&mut self, item: Item) -> Result<(), LogicalError> {
        const OPERATION: &str = "write large objects";
        match (item, self.current.take()) {
            (Item::Object(oid, attributes), None) => {
                self.client.row(OPERATION, "SELECT pg_catalog.lo_create($1)", &[&oid]).await?;
                self.current = Some((oid, attributes, 0));
            }
            (Item::Piece(bytes), Some((oid, attributes, at))) => {
                let sql = "SELECT pg_catalog.lo_put($1, $2, $3)";
                self.client.row(OPERATION, sql, &[&oid, &at, &&bytes[..]]).await?;
                self.current = Some((oid, attributes, at + bytes.len() as i64));
            }
            (Item::End, Some((oid, attributes, _))) => {
                let sql = self.attributes(oid, &attributes);
                if !sql.is_empty() {
                    self.client.run(OPERATION, &sql).await?;
                }
                self.count += 1;
                if self.count.is_multiple_of(u64::from(TOGETHER)) {
                    self.client.run(OPERATION, "COMMIT; BEGIN").await?;
                }
            }
            (Item::Count(count), None) => self.announced = Some(count),
            _ => return Err(self.malformed("its pieces are out of order".to_owned())),
        }
        Ok(())
    }

    fn attributes(&self, oid: u32, attributes: &Attributes) -> String {
        let mut sql = String::new();
        let options = &self.loading.options;
        if !options.no_owner {
            let owner = quoted_name(options.roles.of(&attributes.owner));
            sql.push_str(&format!("ALTER LARGE OBJECT {oid} OWNER TO {owner};"));
        }
        if !options.no_privileges {
            for grant in &attributes.grants {
                sql.push_str(&grant_statement(&options.roles.grant(grant), &format!("LARGE OBJECT {oid}")));
            }
        }
        if let Some(comment) = &attributes.comment {
            sql.push_str(&format!("COMMENT ON LARGE OBJECT {oid} IS {};", quoted_string(comment)));
        }
        sql
    }

    async fn end(self) -> Result<(), LogicalError> {
        if self.announced != Some(self.count) || !self.arrived.is_empty() {
            return Err(self.malformed(format!("it ends after {} large objects", self.count)));
        }
        self.client.run("write large objects", "COMMIT").await?;
        self.loading.written(self.part);
        Ok(())
    }

    fn malformed(&self, why: String) -> LogicalError {
        LogicalError::Malformed { what: self.part.name(), why }
    }
}

#[async_trait::async_trait]
impl PartWriter for LargeObjects {
    async fn write(&mut self, cx: &Cx, bytes: Bytes) -> Result<(), EngineError> {
        let taken = self.take(cx, &bytes).await;
        Ok(taken.map_err(|error| self.loading.aside(error))?)
    }

    async fn close(self: Box<Self>, _: &Cx) -> Result<(), EngineError> {
        let loading = self.loading.clone();
        Ok(self.end().await.map_err(|error| loading.aside(error))?)
    }
}

/// `GRANT … ON … TO …;`
pub(crate) fn grant_statement(grant: &Grant, object: &str) -> String {
    let to = grant.to.as_deref().map_or_else(|| "PUBLIC".to_owned(), quoted_name);
    let option = if grant.with_grant_option { " WITH GRANT OPTION" } else { "" };
    // The server's own words for rights: SELECT, CONNECT…
    format!("GRANT {} ON {object} TO {to}{option};", grant.privilege)
}
