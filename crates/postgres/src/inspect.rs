//! What the server is, as it says itself: version, identity, settings, rights, and how its archiving fares.
//!
//! Asks only what any role may ask; what takes more (`data_directory`, `archive_command`) is `None` when the role may
//! not see it, and [`crate::advice`] says which right is missing. Nothing is read from the server's disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strongroom_engine::{EngineError, Inspection};
use strongroom_model::{Cx, Lsn, SegmentSize, SystemId, Timeline, Timestamp};
use tokio_postgres::Row;

use crate::connect::Client;
use crate::refusal::SqlError;
use crate::version::Major;

/// Why a server could not be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A question had no answer.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Older or newer than Strongroom knows.
    #[error("inspect the server at {place}: PostgreSQL {version} is none of the versions Strongroom knows")]
    UnknownVersion {
        /// Where.
        place: String,
        /// As the server says.
        version: String,
    },
}

impl From<InspectError> for EngineError {
    fn from(error: InspectError) -> EngineError {
        match error {
            InspectError::Sql(error) => error.into(),
            InspectError::UnknownVersion { .. } => {
                let known: Vec<String> = Major::all().map(|major| major.to_string()).collect();
                EngineError::Unfit {
                    what: error.to_string(),
                    hint: format!("it knows the major versions {}", known.join(", ")),
                }
            }
        }
    }
}

/// A setting of the server, as `pg_settings` shows it to this session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its value, in `unit` if it has one.
    pub value: String,
    /// `s`, `ms`, `8kB`…
    pub unit: Option<String>,
    /// Where the value comes from: `default`, `configuration file`, `command line`…
    pub source: String,
    /// A new value is written down and takes effect at the next restart.
    pub pending_restart: bool,
}

/// A tablespace besides the two every cluster has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Names its link in `pg_tblspc`.
    pub oid: u32,
    /// What people call it.
    pub name: String,
    /// Where it is, on the server's host. Empty for one made in place (`allow_in_place_tablespaces`).
    pub location: String,
}

/// What the role may do, each function in the database connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The role in force.
    pub role: String,
    /// The database connected to: the right to call a function is given in each database on its own.
    pub database: String,
    /// May do everything.
    pub superuser: bool,
    /// May begin a backup.
    pub backup_start: bool,
    /// May end a backup.
    pub backup_stop: bool,
    /// May complete the WAL segment being written.
    pub switch_wal: bool,
    /// May name a place in the WAL.
    pub create_restore_point: bool,
    /// May see every setting (`pg_read_all_settings`).
    pub read_all_settings: bool,
}

/// How the server's archiving fares: its row of `pg_stat_archiver`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archiver {
    /// Files archived since the statistics were reset.
    pub archived_count: i64,
    /// The last file archived.
    pub last_archived_wal: Option<String>,
    /// And when, by the server's clock.
    pub last_archived_at: Option<Timestamp>,
    /// Failed attempts since the statistics were reset.
    pub failed_count: i64,
    /// The last file of which an attempt failed.
    pub last_failed_wal: Option<String>,
    /// And when, by the server's clock.
    pub last_failed_at: Option<Timestamp>,
}

impl Archiver {
    /// Whether the latest attempt failed.
    pub fn is_failing(&self) -> bool {
        self.last_failed_at.is_some() && self.last_failed_at > self.last_archived_at
    }

    /// Why WAL does not arrive, as far as the server knows.
    pub fn trouble(&self) -> Option<String> {
        let last = self.last_archived_wal.as_deref().unwrap_or("none");
        match &self.last_failed_wal {
            Some(failed) if self.is_failing() => Some(format!(
                "archive_command fails for {failed} ({} failures; last archived: {last}): see the server's log",
                self.failed_count
            )),
            _ if self.last_archived_wal.is_none() => {
                Some("the server has archived nothing so far: is archive_command Strongroom's?".to_owned())
            }
            _ => None,
        }
    }
}

