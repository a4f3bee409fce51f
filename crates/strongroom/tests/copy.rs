//! Second copies of a real server's backups: folder and bucket, with the first vault gone, and every refusal.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::path::Path;

use live::cloud::{let_fetch, run, ship_by, with};
use live::{Site, said, until, versions};
use strongroom_postgres::cluster::InitOptions;
use strongroom_store::conformance::moto::MotoServer;

/// The site's settings with further vaults; the server's archiver goes on with the first alone.
fn write_settings(site: &Site, name: &str, further: &str) {
    let text = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let (vault, sources) = text.split_once("[source.").unwrap();
    std::fs::write(site.path(name), format!("{vault}{further}\n[source.{sources}")).unwrap();
    site.binaries.give(&site.path(name)).unwrap();
}

fn folder(site: &Site, name: &str) -> String {
    format!(
        "[[also]]\nname = \"{name}\"\nurl = \"{}\"\nidentity_file = \"{}\"\n",
        site.inside(name),
        site.inside("identity.txt")
    )
}

/// Every object of a folder vault, with its bytes.
fn objects(vault: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![vault.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(vault).unwrap().display().to_string();
                found.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn site() -> Option<Site> {
    let site = Site::new(&versions().into_iter().next()?, InitOptions::default());
    site.cluster
        .sql("create table t as select n, md5(n::text) as v from generate_series(1, 20000) n")
        .unwrap();
    Some(site)
}

#[test]
fn a_bucket_takes_over_when_the_folder_is_gone() {
    let Some(site) = site() else { return };
    let Some(server) = MotoServer::start() else { return };
    server.make_bucket("copies");
    let bucket = format!(
        "[[also]]\nname = \"elsewhere\"\nurl = \"s3://copies/prod\"\nendpoint = \"{}\"\npath_style = true\nallow_http = true\nidentity_file = \"{}\"\n",
        server.endpoint(),
        site.inside("identity.txt")
    );
    write_settings(&site, "two.toml", &bucket);
    let first = site.backup();
    site.cluster.sql("insert into t values (-1, 'second')").unwrap();
    let second = site.backup();
    site.ship(&site.cluster);

    let made = with(&site, "two.toml", 0, &["init", "--vault", "elsewhere", "--copy-of", "vault"]);
    assert!(made.contains("a replica of"), "{made}");
    let plan = with(&site, "two.toml", 0, &["copy", "--all", "--dry-run"]);
    assert!(plan.contains(&first) && plan.contains(&second), "{plan}");
    let copied = run(&site, "two.toml", &["copy", "--to", "elsewhere", "--read-back", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&copied.stdout).unwrap();
    // Of two points of one second either may come first.
    let points = json[0]["sources"][0]["points"].as_array().unwrap();
    assert!(
        points.len() == 2
            && points.contains(&first.clone().into())
            && points.contains(&second.clone().into())
    );
    let again = with(&site, "two.toml", 0, &["copy", "main", "--to", "elsewhere"]);
    assert!(again.contains("0 recovery points (0 B), 0 WAL files"), "{again}");

    // From here on every backup goes to both, and the archiver's WAL by the next copy.
    site.cluster.sql("insert into t values (-2, 'third')").unwrap();
    let third = with(&site, "two.toml", 0, &["backup"]);
    assert!(third.contains("s3://copies/prod"), "{third}");

    std::fs::rename(site.path("vault"), site.path("gone")).unwrap();
    let listed = with(&site, "two.toml", 0, &["list"]);
    assert!(listed.contains(&first) && listed.contains("going on with s3://copies/prod"), "{listed}");
    let verdict = with(&site, "two.toml", 4, &["verify", "--data"]);
    assert!(verdict.contains("sound") && verdict.contains("the first vault was not verified"), "{verdict}");
    with(&site, "two.toml", 0, &["show", &second]);
    let to = site.inside("restored");
    let told = with(&site, "two.toml", 0, &["restore", "--yes", "--no-archiving", "--to", &to]);
    assert!(told.contains("if that is gone for good, take it out of the settings file"), "{told}");
    let_fetch(&site, "restored");
    // A file that the bucket has not is not absent: the folder cannot be asked. Unless it is given up.
    let fetch = ["wal", "fetch", "000000010000004200000042", &site.inside("x")];
    with(&site, "two.toml", 200, &fetch);
    let both = std::fs::read_to_string(site.path("two.toml")).unwrap();
    let (_, rest) = both.split_once("[[also]]").unwrap();
    std::fs::write(site.path("two.toml"), format!("[vault]{rest}")).unwrap();
    with(&site, "two.toml", 1, &fetch);
    let restored = site.start("restored");
    assert_eq!(restored.sql("select count(*) from t where n < 0").unwrap(), "2");
    std::fs::write(site.path("two.toml"), both).unwrap();
    // The other way round: a new first vault, filled from the copy.
    with(&site, "two.toml", 0, &["init", "--vault", "vault", "--copy-of", "elsewhere"]);
    with(&site, "two.toml", 0, &["copy", "--from", "elsewhere", "--to", "vault"]);
    let listed = site.ok(&["list"]);
    assert!(listed.contains(&first) && listed.contains(&second), "{listed}");
}

#[test]
fn a_restore_goes_on_with_the_copy_when_a_pack_is_lost() {
    let Some(site) = site() else { return };
    write_settings(&site, "two.toml", &folder(&site, "second"));
    with(&site, "two.toml", 0, &["init", "--vault", "second", "--copy-of", "vault"]);
    let point = site.backup_with("two.toml");
    let packs = site.path(&format!("vault/sources/main/points/{point}/packs"));
    let pack = std::fs::read_dir(&packs).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&pack).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 3] ^= 4;
    std::fs::write(&pack, damaged).unwrap();
    let arguments =
        |to: &str| vec!["restore".to_owned(), "--yes".into(), "--immediate".into(), "--to".into(), to.into()];
    let restore = |settings: &str, code: i32, name: &str| {
        let words = arguments(&site.inside(name));
        with(&site, settings, code, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(restore("strongroom.toml", 8, "alone").contains("is damaged"));
    let helped = restore("two.toml", 0, "helped");
    assert!(
        helped.contains(&format!("1 packs are missing, damaged or out of reach in {}", site.inside("vault"))),
        "{helped}"
    );
    std::fs::remove_file(&pack).unwrap();
    assert!(restore("two.toml", 0, "missing").contains(&site.inside("second")));
    let manifest = packs.with_file_name("manifest");
    let whole = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &whole[1..]).unwrap();
    assert!(restore("two.toml", 0, "elsewhere").contains("manifest in"));
    std::fs::write(&manifest, &whole).unwrap();
    let restored = site.start("missing");
    assert_eq!(restored.sql("select count(*) from t").unwrap(), "20000");
    // Verification is of the vault that was asked for: help from another would hide the damage.
    with(&site, "two.toml", 4, &["verify"]);
}

#[test]
fn damage_is_named_by_relation_restored_around_and_put_back_from_the_copy() {
    let Some(site) = site() else { return };
    write_settings(&site, "two.toml", &folder(&site, "second"));
    with(&site, "two.toml", 0, &["init", "--vault", "second", "--copy-of", "vault"]);
    let point = site.backup_with("two.toml");
    let number = site.cluster.sql("select pg_relation_filenode('t')").unwrap();
    let packs = site.path(&format!("vault/sources/main/points/{point}/packs"));
    let mut packs: Vec<_> = std::fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().path()).collect();
    packs.sort();
    let whole: Vec<Vec<u8>> = packs.iter().map(|pack| std::fs::read(pack).unwrap()).collect();
    // Every second 64 KiB of every pack.
    for (pack, whole) in packs.iter().zip(&whole) {
        let mut damaged = whole.clone();
        damaged.iter_mut().step_by(1 << 17).skip(1).for_each(|byte| *byte ^= 1);
        std::fs::write(pack, damaged).unwrap();
    }
    let named = with(&site, "two.toml", 4, &["verify", "--data"]);
    assert!(named.contains(&format!("(relation {number} of database postgres, blocks ")), "{named}");

    let to = site.inside("around");
    let refused = with(&site, "strongroom.toml", 8, &["restore", "--yes", "--immediate", "--to", &to]);
    assert!(refused.contains("--accept-loss") && refused.contains("--repair-from"), "{refused}");
    let to = site.inside("lossy");
    let words = ["restore", "--yes", "--immediate", "--accept-loss", "--output", "json", "--to", &to];
    let output = run(&site, "strongroom.toml", &words);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let report: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string(site.path("lossy/strongroom_lost_pages.json")).unwrap(),
    )
    .unwrap();
    assert_eq!(json["restored"]["lost"], report);
    assert!(!report.as_array().unwrap().is_empty());

    let objects_before = objects(&site.path("vault"));
    let rehearsed = with(&site, "two.toml", 4, &["verify", "--repair-from", "second", "--dry-run"]);
    assert!(rehearsed.contains("could be repaired from"), "{rehearsed}");
    let unchanged = objects(&site.path("vault"));
    assert!(objects_before.iter().all(|object| unchanged.contains(object)), "a rehearsal wrote");
    let repaired = with(&site, "two.toml", 0, &["verify", "--repair-from", "second"]);
    assert!(repaired.contains("repaired from") && repaired.contains("sound"), "{repaired}");
    for (pack, whole) in packs.iter().zip(&whole) {
        assert!(std::fs::read(pack).unwrap() == *whole, "{} has other bytes", pack.display());
    }
    with(&site, "two.toml", 0, &["verify", "--pages"]);
    assert!(with(&site, "two.toml", 0, &["verify", "--in", "second", "--data"]).contains("sound"));
    with(&site, "two.toml", 2, &["verify", "--repair-from", "nobody"]);
    with(&site, "two.toml", 2, &["verify", "--dry-run"]);
    with(&site, "two.toml", 12, &["verify", "--repair-from", "vault"]);
}

