//! `strongroom expire`

use std::sync::Arc;

use anstyle::AnsiColor;
use serde::Serialize;
use serde_json::json;
use strongroom_model::expiry_plan::ExpiryPlan;
use strongroom_model::{PointId, SourceName, Timestamp};
use strongroom_ops::expire::{Expired, expire, let_go_lost, plan, why_lost};
use strongroom_ops::list::source_of;
use strongroom_vault::Vault;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table, tinted};
use crate::settings::parse_time;
use crate::surroundings::hand;

/// Let go the recovery points and WAL that retention no longer keeps
#[derive(clap::Args)]
#[command(after_help = "\
Prints every point with the rules that keep it, then carries out exactly that plan. Nothing is deleted: what is let go is
marked, and `strongroom sweep` deletes what no other point needs.

What is kept is said in strongroom.toml, in [retention], in a plan's rules, in [source.NAME.retention] or, for one vault,
in [vault.retention]:
  keep_last, keep_days, daily, weekly, monthly, yearly, pitr_days, minimum_redundancy, timezone

Examples:
  strongroom expire --dry-run
  strongroom expire orders
  strongroom expire orders --dry-run --now 2027-01-01T00:00:00Z      what will go by then
  strongroom expire --point 20261120T120000Z-1f2e3d4c      one that is damaged for good, so that sweeps go on")]
pub struct Arguments {
    /// A source; all that have a retention if left out
    source: Option<SourceName>,
    /// Another vault than the first, by name or url
    #[arg(long = "in", value_name = "VAULT")]
    named: Option<String>,
    /// Let go of this recovery point, whose record or manifest is lost for good; any other is refused
    #[arg(long, value_name = "POINT", conflicts_with_all = ["source", "now"])]
    point: Option<PointId>,
    /// Plan as of another time
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "dry_run")]
    now: Option<Timestamp>,
    /// Only print the plan
    #[arg(long)]
    dry_run: bool,
}

/// What became of one source.
#[derive(Serialize)]
struct Report {
    source: SourceName,
    plan: ExpiryPlan,
    /// `None` in a dry run.
    expired: Option<Expired>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let vault = context.vault_or_called(arguments.named.as_deref()).await?;
    if let Some(point) = &arguments.point {
        return one(context, &vault, point, arguments.dry_run).await;
    }
    let sources = match &arguments.source {
        Some(source) => vec![source.clone()],
        None => vault.sources().await?,
    };
    let now = arguments.now.unwrap_or_else(|| context.cx.now());
    let (mut reports, mut text) = (Vec::new(), Vec::new());
    for source in sources {
        let Some(retention) = context.retention(arguments.named.as_deref(), &source)? else {
            text.push(format!("{source}: no retention is set, so everything is kept"));
            continue;
        };
        let plan = plan(&vault, &source, &retention, now).await?;
        text.push(show(&source, &plan));
        let expired = match arguments.dry_run {
            true => None,
            false => Some(expire(&context.cx, &vault, &source, (&plan, &retention, &hand())).await?),
        };
        text.push(ending(&plan, expired.as_ref()));
        reports.push(Report { source, plan, expired });
    }
    match (reports.is_empty(), &arguments.source) {
        (true, Some(source)) => {
            let failure = Failure::new(Code::Settings, format!("source {source} has no retention"));
            Err(failure.hint("set [retention] or [source.NAME.retention] in strongroom.toml; until then everything is kept"))
        }
        _ => Ok(Outcome::new(&reports, text.join("\n"))),
    }
}

async fn one(
    context: &Context,
    vault: &Arc<Vault>,
    point: &PointId,
    dry_run: bool,
) -> Result<Outcome, Failure> {
    let source = source_of(vault, point).await?;
    let why = match dry_run {
        true => why_lost(vault, &source, point).await?,
        false => let_go_lost(&context.cx, vault, (&source, point), &hand()).await?,
    };
    let json = json!({ "source": source, "point": point, "why": why.to_string(), "expired": !dry_run });
    let text = match dry_run {
        true => format!(
            "{point} would be let go: {why}\na replica may have it whole: strongroom verify --repair-from"
        ),
        false => format!("{point} let go: {why}"),
    };
    Ok(Outcome::new(&json, text))
}

fn show(source: &SourceName, plan: &ExpiryPlan) -> String {
    let rows: Vec<Vec<String>> = plan
        .lines
        .iter()
        .map(|line| {
            let verdict = match line.expires {
                true => tinted("goes", AnsiColor::Yellow),
                false => tinted("stays", AnsiColor::Green),
            };
            let at = line.at.map_or_else(|| "-".to_owned(), |at| at.to_string());
            vec![line.point.to_string(), at, verdict, line.why.join("; ")]
        })
        .collect();
    let mut text = format!("{source}\n{}", table(&["point", "restores from", "", "why"], &rows, &[]));
    for floor in &plan.floors {
        text.push_str(&format!("\nWAL below {}: {} segments may go", floor.segment, floor.below));
    }
    for note in &plan.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    text
}

/// What was let go, in one line.
pub fn ending(plan: &ExpiryPlan, expired: Option<&Expired>) -> String {
    let (points, kept) = (plan.expiring().count(), plan.lines.len() - plan.expiring().count());
    match expired {
        None => format!("{points} points would be let go, {kept} stay"),
        Some(_) if points == 0 && plan.floors.is_empty() => format!("nothing to let go, {kept} points stay"),
        Some(_) => {
            format!("{points} points let go, {kept} stay; `strongroom sweep` deletes what nothing needs")
        }
    }
}
