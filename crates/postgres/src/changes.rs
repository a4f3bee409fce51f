//! What changed since an earlier backup, from the server's own WAL summaries.
//!
//! ```text
//! LSN        earlier backup's start                                   this one's start
//!                    │◀────────────── the stretch ─────────────────────▶│
//! summaries   |──────|───────────|──────|───────────────────────────────|──      of one timeline, without a gap
//! ```
//!
//! Both starts are checkpoints' redo points. What changed before the first is on disk when the earlier backup reads, what
//! changes after the second is in the WAL that a restore replays. In between, a block that no summary names did not change.
//!
//! **Invariants**
//! - Only main forks of relations are spoken for. Free space maps are not in WAL, visibility maps were recorded wrongly (see
//!   docs/decisions/0016), other files are in no summary at all.
//! - A relation that was created, dropped or cut in the stretch is not spoken for, nor is a database that was.
//! - A summary that is missing, damaged or not understood means that nothing is known.
//!
//! The folder is only read. A file that the server removes meanwhile is one that is missing.

#![allow(clippy::disallowed_methods, reason = "this module is where the server's WAL summaries are read")]

use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_engine::ChangedPages;
use strongroom_model::entry::Entry;
use strongroom_model::page::PAGE_SIZE;
use strongroom_model::{Lsn, Timeline};

use crate::page;
use crate::relation::{Fork, Relation};
use crate::wal_summary::{ChangedBlocks, SummaryError, SummaryName};

/// Bytes of a summary that are read at most, before any page is: half of it names 128 GiB of scattered pages.
const LONGEST: u64 = 64 << 20;

/// Why summaries cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// The system refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// `list` or `read`.
        operation: &'static str,
        /// What.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A summary cannot be believed.
    #[error("read {}: {why}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: SummaryError,
    },
    /// A summary is longer than any should be.
    #[error("read {}: it is longer than {LONGEST} bytes", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
}

/// WAL from `start` up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Of which timeline.
    pub timeline: Timeline,
    /// The first record is here.
    pub start: Lsn,
    /// One past the last.
    pub end: Lsn,
}

/// How much of a stretch is summarised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All of it, by these.
    Whole(Vec<SummaryName>),
    /// Up to here: more may come.
    Until(Lsn),
    /// Not this, and later WAL is: it will not come any more.
    Broken {
        /// Where it begins.
        from: Lsn,
        /// Where the next summary begins.
        to: Lsn,
    },
}

/// Looks how much of the stretch the summaries in `folder` cover.
pub fn coverage(folder: &Path, stretch: Stretch) -> Result<Coverage, ChangesError> {
    let io = |source| ChangesError::Io { operation: "list", path: folder.to_owned(), source };
    let mut names = Vec::new();
    match std::fs::read_dir(folder) {
        // The server makes it with the first summary.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
        Ok(entries) => {
            for entry in entries {
                names.extend(SummaryName::parse(entry.map_err(io)?.file_name().as_bytes()));
            }
        }
    }
    Ok(cover(names, stretch))
}

fn cover(mut names: Vec<SummaryName>, stretch: Stretch) -> Coverage {
    // What only touches an end of the stretch says nothing of it.
    names.retain(|name| {
        name.timeline == stretch.timeline && name.start < stretch.end && name.end > stretch.start
    });
    names.sort_unstable();
    let mut until = stretch.start;
    for name in &names {
        if name.start > until {
            return Coverage::Broken { from: until, to: name.start };
        }
        until = until.max(name.end);
    }
    if until >= stretch.end { Coverage::Whole(names) } else { Coverage::Until(until) }
}

/// Reads these summaries.
pub fn read_all(folder: &Path, names: &[SummaryName]) -> Result<ChangedBlocks, ChangesError> {
    let (mut blocks, mut content) = (ChangedBlocks::default(), Vec::new());
    for name in names {
        let path = folder.join(name.to_string());
        let io = |source| ChangesError::Io { operation: "read", path: path.clone(), source };
        content.clear();
        let file = std::fs::File::open(&path).map_err(io)?;
        file.take(LONGEST + 1).read_to_end(&mut content).map_err(io)?;
        if content.len() as u64 > LONGEST {
            return Err(ChangesError::TooLong { path });
        }
        blocks.add(&content).map_err(|why| ChangesError::Wrong { path, why })?;
    }
    Ok(blocks)
}

/// What the summaries of a stretch say of a backup's entries.
#[derive(Debug)]
pub struct RecordedChanges {
    /// The blocks they name.
    pub blocks: ChangedBlocks,
    /// The backup's entries.
    pub entries: Arc<[Entry]>,
    /// Blocks in a relation's file before the next begins.
    pub blocks_per_file: u32,
    /// The stretch.
    pub stretch: Stretch,
    /// Setting a hint bit is in WAL as well: so it is with page checksums, and else may be done unseen.
    pub hint_bits_are_logged: bool,
}

impl ChangedPages for RecordedChanges {
    fn changed(&self, entry: usize, pages: Range<u32>) -> Option<Vec<u32>> {
        let (relation, file) = Relation::at(&self.entries.get(entry)?.path)?;
        if file.fork != Fork::Main || pages.end > self.blocks_per_file {
            return None;
        }
        let first = file.segment.checked_mul(self.blocks_per_file)?;
        let blocks = first.checked_add(pages.start)?..first.checked_add(pages.end)?;
        let changed = self.blocks.of(relation, blocks)?;
        Some(changed.into_iter().map(|block| block - first).collect())
    }

