//! `strongroom run`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use strongroom_model::SourceName;
use strongroom_ops::OpsError;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinError;

use crate::agent::Agent;
use crate::agent::present::Present;
use crate::agent::receivers::{ReceiverDone, Receivers};
use crate::agent::sightings::Sightings;
use crate::agent::socket::Listener;
use crate::agent::supervisor::Supervisor;
use crate::agent::testimony::{bear_witness, testify};
use crate::agent::watch::board::Board;
use crate::agent::watch::watch as keep_watch;
use crate::agent::work::{check, work};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::http::desk::Desk;
use crate::http::tls::Certificates;
use crate::http::{self, Opened};
use crate::output::Outcome;
use crate::receive::summary;

/// Run the agent: it carries out plans, and ships, fetches and receives WAL
#[derive(clap::Args)]
#[command(after_help = "\
Run it as the server's system user, with the settings that archive_command and restore_command name. Both commands find it by
themselves and work without it as well, only slower: each then opens the vault anew and knows nothing of the next segment.

A source that has a section [source.NAME.receive] in strongroom.toml is received as by `wal receive`, for as long as the agent
runs: an error that ends it is said, and it is tried again.

What plans order is done when it is due, each job as a process of its own: backup, copy, expire, verify, and with [agent.sweep]
sweep. `strongroom jobs` shows and steers them.

With [alert.NAME] people are told what is wrong: `strongroom alert list` and docs/alerts.md. With [http] metrics are served.

It reads its settings again on SIGHUP, and by itself. It ends on Ctrl-C or SIGTERM, after what it has under way; jobs have
`grace` of [agent] (30s) for that, and are given back then.

Exit codes: 0 when stopped; 4 if a server no longer had some of its WAL: take a new recovery point then.

Examples:
  strongroom run
  strongroom --config /etc/strongroom/strongroom.toml run --output json")]
pub struct Arguments {}

pub async fn run(context: &Arc<Context>) -> Result<Outcome, Failure> {
    context.check_places()?;
    let [mut interrupt, mut terminate, hangup] = [
        signals(SignalKind::interrupt())?,
        signals(SignalKind::terminate())?,
        signals(SignalKind::hangup())?,
    ];
    check(context).await?;
    let listener = Listener::bind(context)?;
    context.printer.note(&format!("the agent listens at {}", listener.path().display()));
    let page = http::bind(context).await?;
    let agent = Agent::new(Arc::clone(context));
    let (leave, left) = watch::channel(false);
    let supervisor = Arc::new(Supervisor::of_environment());
    let receivers = tokio::spawn(Receivers::new(Arc::clone(&agent.settings)).keep());
    let work = tokio::spawn(work(Arc::clone(&agent.settings), left.clone()));
    let testimony = tokio::spawn(testify(Arc::clone(&agent.settings), left.clone()));
    let board = Arc::new(Board::default());
    let watching = tokio::spawn(keep_watch(Arc::clone(&agent.settings), Arc::clone(&board), left.clone()));
    let certificates = page.as_ref().and_then(|page| page.certificates.clone());
    let (sightings, (last, over)) = (Arc::new(Sightings::default()), watch::channel(false));
    let witness = tokio::spawn(bear_witness(Arc::clone(&agent.settings), Arc::clone(&sightings), over));
    if let Some(page) = page {
        tell_address(context, &page);
        let desk = Desk::new(Arc::clone(&agent.settings), board, sightings);
        tokio::spawn(http::serve(page, desk, left));
    }
    let attending =
        tokio::spawn(attend((Arc::clone(&agent.settings), certificates), Arc::clone(&supervisor), hangup));
    supervisor.tell("READY=1");
    let stop = async {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        supervisor.tell("STOPPING=1");
        leave.send_replace(true);
    };
    agent.serve(&listener, stop).await;
    let of_worker = |why: JoinError| Failure::from(OpsError::Worker(why.to_string()));
    let received = receivers.await.map_err(of_worker)?;
    work.await.map_err(of_worker)?;
    watching.await.map_err(of_worker)?;
    testimony.await.map_err(of_worker)?;
    last.send_replace(true);
    witness.await.map_err(of_worker)?;
    attending.abort();
    Ok(outcome(&agent, &listener, &received))
}

fn tell_address(context: &Context, page: &Opened) {
    if let Some(address) = page.address() {
        context.printer.note(&format!("the page, the API and metrics are at {address}"));
    }
}

fn signals(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(Code::Failed, format!("wait for signals: {error}")))
}

/// Reads the settings again when asked to, and says that the agent lives.
async fn attend(
    (settings, certificates): (Arc<Present>, Option<Arc<Certificates>>),
    supervisor: Arc<Supervisor>,
    mut hangup: Signal,
) {
    let mut signs = supervisor.sign_every().map(tokio::time::interval);
    let mut sign = async || match &mut signs {
        Some(signs) => drop(signs.tick().await),
        None => std::future::pending().await,
    };
    loop {
        tokio::select! {
            () = sign() => supervisor.tell("WATCHDOG=1"),
            Some(()) = hangup.recv() => {
                supervisor.tell("RELOADING=1");
                let renewed = settings.renewed(|_| true);
                let renewed = renewed.and_then(|context| match &certificates {
                    Some(certificates) => certificates.renew(&context).map(|()| context),
                    None => Ok(context),
                });
                match renewed {
                    Ok(context) => context.printer.note("the settings were read again"),
                    Err(failure) => {
                        tracing::error!("going on with the settings as they were: {}", failure.on_one_line());
                    }
                }
                supervisor.tell("READY=1");
            }
        }
    }
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
