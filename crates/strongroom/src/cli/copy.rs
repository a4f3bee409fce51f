//! `strongroom copy`

use std::sync::Arc;

use anstyle::AnsiColor;
use serde_json::json;
use strongroom_model::{ByteSize, PointId, SourceName};
use strongroom_ops::copy_points::{Choice, Copied, CopyRequest, LeftOut, SourcePlan, copy, plan};
use strongroom_vault::Vault;
use strongroom_vault::copy::{Brought, CopyOptions};

use crate::context::{Context, called};
use crate::failure::{Code, Failure};
use crate::output::{Outcome, tinted};
use crate::settings::VaultSettings;

/// Bring a second vault up to what the first one has
#[derive(clap::Args)]
#[command(after_help = "\
Copies what the other vault lacks: recovery points, WAL, holds, evidence, byte for byte and verified on the way. What
retention let go there is not copied again. Stopped at any moment it goes on where it was. Exits with 14 if something
was left out.

Both vaults are in strongroom.toml, the second under [[also]]; `strongroom init --copy-of` makes it.

Examples:
  strongroom copy --all --dry-run            what each [[also]] vault lacks
  strongroom copy orders --to elsewhere --latest
  strongroom copy --from elsewhere --to vault          back again, into a new first vault")]
pub struct Arguments {
    /// Only this source
    source: Option<SourceName>,
    /// Into this vault, by name or url
    #[arg(long, value_name = "NAME", required_unless_present = "all")]
    to: Option<String>,
    /// Into every [[also]] vault
    #[arg(long, conflicts_with = "to")]
    all: bool,
    /// From this vault, by name or url; the first one if left out
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Only this recovery point
    #[arg(long, value_name = "POINT", conflicts_with = "latest")]
    point: Option<PointId>,
    /// Of each source only the newest recovery point
    #[arg(long)]
    latest: bool,
    /// Objects on their way at a time; each takes up to 33 MiB of memory
    #[arg(long, value_name = "N", default_value = "4")]
    in_flight: u8,
    /// At most so many bytes a second: 50MB
    #[arg(long, value_name = "SIZE")]
    limit: Option<ByteSize>,
    /// Read every pack back from where it was copied to
    #[arg(long)]
    read_back: bool,
    /// Say what would be copied, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    context.check_places()?;
    let from = match &arguments.from {
        Some(name) => context.vault_called(name).await?,
        None => context.vault().await?,
    };
    let choice = match (&arguments.point, arguments.latest) {
        (Some(point), _) => Choice::Point(point.clone()),
        (None, true) => Choice::Latest,
        (None, false) => Choice::All,
    };
    let request = CopyRequest {
        source: arguments.source.clone(),
        choice,
        options: CopyOptions {
            in_flight: usize::from(arguments.in_flight),
            read_back: arguments.read_back,
            limit: arguments.limit.map(|limit| limit.0),
        },
    };
    let (mut lines, mut vaults, mut code) = (Vec::new(), Vec::new(), Code::Ok);
    let targets = targets(context, arguments)?;
    let only = targets.len() == 1;
    // One vault that is down keeps nothing from the others.
    for settings in targets {
        match into(context, &from, settings, (&request, arguments.dry_run)).await {
            Ok(outcome) => {
                if outcome.code != Code::Ok {
                    code = outcome.code;
                }
                lines.push(outcome.human);
                vaults.push(outcome.json);
            }
            Err(failure) if only || failure.kind == Code::Cancelled => return Err(failure),
            Err(failure) => {
                code = Code::Incomplete;
                let why = failure.on_one_line();
                lines.push(format!(
                    "{} into {}: {why}",
                    tinted("not copied", AnsiColor::Red),
                    called(settings)
                ));
                vaults.push(json!({ "to": called(settings), "error": failure }));
            }
        }
    }
    Ok(Outcome::new(&vaults, lines.join("\n")).with_code(code))
}

fn targets<'a>(context: &'a Context, arguments: &Arguments) -> Result<Vec<&'a VaultSettings>, Failure> {
    if let Some(name) = &arguments.to {
        return Ok(vec![context.vault_settings(name)?]);
    }
    if context.settings.further.is_empty() {
        let failure = Failure::new(Code::Settings, "there is no further vault to copy into");
        return Err(failure
            .hint("name one under [[also]] in strongroom.toml, and make it: strongroom init --copy-of"));
    }
    Ok(context.settings.further.iter().collect())
}

async fn into(
    context: &Context,
    from: &Arc<Vault>,
    settings: &VaultSettings,
    (request, dry_run): (&CopyRequest, bool),
) -> Result<Outcome, Failure> {
    let to = context.configured_vault(settings).await?;
    if dry_run {
        let plans = plan(from, &to, request).await?;
        let mut lines = vec![format!("would copy from {} into {}", from.place(), to.place())];
        lines.extend(plans.iter().flat_map(describe_plan));
        let json = json!({ "from": from.place(), "to": to.place(), "plan": plans });
        return Ok(Outcome::new(&json, lines.join("\n")));
    }
    let copied = copy(&context.cx, from, &to, request).await?;
    let code = if copied.is_complete() { Code::Ok } else { Code::Incomplete };
    Ok(Outcome::new(&copied, describe(&copied)).with_code(code))
}

fn describe_plan(plan: &SourcePlan) -> Vec<String> {
    let mut lines: Vec<String> = plan
        .points
        .iter()
        .map(|point| {
            format!("  {} {}  {} and what it shares", plan.source, point.point, ByteSize(point.stored))
        })
        .collect();
    if lines.is_empty() {
        lines.push(format!("  {} no recovery point: none is lacking there", plan.source));
    }
    lines.extend(plan.left_out.iter().map(|left| left_out(&plan.source, left)));
    lines
}

fn left_out(source: &SourceName, left: &LeftOut) -> String {
    format!("  {} {source} {}: {}", tinted("left out", AnsiColor::Red), left.point, left.why)
}

fn describe(copied: &Copied) -> String {
    let mut lines = vec![format!("copied from {} into {}", copied.from, copied.to)];
    for of in &copied.sources {
        lines.push(format!(
            "  {}  {} recovery points ({}), {} WAL files ({})",
            of.source,
            of.points.len(),
            ByteSize(of.objects.bytes),
            of.journal.objects,
            ByteSize(of.journal.bytes),
        ));
        lines.extend(of.left_out.iter().map(|left| left_out(&of.source, left)));
        lines.extend([&of.journal, &of.objects].into_iter().flat_map(lacking));
    }
    lines.extend(lacking(&copied.evidence));
    lines.join("\n")
}

fn lacking(brought: &Brought) -> Vec<String> {
    let differing = brought.differing.iter().map(|key| {
        format!("  {} {key}: both vaults have it, with different content", tinted("differs", AnsiColor::Red))
    });
    let damaged = brought.damaged.iter().map(|why| format!("  {} {why}", tinted("left out", AnsiColor::Red)));
    differing.chain(damaged).collect()
}
