//! Where the server is and who connects: libpq's connection strings, environment, service and password files.
//!
//! ```text
//! what the user wrote   host=db1 user=backup          or   postgresql://backup@db1/?sslmode=verify-full
//!   └ else what the caller fills in
//!   └ else the service  [orders] in ~/.pg_service.conf     (service=orders, PGSERVICE)
//!       └ else          PGHOST, PGPORT, PGUSER, …          (the environment is handed in, not read here)
//!           └ else      the usual socket folders, port 5432, the system's user, database `postgres`
//! ```
//!
//! **Invariants**: a password is in no message and no `Debug` output; a keyword that is not understood is an error,
//! since leaving out `channel_binding` or a misspelt `sslmode` would weaken the connection in silence.
//!
//! One departure from libpq: the database defaults to `postgres`, not to the user's name. Which database it is does
//! not matter to a physical backup, and that one exists nearly everywhere.

#![allow(
    clippy::disallowed_methods,
    reason = "this module is where service files are read and socket folders looked for"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, TargetSessionAttrs};
use zeroize::Zeroizing;

use crate::passfile::{self, KeptPassword, Password, ReadPassword};

/// Looks a variable up, as `std::env::var` does.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where packagers put the server's socket: Debian and Red Hat, then PostgreSQL's own default.
pub const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// How long a connection may take unless `connect_timeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection string that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConninfoError {
    /// Neither `keyword=value …` nor a `postgresql://` address. The text is not shown: it may hold a password.
    #[error("read the connection string: {0}")]
    Malformed(&'static str),
    /// A keyword that Strongroom does not know.
    #[error("read the connection string: '{0}' is not a keyword it may contain")]
    UnknownKeyword(String),
    /// A value that the keyword cannot have.
    #[error("read the connection string: {keyword} cannot be '{value}': it is {expected}")]
    WrongValue {
        /// Which keyword.
        keyword: &'static str,
        /// What it was given.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Lists of different lengths.
    #[error("read the connection string: {keyword} lists {found} values for {hosts} hosts")]
    Uneven {
        /// `hostaddr` or `port`.
        keyword: &'static str,
        /// How many it lists.
        found: usize,
        /// How many hosts there are.
        hosts: usize,
    },
    /// The service is in none of the service files.
    #[error("find service '{service}' in {files}")]
    NoSuchService {
        /// Its name.
        service: String,
        /// Where it was looked for.
        files: String,
    },
    /// A certificate, key, service or password file cannot be read.
    #[error("read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The password cannot be read where it is kept.
    #[error("read the password of the connection")]
    Password(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No user was given and the system has no name for this one.
    #[error("find out who connects: no user is given and the system has no name for this one")]
    NoUser,
}

impl ConninfoError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            ConninfoError::Malformed(_) => {
                "write it as host=/var/run/postgresql user=backup or postgresql://backup@db1:5432/postgres"
                    .to_owned()
            }
            ConninfoError::UnknownKeyword(_) => {
                let known: Vec<_> = KEYWORDS.iter().map(|(keyword, _)| *keyword).collect();
                format!("it may contain: {}", known.join(", "))
            }
            ConninfoError::WrongValue { expected, .. } => format!("give it {expected}"),
            ConninfoError::Uneven { .. } => {
                "give one value, or one for each host, separated by commas".to_owned()
            }
            ConninfoError::NoSuchService { .. } => "is the service's name spelt as in the file?".to_owned(),
            ConninfoError::File { .. } => "does the file exist, and may this user read it?".to_owned(),
            ConninfoError::Password(_) => {
                "is the password where the settings say, and may this user read it?".to_owned()
            }
            ConninfoError::NoUser => "add user=… to the connection string".to_owned(),
        }
    }
}

/// How much the connection must be protected (libpq's `sslmode`; `allow` is not offered).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server can; the server is not verified.
    Prefer,
    /// Encrypted; verified as with `VerifyCa` if a root certificate file is named.
    Require,
    /// Encrypted, and the server's certificate is signed by a trusted authority.
    VerifyCa,
    /// And it is issued to the name that was connected to.
    VerifyFull,
}

/// One place to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, or the folder of a socket (begins with `/`); empty when only an address was given.
    pub name: String,
    /// The address to use instead of looking the name up.
    pub address: Option<IpAddr>,
    /// Port; also part of a socket's file name.
    pub port: u16,
}

