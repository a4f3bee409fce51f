//! A verb as a process of its own: what a job is carried out by.
//!
//! The same binary, settings and path as by hand: memory and crashes of a job are its own, and its exit code is what it came to.
//!
//! **Invariants**
//! - A process ends before this is done with it: asked to (SIGINT), asked again, killed.
//! - What it prints takes a bounded part of the agent's memory.

#![allow(clippy::disallowed_methods, reason = "this module is where the agent runs its jobs' processes")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::actor::ACTOR;
use crate::agent::leash::HELD_BY;
use crate::diagnostics::FORMAT;

/// The longest report that is read: what `status` says of ten thousand sources with a hundred points each is half of it.
const LONGEST_REPORT: usize = 32 << 20;

/// Of what it says on the side so much is kept, the last.
const LONGEST_WORDS: usize = 16 << 10;

/// Between asking a process to stop once and twice, and before it is killed.
const BEFORE_ASKING_AGAIN: Duration = Duration::from_secs(8);
const BEFORE_KILLING: Duration = Duration::from_secs(4);

/// What a process came to.
pub struct Report {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The last JSON document that it printed.
    pub json: Option<Value>,
    /// What it said on the side, the end of it.
    pub said: String,
}

/// Runs this binary with these words to its end, for whom `actor` says; asks it to end when `stop` is ready.
pub async fn run(words: &[String], actor: &str, stop: impl Future<Output = ()>) -> std::io::Result<Report> {
    run_told(words, &[(ACTOR, actor)], stop).await
}

/// The same, with these variables: what others on this host must not see in a list of processes.
pub async fn run_told(
    words: &[String],
    variables: &[(&str, &str)],
    stop: impl Future<Output = ()>,
) -> std::io::Result<Report> {
    let mut command = Command::new(own_binary()?);
    command.args(words).env(HELD_BY, std::process::id().to_string()).envs(variables.iter().copied());
    // What it says is kept for people.
    command.env(FORMAT, "text");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: Ctrl-C at a terminal asks the agent, which asks its jobs.
    let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
    let _leash = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let report = tokio::spawn(async move { read_first(stdout).await });
    let said = tokio::spawn(async move { read_last(stderr).await });
    let status = tokio::select! {
        status = child.wait() => status?,
        () = stop => end(&mut child).await?,
    };
    let (report, said) = (report.await.unwrap_or_default(), said.await.unwrap_or_default());
    let documents = serde_json::Deserializer::from_slice(&report).into_iter::<Value>();
    let json = documents.map_while(Result::ok).last();
    Ok(Report { code: status.code(), json, said: String::from_utf8_lossy(&said).into_owned() })
}

/// What runs here, also after the file was replaced by another build, whose agent is not this one.
fn own_binary() -> std::io::Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => Ok(PathBuf::from("/proc/self/exe")),
        false => std::env::current_exe(),
    }
}

async fn end(child: &mut Child) -> std::io::Result<ExitStatus> {
    for wait in [BEFORE_ASKING_AGAIN, BEFORE_KILLING] {
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            // It may have ended by itself meanwhile.
            let _ = kill_process(pid, Signal::INT);
        }
        if let Ok(status) = tokio::time::timeout(wait, child.wait()).await {
            return status;
        }
    }
    child.start_kill()?;
    child.wait().await
}

/// The first bytes; the others are read, so that nobody waits, and dropped.
async fn read_first(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    read(from, |bytes| {
        let room = LONGEST_REPORT.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    })
    .await;
    kept
}

/// The last bytes.
async fn read_last(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = VecDeque::new();
    read(from, |bytes| {
        kept.extend(bytes);
        kept.drain(..kept.len().saturating_sub(LONGEST_WORDS));
    })
    .await;
    kept.into()
}

async fn read(from: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 8 << 10];
    // A pipe that breaks has ended, too.
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        take(&buffer[..read]);
    }
}
