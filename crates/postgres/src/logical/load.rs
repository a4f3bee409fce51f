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

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_engine::{DumpTarget, Dumped, EngineError, LoadPlan, Loaded, PartWriter};
use strongroom_model::Cx;
use strongroom_model::entry::EntryPath;

use crate::connect;
use crate::conninfo::Conninfo;
use crate::logical::choice::Choice;
use crate::logical::completion::complete;
use crate::logical::facts::{LogicalFacts, Relation};
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
        let choice = Choice::of(&facts, &self.options.scope);
        let question = Question { client: &client, facts: &facts, options: &self.options, choice: &choice };
        let mut fit = question.ask(cx).await?;
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
        let stage = self.stage(&facts, &fit, &choice);
        let mut written = server.clone();
        if let Stage::Database { under_way, .. } = &stage {
            written.database.clone_from(under_way);
        }
        let begun = Begun {
            server,
            conninfo: written,
            place,
            version_num: fit.version_num,
            choice,
            facts,
            stage,
            pg_restore,
        };
        let loading = Arc::new(Loading::new(begun, self.options.clone())?);
        let plan = plan(&loading, &fit);
        *self.loading.lock().unwrap_or_else(PoisonError::into_inner) = Some(loading);
        Ok(plan)
    }

    fn stage(&self, facts: &LogicalFacts, fit: &Fit, choice: &Choice) -> Stage {
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
            Scope::Schema(schema) => Stage::Schemas {
                aside: choice.aside(&self.options),
                existing: fit.exists.then(|| (schema.clone(), String::new())).into_iter().collect(),
                present: BTreeSet::new(),
            },
            Scope::Tables(_) | Scope::Rows(_) => Stage::Schemas {
                aside: choice.aside(&self.options),
                existing: fit.existing.clone(),
                present: fit.present.clone(),
            },
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
    let rows: u64 = loading.choice.tables.iter().map(|table| table.rows).sum();
    let (database, jobs) = (&loading.conninfo.database, loading.options.jobs.max(1));
    let (begin, mut end) = match &loading.stage {
        Stage::Database { under_way, name, replaced } => {
            let replaced = replaced.iter().map(|replaced| format!("rename database {name} to {replaced}"));
            let end = replaced.chain([format!("rename database {under_way} to {name}")]).collect();
            (format!("create database {under_way} at {}", loading.place), end)
        }
        Stage::Empty => (format!("fill database {database} at {}", loading.place), Vec::new()),
        Stage::Schemas { aside, .. } => {
            let names: Vec<&str> = aside.values().map(String::as_str).collect();
            let names = names.join(", ");
            (format!("create schema {names} in database {database} at {}", loading.place), loading.placed())
        }
    };
    let count = if loading.choice.large_objects { loading.facts.large_objects.count } else { 0 };
    let called = |(dumped, here): (&str, &str)| format!("call role {dumped} of the dump {here}");
    let mut steps: Vec<String> = loading.options.roles.pairs().map(called).collect();
    steps.extend([
        begin,
        format!("make the tables with {}", loading.pg_restore.path.display()),
        format!("write {rows} rows of {} tables, and {count} large objects", loading.choice.tables.len()),
        "read everything back and compare it with the dump".to_owned(),
        format!("build indexes, keys and triggers, {jobs} at a time, and analyze"),
    ]);
    steps.append(&mut end);
    steps.extend(fit.notes.iter().map(|note| format!("note: {note}")));
    LoadPlan {
        first: Part::Schema.path().into_iter().collect(),
        rest: loading.parts().into_iter().filter_map(|(part, _)| part.path()).collect(),
        steps,
    }
}

impl Loading {
    /// What is put where at the end.
    fn placed(&self) -> Vec<String> {
        if let Scope::Schema(schema) = &self.options.scope {
            let replaced = self.is_schema_there().then(|| self.options.replaced(schema));
            let replaced = replaced.map(|replaced| format!("rename schema {schema} to {replaced}"));
            return replaced.into_iter().chain([format!("rename the new schema to {schema}")]).collect();
        }
        let is_added = matches!(self.options.scope, Scope::Rows(_));
        let place = |relation: &Relation| {
            let place = self.options.place_of(relation);
            let is_replaced =
                matches!(&self.stage, Stage::Schemas { existing, .. } if existing.contains(&place));
            let (schema, name) = &place;
            match (is_added, is_replaced) {
                (true, _) => format!("add the rows to {schema}.{name}, whose triggers fire"),
                (false, true) => format!(
                    "move {schema}.{name} to {}.{name}, and the new one into its place",
                    self.options.replaced(schema)
                ),
                (false, false) => format!("move the new one to {schema}.{name}"),
            }
        };
        self.choice.relations.iter().map(place).collect()
    }
}
