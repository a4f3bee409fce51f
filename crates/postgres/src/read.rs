//! Reading the listed files, page by page, from any thread; checking pages, also those that the server sends.
//!
//! A file is read up to its listed size: what it grew by since is in WAL, as is what it lost. Where the cluster has page
//! checksums, every page of every relation is checked in passing:
//!
//! ```text
//! page ── good or all zeros ─▶ stored
//!      └─ bad ── newer than the backup's start ─▶ stored: WAL holds its whole image, replay mends it
//!             └─ else read again a few times ── good ─▶ stored (it was being written)
//!                                             └─ bad ─▶ stored as it is, reported as damaged
//! ```
//!
//! **Invariant**: files are opened for reading only and links are not followed, but for tablespaces.
//!
//! Reads go through the page cache: the server's own dirty pages are there anyway, and direct reads of the same size
//! gained nothing on a cold file here. The kernel is told that pages will not be needed twice (`POSIX_FADV_NOREUSE`),
//! so that a backup does not drive the server's own out; nothing is dropped from the cache, for it would be the server's.

#![allow(clippy::disallowed_methods, reason = "this module is where a data directory's files are read")]

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Advice, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use strongroom_engine::{EngineError, PageCheck, PageRead, PageSource, Reader};
use strongroom_model::Lsn;
use strongroom_model::entry::{Entry, EntryKind, EntryPath};
use strongroom_model::page::PAGE_SIZE;

use crate::page::{Verdict, judge};
use crate::relation::RelationFile;

/// How often a bad page is read again, and how long apart: a server writes a page in far less.
const TRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(10);

/// More WAL than any backup sees written: a page that is further ahead of the start than this lies.
const FARTHEST: u64 = 1 << 44;

/// How to check pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// Where replay of the backup will begin.
    pub start: Lsn,
    /// Blocks in a relation's file before the next begins (`Control::blocks_per_file`).
    pub blocks_per_file: u32,
}

impl Checksums {
    /// What the pages of this file are checked against; `None` if it is no relation's.
    fn of(&self, path: &EntryPath) -> Option<Checked> {
        let relation = RelationFile::at(path)?;
        let first_block = relation.segment.checked_mul(self.blocks_per_file)?;
        Some(Checked { start: self.start, first_block })
    }
}

impl PageCheck for Checksums {
    fn damaged(&self, path: &EntryPath, first: u32, pages: &[u8]) -> Vec<u32> {
        let Some(checked) = self.of(path) else { return Vec::new() };
        let pages = (first..).zip(pages.as_chunks::<PAGE_SIZE>().0);
        pages.filter(|(number, page)| checked.is_bad(*number, page)).map(|(number, _)| number).collect()
    }
}

/// Opens the files of a listing.
pub struct FolderReader {
    root: PathBuf,
    entries: Arc<[Entry]>,
    checksums: Option<Checksums>,
    /// Waits between two tries.
    pause: fn(&Path),
}

impl FolderReader {
    /// A reader of the data directory at `root`. `checksums`: `None` when the cluster's pages have none.
    pub fn new(root: PathBuf, entries: Arc<[Entry]>, checksums: Option<Checksums>) -> FolderReader {
        // Not a wait for our own threads: the server's write is to pass.
        FolderReader { root, entries, checksums, pause: |_| std::thread::sleep(PAUSE) }
    }

    fn unfit(&self, path: &Path, found: &str) -> EngineError {
        let hint =
            "what else writes to the data directory? run `strongroom backup` again when it has stopped";
        EngineError::Unfit {
            what: format!("read {}: it has become {found}", path.display()),
            hint: hint.to_owned(),
        }
    }
}

impl Reader for FolderReader {
    fn open(&self, entry: usize) -> Result<Option<Box<dyn PageSource>>, EngineError> {
        let Some(Entry { path: relative, kind: EntryKind::File(size), .. }) = self.entries.get(entry) else {
            return Err(EngineError::io("read", &self.root, std::io::ErrorKind::InvalidInput.into()));
        };
        let path = self.root.join(relative.as_path());
        // Without NONBLOCK, opening what has become a pipe would wait for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty())) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(self.unfit(&path, "a link")),
            Err(Errno::ACCESS | Errno::PERM) => {
                return Err(EngineError::Unfit {
                    what: format!("read {}: permission denied", path.display()),
                    hint: "run strongroom as the system user that runs the server (often postgres)"
                        .to_owned(),
                });
            }
            file => file.map_err(|errno| EngineError::io("read", &path, errno.into()))?,
        };
        let found = rustix::fs::fstat(&file).map_err(|errno| EngineError::io("read", &path, errno.into()))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(self.unfit(&path, "something else than a file"));
        }
        // Advice is advice: file systems that do not take it read as well.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::NoReuse);
        let checked = self.checksums.and_then(|checksums| checksums.of(relative));
        Ok(Some(Box::new(OpenFile { file, path, limit: *size, checked, pause: self.pause })))
    }
}

