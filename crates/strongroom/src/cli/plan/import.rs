//! `strongroom plan import`

#![allow(
    clippy::disallowed_methods,
    reason = "this verb reads plans of others and adds to the settings file"
)]

use std::io::Write;
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use serde_json::json;
use strongroom_model::foreign_plan::{Imported, import};

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, tinted};
use crate::settings::Settings;

/// Read a plan of AWS Backup, or EventBridge schedules, as a plan of this
#[derive(clap::Args)]
#[command(after_help = "\
Reads what `aws backup get-backup-plan` and `get-backup-selection` print, the same from CloudFormation as JSON, or an object
of schedules such as {\"rds_backups\": \"cron(0 3 * * ? *)\"}. What could not be carried over is told, and the command exits
with 14 if there is such a thing. Look at the result with `strongroom plan lint`.

Examples:
  strongroom plan import plan.json selection.json
  strongroom plan import config/backup_schedule.json --write")]
pub struct Arguments {
    /// The file, and files of selections that belong to it
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Add it to the settings file; printed if left out
    #[arg(long)]
    write: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let texts: Vec<String> = arguments.files.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let shown: Vec<String> = arguments.files.iter().map(|path| path.display().to_string()).collect();
    let imported = import(&texts);
    let imported =
        imported.map_err(|error| Failure::from(error).under(&format!("import {}", shown.join(", "))))?;
    let toml = together(&imported);
    check(&toml)?;
    let written = match arguments.write {
        true => Some(add(context, &imported, &toml)?),
        false => None,
    };
    let mut text = match &written {
        Some(path) => format!("added to {}", path.display()),
        None => toml.clone(),
    };
    for left in &imported.left {
        text.push_str(&format!("\n# {} {left}", tinted("not carried over:", AnsiColor::Yellow)));
    }
    let names: Vec<String> = imported.plans.iter().map(|(name, _)| name.to_string()).collect();
    let json = json!({ "plans": names, "toml": toml, "not_carried_over": imported.left, "written": written });
    let code = if imported.left.is_empty() { Code::Ok } else { Code::Incomplete };
    Ok(Outcome::new(&json, text).with_code(code))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Code::Settings, format!("read {}: {error}", path.display())))
}

fn together(imported: &Imported) -> String {
    let texts: Vec<&str> = imported.plans.iter().map(|(_, text)| text.as_str()).collect();
    texts.join("\n")
}

/// What was made must read as it would from the file.
fn check(toml: &str) -> Result<(), Failure> {
    Settings::read(toml, "what was imported").map(|_| ()).map_err(Failure::from)
}

/// Adds to the settings file, whose text stays as it is.
fn add(context: &Context, imported: &Imported, toml: &str) -> Result<PathBuf, Failure> {
    let missing = || {
        let failure = Failure::new(Code::Settings, "there is no settings file to add to");
        failure.hint("name one with --config, or leave out --write and paste what is printed")
    };
    let path = context.settings.path.clone().ok_or_else(missing)?;
    if let Some((name, _)) = imported.plans.iter().find(|(name, _)| context.settings.plans.contains_key(name))
    {
        let failure = Failure::new(Code::Conflict, format!("{} has a plan called {name}", path.display()));
        return Err(failure
            .hint("take that out first, or leave out --write and paste what is printed under another name"));
    }
    let old = read(&path)?;
    let whole = format!("{}\n\n{toml}", old.trim_end());
    Settings::read(&whole, &path.display().to_string()).map_err(Failure::from)?;
    append(&path, &whole[old.trim_end().len()..], old.len() as u64).map_err(|error| {
        let failure = Failure::new(Code::Failed, format!("add to {}: {error}", path.display()));
        failure.hint("nothing was changed; may this user write there?")
    })?;
    Ok(path)
}

/// Adds all of it or nothing: half a plan would keep every command from reading its settings.
fn append(path: &Path, text: &str, before: u64) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(file.set_len(before)))
}
