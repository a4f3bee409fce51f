//! A restore under way: what its writers share.

#![allow(
    clippy::disallowed_methods,
    reason = "keeps files beside the schema's archive, which pg_restore reads"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use strongroom_model::Cx;
use tokio::sync::OnceCell;

use crate::conninfo::Conninfo;
use crate::logical::choice::Choice;
use crate::logical::copying::Copying;
use crate::logical::facts::{LogicalFacts, SequenceFact, TableFact};
use crate::logical::failure::LogicalError;
use crate::logical::listing::Listing;
use crate::logical::options::{LoadOptions, Scope, drop_database, drop_schemas};
use crate::logical::part::Part;
use crate::logical::program::Program;

/// Where rows go until everything is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A database of its own, which gets its name at the end.
    Database {
        /// What it is called until then.
        under_way: String,
        /// What it is called then.
        name: String,
        /// What the one is called then that has the name now.
        replaced: Option<String>,
    },
    /// A database that was empty.
    Empty,
    /// Schemas of their own in a database that is in use.
    Schemas {
        /// The dump's schemas, and what stands for each until the end.
        aside: BTreeMap<String, String>,
        /// What is there already by a name that the restore needs for a while, or for good.
        existing: BTreeSet<(String, String)>,
        /// Numbers of the dump's tables that are there.
        present: BTreeSet<u32>,
    },
}

/// A restore under way.
pub(crate) struct Loading {
    /// The database that the connection string names.
    pub(crate) server: Conninfo,
    /// The database that is written to.
    pub(crate) conninfo: Conninfo,
    /// The one server of those that the connection string names.
    pub(crate) place: String,
    /// `server_version_num`.
    pub(crate) version_num: u32,
    pub(crate) facts: LogicalFacts,
    /// What is restored, as it is in the dump.
    pub(crate) choice: Choice,
    /// Its tables, as they are called until the end.
    pub(crate) staged: Vec<TableFact>,
    pub(crate) stage: Stage,
    pub(crate) options: LoadOptions,
    pub(crate) pg_restore: Program,
    /// The schema's archive.
    pub(crate) archive: PathBuf,
    pub(crate) folder: tempfile::TempDir,
    /// What is in it, once that was asked.
    listing: OnceCell<Listing>,
    /// Whether something was made that would be left.
    made: AtomicBool,
    idle: Mutex<Vec<Copying>>,
    written: Mutex<BTreeSet<Part>>,
}

/// What a restore begins with.
pub(crate) struct Begun {
    pub(crate) server: Conninfo,
    pub(crate) conninfo: Conninfo,
    pub(crate) place: String,
    pub(crate) version_num: u32,
    pub(crate) facts: LogicalFacts,
    pub(crate) choice: Choice,
    pub(crate) stage: Stage,
    pub(crate) pg_restore: Program,
}

impl Loading {
    pub(crate) fn new(begun: Begun, options: LoadOptions) -> Result<Loading, LogicalError> {
        let parent = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("strongroom-schema-").tempdir_in(&parent);
        let folder = folder.map_err(|source| LogicalError::Io {
            operation: "create a folder in",
            path: parent,
            source,
        })?;
        let staged = begun.choice.tables.iter().map(|table| staged(table, &begun, &options)).collect();
        Ok(Loading {
            archive: folder.path().join("schema.dump"),
            folder,
            listing: OnceCell::new(),
            server: begun.server,
            conninfo: begun.conninfo,
            place: begun.place,
            version_num: begun.version_num,
            facts: begun.facts,
            choice: begun.choice,
            staged,
            stage: begun.stage,
            options,
            pg_restore: begun.pg_restore,
            made: AtomicBool::new(false),
            idle: Mutex::default(),
            written: Mutex::default(),
        })
    }

    /// Every part that must be written.
    pub(crate) fn parts(&self) -> Vec<(Part, u64)> {
        let mut parts = Vec::new();
        for table in &self.choice.tables {
            for number in 0..table.parts {
                let share = table.bytes / u64::from(table.parts.max(1));
                parts.push((Part::Rows(table.folder.clone(), number), share));
            }
        }
        if self.choice.large_objects {
            let numbers = &self.facts.large_objects.parts;
            let share = self.facts.large_objects.bytes / numbers.len().max(1) as u64;
            parts.extend(numbers.iter().map(|number| (Part::LargeObjects(*number), share)));
        }
        parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        parts
    }

