//! A fleet under fire: three agents, 500 sources, 10,000 jobs, agents killed at any moment. Every due job comes to its end once.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use strongroom_catalog::history::{Agent, Filter};
use strongroom_catalog::job::Standing;
use strongroom_catalog::lease::{Ended, How};
use strongroom_catalog::retry::Retry;
use strongroom_catalog::worker::{Rhythm, Runner, Stop, Worker};
use strongroom_catalog::{Catalog, Job, State};
use strongroom_model::Clock;
use strongroom_model::due::due;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use world::{Dice, Hands, NOON, Site, at, cx, standing};

const SOURCES: u64 = 500;
const INSTANTS: u64 = 20;
const JOBS: usize = (SOURCES * INSTANTS) as usize;
const AGENTS: usize = 3;

/// Longer than this takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(400);

/// What outlives an agent: what the vault would hold, and who is at a source right now.
#[derive(Default)]
struct Outside {
    points: Mutex<BTreeMap<i64, u64>>,
    at_work: Mutex<BTreeSet<String>>,
    begun: Mutex<u64>,
}

/// Takes a point as a child process would: looks first whether an earlier attempt took it.
struct Toy {
    outside: Arc<Outside>,
    dice: Dice,
}

/// Somebody at a source; nobody once the agent is killed.
struct AtWork<'a>(&'a Outside, String);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.lock().unwrap().remove(&self.1);
    }
}

#[async_trait]
impl Runner for Toy {
    async fn run(&self, job: &Job, mut stop: Stop) -> Ended {
        let source = job.source.as_ref().unwrap().to_string();
        let ended = |how| Ended { how, exit_code: Some(0), result: None, said: None, sequels: Vec::new() };
        assert!(self.outside.at_work.lock().unwrap().insert(source.clone()), "two at {source}");
        let _at_work = AtWork(&self.outside, source);
        *self.outside.begun.lock().unwrap() += 1;
        if job.token > 1 && self.outside.points.lock().unwrap().contains_key(&job.id) {
            return ended(How::Done);
        }
        let takes = Duration::from_micros(200 + self.dice.roll(2000));
        if tokio::time::timeout(takes, stop.asked()).await.is_ok() {
            return ended(How::Cancelled);
        }
        // One in a hundred finds its server away.
        if self.dice.roll(100) == 0 {
            return ended(How::Failed);
        }
        *self.outside.points.lock().unwrap().entry(job.id).or_default() += 1;
        ended(How::Done)
    }

    fn seats(&self) -> Vec<String> {
        (0..SOURCES).map(|number| format!("source-{number}")).collect()
    }
}

/// One agent: its own runtime, so that killing it is as sudden as it can be.
fn start(site: &Site, clock: &Arc<Hands>, outside: &Arc<Outside>, number: u64) -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (place, cx, outside) = (site.place(), cx(clock, number), Arc::clone(outside));
    let started = clock.now();
    runtime.spawn(async move {
        let catalog = Arc::new(Catalog::open(place).await.unwrap());
        let rhythm = Rhythm {
            slots: 16,
            lease: Duration::from_millis(2000),
            look_every: Duration::from_millis(50),
            grace: Duration::ZERO,
            retry: Retry {
                attempts: 100,
                first: Duration::from_millis(10),
                longest: Duration::from_millis(50),
            },
        };
        let name = format!("agent-{number}");
        let agent = Agent { name, host: "h".into(), build: "b".into(), began: started, seen: started };
        let toy = Arc::new(Toy { outside, dice: Dice::new(number) });
        let worker = Worker::new(&cx, Arc::clone(&catalog), toy, agent, rhythm);
        let standings: Vec<Standing> =
            (0..SOURCES).map(|source| standing(&format!("source-{source}"))).collect();
        let planning = plan(&catalog, &standings, &worker);
        let (_stay, leave) = watch::channel(false);
        tokio::join!(planning, worker.work(leave));
    });
    runtime
}

/// Every agent plans every instant, one after the other, from wherever the catalog says that planning is.
async fn plan(catalog: &Catalog, standings: &[Standing], worker: &Worker) {
    let minute = |last: strongroom_model::Timestamp| {
        let next = (last.unix_seconds() - NOON).div_euclid(60) + 1;
        Some(at(next * 60))
    };
    let begun: Vec<_> = standings.iter().map(|standing| (standing, at(-60 * INSTANTS as i64 - 1))).collect();
    catalog.stand(&begun).await.unwrap();
    for instant in 1..=INSTANTS as i64 {
        let now = at(-60 * INSTANTS as i64 + 60 * (instant - 1));
        let planned_to = catalog.planned_to().await.unwrap();
        let due: Vec<_> = standings
            .iter()
            .map(|standing| {
                (standing, due(minute, (planned_to[&standing.key()], now), standing.start_window))
            })
            .filter(|(_, due)| due.run.is_some())
            .collect();
        catalog.order(&due, now).await.unwrap();
        worker.wake();
    }
}

fn under_fire(site: &Site) {
    let (clock, outside, dice) = (Hands::running(), Arc::new(Outside::default()), Dice::new(7));
    let looking = Builder::new_current_thread().enable_all().build().unwrap();
    let catalog = looking.block_on(site.catalog());
    let mut agents: Vec<Runtime> =
        (0..AGENTS as u64).map(|number| start(site, &clock, &outside, number)).collect();
    let (began, mut kills) = (Instant::now(), 0u64);
    let all = Filter { most: 2 * JOBS as i64, ..Filter::default() };
    let jobs = loop {
        assert!(
            began.elapsed() < PATIENCE,
            "{} points after {kills} kills",
            outside.points.lock().unwrap().len()
        );
        std::thread::sleep(Duration::from_millis(300 + dice.roll(1200)));
        let jobs = looking.block_on(catalog.jobs(&all)).unwrap();
        let is_open = |job: &Job| matches!(job.state, State::Queued | State::Leased);
        if jobs.len() >= JOBS && !jobs.iter().any(is_open) {
            break jobs;
        }
        let victim = dice.roll(AGENTS as u64) as usize;
        kills += 1;
        let successor = start(site, &clock, &outside, 100 + kills);
        std::mem::replace(&mut agents[victim], successor).shutdown_background();
    };
    agents.into_iter().for_each(Runtime::shutdown_background);
    assert_eq!(jobs.len(), JOBS);
    let not_done: Vec<&Job> = jobs.iter().filter(|job| job.state != State::Done).collect();
    assert!(not_done.is_empty(), "{} of them, such as {:?}", not_done.len(), not_done.first());
    let distinct: BTreeSet<_> = jobs.iter().map(|job| (job.source.clone(), job.due)).collect();
    assert_eq!(distinct.len(), JOBS);
    let points = outside.points.lock().unwrap();
    assert_eq!(points.len(), JOBS);
    assert!(points.values().all(|times| *times == 1));
    let begun = *outside.begun.lock().unwrap();
    println!("{JOBS} jobs in {:?}, begun {begun} times, {kills} agents killed", began.elapsed());
    assert!(kills > 0);
}

#[test]
fn every_due_job_ends_once_whoever_is_killed() {
    for site in Site::all() {
        under_fire(&site);
    }
}
