//! An S3 bucket as a store, through `object_store`.
//!
//! - `put_new` is a PUT with `If-None-Match: *`. 412 is an answer; 409 is a conflict that may end either way, and both
//!   reach [`crate::Retry`], which looks at what is there.
//! - "No such key" is believed only from a bucket that is known to exist: a mistyped bucket answers 404 as well, and
//!   must never look like an absent WAL file.
//! - Retries are [`crate::Retry`]'s alone: two layers of them multiply (and a retried put sees its own object).

#![allow(
    clippy::disallowed_methods,
    reason = "S3's own convention is that region and credentials come from the environment"
)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};

use crate::key::Key;
use crate::port::{Body, Head, Page, PutError, Store, StoreError};
use crate::profile::Profile;

/// Objects of a page of a listing: what S3 itself gives at a time.
const PAGE: usize = 1000;

/// A pack takes 5 s at 50 Mbit/s; ten times that is a connection that hangs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which bucket, and how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// The bucket.
    pub bucket: String,
    /// Before every key; may be empty.
    pub prefix: String,
    /// Of an S3-compatible store; AWS if `None`.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name.
    pub path_style: bool,
    /// Plain HTTP.
    pub allow_http: bool,
}

/// A bucket, or a part of one.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<AmazonS3>,
    options: BucketOptions,
    seen: Arc<AtomicBool>,
}

impl Bucket {
    /// The bucket of these options. Credentials: environment, else the shared profile files (`AWS_PROFILE`), else web
    /// identity, container or instance metadata. Nothing is asked of the bucket yet.
    pub fn open(options: BucketOptions) -> Result<Bucket, StoreError> {
        let mut profile = Profile::load();
        // The environment outweighs the files.
        if std::env::var_os("AWS_ACCESS_KEY_ID").is_some() {
            profile.keys = None;
        }
        Bucket::build(options, profile)
    }

    /// The bucket of these options, with this access key.
    pub fn with_keys(options: BucketOptions, id: &str, secret: &str) -> Result<Bucket, StoreError> {
        Bucket::build(
            options,
            Profile { keys: Some((id.to_owned(), secret.to_owned())), ..Profile::default() },
        )
    }

    fn build(options: BucketOptions, profile: Profile) -> Result<Bucket, StoreError> {
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&options.bucket);
        if let Some((id, secret)) = &profile.keys {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            builder = profile.token.iter().fold(builder, |builder, token| builder.with_token(token));
        }
        let region = options.region.clone().or_else(region_of_environment).or(profile.region);
        let endpoint =
            options.endpoint.clone().or_else(|| std::env::var("AWS_ENDPOINT_URL").ok()).or(profile.endpoint);
        builder = builder.with_region(region.unwrap_or_else(|| "us-east-1".into()));
        builder = endpoint.iter().fold(builder, |builder, endpoint| builder.with_endpoint(endpoint));
        let client = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(options.allow_http);
        let retry = RetryConfig { max_retries: 0, retry_timeout: REQUEST_TIMEOUT, ..RetryConfig::default() };
        let store = builder
            .with_client_options(client)
            .with_retry(retry)
            .with_virtual_hosted_style_request(!options.path_style)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .build()
            .map_err(|source| StoreError::Broken {
                operation: "open",
                key: "vault".into(),
                place: place(&options),
                source: source.into(),
            })?;
        Ok(Bucket { store: Arc::new(store), options, seen: Arc::default() })
    }

    fn path(&self, key: &str) -> Path {
        match self.options.prefix.as_str() {
            "" => Path::from(key),
            prefix => Path::from(format!("{prefix}/{key}")),
        }
    }

    fn head_of(&self, location: &Path, size: u64) -> Option<Head> {
        let text = location.as_ref();
        let key = match self.options.prefix.as_str() {
            "" => text,
            prefix => text.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        Some(Head { key: Key::new(key).ok()?, size })
    }

    fn error(&self, operation: &'static str, key: &str, error: Error) -> StoreError {
        let (key, place) = (key.to_owned(), self.place());
        match error {
            Error::NotFound { source, .. } | Error::Generic { source, .. }
                if source.to_string().contains("NoSuchBucket") =>
            {
                StoreError::Broken { operation, key, place, source }
            }
            Error::NotFound { .. } => StoreError::NotFound { key, place },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                StoreError::Denied { operation, key, place, source: error.into() }
            }
            // What is left of the client's errors: time-outs, broken connections, 5xx, 429, and plain nonsense. Only a
            // refusal of the request itself (other 4xx) will be the same next time.
            Error::Generic { source, .. } if !is_refusal(&source.to_string()) => {
                StoreError::Passing { operation, key, place, source }
            }
            other => StoreError::Broken { operation, key, place, source: other.into() },
        }
    }

    /// A read's error; "no such key" only once the bucket is known to exist.
    async fn read_error(&self, key: &Key, error: Error) -> StoreError {
        let error = self.error("read", key.as_str(), error);
        if error.is_not_found() && !self.seen.load(Ordering::Relaxed) {
            match self.store.list_with_offset(None, &self.path(key.as_str())).try_next().await {
                Ok(_) => self.seen.store(true, Ordering::Relaxed),
                Err(Error::NotFound { source, .. }) => {
                    let (operation, key, place) = ("read", key.to_string(), self.place());
                    return StoreError::Broken { operation, key, place, source };
                }
                Err(error) => return self.error("list", key.as_str(), error),
            }
        }
        error
    }

    fn short(&self, key: &Key, found: usize, wanted: u64) -> StoreError {
        let source = format!("{found} bytes came back instead of {wanted}").into();
        StoreError::Passing { operation: "read", key: key.to_string(), place: self.place(), source }
    }
}

