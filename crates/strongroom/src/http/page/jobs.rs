//! Jobs, live: what the agent did, does, and is about to do.

use std::time::Duration;

use axum::extract::{Path, Query};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use strongroom_catalog::history::Filter;
use strongroom_catalog::job::JobId;
use strongroom_catalog::{CatalogError, Job, State as JobState};
use strongroom_model::Timestamp;

use crate::http::access::person::{Act, allowed};
use crate::http::page::View;
use crate::http::page::acts::cancel_button;
use crate::http::page::frame::Place;
use crate::http::page::pieces::{ago, in_words, instant, instant_or, table, tone};
use crate::http::shown::jobs::{JobLine, Jobs, job_line, jobs as shown};

/// Jobs that are shown, the newest.
const MOST: i64 = 200;

/// What the address asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    state: String,
    source: String,
}

/// `GET /jobs`
pub async fn jobs(view: View, Query(wanted): Query<Wanted>) -> Response {
    let filter = Filter {
        source: wanted.source.parse().ok(),
        state: wanted.state.parse().ok(),
        most: MOST,
        before: None,
    };
    let read = async {
        let catalog = view.desk.catalog().await.map_err(|failure| failure.detail().to_owned())?;
        let (jobs, agents) =
            tokio::try_join!(catalog.jobs(&filter), catalog.agents()).map_err(|error| error.to_string())?;
        let jobs: Vec<Job> = jobs.into_iter().filter(|job| view.person.knows(job.source.as_ref())).collect();
        Ok::<Jobs, String>(shown(&jobs, &agents, view.now))
    };
    let content = match read.await {
        Ok(jobs) => all(&jobs, &filter),
        Err(why) => html! { h1 { "Jobs" } p.note.bad { "Jobs are not known now: " (why) } },
    };
    view.plain("Jobs", Place::Jobs, &content)
}

/// `GET /jobs/{id}`
pub async fn job(view: View, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<JobId>() else { return view.absent("job") };
    let catalog = match view.desk.catalog().await {
        Ok(catalog) => catalog,
        Err(failure) => {
            let content =
                html! { h1 { "Job " (id) } p.note.bad { "Jobs are not known now: " (failure.detail()) } };
            return view.plain("Jobs", Place::Jobs, &content);
        }
    };
    match catalog.job(id).await {
        Ok(job) if view.person.knows(job.source.as_ref()) => {
            view.plain(&format!("Job {id}"), Place::Jobs, &one(&job, &view))
        }
        Ok(_) | Err(CatalogError::NoSuchJob { .. }) => view.absent("job"),
        Err(error) => {
            let content = html! { h1 { "Job " (id) } p.note.bad { "It is not known now: " (error) } };
            view.plain("Jobs", Place::Jobs, &content)
        }
    }
}

fn all(jobs: &Jobs, filter: &Filter) -> Markup {
    let running = jobs.jobs.iter().filter(|job| job.began.is_some() && job.ended.is_none()).count();
    html! {
        h1 {
            @match running { 0 => "Nothing runs now", 1 => "One job runs now", count => { (count) " jobs run now" } }
        }
        form.search method="get" action="/jobs" {
            label for="state" { "Only those that are" }
            select id="state" name="state" {
                option value="" { "in any state" }
                @for state in JobState::ALL { option value=(state) selected[filter.state == Some(*state)] { (state) } }
            }
            label for="source" { "of source" }
            input id="source" type="search" name="source" value=[filter.source.as_ref()] autocomplete="off" spellcheck="false";
            button type="submit" { "Show" }
        }
        div data-live {
            @if jobs.jobs.is_empty() { p.empty { "There is no such job." } }
            @else { (job_table("The newest jobs", &jobs.jobs, jobs.at)) }
            (agents(jobs))
        }
    }
}

fn agents(jobs: &Jobs) -> Markup {
    let rows: Vec<Markup> = jobs
        .agents
        .iter()
        .map(|agent| html! { tr { th scope="row" { (agent.name) } td { (agent.build) } td { (ago(agent.seen, jobs.at)) } } })
        .collect();
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="agents" {
                h2 id="agents" { "Agents" }
                (table("Agents that were heard of", &["agent", "build", "last heard of"], &rows))
            }
        }
    }
}

fn took_words(seconds: u64) -> String {
    if seconds == 0 { "under 1 s".to_owned() } else { in_words(Duration::from_secs(seconds)) }
}

/// Jobs in a table.
pub fn job_table(caption: &str, jobs: &[JobLine], now: Timestamp) -> Markup {
    let rows: Vec<Markup> = jobs.iter().map(|job| row(job, now)).collect();
    html! {
        @if rows.is_empty() { p.empty { "None yet." } }
        @else { (table(caption, &[">job", "what", "source", "state", "due", ">took", "rule"], &rows)) }
    }
}

fn row(job: &JobLine, now: Timestamp) -> Markup {
    html! {
        tr {
            th.number scope="row" { a href={ "/jobs/" (job.id) } { (job.id) } }
            td { (job.what) }
            td { @match &job.source { Some(source) => a href={ "/sources/" (source) } { (source) }, None => "–" } }
            td { (tone(job.tone, &job.state)) }
            td { (instant(job.due)) }
            td.number { @match (job.took_s, job.ended) {
                (Some(took), Some(_)) => (took_words(took)),
                (Some(_), None) => { @if let Some(began) = job.began { "began " (ago(began, now)) } },
                (None, _) => "–",
            } }
            td { (job.rule) }
        }
    }
}

fn one(job: &Job, view: &View) -> Markup {
    let line = job_line(job, view.now);
    let may_cancel = line.can_cancel
        && job.source.as_ref().is_none_or(|source| allowed(&view.person, Act::Cancel, source))
        && view.person.role >= Act::Cancel.role();
    html! {
        p.trail { a href="/jobs" { "Jobs" } " / " (job.id) }
        h1 { (line.what) @if let Some(source) = &line.source { " of " a href={ "/sources/" (source) } { (source) } } }
        div data-live {
            p { (tone(line.tone, &line.state)) }
            @if may_cancel { div.acts { (cancel_button(view, job.id)) } }
            dl.figures {
                div { dt { "Due" } dd { (instant(job.due)) } }
                div { dt { "Began" } dd { (instant_or(job.began, "not yet")) } }
                div { dt { "Ended" } dd { (instant_or(job.ended, "not yet")) } }
                div { dt { "Attempts" } dd { (job.attempt) } }
                div { dt { "Ordered by" } dd { @if line.rule.is_empty() { "–" } @else { (line.rule) } } }
                @if let Some(person) = &job.person { div { dt { "Wanted by" } dd { (person) } } }
                div { dt { "Agent" } dd { (job.owner.as_deref().unwrap_or("–")) } }
            }
            @if let Some(said) = &job.said {
                h2 { "What it said" }
                pre tabindex="0" aria-label="What it said" { (said) }
            }
            @if let Some(result) = &job.result {
                h2 { "What it came to" }
                pre tabindex="0" aria-label="What it came to" { (format!("{result:#}")) }
            }
        }
    }
}
