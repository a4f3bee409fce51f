//! Names of relations' files (PostgreSQL `common/relpath.c`, `storage/file/reinit.c`).
//!
//! ```text
//! 16384        main fork           16384_fsm  16384_vm  16384_init     the other forks
//! 16384.1      its second file     t3_16384   of a temporary relation of backend 3
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use strongroom_model::entry::EntryPath;

/// Blocks of 8 KiB in a file of 1 GiB (`RELSEG_SIZE`).
const BLOCKS_PER_FILE: u64 = 131_072;

/// A part of a relation that has files of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// Rows or index entries.
    Main,
    /// Where room is.
    FreeSpace,
    /// Which pages all can see.
    Visibility,
    /// What an unlogged relation is reset to after a crash.
    Init,
}

/// The file of a permanent or unlogged relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationFile {
    /// The relation's file number.
    pub number: u32,
    /// Of which fork.
    pub fork: Fork,
    /// Which of the fork's files, from 0.
    pub segment: u32,
}

impl RelationFile {
    /// Reads a file name.
    pub fn parse(name: &[u8]) -> Option<RelationFile> {
        let name = str::from_utf8(name).ok()?;
        let (name, segment) = match name.split_once('.') {
            Some((name, segment)) => (name, number(segment).filter(|segment| *segment > 0)?),
            None => (name, 0),
        };
        let (relation, fork) = match name.split_once('_') {
            None => (name, Fork::Main),
            Some((relation, "fsm")) => (relation, Fork::FreeSpace),
            Some((relation, "vm")) => (relation, Fork::Visibility),
            Some((relation, "init")) => (relation, Fork::Init),
            Some(_) => return None,
        };
        Some(RelationFile { number: number(relation)?, fork, segment })
    }

    /// The relation file at `path` in a data directory: in `global`, in a database's folder of `base`, or in one of a
    /// tablespace.
    pub fn at(path: &EntryPath) -> Option<RelationFile> {
        Relation::at(path).map(|(_, file)| file)
    }
}

/// A relation, as WAL names it (`RelFileLocator`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relation {
    /// Its tablespace.
    pub tablespace: u32,
    /// Its database; 0 for what all databases share.
    pub database: u32,
    /// Its file number.
    pub number: u32,
}

/// `DEFAULTTABLESPACE_OID` and `GLOBALTABLESPACE_OID`.
const DEFAULT_TABLESPACE: u32 = 1663;
const GLOBAL_TABLESPACE: u32 = 1664;

impl Relation {
    /// The relation whose file is at `path` in a data directory, and the file.
    pub fn at(path: &EntryPath) -> Option<(Relation, RelationFile)> {
        let mut segments = path.as_bytes().split(|byte| *byte == b'/');
        let mut next = || segments.next();
        let (tablespace, database) = match next()? {
            b"global" => (GLOBAL_TABLESPACE, 0),
            b"base" => (DEFAULT_TABLESPACE, folder_number(next()?)?),
            b"pg_tblspc" => {
                let tablespace = folder_number(next()?)?;
                next().filter(|folder| folder.starts_with(b"PG_"))?;
                (tablespace, folder_number(next()?)?)
            }
            _ => return None,
        };
        let file = RelationFile::parse(next()?)?;
        match next() {
            Some(_) => None,
            None => Some((Relation { tablespace, database, number: file.number }, file)),
        }
    }
}

/// The database that a file is of: what lies in its folder of `base`, or of a tablespace.
pub fn database_of(path: &EntryPath) -> Option<u32> {
    let mut segments = path.as_bytes().split(|byte| *byte == b'/');
    let folder = match segments.next()? {
        b"base" => segments.next()?,
        b"pg_tblspc" => {
            folder_number(segments.next()?)?;
            segments.next().filter(|folder| folder.starts_with(b"PG_"))?;
            segments.next()?
        }
        _ => return None,
    };
    segments.next().and(folder_number(folder))
}

/// Says what the pages of a file are to people: the relation, its database and its blocks, counted through all of its files
/// of 1 GiB (`RELSEG_SIZE`, as everybody builds it). `databases` are names by number.
pub fn describe(path: &EntryPath, pages: &[Range<u32>], databases: &BTreeMap<u32, String>) -> String {
    let Some(file) = RelationFile::at(path) else {
        return "no relation's file: without it the cluster may not start, or answer wrongly".to_owned();
    };
    let of = match file.fork {
        Fork::Main => "",
        Fork::FreeSpace => "free space map of ",
        Fork::Visibility => "visibility map of ",
        Fork::Init => "initial content of unlogged ",
    };
    let folder = path.as_bytes().rsplit(|byte| *byte == b'/').nth(1).and_then(folder_number);
    let database = match folder.map(|oid| (oid, databases.get(&oid))) {
        None => "all databases".to_owned(),
        Some((_, Some(name))) => format!("database {name}"),
        Some((oid, None)) => format!("database {oid}"),
    };
    let first = u64::from(file.segment) * BLOCKS_PER_FILE;
    format!("{of}relation {} of {database}, blocks {}", file.number, page_numbers(pages, first))
}

