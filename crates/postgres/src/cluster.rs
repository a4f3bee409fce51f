//! A throw-away PostgreSQL server, for tests (feature `test-cluster`; no part of the product).
//!
//! Finds the server's programs on this host or in a chroot beside it, runs them as a user who may run them (root may
//! not: then as `postgres`), keeps everything in a folder of its own and stops the server when dropped.

#![allow(clippy::disallowed_methods, reason = "test support starts processes and writes configuration files")]

use std::ffi::OsStr;
use std::io::{self, Seek, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::version::Major;

/// Why a test's server does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nothing to run.
    #[error("no PostgreSQL server programs in {looked}: install a package such as postgresql-15")]
    NotInstalled {
        /// Where they would be.
        looked: String,
    },
    /// Root cannot run a server, and there is nobody else.
    #[error("{passwd} has no user postgres for root to run the server as")]
    NoUser {
        /// Where users are.
        passwd: String,
    },
    /// A file or process could not be had.
    #[error("{operation} {object}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program did not succeed.
    #[error("{command}: {said}")]
    Program {
        /// The whole command.
        command: String,
        /// What it, or the server's log, said.
        said: String,
    },
}

/// The programs of one version, and where and as whom they run.
#[derive(Clone, Debug)]
pub struct Binaries {
    major: Major,
    /// The chroot's folder as seen from here; `None` runs on the host itself.
    chroot: Option<PathBuf>,
    folder: PathBuf,
    /// User and group, when they are not our own.
    run_as: Option<(u32, u32)>,
}

impl Binaries {
    /// The newest version installed on this host.
    pub fn newest() -> Result<Binaries, ClusterError> {
        Major::all().rev().find_map(|major| Binaries::native(major).ok()).ok_or_else(|| {
            ClusterError::NotInstalled { looked: "/usr/lib/postgresql/<version>/bin".to_owned() }
        })
    }

    /// This version, on this host.
    pub fn native(major: Major) -> Result<Binaries, ClusterError> {
        Binaries::find(major, None)
    }

    /// This version, in the file system tree at `chroot` (which takes root).
    pub fn in_chroot(major: Major, chroot: &Path) -> Result<Binaries, ClusterError> {
        Binaries::find(major, Some(chroot.to_owned()))
    }

    fn find(major: Major, chroot: Option<PathBuf>) -> Result<Binaries, ClusterError> {
        let root = chroot.clone().unwrap_or_else(|| PathBuf::from("/"));
        let folder = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        let seen_from_here = root.join(folder.strip_prefix("/").unwrap_or(&folder));
        if !seen_from_here.join("initdb").exists() {
            return Err(ClusterError::NotInstalled { looked: seen_from_here.display().to_string() });
        }
        let run_as = match rustix::process::geteuid().is_root() {
            true => Some(postgres_user(&root.join("etc/passwd"))?),
            false => None,
        };
        Ok(Binaries { major, chroot, folder, run_as })
    }

    /// Which version.
    pub fn major(&self) -> Major {
        self.major
    }

    /// The newest version before this one in the same place.
    pub fn older(&self) -> Option<Binaries> {
        let older = Major::all().rev().filter(|major| *major < self.major);
        older.into_iter().find_map(|major| Binaries::find(major, self.chroot.clone()).ok())
    }

    /// User and group the server runs as, when they are not our own.
    pub fn run_as(&self) -> Option<(u32, u32)> {
        self.run_as
    }

    /// `program` of this version, to be run where and as whom the server runs.
    pub fn command(&self, program: &str) -> Command {
        let program = self.folder.join(program);
        let mut command = match (&self.chroot, self.run_as) {
            (None, Some((uid, gid))) => {
                let mut command = Command::new(program);
                command.uid(uid).gid(gid);
                command
            }
            (None, None) => Command::new(program),
            (Some(chroot), run_as) => {
                let mut command = Command::new("chroot");
                command.args(run_as.map(|(uid, gid)| format!("--userspec={uid}:{gid}")));
                command.arg(chroot).arg(program);
                command
            }
        };
        let variables = std::env::vars_os().map(|(name, _)| name);
        variables.filter(|name| name.as_encoded_bytes().starts_with(b"PG")).for_each(|name| {
            command.env_remove(name);
        });
        command.env("LC_ALL", "C.UTF-8").env("HOME", "/tmp").current_dir("/").stdin(Stdio::null());
        command
    }

    /// A path on this host as the programs see it.
    pub fn inside(&self, path: &Path) -> PathBuf {
        match self.chroot.as_ref().and_then(|chroot| path.strip_prefix(chroot).ok()) {
            Some(rest) => Path::new("/").join(rest),
            None => path.to_owned(),
        }
    }

