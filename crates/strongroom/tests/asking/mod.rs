//! A running agent, and what it answers over HTTP and HTTPS.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::live::{Site, until};

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl Answer {
    fn read(text: &str) -> Option<Answer> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(Answer { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
    }

    /// A header's value; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A port that nobody listens at.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn request((method, path): (&str, &str), headers: &[(&str, &str)], body: Option<&str>) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    text + "\r\n" + body.unwrap_or_default()
}

/// Asks over TLS, as somebody who trusts that certificate alone.
pub fn ask_privately(
    port: u16,
    trusted: &Path,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let client = ClientConnection::new(config, ServerName::try_from("localhost")?)?;
    let mut stream = StreamOwned::new(client, TcpStream::connect(("127.0.0.1", port))?);
    stream.write_all(request(("GET", path), headers, None).as_bytes())?;
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text);
    let answer = Answer::read(&String::from_utf8_lossy(&text));
    answer.ok_or_else(|| format!("no answer: {read:?}").into())
}

/// A running agent.
pub struct Agent<'a> {
    site: &'a Site,
    child: Child,
    port: u16,
}

impl<'a> Agent<'a> {
    /// Starts one, and waits until it answers.
    pub fn start(site: &'a Site, port: u16) -> Agent<'a> {
        let agent = Agent::start_privately(site, port);
        until("the agent to answer", || agent.try_send("GET", "/healthz", &[], None).is_some());
        agent
    }

    /// Starts one that answers over TLS.
    pub fn start_privately(site: &'a Site, port: u16) -> Agent<'a> {
        let log = File::create(site.path("agent.log")).unwrap();
        let child = site.command(&["run", "-v"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Agent { site, child, port }
    }

    fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Option<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let text = request((method, path), headers, body).replace("PORT", &self.port.to_string());
        // What is too long is answered before it is read.
        let _ = stream.write_all(text.as_bytes());
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        Answer::read(&String::from_utf8_lossy(&text))
    }

    /// Asks.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        self.try_send(method, path, headers, body).unwrap_or_else(|| panic!("{method} {path}: no answer"))
    }

    /// `GET`
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, None)
    }

    /// `POST` of JSON.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send("POST", path, headers, Some(&body.to_string()))
    }

    /// Waits until its log has this.
    pub fn says(&self, text: &str) {
        let log = || std::fs::read_to_string(self.site.path("agent.log")).unwrap();
        until(&format!("'{text}'"), || log().contains(text));
    }

    /// Has it read its settings again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Ends it as systemd would.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let log = || std::fs::read_to_string(self.site.path("agent.log")).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", log());
    }
}

/// A person's cookie, and what they send as x-csrf-token.
pub fn signed_in(agent: &Agent, name: &str, password: &str) -> (String, String) {
    let credentials = serde_json::json!({ "name": name, "password": password });
    let answer = agent.post("/api/v1/session", &[], &credentials);
    assert_eq!(answer.status, 201, "{answer:?}");
    let cookie = answer.header("set-cookie");
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let (cookie, _) = cookie.split_once(';').unwrap();
    (cookie.to_owned(), answer.json()["csrf"].as_str().unwrap().to_owned())
}
