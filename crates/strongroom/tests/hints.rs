//! PostgreSQL 17's WAL summaries as a reason not to read: what a point takes over on their word is what the server has.
//!
//! The judge is `backup --full` right after: it reads every page and compares it with what the point before has, and with page
//! checksums every difference that no WAL explains is an alarm. Then the points are restored and asked.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use live::{Site, said, sound, until, versions};
use serde_json::Value;
use strongroom_postgres::cluster::{Cluster, InitOptions};
use strongroom_postgres::relation::Relation;
use strongroom_postgres::wal_summary::{Entry, SummaryName, read_summary};

const SUMMARIES: &str = "summarize_wal = on\nautovacuum = off\nallow_in_place_tablespaces = on\n";

/// A table that changes, one that does not, and an index each.
const TABLES: &str = "
create extension pg_visibility;
create table t (id int primary key, v text);
insert into t select n, repeat(md5(n::text), 4) from generate_series(1, 20000) n;
create table z (id int, v text);
create table like_z (id int, v text);
copy like_z from program 'seq 1 3000 | sed s/$/,regrown/' with (format csv);
do $$ begin
  while pg_relation_size('z') < pg_relation_size('like_z') loop
    insert into z select n, repeat('z', 900) from generate_series(1, 8) n;
  end loop;
end $$;
create table still as select n as id, repeat(md5(n::text), 8) as v from generate_series(1, 30000) n;
create index on still (id);
vacuum (analyze) t, still;
checkpoint;";

/// A server of a version that summarises WAL, if there is one here.
fn site(checksums: bool) -> Option<Site> {
    let binaries = versions().into_iter().find(|binaries| binaries.major().number() >= 17)?;
    let site =
        Site::new(&binaries, InitOptions { checksums, settings: SUMMARIES.into(), ..Default::default() });
    site.cluster.sql(TABLES).unwrap();
    Some(site)
}

/// Takes a point; what the command says of it.
fn take(site: &Site, more: &[&str]) -> Value {
    let words = [&["backup", "--output", "json"], more].concat();
    serde_json::from_str(&site.ok(&words)).unwrap()
}

fn bytes(point: &Value, what: &str) -> u64 {
    point["reading"][what].as_u64().unwrap()
}

fn reason(point: &Value) -> &str {
    point["reading"]["no_record"].as_str().unwrap_or_default()
}

/// A point that must have been taken with the summaries' help, and then one that reads everything and finds no fault.
fn take_and_check(site: &Site, what: &str) -> String {
    let point = take(site, &[]);
    assert_eq!(reason(&point), "", "{what}: {point}");
    assert!(bytes(&point, "adopted") > 8 << 20, "{what}: {point}");
    let full = take(site, &["--full"]);
    assert_eq!((bytes(&full, "contradicted"), reason(&full)), (0, ""), "{what}: {full}");
    assert!(bytes(&full, "proven") > 8 << 20, "{what}: {full}");
    point["point"].as_str().unwrap().to_owned()
}

/// Every row of every logged table of every database.
fn contents(cluster: &Cluster) -> String {
    let databases = cluster.sql("select datname from pg_database where datallowconn order by 1").unwrap();
    let mut all = String::new();
    for database in databases.lines() {
        let tables = "select oid::regclass from pg_class where relkind = 'r' and relpersistence = 'p' and relnamespace = 'public'::regnamespace order by 1";
        for table in cluster.sql_in(database, tables).unwrap().lines() {
            let rows =
                format!("select count(*), md5(string_agg(r::text, '|' order by r::text)) from {table} r");
            all += &format!("{database} {table} {}\n", cluster.sql_in(database, &rows).unwrap());
        }
    }
    all
}

/// Restores a point to its own end.
fn restored(site: &Site, point: &str, name: &str) -> Cluster {
    let cluster = site.restore(name, &["--point", point, "--immediate", "--no-archiving"]);
    let invisible =
        "select count(*) from pg_class c, lateral pg_check_visible(c.oid) where c.relkind in ('r', 'm')";
    assert_eq!(cluster.sql(invisible).unwrap(), "0", "{name}: the visibility map promises what is not so");
    cluster
}

