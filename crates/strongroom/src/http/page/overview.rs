//! The first page: to which second each source can be recovered, and how that is known.

use axum::extract::Query;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use strongroom_model::Timestamp;

use crate::http::page::View;
use crate::http::page::frame::Place;
use crate::http::page::pieces::{ago, instant, instant_or, measure, standing, standing_words, until};
use crate::http::shown::line::{Next, Proof, SourceLine, Standing};
use crate::http::shown::overview::{Asked, Headline, ON_A_PAGE, Overview, overview as shown};

/// Of so few sources each is seen at once.
const FEW: usize = 6;

/// What the address asks for. Words that mean nothing ask for nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    q: String,
    standing: String,
    page: String,
}

/// `GET /`
pub async fn overview(view: View, Query(wanted): Query<Wanted>) -> Response {
    let asked = Asked {
        text: wanted.q,
        standing: wanted.standing.parse().ok(),
        page: wanted.page.parse().unwrap_or(1),
    };
    let shown = shown(view.sight(), &asked, |source| view.may_see(source));
    let title = match shown.sources_in_all {
        1 => "One source".to_owned(),
        count => format!("{count} sources"),
    };
    view.page(&title, Place::Sources, &content(&shown, &asked))
}

fn content(shown: &Overview, asked: &Asked) -> Markup {
    html! {
        (headline(&shown.headline))
        @if shown.sources_in_all == 0 {
            p.lead { "Name what is to be protected in strongroom.toml: " code { "[source.NAME]" } ", and take a first point with " code { "strongroom backup" } "." }
        } @else {
            (tally(shown, asked))
            @if shown.sources_in_all > FEW || !asked.text.is_empty() { (search(asked)) }
            (ledger(shown))
            (pages(shown, asked))
        }
    }
}

/// The first sentence.
pub fn headline(said: &Headline) -> Markup {
    html! {
        section.headline {
            h1 {
                (said.before) " "
                @if let Some(to) = said.to { span.to { (instant(to)) } }
                @if !said.after.is_empty() { " " span.after { (said.after) } }
            }
            @if !said.known_by.is_empty() { p.known { span.how { "How we know: " } (said.known_by) "." } }
        }
    }
}

fn tally(shown: &Overview, asked: &Asked) -> Markup {
    html! {
        ul.tally aria-label="How sources stand" {
            @for count in &shown.counts {
                li {
                    a href=(address(&asked.text, Some(count.standing), 1)) aria-current=[(asked.standing == Some(count.standing)).then_some("true")] {
                        strong { (count.sources) } " " (standing_words(count.standing))
                    }
                }
            }
            @if asked.standing.is_some() { li { a href=(address(&asked.text, None, 1)) { strong { (shown.sources_in_all) } " in all" } } }
        }
    }
}

fn search(asked: &Asked) -> Markup {
    html! {
        form.search role="search" method="get" action="/" {
            label for="q" { "Find a source" }
            input id="q" type="search" name="q" value=(asked.text) autocomplete="off" spellcheck="false";
            @if let Some(standing) = asked.standing { input type="hidden" name="standing" value=(standing); }
            button type="submit" { "Find" }
        }
    }
}

/// Roles are said again, for on a narrow screen rows are no rows to the browser.
fn ledger(shown: &Overview) -> Markup {
    let names = ["Source", "Recoverable to", "Proof", "Would be lost now", "Until it is back", "Due next"];
    html! {
        table.ledger role="table" {
            caption {
                @if shown.fitting == shown.sources_in_all { "Sources, the worst first" }
                @else { (shown.fitting) " of " (shown.sources_in_all) " sources, the worst first" }
            }
            thead role="rowgroup" { tr role="row" { @for name in names { th scope="col" role="columnheader" { (name) } } } }
            tbody role="rowgroup" { @for line in &shown.sources { (row(line, shown.at)) } }
        }
        @if shown.sources.is_empty() { p.empty { "No source fits." } }
    }
}

fn row(line: &SourceLine, now: Timestamp) -> Markup {
    let has_trouble = matches!(line.standing, Standing::Broken | Standing::Doubtful | Standing::Unknown);
    html! {
        tr role="row" class=(line.standing) {
            th scope="row" role="rowheader" {
                a.name href={ "/sources/" (line.source) } { (line.source) }
                span.kind { (line.kind) }
                (standing(line.standing))
            }
            td role="cell" data-name="Recoverable to" {
                (instant_or(line.recoverable_to, if line.points.is_some() { "to no moment" } else { "not known" }))
                span.by { (line.known_by) }
                @if let Some(at) = line.nothing_newer_at { span.by { "nothing newer was written until " (ago(at, now)) } }
                @if has_trouble { span.why { (line.why) } }
            }
            td role="cell" data-name="Proof" { (proof(line, now)) }
            td role="cell" data-name="Would be lost now" { (measure(line.rpo, "not known")) }
            td role="cell" data-name="Until it is back" { (measure(line.rto, "never measured")) }
            td role="cell" data-name="Due next" { (next(line.next.as_ref(), now)) }
        }
    }
}

/// What a drill said last, and a verification.
pub fn proof(line: &SourceLine, now: Timestamp) -> Markup {
    html! {
        @match &line.proof {
            Some(Proof { at, passed: true, is_current: true }) => { "drill passed " (ago(*at, now)) },
            Some(Proof { at, passed: true, is_current: false }) => strong.warn { "last drilled " (ago(*at, now)) },
            Some(Proof { at, passed: false, .. }) => strong.broken { "drill failed " (ago(*at, now)) },
            None if line.points.is_some() => strong.warn { "never drilled" },
            None => span.none { "not known" },
        }
        @if let Some(at) = line.verified_at { span.by { "verified " (ago(at, now)) } }
    }
}

/// What is due next.
pub fn next(next: Option<&Next>, now: Timestamp) -> Markup {
    html! {
        @match next {
            Some(next) => { (next.work.as_str()) " " (until(next.at, now)) span.by { (next.rule) } },
            None => span.none { "in no plan" },
        }
    }
}

fn pages(shown: &Overview, asked: &Asked) -> Markup {
    let (page, pages) = shown.page;
    html! {
        @if pages > 1 {
            nav.pages aria-label="More sources" {
                @if page > 1 { a rel="prev" href=(address(&asked.text, asked.standing, page - 1)) { "← worse" } }
                span { "page " (page) " of " (pages) ", " (ON_A_PAGE) " on each" }
                @if page < pages { a rel="next" href=(address(&asked.text, asked.standing, page + 1)) { "better →" } }
            }
        }
    }
}

/// The address of the same with other wishes.
fn address(text: &str, standing: Option<Standing>, page: usize) -> String {
    let mut words = Vec::new();
    if !text.is_empty() {
        words.push(format!("q={}", escaped(text)));
    }
    words.extend(standing.map(|standing| format!("standing={standing}")));
    if page > 1 {
        words.push(format!("page={page}"));
    }
    if words.is_empty() { "/".to_owned() } else { format!("/?{}", words.join("&")) }
}

/// As a part of an address may have it (RFC 3986, unreserved).
fn escaped(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (byte as char).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_is_wanted_and_no_more() {
        assert_eq!(address("", None, 1), "/");
        assert_eq!(address("a&b c", Some(Standing::Broken), 3), "/?q=a%26b%20c&standing=broken&page=3");
    }
}
