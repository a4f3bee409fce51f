//! `strongroom drill`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anstyle::AnsiColor;
use serde::Serialize;
use strongroom_engine::EngineError;
use strongroom_model::drill::{CheckOutcome, Choice, Drill, DrillOutcome, Phase};
use strongroom_model::target::RecoveryTarget;
use strongroom_model::time::{TypedTime, human_duration};
use strongroom_model::{ByteSize, PointId, SourceName, Timestamp};
use strongroom_ops::OpsError;
use strongroom_ops::drill::{DrillRequest, Drilled, drill};
use strongroom_postgres::launch::LaunchError;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table, tinted};
use crate::progress::ProgressLine;
use crate::recovering::Serving;
use crate::settings::{parse_duration, parse_rate};
use crate::surroundings::hand;

/// Where drills restore to if nothing is said: on disk, unlike much that is called /tmp.
const SCRATCH: &str = "/var/tmp";

/// Restore a source into a server of its own, check and time it, remove it, and keep signed evidence
#[derive(clap::Args)]
#[command(after_help = "\
Restores into a folder of its own, starts a server there that only a private socket leads to, and looks whether recovery reached
its target, whether the cluster is the one that was backed up, at every database, index and page, and at what [source.NAME.drill]
asks. The source is not contacted. Everything is removed at the end; what came of it is kept in the vault, signed.

Exits with 0 if everything held, 15 if a check failed, 16 if it only took longer than it may; and as restore does if nothing
could be restored.

Examples:
  strongroom drill orders
  strongroom drill orders --random --scratch /srv/drills
  strongroom drill orders --random-time --seed 4711 --output json
  strongroom drill orders --at '2026-11-20 12:00:00+00' --rto 30m
  strongroom drill shop --keep")]
pub struct Arguments {
    /// The source; may be left out if there is only one
    source: Option<SourceName>,
    #[command(flatten)]
    what: What,
    /// Draw by this number, as an earlier drill said, instead of by chance
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Restore within this folder [default: that of [drill], else /var/tmp]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// How long it may take until the data can be used [default: the objective of the source]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    rto: Option<Duration>,
    /// Threads that fetch, check and write; twice [backup] workers if left out, for half of them wait for the disk
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Fetch no more than so many bytes a second: 100MiB/s
    #[arg(long, value_name = "SIZE/s", value_parser = parse_rate)]
    rate_limit: Option<ByteSize>,
    /// Leave the server running, and say how to connect to it and how to remove it
    #[arg(long)]
    keep: bool,
}

#[derive(clap::Args)]
#[group(multiple = false)]
struct What {
    /// The newest state there is (this is the default)
    #[arg(long)]
    latest: bool,
    /// This recovery point, as soon as it is consistent
    #[arg(long, value_name = "POINT")]
    point: Option<PointId>,
    /// One of the recovery points that are kept, drawn by chance
    #[arg(long)]
    random: bool,
    /// The state at this time: '2026-11-20 12:00:00+00'
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,
    /// The state at a second drawn by chance, out of all that can be restored to
    #[arg(long)]
    random_time: bool,
}

/// Only the source could say what a time without a zone means, and it is not contacted.
fn instant(text: &str) -> Result<Timestamp, String> {
    match text.parse::<TypedTime>().map_err(|error| error.to_string())? {
        TypedTime::Zoned(time) => Ok(time),
        TypedTime::Local(_) => Err("the source is not asked for its zone: add an offset, such as +00".into()),
    }
}

pub async fn run(
    context: &Arc<Context>,
    arguments: &Arguments,
    progress: ProgressLine,
) -> Result<Outcome, Failure> {
    let source = context.source(arguments.source.as_ref())?;
    let request = request(context, arguments, &source)?;
    let vault = context.answering().await?;
    let vaults: Vec<_> = [vec![vault.clone()], context.replicas_of(&vault).await].concat();
    let serving = Serving::begin(context);
    let request = DrillRequest { environment: serving.environment(), ..request };
    let drilled = drill(&context.cx, &vaults, &request).await;
    serving.end().await?;
    drop(progress);
    Ok(tell(drilled?))
}

