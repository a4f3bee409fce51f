//! A file that `pg_dump` made, as something to dump: [`Import`].
//!
//! ```text
//! file looked at ▶ scratch server ▶ its roles and database made ▶ psql or pg_restore, to the first error ▶ dumped as any database
//! ```
//!
//! **Invariants**: what does not restore to its end is not dumped; the scratch server is gone when [`Import::stop`] returns, and
//! soon after this is dropped.

use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;

use bytes::Bytes;
use strongroom_engine::{DumpEngine, DumpInspection, DumpPart, DumpSession, Dumped, EngineError, PartReader};
use strongroom_model::{Cx, Timestamp};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::mpsc;

use crate::connect;
use crate::conninfo::Conninfo;
use crate::guard::as_user;
use crate::logical::copying::unless_cancelled;
use crate::logical::dump::{Logical, NAME};
use crate::logical::facts::{ImportedFact, LeftOut, LogicalFacts};
use crate::logical::failure::LogicalError;
use crate::logical::incoming::{Incoming, Kind};
use crate::logical::program::Programs;
use crate::logical::scratch::{Haste, Scratch, user};
use crate::quote::{quoted_name, quoted_string};

/// The database that others are made from.
const MAINTENANCE: &str = "template1";

/// Bytes handed to `psql` at a time, and how many such pieces wait.
const PIECE: usize = 256 << 10;
const QUEUE: usize = 4;

/// How to import.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Where the server's programs are.
    pub programs: Programs,
    /// The folder to make the scratch server's folder in; the system's for temporary files if `None`.
    pub scratch: Option<PathBuf>,
    /// What the database is called if the file does not say.
    pub database: String,
    /// Roles to be made besides those that the file names.
    pub roles: Vec<String>,
    /// Tables and indexes restored at a time, where the format allows.
    pub jobs: usize,
    /// The moment that the point is to show; when the file was written last if `None`.
    pub taken_at: Option<Timestamp>,
}

/// A file, restored into a scratch server.
pub struct Import {
    scratch: Scratch,
    logical: Logical,
    fact: ImportedFact,
    at: Timestamp,
    /// Whether the file said in which locale its database was.
    has_locale: bool,
}

impl Import {
    /// Restores the file into a server made for it.
    pub async fn restore(
        cx: &Cx,
        incoming: &Incoming,
        options: &ImportOptions,
    ) -> Result<Import, EngineError> {
        let place = (options.scratch.as_deref(), Haste::Hurried);
        let scratch = Scratch::start(cx, &options.programs, incoming.at_least(), place).await?;
        cx.progress.begin("restoring the file", 0);
        match load(cx, &scratch, incoming, options).await {
            Ok(conninfo) => Ok(Import {
                logical: Logical::new(conninfo, scratch.programs.clone()),
                scratch,
                fact: ImportedFact {
                    file: incoming.path.display().to_string(),
                    format: incoming.kind.to_string(),
                    bytes: incoming.bytes,
                    modified: incoming.modified,
                    blake3: incoming.blake3.clone(),
                    server: incoming.server.clone(),
                    pg_dump: incoming.program.clone(),
                },
                at: options.taken_at.unwrap_or(incoming.modified),
                has_locale: incoming.makes_database,
            }),
            Err(error) => {
                scratch.stop().await;
                Err(error.into())
            }
        }
    }

    /// Stops the scratch server and waits until its folder is gone.
    pub async fn stop(self) {
        self.scratch.stop().await;
    }
}

/// Restores the file; how to reach the database that came of it.
async fn load(
    cx: &Cx,
    scratch: &Scratch,
    incoming: &Incoming,
    options: &ImportOptions,
) -> Result<Conninfo, LogicalError> {
    let client = connect::connect(&scratch.conninfo(MAINTENANCE)?).await?;
    let place = client.place().to_owned();
    for role in incoming.roles.iter().chain(&options.roles) {
        let sql = format!("CREATE ROLE {}", quoted_name(role));
        unless_cancelled(cx, client.run("create a role", &sql)).await??;
    }
    let name = match incoming.database.as_deref().unwrap_or(&options.database) {
        "template0" | "template1" => "imported",
        name => name,
    };
    if name == "postgres" || incoming.makes_database {
        client.run("make room", "DROP DATABASE IF EXISTS postgres").await?;
    }
    if !incoming.makes_database {
        let (name, encoding) = (quoted_name(name), quoted_string(&incoming.encoding));
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding} LOCALE 'C'");
        unless_cancelled(cx, client.run("create the database", &sql)).await??;
    }
    let into = scratch.conninfo(if incoming.makes_database { MAINTENANCE } else { name })?;
    let restored = match incoming.kind.is_sql() {
        true => psql(cx, scratch, incoming, (&into, &place)).await,
        false => pg_restore(cx, scratch, (incoming, options.jobs), (&into, &place)).await,
    };
    restored.map_err(|error| match error {
        LogicalError::Program { program, said, .. } => {
            incoming.unfit(format!("it does not restore: {program} said: {said}"))
        }
        other => other,
    })?;
    if !incoming.makes_database {
        return Ok(into);
    }
    let sql = "SELECT datname::text AS name FROM pg_catalog.pg_database WHERE NOT datistemplate ORDER BY 1";
    let rows = client.rows("list databases", sql, &[]).await?;
    match &rows[..] {
        [row] => scratch.conninfo(&client.get::<String>("list databases", row, "name")?),
        _ => Err(incoming.unfit(format!("it makes {} databases, and a point holds one", rows.len()))),
    }
}

