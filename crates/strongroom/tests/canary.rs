//! No secret is in anything that is said: each is given every way there is, to commands that succeed and that fail, and all they
//! print, log and store is searched for it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::path::Path;

use live::desk::{Desk, PASSWORD};
use live::said;

/// What each secret has in it.
const CANARY: &str = "cAnAry";

/// Files below a folder that have the canary in them.
fn betrayers(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(betrayers(&path)),
            false => {
                let bytes = std::fs::read(&path).unwrap();
                let has = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
                found.extend(has.then(|| path.display().to_string()));
            }
        }
    }
    found
}

/// The role's password has the canary in it from here on, and the vault's passphrase has, too.
fn desk() -> Option<Desk> {
    let desk = Desk::new()?;
    assert!(!PASSWORD.contains(CANARY));
    desk.cluster.sql(&format!("alter role audit password 'x{CANARY}x'")).unwrap();
    desk.put("right", &format!("x{CANARY}x\n"));
    desk.put("wrong", &format!("{CANARY}-wrong\n"));
    Some(desk)
}

/// Ways to give a password or passphrase: variables and flags.
type Way = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const PASSWORDS: [Way; 9] = [
    (&[("POSTGRES_PASSWORD", "xcAnAryx")], &[]),
    (&[("POSTGRES_PASSWORD", "cAnAry-wrong")], &[]),
    (&[("PGPASSWORD", "xcAnAryx"), ("POSTGRES_PASSWORD", "")], &[]),
    (&[("OTHER", "xcAnAryx")], &["--password", "env:OTHER"]),
    (&[("OTHER", "cAnAry-wrong")], &["--password", "env:OTHER"]),
    (&[], &["--password", "file:right"]),
    (&[], &["--password", "command:cat wrong"]),
    (&[], &["--password", "cAnAry"]),
    (&[("POSTGRES_HOST", "cAnAry.invalid")], &["--host", "127.0.0.1", "--password", "file:right"]),
];

const PASSPHRASES: [Way; 5] = [
    (&[("STRONGROOM_PASSPHRASE", "cAnAry of the vault")], &[]),
    (&[("STRONGROOM_PASSPHRASE", "cAnAry of another")], &[]),
    (&[("OTHER_PHRASE", "cAnAry of the vault")], &["--passphrase", "env:OTHER_PHRASE"]),
    (&[], &["--passphrase", "command:echo cAnAry of the vault"]),
    (&[], &["--passphrase", "cAnAry"]),
];

#[test]
fn no_secret_is_in_anything_that_is_said_or_stored() {
    let Some(desk) = desk() else { return };
    let (mut right, mut wrong) = (0, 0);
    let of_passwords = PASSWORDS.iter().map(|way| (way, &PASSPHRASES[0]));
    let of_passphrases = PASSPHRASES[1..].iter().map(|way| (&PASSWORDS[0], way));
    for ((password, of_password), (passphrase, of_passphrase)) in of_passwords.chain(of_passphrases) {
        for format in ["human", "json"] {
            let words = ["dump", "--once", "-vv", "--output", format];
            let mut command = desk.strongroom(&[&words[..], of_password, of_passphrase].concat());
            command.env_remove("STRONGROOM_PASSPHRASE").env("STRONGROOM_LOG", "trace");
            command.env("AWS_SECRET_ACCESS_KEY", CANARY).env("VAULT_TOKEN", CANARY);
            command.envs(password.iter().copied()).envs(passphrase.iter().copied());
            let output = command.output().unwrap();
            let heard = said(&output);
            assert!(!heard.contains(CANARY), "{of_password:?} {of_passphrase:?}: {heard}");
            if output.status.success() { right += 1 } else { wrong += 1 }
        }
    }
    assert_eq!((right, wrong), (14, 12), "both must be heard");
    // What is sealed is opened, and searched as well.
    let mut command = desk.strongroom(&["--vault", "backup", "audit", "list", "--output", "json"]);
    let heard = said(&command.env("STRONGROOM_PASSPHRASE", "cAnAry of the vault").output().unwrap());
    assert!(heard.contains("\"outcome\": \"ok\""), "{heard}");
    assert!(!heard.contains(CANARY), "{heard}");
    assert_eq!(betrayers(&desk.path("backup")), Vec::<String>::new());
}

#[test]
fn no_verb_says_a_secret_that_the_settings_lead_to() {
    let Some(desk) = desk() else { return };
    let mut turn = 0;
    let port = desk.cluster.port();
    let place = format!("host=127.0.0.1 port={port} user=audit dbname=audit");
    for (name, of_vault, of_source) in [
        (
            "right.toml",
            "passphrase = \"file:phrase\"".to_owned(),
            format!("connection = \"{place}\"\npassword = \"file:right\""),
        ),
        (
            "uri.toml",
            "passphrase_command = \"cat phrase\"".into(),
            format!("connection = \"postgresql://audit:x{CANARY}x@127.0.0.1:{port}/audit\""),
        ),
        (
            "wrong.toml",
            "passphrase = \"file:right\"".into(),
            format!("connection = \"{place} password={CANARY}-wrong\""),
        ),
        (
            "other.toml",
            "passphrase = \"file:phrase\"".into(),
            format!("connection = \"{place}\"\npassword = \"command:cat wrong\""),
        ),
        ("plain.toml", format!("passphrase = \"{CANARY}\""), format!("connection = \"{place}\"")),
        (
            "slip.toml",
            "passphrase = \"file:phrase\"".into(),
            format!("connection = \"{place} pasword={CANARY}\""),
        ),
        (
            "place.toml",
            "passphrase = \"file:phrase\"".into(),
            format!("connection = \"postgresql://audit:x{CANARY}x/audit\""),
        ),
    ] {
        desk.put("phrase", &format!("{CANARY} of the vault\n"));
        let text = format!(
            "[vault]\nurl = \"backup\"\n{of_vault}\n[source.audit]\nkind = \"postgres-logical\"\n{of_source}\n"
        );
        desk.put(name, &text);
        for words in [
            &["init"][..],
            &["backup"],
            &["doctor"],
            &["list"],
            &["status"],
            &["show"],
            &["verify", "--data"],
            &["expire", "--dry-run"],
            &["restore", "--to-database", "again", "--dry-run"],
            &["restore", "--to-database", "again", "--yes"],
            &["wal", "status"],
            &["key", "list"],
            &["audit", "list"],
            &["backup", "--no-such-flag"],
        ] {
            turn += 1;
            let given = ["--config", name, "-vv", "--output", ["human", "json"][turn % 2]];
            let mut command = desk.strongroom(&[&given[..], words].concat());
            command.env_remove("STRONGROOM_PASSPHRASE").env_remove("POSTGRES_PASSWORD");
            let heard = said(&command.env("STRONGROOM_LOG", "trace").output().unwrap());
            assert!(!heard.contains(CANARY), "{name} {words:?}: {heard}");
        }
    }
    assert!(desk.path("backup/vault.json").exists(), "something was done");
    assert_eq!(betrayers(&desk.path("backup")), Vec::<String>::new());
}
