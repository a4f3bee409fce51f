//! The unix socket between the agent and the two commands that PostgreSQL calls: one errand per connection, one line each way.
//!
//! **Invariant**: whatever stands between a command and the agent (no agent, another user's, other settings, another build, a
//! broken connection), the command then does the errand by itself. Only an answer that came whole counts.

#![allow(clippy::disallowed_methods, reason = "this module is where the socket's files are made and removed")]

use std::fs::{File, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_model::{SourceName, WalFile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::settings::fingerprint;

/// This build: another one's agent may mean something else by the same words.
const BUILD: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// The longest request or answer.
const LONGEST: u64 = 1 << 20;

/// How long an agent may take to say that it is there: it answers the request later.
const CONNECTING: Duration = Duration::from_secs(1);

/// What PostgreSQL wants done. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Errand {
    /// Ship this file.
    Push(PathBuf),
    /// Bring the file of this name to this place.
    Fetch(String, PathBuf),
}

impl Errand {
    /// To ship the file at `path`, which is relative to the working directory.
    pub fn push(path: &Path) -> Result<Errand, Failure> {
        Ok(Errand::Push(absolute(path)?))
    }

    /// To bring `file` to `destination`, which is relative to the working directory.
    pub fn fetch(file: WalFile, destination: &Path) -> Result<Errand, Failure> {
        Ok(Errand::Fetch(file.to_string(), absolute(destination)?))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::new(Code::Failed, format!("find the working directory of {}: {error}", path.display()))
    })
}

/// What a command sends.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    build: String,
    settings: u64,
    /// Whose file it is.
    pub source: SourceName,
    /// What to do.
    pub errand: Errand,
}

impl Request {
    /// Whether it comes from the same build with settings of this fingerprint.
    pub fn fits(&self, settings: u64) -> bool {
        self.build == BUILD && self.settings == settings
    }
}

/// What the agent answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Done; with this exit code, and this for scripts.
    Done(Code, serde_json::Value),
    /// Not done.
    Failed(Failure),
    /// The command is to do it by itself, for this reason.
    Alone(String),
}

/// Where the agent of these settings listens: as they say, else in a folder of this user's own in `/tmp`, under a name that
/// settings and vault decide. `STRONGROOM_SOCKET` outweighs both.
pub fn socket(context: &Context) -> PathBuf {
    // A server that a restore starts hands it to its commands.
    let given = std::env::var_os("STRONGROOM_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = || {
        let settings = context.settings.path.as_deref().unwrap_or(Path::new(""));
        let vault = context.global.vault.as_deref().unwrap_or_default();
        let name = fingerprint(format!("{}\0{vault}", settings.display()).as_bytes());
        own_folder().join(format!("{name:016x}.sock"))
    };
    given.or_else(|| context.settings.agent.socket.clone()).unwrap_or_else(usual)
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The folder that sockets are in by default.
fn own_folder() -> PathBuf {
    PathBuf::from(format!("/tmp/strongroom-{}", user()))
}

/// Makes that folder, and makes sure that it is nobody else's.
fn make_own_folder() -> Result<(), Failure> {
    let folder = own_folder();
    let of_folder = |error: std::io::Error| {
        Failure::new(Code::Failed, format!("make {} for the agent's socket: {error}", folder.display()))
    };
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(of_folder(error)),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&folder).map_err(of_folder)?;
    if !found.is_dir() || found.uid() != user() || found.mode() & 0o022 != 0 {
        let failure =
            Failure::new(Code::Failed, format!("{} is not this user's own folder", folder.display()));
        return Err(
            failure.hint("remove it, or set socket in [agent] to a place that only this user can write to")
        );
    }
    Ok(())
}

/// An agent's end of the socket.
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Held as long as this one listens: a second agent stays away.
    _lock: File,
}

impl Listener {
    /// Listens where the commands of these settings look for an agent.
    pub fn bind(context: &Context) -> Result<Listener, Failure> {
        let path = socket(context);
        if path.parent() == Some(&own_folder()) {
            make_own_folder()?;
        }
        let of_socket = |error: std::io::Error| {
            Failure::new(Code::Failed, format!("listen at {}: {error}", path.display()))
                .hint("set socket in [agent] to a place in a folder that this user can write to")
        };
        let lock = File::create(path.with_extension("lock")).map_err(of_socket)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let says = format!("an agent of these settings listens at {}", path.display());
                let hint = "stop it first; two of different settings or vaults can run side by side";
                return Err(Failure::new(Code::Conflict, says).hint(hint));
            }
            Err(TryLockError::Error(error)) => return Err(of_socket(error)),
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(of_socket(error)),
            _ => {}
        }
        let socket = UnixListener::bind(&path).map_err(of_socket)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(of_socket)?;
        Ok(Listener { socket, path, _lock: lock })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next command that has an errand.
    pub async fn accept(&self) -> std::io::Result<UnixStream> {
        self.socket.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A socket that nobody listens at is in nobody's way: the next agent removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether who is at the other end is this user, or root.
pub fn is_trusted(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == user() || peer.uid() == 0)
}

/// Has the agent do an errand; `None` if there is none that does it.
pub async fn ask(context: &Context, source: &SourceName, errand: Errand) -> Option<Result<Outcome, Failure>> {
    let path = socket(context);
    let stream = match tokio::time::timeout(CONNECTING, UnixStream::connect(&path)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => {
            tracing::debug!("no agent at {}: {why}", path.display());
            return None;
        }
        Err(_) => {
            tracing::warn!("the agent at {} does not take part", path.display());
            return None;
        }
    };
    if !is_trusted(&stream) {
        tracing::warn!("{} belongs to another user: it is left alone", path.display());
        return None;
    }
    let settings = context.settings.fingerprint;
    let request = Request { build: BUILD.to_owned(), settings, source: source.clone(), errand };
    match send(stream, &request).await {
        Ok(Answer::Done(code, json)) => Some(Ok(Outcome::new(&json, "").with_code(code))),
        Ok(Answer::Failed(failure)) => Some(Err(failure)),
        Ok(Answer::Alone(why)) => {
            tracing::info!("without the agent: {why}");
            None
        }
        Err(why) => {
            tracing::warn!("the agent at {} broke off: {why}", path.display());
            None
        }
    }
}

async fn send(mut stream: UnixStream, request: &Request) -> std::io::Result<Answer> {
    let line = serde_json::to_vec(request)?;
    stream.write_all(&line).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Reads a request, up to where its sender stops.
pub async fn receive(stream: &mut UnixStream) -> std::io::Result<Request> {
    let mut request = Vec::new();
    stream.take(LONGEST).read_to_end(&mut request).await?;
    Ok(serde_json::from_slice(&request)?)
}

/// Sends the answer.
pub async fn answer(stream: &mut UnixStream, answer: &Answer) -> std::io::Result<()> {
    stream.write_all(&serde_json::to_vec(answer)?).await?;
    stream.shutdown().await
}
