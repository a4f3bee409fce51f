//! `strongroom plan`

use std::collections::BTreeMap;

use strongroom_model::lint::Measured;
use strongroom_model::plan::Plan;
use strongroom_model::{PlanName, SourceName};
use strongroom_ops::plan::measured;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::surroundings::host;

mod lint;
mod show;
mod simulate;
mod import;

/// Look at plans: what is wrong with them, what they will do, what they will cost
#[derive(clap::Subcommand)]
pub enum Verb {
    Lint(lint::Arguments),
    Show(show::Arguments),
    Simulate(simulate::Arguments),
    Import(import::Arguments),
}

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::Lint(arguments) => lint::run(context, arguments).await,
        Verb::Show(arguments) => show::run(context, arguments),
        Verb::Simulate(arguments) => simulate::run(context, arguments).await,
        Verb::Import(arguments) => import::run(context, arguments),
    }
}

/// What the vault knows of sources, and why it does not, where it does not: plans can be judged without.
struct Known {
    measured: BTreeMap<SourceName, Measured>,
    missing: Option<String>,
}

async fn known(context: &Context, offline: bool, sources: impl Iterator<Item = &SourceName>) -> Known {
    let mut known = Known { measured: BTreeMap::new(), missing: None };
    if offline {
        known.missing = Some("the vault was not asked (--offline)".to_owned());
        return known;
    }
    let vault = match context.answering().await {
        Ok(vault) => vault,
        Err(failure) => {
            known.missing = Some(failure.on_one_line());
            return known;
        }
    };
    let host = host();
    for source in sources {
        match measured(&context.cx, &vault, source, &host).await {
            Ok(measured) => drop(known.measured.insert(source.clone(), measured)),
            Err(error) => known.missing = Some(Failure::from(error).under(source.as_str()).on_one_line()),
        }
    }
    known
}

/// The plan of this name alone, or all.
fn chosen(context: &Context, name: Option<&PlanName>) -> Result<BTreeMap<PlanName, Plan>, Failure> {
    let plans = &context.settings.plans;
    let Some(name) = name else { return Ok(plans.clone()) };
    let found = plans.get(name).map(|plan| [(name.clone(), plan.clone())].into());
    found.ok_or_else(|| {
        let known: Vec<&str> = plans.keys().map(PlanName::as_str).collect();
        let failure = Failure::new(Code::Usage, format!("no plan is called {name}"));
        failure.hint(match known.is_empty() {
            true => NO_PLAN.to_owned(),
            false => format!("there are {}", known.join(", ")),
        })
    })
}

/// What to do where there is no plan.
const NO_PLAN: &str =
    "write one in strongroom.toml (docs/plans.md), or import one: strongroom plan import FILE";

/// `1 source`, `3 sources`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
