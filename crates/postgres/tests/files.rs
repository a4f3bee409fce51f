//! PostgreSQL's own files, as real servers write them: read, checked, copied under load, restored and started.
//!
//! Runs on every version installed on this host, and on those in the chroots that `STRONGROOM_TEST_CHROOTS` names
//! (`dir:dir`; takes root).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{cx, servers};
use rustix::io::{Errno, ReadWriteFlags};
use strongroom_engine::{PageRead, Reader, Target};
use strongroom_model::entry::{Entry, EntryKind, EntryPath};
use strongroom_model::page::PAGE_SIZE;
use strongroom_model::{Lsn, WalSegment};
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions, run};
use strongroom_postgres::control::{CONTROL_FILE, ClusterState, read_stable};
use strongroom_postgres::files::{Listing, list};
use strongroom_postgres::label::{BackupLabel, TakenFrom};
use strongroom_postgres::read::{Checksums, FolderReader};
use strongroom_postgres::relation::RelationFile;
use strongroom_postgres::target::{FolderTarget, TargetOptions};
use strongroom_postgres::wal::{Scan, WalError, WalEvent, check_segment, commit_times};

const MIB: usize = 1 << 20;

fn started(binaries: &Binaries, options: &InitOptions) -> Cluster {
    let mut cluster = Cluster::init(binaries, options).unwrap();
    cluster.start().unwrap();
    cluster
}

/// Settings under which nothing disappears from `pg_wal` and prepared transactions work.
fn keeping_wal() -> InitOptions {
    let settings = "wal_keep_size = 1GB\nmax_wal_size = 4GB\nmax_prepared_transactions = 5".to_owned();
    InitOptions { settings, ..InitOptions::default() }
}

fn reader(cluster: &Cluster, listing: &Listing, start: Lsn) -> FolderReader {
    let control = read_stable(&cluster.data().join(CONTROL_FILE)).unwrap().0;
    let checks = Checksums { start, blocks_per_file: control.blocks_per_file };
    let checks = control.checksums.then_some(checks);
    FolderReader::new(cluster.data().to_owned(), listing.entries.clone().into(), checks)
}

/// Reads every file to its end; what was damaged, by path.
fn damaged(reader: &dyn Reader, listing: &Listing) -> BTreeMap<String, Vec<u32>> {
    let mut damaged = BTreeMap::new();
    let mut buf = vec![0; MIB];
    for (index, entry) in listing.entries.iter().enumerate().filter(|(_, entry)| is_file(entry)) {
        let Some(mut source) = reader.open(index).unwrap() else { continue };
        for first in (0..).step_by(MIB / PAGE_SIZE) {
            let PageRead { bytes, damaged: pages } = source.read(first, &mut buf).unwrap();
            if !pages.is_empty() {
                damaged.entry(entry.path.to_string()).or_insert_with(Vec::new).extend(pages);
            }
            if bytes < buf.len() {
                break;
            }
        }
    }
    damaged
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File(_))
}

#[test]
fn a_control_file_says_what_pg_controldata_says() {
    for binaries in servers() {
        let options = InitOptions { segment_mib: 4, ..InitOptions::default() };
        let mut cluster = started(&binaries, &options);
        cluster.sql("CHECKPOINT").unwrap();
        let read = || read_stable(&cluster.data().join(CONTROL_FILE)).unwrap().0;
        assert_eq!(read().state, ClusterState::InProduction);
        cluster.kill().unwrap();
        cluster.start().unwrap();
        cluster.stop("fast").unwrap();
        let control = read_stable(&cluster.data().join(CONTROL_FILE)).unwrap().0;
        let data = binaries.inside(cluster.data());
        let said = cluster.run("pg_controldata", &[data.as_os_str()]).unwrap();
        let said =
            |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
        assert_eq!((control.major, control.state), (binaries.major(), ClusterState::ShutDown));
        for (key, value) in [
            ("Database system identifier:", control.system_id.to_string()),
            ("Catalog version number:", control.catalog.to_string()),
            ("Latest checkpoint location:", control.checkpoint.to_string()),
            ("Latest checkpoint's REDO location:", control.redo.to_string()),
            ("Latest checkpoint's TimeLineID:", control.timeline.to_string()),
            ("Bytes per WAL segment:", control.segment_size.bytes().to_string()),
            ("Blocks per segment of large relation:", control.blocks_per_file.to_string()),
            ("Data page checksum version:", u32::from(control.checksums).to_string()),
        ] {
            assert_eq!(said(key), value, "{key}");
        }
        assert_eq!((control.min_recovery, control.segment_size.bytes()), (None, 4 << 20));
    }
}

