//! `BASE_BACKUP`: the server sends its own files, as archives.
//!
//! ```text
//! BASE_BACKUP ▶ where it starts ▶ which archives ▶ their bytes, one archive after the other ▶ where it stops
//!   before 15     a copy for each archive, in the order in which they were listed
//!   from 15 on    one copy; each message says what it is: n an archive begins, d its bytes, p how far it is
//! ```
//!
//! The archives' bytes are read by [`crate::ustar`]; this is the protocol around them, and no more.
//!
//! **Invariants**
//! - Archives come whole and each once, or there is an error: a server that ends early never looks as if it had ended.
//! - No bytes of the server's make this module panic.
//!
//! Dropped at any point: the connection closes, and the server forgets the backup.

use std::time::Duration;

use bytes::{Buf, Bytes};
use postgres_protocol::message::backend::{ErrorFields, Message};
use strongroom_engine::{EngineError, StartOptions};
use strongroom_model::{Cx, Lsn, Timeline};
use tokio_postgres::fallible_iterator::FallibleIterator;

use super::wire::{Incoming, Said};
use super::{Cells, Replication, ReplicationError, cell};
use crate::facts::overtaken;
use crate::quote::quoted_string;
use crate::standby::FULL_PAGES;
use crate::version::Major;

const OPERATION: &str = "take a base backup";

/// How often it is looked whether the user pressed Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a server that has begun may send nothing: longer than its disk may be busy with others.
const SILENT_FOR: Duration = Duration::from_secs(300);

/// Warnings kept; a server can have one for every file.
const WARNINGS: usize = 20;

/// `data_corrupted`: pages whose checksum is wrong, said after everything was sent.
const DATA_CORRUPTED: &str = "XX001";

/// `object_not_in_prerequisite_state`.
const NOT_IN_STATE: &str = "55000";

/// What an archive holds: a tablespace, or the data directory without them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The tablespace's number and place; `None` for the data directory.
    pub tablespace: Option<(u32, Vec<u8>)>,
    /// About how many bytes it has; 0 if the server does not say.
    pub estimate: u64,
}

/// What a server sends next.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// An archive begins, of [`Archives::spaces`] the one of this index.
    Archive(usize),
    /// Bytes of it.
    Content(Bytes),
}

/// Where a backup ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Replay must reach this.
    pub lsn: Lsn,
    /// On this timeline.
    pub timeline: Timeline,
    /// What the server said of wrong checksums, if it found some.
    pub corruption: Option<String>,
    /// What it warned of.
    pub warnings: Vec<String>,
}

/// How archives come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Each in a copy of its own.
    Apart,
    /// All in one.
    Together,
}

/// The archives of a base backup, on their way.
pub struct Archives {
    connection: Replication,
    shape: Shape,
    spaces: Vec<Space>,
    /// Archives that began.
    begun: Vec<bool>,
    /// The copy of this archive has begun, and nobody was told.
    announced: Option<usize>,
    warnings: Vec<String>,
}

impl Replication {
    /// Has the server begin a base backup, and send it; where it starts. Waits for a checkpoint, which may take long if it
    /// is not `fast`.
    pub async fn send_archives(
        mut self,
        cx: &Cx,
        major: Major,
        options: &StartOptions,
    ) -> Result<(Archives, (Lsn, Timeline)), EngineError> {
        self.command(OPERATION, &statement(major, options)).await?;
        let shape = if major.number() < 15 { Shape::Apart } else { Shape::Together };
        let mut backup = Archives {
            connection: self,
            shape,
            spaces: Vec::new(),
            begun: Vec::new(),
            announced: None,
            warnings: Vec::new(),
        };
        let sets = backup.first_answer(cx).await?;
        let start = sets.first().and_then(|rows| position(rows));
        let spaces = sets.get(1).and_then(|rows| rows.iter().map(space).collect::<Option<Vec<Space>>>());
        let (Some(start), Some(spaces)) = (start, spaces.filter(|spaces| !spaces.is_empty())) else {
            return Err(backup.unreadable("the server does not say where it starts and what it will send"));
        };
        backup.begun = vec![false; spaces.len()];
        backup.spaces = spaces;
        if shape == Shape::Apart {
            backup.announced = backup.begin(0);
        }
        Ok((backup, start))
    }
}

