//! Drills, end to end on every PostgreSQL there is here: what is sound passes with its source gone, what is not fails by name, and
//! nothing of either is left.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use live::small::Small;
use live::{Site, said, until, versions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions};

const ORDERS: &str = "create table orders (id int primary key, made timestamptz default now(), note text); \
                      create index on orders (note); \
                      insert into orders (id, note) select n, md5(n::text) from generate_series(1, 20000) n";

/// A site whose drills ask `sql` of it.
fn asking(site: &Site, sql: &str) {
    let text = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let text = text.split("[source.main.drill]").next().unwrap();
    std::fs::write(site.path("strongroom.toml"), format!("{text}[source.main.drill]\nsql = [{sql}]\n"))
        .unwrap();
}

/// The folder that drills are carried out in.
fn scratch(site: &Site) -> PathBuf {
    let path = site.path("scratch");
    if !path.exists() {
        std::fs::create_dir(&path).unwrap();
        site.binaries.give(&path).unwrap();
    }
    path
}

fn words<'a>(scratch: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["drill", "--scratch", scratch, "--output", "json"], arguments].concat()
}

/// Carries out a drill that ends with this code; what it says of itself.
fn drill(site: &Site, code: i32, arguments: &[&str]) -> Value {
    let scratch = scratch(site);
    let output = site.run(&words(scratch.to_str().unwrap(), arguments));
    let report = report(&output, code);
    assert!(report["evidence"].is_string(), "{report}");
    report
}

fn report(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How each check came out.
fn outcomes(report: &Value) -> BTreeMap<&str, &str> {
    let checks = report["drill"]["checks"].as_array().unwrap();
    checks.iter().map(|check| (check["name"].as_str().unwrap(), check["outcome"].as_str().unwrap())).collect()
}

fn detail<'a>(report: &'a Value, name: &str) -> &'a str {
    let checks = report["drill"]["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()["detail"].as_str().unwrap()
}

/// A time behind at least one whole second that has passed since now.
fn a_second_later(cluster: &Cluster) -> String {
    let now = cluster.sql("select clock_timestamp()").unwrap();
    let question = format!("select clock_timestamp() > '{now}'::timestamptz + interval '2 s'");
    until("two seconds to pass", || cluster.sql(&question).unwrap() == "t");
    cluster.sql("select clock_timestamp()").unwrap()
}

/// These passed, as far as this version has what they take.
fn expected<'a>(binaries: &Binaries, names: &[&'a str]) -> BTreeMap<&'a str, &'static str> {
    let outcome = |name: &str| match name == "amcheck" && binaries.major().number() < 14 {
        true => "not-run",
        false => "passed",
    };
    names.iter().map(|name| (*name, outcome(name))).collect()
}

/// Seconds of the phases that who waits for the data waits for.
fn waited_for(drill: &Value) -> f64 {
    let waited = drill["phases"].as_array().unwrap().iter().filter(|phase| phase["in_rto"] == true);
    waited.map(|phase| phase["seconds"].as_f64().unwrap()).sum()
}

