//! What this process is to a server that it starts and that recovers: the agent that the server's `wal fetch` finds, with the vault
//! open and the next segments at hand.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::oneshot::{Sender, channel};
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::agent::socket::{Listener, OF_RESTORE};
use crate::context::Context;
use crate::failure::{Code, Failure};

/// An agent for as long as a recovery takes.
pub struct Serving {
    agent: Arc<Agent>,
    socket: Option<PathBuf>,
    task: Option<JoinHandle<()>>,
    over: Sender<()>,
}

impl Serving {
    /// Begins to answer. Without a socket the server's commands do by themselves.
    pub fn begin(context: &Arc<Context>) -> Serving {
        let listener = Listener::of_restore().inspect_err(|why| tracing::warn!("{}", why.on_one_line())).ok();
        let socket = listener.as_ref().map(|here| here.path().to_owned());
        let (over, recovered) = channel::<()>();
        let agent = Agent::new(Arc::clone(context));
        let task = listener.map(|listener| {
            let agent = Arc::clone(&agent);
            tokio::spawn(async move { agent.serve(&listener, async { drop(recovered.await) }).await })
        });
        Serving { agent, socket, task, over }
    }

    /// What the server must have in its environment, for its commands to find us.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        self.socket.iter().map(|socket| (OF_RESTORE, socket.clone())).collect()
    }

    /// Ends it; what it did.
    pub async fn end(self) -> Result<serde_json::Value, Failure> {
        drop(self.over);
        if let Some(task) = self.task {
            task.await.map_err(|why| Failure::new(Code::Bug, why.to_string()))?;
        }
        Ok(json!(self.agent.done))
    }
}
