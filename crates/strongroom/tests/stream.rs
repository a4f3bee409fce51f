//! Backups that the server sends (`BASE_BACKUP`): what is stored restores, is shared with what is read from files, and is no
//! point if anything breaks on the way.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::os::unix::fs::FileExt;
use std::process::Stdio;

use live::{Site, digest, said, sound, until, versions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions};

/// Tables of every kind: in a tablespace, unlogged, of more than one batch.
const TABLES: &str = "
create table still as
  select n as id, md5(n::text) || md5((-n)::text) || md5((n + 0.5)::text) || md5((n - 0.5)::text) as v from generate_series(1, 60000) n;
create index on still (id);
create table away tablespace spot as select n as id, md5(n::text) as v from generate_series(1, 20000) n;
create unlogged table fleeting as select n from generate_series(1, 20000) n;
create database other;
checkpoint;";

fn site(binaries: &Binaries, settings: &str) -> Site {
    let site = Site::new(binaries, InitOptions { settings: settings.into(), ..InitOptions::default() });
    std::fs::create_dir(site.path("spot")).unwrap();
    site.binaries.give(&site.path("spot")).unwrap();
    site.cluster.sql(&format!("create tablespace spot location '{}'", site.inside("spot"))).unwrap();
    site.cluster.sql(TABLES).unwrap();
    site
}

fn any_site() -> Option<Site> {
    versions().first().map(|binaries| site(binaries, ""))
}

/// Takes a point; what the command says of it.
fn take(site: &Site, more: &[&str]) -> Value {
    let words = [&["backup", "--output", "json"], more].concat();
    serde_json::from_str(&site.ok(&words)).unwrap()
}

fn number(point: &Value, what: &str) -> u64 {
    point[what].as_u64().unwrap()
}

/// Restores a point with its tablespace elsewhere.
fn restored(site: &Site, name: &str, words: &[&str]) -> Cluster {
    let map = format!("spot={}", site.inside(&format!("{name}-spot")));
    site.restore(name, &[&["--no-archiving", "--tablespace-map", &map], words].concat())
}

/// What does not change.
fn steady(cluster: &Cluster) -> String {
    let of = |table: &str| {
        format!("select count(*), md5(string_agg(t::text, '|' order by t::text)) from {table} t;")
    };
    let fleeting = "select count(*) from fleeting;";
    cluster.sql(&(["still", "away"].map(of).concat() + fleeting)).unwrap()
}

fn committed(site: &Site) -> usize {
    let listings: Value = serde_json::from_str(&site.ok(&["list", "--output", "json"])).unwrap();
    let points = listings[0]["points"].as_array().cloned().unwrap_or_default();
    points.iter().filter(|point| point["state"] == "committed").count()
}

#[test]
fn what_is_sent_under_load_restores_and_shares_its_pages_with_what_is_read() {
    for binaries in versions() {
        let site = site(&binaries, "autovacuum = off");
        let load = site.load(2);
        let first = take(&site, &["--access", "stream"]);
        assert_eq!(first["access"], "stream", "{first}");
        let whole = number(&first, "stored");
        // Both ways by turns; what did not change is stored once.
        let mut points = Vec::new();
        for access in ["stream", "files", "stream"] {
            let point = take(&site, &["--access", access]);
            assert_eq!((point["access"].as_str(), point["parent"].is_string()), (Some(access), true));
            points.push(point["point"].as_str().unwrap().to_owned());
        }
        site.quiet(load);
        for access in ["stream", "stream", "files"] {
            let point = take(&site, &["--access", access]);
            let (stored, bytes) = (number(&point, "stored"), number(&point, "bytes"));
            if points.len() > 3 {
                // But for a stretch whose pages lay too far apart, which is stored afresh.
                assert!(stored < whole / 4, "{access}: {stored} of {bytes} stored, {whole} at first");
            }
            points.push(point["point"].as_str().unwrap().to_owned());
        }
        site.ship(&site.cluster);
        assert!(site.ok(&["verify", "--data"]).contains("sound"));
        // Each with the WAL after it becomes what the server has now.
        let expected = digest(&site.cluster);
        let steadily = steady(&site.cluster);
        let fleeting = steadily.strip_suffix("\n20000").map(|rest| format!("{rest}\n0")).unwrap();
        for (number, point) in points.iter().enumerate().filter(|(number, _)| [0, 2, 4].contains(number)) {
            let cluster = restored(&site, &format!("restored{number}"), &["--point", point]);
            assert_eq!(digest(&cluster), expected, "{point}");
            assert_eq!(steady(&cluster), fleeting, "{point}");
            sound(cluster);
        }
    }
}

#[test]
fn the_way_is_chosen_by_what_can_be_read_and_said() {
    let Some(site) = any_site() else { return };
    let read = take(&site, &[]);
    assert_eq!((read["access"].as_str(), &read["reading"]["streamed"]), (Some("files"), &Value::Null));
    assert!(site.ok(&["backup", "--dry-run"]).contains("its pages come from the files in "));
    let settings = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let elsewhere = settings.replace("connection", "data_directory = \"/nowhere\"\nconnection");
    std::fs::write(site.path("strongroom.toml"), elsewhere).unwrap();
    let why = "over the replication protocol: the data directory is not readable here (read the data directory /nowhere: ";
    assert!(site.ok(&["backup", "--dry-run"]).contains(why));
    let point = take(&site, &[]);
    assert_eq!(point["access"], "stream");
    assert!(point["reading"]["streamed"].as_str().unwrap().starts_with(why), "{point}");
    assert!(site.ok(&["backup"]).contains(why));
    let refused = site.fails(5, &["backup", "--access", "files"]);
    assert!(refused.contains("/nowhere") && refused.contains("data_directory"), "{refused}");

    // A role that may replicate needs no other right; one that may not is told so.
    site.cluster.sql("create role carrier login replication; create role weak login").unwrap();
    let as_role = |role: &str| settings.replace("user=postgres", &format!("user={role} dbname=postgres"));
    let write = |text: String| std::fs::write(site.path("strongroom.toml"), text).unwrap();
    write(as_role("carrier"));
    assert_eq!(take(&site, &[])["access"], "stream");
    write(as_role("weak"));
    let refused = site.fails(5, &["backup", "--access", "stream"]);
    assert!(
        refused.contains("may not replicate") && refused.contains("ALTER ROLE \"weak\" REPLICATION"),
        "{refused}"
    );
    let refused = site.fails(5, &["backup"]);
    assert!(refused.contains("ALTER ROLE \"weak\" REPLICATION") && refused.contains("GRANT"), "{refused}");
}

