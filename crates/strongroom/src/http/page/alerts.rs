//! Alerts that fire, and who is told.

use axum::response::Response;
use maud::{Markup, html};
use strongroom_model::Timestamp;
use strongroom_model::alert::Severity;

use crate::http::page::View;
use crate::http::page::frame::Place;
use crate::http::page::pieces::{ago, mark, table};
use crate::http::shown::alerts::{AlertLine, Alerts, ChannelLine, alerts as shown};

/// `GET /alerts`
pub async fn alerts(view: View) -> Response {
    let shown = shown(view.sight(), |source| view.may_see(source));
    view.page("Alerts", Place::Alerts, &content(&shown))
}

fn content(shown: &Alerts) -> Markup {
    let rows: Vec<Markup> = shown.channels.iter().map(|channel| row(channel, shown.at)).collect();
    html! {
        h1 {
            @match (shown.alerts.len(), &shown.stale) {
                (0, None) => "Nothing is wrong",
                (0, Some(_)) => "Whether anything is wrong is not known",
                (1, _) => "One thing is wrong",
                (count, _) => { (count) " things are wrong" },
            }
        }
        (alert_list(&shown.alerts, shown.at))
        section aria-labelledby="channels" {
            h2 id="channels" { "Who is told" }
            @if rows.is_empty() { p.empty { strong.warn { "Nobody." } " Name a channel in strongroom.toml: " code { "[alert.NAME]" } "." } }
            @else { (table("Channels", &["channel", "state", ">took", ">did not take"], &rows)) }
            @if shown.waiting > 0 { p { (shown.waiting) " tellings wait." } }
        }
    }
}

/// Alerts, each in a sentence with what to do.
pub fn alert_list(alerts: &[AlertLine], now: Timestamp) -> Markup {
    html! {
        @if !alerts.is_empty() {
            ul.alerts { @for alert in alerts {
                li class=(alert.severity) {
                    p.head {
                        (mark(if alert.severity == Severity::Critical { "bad" } else { "look" }, alert.severity))
                        " " strong { (alert.kind) }
                        @if let Some(source) = &alert.source { " of " a href={ "/sources/" (source) } { (source) } }
                        " " span.since { "since " (ago(alert.since, now)) }
                    }
                    p.text { (alert.text) }
                    @if !alert.command.is_empty() { p.command { code { (alert.command) } } }
                }
            } }
        }
    }
}

fn row(channel: &ChannelLine, now: Timestamp) -> Markup {
    let count = |count: Option<i64>| count.map_or_else(|| "–".to_owned(), |count| count.to_string());
    html! {
        tr {
            th scope="row" { (channel.name) }
            td.words {
                @match (channel.failing_since, channel.told) {
                    (Some(since), _) => {
                        (mark("bad", "takes nothing")) " since " (ago(since, now))
                        @if let Some(why) = &channel.why { span.why { (why) } }
                    },
                    (None, None) => (mark("unknown", "never told anything")),
                    (None, Some(_)) => (mark("good", "takes what it is told")),
                }
            }
            td.number { (count(channel.told)) }
            td.number { (count(channel.refused)) }
        }
    }
}
