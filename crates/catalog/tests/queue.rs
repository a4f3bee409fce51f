//! The queue's promises, on both databases: an instant has one job, a source one agent, and what came from a lost lease is not taken.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use strongroom_catalog::by_hand::HandOrder;
use strongroom_catalog::history::Filter;
use strongroom_catalog::job::RequestState;
use strongroom_catalog::lease::{Beat, Ended, How, Lost};
use strongroom_catalog::queue::{Planned, went_back};
use strongroom_catalog::retry::Retry;
use strongroom_catalog::{Catalog, CatalogError, Job, Kind, Place, State};
use strongroom_model::Timestamp;
use strongroom_model::due::due;

use world::{NOON, Site, at, standing};

const LEASE: Duration = Duration::from_secs(60);
const RETRY: Retry =
    Retry { attempts: 3, first: Duration::from_secs(100), longest: Duration::from_secs(1000) };

/// A new catalog on each database.
fn on_each(check: impl AsyncFn(&Site, Arc<Catalog>)) {
    for site in Site::all() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { check(&site, site.catalog().await).await });
    }
}

/// Every ten minutes since noon.
fn often(last: Timestamp) -> Option<Timestamp> {
    Some(at(((last.unix_seconds() - NOON).div_euclid(600) + 1) * 600))
}

/// Plans `source` from where it is planned up to `now`.
async fn plan(catalog: &Catalog, source: &str, now: i64) -> Planned {
    let standing = standing(source);
    catalog.stand(&[(&standing, at(0))]).await.unwrap();
    let planned_to = catalog.planned_to().await.unwrap()[&standing.key()];
    if went_back(planned_to, at(now)) {
        catalog.take_back(&[&standing], at(now)).await.unwrap();
        return Planned::default();
    }
    let due = due(often, (planned_to, at(now)), standing.start_window);
    catalog.order(&[(&standing, due)], at(now)).await.unwrap()
}

async fn lease(catalog: &Catalog, owner: &str, now: i64) -> Option<Job> {
    let seats = ["a".to_owned(), "b".to_owned()];
    catalog.lease(owner, &seats, (at(now), at(now + 60))).await.unwrap()
}

fn ended(how: How) -> Ended {
    let result = Some(serde_json::json!({ "point": "x" }));
    Ended { how, exit_code: Some(6), result, said: Some("it was so".into()), sequels: Vec::new() }
}

async fn finish(catalog: &Catalog, job: &Job, how: How, now: i64) -> Result<State, Lost> {
    catalog.finish(job, &ended(how), (at(now), [255], &RETRY)).await.unwrap()
}

