//! What stands in for the vault in these tests: all parts of a dump in memory, and from there into a target.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::disallowed_methods, reason = "a test writes programs and runs them")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use strongroom_engine::{DumpEngine, DumpTarget, Dumped, EngineError, Loaded};
use strongroom_model::Cx;
use strongroom_model::entry::EntryPath;
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions, run};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::logical::dump::Logical;
use strongroom_postgres::logical::facts::LogicalFacts;
use strongroom_postgres::logical::load::Load;
use strongroom_postgres::logical::options::{LoadOptions, Scope, Without};
use strongroom_postgres::logical::program::Programs;
use strongroom_postgres::logical::roles::RoleMap;

/// A server, and the client programs of its version.
pub struct Server {
    pub cluster: Cluster,
    pub programs: Programs,
    /// The same path here and where the programs run.
    pub scratch: Scratch,
    _folder: tempfile::TempDir,
    /// Holds the data of a standby.
    _data: Option<tempfile::TempDir>,
}

/// A folder that a program in a chroot finds under the same path.
pub struct Scratch {
    pub path: PathBuf,
    link: Option<PathBuf>,
    _folder: tempfile::TempDir,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            std::fs::remove_file(link).unwrap();
        }
    }
}

impl Server {
    pub fn start(binaries: &Binaries, settings: &str) -> Server {
        let settings = format!("wal_level = logical\nmax_prepared_transactions = 2\n{settings}");
        let options = InitOptions { settings, ..InitOptions::default() };
        let mut cluster = Cluster::init(binaries, &options).unwrap();
        cluster.start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        wrap(binaries, folder.path());
        let programs = Programs { folder: Some(folder.path().to_owned()) };
        Server { cluster, programs, scratch: scratch(binaries), _folder: folder, _data: None }
    }

    pub fn conninfo(&self, database: &str) -> Conninfo {
        self.conninfo_as(database, "postgres")
    }

    pub fn conninfo_as(&self, database: &str, user: &str) -> Conninfo {
        // By address: a program in a chroot finds no socket of ours.
        let database = database.replace('\\', "\\\\").replace('\'', "\\'");
        let text = format!("host=127.0.0.1 port={} user={user} dbname='{database}'", self.cluster.port());
        Conninfo::read(&text, &|_| None).unwrap()
    }

    pub fn logical(&self, database: &str) -> Logical {
        Logical::new(self.conninfo(database), self.programs.clone())
    }

    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.cluster.sql_in(database, sql).unwrap()
    }

    /// What `pg_dump` writes of a database, without what is another each time.
    pub fn text(&self, database: &str) -> String {
        let mut command = self.cluster.client("pg_dump");
        // Which partition a hashed enum lies in is another one in each database.
        command.args(["--no-sync", "--exclude-table-data=app.moods_*", "-d", database]);
        let output = run(&mut command).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_steady = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
        text.lines().filter(is_steady).collect::<Vec<_>>().join("\n")
    }
}