/// Ranges of pages as people write them, counted from `first`: `3, 7-8`.
pub fn page_numbers(pages: &[Range<u32>], first: u64) -> String {
    let written = pages
        .iter()
        .map(|range| (first + u64::from(range.start), first + u64::from(range.end) - 1))
        .map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") });
    written.collect::<Vec<_>>().join(", ")
}

/// Whether a file belongs to a temporary relation: `t`, the backend, `_`, then as for any other.
pub fn is_temporary(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"t") else { return false };
    let mut parts = rest.splitn(2, |byte| *byte == b'_');
    let backend = parts.next().and_then(folder_number);
    backend.is_some() && parts.next().and_then(RelationFile::parse).is_some()
}

/// A folder named by an OID: a database or a tablespace.
pub fn folder_number(name: &[u8]) -> Option<u32> {
    str::from_utf8(name).ok().and_then(number)
}

/// Digits alone: `parse` would take a sign, too.
fn number(digits: &str) -> Option<u32> {
    // An empty string does not parse.
    if digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relation_files_are_told_from_others() {
        let file = |number, fork, segment| Some(RelationFile { number, fork, segment });
        for (path, expected) in [
            ("base/5/16384", file(16384, Fork::Main, 0)),
            ("base/5/16384.12", file(16384, Fork::Main, 12)),
            ("base/5/16384_fsm", file(16384, Fork::FreeSpace, 0)),
            ("base/5/16384_vm.1", file(16384, Fork::Visibility, 1)),
            ("base/5/4294967295_init", file(4_294_967_295, Fork::Init, 0)),
            ("global/1262", file(1262, Fork::Main, 0)),
            ("pg_tblspc/16401/PG_15_202209061/5/16384", file(16384, Fork::Main, 0)),
            ("base/5/PG_VERSION", None),
            ("base/5/pg_filenode.map", None),
            ("base/5/t3_16384", None),
            ("base/5/16384_old", None),
            ("base/5/16384.", None),
            ("base/5/16384.0", None),
            ("base/5/+16384", None),
            ("base/5/4294967296", None),
            ("base/x/16384", None),
            ("base/5/6/16384", None),
            ("pg_xact/0000", None),
            ("pg_tblspc/16401/other/5/16384", None),
        ] {
            assert_eq!(RelationFile::at(&EntryPath::new(path).unwrap()), expected, "{path}");
        }
    }

    #[test]
    fn a_path_names_its_relation() {
        for (path, expected) in [
            ("base/5/16384.2", Some((1663, 5, 16384))),
            ("global/1262_vm", Some((1664, 0, 1262))),
            ("pg_tblspc/16401/PG_15_202209061/5/16384", Some((16401, 5, 16384))),
            ("base/5/PG_VERSION", None),
            ("pg_tblspc/16401/PG_15_202209061/16384", None),
        ] {
            let found = Relation::at(&EntryPath::new(path).unwrap());
            let found = found.map(|(relation, _)| (relation.tablespace, relation.database, relation.number));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn lost_pages_are_described_as_blocks_of_relations() {
        let databases = BTreeMap::from([(5, "orders".to_owned())]);
        for (path, expected) in [
            ("base/5/16384", "relation 16384 of database orders, blocks 3, 7-8"),
            ("base/5/16384.2", "relation 16384 of database orders, blocks 262147, 262151-262152"),
            ("base/6/16384_fsm", "free space map of relation 16384 of database 6, blocks 3, 7-8"),
            ("global/1262", "relation 1262 of all databases, blocks 3, 7-8"),
            (
                "pg_tblspc/9/PG_15_202209061/5/16384_vm",
                "visibility map of relation 16384 of database orders, blocks 3, 7-8",
            ),
            ("pg_xact/0000", "no relation's file: without it the cluster may not start, or answer wrongly"),
        ] {
            let path = EntryPath::new(path).unwrap();
            assert_eq!(describe(&path, &[3..4, 7..9], &databases), expected);
        }
    }

    #[test]
    fn temporary_relations_are_told_from_others() {
        for (name, temporary) in [
            ("t3_16384", true),
            ("t12_16384_fsm", true),
            ("t3_16384.1", true),
            ("t_16384", false),
            ("t3_", false),
            ("t3", false),
            ("16384", false),
            ("table", false),
        ] {
            assert_eq!(is_temporary(name.as_bytes()), temporary, "{name}");
        }
    }
}
