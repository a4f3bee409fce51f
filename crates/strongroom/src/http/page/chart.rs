//! Charts as SVG within the page: each with a title and a description, and with its figures in a table for who cannot see it.
//!
//! Places along an axis are percentages, so that a chart is as wide as there is room and its lines stay as thin as they are.

use maud::{Markup, html};
use strongroom_model::Timestamp;
use strongroom_model::drill::DrillOutcome;
use strongroom_ops::report::rto_rpo::Trial;

use crate::http::page::pieces::{instant, percent, seconds, some_seconds, table};
use crate::http::shown::band::{Band, Gap};

/// The narrowest that a gap is shown, as a part of the whole: none is too short to be seen.
const NARROWEST: f64 = 0.006;

/// Room above the highest mark of a trend, and below nothing, as parts of the whole.
const HEADROOM: f64 = 1.35;
const FLOOR: f64 = 0.06;

/// An objective is shown beside drills unless it is so many times the slowest.
const FAR: f64 = 4.0;

/// Of no more drills than these each has its figure beside it.
const LABELLED: usize = 12;

/// To which times a source can be restored.
pub fn band(band: &Band, source: &str) -> Markup {
    let whole = band.to.since(band.from).as_secs_f64().max(1.0);
    let part = |at: Timestamp| at.since(band.from).as_secs_f64() / whole;
    let middle = band.from.0.checked_add(band.to.since(band.from) / 2).map_or(band.from, Timestamp);
    let last = band.stretches.last().map(|stretch| stretch.to);
    let tail = last.filter(|last| *last < band.to && band.gaps.last().is_none_or(|gap| gap.to <= *last));
    html! {
        figure.band {
            svg role="img" aria-labelledby="band-title band-text" width="100%" height="76" {
                title id="band-title" { "To which times " (source) " can be restored" }
                desc id="band-text" { (described(band)) }
                defs {
                    pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                        rect.hatch-ground width="7" height="7" {}
                        rect.hatch-line width="3" height="7" {}
                    }
                }
                rect.ground x="0" y="30" width="100%" height="26" {}
                @for stretch in &band.stretches {
                    rect.stretch x=(percent(part(stretch.from))) y="30" height="26"
                        width=(percent((part(stretch.to) - part(stretch.from)).max(NARROWEST / 2.0))) {}
                }
                @if let Some(last) = tail {
                    rect.tail x=(percent(part(last))) y="30" width=(percent(1.0 - part(last))) height="26" {}
                }
                @for gap in &band.gaps { (gap_mark(gap, (part(gap.from), part(gap.to)))) }
                @for tick in &band.ticks {
                    @let x = percent(part(tick.at));
                    line.tick.held[tick.held] x1=(x) x2=(x) y1="16" y2="56" {}
                    @if tick.held { circle.held cx=(x) cy="11" r="5" {} }
                    @else { circle.point cx=(x) cy="14" r="2.5" {} }
                }
            }
            div.axis aria-hidden="true" { (instant(band.from)) span.middle { (instant(middle)) } (instant(band.to)) }
            figcaption {
                span.key.stretch { "any second" } span.key.gap { "gap: no second" }
                span.key.point { "recovery point" } span.key.held { "held" }
                @if tail.is_some() { span.key.tail { "nothing written, or not here yet" } }
            }
        }
        details { summary { "The same as a table" } (stretches(band)) }
    }
}

fn gap_mark(gap: &Gap, (from, to): (f64, f64)) -> Markup {
    let width = (to - from).max(NARROWEST);
    html! {
        rect.gap x=(percent(from.min(1.0 - width))) y="26" width=(percent(width)) height="34" fill="url(#hatch)" {}
        @let anchor = if from < 0.1 { "start" } else if to > 0.9 { "end" } else { "middle" };
        @let at = match anchor { "start" => from, "end" => to, _ => (from + to) / 2.0 };
        text.gap-text x=(percent(at)) y="73" text-anchor=(anchor) { "gap of " (seconds(gap.to.since(gap.from).as_secs_f64())) }
    }
}

fn described(band: &Band) -> String {
    let of = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!(
        "From {} to {}: {} in which every second can be restored, {}, {}",
        band.from,
        band.to,
        match band.stretches.len() {
            1 => "1 stretch".to_owned(),
            count => format!("{count} stretches"),
        },
        of(band.gaps.len(), "gap"),
        of(band.ticks.len(), "recovery point"),
    )
}

