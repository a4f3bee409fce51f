//! What a bucket does by itself, end to end on a real S3 server: locks read back, holds, the vault as it was, lifecycle rules,
//! frozen points.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use live::cloud::{let_fetch, run, ship_by, with};
use live::{Site, said, until, versions};
use strongroom_postgres::cluster::InitOptions;
use strongroom_store::conformance::moto::MotoServer;

fn json(site: &Site, settings: &str, arguments: &[&str]) -> serde_json::Value {
    let output = run(site, settings, &[arguments, &["--output", "json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
}

/// A server whose WAL goes to a bucket, and a point in it.
fn site(server: &MotoServer, extra: &str) -> Option<(Site, String)> {
    let site = Site::new(&versions().into_iter().next()?, InitOptions::default());
    server.make_locking_bucket("vaults");
    write(&site, server, "s3.toml", extra);
    with(&site, "s3.toml", 0, &["init", "--generate-identity", &site.inside("s3.txt")]);
    ship_by(&site, "s3.toml");
    site.cluster
        .sql("create table t as select n, md5(n::text) as v from generate_series(1, 2000) n")
        .unwrap();
    let point = json(&site, "s3.toml", &["backup"])["point"].as_str().unwrap().to_owned();
    Some((site, point))
}

fn write(site: &Site, server: &MotoServer, name: &str, extra: &str) {
    let text = format!(
        "[vault]\nurl = \"s3://vaults/prod\"\nendpoint = \"{}\"\npath_style = true\nallow_http = true\nidentity_file = \"{}\"\n{extra}\n\
         [source.main]\nkind = \"postgres\"\nconnection = \"host={} port={} user=postgres\"\n",
        server.endpoint(),
        site.inside("s3.txt"),
        site.cluster.socket_folder().display(),
        site.cluster.port(),
    );
    std::fs::write(site.path(name), text).unwrap();
}

/// What the doctor makes of a locked bucket, of locks that are too short, and of none.
fn examine(site: &Site, server: &MotoServer) {
    let examined = with(site, "s3.toml", 0, &["doctor", "--storage"]);
    for said in [
        "cannot be deleted",
        "clock and this host's agree",
        "stays as an older version",
        "finds its own object",
    ] {
        assert!(examined.contains(said), "{said}: {examined}");
    }
    assert!(examined.contains("warning  store: delete"), "a writer that can delete is a warning: {examined}");
    write(
        site,
        server,
        "brief.toml",
        "[vault.lock]\nmode = \"governance\"\ndays = 10\n[retention]\nkeep_days = 30\n",
    );
    let examined = with(site, "brief.toml", 0, &["doctor", "--storage"]);
    assert!(examined.contains("set days = 60 in [vault.lock]"), "{examined}");
    assert!(examined.contains("may lift governance locks"), "{examined}");
    write(site, server, "unlocked.toml", "");
    let examined = with(site, "unlocked.toml", 0, &["doctor", "--storage"]);
    assert!(examined.contains("who may delete can delete the vault"), "{examined}");
}

#[test]
fn a_locked_point_is_shown_held_and_read_as_it_was() {
    let Some(server) = MotoServer::start() else { return };
    let Some((site, point)) = site(&server, "[vault.lock]\nmode = \"compliance\"\ndays = 40\n") else {
        return;
    };
    examine(&site, &server);
    let shown = json(&site, "s3.toml", &["show", &point]);
    let kept = &shown["kept"];
    assert!(kept["objects"].as_u64().unwrap() > 4 && kept["objects"] == kept["locked"], "{kept}");
    assert!(kept["locked_until"].is_string() && kept["governed"] == 0 && kept["held"] == 0, "{kept}");
    assert!(with(&site, "s3.toml", 0, &["show", &point]).contains("nobody can lift it"));
    let why = ["--reason", "case 4711", "--owner", "legal"];
    let held = with(&site, "s3.toml", 0, &[&["hold", "place", &point], &why[..]].concat());
    assert!(held.contains("the bucket was told so for"), "{held}");
    let kept = &json(&site, "s3.toml", &["show", &point])["kept"];
    assert_eq!(kept["held"], kept["objects"]);
    with(&site, "s3.toml", 0, &[&["hold", "release", &point], &why[..]].concat());
    assert_eq!(json(&site, "s3.toml", &["show", &point])["kept"]["held"], 0);

    // S3 counts in seconds: the theft comes in a later one.
    let now = || {
        String::from_utf8(std::process::Command::new("date").args(["-u", "+%FT%TZ"]).output().unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    };
    let then = now();
    until("a later second", || now() > then);
    let listed = json(&site, "s3.toml", &["list"]);
    assert_eq!(listed[0]["points"][0]["point"], point.as_str());
    let decision = format!("vaults/prod/sources/main/points/{point}/decision");
    server.delete(&decision);
    server.put_empty(&format!("vaults/prod/sources/main/points/{point}/manifest"));
    let hidden = with(&site, "s3.toml", 0, &["list"]);
    assert!(!hidden.contains(" ok"), "{hidden}");
    let before = with(&site, "s3.toml", 0, &["list", "--as-of", &then]);
    assert!(before.contains(&point) && before.contains("ok"), "{before}");
    assert!(with(&site, "s3.toml", 0, &["verify", "--data", "--as-of", &then]).contains("sound"));
    let to = site.inside("restored");
    with(
        &site,
        "s3.toml",
        0,
        &["restore", "--as-of", &then, "--yes", "--no-archiving", "--immediate", "--to", &to],
    );
    let text = std::fs::read_to_string(site.path("restored/postgresql.auto.conf")).unwrap();
    assert!(text.contains("--as-of"), "recovery must read the vault as it was: {text}");
    let_fetch(&site, "restored");
    assert_eq!(site.start("restored").sql("select count(*) from t").unwrap(), "2000");
    let refused = with(&site, "s3.toml", 6, &["sweep", "--as-of", &then]);
    assert!(refused.contains("what was cannot be changed"), "{refused}");
    assert!(site.fails(6, &["list", "--as-of", &then]).contains("it does not remember"));
}

#[test]
fn lifecycle_rules_are_compared_and_applied_and_frozen_points_thawed() {
    let Some(server) = MotoServer::start() else { return };
    let cold = "[vault.lifecycle]\npacks = [{ days = 60, class = \"DEEP_ARCHIVE\" }]\nnoncurrent_days = 60\n";
    let Some((site, point)) = site(&server, cold) else { return };
    let differs = with(&site, "s3.toml", 4, &["lifecycle"]);
    assert!(
        differs.contains(
            "+ strongroom prod pack: below prod/, tagged strongroom=pack; DEEP_ARCHIVE from day 60"
        ),
        "{differs}"
    );
    with(&site, "s3.toml", 0, &["lifecycle", "--apply"]);
    let same = with(&site, "s3.toml", 0, &["lifecycle"]);
    assert!(!same.contains('+') && same.contains("DEEP_ARCHIVE from day 60"), "{same}");
    assert!(with(&site, "s3.toml", 0, &["lifecycle", "--xml"]).starts_with("<LifecycleConfiguration"));
    write(
        &site,
        &server,
        "wrong.toml",
        "[vault.lifecycle]\npacks = [{ days = 0, class = \"DEEP_ARCHIVE\" }]\n",
    );
    assert!(with(&site, "wrong.toml", 4, &["lifecycle"]).contains("frozen-in-use"));
    assert!(with(&site, "wrong.toml", 3, &["lifecycle", "--apply"]).contains("does not work out"));
    write(&site, &server, "none.toml", "");
    with(&site, "none.toml", 0, &["lifecycle", "--apply"]);
    assert!(
        with(&site, "none.toml", 0, &["lifecycle"]).contains("no lifecycle is wanted, and there is none")
    );
    assert!(site.fails(2, &["lifecycle"]).contains("a folder has no lifecycle"));

    // The bucket does what the rules say.
    let objects = json(&site, "s3.toml", &["thaw", &point, "--dry-run"])["objects"].as_u64().unwrap();
    assert!(with(&site, "s3.toml", 0, &["thaw", &point]).contains(&format!("all {objects} objects")));
    let verdict = json(&site, "s3.toml", &["verify"]);
    let packs = verdict["points"][0]["packs"].as_u64().unwrap();
    for path in server.keys("vaults").iter().filter(|path| path.contains("/packs/")) {
        server.move_to(&format!("vaults/{path}"), "DEEP_ARCHIVE");
    }
    let listed = with(&site, "wrong.toml", 0, &["list"]);
    assert!(listed.contains("frozen: 12 h to thaw"), "{listed}");
    assert!(with(&site, "wrong.toml", 0, &["show", &point]).contains("DEEP_ARCHIVE"));
    let to = site.inside("restored");
    let words = ["restore", "--yes", "--immediate", "--no-archiving", "--to", &to];
    let refused = with(&site, "wrong.toml", 9, &words);
    assert!(refused.contains("are frozen") && refused.contains("strongroom thaw"), "{refused}");
    assert!(!site.path("restored").exists(), "a refused restore made its folder");
    // Settings that know of no lifecycle find out when they read.
    let found =
        with(&site, "none.toml", 6, &["restore", "--yes", "--immediate", "--to", &site.inside("unaware")]);
    assert!(found.contains("it is frozen"), "{found}");
    let plan = json(&site, "wrong.toml", &["thaw", &point, "--dry-run"]);
    assert_eq!((plan["to_thaw"].as_u64(), plan["hours"].as_f64()), (Some(packs), Some(12.0)));
    with(&site, "wrong.toml", 0, &["thaw", &point, "--wait"]);
    with(&site, "wrong.toml", 0, &words);
}
