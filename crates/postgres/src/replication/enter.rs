//! From a connection string to a connection that takes replication commands, or statements whose rows are read in pieces.
//!
//! ```text
//! each host   socket ▶ TLS, as sslmode says ▶ startup (replication=true, or not) ▶ password ▶ ready
//! ```
//!
//! **Invariants**
//! - A password is sent as it is or as MD5 only if the connection string allows it; under `channel_binding=require` a
//!   proof is given only bound to the certificate.
//! - After a SCRAM exchange the server has proved that it knows the password, too, or there is no connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use rustix::net::sockopt;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::ChannelBinding;
use tokio_postgres::fallible_iterator::FallibleIterator;
use tokio_rustls::TlsConnector;

use crate::connect::refused;
use crate::conninfo::{Conninfo, ConninfoError, Host, SslMode};
use crate::refusal::ConnectError;
use crate::replication::wire::{Incoming, Said, Stream, Wire};
use crate::tls;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Commands of physical replication.
    Replication,
    /// Statements, in the database that the connection string names.
    Statements,
}

/// Connects to the first host that lets us in; where that is. A password that is refused is read anew where it is kept, and
/// tried once more if it is another now.
pub(crate) async fn enter(conninfo: &Conninfo, purpose: Purpose) -> Result<(Wire, String), ConnectError> {
    let before = conninfo.kept_password();
    match enter_once(conninfo, purpose).await {
        Err(ConnectError::WrongPassword { .. }) if conninfo.has_another_password(before).await? => {
            enter_once(conninfo, purpose).await
        }
        done => done,
    }
}

async fn enter_once(conninfo: &Conninfo, purpose: Purpose) -> Result<(Wire, String), ConnectError> {
    let first = conninfo.hosts.first().map(Host::to_string).unwrap_or_default();
    let config = tls::client_config(conninfo).map_err(|source| ConnectError::Tls { place: first, source })?;
    let config = Arc::new(config);
    let mut hosts = conninfo.hosts.iter().peekable();
    while let Some(host) = hosts.next() {
        match enter_at(&Entrance { host, conninfo, config: &config, purpose }).await {
            Err(error) if error.is_of_this_host_only() && hosts.peek().is_some() => continue,
            done => return done.map(|wire| (wire, host.to_string())),
        }
    }
    Err(ConninfoError::Malformed("it names no host").into())
}

/// One host, and how to get in.
struct Entrance<'a> {
    host: &'a Host,
    conninfo: &'a Conninfo,
    config: &'a Arc<ClientConfig>,
    purpose: Purpose,
}

/// Whether to ask for TLS, and what if there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encryption {
    None,
    IfPossible,
    Always,
}

async fn enter_at(entrance: &Entrance<'_>) -> Result<Wire, ConnectError> {
    let encryption = match entrance.conninfo.sslmode {
        // A socket does not leave the host; the server offers no TLS on it.
        _ if entrance.host.is_socket() => Encryption::None,
        SslMode::Disable => Encryption::None,
        SslMode::Prefer => Encryption::IfPossible,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Encryption::Always,
    };
    match entrance.within(encryption).await {
        // libpq does the same: to prefer encryption is not to insist on it.
        Err(ConnectError::Handshake { .. } | ConnectError::NotLetIn { .. })
            if encryption == Encryption::IfPossible =>
        {
            entrance.within(Encryption::None).await
        }
        done => done,
    }
}

