//! One connection to the server, made safe to work with.
//!
//! **Invariants**
//! - Nothing that a user of the database created is ever run: the search path is `pg_catalog` from the first statement
//!   on and every name is qualified as well (CVE-2018-1058), and strings are read by the standard's rules.
//! - No timeout of the server or of the role ends the session: a backup is hours of silence on it.
//!
//! Dropping a [`Client`] closes the connection; a backup that its session began is then given up by the server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strongroom_model::Cx;
use tokio_postgres::config::SslMode as Encryption;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Config, Row, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::conninfo::{Conninfo, ConninfoError, Host, SslMode};
use crate::refusal::{Cause, ConnectError, SqlError, cause, said, words};
use crate::tls;

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
(ARRAY['transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout']);";

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

/// Connects to the first host that answers and makes the session safe. A password that is refused is read anew where it is
/// kept, and tried once more if it is another now.
pub async fn connect(conninfo: &Conninfo) -> Result<Client, ConnectError> {
    let before = conninfo.kept_password();
    match connect_once(conninfo).await {
        Err(ConnectError::WrongPassword { .. }) if conninfo.has_another_password(before).await? => {
            connect_once(conninfo).await
        }
        done => done,
    }
}

async fn connect_once(conninfo: &Conninfo) -> Result<Client, ConnectError> {
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
    // On its own: a timeout that the role brings along would run on while the rest of one batch is worked off.
    client.run("prepare the session", "SET statement_timeout = 0").await?;
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
    let Some(said) = error.as_db_error() else {
        return silent_refusal(place, conninfo.user.clone(), config, error);
    };
    let (code, routine) = (said.code().clone(), said.routine().unwrap_or_default().to_owned());
    refused(place, conninfo, (code.code(), &routine), cause(error))
}

/// The same of an error that the server explained, by its SQLSTATE and routine.
pub(crate) fn refused(
    place: String,
    conninfo: &Conninfo,
    (code, routine): (&str, &str),
    source: Cause,
) -> ConnectError {
    let (user, database) = (conninfo.user.clone(), conninfo.database.clone());
    match SqlState::from_code(code) {
        SqlState::INVALID_PASSWORD => ConnectError::WrongPassword { place, user, source },
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => match routine {
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
        self.however_long(cx, operation, self.inner.query_one(sql, values)).await
    }

    /// Asks something of the user's: the first column of every row, as text; `None` for null. However long it takes, unless the
    /// session has a `statement_timeout`; cancelled as above.
    pub async fn first_column(
        &self,
        cx: &Cx,
        operation: &'static str,
        sql: &str,
    ) -> Result<Vec<Option<String>>, SqlError> {
        let answer = self.however_long(cx, operation, self.inner.simple_query(sql)).await?;
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let column = |row: &SimpleQueryRow| row.try_get(0).map(|text| text.map(str::to_owned));
        rows.map(|row| column(row).map_err(|error| self.unreadable(operation, error.into()))).collect()
    }

    async fn however_long<T>(
        &self,
        cx: &Cx,
        operation: &'static str,
        asking: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SqlError> {
        let mut asking = std::pin::pin!(asking);
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
