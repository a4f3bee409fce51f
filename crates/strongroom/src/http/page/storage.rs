//! What is stored, how it grows, and what that costs.

use axum::response::Response;
use maud::{Markup, html};
use strongroom_model::price::PriceList;

use crate::http::page::View;
use crate::http::page::chart::growth;
use crate::http::page::frame::Place;
use crate::http::page::pieces::{bytes, percent, table};
use crate::http::shown::storage::{PriceNote, Storage, StoredLine, storage as shown};

/// List prices, with their date.
const PRICES: &str = include_str!("../../prices.toml");

/// `GET /storage`
pub async fn storage(view: View) -> Response {
    let prices: Option<PriceList> = toml::from_str(PRICES).ok();
    let shown = shown(view.sight(), prices.as_ref(), |source| view.may_see(source));
    view.page("Storage and cost", Place::Storage, &content(&shown))
}

fn content(shown: &Storage) -> Markup {
    let note = shown.prices.as_ref();
    let rows: Vec<Markup> = shown.sources.iter().map(|line| row(line, note)).collect();
    html! {
        h1 {
            @match shown.stored {
                Some(stored) => { "Points hold " strong { (bytes(Some(stored))) } },
                None => "How much is stored is not known yet",
            }
            @if let Some(a_month) = shown.a_month { @if let Some(note) = note { ": " (money(a_month, note)) " a month" } }
        }
        @if let (Some(stored), Some(expected)) = (shown.stored, shown.expected) {
            p { (bytes(Some(stored))) " of " (bytes(Some(expected))) " that are expected." }
            svg.bar.wide role="img" aria-label="Part of the expected storage that is used" width="100%" height="8" {
                rect.track width="100%" height="8" {}
                rect.fill.broken[stored > expected] width=(percent(stored as f64 / expected.max(1) as f64)) height="8" {}
            }
        }
        @if !rows.is_empty() {
            (table("By source, the largest first", &["source", ">points", ">its size", "before", ">stored", ">newest point added", ">a month"], &rows))
        }
        @if let Some(note) = note {
            p.note {
                @if note.is_elsewhere { "This vault is not in S3; the cost is what it would be there. " }
                "List prices of " (note.date) " for " (note.class) " in " (note.region) ", from " (note.source)
                ". WAL, requests and transfer are not counted."
            }
        }
    }
}

fn money(sum: f64, note: &PriceNote) -> String {
    match sum < 0.01 {
        true => format!("less than 0.01 {}", note.currency),
        false => format!("{sum:.2} {}", note.currency),
    }
}

fn row(line: &StoredLine, note: Option<&PriceNote>) -> Markup {
    let cost = line.a_month.zip(note).map_or_else(|| "–".to_owned(), |(sum, note)| money(sum, note));
    html! {
        tr {
            th scope="row" { a href={ "/sources/" (line.source) } { (line.source) } }
            td.number { (line.points) }
            td.number { (bytes(line.bytes)) }
            td { @if line.sizes.len() > 1 { (growth(&line.sizes, "Its size in the points that are kept, oldest first")) } @else { "–" } }
            td.number { (bytes(Some(line.stored))) }
            td.number { (bytes(line.added)) }
            td.number { (cost) }
        }
    }
}