fn left(site: &Site) -> Vec<String> {
    let entries = std::fs::read_dir(scratch(site)).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The report of recovery times, which a person need not look at, or must.
fn rto_rpo(site: &Site, code: i32) -> Value {
    let output = site.run(&["report", "rto-rpo", "--output", "json"]);
    report(&output, code)[0].clone()
}

const SOUND: &str = "{ database = \"postgres\", query = \"select count(*) = 20000 from orders\", expect = \"t\" }, \
                     { query = \"select max(made) from orders\", max_age = \"1h\" }";

#[test]
fn what_is_sound_passes_with_its_source_gone_and_leaves_nothing_but_evidence() {
    for binaries in versions() {
        let mut site = Site::new(&binaries, InitOptions::default());
        asking(&site, SOUND);
        site.cluster.sql("create table early (id int)").unwrap();
        let first = site.backup();
        site.cluster.sql(ORDERS).unwrap();
        site.cluster.sql("create database sales").unwrap();
        let time = a_second_later(&site.cluster);
        site.cluster.sql("insert into early values (1)").unwrap();
        site.ship(&site.cluster);
        let before = rto_rpo(&site, 4);
        assert_eq!((&before["drills"], &before["concerns"][0]), (&0.into(), &"never-drilled".into()));
        assert!(site.ok(&["status"]).contains("never"));
        // Nothing of the source is needed, nor could it be reached.
        site.cluster.stop("fast").unwrap();

        let report = drill(&site, 0, &["--rto", "30m"]);
        let passed = [
            "amcheck",
            "checksums",
            "databases",
            "facts",
            "journal",
            "pages",
            "recovery",
            "rto",
            "sql 1",
            "sql 2",
        ];
        assert_eq!(outcomes(&report), expected(&binaries, &passed), "{report}");
        assert!(detail(&report, "databases").contains("not in the point's facts: sales"), "{report}");
        let of = &report["drill"];
        assert_eq!((&of["outcome"], &of["point"]), (&"passed".into(), &first.as_str().into()));
        let names = of["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["plan", "write", "sync", "replay", "connect", "checks"]);
        assert!((waited_for(of) - of["rto_seconds"].as_f64().unwrap()).abs() < 0.002, "{of}");
        assert!(of["reached"].as_str().unwrap().contains("no recovery target specified"), "{of}");
        assert!(
            of["server"].as_str().unwrap().starts_with(&format!("PostgreSQL {}", binaries.major())),
            "{of}"
        );
        assert_eq!(left(&site), [] as [String; 0]);

        // The state at a time has the table, and not the row behind it.
        asking(&site, "{ query = \"select count(*) from early\", expect = \"0\" }");
        let report = drill(&site, 0, &["--at", &time]);
        assert!(report["drill"]["reached"].as_str().unwrap().contains("before "), "{report}");
        // What is drawn is drawn again by the same number.
        asking(&site, "");
        let drawn = drill(&site, 0, &["--random-time"]);
        let seed = drawn["drill"]["chosen"]["value"].to_string();
        let again = drill(&site, 0, &["--random-time", "--seed", &seed]);
        assert_eq!(drawn["drill"]["target"], again["drill"]["target"]);
        let point = drill(&site, 0, &["--random"]);
        assert_eq!(point["drill"]["target"]["kind"], "immediate");
        assert_eq!(left(&site), [] as [String; 0]);

        let after = rto_rpo(&site, 0);
        assert_eq!((&after["drills"], &after["passed"]), (&5.into(), &5.into()));
        assert_eq!(after["evidence"].as_array().unwrap().len(), 5);
        let status = site.ok(&["status"]);
        assert!(status.contains("ago: RTO "), "{status}");
        sheets(&site);
        // Drills are no verifications, their records are sound, and estimates learn from them.
        assert!(site.ok(&["verify", "--records"]).contains("nothing was verified"));
        let plan = site.ok(&["restore", "--dry-run", "--to", &site.inside("never")]);
        assert!(plan.contains("measured here"), "{plan}");
    }
}

/// The report for people and their programs.
fn sheets(site: &Site) {
    let page = site.ok(&["report", "rto-rpo", "--format", "html"]);
    assert!(page.starts_with("<!doctype html>") && page.contains("<span>main</span>"), "{page}");
    let sheet = site.ok(&["report", "rto-rpo", "--format", "csv"]);
    assert!(sheet.starts_with("source,RPO objective,RPO now,") && sheet.contains("\r\nmain,"), "{sheet}");
}

#[test]
fn what_is_not_as_it_should_be_fails_by_name() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        site.cluster.sql(ORDERS).unwrap();
        // An index whose rows are elsewhere than it thinks, on pages that are sound: its expression is no constant after all.
        site.cluster
            .sql(
                "create function lie(int) returns int immutable language sql as 'select $1'; \
                 create table lies as select n from generate_series(1, 100) n; create index lying on lies (lie(n)); \
                 create or replace function lie(int) returns int immutable language sql as 'select $1 + 1'",
            )
            .unwrap();
        site.backup();
        site.ship(&site.cluster);
        // A verification finds all that was put there: it cannot know what should have been.
        site.ok(&["verify", "--data"]);
        asking(
            &site,
            "{ query = \"select count(*) > 0 from shipments\", expect = \"t\" }, \
             { query = \"select count(*) from orders\", expect = \"20000\" }, \
             { query = \"select count(*) from orders\", expect = \"19999\" }, \
             { query = \"select max(made) - interval '2 days' from orders\", max_age = \"24h\" }, \
             { query = \"delete from orders\", expect = \"\" }, \
             { query = \"select pg_sleep(60)\", expect = \"\", timeout = \"100ms\" }, \
             { database = \"nowhere\", query = \"select true\", expect = \"t\" }, \
             { query = \"select pg_read_file('PG_VERSION')\", expect = \"none\" }",
        );
        let report = drill(&site, 15, &[]);
        assert_eq!(report["drill"]["outcome"], "failed");
        let found = outcomes(&report);
        let failed: Vec<&str> =
            found.iter().filter(|(_, outcome)| **outcome == "failed").map(|(name, _)| *name).collect();
        let all = ["amcheck", "sql 1", "sql 3", "sql 4", "sql 5", "sql 6", "sql 7", "sql 8"];
        // Before 14 there is neither pg_amcheck nor a right to read everything.
        let is_old = binaries.major().number() < 14;
        assert_eq!(failed, all[usize::from(is_old)..], "{report}");
        for (name, says) in [
            ("amcheck", if is_old { "has no pg_amcheck" } else { "lying" }),
            ("sql 1", "relation \"shipments\" does not exist"),
            ("sql 3", "20000 instead of 19999"),
            ("sql 4", "it may be"),
            ("sql 5", "read-only transaction"),
            ("sql 6", "statement timeout"),
            ("sql 7", "nowhere"),
            ("sql 8", if is_old { "instead of none" } else { "permission denied" }),
        ] {
            assert!(detail(&report, name).contains(says), "{name}: {}", detail(&report, name));
        }
        assert_eq!(left(&site), [] as [String; 0]);
        let line = rto_rpo(&site, 4);
        assert_eq!(line["concerns"], serde_json::json!(["never-passed", "last-failed"]));
        assert!(site.ok(&["status"]).contains("ago: failed"));
    }
}

