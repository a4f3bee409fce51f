//! What the catalog asks of a database: statements, carried out together or not at all. Both databases speak it.
//!
//! Statements are written once, for both: parameters are `$1`, times are whole microseconds since 1970 in `bigint`, everything
//! else is text. Where the two differ, [`Dialect`] has the words.

use async_trait::async_trait;
use strongroom_model::Timestamp;

/// A value that goes in or comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A number, or a time in microseconds.
    Number(i64),
    /// Text.
    Text(String),
}

impl From<i64> for Cell {
    fn from(number: i64) -> Cell {
        Cell::Number(number)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<Timestamp> for Cell {
    fn from(time: Timestamp) -> Cell {
        Cell::Number(time.0.as_microsecond())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub Vec<Cell>);

/// A statement and its parameters.
pub struct Statement {
    /// The text.
    pub sql: String,
    /// `$1` and so on.
    pub cells: Vec<Cell>,
}

impl Statement {
    /// This text with these parameters.
    pub fn new(sql: impl Into<String>, cells: impl IntoIterator<Item = Cell>) -> Statement {
        Statement { sql: sql.into(), cells: cells.into_iter().collect() }
    }
}

/// In what words the databases differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl Dialect {
    /// The type of a key that the database numbers by itself, never giving a number twice.
    pub fn numbered(self) -> &'static str {
        match self {
            Dialect::Sqlite => "integer primary key autoincrement",
            Dialect::Postgres => "bigint generated always as identity primary key",
        }
    }

    /// The texts of the JSON array in `parameter`, as a query.
    pub fn texts_of(self, parameter: &str) -> String {
        match self {
            Dialect::Sqlite => format!("select value from json_each({parameter})"),
            Dialect::Postgres => {
                format!(
                    "select pg_catalog.jsonb_array_elements_text(cast(cast({parameter} as text) as jsonb))"
                )
            }
        }
    }

    /// The objects of the JSON array in `parameter`, as rows with a column `value`; `value ->> 'key'` reads one of their texts.
    pub fn objects_of(self, parameter: &str) -> String {
        match self {
            Dialect::Sqlite => format!("json_each({parameter})"),
            Dialect::Postgres => {
                format!(
                    "pg_catalog.jsonb_array_elements(cast(cast({parameter} as text) as jsonb)) as objects (value)"
                )
            }
        }
    }

    /// Passes over rows that somebody else is about to change. SQLite has one writer at a time, so there is nobody else.
    pub fn skip_locked(self) -> &'static str {
        match self {
            Dialect::Sqlite => "",
            Dialect::Postgres => "for update skip locked",
        }
    }
}

/// Why a database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A row of that key is there already, perhaps since a moment ago.
    #[error("{operation} the catalog {place}: a row of that key is there")]
    Taken {
        /// What was being done.
        operation: &'static str,
        /// Which catalog.
        place: String,
    },
    /// It is not reached, or another holds it too long; it may be over by itself.
    #[error("{operation} the catalog {place}")]
    Passing {
        /// What was being done.
        operation: &'static str,
        /// Which catalog.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It refuses, or its file is no catalog.
    #[error("{operation} the catalog {place}")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// Which catalog.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DatabaseError {
    /// Whether it may be over by itself.
    pub fn is_passing(&self) -> bool {
        matches!(self, DatabaseError::Passing { .. })
    }
}

/// A database that a catalog is in.
#[async_trait]
pub trait Database: Send + Sync {
    /// Its words.
    fn dialect(&self) -> Dialect;

    /// Where it is, for people; without a password.
    fn place(&self) -> &str;

    /// Carries all of these out in one transaction, in this order, and gives the rows of each. A caller that goes away in the
    /// middle leaves all of them done, or none.
    async fn together(
        &self,
        operation: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Row>>, DatabaseError>;
}
