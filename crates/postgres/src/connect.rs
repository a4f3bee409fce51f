//! One connection to the server, made safe to work with, and the ways it can fail.
//!
//! **Invariants**
//! - Nothing that a user of the database created is ever run: the search path is `pg_catalog` from the first statement
//!   on and every name is qualified as well (CVE-2018-1058), and strings are read by the standard's rules.
//! - No timeout of the server or of the role ends the session: a backup is hours of silence on it.
//! - A failure says what was being done and at which server; a password is in none.
//!
//! Dropping a [`Client`] closes the connection; a backup that its session began is then given up by the server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strongroom_engine::EngineError;
use strongroom_model::Cx;
use tokio_postgres::config::SslMode as Encryption;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::conninfo::{Conninfo, ConninfoError, Host, SslMode};
use crate::tls::{self, TlsError};

/// How long a question that costs the server nothing may take.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How often a long statement looks whether the user pressed Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Ends nothing by time, and finds nothing but the server's own functions. The settings differ between versions, so
/// they are looked up. A lock is waited for at most half a minute: nothing here should ever need one for long.
const PREPARATION: &str = "\
SET search_path = pg_catalog, pg_temp;
SET standard_conforming_strings = on;
SET lock_timeout = '30s';
SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) ANY \
(ARRAY['statement_timeout', 'transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout']);";