    fn is_contradicted_by(&self, page: &[u8]) -> bool {
        let Some(page) = page.first_chunk::<PAGE_SIZE>() else { return false };
        let lsn = page::lsn(page);
        if lsn > self.stretch.end {
            return false; // changed since this backup began
        }
        // One that changed without WAL since the earlier backup: a hint bit, where those are not logged.
        lsn > self.stretch.start || self.hint_bits_are_logged
    }
}

#[cfg(test)]
mod tests {
    use strongroom_model::entry::{EntryKind, EntryPath};

    use super::*;
    use crate::wal_summary::tests::summary;

    fn name(timeline: u32, start: u64, end: u64) -> SummaryName {
        SummaryName { timeline: Timeline::new(timeline).unwrap(), start: Lsn(start), end: Lsn(end) }
    }

    #[test]
    fn a_stretch_is_covered_without_a_gap_or_not_at_all() {
        let stretch = Stretch { timeline: Timeline::FIRST, start: Lsn(100), end: Lsn(200) };
        let whole = |names: &[(u64, u64)]| {
            Coverage::Whole(names.iter().map(|(start, end)| name(1, *start, *end)).collect())
        };
        let broken = |from, to| Coverage::Broken { from: Lsn(from), to: Lsn(to) };
        for (summaries, expected) in [
            (vec![], Coverage::Until(Lsn(100))),
            (vec![(1, 100, 200)], whole(&[(100, 200)])),
            (vec![(1, 150, 200), (1, 100, 150)], whole(&[(100, 150), (150, 200)])),
            (vec![(1, 10, 160), (1, 120, 300)], whole(&[(10, 160), (120, 300)])),
            (vec![(1, 100, 150)], Coverage::Until(Lsn(150))),
            (vec![(1, 50, 100)], Coverage::Until(Lsn(100))),
            (vec![(1, 101, 200)], broken(100, 101)),
            (vec![(1, 100, 150), (1, 151, 200)], broken(150, 151)),
            // What ends or begins at an end of the stretch, and what is of another timeline, says nothing of it.
            (vec![(1, 100, 200), (1, 50, 100), (1, 200, 300), (2, 100, 200)], whole(&[(100, 200)])),
            (vec![(2, 100, 200)], Coverage::Until(Lsn(100))),
        ] {
            let names = summaries.iter().map(|(timeline, start, end)| name(*timeline, *start, *end));
            assert_eq!(cover(names.collect(), stretch), expected, "{summaries:?}");
        }
    }

    fn recorded(paths: &[&str], hint_bits_are_logged: bool) -> RecordedChanges {
        let entry = |path: &&str| Entry {
            path: EntryPath::new(*path).unwrap(),
            kind: EntryKind::File(1 << 30),
            mode: 0o600,
            owner: Default::default(),
            modified: 0,
        };
        RecordedChanges {
            blocks: ChangedBlocks::default(),
            entries: paths.iter().map(entry).collect(),
            blocks_per_file: 131_072,
            stretch: Stretch { timeline: Timeline::FIRST, start: Lsn(100), end: Lsn(200) },
            hint_bits_are_logged,
        }
    }

    #[test]
    fn only_main_forks_of_relations_are_spoken_for() {
        let paths =
            ["base/5/1", "base/5/1.3", "base/5/1_vm", "base/5/1_fsm", "base/5/1_init", "pg_xact/0000"];
        let changes = recorded(&paths, true);
        let spoken_for: Vec<bool> = (0..7).map(|entry| changes.changed(entry, 0..9).is_some()).collect();
        assert_eq!(spoken_for, [true, true, false, false, false, false, false]);
        assert_eq!(changes.changed(0, 131_072..131_073), None);
    }

    #[test]
    fn blocks_are_counted_over_all_files_of_a_relation() {
        let mut changes = recorded(&["base/5/1", "base/5/1.2"], true);
        let relation = Relation { tablespace: 1663, database: 5, number: 1 };
        changes
            .blocks
            .add(&summary(&[(relation, 0, None, vec![7, 2 * 131_072 + 7, 2 * 131_072 + 9])]))
            .unwrap();
        assert_eq!(changes.changed(0, 0..131_072), Some(vec![7]));
        assert_eq!(changes.changed(1, 0..131_072), Some(vec![7, 9]));
        assert_eq!(changes.changed(1, 8..10), Some(vec![9]));
    }

    #[test]
    fn a_page_contradicts_by_where_it_was_changed_last() {
        let page = |lsn: u64| {
            let mut page = [1; PAGE_SIZE];
            page[..4].fill(0);
            page[4..8].copy_from_slice(&(lsn as u32).to_le_bytes());
            page
        };
        for (lsn, with_checksums, without) in
            [(0, true, false), (100, true, false), (101, true, true), (200, true, true), (201, false, false)]
        {
            assert_eq!(recorded(&[], true).is_contradicted_by(&page(lsn)), with_checksums, "{lsn}");
            assert_eq!(recorded(&[], false).is_contradicted_by(&page(lsn)), without, "{lsn}");
        }
        assert!(!recorded(&[], true).is_contradicted_by(&[1; 100]));
    }
}
