//! Tables and schemas, made beside what a database already has, and put in their places when they are complete.
//!
//! ```text
//! lay      one transaction: what is in the way steps aside ▶ pg_restore's statements ▶ the new ones move into schemas of their own
//!          ▶ what was in the way steps back
//! put      one transaction: what is replaced moves aside for good ▶ the new ones move into place ▶ indexes, keys, triggers
//! ```
//!
//! **Invariants**: an application sees either what was there before or what is complete, never less; nothing of what was there
//! is dropped. A failure in either transaction takes all of it back, and leaves at most the schemas of our own.

use std::collections::BTreeSet;

use strongroom_model::Cx;

use crate::logical::archive::{PG_CLASS, PG_NAMESPACE};
use crate::logical::copying::{Copying, unless_cancelled};
use crate::logical::facts::{Relation, TableFact, qualified};
use crate::logical::failure::LogicalError;
use crate::logical::listing::{Wish, rights_apart};
use crate::logical::loading::{Loading, Stage};
use crate::logical::options::Scope;
use crate::logical::part::Part;
use crate::logical::program::plain_sql;
use crate::quote::{quoted_name, quoted_string};

/// A lock on a table that an application uses is waited for no longer than this: others wait behind us.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '30s';\n";

/// Makes everything that rows are put into.
pub(crate) async fn lay(cx: &Cx, loading: &Loading) -> Result<(), LogicalError> {
    let sql = match &loading.options.scope {
        Scope::Schema(schema) => lay_schema(cx, loading, schema).await?,
        Scope::Rows(_) => lay_copies(loading),
        _ => lay_tables(cx, loading).await?,
    };
    run(cx, loading, "make the tables", &sql).await?;
    loading.made();
    Ok(())
}

/// Puts everything in its place; what was moved aside for it.
pub(crate) async fn put(cx: &Cx, loading: &Loading) -> Result<Vec<String>, LogicalError> {
    let (sql, replaced) = match &loading.options.scope {
        Scope::Schema(schema) => put_schema(cx, loading, schema).await?,
        Scope::Rows(_) => (put_rows(loading), Vec::new()),
        _ => put_tables(cx, loading).await?,
    };
    run(cx, loading, "put the tables in their place", &sql).await?;
    Ok(replaced)
}

/// Runs a script, which may build indexes, on a connection of its own: it changes the session.
async fn run(cx: &Cx, loading: &Loading, operation: &'static str, sql: &str) -> Result<(), LogicalError> {
    let mut copying = Copying::connect(&loading.conninfo).await?;
    Ok(unless_cancelled(cx, copying.run(operation, sql)).await??)
}

async fn lay_schema(cx: &Cx, loading: &Loading, schema: &str) -> Result<String, LogicalError> {
    let (own, aside, away) = (
        quoted_name(schema),
        quoted_name(&loading.aside_of(schema)),
        quoted_name(&loading.options.replaced(schema)),
    );
    let (mut sql, is_there) = (BEGIN.to_owned(), loading.is_schema_there());
    if is_there {
        sql.push_str(&format!("ALTER SCHEMA {own} RENAME TO {away};\n"));
    }
    let oids = loading.facts.schemas.iter().filter(|known| known.name == schema);
    let itself = oids.map(|known| (PG_NAMESPACE, known.oid)).collect();
    let (list, _) = loading.list_of(cx, &itself).await?;
    let made = script(cx, loading, Some("pre-data"), (&list, None)).await?;
    // `public` is there in every database, and in none of these entries.
    if !made.contains("CREATE SCHEMA") {
        sql.push_str(&format!("CREATE SCHEMA {own};\n"));
    }
    sql.push_str(&made);
    let all = loading.listing(cx).await?.all_but(loading.options.without);
    sql.push_str(&tables_with_rights(cx, loading, (&all, Some(schema))).await?);
    sql.push_str(&format!("ALTER SCHEMA {own} RENAME TO {aside};\n"));
    if is_there {
        sql.push_str(&format!("ALTER SCHEMA {away} RENAME TO {own};\n"));
    }
    Ok(sql + "COMMIT")
}

