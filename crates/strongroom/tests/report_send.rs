//! `strongroom report send`: a report of the settings, to everything that really takes it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod sinks;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use sinks::{HttpSink, MailSink};

/// Settings in a folder of their own, a new vault, and the binary.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new(more: &str) -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        let text = format!(
            "[vault]\nurl = \"vault\"\nidentity_file = \"identity.txt\"\n[catalog]\nurl = \"catalog.db\"\n[source.orders]\nkind = \"postgres\"\n{more}"
        );
        std::fs::write(desk.path("strongroom.toml"), text).unwrap();
        let (code, made) = desk.json(&["init", "--generate-identity", "identity.txt"]);
        assert_eq!(code, 0, "{made}");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The exit code, and the document that it printed.
    fn json(&self, words: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(words).args(["--output", "json"]).current_dir(self.0.path());
        command.env_clear().env("HOME", self.0.path()).env("PATH", "/usr/bin:/bin").env("SIGNED", "secret");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
        (output.status.code().unwrap(), printed)
    }
}

#[test]
fn every_channel_gets_a_report_in_its_own_shape() {
    let sink = HttpSink::start();
    let desk = Desk::new(&format!(
        "[alert.hook]\nkind = \"webhook\"\nurl = \"{0}/hook\"\nsecret = \"env:SIGNED\"\n\
         [alert.chat]\nkind = \"slack\"\nurl = \"{0}/chat\"\n\
         [alert.script]\nkind = \"exec\"\ncommand = \"cat > got\"\n\
         [report.weekly]\nkind = \"status\"\nschedule = \"0 7 * * 1\"\nto = [\"chat\", \"hook\", \"script\"]\n",
        sink.url()
    ));
    let (code, sent) = desk.json(&["report", "send", "weekly"]);
    assert_eq!(code, 0, "{sent}");
    let chat = sink.taken("/chat").json();
    let text = chat["text"].as_str().unwrap();
    assert!(text.contains("*[strongroom] Status (weekly): something needs attention*"), "{text}");
    assert!(
        text.contains("1 of 1 sources need attention.") && text.contains("strongroom report status"),
        "{text}"
    );
    let hook = sink.taken("/hook");
    assert!(hook.header("x-strongroom-signature").starts_with("sha256="));
    let document = hook.json();
    assert_eq!(
        (&document["event"], &document["kind"], &document["fine"]),
        (&"report".into(), &"status".into(), &false.into())
    );
    assert_eq!(document["report"][0]["source"], "orders");
    let got: Value = serde_json::from_slice(&std::fs::read(desk.path("got")).unwrap()).unwrap();
    assert_eq!(got["report"], document["report"]);
}

#[test]
fn mail_carries_the_report_as_a_file() {
    let Some(mail) = MailSink::start() else { return };
    let desk = Desk::new(&format!(
        "[alert.mail]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"backup@example.org\"\nto = [\"dba@example.org\"]\n\
         [report.monthly]\nkind = \"coverage\"\nschedule = \"0 7 1 * *\"\nformat = \"csv\"\nto = [\"mail\"]\n",
        mail.port
    ));
    let (code, sent) = desk.json(&["report", "send", "monthly"]);
    assert_eq!(code, 0, "{sent}");
    let name = sent["attached"].as_str().unwrap();
    assert!(name.starts_with("coverage-") && name.ends_with(".csv"), "{name}");
    let got = mail.mail();
    assert!(got.contains("Subject: [strongroom] Coverage (monthly): something needs attention"), "{got}");
    assert!(got.contains("multipart/mixed") && got.contains(&format!("filename=\"{name}\"")), "{got}");
    assert!(got.contains("text/csv") && got.contains("strongroom report coverage"), "{got}");
}

#[test]
fn a_channel_that_does_not_take_it_is_told_and_the_others_get_it() {
    let sink = HttpSink::refusing();
    let desk = Desk::new(&format!(
        "[alert.chat]\nkind = \"slack\"\nurl = \"{}/canary\"\n[alert.script]\nkind = \"exec\"\ncommand = \"cat > got\"\n\
         [report.weekly]\nkind = \"architecture\"\nschedule = \"@weekly\"\nto = [\"chat\", \"script\"]\n",
        sink.url()
    ));
    let (code, sent) = desk.json(&["report", "send", "weekly"]);
    assert_eq!(code, 4, "{sent}");
    assert!(sent["channels"][0]["why"].as_str().unwrap().contains("403"), "{sent}");
    assert_eq!(sent["channels"][1]["why"], Value::Null);
    assert!(desk.path("got").exists() && !sent.to_string().contains("canary"), "{sent}");
    let (code, refused) = desk.json(&["report", "send", "daily"]);
    assert_eq!(code, 3);
    assert!(refused["error"]["message"].as_str().unwrap().contains("no report is called daily"), "{refused}");
}
