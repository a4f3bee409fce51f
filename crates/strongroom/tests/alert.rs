//! Alerts as people get them: every kind of channel against something that really takes it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod sinks;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use sinks::{HttpSink, MailSink, topic};
use strongroom_store::conformance::moto::MotoServer;

/// Settings in a folder of their own, and the binary.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new(channels: &str) -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        let text = format!(
            "[vault]\nurl = \"{0}/vault\"\n[catalog]\nurl = \"{0}/catalog.db\"\n{channels}",
            desk.0.path().display()
        );
        std::fs::write(desk.path("strongroom.toml"), text).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The exit code, and the document that it printed.
    fn json(&self, words: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(words).args(["--output", "json"]).current_dir(self.0.path());
        command.env_clear().env("HOME", self.0.path()).env("PATH", "/usr/bin:/bin");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").env("SIGNED", "secret");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
        (output.status.code().unwrap(), printed)
    }
}

#[test]
fn webhooks_get_what_they_can_check() {
    let sink = HttpSink::start();
    let desk = Desk::new(&format!(
        "[alert.hook]\nkind = \"webhook\"\nurl = \"{0}/hook\"\nsecret = \"env:SIGNED\"\n\
         [alert.chat]\nkind = \"slack\"\nurl = \"file:chat\"\n\
         [alert.duty]\nkind = \"pagerduty\"\nrouting_key = \"command:echo key-1\"\nurl = \"{0}/enqueue\"\n",
        sink.url()
    ));
    std::fs::write(desk.path("chat"), format!("{}/services/canary\n", sink.url())).unwrap();
    let (code, tried) = desk.json(&["alert", "test"]);
    assert_eq!(code, 0, "{tried}");
    let taken: Vec<&str> =
        tried.as_array().unwrap().iter().map(|one| one["channel"].as_str().unwrap()).collect();
    assert_eq!(taken, ["chat", "duty", "hook"]);

    let chat = sink.taken("/services/canary");
    assert!(chat.json()["text"].as_str().unwrap().contains("*info: test*"), "{}", chat.body);
    let duty = sink.taken("/enqueue").json();
    assert_eq!((&duty["routing_key"], &duty["event_action"]), (&"key-1".into(), &"trigger".into()));
    assert_eq!(duty["payload"]["severity"], "info");
    let hook = sink.taken("/hook");
    let document = hook.json();
    assert_eq!(
        (&document["event"], &document["kind"], &document["key"]),
        (&"fired".into(), &"test".into(), &"test/*/".into())
    );
    // As a receiver checks it, by another implementation.
    let signed = format!("{}.{}", hook.header("x-strongroom-timestamp"), hook.body);
    let script =
        "import hmac,sys; print('sha256='+hmac.new(b'secret', sys.argv[1].encode(), 'sha256').hexdigest())";
    let expected = Command::new("python3").args(["-c", script, &signed]).output().unwrap().stdout;
    assert_eq!(hook.header("x-strongroom-signature"), String::from_utf8(expected).unwrap().trim());
}

