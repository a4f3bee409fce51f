//! Object lock: what is written cannot be deleted before its time, not by its writer either.
//!
//! The lock is part of the PUT itself: an object that is locked by a second request is unlocked when a crash comes
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

use crate::custody::LockMode;

/// How each new object is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who may lift it.
    pub mode: LockMode,
    /// For how long after the PUT.
    pub keep: Duration,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Makes clients that lock what they put.
#[derive(Clone, Debug)]
pub(super) struct Locking {
    lock: Lock,
    region: String,
    /// The store's own, which there is only after its client.
    credentials: Arc<OnceLock<AwsCredentialProvider>>,
}

impl Locking {
    pub(super) fn new(lock: Lock, region: &str) -> Locking {
        Locking { lock, region: region.to_owned(), credentials: Arc::default() }
    }

    /// From here on requests are signed with these.
    pub(super) fn sign_with(&self, credentials: &AwsCredentialProvider) {
        self.credentials.get_or_init(|| Arc::clone(credentials));
    }

    async fn seal(&self, request: &mut HttpRequest) -> Result<(), Failure> {
        let until = Timestamp::now().checked_add(SignedDuration::try_from(self.lock.keep)?)?;
        let headers = request.headers_mut();
        headers.insert("x-amz-object-lock-mode", self.lock.mode.as_str().parse()?);
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        headers.insert("x-amz-object-lock-retain-until-date", until.parse()?);
        // The client sends the checksum and not its name, which some stores look for.
        headers.insert("x-amz-sdk-checksum-algorithm", "SHA256".parse()?);
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

impl HttpConnector for Locking {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(LockingClient { client, locking: self.clone() }))
    }
}

#[derive(Debug)]
struct LockingClient {
    client: HttpClient,
    locking: Locking,
}

#[async_trait::async_trait]
impl HttpService for LockingClient {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Only an object is put on this condition: instance metadata are asked with PUT as well.
        if request.headers().contains_key("if-none-match") && request.method().as_str() == "PUT" {
            let sealed = self.locking.seal(&mut request).await;
            sealed.map_err(|error| HttpError::new_boxed(HttpErrorKind::Request, error))?;
        }
        self.client.execute(request).await
    }
}
