//! A dashboard for Grafana: to which second can each source be recovered, and how do we know?

use serde_json::{Value, json};

/// Grafana's width, in columns.
const WIDTH: u32 = 24;

/// What a panel shows: a title, an expression, what its lines are called, and its unit.
type Shown = (&'static str, &'static str, &'static str, &'static str);

/// One number each.
const STATS: &[Shown] = &[
    ("Alerts that fire", "sum(strongroom_alerts_firing)", "", "none"),
    ("Sources", "count(strongroom_source_watched)", "", "none"),
    ("Oldest newest point", "max(time() - postgres_backup_last_success_timestamp_seconds)", "", "s"),
    ("Most that would be lost", "max(strongroom_rpo_seconds)", "", "s"),
    ("Points hold", "sum(strongroom_stored_bytes)", "", "bytes"),
    ("Vault answers", "min(strongroom_vault_up)", "", "bool_yes_no"),
];

/// Lines over time.
const LINES: &[Shown] = &[
    ("Would be lost now", "strongroom_rpo_seconds{source=~\"$source\"}", "{{source}}", "s"),
    (
        "Age of the newest recovery point",
        "time() - postgres_backup_last_success_timestamp_seconds{source=~\"$source\"}",
        "{{source}}",
        "s",
    ),
    ("Time since WAL became durable", "strongroom_wal_lag_seconds{source=~\"$source\"}", "{{source}}", "s"),
    ("Recovery points", "strongroom_points{source=~\"$source\"}", "{{source}}", "none"),
    ("Size of the source", "strongroom_point_bytes{source=~\"$source\"}", "{{source}}", "bytes"),
    (
        "Added by the newest point",
        "strongroom_point_stored_bytes{source=~\"$source\"}",
        "{{source}}",
        "bytes",
    ),
    ("Backups take", "strongroom_backup_duration_seconds{source=~\"$source\"}", "{{source}}", "s"),
    ("Drills: time to recovery", "strongroom_drill_rto_seconds{source=~\"$source\"}", "{{source}}", "s"),
    ("Alerts", "strongroom_alert_firing", "{{kind}} {{source}}", "none"),
    ("Jobs that failed", "strongroom_jobs{state=~\"failed|expired|missed\"}", "{{kind}} {{state}}", "none"),
    ("Told by channels", "rate(strongroom_channel_told_total[1h])", "{{channel}}", "ops"),
    ("Refused by channels", "rate(strongroom_channel_refused_total[1h])", "{{channel}}", "ops"),
];

/// The dashboard's JSON.
pub fn dashboard() -> String {
    let stat_width = WIDTH / STATS.len() as u32;
    let stats =
        STATS.iter().zip(0..).map(|(shown, at)| panel(shown, "stat", (stat_width * at, 0, stat_width, 4)));
    let lines = LINES.iter().zip(0..).map(|(shown, at)| {
        let (column, row) = (at % 2, at / 2);
        panel(shown, "timeseries", (column * WIDTH / 2, 4 + row * 8, WIDTH / 2, 8))
    });
    let panels: Vec<Value> = stats.chain(lines).zip(1..).map(numbered).collect();
    let source = json!({
        "name": "source", "label": "Source", "type": "query", "datasource": datasource(),
        "query": { "query": "label_values(strongroom_source_watched, source)", "refId": "source" },
        "includeAll": true, "multi": true, "refresh": 2, "sort": 1,
        "current": { "text": "All", "value": "$__all" },
    });
    let choice = json!({ "name": "prometheus", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1 });
    let dashboard = json!({
        "title": "Strongroom", "uid": "strongroom", "tags": ["backup", "strongroom"], "schemaVersion": 39, "version": 1,
        "editable": true, "refresh": "1m", "time": { "from": "now-7d", "to": "now" }, "timezone": "browser",
        "templating": { "list": [choice, source] },
        "panels": panels,
    });
    format!("{dashboard:#}")
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${prometheus}" })
}

fn panel((title, expression, legend, unit): &Shown, kind: &str, (x, y, w, h): (u32, u32, u32, u32)) -> Value {
    json!({
        "title": title, "type": kind, "datasource": datasource(),
        "gridPos": { "x": x, "y": y, "w": w, "h": h },
        "fieldConfig": { "defaults": { "unit": unit }, "overrides": [] },
        "targets": [{ "refId": "A", "expr": expression, "legendFormat": legend, "datasource": datasource() }],
    })
}

fn numbered((mut panel, id): (Value, u32)) -> Value {
    panel["id"] = id.into();
    panel
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::agent::metrics::FAMILIES;
    use crate::cli::generate::alerts::rules;
    use crate::settings::Settings;

    /// The names of metrics in an expression.
    fn metrics(text: &str) -> BTreeSet<&str> {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        words.filter(|word| word.starts_with("strongroom_") || word.starts_with("postgres_")).collect()
    }

    #[test]
    fn dashboard_and_rules_name_metrics_that_there_are() {
        let known: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
        let settings = Settings::read("[source.orders]\nkind = \"postgres\"\n", "f").unwrap();
        let rules = rules(&settings);
        let shown: Vec<&str> = STATS.iter().chain(LINES).map(|(_, expression, ..)| *expression).collect();
        for text in shown.iter().copied().chain(rules.lines().filter(|line| line.contains("expr:"))) {
            assert!(metrics(text).is_subset(&known), "{text}");
        }
        assert!(
            rules.contains("absent(postgres_backup_last_success_timestamp_seconds{source=\"orders\"})"),
            "{rules}"
        );
        let dashboard: Value = serde_json::from_str(&dashboard()).unwrap();
        assert_eq!(dashboard["panels"].as_array().unwrap().len(), STATS.len() + LINES.len());
    }
}
