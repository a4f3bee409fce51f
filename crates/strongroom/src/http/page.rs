//! The web page: what the vault can give back, and how that is known; for people, without a script as well.
//!
//! ```text
//! GET /                  every source, the worst first: to which second it can be recovered, and how that is known
//! GET /sources/{source}  one of them: gaps, points, holds, drills, growth, jobs
//! GET /jobs /jobs/{id}   what the agent did, does, and is about to do
//! GET /drills /storage /plans /alerts
//! GET /assets/{name}     style, script and mark, at addresses that their content decides
//! ```
//!
//! **Invariants**
//! - A page is made of what is known already; where a verb must be asked first, the page says that it is being asked.
//! - Nothing is loaded from elsewhere, and no page has a script or a style in its text.

mod pieces;
mod chart;
mod assets;
mod frame;
mod overview;
mod source;
mod jobs;
mod drills;
mod storage;
mod plans;
mod alerts;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use maud::{Markup, html};
use strongroom_model::Timestamp;

use crate::agent::watch::board::Snapshot;
use crate::context::Context;
use crate::http::desk::Desk;
use crate::http::page::frame::{Frame, Place, framed};
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
        .route("/assets/{name}", get(assets::asset))
}

/// What a page is made of.
struct View {
    desk: Arc<Desk>,
    context: Arc<Context>,
    snapshot: Option<Arc<Snapshot>>,
    now: Timestamp,
}

impl View {
    fn of(desk: Arc<Desk>) -> View {
        let (context, snapshot, now) = (desk.context(), desk.board.last(), desk.now());
        View { desk, context, snapshot, now }
    }

    fn sight(&self) -> Sight<'_> {
        Sight { snapshot: self.snapshot.as_deref(), settings: &self.context.settings, now: self.now }
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
        (place, freshness): (Place, Option<(Option<Timestamp>, Option<&str>)>),
        content: &Markup,
    ) -> Response {
        let alerts = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.facts.alerts.len());
        let frame = Frame { title, place, now: self.now, freshness, alerts, person: html! {} };
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
}
