//! Whose keys a bucket is asked with: the profile files, the environment, and which of them outweighs which.
//!
//! The environment is a process's own, so each case is this program again, with that environment. The server takes down
//! what the request was signed with, and refuses it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "tests write files and read their surroundings"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use strongroom_store::{Bucket, BucketOptions, Key, Store};

const CREDENTIALS: &str = "\
[default]
aws_access_key_id = OF-DEFAULT
aws_secret_access_key = secret
[session]
aws_access_key_id = OF-SESSION
aws_secret_access_key = secret
aws_session_token = its-token
";
const CONFIG: &str = "[default]\nregion = eu-central-1\n[profile session]\nregion = eu-west-1\n\
                      [profile role]\nrole_arn = arn:aws:iam::1:role/r\n";

/// Where the process of a case is told which profile its options name (`-` for none).
const TOLD: &str = "STRONGROOM_TEST_PROFILE";

/// The first request's key, region and session token: `OF-DEFAULT eu-central-1 -`.
fn taking_down(listener: TcpListener) -> JoinHandle<Option<String>> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().ok()?;
        let (mut signed, mut token) = (String::new(), "-".to_owned());
        for line in BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok) {
            match line.split_once(": ") {
                _ if line.is_empty() => break,
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    // AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/s3/aws4_request, …
                    let scope: Vec<&str> = value.split_once("Credential=")?.1.split('/').collect();
                    signed = format!("{} {}", scope[0], scope[2]);
                }
                Some((name, value)) if name.eq_ignore_ascii_case("x-amz-security-token") => {
                    token = value.to_owned();
                }
                _ => {}
            }
        }
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
        Some(format!("{signed} {token}"))
    })
}

/// What a bucket is asked with in these surroundings, or why it cannot be opened.
fn asked_with(files: &Path, profile: &str, variables: &[(&str, &str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["keys_come_from_where_they_should", "--exact", "--nocapture"]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name);
    }
    command
        .env("AWS_SHARED_CREDENTIALS_FILE", files.join("credentials"))
        .env("AWS_CONFIG_FILE", files.join("config"))
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env(TOLD, profile)
        .envs(variables.iter().copied());
    let server = taking_down(listener);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    match said.split_once("not opened: ") {
        Some((_, why)) => why.lines().next().unwrap().to_owned(),
        None => server.join().unwrap().unwrap(),
    }
}

/// The process of a case: opens the bucket as its surroundings say and asks it for an object.
async fn ask(profile: &str) {
    let options = BucketOptions {
        bucket: "vaults".into(),
        allow_http: true,
        profile: (profile != "-").then(|| profile.to_owned()),
        ..BucketOptions::default()
    };
    match Bucket::open(options) {
        Ok(store) => assert!(store.get(&Key::new("a").unwrap()).await.is_err()),
        Err(error) => println!("not opened: {}", std::error::Error::source(&error).unwrap()),
    }
}

#[tokio::test]
async fn keys_come_from_where_they_should() {
    if let Ok(profile) = std::env::var(TOLD) {
        return ask(&profile).await;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("credentials"), CREDENTIALS).unwrap();
    std::fs::write(dir.path().join("config"), CONFIG).unwrap();
    let keys = [("AWS_ACCESS_KEY_ID", "AROUND"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let stale = ("AWS_SESSION_TOKEN", "of-other-keys");
    let named = ("AWS_PROFILE", "session");
    for (profile, variables, expected) in [
        ("-", &[][..], "OF-DEFAULT eu-central-1 -"),
        ("-", &[named], "OF-SESSION eu-west-1 its-token"),
        ("-", &[named, ("AWS_REGION", "eu-north-1")], "OF-SESSION eu-north-1 its-token"),
        // A token that is around without its keys is not sent with another's.
        ("-", &[stale], "OF-DEFAULT eu-central-1 -"),
        // The environment's keys outweigh the files', whatever AWS_PROFILE says; what the options name outweighs both.
        ("-", &[named, keys[0], keys[1]], "AROUND eu-west-1 -"),
        ("-", &[("AWS_PROFILE", "absent"), keys[0], keys[1]], "AROUND us-east-1 -"),
        ("session", &[keys[0], keys[1], stale], "OF-SESSION eu-west-1 its-token"),
        ("default", &[named], "OF-DEFAULT eu-central-1 -"),
    ] {
        assert_eq!(asked_with(dir.path(), profile, variables), expected, "{profile} {variables:?}");
    }
}

#[tokio::test]
async fn a_profile_that_cannot_be_used_is_said_and_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("credentials"), CREDENTIALS).unwrap();
    std::fs::write(dir.path().join("config"), CONFIG).unwrap();
    let keys = [("AWS_ACCESS_KEY_ID", "AROUND"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    for (profile, variables, expected) in [
        ("-", &[("AWS_PROFILE", "absent")][..], "the profile 'absent' (from AWS_PROFILE) is in neither"),
        ("-", &[("AWS_PROFILE", "role")], "the profile 'role' (from AWS_PROFILE) has no keys"),
        ("absent", &keys, "the profile 'absent' (named in the bucket's options) is in neither"),
        ("role", &keys, "the profile 'role' (named in the bucket's options) has no keys"),
    ] {
        let said = asked_with(dir.path(), profile, variables);
        assert!(said.starts_with(expected), "{profile} {variables:?}: {said}");
    }
}