    /// A new empty folder that the server may use.
    pub fn folder(&self, prefix: &str) -> Result<tempfile::TempDir, ClusterError> {
        let parent = self.chroot.as_ref().map_or_else(std::env::temp_dir, |chroot| chroot.join("tmp"));
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(&parent);
        let folder = folder.map_err(|source| io_error("create a folder in", &parent, source))?;
        self.give(folder.path())?;
        Ok(folder)
    }

    /// Gives a file or folder to the server's user.
    pub fn give(&self, path: &Path) -> Result<(), ClusterError> {
        match self.run_as {
            Some((uid, gid)) => {
                chown(path, Some(uid), Some(gid)).map_err(|source| io_error("give away", path, source))
            }
            None => Ok(()),
        }
    }
}

/// How to initialise a cluster.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Whether pages carry checksums.
    pub checksums: bool,
    /// Size of WAL segments in MiB.
    pub segment_mib: u32,
    /// Further lines of `postgresql.conf`.
    pub settings: String,
}

impl Default for InitOptions {
    fn default() -> InitOptions {
        InitOptions { checksums: true, segment_mib: 16, settings: String::new() }
    }
}

/// A cluster and, between `start` and `stop`, its server. The role is `postgres`; connections need no password.
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    data: PathBuf,
    port: u16,
    /// Holds the socket and the log, and the data unless they were adopted.
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Initialises a cluster.
    pub fn init(binaries: &Binaries, options: &InitOptions) -> Result<Cluster, ClusterError> {
        let folder = binaries.folder("strongroom-pg-")?;
        let data = folder.path().join("data");
        let mut command = binaries.command("initdb");
        command.arg("-D").arg(binaries.inside(&data)).args(["-U", "postgres", "--auth=trust", "--no-sync"]);
        command
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            .arg(format!("--wal-segsize={}", options.segment_mib));
        match (options.checksums, binaries.major().number()) {
            (true, _) => drop(command.arg("--data-checksums")),
            (false, 18..) => drop(command.arg("--no-data-checksums")),
            (false, _) => {}
        }
        run(&mut command)?;
        let cluster = Cluster { binaries: binaries.clone(), data, port: 0, folder };
        cluster.configure("max_wal_senders = 4\nmax_connections = 30\nshared_buffers = 32MB")?;
        cluster.configure(&options.settings)?;
        Ok(cluster)
    }

    /// A cluster whose data directory is there already, such as a restored one. Dropping stops the server and leaves
    /// the directory.
    pub fn adopt(binaries: &Binaries, data: &Path) -> Result<Cluster, ClusterError> {
        let folder = binaries.folder("strongroom-pg-")?;
        Ok(Cluster { binaries: binaries.clone(), data: data.to_owned(), port: 0, folder })
    }

    /// Starts the server on a free port and waits until it answers.
    pub fn start(&mut self) -> Result<(), ClusterError> {
        let mut tries = 5;
        loop {
            match self.start_on(free_port()?) {
                // Another test can take the port between our look and the server's.
                Err(_) if tries > 1 && self.log().contains("Address already in use") => tries -= 1,
                result => return result,
            }
        }
    }

    /// Starts the server where it was before, for clients that come back.
    pub fn start_at(&mut self, port: u16) -> Result<(), ClusterError> {
        // Of a server that was killed, in containers whose first process reaps nobody: it would be taken for alive.
        let _ = std::fs::remove_file(self.folder.path().join(format!(".s.PGSQL.{port}.lock")));
        self.start_on(port)
    }

    fn start_on(&mut self, port: u16) -> Result<(), ClusterError> {
        self.port = port;
        let _ = std::fs::remove_file(self.folder.path().join("log"));
        let options = format!(
            "-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off",
            self.socket_folder().display()
        );
        let log = self.binaries.inside(&self.folder.path().join("log"));
        let mut command = self.control("start");
        command.arg("-t").arg("60").arg("-l").arg(log).arg("-o").arg(options);
        // The server inherits what pg_ctl was given: with a pipe, waiting for its end would wait for the server.
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let status = status.map_err(|source| io_error("run", "pg_ctl", source))?;
        if status.success() {
            return Ok(());
        }
        Err(ClusterError::Program { command: format!("{command:?}"), said: self.log() })
    }

    /// Stops the server: `smart`, `fast` or `immediate`.
    pub fn stop(&mut self, mode: &str) -> Result<(), ClusterError> {
        run(self.control("stop").arg("-m").arg(mode)).map(drop)
    }

    /// Ends a standby's or a recovery's waiting.
    pub fn promote(&self) -> Result<(), ClusterError> {
        run(&mut self.control("promote")).map(drop)
    }

    /// Kills the server and all its processes as a power cut would, and waits until they are gone.
    pub fn kill(&self) -> Result<(), ClusterError> {
        let file = self.data.join("postmaster.pid");
        let text = std::fs::read_to_string(&file).map_err(|source| io_error("read", &file, source))?;
        let server: Option<i32> = text.lines().next().and_then(|line| line.parse().ok());
        let server = server.ok_or_else(|| io_error("read", &file, io::ErrorKind::InvalidData.into()))?;
        let children =
            std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
        let all =
            || std::iter::once(server).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok()));
        // The server first, so that it does not see its children die; they may end by themselves before we get there.
        for pid in all().filter_map(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        for _ in 0..1000 {
            if !all().any(is_alive) {
                // In containers whose first process reaps nobody, the next server would take the dead one for alive.
                return std::fs::remove_file(&file).map_err(|source| io_error("remove", &file, source));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(io_error("kill the server of", &self.data, io::ErrorKind::TimedOut.into()))
    }

    /// Adds lines to `postgresql.conf`; they take effect at the next start.
    pub fn configure(&self, lines: &str) -> Result<(), ClusterError> {
        let path = self.data.join("postgresql.conf");
        let file = std::fs::OpenOptions::new().append(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{lines}"));
        written.map_err(|source| io_error("write", &path, source))
    }

    /// Runs statements in the database `postgres`, in one session, each its own transaction; the answer as unaligned text, a row a line.
    pub fn sql(&self, sql: &str) -> Result<String, ClusterError> {
        self.sql_in("postgres", sql)
    }

    /// Runs statements in a database.
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String, ClusterError> {
        let mut command = self.client("psql");
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]);
        // By way of a file: statements given as an argument would be one transaction.
        let mut script = tempfile::tempfile().map_err(|source| io_error("write", "a script", source))?;
        let written = script.write_all(sql.as_bytes()).and_then(|()| script.rewind());
        written.map_err(|source| io_error("write", "a script", source))?;
        let output = run(command.stdin(script))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// A client program (`psql`, `pgbench`, `pg_amcheck`) that is told where the server is.
    pub fn client(&self, program: &str) -> Command {
        let mut command = self.binaries.command(program);
        command
            .arg("-h")
            .arg(self.socket_folder())
            .arg("-p")
            .arg(self.port.to_string())
            .args(["-U", "postgres"]);
        command
    }

    /// Runs a program of this version to its end, on files (`pg_checksums -D …`); what it printed.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Result<String, ClusterError> {
        let output = run(self.binaries.command(program).args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Its data directory, as seen from here.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder that holds data, socket and log, owned by the server's user; goes with the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of its socket, as the server sees it.
    pub fn socket_folder(&self) -> PathBuf {
        self.binaries.inside(self.folder.path())
    }

    /// Its port, once started.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How to connect from this host.
    pub fn conninfo(&self) -> String {
        format!("host={} port={} user=postgres dbname=postgres", self.folder.path().display(), self.port)
    }

    /// The programs it runs on.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// What the server wrote since its last start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn control(&self, action: &str) -> Command {
        let mut command = self.binaries.command("pg_ctl");
        command.args([action, "-w", "-D"]).arg(self.binaries.inside(&self.data));
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data.join("postmaster.pid").exists() {
            // Nobody is left to be told when it does not work.
            let _ = self.stop("immediate");
        }
    }
}

/// Whether a process exists and is not merely waiting to be reaped.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in brackets and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Result<Output, ClusterError> {
    let output = command.output().map_err(|source| ClusterError::Io {
        operation: "run",
        object: format!("{command:?}"),
        source,
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    Err(ClusterError::Program { command: format!("{command:?}"), said })
}

fn free_port() -> Result<u16, ClusterError> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.port())
        .map_err(|source| io_error("find a free port on", "127.0.0.1", source))
}

/// Number and group of the user `postgres`.
fn postgres_user(passwd: &Path) -> Result<(u32, u32), ClusterError> {
    let text = std::fs::read_to_string(passwd).map_err(|source| io_error("read", passwd, source))?;
    let fields = text.lines().find(|line| line.starts_with("postgres:")).map(|line| line.split(':').skip(2));
    let numbers =
        fields.and_then(|mut fields| Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)));
    numbers.ok_or_else(|| ClusterError::NoUser { passwd: passwd.display().to_string() })
}

fn io_error(operation: &'static str, object: impl AsRef<Path>, source: io::Error) -> ClusterError {
    ClusterError::Io { operation, object: object.as_ref().display().to_string(), source }
}
