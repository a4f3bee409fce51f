//! The alerting rules that `generate alerts` writes, under Prometheus' own judge.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// promtool, on `PATH` or where `./test` puts it.
fn promtool() -> Option<PathBuf> {
    let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/prometheus/usr/bin/promtool");
    let of_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let places = of_path.map(|folder| folder.join("promtool")).chain([PathBuf::from(usual)]);
    let found = places.into_iter().find(|path| path.exists());
    if found.is_none() {
        println!("skipped: there is no promtool (./test takes it from Debian's package)");
    }
    found
}

fn check(promtool: &Path, folder: &Path, words: &[&str]) {
    let output = Command::new(promtool).args(words).current_dir(folder).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

/// One trouble: the series that show it, and the rule that tells of it after twenty minutes, with its labels. All other rules are
/// silent then, but for those that the same series trouble as well.
fn case(name: &str, series: &[(&str, &str)], alert: &str, labels: &str) -> String {
    let mut text = format!("  - name: {name}\n    interval: 1m\n    input_series:\n");
    for (series, values) in series {
        text.push_str(&format!("      - series: '{series}'\n        values: '{values}'\n"));
    }
    text.push_str(&format!("    alert_rule_test:\n      - eval_time: 20m\n        alertname: {alert}\n"));
    match labels.is_empty() {
        true => text.push_str("        exp_alerts: []\n"),
        false => text.push_str(&format!("        exp_alerts:\n          - exp_labels: {{ {labels} }}\n")),
    }
    text
}

/// A series and its values, as promtool takes them.
type Series = (&'static str, &'static str);

const UP: Series = ("up{job=\"strongroom\"}", "1x30");
const ORDERS: &str = "postgres_backup_last_success_timestamp_seconds{source=\"orders\"}";
const BILLING: &str = "postgres_backup_last_success_timestamp_seconds{source=\"billing\"}";

/// What it is, the series that show it, the rule that is looked at, and the labels under which it fires; none if it does not.
const CASES: &[(&str, &[Series], &str, &str)] = &[
    ("all is well", &[UP, (ORDERS, "1x30")], "StrongroomAgentGone", ""),
    (
        "a target that is down",
        &[("up{job=\"strongroom\"}", "1x10 0x20")],
        "StrongroomAgentGone",
        "severity: critical, job: strongroom",
    ),
    ("no target at all", &[], "StrongroomAgentGone", "severity: critical, job: strongroom"),
    (
        "a source that is gone",
        &[(ORDERS, "1x30")],
        "StrongroomSourceAbsent",
        "severity: critical, source: billing",
    ),
    ("both are there", &[(ORDERS, "1x30"), (BILLING, "1x30")], "StrongroomSourceAbsent", ""),
    (
        "never backed up",
        &[
            ("strongroom_source_watched{source=\"new\"}", "1x30"),
            ("strongroom_source_watched{source=\"orders\"}", "1x30"),
            (ORDERS, "1x30"),
        ],
        "StrongroomNeverBackedUp",
        "severity: critical, source: new",
    ),
    (
        "an RPO that is broken, and one that is not",
        &[
            ("strongroom_rpo_seconds{source=\"orders\"}", "301x30"),
            ("strongroom_rpo_objective_seconds{source=\"orders\"}", "300x30"),
            ("strongroom_rpo_seconds{source=\"billing\"}", "299x30"),
            ("strongroom_rpo_objective_seconds{source=\"billing\"}", "300x30"),
        ],
        "StrongroomRpoBroken",
        "severity: critical, source: orders",
    ),
    ("no objective", &[("strongroom_rpo_seconds{source=\"orders\"}", "99999x30")], "StrongroomRpoBroken", ""),
    (
        "a gap",
        &[("strongroom_wal_gap{source=\"orders\"}", "0x10 1x20")],
        "StrongroomWalGap",
        "severity: critical, source: orders",
    ),
    (
        "a drill that failed",
        &[("strongroom_drill_passed{source=\"orders\"}", "0x30")],
        "StrongroomDrillFailed",
        "severity: critical, source: orders",
    ),
    (
        "a vault that is silent",
        &[("strongroom_vault_up", "1x2 0x30")],
        "StrongroomVaultSilent",
        "severity: critical",
    ),
    ("a vault that hiccups", &[("strongroom_vault_up", "0x10 1x20")], "StrongroomVaultSilent", ""),
    (
        "a channel",
        &[("strongroom_channel_up{channel=\"mail\"}", "0x30")],
        "StrongroomChannelFails",
        "severity: warning, channel: mail",
    ),
];

#[test]
fn rules_fire_for_what_they_are_for_and_not_otherwise() {
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = "[source.orders]\nkind = \"postgres\"\n[source.billing]\nkind = \"postgres\"\n";
    std::fs::write(folder.path().join("strongroom.toml"), settings).unwrap();
    let mut generate = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    generate.args(["generate", "alerts", "--to", "rules.yml"]).current_dir(folder.path()).env_clear();
    assert!(generate.output().unwrap().status.success());
    check(&promtool, folder.path(), &["check", "rules", "rules.yml"]);

    let mut text = "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n".to_owned();
    for (name, series, alert, labels) in CASES {
        text.push_str(&case(name, series, alert, labels));
    }
    std::fs::write(folder.path().join("tests.yml"), without_annotations(&text, folder.path())).unwrap();
    check(&promtool, folder.path(), &["test", "rules", "tests.yml"]);
}

/// What rules say is compared by promtool as well: here only whether they fire is, so the rules that are tried say nothing.
fn without_annotations(tests: &str, folder: &Path) -> String {
    let rules = std::fs::read_to_string(folder.join("rules.yml")).unwrap();
    let says = |line: &&str| {
        !line.trim_start().starts_with("annotations:") && !line.trim_start().starts_with("summary:")
    };
    let silent: Vec<&str> = rules.lines().filter(says).collect();
    std::fs::write(folder.join("silent.yml"), silent.join("\n") + "\n").unwrap();
    tests.replace("rule_files: [rules.yml]", "rule_files: [silent.yml]")
}
