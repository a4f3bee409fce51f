//! Bad input and bad luck: each has its own exit code, message and way out, and loses nothing.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::path::{Path, PathBuf};

use live::small::Small;
use live::{Site, said, versions};
use strongroom_postgres::cluster::InitOptions;

fn site() -> Option<Site> {
    let binaries = versions().into_iter().next()?;
    let site = Site::new(&binaries, InitOptions::default());
    site.cluster
        .sql("create table t as select n, md5(n::text) as v from generate_series(1, 20000) n")
        .unwrap();
    Some(site)
}

fn with(site: &Site, settings: &str, code: i32, arguments: &[&str]) -> String {
    std::fs::write(site.path("other.toml"), settings).unwrap();
    site.binaries.give(&site.path("other.toml")).unwrap();
    let output = site.command_with("other.toml", arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    said(&output)
}

fn find(folder: &Path, part: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains(part) {
                return path;
            }
        }
    }
    unreachable!("the vault has no {part}")
}

#[test]
fn keys_and_vaults_that_do_not_fit() {
    let Some(site) = site() else { return };
    site.backup();
    let stranger = site.inside("stranger.txt");
    site.ok(&["init", "--vault", &site.inside("other"), "--generate-identity", &stranger]);
    let refused = site.fails(7, &["--identity-file", &stranger, "list"]);
    assert!(
        refused.contains("none of these age identities opens the vault") && refused.contains("hint:"),
        "{refused}"
    );
    let mut wrong = site.command(&["list"]);
    wrong.env("STRONGROOM_PASSPHRASE", "canary-passphrase");
    // The identity still opens it; a wrong passphrase beside it does no harm.
    assert!(wrong.output().unwrap().status.success());
    let locked = format!("[vault]\nurl = \"{}\"\n", site.inside("vault"));
    assert!(with(&site, &locked, 7, &["list"]).contains("no passphrase or age identity was given"));
    let empty = format!("[vault]\nurl = \"{}\"\n", site.inside("nowhere"));
    assert!(with(&site, &empty, 7, &["list"]).contains("holds no vault"));
    let taken = site.fails(12, &["init", "--generate-identity", &site.inside("new.txt")]);
    assert!(taken.contains("already holds a vault") && !site.path("new.txt").exists(), "{taken}");

    let vault_json = site.path("vault/vault.json");
    let text = std::fs::read_to_string(&vault_json).unwrap();
    for (content, code, message) in [
        (text.replace("\"format\": 1", "\"format\": 99"), 11, "written in format 99"),
        ("{ nonsense".to_owned(), 8, "read vault.json"),
    ] {
        std::fs::write(&vault_json, content).unwrap();
        assert!(site.fails(code, &["list"]).contains(message));
    }
    std::fs::write(&vault_json, &text).unwrap();
    site.ok(&["list"]);
}

#[test]
fn behaviour_32_a_flipped_byte_is_named_and_never_restored_from() {
    let Some(site) = site() else { return };
    let point = site.backup();
    for part in ["/packs/000000", "/manifest", "/decision"] {
        let object = find(&site.path("vault"), &format!("{point}{part}"));
        let name = object.file_name().unwrap().to_string_lossy().into_owned();
        let good = std::fs::read(&object).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 3] ^= 4;
        std::fs::write(&object, &bad).unwrap();
        let verdict = site.run(&["verify", "--data"]);
        assert!(matches!(verdict.status.code(), Some(4 | 8)), "{part}: {}", said(&verdict));
        assert!(said(&verdict).contains(&name), "{part}: {}", said(&verdict));
        let target = site.inside(&format!("restored-{name}"));
        let refused = site.fails(8, &["restore", "--yes", "--immediate", "--to", &target]);
        assert!(refused.contains(&name) && refused.contains("is damaged"), "{part}: {refused}");
        // A damaged restore never looks like a cluster.
        assert!(!site.path(&format!("restored-{name}")).join("global/pg_control").exists());
        std::fs::write(&object, &good).unwrap();
    }
    assert!(site.ok(&["verify", "--data"]).contains("sound"));
}

