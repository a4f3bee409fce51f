//! `strongroom plan lint`

use anstyle::AnsiColor;
use serde_json::json;
use strongroom_model::lint::{Finding, Severity, Situation, lint};
use strongroom_model::{PlanName, SourceName};

use super::{NO_PLAN, chosen, counted, known};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, tinted};

/// Sources that are named in a line; of more, their number is said.
const NAMED: usize = 5;

/// Do the arithmetic: whether plans keep what they promise
#[derive(clap::Args)]
#[command(after_help = "\
Reckons with what was measured (how long backups and restores took) as far as the vault can be read.
Every finding has a number, which stays: docs/plans.md has them all. Exits with 4 if a plan does not do what it says;
with --strict also if there is a warning.

Examples:
  strongroom plan lint
  strongroom plan lint production --strict
  strongroom plan lint --offline       without what was measured, and without a key")]
pub struct Arguments {
    /// Only what concerns this plan
    plan: Option<PlanName>,
    /// Do not ask the vault what was measured
    #[arg(long)]
    offline: bool,
    /// Warnings count, too
    #[arg(long)]
    strict: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let of_plan = chosen(context, arguments.plan.as_ref())?;
    let sources = context.settings.protected();
    let covered = sources.iter().filter(|source| of_plan.values().any(|plan| plan.covers(source)));
    let covered: Vec<&SourceName> = covered.map(|source| &source.name).collect();
    let known = known(context, arguments.offline, covered.iter().copied()).await;
    let vaults = context.vault_policies();
    // All plans are looked at, for what one keeps or promises may be another's; then told what concerns the one.
    let mut findings = lint(&Situation {
        plans: &context.settings.plans,
        sources: &sources,
        vaults: &vaults,
        retention: context.settings.retention.as_ref(),
        rebase_days: context.settings.backup.rebase_days as u32,
        measured: &known.measured,
        now: context.cx.now(),
    });
    if let Some(plan) = &arguments.plan {
        let concerns = |finding: &Finding| match &finding.plan {
            Some(of) => of == plan,
            None => finding.sources.iter().any(|source| covered.contains(&source)),
        };
        findings.retain(concerns);
    }
    let worst = findings.iter().map(|finding| finding.severity).max();
    let is_sound = match worst {
        None => true,
        Some(Severity::Warn) => !arguments.strict,
        Some(Severity::Refuse) => false,
    };
    let mut text: Vec<String> = findings.iter().map(line).collect();
    text.push(match (of_plan.len(), findings.len()) {
        (0, _) => format!("there is no plan: {NO_PLAN}"),
        (plans, 0) => {
            format!("{} for {}: nothing is wrong", counted(plans, "plan"), counted(covered.len(), "source"))
        }
        (plans, found) => format!("{} in {}", counted(found, "finding"), counted(plans, "plan")),
    });
    text.extend(
        known.missing.as_ref().map(|why| format!("nothing that was measured is reckoned with: {why}")),
    );
    let json = json!({ "findings": findings, "measured": known.measured, "not_measured": known.missing });
    let code = if is_sound { Code::Ok } else { Code::Problems };
    Ok(Outcome::new(&json, text.join("\n")).with_code(code))
}

fn line(finding: &Finding) -> String {
    let (word, color) = match finding.severity {
        Severity::Warn => ("warning", AnsiColor::Yellow),
        Severity::Refuse => ("refuse ", AnsiColor::Red),
    };
    let named: Vec<&str> = finding.sources.iter().take(NAMED).map(SourceName::as_str).collect();
    let of = match finding.sources.len() {
        // One is in the text already.
        0 | 1 => String::new(),
        count if count > NAMED => format!(" [{} and {} more]", named.join(", "), count - NAMED),
        _ => format!(" [{}]", named.join(", ")),
    };
    format!(
        "{} {} {}{of}\n             {}",
        finding.number,
        tinted(word, color),
        finding.what,
        finding.instead
    )
}
