//! The views of the page as JSON: the overview, a source, its points and windows, drills, plans, alerts and storage.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use strongroom_model::price::PriceList;
use strongroom_model::{PointId, SourceName, Timestamp};

use super::Routes;
use super::sent::{Asked, Named};
use crate::agent::watch::board::Snapshot;
use crate::context::Context;
use crate::http::access::person::{Act, Person, allowed};
use crate::http::desk::Desk;
use crate::http::gathered::told_of_source;
use crate::http::problem::Problem;
use crate::http::shown::alerts::Alerts;
use crate::http::shown::band::{Band, band};
use crate::http::shown::drills::Drills;
use crate::http::shown::listing::Listed;
use crate::http::shown::overview::{Asked as Page, Overview};
use crate::http::shown::plans::Plans;
use crate::http::shown::source::{Knowledge, PointLine, SourceView, Told, point_lines};
use crate::http::shown::storage::Storage;
use crate::http::shown::{self, Sight};

/// The prices that storage is reckoned by.
const PRICES: &str = include_str!("../../prices.toml");

/// Points on a page, if nothing is said, and at most.
const USUAL: u16 = 100;
const MOST: u16 = 1000;

/// The longest part of a name that is looked for.
const LONGEST_TEXT: usize = 200;

/// The last page that can be asked for.
const LAST_PAGE: u32 = 100_000;

/// These routes.
pub fn add(routes: Routes) -> Routes {
    let routes =
        routes.add(__path_overview, overview).add(__path_sources, sources).add(__path_source, source);
    let routes = routes.add(__path_points, points).add(__path_windows, windows);
    let routes = routes.add(__path_drills, drills).add(__path_plans, plans);
    routes.add(__path_alerts, alerts).add(__path_storage, storage)
}

/// What views are made of.
struct Seen {
    context: Arc<Context>,
    snapshot: Option<Arc<Snapshot>>,
    now: Timestamp,
    person: Person,
}

impl Seen {
    fn of(desk: &Desk, person: Person) -> Seen {
        Seen { context: desk.context(), snapshot: desk.board.last(), now: desk.now(), person }
    }

    fn sight(&self) -> Sight<'_> {
        Sight { snapshot: self.snapshot.as_deref(), settings: &self.context.settings, now: self.now }
    }

    fn may_see(&self) -> impl Fn(&SourceName) -> bool {
        |source| allowed(&self.person, Act::See, source)
    }

    /// A source of the settings that this person may know of.
    fn named(&self, name: &str) -> Result<SourceName, Problem> {
        let name: Option<SourceName> = name.parse().ok();
        let known =
            name.filter(|name| self.context.settings.sources.contains_key(name) && self.may_see()(name));
        known.ok_or_else(|| Problem::not_found("there is no such source"))
    }
}

/// Which sources.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Only those with this in their name or kind.
    #[param(max_length = 200)]
    text: Option<String>,
    /// Only those that stand so: broken, doubtful, unknown, unproven or proven.
    #[param(pattern = "^(broken|doubtful|unknown|unproven|proven)$")]
    standing: Option<String>,
    /// Which page, from 1 on.
    #[param(minimum = 1, maximum = 100000)]
    page: Option<u32>,
}

/// To which second each source can be recovered, the worst first, and how that is known.
#[utoipa::path(get, path = "/api/v1/overview", operation_id = "overview", params(Which), responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn overview(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Asked(which): Asked<Which>,
) -> Result<Json<Overview>, Problem> {
    let seen = Seen::of(&desk, person);
    let standing = which.standing.map(|standing| standing.parse()).transpose();
    let unreadable = |error: strongroom_model::word::UnknownWord| Problem::unreadable(error.to_string());
    let page = which.page.unwrap_or(1);
    if !(1..=LAST_PAGE).contains(&page) {
        return Err(Problem::unreadable(format!("page is between 1 and {LAST_PAGE}")));
    }
    let text = which.text.unwrap_or_default();
    if text.chars().count() > LONGEST_TEXT {
        return Err(Problem::unreadable(format!("text has {LONGEST_TEXT} letters at most")));
    }
    let asked = Page { text, standing: standing.map_err(unreadable)?, page: page as usize };
    Ok(Json(shown::overview::overview(seen.sight(), &asked, seen.may_see())))
}

/// The names of sources.
#[derive(Serialize, utoipa::ToSchema)]
struct Sources {
    /// In order.
    #[schema(value_type = Vec<String>)]
    sources: Vec<SourceName>,
}

/// Every source's name.
#[utoipa::path(get, path = "/api/v1/sources", operation_id = "sources", responses(
    (status = 200, body = Sources),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn sources(State(desk): State<Arc<Desk>>, person: Person) -> Json<Sources> {
    let seen = Seen::of(&desk, person);
    let may_see = seen.may_see();
    let names = seen.context.settings.sources.keys().filter(|name| may_see(name)).cloned();
    Json(Sources { sources: names.collect() })
}

