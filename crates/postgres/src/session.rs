//! A physical backup: the server is told to begin, its files are copied by others, the server is told to end. Where its files
//! cannot be read, it sends them: [`crate::stream`].
//!
//! ```text
//! start   connect ▶ inspect ▶ fit? ▶ the folder is this server's? ▶ pg_backup_start ▶ still that? ▶ list
//!                                    └ not readable here: stream
//! changes is the earlier point of this history? ▶ summaries from its start to ours? ▶ what they name
//! check   the same session of the same server process, still what it was (primary or standby), on the same timeline
//! stop    check ▶ read pg_control ▶ pg_backup_stop ▶ label as begun? ▶ pg_control, tablespace_map, backup_label
//! ```
//!
//! What a standby does otherwise is told in [`crate::standby`].
//!
//! **Invariants**
//! - Begin and end are one session, not exclusive; a session lost in between is [`EngineError::Overtaken`], never a backup.
//! - `backup_label` and `tablespace_map` are the server's answer, byte for byte, and never come from its disk.
//! - The folder that is read is the server's own: the same system identifier is not enough (a standby or a clone has
//!   it too), so after the start's checkpoint its control file must say that it is in production and have reached that
//!   checkpoint. A standby's must say that it recovers, and hold a file that this session made.
//! - Times are the server's: what the user restores to is written in its WAL.
//!
//! Dropped, or killed, at any point before the end: the connection closes and the server forgets the backup.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strongroom_engine::{
    BackupSession, Changes, Engine, EngineError, Inspection, LateFile, Reader, Session, StartOptions,
    Started, Stopped,
};
use strongroom_model::entry::{Entry, EntryKind, EntryPath};
use strongroom_model::point::{JournalRange, PointFacts};
use strongroom_model::{Cx, Lsn, Timeline, Timestamp};

use crate::advice::grants;
use crate::changes::{Coverage, RecordedChanges, Stretch, coverage, read_all};
use crate::connect::{Client, connect};
use crate::conninfo::Conninfo;
use crate::control::{CONTROL_FILE, ClusterState, Control, ReadControlError, read_stable};
use crate::facts::{End, OWN_FOLDER, PostgresFacts, a_copy, fitting_label, overtaken};
use crate::files::list;
use crate::inspect::{Archiver, PostgresInspection, archiver, inspect, server_time, switch_wal};
use crate::quote::quoted_name;
use crate::read::{Checksums, FolderReader};
use crate::refusal::SqlError;
use crate::standby;
use crate::stream;
use crate::version::Major;
use crate::wal_summary::SummaryName;

/// A PostgreSQL cluster whose files can be read here, or that sends them.
#[derive(Debug)]
pub struct Physical {
    conninfo: Conninfo,
    data_directory: Option<PathBuf>,
    access: Access,
    primary: Option<Conninfo>,
}

/// How a cluster's files are had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// They are read here, by many threads at once.
    Files,
    /// The server sends them, over the replication protocol.
    Stream,
    /// They are read where they can be, and sent where not.
    #[default]
    Auto,
}

/// How a backup comes to its pages.
enum Way {
    /// From this folder.
    Files(PathBuf),
    /// From the server.
    Stream {
        /// How and why, for people.
        how: String,
        /// What would have its files read, where that is what they would be if they could.
        instead: Option<String>,
    },
}

/// How pages come that are not read from files.
const SENT: &str = "over the replication protocol";

impl Physical {
    /// The cluster behind `conninfo`. `data_directory` says where its files are, if the role may not see that or they
    /// are mounted elsewhere here.
    pub fn new(conninfo: Conninfo, data_directory: Option<PathBuf>, access: Access) -> Physical {
        Physical { conninfo, data_directory, access, primary: None }
    }

    /// Where the primary is while the cluster's server is a standby: that completes no WAL segment itself.
    pub fn with_primary(self, primary: Option<Conninfo>) -> Physical {
        Physical { primary, ..self }
    }