#[test]
fn a_server_without_archiving_is_backed_up_by_what_it_sends_alone() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = site(&binaries, "archive_mode = off");
    let refused = site.fails(5, &["backup", "--access", "files"]);
    assert!(refused.contains("archive_mode is off"), "{refused}");
    let mut receiver = site
        .command(&["wal", "receive", "main"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let streams = "select count(*) from pg_stat_replication where application_name = 'strongroom'";
    until("WAL to be received", || site.cluster.sql(streams).unwrap() == "1");
    let point = take(&site, &["--access", "stream"]);
    kill_process(Pid::from_raw(receiver.id() as i32).unwrap(), Signal::INT).unwrap();
    receiver.wait().unwrap();
    let point = point["point"].as_str().unwrap();
    let cluster = restored(&site, "restored", &["--point", point, "--immediate"]);
    assert_eq!(cluster.sql("select count(*) from still").unwrap(), "60000");
    sound(cluster);
}

/// A backup that is being sent right now.
fn under_way(site: &Site) -> std::process::Child {
    let sql = "insert into still select n, repeat(md5(n::text), 8) from generate_series(1, 400000) n";
    site.cluster.sql(sql).unwrap();
    let mut backup = site.command(&["backup", "--access", "stream"]);
    let backup = backup.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let sending = "select count(*) from pg_stat_progress_basebackup where phase = 'streaming database files'";
    until("files to be sent", || site.cluster.sql(sending).unwrap() == "1");
    backup
}

#[test]
fn a_server_that_is_killed_midway_leaves_no_point_and_the_next_one_is_whole() {
    let Some(mut site) = any_site() else { return };
    let backup = under_way(&site);
    site.cluster.kill().unwrap();
    let output = backup.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("the connection was lost"), "{}", said(&output));
    assert_eq!(committed(&site), 0);
    let port = site.cluster.port();
    site.cluster.start_at(port).unwrap();
    let expected = steady(&site.cluster);
    let point = take(&site, &["--access", "stream"]);
    let cluster = restored(&site, "restored", &["--point", point["point"].as_str().unwrap(), "--immediate"]);
    // What is not logged was reset by the crash already.
    assert_eq!(steady(&cluster), expected);
    sound(cluster);
}

/// So many bytes a second in either way; and one that waits for its turn still hears that it is to stop.
#[test]
fn a_backup_keeps_to_its_rate() {
    let Some(site) = any_site() else { return };
    for access in ["files", "stream"] {
        let began = std::time::Instant::now();
        let point = take(&site, &["--access", access, "--rate-limit", "16MiB/s"]);
        let read = point["reading"]["read"].as_u64().unwrap();
        assert!(read > 32 << 20, "{point}");
        let least = read as f64 / f64::from(16 << 20);
        assert!(began.elapsed().as_secs_f64() >= least, "{access}: {read} bytes in {:?}", began.elapsed());
        // At this rate a single piece takes a quarter of an hour.
        let points = || std::fs::read_dir(site.path("vault/sources/main/points")).unwrap().count();
        let (words, before) = (["backup", "--access", access, "--rate-limit", "1KiB/s"], points());
        let mut command = site.command(&words);
        let mut backup = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        until("the backup to begin", || points() > before);
        kill_process(Pid::from_raw(backup.id() as i32).unwrap(), Signal::INT).unwrap();
        until("the backup to end", || backup.try_wait().unwrap().is_some());
        assert_eq!(backup.wait().unwrap().code(), Some(130));
    }
    assert!(site.fails(2, &["backup", "--rate-limit", "0"]).contains("nothing would ever arrive"));
}

#[test]
fn control_c_ends_it_here_and_at_the_server() {
    let Some(site) = any_site() else { return };
    let backup = under_way(&site);
    kill_process(Pid::from_raw(backup.id() as i32).unwrap(), Signal::INT).unwrap();
    let output = backup.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    let running = "select count(*) from pg_stat_progress_basebackup";
    until("the server to forget it", || site.cluster.sql(running).unwrap() == "0");
    assert_eq!(committed(&site), 0);
    take(&site, &["--access", "stream"]);
}

#[test]
fn a_damaged_page_is_stored_as_it_came_and_named() {
    let Some(mut site) = any_site() else { return };
    let path = site.cluster.sql("select pg_relation_filepath('still')").unwrap();
    site.cluster.stop("fast").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(site.cluster.data().join(path)).unwrap();
    file.write_all_at(b"damage", 8192 * 3 + 5000).unwrap();
    site.cluster.start_at(site.cluster.port()).unwrap();
    let output = site.run(&["backup", "--access", "stream", "--output", "json"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let point: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((number(&point, "damaged_pages"), point["access"].as_str()), (1, Some("stream")));
}