/// What broke others, one after the other on one server, with a point after each.
const STEPS: [(&str, &str); 13] = [
    ("nothing", "select 1"),
    ("scattered updates", "update t set v = v || 'x' where id % 97 = 0"),
    (
        "truncated by vacuum and regrown with COPY to the same size, the last pages zero and not in WAL",
        "delete from z; vacuum (truncate true) z; copy z from program 'seq 1 3000 | sed s/$/,regrown/' with (format csv)",
    ),
    (
        "truncated by vacuum and regrown with COPY",
        "delete from t where id > 3000; vacuum (truncate true) t;
         copy t from program 'seq 3001 90000 | sed s/$/,regrown/' with (format csv)",
    ),
    (
        "truncated and regrown with COPY in one transaction",
        "begin; truncate t; copy t from program 'seq 1 9000 | sed s/$/,again/' with (format csv, freeze true); commit",
    ),
    ("vacuum truncation", "vacuum t; delete from t where id > 2000; vacuum (truncate true) t"),
    ("rewritten", "vacuum full t; reindex table still; cluster t using t_pkey"),
    (
        "unlogged tables",
        "create unlogged table u as select * from t; alter table u set logged; update u set v = 'u' where id % 7 = 0;
         alter table u set unlogged; update u set v = 'lost'; checkpoint",
    ),
    (
        "databases made by file copy",
        "create tablespace spot location '';
         create database one template template0 strategy file_copy;
         create database seven oid 77777 template template0 strategy file_copy",
    ),
    (
        "a database that moved away, changed there, and came back: its files again, and no WAL of them",
        "alter database one set tablespace spot;
         \\connect one
         create table o as select generate_series(1, 999) as n; comment on table o is 'elsewhere';
         \\connect postgres
         alter database one set tablespace pg_default",
    ),
    (
        "a database's number that comes back with another's files",
        "create database nine template seven strategy file_copy;
         \\connect nine
         create table s as select generate_series(1, 999) as n;
         \\connect postgres
         drop database seven; create database seven oid 77777 template nine strategy file_copy; drop database nine",
    ),
    ("hint bits only", "select count(*) from t; select count(*) from still; checkpoint"),
    ("nothing once more", "select 1"),
];

/// Whether the server's file of `z` has at its end pages of zeros, as many as are needed for what it is to show.
fn ends_in_zeros(site: &Site) -> bool {
    let path = site.cluster.sql("select pg_relation_filepath('z')").unwrap();
    let file = std::fs::read(site.cluster.data().join(path)).unwrap();
    file[file.len() - 8192..].iter().all(|byte| *byte == 0)
}

#[test]
fn behaviours_27_and_17_what_broke_others_is_restored_as_the_server_has_it() {
    let Some(site) = site(true) else { return };
    let first = take(&site, &[]);
    assert_eq!(reason(&first), "there is no earlier point to compare with");
    let mut points = Vec::new();
    for (what, sql) in STEPS {
        site.cluster.sql(sql).unwrap();
        assert!(!what.contains("last pages zero") || ends_in_zeros(&site), "the step shows nothing");
        site.cluster.sql("checkpoint").unwrap();
        let now = contents(&site.cluster);
        points.push((what, take_and_check(&site, what), now));
    }
    for number in [2, 4, 10, 12] {
        let (what, point, then) = &points[number];
        let cluster = restored(&site, point, &format!("restored-{number}"));
        assert_eq!(&contents(&cluster), then, "{what}");
        sound(cluster);
    }
}

#[test]
fn behaviour_27c_without_checksums_vacuum_and_hint_bits_are_restored_as_the_server_has_them() {
    let Some(site) = site(false) else { return };
    take(&site, &[]);
    for (number, sql) in [
        "vacuum t; delete from t where id > 15000; vacuum (truncate true) t",
        "insert into t select n, 'new' from generate_series(15001, 40000) n; update t set v = 'hinted' where id < 100; checkpoint",
        "select count(*) from t; select sum(id) from still; checkpoint",
    ]
    .into_iter()
    .enumerate()
    {
        site.cluster.sql(sql).unwrap();
        let point = take(&site, &[]);
        assert!(bytes(&point, "adopted") > 8 << 20, "{point}");
        let cluster = restored(&site, point["point"].as_str().unwrap(), &format!("restored-{number}"));
        assert_eq!(contents(&cluster), contents(&site.cluster), "{sql}");
    }
    let full = take(&site, &["--full"]);
    assert_eq!(bytes(&full, "contradicted"), 0, "{full}");
}

/// Makes a standby of the server, in its own folder, and promotes it: it goes on on the next timeline.
fn promote(site: &mut Site) {
    site.cluster.stop("fast").unwrap();
    std::fs::write(site.cluster.data().join("standby.signal"), "").unwrap();
    site.cluster.start().unwrap();
    site.configure("strongroom.toml", &site.cluster);
    site.cluster.promote().unwrap();
    until("promotion", || site.cluster.sql("select pg_is_in_recovery()").is_ok_and(|answer| answer == "f"));
}

