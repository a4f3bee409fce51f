//! The certificate that the agent shows, and its key: two PEM files, read at the start and again on SIGHUP.
//!
//! **Invariants**
//! - Files that do not read leave what was read before in force.
//! - A connection keeps the certificate that it began with.

#![allow(clippy::disallowed_methods, reason = "this module is where the certificate's files are read")]

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::context::Context;
use crate::failure::{Code, Failure};

/// What is shown to whoever connects.
pub struct Certificates(RwLock<Arc<ServerConfig>>);

impl Certificates {
    /// Those that the settings name; `None` if they name none.
    pub fn of(context: &Context) -> Result<Option<Certificates>, Failure> {
        Ok(read(context)?.map(|config| Certificates(RwLock::new(config))))
    }

    /// For the next connection.
    pub fn now(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. Settings that name none any more hold from the next start on.
    pub fn renew(&self, context: &Context) -> Result<(), Failure> {
        if let Some(config) = read(context)? {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
        }
        Ok(())
    }
}

fn read(context: &Context) -> Result<Option<Arc<ServerConfig>>, Failure> {
    let Some(http) = &context.settings.http else { return Ok(None) };
    let (Some(certificate), Some(key)) = (&http.certificate, &http.key) else { return Ok(None) };
    let (chain_path, key_path) = (context.beside_file(certificate), context.beside_file(key));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&chain_path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable("certificate", &chain_path, &error));
    let chain = chain?;
    if chain.is_empty() {
        let what = format!("certificate of [http]: {} has no certificate", chain_path.display());
        return Err(Failure::new(Code::Settings, what).hint("it must be PEM, the server's own first"));
    }
    let key =
        PrivateKeyDer::from_pem_file(&key_path).map_err(|error| unreadable("key", &key_path, &error))?;
    let refused = |error: rustls::Error| {
        let what = format!("certificate and key of [http] cannot be used: {error}");
        Failure::new(Code::Settings, what).hint("does the key belong to the certificate?")
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn unreadable(key: &str, path: &Path, error: &rustls::pki_types::pem::Error) -> Failure {
    let failure = Failure::new(Code::Settings, format!("{key} of [http]: read {}: {error}", path.display()));
    failure.hint("is the path right, is it PEM, and may this user read it?")
}
