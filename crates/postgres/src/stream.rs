//! A backup that the server sends (`BASE_BACKUP`), for where its files cannot be read.
//!
//! ```text
//! start  IDENTIFY_SYSTEM: the same server? ▶ its clock ▶ BASE_BACKUP ▶ where it starts, which archives
//! next   tablespaces' archives ▶ pg_tblspc/OID/…, and the link itself  ┐
//!        the data directory's ▶ …                                      ├─▶ entries and contents, as a listing has them
//!        backup_label, tablespace_map, global/pg_control ▶ kept ───────┘
//! stop   where it ends ▶ label as begun? ▶ control file of this cluster? ▶ pg_control, tablespace_map, backup_label
//! ```
//!
//! **Invariants**
//! - What is stored is what `files` would have listed, under the same paths: a point taken in one way is a parent for one taken
//!   in the other.
//! - `backup_label` and `tablespace_map` are the server's, byte for byte. The control file comes last, as the server sends it.
//! - A connection that ends, a server that stops: an error, never a backup. There is no second session that could outlive it.
//! - What was a standby when it began is one when it ends, and the other way round: the label says what was copied, and the server
//!   itself gives up the backup of a standby that is promoted. What a standby does otherwise is told in [`crate::standby`].
//!
//! Dropped, or killed, at any point before the end: the connection closes and the server forgets the backup.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use strongroom_engine::{
    EngineError, LateFile, PageCheck, Sent, Session, StartOptions, Started, Stopped, StreamSession,
};
use strongroom_model::entry::{Entry, EntryKind, EntryPath, Owner, PathError};
use strongroom_model::{Cx, Lsn};

use crate::connect::{Client, connect};
use crate::conninfo::Conninfo;
use crate::control::{CONTROL_FILE, Control};
use crate::facts::{End, PostgresFacts, fitting_label, overtaken};
use crate::files::leaves_out;
use crate::inspect::{PostgresInspection, server_time};
use crate::label::TakenFrom;
use crate::read::Checksums;
use crate::refusal::SqlError;
use crate::replication::archives::{Archives, Received, Space};
use crate::replication::{Identity, Replication};
use crate::standby;
use crate::ustar::{Member, MemberKind, Members, Part, UstarError};

/// Files of the data directory that are stored last, in this order.
const LATE: [&str; 3] = [CONTROL_FILE, "tablespace_map", "backup_label"];

/// Longer than any of them: a tablespace takes a line of the map.
const LATE_LIMIT: usize = 4 << 20;

/// Has the server send itself. `warnings` were given before; `reason` says how it comes and why.
pub(crate) async fn start(
    cx: &Cx,
    conninfo: &Conninfo,
    (client, server): (&Client, PostgresInspection),
    (warnings, reason): (Vec<String>, String),
    options: &StartOptions,
) -> Result<Session, EngineError> {
    // The same one of several hosts.
    let conninfo = &conninfo.only(client.place());
    let mut replication = Replication::connect(conninfo).await?;
    let Identity { system_id, timeline, .. } = replication.identify().await?;
    // A standby is asked what it replays, and what it has on its disk: it may be about to follow a promotion.
    let is_same = server.in_recovery || timeline == server.timeline;
    if system_id != server.system_id || !is_same {
        let what = format!(
            "take a base backup from {}: it is system {system_id} on timeline {timeline}, and {} is system {} on timeline {}",
            replication.place(),
            client.place(),
            server.system_id,
            server.timeline
        );
        let hint =
            "name one server in the source's connection, or wait until its promotion is complete".into();
        return Err(EngineError::Unfit { what, hint });
    }
    let checksums = match server.data_checksums {
        true => Some(blocks_per_file(client).await?),
        false => None,
    };
    let at = server_time(client).await?;
    let replays = timeline.max(server.timeline);
    let (backup, (lsn, timeline)) = replication.send_archives(cx, server.major, options).await?;
    if server.in_recovery {
        standby::expect_no_switch(backup.place(), (timeline, replays))?;
    }
    expect_outside(backup.spaces(), &server)?;
    let started = Started { lineage: server.system_id, timeline, lsn, at };
    let checks = checksums
        .map(|blocks_per_file| Arc::new(Checksums { start: lsn, blocks_per_file }) as Arc<dyn PageCheck>);
    Ok(Session::Stream(Box::new(SentBackup {
        conninfo: conninfo.clone(),
        server,
        backup,
        started,
        reason,
        warnings,
        checks,
        archive: None,
        members: Members::default(),
        unread: Bytes::new(),
        taking: Taking::Nothing,
        ready: VecDeque::new(),
        late: Vec::new(),
    })))
}

