//! What every request goes through, whatever it asks for: how often, how large, how long, and what browsers are told.
//!
//! **Invariants**
//! - Every answer has the headers, also one that says no.
//! - No page of ours runs or shows what is not ours, and no page of others shows ours.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::desk::Desk;
use crate::http::entry::peer;
use crate::http::problem::Problem;
use crate::http::witness::{Scene, stranger, witness_refusal};

/// The longest body that is read.
pub const LONGEST_BODY: usize = 64 << 10;

/// How long an answer may take, the reading of its request counted.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of a page: everything from this host, nothing inline, and in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Lets a request through, or says why not.
pub async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let peer = peer(&parts, &desk.context().settings);
    let response = match desk.buckets.take(peer.address, desk.now()) {
        false => {
            let problem =
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "this address asks too often")
                    .after(Duration::from_secs(1));
            let scene = Scene { verb: "request", from: peer.address.to_string(), ..Scene::default() };
            witness_refusal(&desk, &stranger(), &scene, &problem);
            problem.into_response()
        }
        true => match tokio::time::timeout(PATIENCE, next.run(Request::from_parts(parts, body))).await {
            Ok(response) => response,
            Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-slow", "no answer came in time")
                .after(Duration::from_secs(5))
                .into_response(),
        },
    };
    with_headers(response)
}

fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let always: [(HeaderName, &'static str); 5] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // With none at all browsers would not say where a form of ours comes from.
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in always {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
