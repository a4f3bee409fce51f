//! A source: to which second, how that is known, and everything that leads there.

use axum::extract::Path;
use axum::response::Response;
use maud::{Markup, html};
use strongroom_model::Timestamp;
use strongroom_model::drill::{DrillOutcome, Trend};
use strongroom_ops::report::rto_rpo::Trial;

use crate::http::gathered::told_of_source;
use crate::http::page::View;
use crate::http::page::acts::{acts_of, acts_of_point};
use crate::http::page::alerts::alert_list;
use crate::http::page::chart::{band, growth, trend};
use crate::http::page::frame::Place;
use crate::http::page::jobs::job_table;
use crate::http::page::overview::{headline, next, proof};
use crate::http::page::pieces::{
    bytes, instant, instant_or, knowledge, mark, measure, some_seconds, standing, table, until,
};
use crate::http::shown::overview::headline as said;
use crate::http::shown::source::{DrillsOfSource, Knowledge, PointLine, SourceView, source as shown};

/// `GET /sources/{source}`
pub async fn source(view: View, Path(name): Path<String>) -> Response {
    let Some(name) = view.source(&name) else { return view.absent("source") };
    let told = told_of_source(&view.desk, &name).await;
    match shown(view.sight(), &name, told) {
        Some(shown) => view.page(name.as_str(), Place::Sources, &content(&shown, &view)),
        None => view.absent("source"),
    }
}

fn content(shown: &SourceView, view: &View) -> Markup {
    let now = shown.at;
    html! {
        p.trail { a href="/" { "Sources" } " / " (shown.line.source) " " span.kind { (shown.line.kind) } " " (standing(shown.line.standing)) }
        (headline(&said(std::slice::from_ref(&shown.line))))
        (figures(shown))
        (acts_of(view, &shown.line.source))
        @if !shown.alerts.is_empty() {
            section aria-labelledby="alerts" { h2 id="alerts" { "What is wrong" } (alert_list(&shown.alerts, now)) }
        }
        section aria-labelledby="times" {
            h2 id="times" { "What can be restored" }
            (knowledge(&shown.listed, now))
            @match &shown.band {
                Some(shown_band) => (band(shown_band, shown.line.source.as_str())),
                None if matches!(shown.listed, Knowledge::Read { .. }) => p.empty { "Nothing can be restored." },
                None => {},
            }
            (points(shown, view))
        }
        (holds(shown))
        (drills(&shown.drills, now))
        (ordered(shown))
        section aria-labelledby="jobs" data-live {
            h2 id="jobs" { "Jobs" }
            @match &shown.jobs_unknown {
                Some(why) => p.note.bad { "Not known: " (why) },
                None => (job_table("Its newest jobs", &shown.jobs, now)),
            }
        }
    }
}

fn figures(shown: &SourceView) -> Markup {
    let line = &shown.line;
    html! {
        dl.figures {
            div { dt { "Would be lost now" } dd { (measure(line.rpo, "not known")) } }
            div { dt { "Until it is back" } dd { (measure(line.rto, "never measured")) } }
            div { dt { "Proof" } dd { (proof(line, shown.at)) } }
            div { dt { "Points that can be restored" } dd { @match line.points { Some(points) => strong { (points) }, None => span.none { "not known" } } } }
            div { dt { "Due next" } dd { (next(line.next.as_ref(), shown.at)) } }
        }
    }
}

fn points(shown: &SourceView, view: &View) -> Markup {
    let rows: Vec<Markup> = shown
        .points
        .iter()
        .map(|one| {
            point(one, view.person.csrf.is_some().then(|| acts_of_point(view, &shown.line.source, one)))
        })
        .collect();
    let head = &["point", "state", "restores from", "to", ">size", ">added", ">timeline", "acts"];
    // Who may do nothing needs no column for it.
    let head = if view.person.csrf.is_some() { &head[..] } else { &head[..head.len() - 1] };
    let whole: Vec<u64> = shown.points.iter().rev().filter_map(|point| point.bytes).collect();
    let shown_of = match shown.points_in_all - shown.points.len() {
        0 => "Recovery points, newest first".to_owned(),
        more => format!(
            "The newest {} recovery points; {more} older ones are in `strongroom list`",
            shown.points.len()
        ),
    };
    html! {
        @if whole.len() > 1 {
            p.growing { "Its size, point by point " (growth(&whole, "Size of the source in each point, oldest first: the table has the figures")) }
        }
        @if !rows.is_empty() {
            (table(&shown_of, head, &rows))
        }
    }
}

