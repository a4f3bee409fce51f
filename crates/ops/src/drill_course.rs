//! A drill under way: what was asked for, and what it has done and found so far. Whatever ends it, this is left to tell of.

#![allow(
    clippy::disallowed_methods,
    reason = "a drill measures how long things take: that is what it is for"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_engine::EngineError;
use strongroom_model::drill::{Answer, Check, CheckOutcome, Choice, Phase, seconds_of};
use strongroom_model::{ByteSize, Cx, SourceName, Timestamp};
use strongroom_postgres::drill::assertion::{Assertion, admit, ask};
use strongroom_postgres::drill::subject::Subject;
use strongroom_store::folder::free_bytes;
use tokio::time::Instant;

use crate::error::{OpsError, with_causes};
use crate::hand::Hand;

/// What a server writes besides its data, at least.
const BESIDES: u64 = 64 << 20;

/// A drill as it was asked for.
#[derive(Clone, Debug)]
pub struct DrillRequest {
    /// What to restore.
    pub source: SourceName,
    /// Which state of it.
    pub choice: Choice,
    /// The folder to make the drill's folder in.
    pub scratch: PathBuf,
    /// Threads that fetch, check and write; sessions that check.
    pub workers: usize,
    /// Bytes a second to fetch at most.
    pub rate_limit: Option<u64>,
    /// The role that may do everything in a restored cluster.
    pub superuser: String,
    /// Settings that its server needs besides.
    pub settings: BTreeMap<String, String>,
    /// What users want to know of it.
    pub assertions: Vec<Assertion>,
    /// How long it may take until the data can be used.
    pub rto: Option<Duration>,
    /// Leave the server running.
    pub keep: bool,
    /// What brings WAL to a server that recovers: `wal fetch` of this binary.
    pub restore_command: String,
    /// Variables for that.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// Who does it.
    pub hand: Hand,
}

/// What a drill has done and found so far.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    pub(crate) phases: Vec<Phase>,
    pub(crate) checks: Vec<Check>,
    /// The server, as it names its version.
    pub(crate) server: Option<String>,
    /// Where recovery stopped.
    pub(crate) reached: Option<String>,
    /// Seconds until the data could be used, once they can be.
    pub(crate) rto_seconds: Option<f64>,
    /// What a person must know of the server that was left running.
    pub(crate) kept: Vec<String>,
}

impl UnderWay {
    /// Does something that who waits for the data waits for, too.
    pub(crate) async fn phase<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, OpsError>>,
    ) -> Result<T, OpsError> {
        let began = Instant::now();
        let done = work.await;
        self.took(name, began.elapsed(), true);
        done
    }

    /// Notes what something took.
    pub(crate) fn took(&mut self, name: &str, time: Duration, in_rto: bool) {
        let seconds = seconds_of(time);
        self.phases.push(Phase { name: name.to_owned(), seconds, bytes: None, in_rto });
    }

    /// Notes how much the last phase worked through.
    pub(crate) fn worked_through(&mut self, bytes: u64) {
        if let Some(phase) = self.phases.last_mut() {
            phase.bytes = Some(bytes);
        }
    }

    /// The data can be used from here on.
    pub(crate) fn usable(&mut self) {
        let waited_for = self.phases.iter().filter(|phase| phase.in_rto);
        let seconds: f64 = waited_for.map(|phase| phase.seconds).sum();
        self.rto_seconds = Some((seconds * 1000.0).round() / 1000.0);
    }

    /// Looks at something. That it could not be looked at is a failure, unless that was known before.
    pub(crate) async fn check(
        &mut self,
        cx: &Cx,
        name: &str,
        asking: impl Future<Output = Result<Answer, EngineError>>,
    ) -> Result<(), OpsError> {
        cx.check()?;
        cx.progress.begin(&format!("checking {name}"), 0);
        let began = Instant::now();
        let answer = match asking.await {
            Err(EngineError::Cancelled(cancelled)) => return Err(cancelled.into()),
            Err(error) => Answer::failed(with_causes(&error)),
            Ok(answer) => answer,
        };
        self.note(name, began.elapsed(), answer);
        Ok(())
    }

    /// Notes what was found.
    pub(crate) fn note(&mut self, name: &str, time: Duration, Answer { outcome, detail }: Answer) {
        let seconds = seconds_of(time);
        if outcome == CheckOutcome::Failed {
            tracing::info!("{name}: {detail}");
        }
        self.checks.push(Check { name: name.to_owned(), outcome, seconds, detail });
    }

    /// Asks what users want to know.
    pub(crate) async fn assertions(
        &mut self,
        cx: &Cx,
        subject: &Subject,
        assertions: &[Assertion],
        (database, moment): (&str, Timestamp),
    ) -> Result<(), OpsError> {
        if let Err(error) = admit(subject, assertions, database).await {
            // Each question then fails for itself, and says why.
            tracing::info!("{}", with_causes(&error));
        }
        for (number, assertion) in (1..).zip(assertions) {
            let asking = ask(cx, subject, assertion, (database, moment));
            self.check(cx, &format!("sql {number}"), asking).await?;
        }
        Ok(())
    }
}

/// Refuses a disk that would be full before the drill is over: others may need it as well.
pub(crate) fn expect_room(folder: &Path, needed: u64) -> Result<(), OpsError> {
    let needed = needed.saturating_add(BESIDES);
    match free_bytes(folder) {
        Ok(free) if free < needed => {
            Err(OpsError::NoRoom { place: folder.to_owned(), free: ByteSize(free), needed: ByteSize(needed) })
        }
        // Where nobody can tell, the disk will.
        Ok(_) | Err(_) => Ok(()),
    }
}
