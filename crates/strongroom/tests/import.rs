//! Files of `pg_dump`, imported, and exported again.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use live::{said, until};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions, run};

struct Place {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Option<Place> {
        let binaries = match Binaries::newest() {
            Ok(binaries) => binaries,
            Err(reason) => {
                assert!(std::env::var_os("CI").is_none(), "{reason}");
                println!("not tested: {reason}");
                return None;
            }
        };
        let folder = binaries.folder("strongroom-import-").unwrap();
        let mut cluster = Cluster::init(&binaries, &InitOptions::default()).unwrap();
        cluster.start().unwrap();
        cluster.sql("create role keeper").unwrap();
        cluster.sql("create database shop").unwrap();
        let sql = "create table orders (id serial primary key, note text); create index on orders (note); \
                   insert into orders (note) select 'o' || n from generate_series(1, 5000) n; alter table orders owner to keeper; \
                   select lo_from_bytea(4242, '\\x0102ff')";
        cluster.sql_in("shop", sql).unwrap();
        let place = Place { cluster, folder };
        std::fs::create_dir(place.path("scratch")).unwrap();
        place.cluster.binaries().give(&place.path("scratch")).unwrap();
        let settings = format!(
            "[vault]\nurl = \"{}\"\nidentity_file = \"{}\"\n",
            place.path("vault").display(),
            place.path("identity.txt").display()
        );
        std::fs::write(place.path("strongroom.toml"), settings).unwrap();
        place.ok(&["init", "--generate-identity", &place.name("identity.txt")]);
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.arg("--config").arg(self.path("strongroom.toml")).args(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        said(&output)
    }

    fn dump(&self, name: &str, arguments: &[&str]) -> String {
        let mut command = self.cluster.client("pg_dump");
        run(command.args(arguments).arg("-d").arg("shop").arg("-f").arg(self.path(name))).unwrap();
        self.name(name)
    }

    fn import(&self, file: &str) -> Vec<String> {
        ["import", file, "--source", "shop", "--scratch", &self.name("scratch")].map(str::to_owned).to_vec()
    }

