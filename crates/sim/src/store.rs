//! A store in memory that logs its operations and fails those it is told to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use strongroom_store::{Body, Head, Key, Page, PutError, Store, StoreError};

/// How an operation fails. A fault that does not concern the kind of operation it meets does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and says so: a 503, a 409, a refused connection.
    Before,
    /// It is done, and the reply is lost: a timeout.
    ReplyLost,
    /// From this operation on nothing works any more: the process died, or the network went.
    Dead,
    /// A read returns a flipped bit.
    BitFlip,
    /// A read returns too few bytes.
    ShortRead,
    /// A read returns bytes from elsewhere in the object.
    WrongRange,
    /// A put is acknowledged and not done.
    PutForgotten,
    /// A put is told that the key is taken, and it is not.
    PutRefused,
    /// A deletion is acknowledged and not done.
    DeleteForgotten,
    /// A page of a listing is empty and says that it is the last.
    ListEmpty,
    /// A page of a listing says that it is the last, and is not.
    ListCut,
    /// A listing begins again from the front.
    ListRepeated,
}

impl Fault {
    /// Every fault there is.
    pub const ALL: [Fault; 12] = [
        Fault::Before,
        Fault::ReplyLost,
        Fault::Dead,
        Fault::BitFlip,
        Fault::ShortRead,
        Fault::WrongRange,
        Fault::PutForgotten,
        Fault::PutRefused,
        Fault::DeleteForgotten,
        Fault::ListEmpty,
        Fault::ListCut,
        Fault::ListRepeated,
    ];

    /// Whether the store says that something went wrong, so that asking again helps.
    pub fn is_told(self) -> bool {
        matches!(self, Fault::Before | Fault::ReplyLost)
    }

    fn concerns(self, operation: Operation) -> bool {
        match self {
            Fault::Before | Fault::ReplyLost | Fault::Dead => true,
            Fault::BitFlip | Fault::ShortRead | Fault::WrongRange => operation == Operation::Read,
            Fault::PutForgotten | Fault::PutRefused => operation == Operation::Write,
            Fault::DeleteForgotten => operation == Operation::Delete,
            Fault::ListEmpty | Fault::ListCut | Fault::ListRepeated => operation == Operation::List,
        }
    }
}

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `get`, `get_range`, `head`.
    Read,
    /// `put_new`.
    Write,
    /// `list`.
    List,
    /// `delete`.
    Delete,
}

/// The place every error names.
const PLACE: &str = "sim:";

/// A store in memory.
#[derive(Debug, Default)]
pub struct SimStore {
    objects: Mutex<BTreeMap<Key, Bytes>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    log: Vec<String>,
    faults: Vec<(usize, Fault)>,
    dead: bool,
    met: usize,
}

impl SimStore {
    /// A store with these objects.
    pub fn holding(objects: BTreeMap<Key, Bytes>) -> SimStore {
        SimStore { objects: Mutex::new(objects), ..SimStore::default() }
    }

    /// Fails operation number `at` (counted from 0 over all operations from now on).
    pub fn fail_at(&self, at: usize, fault: Fault) {
        self.fail(vec![(at, fault)]);
    }

    /// Fails each of these operations.
    pub fn fail(&self, faults: Vec<(usize, Fault)>) {
        *self.state() = State { faults, ..State::default() };
    }

    /// Works from now on, and counts from 0 again.
    pub fn heal(&self) {
        *self.state() = State::default();
    }

    /// Operations since the last [`SimStore::fail_at`] or [`SimStore::heal`].
    pub fn operations(&self) -> usize {
        self.state().log.len()
    }

    /// How many faults met an operation they concern.
    pub fn met(&self) -> usize {
        self.state().met
    }

    /// Every operation since then, in order.
    pub fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// Every object, by key.
    pub fn objects(&self) -> BTreeMap<Key, Bytes> {
        self.lock().clone()
    }

