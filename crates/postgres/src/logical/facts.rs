//! What a dump says of itself: what a restore needs to know before it begins, and what it compares with at its end.
//!
//! **Invariant**: rows, sums and sequences are of the one snapshot that the parts show; whatever the dump does not have is
//! named in [`LogicalFacts::left_out`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use strongroom_model::Timestamp;

use crate::logical::failure::LogicalError;
use crate::logical::tally::{Sum, Tally};
use crate::quote::quoted_name;

/// The version of these facts that this build writes, and the newest it reads.
pub const FACTS: u32 = 1;

/// A dump's facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogicalFacts {
    /// The shape of these facts: [`FACTS`].
    pub facts: u32,
    /// `server_version_num`: 150004 is 15.4.
    pub version_num: u32,
    /// `server_version`, with what the packager added.
    pub version: String,
    /// The major version of the `pg_dump` that wrote the schema.
    pub dumped_by: u16,
    /// The role that dumped.
    pub role: String,
    /// Server's clock at the snapshot.
    pub at: Timestamp,
    /// Whether the server was a standby.
    pub standby: bool,
    /// The database.
    pub database: DatabaseFact,
    /// Its extensions.
    pub extensions: Vec<ExtensionFact>,
    /// Roles that own something in it, or that something is granted to.
    pub roles: Vec<String>,
    /// Tablespaces that something in it lies in, besides the database's own.
    pub tablespaces: Vec<String>,
    /// `ALTER ROLE … IN DATABASE … SET`: role and `name=value`.
    pub role_settings: Vec<(String, String)>,
    /// Its schemas.
    pub schemas: Vec<Relation>,
    /// Its tables that have no rows of their own.
    pub partitioned: Vec<Relation>,
    /// Its tables.
    pub tables: Vec<TableFact>,
    /// Its sequences.
    pub sequences: Vec<SequenceFact>,
    /// Its large objects.
    pub large_objects: LargeObjectsFact,
    /// What the schema consists of, by kind.
    pub schema: BTreeMap<String, KindFact>,
    /// What is not in the dump.
    pub left_out: Vec<LeftOut>,
    /// What `pg_dump` warned of.
    pub warnings: Vec<String>,
    /// The file it was imported from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub imported: Option<ImportedFact>,
}

/// A file that a dump was imported from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedFact {
    /// Where it was.
    pub file: String,
    /// What it was: `a custom archive`.
    pub format: String,
    /// Its bytes; of a directory those of all its files.
    pub bytes: u64,
    /// When it was written last.
    pub modified: Timestamp,
    /// Its BLAKE3 hash, as `b3sum` prints it; of a directory that of what `b3sum *` prints there.
    pub blake3: String,
    /// The server's version, if it said so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server: Option<String>,
    /// The version of `pg_dump`, if it said so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pg_dump: Option<String>,
}

impl LogicalFacts {
    /// Reads facts, of this version or an earlier one.
    pub fn read(value: &serde_json::Value) -> Result<LogicalFacts, LogicalError> {
        let malformed = |why: String| LogicalError::Malformed { what: "the dump's facts".to_owned(), why };
        match value.get("facts").and_then(serde_json::Value::as_u64) {
            Some(version) if version <= u64::from(FACTS) => {}
            Some(version) => return Err(malformed(format!("they have the shape {version}"))),
            None => return Err(malformed("they are not those of a dump of PostgreSQL".to_owned())),
        }
        serde_json::from_value(value.clone()).map_err(|error| malformed(error.to_string()))
    }

    /// The major version of the server.
    pub fn major(&self) -> u16 {
        u16::try_from(self.version_num / 10_000).unwrap_or(u16::MAX)
    }

    /// Every role that a restore names: as an owner, in a right, or by what is set for it.
    pub fn roles_named(&self) -> BTreeSet<&str> {
        let of_settings = self.role_settings.iter().map(|(role, _)| role);
        let of_rights = self.database.grants.iter().filter_map(|grant| grant.to.as_ref());
        let owners = self.roles.iter().chain([&self.database.owner]);
        owners.chain(of_settings).chain(of_rights).map(String::as_str).collect()
    }
}