    fn is_clean(&self) {
        let left: Vec<_> = std::fs::read_dir(self.path("scratch")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn compress(program: &str, file: &str) {
    run(Command::new(program).args(["-k", "-f"]).arg(Path::new(file))).unwrap();
}

#[test]
fn files_of_every_format_come_in_and_go_out() {
    let Some(place) = Place::new() else { return };
    let plain = place.dump("shop.sql", &[]);
    compress("gzip", &plain);
    compress("zstd", &plain);
    let (gzip, zstd) = (format!("{plain}.gz"), format!("{plain}.zst"));
    let files = [
        plain,
        gzip,
        zstd,
        place.dump("made.sql", &["-C"]),
        place.dump("shop.dump", &["-Fc"]),
        place.dump("shop.dir", &["-Fd"]),
        place.dump("shop.tar", &["-Ft"]),
    ];
    for (number, file) in files.iter().enumerate() {
        let said = place.ok(&[&words(&place.import(file))[..], &["--output", "json"]].concat());
        assert!(said.contains("blake3"), "{said}");
        place.is_clean();
        let out = place.name(&format!("out{number}.sql"));
        place.ok(&["export", "shop", "--format", "sql", "--to", &out]);
        let database = format!("again{number}");
        place.cluster.sql(&format!("create database {database}")).unwrap();
        place.cluster.binaries().give(Path::new(&out)).unwrap();
        let mut command = place.cluster.client("psql");
        run(command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &database, "-f", &out])).unwrap();
        let sum =
            "select count(*) || ' ' || max(id) || ' ' || (select encode(lo_get(4242), 'hex')) from orders";
        assert_eq!(place.cluster.sql_in(&database, sum).unwrap(), "5000 5000 0102ff", "{file}");
        let owner = "select tableowner from pg_tables where tablename = 'orders'";
        assert_eq!(place.cluster.sql_in(&database, owner).unwrap(), "keeper", "{file}");
    }
}

#[test]
fn a_point_goes_out_as_a_folder_and_through_a_pipe() {
    let Some(place) = Place::new() else { return };
    let file = place.dump("shop.dump", &["-Fc"]);
    place.ok(&words(&place.import(&file)));
    let folder = place.name("out");
    let directory = ["export", "shop", "--format", "directory", "--compress", "gzip", "--to", &folder];
    let plan = place.ok(&[&directory[..], &["--dry-run"]].concat());
    assert!(plan.contains("rows of 1 tables") && !place.path("out").exists(), "{plan}");
    place.ok(&directory);
    run(Command::new("chmod").args(["-R", "a+rX", &folder])).unwrap();
    place.cluster.sql("create database folder").unwrap();
    run(place.cluster.client("pg_restore").args(["--exit-on-error", "-j", "2", "-d", "folder", &folder]))
        .unwrap();
    let sql = place.ok(&["export", "shop", "--format", "sql", "--to", "-"]);
    place.cluster.sql("create database piped").unwrap();
    place.cluster.sql_in("piped", &sql).unwrap();
    for database in ["folder", "piped"] {
        let sum = "select count(*) || ' ' || sum(length(note)) || ' ' || (select encode(lo_get(4242), 'hex')) from orders";
        let sums = [database, "shop"].map(|database| place.cluster.sql_in(database, sum).unwrap());
        assert_eq!(sums[0], sums[1], "{database}");
    }
    // As scripts name their files, and for whoever has other roles.
    let template = place.name("{source}-backup-{time}.sql.zst");
    let flags = ["--no-owner", "--no-privileges", "--output", "json"];
    let told = place.ok(&[&["export", "shop", "--format", "sql", "--to", &template][..], &flags].concat());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let to = told["report"]["to"].as_str().unwrap();
    let stamp =
        to.strip_prefix(&place.name("shop-backup-")).and_then(|rest| rest.strip_suffix(".sql.zst")).unwrap();
    assert!(stamp.len() == 15 && stamp.starts_with("20") && stamp.as_bytes()[8] == b'_', "{to}");
    let sql = run(Command::new("zstd").args(["-dc", to])).unwrap();
    let sql = String::from_utf8(sql.stdout).unwrap();
    assert!(
        sql.contains("lo_create('4242')") && !sql.contains("OWNER TO") && !sql.contains("GRANT"),
        "{sql}"
    );
    for (words, why) in [
        (&["--format", "sql", "--to", "{database}.sql"][..], "nothing is called {database}"),
        (&["--format", "sql", "--to", "{time.sql"], "a { has no }"),
        (&["--format", "directory", "--to", "x", "--no-owner"], "pg_restore has flags of these names"),
        (&["--format", "directory", "--to", "-"], "a folder cannot be written to standard output"),
        (&["--format", "sql", "--to", "-", "--output", "json"], "cannot hold both the dump and JSON"),
        (&["--format", "directory", "--to", &folder], "is there already"),
        (&["--format", "directory", "--to", "x", "--programs", "/x"], "--programs concerns SQL"),
        (&["--format", "sql", "--to", "x", "--programs", "/nowhere"], "there is none in /nowhere"),
    ] {
        let said = place.refused(&[&["export", "shop"], words].concat());
        assert!(said.contains(why), "{words:?}: {said}");
    }
}

/// A dump that takes for ever, so that whatever happens happens midway.
const ENDLESS: &str = "-- PostgreSQL database dump\ncreate table t (a int);\nselect pg_sleep(600);\n\
                       -- PostgreSQL database dump complete\n";

#[test]
fn an_import_that_is_stopped_or_killed_takes_its_server_along() {
    let Some(place) = Place::new() else { return };
    let endless = place.name("endless.sql");
    std::fs::write(&endless, ENDLESS).unwrap();
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.arg("--config").arg(place.path("strongroom.toml")).args(place.import(&endless));
        let mut import = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let scratch = || std::fs::read_dir(place.path("scratch")).unwrap().map(|entry| entry.unwrap().path());
        until("the scratch server to run", || {
            assert_eq!(import.try_wait().unwrap(), None, "the import ended before it could be stopped");
            scratch().any(|folder| folder.join(".s.PGSQL.5432").exists())
        });
        let pids: Vec<String> = scratch()
            .filter_map(|folder| std::fs::read_to_string(folder.join("data/postmaster.pid")).ok())
            .map(|text| text.lines().next().unwrap().to_owned())
            .collect();
        kill_process(Pid::from_raw(import.id() as i32).unwrap(), signal).unwrap();
        assert_eq!(import.wait().unwrap().code(), code);
        until("the scratch folder to be removed", || scratch().next().is_none());
        assert_eq!(pids.len(), 1);
        until("the scratch server to end", || !Path::new("/proc").join(&pids[0]).exists());
    }
    let file = place.dump("shop.sql", &[]);
    place.ok(&words(&place.import(&file)));
    place.is_clean();
    let listed = place.ok(&["list", "shop"]);
    assert_eq!(listed.matches(" ok").count(), 1, "{listed}");
}

#[test]
fn what_is_not_whole_leaves_no_point_and_no_server() {
    let Some(place) = Place::new() else { return };
    let plain = place.dump("shop.sql", &[]);
    compress("gzip", &plain);
    compress("zstd", &plain);
    let gzip = std::fs::read(format!("{plain}.gz")).unwrap();
    let zstd = std::fs::read(format!("{plain}.zst")).unwrap();
    let text = std::fs::read_to_string(&plain).unwrap();
    let custom = std::fs::read(place.dump("shop.dump", &["-Fc"])).unwrap();
    for (name, bytes, why) in [
        ("cut.sql.gz", gzip[..gzip.len() / 2].to_vec(), "cannot be read to the end"),
        ("cut.sql.zst", zstd[..zstd.len() / 2].to_vec(), "cannot be read to the end"),
        ("cut.sql", text.as_bytes()[..text.len() / 2].to_vec(), "truncated"),
        ("none.sql", Vec::new(), "it is empty"),
        ("noise.dump", gzip.iter().rev().copied().collect(), "it holds NUL bytes"),
        ("letter.sql", b"Dear colleague,\nplease restore the database.\n".to_vec(), "it is no dump"),
        (
            "cut.dump",
            custom[..custom.len() / 2].to_vec(),
            "it does not restore: pg_restore said: pg_restore: error: could not ",
        ),
        (
            "bad.sql",
            text.replace("note text", "note nonsense").into_bytes(),
            "type \"nonsense\" does not exist",
        ),
        (
            "role.sql",
            b"create table t (a int); alter table t owner\nto somebody;\n".to_vec(),
            "role \"somebody\"",
        ),
    ] {
        let file = place.name(name);
        std::fs::write(&file, bytes).unwrap();
        let said = place.refused(&words(&place.import(&file)));
        assert!(said.contains(why), "{name}: {said}");
        place.is_clean();
    }
    let listed = place.run(&["list", "shop"]);
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("restores"), "{listed:?}");
}