impl Archives {
    /// Where it comes from.
    pub fn place(&self) -> &str {
        self.connection.place()
    }

    /// The archives that will come, in no order that matters.
    pub fn spaces(&self) -> &[Space] {
        &self.spaces
    }

    /// What comes next; `None` after the last archive.
    pub async fn next(&mut self, cx: &Cx) -> Result<Option<Received>, EngineError> {
        loop {
            if let Some(space) = self.announced.take() {
                return Ok(Some(Received::Archive(space)));
            }
            match self.receive(cx, Some(SILENT_FOR)).await? {
                Incoming::Message(Message::CopyData(body)) => {
                    let bytes = body.into_bytes();
                    let read = match self.shape {
                        Shape::Apart => Some(Received::Content(bytes)),
                        Shape::Together => self.read_part(bytes)?,
                    };
                    match read {
                        Some(Received::Content(bytes)) if bytes.is_empty() => {}
                        Some(read) => return Ok(Some(read)),
                        None => {}
                    }
                }
                Incoming::Message(Message::CopyOutResponse(_)) => {
                    let next = self.begun.iter().position(|begun| !begun);
                    self.announced = next.and_then(|next| self.begin(next));
                    if self.announced.is_none() || self.shape == Shape::Together {
                        return Err(self.unreadable("more archives come than were listed"));
                    }
                }
                Incoming::Message(Message::CopyDone) => {
                    let is_last = self.begun.iter().all(|begun| *begun);
                    match (is_last, self.shape) {
                        (true, _) => return Ok(None),
                        (false, Shape::Apart) => {}
                        (false, Shape::Together) => {
                            return Err(self.unreadable("fewer archives came than were listed"));
                        }
                    }
                }
                Incoming::Message(Message::ErrorResponse(body)) => {
                    return Err(self.refusal(Said::read(body.fields())));
                }
                Incoming::Message(_) => {}
                Incoming::CopyBoth => return Err(self.unreadable("WAL that nobody asked for")),
            }
        }
    }

    /// Where it ended. To be called after [`Archives::next`] gave `None`.
    pub async fn end(mut self, cx: &Cx) -> Result<Ended, EngineError> {
        let (mut rows, mut corruption) = (Vec::new(), None);
        loop {
            match self.receive(cx, Some(SILENT_FOR)).await? {
                Incoming::Message(Message::DataRow(body)) => {
                    rows.push(self.connection.cells(OPERATION, &body)?);
                }
                Incoming::Message(Message::ErrorResponse(body)) => {
                    let said = Said::read(body.fields());
                    if said.code != DATA_CORRUPTED || rows.is_empty() {
                        return Err(self.refusal(said));
                    }
                    corruption = Some(said.to_string());
                }
                Incoming::Message(Message::ReadyForQuery(_)) => break,
                Incoming::Message(_) => {}
                Incoming::CopyBoth => return Err(self.unreadable("WAL that nobody asked for")),
            }
        }
        let Some((lsn, timeline)) = position(&rows) else {
            return Err(self.unreadable("the server does not say where it ends"));
        };
        Ok(Ended { lsn, timeline, corruption, warnings: self.warnings })
    }

    /// Everything up to the first copy: sets of rows.
    async fn first_answer(&mut self, cx: &Cx) -> Result<Vec<Vec<Cells>>, EngineError> {
        let mut sets: Vec<Vec<Cells>> = Vec::new();
        loop {
            match self.receive(cx, None).await? {
                Incoming::Message(Message::RowDescription(_)) => sets.push(Vec::new()),
                Incoming::Message(Message::DataRow(body)) => {
                    let row = self.connection.cells(OPERATION, &body)?;
                    sets.last_mut().map(|rows| rows.push(row)).unwrap_or_default();
                }
                Incoming::Message(Message::CopyOutResponse(_)) => return Ok(sets),
                Incoming::Message(Message::ErrorResponse(body)) => {
                    return Err(self.refusal(Said::read(body.fields())));
                }
                Incoming::Message(Message::ReadyForQuery(_)) | Incoming::CopyBoth => {
                    return Err(self.unreadable("the server sends no files and says no why"));
                }
                Incoming::Message(_) => {}
            }
        }
    }

