//! Backups of a real server: begun, checked, ended, and refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(clippy::disallowed_methods, reason = "a test runs programs and touches files")]

mod harness;

use std::path::Path;

use harness::{Server, cx};
use strongroom_engine::{BackupSession, Engine, EngineError, Session, StartOptions, Stopped};
use strongroom_model::entry::EntryKind;
use strongroom_postgres::advice::grants;
use strongroom_postgres::control::Control;
use strongroom_postgres::facts::PostgresFacts;
use strongroom_postgres::session::{Access, Physical};
use strongroom_postgres::version::Major;

const ARCHIVING: &str = "archive_mode = on\narchive_command = 'true'\n";

fn options() -> StartOptions {
    StartOptions { label: "20261120T120000Z-1f2e3d4c".into(), fast: true }
}

fn physical(server: &Server, more: &str) -> Physical {
    Physical::new(server.conninfo(more), None, Access::Files)
}

async fn start(physical: &Physical) -> Result<Box<dyn BackupSession>, EngineError> {
    start_with(physical, &options()).await
}

async fn start_with(
    physical: &Physical,
    options: &StartOptions,
) -> Result<Box<dyn BackupSession>, EngineError> {
    match physical.start(&cx(), options).await? {
        Session::Files(session) => Ok(session),
        Session::Stream(session) => panic!("it is sent: {}", session.reason()),
    }
}

async fn refused(physical: &Physical) -> (String, String) {
    match start(physical).await {
        Err(EngineError::Unfit { what, hint }) => (what, hint),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a backup was begun"),
    }
}

fn late<'s>(stopped: &'s Stopped, path: &str) -> Option<&'s [u8]> {
    stopped.late.iter().find(|late| late.entry.path.is(path)).map(|late| &late.content[..])
}

/// What the server itself wrote down about its last backup, in `pg_wal`, without the lines about its end: exactly the label.
fn label_by_the_server(server: &Server) -> String {
    let folder = std::fs::read_dir(server.data().join("pg_wal")).unwrap();
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "backup"));
    let text = std::fs::read_to_string(files.iter().max().unwrap()).unwrap();
    text.lines().filter(|line| !line.starts_with("STOP ")).map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn a_backup_begins_lists_and_ends_with_the_servers_own_label() {
    let server = Server::start(ARCHIVING);
    let places = [server.make_folder("one ö"), server.make_folder("two \"quoted\" \\back")];
    for (place, name) in places.iter().zip(["one", "\"t\"\"wö\""]) {
        let statement = format!("CREATE TABLESPACE {name} LOCATION '{}'", place.display());
        server.sql(&[&statement]).await;
    }
    server.sql(&["CREATE DATABASE \"o'dd \"\"ö\""]).await;
    let physical = physical(&server, "dbname='o\\'dd \"ö'");
    let options = StartOptions { label: "it's \"ö\" \\ 1".into(), fast: true };
    let mut session = start_with(&physical, &options).await.unwrap();
    let started = session.started().clone();
    let paths: Vec<String> = session.entries().iter().map(|entry| entry.path.to_string()).collect();
    for expected in ["PG_VERSION", "base", "base/1", "global", "pg_wal", "postgresql.conf"] {
        assert!(paths.iter().any(|path| path == expected), "{expected} in {paths:?}");
    }
    for late in ["global/pg_control", "backup_label", "tablespace_map", "postmaster.pid"] {
        assert!(!paths.iter().any(|path| path == late), "{late}");
    }
    session.check().await.unwrap();
    let stopped = session.stop(&cx()).await.unwrap();
    let label = String::from_utf8(late(&stopped, "backup_label").unwrap().to_vec()).unwrap();
    assert_eq!(label, label_by_the_server(&server));
    assert!(
        label.contains("LABEL: it's \"ö\" \\ 1\n")
            && label.contains(&format!("START WAL LOCATION: {} ", started.lsn))
    );
    let map = String::from_utf8(late(&stopped, "tablespace_map").unwrap().to_vec()).unwrap();
    // The server writes a backslash before each special character, so that it can read its own map back.
    assert!(
        places.iter().all(|place| map.contains(&place.display().to_string().replace('\\', "\\\\"))),
        "{map}"
    );
    let order: Vec<String> = stopped.late.iter().map(|late| late.entry.path.to_string()).collect();
    assert_eq!(order, ["global/pg_control", "tablespace_map", "backup_label"]);
    for file in &stopped.late {
        assert_eq!((file.entry.mode, file.entry.size()), (0o600, file.content.len() as u64));
        assert!(matches!(file.entry.kind, EntryKind::File(_)));
        use std::os::unix::fs::MetadataExt;
        assert_eq!(file.entry.owner.uid, std::fs::metadata(server.data()).unwrap().uid());
    }
    let control = Control::parse(late(&stopped, "global/pg_control").unwrap()).unwrap();
    assert_eq!((control.system_id, control.timeline), (started.lineage, started.timeline));
    assert!(control.redo >= started.lsn && stopped.lsn > started.lsn && stopped.at >= started.at);
    let facts: PostgresFacts = serde_json::from_value(stopped.facts.clone()).unwrap();
    assert_eq!((facts.backup_label, facts.start_lsn, facts.stop_lsn), (label, started.lsn, stopped.lsn));
    assert_eq!((facts.tablespaces.len(), facts.version_num / 10_000, facts.warnings.len()), (2, 15, 1));
}

