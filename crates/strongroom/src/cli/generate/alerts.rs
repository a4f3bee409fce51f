//! Rules for Prometheus. The agent tells of what it sees itself; these see it from outside, and also that it is gone.
//!
//! **Invariant**: a source of the settings that has no sample fires: that is why each is named here.

use std::fmt::Write;

use crate::settings::Settings;

/// How Prometheus is to take a scrape: as `job_name` in its settings.
const JOB: &str = "strongroom";

/// A rule.
struct Rule {
    name: &'static str,
    expression: String,
    /// How long it must hold.
    hold: &'static str,
    severity: &'static str,
    summary: &'static str,
}

/// The rules file.
pub fn rules(settings: &Settings) -> String {
    let mut text = String::from(
        "# Made by `strongroom generate alerts`. Prometheus scrapes the agent's [http] as job_name: strongroom.\n\
         groups:\n  - name: strongroom\n    rules:\n",
    );
    let late = settings.watch.late_after.as_secs();
    let mut all = of_agent();
    all.extend(of_sources(late));
    all.extend(settings.sources.keys().map(|source| Rule {
        name: "StrongroomSourceAbsent",
        expression: format!("absent(postgres_backup_last_success_timestamp_seconds{{source=\"{source}\"}})"),
        hold: "15m",
        severity: "critical",
        summary: "source {{ $labels.source }} has no recovery point, or nobody says whether it has",
    }));
    for rule in all {
        let Rule { name, expression, hold, severity, summary } = rule;
        // Writing into a string does not end in an error.
        let _ = write!(
            text,
            "      - alert: {name}\n        expr: {}\n        for: {hold}\n        labels:\n          severity: {severity}\n        annotations:\n          summary: {}\n",
            quoted(&expression),
            quoted(summary),
        );
    }
    text
}

/// A plain scalar could be read as something else: single quotes hold everything but themselves.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn rule(
    name: &'static str,
    expression: impl Into<String>,
    (hold, severity): (&'static str, &'static str),
    summary: &'static str,
) -> Rule {
    Rule { name, expression: expression.into(), hold, severity, summary }
}

fn of_agent() -> Vec<Rule> {
    let (now, soon, later) = ("0m", "5m", "15m");
    vec![
        rule(
            "StrongroomAgentGone",
            format!("up{{job=\"{JOB}\"}} == 0 or absent(up{{job=\"{JOB}\"}})"),
            (soon, "critical"),
            "no Strongroom agent answers: nobody watches the backups",
        ),
        rule(
            "StrongroomVaultSilent",
            "strongroom_vault_up == 0",
            (later, "critical"),
            "the vault does not say what it holds",
        ),
        rule(
            "StrongroomWatchStale",
            "time() - strongroom_vault_read_timestamp_seconds > 3600",
            (now, "warning"),
            "the vault was not read for an hour",
        ),
        rule(
            "StrongroomAlertFires",
            "strongroom_alert_firing{severity=\"critical\"} > 0",
            (now, "critical"),
            "{{ $labels.kind }} of {{ $labels.source }}: strongroom alert list says more",
        ),
        rule(
            "StrongroomAlertWarns",
            "strongroom_alert_firing{severity=\"warning\"} > 0",
            (now, "warning"),
            "{{ $labels.kind }} of {{ $labels.source }}: strongroom alert list says more",
        ),
        rule(
            "StrongroomChannelFails",
            "strongroom_channel_up == 0",
            (later, "warning"),
            "channel {{ $labels.channel }} does not take what it is told",
        ),
    ]
}

fn of_sources(late: u64) -> Vec<Rule> {
    let (now, soon) = ("0m", "5m");
    vec![
        rule(
            "StrongroomNeverBackedUp",
            "strongroom_source_watched unless on (source) postgres_backup_last_success_timestamp_seconds",
            ("15m", "critical"),
            "source {{ $labels.source }} has no recovery point",
        ),
        rule(
            "StrongroomBackupOld",
            format!("time() - postgres_backup_last_success_timestamp_seconds > {}", 86_400 + late),
            (now, "warning"),
            "the newest recovery point of {{ $labels.source }} is of {{ $value | humanizeDuration }} ago",
        ),
        rule(
            "StrongroomRpoBroken",
            "strongroom_rpo_seconds > on (source) strongroom_rpo_objective_seconds",
            (soon, "critical"),
            "the newest {{ $value | humanizeDuration }} of {{ $labels.source }} would be lost, which is more than may be",
        ),
        rule(
            "StrongroomWalGap",
            "strongroom_wal_gap == 1",
            (now, "critical"),
            "WAL of {{ $labels.source }} is missing behind its newest recovery point",
        ),
        rule(
            "StrongroomDrillFailed",
            "strongroom_drill_passed == 0",
            (now, "critical"),
            "the newest drill of {{ $labels.source }} did not prove that it can be restored in time",
        ),
    ]
}
