//! A connection that reads and writes rows as COPY has them, in pieces.
//!
//! A row is one message of the protocol and can have a gigabyte; the library reads messages whole, so this reads them by
//! [`crate::replication::wire`]: what is in memory at a time is a piece, whatever the row.
//!
//! **Invariants**
//! - The session is one that `pg_dump` would make: everything that changes how values are written is set.
//! - A COPY that the server did not end with its own word is an error, never a short table.
//!
//! Dropped at any point: the connection closes, and the server ends what it was doing for it.

use std::time::Duration;

use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use strongroom_model::{Cancelled, Cx};

use crate::conninfo::Conninfo;
use crate::logical::failure::LogicalError;
use crate::refusal::SqlError;
use crate::replication::enter::{Purpose, enter};
use crate::replication::wire::{Incoming, Said, Wire};

/// How often it is looked whether the user pressed Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How values are written, and that nothing ends the session by time. The settings that not every version has are looked up.
/// Rows come in the order in which they lie there, so that the same rows give the same bytes next time.
pub(crate) const PREPARATION: &str = "\
SET search_path = pg_catalog, pg_temp;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET DateStyle = ISO, YMD;
SET IntervalStyle = postgres;
SET TimeZone = 'UTC';
SET extra_float_digits = 3;
SET bytea_output = hex;
SET xmloption = content;
SET row_security = off;
SET synchronize_seqscans = off;
SET max_parallel_workers_per_gather = 0;
SET jit = off;
SET lock_timeout = 0;
SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) ANY \
(ARRAY['transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout']);";

/// A range of ctids is read as such, and everything else from the beginning to the end: whatever the statistics say.
const SCANS: &str = "\
SET enable_seqscan = off;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SET enable_bitmapscan = off;";

/// A connection, between two COPYs or in one.
pub(crate) struct Copying {
    wire: Wire,
    place: String,
    role: String,
}

impl Copying {
    /// Connects and makes the session what it must be.
    pub(crate) async fn connect(conninfo: &Conninfo) -> Result<Copying, LogicalError> {
        let (wire, place) = enter(conninfo, Purpose::Statements).await?;
        let mut copying = Copying { wire, place, role: conninfo.user.clone() };
        // On its own: a timeout that the role brings along would run on while the rest of one batch is worked off.
        copying.run("prepare the session", "SET statement_timeout = 0").await?;
        copying.run("prepare the session", PREPARATION).await?;
        copying.run("prepare the session", SCANS).await?;
        Ok(copying)
    }

    /// Runs statements whose result does not matter.
    pub(crate) async fn run(&mut self, operation: &'static str, sql: &str) -> Result<(), SqlError> {
        self.ask(operation, sql).await?;
        self.ended(operation).await.map(drop)
    }

    /// Begins to read rows.
    pub(crate) async fn copy_out(&mut self, operation: &'static str, sql: &str) -> Result<(), SqlError> {
        self.begin(operation, sql, |message| matches!(message, Message::CopyOutResponse(_))).await
    }

    /// Begins to write rows.
    pub(crate) async fn copy_in(&mut self, operation: &'static str, sql: &str) -> Result<(), SqlError> {
        self.begin(operation, sql, |message| matches!(message, Message::CopyInResponse(_))).await
    }

