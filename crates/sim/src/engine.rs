//! A source in memory: a few files, a journal position, no server. And a place to restore it into.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_engine::{
    BackupSession, ChangedPages, Changes, Engine, EngineError, Inspection, LateFile, PageRead, PageSink,
    PageSource, Reader, StartOptions, Started, Stopped, Target,
};
use strongroom_model::entry::{Entry, EntryKind, EntryPath, Owner};
use strongroom_model::page::PAGE_SIZE;
use strongroom_model::point::PointFacts;
use strongroom_model::{Cx, Lsn, SegmentSize, SystemId, Timeline};

/// Files by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A source in memory.
#[derive(Clone, Debug)]
pub struct ToyEngine {
    /// Its system identifier.
    pub lineage: SystemId,
    /// Its files.
    pub files: Files,
    /// The WAL segment a backup of it begins and ends in.
    pub segment: u64,
    /// Files that vanish between the listing and the reading.
    pub vanishing: Vec<String>,
    /// Files that are cut to this many bytes between the listing and the reading.
    pub shrinking: BTreeMap<String, usize>,
    /// Its files at the earlier backup, if it keeps a record of what changed since.
    pub before: Option<Files>,
    /// Pages that change without its record's knowledge.
    pub unrecorded: Vec<(String, u32)>,
}

impl ToyEngine {
    /// A source with these files.
    pub fn new(lineage: u64, files: Files) -> ToyEngine {
        ToyEngine {
            lineage: SystemId(lineage),
            files,
            segment: 1,
            vanishing: Vec::new(),
            shrinking: BTreeMap::new(),
            before: None,
            unrecorded: Vec::new(),
        }
    }

    /// The same source with these files later on, which has kept a record of what changed.
    pub fn later(&self, files: Files) -> ToyEngine {
        ToyEngine { before: Some(self.files.clone()), files, ..self.clone() }
    }

    /// What a restore of a backup taken now must give.
    pub fn expected(&self) -> Files {
        let mut files = self.files.clone();
        files.retain(|path, _| !self.vanishing.contains(path));
        for (path, size) in &self.shrinking {
            if let Some(content) = files.get_mut(path) {
                content.truncate(*size);
            }
        }
        files.insert("label".into(), b"late".to_vec());
        files
    }
}

fn entry(path: &str, size: u64) -> Result<Entry, EngineError> {
    let unfit = |why: strongroom_model::entry::PathError| EngineError::Unfit {
        what: why.to_string(),
        hint: String::new(),
    };
    Ok(Entry {
        path: EntryPath::new(path).map_err(unfit)?,
        kind: EntryKind::File(size),
        mode: 0o600,
        owner: Owner::default(),
        modified: 0,
    })
}

#[async_trait::async_trait]
impl Engine for ToyEngine {
    fn name(&self) -> &'static str {
        "toy"
    }

    async fn inspect(&self, _cx: &Cx) -> Result<Inspection, EngineError> {
        Ok(Inspection {
            product: "Toy 1".into(),
            lineage: self.lineage,
            timeline: Timeline::FIRST,
            segment_size: SegmentSize::DEFAULT,
            time_zone: "UTC".into(),
            facts: serde_json::Value::Null,
        })
    }

    async fn start(&self, cx: &Cx, _options: &StartOptions) -> Result<Box<dyn BackupSession>, EngineError> {
        let entries = self.files.iter().map(|(path, content)| entry(path, content.len() as u64));
        let started = Started {
            lineage: self.lineage,
            timeline: Timeline::FIRST,
            lsn: Lsn(self.segment << 24),
            at: cx.now(),
        };
        Ok(Box::new(ToySession {
            engine: self.clone(),
            started,
            entries: entries.collect::<Result<_, _>>()?,
        }))
    }
}

struct ToySession {
    engine: ToyEngine,
    started: Started,
    entries: Vec<Entry>,
}

#[async_trait::async_trait]
impl BackupSession for ToySession {
    fn started(&self) -> &Started {
        &self.started
    }

    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn reader(&self) -> Arc<dyn Reader> {
        let content = |path: &String, content: &Vec<u8>| {
            let size = self.engine.shrinking.get(path).copied().unwrap_or(content.len());
            let there = !self.engine.vanishing.contains(path);
            there.then(|| content[..size.min(content.len())].to_vec())
        };
        Arc::new(ToyReader(self.engine.files.iter().map(|(path, bytes)| content(path, bytes)).collect()))
    }

    async fn changes_since(&mut self, _cx: &Cx, _earlier: &PointFacts) -> Result<Changes, EngineError> {
        let Some(before) = self.engine.before.clone() else {
            return Ok(Changes::Unrecorded("the toy keeps no record".into()));
        };
        let (now, unrecorded) = (self.engine.files.clone(), self.engine.unrecorded.clone());
        Ok(Changes::Recorded(Arc::new(ToyChanges { before, now, unrecorded })))
    }