/// A database: what it is made with, and what `pg_dump` keeps to itself unless it makes the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFact {
    /// Its name.
    pub name: String,
    /// `UTF8`.
    pub encoding: String,
    /// Who compares text: `c` the system's library, `i` ICU, `b` the server itself.
    pub provider: String,
    /// `lc_collate`.
    pub collate: String,
    /// `lc_ctype`.
    pub ctype: String,
    /// The locale of ICU or of the server itself.
    pub locale: Option<String>,
    /// The version of the collation that its indexes were made with.
    pub collation_version: Option<String>,
    /// Whose it is.
    pub owner: String,
    /// Its comment.
    pub comment: Option<String>,
    /// `CONNECTION LIMIT`; -1 is none.
    pub connection_limit: i32,
    /// `ALTER DATABASE … SET`: `name=value`.
    pub settings: Vec<String>,
    /// Who may what.
    pub grants: Vec<Grant>,
    /// Bytes on the server's disk.
    pub size: u64,
}

/// A right given to a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// To whom; `None` is everybody.
    pub to: Option<String>,
    /// Which.
    pub privilege: String,
    /// Whether it may be passed on.
    pub with_grant_option: bool,
}

/// An extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionFact {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Something by its number and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// Its number at the source.
    pub oid: u32,
    /// Its schema; of a schema, its own name.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The table that it is a partition of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<u32>,
}

impl Relation {
    /// Its name, as SQL writes it.
    pub fn quoted(&self) -> String {
        qualified(&self.schema, &self.name)
    }
}

/// A table with its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFact {
    /// Its number at the source.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The table that it is a partition of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<u32>,
    /// The folder of its parts.
    pub folder: String,
    /// How many parts it has.
    pub parts: u32,
    /// The columns that were dumped, in this order.
    pub columns: Vec<ColumnFact>,
    /// Which of its rows: `WHERE …`, for tables that an extension made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub condition: Option<String>,
    /// The partitioned table that its rows go through: which partition a row belongs in may be another at the target.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub through: Option<(String, String)>,
    /// Rows.
    pub rows: u64,
    /// Bytes of their text.
    pub bytes: u64,
    /// Their sum.
    pub sum: Sum,
    /// The latest value of each column that holds times.
    pub latest: BTreeMap<String, String>,
    /// Bytes on the server's disk, without indexes.
    pub size: u64,
}

impl TableFact {
    /// Its name, as SQL writes it.
    pub fn quoted(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// It without its rows.
    pub fn relation(&self) -> Relation {
        let TableFact { oid, schema, name, parent, .. } = self;
        Relation { oid: *oid, schema: schema.clone(), name: name.clone(), parent: *parent }
    }

    /// Its columns, as SQL lists them.
    pub fn column_list(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| quoted_name(&column.name)).collect();
        names.join(", ")
    }

    /// Counts its rows.
    pub fn tally(&self) -> Tally {
        let is_time = |kind: &str| kind == "date" || kind.starts_with("timestamp") && !kind.ends_with(']');
        Tally::new(self.columns.iter().map(|column| is_time(&column.kind)).collect())
    }
}

impl fmt::Display for TableFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A column that was dumped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnFact {
    /// Its name.
    pub name: String,
    /// Its type, as SQL writes it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it must have a value.
    pub not_null: bool,
}

/// A sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceFact {
    /// Its number at the source.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The table that owns it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub table: Option<u32>,
    /// Where it is.
    pub last_value: i64,
    /// Whether that was given out.
    pub is_called: bool,
}

/// The large objects of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjectsFact {
    /// The parts they are in.
    pub parts: Vec<u32>,
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The sum of their numbers and bytes.
    pub sum: Sum,
}

/// All objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindFact {
    /// How many.
    pub count: i64,
    /// A sum over their names.
    pub names: String,
    /// A sum over their definitions, as this version of the server writes them.
    pub definitions: String,
}

/// Something that the dump does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// A name in a schema, as SQL writes it.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted_name(schema), quoted_name(name))
}
