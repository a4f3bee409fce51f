//! `strongroom plan simulate`

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use strongroom_model::lint::Measured;
use strongroom_model::plan::{Timetable, Work, objectives_of};
use strongroom_model::price::PriceList;
use strongroom_model::simulation::{Growth, MOST_DAYS, Outcome as Played, Setting, Simulated, simulate};
use strongroom_model::source::Protected;
use strongroom_model::time::human_duration;
use strongroom_model::{ByteSize, PlanName, SourceName, Timestamp};

use super::{NO_PLAN, chosen, counted, known};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table};
use crate::prices::listed;
use crate::settings::parse_time;

/// Play a plan for a year: points, storage, cost and the worst RPO
#[derive(clap::Args)]
#[command(after_help = "\
The clock is simulated; schedules and retention are the real ones. How large points are comes from the vault where it was
measured, else from --size, --change and --wal; where neither says it there are no bytes and no cost, only points.
Storage is an upper bound, as stored: compressed. Costs are list prices of S3, printed with their date and source.

Examples:
  strongroom plan simulate
  strongroom plan simulate production --days 730 --seed 1     (runs begin late, as their start windows allow)
  strongroom plan simulate --offline --size 200GB --change 5GB --wal 20GB")]
pub struct Arguments {
    /// Only this plan's sources
    plan: Option<PlanName>,
    /// Only this source
    #[arg(long)]
    source: Option<SourceName>,
    /// How many days
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_DAYS)))]
    days: u32,
    /// Let runs begin late by chance; the same number plays the same
    #[arg(long)]
    seed: Option<u64>,
    /// From when on; now if left out
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<Timestamp>,
    /// What a source's first point adds to the vault
    #[arg(long, value_name = "SIZE")]
    size: Option<ByteSize>,
    /// What a day's changes add
    #[arg(long, value_name = "SIZE", requires = "size")]
    change: Option<ByteSize>,
    /// WAL of a day
    #[arg(long, value_name = "SIZE", requires = "size")]
    wal: Option<ByteSize>,
    /// Do not ask the vault what was measured
    #[arg(long)]
    offline: bool,
}

/// Sources for which the same happens.
#[derive(Serialize)]
struct Play {
    sources: Vec<SourceName>,
    growth: Option<Growth>,
    #[serde(skip)]
    key: (Vec<PlanName>, String),
    rpo: Option<u64>,
    played: Played,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let plans = chosen(context, arguments.plan.as_ref())?;
    if plans.is_empty() {
        return Err(Failure::new(Code::Settings, "there is no plan").hint(NO_PLAN));
    }
    let prices = listed()?;
    let mut sources = context.settings.protected();
    sources.retain(|source| plans.values().any(|plan| plan.covers(source)));
    if let Some(only) = &arguments.source {
        sources.retain(|source| source.name == *only);
    }
    if sources.is_empty() {
        let failure = Failure::new(Code::Settings, "these plans cover no such source");
        return Err(failure.hint("`strongroom plan lint` says which sources are in no plan"));
    }
    let known = known(context, arguments.offline, sources.iter().map(|source| &source.name)).await;
    let mut plays: Vec<Play> = Vec::new();
    for source in &sources {
        let measured = known.measured.get(&source.name).copied().unwrap_or_default();
        play(context, arguments, (source, &measured), (&prices, &mut plays))?;
    }
    let mut text: Vec<String> = plays.iter().map(|play| shown(play, arguments.days, &prices)).collect();
    text.push(format!(
        "prices: list prices of {} for {} of {}; storage is an upper bound",
        prices.source, prices.region, prices.date
    ));
    text.extend(
        known.missing.as_ref().map(|why| format!("nothing that was measured is reckoned with: {why}")),
    );
    let json = json!({
        "days": arguments.days, "seed": arguments.seed, "plays": plays,
        "prices": { "date": prices.date, "source": prices.source, "region": prices.region, "currency": prices.currency },
        "not_measured": known.missing,
    });
    Ok(Outcome::new(&json, text.join("\n")))
}

