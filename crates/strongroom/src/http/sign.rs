//! Signing in and out: the same for the page's form and for the API.
//!
//! **Invariants**
//! - Whether the name or the password was wrong is told to nobody; nor is it by the time that the answer takes.
//! - A wrong try is counted before the password is looked at.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::http::access::person::{By, Person};
use crate::http::desk::Desk;
use crate::http::door::Peer;
use crate::http::entry::{cookie_name, is_own_origin, peer, session_id};
use crate::http::problem::Problem;
use crate::http::witness::{Scene, claimed, stranger, witness, witness_refusal};

/// The longest password that is looked at.
const LONGEST: usize = 1024;

/// What somebody says to sign in.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The name in `[user.NAME]`.
    #[schema(max_length = 64)]
    pub name: String,
    /// The password.
    #[schema(max_length = 1024, value_type = String)]
    #[serde(deserialize_with = "wiped_after")]
    pub password: Zeroizing<String>,
}

fn wiped_after<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

/// Signed in.
pub struct Signed {
    /// For `set-cookie`.
    pub cookie: HeaderValue,
    /// What forms must hold.
    pub csrf: String,
}

/// Lets somebody in.
pub async fn sign_in(desk: &Arc<Desk>, parts: &Parts, credentials: Credentials) -> Result<Signed, Problem> {
    let context = desk.context();
    let peer = peer(parts, &context.settings);
    let claims = claimed(&context.settings, &credentials.name);
    let scene = Scene { verb: "sign-in", from: peer.address.to_string(), claims, ..Scene::default() };
    match enter(desk, (parts, peer), credentials).await {
        Ok((person, signed)) => {
            witness(desk, &person, &Scene { claims: None, ..scene });
            Ok(signed)
        }
        Err(problem) => {
            witness_refusal(desk, &stranger(), &scene, &problem);
            Err(problem)
        }
    }
}

async fn enter(
    desk: &Arc<Desk>,
    (parts, peer): (&Parts, Peer),
    credentials: Credentials,
) -> Result<(Person, Signed), Problem> {
    let context = desk.context();
    if is_own_origin(parts) == Some(false) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "wrong-origin",
            "the form is of another host's page",
        ));
    }
    let Credentials { name, password } = credentials;
    let shown: String = name.chars().take(64).collect();
    if let Some(wait) = desk.attempts.begin(&shown, peer.address, desk.now()) {
        let seconds = wait.as_secs_f64().ceil();
        let detail = format!("too many wrong passwords: try again in {seconds} s");
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", detail).after(wait));
    }
    let known = name.parse().ok();
    let password = if password.len() > LONGEST { Zeroizing::default() } else { password };
    let passes = desk.trials.passes(&context, known.as_ref(), password).await;
    let entry = known.as_ref().and_then(|name| context.settings.users.get(name));
    let (true, Some(name), Some(entry)) = (passes, &known, entry) else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "wrong-password",
            "the name or the password is wrong",
        )
        .hint("`strongroom access password NAME` prints the lines that let somebody in"));
    };
    desk.attempts.passed(&shown, peer.address);
    let (id, csrf) = desk.sessions.begin(&context.cx, name, entry);
    let (name, role) = (name.to_string(), entry.role);
    let person = Person { name, role, sources: None, by: By::Session, csrf: None };
    let length = context.settings.http.as_ref().map_or(0, |http| http.session_length.0.as_secs());
    Ok((person, Signed { cookie: cookie(&id, peer, length), csrf }))
}

/// Shows somebody out; the cookie that takes the old one's place.
pub fn sign_out(desk: &Desk, parts: &Parts, person: &Person) -> HeaderValue {
    let peer = peer(parts, &desk.context().settings);
    if let Some(id) = session_id(&parts.headers, peer.is_private) {
        desk.sessions.end(id);
        let from = peer.address.to_string();
        witness(desk, person, &Scene { verb: "sign-out", from, ..Scene::default() });
    }
    cookie("", peer, 0)
}

fn cookie(id: &str, peer: Peer, seconds: u64) -> HeaderValue {
    let secure = if peer.is_private { "; Secure" } else { "" };
    let text = format!(
        "{}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}",
        cookie_name(peer.is_private)
    );
    // Hexadecimal digits and our own words: a header's value cannot refuse them.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
