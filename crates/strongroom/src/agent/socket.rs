//! The unix socket between the agent and the two commands that PostgreSQL calls: one errand per connection, one line each way.
//!
//! **Invariant**: whatever stands between a command and the agent (no agent, another user's, other settings, another build, a
//! broken connection), the command then does the errand by itself. Only an answer that came whole counts.

#![allow(clippy::disallowed_methods, reason = "this module is where the socket's files are made and removed")]

use std::fs::{File, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Names the socket of the agent that a restore is while the server it started recovers: that server hands it to its commands.
pub const OF_RESTORE: &str = "STRONGROOM_SOCKET";

/// Where the agent of these settings listens: as they say, else in a folder of this user's own in `/tmp`, under a name that
/// settings and vault decide.
fn socket(context: &Context) -> PathBuf {
    let usual = || {
        let settings = context.settings.path.as_deref().unwrap_or(Path::new(""));
        let vault = context.global.vault.as_deref().unwrap_or_default();
        let name = fingerprint(format!("{}\0{vault}", settings.display()).as_bytes());
        own_folder().join(format!("{name:016x}.sock"))
    };
    context.settings.agent.socket.clone().unwrap_or_else(usual)
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
    /// Held as long as this one listens: a second agent of the same settings stays away.
    _lock: Option<File>,
}

impl Listener {
    /// Listens where the commands of these settings look for an agent.
    pub fn bind(context: &Context) -> Result<Listener, Failure> {
        let path = socket(context);
        if path.parent() == Some(&own_folder()) {
            make_own_folder()?;
        }
        let of_lock = |error: std::io::Error| Listener::failure(&path, &error);
        let lock = File::create(path.with_extension("lock")).map_err(of_lock)?;
        match lock.try_lock() {
            Ok(()) => Listener::at(path, Some(lock)),
            Err(TryLockError::WouldBlock) => {
                let says = format!("an agent of these settings listens at {}", path.display());
                let hint = "stop it first; two of different settings or vaults can run side by side";
                Err(Failure::new(Code::Conflict, says).hint(hint))
            }
            Err(TryLockError::Error(error)) => Err(of_lock(error)),
        }
    }

    /// Listens for the commands of a server that this process starts, which may start several.
    pub fn of_restore() -> Result<Listener, Failure> {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        make_own_folder()?;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("restore-{}-{number}.sock", std::process::id());
        Listener::at(own_folder().join(name), None)
    }

    fn at(path: PathBuf, lock: Option<File>) -> Result<Listener, Failure> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Listener::failure(&path, &error));
            }
            _ => {}
        }
        let socket = UnixListener::bind(&path).map_err(|error| Listener::failure(&path, &error))?;
        let listener = Listener { socket, path, _lock: lock };
        std::fs::set_permissions(&listener.path, Permissions::from_mode(0o600))
            .map_err(|error| Listener::failure(&listener.path, &error))?;
        Ok(listener)
    }

    fn failure(path: &Path, error: &std::io::Error) -> Failure {
        Failure::new(Code::Failed, format!("listen at {}: {error}", path.display()))
            .hint("set socket in [agent] to a place in a folder that this user can write to")
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
    let of_restore = std::env::var_os(OF_RESTORE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut found = None;
    for path in of_restore.into_iter().chain([socket(context)]) {
        if let Some(stream) = connect(&path).await {
            found = Some((path, stream));
            break;
        }
    }
    let (path, stream) = found?;
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

/// A connection to the agent that listens here, if one of this user's does.
async fn connect(path: &Path) -> Option<UnixStream> {
    match tokio::time::timeout(CONNECTING, UnixStream::connect(path)).await {
        Ok(Ok(stream)) if is_trusted(&stream) => return Some(stream),
        Ok(Ok(_)) => tracing::warn!("{} belongs to another user: it is left alone", path.display()),
        Ok(Err(why)) => tracing::debug!("no agent at {}: {why}", path.display()),
        Err(_) => tracing::warn!("the agent at {} does not take part", path.display()),
    }
    None
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
