//! `strongroom alert`

use anstyle::AnsiColor;
use serde::Serialize;
use serde_json::json;
use strongroom_catalog::Catalog;
use strongroom_catalog::alerts::ChannelRecord;
use strongroom_model::Timestamp;
use strongroom_model::alert::news::{Alert, Event, News};
use strongroom_model::alert::{AlertKind, Condition, Severity};
use strongroom_model::time::human_duration;

use crate::catalog::open;
use crate::channels::tell;
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table, tinted};
use crate::surroundings::host;

/// Show what is wrong, and try whether people hear of it
#[derive(clap::Subcommand)]
pub enum Verb {
    /// The alerts that fire, and how the channels are that tell of them
    #[command(after_help = "\
The agent decides what fires; this shows what it found. Exits with 4 if anything fires.

Examples:
  strongroom alert list
  strongroom alert list --output json")]
    List,
    /// Send a test through each channel of the settings, or one
    #[command(after_help = "\
Severities are not looked at: every channel gets it. Exits with 4 if one did not take it.

Examples:
  strongroom alert test
  strongroom alert test oncall")]
    Test(Test),
}

#[derive(clap::Args)]
pub struct Test {
    /// Only this one
    #[arg(value_name = "CHANNEL")]
    channel: Option<String>,
}

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::List => list(context).await,
        Verb::Test(Test { channel }) => test(context, channel.as_deref()).await,
    }
}

async fn list(context: &Context) -> Result<Outcome, Failure> {
    let catalog = open(context).await?;
    let (alerts, records) = (catalog.alerts().await?, catalog.channels().await?);
    let channels: Vec<Listed<'_>> = listed(context, &records);
    let text = show(&alerts, &channels, context.cx.now());
    let code = if alerts.is_empty() { Code::Ok } else { Code::Problems };
    Ok(Outcome::new(&json!({ "alerts": alerts, "channels": channels }), text).with_code(code))
}

/// A channel of the settings.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    kind: &'static str,
    severity: Severity,
    /// None if it was never told anything.
    #[serde(flatten)]
    record: Option<&'a ChannelRecord>,
}

fn listed<'a>(context: &'a Context, records: &'a [ChannelRecord]) -> Vec<Listed<'a>> {
    let alerts = context.settings.alerts.iter();
    let record = |name: &str| records.iter().find(|record| record.name == name);
    alerts
        .map(|(name, of)| Listed {
            name: name.as_str(),
            kind: of.kind(),
            severity: of.severity(),
            record: record(name.as_str()),
        })
        .collect()
}

fn show(alerts: &[Alert], channels: &[Listed<'_>], now: Timestamp) -> String {
    let mut text = match alerts.is_empty() {
        true => "nothing fires".to_owned(),
        false => {
            let rows: Vec<Vec<String>> = alerts.iter().map(|alert| cells(alert, now)).collect();
            table(&["severity", "alert", "source", "since", "told"], &rows, &[])
        }
    };
    for alert in alerts {
        let Condition { kind, source, text: what, command, .. } = &alert.condition;
        let of = source.as_ref().map_or_else(String::new, |source| format!(" {source}"));
        text.push_str(&format!("\n{} {kind}{of}: {what}", tinted("!", AnsiColor::Red)));
        if !command.is_empty() {
            text.push_str(&format!("\n  {command}"));
        }
    }
    for channel in channels {
        let state = match channel.record {
            None => "was told nothing yet".to_owned(),
            Some(ChannelRecord { failing_since: Some(since), why, .. }) => {
                let why = why.as_deref().unwrap_or("?");
                tinted(&format!("takes nothing since {since}: {why}"), AnsiColor::Red)
            }
            Some(record) => format!("took what it was told {} times", record.told),
        };
        let Listed { name, kind, severity, .. } = channel;
        text.push_str(&format!("\nchannel {name} ({kind}, {severity} and worse) {state}"));
    }
    text
}

fn cells(alert: &Alert, now: Timestamp) -> Vec<String> {
    let condition = &alert.condition;
    let colour = match condition.severity {
        Severity::Critical => AnsiColor::Red,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Info => AnsiColor::Green,
    };
    vec![
        tinted(condition.severity.word(), colour),
        condition.kind.to_string(),
        condition.source.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        condition.since.to_string(),
        format!("{} ago", human_duration(now.since(alert.told_at))),
    ]
}

/// What trying a channel came to.
#[derive(Serialize)]
struct Tried {
    channel: String,
    taken: bool,
    why: Option<String>,
}

async fn test(context: &Context, only: Option<&str>) -> Result<Outcome, Failure> {
    let known: Vec<&str> = context.settings.alerts.keys().map(|name| name.as_str()).collect();
    let names: Vec<&str> =
        known.iter().copied().filter(|name| only.is_none_or(|only| only == *name)).collect();
    if names.is_empty() {
        let what = only.map_or_else(
            || "no channel is configured".to_owned(),
            |only| format!("no channel is called {only}"),
        );
        let hint = match known.is_empty() {
            true => "name one in the settings: [alert.NAME] with kind = \"smtp\", \"slack\", \"webhook\", \"pagerduty\", \"sns\" or \"exec\"".to_owned(),
            false => format!("there are {}", known.join(", ")),
        };
        return Err(Failure::new(Code::Settings, what).hint(hint));
    }
    // A catalog that cannot be reached is no reason not to try: then nobody hears that a channel is well again.
    let catalog = open(context).await.ok();
    let news = news(context);
    let mut tried = Vec::new();
    for name in names {
        let why = tell(context, name, &news).await.err().map(|failure| failure.to_string());
        write_down(context, catalog.as_ref(), (name, why.as_deref())).await;
        tried.push(Tried { channel: name.to_owned(), taken: why.is_none(), why });
    }
    let line = |tried: &Tried| match &tried.why {
        None => format!("{} {} took it", tinted("ok", AnsiColor::Green), tried.channel),
        Some(why) => format!("{} {}: {why}", tinted("!", AnsiColor::Red), tried.channel),
    };
    let text: Vec<String> = tried.iter().map(line).collect();
    let code = if tried.iter().all(|tried| tried.taken) { Code::Ok } else { Code::Problems };
    Ok(Outcome::new(&tried, text.join("\n")).with_code(code))
}

async fn write_down(context: &Context, catalog: Option<&Catalog>, (name, why): (&str, Option<&str>)) {
    let Some(catalog) = catalog else { return };
    let outcome = why.map_or(Ok(()), Err);
    if let Err(error) = catalog.tried(name, outcome, context.cx.now()).await {
        tracing::warn!("{error}");
    }
}

fn news(context: &Context) -> News {
    let now = context.cx.now();
    let text = format!("somebody on {} tries whether alerts arrive: nothing is wrong", host());
    let condition = Condition::new(AlertKind::Test, None, text, now).look("strongroom alert list");
    News { event: Event::Fired, condition, fired_at: now, at: now }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page is the promise: every alert is on it, with its severity first, and nothing else is.
    #[test]
    fn the_page_of_alerts_is_the_table() {
        let page = include_str!("../../../../docs/alerts.md");
        let (_, told) = page.split_once("## What is told").unwrap();
        let (told, _) = told.split_once("\n## ").unwrap();
        let rows: Vec<(&str, &str)> = told
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
                Some((cells.next()?.trim_end_matches('`'), cells.next()?.split(';').next()?))
            })
            .collect();
        let table: Vec<(&str, &str)> =
            AlertKind::ALL.iter().map(|kind| (kind.word(), kind.severity().word())).collect();
        assert_eq!(rows, table);
    }
}
