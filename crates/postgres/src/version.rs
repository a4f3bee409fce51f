//! PostgreSQL's major versions and what differs between their files.
//!
//! Adding a version is adding a row to [`MAJORS`], after comparing its `catalog/pg_control.h`, `access/xlog_internal.h`,
//! `access/xact.h` and `storage/relfilelocator.h` with the version before. Versions 15 and 18 were compared with real
//! servers, the others with their sources.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What differs between the files of two versions.
#[derive(Debug)]
struct Row {
    major: u16,
    /// `PG_CONTROL_VERSION`.
    control: u32,
    /// `CATALOG_VERSION_NO`: part of the folder names in tablespaces.
    catalog: u32,
    /// `XLOG_PAGE_MAGIC`.
    wal_magic: u16,
    /// Where the checksum in `pg_control` is, which covers all bytes before it.
    control_crc: usize,
    /// Bytes of one `xl_xact_stats_item` in a commit record; commit records have none before 15.
    dropped_stats_item: usize,
    /// The first minor version whose WAL summaries are believed; `None` before there were any. What was wrong in each, and
    /// why it does not touch what is read of them here, is in docs/decisions/0016. A mistake of the server's that does
    /// touch it raises this number.
    summaries_from: Option<u32>,
}

// One row a version, columns aligned: to be compared at a glance.
#[rustfmt::skip]
const MAJORS: [Row; 6] = [
    Row { major: 13, control: 1300, catalog: 202007201, wal_magic: 0xD106, control_crc: 288, dropped_stats_item: 0, summaries_from: None },
    Row { major: 14, control: 1300, catalog: 202107181, wal_magic: 0xD10D, control_crc: 288, dropped_stats_item: 0, summaries_from: None },
    Row { major: 15, control: 1300, catalog: 202209061, wal_magic: 0xD110, control_crc: 288, dropped_stats_item: 12, summaries_from: None },
    Row { major: 16, control: 1300, catalog: 202307071, wal_magic: 0xD113, control_crc: 288, dropped_stats_item: 12, summaries_from: None },
    Row { major: 17, control: 1700, catalog: 202406281, wal_magic: 0xD116, control_crc: 288, dropped_stats_item: 12, summaries_from: Some(0) },
    // 18 writes down whether `char` is signed, one byte before the nonce, which moves the checksum by four.
    Row { major: 18, control: 1800, catalog: 202506291, wal_magic: 0xD118, control_crc: 292, dropped_stats_item: 16, summaries_from: Some(0) },
];

/// A major version whose files Strongroom knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Major(u8);

impl Major {
    /// All of them, oldest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Major> {
        (0..MAJORS.len()).map(|row| Major(row as u8))
    }

    /// Version `number`, such as 17; `None` if Strongroom does not know it.
    pub fn new(number: u16) -> Option<Major> {
        Major::all().find(|major| major.number() == number)
    }

    /// The version that writes `pg_control` of this format with this catalogue version. The catalogue version alone
    /// names the release: four versions share one control format. `None` for versions not known, and for betas.
    pub fn of_control(control: u32, catalog: u32) -> Option<Major> {
        Major::all().find(|major| major.row().control == control && major.row().catalog == catalog)
    }

    /// The version that writes WAL pages beginning with this number.
    pub fn of_wal_magic(magic: u16) -> Option<Major> {
        Major::all().find(|major| major.row().wal_magic == magic)
    }

    /// The number: 17.
    pub fn number(self) -> u16 {
        self.row().major
    }

    /// The number WAL pages begin with.
    pub fn wal_magic(self) -> u16 {
        self.row().wal_magic
    }

    /// The folder of this version in every tablespace: `PG_17_202406281`.
    pub fn tablespace_folder(self) -> String {
        format!("PG_{}_{}", self.row().major, self.row().catalog)
    }

    /// Whether the WAL summaries of a server of this `server_version_num` (170011 is 17.11) are believed.
    pub fn believes_summaries(self, version_num: u32) -> bool {
        self.row()
            .summaries_from
            .is_some_and(|minor| version_num >= u32::from(self.number()) * 10_000 + minor)
    }

    /// Where in `pg_control` its checksum is.
    pub(crate) fn control_crc(self) -> usize {
        self.row().control_crc
    }

    /// Bytes of one dropped statistics item in a commit record.
    pub(crate) fn dropped_stats_item(self) -> usize {
        self.row().dropped_stats_item
    }

    fn row(self) -> &'static Row {
        &MAJORS[usize::from(self.0)]
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl fmt::Debug for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Major({})", self.number())
    }
}

impl TryFrom<u16> for Major {
    type Error = String;

    fn try_from(number: u16) -> Result<Self, String> {
        Major::new(number)
            .ok_or_else(|| format!("PostgreSQL {number} is none of the versions Strongroom knows"))
    }
}

impl From<Major> for u16 {
    fn from(major: Major) -> u16 {
        major.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_by_each_of_its_marks() {
        for major in Major::all() {
            assert_eq!(Major::new(major.number()), Some(major));
            assert_eq!(Major::of_wal_magic(major.wal_magic()), Some(major));
            assert_eq!(Major::of_control(major.row().control, major.row().catalog), Some(major));
        }
        assert_eq!(Major::all().map(Major::number).collect::<Vec<_>>(), [13, 14, 15, 16, 17, 18]);
        assert!(
            Major::new(12).is_none() && Major::new(19).is_none() && Major::of_wal_magic(0xD119).is_none()
        );
        assert!(Major::of_control(1300, 202406281).is_none());
        assert_eq!(Major::new(15).unwrap().tablespace_folder(), "PG_15_202209061");
        let believes = |major, num| Major::new(major).unwrap().believes_summaries(num);
        assert_eq!(
            [believes(16, 160_010), believes(17, 170_011), believes(18, 180_006)],
            [false, true, true]
        );
    }
}