fn point(point: &PointLine, acts: Option<Markup>) -> Markup {
    let class = match (point.is_sound, point.is_restorable) {
        (false, _) => "bad",
        (true, true) => "good",
        (true, false) => "unknown",
    };
    html! {
        tr {
            th scope="row" { code { (point.point) } }
            td { (mark(class, &point.state)) @if point.held && point.state != "held" { " held" } }
            td { (instant_or(point.from, "–")) }
            td { (instant_or(point.to, "–")) }
            td.number { (bytes(point.bytes)) }
            td.number { (bytes(point.stored)) }
            td.number { @match point.timeline { Some(timeline) => (timeline), None => "–" } }
            @if let Some(acts) = acts { td { (acts) } }
        }
    }
}

fn holds(shown: &SourceView) -> Markup {
    let rows: Vec<Markup> = shown
        .holds
        .iter()
        .map(|hold| {
            html! {
                tr {
                    th scope="row" { code { (hold.point) } } td.words { (hold.reason) } td { (hold.owner) }
                    td { (instant(hold.since)) }
                    td { @match hold.until { Some(until) => (instant(until)), None => "until it is released" } }
                }
            }
        })
        .collect();
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="holds" {
                h2 id="holds" { "What is held" }
                (table("Points that do not expire", &["point", "why", "who answers for it", "since", "until"], &rows))
            }
        }
    }
}

fn drills(drills: &DrillsOfSource, now: Timestamp) -> Markup {
    let is_known = matches!(drills.knowledge, Knowledge::Read { .. });
    let rows: Vec<Markup> = drills.drills.iter().rev().map(drill).collect();
    html! {
        section aria-labelledby="drills" {
            h2 id="drills" { "Drills" }
            (knowledge(&drills.knowledge, now))
            @if is_known && rows.is_empty() {
                p.empty { strong.warn { "Never drilled." } " Nobody knows how long a restore takes, or whether it works." }
            }
            @if !rows.is_empty() {
                p {
                    (drills.passed) " of " (drills.drills.len()) " passed; in the middle one the data could be used after "
                    strong { (some_seconds(drills.median_seconds)) } ", in the slowest after " strong { (some_seconds(drills.worst_seconds)) } "."
                    @match drills.trend {
                        Some(Trend::Rising) => " They take longer than they did.",
                        Some(Trend::Falling) => " They take less long than they did.",
                        Some(Trend::Steady) => " They take about as long as they did.",
                        None => "",
                    }
                    @if let Some(due) = drills.due_at { " The next one must have passed " (until(due, now)) "." }
                }
                (trend(&drills.drills, drills.objective_seconds))
                (table("Drills, newest first", &["ended", "outcome", ">data usable after", ">might take", "restored", "evidence"], &rows))
            }
            @for (record, why) in &drills.discounted { p.note.bad { "The record " code { (record) } " does not count: " (why) } }
        }
    }
}

fn drill(drill: &Trial) -> Markup {
    let (class, word) = match drill.outcome {
        DrillOutcome::Passed => ("good", "passed"),
        DrillOutcome::Failed => ("bad", "failed"),
        DrillOutcome::Interrupted => ("look", "interrupted"),
    };
    html! {
        tr {
            td { (instant(drill.ended_at)) }
            td.words { (mark(class, word)) @for wrong in &drill.wrong { span.why { (wrong) } } }
            td.number { (some_seconds(drill.rto_seconds)) }
            td.number { (some_seconds(drill.objective_seconds)) }
            td { code { (drill.point) } span.by { "to " (drill.target) } }
            td { code { (drill.evidence) } }
        }
    }
}

fn ordered(shown: &SourceView) -> Markup {
    let rows: Vec<Markup> = shown
        .ordered
        .iter()
        .map(|ordered| {
            html! {
                tr {
                    th scope="row" { (ordered.rule) } td { (ordered.work) } td { code { (ordered.schedule) } " " (ordered.zone) }
                    td { @match ordered.next { Some(next) => { (instant(next)) span.by { (until(next, shown.at)) } }, None => "never" } }
                    td { @if ordered.copies.is_empty() { "–" } @else { (ordered.copies.join(", ")) } }
                }
            }
        })
        .collect();
    html! {
        section aria-labelledby="ordered" {
            h2 id="ordered" { "What plans order" }
            @if rows.is_empty() { p.empty { strong.warn { "No plan covers it:" } " nothing is done by itself. Write one in strongroom.toml." } }
            @else { (table("Rules that hold for it", &["rule", "what", "when", "next", "copied to"], &rows)) }
        }
    }
}
