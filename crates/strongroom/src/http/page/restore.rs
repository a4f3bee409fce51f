//! A restore: where to and to when, then its plan, and the source's name to type. Nothing is touched before that.

use axum::extract::{Path, Query};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use strongroom_model::SourceName;

use crate::agent::deed::Deed;
use crate::http::access::person::{Act, allowed};
use crate::http::acts::restore_plan;
use crate::http::page::View;
use crate::http::page::acts::{begun, some};
use crate::http::page::frame::Place;
use crate::http::page::pieces::{bytes, seconds};
use crate::http::problem::Problem;
use crate::settings::parse_time;

/// What the address says.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    folder: String,
    at: String,
    point: String,
    over: String,
}

impl Wanted {
    fn deed(&self, source: &SourceName) -> Result<Deed, Problem> {
        Ok(Deed::Restore {
            source: source.clone(),
            folder: self.folder.clone(),
            at: some(&self.at, |text| parse_time(text).map_err(Problem::unreadable))?,
            point: some(&self.point, |text| {
                text.parse().map_err(|_| Problem::unreadable("that is no recovery point"))
            })?,
            over: self.over == "yes",
        })
    }
}

/// `GET /sources/{source}/restore`
pub async fn restore(view: View, Path(name): Path<String>, Query(wanted): Query<Wanted>) -> Response {
    let Some(source) = view.source(&name) else { return view.absent("source") };
    if !allowed(&view.person, Act::Restore, &source) {
        return view.refused(&Problem::not_allowed("a restore takes the role operator"));
    }
    let planned = match wanted.folder.is_empty() {
        true => None,
        false => Some(plan(&view, &source, &wanted).await),
    };
    let content = content(&view, &source, (&wanted, planned));
    view.plain(&format!("Restore {source}"), Place::Sources, &content)
}

async fn plan(view: &View, source: &SourceName, wanted: &Wanted) -> Result<Value, Problem> {
    restore_plan(&view.desk, &view.person, &wanted.deed(source)?).await
}

fn content(
    view: &View,
    source: &SourceName,
    (wanted, planned): (&Wanted, Option<Result<Value, Problem>>),
) -> Markup {
    let place = view.context.settings.http.as_ref().and_then(|http| http.restore_to.as_ref());
    html! {
        p.trail { a href="/" { "Sources" } " / " a href={ "/sources/" (source) } { (source) } " / restore" }
        h1 { "Restore " (source) " into a folder on this agent’s host" }
        @match place {
            None => p.note.look { "The settings name no folder that restores may go into: restore_to of [http] does." },
            Some(place) => {
                p.lead { "Into a folder of " code { (place.display()) } ". The source itself is not touched." }
                (asked(wanted))
                @match planned {
                    Some(Ok(plan)) => (agreed(view, source, (wanted, &plan))),
                    Some(Err(problem)) => {
                        p.note.bad role="alert" { (problem.detail()) }
                        @if let Some(hint) = problem.way_out() { p { (hint) } }
                    },
                    None => {},
                }
            }
        }
    }
}

/// Where to, and to when.
fn asked(wanted: &Wanted) -> Markup {
    html! {
        form.form method="get" {
            label { "Folder: its name alone" input name="folder" value=(wanted.folder) required maxlength="100" pattern="[A-Za-z0-9_][A-Za-z0-9._-]*" autocomplete="off" spellcheck="false"; }
            label { "To this time (2026-11-20T12:00:00Z); empty: as far as there is WAL" input name="at" value=(wanted.at) autocomplete="off"; }
            label { "From this recovery point; empty: the best one" input name="point" value=(wanted.point) autocomplete="off" spellcheck="false"; }
            label {
                "If a copy of the same cluster is in the folder"
                select name="over" { option value="" { "refuse" } option value="yes" selected[wanted.over == "yes"] { "write over what differs" } }
            }
            button type="submit" { "Show the plan" }
        }
    }
}

/// The plan's figures; what it does not say is left out.
fn planned(plan: &Value) -> Markup {
    let text = |value: &Value| {
        value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|number| number.to_string()))
    };
    let size = |value: &Value| value.as_u64().map(|size| bytes(Some(size)));
    let takes = ["pages", "replay"].iter().filter_map(|phase| plan["estimate"][phase]["seconds"].as_f64());
    let takes: f64 = takes.sum();
    let figures = [
        ("Recovery point", text(&plan["point"]["point"])),
        ("Taken of", text(&plan["point"]["product"])),
        ("Restores from", text(&plan["point"]["stopped_at"])),
        ("Timeline", text(&plan["timeline"])),
        ("Bytes to write", size(&plan["point"]["bytes"])),
        ("WAL to replay", size(&plan["estimate"]["replay_bytes"])),
        ("Takes about", (takes > 0.0).then(|| seconds(takes))),
    ];
    let notes = plan["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    html! {
        dl.figures { @for (name, figure) in figures { @if let Some(figure) = figure { div { dt { (name) } dd { (figure) } } } } }
        @for note in notes { p.note.look { (note) } }
    }
}

/// The plan, and what says that it is meant.
fn agreed(view: &View, source: &SourceName, (wanted, plan): (&Wanted, &Value)) -> Markup {
    html! {
        section aria-labelledby="plan" {
            h2 id="plan" { "The plan" }
            (planned(plan))
            details { summary { "All of it, as `restore --dry-run --output json` prints it" } pre tabindex="0" aria-label="The plan in full" { (format!("{plan:#}")) } }
            form.form method="post" action="/acts" {
                (begun(view, "restore", source))
                input type="hidden" name="folder" value=(wanted.folder);
                input type="hidden" name="at" value=(wanted.at);
                input type="hidden" name="point" value=(wanted.point);
                input type="hidden" name="over" value=(wanted.over);
                label {
                    "Type " (source) " to have it done"
                    input name="confirm" required autocomplete="off" spellcheck="false";
                }
                button.grave type="submit" { "Restore" }
            }
        }
    }
}
