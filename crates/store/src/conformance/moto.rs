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
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
        let mut process = match spawn(port) {
            Ok(process) => process,
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "{why}");
                println!("skipped: no S3 server, for {why} (./test installs it)");
                return None;
            }
        };
        let log = process.stderr.take();
        // From here on it ends with this value, also when it does not come up.
        let server = MotoServer { process, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut lines = log.into_iter().flat_map(|log| BufReader::new(log).lines().map_while(Result::ok));
        // It says so when it listens; what it says later must be read as long as it lives, or its pipe fills up.
        let mut begun = lines.by_ref().take_while(|_| Instant::now() < deadline);
        let listens = begun.any(|line| line.contains("Running on"));
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
        self.ask("PUT", name, "");
    }

    /// Makes a bucket with object lock.
    pub fn make_locking_bucket(&self, name: &str) {
        self.ask("PUT", name, "x-amz-bucket-object-lock-enabled: true\r\n");
    }

    /// Overwrites an object with nothing, as whoever does not ask first does.
    pub fn put_empty(&self, path: &str) {
        self.ask("PUT", path, "");
    }

    /// Makes an empty object of this storage class.
    pub fn put_frozen(&self, path: &str, class: &str) {
        self.ask("PUT", path, &format!("x-amz-storage-class: {class}\r\n"));
    }

    /// Moves an object into another storage class, as a lifecycle does.
    pub fn move_to(&self, path: &str, class: &str) {
        let header = format!(
            "x-amz-copy-source: /{path}\r\nx-amz-storage-class: {class}\r\nx-amz-metadata-directive: REPLACE\r\n"
        );
        self.ask("PUT", path, &header);
    }

    /// Deletes an object, as whoever may delete does.
    pub fn delete(&self, path: &str) {
        self.ask("DELETE", path, "");
    }

    /// Every key of a bucket.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let listing = self.ask("GET", bucket, "");
        let keys = listing.split("<Key>").skip(1);
        keys.filter_map(|rest| rest.split("</Key>").next().map(str::to_owned)).collect()
    }

    /// Makes a key of KMS; its id.
    pub fn make_kms_key(&self) -> String {
        let header = "X-Amz-Target: TrentService.CreateKey\r\nContent-Type: application/x-amz-json-1.1\r\n";
        let answer = self.ask_service("kms", ("POST", ""), header, "{}");
        let (_, rest) = answer.split_once("\"KeyId\"").unwrap();
        rest.split('"').nth(1).unwrap().to_owned()
    }

    /// What the server says of `path`: status line and headers, lower case.
    pub fn headers(&self, path: &str) -> String {
        self.ask("HEAD", path, "").to_lowercase()
    }

    fn ask(&self, method: &str, path: &str, header: &str) -> String {
        self.ask_service("s3", (method, path), header, "")
    }

    fn ask_service(&self, service: &str, (method, path): (&str, &str), header: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\nConnection: close\r\n{header}\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n{body}",
            self.port,
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        answer
    }

    /// Ends the server at once.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where the program may be: where the environment says and nowhere else, or on `PATH`, or where `./test` puts it.
fn programs() -> Vec<PathBuf> {
    match std::env::var_os("STRONGROOM_MOTO_SERVER") {
        Some(program) => vec![program.into()],
        None => {
            let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/venv/bin/moto_server");
            vec!["moto_server".into(), installed.into()]
        }
    }
}

/// The first program that starts, or why each does not.
fn spawn(port: u16) -> Result<Child, String> {
    let mut reasons = Vec::new();
    for program in programs() {
        let mut command = Command::new(&program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        match command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() {
            Ok(process) => return Ok(process),
            Err(error) => reasons.push(format!("{} does not start: {error}", program.display())),
        }
    }
    Err(reasons.join("; "))
}

impl Drop for MotoServer {
    fn drop(&mut self) {
        self.kill();
    }
}
