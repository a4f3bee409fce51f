//! `strongroom hold`

use anstyle::AnsiColor;
use serde::Serialize;
use strongroom_model::{PointId, SourceName, Timestamp};
use strongroom_ops::hold::{HoldRequest, holds, place, release};
use strongroom_vault::hold::Hold;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table, tinted};
use crate::settings::parse_time;

/// Keep recovery points from expiring until released
#[derive(clap::Subcommand)]
pub enum Verb {
    /// Hold a point: it stays whatever retention says
    #[command(after_help = "\
Examples:
  strongroom hold place 20261120T120000Z-1f2e3d4c --reason 'case 4711' --owner legal@example.com
  strongroom hold place 20261120T120000Z-1f2e3d4c --reason migration --owner dba --until 2027-01-01T00:00:00Z")]
    Place(Place),
    /// End every hold of a point
    #[command(after_help = "\
Examples:
  strongroom hold release 20261120T120000Z-1f2e3d4c --reason 'case closed' --owner legal@example.com")]
    Release(Release),
    /// Every hold there is or was
    #[command(after_help = "\
Examples:
  strongroom hold list
  strongroom hold list orders --output json")]
    List(List),
}

#[derive(clap::Args)]
pub struct Place {
    /// The recovery point
    point: PointId,
    #[command(flatten)]
    why: Why,
    /// When it ends by itself; only a release ends it if left out
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
}

#[derive(clap::Args)]
pub struct Release {
    /// The recovery point
    point: PointId,
    #[command(flatten)]
    why: Why,
}

#[derive(clap::Args)]
struct Why {
    /// Why, for whoever asks later
    #[arg(long)]
    reason: String,
    /// Who answers for it
    #[arg(long)]
    owner: String,
    /// Another vault than the first, by name or url
    #[arg(long = "in", value_name = "VAULT")]
    named: Option<String>,
}

#[derive(clap::Args)]
pub struct List {
    /// A source; all of them if left out
    source: Option<SourceName>,
    /// Another vault than the first, by name or url
    #[arg(long = "in", value_name = "VAULT")]
    named: Option<String>,
}

/// A source's holds.
#[derive(Serialize)]
struct Held {
    source: SourceName,
    holds: Vec<Hold>,
}

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::Place(arguments) => {
            let Place { point, why, until } = arguments;
            let now = context.cx.now();
            if let Some(past) = until.filter(|until| *until <= now) {
                return Err(Failure::new(
                    Code::Usage,
                    format!("a hold until {past} would have ended already"),
                ));
            }
            let vault = context.vault_or_called(why.named.as_deref()).await?;
            let hold = place(&context.cx, &vault, point, &why.request(*until)).await?;
            let end = until.map_or_else(|| "released".to_owned(), |until| until.to_string());
            Ok(Outcome::new(&hold, format!("{point} is held until {end}")))
        }
        Verb::Release(Release { point, why }) => {
            let vault = context.vault_or_called(why.named.as_deref()).await?;
            match release(&context.cx, &vault, point, &why.request(None)).await? {
                0 => Err(Failure::new(Code::Usage, format!("{point} is not held"))
                    .hint("`strongroom hold list` shows what is")),
                count => Ok(Outcome::new(&count, format!("{count} holds of {point} ended"))),
            }
        }
        Verb::List(List { source, named }) => {
            let vault = context.vault_or_called(named.as_deref()).await?;
            let held = holds(&vault, source.as_ref()).await?;
            let held: Vec<Held> = held.into_iter().map(|(source, holds)| Held { source, holds }).collect();
            let text = show(&held, context.cx.now());
            Ok(Outcome::new(&held, text))
        }
    }
}

impl Why {
    fn request(&self, until: Option<Timestamp>) -> HoldRequest {
        HoldRequest { reason: self.reason.clone(), owner: self.owner.clone(), until }
    }
}

fn show(held: &[Held], now: Timestamp) -> String {
    let row = |source: &SourceName, hold: &Hold| {
        let state = match (&hold.released, hold.is_in_force(now)) {
            (Some(end), _) => format!("released {} by {}: {}", end.at, end.owner, end.reason),
            (None, true) => tinted("in force", AnsiColor::Green),
            (None, false) => "past its end".to_owned(),
        };
        let until = hold.placed.until.map_or_else(|| "released".to_owned(), |until| until.to_string());
        let (reason, owner) = (hold.placed.reason.clone(), hold.placed.owner.clone());
        vec![source.to_string(), hold.point.to_string(), reason, owner, until, state]
    };
    let rows: Vec<_> =
        held.iter().flat_map(|held| held.holds.iter().map(|hold| row(&held.source, hold))).collect();
    match rows.is_empty() {
        true => "nothing is held".to_owned(),
        false => table(&["source", "point", "reason", "owner", "until", "state"], &rows, &[]),
    }
}
