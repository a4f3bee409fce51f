//! The server as a sender of WAL: whether it can be one, and what it keeps for us.
//!
//! A **slot** is the server's promise to keep WAL until we say that we have it. A forgotten one fills the server's disk;
//! one that the server gave up (`max_slot_wal_keep_size`) keeps nothing and must be made anew.
//!
//! Asked by SQL, on a connection of its own: the replication protocol can read a slot only since 15.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use strongroom_engine::EngineError;
use strongroom_model::alert::observed::Written;
use strongroom_model::{Lsn, SegmentSize, SourceName, SystemId};

use crate::connect::Client;
use crate::refusal::{ConnectError, SqlError};
use crate::version::Major;

/// `NAMEDATALEN` less its end.
const LONGEST_NAME: usize = 63;

/// A name that cannot name a slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' cannot name a replication slot: use 1 to 63 of a-z, 0-9 and '_'")]
pub struct SlotNameError(String);

/// A replication slot's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotName(String);

impl SlotName {
    /// The slot of a source unless the user names another: `strongroom_orders`. What a slot's name may not hold becomes
    /// `_`, and what does not fit is cut off.
    pub fn of_source(source: &SourceName) -> SlotName {
        let mut name = format!("strongroom_{}", source.as_str().replace(['-', '.'], "_"));
        name.truncate(LONGEST_NAME);
        SlotName(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SlotName {
    type Err = SlotNameError;

    fn from_str(text: &str) -> Result<SlotName, SlotNameError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        match (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(allowed) {
            true => Ok(SlotName(text.to_owned())),
            false => Err(SlotNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a server cannot send us its WAL as it is.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A question was not answered.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// WAL is too thin to restore from.
    #[error("receive WAL from {place}: wal_level is minimal")]
    MinimalWal {
        /// Where.
        place: String,
    },
    /// No process may send WAL.
    #[error("receive WAL from {place}: max_wal_senders is 0")]
    NoSenders {
        /// Where.
        place: String,
    },
    /// The role may not replicate.
    #[error("receive WAL from {place} as {role}: the role may not replicate")]
    NotAReplicator {
        /// Where.
        place: String,
        /// As whom.
        role: String,
    },
    /// Somebody else reads from the slot.
    #[error("receive WAL from {place}: replication slot {slot} is in use by server process {pid}")]
    SlotTaken {
        /// Where.
        place: String,
        /// Which.
        slot: SlotName,
        /// Whose.
        pid: i32,
    },
    /// It decodes, which is another kind of stream.
    #[error("receive WAL from {place}: replication slot {slot} is a logical one")]
    LogicalSlot {
        /// Where.
        place: String,
        /// Which.
        slot: SlotName,
    },
    /// No such version is known.
    #[error("receive WAL from {place}: its version {number} is not one of 13 to 18")]
    UnknownVersion {
        /// Where.
        place: String,
        /// `server_version_num`.
        number: i32,
    },
}

impl SenderError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            SenderError::Connect(error) => error.hint(),
            SenderError::Sql(error) => error.hint(),
            SenderError::MinimalWal { .. } => {
                "set wal_level = replica and restart the server, then take a recovery point".into()
            }
            SenderError::NoSenders { .. } => "set max_wal_senders = 10 and restart the server".into(),
            SenderError::NotAReplicator { role, .. } => {
                format!("ALTER ROLE {} REPLICATION;", crate::quote::quoted_name(role))
            }
            SenderError::SlotTaken { slot, pid, .. } => format!(
                "is another receiver running? End it, or give this one a slot of its own: --slot NAME. What the server \
                 has not yet noticed to be gone: SELECT pg_terminate_backend({pid}), which frees {slot}"
            ),
            SenderError::LogicalSlot { .. } => "name another one: --slot NAME".into(),
            SenderError::UnknownVersion { .. } => "use a newer strongroom".into(),
        }
    }
}

impl From<SenderError> for EngineError {
    fn from(error: SenderError) -> EngineError {
        let (what, hint) = (error.to_string(), error.hint());
        match error {
            SenderError::Connect(error) => error.into(),
            SenderError::Sql(error) => error.into(),
            _ => EngineError::Unfit { what, hint },
        }
    }
}

/// What the server says of itself.
#[derive(Clone, Debug)]
pub struct Sender {
    /// 15 of 15.4.
    pub major: Major,
    /// Names the lineage.
    pub system_id: SystemId,
    /// Of this cluster.
    pub segment_size: SegmentSize,
    /// The slot that was asked for, if there is one.
    pub slot: Option<Slot>,
}

/// A slot as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// From where on the server keeps WAL for it; `None` = it keeps none yet.
    pub keeps_from: Option<Lsn>,
    /// The server gave it up: what it should have kept may be gone.
    pub is_lost: bool,
}

const OPERATION: &str = "look at the server as a sender of WAL";

/// The settings are shown to every role. A slot that was given up has no `restart_lsn` any more; `wal_status` tells why.
const SQL: &str = "\
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS version,
       (SELECT system_identifier FROM pg_catalog.pg_control_system()) AS system,
       (SELECT bytes_per_wal_segment FROM pg_catalog.pg_control_init()) AS segment,
       pg_catalog.current_setting('wal_level') AS wal_level,
       pg_catalog.current_setting('max_wal_senders')::pg_catalog.int4 AS senders,
       (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS replicates,
       s.slot_type, s.active_pid, s.restart_lsn::pg_catalog.text AS restart_lsn, s.wal_status
  FROM (SELECT 1) AS one
  LEFT JOIN pg_catalog.pg_replication_slots AS s ON s.slot_name::pg_catalog.text = $1";

/// Looks at the server, and at its slot of this name, and refuses what cannot work.
pub async fn look(client: &Client, slot: Option<&SlotName>) -> Result<Sender, SenderError> {
    let named = slot.map(SlotName::as_str).unwrap_or_default();
    let row = client.row(OPERATION, SQL, &[&named]).await?;
    let place = || client.place().to_owned();
    let number: i32 = client.get(OPERATION, &row, "version")?;
    let major = u16::try_from(number / 10_000).ok().and_then(Major::new);
    let major = major.ok_or_else(|| SenderError::UnknownVersion { place: place(), number })?;
    let system: i64 = client.get(OPERATION, &row, "system")?;
    let segment: i32 = client.get(OPERATION, &row, "segment")?;
    let segment_size = u64::try_from(segment).ok().and_then(SegmentSize::new);
    let strange = || client.unreadable(OPERATION, format!("WAL segments of {segment} bytes").into());
    let segment_size = segment_size.ok_or_else(strange)?;
    if client.get::<String>(OPERATION, &row, "wal_level")? == "minimal" {
        return Err(SenderError::MinimalWal { place: place() });
    }
    if client.get::<i32>(OPERATION, &row, "senders")? == 0 {
        return Err(SenderError::NoSenders { place: place() });
    }
    if !client.get::<bool>(OPERATION, &row, "replicates")? {
        return Err(SenderError::NotAReplicator { place: place(), role: client.role().to_owned() });
    }
    let system_id = SystemId(system.cast_unsigned());
    let found = match (client.get::<Option<String>>(OPERATION, &row, "slot_type")?, slot) {
        (Some(kind), Some(slot)) if kind != "physical" => {
            return Err(SenderError::LogicalSlot { place: place(), slot: slot.clone() });
        }
        (Some(_), Some(slot)) => {
            if let Some(pid) = client.get::<Option<i32>>(OPERATION, &row, "active_pid")? {
                return Err(SenderError::SlotTaken { place: place(), slot: slot.clone(), pid });
            }
            let lsn: Option<String> = client.get(OPERATION, &row, "restart_lsn")?;
            let keeps_from = lsn.map(|text| text.parse()).transpose();
            let keeps_from = keeps_from.map_err(|error: strongroom_model::position::PositionError| {
                client.unreadable(OPERATION, error.into())
            })?;
            let status: Option<String> = client.get(OPERATION, &row, "wal_status")?;
            Some(Slot { keeps_from, is_lost: status.as_deref() == Some("lost") })
        }
        _ => None,
    };
    Ok(Sender { major, system_id, segment_size, slot: found })
}

/// A slot of ours that nobody reads from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleSlot {
    /// Its name.
    pub name: String,
    /// Bytes of WAL that the server keeps for it.
    pub kept: u64,
    /// The server gave it up.
    pub is_lost: bool,
}

/// Slots whose names are of our making and that nobody reads from.
pub async fn idle_slots(client: &Client) -> Result<Vec<IdleSlot>, SqlError> {
    const OPERATION: &str = "look for idle replication slots";
    const SQL: &str = "\
SELECT slot_name::pg_catalog.text AS name, wal_status IS NOT DISTINCT FROM 'lost' AS lost,
       COALESCE(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()
                THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END,
                restart_lsn), 0)::pg_catalog.int8 AS kept
  FROM pg_catalog.pg_replication_slots
 WHERE slot_type = 'physical' AND NOT active AND pg_catalog.left(slot_name::pg_catalog.text, 11) = 'strongroom_'
 ORDER BY slot_name";
    let rows = client.rows(OPERATION, SQL, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(IdleSlot {
                name: client.get(OPERATION, row, "name")?,
                kept: client.get::<i64>(OPERATION, row, "kept")?.try_into().unwrap_or(0),
                is_lost: client.get(OPERATION, row, "lost")?,
            })
        })
        .collect()
}

