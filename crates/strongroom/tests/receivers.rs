//! The agent's receivers against real servers: they come back after every end, say why, and take nothing else along.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::fs::File;
use std::process::{Child, Stdio};

use live::{Site, digest, until, versions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use strongroom_postgres::cluster::{Binaries, InitOptions};

/// A site with small segments, whose archiver ships nothing: what the agent receives is all there is.
fn site(binaries: &Binaries, settings: &str) -> Site {
    let settings = format!("archive_command = ''\nwal_keep_size = 64MB\n{settings}");
    let site = Site::new(binaries, InitOptions { segment_mib: 1, settings, ..InitOptions::default() });
    append(&site, &format!("[agent]\nsocket = \"{}\"\n[source.main.receive]\n", site.inside("agent.sock")));
    site
}

fn append(site: &Site, settings: &str) {
    site.rewrite(|text| text + settings);
}

/// A running agent, and what it says.
struct Agent<'a> {
    site: &'a Site,
    child: Child,
}

impl<'a> Agent<'a> {
    fn start(site: &'a Site) -> Agent<'a> {
        let _ = std::fs::remove_file(site.path("agent.sock"));
        let mut command = site.command(&["run", "--output", "json"]);
        command.stdout(Stdio::piped()).stderr(File::create(site.path("agent.log")).unwrap());
        let child = command.spawn().unwrap();
        until("the agent to listen", || site.path("agent.sock").exists());
        Agent { site, child }
    }

    /// How often it has said so.
    fn said(&self, text: &str) -> usize {
        std::fs::read_to_string(self.site.path("agent.log")).unwrap().matches(text).count()
    }

    fn says(&self, text: &str) {
        until(&format!("'{text}'"), || self.said(text) > 0);
    }

    /// Ends it as systemd would; its exit code, and what it has received.
    fn stop(self) -> (Option<i32>, Value) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::TERM).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let done: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), done["received"]["main"].clone())
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Waits until the server knows everything it wrote to be in the vault, by this receiver.
fn caught_up(site: &Site, name: &str) {
    let sql = format!(
        "select coalesce(bool_or(flush_lsn >= pg_current_wal_flush_lsn()), false) from pg_stat_replication \
         where application_name = '{name}'"
    );
    until("everything to be in the vault", || site.cluster.sql(&sql).is_ok_and(|answer| answer == "t"));
}

fn write(site: &Site, table: &str) {
    let sql = format!("create table {table} as select n, md5(n::text) as v from generate_series(1, 40000) n");
    site.cluster.sql(&sql).unwrap();
}

#[test]
fn what_the_agent_received_outlives_the_server() {
    for binaries in versions() {
        let site = site(&binaries, "");
        let agent = Agent::start(&site);
        caught_up(&site, "strongroom");
        site.backup();
        let load = site.load(1);
        write(&site, "one");
        site.quiet(load);
        caught_up(&site, "strongroom");
        let before = digest(&site.cluster);
        // Nothing ends the open segment: what restores this is its tail.
        site.cluster.kill().unwrap();
        agent.kill();
        let restored = site.restore("restored", &["--no-archiving"]);
        assert_eq!(restored.sql("select count(*) from one").unwrap(), "40000");
        assert_eq!(digest(&restored), before);
    }
}

#[test]
fn a_receiver_is_back_after_its_server_and_the_agent_ships_its_tail_before_it_ends() {
    for binaries in versions() {
        let mut site = site(&binaries, "");
        let port = site.cluster.port();
        site.cluster.stop("fast").unwrap();
        {
            // An agent may be there before its server.
            let agent = Agent::start(&site);
            agent.says("main: WAL is not received, trying again in");
            agent.says("is the server running");
            agent.kill();
        }
        site.cluster.start_at(port).unwrap();
        // Nothing of the open segment is shipped by the clock.
        append(&site, "interval = \"1h\"\npart_size = \"1GiB\"\n");
        let agent = Agent::start(&site);
        let sender = "select min(pid) from pg_stat_replication where state = 'streaming'";
        let streams = |before: &str| {
            let now = site.cluster.sql(sender).unwrap();
            !now.is_empty() && now != before
        };
        until("WAL to be received", || streams(""));
        let first = site.cluster.sql(sender).unwrap();
        let open = site.cluster.sql("select pg_walfile_name(pg_current_wal_lsn())").unwrap();
        assert_eq!(site.cluster.sql(&format!("select pg_terminate_backend({first})")).unwrap(), "t");
        until("WAL to be received again", || streams(&first));
        write(&site, "one");
        // Errands and receivers are one process, and do not know of each other.
        let to = site.inside("fetched");
        until("a segment to be shipped", || site.run(&["wal", "fetch", &open, &to]).status.success());
        let last = site.cluster.sql("select pg_current_wal_flush_lsn()").unwrap();
        let received = format!("select bool_or(write_lsn >= '{last}') from pg_stat_replication");
        until("everything to be received", || site.cluster.sql(&received).unwrap() == "t");
        let (code, done) = agent.stop();
        assert_eq!((code, &done["received"]), (Some(0), &done["durable"]), "{done}");
        assert!(done["segments"].as_u64().unwrap() > 0, "{done}");
        let reached = format!("select '{last}'::pg_lsn <= '{}'::pg_lsn", done["durable"].as_str().unwrap());
        assert_eq!(site.cluster.sql(&reached).unwrap(), "t", "{last}: {done}");
    }
}