#[test]
fn a_channel_that_takes_nothing_says_why_and_shows_no_secret() {
    let sink = HttpSink::refusing();
    let desk = Desk::new(&format!(
        "[alert.away]\nkind = \"slack\"\nurl = \"http://127.0.0.1:9/canary\"\n\
         [alert.program]\nkind = \"exec\"\ncommand = \"cat > got; echo no room >&2; exit 3\"\n\
         [alert.refused]\nkind = \"slack\"\nurl = \"{}/canary\"\n\
         [alert.unset]\nkind = \"pagerduty\"\nrouting_key = \"env:NO_SUCH\"\n",
        sink.url()
    ));
    let (code, tried) = desk.json(&["alert", "test"]);
    assert_eq!(code, 4);
    let why: Vec<&str> = tried.as_array().unwrap().iter().map(|one| one["why"].as_str().unwrap()).collect();
    let says = |at: usize, text: &str| assert!(why[at].contains(text), "{why:?}");
    says(0, "tell http://127.0.0.1:9: it cannot be reached");
    says(1, "the program refused it: exit status: 3: no room");
    says(2, "refused it: 403 go away");
    says(3, "NO_SUCH is not set");
    assert!(!tried.to_string().contains("canary"), "{tried}");
    let got: Value = serde_json::from_slice(&std::fs::read(desk.path("got")).unwrap()).unwrap();
    assert_eq!(got["severity"], "info");

    // What failed is known, and that it is well again.
    let channel = || desk.json(&["alert", "list"]).1["channels"][1].clone();
    assert!(channel()["failing_since"].is_string() && channel()["why"].as_str().unwrap().contains("no room"));
    let settings = std::fs::read_to_string(desk.path("strongroom.toml")).unwrap();
    std::fs::write(desk.path("strongroom.toml"), settings.replace("exit 3", "exit 0")).unwrap();
    assert_eq!(desk.json(&["alert", "test", "program"]).0, 0);
    let mended = channel();
    assert_eq!(
        (&mended["failing_since"], &mended["told"], &mended["refused"]),
        (&Value::Null, &1.into(), &1.into())
    );

    let (code, refused) = desk.json(&["alert", "test", "nobody"]);
    assert_eq!(code, 3);
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("no channel is called nobody"),
        "{refused}"
    );
}

#[test]
fn mail_arrives() {
    let Some(sink) = MailSink::start() else { return };
    let desk = Desk::new(&format!(
        "[alert.mail]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
         from = \"Strongroom <backup@example.org>\"\nto = [\"dba@example.org\", \"Über <two@example.org>\"]\n\
         [alert.wrong]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nfrom = \"nobody\"\nto = []\n\
         [alert.plain]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n",
        sink.port, sink.port
    ));
    let (code, tried) = desk.json(&["alert", "test"]);
    assert_eq!((code, &tried[0]["taken"]), (4, &true.into()), "{tried}");
    let mail = sink.mail();
    assert!(mail.contains("Subject: [strongroom] info: test"), "{mail}");
    assert!(mail.contains("dba@example.org") && mail.contains("nothing is wrong"), "{mail}");
    // A relay that has no TLS gets nothing in the clear.
    assert_eq!(tried[1]["taken"], false);
    assert!(tried[2]["why"].as_str().unwrap().contains("'nobody' is no mail address"), "{tried}");
}

#[test]
fn a_topic_hands_it_on() {
    let Some(moto) = MotoServer::start() else { return };
    let sink = HttpSink::start();
    let arn = topic(&moto.endpoint(), &format!("{}/subscribed", sink.url()));
    let desk = Desk::new(&format!(
        "[alert.topic]\nkind = \"sns\"\ntopic = \"{arn}\"\nendpoint = \"{}\"\n\
         [alert.unknown]\nkind = \"sns\"\ntopic = \"{arn}x\"\nendpoint = \"{}\"\n",
        moto.endpoint(),
        moto.endpoint()
    ));
    let (code, tried) = desk.json(&["alert", "test"]);
    assert_eq!((code, &tried[0]["taken"], &tried[1]["taken"]), (4, &true.into(), &false.into()), "{tried}");
    let handed_on = sink.taken("/subscribed").json();
    assert_eq!(handed_on["Subject"], "[strongroom] info: test");
    assert!(handed_on["Message"].as_str().unwrap().contains("nothing is wrong"), "{handed_on}");
}

#[test]
fn files_for_others_are_written_once() {
    let desk = Desk::new("[source.orders]\nkind = \"postgres\"\n");
    let (code, rules) = desk.json(&["generate", "alerts"]);
    assert_eq!(code, 0);
    assert!(rules["text"].as_str().unwrap().contains("source=\"orders\""));
    let (code, dashboard) = desk.json(&["generate", "dashboards", "--to", "board.json"]);
    assert_eq!((code, &dashboard["file"]), (0, &"board.json".into()));
    let written: Value = serde_json::from_slice(&std::fs::read(desk.path("board.json")).unwrap()).unwrap();
    assert_eq!(written["title"], "Strongroom");
    assert_eq!(desk.json(&["generate", "dashboards", "--to", "board.json"]).0, 20);
}