#[test]
fn servers_and_sources_that_do_not_answer() {
    let Some(mut site) = site() else { return };
    site.backup();
    assert!(site.fails(3, &["backup", "unheard-of"]).contains("source unheard-of is not configured"));
    assert!(site.fails(3, &["list", "unheard-of"]).contains("the vault holds nothing of source unheard-of"));
    assert!(site.fails(2, &["backup", "Not/A/Name"]).contains("cannot name a source"));
    site.cluster.sql("create role weak login password 'canary-secret'").unwrap();
    let settings = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let weak = with(
        &site,
        &settings.replace("user=postgres", "user=weak dbname=postgres password=canary-secret"),
        5,
        &["backup", "-vv"],
    );
    assert!(weak.contains("GRANT") && !weak.contains("canary-secret"), "{weak}");
    let nobody = with(&site, &settings.replace("user=postgres", "user=nobody"), 5, &["backup"]);
    assert!(nobody.contains("nobody"), "{nobody}");
    site.cluster.stop("fast").unwrap();
    let down = site.fails(5, &["backup"]);
    assert!(down.contains("hint:"), "{down}");
    // What needs no server goes on without it.
    site.ok(&["list"]);
    site.ok(&["verify", "--data"]);
    let doctor = site.fails(4, &["doctor"]);
    assert!(doctor.contains("wrong    server") && doctor.contains("ok       vault"), "{doctor}");
    site.cluster.start().unwrap();
}