#[test]
fn one_that_takes_longer_than_it_may_fails_with_a_code_of_its_own() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.backup();
    site.ship(&site.cluster);
    let text = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let promised =
        text.replace("kind = \"postgres\"\n", "kind = \"postgres\"\nrto = \"1s\"\nrpo = \"24h\"\n");
    std::fs::write(site.path("strongroom.toml"), promised).unwrap();
    let report = drill(&site, 16, &["--rate-limit", "1MiB/s"]);
    assert_eq!((&report["drill"]["outcome"], outcomes(&report)["rto"]), (&"failed".into(), "failed"));
    assert_eq!(report["drill"]["objective_seconds"], 1.0);
    let line = rto_rpo(&site, 4);
    assert_eq!(line["concerns"], serde_json::json!(["rto-broken", "never-passed", "last-failed"]));
    // What is said on the command line goes before what was promised.
    let slowly = ["--rto", "1h", "--rate-limit", "1MiB/s"];
    assert_eq!(drill(&site, 0, &slowly)["drill"]["outcome"], "passed");
    assert_eq!(rto_rpo(&site, 4)["concerns"], serde_json::json!(["rto-broken"]));
}

/// The processes that a drill started, by their first words.
fn children(of: &Child) -> Vec<(i32, String)> {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let pids = read(format!("/proc/{0}/task/{0}/children", of.id()));
    let threads = std::fs::read_dir(format!("/proc/{}/task", of.id())).into_iter().flatten().flatten();
    let of_threads: String =
        threads.map(|thread| read(format!("{}/children", thread.path().display()))).collect();
    let all = format!("{pids} {of_threads}");
    let mut pids: Vec<i32> = all.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().map(|pid| (pid, read(format!("/proc/{pid}/cmdline")).replace('\0', " "))).collect()
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// A drill that has come to a question that takes an hour; and the process of its server.
fn at_its_question(site: &Site) -> (Child, i32) {
    asking(site, "{ query = \"select pg_sleep(3600)\", expect = \"\", timeout = \"2h\" }");
    let scratch = scratch(site);
    let mut command = site.command(&words(scratch.to_str().unwrap(), &[]));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let server = || {
        let name = left(site).into_iter().find(|name| name.starts_with("strongroom-drill-"))?;
        let text = std::fs::read_to_string(scratch.join(name).join("data/postmaster.pid")).ok()?;
        text.lines().next()?.parse::<i32>().ok()
    };
    let asks = |server: i32| {
        let children =
            std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
        let mut titles = children
            .split_whitespace()
            .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
        titles.any(|title| title.contains("strongroom_drill_") && title.contains("SELECT"))
    };
    until("the drill's question", || server().is_some_and(asks));
    (child, server().unwrap())
}

#[test]
fn a_drill_that_was_killed_leaves_no_server_and_what_is_left_the_next_one_removes() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.backup();
    site.ship(&site.cluster);
    let (mut child, server) = at_its_question(&site);
    child.kill().unwrap();
    child.wait().unwrap();
    until("the guard's work", || {
        left(&site).is_empty() && !PathBuf::from(format!("/proc/{server}/cwd")).exists()
    });

    // The guard dies as well, as it does with the whole host; the server does not, which is worse.
    let (mut child, server) = at_its_question(&site);
    let guard = children(&child).into_iter().find(|(_, words)| words.contains(" guard ")).unwrap();
    kill(guard.0.cast_unsigned(), Signal::KILL);
    child.kill().unwrap();
    child.wait().unwrap();
    let dead = left(&site);
    assert_eq!(dead.len(), 1);
    // Somebody else's folder, by whatever name, is not touched.
    let foreign = scratch(&site).join("strongroom-drill-0badcafe");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("precious"), "1").unwrap();
    asking(&site, "");
    let report = drill(&site, 0, &[]);
    assert!(report["removed"][0].as_str().unwrap().ends_with(&dead[0]), "{report}");
    assert_eq!(left(&site), ["strongroom-drill-0badcafe"]);
    assert!(foreign.join("precious").exists());
    until("the dead drill's server to be gone", || !PathBuf::from(format!("/proc/{server}/cwd")).exists());
}

