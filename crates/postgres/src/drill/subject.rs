//! The server that is looked at: how its databases are reached, and as whom.

#![allow(
    clippy::disallowed_methods,
    reason = "waits for a server that has just recovered to take connections"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_engine::EngineError;
use strongroom_model::Cx;

use crate::connect::{Client, connect};
use crate::conninfo::Conninfo;
use crate::recovery::shell_word;
use crate::refusal::ConnectError;

/// How often, and how long apart, a server that is in production is asked to take a connection.
const TRIES: u32 = 600;
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// The database that every cluster has.
const MAINTENANCE: &str = "template1";

const OPERATION: &str = "ask the restored server";

/// A server of a drill, which runs.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The folder of its socket.
    pub(crate) socket: PathBuf,
    /// A role that may do everything.
    pub(crate) superuser: String,
    /// Its programs.
    pub(crate) programs: PathBuf,
    /// Its major version.
    pub(crate) major: u16,
    /// The role that asks what users want to know; letters, digits and `_`.
    pub(crate) asker: String,
}

impl Subject {
    /// A server with its socket there, whose programs are there.
    pub(crate) fn new(socket: &Path, superuser: &str, programs: (&Path, u16), id: &str) -> Subject {
        Subject {
            socket: socket.to_owned(),
            superuser: superuser.to_owned(),
            programs: programs.0.to_owned(),
            major: programs.1,
            asker: format!("strongroom_drill_{id}"),
        }
    }

    /// How to reach a database.
    pub(crate) fn conninfo(&self, user: &str, database: &str) -> Result<Conninfo, ConnectError> {
        Ok(Conninfo::of_socket(&self.socket, user, database)?)
    }

    /// Connects as who may do everything.
    pub(crate) async fn connect(&self, database: &str) -> Result<Client, EngineError> {
        Ok(connect(&self.conninfo(&self.superuser, database)?).await?)
    }

    /// The same, to the database that every cluster has.
    pub(crate) async fn connect_anyhow(&self) -> Result<Client, EngineError> {
        self.connect(MAINTENANCE).await
    }

    /// Waits until it takes connections; what it is, as it says.
    pub async fn ready(&self, cx: &Cx) -> Result<String, EngineError> {
        let conninfo = self.conninfo(&self.superuser, MAINTENANCE)?;
        for left in (0..TRIES).rev() {
            cx.check()?;
            match connect(&conninfo).await {
                Err(ConnectError::NotNow { .. } | ConnectError::Unreachable { .. }) if left > 0 => {
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                connected => {
                    let client = connected?;
                    let row = client.row(OPERATION, "SELECT version() AS version", &[]).await?;
                    return Ok(client.get(OPERATION, &row, "version")?);
                }
            }
        }
        unreachable!("the last try is answered, whatever it came to")
    }

    /// How a person connects to it.
    pub fn how_to_connect(&self) -> String {
        let word = |path: &Path| shell_word(&path.to_string_lossy());
        let (psql, socket) = (word(&self.program("psql")), word(&self.socket));
        format!("{psql} -h {socket} -p 5432 -U {} -d {MAINTENANCE}", shell_word(&self.superuser))
    }

    /// How a person stops the server in `data`, and removes `folder` then.
    pub(crate) fn how_to_end(&self, data: &Path, folder: &Path) -> [String; 2] {
        let word = |path: &Path| shell_word(&path.to_string_lossy());
        // It does not run as root, and is not stopped by root.
        let user = if rustix::process::geteuid().is_root() { "runuser -u postgres -- " } else { "" };
        [
            format!("stop it: {user}{} stop -D {}", word(&self.program("pg_ctl")), word(data)),
            format!("then remove it: rm -r {}", word(folder)),
        ]
    }

    /// One of its programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}
