//! A bucket of S3, Google Cloud Storage or Azure as a store, through `object_store`.
//!
//! - `put_new` is a PUT with `If-None-Match: *` (Google: `x-goog-if-generation-match: 0`). 412 is the answer "taken", and Azure's
//!   409 with the words `BlobAlreadyExists`; any other 409 is a conflict that may end either way: [`crate::Retry`] asks again.
//! - "No such key" is believed only in the store's own words: a mistyped bucket and a proxy's error page are 404s as
//!   well, and must never look like an absent WAL file. An answer to HEAD has no words, so a miss asks with GET.
//! - A listing is in ascending order and after where it should begin, or an error.
//! - Retries are [`crate::Retry`]'s alone: two layers of them multiply (and a retried put sees its own object).

#![allow(
    clippy::disallowed_methods,
    reason = "S3's own convention is that region and credentials come from the environment"
)]

mod answer;
mod manner;
mod request;
mod custody;
mod azure;
mod google;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{
    AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider, Checksum, S3ConditionalPut,
};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
    StaticCredentialProvider,
};

use self::answer::{Meaning, meaning};
use self::manner::Putting;
pub use self::manner::{Lock, Manner, TAG};
use self::request::Requests;
use crate::key::Key;
use crate::port::{Body, Head, Page, PutError, Store, StoreError};
use crate::profile::Profile;

/// Objects of a page of a listing: what S3 itself gives at a time.
const PAGE: usize = 1000;

/// A pack takes 5 s at 50 Mbit/s; ten times that is a connection that hangs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What every emulator of Azure's is opened with.
#[cfg(feature = "conformance")]
pub mod emulator {
    /// The account that every emulator has, and its key (Azurite's README, "Default Storage Account").
    pub const ACCOUNT: &str = "devstoreaccount1";
    /// See [`ACCOUNT`].
    pub const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
}

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3, and what speaks as it does: `s3://`.
    #[default]
    S3,
    /// Google Cloud Storage: `gs://`.
    Google,
    /// Azure Blob Storage: `az://`.
    Azure,
}

impl Provider {
    /// What stands before `://`.
    pub fn scheme(self) -> &'static str {
        match self {
            Provider::S3 => "s3",
            Provider::Google => "gs",
            Provider::Azure => "az",
        }
    }

    /// The provider of a scheme.
    pub fn of(scheme: &str) -> Option<Provider> {
        [Provider::S3, Provider::Google, Provider::Azure].into_iter().find(|one| one.scheme() == scheme)
    }
}

/// Which bucket, and how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// Whose it is.
    pub provider: Provider,
    /// The bucket; Azure calls it a container.
    pub bucket: String,
    /// Of Azure: the storage account; the environment's if `None`.
    pub account: Option<String>,
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
    /// A profile of the shared files. It outweighs `AWS_PROFILE` and the environment's keys: two vaults of one host may be
    /// two accounts'.
    pub profile: Option<String>,
    /// How each new object is put.
    pub manner: Manner,
}

/// A bucket, or a part of one.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    options: BucketOptions,
    /// Of S3 alone.
    requests: Option<Requests>,
}

impl Bucket {
    /// The bucket of these options. Credentials: the profile that the options name, else the environment, else the shared
    /// profile files (`AWS_PROFILE`), else web identity, container or instance metadata. Nothing is asked of the bucket yet.
    pub fn open(options: BucketOptions) -> Result<Bucket, StoreError> {
        if options.provider != Provider::S3 && options.manner != Manner::default() {
            let why = "locks, classes and lifecycles are S3's only so far: remove [vault.lock], [vault.classes] and [vault.lifecycle]";
            return Err(unopened(&options, why.into()));
        }
        let store = match options.provider {
            Provider::S3 => return Bucket::open_s3(options),
            Provider::Google => google::build(GoogleCloudStorageBuilder::from_env(), &options)?,
            Provider::Azure => azure::build(MicrosoftAzureBuilder::from_env(), &options)?,
        };
        Ok(Bucket { store, options, requests: None })
    }

    /// A bucket of an emulator, which asks for no credentials or knows them.
    #[cfg(feature = "conformance")]
    pub fn of_emulator(options: BucketOptions) -> Result<Bucket, StoreError> {
        let store = match options.provider {
            Provider::S3 => return Bucket::with_keys(options, "test", "test"),
            Provider::Google => {
                google::build(GoogleCloudStorageBuilder::new().with_bearer_token("test"), &options)?
            }
            Provider::Azure => {
                let builder = MicrosoftAzureBuilder::new();
                let builder = builder.with_account(emulator::ACCOUNT).with_access_key(emulator::KEY);
                azure::build(builder, &options)?
            }
        };
        Ok(Bucket { store, options, requests: None })
    }

