//! `strongroom run`: WAL shipped before it is offered and fetched before it is asked for, and everything as before when the
//! agent dies, is of other settings, or is told that a store is gone.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use live::small::Small;
use live::{Site, digest, until, versions};
use serde_json::Value;
use strongroom_postgres::cluster::{Cluster, InitOptions};

/// A site whose settings say where its agent listens.
fn site_with_socket(binaries: &strongroom_postgres::cluster::Binaries) -> Site {
    let site = Site::new(binaries, InitOptions::default());
    append(&site, &format!("[agent]\nsocket = \"{}\"\n", site.inside("agent.sock")));
    site
}

fn append(site: &Site, settings: &str) {
    let path = site.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + settings).unwrap();
}

/// A running agent, which listens.
fn start(site: &Site) -> Child {
    let _ = std::fs::remove_file(site.path("agent.sock"));
    let mut command = site.command(&["run", "--output", "json"]);
    let agent = command.stdout(Stdio::piped()).spawn().unwrap();
    until("the agent to listen", || site.path("agent.sock").exists());
    agent
}

/// Ends it as systemd would, and gives what it has done.
fn stop(agent: Child) -> Value {
    let pid = rustix::process::Pid::from_raw(agent.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = agent.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["done"].clone()
}

/// Names of the segments in a vault.
fn shipped(folder: &Path) -> Vec<String> {
    let (mut names, mut folders) = (Vec::new(), vec![folder.join("sources/main/wal")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => names.push(entry.file_name().into_string().unwrap()),
            }
        }
    }
    names.retain(|name| name.len() == 24);
    names.sort();
    names
}

/// Closes so many segments.
fn close_segments(cluster: &Cluster, count: usize) -> Vec<String> {
    let close = |_| {
        cluster.sql("select pg_logical_emit_message(true, 'fill', repeat('x', 100))").unwrap();
        cluster.sql("select pg_walfile_name(pg_switch_wal())").unwrap()
    };
    (0..count).map(close).collect()
}

fn archive_command(cluster: &Cluster, command: Option<&str>) {
    match command {
        Some(command) => cluster.sql(&format!("alter system set archive_command = '{command}'")).unwrap(),
        None => cluster.sql("alter system reset archive_command").unwrap(),
    };
    cluster.sql("select pg_reload_conf()").unwrap();
}

fn pg_wal(site: &Site) -> PathBuf {
    site.cluster.data().join("pg_wal")
}

#[test]
fn behaviour_10_what_is_ready_is_shipped_before_it_is_offered_and_nothing_else() {
    for binaries in versions() {
        let site = site_with_socket(&binaries);
        site.ship(&site.cluster);
        archive_command(&site.cluster, Some(""));
        let closed = close_segments(&site.cluster, 4);
        // Finished to all appearances, but the server does not say so.
        let unready = format!("{}1F", &closed[0][..22]);
        std::fs::copy(pg_wal(&site).join(&closed[0]), pg_wal(&site).join(&unready)).unwrap();
        let ready = |name: &String| pg_wal(&site).join(format!("archive_status/{name}.ready")).exists();
        until("all to be ready", || closed.iter().all(ready));
        let agent = start(&site);
        let first = site.binaries.inside(&pg_wal(&site).join(&closed[0]));
        site.ok(&["wal", "push", &first.display().to_string()]);
        until("those behind it to be shipped", || {
            closed.iter().all(|name| shipped(&site.path("vault")).contains(name))
        });
        assert!(closed.iter().all(ready), "the agent takes nothing away");
        assert!(!shipped(&site.path("vault")).contains(&unready));
        archive_command(&site.cluster, None);
        site.ship(&site.cluster);
        std::fs::remove_file(pg_wal(&site).join(&unready)).unwrap();
        let done = stop(agent);
        assert!(
            done["pushed_ahead"].as_u64().unwrap() >= 3 && done["pushed"].as_u64().unwrap() >= 5,
            "{done}"
        );
    }
}

#[test]
fn behaviour_09_an_agent_that_dies_takes_nothing_acknowledged_with_it() {
    for binaries in versions() {
        let site = site_with_socket(&binaries);
        site.backup();
        let load = site.load(1);
        for _ in 0..3 {
            let mut agent = start(&site);
            site.ship(&site.cluster);
            agent.kill().unwrap();
            agent.wait().unwrap();
            site.ship(&site.cluster);
        }
        site.quiet(load);
        site.ship(&site.cluster);
        let restored = site.restore("restored", &["--no-archiving"]);
        assert_eq!(digest(&restored), digest(&site.cluster));
    }
}

#[test]
fn recovery_gets_its_next_segments_ahead_and_ends_where_the_journal_ends() {
    for binaries in versions() {
        let site = site_with_socket(&binaries);
        site.backup();
        let load = site.load(1);
        for _ in 0..12 {
            close_segments(&site.cluster, 1);
        }
        site.quiet(load);
        site.ship(&site.cluster);
        let agent = start(&site);
        let restored = site.restore("restored", &["--no-archiving"]);
        assert_eq!(digest(&restored), digest(&site.cluster));
        let done = stop(agent);
        assert!(done["fetched_ahead"].as_u64().unwrap() >= 8, "{done}");
    }
}

