//! Restores of a part of a cluster (`--db`, `--exclude-db`), and with parts of it elsewhere (`--pg-wal-dir`, `--link-map`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::os::unix::fs::{MetadataExt, symlink};

use live::{Site, sound, versions};
use strongroom_postgres::cluster::InitOptions;

const COUNT: &str = "select count(*), sum(length(v)) from t";

/// A site with two databases beside the server's own, and a number of each; what they hold changed after the point.
fn two_databases(site: &Site) -> [String; 2] {
    ["orders", "stock"].map(|name| {
        site.cluster.sql(&format!("create database {name}")).unwrap();
        let fill = "create table t as select n, repeat(md5(n::text), 8) as v from generate_series(1, 30000) n; create index on t (n)";
        site.cluster.sql_in(name, fill).unwrap();
        site.cluster.sql(&format!("select oid from pg_database where datname = '{name}'")).unwrap()
    })
}

/// Bytes of a folder on disk, and bytes of its files.
fn weight(folder: &std::path::Path) -> (u64, u64) {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    files.fold((0, 0), |(on_disk, long), file| (on_disk + file.blocks() * 512, long + file.len()))
}

#[test]
fn behaviour_30_databases_that_are_absent_or_system_or_renamed() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        let [orders, stock] = two_databases(&site);
        site.backup();
        let change = "update t set v = v || 'x' where n % 3 = 0; delete from t where n % 7 = 0; vacuum t";
        site.cluster.sql_in("orders", change).unwrap();
        site.cluster.sql_in("stock", change).unwrap();
        site.cluster.sql_in("stock", "create table later as select * from t; truncate t").unwrap();
        let expected = site.cluster.sql_in("orders", COUNT).unwrap();
        site.cluster.sql("alter database orders rename to sales").unwrap();
        site.ship(&site.cluster);

        let to = site.inside("part");
        for (choice, code, says) in [
            (["--db", "sales"], 2, "it has orders, stock"),
            (["--exclude-db", "nothing"], 2, "no database 'nothing'"),
            (["--db", "postgres"], 2, "always restored"),
            (["--exclude-db", "template1"], 2, "always restored"),
        ] {
            let said = site.fails(code, &[&["restore", "--yes", "--to", &to][..], &choice].concat());
            assert!(said.contains(says), "{choice:?}: {said}");
            assert!(!site.path("part").exists(), "{choice:?} made the folder");
        }
        let plan = site.ok(&["restore", "--to", &to, "--db", "orders", "--dry-run"]);
        assert!(plan.contains("left out   stock"), "{plan}");
        let said = site.ok(&["restore", "--yes", "--to", &to, "--db", "orders", "--no-archiving"]);
        assert!(said.contains("left out: stock") && said.contains("DROP DATABASE"), "{said}");
        let (on_disk, long) = weight(&site.path("part/base").join(&stock));
        assert!(on_disk < 64 << 10 && long > 10 << 20, "{on_disk} of {long} bytes are on disk");

        let part = site.start("part");
        assert_eq!(part.sql_in("sales", COUNT).unwrap(), expected);
        assert!(part.sql_in("stock", "select 1").is_err(), "a database of zeros lets nobody in");
        part.sql("drop database stock").unwrap();
        sound(part);

        // The other way round, over the same folder: what was there becomes zeros, what was zeros comes back.
        site.ok(&["restore", "--yes", "--delta", "--to", &to, "--exclude-db", "orders", "--no-archiving"]);
        let (on_disk, long) = weight(&site.path("part/base").join(&orders));
        assert!(on_disk < 64 << 10 && long > 10 << 20, "{on_disk} of {long} bytes are on disk");
        let part = site.start("part");
        assert_eq!(part.sql_in("stock", "select count(*) from t").unwrap(), "0");
        part.sql("drop database sales").unwrap();
        sound(part);
    }
}

#[test]
fn wal_and_other_folders_go_elsewhere() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        std::fs::create_dir(site.path("their-log")).unwrap();
        symlink(site.inside("their-log"), site.cluster.data().join("log")).unwrap();
        site.cluster.sql("create table t as select n from generate_series(1, 1000) n").unwrap();
        site.backup();
        site.ship(&site.cluster);
        let (to, wal, log) =
            (site.inside("there"), site.inside("wal"), format!("log={}", site.inside("log")));
        let restore = ["restore", "--yes", "--no-archiving", "--to", &to];
        let elsewhere = ["--pg-wal-dir", &wal, "--link-map", &log];

        std::fs::create_dir(site.path("wal")).unwrap();
        std::fs::write(site.path("wal/precious"), "mine").unwrap();
        binaries.give(&site.path("wal")).unwrap();
        let said = site.fails(10, &[&restore[..], &elsewhere].concat());
        assert!(said.contains("precious"), "{said}");
        std::fs::remove_file(site.path("wal/precious")).unwrap();
        let inside = site.inside("there/base/wal");
        for (wrong, code, says) in [
            (["--pg-wal-dir", "wal"], 10, "not absolute"),
            (["--pg-wal-dir", &inside], 10, "not apart"),
            (["--link-map", "base=/srv/x"], 2, "base cannot be put elsewhere"),
            (["--link-map", "pg_tblspc/5=/srv/x"], 2, "--tablespace-map"),
            (["--link-map", "nothing=/srv/x"], 2, "no folder or link nothing"),
            (["--link-map", "PG_VERSION=/srv/x"], 2, "no folder or link PG_VERSION"),
            (["--link-map", "../x=/srv/x"], 2, "../x"),
        ] {
            let said = site.fails(code, &[&restore[..], &wrong].concat());
            assert!(said.contains(says), "{wrong:?}: {said}");
            let _ = std::fs::remove_dir_all(site.path("there"));
        }

        site.ok(&[&restore[..], &elsewhere].concat());
        let leads =
            |name: &str| std::fs::read_link(site.path("there").join(name)).unwrap().display().to_string();
        assert_eq!((leads("pg_wal"), leads("log")), (wal.clone(), site.inside("log")));
        let mut started = site.start("there");
        assert_eq!(started.sql("insert into t values (0); select count(*) from t").unwrap(), "1001");
        started.stop("fast").unwrap();
        let segments = || std::fs::read_dir(site.path("wal")).unwrap().count();
        assert!(segments() > 1, "WAL is not written there");

        // Over itself: the links stay, and what the server left behind them goes.
        site.ok(&[&restore[..], &["--delta"], &elsewhere].concat());
        assert_eq!((leads("pg_wal"), segments()), (wal.clone(), 0));
        // Without being asked for, pg_wal is a folder again, and what the link led to stays as it is.
        std::fs::write(site.path("wal/kept"), "kept").unwrap();
        site.ok(&[&restore[..], &["--delta"]].concat());
        assert!(std::fs::symlink_metadata(site.path("there/pg_wal")).unwrap().is_dir());
        assert_eq!((segments(), leads("log")), (1, site.inside("their-log")));
        let started = site.start("there");
        assert_eq!(started.sql("select count(*) from t").unwrap(), "1000");
        sound(started);
    }
}
