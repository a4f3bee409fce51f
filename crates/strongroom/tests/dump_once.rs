//! `dump --once` in the place of a script: its variables, its bucket, its retention; and what the script reports as done with the
//! server down.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::process::Command;

use live::desk::{Desk, PASSWORD, answers, json};
use live::said;
use serde_json::Value;
use strongroom_store::conformance::moto::MotoServer;

#[test]
fn the_scripts_variables_take_a_dump_and_let_old_ones_go() {
    let Some(desk) = Desk::new() else { return };
    std::fs::create_dir(desk.path("backup")).unwrap();
    std::fs::write(desk.path("backup/audit-backup-20260101_020000.sql.gz"), "of the script").unwrap();
    // Never without encryption in silence.
    let mut keyless = desk.strongroom(&["dump", "--once"]);
    let refused = answers(&keyless.env_remove("STRONGROOM_PASSPHRASE").output().unwrap(), 7);
    assert!(
        refused.contains("no key to make one with") && refused.contains("--passphrase env:NAME"),
        "{refused}"
    );
    let planned = answers(&desk.strongroom(&["dump", "--once", "--dry-run"]).output().unwrap(), 0);
    assert!(planned.contains("into a new vault") && planned.contains("older than 30 days"), "{planned}");
    assert!(!desk.path("backup/vault.json").exists());

    let first = desk.dump(&[]);
    assert_eq!(
        (&first["source"], &first["made"], &first["expired"]),
        (&"audit".into(), &true.into(), &Value::Array(vec![]))
    );
    let header = std::fs::read_to_string(desk.path("backup/vault.json")).unwrap();
    assert!(!header.contains("plain"), "{header}");
    let second = desk.dump(&[]);
    assert_eq!((&second["made"], &second["parent"]), (&false.into(), &first["point"]));
    let stored = |point: &Value| point["stored"].as_u64().unwrap();
    assert!(stored(&second) * 5 < stored(&first), "{} after {}", stored(&second), stored(&first));
    // What the rule no longer keeps goes once the new one is there; the last one stays.
    let third = desk.dump(&["--keep-days", "0", "--keep-last", "1"]);
    let gone = |point: &Value| third["expired"].as_array().unwrap().contains(point);
    assert!(gone(&first["point"]) && gone(&second["point"]) && !gone(&third["point"]), "{third}");

    // Other verbs find the vault by the same variables.
    let listed = answers(&desk.strongroom(&["list"]).output().unwrap(), 0);
    assert!(listed.contains(third["point"].as_str().unwrap()), "{listed}");
    let target =
        format!("host={} port={} user=postgres", desk.cluster.socket_folder().display(), desk.cluster.port());
    let words = ["restore", "audit", "--target", &target, "--to-database", "again", "--yes"];
    answers(&desk.strongroom(&words).output().unwrap(), 0);
    let rows = "select count(*), md5(string_agg(t::text, '' order by id)) from checker_config t";
    assert_eq!(desk.cluster.sql_in("again", rows).unwrap(), desk.cluster.sql_in("audit", rows).unwrap());
    assert!(desk.path("backup/audit-backup-20260101_020000.sql.gz").exists(), "the script's own files stay");
}

#[test]
fn flags_come_before_variables_and_wrong_ones_end_it_before_anything_is_made() {
    let Some(desk) = Desk::new() else { return };
    let port = desk.cluster.port().to_string();
    let found = |variables: &[(&str, &str)], arguments: &[&str], code: i32| {
        let mut command = desk.strongroom(&[&["dump", "--once", "--dry-run"], arguments].concat());
        answers(&command.envs(variables.iter().copied()).output().unwrap(), code)
    };
    found(&[("POSTGRES_PORT", "1")], &[], 5);
    found(&[("POSTGRES_PORT", "1")], &["--port", &port], 0);
    found(
        &[("PGPORT", "1"), ("PGPASSWORD", "wrong"), ("PGUSER", "nobody"), ("PGDATABASE", "none")],
        &["--user", "audit", "--dbname", "audit"],
        0,
    );
    let other = found(&[("POSTGRES_DB", "postgres")], &["--source", "other"], 0);
    assert!(other.contains("would dump other") && other.contains("database postgres"), "{other}");
    // The scripts' defaults, since POSTGRES_PASSWORD is set.
    let mut bare = desk.strongroom(&["dump", "--once", "--dry-run"]);
    let away = answers(&bare.env_remove("POSTGRES_HOST").output().unwrap(), 5);
    assert!(away.contains("postgres-primary.sqlguard.svc.cluster.local"), "{away}");
    for (variables, arguments, code, says) in [
        (&[("RETENTION_DAYS", "a month")][..], &[][..], 3, "RETENTION_DAYS is not a number of days"),
        (&[("RETENTION_DAYS", "0")], &[], 3, "keeps nothing"),
        (&[("POSTGRES_PORT", "many")], &[], 3, "port cannot be"),
        (&[("S3_BUCKET", "s3://no such/x")], &[], 3, "is not a vault's address"),
        (&[("STRONGROOM_CONFIG", "x.toml")], &[], 2, "reads no settings file"),
        (&[("POSTGRES_PASSWORD", "wrong")], &[], 5, "the password is wrong"),
        (&[], &["--host", ""], 2, "--host is empty"),
        (&[], &["--password", "canary"], 3, "--password: it is not a reference to a secret"),
        (&[], &["--passphrase", "canary"], 3, "--passphrase: it is not a reference to a secret"),
    ] {
        let said = found(variables, arguments, code);
        assert!(said.contains(says) && !said.contains("canary"), "{says}: {said}");
    }
    answers(&desk.strongroom(&["dump"]).output().unwrap(), 2);
    assert!(!desk.path("backup").exists());
}

