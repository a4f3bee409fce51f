//! What is told is told once, whoever watches, and not forgotten; on both databases.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod world;

use std::sync::Arc;

use strongroom_catalog::Catalog;
use strongroom_catalog::alerts::{ChannelRecord, Telling};
use strongroom_model::alert::news::{Event, News};
use strongroom_model::alert::{AlertKind, Condition};

use world::{Site, at};

fn on_each(check: impl AsyncFn(&Site, Arc<Catalog>)) {
    for site in Site::all() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { check(&site, site.catalog().await).await });
    }
}

fn late(event: Event, fired: i64, now: i64) -> News {
    let condition = Condition::new(AlertKind::Late, "a".parse().ok().as_ref(), "it is late: 'now'", at(0))
        .look("strongroom list");
    News { event, condition, fired_at: at(fired), at: at(now) }
}

fn told(tellings: &[Telling]) -> Vec<String> {
    tellings
        .iter()
        .map(|telling| format!("{} {} {}", telling.channel, telling.news.event.word(), telling.attempt))
        .collect()
}

#[test]
fn a_subject_has_one_watcher_until_it_leaves_or_falls_silent() {
    on_each(async |_, catalog| {
        let watch = async |owner: &str, now: i64| {
            let held = catalog.watch(&["", "a", "b"], owner, (at(now), at(now + 60))).await.unwrap();
            let known = catalog.known_since(&["", "b", "other"]).await.unwrap();
            (held.len(), known.into_values().collect::<Vec<_>>())
        };
        assert_eq!(watch("one", 0).await, (3, vec![at(0); 2]));
        assert_eq!(watch("two", 30).await, (0, vec![at(0); 2]));
        assert_eq!(watch("one", 40).await, (3, vec![at(0); 2]));
        assert_eq!(watch("two", 100).await, (0, vec![at(0); 2]));
        // It fell silent at 40. Since when the subjects are known stays.
        assert_eq!(watch("two", 101).await, (3, vec![at(0); 2]));
        assert_eq!(watch("one", 102).await, (0, vec![at(0); 2]));
        catalog.watch_no_more("two").await.unwrap();
        assert_eq!(watch("one", 103).await, (3, vec![at(0); 2]));
    });
}

#[test]
fn news_is_told_to_each_channel_once_and_again_where_it_was_not_taken() {
    on_each(async |site, catalog| {
        let both = ["chat", "mail"];
        let fired = late(Event::Fired, 0, 0);
        for _ in 0..2 {
            catalog.tell(&[(fired.clone(), both.to_vec())], at(0)).await.unwrap();
        }
        let alerts = catalog.alerts().await.unwrap();
        assert_eq!((alerts.len(), &alerts[0].condition, alerts[0].told_at), (1, &fired.condition, at(0)));
        let due = catalog.due_tellings(&both, at(1)).await.unwrap();
        assert_eq!(told(&due), ["chat fired 1", "mail fired 1"]);
        assert_eq!(due[0].news, fired);
        // Nobody else gets them meanwhile.
        assert_eq!(site.catalog().await.due_tellings(&both, at(2)).await.unwrap(), []);
        catalog.told(&due[0]).await.unwrap();
        catalog.not_told(&due[1], "it's refused", (at(2), at(30))).await.unwrap();
        catalog.not_told(&due[1], "again", (at(3), at(30))).await.unwrap();
        let record = |name: &str, failing: Option<i64>, why: Option<&str>, (told, refused)| ChannelRecord {
            name: name.into(),
            failing_since: failing.map(at),
            why: why.map(str::to_owned),
            told,
            refused,
        };
        let expected = [record("chat", None, None, (1, 0)), record("mail", Some(2), Some("again"), (0, 2))];
        assert_eq!(catalog.channels().await.unwrap(), expected);
        assert_eq!(catalog.due_tellings(&both, at(29)).await.unwrap(), []);
        assert_eq!(catalog.due_tellings(&["chat"], at(30)).await.unwrap(), []);
        let again = catalog.due_tellings(&both, at(30)).await.unwrap();
        assert_eq!(told(&again), ["mail fired 2"]);
        // An agent that died with it tells it once its claim has run out.
        assert_eq!(told(&catalog.due_tellings(&both, at(151)).await.unwrap()), ["mail fired 3"]);
        catalog.told(&again[0]).await.unwrap();
        catalog.tried("mail", Ok(()), at(31)).await.unwrap();
        assert_eq!(catalog.channels().await.unwrap()[1], record("mail", None, None, (2, 2)));
    });
}

#[test]
fn an_alert_that_ends_and_comes_again_is_told_each_time() {
    on_each(async |_, catalog| {
        for (event, fired, now, alerts) in [
            (Event::Fired, 0, 0, 1),
            (Event::Reminded, 0, 100, 1),
            (Event::Reminded, 0, 200, 1),
            (Event::Recovered, 0, 300, 0),
            (Event::Fired, 400, 400, 1),
            (Event::Recovered, 400, 500, 0),
        ] {
            catalog.tell(&[(late(event, fired, now), vec!["mail"])], at(now)).await.unwrap();
            assert_eq!(catalog.alerts().await.unwrap().len(), alerts, "{now}");
        }
        assert_eq!(catalog.waiting_tellings(at(500)).await.unwrap(), 6);
        // After a day nobody wants to hear of it any more.
        assert_eq!(catalog.waiting_tellings(at(24 * 3600 + 350)).await.unwrap(), 2);
    });
}
