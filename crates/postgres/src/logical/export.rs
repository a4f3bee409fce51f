//! A dump as files that PostgreSQL's own programs restore: [`Export`].
//!
//! ```text
//! sql         pg_restore's words before rows ▶ COPY … rows \. ▶ large objects ▶ sequences ▶ pg_restore's words after rows
//! directory   <number>.dat for each table ▶ blob_<oid>.dat ▶ toc.dat: the schema's, and an entry for each of these
//! ```
//!
//! Parts are written one after the other. Rows are in the database's encoding, which each COPY names; everything else is in
//! UTF-8, as `pg_dump` was told.
//!
//! **Invariants**
//! - What is written has another name until it is complete and durable; then it gets its own, which nothing had.
//! - An export that fails removes what it wrote. Killed, it leaves `<name>.strongroom-unfinished`, and nothing by the name itself.

#![allow(clippy::disallowed_methods, reason = "makes and removes the folder that an export is written into")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use strongroom_engine::{DumpTarget, Dumped, EngineError, LoadPlan, Loaded, PartWriter};
use strongroom_model::Cx;
use strongroom_model::entry::EntryPath;

use crate::logical::archive::Packing;
use crate::logical::exporting::{Directory, Form, Roles, Script};
use crate::logical::facts::LogicalFacts;
use crate::logical::failure::LogicalError;
use crate::logical::outlet::{Outlet, folder_of, publish, sync_folder};
use crate::logical::part::Part;
use crate::logical::program::{Program, Programs};

/// What the name of an unfinished export ends with.
pub const UNFINISHED: &str = ".strongroom-unfinished";

/// What an export becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One file of SQL, for `psql -f`; compressed if its name ends with `.gz` or `.zst`.
    Sql,
    /// A folder, for `pg_restore -Fd -j`.
    Directory,
}

/// How the files of a directory are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compressed {
    /// Not at all.
    #[default]
    No,
    /// gzip.
    Gzip,
    /// zstd, which `pg_restore` reads from 16 on.
    Zstd,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// As what.
    pub shape: Shape,
    /// Where to; `None` is standard output.
    pub to: Option<PathBuf>,
    /// Of a directory.
    pub compressed: Compressed,
    /// Of SQL: everything belongs to the role that runs it.
    pub no_owner: bool,
    /// Of SQL: nobody is given any rights.
    pub no_privileges: bool,
    /// Where `pg_restore` is.
    pub programs: Programs,
    /// A folder for the schema's archive; the system's for temporary files if `None`.
    pub scratch: Option<PathBuf>,
}

/// Where a dump is exported to.
pub struct Export {
    options: ExportOptions,
    exporting: Mutex<Option<Arc<Exporting>>>,
}

impl Export {
    /// Nothing is made yet.
    pub fn new(mut options: ExportOptions) -> Export {
        // Without a slash at its end, so that another name can be made of it.
        options.to = options.to.map(|to| to.components().collect());
        Export { options, exporting: Mutex::new(None) }
    }

    /// Where roles and tablespaces are written: beside a file, in a folder. `None` for standard output.
    pub fn globals(&self) -> Option<PathBuf> {
        globals_of(&self.options)
    }

