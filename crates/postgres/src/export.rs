//! A recovery point written as `pg_basebackup` would have left it: plain (`-Fp`) or as archives (`-Ft`).
//!
//! ```text
//! the point's entries and pages ─▶ folder or archives          each file's checksum made in passing
//! add_wal ──────────────────────▶ pg_wal, each file with its .done
//! finish ───────────────────────▶ backup_manifest, and last what marks it as complete
//! ```
//!
//! What a restore changes, an export does not: `pg_control` is as the server had it, no recovery setting is written, no
//! signal file. A plain folder has no `tablespace_map` (its links are made, as `pg_basebackup` makes them); archives have
//! it as the server gave it, and no links.
//!
//! **Invariants**
//! - The manifest's checksums are those of the bytes that were handed to the disk, which were checked before.
//! - A crash at any point leaves a folder without `global/pg_control`, or archives named `….strongroom-unfinished`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strongroom_engine::{EngineError, PageSink, Target};
use strongroom_model::entry::{Entry, EntryKind, EntryPath, Owner};
use strongroom_model::page::PAGE_SIZE;
use strongroom_model::{Timestamp, WalFile};

use crate::backup_manifest::{
    BACKUP_MANIFEST, BackedUp, ManifestFile, ScatteredCrc, backup_manifest, of_zeros,
};
use crate::target::tar::TarTarget;
use crate::target::{ControlPolicy, FolderTarget, TargetError, TargetOptions};
use crate::version::Major;

/// Only archives keep it: it tells the server to make links that a plain folder has.
const TABLESPACE_MAP: &str = "tablespace_map";

/// Where the server notes which WAL was archived.
const ARCHIVE_STATUS: &str = "pg_wal/archive_status";

/// Where it keeps summaries of WAL, from this version on. It is empty in a base backup, and must be there.
const SUMMARIES: (u16, &str) = (17, "pg_wal/summaries");

/// How an export is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A data directory, its tablespaces where they were or where this says, by number.
    Plain(BTreeMap<u32, PathBuf>),
    /// `base.tar`, one archive per tablespace named by its number, `pg_wal.tar`.
    Archives,
}

/// An export being written.
pub struct ExportTarget {
    major: Major,
    writer: Writer,
    files: Arc<Mutex<BTreeMap<EntryPath, ManifestFile>>>,
    /// Whose `pg_wal` is: what is added belongs to the same.
    owner: Mutex<Owner>,
}

enum Writer {
    Plain(FolderTarget),
    Archives(TarTarget),
}

impl ExportTarget {
    /// Takes the empty folder `path`, and those that tablespaces are mapped to, for files of a server of version `major`.
    pub fn create(path: &Path, major: Major, layout: Layout) -> Result<ExportTarget, TargetError> {
        let writer = match layout {
            Layout::Plain(tablespaces) => {
                let options = TargetOptions {
                    tablespaces,
                    control: ControlPolicy::AsStored,
                    ..TargetOptions::default()
                };
                Writer::Plain(FolderTarget::create(path, options)?)
            }
            Layout::Archives => Writer::Archives(TarTarget::create(path)?),
        };
        Ok(ExportTarget { major, writer, files: Arc::default(), owner: Mutex::default() })
    }

    /// What the user should know of what was written.
    pub fn notes(&self) -> Vec<String> {
        match &self.writer {
            Writer::Plain(folder) => folder.notes(),
            Writer::Archives(_) => Vec::new(),
        }
    }

    /// Puts a file into `pg_wal`, noted as archived: a server that starts here need not archive it again.
    pub fn add_wal(&self, file: WalFile, content: &[u8], at: Timestamp) -> Result<(), EngineError> {
        self.add(&format!("pg_wal/{file}"), content, at)?;
        self.add(&format!("{ARCHIVE_STATUS}/{file}.done"), b"", at)
    }

    /// Writes the manifest and what marks the whole as complete.
    pub fn finish_as(&self, backed_up: &BackedUp) -> Result<(), EngineError> {
        let text = backup_manifest(self.major, backed_up, &lock(&self.files));
        match &self.writer {
            Writer::Plain(_) => {
                self.leave(BACKUP_MANIFEST, &text)?;
                self.finish()
            }
            Writer::Archives(_) => {
                self.finish()?;
                self.leave(BACKUP_MANIFEST, &text)
            }
        }
    }

