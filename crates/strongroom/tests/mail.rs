//! Mail over TLS and with a login, to a server that wants both.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A mail server that takes nothing without TLS and a login; it prints its ports: one that begins in the clear, one that does not.
const RELAY: &str = r#"
import socket, ssl, threading
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("relay.crt", "relay.key")

def known(server, session, envelope, mechanism, said):
    is_right = (said.login, said.password) == (b"strongroom", b"correct horse")
    return AuthResult(success=is_right, handled=False)

words = dict(hostname="127.0.0.1", authenticator=known, auth_required=True)
begun = [
    Controller(Mailbox("starttls"), port=0, tls_context=context, require_starttls=True, **words),
    Controller(Mailbox("tls"), port=0, ssl_context=context, auth_require_tls=False, **words),
]
# It does not say which port 0 became: free ones are looked for here.
for controller in begun:
    with socket.create_server(("127.0.0.1", 0)) as free:
        controller.port = free.getsockname()[1]
    controller.start()
print(*[controller.port for controller in begun], flush=True)
threading.Event().wait()
"#;

/// That server, with a certificate of an authority of its own.
struct Relay {
    child: Child,
    folder: tempfile::TempDir,
    ports: [u16; 2],
}

impl Relay {
    /// `None`, with the reason printed, where it is not installed; in CI that is a failure.
    fn start() -> Option<Relay> {
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/venv/bin/python");
        if !Path::new(python).with_file_name("aiosmtpd").exists() {
            assert!(std::env::var_os("CI").is_none(), "there is no aiosmtpd");
            println!("skipped: there is no aiosmtpd (./test installs it)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let openssl = |words: &str| {
            let output =
                Command::new("openssl").args(words.split(' ')).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        std::fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost").unwrap();
        openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.crt -subj /CN=authority");
        openssl("req -newkey rsa:2048 -nodes -keyout relay.key -out relay.csr -subj /CN=localhost");
        openssl(
            "x509 -req -in relay.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out relay.crt",
        );
        let mut command = Command::new(python);
        command.args(["-c", RELAY]).current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports: Vec<u16> = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Some(Relay { child, folder, ports: [ports[0], ports[1]] })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mails(&self, name: &str) -> Vec<String> {
        let files = std::fs::read_dir(self.path(name).join("new")).into_iter().flatten();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    /// Tries a channel with these settings: whether it was taken, and else why.
    fn tell(&self, channel: &str, authority: &str) -> Option<String> {
        let settings = format!(
            "[vault]\nurl = \"vault\"\n[catalog]\nurl = \"{}\"\n[alert.mail]\nkind = \"smtp\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n{channel}\n",
            self.path("catalog.db").display()
        );
        std::fs::write(self.path("strongroom.toml"), settings).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(["alert", "test", "--output", "json"]).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.folder.path()).env("PATH", "/usr/bin:/bin").env("LETTER", "correct horse");
        command.env("WRONG", "canary horse").env("SSL_CERT_FILE", self.path(authority));
        let output = command.output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(!told.to_string().contains("horse"), "{told}");
        (told[0]["taken"] != true).then(|| told[0]["why"].as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mail_goes_over_tls_and_with_a_login_or_says_what_to_mend() {
    let Some(relay) = Relay::start() else { return };
    let [starttls, tls] = relay.ports;
    let channel = |tls: &str, host: &str, port: u16, login: &str| {
        format!("host = \"{host}\"\nport = {port}\ntls = \"{tls}\"\n{login}")
    };
    let login = "user = \"strongroom\"\npassword = \"env:LETTER\"";
    for (way, port) in [("starttls", starttls), ("tls", tls)] {
        assert_eq!(relay.tell(&channel(way, "localhost", port, login), "ca.crt"), None, "{way}");
        let mails = relay.mails(way);
        assert!(mails.len() == 1 && mails[0].contains("Subject: [strongroom] info: test"), "{mails:?}");
    }
    let wrong = "user = \"strongroom\"\npassword = \"env:WRONG\"";
    for (settings, authority, says) in [
        (channel("starttls", "localhost", starttls, wrong), "ca.crt", "are user and password of the channel"),
        (channel("tls", "localhost", tls, wrong), "ca.crt", "are user and password of the channel"),
        (channel("tls", "localhost", tls, ""), "ca.crt", "it wants user and password: the channel has none"),
        (channel("starttls", "localhost", starttls, login), "relay.crt", "does not trust who signed"),
        (channel("tls", "localhost", tls, login), "relay.crt", "does not trust who signed"),
        (
            channel("starttls", "127.0.0.1", starttls, login),
            "ca.crt",
            "host must be the name in its certificate",
        ),
        (channel("none", "localhost", starttls, login), "ca.crt", "it takes no login without TLS"),
    ] {
        let why = relay.tell(&settings, authority).unwrap_or_else(|| panic!("taken: {settings}"));
        assert!(why.contains(says), "{settings}: {why}");
    }
    // None of these got through.
    assert_eq!((relay.mails("starttls").len(), relay.mails("tls").len()), (1, 1));
}
