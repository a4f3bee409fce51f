//! `strongroom generate`
//!
//! **Invariant**: the same settings make the same files, byte for byte, and nothing that is there is overwritten.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;

mod alerts;
mod dashboards;
mod call;
mod work;
mod systemd;
mod cron;
mod yaml;
mod pod;
mod k8s;
mod github_actions;
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
    /// Units for systemd: the agent's service, or services and timers of the plans
    #[command(after_help = "\
The service tells systemd when it is ready and that it lives, reloads its settings, runs as the server's user and has no right
that it does not need. Where no agent is to run, each line of the plans has a service and a timer.

Examples:
  strongroom generate systemd > /etc/systemd/system/strongroom.service
  strongroom generate systemd --without-agent --to /etc/systemd/system")]
    Systemd(systemd::Arguments),
    /// A crontab of the plans, for hosts without systemd and without the agent
    #[command(after_help = "\
What cron cannot say at exactly these times (L, W, #, years, another time zone) is left out and named; exit code 14 then.

Examples:
  strongroom generate cron > strongroom.crontab && crontab -u postgres strongroom.crontab
  strongroom generate cron --mail-to dba@example.org --timezone Europe/Berlin")]
    Cron(cron::Arguments),
    /// Manifests for Kubernetes: the agent, or CronJobs of the plans
    #[command(after_help = "\
The agent is a StatefulSet with a claim for its state, a Service and probes; CronJobs are for where no agent is to run. The
settings go into a ConfigMap, and no secret into anything: settings that hold one are refused.

Examples:
  strongroom generate k8s --image registry.example.org/strongroom:1 | kubectl apply -n backup -f -
  strongroom generate k8s --without-agent --to cronjobs.yaml")]
    K8s(k8s::Arguments),
    /// A workflow for GitHub Actions: the plans at their times, and by hand
    #[command(after_help = "\
By hand it simulates, without secrets, unless it is asked for everything. Credentials of a bucket come by OIDC. Schedules that are
not in UTC, or that five fields cannot say, are left out and named; exit code 14 then.

Examples:
  strongroom generate github-actions > .github/workflows/strongroom.yml
  strongroom generate github-actions --settings deploy/strongroom.toml --to .github/workflows/strongroom.yml")]
    GithubActions(github_actions::Arguments),
    /// What to do in each disaster, with the names of this installation, and times that drills measured
    #[command(after_help = "\
A lost server, database, table, vault or key, a corrupted page, ransomware. Comes from the settings and the vault.

Examples:
  strongroom generate runbook --to disaster.md
  strongroom generate runbook --format html --to disaster.html")]
    Runbook(runbook::Arguments),
}

/// Files that were made.
#[derive(Default)]
struct Made {
    /// Their names and what is in them.
    files: Vec<(String, String)>,
    /// What the settings order and these cannot say, with the reason.
    left_out: Vec<String>,
}

#[derive(clap::Args)]
pub struct Target {
    /// Into this file, which must not be there; to standard output without it
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    let one = |text: String| Made { files: vec![(String::new(), text)], left_out: Vec::new() };
    match verb {
        Verb::Alerts(target) => into_file(context, target, one(alerts::rules(&context.settings))),
        Verb::Dashboards(target) => into_file(context, target, one(dashboards::dashboard())),
        Verb::Systemd(arguments) => systemd::run(context, arguments),
        Verb::Cron(arguments) => into_file(context, &arguments.target, cron::made(context, arguments)?),
        Verb::K8s(arguments) => into_file(context, &arguments.target, k8s::made(context, arguments)?),
        Verb::GithubActions(arguments) => {
            into_file(context, &arguments.target, github_actions::made(context, arguments)?)
        }
        Verb::Runbook(arguments) => {
            into_file(context, &arguments.target, one(runbook::text(context, arguments).await?))
        }
    }
}

/// One file, or its text.
fn into_file(context: &Context, target: &Target, made: Made) -> Result<Outcome, Failure> {
    let text: String = made.files.into_iter().map(|(_, text)| text).collect();
    let outcome = match &target.to {
        None => Outcome::new(&json!({ "text": text, "left_out": made.left_out }), text),
        Some(path) => {
            put(path, &text)?;
            let bytes = text.len();
            let told = format!("{} is written, {bytes} bytes", path.display());
            Outcome::new(&json!({ "file": path, "bytes": bytes, "left_out": made.left_out }), told)
        }
    };
    Ok(with_left_out(context, &made.left_out, outcome))
}

/// Each file into this folder, or all of them one after another.
fn into_folder(context: &Context, folder: Option<&Path>, made: &Made) -> Result<Outcome, Failure> {
    let Made { files, left_out } = made;
    let names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
    let outcome = match folder {
        None => {
            let shown = |(name, text): &(String, String)| format!("# {name}\n{text}");
            let texts: Vec<String> = files.iter().map(shown).collect();
            let json: BTreeMap<&String, &String> = files.iter().map(|(name, text)| (name, text)).collect();
            Outcome::new(&json!({ "files": json, "left_out": left_out }), texts.join("\n"))
        }
        Some(folder) => {
            files.iter().try_for_each(|(name, _)| absent(&folder.join(name)))?;
            files.iter().try_for_each(|(name, text)| put(&folder.join(name), text))?;
            let told: Vec<String> =
                names.iter().map(|name| folder.join(name).display().to_string()).collect();
            Outcome::new(
                &json!({ "folder": folder, "files": names, "left_out": left_out }),
                format!("written:\n{}", told.join("\n")),
            )
        }
    };
    Ok(with_left_out(context, left_out, outcome))
}

/// Says what is missing, also where the files are read by no person.
fn with_left_out(context: &Context, left_out: &[String], outcome: Outcome) -> Outcome {
    left_out.iter().for_each(|line| context.printer.note(&format!("left out: {line}")));
    if left_out.is_empty() { outcome } else { outcome.with_code(Code::Incomplete) }
}

/// So that of several files none is written if one is there.
#[allow(clippy::disallowed_methods, reason = "this module is where generated files are written")]
fn absent(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => {
            let failure = Failure::new(Code::Failed, format!("write {}: File exists", path.display()));
            Err(failure.hint("choose another folder, or move it away"))
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
            std::io::ErrorKind::NotFound => failure.hint("make its folder first"),
            _ => failure,
        }
    })
}
