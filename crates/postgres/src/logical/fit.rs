//! Whether a dump can be restored at a server: every reason against it, before anything is written.

use std::collections::BTreeSet;

use strongroom_model::Cx;

use crate::connect::{Client, Values};
use crate::logical::choice::Choice;
use crate::logical::facts::{DatabaseFact, LogicalFacts, TableFact, qualified};
use crate::logical::fingerprint::{free, own};
use crate::logical::options::{LoadOptions, Scope, UNDER_WAY, drop_database, drop_schemas};
use crate::refusal::SqlError;

const OPERATION: &str = "look at the target";

/// A server that a dump may be restored at.
#[derive(Clone, Debug)]
pub(crate) struct Fit {
    /// `server_version_num`.
    pub(crate) version_num: u32,
    /// What stands in the way.
    pub(crate) against: Vec<String>,
    /// What does not, and is worth knowing.
    pub(crate) notes: Vec<String>,
    /// Whether there is a database or schema of the wanted name.
    pub(crate) exists: bool,
    /// Tables that are there by a wanted name: schema and name.
    pub(crate) existing: BTreeSet<(String, String)>,
    /// Numbers of the dump's tables that are there.
    pub(crate) present: BTreeSet<u32>,
}

/// Asks a server about a dump.
pub(crate) struct Question<'a> {
    pub(crate) client: &'a Client,
    pub(crate) facts: &'a LogicalFacts,
    pub(crate) options: &'a LoadOptions,
    pub(crate) choice: &'a Choice,
}

