//! An agent's work: it leases jobs, has them run, and says that it is alive.
//!
//! ```text
//! look ▶ tend ▶ lease ▶ run ─────────────────────────────▶ finish (taken, or the lease was lost)
//!                        ├ heartbeats, four to a lease
//!                        └ told to stop: called off · too late · lease lost · this agent leaves
//! ```
//!
//! **Invariants**
//! - An agent that cannot say that it is alive stops its jobs while it still has their leases: after two heartbeats without an
//!   answer a quarter of the lease is left for that.
//! - What a stopped job came to is taken if it was done all the same. Otherwise why it was stopped decides what becomes of it.
//! - An agent that is killed leaves leases that run out, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use strongroom_model::{Cx, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::catalog::{Catalog, CatalogError};
use crate::history::Agent;
use crate::job::{Job, State, later};
use crate::lease::{Beat, Ended, How, Lost};
use crate::retry::Retry;

/// Heartbeats in the time of a lease.
const BEATS: u32 = 4;

/// Heartbeats without an answer after which a lease counts as lost.
const SILENT_BEATS: u32 = 2;

/// How often a job's end is told to a catalog that does not answer. Later the lease has run out, and the job is begun anew.
const TELLINGS: u32 = 30;

/// How an agent works.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// Jobs at a time.
    pub slots: usize,
    /// How long a lease holds without a heartbeat.
    pub lease: Duration,
    /// Between two looks at the queue.
    pub look_every: Duration,
    /// How long jobs may go on once the agent leaves.
    pub grace: Duration,
    /// When a job is tried again.
    pub retry: Retry,
}

/// Why a job is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody called it off.
    CalledOff,
    /// Its completion window has closed.
    Overdue,
    /// Its lease is lost, or cannot be known to be held.
    LeaseLost,
    /// The agent leaves.
    Leaving,
}

/// Tells a job to stop.
pub struct Stop(watch::Receiver<Option<Why>>);

impl Stop {
    /// Comes back when the job is to stop.
    pub async fn asked(&mut self) -> Why {
        match self.0.wait_for(Option::is_some).await {
            Ok(why) => why.unwrap_or(Why::Leaving),
            // Nobody is there any more to say why.
            Err(_) => Why::Leaving,
        }
    }
}

/// What carries jobs out.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Carries a job out, and stops it soon when asked to: what is left of the lease then is little.
    async fn run(&self, job: &Job, stop: Stop) -> Ended;

    /// The seats whose jobs can be carried out here, now.
    fn seats(&self) -> Vec<String>;
}

/// One agent at work.
pub struct Worker {
    catalog: Arc<Catalog>,
    runner: Arc<dyn Runner>,
    cx: Cx,
    agent: Agent,
    rhythm: Rhythm,
    /// There may be something to do: look now.
    wake: Notify,
    /// Jobs are to stop.
    hurry: watch::Sender<bool>,
}

impl Worker {
    /// An agent that has `runner` carry out the jobs of `catalog`.
    pub fn new(
        cx: &Cx,
        catalog: Arc<Catalog>,
        runner: Arc<dyn Runner>,
        agent: Agent,
        rhythm: Rhythm,
    ) -> Arc<Worker> {
        let (wake, hurry) = (Notify::new(), watch::Sender::new(false));
        Arc::new(Worker { catalog, runner, cx: cx.clone(), agent, rhythm, wake, hurry })
    }

