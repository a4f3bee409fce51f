//! The agent: `wal push` and `wal fetch` of this host hand their errands to it. It has the vaults open, ships finished segments
//! before the server offers them, and has the next segments of a recovery at hand before they are asked for. Beside its errands
//! it receives WAL as servers write it (`receivers.rs`), orders and carries out the jobs of plans (`work.rs`), watches what comes
//! of it all, and tells people (`watch.rs`).
//!
//! ```text
//! archive_command ▶ wal push ──┐ socket ┌─▶ shipped ahead? ▶ else ship ▶ answer    ahead: what archive_status calls ready
//! restore_command ▶ wal fetch ─┘        └─▶ fetched ahead? ▶ else fetch ▶ place    ahead: the next segments of the timeline
//! ```
//!
//! **Invariants**
//! - What is answered was done by the same code as without an agent, and is as durable; the answer comes after it.
//! - That a file is absent is never known ahead: it is found out when it is asked for.
//! - Nothing of an errand is kept on disk. An agent that dies takes nothing with it that was acknowledged, and the commands go on alone.
//! - Settings that changed are read again before an errand of the new ones is done.

pub mod ahead;
pub mod socket;
pub mod present;
pub mod receivers;
pub mod leash;
pub mod supervisor;
pub mod child;
pub mod deed;
pub mod jobs;
pub mod sightings;
pub mod testimony;
pub mod agenda;
mod scheduler;
pub mod work;
pub mod watch;
pub mod metrics;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use strongroom_model::{SegmentSize, SourceName, SystemId, WalFile, WalSegment};
use strongroom_ops::wal_fetch::Fetched;
use strongroom_postgres::archive::ready_after;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::agent::ahead::Ahead;
use crate::agent::present::Present;
use crate::agent::socket::{Answer, Errand, Listener, Request, answer, is_trusted, receive};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::journal::{Found, absent, cluster_of, deliver, fetch, find, push};
use crate::output::Outcome;

/// Bytes of WAL shipped, or fetched, ahead at most. Each is held about twice while it is worked on.
const AHEAD_BYTES: u64 = 64 << 20;

/// Segments shipped or fetched ahead at most, however small they are.
const AHEAD: u64 = 16;

/// How recovery calls the place where it wants a segment (`xlogarchive.c`). pg_rewind, which asks for single segments and goes
/// backwards, calls it by the segment's name.
const OF_RECOVERY: &str = "RECOVERYXLOG";

/// A finished file as it lies at the server: one that is written anew is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offered {
    source: SourceName,
    path: PathBuf,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Offered {
    #[allow(clippy::disallowed_methods, reason = "a finished file is known again by how it lies there")]
    fn at(source: &SourceName, path: PathBuf) -> Option<Offered> {
        let found = std::fs::metadata(&path).ok()?;
        let modified = (found.mtime(), found.mtime_nsec());
        Some(Offered { source: source.clone(), path, inode: found.ino(), size: found.len(), modified })
    }
}

/// A segment that a recovery will ask for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    /// Where that recovery wants its files.
    folder: PathBuf,
    system_id: Option<SystemId>,
    source: SourceName,
    segment: WalSegment,
}

/// What an agent has done.
#[derive(Debug, Default, Serialize)]
pub struct Done {
    /// Files shipped.
    pub pushed: AtomicU64,
    /// Of these, shipped before they were offered.
    pub pushed_ahead: AtomicU64,
    /// Files brought back.
    pub fetched: AtomicU64,
    /// Of these, fetched before they were asked for.
    pub fetched_ahead: AtomicU64,
}

/// The agent's state.
pub struct Agent {
    /// The settings that hold now.
    pub settings: Arc<Present>,
    pushes: Ahead<Offered, Result<Outcome, Failure>>,
    fetches: Ahead<Wanted, Result<Found, Failure>>,
    /// What it has done so far.
    pub done: Done,
}

impl Agent {
    /// An agent with these settings.
    pub fn new(context: Arc<Context>) -> Arc<Agent> {
        let (pushes, fetches) = (Ahead::default(), Ahead::default());
        let settings = Arc::new(Present::new(context));
        Arc::new(Agent { settings, pushes, fetches, done: Done::default() })
    }

