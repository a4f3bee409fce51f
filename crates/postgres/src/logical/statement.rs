//! The statements by which rows are read and written.

use crate::logical::facts::{TableFact, qualified};
use crate::logical::part::BLOCKS;
use crate::quote::quoted_string;

/// Reads a table, or one range of its blocks, in this encoding.
pub(crate) fn read_rows(table: &TableFact, number: u32, encoding: &str) -> String {
    let (name, columns, encoding) = (table.quoted(), table.column_list(), quoted_string(encoding));
    let first = u64::from(number) * BLOCKS;
    let mut only = Vec::new();
    if first > 0 {
        only.push(format!("ctid >= '({first},0)'::pg_catalog.tid"));
    }
    // The last range has no end, so that how long the table is need not be believed.
    if number + 1 < table.parts {
        only.push(format!("ctid < '({},0)'::pg_catalog.tid", first + BLOCKS));
    }
    let source = match (&table.condition, only.is_empty(), columns.is_empty()) {
        // The extension's own words: `WHERE …`.
        (Some(condition), _, _) => format!("(SELECT {columns} FROM ONLY {name} {condition})"),
        (None, false, _) => format!("(SELECT {columns} FROM ONLY {name} WHERE {})", only.join(" AND ")),
        (None, true, true) => format!("(SELECT FROM ONLY {name})"),
        (None, true, false) => format!("{name} ({columns})"),
    };
    format!("COPY {source} TO STDOUT WITH (ENCODING {encoding})")
}

/// Writes rows into a table, or into the partitioned one that they go through.
pub(crate) fn write_rows(table: &TableFact, encoding: &str) -> String {
    let name = match &table.through {
        Some((schema, name)) => qualified(schema, name),
        None => table.quoted(),
    };
    let columns = match table.column_list() {
        none if none.is_empty() => none,
        columns => format!(" ({columns})"),
    };
    format!("COPY {name}{columns} FROM STDIN WITH (ENCODING {})", quoted_string(encoding))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::logical::facts::ColumnFact;
    use crate::logical::tally::Sum;

    fn table(columns: &[&str], parts: u32) -> TableFact {
        let column =
            |name: &&str| ColumnFact { name: (*name).to_owned(), kind: "text".to_owned(), not_null: false };
        TableFact {
            oid: 1,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            parent: None,
            folder: "data/s.t".to_owned(),
            parts,
            columns: columns.iter().map(column).collect(),
            condition: None,
            through: None,
            rows: 0,
            bytes: 0,
            sum: Sum::default(),
            latest: BTreeMap::new(),
            size: 0,
        }
    }

    #[test]
    fn ranges_meet_and_the_last_has_no_end() {
        let read = |number| read_rows(&table(&["a", "b"], 3), number, "UTF8");
        let statement = |only: &str| {
            format!(
                "COPY (SELECT \"a\", \"b\" FROM ONLY \"s\".\"t\" WHERE {only}) TO STDOUT WITH (ENCODING 'UTF8')"
            )
        };
        assert_eq!(read(0), statement("ctid < '(65536,0)'::pg_catalog.tid"));
        let middle = "ctid >= '(65536,0)'::pg_catalog.tid AND ctid < '(131072,0)'::pg_catalog.tid";
        assert_eq!(read(1), statement(middle));
        assert_eq!(read(2), statement("ctid >= '(131072,0)'::pg_catalog.tid"));
    }

    #[test]
    fn tables_are_read_and_written_by_name() {
        let mut one = table(&["a"], 1);
        assert_eq!(read_rows(&one, 0, "UTF8"), "COPY \"s\".\"t\" (\"a\") TO STDOUT WITH (ENCODING 'UTF8')");
        assert_eq!(write_rows(&one, "UTF8"), "COPY \"s\".\"t\" (\"a\") FROM STDIN WITH (ENCODING 'UTF8')");
        one.condition = Some("WHERE user_made".to_owned());
        assert!(read_rows(&one, 0, "UTF8").contains("(SELECT \"a\" FROM ONLY \"s\".\"t\" WHERE user_made)"));
        one.through = Some(("s".to_owned(), "root".to_owned()));
        assert!(write_rows(&one, "UTF8").starts_with("COPY \"s\".\"root\" (\"a\")"));
        let none = table(&[], 1);
        assert_eq!(
            read_rows(&none, 0, "UTF8"),
            "COPY (SELECT FROM ONLY \"s\".\"t\") TO STDOUT WITH (ENCODING 'UTF8')"
        );
        assert_eq!(write_rows(&none, "UTF8"), "COPY \"s\".\"t\" FROM STDIN WITH (ENCODING 'UTF8')");
    }
}
