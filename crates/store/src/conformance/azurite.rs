//! A real Azure Blob server for tests: `azurite-blob` from npm, started on a free port of the loopback, gone when dropped.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "test support starts a process and says why it cannot"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use crate::bucket::emulator::{ACCOUNT, KEY};

/// A running server.
pub struct AzuriteServer {
    process: Child,
    port: u16,
}

impl AzuriteServer {
    /// Starts a server. `None`, with the reason printed, where `azurite-blob` is not installed; in CI that is a failure.
    pub fn start() -> Option<AzuriteServer> {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
        let installed =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/node/node_modules/.bin/azurite-blob");
        let program = std::env::var_os("STRONGROOM_AZURITE").map_or_else(|| installed.into(), PathBuf::from);
        let process = Command::new(&program)
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
            .args(["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut process = match process {
            Ok(process) => process,
            Err(error) => {
                let why = format!("{} does not start: {error}", program.display());
                assert!(std::env::var_os("CI").is_none(), "{why}");
                println!("skipped: no Azure server, for {why} (./test installs it)");
                return None;
            }
        };
        let said = process.stdout.take();
        let server = AzuriteServer { process, port };
        let mut lines = said.into_iter().flat_map(|said| BufReader::new(said).lines().map_while(Result::ok));
        let listens = lines.by_ref().any(|line| line.contains("successfully listen"));
        assert!(listens, "azurite did not come up on port {port}");
        // What it says later must be read as long as it lives, or its pipe fills up.
        std::thread::spawn(move || lines.for_each(drop));
        Some(server)
    }

    /// `http://127.0.0.1:PORT/devstoreaccount1`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
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
            self.port
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "make container {name}: {answer}");
    }

    /// Ends the server at once.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for AzuriteServer {
    fn drop(&mut self) {
        self.kill();
    }
}