async fn put_schema(cx: &Cx, loading: &Loading, schema: &str) -> Result<(String, Vec<String>), LogicalError> {
    let (own, aside) = (quoted_name(schema), quoted_name(&loading.aside_of(schema)));
    let (mut sql, mut replaced) = (BEGIN.to_owned(), Vec::new());
    if loading.is_schema_there() {
        let away = loading.options.replaced(schema);
        sql.push_str(&format!("ALTER SCHEMA {own} RENAME TO {};\n", quoted_name(&away)));
        replaced.push(format!("schema {away}"));
    }
    sql.push_str(&format!("ALTER SCHEMA {aside} RENAME TO {own};\n"));
    let all = loading.listing(cx).await?.all_but(loading.options.without);
    sql.push_str(&script(cx, loading, Some("post-data"), (&all, Some(schema))).await?);
    Ok((sql + "COMMIT", replaced))
}

async fn lay_tables(cx: &Cx, loading: &Loading) -> Result<String, LogicalError> {
    let (mut sql, mut back) = (BEGIN.to_owned(), String::new());
    let mut away = BTreeSet::new();
    for relation in loading.choice.relations.iter().filter(|relation| loading.is_there(relation)) {
        let schema = quoted_name(&loading.options.replaced(&relation.schema));
        if away.insert(schema.clone()) {
            sql.push_str(&format!("CREATE SCHEMA {schema};\n"));
        }
        let (name, own) = (quoted_name(&relation.name), quoted_name(&relation.schema));
        sql.push_str(&format!("ALTER TABLE {} SET SCHEMA {schema};\n", relation.quoted()));
        back.push_str(&format!("ALTER TABLE {schema}.{name} SET SCHEMA {own};\n"));
    }
    sql.extend(loading.asides().map(|schema| format!("CREATE SCHEMA {};\n", quoted_name(schema))));
    let mut objects: BTreeSet<(u32, u32)> =
        loading.choice.relations.iter().map(|relation| (PG_CLASS, relation.oid)).collect();
    objects.extend(loading.choice.sequences.iter().map(|sequence| (PG_CLASS, sequence.oid)));
    let (list, _) = loading.list_of(cx, &objects).await?;
    sql.push_str(&tables_with_rights(cx, loading, (&list, None)).await?);
    for relation in &loading.choice.relations {
        let aside = quoted_name(&loading.aside_of(&relation.schema));
        sql.push_str(&format!("ALTER TABLE {} SET SCHEMA {aside};\n", relation.quoted()));
    }
    sql.push_str(&back);
    sql.extend(away.iter().map(|schema| format!("DROP SCHEMA {schema};\n")));
    Ok(sql + "COMMIT")
}

async fn put_tables(cx: &Cx, loading: &Loading) -> Result<(String, Vec<String>), LogicalError> {
    let (mut sql, mut replaced) = (BEGIN.to_owned(), Vec::new());
    let mut away = BTreeSet::new();
    let mut objects = BTreeSet::new();
    for relation in &loading.choice.relations {
        let (schema, name) = loading.options.place_of(relation);
        if loading.exists(&(schema.clone(), name.clone())) {
            let aside = loading.options.replaced(&schema);
            if away.insert(aside.clone()) {
                sql.push_str(&format!("CREATE SCHEMA {};\n", quoted_name(&aside)));
            }
            sql.push_str(&format!(
                "ALTER TABLE {} SET SCHEMA {};\n",
                qualified(&schema, &name),
                quoted_name(&aside)
            ));
            replaced.push(format!("table {aside}.{name}"));
        }
        if loading.options.is_renamed(relation) {
            sql.push_str(&renamed_sequences(loading, relation));
        } else {
            objects.insert((PG_CLASS, relation.oid));
        }
        let aside = loading.aside_of(&relation.schema);
        if name != relation.name {
            let before = qualified(&aside, &relation.name);
            sql.push_str(&format!("ALTER TABLE {before} RENAME TO {};\n", quoted_name(&name)));
        }
        let staged = qualified(&aside, &name);
        sql.push_str(&format!("ALTER TABLE {staged} SET SCHEMA {};\n", quoted_name(&schema)));
    }
    let (list, _) = loading.list_of(cx, &objects).await?;
    if !list.is_empty() {
        sql.push_str(&script(cx, loading, Some("post-data"), (&list, None)).await?);
    }
    // Empty by now.
    sql.extend(loading.asides().map(|schema| format!("DROP SCHEMA {};\n", quoted_name(schema))));
    Ok((sql + "COMMIT", replaced))
}

