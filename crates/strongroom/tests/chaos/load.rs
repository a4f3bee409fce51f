//! A load whose truth the test keeps: what was sent, what was acknowledged and when, and up to when the server was told that
//! everything it had acknowledged is in the vault.
//!
//! Every client is a `psql` that is given one transaction after the other. Whatever ends it (a server that is killed, a lock
//! that is given up), the next one takes its place: the transaction under way then may or may not have happened.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use strongroom_postgres::cluster::{Binaries, run};

use super::dice::Dice;

/// Before a server that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Rows of the table that all writers update.
const ACCOUNTS: u64 = 20_000;

/// Databases that come and go are copies of this one.
const MODEL_ROWS: u32 = 2000;

/// Tables that come and go.
const SHAPES: u64 = 4;

/// Where a server is reached.
#[derive(Clone)]
pub struct Place {
    binaries: Binaries,
    host: PathBuf,
    port: u16,
}

impl Place {
    pub fn new(binaries: &Binaries, host: &Path, port: u16) -> Place {
        Place { binaries: binaries.clone(), host: host.to_owned(), port }
    }

    /// A client program that is told where the server is.
    pub fn client(&self, program: &str) -> Command {
        let mut command = self.binaries.command(program);
        command.arg("-h").arg(&self.host).args(["-p", &self.port.to_string(), "-U", "postgres"]);
        command
    }

    /// The answer to a question.
    pub fn ask(&self, database: &str, sql: &str) -> String {
        let mut client = self.client("psql");
        let output = run(client.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql])).unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

