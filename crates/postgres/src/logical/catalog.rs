//! What a database consists of, asked in the snapshot that its dump shows.
//!
//! **Invariant**: every table whose rows `pg_dump` would dump is in [`Catalog::tables`] or in [`Catalog::left_out`], and so is
//! every sequence. What the role may not read is in [`Catalog::unreadable`], all of it.

use std::collections::BTreeMap;

use strongroom_model::Cx;
use tokio_postgres::Row;

use crate::connect::Client;
use crate::logical::facts::{
    ColumnFact, DatabaseFact, ExtensionFact, Grant, LargeObjectsFact, LeftOut, Relation, SequenceFact,
    TableFact, qualified,
};
use crate::logical::fingerprint::{free, own};
use crate::logical::part::{self, BLOCKS, LARGE_OBJECTS};
use crate::logical::tally::Sum;
use crate::refusal::SqlError;

const OPERATION: &str = "read the catalogue";

/// Sequences asked for at a time.
const TOGETHER: usize = 200;

/// The first version that reads a range of ctids without reading the whole table.
const READS_RANGES: u32 = 140_000;

/// A database, as its catalogues show it.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    pub(crate) database: DatabaseFact,
    pub(crate) extensions: Vec<ExtensionFact>,
    pub(crate) roles: Vec<String>,
    pub(crate) tablespaces: Vec<String>,
    /// Nothing of their rows is counted yet.
    pub(crate) tables: Vec<TableFact>,
    /// Partitioned tables: they have no rows of their own, and must not change either.
    pub(crate) partitioned: Vec<Relation>,
    pub(crate) schemas: Vec<Relation>,
    pub(crate) role_settings: Vec<(String, String)>,
    /// Their values are not read yet.
    pub(crate) sequences: Vec<SequenceFact>,
    pub(crate) large_objects: LargeObjectsFact,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) unreadable: Vec<String>,
}

impl Catalog {
    /// Asks for everything.
    pub(crate) async fn read(cx: &Cx, client: &Client) -> Result<Catalog, SqlError> {
        let sql = "SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby, \
                   (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser";
        let row = client.row(OPERATION, sql, &[]).await?;
        let server = Asked {
            client,
            version: client.get::<i32>(OPERATION, &row, "version")?.unsigned_abs(),
            standby: client.get(OPERATION, &row, "standby")?,
            superuser: client.get(OPERATION, &row, "superuser")?,
        };
        let mut catalog = Catalog {
            database: server.database().await?,
            extensions: server.extensions().await?,
            roles: server.roles().await?,
            tablespaces: server
                .names(
                    "SELECT DISTINCT spcname::text AS name FROM pg_catalog.pg_tablespace t \
                     JOIN pg_catalog.pg_class c ON c.reltablespace = t.oid WHERE c.oid >= 16384 ORDER BY 1",
                )
                .await?,
            tables: Vec::new(),
            partitioned: Vec::new(),
            schemas: server.schemas().await?,
            role_settings: server.role_settings().await?,
            sequences: Vec::new(),
            large_objects: LargeObjectsFact::default(),
            left_out: Vec::new(),
            unreadable: Vec::new(),
        };
        cx.check()?;
        server.tables(&mut catalog).await?;
        server.sequences(&mut catalog).await?;
        server.large_objects(&mut catalog).await?;
        server.subscriptions(&mut catalog).await?;
        Ok(catalog)
    }
}

/// Asks where sequences are. After a snapshot was taken: they are then never behind its rows.
pub(crate) async fn read_sequences(
    cx: &Cx,
    client: &Client,
    sequences: &mut [SequenceFact],
) -> Result<(), SqlError> {
    const OPERATION: &str = "read sequences";
    for some in sequences.chunks_mut(TOGETHER) {
        cx.check()?;
        let each = some.iter().enumerate().map(|(at, sequence)| {
            let name = qualified(&sequence.schema, &sequence.name);
            format!("SELECT {at} AS at, last_value, is_called FROM {name}")
        });
        for row in client.rows(OPERATION, &each.collect::<Vec<_>>().join(" UNION ALL "), &[]).await? {
            let at: i32 = client.get(OPERATION, &row, "at")?;
            if let Some(sequence) = usize::try_from(at).ok().and_then(|at| some.get_mut(at)) {
                sequence.last_value = client.get(OPERATION, &row, "last_value")?;
                sequence.is_called = client.get(OPERATION, &row, "is_called")?;
            }
        }
    }
    Ok(())
}