    /// Has it look at the queue now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Works until `leave` says so; then no job is begun any more, those under way have the rhythm's grace, and what does not end
    /// within it is stopped and given back.
    pub async fn work(self: &Arc<Self>, mut leave: watch::Receiver<bool>) {
        let mut running = JoinSet::new();
        let mut trouble = Trouble::default();
        let [mut looks, mut beats] = [self.rhythm.look_every, self.beat_every()].map(ticks);
        loop {
            let looked = tokio::select! {
                () = is_true(&mut leave) => break,
                _ = looks.tick() => self.tend().await,
                _ = beats.tick() => self.present().await,
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    tell_broken(ended);
                    Ok(())
                }
                () = self.wake.notified() => Ok(()),
            };
            trouble.of(match looked {
                Ok(()) => self.fill(&mut running).await,
                failed => failed,
            });
        }
        self.leave(running).await;
    }

    async fn leave(&self, mut running: JoinSet<()>) {
        let all = async |running: &mut JoinSet<()>| {
            while let Some(ended) = running.join_next().await {
                tell_broken(ended);
            }
        };
        if tokio::time::timeout(self.rhythm.grace, all(&mut running)).await.is_err() {
            self.hurry.send_replace(true);
            all(&mut running).await;
        }
        if let Err(error) = self.catalog.absent(&self.agent.name).await {
            tracing::warn!("{}", told_of(&error));
        }
    }

    fn beat_every(&self) -> Duration {
        self.rhythm.lease / BEATS
    }

    fn lease_until(&self, now: Timestamp) -> Timestamp {
        later(now, self.rhythm.lease)
    }

    async fn tend(&self) -> Result<(), CatalogError> {
        let tended = self.catalog.tend(self.cx.now(), (self.rhythm.lease, &self.rhythm.retry)).await?;
        for id in tended.closed {
            tracing::error!("job {id} was not begun, or not ended, within its window");
        }
        for id in tended.silent {
            tracing::warn!("the agent that worked on job {id} fell silent");
        }
        Ok(())
    }

    async fn present(&self) -> Result<(), CatalogError> {
        self.catalog.present(&Agent { seen: self.cx.now(), ..self.agent.clone() }).await
    }

    /// Leases as many jobs as there is room for.
    async fn fill(self: &Arc<Self>, running: &mut JoinSet<()>) -> Result<(), CatalogError> {
        while running.len() < self.rhythm.slots {
            let now = self.cx.now();
            let span = (now, self.lease_until(now));
            let Some(job) = self.catalog.lease(&self.agent.name, &self.runner.seats(), span).await? else {
                return Ok(());
            };
            running.spawn(Arc::clone(self).carry_out(job));
        }
        Ok(())
    }

    async fn carry_out(self: Arc<Self>, job: Job) {
        let (stop, stopped) = watch::channel(None);
        tracing::info!("job {}, attempt {}: {}", job.id, job.attempt, described(&job));
        let mut ended = tokio::select! {
            ended = self.runner.run(&job, Stop(stopped)) => ended,
            never = self.watch_over(&job, &stop) => match never {},
        };
        let why = *stop.borrow();
        ended.how = match (ended.how, why) {
            (How::Done, _) | (_, None) => ended.how,
            (_, Some(Why::CalledOff)) => How::Cancelled,
            (_, Some(Why::Overdue)) => How::FailedForGood,
            (_, Some(Why::LeaseLost | Why::Leaving)) => How::GivenBack,
        };
        if why == Some(Why::Overdue) && ended.how != How::Done {
            let said = ended.said.unwrap_or_default();
            ended.said = Some(format!("{said}\nits completion window closed").trim_start().to_owned());
        }
        self.finish(&job, &ended).await;
    }

    /// Keeps the lease, and says when the job is to stop.
    async fn watch_over(&self, job: &Job, stop: &watch::Sender<Option<Why>>) -> std::convert::Infallible {
        let (mut beats, mut hurry) = (ticks(self.beat_every()), self.hurry.subscribe());
        let (mut silent, mut hurries) = (0, false);
        loop {
            tokio::select! {
                () = is_true(&mut hurry), if !hurries => {
                    hurries = true;
                    tell(stop, Why::Leaving);
                }
                _ = beats.tick() => {
                    let now = self.cx.now();
                    if now >= job.end_by {
                        tell(stop, Why::Overdue);
                    }
                    let beat = self.catalog.beat(job, (now, self.lease_until(now)));
                    match tokio::time::timeout(self.beat_every(), beat).await {
                        Ok(Ok(Beat::Held)) => silent = 0,
                        Ok(Ok(Beat::CalledOff)) => tell(stop, Why::CalledOff),
                        Ok(Ok(Beat::Lost)) => tell(stop, Why::LeaseLost),
                        Ok(Err(_)) | Err(_) => silent += 1,
                    }
                    if silent >= SILENT_BEATS {
                        tell(stop, Why::LeaseLost);
                    }
                }
            }
        }
    }

    async fn finish(&self, job: &Job, ended: &Ended) {
        let mut pauses = ticks(self.beat_every());
        for _ in 0..TELLINGS {
            pauses.tick().await;
            let told = (self.cx.now(), self.cx.random(), &self.rhythm.retry);
            match self.catalog.finish(job, ended, told).await {
                Ok(Ok(state)) => return tell_end(job, ended, state),
                Ok(Err(Lost)) => {
                    tracing::warn!("job {}: its lease was lost: what it came to is not taken", job.id);
                    return;
                }
                Err(error) if error.is_passing() => {}
                Err(error) => {
                    tracing::error!("job {}: {}", job.id, told_of(&error));
                    return;
                }
            }
        }
        tracing::error!("job {}: the catalog does not answer, so it counts as not ended", job.id);
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Comes back when it is true, or can no longer become so.
async fn is_true(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|is_true| *is_true).await;
}

/// The first reason stands.
fn tell(stop: &watch::Sender<Option<Why>>, why: Why) {
    stop.send_if_modified(|said| {
        let is_first = said.is_none();
        said.get_or_insert(why);
        is_first
    });
}

fn tell_broken(ended: Result<(), tokio::task::JoinError>) {
    if let Err(why) = ended {
        tracing::error!("a job ended on a broken invariant, and its lease runs out: {why}");
    }
}

fn tell_end(job: &Job, ended: &Ended, state: State) {
    let (id, what) = (job.id, described(job));
    let code = ended.exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
    let said = ended.said.as_deref().and_then(|said| said.lines().next_back()).unwrap_or_default();
    match (state, ended.how) {
        (State::Done, _) => tracing::info!("job {id} is done{code}: {what}"),
        (State::Queued, How::Failed) => {
            tracing::warn!("job {id} is tried again{code}: {what}: {said}");
        }
        (State::Queued | State::Cancelled, _) => tracing::warn!("job {id} is {state}{code}: {what}"),
        _ => tracing::error!("job {id} failed{code}: {what}: {said}"),
    }
}

fn described(job: &Job) -> String {
    let source = job.source.as_ref().map_or_else(String::new, |source| format!(" of {source}"));
    format!("{}{source}, due {}", job.kind, job.due)
}

fn told_of(error: &CatalogError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Says what stands in the way of the catalog once, and once that it is over. What passes by itself is said if it is there a second
/// time: two agents may have been in each other's way.
#[derive(Default)]
struct Trouble {
    said: Option<String>,
    times: u32,
}

impl Trouble {
    fn of(&mut self, done: Result<(), CatalogError>) {
        let Err(error) = done else {
            self.times = 0;
            if self.said.take().is_some() {
                tracing::warn!("the catalog answers again");
            }
            return;
        };
        self.times += 1;
        let text = told_of(&error);
        if self.said.as_ref() != Some(&text) && (self.times > 1 || !error.is_passing()) {
            tracing::error!("jobs wait: {text}");
            self.said = Some(text);
        }
    }
}
