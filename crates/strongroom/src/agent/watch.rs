//! The agent's watch: it looks every minute at what it should protect, and tells people what is wrong.
//!
//! ```text
//! vault (a process of its own) ─┐
//! catalog ──────────────────────┼▶ observed ▶ conditions ▶ news ▶ catalog ▶ tellings ▶ channels
//! settings ─────────────────────┘      └▶ board ▶ /metrics
//! ```
//!
//! **Invariants**
//! - What is told is written down first: an agent that dies in between has it told by the next one, and none tells it twice but
//!   the one that died while it was telling.
//! - A source is watched by one agent of a fleet at a time.
//! - Nobody waits for the vault but the watch itself: metrics are what was read last.

mod reading;
mod servers;
mod observe;
mod deliver;
pub mod board;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use strongroom_catalog::job::later;
use strongroom_catalog::{Catalog, CatalogError};
use strongroom_model::alert::news::{News, Sight, is_for, news};
use strongroom_model::alert::rules::conditions;
use strongroom_model::{SourceName, Timestamp};
use strongroom_notify::ping;
use tokio::sync::watch;

use crate::agent::present::Present;
use crate::agent::watch::board::{Board, Snapshot};
use crate::agent::watch::deliver::deliver;
use crate::agent::watch::observe::{Facts, observed};
use crate::agent::watch::reading::{Reading, read};
use crate::agent::watch::servers::{Servers, servers};
use crate::catalog;
use crate::channels::ping_address;
use crate::context::Context;
use crate::surroundings::{host, tool};

/// What concerns no single source is watched under this name, which no source can have.
const VAULT: &str = "";

/// Between two looks whether something is to be told, and whether there is anything to watch.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Beyond three rounds a watch is kept so much longer: a vault may take its time.
const BEYOND: Duration = Duration::from_secs(120);

/// Whether these settings want anything watched.
pub fn is_wanted(context: &Context) -> bool {
    let settings = &context.settings;
    !settings.alerts.is_empty() || settings.http.is_some() || settings.watch.ping.is_some()
}

/// Watches until `leave` says so.
pub async fn watch(settings: Arc<Present>, board: Arc<Board>, mut leave: watch::Receiver<bool>) {
    let mut watcher = Watcher::new(settings, board);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = leave.wait_for(|leave| *leave) => break,
            _ = looks.tick() => {}
        }
        tokio::select! {
            _ = leave.wait_for(|leave| *leave) => break,
            () = watcher.look() => {}
        }
    }
    watcher.leave().await;
}

/// What is known from one look to the next.
struct Watcher {
    settings: Arc<Present>,
    board: Arc<Board>,
    name: String,
    catalog: Option<Arc<Catalog>>,
    /// What the vault said last.
    reading: Option<Reading>,
    /// Since when it says nothing, and why.
    silent: Option<(Timestamp, String)>,
    /// The last moment until which all that a server had written was in the vault.
    caught_up: BTreeMap<SourceName, Timestamp>,
    /// When the next round is due.
    next: Option<Timestamp>,
    /// What stood in the way when it was last said.
    said: String,
}

impl Watcher {
    fn new(settings: Arc<Present>, board: Arc<Board>) -> Watcher {
        let chance = u32::from_be_bytes(settings.context().cx.random());
        let name = format!("{}-{chance:08x}", host());
        let (catalog, reading, silent, next, said) = (None, None, None, None, String::new());
        let caught_up = BTreeMap::new();
        Watcher { settings, board, name, catalog, reading, silent, caught_up, next, said }
    }

    async fn look(&mut self) {
        let context = self.settings.context();
        if !is_wanted(&context) {
            return;
        }
        let now = context.cx.now();
        let every = context.settings.watch.every.0;
        // A clock that went back does not put the next round off.
        let is_due = self.next.is_none_or(|next| now >= next || next > later(now, every));
        let done = match self.opened(&context).await {
            Ok(catalog) if is_due => {
                self.next = Some(later(now, every));
                self.round(&context, &catalog).await
            }
            Ok(catalog) => deliver(&context, &catalog).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => self.said.clear(),
            Err(why) => {
                if why != self.said {
                    tracing::error!("nobody can be told of anything, trying again: {why}");
                }
                self.said = why;
            }
        }
    }

    async fn opened(&mut self, context: &Context) -> Result<Arc<Catalog>, String> {
        if let Some(catalog) = &self.catalog {
            return Ok(Arc::clone(catalog));
        }
        let opened = catalog::open(context).await.map_err(|failure| failure.on_one_line())?;
        Ok(Arc::clone(self.catalog.insert(Arc::new(opened))))
    }

