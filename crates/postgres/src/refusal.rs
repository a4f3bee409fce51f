//! The ways a server says no, each with its way out.
//!
//! **Invariant**: a failure says what was being done and at which server, and a password is in none: neither the
//! connection string nor what was sent is ever part of one.

use strongroom_engine::EngineError;
use tokio_postgres::error::DbError;

use crate::conninfo::ConninfoError;
use crate::quote::quoted_name;
use crate::tls::TlsError;

/// The cause of a failure, for people.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection string cannot be used.
    #[error(transparent)]
    Conninfo(#[from] ConninfoError),
    /// Certificates cannot be used.
    #[error("connect to {place}")]
    Tls {
        /// Where.
        place: String,
        /// What is wrong with them.
        #[source]
        source: TlsError,
    },
    /// Nothing answers there, or the connection broke at once.
    #[error("connect to {place}")]
    Unreachable {
        /// Where.
        place: String,
        /// What was said.
        #[source]
        source: Cause,
    },
    /// No answer in time.
    #[error("connect to {place}: no answer within {seconds} s")]
    TimedOut {
        /// Where.
        place: String,
        /// How long was waited.
        seconds: u64,
    },
    /// No encrypted connection came about.
    #[error("connect to {place} with TLS")]
    Handshake {
        /// Where.
        place: String,
        /// What to do.
        hint: &'static str,
        /// What was said.
        #[source]
        source: Cause,
    },
    /// The server wants a password and there is none.
    #[error("connect to {place} as {user}: the server asks for a password and none is given")]
    PasswordMissing {
        /// Where.
        place: String,
        /// As whom.
        user: String,
    },
    /// The password is wrong (or the role does not exist: the server does not say which).
    #[error("connect to {place} as {user}: the password is wrong")]
    WrongPassword {
        /// Where.
        place: String,
        /// As whom.
        user: String,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// The role is not the server's.
    #[error("connect to {place} as {user}: the server has no such role")]
    NoSuchRole {
        /// Where.
        place: String,
        /// As whom.
        user: String,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// `peer`, `cert` or another method that asks for no password said no.
    #[error("connect to {place} as {user}: the server does not take us for that role")]
    NotThatRole {
        /// Where.
        place: String,
        /// As whom.
        user: String,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// `pg_hba.conf` has no line for this connection, or one that rejects it.
    #[error("connect to {place} as {user}: pg_hba.conf lets no such connection in")]
    NotLetIn {
        /// Where.
        place: String,
        /// As whom.
        user: String,
        /// To which database.
        database: String,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// The database does not exist.
    #[error("connect to {place}: there is no database {database}")]
    NoSuchDatabase {
        /// Where.
        place: String,
        /// Which.
        database: String,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// All of the server's connections, or the role's, are taken.
    #[error("connect to {place} as {user}: too many connections")]
    TooManyConnections {
        /// Where.
        place: String,
        /// As whom.
        user: String,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// The role may not replicate.
    #[error("connect to {place} as {user} for replication: the role may not replicate")]
    NotAReplicator {
        /// Where.
        place: String,
        /// As whom.
        user: String,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// The server has no process left, or none at all, that could send WAL.
    #[error("connect to {place} for replication: the server has no sender of WAL to spare")]
    NoSender {
        /// Where.
        place: String,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// The server is starting up, shutting down or not yet consistent.
    #[error("connect to {place}: the server takes no connections now")]
    NotNow {
        /// Where.
        place: String,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// The server said no for another reason.
    #[error("connect to {place} as {user}")]
    Refused {
        /// Where.
        place: String,
        /// As whom.
        user: String,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// Connected, but the session could not be made safe.
    #[error(transparent)]
    Session(#[from] SqlError),
}

impl ConnectError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            ConnectError::Conninfo(error) => error.hint(),
            ConnectError::Tls { .. } => {
                "are sslrootcert, sslcert and sslkey PEM files that this user may read?".into()
            }
            ConnectError::Unreachable { .. } | ConnectError::TimedOut { .. } => {
                "is the server running, and do host and port (listen_addresses, unix_socket_directories) fit?"
                    .into()
            }
            ConnectError::Handshake { hint, .. } => (*hint).into(),
            ConnectError::PasswordMissing { place, user } => {
                format!("put it into ~/.pgpass (mode 600) or PGPASSWORD, for {user} at {place}")
            }
            ConnectError::WrongPassword { user, .. } => {
                format!("does the role {user} exist, and is its password the one that was given (password, POSTGRES_PASSWORD, PGPASSWORD or ~/.pgpass)?")
            }
            ConnectError::NoSuchRole { user, .. } => {
                format!("create it: CREATE ROLE {} LOGIN;", quoted_name(user))
            }
            ConnectError::NotThatRole { user, .. } => {
                format!("run strongroom as the system user that pg_hba.conf and pg_ident.conf map to {user}")
            }
            ConnectError::NotLetIn { user, database, .. } => {
                format!(
                    "add a line to pg_hba.conf for user {user} and database {database}, then pg_reload_conf()"
                )
            }
            ConnectError::NoSuchDatabase { .. } => "name an existing one, such as dbname=postgres".into(),
            ConnectError::TooManyConnections { .. } => {
                "raise max_connections or the role's CONNECTION LIMIT, or end idle sessions".into()
            }
            ConnectError::NotAReplicator { user, .. } => format!("ALTER ROLE {} REPLICATION;", quoted_name(user)),
            ConnectError::NoSender { .. } => {
                "wal_level must be replica or logical, and max_wal_senders larger than the number of standbys and \
                 receivers: both take effect when the server restarts"
                    .into()
            }
            ConnectError::NotNow { .. } => "try again when the server is up".into(),
            ConnectError::Refused { .. } => "what does the server's log say?".into(),
            ConnectError::Session(error) => error.hint(),
        }
    }

    /// Whether another of the hosts may do better.
    pub(crate) fn is_of_this_host_only(&self) -> bool {
        matches!(
            self,
            ConnectError::Unreachable { .. }
                | ConnectError::TimedOut { .. }
                | ConnectError::NotNow { .. }
                | ConnectError::TooManyConnections { .. }
                | ConnectError::NoSender { .. }
        )
    }
}

impl From<ConnectError> for EngineError {
    fn from(error: ConnectError) -> EngineError {
        let (what, hint) = (error.to_string(), error.hint());
        match error {
            ConnectError::Session(error) => error.into(),
            ConnectError::Unreachable { source, .. }
            | ConnectError::NotNow { source, .. }
            | ConnectError::TooManyConnections { source, .. } => {
                EngineError::Unreachable { what, hint, source: Some(source) }
            }
            ConnectError::TimedOut { .. } => EngineError::Unreachable { what, hint, source: None },
            error => EngineError::Unfit { what: with_cause(&error), hint },
        }
    }
}

/// Why a statement has no result.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The connection ended before the answer.
    #[error("{operation} at {place}: the connection was lost{}", said.as_deref().map(|said| format!(" ({said})")).unwrap_or_default())]
    Lost {
        /// What was being done.
        operation: &'static str,
        /// Where.
        place: String,
        /// The server's last words.
        said: Option<String>,
    },
    /// No answer in time.
    #[error("{operation} at {place}: no answer within {seconds} s")]
    Silent {
        /// What was being done.
        operation: &'static str,
        /// Where.
        place: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The role may not.
    #[error("{operation} at {place} as {role}: {said}")]
    Denied {
        /// What was being done.
        operation: &'static str,
        /// Where.
        place: String,
        /// As whom.
        role: String,
        /// What the server said.
        said: String,
    },
    /// The server would not.
    #[error("{operation} at {place}: {said}")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// Where.
        place: String,
        /// What the server said.
        said: String,
        /// SQLSTATE.
        code: String,
    },
    /// The answer is not what this version of PostgreSQL should give.
    #[error("{operation} at {place}: the answer cannot be read")]
    Unreadable {
        /// What was being done.
        operation: &'static str,
        /// Where.
        place: String,
        /// What does not fit.
        #[source]
        source: Cause,
    },
    /// The user asked to stop; the statement was cancelled.
    #[error(transparent)]
    Cancelled(#[from] strongroom_model::Cancelled),
}

impl SqlError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            SqlError::Lost { .. } => "was the server stopped or the session ended? try again".into(),
            SqlError::Silent { .. } => "is the server overloaded, or the network interrupted?".into(),
            SqlError::Denied { .. } => "`strongroom doctor` prints the GRANTs that the role needs".into(),
            SqlError::Refused { .. } => "what does the server's log say?".into(),
            SqlError::Unreadable { .. } => {
                "is a proxy between strongroom and the server? connect to the server".into()
            }
            SqlError::Cancelled(_) => "run the command again".into(),
        }
    }

    /// Whether the session is gone or unusable.
    pub fn is_end_of_session(&self) -> bool {
        matches!(self, SqlError::Lost { .. } | SqlError::Silent { .. })
    }
}

impl From<SqlError> for EngineError {
    fn from(error: SqlError) -> EngineError {
        let (what, hint) = (error.to_string(), error.hint());
        match error {
            SqlError::Cancelled(cancelled) => EngineError::Cancelled(cancelled),
            SqlError::Lost { .. } | SqlError::Silent { .. } => {
                EngineError::Unreachable { what, hint, source: None }
            }
            SqlError::Denied { .. } | SqlError::Refused { .. } => EngineError::Unfit { what, hint },
            SqlError::Unreadable { source, .. } => {
                EngineError::Unreachable { what, hint, source: Some(source) }
            }
        }
    }
}

/// What the server said, with its detail.
pub(crate) fn said(error: &DbError) -> String {
    match error.detail() {
        Some(detail) => format!("{} ({detail})", error.message()),
        None => error.message().to_owned(),
    }
}

/// What the library, or through it the server, said.
pub(crate) fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => said(db),
        None => with_cause(error),
    }
}

/// An error and its causes on one line.
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The cause alone, where the library's own text would only be `db error`.
pub(crate) fn cause(error: tokio_postgres::Error) -> Cause {
    if error.as_db_error().is_some() {
        return error.into_source().unwrap_or_else(|| "the server gave no reason".into());
    }
    error.into()
}
