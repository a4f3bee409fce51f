//! PostgreSQL's own client programs: found, of the right version, told where the server is, and ended when we are.
//!
//! **Invariants**: a password is in no argument, which every user of the host could read; a program never outlives the
//! operation that began it, since `pg_restore` would go on writing.

#![allow(clippy::disallowed_methods, reason = "finds programs and runs them")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use strongroom_model::Cx;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::conninfo::{Conninfo, Host, SslMode};
use crate::logical::copying::unless_cancelled;
use crate::logical::failure::LogicalError;

/// Bytes kept of what a program says.
const SAID: u64 = 64 << 10;

/// Variables that a program is started with, and beginnings of their names. Of ours it gets no other: they may be secrets, and a
/// dump may tell `psql` to run programs.
const HANDED_ON: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "OPENSSL_CONF"];
const HANDED_ON_BY_BEGINNING: [&str; 3] = ["LC_", "KRB5", "SSL_CERT_"];

/// How long a program may take to end after it was asked to.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Where client programs are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// The only folder to look in; `None` looks where packages put them and on `PATH`.
    pub folder: Option<PathBuf>,
}

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// `pg_dump`, `pg_restore`, `initdb`…
    pub name: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Its major version.
    pub major: u16,
}

impl Programs {
    /// The program of the lowest major version that is `at_least` this. A newer one than needed writes settings that an
    /// older server would not know.
    pub async fn find(&self, name: &'static str, at_least: u16) -> Result<Program, LogicalError> {
        // None is closer than the version itself.
        let found = self.found(name, |major| major == at_least).await;
        match found.range(at_least..).next() {
            Some((&major, path)) => Ok(Program { name, path: path.clone(), major }),
            None => Err(none(name, at_least, (&self.folders(), &found))),
        }
    }

    /// The program of the highest major version.
    pub async fn newest(&self, name: &'static str) -> Result<Program, LogicalError> {
        let found = self.found(name, |_| false).await;
        match found.last_key_value() {
            Some((&major, path)) => Ok(Program { name, path: path.clone(), major }),
            None => Err(none(name, 13, (&self.folders(), &found))),
        }
    }

    /// What is there by major version, until one is enough.
    async fn found(&self, name: &str, is_enough: impl Fn(u16) -> bool) -> BTreeMap<u16, PathBuf> {
        let mut found = BTreeMap::new();
        for path in self.files(name) {
            if let Some(major) = major_of(&path).await {
                found.entry(major).or_insert(path);
                if is_enough(major) {
                    break;
                }
            }
        }
        found
    }

    /// The files of this name, each once. Not Debian's script, which takes longer to choose one of the others than they take for
    /// a small table.
    fn files(&self, name: &str) -> Vec<PathBuf> {
        let mut seen = BTreeSet::new();
        let is_new = |path: &PathBuf| {
            path.canonicalize().is_ok_and(|real| !real.ends_with("pg_wrapper") && seen.insert(real))
        };
        self.folders().iter().map(|folder| folder.join(name)).filter(is_new).collect()
    }

