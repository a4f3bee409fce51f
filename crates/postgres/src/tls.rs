//! TLS to the server, with libpq's meaning of `sslmode`.
//!
//! | `sslmode` | encrypted | the server's certificate |
//! |---|---|---|
//! | `disable` | never | – |
//! | `prefer` | if the server can | not verified |
//! | `require` | always | not verified, unless a root certificate file is named: then as `verify-ca` |
//! | `verify-ca` | always | leads to a trusted authority |
//! | `verify-full` | always | and names the host |
//!
//! **Invariants**: one TLS stack in the program, rustls on aws-lc-rs, the one the object stores use. The server always
//! proves that it holds the key of the certificate it shows, verified or not, so that a password exchange bound to the
//! certificate (`channel_binding`) means something.

use std::path::Path;
use std::sync::Arc;

use ::aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512, MD_5_WITH_RSA_ENCRYPTION,
    SHA_1_WITH_RSA_ENCRYPTION, SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION,
    SHA_512_WITH_RSA_ENCRYPTION,
};

use crate::conninfo::{Conninfo, SslMode};

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read or holds nothing of use.
    #[error("read the {kind} in {path}")]
    Pem {
        /// `root certificates`, `client certificate` or `client key`.
        kind: &'static str,
        /// Which file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// No authority to trust.
    #[error("find certificates of authorities to trust in {place}")]
    NoRoots {
        /// A file, or the system.
        place: String,
    },
    /// The certificate and the key do not fit, or the library refuses them.
    #[error("prepare TLS")]
    Refused(#[source] rustls::Error),
}

/// Makes the connector that a connection string asks for.
pub fn connector(conninfo: &Conninfo) -> Result<MakeRustlsConnect, TlsError> {
    Ok(MakeRustlsConnect::new(client_config(conninfo)?))
}

/// The same for a connection that is not made by the SQL library.
pub fn client_config(conninfo: &Conninfo) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trust = match conninfo.sslmode {
        SslMode::Disable | SslMode::Prefer => Trust::Anyone,
        SslMode::Require if conninfo.sslrootcert.is_none() => Trust::Anyone,
        SslMode::Require | SslMode::VerifyCa => Trust::Signed(Roots::of(conninfo)?),
        SslMode::VerifyFull => Trust::SignedAndNamed(Roots::of(conninfo)?),
    };
    let verifier = Arc::new(Verifier { trust, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Refused)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &conninfo.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("client certificate", certificate)?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|source| unreadable("client key", key, source))?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Refused)?
        }
    };
    // Servers since 17 expect it, older ones do not look at it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

/// What a password exchange over TLS is bound to (`tls-server-end-point`, RFC 5929 §4.1): the certificate's hash, by the
/// hash it was signed with, or SHA-256 for those too weak. `None` for signatures that have no hash of their own.
pub fn server_end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let oid = Certificate::from_der(certificate).ok()?.signature_algorithm.oid;
    let hash = match oid {
        MD_5_WITH_RSA_ENCRYPTION | SHA_1_WITH_RSA_ENCRYPTION => &digest::SHA256,
        SHA_256_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_256 => &digest::SHA256,
        SHA_384_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_384 => &digest::SHA384,
        SHA_512_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_512 => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}

fn unreadable(kind: &'static str, path: &Path, source: rustls::pki_types::pem::Error) -> TlsError {
    TlsError::Pem { kind, path: path.display().to_string(), source }
}

fn certificates(kind: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| unreadable(kind, path, source);
    CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)
}

/// Whose certificates are accepted.
#[derive(Debug)]
enum Trust {
    Anyone,
    Signed(Roots),
    SignedAndNamed(Roots),
}

/// Trusted certificates: as authorities, and as themselves.
#[derive(Debug)]
struct Roots {
    authorities: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    fn of(conninfo: &Conninfo) -> Result<Roots, TlsError> {
        let (certificates, place) = match &conninfo.sslrootcert {
            Some(path) => (certificates("root certificates", path)?, path.display().to_string()),
            None => (rustls_native_certs::load_native_certs().certs, "the system's store".to_owned()),
        };
        let mut authorities = RootCertStore::empty();
        // The system's store may hold a few that the library cannot use; they are then not trusted.
        authorities.add_parsable_certificates(certificates.iter().cloned());
        if authorities.is_empty() {
            Err(TlsError::NoRoots { place })
        } else {
            Ok(Roots { authorities, certificates })
        }
    }

    /// A server whose very certificate is in the file is trusted as it is: a self-signed certificate made as the server's
    /// documentation says is its own authority, which a chain may not be.
    fn trust(
        &self,
        shown: &ParsedCertificate<'_>,
        (leaf, chain): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), rustls::Error> {
        if self.certificates.iter().any(|known| known == leaf) {
            return Ok(());
        }
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(shown, &self.authorities, chain, now, algorithms)
    }
}

/// Decides about the server's certificate.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = (end_entity, intermediates);
        match &self.trust {
            Trust::Anyone => {}
            Trust::Signed(roots) => {
                roots.trust(&ParsedCertificate::try_from(end_entity)?, shown, now, &self.provider)?;
            }
            Trust::SignedAndNamed(roots) => {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                roots.trust(&parsed, shown, now, &self.provider)?;
                verify_server_name(&parsed, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a handshake ended, if rustls ended it.
pub fn handshake_error(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    let source = std::error::Error::source(error)?;
    ended_by(source.downcast_ref::<std::io::Error>()?)
}

/// What rustls has against a connection that ended with this.
pub fn ended_by(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What to do about a failed handshake.
pub fn handshake_hint(error: Option<&rustls::Error>) -> &'static str {
    match error {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "is sslrootcert the certificate of the authority that signed the server's certificate?"
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "connect by the name in the server's certificate, or use sslmode=verify-ca",
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "renew the server's certificate",
        Some(_) => "is this port PostgreSQL's, with ssl_cert_file and ssl_key_file in order?",
        None => "switch ssl on at the server, or use sslmode=prefer",
    }
}
