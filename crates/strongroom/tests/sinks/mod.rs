//! What takes alerts in tests: an HTTP server of a few lines, and a real mail server.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for something that another process does.
fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        // A process outside ours gives no signal to wait for.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A request that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Taken {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Takes every request and keeps it, or refuses all.
pub struct HttpSink {
    port: u16,
    taken: Arc<Mutex<Vec<Taken>>>,
    refuses: Arc<Mutex<bool>>,
}

impl HttpSink {
    pub fn start() -> HttpSink {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sink = HttpSink { port, taken: Arc::default(), refuses: Arc::default() };
        let (taken, refuses) = (Arc::clone(&sink.taken), Arc::clone(&sink.refuses));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let refuses = *refuses.lock().unwrap();
                if let Some(request) = answer(stream, refuses).filter(|_| !refuses) {
                    taken.lock().unwrap().push(request);
                }
            }
        });
        sink
    }

    pub fn refusing() -> HttpSink {
        let sink = HttpSink::start();
        sink.refuse(true);
        sink
    }

    pub fn refuse(&self, refuses: bool) {
        *self.refuses.lock().unwrap() = refuses;
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The first request to this path, once it has come.
    pub fn taken(&self, path: &str) -> Taken {
        wait(path, || self.all().into_iter().find(|taken| taken.path == path))
    }

    pub fn all(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, refuses: bool) -> Option<Taken> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, length)| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let (status, said) = if refuses { ("403 Forbidden", "go away") } else { ("200 OK", "ok") };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}", said.len())
        .ok()?;
    Some(Taken { path, headers, body: String::from_utf8(body).ok()? })
}

/// aiosmtpd, from where `./test` puts it: it keeps what it takes in a maildir.
pub struct MailSink {
    child: Child,
    folder: tempfile::TempDir,
    pub port: u16,
}

impl MailSink {
    /// `None`, with the reason printed, where it is not installed; in CI that is a failure.
    pub fn start() -> Option<MailSink> {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/venv/bin/aiosmtpd");
        if !Path::new(program).exists() {
            assert!(std::env::var_os("CI").is_none(), "there is no aiosmtpd");
            println!("skipped: there is no aiosmtpd (./test installs it)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let maildir = folder.path().join("mail");
        let mut command = Command::new(program);
        command
            .args(["-n", "-l", &format!("127.0.0.1:{port}"), "-c", "aiosmtpd.handlers.Mailbox"])
            .arg(&maildir);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait("the mail server", || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(MailSink { child, folder, port })
    }

    /// Everything that came, once something has.
    pub fn mail(&self) -> String {
        wait("mail", || Some(self.mails()).filter(|mails| !mails.is_empty())).join("\n")
    }

    /// The first mail with this text, once it has come.
    pub fn mail_that_says(&self, text: &str) -> String {
        wait(text, || self.mails().into_iter().find(|mail| mail.contains(text)))
    }

    fn mails(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.path().join("mail/new")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
    }
}

impl Drop for MailSink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A topic of the SNS at `endpoint` that hands on to `subscriber`; its ARN.
pub fn topic(endpoint: &str, subscriber: &str) -> String {
    let ask = |form: &str| {
        let address = endpoint.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "POST / HTTP/1.1\r\nhost: sns.us-east-1.amazonaws.com\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sns/aws4_request, SignedHeaders=host, Signature=0\r\n\
             content-length: {}\r\n\r\n{form}",
            form.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let made = ask("Action=CreateTopic&Version=2010-03-31&Name=backups");
    let (_, rest) = made.split_once("<TopicArn>").unwrap_or_else(|| panic!("{made}"));
    let arn = rest.split('<').next().unwrap().to_owned();
    let subscriber = subscriber.replace(':', "%3A").replace('/', "%2F");
    let topic = arn.replace(':', "%3A");
    ask(&format!("Action=Subscribe&Version=2010-03-31&TopicArn={topic}&Protocol=http&Endpoint={subscriber}"));
    arn
}
