//! The command line: one file per verb. Doc comments are the help text.

use std::sync::Arc;

use clap::{ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use strongroom_model::Cx;

use crate::Caller;
use crate::agent::leash;
use crate::context::{Context, Global};
use crate::diagnostics;
use crate::failure::{Code, Failure};
use crate::output::{Color, Format, Outcome, Printer};
use crate::progress::{ProgressLine, Show};
use crate::recording::Recording;
use crate::settings::Settings;
use crate::surroundings;

mod init;
mod backup;
mod wal;
mod run;
mod jobs;
mod alert;
mod access;
mod list;
mod show;
mod copy;
mod thaw;
mod restore;
mod export;
mod import;
mod verify;
mod drill;
mod status;
mod report;
mod checklist;
mod key;
mod hold;
mod expire;
mod dump;
mod sweep;
mod lifecycle;
mod audit;
mod generate;
mod doctor;
mod plan;
mod completions;

/// Keeps databases recoverable: backups, journal shipping, restore to any second
#[derive(Parser)]
#[command(name = "strongroom", version, max_term_width = 110, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Examples:
  strongroom init --vault /var/backups/vault --generate-identity /etc/strongroom/identity.txt
  strongroom doctor orders --fix
  strongroom backup orders
  strongroom list
  strongroom restore orders --at '2026-11-20 12:00:00+00' --to /var/lib/postgresql/restored

Settings come from flags, then the environment, then strongroom.toml (in the working directory, in
~/.config/strongroom or in /etc/strongroom). Diagnostics go to standard error; STRONGROOM_LOG or LOG_LEVEL set their level.
Exit codes are in docs/exit-codes.md.";

#[derive(Subcommand)]
enum Verb {
    Init(init::Arguments),
    Backup(backup::Arguments),
    Dump(dump::Arguments),
    #[command(subcommand)]
    Wal(wal::Verb),
    Run(run::Arguments),
    #[command(subcommand)]
    Jobs(jobs::Verb),
    #[command(subcommand)]
    Alert(alert::Verb),
    #[command(subcommand)]
    Access(access::Verb),
    List(list::Arguments),
    Show(show::Arguments),
    Status(status::Arguments),
    Copy(copy::Arguments),
    Restore(Box<restore::Arguments>),
    Export(export::Arguments),
    Import(import::Arguments),
    Verify(verify::Arguments),
    Drill(drill::Arguments),
    #[command(subcommand)]
    Report(report::Verb),
    #[command(subcommand)]
    Checklist(checklist::Verb),
    #[command(subcommand)]
    Key(key::Verb),
    #[command(subcommand)]
    Hold(hold::Verb),
    Expire(expire::Arguments),
    Sweep(sweep::Arguments),
    Thaw(thaw::Arguments),
    Lifecycle(lifecycle::Arguments),
    #[command(subcommand)]
    Audit(audit::Verb),
    #[command(subcommand)]
    Generate(generate::Verb),
    Doctor(doctor::Arguments),
    #[command(subcommand)]
    Plan(plan::Verb),
    Completions(completions::Arguments),
}

/// Runs the command line of this process and gives its exit code.
pub fn run() -> Code {
    let parsed = command().try_get_matches().and_then(|matches| {
        let arguments = Arguments::from_arg_matches(&matches);
        Ok((arguments.map_err(|error| error.format(&mut command()))?, matches))
    });
    let (arguments, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refused(&error),
    };
    let printer = Printer { format: arguments.global.output, color: arguments.global.color };
    let Global { quiet, verbose, color, .. } = arguments.global;
    diagnostics::begin(quiet, verbose, color == Color::Always);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return printer.failure(&Failure::new(Code::Failed, format!("start threads: {error}"))),
    };
    let result = runtime.block_on(dispatch(arguments, &matches, printer));
    // A fetch or put that nobody waits for any more must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(outcome) => printer.outcome(&outcome),
        Err(failure) => printer.failure(&failure),
    }
}

/// The command line as clap knows it.
pub fn command() -> Command {
    Arguments::command()
}

/// The surroundings of a command line without settings.
#[cfg(test)]
pub fn bare(matches: &ArgMatches) -> Context {
    let Ok(Arguments { global, .. }) = Arguments::from_arg_matches(matches) else {
        unreachable!("clap took these words")
    };
    let printer = Printer { format: global.output, color: global.color };
    Context::new(surroundings::real(), global, Settings::default(), printer)
}

/// What clap would not take. Help and version come this way, too, and are no failures.
fn refused(error: &clap::Error) -> Code {
    let words = crate::arguments();
    let json = words.iter().any(|word| word == "--output=json")
        || words.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json");
    match (error.use_stderr(), json) {
        (true, true) => {
            let printer = Printer { format: Format::Json, color: Color::Never };
            printer.failure(&Failure::of_usage(&error.to_string()))
        }
        (stderr, _) => {
            let _ = error.print();
            if stderr { Code::Usage } else { Code::Ok }
        }
    }
}

/// The words of a command line that are neither options nor options' values; also of a line that clap refuses.
pub fn words(arguments: &[String]) -> Vec<&str> {
    let tree = Arguments::command();
    let (mut words, mut value_follows) = (Vec::new(), false);
    for word in arguments.iter().skip(1) {
        if std::mem::take(&mut value_follows) {
            continue;
        }
        match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(long), _) => value_follows = takes_value(&tree, &|option| option.get_long() == Some(long)),
            // `-vc FILE`, but `-cFILE` holds its own.
            (None, Some(cluster)) => {
                let of = |letter| takes_value(&tree, &|option| option.get_short() == Some(letter));
                value_follows = cluster.chars().position(of) == cluster.chars().count().checked_sub(1);
            }
            (None, None) => words.push(word.as_str()),
        }
    }
    words
}

