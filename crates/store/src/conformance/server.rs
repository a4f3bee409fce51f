//! A server of a test: a program started on a free port of the loopback, gone when dropped.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "test support starts a process and says why it cannot"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A program that serves.
pub(super) struct Program {
    /// What it is, for people.
    pub what: &'static str,
    /// The variable that says where it is, and then it is nowhere else.
    pub variable: &'static str,
    /// Where it is otherwise, the first that starts.
    pub usual: &'static [&'static str],
    /// What it is told; the port follows.
    pub arguments: &'static [&'static str],
    /// What it says once it listens.
    pub listens: &'static str,
}

/// A running server.
pub(super) struct Server {
    process: Child,
    pub port: u16,
}

impl Server {
    /// Starts a server. `None`, with the reason printed, where the program is not installed; in CI that is a failure.
    pub fn start(program: &Program) -> Option<Server> {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
        let (said, saying) = std::io::pipe().unwrap();
        let places = match std::env::var_os(program.variable) {
            Some(place) => vec![PathBuf::from(place)],
            None => program.usual.iter().map(PathBuf::from).collect(),
        };
        let mut reasons = Vec::new();
        let started = places.into_iter().find_map(|place| {
            let mut command = Command::new(&place);
            command.args(program.arguments).arg(port.to_string());
            command.stdout(saying.try_clone().unwrap()).stderr(saying.try_clone().unwrap());
            let failed = |error| reasons.push(format!("{} does not start: {error}", place.display()));
            command.spawn().map_err(failed).ok()
        });
        // Held here, it would keep the end of a server that dies from being seen.
        drop(saying);
        let Some(process) = started else {
            let (what, why) = (program.what, reasons.join("; "));
            assert!(std::env::var_os("CI").is_none(), "{why}");
            println!("skipped: no {what}, for {why} (./test installs it)");
            return None;
        };
        // From here on it ends with this value, also when it does not come up.
        let server = Server { process, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut lines = BufReader::new(said).lines().map_while(Result::ok);
        let mut begun = lines.by_ref().take_while(|_| Instant::now() < deadline);
        let listens = begun.any(|line| line.contains(program.listens));
        assert!(listens, "the {} did not come up on port {port}", program.what);
        // What it says later must be read as long as it lives, or its pipe fills up.
        std::thread::spawn(move || lines.for_each(drop));
        Some(server)
    }

    /// Sends a request of HTTP, with `Connection: close`, and gives the answer, which must be of success.
    pub fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{request}\n{answer}");
        answer
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