#[test]
fn a_drill_that_is_asked_to_stop_says_so_in_the_vault_and_leaves_nothing() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.backup();
    site.ship(&site.cluster);
    let (child, _) = at_its_question(&site);
    kill(child.id(), Signal::INT);
    let report = report(&child.wait_with_output().unwrap(), 130);
    assert_eq!(report["drill"]["outcome"], "interrupted");
    assert_eq!(outcomes(&report)["recovery"], "passed");
    assert_eq!(left(&site), [] as [String; 0]);
    assert_eq!(rto_rpo(&site, 4)["last_outcome"], "interrupted");
}

#[test]
fn two_at_once_do_not_meet_and_one_that_is_kept_can_be_looked_at() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.cluster.sql(ORDERS).unwrap();
    site.backup();
    site.ship(&site.cluster);
    asking(&site, "{ query = \"select count(*) from orders\", expect = \"20000\" }");
    let scratch = scratch(&site);
    let words = words(scratch.to_str().unwrap(), &[]);
    let begin = || site.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let both = [begin(), begin()].map(|child| child.wait_with_output().unwrap());
    let ids = both.map(|output| report(&output, 0)["evidence"].as_str().unwrap().to_owned());
    assert_ne!(ids[0], ids[1]);
    assert_eq!(left(&site), [] as [String; 0]);

    let report = drill(&site, 0, &["--keep"]);
    let lines: Vec<&str> =
        report["left_running"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let [connect, stop, remove] = lines[..] else { panic!("{lines:?}") };
    let told = |line: &str| line.split_once(": ").unwrap().1.to_owned();
    let shell = |line: &str| {
        let output = binaries.command("/bin/sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let asked = told(connect).replace("-d template1", "-d postgres -Atc 'select count(*) from orders'");
    assert_eq!(shell(&asked).trim(), "20000");
    // The next drill leaves it alone.
    assert_eq!(drill(&site, 0, &[])["removed"], serde_json::json!([]));
    assert_eq!(shell(&asked).trim(), "20000");
    shell(&told(stop));
    shell(&told(remove));
    assert_eq!(left(&site), [] as [String; 0]);
}

#[test]
fn a_disk_that_is_too_small_or_becomes_full_fails_the_drill_and_is_empty_again() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.backup();
    site.ship(&site.cluster);
    let Some(small) = Small::mount(&site, "scratch", 40) else { return };
    let report = drill(&site, 10, &[]);
    assert_eq!(report["drill"]["outcome"], "failed");
    assert!(report["drill"]["why"].as_str().unwrap().contains("and a drill of this point needs"), "{report}");
    assert_eq!(left(&site), [] as [String; 0]);
    // Enough to restore, and not enough for what is asked.
    small.grow(260);
    let sort =
        "select count(*) from (select g, md5(g::text) from generate_series(1, 20000000) g order by 2) o";
    asking(&site, &format!("{{ query = \"{sort}\", expect = \"20000000\", timeout = \"10m\" }}"));
    let report = drill(&site, 15, &[]);
    assert!(detail(&report, "sql 1").contains("No space left on device"), "{report}");
    assert_eq!(left(&site), [] as [String; 0]);
}

#[test]
fn a_vault_that_lacks_wal_fails_the_drill_and_says_which() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.backup();
    for _ in 0..3 {
        site.cluster.sql("create table if not exists t (id int); insert into t values (1)").unwrap();
        site.ship(&site.cluster);
    }
    drill(&site, 0, &[]);
    // A segment in the middle: what is behind it is there, and must not count as all there is.
    let mut segments = segments(&site);
    let lost = segments.remove(segments.len() - 2);
    std::fs::remove_file(&lost).unwrap();
    let report = drill(&site, 15, &[]);
    assert_eq!((&report["drill"]["outcome"], outcomes(&report)["journal"]), (&"failed".into(), "failed"));
    let name = lost.file_name().unwrap().to_string_lossy().into_owned();
    assert!(detail(&report, "journal").contains(&name), "{report}");
    assert_eq!(rto_rpo(&site, 4)["last_outcome"], "failed");
    // And one that no point can be consistent without.
    std::fs::remove_file(&segments[0]).unwrap();
    let report = drill(&site, 9, &[]);
    assert!(report["drill"]["why"].as_str().unwrap().contains("needs WAL segment"), "{report}");
    assert_eq!(left(&site), [] as [String; 0]);
}

