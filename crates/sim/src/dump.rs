//! A database in memory that is dumped: a few parts, no server. And one to restore into.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use strongroom_engine::{
    DumpEngine, DumpInspection, DumpPart, DumpSession, DumpTarget, Dumped, EngineError, LoadPlan, Loaded,
    PartReader, PartWriter,
};
use strongroom_model::entry::EntryPath;
use strongroom_model::{Cx, Timestamp};

use crate::engine::Files;

/// What is done first when a dump is restored.
pub const SCHEMA: &str = "schema";

/// A database in memory: parts by name, `schema` among them.
#[derive(Clone, Debug)]
pub struct ToyDump {
    /// What a dump of it consists of.
    pub parts: Files,
    /// Bytes of a piece it sends.
    pub piece: usize,
    /// After how many pieces of one part its connection breaks.
    pub breaks_after: Option<usize>,
}

impl ToyDump {
    /// A database with these parts, which sends them in pieces of an odd length.
    pub fn new(parts: Files) -> ToyDump {
        ToyDump { parts, piece: 1001, breaks_after: None }
    }

    /// Lengths by name: what a restore compares with.
    fn lengths(&self) -> serde_json::Value {
        self.parts
            .iter()
            .map(|(name, content)| (name.clone(), serde_json::Value::from(content.len())))
            .collect()
    }
}

fn path(name: &str) -> Result<EntryPath, EngineError> {
    EntryPath::new(name).map_err(|why| unfit(why.to_string()))
}

fn unfit(what: String) -> EngineError {
    EngineError::Unfit { what, hint: String::new() }
}

#[async_trait::async_trait]
impl DumpEngine for ToyDump {
    fn name(&self) -> &'static str {
        "toy-dump"
    }

    async fn inspect(&self, _cx: &Cx) -> Result<DumpInspection, EngineError> {
        let (product, what) = ("Toy 1".to_owned(), "the toy's database".to_owned());
        Ok(DumpInspection { product, what, facts: serde_json::Value::Null })
    }

    async fn start(&self, cx: &Cx) -> Result<Box<dyn DumpSession>, EngineError> {
        let part = |(name, content): (&String, &Vec<u8>)| {
            Ok::<_, EngineError>(DumpPart { path: path(name)?, estimate: content.len() as u64 })
        };
        let mut parts = self.parts.iter().map(part).collect::<Result<Vec<_>, _>>()?;
        parts.sort_by_key(|part| std::cmp::Reverse(part.estimate));
        Ok(Box::new(ToyDumping { dump: self.clone(), at: cx.now(), parts }))
    }
}

struct ToyDumping {
    dump: ToyDump,
    at: Timestamp,
    parts: Vec<DumpPart>,
}

#[async_trait::async_trait]
impl DumpSession for ToyDumping {
    fn at(&self) -> Timestamp {
        self.at
    }

    fn parts(&self) -> &[DumpPart] {
        &self.parts
    }

    async fn open(&self, _cx: &Cx, part: usize) -> Result<Box<dyn PartReader>, EngineError> {
        let content = self.dump.parts.get(&self.parts[part].path.to_string()).cloned().unwrap_or_default();
        let (piece, left) = (self.dump.piece.max(1), self.dump.breaks_after);
        Ok(Box::new(ToyPart { content: content.into(), piece, left }))
    }

    async fn stop(self: Box<Self>, cx: &Cx) -> Result<Dumped, EngineError> {
        Ok(Dumped { at: cx.now(), facts: self.dump.lengths() })
    }
}

struct ToyPart {
    content: Bytes,
    piece: usize,
    left: Option<usize>,
}

