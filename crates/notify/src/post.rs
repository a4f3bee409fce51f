//! One request to a web address, and whether it was taken.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use zeroize::Zeroizing;

/// How long a channel may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Of what a channel answers so much is told.
const SAID: usize = 200;

pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why something was not told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// It was reached, and would not take it.
    #[error("{by} refused it: {said}")]
    Refused {
        /// Who.
        by: String,
        /// What it said.
        said: String,
    },
    /// It was not reached, or did not answer.
    #[error("tell {by}: {why}")]
    Silent {
        /// Who.
        by: String,
        /// Why, without the address.
        why: String,
    },
    /// Settings of the channel are not what they should be.
    #[error("tell {by}: {what}")]
    Unsendable {
        /// Who.
        by: String,
        /// What is wrong.
        what: String,
    },
}

/// A web address that may hold a secret: it is shown without its path.
#[derive(Clone)]
pub struct WebAddress(Zeroizing<String>);

/// Text that is no web address. It is not shown: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no address of the web: write it as https://host/path")]
pub struct WebAddressError;

impl FromStr for WebAddress {
    type Err = WebAddressError;

    fn from_str(text: &str) -> Result<WebAddress, WebAddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(WebAddressError)?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let is_sound =
            matches!(scheme, "http" | "https") && !host.is_empty() && !text.contains(char::is_whitespace);
        is_sound.then(|| WebAddress(Zeroizing::new(text.to_owned()))).ok_or(WebAddressError)
    }
}

impl WebAddress {
    /// All of it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    fn is_plain(&self) -> bool {
        self.0.starts_with("http://")
    }
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        f.pad(&format!("{scheme}://{host}"))
    }
}

impl fmt::Debug for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebAddress({self})")
    }
}

/// A request with this body, to be given further headers.
pub(crate) fn request(
    address: &WebAddress,
    (method, content_type): (&str, &str),
    body: String,
) -> Result<HttpRequest, TellError> {
    let made = || -> Result<HttpRequest, Cause> {
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.uri_mut() = address.expose().parse()?;
        *request.method_mut() = method.parse()?;
        request.headers_mut().insert("content-type", content_type.parse()?);
        request.headers_mut().insert("user-agent", "strongroom".parse()?);
        Ok(request)
    };
    made().map_err(|_| unsendable(address, "its address cannot be asked"))
}

/// What is wrong with the settings of who is at `by`.
pub(crate) fn unsendable(by: &dyn fmt::Display, what: impl Into<String>) -> TellError {
    TellError::Unsendable { by: by.to_string(), what: what.into() }
}

/// Sends it; its answer's text if that was a success.
pub(crate) async fn send(address: &WebAddress, request: HttpRequest) -> Result<String, TellError> {
    let by = address.to_string();
    let client =
        client(address).map_err(|_| unsendable(address, "this host has no certificates to trust it by"))?;
    let silent =
        |error: HttpError| TellError::Silent { by: by.clone(), why: reason(error.kind()).to_owned() };
    let response = client.execute(request).await.map_err(silent)?;
    let status = response.status().as_u16();
    let body = response.into_body().bytes().await.map_err(silent)?;
    let said: String = String::from_utf8_lossy(&body).trim().chars().take(SAID).collect();
    match status {
        200..=299 => Ok(said),
        _ => Err(TellError::Refused { by, said: format!("{status} {said}").trim_end().to_owned() }),
    }
}

fn client(address: &WebAddress) -> Result<HttpClient, object_store::Error> {
    let options = ClientOptions::new().with_timeout(PATIENCE).with_connect_timeout(PATIENCE / 2);
    ReqwestConnector::default().connect(&options.with_allow_http(address.is_plain()))
}

/// In words: what the error says itself would show the whole address.
fn reason(kind: HttpErrorKind) -> &'static str {
    match kind {
        HttpErrorKind::Connect => "it cannot be reached",
        HttpErrorKind::Timeout => "it does not answer in time",
        HttpErrorKind::Interrupted => "it broke off",
        _ => "what it answers is not HTTP",
    }
}

/// Says that whoever runs is still there: a service that hears nothing tells people.
pub async fn ping(address: &WebAddress) -> Result<(), TellError> {
    let request = request(address, ("GET", "text/plain"), String::new())?;
    send(address, request).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_secret() {
        for (text, shown) in [
            ("https://hooks.example/services/T0/canary", Some("https://hooks.example")),
            ("http://user:canary@127.0.0.1:8080/x?canary", Some("http://127.0.0.1:8080")),
            ("https://h?canary", Some("https://h")),
            ("ftp://h/", None),
            ("https:///canary", None),
            ("https://h/a b", None),
            ("canary", None),
        ] {
            let read = text.parse::<WebAddress>();
            assert!(!format!("{read:?}").contains("canary"), "{text}");
            assert_eq!(read.ok().map(|address| address.to_string()).as_deref(), shown, "{text}");
        }
    }
}
