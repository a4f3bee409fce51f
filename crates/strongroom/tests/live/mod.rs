//! A site: a real PostgreSQL, a vault, and the built binary between them. Everything in one folder that goes with it.
//!
//! In a chroot (PostgreSQL 17) the binary runs inside, as the server's user, as it would on a host of that kind.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

pub mod answering;
pub mod cloud;
pub mod desk;
pub mod small;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions};
use strongroom_postgres::version::Major;

/// Longer than anything here takes, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// PostgreSQL of this host, and 17 from the chroot that `./test` makes; says why there is none.
pub fn versions() -> Vec<Binaries> {
    // `cargo xtask matrix` says which: `15`, or `18=/in/this/chroot`.
    if let Ok(named) = std::env::var("STRONGROOM_TEST_VERSIONS") {
        let major = |text: &str| Major::new(text.parse().unwrap()).unwrap();
        let binaries = |named: &str| match named.split_once('=') {
            Some((version, root)) => Binaries::in_chroot(major(version), Path::new(root)).unwrap(),
            None => Binaries::native(major(named)).unwrap(),
        };
        return named.split(',').map(binaries).collect();
    }
    let mut found: Vec<Binaries> = Binaries::newest().into_iter().collect();
    if found.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "there is no PostgreSQL on this host");
        println!("skipped: there is no PostgreSQL on this host (./test installs it)");
    }
    match std::env::var("STRONGROOM_PG17_ROOT") {
        Ok(root) => found.push(Binaries::in_chroot(Major::new(17).unwrap(), Path::new(&root)).unwrap()),
        Err(_) => {
            let reason =
                std::env::var("STRONGROOM_PG17_ABSENT").unwrap_or_else(|_| "./test makes its chroot".into());
            println!("skipped for PostgreSQL 17: {reason}");
        }
    }
    found
}

/// Waits for something that another process does.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        // A process outside ours gives no signal to wait for.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A source named `main`, its vault, and the binary.
pub struct Site {
    /// The server that is protected.
    pub cluster: Cluster,
    /// What it runs on.
    pub binaries: Binaries,
    folder: tempfile::TempDir,
}

impl Site {
    /// Changes the settings.
    pub fn rewrite(&self, change: impl Fn(String) -> String) {
        let path = self.path("strongroom.toml");
        let text = change(std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, text).unwrap();
    }

    /// A running server whose WAL is shipped into a new vault.
    pub fn new(binaries: &Binaries, options: InitOptions) -> Site {
        let folder = binaries.folder("strongroom-site-").unwrap();
        let binary = folder.path().join("strongroom");
        std::fs::copy(env!("CARGO_BIN_EXE_strongroom"), &binary).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
        let inside = binaries.inside(folder.path());
        let command = format!(
            "archive_mode = on\narchive_command = '{0}/strongroom --config {0}/strongroom.toml wal push --source main \"%p\"'\n{1}",
            inside.display(),
            options.settings
        );
        let mut cluster = Cluster::init(binaries, &InitOptions { settings: command, ..options }).unwrap();
        cluster.start().unwrap();
        let site = Site { cluster, binaries: binaries.clone(), folder };
        site.configure("strongroom.toml", &site.cluster);
        site.ok(&["init", "--generate-identity", &site.inside("identity.txt")]);
        site
    }

    /// A folder or file of the site, as seen from here.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same, as the server and the binary see it.
    pub fn inside(&self, name: &str) -> String {
        self.binaries.inside(&self.path(name)).display().to_string()
    }

    /// Writes settings under which `main` is `cluster`.
    pub fn configure(&self, name: &str, cluster: &Cluster) {
        let text = format!(
            "[vault]\nurl = \"{}\"\nidentity_file = \"{}\"\n[source.main]\nkind = \"postgres\"\nconnection = \"host={} port={} user=postgres\"\n",
            self.inside("vault"),
            self.inside("identity.txt"),
            cluster.socket_folder().display(),
            cluster.port(),
        );
        std::fs::write(self.path(name), text).unwrap();
        self.binaries.give(&self.path(name)).unwrap();
    }