    /// The next message that is no warning.
    async fn receive(&mut self, cx: &Cx, limit: Option<Duration>) -> Result<Incoming, EngineError> {
        let mut waited = Duration::ZERO;
        loop {
            match tokio::time::timeout(LOOK_EVERY, self.connection.wire.receive()).await {
                Ok(Ok(Incoming::Message(Message::NoticeResponse(body)))) => {
                    self.note(body.fields(), body.fields())
                }
                Ok(received) => {
                    return received.map_err(|source| self.connection.lost(OPERATION, source).into());
                }
                Err(_) if limit.is_some_and(|limit| waited > limit) => {
                    let (place, seconds) = (self.place().to_owned(), waited.as_secs());
                    return Err(ReplicationError::Silent { operation: OPERATION, place, seconds }.into());
                }
                Err(_) => {
                    cx.check()?;
                    waited += LOOK_EVERY;
                }
            }
        }
    }

    /// Keeps a warning; what is less than one is not kept.
    fn note(&mut self, mut fields: ErrorFields<'_>, again: ErrorFields<'_>) {
        let mut is_warning = false;
        while let Ok(Some(field)) = fields.next() {
            is_warning |= field.type_() == b'V' && field.value_bytes() == b"WARNING";
        }
        if is_warning && self.warnings.len() < WARNINGS {
            self.warnings.push(Said::read(again).to_string());
        }
    }

    /// Reads a message of a copy that holds all archives.
    fn read_part(&mut self, bytes: Bytes) -> Result<Option<Received>, EngineError> {
        match read_part(bytes) {
            Some(Piece::Archive(oid)) => {
                let of = |space: &Space| space.tablespace.as_ref().map(|(oid, _)| *oid) == oid;
                let begun = self.spaces.iter().position(of).and_then(|space| self.begin(space));
                begun
                    .map(|space| Some(Received::Archive(space)))
                    .ok_or_else(|| self.unreadable("an archive comes that was not listed, or comes twice"))
            }
            Some(Piece::Content(bytes)) => Ok(Some(Received::Content(bytes))),
            Some(Piece::Progress) => Ok(None),
            None => Err(self.unreadable("a message that is neither an archive's name nor its bytes")),
        }
    }

    /// Takes note that this archive comes now; `None` if it has come before.
    fn begin(&mut self, space: usize) -> Option<usize> {
        let begun = self.begun.get_mut(space).filter(|begun| !**begun)?;
        *begun = true;
        Some(space)
    }

    /// The server's refusal. A standby has one code for WAL without full pages, which it may find at either end, and for its
    /// own promotion meanwhile.
    fn refusal(&self, said: Said) -> EngineError {
        let (is_of_state, has_begun) = (said.code == NOT_IN_STATE, !self.spaces.is_empty());
        match self.connection.refusal(OPERATION, said).into() {
            EngineError::Unfit { what, .. } if is_of_state && what.contains("full_page_writes") => {
                EngineError::Unfit { what, hint: FULL_PAGES.to_owned() }
            }
            EngineError::Unfit { what, .. } if is_of_state && has_begun => overtaken(what),
            other => other,
        }
    }

    fn unreadable(&self, what: &str) -> EngineError {
        self.connection.unreadable(OPERATION, what).into()
    }
}

/// The command, as this version reads it. WAL is shipped by others, so none is sent and none waited for; checksums are
/// verified by the server as well, which alone can read a torn page again.
fn statement(major: Major, options: &StartOptions) -> String {
    let label = quoted_string(&options.label);
    match (major.number(), options.fast) {
        (..15, true) => format!("BASE_BACKUP LABEL {label} PROGRESS FAST NOWAIT TABLESPACE_MAP"),
        (..15, false) => format!("BASE_BACKUP LABEL {label} PROGRESS NOWAIT TABLESPACE_MAP"),
        (_, fast) => {
            let checkpoint = if fast { "fast" } else { "spread" };
            format!(
                "BASE_BACKUP (LABEL {label}, PROGRESS, CHECKPOINT '{checkpoint}', WAIT 0, TABLESPACE_MAP, MANIFEST 'no', TARGET 'client')"
            )
        }
    }
}

