//! `strongroom restore`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstyle::AnsiColor;
use serde_json::json;
use strongroom_engine::{Engine, EngineError};
use strongroom_model::estimate::Estimate;
use strongroom_model::point::Summary;
use strongroom_model::restore_plan::{PlanError, RestorePlan};
use strongroom_model::target::{RecoveryTarget, RestoreRequest, TargetAction, TimelineChoice};
use strongroom_model::tier::ThawSpeed;
use strongroom_model::time::{TypedTime, human_duration};
use strongroom_model::{ByteSize, Lsn, PointId, SourceName, Timeline};
use strongroom_ops::OpsError;
use strongroom_ops::list::list;
use strongroom_ops::measure::{self, Took, replayed};
use strongroom_ops::restore::{
    LOST_PAGES, RestoreOptions, Restored, facts_of, major_of, open_point, plan, restore,
};
use strongroom_ops::thaw;
use strongroom_postgres::course::Course;
use strongroom_postgres::facts::PostgresFacts;
use strongroom_postgres::launch::{Launched, launch};
use strongroom_postgres::recovery::{Archiving, RecoveringFolder, Role, settings, shell_word};
use strongroom_postgres::target::survey::Survey;
use strongroom_store::folder::free_bytes;
use strongroom_vault::{Vault, VaultError};

use crate::cli::thaw::describe as describe_thaw;
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::losses::lost_pages;
use crate::output::{Outcome, tinted};
use crate::progress::ProgressLine;
use crate::recovering::Serving;
use crate::settings::parse_rate;
use crate::surroundings::hand;
use loading::LoadingArguments;
use placing::{Placed, Placing};

pub mod loading;
pub mod placing;
mod estimate;

/// Restore a cluster into an empty folder, or over a copy of it, to any moment the vault can prove
#[derive(clap::Args)]
#[command(after_help = "\
The plan is printed first; nothing is touched before you say yes (or --yes). The folder must be empty or absent.
With --delta it may hold a copy of the same cluster, whatever its age and state, with no server running in it.
A time without a zone is read in the server's time zone and shown in UTC.

Examples:
  strongroom restore orders --to /var/lib/postgresql/restored
  strongroom restore orders --at '2026-11-20 12:00:00+00' --to /srv/pg --yes
  strongroom restore orders --name before_migration --to /srv/pg
  strongroom restore orders --at '2026-11-20 12:00:00+00' --to /srv/pg --start --port 5433 --no-archiving
  strongroom restore orders --to /var/lib/postgresql/15/main --delta --dry-run --output json
  strongroom restore orders --to /srv/pg --db sales --db stock --rate-limit 100MiB/s
  strongroom restore orders --to /srv/pg --pg-wal-dir /fast/wal --link-map log=/var/log/pg
  strongroom restore orders --to /srv/pg --standby --primary 'host=db1 user=replicator'
  strongroom restore orders --to /srv/pg --tablespace-map fast=/srv/fast --dry-run

A dump restores into a database: everything into a new or an empty one, or a schema or tables into one that is there.
Nothing is dropped. Every row is read back and compared with what was dumped before anything gets its name.

Examples:
  strongroom restore shop --to-database shop_again
  strongroom restore shop --at '2026-11-20 12:00:00+00' --table public.orders=public.orders_then
  strongroom restore shop --table public.orders --data-only --target 'host=db2 dbname=shop' --yes")]
