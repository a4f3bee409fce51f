//! `strongroom run`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use strongroom_model::SourceName;
use strongroom_ops::OpsError;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinError;

use crate::agent::Agent;
use crate::agent::receivers::{ReceiverDone, Receivers};
use crate::agent::socket::Listener;
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::receive::summary;

/// Run the agent: it ships WAL ahead of the server's offers, fetches it ahead of recovery's demands, and receives it
#[derive(clap::Args)]
#[command(after_help = "\
Run it as the server's system user, with the settings that archive_command and restore_command name. Both commands find it by
themselves and work without it as well, only slower: each then opens the vault anew and knows nothing of the next segment.

A source that has a section [source.NAME.receive] in strongroom.toml is received as by `wal receive`, for as long as the agent
runs: an error that ends it is said, and it is tried again.

It ends on Ctrl-C or SIGTERM, after what it has under way.

Exit codes: 0 when stopped; 4 if a server no longer had some of its WAL: take a new recovery point then.

Examples:
  strongroom run
  strongroom --config /etc/strongroom/strongroom.toml run --output json")]
pub struct Arguments {}

pub async fn run(context: &Arc<Context>) -> Result<Outcome, Failure> {
    context.check_places()?;
    let of_signals = |error| Failure::new(Code::Failed, format!("wait for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(of_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(of_signals)?;
    let listener = Listener::bind(context)?;
    context.printer.note(&format!("the agent listens at {}", listener.path().display()));
    let agent = Agent::new(Arc::clone(context));
    let stop = async {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    };
    let receivers = tokio::spawn(Receivers::new(Arc::clone(&agent.settings)).keep());
    agent.serve(&listener, stop).await;
    let of_worker = |why: JoinError| Failure::from(OpsError::Worker(why.to_string()));
    let received = receivers.await.map_err(of_worker)?;
    Ok(outcome(&agent, &listener, &received))
}

fn outcome(agent: &Agent, listener: &Listener, received: &BTreeMap<SourceName, ReceiverDone>) -> Outcome {
    let done = json!({ "socket": listener.path(), "done": agent.done, "received": received });
    let [pushed, pushed_ahead, fetched, fetched_ahead] =
        [&agent.done.pushed, &agent.done.pushed_ahead, &agent.done.fetched, &agent.done.fetched_ahead]
            .map(|count| count.load(Ordering::Relaxed));
    let mut human = format!(
        "shipped {pushed} files, {pushed_ahead} of them ahead; fetched {fetched}, {fetched_ahead} of them ahead"
    );
    for (source, done) in received {
        human.push_str(&format!("\n{source}: {}", summary(&done.received)));
        if done.restarts > 0 {
            human.push_str(&format!("\n{source}: {} errors ended it, and it was begun again", done.restarts));
        }
    }
    let has_gap = received.values().any(|done| done.received.gaps > 0);
    Outcome::new(&done, human).with_code(if has_gap { Code::Problems } else { Code::Ok })
}