    async fn check(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    async fn stop(self: Box<Self>, cx: &Cx) -> Result<Stopped, EngineError> {
        let content = bytes::Bytes::from_static(b"late");
        let late = vec![LateFile { entry: entry("label", content.len() as u64)?, content }];
        let lsn = Lsn((self.engine.segment << 24) + 100);
        Ok(Stopped { lsn, timeline: Timeline::FIRST, at: cx.now(), late, facts: serde_json::Value::Null })
    }
}

/// What changed in a toy, but for what it conceals.
struct ToyChanges {
    before: Files,
    now: Files,
    unrecorded: Vec<(String, u32)>,
}

impl ChangedPages for ToyChanges {
    fn changed(&self, entry: usize, pages: Range<u32>) -> Option<Vec<u32>> {
        let (path, now) = self.now.iter().nth(entry)?;
        let before = self.before.get(path)?;
        let page =
            |file: &[u8], page: u32| file.chunks(PAGE_SIZE).nth(page as usize).unwrap_or_default().to_vec();
        let is_named = |at: &u32| {
            page(now, *at) != page(before, *at)
                && !self.unrecorded.iter().any(|(of, page)| of == path && page == at)
        };
        Some(pages.filter(is_named).collect())
    }

    fn is_contradicted_by(&self, _page: &[u8]) -> bool {
        true
    }
}

struct ToyReader(Vec<Option<Vec<u8>>>);

impl Reader for ToyReader {
    fn open(&self, entry: usize) -> Result<Option<Box<dyn PageSource>>, EngineError> {
        let content = self.0.get(entry).cloned().flatten();
        Ok(content.map(|content| Box::new(ToySource(content)) as Box<dyn PageSource>))
    }
}

struct ToySource(Vec<u8>);

impl PageSource for ToySource {
    fn read(&mut self, first: u32, buf: &mut [u8]) -> Result<PageRead, EngineError> {
        let rest = self.0.get(first as usize * PAGE_SIZE..).unwrap_or_default();
        let bytes = rest.len().min(buf.len());
        buf[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(PageRead { bytes, damaged: Vec::new() })
    }
}

/// A place in memory to restore into. Like an operating system it lets only so many files be open at a time.
#[derive(Clone, Debug, Default)]
pub struct ToyTarget {
    files: Arc<Mutex<Files>>,
    /// What was there is kept, and compared.
    over: bool,
    open: Arc<AtomicUsize>,
}

/// Files that may be open at a time.
const OPEN_LIMIT: usize = 256;

impl ToyTarget {
    /// A place with these files in it, to be restored over.
    pub fn over(files: Files) -> ToyTarget {
        ToyTarget { files: Arc::new(Mutex::new(files)), over: true, open: Arc::default() }
    }

    /// What was restored.
    pub fn files(&self) -> Files {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Target for ToyTarget {
    fn prepare(&self, entry: &Entry) -> Result<(), EngineError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = files.remove(&entry.path.to_string()).filter(|_| self.over);
        let mut content = kept.unwrap_or_default();
        content.resize(entry.size() as usize, 0);
        files.insert(entry.path.to_string(), content);
        Ok(())
    }

    fn present(&self, entry: &Entry) -> Result<Option<Box<dyn PageSource>>, EngineError> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let content = files.get(&entry.path.to_string()).filter(|_| self.over);
        Ok(content.map(|content| Box::new(ToySource(content.clone())) as Box<dyn PageSource>))
    }

    fn open(&self, entry: &Entry) -> Result<Box<dyn PageSink>, EngineError> {
        let path = entry.path.to_string();
        let sink = ToySink { path, files: Arc::clone(&self.files), open: Arc::clone(&self.open) };
        // Counted from here on: dropping the sink uncounts it.
        if self.open.fetch_add(1, Ordering::Relaxed) >= OPEN_LIMIT {
            return Err(EngineError::io("open", &sink.path, std::io::ErrorKind::QuotaExceeded.into()));
        }
        Ok(Box::new(sink))
    }

    fn leave(&self, name: &str, text: &str) -> Result<(), EngineError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(name.to_owned(), text.into());
        Ok(())
    }

    fn finish(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

struct ToySink {
    path: String,
    files: Arc<Mutex<Files>>,
    open: Arc<AtomicUsize>,
}

impl Drop for ToySink {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PageSink for ToySink {
    fn write(&mut self, first: u32, bytes: &[u8]) -> Result<(), EngineError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let at = first as usize * PAGE_SIZE;
        let room = files.get_mut(&self.path).and_then(|file| file.get_mut(at..at + bytes.len()));
        match room {
            Some(room) => room.copy_from_slice(bytes),
            None => unreachable!("{} was given pages beyond its end", self.path),
        }
        Ok(())
    }

    fn clear(&mut self, pages: Range<u32>) -> Result<(), EngineError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = files.get_mut(&self.path) else { return Ok(()) };
        let (from, to) = (pages.start as usize * PAGE_SIZE, pages.end as usize * PAGE_SIZE);
        let to = to.min(file.len());
        file[from..to].fill(0);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), EngineError> {
        Ok(())
    }
}
