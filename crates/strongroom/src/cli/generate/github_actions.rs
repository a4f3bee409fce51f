//! A workflow for GitHub Actions: the lines of the plans at their times, and by hand.
//!
//! ```text
//! simulate (no secret, no right) ▶ carry out: credentials by OIDC ▶ backup --dry-run ▶ backup
//! ```
//!
//! **Invariant**: what is started by hand touches nothing unless it is asked to.

use std::fmt::Write;

use super::call::shell;
use super::pod::check_variable;
use super::work::{Work, work};
use super::{Made, Target};
use crate::context::Context;
use crate::failure::Failure;
use crate::secret::Reference;
use crate::settings::Settings;
use strongroom_catalog::Kind;
use strongroom_model::zone::Zone;

/// The one action that is used, by its commit, so that nobody can put another in its place.
const CHECKOUT: &str = "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2";

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the settings are in the repository
    #[arg(long, value_name = "PATH", default_value = "strongroom.toml", value_parser = inside)]
    settings: String,
    #[command(flatten)]
    pub target: Target,
}

/// A path below the repository, of letters that no shell or workflow reads as something else.
fn inside(text: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '/');
    let is_inside = !text.starts_with(['/', '-']) && !text.split('/').any(|part| part == "..");
    match is_inside && !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => {
            Err("it is no plain path below the repository: write it as deploy/strongroom.toml".to_owned())
        }
    }
}

/// The workflow.
pub fn made(context: &Context, arguments: &Arguments) -> Result<Made, Failure> {
    let settings = &context.settings;
    let call = format!("strongroom --config {}", arguments.settings);
    let lines = work(settings)?;
    let mut made = Made::default();
    let mut timed = Vec::new();
    for line in &lines {
        match fields(line) {
            Ok(fields) => timed.push((fields, line)),
            Err(why) => made.left_out.push(format!("{}: {why}", line.says)),
        }
    }
    let mut text = head(&timed, &made.left_out);
    text.push_str(&simulation(&call));
    text.push_str(&work_head(settings)?);
    timed.iter().for_each(|(fields, line)| text.push_str(&step(&call, fields, line)));
    made.files.push(("strongroom.yml".to_owned(), text));
    Ok(made)
}

fn fields(line: &Work) -> Result<String, String> {
    if !line.schedule.is_rate() && line.zone != Zone::UTC {
        return Err(format!("'{}' is of {}, and workflows follow UTC", line.schedule, line.zone));
    }
    line.schedule.five_fields().map_err(|error| error.to_string())
}

/// When, and with which rights: none but those that a job takes.
fn head(timed: &[(String, &Work)], left_out: &[String]) -> String {
    let mut text = String::from(
        "# Made by `strongroom generate github-actions`. Into .github/workflows. It runs on a runner of yours that reaches the server\n\
         # and has strongroom and jq on its PATH. Secrets of the repository or of its environment `backup` are named below.\n\
         # GitHub begins late when it is busy, and may leave a run out: the agent does not.\n",
    );
    left_out.iter().for_each(|line| text.push_str(&format!("# Left out: {line}\n")));
    text.push_str("name: strongroom\n\non:\n");
    let mut seen: Vec<&str> = Vec::new();
    for (fields, _) in timed {
        if !seen.contains(&fields.as_str()) {
            seen.push(fields);
        }
    }
    if !seen.is_empty() {
        text.push_str("  schedule:\n");
        seen.iter().for_each(|fields| text.push_str(&format!("    - cron: '{fields}'\n")));
    }
    text.push_str(
        "  workflow_dispatch:\n    inputs:\n      what:\n        description: simulate touches nothing\n        type: choice\n        default: simulate\n        options: [simulate, everything]\n\n\
         permissions: {}\n\n\
         concurrency:\n  group: strongroom\n  cancel-in-progress: false\n\n\
         jobs:\n",
    );
    text
}

