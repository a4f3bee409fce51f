//! A program of whoever runs Strongroom: the alert as JSON on its standard input, exit code 0 for taken.

#![allow(clippy::disallowed_methods, reason = "this module is where a channel's program is run")]

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::message::Message;
use crate::post::{PATIENCE, TellError};

/// Of what it says on standard error so much is told, the last.
const SAID: usize = 200;

/// A command of the shell.
pub struct Program {
    /// As `/bin/sh -c` takes it.
    pub command: String,
}

impl Program {
    /// The command is not shown: it may hold a secret.
    fn silent(&self, why: impl Into<String>) -> TellError {
        TellError::Silent { by: "the program".to_owned(), why: why.into() }
    }

    pub(crate) async fn tell(&self, message: &Message<'_>) -> Result<(), TellError> {
        self.run(&message.json()).await
    }

    /// Runs it with a document on its standard input.
    pub(crate) async fn run(&self, document: &serde_json::Value) -> Result<(), TellError> {
        let mut shell = Command::new("/bin/sh");
        let shell = shell.args(["-c", &self.command]).kill_on_drop(true);
        let child = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| self.silent(error.to_string()))?;
        let told = async {
            if let Some(mut stdin) = child.stdin.take() {
                // One that does not read may take it all the same: its exit code says.
                let _ = stdin.write_all(format!("{document}\n").as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let ended = tokio::time::timeout(PATIENCE, told).await;
        let ended = ended.map_err(|_| self.silent("it does not end in time"))?;
        let output = ended.map_err(|error| self.silent(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().next_back().unwrap_or_default();
        let said: String = said.chars().take(SAID).collect();
        Err(TellError::Refused { by: "the program".to_owned(), said: format!("{}: {said}", output.status) })
    }
}
