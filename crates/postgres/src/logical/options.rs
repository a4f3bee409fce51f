//! How a dump is to be restored.

use std::path::PathBuf;

use crate::logical::facts::Relation;
use crate::logical::program::Programs;
use crate::logical::roles::RoleMap;
use crate::quote::quoted_name;

/// The longest name that a server keeps whole, in bytes.
const LONGEST: usize = 63;

/// In the name of what is under way, before its id.
pub(crate) const UNDER_WAY: &str = "__strongroom_";

/// What is wanted.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// How much of the dump, and where to.
    pub scope: Scope,
    /// What has the name already is renamed aside at the end. Never dropped.
    pub replace: bool,
    /// What roles are called here: as owners, in rights, default rights, policies and user mappings.
    pub roles: RoleMap,
    /// Everything belongs to the role that restores.
    pub no_owner: bool,
    /// Nobody is given any rights.
    pub no_privileges: bool,
    /// Everything lies in the default tablespace.
    pub no_tablespaces: bool,
    /// What is not built.
    pub without: Without,
    /// How many indexes are built, and tables read back, at a time.
    pub jobs: usize,
    /// Part of the names of what is under way or aside: letters, digits and `_`.
    pub id: String,
    /// A folder for the schema's archive; the system's for temporary files if `None`.
    pub scratch: Option<PathBuf>,
    /// Where `pg_restore` is.
    pub programs: Programs,
}

/// How much is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything, into a new database of this name; as it was called, if `None`.
    NewDatabase(Option<String>),
    /// Everything, into this database, which is there and has nothing in it.
    EmptyDatabase(String),
    /// A schema with everything in it, into the database connected to.
    Schema(String),
    /// Tables, with what is made on them, into the database connected to.
    Tables(Vec<Wanted>),
    /// Rows of tables, added to those of tables that are there.
    Rows(Vec<Wanted>),
}

/// A table that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its schema in the dump.
    pub schema: String,
    /// Its name in the dump. A partitioned one comes with its partitions.
    pub name: String,
    /// The schema and name that it gets instead. It then comes without indexes, keys and triggers, which have names of their
    /// own.
    pub into: Option<(String, String)>,
}

/// What is not built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// Indexes, and so the constraints that need one.
    pub indexes: bool,
    /// Keys, and what else constrains rows and is not part of the table's definition.
    pub constraints: bool,
    /// Triggers and event triggers.
    pub triggers: bool,
}

impl Without {
    /// Whether an entry of this kind is left out.
    pub(crate) fn leaves_out(self, kind: &str) -> bool {
        let is_constraint = ["CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT"].contains(&kind);
        self.indexes && (["INDEX", "INDEX ATTACH"].contains(&kind) || is_constraint)
            || self.constraints && is_constraint
            || self.triggers && ["TRIGGER", "EVENT TRIGGER"].contains(&kind)
    }

    /// Whether nothing is left out.
    pub fn is_nothing(self) -> bool {
        self == Without::default()
    }
}

impl LoadOptions {
    /// The schema and name that a table gets.
    pub(crate) fn place_of(&self, relation: &Relation) -> (String, String) {
        let own = (relation.schema.clone(), relation.name.clone());
        let (Scope::Tables(wanted) | Scope::Rows(wanted)) = &self.scope else { return own };
        let wanted = wanted.iter().find(|wanted| (&wanted.schema, &wanted.name) == (&own.0, &own.1));
        wanted.and_then(|wanted| wanted.into.clone()).unwrap_or(own)
    }

    /// Whether a table gets another schema or name: it then comes without what is made on it.
    pub(crate) fn is_renamed(&self, relation: &Relation) -> bool {
        self.place_of(relation) != (relation.schema.clone(), relation.name.clone())
    }

    /// What `pg_restore` is told to leave alone.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = &'static str> {
        let skipped = [
            (self.no_owner, "--no-owner"),
            (self.no_privileges, "--no-privileges"),
            (self.no_tablespaces, "--no-tablespaces"),
        ];
        skipped.into_iter().filter(|(is_skipped, _)| *is_skipped).map(|(_, option)| option)
    }

    /// What this is called while it is restored.
    pub(crate) fn under_way(&self, name: &str) -> String {
        suffixed(name, &format!("{UNDER_WAY}{}", self.id))
    }

    /// What the one is called that had the name before.
    pub(crate) fn replaced(&self, name: &str) -> String {
        suffixed(name, &format!("__replaced_{}", self.id))
    }
}

/// The server would cut what is too long, and the end is what tells them apart.
fn suffixed(name: &str, end: &str) -> String {
    let mut keep = LONGEST.saturating_sub(end.len()).min(name.len());
    while !name.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}{end}", &name[..keep])
}

/// How to get rid of a database that was left aside.
pub(crate) fn drop_database(name: &str) -> String {
    format!("DROP DATABASE {};", quoted_name(name))
}

/// How to get rid of schemas that were left aside.
pub(crate) fn drop_schemas<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(quoted_name).collect();
    format!("DROP SCHEMA {} CASCADE;", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_under_way_fit_and_say_what_they_are() {
        assert_eq!(suffixed("shop", "__strongroom_1a"), "shop__strongroom_1a");
        let long = suffixed(&"ö".repeat(31), "__strongroom_1a");
        assert_eq!((long.len(), long.ends_with("ö__strongroom_1a")), (63, true));
    }

    #[test]
    fn indexes_take_their_constraints_along() {
        let without = |indexes, constraints, triggers| Without { indexes, constraints, triggers };
        for (without, kind, left_out) in [
            (without(true, false, false), "INDEX", true),
            (without(true, false, false), "CONSTRAINT", true),
            (without(true, false, false), "TRIGGER", false),
            (without(false, true, false), "FK CONSTRAINT", true),
            (without(false, true, false), "INDEX", false),
            (without(false, false, true), "EVENT TRIGGER", true),
            (without(true, true, true), "MATERIALIZED VIEW DATA", false),
        ] {
            assert_eq!(without.leaves_out(kind), left_out, "{without:?} {kind}");
        }
    }
}
