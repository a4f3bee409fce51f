//! Chaos: a server under load with everything of Strongroom's beside it (receiver, agent, archiver, backups one after the
//! other), and whatever can be killed or taken away is, as a seed decides. Then the disaster: nothing is left but the vault.
//! What is restored from it is held against what the load knows, and now and then goes on in the server's place.
//!
//! `STRONGROOM_CHAOS` says how many rounds, each world with a new seed, which is printed; `STRONGROOM_CHAOS_SEED` sets one.
//! A seed decides what happens, not when exactly: the machine does that.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

mod chaos {
    pub mod dice;
    pub mod way;
    pub mod load;
}

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chaos::dice::Dice;
use chaos::load::{Known, Load, Place, check_shapes, check_writers, prepare};
use chaos::way::Way;
use live::cloud::{envs, let_fetch, run, ship_by, with};
use live::{Site, said, until, versions};
use serde_json::Value;
use strongroom_postgres::cluster::InitOptions;
use strongroom_store::conformance::moto::MotoServer;

/// What a disaster may cost while everything is up: what was acknowledged in the last two seconds.
const MAY_BE_LOST: Duration = Duration::from_secs(2);

const WRITERS: usize = 4;

/// Rounds of one world, at most.
const ROUNDS: u32 = 3;

/// How what runs may end when the server, the store, or a slot just left behind stands in the way:
/// source, store, no vault there, WAL that did not arrive.
const IN_THE_WAY: [i32; 4] = [5, 6, 7, 13];

const SETTINGS: &str = "chaos.toml";

/// How backups are taken.
const BACKUPS: [&[&str]; 4] = [
    &["backup", "--output", "json"],
    &["backup", "--output", "json", "--spread"],
    &["backup", "--output", "json", "--full"],
    &["backup", "--output", "json", "--access", "stream"],
];

/// What lets go of points and WAL.
const KEEPING: [&[&str]; 2] = [&["expire"], &["sweep"]];

/// What can go.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Server,
    Store,
    Cut,
    Receiver,
    Agent,
    Backup,
    Keeper,
}

const ALL: [Fault; 7] =
    [Fault::Server, Fault::Store, Fault::Cut, Fault::Receiver, Fault::Agent, Fault::Backup, Fault::Keeper];

/// Where the vault is.
enum Keeping {
    Folder,
    Bucket(Way),
}

/// A process that should go on for ever, with what it says.
struct Daemon {
    name: &'static str,
    arguments: &'static [&'static str],
    child: Option<Child>,
    says: PathBuf,
    log: PathBuf,
}

