//! `strongroom lifecycle`

use anstyle::AnsiColor;
use serde_json::json;
use strongroom_model::lifecycle::{Gravity, Surroundings};
use strongroom_ops::lifecycle::{LifecyclePlan, apply, plan};
use strongroom_store::lifecycle::Rule;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, tinted};

/// Compare what the bucket does with objects as they age with what the settings say
#[derive(clap::Args)]
#[command(after_help = "\
What is wanted is said in strongroom.toml:
  [vault.lifecycle]
  packs = [{ days = 60, class = \"GLACIER_IR\" }, { days = 180, class = \"DEEP_ARCHIVE\" }]
  wal = [{ days = 90, class = \"GLACIER\" }]
  noncurrent_days = 30
Rules of others in the bucket are left alone. Only packs and WAL move; records and manifests stay, for listings read them.
Exits with 4 if the bucket does something else, or if the settings do not work out.

Examples:
  strongroom lifecycle             what is wanted, what there is, and what is wrong with it
  strongroom lifecycle --apply
  strongroom lifecycle --xml       the whole configuration, for Terraform and the like")]
pub struct Arguments {
    /// Another vault than the first, by name or url
    #[arg(long = "in", value_name = "VAULT")]
    named: Option<String>,
    /// Have the bucket do it
    #[arg(long)]
    apply: bool,
    /// Print the configuration as S3 takes it, and nothing else
    #[arg(long, conflicts_with = "apply")]
    xml: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let named = arguments.named.as_deref();
    let settings = context.named_settings(named)?;
    let (Some(custody), Some(prefix)) = (context.custody(named)?, context.bucket_prefix(named)?) else {
        let failure = Failure::new(Code::Usage, "a folder has no lifecycle");
        return Err(failure.hint("storage classes are for vaults in S3 buckets"));
    };
    let surroundings = Surroundings {
        rebase_days: context.settings.backup.rebase_days as u32,
        retentions: context.retentions(named)?,
        lock_days: settings.lock.as_ref().map(|lock| lock.days()),
        packs: settings.classes.packs,
    };
    let plan = plan(&*custody, &prefix, (&settings.lifecycle, &surroundings)).await?;
    if arguments.xml {
        return Ok(Outcome::new(&plan, plan.configuration.clone()));
    }
    let mut text = show(&plan);
    let mut applied = false;
    if arguments.apply && !plan.same {
        if plan.is_wrong() {
            let mut failure = Failure::new(Code::Settings, "the lifecycle in the settings does not work out");
            failure.causes = plan.objections.iter().map(|objection| objection.what.clone()).collect();
            return Err(
                failure.hint("`strongroom lifecycle` says what to change; the bucket was left as it is")
            );
        }
        apply(&*custody, &plan).await?;
        applied = true;
        text.push(tinted("the bucket does so from now on", AnsiColor::Green));
    }
    let code = if (plan.same || applied) && !plan.is_wrong() { Code::Ok } else { Code::Problems };
    let json = json!({ "plan": plan, "applied": applied });
    Ok(Outcome::new(&json, text.join("\n")).with_code(code))
}

fn show(plan: &LifecyclePlan) -> Vec<String> {
    let mut lines = Vec::new();
    let mut of = |rules: &[Rule], mark: &str, color| {
        for rule in rules {
            lines.push(tinted(&format!("{mark} {}: {}", rule.id, rule.says.join("; ")), color));
        }
    };
    let missing: Vec<Rule> = plan.wanted.iter().filter(|rule| !plan.there.contains(rule)).cloned().collect();
    let surplus: Vec<Rule> = plan.there.iter().filter(|rule| !plan.wanted.contains(rule)).cloned().collect();
    let same: Vec<Rule> = plan.wanted.iter().filter(|rule| plan.there.contains(rule)).cloned().collect();
    of(&same, " ", AnsiColor::White);
    of(&surplus, "-", AnsiColor::Red);
    of(&missing, "+", AnsiColor::Green);
    if lines.is_empty() {
        lines.push("no lifecycle is wanted, and there is none: objects stay where they were put".to_owned());
    }
    if plan.others > 0 {
        lines.push(format!("  {} rules of others stay as they are", plan.others));
    }
    for objection in &plan.objections {
        let word = match objection.gravity {
            Gravity::Warning => tinted("warning", AnsiColor::Yellow),
            Gravity::Wrong => tinted("wrong  ", AnsiColor::Red),
        };
        lines.push(format!("{word} {}: {}\n          {}", objection.rule, objection.what, objection.instead));
    }
    if !plan.same {
        lines.push("the bucket does something else: strongroom lifecycle --apply".to_owned());
    }
    lines
}