    /// How to connect to the primary, if that was said.
    pub fn primary(&self) -> Option<&Conninfo> {
        self.primary.as_ref()
    }

    /// How to connect to it.
    pub fn conninfo(&self) -> &Conninfo {
        &self.conninfo
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Client, EngineError> {
        Ok(connect(&self.conninfo).await?)
    }

    /// How the server's archiving fares.
    pub async fn archiver(&self) -> Result<Archiver, EngineError> {
        Ok(archiver(&self.connect().await?).await?)
    }

    fn folder(&self, server: &PostgresInspection) -> Result<PathBuf, EngineError> {
        self.data_directory.clone().or_else(|| server.data_directory.clone()).ok_or_else(|| {
            EngineError::Unfit {
                what: format!("find the data directory: role {} may not see where it is", server.rights.role),
                hint: format!(
                    "GRANT pg_read_all_settings TO {}; or set data_directory in strongroom.toml",
                    quoted_name(&server.rights.role)
                ),
            }
        })
    }

    /// Whether the files are read here, and where; or else why not.
    async fn way(&self, server: &PostgresInspection) -> Result<Way, EngineError> {
        match self.access {
            Access::Files => {
                may_begin(server)?;
                self.folder(server).map(Way::Files)
            }
            Access::Stream => Ok(Way::Stream { how: SENT.to_owned(), instead: None }),
            Access::Auto => match self.own_folder(server).await {
                Ok(folder) => may_begin(server).map(|()| Way::Files(folder)),
                Err(EngineError::Unfit { what, hint }) => {
                    let how = format!("{SENT}: the data directory is not readable here ({what})");
                    Ok(Way::Stream { how, instead: Some(hint) })
                }
                Err(error) => Err(error),
            },
        }
    }

    /// The data directory, if it can be read here and seems to be this server's own: the proof comes later.
    async fn own_folder(&self, server: &PostgresInspection) -> Result<PathBuf, EngineError> {
        let folder = self.folder(server)?;
        match belongs(&folder, server, None).await? {
            (Control { state, .. }, _) if state == running(server) => Ok(folder),
            _ => Err(a_copy(&folder)),
        }
    }

    /// How a backup would come to the server's pages: for people.
    pub async fn describe_way(&self, cx: &Cx) -> Result<String, EngineError> {
        let server = inspect(cx, &self.connect().await?).await?;
        fitness(&server)?;
        Ok(match self.way(&server).await? {
            Way::Files(folder) => format!("from the files in {}", folder.display()),
            Way::Stream { how, .. } => how,
        })
    }
}

/// A refusal of what was not asked for says what would do instead, too.
fn or_instead(error: EngineError, instead: Option<String>) -> EngineError {
    match (error, instead) {
        (EngineError::Unfit { what, hint }, Some(instead)) => {
            EngineError::Unfit { what, hint: format!("{hint} Or, to read its files here: {instead}") }
        }
        (error, _) => error,
    }
}

#[async_trait::async_trait]
impl Engine for Physical {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn inspect(&self, cx: &Cx) -> Result<Inspection, EngineError> {
        let client = self.connect().await?;
        Ok(inspect(cx, &client).await?.to_port())
    }

    async fn start(&self, cx: &Cx, options: &StartOptions) -> Result<Session, EngineError> {
        let client = self.connect().await?;
        let server = inspect(cx, &client).await?;
        let warnings = fitness(&server)?;
        match self.way(&server).await? {
            Way::Files(folder) => start_files(cx, (client, server), (folder, warnings), options).await,
            Way::Stream { how, instead } => {
                let warnings = [warnings, not_archived(&server)].concat();
                let starting = stream::start(cx, &self.conninfo, (&client, server), (warnings, how), options);
                starting.await.map_err(|error| or_instead(error, instead))
            }
        }
    }

