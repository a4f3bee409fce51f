//! AWS Key Management Service (AWS KMS API Reference, `Encrypt` and `Decrypt`). The vault's id is the encryption context: it is
//! authenticated, and shows in CloudTrail.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpClient;
use serde::Deserialize;
use serde_json::{Value, json};
use strongroom_model::VaultId;
use strongroom_store::{StoreError, aws_credentials};
use strongroom_vault::error::KmsError;
use strongroom_vault::keys::{Kms, KmsKind};
use zeroize::Zeroizing;

use crate::ask::{Cause, client, post, send};

/// A key of AWS KMS.
#[derive(Debug)]
pub struct AwsKms {
    key: String,
    region: String,
    endpoint: String,
    credentials: AwsCredentialProvider,
    client: HttpClient,
}

/// Which key, and how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsKmsOptions {
    /// Its id, alias (`alias/backups`) or ARN.
    pub key: String,
    /// Its region; that of an ARN, the profile or the environment if `None`.
    pub region: Option<String>,
    /// A profile of the shared AWS files.
    pub profile: Option<String>,
    /// Another endpoint than AWS's own.
    pub endpoint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: String,
}

impl AwsKms {
    /// The key of these options. Nothing is asked yet.
    pub fn new(options: AwsKmsOptions) -> Result<AwsKms, StoreError> {
        // arn:aws:kms:REGION:account:key/…
        let of_arn = options.key.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2));
        let region = of_arn.map(str::to_owned).or(options.region);
        let (credentials, region) = aws_credentials(options.profile.as_deref(), region.as_deref())?;
        let aws = || format!("https://kms.{region}.amazonaws.com");
        let endpoint = options.endpoint.unwrap_or_else(aws);
        let client = client(endpoint.starts_with("http://")).map_err(|source| StoreError::Broken {
            operation: "reach",
            key: options.key.clone(),
            place: endpoint.clone(),
            source: source.into(),
        })?;
        Ok(AwsKms { key: options.key, region, endpoint, credentials, client })
    }

    fn shown(&self) -> String {
        format!("AWS KMS, {}", self.key())
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, action: &str, body: &Value) -> Result<T, KmsError> {
        let signed = async {
            let mut request = post(&format!("{}/", self.endpoint), "application/x-amz-json-1.1", body)?;
            request.headers_mut().insert("x-amz-target", format!("TrentService.{action}").parse()?);
            let credential = self.credentials.get_credential().await?;
            AwsAuthorizer::new(&credential, "kms", &self.region).try_authorize(&mut request, None)?;
            Ok::<_, Cause>(request)
        };
        let request = signed.await.map_err(|source| KmsError::Silent { service: self.shown(), source })?;
        send(&self.client, &self.shown(), request).await
    }
}

#[async_trait::async_trait]
impl Kms for AwsKms {
    fn kind(&self) -> KmsKind {
        KmsKind::Aws
    }

    fn key(&self) -> String {
        format!("{} in {}", self.key, self.region)
    }

    async fn wrap(&self, vault: &VaultId, key: &[u8]) -> Result<String, KmsError> {
        let body = json!({
            "KeyId": self.key,
            "Plaintext": STANDARD.encode(key),
            "EncryptionContext": { "strongroom-vault": vault.to_string() },
        });
        self.ask::<Encrypted>("Encrypt", &body).await.map(|answer| answer.ciphertext_blob)
    }

    async fn unwrap(&self, vault: &VaultId, wrapped: &str) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        // The key is named: what a key of somebody else's wrapped is refused.
        let body = json!({
            "KeyId": self.key,
            "CiphertextBlob": wrapped,
            "EncryptionContext": { "strongroom-vault": vault.to_string() },
        });
        let answer: Decrypted = self.ask("Decrypt", &body).await?;
        let unreadable =
            |why: base64::DecodeError| KmsError::Silent { service: self.shown(), source: why.into() };
        STANDARD.decode(Zeroizing::new(answer.plaintext).as_bytes()).map(Zeroizing::new).map_err(unreadable)
    }
}
