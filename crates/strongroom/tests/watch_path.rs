//! From a backup that fails to a mail in somebody's box, over programs that are not ours: agent, Prometheus with the generated
//! rules, Alertmanager, a mail server.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;
mod sinks;

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use live::{Site, versions};
use sinks::MailSink;
use strongroom_postgres::cluster::InitOptions;

/// Where `./test` takes Debian's packages apart.
const OUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/");

/// Alertmanager of a package that is not installed looks for its templates where they would be: there it finds them in a view of
/// the file system of its own.
const AS_INSTALLED: &str =
    "mount -t overlay none -o \"lowerdir=$0/usr/share:/usr/share\" /usr/share && exec \"$@\"";

/// Prometheus and what starts Alertmanager; `None`, with the reason printed, where they are not.
fn watchers() -> Option<(PathBuf, Vec<String>)> {
    let of_path = |name: &str| Some(Path::new("/usr/bin").join(name)).filter(|path| path.exists());
    let taken_out = |place: &str, name: &str| {
        Some(Path::new(OUT).join(place).join("usr/bin").join(name)).filter(|path| path.exists())
    };
    let prometheus = of_path("prometheus").or_else(|| taken_out("prometheus", "prometheus"));
    let installed = of_path("prometheus-alertmanager").map(|path| vec![path.display().to_string()]);
    let own_view = taken_out("alertmanager", "prometheus-alertmanager").map(|path| {
        let root = Path::new(OUT).join("alertmanager").display().to_string();
        let words = ["unshare", "--mount", "sh", "-c", AS_INSTALLED, &root];
        words.into_iter().map(str::to_owned).chain([path.display().to_string()]).collect()
    });
    let own_view = own_view.filter(|_| rustix::process::geteuid().is_root());
    match (prometheus, installed.or(own_view)) {
        (Some(prometheus), Some(alertmanager)) => Some((prometheus, alertmanager)),
        _ => {
            println!(
                "skipped: there is no Prometheus or no Alertmanager (./test takes them from Debian's packages; root needed)"
            );
            None
        }
    }
}

/// A program beside the test, which ends with it.
struct Beside(Child);

impl Beside {
    fn start(command: &mut Command, log: &Path) -> Beside {
        let log = File::create(log).unwrap();
        Beside(command.stdout(Stdio::null()).stdin(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The next minute that an agent certainly sees begin, as minute and hour.
fn soon() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let due = now + 10 + 60 - (now + 10) % 60;
    format!("{} {} * * *", due / 60 % 60, due / 3600 % 24)
}

#[test]
fn a_backup_that_fails_is_in_somebodys_mail() {
    let Some((prometheus, alertmanager)) = watchers() else { return };
    let (Some(mail), Some(binaries)) = (MailSink::start(), versions().into_iter().next()) else { return };
    let mut site = Site::new(&binaries, InitOptions { segment_mib: 1, ..InitOptions::default() });
    let [metrics, rules, alerts] = [port(), port(), port()];
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let settings = format!(
        "[agent]\nsocket = \"{}\"\n[catalog]\nurl = \"{}\"\n[watch]\nevery = \"1s\"\n[http]\nlisten = \"127.0.0.1:{metrics}\"\n\
         [plan.gold]\nselect = {{ sources = [\"*\"] }}\n[[plan.gold.rule]]\nname = \"daily\"\nschedule = \"{}\"\n",
        site.inside("agent.sock"),
        site.inside("catalog.db"),
        soon()
    );
    let file = site.path("strongroom.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + &settings).unwrap();
    site.cluster.stop("fast").unwrap();

    let made = site.run(&["generate", "alerts"]);
    assert!(made.status.success());
    std::fs::write(path("rules.yml"), made.stdout).unwrap();
    let scrapes = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\n\
         scrape_configs: [{{ job_name: strongroom, static_configs: [{{ targets: ['127.0.0.1:{metrics}'] }}] }}]\n\
         alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['127.0.0.1:{alerts}'] }}] }}] }}\n"
    );
    std::fs::write(path("prometheus.yml"), scrapes).unwrap();
    let routes = format!(
        "route: {{ receiver: mail, group_by: [alertname, source], group_wait: 0s, group_interval: 1s }}\n\
         receivers:\n  - name: mail\n    email_configs:\n      - to: dba@example.org\n        from: watch@example.org\n\
         \x20       smarthost: 127.0.0.1:{}\n        hello: localhost\n        require_tls: false\n        html: ''\n\
         \x20       headers: {{ Subject: '{{{{ .CommonLabels.alertname }}}} {{{{ .CommonLabels.source }}}}' }}\n\
         \x20       text: '{{{{ range .Alerts }}}}{{{{ .Annotations.summary }}}}{{{{ end }}}}'\n",
        mail.port
    );
    std::fs::write(path("alertmanager.yml"), routes).unwrap();

    let _alertmanager = Beside::start(
        Command::new(&alertmanager[0])
            .args(&alertmanager[1..])
            .args([format!("--config.file={}", path("alertmanager.yml").display())])
            .args([format!("--storage.path={}", path("kept").display())])
            .args([format!("--web.listen-address=127.0.0.1:{alerts}"), "--cluster.listen-address=".into()]),
        &path("alertmanager.log"),
    );
    let _prometheus = Beside::start(
        Command::new(prometheus)
            .args([format!("--config.file={}", path("prometheus.yml").display())])
            .args([format!("--storage.tsdb.path={}", path("series").display())])
            .args([format!("--web.listen-address=127.0.0.1:{rules}")]),
        &path("prometheus.log"),
    );
    let _agent = Beside::start(&mut site.command(&["run"]), &path("agent.log"));
    let told = mail.mail_that_says("Subject: StrongroomAlertWarns main");
    assert!(told.contains("job-failed of main: strongroom alert list says more"), "{told}");
}
