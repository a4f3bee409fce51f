//! Connections come in: so many at a time, with TLS where the settings have a certificate, each with a bound on how long it may
//! dawdle.
//!
//! **Invariants**
//! - A client that sends its headers drop by drop is let go: it holds one of many places, and not for long.
//! - A connection that breaks, or never was HTTP, is nobody's business but its client's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::http::tls::Certificates;

/// Connections at a time; the next ones wait in the system's queue.
const CONNECTIONS: usize = 512;

/// How long a client may take for its handshake, and for the headers of each request; as long a connection stays open idly.
const PATIENCE: Duration = Duration::from_secs(15);

/// Bytes of headers at most.
const LONGEST_HEADERS: usize = 32 << 10;

/// Before the next try when the system has no room for a connection.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// Who connected.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// From where.
    pub address: IpAddr,
    /// Whether nobody in between can read along.
    pub is_private: bool,
}

/// Takes connections for as long as it is asked to.
pub async fn keep(listener: TcpListener, certificates: Option<Arc<Certificates>>, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a connection cannot be taken: {error}");
                // Connections that are open are requests: when they end there is room again.
                let _ = tokio::time::timeout(AFTER_REFUSAL, std::future::pending::<()>()).await;
                continue;
            }
        };
        let (certificates, routes) = (certificates.clone(), routes.clone());
        tokio::spawn(async move {
            attend(stream, address.ip().to_canonical(), (certificates, routes)).await;
            drop(place);
        });
    }
}

async fn attend(
    stream: TcpStream,
    address: IpAddr,
    (certificates, routes): (Option<Arc<Certificates>>, Router),
) {
    // Answers are small: they go at once.
    let _ = stream.set_nodelay(true);
    match certificates {
        None => answer(stream, Peer { address, is_private: false }, routes).await,
        Some(certificates) => {
            let shaken = TlsAcceptor::from(certificates.now()).accept(stream);
            match tokio::time::timeout(PATIENCE, shaken).await {
                Ok(Ok(stream)) => answer(stream, Peer { address, is_private: true }, routes).await,
                Ok(Err(error)) => tracing::debug!("no TLS with {address}: {error}"),
                Err(_) => tracing::debug!("no TLS with {address} in time"),
            }
        }
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: Peer, routes: Router) {
    let service = TowerToHyperService::new(routes.layer(Extension(peer)));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(LONGEST_HEADERS);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("a connection of {} broke: {error}", peer.address);
    }
}
