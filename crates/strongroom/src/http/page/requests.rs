//! What waits for a second person.

use axum::Form;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use strongroom_catalog::job::RequestState;
use strongroom_catalog::requests::Request;

use crate::http::access::person::{Act, allowed};
use crate::http::acts::{approve, decline};
use crate::http::page::View;
use crate::http::page::frame::Place;
use crate::http::page::pieces::{ago, table, until};
use crate::http::page::sign::{Meant, hidden};
use crate::http::problem::Problem;

/// Requests that are shown, the newest.
const MOST: i64 = 100;

/// `GET /requests`
pub async fn requests(view: View) -> Response {
    let read = async { Ok::<_, Problem>(view.desk.catalog().await?.requests(MOST, view.now).await?) };
    match read.await {
        Ok(mut requests) => {
            requests.retain(|request| view.person.knows(request.source.as_ref()));
            view.plain("Requests", Place::Elsewhere, &content(&view, &requests))
        }
        Err(problem) => view.refused(&problem),
    }
}

/// `POST /requests/{id}/approve` and `…/decline`
pub async fn decide(
    view: View,
    Path((id, decision)): Path<(i64, String)>,
    Form(meant): Form<Meant>,
) -> Response {
    if let Err(problem) = meant.check(&view) {
        return view.refused(&problem);
    }
    match decision.as_str() {
        "approve" => match approve(&view.desk, &view.person, id).await {
            Ok(job) => Redirect::to(&format!("/jobs/{}", job.id)).into_response(),
            Err(problem) => view.refused(&problem),
        },
        "decline" => match decline(&view.desk, &view.person, id).await {
            Ok(_) => Redirect::to("/requests").into_response(),
            Err(problem) => view.refused(&problem),
        },
        _ => view.absent("decision"),
    }
}

fn content(view: &View, requests: &[Request]) -> Markup {
    let waiting = requests.iter().filter(|request| request.state == RequestState::Waiting).count();
    let rows: Vec<Markup> = requests.iter().map(|request| row(view, request)).collect();
    html! {
        h1 {
            @match waiting { 0 => "Nothing waits for a second person", 1 => "One request waits for a second person", count => { (count) " requests wait for a second person" } }
        }
        @if !rows.is_empty() {
            (table("Requests, newest first", &["request", "what", "who wants it", "state", "decided by", "acts"], &rows))
        }
    }
}

fn row(view: &View, request: &Request) -> Markup {
    let is_own = request.person == view.person.name;
    let may = view.person.csrf.is_some()
        && request.state == RequestState::Waiting
        && request.source.as_ref().is_some_and(|source| allowed(&view.person, Act::Approve, source));
    html! {
        tr {
            th scope="row" { (request.id) }
            td { (request.kind) @if let Some(source) = &request.source { " of " a href={ "/sources/" (source) } { (source) } } span.by { code { (request.act) } } }
            td { (request.person) span.by { (ago(request.asked, view.now)) } }
            td { (request.state) @if request.state == RequestState::Waiting { span.by { "lapses " (until(request.lapses, view.now)) } } }
            td { @match &request.decided_by { Some(person) => (person), None => "–" } @if let Some(job) = request.job { " " a href={ "/jobs/" (job) } { "job " (job) } } }
            td {
                @if may {
                    div.acts {
                        @if !is_own { (decision(view, request.id, "approve", "Agree")) }
                        (decision(view, request.id, "decline", if is_own { "Take back" } else { "Decline" }))
                    }
                }
            }
        }
    }
}

fn decision(view: &View, id: i64, word: &str, words: &str) -> Markup {
    html! {
        form method="post" action={ "/requests/" (id) "/" (word) } { (hidden(&view.person)) button type="submit" { (words) } }
    }
}