/// The sequences of a table that gets another name: theirs would be taken.
fn renamed_sequences(loading: &Loading, relation: &Relation) -> String {
    let theirs = loading.choice.sequences.iter().filter(|sequence| sequence.table == Some(relation.oid));
    let rename = theirs.map(|sequence| {
        let now = qualified(&loading.aside_of(&sequence.schema), &sequence.name);
        format!(
            "ALTER SEQUENCE {now} RENAME TO {};\n",
            quoted_name(&loading.options.under_way(&sequence.name))
        )
    });
    rename.collect()
}

/// Tables with the columns that rows are added to, and nothing else.
fn lay_copies(loading: &Loading) -> String {
    let mut sql = BEGIN.to_owned();
    sql.extend(loading.asides().map(|schema| format!("CREATE SCHEMA {};\n", quoted_name(schema))));
    for (table, staged) in loading.choice.tables.iter().zip(&loading.staged) {
        let (columns, target) = (table.column_list(), target_of(loading, table));
        let staged = staged.quoted();
        sql.push_str(&format!("CREATE TABLE {staged} AS SELECT {columns} FROM {target} WITH NO DATA;\n"));
    }
    sql + "COMMIT"
}

fn put_rows(loading: &Loading) -> String {
    let mut sql = BEGIN.to_owned();
    for (table, staged) in loading.choice.tables.iter().zip(&loading.staged) {
        let (columns, target) = (table.column_list(), target_of(loading, table));
        let listed = if columns.is_empty() { String::new() } else { format!(" ({columns})") };
        sql.push_str(&format!(
            "INSERT INTO {target}{listed} OVERRIDING SYSTEM VALUE SELECT {columns} FROM {};\n",
            staged.quoted()
        ));
    }
    // Copies of rows that are in their place now.
    sql.extend(loading.asides().map(|schema| format!("DROP SCHEMA {} CASCADE;\n", quoted_name(schema))));
    sql + "COMMIT"
}

fn target_of(loading: &Loading, table: &TableFact) -> String {
    let (schema, name) = loading.options.place_of(&table.relation());
    qualified(&schema, &name)
}

/// Takes back what default privileges of the database gave to others on what this transaction has made in these schemas: rights
/// are as they were in the dump. What stepped aside is in other schemas at this moment.
fn no_default_rights(schemas: impl Iterator<Item = String>) -> String {
    let schemas: Vec<String> =
        schemas.map(|schema| format!("{}::regnamespace", quoted_string(&quoted_name(&schema)))).collect();
    format!(
        "DO $strongroom$ DECLARE r record; BEGIN \
         FOR r IN SELECT DISTINCT c.oid::regclass AS name, CASE WHEN a.grantee = 0 THEN 'PUBLIC' \
         ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS grantee, c.relkind = 'S' AS is_sequence \
         FROM pg_catalog.pg_class c, LATERAL pg_catalog.aclexplode(c.relacl) a \
         WHERE c.xmin = pg_catalog.pg_current_xact_id()::xid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') \
         AND c.relnamespace IN ({}) AND a.grantee <> c.relowner \
         LOOP EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s', \
         CASE WHEN r.is_sequence THEN 'SEQUENCE' ELSE 'TABLE' END, r.name, r.grantee); END LOOP; END $strongroom$;\n",
        schemas.join(", ")
    )
}

