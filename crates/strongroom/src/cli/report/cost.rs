//! `strongroom report cost`

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use strongroom_model::control::longest_days;
use strongroom_model::price::PriceList;
use strongroom_model::{ByteSize, SourceName};
use strongroom_ops::plan::measured;
use strongroom_ops::report::cost::{
    Holdings, InClass, Month, holdings, in_each_class, month, with_difference,
};
use strongroom_vault::Vault;

use super::{Form, Made, made_by, time};
use crate::context::Context;
use crate::failure::Failure;
use crate::paper::{Paper, Part, Row, Rows};
use crate::prices::{listed, of_file};
use crate::surroundings::host;

/// Report what the vault costs to keep, by class, by the real bytes of its bucket; and what it would cost otherwise
#[derive(clap::Args)]
#[command(after_help = "\
Prices are of a list that carries its date, place and region; it is printed with them. Not in it: taxes, discounts, transfer out of the
region, requests that read, KMS, and WAL's own requests. A folder is reckoned as if it were a bucket, in STANDARD.

Examples:
  strongroom report cost
  strongroom report cost --keep-days 90                   what it would come to, kept for 90 days
  strongroom report cost --compare prices-frankfurt.toml  the same bytes at other prices")]
pub struct Arguments {
    /// Prices of another file instead of those of this build
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// What the same bytes would cost at the prices of this file: another region, another store
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// What it would cost, kept for so many days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_days: Option<u32>,
    #[command(flatten)]
    pub form: Form,
}

const HEAD: [&str; 5] = ["class", "objects", "bytes", "of these old", "a month"];

const CLASSES: [&str; 6] = [
    "all of it in",
    "a month",
    "against now",
    "to move it, once",
    "pays for at least",
    "to have a restore thawed",
];

const WHAT_IF: [&str; 4] = ["what if", "bytes", "a month", "against now"];

/// How a source grows, and for how long it is kept.
#[derive(Default)]
struct Growth {
    /// Bytes that another day of it adds, and for how many days it is kept; of sources of which both are known.
    kept: Vec<(u64, u32)>,
    /// Sources of which that is not so.
    not_known: Vec<SourceName>,
    /// Objects that points put in the last 31 days.
    puts: u64,
    /// Bytes of a restore of everything.
    restored: u64,
}

pub async fn made(context: &Context, arguments: &Arguments) -> Result<Made, Failure> {
    let prices = arguments.prices.as_deref().map_or_else(listed, of_file)?;
    let compared = arguments.compare.as_deref().map(of_file).transpose()?;
    let vault = context.answering().await?;
    let held = holdings(&vault, context.custody_of(&vault)?).await?;
    let growth = growth(context, &vault).await?;
    let now = month(&held, &prices, Some(growth.puts));
    let classes = in_each_class(&held, &prices, growth.restored);
    let mut what_if = Vec::new();
    if let Some(days) = arguments.keep_days {
        let difference = growth
            .kept
            .iter()
            .map(|(a_day, kept)| i128::from(*a_day) * (i128::from(days) - i128::from(*kept)))
            .sum();
        let changed = with_difference(&held, difference);
        let cost = month(&changed, &prices, Some(growth.puts));
        what_if.push((format!("kept for {days} days"), changed.bytes(), cost, prices.currency.clone()));
    }
    if let Some(other) = &compared {
        let cost = month(&held, other, Some(growth.puts));
        let what = format!("at the prices of {} ({}, {})", other.region, other.source, other.date);
        what_if.push((what, held.bytes(), cost, other.currency.clone()));
    }
    let paper = paper(&held, (&prices, now), &classes, &what_if);
    let missing = missing(&held, &growth);
    let missing_part = Part::Prose("What is not in it".to_owned(), missing.join(" "));
    let parts = paper.into_iter().chain([missing_part]).collect();
    let paper = Paper {
        title: "Cost".to_owned(),
        note: made_by(context, &format!("the objects of {}", vault.place())),
        lead: format!(
            "{} a month for {}, by the list prices of {} for {} of {}.",
            money(now.total(), &prices.currency),
            ByteSize(held.bytes()),
            prices.source,
            prices.region,
            prices.date
        ),
        parts,
    };
    let what_if: Vec<_> = what_if
        .iter()
        .map(|(what, bytes, cost, currency)| json!({ "what": what, "bytes": bytes, "month": cost, "currency": currency }))
        .collect();
    let json = json!({
        "prices": { "date": prices.date, "source": prices.source, "region": prices.region, "currency": prices.currency },
        "holdings": held, "month": now, "in_each_class": classes, "what_if": what_if, "not_in_it": missing,
    });
    Ok(Made::new(&json, paper, true))
}

/// What it costs a month, in a few words.
pub async fn in_short(context: &Context, vault: &Vault) -> Result<String, Failure> {
    let prices = listed()?;
    let held = holdings(vault, context.custody_of(vault)?).await?;
    let cost = money(month(&held, &prices, None).keeping, &prices.currency);
    Ok(format!("{cost} a month to keep {}, by list prices of {}", ByteSize(held.bytes()), prices.date))
}

