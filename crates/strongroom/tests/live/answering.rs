//! An agent that answers over HTTP.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Site, until};

/// A running agent.
pub struct Agent<'a> {
    pub site: &'a Site,
    pub child: Child,
    pub port: u16,
}

impl<'a> Agent<'a> {
    /// One whose settings have it listen on this port, once it answers.
    pub fn start(site: &'a Site, port: u16) -> Agent<'a> {
        let log = File::options().create(true).append(true).open(site.path("agent.log")).unwrap();
        let child = site.command(&["run", "-v"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let agent = Agent { site, child, port };
        until("the agent to answer", || agent.get("/healthz").is_some_and(|answer| answer.contains(" 200 ")));
        agent
    }

    /// Status line, headers and body.
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    pub fn says(&self, path: &str, words: &str) -> bool {
        self.get(path).is_some_and(|page| page.contains(words))
    }

    /// The value of a sample.
    pub fn metric(&self, sample: &str) -> Option<f64> {
        let page = self.get("/metrics")?;
        page.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
    }

    pub fn stop(mut self) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::TERM).unwrap();
        let log = || std::fs::read_to_string(self.site.path("agent.log")).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", log());
    }
}
