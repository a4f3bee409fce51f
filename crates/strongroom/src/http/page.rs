//! The web page: what the vault can give back, and how that is known; for people, without a script as well.
//!
//! ```text
//! GET  /                   every source, the worst first: to which second it can be recovered, and how that is known
//! GET  /sources/{source}   one of them: gaps, points, holds, drills, growth, jobs, and what may be done
//! GET  /sources/{source}/restore   a restore: where to, its plan, and the name to type
//! GET  /jobs /jobs/{id}    what the agent did, does, and is about to do      POST /jobs/{id}/cancel
//! GET  /drills /storage /plans /alerts
//! GET  /requests           what waits for a second person                    POST /requests/{id}/approve|decline
//! GET  /audit              who did what, for admins
//! POST /acts               has something done
//! GET  /sign-in            POST /sign-in /sign-out
//! GET  /assets/{name}      style, script and mark, at addresses that their content decides
//! ```
//!
//! **Invariants**
//! - A page is made of what is known already; where a verb must be asked first, the page says that it is being asked.
//! - Nothing is loaded from elsewhere, and no page has a script or a style in its text.
//! - What a person may not know of is on no page of theirs; what they may not have done has no button, and is refused all the same.
//! - Whatever changes something comes from a form of ours: it holds what only our pages know.

mod pieces;
mod chart;
mod assets;
mod frame;
mod sign;
mod alerts;
mod acts;
mod overview;
mod jobs;
mod source;
mod drills;
mod storage;
mod plans;
mod restore;
mod requests;
mod audit;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use strongroom_model::{SourceName, Timestamp};

use crate::agent::watch::board::Snapshot;
use crate::context::Context;
use crate::http::access::person::{Act, Person, allowed_everywhere};
use crate::http::desk::Desk;
use crate::http::page::frame::{Frame, Freshness, Place, framed};
use crate::http::problem::Problem;
use crate::http::shown::Sight;

/// The page's routes.
pub fn routes() -> Router<Arc<Desk>> {
    Router::new()
        .route("/", get(overview::overview))
        .route("/sources/{source}", get(source::source))
        .route("/jobs", get(jobs::jobs))
        .route("/jobs/{id}", get(jobs::job))
        .route("/drills", get(drills::drills))
        .route("/storage", get(storage::storage))
        .route("/plans", get(plans::plans))
        .route("/alerts", get(alerts::alerts))
        .route("/sources/{source}/restore", get(restore::restore))
        .route("/jobs/{id}/cancel", post(acts::cancel))
        .route("/acts", post(acts::act))
        .route("/audit", get(audit::audit))
        .route("/requests", get(requests::requests))
        .route("/requests/{id}/{decision}", post(requests::decide))
        .route("/sign-in", get(sign::form).post(sign::enter))
        .route("/sign-out", post(sign::leave))
        .route("/assets/{name}", get(assets::asset))
}

/// What a page is made of, and for whom.
struct View {
    desk: Arc<Desk>,
    context: Arc<Context>,
    snapshot: Option<Arc<Snapshot>>,
    now: Timestamp,
    person: Person,
}

/// Who is not signed in is led to where one does that.
impl FromRequestParts<Arc<Desk>> for View {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<View, Response> {
        match Person::from_request_parts(parts, desk).await {
            Ok(person) => Ok(View {
                desk: Arc::clone(desk),
                context: desk.context(),
                snapshot: desk.board.last(),
                now: desk.now(),
                person,
            }),
            Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => {
                Err(Redirect::to("/sign-in").into_response())
            }
            Err(problem) => Err(stranger(desk, "Refused", &told(&problem), problem.status())),
        }
    }
}

impl View {
    fn sight(&self) -> Sight<'_> {
        Sight { snapshot: self.snapshot.as_deref(), settings: &self.context.settings, now: self.now }
    }

    /// Whether the person may know of this source.
    fn may_see(&self, source: &SourceName) -> bool {
        self.person.knows(Some(source))
    }

    /// The source of this name, if there is one that the person may know of.
    fn source(&self, name: &str) -> Option<SourceName> {
        let name: SourceName = name.parse().ok()?;
        let is_known = self.context.settings.sources.contains_key(&name) && self.may_see(&name);
        is_known.then_some(name)
    }

    /// A page that is made of what the vault said.
    fn page(&self, title: &str, place: Place, content: &Markup) -> Response {
        let stale = self.sight().staleness();
        self.framed(title, (place, Some((self.sight().read_at(), stale.as_deref()))), content)
    }

    /// A page that is not.
    fn plain(&self, title: &str, place: Place, content: &Markup) -> Response {
        self.framed(title, (place, None), content)
    }

    fn framed(
        &self,
        title: &str,
        (place, freshness): (Place, Option<Freshness<'_>>),
        content: &Markup,
    ) -> Response {
        let facts = self.snapshot.as_ref().map(|snapshot| &snapshot.facts);
        let alerts = facts.into_iter().flat_map(|facts| &facts.alerts);
        let is_seen = |source: Option<&SourceName>| source.is_none_or(|source| self.may_see(source));
        let alerts = alerts.filter(|alert| is_seen(alert.condition.source.as_ref())).count();
        let person = sign::card(
            &self.person,
            self.context.settings.http.as_ref().is_some_and(|http| http.second_person),
        );
        let sees_audit = allowed_everywhere(&self.person, Act::SeeAudit);
        let (now, is_inside) = (self.now, true);
        let frame = Frame { title, place, now, freshness, alerts, is_inside, sees_audit, person };
        Html(framed(&frame, content).into_string()).into_response()
    }

    /// There is no such thing.
    fn absent(&self, what: &str) -> Response {
        let content = html! {
            section.lonely {
                h1 { "There is no such " (what) }
                p { a href="/" { "All sources" } }
            }
        };
        let page = self.plain(&format!("No such {what}"), Place::Elsewhere, &content);
        (StatusCode::NOT_FOUND, page).into_response()
    }

    /// It was not done.
    fn refused(&self, problem: &Problem) -> Response {
        (problem.status(), self.plain("Not done", Place::Elsewhere, &told(problem))).into_response()
    }
}

/// A problem, for people.
fn told(problem: &Problem) -> Markup {
    html! {
        section.lonely {
            h1 { "This was not done" }
            p.note.bad role="alert" { (problem.detail()) }
            @if let Some(hint) = problem.way_out() { p { (hint) } }
            p { a href="/" { "All sources" } }
        }
    }
}

/// A page for who is not signed in.
fn stranger(desk: &Desk, title: &str, content: &Markup, status: StatusCode) -> Response {
    let frame = Frame {
        title,
        place: Place::Elsewhere,
        now: desk.now(),
        freshness: None,
        alerts: 0,
        is_inside: false,
        sees_audit: false,
        person: html! {},
    };
    (status, Html(framed(&frame, content).into_string())).into_response()
}
