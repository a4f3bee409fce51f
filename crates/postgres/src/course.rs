//! A recovery's course, by the server's own files: how far it is, and where and why it ended.
//!
//! - How far: the startup process says in its title which segment it replays; when its transactions ended the segment
//!   says, which lies in `pg_wal` meanwhile. Where there are no titles the control file's minimum recovery point has to do.
//! - Where it ended: a server that is promoted writes the history of its new timeline, whose last line is where it left
//!   the old one, and why (`getRecoveryStopReason`, the same from 13 to 18, in no language but English).

#![allow(clippy::disallowed_methods, reason = "looks at a recovering server's files")]

use std::fmt;
use std::path::Path;

use rustix::process::Pid;
use serde::Serialize;
use strongroom_model::restore_plan::RestorePlan;
use strongroom_model::target::RecoveryTarget;
use strongroom_model::{ByteSize, Lsn, SegmentSize, Timeline, Timestamp, WalSegment};

use crate::wal::commit_times;

/// What a recovery is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// Where replay begins.
    pub begins: Lsn,
    /// Where the journal ends that is there; the target may come before.
    pub ends: Lsn,
    /// Of WAL segments.
    pub segment_size: SegmentSize,
    /// The timeline it follows; it ends on a new one.
    pub timeline: Timeline,
    /// Where it is to stop.
    pub target: RecoveryTarget,
    /// Whether what the target names is replayed, too.
    pub inclusive: bool,
}

/// Where a recovery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Replay got here at least.
    pub at: Lsn,
    /// When a transaction ended there, or last before, by the source's clock.
    pub time: Option<Timestamp>,
}

/// Where a recovery ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// The position at which the new timeline begins.
    pub at: Lsn,
    /// The server's own words.
    pub why: String,
}

/// Watches a recovery.
#[derive(Debug)]
pub struct Watch {
    /// The segment that was replayed when last looked.
    segment: Option<WalSegment>,
    reached: Reached,
}

impl Watch {
    /// Of a recovery that begins there.
    pub fn new(begins: Lsn) -> Watch {
        Watch { segment: None, reached: Reached { at: begins, time: None } }
    }

    /// Where the server of this process is now, which is at `at_least` or further.
    pub fn look(&mut self, data: &Path, server: Pid, size: SegmentSize, at_least: Lsn) -> Reached {
        self.rise(Reached { at: at_least, time: None });
        let title = |child| std::fs::read(format!("/proc/{child}/cmdline")).ok();
        let segment = children(server)
            .into_iter()
            .find_map(|child| replaying(&String::from_utf8_lossy(&title(child)?)))
            .filter(|segment| self.segment != Some(*segment));
        if let Some(segment) = segment {
            self.segment = Some(segment);
            let start = segment.number(size).and_then(|number| number.checked_mul(size.bytes()));
            // Read once a segment: replay is not to be kept waiting for the disk.
            let names = [segment.to_string(), "RECOVERYXLOG".to_owned()];
            let bytes = names.iter().find_map(|name| std::fs::read(data.join("pg_wal").join(name)).ok());
            let time = bytes.and_then(|bytes| commit_times(&bytes)).map(|(first, _)| first);
            self.rise(Reached { at: Lsn(start.unwrap_or_default()), time });
        }
        self.reached
    }

    /// Goes on to `found`, if that is further.
    fn rise(&mut self, found: Reached) {
        if found.at > self.reached.at {
            self.reached = Reached { at: found.at, time: found.time.or(self.reached.time) };
        }
    }
}

