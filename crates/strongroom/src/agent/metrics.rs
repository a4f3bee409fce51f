//! Metrics in Prometheus' text format (exposition format 0.0.4): what the watch saw last.
//!
//! **Invariants**
//! - What is not known has no sample: a rule with `absent()` sees that, and never a made-up zero.
//! - Ages are counted when they are asked for: they grow while the vault does not answer.
//! - The table below is the promise; `docs/metrics.md` shows it.

use std::fmt::Write;

use strongroom_model::Timestamp;
use strongroom_model::alert::Severity;
use strongroom_model::alert::observed::SourceState;
use strongroom_model::alert::rules::durable_at;

use crate::agent::watch::board::Snapshot;

/// A metric.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it is, with its unit.
    pub help: &'static str,
}

const OF_SOURCE: &[&str] = &["source"];

/// Derives the table and a name for each row of it.
macro_rules! families {
    ($($constant:ident $kind:literal $name:literal $labels:expr, $help:literal;)+) => {
        $(const $constant: Family = Family { name: $name, kind: $kind, labels: $labels, help: $help };)+

        /// All of them, in the order in which they are shown.
        pub const FAMILIES: &[&Family] = &[$(&$constant),+];
    };
}

families! {
    LAST_SUCCESS "gauge" "postgres_backup_last_success_timestamp_seconds" OF_SOURCE,
        "The earliest time to which the newest restorable recovery point leads, in seconds since 1970.";
    WATCHED "gauge" "strongroom_source_watched" OF_SOURCE, "1 for each source in the settings, whether or not anything of it is in the vault.";
    POINTS "gauge" "strongroom_points" OF_SOURCE, "Recovery points that can be restored.";
    POINT_BYTES "gauge" "strongroom_point_bytes" OF_SOURCE, "Bytes of the source in its newest recovery point.";
    POINT_STORED "gauge" "strongroom_point_stored_bytes" OF_SOURCE, "Bytes that the newest recovery point added to the vault.";
    STORED "gauge" "strongroom_stored_bytes" OF_SOURCE, "Bytes that all restorable recovery points added to the vault; WAL is not counted.";
    DURATION "gauge" "strongroom_backup_duration_seconds" OF_SOURCE, "How long the newest recovery point took, from its start to its commit.";
    WAL_LAG "gauge" "strongroom_wal_lag_seconds" OF_SOURCE, "Time since WAL last became durable in the vault.";
    WAL_GAP "gauge" "strongroom_wal_gap" OF_SOURCE, "1 if a WAL segment is missing behind the newest recovery point.";
    RECOVERABLE "gauge" "strongroom_recoverable_timestamp_seconds" OF_SOURCE, "The last transaction that can be restored, in seconds since 1970.";
    RPO "gauge" "strongroom_rpo_seconds" OF_SOURCE, "So much of the newest would be lost if the source were lost now.";
    RPO_OBJECTIVE "gauge" "strongroom_rpo_objective_seconds" OF_SOURCE, "So much of the newest may be lost, as settings and plans say.";
    DRILL_AT "gauge" "strongroom_drill_last_timestamp_seconds" OF_SOURCE, "When the newest drill ended, in seconds since 1970.";
    DRILL_PASSED "gauge" "strongroom_drill_passed" OF_SOURCE, "1 if the newest drill proved that a restore works in time, else 0.";
    DRILL_RTO "gauge" "strongroom_drill_rto_seconds" OF_SOURCE, "How long the restore of the newest drill took until the source could have been used again.";
    VERIFIED "gauge" "strongroom_verify_last_timestamp_seconds" OF_SOURCE, "When a verifying job was last done, in seconds since 1970.";
    JOBS "gauge" "strongroom_jobs" &["kind", "state"], "Jobs that the catalog remembers (400 days of them), by kind and state.";
    FIRING "gauge" "strongroom_alerts_firing" &["severity"], "Alerts that fire.";
    ALERT "gauge" "strongroom_alert_firing" &["kind", "source", "severity"], "How many alerts of this kind fire of this source; source is empty if they concern no single one.";
    CHANNEL_UP "gauge" "strongroom_channel_up" &["channel"], "1 if the channel took the last that it was told, else 0.";
    TOLD "counter" "strongroom_channel_told_total" &["channel"], "How often a channel took what it was told.";
    REFUSED "counter" "strongroom_channel_refused_total" &["channel"], "How often a channel did not take what it was told.";
    WAITING "gauge" "strongroom_tellings_waiting" &[], "What channels are still to be told.";
    VAULT_UP "gauge" "strongroom_vault_up" &[], "1 if the vault said what it holds when it was last asked, else 0.";
    READ_AT "gauge" "strongroom_vault_read_timestamp_seconds" &[], "When the vault last said what it holds, in seconds since 1970.";
    BUILD "gauge" "strongroom_build_info" &["version"], "1, of this build.";
}

/// Samples, by the row of their family.
#[derive(Default)]
struct Page {
    samples: Vec<(&'static str, String)>,
}

impl Page {
    fn add(&mut self, family: &Family, labels: &[&str], value: impl Into<Option<f64>>) {
        let Some(value) = value.into() else { return };
        let pairs: Vec<String> = family
            .labels
            .iter()
            .zip(labels)
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        self.samples.push((family.name, format!("{}{labels} {value}", family.name)));
    }

