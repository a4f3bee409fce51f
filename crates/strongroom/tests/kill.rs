//! Behaviour 25: killed at any moment, a backup leaves a vault that the next one can use.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::process::Stdio;
use std::time::{Duration, Instant};

use live::{Site, versions};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_postgres::cluster::InitOptions;

/// A site with enough data that a backup takes a while.
fn site() -> Option<Site> {
    let binaries = versions().into_iter().next()?;
    let site = Site::new(&binaries, InitOptions::default());
    site.cluster
        .sql("create table t as select n, repeat(md5(n::text), 8) as v from generate_series(1, 150000) n")
        .unwrap();
    Some(site)
}

fn listed(site: &Site, state: &str) -> usize {
    let listings: serde_json::Value = serde_json::from_str(&site.ok(&["list", "--output", "json"])).unwrap();
    let points = listings[0]["points"].as_array().cloned().unwrap_or_default();
    points.iter().filter(|point| point["state"] == state).count()
}

#[test]
fn behaviour_25_kill_9_at_ten_moments_then_a_clean_run() {
    let Some(site) = site() else { return };
    let began = Instant::now();
    site.backup();
    // A guess of how long one takes. The first is the longest, and machines differ: one that outran its kill is reported
    // whole, must be listed, and makes the guess shorter.
    let mut whole = began.elapsed();
    let mut reported = 1;
    for moment in 1..=10 {
        loop {
            let mut backup =
                site.command(&["backup"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // The moment is the point of the test, so here time itself is what is waited for.
            std::thread::sleep(whole * moment / 11);
            backup.kill().unwrap();
            if !backup.wait().unwrap().success() {
                break;
            }
            reported += 1;
            whole = whole * 3 / 4;
        }
    }
    // Killed between its decision and its last word a backup is whole and unannounced; none that was announced is missing.
    assert!(listed(&site, "committed") >= reported, "a backup that reported success is not listed");
    site.backup();
    site.ship(&site.cluster);
    let verdict = site.ok(&["verify", "--data"]);
    assert!(!verdict.contains("damaged"), "{verdict}");
    let restored = site.restore("restored", &["--no-archiving"]);
    assert_eq!(restored.sql("select count(*) from t").unwrap(), "150000");
}

#[test]
fn control_c_stops_a_backup_and_the_vault_goes_on() {
    let Some(site) = site() else { return };
    let mut backup = site.command(&["backup"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    live::until("the backup to begin", || listed_any(&site));
    kill_process(Pid::from_raw(backup.id() as i32).unwrap(), Signal::INT).unwrap();
    let code = backup.wait().unwrap().code();
    assert!(code == Some(130) || code == Some(0), "{code:?}");
    site.backup();
    // The server has forgotten the stopped one.
    let running = "select count(*) from pg_stat_activity where application_name = 'strongroom'";
    live::until("the session to end", || site.cluster.sql(running).unwrap() == "0");
}

fn listed_any(site: &Site) -> bool {
    site.path("vault/sources/main/points").exists()
}

#[test]
fn behaviour_26_two_backups_at_once_are_two_points() {
    let Some(site) = site() else { return };
    let begin = || site.command(&["backup"]).stdout(Stdio::null()).spawn().unwrap();
    let (mut one, mut two) = (begin(), begin());
    assert!(one.wait().unwrap().success());
    assert!(two.wait().unwrap().success());
    assert_eq!(listed(&site, "committed"), 2);
    assert!(site.ok(&["verify", "--data"]).contains("sound"));
}

/// The ceiling that ARCHITECTURE.md states: (2 workers + 4 uploads) × 33 MiB of packs, and 50 MiB for everything else.
#[test]
fn memory_stays_below_its_ceiling() {
    let Some(site) = site() else { return };
    site.cluster
        .sql("create table noise as select n, gen_random_uuid()::text || gen_random_uuid()::text as v from generate_series(1, 3000000) n")
        .unwrap();
    let mut backup = site.command(&["backup", "--workers", "2"]).stdout(Stdio::null()).spawn().unwrap();
    let mut peak_kib = 0u64;
    while backup.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", backup.id())).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak_kib = peak_kib.max(peak.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(backup.wait().unwrap().success());
    println!("peak: {} MiB", peak_kib >> 10);
    assert!(peak_kib > 10 << 10, "the peak was not seen");
    assert!(peak_kib <= 256 << 10, "{} MiB", peak_kib >> 10);
}
