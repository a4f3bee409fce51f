//! Who did what: the audit log, for admins.

use axum::extract::Query;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use strongroom_model::audit::{Line, Voucher};

use crate::agent::sightings::OK;
use crate::http::acts::may_see_audit;
use crate::http::page::View;
use crate::http::page::frame::Place;
use crate::http::page::pieces::{instant, knowledge, mark, table};
use crate::http::shown::audit::{AuditPage, WORDS, page};

/// Entries on a page.
const MOST: usize = 100;

/// Which entries.
#[derive(Deserialize)]
pub struct Asked {
    /// Those before this number.
    before: Option<String>,
}

/// `GET /audit`
pub async fn audit(view: View, Query(asked): Query<Asked>) -> Response {
    if let Err(problem) = may_see_audit(&view.desk, &view.person) {
        return view.refused(&problem);
    }
    let told = view.desk.tellings.of(&WORDS).await;
    let shown = page(&told, asked.before.and_then(|before| before.parse().ok()), MOST);
    view.plain("Audit log", Place::Audit, &content(&view, &shown))
}

fn content(view: &View, shown: &AuditPage) -> Markup {
    let rows: Vec<Markup> = shown.entries.iter().map(row).collect();
    html! {
        h1 { "Who did what" }
        (knowledge(&shown.known, view.now))
        @if rows.is_empty() { p.empty { "Nothing is shown." } }
        @else { (table("Acts, newest first", &[">number", "at", "who", "what", "outcome", "details"], &rows)) }
        @if let Some(next) = shown.next { p { a href={ "/audit?before=" (next) } { "Older ones" } } }
        p { "What is older than the newest thousand: " code { "strongroom audit list" } ". That nobody changed any of it: " code { "strongroom audit verify" } "." }
    }
}

fn row(line: &Line) -> Markup {
    let object = line.act.point.as_ref().map(ToString::to_string);
    let details = line.texts.iter().map(|(key, text)| format!("{key}: {text}"));
    html! {
        tr {
            th.number scope="row" { (line.number) }
            td { (instant(line.at)) }
            td { (line.actor.name) span.by { (line.actor.kind) " on " (line.actor.host) " as " (line.actor.user) } }
            td {
                (line.act.verb)
                @if let Some(source) = &line.act.source { " of " a href={ "/sources/" (source) } { (source) } }
                @if let Some(point) = object { span.by { (point) } }
            }
            td.words { (outcome(line)) }
            td.words { (details.collect::<Vec<_>>().join("; ")) }
        }
    }
}

fn outcome(line: &Line) -> Markup {
    html! {
        @match line.outcome.as_deref() {
            Some(OK) => (mark("good", OK)),
            Some(word) => (mark("look", word)),
            None => (mark("bad", "begun, no end known")),
        }
        @if let Voucher::Forged(why) = &line.voucher { " " (mark("bad", format!("forged: {why}"))) }
    }
}