    /// Hands on rows until they had `enough` bytes: every piece, and whether a row ends with it. `false` after the last: the
    /// connection is free again.
    pub(crate) async fn read_rows(
        &mut self,
        operation: &'static str,
        enough: usize,
        row: &mut (impl FnMut(&[u8], bool) + Send),
    ) -> Result<bool, SqlError> {
        let mut bytes = 0;
        while bytes < enough {
            let mut take = |piece: &[u8], ends: bool| {
                bytes += piece.len();
                row(piece, ends);
            };
            let received = self.wire.receive_copy(&mut take).await;
            match received.map_err(|source| self.lost(operation, &source))? {
                None | Some(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Some(Message::CopyDone) => {
                    self.ended(operation).await?;
                    return Ok(false);
                }
                Some(Message::ErrorResponse(body)) => {
                    return Err(self.refusal(operation, Said::read(body.fields())));
                }
                Some(_) => return Err(self.unexpected(operation)),
            }
        }
        Ok(true)
    }

    /// Writes rows, cut anywhere. What the server has against them it may say now or at the end.
    pub(crate) async fn write_rows(&mut self, operation: &'static str, bytes: &[u8]) -> Result<(), SqlError> {
        let sent = self.wire.send_copy(bytes).await;
        // One that ends the session says so first, and what is sent then finds nobody.
        match self.wire.glance().await {
            Ok(Some(Incoming::Message(Message::ErrorResponse(body)))) => {
                Err(self.refusal(operation, Said::read(body.fields())))
            }
            Ok(_) => sent.map_err(|source| self.lost(operation, &source)),
            Err(source) => Err(self.lost(operation, &source)),
        }
    }

    /// Ends the rows that are written; how many the server has taken.
    pub(crate) async fn end_rows(&mut self, operation: &'static str) -> Result<u64, SqlError> {
        frontend::copy_done(&mut self.wire.outgoing);
        self.send(operation).await?;
        let tag = self.ended(operation).await?;
        tag.strip_prefix("COPY ").and_then(|rows| rows.parse().ok()).ok_or_else(|| self.unexpected(operation))
    }

    async fn begin(
        &mut self,
        operation: &'static str,
        sql: &str,
        is_it: impl Fn(&Message) -> bool,
    ) -> Result<(), SqlError> {
        self.ask(operation, sql).await?;
        let mut refused = None;
        loop {
            match self.receive(operation).await? {
                message if is_it(&message) => return Ok(()),
                Message::ErrorResponse(body) => {
                    refused = Some(self.refusal(operation, Said::read(body.fields())));
                }
                Message::ReadyForQuery(_) => {
                    return Err(refused.unwrap_or_else(|| self.unexpected(operation)));
                }
                _ => {}
            }
        }
    }

    async fn ask(&mut self, operation: &'static str, sql: &str) -> Result<(), SqlError> {
        if let Err(source) = frontend::query(sql, &mut self.wire.outgoing) {
            return Err(self.lost(operation, &source));
        }
        self.send(operation).await
    }

    async fn send(&mut self, operation: &'static str) -> Result<(), SqlError> {
        let sent = self.wire.send().await;
        sent.map_err(|source| self.lost(operation, &source))
    }

    /// Waits until the server is ready for more; its last word.
    async fn ended(&mut self, operation: &'static str) -> Result<String, SqlError> {
        let (mut tag, mut refused) = (String::new(), None);
        loop {
            match self.receive(operation).await? {
                Message::CommandComplete(body) => {
                    body.tag().map_err(|source| self.lost(operation, &source))?.clone_into(&mut tag);
                }
                Message::ErrorResponse(body) => {
                    let error = self.refusal(operation, Said::read(body.fields()));
                    // After these the server says nothing more.
                    if error.is_end_of_session() {
                        return Err(error);
                    }
                    refused = Some(error);
                }
                Message::ReadyForQuery(_) => return refused.map_or(Ok(tag), Err),
                _ => {}
            }
        }
    }

    async fn receive(&mut self, operation: &'static str) -> Result<Message, SqlError> {
        match self.wire.receive().await {
            Ok(Incoming::Message(message)) => Ok(message),
            Ok(Incoming::CopyBoth) => Err(self.unexpected(operation)),
            Err(source) => Err(self.lost(operation, &source)),
        }
    }

    fn refusal(&self, operation: &'static str, said: Said) -> SqlError {
        let (place, code, said) = (self.place.clone(), said.code.clone(), said.to_string());
        match code.as_str() {
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04" => {
                SqlError::Lost { operation, place, said: Some(said) }
            }
            "42501" => SqlError::Denied { operation, place, role: self.role.clone(), said },
            _ => SqlError::Refused { operation, place, said, code },
        }
    }

    fn lost(&self, operation: &'static str, source: &std::io::Error) -> SqlError {
        SqlError::Lost { operation, place: self.place.clone(), said: Some(source.to_string()) }
    }

    fn unexpected(&self, operation: &'static str) -> SqlError {
        let source = "a message that does not belong here".into();
        SqlError::Unreadable { operation, place: self.place.clone(), source }
    }
}

/// Waits for something, however long it takes, unless the user asks to stop.
pub(crate) async fn unless_cancelled<T>(cx: &Cx, waiting: impl Future<Output = T>) -> Result<T, Cancelled> {
    let mut waiting = std::pin::pin!(waiting);
    loop {
        cx.check()?;
        if let Ok(done) = tokio::time::timeout(LOOK_EVERY, waiting.as_mut()).await {
            return Ok(done);
        }
    }
}
