//! What the agent has the audit log know: which settings hold, from its beginning on and whenever they were read anew; and what
//! people did at its door.
//!
//! Processes of their own write it (`strongroom audit settings`, `audit testify`): what opens a vault takes memory that the agent
//! would keep. It is testimony and no condition: an agent whose vault is away works on, says that it is not written, and tries again
//! with what people did, the last time when it leaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::actor::{ACTOR, AGENT};
use crate::agent::child::{run, run_told};
use crate::agent::present::Present;
use crate::agent::sightings::{SIGHTINGS, Sighting, Sightings};
use crate::context::Context;
use crate::failure::Failure;

/// What a process says on the side whose entry was not written.
pub const UNWRITTEN: &str = "is not in the audit log";

/// What is said of sightings that will never be there.
const LOST: &str = "are lost to the audit log";

/// Before the next try where the vault did not take it: at first, doubled each time, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long a batch may take; and once the agent leaves.
const PATIENCE: Duration = Duration::from_secs(120);
const LAST_PATIENCE: Duration = Duration::from_secs(15);

/// What was counted is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Has the settings recorded that hold, now and after each change, until `left`.
pub async fn testify(settings: Arc<Present>, mut left: watch::Receiver<bool>) {
    let mut changes = settings.changes();
    loop {
        if let Err(why) = note(&settings.context(), left.clone()).await {
            tracing::warn!("which settings hold is not in the audit log: {why}");
        }
        tokio::select! {
            _ = left.wait_for(|left| *left) => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

async fn note(context: &Context, mut left: watch::Receiver<bool>) -> Result<(), String> {
    let mut words = context.own_words().map_err(|failure: Failure| failure.on_one_line())?;
    words.extend(["audit", "settings", "--output", "json"].map(str::to_owned));
    let leave = async {
        let _ = left.wait_for(|left| *left).await;
    };
    let report = run(&words, AGENT, leave).await.map_err(|error| error.to_string())?;
    match report.code {
        // An entry that could not be written fails no command: it is said, and this command is for nothing else.
        Some(0) if !report.said.contains(UNWRITTEN) => Ok(()),
        _ => Err(report.said.trim().to_owned()),
    }
}

/// Has recorded what people did, until it is `over`, and then what is left.
pub async fn bear_witness(
    settings: Arc<Present>,
    sightings: Arc<Sightings>,
    mut over: watch::Receiver<bool>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let is_over = *over.borrow() || over.has_changed().is_err();
        let written = write(&settings, (&sightings, is_over), over.clone()).await;
        let (waiting, lost) = sightings.standing();
        if lost > 0 {
            tracing::error!("of what people did {lost} sightings {LOST}: too many wait");
        }
        match written {
            Ok(()) if is_over => return,
            Err(why) if is_over => {
                tracing::error!("of what people did {waiting} sightings {LOST}: the agent leaves, and {why}");
                return;
            }
            Ok(()) => {
                pause = FIRST_PAUSE;
                let came = async {
                    tokio::select! { () = sightings.came() => {}, _ = over.wait_for(|over| *over) => {} }
                };
                let _ = tokio::time::timeout(LOOK_EVERY, came).await;
            }
            Err(why) => {
                tracing::warn!("of what people did {waiting} sightings are not yet in the audit log: {why}");
                let _ = tokio::time::timeout(pause, over.wait_for(|over| *over)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Has everything written that waits.
async fn write(
    settings: &Present,
    (sightings, is_last): (&Sightings, bool),
    over: watch::Receiver<bool>,
) -> Result<(), String> {
    loop {
        let context = settings.context();
        let batch = sightings.oldest(context.cx.now(), is_last);
        if batch.is_empty() {
            return Ok(());
        }
        let (written, done) = send(&context, &batch, over.clone()).await;
        sightings.written(written);
        done?;
    }
}

/// How many of a batch were written, and why not all.
async fn send(
    context: &Context,
    batch: &[Sighting],
    mut over: watch::Receiver<bool>,
) -> (usize, Result<(), String>) {
    let words = context.own_words().map_err(|failure: Failure| failure.on_one_line());
    let told = serde_json::to_string(batch).map_err(|error| error.to_string());
    let (mut words, told) = match (words, told) {
        (Ok(words), Ok(told)) => (words, told),
        (Err(why), _) | (_, Err(why)) => return (0, Err(why)),
    };
    words.extend(["audit", "testify", "--output", "json"].map(str::to_owned));
    let stop = async {
        let _ = tokio::time::timeout(PATIENCE, over.wait_for(|over| *over)).await;
        let _ = tokio::time::timeout(LAST_PATIENCE, std::future::pending::<()>()).await;
    };
    let report = match run_told(&words, &[(ACTOR, AGENT), (SIGHTINGS, &told)], stop).await {
        Ok(report) => report,
        Err(error) => return (0, Err(error.to_string())),
    };
    let told = report.json.unwrap_or_default();
    let written = told["written"].as_u64().unwrap_or_default() as usize;
    match report.code {
        Some(0) if written == batch.len() => (written, Ok(())),
        _ => {
            let why = told["why"].as_str().or(told["error"]["message"].as_str());
            (written, Err(why.unwrap_or(report.said.trim()).to_owned()))
        }
    }
}