/// One source: its points, windows with gaps, holds, drills, growth, jobs and alerts.
#[utoipa::path(get, path = "/api/v1/sources/{source}", operation_id = "source", params(("source" = String, Path)), responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn source(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Named(name): Named<String>,
) -> Result<Json<SourceView>, Problem> {
    let seen = Seen::of(&desk, person);
    let name = seen.named(&name)?;
    let told = told_of_source(&desk, &name).await;
    let view = shown::source::source(seen.sight(), &name, told);
    view.map(Json).ok_or_else(|| Problem::not_found("there is no such source"))
}

/// Which points.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Behind {
    /// So many.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$")]
    cursor: Option<PointId>,
}

/// A page of points.
#[derive(Serialize, utoipa::ToSchema)]
struct Points {
    /// How they are known, and since when.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    known: Knowledge,
    /// Newest first.
    #[schema(value_type = Vec<Object>)]
    points: Vec<PointLine>,
    /// The cursor of the next page; null: there is none.
    #[schema(value_type = Option<String>)]
    next: Option<PointId>,
}

async fn listed(desk: &Desk, name: &SourceName) -> Told<Listed> {
    told_of_source(desk, name).await.listed
}

/// The points of a source, newest first.
#[utoipa::path(get, path = "/api/v1/sources/{source}/points", operation_id = "points", params(("source" = String, Path), Behind), responses(
    (status = 200, body = Points),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn points(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Named(name): Named<String>,
    Asked(behind): Asked<Behind>,
) -> Result<Json<Points>, Problem> {
    let name = Seen::of(&desk, person).named(&name)?;
    let limit = behind.limit.unwrap_or(USUAL);
    if limit == 0 || limit > MOST {
        return Err(Problem::unreadable(format!("limit is between 1 and {MOST}")));
    }
    let told = listed(&desk, &name).await;
    let all = told.said().map(point_lines).unwrap_or_default();
    let is_behind = |line: &PointLine| behind.cursor.as_ref().is_none_or(|cursor| line.point < *cursor);
    let mut points: Vec<PointLine> = all.into_iter().filter(is_behind).take(usize::from(limit) + 1).collect();
    let has_more = points.len() > usize::from(limit);
    points.truncate(usize::from(limit));
    let next = points.last().filter(|_| has_more).map(|line| line.point.clone());
    Ok(Json(Points { known: told.knowledge(), points, next }))
}

/// To which times a source can be restored.
#[derive(Serialize, utoipa::ToSchema)]
struct Windows {
    /// How they are known, and since when.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    known: Knowledge,
    /// Stretches, gaps and points; null: nothing can be restored, or it is not known.
    #[schema(value_type = Option<Object>)]
    band: Option<Band>,
}

/// To which times a source can be restored, with the gaps.
#[utoipa::path(get, path = "/api/v1/sources/{source}/windows", operation_id = "windows", params(("source" = String, Path)), responses(
    (status = 200, body = Windows),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn windows(
    State(desk): State<Arc<Desk>>,
    person: Person,
    Named(name): Named<String>,
) -> Result<Json<Windows>, Problem> {
    let name = Seen::of(&desk, person).named(&name)?;
    let told = listed(&desk, &name).await;
    let band = match &told {
        Told::Said(at, listed) => band(listed, *at),
        Told::Asking | Told::Silent(_) => None,
    };
    Ok(Json(Windows { known: told.knowledge(), band }))
}

/// What drills proved, the least proven first.
#[utoipa::path(get, path = "/api/v1/drills", operation_id = "drills", responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn drills(State(desk): State<Arc<Desk>>, person: Person) -> Json<Drills> {
    let seen = Seen::of(&desk, person);
    Json(shown::drills::drills(seen.sight(), seen.may_see()))
}

/// Plans, and what the linter finds.
#[utoipa::path(get, path = "/api/v1/plans", operation_id = "plans", responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn plans(State(desk): State<Arc<Desk>>, person: Person) -> Json<Plans> {
    let seen = Seen::of(&desk, person);
    let linted = desk.tellings.of(&["plan", "lint"]).await;
    Json(shown::plans::plans(seen.sight(), &linted, seen.may_see()))
}

/// What is wrong now, and how people are told.
#[utoipa::path(get, path = "/api/v1/alerts", operation_id = "alerts", responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn alerts(State(desk): State<Arc<Desk>>, person: Person) -> Json<Alerts> {
    let seen = Seen::of(&desk, person);
    Json(shown::alerts::alerts(seen.sight(), seen.may_see()))
}

/// What is stored, and what that costs.
#[utoipa::path(get, path = "/api/v1/storage", operation_id = "storage", responses(
    (status = 200, body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn storage(State(desk): State<Arc<Desk>>, person: Person) -> Json<Storage> {
    let seen = Seen::of(&desk, person);
    let prices: Option<PriceList> = toml::from_str(PRICES).ok();
    Json(shown::storage::storage(seen.sight(), prices.as_ref(), seen.may_see()))
}
