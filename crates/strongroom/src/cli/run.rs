//! `strongroom run`

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::Agent;
use crate::agent::socket::Listener;
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;

/// Run the agent: it ships WAL ahead of the server's offers, and fetches it ahead of recovery's demands
#[derive(clap::Args)]
#[command(after_help = "\
Run it as the server's system user, with the settings that archive_command and restore_command name. Both commands find it by
themselves and work without it as well, only slower: each then opens the vault anew and knows nothing of the next segment.
It ends on Ctrl-C or SIGTERM, after what it has under way.

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
    agent.serve(&listener, stop).await;
    let done = json!({ "socket": listener.path(), "done": agent.done });
    let [pushed, pushed_ahead, fetched, fetched_ahead] =
        [&agent.done.pushed, &agent.done.pushed_ahead, &agent.done.fetched, &agent.done.fetched_ahead]
            .map(|count| count.load(Ordering::Relaxed));
    let human = format!(
        "shipped {pushed} files, {pushed_ahead} of them ahead; fetched {fetched}, {fetched_ahead} of them ahead"
    );
    Ok(Outcome::new(&done, human))
}
