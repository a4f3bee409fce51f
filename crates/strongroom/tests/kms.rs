//! Vaults whose key is wrapped by a service: AWS KMS (on moto's), and transit, whose documented API a stand-in in this file
//! speaks, for no Vault or OpenBao runs here.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use live::said;
use strongroom_store::conformance::moto::MotoServer;

fn run(folder: &std::path::Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.current_dir(folder).env_clear().args(arguments);
    command
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1");
    command.envs(environment.iter().copied()).output().unwrap()
}

fn with(folder: &std::path::Path, environment: &[(&str, &str)], code: i32, arguments: &[&str]) -> String {
    let output = run(folder, environment, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    said(&output)
}

#[test]
fn a_key_of_kms_opens_the_vault_and_no_other_does() {
    let Some(mut server) = MotoServer::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (key, other, endpoint) = (server.make_kms_key(), server.make_kms_key(), server.endpoint());
    let aws = [("AWS_ENDPOINT_URL_KMS", endpoint.as_str())];
    with(at, &aws, 0, &["init", "--vault", "vault", "--kms-key", &key]);
    with(at, &aws, 0, &["list", "--vault", "vault", "--kms-key", &key]);
    assert!(with(at, &aws, 7, &["list", "--vault", "vault"]).contains("no passphrase"));
    assert!(with(at, &aws, 7, &["list", "--vault", "vault", "--kms-key", &other]).contains("does not open"));
    let listed = with(at, &aws, 0, &["key", "list", "--vault", "vault", "--kms-key", &key]);
    assert!(listed.contains(&format!("AWS KMS {key} in us-east-1")), "{listed}");
    // Another vault's copy is refused, by the same key: the vault's id is part of it.
    with(at, &aws, 0, &["init", "--vault", "second", "--kms-key", &key]);
    let slot = |vault: &str| {
        let folder = std::fs::read_dir(at.join(vault).join("keys")).unwrap().next().unwrap().unwrap().path();
        folder.join("1")
    };
    let own = std::fs::read(slot("vault")).unwrap();
    std::fs::write(slot("vault"), std::fs::read(slot("second")).unwrap()).unwrap();
    assert!(with(at, &aws, 7, &["list", "--vault", "vault", "--kms-key", &key]).contains("does not open"));
    std::fs::write(slot("vault"), own).unwrap();
    // A second way in, then KMS is gone.
    std::fs::write(at.join("passphrase"), "correct horse battery\n").unwrap();
    let add = ["key", "add", "--vault", "vault", "--kms-key", &key, "--new-passphrase-file", "passphrase"];
    with(at, &aws, 0, &add);
    let swap = ["key", "rotate", "1", "--vault", "vault", "--kms-key", &key, "--new-kms-key", &other];
    with(at, &aws, 0, &swap);
    assert!(with(at, &aws, 7, &["list", "--vault", "vault", "--kms-key", &key]).contains("does not open"));
    with(at, &aws, 0, &["list", "--vault", "vault", "--kms-key", &other]);
    server.kill();
    let silent = with(at, &aws, 7, &["list", "--vault", "vault", "--kms-key", &other]);
    assert!(silent.contains("did not answer") && !silent.contains("does not open"), "{silent}");
    let both = ["list", "--vault", "vault", "--kms-key", &other, "--passphrase-file", "passphrase"];
    with(at, &aws, 0, &both);
}

/// Answers `encrypt` and `decrypt` of the transit engine as its API says, for one token.
struct StandIn {
    port: u16,
}

const TOKEN: &str = "s.canary";

impl StandIn {
    fn start() -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let kept = Arc::new(Mutex::new(BTreeMap::new()));
        std::thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || answer(stream, &kept));
            });
        });
        StandIn { port }
    }

    fn key(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/v1/transit/keys/{name}", self.port)
    }
}

/// What was encrypted: key, plaintext and associated data, by ciphertext.
type Kept = Mutex<BTreeMap<String, (String, String, String)>>;

