//! The physical replication protocol: the server's WAL as it is written, byte for byte.
//!
//! ```text
//! enter ▶ IDENTIFY_SYSTEM ▶ (CREATE_REPLICATION_SLOT) ▶ TIMELINE_HISTORY … ▶ START_REPLICATION
//!           ┌────────────────────────────── w: WAL, k: alive ──────────────────────────────┘
//!           └─▶ r: what is durable … ▶ the timeline ends ▶ the next one, and where it begins ▶ START_REPLICATION
//! ```
//!
//! **Invariants**
//! - What is reported as durable is what the caller says is durable; nothing is reported on the way.
//! - WAL comes in order and without gaps, or not at all: what does not follow on what came before ends the stream.
//! - No bytes of the server's make this module panic.
//!
//! Dropped at any point: the connection closes, and the slot stays as it was last told.

use std::borrow::Cow;
use std::io;

use bytes::{Buf, BufMut, Bytes};
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend::{self, CopyData};
use strongroom_engine::EngineError;
use strongroom_model::{Lsn, SystemId, Timeline, Timestamp};
use tokio_postgres::fallible_iterator::FallibleIterator;

use crate::connect::ANSWER_WITHIN;
use crate::conninfo::Conninfo;
use crate::quote::quoted_name;
use crate::refusal::{Cause, ConnectError};
use crate::sender::SlotName;

pub(crate) mod wire;
pub(crate) mod enter;
pub mod archives;

use wire::{Incoming, Said, Wire};

/// From 1970-01-01 to PostgreSQL's 2000-01-01, in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Why there is no WAL, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended.
    #[error("{operation} at {place}: the connection was lost")]
    Lost {
        /// What was being done.
        operation: &'static str,
        /// Where.
        place: String,
        /// What the system, or the server, said.
        #[source]
        source: Cause,
    },
    /// No answer in time.
    #[error("{operation} at {place}: no answer within {seconds} s")]
    Silent {
        /// What was being done.
        operation: &'static str,
        /// Where.
        place: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The server has removed this WAL.
    #[error("receive WAL from {place}: {said}")]
    Removed {
        /// Where.
        place: String,
        /// What the server said.
        said: String,
    },
    /// The server would not.
    #[error("{operation} at {place}: {said}")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// Where.
        place: String,
        /// What the server said.
        said: String,
        /// SQLSTATE.
        code: String,
    },
    /// The answer is not what a server should give.
    #[error("{operation} at {place}: {what}")]
    Unreadable {
        /// What was being done.
        operation: &'static str,
        /// Where.
        place: String,
        /// What does not fit.
        what: String,
    },
}

impl ReplicationError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            ReplicationError::Connect(error) => error.hint(),
            ReplicationError::Lost { .. } => "was the server stopped or the session ended?".into(),
            ReplicationError::Silent { .. } => "is the server overloaded, or the network interrupted?".into(),
            ReplicationError::Removed { .. } => "take a new recovery point: strongroom backup".into(),
            // `configuration_limit_exceeded`
            ReplicationError::Refused { code, .. } if code == "53400" => {
                "raise max_replication_slots and restart the server, or use --no-slot".into()
            }
            ReplicationError::Refused { .. } => "what does the server's log say?".into(),
            ReplicationError::Unreadable { .. } => {
                "is a proxy between strongroom and the server? connect to the server".into()
            }
        }
    }
}

impl From<ReplicationError> for EngineError {
    fn from(error: ReplicationError) -> EngineError {
        let (what, hint) = (error.to_string(), error.hint());
        match error {
            ReplicationError::Connect(error) => error.into(),
            ReplicationError::Lost { source, .. } => {
                EngineError::Unreachable { what, hint, source: Some(source) }
            }
            ReplicationError::Silent { .. } | ReplicationError::Unreadable { .. } => {
                EngineError::Unreachable { what, hint, source: None }
            }
            ReplicationError::Removed { .. } | ReplicationError::Refused { .. } => {
                EngineError::Unfit { what, hint }
            }
        }
    }
}

/// A connection that takes replication commands.
pub struct Replication {
    wire: Wire,
    place: String,
}

/// Who the server is, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Names the lineage.
    pub system_id: SystemId,
    /// The timeline it writes, or follows.
    pub timeline: Timeline,
    /// Up to where its WAL is durable.
    pub flushed: Lsn,
}

/// What asking for WAL came to.
pub enum Start {
    /// It comes.
    Stream(Box<Stream>),
    /// The timeline ends right there; here goes the next.
    Ended(Replication, (Timeline, Lsn)),
}

