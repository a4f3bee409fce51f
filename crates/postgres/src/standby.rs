//! What a backup does otherwise when the server is a standby.
//!
//! ```text
//! begin   at the last restartpoint; `fast` makes one of the last checkpoint that was replayed, so nothing has to be waited for
//! own?    a snapshot that this session exports must appear as a file in the folder that is read here
//!         (one that sends itself has none that is read: there the label must say that a standby was copied)
//! end     no record in the WAL says where the copy is consistent: pg_control, copied last, does, as its minimum recovery point
//! WAL     is written and shipped by the primary: a standby completes no segment
//! ```
//!
//! **Invariants**
//! - What is read last, pg_control, is never ahead of the end that the server names: recovery of the copy goes as far as that
//!   file says (`xlogrecovery.c`, for a label with `BACKUP FROM: standby`), and WAL is waited for as far as the server says.
//! - A standby that was promoted, or that followed its primary to another timeline, while it was copied gives no point.
//! - Only the cluster's own primary is ever asked to complete a segment.

#![allow(
    clippy::disallowed_methods,
    reason = "looks into the data directory for the proof that it is the server's"
)]

use std::fmt::Display;
use std::path::Path;

use strongroom_engine::EngineError;
use strongroom_model::{Cx, Lsn, SegmentSize, Timeline};

use crate::connect::{Client, connect};
use crate::conninfo::Conninfo;
use crate::control::Control;
use crate::facts::a_copy;
use crate::inspect::{PostgresInspection, inspect, switch_wal};
use crate::refusal::SqlError;

/// What to do about WAL without full pages, on which no copy of a standby can be built.
pub(crate) const FULL_PAGES: &str = "switch full_page_writes on at the primary, run CHECKPOINT there, and back up again when that is replayed";

/// Why a standby would not begin. That full pages were not in the WAL it replayed is for its primary to mend.
pub(crate) fn no_begin(error: SqlError) -> EngineError {
    let said = error.to_string();
    match EngineError::from(error) {
        EngineError::Unfit { .. } if said.contains("full_page_writes") => {
            EngineError::Unfit { what: said, hint: FULL_PAGES.to_owned() }
        }
        other => other,
    }
}

/// Whether the folder that is read here is the standby's own, now: others of the same primary have the same history and may
/// have made the same restartpoint.
pub(crate) async fn prove_own(client: &Client, folder: &Path) -> Result<(), EngineError> {
    const OPERATION: &str = "prove whose data directory it is";
    const SQL: &str = "\
SELECT pg_catalog.pg_export_snapshot() AS name, pg_catalog.pg_backend_pid() AS pid,
       c.timeline_id AS begins, GREATEST(c.timeline_id, r.min_recovery_end_timeline) AS ends
  FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r";
    client.run(OPERATION, "BEGIN").await?;
    let row = client.row(OPERATION, SQL, &[]).await?;
    let name: String = client.get(OPERATION, &row, "name")?;
    let pid: i32 = client.get(OPERATION, &row, "pid")?;
    let (begins, ends): (i32, i32) =
        (client.get(OPERATION, &row, "begins")?, client.get(OPERATION, &row, "ends")?);
    let snapshot = tokio::fs::read_to_string(folder.join("pg_snapshots").join(&name)).await;
    client.run(OPERATION, "ROLLBACK").await?;
    let of_session = |text: String| text.lines().any(|line| line == format!("pid:{pid}"));
    if !snapshot.is_ok_and(of_session) {
        return Err(a_copy(folder));
    }
    expect_no_switch(client.place(), (begins, ends))
}

/// Refuses a standby whose last restartpoint is on another timeline than what it replays.
pub(crate) fn expect_no_switch<T: Display + PartialEq>(
    place: &str,
    (begins, ends): (T, T),
) -> Result<(), EngineError> {
    if begins == ends {
        return Ok(());
    }
    Err(EngineError::Unfit {
        what: format!(
            "start a backup: the standby at {place} has followed its primary from timeline {begins} to {ends} and can \
             begin only before that"
        ),
        hint: "run CHECKPOINT at the primary, and back up again when that is replayed".to_owned(),
    })
}

/// Whether the control file that was copied last is covered by the end that the server named. Why not, if not.
pub(crate) fn ends(control: &Control, (timeline, end): (Timeline, Lsn)) -> Result<(), String> {
    match control.min_recovery {
        Some((least, on)) if on == timeline && least <= end => Ok(()),
        Some((least, on)) => Err(format!(
            "end the backup: its control file is consistent from {least} on timeline {on}, and the backup ends at {end} on \
             timeline {timeline}"
        )),
        None => Err("end the backup: its control file is not of a server in recovery".to_owned()),
    }
}