/// A drill as the settings have it, and the flags before them.
fn request(context: &Context, arguments: &Arguments, source: &SourceName) -> Result<DrillRequest, Failure> {
    let settings = context.settings.sources.get(source);
    let drill = settings.map(|settings| settings.drill.clone()).unwrap_or_default();
    let scratch = context.settings.drill.scratch.as_deref().map(|folder| context.beside_file(folder));
    let objective = context.settings.objectives_of(source).rto.map(|span| span.0);
    Ok(DrillRequest {
        source: source.clone(),
        choice: choice(context, arguments)?,
        scratch: arguments.scratch.clone().or(scratch).unwrap_or_else(|| SCRATCH.into()),
        workers: arguments.workers.unwrap_or(2 * context.settings.backup.workers).max(1),
        rate_limit: arguments.rate_limit.map(|rate| rate.0),
        superuser: drill.superuser.clone(),
        settings: drill.settings.clone(),
        assertions: drill.assertions(),
        rto: arguments.rto.or(objective),
        keep: arguments.keep,
        restore_command: context.command(&["wal", "fetch"], source, "%f \"%p\"")?,
        environment: Vec::new(),
        hand: hand(),
    })
}

fn choice(context: &Context, arguments: &Arguments) -> Result<Choice, Failure> {
    // Short enough for every reader of JSON to keep all of it.
    let seed = arguments.seed.unwrap_or_else(|| u64::from(u32::from_le_bytes(context.cx.random())));
    Ok(match &arguments.what {
        What { random: true, .. } => Choice::RandomPoint(seed),
        What { random_time: true, .. } => Choice::RandomTime(seed),
        _ if arguments.seed.is_some() => {
            let failure = Failure::new(Code::Usage, "--seed draws something, and nothing is to be drawn");
            return Err(failure.hint("add --random or --random-time"));
        }
        What { point: Some(point), .. } => Choice::Point(point.clone()),
        What { at: Some(time), .. } => Choice::Time(*time),
        _ => Choice::Latest,
    })
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    drilled: &'a Drilled,
    /// What ended it before its end.
    error: &'a Option<Failure>,
}

fn tell(mut drilled: Drilled) -> Outcome {
    let failure = drilled.error.take().map(of_drill);
    let drill = &drilled.drill;
    let code = match (&failure, drill.outcome) {
        (Some(failure), _) => failure.kind,
        (None, DrillOutcome::Passed) if drilled.evidence.is_none() => Code::Incomplete,
        (None, DrillOutcome::Passed) => Code::Ok,
        (None, _) if drill.is_only_slow() => Code::TooSlow,
        (None, _) => Code::Unproven,
    };
    let mut lines = vec![headline(drill)];
    lines.extend(drill.reached.iter().map(|reached| format!("  reached    {reached}")));
    lines.extend(drill.server.iter().map(|server| format!("  server     {server}")));
    lines.push(times(drill));
    lines.push(checks(drill));
    lines.extend(drilled.left_running.iter().map(|line| format!("left running; {line}")));
    lines.extend(
        drilled.removed.iter().map(|folder| format!("removed what a dead drill left: {}", folder.display())),
    );
    if let Some(failure) = &failure {
        lines.push(format!("{} {}", tinted("not done:", AnsiColor::Red), failure.on_one_line()));
        lines.extend(failure.hint.iter().map(|hint| format!("hint: {hint}")));
    }
    lines.push(match (&drilled.evidence, &drilled.not_kept) {
        (Some(id), _) => format!("evidence: {id}"),
        (None, why) => {
            let why = why.as_deref().unwrap_or_default();
            format!("{} {why}", tinted("no evidence was kept:", AnsiColor::Red))
        }
    });
    Outcome::new(&Answer { drilled: &drilled, error: &failure }, lines.join("\n")).with_code(code)
}

