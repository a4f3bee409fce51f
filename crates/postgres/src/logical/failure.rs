//! Why a dump or its restore came to nothing, each with its way out.
//!
//! **Invariant**: what stands in the way is named all at once, and a password is in none of it.

use std::path::PathBuf;

use strongroom_engine::EngineError;
use strongroom_model::Cancelled;

use crate::refusal::{ConnectError, SqlError};

/// How many things an error names before it only counts them.
const NAMED: usize = 20;

/// Why there is no dump, or no restored database.
#[derive(Debug, thiserror::Error)]
pub enum LogicalError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A question had no answer.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The role may not read all there is.
    #[error("dump the database at {place} as {role}: it may not read {}", list(what))]
    NotReadable {
        /// Where.
        place: String,
        /// As whom.
        role: String,
        /// Each with why.
        what: Vec<String>,
    },
    /// Truncated, rewritten, dropped or renamed after the snapshot and before the lock.
    #[error("dump the database at {place}: {} changed at the moment of the snapshot", list(what))]
    Changed {
        /// Where.
        place: String,
        /// Which tables.
        what: Vec<String>,
    },
    /// Somebody waits to change a table that this dump has locked.
    #[error("dump {table} at {place}: another session waits to change it")]
    Waiting {
        /// Which.
        table: String,
        /// Where.
        place: String,
    },
    /// The session whose snapshot everything shows is gone.
    #[error("dump the database at {place}: the session that held the snapshot was lost ({said})")]
    SnapshotLost {
        /// Where.
        place: String,
        /// What was said last.
        said: String,
    },
    /// Rows could not be read or written.
    #[error("{doing} {object}: {source}")]
    Copy {
        /// `read` or `write`.
        doing: &'static str,
        /// Which table, or large object.
        object: String,
        /// Why.
        #[source]
        source: Box<SqlError>,
    },
    /// A part was not read, or not written, to its end.
    #[error("{doing}: {} came to no end", list(parts))]
    Unfinished {
        /// `end the dump` or `end the restore`.
        doing: &'static str,
        /// Which parts.
        parts: Vec<String>,
    },
    /// A program that this needs is not here.
    #[error(
        "find {program} of PostgreSQL {at_least} or newer: {}",
        if found.is_empty() { format!("there is none in {looked}") } else { format!("there are only {found}") }
    )]
    NoProgram {
        /// Which.
        program: &'static str,
        /// How old it may be.
        at_least: u16,
        /// What there is.
        found: String,
        /// Where it would be.
        looked: String,
    },
    /// A program ended with an error.
    #[error("run {program} for {object}: {said}")]
    Program {
        /// Which.
        program: &'static str,
        /// The database.
        object: String,
        /// What it said.
        said: String,
    },
    /// What was dumped is not what a restore can read.
    #[error("read {what}: {why}")]
    Malformed {
        /// Which part, or the facts.
        what: String,
        /// What does not fit.
        why: String,
    },
    /// This dump cannot be restored there.
    #[error("restore {what} to {place}: {}", reasons.join("; "))]
    Refused {
        /// Which dump.
        what: String,
        /// Where.
        place: String,
        /// Every reason there is.
        reasons: Vec<String>,
    },
    /// What was restored is not what was dumped.
    #[error("compare {what} with the dump: {}", list(differences))]
    Differs {
        /// Which database.
        what: String,
        /// Table, expected and found.
        differences: Vec<String>,
    },
    /// A file is no whole dump.
    #[error("import {}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A server cannot run as root, and there is nobody else.
    #[error("start a scratch server: none runs as root, and there is no user postgres")]
    NoUser,
    /// A file could not be read or written.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It failed after something had been written, which is still there.
    #[error("{source}; what was restored so far is left as {aside}")]
    Aside {
        /// Under which name.
        aside: String,
        /// What to do with it.
        remove: String,
        /// Why.
        #[source]
        source: Box<LogicalError>,
    },
}

