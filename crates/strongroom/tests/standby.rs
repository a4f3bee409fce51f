//! Backups taken from a standby: what they hold is what the primary has, whatever the two are doing meanwhile.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::process::Stdio;

use live::{Site, digest, said, sound, until, versions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions, run};

/// Settings under which `main` is the standby, with the primary named and not.
const NAMED: &str = "standby.toml";
const UNNAMED: &str = "unnamed.toml";

/// A primary with its vault, and a standby that streams from it.
struct Pair {
    site: Site,
    standby: Cluster,
}

impl Pair {
    /// `settings` are of both; `of_standby` come on top there.
    fn new(binaries: &Binaries, settings: &str, of_standby: &str) -> Pair {
        let settings = format!("wal_keep_size = 512MB\nautovacuum = off\n{settings}");
        let site = Site::new(binaries, InitOptions { settings, ..InitOptions::default() });
        let standby = replica(&site, "standby", of_standby);
        let pair = Pair { site, standby };
        pair.configure();
        pair
    }

    fn configure(&self) {
        let Pair { site, standby } = self;
        site.configure(UNNAMED, standby);
        let mut text = std::fs::read_to_string(site.path(UNNAMED)).unwrap();
        let (host, port) = (site.cluster.socket_folder(), site.cluster.port());
        text += &format!("primary = \"host={} port={port} user=postgres\"\n", host.display());
        std::fs::write(site.path(NAMED), text).unwrap();
        site.binaries.give(&site.path(NAMED)).unwrap();
    }

    /// Takes a point from the standby's files; what the command says of it.
    fn take(&self) -> Value {
        self.take_by("files")
    }

    /// The same, in this way.
    fn take_by(&self, access: &str) -> Value {
        let words = ["backup", "--access", access, "--output", "json"];
        let output = self.site.command_with(NAMED, &words).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let point: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&point["from_standby"], &point["access"]), (&true.into(), &access.into()), "{point}");
        point
    }

    /// Takes a point from the primary.
    fn take_from_primary(&self) -> Value {
        let point: Value = serde_json::from_str(&self.site.ok(&["backup", "--output", "json"])).unwrap();
        assert_eq!(point.get("from_standby"), None, "{point}");
        point
    }

    /// Waits until the standby has replayed all that the primary wrote so far.
    fn caught_up(&self) {
        let position = self.site.cluster.sql("select pg_current_wal_flush_lsn()").unwrap();
        let sql = format!("select pg_last_wal_replay_lsn() >= '{position}'");
        until("the standby to catch up", || self.standby.sql(&sql).unwrap() == "t");
    }
}

/// A standby in a folder of the site.
fn replica(site: &Site, name: &str, settings: &str) -> Cluster {
    let to = site.inside(name);
    run(site.cluster.client("pg_basebackup").args(["-R", "-c", "fast", "-D", &to])).unwrap();
    let mut standby = Cluster::adopt(&site.binaries, &site.path(name)).unwrap();
    standby.configure(settings).unwrap();
    standby.start().unwrap();
    standby
}

fn id(point: &Value) -> &str {
    point["point"].as_str().unwrap()
}

/// Every row of a table of the tests' own.
fn rows(cluster: &Cluster) -> String {
    cluster.sql("select count(*), md5(string_agg(t::text, '|' order by t::text)) from t").unwrap()
}

const TABLE: &str =
    "create table t as select n, repeat(md5(n::text), 4) as v from generate_series(1, 20000) n";

/// Two points of one moment, one from each server and restored to the same position, are the same; so is the end.
#[test]
fn a_point_of_a_standby_under_load_restores_as_the_primary_was() {
    for binaries in versions() {
        let pair = Pair::new(&binaries, "", "archive_mode = off");
        let Pair { site, .. } = &pair;
        let load = site.load(2);
        let first = pair.take_from_primary();
        let second = pair.take();
        assert_eq!(second["parent"], first["point"], "{second}");
        assert_eq!(second["journal"]["lineage"], first["journal"]["lineage"]);
        let (all, new) = (first["stored"].as_u64().unwrap(), second["stored"].as_u64().unwrap());
        assert!(new < all / 2, "{new} of {all}: pages of the primary's point are stored again");
        assert!(site.ok(&["show", id(&second)]).contains("taken from  a standby"));
        let third = pair.take_from_primary();
        assert_eq!(third["parent"], second["point"], "{third}");
        site.quiet(load);
        pair.caught_up();
        site.ship(&site.cluster);
        let position = second["journal"]["stop"].as_str().unwrap();
        let then = |name: &str, point: &Value| {
            site.restore(name, &["--point", id(point), "--lsn", position, "--no-archiving"])
        };
        let (of_primary, of_standby) = (then("then-primary", &first), then("then-standby", &second));
        assert_eq!(digest(&of_standby), digest(&of_primary), "{binaries:?}");
        sound(of_standby);
        let now = site.restore("now", &["--point", id(&second), "--no-archiving"]);
        assert_eq!(digest(&now), digest(&site.cluster), "{binaries:?}");
        sound(now);
        let verdict = site.ok(&["verify", "--data"]);
        assert!(!verdict.contains("damaged"), "{verdict}");
    }
}