    /// Answers until `stop` is ready; errands that are under way then come to their end first.
    pub async fn serve(self: &Arc<Self>, listener: &Listener, stop: impl Future<Output = ()>) {
        let mut errands = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = errands.join_next(), if !errands.is_empty() => {}
                accepted = listener.accept() => match accepted {
                    Ok(stream) => drop(errands.spawn(Arc::clone(self).attend(stream))),
                    Err(why) => {
                        // Out of files, say. Those that are open are errands: when one ends there is room again.
                        tracing::warn!("the agent cannot take an errand: {why}");
                        errands.join_next().await;
                    }
                },
            }
        }
        while errands.join_next().await.is_some() {}
    }

    async fn attend(self: Arc<Self>, mut stream: UnixStream) {
        if !is_trusted(&stream) {
            return;
        }
        let answered = match receive(&mut stream).await {
            Ok(request) => answer(&mut stream, &self.answer_to(request).await).await,
            Err(why) => Err(why),
        };
        if let Err(why) = answered {
            tracing::info!("an errand was given up: {why}");
        }
    }

    async fn answer_to(&self, request: Request) -> Answer {
        let Some(context) = self.context_for(&request) else {
            return Answer::Alone("the agent has other settings, or is of another build".into());
        };
        let result = match &request.errand {
            Errand::Push(path) => self.push(&context, path, &request.source).await,
            Errand::Fetch(name, destination) => {
                self.fetch(&context, (name, destination), &request.source).await
            }
        };
        match result {
            Ok(outcome) => Answer::Done(outcome.code, outcome.json),
            // It was told to stop, or the command may have a key that the agent was not given.
            Err(failure) if matches!(failure.kind, Code::Cancelled | Code::Key | Code::Settings) => {
                Answer::Alone(failure.on_one_line())
            }
            Err(failure) => Answer::Failed(failure),
        }
    }

    /// The settings to do an errand under: those it was sent with, which may have changed since they were read.
    fn context_for(&self, request: &Request) -> Option<Arc<Context>> {
        let fits = |context: &Arc<Context>| request.fits(context.settings.fingerprint);
        let renewed = || self.settings.renewed(|fingerprint| request.fits(fingerprint)).ok();
        Some(self.settings.context()).filter(fits).or_else(|| renewed().filter(fits))
    }

    async fn push(
        &self,
        context: &Arc<Context>,
        path: &Path,
        source: &SourceName,
    ) -> Result<Outcome, Failure> {
        let Some(offered) = Offered::at(source, path.to_owned()) else {
            // It says what is wrong with the file.
            return push(context, path, source).await;
        };
        let was_ahead = self.pushes.has(&offered);
        let most = (AHEAD_BYTES / offered.size.max(1)).clamp(1, AHEAD) as usize;
        let ready = ready_after(path).unwrap_or_default().into_iter().take(most);
        let ahead = ready.filter_map(|path| Offered::at(source, path));
        let keys: Vec<Offered> = std::iter::once(offered.clone()).chain(ahead).collect();
        self.pushes.want(
            &keys,
            |other| other.source == *source,
            |offered| {
                let (context, offered) = (Arc::clone(context), offered.clone());
                async move { push(&context, &offered.path, &offered.source).await }
            },
        );
        let outcome = match self.pushes.take(&offered).await {
            Some(Ok(outcome)) => outcome,
            // What failed earlier may have been mended.
            Some(Err(_)) if was_ahead => push(context, path, source).await?,
            Some(Err(failure)) => return Err(failure),
            None => push(context, path, source).await?,
        };
        count(&self.done.pushed, true);
        count(&self.done.pushed_ahead, was_ahead);
        Ok(outcome)
    }

    async fn fetch(
        &self,
        context: &Arc<Context>,
        (name, destination): (&str, &Path),
        source: &SourceName,
    ) -> Result<Outcome, Failure> {
        let Ok(file) = WalFile::parse(name) else { return Ok(absent(source, name)) };
        let Some(folder) = destination.parent().filter(|_| destination.ends_with(OF_RECOVERY)) else {
            return fetch(context, (file, destination), source).await;
        };
        let system_id = cluster_of(destination);
        let key = |segment| Wanted { folder: folder.to_owned(), system_id, source: source.clone(), segment };
        let ahead = match file {
            WalFile::Segment(segment) => self.fetches.take(&key(segment)).await,
            WalFile::Partial(_) | WalFile::History(_) | WalFile::BackupLabel(..) | WalFile::Part(..) => None,
        };
        let is_file = |found: &Found| matches!(found.fetched, Fetched::File { .. });
        let (found, was_ahead) = match ahead.and_then(Result::ok).filter(is_file) {
            Some(found) => (found, true),
            None => (find(context, source, (system_id, file)).await?, false),
        };
        if let (Fetched::File { lineage, .. }, WalFile::Segment(segment)) = (&found.fetched, file) {
            let keys: Vec<Wanted> = following(segment, lineage.segment_size).map(key).collect();
            self.fetches.want(
                &keys,
                |other| other.folder == folder,
                |wanted| {
                    let (context, wanted) = (Arc::clone(context), wanted.clone());
                    let file = WalFile::Segment(wanted.segment);
                    async move { find(&context, &wanted.source, (wanted.system_id, file)).await }
                },
            );
        }
        let outcome = deliver((file, destination), source, found)?;
        count(&self.done.fetched, outcome.code == Code::Ok);
        count(&self.done.fetched_ahead, was_ahead);
        Ok(outcome)
    }
}

fn count(of: &AtomicU64, one: bool) {
    of.fetch_add(u64::from(one), Ordering::Relaxed);
}

/// The segments that recovery asks for next on this timeline, as many as are fetched ahead.
fn following(segment: WalSegment, size: SegmentSize) -> impl Iterator<Item = WalSegment> {
    let number = segment.number(size).unwrap_or(u64::MAX / 2);
    let most = (AHEAD_BYTES / size.bytes()).clamp(1, AHEAD);
    (number + 1..=number + most).map(move |number| WalSegment::numbered(segment.timeline, number, size))
}
