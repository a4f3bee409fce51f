//! Connecting to, inspecting and mending a real server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(clippy::disallowed_methods, reason = "a test runs programs and touches files")]

mod harness;

use harness::{Server, cx};
use strongroom_engine::EngineError;
use strongroom_postgres::advice::{self, Mend, Verdict, Wanted, advise};
use strongroom_postgres::connect;
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::inspect::{archiver, inspect, switch_wal};
use strongroom_postgres::refusal::ConnectError;

const SECRET: &str = "s3cret";

/// A server that asks for passwords on its socket, except from `postgres`.
async fn guarded() -> Server {
    let server =
        Server::start("max_connections = 12\nsuperuser_reserved_connections = 3\nmax_wal_senders = 0");
    server
        .sql(&[
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE backup LOGIN PASSWORD 's3cret'",
            "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 's3cret'",
            "CREATE ROLE kept_out LOGIN",
            "CREATE ROLE one LOGIN CONNECTION LIMIT 0",
            "CREATE ROLE nobody_here LOGIN",
        ])
        .await;
    server.write(
        "pg_hba.conf",
        "local all postgres trust\nlocal all old md5\nlocal all one trust\nlocal all nobody_here peer\n\
         local all ghost trust\nlocal all kept_out reject\nlocal all backup scram-sha-256\n",
    );
    server.sql(&["SELECT pg_catalog.pg_reload_conf()"]).await;
    server
}

