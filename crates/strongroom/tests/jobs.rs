//! Plans carried out by a real agent, against a real server: what is due is done once, whatever ends the agent meanwhile.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use live::{Site, until, versions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use strongroom_postgres::cluster::InitOptions;

/// A site whose agent keeps its jobs in a file beside the vault.
fn site(plans: &str) -> Option<Site> {
    site_with(plans, |site| site.inside("catalog.db"))
}

/// A site whose agent keeps its jobs there.
fn site_with(plans: &str, catalog: impl Fn(&Site) -> String) -> Option<Site> {
    let binaries = versions().into_iter().next()?;
    let site = Site::new(&binaries, InitOptions { segment_mib: 1, ..InitOptions::default() });
    let settings = format!(
        "[agent]\nsocket = \"{}\"\ngrace = \"1s\"\n{{sweep}}[catalog]\nurl = \"{}\"\n",
        site.inside("agent.sock"),
        catalog(&site)
    );
    let sweep = if plans.contains("retention") { "sweep = { schedule = \"* * * * *\" }\n" } else { "" };
    site.rewrite(|text| text + &settings.replace("{sweep}", sweep) + plans);
    Some(site)
}

/// A running agent, and what it says.
struct Agent<'a> {
    site: &'a Site,
    child: Child,
}