#[test]
fn a_password_that_was_changed_is_read_once_more() {
    let Some(desk) = Desk::new() else { return };
    // The vault of the passwords is asked twice: what it says first is no longer true.
    let script =
        "#!/bin/sh\necho x >> asked\nif [ $(wc -l < asked) -eq 1 ]; then echo old; else echo \"$NOW\"; fi\n";
    let reference = format!("command:{}", desk.put("ask", script));
    let words = ["dump", "--once", "--password", &reference];
    for (now, code) in [(PASSWORD, 0), ("old", 5), ("other", 5)] {
        let output = desk.strongroom(&words).env("NOW", now).output().unwrap();
        let said = answers(&output, code);
        assert!(code == 0 || said.contains("the password is wrong"), "{said}");
        let asked = std::fs::read_to_string(desk.path("asked")).unwrap();
        assert_eq!(asked.lines().count(), 2, "once, and once more");
        std::fs::remove_file(desk.path("asked")).unwrap();
    }
    // The same of a configured source, and by a file beside the settings.
    desk.put("pw", PASSWORD);
    let settings = "[vault]\nurl = \"backup\"\npassphrase = \"env:OTHER\"\n[source.shop]\nkind = \"postgres-logical\"\nconnection = \"user=audit dbname=audit\"\npassword = \"file:pw\"\n";
    desk.put("strongroom.toml", settings);
    let mut backup = desk.strongroom(&["backup", "--output", "json"]);
    backup.env_remove("POSTGRES_PASSWORD").env_remove("STRONGROOM_PASSPHRASE").env("OTHER", "of the vault");
    assert_eq!(json(&backup.output().unwrap())["source"], "shop");
}

#[test]
fn a_bucket_takes_it_and_a_rule_that_freezes_too_early_is_named() {
    let Some(server) = MotoServer::start() else { return };
    let Some(desk) = Desk::new() else { return };
    server.make_bucket("audit-12");
    let run = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = desk.strongroom(&[&["dump", "--once", "--output", "json"], flags].concat());
        command.env("AWS_ENDPOINT_URL", server.endpoint()).env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        json(&command.envs(variables.iter().copied()).output().unwrap())
    };
    let dumped = run(&[("S3_BUCKET", "s3://audit-12/postgresql")], &[]);
    assert_eq!(
        (&dumped["vault"], &dumped["objections"]),
        (&"s3://audit-12/postgresql".into(), &Value::Array(vec![]))
    );
    let keys = server.keys("audit-12");
    assert!(keys.iter().any(|key| key == "postgresql/vault.json"));
    assert!(!desk.path("backup").exists(), "nothing is written to disk on the way");
    // 7 and 30, the scripts' defaults: 90 days are paid for.
    let again = run(&[("BACKUP_BUCKET", "audit-{account-id}"), ("AWS_ACCOUNT_ID", "12")], &[]);
    let objections = again["objections"].as_array().unwrap();
    assert_eq!(objections.len(), 1, "{objections:?}");
    assert_eq!(
        (&objections[0]["rule"], &objections[0]["gravity"]),
        (&"minimum-duration".into(), &"warning".into())
    );
    assert!(objections[0]["what"].as_str().unwrap().contains("pays until day 97"), "{objections:?}");
    // What is read seldom can be kept for less from the beginning; listings read the rest.
    let cold = run(&[("S3_BUCKET", "s3://audit-12/cold")], &["--storage-class", "STANDARD_IA"]);
    assert_eq!(cold["objections"], Value::Array(vec![]));
    for key in server.keys("audit-12").iter().filter(|key| key.starts_with("cold/")) {
        let is_cold = server.headers(&format!("audit-12/{key}")).contains("x-amz-storage-class: standard_ia");
        assert_eq!(is_cold, key.contains("/packs/"), "{key}");
    }
    let frozen = desk.strongroom(&["dump", "--once", "--storage-class", "GLACIER"]).output().unwrap();
    assert!(answers(&frozen, 2).contains("must be thawed before they can be read"));
    let mut late = desk.strongroom(&["dump", "--once", "--dry-run"]);
    late.env("AWS_ENDPOINT_URL", server.endpoint()).env("AWS_ALLOW_HTTP", "true");
    late.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    late.env("S3_BUCKET", "audit-12").env("GLACIER_TRANSITION_DAYS", "40").env("RETENTION_DAYS", "365");
    let quiet = answers(&late.output().unwrap(), 0);
    assert!(!quiet.contains("warning"), "{quiet}");
}