    fn add(&self, path: &str, content: &[u8], at: Timestamp) -> Result<(), EngineError> {
        let owner = lock(&self.owner).clone();
        let kind = EntryKind::File(content.len() as u64);
        let entry = Entry { path: entry_path(path)?, kind, mode: 0o600, owner, modified: at.unix_seconds() };
        self.prepare(&entry)?;
        let mut sink = self.open(&entry)?;
        sink.write(0, content)?;
        sink.close()
    }

    fn prepare_in_writer(&self, entry: &Entry) -> Result<(), EngineError> {
        match &self.writer {
            Writer::Plain(folder) => folder.prepare(entry),
            Writer::Archives(archives) => archives.prepare(entry),
        }
    }

    fn leaves_out(&self, entry: &Entry) -> bool {
        matches!(self.writer, Writer::Plain(_)) && entry.path.is(TABLESPACE_MAP)
    }
}

impl Target for ExportTarget {
    fn prepare(&self, entry: &Entry) -> Result<(), EngineError> {
        if self.leaves_out(entry) {
            return Ok(());
        }
        if let EntryKind::File(size) = entry.kind
            && !entry.path.as_bytes().starts_with(b"pg_wal/")
        {
            let file = ManifestFile { size, modified: entry.modified, crc: of_zeros(size) };
            lock(&self.files).insert(entry.path.clone(), file);
        }
        self.prepare_in_writer(entry)?;
        if entry.path.is("pg_wal") {
            *lock(&self.owner) = entry.owner.clone();
            let (since, summaries) = SUMMARIES;
            let summaries = Some(summaries).filter(|_| self.major.number() >= since);
            for folder in [ARCHIVE_STATUS].into_iter().chain(summaries) {
                self.prepare_in_writer(&Entry { path: entry_path(folder)?, ..entry.clone() })?;
            }
        }
        Ok(())
    }

    fn open(&self, entry: &Entry) -> Result<Box<dyn PageSink>, EngineError> {
        if self.leaves_out(entry) {
            return Ok(Box::new(LeftOut));
        }
        let inner = match &self.writer {
            Writer::Plain(folder) => folder.open(entry)?,
            Writer::Archives(archives) => archives.open(entry)?,
        };
        let (path, crc) = (entry.path.clone(), ScatteredCrc::new(entry.size()));
        Ok(Box::new(Summed { inner, path, crc, files: self.files.clone() }))
    }

    fn leave(&self, name: &str, text: &str) -> Result<(), EngineError> {
        match &self.writer {
            Writer::Plain(folder) => folder.add_file(&entry_path(name)?, text.as_bytes(), &lock(&self.owner)),
            Writer::Archives(archives) => archives.put_beside(name, text.as_bytes()),
        }
    }

    fn finish(&self) -> Result<(), EngineError> {
        match &self.writer {
            Writer::Plain(folder) => folder.finish(),
            Writer::Archives(archives) => archives.finish(),
        }
    }
}

/// A file whose checksum is made as it is written.
struct Summed {
    inner: Box<dyn PageSink>,
    path: EntryPath,
    crc: ScatteredCrc,
    files: Arc<Mutex<BTreeMap<EntryPath, ManifestFile>>>,
}

impl PageSink for Summed {
    fn write(&mut self, first: u32, bytes: &[u8]) -> Result<(), EngineError> {
        // First the writer, which refuses what lies beyond the end.
        self.inner.write(first, bytes)?;
        self.crc.add(u64::from(first) * PAGE_SIZE as u64, bytes);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), EngineError> {
        if let Some(file) = lock(&self.files).get_mut(&self.path) {
            // A file may be opened more than once: each time adds to its sum.
            file.crc ^= self.crc.sum();
        }
        self.inner.close()
    }
}

/// A file that the export does not have.
struct LeftOut;

impl PageSink for LeftOut {
    fn write(&mut self, _first: u32, _bytes: &[u8]) -> Result<(), EngineError> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), EngineError> {
        Ok(())
    }
}

fn entry_path(path: &str) -> Result<EntryPath, EngineError> {
    EntryPath::new(path).map_err(|why| EngineError::Unfit { what: why.to_string(), hint: String::new() })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is changed in single steps: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
