//! `/api/v1/me` and `/api/v1/session`: who asks, signing in and out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use strongroom_model::SourceName;

use super::Routes;
use super::sent::Sent;
use crate::http::access::person::{By, Person};
use crate::http::desk::Desk;
use crate::http::problem::Problem;
use crate::http::sign::{Credentials, sign_in, sign_out};

/// These routes.
pub fn add(routes: Routes) -> Routes {
    routes.add(__path_me, me).add(__path_begin, begin).add(__path_end, end)
}

/// Who asks.
#[derive(Serialize, utoipa::ToSchema)]
struct Me {
    /// The user's name; `token:NAME`; `loopback`.
    name: String,
    /// viewer, operator or admin.
    role: &'static str,
    /// The sources that they may know of; null: all.
    sources: Option<Vec<String>>,
    /// session, token or loopback.
    by: &'static str,
    /// What a session sends as x-csrf-token with whatever changes something.
    csrf: Option<String>,
}

impl From<Person> for Me {
    fn from(person: Person) -> Me {
        let by = match person.by {
            By::Session => "session",
            By::Token => "token",
            By::Loopback => "loopback",
        };
        let names = |sources: std::collections::BTreeSet<SourceName>| {
            sources.iter().map(SourceName::to_string).collect()
        };
        Me {
            name: person.name,
            role: person.role.word(),
            sources: person.sources.map(names),
            by,
            csrf: person.csrf,
        }
    }
}

/// Who asks.
#[utoipa::path(get, path = "/api/v1/me", operation_id = "me", responses(
    (status = 200, body = Me),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn me(person: Person) -> Json<Me> {
    Json(person.into())
}

/// Signed in.
#[derive(Serialize, utoipa::ToSchema)]
struct Begun {
    /// What to send as x-csrf-token with whatever changes something.
    csrf: String,
}

/// Signs in: the answer sets a cookie.
#[utoipa::path(post, path = "/api/v1/session", operation_id = "sign_in", request_body = Credentials, security(()), responses(
    (status = 201, body = Begun),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn begin(
    State(desk): State<Arc<Desk>>,
    parts: Parts,
    Sent(credentials): Sent<Credentials>,
) -> Result<Response, Problem> {
    let signed = sign_in(&desk, &parts, credentials).await?;
    let body = Json(Begun { csrf: signed.csrf });
    Ok((StatusCode::CREATED, [(SET_COOKIE, signed.cookie)], body).into_response())
}

/// Signs out.
#[utoipa::path(delete, path = "/api/v1/session", operation_id = "sign_out", responses(
    (status = 204, description = "the session has ended, if there was one"),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn end(State(desk): State<Arc<Desk>>, person: Person, parts: Parts) -> Response {
    let cookie = sign_out(&desk, &parts, &person);
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}
