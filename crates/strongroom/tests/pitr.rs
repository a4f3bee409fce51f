//! Point-in-time recovery, end to end, on every PostgreSQL there is here.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::process::Stdio;

use live::{Site, digest, said, sound, versions};
use strongroom_postgres::cluster::InitOptions;

/// A full backup under load; then to a recorded time, transaction, position and name, row for row.
#[test]
fn a_backup_under_load_restores_to_time_xid_lsn_and_name() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        let load = site.load(2);
        let point = site.backup();
        site.quiet(load);
        let sql = |statements: &str| site.cluster.sql(statements).unwrap();
        sql("create table marks (mark text)");
        let before = digest(&site.cluster);
        let xid = sql("begin; insert into marks values ('kept'); select txid_current(); commit");
        let lsn = sql("select pg_current_wal_insert_lsn()");
        let time = sql("select clock_timestamp()");
        sql("select pg_create_restore_point('it''s a \"name\"')");
        sql("insert into marks values ('lost'); delete from pgbench_accounts where aid % 3 = 0");
        site.ship(&site.cluster);

        for (name, target, marks) in [
            ("time", &["--at", &time][..], "kept"),
            ("xid", &["--xid", &xid], "kept"),
            ("xid-exclusive", &["--xid", &xid, "--exclusive"], ""),
            ("lsn", &["--lsn", &lsn], "kept"),
            ("name", &["--name", "it's a \"name\""], "kept"),
        ] {
            let mut arguments = target.to_vec();
            arguments.push("--no-archiving");
            let restored = site.restore(name, &arguments);
            assert_eq!(restored.sql("select mark from marks").unwrap(), marks, "{name} on {binaries:?}");
            assert_eq!(digest(&restored), before, "{name} on {binaries:?}");
            if name == "time" {
                sound(restored);
            }
        }
        let latest = site.restore("latest", &["--no-archiving"]);
        assert_eq!(latest.sql("select string_agg(mark, ' ') from marks").unwrap(), "kept lost");
        let verdict = site.ok(&["verify", "--data"]);
        assert!(verdict.contains(&point) && !verdict.contains("damaged"), "{verdict}");
    }
}

/// Behaviour 15, and two timelines: promoted twice, restored through both switches, and back along the first.
#[test]
fn behaviour_15_recovery_follows_two_promotions() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        site.cluster.sql("create table marks (mark text)").unwrap();
        site.backup();
        let mark = |cluster: &strongroom_postgres::cluster::Cluster, mark: &str| {
            cluster.sql(&format!("insert into marks values ('{mark}')")).unwrap();
        };
        let marks = |cluster: &strongroom_postgres::cluster::Cluster| {
            cluster.sql("select string_agg(mark, ' ' order by mark) from marks").unwrap()
        };
        mark(&site.cluster, "a1");
        site.cluster.sql("select pg_create_restore_point('fork')").unwrap();
        mark(&site.cluster, "b1");
        site.ship(&site.cluster);

        let second = site.restore("second", &["--name", "fork"]);
        assert_eq!(marks(&second), "a1");
        mark(&second, "c2");
        second.sql("select pg_create_restore_point('fork2')").unwrap();
        mark(&second, "d2");
        site.ship(&second);
        let third = site.restore("third", &["--name", "fork2"]);
        assert_eq!(third.sql("select timeline_id from pg_control_checkpoint()").unwrap(), "3");
        mark(&third, "e3");
        site.ship(&third);

        let latest = site.restore("latest", &["--no-archiving"]);
        assert_eq!(marks(&latest), "a1 c2 e3", "through two switches");
        let on_two = site.restore("two", &["--timeline", "2", "--no-archiving"]);
        assert_eq!(marks(&on_two), "a1 c2 d2");
        for (name, timeline) in [("first", "current"), ("one", "1")] {
            let restored = site.restore(name, &["--timeline", timeline, "--no-archiving"]);
            assert_eq!(marks(&restored), "a1 b1", "timeline {timeline}");
        }

        // A point of timeline 3, and the newest of all is chosen from then on.
        site.configure("third.toml", &third);
        let point = site.backup_with("third.toml");
        mark(&third, "f3");
        site.ship(&third);
        let plan = site.ok(&["restore", "--to", &site.inside("plan"), "--dry-run"]);
        assert!(
            plan.contains(&point) && plan.contains("timeline 3") && plan.contains("enough for the pages"),
            "{plan}"
        );
        let again = site.restore("again", &["--no-archiving"]);
        assert_eq!(marks(&again), "a1 c2 e3 f3");
    }
}

/// A tablespace's name, as SQL quotes it and as it is.
const ODD: &str = "\"o'dd \"\"q\"\" ü\"";
const ODD_NAME: &str = "o'dd \"q\" ü";