    async fn look(&self, dumped: &Dumped) -> Result<LoadPlan, LogicalError> {
        let facts = LogicalFacts::read(&dumped.facts)?;
        let options = &self.options;
        let mut reasons = Vec::new();
        for path in options.to.iter().chain(globals_of(options).iter()).filter(|path| path.exists()) {
            reasons.push(format!("{} is there already", path.display()));
        }
        for path in options.to.as_deref().map(unfinished).iter().filter(|path| path.exists()) {
            reasons.push(format!("{} is there, of an export that runs or was killed", path.display()));
        }
        let folder = options.to.as_deref().map(folder_of);
        reasons.extend(
            folder
                .filter(|folder| !folder.is_dir())
                .map(|folder| format!("{} is no folder", folder.display())),
        );
        if options.compressed == Compressed::Zstd && facts.dumped_by < 16 {
            reasons.push(format!(
                "the dump's archive is that of pg_dump {}, which has no zstd",
                facts.dumped_by
            ));
        }
        let program = match options.shape {
            Shape::Sql => Some(options.programs.find("pg_restore", facts.dumped_by.max(facts.major())).await),
            Shape::Directory => None,
        };
        let program = program.transpose().map_err(|error| reasons.push(error.to_string())).ok().flatten();
        if !reasons.is_empty() {
            let what = format!("database {} as files", facts.database.name);
            let place = options.to.as_ref().map_or("standard output".into(), |to| to.display().to_string());
            return Err(LogicalError::Refused { what, place, reasons });
        }
        let plan = self.plan_of(&facts);
        let parts = plan.first.iter().chain(&plan.rest).filter_map(Part::of).collect();
        let exporting = Exporting::new(options.clone(), (facts, parts), program)?;
        *self.exporting.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(exporting));
        Ok(plan)
    }

    fn plan_of(&self, facts: &LogicalFacts) -> LoadPlan {
        let has_globals = !facts.left_out.iter().any(|left| left.what == "roles and tablespaces");
        let globals = self.globals().filter(|_| has_globals);
        let rows = facts
            .tables
            .iter()
            .flat_map(|table| (0..table.parts).map(|number| Part::Rows(table.folder.clone(), number)));
        let objects = facts.large_objects.parts.iter().map(|number| Part::LargeObjects(*number));
        let mut steps = Vec::new();
        steps.extend(globals.as_ref().map(|path| format!("roles and tablespaces to {}", path.display())));
        steps.push(format!(
            "schema, rows of {} tables, {} sequences, {} large objects to {}",
            facts.tables.len(),
            facts.sequences.len(),
            facts.large_objects.count,
            self.options.to.as_ref().map_or("standard output".into(), |to| to.display().to_string()),
        ));
        let left = facts.left_out.iter().map(|left| format!("not in the dump: {} ({})", left.what, left.why));
        steps.extend(left);
        let first = [globals.map(|_| Part::Globals), Some(Part::Schema)];
        LoadPlan {
            first: first.into_iter().flatten().filter_map(|part| part.path()).collect(),
            rest: rows.chain(objects).filter_map(|part| part.path()).collect(),
            steps,
        }
    }

    fn exporting(&self) -> Result<Arc<Exporting>, LogicalError> {
        let exporting = self.exporting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        exporting.ok_or_else(|| LogicalError::Unfinished { doing: "export", parts: vec!["the plan".into()] })
    }
}

/// `shop.sql.gz` has `shop.globals.sql` beside it.
fn globals_of(options: &ExportOptions) -> Option<PathBuf> {
    let to = options.to.as_ref()?;
    Some(match options.shape {
        Shape::Directory => to.join("globals.sql"),
        Shape::Sql => {
            let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let stem = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
            let stem = stem.strip_suffix(".sql").unwrap_or(stem);
            to.with_file_name(format!("{stem}.globals.sql"))
        }
    })
}

#[async_trait::async_trait]
impl DumpTarget for Export {
    async fn plan(&self, _: &Cx, dumped: &Dumped) -> Result<LoadPlan, EngineError> {
        Ok(self.look(dumped).await?)
    }

    async fn open(&self, cx: &Cx, part: &EntryPath) -> Result<Box<dyn PartWriter>, EngineError> {
        cx.check()?;
        let exporting = self.exporting()?;
        let unknown =
            || LogicalError::Malformed { what: part.to_string(), why: "it is no part of a dump".into() };
        Ok(Box::new(Writing { exporting, part: Part::of(part).ok_or_else(unknown)? }))
    }

    async fn finish(&self, cx: &Cx) -> Result<Loaded, EngineError> {
        let exporting = self.exporting()?;
        let after = exporting.section(cx, "post-data").await?;
        let finished = off(move || exporting.finish(&after)).await?;
        let lines = finished.lines();
        Ok(Loaded { report: serde_json::to_value(&finished).unwrap_or_default(), lines })
    }
}