/// The whole segments from the point's first on, in order.
fn segments(site: &Site) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![site.path("vault/sources/main/wal")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.retain(|path| path.file_name().unwrap().len() == 24);
    found.sort();
    let listed: Value = serde_json::from_str(&site.ok(&["list", "--output", "json"])).unwrap();
    let point = listed[0]["points"][0]["point"].as_str().unwrap().to_owned();
    let shown: Value = serde_json::from_str(&site.ok(&["show", &point, "--output", "json"])).unwrap();
    let first = shown["wal"][0].as_str().unwrap().to_owned();
    found.retain(|path| *path.file_name().unwrap().to_string_lossy() >= *first);
    found
}

#[test]
fn evidence_that_was_tampered_with_is_named_and_does_not_count() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.backup();
    site.ship(&site.cluster);
    let id = drill(&site, 0, &[])["evidence"].as_str().unwrap().to_owned();
    let month = format!("{}-{}", &id[..4], &id[4..6]);
    let path = site.path("vault/evidence").join(month).join(format!("{id}.drill.main"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let line = rto_rpo(&site, 4);
    assert_eq!(line["discounted"][&id], "the record is damaged");
    assert_eq!(line["concerns"], serde_json::json!(["never-drilled", "false-evidence"]));
    assert!(site.ok(&["status"]).contains("never"));
    let text = said(&site.run(&["report", "rto-rpo"]));
    assert!(text.contains(&format!("records that do not count: {id}")), "{text}");
}

/// Every file of a folder with its size and content's time, and where each link leads.
fn contents(folder: &Path) -> BTreeMap<PathBuf, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let (path, at) = (entry.path(), entry.metadata().unwrap());
            if at.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, format!("{:?} {} {:?}", at.file_type(), at.len(), at.modified().unwrap()));
        }
    }
    found
}

/// What a restored server is told by its own settings must not reach the source: its data directory, tablespaces, logs, addresses.
#[test]
fn where_settings_and_links_of_the_source_lead_nothing_is_written() {
    for binaries in versions() {
        let mut site = Site::new(&binaries, InitOptions::default());
        for name in ["space", "logs"] {
            std::fs::create_dir(site.path(name)).unwrap();
            binaries.give(&site.path(name)).unwrap();
        }
        let sql = |statements: &str| site.cluster.sql(statements).unwrap();
        sql(&format!("create tablespace space location '{}'", site.inside("space")));
        sql("create table far tablespace space as select generate_series(1, 1000) n");
        std::os::unix::fs::symlink(site.inside("logs"), site.cluster.data().join("log")).unwrap();
        sql("alter system set shared_preload_libraries = 'plpgsql, gone_for_good'");
        let there = binaries.inside(site.cluster.data());
        let lines = format!(
            "data_directory = '{}'\nlogging_collector = on\nlisten_addresses = '*'\nshared_buffers = '64GB'\ninclude = 'nowhere.conf'",
            there.display()
        );
        site.cluster.configure(&lines).unwrap();
        site.backup();
        site.ship(&site.cluster);
        site.cluster.stop("fast").unwrap();
        let folders = [site.path("space"), site.path("logs"), site.cluster.data().to_owned()];
        let before = folders.each_ref().map(|folder| contents(folder));
        asking(&site, "{ query = \"select count(*) from far\", expect = \"1000\" }");
        let report = drill(&site, 0, &[]);
        assert!(detail(&report, "libraries").contains("gone_for_good"), "{report}");
        assert_eq!((outcomes(&report)["libraries"], outcomes(&report)["sql 1"]), ("not-run", "passed"));
        assert_eq!(folders.each_ref().map(|folder| contents(folder)), before);
        assert_eq!(left(&site), [] as [String; 0]);
    }
}