    fn folders(&self) -> Vec<PathBuf> {
        if let Some(folder) = &self.folder {
            return vec![folder.clone()];
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        folders.push("/usr/pgsql/bin".into());
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        folders.extend(versions.map(|version| version.path().join("bin")));
        let others = std::fs::read_dir("/usr").into_iter().flatten().flatten();
        let is_theirs = |path: &PathBuf| path.to_string_lossy().starts_with("/usr/pgsql-");
        folders.extend(others.map(|folder| folder.path()).filter(is_theirs).map(|folder| folder.join("bin")));
        folders
    }
}

fn none(
    program: &'static str,
    at_least: u16,
    (folders, found): (&[PathBuf], &BTreeMap<u16, PathBuf>),
) -> LogicalError {
    let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let found: Vec<String> = found.keys().map(u16::to_string).collect();
    LogicalError::NoProgram { program, at_least, found: found.join(", "), looked: looked.join(", ") }
}

/// `pg_dump (PostgreSQL) 15.14 (Debian …)`, `18beta1`; `None` of one that does not run.
async fn major_of(path: &Path) -> Option<u16> {
    let said =
        Command::new(path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output().await.ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = text.split_whitespace().nth(2)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whether a program gets this variable of ours.
fn is_handed_on(name: &OsStr) -> bool {
    let begins = |beginning: &&str| name.as_encoded_bytes().starts_with(beginning.as_bytes());
    HANDED_ON.iter().any(|known| name == *known) || HANDED_ON_BY_BEGINNING.iter().any(begins)
}

impl Program {
    /// The command that runs it on files alone.
    pub(crate) fn on_files(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_handed_on(name)));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// The command that runs it in a database of the one server that `place` names.
    pub(crate) fn command(&self, conninfo: &Conninfo, place: &str) -> Command {
        let mut command = self.on_files();
        command.envs(environment(conninfo, place));
        // A name may hold what a connection string would take for more than a name.
        let database = conninfo.database.replace('\\', "\\\\").replace('\'', "\\'");
        command.arg(format!("--dbname=dbname='{database}'"));
        command
    }

    /// Runs it to its end; what it printed. Ended when the user asks to stop.
    pub(crate) async fn run(
        &self,
        cx: &Cx,
        command: &mut Command,
        object: &str,
    ) -> Result<Vec<u8>, LogicalError> {
        let mut running = self.start(command)?;
        let printed = running.printed(cx).await?;
        running.end(cx, object).await?;
        Ok(printed)
    }

    /// The same of a program whose failure is an answer: whether it succeeded, and all it said.
    pub(crate) async fn ask(&self, cx: &Cx, command: &mut Command) -> Result<(bool, String), LogicalError> {
        let mut running = self.start(command)?;
        let printed = running.printed(cx).await?;
        let status = running.ended(cx).await?;
        let said = running.said.await.unwrap_or_default();
        let text = format!("{}\n{said}", String::from_utf8_lossy(&printed));
        Ok((status.success(), text.trim().to_owned()))
    }

    /// Runs one that leaves another behind, which would inherit pipes: what it says is not read.
    pub(crate) async fn run_detached(
        &self,
        cx: &Cx,
        command: &mut Command,
        object: &str,
    ) -> Result<(), LogicalError> {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let status =
            unless_cancelled(cx, command.status()).await?.map_err(|source| self.io("run", source))?;
        match status.success() {
            true => Ok(()),
            false => Err(LogicalError::Program {
                program: self.name,
                object: object.to_owned(),
                said: status.to_string(),
            }),
        }
    }

    /// Starts it, to be read by the caller.
    pub(crate) fn start(&self, command: &mut Command) -> Result<Running, LogicalError> {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|source| self.io("run", source))?;
        let stderr = child.stderr.take();
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                // What cannot be read was not said.
                let _ = (&mut stderr).take(SAID).read_to_end(&mut said).await;
                // To its end, or it would wait for us.
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            String::from_utf8_lossy(&said).trim().to_owned()
        });
        Ok(Running { program: self.clone(), child, said })
    }

    fn io(&self, operation: &'static str, source: std::io::Error) -> LogicalError {
        LogicalError::Io { operation, path: self.path.clone(), source }
    }
}

/// SQL that a program wrote, without what is for `psql` alone (`\restrict`, with another word each time).
pub(crate) fn plain_sql(text: &[u8]) -> Vec<u8> {
    let is_sql = |line: &&[u8]| !line.starts_with(b"\\restrict") && !line.starts_with(b"\\unrestrict");
    text.split_inclusive(|byte| *byte == b'\n').filter(is_sql).collect::<Vec<_>>().concat()
}

/// A program that runs.
pub(crate) struct Running {
    program: Program,
    pub(crate) child: Child,
    said: tokio::task::JoinHandle<String>,
}