#[test]
fn every_page_of_a_server_is_good_until_one_is_damaged() {
    for binaries in servers() {
        let mut cluster = started(&binaries, &InitOptions::default());
        cluster
            .sql(
                "CREATE TABLE t AS SELECT g AS id, repeat('x', 200) AS text FROM generate_series(1, 20000) g; \
                 CREATE INDEX ON t (id); CREATE TABLE empty (id int); VACUUM t; CHECKPOINT",
            )
            .unwrap();
        let path = cluster.sql("SELECT pg_relation_filepath('t')").unwrap();
        cluster.stop("fast").unwrap();
        let listing = list(cluster.data(), binaries.major()).unwrap();
        let relations = listing.entries.iter().filter(|entry| RelationFile::at(&entry.path).is_some());
        assert!(relations.map(Entry::size).sum::<u64>() > 4 << 20);
        let start = read_stable(&cluster.data().join(CONTROL_FILE)).unwrap().0.redo;
        assert_eq!(damaged(&reader(&cluster, &listing, start), &listing), BTreeMap::new());

        let file = std::fs::OpenOptions::new().write(true).open(cluster.data().join(&path)).unwrap();
        for page in [3, 200] {
            file.write_all_at(b"?", page * PAGE_SIZE as u64 + 5000).unwrap();
        }
        let found = damaged(&reader(&cluster, &listing, start), &listing);
        assert_eq!(found, BTreeMap::from([(path, vec![3, 200])]));
    }
}

/// A backup's bracket, in one session.
struct Bracket {
    client: tokio_postgres::Client,
    names: [&'static str; 2],
}

impl Bracket {
    async fn begin(cluster: &Cluster) -> (Bracket, Lsn) {
        let (client, connection) =
            tokio_postgres::connect(&cluster.conninfo(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let (names, arguments) = match cluster.binaries().major().number() {
            ..15 => (["pg_start_backup", "pg_stop_backup"], "'test', true, false"),
            _ => (["pg_backup_start", "pg_backup_stop"], "'test', true"),
        };
        let row = client.query_one(&format!("SELECT {}({arguments})::text", names[0]), &[]).await.unwrap();
        (Bracket { client, names }, row.get::<_, &str>(0).parse().unwrap())
    }

    /// Label and tablespace map.
    async fn end(self) -> (String, String) {
        let arguments = if self.names[1] == "pg_stop_backup" { "false, false" } else { "false" };
        let sql = format!("SELECT labelfile, spcmapfile FROM {}({arguments})", self.names[1]);
        let row = self.client.query_one(&sql, &[]).await.unwrap();
        (row.get(0), row.get(1))
    }
}

/// Copies all entries with two threads, as a backup and a restore in one would.
fn copy(listing: &Listing, reader: &dyn Reader, target: &dyn Target) {
    listing.entries.iter().for_each(|entry| target.prepare(entry).unwrap());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut buf = vec![0; MIB / 4];
                while let Some(entry) = listing.entries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if is_file(entry) {
                        copy_file(listing, entry, (reader, target), &mut buf);
                    }
                }
            });
        }
    });
}

fn copy_file(listing: &Listing, entry: &Entry, (reader, target): (&dyn Reader, &dyn Target), buf: &mut [u8]) {
    let index = listing.entries.iter().position(|other| other == entry).unwrap();
    let Some(mut source) = reader.open(index).unwrap() else { return };
    let mut sink = target.open(entry).unwrap();
    for first in (0..).step_by(buf.len() / PAGE_SIZE) {
        let read = source.read(first, buf).unwrap();
        assert_eq!(read.damaged, Vec::<u32>::new(), "{}", entry.path);
        sink.write(first, &buf[..read.bytes]).unwrap();
        if read.bytes < buf.len() {
            break;
        }
    }
    sink.close().unwrap();
}

