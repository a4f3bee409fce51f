//! The agent's HTTP server: metrics, and whether it lives and is ready. It reads what the watch saw last, and changes nothing.
//!
//! ```text
//! GET /metrics   Prometheus' text format; 503 before the first round of the watch
//! GET /healthz   200 as long as the agent answers at all
//! GET /readyz    200 once the vault has said what it holds, 503 while it does not
//! ```

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use strongroom_model::Cx;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::agent::metrics::page;
use crate::agent::watch::board::Board;
use crate::context::Context;
use crate::failure::{Code, Failure};

/// As Prometheus asks for it.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What requests are answered from.
#[derive(Clone)]
struct Source {
    cx: Cx,
    board: Arc<Board>,
}

/// Listens where the settings say; `None` if they say nothing.
pub async fn bind(context: &Context) -> Result<Option<TcpListener>, Failure> {
    let Some(http) = &context.settings.http else { return Ok(None) };
    let taken = |error: std::io::Error| {
        let failure = Failure::new(Code::Settings, format!("listen for HTTP on {}: {error}", http.listen));
        failure.hint("is another agent there? listen in [http] takes another address or port")
    };
    TcpListener::bind(http.listen).await.map(Some).map_err(taken)
}

/// Answers until `leave` says so.
pub async fn serve(listener: TcpListener, cx: Cx, board: Arc<Board>, mut leave: watch::Receiver<bool>) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Source { cx, board });
    let left = async move {
        let _ = leave.wait_for(|leave| *leave).await;
    };
    // Who keeps a connection open does not keep the agent.
    tokio::select! {
        served = axum::serve(listener, routes).into_future() => {
            if let Err(error) = served {
                tracing::error!("metrics are no longer served: {error}");
            }
        }
        () = left => {}
    }
}

async fn metrics(State(source): State<Source>) -> Response {
    match source.board.last() {
        Some(snapshot) => ([(CONTENT_TYPE, TEXT_FORMAT)], page(&snapshot, source.cx.now())).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "nothing was looked at yet\n").into_response(),
    }
}

async fn ready(State(source): State<Source>) -> Response {
    match source.board.last() {
        Some(snapshot) if !snapshot.is_silent => "ready\n".into_response(),
        Some(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the vault does not say what it holds\n").into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "nothing was looked at yet\n").into_response(),
    }
}