#[test]
fn root_has_the_server_run_as_postgres() {
    let Some(binaries) = versions().into_iter().next().filter(|_| rustix::process::geteuid().is_root())
    else {
        println!("skipped: this user is not root");
        return;
    };
    let site = Site::new(&binaries, InitOptions::default());
    if site.path("x") != Path::new(&site.inside("x")) {
        println!("skipped: in a chroot the binary is not run as root");
        return;
    }
    shop(&site, "");
    site.backup();
    site.ship(&site.cluster);
    let backup = site.command_with("shop.toml", &["backup"]).output().unwrap();
    assert!(backup.status.success(), "{}", said(&backup));
    let scratch = site.path("of-root");
    let words = words(scratch.to_str().unwrap(), &[]);
    for settings in ["strongroom.toml", "shop.toml"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.arg("--config").arg(site.path(settings)).args(&words);
        let report = report(&command.output().unwrap(), 0);
        assert_eq!(report["drill"]["outcome"], "passed", "{report}");
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "{settings}");
    }
}

/// A database that is dumped.
fn shop(site: &Site, more: &str) {
    site.cluster.sql("create role keeper; ").unwrap();
    site.cluster.sql("create database shop").unwrap();
    site.cluster.sql_in("shop", &format!("{ORDERS}; alter table orders owner to keeper")).unwrap();
    let text = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let text = text
        .replace("[source.main]", "[source.shop]")
        .replace("kind = \"postgres\"", "kind = \"postgres-logical\"")
        .replace("user=postgres\"", "user=postgres dbname=shop\"");
    std::fs::write(site.path("shop.toml"), format!("{text}{more}")).unwrap();
    site.binaries.give(&site.path("shop.toml")).unwrap();
}

fn drill_dump(site: &Site, code: i32, arguments: &[&str]) -> Value {
    let scratch = scratch(site);
    let words = words(scratch.to_str().unwrap(), arguments);
    report(&site.command_with("shop.toml", &words).output().unwrap(), code)
}

fn stop(cluster: &mut Cluster) {
    cluster.stop("fast").unwrap();
}

#[test]
fn a_dump_is_drilled_into_a_server_of_its_own() {
    for binaries in versions() {
        let mut site = Site::new(&binaries, InitOptions::default());
        let sql = "[source.shop.drill]\nsql = [{ query = \"select count(*) from orders\", expect = \"20000\" }, \
                   { query = \"select max(made) from orders\", max_age = \"1h\" }]\n";
        shop(&site, sql);
        let backup = site.command_with("shop.toml", &["backup"]).output().unwrap();
        assert!(backup.status.success(), "{}", said(&backup));
        stop(&mut site.cluster);
        let done = drill_dump(&site, 0, &["--rto", "30m"]);
        let passed = ["amcheck", "rows", "rto", "sql 1", "sql 2"];
        assert_eq!(outcomes(&done), expected(&binaries, &passed), "{done}");
        assert!(detail(&done, "rows").contains("20000 rows of 1 tables read back"), "{done}");
        assert_eq!(left(&site), [] as [String; 0]);
        let point = done["drill"]["point"].as_str().unwrap().to_owned();
        assert_eq!(drill_dump(&site, 0, &["--point", &point])["drill"]["outcome"], "passed");
        // It has no second but its own.
        let output =
            site.command_with("shop.toml", &words(scratch(&site).to_str().unwrap(), &["--random-time"]));
        let output = { output }.output().unwrap();
        assert!(said(&output).contains("no WAL leads on from its recovery points"), "{}", said(&output));
        let text = std::fs::read_to_string(site.path("shop.toml")).unwrap();
        std::fs::write(site.path("shop.toml"), text.replace("\"20000\"", "\"20001\"")).unwrap();
        let done = drill_dump(&site, 15, &[]);
        assert_eq!(outcomes(&done)["sql 1"], "failed");
        assert_eq!(left(&site), [] as [String; 0]);
        let lines = site
            .command_with("shop.toml", &["report", "rto-rpo", "shop", "--output", "json"])
            .output()
            .unwrap();
        let line = report(&lines, 4)[0].clone();
        assert!(line["rpo_worst_s"].as_f64().unwrap() > 0.0, "{line}");
        assert_eq!((&line["drills"], &line["last_outcome"]), (&3.into(), &"failed".into()));
    }
}
