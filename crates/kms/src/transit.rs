//! The transit engine of HashiCorp Vault and OpenBao (their HTTP API, "Transit secrets engine": `encrypt/:name`,
//! `decrypt/:name`). The vault's id is the associated data, so that another vault's copy is refused.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use object_store::client::HttpClient;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use strongroom_model::VaultId;
use strongroom_store::StoreError;
use strongroom_vault::error::KmsError;
use strongroom_vault::keys::{Kms, KmsKind};
use zeroize::Zeroizing;

use crate::ask::{Cause, client, post, send};

/// Where a transit key is: `https://vault.example:8200/v1/transit/keys/backups`, as its own API spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitAddress {
    /// With the engine's mount: `https://vault.example:8200/v1/transit`.
    engine: String,
    key: String,
}

/// Text that is no transit key's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no transit key: write it as https://vault.example:8200/v1/transit/keys/NAME")]
pub struct TransitAddressError(String);

impl FromStr for TransitAddress {
    type Err = TransitAddressError;

    fn from_str(text: &str) -> Result<TransitAddress, TransitAddressError> {
        let wrong = || TransitAddressError(text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned());
        let (engine, key) = text.rsplit_once("/keys/").ok_or_else(wrong)?;
        let (scheme, rest) = engine.split_once("://").ok_or_else(wrong)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let sound = matches!(scheme, "http" | "https")
            && rest.contains("/v1/")
            && !rest.contains(['@', '?', '#'])
            && !key.is_empty()
            && key.chars().all(plain);
        sound.then(|| TransitAddress { engine: engine.to_owned(), key: key.to_owned() }).ok_or_else(wrong)
    }
}

impl fmt::Display for TransitAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/keys/{}", self.engine, self.key)
    }
}

/// A key of the transit engine.
pub struct Transit {
    address: TransitAddress,
    token: Zeroizing<String>,
    namespace: Option<String>,
    client: HttpClient,
}

impl fmt::Debug for Transit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transit({})", self.address)
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}

impl Transit {
    /// The key at `address`, asked with this token. Nothing is asked yet.
    pub fn new(
        address: TransitAddress,
        token: Zeroizing<String>,
        namespace: Option<String>,
    ) -> Result<Transit, StoreError> {
        let client = client(address.engine.starts_with("http://")).map_err(|source| StoreError::Broken {
            operation: "reach",
            key: address.key.clone(),
            place: address.engine.clone(),
            source: source.into(),
        })?;
        Ok(Transit { address, token, namespace, client })
    }

    async fn ask<T: DeserializeOwned>(&self, action: &str, body: &Value) -> Result<T, KmsError> {
        let service = format!("transit, {}", self.address);
        let request = self.request(action, body);
        let request = request.map_err(|source| KmsError::Silent { service: service.clone(), source })?;
        send::<Answer<T>>(&self.client, &service, request).await.map(|answer| answer.data)
    }

    fn request(&self, action: &str, body: &Value) -> Result<object_store::client::HttpRequest, Cause> {
        let url = format!("{}/{action}/{}", self.address.engine, self.address.key);
        let mut request = post(&url, "application/json", body)?;
        request.headers_mut().insert("x-vault-token", self.token.parse()?);
        if let Some(namespace) = &self.namespace {
            request.headers_mut().insert("x-vault-namespace", namespace.parse()?);
        }
        Ok(request)
    }
}

#[async_trait::async_trait]
impl Kms for Transit {
    fn kind(&self) -> KmsKind {
        KmsKind::Transit
    }

    fn key(&self) -> String {
        self.address.to_string()
    }

    async fn wrap(&self, vault: &VaultId, key: &[u8]) -> Result<String, KmsError> {
        let body = json!({
            "plaintext": STANDARD.encode(key),
            "associated_data": STANDARD.encode(vault.to_string()),
        });
        self.ask::<Encrypted>("encrypt", &body).await.map(|answer| answer.ciphertext)
    }

    async fn unwrap(&self, vault: &VaultId, wrapped: &str) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let body = json!({
            "ciphertext": wrapped,
            "associated_data": STANDARD.encode(vault.to_string()),
        });
        let answer: Decrypted = self.ask("decrypt", &body).await?;
        STANDARD.decode(Zeroizing::new(answer.plaintext).as_bytes()).map(Zeroizing::new).map_err(|why| {
            KmsError::Silent { service: format!("transit, {}", self.address), source: why.into() }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use super::*;

    #[test]
    fn addresses_read() {
        for (text, sound) in [
            ("https://vault:8200/v1/transit/keys/backups", true),
            ("http://127.0.0.1:8200/v1/ns/team/transit/keys/b-1_x.y", true),
            ("https://vault:8200/transit/keys/backups", false),
            ("https://vault:8200/v1/transit/keys/", false),
            ("https://vault:8200/v1/transit/keys/a/b", false),
            ("https://vault:8200/v1/transit/encrypt/backups", false),
            ("ftp://vault/v1/transit/keys/backups", false),
            ("https://vault/v1/transit/keys/a?b", false),
            ("", false),
        ] {
            let read = text.parse::<TransitAddress>();
            assert_eq!(read.is_ok(), sound, "{text}");
            if let Ok(address) = read {
                assert_eq!(address.to_string(), text);
            }
        }
        let error = "https://user:canary@vault/v1/transit/keys/a".parse::<TransitAddress>().unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