impl Daemon {
    fn new(site: &Site, name: &'static str, arguments: &'static [&'static str]) -> Daemon {
        let (says, log) = (site.path(&format!("{name}.says")), site.path(&format!("{name}.log")));
        Daemon { name, arguments, child: None, says, log }
    }

    fn start(&mut self, site: &Site) {
        let mut command = site.command_with(SETTINGS, self.arguments);
        command.envs(envs()).stdout(File::create(&self.says).unwrap());
        self.child = Some(command.stderr(File::create(&self.log).unwrap()).spawn().unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Its exit code, if it ended by itself.
    fn ended(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status.code().unwrap_or_else(|| panic!("{}: {status}", self.name)))
    }

    fn said(&self) -> String {
        [&self.says, &self.log].map(|path| std::fs::read_to_string(path).unwrap()).concat()
    }

    /// Whether it runs. As a service manager would, one that could not begin is started again.
    fn is_up(&mut self, site: &Site) -> bool {
        let Some(code) = self.ended() else { return self.child.is_some() };
        let said = self.said();
        assert!(IN_THE_WAY.contains(&code), "the {} ended with {code}: {said}", self.name);
        assert!(!said.contains("\"receiving\""), "the {} gave up with {code}: {said}", self.name);
        self.start(site);
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Everything there is, and what is known of it.
struct World {
    /// What dies, and when.
    dice: Dice,
    /// What backups and the keeper do, which begin when the ones before have ended.
    chores: Dice,
    site: Site,
    keeping: Keeping,
    receiver: Daemon,
    agent: Daemon,
    backup: Daemon,
    /// Expires and sweeps, by turns.
    keeper: Daemon,
    server_is_up: bool,
    store_is_up: bool,
    /// Points that were reported.
    points: Vec<String>,
    known: Vec<Known>,
}

impl World {
    /// `None` where what it takes is missing.
    fn new(seed: u64, bucket: bool) -> Option<World> {
        let mut dice = Dice::new(seed);
        let versions = versions();
        // A short run is of one version.
        let among = if rounds().is_some() { versions.len() } else { versions.len().min(1) };
        let binaries = versions.get(dice.below(among.max(1) as u64) as usize)?;
        let keeping = match bucket {
            true => {
                let server = MotoServer::start()?;
                server.make_bucket("vaults");
                Keeping::Bucket(Way::to(server))
            }
            false => Keeping::Folder,
        };
        let summaries = if binaries.major().number() >= 17 { "summarize_wal = on\n" } else { "" };
        let settings = format!("max_wal_size = 64MB\nmin_wal_size = 32MB\n{summaries}");
        let segment_mib = [1, 4, 16][dice.below(3) as usize];
        println!("{segment_mib} MiB a segment, PostgreSQL {}", binaries.major());
        let site = Site::new(binaries, InitOptions { segment_mib, settings, ..InitOptions::default() });
        let receiver = Daemon::new(&site, "receiver", &["wal", "receive", "main", "--output", "json"]);
        let agent = Daemon::new(&site, "agent", &["run"]);
        let backup = Daemon::new(&site, "backup", BACKUPS[0]);
        let keeper = Daemon::new(&site, "keeper", KEEPING[0]);
        let known = (0..WRITERS).map(|_| Known::default()).collect();
        let (server_is_up, store_is_up, points) = (true, true, Vec::new());
        let mut world = World {
            dice,
            chores: Dice::new(!seed),
            site,
            keeping,
            receiver,
            agent,
            backup,
            keeper,
            server_is_up,
            store_is_up,
            points,
            known,
        };
        world.settle();
        Some(world)
    }

    /// A vault, the server's archiver on it, what the load needs, and a first point.
    fn settle(&mut self) {
        self.write_settings();
        let site = &self.site;
        with(site, SETTINGS, 0, &["init", "--generate-identity", &site.inside("kept.txt")]);
        ship_by(site, SETTINGS);
        prepare(&self.place(), WRITERS);
        self.backup.start(&self.site);
        until("the first point", || {
            self.note_backup();
            self.backup.child.is_none()
        });
        assert_eq!(self.points.len(), 1, "{}", self.backup.said());
    }

    /// Settings for the server as it is now.
    fn write_settings(&self) {
        let site = &self.site;
        let url = match &self.keeping {
            Keeping::Folder => format!("url = \"{}\"\n", site.inside("kept")),
            Keeping::Bucket(way) => format!(
                "url = \"s3://vaults/prod\"\nendpoint = \"{}\"\npath_style = true\nallow_http = true\n",
                way.endpoint()
            ),
        };
        let text = format!(
            "[vault]\n{url}identity_file = \"{}\"\n[agent]\nsocket = \"{}\"\n[retention]\nkeep_last = 3\n\
             [source.main]\nkind = \"postgres\"\nconnection = \"host={} port={} user=postgres\"\n",
            site.inside("kept.txt"),
            site.inside("agent.sock"),
            site.cluster.socket_folder().display(),
            site.cluster.port(),
        );
        std::fs::write(site.path(SETTINGS), text).unwrap();
        site.binaries.give(&site.path(SETTINGS)).unwrap();
    }

    fn place(&self) -> Place {
        let cluster = &self.site.cluster;
        Place::new(&self.site.binaries, &cluster.socket_folder(), cluster.port())
    }

    /// Lets the load go on for a while: time is what is worked in here. Backups follow one another meanwhile.
    fn work(&mut self, milliseconds: std::ops::Range<u64>) {
        std::thread::sleep(self.dice.milliseconds(milliseconds));
        self.note_backup();
        if self.backup.child.is_none() {
            self.backup.arguments = BACKUPS[self.chores.below(BACKUPS.len() as u64) as usize];
            self.backup.start(&self.site);
        }
        self.note_keeper();
        if self.keeper.child.is_none() {
            self.keeper.arguments = KEEPING[self.chores.below(KEEPING.len() as u64) as usize];
            self.keeper.start(&self.site);
        }
    }

    fn note_keeper(&mut self) {
        let Some(code) = self.keeper.ended() else { return };
        let said = self.keeper.said();
        // A point that was committed meanwhile: what goes is planned anew the next time.
        let is_overtaken = code == 12 && said.contains("changed since the plan");
        let is_expected = code == 0 || is_overtaken || IN_THE_WAY.contains(&code);
        assert!(is_expected, "the keeper ended with {code}: {said}");
    }

    /// Looks whether the backup has ended, and how.
    fn note_backup(&mut self) {
        let Some(code) = self.backup.ended() else { return };
        let said = self.backup.said();
        if code == 0 {
            let point: Value = serde_json::from_slice(&std::fs::read(&self.backup.says).unwrap()).unwrap();
            self.points.push(point["point"].as_str().unwrap().to_owned());
        } else {
            assert!(IN_THE_WAY.contains(&code), "a backup ended with {code}: {said}");
        }
    }

    /// Makes something happen.
    fn strike(&mut self, fault: Fault) {
        match (fault, &self.keeping) {
            (Fault::Server, _) if self.server_is_up => {
                self.site.cluster.kill().unwrap();
                self.server_is_up = false;
            }
            (Fault::Store, keeping) if self.store_is_up => {
                match keeping {
                    Keeping::Folder => {
                        std::fs::rename(self.site.path("kept"), self.site.path("away")).unwrap();
                    }
                    Keeping::Bucket(way) => way.close(),
                }
                self.store_is_up = false;
            }
            (Fault::Cut, Keeping::Bucket(way)) => way.cut(),
            (Fault::Receiver, _) => self.receiver.kill(),
            (Fault::Agent, _) => self.agent.kill(),
            (Fault::Backup, _) => {
                self.note_backup();
                self.backup.kill();
            }
            (Fault::Keeper, _) => {
                self.note_keeper();
                self.keeper.kill();
            }
            _ => {}
        }
    }

    /// Mends one thing, if it needs it.
    fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::Server if !self.server_is_up => {
                let port = self.site.cluster.port();
                self.site.cluster.start_at(port).unwrap();
                self.server_is_up = true;
            }
            Fault::Store if !self.store_is_up => {
                match &self.keeping {
                    Keeping::Folder => {
                        let (away, kept) = (self.site.path("away"), self.site.path("kept"));
                        until("the folder to be back", || {
                            // A write that began before may have left something there, as below a mount. Nobody counts on it.
                            let _ = std::fs::remove_dir_all(&kept);
                            std::fs::rename(&away, &kept).is_ok()
                        });
                    }
                    Keeping::Bucket(way) => way.open(),
                }
                self.store_is_up = true;
            }
            Fault::Receiver if self.receiver.child.is_none() => self.receiver.start(&self.site),
            Fault::Agent if self.agent.child.is_none() => self.agent.start(&self.site),
            _ => {}
        }
    }

    /// Mends everything, in whatever order, and waits until it works.
    fn raise(&mut self) {
        for fault in self.dice.shuffled([Fault::Server, Fault::Store, Fault::Receiver, Fault::Agent]) {
            self.mend(fault);
        }
        let receives = "select count(*) = 1 from pg_stat_replication where application_name = 'strongroom'";
        until("everything to be up", || {
            let site = &self.site;
            let (receiver, agent) = (self.receiver.is_up(site), self.agent.is_up(site));
            let listens = UnixStream::connect(site.path("agent.sock")).is_ok();
            receiver && agent && listens && site.cluster.sql(receives).unwrap() == "t"
        });
    }

    /// One life of the server, from the first transaction to what is restored after its end.
    fn round(&mut self, number: u32, steps: u64) {
        self.raise();
        // The S3 server of the tests takes far less than a disk: a load that outruns it would measure the load.
        let pause = match self.keeping {
            Keeping::Folder => Duration::ZERO,
            Keeping::Bucket(_) => Duration::from_millis(5),
        };
        let known = std::mem::take(&mut self.known);
        let load = Load::begin(&self.place(), known, (self.dice.roll(), pause));
        let mut struck = Vec::new();
        for _ in 0..steps {
            self.work(200..900);
            let faults = self.dice.shuffled(ALL);
            for fault in &faults[..1 + self.dice.below(2) as usize] {
                self.strike(*fault);
                struck.push(*fault);
            }
            self.work(50..1200);
            self.raise();
        }
        // With everything up, what is lost is bounded. Otherwise only what was reported as durable must be there.
        let is_calm = self.dice.below(4) > 0;
        if is_calm {
            self.calm(&load);
        } else {
            let fault = self.dice.shuffled([Fault::Store, Fault::Receiver, Fault::Agent])[0];
            self.strike(fault);
            struck.push(fault);
            self.work(50..1500);
        }
        let disaster = Instant::now();
        for fault in self.dice.shuffled(ALL) {
            self.strike(fault);
        }
        let (known, durable) = load.end();
        self.mend(Fault::Store);
        let calm = is_calm.then(|| disaster - MAY_BE_LOST);
        let bound = durable.max(calm).expect("nothing was ever durable");
        println!("reported as durable: {:?} before the disaster", durable.map(|durable| disaster - durable));
        let lost = self.judge(number, &known, (bound, disaster));
        let done: usize = known.iter().map(|known| known.acknowledged.len()).sum();
        println!(
            "round {number}: {struck:?}, calm: {is_calm}; {done} transactions, {} points; lost: {lost:?}",
            self.points.len()
        );
        self.known = known;
    }

    /// Waits until the vault has caught up with the load, and lets the load go on for a while.
    fn calm(&mut self, load: &Load) {
        let up = Instant::now();
        if let Keeping::Bucket(_) = self.keeping {
            // The S3 server of the tests cannot serve everyone at once in time.
            until("the backup and the keeper to end", || {
                self.note_backup();
                self.note_keeper();
                self.backup.child.is_none() && self.keeper.child.is_none()
            });
            until("the vault to have caught up", || load.durable() > Some(up));
            std::thread::sleep(self.dice.milliseconds(1500..3000));
        } else {
            until("the vault to have caught up", || load.durable() > Some(up));
            self.work(1500..3000);
        }
    }

    /// Restores what the vault has, to its end, and holds it against what is known.
    fn judge(&mut self, number: u32, known: &[Known], bound: (Instant, Instant)) -> Duration {
        let name = format!("restored-{number}");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (to, port_word) = (self.site.inside(&name), port.to_string());
        let mut words = vec!["restore", "--yes", "--no-archiving", "--delta", "--to", &to];
        // From the newest point, or from any; all at once, or killed in between.
        let points = self.restorable();
        if let Some(point) = points.get(self.dice.below(points.len() as u64 * 2) as usize) {
            words.extend(["--point", point]);
        }
        let site = &self.site;
        if self.dice.below(2) == 0 {
            let mut restore = site.command_with(SETTINGS, &words);
            let mut restore =
                restore.envs(envs()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // The moment is the point of it.
            std::thread::sleep(self.dice.milliseconds(20..1500));
            restore.kill().unwrap();
            restore.wait().unwrap();
        }
        words.extend(["--start", "--port", &port_word]);
        let output = run(site, SETTINGS, &words);
        let log = std::fs::read_to_string(site.path(&name).join("strongroom_recovery.log"));
        assert!(output.status.success(), "{}\n{}", said(&output), log.unwrap_or_default());
        let restored = Place::new(&site.binaries, "127.0.0.1".as_ref(), port);
        let accepts = || restored.client("psql").args(["-XAtqc", "select 1", "postgres"]).output().unwrap();
        until("connections to be accepted", || accepts().status.success());
        let lost = check_writers(&restored, known, bound);
        check_shapes(&restored);
        if site.binaries.major().number() >= 14 {
            let words = ["--all", "--install-missing", "--heapallindexed"];
            finishes(restored.client("pg_amcheck").args(words));
        }
        finishes(site.binaries.command("pg_ctl").args(["stop", "-m", "fast", "-D", &to]));
        finishes(site.binaries.command("pg_checksums").args(["--check", "-D", &to]));
        std::fs::remove_dir_all(site.path(&name)).unwrap();
        self.check_vault();
        lost
    }

    /// The server is gone for good: what is restored goes on in its place, on the next timeline.
    fn take_over(&mut self, number: u32) {
        println!("what was restored goes on");
        let name = format!("server-{number}");
        with(&self.site, SETTINGS, 0, &["restore", "--yes", "--to", &self.site.inside(&name)]);
        if let Keeping::Bucket(_) = self.keeping {
            let_fetch(&self.site, &name);
        }
        self.site.cluster = self.site.start(&name);
        self.server_is_up = true;
        self.write_settings();
        let place = self.place();
        for (writer, known) in self.known.iter_mut().enumerate() {
            // What was lost is lost; its numbers are not used again.
            let last = place.ask("postgres", &format!("select max(n) + 1 from paid where writer = {writer}"));
            known.acknowledged.split_off(&last.parse().unwrap());
        }
    }

    /// What the vault lists of points.
    fn rows(&self) -> Vec<Value> {
        let listed = run(&self.site, SETTINGS, &["list", "--output", "json"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        listed[0]["points"].as_array().unwrap().clone()
    }

    /// The points that can be restored.
    fn restorable(&self) -> Vec<String> {
        let rows = self.rows().into_iter();
        let rows = rows.filter(|row| row["state"] == "committed" && row["expired"] != true);
        rows.map(|row| row["point"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether the vault is sound, knows of every point that was reported, and of no gap.
    fn check_vault(&self) {
        let verdict = with(&self.site, SETTINGS, 0, &["verify", "--data"]);
        assert!(verdict.contains("sound"), "{verdict}");
        let rows = self.rows();
        for point in &self.points {
            let is_committed = |row: &Value| row["point"] == point.as_str() && row["state"] == "committed";
            assert!(rows.iter().any(is_committed), "{point} was reported and is not listed: {rows:?}");
        }
        with(&self.site, SETTINGS, 0, &["wal", "status"]);
    }
}

/// Runs a command that must succeed.
fn finishes(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
}

/// How many were asked for.
fn rounds() -> Option<u32> {
    std::env::var("STRONGROOM_CHAOS").ok().map(|rounds| rounds.parse().unwrap())
}

fn chaos(bucket: bool, fixed_seed: u64) {
    let (left, steps) = rounds().map_or((1, 3), |rounds| (rounds, 6));
    let mut left = left;
    while left > 0 {
        let seed = match std::env::var("STRONGROOM_CHAOS_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) if rounds().is_none() => fixed_seed,
            Err(_) => getrandom::u64().unwrap(),
        };
        println!("STRONGROOM_CHAOS_SEED={seed}, in a {}", if bucket { "bucket" } else { "folder" });
        let Some(mut world) = World::new(seed, bucket) else { return };
        let of_world = left.min(ROUNDS);
        for round in 0..of_world {
            if round > 0 && world.dice.below(2) == 0 {
                world.take_over(round);
            }
            world.round(round, steps);
        }
        left -= of_world;
    }
}

#[test]
fn whatever_dies_what_was_durable_is_restored_from_a_folder() {
    chaos(false, 36);
}

#[test]
fn whatever_dies_what_was_durable_is_restored_from_a_bucket() {
    chaos(true, 31);
}