fn simulation(call: &str) -> String {
    format!(
        "  simulate:\n    name: Simulate, without secrets\n    runs-on: [self-hosted, linux]\n    timeout-minutes: 15\n    permissions:\n      contents: read\n    steps:\n\
        {}\
        \x20     - name: Whether the plans keep what they promise\n        run: {call} plan lint --offline\n\
        \x20     - name: A year of them\n        run: {call} plan simulate --offline --days 365\n\n",
        checkout()
    )
}

fn checkout() -> String {
    format!("      - uses: {CHECKOUT}\n        with:\n          persist-credentials: false\n")
}

/// Which bucket's credentials come by OIDC: whom the token is for, and the variable that names its file.
fn federation(settings: &Settings) -> Option<(&'static str, &'static str, &'static [&'static str])> {
    let urls =
        std::iter::once(&settings.vault).chain(&settings.further).filter_map(|vault| vault.url.as_deref());
    let schemes: Vec<&str> = urls.filter_map(|url| Some(url.split_once("://")?.0)).collect();
    match schemes.first().copied() {
        Some("s3") => {
            Some(("sts.amazonaws.com", "AWS_WEB_IDENTITY_TOKEN_FILE", &["AWS_ROLE_ARN", "AWS_REGION"]))
        }
        Some("az") => Some((
            "api://AzureADTokenExchange",
            "AZURE_FEDERATED_TOKEN_FILE",
            &["AZURE_CLIENT_ID", "AZURE_TENANT_ID"],
        )),
        _ => None,
    }
}

fn work_head(settings: &Settings) -> Result<String, Failure> {
    let federation = federation(settings);
    let mut text = String::from(
        "  carry-out:\n    name: Carry out what is due\n    needs: simulate\n    if: github.event_name == 'schedule' || inputs.what == 'everything'\n    runs-on: [self-hosted, linux]\n    environment: backup\n    permissions:\n      contents: read\n",
    );
    text.push_str(if federation.is_some() { "      id-token: write\n" } else { "" });
    let variable = |reference: Reference| match reference {
        Reference::Environment(name) => Some(name),
        _ => None,
    };
    let mut secrets: Vec<String> = settings.references().into_iter().filter_map(variable).collect();
    secrets.extend(settings.outside_variable().map(str::to_owned));
    secrets.iter().try_for_each(|name| check_variable(name))?;
    let given = federation.map(|(_, _, names)| names).unwrap_or_default();
    if !secrets.is_empty() || !given.is_empty() {
        text.push_str("    env:\n");
    }
    secrets.iter().for_each(|name| text.push_str(&format!("      {name}: ${{{{ secrets.{name} }}}}\n")));
    given.iter().for_each(|name| text.push_str(&format!("      {name}: ${{{{ secrets.{name} }}}}\n")));
    text.push_str("    steps:\n");
    text.push_str(&checkout());
    if let Some((audience, file, _)) = federation {
        let _ = write!(
            text,
            "      - name: Credentials by OIDC, for an hour; what takes longer needs a runner with a role of its own\n        run: |\n          umask 077\n          curl --silent --show-error --fail -H \"Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN\" \"$ACTIONS_ID_TOKEN_REQUEST_URL&audience={audience}\" | jq --raw-output --exit-status .value > \"$RUNNER_TEMP/oidc-token\"\n          echo \"{file}=$RUNNER_TEMP/oidc-token\" >> \"$GITHUB_ENV\"\n        shell: bash\n"
        );
    }
    Ok(text)
}

/// A backup is looked at first: what is wrong is found before anything is read.
fn step(call: &str, fields: &str, line: &Work) -> String {
    let mut text = format!(
        "      - name: {}\n        if: ${{{{ !cancelled() && (github.event_name == 'workflow_dispatch' || github.event.schedule == '{fields}') }}}}\n        run: |\n",
        line.says
    );
    let commands =
        line.commands.iter().map(|words| words.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" "));
    for (number, words) in commands.enumerate() {
        if number == 0 && line.kind == Kind::Backup {
            let _ = writeln!(text, "          {call} {words} --dry-run");
        }
        let _ = writeln!(text, "          {call} {words}");
    }
    let minutes = line.completion_window.as_secs().div_ceil(60);
    let _ = writeln!(text, "        timeout-minutes: {minutes}");
    text
}