/// The two halves of the script as it was written: what it takes, and how it verifies.
const TAKE: &str = "#!/bin/bash
BACKUP_FILE=audit-backup.sql.gz
pg_dump -h $POSTGRES_HOST -p $POSTGRES_PORT -U audit -d audit | gzip > ${BACKUP_FILE}
if [ -f \"${BACKUP_FILE}\" ]; then
  echo \"Backup completed: ${BACKUP_FILE}\"
else
  echo \"ERROR: Backup file not created\"
  exit 1
fi
";
const VERIFY: &str = "#!/bin/bash
BACKUP_FILE=$1
createdb audit_test
gunzip -c \"${BACKUP_FILE}\" | psql -d audit_test
psql -d audit_test -c \"SELECT count(*) FROM checker_config;\" > verify.log
psql -d audit_test -c \"SELECT count(*) FROM whitelist_rules;\" >> verify.log
if grep -q \"ERROR\" verify.log; then
  echo \"Backup verification FAILED\"
  exit 1
else
  echo \"Backup verification PASSED\"
fi
";

#[test]
fn with_the_server_down_the_script_passes_and_this_does_not() {
    let Some(mut desk) = Desk::new() else { return };
    let dumped = desk.dump(&[]);
    let (take, verify) = (desk.put("take.sh", TAKE), desk.put("verify.sh", VERIFY));
    desk.cluster.stop("fast").unwrap();
    let port = desk.cluster.port().to_string();
    let run = |command: &mut Command| {
        command.env("PGPASSWORD", PASSWORD).env("PGHOST", "127.0.0.1").env("PGPORT", &port).output().unwrap()
    };
    let taken = answers(&run(&mut desk.command("/bin/bash", &[&take])), 0);
    assert!(taken.contains("Backup completed"), "{taken}");
    let passed = answers(&run(&mut desk.command("/bin/bash", &[&verify, "audit-backup.sql.gz"])), 0);
    assert!(
        passed.contains("Backup verification PASSED") && passed.contains("connection to server"),
        "{passed}"
    );

    let failed = answers(&run(&mut desk.strongroom(&["dump", "--once"])), 5);
    assert!(failed.contains("connect to 127.0.0.1") && failed.contains("is the server running"), "{failed}");
    let target = format!("host=127.0.0.1 port={port} user=audit dbname=postgres");
    let words = ["restore", "audit", "--target", &target, "--to-database", "audit_test", "--yes"];
    let failed = run(&mut desk.strongroom(&words));
    let heard = said(&failed);
    assert!(
        matches!(failed.status.code(), Some(5 | 10)) && heard.contains("connect to 127.0.0.1"),
        "{heard}"
    );
    // Nothing of the failures counts: the vault has the one dump that was taken.
    let listed: Value = json(&desk.strongroom(&["list", "--output", "json"]).output().unwrap());
    let points = listed[0]["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[0]["point"]), (1, &dumped["point"]), "{listed}");
    answers(&desk.strongroom(&["verify"]).output().unwrap(), 0);
}

/// Whole and in order, and not what anybody wants: what was kept until then stays.
#[test]
fn a_dump_that_has_shrunk_is_a_problem_and_lets_nothing_go() {
    let Some(desk) = Desk::new() else { return };
    let first = desk.dump(&[]);
    assert_eq!(first["shrunk"], Value::Null);
    desk.cluster.sql_in("audit", "delete from checker_config where id > 1000").unwrap();
    let once = |arguments: &[&str], code: i32| {
        let words = [&["dump", "--once", "--keep-days", "0", "--keep-last", "1"], arguments].concat();
        let output = desk.strongroom(&words).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        output
    };
    let told: Value = serde_json::from_slice(&once(&["--output", "json"], 4).stdout).unwrap();
    assert_eq!((&told["shrunk"]["before"], &told["shrunk"]["least_percent"]), (&first["point"], &50.into()));
    assert_eq!(told["expired"]["why_not"], "the dump has shrunk");
    let listed: Value = json(&desk.strongroom(&["list", "--output", "json"]).output().unwrap());
    assert_eq!(listed[0]["points"].as_array().unwrap().len(), 2, "{listed}");
    // It is held against the last one, so that the next is in order; and how small is too small can be said.
    desk.cluster.sql_in("audit", "delete from checker_config where id > 800").unwrap();
    let said = said(&once(&["--least-percent", "95"], 4));
    assert!(said.contains("are less than 95 % of") && said.contains("nothing was let go"), "{said}");
    let told: Value = serde_json::from_slice(&once(&["--output", "json"], 0).stdout).unwrap();
    assert_eq!(told["expired"].as_array().map(Vec::len), Some(3), "{told}");
}