    fn open_s3(options: BucketOptions) -> Result<Bucket, StoreError> {
        let profile = Profile::load(options.profile.as_deref());
        let mut profile = profile.map_err(|error| unopened(&options, error.into()))?;
        let variable = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok());
        let region = variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]).or(profile.region.take());
        let endpoint = variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]).or(profile.endpoint.take());
        let options = BucketOptions {
            region: options.region.or(region),
            endpoint: options.endpoint.or(endpoint),
            ..options
        };
        Bucket::build(AmazonS3Builder::from_env(), options, &profile)
    }

    /// The bucket of these options, with this access key and nothing from the surroundings.
    pub fn with_keys(options: BucketOptions, id: &str, secret: &str) -> Result<Bucket, StoreError> {
        let profile = Profile { keys: Some((id.to_owned(), secret.to_owned())), ..Profile::default() };
        Bucket::build(AmazonS3Builder::new(), options, &profile)
    }

    /// The credentials with which requests are signed, and the bucket's region.
    fn credentials(self) -> Option<(AwsCredentialProvider, String)> {
        self.requests.map(|requests| (requests.credentials, requests.region))
    }

    fn build(
        mut builder: AmazonS3Builder,
        options: BucketOptions,
        profile: &Profile,
    ) -> Result<Bucket, StoreError> {
        if let Some((id, secret)) = &profile.keys {
            let (key_id, secret_key, token) = (id.clone(), secret.clone(), profile.token.clone());
            // All or nothing: the environment may have a session token that belongs to other keys.
            let keys = StaticCredentialProvider::new(AwsCredential { key_id, secret_key, token });
            builder = builder.with_credentials(Arc::new(keys));
        }
        let Address { endpoint, virtual_hosted } = address(&options);
        if let Some(endpoint) = endpoint {
            // This outweighs whatever the environment says, under any name.
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        let client = client_options(&options);
        let region = options.region.as_deref().unwrap_or("us-east-1");
        let putting = (options.manner != Manner::default()).then(|| Putting::new(options.manner, region));
        if let Some(putting) = &putting {
            builder = builder.with_http_connector(putting.clone());
        }
        if options.manner.lock.is_some() {
            builder = builder.with_checksum_algorithm(Checksum::SHA256);
        }
        let store = builder
            .with_bucket_name(&options.bucket)
            .with_region(region)
            .with_client_options(client.clone())
            .with_retry(retry())
            .with_virtual_hosted_style_request(virtual_hosted)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            // One object at a time is deleted here; the bulk request is another right, and not every store has it.
            .with_disable_bulk_delete(true)
            .build()
            .map_err(|source| unopened(&options, source.into()))?;
        if let Some(putting) = &putting {
            putting.sign_with(store.credentials());
        }
        let requests = Requests {
            base: base(&options, region),
            region: region.to_owned(),
            credentials: Arc::clone(store.credentials()),
            client: Requests::client(&client).map_err(|source| unopened(&options, source.into()))?,
            place: place(&options),
        };
        Ok(Bucket { store: Arc::new(store), options, requests: Some(requests) })
    }

    /// Letters of a key, as the bucket has them.
    fn spelled(&self, letters: &str) -> String {
        match self.options.prefix.as_str() {
            "" => letters.to_owned(),
            prefix => format!("{prefix}/{letters}"),
        }
    }

    fn path(&self, key: &str) -> Path {
        Path::from(self.spelled(key))
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
        match meaning(&error) {
            Meaning::NoSuchKey => StoreError::NotFound { key, place },
            Meaning::Denied => StoreError::Denied { operation, key, place, source: error.into() },
            Meaning::Full => StoreError::Full { operation, key, place, source: error.into() },
            Meaning::Passing => StoreError::Passing { operation, key, place, source: error.into() },
            Meaning::Taken | Meaning::Broken => {
                StoreError::Broken { operation, key, place, source: error.into() }
            }
        }
    }

    /// What it means that HEAD found nothing: the answer to a GET says it in words.
    async fn why_missing(&self, key: &Key, error: Error) -> StoreError {
        if !matches!(error, Error::NotFound { .. }) {
            return self.error("read", key.as_str(), error);
        }
        match self.store.get_range(&self.path(key.as_str()), 0..1).await {
            Err(error) => self.error("read", key.as_str(), error),
            Ok(_) => {
                let source = "HEAD found nothing where GET found an object".into();
                StoreError::Passing { operation: "read", key: key.to_string(), place: self.place(), source }
            }
        }
    }

    fn short(&self, key: &Key, found: usize, wanted: u64) -> StoreError {
        let source = format!("{found} bytes came back instead of {wanted}").into();
        StoreError::Passing { operation: "read", key: key.to_string(), place: self.place(), source }
    }

    fn beyond(&self, key: &Key, range: &Range<u64>, size: u64) -> StoreError {
        let source = format!("{size} bytes are there, and {range:?} was asked for").into();
        StoreError::Broken { operation: "read", key: key.to_string(), place: self.place(), source }
    }

    /// A listing's next object, which must sort after the one before it.
    fn expect_order(&self, prefix: &str, before: Option<&Key>, key: &Key) -> Result<(), StoreError> {
        match before {
            Some(before) if before >= key => Err(StoreError::Broken {
                operation: "list",
                key: prefix.to_owned(),
                place: self.place(),
                source: format!("it listed {key} after {before}").into(),
            }),
            _ => Ok(()),
        }
    }
}

