//! A database as a source that is dumped: [`Logical`].
//!
//! ```text
//! start   snapshot ▶ catalogue (may the role read it all?) ▶ locks ▶ sequences ▶ schema's sums ▶ globals ▶ parts
//! open    schema.dump: pg_dump in the snapshot · data/…: COPY of a table or a range of its blocks · largeobjects/…
//! stop    was every part read to its end, and is the snapshot still held? ▶ facts
//! ```
//!
//! **Invariants**: as many parts as were listed are read to their ends, or there is no dump; rows are counted as they pass.
//! Killed at any point, the server drops the snapshot and the locks with the connection, and nothing was taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use strongroom_engine::{DumpEngine, DumpInspection, DumpPart, DumpSession, Dumped, EngineError, PartReader};
use strongroom_model::{Cx, Timestamp};

use crate::conninfo::Conninfo;
use crate::logical::catalog::{Catalog, read_sequences};
use crate::logical::facts::{FACTS, KindFact, LeftOut, LogicalFacts, TableFact};
use crate::logical::failure::LogicalError;
use crate::logical::fingerprint::fingerprint;
use crate::logical::large_objects::Objects;
use crate::logical::part::Part;
use crate::logical::program::{Program, Programs, plain_sql};
use crate::logical::reader::{Globals, LargeObjects, Progressed, Rows, Schema};
use crate::logical::snapshot::Snapshot;
use crate::logical::tally::Counted;

/// What the points of this engine are named after.
pub const NAME: &str = "postgres-logical";

/// How long `pg_dump` waits for a lock that somebody else asked for first.
const LOCK_WITHIN: &str = "--lock-wait-timeout=30s";

/// A database that is dumped.
#[derive(Clone, Debug)]
pub struct Logical {
    conninfo: Conninfo,
    programs: Programs,
}

/// What an inspection found, for `--output json`.
#[derive(Clone, Debug, Serialize)]
struct LogicalInspection {
    version_num: u32,
    version: String,
    standby: bool,
    database: crate::logical::facts::DatabaseFact,
    tables: usize,
    extensions: Vec<crate::logical::facts::ExtensionFact>,
    pg_dump: String,
    left_out: Vec<LeftOut>,
}

impl Logical {
    /// The database that the connection string names, with the client programs to be found there.
    pub fn new(conninfo: Conninfo, programs: Programs) -> Logical {
        Logical { conninfo, programs }
    }

    async fn look(&self, cx: &Cx) -> Result<(Snapshot, Catalog, Program), LogicalError> {
        let snapshot = Snapshot::take(&self.conninfo).await?;
        let major = u16::try_from(snapshot.version_num / 10_000).unwrap_or(u16::MAX);
        let pg_dump = self.programs.find("pg_dump", major).await?;
        let catalog = Catalog::read(cx, snapshot.client()).await?;
        if !catalog.unreadable.is_empty() {
            return Err(LogicalError::NotReadable {
                place: snapshot.client().place().to_owned(),
                role: snapshot.client().role().to_owned(),
                what: catalog.unreadable,
            });
        }
        Ok((snapshot, catalog, pg_dump))
    }

    async fn inspection(&self, cx: &Cx) -> Result<DumpInspection, LogicalError> {
        let (snapshot, catalog, pg_dump) = self.look(cx).await?;
        let product = format!("PostgreSQL {}", snapshot.version);
        let what = format!("database {} at {}", catalog.database.name, snapshot.client().place());
        let found = LogicalInspection {
            version_num: snapshot.version_num,
            version: snapshot.version.clone(),
            standby: snapshot.standby,
            database: catalog.database,
            tables: catalog.tables.len(),
            extensions: catalog.extensions,
            pg_dump: pg_dump.path.display().to_string(),
            left_out: catalog.left_out,
        };
        let facts = serde_json::to_value(found).map_err(unwritable)?;
        Ok(DumpInspection { product, what, facts })
    }

    async fn begin(&self, cx: &Cx) -> Result<Dumping, LogicalError> {
        let (snapshot, mut catalog, pg_dump) = self.look(cx).await?;
        snapshot.lock(cx, &catalog).await?;
        let read = read_sequences(cx, snapshot.client(), &mut catalog.sequences).await;
        read.map_err(|error| snapshot.gone(error))?;
        let schema = fingerprint(cx, snapshot.client()).await?;
        let globals = match self.globals(cx, &snapshot).await {
            Ok(globals) => Some(globals),
            Err(LogicalError::Cancelled(cancelled)) => return Err(cancelled.into()),
            Err(error) => {
                catalog
                    .left_out
                    .push(LeftOut { what: "roles and tablespaces".to_owned(), why: error.to_string() });
                None
            }
        };
        let passwords = LeftOut {
            what: "passwords of roles".to_owned(),
            why: "only a superuser may read them, and they do not belong to the database".to_owned(),
        };
        catalog.left_out.push(passwords);
        Ok(Dumping::new(snapshot, catalog, Prepared { pg_dump, schema, globals }))
    }

