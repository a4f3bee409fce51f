//! The agent's HTTP server: metrics and health for machines, the API and the page for people.
//!
//! ```text
//! connection ▶ door (TLS, so many at once, no dawdling) ▶ guard (limits, headers) ▶ routes ▶ desk: board · catalog · settings
//! ```
//!
//! ```text
//! GET /metrics   Prometheus' text format; 503 before the first round of the watch
//! GET /healthz   200 as long as the agent answers at all
//! GET /readyz    200 once the vault has said what it holds, 503 while it does not
//! ```
//!
//! **Invariants**
//! - Nobody who reads leads to the vault oftener than the watch looks at it, and what is answered says how old it is.
//! - Nobody outside this host reads anything before it is known who asks, unless the settings say that a proxy sees to that.

pub mod tls;
mod problem;
pub mod access;
pub mod shown;
mod told;
pub mod desk;
mod door;
mod witness;
mod entry;
mod sign;
mod guard;
mod acts;
mod gathered;
mod api;
mod page;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::agent::metrics;
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::http::access::person::Person;
use crate::http::desk::Desk;
use crate::http::tls::Certificates;

/// As Prometheus asks for it.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Connections that wait to be taken.
const QUEUE: u32 = 1024;

/// Where the agent answers, and with which certificate.
pub struct Opened {
    listener: TcpListener,
    /// `None`: plain HTTP.
    pub certificates: Option<Arc<Certificates>>,
}

impl Opened {
    /// `https://127.0.0.1:8432`
    pub fn address(&self) -> Option<String> {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        self.listener.local_addr().ok().map(|address| format!("{scheme}://{address}"))
    }
}

/// Listens where the settings say; `None` if they say nothing.
pub async fn bind(context: &Context) -> Result<Option<Opened>, Failure> {
    let Some(http) = &context.settings.http else { return Ok(None) };
    let certificates = Certificates::of(context)?.map(Arc::new);
    let taken = |error: std::io::Error| {
        let failure = Failure::new(Code::Settings, format!("listen for HTTP on {}: {error}", http.listen));
        failure.hint("is another agent there? listen in [http] takes another address or port")
    };
    let listener = listen(http.listen).map_err(taken)?;
    Ok(Some(Opened { listener, certificates }))
}

/// A usual queue is shorter than what comes at once when many look: who finds it full waits a second before the next try.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Answers until `leave` says so. Who keeps a connection open does not keep the agent.
pub async fn serve(opened: Opened, desk: Arc<Desk>, mut leave: watch::Receiver<bool>) {
    let routes = routes(Arc::clone(&desk));
    tokio::select! {
        () = door::keep(opened.listener, opened.certificates, routes) => {}
        _ = leave.wait_for(|leave| *leave) => {}
    }
}

/// Everything that is answered.
fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/metrics", get(samples))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .merge(api::routes())
        .merge(page::routes())
        .fallback(api::nothing)
        .method_not_allowed_fallback(api::no_such_method)
        .layer(DefaultBodyLimit::max(guard::LONGEST_BODY))
        .layer(from_fn_with_state(Arc::clone(&desk), guard::guard))
        .with_state(desk)
}

/// Names of sources are in it: beyond this host it is for those who may see.
async fn samples(State(desk): State<Arc<Desk>>, mut parts: Parts) -> Response {
    let context = desk.context();
    let is_open = context
        .settings
        .http
        .as_ref()
        .is_some_and(|http| http.listen.ip().is_loopback() || http.behind_proxy);
    if !is_open && let Err(problem) = Person::from_request_parts(&mut parts, &desk).await {
        return problem.into_response();
    }
    match desk.board.last() {
        Some(snapshot) => {
            ([(CONTENT_TYPE, TEXT_FORMAT)], metrics::page(&snapshot, desk.now())).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "nothing was looked at yet\n").into_response(),
    }
}

async fn ready(State(desk): State<Arc<Desk>>) -> Response {
    match desk.board.last() {
        Some(snapshot) if !snapshot.is_silent => "ready\n".into_response(),
        Some(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the vault does not say what it holds\n").into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "nothing was looked at yet\n").into_response(),
    }
}