/// Everything asked of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresInspection {
    /// 15 of 15.4.
    pub major: Major,
    /// `server_version_num`: 150004 is 15.4.
    pub version_num: u32,
    /// `server_version`, with what the packager added: `15.4 (Debian 15.4-1)`.
    pub version: String,
    /// Names the lineage.
    pub system_id: SystemId,
    /// Version of the catalogs' layout, part of the folder names in tablespaces.
    pub catalog_version: u32,
    /// Whether it is a standby, or still recovering.
    pub in_recovery: bool,
    /// The timeline it writes (primary) or replays (standby).
    pub timeline: Timeline,
    /// Size of its WAL segments.
    pub segment_size: SegmentSize,
    /// Size of its pages, bytes.
    pub block_size: u32,
    /// Whether its pages carry checksums.
    pub data_checksums: bool,
    /// Where its files are, on its host; `None` if the role may not see it.
    pub data_directory: Option<PathBuf>,
    /// Its tablespaces besides `pg_default` and `pg_global`.
    pub tablespaces: Vec<Tablespace>,
    /// Names of its databases, by number.
    pub databases: BTreeMap<u32, String>,
    /// The settings in [`SETTINGS`] that exist in this version and that the role may see.
    pub settings: BTreeMap<String, Setting>,
    /// What the role may do.
    pub rights: Rights,
    /// How archiving fares.
    pub archiver: Archiver,
    /// When the server process was started, by its clock.
    pub started_at: Timestamp,
    /// The server's clock while it was asked.
    pub server_time: Timestamp,
    /// How far the server's clock is ahead of ours, in milliseconds (half the question's travel time exact).
    pub clock_ahead_ms: i64,
}

/// The settings that matter to backups.
pub const SETTINGS: [&str; 22] = [
    "archive_command",
    "archive_library",
    "archive_mode",
    "archive_timeout",
    "config_file",
    "data_directory",
    "fsync",
    "full_page_writes",
    "hot_standby",
    "log_timezone",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "summarize_wal",
    "synchronous_commit",
    "TimeZone",
    "wal_compression",
    "wal_keep_size",
    "wal_level",
    "wal_log_hints",
];

impl PostgresInspection {
    /// A setting's value, if the version has it and the role may see it.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|setting| setting.value.as_str())
    }

    /// Whether a boolean setting is known to be off.
    pub fn is_off(&self, name: &str) -> bool {
        self.setting(name) == Some("off")
    }

    /// As the engine's port has it.
    pub fn to_port(&self) -> Inspection {
        Inspection {
            product: format!("PostgreSQL {}", self.version),
            lineage: self.system_id,
            timeline: self.timeline,
            segment_size: self.segment_size,
            time_zone: self.setting("TimeZone").unwrap_or("UTC").to_owned(),
            facts: serde_json::json!(self),
        }
    }
}

const OPERATION: &str = "inspect the server";