#[test]
fn behaviour_13_the_agent_s_answers_have_the_codes_that_recovery_relies_on() {
    for binaries in versions() {
        let site = site_with_socket(&binaries);
        site.ship(&site.cluster);
        let name = shipped(&site.path("vault")).remove(0);
        let agent = start(&site);
        let place = site.inside(&name);
        site.ok(&["wal", "fetch", &name, &place]);
        assert!(site.path(&name).exists());
        site.fails(1, &["wal", "fetch", "00000001000000AA00000001", &place]);
        site.fails(1, &["wal", "fetch", "archive_status", &place]);
        site.fails(200, &["wal", "fetch", &name, &site.inside("no/such/folder")]);
        std::fs::rename(site.path("vault"), site.path("elsewhere")).unwrap();
        site.fails(200, &["wal", "fetch", &name, &place]);
        site.fails(200, &["wal", "fetch", "00000001000000AA00000001", &place]);
        std::fs::rename(site.path("elsewhere"), site.path("vault")).unwrap();
        site.ok(&["wal", "fetch", &name, &place]);
        let done = stop(agent);
        assert_eq!(done["fetched_ahead"], 0, "whoever rewinds asks for single segments: {done}");
    }
}

#[test]
fn settings_that_changed_are_read_again() {
    for binaries in versions() {
        let site = site_with_socket(&binaries);
        let agent = start(&site);
        site.ship(&site.cluster);
        append(
            &site,
            &format!(
                "[[also]]\nname = \"second\"\nurl = \"{}\"\nidentity_file = \"{}\"\n",
                site.inside("second"),
                site.inside("identity.txt")
            ),
        );
        site.ok(&["init", "--copy-of", "vault", "--vault", &site.inside("second")]);
        site.ship(&site.cluster);
        let there = shipped(&site.path("second"));
        assert_eq!(there.last(), shipped(&site.path("vault")).last());
        assert!(stop(agent)["pushed"].as_u64().unwrap() >= 2);
    }
}

#[test]
fn one_agent_serves_the_same_settings() {
    for binaries in versions() {
        let site = site_with_socket(&binaries);
        let agent = start(&site);
        let said = site.fails(12, &["run"]);
        assert!(said.contains("stop it first"), "{said}");
        stop(agent);
        assert!(!site.path("agent.sock").exists());
        stop(start(&site));
    }
}

#[test]
fn a_full_vault_and_a_wrong_key_are_the_server_s_to_know_and_nothing_is_lost() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = site_with_socket(&binaries);
    let Some(small) = Small::mount(&site, "small", 14) else { return };
    let text = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let text = text.replace(&site.inside("vault"), &site.inside("small/vault"));
    let of_key = |name: &str| {
        std::fs::write(site.path("strongroom.toml"), text.replace("identity.txt", name)).unwrap();
    };
    of_key("small.txt");
    site.ok(&["init", "--generate-identity", &site.inside("small.txt")]);
    of_key("identity.txt");
    let agent = start(&site);
    let refused = "select failed_count > 0 from pg_stat_archiver";
    let closed = close_segments(&site.cluster, 1).remove(0);
    let file = site.binaries.inside(&pg_wal(&site).join(&closed)).display().to_string();
    let said = site.fails(7, &["wal", "push", &file]);
    assert!(said.contains("none of these age identities opens the vault"), "{said}");
    site.fails(200, &["wal", "fetch", &closed, &site.inside("fetched")]);
    until("the archiver to be told", || site.cluster.sql(refused).unwrap() == "t");
    // The right key, and the same agent.
    of_key("small.txt");
    site.ok(&["wal", "push", &file]);
    site.backup();
    site.cluster
        .sql("create table t as select n, gen_random_uuid() from generate_series(1, 1000000) n")
        .unwrap();
    // One of these does not fit any more.
    let stuck = "select last_failed_wal from pg_stat_archiver where last_failed_time > last_archived_time";
    until("the vault to be full", || !site.cluster.sql(stuck).unwrap().is_empty());
    let stuck = site.cluster.sql(stuck).unwrap();
    let file = site.binaries.inside(&pg_wal(&site).join(&stuck)).display().to_string();
    let said = site.fails(6, &["wal", "push", &file]);
    assert!(said.contains("is full") && said.contains("hint: free space"), "{said}");
    small.grow(400);
    site.ok(&["wal", "push", &file]);
    site.ship(&site.cluster);
    assert!(stop(agent)["pushed"].as_u64().unwrap() >= 3);
    let restored = site.restore("restored", &["--no-archiving"]);
    assert_eq!(restored.sql("select count(*) from t").unwrap(), "1000000");
}