async fn states(catalog: &Catalog) -> String {
    let jobs = catalog.jobs(&Filter { most: 100, ..Filter::default() }).await.unwrap();
    let show = |job: &Job| format!("{}:{}", (job.due.unix_seconds() - NOON) / 60, job.state);
    jobs.iter().rev().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_instant_has_one_job_whoever_plans_it() {
    on_each(async |site, first| {
        let second = site.catalog().await;
        assert_eq!(plan(&first, "a", 599).await, Planned::default());
        let (one, other) = tokio::join!(plan(&first, "a", 600), plan(&second, "a", 600));
        assert_eq!(one.ordered + other.ordered, 1);
        assert_eq!(plan(&second, "a", 601).await, Planned::default());
        assert_eq!(plan(&first, "a", 1200).await, Planned { ordered: 1, missed: 0 });
        assert_eq!(states(&first).await, "10:queued 20:queued");
        // Away for an hour: the newest runs.
        assert_eq!(plan(&first, "a", 3700).await, Planned { ordered: 1, missed: 3 });
        assert_eq!(states(&first).await, "10:queued 20:queued 30:missed 40:missed 50:missed 60:queued");
    });
}

#[test]
fn a_source_has_one_agent_and_another_source_does_not_wait() {
    on_each(async |site, first| {
        let second = site.catalog().await;
        for source in ["a", "b", "elsewhere"] {
            plan(&first, source, 600).await;
            plan(&first, source, 1200).await;
        }
        let (one, other) = tokio::join!(lease(&first, "one", 1300), lease(&second, "other", 1300));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_ne!(one.source, other.source);
        assert_eq!((one.attempt, one.token, one.owner.as_deref()), (1, 1, Some("one")));
        // The oldest of each source; what is nobody's seat here is left alone.
        assert_eq!([one.due, other.due], [at(600); 2]);
        assert_eq!(lease(&second, "other", 1300).await, None);
        assert_eq!(finish(&first, &one, How::Done, 1310).await, Ok(State::Done));
        let next = lease(&second, "other", 1320).await.unwrap();
        assert_eq!((next.source, next.due), (one.source.clone(), at(1200)));
        let done = first.job(one.id).await.unwrap();
        assert_eq!((done.began, done.ended, done.owner), (Some(at(1300)), Some(at(1310)), None));
        assert_eq!(done.result.unwrap()["point"], "x");
    });
}

#[test]
fn what_comes_from_a_lost_lease_is_not_taken() {
    on_each(async |_, catalog| {
        plan(&catalog, "a", 600).await;
        let lost = lease(&catalog, "slow", 600).await.unwrap();
        assert_eq!(catalog.beat(&lost, (at(610), at(670))).await.unwrap(), Beat::Held);
        assert_eq!(catalog.tend(at(670), (LEASE, &RETRY)).await.unwrap().silent.len(), 0);
        assert_eq!(catalog.tend(at(671), (LEASE, &RETRY)).await.unwrap().silent, [lost.id]);
        assert_eq!(catalog.beat(&lost, (at(672), at(732))).await.unwrap(), Beat::Lost);
        assert_eq!(finish(&catalog, &lost, How::Done, 672).await, Err(Lost));
        let held = lease(&catalog, "next", 673).await.unwrap();
        assert_eq!((held.id, held.attempt, held.token), (lost.id, 2, 2));
        assert_eq!(held.began, Some(at(600)));
        // Nor is it once another has it.
        assert_eq!(catalog.beat(&lost, (at(674), at(734))).await.unwrap(), Beat::Lost);
        assert_eq!(finish(&catalog, &lost, How::Failed, 674).await, Err(Lost));
        let sequels =
            vec![strongroom_catalog::job::Standing { kind: Kind::Expire, ..standing("a") }.order(at(600))];
        let ended = Ended { sequels, ..ended(How::Done) };
        let of_lost = catalog.finish(&lost, &ended, (at(674), [0], &RETRY)).await.unwrap();
        assert_eq!((of_lost, states(&catalog).await), (Err(Lost), "10:leased".to_owned()));
        let of_held = catalog.finish(&held, &ended, (at(675), [0], &RETRY)).await.unwrap();
        assert_eq!((of_held, states(&catalog).await), (Ok(State::Done), "10:done 10:queued".to_owned()));
    });
}

#[test]
fn failures_are_tried_again_until_attempts_or_time_are_used_up() {
    on_each(async |_, catalog| {
        plan(&catalog, "a", 600).await;
        let job = lease(&catalog, "x", 600).await.unwrap();
        assert_eq!(job.end_by, at(600 + 7200));
        assert_eq!(finish(&catalog, &job, How::Failed, 610).await, Ok(State::Queued));
        // A pause of five quarters of 100 s, for this chance.
        assert_eq!(lease(&catalog, "x", 734).await, None);
        let job = lease(&catalog, "x", 735).await.unwrap();
        // One that is given back does not count.
        assert_eq!(finish(&catalog, &job, How::GivenBack, 740).await, Ok(State::Queued));
        let job = lease(&catalog, "x", 740).await.unwrap();
        assert_eq!((job.attempt, job.token), (2, 3));
        assert_eq!(finish(&catalog, &job, How::Failed, 750).await, Ok(State::Queued));
        let job = lease(&catalog, "x", 1000).await.unwrap();
        assert_eq!(finish(&catalog, &job, How::Failed, 1010).await, Ok(State::Failed));
        let failed = catalog.job(job.id).await.unwrap();
        assert_eq!((failed.exit_code, failed.said.as_deref()), (Some(6), Some("it was so")));
        // What a person must mend is not tried again; nor is what would end too late.
        plan(&catalog, "b", 1200).await;
        let job = lease(&catalog, "x", 1200).await.unwrap();
        assert_eq!(finish(&catalog, &job, How::FailedForGood, 1210).await, Ok(State::Failed));
        plan(&catalog, "b", 1800).await;
        let job = lease(&catalog, "x", 1800).await.unwrap();
        assert_eq!(finish(&catalog, &job, How::Failed, 1800 + 7150).await, Ok(State::Failed));
    });
}

#[test]
fn windows_close() {
    on_each(async |_, catalog| {
        plan(&catalog, "a", 600).await;
        assert_eq!(catalog.tend(at(4200), (LEASE, &RETRY)).await.unwrap().closed.len(), 0);
        assert_eq!(catalog.tend(at(4201), (LEASE, &RETRY)).await.unwrap().closed.len(), 1);
        assert_eq!(states(&catalog).await, "10:expired");
        // One that waits for its next attempt has its completion window.
        plan(&catalog, "b", 600).await;
        let job = lease(&catalog, "x", 700).await.unwrap();
        assert_eq!(finish(&catalog, &job, How::Failed, 7000).await, Ok(State::Queued));
        assert_eq!(catalog.tend(at(7900), (LEASE, &RETRY)).await.unwrap().closed.len(), 0);
        assert_eq!(catalog.tend(at(7901), (LEASE, &RETRY)).await.unwrap().closed, [job.id]);
        assert_eq!(catalog.job(job.id).await.unwrap().state, State::Failed);
    });
}

#[test]
fn a_job_is_called_off_before_and_while_it_runs_and_taken_up_again() {
    on_each(async |_, catalog| {
        plan(&catalog, "a", 600).await;
        plan(&catalog, "b", 600).await;
        let running = lease(&catalog, "x", 600).await.unwrap();
        assert!(catalog.cancel(running.id, at(601)).await.unwrap().cancelling);
        assert_eq!(catalog.beat(&running, (at(602), at(662))).await.unwrap(), Beat::CalledOff);
        let waiting =
            catalog.jobs(&Filter { state: Some(State::Queued), most: 9, ..Filter::default() }).await.unwrap();
        let waiting = catalog.cancel(waiting[0].id, at(601)).await.unwrap();
        assert_eq!((waiting.state, waiting.ended), (State::Cancelled, Some(at(601))));
        // Also if its agent had no time to hear of it.
        assert_eq!(finish(&catalog, &running, How::Failed, 603).await, Ok(State::Cancelled));
        assert!(matches!(catalog.cancel(running.id, at(604)).await, Err(CatalogError::NotNow { .. })));
        let again = catalog.take_up_again(running.id, at(9000)).await.unwrap();
        assert_eq!((again.state, again.attempt, again.cancelling), (State::Queued, 0, false));
        assert_eq!((again.start_by, again.began, again.due), (at(9000 + 3600), None, at(600)));
        let job = lease(&catalog, "x", 9001).await.unwrap();
        assert_eq!((job.id, job.token, job.end_by), (running.id, 2, at(9001 + 7200)));
        assert_eq!(finish(&catalog, &job, How::Done, 9002).await, Ok(State::Done));
        assert!(matches!(catalog.take_up_again(job.id, at(9003)).await, Err(CatalogError::NotNow { .. })));
        assert!(matches!(catalog.job(4711).await, Err(CatalogError::NoSuchJob { id: 4711, .. })));
    });
}

#[test]
fn a_clock_that_goes_back_neither_doubles_nor_loses() {
    on_each(async |_, catalog| {
        plan(&catalog, "a", 600).await;
        let job = lease(&catalog, "x", 600).await.unwrap();
        assert_eq!(finish(&catalog, &job, How::Done, 610).await, Ok(State::Done));
        // Back by ten minutes, and on from there: the instant comes again, and is done already.
        assert_eq!(plan(&catalog, "a", 10).await, Planned::default());
        assert_eq!(plan(&catalog, "a", 600).await, Planned::default());
        // Ahead by three hours, and the newest of those is begun; then back.
        plan(&catalog, "a", 3 * 3600).await;
        let early = lease(&catalog, "x", 3 * 3600).await.unwrap();
        assert_eq!(early.due, at(3 * 3600));
        assert_eq!(finish(&catalog, &early, How::Done, 3 * 3600).await, Ok(State::Done));
        plan(&catalog, "a", 1000).await;
        assert_eq!(states(&catalog).await, "10:done 180:done");
        // What had been written down as missed comes after all.
        for now in [1200, 1800] {
            assert_eq!(plan(&catalog, "a", now).await, Planned { ordered: 1, missed: 0 });
        }
        assert_eq!(states(&catalog).await, "10:done 20:queued 30:queued 180:done");
        // A lease that was taken by the clock ahead is cut to its length.
        plan(&catalog, "b", 5 * 3600).await;
        let lost = lease(&catalog, "y", 5 * 3600).await.unwrap();
        assert_eq!(catalog.tend(at(1900), (LEASE, &RETRY)).await.unwrap().silent.len(), 0);
        assert_eq!(catalog.job(lost.id).await.unwrap().lease_until, Some(at(1960)));
        assert_eq!(catalog.tend(at(1961), (LEASE, &RETRY)).await.unwrap().silent, [lost.id]);
    });
}

#[test]
fn what_the_vault_tells_is_history_and_a_newer_catalog_is_left_alone() {
    on_each(async |site, catalog| {
        let told = standing("a").order(at(-86_400));
        for _ in 0..2 {
            catalog.remember(&[(told.clone(), serde_json::json!({ "point": "p" }))]).await.unwrap();
        }
        let jobs = catalog.jobs(&Filter { most: 9, ..Filter::default() }).await.unwrap();
        assert_eq!(jobs.len(), 1);
        assert_eq!((jobs[0].state, jobs[0].ended), (State::Done, Some(at(-86_400))));
        assert_eq!(jobs[0].result.as_ref().unwrap()["point"], "p");
        drop(catalog);
        match site {
            Site::File(_) => {
                let file = rusqlite::Connection::open(site.path()).unwrap();
                file.execute("insert into versions (version) values (1000)", []).unwrap();
            }
            Site::Server(cluster) => {
                cluster.sql("insert into strongroom.versions (version) values (1000)").unwrap();
            }
        }
        let refused = Catalog::open(site.place()).await.err().unwrap();
        assert!(matches!(refused, CatalogError::Newer { found: 1000, .. }), "{refused}");
    });
}

#[test]
fn a_fleets_night_is_ordered_at_once() {
    on_each(async |site, catalog| {
        let rules: Vec<_> = (0..10_000).map(|number| standing(&format!("source-{number}"))).collect();
        let begun: Vec<_> = rules.iter().map(|rule| (rule, at(0))).collect();
        catalog.stand(&begun).await.unwrap();
        let night = |rule| (rule, due(often, (at(0), at(600)), Duration::from_secs(3600)));
        let night: Vec<_> = rules.iter().map(night).collect();
        let began = std::time::Instant::now();
        let planned = catalog.order(&night, at(600)).await.unwrap();
        let kind = if matches!(site, Site::File(_)) { "SQLite" } else { "PostgreSQL" };
        println!("10,000 jobs ordered in {kind} in {:?}", began.elapsed());
        assert_eq!(planned, Planned { ordered: 10_000, missed: 0 });
        assert_eq!(catalog.order(&night, at(600)).await.unwrap(), Planned::default());
    });
}

#[test]
fn two_agents_make_one_catalog_and_what_is_none_is_refused() {
    for site in Site::all() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let opened: Vec<_> = (0..4).map(|_| runtime.spawn(Catalog::open(site.place()))).collect();
        for opened in opened {
            runtime.block_on(opened).unwrap().unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other");
    std::fs::write(
        &path,
        "this is no catalog, and long enough to be looked at as a database file".repeat(20),
    )
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(Catalog::open(Place::File(path))).err().unwrap();
    assert!(!refused.is_passing(), "{refused:?}");
    let missing = runtime.block_on(Catalog::open(Place::File("/nowhere/catalog.db".into()))).err().unwrap();
    assert!(missing.to_string().contains("/nowhere/catalog.db"), "{missing}");
}

#[test]
fn what_the_newest_jobs_came_to_is_told() {
    on_each(async |_, catalog| {
        let newest = async || {
            let ends = catalog.newest_ends().await.unwrap();
            let show = |job: &Job| {
                let (source, due) = (job.source.as_ref().unwrap(), (job.due.unix_seconds() - NOON) / 60);
                format!("{source} {due}:{}", job.state)
            };
            ends.iter().map(show).collect::<Vec<_>>().join(" ")
        };
        plan(&catalog, "a", 600).await;
        assert_eq!(newest().await, "");
        let first = lease(&catalog, "one", 600).await.unwrap();
        assert_eq!(catalog.under_way(Kind::Backup).await.unwrap(), ["a".parse().unwrap()]);
        assert_eq!(catalog.under_way(Kind::Verify).await.unwrap(), []);
        // One that is given back, or runs for the first time, came to nothing yet.
        assert_eq!(finish(&catalog, &first, How::GivenBack, 601).await, Ok(State::Queued));
        assert_eq!(newest().await, "");
        let first = lease(&catalog, "one", 602).await.unwrap();
        assert_eq!(finish(&catalog, &first, How::Failed, 610).await, Ok(State::Queued));
        assert_eq!(newest().await, "a 10:queued");
        plan(&catalog, "b", 611).await;
        let other = lease(&catalog, "one", 611).await.unwrap();
        assert_eq!(finish(&catalog, &other, How::Done, 650).await, Ok(State::Done));
        assert_eq!(newest().await, "a 10:queued b 10:done");
        let again = lease(&catalog, "one", 800).await.unwrap();
        assert_eq!((again.id, newest().await.as_str()), (first.id, "a 10:leased b 10:done"));
        assert_eq!(finish(&catalog, &again, How::FailedForGood, 810).await, Ok(State::Failed));
        plan(&catalog, "a", 1200).await;
        assert_eq!(newest().await, "a 10:failed b 10:done");
        let done = catalog.last_done(Kind::Backup).await.unwrap();
        assert_eq!(done.into_iter().collect::<Vec<_>>(), [("b".parse().unwrap(), at(650))]);
        let counts = catalog.counts().await.unwrap();
        let of = |state| counts.get(&(Kind::Backup, state)).copied();
        assert_eq!(
            [of(State::Failed), of(State::Done), of(State::Queued), of(State::Missed)],
            [Some(1), Some(1), Some(1), None]
        );
    });
}

fn by_hand(person: &str, key: &str, point: &str) -> HandOrder {
    HandOrder {
        kind: Kind::Hold,
        source: "a".parse().unwrap(),
        seat: "a".into(),
        act: serde_json::json!({ "act": "release", "point": point }),
        person: person.into(),
        key: key.into(),
    }
}

#[test]
fn a_key_of_a_person_stands_for_one_job() {
    on_each(async |site, first| {
        let second = site.catalog().await;
        let order = by_hand("ada", "k", "p");
        let (one, other) =
            tokio::join!(first.order_by_hand(&order, at(0)), second.order_by_hand(&order, at(1)));
        let ((is_new, job), (is_new_too, same)) = (one.unwrap(), other.unwrap());
        assert!(is_new != is_new_too && job.id == same.id && job.due == same.due);
        assert_eq!((job.person.as_deref(), job.act), (Some("ada"), Some(order.act)));
        let something_else = first.order_by_hand(&by_hand("ada", "k", "q"), at(2)).await;
        assert!(matches!(something_else, Err(CatalogError::OtherOrder { .. })));
        // Another's key is another key.
        assert!(first.order_by_hand(&by_hand("bob", "k", "q"), at(2)).await.unwrap().0);
        // It is leased like any other, and its page goes on behind it.
        assert_eq!(lease(&second, "x", 3).await.unwrap().id, job.id);
        let newest = first.jobs(&Filter { most: 1, ..Filter::default() }).await.unwrap();
        let before = Some((newest[0].due, newest[0].id));
        let rest = first.jobs(&Filter { most: 9, before, ..Filter::default() }).await.unwrap();
        assert_eq!(rest.iter().map(|job| job.id).collect::<Vec<_>>(), [job.id]);
    });
}

#[test]
fn what_one_asks_for_another_approves_once_and_in_time() {
    on_each(async |site, first| {
        let second = site.catalog().await;
        let ask = async |key: &str, now| first.ask(&by_hand("ada", key, "p"), at(now)).await.unwrap();
        let (is_new, request) = ask("k", 0).await;
        assert!(is_new && request.state == RequestState::Waiting);
        assert_eq!(ask("k", 1).await, (false, request.clone()));
        let own = first.approve(request.id, "ada", at(2)).await.unwrap_err();
        assert!(matches!(own, CatalogError::OwnRequest { .. }), "{own}");
        assert!(lease(&first, "x", 2).await.is_none());
        let (one, other) =
            tokio::join!(first.approve(request.id, "bob", at(3)), second.approve(request.id, "eve", at(3)));
        let refused = if one.is_ok() { other } else { one };
        assert!(matches!(refused, Err(CatalogError::Decided { state: RequestState::Approved, .. })));
        let job = lease(&second, "x", 4).await.unwrap();
        assert!(matches!(job.person.as_deref(), Some("ada, with bob" | "ada, with eve")), "{job:?}");
        assert_eq!(first.request(request.id, at(4)).await.unwrap().job, Some(job.id));
        assert_eq!(first.jobs(&Filter { most: 9, ..Filter::default() }).await.unwrap().len(), 1);
        // Taken back, and forgotten about.
        let (_, back) = ask("l", 5).await;
        first.decline(back.id, "ada", at(6)).await.unwrap();
        let late = first.approve(back.id, "bob", at(7)).await.unwrap_err();
        assert!(matches!(late, CatalogError::Decided { state: RequestState::Declined, .. }), "{late}");
        let (_, lapsed) = ask("m", 8).await;
        let a_day_later = 8 + 24 * 3600;
        let late = first.approve(lapsed.id, "bob", at(a_day_later)).await.unwrap_err();
        assert!(matches!(late, CatalogError::Decided { state: RequestState::Lapsed, .. }), "{late}");
        assert!(first.decline(lapsed.id, "bob", at(a_day_later)).await.is_err());
        let states: Vec<RequestState> =
            first.requests(9, at(a_day_later)).await.unwrap().iter().map(|request| request.state).collect();
        assert_eq!(states, [RequestState::Lapsed, RequestState::Declined, RequestState::Approved]);
        assert!(matches!(first.request(99, at(9)).await, Err(CatalogError::NoSuchRequest { id: 99, .. })));
    });
}
