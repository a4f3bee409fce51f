//! `strongroom report`: one kind a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use strongroom_model::SourceName;
use strongroom_ops::report::rto_rpo::Promise;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::paper::{Paper, Sheet};
use crate::pdf::printed;
use crate::surroundings::{host, tool};

mod drawing;
mod status;
mod coverage;
mod rto_rpo;
pub mod compliance;
pub mod cost;
pub mod jobs;
mod architecture;
mod send;

/// Report what the vault can prove, for those who must answer for it
#[derive(Subcommand)]
pub enum Verb {
    #[command(flatten)]
    Of(Kind),
    Send(send::Arguments),
}

/// A kind of report.
#[derive(Subcommand)]
pub enum Kind {
    Status(status::Arguments),
    Coverage(coverage::Arguments),
    RtoRpo(rto_rpo::Arguments),
    Compliance(compliance::Arguments),
    Cost(cost::Arguments),
    Jobs(jobs::Arguments),
    Architecture(architecture::Arguments),
}

/// How a report is written.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Form {
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Sheet,
    /// Print it into this file as well, which must not be there; needs Chromium
    #[arg(long, value_name = "FILE")]
    pub pdf: Option<PathBuf>,
}

/// A report that was made.
pub struct Made {
    /// For programs.
    pub json: serde_json::Value,
    /// For people.
    pub paper: Paper,
    /// Whether nobody need look at anything.
    pub is_fine: bool,
}

impl Made {
    /// Of values of our own, which JSON cannot refuse.
    pub fn new(value: &impl serde::Serialize, paper: Paper, is_fine: bool) -> Made {
        Made { json: Outcome::new(value, "").json, paper, is_fine }
    }

    /// As it was asked for.
    async fn written(self, context: &Context, form: &Form) -> Result<Outcome, Failure> {
        if let Some(path) = &form.pdf {
            let pdf = printed(&context.cx, &self.paper.html()).await?;
            context.write_secret(path, &pdf)?;
            context.printer.note(&format!("{} is written, {} bytes", path.display(), pdf.len()));
        }
        let text = self.paper.written(form.format);
        let code = if self.is_fine { Code::Ok } else { Code::Problems };
        Ok(Outcome { code, json: self.json, human: text, is_line: false })
    }
}

pub async fn run(context: &Arc<Context>, verb: &Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::Of(kind) => {
            let (made, form) = made_of(context, kind).await?;
            made.written(context, form).await
        }
        Verb::Send(arguments) => send::run(context, arguments).await,
    }
}

/// Makes a report of this kind, and says how it was asked to be written.
async fn made_of<'a>(context: &Context, kind: &'a Kind) -> Result<(Made, &'a Form), Failure> {
    Ok(match kind {
        Kind::Status(arguments) => (status::made(context, arguments).await?, &arguments.form),
        Kind::Coverage(arguments) => (coverage::made(context, arguments).await?, &arguments.form),
        Kind::RtoRpo(arguments) => (rto_rpo::made(context, arguments).await?, &arguments.form),
        Kind::Compliance(arguments) => (compliance::made(context, arguments).await?, &arguments.form),
        Kind::Cost(arguments) => (cost::made(context, arguments).await?, &arguments.form),
        Kind::Jobs(arguments) => (jobs::made(context, arguments).await?, &arguments.form),
        Kind::Architecture(arguments) => (architecture::made(context, arguments).await?, &arguments.form),
    })
}

/// What the settings promise of every source.
fn promises(context: &Context) -> BTreeMap<SourceName, Promise> {
    let of = |(source, settings): (&SourceName, &crate::settings::SourceSettings)| {
        let promised = context.settings.objectives_of(source);
        let [rpo, rto] = [promised.rpo, promised.rto].map(|span| span.map(|span| span.0));
        (source.clone(), Promise { rpo, rto, drilled_within: settings.drill.within() })
    };
    context.settings.sources.iter().map(of).collect()
}

/// When, by what, and by whom a report was made.
pub fn made_by(context: &Context, by: &str) -> String {
    format!("{}, by {by}; made by {} on {}", context.cx.now(), tool(), host())
}

/// Seconds as people read them.
fn time(seconds: f64) -> String {
    let time = std::time::Duration::try_from_secs_f64(seconds).ok();
    time.map_or_else(|| "-".to_owned(), strongroom_model::time::human_duration)
}

/// What was promised, and what was measured: `5 min 0 s: 12 s`.
fn against((limit, found): (Option<f64>, Option<f64>), none: &str) -> String {
    let found = found.map_or_else(|| none.to_owned(), time);
    limit.map_or_else(|| found.clone(), |limit| format!("{found} of {}", time(limit)))
}
