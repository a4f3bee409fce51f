//! WAL files and their names (PostgreSQL `access/xlog_internal.h`).
//!
//! ```text
//! 000000010000001600000003                     timeline 1, segment number = high * per-id + low
//! 000000010000001600000003.partial             the last segment of an abandoned timeline; never taken for a whole one
//! 000000010000001600000003.000000D8.backup     where a base backup started
//! 00000002.history                             where timeline 2 came from
//! 000000010000001600000003.00000000-0001A2B8   ours: a part of a segment that was not finished when it was received
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::position::{Lsn, Timeline};
use crate::size::ByteSize;
use crate::tail::Stretch;

/// The size of a cluster's WAL segments: a power of two from 1 MiB to 1 GiB, set by `initdb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct SegmentSize(u64);

impl SegmentSize {
    /// What `initdb` chooses unless told otherwise: 16 MiB.
    pub const DEFAULT: SegmentSize = SegmentSize(16 << 20);

    /// A segment size of this many bytes, if it is one PostgreSQL allows.
    pub fn new(bytes: u64) -> Option<SegmentSize> {
        (bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)).then_some(SegmentSize(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Segments in each 4 GiB stretch that shares the name's middle eight digits.
    fn per_stretch(self) -> u64 {
        (1 << 32) / self.0
    }
}

impl TryFrom<u64> for SegmentSize {
    type Error = String;

    fn try_from(bytes: u64) -> Result<Self, String> {
        SegmentSize::new(bytes).ok_or_else(|| format!("{bytes} bytes is not a WAL segment size"))
    }
}

impl From<SegmentSize> for u64 {
    fn from(size: SegmentSize) -> u64 {
        size.0
    }
}

impl fmt::Display for SegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0).fmt(f)
    }
}

/// One WAL segment, by name: a timeline and the two halves that PostgreSQL prints. Orders by timeline, then place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalSegment {
    /// The timeline that wrote it.
    pub timeline: Timeline,
    high: u32,
    low: u32,
}

impl WalSegment {
    /// The segment of `timeline` that holds the byte at `lsn`.
    pub fn holding(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> WalSegment {
        WalSegment::numbered(timeline, lsn.0 / size.0, size)
    }

    /// The segment of `timeline` whose last byte is the one before `lsn`: where WAL up to an exclusive end lies
    /// (PostgreSQL `XLByteToPrevSeg`). A stop position at offset 0 belongs to the segment before.
    pub fn ending(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> WalSegment {
        WalSegment::numbered(timeline, lsn.0.saturating_sub(1) / size.0, size)
    }

    /// Segment `number` of `timeline`, counted from LSN 0/0.
    pub fn numbered(timeline: Timeline, number: u64, size: SegmentSize) -> WalSegment {
        let per = size.per_stretch();
        WalSegment { timeline, high: (number / per) as u32, low: (number % per) as u32 }
    }

    /// Its number, counted from LSN 0/0. `None` when the name cannot belong to a cluster of this segment size.
    pub fn number(self, size: SegmentSize) -> Option<u64> {
        let per = size.per_stretch();
        (u64::from(self.low) < per).then(|| u64::from(self.high) * per + u64::from(self.low))
    }

    /// The middle eight digits of the name: the folder it is kept in.
    pub fn stretch(self) -> String {
        format!("{:08X}", self.high)
    }

    /// Reads a 24-digit name. PostgreSQL writes upper case only.
    pub fn parse(name: &str) -> Option<WalSegment> {
        if name.len() != 24 {
            return None;
        }
        Some(WalSegment {
            timeline: Timeline::new(hex8(name.get(..8)?)?)?,
            high: hex8(name.get(8..16)?)?,
            low: hex8(name.get(16..)?)?,
        })
    }
}

impl Serialize for WalSegment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for WalSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:08X}{:08X}{:08X}", self.timeline.get(), self.high, self.low))
    }
}

/// Eight upper-case hexadecimal digits.
fn hex8(digits: &str) -> Option<u32> {
    let upper = |c: u8| c.is_ascii_digit() || (b'A'..=b'F').contains(&c);
    if digits.len() == 8 && digits.bytes().all(upper) { u32::from_str_radix(digits, 16).ok() } else { None }
}

/// What a file of a journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFile {
    /// A completed segment.
    Segment(WalSegment),
    /// The tail of an abandoned timeline: kept under its own name, never taken for a whole segment.
    Partial(WalSegment),
    /// A timeline's history.
    History(Timeline),
    /// A backup history file: the segment a base backup started in, and the offset in it.
    BackupLabel(WalSegment, u32),
    /// What a receiver had of a segment that was not finished. Only vaults know these: no server asks for one.
    Part(WalSegment, Stretch),
}

/// A file name that is none of PostgreSQL's WAL file names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the name of a WAL segment, .partial, .backup or .history file")]
pub struct NotAWalFile(pub String);

impl WalFile {
    /// Reads the name (no folder) of a file that PostgreSQL offers for archiving or asks for.
    pub fn parse(name: &str) -> Result<WalFile, NotAWalFile> {
        let file = match name.split_once('.') {
            None => WalSegment::parse(name).map(WalFile::Segment),
            Some((segment, "partial")) => WalSegment::parse(segment).map(WalFile::Partial),
            Some((timeline, "history")) => hex8(timeline).and_then(Timeline::new).map(WalFile::History),
            Some((segment, rest)) => rest
                .strip_suffix(".backup")
                .and_then(hex8)
                .and_then(|offset| Some(WalFile::BackupLabel(WalSegment::parse(segment)?, offset))),
        };
        file.ok_or_else(|| NotAWalFile(name.to_owned()))
    }

