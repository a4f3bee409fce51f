//! The end of a restore: what is compared, built, named.
//!
//! ```text
//! every part written? ▶ sequences ▶ rows, sequences, large objects compared ▶ indexes, keys, triggers (pg_restore -j) ▶ ANALYZE
//! ▶ schema compared ▶ owner, rights and settings of the database ▶ renamed, both in one transaction
//! ```
//!
//! Rows are compared before triggers and policies are there: nothing between the dump and them can change what is read, and a
//! difference is known before hours of building indexes.
//!
//! **Invariant**: what has the wanted name keeps it, unchanged, until everything else has succeeded.

use std::sync::Arc;

use serde::Serialize;
use strongroom_engine::Loaded;
use strongroom_model::Cx;

use crate::connect::{self, Client};
use crate::logical::archive::PG_CLASS;
use crate::logical::aside::put;
use crate::logical::comparison::{
    analyze, different_large_objects, different_schema, different_sequences, different_tables,
};
use crate::logical::facts::qualified;
use crate::logical::failure::LogicalError;
use crate::logical::foundation::restore_section;
use crate::logical::loading::{Loading, Stage};
use crate::logical::options::Scope;
use crate::logical::part::Part;
use crate::logical::writer::grant_statement;
use crate::quote::{quoted_name, quoted_string};

/// Sequences set by one statement.
const TOGETHER: usize = 200;

/// What came of a restore.
#[derive(Clone, Debug, Default, Serialize)]
struct LoadReport {
    /// The database that it is in.
    database: String,
    /// What that is called now that had a wanted name before.
    replaced: Vec<String>,
    /// Tables whose rows were compared with the dump's facts, and are equal.
    tables: usize,
    rows: u64,
    bytes: u64,
    sequences: usize,
    large_objects: u64,
    /// What is otherwise than it was, and proves nothing.
    notes: Vec<String>,
}

/// Completes a restore.
pub(crate) async fn complete(cx: &Cx, loading: &Arc<Loading>) -> Result<Loaded, LogicalError> {
    let missing = std::iter::once(Part::Schema).chain(loading.parts().into_iter().map(|(part, _)| part));
    let parts: Vec<String> =
        missing.filter(|part| !loading.is_written(part)).map(|part| part.name()).collect();
    if !parts.is_empty() {
        return Err(LogicalError::Unfinished { doing: "end the restore", parts });
    }
    let client = connect::connect(&loading.conninfo).await?;
    set_sequences(cx, &client, loading).await?;
    cx.progress.begin("comparing", loading.choice.tables.iter().map(|table| table.bytes).sum());
    let mut differences = different_tables(cx, loading).await?;
    differences.extend(different_sequences(cx, &client, loading).await?);
    differences.extend(different_large_objects(cx, loading).await?);
    same(loading, differences)?;
    let (replaced, notes) = match &loading.stage {
        Stage::Database { .. } | Stage::Empty => {
            let notes = build(cx, &client, loading).await?;
            drop(client);
            loading.hang_up();
            cx.check()?;
            (publish(loading).await?, notes)
        }
        Stage::Schemas { .. } => {
            cx.progress.begin("analyzing", 0);
            analyze(cx, loading).await?;
            cx.progress.begin("building indexes", 0);
            let objects = loading.choice.relations.iter().map(|relation| (PG_CLASS, relation.oid)).collect();
            let (_, left) = loading.list_of(cx, &objects).await?;
            let is_told = matches!(loading.options.scope, Scope::Tables(_));
            let left = left.into_iter().filter(|_| is_told).map(|entry| format!("not restored: {entry}"));
            (put(cx, loading).await?, left.collect())
        }
    };
    Ok(report(loading, replaced, notes))
}

/// Builds what is built last, and compares the schema; what is worth knowing of it.
async fn build(cx: &Cx, client: &Client, loading: &Arc<Loading>) -> Result<Vec<String>, LogicalError> {
    cx.progress.begin("building indexes", 0);
    restore_section(cx, loading, "post-data").await?;
    cx.progress.begin("analyzing", 0);
    analyze(cx, loading).await?;
    if !loading.options.without.is_nothing() {
        return Ok(Vec::new());
    }
    let (differences, notes) = different_schema(cx, client, loading).await?;
    same(loading, differences)?;
    Ok(notes)
}

fn same(loading: &Loading, differences: Vec<String>) -> Result<(), LogicalError> {
    match differences.is_empty() {
        true => Ok(()),
        false => {
            let what = format!("database {}", loading.conninfo.database);
            Err(LogicalError::Differs { what, differences })
        }
    }
}

async fn set_sequences(cx: &Cx, client: &Client, loading: &Loading) -> Result<(), LogicalError> {
    for some in loading.sequences().chunks(TOGETHER) {
        cx.check()?;
        let each = some.iter().map(|sequence| {
            let name = quoted_string(&qualified(&sequence.schema, &sequence.name));
            format!("pg_catalog.setval({name}, {}, {})", sequence.last_value, sequence.is_called)
        });
        let sql = format!("SELECT {}", each.collect::<Vec<_>>().join(", "));
        client.run("set sequences", &sql).await?;
    }
    Ok(())
}

