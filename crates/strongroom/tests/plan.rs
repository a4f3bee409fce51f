//! `strongroom plan`: what is wrong, what becomes due, what it comes to, what others' plans become; and by what was measured.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::path::PathBuf;
use std::process::{Command, Output};

use live::{Site, versions};
use serde_json::Value;
use strongroom_postgres::cluster::InitOptions;

/// A folder with settings, and nothing else of this host's.
struct Desk(tempfile::TempDir);

/// Three sources, a plan for one of them that keeps what it promises and leaves one out, and a second vault.
const SETTINGS: &str = r#"
[vault]
url = "vault"

[[also]]
name = "dr"
url = "elsewhere"

[source.orders]
kind = "postgres"
tags = { env = "prod" }
rpo = "26h"

[source.ledger]
kind = "postgres-logical"
tags = { env = "test" }

[source.cache-1]
kind = "postgres"
tags = { env = "prod" }

[plan.production]
select = { tags = { env = "prod" } }
timezone = "Europe/Berlin"
disaster_recovery = true

[[plan.production.rule]]
name = "nightly"
schedule = "30 2 * * *"
start_window = "1h"
retention = { daily = 7, weekly = 4 }
copies = ["dr"]

[[plan.production.exclude]]
source = "cache*"
reason = "made anew from orders"
owner = "shop"
review = 2099-01-01

[plan.production.drill]
schedule = "0 4 1 * *"
"#;