    async fn nudge_journal(&self, cx: &Cx) -> Result<(), EngineError> {
        let client = self.connect().await?;
        let server = inspect(cx, &client).await?;
        if server.in_recovery {
            let Some(primary) = &self.primary else { return Ok(()) };
            if let Err(error) = standby::complete_segment(cx, primary, &server).await {
                // It may come without: of itself, by archive_timeout.
                tracing::warn!("the open WAL segment is waited for: {error}");
            }
            return Ok(());
        }
        match switch_wal(&client).await {
            Ok(_) => Ok(()),
            // The end of a backup completes its segment anyway; the right is a help, not a need.
            Err(SqlError::Denied { said, .. }) => {
                tracing::warn!("the open WAL segment is waited for: {said}");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn journal_trouble(&self, cx: &Cx) -> Option<String> {
        let asked = async { Ok::<_, EngineError>(inspect(cx, &self.connect().await?).await?) };
        match asked.await {
            Ok(server) if server.in_recovery => {
                Some(standby::trouble(cx, self.primary.as_ref(), &server).await)
            }
            Ok(server) => server.archiver.trouble(),
            Err(error) => Some(format!("the server does not say how archiving fares: {error}")),
        }
    }
}

/// Begins a backup whose files are read in this folder.
async fn start_files(
    cx: &Cx,
    (client, server): (Client, PostgresInspection),
    (folder, mut warnings): (PathBuf, Vec<String>),
    options: &StartOptions,
) -> Result<Session, EngineError> {
    belongs(&folder, &server, None).await?;
    let at = server_time(&client).await?;
    let lsn = match begin(cx, &client, server.major, options).await {
        Err(error) if server.in_recovery => return Err(standby::no_begin(error)),
        begun => begun?,
    };
    let identity = Identity::of(&client).await?;
    let started = Started { lineage: server.system_id, timeline: identity.timeline, lsn, at };
    if identity.in_recovery != server.in_recovery {
        return Err(overtaken(format!("start a backup at {}: the server was promoted", client.place())));
    }
    if identity.in_recovery {
        standby::prove_own(&client, &folder).await?;
    }
    let (control, _) = belongs(&folder, &server, Some(&started)).await?;
    let (root, major) = (folder.clone(), server.major);
    let listing = off_the_runtime(move || list(&root, major)).await?;
    warnings.extend(listing.notes.iter().map(ToString::to_string));
    let entries: Arc<[Entry]> = listing.entries.into();
    let blocks_per_file = control.blocks_per_file;
    let checksums = server.data_checksums.then_some(Checksums { start: lsn, blocks_per_file });
    let reader = Arc::new(FolderReader::new(folder.clone(), entries.clone(), checksums));
    Ok(Session::Files(Box::new(PhysicalSession {
        client,
        server,
        folder,
        identity,
        started,
        blocks_per_file,
        warnings,
        entries,
        reader,
    })))
}

/// Whether the server can be backed up at all; what is amiss without standing in the way.
fn fitness(server: &PostgresInspection) -> Result<Vec<String>, EngineError> {
    if server.block_size != 8192 {
        let hint = "Strongroom reads clusters with pages of 8192 bytes only".to_owned();
        return unfit(&format!("the server's pages have {} bytes", server.block_size), hint);
    }
    // A standby writes no WAL: what its own settings say of it counts once it is promoted.
    let writes = !server.in_recovery;
    if writes && server.setting("wal_level") == Some("minimal") {
        return unfit("wal_level is minimal, so the WAL leaves out what a restore needs", DOCTOR.to_owned());
    }
    let mut warnings = Vec::new();
    if writes && server.is_off("full_page_writes") {
        warnings.push("full_page_writes is off: the server switches it on while the backup runs".to_owned());
    }
    if server.is_off("fsync") {
        warnings.push("fsync is off: a crash of the host can damage the cluster beyond repair".to_owned());
    }
    Ok(warnings)
}

/// Whether this role may begin and end a backup, and its WAL is shipped.
fn may_begin(server: &PostgresInspection) -> Result<(), EngineError> {
    let rights = &server.rights;
    if !(rights.backup_start && rights.backup_stop) {
        let grants = grants(server.major, &rights.role).join(" ");
        let hint = format!("as a superuser in database {}: {grants}", quoted_name(&rights.database));
        return unfit(&format!("role {} may not begin and end backups", rights.role), hint);
    }
    if !server.in_recovery && server.is_off("archive_mode") {
        let what = "archive_mode is off, so the WAL that the copy needs is not shipped";
        return unfit(what, DOCTOR.to_owned());
    }
    Ok(())
}

/// Where files cannot be read, no archive_command of ours may run either: WAL is received then.
fn not_archived(server: &PostgresInspection) -> Vec<String> {
    let warning = "archive_mode is off: WAL reaches the vault only while `strongroom wal receive` runs";
    // A standby's WAL is its primary's to ship.
    (!server.in_recovery && server.is_off("archive_mode")).then(|| warning.to_owned()).into_iter().collect()
}

const DOCTOR: &str = "run `strongroom doctor --fix`, then restart the server";

fn unfit<T>(what: &str, hint: String) -> Result<T, EngineError> {
    Err(EngineError::Unfit { what: format!("start a backup: {what}"), hint })
}

/// Whether the folder is the server's own, and its control file. Once a backup has `begun` there is proof: its checkpoint
/// is in the control file of the server that made it, and no other server is in production with the same history. Of
/// standbys there may be many: [`standby::prove_own`].
async fn belongs(
    folder: &Path,
    server: &PostgresInspection,
    begun: Option<&Started>,
) -> Result<(Control, Vec<u8>), EngineError> {
    let path = folder.join(CONTROL_FILE);
    let (control, bytes) =
        off_the_runtime(move || read_stable(&path)).await.map_err(|error| unreadable(folder, error))?;
    let place = folder.display();
    if control.system_id != server.system_id {
        let (theirs, ours) = (control.system_id, server.system_id);
        let what = format!(
            "read {place}: it is another cluster's (system identifier {theirs}, the server's is {ours})"
        );
        return Err(EngineError::Unfit { what, hint: OWN_FOLDER.to_owned() });
    }
    let running = running(server);
    let own = |begun: &Started| {
        let Control { state, redo, timeline, .. } = &control;
        *state == running && *redo >= begun.lsn && *timeline == begun.timeline
    };
    if begun.is_some_and(|begun| !own(begun)) {
        return Err(a_copy(folder));
    }
    Ok((control, bytes))
}

/// What the control file of this server says of it while it runs.
fn running(server: &PostgresInspection) -> ClusterState {
    match server.in_recovery {
        true => ClusterState::ArchiveRecovery,
        false => ClusterState::InProduction,
    }
}

fn unreadable(folder: &Path, error: ReadControlError) -> EngineError {
    let ReadControlError::Io { source, .. } = &error else { return error.into() };
    let hint = match source.kind() {
        ErrorKind::PermissionDenied => {
            "run strongroom as the system user that runs the server (often postgres)"
        }
        ErrorKind::NotFound => {
            "is the server on this host? set data_directory in strongroom.toml to where its files are"
        }
        _ => return error.into(),
    };
    EngineError::Unfit {
        what: format!("read the data directory {}: {source}", folder.display()),
        hint: hint.to_owned(),
    }
}

/// Runs what reads files where it holds up nobody.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Its panic is ours; it is never cancelled while someone waits for it.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Tells the server to begin; where replay will begin. Waits for a checkpoint, which may take long if it is not `fast`.
async fn begin(cx: &Cx, client: &Client, major: Major, options: &StartOptions) -> Result<Lsn, SqlError> {
    const OPERATION: &str = "begin the backup";
    let sql = match major.number() {
        ..15 => "SELECT pg_catalog.pg_start_backup($1, $2, false)::pg_catalog.text AS lsn",
        _ => "SELECT pg_catalog.pg_backup_start($1, $2)::pg_catalog.text AS lsn",
    };
    let row = client.long_row(cx, OPERATION, sql, &[&options.label, &options.fast]).await?;
    parse_lsn(client, OPERATION, &client.get::<String>(OPERATION, &row, "lsn")?)
}

/// What the server's answer to the end of a backup holds.
struct Ended {
    lsn: Lsn,
    label: String,
    tablespace_map: String,
    at: Timestamp,
}

/// Tells the server to end, without waiting for its archiver: the vault is asked for the WAL, not the server. A standby's
/// clock may be behind the primary's, which is in the WAL: the end is not before the last commit that was replayed.
async fn end(cx: &Cx, client: &Client, major: Major) -> Result<Ended, SqlError> {
    const OPERATION: &str = "end the backup";
    let call = match major.number() {
        ..15 => "pg_catalog.pg_stop_backup(false, false)",
        _ => "pg_catalog.pg_backup_stop(false)",
    };
    let sql = format!(
        "SELECT lsn::pg_catalog.text AS lsn, labelfile, spcmapfile, \
         (pg_catalog.date_part('epoch', GREATEST(pg_catalog.clock_timestamp(), \
          pg_catalog.pg_last_xact_replay_timestamp())) * 1000000)::pg_catalog.int8 AS at FROM {call}"
    );
    let row = client.long_row(cx, OPERATION, &sql, &[]).await?;
    let at = Timestamp::from_unix_micros(client.get(OPERATION, &row, "at")?);
    Ok(Ended {
        lsn: parse_lsn(client, OPERATION, &client.get::<String>(OPERATION, &row, "lsn")?)?,
        label: client.get(OPERATION, &row, "labelfile")?,
        tablespace_map: client.get::<Option<String>>(OPERATION, &row, "spcmapfile")?.unwrap_or_default(),
        at: at.ok_or_else(|| client.unreadable(OPERATION, "the server's clock is out of range".into()))?,
    })
}

fn parse_lsn(client: &Client, operation: &'static str, text: &str) -> Result<Lsn, SqlError> {
    text.parse().map_err(|error: strongroom_model::position::PositionError| {
        client.unreadable(operation, error.into())
    })
}

/// What must not change between begin and end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    /// The server process of this session: behind a pooler it may become another one.
    backend: i32,
    /// When the server was started, microseconds since 1970.
    started: i64,
    in_recovery: bool,
    /// The timeline it writes (primary) or has on disk (standby).
    timeline: Timeline,
}

impl Identity {
    async fn of(client: &Client) -> Result<Identity, SqlError> {
        const OPERATION: &str = "check the backup's session";
        const SQL: &str = "\
SELECT pg_catalog.pg_backend_pid() AS backend, pg_catalog.pg_is_in_recovery() AS in_recovery,
       (pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8 AS started,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL
            ELSE pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) END AS writes,
       GREATEST(c.timeline_id, r.min_recovery_end_timeline) AS replays
  FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r";
        let row = client.row(OPERATION, SQL, &[]).await?;
        let timeline = match client.get::<Option<String>>(OPERATION, &row, "writes")? {
            Some(digits) => u32::from_str_radix(&digits, 16).ok(),
            None => u32::try_from(client.get::<i32>(OPERATION, &row, "replays")?).ok(),
        };
        let timeline = timeline.and_then(Timeline::new);
        Ok(Identity {
            backend: client.get(OPERATION, &row, "backend")?,
            started: client.get(OPERATION, &row, "started")?,
            in_recovery: client.get(OPERATION, &row, "in_recovery")?,
            timeline: timeline
                .ok_or_else(|| client.unreadable(OPERATION, "the server is on no timeline".into()))?,
        })
    }
}

/// A backup under way.
struct PhysicalSession {
    client: Client,
    server: PostgresInspection,
    folder: PathBuf,
    identity: Identity,
    started: Started,
    blocks_per_file: u32,
    warnings: Vec<String>,
    entries: Arc<[Entry]>,
    reader: Arc<dyn Reader>,
}

/// A question that the session must be able to answer: if it cannot, the backup is lost.
fn lost(error: SqlError) -> EngineError {
    // 55000: the server knows of no backup in this session; something else ended it.
    let no_backup = matches!(&error, SqlError::Refused { code, .. } if code == "55000");
    if error.is_end_of_session() || no_backup { overtaken(error.to_string()) } else { error.into() }
}

#[async_trait::async_trait]
impl BackupSession for PhysicalSession {
    fn started(&self) -> &Started {
        &self.started
    }

    fn is_of_standby(&self) -> bool {
        self.identity.in_recovery
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.reader.clone()
    }

    async fn changes_since(&mut self, cx: &Cx, earlier: &PointFacts) -> Result<Changes, EngineError> {
        let journal = match self.is_of_this_history(earlier) {
            Ok(journal) => journal,
            Err(why) => return Ok(Changes::Unrecorded(why)),
        };
        let stretch =
            Stretch { timeline: self.started.timeline, start: journal.start, end: self.started.lsn };
        let names = match self.await_summaries(cx, stretch).await? {
            Ok(names) => names,
            Err(why) => return Ok(Changes::Unrecorded(why)),
        };
        let folder = self.summaries();
        let blocks = match off_the_runtime(move || read_all(&folder, &names)).await {
            Ok(blocks) => blocks,
            Err(error) => return Ok(Changes::Unrecorded(error.to_string())),
        };
        Ok(Changes::Recorded(Arc::new(RecordedChanges {
            blocks,
            entries: self.entries.clone(),
            blocks_per_file: self.blocks_per_file,
            stretch,
            hint_bits_are_logged: self.server.data_checksums,
        })))
    }

    async fn check(&mut self) -> Result<(), EngineError> {
        let now = Identity::of(&self.client).await.map_err(lost)?;
        if now == self.identity {
            return Ok(());
        }
        let place = self.client.place();
        Err(overtaken(format!(
            "check the backup's session at {place}: it is not the one that began (was {:?}, is {now:?})",
            self.identity
        )))
    }

    async fn stop(mut self: Box<Self>, cx: &Cx) -> Result<Stopped, EngineError> {
        self.check().await?;
        // Read after all other files and before the end, so that WAL up to the end covers it too.
        let (control, bytes) = belongs(&self.folder, &self.server, Some(&self.started)).await?;
        let ended = end(cx, &self.client, self.server.major).await.map_err(lost)?;
        fitting_label(&ended.label, &self.started, self.client.place())?;
        let mut needed = ended.lsn;
        if self.identity.in_recovery {
            standby::ends(&control, (self.started.timeline, ended.lsn)).map_err(overtaken)?;
            self.check().await?;
            needed = standby::needs(ended.lsn, self.server.segment_size);
        }
        let mut late = vec![self.late(CONTROL_FILE, bytes.into(), ended.at)?];
        if !ended.tablespace_map.is_empty() {
            late.push(self.late("tablespace_map", ended.tablespace_map.clone().into(), ended.at)?);
        }
        late.push(self.late("backup_label", ended.label.clone().into(), ended.at)?);
        let timeline = self.started.timeline;
        let data_directory = self.folder.display().to_string();
        let Ended { lsn, label, at, .. } = ended;
        let end = End { data_directory, label, lsn, at, warnings: self.warnings };
        let facts = serde_json::json!(PostgresFacts::of(&self.server, &self.started, end));
        Ok(Stopped { lsn: needed, timeline, at, late, facts })
    }
}

/// How long the server may take to summarise its WAL up to the checkpoint of a backup's start, and how long apart it is
/// looked whether it has. Its summariser sleeps for up to 30 s when there was nothing to do.
const SUMMARY_PATIENCE: Duration = Duration::from_secs(45);
const SUMMARY_PAUSE: Duration = Duration::from_millis(50);

impl PhysicalSession {
    fn summaries(&self) -> PathBuf {
        self.folder.join("pg_wal/summaries")
    }

    /// Whether this server, as it is now, goes on from where that point ended, and keeps a record that can be believed: then
    /// that point's stretch of WAL. Why not, if not.
    fn is_of_this_history(&self, earlier: &PointFacts) -> Result<JournalRange, String> {
        let (server, started) = (&self.server, &self.started);
        let Some(journal) = earlier.journal else {
            return Err(format!("{} is a dump", earlier.point));
        };
        if self.identity.in_recovery {
            return Err("a standby's record of changes is not believed".to_owned());
        }
        // Its pages may differ from the primary's in what no WAL tells, such as hint bits.
        if earlier.from_standby {
            return Err(format!("{} was taken from a standby", earlier.point));
        }
        let facts: PostgresFacts = serde_json::from_value(earlier.engine_facts.clone())
            .map_err(|why| format!("the facts of {} do not read: {why}", earlier.point))?;
        for version_num in [facts.version_num, server.version_num] {
            if !server.major.believes_summaries(version_num) {
                let (major, minor) = (version_num / 10_000, version_num % 10_000);
                return Err(format!(
                    "PostgreSQL {major}.{minor} keeps no record of changes that is believed"
                ));
            }
        }
        if server.setting("summarize_wal") != Some("on") {
            return Err("summarize_wal is off".to_owned());
        }
        if journal.timeline != started.timeline {
            let (then, now) = (journal.timeline, started.timeline);
            return Err(format!(
                "{} is of timeline {then}, and the server is on {now}: it was promoted or restored since",
                earlier.point
            ));
        }
        if facts.data_checksums != server.data_checksums {
            return Err(format!("page checksums were switched on or off after {}", earlier.point));
        }
        if journal.stop > started.lsn {
            let (stop, start) = (journal.stop, started.lsn);
            return Err(format!(
                "{} ends at {stop}, which is after this backup's start at {start}",
                earlier.point
            ));
        }
        Ok(journal)
    }

    /// Waits until the server has summarised the stretch. Why it is not summarised, if it will not be.
    #[allow(
        clippy::disallowed_methods,
        reason = "the summariser announces nothing: its folder is looked into until a time limit"
    )]
    async fn await_summaries(
        &self,
        cx: &Cx,
        stretch: Stretch,
    ) -> Result<Result<Vec<SummaryName>, String>, EngineError> {
        cx.progress.begin("waiting for WAL summaries", 0);
        let began = tokio::time::Instant::now();
        loop {
            cx.check()?;
            let folder = self.summaries();
            match off_the_runtime(move || coverage(&folder, stretch)).await {
                Err(error) => return Ok(Err(error.to_string())),
                Ok(Coverage::Whole(names)) => return Ok(Ok(names)),
                Ok(Coverage::Broken { from, to }) => {
                    return Ok(Err(format!("there are no WAL summaries from {from} to {to}")));
                }
                Ok(Coverage::Until(at)) if began.elapsed() > SUMMARY_PATIENCE => {
                    let waited = SUMMARY_PATIENCE.as_secs();
                    return Ok(Err(format!(
                        "WAL summaries end at {at} and not at {}, after {waited} s",
                        stretch.end
                    )));
                }
                Ok(Coverage::Until(_)) => tokio::time::sleep(SUMMARY_PAUSE).await,
            }
        }
    }

    /// A file to be stored last, of the owner of the data directory.
    fn late(&self, path: &str, content: Bytes, at: Timestamp) -> Result<LateFile, EngineError> {
        let owner =
            self.entries().iter().find(|entry| entry.path.is("global")).map(|entry| entry.owner.clone());
        let owner = owner.ok_or_else(|| EngineError::Unfit {
            what: format!("list {}: it has no folder 'global'", self.folder.display()),
            hint: "is this the server's data directory?".to_owned(),
        })?;
        let path = EntryPath::new(path).map_err(|error| EngineError::Unfit {
            what: error.to_string(),
            hint: "this is a mistake in strongroom".to_owned(),
        })?;
        let kind = EntryKind::File(content.len() as u64);
        let entry = Entry { path, kind, mode: 0o600, owner, modified: at.unix_seconds() };
        Ok(LateFile { entry, content })
    }
}