impl fmt::Debug for FolderReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderReader").field("root", &self.root).finish_non_exhaustive()
    }
}

/// What the pages of an open file are checked against.
#[derive(Clone, Copy)]
struct Checked {
    start: Lsn,
    first_block: u32,
}

impl Checked {
    /// Whether the page of this number in its file is damaged, and no WAL holds its whole image.
    fn is_bad(&self, number: u32, page: &[u8; PAGE_SIZE]) -> bool {
        let Verdict::BadChecksum { lsn, .. } = judge(page, self.first_block.wrapping_add(number)) else {
            return false;
        };
        let ahead = lsn.0.saturating_sub(self.start.0);
        !(1..FARTHEST).contains(&ahead)
    }
}

struct OpenFile {
    file: OwnedFd,
    path: PathBuf,
    limit: u64,
    checked: Option<Checked>,
    pause: fn(&Path),
}

impl PageSource for OpenFile {
    fn read(&mut self, first: u32, buf: &mut [u8]) -> Result<PageRead, EngineError> {
        let offset = u64::from(first) * PAGE_SIZE as u64;
        let wanted = self.limit.saturating_sub(offset).min(buf.len() as u64) as usize;
        let bytes = self.fill(offset, &mut buf[..wanted])?;
        let damaged = match self.checked {
            Some(checked) => self.check(checked, first, &mut buf[..bytes])?,
            None => Vec::new(),
        };
        Ok(PageRead { bytes, damaged })
    }
}

