//! The agent's receivers: one for each source whose settings have `[source.<name>.receive]`.
//!
//! ```text
//!            ┌─ settings changed ──────────────────────────────┐
//! start ▶ receive ▶ ended by an error ▶ said, with its way out ▶ wait ─┐    asked to stop ▶ ship what came ▶ done
//!            ▲─────────────────────────────────────────────────────────┘
//! ```
//!
//! **Invariants**
//! - A receiver that ends, however it does, takes nothing else along, and is begun again for as long as the settings name it.
//! - Every such end is said once. What a person must mend is tried again as well, only less often: it may have been mended.
//! - When settings change, the old receiver has ended, and what it received is shipped, before a new one asks for the slot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use strongroom_model::time::human_duration;
use strongroom_model::{Cx, SourceName};
use strongroom_ops::OpsError;
use strongroom_ops::wal_receive::{Event, Received};
use tokio::task::JoinHandle;

use crate::agent::present::Present;
use crate::context::Context;
use crate::receive::{Interrupted, Reception, receive, say};
use crate::settings::ReceiveSettings;

/// Between two looks at the settings file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks at whether to stop.
const TICK: Duration = Duration::from_millis(100);

/// Before the first new try; each later one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest wait for what may be over by itself, and for what somebody must mend.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE_TO_MEND: Duration = Duration::from_secs(300);

/// What the receiver of one source has done.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ReceiverDone {
    /// What it received and shipped.
    #[serde(flatten)]
    pub received: Received,
    /// How often an error ended it.
    pub restarts: u64,
}

/// The receivers of an agent.
pub struct Receivers {
    settings: Arc<Present>,
    /// The settings that those who run were begun under.
    followed: Option<u64>,
    running: BTreeMap<SourceName, Running>,
    done: BTreeMap<SourceName, ReceiverDone>,
}

/// One that runs, and how to stop it.
struct Running {
    cx: Cx,
    task: JoinHandle<ReceiverDone>,
}

impl Receivers {
    /// None yet.
    pub fn new(settings: Arc<Present>) -> Receivers {
        Receivers { settings, followed: None, running: BTreeMap::new(), done: BTreeMap::new() }
    }

    /// Keeps those that the settings name until the agent is to stop, and gives what each has done.
    pub async fn keep(mut self) -> BTreeMap<SourceName, ReceiverDone> {
        let cx = self.settings.context().cx.clone();
        // What was seen when last looked: whoever writes the file may not be done, so it counts when it is seen again.
        let (mut last_seen, mut mistake) = (None, (String::new(), 0));
        while cx.check().is_ok() {
            match self.settings.renewed(|fingerprint| last_seen.replace(fingerprint) == Some(fingerprint)) {
                Ok(context) => {
                    self.follow(&context).await;
                    mistake.0.clear();
                }
                Err(failure) => {
                    let why = failure.on_one_line();
                    let times = if why == mistake.0 { mistake.1 + 1 } else { 1 };
                    if times == 2 {
                        tracing::error!("going on with the settings as they were: {why}");
                    }
                    mistake = (why, times);
                }
            }
            wait(&cx, LOOK_EVERY).await;
        }
        self.stop().await;
        self.done
    }

    /// Begins those that the settings name, anew if they are other settings.
    async fn follow(&mut self, context: &Arc<Context>) {
        let fingerprint = context.settings.fingerprint;
        if self.followed == Some(fingerprint) {
            return;
        }
        self.stop().await;
        let by_agent = |receive: &ReceiveSettings| !receive.not_by_agent;
        for (source, settings) in &context.settings.sources {
            if settings.receive.as_ref().is_some_and(by_agent) {
                let cx = Cx::new(context.cx.clock.clone(), context.cx.entropy.clone());
                let task = tokio::spawn(keep_receiving(Arc::clone(context), source.clone(), cx.clone()));
                self.running.insert(source.clone(), Running { cx, task });
            }
        }
        self.followed = Some(fingerprint);
    }

    /// Ends all of them; each ships first what it has received.
    async fn stop(&mut self) {
        self.running.values().for_each(|running| running.cx.cancel());
        for (source, Running { task, .. }) in std::mem::take(&mut self.running) {
            match task.await {
                Ok(later) => {
                    let done = self.done.entry(source).or_default();
                    done.received.add(&later.received);
                    done.restarts += later.restarts;
                }
                Err(why) => tracing::error!("{source}: receiving WAL ended on a broken invariant: {why}"),
            }
        }
    }
}

