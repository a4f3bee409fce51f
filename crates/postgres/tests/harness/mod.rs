//! A throw-away PostgreSQL server for tests: own folder, own socket, no TCP unless asked for; gone when dropped.

#![allow(clippy::unwrap_used, dead_code)]

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use strongroom_model::{Clock, Cx, Entropy, Timestamp};
use strongroom_postgres::connect::{self, Client, ConnectError};
use strongroom_postgres::conninfo::Conninfo;

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A running server.
pub struct Server {
    folder: tempfile::TempDir,
    pub port: u16,
}

/// A command run as whoever may run a server: root may not.
fn command(program: &str) -> Command {
    let mut command = Command::new(format!("{BIN}/{program}"));
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = postgres_user();
        command.uid(uid).gid(gid).env("HOME", "/tmp");
    }
    command.current_dir("/").env_remove("PGHOST").env_remove("PGUSER");
    command
}

fn postgres_user() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).expect("there is a user postgres");
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    /// Initialises and starts a server with these lines in its configuration.
    pub fn start(settings: &str) -> Server {
        let folder = tempfile::Builder::new().prefix("strongroom-pg-").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = postgres_user();
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Server { folder, port: free };
        run(command("initdb").args(["-D", server.data().to_str().unwrap()]).args([
            "-U",
            "postgres",
            "--auth=trust",
            "--data-checksums",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]));
        let socket = server.socket();
        server.append(
            "postgresql.conf",
            &format!("listen_addresses = ''\nssl = off\nunix_socket_directories = '{socket}'\nport = {free}\n{settings}\n"),
        );
        server.control("start");
        server
    }

    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of its socket.
    pub fn socket(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// A folder of its owner, beside its data.
    pub fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = postgres_user();
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
        path
    }

    /// Gives a file beside its data to its owner alone, as keys must be.
    pub fn own(&self, name: &str) {
        let path = self.folder.path().join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = postgres_user();
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// `start`, `restart`, `promote`, or `stop` at once.
    pub fn control(&self, action: &str) {
        let log = self.folder.path().join("log");
        let mut command = command("pg_ctl");
        command.args([action, "-w", "-D"]).arg(self.data());
        match action {
            "start" | "restart" => command.arg("-l").arg(log),
            "stop" => command.args(["-m", "immediate"]),
            _ => &mut command,
        };
        // The server inherits what pg_ctl was given: with pipes, waiting for their end would wait for the server.
        let status =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap();
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        assert!(status.success(), "pg_ctl {action}: {}", log());
    }

    /// Adds lines to one of its files.
    pub fn append(&self, file: &str, text: &str) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).open(self.data().join(file)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Replaces one of its files.
    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.data().join(file), text).unwrap();
    }

    /// A connection string, plus what is given.
    pub fn conninfo(&self, more: &str) -> Conninfo {
        let socket = self.socket();
        Conninfo::read(&format!("host={socket} port={} user=postgres {more}", self.port), &|_| None).unwrap()
    }

    pub async fn try_connect(&self, more: &str) -> Result<Client, ConnectError> {
        connect::connect(&self.conninfo(more)).await
    }

    pub async fn connect(&self, more: &str) -> Client {
        self.try_connect(more).await.unwrap()
    }

    /// Runs statements as the superuser, one by one.
    pub async fn sql(&self, statements: &[&str]) {
        let client = self.connect("").await;
        for statement in statements {
            client.run("prepare a test", statement).await.unwrap();
        }
    }

    /// One value, as text.
    pub async fn ask(&self, sql: &str) -> String {
        let client = self.connect("").await;
        let row = client.row("ask in a test", sql, &[]).await.unwrap();
        row.get(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            let _ = command("pg_ctl").args(["stop", "-m", "immediate", "-w", "-D"]).arg(self.data()).output();
        }
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now())
    }
}

struct NoEntropy;

impl Entropy for NoEntropy {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

/// Surroundings with the real clock.
pub fn cx() -> Cx {
    Cx::new(Arc::new(SystemClock), Arc::new(NoEntropy))
}
