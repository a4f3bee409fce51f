//! What commands leave in the audit log, on a real server: who, what, and what came of it; and what a stranger can tell of it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use live::{Site, said, until, versions};
use serde_json::Value;
use strongroom_postgres::cluster::InitOptions;

fn site() -> Option<Site> {
    Some(Site::new(versions().first()?, InitOptions::default()))
}

fn log(site: &Site, words: &[&str]) -> Vec<Value> {
    let text = site.ok(&[&["audit", "list", "--output", "json"], words].concat());
    serde_json::from_str(&text).unwrap()
}

/// Verb, source or point, outcome.
fn told(site: &Site) -> Vec<(String, String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let told = |line: &Value| {
        let act = &line["act"];
        let object = act.get("point").or(act.get("source")).unwrap_or(&Value::Null);
        (word(&act["verb"]), word(object), word(&line["outcome"]))
    };
    log(site, &[]).iter().map(told).collect()
}

/// The binary alone: no settings, no key, no home.
fn offline(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(words).env_clear().current_dir("/").output().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn what_was_done_to_a_vault_is_in_its_log() {
    let Some(site) = site() else { return };
    let (first, second) = (site.backup(), site.backup());
    site.ship(&site.cluster);
    site.ok(&["hold", "place", &first, "--reason", "case 4711", "--owner", "legal"]);
    site.ok(&["hold", "release", &first, "--reason", "closed", "--owner", "legal"]);
    site.ok(&["restore", "--yes", "--to", &site.inside("restored")]);
    site.fails(10, &["restore", "--yes", "--to", &site.inside("restored")]);
    let settings = fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let settings = format!("{settings}[retention]\nkeep_last = 1\n");
    fs::write(site.path("strongroom.toml"), settings).unwrap();
    // What only looks is not recorded.
    site.ok(&["expire", "--dry-run"]);
    site.ok(&["list"]);
    site.ok(&["expire"]);
    site.ok(&["sweep"]);

    let (point, ok) = (|verb: &str, point: &str| (verb.to_owned(), point.to_owned(), "ok".to_owned()), "ok");
    let expected = [
        point("init", "-"),
        point("backup", "main"),
        point("backup", "main"),
        point("hold place", &first),
        point("hold release", &first),
        point("restore", "main"),
        ("restore".into(), "main".into(), "target".into()),
        point("expire", "-"),
        point("sweep", "-"),
    ];
    assert_eq!(told(&site), expected);
    let restores = log(&site, &["--verb", "restore"]);
    assert_eq!(restores[0]["texts"]["to"], site.inside("restored"));
    assert!(restores[0]["ended_at"].is_string() && restores[0]["outcome"] == ok);
    assert!(restores[1]["texts"]["error"].as_str().unwrap().contains("restored"), "{restores:?}");
    assert_eq!(restores[0]["voucher"], "signed");
    assert_eq!(log(&site, &["--verb", "hold", "--actor", "@"])[0]["texts"]["reason"], "case 4711");
    assert!(log(&site, &["--until", "2001-01-01T00:00:00Z"]).is_empty());
    assert!(site.ok(&["list"]).contains(&second));
    site.ok(&["audit", "verify"]);
}

#[test]
fn a_stranger_proves_copies_and_finds_what_was_done_to_them() {
    let Some(site) = site() else { return };
    site.backup();
    site.ok(&["verify"]);
    let newest: Value = serde_json::from_str(&site.ok(&["audit", "head", "--output", "json"])).unwrap();
    let head = format!("{}:{}", newest["head"]["number"], newest["head"]["hash"].as_str().unwrap());
    let signer = newest["public_key"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join("audit");
    copy(&site.path("vault/audit"), &copied);
    let place = folder.path().display().to_string();
    let judge = |code: i32, with: &[&str]| {
        let output = offline(&[&["audit", "verify", "--files", &place], with].concat());
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        said(&output)
    };
    let sound = judge(0, &["--head", &head, "--signer", signer]);
    assert!(
        sound.contains("sound: 3 entries") && sound.contains("3 signed") && sound.contains(&head),
        "{sound}"
    );
    // Every tool that hashes follows the chain.
    let names: Vec<String> = (1..=3).map(strongroom_model::audit::name).collect();
    let hash = Command::new("sha256sum").arg(copied.join(&names[1])).output().unwrap();
    let third = fs::read_to_string(copied.join(&names[2])).unwrap();
    assert!(third.contains(&said(&hash)[..64]));

    let second = fs::read_to_string(copied.join(&names[1])).unwrap();
    fs::write(copied.join(&names[1]), second.replace("backup", "expire")).unwrap();
    let found = judge(8, &["--signer", signer]);
    assert!(found.contains("entry 2 is not the one that entry 3 was written after"), "{found}");
    assert!(found.contains("entry 2 is forged: the signature is wrong"), "{found}");
    fs::remove_file(copied.join(&names[1])).unwrap();
    assert!(judge(8, &[]).contains("entry 2 is missing"));
    fs::write(copied.join(&names[1]), second).unwrap();
    fs::remove_file(copied.join(&names[2])).unwrap();
    judge(0, &[]);
    assert!(
        judge(8, &["--head", &head]).contains("the log ends with entry 2, and entry 3 was noted as its head")
    );
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        offline(&["audit", "verify", "--files", &empty.path().display().to_string()]).status.code(),
        Some(2)
    );
    // In the vault itself it is found as well.
    fs::remove_file(site.path("vault/audit").join(&names[0])).unwrap();
    assert!(site.fails(8, &["audit", "verify"]).contains("entry 1 is missing"));
}

#[test]
fn what_cannot_be_recorded_destroys_nothing_and_recovery_and_backups_go_on() {
    let Some(site) = site() else { return };
    site.backup();
    site.ship(&site.cluster);
    let log_folder = site.path("vault/audit");
    let mode = |mode| fs::set_permissions(&log_folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let refused = site.fails(6, &["sweep"]);
    assert!(refused.contains("record sweep in the audit log before it begins"), "{refused}");
    assert!(refused.contains("required = \"nothing\""), "{refused}");
    let backup = site.run(&["backup"]);
    assert!(
        backup.status.success() && said(&backup).contains("is not in the audit log"),
        "{}",
        said(&backup)
    );
    let settings = fs::read_to_string(site.path("strongroom.toml")).unwrap();
    fs::write(site.path("strongroom.toml"), format!("{settings}[audit]\nrequired = \"everything\"\n"))
        .unwrap();
    let refused = site.fails(6, &["restore", "--yes", "--to", &site.inside("a")]);
    assert!(refused.contains("record restore") && !site.path("a").exists(), "{refused}");
    fs::write(site.path("strongroom.toml"), &settings).unwrap();
    let restored = site.run(&["restore", "--yes", "--to", &site.inside("a")]);
    assert!(
        restored.status.success() && said(&restored).contains("begins unrecorded"),
        "{}",
        said(&restored)
    );
    mode(0o755);
    let told: Vec<String> = told(&site).into_iter().map(|(verb, ..)| verb).collect();
    assert_eq!(told, ["init", "backup"]);
}

#[test]
fn an_act_whose_process_was_killed_has_no_end_and_says_who_began_it() {
    let Some(site) = site() else { return };
    site.backup();
    site.ship(&site.cluster);
    let to = site.inside("killed");
    let mut command = site.command(&["restore", "--yes", "--rate-limit", "1KiB/s", "--to", &to]);
    // Whatever the environment claims: it is no agent's process.
    command.env("SUDO_USER", "ada").env("STRONGROOM_ACTOR", "plan nightly/full");
    let mut restore = command.spawn().unwrap();
    until("the restore to begin", || {
        log(&site, &["--verb", "restore"]).len() == 1 && site.path("killed").exists()
    });
    restore.kill().unwrap();
    restore.wait().unwrap();
    let line = log(&site, &["--verb", "restore"]).remove(0);
    assert!(line["outcome"].is_null() && line["ended_at"].is_null(), "{line}");
    assert_eq!((&line["actor"]["kind"], &line["actor"]["sudo"]), (&"user".into(), &"ada".into()));
    assert!(site.ok(&["audit", "list"]).contains("begun, no end known"));
    site.ok(&["audit", "verify"]);
}

#[test]
fn by_hand_nobody_speaks_for_people() {
    let Some(site) = site() else { return };
    let sighting = r#"[{"at": "2026-11-20T12:00:00Z", "kind": "web", "name": "ada", "verb": "sign-in", "source": null,
        "point": null, "outcome": "ok", "texts": {}}]"#;
    let mut command = site.command(&["audit", "testify"]);
    command.env("STRONGROOM_SIGHTINGS", sighting).env("STRONGROOM_JOB_OF", "1");
    let output = command.env("STRONGROOM_ACTOR", "user ada via web").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("only an agent records what people did at its door"), "{}", said(&output));
    let mut verify = site.command(&["verify"]);
    assert!(verify.env("STRONGROOM_ACTOR", "user ada via web").output().unwrap().status.success());
    let kinds: Vec<Value> = log(&site, &[]).iter().map(|line| line["actor"]["kind"].clone()).collect();
    assert_eq!(kinds, ["user", "user"]);
}

#[test]
fn a_restore_opens_its_vault_once() {
    let Some(site) = site() else { return };
    site.backup();
    site.ship(&site.cluster);
    fs::write(site.path("phrase"), "correct horse battery staple\n").unwrap();
    site.ok(&["key", "add", "--new-passphrase-file", &site.inside("phrase"), "--label", "phrase"]);
    site.rewrite(|text| {
        let others = text.lines().filter(|line| !line.starts_with("identity_file"));
        let command = format!("passphrase_command = \"echo >> {0}/asked; cat {0}/phrase\"", site.inside(""));
        others.map(|line| line.replace("[vault]", &format!("[vault]\n{command}")) + "\n").collect()
    });
    let asked = || fs::read_to_string(site.path("asked")).unwrap_or_default().lines().count();
    site.ok(&["restore", "--yes", "--to", &site.inside("a")]);
    assert_eq!(asked(), 1);
    let ended = log(&site, &["--verb", "restore"]);
    assert!(ended.len() == 1 && ended[0]["outcome"] == "ok", "{ended:?}");
}