/// Receives, and begins again after every end that nobody asked for.
async fn keep_receiving(context: Arc<Context>, source: SourceName, cx: Cx) -> ReceiverDone {
    let (mut done, mut failures) = (ReceiverDone::default(), 0);
    loop {
        // On a task of its own: what panics there ends only that.
        let attempt = tokio::spawn(attempt(Arc::clone(&context), source.clone(), cx.clone()));
        let Attempt { received, has_streamed, ended } = attempt.await.unwrap_or_else(|why| Attempt {
            received: Received::default(),
            has_streamed: false,
            ended: Err(OpsError::Worker(why.to_string()).into()),
        });
        done.received.add(&received);
        let Err(Interrupted { failure, is_passing }) = ended else { return done };
        let why = failure.on_one_line();
        if cx.check().is_err() {
            tracing::warn!("{source}: not all that was received is in every vault: {why}");
            return done;
        }
        failures = if has_streamed { 1 } else { failures + 1 };
        let pause = pause_after(failures, is_passing, cx.random());
        let hint = failure.hint.map_or_else(String::new, |hint| format!("; {hint}"));
        let when = human_duration(pause);
        let text = format!("{source}: WAL is not received, trying again in {when}: {why}{hint}");
        match is_passing {
            true => tracing::warn!("{text}"),
            false => tracing::error!("{text}"),
        }
        done.restarts += 1;
        wait(&cx, pause).await;
        if cx.check().is_err() {
            return done;
        }
    }
}

/// One run of a receiver.
struct Attempt {
    received: Received,
    /// WAL came.
    has_streamed: bool,
    ended: Result<(), Interrupted>,
}

async fn attempt(context: Arc<Context>, source: SourceName, cx: Cx) -> Attempt {
    let has_streamed = AtomicBool::new(false);
    let tell = |event: &Event| {
        has_streamed.fetch_or(matches!(event, Event::Receiving { .. }), Ordering::Relaxed);
        say(&context.printer, Some(&source), event);
    };
    let (received, ended) = match Reception::of(&context, &source, &ReceiveSettings::default()) {
        Ok(mut reception) => receive(&context, &cx, &mut reception, &tell).await,
        Err(failure) => (Received::default(), Err(Interrupted { failure, is_passing: false })),
    };
    if ended.is_err() {
        // Whatever it was, the next run looks at all of it anew.
        (0..context.journal_places()).for_each(|number| context.close_journal_vault(number));
    }
    Attempt { received, has_streamed: has_streamed.into_inner(), ended }
}

/// How long to wait after so many failures in a row: between three and five quarters of the plan, so that the receivers of
/// many hosts do not all come back to one store at once.
fn pause_after(failures: u32, is_passing: bool, [chance]: [u8; 1]) -> Duration {
    let longest = if is_passing { LONGEST_PAUSE } else { LONGEST_PAUSE_TO_MEND };
    let planned = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
    planned * 3 / 4 + planned * u32::from(chance) / 510
}

/// Waits so long, or until `cx` says to stop.
async fn wait(cx: &Cx, length: Duration) {
    let stopped = async {
        let mut ticks = tokio::time::interval(TICK);
        while cx.check().is_ok() {
            ticks.tick().await;
        }
    };
    // Either end will do.
    let _ = tokio::time::timeout(length, stopped).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_grow_apart_up_to_a_bound_and_not_all_hosts_come_at_once() {
        let check = |failures, is_passing, [least, most]: [u64; 2]| {
            let pauses =
                [0, 255].map(|chance| pause_after(failures, is_passing, [chance]).as_millis() as u64);
            assert_eq!(pauses, [least, most], "after {failures}");
        };
        check(1, true, [750, 1250]);
        check(2, true, [1500, 2500]);
        check(5, true, [12_000, 20_000]);
        check(6, true, [22_500, 37_500]);
        check(u32::MAX, true, [22_500, 37_500]);
        check(1, false, [750, 1250]);
        check(9, false, [192_000, 320_000]);
        check(10, false, [225_000, 375_000]);
        check(u32::MAX, false, [225_000, 375_000]);
    }
}
