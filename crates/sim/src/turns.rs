//! Turns: several actors share a store, one operation at a time, in an order that a seed decides.
//!
//! An actor has the turn from one of its operations to the next. Whoever asks waits until every actor that is still at
//! work waits as well; then the seed says who goes on. So a run is its seed, whatever the machine's threads do.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use strongroom_model::Entropy;
use strongroom_store::{Body, Head, Key, Page, PutError, Store, StoreError};
use tokio::sync::oneshot;

/// Who may go on.
#[derive(Debug, Default)]
struct Table {
    at_work: BTreeSet<usize>,
    going: Option<usize>,
    waiting: Vec<(usize, oneshot::Sender<()>)>,
}

/// The order of a run.
pub struct Turns {
    table: Mutex<Table>,
    chance: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Turns")
    }
}

impl Turns {
    /// Turns for actors `0..actors`, in an order that `chance` decides.
    pub fn new(actors: usize, chance: Arc<dyn Entropy>) -> Arc<Turns> {
        let table = Table { at_work: (0..actors).collect(), ..Table::default() };
        Arc::new(Turns { table: Mutex::new(table), chance })
    }

    /// `store` as `actor` sees it.
    pub fn of(self: &Arc<Self>, actor: usize, store: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(InTurn { turns: Arc::clone(self), actor, store })
    }

    /// The actor has nothing more to do.
    pub fn leave(&self, actor: usize) {
        let mut table = self.table();
        table.at_work.remove(&actor);
        self.pass(&mut table, actor);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, which lasts until what is returned is dropped.
    async fn wait(&self, actor: usize) -> Turn<'_> {
        // Made before waiting: whoever stops waiting, with a turn or without, must not leave the others waiting for it.
        let turn = Turn { turns: self, actor };
        let (sender, granted) = oneshot::channel();
        {
            let mut table = self.table();
            table.waiting.push((actor, sender));
            self.pass(&mut table, actor);
        }
        // The sender lives in the table until it is used.
        let _ = granted.await;
        turn
    }

    /// Takes the turn from `actor`, if it has it, and gives it to another, if all who are at work wait.
    fn pass(&self, table: &mut Table, actor: usize) {
        if table.going == Some(actor) {
            table.going = None;
        }
        let waits = |actor: &usize| table.waiting.iter().any(|(waiting, _)| waiting == actor);
        if table.going.is_some() || table.waiting.is_empty() || !table.at_work.iter().all(waits) {
            return;
        }
        let mut draw = [0; 8];
        self.chance.fill(&mut draw);
        // By number, not by arrival: that is the threads' doing.
        let actors: BTreeSet<usize> = table.waiting.iter().map(|(actor, _)| *actor).collect();
        let drawn =
            actors.into_iter().nth((u64::from_le_bytes(draw) % table.at_work.len().max(1) as u64) as usize);
        let at = table.waiting.iter().position(|(actor, _)| Some(*actor) == drawn).unwrap_or_default();
        let (next, turn) = table.waiting.remove(at);
        // Nobody is there any more who waited: the turn goes on.
        match turn.send(()) {
            Ok(()) => table.going = Some(next),
            Err(()) => self.pass(table, next),
        }
    }
}

/// The right to carry out one operation; or the wish for it, which may be given up.
struct Turn<'a> {
    turns: &'a Turns,
    actor: usize,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut table = self.turns.table();
        // Tickets that nobody holds any more.
        table.waiting.retain(|(_, sender)| !sender.is_closed());
        // An actor that has others under way at the same time goes on with none of them by itself; and one that has left, but
        // for something it had begun, does not come back to hand its turn on.
        let others = table.waiting.iter().any(|(waiting, _)| *waiting == self.actor);
        if others || !table.at_work.contains(&self.actor) {
            self.turns.pass(&mut table, self.actor);
        }
    }
}

/// A store whose every operation waits for its turn.
#[derive(Debug)]
struct InTurn {
    turns: Arc<Turns>,
    actor: usize,
    store: Arc<dyn Store>,
}

#[async_trait::async_trait]
impl Store for InTurn {
    fn place(&self) -> String {
        self.store.place()
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        let _turn = self.turns.wait(self.actor).await;
        self.store.put_new(key, body).await
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        let _turn = self.turns.wait(self.actor).await;
        self.store.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let _turn = self.turns.wait(self.actor).await;
        self.store.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        let _turn = self.turns.wait(self.actor).await;
        self.store.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        let _turn = self.turns.wait(self.actor).await;
        self.store.list(prefix, after).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let _turn = self.turns.wait(self.actor).await;
        self.store.delete(key).await
    }
}