impl Replication {
    /// Connects to the first host that lets us in.
    pub async fn connect(conninfo: &Conninfo) -> Result<Replication, ReplicationError> {
        let (wire, place) = enter::enter(conninfo, enter::Purpose::Replication).await?;
        Ok(Replication { wire, place })
    }

    /// Where it is connected to.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Asks who the server is.
    pub async fn identify(&mut self) -> Result<Identity, ReplicationError> {
        const OPERATION: &str = "identify the server";
        let rows = self.ask(OPERATION, "IDENTIFY_SYSTEM").await?;
        rows.first()
            .and_then(identity)
            .ok_or_else(|| self.unreadable(OPERATION, "the answer names no system, timeline and position"))
    }

    /// Makes a slot that keeps WAL from now on. `false` if there is one of that name.
    pub async fn create_slot(&mut self, slot: &SlotName) -> Result<bool, ReplicationError> {
        let sql = format!("CREATE_REPLICATION_SLOT {} PHYSICAL RESERVE_WAL", quoted_name(slot.as_str()));
        match self.ask("make a replication slot", &sql).await {
            Ok(_) => Ok(true),
            Err(ReplicationError::Refused { code, .. }) if code == "42710" => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a slot: the server keeps nothing for it any more. `false` if there is none of that name.
    pub async fn drop_slot(&mut self, slot: &SlotName) -> Result<bool, ReplicationError> {
        let sql = format!("DROP_REPLICATION_SLOT {}", quoted_name(slot.as_str()));
        match self.ask("drop a replication slot", &sql).await {
            Ok(_) => Ok(true),
            Err(ReplicationError::Refused { code, .. }) if code == "42704" => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A timeline's history file, byte for byte; `None` if the server has it not (any more).
    pub async fn timeline_history(&mut self, timeline: Timeline) -> Result<Option<Bytes>, ReplicationError> {
        const OPERATION: &str = "fetch a timeline's history";
        match self.ask(OPERATION, &format!("TIMELINE_HISTORY {timeline}")).await {
            Ok(mut rows) => match rows.first_mut().and_then(|row| row.get_mut(1)?.take()) {
                Some(content) => Ok(Some(content)),
                None => Err(self.unreadable(OPERATION, "the answer holds no file")),
            },
            Err(ReplicationError::Removed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for WAL of `timeline` from `at` on, which must be a segment's beginning.
    pub async fn start(
        mut self,
        slot: Option<&SlotName>,
        (timeline, at): (Timeline, Lsn),
    ) -> Result<Start, ReplicationError> {
        const OPERATION: &str = "receive WAL";
        let slot = slot.map(|slot| format!("SLOT {} ", quoted_name(slot.as_str()))).unwrap_or_default();
        self.command(OPERATION, &format!("START_REPLICATION {slot}PHYSICAL {at} TIMELINE {timeline}"))
            .await?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            match self.receive(OPERATION).await? {
                Incoming::CopyBoth => {
                    return Ok(Start::Stream(Box::new(Stream { connection: self, next: at })));
                }
                Incoming::Message(Message::ErrorResponse(body)) => {
                    refused = Some(self.refusal(OPERATION, Said::read(body.fields())));
                }
                Incoming::Message(Message::DataRow(body)) => rows.push(self.cells(OPERATION, &body)?),
                Incoming::Message(Message::ReadyForQuery(_)) => match (refused, next_timeline(&rows)) {
                    (Some(error), _) => return Err(error),
                    (None, Some(next)) => return Ok(Start::Ended(self, next)),
                    (None, None) => {
                        return Err(self.unreadable(OPERATION, "the server sends no WAL and says no why"));
                    }
                },
                Incoming::Message(_) => {}
            }
        }
    }

    /// Runs a command to its end and gives its rows.
    async fn ask(&mut self, operation: &'static str, sql: &str) -> Result<Vec<Cells>, ReplicationError> {
        self.command(operation, sql).await?;
        self.answer(operation).await
    }

    async fn answer(&mut self, operation: &'static str) -> Result<Vec<Cells>, ReplicationError> {
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            match self.receive(operation).await? {
                Incoming::Message(Message::DataRow(body)) => rows.push(self.cells(operation, &body)?),
                Incoming::Message(Message::ErrorResponse(body)) => {
                    refused = Some(self.refusal(operation, Said::read(body.fields())));
                }
                Incoming::Message(Message::ReadyForQuery(_)) => return refused.map_or(Ok(rows), Err),
                Incoming::Message(_) => {}
                Incoming::CopyBoth => return Err(self.unreadable(operation, "WAL that nobody asked for")),
            }
        }
    }

    async fn command(&mut self, operation: &'static str, sql: &str) -> Result<(), ReplicationError> {
        let sent = match frontend::query(sql, &mut self.wire.outgoing) {
            Ok(()) => self.wire.send().await,
            Err(error) => Err(error),
        };
        sent.map_err(|source| self.lost(operation, source))
    }

    async fn receive(&mut self, operation: &'static str) -> Result<Incoming, ReplicationError> {
        match tokio::time::timeout(ANSWER_WITHIN, self.wire.receive()).await {
            Ok(received) => received.map_err(|source| self.lost(operation, source)),
            Err(_) => {
                let (place, seconds) = (self.place.clone(), ANSWER_WITHIN.as_secs());
                Err(ReplicationError::Silent { operation, place, seconds })
            }
        }
    }

    fn cells(&self, operation: &'static str, row: &DataRowBody) -> Result<Cells, ReplicationError> {
        let bytes = row.buffer_bytes();
        let cells = row.ranges().map(|range| Ok(range.map(|range| bytes.slice(range)))).collect();
        cells.map_err(|error| self.unreadable(operation, error.to_string()))
    }

    fn refusal(&self, operation: &'static str, said: Said) -> ReplicationError {
        let (place, code, text) = (self.place.clone(), said.code.clone(), said.to_string());
        match code.as_str() {
            // `undefined_file`, and what a slot says that was given up.
            "58P01" => ReplicationError::Removed { place, said: text },
            "57P01" | "57P02" | "57P03" => ReplicationError::Lost { operation, place, source: said.into() },
            _ => ReplicationError::Refused { operation, place, said: text, code },
        }
    }

    fn lost(&self, operation: &'static str, source: io::Error) -> ReplicationError {
        ReplicationError::Lost { operation, place: self.place.clone(), source: source.into() }
    }

    fn unreadable(&self, operation: &'static str, what: impl Into<String>) -> ReplicationError {
        ReplicationError::Unreadable { operation, place: self.place.clone(), what: what.into() }
    }
}

/// A row as the server wrote it.
type Cells = Vec<Option<Bytes>>;

/// A cell as text; `None` for NULL, too.
fn cell(row: &Cells, at: usize) -> Option<Cow<'_, str>> {
    row.get(at)?.as_deref().map(String::from_utf8_lossy)
}

fn identity(row: &Cells) -> Option<Identity> {
    Some(Identity {
        system_id: cell(row, 0)?.parse().ok()?,
        timeline: cell(row, 1)?.parse().ok()?,
        flushed: cell(row, 2)?.parse().ok()?,
    })
}

/// What the server says at a timeline's end: the next one, and where it left this one.
fn next_timeline(rows: &[Cells]) -> Option<(Timeline, Lsn)> {
    let row = rows.first()?;
    Some((cell(row, 0)?.parse().ok()?, cell(row, 1)?.parse().ok()?))
}

/// What comes in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Streamed {
    /// WAL.
    Wal {
        /// Where it lies.
        at: Lsn,
        /// The bytes.
        bytes: Bytes,
        /// How far the server's own WAL is.
        server: Lsn,
    },
    /// The server is there.
    Alive {
        /// How far its own WAL is.
        server: Lsn,
        /// It wants to be told what is durable, now.
        asks: bool,
    },
    /// The timeline has no more WAL.
    EndOfTimeline,
}

/// What is told to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Up to where WAL was received.
    pub received: Lsn,
    /// Up to where it is durable.
    pub durable: Lsn,
    /// Our clock.
    pub now: Timestamp,
    /// Whether the server is to answer.
    pub asks: bool,
}

/// WAL on its way.
pub struct Stream {
    connection: Replication,
    next: Lsn,
}

impl Stream {
    /// What comes next. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Result<Streamed, ReplicationError> {
        const OPERATION: &str = "receive WAL";
        loop {
            let received = self.connection.wire.receive().await;
            match received.map_err(|source| self.connection.lost(OPERATION, source))? {
                Incoming::Message(Message::CopyData(body)) => {
                    let streamed = read_streamed(body.into_bytes());
                    return self
                        .in_place(streamed.map_err(|what| self.connection.unreadable(OPERATION, what))?);
                }
                Incoming::Message(Message::CopyDone) => return Ok(Streamed::EndOfTimeline),
                Incoming::Message(Message::ErrorResponse(body)) => {
                    return Err(self.connection.refusal(OPERATION, Said::read(body.fields())));
                }
                // What a server says that has sent everything and shuts down.
                Incoming::Message(Message::CommandComplete(_) | Message::ReadyForQuery(_)) => {
                    let ended = io::Error::other("the server shuts down");
                    return Err(self.connection.lost(OPERATION, ended));
                }
                Incoming::Message(_) => {}
                Incoming::CopyBoth => {
                    return Err(self.connection.unreadable(OPERATION, "a second beginning"));
                }
            }
        }
    }

    /// Lets WAL through that follows on what came before.
    fn in_place(&mut self, streamed: Streamed) -> Result<Streamed, ReplicationError> {
        if let Streamed::Wal { at, bytes, .. } = &streamed {
            let end = at.0.checked_add(bytes.len() as u64).filter(|_| *at == self.next);
            let Some(end) = end else {
                let what = format!("WAL of {at} where that of {} should follow", self.next);
                return Err(self.connection.unreadable("receive WAL", what));
            };
            self.next = Lsn(end);
        }
        Ok(streamed)
    }

    /// Tells the server what was received and what is durable.
    pub async fn report(&mut self, standing: Standing) -> Result<(), ReplicationError> {
        let mut text = Vec::with_capacity(34);
        text.put_u8(b'r');
        text.put_u64(standing.received.0);
        text.put_u64(standing.durable.0);
        // Nothing is replayed here. Reported as durable, which is what `remote_apply` may wait for.
        text.put_u64(standing.durable.0);
        text.put_i64(standing.now.0.as_microsecond() - EPOCH_MICROS);
        text.put_u8(standing.asks.into());
        let sent = match CopyData::new(&text[..]) {
            Ok(message) => {
                message.write(&mut self.connection.wire.outgoing);
                self.connection.wire.send().await
            }
            Err(error) => Err(error),
        };
        sent.map_err(|source| self.connection.lost("report what is durable", source))
    }

    /// After [`Streamed::EndOfTimeline`]: the connection, ready for commands, and the timeline that follows.
    pub async fn end(self) -> Result<(Replication, (Timeline, Lsn)), ReplicationError> {
        const OPERATION: &str = "end a timeline";
        let mut connection = self.connection;
        frontend::copy_done(&mut connection.wire.outgoing);
        let sent = connection.wire.send().await;
        sent.map_err(|source| connection.lost(OPERATION, source))?;
        let rows = connection.answer(OPERATION).await?;
        match next_timeline(&rows) {
            Some(next) => Ok((connection, next)),
            None => Err(connection.unreadable(OPERATION, "the server names no next timeline")),
        }
    }
}

/// Reads `w` (position, the server's position, its clock, WAL) and `k` (position, clock, whether it wants an answer).
fn read_streamed(mut bytes: Bytes) -> Result<Streamed, String> {
    let mut whole = |tag: u8, length: usize| match bytes.first() == Some(&tag) && bytes.len() > length {
        true => Some(bytes.split_to(length + 1).split_off(1)),
        false => None,
    };
    if let Some(mut head) = whole(b'w', 24) {
        let (at, server) = (Lsn(head.get_u64()), Lsn(head.get_u64()));
        return Ok(Streamed::Wal { at, bytes, server });
    }
    if let Some(mut head) = whole(b'k', 17) {
        let (server, _, asks) = (Lsn(head.get_u64()), head.get_i64(), head.get_u8() != 0);
        return Ok(Streamed::Alive { server, asks });
    }
    Err(format!("a message of {} bytes that is neither WAL nor a sign of life", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_and_signs_of_life_are_read_and_nothing_else() {
        let mut wal = vec![b'w'];
        wal.put_u64(0x300_0000);
        wal.put_u64(0x300_0100);
        wal.put_i64(0);
        wal.extend(b"bytes");
        let Ok(Streamed::Wal { at, bytes, server }) = read_streamed(wal.clone().into()) else { panic!() };
        assert_eq!((at, &bytes[..], server), (Lsn(0x300_0000), &b"bytes"[..], Lsn(0x300_0100)));
        let mut alive = vec![b'k'];
        alive.put_u64(7);
        alive.put_i64(i64::MAX);
        alive.put_u8(1);
        let streamed = read_streamed(alive.clone().into());
        assert_eq!(streamed, Ok(Streamed::Alive { server: Lsn(7), asks: true }));
        for length in 0..25 {
            assert!(read_streamed(Bytes::copy_from_slice(&wal[..length])).is_err(), "{length}");
        }
        for length in 0..18 {
            assert!(read_streamed(Bytes::copy_from_slice(&alive[..length])).is_err(), "{length}");
        }
        assert!(read_streamed(Bytes::from_static(b"x")).is_err());
    }
}