impl Question<'_> {
    /// Asks everything there is to ask.
    pub(crate) async fn ask(&self, cx: &Cx) -> Result<Fit, SqlError> {
        let sql = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS version";
        let row = self.client.row(OPERATION, sql, &[]).await?;
        let version_num = self.client.get::<i32>(OPERATION, &row, "version")?.unsigned_abs();
        let mut against = self.choice.against.clone();
        against.extend(self.choice.unknown.iter().map(|what| format!("the dump has no {what}")));
        let (notes, existing, present) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut fit = Fit { version_num, against, notes, exists: false, existing, present };
        let (ours, theirs) = (version_num / 10_000, u32::from(self.facts.major()));
        if ours < theirs {
            fit.against.push(format!("the server is PostgreSQL {ours}, and the dump is of {theirs}"));
        }
        cx.check()?;
        self.left_aside(&mut fit).await?;
        self.roles(&mut fit).await?;
        match &self.options.scope {
            Scope::NewDatabase(name) => {
                self.new_database(name.as_deref().unwrap_or(&self.facts.database.name), &mut fit).await?;
                self.locale(&mut fit).await?;
                self.extensions(&mut fit).await?;
            }
            Scope::EmptyDatabase(_) => {
                self.same_encoding(&mut fit).await?;
                self.same_collation(&mut fit).await?;
                self.nothing_in_it(&mut fit).await?;
                self.extensions(&mut fit).await?;
            }
            Scope::Schema(_) | Scope::Tables(_) | Scope::Rows(_) => {
                self.same_encoding(&mut fit).await?;
                self.same_collation(&mut fit).await?;
                self.extensions_made(&mut fit).await?;
                self.room_aside(&mut fit).await?;
            }
        }
        Ok(fit)
    }

    async fn is_there(&self, sql: &str, values: Values<'_>) -> Result<bool, SqlError> {
        Ok(!self.client.rows(OPERATION, sql, values).await?.is_empty())
    }

    async fn names(&self, sql: &str, values: Values<'_>) -> Result<Vec<String>, SqlError> {
        let rows = self.client.rows(OPERATION, sql, values).await?;
        rows.iter().map(|row| self.client.get(OPERATION, row, "name")).collect()
    }

    /// What restores left that were killed, or failed: they could say so themselves only then.
    async fn left_aside(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let sql = format!(
            "SELECT datname::text AS name FROM pg_catalog.pg_database d WHERE datname ~ '{UNDER_WAY}[0-9a-z]+$' AND NOT EXISTS \
             (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type = 'client backend') ORDER BY 1"
        );
        for name in self.names(&sql, &[]).await? {
            let remove = drop_database(&name);
            fit.notes.push(format!(
                "database {name} is left of a restore that did not end; to remove it: {remove}"
            ));
        }
        let sql = format!(
            "SELECT nspname::text AS name FROM pg_catalog.pg_namespace WHERE nspname ~ '{UNDER_WAY}[0-9a-z]+$' AND NOT EXISTS \
             (SELECT FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND application_name = current_setting('application_name')) ORDER BY 1"
        );
        for name in self.names(&sql, &[]).await? {
            let (database, remove) = (self.client.database(), drop_schemas([name.as_str()]));
            fit.notes.push(format!(
                "schema {name} of database {database} is left of a restore that did not end; to remove it: {remove}"
            ));
        }
        Ok(())
    }

    async fn extensions(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let wanted: Vec<&str> =
            self.facts.extensions.iter().map(|extension| extension.name.as_str()).collect();
        let sql = "SELECT w AS name FROM unnest($1::text[]) w WHERE w NOT IN \
                   (SELECT name::text FROM pg_catalog.pg_available_extensions) ORDER BY 1";
        let missing = self.names(sql, &[&wanted]).await?;
        fit.miss("extension", &missing, "install its package on the server's host");
        Ok(())
    }

    /// Of a part nobody knows which extensions it needs: what the database lacks is said, for whoever does.
    async fn extensions_made(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let wanted: Vec<&str> =
            self.facts.extensions.iter().map(|extension| extension.name.as_str()).collect();
        let sql = "SELECT w AS name FROM unnest($1::text[]) w WHERE w NOT IN \
                   (SELECT extname::text FROM pg_catalog.pg_extension) ORDER BY 1";
        let missing = self.names(sql, &[&wanted]).await?;
        if !missing.is_empty() {
            let database = self.client.database();
            fit.notes.push(format!(
                "the database {database} lacks what was installed where this was dumped: extension {}",
                missing.join(", ")
            ));
        }
        Ok(())
    }

    async fn roles(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let (map, named) = (&self.options.roles, self.facts.roles_named());
        let unknown = map.pairs().filter(|(dumped, _)| !named.contains(dumped));
        fit.against.extend(unknown.map(|(dumped, _)| format!("the dump names no role {dumped}")));
        let wanted: BTreeSet<&str> = match self.options.no_owner && self.options.no_privileges {
            true => map.pairs().map(|(_, here)| here).collect(),
            false => named.iter().map(|role| map.of(role)).collect(),
        };
        let wanted: Vec<&str> = wanted.into_iter().collect();
        let missing = self.names(MISSING_ROLES, &[&wanted]).await?;
        let remedy = "create it, say --map-role for one that is there, or use --no-owner and --no-privileges";
        fit.miss("role", &missing, remedy);
        let sql = "SELECT w AS name FROM unnest($1::text[]) w WHERE w NOT IN \
                   (SELECT spcname::text FROM pg_catalog.pg_tablespace) ORDER BY 1";
        if !self.options.no_tablespaces {
            let missing = self.names(sql, &[&self.facts.tablespaces]).await?;
            fit.miss("tablespace", &missing, "create it, or use --no-tablespaces");
        }
        Ok(())
    }

    async fn new_database(&self, name: &str, fit: &mut Fit) -> Result<(), SqlError> {
        let sql = "SELECT FROM pg_catalog.pg_database WHERE datname = $1::text";
        fit.exists = self.is_there(sql, &[&name]).await?;
        if fit.exists && !self.options.replace {
            fit.against.push(format!("there is a database {name} already: --replace renames it aside"));
        }
        if fit.exists && self.client.database() == name {
            fit.against.push(format!(
                "the database connected to cannot be renamed: connect to another one than {name}, such as postgres"
            ));
        }
        for taken in [self.options.under_way(name), self.options.replaced(name)] {
            if self.is_there(sql, &[&taken]).await? {
                fit.against.push(format!("there is a database {taken} already"));
            }
        }
        let sql =
            "SELECT FROM pg_catalog.pg_roles WHERE rolname = current_user AND (rolcreatedb OR rolsuper)";
        if !self.is_there(sql, &[]).await? {
            fit.against.push(format!("the role {} may not create databases", self.client.role()));
        }
        let sql = "SELECT FROM pg_catalog.pg_database WHERE datname = $1::text AND NOT pg_has_role(datdba, 'USAGE')";
        if fit.exists && self.is_there(sql, &[&name]).await? {
            fit.against.push(format!("the role {} may not rename the database {name}", self.client.role()));
        }
        let sql = "SELECT FROM pg_catalog.pg_stat_activity WHERE datname = $1::text AND backend_type = 'client backend' LIMIT 1";
        if fit.exists && self.is_there(sql, &[&name]).await? {
            fit.notes
                .push(format!("sessions are connected to {name}: it is renamed only when they have ended"));
        }
        Ok(())
    }

    /// A locale that the server's system does not have would be found out only when the database is made.
    async fn locale(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let DatabaseFact { provider, collate, ctype, .. } = &self.facts.database;
        match provider.as_str() {
            "b" if fit.version_num < 170_000 => {
                fit.against
                    .push("the database's locale is the server's own, of PostgreSQL 17 or newer".into());
            }
            "i" => {
                let sql = "SELECT FROM pg_catalog.pg_collation WHERE collprovider = 'i' LIMIT 1";
                if !self.is_there(sql, &[]).await? {
                    fit.against.push("the database's locale is one of ICU, and the server has no ICU".into());
                }
            }
            _ => {}
        }
        let sql = "SELECT WHERE upper($1::text) IN ('C', 'POSIX') UNION ALL \
             SELECT FROM pg_catalog.pg_collation WHERE collprovider = 'c' \
             AND replace(lower(collcollate), '-', '') = replace(lower($1::text), '-', '') UNION ALL \
             SELECT FROM pg_catalog.pg_database WHERE datcollate = $1::text OR datctype = $1::text";
        for locale in [collate, ctype] {
            if !self.is_there(sql, &[locale]).await? {
                fit.against.push(format!("the server's system has no locale {locale}"));
            }
        }
        if fit.version_num >= 150_000 {
            self.collation_version(fit).await?;
        }
        Ok(())
    }

    /// Another version of the same locale may sort otherwise. Indexes are built anew, so that it only needs saying.
    async fn collation_version(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let DatabaseFact { collate, collation_version: Some(before), .. } = &self.facts.database else {
            return Ok(());
        };
        let sql = "SELECT coalesce(pg_database_collation_actual_version(oid), '') AS name FROM pg_catalog.pg_database \
                   WHERE datcollate = $1::text AND datlocprovider::text = $2::text LIMIT 1";
        let now = self.names(sql, &[collate, &self.facts.database.provider]).await?;
        match now.first() {
            Some(now) if now != before && !now.is_empty() => {
                let text = format!(
                    "the locale {collate} has version {now} here and had {before}: text may sort otherwise"
                );
                fit.notes.push(text);
            }
            _ => {}
        }
        Ok(())
    }

    async fn same_encoding(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let sql = "SELECT pg_encoding_to_char(encoding)::text AS name FROM pg_catalog.pg_database \
                   WHERE datname = current_database()";
        let (here, there) = (self.names(sql, &[]).await?.concat(), &self.facts.database.encoding);
        if here != *there {
            let database = self.client.database();
            fit.against.push(format!(
                "the encoding of the database {database} is {here}, and the dump's is {there}"
            ));
        }
        Ok(())
    }

    /// A database that is there sorts as it does. Indexes are built anew, so that it only needs saying.
    async fn same_collation(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let there = &self.facts.database;
        let sql =
            "SELECT datcollate::text AS name FROM pg_catalog.pg_database WHERE datname = current_database()";
        let here = self.names(sql, &[]).await?.concat();
        if here != there.collate {
            let database = self.client.database();
            fit.notes.push(format!(
                "the database {database} sorts by {here}, and the dump's by {}: text may sort otherwise",
                there.collate
            ));
        }
        if fit.version_num >= 150_000 {
            self.collation_version(fit).await?;
        }
        Ok(())
    }

    async fn nothing_in_it(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let sql = format!(
            "SELECT n.nspname || '.' || c.relname AS name FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {own} AND {} \
             UNION ALL SELECT n.nspname || '.' || p.proname FROM pg_catalog.pg_proc p \
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE {own} AND {} \
             UNION ALL SELECT 'schema ' || n.nspname FROM pg_catalog.pg_namespace n WHERE {own} AND n.nspname <> 'public' \
             UNION ALL SELECT 'large object ' || oid FROM pg_catalog.pg_largeobject_metadata ORDER BY 1 LIMIT 3",
            free("pg_class", "c"),
            free("pg_proc", "p"),
            own = own("n"),
        );
        let found = self.names(&sql, &[]).await?;
        if !found.is_empty() {
            let database = self.client.database();
            fit.against.push(format!("the database {database} is not empty: {}, …", found.join(", ")));
        }
        Ok(())
    }
}

