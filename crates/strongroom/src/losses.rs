//! Lost pages, as a person is told of them.

use std::collections::BTreeMap;

use strongroom_model::entry::EntryPath;
use strongroom_postgres::facts::PostgresFacts;
use strongroom_postgres::relation::{describe, page_numbers};
use strongroom_vault::verify::LostPages;

/// One line for each file; `facts` give its database a name.
pub fn lost_pages(lost: &[LostPages], facts: Option<&PostgresFacts>) -> Vec<String> {
    let none = BTreeMap::new();
    let databases = facts.map_or(&none, |facts| &facts.databases);
    let mut lines: Vec<String> = lost
        .iter()
        .map(|LostPages { path, pages }| {
            let what = EntryPath::new(path.as_str()).map(|path| describe(&path, pages, databases));
            let what = what.map(|what| format!(" ({what})")).unwrap_or_default();
            format!("      {path} loses pages {}{what}", page_numbers(pages, 0))
        })
        .collect();
    if lines.iter().any(|line| line.contains("(relation")) {
        lines.push("      the name behind a relation's number: SELECT pg_filenode_relation(0, NUMBER) in its database".into());
    }
    lines
}