#[test]
fn what_is_wrong_is_said_with_the_way_out_and_goes_on_once_it_is_mended() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = site(&binaries, "");
    site.cluster.sql("create role plain login").unwrap();
    site.rewrite(|text| text.replace("user=postgres", "user=plain"));
    let agent = Agent::start(&site);
    // At the server: tried again, and each time said.
    agent.says("ALTER ROLE \"plain\" REPLICATION");
    until("it to be tried again", || agent.said("WAL is not received, trying again in") >= 2);
    site.cluster.sql("alter role plain replication").unwrap();
    caught_up(&site, "strongroom");
    // In the settings: those that do not read change nothing.
    append(&site, "slto = \"another\"\n");
    agent.says("going on with the settings as they were");
    assert_eq!(agent.said("going on with the settings as they were"), 1);
    site.rewrite(|text| text.replace("slto = \"another\"\n", "slot = \"another\"\nname = \"second\"\n"));
    caught_up(&site, "second");
    assert_eq!(
        site.cluster.sql("select string_agg(slot_name, ' ') from pg_replication_slots where active").unwrap(),
        "another"
    );
    // The key.
    let key = site.path("identity.txt");
    std::fs::rename(&key, site.path("away.txt")).unwrap();
    site.rewrite(|text| text.replace("\"second\"", "\"third\""));
    agent.says("is the path right, and may this user read it?");
    std::fs::rename(site.path("away.txt"), &key).unwrap();
    caught_up(&site, "third");
    // No longer wanted.
    site.rewrite(|text| text.replace("name = \"third\"", "not_by_agent = true"));
    let senders = "select count(*) from pg_stat_replication";
    until("the receiver to end", || site.cluster.sql(senders).unwrap() == "0");
    let (code, done) = agent.stop();
    assert_eq!(code, Some(0));
    assert!(done["restarts"].as_u64().unwrap() >= 3, "{done}");
}

#[test]
fn two_receivers_of_one_source_do_not_share_a_slot() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = site(&binaries, "");
    let agent = Agent::start(&site);
    caught_up(&site, "strongroom");
    assert!(site.fails(5, &["wal", "receive"]).contains("is in use by server process"));
    agent.kill();
    let sender = "select count(*) from pg_stat_replication";
    until("the sender to be gone", || site.cluster.sql(sender).unwrap() == "0");
    let mut by_hand = site.command(&["wal", "receive", "--name", "by_hand"]).spawn().unwrap();
    caught_up(&site, "by_hand");
    let agent = Agent::start(&site);
    agent.says("is in use by server process");
    by_hand.kill().unwrap();
    by_hand.wait().unwrap();
    caught_up(&site, "strongroom");
    assert_eq!(agent.stop().0, Some(0));
}

#[test]
fn a_gap_is_said_and_is_in_the_exit_code() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let settings = "wal_keep_size = 0\nmax_wal_size = 2MB\nmin_wal_size = 2MB\narchive_mode = off";
    let site = site(&binaries, settings);
    let agent = Agent::start(&site);
    write(&site, "one");
    caught_up(&site, "strongroom");
    assert_eq!(agent.stop().0, Some(0));
    site.cluster.sql("alter system set max_slot_wal_keep_size = '1MB'; select pg_reload_conf()").unwrap();
    until("the server to give the slot up", || {
        site.cluster.sql("drop table if exists two").unwrap();
        write(&site, "two");
        site.cluster.sql("checkpoint").unwrap();
        site.cluster.sql("select wal_status from pg_replication_slots").unwrap() == "lost"
    });
    site.cluster.sql("alter system reset max_slot_wal_keep_size; select pg_reload_conf()").unwrap();
    let agent = Agent::start(&site);
    agent.says("main: the server no longer has the WAL from");
    caught_up(&site, "strongroom");
    let (code, done) = agent.stop();
    assert_eq!((code, &done["gaps"]), (Some(4), &1.into()), "{done}");
}
