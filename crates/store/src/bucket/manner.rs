//! What a PUT says besides its bytes: a lock, a storage class, a tag that lifecycle rules go by.
//!
//! All of it is part of the PUT itself: an object that is locked by a second request is unlocked when a crash comes
//! between the two. `object_store` has no words for it, so its request is given the headers on its way out and signed
//! again. S3 takes a locked PUT only with a checksum, which the client is told to send.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use strongroom_model::tier::StorageClass;

use crate::custody::LockMode;

/// How each new object is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who may lift it.
    pub mode: LockMode,
    /// For how long after the PUT.
    pub keep: Duration,
}

/// How each new object is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// How it is locked; as the bucket's own default says if `None`.
    pub lock: Option<Lock>,
    /// Into which class packs go.
    pub packs: Option<StorageClass>,
    /// Into which class WAL files go.
    pub wal: Option<StorageClass>,
    /// Whether packs and WAL files are tagged, for lifecycle rules.
    pub tagged: bool,
}

/// The tag's name; its value is `pack` or `wal`.
pub const TAG: &str = "strongroom";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Makes clients that put in this manner.
#[derive(Clone, Debug)]
pub(super) struct Putting {
    manner: Manner,
    region: String,
    /// The store's own, which there is only after its client.
    credentials: Arc<OnceLock<AwsCredentialProvider>>,
}

impl Putting {
    pub(super) fn new(manner: Manner, region: &str) -> Putting {
        Putting { manner, region: region.to_owned(), credentials: Arc::default() }
    }

    /// From here on requests are signed with these.
    pub(super) fn sign_with(&self, credentials: &AwsCredentialProvider) {
        self.credentials.get_or_init(|| Arc::clone(credentials));
    }

    async fn seal(&self, request: &mut HttpRequest) -> Result<(), Failure> {
        let Manner { lock, packs, wal, tagged } = self.manner;
        let path = request.uri().path();
        let (class, tag) = match (path.contains("/packs/"), path.contains("/wal/")) {
            (true, _) => (packs, Some("pack")),
            (_, true) => (wal, Some("wal")),
            _ => (None, None),
        };
        let headers = request.headers_mut();
        if let Some(lock) = lock {
            let until = Timestamp::now().checked_add(SignedDuration::try_from(lock.keep)?)?;
            headers.insert("x-amz-object-lock-mode", lock.mode.as_str().parse()?);
            let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            headers.insert("x-amz-object-lock-retain-until-date", until.parse()?);
            // The client sends the checksum and not its name, which some stores look for.
            headers.insert("x-amz-sdk-checksum-algorithm", "SHA256".parse()?);
        }
        if let Some(class) = class {
            headers.insert("x-amz-storage-class", class.as_str().parse()?);
        }
        if let Some(tag) = tag.filter(|_| tagged) {
            headers.insert("x-amz-tagging", format!("{TAG}={tag}").parse()?);
        }
        headers.remove("authorization");
        // A body in parts is not hashed again: what the client found is in its header.
        let hash = headers.get("x-amz-content-sha256").and_then(|hash| from_hex(hash.as_bytes()));
        let provider = self.credentials.get().ok_or("there are no credentials yet")?;
        let credential = provider.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(hash.is_some())
            .try_authorize(request, hash.as_deref())?;
        Ok(())
    }
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    (text.len() == 64).then(|| text.chunks(2).map(pair).collect())?
}

impl HttpConnector for Putting {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(PuttingClient { client, putting: self.clone() }))
    }
}

#[derive(Debug)]
struct PuttingClient {
    client: HttpClient,
    putting: Putting,
}

#[async_trait::async_trait]
impl HttpService for PuttingClient {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Only an object is put on this condition: instance metadata are asked with PUT as well.
        if request.headers().contains_key("if-none-match") && request.method().as_str() == "PUT" {
            let sealed = self.putting.seal(&mut request).await;
            sealed.map_err(|error| HttpError::new_boxed(HttpErrorKind::Request, error))?;
        }
        self.client.execute(request).await
    }
}