impl<'a> Agent<'a> {
    fn start(site: &'a Site, supervised: bool) -> Agent<'a> {
        let mut command = site.command(&["run", "--output", "json", "-v"]);
        if supervised {
            command.env("NOTIFY_SOCKET", site.inside("notify.sock")).env("WATCHDOG_USEC", "200000");
        }
        Agent::spawn(site, command, "agent")
    }

    /// One of another host of the fleet: it has settings, a socket and a log of its own.
    fn second(site: &'a Site) -> Agent<'a> {
        let settings = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
        std::fs::write(site.path("second.toml"), settings.replace("agent.sock", "second.sock")).unwrap();
        let command = site.command_with("second.toml", &["run", "--output", "json", "-v"]);
        Agent::spawn(site, command, "second")
    }

    fn spawn(site: &'a Site, mut command: Command, name: &str) -> Agent<'a> {
        let (socket, log) = (site.path(&format!("{name}.sock")), site.path(&format!("{name}.log")));
        let _ = std::fs::remove_file(&socket);
        command.stdout(Stdio::piped()).stderr(File::create(log).unwrap());
        let child = command.spawn().unwrap();
        until("the agent to listen", || socket.exists());
        Agent { site, child }
    }

    fn says(&self, text: &str) {
        let log = || std::fs::read_to_string(self.site.path("agent.log")).unwrap();
        until(&format!("'{text}'"), || log().contains(text));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Ends it as systemd would; its exit code.
    fn stop(self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.child.wait_with_output().unwrap().status.code()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What systemd would be told.
struct Notified(Receiver<String>);

impl Notified {
    fn at(site: &Site) -> Notified {
        let socket = UnixDatagram::bind(site.path("notify.sock")).unwrap();
        std::fs::set_permissions(site.path("notify.sock"), std::fs::Permissions::from_mode(0o777)).unwrap();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok(length) = socket.recv(&mut buffer) {
                if tell.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    break;
                }
            }
        });
        Notified(told)
    }

    /// Waits until it is told.
    fn next(&self, state: &str) {
        while self.0.recv_timeout(Duration::from_secs(60)).unwrap() != state {}
    }
}

/// The jobs of a kind, oldest first.
fn jobs(site: &Site, kind: &str) -> Vec<Value> {
    let listed: Value = serde_json::from_str(&site.ok(&["jobs", "list", "--output", "json"])).unwrap();
    let of_kind = listed["jobs"].as_array().unwrap().iter().filter(|job| job["kind"] == kind);
    of_kind.rev().cloned().collect()
}

/// Waits for a job of that kind that stands so.
fn job(site: &Site, kind: &str, state: &str) -> Value {
    let mut found = None;
    until(&format!("a {kind} that is {state}"), || {
        found = jobs(site, kind).into_iter().find(|job| job["state"] == state);
        found.is_some()
    });
    found.unwrap()
}

fn points(site: &Site) -> Vec<Value> {
    let listed: Value = serde_json::from_str(&site.ok(&["list", "--output", "json"])).unwrap();
    let points = listed[0]["points"].as_array().cloned().unwrap_or_default();
    points.into_iter().filter(|point| point["state"] == "committed").collect()
}

/// Whether a process of this site takes a backup.
fn somebody_backs_up(site: &Site) -> bool {
    backs_up(site, "")
}

/// The same of one with these settings.
fn backs_up(site: &Site, settings: &str) -> bool {
    let config = site.inside(settings);
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let mut words = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    words.any(|words| words.contains(&config) && words.contains(" backup "))
}

/// A schedule that is due once: in the next minute that the agent certainly sees begin.
fn once() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let due = now + 15 + 60 - (now + 15) % 60;
    format!("{} {} * * *", due / 60 % 60, due / 3600 % 24)
}

#[test]
fn what_plans_order_is_done_and_told() {
    let plans = "\
[plan.gold]
select = { sources = [\"*\"] }
verify = { schedule = \"* * * * *\" }
expire = { schedule = \"* * * * *\" }
[[plan.gold.rule]]
name = \"often\"
schedule = \"* * * * *\"
retention = { keep_last = 2 }
";
    let on_server = |site: &Site| {
        let (host, port) = (site.cluster.socket_folder(), site.cluster.port());
        format!("postgresql:///postgres?host={}&port={port}&user=postgres", host.display())
    };
    let Some(site) = site_with(plans, on_server) else { return };
    let notified = Notified::at(&site);
    let told = |state: &str| notified.next(state);
    let agent = Agent::start(&site, true);
    told("READY=1");
    told("WATCHDOG=1");
    let backup = job(&site, "backup", "done");
    assert_eq!((&backup["exit_code"], &backup["attempt"]), (&0.into(), &1.into()), "{backup}");
    let taken: Vec<Value> = points(&site).iter().map(|point| point["point"].clone()).collect();
    assert!(taken.contains(&backup["result"]["point"]), "{backup} {taken:?}");
    for kind in ["verify", "expire", "sweep"] {
        assert_eq!(job(&site, kind, "done")["exit_code"], 0);
    }
    let shown = site.ok(&["jobs", "show", &backup["id"].to_string()]);
    assert!(
        shown.contains("backup of main, ordered by gold/often") && shown.contains("\"point\""),
        "{shown}"
    );
    let list = site.ok(&["jobs", "list", "--source", "main", "--state", "done"]);
    assert!(list.contains("gold/often") && list.contains("last heard of"), "{list}");
    assert!(site.fails(12, &["jobs", "cancel", &backup["id"].to_string()]).contains("is done"));
    assert!(site.fails(2, &["jobs", "show", "4711"]).contains("has no job 4711"));
    // Settings that do not read change nothing.
    site.rewrite(|text| text.replace("often\"", "often\"\nshedule = \"\""));
    agent.signal(Signal::HUP);
    told("RELOADING=1");
    told("READY=1");
    agent.says("going on with the settings as they were");
    site.rewrite(|text| text.replace("\nshedule = \"\"", "").replace("\"often\"", "\"oftener\""));
    agent.signal(Signal::HUP);
    told("RELOADING=1");
    until("the new rule's job", || jobs(&site, "backup").iter().any(|job| job["rule"] == "oftener"));
    assert_eq!(agent.stop(), Some(0));
    told("STOPPING=1");
    assert!(!somebody_backs_up(&site));
    by_whom(&site);
}

/// The audit log knows for which rule each job was, and which settings the agent read.
fn by_whom(site: &Site) {
    let lines: Vec<Value> =
        serde_json::from_str(&site.ok(&["audit", "list", "--newest", "1000", "--output", "json"])).unwrap();
    let of = |verb: &str| {
        let of_verb = lines.iter().filter(|line| line["act"]["verb"] == verb);
        of_verb.map(|line| line["actor"].clone()).collect::<Vec<_>>()
    };
    assert!(
        of("backup").iter().any(|actor| actor["kind"] == "plan" && actor["name"] == "gold/often"),
        "{lines:?}"
    );
    assert!(of("sweep").iter().all(|actor| actor["kind"] == "agent"), "{lines:?}");
    let read = lines.iter().filter(|line| line["act"]["verb"] == "audit settings");
    let hashes: Vec<&Value> = read.map(|line| &line["texts"]["sha_256"]).collect();
    assert!(hashes.len() > 1 && hashes[0].is_string() && hashes[0] != hashes[hashes.len() - 1], "{lines:?}");
}

/// A site whose one backup is due at once, and waits for its WAL for as long as the test wants.
fn once_without_archiving() -> Option<Site> {
    let plans = format!(
        "[plan.p]\nselect = {{ sources = [\"main\"] }}\n[[plan.p.rule]]\nname = \"once\"\nschedule = \"{}\"\n",
        once()
    );
    let site = site(&plans)?;
    site.cluster.sql("alter system set archive_command = 'false'; select pg_reload_conf()").unwrap();
    Some(site)
}

/// Lets that backup come to its end.
fn archive_again(site: &Site) {
    site.cluster.sql("alter system reset archive_command; select pg_reload_conf()").unwrap();
}

#[test]
fn a_backup_that_is_interrupted_is_taken_once() {
    let Some(site) = once_without_archiving() else { return };
    let agent = Agent::start(&site, false);
    job(&site, "backup", "leased");
    until("the backup to begin", || somebody_backs_up(&site));
    // Stopped in an orderly manner it gives the job back.
    assert_eq!(agent.stop(), Some(0));
    assert!(!somebody_backs_up(&site));
    let given_back = job(&site, "backup", "queued");
    assert_eq!((&given_back["attempt"], &given_back["token"]), (&0.into(), &1.into()), "{given_back}");
    // Killed it takes the backup along, and leaves a lease that runs out.
    let agent = Agent::start(&site, false);
    job(&site, "backup", "leased");
    until("the backup to begin", || somebody_backs_up(&site));
    agent.kill();
    until("the backup to end with its agent", || !somebody_backs_up(&site));
    assert_eq!(points(&site).len(), 0);
    archive_again(&site);
    let agent = Agent::start(&site, false);
    let done = job(&site, "backup", "done");
    assert_eq!((&done["attempt"], &done["token"]), (&2.into(), &3.into()), "{done}");
    assert_eq!(agent.stop(), Some(0));
    let points = points(&site);
    assert_eq!(points.len(), 1);
    assert_eq!(points[0]["point"], done["result"]["point"]);
    assert_eq!(jobs(&site, "backup").len(), 1);
    site.ok(&["verify", "--data"]);
    // Without its catalog: the vault tells what was done, and nothing is due again.
    for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = std::fs::remove_file(site.path(name));
    }
    let agent = Agent::start(&site, false);
    let told = job(&site, "backup", "done");
    assert_eq!((&told["rule"], &told["result"]["point"]), (&"vault".into(), &points[0]["point"]));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(jobs(&site, "backup").len(), 1);
}

#[test]
fn another_agent_goes_on_where_one_was_killed() {
    let Some(site) = once_without_archiving() else { return };
    let (first, second) = (Agent::start(&site, false), Agent::second(&site));
    let leased = job(&site, "backup", "leased");
    until("the backup to begin", || somebody_backs_up(&site));
    let (at_work, other) = match backs_up(&site, "second.toml") {
        true => (second, first),
        false => (first, second),
    };
    at_work.kill();
    archive_again(&site);
    let done = job(&site, "backup", "done");
    assert_eq!((&done["id"], &done["attempt"]), (&leased["id"], &2.into()), "{done}");
    assert_eq!(other.stop(), Some(0));
    assert_eq!(jobs(&site, "backup").len(), 1);
    assert_eq!(points(&site).len(), 1);
}

#[test]
fn a_report_is_made_and_sent_when_it_is_due() {
    let Some(site) = site("") else { return };
    let got = site.inside("got");
    let report = format!(
        "[alert.script]\nkind = \"exec\"\ncommand = \"cat > {got}.new; mv {got}.new {got}\"\n\
         [report.often]\nkind = \"status\"\nschedule = \"* * * * *\"\nto = [\"script\"]\n"
    );
    site.rewrite(|text| text + &report);
    let agent = Agent::start(&site, false);
    until("the report", || site.path("got").exists());
    let sent: Value = serde_json::from_slice(&std::fs::read(site.path("got")).unwrap()).unwrap();
    assert_eq!((&sent["event"], &sent["name"]), (&"report".into(), &"often".into()));
    until("the job to end", || {
        let jobs: Value = serde_json::from_str(&site.ok(&["jobs", "list", "--output", "json"])).unwrap();
        let job = jobs["jobs"].as_array().unwrap().iter().find(|job| job["state"] == "done").cloned();
        job.is_some_and(|job| job["kind"] == "report" && job["rule"] == "often" && job["exit_code"] == 0)
    });
    drop(agent);
}
