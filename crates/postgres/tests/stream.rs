//! What a server sends, held against what a listing of its files gives: the same entries with the same content, on every
//! version there is.
//!
//! Runs on every version installed on this host, and on those in the chroots that `STRONGROOM_TEST_CHROOTS` names
//! (`dir:dir`; takes root).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness::{Server, cx, servers};
use strongroom_engine::{
    BackupSession, Engine, EngineError, Sent, Session, StartOptions, Stopped, StreamSession,
};
use strongroom_model::entry::{Entry, EntryKind};
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::control::Control;
use strongroom_postgres::facts::PostgresFacts;
use strongroom_postgres::relation::RelationFile;
use strongroom_postgres::session::{Access, Physical};

fn started(binaries: &Binaries, settings: &str) -> Cluster {
    let settings = format!("archive_mode = on\narchive_command = 'true'\nautovacuum = off\n{settings}");
    let mut cluster = Cluster::init(binaries, &InitOptions { settings, ..InitOptions::default() }).unwrap();
    cluster.start().unwrap();
    cluster
}

fn physical(cluster: &Cluster, access: Access) -> Physical {
    let conninfo = Conninfo::read(&cluster.conninfo(), &|_| None).unwrap();
    Physical::new(conninfo, Some(cluster.data().to_owned()), access)
}

fn options() -> StartOptions {
    StartOptions { label: "it's a label".into(), fast: true }
}

async fn sending(physical: &Physical) -> Box<dyn StreamSession> {
    match physical.start(&cx(), &options()).await.unwrap() {
        Session::Stream(session) => session,
        Session::Files(_) => panic!("it is read"),
    }
}

async fn reading(physical: &Physical) -> Box<dyn BackupSession> {
    match physical.start(&cx(), &options()).await.unwrap() {
        Session::Files(session) => session,
        Session::Stream(session) => panic!("it is sent: {}", session.reason()),
    }
}

/// Everything that is sent, in the order in which it comes.
async fn everything(session: &mut dyn StreamSession) -> Result<Vec<(Entry, Vec<u8>)>, EngineError> {
    let mut all: Vec<(Entry, Vec<u8>)> = Vec::new();
    while let Some(sent) = session.next(&cx()).await? {
        match sent {
            Sent::Entry(entry) => all.push((entry, Vec::new())),
            Sent::Content(bytes) => all.last_mut().unwrap().1.extend_from_slice(&bytes),
        }
    }
    Ok(all)
}

fn late<'s>(stopped: &'s Stopped, path: &str) -> &'s [u8] {
    stopped.late.iter().find(|late| late.entry.path.is(path)).map(|late| &late.content[..]).unwrap()
}

const TABLES: &str = "
create table t as select n, md5(n::text) as v from generate_series(1, 30000) n;
create index on t (n);
create table away tablespace spot as select n from generate_series(1, 20000) n;
create unlogged table fleeting tablespace spot as select n from generate_series(1, 20000) n;
create database other;
checkpoint;";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_what_is_listed_and_read() {
    for binaries in servers() {
        let cluster = started(&binaries, "");
        let place = Place::new(&binaries);
        let inside = place.inside.display().to_string();
        cluster.sql(&format!("create tablespace spot location '{inside}'")).unwrap();
        cluster.sql(TABLES).unwrap();
        // What has no place in a backup: recovery's signals, and the remains of others.
        std::fs::write(cluster.data().join("backup_label.old"), "old").unwrap();
        binaries.give(&cluster.data().join("backup_label.old")).unwrap();

        let mut session = sending(&physical(&cluster, Access::Stream)).await;
        assert!(session.estimate() > 10 << 20, "{}", session.estimate());
        let (begun, checks) = (session.started().clone(), session.checks().unwrap());
        let sent = everything(&mut *session).await.unwrap();
        let stopped = session.stop(&cx(), 0).await.unwrap();
        for (entry, content) in &sent {
            assert_eq!(entry.size(), content.len() as u64, "{}", entry.path);
            assert_eq!(checks.damaged(&entry.path, 0, content), [0; 0], "{}", entry.path);
        }
        let order: Vec<String> = stopped.late.iter().map(|late| late.entry.path.to_string()).collect();
        assert_eq!(order, ["global/pg_control", "tablespace_map", "backup_label"]);
        let label = String::from_utf8(late(&stopped, "backup_label").to_vec()).unwrap();
        assert!(label.contains("LABEL: it's a label\n"), "{label}");
        assert!(label.contains(&format!("START WAL LOCATION: {} ", begun.lsn)), "{label}");
        let control = Control::parse(late(&stopped, "global/pg_control")).unwrap();
        assert_eq!((control.system_id, control.timeline), (begun.lineage, begun.timeline));
        assert!(stopped.lsn > begun.lsn && stopped.at >= begun.at && stopped.timeline == begun.timeline);
        let facts: PostgresFacts = serde_json::from_value(stopped.facts.clone()).unwrap();
        assert_eq!((facts.tablespaces.len(), facts.start_lsn, &facts.backup_label), (1, begun.lsn, &label));

        compare(&cluster, &sent, &stopped, &inside).await;
    }
}

