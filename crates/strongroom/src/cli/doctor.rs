//! `strongroom doctor`

use std::sync::Arc;

use anstyle::AnsiColor;
use strongroom_model::SourceName;
use strongroom_ops::doctor::{
    Examination, Finding, Treatment, examine_custody, examine_lock, examine_server, examine_source,
    examine_space, examine_store,
};
use strongroom_postgres::advice::{Verdict, Wanted};
use strongroom_vault::{Vault, VaultError};

use crate::context::{Context, called};
use crate::failure::{Code, Failure};
use crate::output::{Outcome, tinted};

/// Look at everything backups and restores depend on, and say how to mend it
#[derive(clap::Args)]
#[command(after_help = "\
Looks at the server's settings, rights and archiving, the store's promises, clocks and space. Exits with 4 if anything
is wrong.

Examples:
  strongroom doctor orders
  strongroom doctor orders --fix     writes archive_mode, archive_command and the like; a restart may be needed after
  strongroom doctor --storage        only the vault and its store")]
pub struct Arguments {
    /// The source; may be left out if there is only one
    source: Option<SourceName>,
    /// Write the PostgreSQL settings that need to change
    #[arg(long, conflicts_with = "storage")]
    fix: bool,
    /// Only look at the vault and its store
    #[arg(long)]
    storage: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let mut examination = Examination::default();
    // One thing that is down must not hide what the others say.
    let vault = match context.vault().await {
        Ok(vault) => {
            let how = if vault.may_read() { "opens" } else { "opens, to append and not to read" };
            examination.note("vault", Verdict::Ok, format!("{} {how} ({})", vault.place(), vault.id()), None);
            Some(vault)
        }
        Err(failure) => {
            note(&mut examination, "vault", failure);
            None
        }
    };
    if vault.is_some() {
        examine_keeping(context, &mut examination).await?;
    }
    examine_further(context, vault.as_ref(), &mut examination).await;
    let mut last = None;
    if !arguments.storage {
        let source = context.source(arguments.source.as_ref())?;
        if let Some(engine) = context.dump_engine(&source)? {
            match engine.inspect(&context.cx).await {
                Ok(found) => {
                    let what = format!("{} ({}) can be dumped", found.what, found.product);
                    examination.note("server", Verdict::Ok, what, None);
                }
                Err(error) => note(&mut examination, "server", error.into()),
            }
            return Ok(told(&examination));
        }
        let engine = context.engine(&source)?;
        let settings = context.settings.sources.get(&source);
        let wanted = Wanted {
            archive_command: context.command(&["wal", "push"], &source, "\"%p\"")?,
            archive_timeout: settings
                .and_then(|settings| settings.archive_timeout)
                .map(|span| span.as_secs()),
        };
        let treatment = if arguments.fix { Treatment::Fix } else { Treatment::Look };
        match examine_server(&context.cx, &engine, &wanted, treatment, &mut examination).await {
            Ok(server) => {
                if let Some(vault) = &vault {
                    last = examine_source(vault, &source, &server, &mut examination).await?;
                }
            }
            Err(error) => note(&mut examination, "server", error.into()),
        }
    }
    if let Some(folder) = context.vault_folder() {
        examine_space(&folder, last.as_ref(), &mut examination);
    }
    Ok(told(&examination))
}

/// What was found and mended.
fn told(examination: &Examination) -> Outcome {
    let mut lines: Vec<String> = examination.findings.iter().map(line).collect();
    for fixed in &examination.fixed {
        let restart = if fixed.restart { "; takes effect when the server restarts" } else { "" };
        lines.push(format!(
            "{} set {} = {}{restart}",
            tinted("fixed", AnsiColor::Green),
            fixed.name,
            fixed.value
        ));
    }
    let code = if examination.worst() == Verdict::Wrong { Code::Problems } else { Code::Ok };
    Outcome::new(examination, lines.join("\n")).with_code(code)
}

/// The store's promises, and what it does by itself.
async fn examine_keeping(context: &Context, examination: &mut Examination) -> Result<(), Failure> {
    let store = context.probe_store()?;
    examine_store(&context.cx, &store, examination).await;
    let Some(custody) = context.custody(None)? else { return Ok(()) };
    let lock = context.settings.vault.lock.as_ref();
    examine_custody(&context.cx, &*custody, lock.map(|_| &store), examination).await;
    if let Some(lock) = lock {
        let rebase = context.settings.backup.rebase_days as u32;
        examine_lock((lock.days(), rebase), &context.retentions(None)?, examination);
    }
    Ok(())
}

/// The `[[also]]` vaults: whether each opens, and whether it holds points as well or only WAL.
async fn examine_further(context: &Context, vault: Option<&Arc<Vault>>, examination: &mut Examination) {
    if let Err(failure) = context.check_places() {
        note(examination, "copies", failure);
    }
    for settings in &context.settings.further {
        let name = called(settings);
        let other = match context.further_vault(settings).await {
            Ok(other) => other,
            Err(failure) => {
                note(examination, &format!("vault {name}"), failure);
                continue;
            }
        };
        let place = other.place();
        let (verdict, found, mend) = match vault.map(|vault| other.check_replica(vault)) {
            None => (Verdict::Ok, format!("{place} opens"), None),
            Some(Ok(())) => {
                (Verdict::Ok, format!("{place} opens, and is a replica of the first vault"), None)
            }
            Some(Err(error @ VaultError::SamePlace { .. })) => (
                Verdict::Wrong,
                error.to_string(),
                Some("a second copy needs a second place: give it another url"),
            ),
            Some(Err(error)) => (
                Verdict::Warning,
                format!("{error}: it gets WAL and no recovery points"),
                Some("for a second copy of both: strongroom init --copy-of vault, at another place"),
            ),
        };
        examination.note(&format!("vault {name}"), verdict, found, mend);
    }
}

fn note(examination: &mut Examination, check: &str, failure: Failure) {
    let found = std::iter::once(failure.message).chain(failure.causes).collect::<Vec<_>>().join(": ");
    examination.note(check, Verdict::Wrong, found, failure.hint.as_deref());
}

fn line(finding: &Finding) -> String {
    let mark = match finding.verdict {
        Verdict::Ok => tinted("ok     ", AnsiColor::Green),
        Verdict::Warning => tinted("warning", AnsiColor::Yellow),
        Verdict::Wrong => tinted("wrong  ", AnsiColor::Red),
    };
    let mend = finding.mend.as_ref().filter(|_| finding.verdict != Verdict::Ok);
    let mend =
        mend.map(|mend| format!("\n          {}", mend.replace('\n', "\n          "))).unwrap_or_default();
    format!("{mark}  {}: {}{mend}", finding.check, finding.found)
}