/// AWS credentials as a bucket would find them, for another service of the same account, and the region.
pub fn aws_credentials(
    profile: Option<&str>,
    region: Option<&str>,
) -> Result<(AwsCredentialProvider, String), StoreError> {
    let (profile, region) = (profile.map(str::to_owned), region.map(str::to_owned));
    let options = BucketOptions { bucket: "none".to_owned(), profile, region, ..BucketOptions::default() };
    let none = unopened(&options, "a bucket of S3 has no credentials".into());
    Bucket::open(options)?.credentials().ok_or(none)
}

fn client_options(options: &BucketOptions) -> ClientOptions {
    ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_allow_http(options.allow_http)
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: REQUEST_TIMEOUT, ..RetryConfig::default() }
}

fn place(options: &BucketOptions) -> String {
    match options.prefix.as_str() {
        "" => format!("{}://{}", options.provider.scheme(), options.bucket),
        prefix => format!("{}://{}/{prefix}", options.provider.scheme(), options.bucket),
    }
}

fn unopened(options: &BucketOptions, source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    StoreError::Broken { operation: "open", key: "vault".into(), place: place(options), source }
}

/// Where requests go that are made here, with the bucket in it.
fn base(options: &BucketOptions, region: &str) -> String {
    let bucket = &options.bucket;
    match address(options) {
        Address { endpoint: Some(endpoint), virtual_hosted: true } => {
            endpoint.trim_end_matches('/').to_owned()
        }
        Address { endpoint: Some(endpoint), .. } => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        Address { endpoint: None, virtual_hosted: true } => {
            format!("https://{bucket}.s3.{region}.amazonaws.com")
        }
        Address { endpoint: None, .. } => format!("https://s3.{region}.amazonaws.com/{bucket}"),
    }
}

/// Where requests go, as the client wants it said.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// With the bucket in it if `virtual_hosted`, else without; AWS if `None`.
    endpoint: Option<String>,
    virtual_hosted: bool,
}

