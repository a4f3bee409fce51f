//! Why a request was not answered as asked: RFC 9457's `application/problem+json`, with a code that programs can rely on and a way
//! out for people.
//!
//! **Invariants**
//! - A code never changes its meaning: `docs/api.md` has the list.
//! - Nothing of a secret is in an answer: details are our own sentences, and the same that the log has.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use strongroom_catalog::CatalogError;

use crate::failure::{Code, Failure};

/// What a code is called outside.
#[derive(Debug)]
struct Urn(&'static str);

impl Serialize for Urn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("urn:strongroom:problem:{}", self.0))
    }
}

/// An answer that is none.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:strongroom:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: Urn,
    /// What it is called.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The code, for programs.
    pub code: &'static str,
    /// What happened.
    detail: String,
    /// The way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    #[schema(ignore)]
    after: Option<Duration>,
}

impl Problem {
    /// One without a hint.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: Urn(code),
            title: status.canonical_reason().unwrap_or("Problem"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            hint: None,
            after: None,
        }
    }

    /// With a way out.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into()).filter(|hint: &String| !hint.is_empty());
        self
    }

    /// It is worth trying again then.
    pub fn after(self, after: Duration) -> Problem {
        Problem { after: Some(after), ..self }
    }

    /// What happened.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The way out.
    pub fn way_out(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Nobody knows who asks.
    pub fn not_signed_in(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "not-signed-in", detail)
            .hint("sign in, or send a token: authorization: Bearer …")
    }

    /// It is known who asks, and they may not.
    pub fn not_allowed(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "not-allowed", detail)
    }

    /// There is nothing of that name, or nothing that the asker may know of.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// What was sent does not read.
    pub fn unreadable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "unreadable", detail)
            .hint("/api/v1/openapi.json says what is expected")
    }

    /// What was ordered and done is not known now.
    pub fn catalog_away(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "catalog-away", detail).after(Duration::from_secs(5))
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        let detail = failure.on_one_line();
        let problem = match failure.kind {
            Code::Usage => Problem::new(StatusCode::BAD_REQUEST, "unreadable", detail),
            Code::NoRestore => Problem::new(StatusCode::CONFLICT, "no-restore", detail),
            Code::Target => Problem::new(StatusCode::CONFLICT, "target", detail),
            Code::Conflict => Problem::new(StatusCode::CONFLICT, "conflict", detail),
            Code::Settings => Problem::new(StatusCode::CONFLICT, "settings", detail),
            _ => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "away", detail),
        };
        problem.hint(failure.hint.unwrap_or_default())
    }
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Problem {
        match error {
            CatalogError::NoSuchJob { id, .. } => Problem::not_found(format!("there is no job {id}")),
            CatalogError::NoSuchRequest { id, .. } => Problem::not_found(format!("there is no request {id}")),
            CatalogError::NotNow { .. }
            | CatalogError::Decided { .. }
            | CatalogError::OwnRequest { .. }
            | CatalogError::OtherOrder { .. } => Problem::from(Failure::from(error)),
            _ => {
                let failure = Failure::from(error);
                let hint = failure.hint.clone().unwrap_or_default();
                Problem::catalog_away(failure.on_one_line()).hint(hint)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        // Our own strings and a number: JSON cannot refuse them.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let mut put = |name: HeaderName, value: HeaderValue| drop(response.headers_mut().insert(name, value));
        put(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            put(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"strongroom\""));
        }
        if let Some(after) = self.after {
            put(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}
