//! A real S3 server for tests: `moto_server` from PyPI, started on a free port of the loopback, gone when dropped.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "test support starts a process and says why it cannot"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server.
pub struct MotoServer {
    process: Child,
    port: u16,
}

impl MotoServer {
    /// Starts a server. `None`, with the reason printed, where `moto_server` is not installed; in CI that is a failure.
    pub fn start() -> Option<MotoServer> {
        let program = std::env::var_os("STRONGROOM_MOTO_SERVER")
            .map_or_else(|| PathBuf::from("moto_server"), PathBuf::from);
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
        let mut command = Command::new(&program);
        command
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = match command.spawn() {
            Ok(process) => process,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "start {}: {error}", program.display());
                println!(
                    "skipped: no S3 server, for {} does not start: {error} (./test installs it)",
                    program.display()
                );
                return None;
            }
        };
        let log = process.stderr.take();
        // From here on it ends with this value, also when it does not come up.
        let server = MotoServer { process, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        let lines = log.into_iter().flat_map(|log| BufReader::new(log).lines().map_while(Result::ok));
        // It says so when it listens; what it says later must be read, or its pipe fills up.
        let mut lines = lines.take_while(move |_| Instant::now() < deadline);
        let listens = lines.any(|line| line.contains("Running on"));
        assert!(listens, "moto_server did not come up on port {port}");
        std::thread::spawn(move || lines.for_each(drop));
        Some(server)
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!(
            "PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
            self.port
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "make bucket {name}: {answer}");
    }

    /// Ends the server at once.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for MotoServer {
    fn drop(&mut self) {
        self.kill();
    }
}
