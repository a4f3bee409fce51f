//! Findings as tables: a good server has none, and each fault is found with its mend.

use super::*;
use crate::inspect::{Archiver, Rights, Setting};
use strongroom_model::{SegmentSize, SystemId, Timeline, Timestamp};

const OURS: &str = "strongroom wal push %p";

fn at(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_unix_seconds(seconds)
}

/// A server that needs nothing.
fn good() -> PostgresInspection {
    let settings = [
        ("archive_command", OURS),
        ("archive_library", ""),
        ("archive_mode", "on"),
        ("archive_timeout", "60"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("max_wal_senders", "10"),
        ("summarize_wal", "on"),
        ("wal_compression", "lz4"),
        ("wal_level", "replica"),
    ];
    let setting = |value: &str| Setting {
        value: value.to_owned(),
        unit: None,
        source: "configuration file".to_owned(),
        pending_restart: false,
    };
    PostgresInspection {
        major: Major::new(17).unwrap(),
        version_num: 170_004,
        version: "17.4".into(),
        system_id: SystemId(7),
        catalog_version: 202_406_281,
        in_recovery: false,
        timeline: Timeline::FIRST,
        segment_size: SegmentSize::DEFAULT,
        block_size: 8192,
        data_checksums: true,
        data_directory: Some("/pg/data".into()),
        tablespaces: vec![Tablespace { oid: 16_400, name: "fast".into(), location: "/pg/data2/fast".into() }],
        databases: [(5, "orders".to_owned())].into(),
        settings: settings.map(|(name, value)| (name.to_owned(), setting(value))).into(),
        rights: Rights {
            role: "backup".into(),
            database: "postgres".into(),
            superuser: false,
            backup_start: true,
            backup_stop: true,
            switch_wal: true,
            create_restore_point: true,
            read_all_settings: true,
        },
        archiver: Archiver {
            archived_count: 9,
            last_archived_wal: Some("000000010000000000000009".into()),
            last_archived_at: at(99_000),
            ..Archiver::default()
        },
        started_at: at(1_000).unwrap(),
        server_time: at(100_000).unwrap(),
        clock_ahead_ms: 1_500,
    }
}

fn advise_on(server: &PostgresInspection) -> Vec<Advice> {
    advise(server, &Wanted { archive_command: OURS.into(), archive_timeout: None })
}

/// With this done to a good server, exactly this check is not well, and its mend prints so.
fn check(name: &str, spoil: impl FnOnce(&mut PostgresInspection), verdict: Verdict, mend: &str) -> Advice {
    let mut server = good();
    spoil(&mut server);
    let bad: Vec<Advice> =
        advise_on(&server).into_iter().filter(|advice| advice.verdict != Verdict::Ok).collect();
    let [advice] = bad.as_slice() else { panic!("{name}: {bad:#?}") };
    let printed = advice.mend.as_ref().map(Mend::to_string).unwrap_or_default();
    assert_eq!((advice.check, advice.verdict), (name, verdict), "{advice:?}");
    assert!(printed.contains(mend) && printed.is_empty() == mend.is_empty(), "{name}: {printed}");
    advice.clone()
}

/// The same for a setting.
fn check_setting(name: &'static str, value: &str, verdict: Verdict, mend: &str) -> Advice {
    check(name, |server| server.settings.get_mut(name).unwrap().value = value.into(), verdict, mend)
}

#[test]
fn what_settings_promise_of_the_server_is_held_to() {
    let on = |seconds: &str, promised| {
        let mut server = good();
        server.settings.get_mut("archive_timeout").unwrap().value = seconds.into();
        let wanted = Wanted { archive_command: OURS.into(), archive_timeout: Some(promised) };
        let advice = advise(&server, &wanted).into_iter().find(|advice| advice.check == "archive_timeout");
        let advice = advice.unwrap();
        (advice.verdict, advice.mend.map(|mend| mend.to_string()).unwrap_or_default())
    };
    assert_eq!(on("60", 60).0, Verdict::Ok);
    for seconds in ["0", "61"] {
        let mend = "ALTER SYSTEM SET archive_timeout = '60s'; SELECT pg_reload_conf();".to_owned();
        assert_eq!(on(seconds, 60), (Verdict::Wrong, mend), "{seconds}");
    }
}

#[test]
fn a_good_server_needs_nothing() {
    for advice in advise_on(&good()) {
        assert_eq!((advice.verdict, &advice.mend), (Verdict::Ok, &None), "{advice:?}");
    }
}

#[test]
fn settings() {
    use Verdict::{Warning, Wrong};
    for (name, value, verdict, mend) in [
        ("wal_level", "minimal", Wrong, "ALTER SYSTEM SET wal_level = 'replica'; -- then restart the server"),
        ("archive_mode", "off", Wrong, "ALTER SYSTEM SET archive_mode = 'on'; -- then restart the server"),
        (
            "archive_timeout",
            "0",
            Warning,
            "ALTER SYSTEM SET archive_timeout = '60s'; SELECT pg_reload_conf();",
        ),
        (
            "archive_timeout",
            "3600",
            Warning,
            "ALTER SYSTEM SET archive_timeout = '60s'; SELECT pg_reload_conf();",
        ),
        (
            "full_page_writes",
            "off",
            Warning,
            "ALTER SYSTEM SET full_page_writes = 'on'; SELECT pg_reload_conf();",
        ),
        ("fsync", "off", Warning, "ALTER SYSTEM SET fsync = 'on'; SELECT pg_reload_conf();"),
        (
            "max_wal_senders",
            "0",
            Warning,
            "ALTER SYSTEM SET max_wal_senders = '10'; -- then restart the server",
        ),
        ("archive_library", "basic_archive", Wrong, "ALTER SYSTEM SET archive_library = '';"),
    ] {
        check_setting(name, value, verdict, mend);
    }
}

#[test]
fn archive_commands_are_ours_nobodys_or_somebodys() {
    let mend = format!("ALTER SYSTEM SET archive_command = '{OURS}'; SELECT pg_reload_conf();");
    for nobody in ["", "(disabled)", "/bin/true", "exit 0", " : "] {
        let advice = check_setting("archive_command", nobody, Verdict::Wrong, &mend);
        assert!(matches!(advice.mend, Some(Mend::Setting { .. })), "{nobody}");
    }
    let advice = check_setting("archive_command", "/opt/strongroom wal push %p -v", Verdict::Warning, &mend);
    assert!(matches!(advice.mend, Some(Mend::Setting { .. })));
    for (command, tool) in [
        ("pgbackrest --stanza=main archive-push %p", "pgBackRest"),
        ("envdir /etc/wal-g wal-g wal-push %p", "WAL-G"),
        ("cp %p /mnt/archive/%f", "another tool"),
        ("/bin/true && cp %p /mnt/%f", "another tool"),
    ] {
        let advice = check_setting("archive_command", command, Verdict::Wrong, &mend);
        assert!(matches!(advice.mend, Some(Mend::Sql(_))), "{command}: fix must not touch it");
        assert!(advice.found.starts_with(tool), "{}", advice.found);
    }
}

#[test]
fn what_a_file_cannot_change_is_said() {
    let spoil = |change: fn(&mut Setting)| {
        move |server: &mut PostgresInspection| {
            let setting = server.settings.get_mut("archive_mode").unwrap();
            setting.value = "off".into();
            change(setting);
        }
    };
    let waits = spoil(|setting| setting.pending_restart = true);
    check(
        "archive_mode",
        waits,
        Verdict::Wrong,
        "restart the server: a new value of archive_mode is already",
    );
    let fixed = spoil(|setting| setting.source = "command line".into());
    check("archive_mode", fixed, Verdict::Wrong, "start the server with -c archive_mode='on'");
}

#[test]
fn state_and_rights() {
    use Verdict::{Warning, Wrong};
    check("block_size", |server| server.block_size = 32_768, Wrong, "");
    check(
        "data_checksums",
        |server| server.data_checksums = false,
        Warning,
        "pg_checksums --enable -D /pg/data ",
    );
    check("clock", |server| server.clock_ahead_ms = -90_000, Warning, "chronyc");
    let inside = |server: &mut PostgresInspection| server.tablespaces[0].location = "/pg/data/fast".into();
    check("tablespace", inside, Wrong, "DROP TABLESPACE \"fast\"");
    let grant = "in database \"postgres\":\nGRANT EXECUTE ON FUNCTION pg_catalog.pg_backup_start(text, boolean) TO \"backup\";";
    check("backup_rights", |server| server.rights.backup_start = false, Wrong, grant);
    check("backup_rights", |server| server.rights.backup_stop = false, Wrong, grant);
    check(
        "further_rights",
        |server| server.rights.switch_wal = false,
        Warning,
        "pg_switch_wal() TO \"backup\"",
    );
    let blind = |server: &mut PostgresInspection| server.data_directory = None;
    check("settings_right", blind, Warning, "GRANT pg_read_all_settings TO \"backup\";");
    let older = |server: &mut PostgresInspection| {
        server.major = Major::new(14).unwrap();
        server.rights.backup_start = false;
    };
    check("backup_rights", older, Wrong, "pg_catalog.pg_start_backup(text, boolean, boolean) TO \"backup\";");
}

#[test]
fn the_archiver_fails_failed_or_works() {
    let failed = |seconds: i64| {
        move |server: &mut PostgresInspection| {
            server.archiver.last_failed_at = at(seconds);
            server.archiver.last_failed_wal = Some("00000002.history".into());
            server.archiver.failed_count = 3;
        }
    };
    let advice = check("archiver", failed(99_990), Verdict::Wrong, "server's log");
    assert_eq!(advice.found, "failing: 00000002.history last failed 10.0 s ago (3 failures so far)");
    check("archiver", failed(98_000), Verdict::Warning, "server's log");
    let mut long_ago = good();
    failed(1)(&mut long_ago);
    assert!(advise_on(&long_ago).iter().all(|advice| advice.verdict == Verdict::Ok));
}

#[test]
fn odd_names_are_quoted() {
    assert_eq!(grants(Major::new(17).unwrap(), "o\"o")[4], "GRANT pg_read_all_settings TO \"o\"\"o\";");
    assert_eq!(shell_word("/it's"), r"'/it'\''s'");
    let mend = Mend::Setting {
        name: "archive_command",
        value: "strongroom -c '/a b' wal push %p".into(),
        restart: false,
    };
    assert!(
        mend.to_string()
            .starts_with("ALTER SYSTEM SET archive_command = 'strongroom -c ''/a b'' wal push %p';")
    );
}

/// A standby writes nothing: what stands in a primary's way is only to be thought of here.
#[test]
fn a_standbys_own_archiving_counts_once_it_is_promoted() {
    use Verdict::{Warning, Wrong};
    let standby = |name: &'static str, value: &'static str| {
        move |server: &mut PostgresInspection| {
            server.in_recovery = true;
            // Not asked for there: backups would not use it.
            server.settings.get_mut("summarize_wal").unwrap().value = "off".into();
            server.settings.get_mut(name).unwrap().value = value.into();
        }
    };
    for (name, value, mend) in [
        ("archive_mode", "off", "ALTER SYSTEM SET archive_mode = 'on'"),
        ("archive_command", "", "ALTER SYSTEM SET archive_command"),
        ("archive_command", "pgbackrest archive-push %p", "this ends pgBackRest's archive"),
        ("wal_level", "minimal", "ALTER SYSTEM SET wal_level"),
        ("full_page_writes", "off", "ALTER SYSTEM SET full_page_writes"),
    ] {
        let advice = check(name, standby(name, value), Warning, mend);
        assert!(advice.found.contains("is promoted"), "{}", advice.found);
    }
    let always = |server: &mut PostgresInspection| {
        standby("archive_mode", "always")(server);
        server.settings.get_mut("archive_command").unwrap().value = String::new();
    };
    check("archive_command", always, Wrong, "ALTER SYSTEM SET archive_command");
    let rights = |server: &mut PostgresInspection| {
        server.in_recovery = true;
        server.rights.backup_start = false;
    };
    check("backup_rights", rights, Wrong, "-- at the primary, as a superuser");
    let mut server = good();
    server.in_recovery = true;
    let role = advise_on(&server).into_iter().find(|advice| advice.check == "primary").unwrap();
    assert!(role.verdict == Verdict::Ok && role.found.contains("a standby on timeline 1"), "{role:?}");
}