/// Behaviour 17: tables dropped, truncated, rewritten and moved, databases made, while the copy runs.
#[test]
fn behaviour_17_tablespaces_and_ddl_during_the_backup() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        let sql = |statements: &str| site.cluster.sql(statements).unwrap();
        for (name, quoted) in [("plain", "plain"), ("odd ü", ODD)] {
            std::fs::create_dir(site.path(name)).unwrap();
            binaries.give(&site.path(name)).unwrap();
            sql(&format!("create tablespace {quoted} location '{}'", site.inside(name)));
        }
        sql(&format!(
            "create table still (id int, v text) tablespace {ODD};
             insert into still select n, repeat(md5(n::text), 20) from generate_series(1, 60000) n;
             create table moving tablespace plain as select * from still;
             create index on moving (id);
             create table dropped as select * from still limit 9000;
             create table cut tablespace {ODD} as select * from still limit 9000"
        ));
        let churn = format!(
            "create table x as select * from still limit 3000; truncate x; drop table x;
             alter table moving set tablespace {ODD}; vacuum full moving; alter table moving set tablespace plain;
             create database d; create database e tablespace plain; drop database d; drop database e;"
        );
        let mut backup = site.command(&["backup", "--workers", "1"]).stdout(Stdio::null()).spawn().unwrap();
        // The intent follows the server's start and the listing: from here on files are being copied.
        live::until("the copy to begin", || site.path("vault/sources/main/points").exists());
        sql("drop table dropped; truncate cut");
        assert!(backup.try_wait().unwrap().is_none(), "the backup ended before anything happened to it");
        while backup.try_wait().unwrap().is_none() {
            sql(&churn);
        }
        assert!(backup.wait().unwrap().success());
        sql(
            "create database kept; insert into cut select * from still limit 5; insert into moving values (-1, 'last')",
        );
        let digest = "select count(*), md5(string_agg(m::text, '' order by id)) from moving m; select count(*) from still; select count(*) from cut; select to_regclass('dropped')";
        let before = sql(digest);
        site.ship(&site.cluster);

        let (plain, odd) =
            (format!("plain={}", site.inside("plain2")), format!("{ODD_NAME}={}", site.inside("odd2")));
        let restored = site
            .restore("restored", &["--tablespace-map", &plain, "--tablespace-map", &odd, "--no-archiving"]);
        assert_eq!(restored.sql(digest).unwrap(), before);
        assert_eq!(
            restored.sql("select count(*) from pg_database where datname in ('kept', 'd', 'e')").unwrap(),
            "1"
        );
        let places = restored
            .sql("select pg_tablespace_location(oid) from pg_tablespace where spcname !~ '^pg_' order by 1");
        assert_eq!(places.unwrap(), format!("{}\n{}", site.inside("odd2"), site.inside("plain2")));
        sound(restored);
    }
}