impl Host {
    /// Whether this is a socket in the file system.
    pub fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }

    /// What a line of the password file must name to be meant: libpq calls the default sockets `localhost`.
    fn passfile_name(&self) -> String {
        match self.address {
            _ if SOCKET_FOLDERS.contains(&self.name.as_str()) => "localhost".to_owned(),
            Some(address) if self.name.is_empty() => address.to_string(),
            _ => self.name.clone(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            _ if self.is_socket() => write!(f, "{}/.s.PGSQL.{}", self.name, self.port),
            Some(address) if self.name.is_empty() => write!(f, "{address}:{}", self.port),
            _ => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// Everything needed to connect.
#[derive(Clone, Debug)]
pub struct Conninfo {
    /// Places to try, in order. Never empty.
    pub hosts: Vec<Host>,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// How much protection.
    pub sslmode: SslMode,
    /// Trusted authorities (PEM); `None` = the system's.
    pub sslrootcert: Option<PathBuf>,
    /// The client's certificate and key (PEM).
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// `require` refuses a password exchange that is not bound to the TLS connection.
    pub channel_binding: ChannelBinding,
    /// Options for the server's process.
    pub options: Option<String>,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// How long connecting to one place may take; `None` = for ever.
    pub connect_timeout: Option<Duration>,
    /// Whether any server will do, or one that accepts writes.
    pub target: TargetSessionAttrs,
    password: Option<Password>,
    kept: Option<KeptPassword>,
    passfile: Option<PathBuf>,
}

/// Keywords and the variables that stand in for them.
const KEYWORDS: &[(&str, &str)] = &[
    ("application_name", "PGAPPNAME"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("dbname", "PGDATABASE"),
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("options", "PGOPTIONS"),
    ("passfile", "PGPASSFILE"),
    ("password", "PGPASSWORD"),
    ("port", "PGPORT"),
    ("service", "PGSERVICE"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("user", "PGUSER"),
];

impl Conninfo {
    /// Reads a connection string (may be empty) and fills what it leaves open from the service file and `environment`.
    pub fn read(text: &str, environment: Environment<'_>) -> Result<Conninfo, ConninfoError> {
        Conninfo::read_filled(text, &[], environment)
    }

    /// The same, where values that come from elsewhere fill what the text leaves open, before service and environment do.
    pub fn read_filled(
        text: &str,
        fill: &[(&'static str, Zeroizing<String>)],
        environment: Environment<'_>,
    ) -> Result<Conninfo, ConninfoError> {
        let mut written = Parameters::default();
        match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
            Some(address) => written.read_address(address)?,
            None => written.read_pairs(text)?,
        }
        for (keyword, value) in fill.iter().filter(|(_, value)| !value.is_empty()) {
            written.0.entry(keyword).or_insert_with(|| value.clone());
        }
        if let Some(service) = written.take("service").or_else(|| environment("PGSERVICE")) {
            written.fill(service_parameters(&service, environment)?);
        }
        for (keyword, variable) in KEYWORDS {
            if let Some(value) = environment(variable).filter(|value| !value.is_empty()) {
                written.0.entry(keyword).or_insert_with(|| Zeroizing::new(value));
            }
        }
        // An empty value means the default, as in libpq.
        written.0.retain(|_, value| !value.is_empty());
        Conninfo::from_parameters(written, environment)
    }

    /// A database of the server whose socket (of port 5432) lies in this folder.
    pub(crate) fn of_socket(folder: &Path, user: &str, database: &str) -> Result<Conninfo, ConninfoError> {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let text = format!(
            "host='{}' port=5432 user='{}' sslmode=disable dbname='{}'",
            quoted(&folder.display().to_string()),
            quoted(user),
            quoted(database)
        );
        Conninfo::read(&text, &|_| None)
    }

    fn from_parameters(
        mut given: Parameters,
        environment: Environment<'_>,
    ) -> Result<Conninfo, ConninfoError> {
        let home = environment("HOME").map(PathBuf::from);
        let hosts = given.hosts()?;
        let user = match given.take("user") {
            Some(user) => user,
            None => whoami::username().map_err(|_| ConninfoError::NoUser)?,
        };
        let sslrootcert = match given.take("sslrootcert") {
            Some(word) if word == "system" => None,
            Some(path) => Some(PathBuf::from(path)),
            None => {
                home.as_deref().map(|home| home.join(".postgresql/root.crt")).filter(|path| path.exists())
            }
        };
        let client_certificate = match (given.take("sslcert"), given.take("sslkey")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => return Err(ConninfoError::Malformed("sslcert and sslkey go together")),
        };
        Ok(Conninfo {
            hosts,
            user,
            database: given.take("dbname").unwrap_or_else(|| "postgres".to_owned()),
            sslmode: given.choice("sslmode", SSLMODES)?.unwrap_or(SslMode::Prefer),
            sslrootcert,
            client_certificate,
            channel_binding: given.choice("channel_binding", BINDINGS)?.unwrap_or(ChannelBinding::Prefer),
            options: given.take("options"),
            application_name: given.take("application_name").unwrap_or_else(|| "strongroom".to_owned()),
            connect_timeout: given.connect_timeout()?,
            target: given.choice("target_session_attrs", TARGETS)?.unwrap_or(TargetSessionAttrs::Any),
            passfile: given
                .take("passfile")
                .map(PathBuf::from)
                .or_else(|| home.map(|home| home.join(".pgpass"))),
            password: given.0.remove("password").map(Password::new),
            kept: None,
        })
    }

    /// The same with a password that is kept elsewhere. It outweighs any other, is read now, and again when a server does not
    /// take it any more: it may have been changed meanwhile.
    pub fn with_password(self, read: ReadPassword) -> Result<Conninfo, ConninfoError> {
        let kept = KeptPassword::new(read).map_err(ConninfoError::Password)?;
        Ok(Conninfo { kept: Some(kept), ..self })
    }

    /// After a refusal: whether the password is another where it is kept than it was `before`. What is worth one more try.
    pub(crate) async fn has_another_password(&self, before: Option<Password>) -> Result<bool, ConninfoError> {
        let (Some(kept), Some(before)) = (self.kept.clone(), before) else { return Ok(false) };
        // A program may be asked for it.
        let renewing = tokio::task::spawn_blocking(move || kept.renew(&before));
        renewing.await.unwrap_or_else(|error| Err(error.into())).map_err(ConninfoError::Password)
    }

    /// The password that is kept elsewhere, as it is known now.
    pub(crate) fn kept_password(&self) -> Option<Password> {
        self.kept.as_ref().map(KeptPassword::last)
    }

    /// The same, to this one of its hosts only.
    pub fn only(&self, place: &str) -> Conninfo {
        let mut only = self.clone();
        only.hosts.retain(|host| host.to_string() == place);
        only
    }

    /// The password for one of the hosts: the one given, else the password file's. Read at every connection, so that a
    /// changed file is noticed. A file that others may read is not used, as libpq does.
    pub fn password_for(&self, host: &Host) -> Option<Password> {
        if let Some(kept) = self.kept_password() {
            return Some(kept);
        }
        if self.password.is_some() {
            return self.password.clone();
        }
        let path = self.passfile.as_deref()?;
        passfile::find(path, [&host.passfile_name(), &host.port.to_string(), &self.database, &self.user])
    }
}

const SSLMODES: Choices<SslMode> = Choices {
    expected: "disable, prefer, require, verify-ca or verify-full",
    values: &[
        ("disable", SslMode::Disable),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ],
};

const BINDINGS: Choices<ChannelBinding> = Choices {
    expected: "disable, prefer or require",
    values: &[
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ],
};

const TARGETS: Choices<TargetSessionAttrs> = Choices {
    expected: "any, read-write or primary",
    values: &[
        ("any", TargetSessionAttrs::Any),
        ("read-write", TargetSessionAttrs::ReadWrite),
        ("primary", TargetSessionAttrs::ReadWrite),
    ],
};

/// The words a keyword accepts.
struct Choices<T: 'static> {
    expected: &'static str,
    values: &'static [(&'static str, T)],
}

/// Keywords and values as written. Wiped when dropped, since one of them is the password.
#[derive(Default)]
struct Parameters(BTreeMap<&'static str, Zeroizing<String>>);

impl Parameters {
    fn set(&mut self, keyword: &str, value: String) -> Result<(), ConninfoError> {
        let value = Zeroizing::new(value);
        match KEYWORDS.iter().find(|(known, _)| *known == keyword) {
            Some((known, _)) => {
                self.0.insert(known, value);
                Ok(())
            }
            // Neither changes what is sent nor how it is protected.
            None if ["client_encoding", "fallback_application_name"].contains(&keyword) => Ok(()),
            None => Err(ConninfoError::UnknownKeyword(keyword.to_owned())),
        }
    }

    fn take(&mut self, keyword: &str) -> Option<String> {
        self.0.remove(keyword).map(|value| value.to_string())
    }

    fn fill(&mut self, others: Parameters) {
        for (keyword, value) in others.0 {
            self.0.entry(keyword).or_insert(value);
        }
    }

    fn choice<T: Copy>(
        &mut self,
        keyword: &'static str,
        choices: Choices<T>,
    ) -> Result<Option<T>, ConninfoError> {
        let Some(value) = self.take(keyword) else { return Ok(None) };
        match choices.values.iter().find(|(word, _)| *word == value) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => Err(ConninfoError::WrongValue { keyword, value, expected: choices.expected }),
        }
    }

    fn connect_timeout(&mut self) -> Result<Option<Duration>, ConninfoError> {
        let Some(value) = self.take("connect_timeout") else { return Ok(Some(CONNECT_TIMEOUT)) };
        match value.parse::<i64>() {
            Ok(seconds) if seconds <= 0 => Ok(None),
            Ok(seconds) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
            Err(_) => Err(ConninfoError::WrongValue {
                keyword: "connect_timeout",
                value,
                expected: "whole seconds",
            }),
        }
    }

    /// `host`, `hostaddr` and `port` are lists of equal length; one port, or none, serves all.
    fn hosts(&mut self) -> Result<Vec<Host>, ConninfoError> {
        let list = |value: Option<String>| -> Vec<String> {
            value.map(|value| value.split(',').map(|one| one.trim().to_owned()).collect()).unwrap_or_default()
        };
        let (names, addresses) = (list(self.take("host")), list(self.take("hostaddr")));
        let ports =
            list(self.take("port")).iter().map(|port| parse_port(port)).collect::<Result<Vec<_>, _>>()?;
        let count = names.len().max(addresses.len()).max(1);
        for (keyword, found, even) in [
            (
                "hostaddr",
                addresses.len(),
                names.is_empty() || addresses.is_empty() || names.len() == addresses.len(),
            ),
            ("port", ports.len(), ports.len() <= 1 || ports.len() == count),
        ] {
            if !even {
                return Err(ConninfoError::Uneven { keyword, found, hosts: count });
            }
        }
        (0..count)
            .map(|index| {
                let address = addresses.get(index).filter(|address| !address.is_empty());
                let address = address.map(|text| parse_address(text)).transpose()?;
                let port = *ports.get(index).or(ports.first()).unwrap_or(&5432);
                let name = names.get(index).filter(|name| !name.is_empty()).cloned();
                let name = name
                    .unwrap_or_else(|| if address.is_some() { String::new() } else { socket_folder(port) });
                Ok(Host { name, address, port })
            })
            .collect()
    }

    /// `keyword = value …`; a value with spaces is quoted `'…'`, `\` takes the next character as it is.
    fn read_pairs(&mut self, text: &str) -> Result<(), ConninfoError> {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (keyword, after) =
                rest.split_once('=').ok_or(ConninfoError::Malformed("a keyword is not followed by '='"))?;
            let keyword = keyword.trim_end();
            if keyword.is_empty() || keyword.contains(char::is_whitespace) {
                return Err(ConninfoError::Malformed("a keyword is not followed by '='"));
            }
            let (value, after) = read_value(after.trim_start())?;
            self.set(keyword, value)?;
            rest = after.trim_start();
        }
        Ok(())
    }

    /// `[user[:password]@][host[:port],…][/database][?keyword=value&…]`, each part percent-encoded.
    fn read_address(&mut self, address: &str) -> Result<(), ConninfoError> {
        let (address, query) = address.split_once('?').unwrap_or((address, ""));
        let credentials_end = address.find(['@', '/']).filter(|end| address.as_bytes()[*end] == b'@');
        let (credentials, place) = match credentials_end {
            Some(end) => (&address[..end], &address[end + 1..]),
            None => ("", address),
        };
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        if hosts.contains('@') {
            return Err(ConninfoError::Malformed("a host contains '@' (in a password it is written as %40)"));
        }
        for host in hosts.split(',') {
            let (name, port) = split_port(host)?;
            names.push(percent_decoded(name)?);
            ports.push(port.to_owned());
        }
        for (keyword, value) in [
            ("user", percent_decoded(user)?),
            ("password", percent_decoded(password)?),
            ("dbname", percent_decoded(database)?),
            ("host", names.join(",")),
            ("port", ports.join(",")),
        ] {
            if !value.trim_matches(',').is_empty() {
                self.set(keyword, value)?;
            }
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (keyword, value) =
                pair.split_once('=').ok_or(ConninfoError::Malformed("a part after '?' has no '='"))?;
            match (percent_decoded(keyword)?.as_str(), percent_decoded(value)?) {
                ("ssl", value) if value == "true" => self.set("sslmode", "require".to_owned())?,
                (keyword, value) => self.set(keyword, value)?,
            }
        }
        Ok(())
    }
}

/// A value and what follows it.
fn read_value(text: &str) -> Result<(String, &str), ConninfoError> {
    let quoted = text.starts_with('\'');
    let text = if quoted { &text[1..] } else { text };
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            _ if !quoted && character.is_whitespace() => return Ok((value, &text[at..])),
            _ => value.push(character),
        }
    }
    if quoted { Err(ConninfoError::Malformed("a quoted value does not end")) } else { Ok((value, "")) }
}

