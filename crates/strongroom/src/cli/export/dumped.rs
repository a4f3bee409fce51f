//! `strongroom export` of a dump.

use std::path::PathBuf;

use serde_json::json;
use strongroom_model::SourceName;
use strongroom_model::target::RecoveryTarget;
use strongroom_ops::restore_dump::{LoadingOptions, choose, plan, restore_dump};
use strongroom_postgres::logical::export::{Compressed, Export, ExportOptions, Shape};
use strongroom_postgres::logical::program::Programs;

use super::Arguments;
use crate::cli::restore::of_target;
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Format, Outcome};

/// Writes the point that the arguments choose as files that PostgreSQL's own programs restore.
pub async fn run(
    context: &Context,
    arguments: &Arguments,
    (source, shape): (&SourceName, Shape),
) -> Result<Outcome, Failure> {
    let to: Option<PathBuf> = Some(arguments.to.clone()).filter(|to| to.as_os_str() != "-");
    refuse(context, arguments, (shape, to.is_none()))?;
    let vault = context.answering().await?;
    let vaults: Vec<_> = [vec![vault.clone()], context.replicas_of(&vault).await].concat();
    let target = &RecoveryTarget::Latest;
    let point = choose(&vault, source, target, arguments.point.as_ref()).await?;
    let is_standard = to.is_none();
    let compressed = arguments.compress.map_or(Compressed::No, Into::into);
    let programs = Programs::default();
    let target = Export::new(ExportOptions { shape, to, compressed, programs, scratch: None });
    let plan = plan(&context.cx, &vaults, &point, &target).await.map_err(of_target)?;
    let mut lines = vec![format!("export {} of {source}, of {}", point.point, point.stopped_at)];
    lines.extend(plan.steps.iter().map(|step| format!("  {step}")));
    if arguments.dry_run {
        return Ok(Outcome::new(&plan, lines.join("\n")));
    }
    context.printer.note(&lines.join("\n"));
    // The files are written from one end to the other: part after part.
    let options = LoadingOptions { workers: 1, rate_limit: None };
    let exported = restore_dump(&context.cx, &vaults, plan, &target, options).await.map_err(of_target)?;
    let text = exported.lines.join("\n");
    if is_standard {
        // Standard output is the dump's.
        context.printer.note(&text);
        return Ok(Outcome::new(&json!({}), ""));
    }
    Ok(Outcome::new(&exported, text))
}

fn refuse(
    context: &Context,
    arguments: &Arguments,
    (shape, is_standard): (Shape, bool),
) -> Result<(), Failure> {
    let is_json = context.printer.format == Format::Json;
    let why = [
        (arguments.tar, "--tar concerns pg_basebackup's layout"),
        (!arguments.tablespace_map.is_empty(), "--tablespace-map concerns pg_basebackup's layout"),
        (
            arguments.workers.is_some(),
            "--workers concerns pg_basebackup's layout: a dump is written part after part",
        ),
        (arguments.thaw, "--thaw concerns pg_basebackup's layout: `strongroom thaw` thaws a dump"),
        (is_standard && shape == Shape::Directory, "a folder cannot be written to standard output"),
        (is_standard && is_json && !arguments.dry_run, "standard output cannot hold both the dump and JSON"),
        (
            shape == Shape::Sql && arguments.compress.is_some(),
            "--compress concerns directories: end the name with .gz or .zst",
        ),
    ];
    match why.into_iter().find(|(is_so, _)| *is_so) {
        Some((_, why)) => Err(Failure::new(Code::Usage, why)),
        None => Ok(()),
    }
}