    /// Replaces an object's bytes behind the vault's back, as rot or an attacker would.
    pub fn tamper(&self, key: &Key, bytes: Bytes) {
        self.lock().insert(key.clone(), bytes);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs an operation and says whether and how it fails.
    fn step(&self, operation: Operation, what: &str) -> Option<Fault> {
        let mut state = self.state();
        let now = state.log.len();
        state.log.push(format!("{now} {operation:?} {what}"));
        if state.dead {
            return Some(Fault::Dead);
        }
        let fault = state.faults.iter().find(|(at, fault)| *at == now && fault.concerns(operation))?.1;
        state.met += 1;
        state.dead = fault == Fault::Dead;
        Some(fault)
    }

    fn read(&self, key: &Key) -> Result<(Bytes, Option<Fault>), StoreError> {
        let fault = self.step(Operation::Read, key.as_str());
        if let Some(Fault::Before | Fault::ReplyLost | Fault::Dead) = fault {
            return Err(gone("read", key.as_str()));
        }
        let found = self.lock().get(key).cloned();
        let missing = || StoreError::NotFound { key: key.to_string(), place: PLACE.into() };
        found.map(|bytes| (bytes, fault)).ok_or_else(missing)
    }
}

fn gone(operation: &'static str, key: &str) -> StoreError {
    let source = std::io::Error::other("a simulated fault").into();
    StoreError::Passing { operation, key: key.to_owned(), place: PLACE.into(), source }
}

/// What a faulty read makes of `range` of an object.
fn spoil(object: &Bytes, range: Range<usize>, fault: Option<Fault>) -> Bytes {
    let bytes = object.slice(range.clone());
    match fault {
        Some(Fault::BitFlip) if !bytes.is_empty() => {
            let mut flipped = bytes.to_vec();
            let at = flipped.len() / 2;
            flipped[at] ^= 1;
            flipped.into()
        }
        Some(Fault::ShortRead) => bytes.slice(..bytes.len() / 2),
        Some(Fault::WrongRange) => {
            let mut turned = object.to_vec();
            turned.rotate_left(object.len() / 3);
            Bytes::from(turned).slice(range)
        }
        _ => bytes,
    }
}

#[async_trait::async_trait]
impl Store for SimStore {
    fn place(&self) -> String {
        PLACE.into()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        let fault = self.step(Operation::Write, key.as_str());
        if let Some(Fault::Before | Fault::Dead) = fault {
            return Err(gone("write", key.as_str()).into());
        }
        if fault == Some(Fault::PutRefused) {
            return Err(PutError::Exists { key: key.to_string(), place: PLACE.into() });
        }
        let mut objects = self.lock();
        if objects.contains_key(key) {
            return Err(PutError::Exists { key: key.to_string(), place: PLACE.into() });
        }
        if fault != Some(Fault::PutForgotten) {
            objects.insert(key.clone(), body.parts().concat().into());
        }
        if fault == Some(Fault::ReplyLost) { Err(gone("write", key.as_str()).into()) } else { Ok(()) }
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.read(key).map(|(bytes, fault)| spoil(&bytes, 0..bytes.len(), fault))
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let (bytes, fault) = self.read(key)?;
        if range.start > range.end || range.end > bytes.len() as u64 {
            let source = std::io::Error::other("a range beyond the end").into();
            return Err(StoreError::Broken {
                operation: "read",
                key: key.to_string(),
                place: PLACE.into(),
                source,
            });
        }
        Ok(spoil(&bytes, range.start as usize..range.end as usize, fault))
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        self.read(key).map(|(bytes, _)| Head { key: key.clone(), size: bytes.len() as u64 })
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        let fault = self.step(Operation::List, prefix);
        let after = match fault {
            Some(Fault::Before | Fault::ReplyLost | Fault::Dead) => return Err(gone("list", prefix)),
            Some(Fault::ListEmpty) => return Ok(Page::default()),
            Some(Fault::ListRepeated) => None,
            _ => after,
        };
        // Short pages, so that every listing of more than a few objects goes on to a second one.
        let below = |key: &Key| {
            prefix.is_empty() || key.as_str().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let objects = self.lock();
        let mut found =
            objects.iter().filter(|(key, _)| below(key) && after.is_none_or(|after| *key > after));
        let page: Vec<Head> = found
            .by_ref()
            .take(3)
            .map(|(key, bytes)| Head { key: key.clone(), size: bytes.len() as u64 })
            .collect();
        let more = found.next().is_some() && fault != Some(Fault::ListCut);
        let next = page.last().filter(|_| more).map(|head| head.key.clone());
        Ok(Page { objects: page, next })
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let fault = self.step(Operation::Delete, key.as_str());
        if let Some(Fault::Before | Fault::Dead) = fault {
            return Err(gone("delete", key.as_str()));
        }
        if fault != Some(Fault::DeleteForgotten) {
            self.lock().remove(key);
        }
        if fault == Some(Fault::ReplyLost) { Err(gone("delete", key.as_str())) } else { Ok(()) }
    }
}