pub struct Arguments {
    /// The source; may be left out if there is only one
    source: Option<SourceName>,
    /// The folder to restore a server's files into
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present_any = ["to_database", "into_database", "schema", "table"],
        conflicts_with_all = ["to_database", "into_database", "schema", "table"]
    )]
    to: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// Stop just before the target instead of just after it
    #[arg(long)]
    exclusive: bool,
    /// latest, current (the point's own) or a number
    #[arg(long, value_name = "TIMELINE", default_value = "latest", value_parser = timeline)]
    timeline: TimelineChoice,
    /// Start from this recovery point
    #[arg(long, value_name = "POINT")]
    point: Option<PointId>,
    #[command(flatten)]
    placing: Placing,
    #[command(flatten)]
    loading: LoadingArguments,
    /// When the target is reached: pause, promote or shutdown
    #[arg(long, value_name = "ACTION", default_value = "promote", value_parser = action)]
    target_action: TargetAction,
    /// Switch archiving off in the restored cluster: for a copy to look at
    #[arg(long)]
    no_archiving: bool,
    /// Threads that fetch, check and write; twice [backup] workers if left out, for half of them wait for the disk
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Fetch no more than so many bytes a second: 100MiB/s
    #[arg(long, value_name = "SIZE/s", value_parser = parse_rate)]
    rate_limit: Option<ByteSize>,
    /// Thaw what is frozen first, and wait for it: hours
    #[arg(long)]
    thaw: bool,
    /// Make it a standby: it goes on replaying, from the vault and from the primary
    #[arg(long, conflicts_with_all = ["at", "lsn", "xid", "name", "immediate", "exclusive", "target_action", "start"])]
    standby: bool,
    /// Where the standby finds its primary: a libpq connection string
    #[arg(long, value_name = "CONNINFO", requires = "standby")]
    primary: Option<String>,
    /// Start the server and come back when recovery reached its target
    #[arg(long)]
    start: bool,
    /// The port it starts on; the one in its settings if left out
    #[arg(long, requires = "start")]
    port: Option<u16>,
    /// Go on without pages that no vault has whole: they become zeros, and are named
    #[arg(long)]
    accept_loss: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print the plan and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
#[group(multiple = false)]
struct Target {
    /// To this time: '2026-11-20 12:00:00+00'
    #[arg(long, value_name = "TIME")]
    at: Option<TypedTime>,
    /// To this WAL position: 16/B374D848
    #[arg(long)]
    lsn: Option<Lsn>,
    /// To this transaction
    #[arg(long)]
    xid: Option<u32>,
    /// To this named restore point
    #[arg(long)]
    name: Option<String>,
    /// To the recovery point itself, as soon as it is consistent
    #[arg(long)]
    immediate: bool,
    /// To the end of the journal (this is the default)
    #[arg(long)]
    latest: bool,
}

fn timeline(text: &str) -> Result<TimelineChoice, String> {
    match text {
        "latest" => Ok(TimelineChoice::Latest),
        "current" => Ok(TimelineChoice::Current),
        number => number.parse::<Timeline>().map(TimelineChoice::Id).map_err(|error| error.to_string()),
    }
}

fn action(text: &str) -> Result<TargetAction, String> {
    let known = [TargetAction::Pause, TargetAction::Promote, TargetAction::Shutdown];
    known
        .into_iter()
        .find(|action| action.as_str() == text)
        .ok_or_else(|| "choose pause, promote or shutdown".into())
}

/// A plan, and what of it is the folder's.
#[derive(serde::Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    plan: &'a RestorePlan,
    /// What restoring over the folder does to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a Survey>,
    /// Databases whose files are zeros.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<&'a String>,
    /// How long it will take; null if that is not known.
    estimate: Option<Estimate>,
}

