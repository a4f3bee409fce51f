//! Roles of a dump that are called otherwise where it is restored.
//!
//! ```text
//! schema's archive ▶ owners, and the statements that name roles ▶ the same archive, as a directory
//! ```
//!
//! A role is a word at a known place of four kinds of statements, all in `pg_dump`'s own words; nothing else is touched. Names of
//! roles within expressions and the bodies of functions are text to the server, and to us.
//!
//! **Invariants**: a statement is read as the server reads it, name by name, so that no part of a name or text is taken for a
//! role; all roles change at once, so that two may change places.

#![allow(clippy::disallowed_methods, reason = "rewrites the schema's archive, which pg_restore reads")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::logical::archive::{Entry, PG_CLASS, Packing, Toc};
use crate::logical::facts::Grant;
use crate::logical::failure::LogicalError;
use crate::logical::part::Part;
use crate::quote::quoted_name;

/// What roles of a dump are called at the target. Those that it does not name are called as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleMap(BTreeMap<String, String>);

impl RoleMap {
    /// Pairs of a dump's role and the one that stands for it; `Err` with a role that is named twice.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<RoleMap, String> {
        let mut map = BTreeMap::new();
        for (dumped, here) in pairs {
            if map.contains_key(&dumped) {
                return Err(dumped);
            }
            map.insert(dumped, here);
        }
        Ok(RoleMap(map))
    }

    /// Whether every role is called as it was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pairs, by the dump's role.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(dumped, here)| (dumped.as_str(), here.as_str()))
    }

    /// What a role of the dump is called here.
    pub(crate) fn of<'a>(&'a self, role: &'a str) -> &'a str {
        self.0.get(role).map_or(role, String::as_str)
    }

    /// A right, given to whoever stands for its role here.
    pub(crate) fn grant(&self, grant: &Grant) -> Grant {
        let to = grant.to.as_deref().map(|role| self.of(role).to_owned());
        Grant { to, ..grant.clone() }
    }

    /// Puts a directory archive with these roles in the place of the schema's archive.
    pub(crate) async fn rewrite(&self, archive: &Path) -> Result<(), LogicalError> {
        let mut toc = contents(archive).await?;
        self.rename(&mut toc);
        let io = |operation| move |source| LogicalError::Io { operation, path: archive.to_owned(), source };
        tokio::fs::remove_file(archive).await.map_err(io("remove"))?;
        tokio::fs::create_dir(archive).await.map_err(io("create"))?;
        tokio::fs::write(archive.join("toc.dat"), toc.write()).await.map_err(io("write"))
    }

    fn rename(&self, toc: &mut Toc) {
        toc.head.packing = Packing::Raw;
        for entry in &mut toc.entries {
            if let Some(here) = entry.owner.as_deref().and_then(|owner| self.found(owner)) {
                entry.owner = Some(here.as_bytes().to_vec());
            }
            let Some(places) = Places::of(entry) else { continue };
            entry.definition = entry.definition.as_deref().map(|sql| self.renamed(sql, places));
        }
    }

    /// A statement, with its roles as they are called here.
    fn renamed(&self, sql: &[u8], places: Places) -> Vec<u8> {
        replaced(sql, places, |role| self.found(role).map(quoted_name))
    }

    fn found(&self, role: &[u8]) -> Option<&str> {
        std::str::from_utf8(role).ok().and_then(|role| self.0.get(role)).map(String::as_str)
    }
}

/// The roles without which policies and user mappings cannot be made, also where nobody gets anything: of the whole, or of the
/// tables of these numbers, on which there are policies alone.
pub(crate) async fn indispensable(
    archive: &Path,
    tables: Option<&BTreeSet<u32>>,
) -> Result<BTreeSet<String>, LogicalError> {
    let (toc, mut roles) = (contents(archive).await?, BTreeSet::new());
    let is_taken = |entry: &&Entry| {
        entry.object.0 == PG_CLASS && tables.is_some_and(|tables| tables.contains(&entry.object.1))
    };
    let taken: BTreeSet<i32> = toc.entries.iter().filter(is_taken).map(|entry| entry.number).collect();
    for entry in &toc.entries {
        let Some(places @ (Places::Policy | Places::Mapping)) = Places::of(entry) else { continue };
        if tables.is_some() && entry.depends_on.iter().all(|number| !taken.contains(number)) {
            continue;
        }
        replaced(entry.definition.as_deref().unwrap_or_default(), places, |role| {
            let role = String::from_utf8_lossy(role).into_owned();
            roles.extend(Some(role).filter(|role| role != "public"));
            None
        });
    }
    Ok(roles)
}