fn place(options: &BucketOptions) -> String {
    match options.prefix.as_str() {
        "" => format!("s3://{}", options.bucket),
        prefix => format!("s3://{}/{prefix}", options.bucket),
    }
}

fn region_of_environment() -> Option<String> {
    std::env::var("AWS_REGION").or_else(|_| std::env::var("AWS_DEFAULT_REGION")).ok()
}

/// Whether the store refused the request itself, so that it will do so again: any 4xx but "too slow" (408, or S3's own
/// 400) and "too many" (429). `object_store` gives the status only in its text.
fn is_refusal(text: &str) -> bool {
    let status = text.split("status code: ").nth(1).and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
    status.is_some_and(|status| (400..500).contains(&status) && ![408, 409, 429].contains(&status))
        && !text.contains("RequestTimeout")
}

#[async_trait::async_trait]
impl Store for Bucket {
    fn place(&self) -> String {
        place(&self.options)
    }

    async fn put_new(&self, key: &Key, body: Body) -> Result<(), PutError> {
        let payload: PutPayload = body.parts().iter().cloned().collect();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(key.as_str()), payload, options).await {
            Ok(_) => Ok(()),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Err(PutError::Exists { key: key.to_string(), place: self.place() })
            }
            Err(error @ Error::NotFound { .. }) => {
                let (operation, key, place) = ("write", key.to_string(), self.place());
                Err(StoreError::Broken { operation, key, place, source: error.into() }.into())
            }
            Err(error) => Err(self.error("write", key.as_str(), error).into()),
        }
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        let result = match self.store.get(&self.path(key.as_str())).await {
            Ok(result) => result,
            Err(error) => return Err(self.read_error(key, error).await),
        };
        let size = result.meta.size;
        let bytes = result.bytes().await.map_err(|error| self.error("read", key.as_str(), error))?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(self.short(key, bytes.len(), size)) }
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 && range.start <= range.end {
            // HTTP has no empty range; whether the object is that long is still asked.
            let head = self.head(key).await?;
            if range.end <= head.size {
                return Ok(Bytes::new());
            }
        }
        match self.store.get_range(&self.path(key.as_str()), range).await {
            Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
            // A range that runs over the end is cut short by S3: look which of the two it was.
            Ok(bytes) => Err(self.short(key, bytes.len(), wanted)),
            Err(error) => Err(self.read_error(key, error).await),
        }
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        match self.store.head(&self.path(key.as_str())).await {
            Ok(meta) => Ok(Head { key: key.clone(), size: meta.size }),
            Err(error) => Err(self.read_error(key, error).await),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        let failed = |error| self.error("list", prefix, error);
        let below = (!(prefix.is_empty() && self.options.prefix.is_empty())).then(|| match prefix {
            "" => Path::from(self.options.prefix.as_str()),
            prefix => self.path(prefix),
        });
        let mut objects = match after {
            Some(after) => self.store.list_with_offset(below.as_ref(), &self.path(after.as_str())),
            None => self.store.list(below.as_ref()),
        };
        let mut page = Page::default();
        while let Some(meta) = objects.try_next().await.map_err(failed)? {
            if page.objects.len() == PAGE {
                page.next = page.objects.last().map(|head| head.key.clone());
                break;
            }
            let Some(head) = self.head_of(&meta.location, meta.size) else { continue };
            if page.objects.last().is_some_and(|last| last.key >= head.key) {
                let source = format!(
                    "{} came after {}",
                    head.key,
                    page.objects.last().map_or("", |last| last.key.as_str())
                );
                let (operation, key, place) = ("list", prefix.to_owned(), self.place());
                return Err(StoreError::Broken { operation, key, place, source: source.into() });
            }
            page.objects.push(head);
        }
        self.seen.store(true, Ordering::Relaxed);
        Ok(page)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match self.store.delete(&self.path(key.as_str())).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("delete", key.as_str(), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_request_itself_is_final() {
        let text = |status: &str| {
            format!(
                "Error performing GET http://x in 1s - Server returned non-2xx status code: {status}: <Error/>"
            )
        };
        for (status, refused) in [
            ("400 Bad Request", true),
            ("405 Method Not Allowed", true),
            ("408 Request Timeout", false),
            ("409 Conflict", false),
            ("429 Too Many Requests", false),
            ("500 Internal Server Error", false),
            ("503 Slow Down", false),
        ] {
            assert_eq!(is_refusal(&text(status)), refused, "{status}");
        }
        assert!(!is_refusal(&text("400 Bad Request<Code>RequestTimeout</Code>")));
        assert!(!is_refusal("error sending request: connection refused"));
    }
}
