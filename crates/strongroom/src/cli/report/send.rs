//! `strongroom report send`

use std::sync::Arc;

use clap::Parser;
use serde::Serialize;
use serde_json::json;
use strongroom_model::RuleName;
use strongroom_notify::{Attached, Letter};

use super::{Kind, Made, made_of};
use crate::channels::hand;
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::paper::Sheet;
use crate::pdf::printed;
use crate::settings::reporting::{ReportFormat, ReportSettings};
use crate::surroundings::{host, tool};

/// Make a report of the settings and send it to its channels now, as the agent does on its schedule
#[derive(clap::Args)]
#[command(after_help = "\
Mail gets the report attached, webhooks and programs as JSON, chats and topics what it comes to. Exits with 4 if a channel did not take it.

Examples:
  strongroom report send weekly        [report.weekly] of strongroom.toml
  strongroom report send weekly --output json")]
pub struct Arguments {
    /// The name behind [report.…]
    name: RuleName,
}

/// A report's command line, for the settings say no more than its kind.
#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    kind: Kind,
}

/// What a channel made of it.
#[derive(Serialize)]
struct Handed {
    channel: String,
    why: Option<String>,
}

pub async fn run(context: &Arc<Context>, arguments: &Arguments) -> Result<Outcome, Failure> {
    let name = &arguments.name;
    let settings = context.settings.reports.get(name).ok_or_else(|| {
        let failure = Failure::new(Code::Settings, format!("no report is called {name}"));
        failure.hint(
            "name it in strongroom.toml: [report.NAME] with kind, schedule and to (docs/runbook/report.md)",
        )
    })?;
    let line = Line::try_parse_from(["report", settings.kind.word()]);
    let kind = line.map_err(|error| Failure::of_usage(&error.to_string()))?.kind;
    let (made, _) = made_of(context, &kind).await?;
    let attached = attached(context, settings, &made).await?;
    let state = if made.is_fine { "nothing needs attention" } else { "something needs attention" };
    let subject = format!("[strongroom] {} ({name}): {state}", made.paper.title);
    let text = format!(
        "{}\n{}\n\nthe whole   strongroom report {}\nsent by     {} on {}, as [report.{name}]\n",
        made.paper.lead,
        made.paper.note,
        settings.kind,
        tool(),
        host()
    );
    let document = json!({
        "event": "report", "name": name, "kind": settings.kind.word(), "fine": made.is_fine, "at": context.cx.now(),
        "headline": made.paper.lead, "host": host(), "tool": tool(), "report": made.json,
    });
    let letter = Letter { subject: &subject, text: text.trim_start(), json: &document, attached: &attached };
    let mut handed = Vec::new();
    for channel in &settings.to {
        let result = hand(context, channel.as_str(), &letter).await;
        handed.push(Handed {
            channel: channel.as_str().to_owned(),
            why: result.err().map(|error| error.to_string()),
        });
    }
    let said = |handed: &Handed| match &handed.why {
        None => format!("{} took it", handed.channel),
        Some(why) => format!("{} did not take it: {why}", handed.channel),
    };
    let told: Vec<String> = handed.iter().map(said).collect();
    let code = if handed.iter().all(|handed| handed.why.is_none()) { Code::Ok } else { Code::Problems };
    let json = json!({ "report": name, "kind": settings.kind.word(), "attached": attached.name, "channels": handed });
    Ok(Outcome::new(&json, told.join("\n")).with_code(code))
}

async fn attached(context: &Context, settings: &ReportSettings, made: &Made) -> Result<Attached, Failure> {
    let paper = &made.paper;
    let (ending, content_type, bytes) = match settings.format {
        ReportFormat::Text => ("txt", "text/plain; charset=utf-8", paper.written(Sheet::Text).into_bytes()),
        ReportFormat::Csv => ("csv", "text/csv; charset=utf-8", paper.written(Sheet::Csv).into_bytes()),
        ReportFormat::Html => ("html", "text/html; charset=utf-8", paper.html().into_bytes()),
        ReportFormat::Pdf => ("pdf", "application/pdf", printed(&context.cx, &paper.html()).await?),
    };
    let name = format!("{}-{}.{ending}", settings.kind, context.cx.now().compact());
    Ok(Attached { name, content_type, bytes })
}