/// As `pg_verifybackup` would: a quiet server's files, one by one, against the restored ones.
#[test]
fn every_file_is_restored_byte_for_byte() {
    for binaries in versions() {
        let quiet = InitOptions { settings: "autovacuum = off".into(), ..InitOptions::default() };
        let site = Site::new(&binaries, quiet);
        site.cluster
            .sql("create table t as select n, repeat(md5(n::text), 3) as v from generate_series(1, 20000) n; create index on t (v);
                  create unlogged table gone as select 1 as n; create database other; checkpoint")
            .unwrap();
        site.backup();
        site.ok(&["restore", "--yes", "--immediate", "--to", &site.inside("restored")]);
        let (source, restored) = (site.cluster.data(), site.path("restored"));
        let unlogged = site.cluster.sql("select pg_relation_filepath('gone')").unwrap();
        let (mut compared, mut folders) =
            (0, vec![source.join("base"), source.join("global"), source.join("pg_xact")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let relative = path.strip_prefix(source).unwrap();
                let name = relative.to_string_lossy();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                // Made anew by every server; poisoned on purpose; an unlogged table's content is not backed up.
                if name.contains("pg_internal.init") || name == "global/pg_control" || name == unlogged {
                    continue;
                }
                let same = std::fs::read(&path).unwrap() == std::fs::read(restored.join(relative)).unwrap();
                assert!(same, "{name} differs on {binaries:?}");
                compared += 1;
            }
        }
        assert!(compared > 900, "only {compared} files were compared");
        let started = site.start("restored");
        assert_eq!(started.sql("select count(*) from t; select count(*) from gone").unwrap(), "20000\n0");
        sound(started);
    }
}

/// Behaviours 7 and 23: other segment sizes, and servers that write nothing.
#[test]
fn behaviours_7_and_23_segment_sizes_and_an_idle_server() {
    let Some(binaries) = versions().into_iter().next() else { return };
    for segment_mib in [1, 64] {
        let site = Site::new(&binaries, InitOptions { segment_mib, ..InitOptions::default() });
        site.cluster.sql("create table t as select n from generate_series(1, 50000) n").unwrap();
        site.backup();
        // Nothing was written since: the end of this one's WAL must still arrive.
        let idle = site.backup();
        let alone = site.restore("alone", &["--point", &idle, "--immediate", "--no-archiving"]);
        assert_eq!(alone.sql("select count(*) from t").unwrap(), "50000");
        site.cluster.sql("insert into t values (-1)").unwrap();
        site.ship(&site.cluster);
        let restored = site.restore("restored", &["--point", &idle, "--no-archiving"]);
        assert_eq!(restored.sql("select count(*) from t").unwrap(), "50001");
    }
}

/// What a restore refuses: folders, targets outside every window, a folder whose label was taken away.
#[test]
fn behaviour_29_what_a_restore_refuses() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.cluster.sql("create table t as select 1 as n").unwrap();
    let point = site.backup();
    site.cluster.sql("insert into t values (2)").unwrap();
    site.ship(&site.cluster);
    let restore = |to: &str, arguments: &[&str]| {
        let to = site.inside(to);
        [&["restore", "--yes", "--to", &to][..], arguments]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let fails =
        |code, words: Vec<String>| site.fails(code, &words.iter().map(String::as_str).collect::<Vec<_>>());

    // Folders: not empty, a running server's. Nothing in them changes.
    std::fs::create_dir(site.path("full")).unwrap();
    std::fs::write(site.path("full/precious"), "mine").unwrap();
    binaries.give(&site.path("full")).unwrap();
    assert!(fails(10, restore("full", &[])).contains("precious"));
    assert_eq!(std::fs::read_dir(site.path("full")).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(site.path("full/precious")).unwrap(), "mine");
    let running = site.binaries.inside(site.cluster.data()).display().to_string();
    assert!(site.fails(10, &["restore", "--yes", "--to", &running]).contains("a server runs in it"));
    assert_eq!(site.cluster.sql("select count(*) from t").unwrap(), "2");

    // Targets: the windows are listed.
    for target in
        [&["--at", "2001-01-01 00:00:00+00"][..], &["--at", "2101-01-01 00:00:00+00"], &["--lsn", "FF/0"]]
    {
        let said = fails(9, restore("never", target));
        assert!(said.contains(&format!("{point} restores from")), "{said}");
    }
    assert!(fails(9, restore("never", &["--timeline", "7"])).contains("timeline 7"));
    assert!(
        fails(9, restore("never", &["--point", "20200101T000000Z-00000000"])).contains("cannot be restored")
    );
    assert!(!site.path("never").exists(), "a refused restore made its folder");
    assert!(fails(2, restore("never", &["--at", "yesterday"])).contains("'yesterday' is not a time"));
    // A time without a zone is the server's, and said in UTC.
    let output =
        site.run(&["restore", "--dry-run", "--to", &site.inside("never"), "--at", "2001-01-01 00:00:00"]);
    assert!(said(&output).contains("is 2001-01-01 00:00:00+00"), "{}", said(&output));

    // Without its label the copy is not consistent: the server must not start on it.
    site.ok(&["restore", "--yes", "--to", &site.inside("unlabelled"), "--no-archiving"]);
    std::fs::remove_file(site.path("unlabelled/backup_label")).unwrap();
    let mut cluster =
        strongroom_postgres::cluster::Cluster::adopt(&binaries, &site.path("unlabelled")).unwrap();
    assert!(cluster.start().is_err(), "a copy without its label started");
}

/// A restore that starts the server itself: it comes back when the target is reached, and says when it is not.
#[test]
fn a_started_restore_reaches_its_target_or_says_why_not() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        site.cluster.sql("create table marks (mark text)").unwrap();
        site.backup();
        site.cluster.sql("insert into marks values ('before')").unwrap();
        let xid = site.cluster.sql("select pg_current_xact_id()").unwrap();
        site.cluster.sql("select pg_create_restore_point('here')").unwrap();
        site.cluster.sql("insert into marks values ('after')").unwrap();
        site.ship(&site.cluster);
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let (to, words) = (site.inside("started"), ["restore", "--yes", "--no-archiving", "--start"]);
        let more = ["--port", &port, "--name", "here", "--output", "json", "--to", &to];
        let output = site.run(&[&words[..], &more[..]].concat());
        assert!(output.status.success(), "{}", said(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let launched = &json["launched"];
        assert_eq!((&launched["running"], &launched["timeline"]), (&true.into(), &2.into()), "{launched}");
        assert_eq!(launched["ended"]["why"], "at restore point \"here\"");
        let rto = launched["seconds"].as_f64().unwrap() + json["restored"]["seconds"].as_f64().unwrap();
        assert!(rto > 0.0 && (json["rto_seconds"].as_f64().unwrap() - rto).abs() < 1e-6, "{json}");
        let asked = binaries
            .command("psql")
            .args(["-XAtc", "select string_agg(mark, ' ') from marks", "-h", "127.0.0.1", "-p", &port])
            .args(["-U", "postgres", "postgres"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&asked.stdout).trim(), "before", "{asked:?}");
        let stop = binaries.command("pg_ctl").args(["stop", "-m", "fast", "-D", &to]).output().unwrap();
        assert!(stop.status.success(), "{stop:?}");

        let to = site.inside("shut");
        let more = ["--port", &port, "--name", "here", "--target-action", "shutdown", "--to", &to];
        let told = site.ok(&[&words[..], &more[..]].concat());
        assert!(told.contains("the target was reached, and it was shut down as asked"), "{told}");
        // A transaction that never was: the server ends recovery with an error, and so does the command.
        let beyond = (xid.parse::<u32>().unwrap() + 1_000_000).to_string();
        let to = site.inside("beyond");
        let more = ["--port", &port, "--xid", &beyond, "--to", &to];
        let told = site.fails(9, &[&words[..], &more[..]].concat());
        assert!(told.contains("ended before its target") && told.contains("FATAL"), "{told}");
        let pause = ["--target-action", "pause", "--to", &to];
        assert!(site.fails(2, &[&words[..], &pause[..]].concat()).contains("never comes to its end"));
    }
}

/// Every kind of target, with the server's own word for where recovery ended: that is what is checked.
#[test]
fn a_started_restore_says_where_recovery_ended_and_why() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        let sql = |statements: &str| site.cluster.sql(statements).unwrap();
        sql("create table marks (mark text)");
        site.backup();
        let xid = sql("begin; insert into marks values ('kept'); select txid_current(); commit");
        let (lsn, time) = (sql("select pg_current_wal_insert_lsn()"), sql("select clock_timestamp()"));
        sql("insert into marks values ('lost')");
        site.ship(&site.cluster);
        let by_xid = format!("transaction {xid}");
        for (name, target, why) in [
            ("latest", &[][..], "no recovery target specified"),
            ("immediate", &["--immediate"], "reached consistency"),
            ("xid", &["--xid", &xid], &format!("after {by_xid}")),
            ("xid-exclusive", &["--xid", &xid, "--exclusive"], &format!("before {by_xid}")),
            ("lsn", &["--lsn", &lsn], "after LSN"),
            ("lsn-exclusive", &["--lsn", &lsn, "--exclusive"], "before LSN"),
            ("time", &["--at", &time], "before 2"),
        ] {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let (to, port) = (site.inside(name), port.to_string());
            let words = ["restore", "--yes", "--no-archiving", "--start", "--port", &port, "--to", &to];
            let told = site.ok(&[&words[..], target].concat());
            assert!(told.contains(&format!("({why}")) && told.contains("(RTO)"), "{name}: {told}");
            let stop = binaries.command("pg_ctl").args(["stop", "-m", "fast", "-D", &to]).output().unwrap();
            assert!(stop.status.success(), "{stop:?}");
        }
    }
}