/// Entries, as a list, and the schema that alone is taken of it.
type Entries<'a> = (&'a str, Option<&'a str>);

/// Everything before the rows: the tables, then who may what.
async fn tables_with_rights(
    cx: &Cx,
    loading: &Loading,
    (list, schema): Entries<'_>,
) -> Result<String, LogicalError> {
    if loading.options.no_privileges {
        return script(cx, loading, Some("pre-data"), (list, schema)).await;
    }
    let (others, rights) = rights_apart(list);
    let mut sql = script(cx, loading, Some("pre-data"), (&others, schema)).await?;
    let schemas: BTreeSet<&String> = match &loading.stage {
        Stage::Schemas { aside, .. } => aside.keys().collect(),
        _ => BTreeSet::new(),
    };
    sql.push_str(&no_default_rights(schemas.into_iter().cloned()));
    if !rights.is_empty() {
        // Rights are of no section: they count to that of the entry before, and there is none in this list.
        sql.push_str(&script(cx, loading, None, (&rights, schema)).await?);
    }
    Ok(sql)
}

/// The statements that `pg_restore` would run.
async fn script(
    cx: &Cx,
    loading: &Loading,
    section: Option<&str>,
    (list, schema): Entries<'_>,
) -> Result<String, LogicalError> {
    let mut command = loading.pg_restore.on_files();
    command.arg("--file=-").args(loading.options.skipped());
    command.args(section.map(|section| format!("--section={section}")));
    command.arg("--use-list").arg(loading.write_list(list).await?);
    command.args(schema.map(|schema| format!("--schema={schema}")));
    command.arg(&loading.archive);
    let printed = loading.pg_restore.run(cx, &mut command, &loading.conninfo.database).await?;
    String::from_utf8(plain_sql(&printed)).map_err(|_| LogicalError::Malformed {
        what: Part::Schema.name(),
        why: "it has names that are not UTF-8: restore the whole database".to_owned(),
    })
}

impl Loading {
    fn aside_of(&self, schema: &str) -> String {
        match &self.stage {
            Stage::Schemas { aside, .. } => aside.get(schema).cloned().unwrap_or_else(|| schema.to_owned()),
            _ => schema.to_owned(),
        }
    }

    fn asides(&self) -> impl Iterator<Item = &String> {
        let aside = match &self.stage {
            Stage::Schemas { aside, .. } => Some(aside.values()),
            _ => None,
        };
        aside.into_iter().flatten()
    }

    fn exists(&self, name: &(String, String)) -> bool {
        matches!(&self.stage, Stage::Schemas { existing, .. } if existing.contains(name))
    }

    fn is_there(&self, relation: &Relation) -> bool {
        self.exists(&(relation.schema.clone(), relation.name.clone()))
    }

    /// Whether there is a schema by the wanted name already.
    pub(crate) fn is_schema_there(&self) -> bool {
        matches!(&self.stage, Stage::Schemas { existing, .. } if !existing.is_empty())
    }

    /// The entries of some objects, and those that would belong to them and cannot come.
    pub(crate) async fn list_of(
        &self,
        cx: &Cx,
        objects: &BTreeSet<(u32, u32)>,
    ) -> Result<(String, Vec<String>), LogicalError> {
        let listing = self.listing(cx).await?;
        let is_wanted = |relation: &&Relation| objects.contains(&(PG_CLASS, relation.oid));
        let names = self.choice.relations.iter().filter(is_wanted);
        let wish = Wish {
            objects: objects.clone(),
            names: names.map(|relation| (relation.schema.as_str(), relation.name.as_str())).collect(),
            present: match &self.stage {
                Stage::Schemas { present, .. } => present.clone(),
                _ => BTreeSet::new(),
            },
        };
        let (list, left) = listing.of(&wish, self.options.without);
        Ok((list, left.into_iter().map(str::to_owned).collect()))
    }
}
