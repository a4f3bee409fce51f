//! `pg_upgrade`, and clusters that follow one another under one source: each is a lineage, restorable to any of its points, and
//! what is one's never stands for the other's.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use live::{Site, said, sound, until, versions};
use serde_json::Value;
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions, run};

const TABLES: &str = "
create table t (id int primary key, v text);
insert into t select n, repeat(md5(n::text), 4) from generate_series(1, 20000) n;
create table still as select n as id, repeat(md5(n::text), 8) as v from generate_series(1, 60000) n;
create index on still (id);
create database other;";

/// A version and one that follows it, where pg_upgrade can run both.
fn two_versions() -> Option<(Binaries, Binaries)> {
    let found = versions().into_iter().find_map(|new| Some((new.older()?, new)));
    if found.is_none() {
        println!("skipped: there are no two versions in one place (./test copies the host's beside 17)");
    }
    found
}

fn rows(cluster: &Cluster) -> String {
    let of = |table: &str| {
        format!("select count(*), md5(string_agg(t::text, '|' order by t::text)) from {table} t;")
    };
    cluster.sql(&["t", "still"].map(of).concat()).unwrap()
}

/// Takes a point; what the command says of it.
fn take(site: &Site, more: &[&str]) -> Value {
    let words = [&["backup", "--output", "json"], more].concat();
    serde_json::from_str(&site.ok(&words)).unwrap()
}

fn id(point: &Value) -> &str {
    point["point"].as_str().unwrap()
}

/// Settings by which another cluster archives as the site's does.
fn archiving(site: &Site) -> String {
    let command = site.cluster.sql("show archive_command").unwrap().replace('\'', "''");
    format!("archive_mode = on\narchive_command = '{command}'")
}

/// pg_upgrade from one stopped cluster to another.
fn upgrade(old: &Cluster, new: &Cluster) {
    let programs = |cluster: &Cluster| format!("/usr/lib/postgresql/{}/bin", cluster.binaries().major());
    let inside = |cluster: &Cluster| cluster.binaries().inside(cluster.data());
    // It writes into the folder it is in.
    let mut command = new.binaries().command("/usr/bin/env");
    command.arg("--chdir").arg(new.socket_folder()).arg(format!("{}/pg_upgrade", programs(new)));
    command
        .args(["-U", "postgres", "-b", &programs(old), "-B", &programs(new), "-s"])
        .arg(new.socket_folder());
    run(command.arg("-d").arg(inside(old)).arg("-D").arg(inside(new))).unwrap();
}

/// Restores into a folder and starts it with these programs.
fn restored(site: &Site, binaries: &Binaries, name: &str, words: &[&str]) -> Cluster {
    let to = site.inside(name);
    site.ok(&[&["restore", "--yes", "--no-archiving", "--to", &to], words].concat());
    let mut cluster = Cluster::adopt(binaries, &site.path(name)).unwrap();
    cluster.start().unwrap();
    until("promotion", || cluster.sql("select pg_is_in_recovery()").is_ok_and(|answer| answer == "f"));
    cluster
}

/// The systems of the windows that `wal status` shows, and of the points that `list` shows.
fn systems(site: &Site) -> (Vec<Value>, Vec<Value>) {
    let json = |words: &[&str]| -> Value { serde_json::from_str(&site.ok(words)).unwrap() };
    let status = json(&["wal", "status", "--output", "json"]);
    let lineages = status["lineages"].as_array().unwrap();
    assert!(lineages.iter().all(|lineage| lineage["windows"].as_array().unwrap().len() == 1), "{status}");
    let listed = json(&["list", "--output", "json"]);
    let points = listed[0]["points"].as_array().unwrap();
    let of_point = |point: &Value| point["summary"]["journal"]["lineage"].clone();
    (
        lineages.iter().map(|lineage| lineage["system_id"].clone()).collect(),
        points.iter().map(of_point).collect(),
    )
}

/// What the old cluster was at some moments.
struct Old {
    /// Its points.
    first: Value,
    second: Value,
    /// At the first point, at a position between the two, and at the end.
    then: String,
    between: (String, String),
    last: String,
}

impl Old {
    fn of(site: &Site) -> Old {
        let cluster = &site.cluster;
        cluster.sql(TABLES).unwrap();
        let (first, then) = (take(site, &[]), rows(cluster));
        cluster.sql("update t set v = v || 'x' where id % 9 = 0").unwrap();
        let between = (cluster.sql("select pg_current_wal_insert_lsn()").unwrap(), rows(cluster));
        cluster.sql("delete from t where id % 5 = 0").unwrap();
        let second = take(site, &[]);
        assert_eq!(second["parent"], first["point"]);
        cluster.sql("insert into t select n, 'last' from generate_series(100000, 101000) n").unwrap();
        site.ship(cluster);
        let last = rows(cluster);
        Old { first, second, then, between, last }
    }
}

/// The site's cluster, upgraded and running; the old one is stopped.
fn successor(site: &mut Site, new: &Binaries) -> Cluster {
    let mut upgraded = Cluster::init(new, &InitOptions::default()).unwrap();
    let archiving = archiving(site);
    site.cluster.stop("fast").unwrap();
    upgrade(&site.cluster, &upgraded);
    upgraded.configure(&archiving).unwrap();
    if new.major().number() >= 17 {
        upgraded.configure("summarize_wal = on\nautovacuum = off").unwrap();
    }
    upgraded.start().unwrap();
    site.configure("strongroom.toml", &upgraded);
    upgraded
}

