//! A dump's parts, being read.
//!
//! **Invariants**: a part counts as read when the server, or the program, said itself that it was all; memory is a piece,
//! whatever a row has. Dropped earlier, the connection closes and the part does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use strongroom_engine::{EngineError, PartReader};
use strongroom_model::Cx;
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStdout, Command};

use crate::logical::copying::{Copying, unless_cancelled};
use crate::logical::facts::TableFact;
use crate::logical::failure::LogicalError;
use crate::logical::large_objects::Objects;
use crate::logical::program::{Program, Running};
use crate::logical::statement::read_rows;
use crate::logical::tally::{Counted, Tally};

/// Bytes handed on at a time.
const ENOUGH: usize = 256 << 10;

const OPERATION: &str = "read rows";

/// Which part this is, and where its end is told.
type Told = (usize, Arc<Progressed>);

/// What came of the parts so far.
#[derive(Default)]
pub(crate) struct Progressed {
    /// Connections in the snapshot that nobody uses at the moment.
    idle: Mutex<Vec<Copying>>,
    ended: Mutex<Ended>,
}

/// The parts that came to their ends.
#[derive(Default)]
pub(crate) struct Ended {
    pub(crate) parts: BTreeSet<usize>,
    pub(crate) counted: BTreeMap<usize, Counted>,
    pub(crate) warnings: Vec<String>,
}

impl Progressed {
    /// A part came to its end.
    fn end(&self, part: usize, counted: Option<Counted>, warnings: Vec<String>) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.parts.insert(part);
        ended.warnings.extend(warnings);
        if let Some(counted) = counted {
            ended.counted.insert(part, counted);
        }
    }

    /// A connection that is free for the next part.
    fn give_back(&self, copying: Copying) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(copying);
    }

    /// What came to its end since this was last asked.
    pub(crate) fn so_far(&self) -> Ended {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection that nobody uses.
    pub(crate) fn idle(&self) -> Option<Copying> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Rows of a table.
pub(crate) struct Rows {
    /// `None` after the last row.
    copying: Option<Copying>,
    table: String,
    buffer: BytesMut,
    tally: Option<Tally>,
    told: Told,
}

impl Rows {
    /// Begins to read a table, or one range of its blocks, in the encoding of its database.
    pub(crate) async fn begin(
        mut copying: Copying,
        (table, number): (&TableFact, u32),
        encoding: &str,
        told: Told,
    ) -> Result<Rows, LogicalError> {
        let sql = read_rows(table, number, encoding);
        let begun = copying.copy_out(OPERATION, &sql).await;
        let object = table.to_string();
        begun.map_err(|error| LogicalError::copy("read", &object, error))?;
        let (buffer, tally) = (BytesMut::with_capacity(2 * ENOUGH), Some(table.tally()));
        Ok(Rows { copying: Some(copying), table: object, buffer, tally, told })
    }

    async fn more(&mut self, cx: &Cx) -> Result<Option<Bytes>, LogicalError> {
        let (Some(copying), Some(tally)) = (&mut self.copying, &mut self.tally) else { return Ok(None) };
        let buffer = &mut self.buffer;
        let mut take = |piece: &[u8], ends: bool| {
            tally.take(piece, ends);
            buffer.extend_from_slice(piece);
        };
        let reading = copying.read_rows(OPERATION, ENOUGH, &mut take);
        let read = unless_cancelled(cx, reading).await?;
        let goes_on = read.map_err(|error| LogicalError::copy("read", &self.table, error))?;
        if !goes_on {
            let (part, progress) = &self.told;
            progress.end(*part, self.tally.take().map(Tally::finish), Vec::new());
            self.copying.take().into_iter().for_each(|copying| progress.give_back(copying));
        }
        let bytes = self.buffer.split().freeze();
        self.buffer.reserve(2 * ENOUGH);
        Ok(Some(bytes).filter(|bytes| goes_on || !bytes.is_empty()))
    }
}

#[async_trait::async_trait]
impl PartReader for Rows {
    async fn next(&mut self, cx: &Cx) -> Result<Option<Bytes>, EngineError> {
        Ok(self.more(cx).await?)
    }
}

/// The schema's archive, as `pg_dump` writes it.
pub(crate) struct Schema {
    running: Option<(Running, ChildStdout)>,
    database: String,
    told: Told,
}

impl Schema {
    /// Starts `pg_dump`.
    pub(crate) fn begin(
        program: &Program,
        command: &mut Command,
        database: &str,
        told: Told,
    ) -> Result<Schema, LogicalError> {
        let mut running = program.start(command)?;
        let stdout = running.child.stdout.take();
        let running = stdout.map(|stdout| (running, stdout));
        Ok(Schema { running, database: database.to_owned(), told })
    }

    async fn more(&mut self, cx: &Cx) -> Result<Option<Bytes>, LogicalError> {
        let Some((_, stdout)) = &mut self.running else { return Ok(None) };
        let mut buffer = BytesMut::with_capacity(ENOUGH);
        let read = unless_cancelled(cx, stdout.read_buf(&mut buffer)).await?;
        let read = read.map_err(|source| LogicalError::Io {
            operation: "read from",
            path: "pg_dump".into(),
            source,
        });
        if read? > 0 {
            return Ok(Some(buffer.freeze()));
        }
        if let Some((running, _)) = self.running.take() {
            let warnings = running.end(cx, &self.database).await?;
            let (part, progress) = &self.told;
            progress.end(*part, None, warnings);
        }
        Ok(None)
    }
}

#[async_trait::async_trait]
impl PartReader for Schema {
    async fn next(&mut self, cx: &Cx) -> Result<Option<Bytes>, EngineError> {
        Ok(self.more(cx).await?)
    }
}

/// Roles and tablespaces, read before.
pub(crate) struct Globals {
    text: Option<Bytes>,
    told: Told,
}

impl Globals {
    pub(crate) fn new(text: Option<Bytes>, told: Told) -> Globals {
        Globals { text, told }
    }
}

#[async_trait::async_trait]
impl PartReader for Globals {
    async fn next(&mut self, _: &Cx) -> Result<Option<Bytes>, EngineError> {
        let text = self.text.take();
        if text.is_none() {
            self.told.1.end(self.told.0, None, Vec::new());
        }
        Ok(text)
    }
}

/// Large objects, framed.
pub(crate) struct LargeObjects {
    objects: Option<Objects>,
    told: Told,
}

impl LargeObjects {
    pub(crate) fn new(objects: Objects, told: Told) -> LargeObjects {
        LargeObjects { objects: Some(objects), told }
    }

    async fn more(&mut self, cx: &Cx) -> Result<Option<Bytes>, LogicalError> {
        let Some(objects) = &mut self.objects else { return Ok(None) };
        let mut buffer = BytesMut::new();
        while buffer.len() < ENOUGH {
            let Some(item) = objects.next(cx).await? else { break };
            let malformed = |error: serde_json::Error| LogicalError::Malformed {
                what: "a large object's attributes".to_owned(),
                why: error.to_string(),
            };
            item.write(&mut buffer).map_err(malformed)?;
        }
        if buffer.is_empty()
            && let Some(objects) = self.objects.take()
        {
            let (part, progress) = &self.told;
            progress.end(*part, Some(objects.tally.finish()), Vec::new());
            return Ok(None);
        }
        Ok(Some(buffer.freeze()))
    }
}

#[async_trait::async_trait]
impl PartReader for LargeObjects {
    async fn next(&mut self, cx: &Cx) -> Result<Option<Bytes>, EngineError> {
        Ok(self.more(cx).await?)
    }
}