/// The processes that a server started, where the kernel tells.
fn children(server: Pid) -> Vec<u32> {
    let server = server.as_raw_nonzero();
    let text = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The segment in the title of a startup process: `postgres: main: startup recovering 00000001000000000000000A`.
fn replaying(title: &str) -> Option<WalSegment> {
    let (_, segment) = title.split_once("startup")?.1.split_once("recovering ")?;
    WalSegment::parse(segment.trim_matches(|c: char| c.is_whitespace() || c == '\0'))
}

impl Course {
    /// Of a server restored by this plan.
    pub fn of(plan: &RestorePlan) -> Course {
        Course {
            begins: plan.range.start,
            ends: plan.reach.end,
            segment_size: plan.range.segment_size,
            timeline: plan.timeline,
            target: plan.request.target.clone(),
            inclusive: plan.request.inclusive,
        }
    }

    /// How far a recovery is, in words.
    pub fn describe(&self, reached: Reached) -> String {
        let time = reached.time.map_or_else(String::new, |time| format!(" ({time})"));
        let (done, all) =
            (reached.at.0.saturating_sub(self.begins.0), self.ends.0.saturating_sub(self.begins.0));
        let most = if self.target == RecoveryTarget::Latest { "" } else { "at most " };
        format!(
            "recovering, at {}{time}, {} of {most}{} of WAL",
            reached.at,
            ByteSize(done.min(all)),
            ByteSize(all)
        )
    }

    /// Whether a recovery that ended so is the one that was asked for.
    pub fn leads_to(&self, ended: &Ended) -> bool {
        let stopped = |what: &str| {
            let word = if self.inclusive { "after " } else { "before " };
            ended.why.strip_prefix(word).is_some_and(|rest| rest.starts_with(what))
        };
        match &self.target {
            RecoveryTarget::Latest => ended.why == "no recovery target specified",
            RecoveryTarget::Immediate => ended.why == "reached consistency",
            RecoveryTarget::Name(name) => ended.why == format!("at restore point \"{name}\""),
            RecoveryTarget::Xid(xid) => {
                stopped("transaction ") && ended.why.rsplit(' ').next() == Some(&xid.to_string())
            }
            // Of a record that begins at the target or behind it the end is further on.
            RecoveryTarget::Lsn(lsn) => stopped("LSN ") && (!self.inclusive || ended.at > *lsn),
            // Replay stops before the first transaction that is later, whether the target itself is included or not.
            RecoveryTarget::Time(_) => {
                let is_time = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
                let rest = ended.why.strip_prefix("before ").or(ended.why.strip_prefix("after "));
                rest.is_some_and(is_time)
            }
        }
    }
}

/// Where the recovery ended that made timeline `timeline` in `data`; `None` if there is no history of it.
pub fn ended(data: &Path, timeline: Timeline) -> Option<Ended> {
    let name = format!("pg_wal/{:08X}.history", timeline.get());
    last_switch(&std::fs::read_to_string(data.join(name)).ok()?)
}

/// The last line of a history: `timeline ⇥ position ⇥ reason`.
fn last_switch(history: &str) -> Option<Ended> {
    let line = history.lines().rev().find(|line| !line.trim().is_empty())?;
    let mut fields = line.splitn(3, '\t');
    let at = fields.nth(1)?.trim().parse().ok()?;
    Some(Ended { at, why: fields.next()?.trim().to_owned() })
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.at, self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_name_the_segment() {
        let segment = WalSegment::parse("00000001000000000000000A");
        for (title, expected) in [
            ("postgres: startup recovering 00000001000000000000000A", segment),
            ("postgres: main: startup   recovering 00000001000000000000000A\0\0", segment),
            ("postgres: startup waiting for 00000001000000000000000A", None),
            ("postgres: checkpointer", None),
            ("postgres: startup recovering ", None),
            ("postgres: recovering startup", None),
        ] {
            assert_eq!(replaying(title), expected, "{title}");
        }
    }

    #[test]
    fn what_was_reached_only_rises() {
        let mut watch = Watch::new(Lsn(100));
        let steps = [
            (50, None, 100, None),
            (200, Some(7), 200, Some(7)),
            (150, Some(9), 200, Some(7)),
            (300, None, 300, Some(7)),
        ];
        let second = |second: Option<i64>| second.and_then(Timestamp::from_unix_seconds);
        for (at, time, reached, last) in steps {
            watch.rise(Reached { at: Lsn(at), time: second(time) });
            assert_eq!(watch.reached, Reached { at: Lsn(reached), time: second(last) });
        }
    }

    #[test]
    fn a_history_ends_with_where_and_why() {
        let first = "1\t0/5000148\tno recovery target specified\n";
        let second = format!("{first}\n2\t0/6000000\tbefore 2026-11-20 12:00:00.123+00\n\n");
        let ended = |at: &str, why: &str| Some(Ended { at: at.parse().unwrap(), why: why.to_owned() });
        assert_eq!(last_switch(first), ended("0/5000148", "no recovery target specified"));
        assert_eq!(last_switch(&second), ended("0/6000000", "before 2026-11-20 12:00:00.123+00"));
        for broken in ["", "\n\n", "1", "1\tx\ty", "1\t0/1"] {
            assert_eq!(last_switch(broken), None, "{broken:?}");
        }
    }

    /// 2026-11-20 12:00 UTC.
    fn noon() -> Timestamp {
        Timestamp::from_unix_seconds(1_795_176_000).unwrap()
    }

    fn check(target: &RecoveryTarget, inclusive: bool, ended: &str, expected: bool) {
        let course = Course {
            begins: Lsn(0),
            ends: Lsn(1 << 30),
            segment_size: SegmentSize::DEFAULT,
            timeline: Timeline::FIRST,
            target: target.clone(),
            inclusive,
        };
        let ended = last_switch(&format!("1\t{ended}")).unwrap();
        assert_eq!(course.leads_to(&ended), expected, "{target} {inclusive}: {ended}");
    }

    #[test]
    fn a_recovery_that_ended_otherwise_is_told_from_the_one_asked_for() {
        let (latest, lsn) = (RecoveryTarget::Latest, RecoveryTarget::Lsn("0/600".parse().unwrap()));
        check(&latest, true, "0/700\tno recovery target specified", true);
        check(&latest, true, "0/700\tafter transaction 7", false);
        check(&lsn, true, "0/640\tafter LSN 0/600", true);
        check(&lsn, true, "0/600\tafter LSN 0/5F0", false);
        check(&lsn, false, "0/600\tbefore LSN 0/600", true);
        check(&lsn, false, "0/600\tafter LSN 0/600", false);
        check(&RecoveryTarget::Xid(741), true, "0/700\tafter transaction 741", true);
        check(&RecoveryTarget::Xid(741), true, "0/700\tafter transaction 7741", false);
        check(&RecoveryTarget::Xid(741), false, "0/700\tafter transaction 741", false);
        check(&RecoveryTarget::Immediate, true, "0/700\treached consistency", true);
        check(&RecoveryTarget::Immediate, true, "0/700\tno recovery target specified", false);
        let name = RecoveryTarget::Name("it's a \"name\"".into());
        check(&name, true, "0/700\tat restore point \"it's a \"name\"\"", true);
        check(&name, true, "0/700\tat restore point \"other\"", false);
        let time = RecoveryTarget::Time(noon());
        check(&time, true, "0/700\tbefore 2026-11-20 12:00:01+00", true);
        check(&time, true, "0/700\tbefore transaction 7", false);
        check(&time, true, "0/700\tno recovery target specified", false);
    }

    #[test]
    fn how_far_it_is_reads_well() {
        let course = Course {
            begins: Lsn(16 << 20),
            ends: Lsn(80 << 20),
            segment_size: SegmentSize::DEFAULT,
            timeline: Timeline::FIRST,
            target: RecoveryTarget::Latest,
            inclusive: true,
        };
        let reached = Reached { at: Lsn(48 << 20), time: None };
        assert_eq!(course.describe(reached), "recovering, at 0/3000000, 32.0 MiB of 64.0 MiB of WAL");
        let course = Course { target: RecoveryTarget::Xid(7), ..course };
        let reached = Reached { at: Lsn(90 << 20), time: Some(noon()) };
        assert_eq!(
            course.describe(reached),
            "recovering, at 0/5A00000 (2026-11-20 12:00:00+00), 64.0 MiB of at most 64.0 MiB of WAL"
        );
    }
}