    /// Roles and tablespaces; small, so that it is known at once whether they can be had.
    async fn globals(&self, cx: &Cx, snapshot: &Snapshot) -> Result<Bytes, LogicalError> {
        let major = u16::try_from(snapshot.version_num / 10_000).unwrap_or(u16::MAX);
        let program = self.programs.find("pg_dumpall", major).await?;
        let conninfo = snapshot.conninfo();
        let mut command = program.command(conninfo, snapshot.client().place());
        command.args(["--globals-only", "--no-role-passwords", "--no-password"]);
        command.arg("--database").arg(&conninfo.database);
        let text = program.run(cx, &mut command, &conninfo.database).await?;
        Ok(plain_sql(&text).into())
    }
}

#[async_trait::async_trait]
impl DumpEngine for Logical {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn inspect(&self, cx: &Cx) -> Result<DumpInspection, EngineError> {
        Ok(self.inspection(cx).await?)
    }

    async fn start(&self, cx: &Cx) -> Result<Box<dyn DumpSession>, EngineError> {
        Ok(Box::new(self.begin(cx).await?))
    }
}

/// What was found out before the first part is read.
struct Prepared {
    pg_dump: Program,
    schema: BTreeMap<String, KindFact>,
    globals: Option<Bytes>,
}

/// A dump under way.
struct Dumping {
    snapshot: Snapshot,
    catalog: Catalog,
    prepared: Prepared,
    listed: Vec<DumpPart>,
    parts: Vec<(Part, Object)>,
    progress: Arc<Progressed>,
}

/// What a part is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    /// The table of this place in the catalogue.
    Table(usize),
    /// Something else.
    Other,
}

impl Dumping {
    fn new(snapshot: Snapshot, catalog: Catalog, prepared: Prepared) -> Dumping {
        let mut parts = Vec::new();
        for (at, table) in catalog.tables.iter().enumerate() {
            for number in 0..table.parts {
                let share = table.size / u64::from(table.parts.max(1));
                parts.push((Part::Rows(table.folder.clone(), number), Object::Table(at), share));
            }
        }
        for part in &catalog.large_objects.parts {
            parts.push((Part::LargeObjects(*part), Object::Other, 0));
        }
        parts.sort_by_key(|(_, _, size)| std::cmp::Reverse(*size));
        // A process of its own takes a while, so that it is begun first.
        parts.insert(0, (Part::Schema, Object::Other, 0));
        if let Some(globals) = &prepared.globals {
            parts.push((Part::Globals, Object::Other, globals.len() as u64));
        }
        let listed = parts
            .iter()
            .filter_map(|(part, _, estimate)| Some(DumpPart { path: part.path()?, estimate: *estimate }));
        Dumping {
            listed: listed.collect(),
            parts: parts.into_iter().map(|(part, object, _)| (part, object)).collect(),
            snapshot,
            catalog,
            prepared,
            progress: Arc::default(),
        }
    }

    async fn begin(&self, at: usize) -> Result<Box<dyn PartReader>, LogicalError> {
        self.snapshot.is_held()?;
        let progress = self.progress.clone();
        match self.parts.get(at) {
            Some((Part::Rows(_, number), Object::Table(table))) if *table < self.catalog.tables.len() => {
                let table = &self.catalog.tables[*table];
                let mut copying = match progress.idle() {
                    Some(copying) => copying,
                    None => self.snapshot.copying().await?,
                };
                self.snapshot.lock_for(&mut copying, &table.quoted()).await?;
                let encoding = &self.catalog.database.encoding;
                Ok(Box::new(Rows::begin(copying, (table, *number), encoding, (at, progress)).await?))
            }
            Some((Part::LargeObjects(part), _)) => {
                let objects = Objects::new(self.snapshot.session().await?, *part);
                Ok(Box::new(LargeObjects::new(objects, (at, progress))))
            }
            Some((Part::Schema, _)) => self.schema((at, progress)),
            Some((Part::Globals, _)) => {
                Ok(Box::new(Globals::new(self.prepared.globals.clone(), (at, progress))))
            }
            _ => Err(LogicalError::Unfinished { doing: "read a part", parts: vec![format!("number {at}")] }),
        }
    }

