//! A real Azure Blob server for tests: `azurite-blob` from npm, started on a free port of the loopback, gone when dropped.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::server::{Program, Server};

pub use crate::bucket::emulator::{ACCOUNT, KEY};

const AZURITE: Program = Program {
    what: "Azure server",
    variable: "STRONGROOM_AZURITE",
    usual: &[concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/node/node_modules/.bin/azurite-blob")],
    arguments: &[
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
        "--disableTelemetry",
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
    ],
    listens: "successfully listen",
};

/// A running server.
pub struct AzuriteServer(Server);

impl AzuriteServer {
    /// Starts a server. `None`, with the reason printed, where `azurite-blob` is not installed; in CI that is a failure.
    pub fn start() -> Option<AzuriteServer> {
        Server::start(&AZURITE).map(AzuriteServer)
    }

    /// `http://127.0.0.1:PORT/devstoreaccount1`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.0.port)
    }

    /// Makes a container (Azure Blob REST API, "Authorize with Shared Key").
    pub fn make_container(&self, name: &str) {
        const VERSION: &str = "2021-08-06";
        const DATE: &str = "Sat, 21 Nov 2026 00:00:00 GMT";
        let headers = format!("x-ms-date:{DATE}\nx-ms-version:{VERSION}\n");
        let resource = format!("/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container");
        let signed = format!("PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}{resource}");
        let key = Key::new(HMAC_SHA256, &STANDARD.decode(KEY).unwrap());
        let signature = STANDARD.encode(sign(&key, signed.as_bytes()));
        let request = format!(
            "PUT /{ACCOUNT}/{name}?restype=container HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\nConnection: close\r\n\
             x-ms-date: {DATE}\r\nx-ms-version: {VERSION}\r\nAuthorization: SharedKey {ACCOUNT}:{signature}\r\n\r\n",
            self.0.port
        );
        self.0.ask(&request);
    }

    /// Ends the server at once.
    pub fn kill(&mut self) {
        self.0.kill();
    }
}