/// A folder for a tablespace, under one path for the server and for us: in a chroot it is somewhere else.
struct Place {
    inside: PathBuf,
    alias: Option<PathBuf>,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new(binaries: &Binaries) -> Place {
        let folder = binaries.folder("strongroom-place-").unwrap();
        let place = folder.path().join("a place, far away");
        std::fs::create_dir(&place).unwrap();
        binaries.give(&place).unwrap();
        let inside = binaries.inside(&place);
        let alias = (inside != place).then(|| binaries.inside(folder.path()));
        if let Some(alias) = &alias {
            std::fs::create_dir(alias).unwrap();
            std::os::unix::fs::symlink(&place, &inside).unwrap();
        }
        Place { inside, alias, _folder: folder }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.alias.iter().for_each(|alias| drop(std::fs::remove_dir_all(alias)));
    }
}

/// Holds what was sent against a listing.
async fn compare(cluster: &Cluster, sent: &[(Entry, Vec<u8>)], stopped: &Stopped, place: &str) {
    let listing = reading(&physical(cluster, Access::Files)).await;
    let describe = |entry: &Entry| {
        let kind = match &entry.kind {
            EntryKind::File(size) => format!("file of {size}"),
            EntryKind::Folder => "folder".to_owned(),
            EntryKind::Link(target) => format!("link to {}", String::from_utf8_lossy(target)),
            EntryKind::Stream { .. } => unreachable!("files are not streams"),
        };
        (entry.path.to_string(), (kind, entry.mode, entry.owner.uid, entry.owner.gid))
    };
    let of_sent: BTreeMap<_, _> = sent.iter().map(|(entry, _)| entry).map(describe).collect();
    let of_listing: BTreeMap<_, _> = listing.entries().iter().map(describe).collect();
    for (path, expected) in &of_listing {
        assert_eq!(of_sent.get(path), Some(expected), "{path}");
    }
    let more: Vec<_> = of_sent.keys().filter(|path| !of_listing.contains_key(*path)).collect();
    assert_eq!(more, [""; 0], "sent and not listed");
    assert_eq!(of_sent.len(), sent.len(), "something came twice");
    let link = sent.iter().find(|(entry, _)| matches!(entry.kind, EntryKind::Link(_)));
    assert_eq!(link.unwrap().0.kind, EntryKind::Link(place.as_bytes().to_vec()));

    // The content of what nobody touches meanwhile: a catalog changes when it is read (hint bits).
    let is_still = |entry: &Entry| match RelationFile::at(&entry.path) {
        Some(relation) => relation.number >= 16384,
        None => entry.path.is("PG_VERSION") || entry.path.is("postgresql.conf"),
    };
    let still: Vec<_> = sent.iter().filter(|(entry, _)| is_still(entry)).collect();
    assert!(still.len() >= 4, "{}", still.len());
    for (entry, content) in still {
        assert!(
            std::fs::read(cluster.data().join(entry.path.as_path())).unwrap() == *content,
            "{}",
            entry.path
        );
    }
    let by_files = listing.stop(&cx()).await.unwrap();
    assert_eq!(late(&by_files, "tablespace_map"), late(stopped, "tablespace_map"));
    let owner = |stopped: &Stopped| {
        stopped.late.iter().map(|late| (late.entry.mode, late.entry.owner.uid)).collect::<Vec<_>>()
    };
    assert_eq!(owner(&by_files), owner(stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_or_a_session_that_is_ended_is_an_error() {
    for binaries in servers() {
        let mut cluster = started(&binaries, "");
        cluster
            .sql("create table t as select n, md5(n::text) as v from generate_series(1, 400000) n")
            .unwrap();
        for end in ["terminate", "stop", "kill"] {
            let mut session = sending(&physical(&cluster, Access::Stream)).await;
            // More than the system holds for a reader that is slow.
            assert!(session.next(&cx()).await.unwrap().is_some());
            let port = cluster.port();
            match end {
                "terminate" => {
                    let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where backend_type = 'walsender'";
                    assert_eq!(cluster.sql(sql).unwrap(), "1");
                }
                "stop" => cluster.stop("immediate").unwrap(),
                _ => cluster.kill().unwrap(),
            }
            let error = everything(&mut *session).await.unwrap_err();
            assert!(
                matches!(error, EngineError::Unreachable { .. } | EngineError::Overtaken { .. }),
                "{end}: {error:?}"
            );
            if end != "terminate" {
                cluster.start_at(port).unwrap();
            }
        }
        let mut session = sending(&physical(&cluster, Access::Stream)).await;
        everything(&mut *session).await.unwrap();
        session.stop(&cx(), 0).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_wait_for_a_checkpoint() {
    let Some(binaries) = servers().into_iter().next() else { return };
    let cluster = started(&binaries, "checkpoint_timeout = 1h");
    cluster.sql("create table t as select generate_series(1, 300000)").unwrap();
    let physical = physical(&cluster, Access::Stream);
    let (context, options) = (cx(), StartOptions { fast: false, ..options() });
    let starting = physical.start(&context, &options);
    let cancelling = async {
        let waiting = "select count(*) from pg_stat_activity where wait_event = 'CheckpointDone'";
        while cluster.sql(waiting).unwrap() == "0" {
            tokio::task::yield_now().await;
        }
        context.cancel();
    };
    let both = async { tokio::join!(starting, cancelling).0.err() };
    let error = tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
    assert!(matches!(error, Some(EngineError::Cancelled(_))), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_clusters_folders_are_not_read_and_of_several_hosts_the_wanted_one_sends() {
    if servers().is_empty() {
        return;
    }
    let settings = "archive_mode = on\narchive_command = 'true'";
    let (server, other) = (Server::start(settings), Server::start(settings));
    let standby = server.standby();
    let with = |folder: &Path| Physical::new(server.conninfo(""), Some(folder.to_owned()), Access::Auto);
    reading(&with(server.data())).await.stop(&cx()).await.unwrap();
    for (folder, why) in [
        (other.data(), "it is another cluster's"),
        (standby.data(), "it is a copy of the cluster"),
        (Path::new("/nowhere"), "No such file or directory"),
    ] {
        let mut session = sending(&with(folder)).await;
        let said = session.reason().to_owned();
        assert!(said.starts_with("over the replication protocol: the data directory is not readable here"));
        assert!(said.contains(why), "{said}");
        everything(&mut *session).await.unwrap();
        let late = session.stop(&cx(), 0).await.unwrap().late;
        let paths: Vec<String> = late.iter().map(|late| late.entry.path.to_string()).collect();
        assert_eq!(paths, ["global/pg_control", "backup_label"], "without a tablespace there is no map");
    }
    let (first, second) = (&standby.cluster, &server.cluster);
    let hosts = format!(
        "host={},{} port={},{} user=postgres dbname=postgres target_session_attrs=read-write",
        first.folder().display(),
        second.folder().display(),
        first.port(),
        second.port()
    );
    let of_both = Physical::new(Conninfo::read(&hosts, &|_| None).unwrap(), None, Access::Stream);
    let mut session = sending(&of_both).await;
    assert!(!session.is_of_standby());
    everything(&mut *session).await.unwrap();
    let label = late(&session.stop(&cx(), 0).await.unwrap(), "backup_label").to_vec();
    assert!(String::from_utf8(label).unwrap().contains("BACKUP FROM: primary\n"));
}

/// On the standby's own word, as by its files.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_sends_itself_and_ends_where_its_control_file_is_consistent() {
    if servers().is_empty() {
        return;
    }
    let server = Server::start("archive_mode = on\narchive_command = 'true'");
    server.sql(&["CREATE TABLE public.t AS SELECT pg_catalog.generate_series(1, 1000)"]).await;
    let standby = server.standby();
    let physical = Physical::new(standby.conninfo(""), Some("/nowhere".into()), Access::Auto);
    let mut session = sending(&physical).await;
    assert!(session.is_of_standby());
    let started = session.started().clone();
    let sent = everything(&mut *session).await.unwrap();
    assert!(!sent.iter().any(|(entry, _)| entry.path.is("standby.signal")));
    let stopped = session.stop(&cx(), 0).await.unwrap();
    let label = String::from_utf8(late(&stopped, "backup_label").to_vec()).unwrap();
    assert!(label.contains("BACKUP FROM: standby\n"), "{label}");
    let control = Control::parse(late(&stopped, "global/pg_control")).unwrap();
    let (least, timeline) = control.min_recovery.unwrap();
    assert!(least <= stopped.lsn && least > started.lsn && timeline == started.timeline, "{control:?}");
}

/// Promoted itself, or following a promotion further up: what was begun is no backup then.
#[tokio::test(flavor = "multi_thread")]
async fn behaviour_21_a_promotion_overtakes_what_a_standby_sends() {
    if servers().is_empty() {
        return;
    }
    let server = Server::start("archive_mode = on\narchive_command = 'true'");
    // More than the system holds for a reader that is slow.
    server.sql(&["CREATE TABLE public.t AS SELECT n, pg_catalog.repeat('x', 500) AS v FROM pg_catalog.generate_series(1, 100000) n"]).await;
    let middle = server.standby();
    let leaf = middle.standby();
    let of = |server: &Server| Physical::new(server.conninfo(""), None, Access::Stream);
    let (mut of_middle, mut of_leaf) = (sending(&of(&middle)).await, sending(&of(&leaf)).await);
    middle.cluster.promote().unwrap();
    let error = everything(&mut *of_middle).await.unwrap_err();
    assert!(matches!(&error, EngineError::Overtaken { hint, .. } if hint.contains("promoted")), "{error:?}");
    // The leaf goes on, and comes to another timeline before it ends.
    middle.sql(&["CREATE TABLE public.u AS SELECT pg_catalog.generate_series(1, 1000)", "CHECKPOINT"]).await;
    const FOLLOWED: &str = "\
SELECT (pg_catalog.to_regclass('public.u') IS NOT NULL AND timeline_id = 2)::text FROM pg_catalog.pg_control_checkpoint()";
    let follows = async {
        while leaf.ask(FOLLOWED).await != "true" {
            leaf.sql(&["CHECKPOINT"]).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), follows).await.unwrap();
    everything(&mut *of_leaf).await.unwrap();
    let error = of_leaf.stop(&cx(), 0).await.unwrap_err();
    assert!(matches!(error, EngineError::Overtaken { .. }), "{error:?}");
    let mut again = sending(&of(&leaf)).await;
    everything(&mut *again).await.unwrap();
    assert_eq!(again.stop(&cx(), 0).await.unwrap().timeline.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_replicate_is_told_both_ways_out() {
    if servers().is_empty() {
        return;
    }
    let server = Server::start("archive_mode = on\narchive_command = 'true'");
    server.sql(&["CREATE ROLE weak LOGIN"]).await;
    for (access, expected) in [
        (Access::Stream, &["ALTER ROLE \"weak\" REPLICATION;"][..]),
        (Access::Auto, &["ALTER ROLE \"weak\" REPLICATION;", "GRANT pg_read_all_settings TO \"weak\""]),
        (Access::Files, &["as a superuser in database \"postgres\": GRANT"]),
    ] {
        let weak = Physical::new(server.conninfo("user=weak"), None, access);
        match weak.start(&cx(), &options()).await.err().unwrap() {
            EngineError::Unfit { hint, .. } => {
                assert!(expected.iter().all(|part| hint.contains(part)), "{access:?}: {hint}");
            }
            error => panic!("{access:?}: {error:?}"),
        }
    }
}
