//! `backup_label`: what `pg_backup_stop` tells recovery to start from (PostgreSQL `xlogbackup.c`).
//!
//! Read for people and for checks only: what is stored and restored is the server's text, byte for byte.

use strongroom_model::{Lsn, Timeline, WalSegment};

/// A backup label that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A line every label has is not there.
    #[error("the backup label has no line '{0}'")]
    Missing(&'static str),
    /// A line's value makes no sense.
    #[error("the backup label's line '{key}' says '{value}'")]
    Value {
        /// Which line.
        key: &'static str,
        /// What follows the colon.
        value: String,
    },
}

/// What took the backup's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenFrom {
    /// A primary.
    Primary,
    /// A standby: recovery must go past its minimum recovery point.
    Standby,
}

/// The content of a backup label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupLabel {
    /// Where replay begins.
    pub start: Lsn,
    /// The segment that holds it.
    pub start_segment: WalSegment,
    /// The record of the backup's first checkpoint.
    pub checkpoint: Lsn,
    /// The timeline replay begins on.
    pub timeline: Timeline,
    /// What was given to `pg_backup_start`.
    pub label: String,
    /// Where it was taken.
    pub taken_from: TakenFrom,
    /// When, as the server wrote it, in its `log_timezone`.
    pub start_time: String,
}

impl BackupLabel {
    /// Reads a label. Unknown lines are skipped, as PostgreSQL adds some (`INCREMENTAL FROM LSN`).
    pub fn parse(text: &str) -> Result<BackupLabel, LabelError> {
        const START: &str = "START WAL LOCATION";
        let start = line(text, START)?;
        let (start_lsn, file) = start
            .split_once(" (file ")
            .and_then(|(lsn, file)| Some((lsn.parse().ok()?, WalSegment::parse(file.strip_suffix(')')?)?)))
            .ok_or_else(|| LabelError::Value { key: START, value: start.to_owned() })?;
        Ok(BackupLabel {
            start: start_lsn,
            start_segment: file,
            checkpoint: value(text, "CHECKPOINT LOCATION", |text| text.parse().ok())?,
            timeline: value(text, "START TIMELINE", |text| text.parse().ok())?,
            label: line(text, "LABEL")?.to_owned(),
            taken_from: value(text, "BACKUP FROM", |text| match text {
                "primary" | "master" => Some(TakenFrom::Primary),
                "standby" => Some(TakenFrom::Standby),
                _ => None,
            })?,
            start_time: line(text, "START TIME")?.to_owned(),
        })
    }
}

/// What follows `key: `.
fn line<'t>(text: &'t str, key: &'static str) -> Result<&'t str, LabelError> {
    let after = |line: &'t str| line.strip_prefix(key)?.strip_prefix(": ");
    text.lines().find_map(after).ok_or(LabelError::Missing(key))
}

fn value<T>(text: &str, key: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, LabelError> {
    let found = line(text, key)?;
    read(found).ok_or_else(|| LabelError::Value { key, value: found.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LABEL: &str = "START WAL LOCATION: 0/2000028 (file 0000000A0000000000000002)\n\
        CHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
        START TIME: 2026-11-20 12:00:00 UTC\nLABEL: 20261120T120000Z-1f2e3d4c\nSTART TIMELINE: 10\n";

    #[test]
    fn a_label_reads() {
        let label = BackupLabel::parse(LABEL).unwrap();
        assert_eq!((label.start, label.checkpoint), (Lsn(0x2000028), Lsn(0x2000060)));
        assert_eq!((label.timeline.get(), label.start_segment.timeline.get()), (10, 10));
        assert_eq!(
            (label.label.as_str(), label.taken_from),
            ("20261120T120000Z-1f2e3d4c", TakenFrom::Primary)
        );
        assert_eq!(label.start_time, "2026-11-20 12:00:00 UTC");
    }

    #[test]
    fn a_missing_or_wrong_line_is_named() {
        for line in LABEL.lines().filter(|line| !line.starts_with("BACKUP METHOD")) {
            let key = line.split(": ").next().unwrap();
            let without = LABEL.replace(&format!("{line}\n"), "");
            assert!(
                matches!(BackupLabel::parse(&without), Err(LabelError::Missing(missing)) if missing == key)
            );
        }
        let wrong = LABEL.replace("START TIMELINE: 10", "START TIMELINE: 0");
        assert_eq!(
            BackupLabel::parse(&wrong),
            Err(LabelError::Value { key: "START TIMELINE", value: "0".to_owned() })
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(START WAL LOCATION|LABEL|[A-Z ]{0,9})?:? ?[0-9A-F/()file ]{0,40}\n?") {
            prop_assert!(BackupLabel::parse(&text).is_err());
        }
    }
}