/// The same, where the standby's files cannot be read: it sends them.
#[test]
fn a_point_that_a_standby_sends_under_load_restores_as_the_primary_was() {
    for binaries in versions() {
        let pair = Pair::new(&binaries, "", "archive_mode = off");
        let Pair { site, .. } = &pair;
        let load = site.load(2);
        // Nothing of the load's tables is on the standby's disk before.
        site.cluster.sql("checkpoint").unwrap();
        pair.caught_up();
        let first = pair.take_by("stream");
        let second = pair.take_by("files");
        let third = pair.take_by("stream");
        let of_primary = pair.take_from_primary();
        for (point, parent) in [(&second, &first), (&third, &second), (&of_primary, &third)] {
            assert_eq!(point["parent"], parent["point"], "{point}");
        }
        site.quiet(load);
        site.cluster.sql("checkpoint").unwrap();
        pair.caught_up();
        // Of a standby where nothing changes both ways find the same pages.
        pair.take_by("stream");
        for access in ["files", "stream"] {
            let point = pair.take_by(access);
            let (all, new) = (first["stored"].as_u64().unwrap(), point["stored"].as_u64().unwrap());
            assert!(new < all / 4, "{access}: {new} of {all} are stored again");
        }
        site.ship(&site.cluster);
        let position = of_primary["journal"]["stop"].as_str().unwrap();
        let then = |name: &str, point: &Value| {
            site.restore(name, &["--point", id(point), "--lsn", position, "--no-archiving"])
        };
        let truth = digest(&then("then-primary", &of_primary));
        for (name, point) in [("then-first", &first), ("then-third", &third)] {
            let restored = then(name, point);
            assert_eq!(digest(&restored), truth, "{name} {binaries:?}");
            sound(restored);
        }
        // On its own, as soon as it is consistent, and to the end.
        let alone = site.restore("alone", &["--point", id(&third), "--immediate", "--no-archiving"]);
        sound(alone);
        let now = site.restore("now", &["--point", id(&third), "--no-archiving"]);
        assert_eq!(digest(&now), digest(&site.cluster), "{binaries:?}");
        sound(now);
    }
}

/// A standby cannot complete a segment: of a primary that writes nothing, the last one would never come.
#[test]
fn behaviour_23_an_idle_primary_is_asked_for_the_last_segment() {
    for binaries in versions() {
        let pair = Pair::new(&binaries, "archive_timeout = 0", "recovery_min_apply_delay = 0");
        let Pair { site, standby } = &pair;
        site.cluster.sql(TABLE).unwrap();
        site.cluster.sql("checkpoint").unwrap();
        pair.caught_up();
        let words = ["backup", "--wal-timeout", "4s"];
        let output = site.command_with(UNNAMED, &words).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(13), "{text}");
        assert!(
            text.contains("completes no WAL segment") && text.contains("did not reach the vault"),
            "{text}"
        );
        assert!(text.contains("0000000100000000000000"), "{text}");
        // One that is kept an hour behind on purpose does not hand that down.
        for access in ["stream", "files"] {
            site.cluster.sql("update t set v = v || 'x'").unwrap();
            let lag = "alter system set recovery_min_apply_delay = ";
            standby.sql(&format!("{lag}0; select pg_reload_conf()")).unwrap();
            pair.caught_up();
            standby.sql(&format!("{lag}'1h'; select pg_reload_conf()")).unwrap();
            let point = pair.take_by(access);
            let restored = site.restore(access, &["--point", id(&point), "--no-archiving"]);
            assert_eq!(rows(&restored), rows(&site.cluster));
            sound(restored);
        }
        let text = said(&site.command_with(NAMED, &["doctor"]).output().unwrap());
        assert!(text.contains("a standby on timeline 1") && text.contains("by the primary at"), "{text}");
        let text = said(&site.command_with(UNNAMED, &["doctor"]).output().unwrap());
        assert!(text.contains("which is not named"), "{text}");
    }
}

