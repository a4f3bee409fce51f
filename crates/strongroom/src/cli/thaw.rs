//! `strongroom thaw`

use std::sync::Arc;

use strongroom_model::tier::ThawSpeed;
use strongroom_model::{ByteSize, PointId};
use strongroom_ops::list::source_of;
use strongroom_ops::thaw::{ThawPlan, plan, thaw, wait};
use strongroom_store::Custody;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;

/// Make a frozen recovery point readable for a while
#[derive(clap::Args)]
#[command(after_help = "\
A point is frozen when objects that it needs lie in GLACIER or DEEP_ARCHIVE. Thawing copies them for some days; they stay
where they are. Prints how long it takes and what it costs first; the prices are S3's list prices of November 2025.

Examples:
  strongroom thaw 20261120T120000Z-1f2e3d4c --dry-run
  strongroom thaw 20261120T120000Z-1f2e3d4c --speed bulk --days 14
  strongroom thaw 20261120T120000Z-1f2e3d4c --wait && strongroom restore orders --point … --to /srv/pg")]
pub struct Arguments {
    /// The recovery point
    point: PointId,
    /// For how many days it is to be readable
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    /// expedited, standard or bulk
    #[arg(long, default_value = "standard")]
    speed: ThawSpeed,
    /// Do not end before everything can be read
    #[arg(long)]
    wait: bool,
    /// Another vault than the first, by name or url
    #[arg(long = "in", value_name = "VAULT")]
    named: Option<String>,
    /// Only say what it takes
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let named = arguments.named.as_deref();
    let vault = context.vault_or_called(named).await?;
    let custody = custody_of(context, named)?;
    let source = source_of(&vault, &arguments.point).await?;
    let of = (&source, &arguments.point);
    let plan = plan(&context.cx, &vault, &*custody, of, arguments.speed).await?;
    let mut text = describe(&plan);
    if arguments.dry_run || plan.is_thawed() {
        return Ok(Outcome::new(&plan, text));
    }
    context.printer.note(&text);
    thaw(&context.cx, &*custody, &plan, (arguments.days, arguments.speed)).await?;
    text = format!(
        "asked for {} objects; readable for {} days from when they are there",
        plan.to_thaw, arguments.days
    );
    if arguments.wait {
        wait(&context.cx, &vault, &*custody, of).await?;
        text = format!("{} can be read for {} days", arguments.point, arguments.days);
    }
    Ok(Outcome::new(&plan, text))
}

fn custody_of(context: &Context, named: Option<&str>) -> Result<Arc<dyn Custody>, Failure> {
    context.custody(named)?.ok_or_else(|| {
        Failure::new(Code::Usage, "nothing is ever frozen in a folder").hint("restore it as it is")
    })
}

/// What it takes, in a line.
pub fn describe(plan: &ThawPlan) -> String {
    match (plan.to_thaw, plan.thawing) {
        (0, 0) => format!("all {} objects of {} can be read", plan.objects, plan.point),
        (0, thawing) => format!("{thawing} of {} objects of {} are being thawed", plan.objects, plan.point),
        (frozen, thawing) => {
            let thawing =
                if thawing > 0 { format!(", {thawing} more are being thawed") } else { String::new() };
            let hours = match plan.hours {
                hours if hours < 1.0 => format!("{:.0} minutes", hours * 60.0),
                hours => format!("{hours:.0} hours"),
            };
            format!(
                "{frozen} of {} objects of {} ({}) are frozen{thawing}: thawing takes up to {hours} and costs about ${:.2}",
                plan.objects,
                plan.point,
                ByteSize(plan.bytes),
                plan.dollars
            )
        }
    }
}
