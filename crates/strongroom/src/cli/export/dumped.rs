//! `strongroom export` of a dump.

use std::path::{Path, PathBuf};

use serde_json::json;
use strongroom_model::SourceName;
use strongroom_model::point::Summary;
use strongroom_model::target::RecoveryTarget;
use strongroom_ops::restore_dump::{LoadingOptions, choose, plan, restore_dump};
use strongroom_postgres::logical::export::{Compressed, Export, ExportOptions, Shape};

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
    let is_standard = arguments.to.as_os_str() == "-";
    refuse(context, arguments, (shape, is_standard))?;
    let vault = context.answering().await?;
    let vaults: Vec<_> = [vec![vault.clone()], context.replicas_of(&vault).await].concat();
    let target = &RecoveryTarget::Latest;
    let point = choose(&vault, source, target, arguments.point.as_ref()).await?;
    let to = if is_standard { None } else { Some(named(&arguments.to, &point)?) };
    let compressed = arguments.compress.map_or(Compressed::No, Into::into);
    let programs = context.programs(arguments.programs.as_deref());
    let Arguments { no_owner, no_privileges, .. } = *arguments;
    let scratch = None;
    let options = ExportOptions { shape, to, compressed, no_owner, no_privileges, programs, scratch };
    let target = Export::new(options);
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

/// The path, with what stands for words of the point.
fn named(template: &Path, point: &Summary) -> Result<PathBuf, Failure> {
    let wrong = |what: String| {
        let failure = Failure::new(Code::Usage, format!("--to {}: {what}", template.display()));
        failure.hint("known are {source}, {point} and {time}")
    };
    let Some(text) = template.to_str().filter(|text| text.contains('{')) else {
        return Ok(template.to_owned());
    };
    let (mut path, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        let (word, after) = after.split_once('}').ok_or_else(|| wrong("a { has no }".to_owned()))?;
        path.push_str(before);
        path.push_str(&match word {
            "source" => point.source.to_string(),
            "point" => point.point.to_string(),
            "time" => point.stopped_at.0.strftime("%Y%m%d_%H%M%S").to_string(),
            word => return Err(wrong(format!("nothing is called {{{word}}}"))),
        });
        rest = after;
    }
    Ok((path + rest).into())
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
        (
            shape == Shape::Directory && (arguments.no_owner || arguments.no_privileges),
            "--no-owner and --no-privileges concern SQL: of a directory pg_restore has flags of these names",
        ),
        (
            shape == Shape::Directory && arguments.programs.is_some(),
            "--programs concerns SQL: a directory is written without any",
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
