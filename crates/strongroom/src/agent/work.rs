//! The agent's work: the catalog, the scheduler that orders jobs, and the worker that carries them out.
//!
//! **Invariants**
//! - Settings that order nothing, and let nobody order, make no catalog: an agent that only ships and receives WAL keeps nothing on disk.
//! - A catalog that cannot be reached keeps jobs waiting, and nothing else: WAL is shipped and received all the while.

use std::sync::Arc;
use std::time::Duration;

use strongroom_catalog::Catalog;
use strongroom_catalog::history::Agent;
use strongroom_catalog::retry::Retry;
use strongroom_catalog::worker::{Rhythm, Worker};
use tokio::sync::watch;

use crate::agent::agenda::agenda;
use crate::agent::jobs::Processes;
use crate::agent::present::Present;
use crate::agent::scheduler::Scheduler;
use crate::catalog;
use crate::context::Context;
use crate::failure::Failure;
use crate::surroundings::{host, tool};

/// How long a job is an agent's without a sign of life: longer than a server or network hiccups, shorter than anybody waits.
const LEASE: Duration = Duration::from_secs(60);

/// Between two looks at the queue.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two tries to open the catalog.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// Refuses a catalog that cannot be worked with, if these settings need one. One that does not answer now may do so later.
pub async fn check(context: &Context) -> Result<(), Failure> {
    if !is_wanted(context) {
        return Ok(());
    }
    match Catalog::open(catalog::place(context)?).await {
        Err(error) if !error.is_passing() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether these settings order anything, or name somebody who may.
fn is_wanted(context: &Context) -> bool {
    let settings = &context.settings;
    let has_people = !settings.users.is_empty() || !settings.tokens.is_empty();
    !agenda(settings).is_empty() || settings.http.is_some() && has_people
}

/// Works until `leave` says so.
pub async fn work(settings: Arc<Present>, mut leave: watch::Receiver<bool>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while !is_wanted(&settings.context()) {
        tokio::select! {
            _ = leave.wait_for(|leave| *leave) => return,
            _ = looks.tick() => {}
        }
    }
    let Some((context, catalog)) = open(&settings, &mut leave).await else { return };
    context.printer.note(&format!("jobs are kept in {}", catalog.place()));
    let runner = Arc::new(Processes::new(Arc::clone(&settings)));
    let rhythm = Rhythm {
        slots: context.settings.agent.jobs.get(),
        lease: LEASE,
        look_every: LOOK_EVERY,
        grace: context.settings.agent.grace.0,
        retry: Retry::default(),
    };
    let worker = Worker::new(&context.cx, Arc::clone(&catalog), runner, this_agent(&context), rhythm);
    let scheduler = Scheduler::new(settings, catalog, Arc::clone(&worker));
    tokio::join!(scheduler.keep(leave.clone()), worker.work(leave));
}

/// Another one each time it is started: leases of one that was killed are not taken for its own.
fn this_agent(context: &Context) -> Agent {
    let (now, chance) = (context.cx.now(), u32::from_be_bytes(context.cx.random()));
    let name = format!("{}-{chance:08x}", host());
    Agent { name, host: host(), build: tool(), began: now, seen: now }
}

/// The catalog of the settings as they are then, once it can be worked with; `None` if the agent is to leave before.
async fn open(settings: &Present, leave: &mut watch::Receiver<bool>) -> Option<(Arc<Context>, Arc<Catalog>)> {
    let mut tries = tokio::time::interval(TRY_EVERY);
    let mut said = String::new();
    loop {
        tokio::select! {
            _ = leave.wait_for(|leave| *leave) => return None,
            _ = tries.tick() => {}
        }
        let context = settings.context();
        match catalog::open(&context).await {
            Ok(catalog) => return Some((context, Arc::new(catalog))),
            Err(failure) => {
                let why = failure.on_one_line();
                if why != said {
                    tracing::error!("jobs wait: {why}");
                }
                said = why;
            }
        }
    }
}