impl LogicalError {
    /// Rows of `object` could not be read or written.
    pub(crate) fn copy(doing: &'static str, object: &str, source: SqlError) -> LogicalError {
        LogicalError::Copy { doing, object: object.to_owned(), source: Box::new(source) }
    }

    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            LogicalError::Connect(error) => error.hint(),
            LogicalError::Sql(error) => error.hint(),
            LogicalError::Copy { source, .. } => source.hint(),
            LogicalError::Cancelled(_) => "run the command again".into(),
            LogicalError::NotReadable { role, .. } => {
                let role = crate::quote::quoted_name(role);
                format!(
                    "GRANT USAGE ON SCHEMA … TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA … TO {role}; the same for \
                     SEQUENCES; where row security hides rows: ALTER ROLE {role} BYPASSRLS"
                )
            }
            LogicalError::Changed { .. } => "nothing was taken: run `strongroom backup` again".into(),
            LogicalError::Waiting { .. } => {
                "nothing was taken: when that session has done its work, run `strongroom backup` again".into()
            }
            LogicalError::SnapshotLost { .. } => {
                "was the server restarted or the session ended? nothing was taken: run `strongroom backup` again".into()
            }
            LogicalError::Unfinished { .. } => "run the command again".into(),
            LogicalError::NoProgram { at_least, program: "initdb" | "pg_ctl", .. } => {
                format!("install postgresql-{at_least}: the file is restored into a server of its own first")
            }
            LogicalError::NoProgram { at_least, .. } => format!(
                "install postgresql-client-{at_least}, or name the folder of its programs: --programs, or `programs` of [postgres]"
            ),
            LogicalError::Program { .. } => "what does the server's log say?".into(),
            LogicalError::Malformed { .. } => {
                "was it written by a newer strongroom? use that one, or another point".into()
            }
            LogicalError::Refused { .. } => "nothing was written; mend these and run it again".into(),
            LogicalError::Differs { .. } => {
                "did another session write there? restore again, into a database that nobody uses".into()
            }
            LogicalError::File { .. } => {
                "nothing was imported; is there another copy? what it needs beside it: a role (--role NAME), an extension's package"
                    .into()
            }
            LogicalError::NoUser => "run this as another user than root, or add the user postgres".into(),
            LogicalError::Io { .. } => "is there space, and may this user write there?".into(),
            LogicalError::Aside { source, remove, .. } => {
                format!("{}; to remove it: {remove}", source.hint())
            }
        }
    }
}

impl From<LogicalError> for EngineError {
    fn from(error: LogicalError) -> EngineError {
        let (what, hint) = (error.to_string(), error.hint());
        match error {
            LogicalError::Connect(error) => error.into(),
            LogicalError::Sql(error) => error.into(),
            LogicalError::Cancelled(cancelled) => cancelled.into(),
            LogicalError::Copy { source, .. } if source.is_end_of_session() => {
                EngineError::Unreachable { what, hint, source: None }
            }
            LogicalError::Changed { .. }
            | LogicalError::Waiting { .. }
            | LogicalError::SnapshotLost { .. } => EngineError::Overtaken { what, hint },
            LogicalError::Malformed { .. } | LogicalError::Differs { .. } | LogicalError::File { .. } => {
                EngineError::Damaged { what, hint }
            }
            LogicalError::Io { operation, path, source } => EngineError::io(operation, path, source),
            LogicalError::Aside { aside, remove, source } => match EngineError::from(*source) {
                EngineError::Cancelled(cancelled) => {
                    // Whoever asked to stop is not told by an error; what is left must be said all the same.
                    tracing::warn!("what was restored so far is left as {aside}; to remove it: {remove}");
                    cancelled.into()
                }
                EngineError::Unreachable { source, .. } => EngineError::Unreachable { what, hint, source },
                EngineError::Overtaken { .. } => EngineError::Overtaken { what, hint },
                EngineError::Damaged { .. } => EngineError::Damaged { what, hint },
                EngineError::Unfit { .. } | EngineError::Io { .. } => EngineError::Unfit { what, hint },
            },
            _ => EngineError::Unfit { what, hint },
        }
    }
}

/// Names, or the first of them and how many more there are.
fn list(names: &[String]) -> String {
    let mut text = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}