fn put(target: &dyn Target, like: &Entry, path: &str, content: &[u8]) {
    let (path, kind) = (EntryPath::new(path).unwrap(), EntryKind::File(content.len() as u64));
    let entry = Entry { path, kind, mode: 0o600, ..like.clone() };
    target.prepare(&entry).unwrap();
    let mut sink = target.open(&entry).unwrap();
    sink.write(0, content).unwrap();
    sink.close().unwrap();
}

const SUMS: &str = "SELECT (SELECT count(*) || ' ' || sum(abalance) FROM pgbench_accounts) || ' ' || \
    (SELECT count(*) FROM spaced)";

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_copied_under_load_starts_elsewhere_and_never_without_its_label() {
    for binaries in servers() {
        let (source, space) = loaded(&binaries);
        let mut load = source.client("pgbench");
        load.args(["-c", "2", "-T", "4", "-n", "postgres"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut load = load.spawn().unwrap();
        let (bracket, start) = Bracket::begin(&source).await;
        let listing = list(source.data(), binaries.major()).unwrap();
        // What happens meanwhile is WAL's business.
        source.sql("CREATE TABLE later AS SELECT generate_series(1, 1000); DROP TABLE dropped; CREATE DATABASE newer").unwrap();
        let folder = binaries.folder("strongroom-restored-").unwrap();
        let restored = folder.path().join("data");
        let oid = listing.tablespaces[0].oid;
        let moved = folder.path().join("space");
        let options =
            TargetOptions { tablespaces: BTreeMap::from([(oid, moved.clone())]), ..TargetOptions::default() };
        let target = FolderTarget::create(&restored, options).unwrap();
        copy(&listing, &reader(&source, &listing, start), &target);
        load.wait().unwrap();
        let control = std::fs::read(source.data().join(CONTROL_FILE)).unwrap();
        let (label, map) = bracket.end().await;
        let read = BackupLabel::parse(&label).unwrap();
        assert_eq!((read.start, read.taken_from, read.label.as_str()), (start, TakenFrom::Primary, "test"));
        assert!(map.contains(&binaries.inside(space.path()).display().to_string()));
        // Replay of a label's backup goes to the end of WAL: everything up to here.
        let expected = source.sql(SUMS).unwrap();
        let like = listing.entries.iter().find(|entry| entry.path.is("PG_VERSION")).unwrap();
        put(&target, like, CONTROL_FILE, &control);
        put(&target, like, "tablespace_map", map.as_bytes());
        put(&target, like, "backup_label", label.as_bytes());
        assert!(!restored.join(CONTROL_FILE).exists());
        target.finish().unwrap();
        reads_ahead(&target, &listing);
        copy_wal(&source, &restored);
        relink(&binaries, &restored, oid, &moved);
        drop(source);
        if binaries.inside(space.path()) != space.path() {
            std::fs::remove_file(binaries.inside(space.path())).unwrap();
        }
        drop(space);

        let label = restored.join("backup_label");
        std::fs::rename(&label, restored.join("label")).unwrap();
        let mut copy = Cluster::adopt(&binaries, &restored).unwrap();
        let refused = copy.start().unwrap_err().to_string();
        assert!(refused.contains("checkpoint record"), "{refused}");
        std::fs::rename(restored.join("label"), &label).unwrap();
        copy.start().unwrap();
        assert_eq!(copy.sql(SUMS).unwrap(), expected);
        assert_eq!(copy.sql("SELECT count(*) FROM later").unwrap(), "1000");
        assert_eq!(copy.sql_in("newer", "SELECT 1").unwrap(), "1");
        assert_eq!(copy.sql("SELECT count(*) FROM unlogged").unwrap(), "0", "reset, as after a crash");
        let location = copy
            .sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space'")
            .unwrap();
        assert_eq!(PathBuf::from(location), binaries.inside(&moved));
        run(copy.client("pg_amcheck").args(["--install-missing", "--heapallindexed", "-d", "postgres"]))
            .unwrap();
        copy.stop("fast").unwrap();
        copy.run("pg_checksums", &["-c".as_ref(), "-D".as_ref(), binaries.inside(&restored).as_os_str()])
            .unwrap();
    }
}

/// A server with pgbench's tables, a tablespace, an unlogged table with rows and one to be dropped.
/// What was written past the page cache is in it once replay is about to need it, if there is room.
fn reads_ahead(target: &FolderTarget, listing: &Listing) {
    let is_large = |entry: &&Entry| entry.path.as_bytes().starts_with(b"base/") && entry.size() >= 512 << 10;
    let large = listing.entries.iter().find(is_large).unwrap();
    let path = target.path().join(OsStr::from_bytes(large.path.as_bytes()));
    let file = File::open(&path).unwrap();
    let first_page = || {
        let mut page = [0; PAGE_SIZE];
        rustix::io::preadv2(&file, &mut [IoSliceMut::new(&mut page)], 0, ReadWriteFlags::NOWAIT)
    };
    if first_page() != Err(Errno::AGAIN) {
        return println!("skipped: {} was not written past the page cache", path.display());
    }
    target.read_ahead(&cx(), large.size());
    let until = Instant::now() + Duration::from_secs(60);
    while first_page() == Err(Errno::AGAIN) {
        assert!(Instant::now() < until, "{} was not read", path.display());
        std::thread::yield_now();
    }
    assert_eq!(first_page(), Ok(PAGE_SIZE));
}

fn loaded(binaries: &Binaries) -> (Cluster, tempfile::TempDir) {
    let cluster = started(binaries, &keeping_wal());
    run(cluster.client("pgbench").args(["-i", "-q", "-s", "3", "postgres"])).unwrap();
    let space = binaries.folder("strongroom-space-").unwrap();
    let location = binaries.inside(space.path());
    if location != space.path() {
        // In a chroot, the link in pg_tblspc means something else to us than to the server: make both mean the same.
        std::os::unix::fs::symlink(space.path(), &location).unwrap();
    }
    cluster.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", location.display())).unwrap();
    cluster
        .sql(
            "CREATE TABLE spaced TABLESPACE space AS SELECT generate_series(1, 5000); \
             CREATE TABLE dropped AS SELECT generate_series(1, 5000); CREATE EXTENSION amcheck; \
             CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 5000)",
        )
        .unwrap();
    (cluster, space)
}

/// Brings the source's WAL to the copy, as `restore_command` would.
fn copy_wal(source: &Cluster, restored: &Path) {
    for file in std::fs::read_dir(source.data().join("pg_wal")).unwrap() {
        let file = file.unwrap();
        if WalSegment::parse(&file.file_name().to_string_lossy()).is_some() {
            let to = restored.join("pg_wal").join(file.file_name());
            std::fs::copy(file.path(), &to).unwrap();
            source.binaries().give(&to).unwrap();
        }
    }
}

/// In a chroot the server sees other paths than we: the link must lead where the server looks.
fn relink(binaries: &Binaries, restored: &Path, oid: u32, moved: &Path) {
    let link = restored.join("pg_tblspc").join(oid.to_string());
    assert_eq!(std::fs::read_link(&link).unwrap(), moved);
    if binaries.inside(moved) != moved {
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(binaries.inside(moved), &link).unwrap();
    }
}

#[test]
fn wal_tells_the_same_events_as_pg_waldump() {
    for binaries in servers() {
        let mut cluster = started(&binaries, &keeping_wal());
        let begin = cluster.sql("SELECT pg_current_wal_lsn()").unwrap();
        let segment = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").unwrap();
        for sql in [
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)",
            "CREATE TABLE gone (id int)",
            "BEGIN; INSERT INTO t VALUES (1000); ROLLBACK",
            "BEGIN; INSERT INTO t VALUES (101); SAVEPOINT a; INSERT INTO t VALUES (102); RELEASE a; \
             DROP TABLE gone; PREPARE TRANSACTION 'kept'",
            "COMMIT PREPARED 'kept'",
            "BEGIN; INSERT INTO t VALUES (103); PREPARE TRANSACTION 'dropped'",
            "ROLLBACK PREPARED 'dropped'",
            "SELECT pg_create_restore_point('before the change')",
            "INSERT INTO t SELECT generate_series(10000, 60000)",
            "SELECT pg_switch_wal()",
            "INSERT INTO t VALUES (99999)",
        ] {
            run(cluster.client("psql").args(["-Xqd", "postgres", "-v", "ON_ERROR_STOP=1", "-c", sql]))
                .unwrap();
        }
        cluster.stop("fast").unwrap();
        let wal = cluster.data().join("pg_wal");
        let mut seen = BTreeSet::new();
        let mut scan = Scan::default();
        let mut names: Vec<_> = std::fs::read_dir(&wal)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        for name in names.iter().filter(|name| WalSegment::parse(name).is_some() && **name >= segment) {
            scan.segment(&std::fs::read(wal.join(name)).unwrap(), &mut |event| {
                seen.insert(line_of(&event));
            });
        }
        let dumped = dumped(&cluster, &begin);
        let seen: BTreeSet<_> = seen.into_iter().filter(|line| line.0 >= begin.parse().unwrap()).collect();
        assert_eq!(seen, dumped);
        for kind in ["COMMIT", "ABORT", "RESTORE_POINT before the change"] {
            assert!(seen.iter().any(|line| line.1.starts_with(kind)), "{kind}: {seen:?}");
        }

        let control = read_stable(&cluster.data().join(CONTROL_FILE)).unwrap().0;
        let bytes = std::fs::read(wal.join(&segment)).unwrap();
        let name = WalSegment::parse(&segment).unwrap();
        let facts = check_segment(&bytes, name, control.system_id).unwrap();
        assert_eq!(
            (facts.major, facts.timeline.get(), facts.size),
            (binaries.major(), 1, control.segment_size)
        );
        let next =
            WalSegment::parse(&names[names.iter().position(|name| *name == segment).unwrap() + 1]).unwrap();
        let refused = check_segment(&bytes, next, control.system_id).unwrap_err();
        assert!(matches!(refused, WalError::ForeignPlace { .. }));
        let (first, last) = commit_times(&bytes).unwrap();
        assert!(first <= last && seen.iter().any(|line| line.1.ends_with(&last.to_string())));
    }
}

/// An event as (position, text).
fn line_of(event: &WalEvent) -> (Lsn, String) {
    match event {
        WalEvent::Commit { xid, at, lsn, .. } => (*lsn, format!("COMMIT {xid} {at}")),
        WalEvent::Abort { xid, at, lsn, .. } => (*lsn, format!("ABORT {xid} {at}")),
        WalEvent::RestorePoint { name, lsn, .. } => (*lsn, format!("RESTORE_POINT {name}")),
    }
}

/// The same, as `pg_waldump` tells it.
fn dumped(cluster: &Cluster, begin: &str) -> BTreeSet<(Lsn, String)> {
    let mut command = cluster.binaries().command("pg_waldump");
    let wal = cluster.binaries().inside(&cluster.data().join("pg_wal"));
    command.env("TZ", "UTC").arg("-p").arg(wal).args(["-s", begin]);
    // It ends with an error at the end of WAL.
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter_map(dumped_line).collect()
}

fn dumped_line(line: &str) -> Option<(Lsn, String)> {
    let between = |after: &str, before: &str| {
        line.split_once(after)?.1.split_once(before).map(|(found, _)| found.trim())
    };
    let lsn: Lsn = between("lsn: ", ",")?.parse().unwrap();
    let xid = between("tx:", ",")?;
    let what = line.split_once("desc: ")?.1.trim();
    let (kind, rest) = what.split_once(' ')?;
    let time = |text: &str| {
        let text = text.split(" UTC").next().unwrap().trim();
        let text = format!("{text}+00").parse::<strongroom_model::time::TypedTime>().unwrap();
        text.in_zone("UTC").unwrap().to_string()
    };
    let told = match kind {
        "COMMIT" | "ABORT" => format!("{kind} {xid} {}", time(rest)),
        "COMMIT_PREPARED" | "ABORT_PREPARED" => {
            let (xid, at) = rest.split_once(": ")?;
            format!("{} {xid} {}", kind.split('_').next()?, time(at))
        }
        "RESTORE_POINT" => format!("{kind} {rest}"),
        _ => return None,
    };
    Some((lsn, told))
}

#[test]
fn segments_of_every_size_are_known() {
    for binaries in servers() {
        for segment_mib in [1, 64] {
            let cluster =
                started(&binaries, &InitOptions { segment_mib, checksums: false, ..InitOptions::default() });
            let name = cluster.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").unwrap();
            let control = read_stable(&cluster.data().join(CONTROL_FILE)).unwrap().0;
            let bytes = std::fs::read(cluster.data().join("pg_wal").join(&name)).unwrap();
            let facts = check_segment(&bytes, WalSegment::parse(&name).unwrap(), control.system_id).unwrap();
            assert_eq!((facts.size, control.checksums), (control.segment_size, false));
            assert_eq!(facts.size.bytes(), u64::from(segment_mib) << 20);
        }
    }
}