/// Gives the database its name, and what belongs to the database itself. What the other one is called now.
async fn publish(loading: &Loading) -> Result<Vec<String>, LogicalError> {
    let client = connect::connect(&loading.server).await?;
    let Stage::Database { under_way, name, replaced } = &loading.stage else {
        // A commit that is waited for makes durable what came before and was not.
        let sql = "SELECT pg_catalog.pg_logical_emit_message(true, 'strongroom', 'restored')";
        client.run("make the restore durable", sql).await?;
        return Ok(Vec::new());
    };
    let attributes = attributes(loading, &quoted_name(under_way));
    if !attributes.is_empty() {
        client.run("set what belongs to the database", &attributes).await?;
    }
    let rename =
        |from: &str, to: &str| format!("ALTER DATABASE {} RENAME TO {};", quoted_name(from), quoted_name(to));
    let mut sql = "BEGIN;".to_owned();
    if let Some(replaced) = replaced {
        sql.push_str(&rename(name, replaced));
    }
    sql.push_str(&rename(under_way, name));
    // Last: who gives it away may not change it any more.
    if !loading.options.no_owner {
        let owner = quoted_name(loading.options.roles.of(&loading.facts.database.owner));
        sql.push_str(&format!("ALTER DATABASE {} OWNER TO {owner};", quoted_name(name)));
    }
    sql.push_str("COMMIT");
    client.run("rename the database", &sql).await?;
    Ok(replaced.iter().map(|name| format!("database {name}")).collect())
}

/// Rights, settings and comment: `pg_restore` sets them only where it makes the database itself.
fn attributes(loading: &Loading, database: &str) -> String {
    let (fact, options) = (&loading.facts.database, &loading.options);
    let mut sql = String::new();
    for setting in &fact.settings {
        sql.push_str(&set(&format!("DATABASE {database}"), setting));
    }
    let settings = loading.facts.role_settings.iter().filter(|_| !options.no_privileges);
    for (role, setting) in settings {
        let role = quoted_name(options.roles.of(role));
        sql.push_str(&set(&format!("ROLE {role} IN DATABASE {database}"), setting));
    }
    if fact.connection_limit >= 0 {
        sql.push_str(&format!("ALTER DATABASE {database} CONNECTION LIMIT {};", fact.connection_limit));
    }
    if let Some(comment) = &fact.comment {
        sql.push_str(&format!("COMMENT ON DATABASE {database} IS {};", quoted_string(comment)));
    }
    if !options.no_privileges && !fact.grants.is_empty() {
        sql.push_str(&format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC;"));
        for grant in &fact.grants {
            sql.push_str(&grant_statement(&options.roles.grant(grant), &format!("DATABASE {database}")));
        }
    }
    sql
}

/// `ALTER … SET name = value;`
fn set(what: &str, setting: &str) -> String {
    match setting.split_once('=') {
        Some((name, value)) => {
            format!("ALTER {what} SET {} = {};", quoted_name(name), setting_value(name, value))
        }
        None => String::new(),
    }
}

/// Settings that are lists of names, which the server writes down quoted already (`GUC_LIST_QUOTE`).
fn setting_value(name: &str, value: &str) -> String {
    let lists = [
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    ];
    match lists.contains(&name) {
        true if value.is_empty() => "''".to_owned(),
        true => value.to_owned(),
        false => quoted_string(value),
    }
}

fn report(loading: &Loading, replaced: Vec<String>, notes: Vec<String>) -> Loaded {
    let database = match &loading.stage {
        Stage::Database { name, .. } => name.clone(),
        Stage::Empty | Stage::Schemas { .. } => loading.conninfo.database.clone(),
    };
    let report = LoadReport {
        database,
        replaced,
        tables: loading.choice.tables.len(),
        rows: loading.choice.tables.iter().map(|table| table.rows).sum(),
        bytes: loading.choice.tables.iter().map(|table| table.bytes).sum(),
        sequences: loading.sequences().len(),
        large_objects: if loading.choice.large_objects { loading.facts.large_objects.count } else { 0 },
        notes,
    };
    let mut lines = vec![
        format!("restored into database {} at {}", report.database, loading.place),
        format!("{} rows of {} tables read back: equal to the dump's", report.rows, report.tables),
        format!("{} sequences and {} large objects: equal", report.sequences, report.large_objects),
    ];
    lines.extend(report.replaced.iter().map(|name| format!("what was there before is now {name}")));
    lines.extend(report.notes.iter().cloned());
    lines.extend(
        loading.facts.left_out.iter().map(|left| format!("not in the dump: {} ({})", left.what, left.why)),
    );
    Loaded { report: serde_json::to_value(&report).unwrap_or_default(), lines }
}
