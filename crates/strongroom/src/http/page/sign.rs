//! Signing in and out, and who one is.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::stranger;
use crate::http::access::person::{By, Person};
use crate::http::desk::Desk;
use crate::http::entry::is_same;
use crate::http::page::View;
use crate::http::problem::Problem;
use crate::http::sign::{Credentials, sign_in, sign_out};
use crate::http::witness::{Scene, witness_refusal};

/// What every form of somebody who is signed in holds.
#[derive(Deserialize)]
pub struct Meant {
    /// What only our pages know.
    #[serde(default)]
    csrf: String,
}

/// Refuses a form that is not ours.
fn check_meant(person: &Person, csrf: &str) -> Result<(), Problem> {
    match person.csrf.as_deref().is_some_and(|known| is_same(known, csrf)) {
        true => Ok(()),
        false => {
            Err(Problem::not_allowed("the form is not one of this page, or of a session that has ended")
                .hint("sign in, go back and try again"))
        }
    }
}

/// Refuses such a form, and writes that down.
pub fn check_form(view: &View, csrf: &str) -> Result<(), Problem> {
    check_meant(&view.person, csrf).inspect_err(|problem| {
        let scene = Scene { verb: "request", what: "a form of another page".to_owned(), ..Scene::default() };
        witness_refusal(&view.desk, &view.person, &scene, problem);
    })
}

/// The hidden part of every form.
pub fn hidden(person: &Person) -> Markup {
    html! { @if let Some(csrf) = &person.csrf { input type="hidden" name="csrf" value=(csrf); } }
}

/// Who one is, and the way out.
pub fn card(person: &Person, second_person: bool) -> Markup {
    html! {
        @if second_person { a href="/requests" { "Requests" } }
        @match person.by {
            By::Loopback => span { "viewer" },
            _ => span { strong { (person.name) } ", " (person.role) },
        }
        @if person.by == By::Session {
            form method="post" action="/sign-out" { (hidden(person)) button.quiet type="submit" { "Sign out" } }
        }
    }
}

/// `GET /sign-in`
pub async fn form(State(desk): State<Arc<Desk>>) -> Response {
    stranger(&desk, "Sign in", &asked(None), StatusCode::OK)
}

fn asked(wrong: Option<&Problem>) -> Markup {
    html! {
        section.lonely {
            h1 { "Sign in to see what can be recovered" }
            @if let Some(problem) = wrong { p.note.bad role="alert" { (problem.detail()) "." } }
            form.form method="post" action="/sign-in" {
                label { "Name" input name="name" autocomplete="username" required maxlength="64" spellcheck="false"; }
                label { "Password" input name="password" type="password" autocomplete="current-password" required maxlength="1024"; }
                button.main type="submit" { "Sign in" }
            }
        }
    }
}

/// `POST /sign-in`
pub async fn enter(State(desk): State<Arc<Desk>>, parts: Parts, Form(said): Form<Credentials>) -> Response {
    match sign_in(&desk, &parts, said).await {
        Ok(signed) => ([(SET_COOKIE, signed.cookie)], Redirect::to("/")).into_response(),
        Err(problem) => stranger(&desk, "Sign in", &asked(Some(&problem)), problem.status()),
    }
}

/// `POST /sign-out`
pub async fn leave(view: View, parts: Parts, Form(said): Form<Meant>) -> Response {
    if let Err(problem) = check_form(&view, &said.csrf) {
        return view.refused(&problem);
    }
    let cookie = sign_out(&view.desk, &parts, &view.person);
    ([(SET_COOKIE, cookie)], Redirect::to("/sign-in")).into_response()
}

/// What such a form held.
impl Meant {
    /// Refuses one that is not ours.
    pub fn check(&self, view: &View) -> Result<(), Problem> {
        check_form(view, &self.csrf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::access::Role;

    #[test]
    fn only_a_form_of_the_same_session_is_meant() {
        let person = |csrf: Option<&str>| Person {
            name: "ada".into(),
            role: Role::Admin,
            sources: None,
            by: By::Session,
            csrf: csrf.map(str::to_owned),
        };
        for (known, sent, passes) in [
            (Some("c5f"), "c5f", true),
            (Some("c5f"), "c5e", false),
            (Some("c5f"), "", false),
            (None, "", false),
        ] {
            assert_eq!(check_meant(&person(known), sent).is_ok(), passes, "{known:?} {sent}");
        }
    }
}