async fn psql(
    cx: &Cx,
    scratch: &Scratch,
    incoming: &Incoming,
    (into, place): (&Conninfo, &str),
) -> Result<(), LogicalError> {
    let program = scratch.programs.find("psql", scratch.major).await?;
    // The file may tell psql to run programs (`\!`).
    let mut command = as_user(program.command(into, place), user()?);
    command.args(["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", "-"]);
    command.stdin(Stdio::piped());
    let sql = incoming.sql()?;
    let mut running = program.start(&mut command)?;
    let fed = match running.child.stdin.take() {
        Some(stdin) => feed(cx, sql, stdin).await,
        None => Ok(()),
    };
    // What it said first tells why it took no more.
    running.end(cx, &into.database).await?;
    fed.map_err(|error| incoming.unfit(format!("its content cannot be read to the end: {error}")))
}

/// Hands the file to `psql`, as fast as that takes it.
async fn feed(cx: &Cx, mut sql: Box<dyn Read + Send>, mut stdin: ChildStdin) -> std::io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUE);
    let reading = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            match sql.read(&mut buffer)? {
                0 => return Ok(()),
                // Nobody takes it any more: psql ended, and says why.
                count if sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() => {
                    return Ok(());
                }
                _ => {}
            }
        }
    });
    while let Some(piece) = receiver.recv().await {
        cx.progress.advance(piece.len() as u64);
        match unless_cancelled(cx, stdin.write_all(&piece)).await {
            Ok(Ok(())) => {}
            // Its end tells more than a broken pipe does; and who asked to stop is told then.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    drop((receiver, stdin));
    reading.await.map_err(std::io::Error::other)?
}

async fn pg_restore(
    cx: &Cx,
    scratch: &Scratch,
    (incoming, jobs): (&Incoming, usize),
    (into, place): (&Conninfo, &str),
) -> Result<(), LogicalError> {
    let program = scratch.programs.find("pg_restore", scratch.major).await?;
    let mut command = program.command(into, place);
    command.args(["--exit-on-error", "--no-password"]);
    // Several at a time need a format that can be read from anywhere.
    command.args(Some(format!("--jobs={}", jobs.max(1))).filter(|_| incoming.kind != Kind::Tar));
    command.arg(&incoming.path);
    program.run(cx, &mut command, &into.database).await.map(drop)
}

#[async_trait::async_trait]
impl DumpEngine for Import {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn inspect(&self, cx: &Cx) -> Result<DumpInspection, EngineError> {
        self.logical.inspect(cx).await
    }

    async fn start(&self, cx: &Cx) -> Result<Box<dyn DumpSession>, EngineError> {
        let session = self.logical.start(cx).await?;
        Ok(Box::new(Importing { session, fact: self.fact.clone(), at: self.at, has_locale: self.has_locale }))
    }
}

/// The dump of what was restored, with where it came from.
struct Importing {
    session: Box<dyn DumpSession>,
    fact: ImportedFact,
    at: Timestamp,
    has_locale: bool,
}

#[async_trait::async_trait]
impl DumpSession for Importing {
    fn at(&self) -> Timestamp {
        self.at
    }

    fn parts(&self) -> &[DumpPart] {
        self.session.parts()
    }

    async fn open(&self, cx: &Cx, part: usize) -> Result<Box<dyn PartReader>, EngineError> {
        self.session.open(cx, part).await
    }

    async fn stop(self: Box<Self>, cx: &Cx) -> Result<Dumped, EngineError> {
        let dumped = self.session.stop(cx).await?;
        let mut facts = LogicalFacts::read(&dumped.facts)?;
        facts.at = self.at;
        facts.imported = Some(self.fact);
        let unsaid = |what: &str, why: &str| LeftOut { what: what.to_owned(), why: why.to_owned() };
        facts
            .left_out
            .push(unsaid("attributes of roles", "the file names roles, and does not say what they may"));
        if !self.has_locale {
            let why = "the file was restored without making its database (pg_dump -C), with the locale C";
            facts.left_out.push(unsaid("locale, settings and rights of the database", why));
        }
        let malformed = |error: serde_json::Error| LogicalError::Malformed {
            what: "the dump's facts".to_owned(),
            why: error.to_string(),
        };
        Ok(Dumped { at: self.at, facts: serde_json::to_value(facts).map_err(malformed)? })
    }
}
