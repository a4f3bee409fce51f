//! Where a dump is restored to: [`Load`].
//!
//! ```text
//! plan    facts ▶ the server: version, encoding, locale, extensions, roles, names ▶ every reason against it, or what will be done
//! open    schema.dump: kept as a file, then the database and its tables are made · data/…: COPY · largeobjects/…
//! finish  compared ▶ indexes, keys, triggers ▶ renamed
//! ```
//!
//! **Invariants**
//! - Nothing is written before `schema.dump` is complete here, and nothing at all if anything is against it.
//! - Nothing is ever dropped: what fails stays under a name that says what it is, and what is replaced as well.

use std::sync::{Arc, Mutex, PoisonError};

use strongroom_engine::{DumpTarget, Dumped, EngineError, LoadPlan, Loaded, PartWriter};
use strongroom_model::Cx;
use strongroom_model::entry::EntryPath;

use crate::connect;
use crate::conninfo::Conninfo;
use crate::logical::completion::complete;
use crate::logical::facts::LogicalFacts;
use crate::logical::failure::LogicalError;
use crate::logical::fit::{Fit, Question};
use crate::logical::loading::{Begun, Loading, Stage};
use crate::logical::options::{LoadOptions, Scope};
use crate::logical::part::Part;
use crate::logical::writer::{Archive, LargeObjects, Rows};

/// A server that a dump is restored at.
pub struct Load {
    conninfo: Conninfo,
    options: LoadOptions,
    loading: Mutex<Option<Arc<Loading>>>,
}

impl Load {
    /// The server that the connection string names; its database is the one to work in, or, where a database is made, to make
    /// it from.
    pub fn new(conninfo: Conninfo, options: LoadOptions) -> Load {
        Load { conninfo, options, loading: Mutex::new(None) }
    }

    async fn look(&self, cx: &Cx, dumped: &Dumped) -> Result<LoadPlan, LogicalError> {
        let facts = LogicalFacts::read(&dumped.facts)?;
        let mut conninfo = self.conninfo.clone();
        if let Scope::EmptyDatabase(name) = &self.options.scope {
            conninfo.database.clone_from(name);
        }
        let client = connect::connect(&conninfo).await?;
        let mut fit = Question { client: &client, facts: &facts, options: &self.options }.ask(cx).await?;
        let at_least = facts.dumped_by.max(facts.major());
        let program = self.options.programs.find("pg_restore", at_least).await;
        let pg_restore = match program {
            Ok(program) => Some(program),
            Err(LogicalError::Cancelled(cancelled)) => return Err(cancelled.into()),
            Err(error) => {
                fit.against.push(error.to_string());
                None
            }
        };
        let place = client.place().to_owned();
        let what = format!("database {}", facts.database.name);
        let (Some(pg_restore), true) = (pg_restore, fit.against.is_empty()) else {
            return Err(LogicalError::Refused { what, place, reasons: fit.against });
        };
        let server = conninfo.only(&place);
        let stage = self.stage(&facts, &fit);
        let mut written = server.clone();
        if let Stage::Database { under_way, .. } = &stage {
            written.database.clone_from(under_way);
        }
        let begun = Begun {
            server,
            conninfo: written,
            place,
            version_num: fit.version_num,
            tables: facts.tables.clone(),
            staged: facts.tables.clone(),
            facts,
            stage,
            pg_restore,
        };
        let loading = Arc::new(Loading::new(begun, self.options.clone())?);
        let plan = plan(&loading, &fit);
        *self.loading.lock().unwrap_or_else(PoisonError::into_inner) = Some(loading);
        Ok(plan)
    }

    fn stage(&self, facts: &LogicalFacts, fit: &Fit) -> Stage {
        match &self.options.scope {
            Scope::NewDatabase(name) => {
                let name = name.as_ref().unwrap_or(&facts.database.name);
                Stage::Database {
                    under_way: self.options.under_way(name),
                    name: name.clone(),
                    replaced: fit.exists.then(|| self.options.replaced(name)),
                }
            }
            Scope::EmptyDatabase(_) => Stage::Empty,
        }
    }

    fn loading(&self) -> Result<Arc<Loading>, LogicalError> {
        let loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner).clone();
        loading.ok_or_else(|| LogicalError::Unfinished {
            doing: "begin the restore",
            parts: vec!["its plan".to_owned()],
        })
    }

    async fn begin(&self, path: &EntryPath) -> Result<Box<dyn PartWriter>, LogicalError> {
        let loading = self.loading()?;
        let unknown = || LogicalError::Malformed {
            what: path.to_string(),
            why: "it is no part of this restore".to_owned(),
        };
        let part = Part::of(path).ok_or_else(unknown)?;
        if part == Part::Schema {
            return Ok(Box::new(Archive::begin(loading).await?));
        }
        if !loading.is_written(&Part::Schema) {
            let parts = vec![Part::Schema.name()];
            return Err(LogicalError::Unfinished { doing: "begin to write rows", parts });
        }
        match &part {
            Part::Rows(folder, _) => {
                let table = loading.staged(folder).ok_or_else(unknown)?.clone();
                let begun = Rows::begin(loading.clone(), &table, part.clone()).await;
                Ok(Box::new(begun.map_err(|error| loading.aside(error))?))
            }
            Part::LargeObjects(_) => {
                let begun = LargeObjects::begin(loading.clone(), part).await;
                Ok(Box::new(begun.map_err(|error| loading.aside(error))?))
            }
            Part::Schema | Part::Globals => Err(unknown()),
        }
    }
}

#[async_trait::async_trait]
impl DumpTarget for Load {
    async fn plan(&self, cx: &Cx, dumped: &Dumped) -> Result<LoadPlan, EngineError> {
        Ok(self.look(cx, dumped).await?)
    }

    async fn open(&self, cx: &Cx, part: &EntryPath) -> Result<Box<dyn PartWriter>, EngineError> {
        cx.check()?;
        Ok(self.begin(part).await?)
    }

    async fn finish(&self, cx: &Cx) -> Result<Loaded, EngineError> {
        let loading = self.loading()?;
        Ok(complete(cx, &loading).await.map_err(|error| loading.aside(error))?)
    }
}

/// What will be done.
fn plan(loading: &Loading, fit: &Fit) -> LoadPlan {
    let facts = &loading.facts;
    let rows: u64 = loading.tables.iter().map(|table| table.rows).sum();
    let mut steps = Vec::new();
    match &loading.stage {
        Stage::Database { under_way, .. } => {
            steps.push(format!("create database {under_way} at {}", loading.place));
        }
        Stage::Empty => {
            steps.push(format!("fill database {} at {}", loading.conninfo.database, loading.place))
        }
    }
    steps.push(format!("make its schema with {}", loading.pg_restore.path.display()));
    steps.push(format!(
        "write {rows} rows of {} tables, and {} large objects",
        loading.tables.len(),
        facts.large_objects.count
    ));
    steps.push("read everything back and compare it with the dump".to_owned());
    steps.push(format!(
        "build indexes, keys and triggers, {} at a time, and analyze",
        loading.options.jobs.max(1)
    ));
    if let Stage::Database { under_way, name, replaced } = &loading.stage {
        steps.extend(replaced.iter().map(|replaced| format!("rename database {name} to {replaced}")));
        steps.push(format!("rename database {under_way} to {name}"));
    }
    steps.extend(fit.notes.iter().map(|note| format!("note: {note}")));
    LoadPlan {
        first: Part::Schema.path().into_iter().collect(),
        rest: loading.parts().into_iter().filter_map(|(part, _)| part.path()).collect(),
        steps,
    }
}