async fn contents(archive: &Path) -> Result<Toc, LogicalError> {
    let io = |source| LogicalError::Io { operation: "read", path: archive.to_owned(), source };
    let bytes = tokio::fs::read(archive).await.map_err(io)?;
    Toc::read(&bytes).map_err(|why| LogicalError::Malformed { what: Part::Schema.name(), why })
}

/// A statement, with what `call` says in place of each role for which it says anything.
fn replaced(sql: &[u8], places: Places, mut call: impl FnMut(&[u8]) -> Option<String>) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(sql.len()), sql);
    let (mut before, mut state) = ([&b""[..]; 2], State::Elsewhere);
    while !rest.is_empty() && state != State::Done {
        let (token, behind) = rest.split_at(token(rest));
        rest = behind;
        if token.first().is_some_and(u8::is_ascii_whitespace) {
            out.extend_from_slice(token);
            continue;
        }
        let is_role = state == State::Role && token != b"GROUP";
        match is_role.then(|| name(token)).and_then(|role| call(&role)) {
            Some(here) => out.extend_from_slice(here.as_bytes()),
            None => out.extend_from_slice(token),
        }
        state = state.after(token, before, places);
        before = [before[1], token];
    }
    out.extend_from_slice(rest);
    out
}

/// Where a kind of statement names roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Places {
    /// `GRANT … TO a, b`, `REVOKE … FROM a`, `SET SESSION AUTHORIZATION a`, `ALTER DEFAULT PRIVILEGES FOR ROLE a`, one after
    /// the other.
    Rights,
    /// `CREATE POLICY … TO a, b`; expressions follow, in brackets.
    Policy,
    /// `CREATE USER MAPPING FOR a`.
    Mapping,
}