/// Asks how far a server has written. `None` of a standby, which writes nothing itself.
pub async fn written(client: &Client) -> Result<Option<Written>, SqlError> {
    const OPERATION: &str = "look how far WAL is written";
    const SQL: &str = "\
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()) AS system,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_wal_lsn_diff(
            pg_catalog.pg_current_wal_insert_lsn(), '0/0')::pg_catalog.int8 END AS at,
       (SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size') AS segment,
       (SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'archive_timeout') AS timeout";
    let rows = client.rows(OPERATION, SQL, &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let number = |column| client.get::<i64>(OPERATION, row, column).map(i64::cast_unsigned);
    let Some(at) = client.get::<Option<i64>>(OPERATION, row, "at")? else { return Ok(None) };
    Ok(Some(Written {
        lineage: SystemId(number("system")?),
        at: Lsn(at.cast_unsigned()),
        segment_size: number("segment")?,
        archive_timeout: Duration::from_secs(number("timeout")?),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_slot_that_the_server_accepts() {
        for (source, slot) in [("orders", "strongroom_orders"), ("eu-1.orders", "strongroom_eu_1_orders")] {
            assert_eq!(SlotName::of_source(&source.parse().unwrap()).as_str(), slot);
        }
        let long = SlotName::of_source(&"x".repeat(63).parse().unwrap());
        assert_eq!(long.as_str().parse(), Ok(long.clone()));
        for wrong in ["", "A", "with space", "a-b", &"x".repeat(64), "a\"; drop"] {
            assert!(wrong.parse::<SlotName>().is_err(), "{wrong}");
        }
    }
}