/// Splits `name:port` and `[v6]:port`; the port may be missing.
fn split_port(host: &str) -> Result<(&str, &str), ConninfoError> {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, rest) =
            rest.split_once(']').ok_or(ConninfoError::Malformed("an IPv6 address has no ']'"))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((name, port)),
            None if rest.is_empty() => Ok((name, "")),
            None => Err(ConninfoError::Malformed("an IPv6 address is followed by neither ':' nor '/'")),
        };
    }
    Ok(host.split_once(':').unwrap_or((host, "")))
}

fn percent_decoded(text: &str) -> Result<String, ConninfoError> {
    let wrong = || ConninfoError::Malformed("a '%' is not followed by two hexadecimal digits of UTF-8 text");
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(wrong);
        bytes.push(if byte == b'%' { (digit()? * 16 + digit()?) as u8 } else { byte });
    }
    if bytes.contains(&0) {
        return Err(wrong());
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn parse_port(text: &str) -> Result<u16, ConninfoError> {
    let port = if text.is_empty() { Some(5432) } else { text.parse().ok().filter(|port| *port != 0) };
    // In postgresql://user:secret the '@host' is missing and the password stands where the port should.
    let shown = if text.bytes().all(|digit| digit.is_ascii_digit()) { text } else { "(not shown)" };
    port.ok_or_else(|| ConninfoError::WrongValue {
        keyword: "port",
        value: shown.to_owned(),
        expected: "a number from 1 to 65535",
    })
}

fn parse_address(text: &str) -> Result<IpAddr, ConninfoError> {
    text.parse().map_err(|_| ConninfoError::WrongValue {
        keyword: "hostaddr",
        value: text.to_owned(),
        expected: "an IP address",
    })
}

/// The first default folder in which a server listens on this port; the first of all if none does.
fn socket_folder(port: u16) -> String {
    let listening = |folder: &&str| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists();
    SOCKET_FOLDERS.into_iter().find(listening).unwrap_or(SOCKET_FOLDERS[0]).to_owned()
}

/// What the service file says about a service: the user's file first, then the system's.
fn service_parameters(service: &str, environment: Environment<'_>) -> Result<Parameters, ConninfoError> {
    let own = environment("PGSERVICEFILE").map(PathBuf::from);
    let own = own.or_else(|| environment("HOME").map(|home| Path::new(&home).join(".pg_service.conf")));
    let folder = environment("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".to_owned());
    let files: Vec<PathBuf> = own.into_iter().chain([Path::new(&folder).join("pg_service.conf")]).collect();
    for path in &files {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ConninfoError::File { path: path.clone(), source }),
        };
        if let Some(parameters) = parse_service(&text, service)? {
            return Ok(parameters);
        }
    }
    let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    Err(ConninfoError::NoSuchService { service: service.to_owned(), files: files.join(" or ") })
}

fn parse_service(text: &str, service: &str) -> Result<Option<Parameters>, ConninfoError> {
    let mut found: Option<Parameters> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            found = (name == service).then(Parameters::default);
        } else if let Some(parameters) = &mut found {
            let (keyword, value) = line
                .split_once('=')
                .ok_or(ConninfoError::Malformed("a line of the service file is not keyword=value"))?;
            parameters.set(keyword.trim_end(), value.trim_start().to_owned())?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
