//! Requests that S3 knows and `object_store` has no words for, signed as that signs its own.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};

use crate::port::StoreError;
use crate::retry::{RetryPolicy, Tries};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Where such requests go, and in whose name.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    /// With the bucket in it, and without a slash at its end.
    pub(super) base: String,
    pub(super) region: String,
    pub(super) credentials: AwsCredentialProvider,
    pub(super) client: Arc<HttpClient>,
    /// For errors.
    pub(super) place: String,
}

/// One request.
pub(super) struct Asked<'a> {
    /// `read`, `write`, `list`: for errors.
    pub(super) operation: &'static str,
    pub(super) method: &'static str,
    /// With the bucket's prefix; empty for the bucket itself.
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<String>,
}

/// An answer that is no refusal.
pub(super) struct Answer {
    headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    /// A header's value; names are lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Requests {
    pub(super) fn client(options: &ClientOptions) -> object_store::Result<Arc<HttpClient>> {
        ReqwestConnector::default().connect(options).map(Arc::new)
    }

    /// Sends it, again where that may help: doing it twice does no harm. An answer of 2xx, or why not.
    pub(super) async fn send(&self, asked: Asked<'_>) -> Result<Answer, StoreError> {
        let mut tries = Tries::new(RetryPolicy::default());
        loop {
            match self.once(&asked).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn once(&self, asked: &Asked<'_>) -> Result<Answer, StoreError> {
        let (operation, key) = (asked.operation, asked.path.to_owned());
        let passing = |source: Cause| StoreError::Passing {
            operation,
            key: key.clone(),
            place: self.place.clone(),
            source,
        };
        // Whoever has no credentials will not have them at the next try.
        let denied = |source: Cause| StoreError::Denied {
            operation,
            key: key.clone(),
            place: self.place.clone(),
            source,
        };
        let request = self.signed(asked).await.map_err(denied)?;
        let response = self.client.execute(request).await.map_err(|error| passing(error.into()))?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let body = response.into_body().bytes().await.map_err(|error| passing(error.into()))?;
        match status {
            200..=299 => Ok(Answer { headers, body }),
            _ => Err(self.refused(operation, &key, status, &String::from_utf8_lossy(&body))),
        }
    }

    async fn signed(&self, asked: &Asked<'_>) -> Result<HttpRequest, Cause> {
        let query: Vec<String> =
            asked.query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let body = asked.body.clone().map_or_else(HttpRequestBody::empty, HttpRequestBody::from);
        let mut request = HttpRequest::new(body);
        *request.uri_mut() = format!("{}/{}{query}", self.base, asked.path).parse()?;
        *request.method_mut() = asked.method.parse()?;
        for (name, value) in &asked.headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        let credential = self.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(&mut request, None)?;
        Ok(request)
    }

    /// What a refusal means. Its words are in the body, which an answer to HEAD has not.
    fn refused(&self, operation: &'static str, key: &str, status: u16, body: &str) -> StoreError {
        let code = super::answer::code(body).unwrap_or_default();
        let said = if body.is_empty() { format!("status {status}") } else { body.to_owned() };
        let (key, place, source) = (key.to_owned(), self.place.clone(), said.into());
        match (status, code) {
            (_, "NoSuchKey" | "NoSuchVersion" | "NoSuchLifecycleConfiguration") => {
                StoreError::NotFound { key, place }
            }
            (404, "") if operation == "look at" => StoreError::NotFound { key, place },
            (401 | 403, _) => StoreError::Denied { operation, key, place, source },
            (408 | 409 | 429 | 500 | 502..=599, _) => StoreError::Passing { operation, key, place, source },
            _ => StoreError::Broken { operation, key, place, source },
        }
    }
}

/// Percent-encoded but for what a URL leaves alone (RFC 3986, unreserved), as the signature wants it.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