fn answer(mut stream: TcpStream, kept: &Kept) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length, mut token) = (String::new(), 0, String::new());
    reader.read_line(&mut head).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim().to_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("x-vault-token", value)) => token = value.to_owned(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let (status, said) = match token == TOKEN {
        false => ("403 Forbidden", serde_json::json!({ "errors": ["permission denied"] })),
        true => act(path, &body, kept),
    };
    let said = said.to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}",
        said.len()
    );
}

fn act(path: &str, body: &serde_json::Value, kept: &Kept) -> (&'static str, serde_json::Value) {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let mut kept = kept.lock().unwrap();
    let (action, key) = path.strip_prefix("/v1/transit/").unwrap().split_once('/').unwrap();
    if action == "encrypt" {
        let ciphertext = format!("vault:v1:{}", kept.len());
        kept.insert(ciphertext.clone(), (key.to_owned(), text("plaintext"), text("associated_data")));
        return ("200 OK", serde_json::json!({ "data": { "ciphertext": ciphertext } }));
    }
    match kept.get(&text("ciphertext")) {
        Some((of, plaintext, with)) if of == key && *with == text("associated_data") => {
            ("200 OK", serde_json::json!({ "data": { "plaintext": plaintext } }))
        }
        _ => ("400 Bad Request", serde_json::json!({ "errors": ["cipher: message authentication failed"] })),
    }
}

#[test]
fn a_transit_key_opens_the_vault_and_the_token_is_never_shown() {
    let server = StandIn::start();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let key = server.key("backups");
    let token = [("VAULT_TOKEN", TOKEN)];
    let settings = format!("[vault]\nurl = \"vault\"\ntransit_key = \"{key}\"\n");
    std::fs::write(at.join("strongroom.toml"), settings).unwrap();
    with(at, &token, 0, &["init"]);
    with(at, &token, 0, &["list"]);
    let listed = with(at, &token, 0, &["key", "list"]);
    assert!(listed.contains(&format!("transit {key}")), "{listed}");
    assert!(with(at, &[], 3, &["list"]).contains("VAULT_TOKEN"));
    let refused = with(at, &[("VAULT_TOKEN", "s.other")], 7, &["list", "-vv"]);
    assert!(refused.contains("does not open") && refused.contains("permission denied"), "{refused}");
    assert!(!refused.contains("s.other"), "the token is shown: {refused}");
    let other = server.key("other");
    assert!(with(at, &token, 7, &["list", "--transit-key", &other]).contains("does not open"));
    // A copy of the key in the vault cannot name the server that is asked.
    let slot = std::fs::read_dir(at.join("vault/keys")).unwrap().next().unwrap().unwrap().path().join("1");
    let text = std::fs::read_to_string(&slot).unwrap();
    std::fs::write(&slot, text.replace(&key, "http://attacker.invalid/v1/transit/keys/backups")).unwrap();
    with(at, &token, 0, &["list"]);
    std::fs::write(at.join("token"), format!("{TOKEN}\n")).unwrap();
    let settings =
        format!("[vault]\nurl = \"vault\"\ntransit_key = \"{key}\"\ntransit_token_file = \"token\"\n");
    std::fs::write(at.join("strongroom.toml"), settings).unwrap();
    with(at, &[], 0, &["list"]);
    assert!(
        with(at, &[], 3, &["list", "--transit-key", "https://vault/keys/x"]).contains("is no transit key")
    );
}

#[test]
fn a_passphrase_comes_from_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let write = |command: &str| {
        let text = format!("[vault]\nurl = \"vault\"\npassphrase_command = \"{command}\"\n");
        std::fs::write(at.join("strongroom.toml"), text).unwrap();
    };
    write("echo correct horse battery; echo the rest");
    with(at, &[], 0, &["init"]);
    with(at, &[], 0, &["list"]);
    write("echo wrong");
    with(at, &[], 7, &["list"]);
    write("exit 3");
    assert!(
        with(at, &[], 3, &["list"])
            .contains("passphrase_command: run the command that prints it: exit status: 3")
    );
    write("true");
    assert!(with(at, &[], 3, &["list"]).contains("it printed nothing"));
}
