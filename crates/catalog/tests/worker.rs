//! When a job is told to stop, why, and what becomes of it: called off, too late, its lease lost, its agent leaving, the catalog away.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod world;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use strongroom_catalog::history::Agent;
use strongroom_catalog::lease::{Ended, How};
use strongroom_catalog::retry::Retry;
use strongroom_catalog::worker::{Rhythm, Runner, Stop, Why, Worker};
use strongroom_catalog::{Catalog, Job, JobId, State};
use strongroom_model::due::Due;
use strongroom_model::{Clock, Timestamp};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use world::{Hands, Site, cx, standing};

/// Works until it is told to stop, and remembers why.
#[derive(Default)]
struct Patient(Mutex<Vec<Why>>);

#[async_trait]
impl Runner for Patient {
    async fn run(&self, _: &Job, mut stop: Stop) -> Ended {
        let why = stop.asked().await;
        self.0.lock().unwrap().push(why);
        Ended {
            how: How::Failed,
            exit_code: None,
            result: None,
            said: Some("cut".into()),
            sequels: Vec::new(),
        }
    }

    fn seats(&self) -> Vec<String> {
        vec!["a".into()]
    }
}

/// An agent at work on one job of `a`.
struct Scene {
    runtime: Runtime,
    catalog: Arc<Catalog>,
    clock: Arc<Hands>,
    runner: Arc<Patient>,
    leave: watch::Sender<bool>,
}

/// The number of the one job.
const JOB: JobId = 1;

impl Scene {
    /// With so long for the job, once it has begun.
    fn set(site: &Site, completion_window: Duration) -> Scene {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (clock, runner) = (Hands::running(), Arc::new(Patient::default()));
        let catalog = runtime.block_on(site.catalog());
        let rhythm = Rhythm {
            slots: 1,
            lease: Duration::from_secs(2),
            look_every: Duration::from_millis(100),
            grace: Duration::ZERO,
            retry: Retry { attempts: 9, first: Duration::ZERO, longest: Duration::ZERO },
        };
        let now = clock.now();
        let agent = Agent { name: "x".into(), host: "h".into(), build: "b".into(), began: now, seen: now };
        let worker = Worker::new(&cx(&clock, 1), Arc::clone(&catalog), runner.clone(), agent, rhythm);
        let (leave, left) = watch::channel(false);
        let standing = strongroom_catalog::job::Standing { completion_window, ..standing("a") };
        let due = Due { run: Some(now), ..Due::default() };
        runtime.block_on(catalog.order(&[(&standing, due)], now)).unwrap();
        runtime.spawn(async move { worker.work(left).await });
        let scene = Scene { runtime, catalog, clock, runner, leave };
        scene.until(|job| job.state == State::Leased);
        scene
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits for the one job to stand so.
    fn until(&self, fits: impl Fn(&Job) -> bool) -> Job {
        let began = Instant::now();
        loop {
            if let Ok(job) = self.runtime.block_on(self.catalog.job(JOB))
                && fits(&job)
            {
                return job;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "waited in vain");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Why the job was told to stop, first.
    fn why(&self) -> Why {
        let began = Instant::now();
        loop {
            if let Some(why) = self.runner.0.lock().unwrap().first() {
                return *why;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it was not told to stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_job_that_is_called_off_is_stopped() {
    for site in Site::all() {
        let scene = Scene::set(&site, LONG);
        scene.runtime.block_on(scene.catalog.cancel(JOB, scene.now())).unwrap();
        let ended = scene.until(|job| job.state == State::Cancelled);
        assert_eq!((scene.why(), ended.attempt), (Why::CalledOff, 1));
    }
}

#[test]
fn a_job_that_takes_too_long_is_stopped_and_says_so() {
    for site in Site::all() {
        let scene = Scene::set(&site, Duration::from_secs(1));
        let ended = scene.until(|job| job.state == State::Failed);
        assert_eq!(scene.why(), Why::Overdue);
        assert_eq!(ended.said.as_deref(), Some("cut\nits completion window closed"));
    }
}

#[test]
fn an_agent_that_leaves_gives_its_job_back() {
    for site in Site::all() {
        let scene = Scene::set(&site, LONG);
        scene.leave.send_replace(true);
        let ended = scene.until(|job| job.state == State::Queued);
        assert_eq!((scene.why(), ended.attempt, ended.token), (Why::Leaving, 0, 1));
    }
}

#[test]
fn an_agent_that_lost_its_lease_stops_and_is_not_heard() {
    for site in Site::all() {
        let scene = Scene::set(&site, LONG);
        // To another agent, whose clock is far ahead, this one has been silent for long.
        let later = Timestamp(scene.now().0 + Duration::from_secs(600));
        let retry = Retry { attempts: 9, ..Retry::default() };
        let lease = Duration::from_secs(2);
        let tended = scene.runtime.block_on(scene.catalog.tend(later, (lease, &retry))).unwrap();
        assert_eq!(tended.silent, [JOB]);
        let seats = ["a".to_owned()];
        let until = Timestamp(later.0 + Duration::from_secs(600));
        let taken =
            scene.runtime.block_on(scene.catalog.lease("other", &seats, (later, until))).unwrap().unwrap();
        assert_eq!(taken.token, 2);
        assert_eq!(scene.why(), Why::LeaseLost);
        let held = scene.until(|job| job.state == State::Leased);
        assert_eq!((held.owner.as_deref(), held.token), (Some("other"), 2));
    }
}

#[test]
fn an_agent_that_cannot_say_that_it_lives_stops_its_jobs() {
    for mut site in Site::all() {
        let scene = Scene::set(&site, LONG);
        let Some(cluster) = site.server() else { continue };
        let (port, began) = (cluster.port(), Instant::now());
        cluster.stop("immediate").unwrap();
        assert_eq!(scene.why(), Why::LeaseLost);
        assert!(began.elapsed() < Duration::from_secs(20));
        // Once the catalog is back the job is given back, or found to be without its agent; either way it goes on.
        cluster.start_at(port).unwrap();
        scene.until(|job| job.token == 2);
    }
}
