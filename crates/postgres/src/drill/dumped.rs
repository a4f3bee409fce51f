//! The server of a drill that restores a dump: empty, of the dump's version or newer, with the dump's roles.
//!
//! **Invariants**: those of [`crate::logical::scratch`]; and unlike a server that is only read once, this one writes durably, for
//! it is timed.

#![allow(clippy::disallowed_methods, reason = "finds out where the server's programs are")]

use std::path::Path;

use strongroom_engine::EngineError;
use strongroom_model::Cx;

use crate::drill::place::DrillPlace;
use crate::drill::subject::Subject;
use crate::logical::facts::LogicalFacts;
use crate::logical::load::Load;
use crate::logical::options::{LoadOptions, Scope, Without};
use crate::logical::program::Programs;
use crate::logical::roles::RoleMap;
use crate::logical::scratch::{Haste, Scratch};
use crate::quote::quoted_name;

/// The database that databases are made from.
const MAINTENANCE: &str = "postgres";

/// A server that a dump is restored at.
pub struct DumpServer {
    scratch: Scratch,
    subject: Subject,
    id: String,
    /// What the dump's database is called.
    pub database: String,
}

impl DumpServer {
    /// Makes and starts one for a dump with these facts, in the drill's folder.
    pub async fn start(
        cx: &Cx,
        place: &DrillPlace,
        facts: &serde_json::Value,
    ) -> Result<DumpServer, EngineError> {
        let (facts, programs) = (LogicalFacts::read(facts)?, Programs::default());
        let within = (Some(place.folder()), Haste::InEarnest);
        let scratch = Scratch::start(cx, &programs, Some(facts.major()), within).await?;
        let postgres = programs.find("postgres", scratch.major).await;
        // On `PATH` there may be links to some of a version's programs; beside the program itself are all.
        let folder = postgres.map(|program| {
            let path = std::fs::canonicalize(&program.path).unwrap_or(program.path);
            path.parent().map(Path::to_owned).unwrap_or_default()
        });
        let id = place.id().to_owned();
        let database = match facts.database.name.as_str() {
            // Connected to while it is restored.
            MAINTENANCE | "template0" | "template1" => "restored".to_owned(),
            name => name.to_owned(),
        };
        let made = match folder {
            Ok(folder) => {
                let subject = Subject::new(scratch.folder(), "postgres", (&folder, scratch.major), &id);
                make_roles(cx, &subject, &facts.roles).await.map(|()| subject)
            }
            Err(error) => Err(error.into()),
        };
        match made {
            Ok(subject) => Ok(DumpServer { scratch, subject, id, database }),
            Err(error) => {
                scratch.stop().await;
                Err(error)
            }
        }
    }

    /// The server, to be asked.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Where the dump is to be restored: all of it, into a new database of its own name. `jobs` is how much is built and read back
    /// at a time.
    pub fn target(&self, jobs: usize) -> Result<Load, EngineError> {
        let options = LoadOptions {
            scope: Scope::NewDatabase(Some(self.database.clone())),
            replace: false,
            roles: RoleMap::default(),
            no_owner: false,
            no_privileges: false,
            // They are places on another host's disks.
            no_tablespaces: true,
            without: Without::default(),
            jobs,
            id: self.id.clone(),
            scratch: Some(self.scratch.folder().to_owned()),
            programs: self.scratch.programs.clone(),
        };
        Ok(Load::new(self.scratch.conninfo(MAINTENANCE)?, options))
    }

    /// Stops it and waits until it is gone.
    pub async fn end(self) {
        self.scratch.stop().await;
    }

    /// Leaves it to itself, running; how to connect, and how to get rid of it.
    pub async fn leave(self, place: &DrillPlace) -> Result<Vec<String>, EngineError> {
        let connect = format!("connect: {}", self.subject.how_to_connect());
        let data = self.scratch.leave().await?.join("data");
        Ok([vec![connect], self.subject.how_to_end(&data, place.folder()).to_vec()].concat())
    }
}

/// Roles without attributes: a dump names them, and says no more of them.
async fn make_roles(cx: &Cx, subject: &Subject, roles: &[String]) -> Result<(), EngineError> {
    let client = subject.connect_anyhow().await?;
    for role in roles.iter().filter(|role| **role != subject.superuser && !role.starts_with("pg_")) {
        cx.check()?;
        client.run("create a role", &format!("CREATE ROLE {}", quoted_name(role))).await?;
    }
    Ok(())
}
