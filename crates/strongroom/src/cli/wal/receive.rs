//! `strongroom wal receive`

use std::time::Duration;

use serde_json::json;
use strongroom_model::{ByteSize, Lsn, SourceName};
use strongroom_ops::wal_receive::{Event, drop_slot, has_slot};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::sender::SlotName;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Format, Outcome};
use crate::receive::{Interrupted, Reception, receive, say, summary};
use crate::settings::{ReceiveSettings, parse_duration};

/// Receive WAL as the server writes it: what a disaster may cost is seconds, not a segment
#[derive(clap::Args)]
#[command(after_help = "\
Runs until it is stopped (Ctrl-C or SIGTERM), and connects again when the server was away. Whole segments are stored as by
`wal push`, which may run beside it; what is new of the open one is stored as a part, every second. The server is told that
WAL is durable once every vault has it: named in synchronous_standby_names, `strongroom` makes commits wait for that.

The slot makes the server keep WAL while this does not run, until its disk is full: remove it with --drop-slot when you stop
receiving for good, or bound it with max_slot_wal_keep_size.

The same can be said in strongroom.toml, in [source.NAME.receive]; flags win. `strongroom run` receives every source that
has this section: then nothing of this is needed by hand.

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
    /// How long what is new may wait for more before it is stored [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    interval: Option<Duration>,
    /// So much does not wait [default: 1MiB]
    #[arg(long, value_name = "SIZE")]
    part_size: Option<ByteSize>,
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
    let flags = ReceiveSettings {
        slot: arguments.slot.clone(),
        no_slot: arguments.no_slot,
        name: arguments.name.clone(),
        interval: arguments.interval,
        part_size: arguments.part_size,
        not_by_agent: false,
    };
    let mut reception = Reception::of(context, &source, &flags)?;
    if arguments.drop_slot {
        let slot = reception.request.slot.unwrap_or_else(|| SlotName::of_source(&source));
        return remove(&reception.server, &slot, arguments.dry_run).await;
    }
    reception.request.until = arguments.until;
    let tell = |event: &Event| tell(context, event);
    let (total, ended) = receive(context, &context.cx, &mut reception, &tell).await;
    ended.map_err(|Interrupted { failure, .. }| failure)?;
    let code = if total.gaps > 0 { Code::Problems } else { Code::Ok };
    let mut json = json!({ "event": "stopped" });
    if let (Some(json), Ok(serde_json::Value::Object(facts))) =
        (json.as_object_mut(), serde_json::to_value(total))
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

/// Scripts get a line for every event, people a word about those that matter to them.
fn tell(context: &Context, event: &Event) {
    if context.printer.format == Format::Json {
        context.printer.line(event);
    }
    say(&context.printer, None, event);
}