pub async fn run(
    context: &Arc<Context>,
    arguments: &Arguments,
    progress: ProgressLine,
) -> Result<Outcome, Failure> {
    if arguments.start && arguments.target_action == TargetAction::Pause {
        let failure = Failure::new(Code::Usage, "a server that pauses at its target never comes to its end");
        return Err(failure.hint("leave out --start, or choose --target-action promote or shutdown"));
    }
    let source = context.source(arguments.source.as_ref())?;
    let Some(to) = arguments.to.as_deref() else {
        return loading::run(context, arguments, &source, progress).await;
    };
    arguments.loading.refuse()?;
    let vault = context.answering().await?;
    let request = request(context, &source, arguments).await?;
    let plan = match plan(&vault, &source, &request, arguments.point.as_ref()).await {
        Ok(plan) => plan,
        Err(OpsError::Plan(error)) => return Err(refusal(&vault, &source, error).await),
        Err(error) => return Err(error.into()),
    };
    let vaults: Vec<_> = [vec![vault.clone()], context.replicas_of(&vault).await].concat();
    let point = open_point(&vaults, &plan.point).await?;
    let frozen = Frozen::of(arguments.dry_run, arguments.thaw);
    thawed(context, &vault, &plan.point, frozen).await?;
    let facts = facts_of(&point)?;
    let placed = arguments.placing.place(to, &plan, (point, &facts)).await?;
    let (hand, compared) = (hand(), placed.survey.is_some());
    let estimate = measure::expected(&vault, &plan, &hand.host, compared).await;
    let mut text = describe(&plan, &placed, (&facts, estimate.as_ref(), to), arguments);
    text.push_str(&notes(context, &vault));
    if arguments.dry_run {
        return Ok(Outcome::new(&shown(&plan, &placed, estimate), text));
    }
    context.printer.note(&text);
    agree(context, arguments)?;
    let planned = serde_json::to_value(shown(&plan, &placed, estimate))
        .map_err(|error| Failure::new(Code::Bug, format!("a plan is not JSON: {error}")))?;
    let selection = placed.selection.clone();
    let folder = placed.take(to)?;
    let restore_command = context.command(&["wal", "fetch"], &source, "%f \"%p\"")?;
    let archiving = if arguments.no_archiving { Archiving::Off } else { Archiving::Keep };
    let role = match arguments.standby {
        true => Role::Standby(arguments.primary.as_deref()),
        false => Role::Alone,
    };
    let lines = settings(&plan, &restore_command, role, archiving);
    let target = Arc::new(RecoveringFolder::new(folder, role, lines));
    let workers = arguments.workers.unwrap_or(2 * context.settings.backup.workers).max(1);
    let rate_limit = arguments.rate_limit.map(|rate| rate.0);
    let options = RestoreOptions { workers, accept_loss: arguments.accept_loss, selection, rate_limit };
    let began_at = context.cx.now();
    let restored = restore(&context.cx, &vaults, &plan, target.clone(), options).await;
    let restored = restored.map_err(of_loss)?;
    let mut text = tell(&restored, &vault.place(), (&source, to), (&target.notes(), &facts));
    let launched = launched(context, (arguments, to), (&facts, &plan), (&mut text, restored.seconds)).await;
    let replay = launched.as_ref().ok().and_then(|launched| replayed(&plan, &launched.as_ref()?.0));
    let took = Took { restored: &restored, compared, held_up: rate_limit.is_some(), replay };
    let measured = measure::keep(&context.cx, &vault, &plan, took, (&hand, began_at)).await;
    let (launched, wal) = launched?.unzip();
    drop(progress);
    let code = if restored.lost.is_empty() { Code::Ok } else { Code::Problems };
    let rto = launched.as_ref().map(|launched| restored.seconds + launched.seconds);
    let notes = target.notes();
    let json = json!({
        "plan": planned, "restored": restored, "notes": notes, "launched": launched, "wal": wal, "rto_seconds": rto,
        "measured": measured,
    });
    Ok(Outcome::new(&json, text).with_code(code))
}

/// What no vault has whole need not keep the rest from being restored.
fn of_loss(error: OpsError) -> Failure {
    match error {
        OpsError::Vault(error @ (VaultError::Damaged { .. } | VaultError::Missing { .. })) => {
            Failure::from(error).hint(
                "put it back with `strongroom verify --data --repair-from REPLICA`, or restore an older point (--point); \
                 --accept-loss restores everything else into a new folder and names the lost pages",
            )
        }
        other => of_target(other),
    }
}

/// The failure of a verb whose only engine is the folder it writes into: what that refuses is not the source's fault.
pub fn of_target(error: OpsError) -> Failure {
    match error {
        OpsError::Engine(error) if !matches!(error, EngineError::Cancelled(_)) => {
            Failure { kind: Code::Target, ..Failure::from(error) }
        }
        other => other.into(),
    }
}