/// One client.
struct Session {
    child: Child,
    told: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Session {
    /// `None` if the server lets nobody in.
    fn open(place: &Place) -> Option<Session> {
        let mut client = place.client("psql");
        client.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", "-"]);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = client.spawn().unwrap();
        let (told, says) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut session = Session { child, told, says: BufReader::new(says) };
        session.does("select from pg_am limit 0;").then_some(session)
    }

    /// Whether the server acknowledged these statements.
    fn does(&mut self, statements: &str) -> bool {
        let mut said = String::new();
        writeln!(self.told, "{statements}\n\\echo done").is_ok()
            && self.says.read_line(&mut said).is_ok()
            && said == "done\n"
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one writer knows of its transactions, which it numbers from 1.
#[derive(Default)]
pub struct Known {
    /// The last one that may have reached the server.
    pub sent: u64,
    /// When each was acknowledged.
    pub acknowledged: BTreeMap<u64, Instant>,
}

/// Prepares a server for a load of so many writers.
pub fn prepare(place: &Place, writers: usize) {
    let tables = format!(
        "create table paid (writer int, n int, v text, primary key (writer, n));
         create table balance (writer int primary key, n int) with (fillfactor = 50);
         insert into balance select n, 0 from generate_series(0, {writers} - 1) n;
         create table accounts (id int primary key, v text);
         insert into accounts select n, md5(n::text) from generate_series(0, {ACCOUNTS} - 1) n;
         create table shapes (name text primary key, size int);
         create table switched (n int)"
    );
    place.ask("postgres", &tables);
    place.ask("postgres", "create database model");
    place.ask("model", &format!("create table m as select n from generate_series(1, {MODEL_ROWS}) n"));
}

/// Clients at work until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Known>>,
    others: Vec<JoinHandle<()>>,
    durable: Arc<Mutex<Option<Instant>>>,
}

impl Load {
    /// Writers that go on where `known` ends, one that changes what there is, and one that watches what is durable. Writers
    /// pause between transactions, the other one twenty times as long.
    pub fn begin(place: &Place, known: Vec<Known>, (seed, pause): (u64, Duration)) -> Load {
        let (stop, durable) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let begin_writer = |(writer, known)| {
            let (place, stop, dice) = (place.clone(), stop.clone(), Dice::new(seed ^ writer as u64));
            std::thread::spawn(move || write_on(&place, (writer, known), (dice, pause), &stop))
        };
        let writers = known.into_iter().enumerate().map(begin_writer).collect();
        let (builder, dice, is_over) = (place.clone(), Dice::new(!seed), stop.clone());
        let builder = std::thread::spawn(move || build_on(&builder, (dice, pause * 20), &is_over));
        let (watcher, is_over, seen) = (place.clone(), stop.clone(), durable.clone());
        let watcher = std::thread::spawn(move || watch_on(&watcher, &seen, &is_over));
        Load { stop, writers, others: vec![builder, watcher], durable }
    }

    /// Everything that was acknowledged before this moment is in the vault: so the server was told.
    pub fn durable(&self) -> Option<Instant> {
        *self.durable.lock().unwrap()
    }

    /// Ends it, once the server is gone; what is known of each writer's transactions.
    pub fn end(self) -> (Vec<Known>, Option<Instant>) {
        self.stop.store(true, Ordering::Relaxed);
        let known = self.writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        self.others.into_iter().for_each(|other| other.join().unwrap());
        let durable = *self.durable.lock().unwrap();
        (known, durable)
    }
}

/// Has sessions do one thing after the other, as long as the load goes on.
fn go_on(place: &Place, stop: &AtomicBool, mut next: impl FnMut(&mut Session) -> bool) {
    while !stop.load(Ordering::Relaxed) {
        if let Some(mut session) = Session::open(place) {
            while !stop.load(Ordering::Relaxed) && next(&mut session) {}
        }
        // Nobody says when a server is back.
        std::thread::sleep(ASK_AGAIN);
    }
}

/// Transactions that insert one row and change two.
fn write_on(
    place: &Place,
    (writer, mut known): (usize, Known),
    (mut dice, pause): (Dice, Duration),
    stop: &AtomicBool,
) -> Known {
    go_on(place, stop, |session| {
        known.sent += 1;
        let (n, length, id) = (known.sent, 1 + dice.below(12), dice.below(ACCOUNTS));
        let sql = format!(
            "insert into paid values ({writer}, {n}, repeat(md5('{n}'), {length}))\\;
             update balance set n = n + 1 where writer = {writer}\\;
             update accounts set v = md5('{n}') where id = {id};"
        );
        let is_acknowledged = session.does(&sql);
        if is_acknowledged {
            known.acknowledged.insert(n, Instant::now());
        }
        std::thread::sleep(pause);
        is_acknowledged
    });
    known
}

/// Relations and databases that come, go, shrink and are written anew.
fn build_on(place: &Place, (mut dice, pause): (Dice, Duration), stop: &AtomicBool) {
    go_on(place, stop, |session| {
        let (name, size) = (format!("shape{}", dice.below(SHAPES)), 1 + dice.below(20_000));
        let rows = format!("select n, md5(n::text) as v from generate_series(1, {size}) n");
        let noted = format!(
            "insert into shapes values ('{name}', {size}) on conflict (name) do update set size = excluded.size"
        );
        let sql = match dice.below(12) {
            0..3 => format!(
                "drop table if exists {name}\\; create table {name} as {rows}\\; create index on {name} (n)\\; {noted};"
            ),
            3 => format!("truncate {name}\\; insert into {name} {rows}\\; {noted};"),
            4 => format!(
                "delete from {name} where n > {size}\\; update shapes set size = least(size, {size}) where name = '{name}';
                 vacuum (truncate true) {name};"
            ),
            5 => format!("vacuum full {name};"),
            6 => format!("update {name} set v = v || 'x' where n % 7 = 0; vacuum {name};"),
            7 => format!("drop table {name}\\; delete from shapes where name = '{name}';"),
            8 => "reindex table paid;".to_owned(),
            9 => "checkpoint;".to_owned(),
            10 => "insert into switched values (1); do $$ begin perform pg_switch_wal(); end $$;".to_owned(),
            _ => copy_database(place),
        };
        // Some of it does not work, such as cutting a table that is not there: the session ends, and another goes on.
        let is_done = session.does(&sql);
        // Or it would leave the writers no room.
        std::thread::sleep(pause + dice.milliseconds(10..70));
        is_done
    });
}

/// A database made by copying another's files, in place of the one before.
fn copy_database(place: &Place) -> String {
    // Before 15 there was no other way.
    let strategy = if place.binaries.major().number() >= 15 { "strategy file_copy" } else { "" };
    format!("drop database if exists copy; create database copy template model {strategy};")
}

/// Has the server say when what it had written is in the vault.
fn watch_on(place: &Place, seen: &Mutex<Option<Instant>>, stop: &AtomicBool) {
    let wait = "do $$ declare written pg_lsn := pg_current_wal_flush_lsn();
        begin
          while not exists (select from pg_stat_replication where application_name = 'strongroom' and flush_lsn >= written) loop
            commit; perform pg_sleep(0.02);
          end loop;
        end $$;";
    go_on(place, stop, |session| {
        let asked = Instant::now();
        let is_durable = session.does(wait);
        if is_durable {
            *seen.lock().unwrap() = Some(asked);
        }
        is_durable
    });
}

/// What a restored server has of the writers' transactions, against what they know: everything acknowledged up to `bound`,
/// nothing that was not sent, no holes, and nothing done by half. How long before `disaster` the first lost one was
/// acknowledged.
pub fn check_writers(restored: &Place, known: &[Known], (bound, disaster): (Instant, Instant)) -> Duration {
    let mut lost = Duration::ZERO;
    let (mut there, mut sent) = (0, 0);
    for (writer, known) in known.iter().enumerate() {
        let rows = format!("select n from paid where writer = {writer} order by n");
        let rows: Vec<u64> =
            restored.ask("postgres", &rows).lines().map(|line| line.parse().unwrap()).collect();
        let last = rows.last().copied().unwrap_or(0);
        assert!(last <= known.sent, "writer {writer} never sent {last}: it came as far as {}", known.sent);
        for (n, at) in &known.acknowledged {
            if rows.binary_search(n).is_err() {
                let before = disaster.saturating_duration_since(*at);
                assert!(*n > last, "writer {writer}: {n} is missing, and {last} is there");
                assert!(
                    *at > bound,
                    "writer {writer}: {n} is missing, acknowledged {before:?} before the disaster"
                );
                lost = lost.max(before);
            }
        }
        (there, sent) = (there + rows.len(), sent + known.sent);
    }
    assert!(there > 0, "nothing of {sent} transactions is there");
    let halves =
        "select count(*) from balance b where b.n <> (select count(*) from paid p where p.writer = b.writer)";
    assert_eq!(restored.ask("postgres", halves), "0", "transactions were restored by half");
    lost
}

/// What a restored server has of the tables and databases that came and went.
pub fn check_shapes(restored: &Place) {
    for shape in restored.ask("postgres", "select name, size from shapes").lines() {
        let (name, size) = shape.split_once('|').unwrap();
        let sql = format!(
            "select count(*) from {name}; set enable_seqscan = off; select count(*) from {name} where n > 0"
        );
        assert_eq!(restored.ask("postgres", &sql), format!("{size}\n{size}"), "{name}");
    }
    // But for one that was just being dropped.
    let copies = "select datname from pg_database where datname in ('model', 'copy') and datconnlimit <> -2";
    for database in restored.ask("postgres", copies).lines() {
        assert_eq!(
            restored.ask(database, "select count(*) from m"),
            MODEL_ROWS.to_string(),
            "database {database}"
        );
    }
}