#[test]
fn behaviour_27b_after_each_of_two_promotions_everything_is_read() {
    let Some(mut site) = site(true) else { return };
    take(&site, &[]);
    for timeline in 2..4 {
        // The last summary of the old timeline ends where the new one begins.
        site.cluster.sql("update t set v = v || 'p' where id % 50 = 0; checkpoint").unwrap();
        promote(&mut site);
        site.cluster.sql("update t set v = v || 'q' where id % 60 = 0").unwrap();
        let point = take(&site, &[]);
        let expected = format!("the server is on {timeline}: it was promoted or restored since");
        assert!(reason(&point).contains(&expected), "{point}");
        assert_eq!(bytes(&point, "adopted"), 0);
        site.cluster.sql("update t set v = v || 'r' where id % 70 = 0").unwrap();
        take_and_check(&site, "after a promotion");
    }
    let now = contents(&site.cluster);
    let point = take(&site, &[]);
    let cluster = restored(&site, point["point"].as_str().unwrap(), "restored");
    assert_eq!(contents(&cluster), now);
    sound(cluster);
}

#[test]
fn after_a_restore_everything_is_read() {
    let Some(mut site) = site(true) else { return };
    take(&site, &[]);
    site.cluster.sql("update t set v = v || 'r' where id % 50 = 0").unwrap();
    take(&site, &[]);
    site.ship(&site.cluster);
    let now = contents(&site.cluster);
    site.cluster.stop("fast").unwrap();
    site.cluster = site.restore("restored", &[]);
    assert_eq!(contents(&site.cluster), now);
    site.configure("strongroom.toml", &site.cluster);
    let point = take(&site, &[]);
    assert!(reason(&point).ends_with("the server is on 2: it was promoted or restored since"), "{point}");
    assert_eq!(bytes(&point, "adopted"), 0);
    site.cluster.sql("update t set v = v || 's' where id % 40 = 0").unwrap();
    take_and_check(&site, "after a restore");
}

#[test]
fn behaviour_27a_after_a_time_of_minimal_wal_everything_is_read() {
    let Some(mut site) = site(true) else { return };
    take(&site, &[]);
    let minimal = "wal_level = minimal\nmax_wal_senders = 0\nsummarize_wal = off\narchive_mode = off";
    restart(&mut site, |cluster| cluster.configure(minimal).unwrap());
    site.cluster
        .sql("begin; truncate t; insert into t select n, 'bare' from generate_series(1, 5000) n; commit")
        .unwrap();
    let replica = "wal_level = replica\nmax_wal_senders = 4\nsummarize_wal = on\narchive_mode = on";
    restart(&mut site, |cluster| cluster.configure(replica).unwrap());
    let point = take(&site, &[]);
    assert!(reason(&point).starts_with("there are no WAL summaries from "), "{point}");
    assert_eq!(bytes(&point, "adopted"), 0);
    take_and_check(&site, "after minimal WAL");
    let point = take(&site, &[]);
    let cluster = restored(&site, point["point"].as_str().unwrap(), "restored");
    assert_eq!(contents(&cluster), contents(&site.cluster));
    sound(cluster);
}

/// Stops the server, does something to it, and starts it again.
fn restart(site: &mut Site, between: impl FnOnce(&Cluster)) {
    site.cluster.stop("fast").unwrap();
    between(&site.cluster);
    site.cluster.start().unwrap();
    site.configure("strongroom.toml", &site.cluster);
}