/// Starts the restored server, if that was asked for. Also what its recovery had of this process.
async fn launched(
    context: &Arc<Context>,
    (arguments, to): (&Arguments, &Path),
    (facts, plan): (&PostgresFacts, &RestorePlan),
    (text, restored): (&mut String, f64),
) -> Result<Option<(Launched, serde_json::Value)>, Failure> {
    if !arguments.start {
        return Ok(None);
    }
    // Said before recovery, which may end otherwise than one hopes.
    context.printer.note(text);
    let major = major_of(&plan.point.point, facts)?;
    let (cx, folder, port) = (context.cx.clone(), to.to_owned(), arguments.port);
    let course = Course::of(plan);
    // Recovery's commands find this process, which has the vault open and the next segments at hand.
    let serving = Serving::begin(context);
    let environment = serving.environment();
    let options = port.map(|port| format!("-p {port}")).unwrap_or_default();
    let server = move || launch(&cx, &folder, (major, &options), &course, &environment);
    let launched = tokio::task::spawn_blocking(server).await;
    let wal = serving.end().await?;
    let launched = launched.map_err(|why| Failure::new(Code::Bug, why.to_string()))??;
    *text = describe_launch(&launched, restored, to);
    Ok(Some((launched, wal)))
}

fn describe_launch(launched: &Launched, restored: f64, to: &Path) -> String {
    let seconds = |seconds: f64| human_duration(std::time::Duration::from_secs_f64(seconds));
    let state = match (launched.running, &launched.ended) {
        (true, Some(ended)) => format!("it is in production, where recovery ended: {ended}"),
        (true, None) => "it is in production".to_owned(),
        (false, _) => "the target was reached, and it was shut down as asked".to_owned(),
    };
    format!(
        "recovered in {}: {state}, on timeline {} (checkpoint {})\nrecovery time in all (RTO): {} (restore {}, replay {})\nstop it: pg_ctl -D {} stop",
        seconds(launched.seconds),
        launched.timeline,
        launched.checkpoint,
        seconds(restored + launched.seconds),
        seconds(restored),
        seconds(launched.seconds),
        shell_word(&to.to_string_lossy()),
    )
}

/// What becomes of a point that is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// It is refused.
    Refuse,
    /// It is thawed, and waited for.
    Thaw,
    /// What thawing takes is shown.
    Show,
}

impl Frozen {
    /// From the flags `--dry-run` and `--thaw`.
    pub fn of(dry_run: bool, thaw: bool) -> Frozen {
        match (dry_run, thaw) {
            (true, _) => Frozen::Show,
            (false, true) => Frozen::Thaw,
            (false, false) => Frozen::Refuse,
        }
    }
}

/// What is frozen is thawed before anything is written: a restore that waits for half a day at every pack is none.
pub async fn thawed(
    context: &Context,
    vault: &Arc<Vault>,
    point: &Summary,
    frozen: Frozen,
) -> Result<(), Failure> {
    if !context.settings.vault.lifecycle.freezes() {
        return Ok(());
    }
    let Some(custody) = context.custody_of(vault)? else { return Ok(()) };
    let of = (&point.source, &point.point);
    let needed = match thaw::plan(&context.cx, vault, &*custody, of, ThawSpeed::Standard).await {
        Ok(needed) => needed,
        // A lost object may be had from a replica, or be done without.
        Err(error) => {
            tracing::warn!("whether {} is frozen is not known: {error}", point.point);
            return Ok(());
        }
    };
    if needed.is_thawed() {
        return Ok(());
    }
    let what = describe_thaw(&needed);
    match frozen {
        Frozen::Refuse => {
            let hint = format!("strongroom thaw {} --wait, then once more; --thaw does both", point.point);
            Err(Failure::new(Code::NoRestore, what).hint(hint))
        }
        Frozen::Show => {
            context.printer.note(&what);
            Ok(())
        }
        Frozen::Thaw => {
            context.printer.note(&what);
            thaw::thaw(&context.cx, &*custody, &needed, (THAWED_DAYS, ThawSpeed::Standard)).await?;
            Ok(thaw::wait(&context.cx, vault, &*custody, of).await?)
        }
    }
}

/// Days for which a restore keeps what it thaws.
const THAWED_DAYS: u32 = 7;