/// A standby begins with a point of the vault, follows its WAL, then its primary, and can be promoted.
#[test]
fn a_restored_standby_follows_the_vault_and_then_its_primary() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        site.cluster.sql("create table marks (mark text)").unwrap();
        site.backup();
        site.cluster.sql("insert into marks values ('shipped')").unwrap();
        site.ship(&site.cluster);
        let to = site.inside("standby");
        let primary = format!("host=127.0.0.1 port={} user=postgres", site.cluster.port());
        site.ok(&["restore", "--yes", "--no-archiving", "--standby", "--primary", &primary, "--to", &to]);
        assert!(
            site.path("standby/standby.signal").exists() && !site.path("standby/recovery.signal").exists()
        );
        let mut standby =
            strongroom_postgres::cluster::Cluster::adopt(&binaries, &site.path("standby")).unwrap();
        standby.start().unwrap();
        let marks = "select coalesce(string_agg(mark, ' ' order by mark), '') from marks";
        live::until("the vault's WAL", || standby.sql(marks).is_ok_and(|marks| marks == "shipped"));
        site.cluster.sql("insert into marks values ('streamed')").unwrap();
        live::until("the primary's WAL", || {
            standby.sql(marks).is_ok_and(|marks| marks == "shipped streamed")
        });
        assert_eq!(standby.sql("select pg_is_in_recovery()").unwrap(), "t");
        standby.promote().unwrap();
        standby.sql("insert into marks values ('own')").unwrap();
        let at = ["restore", "--standby", "--immediate", "--to", &to];
        site.fails(2, &at);
    }
}
