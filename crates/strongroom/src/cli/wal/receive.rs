//! `strongroom wal receive`

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use strongroom_model::{ByteSize, Lsn, SourceName};
use strongroom_ops::wal_receive::{
    Event, ReceiveRequest, Received, Rhythm, drop_slot, has_slot, wal_receive,
};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::sender::SlotName;
use strongroom_vault::Vault;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Format, Outcome};
use crate::settings::parse_duration;

/// How long receiving goes on without a vault that could not be opened, before all are tried again.
const WITHOUT_ONE: Duration = Duration::from_secs(60);

/// Receive WAL as the server writes it: what a disaster may cost is seconds, not a segment
#[derive(clap::Args)]
#[command(after_help = "\
Runs until it is stopped (Ctrl-C or SIGTERM), and connects again when the server was away. Whole segments are stored as by
`wal push`, which may run beside it; what is new of the open one is stored as a part, every second. The server is told that
WAL is durable once every vault has it: named in synchronous_standby_names, `strongroom` makes commits wait for that.

The slot makes the server keep WAL while this does not run, until its disk is full: remove it with --drop-slot when you stop
receiving for good, or bound it with max_slot_wal_keep_size.

Exit codes: 0 when stopped; 4 if the server no longer had some of the WAL: take a new recovery point then.

Examples:
  strongroom wal receive orders
  strongroom wal receive orders --interval 0s            (as a synchronous standby: nothing waits for more)
  strongroom wal receive orders --drop-slot")]
pub struct Arguments {
    /// The source; may be left out if there is only one
    source: Option<SourceName>,
    /// The replication slot, made if there is none [default: strongroom_SOURCE]
    #[arg(long, value_name = "NAME")]
    slot: Option<SlotName>,
    /// Without a slot: the server keeps WAL as it pleases
    #[arg(long, conflicts_with = "slot")]
    no_slot: bool,
    /// What synchronous_standby_names calls it [default: the connection's application_name, else strongroom]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long what is new may wait for more before it is stored
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// So much does not wait
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    part_size: ByteSize,
    /// Stop when everything before this position is in every vault
    #[arg(long, value_name = "LSN")]
    until: Option<Lsn>,
    /// Remove the slot, and receive nothing
    #[arg(long, conflicts_with_all = ["no_slot", "until"])]
    drop_slot: bool,
    /// Only say whether --drop-slot would remove anything
    #[arg(long, requires = "drop_slot")]
    dry_run: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let source = context.source_with_wal(arguments.source.as_ref())?;
    context.check_places()?;
    let mut server = context.engine(&source)?.conninfo().clone();
    if let Some(name) = &arguments.name {
        server.application_name.clone_from(name);
    }
    let slot = arguments.slot.clone().unwrap_or_else(|| SlotName::of_source(&source));
    if arguments.drop_slot {
        return remove(&server, &slot, arguments.dry_run).await;
    }
    let mut request = ReceiveRequest {
        source,
        slot: (!arguments.no_slot).then_some(slot),
        rhythm: Rhythm { interval: arguments.interval, part_size: arguments.part_size.0 },
        until: arguments.until,
        has_begun: false,
        incomplete: None,
    };
    let mut total = Received::default();
    let mut opened = open(context).await?;
    loop {
        let (vaults, is_complete) = &opened;
        request.incomplete = (!*is_complete).then_some(WITHOUT_ONE);
        let tell = |event: &Event| tell(context, event);
        let received = wal_receive(&context.cx, &server, vaults, &request, &tell).await?;
        total.add(&received);
        if !received.again {
            break;
        }
        request.has_begun = true;
        match open(context).await {
            Ok(vaults) => opened = vaults,
            // None at all: those that opened before are tried until one is back.
            Err(failure) => tracing::warn!("{}", failure.on_one_line()),
        }
    }
    let code = if total.gaps > 0 { Code::Problems } else { Code::Ok };
    let mut json = json!({ "event": "stopped" });
    if let (Some(json), Ok(serde_json::Value::Object(facts))) =
        (json.as_object_mut(), serde_json::to_value(&total))
    {
        json.extend(facts);
    }
    Ok(Outcome::new(&json, summary(&total)).with_code(code).on_one_line())
}

async fn remove(server: &Conninfo, slot: &SlotName, is_dry: bool) -> Result<Outcome, Failure> {
    let (found, verb) = match is_dry {
        true => (has_slot(server, slot).await?, "would be"),
        false => (drop_slot(server, slot).await?, "is"),
    };
    let text = match found {
        true => format!("replication slot {slot} {verb} removed; the server keeps nothing for it then"),
        false => format!("there is no replication slot {slot}"),
    };
    Ok(Outcome::new(&json!({ "slot": slot, "dropped": found && !is_dry, "found": found }), text))
}

/// Every vault that opens, and whether that is all of them.
async fn open(context: &Context) -> Result<(Vec<Arc<Vault>>, bool), Failure> {
    let (mut vaults, mut failed) = (Vec::new(), Vec::new());
    for vault in context.journal_vaults().await {
        match vault {
            Ok(vault) => vaults.push(vault),
            Err(failure) => failed.push(failure),
        }
    }
    if vaults.is_empty()
        && let Some(failure) = failed.pop()
    {
        return Err(failure);
    }
    for failure in &failed {
        tracing::warn!(
            "receiving without this vault, and telling the server that nothing is durable: {}",
            failure.on_one_line()
        );
    }
    Ok((vaults, failed.is_empty()))
}

fn summary(total: &Received) -> String {
    let at = |lsn: Option<Lsn>| lsn.map_or_else(|| "nowhere".to_owned(), |lsn| lsn.to_string());
    let mut text = format!(
        "received up to {}, in every vault up to {}; shipped {} segments and {} parts",
        at(total.received),
        at(total.durable),
        total.segments,
        total.parts
    );
    if total.gaps > 0 {
        text.push_str("\nWAL is missing: take a new recovery point with `strongroom backup`");
    }
    text
}

/// Scripts get a line for every event, people a word about those that matter to them.
fn tell(context: &Context, event: &Event) {
    if context.printer.format == Format::Json {
        context.printer.line(event);
    }
    match event {
        Event::Receiving { place, timeline, from } => {
            context.printer.note(&format!("receiving WAL from {place}, timeline {timeline}, from {from} on"));
        }
        Event::SlotMade { slot } => {
            context.printer.note(&format!("made replication slot {slot}: the server keeps WAL for it"));
        }
        Event::SlotLost { slot } => {
            tracing::warn!("the server had given up replication slot {slot}; it was made anew");
        }
        Event::Gap { from, to } => tracing::error!(
            "the server no longer has the WAL from {from} to {to}: unless wal push shipped it, no point before it can be \
             restored to anything after it; take a new recovery point: strongroom backup"
        ),
        Event::Timeline { ended, at, next } => {
            context.printer.note(&format!("timeline {ended} ended at {at}; timeline {next} follows"));
        }
        Event::Disconnected { why } => tracing::warn!("no connection, trying again: {why}"),
        Event::VaultDown { vault, why } => {
            tracing::warn!("{vault} takes nothing, trying again: {why}");
        }
        Event::VaultBack { vault } => tracing::warn!("{vault} takes WAL again"),
        Event::CatchingUp => {
            context.printer.note("a vault has fallen behind: the server sends it what it lacks once more");
        }
    }
}
