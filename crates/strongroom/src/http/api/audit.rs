//! `/api/v1/audit`: who did what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::Routes;
use super::sent::Asked;
use crate::http::access::person::Person;
use crate::http::acts::may_see_audit;
use crate::http::desk::Desk;
use crate::http::problem::Problem;
use crate::http::shown::audit::{AuditPage, WORDS, page};

/// Entries on a page, if nothing is said, and at most.
const USUAL: u16 = 100;
const MOST: u16 = 1000;

/// This route.
pub fn add(routes: Routes) -> Routes {
    routes.add(__path_audit, audit)
}

/// Which entries.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Behind {
    /// So many.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
    /// The `next` of the page before.
    #[param(minimum = 1)]
    cursor: Option<u64>,
}

/// Who did what, newest first, of the newest thousand: for admins who know of every source.
#[utoipa::path(get, path = "/api/v1/audit", operation_id = "audit", params(Behind), responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn audit(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Asked(behind): Asked<Behind>,
) -> Result<Json<AuditPage>, Problem> {
    may_see_audit(&desk, &person)?;
    let limit = behind.limit.unwrap_or(USUAL);
    if limit == 0 || limit > MOST {
        return Err(Problem::unreadable(format!("limit is between 1 and {MOST}")));
    }
    if behind.cursor == Some(0) {
        return Err(Problem::unreadable("the cursor is none of a page before"));
    }
    let told = desk.tellings.of(&WORDS).await;
    Ok(Json(page(&told, behind.cursor, usize::from(limit))))
}