/// Nothing of a new cluster is taken before someone says that it is meant.
fn refused_until_meant(site: &Site, cluster: &Cluster) {
    let refused = site.fails(12, &["backup"]);
    assert!(refused.contains("is registered as system") && refused.contains("--new-lineage"), "{refused}");
    cluster.sql("select pg_logical_emit_message(true, 'ship', ''); select pg_switch_wal()").unwrap();
    let failed = "select failed_count > 0 from pg_stat_archiver";
    until("its WAL to be refused", || cluster.sql(failed).unwrap() == "t");
    assert_eq!(systems(site).0.len(), 1);
}

/// The old cluster's last WAL may still come, also under names that the new one's has; what it is then.
fn ship_late(site: &mut Site, upgraded: &Cluster) -> String {
    let open = |cluster: &Cluster| cluster.sql("select pg_walfile_name(pg_current_wal_lsn())").unwrap();
    site.cluster.start().unwrap();
    let reached = open(upgraded);
    while open(&site.cluster) <= reached {
        site.cluster.sql("insert into t values (-(select count(*) from t), 'late')").unwrap();
        site.ship(&site.cluster);
    }
    let late = rows(&site.cluster);
    site.cluster.stop("fast").unwrap();
    late
}

#[test]
fn after_pg_upgrade_there_are_two_lineages_and_both_are_restored_to_any_of_their_points() {
    let Some((old, new)) = two_versions() else { return };
    let mut site = Site::new(&old, InitOptions::default());
    let Old { first, second, then, between, last } = Old::of(&site);
    let upgraded = successor(&mut site, &new);
    assert_eq!(rows(&upgraded), last);
    refused_until_meant(&site, &upgraded);

    // Whole, with nothing of the old one's pages; from then on incremental again.
    let third = take(&site, &["--new-lineage"]);
    assert_eq!(third["parent"], Value::Null, "{third}");
    assert_eq!(third["reading"]["no_record"], "there is no earlier point to compare with");
    assert_eq!(third["reading"]["adopted"], 0);
    let (stored, all) =
        (|point: &Value| point["stored"].as_u64().unwrap(), first["stored"].as_u64().unwrap());
    assert!(stored(&third) > all / 2, "{} stored, {all} at first", stored(&third));
    upgraded.sql("update t set v = v || 'y' where id % 7 = 0").unwrap();
    let fourth = take(&site, &[]);
    assert_eq!(fourth["parent"], third["point"]);
    assert!(stored(&fourth) < all / 2, "{fourth}");
    let full = take(&site, &["--full"]);
    assert_eq!(full["reading"]["contradicted"], 0, "{full}");

    let late = ship_late(&mut site, &upgraded);
    upgraded.sql("insert into t values (-1, 'new')").unwrap();
    site.ship(&upgraded);
    let end = rows(&upgraded);

    let (journals, points) = systems(&site);
    assert_eq!(journals.len(), 2, "{journals:?}");
    let of = |number: usize| points.iter().filter(|lineage| **lineage == journals[number]).count();
    assert_eq!((of(0), of(1)), (2, 3), "{points:?}");
    assert!(site.ok(&["verify", "--data"]).contains("sound"));
    for (number, (binaries, words, expected)) in [
        (&old, &["--point", id(&first), "--immediate"][..], &then),
        (&old, &["--point", id(&first), "--lsn", &between.0], &between.1),
        (&old, &["--point", id(&first)], &late),
        (&old, &["--point", id(&second)], &late),
        (&new, &["--point", id(&third), "--immediate"], &last),
        (&new, &["--point", id(&third)], &end),
        (&new, &[], &end),
    ]
    .into_iter()
    .enumerate()
    {
        let cluster = restored(&site, binaries, &format!("restored-{number}"), words);
        assert_eq!(&rows(&cluster), expected, "{words:?}");
        if words.is_empty() || words.contains(&"--lsn") {
            sound(cluster);
        }
    }
}

/// The first cluster's journal ends with a segment of the same name as the second's, and earlier.
#[test]
fn a_moment_is_looked_for_in_the_journal_of_the_point_s_own_lineage() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let mut site = Site::new(&binaries, InitOptions::default());
    site.cluster.sql("create table t (v text)").unwrap();
    let first = take(&site, &[]);
    for _ in 0..3 {
        site.cluster.sql("insert into t values ('old')").unwrap();
        site.ship(&site.cluster);
    }
    let last = site.cluster.sql("select last_archived_wal from pg_stat_archiver").unwrap();
    let settings = archiving(&site);
    let mut next = Cluster::init(&binaries, &InitOptions { settings, ..InitOptions::default() }).unwrap();
    site.cluster.stop("fast").unwrap();
    next.start().unwrap();
    site.configure("strongroom.toml", &next);
    next.sql("create table t (v text)").unwrap();
    take(&site, &["--new-lineage"]);
    let mut moment = String::new();
    while next.sql("select coalesce(last_archived_wal, '') from pg_stat_archiver").unwrap() < last {
        next.sql("insert into t values ('new')").unwrap();
        moment = next.sql("select clock_timestamp()").unwrap();
        next.sql("insert into t values ('after')").unwrap();
        site.ship(&next);
    }
    assert_eq!(next.sql("select last_archived_wal from pg_stat_archiver").unwrap(), last, "the names differ");
    let there = restored(&site, &binaries, "there", &["--at", &moment]);
    let counts = "select count(*) filter (where v = 'new') - count(*) filter (where v = 'after') from t";
    assert_eq!(there.sql(counts).unwrap(), "1");
    // And the other way round: what the first never saw cannot be asked of it.
    let words = ["restore", "--dry-run", "--point", id(&first), "--at", &moment, "--to", "/nowhere"];
    let output = site.run(&words);
    assert_eq!(output.status.code(), Some(9), "{}", said(&output));
}