impl OpenFile {
    /// Reads as much of `buf` as the file has from `offset` on.
    fn fill(&self, offset: u64, buf: &mut [u8]) -> Result<usize, EngineError> {
        let mut done = 0;
        while done < buf.len() {
            let read =
                retry_on_intr(|| rustix::io::pread(&self.file, &mut buf[done..], offset + done as u64));
            match read.map_err(|errno| EngineError::io("read", &self.path, errno.into()))? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    /// Checks whole pages; a last, short one has no checksum that could be checked. Bad ones are read again, all of
    /// them after one pause, so that a file that is damaged throughout does not cost a pause for each page.
    fn check(&self, checked: Checked, first: u32, buf: &mut [u8]) -> Result<Vec<u32>, EngineError> {
        let (pages, _) = buf.as_chunks_mut::<PAGE_SIZE>();
        let is_bad =
            |index: usize, page: &[u8; PAGE_SIZE]| checked.is_bad(first.wrapping_add(index as u32), page);
        let mut bad: Vec<usize> = (0..pages.len()).filter(|index| is_bad(*index, &pages[*index])).collect();
        for _ in 0..TRIES {
            if bad.is_empty() {
                break;
            }
            (self.pause)(&self.path);
            let mut still_bad = Vec::new();
            for index in bad {
                let mut again = [0; PAGE_SIZE];
                let offset = (u64::from(first) + index as u64) * PAGE_SIZE as u64;
                if self.fill(offset, &mut again)? < PAGE_SIZE {
                    continue; // cut off meanwhile: replay cuts it off, too
                }
                pages[index] = again;
                if is_bad(index, &again) {
                    still_bad.push(index);
                }
            }
            bad = still_bad;
        }
        Ok(bad.into_iter().map(|index| first + index as u32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::checksum;

    const START: Lsn = Lsn(0x1_0000_0000);

    /// A page of block `block` that was last changed at `lsn`.
    fn page(block: u32, lsn: Lsn) -> [u8; PAGE_SIZE] {
        let mut page = [block as u8 | 1; PAGE_SIZE];
        page[..4].copy_from_slice(&((lsn.0 >> 32) as u32).to_le_bytes());
        page[4..8].copy_from_slice(&(lsn.0 as u32).to_le_bytes());
        let sum = checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    /// Reads a file `name` with this content, listed with `listed` bytes.
    fn read(name: &str, content: &[u8], listed: u64, pause: fn(&Path)) -> (PageRead, Vec<u8>) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let entry = Entry {
            path: EntryPath::new(name).unwrap(),
            kind: EntryKind::File(listed),
            mode: 0o600,
            owner: Default::default(),
            modified: 0,
        };
        let checksums = Checksums { start: START, blocks_per_file: 131_072 };
        let reader = FolderReader {
            pause,
            ..FolderReader::new(root.path().to_owned(), [entry].into(), Some(checksums))
        };
        let mut buf = vec![0xAA; 4 * PAGE_SIZE];
        let read = reader.open(0).unwrap().unwrap().read(0, &mut buf).unwrap();
        buf.truncate(read.bytes);
        (read, buf)
    }

    fn no_pause(_: &Path) {}

    #[test]
    fn only_true_damage_is_reported() {
        let old = Lsn(START.0 - 1);
        let spoilt = |mut page: [u8; PAGE_SIZE]| {
            page[5000] ^= 1;
            page
        };
        for (pages, damaged) in [
            ([page(0, old), page(1, old)], vec![]),
            ([[0; PAGE_SIZE], page(1, old)], vec![]),
            ([page(0, old), spoilt(page(1, old))], vec![1]),
            ([page(1, old), page(0, old)], vec![0, 1]),
            ([page(0, old), spoilt(page(1, START))], vec![1]),
            ([page(0, old), spoilt(page(1, Lsn(START.0 + 1)))], vec![]),
            ([page(0, old), spoilt(page(1, Lsn(u64::MAX)))], vec![1]),
        ] {
            let content = pages.concat();
            let (read, bytes) = read("base/5/16384", &content, content.len() as u64, no_pause);
            assert_eq!((read.bytes, read.damaged), (content.len(), damaged));
            assert_eq!(bytes, content);
        }
    }

    #[test]
    fn pages_that_were_sent_are_checked_as_those_that_are_read() {
        let checksums = Checksums { start: START, blocks_per_file: 131_072 };
        let pages = [page(0, Lsn(7)), page(7, Lsn(7)), page(8, Lsn(START.0 + 1)), page(3, Lsn(7))].concat();
        let damaged = |path: &str, first| checksums.damaged(&EntryPath::new(path).unwrap(), first, &pages);
        // The third was written after the start.
        assert_eq!(damaged("base/5/16384", 0), [1]);
        assert_eq!(damaged("base/5/16384.1", 0), [0, 1, 3]);
        assert_eq!(damaged("base/5/16384", 6), [6, 9]);
        assert_eq!(damaged("pg_xact/0000", 0), [0; 0]);
        let short = &pages[..PAGE_SIZE + 9];
        assert_eq!(checksums.damaged(&EntryPath::new("base/5/16384").unwrap(), 0, short), [0; 0]);
    }

    #[test]
    fn blocks_are_counted_over_all_files_of_a_relation_and_others_are_not_checked() {
        let second = page(131_072, Lsn(7));
        for (name, damaged) in [
            ("base/5/16384.1", vec![]),
            ("base/5/16384", vec![0]),
            ("base/5/16384_vm", vec![0]),
            ("pg_tblspc/8/PG_15_202209061/5/16384_fsm", vec![0]),
            ("base/5/pg_filenode.map", vec![]),
            ("pg_xact/0000", vec![]),
        ] {
            assert_eq!(read(name, &second, PAGE_SIZE as u64, no_pause).0.damaged, damaged, "{name}");
        }
    }

    #[test]
    fn behaviour_19_a_torn_page_is_read_until_it_is_stable() {
        let whole = page(0, Lsn(7));
        let mut torn = whole;
        torn[PAGE_SIZE / 2..].fill(0);
        let mend = |path: &Path| std::fs::write(path, page(0, Lsn(7))).unwrap();
        assert_eq!(
            read("base/5/1", &torn, PAGE_SIZE as u64, mend),
            (PageRead { bytes: PAGE_SIZE, damaged: vec![] }, whole.to_vec())
        );
        let cut = |path: &Path| std::fs::write(path, []).unwrap();
        assert_eq!(read("base/5/1", &torn, PAGE_SIZE as u64, cut).0.damaged, Vec::<u32>::new());
    }

    #[test]
    fn a_file_is_read_as_long_as_it_is_but_not_longer_than_listed() {
        let content = [page(0, Lsn(7)).as_slice(), &page(1, Lsn(7))[..100]].concat();
        for (listed, bytes) in
            [(content.len(), content.len()), (PAGE_SIZE, PAGE_SIZE), (4 * PAGE_SIZE, content.len()), (0, 0)]
        {
            let (read, stored) = read("base/5/1", &content, listed as u64, no_pause);
            assert_eq!((read.bytes, read.damaged.len(), stored.as_slice()), (bytes, 0, &content[..bytes]));
        }
    }

    #[test]
    fn what_has_gone_is_none_and_what_has_become_a_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let entry = |name: &str| Entry {
            path: EntryPath::new(name).unwrap(),
            kind: EntryKind::File(1),
            mode: 0o600,
            owner: Default::default(),
            modified: 0,
        };
        let reader = FolderReader::new(root.path().to_owned(), [entry("gone"), entry("link")].into(), None);
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("link")).unwrap();
        assert!(reader.open(0).unwrap().is_none());
        assert!(matches!(reader.open(1), Err(EngineError::Unfit { .. })));
        assert!(reader.open(2).is_err());
    }
}
