//! Exports: what `pg_basebackup` would have left, as PostgreSQL's own programs see it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Instant;

use live::{Site, digest, said, sound, versions};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions};

/// A loaded cluster with a tablespace, one recovery point of it, and what was in it at that point.
struct Exportable {
    site: Site,
    point: String,
    digest: String,
    oid: String,
}

impl Exportable {
    fn new(binaries: &Binaries) -> Exportable {
        let site = Site::new(binaries, InitOptions::default());
        folder(&site, "fast");
        // A name that JSON has no words for, and one that it must escape.
        for name in [&b"odd \xff"[..], b"odd \"q\" \\ \n"] {
            let path = site.cluster.data().join(OsStr::from_bytes(name));
            std::fs::write(&path, name).unwrap();
            site.binaries.give(&path).unwrap();
        }
        let sql = |statements: &str| site.cluster.sql(statements).unwrap();
        sql(&format!("create tablespace fast location '{}'", site.inside("fast")));
        let load = site.load(2);
        // A point under load has pages that only its WAL makes whole; the second shares most of its pages with it.
        site.backup();
        site.quiet(load);
        sql("create table sparse tablespace fast as select n, repeat(md5(n::text), 9) as v from generate_series(1, 20000) n;
             create index on sparse (v); delete from sparse where n % 3 = 0; checkpoint");
        let digest = everything(&site.cluster);
        let point = site.backup();
        let oid = sql("select oid from pg_tablespace where spcname = 'fast'");
        // Behind the point's end: in no export of it.
        sql("drop table pgbench_history; insert into sparse values (-1, 'late')");
        site.ship(&site.cluster);
        Exportable { site, point, digest, oid }
    }

    /// The server's program that checks a base backup.
    fn verifies(&self, folder: &str) -> Output {
        self.site.binaries.command("pg_verifybackup").arg(self.site.inside(folder)).output().unwrap()
    }

    /// The export passes, its WAL included.
    fn is_accepted(&self, folder: &str) {
        let output = self.verifies(folder);
        let said = said(&output);
        assert!(output.status.success() && said.contains("successfully verified"), "{said}");
    }

    /// A server starts there, is consistent without any setting or signal, and has what the point had.
    fn starts(&self, folder: &str, tablespace: &str) {
        let mut started = Cluster::adopt(&self.site.binaries, &self.site.path(folder)).unwrap();
        started.configure("archive_mode = off").unwrap();
        started.start().unwrap();
        assert_eq!(everything(&started), self.digest, "{:?}", self.site.binaries);
        let location = "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'";
        assert_eq!(started.sql(location).unwrap(), self.site.inside(tablespace));
        assert_eq!(started.sql("select timeline_id from pg_control_checkpoint()").unwrap(), "1");
        sound(started);
    }
}

fn everything(cluster: &Cluster) -> String {
    let sparse = "select count(*), md5(string_agg(s::text, '|' order by n)) from sparse s";
    format!("{}\n{}", digest(cluster), cluster.sql(sparse).unwrap())
}

/// A new folder of the server's user, as a server wants its own to be.
fn folder(site: &Site, name: &str) -> PathBuf {
    std::fs::DirBuilder::new().mode(0o700).create(site.path(name)).unwrap();
    site.binaries.give(&site.path(name)).unwrap();
    site.path(name)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_plain_export_is_verified_by_postgresql_and_starts() {
    for binaries in versions() {
        let with = Exportable::new(&binaries);
        let site = &with.site;
        let map = format!("fast={}", site.inside("fast2"));
        let to = site.inside("plain");
        let words = ["export", "main", "--to", &to, "--tablespace-map", &map, "--point", &with.point];
        let planned = site.ok(&[&words[..], &["--dry-run"]].concat());
        assert!(
            planned.contains(&with.point) && planned.contains("room") && planned.contains("fast2"),
            "{planned}"
        );
        assert!(!site.path("plain").exists(), "a dry run wrote something");
        let told = site.ok(&[&words[..], &["--output", "json"]].concat());
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["exported"]["point"], with.point.as_str());

        let root = site.path("plain");
        let found = names(&root);
        for present in ["PG_VERSION", "backup_label", "backup_manifest", "pg_wal"] {
            assert!(found.iter().any(|name| name == present), "{present} is not among {found:?}");
        }
        for absent in ["recovery.signal", "standby.signal", "tablespace_map", "tablespace_map.old"] {
            assert!(!found.iter().any(|name| name == absent), "{absent} is among {found:?}");
        }
        let settings = std::fs::read_to_string(root.join("postgresql.auto.conf")).unwrap();
        assert!(!settings.contains("restore_command") && !settings.contains("recovery_target"), "{settings}");
        let segments = told["exported"]["wal"].as_array().unwrap();
        for segment in segments {
            let segment = segment.as_str().unwrap();
            assert!(root.join("pg_wal").join(segment).exists(), "{segment}");
            assert!(root.join(format!("pg_wal/archive_status/{segment}.done")).exists(), "{segment}");
        }
        let (major, manifest) =
            (binaries.major().number(), std::fs::read_to_string(root.join("backup_manifest")).unwrap());
        assert_eq!(manifest.contains("System-Identifier"), major >= 17);
        assert!(manifest.contains("\"Encoded-Path\": \"6f646420ff\""), "the odd name is missing");
        with.is_accepted("plain");
        refutes(&with, &root, segments[0].as_str().unwrap());
        with.is_accepted("plain");
        with.starts("plain", "fast2");
    }
}

/// The acceptance means something: a byte of a page, of a tablespace's file and of the WAL, and a lost file are found.
fn refutes(with: &Exportable, root: &Path, segment: &str) {
    let of_tablespace = with.site.cluster.sql("select pg_relation_filepath('sparse')").unwrap();
    for (path, at) in [
        ("PG_VERSION", 0),
        ("global/pg_control", 300),
        (&of_tablespace[..], 8192 * 3 + 77),
        (&format!("pg_wal/{segment}"), 0),
    ] {
        // In a chroot the tablespace's link leads elsewhere for us.
        let link = format!("pg_tblspc/{}/", with.oid);
        let path = match path.strip_prefix(&link) {
            Some(rest) => with.site.path("fast2").join(rest),
            None => root.join(path),
        };
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(!with.verifies("plain").status.success(), "a flipped byte of {} went unseen", path.display());
        std::fs::write(&path, &good).unwrap();
    }
    let (label, away) = (root.join("backup_label"), with.site.path("label"));
    std::fs::rename(&label, &away).unwrap();
    assert!(said(&with.verifies("plain")).contains("backup_label"));
    std::fs::rename(&away, &label).unwrap();
}

#[test]
fn archives_unpack_to_what_postgresql_verifies_and_starts() {
    for binaries in versions() {
        let with = Exportable::new(&binaries);
        let site = &with.site;
        site.ok(&[
            "export",
            "--to",
            &site.inside("archives"),
            "--format",
            "pg_basebackup",
            "--tar",
            "--latest",
        ]);
        let space = format!("{}.tar", with.oid);
        assert_eq!(names(&site.path("archives")), [&space, "backup_manifest", "base.tar", "pg_wal.tar"]);

        let unpacked = folder(site, "unpacked");
        let unpack = |archive: &str, to: &Path| {
            let mut tar = binaries.command("/bin/tar");
            tar.args(["--extract", "--file", &site.inside(&format!("archives/{archive}"))]);
            tar.arg("--directory").arg(binaries.inside(to));
            let output = tar.output().unwrap();
            assert!(output.status.success() && said(&output).is_empty(), "{archive}: {}", said(&output));
        };
        unpack("base.tar", &unpacked);
        unpack("pg_wal.tar", &unpacked.join("pg_wal"));
        unpack(&space, &folder(site, "fast3"));
        let link = unpacked.join("pg_tblspc").join(&with.oid);
        assert!(!link.exists(), "the server makes the links");
        std::os::unix::fs::symlink(site.inside("fast3"), &link).unwrap();
        std::fs::copy(site.path("archives/backup_manifest"), unpacked.join("backup_manifest")).unwrap();
        binaries.give(&unpacked.join("backup_manifest")).unwrap();
        with.is_accepted("unpacked");

        // From here on the map counts; the server replaces the link by what it says.
        let map = unpacked.join("tablespace_map");
        let mapped = std::fs::read_to_string(&map).unwrap();
        assert_eq!(mapped, format!("{} {}\n", with.oid, site.inside("fast")), "as the server gave it");
        std::fs::write(&map, mapped.replace(&site.inside("fast"), &site.inside("fast3"))).unwrap();
        with.starts("unpacked", "fast3");
    }
}

/// Against the real one: the same archives, the same members, the same files in the manifest.
#[test]
fn an_export_has_what_pg_basebackup_has() {
    for binaries in versions() {
        let quiet = InitOptions { settings: "autovacuum = off".into(), ..InitOptions::default() };
        let site = Site::new(&binaries, quiet);
        folder(&site, "fast");
        let sql = |statements: &str| site.cluster.sql(statements).unwrap();
        sql(&format!("create tablespace fast location '{}'", site.inside("fast")));
        sql("create table t tablespace fast as select n from generate_series(1, 20000) n;
             create unlogged table gone as select 1; create temp table mine as select 1; checkpoint");
        site.backup();
        site.ok(&["export", "--tar", "--to", &site.inside("ours")]);
        let mut theirs = site.cluster.client("pg_basebackup");
        theirs.args(["--format=tar", "--checkpoint=fast", "--pgdata", &site.inside("theirs")]);
        let output = theirs.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(names(&site.path("ours")), names(&site.path("theirs")));
        let members = |of: &str, archive: &str| -> BTreeSet<String> {
            let mut tar = binaries.command("/bin/tar");
            let listing =
                tar.args(["--list", "--file", &site.inside(&format!("{of}/{archive}"))]).output().unwrap();
            assert!(listing.status.success(), "{}", said(&listing));
            let listing = String::from_utf8(listing.stdout).unwrap();
            listing.lines().map(|line| line.trim_start_matches("./").to_owned()).collect()
        };
        for archive in
            names(&site.path("ours")).iter().filter(|name| name.ends_with(".tar") && *name != "pg_wal.tar")
        {
            let (ours, theirs) = (members("ours", archive), members("theirs", archive));
            let differing: Vec<_> = ours.symmetric_difference(&theirs).collect();
            assert!(!ours.is_empty() && differing.is_empty(), "{archive} on {binaries:?}: {differing:?}");
        }
        // Theirs is a later one, and ends where the backup did. Ours came whole out of the archive, and is noted so.
        let in_archive =
            |of: &str| members(of, "pg_wal.tar").into_iter().partition(|name| name.ends_with(".done"));
        let (done, segments): (Vec<String>, Vec<String>) = in_archive("ours");
        let (_, theirs): (Vec<String>, Vec<String>) = in_archive("theirs");
        assert_eq!((segments.len(), segments[0].len()), (theirs.len(), theirs[0].len()));
        let noted: Vec<String> = segments.iter().map(|name| format!("archive_status/{name}.done")).collect();
        assert_eq!(done, noted);
        let manifest = |of: &str| -> serde_json::Value {
            let text = std::fs::read(site.path(of).join("backup_manifest")).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let (ours, theirs) = (manifest("ours"), manifest("theirs"));
        for same in ["PostgreSQL-Backup-Manifest-Version", "System-Identifier"] {
            assert_eq!(ours[same], theirs[same], "{same}");
        }
        let files = |manifest: &serde_json::Value| -> BTreeSet<String> {
            // What a quiet server writes anew for each: the labels, and what its checkpoints touch.
            let changes =
                ["backup_label", "tablespace_map", "global/pg_control", "pg_logical/replorigin_checkpoint"];
            let files = manifest["Files"].as_array().unwrap().iter();
            let kept = files.filter(|file| !changes.contains(&file["Path"].as_str().unwrap()));
            kept.map(|file| file.to_string()).collect()
        };
        let differing: Vec<String> = files(&ours).symmetric_difference(&files(&theirs)).cloned().collect();
        assert!(differing.is_empty(), "{differing:#?}");
    }
}

/// The timeline's history goes along, and the server starts on that timeline.
#[test]
fn an_export_of_a_promoted_cluster_has_its_history() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.cluster.sql("create table t as select 1 as n").unwrap();
    site.backup();
    site.ship(&site.cluster);
    let promoted = site.restore("promoted", &[]);
    promoted.sql("insert into t values (2)").unwrap();
    site.configure("promoted.toml", &promoted);
    let point = site.backup_with("promoted.toml");
    let to = site.inside("exported");
    let told = site.ok(&["export", "--to", &to, "--point", &point, "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["exported"]["wal"][0], "00000002.history");
    let output = binaries.command("pg_verifybackup").arg(&to).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let mut started = Cluster::adopt(&binaries, &site.path("exported")).unwrap();
    started.configure("archive_mode = off").unwrap();
    started.start().unwrap();
    assert_eq!(started.sql("select count(*) from t").unwrap(), "2");
    assert_eq!(started.sql("select timeline_id from pg_control_checkpoint()").unwrap(), "2");
}

/// Stopped or killed at any moment: what is there is whole, or plainly not.
#[test]
fn an_export_that_was_stopped_is_plainly_unfinished() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.cluster
        .sql("create table t as select n, repeat(md5(n::text), 8) as v from generate_series(1, 150000) n")
        .unwrap();
    site.backup();
    let mut unfinished = 0;
    for (form, mark) in [(&[][..], "global/pg_control"), (&["--tar"], "backup_manifest")] {
        let began = Instant::now();
        site.ok(&[&["export", "--to", &site.inside(mark)], form].concat());
        let whole = began.elapsed();
        for moment in 1..=6 {
            let to = format!("{moment}{}", form.concat());
            let inside = site.inside(&to);
            let words = [&["export", "--to", &inside][..], form].concat();
            let mut export =
                site.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // The moment is the point of the test, so here time itself is what is waited for.
            std::thread::sleep(whole * moment / 7);
            let signal = if moment % 2 == 0 { Signal::INT } else { Signal::KILL };
            kill_process(Pid::from_raw(export.id() as i32).unwrap(), signal).unwrap();
            let code = export.wait().unwrap().code();
            if code == Some(0) {
                assert!(site.path(&to).join(mark).exists());
                continue;
            }
            // A request that comes before it can be heard kills.
            assert!(code.is_none() || code == Some(130) && signal == Signal::INT, "{code:?}");
            assert!(!site.path(&to).join(mark).exists() || signal == Signal::KILL, "stopped, and complete");
            if site.path(&to).join("PG_VERSION").exists()
                || site.path(&to).join("base.tar.strongroom-unfinished").exists()
            {
                unfinished += 1;
                site.fails(10, &words);
            }
        }
    }
    assert!(unfinished > 0, "none of twelve was stopped while it wrote");
}

/// WAL and packs that are damaged in the first vault come from its replica; alone it refuses.
#[test]
fn an_export_goes_on_with_what_a_replica_has() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.cluster.sql("create table t as select n, md5(n::text) from generate_series(1, 20000) n").unwrap();
    let point = site.backup();
    site.ship(&site.cluster);
    let alone = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let also = format!(
        "[[also]]\nname = \"second\"\nurl = \"{}\"\nidentity_file = \"{}\"\n[source.",
        site.inside("second"),
        site.inside("identity.txt")
    );
    let both = alone.replace("[source.", &also);
    std::fs::write(site.path("both.toml"), both).unwrap();
    site.binaries.give(&site.path("both.toml")).unwrap();
    let with_both = |code: i32, words: &[&str]| {
        let output = site.command_with("both.toml", words).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", said(&output));
        said(&output)
    };
    with_both(0, &["init", "--vault", "second", "--copy-of", "vault"]);
    with_both(0, &["copy", "--to", "second"]);
    let planned = site.ok(&["export", "--to", &site.inside("alone"), "--dry-run", "--output", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&planned).unwrap();
    let segment = plan["last_segment"].as_str().unwrap().to_owned();
    let objects = objects_of(&site.path("vault"), &segment);
    let packs = site.path(&format!("vault/sources/main/points/{point}/packs"));
    for path in objects.iter().chain([&packs.join(names(&packs).remove(0))]) {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(path, bytes).unwrap();
    }
    let refused = site.fails(8, &["export", "--to", &site.inside("alone")]);
    assert!(refused.contains("is not whole"), "{refused}");
    let told = with_both(0, &["export", "--to", &site.inside("helped")]);
    assert!(told.contains("packs are missing, damaged or out of reach"), "{told}");
    let output = binaries.command("pg_verifybackup").arg(site.inside("helped")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// The objects of a vault with this in their names.
fn objects_of(vault: &Path, part: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![vault.to_owned()]);
    while let Some(folder) = folders.pop() {
        for name in names(&folder) {
            let path = folder.join(&name);
            match path.is_dir() {
                true => folders.push(path),
                false if name.contains(part) => found.push(path),
                false => {}
            }
        }
    }
    assert!(!found.is_empty(), "the vault has no {part}");
    found
}

#[test]
fn what_an_export_refuses() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.cluster.sql("create table t as select n, md5(n::text) from generate_series(1, 20000) n").unwrap();
    let point = site.backup();

    // Folders with anything in them, which stays as it is.
    std::fs::write(folder(&site, "full").join("precious"), "mine").unwrap();
    for tar in [&[][..], &["--tar"]] {
        let full = site.inside("full");
        let refused = site.fails(10, &[&["export", "--to", &full][..], tar].concat());
        assert!(refused.contains("precious") && refused.contains("hint:"), "{refused}");
        assert_eq!(names(&site.path("full")), ["precious"]);
    }
    let running = site.binaries.inside(site.cluster.data()).display().to_string();
    assert!(site.fails(10, &["export", "--to", &running]).contains("a server runs in it"));

    let to = site.inside("to");
    let unknown = site.fails(9, &["export", "--to", &to, "--point", "20200101T000000Z-00000000"]);
    assert!(unknown.contains("20200101T000000Z-00000000 cannot be restored"), "{unknown}");
    site.fails(2, &["export", "--to", &to, "--tar", "--tablespace-map", "a=/b"]);
    site.fails(2, &["export", "--to", &to, "--format", "zip"]);
    assert!(!site.path("to").exists());

    // A damaged pack: the export stops, names what is lost, and is no cluster.
    let packs = site.path(&format!("vault/sources/main/points/{point}/packs"));
    let pack = packs.join(names(&packs).remove(0));
    let good = std::fs::read(&pack).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 4;
    std::fs::write(&pack, &bad).unwrap();
    for (name, tar, unfinished) in [
        ("lost", &[][..], "global/pg_control.strongroom-unfinished"),
        ("lost-tar", &["--tar"], "base.tar.strongroom-unfinished"),
    ] {
        let to = site.inside(name);
        let refused = site.fails(8, &[&["export", "--to", &to][..], tar].concat());
        assert!(refused.contains("is not whole") && refused.contains("loses pages"), "{refused}");
        assert!(site.path(name).join(unfinished).exists());
        for finished in ["global/pg_control", "base.tar", "backup_manifest", "strongroom_lost_pages.json"] {
            assert!(!site.path(name).join(finished).exists(), "{finished}");
        }
    }
    std::fs::write(&pack, &good).unwrap();

    // The WAL that the point needs is gone.
    let planned = site.ok(&["export", "--to", &to, "--dry-run", "--output", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&planned).unwrap();
    let segment = plan["first_segment"].as_str().unwrap().to_owned();
    for object in objects_of(&site.path("vault"), &segment) {
        std::fs::remove_file(object).unwrap();
    }
    let missing = site.fails(9, &["export", "--to", &to, "--point", &point]);
    assert!(missing.contains(&format!("needs WAL segment {segment}")), "{missing}");
    assert!(!site.path("to").exists());
}
