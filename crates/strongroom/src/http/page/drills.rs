//! Drills of all sources: what needs one most comes first.

use axum::response::Response;
use maud::{Markup, html};

use crate::http::page::View;
use crate::http::page::frame::Place;
use crate::http::page::pieces::{ago, mark, measure, table, until};
use crate::http::shown::drills::{DrilledLine, Drills, drills as shown};
use crate::http::shown::line::Proof;

/// `GET /drills`
pub async fn drills(view: View) -> Response {
    let shown = shown(view.sight(), |source| view.may_see(source));
    view.page("Drills", Place::Drills, &content(&shown))
}

fn content(shown: &Drills) -> Markup {
    let rows: Vec<Markup> = shown.sources.iter().map(|line| row(line, shown)).collect();
    html! {
        h1 { "Drills proved " strong { (shown.proven) " of " (shown.sources.len()) } " sources lately" }
        p.lead { "A drill restores a source into a server of its own, checks it, times it, and keeps signed evidence. Each source has its trend." }
        @if !rows.is_empty() {
            (table("Those that need a drill most first", &["source", "last drill", "data usable after", "next drill"], &rows))
        }
    }
}

fn row(line: &DrilledLine, shown: &Drills) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/sources/" (line.source) "#drills" } { (line.source) } }
            td {
                @match &line.proof {
                    Some(Proof { at, passed: true, is_current }) => {
                        (mark(if *is_current { "good" } else { "unproven" }, "passed")) " " (ago(*at, shown.at))
                        @if !is_current { span.by { "longer ago than the settings allow" } }
                    },
                    Some(Proof { at, passed: false, .. }) => { (mark("bad", "failed")) " " (ago(*at, shown.at)) },
                    None if line.never => (mark("unproven", "never drilled")),
                    None => (mark("unknown", "not known")),
                }
            }
            td { (measure(line.rto, "never measured")) }
            td { @match line.next { Some(next) => (until(next, shown.at)), None => span.none { "none is planned" } } }
        }
    }
}