/// The server that is asked.
struct Asked<'a> {
    client: &'a Client,
    version: u32,
    standby: bool,
    superuser: bool,
}

impl Asked<'_> {
    async fn names(&self, sql: &str) -> Result<Vec<String>, SqlError> {
        let rows = self.client.rows(OPERATION, sql, &[]).await?;
        rows.iter().map(|row| self.client.get(OPERATION, row, "name")).collect()
    }

    async fn database(&self) -> Result<DatabaseFact, SqlError> {
        let (provider, version) = match self.version {
            150_000.. => ("datlocprovider::text", "datcollversion"),
            _ => ("'c'", "NULL"),
        };
        let locale = match self.version {
            170_000.. => "datlocale",
            150_000.. => "daticulocale",
            _ => "NULL",
        };
        let sql = format!(
            "SELECT d.oid, datname::text AS name, pg_encoding_to_char(encoding)::text AS encoding, {provider} AS provider, \
             datcollate::text AS collate, datctype::text AS ctype, {locale}::text AS locale, {version}::text AS collation_version, \
             pg_get_userbyid(datdba)::text AS owner, shobj_description(d.oid, 'pg_database') AS comment, \
             datconnlimit AS connection_limit, pg_database_size(d.oid) AS size, \
             coalesce((SELECT setconfig FROM pg_catalog.pg_db_role_setting WHERE setdatabase = d.oid AND setrole = 0), \
             '{{}}'::text[]) AS settings, {} AS grants FROM pg_catalog.pg_database d WHERE datname = current_database()",
            grants("datacl")
        );
        let row = self.client.row(OPERATION, &sql, &[]).await?;
        let text = |column| self.client.get::<String>(OPERATION, &row, column);
        let optional = |column| self.client.get::<Option<String>>(OPERATION, &row, column);
        Ok(DatabaseFact {
            name: text("name")?,
            encoding: text("encoding")?,
            provider: text("provider")?,
            collate: text("collate")?,
            ctype: text("ctype")?,
            locale: optional("locale")?,
            collation_version: optional("collation_version")?,
            owner: text("owner")?,
            comment: optional("comment")?,
            connection_limit: self.client.get(OPERATION, &row, "connection_limit")?,
            settings: self.client.get(OPERATION, &row, "settings")?,
            grants: read_grants(self.client, &row)?,
            size: self.client.get::<i64>(OPERATION, &row, "size")?.unsigned_abs(),
        })
    }

    async fn extensions(&self) -> Result<Vec<ExtensionFact>, SqlError> {
        let sql = "SELECT extname::text AS name, extversion AS version FROM pg_catalog.pg_extension \
                   WHERE oid >= 16384 ORDER BY 1";
        let rows = self.client.rows(OPERATION, sql, &[]).await?;
        let extension = |row: &Row| {
            Ok(ExtensionFact {
                name: self.client.get(OPERATION, row, "name")?,
                version: self.client.get(OPERATION, row, "version")?,
            })
        };
        rows.iter().map(extension).collect()
    }

    async fn schemas(&self) -> Result<Vec<Relation>, SqlError> {
        let sql = format!(
            "SELECT n.oid, nspname::text AS name FROM pg_catalog.pg_namespace n WHERE {} AND {} ORDER BY 2",
            own("n"),
            free("pg_namespace", "n")
        );
        let rows = self.client.rows(OPERATION, &sql, &[]).await?;
        let schema = |row: &Row| {
            let name: String = self.client.get(OPERATION, row, "name")?;
            Ok(Relation {
                oid: self.client.get(OPERATION, row, "oid")?,
                schema: name.clone(),
                name,
                parent: None,
            })
        };
        rows.iter().map(schema).collect()
    }

    async fn role_settings(&self) -> Result<Vec<(String, String)>, SqlError> {
        let sql = "SELECT pg_get_userbyid(setrole)::text AS role, unnest(setconfig) AS setting \
                   FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase \
                   WHERE d.datname = current_database() AND setrole <> 0 ORDER BY 1, 2";
        let rows = self.client.rows(OPERATION, sql, &[]).await?;
        let setting = |row: &Row| {
            Ok((self.client.get(OPERATION, row, "role")?, self.client.get(OPERATION, row, "setting")?))
        };
        rows.iter().map(setting).collect()
    }

    /// What belongs to the first superuser is not written down among the shared dependencies.
    async fn roles(&self) -> Result<Vec<String>, SqlError> {
        self.names(
            "SELECT DISTINCT pg_get_userbyid(role)::text AS name FROM ( \
             SELECT refobjid AS role FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d ON d.oid = s.dbid \
             WHERE d.datname = current_database() AND refclassid = 'pg_catalog.pg_authid'::regclass \
             UNION ALL SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database() \
             UNION ALL SELECT relowner FROM pg_catalog.pg_class WHERE oid >= 16384 AND relnamespace <> 99 \
             UNION ALL SELECT nspowner FROM pg_catalog.pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_' \
             UNION ALL SELECT proowner FROM pg_catalog.pg_proc WHERE oid >= 16384 \
             UNION ALL SELECT typowner FROM pg_catalog.pg_type WHERE oid >= 16384) r ORDER BY 1",
        )
        .await
    }

    /// The tables, the largest first. Of one that was dropped since the snapshot nobody knows who may read it: its lock tells.
    async fn tables(&self, catalog: &mut Catalog) -> Result<(), SqlError> {
        let through = self.through().await?;
        let sql = format!(
            "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, \
             c.relpersistence::text AS persistence, coalesce(a.amname = 'heap', false) AS heap, x.condition, \
             coalesce(CASE WHEN c.relkind = 'r' THEN pg_table_size(c.oid) END, 0) AS size, \
             coalesce(CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::bigint END, 0) AS blocks, \
             coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), true) AS may_read, \
             (SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition) AS parent, \
             row_security_active(c.oid) AS hidden, k.names, k.kinds, k.not_nulls \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam {CONFIGURATION}, \
             LATERAL (SELECT coalesce(array_agg(attname::text ORDER BY attnum), '{{}}') AS names, \
             coalesce(array_agg(format_type(atttypid, atttypmod) ORDER BY attnum), '{{}}') AS kinds, \
             coalesce(array_agg(attnotnull ORDER BY attnum), '{{}}') AS not_nulls FROM pg_catalog.pg_attribute \
             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') k \
             WHERE c.relkind IN ('r', 'p', 'f') AND (x.oid IS NOT NULL OR {} AND {}) ORDER BY size DESC, schema, name",
            own("n"),
            free("pg_class", "c")
        );
        for row in self.client.rows(OPERATION, &sql, &[]).await? {
            let table = self.table(&row, &through)?;
            let get = |column| self.client.get::<String>(OPERATION, &row, column);
            let (kind, persistence) = (get("kind")?, get("persistence")?);
            let is = |column| self.client.get::<bool>(OPERATION, &row, column);
            match kind.as_str() {
                "f" => catalog
                    .leave_out(format!("rows of {table}"), "it is a foreign table: they are at its server"),
                "r" if persistence == "u" && self.standby => {
                    catalog.leave_out(
                        format!("rows of {table}"),
                        "it is unlogged, and a standby does not have them",
                    );
                }
                _ if !is("may_read")? => catalog.unreadable.push(table.to_string()),
                "p" => catalog.partitioned.push(table.relation()),
                _ if is("hidden")? => {
                    catalog.unreadable.push(format!("all rows of {table}, by row security"));
                }
                _ => catalog.tables.push(table),
            }
        }
        Ok(())
    }

    fn table(&self, row: &Row, through: &Throughs) -> Result<TableFact, SqlError> {
        let client = self.client;
        let (schema, name): (String, String) =
            (client.get(OPERATION, row, "schema")?, client.get(OPERATION, row, "name")?);
        let kinds: Vec<String> = client.get(OPERATION, row, "kinds")?;
        let not_nulls: Vec<bool> = client.get(OPERATION, row, "not_nulls")?;
        let names: Vec<String> = client.get(OPERATION, row, "names")?;
        let columns = names.into_iter().zip(kinds).zip(not_nulls);
        let columns = columns.map(|((name, kind), not_null)| ColumnFact { name, kind, not_null }).collect();
        let condition: Option<String> = client.get(OPERATION, row, "condition")?;
        let oid = client.get(OPERATION, row, "oid")?;
        let blocks = client.get::<i64>(OPERATION, row, "blocks")?.unsigned_abs();
        let condition = condition.filter(|condition| !condition.is_empty());
        let is_heap: bool = client.get(OPERATION, row, "heap")?;
        let is_cut = is_heap && self.version >= READS_RANGES && condition.is_none();
        Ok(TableFact {
            oid,
            parent: client.get(OPERATION, row, "parent")?,
            folder: part::folder(&schema, &name),
            // There are at most 2³² blocks.
            parts: if is_cut { blocks.div_ceil(BLOCKS).max(1) as u32 } else { 1 },
            schema,
            name,
            columns,
            condition,
            through: through.get(&oid).cloned(),
            rows: 0,
            bytes: 0,
            sum: Sum::default(),
            latest: BTreeMap::new(),
            size: client.get::<i64>(OPERATION, row, "size")?.unsigned_abs(),
        })
    }

    /// Partitions by the hash of an enum, whose values have other numbers in a restored database, and so other hashes.
    async fn through(&self) -> Result<Throughs, SqlError> {
        let sql = "SELECT c.oid, n.nspname::text AS schema, r.relname::text AS name FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_class r ON r.oid = pg_partition_root(c.oid) \
             JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace \
             WHERE c.relispartition AND c.relkind = 'r' AND EXISTS (SELECT FROM pg_partition_ancestors(c.oid) a \
             JOIN pg_catalog.pg_partitioned_table t ON t.partrelid = a.relid CROSS JOIN unnest(t.partclass::oid[]) k(class) \
             JOIN pg_catalog.pg_opclass o ON o.oid = k.class WHERE t.partstrat = 'h' AND o.opcname = 'enum_ops')";
        let client = self.client;
        let rows = client.rows(OPERATION, sql, &[]).await?;
        let through = |row: &Row| {
            let name = (client.get(OPERATION, row, "schema")?, client.get(OPERATION, row, "name")?);
            Ok((client.get(OPERATION, row, "oid")?, name))
        };
        rows.iter().map(through).collect()
    }

    async fn sequences(&self, catalog: &mut Catalog) -> Result<(), SqlError> {
        let sql = format!(
            "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relpersistence::text AS persistence, \
             (SELECT d.refobjid FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass \
             AND d.objid = c.oid AND d.refclassid = d.classid AND d.deptype IN ('a', 'i') LIMIT 1) AS owning, \
             coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'SELECT'), true) AS may_read \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace {CONFIGURATION} \
             WHERE c.relkind = 'S' AND (x.oid IS NOT NULL OR {} AND {}) ORDER BY 2, 3",
            own("n"),
            free("pg_class", "c")
        );
        for row in self.client.rows(OPERATION, &sql, &[]).await? {
            let sequence = SequenceFact {
                oid: self.client.get(OPERATION, &row, "oid")?,
                schema: self.client.get(OPERATION, &row, "schema")?,
                name: self.client.get(OPERATION, &row, "name")?,
                table: self.client.get(OPERATION, &row, "owning")?,
                last_value: 0,
                is_called: false,
            };
            let named = format!("sequence {}.{}", sequence.schema, sequence.name);
            let persistence: String = self.client.get(OPERATION, &row, "persistence")?;
            match self.client.get(OPERATION, &row, "may_read")? {
                _ if persistence == "u" && self.standby => {
                    catalog.leave_out(named, "it is unlogged, and a standby does not have its value");
                }
                false => catalog.unreadable.push(named),
                true => catalog.sequences.push(sequence),
            }
        }
        Ok(())
    }

    async fn large_objects(&self, catalog: &mut Catalog) -> Result<(), SqlError> {
        let client = self.client;
        let sql = format!(
            "SELECT DISTINCT (oid::bigint / {LARGE_OBJECTS})::int AS part FROM pg_catalog.pg_largeobject_metadata ORDER BY 1"
        );
        for row in client.rows(OPERATION, &sql, &[]).await? {
            catalog.large_objects.parts.push(client.get::<i32>(OPERATION, &row, "part")?.unsigned_abs());
        }
        if self.superuser {
            return Ok(());
        }
        let sql = "SELECT count(*) AS count, (array_agg(m.oid ORDER BY m.oid))[1:3]::text[] AS some \
             FROM pg_catalog.pg_largeobject_metadata m WHERE NOT (current_setting('lo_compat_privileges')::bool \
             OR pg_has_role(m.lomowner, 'USAGE') OR EXISTS (SELECT FROM aclexplode(m.lomacl) a \
             WHERE a.privilege_type = 'SELECT' AND CASE WHEN a.grantee = 0 THEN true ELSE pg_has_role(a.grantee, 'USAGE') END))";
        let row = client.row(OPERATION, sql, &[]).await?;
        let count: i64 = client.get(OPERATION, &row, "count")?;
        if count > 0 {
            let some: Vec<String> =
                client.get::<Option<Vec<String>>>(OPERATION, &row, "some")?.unwrap_or_default();
            let more = if count > 3 { ", …" } else { "" };
            catalog.unreadable.push(format!("{count} large objects ({}{more})", some.join(", ")));
        }
        Ok(())
    }

    async fn subscriptions(&self, catalog: &mut Catalog) -> Result<(), SqlError> {
        if self.superuser {
            return Ok(());
        }
        let sql = "SELECT subname::text AS name FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d \
                   ON d.oid = s.subdbid WHERE d.datname = current_database() ORDER BY 1";
        for name in self.names(sql).await? {
            catalog.leave_out(format!("subscription {name}"), "only a superuser may read how it connects");
        }
        Ok(())
    }
}

impl Catalog {
    fn leave_out(&mut self, what: String, why: &str) {
        self.left_out.push(LeftOut { what, why: why.to_owned() });
    }
}

/// Tables whose rows go through another one.
type Throughs = BTreeMap<u32, (String, String)>;

/// Tables whose rows an extension says are its users', and which of them.
const CONFIGURATION: &str = "LEFT JOIN (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition \
                             FROM pg_catalog.pg_extension) x ON x.oid = c.oid";

/// Rights, as an SQL expression that [`read_grants`] reads.
pub(crate) fn grants(acl: &str) -> String {
    format!(
        "coalesce((SELECT json_agg(json_build_object('to', CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee)::text END, \
         'privilege', privilege_type, 'with_grant_option', is_grantable) \
         ORDER BY grantee = 0 DESC, pg_get_userbyid(grantee), privilege_type)::text FROM aclexplode({acl})), '[]')"
    )
}

/// Reads the column `grants`.
pub(crate) fn read_grants(client: &Client, row: &Row) -> Result<Vec<Grant>, SqlError> {
    let text: String = client.get(OPERATION, row, "grants")?;
    serde_json::from_str(&text).map_err(|error| client.unreadable(OPERATION, error.into()))
}
