//! `/api/v1/jobs` and `/api/v1/requests`: what was ordered, and what waits for a second person.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strongroom_catalog::history::Filter;
use strongroom_catalog::{Job, JobId};
use strongroom_model::{SourceName, Timestamp};

use super::Routes;
use super::sent::{Asked, Named};
use crate::http::access::person::Person;
use crate::http::acts::{approve, cancel, decline, known_job};
use crate::http::desk::Desk;
use crate::http::problem::Problem;

/// Jobs on a page, if nothing is said, and at most.
const USUAL: u16 = 50;
const MOST: u16 = 500;

/// Requests that are listed at most.
const REQUESTS: i64 = 500;

/// These routes.
pub fn add(routes: Routes) -> Routes {
    let routes = routes.add(__path_list, list).add(__path_show, show).add(__path_call_off, call_off);
    routes.add(__path_requests, requests).add(__path_agree, agree).add(__path_refuse, refuse)
}

/// Which jobs.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Only of this source.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9](\\.?[a-z0-9_-]){0,62}$", max_length = 63)]
    source: Option<SourceName>,
    /// Only those that stand so: queued, leased, done, failed, cancelled, missed or expired.
    #[param(pattern = "^(queued|leased|done|failed|cancelled|missed|expired)$")]
    state: Option<String>,
    /// So many.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u16>,
    /// The `next` of the page before.
    #[param(pattern = "^[0-9]{1,18}_[0-9]{1,18}$")]
    cursor: Option<String>,
}

/// A page of jobs.
#[derive(Serialize, utoipa::ToSchema)]
struct Jobs {
    /// The jobs, newest first.
    #[schema(value_type = Vec<Object>)]
    jobs: Vec<Job>,
    /// The cursor of the next page; null: there is none.
    next: Option<String>,
}

/// Jobs, newest first.
#[utoipa::path(get, path = "/api/v1/jobs", operation_id = "jobs", params(Which), responses(
    (status = 200, body = Jobs),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn list(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Asked(which): Asked<Which>,
) -> Result<Json<Jobs>, Problem> {
    let limit = usize::from(which.limit.unwrap_or(USUAL));
    if limit == 0 || limit > usize::from(MOST) {
        return Err(Problem::unreadable(format!("limit is between 1 and {MOST}")));
    }
    let state = which.state.map(|state| state.parse()).transpose();
    let state =
        state.map_err(|error: strongroom_model::word::UnknownWord| Problem::unreadable(error.to_string()))?;
    let mut before = which.cursor.as_deref().map(read_cursor).transpose()?;
    let catalog = desk.catalog().await?;
    let mut jobs = Vec::new();
    // What this person may not know of is passed over; a page is looked for so often.
    for _ in 0..20 {
        let most = limit + 1;
        let filter = Filter { source: which.source.clone(), state, before, most: most as i64 };
        let found = catalog.jobs(&filter).await?;
        let is_last = found.len() < most;
        before = found.last().map(|job| (job.due, job.id)).or(before);
        jobs.extend(found.into_iter().filter(|job| person.knows(job.source.as_ref())));
        if is_last {
            before = None;
        }
        if is_last || jobs.len() > limit {
            break;
        }
    }
    let next = match jobs.len() > limit {
        true => {
            jobs.truncate(limit);
            jobs.last().map(|job| (job.due, job.id))
        }
        false => before,
    };
    Ok(Json(Jobs { jobs, next: next.map(|(due, id)| format!("{}_{id}", due.0.as_microsecond())) }))
}

fn read_cursor(cursor: &str) -> Result<(Timestamp, JobId), Problem> {
    let read = cursor
        .split_once('_')
        .and_then(|(due, id)| Some((Timestamp::from_unix_micros(due.parse().ok()?)?, id.parse().ok()?)));
    read.ok_or_else(|| Problem::unreadable("the cursor is none of a page before"))
}

/// One job.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", operation_id = "job", params(("id" = i64, Path, minimum = 1)), responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn show(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Named(id): Named<JobId>,
) -> Result<Json<Job>, Problem> {
    let catalog = desk.catalog().await?;
    known_job(&catalog, &person, id).await.map(Json)
}

/// Calls a job off: one that waits is cancelled, one that runs is stopped by its agent.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", operation_id = "cancel", params(("id" = i64, Path, minimum = 1)), responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn call_off(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Named(id): Named<JobId>,
) -> Result<Json<Job>, Problem> {
    cancel(&desk, &person, id).await.map(Json)
}

/// What waits, or waited, for a second person.
#[derive(Serialize, utoipa::ToSchema)]
struct Requests {
    /// The requests, newest first.
    #[schema(value_type = Vec<Object>)]
    requests: Vec<strongroom_catalog::requests::Request>,
}

/// What waits for a second person, and what became of what did.
#[utoipa::path(get, path = "/api/v1/requests", operation_id = "requests", responses(
    (status = 200, body = Requests),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn requests(State(desk): State<Arc<Desk>>, person: Person) -> Result<Json<Requests>, Problem> {
    let mut requests = desk.catalog().await?.requests(REQUESTS, desk.now()).await?;
    requests.retain(|request| person.knows(request.source.as_ref()));
    Ok(Json(Requests { requests }))
}

/// Agrees to a request of somebody else's: it becomes a job.
#[utoipa::path(post, path = "/api/v1/requests/{id}/approve", operation_id = "approve", params(("id" = i64, Path, minimum = 1)), responses(
    (status = 202, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn agree(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Named(id): Named<i64>,
) -> Result<(axum::http::StatusCode, Json<Value>), Problem> {
    let job = approve(&desk, &person, id).await?;
    Ok((axum::http::StatusCode::ACCEPTED, Json(serde_json::json!({ "job": job }))))
}

/// Says no to a request, or takes back one's own.
#[utoipa::path(post, path = "/api/v1/requests/{id}/decline", operation_id = "decline", params(("id" = i64, Path, minimum = 1)), responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn refuse(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Named(id): Named<i64>,
) -> Result<Json<strongroom_catalog::requests::Request>, Problem> {
    decline(&desk, &person, id).await.map(Json)
}