    /// Reads the name of a file of a journal as a vault keeps it: PostgreSQL's files, and parts.
    pub fn parse_kept(name: &str) -> Result<WalFile, NotAWalFile> {
        let part = || {
            let (segment, stretch) = name.split_once('.')?;
            let (start, end) = stretch.split_once('-')?;
            let stretch = Stretch::new(hex8(start)?, hex8(end)?)?;
            Some(WalFile::Part(WalSegment::parse(segment)?, stretch))
        };
        part().map_or_else(|| WalFile::parse(name), Ok)
    }

    /// The segment it is, or belongs to; `None` for a history.
    pub fn segment(self) -> Option<WalSegment> {
        match self {
            WalFile::Segment(segment)
            | WalFile::Partial(segment)
            | WalFile::BackupLabel(segment, _)
            | WalFile::Part(segment, _) => Some(segment),
            WalFile::History(_) => None,
        }
    }

    /// The timeline in the name.
    pub fn timeline(self) -> Timeline {
        match self {
            WalFile::History(timeline) => timeline,
            WalFile::Segment(segment)
            | WalFile::Partial(segment)
            | WalFile::BackupLabel(segment, _)
            | WalFile::Part(segment, _) => segment.timeline,
        }
    }
}

impl fmt::Display for WalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalFile::Segment(segment) => segment.fmt(f),
            WalFile::Partial(segment) => f.pad(&format!("{segment}.partial")),
            WalFile::History(timeline) => f.pad(&format!("{:08X}.history", timeline.get())),
            WalFile::BackupLabel(segment, offset) => f.pad(&format!("{segment}.{offset:08X}.backup")),
            WalFile::Part(segment, stretch) => f.pad(&format!("{segment}.{stretch}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tl(id: u32) -> Timeline {
        Timeline::new(id).unwrap()
    }

    #[test]
    fn wal_names_read_back_also_on_timelines_past_nine() {
        for name in [
            "000000010000001600000003",
            "0000000A00000000000000FF",
            "0000001F0000000100000000",
            "000000010000001600000003.partial",
            "000000010000001600000003.000000D8.backup",
            "00000002.history",
            "0000000B.history",
        ] {
            assert_eq!(WalFile::parse(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn other_names_are_refused() {
        let long = "0".repeat(64);
        for name in [
            "",
            "00000000.history",
            "000000000000000000000001",
            "00000001000000160000000g",
            "00000001000000160000000a",
            "000000010000001600000003.gz",
            "000000010000001600000003.backup",
            "00000002.history.gz",
            "archive_status",
            "000000010000001600000003.partial.gz",
            "é00000010000001600000003",
            &long,
        ] {
            assert_eq!(WalFile::parse(name), Err(NotAWalFile(name.to_owned())));
        }
    }

    #[test]
    fn parts_are_known_to_vaults_only() {
        let name = "0000000A0000001600000003.00000000-0001A2B8";
        let part = WalFile::parse_kept(name).unwrap();
        assert_eq!((part.to_string().as_str(), part.timeline()), (name, tl(10)));
        assert!(WalFile::parse(name).is_err());
        assert_eq!(WalFile::parse_kept("00000002.history"), WalFile::parse("00000002.history"));
        for stretch in
            ["00000001-00000001", "00000002-00000001", "0-1", "0000000a-0000000b", "00000000-", "-"]
        {
            assert!(
                WalFile::parse_kept(&format!("0000000A0000001600000003.{stretch}")).is_err(),
                "{stretch}"
            );
        }
    }

    #[test]
    fn segments_of_every_size_from_1_mib_to_1_gib() {
        for shift in 20..=30 {
            let size = SegmentSize::new(1 << shift).unwrap();
            let per = (1u64 << 32) / size.bytes();
            for number in [0, 1, per - 1, per, 3 * per + 2] {
                let segment = WalSegment::numbered(tl(1), number, size);
                assert_eq!(segment.number(size), Some(number));
                assert_eq!(WalSegment::parse(&segment.to_string()), Some(segment));
                let start = Lsn(number * size.bytes());
                assert_eq!(WalSegment::holding(tl(1), start, size), segment);
                assert_eq!(WalSegment::ending(tl(1), Lsn(start.0 + size.bytes()), size), segment);
            }
            assert_eq!(WalSegment { timeline: tl(1), high: 0, low: per as u32 }.number(size), None);
        }
        for bad in [0, 1 << 19, 1 << 31, (16 << 20) + 1] {
            assert!(SegmentSize::new(bad).is_none());
        }
    }

    #[test]
    fn behaviour_22_a_stop_lsn_at_offset_zero_ends_in_the_segment_before() {
        let size = SegmentSize::DEFAULT;
        assert_eq!(WalSegment::ending(tl(1), Lsn(0x0300_0000), size).to_string(), "000000010000000000000002");
        assert_eq!(WalSegment::ending(tl(1), Lsn(0x0300_0001), size).to_string(), "000000010000000000000003");
    }
}
