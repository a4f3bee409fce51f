//! The names of a dump's parts.
//!
//! ```text
//! schema.dump                         pg_dump's archive of everything but rows
//! globals.sql                         roles and tablespaces
//! data/<schema>.<table>/<nnnn>        rows of so many blocks of the table, from block nnnn × 65,536 on
//! largeobjects/<nnnn>                 large objects whose number divided by 1,048,576 is nnnn
//! ```
//!
//! **Invariant**: two tables never have the same name here, and a table has the same one in every dump: every byte of a name
//! but letters, digits, `_` and `-` is written as `%` and two digits.

use std::fmt::Write;

use strongroom_model::entry::EntryPath;

/// Blocks of a table in one part: 512 MiB of 8 KiB. Fixed, so that the next dump has the same rows in the same part.
pub const BLOCKS: u64 = 65_536;

/// How many large objects' numbers share a part.
pub const LARGE_OBJECTS: u32 = 1 << 20;

/// What a part holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The schema's archive.
    Schema,
    /// Roles and tablespaces.
    Globals,
    /// Rows of a table: its folder, and the how-many-th part of it.
    Rows(String, u32),
    /// Large objects.
    LargeObjects(u32),
}

impl Part {
    /// Its name, as text.
    pub fn name(&self) -> String {
        match self {
            Part::Schema => "schema.dump".to_owned(),
            Part::Globals => "globals.sql".to_owned(),
            Part::Rows(folder, number) => format!("{folder}/{number:04}"),
            Part::LargeObjects(number) => format!("largeobjects/{number:04}"),
        }
    }

    /// Its name in the point. `None` for a folder that [`folder`] did not make.
    pub fn path(&self) -> Option<EntryPath> {
        EntryPath::new(self.name()).ok()
    }

    /// What a name stands for; `None` if it is none of a dump's.
    pub fn of(path: &EntryPath) -> Option<Part> {
        let text = std::str::from_utf8(path.as_bytes()).ok()?;
        match text.rsplit_once('/') {
            None if text == "schema.dump" => Some(Part::Schema),
            None if text == "globals.sql" => Some(Part::Globals),
            None => None,
            Some(("largeobjects", number)) => Some(Part::LargeObjects(number.parse().ok()?)),
            Some((folder, number)) if folder.starts_with("data/") => {
                Some(Part::Rows(folder.to_owned(), number.parse().ok()?))
            }
            Some(_) => None,
        }
    }
}

/// The folder of a table's rows.
pub fn folder(schema: &str, table: &str) -> String {
    format!("data/{}.{}", escaped(schema), escaped(table))
}

fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => text.push(byte.into()),
            // Writing to a string does not fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_name_of_its_own_that_reads_back() {
        let odd = [
            ("public", "orders"),
            ("public.orders", ""),
            ("public", "Orders"),
            ("a.b", "c"),
            ("a", "b.c"),
            ("..", ".."),
            ("a/b", "new\nline \"quote\" ö"),
            ("a%2Fb", "x"),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for (schema, table) in odd {
            for number in [0, 7, 12_345] {
                let part = Part::Rows(folder(schema, table), number);
                let path = part.path().unwrap();
                assert_eq!(Part::of(&path), Some(part));
                assert!(seen.insert(path));
            }
        }
        assert_eq!(Part::Rows(folder("a b", "ö"), 3).name(), "data/a%20b.%C3%B6/0003");
        for part in [Part::Schema, Part::Globals, Part::LargeObjects(4095)] {
            assert_eq!(Part::of(&part.path().unwrap()), Some(part));
        }
        for strange in ["schema", "data/x", "largeobjects/x", "other/0001", "data/a.b/-1"] {
            assert_eq!(Part::of(&EntryPath::new(strange).unwrap()), None, "{strange}");
        }
    }
}