/// A position and its timeline.
fn position(rows: &[Cells]) -> Option<(Lsn, Timeline)> {
    let row = rows.first()?;
    Some((cell(row, 0)?.parse().ok()?, cell(row, 1)?.parse().ok()?))
}

/// A row of the list of archives: number, place, KiB.
fn space(row: &Cells) -> Option<Space> {
    let tablespace = match cell(row, 0) {
        Some(oid) => Some((oid.parse().ok()?, row.get(1)?.as_ref()?.to_vec())),
        None => None,
    };
    let kib: u64 = cell(row, 2).and_then(|size| size.parse().ok()).unwrap_or_default();
    Some(Space { tablespace, estimate: kib.saturating_mul(1024) })
}

/// What a message of a copy that holds all archives is.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// An archive begins: a tablespace's, by its number, or the data directory's.
    Archive(Option<u32>),
    Content(Bytes),
    Progress,
}

fn read_part(mut bytes: Bytes) -> Option<Piece> {
    let tag = *bytes.first()?;
    bytes.advance(1);
    match tag {
        b'd' => Some(Piece::Content(bytes)),
        b'p' => Some(Piece::Progress),
        b'n' => {
            let name = bytes.split(|byte| *byte == 0).next()?;
            match str::from_utf8(name).ok()?.strip_suffix(".tar")? {
                "base" => Some(Piece::Archive(None)),
                oid => oid.parse().ok().map(|oid| Piece::Archive(Some(oid))),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_one_that_the_version_reads() {
        let options = |fast| StartOptions { label: "it's".into(), fast };
        let of = |major, fast| statement(Major::new(major).unwrap(), &options(fast));
        assert_eq!(of(13, true), "BASE_BACKUP LABEL 'it''s' PROGRESS FAST NOWAIT TABLESPACE_MAP");
        assert_eq!(of(14, false), "BASE_BACKUP LABEL 'it''s' PROGRESS NOWAIT TABLESPACE_MAP");
        assert!(of(15, true).starts_with("BASE_BACKUP (LABEL 'it''s', PROGRESS, CHECKPOINT 'fast', WAIT 0,"));
        assert!(of(18, false).contains("CHECKPOINT 'spread'"));
    }

    #[test]
    fn a_message_says_what_it_is() {
        for (message, expected) in [
            (&b"nbase.tar\0\0"[..], Some(Piece::Archive(None))),
            (b"n16384.tar\0/space\0", Some(Piece::Archive(Some(16384)))),
            (b"n16384.tar", Some(Piece::Archive(Some(16384)))),
            (b"nbase.tar.gz\0\0", None),
            (b"nother.tar\0\0", None),
            (b"n", None),
            (b"dbytes", Some(Piece::Content(Bytes::from_static(b"bytes")))),
            (b"p\0\0\0\0\0\0\0\x07", Some(Piece::Progress)),
            (b"m", None),
            (b"", None),
        ] {
            assert_eq!(read_part(Bytes::from_static(message)), expected, "{message:?}");
        }
    }

    #[test]
    fn the_first_answer_is_read_and_nonsense_is_not() {
        let row = |cells: [Option<&'static str>; 3]| -> Cells {
            cells.map(|cell| cell.map(|text| Bytes::from_static(text.as_bytes()))).to_vec()
        };
        let place = Some((16384, b"/space".to_vec()));
        for (cells, expected) in [
            ([Some("16384"), Some("/space"), Some("8")], Some(Space { tablespace: place, estimate: 8192 })),
            ([None, None, Some("3")], Some(Space { tablespace: None, estimate: 3072 })),
            ([None, None, None], Some(Space { tablespace: None, estimate: 0 })),
            ([Some("x"), Some("/space"), None], None),
            ([Some("16384"), None, None], None),
        ] {
            assert_eq!(space(&row(cells)), expected);
        }
        let start = (Lsn(0x200_0028), Timeline::FIRST);
        assert_eq!(position(&[row([Some("0/2000028"), Some("1"), None])]), Some(start));
        assert_eq!(position(&[row([Some("0/2000028"), Some("0"), None])]), None);
        assert_eq!(position(&[]), None);
    }
}