impl Entrance<'_> {
    async fn within(&self, encryption: Encryption) -> Result<Wire, ConnectError> {
        let trying = self.try_with(encryption);
        match self.conninfo.connect_timeout {
            None => trying.await,
            Some(limit) => match tokio::time::timeout(limit, trying).await {
                Ok(done) => done,
                Err(_) => Err(ConnectError::TimedOut { place: self.place(), seconds: limit.as_secs() }),
            },
        }
    }

    async fn try_with(&self, encryption: Encryption) -> Result<Wire, ConnectError> {
        let Host { name, port, .. } = self.host;
        if self.host.is_socket() {
            let stream = UnixStream::connect(format!("{name}/.s.PGSQL.{port}")).await;
            let wire = Wire::new(Box::new(stream.map_err(|source| self.unreachable(source))?));
            return self.start(wire, None).await;
        }
        let stream = match self.host.address {
            Some(address) => TcpStream::connect((address, *port)).await,
            None => TcpStream::connect((name.as_str(), *port)).await,
        };
        let stream = stream.map_err(|source| self.unreachable(source))?;
        // Reports are small and waited for.
        stream.set_nodelay(true).map_err(|source| self.unreachable(source))?;
        keep_alive(&stream).map_err(|source| self.unreachable(source))?;
        match encryption {
            Encryption::None => self.start(Wire::new(Box::new(stream)), None).await,
            _ => self.encrypt(stream, encryption).await,
        }
    }

    /// Asks for TLS. Exactly one byte is read before it begins, so that nothing sent in the clear is taken for what was
    /// sent inside (CVE-2021-23222).
    async fn encrypt(&self, mut stream: TcpStream, encryption: Encryption) -> Result<Wire, ConnectError> {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        let asked = async {
            stream.write_all(&request).await?;
            stream.read_u8().await
        };
        match asked.await.map_err(|source| self.unreachable(source))? {
            b'S' => {}
            _ if encryption == Encryption::IfPossible => {
                return self.start(Wire::new(Box::new(stream)), None).await;
            }
            _ => {
                let source = "the server does not support TLS".into();
                let hint = tls::handshake_hint(None);
                return Err(ConnectError::Handshake { place: self.place(), hint, source });
            }
        }
        let named = match (self.host.name.as_str(), self.host.address) {
            ("", Some(address)) => address.to_string(),
            (name, _) => name.to_owned(),
        };
        let handshake = |source: io::Error| {
            let hint = tls::handshake_hint(tls::ended_by(&source));
            ConnectError::Handshake { place: self.place(), hint, source: source.into() }
        };
        let named = ServerName::try_from(named).map_err(|error| handshake(io::Error::other(error)))?;
        let connector = TlsConnector::from(self.config.clone());
        let stream = connector.connect(named, stream).await.map_err(handshake)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let end_point = certificate.and_then(tls::server_end_point);
        let stream: Box<dyn Stream> = Box::new(stream);
        self.start(Wire::new(stream), end_point).await
    }

    /// Says who we are and what for, and answers for it.
    async fn start(&self, mut wire: Wire, end_point: Option<Vec<u8>>) -> Result<Wire, ConnectError> {
        let mut parameters = vec![
            ("user", self.conninfo.user.as_str()),
            ("database", &self.conninfo.database),
            ("application_name", &self.conninfo.application_name),
            ("client_encoding", "UTF8"),
        ];
        if self.purpose == Purpose::Replication {
            parameters.push(("replication", "true"));
        }
        parameters.extend(self.conninfo.options.as_deref().map(|options| ("options", options)));
        frontend::startup_message(parameters, &mut wire.outgoing).map_err(|source| self.unfit(source))?;
        let mut proof = Proof { end_point, scram: None, is_bound: false, is_mutual: true };
        loop {
            if !wire.outgoing.is_empty() {
                wire.send().await.map_err(|source| self.unreachable(source))?;
            }
            match wire.receive().await.map_err(|source| self.unreachable(source))? {
                Incoming::Message(Message::ReadyForQuery(_)) => return Ok(wire),
                Incoming::Message(Message::ErrorResponse(body)) => {
                    return Err(self.refusal(Said::read(body.fields())));
                }
                Incoming::Message(message) => self.answer(message, &mut proof, &mut wire.outgoing)?,
                Incoming::CopyBoth => return Err(self.unfit(unexpected())),
            }
        }
    }

    /// Answers what the server says before it is ready.
    fn answer(&self, message: Message, proof: &mut Proof, out: &mut BytesMut) -> Result<(), ConnectError> {
        let answered = match message {
            Message::ParameterStatus(_) | Message::BackendKeyData(_) | Message::NoticeResponse(_) => Ok(()),
            Message::AuthenticationOk if !proof.is_mutual => Err(unexpected()),
            Message::AuthenticationOk => self.may_be_unbound(proof.is_bound),
            Message::AuthenticationCleartextPassword => {
                self.may_be_unbound(false).map_err(|source| self.unfit(source))?;
                let password = self.password()?;
                frontend::password_message(password.expose().as_bytes(), out)
            }
            Message::AuthenticationMd5Password(body) => {
                self.may_be_unbound(false).map_err(|source| self.unfit(source))?;
                let (user, password) = (self.conninfo.user.as_bytes(), self.password()?);
                let hash = md5_hash(user, password.expose().as_bytes(), body.salt());
                frontend::password_message(hash.as_bytes(), out)
            }
            Message::AuthenticationSasl(body) => return self.begin_scram(&body, proof, out),
            Message::AuthenticationSaslContinue(body) => match &mut proof.scram {
                Some(scram) => {
                    let updated = scram.update(body.data());
                    updated.and_then(|()| frontend::sasl_response(scram.message(), out))
                }
                None => Err(unexpected()),
            },
            Message::AuthenticationSaslFinal(body) => match proof.scram.take() {
                Some(mut scram) => scram.finish(body.data()).map(|()| proof.is_mutual = true),
                None => Err(unexpected()),
            },
            _ => Err(io::Error::other("the server asks for a way to prove who we are that is not supported")),
        };
        answered.map_err(|source| self.unfit(source))
    }

    fn begin_scram(
        &self,
        offered: &AuthenticationSaslBody,
        proof: &mut Proof,
        out: &mut BytesMut,
    ) -> Result<(), ConnectError> {
        let offered: Vec<&str> = offered.mechanisms().collect().map_err(|source| self.unfit(source))?;
        let wanted = self.conninfo.channel_binding != ChannelBinding::Disable;
        let end_point = proof.end_point.take().filter(|_| wanted);
        let (mechanism, binding) = match end_point {
            Some(hash) if offered.contains(&SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash))
            }
            // We could have bound it, and say so: a server that could have, too, notices that its offer was taken away.
            Some(_) => (SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            None => (SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        if !offered.contains(&mechanism) {
            return Err(self.unfit(io::Error::other(format!("the server offers {}", offered.join(", ")))));
        }
        proof.is_bound = mechanism == SCRAM_SHA_256_PLUS;
        self.may_be_unbound(proof.is_bound).map_err(|source| self.unfit(source))?;
        proof.is_mutual = false;
        let scram = proof.scram.insert(ScramSha256::new(self.password()?.expose().as_bytes(), binding));
        frontend::sasl_initial_response(mechanism, scram.message(), out).map_err(|source| self.unfit(source))
    }

    fn may_be_unbound(&self, is_bound: bool) -> io::Result<()> {
        if is_bound || self.conninfo.channel_binding != ChannelBinding::Require {
            return Ok(());
        }
        Err(io::Error::other(
            "channel_binding=require, and the server offers no password exchange that is bound",
        ))
    }

    fn password(&self) -> Result<crate::passfile::Password, ConnectError> {
        let missing =
            || ConnectError::PasswordMissing { place: self.place(), user: self.conninfo.user.clone() };
        self.conninfo.password_for(self.host).ok_or_else(missing)
    }

    /// Only replication has the first two; everything else is as for any connection.
    fn refusal(&self, said: Said) -> ConnectError {
        let (place, user) = (self.place(), self.conninfo.user.clone());
        let (code, routine) = (said.code.clone(), said.routine.clone());
        if self.purpose == Purpose::Statements {
            return refused(place, self.conninfo, (&code, &routine), said.into());
        }
        match (code.as_str(), routine.as_str()) {
            ("42501", _) => ConnectError::NotAReplicator { place, user, source: said.into() },
            // `InitProcess`, of a walsender: all its slots for one are taken.
            ("53300", "InitProcess") => ConnectError::NoSender { place, source: said.into() },
            _ => {
                let mut conninfo = self.conninfo.clone();
                "replication".clone_into(&mut conninfo.database);
                refused(place, &conninfo, (&code, &routine), said.into())
            }
        }
    }

    fn place(&self) -> String {
        self.host.to_string()
    }

    fn unreachable(&self, source: io::Error) -> ConnectError {
        ConnectError::Unreachable { place: self.place(), source: source.into() }
    }

    fn unfit(&self, source: io::Error) -> ConnectError {
        ConnectError::Refused { place: self.place(), user: self.conninfo.user.clone(), source: source.into() }
    }
}

/// A server or network that vanished is noticed within two minutes, as on other connections.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))?;
    Ok(sockopt::set_tcp_keepcnt(stream, 4)?)
}

/// How far the two sides have proved who they are.
struct Proof {
    end_point: Option<Vec<u8>>,
    scram: Option<ScramSha256>,
    is_bound: bool,
    /// Whether the server has proved that it knows the password, where the exchange asks that of it.
    is_mutual: bool,
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message that does not belong here")
}
