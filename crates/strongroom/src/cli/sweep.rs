//! `strongroom sweep`

use std::collections::BTreeMap;
use std::time::Duration;

use anstyle::AnsiColor;
use strongroom_model::{ByteSize, SourceName};
use strongroom_vault::sweep::{SweepOptions, Swept};

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, tinted};
use crate::settings::parse_duration;
use crate::surroundings;

/// Delete what no recovery point needs any more
#[derive(clap::Args)]
#[command(after_help = "\
Deletes packs and manifests of points that expired, were given up or whose writer died, as far as no other point refers
to them. Safe beside running backups, copies and other sweeps on other hosts. It is the only command that needs the
right to delete: run it under an identity of its own. `strongroom expire` decides what may go; this carries it out.

Examples:
  strongroom sweep --dry-run                 what would go, and why
  strongroom sweep orders
  strongroom sweep --stale-after 48h         a backup that began two days ago and did not end is dead
  strongroom sweep orders --forget ID        that sweep's process died; copies need not wait for it")]
pub struct Arguments {
    /// A source; all of them if left out
    source: Option<SourceName>,
    /// Take points for dead that began longer ago than this and were not decided
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "168h")]
    stale_after: Duration,
    /// Declare an earlier sweep dead that did not end. Its process must be dead
    #[arg(long, value_name = "ID", requires = "source", conflicts_with = "dry_run")]
    forget: Option<String>,
    /// Another vault than the first, by name or url
    #[arg(long = "in", value_name = "VAULT")]
    named: Option<String>,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let vault = context.vault_or_called(arguments.named.as_deref()).await?;
    if let (Some(id), Some(source)) = (&arguments.forget, &arguments.source) {
        return match strongroom_ops::sweep::forget(&context.cx, &vault, source, id).await? {
            true => Ok(Outcome::new(&id, format!("sweep {id} of {source} counts as ended"))),
            false => Err(Failure::new(Code::Usage, format!("source {source} has no unfinished sweep {id}"))),
        };
    }
    let options = SweepOptions {
        stale_after: arguments.stale_after,
        dry_run: arguments.dry_run,
        host: surroundings::host(),
        tool: surroundings::tool(),
    };
    let swept =
        strongroom_ops::sweep::sweep(&context.cx, &vault, arguments.source.as_ref(), &options).await?;
    let text = match swept.is_empty() {
        true => format!("{} holds no source yet", vault.place()),
        false => swept.iter().map(|swept| show(swept, arguments.dry_run)).collect::<Vec<_>>().join("\n"),
    };
    Ok(Outcome::new(&swept, text))
}

fn show(swept: &Swept, dry_run: bool) -> String {
    let (would, deleted) = if dry_run { ("would be ", "would go") } else { ("", "deleted") };
    let mut lines = vec![format!(
        "{}: {} objects {deleted}, {}",
        swept.source,
        swept.garbage.len(),
        ByteSize(swept.bytes())
    )];
    let mut by_why = BTreeMap::<&str, (usize, u64)>::new();
    for object in &swept.garbage {
        let (count, bytes) = by_why.entry(object.why).or_default();
        (*count, *bytes) = (*count + 1, *bytes + object.size);
    }
    for (why, (count, bytes)) in by_why {
        lines.push(format!("  {count} objects, {}: {why}", ByteSize(bytes)));
    }
    for point in &swept.revoked {
        lines.push(format!("  {point} {would}revoked: its writer has been silent too long"));
    }
    for point in &swept.spared {
        lines.push(format!("  {point} is being written: what it may refer to was spared"));
    }
    for sweep in &swept.unfinished {
        let text = format!(
            "  sweep {sweep} did not end; if its process is dead: `strongroom sweep {} --forget {sweep}`",
            swept.source
        );
        lines.push(tinted(&text, AnsiColor::Yellow));
    }
    lines.join("\n")
}
