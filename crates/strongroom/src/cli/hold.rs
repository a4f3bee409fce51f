//! `strongroom hold`

use std::sync::Arc;

use anstyle::AnsiColor;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use serde_json::json;
use strongroom_model::{PointId, SourceName, Timestamp};
use strongroom_ops::hold::{HoldRequest, holds, place, release};
use strongroom_ops::keeping::{cannot_hold, hold_in_store, release_in_store};
use strongroom_ops::list::source_of;
use strongroom_vault::Vault;
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
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// Who answers for it
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
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
            let in_store = in_store(context, why, (&vault, point), true).await?;
            let json = json!({ "hold": hold, "store": in_store });
            Ok(in_store.told(&json, format!("{point} is held until {end}")))
        }
        Verb::Release(Release { point, why }) => {
            let vault = context.vault_or_called(why.named.as_deref()).await?;
            match release(&context.cx, &vault, point, &why.request(None)).await? {
                // A hold that ended by its own date ended in the vault alone.
                0 => match in_store(context, why, (&vault, point), false).await? {
                    in_store @ InStore::Objects(_) => {
                        let json = json!({ "ended": 0, "store": in_store });
                        Ok(in_store.told(&json, format!("{point} is not held in the vault")))
                    }
                    InStore::NotAsked | InStore::Refused(_) => {
                        let failure = Failure::new(Code::Usage, format!("{point} is not held"));
                        Err(failure.hint("`strongroom hold list` shows what is"))
                    }
                },
                count => {
                    let in_store = in_store(context, why, (&vault, point), false).await?;
                    let json = json!({ "ended": count, "store": in_store });
                    Ok(in_store.told(&json, format!("{count} holds of {point} ended")))
                }
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

/// What the store's own hold came to.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum InStore {
    /// The vault's objects are not locked, so the store is not asked to hold any.
    NotAsked,
    /// It holds, or no longer holds, so many objects.
    Objects(u64),
    /// It would not; the vault's own hold stands all the same.
    Refused(String),
}

impl InStore {
    fn told(&self, json: &serde_json::Value, text: String) -> Outcome {
        match self {
            InStore::NotAsked => Outcome::new(json, text),
            InStore::Objects(count) => {
                Outcome::new(json, format!("{text}; the bucket was told so for {count} objects"))
            }
            InStore::Refused(why) => {
                let text =
                    format!("{text}\n{}: {why}", tinted("the bucket's own hold was not set", AnsiColor::Red));
                Outcome::new(json, text).with_code(Code::Incomplete)
            }
        }
    }
}

/// Where objects are locked, a hold is the store's as well: who has the vault's key could end ours.
async fn in_store(
    context: &Context,
    why: &Why,
    (vault, point): (&Arc<Vault>, &PointId),
    on: bool,
) -> Result<InStore, Failure> {
    let named = why.named.as_deref();
    let locked = context.named_settings(named)?.lock.is_some();
    let Some(custody) = context.custody(named)?.filter(|_| locked) else { return Ok(InStore::NotAsked) };
    let source = source_of(vault, point).await?;
    let of = (&source, point);
    let done = match on {
        true => hold_in_store(&context.cx, vault, &*custody, of).await,
        false => release_in_store(&context.cx, vault, &*custody, of).await,
    };
    match done {
        Ok(count) => Ok(InStore::Objects(count)),
        Err(error) if cannot_hold(&error) => Ok(InStore::Refused(Failure::from(error).on_one_line())),
        Err(error) => Err(error.into()),
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
