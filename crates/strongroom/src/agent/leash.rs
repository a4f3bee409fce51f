//! What ties a job's process to its agent: a pipe that the agent holds open and never writes to.
//!
//! **Invariant**: however the agent ends, the kernel closes the pipe, and the job stops as on Ctrl-C: nobody works under a lease that
//! nobody keeps.

#![allow(
    clippy::disallowed_methods,
    reason = "this module is where a job's process finds its agent, and ends with it"
)]

use std::time::Duration;

use rustix::process::{Pid, getppid};
use strongroom_model::Cx;

use crate::failure::Code;

/// Names the agent whose job this process is, by its process id: what this process starts inherits the variable, and is no job.
pub const HELD_BY: &str = "STRONGROOM_JOB_OF";

/// How long a job whose agent is gone may take to stop.
const LAST_GRACE: Duration = Duration::from_secs(10);

/// Whether an agent started this process.
pub fn is_held() -> bool {
    let agent: Option<i32> = std::env::var(HELD_BY).ok().and_then(|pid| pid.parse().ok());
    agent.is_some() && agent == getppid().map(Pid::as_raw_pid)
}

/// If this process is a job of an agent, sees to it that it ends with that agent.
pub fn end_with_agent(cx: &Cx) {
    if !is_held() {
        return;
    }
    let cx = cx.clone();
    tokio::spawn(async move {
        // Nothing comes but the end, and that is when this thread ends.
        let _ =
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await;
        cx.cancel();
        // It ends by itself, mostly; what is not committed is invisible.
        let _ = tokio::time::timeout(LAST_GRACE, std::future::pending::<()>()).await;
        std::process::exit(i32::from(crate::exit_code(Code::Cancelled)));
    });
}