fn stretches(band: &Band) -> Markup {
    let mut rows: Vec<(Timestamp, Timestamp, String)> = band
        .stretches
        .iter()
        .map(|stretch| (stretch.from, stretch.to, "every second can be restored".to_owned()))
        .collect();
    rows.extend(band.gaps.iter().map(|gap| {
        let segment =
            gap.segment.as_ref().map_or_else(String::new, |segment| format!(": {segment} is missing"));
        (gap.from, gap.to, format!("gap{segment}"))
    }));
    rows.sort_unstable();
    let rows: Vec<Markup> = rows
        .iter()
        .map(|(from, to, what)| {
            html! { tr { td { (instant(*from)) } td { (instant(*to)) } td { (seconds(to.since(*from).as_secs_f64())) } td { (what) } } }
        })
        .collect();
    table("Times that can be restored, and gaps", &["from", "to", "length", "what"], &rows)
}

/// How long drills took until the data could be used, and how long they may take.
pub fn trend(drills: &[Trial], objective: Option<f64>) -> Markup {
    let slowest = drills.iter().filter_map(|drill| drill.rto_seconds).fold(0.0, f64::max);
    // An objective that is far away would press everything else to the floor.
    let near = objective.filter(|objective| *objective <= slowest * FAR);
    let most = (slowest.max(near.unwrap_or(0.0)) * HEADROOM).max(f64::MIN_POSITIVE);
    let height = |seconds: f64| percent(1.0 - FLOOR - (1.0 - FLOOR) * seconds / most);
    let count = drills.len().max(1) as f64;
    let place = |number: usize| (number as f64 + 0.5) / count;
    let ends =
        drills.iter().enumerate().filter_map(|(number, drill)| Some((place(number), drill.rto_seconds?)));
    let ends: Vec<(f64, f64)> = ends.collect();
    html! {
        figure.trend {
            svg role="img" aria-labelledby="trend-title trend-text" width="100%" height="120" {
                title id="trend-title" { "Recovery times of " (drills.len()) " drills" }
                desc id="trend-text" { (trend_described(drills, objective)) }
                line.floor x1="0" x2="100%" y1="100%" y2="100%" {}
                @if let Some(objective) = near {
                    line.objective x1="0" x2="100%" y1=(height(objective)) y2=(height(objective)) {}
                }
                @for pair in ends.windows(2) {
                    line.path x1=(percent(pair[0].0)) y1=(height(pair[0].1)) x2=(percent(pair[1].0)) y2=(height(pair[1].1)) {}
                }
                @for (number, drill) in drills.iter().enumerate() {
                    @let passed = drill.outcome == DrillOutcome::Passed;
                    @match drill.rto_seconds {
                        Some(took) => {
                            circle.drill.failed[!passed] cx=(percent(place(number))) cy=(height(took)) r="4.5" {}
                            @if drills.len() <= LABELLED {
                                text.took x=(percent(place(number))) y=(height(took)) dy="-9" text-anchor="middle" { (seconds(took)) }
                            }
                        },
                        None => text.failed x=(percent(place(number))) y="20%" text-anchor="middle" { "×" },
                    }
                }
            }
            figcaption {
                @if let Some(objective) = objective {
                    span.key.objective { "may take " (seconds(objective)) @if near.is_none() { ", far above this chart" } }
                }
                span.key.drill { "passed" } span.key.failed { "failed" }
            }
        }
    }
}

fn trend_described(drills: &[Trial], objective: Option<f64>) -> String {
    let took = drills.iter().map(|drill| some_seconds(drill.rto_seconds)).collect::<Vec<_>>().join(", ");
    format!("Oldest first: {took}. They may take {}", some_seconds(objective))
}

/// How something grew, oldest first: bars, for their figures stand beside it.
pub fn growth(values: &[u64], label: &str) -> Markup {
    let most = values.iter().copied().max().unwrap_or(0).max(1) as f64;
    let width = 1.0 / values.len().max(1) as f64;
    html! {
        svg.growth role="img" aria-label=(label) width="96" height="24" {
            @for (number, value) in values.iter().enumerate() {
                @let part = *value as f64 / most;
                rect x=(percent(number as f64 * width)) y=(percent(1.0 - part)) width=(percent(width * 0.7)) height=(percent(part.max(0.04))) {}
            }
        }
    }
}