    /// The binary with the site's settings, as the server's user.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_with("strongroom.toml", arguments)
    }

    /// The binary with other settings.
    pub fn command_with(&self, settings: &str, arguments: &[&str]) -> Command {
        let mut command = self.binaries.command(&self.inside("strongroom"));
        command.env_remove("STRONGROOM_PASSPHRASE");
        // Paths of the site may be named as they are seen from here.
        let seen = |argument: &&str| match Path::new(argument).starts_with(self.folder.path()) {
            true => self.binaries.inside(Path::new(argument)),
            false => PathBuf::from(argument),
        };
        command.arg("--config").arg(self.inside(settings)).args(arguments.iter().map(seen));
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it and expects success; what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        succeeded(&self.run(arguments), arguments)
    }

    /// Runs it and expects this exit code; all it said.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    /// Takes a recovery point and gives its id.
    pub fn backup(&self) -> String {
        self.backup_with("strongroom.toml")
    }

    /// Takes a recovery point with other settings.
    pub fn backup_with(&self, settings: &str) -> String {
        let output = self.command_with(settings, &["backup", "--output", "json"]).output().unwrap();
        let text = succeeded(&output, &["backup"]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["point"].as_str().unwrap().to_owned()
    }

    /// Restores into a new folder and starts the server there; comes back when it is promoted.
    pub fn restore(&self, name: &str, arguments: &[&str]) -> Cluster {
        let mut words = vec!["restore", "--yes", "--to"];
        let to = self.inside(name);
        words.push(&to);
        words.extend(arguments);
        self.ok(&words);
        self.start(name)
    }

    /// Starts a restored folder; comes back when it is promoted.
    pub fn start(&self, name: &str) -> Cluster {
        let mut cluster = Cluster::adopt(&self.binaries, &self.path(name)).unwrap();
        cluster.start().unwrap();
        until("promotion", || cluster.sql("select pg_is_in_recovery()").is_ok_and(|answer| answer == "f"));
        cluster
    }

    /// Closes the server's open WAL segment and waits until it is shipped.
    pub fn ship(&self, cluster: &Cluster) {
        // Of an empty segment nothing is closed, and versions differ in which they name then.
        cluster.sql("select pg_logical_emit_message(true, 'ship', '')").unwrap();
        let segment = cluster.sql("select pg_walfile_name(pg_switch_wal())").unwrap();
        until(&format!("{segment} to be shipped"), || {
            let shipped = format!(
                "select coalesce(substr(last_archived_wal, 1, 24) >= '{segment}', false) from pg_stat_archiver"
            );
            cluster.sql(&shipped).unwrap() == "t"
        });
    }

    /// Begins a load that goes on until the child is killed.
    pub fn load(&self, scale: u32) -> Child {
        let mut init = self.cluster.client("pgbench");
        let status =
            init.args(["-i", "-q", "-s", &scale.to_string(), "postgres"]).stderr(Stdio::null()).status();
        assert!(status.unwrap().success());
        let mut load = self.cluster.client("pgbench");
        load.args(["-n", "-c", "3", "-T", "300", "postgres"]).stdout(Stdio::null()).stderr(Stdio::null());
        load.spawn().unwrap()
    }

    /// Ends a load, and waits until the server has nothing left to do for it.
    pub fn quiet(&self, mut load: Child) {
        load.kill().unwrap();
        load.wait().unwrap();
        // In a chroot what was killed is `chroot`'s successor, the client itself; its servers end a moment later.
        let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
        until("the load to end", || self.cluster.sql(others).unwrap() == "0");
    }
}

/// Every row of every table of the load, as a digest.
pub fn digest(cluster: &Cluster) -> String {
    let of = |table: &str| {
        format!("select count(*), md5(string_agg(t::text, '|' order by t::text)) from {table} t;")
    };
    let tables = ["pgbench_accounts", "pgbench_tellers", "pgbench_branches", "pgbench_history"];
    cluster.sql(&tables.map(of).concat()).unwrap()
}

/// Stops a restored server cleanly and checks every page's checksum, after every index was checked against its table.
pub fn sound(mut cluster: Cluster) {
    if cluster.binaries().major().number() >= 14 {
        let output = cluster
            .client("pg_amcheck")
            .args(["--all", "--install-missing", "--heapallindexed"])
            .output()
            .unwrap();
        assert!(output.status.success(), "pg_amcheck: {}", said(&output));
    }
    cluster.stop("fast").unwrap();
    let data = cluster.binaries().inside(cluster.data());
    cluster.run("pg_checksums", &["--check".as_ref(), "-D".as_ref(), data.as_os_str()]).unwrap();
}

/// Everything a process printed.
pub fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

fn succeeded(output: &Output, arguments: &[&str]) -> String {
    assert!(output.status.success(), "{arguments:?} exited with {:?}: {}", output.status, said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}