/// The report of a restore.
fn tell(
    restored: &Restored,
    place: &str,
    (source, to): (&SourceName, &Path),
    (notes, facts): (&[String], &PostgresFacts),
) -> String {
    let rate = ByteSize((restored.bytes as f64 / restored.seconds.max(0.001)) as u64);
    let mut text = format!(
        "restored {} of {} to {}\n{} in {} entries in {} ({rate}/s), durable\nstart it: pg_ctl -D {} start",
        restored.point,
        source,
        to.display(),
        ByteSize(restored.bytes),
        restored.entries,
        human_duration(std::time::Duration::from_secs_f64(restored.seconds)),
        shell_word(&to.to_string_lossy()),
    );
    if restored.unchanged > 0 {
        let (right, fetched) = (ByteSize(restored.unchanged), ByteSize(restored.fetched));
        text.push_str(&format!("\n{right} were there already, as they should be; {fetched} were fetched"));
    }
    if !restored.left_out.is_empty() {
        text.push_str(&format!(
            "\nleft out: {} (files of zeros: DROP DATABASE each, once the server runs)",
            restored.left_out.join(", ")
        ));
    }
    for (replica, packs) in &restored.from_replicas {
        text.push_str(&format!(
            "\nwarning: {packs} packs are missing, damaged or out of reach in {place} and came from {replica}: strongroom verify --repair-from"
        ));
    }
    notes.iter().for_each(|note| text.push_str(&format!("\nnote: {note}")));
    if !restored.lost.is_empty() {
        text.push_str(&format!(
            "\n{}: these pages are in no vault and are zeros now ({LOST_PAGES} in the folder names them):",
            tinted("not whole", AnsiColor::Red)
        ));
    }
    lost_pages(&restored.lost, Some(facts)).iter().for_each(|line| text.push_str(&format!("\n{line}")));
    text
}

/// What recovery will depend on.
fn notes(context: &Context, vault: &Vault) -> String {
    let mut text = String::new();
    if context.key_is_in_environment() {
        text.push_str("\n  note       the vault's key is in this environment only: recovery needs STRONGROOM_PASSPHRASE in the server's, or a file");
    }
    if context.store().is_ok_and(|main| main.place() != vault.place()) {
        text.push_str(&format!(
            "\n  note       this reads {}. Recovery will stop at the end of its WAL as long as the first vault cannot say that there is no more: if that is gone for good, take it out of the settings file",
            vault.place()
        ));
    }
    text
}

/// The request, with a zoneless time read in the server's zone if it can be asked, else refused.
async fn request(
    context: &Context,
    source: &SourceName,
    arguments: &Arguments,
) -> Result<RestoreRequest, Failure> {
    Ok(RestoreRequest {
        target: target_of(context, source, arguments).await?,
        inclusive: !arguments.exclusive,
        timeline: arguments.timeline,
        action: arguments.target_action,
    })
}

/// What to restore to. A time without a zone is the server's.
async fn target_of(
    context: &Context,
    source: &SourceName,
    arguments: &Arguments,
) -> Result<RecoveryTarget, Failure> {
    Ok(match &arguments.target {
        Target { at: Some(TypedTime::Zoned(time)), .. } => RecoveryTarget::Time(*time),
        Target { at: Some(local), .. } if context.dump_engine(source)?.is_some() => {
            let what = format!("read {} without a zone: a dump is not asked for one", show(local));
            return Err(Failure::new(Code::Usage, what).hint("add an offset, such as +00"));
        }
        Target { at: Some(local), .. } => {
            let engine = context.engine(source)?;
            let inspection = engine.inspect(&context.cx).await.map_err(|error| {
                let failure =
                    Failure::new(Code::Usage, format!("read {} without a zone: {error}", show(local)));
                failure.hint("the server is not there to say what zone is meant: add an offset, such as +00")
            })?;
            let time = local
                .in_zone(&inspection.time_zone)
                .map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
            context.printer.note(&format!(
                "{} in the server's zone {} is {time}",
                show(local),
                inspection.time_zone
            ));
            RecoveryTarget::Time(time)
        }
        Target { lsn: Some(lsn), .. } => RecoveryTarget::Lsn(*lsn),
        Target { xid: Some(xid), .. } => RecoveryTarget::Xid(*xid),
        Target { name: Some(name), .. } => RecoveryTarget::Name(name.clone()),
        Target { immediate: true, .. } => RecoveryTarget::Immediate,
        _ => RecoveryTarget::Latest,
    })
}