#[async_trait::async_trait]
impl PartReader for ToyPart {
    async fn next(&mut self, _cx: &Cx) -> Result<Option<Bytes>, EngineError> {
        match &mut self.left {
            Some(0) => {
                let what = "the toy's string is torn".to_owned();
                return Err(EngineError::Unreachable { what, hint: String::new(), source: None });
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let length = self.piece.min(self.content.len());
        Ok((length > 0).then(|| self.content.split_to(length)))
    }
}

/// A database in memory to restore into. What was loaded is there only once it was finished.
#[derive(Clone, Debug, Default)]
pub struct ToyDatabase {
    aside: Arc<Mutex<Files>>,
    finished: Arc<Mutex<Option<Files>>>,
    expected: Arc<Mutex<serde_json::Value>>,
    /// The only parts that are wanted; all if there is none.
    only: Vec<String>,
    /// After how many pieces of one part it refuses to take more.
    breaks_after: Option<usize>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ToyDatabase {
    /// One that wants only these parts.
    pub fn only(parts: &[&str]) -> ToyDatabase {
        ToyDatabase { only: parts.iter().map(ToString::to_string).collect(), ..ToyDatabase::default() }
    }

    /// One that takes only so many pieces of one part.
    pub fn breaking_after(pieces: usize) -> ToyDatabase {
        ToyDatabase { breaks_after: Some(pieces), ..ToyDatabase::default() }
    }

    /// What stands under its name: nothing until a restore succeeds.
    pub fn parts(&self) -> Option<Files> {
        lock(&self.finished).clone()
    }
}

#[async_trait::async_trait]
impl DumpTarget for ToyDatabase {
    async fn plan(&self, _cx: &Cx, dumped: &Dumped) -> Result<LoadPlan, EngineError> {
        let names = match (&self.only[..], &dumped.facts) {
            ([], serde_json::Value::Object(lengths)) => lengths.keys().cloned().collect(),
            (only, _) => only.to_vec(),
        };
        lock(&self.expected).clone_from(&dumped.facts);
        let (first, rest): (Vec<_>, Vec<_>) = names.iter().partition(|name| *name == SCHEMA);
        let paths = |names: Vec<&String>| names.into_iter().map(|name| path(name)).collect::<Result<_, _>>();
        let steps = vec![format!("load {} parts", names.len())];
        Ok(LoadPlan { first: paths(first)?, rest: paths(rest)?, steps })
    }

    async fn open(&self, _cx: &Cx, part: &EntryPath) -> Result<Box<dyn PartWriter>, EngineError> {
        let schema_is_there = lock(&self.aside).contains_key(SCHEMA);
        if !part.is(SCHEMA) && !schema_is_there && self.only.is_empty() {
            return Err(unfit(format!("load {part}: the schema is not there yet")));
        }
        let (name, aside) = (part.to_string(), Arc::clone(&self.aside));
        Ok(Box::new(ToyLoading { name, content: Vec::new(), aside, left: self.breaks_after }))
    }

    async fn finish(&self, _cx: &Cx) -> Result<Loaded, EngineError> {
        let loaded = std::mem::take(&mut *lock(&self.aside));
        let expected = lock(&self.expected).clone();
        for (name, content) in &loaded {
            if expected[name] != content.len() {
                return Err(unfit(format!("{name} has another length than when it was dumped")));
            }
        }
        let lines = vec![format!("{} parts are as they were dumped", loaded.len())];
        let report = loaded.len().into();
        *lock(&self.finished) = Some(loaded);
        Ok(Loaded { report, lines })
    }
}

struct ToyLoading {
    name: String,
    content: Vec<u8>,
    aside: Arc<Mutex<Files>>,
    left: Option<usize>,
}

#[async_trait::async_trait]
impl PartWriter for ToyLoading {
    async fn write(&mut self, _cx: &Cx, bytes: Bytes) -> Result<(), EngineError> {
        match &mut self.left {
            Some(0) => return Err(unfit(format!("load {}: the toy takes no more", self.name))),
            Some(left) => *left -= 1,
            None => {}
        }
        self.content.extend_from_slice(&bytes);
        Ok(())
    }

    async fn close(self: Box<Self>, _cx: &Cx) -> Result<(), EngineError> {
        lock(&self.aside).insert(self.name, self.content);
        Ok(())
    }
}
