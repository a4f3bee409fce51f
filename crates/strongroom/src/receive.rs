//! The server's WAL into every configured vault, as it is written: what `wal receive` and the agent's receivers come to.
//!
//! **Invariants**
//! - While a vault does not open, the server is told that nothing is durable; all are tried again a minute later.
//! - A vault that is gone for a while ends nothing once WAL came.

use std::sync::Arc;
use std::time::Duration;

use strongroom_engine::EngineError;
use strongroom_model::{ByteSize, Cx, Lsn, SourceName};
use strongroom_ops::OpsError;
use strongroom_ops::wal_receive::{Event, ReceiveRequest, Received, Rhythm, Tell, wal_receive};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::sender::SlotName;
use strongroom_store::StoreError;
use strongroom_vault::{Vault, VaultError};

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Printer;
use crate::settings::{RECEIVE_INTERVAL, ReceiveSettings};

/// How long receiving goes on without a vault that could not be opened, before all are tried again.
const WITHOUT_ONE: Duration = Duration::from_secs(60);

/// How much does not wait for more, unless somebody says otherwise.
const PART_SIZE: ByteSize = ByteSize(1 << 20);

/// Where WAL comes from, and how.
pub struct Reception {
    /// The server.
    pub server: Conninfo,
    /// What is wanted of it.
    pub request: ReceiveRequest,
}

impl Reception {
    /// As `flags` say, and as the settings do where they say nothing.
    pub fn of(context: &Context, source: &SourceName, flags: &ReceiveSettings) -> Result<Reception, Failure> {
        context.check_places()?;
        let mut server = context.engine(source)?.conninfo().clone();
        let of_file = context.settings.sources.get(source).and_then(|settings| settings.receive.as_ref());
        let ReceiveSettings { slot, no_slot, name, interval, part_size, .. } =
            flags.or(of_file.unwrap_or(&ReceiveSettings::default()));
        if let Some(name) = name {
            server.application_name = name;
        }
        if no_slot && slot.is_some() {
            let what = format!("source {source} is to be received with a slot and without one");
            return Err(Failure::new(Code::Settings, what).hint("say either slot or no_slot"));
        }
        let slot = slot.unwrap_or_else(|| SlotName::of_source(source));
        let rhythm = Rhythm {
            interval: interval.unwrap_or(RECEIVE_INTERVAL),
            part_size: part_size.unwrap_or(PART_SIZE).0,
        };
        let request = ReceiveRequest {
            source: source.clone(),
            slot: (!no_slot).then_some(slot),
            rhythm,
            until: None,
            has_begun: false,
            incomplete: None,
        };
        Ok(Reception { server, request })
    }
}

/// What ended receiving although nobody asked for it.
pub struct Interrupted {
    /// What happened.
    pub failure: Failure,
    /// It may be over by itself; otherwise a person has to mend something.
    pub is_passing: bool,
}

impl From<OpsError> for Interrupted {
    fn from(error: OpsError) -> Interrupted {
        let is_passing = matches!(
            error,
            OpsError::Engine(EngineError::Unreachable { .. } | EngineError::Overtaken { .. })
                | OpsError::Vault(VaultError::Store(StoreError::Passing { .. }))
                | OpsError::ServerBehind { .. }
        );
        Interrupted { failure: error.into(), is_passing }
    }
}

/// Receives until `cx` says to stop, or what was asked for is there. What it came to stands, whatever ended it.
pub async fn receive(
    context: &Context,
    cx: &Cx,
    reception: &mut Reception,
    tell: Tell<'_>,
) -> (Received, Result<(), Interrupted>) {
    let Reception { server, request } = reception;
    let mut total = Received::default();
    let mut opened = match open(context).await {
        Ok(vaults) => vaults,
        Err(failure) => {
            let is_passing = failure.kind == Code::Store;
            return (total, Err(Interrupted { failure, is_passing }));
        }
    };
    loop {
        let (vaults, is_complete) = &opened;
        request.incomplete = (!*is_complete).then_some(WITHOUT_ONE);
        let (received, ended) = wal_receive(cx, server, vaults, request, tell).await;
        total.add(&received);
        if ended.is_err() || !received.again {
            return (total, ended.map_err(Interrupted::from));
        }
        request.has_begun = true;
        match open(context).await {
            Ok(vaults) => opened = vaults,
            // None at all: those that opened before are tried until one is back.
            Err(failure) => tracing::warn!("{}", failure.on_one_line()),
        }
    }
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

/// What receiving came to, for people.
pub fn summary(total: &Received) -> String {
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

/// Says to people what matters to them of an event; of which source, if there are several.
pub fn say(printer: &Printer, source: Option<&SourceName>, event: &Event) {
    let of = source.map_or_else(String::new, |source| format!("{source}: "));
    match event {
        Event::Receiving { place, timeline, from } => {
            printer.note(&format!("{of}receiving WAL from {place}, timeline {timeline}, from {from} on"));
        }
        Event::SlotMade { slot } => {
            printer.note(&format!("{of}made replication slot {slot}: the server keeps WAL for it"));
        }
        Event::SlotLost { slot } => {
            tracing::warn!("{of}the server had given up replication slot {slot}; it was made anew");
        }
        Event::Gap { from, to } => tracing::error!(
            "{of}the server no longer has the WAL from {from} to {to}: unless wal push shipped it, no point before it can be \
             restored to anything after it; take a new recovery point: strongroom backup"
        ),
        Event::Timeline { ended, at, next } => {
            printer.note(&format!("{of}timeline {ended} ended at {at}; timeline {next} follows"));
        }
        Event::Disconnected { why } => tracing::warn!("{of}no connection, trying again: {why}"),
        Event::VaultDown { vault, why } => {
            tracing::warn!("{of}{vault} takes nothing, trying again: {why}");
        }
        Event::VaultBack { vault } => tracing::warn!("{of}{vault} takes WAL again"),
        Event::CatchingUp => {
            printer
                .note(&format!("{of}a vault has fallen behind: the server sends it what it lacks once more"));
        }
    }
}