    fn print(&self) -> String {
        let mut text = String::new();
        for family in FAMILIES {
            let Family { name, kind, help, .. } = family;
            // Writing into a string does not end in an error.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (_, sample) in self.samples.iter().filter(|(of, _)| of == name) {
                text.push_str(sample);
                text.push('\n');
            }
        }
        text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The page, as it is at `now`.
pub fn page(snapshot: &Snapshot, now: Timestamp) -> String {
    let mut page = Page::default();
    for source in &snapshot.observed.sources {
        of_source(&mut page, source, now);
        of_vault(&mut page, source, snapshot);
    }
    for ((kind, state), count) in &snapshot.facts.counts {
        page.add(&JOBS, &[kind.word(), state.word()], *count as f64);
    }
    of_alerts(&mut page, snapshot);
    page.add(&WAITING, &[], snapshot.facts.waiting as f64);
    page.add(&VAULT_UP, &[], truth(!snapshot.is_silent));
    page.add(&READ_AT, &[], snapshot.reading.as_ref().map(|reading| seconds(reading.at)));
    page.add(&BUILD, &[snapshot.build.rsplit(' ').next().unwrap_or_default()], 1.0);
    page.print()
}

fn of_source(page: &mut Page, source: &SourceState, now: Timestamp) {
    let name = [source.name.as_str()];
    page.add(&WATCHED, &name, 1.0);
    page.add(&RPO_OBJECTIVE, &name, source.rpo.map(|rpo| rpo.0.as_secs_f64()));
    page.add(&VERIFIED, &name, source.verified_at.map(seconds));
    let Some(held) = &source.held else { return };
    let age = |at: Timestamp| now.since(at).as_secs_f64();
    page.add(&LAST_SUCCESS, &name, held.last_point_at.map(seconds));
    page.add(&POINTS, &name, held.points as f64);
    if source.has_journal {
        page.add(&WAL_LAG, &name, held.journal_at.map(age));
        page.add(&WAL_GAP, &name, truth(held.gap.is_some()));
    }
    page.add(&RPO, &name, durable_at(source).map(age));
    page.add(&DRILL_AT, &name, held.drill.as_ref().map(|drill| seconds(drill.at)));
    page.add(&DRILL_PASSED, &name, held.drill.as_ref().map(|drill| truth(drill.passed)));
    page.add(&DRILL_RTO, &name, held.drill.as_ref().and_then(|drill| drill.rto_seconds));
}

fn of_vault(page: &mut Page, source: &SourceState, snapshot: &Snapshot) {
    let Some(said) = snapshot.reading.as_ref().and_then(|reading| reading.sources.get(&source.name)) else {
        return;
    };
    let name = [source.name.as_str()];
    page.add(&POINT_BYTES, &name, said.sizes.last().map(|bytes| *bytes as f64));
    page.add(&POINT_STORED, &name, said.last_point_stored_bytes.map(|bytes| bytes as f64));
    page.add(&STORED, &name, said.stored_bytes as f64);
    page.add(&DURATION, &name, said.last_point_seconds.map(|took| took as f64));
    page.add(&RECOVERABLE, &name, said.recoverable_to.map(seconds));
}

fn of_alerts(page: &mut Page, snapshot: &Snapshot) {
    let alerts = &snapshot.facts.alerts;
    for severity in Severity::ALL {
        let count = alerts.iter().filter(|alert| alert.condition.severity == *severity).count();
        page.add(&FIRING, &[severity.word()], count as f64);
    }
    let mut counts = std::collections::BTreeMap::<[&str; 3], u32>::new();
    for alert in alerts {
        let condition = &alert.condition;
        let source = condition.source.as_ref().map_or("", |source| source.as_str());
        *counts.entry([condition.kind.word(), source, condition.severity.word()]).or_default() += 1;
    }
    counts.iter().for_each(|(labels, count)| page.add(&ALERT, labels, f64::from(*count)));
    for channel in &snapshot.facts.channels {
        let name = [channel.name.as_str()];
        page.add(&CHANNEL_UP, &name, truth(channel.failing_since.is_none()));
        page.add(&TOLD, &name, channel.told as f64);
        page.add(&REFUSED, &name, channel.refused as f64);
    }
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn seconds(at: Timestamp) -> f64 {
    at.0.as_microsecond() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page is the promise: every metric is on it, with its labels and what it is, and nothing else is.
    #[test]
    fn the_page_of_metrics_is_the_table() {
        let page = include_str!("../../../../docs/metrics.md");
        let rows: Vec<[String; 4]> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| {
                let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', ""));
                std::array::from_fn(|_| cells.next().unwrap())
            })
            .collect();
        let table: Vec<[String; 4]> = FAMILIES
            .iter()
            .map(|family| {
                [family.name, family.kind, &family.labels.join(", "), family.help].map(str::to_owned)
            })
            .collect();
        assert_eq!(rows, table);
    }

    #[test]
    fn samples_stand_under_their_family_and_what_is_unknown_has_none() {
        let mut page = Page::default();
        page.add(&WATCHED, &["a\"b\\"], 1.0);
        page.add(&LAST_SUCCESS, &["orders"], 1_800_000_000.5);
        page.add(&LAST_SUCCESS, &["other"], None);
        page.add(&VAULT_UP, &[], 0.0);
        let text = page.print();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "postgres_backup_last_success_timestamp_seconds{source=\"orders\"} 1800000000.5",
                "strongroom_source_watched{source=\"a\\\"b\\\\\"} 1",
                "strongroom_vault_up 0",
            ]
        );
        assert_eq!(text.matches("# TYPE ").count(), FAMILIES.len());
        let behind = |line: &str| text.split_once(line).unwrap().1.to_owned();
        assert!(behind("# TYPE strongroom_vault_up gauge\n").starts_with("strongroom_vault_up 0\n"));
    }
}
