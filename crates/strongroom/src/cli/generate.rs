//! `strongroom generate`

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;

mod alerts;
mod dashboards;
mod runbook;

/// Write files for other programs, made of these settings
#[derive(clap::Subcommand)]
pub enum Verb {
    /// Alerting rules for Prometheus, over the agent's metrics
    #[command(after_help = "\
The rules also tell of what the agent itself cannot: that it is gone, or that a source has no recovery point at all.

Examples:
  strongroom generate alerts > /etc/prometheus/rules/strongroom.yml
  strongroom generate alerts --to /etc/prometheus/rules/strongroom.yml
  promtool check rules /etc/prometheus/rules/strongroom.yml")]
    Alerts(Target),
    /// A dashboard for Grafana, over the agent's metrics
    #[command(after_help = "\
Import it in Grafana, or put it where its provisioning looks for dashboards. It asks for the data source once.

Examples:
  strongroom generate dashboards > strongroom.json
  strongroom generate dashboards --to /var/lib/grafana/dashboards/strongroom.json")]
    Dashboards(Target),
    /// What to do in each disaster, with the names of this installation, and times that drills measured
    #[command(after_help = "\
A lost server, database, table, vault or key, a corrupted page, ransomware. Comes from the settings and the vault.

Examples:
  strongroom generate runbook --to disaster.md
  strongroom generate runbook --format html --to disaster.html")]
    Runbook(runbook::Arguments),
}

#[derive(clap::Args)]
pub struct Target {
    /// Into this file, which must not be there; to standard output without it
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    let (target, text) = match verb {
        Verb::Alerts(target) => (target, alerts::rules(&context.settings)),
        Verb::Dashboards(target) => (target, dashboards::dashboard()),
        Verb::Runbook(arguments) => (&arguments.target, runbook::text(context, arguments).await?),
    };
    match &target.to {
        None => Ok(Outcome::new(&json!({ "text": text }), text)),
        Some(path) => {
            put(path, &text)?;
            let bytes = text.len();
            let told = format!("{} is written, {bytes} bytes", path.display());
            Ok(Outcome::new(&json!({ "file": path, "bytes": bytes }), told))
        }
    }
}

/// Never over what is there.
#[allow(clippy::disallowed_methods, reason = "this module is where generated files are written")]
fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o644).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        let failure = Failure::new(Code::Failed, format!("write {}: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => failure.hint("choose another name, or move it away"),
            _ => failure,
        }
    })
}
