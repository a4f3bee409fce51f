//! One JSON request to a service, and its answer.

use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_vault::error::KmsError;

/// Wrapping a key is a matter of milliseconds; recovery waits for it with every WAL file.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A client for these services.
pub(crate) fn client(allow_http: bool) -> Result<HttpClient, object_store::Error> {
    let options =
        ClientOptions::new().with_timeout(TIMEOUT).with_connect_timeout(TIMEOUT).with_allow_http(allow_http);
    ReqwestConnector::default().connect(&options)
}

/// A POST of `body` as JSON to `url`, still to be signed or given a token.
pub(crate) fn post(url: &str, content_type: &str, body: &impl Serialize) -> Result<HttpRequest, Cause> {
    let mut request = HttpRequest::new(HttpRequestBody::from(serde_json::to_string(body)?));
    *request.uri_mut() = url.parse()?;
    *request.method_mut() = "POST".parse()?;
    request.headers_mut().insert("content-type", content_type.parse()?);
    Ok(request)
}

/// Sends it. 4xx is a refusal: asking again, or waiting, would not help.
pub(crate) async fn send<T: DeserializeOwned>(
    client: &HttpClient,
    service: &str,
    request: HttpRequest,
) -> Result<T, KmsError> {
    let silent = |source: Cause| KmsError::Silent { service: service.to_owned(), source };
    let response = client.execute(request).await.map_err(|error| silent(error.into()))?;
    let status = response.status().as_u16();
    let body = response.into_body().bytes().await.map_err(|error| silent(error.into()))?;
    match status {
        200..=299 => serde_json::from_slice(&body).map_err(|error| silent(error.into())),
        // Too many at a time is no refusal.
        400..=428 | 430..=499 if !is_throttled(&body) => {
            let said = format!("{status} {}", String::from_utf8_lossy(&body).trim());
            Err(KmsError::Refused { service: service.to_owned(), said })
        }
        _ => Err(silent(format!("status {status}").into())),
    }
}

fn is_throttled(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("ThrottlingException")
}