impl Question<'_> {
    /// Whether what is restored can be put aside in this database, and get its names at the end.
    async fn room_aside(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let database = self.client.database();
        let sql = "SELECT WHERE has_database_privilege(current_database(), 'CREATE')";
        if !self.is_there(sql, &[]).await? {
            fit.against.push(format!("the role {} may not create schemas in {database}", self.client.role()));
        }
        for (schema, aside) in self.choice.aside(self.options) {
            for taken in [aside, self.options.replaced(&schema)] {
                if self.is_there(SCHEMA, &[&taken]).await? {
                    fit.against.push(format!("there is a schema {taken} already"));
                }
            }
        }
        if let Scope::Schema(schema) = &self.options.scope {
            fit.exists = self.is_there(SCHEMA, &[schema]).await?;
            if fit.exists && !self.options.replace {
                fit.against.push(format!("there is a schema {schema} already: --replace renames it aside"));
            }
            return Ok(());
        }
        self.names_free(fit).await
    }

    async fn names_free(&self, fit: &mut Fit) -> Result<(), SqlError> {
        let is_added_to = matches!(self.options.scope, Scope::Rows(_));
        let (mut missing, mut taken) = (BTreeSet::new(), Vec::new());
        for relation in &self.choice.relations {
            let own = (relation.schema.clone(), relation.name.clone());
            let wanted = self.options.place_of(relation);
            for (schema, name) in [&own, &wanted] {
                if self.is_there(TABLE, &[schema, name]).await? {
                    fit.existing.insert((schema.clone(), name.clone()));
                }
                if !is_added_to && !self.is_there(SCHEMA, &[schema]).await? {
                    missing.insert(schema.clone());
                }
            }
            let (schema, name) = &wanted;
            match (is_added_to, fit.existing.contains(&wanted)) {
                (true, false) => {
                    fit.against.push(format!("there is no table {schema}.{name} to add rows to"))
                }
                (false, true) if self.options.replace => taken.push(qualified(schema, name)),
                (false, true) => fit
                    .against
                    .push(format!("there is a table {schema}.{name} already: --replace moves it aside")),
                _ => {}
            }
        }
        let all =
            self.facts.partitioned.iter().cloned().chain(self.facts.tables.iter().map(TableFact::relation));
        let (oids, names): (Vec<u32>, Vec<String>) =
            all.map(|relation| (relation.oid, relation.quoted())).unzip();
        let sql = "SELECT t.oid FROM unnest($1::oid[], $2::text[]) t(oid, name) WHERE to_regclass(t.name) IS NOT NULL";
        for row in self.client.rows(OPERATION, sql, &[&oids, &names]).await? {
            fit.present.insert(self.client.get(OPERATION, &row, "oid")?);
        }
        fit.miss("schema", &missing.into_iter().collect::<Vec<_>>(), "create it");
        let dependents = self.names(DEPENDENTS, &[&taken]).await?;
        if !dependents.is_empty() {
            let text = "would go on using the tables that are replaced: restore them as well, or drop them";
            fit.against.push(format!("{} {text}", dependents.join(", ")));
        }
        Ok(())
    }
}

