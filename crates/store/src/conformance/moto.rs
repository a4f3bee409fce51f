//! A real S3 server for tests: `moto_server` from PyPI, started on a free port of the loopback, gone when dropped.

use super::server::{Program, Server};

const MOTO: Program = Program {
    what: "S3 server",
    variable: "STRONGROOM_MOTO_SERVER",
    // On `PATH`, or where `./test` puts it.
    usual: &["moto_server", concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/venv/bin/moto_server")],
    arguments: &["-H", "127.0.0.1", "-p"],
    listens: "Running on",
};

/// A running server.
pub struct MotoServer(Server);

impl MotoServer {
    /// Starts a server. `None`, with the reason printed, where `moto_server` is not installed; in CI that is a failure.
    pub fn start() -> Option<MotoServer> {
        Server::start(&MOTO).map(MotoServer)
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port)
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
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\nConnection: close\r\n{header}\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n{body}",
            self.0.port,
            body.len()
        );
        self.0.ask(&request)
    }

    /// Ends the server at once.
    pub fn kill(&mut self) {
        self.0.kill();
    }
}
