//! What comes with a request, read strictly; what does not read is answered as a [`Problem`].

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::http::desk::Desk;
use crate::http::problem::Problem;

/// A body of JSON.
pub struct Sent<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Desk>> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, desk: &Arc<Desk>) -> Result<Sent<T>, Problem> {
        let read = Json::<T>::from_request(request, desk).await;
        read.map(|Json(sent)| Sent(sent)).map_err(|refused| match refused.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "the body is longer than anything that is expected",
            ),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not-json",
                "the body is not JSON, or is not said to be",
            )
            .hint("content-type: application/json"),
            _ => Problem::unreadable(refused.body_text()),
        })
    }
}

/// What is behind the question mark.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Desk>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<Asked<T>, Problem> {
        let read = Query::<T>::from_request_parts(parts, desk).await;
        read.map(|Query(asked)| Asked(asked)).map_err(|refused| Problem::unreadable(refused.body_text()))
    }
}

/// What is in the path: a name that nothing can have is not found.
pub struct Named<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Desk>> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<Named<T>, Problem> {
        let read = Path::<T>::from_request_parts(parts, desk).await;
        read.map(|Path(named)| Named(named)).map_err(|_| Problem::not_found("there is nothing of that name"))
    }
}