/// Stopped when it has begun, so that the promotion falls within.
#[test]
fn behaviour_21_a_standby_promoted_while_it_is_copied_gives_no_point() {
    for (binaries, access) in versions().into_iter().flat_map(|b| [(b.clone(), "files"), (b, "stream")]) {
        let pair = Pair::new(&binaries, "", "");
        let Pair { site, standby } = &pair;
        site.quiet(site.load(12));
        pair.caught_up();
        let mut command = site.command_with(NAMED, &["backup", "--access", access]);
        let backup = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("the backup to begin", || site.path("vault/sources/main/points").exists());
        let pid = Pid::from_raw(backup.id() as i32).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        standby.promote().unwrap();
        until("promotion", || standby.sql("select pg_is_in_recovery()").is_ok_and(|answer| answer == "f"));
        kill_process(pid, Signal::CONT).unwrap();
        let output = backup.wait_with_output().unwrap();
        assert!(!output.status.success() && said(&output).contains("promoted"), "{}", said(&output));
        let listed: Value = serde_json::from_str(&site.ok(&["list", "--output", "json"])).unwrap();
        let points = listed[0]["points"].as_array().unwrap();
        assert!(points.iter().all(|point| point["state"] != "committed"), "{listed}");
    }
}

/// The same segments, from both: whoever is second finds them there.
#[test]
fn behaviour_16_a_standby_that_archives_always_ships_beside_the_primary() {
    for binaries in versions() {
        let pair = Pair::new(&binaries, "", "archive_mode = always");
        let Pair { site, standby } = &pair;
        site.cluster.sql(TABLE).unwrap();
        for _ in 0..3 {
            site.cluster.sql("update t set v = v || 'x'").unwrap();
            site.ship(&site.cluster);
        }
        let last = site.cluster.sql("select last_archived_wal from pg_stat_archiver").unwrap();
        let shipped = format!("select coalesce(last_archived_wal >= '{last}', false) from pg_stat_archiver");
        until("the standby to ship the same", || standby.sql(&shipped).unwrap() == "t");
        for cluster in [&site.cluster, standby] {
            assert_eq!(cluster.sql("select failed_count from pg_stat_archiver").unwrap(), "0");
        }
        let point = pair.take();
        let restored = site.restore("restored", &["--point", id(&point), "--no-archiving"]);
        assert_eq!(rows(&restored), rows(&site.cluster));
        sound(restored);
    }
}

/// Everything up to a segment's end is replayed when the restartpoint writes its pages: the copy ends at offset 0 of the next
/// one. Recovery stops there only if there is a record behind it, which an idle primary is asked to write.
#[test]
fn behaviour_22_a_stop_at_offset_zero_restores_on_its_own() {
    for binaries in versions() {
        let pair = Pair::new(&binaries, "checkpoint_timeout = 1h", "");
        let Pair { site, .. } = &pair;
        site.cluster.sql(TABLE).unwrap();
        // Such a point needs the next segment's first byte.
        let at_zero = |point: &Value| {
            let stop: strongroom_model::Lsn = point["journal"]["stop"].as_str().unwrap().parse().unwrap();
            stop.0 % (16 << 20) == 1
        };
        let switch =
            "update t set v = v || 'x'; checkpoint; update t set v = v || 'y'; select pg_switch_wal()";
        // A running-transactions record of the primary's own may come behind the switch now and then.
        let point = (0..5)
            .map(|_| {
                site.cluster.sql(switch).unwrap();
                pair.caught_up();
                pair.take()
            })
            .find(at_zero);
        let point = point.expect("no backup ended at a segment's end");
        let restored = site.restore("restored", &["--point", id(&point), "--immediate", "--no-archiving"]);
        assert_eq!(rows(&restored), rows(&site.cluster));
        sound(restored);
    }
}

/// A record of changes holds between two points of the primary only.
#[test]
fn no_summary_is_believed_of_a_standby_nor_after_a_point_of_one() {
    let Some(binaries) = versions().into_iter().find(|binaries| binaries.major().number() >= 17) else {
        return;
    };
    let pair = Pair::new(&binaries, "summarize_wal = on", "");
    pair.site.cluster.sql(TABLE).unwrap();
    let why = |point: &Value| point["reading"]["no_record"].as_str().unwrap_or_default().to_owned();
    pair.take_from_primary();
    pair.caught_up();
    let of_standby = pair.take();
    assert!(why(&of_standby).contains("a standby's record"), "{of_standby}");
    assert!(why(&pair.take()).contains("a standby's record"));
    let next = pair.take_from_primary();
    assert!(why(&next).contains("was taken from a standby"), "{next}");
    assert_eq!(why(&pair.take_from_primary()), "");
}