/// How far WAL is needed by a copy that is consistent at `end`. PostgreSQL ends a recovery that is to stop there only when it
/// has read a record behind it, and where a segment ends that one is in the next.
pub(crate) fn needs(end: Lsn, size: SegmentSize) -> Lsn {
    match end.0.is_multiple_of(size.bytes()) {
        true => Lsn(end.0 + 1),
        false => end,
    }
}

/// The primary of this standby, asked what it is.
pub async fn reach_primary(
    cx: &Cx,
    primary: &Conninfo,
    standby: &PostgresInspection,
) -> Result<(Client, PostgresInspection), EngineError> {
    let client = connect(primary).await?;
    let server = inspect(cx, &client).await?;
    let unfit = |what: String| EngineError::Unfit {
        what: format!("ask the primary at {}: {what}", client.place()),
        hint: "is primary in the source's settings where the cluster is written to now? Several hosts with \
               target_session_attrs=read-write find it"
            .to_owned(),
    };
    if server.system_id != standby.system_id {
        return Err(unfit(format!(
            "it is system {}, and the standby's is {}",
            server.system_id, standby.system_id
        )));
    }
    match server.in_recovery {
        true => Err(unfit("it is a standby itself".to_owned())),
        false => Ok((client, server)),
    }
}

/// Makes the primary complete the WAL segment that the standby's backup ends in.
pub(crate) async fn complete_segment(
    cx: &Cx,
    primary: &Conninfo,
    standby: &PostgresInspection,
) -> Result<Lsn, EngineError> {
    let (client, _) = reach_primary(cx, primary, standby).await?;
    // An empty segment is not completed; a backup that ends where it begins waits for it all the same.
    const SQL: &str = "SELECT pg_catalog.pg_logical_emit_message(false, 'strongroom', '')";
    client.row("write something into the WAL", SQL, &[]).await?;
    Ok(switch_wal(&client).await?)
}

/// Why WAL that a standby's backup needs does not arrive.
pub(crate) async fn trouble(cx: &Cx, primary: Option<&Conninfo>, standby: &PostgresInspection) -> String {
    const ALONE: &str = "the server is a standby, which completes no WAL segment: its primary ships it once it has \
                         written more";
    let Some(primary) = primary else {
        return format!(
            "{ALONE}; name the primary (primary = \"host=…\" in the source's settings) and it is asked to"
        );
    };
    match reach_primary(cx, primary, standby).await {
        Err(error) => format!("{ALONE}, and it was not asked to: {error}"),
        Ok((client, server)) => match server.archiver.trouble() {
            Some(trouble) => format!("the primary at {}: {trouble}", client.place()),
            None => format!("the primary at {} was asked to complete it", client.place()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ClusterState;
    use crate::version::Major;
    use strongroom_model::SystemId;

    fn control(min_recovery: Option<(u64, u32)>) -> Control {
        Control {
            system_id: SystemId(1),
            major: Major::new(15).unwrap(),
            catalog: 202_209_061,
            state: ClusterState::ArchiveRecovery,
            checkpoint: Lsn(0x0200_0060),
            redo: Lsn(0x0200_0028),
            timeline: Timeline::new(2).unwrap(),
            min_recovery: min_recovery.map(|(lsn, timeline)| (Lsn(lsn), Timeline::new(timeline).unwrap())),
            segment_size: SegmentSize::DEFAULT,
            blocks_per_file: 131_072,
            checksums: true,
        }
    }

    #[test]
    fn a_control_file_ahead_of_the_end_or_on_another_timeline_is_no_end() {
        let end = (Timeline::new(2).unwrap(), Lsn(0x0300_0000));
        let check = |min_recovery, says: &str| match (ends(&control(min_recovery), end), says) {
            (Ok(()), "") => {}
            (Err(why), says) if !says.is_empty() && why.contains(says) => {}
            other => panic!("{min_recovery:x?}: {other:?}"),
        };
        check(Some((0x0300_0000, 2)), "");
        check(Some((0x0200_0100, 2)), "");
        check(Some((0x0300_0001, 2)), "consistent from 0/3000001");
        check(Some((0x0200_0100, 1)), "on timeline 1,");
        check(Some((0x0200_0100, 3)), "on timeline 3,");
        check(None, "not of a server in recovery");
    }

    #[test]
    fn behaviour_22_an_end_at_offset_zero_needs_a_record_of_the_next_segment() {
        for (end, needed) in
            [(0x0300_0000, 0x0300_0001), (0x02FF_FFF8, 0x02FF_FFF8), (0x0300_0028, 0x0300_0028)]
        {
            assert_eq!(needs(Lsn(end), SegmentSize::DEFAULT), Lsn(needed));
        }
    }
}