    /// The table that a part belongs to, as it is called now.
    pub(crate) fn staged(&self, folder: &str) -> Option<&TableFact> {
        self.staged.iter().find(|table| table.folder == folder)
    }

    /// The sequences that are restored, as they are called until the end.
    pub(crate) fn sequences(&self) -> Vec<SequenceFact> {
        let Stage::Schemas { aside, .. } = &self.stage else { return self.choice.sequences.clone() };
        let staged = self.choice.sequences.iter().map(|sequence| SequenceFact {
            schema: aside.get(&sequence.schema).unwrap_or(&sequence.schema).clone(),
            ..sequence.clone()
        });
        staged.collect()
    }

    /// The entries of the schema's archive, once that is complete.
    pub(crate) async fn listing(&self, cx: &Cx) -> Result<&Listing, LogicalError> {
        self.listing.get_or_try_init(|| self.list(cx)).await
    }

    async fn list(&self, cx: &Cx) -> Result<Listing, LogicalError> {
        let mut command = self.pg_restore.on_files();
        command.args(["--list", "--verbose"]).arg(&self.archive);
        let printed = self.pg_restore.run(cx, &mut command, &self.conninfo.database).await?;
        let malformed = |line| LogicalError::Malformed {
            what: Part::Schema.name(),
            why: format!("pg_restore lists '{line}'"),
        };
        Listing::read(&String::from_utf8_lossy(&printed)).map_err(malformed)
    }

    /// A list of entries, as a file beside the archive.
    pub(crate) async fn write_list(&self, list: &str) -> Result<PathBuf, LogicalError> {
        let path = self.folder.path().join("list");
        let written = tokio::fs::write(&path, list).await;
        written.map_err(|source| LogicalError::Io { operation: "write", path: path.clone(), source })?;
        Ok(path)
    }

    /// Something was made now.
    pub(crate) fn made(&self) {
        self.made.store(true, Ordering::Relaxed);
    }

    /// A part was written to its end.
    pub(crate) fn written(&self, part: Part) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(part);
    }

    /// Whether this part was.
    pub(crate) fn is_written(&self, part: &Part) -> bool {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).contains(part)
    }

    /// A connection for rows.
    pub(crate) async fn copying(&self) -> Result<Copying, LogicalError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(copying) = idle {
            return Ok(copying);
        }
        let mut copying = Copying::connect(&self.conninfo).await?;
        // Nothing counts until the end, which is written durably, and with it everything before.
        copying.run("prepare the session", "SET synchronous_commit = off").await?;
        Ok(copying)
    }

    /// A connection that is free again.
    pub(crate) fn give_back(&self, copying: Copying) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(copying);
    }

    /// Closes what is open, since a database that somebody is connected to is not renamed.
    pub(crate) fn hang_up(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// An error, with what it leaves.
    pub(crate) fn aside(&self, error: LogicalError) -> LogicalError {
        if !self.made.load(Ordering::Relaxed) || matches!(error, LogicalError::Aside { .. }) {
            return error;
        }
        let (aside, remove) = match &self.stage {
            Stage::Database { under_way, .. } => (format!("database {under_way}"), drop_database(under_way)),
            Stage::Empty => {
                let name = &self.conninfo.database;
                (format!("database {name}"), drop_database(name))
            }
            Stage::Schemas { aside, .. } => {
                let names: Vec<&str> = aside.values().map(String::as_str).collect();
                (
                    format!("schema {} of database {}", names.join(", "), self.conninfo.database),
                    drop_schemas(names),
                )
            }
        };
        LogicalError::Aside { aside, remove, source: Box::new(error) }
    }
}

/// A table, as it is called until the end.
fn staged(table: &TableFact, begun: &Begun, options: &LoadOptions) -> TableFact {
    let Stage::Schemas { aside, .. } = &begun.stage else { return table.clone() };
    let of = |schema: &String| aside.get(schema).unwrap_or(schema).clone();
    let is_taken = |(schema, name): &&(String, String)| {
        begun.choice.relations.iter().any(|relation| (&relation.schema, &relation.name) == (schema, name))
    };
    // Rows that are added to others pass a table of their own, which has no partitions.
    let through = match options.scope {
        Scope::Rows(_) => None,
        _ => table.through.as_ref().filter(is_taken).map(|(schema, name)| (of(schema), name.clone())),
    };
    TableFact { schema: of(&table.schema), through, ..table.clone() }
}