#[tokio::test]
async fn each_refusal_is_its_own_and_tells_no_password() {
    let server = guarded().await;
    let says = async |more: &str| {
        let error = server.try_connect(more).await.err().unwrap_or_else(|| panic!("{more} connects"));
        let port = EngineError::from(server.try_connect(more).await.unwrap_err());
        let text = format!("{error} {error:?} {} {port} {port:?} {:?}", error.hint(), port.hint());
        assert!(!text.contains(SECRET) && !text.contains("wr0ng"), "{text}");
        assert!(text.contains(&server.socket()), "{text}");
        assert!(!error.hint().is_empty());
        error
    };
    use ConnectError as E;
    assert!(matches!(says("user=backup password=wr0ng").await, E::WrongPassword { .. }));
    assert!(matches!(says("user=old password=wr0ng").await, E::WrongPassword { .. }));
    assert!(matches!(says("user=backup").await, E::PasswordMissing { .. }));
    assert!(matches!(says("user=backup password=s3cret dbname='no \"such'").await, E::NoSuchDatabase { .. }));
    assert!(matches!(says("user=stranger password=s3cret").await, E::NotLetIn { .. }));
    assert!(matches!(says("user=kept_out").await, E::NotLetIn { .. }));
    assert!(matches!(says("user=ghost").await, E::NoSuchRole { .. }));
    assert!(matches!(says("user=nobody_here").await, E::NotThatRole { .. }));
    assert!(matches!(says("user=one").await, E::TooManyConnections { .. }));
    for good in ["user=backup password=s3cret", "user=old password=s3cret"] {
        server.connect(good).await;
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_unreachable_and_the_next_host_is_tried() {
    let mut server = Server::start("");
    let socket = server.socket();
    let two = format!("host=/nowhere,{socket} port=1,{} user=postgres", server.cluster.port());
    connect::connect(&Conninfo::read(&two, &|_| None).unwrap()).await.unwrap();
    server.stop();
    let error = server.try_connect("").await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(matches!(EngineError::from(error), EngineError::Unreachable { source: Some(_), .. }));
}

#[tokio::test]
async fn a_password_file_opens_the_door() {
    use std::os::unix::fs::PermissionsExt;
    let server = guarded().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pass");
    std::fs::write(&file, format!("{}:{}:*:backup:{SECRET}\n", server.socket(), server.cluster.port()))
        .unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let client = server.connect(&format!("user=backup passfile={}", file.display())).await;
    assert_eq!(client.role(), "backup");
}

#[tokio::test]
async fn nothing_of_the_roles_settings_reaches_the_session() {
    let server = Server::start("");
    server
        .sql(&[
            "CREATE ROLE careless LOGIN SUPERUSER",
            "ALTER ROLE careless SET search_path = public, pg_catalog",
            "ALTER ROLE careless SET statement_timeout = 5000",
            "ALTER ROLE careless SET idle_session_timeout = 5000",
            "ALTER ROLE careless SET idle_in_transaction_session_timeout = 5000",
            "ALTER ROLE careless SET standard_conforming_strings = off",
        ])
        .await;
    let client = server.connect("user=careless").await;
    for (name, expected) in [
        ("search_path", "pg_catalog, pg_temp"),
        ("statement_timeout", "0"),
        ("idle_session_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("standard_conforming_strings", "on"),
        ("lock_timeout", "30s"),
        ("application_name", "strongroom"),
    ] {
        let row = client.row("show", "SELECT pg_catalog.current_setting($1)", &[&name]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), expected, "{name}");
    }
}

#[tokio::test]
async fn inspection_agrees_with_the_servers_own_tools() {
    let server = Server::start("wal_compression = lz4\ntimezone = 'Asia/Kolkata'\narchive_timeout = 77");
    let place = server.make_folder("odd \"place\" ö");
    let statement = format!("CREATE TABLESPACE \"odd \"\"öne\"\"\" LOCATION '{}'", place.display());
    server.sql(&[&statement]).await;
    let found = inspect(&cx(), &server.connect("").await).await.unwrap();
    let output = std::process::Command::new("/usr/lib/postgresql/15/bin/pg_controldata")
        .arg(server.data())
        .env("LC_ALL", "C")
        .output();
    let control = String::from_utf8(output.unwrap().stdout).unwrap();
    let line =
        |name: &str| control.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(found.system_id.to_string(), line("Database system identifier:"));
    assert_eq!(found.catalog_version.to_string(), line("Catalog version number:"));
    assert_eq!(found.segment_size.bytes().to_string(), line("Bytes per WAL segment:"));
    assert_eq!(found.timeline.to_string(), line("Latest checkpoint's TimeLineID:"));
    assert_eq!(
        (found.major.number(), found.in_recovery, found.data_checksums, found.block_size),
        (15, false, true, 8192)
    );
    assert_eq!(found.data_directory.as_deref(), Some(server.data()));
    assert_eq!(found.tablespaces[0].name, "odd \"öne\"");
    assert_eq!(found.tablespaces[0].location, place.to_str().unwrap());
    assert_eq!(found.setting("archive_timeout"), Some("77"));
    assert!(found.rights.superuser && found.rights.backup_start && found.rights.read_all_settings);
    assert!(found.clock_ahead_ms.abs() < 2_000, "{}", found.clock_ahead_ms);
    let port = found.to_port();
    assert_eq!((port.time_zone.as_str(), port.lineage), ("Asia/Kolkata", found.system_id));
    assert_eq!(
        serde_json::from_value::<strongroom_postgres::inspect::PostgresInspection>(port.facts).unwrap(),
        found
    );
}

#[tokio::test]
async fn a_role_without_rights_sees_what_it_may_and_the_advice_gives_it_the_rest() {
    let server = Server::start("");
    server.sql(&["CREATE ROLE \"o\"\"ö'\" LOGIN", "CREATE DATABASE \"d\"\"b\""]).await;
    let role = "user='o\"ö\\'' dbname='d\"b'";
    let before = inspect(&cx(), &server.connect(role).await).await.unwrap();
    assert_eq!((before.rights.role.as_str(), before.rights.database.as_str()), ("o\"ö'", "d\"b"));
    assert!(!before.rights.backup_start && !before.rights.switch_wal && before.data_directory.is_none());
    let found = advise(&before, &Wanted { archive_command: "x".into(), archive_timeout: None });
    let mend = found.iter().find(|advice| advice.check == "backup_rights").unwrap().mend.as_ref().unwrap();
    let Mend::Sql(statements) = mend else { panic!("{mend:?}") };
    server.connect("dbname='d\"b'").await.run("follow the advice", statements).await.unwrap();
    let after = inspect(&cx(), &server.connect(role).await).await.unwrap();
    assert!(after.rights.backup_start && after.rights.backup_stop && after.rights.switch_wal);
    assert!(after.rights.create_restore_point && after.rights.read_all_settings && !after.rights.superuser);
    assert_eq!(after.data_directory.as_deref(), Some(server.data()));
    // The rights are of that database alone, and that is said by what is found in another.
    let elsewhere = inspect(&cx(), &server.connect("user='o\"ö\\'' dbname=postgres").await).await.unwrap();
    assert!(!elsewhere.rights.backup_start && elsewhere.rights.read_all_settings);
}

#[tokio::test]
async fn fix_makes_a_fresh_server_fit_after_one_restart() {
    let mut server = Server::start(
        "wal_level = minimal\nmax_wal_senders = 0\nfull_page_writes = off\narchive_timeout = 0",
    );
    let wanted = Wanted {
        archive_command: r"strongroom -c '/a \b' wal push %p || false".into(),
        archive_timeout: None,
    };
    let look =
        async |server: &Server| advise(&inspect(&cx(), &server.connect("").await).await.unwrap(), &wanted);
    let found = look(&server).await;
    let client = server.connect("").await;
    let fixed = advice::fix(&client, &found).await.unwrap();
    let mut names: Vec<_> = fixed.iter().map(|fixed| (fixed.name, fixed.restart)).collect();
    names.sort_unstable();
    let expected = [
        ("archive_command", false),
        ("archive_mode", true),
        ("archive_timeout", false),
        ("full_page_writes", false),
        ("max_wal_senders", true),
        ("wal_level", true),
    ];
    assert_eq!(names, expected);
    server.restart();
    let bad: Vec<_> =
        look(&server).await.into_iter().filter(|advice| advice.verdict != Verdict::Ok).collect();
    // The test's server has fsync off on its command line, which no file can change: fix left it and the mend says so.
    let [fsync] = bad.as_slice() else { panic!("{bad:#?}") };
    assert!(matches!(&fsync.mend, Some(Mend::Shell(text)) if text.contains("-c fsync='on'")), "{fsync:?}");
    assert_eq!(
        server.ask("SELECT pg_catalog.current_setting('archive_command')").await,
        wanted.archive_command
    );
}

#[tokio::test]
async fn fix_needs_a_superuser_and_leaves_other_tools_alone() {
    let server = Server::start(
        "archive_mode = on\narchive_command = 'pgbackrest archive-push %p'\narchive_timeout = 60",
    );
    let wanted = Wanted { archive_command: "strongroom wal push %p".into(), archive_timeout: None };
    let found = advise(&inspect(&cx(), &server.connect("").await).await.unwrap(), &wanted);
    let command = found.iter().find(|advice| advice.check == "archive_command").unwrap();
    assert_eq!(command.verdict, Verdict::Wrong);
    assert_eq!(advice::fix(&server.connect("").await, &found).await.unwrap(), []);
    server.sql(&["CREATE ROLE weak LOGIN"]).await;
    let setting = Mend::Setting { name: "archive_timeout", value: "60s".into(), restart: false };
    let wanting =
        advice::Advice { check: "x", verdict: Verdict::Warning, found: String::new(), mend: Some(setting) };
    let error = advice::fix(&server.connect("user=weak").await, &[wanting]).await.unwrap_err();
    assert!(
        matches!(EngineError::from(error), EngineError::Unfit { hint, .. } if hint.contains("superuser"))
    );
}

#[tokio::test]
async fn the_archivers_failures_are_seen() {
    let server = Server::start("archive_mode = on\narchive_command = 'false'");
    let client = server.connect("").await;
    server.sql(&["CREATE TABLE public.t ()"]).await;
    let end = switch_wal(&client).await.unwrap();
    assert!(end.0 > 0);
    // The archiver works by itself; each question is a round trip, so this ends as soon as it has tried.
    let failing = async {
        loop {
            let archiver = archiver(&client).await.unwrap();
            if archiver.failed_count > 0 {
                return archiver;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(std::time::Duration::from_secs(60), failing).await.unwrap();
    assert!(
        found.is_failing() && found.last_failed_wal.is_some() && found.last_archived_wal.is_none(),
        "{found:?}"
    );
}
