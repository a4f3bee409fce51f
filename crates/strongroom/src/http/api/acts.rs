//! `/api/v1/acts` and `/api/v1/restore-plan`: what people have done.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Routes;
use super::sent::Sent;
use crate::agent::deed::Deed;
use crate::http::access::person::Person;
use crate::http::acts::{Ordered, Wish, act, restore_plan};
use crate::http::desk::Desk;
use crate::http::problem::Problem;

/// What makes the same request the same order.
const KEY: &str = "idempotency-key";

/// These routes.
pub fn add(routes: Routes) -> Routes {
    routes.add(__path_order, order).add(__path_plan, plan)
}

/// What is to be done.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// What.
    what: Deed,
    /// The source's name once more: for a restore, and for what destroys or overwrites.
    #[serde(default)]
    confirm: Option<String>,
}

/// Has something done: it becomes a job, or a request that waits for a second person. The same again under the same key is not done
/// twice.
#[utoipa::path(post, path = "/api/v1/acts", operation_id = "act", request_body = Wanted,
    params(("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 100, pattern = "^[!-~]+$")), responses(
    (status = 202, body = Object, description = "a new job or request"),
    (status = 200, body = Object, description = "the same as before"),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn order(
    State(desk): State<Arc<Desk>>,
    person: Person,
    headers: HeaderMap,
    Sent(wanted): Sent<Wanted>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let unreadable = |_| Problem::unreadable("idempotency-key is up to 100 letters, digits and marks");
    let key = headers.get(KEY).map(|key| key.to_str().map(str::to_owned)).transpose().map_err(unreadable)?;
    let wish = Wish { deed: wanted.what, confirm: wanted.confirm, key };
    let (is_new, body) = match act(&desk, &person, wish).await? {
        Ordered::Job(is_new, job) => (is_new, json!({ "job": job })),
        Ordered::Request(is_new, request) => (is_new, json!({ "request": request })),
    };
    Ok((if is_new { StatusCode::ACCEPTED } else { StatusCode::OK }, Json(body)))
}

/// What a restore would do; nothing is touched.
#[utoipa::path(post, path = "/api/v1/restore-plan", operation_id = "restore_plan", request_body = Deed, responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn plan(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Sent(deed): Sent<Deed>,
) -> Result<Json<Value>, Problem> {
    if !matches!(deed, Deed::Restore { .. }) {
        return Err(Problem::new(StatusCode::CONFLICT, "no-restore", "only a restore has a plan"));
    }
    restore_plan(&desk, &person, &deed).await.map(Json)
}