impl Running {
    /// All it prints, unless the caller took that.
    async fn printed(&mut self, cx: &Cx) -> Result<Vec<u8>, LogicalError> {
        let mut printed = Vec::new();
        let Some(mut stdout) = self.child.stdout.take() else { return Ok(printed) };
        match unless_cancelled(cx, stdout.read_to_end(&mut printed)).await {
            Ok(read) => read.map_err(|source| self.program.io("read from", source))?,
            Err(cancelled) => {
                self.stop().await;
                return Err(cancelled.into());
            }
        };
        Ok(printed)
    }

    /// Waits for its end.
    async fn ended(&mut self, cx: &Cx) -> Result<ExitStatus, LogicalError> {
        let waited = match unless_cancelled(cx, self.child.wait()).await {
            Ok(waited) => waited,
            Err(cancelled) => {
                self.stop().await;
                return Err(cancelled.into());
            }
        };
        waited.map_err(|source| self.program.io("wait for", source))
    }

    /// Waits for its end; what it warned of.
    pub(crate) async fn end(mut self, cx: &Cx, object: &str) -> Result<Vec<String>, LogicalError> {
        let status = self.ended(cx).await?;
        let said = self.said.await.unwrap_or_default();
        if !status.success() {
            let said = if said.is_empty() { status.to_string() } else { said.replace('\n', " ") };
            return Err(LogicalError::Program {
                program: self.program.name,
                object: object.to_owned(),
                said,
            });
        }
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Ends it. Asked first: `pg_restore` then ends what its own children have the server do.
    async fn stop(&mut self) {
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // One that is gone already needs no asking.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            if tokio::time::timeout(ENDS_WITHIN, self.child.wait()).await.is_ok() {
                return;
            }
        }
        // Nobody is left to be told when it does not work.
        let _ = self.child.kill().await;
    }
}

/// libpq's variables for one of the hosts. Only what the connection string says, and nothing of our own surroundings.
fn environment(conninfo: &Conninfo, place: &str) -> Vec<(&'static str, String)> {
    let only = conninfo.only(place);
    let mut variables = vec![
        ("PGUSER", conninfo.user.clone()),
        ("PGAPPNAME", conninfo.application_name.clone()),
        // The password is the one that we connect with, or there is none.
        ("PGPASSFILE", "/nonexistent".to_owned()),
    ];
    if let Some(host) = only.hosts.first() {
        variables.extend(place_of(host));
        let password = conninfo.password_for(host);
        variables.extend(password.map(|password| ("PGPASSWORD", password.expose().to_owned())));
    }
    variables.extend(conninfo.options.clone().map(|options| ("PGOPTIONS", options)));
    variables.push((
        "PGSSLMODE",
        match conninfo.sslmode {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
        .to_owned(),
    ));
    let path = |path: &Path| path.to_string_lossy().into_owned();
    variables.extend(conninfo.sslrootcert.as_deref().map(|root| ("PGSSLROOTCERT", path(root))));
    if let Some((certificate, key)) = &conninfo.client_certificate {
        variables.extend([("PGSSLCERT", path(certificate)), ("PGSSLKEY", path(key))]);
    }
    if conninfo.channel_binding == tokio_postgres::config::ChannelBinding::Require {
        variables.push(("PGCHANNELBINDING", "require".to_owned()));
    }
    variables
}

fn place_of(host: &Host) -> Vec<(&'static str, String)> {
    let mut variables = vec![("PGHOST", host.name.clone()), ("PGPORT", host.port.to_string())];
    variables.extend(host.address.map(|address| ("PGHOSTADDR", address.to_string())));
    variables.retain(|(_, value)| !value.is_empty());
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_handed_on() {
        for name in ["PATH", "LC_ALL", "KRB5CCNAME", "SSL_CERT_FILE", "TZ"] {
            assert!(is_handed_on(OsStr::new(name)), "{name}");
        }
        for name in
            ["PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "STRONGROOM_PASSPHRASE", "POSTGRES_PASSWORD", "PATHS"]
        {
            assert!(!is_handed_on(OsStr::new(name)), "{name}");
        }
    }
}
