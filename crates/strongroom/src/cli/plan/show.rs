//! `strongroom plan show`

use serde_json::json;
use strongroom_model::forecast::{Due, covered, forecast};
use strongroom_model::plan::objectives_of;
use strongroom_model::source::Protected;
use strongroom_model::span::Span;
use strongroom_model::{PlanName, SourceName, Timestamp};

use super::{NO_PLAN, chosen, counted};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table};
use crate::settings::parse_time;

/// Runs that are shown; of more, it is said that there are.
const MOST: usize = 1000;

/// Show what becomes due, and for which sources
#[derive(clap::Args)]
#[command(after_help = "\
Times are shown in UTC and as a clock in the rule's time zone shows them. This is what the plans say, not what became of it.

Examples:
  strongroom plan show
  strongroom plan show production --next 30d
  strongroom plan show --from 2026-03-28T00:00:00Z --next 2d      (how a change of clocks is met)")]
pub struct Arguments {
    /// Only this plan
    plan: Option<PlanName>,
    /// How far to look
    #[arg(long, value_name = "TIME", default_value = "7d")]
    next: Span,
    /// From when on; now if left out
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<Timestamp>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let plans = chosen(context, arguments.plan.as_ref())?;
    if plans.is_empty() {
        return Err(Failure::new(Code::Settings, "there is no plan").hint(NO_PLAN));
    }
    let sources = context.settings.protected();
    let from = arguments.from.unwrap_or_else(|| context.cx.now());
    let until = from.0.checked_add(arguments.next.0).map_or(from, Timestamp);
    let mut runs: Vec<Due<'_>> = forecast(&plans, &sources, (from, until)).take(MOST + 1).collect();
    let is_cut = runs.len() > MOST;
    runs.truncate(MOST);
    let mut text: Vec<String> = plans.keys().map(|name| described(context, name, &sources)).collect();
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    text.push(match rows.is_empty() {
        true => format!("nothing is due within {}", arguments.next),
        false => table(&["due", "by the rule's clock", "zone", "plan", "rule", "what"], &rows, &[]),
    });
    if is_cut {
        text.push(format!("and more: these are the first {MOST}"));
    }
    let covers = |name: &PlanName| covered(&plans[name], &sources);
    let listed: serde_json::Map<String, serde_json::Value> =
        plans.keys().map(|name| (name.to_string(), json!({ "sources": covers(name) }))).collect();
    let json = json!({ "from": from, "until": until, "plans": listed, "runs": runs, "more": is_cut });
    Ok(Outcome::new(&json, text.join("\n")))
}

fn row(due: &Due<'_>) -> Vec<String> {
    let what = due.work.as_str().to_owned();
    vec![
        due.at.to_string(),
        due.local.clone(),
        due.zone.to_string(),
        due.plan.to_string(),
        due.rule.to_owned(),
        what,
    ]
}

/// A plan in a line: whom it is for, and what it promises.
fn described(context: &Context, name: &PlanName, sources: &[Protected]) -> String {
    let plans = &context.settings.plans;
    let of_plan: Vec<&Protected> = sources.iter().filter(|source| plans[name].covers(source)).collect();
    let names: Vec<&str> = of_plan.iter().take(8).map(|source| SourceName::as_str(&source.name)).collect();
    let more = if of_plan.len() > names.len() { ", …" } else { "" };
    let mut text = format!("{name}: {} ({}{more})", counted(of_plan.len(), "source"), names.join(", "));
    let promised = of_plan.iter().map(|source| objectives_of(plans, source));
    let (rpos, rtos): (Vec<_>, Vec<_>) = promised.map(|of| (of.rpo, of.rto)).unzip();
    for (word, spans) in [("RPO", rpos), ("RTO", rtos)] {
        if let Some(strictest) = spans.into_iter().flatten().min() {
            text.push_str(&format!(", {word} {strictest}"));
        }
    }
    text
}