/// Which of these roles the server does not have.
pub(crate) const MISSING_ROLES: &str = "SELECT w AS name FROM unnest($1::text[]) w \
                                        WHERE w NOT IN (SELECT rolname::text FROM pg_catalog.pg_roles) ORDER BY 1";

const SCHEMA: &str = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1::text";

const TABLE: &str = "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                     WHERE n.nspname = $1::text AND c.relname = $2::text";

/// Tables with keys to these, views of these and partitions of these that are not among them.
const DEPENDENTS: &str = "WITH t AS (SELECT to_regclass(n)::oid AS oid FROM unnest($1::text[]) n) \
    SELECT DISTINCT o.oid::regclass::text AS name FROM ( \
    SELECT conrelid AS oid, confrelid AS used FROM pg_catalog.pg_constraint WHERE contype = 'f' \
    UNION ALL SELECT r.ev_class, d.refobjid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid \
    WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
    UNION ALL SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits) o \
    JOIN t ON t.oid = o.used WHERE o.oid NOT IN (SELECT oid FROM t WHERE oid IS NOT NULL) ORDER BY 1";

impl Fit {
    fn miss(&mut self, what: &str, missing: &[String], remedy: &str) {
        if !missing.is_empty() {
            let plural = if missing.len() == 1 { "" } else { "s" };
            self.against.push(format!("the server has no {what}{plural} {} ({remedy})", missing.join(", ")));
        }
    }
}

/// Makes a database like the one that was dumped.
pub(crate) fn create_database(name: &str, like: &DatabaseFact, version_num: u32) -> String {
    use crate::quote::{quoted_name, quoted_string};
    let mut sql = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        quoted_name(name),
        quoted_string(&like.encoding),
        quoted_string(&like.collate),
        quoted_string(&like.ctype)
    );
    let locale = quoted_string(like.locale.as_deref().unwrap_or_default());
    match like.provider.as_str() {
        "i" => sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {locale}")),
        "b" => sql.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}")),
        _ if version_num >= 150_000 => sql.push_str(" LOCALE_PROVIDER libc"),
        _ => {}
    }
    sql
}
