//! What may be done from here: a button or a form for each act that the person may have done, and what becomes of it.

use axum::Form;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use strongroom_catalog::JobId;
use strongroom_model::SourceName;

use crate::agent::deed::Deed;
use crate::http::access::person::{Act, allowed};
use crate::http::acts::{Ordered, Wish, act as have_done, cancel as call_off};
use crate::http::page::View;
use crate::http::page::sign::{Meant, check_form, hidden};
use crate::http::problem::Problem;
use crate::http::shown::source::PointLine;
use crate::settings::parse_time;

/// What a form says.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Said {
    csrf: String,
    /// What makes the same form the same order, however often it is sent.
    key: String,
    act: String,
    source: String,
    point: String,
    reason: String,
    until: String,
    folder: String,
    at: String,
    over: String,
    confirm: String,
}

impl Said {
    /// What is to be done. Empty fields say nothing.
    fn deed(&self) -> Result<Deed, Problem> {
        let source: SourceName = self.source.parse().map_err(unreadable)?;
        let point = some(&self.point, |text| text.parse().map_err(unreadable))?;
        let named = || point.clone().ok_or_else(|| Problem::unreadable("the form names no recovery point"));
        let time = |text: &str| parse_time(text).map_err(Problem::unreadable);
        let (reason, folder) = (self.reason.clone(), self.folder.clone());
        Ok(match self.act.as_str() {
            "backup" => Deed::Backup { source },
            "verify" => Deed::Verify { source },
            "drill" => Deed::Drill { source },
            "hold" => Deed::Hold { source, point: named()?, reason, until: some(&self.until, time)? },
            "release" => Deed::Release { source, point: named()?, reason },
            "restore" => {
                Deed::Restore { source, folder, at: some(&self.at, time)?, point, over: self.over == "yes" }
            }
            _ => return Err(Problem::unreadable("the form names no act that there is")),
        })
    }
}

fn unreadable(error: impl std::fmt::Display) -> Problem {
    Problem::unreadable(error.to_string())
}

/// What is read from a field, if there is anything in it.
pub fn some<T>(text: &str, read: impl Fn(&str) -> Result<T, Problem>) -> Result<Option<T>, Problem> {
    let text = text.trim();
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

/// `POST /acts`
pub async fn act(view: View, Form(said): Form<Said>) -> Response {
    let done = async {
        check_form(&view, &said.csrf)?;
        let key = Some(said.key.clone()).filter(|key| !key.is_empty());
        let confirm = Some(said.confirm.trim().to_owned()).filter(|confirm| !confirm.is_empty());
        have_done(&view.desk, &view.person, Wish { deed: said.deed()?, confirm, key }).await
    };
    match done.await {
        Ok(Ordered::Job(_, job)) => Redirect::to(&format!("/jobs/{}", job.id)).into_response(),
        Ok(Ordered::Request(..)) => Redirect::to("/requests").into_response(),
        Err(problem) => view.refused(&problem),
    }
}

/// `POST /jobs/{id}/cancel`
pub async fn cancel(view: View, Path(id): Path<JobId>, Form(meant): Form<Meant>) -> Response {
    let done = async {
        meant.check(&view)?;
        call_off(&view.desk, &view.person, id).await
    };
    match done.await {
        Ok(job) => Redirect::to(&format!("/jobs/{}", job.id)).into_response(),
        Err(problem) => view.refused(&problem),
    }
}

/// What every form of an act begins with.
pub fn begun(view: &View, act: &str, source: &SourceName) -> Markup {
    // 128 random bits: nobody else's form has the same.
    let key = u128::from_be_bytes(view.context.cx.random());
    html! {
        (hidden(&view.person))
        input type="hidden" name="key" value=(format!("{key:032x}"));
        input type="hidden" name="act" value=(act);
        input type="hidden" name="source" value=(source);
    }
}

/// What may be done to a source, as buttons.
pub fn acts_of(view: &View, source: &SourceName) -> Markup {
    let may = |act: Act| view.person.csrf.is_some() && allowed(&view.person, act, source);
    let buttons = [
        (Act::BackUp, "backup", "Back up now"),
        (Act::Verify, "verify", "Verify"),
        (Act::Drill, "drill", "Drill now"),
    ];
    html! {
        @if buttons.iter().any(|(act, ..)| may(*act)) {
            div.acts role="group" aria-label="What can be done" {
                @for (_, word, words) in buttons.iter().filter(|(act, ..)| may(*act)) {
                    form method="post" action="/acts" { (begun(view, word, source)) button type="submit" { (words) } }
                }
                @if may(Act::Restore) { a.button href={ "/sources/" (source) "/restore" } { "Restore…" } }
            }
        }
    }
}

/// What may be done to one point: it is held, or released.
pub fn acts_of_point(view: &View, source: &SourceName, point: &PointLine) -> Markup {
    let (act, word, words) = match point.held {
        false => (Act::Hold, "hold", "Hold"),
        true => (Act::Release, "release", "Release"),
    };
    let may = view.person.csrf.is_some() && allowed(&view.person, act, source) && point.is_restorable;
    html! {
        @if may {
            details.act {
                summary aria-label={ (words) " " (point.point) } { (words) "…" }
                form.form method="post" action="/acts" {
                    (begun(view, word, source))
                    input type="hidden" name="point" value=(point.point);
                    label { "Why" input name="reason" required maxlength="500" autocomplete="off"; }
                    @if point.held {
                        label {
                            "Its name, " (source) ", to say that you mean it"
                            input name="confirm" required autocomplete="off" spellcheck="false";
                        }
                    } @else {
                        label { "Until (2027-01-31T00:00:00Z); empty: until it is released" input name="until" autocomplete="off"; }
                    }
                    button.grave[point.held].main[!point.held] type="submit" { (words) }
                }
            }
        }
    }
}

/// Calls a job off.
pub fn cancel_button(view: &View, id: JobId) -> Markup {
    html! {
        form method="post" action={ "/jobs/" (id) "/cancel" } { (hidden(&view.person)) button type="submit" { "Call it off" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(act: &str) -> Said {
        Said { act: act.into(), source: "orders".into(), ..Said::default() }
    }

    #[test]
    fn a_form_says_one_act_or_none() {
        for act in ["backup", "verify", "drill", "restore"] {
            assert!(said(act).deed().is_ok(), "{act}");
        }
        for act in ["hold", "release", "sweep", "", "Backup"] {
            assert!(said(act).deed().is_err(), "{act}");
        }
        let point = "20261120T120000Z-1f2e3d4c".to_owned();
        let hold = Said { point, reason: "case 7".into(), ..said("hold") };
        assert!(matches!(hold.deed(), Ok(Deed::Hold { until: None, .. })));
        assert!(Said { until: "some day".into(), ..hold }.deed().is_err());
        assert!(Said { source: "../x".into(), ..said("backup") }.deed().is_err());
        let over = Said { over: "yes".into(), folder: "copy".into(), ..said("restore") };
        assert!(matches!(over.deed(), Ok(Deed::Restore { over: true, at: None, point: None, .. })));
    }
}