/// How many blocks a relation has in a file before the next begins: the checksum of a page covers its number.
async fn blocks_per_file(client: &Client) -> Result<u32, SqlError> {
    const OPERATION: &str = "read the size of relations' files";
    const SQL: &str = "SELECT blocks_per_segment FROM pg_catalog.pg_control_init()";
    let row = client.row(OPERATION, SQL, &[]).await?;
    Ok(client.get::<i32>(OPERATION, &row, "blocks_per_segment")?.cast_unsigned())
}

/// Refuses tablespaces that a restore could not put back: within the data directory, or of no place of their own.
fn expect_outside(spaces: &[Space], server: &PostgresInspection) -> Result<(), EngineError> {
    for (oid, location) in spaces.iter().filter_map(|space| space.tablespace.as_ref()) {
        let shown = String::from_utf8_lossy(location);
        let path = Path::new(shown.as_ref());
        let is_inside = server.data_directory.as_ref().is_some_and(|folder| path.starts_with(folder));
        if is_inside || !path.is_absolute() {
            return Err(EngineError::Unfit {
                what: format!("take a base backup: tablespace {oid} at '{shown}' lies within the data directory"),
                hint: "move it with ALTER DATABASE or ALTER TABLE … SET TABLESPACE to a location outside, and drop it"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

/// What becomes of the content that comes.
enum Taking {
    /// There is none, or it is left out.
    Nothing,
    /// It is passed on.
    File,
    /// It is kept for the end.
    Late(Entry, BytesMut),
}

/// A backup being sent.
struct SentBackup {
    conninfo: Conninfo,
    server: PostgresInspection,
    backup: Archives,
    started: Started,
    reason: String,
    warnings: Vec<String>,
    checks: Option<Arc<dyn PageCheck>>,
    /// Whose archive is being read, and whether its link was passed on.
    archive: Option<(usize, bool)>,
    members: Members,
    /// What has come of it and was not looked at.
    unread: Bytes,
    taking: Taking,
    ready: VecDeque<Sent>,
    late: Vec<LateFile>,
}

#[async_trait::async_trait]
impl StreamSession for SentBackup {
    fn started(&self) -> &Started {
        &self.started
    }

    fn reason(&self) -> &str {
        &self.reason
    }

    fn is_of_standby(&self) -> bool {
        self.server.in_recovery
    }

    fn estimate(&self) -> u64 {
        self.backup.spaces().iter().map(|space| space.estimate).fold(0, u64::saturating_add)
    }

    fn checks(&self) -> Option<Arc<dyn PageCheck>> {
        self.checks.clone()
    }

    async fn next(&mut self, cx: &Cx) -> Result<Option<Sent>, EngineError> {
        loop {
            if let Some(sent) = self.ready.pop_front() {
                return Ok(Some(sent));
            }
            let part = self.members.next(&mut self.unread).map_err(|error| self.unreadable(&error))?;
            match part {
                Some(Part::Member(member)) => self.begin_member(member)?,
                Some(Part::Content(bytes)) => match &mut self.taking {
                    Taking::Nothing => {}
                    Taking::File => return Ok(Some(Sent::Content(bytes))),
                    Taking::Late(_, content) => content.extend_from_slice(&bytes),
                },
                None => match self.backup.next(cx).await? {
                    Some(Received::Content(bytes)) => self.unread = bytes,
                    Some(Received::Archive(space)) => {
                        self.end_archive()?;
                        self.archive = Some((space, false));
                    }
                    None => {
                        self.end_archive()?;
                        return Ok(None);
                    }
                },
            }
        }
    }

    async fn stop(self: Box<Self>, cx: &Cx, damaged_pages: u64) -> Result<Stopped, EngineError> {
        let SentBackup { conninfo, server, backup, started, mut warnings, mut late, .. } = *self;
        let (place, spaces) = (backup.place().to_owned(), backup.spaces().to_vec());
        let ended = backup.end(cx).await?;
        if let Some(said) = ended.corruption.filter(|_| damaged_pages == 0) {
            return Err(EngineError::Damaged {
                what: format!("take a base backup from {place}: {said}"),
                hint: "the server's log names the files".to_owned(),
            });
        }
        if ended.timeline != started.timeline {
            let (was, is) = (started.timeline, ended.timeline);
            return Err(overtaken(format!(
                "end the backup at {place}: it began on timeline {was} and ends on {is}"
            )));
        }
        late.sort_by_key(|file| LATE.iter().position(|path| file.entry.path.is(path)));
        let label = expect_late((&late, &spaces), &server, (&started, &place), ended.lsn)?;
        // The session of the beginning has been idle for as long as the copy took.
        let at = server_time(&connect(&conninfo).await?).await?;
        warnings.extend(ended.warnings);
        let data_directory =
            server.data_directory.as_ref().map(|folder| folder.display().to_string()).unwrap_or_default();
        let end = End { data_directory, label, lsn: ended.lsn, at, warnings };
        let facts = serde_json::json!(PostgresFacts::of(&server, &started, end));
        let lsn = match server.in_recovery {
            true => standby::needs(ended.lsn, server.segment_size),
            false => ended.lsn,
        };
        Ok(Stopped { lsn, timeline: started.timeline, at, late, facts })
    }
}

impl SentBackup {
    /// Begins a file, folder or link of the archive: passed on, kept, or left out.
    fn begin_member(&mut self, member: Member) -> Result<(), EngineError> {
        self.end_member()?;
        let (space, is_linked) =
            self.archive.ok_or_else(|| self.unexpected("files before any archive began"))?;
        let owner = Owner { uid: member.uid, gid: member.gid, user: member.user, group: member.group };
        let tablespace = self.backup.spaces().get(space).and_then(|space| space.tablespace.clone());
        let path = match &tablespace {
            Some((oid, _)) => [format!("pg_tblspc/{oid}/").as_bytes(), &member.name].concat(),
            None => member.name,
        };
        let kind = match member.kind {
            MemberKind::File(size) => EntryKind::File(size),
            MemberKind::Folder => EntryKind::Folder,
            MemberKind::Link(target) => EntryKind::Link(target),
        };
        let path = self.path(path)?;
        let entry = Entry { path, kind, mode: member.mode & 0o7777, owner, modified: member.modified };
        if let Some((oid, location)) = tablespace.filter(|_| !is_linked) {
            // The archive has no such member: it is in the map, from which recovery makes it.
            let path = self.path(format!("pg_tblspc/{oid}").into_bytes())?;
            let modified = self.started.at.unix_seconds();
            let link =
                Entry { path, kind: EntryKind::Link(location), mode: 0o777, modified, ..entry.clone() };
            self.ready.push_back(Sent::Entry(link));
            self.archive = Some((space, true));
        }
        let is_file = matches!(entry.kind, EntryKind::File(_));
        if is_file && LATE.iter().any(|late| entry.path.is(late)) {
            if entry.size() > LATE_LIMIT as u64 || self.late.iter().any(|late| late.entry.path == entry.path)
            {
                return Err(self.unexpected("a second label, map or control file, or one that is too long"));
            }
            self.taking = Taking::Late(entry, BytesMut::new());
        } else if !leaves_out(&entry.path, self.server.major) {
            self.taking = if is_file { Taking::File } else { Taking::Nothing };
            self.ready.push_back(Sent::Entry(entry));
        }
        Ok(())
    }

    /// Ends the member before, if there is one: what was kept of it is whole. The label comes before all else of the data
    /// directory, so that what it says is known before that is copied.
    fn end_member(&mut self) -> Result<(), EngineError> {
        if let Taking::Late(entry, content) = std::mem::replace(&mut self.taking, Taking::Nothing) {
            if entry.path.is("backup_label") {
                let (place, in_recovery) = (self.backup.place(), self.server.in_recovery);
                expect_label(&content, &self.started, (place, in_recovery))?;
            }
            // Of a cluster without tablespaces the map is sent all the same, empty.
            if !content.is_empty() {
                self.late.push(LateFile { entry, content: content.freeze() });
            }
        }
        Ok(())
    }

    /// Ends the archive before, if there is one: it must be whole.
    fn end_archive(&mut self) -> Result<(), EngineError> {
        self.end_member()?;
        let members = std::mem::take(&mut self.members);
        members.finish().map_err(|error| self.unreadable(&error))
    }

    fn path(&self, bytes: Vec<u8>) -> Result<EntryPath, EngineError> {
        EntryPath::new(bytes).map_err(|error: PathError| self.unexpected(&error.to_string()))
    }

    fn unreadable(&self, error: &UstarError) -> EngineError {
        self.unexpected(&error.to_string())
    }

    fn unexpected(&self, what: &str) -> EngineError {
        EngineError::Unreachable {
            what: format!("take a base backup from {}: {what}", self.backup.place()),
            hint: "is a proxy between strongroom and the server? connect to the server".to_owned(),
            source: None,
        }
    }
}

/// Whether the label is of what was begun, on a server that was a standby then, or was not.
fn expect_label(
    label: &[u8],
    started: &Started,
    (place, in_recovery): (&str, bool),
) -> Result<(), EngineError> {
    match (fitting_label(&String::from_utf8_lossy(label), started, place)?.taken_from, in_recovery) {
        (TakenFrom::Primary, false) | (TakenFrom::Standby, true) => Ok(()),
        (TakenFrom::Primary, true) => {
            Err(overtaken(format!("take a base backup from {place}: the server was promoted")))
        }
        (TakenFrom::Standby, false) => Err(EngineError::Unfit {
            what: format!(
                "take a base backup from {place}: it is a standby, and was the primary a moment ago"
            ),
            hint: "is a proxy between strongroom and the server? connect to the server".to_owned(),
        }),
    }
}

/// Whether the files without which nothing can be restored came, and are of what was begun; the label.
fn expect_late(
    (late, spaces): (&[LateFile], &[Space]),
    server: &PostgresInspection,
    (started, place): (&Started, &str),
    end: Lsn,
) -> Result<String, EngineError> {
    let content = |path: &str| {
        let found = late.iter().find(|file| file.entry.path.is(path)).map(|file| &file.content[..]);
        found.ok_or_else(|| overtaken(format!("end the backup at {place}: the server sent no {path}")))
    };
    let label = String::from_utf8_lossy(content("backup_label")?).into_owned();
    if spaces.iter().any(|space| space.tablespace.is_some()) {
        content("tablespace_map")?;
    }
    let control = Control::parse(content(CONTROL_FILE)?)
        .map_err(|error| overtaken(format!("end the backup at {place}: {error}")))?;
    if server.in_recovery {
        standby::ends(&control, (started.timeline, end)).map_err(overtaken)?;
    }
    let Control { system_id, redo, timeline, .. } = control;
    let expected = (server.system_id, started.timeline);
    if (system_id, timeline) != expected || redo < started.lsn {
        return Err(overtaken(format!(
            "end the backup at {place}: its control file is of system {system_id}, timeline {timeline} and {redo}, and not of what was begun"
        )));
    }
    Ok(label)
}
