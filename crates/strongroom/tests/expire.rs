//! Points that share pages, retention, holds and the sweep, end to end on every PostgreSQL there is here.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use live::{Site, digest, sound, versions};
use strongroom_postgres::cluster::InitOptions;

/// Everything in the vault but WAL, which the server ships when it likes.
fn objects(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path.display().to_string()) }
        }
    }
    // That something was tried is recorded.
    found.retain(|path| ["/wal/", "/.tmp/", "/audit/"].iter().all(|other| !path.contains(other)));
    found.sort();
    found
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn with_retention(site: &Site, name: &str, retention: &str) {
    let text = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    std::fs::write(site.path(name), format!("{text}\n[retention]\n{retention}\n")).unwrap();
    site.binaries.give(&site.path(name)).unwrap();
}

/// From here on only what the test changes changes: an autovacuum after the load would touch every page.
fn settle(site: &Site) {
    for sql in ["alter system set autovacuum = off", "select pg_reload_conf()", "vacuum (freeze, analyze)"] {
        site.cluster.sql(sql).unwrap();
    }
}

/// Four points of a changing cluster: later ones are small, and each restores alone after the first two went.
#[test]
fn points_share_pages_expire_and_are_swept() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        let load = site.load(3);
        let mut points = vec![site.backup()];
        site.quiet(load);
        settle(&site);
        let mut digests = vec![String::new()];
        for n in 1..4 {
            site.cluster
                .sql(&format!("update pgbench_accounts set filler = 'c{n}' where aid % 500 = {n}"))
                .unwrap();
            site.cluster.sql("checkpoint").unwrap();
            digests.push(digest(&site.cluster));
            points.push(site.backup());
        }
        let listed = json(&site.ok(&["list", "--output", "json"]));
        // Two points of one second are listed in any order.
        let listed = listed[0]["points"].as_array().unwrap();
        let stored_of = |point: &String| {
            let row = listed.iter().find(|row| row["point"] == point.as_str()).unwrap();
            row["summary"]["stored"].as_u64().unwrap()
        };
        let stored: Vec<u64> = points.iter().map(stored_of).collect();
        assert!(stored[2] * 4 < stored[0], "points are not incremental: {stored:?}");

        // Held, the first stays; the second goes.
        with_retention(&site, "two.toml", "keep_last = 2");
        let hold = ["hold", "place", &points[0], "--reason", "audit", "--owner", "legal"];
        site.ok(&hold);
        let run = |arguments: &[&str]| {
            let output = site.command_with("two.toml", arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", live::said(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        let before = objects(&site.path("vault"));
        let dry = json(&run(&["expire", "--dry-run", "--output", "json"]));
        let lines = dry[0]["plan"]["lines"].as_array().unwrap();
        let line_of = |point: &String| lines.iter().find(|line| line["point"] == point.as_str()).unwrap();
        assert_eq!(line_of(&points[1])["expires"], true, "{dry}");
        assert_eq!(line_of(&points[0])["why"][0], "held: audit (legal)");
        assert_eq!(objects(&site.path("vault")), before, "a dry run wrote something");
        run(&["expire"]);
        assert!(run(&["list"]).contains("expired"));
        let said = run(&["sweep", "--dry-run"]);
        assert!(said.contains("no other refers to it"), "{said}");
        run(&["sweep"]);
        run(&["verify", "--data"]);
        let gone = site.inside("gone");
        site.fails(9, &["restore", "--yes", "--to", &gone, "--point", &points[1]]);
        assert!(site.fails(9, &["show", &points[1]]).contains("is expired"));
        site.fails(9, &["hold", "place", &points[1], "--reason", "late", "--owner", "legal"]);

        run(&["hold", "release", &points[0], "--reason", "done", "--owner", "legal"]);
        run(&["expire"]);
        run(&["sweep"]);
        run(&["verify", "--data"]);
        for n in [2, 3] {
            let restored =
                site.restore(&format!("r{n}"), &["--point", &points[n], "--immediate", "--no-archiving"]);
            assert_eq!(digest(&restored), digests[n], "point {n} on {binaries:?}");
            if n == 2 {
                sound(restored);
            }
        }
        // And the next one goes on from there.
        site.backup();
        run(&["verify", "--data"]);
    }
}

/// What cannot be meant is refused, and nothing is lost by it.
#[test]
fn bad_input_lets_nothing_go() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    let point = site.backup();
    let before = objects(&site.path("vault"));
    for (retention, words) in [
        ("minimum_redundancy = 1", "keeps nothing but the last point"),
        ("keep_last = 1\ntimezone = \"Mars/Olympus\"", "is no time zone"),
        ("keep_days = 4000000", "more than 1000 years"),
    ] {
        with_retention(&site, "bad.toml", retention);
        let output = site.command_with("bad.toml", &["expire"]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", live::said(&output));
        assert!(live::said(&output).contains(words), "{}", live::said(&output));
    }
    let said = site.fails(3, &["expire", "main"]);
    assert!(said.contains("no retention") && said.contains("[retention]"), "{said}");
    site.ok(&["expire"]);
    site.fails(9, &["hold", "place", "20200101T000000Z-00000000", "--reason", "r", "--owner", "o"]);
    site.fails(
        2,
        &["hold", "place", &point, "--reason", "r", "--owner", "o", "--until", "2001-01-01T00:00:00Z"],
    );
    site.fails(2, &["hold", "release", &point, "--reason", "r", "--owner", "o"]);
    site.fails(3, &["sweep", "nowhere"]);
    site.fails(2, &["sweep", "main", "--forget", "20200101T000000Z-00000000"]);
    assert_eq!(objects(&site.path("vault")), before);
    // A sweep that may not list stops, and deletes nothing.
    with_retention(&site, "one.toml", "keep_last = 1");
    site.backup();
    assert!(site.command_with("one.toml", &["expire"]).output().unwrap().status.success());
    let points = site.path("vault").join("sources/main/points");
    let closed = std::fs::Permissions::from_mode(0o300);
    std::fs::set_permissions(&points, closed).unwrap();
    let said = live::said(&site.run(&["sweep"]));
    std::fs::set_permissions(&points, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(said.contains("denied"), "{said}");
    site.ok(&["verify", "--data"]);
    site.ok(&["sweep"]);
}