/// The cause of a failure, for people.
type Cause = Box<dyn std::error::Error + Send + Sync>;

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
                format!("does the role {user} exist, and is its password the one in PGPASSWORD or ~/.pgpass?")
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
            ConnectError::NotNow { .. } => "try again when the server is up".into(),
            ConnectError::Refused { .. } => "what does the server's log say?".into(),
            ConnectError::Session(error) => error.hint(),
        }
    }

    /// Whether another of the hosts may do better.
    fn is_of_this_host_only(&self) -> bool {
        matches!(
            self,
            ConnectError::Unreachable { .. }
                | ConnectError::TimedOut { .. }
                | ConnectError::NotNow { .. }
                | ConnectError::TooManyConnections { .. }
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

/// A connection in a known state.
pub struct Client {
    inner: tokio_postgres::Client,
    tls: MakeRustlsConnect,
    place: String,
    role: String,
    database: String,
    last_words: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("place", &self.place).field("role", &self.role).finish_non_exhaustive()
    }
}

/// Connects to the first host that answers and makes the session safe.
pub async fn connect(conninfo: &Conninfo) -> Result<Client, ConnectError> {
    let first = conninfo.hosts.first().map(Host::to_string).unwrap_or_default();
    let tls = tls::connector(conninfo).map_err(|source| ConnectError::Tls { place: first, source })?;
    let mut hosts = conninfo.hosts.iter().peekable();
    while let Some(host) = hosts.next() {
        match connect_to(host, conninfo, &tls).await {
            Err(error) if error.is_of_this_host_only() && hosts.peek().is_some() => continue,
            done => return done,
        }
    }
    Err(ConninfoError::Malformed("it names no host").into())
}

async fn connect_to(
    host: &Host,
    conninfo: &Conninfo,
    tls: &MakeRustlsConnect,
) -> Result<Client, ConnectError> {
    let config = config_for(host, conninfo);
    match attempt(host, conninfo, &config, tls).await {
        // libpq does the same: to prefer encryption is not to insist on it.
        Err(ConnectError::Handshake { .. } | ConnectError::NotLetIn { .. })
            if config.get_ssl_mode() == Encryption::Prefer =>
        {
            let mut plain = config.clone();
            plain.ssl_mode(Encryption::Disable);
            attempt(host, conninfo, &plain, tls).await
        }
        done => done,
    }
}

fn config_for(host: &Host, conninfo: &Conninfo) -> Config {
    let mut config = Config::new();
    config
        .user(&conninfo.user)
        .dbname(&conninfo.database)
        .application_name(&conninfo.application_name)
        .port(host.port)
        .channel_binding(conninfo.channel_binding)
        .target_session_attrs(conninfo.target)
        // A server or network that vanished is noticed within two minutes, not in the two hours of the system's default.
        .keepalives_idle(Duration::from_secs(60))
        .keepalives_interval(Duration::from_secs(15))
        .keepalives_retries(4)
        .ssl_mode(match conninfo.sslmode {
            // A socket does not leave the host; the server offers no TLS on it.
            _ if host.is_socket() => Encryption::Disable,
            SslMode::Disable => Encryption::Disable,
            SslMode::Prefer => Encryption::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Encryption::Require,
        });
    if !host.name.is_empty() {
        config.host(&host.name);
    }
    if let Some(address) = host.address {
        config.hostaddr(address);
        // The certificate is then checked against the address.
        if host.name.is_empty() {
            config.host(address.to_string());
        }
    }
    if let Some(options) = &conninfo.options {
        config.options(options);
    }
    if let Some(password) = conninfo.password_for(host) {
        config.password(password.expose());
    }
    config
}

async fn attempt(
    host: &Host,
    conninfo: &Conninfo,
    config: &Config,
    tls: &MakeRustlsConnect,
) -> Result<Client, ConnectError> {
    let place = host.to_string();
    let connecting = config.connect(tls.clone());
    let connected = match conninfo.connect_timeout {
        None => connecting.await,
        Some(limit) => match tokio::time::timeout(limit, connecting).await {
            Ok(done) => done,
            Err(_) => return Err(ConnectError::TimedOut { place, seconds: limit.as_secs() }),
        },
    };
    let (inner, mut connection) =
        connected.map_err(|error| refusal(place.clone(), conninfo, config, error))?;
    let last_words: Arc<Mutex<Option<String>>> = Arc::default();
    let heard = last_words.clone();
    tokio::spawn(async move {
        // By reference: what waits for an answer is told only when the connection goes, after its last words are kept.
        if let Err(error) = (&mut connection).await {
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(words(&error));
        }
    });
    let (role, database) = (conninfo.user.clone(), conninfo.database.clone());
    let client = Client { inner, tls: tls.clone(), place, role, database, last_words };
    client.run("prepare the session", PREPARATION).await?;
    Ok(client)
}

/// Which of the refusals this is. Messages may be in any language, so the SQLSTATE decides and, where one stands for
/// several situations, the name of the server's routine that raised it.
fn refusal(
    place: String,
    conninfo: &Conninfo,
    config: &Config,
    error: tokio_postgres::Error,
) -> ConnectError {
    let (user, database) = (conninfo.user.clone(), conninfo.database.clone());
    let Some(said) = error.as_db_error() else {
        return silent_refusal(place, user, config, error);
    };
    let (code, routine) = (said.code().clone(), said.routine().unwrap_or_default().to_owned());
    let source = cause(error);
    match code {
        SqlState::INVALID_PASSWORD => ConnectError::WrongPassword { place, user, source },
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => match routine.as_str() {
            "ClientAuthentication" => ConnectError::NotLetIn { place, user, database, source },
            "InitializeSessionUserId" => ConnectError::NoSuchRole { place, user, source },
            "auth_failed" => ConnectError::NotThatRole { place, user, source },
            _ => ConnectError::Refused { place, user, source },
        },
        SqlState::INVALID_CATALOG_NAME => ConnectError::NoSuchDatabase { place, database, source },
        SqlState::TOO_MANY_CONNECTIONS => ConnectError::TooManyConnections { place, user, source },
        SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => {
            ConnectError::NotNow { place, source }
        }
        _ => ConnectError::Refused { place, user, source },
    }
}

/// Failures of which the server said nothing. The library keeps its error's kind to itself; its text is all there is.
fn silent_refusal(
    place: String,
    user: String,
    config: &Config,
    error: tokio_postgres::Error,
) -> ConnectError {
    if error.to_string().starts_with("error performing TLS handshake") {
        let hint = tls::handshake_hint(tls::handshake_error(&error));
        return ConnectError::Handshake { place, hint, source: cause(error) };
    }
    if config.get_password().is_none() && words(&error).contains("password missing") {
        return ConnectError::PasswordMissing { place, user };
    }
    if error.to_string().starts_with("authentication error")
        || error.to_string().starts_with("invalid configuration")
    {
        return ConnectError::Refused { place, user, source: cause(error) };
    }
    ConnectError::Unreachable { place, source: cause(error) }
}

impl Client {
    /// Where it is connected to.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The role it connected as.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The database it connected to.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Whether the connection is known to be gone.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Runs statements without a result, or whose result does not matter.
    pub async fn run(&self, operation: &'static str, sql: &str) -> Result<(), SqlError> {
        self.within(operation, ANSWER_WITHIN, self.inner.batch_execute(sql)).await
    }

    /// Asks for all rows.
    pub async fn rows(
        &self,
        operation: &'static str,
        sql: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, SqlError> {
        self.within(operation, ANSWER_WITHIN, self.inner.query(sql, values)).await
    }

    /// Asks for exactly one row.
    pub async fn row(&self, operation: &'static str, sql: &str, values: Values<'_>) -> Result<Row, SqlError> {
        self.within(operation, ANSWER_WITHIN, self.inner.query_one(sql, values)).await
    }

    /// Asks for exactly one row, however long it takes; cancelled at the server when the user asks to stop.
    pub async fn long_row(
        &self,
        cx: &Cx,
        operation: &'static str,
        sql: &str,
        values: Values<'_>,
    ) -> Result<Row, SqlError> {
        let mut asking = std::pin::pin!(self.inner.query_one(sql, values));
        loop {
            match tokio::time::timeout(LOOK_EVERY, asking.as_mut()).await {
                Ok(answer) => return answer.map_err(|error| self.failure(operation, error)),
                Err(_) => {
                    if let Err(cancelled) = cx.check() {
                        // Without this the server notices only when it has finished. If it fails, that is all that is lost.
                        let token = self.inner.cancel_token();
                        let _ =
                            tokio::time::timeout(ANSWER_WITHIN, token.cancel_query(self.tls.clone())).await;
                        return Err(cancelled.into());
                    }
                }
            }
        }
    }

    /// Reads one column of a row.
    pub fn get<T: FromSqlOwned>(
        &self,
        operation: &'static str,
        row: &Row,
        column: &str,
    ) -> Result<T, SqlError> {
        row.try_get(column).map_err(|error| self.unreadable(operation, error.into()))
    }

    /// An answer that makes no sense.
    pub fn unreadable(&self, operation: &'static str, source: Cause) -> SqlError {
        SqlError::Unreadable { operation, place: self.place.clone(), source }
    }

    async fn within<T>(
        &self,
        operation: &'static str,
        limit: Duration,
        asking: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SqlError> {
        match tokio::time::timeout(limit, asking).await {
            Ok(answer) => answer.map_err(|error| self.failure(operation, error)),
            Err(_) => {
                Err(SqlError::Silent { operation, place: self.place.clone(), seconds: limit.as_secs() })
            }
        }
    }

    fn failure(&self, operation: &'static str, error: tokio_postgres::Error) -> SqlError {
        let place = self.place.clone();
        let ends = |code: &SqlState| {
            [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
                || ["57P05", "25P03", "25P04"].contains(&code.code())
        };
        match error.as_db_error() {
            Some(db) if ends(db.code()) => SqlError::Lost { operation, place, said: Some(said(db)) },
            Some(db) if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
                SqlError::Denied { operation, place, role: self.role.clone(), said: said(db) }
            }
            Some(db) => {
                SqlError::Refused { operation, place, said: said(db), code: db.code().code().to_owned() }
            }
            None if error.is_closed() || self.inner.is_closed() => {
                let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone();
                SqlError::Lost { operation, place, said: words }
            }
            None => SqlError::Unreadable { operation, place, source: cause(error) },
        }
    }
}

/// Values for the `$n` of a statement.
pub type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The role or database as SQL writes it.
pub fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string as SQL writes it, under `standard_conforming_strings`, which every session here has.
pub fn quoted_string(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What the server said, with its detail.
fn said(error: &DbError) -> String {
    match error.detail() {
        Some(detail) => format!("{} ({detail})", error.message()),
        None => error.message().to_owned(),
    }
}

/// What the library, or through it the server, said.
fn words(error: &tokio_postgres::Error) -> String {
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
fn cause(error: tokio_postgres::Error) -> Cause {
    if error.as_db_error().is_some() {
        return error.into_source().unwrap_or_else(|| "the server gave no reason".into());
    }
    error.into()
}