    /// Looks at everything once.
    async fn round(&mut self, context: &Arc<Context>, catalog: &Catalog) -> Result<(), String> {
        let is_fresh = self.read(context).await;
        self.tell_news(context, catalog, is_fresh).await.map_err(|error| error.to_string())?;
        deliver(context, catalog).await?;
        sign_of_life(context).await;
        Ok(())
    }

    /// Reads the vault; whether it answered.
    async fn read(&mut self, context: &Context) -> bool {
        match read(context).await {
            Ok(reading) => {
                if self.silent.take().is_some() {
                    tracing::warn!("the vault says again what it holds");
                }
                self.reading = Some(reading);
                true
            }
            Err(why) => {
                if self.silent.is_none() {
                    tracing::error!("the vault does not say what it holds: {why}");
                }
                let since = self.silent.as_ref().map_or_else(|| context.cx.now(), |(since, _)| *since);
                self.silent = Some((since, why));
                false
            }
        }
    }

    /// Holds what servers have written beside what the vault said before.
    fn note_caught_up(&mut self, servers: &Servers) {
        let Some(reading) = &self.reading else { return };
        for (source, said) in servers {
            let Some((written, at)) = said.written else { continue };
            let end = reading.journal_end(source);
            if let Some(until) = end.and_then(|end| written.caught_up_at(end, at)) {
                let known = self.caught_up.entry(source.clone()).or_insert(until);
                *known = until.max(*known);
            }
        }
    }

    async fn tell_news(
        &mut self,
        context: &Arc<Context>,
        catalog: &Catalog,
        is_fresh: bool,
    ) -> Result<(), CatalogError> {
        let now = context.cx.now();
        let until = later(now, context.settings.watch.every.0 * 3 + BEYOND);
        let sources = context.settings.sources.keys().map(SourceName::as_str);
        let subjects: Vec<&str> = std::iter::once(VAULT).chain(sources).collect();
        let held = catalog.watch(&subjects, &self.name, (now, until)).await?;
        let known = catalog.known_since(&subjects).await?;
        let servers = servers(context).await;
        self.note_caught_up(&servers);
        let mut facts = Facts::of(catalog, now).await?;
        let observed = observed(
            context,
            &facts,
            (self.reading.as_ref(), self.silent.clone()),
            (&servers, &self.caught_up),
            (&known, now),
        );
        let sources: BTreeSet<SourceName> = held.iter().filter_map(|held| held.parse().ok()).collect();
        let sight = Sight {
            sources: &sources,
            has_vault: held.contains(VAULT),
            is_fresh,
            slots: &servers
                .iter()
                .filter(|(_, said)| said.slots.is_some())
                .map(|(name, _)| name.clone())
                .collect(),
        };
        let remind = context.settings.watch.remind_after.0;
        let news = news(&facts.alerts, &conditions(&observed, now), sight, (now, remind));
        if !news.is_empty() {
            news.iter().for_each(say);
            catalog.tell(&addressed(context, news), now).await?;
            facts.alerts = catalog.alerts().await?;
        }
        let reading = self.reading.clone();
        let is_silent = self.silent.is_some();
        self.board.put(Snapshot { observed, reading, is_silent, facts, build: tool() });
        Ok(())
    }

    async fn leave(&self) {
        let Some(catalog) = &self.catalog else { return };
        if let Err(error) = catalog.watch_no_more(&self.name).await {
            tracing::warn!("{error}");
        }
    }
}

/// With the channels that it is for.
fn addressed(context: &Context, news: Vec<News>) -> Vec<(News, Vec<&str>)> {
    let channels = &context.settings.alerts;
    let of = |news: News| {
        let takers = channels.iter().filter(|(name, of)| is_for(&news, of.severity(), name.as_str()));
        let names = takers.map(|(name, _)| name.as_str()).collect();
        (news, names)
    };
    news.into_iter().map(of).collect()
}

fn say(news: &News) {
    tracing::warn!("{}: {}", news.headline(), news.condition.text);
}

/// Asks the address that hears when the agent no longer lives.
async fn sign_of_life(context: &Context) {
    let address = match ping_address(context) {
        Ok(Some(address)) => address,
        Ok(None) => return,
        Err(failure) => return tracing::warn!("{}", failure.on_one_line()),
    };
    if let Err(error) = ping(&address).await {
        tracing::warn!("say that the agent lives: {error}");
    }
}