/// Why it came to no end. Its folder is gone: what is said of a restore's does not hold.
fn of_drill(error: OpsError) -> Failure {
    let is_recovery = matches!(
        error,
        OpsError::Launch(LaunchError::Ended { .. } | LaunchError::Astray { .. } | LaunchError::Io { .. })
    );
    let is_full = |source: &std::io::Error| source.kind() == std::io::ErrorKind::StorageFull;
    let is_full = matches!(&error, OpsError::Engine(EngineError::Io { source, .. }) if is_full(source));
    let failure = Failure::from(error);
    match (is_recovery, is_full) {
        (true, _) => failure.hint(
            "what the server said last is above: does it lack a library, a setting (settings of [source.NAME.drill]) or WAL?",
        ),
        (_, true) => Failure { kind: Code::Target, ..failure }
            .hint("name a folder on a larger disk: --scratch, or scratch of [drill] in strongroom.toml"),
        _ => failure,
    }
}

fn headline(drill: &Drill) -> String {
    let word = match drill.outcome {
        DrillOutcome::Passed => tinted("passed", AnsiColor::Green),
        DrillOutcome::Failed => tinted("failed", AnsiColor::Red),
        DrillOutcome::Interrupted => tinted("interrupted", AnsiColor::Yellow),
    };
    let by = match &drill.chosen {
        Choice::RandomPoint(seed) | Choice::RandomTime(seed) => format!(" (drawn by --seed {seed})"),
        _ => String::new(),
    };
    let to = match &drill.target {
        RecoveryTarget::Immediate => String::new(),
        target => format!(" to {target}"),
    };
    format!("drill of {}: {word}\n  restored   {}{to}{by}", drill.source, drill.point)
}

/// `RTO 1 min 12 s of 30 min 0 s: plan 6 ms, write 40.0 s (2.0 GiB, 51.2 MiB/s), …; besides: checks 20.0 s`
fn times(drill: &Drill) -> String {
    let human = |seconds: f64| human_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let rto = drill.rto_seconds.map_or_else(|| "not reached".to_owned(), human);
    let limit = drill.objective_seconds.map(|limit| format!(" of {}", human(limit))).unwrap_or_default();
    let phase = |phase: &Phase| {
        let rate = |bytes: u64| ByteSize((bytes as f64 / phase.seconds.max(0.001)) as u64);
        let bytes = phase.bytes.map(|bytes| format!(" ({}, {}/s)", ByteSize(bytes), rate(bytes)));
        format!("{} {}{}", phase.name, human(phase.seconds), bytes.unwrap_or_default())
    };
    let (waited, besides): (Vec<&Phase>, Vec<&Phase>) = drill.phases.iter().partition(|phase| phase.in_rto);
    let list = |phases: Vec<&Phase>| phases.into_iter().map(phase).collect::<Vec<_>>().join(", ");
    format!("  RTO        {rto}{limit}: {}; besides: {}", list(waited), list(besides))
}

fn checks(drill: &Drill) -> String {
    let rows: Vec<Vec<String>> = drill
        .checks
        .iter()
        .map(|check| {
            let word = match check.outcome {
                CheckOutcome::Passed => tinted("passed", AnsiColor::Green),
                CheckOutcome::Failed => tinted("failed", AnsiColor::Red),
                CheckOutcome::NotRun => tinted("not run", AnsiColor::Yellow),
            };
            vec![check.name.clone(), word, check.detail.clone()]
        })
        .collect();
    match rows.is_empty() {
        true => "  nothing could be checked".to_owned(),
        false => table(&["check", "outcome", "found"], &rows, &[]),
    }
}

/// A drill in a few words: `2 d 3 h ago: RTO 1 min 12 s`.
pub fn in_short(at: Timestamp, now: Timestamp, (outcome, rto): (DrillOutcome, Option<f64>)) -> String {
    let ago = human_duration(now.since(at));
    let time = rto.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).map(human_duration);
    match (outcome, time) {
        (DrillOutcome::Passed, Some(time)) => format!("{ago} ago: RTO {time}"),
        (DrillOutcome::Passed, None) => format!("{ago} ago"),
        (DrillOutcome::Failed, _) => format!("{ago} ago: {}", tinted("failed", AnsiColor::Red)),
        (DrillOutcome::Interrupted, _) => format!("{ago} ago: {}", tinted("interrupted", AnsiColor::Yellow)),
    }
}