    fn schema(&self, what: (usize, Arc<Progressed>)) -> Result<Box<dyn PartReader>, LogicalError> {
        let (program, conninfo) = (&self.prepared.pg_dump, self.snapshot.conninfo());
        let mut command = program.command(conninfo, self.snapshot.client().place());
        // Uncompressed, so that what did not change is found in the parent. Large objects are parts of their own; names are
        // quoted, since a newer server may have reserved them.
        command.args(["--format=custom", "--compress=0", "-B", "--section=pre-data", "--section=post-data"]);
        command.args(["--quote-all-identifiers", "--no-password", LOCK_WITHIN]);
        command.arg(format!("--snapshot={}", self.snapshot.id));
        // What has no encoding is not converted.
        command.args(Some("--encoding=UTF8").filter(|_| self.catalog.database.encoding != "SQL_ASCII"));
        Ok(Box::new(Schema::begin(program, &mut command, &conninfo.database, what)?))
    }

    async fn end(self, cx: &Cx) -> Result<Dumped, LogicalError> {
        let mut ended = self.progress.so_far();
        let unread = self.parts.iter().enumerate().filter(|(at, _)| !ended.parts.contains(at));
        let parts: Vec<String> = unread.map(|(_, (part, _))| part.name()).collect();
        if !parts.is_empty() {
            return Err(LogicalError::Unfinished { doing: "end the dump", parts });
        }
        cx.check()?;
        self.snapshot.end().await?;
        let mut catalog = self.catalog;
        let mut totals: BTreeMap<usize, Counted> = BTreeMap::new();
        for (at, counted) in std::mem::take(&mut ended.counted) {
            match self.parts[at].1 {
                Object::Table(table) => {
                    let total = totals.remove(&table).unwrap_or_default().with(&counted);
                    totals.insert(table, total);
                }
                Object::Other => {
                    let all = &mut catalog.large_objects;
                    all.count += counted.rows;
                    // Each object's number was counted as four bytes.
                    all.bytes += counted.bytes - 4 * counted.rows;
                    all.sum = all.sum.with(counted.sum);
                }
            }
        }
        for (table, counted) in totals {
            put_down(&mut catalog.tables[table], counted);
        }
        let facts = LogicalFacts {
            facts: FACTS,
            version_num: self.snapshot.version_num,
            version: self.snapshot.version.clone(),
            dumped_by: self.prepared.pg_dump.major,
            role: self.snapshot.client().role().to_owned(),
            at: self.snapshot.at,
            standby: self.snapshot.standby,
            database: catalog.database,
            extensions: catalog.extensions,
            roles: catalog.roles,
            tablespaces: catalog.tablespaces,
            role_settings: catalog.role_settings,
            schemas: catalog.schemas,
            partitioned: catalog.partitioned,
            tables: catalog.tables,
            sequences: catalog.sequences,
            large_objects: catalog.large_objects,
            schema: self.prepared.schema,
            left_out: catalog.left_out,
            warnings: ended.warnings,
            imported: None,
        };
        Ok(Dumped { at: self.snapshot.at, facts: serde_json::to_value(facts).map_err(unwritable)? })
    }
}

#[async_trait::async_trait]
impl DumpSession for Dumping {
    fn at(&self) -> Timestamp {
        self.snapshot.at
    }

    fn parts(&self) -> &[DumpPart] {
        &self.listed
    }

    async fn open(&self, cx: &Cx, part: usize) -> Result<Box<dyn PartReader>, EngineError> {
        cx.check()?;
        Ok(self.begin(part).await?)
    }

    async fn stop(self: Box<Self>, cx: &Cx) -> Result<Dumped, EngineError> {
        Ok(self.end(cx).await?)
    }
}

fn put_down(table: &mut TableFact, counted: Counted) {
    table.rows = counted.rows;
    table.bytes = counted.bytes;
    table.sum = counted.sum;
    let latest = table.columns.iter().zip(counted.latest);
    table.latest = latest.filter_map(|(column, latest)| Some((column.name.clone(), latest?))).collect();
}

fn unwritable(error: serde_json::Error) -> LogicalError {
    LogicalError::Malformed { what: "the dump's facts".to_owned(), why: error.to_string() }
}