/// `pg_control_*` say what the control file says; any role may call them. `pg_walfile_name` carries the timeline being
/// written, while the control file's is the last checkpoint's: after a promotion that lags behind for a while.
/// A standby's own is where it has to have been replayed to, if that is further.
const IDENTITY: &str = "\
SELECT s.system_identifier, s.catalog_version_no, i.database_block_size, i.bytes_per_wal_segment,
       i.data_page_checksum_version, pg_catalog.pg_is_in_recovery() AS in_recovery,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL
            ELSE pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) END AS writes,
       GREATEST(c.timeline_id, r.min_recovery_end_timeline) AS replays,
       (pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8 AS started
  FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_init() i,
       pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r";

const RIGHTS: &str = "\
SELECT current_user::pg_catalog.text AS role, pg_catalog.current_database()::pg_catalog.text AS database,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser,
       pg_catalog.has_function_privilege($1, 'EXECUTE') AS backup_start,
       pg_catalog.has_function_privilege($2, 'EXECUTE') AS backup_stop,
       pg_catalog.has_function_privilege('pg_catalog.pg_switch_wal()', 'EXECUTE') AS switch_wal,
       pg_catalog.has_function_privilege('pg_catalog.pg_create_restore_point(text)', 'EXECUTE') AS restore_point,
       pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE') AS read_all_settings";

/// Microseconds since 1970 of the two times, so that no time zone or date style comes in between.
const ARCHIVER: &str = "\
SELECT archived_count, last_archived_wal, failed_count, last_failed_wal,
       (pg_catalog.date_part('epoch', last_archived_time) * 1000000)::pg_catalog.int8 AS archived_at,
       (pg_catalog.date_part('epoch', last_failed_time) * 1000000)::pg_catalog.int8 AS failed_at
  FROM pg_catalog.pg_stat_archiver";

/// The functions that begin and end a backup, as this major version has them.
pub fn backup_functions(major: Major) -> (&'static str, &'static str) {
    match major.number() {
        ..15 => (
            "pg_catalog.pg_start_backup(text, boolean, boolean)",
            "pg_catalog.pg_stop_backup(boolean, boolean)",
        ),
        _ => ("pg_catalog.pg_backup_start(text, boolean)", "pg_catalog.pg_backup_stop(boolean)"),
    }
}

/// Asks the server what it is.
pub async fn inspect(cx: &Cx, client: &Client) -> Result<PostgresInspection, InspectError> {
    let (major, version_num, version) = version(client).await?;
    let row = client.row(OPERATION, IDENTITY, &[]).await?;
    let get = Cells { client, row: &row };
    let in_recovery: bool = get.of("in_recovery")?;
    let writes: Option<String> = get.of("writes")?;
    let timeline = match writes {
        Some(digits) => u32::from_str_radix(&digits, 16).ok(),
        None => u32::try_from(get.of::<i32>("replays")?).ok(),
    };
    let (server_time, clock_ahead_ms) = clocks(cx, client).await?;
    let settings = settings(client).await?;
    Ok(PostgresInspection {
        major,
        version_num,
        version,
        // The server shows the 64 bits as a signed number.
        system_id: SystemId(get.of::<i64>("system_identifier")?.cast_unsigned()),
        catalog_version: get.of::<i32>("catalog_version_no")?.cast_unsigned(),
        in_recovery,
        timeline: get.sensible(timeline.and_then(Timeline::new), "the timeline")?,
        segment_size: get.sensible(segment_size(get.of("bytes_per_wal_segment")?), "the segment size")?,
        block_size: get.of::<i32>("database_block_size")?.cast_unsigned(),
        data_checksums: get.of::<i32>("data_page_checksum_version")? != 0,
        data_directory: settings.get("data_directory").map(|setting| PathBuf::from(&setting.value)),
        tablespaces: tablespaces(client).await?,
        databases: databases(client).await?,
        settings,
        rights: rights(client, major).await?,
        archiver: archiver(client).await?,
        started_at: get.sensible(Timestamp::from_unix_micros(get.of("started")?), "its start time")?,
        server_time,
        clock_ahead_ms,
    })
}

/// The server's archiving alone: asked again and again while a segment is waited for.
pub async fn archiver(client: &Client) -> Result<Archiver, SqlError> {
    const OPERATION: &str = "read pg_stat_archiver";
    let row = client.row(OPERATION, ARCHIVER, &[]).await?;
    let get = Cells { client, row: &row };
    let time =
        |column| Ok::<_, SqlError>(get.of::<Option<i64>>(column)?.and_then(Timestamp::from_unix_micros));
    Ok(Archiver {
        archived_count: get.of("archived_count")?,
        last_archived_wal: get.of("last_archived_wal")?,
        last_archived_at: time("archived_at")?,
        failed_count: get.of("failed_count")?,
        last_failed_wal: get.of("last_failed_wal")?,
        last_failed_at: time("failed_at")?,
    })
}

/// Completes the WAL segment being written, if anything is in it; where it ended. For a server so quiet that the end
/// of a backup's WAL would not be archived for long.
pub async fn switch_wal(client: &Client) -> Result<Lsn, SqlError> {
    const OPERATION: &str = "complete the WAL segment being written";
    let row = client.row(OPERATION, "SELECT pg_catalog.pg_switch_wal()::pg_catalog.text AS lsn", &[]).await?;
    let text: String = client.get(OPERATION, &row, "lsn")?;
    text.parse().map_err(|error: strongroom_model::position::PositionError| {
        client.unreadable(OPERATION, error.into())
    })
}

async fn version(client: &Client) -> Result<(Major, u32, String), InspectError> {
    const SQL: &str = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS num, \
                       pg_catalog.current_setting('server_version') AS version";
    let row = client.row(OPERATION, SQL, &[]).await?;
    let number = client.get::<i32>(OPERATION, &row, "num")?.cast_unsigned();
    let version: String = client.get(OPERATION, &row, "version")?;
    match u16::try_from(number / 10_000).ok().and_then(Major::new) {
        Some(major) => Ok((major, number, version)),
        None => Err(InspectError::UnknownVersion { place: client.place().to_owned(), version }),
    }
}

/// The server's time, and how far it is ahead of ours at the middle of the question.
async fn clocks(cx: &Cx, client: &Client) -> Result<(Timestamp, i64), SqlError> {
    let asked = cx.now();
    let theirs = server_time(client).await?;
    let answered = cx.now();
    let ours = asked.0.as_millisecond().midpoint(answered.0.as_millisecond());
    Ok((theirs, theirs.0.as_millisecond() - ours))
}

/// The server's clock. A standby's may be behind its primary's, which is in the WAL: it is not before the last commit that was
/// replayed.
pub async fn server_time(client: &Client) -> Result<Timestamp, SqlError> {
    const OPERATION: &str = "read the server's clock";
    const SQL: &str = "\
SELECT (pg_catalog.date_part('epoch', GREATEST(pg_catalog.clock_timestamp(), pg_catalog.pg_last_xact_replay_timestamp())) \
        * 1000000)::pg_catalog.int8 AS now";
    let row = client.row(OPERATION, SQL, &[]).await?;
    let now = Timestamp::from_unix_micros(client.get(OPERATION, &row, "now")?);
    now.ok_or_else(|| client.unreadable(OPERATION, "it is outside the years -9999 to 9999".into()))
}

async fn settings(client: &Client) -> Result<BTreeMap<String, Setting>, SqlError> {
    const SQL: &str = "SELECT name, setting, unit, source, pending_restart FROM pg_catalog.pg_settings WHERE name = ANY ($1)";
    let rows = client.rows(OPERATION, SQL, &[&SETTINGS.as_slice()]).await?;
    rows.iter()
        .map(|row| {
            let get = Cells { client, row };
            let value: Option<String> = get.of("setting")?;
            let setting = Setting {
                value: value.unwrap_or_default(),
                unit: get.of("unit")?,
                source: get.of("source")?,
                pending_restart: get.of("pending_restart")?,
            };
            Ok((get.of("name")?, setting))
        })
        .collect()
}

async fn tablespaces(client: &Client) -> Result<Vec<Tablespace>, SqlError> {
    const SQL: &str = "SELECT oid, spcname::pg_catalog.text AS name, pg_catalog.pg_tablespace_location(oid) AS location \
                       FROM pg_catalog.pg_tablespace WHERE spcname <> ALL (ARRAY['pg_default', 'pg_global']) \
                       ORDER BY oid";
    let rows = client.rows(OPERATION, SQL, &[]).await?;
    rows.iter()
        .map(|row| {
            let get = Cells { client, row };
            Ok(Tablespace { oid: get.of("oid")?, name: get.of("name")?, location: get.of("location")? })
        })
        .collect()
}

async fn databases(client: &Client) -> Result<BTreeMap<u32, String>, SqlError> {
    const SQL: &str = "SELECT oid, datname::pg_catalog.text AS name FROM pg_catalog.pg_database";
    let rows = client.rows(OPERATION, SQL, &[]).await?;
    rows.iter()
        .map(|row| {
            let get = Cells { client, row };
            Ok((get.of("oid")?, get.of("name")?))
        })
        .collect()
}

async fn rights(client: &Client, major: Major) -> Result<Rights, SqlError> {
    let (start, stop) = backup_functions(major);
    let row = client.row(OPERATION, RIGHTS, &[&start, &stop]).await?;
    let get = Cells { client, row: &row };
    Ok(Rights {
        role: get.of("role")?,
        database: get.of("database")?,
        superuser: get.of::<Option<bool>>("superuser")?.unwrap_or(false),
        backup_start: get.of("backup_start")?,
        backup_stop: get.of("backup_stop")?,
        switch_wal: get.of("switch_wal")?,
        create_restore_point: get.of("restore_point")?,
        read_all_settings: get.of("read_all_settings")?,
    })
}

fn segment_size(bytes: i32) -> Option<SegmentSize> {
    u64::try_from(bytes).ok().and_then(SegmentSize::new)
}

/// One row, read by column names.
struct Cells<'a> {
    client: &'a Client,
    row: &'a Row,
}

impl Cells<'_> {
    fn of<T: tokio_postgres::types::FromSqlOwned>(&self, column: &str) -> Result<T, SqlError> {
        self.client.get(OPERATION, self.row, column)
    }

    fn sensible<T>(&self, value: Option<T>, what: &str) -> Result<T, SqlError> {
        value.ok_or_else(|| {
            self.client.unreadable(OPERATION, format!("{what} is none PostgreSQL allows").into())
        })
    }
}