/// Programs of this version, as one folder of them; those of a chroot run in it.
fn wrap(binaries: &Binaries, folder: &Path) {
    for program in ["pg_dump", "pg_restore", "pg_dumpall"] {
        let command = binaries.command(program);
        let command = command.as_std_path();
        let path = folder.join(program);
        std::fs::write(&path, format!("#!/bin/sh\nexec {command} \"$@\"\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

trait AsShell {
    fn as_std_path(&self) -> String;
}

impl AsShell for std::process::Command {
    fn as_std_path(&self) -> String {
        let words = std::iter::once(self.get_program()).chain(self.get_args());
        words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }
}

fn scratch(binaries: &Binaries) -> Scratch {
    let folder = binaries.folder("strongroom-scratch-").unwrap();
    let inside = binaries.inside(folder.path());
    let link = (inside != folder.path()).then(|| inside.clone());
    if let Some(link) = &link {
        std::os::unix::fs::symlink(folder.path(), link).unwrap();
    }
    Scratch { path: inside, link, _folder: folder }
}

/// A dump, in memory.
pub struct Held {
    pub parts: BTreeMap<String, Vec<u8>>,
    pub dumped: Dumped,
}

impl Held {
    pub fn facts(&self) -> LogicalFacts {
        LogicalFacts::read(&self.dumped.facts).unwrap()
    }
}

/// Takes a dump, several parts at a time.
pub async fn dump(cx: &Cx, engine: &Logical) -> Result<Held, EngineError> {
    dump_with(cx, engine, async |_| {}).await
}

/// Takes a dump and does something when this many parts have been read.
pub async fn dump_with(
    cx: &Cx,
    engine: &Logical,
    mut meanwhile: impl AsyncFnMut(usize),
) -> Result<Held, EngineError> {
    let session = engine.start(cx).await?;
    let mut parts = BTreeMap::new();
    meanwhile(0).await;
    let all: Vec<usize> = (0..session.parts().len()).collect();
    let mut done = 0;
    for some in all.chunks(2) {
        let mut readers = Vec::new();
        for at in some {
            readers.push((*at, session.open(cx, *at).await?, Vec::new()));
        }
        // By turns, so that two are under way.
        let mut open = readers.len();
        while open > 0 {
            open = 0;
            for (_, reader, bytes) in &mut readers {
                if let Some(piece) = reader.next(cx).await? {
                    bytes.extend_from_slice(&piece);
                    open += 1;
                }
            }
        }
        done += readers.len();
        for (at, _, bytes) in readers {
            parts.insert(session.parts()[at].path.to_string(), bytes);
        }
        meanwhile(done).await;
    }
    Ok(Held { parts, dumped: session.stop(cx).await? })
}

/// Restores what is held.
pub async fn load(cx: &Cx, target: &dyn DumpTarget, held: &Held) -> Result<Loaded, EngineError> {
    load_with(cx, target, held, async || {}).await
}

/// Restores what is held and does something before it is checked.
pub async fn load_with(
    cx: &Cx,
    target: &dyn DumpTarget,
    held: &Held,
    meanwhile: impl AsyncFnOnce(),
) -> Result<Loaded, EngineError> {
    let plan = target.plan(cx, &held.dumped).await?;
    assert!(!plan.steps.is_empty());
    for part in &plan.first {
        write(cx, target, part, held).await?;
    }
    for some in plan.rest.chunks(2) {
        let (first, second) = (&some[0], some.get(1));
        let second = async {
            match second {
                Some(part) => write(cx, target, part, held).await,
                None => Ok(()),
            }
        };
        let (first, second) = tokio::join!(write(cx, target, first, held), second);
        first?;
        second?;
    }
    meanwhile().await;
    target.finish(cx).await
}

async fn write(cx: &Cx, target: &dyn DumpTarget, part: &EntryPath, held: &Held) -> Result<(), EngineError> {
    let mut writer = target.open(cx, part).await?;
    // Cut anywhere.
    for piece in held.parts[&part.to_string()].chunks(99_991) {
        writer.write(cx, bytes::Bytes::copy_from_slice(piece)).await?;
    }
    writer.close(cx).await
}

impl Server {
    /// Options for a restore here.
    pub fn options(&self, scope: Scope) -> LoadOptions {
        LoadOptions {
            scope,
            replace: false,
            roles: RoleMap::default(),
            no_owner: false,
            no_privileges: false,
            no_tablespaces: false,
            without: Without::default(),
            jobs: 2,
            id: "t1".to_owned(),
            scratch: Some(self.scratch.path.clone()),
            programs: self.programs.clone(),
        }
    }

    pub fn target(&self, options: LoadOptions) -> Load {
        Load::new(self.conninfo("postgres"), options)
    }
}

impl Server {
    /// A standby of this server that has replayed everything there is.
    pub fn standby(&self) -> Server {
        let binaries = self.cluster.binaries();
        let folder = binaries.folder("strongroom-standby-").unwrap();
        let data = folder.path().join("data");
        let mut command = self.cluster.client("pg_basebackup");
        run(command.args(["-R", "-c", "fast", "-D"]).arg(binaries.inside(&data))).unwrap();
        let mut cluster = Cluster::adopt(binaries, &data).unwrap();
        cluster.start().unwrap();
        let programs = tempfile::tempdir().unwrap();
        wrap(binaries, programs.path());
        Server {
            cluster,
            programs: Programs { folder: Some(programs.path().to_owned()) },
            scratch: scratch(binaries),
            _folder: programs,
            _data: Some(folder),
        }
    }
}