/// Writes to disk without holding up who waits for the network.
async fn off<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogicalError> + Send + 'static,
) -> Result<T, LogicalError> {
    let lost = |_| LogicalError::Unfinished { doing: "export", parts: vec!["a thread".into()] };
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

/// A part being written.
struct Writing {
    exporting: Arc<Exporting>,
    part: Part,
}

#[async_trait::async_trait]
impl PartWriter for Writing {
    async fn write(&mut self, cx: &Cx, bytes: Bytes) -> Result<(), EngineError> {
        cx.check()?;
        let (exporting, part) = (self.exporting.clone(), self.part.clone());
        Ok(off(move || exporting.write(&part, &bytes)).await?)
    }

    async fn close(self: Box<Self>, cx: &Cx) -> Result<(), EngineError> {
        let (exporting, part) = (self.exporting, self.part);
        let before = match part {
            Part::Schema => {
                let flushed = exporting.clone();
                off(move || flushed.schema_is_there()).await?;
                exporting.section(cx, "pre-data").await?
            }
            _ => Vec::new(),
        };
        Ok(off(move || exporting.close(&part, &before)).await?)
    }
}

/// What an export came to.
#[derive(Clone, Debug, Serialize)]
struct Finished {
    to: Option<PathBuf>,
    globals: Option<PathBuf>,
    #[serde(skip)]
    shape: &'static str,
    tables: usize,
    rows: u64,
    large_objects: u64,
}

impl Finished {
    fn lines(&self) -> Vec<String> {
        let Finished { tables, rows, large_objects, .. } = self;
        let to = self.to.as_ref().map_or("standard output".into(), |to| to.display().to_string());
        let mut lines = vec![format!(
            "exported {rows} rows of {tables} tables and {large_objects} large objects to {to}, durable"
        )];
        lines.extend(
            self.globals
                .iter()
                .map(|path| format!("first, on a new server: psql -f {} postgres", path.display())),
        );
        lines.push(self.shape.replace("{to}", &to));
        lines
    }
}

/// An export under way.
struct Exporting {
    options: ExportOptions,
    facts: Arc<LogicalFacts>,
    /// All that must be written.
    parts: Vec<Part>,
    pg_restore: Option<Program>,
    /// The name until the end.
    unfinished: Option<PathBuf>,
    archive: PathBuf,
    _folder: tempfile::TempDir,
    files: Mutex<Files>,
}

/// What is open.
#[derive(Default)]
struct Files {
    schema: Option<Outlet>,
    globals: Option<Outlet>,
    form: Option<Box<dyn Form>>,
    closed: BTreeSet<Part>,
    /// What was made and has no name of its own yet.
    unnamed: Vec<PathBuf>,
}

impl Files {
    fn create(&mut self, path: &Path, packing: Packing) -> Result<Outlet, LogicalError> {
        let outlet = Outlet::create(path, packing)?;
        self.unnamed.push(path.to_owned());
        Ok(outlet)
    }

    fn make_folder(&mut self, folder: &Path) -> Result<(), LogicalError> {
        use std::os::unix::fs::DirBuilderExt;
        if self.unnamed.iter().any(|path| path == folder) {
            return Ok(());
        }
        let made = std::fs::DirBuilder::new().mode(0o700).create(folder);
        made.map_err(|source| LogicalError::Io { operation: "create", path: folder.to_owned(), source })?;
        self.unnamed.push(folder.to_owned());
        Ok(())
    }

    fn publish(&mut self, unfinished: &Path, name: &Path) -> Result<(), LogicalError> {
        publish(unfinished, name)?;
        self.unnamed.retain(|path| path != unfinished);
        Ok(())
    }
}

impl Exporting {
    fn new(
        options: ExportOptions,
        (facts, parts): (LogicalFacts, Vec<Part>),
        pg_restore: Option<Program>,
    ) -> Result<Exporting, LogicalError> {
        let parent = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("strongroom-export-").tempdir_in(&parent);
        let folder = folder.map_err(|source| LogicalError::Io {
            operation: "create a folder in",
            path: parent,
            source,
        })?;
        Ok(Exporting {
            unfinished: options.to.as_deref().map(unfinished),
            options,
            facts: Arc::new(facts),
            parts,
            pg_restore,
            archive: folder.path().join("schema.dump"),
            _folder: folder,
            files: Mutex::default(),
        })
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, part: &Part, bytes: &[u8]) -> Result<(), LogicalError> {
        let mut files = self.files();
        match part {
            Part::Schema => {
                if files.schema.is_none() {
                    files.schema = Some(Outlet::create(&self.archive, Packing::Raw)?);
                }
                files.schema.as_mut().map_or(Ok(()), |file| file.write(bytes))
            }
            Part::Globals => {
                if files.globals.is_none() {
                    let path = self.globals_unfinished(&mut files)?;
                    files.globals = Some(files.create(&path, Packing::Raw)?);
                }
                files.globals.as_mut().map_or(Ok(()), |file| file.write(bytes))
            }
            part => match &mut files.form {
                Some(form) => form.write(part, bytes),
                None => Err(LogicalError::Unfinished { doing: "export", parts: vec![Part::Schema.name()] }),
            },
        }
    }

    /// Where roles are written until the end: in a folder already under their own name.
    fn globals_unfinished(&self, files: &mut Files) -> Result<PathBuf, LogicalError> {
        match (self.options.shape, &self.unfinished) {
            (Shape::Directory, Some(folder)) => {
                files.make_folder(folder)?;
                Ok(folder.join("globals.sql"))
            }
            _ => Ok(unfinished(&globals_of(&self.options).unwrap_or_default())),
        }
    }

    fn schema_is_there(&self) -> Result<(), LogicalError> {
        let schema = self.files().schema.take();
        schema.map_or(Ok(()), Outlet::finish)
    }

    /// What `pg_restore` writes of one section, for SQL.
    async fn section(&self, cx: &Cx, section: &str) -> Result<Vec<u8>, LogicalError> {
        let Some(program) = &self.pg_restore else { return Ok(Vec::new()) };
        let mut command = program.on_files();
        command.arg(format!("--section={section}")).args(["--file", "-"]);
        command.args(self.options.no_owner.then_some("--no-owner"));
        command.args(self.options.no_privileges.then_some("--no-privileges"));
        command.arg(&self.archive);
        let text = program.run(cx, &mut command, &self.facts.database.name).await?;
        Ok(crate::logical::program::plain_sql(&text))
    }

    fn close(&self, part: &Part, before: &[u8]) -> Result<(), LogicalError> {
        let mut files = self.files();
        files.closed.insert(part.clone());
        match part {
            Part::Schema => {
                let form = self.form(&mut files, before)?;
                files.form = Some(form);
                Ok(())
            }
            Part::Globals => files.globals.take().map_or(Ok(()), Outlet::finish),
            part => files.form.as_mut().map_or(Ok(()), |form| form.close(part)),
        }
    }

    fn form(&self, files: &mut Files, before: &[u8]) -> Result<Box<dyn Form>, LogicalError> {
        let facts = self.facts.clone();
        match (self.options.shape, &self.unfinished) {
            (Shape::Directory, Some(folder)) => {
                files.make_folder(folder)?;
                let archive = std::fs::read(&self.archive);
                let archive = archive.map_err(|source| LogicalError::Io {
                    operation: "read",
                    path: self.archive.clone(),
                    source,
                })?;
                let packing = match self.options.compressed {
                    Compressed::No => Packing::Raw,
                    Compressed::Gzip => Packing::Gzip,
                    Compressed::Zstd => Packing::Zstd,
                };
                Ok(Box::new(Directory::begin(folder, facts, &archive, packing)?))
            }
            (_, unfinished) => {
                let name = self.options.to.as_deref().and_then(Path::extension);
                let packing = match name.and_then(|ending| ending.to_str()) {
                    Some("gz") => Packing::Gzip,
                    Some("zst") => Packing::Zstd,
                    _ => Packing::Raw,
                };
                let outlet = match unfinished {
                    Some(path) => files.create(path, packing)?,
                    None => Outlet::standard(packing)?,
                };
                let roles = Roles { owners: !self.options.no_owner, rights: !self.options.no_privileges };
                Ok(Box::new(Script::begin(outlet, (facts, roles), before)?))
            }
        }
    }

    fn finish(&self, after: &[u8]) -> Result<Finished, LogicalError> {
        let mut files = self.files();
        let missing = self.parts.iter().filter(|part| !files.closed.contains(part));
        let missing: Vec<String> = missing.map(Part::name).collect();
        match files.form.take() {
            Some(form) if missing.is_empty() => form.finish(after)?,
            _ => return Err(LogicalError::Unfinished { doing: "end the export", parts: missing }),
        }
        let globals = globals_of(&self.options);
        if let (Some(unfinished), Some(to)) = (&self.unfinished, &self.options.to) {
            if self.options.shape == Shape::Directory {
                sync_folder(unfinished)?;
                files.unnamed.retain(|path| path == unfinished);
            }
            files.publish(unfinished, to)?;
        }
        if let Some((path, name)) = files.unnamed.first().cloned().zip(globals.clone()) {
            files.publish(&path, &name)?;
        }
        let globals = globals.filter(|path| path.exists());
        let facts = &self.facts;
        Ok(Finished {
            to: self.options.to.clone(),
            globals,
            shape: match self.options.shape {
                Shape::Sql => "then, into an empty database: psql -X -v ON_ERROR_STOP=1 -f {to} DATABASE",
                Shape::Directory => "then, into an empty database: pg_restore -j 4 -d DATABASE {to}",
            },
            tables: facts.tables.len(),
            rows: facts.tables.iter().map(|table| table.rows).sum(),
            large_objects: facts.large_objects.count,
        })
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        let files = self.files.get_mut().unwrap_or_else(PoisonError::into_inner);
        for path in &files.unnamed {
            // What cannot be removed says by its name what it is.
            let _ = match path.is_dir() {
                true => std::fs::remove_dir_all(path),
                false => std::fs::remove_file(path),
            };
        }
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}