/// Plays a source, unless one like it was played already.
fn play(
    context: &Context,
    arguments: &Arguments,
    (source, measured): (&Protected, &Measured),
    (prices, plays): (&PriceList, &mut Vec<Play>),
) -> Result<(), Failure> {
    let settings = &context.settings;
    let covering = settings.plans.iter().filter(|(_, plan)| plan.covers(source));
    let retention = context.retention(None, &source.name)?;
    let growth = growth(arguments, measured);
    let takes = measured.backup.unwrap_or_default();
    let alike = format!("{:?} {retention:?} {growth:?} {takes:?} {:?}", source.kind, source.shipping);
    let key = (covering.clone().map(|(name, _)| name.clone()).collect(), alike);
    if let Some(known) = plays.iter_mut().find(|play| play.key == key) {
        known.sources.push(source.name.clone());
        return Ok(());
    }
    let backups: Vec<Timetable<'_>> =
        covering.flat_map(|(_, plan)| plan.timetables()).filter(|table| table.work == Work::Backup).collect();
    let simulated = Simulated {
        backups,
        retention,
        has_journal: source.kind.has_journal(),
        shipping: source.shipping,
        takes,
        growth,
    };
    let setting = Setting {
        begin: arguments.from.unwrap_or_else(|| context.cx.now()),
        days: arguments.days,
        seed: arguments.seed,
        lifecycle: &settings.vault.lifecycle,
        rebase_days: settings.backup.rebase_days as u32,
        prices,
    };
    let played = simulate(&simulated, &setting);
    let played = played.map_err(|error| Failure::from(error).under(&format!("source {}", source.name)))?;
    let rpo = objectives_of(&settings.plans, source).rpo.map(|rpo| rpo.as_secs());
    plays.push(Play { sources: vec![source.name.clone()], growth, key, rpo, played });
    Ok(())
}

/// What was said outweighs what was measured. A day without a figure of its own adds nothing.
fn growth(arguments: &Arguments, measured: &Measured) -> Option<Growth> {
    let said = |size: Option<ByteSize>| size.map(|size| size.0);
    match arguments.size {
        Some(size) => Some(Growth {
            full: size.0,
            change_a_day: said(arguments.change).unwrap_or(0),
            wal_a_day: said(arguments.wal).unwrap_or(0),
        }),
        None => measured.full.map(|full| Growth {
            full,
            change_a_day: measured.change_a_day.unwrap_or(0),
            wal_a_day: measured.wal_a_day.unwrap_or(0),
        }),
    }
}

fn shown(play: &Play, days: u32, prices: &PriceList) -> String {
    let Played { taken, points, most_points, worst_rpo, stored, most_stored, cost, early_deletion, months } =
        &play.played;
    let names: Vec<&str> = play.sources.iter().take(8).map(SourceName::as_str).collect();
    let more = if play.sources.len() > names.len() { ", …" } else { "" };
    let each = if play.sources.len() > 1 { ", each" } else { "" };
    let mut text = format!("{}{more}{each}, in {}:\n", names.join(", "), counted(days as usize, "day"));
    text.push_str(&format!("  points     {taken} taken, {points} kept at the end, {most_points} at most\n"));
    let promised = play.rpo.map(|rpo| match worst_rpo.is_some_and(|worst| worst > rpo) {
        true => format!(", which breaks the RPO of {}", human_duration(Duration::from_secs(rpo))),
        false => format!(", within the RPO of {}", human_duration(Duration::from_secs(rpo))),
    });
    let worst = worst_rpo.map_or_else(
        || "unknown: less than two backups were taken".to_owned(),
        |worst| human_duration(Duration::from_secs(worst)) + promised.as_deref().unwrap_or_default(),
    );
    text.push_str(&format!("  worst RPO  {worst}\n"));
    let (Some(stored), Some(most)) = (stored, most_stored) else {
        return text + "  storage    unknown: nothing was measured; say --size, --change and --wal\n";
    };
    text.push_str(&format!("  storage    {} at the end, {} at most\n", ByteSize(*stored), ByteSize(*most)));
    let currency = &prices.currency;
    let early = early_deletion.filter(|early| *early >= 0.005);
    let early =
        early.map_or_else(String::new, |early| format!(", of which {early:.2} for leaving a class early"));
    text.push_str(&match cost {
        Some(cost) => format!("  cost       {cost:.2} {currency}{early}\n"),
        None => "  cost       unknown: a storage class has no price in the list\n".to_owned(),
    });
    let rows: Vec<Vec<String>> = months
        .iter()
        .map(|month| {
            let stored = month.stored.map_or_else(|| "-".to_owned(), |stored| ByteSize(stored).to_string());
            let cost = month.cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}"));
            vec![month.month.to_string(), month.points.to_string(), stored, cost]
        })
        .collect();
    text + &table(&["month", "points", "stored", currency], &rows, &[0, 1, 2, 3]) + "\n"
}