#[test]
fn settings_that_are_wrong_are_named_with_line_and_key() {
    let Some(site) = site() else { return };
    for (settings, says) in [
        ("[vault]\nurl = 5\n", "line 2"),
        ("[vault]\nurll = \"x\"\n", "urll"),
        ("[source.a]\nkind = \"mysql\"\n", "mysql"),
        ("nonsense", "line 1"),
    ] {
        let said = with(&site, settings, 3, &["list"]);
        assert!(said.contains(says) && said.contains("other.toml"), "{said}");
    }
    assert!(with(&site, "", 3, &["list"]).contains("No url is set"));
    assert!(with(&site, "[vault]\nurl = \"ftp://x\"\n", 3, &["list"]).contains("is not a vault's address"));
    let missing = site.command_with("missing.toml", &["list"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(3));
    site.fails(2, &["no-such-verb"]);
    // For scripts: one JSON document, also for errors.
    let output = site.run(&["backup", "unheard-of", "--output", "json"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&error["exit_code"], &error["error"]["kind"]), (&3.into(), &"settings".into()), "{error}");
    assert!(error["error"]["hint"].is_string());
}

#[test]
fn a_full_disk_loses_nothing() {
    let Some(site) = site() else { return };
    let Some(small) = Small::mount(&site, "small", 20) else { return };
    site.cluster
        .sql("create table big as select gen_random_uuid()::text || gen_random_uuid()::text as v from generate_series(1, 1500000) n")
        .unwrap();
    let settings = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let on_small = settings.replace(&site.inside("vault"), &site.inside("small/vault"));
    with(&site, &on_small, 0, &["init", "--generate-identity", &site.inside("small.txt")]);
    let on_small = on_small.replace("identity.txt", "small.txt");
    let full = with(&site, &on_small, 6, &["backup", "--wal-timeout", "1s"]);
    assert!(full.contains("is full") && full.contains("hint: free space"), "{full}");
    assert!(
        !with(&site, &on_small, 0, &["list"]).contains("ok"),
        "a point that does not fit is listed as whole"
    );
    // Space was given: the next run goes through.
    small.grow(800);
    let wal = with(&site, &on_small, 13, &["backup", "--wal-timeout", "1s"]);
    assert!(wal.contains("did not reach the vault"), "its WAL goes to the other vault: {wal}");

    // The restore's own disk: nothing there looks like a cluster, the vault is as it was.
    site.backup();
    let Some(tiny) = Small::mount(&site, "tiny", 10) else { return };
    let target = site.inside("tiny/restored");
    let refused = site.fails(10, &["restore", "--yes", "--immediate", "--to", &target]);
    assert!(refused.contains("hint: make room"), "{refused}");
    assert!(refused.contains("too little") && !refused.contains('\x1b'), "colours into a file: {refused:?}");
    assert!(!site.path("tiny/restored/global/pg_control").exists());
    site.ok(&["verify", "--data"]);
    // Given room, the same with --delta goes on where it ended.
    tiny.grow(800);
    let again = site.fails(10, &["restore", "--yes", "--immediate", "--to", &target]);
    assert!(again.contains("was begun and not finished"), "{again}");
    site.ok(&["restore", "--yes", "--immediate", "--no-archiving", "--delta", "--to", &target]);
    assert_eq!(site.start("tiny/restored").sql("select count(*) from big").unwrap(), "1500000");
}

/// Another vault's key, and a passphrase that is not this one's: each verb says so, touches nothing, and works with the right one.
#[test]
fn a_key_that_does_not_fit_is_said_by_every_verb_and_nothing_is_touched() {
    let Some(site) = site() else { return };
    site.backup();
    let stranger = site.inside("stranger.txt");
    site.ok(&["init", "--vault", &site.inside("other"), "--generate-identity", &stranger]);
    let (there, plain) = (site.inside("there"), site.inside("plain"));
    site.ok(&["restore", "--yes", "--immediate", "--no-archiving", "--to", &there]);
    let control = || std::fs::read(site.path("there/global/pg_control")).unwrap();
    let before = control();
    let end = site.cluster.sql("select pg_current_wal_flush_lsn()").unwrap();
    let verbs = [
        &["wal", "receive", "--until", &end][..],
        &["restore", "--yes", "--immediate", "--no-archiving", "--delta", "--to", &there],
        &["export", "--to", &plain],
        &["backup"],
    ];
    for verb in verbs {
        let refused = site.fails(7, &[&["--identity-file", &stranger], verb].concat());
        let says = "none of these age identities opens the vault";
        assert!(refused.contains(says) && refused.contains("hint:"), "{verb:?}: {refused}");
        let settings = format!(
            "[vault]\nurl = \"{}\"\n[source.main]\nkind = \"postgres\"\nconnection = \"host={} port={} user=postgres\"\n",
            site.inside("vault"),
            site.cluster.socket_folder().display(),
            site.cluster.port(),
        );
        std::fs::write(site.path("other.toml"), settings).unwrap();
        site.binaries.give(&site.path("other.toml")).unwrap();
        let mut wrong = site.command_with("other.toml", verb);
        let output = wrong.env("STRONGROOM_PASSPHRASE", "canary-passphrase").output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{verb:?}: {}", said(&output));
        assert!(
            said(&output).contains("passphrase") && !said(&output).contains("canary"),
            "{}",
            said(&output)
        );
        assert!(control() == before && !site.path("plain").exists(), "{verb:?} touched something");
        let slots = "select count(*) from pg_replication_slots";
        assert_eq!(site.cluster.sql(slots).unwrap(), "0", "{verb:?}");
    }
    for verb in verbs {
        site.ok(verb);
    }
}

#[test]
fn folders_that_cannot_be_made_say_why_and_odd_ones_can_be_pasted() {
    let Some(site) = site() else { return };
    site.backup();
    for verb in [&["restore", "--yes", "--immediate"][..], &["export"]] {
        let refused = site.fails(10, &[verb, &["--to", "/proc/nowhere/x"]].concat());
        assert!(refused.contains("because: No such file or directory"), "{refused}");
        assert!(!refused.contains("an empty folder"), "that is not what is wrong: {refused}");
        let odd = site.inside(&format!("it's {}", verb[0]));
        let word = format!("'{}'", odd.replace('\'', r"'\''"));
        let done = site.ok(&[verb, &["--to", &odd]].concat());
        assert!(done.contains(&format!("pg_ctl -D {word} start")), "{done}");
    }
}

#[test]
fn no_secret_is_ever_printed() {
    let Some(site) = site() else { return };
    let identity = std::fs::read_to_string(site.path("identity.txt")).unwrap();
    let secret = identity.lines().find(|line| line.starts_with("AGE-SECRET-KEY")).unwrap();
    let mut everything = String::new();
    for arguments in [
        &["backup", "-vv"][..],
        &["list", "-vv"],
        &["doctor", "-vv"],
        &["verify", "-vv"],
        &["wal", "status", "-vv"],
    ] {
        let mut command = site.command(arguments);
        command.env("STRONGROOM_PASSPHRASE", "canary-passphrase").env("STRONGROOM_LOG", "trace");
        everything.push_str(&said(&command.output().unwrap()));
    }
    assert!(everything.len() > 1000);
    for canary in [secret, "canary-passphrase"] {
        assert!(!everything.contains(canary), "a secret was printed");
    }
}