fn show(time: &TypedTime) -> String {
    match time {
        TypedTime::Zoned(time) => time.to_string(),
        TypedTime::Local(civil) => civil.to_string().replace('T', " "),
    }
}

/// A refusal that shows what could be restored instead.
pub async fn refusal(vault: &Vault, source: &SourceName, error: PlanError) -> Failure {
    let mut failure = Failure::from(error);
    if let Ok(listings) = list(vault, Some(source)).await {
        for window in listings.iter().flat_map(|listing| &listing.windows) {
            let to = window
                .to
                .map_or_else(|| window.to_lsn.to_string(), |time| format!("{time} ({})", window.to_lsn));
            failure.causes.push(format!(
                "{} restores from {} ({}) to {to} on timeline {}",
                window.point, window.from, window.from_lsn, window.timeline
            ));
        }
    }
    failure
}

fn shown<'a>(plan: &'a RestorePlan, placed: &'a Placed, estimate: Option<Estimate>) -> Shown<'a> {
    let left_out = placed.selection.left_out().values().collect();
    Shown { plan, delta: placed.survey.as_ref(), left_out, estimate }
}

fn describe(
    plan: &RestorePlan,
    placed: &Placed,
    (facts, estimate, to): (&PostgresFacts, Option<&Estimate>, &Path),
    arguments: &Arguments,
) -> String {
    let point = &plan.point;
    let (first, _) = plan.range.segments();
    let last = plan.reach.last.map_or_else(|| "-".into(), |last| last.to_string());
    let how = if plan.request.inclusive { "including it" } else { "just before it" };
    let mut lines = vec![
        format!("restore {} ({}) to {}", point.source, point.product, to.display()),
        match arguments.standby {
            true => "  target     a standby, which goes on replaying".to_owned(),
            false => {
                format!("  target     {}, {how}, then {}", plan.request.target, plan.request.action.as_str())
            }
        },
        format!("  from       {} (consistent at {}, {})", point.point, point.stopped_at, plan.range.stop),
        format!("  pages      {} in {} entries", ByteSize(point.bytes), point.entries),
        format!("  WAL        {first} to {last} on timeline {}", plan.timeline),
    ];
    let there = placed.survey.as_ref().map_or(0, |survey| survey.compared_bytes);
    lines.extend(room(point.bytes.saturating_sub(there), to));
    lines.extend(placed.describe(facts));
    let mut expected = estimate::describe(estimate);
    if arguments.rate_limit.is_some() {
        expected.push_str("; --rate-limit may make it longer");
    }
    lines.push(expected);
    lines.push(match arguments.no_archiving {
        true => "  archiving  off in the restored cluster".into(),
        false => "  archiving  as it was (--no-archiving switches it off)".into(),
    });
    lines.extend(plan.notes.iter().map(|note| format!("  note       {note}")));
    lines.join("\n")
}

/// Whether it fits, as far as can be told: all-zero pages take no room, and WAL takes more.
pub fn room(needed: u64, to: &Path) -> Option<String> {
    let free = free_bytes(to).ok()?;
    let fits = match free < needed {
        true => tinted("too little unless much of it is zeros", AnsiColor::Yellow),
        false => "enough for the pages".to_owned(),
    };
    Some(format!("  room       {} free: {fits}", ByteSize(free)))
}

fn agree(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.yes {
        return Ok(());
    }
    match context.printer.confirm("Go ahead?") {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(Code::Cancelled, "nothing was restored")),
        None => Err(Failure::new(Code::Usage, "nobody is there to say yes")
            .hint("add --yes to go ahead, or --dry-run to see the plan")),
    }
}
