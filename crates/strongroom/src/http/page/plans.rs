//! Plans: what they order, and what is wrong with them.

use axum::response::Response;
use maud::{Markup, html};
use strongroom_model::{SourceName, Timestamp};

use crate::http::page::View;
use crate::http::page::frame::Place;
use crate::http::page::pieces::{instant, knowledge, mark, table, until};
use crate::http::shown::plans::{FindingLine, PlanLine, Plans, plans as shown};
use crate::http::shown::source::Knowledge;

/// Sources that are named; of more, their number is said.
const NAMED: usize = 12;

/// `GET /plans`
pub async fn plans(view: View) -> Response {
    let linted = view.desk.tellings.of(&["plan", "lint"]).await;
    let shown = shown(view.sight(), &linted, |source| view.may_see(source));
    view.plain("Plans", Place::Plans, &content(&shown))
}

fn content(shown: &Plans) -> Markup {
    let refused = shown.findings.iter().filter(|finding| finding.refuses).count();
    let is_linted = matches!(shown.linted, Knowledge::Read { .. });
    html! {
        h1 {
            @match (shown.plans.len(), refused, shown.findings.len()) {
                (0, ..) => "There is no plan: nothing is done by itself",
                _ if !is_linted => "What plans order",
                (_, 0, 0) => "Plans keep what they promise, by arithmetic",
                (_, 0, warned) => { (warned) " things about plans that somebody should know" },
                (_, refused, _) => { (refused) " promises of plans are not kept, by arithmetic" },
            }
        }
        @if !shown.uncovered.is_empty() {
            p.note.look { "In no plan: " (names(&shown.uncovered)) }
        }
        section aria-labelledby="findings" {
            h2 id="findings" { "What the linter finds" }
            (knowledge(&shown.linted, shown.at))
            @if let Some(why) = &shown.not_measured { p.note { "Nothing that was measured is reckoned with: " (why) } }
            @if is_linted && shown.findings.is_empty() { p.empty { "Nothing." } }
            ul.findings { @for finding in &shown.findings { li { (found(finding)) } } }
        }
        @for plan in &shown.plans { (of_plan(plan, shown.at)) }
    }
}

fn found(finding: &FindingLine) -> Markup {
    html! {
        p {
            @if finding.refuses { (mark("bad", &finding.number)) } @else { (mark("look", &finding.number)) }
            " " (finding.what)
        }
        p.by { (finding.instead) }
        @if finding.sources.len() > 1 { p.by { "Of " (names(&finding.sources)) } }
    }
}

fn names(sources: &[SourceName]) -> Markup {
    html! {
        @for (number, source) in sources.iter().take(NAMED).enumerate() {
            @if number > 0 { ", " } a href={ "/sources/" (source) } { (source) }
        }
        @if sources.len() > NAMED { " and " (sources.len() - NAMED) " more" }
    }
}

fn of_plan(plan: &PlanLine, now: Timestamp) -> Markup {
    let rows: Vec<Markup> = plan
        .rules
        .iter()
        .map(|rule| {
            html! {
                tr {
                    th scope="row" { (rule.rule) } td { (rule.work) } td { code { (rule.schedule) } " " (rule.zone) }
                    td { @match rule.next {
                        Some(next) => { (instant(next)) span.by { (until(next, now)) @if let Some(local) = &rule.next_local { @if rule.zone != "UTC" { ", there " (local) } } } },
                        None => "never",
                    } }
                    td { @if rule.copies.is_empty() { "–" } @else { (rule.copies.join(", ")) } }
                }
            }
        })
        .collect();
    html! {
        section aria-label={ "Plan " (plan.plan) } {
            h2 { "Plan " (plan.plan) }
            p {
                @if plan.sources.is_empty() { strong.warn { "Covers nothing." } } @else { "For " (names(&plan.sources)) "." }
                @if let Some(rpo) = &plan.rpo { " The newest " strong { (rpo) } " may be lost." }
                @if let Some(rto) = &plan.rto { " A restore may take " strong { (rto) } "." }
            }
            (table(&format!("What plan {} orders", plan.plan), &["rule", "what", "when", "next", "copied to"], &rows))
        }
    }
}