/// The bucket goes into the host name, unless the options say otherwise or it cannot: a number has no names below it,
/// and a certificate for `*.host` covers none with dots in them.
fn address(options: &BucketOptions) -> Address {
    let plain = Address { endpoint: options.endpoint.clone(), virtual_hosted: false };
    if options.path_style || options.bucket.contains('.') {
        return plain;
    }
    let Some(endpoint) = &options.endpoint else { return Address { endpoint: None, virtual_hosted: true } };
    let Some((scheme, rest)) = endpoint.split_once("://") else { return plain };
    let host = rest.split(['/', ':']).next().unwrap_or(rest);
    if rest.starts_with('[') || host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return plain;
    }
    let bucket = &options.bucket;
    let named = host.strip_prefix(bucket.as_str()).is_some_and(|rest| rest.starts_with('.'));
    let endpoint = if named { endpoint.clone() } else { format!("{scheme}://{bucket}.{rest}") };
    Address { endpoint: Some(endpoint), virtual_hosted: true }
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
            Err(error) if meaning(&error) == Meaning::Taken => {
                Err(PutError::Exists { key: key.to_string(), place: self.place() })
            }
            Err(error) => Err(self.error("write", key.as_str(), error).into()),
        }
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        let failed = |error| self.error("read", key.as_str(), error);
        let result = self.store.get(&self.path(key.as_str())).await.map_err(failed)?;
        let size = result.meta.size;
        let bytes = result.bytes().await.map_err(failed)?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(self.short(key, bytes.len(), size)) }
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        // HTTP has no empty range; whether the object is that long is still asked.
        let found = if range.start < range.end {
            let found = self.store.get_range(&self.path(key.as_str()), range.clone()).await;
            found.map_err(|error| self.error("read", key.as_str(), error))?
        } else {
            Bytes::new()
        };
        let wanted = range.end.saturating_sub(range.start);
        if wanted > 0 && found.len() as u64 == wanted {
            return Ok(found);
        }
        // S3 cuts a range short that runs over the end: whether it was that, the size tells.
        let size = self.head(key).await?.size;
        match range.start <= range.end && range.end <= size {
            true if wanted == 0 => Ok(found),
            true => Err(self.short(key, found.len(), wanted)),
            false => Err(self.beyond(key, &range, size)),
        }
    }

    async fn head(&self, key: &Key) -> Result<Head, StoreError> {
        match self.store.head(&self.path(key.as_str())).await {
            Ok(meta) => Ok(Head { key: key.clone(), size: meta.size }),
            Err(error) => Err(self.why_missing(key, error).await),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Page, StoreError> {
        let failed = |error| self.error("list", prefix, error);
        let below = (!(prefix.is_empty() && self.options.prefix.is_empty())).then(|| match prefix {
            "" => Path::from(self.options.prefix.as_str()),
            prefix => self.path(prefix),
        });
        // Azure's emulator takes no notice of where a listing should begin.
        let skips = self.options.provider == Provider::Azure && self.options.endpoint.is_some();
        let mut objects = match after {
            Some(_) if skips => self.store.list(below.as_ref()),
            Some(after) => self.store.list_with_offset(below.as_ref(), &self.path(after.as_str())),
            None => self.store.list(below.as_ref()),
        };
        let mut page = Page::default();
        while let Some(meta) = objects.try_next().await.map_err(failed)? {
            // What others keep in the bucket is not listed.
            let Some(head) = self.head_of(&meta.location, meta.size) else { continue };
            // The mark that some tools leave for a folder ("a/") arrives under the folder's own name ("a").
            if head.key.as_str() == prefix || skips && after.is_some_and(|after| head.key <= *after) {
                continue;
            }
            self.expect_order(prefix, page.objects.last().map(|last| &last.key).or(after), &head.key)?;
            page.objects.push(head);
            if page.objects.len() == PAGE {
                // Whether there is more, the next page tells: looking now would fetch it twice.
                page.next = page.objects.last().map(|last| last.key.clone());
                break;
            }
        }
        Ok(page)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match self.store.delete(&self.path(key.as_str())).await {
            Ok(()) => Ok(()),
            Err(error) if meaning(&error) == Meaning::NoSuchKey => Ok(()),
            Err(error) => Err(self.error("delete", key.as_str(), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client takes an endpoint for virtual hosts as it is: without the bucket in it, a key's first segment would be
    /// the bucket.
    #[test]
    fn requests_go_to_the_bucket() {
        for (endpoint, path_style, bucket, expected, virtual_hosted) in [
            (None, false, "b", None, true),
            (None, true, "b", None, false),
            (None, false, "b.c", None, false),
            (Some("https://s3.example:9000"), false, "b", Some("https://b.s3.example:9000"), true),
            (Some("https://b.s3.example"), false, "b", Some("https://b.s3.example"), true),
            (Some("https://bb.example"), false, "b", Some("https://b.bb.example"), true),
            (Some("https://s3.example"), true, "b", Some("https://s3.example"), false),
            (Some("https://s3.example"), false, "b.c", Some("https://s3.example"), false),
            (Some("http://127.0.0.1:9000"), false, "b", Some("http://127.0.0.1:9000"), false),
            (Some("http://[::1]:9000"), false, "b", Some("http://[::1]:9000"), false),
            (Some("http://localhost:9000"), false, "b", Some("http://localhost:9000"), false),
        ] {
            let options = BucketOptions {
                bucket: bucket.into(),
                endpoint: endpoint.map(Into::into),
                path_style,
                ..BucketOptions::default()
            };
            let expected = Address { endpoint: expected.map(Into::into), virtual_hosted };
            assert_eq!(address(&options), expected, "{endpoint:?} {path_style} {bucket}");
        }
    }
}