#[test]
fn one_vault_that_is_down_is_told_of_and_filled_later() {
    let Some(site) = site() else { return };
    write_settings(&site, "two.toml", &folder(&site, "second"));
    with(&site, "two.toml", 0, &["init", "--vault", "second", "--copy-of", "vault"]);
    std::fs::rename(site.path("second"), site.path("away")).unwrap();
    let output = run(&site, "two.toml", &["backup", "--output", "json"]);
    assert_eq!(output.status.code(), Some(14), "{}", said(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["missed"][0]["vault"], "second", "{json:#}");
    let point = json["point"].as_str().unwrap();
    with(&site, "two.toml", 7, &["copy", "--all"]);
    assert!(with(&site, "two.toml", 4, &["doctor", "--storage"]).contains("wrong    vault second"));
    std::fs::rename(site.path("away"), site.path("second")).unwrap();
    with(&site, "two.toml", 0, &["backup"]);
    assert!(with(&site, "two.toml", 0, &["doctor", "--storage"]).contains("is a replica of the first vault"));
    let alone = format!(
        "[vault]\nurl = \"{}\"\nidentity_file = \"{}\"\n",
        site.inside("second"),
        site.inside("identity.txt")
    );
    std::fs::write(site.path("alone.toml"), alone).unwrap();
    site.binaries.give(&site.path("alone.toml")).unwrap();
    assert!(with(&site, "alone.toml", 0, &["list"]).contains(point));
    with(&site, "alone.toml", 0, &["verify", "--data"]);
}

/// While one of two vaults is down the server offers the same file for ever: the other must get what waits behind it.
#[test]
fn wal_goes_on_to_the_vault_that_is_up() {
    let Some(site) = site() else { return };
    write_settings(&site, "two.toml", &folder(&site, "second"));
    with(&site, "two.toml", 0, &["init", "--vault", "second", "--copy-of", "vault"]);
    ship_by(&site, "two.toml");
    site.ship(&site.cluster);
    std::fs::rename(site.path("second"), site.path("away")).unwrap();
    for n in 0..3 {
        site.cluster.sql(&format!("create table t{n} (); select pg_switch_wal()")).unwrap();
    }
    let names = |vault: &str| -> Vec<String> {
        let wal = objects(&site.path(vault)).into_iter().map(|(name, _)| name);
        wal.filter(|name| name.contains("/wal/")).collect()
    };
    let shipped = names("away");
    until("the vault that is up to have all WAL", || names("vault").len() >= shipped.len() + 3);
    assert_eq!(names("away"), shipped);
    assert_eq!(run(&site, "two.toml", &["backup"]).status.code(), Some(14));
    std::fs::rename(site.path("away"), site.path("second")).unwrap();
    site.ship(&site.cluster);
    until("both to have the same", || names("second") == names("vault"));
    with(&site, "two.toml", 0, &["backup"]);
    with(&site, "two.toml", 0, &["verify", "--data", "--in", "second"]);
}

#[test]
fn what_cannot_be_a_copy_is_refused_and_nothing_is_written() {
    let Some(site) = site() else { return };
    site.backup();
    // Two vaults with one url, spelled alike and spelled otherwise.
    let twice = folder(&site, "twice").replace(&site.inside("twice"), &site.inside("vault"));
    write_settings(&site, "twice.toml", &twice);
    for arguments in [&["copy", "--all"][..], &["backup"], &["wal", "push", "x"]] {
        let refused = with(&site, "twice.toml", 3, arguments);
        assert!(refused.contains("two vaults have the url") && refused.contains("hint:"), "{refused}");
    }
    std::os::unix::fs::symlink(site.inside("vault"), site.path("link")).unwrap();
    write_settings(&site, "spelled.toml", &twice.replace("/vault\"", "/link\""));
    for arguments in [&["copy", "--all"][..], &["backup"]] {
        let refused = with(&site, "spelled.toml", 12, arguments);
        assert!(refused.contains("are the same vault at the same place"), "{refused}");
    }
    // Another vault: its id and key are others.
    site.ok(&["init", "--vault", &site.inside("other"), "--generate-identity", &site.inside("other.txt")]);
    let other = folder(&site, "other").replace("identity.txt", "other.txt");
    write_settings(&site, "other.toml", &other);
    let before = objects(&site.path("other"));
    let refused = with(&site, "other.toml", 12, &["copy", "--to", "other"]);
    assert!(refused.contains("it is another vault") && refused.contains("init --copy-of"), "{refused}");
    let noted = with(&site, "other.toml", 0, &["backup"]);
    assert!(noted.contains("it gets WAL"), "{noted}");
    assert_eq!(objects(&site.path("other")), before);
    // No vault there, one of a newer format, a name nobody has, a vault that is there already.
    write_settings(&site, "second.toml", &folder(&site, "second"));
    assert!(with(&site, "second.toml", 7, &["copy", "--to", "second"]).contains("holds no vault"));
    with(&site, "second.toml", 0, &["init", "--vault", "second", "--copy-of", "vault"]);
    let json = site.path("second/vault.json");
    let text = std::fs::read_to_string(&json).unwrap();
    std::fs::write(&json, text.replace("\"format\": 1", "\"format\": 99")).unwrap();
    let before = objects(&site.path("second"));
    assert!(with(&site, "second.toml", 11, &["copy", "--to", "second"]).contains("written in format 99"));
    assert_eq!(objects(&site.path("second")), before);
    std::fs::write(&json, &text).unwrap();
    assert!(with(&site, "second.toml", 2, &["copy", "--to", "thrid"]).contains("no vault is called thrid"));
    with(&site, "second.toml", 12, &["init", "--vault", "second", "--copy-of", "vault"]);
    let unknown = ["copy", "--to", "second", "--point", "20200101T000000Z-00000000"];
    assert!(with(&site, "second.toml", 9, &unknown).contains("not among the committed points"));
    assert!(site.fails(3, &["copy", "--all"]).contains("no further vault"));
}
