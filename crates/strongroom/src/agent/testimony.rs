//! What the agent has the audit log know of itself: which settings hold, from its beginning on and whenever they were read anew.
//!
//! A process of its own writes it (`strongroom audit settings`): what opens a vault takes memory that the agent would keep. It is
//! testimony and no condition: an agent whose vault is away works on, and says that it is not written.

use std::sync::Arc;

use tokio::sync::watch;

use crate::actor::AGENT;
use crate::agent::child::run;
use crate::agent::present::Present;
use crate::context::Context;
use crate::failure::Failure;

/// What a process says on the side whose entry was not written.
pub const UNWRITTEN: &str = "is not in the audit log";

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
