//! A real agent watches a real server: what goes wrong is told once, what is over as well, and metrics say the same.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;
mod sinks;

use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

use live::answering::Agent;
use live::{Site, until, versions};
use serde_json::Value;
use sinks::HttpSink;
use strongroom_postgres::cluster::InitOptions;

/// In the next minute that the agent certainly sees begin, and a year later.
fn once() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let due = now + 20 + 60 - (now + 20) % 60;
    format!("{} {} * * *", due / 60 % 60, due / 3600 % 24)
}

/// What the hook was told, as `event key`.
fn told(sink: &HttpSink) -> Vec<String> {
    let of_hook = sink.all().into_iter().filter(|taken| taken.path == "/hook");
    let word = |document: &Value, key: &str| document[key].as_str().unwrap().to_owned();
    of_hook
        .map(|taken| taken.json())
        .map(|document| format!("{} {}", word(&document, "event"), word(&document, "key")))
        .collect()
}

#[test]
fn what_goes_wrong_is_told_once_and_so_is_its_end() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let mut site = Site::new(&binaries, InitOptions { segment_mib: 1, ..InitOptions::default() });
    let (sink, port) =
        (HttpSink::start(), TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let settings = format!(
        "[agent]\nsocket = \"{0}\"\n[catalog]\nurl = \"{1}\"\n[source.main.receive]\nnot_by_agent = true\n[watch]\nevery = \"1s\"\nslot_limit = \"1B\"\nping = \"{2}/ping\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n\
         [alert.hook]\nkind = \"webhook\"\nurl = \"{2}/hook\"\n[alert.second]\nkind = \"exec\"\ncommand = \"exit 1\"\n\
         [plan.gold]\nselect = {{ sources = [\"*\"] }}\n[[plan.gold.rule]]\nname = \"daily\"\nschedule = \"{3}\"\n",
        site.inside("agent.sock"),
        site.inside("catalog.db"),
        sink.url(),
        once()
    );
    let path = site.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + &settings).unwrap();

    // The server is away when the backup is due.
    let server = site.cluster.port();
    site.cluster.stop("fast").unwrap();
    let agent = Agent::start(&site, port);
    sink.taken("/ping");
    until("metrics", || agent.metric("strongroom_source_watched{source=\"main\"}") == Some(1.0));
    assert!(agent.get("/readyz").unwrap().contains(" 200 "));
    assert!(agent.get("/metrics").unwrap().contains("content-type: text/plain; version=0.0.4"));
    assert_eq!(agent.metric("postgres_backup_last_success_timestamp_seconds{source=\"main\"}"), None);
    let failed = "fired job-failed/main/backup:again".to_owned();
    until("the failure to be told", || told(&sink).contains(&failed));
    // A channel that fails is told of by the others.
    until("the channel to be told of", || told(&sink).contains(&"fired channel-fails/*/second".to_owned()));
    until("metrics to tell", || {
        let sample = "strongroom_alert_firing{kind=\"job-failed\",source=\"main\",severity=\"warning\"}";
        agent.metric(sample) == Some(1.0)
            && agent.metric("strongroom_channel_up{channel=\"second\"}") == Some(0.0)
    });
    agent.stop();

    // Another agent goes on from there: what was told is not told again, and what is over is.
    site.cluster.start_at(server).unwrap();
    let agent = Agent::start(&site, port);
    let over = "recovered job-failed/main/backup:again".to_owned();
    until("the end to be told", || told(&sink).contains(&over));
    until("metrics to tell", || {
        agent
            .metric("postgres_backup_last_success_timestamp_seconds{source=\"main\"}")
            .is_some_and(|at| at > 1.7e9)
            && agent.metric("strongroom_points{source=\"main\"}") == Some(1.0)
    });
    assert_eq!(agent.metric("strongroom_jobs{kind=\"backup\",state=\"done\"}"), Some(1.0));
    let of_failure = |told: &String| told.contains("job-failed/main");
    assert_eq!(told(&sink).iter().filter(|told| of_failure(told)).collect::<Vec<_>>(), [&failed, &over]);
    let listed: Value =
        serde_json::from_slice(&site.run(&["alert", "list", "--output", "json"]).stdout).unwrap();
    let keys: Vec<&Value> = listed["alerts"].as_array().unwrap().iter().map(|alert| &alert["kind"]).collect();
    assert_eq!(keys, ["channel-fails"], "{listed}");

    // A slot that nobody reads from holds WAL until it is dropped.
    site.cluster.sql("select pg_create_physical_replication_slot('strongroom_main', true)").unwrap();
    site.cluster.sql("select pg_logical_emit_message(true, 'fill', 'x')").unwrap();
    until("the slot to be told of", || told(&sink).contains(&"fired slot/main/strongroom_main".to_owned()));
    site.cluster.sql("select pg_drop_replication_slot('strongroom_main')").unwrap();
    until("its end", || told(&sink).contains(&"recovered slot/main/strongroom_main".to_owned()));
    agent.stop();
}

#[test]
fn a_server_that_writes_nothing_keeps_its_rpo() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let archiving =
        InitOptions { segment_mib: 1, settings: "archive_timeout = 1s\n".into(), ..InitOptions::default() };
    let site = Site::new(&binaries, archiving);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!(
        "[agent]\nsocket = \"{0}\"\n[catalog]\nurl = \"{1}\"\n[watch]\nevery = \"1s\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n\
         [plan.gold]\nselect = {{ sources = [\"*\"] }}\nrpo = \"5m\"\n[[plan.gold.rule]]\nname = \"yearly\"\nschedule = \"@yearly\"\n",
        site.inside("agent.sock"),
        site.inside("catalog.db"),
    );
    let path = site.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + &settings).unwrap();
    site.ok(&["backup"]);
    let agent = Agent::start(&site, port);
    let metric = |name: &str| agent.metric(&format!("{name}{{source=\"main\"}}"));
    // Nothing has arrived for so long that it would show.
    until("WAL to become old", || metric("strongroom_wal_lag_seconds").is_some_and(|lag| lag > 20.0));
    until("that to count for nothing", || metric("strongroom_rpo_seconds").is_some_and(|lost| lost < 10.0));
    agent.stop();
}