impl Desk {
    fn new(settings: &str) -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        desk.put("strongroom.toml", settings);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.arg("plan").args(arguments).current_dir(self.0.path()).env_clear();
        command.env("HOME", self.0.path()).output().unwrap()
    }

    /// All it said, after this exit code.
    fn says(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    /// What it printed for scripts.
    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn numbers(found: &Value) -> Vec<&str> {
    found["findings"].as_array().unwrap().iter().map(|one| one["number"].as_str().unwrap()).collect()
}

#[test]
fn lint_finds_what_is_wrong_and_says_how_to_mend_it() {
    let desk = Desk::new(SETTINGS);
    let found = desk.json(&["lint", "--offline"], 0);
    // Nothing was measured, and the test's source is in no plan.
    assert_eq!(numbers(&found), ["P002", "P203"]);
    assert_eq!(found["findings"][0]["sources"], serde_json::json!(["ledger"]));
    desk.says(&["lint", "--offline", "--strict"], 4);
    assert_eq!(numbers(&desk.json(&["lint", "production", "--offline"], 0)), ["P203"]);
    // Without a vault it goes on, and says so.
    let said = desk.says(&["lint"], 0);
    assert!(said.contains("nothing that was measured is reckoned with"), "{said}");
    let broken =
        SETTINGS.replace("rpo = \"26h\"", "rpo = \"4h\"").replace("copies = [\"dr\"]", "copies = [\"rd\"]");
    let desk = Desk::new(&broken);
    assert_eq!(numbers(&desk.json(&["lint", "--offline"], 4)), ["P003", "P201", "P002"]);
    let said = desk.says(&["lint", "--offline"], 4);
    for line in [
        "P003 refuse  rule nightly of plan production copies to rd, and no vault is called so",
        "there are dr",
        "P201 refuse  source orders may lose 25 h 0 min, and its RPO is 4h",
        "back it up every 4h or more often; or say archive_timeout of the server in [source.orders], or have its WAL streamed: [source.orders.receive]",
        "3 findings in 1 plan",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(desk.says(&["lint", "staging"], 2).contains("there are production"));
}

#[test]
fn runs_are_shown_in_two_clocks_and_across_a_change_of_clocks() {
    let desk = Desk::new(SETTINGS);
    let shown = desk.json(&["show", "--from", "2026-03-28T00:00:00Z", "--next", "2d"], 0);
    let runs: Vec<[&str; 2]> = shown["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| [run["at"].as_str().unwrap(), run["local"].as_str().unwrap()])
        .collect();
    assert_eq!(
        runs,
        [
            ["2026-03-28T01:30:00Z", "2026-03-28 02:30 +0100"],
            ["2026-03-29T01:00:00Z", "2026-03-29 03:00 +0200"],
        ]
    );
    assert_eq!(shown["plans"]["production"]["sources"], serde_json::json!(["orders"]));
    let said = desk.says(&["show", "production", "--from", "2026-03-28T00:00:00Z", "--next", "5d"], 0);
    for part in [
        "production: 1 source (orders), RPO 1d 2h",
        "2026-04-01 02:00:00+00",
        "2026-04-01 04:00 +0200",
        "drill",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(desk.says(&["show", "--next", "soon"], 2).contains("'soon' is not a length of time"));
    assert!(Desk::new("").says(&["show"], 3).contains("there is no plan"));
}

#[test]
fn a_year_is_played_and_the_same_question_has_the_same_answer() {
    let desk = Desk::new(SETTINGS);
    let arguments = ["simulate", "--offline", "--from", "2026-01-01T00:00:00Z"];
    let without = desk.json(&arguments, 0);
    let played = &without["plays"][0]["played"];
    assert_eq!(played["taken"], 365);
    assert_eq!((&played["stored"], &played["cost"]), (&Value::Null, &Value::Null));
    // From one night to the next there are 24 hours by the clock, 25 when clocks go back.
    assert_eq!(played["worst_rpo"], 25 * 3600);
    let sized =
        [&arguments[..], &["--size", "100GB", "--change", "1GB", "--wal", "2GB", "--seed", "7"]].concat();
    let one = desk.json(&sized, 0);
    assert_eq!(one, desk.json(&sized, 0));
    let played = &one["plays"][0]["played"];
    assert!(played["cost"].as_f64().unwrap() > 0.0 && played["points"].as_u64().unwrap() <= 11, "{played}");
    let said = desk.says(&sized, 0);
    assert!(
        said.contains("list prices of https://aws.amazon.com/s3/pricing/ for us-east-1 of 2025-11-01"),
        "{said}"
    );
    desk.says(&["simulate", "--days", "0"], 2);
    assert!(desk.says(&["simulate", "--source", "ledger", "--offline"], 3).contains("cover no such source"));
}

#[test]
fn plans_of_others_are_read_and_written_and_linted() {
    let desk = Desk::new(SETTINGS);
    desk.put(
        "backup_schedule.json",
        r#"{ "ec2_snapshots": "cron(0 2 * * ? *)", "rds_backups": "cron(0 3 * * ? *)", "s3_sync": "cron(0 1 * * ? *)" }"#,
    );
    desk.put(
        "plan.json",
        r#"{ "BackupPlan": { "BackupPlanName": "Daily", "Rules": [{
            "RuleName": "daily-backup-rule", "TargetBackupVaultName": "Default", "ScheduleExpression": "cron(0 2 * * ? *)",
            "ScheduleExpressionTimezone": "Asia/Singapore", "Lifecycle": { "DeleteAfterDays": 7 } }] },
            "BackupSelection": { "SelectionName": "s", "Resources": ["arn:aws:rds:eu-west-1:123456789012:db:orders"] } }"#,
    );
    let before = std::fs::read_to_string(desk.path("strongroom.toml")).unwrap();
    let read = desk.json(&["import", "plan.json"], 0);
    assert_eq!(read["plans"], serde_json::json!(["daily"]));
    assert_eq!(std::fs::read_to_string(desk.path("strongroom.toml")).unwrap(), before, "only --write writes");
    desk.says(&["import", "plan.json", "--write"], 0);
    let said = desk.says(&["show", "daily", "--from", "2026-01-01T00:00:00Z", "--next", "1d"], 0);
    assert!(said.contains("2026-01-01 18:00:00+00") && said.contains("2026-01-02 02:00 +0800"), "{said}");
    // Not twice.
    let written = std::fs::read_to_string(desk.path("strongroom.toml")).unwrap();
    assert!(written.starts_with(before.trim_end()));
    assert!(desk.says(&["import", "plan.json", "--write"], 12).contains("has a plan called daily"));
    assert_eq!(std::fs::read_to_string(desk.path("strongroom.toml")).unwrap(), written);
    // What the schedules are for stands nowhere: linting says so until a source has the tag.
    let said = desk.says(&["import", "backup_schedule.json", "--write"], 14);
    assert!(said.contains("tags = { schedule = \"rds_backups\" }"), "{said}");
    let found = desk.json(&["lint", "rds_backups", "--offline"], 4);
    assert_eq!(numbers(&found), ["P001"]);
    for (text, says) in [
        ("{", "it is no JSON"),
        ("{}", "neither an AWS Backup plan"),
        (r#"{ "a": "cron(0 2 * * * *)" }"#, "exactly one of day of month and day of week must be '?'"),
    ] {
        desk.put("wrong.json", text);
        assert!(desk.says(&["import", "wrong.json"], 3).contains(says));
    }
    assert!(desk.says(&["import", "nowhere.json"], 3).contains("nowhere.json"));
}

#[test]
fn what_backups_and_restores_took_is_reckoned_with() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    let plan = "rpo = \"25h\"\nrto = \"0s\"\n[plan.all]\nselect = { sources = [\"*\"] }\n[plan.all.drill]\nschedule = \"@monthly\"\n\
                [[plan.all.rule]]\nname = \"nightly\"\nschedule = \"@daily\"\nstart_window = \"1m\"\nretention = { daily = 7 }\n";
    let settings = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    std::fs::write(site.path("strongroom.toml"), format!("{settings}{plan}")).unwrap();
    let lint = |code: i32| -> Value {
        let output = site.run(&["plan", "lint", "--output", "json"]);
        assert_eq!(output.status.code(), Some(code), "{}", live::said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    // Nothing was measured yet, and it is said so.
    assert_eq!(numbers(&lint(0)), ["P203", "P205"]);
    site.backup();
    site.cluster.sql("create table more as select n from generate_series(1, 20000) n").unwrap();
    site.backup();
    site.ship(&site.cluster);
    assert_eq!(numbers(&lint(0)), ["P205"]);
    site.ok(&["restore", "--yes", "--no-archiving", "--to", &site.inside("restored")]);
    let found = lint(4);
    assert_eq!(numbers(&found), ["P204"]);
    let measured = &found["measured"]["main"];
    for key in ["bytes", "full", "change_a_day", "wal_a_day"] {
        assert!(measured[key].as_u64() > Some(0), "{key}: {measured}");
    }
    let played: Value = serde_json::from_str(&site.ok(&["plan", "simulate", "--output", "json"])).unwrap();
    let play = &played["plays"][0];
    assert_eq!(play["growth"]["full"], measured["full"]);
    assert!(play["played"]["cost"].as_f64().unwrap() > 0.0, "{play}");
}
