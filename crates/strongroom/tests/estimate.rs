//! A plan says how long its restore will take by what earlier ones took, and nothing where there were none.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::os::unix::fs::PermissionsExt;

use live::{Site, versions};
use serde_json::Value;
use strongroom_postgres::cluster::InitOptions;

/// The plan of a restore, and its line about time.
fn planned(site: &Site, more: &[&str]) -> (Value, String) {
    let to = site.inside("never");
    let words = [&["restore", "--dry-run", "--to", &to][..], more].concat();
    let json = site.ok(&[&words[..], &["--output", "json"]].concat());
    let text = site.ok(&words);
    let line = text.lines().find(|line| line.starts_with("  estimate ")).unwrap().to_owned();
    (serde_json::from_str(&json).unwrap(), line)
}

#[test]
fn what_a_restore_and_its_replay_took_is_the_next_plan_s_estimate() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions { segment_mib: 1, ..InitOptions::default() });
        site.backup();
        site.cluster
            .sql("create table many as select n, repeat(md5(n::text), 9) as v from generate_series(1, 40000) n")
            .unwrap();
        site.ship(&site.cluster);
        let (plan, line) = planned(&site, &[]);
        assert_eq!((&plan["estimate"]["pages"], &plan["estimate"]["replay"]), (&Value::Null, &Value::Null));
        assert!(line.contains("none: no restore of this kind and size was measured yet"), "{line}");

        // One at full speed, and the replay behind it.
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let to = site.inside("first");
        let words = ["restore", "--yes", "--no-archiving", "--start", "--port", &port, "--to", &to];
        let done: Value =
            serde_json::from_str(&site.ok(&[&words[..], &["--output", "json"]].concat())).unwrap();
        let stop = binaries.command("pg_ctl").args(["stop", "-m", "fast", "-D", &to]).output().unwrap();
        assert!(stop.status.success(), "{stop:?}");
        let measured = done["measured"].as_str().unwrap();
        assert!(measured.ends_with(|last: char| last.is_ascii_hexdigit()), "{measured}");
        let (plan, line) = planned(&site, &[]);
        let (pages, replay) = (&plan["estimate"]["pages"], &plan["estimate"]["replay"]);
        assert_eq!((&pages["measures"], &pages["here"]), (&1.into(), &true.into()), "{plan}");
        let took = done["restored"]["seconds"].as_f64().unwrap();
        assert!((pages["seconds"].as_f64().unwrap() - took).abs() < 0.01 * took, "{pages}: {took}");
        assert!(replay["seconds"].as_f64().unwrap() > 0.0, "{plan}");
        assert!(line.contains("(1 restore measured here: ") && line.contains("/s of WAL)"), "{line}");
        // Comparing is another kind of work; its replay is the same.
        std::fs::remove_file(site.path("first/postmaster.pid")).ok();
        let over = ["--delta", "--to", &to];
        let text = site.ok(&[&["restore", "--dry-run"][..], &over].concat());
        assert!(text.contains("estimate   none"), "{text}");
        site.ok(&[&["restore", "--yes", "--no-archiving"][..], &over].concat());
        let text = site.ok(&[&["restore", "--dry-run"][..], &over].concat());
        assert!(text.contains("(1 restore measured here: "), "{text}");
        // What is held up says nothing of one that is not.
        let to = site.inside("slow");
        let slow = site.ok(&[
            "restore",
            "--yes",
            "--no-archiving",
            "--rate-limit",
            "1GiB/s",
            "--to",
            &to,
            "--output",
            "json",
        ]);
        assert_eq!(serde_json::from_str::<Value>(&slow).unwrap()["measured"], Value::Null);
        assert!(planned(&site, &["--rate-limit", "1MiB/s"]).1.ends_with("--rate-limit may make it longer"));
        // Records of restores are no verifications.
        assert!(site.ok(&["verify", "--records"]).contains("nothing was verified"));
    }
}

#[test]
fn a_vault_that_takes_no_record_restores_all_the_same() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.backup();
    site.ship(&site.cluster);
    // A folder where only the vault's owner may make another, and that is not us any more.
    std::fs::set_permissions(site.path("vault"), std::fs::Permissions::from_mode(0o555)).unwrap();
    let to = site.inside("restored");
    let output = site.run(&["-v", "restore", "--yes", "--no-archiving", "--to", &to]);
    std::fs::set_permissions(site.path("vault"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = live::said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("how long this restore took is not kept"), "{said}");
    assert!(!site.path("vault/evidence").exists());
    site.start("restored");
}