async fn growth(context: &Context, vault: &Vault) -> Result<Growth, Failure> {
    let mut growth = Growth::default();
    let host = host();
    let since = context.cx.now().earlier(Duration::from_secs(31 * 86_400));
    for source in vault.sources().await? {
        let of = measured(&context.cx, vault, &source, &host).await?;
        growth.restored += of.full.unwrap_or(0);
        let points = vault.points(&source).await?;
        let new = points.iter().filter_map(|row| row.restorable());
        let new = new.filter(|summary| since.is_none_or(|since| summary.started_at > since));
        // Each pack, and intent, manifest and decision.
        growth.puts += new.map(|summary| u64::from(summary.packs) + 3).sum::<u64>();
        let a_day = of.change_a_day.map(|change| change.saturating_add(of.wal_a_day.unwrap_or(0)));
        let kept = context.retention(None, &source)?.as_ref().and_then(longest_days);
        match a_day.zip(kept) {
            Some(known) => growth.kept.push(known),
            None => growth.not_known.push(source),
        }
    }
    Ok(growth)
}

fn paper(
    held: &Holdings,
    (prices, now): (&PriceList, Month),
    classes: &[InClass],
    what_if: &[(String, u64, Month, String)],
) -> Vec<Part> {
    let currency = &prices.currency;
    let lots = held
        .classes
        .iter()
        .map(|(class, lot)| (class.to_string(), lot, prices.keeping(*class, lot.bytes, 365.25 / 12.0)));
    let unknown = held.unknown.iter().map(|(class, lot)| (class.clone(), lot, None));
    let rows = lots.chain(unknown).map(|(class, lot, cost)| {
        let bytes = [lot.bytes, lot.old_bytes].map(|bytes| ByteSize(bytes).to_string());
        let [bytes, old] = bytes;
        Row::plain(vec![class, lot.objects.to_string(), bytes, old, money(cost, currency)])
    });
    let mut rows: Vec<Row> = rows.collect();
    let putting =
        vec!["new objects".into(), "-".into(), "-".into(), "-".into(), money(now.putting, currency)];
    rows.push(Row::plain(putting));
    let in_class = |of: &InClass| {
        let thaw = match of.thawing.zip(of.thaw_hours) {
            Some((cost, hours)) => {
                format!("{}, within {}", money(Some(cost), currency), time(hours * 3600.0))
            }
            None => "it can be read at once".to_owned(),
        };
        Row::plain(vec![
            of.class.to_string(),
            money(Some(of.keeping), currency),
            difference(Some(of.keeping), now.keeping, currency),
            money(of.moving, currency),
            if of.minimum_days == 0 { "-".to_owned() } else { format!("{} days", of.minimum_days) },
            thaw,
        ])
    };
    let mut parts = vec![
        Part::Table("What is there".to_owned(), Rows { head: &HEAD, rows }),
        Part::Table(
            "The same bytes in one class".to_owned(),
            Rows { head: &CLASSES, rows: classes.iter().map(in_class).collect() },
        ),
    ];
    if !what_if.is_empty() {
        let row = |(what, bytes, cost, of): &(String, u64, Month, String)| {
            let against = match of == currency {
                true => difference(cost.total(), now.total(), of),
                false => "another currency".to_owned(),
            };
            Row::plain(vec![what.clone(), ByteSize(*bytes).to_string(), money(cost.total(), of), against])
        };
        let rows = what_if.iter().map(row).collect();
        parts.push(Part::Table("What if".to_owned(), Rows { head: &WHAT_IF, rows }));
    }
    parts
}

/// What the sums leave out, as sentences.
fn missing(held: &Holdings, growth: &Growth) -> Vec<String> {
    let mut missing = vec![
        "Taxes, discounts, transfer out of the region, requests that read, requests of WAL, and KMS."
            .to_owned(),
        "What a day adds is WAL as it was written and pages as they were stored: an upper bound.".to_owned(),
    ];
    if !held.is_told {
        missing.push("This store names no classes: all of it is reckoned as STANDARD.".to_owned());
    }
    if !growth.not_known.is_empty() {
        let names: Vec<&str> = growth.not_known.iter().map(SourceName::as_str).collect();
        missing.push(format!(
            "Days more or less of {}: either what a day adds was not measured, or retention does not count in days.",
            names.join(", ")
        ));
    }
    missing
}

fn money(cost: Option<f64>, currency: &str) -> String {
    match cost {
        None => "not known".to_owned(),
        // A small vault is not free.
        Some(cost) if cost > 0.0 && cost < 0.01 => format!("less than 0.01 {currency}"),
        Some(cost) => format!("{cost:.2} {currency}"),
    }
}

fn difference(cost: Option<f64>, now: Option<f64>, currency: &str) -> String {
    match cost.zip(now) {
        None => "not known".to_owned(),
        Some((cost, now)) if (cost - now).abs() < 0.005 => "the same".to_owned(),
        Some((cost, now)) if cost < now => format!("saves {:.2} {currency}", now - cost),
        Some((cost, now)) => format!("costs {:.2} {currency} more", cost - now),
    }
}
