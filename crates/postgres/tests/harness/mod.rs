//! A running server and connections to it, as these tests want them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test runs programs, and prints why it did not run"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use strongroom_model::{Clock, Cx, Entropy, Timestamp};
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions, run};
use strongroom_postgres::connect::{self, Client};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::refusal::ConnectError;
use strongroom_postgres::version::Major;

/// A server of its own for one test; gone when dropped.
pub struct Server {
    pub cluster: Cluster,
    /// Holds the data of a standby.
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    /// Initialises and starts a server with these lines in its configuration.
    pub fn start(settings: &str) -> Server {
        let options = InitOptions { settings: settings.to_owned(), ..InitOptions::default() };
        let mut cluster = Cluster::init(&Binaries::newest().unwrap(), &options).unwrap();
        cluster.start().unwrap();
        Server { cluster, _folder: None }
    }

    /// A standby of this server, in recovery when this returns.
    pub fn standby(&self) -> Server {
        let folder = self.cluster.binaries().folder("strongroom-standby-").unwrap();
        let data = folder.path().join("data");
        run(self.cluster.client("pg_basebackup").args(["-R", "-c", "fast", "-D"]).arg(&data)).unwrap();
        let mut cluster = Cluster::adopt(self.cluster.binaries(), &data).unwrap();
        cluster.start().unwrap();
        Server { cluster, _folder: Some(folder) }
    }

    /// Where its files are.
    pub fn data(&self) -> &Path {
        self.cluster.data()
    }

    /// The folder of its socket.
    pub fn socket(&self) -> String {
        self.cluster.folder().display().to_string()
    }

    /// A folder of its owner, beside its data.
    pub fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.cluster.folder().join(name);
        std::fs::create_dir(&path).unwrap();
        self.cluster.binaries().give(&path).unwrap();
        path
    }

    /// Gives a file beside its data to its owner alone, as keys must be.
    pub fn own(&self, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.cluster.folder().join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.cluster.binaries().give(&path).unwrap();
    }

    /// Ends it at once.
    pub fn stop(&mut self) {
        self.cluster.stop("immediate").unwrap();
    }

    /// Ends it in order and starts it again, on another port.
    pub fn restart(&mut self) {
        self.cluster.stop("fast").unwrap();
        self.cluster.start().unwrap();
    }

    /// Replaces one of its files.
    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.data().join(file), text).unwrap();
    }

    /// A connection string, plus what is given.
    pub fn conninfo(&self, more: &str) -> Conninfo {
        Conninfo::read(&format!("{} {more}", self.cluster.conninfo()), &|_| None).unwrap()
    }

    pub async fn try_connect(&self, more: &str) -> Result<Client, ConnectError> {
        connect::connect(&self.conninfo(more)).await
    }

    pub async fn connect(&self, more: &str) -> Client {
        self.try_connect(more).await.unwrap()
    }

    /// Runs statements as the superuser, one by one.
    pub async fn sql(&self, statements: &[&str]) {
        let client = self.connect("application_name=test").await;
        for statement in statements {
            client.run("prepare a test", statement).await.unwrap();
        }
    }

    /// One value, as text.
    pub async fn ask(&self, sql: &str) -> String {
        let client = self.connect("application_name=test").await;
        client.row("ask in a test", sql, &[]).await.unwrap().get(0)
    }
}

/// Every server these tests can run; says so when there is none, and fails where there must be one.
pub fn servers() -> Vec<Binaries> {
    let chroots = std::env::var("STRONGROOM_TEST_CHROOTS").unwrap_or_default();
    let chroots = chroots.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let inside =
        chroots.flat_map(|dir| Major::all().filter_map(move |major| Binaries::in_chroot(major, &dir).ok()));
    let found: Vec<Binaries> =
        Major::all().filter_map(|major| Binaries::native(major).ok()).chain(inside).collect();
    if let (true, Err(reason)) = (found.is_empty(), Binaries::newest()) {
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        println!("not tested: {reason}");
    }
    found
}

/// Runs `openssl` with these words as arguments in a folder.
pub fn openssl(folder: &str, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
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