/// Whether an option anywhere in the tree is followed by its value.
fn takes_value(tree: &Command, is_it: &dyn Fn(&clap::Arg) -> bool) -> bool {
    let sets = |option: &clap::Arg| matches!(option.get_action(), ArgAction::Set | ArgAction::Append);
    tree.get_arguments().any(|option| is_it(option) && sets(option))
        || tree.get_subcommands().any(|verb| takes_value(verb, is_it))
}

async fn dispatch(arguments: Arguments, matches: &ArgMatches, printer: Printer) -> Result<Outcome, Failure> {
    let Arguments { global, verb } = arguments;
    if let Verb::Completions(arguments) = verb {
        return Ok(completions::run(&arguments));
    }
    let cx = surroundings::real();
    // Before anything that could take time: recovery takes a death by SIGTERM for a clean shutdown.
    stop_on_signal(cx.clone(), printer);
    leash::end_with_agent(&cx);
    let settings = match &verb {
        // It takes everything from flags and the environment.
        Verb::Dump(_) => Settings::default(),
        Verb::Audit(verb) if verb.is_offline() => Settings::default(),
        _ => Settings::load(global.config.as_deref())?,
    };
    let quiet = global.quiet || global.no_progress || global.output == Format::Json;
    let line = ProgressLine::start(&cx, if quiet { Show::Nothing } else { Show::Usual });
    let context = Arc::new(Context::new(cx, global, settings, printer));
    let mut recording = Recording::of(&context, matches);
    if let Some(recording) = &mut recording {
        recording.begin(&context).await?;
    }
    let result = carry_out(&context, verb, line).await;
    // What was stopped on request says so, whatever it stumbled over on the way out.
    let result = match (result, context.cx.check()) {
        (Err(failure), Err(cancelled)) if failure.kind != Code::Cancelled => {
            let causes = vec![failure.message];
            Err(Failure { causes, ..Failure::new(Code::Cancelled, cancelled.to_string()) })
        }
        (result, _) => result,
    };
    if let Some(recording) = recording {
        recording.end(&context, &result).await;
    }
    result
}

async fn carry_out(context: &Arc<Context>, verb: Verb, line: ProgressLine) -> Result<Outcome, Failure> {
    match verb {
        Verb::Init(arguments) => init::run(context, &arguments).await,
        Verb::Backup(arguments) => backup::run(context, &arguments).await,
        Verb::Dump(arguments) => dump::run(context, &arguments).await,
        Verb::Wal(verb) => wal::run(context, &verb).await,
        Verb::Run(_) => run::run(context).await,
        Verb::Jobs(verb) => jobs::run(context, &verb).await,
        Verb::Alert(verb) => alert::run(context, &verb).await,
        Verb::Access(verb) => access::run(context, &verb),
        Verb::List(arguments) => list::run(context, &arguments).await,
        Verb::Show(arguments) => show::run(context, &arguments).await,
        Verb::Status(arguments) => status::run(context, &arguments).await,
        Verb::Copy(arguments) => copy::run(context, &arguments).await,
        Verb::Restore(arguments) => restore::run(context, &arguments, line).await,
        Verb::Export(arguments) => export::run(context, &arguments).await,
        Verb::Import(arguments) => import::run(context, &arguments).await,
        Verb::Verify(arguments) => verify::run(context, &arguments).await,
        Verb::Drill(arguments) => drill::run(context, &arguments, line).await,
        Verb::Report(verb) => report::run(context, &verb).await,
        Verb::Checklist(verb) => checklist::run(context, &verb).await,
        Verb::Key(verb) => key::run(context, &verb).await,
        Verb::Hold(verb) => hold::run(context, &verb).await,
        Verb::Expire(arguments) => expire::run(context, &arguments).await,
        Verb::Sweep(arguments) => sweep::run(context, &arguments).await,
        Verb::Thaw(arguments) => thaw::run(context, &arguments).await,
        Verb::Lifecycle(arguments) => lifecycle::run(context, &arguments).await,
        Verb::Audit(verb) => audit::run(context, &verb).await,
        Verb::Generate(verb) => generate::run(context, &verb).await,
        Verb::Doctor(arguments) => doctor::run(context, &arguments).await,
        Verb::Plan(verb) => plan::run(context, &verb).await,
        Verb::Completions(arguments) => Ok(completions::run(&arguments)),
    }
}

/// The first Ctrl-C or SIGTERM asks the operation to stop at its next safe place; the second ends the process. For
/// PostgreSQL's two commands the first does: a server that shuts down signals once and waits.
fn stop_on_signal(cx: Cx, printer: Printer) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let at_once = Caller::of(&crate::arguments()).stops_at_once();
    tokio::spawn(async move {
        for asked in 0.. {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            if at_once || asked > 0 {
                #[allow(
                    clippy::disallowed_methods,
                    reason = "nothing to clean up: what is not committed is invisible"
                )]
                std::process::exit(i32::from(crate::exit_code(Code::Cancelled)));
            }
            cx.cancel();
            printer.note("stopping; once more to stop at once");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