#[test]
fn behaviour_17_under_load_while_relations_come_go_and_shrink_and_the_server_crashes() {
    let Some(mut site) = site(true) else { return };
    let mut load = site.load(2);
    take(&site, &[]);
    for round in 0..4 {
        let mut backup = site.command(&["backup"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        while backup.try_wait().unwrap().is_none() {
            let sql = format!(
                "create table if not exists d{round} as select * from t; delete from d{round} where id > 500;
                 vacuum (truncate true) d{round}; vacuum full d{round}; truncate t; drop table d{round};
                 insert into t select n, 'round {round}' from generate_series(1, 3000) n"
            );
            site.cluster.sql(&sql).unwrap();
        }
        assert!(backup.wait().unwrap().success());
    }
    let point = take(&site, &[]);
    assert!(reason(&point).is_empty() && bytes(&point, "adopted") > 1 << 20, "{point}");
    site.cluster.kill().unwrap();
    load.kill().unwrap();
    load.wait().unwrap();
    site.cluster.start().unwrap();
    site.configure("strongroom.toml", &site.cluster);
    let point = take_and_check(&site, "after a crash");
    site.ship(&site.cluster);
    let cluster = site.restore("restored", &["--point", &point, "--no-archiving"]);
    assert_eq!(contents(&cluster), contents(&site.cluster));
    sound(cluster);
}

/// The server's summaries: name and place.
fn summaries(site: &Site) -> Vec<(SummaryName, std::path::PathBuf)> {
    let folder = std::fs::read_dir(site.cluster.data().join("pg_wal/summaries")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    let named =
        |path: std::path::PathBuf| Some((SummaryName::parse(path.file_name()?.as_encoded_bytes())?, path));
    let mut all: Vec<_> = files.filter_map(named).collect();
    all.sort();
    all
}

/// Changes a few rows and waits until their blocks are summarised.
fn change_and_summarise(site: &Site) {
    let before = summaries(site).len();
    site.cluster.sql("update t set v = v || 'f' where id in (1, 9000, 19000); checkpoint").unwrap();
    let lsn = site.cluster.sql("select redo_lsn from pg_control_checkpoint()").unwrap();
    let done = format!("select summarized_lsn >= '{lsn}' from pg_get_wal_summarizer_state()");
    until("the summary", || site.cluster.sql(&done).unwrap() == "t");
    assert!(summaries(site).len() > before);
}

#[test]
fn a_summary_says_what_the_server_says_it_does() {
    let Some(site) = site(true) else { return };
    site.cluster
        .sql("update t set v = v || 'x'; truncate still; drop table still; create database other; checkpoint")
        .unwrap();
    change_and_summarise(&site);
    for (name, path) in summaries(&site) {
        let theirs =
            format!(
            "select reltablespace, reldatabase, relfilenode, relforknumber, relblocknumber, is_limit_block
             from pg_wal_summary_contents({}, '{}', '{}')",
            name.timeline.get(), name.start, name.end
        );
        let theirs = site.cluster.sql(&theirs).unwrap();
        let mut theirs: Vec<String> = theirs.lines().map(str::to_owned).collect();
        let mut ours = Vec::new();
        let each = |entry: Entry<'_>| {
            let Relation { tablespace, database, number } = entry.relation;
            let mut line = |block: u32, limit: &str| {
                ours.push(format!("{tablespace}|{database}|{number}|{}|{block}|{limit}", entry.fork));
            };
            entry.limit.into_iter().for_each(|block| line(block, "t"));
            entry.blocks().for_each(|block| line(block, "f"));
        };
        read_summary(&std::fs::read(&path).unwrap(), each).unwrap();
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn summaries_that_are_missing_or_damaged_and_servers_that_changed_are_not_believed() {
    let Some(mut site) = site(true) else { return };
    take(&site, &[]);
    change_and_summarise(&site);
    let (_, last) = summaries(&site).pop().unwrap();
    let mut content = std::fs::read(&last).unwrap();
    content[30] ^= 1;
    std::fs::write(&last, &content).unwrap();
    let point = take(&site, &[]);
    assert!(reason(&point).contains("its checksum is wrong"), "{point}");
    change_and_summarise(&site);
    let (_, last) = summaries(&site).pop().unwrap();
    std::fs::remove_file(last).unwrap();
    let point = take(&site, &[]);
    assert!(reason(&point).starts_with("there are no WAL summaries from "), "{point}");
    for flag in ["--no-hints", "--afresh"] {
        let point = take(&site, &[flag]);
        assert!(!reason(&point).is_empty() && bytes(&point, "adopted") == 0, "{point}");
    }
    let checksums = |cluster: &Cluster, how: &str| {
        let data = cluster.binaries().inside(cluster.data());
        cluster.run("pg_checksums", &[how.as_ref(), "-D".as_ref(), data.as_os_str()]).unwrap();
    };
    for how in ["--disable", "--enable"] {
        restart(&mut site, |cluster| checksums(cluster, how));
        let point = take(&site, &[]);
        assert!(reason(&point).starts_with("page checksums were switched on or off after "), "{point}");
    }
    site.cluster.sql("alter system set summarize_wal = off; select pg_reload_conf()").unwrap();
    until("the setting", || site.cluster.sql("show summarize_wal").unwrap() == "off");
    assert_eq!(reason(&take(&site, &[])), "summarize_wal is off");
}

/// A summary in which nothing changed, its checksum right.
const EMPTY: [u8; 32] = [
    0x7b, 0x13, 0x2b, 0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb8,
    0x71, 0x16, 0x4b,
];

#[test]
fn a_summary_that_lies_is_found_out_and_everything_is_read() {
    let Some(site) = site(true) else { return };
    take(&site, &[]);
    change_and_summarise(&site);
    let now = contents(&site.cluster);
    let (_, last) = summaries(&site).pop().unwrap();
    std::fs::write(last, EMPTY).unwrap();
    let output = site.run(&["backup", "--full", "--output", "json"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let point: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(bytes(&point, "contradicted") > 0 && bytes(&point, "adopted") == 0, "{point}");
    let cluster = restored(&site, point["point"].as_str().unwrap(), "restored");
    assert_eq!(contents(&cluster), now);
    let next = take(&site, &[]);
    assert!(reason(&next).contains("was found wrong"), "{next}");
    take_and_check(&site, "afterwards");
}
