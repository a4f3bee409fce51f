//! Which databases of a cluster are restored.
//!
//! A cluster's databases share their journal, so none can be missing from a restored cluster: replay would stop at the
//! first change to it. The files of one that is left out are restored as zeros of their size, which take no room; replay
//! writes into them what it finds. Such a database cannot be connected to, only dropped.
//!
//! Names are those that databases had when the point was made. What has no name in the point is restored.

use std::collections::BTreeMap;

use strongroom_model::entry::EntryPath;

use crate::relation::database_of;

/// The first number that a database of a user can have (`FirstNormalObjectId`): all below are made by `initdb`.
const FIRST_OF_USERS: u32 = 16_384;

/// Made by `initdb` as well, but it may have been made anew since.
const TEMPLATES: [&str; 2] = ["template0", "template1"];

/// Which databases are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All there are.
    All,
    /// These, and the server's own.
    Only(Vec<String>),
    /// All but these.
    Except(Vec<String>),
}

/// Databases that are not restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    left_out: BTreeMap<u32, String>,
}

/// Why a choice of databases cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// The point has no such database.
    #[error("the recovery point has no database '{name}'")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those of users that it has.
        known: Vec<String>,
    },
    /// The server does not do without.
    #[error("database {name} is the server's own: it is always restored")]
    System {
        /// Which.
        name: String,
    },
    /// Old points do not name their databases.
    #[error(
        "the recovery point does not say which databases it has: it was made by a build that did not record them"
    )]
    NotRecorded,
}

impl Selection {
    /// Those of `databases` (names by number) that `choice` leaves out.
    pub fn of(databases: &BTreeMap<u32, String>, choice: &Choice) -> Result<Selection, SelectionError> {
        let (names, restores_named) = match choice {
            Choice::All => return Ok(Selection::default()),
            Choice::Only(names) => (names, true),
            Choice::Except(names) => (names, false),
        };
        if databases.is_empty() {
            return Err(SelectionError::NotRecorded);
        }
        for name in names {
            match databases.iter().find(|(_, known)| *known == name) {
                None => {
                    let of_users = databases.iter().filter(|(oid, known)| !is_system(**oid, known));
                    let known = of_users.map(|(_, known)| known.clone()).collect();
                    return Err(SelectionError::Unknown { name: name.clone(), known });
                }
                Some((oid, known)) if is_system(*oid, known) => {
                    return Err(SelectionError::System { name: name.clone() });
                }
                Some(_) => {}
            }
        }
        let left_out = databases
            .iter()
            .filter(|(oid, known)| !is_system(**oid, known) && names.contains(known) != restores_named);
        Ok(Selection { left_out: left_out.map(|(oid, known)| (*oid, known.clone())).collect() })
    }

    /// The names of the databases that are not restored, by number.
    pub fn left_out(&self) -> &BTreeMap<u32, String> {
        &self.left_out
    }

    /// Whether this file is restored as zeros. The server looks for `PG_VERSION` before it drops a database.
    pub fn leaves_out(&self, path: &EntryPath) -> bool {
        !self.left_out.is_empty()
            && database_of(path).is_some_and(|oid| self.left_out.contains_key(&oid))
            && !path.as_bytes().ends_with(b"/PG_VERSION")
    }
}

fn is_system(oid: u32, name: &str) -> bool {
    oid < FIRST_OF_USERS || TEMPLATES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn databases() -> BTreeMap<u32, String> {
        let all = [(1, "template1"), (4, "template0"), (5, "postgres"), (16400, "orders"), (16500, "stock")];
        all.into_iter().map(|(oid, name)| (oid, name.to_owned())).collect()
    }

    fn check(choice: Choice, expected: &str) {
        let found = match Selection::of(&databases(), &choice) {
            Ok(selection) => selection.left_out.values().cloned().collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{choice:?}");
    }

    #[test]
    fn behaviour_30_absent_and_system_databases_are_refused() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        check(Choice::All, "");
        check(Choice::Only(names(&["orders"])), "stock");
        check(Choice::Except(names(&["orders"])), "orders");
        check(Choice::Only(names(&["orders", "stock"])), "");
        check(Choice::Except(names(&["orders", "stock"])), "orders stock");
        check(Choice::Only(names(&["sales"])), "the recovery point has no database 'sales'");
        check(Choice::Except(names(&["orders", "Stock"])), "the recovery point has no database 'Stock'");
        for system in ["postgres", "template0", "template1"] {
            let refused = format!("database {system} is the server's own: it is always restored");
            check(Choice::Only(names(&[system])), &refused);
            check(Choice::Except(names(&[system])), &refused);
        }
        let unknown = Selection::of(&databases(), &Choice::Only(names(&["x"])));
        assert_eq!(
            unknown,
            Err(SelectionError::Unknown { name: "x".into(), known: names(&["orders", "stock"]) })
        );
        let old = Selection::of(&BTreeMap::new(), &Choice::Except(names(&["orders"])));
        assert_eq!(old, Err(SelectionError::NotRecorded));
        assert_eq!(Selection::of(&BTreeMap::new(), &Choice::All), Ok(Selection::default()));
    }

    #[test]
    fn a_template_that_was_made_anew_is_a_template() {
        let mut databases = databases();
        databases.remove(&1);
        databases.insert(17000, "template1".into());
        let only = Selection::of(&databases, &Choice::Only(vec!["orders".into()])).unwrap();
        assert_eq!(only.left_out.keys().copied().collect::<Vec<_>>(), [16500]);
    }

    #[test]
    fn only_files_of_the_database_are_left_out() {
        let selection = Selection::of(&databases(), &Choice::Only(vec!["stock".into()])).unwrap();
        for (path, left_out) in [
            ("base/16400/2619", true),
            ("base/16400/2619_vm", true),
            ("base/16400/pg_filenode.map", true),
            ("pg_tblspc/20000/PG_15_202209061/16400/20001.1", true),
            ("base/16400/PG_VERSION", false),
            ("base/16500/2619", false),
            ("base/164000/2619", false),
            ("base/5/2619", false),
            ("base/16400", false),
            ("pg_tblspc/16400/PG_15_202209061/5/20001", false),
            ("global/16400", false),
            ("log/base/16400/1", false),
        ] {
            assert_eq!(selection.leaves_out(&EntryPath::new(path).unwrap()), left_out, "{path}");
        }
    }
}