impl Places {
    fn of(entry: &Entry) -> Option<Places> {
        match entry.kind.as_deref()? {
            b"ACL" | b"DEFAULT ACL" => Some(Places::Rights),
            b"POLICY" => Some(Places::Policy),
            b"USER MAPPING" => Some(Places::Mapping),
            _ => None,
        }
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Something else.
    Elsewhere,
    /// A role.
    Role,
    /// A comma and another role, or something else.
    BehindRole,
    /// No role any more.
    Done,
}

impl State {
    /// After this token, and the two before it. The words of SQL are in capitals, and a name that is one of them is quoted.
    fn after(self, token: &[u8], before: [&[u8]; 2], places: Places) -> State {
        match (self, places, token) {
            (State::Role, _, b"GROUP") => State::Role,
            (State::Role, Places::Mapping, _) => State::Done,
            (State::Role, ..) => State::BehindRole,
            (State::BehindRole, _, b",") => State::Role,
            (State::BehindRole, Places::Policy, _) | (_, Places::Policy, b"(") => State::Done,
            (_, Places::Rights, b"TO" | b"FROM") | (_, Places::Policy, b"TO") => State::Role,
            (_, Places::Rights, b"ROLE") if before[1] == b"FOR" => State::Role,
            (_, Places::Rights, b"AUTHORIZATION") if before == [&b"SET"[..], b"SESSION"] => State::Role,
            (_, Places::Mapping, b"FOR") if before == [&b"USER"[..], b"MAPPING"] => State::Role,
            _ => State::Elsewhere,
        }
    }
}

/// Bytes of the first token: white space, a quoted name or text, a word, or a sign.
fn token(sql: &[u8]) -> usize {
    let run = |is: fn(&u8) -> bool| sql.iter().position(|byte| !is(byte)).unwrap_or(sql.len());
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
    match sql[0] {
        byte if byte.is_ascii_whitespace() => run(u8::is_ascii_whitespace),
        quote @ (b'"' | b'\'') => {
            // A quote inside is doubled: what looks like two names in a row reads the same way.
            let mut end = 1;
            while end < sql.len() {
                match (sql[end] == quote, sql.get(end + 1) == Some(&quote)) {
                    (true, true) => end += 2,
                    (true, false) => return end + 1,
                    (false, _) => end += 1,
                }
            }
            sql.len()
        }
        byte if is_word(&byte) => run(is_word),
        _ => 1,
    }
}

/// The name that a token stands for.
fn name(token: &[u8]) -> Vec<u8> {
    match token.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) {
        Some(inside) => {
            let mut name = Vec::with_capacity(inside.len());
            let mut bytes = inside.iter().copied().peekable();
            while let Some(byte) = bytes.next() {
                name.push(byte);
                if byte == b'"' {
                    bytes.next_if_eq(&b'"');
                }
            }
            name
        }
        None => token.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> RoleMap {
        let pairs = [("keeper", "owner"), ("reader", "keeper"), ("o\"dd, TO", "even"), ("to", "from")];
        RoleMap::new(pairs.map(|(dumped, here)| (dumped.to_owned(), here.to_owned()))).unwrap()
    }

    fn check(places: Places, sql: &str, renamed: &str) {
        assert_eq!(String::from_utf8(map().renamed(sql.as_bytes(), places)).unwrap(), renamed);
    }

    #[test]
    fn rights_go_to_whoever_stands_for_the_role() {
        for (sql, renamed) in [
            (
                "GRANT SELECT ON TABLE app.many TO reader WITH GRANT OPTION;",
                "GRANT SELECT ON TABLE app.many TO \"keeper\" WITH GRANT OPTION;",
            ),
            (
                "REVOKE ALL ON TABLE keeper.reader FROM keeper;\nGRANT ALL ON TABLE keeper.reader TO other;\n",
                "REVOKE ALL ON TABLE keeper.reader FROM \"owner\";\nGRANT ALL ON TABLE keeper.reader TO other;\n",
            ),
            ("GRANT ALL(reader) ON TABLE t TO PUBLIC;", "GRANT ALL(reader) ON TABLE t TO PUBLIC;"),
            (
                "GRANT ALL ON FUNCTION f(reader integer, \"TO\" keeper) TO \"o\"\"dd, TO\";",
                "GRANT ALL ON FUNCTION f(reader integer, \"TO\" keeper) TO \"even\";",
            ),
            (
                "SET SESSION AUTHORIZATION reader;\nGRANT USAGE ON SCHEMA \"FROM\" TO \"to\";\nRESET SESSION AUTHORIZATION;",
                "SET SESSION AUTHORIZATION \"keeper\";\nGRANT USAGE ON SCHEMA \"FROM\" TO \"from\";\nRESET SESSION AUTHORIZATION;",
            ),
            (
                "ALTER DEFAULT PRIVILEGES FOR ROLE keeper IN SCHEMA reader GRANT SELECT ON TABLES  TO reader;",
                "ALTER DEFAULT PRIVILEGES FOR ROLE \"owner\" IN SCHEMA reader GRANT SELECT ON TABLES  TO \"keeper\";",
            ),
        ] {
            check(Places::Rights, sql, renamed);
        }
    }

    #[test]
    fn policies_and_mappings_name_roles_once() {
        check(
            Places::Policy,
            "CREATE POLICY \"TO\" ON app.reader AS RESTRICTIVE FOR SELECT TO other, reader,keeper USING ((owner = 'x TO reader'::text));",
            "CREATE POLICY \"TO\" ON app.reader AS RESTRICTIVE FOR SELECT TO other, \"keeper\",\"owner\" USING ((owner = 'x TO reader'::text));",
        );
        let open = "CREATE POLICY own ON t USING ((EXTRACT(day FROM keeper) = 1)) WITH CHECK (true);";
        check(Places::Policy, open, open);
        check(
            Places::Mapping,
            "CREATE USER MAPPING FOR reader SERVER keeper OPTIONS (\n    \"user\" 'reader'\n);\n",
            "CREATE USER MAPPING FOR \"keeper\" SERVER keeper OPTIONS (\n    \"user\" 'reader'\n);\n",
        );
    }

    #[test]
    fn a_role_that_is_named_twice_is_named() {
        let pairs = [("a", "b"), ("a", "c")].map(|(dumped, here)| (dumped.to_owned(), here.to_owned()));
        assert_eq!(RoleMap::new(pairs), Err("a".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn what_names_no_role_stays_as_it_is(sql: Vec<u8>, which in 0..3_usize) {
            let places = [Places::Rights, Places::Policy, Places::Mapping][which];
            proptest::prop_assert_eq!(RoleMap::default().renamed(&sql, places), sql);
        }
    }
}