#[tokio::test]
async fn an_ended_session_is_overtaken_at_the_next_look() {
    let mut server = Server::start(ARCHIVING);
    let physical = physical(&server, "");
    let end_sessions = "SELECT pg_catalog.pg_terminate_backend(pid, 10000) FROM pg_catalog.pg_stat_activity \
                        WHERE application_name = 'strongroom' AND pid <> pg_catalog.pg_backend_pid()";
    let mut session = start(&physical).await.unwrap();
    server.connect("application_name=other").await.run("end it", end_sessions).await.unwrap();
    let error = session.check().await.unwrap_err();
    assert!(
        matches!(&error, EngineError::Overtaken { what, .. } if what.contains("terminating connection")),
        "{error:?}"
    );
    let error = session.stop(&cx()).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::Overtaken { hint, .. } if hint.contains("strongroom backup")),
        "{error:?}"
    );

    let session = start(&physical).await.unwrap();
    server.connect("application_name=other").await.run("end it", end_sessions).await.unwrap();
    let error = session.stop(&cx()).await.unwrap_err();
    assert!(matches!(error, EngineError::Overtaken { .. }), "{error:?}");

    let mut session = start(&physical).await.unwrap();
    server.restart();
    let error = session.check().await.unwrap_err();
    assert!(matches!(error, EngineError::Overtaken { .. }), "{error:?}");
    // The restarted server has another port.
    start(&crate::physical(&server, "")).await.unwrap().stop(&cx()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_session_leaves_nothing_at_the_server() {
    let server = Server::start(ARCHIVING);
    drop(start(&physical(&server, "application_name=doomed")).await.unwrap());
    let sessions =
        "SELECT pg_catalog.count(*)::text FROM pg_catalog.pg_stat_activity WHERE application_name = 'doomed'";
    let gone = async {
        while server.ask(sessions).await != "0" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.unwrap();
    start(&physical(&server, "")).await.unwrap().stop(&cx()).await.unwrap();
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_for_a_checkpoint() {
    let server = Server::start(&format!("{ARCHIVING}checkpoint_timeout = 1h\nautovacuum = off"));
    server.sql(&["CREATE TABLE public.t AS SELECT pg_catalog.generate_series(1, 300000)"]).await;
    let physical = physical(&server, "");
    let (context, options) = (cx(), StartOptions { fast: false, ..options() });
    let starting = physical.start(&context, &options);
    let waiting = "SELECT pg_catalog.count(*)::text FROM pg_catalog.pg_stat_activity WHERE wait_event = 'CheckpointDone'";
    let cancelling = async {
        while server.ask(waiting).await == "0" {
            tokio::task::yield_now().await;
        }
        context.cancel();
    };
    let both = async { tokio::join!(starting, cancelling).0.err() };
    let error = tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
    assert!(matches!(error, Some(EngineError::Cancelled(_))), "{error:?}");
    // The server is no longer waiting for it either: it was told.
    let told = async {
        while server.ask(waiting).await != "0" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), told).await.unwrap();
}

#[tokio::test]
async fn behaviour_24_a_role_with_the_advised_grants_and_nothing_else_is_enough() {
    let server = Server::start(ARCHIVING);
    server.sql(&["CREATE ROLE \"back'up \"\"ö\" LOGIN"]).await;
    let role = "user='back\\'up \"ö'";
    let physical = physical(&server, role);
    let (what, hint) = refused(&physical).await;
    assert!(what.contains("may not begin and end backups"), "{what}");
    let statements = grants(Major::new(15).unwrap(), "back'up \"ö");
    assert!(statements.iter().all(|grant| hint.contains(grant) || grant.contains("read_all")), "{hint}");
    for statement in &statements {
        server.sql(&[statement]).await;
    }
    start(&physical).await.unwrap().stop(&cx()).await.unwrap();
    physical.nudge_journal(&cx()).await.unwrap();
    assert!(physical.archiver().await.unwrap().failed_count >= 0);
    // Without the right to see settings, the folder has to be given.
    server.sql(&["REVOKE pg_read_all_settings FROM \"back'up \"\"ö\""]).await;
    let (what, hint) = refused(&physical).await;
    assert!(
        what.contains("data directory") && hint.contains("data_directory in strongroom.toml"),
        "{what} {hint}"
    );
    let told = Physical::new(server.conninfo(role), Some(server.data().to_owned()), Access::Files);
    start(&told).await.unwrap().stop(&cx()).await.unwrap();
    // Without the right to switch WAL, the end of a backup is only waited for.
    server.sql(&["REVOKE EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() FROM \"back'up \"\"ö\""]).await;
    told.nudge_journal(&cx()).await.unwrap();
}

#[tokio::test]
async fn behaviour_24_a_function_in_the_search_path_is_never_called() {
    let server = Server::start(ARCHIVING);
    server
        .sql(&[
            "CREATE SCHEMA trap",
            "CREATE TABLE public.caught (who text)",
            "GRANT ALL ON public.caught TO public",
            "CREATE ROLE backup LOGIN SUPERUSER",
            "ALTER ROLE backup SET search_path = trap, public, pg_catalog",
        ])
        .await;
    for schema in ["trap", "public"] {
        for (function, result) in [
            ("pg_backup_start(text, boolean)", "pg_lsn"),
            ("pg_backup_stop(boolean)", "pg_lsn"),
            ("pg_switch_wal()", "pg_lsn"),
            ("pg_is_in_recovery()", "boolean"),
            ("clock_timestamp()", "timestamptz"),
            ("set_config(text, text, boolean)", "text"),
            ("current_setting(text)", "text"),
            ("has_function_privilege(text, text)", "boolean"),
        ] {
            let statement = format!(
                "CREATE FUNCTION {schema}.{function} RETURNS {result} LANGUAGE plpgsql AS \
                 'BEGIN INSERT INTO public.caught VALUES (''{function}''); RETURN NULL; END'"
            );
            server.sql(&[&statement]).await;
        }
        let operator = format!(
            "CREATE FUNCTION {schema}.trapped(name, name) RETURNS boolean LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO public.caught VALUES (''=''); RETURN NULL; END'"
        );
        server
            .sql(&[
                &operator,
                &format!("CREATE OPERATOR {schema}.= (FUNCTION = {schema}.trapped, LEFTARG = name, RIGHTARG = name)"),
                &format!("CREATE VIEW {schema}.pg_settings AS SELECT * FROM pg_catalog.pg_settings WHERE false"),
            ])
            .await;
    }
    // The trap works for who is careless: else this test would prove nothing.
    let careless =
        "SET search_path = trap, pg_catalog; SELECT pg_is_in_recovery(); SET search_path = pg_catalog";
    server.connect("user=backup").await.run("fall into it", careless).await.unwrap();
    assert_eq!(server.ask("SELECT pg_catalog.count(*)::text FROM public.caught").await, "1");
    let physical = physical(&server, "user=backup");
    physical.inspect(&cx()).await.unwrap();
    let mut session = start(&physical).await.unwrap();
    session.check().await.unwrap();
    session.stop(&cx()).await.unwrap();
    physical.nudge_journal(&cx()).await.unwrap();
    assert_eq!(server.ask("SELECT pg_catalog.count(*)::text FROM public.caught").await, "1");
}

#[tokio::test]
async fn behaviour_24_idle_timeouts_of_role_and_server_do_not_end_a_backup() {
    let server = Server::start(&format!(
        "{ARCHIVING}idle_session_timeout = 200\nidle_in_transaction_session_timeout = 200"
    ));
    server
        .sql(&["CREATE ROLE backup LOGIN SUPERUSER", "ALTER ROLE backup SET idle_session_timeout = 100"])
        .await;
    let mut session = start(&physical(&server, "user=backup")).await.unwrap();
    // Time has to pass here: ten times what the server allows, on the server's own clock.
    server.sql(&["SELECT pg_catalog.pg_sleep(2)"]).await;
    session.check().await.unwrap();
    session.stop(&cx()).await.unwrap();
}

#[tokio::test]
async fn servers_that_cannot_be_backed_up_are_refused_with_the_way_out() {
    let without = Server::start("archive_mode = off");
    let (what, hint) = refused(&physical(&without, "")).await;
    assert!(
        what.contains("archive_mode is off") && hint.contains("strongroom doctor --fix"),
        "{what} {hint}"
    );
    let mut minimal = Server::start("wal_level = minimal\nmax_wal_senders = 0");
    let (what, hint) = refused(&physical(&minimal, "")).await;
    assert!(
        what.contains("wal_level is minimal") && hint.contains("strongroom doctor --fix"),
        "{what} {hint}"
    );
    minimal.stop();
    let error = start(&physical(&minimal, "")).await.err().unwrap();
    assert!(matches!(error, EngineError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn warnings_go_with_the_point() {
    let server = Server::start(&format!("{ARCHIVING}full_page_writes = off"));
    let stopped = start(&physical(&server, "")).await.unwrap().stop(&cx()).await.unwrap();
    let facts: PostgresFacts = serde_json::from_value(stopped.facts.clone()).unwrap();
    // The test's servers run with fsync off.
    let [pages, fsync] = facts.warnings.as_slice() else { panic!("{:?}", facts.warnings) };
    assert!(pages.contains("full_page_writes is off") && fsync.contains("fsync is off"));
    assert_eq!(late(&stopped, "tablespace_map"), None);
}

#[tokio::test]
async fn another_clusters_folder_a_clones_and_none_are_refused() {
    let (server, other) = (Server::start(ARCHIVING), Server::start(ARCHIVING));
    let with = |folder: &Path| Physical::new(server.conninfo(""), Some(folder.to_owned()), Access::Files);
    let (what, _) = refused(&with(other.data())).await;
    assert!(what.contains("another cluster's"), "{what}");
    let (what, hint) = refused(&with(Path::new("/nowhere/data"))).await;
    assert!(what.contains("/nowhere/data") && hint.contains("data_directory"), "{what} {hint}");
    // A copy of the files carries the same system identifier and says that it is in production.
    let clone = server.make_folder("clone");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(server.data().join("global")).arg(&clone).status();
    assert!(copied.unwrap().success());
    let (what, _) = refused(&with(&clone)).await;
    assert!(what.contains("a copy of the cluster"), "{what}");
}

#[tokio::test]
async fn behaviour_21_a_promotion_overtakes_a_backup_of_the_standby() {
    let server = Server::start(ARCHIVING);
    let standby = server.standby();
    let mut session = start(&physical(&standby, "")).await.unwrap();
    session.check().await.unwrap();
    standby.cluster.promote().unwrap();
    let error = session.check().await.unwrap_err();
    assert!(matches!(&error, EngineError::Overtaken { hint, .. } if hint.contains("promoted")), "{error:?}");
    let error = session.stop(&cx()).await.unwrap_err();
    assert!(matches!(error, EngineError::Overtaken { .. }), "{error:?}");
    // Its own from then on.
    start(&physical(&standby, "")).await.unwrap().stop(&cx()).await.unwrap();
}

/// The standby stays one, but follows its primary to another timeline.
#[tokio::test]
async fn behaviour_21_a_promotion_further_up_overtakes_it_too() {
    let server = Server::start(ARCHIVING);
    let middle = server.standby();
    let leaf = middle.standby();
    let mut session = start(&physical(&leaf, "")).await.unwrap();
    middle.cluster.promote().unwrap();
    middle.sql(&["CREATE TABLE public.t AS SELECT pg_catalog.generate_series(1, 1000)", "CHECKPOINT"]).await;
    const FOLLOWED: &str = "\
SELECT (pg_catalog.to_regclass('public.t') IS NOT NULL AND timeline_id = 2)::text FROM pg_catalog.pg_control_checkpoint()";
    let follows = async {
        while leaf.ask(FOLLOWED).await != "true" {
            leaf.sql(&["CHECKPOINT"]).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), follows).await.unwrap();
    let error = session.check().await.unwrap_err();
    assert!(matches!(error, EngineError::Overtaken { .. }), "{error:?}");
    let stopped = start(&physical(&leaf, "")).await.unwrap().stop(&cx()).await.unwrap();
    assert_eq!(stopped.timeline.get(), 2);
}

#[tokio::test]
async fn a_backup_of_a_standby_ends_where_its_control_file_is_consistent() {
    let server = Server::start(ARCHIVING);
    server.sql(&["CREATE TABLE public.t AS SELECT pg_catalog.generate_series(1, 1000)"]).await;
    let standby = server.standby();
    let session = start(&physical(&standby, "")).await.unwrap();
    assert!(session.is_of_standby());
    let started = session.started().clone();
    let stopped = session.stop(&cx()).await.unwrap();
    let label = String::from_utf8(late(&stopped, "backup_label").unwrap().to_vec()).unwrap();
    assert!(label.contains("BACKUP FROM: standby\n"), "{label}");
    let control = Control::parse(late(&stopped, "global/pg_control").unwrap()).unwrap();
    let (least, timeline) = control.min_recovery.unwrap();
    assert!(least <= stopped.lsn && least > started.lsn && timeline == started.timeline, "{control:?}");
    assert_eq!(stopped.late.last().unwrap().entry.path.to_string(), "backup_label");
}

/// Every standby of a primary has its history, and may have made the same restartpoint.
#[tokio::test]
async fn of_a_standby_only_its_own_folder_is_taken() {
    let server = Server::start(ARCHIVING);
    let (standby, other) = (server.standby(), server.standby());
    let with = |server: &Server, folder: &Path| {
        Physical::new(server.conninfo(""), Some(folder.to_owned()), Access::Files)
    };
    for (server, folder) in [(&server, standby.data()), (&standby, server.data()), (&standby, other.data())] {
        let (what, hint) = refused(&with(server, folder)).await;
        assert!(what.contains("a copy of the cluster") && hint.contains("data_directory"), "{what} {hint}");
    }
    start(&with(&standby, standby.data())).await.unwrap().stop(&cx()).await.unwrap();
    // Nothing is left of the proof.
    assert_eq!(std::fs::read_dir(standby.data().join("pg_snapshots")).unwrap().count(), 0);
}

#[tokio::test]
async fn wal_without_full_pages_is_refused_with_the_way_out() {
    let server = Server::start(&format!("{ARCHIVING}full_page_writes = off"));
    let standby = server.standby();
    server.sql(&["CHECKPOINT"]).await;
    let position = server.ask("SELECT pg_catalog.pg_current_wal_lsn()::text").await;
    let replayed = format!("SELECT (pg_catalog.pg_last_wal_replay_lsn() >= '{position}')::text");
    let replay = async { while standby.ask(&replayed).await != "true" {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), replay).await.unwrap();
    for physical in [physical(&standby, ""), Physical::new(standby.conninfo(""), None, Access::Stream)] {
        let (what, hint) = refused(&physical).await;
        assert!(what.contains("full_page_writes") && hint.contains("at the primary"), "{what} {hint}");
    }
}

#[tokio::test]
async fn a_standby_names_its_primary_when_wal_does_not_come() {
    let (server, stranger) = (Server::start(ARCHIVING), Server::start(ARCHIVING));
    let (standby, other) = (server.standby(), server.standby());
    let at = |primary: Option<&Server>| {
        physical(&standby, "").with_primary(primary.map(|primary| primary.conninfo("")))
    };
    let open = "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())";
    server.sql(&["CREATE TABLE public.t AS SELECT 1 AS n"]).await;
    let before = server.ask(open).await;
    // Nothing is switched but at the cluster's own primary, and its absence is no reason to give up waiting.
    for (primary, says) in
        [(None, "primary = "), (Some(&stranger), "it is system"), (Some(&other), "it is a standby itself")]
    {
        at(primary).nudge_journal(&cx()).await.unwrap();
        let trouble = at(primary).journal_trouble(&cx()).await.unwrap();
        assert!(trouble.contains("completes no WAL segment") && trouble.contains(says), "{trouble}");
        assert_eq!(server.ask(open).await, before);
    }
    at(Some(&server)).nudge_journal(&cx()).await.unwrap();
    server.sql(&["INSERT INTO public.t VALUES (2)"]).await;
    assert!(server.ask(open).await > before);
}

#[tokio::test]
async fn trouble_with_the_archive_is_told() {
    let mut server = Server::start("archive_mode = on\narchive_command = 'false'");
    let physical = physical(&server, "");
    assert!(physical.journal_trouble(&cx()).await.unwrap().contains("archived nothing so far"));
    server.sql(&["CREATE TABLE public.t ()"]).await;
    physical.nudge_journal(&cx()).await.unwrap();
    let failing = async {
        while physical.archiver().await.unwrap().failed_count == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), failing).await.unwrap();
    let trouble = physical.journal_trouble(&cx()).await.unwrap();
    assert!(trouble.contains("archive_command fails for 0000000100000000"), "{trouble}");
    server.stop();
    assert!(physical.journal_trouble(&cx()).await.unwrap().contains("does not say"));
}
