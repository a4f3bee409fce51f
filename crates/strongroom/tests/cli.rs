//! The command line by itself, without a server: help, settings and their precedence, keys, JSON, completions.
//!
//! What people read is compared with `tests/snapshots`; `STRONGROOM_SNAPSHOTS=write` writes them anew, for review.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A working directory with nothing of the host's in reach: no settings, no keys, no store's credentials.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Desk {
        Desk(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(arguments).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        answers(&self.run(arguments), 0)
    }
}

/// All it said, after this exit code.
fn answers(output: &Output, code: i32) -> String {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn snapshot(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var("STRONGROOM_SNAPSHOTS").is_ok_and(|how| how == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == found, "{} differs; it is now:\n{found}", path.display());
}

#[test]
fn help_says_what_it_said() {
    let desk = Desk::new();
    let mut all = desk.ok(&["--help"]);
    let verbs = [
        "init",
        "backup",
        "dump",
        "import",
        "wal",
        "list",
        "show",
        "status",
        "copy",
        "restore",
        "export",
        "verify",
        "drill",
        "hold",
        "expire",
        "sweep",
        "lifecycle",
        "thaw",
        "key",
        "run",
        "doctor",
        "completions",
    ];
    let lines = verbs.map(|verb| vec![verb]).into_iter();
    let of_plan = ["lint", "show", "simulate", "import"].map(|verb| vec!["plan", verb]);
    let of_audit = ["list", "verify", "head", "settings"].map(|verb| vec!["audit", verb]);
    let further = ["push", "fetch", "status"].map(|verb| vec!["wal", verb]);
    for verb in lines.chain(further).chain(of_plan).chain([vec!["report", "rto-rpo"]]).chain(of_audit) {
        let help = desk.ok(&[&verb[..], &["--help"]].concat());
        all.push_str(&format!("\n──── {} ────\n{help}", verb.join(" ")));
    }
    snapshot("help.txt", &all);
    // The environment is named, never shown: an address may hold credentials.
    let mut with = desk.command(&["list", "--help"]);
    with.env("STRONGROOM_VAULT", "s3://canary@b").env("STRONGROOM_PASSPHRASE", "canary");
    let help = answers(&with.env("STRONGROOM_PASSPHRASE_FILE", "canary").output().unwrap(), 0);
    assert!(help.contains("STRONGROOM_VAULT") && !help.contains("canary"), "{help}");
}

#[test]
fn errors_say_what_they_said() {
    let desk = Desk::new();
    let mut all = String::new();
    let mut say = |name: &str, output: &Output| {
        let code = output.status.code().unwrap();
        let said = text(&output.stderr).replace(&desk.0.path().display().to_string(), "DESK");
        assert_eq!(text(&output.stdout), "", "{name}: an error was printed on standard output");
        all.push_str(&format!("──── {name}: exit {code} ────\n{said}\n"));
    };
    for (name, settings) in [
        ("unknown key", "[vault]\nulr = \"/v\"\n"),
        ("unknown section", "[vualt]\nurl = \"/v\"\n"),
        ("wrong type", "[backup]\nworkers = \"two\"\n"),
        ("wrong value", "[backup]\ncompression = \"gzip\"\n"),
        ("unknown kind", "[source.a]\nkind = \"postgers\"\n"),
        ("missing key", "[source.a]\nconnection = \"\"\n"),
        ("twice", "[vault]\nurl = \"a\"\nurl = \"b\"\n"),
        ("no TOML", "vault: url\n"),
        ("no vault", ""),
        ("no vault there", "[vault]\nurl = \"nowhere\"\n"),
        ("wrong address", "[vault]\nurl = \"ftp://x\"\n"),
        ("no such identity", "[vault]\nurl = \"nowhere\"\nidentity_file = \"missing.txt\"\n"),
        ("empty passphrase", "[vault]\nurl = \"nowhere\"\npassphrase_file = \"empty\"\n"),
    ] {
        desk.put("empty", "\n");
        desk.put("strongroom.toml", settings);
        say(name, &desk.run(&["list"]));
    }
    std::fs::remove_file(desk.path("strongroom.toml")).unwrap();
    say("no such settings file", &desk.run(&["--config", "missing.toml", "list"]));
    say("which source", &desk.run(&["--vault", "nowhere", "backup"]));
    say("misspelt verb", &desk.run(&["lst"]));
    say("nobody to give the key to", &desk.run(&["--vault", "new", "init"]));
    snapshot("errors.txt", &all);
}

#[test]
fn an_error_for_scripts_is_one_document_and_nothing_else() {
    let desk = Desk::new();
    for (arguments, code, kind) in [
        (&["--output", "json", "lst"][..], 2, "usage"),
        (&["--output=json", "backup", "--workers", "x"], 2, "usage"),
        (&["list", "--output", "json"], 3, "settings"),
        (&["list", "--output", "json", "--vault", "nowhere"], 7, "key"),
    ] {
        let output = desk.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&document["exit_code"], &document["error"]["kind"]), (&code.into(), &kind.into()));
        assert!(document["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(document["error"]["hint"].is_string(), "{document}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
    // Of PostgreSQL's own two commands as well, whose codes are others.
    for words in [&["wal", "fetch", "--nonsense"][..], &["wal", "fetch", "000000010000000000000001", "x"]] {
        let output = desk.run(&[&["--output", "json"][..], words].concat());
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &document["exit_code"]), (Some(200), &200.into()), "{words:?}");
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = desk.ok(&["completions", shell]);
        for word in ["restore", "tablespace-map", "write-config"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
        let document: Value =
            serde_json::from_str(&desk.ok(&["completions", shell, "--output", "json"])).unwrap();
        assert_eq!(document["script"].as_str().unwrap().trim_end(), script.trim_end());
    }
}

/// Where the vault was looked for.
fn place(desk: &Desk, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = desk.command(arguments);
    command.args(["list", "--output", "json"]).envs(environment.iter().copied());
    let document: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let message = document["error"]["message"].as_str().unwrap().to_owned();
    message.split_once(" holds no vault").unwrap_or((&message, "")).0.to_owned()
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let desk = Desk::new();
    let url = |name: &str| format!("[vault]\nurl = \"/nowhere/{name}\"\n");
    let found = |arguments: &[&str], environment: &[(&str, &str)]| place(&desk, arguments, environment);
    assert!(found(&[], &[]).contains("No url is set"));
    desk.put(".config/strongroom/strongroom.toml", &url("of-home"));
    assert_eq!(found(&[], &[]), "/nowhere/of-home");
    desk.put("xdg/strongroom/strongroom.toml", &url("of-xdg"));
    let xdg = desk.path("xdg").display().to_string();
    assert_eq!(found(&[], &[("XDG_CONFIG_HOME", &xdg)]), "/nowhere/of-xdg");
    desk.put("strongroom.toml", &url("of-here"));
    assert_eq!(found(&[], &[]), "/nowhere/of-here");
    desk.put("named.toml", &url("of-named"));
    assert_eq!(found(&[], &[("STRONGROOM_CONFIG", "named.toml")]), "/nowhere/of-named");
    desk.put("flag.toml", &url("of-flag"));
    assert_eq!(found(&["--config", "flag.toml"], &[("STRONGROOM_CONFIG", "named.toml")]), "/nowhere/of-flag");
    let vault = [("STRONGROOM_VAULT", "/nowhere/of-environment")];
    assert_eq!(found(&[], &vault), "/nowhere/of-environment");
    assert_eq!(found(&["--vault", "/nowhere/by-flag"], &vault), "/nowhere/by-flag");
}

/// A passphrase in the environment must not stand in the way of the one that was asked for.
#[test]
fn a_passphrase_comes_from_where_it_was_said() {
    let desk = Desk::new();
    let right = desk.put("right", "the right one\nand a line that is not of it\n").display().to_string();
    let wrong = desk.put("wrong", "a wrong one\n").display().to_string();
    let mut init = desk.command(&["--vault", "v", "--passphrase-file", &right, "init"]);
    answers(&init.env("STRONGROOM_PASSPHRASE", "a wrong one").output().unwrap(), 0);
    desk.put("right.toml", "[vault]\nurl = \"v\"\npassphrase_file = \"right\"\n");
    desk.put("wrong.toml", "[vault]\nurl = \"v\"\npassphrase_file = \"wrong\"\n");
    let file = "STRONGROOM_PASSPHRASE_FILE";
    let phrase = "STRONGROOM_PASSPHRASE";
    for (code, flag, environment, settings) in [
        (0, None, &[][..], "right.toml"),
        (7, None, &[], "wrong.toml"),
        (0, None, &[(file, right.as_str())], "wrong.toml"),
        (0, None, &[(phrase, "the right one")], "wrong.toml"),
        (0, None, &[(phrase, ""), (file, "")], "right.toml"),
        (7, None, &[(phrase, "a wrong one"), (file, &right)], "right.toml"),
        (0, None, &[(phrase, "the right one"), (file, &wrong)], "wrong.toml"),
        (0, Some(&right), &[(phrase, "a wrong one"), (file, &wrong)], "wrong.toml"),
        (7, Some(&wrong), &[(phrase, "the right one")], "right.toml"),
    ] {
        let mut command = desk.command(&["--config", settings, "list"]);
        command.envs(environment.iter().copied());
        command.args(flag.iter().flat_map(|path| ["--passphrase-file", path.as_str()]));
        let said = answers(&command.output().unwrap(), code);
        assert!(!said.contains("right one") && !said.contains("wrong one"), "{said}");
    }
}

#[test]
fn init_leaves_nothing_of_a_vault_it_did_not_make() {
    let desk = Desk::new();
    desk.put("taken.toml", "# mine\n");
    let arguments = |vault, settings| {
        ["--vault", vault, "init", "--generate-identity", "id.txt", "--write-config", settings]
    };
    let said = answers(&desk.run(&arguments("v", "taken.toml")), 20);
    assert!(said.contains("nothing is overwritten"), "{said}");
    assert!(!desk.path("v/vault.json").exists() && !desk.path("id.txt").exists());
    assert_eq!(std::fs::read_to_string(desk.path("taken.toml")).unwrap(), "# mine\n");
    // The identity's name is taken: the settings file goes again.
    desk.put("id.txt", "mine\n");
    answers(&desk.run(&arguments("v", "strongroom.toml")), 20);
    assert!(!desk.path("strongroom.toml").exists() && !desk.path("v/vault.json").exists());
    std::fs::remove_file(desk.path("id.txt")).unwrap();

    desk.ok(&arguments("v", "strongroom.toml"));
    // What was written works as it is, here and from elsewhere.
    desk.ok(&["list"]);
    let settings = desk.path("strongroom.toml").display().to_string();
    answers(&desk.command(&["--config", &settings, "list"]).current_dir("/").output().unwrap(), 0);
    for secret in ["id.txt", "strongroom.toml"] {
        assert_eq!(std::fs::metadata(desk.path(secret)).unwrap().permissions().mode() & 0o077, 0, "{secret}");
    }
    // A second one over it: refused, and its new files go again.
    let again = ["--vault", "v", "init", "--generate-identity", "new.txt", "--write-config", "new.toml"];
    answers(&desk.run(&again), 12);
    assert!(!desk.path("new.txt").exists() && !desk.path("new.toml").exists());
    desk.ok(&["list"]);
}

#[test]
fn a_key_that_others_can_read_is_a_warning() {
    let desk = Desk::new();
    desk.ok(&["--vault", "v", "init", "--generate-identity", "id.txt"]);
    let list = ["--vault", "v", "--identity-file", "id.txt", "list"];
    assert!(!desk.ok(&list).contains("chmod"));
    std::fs::set_permissions(desk.path("id.txt"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(desk.ok(&list).contains("id.txt can be read by others: chmod 600 it"));
}

#[test]
fn log_levels_follow_flag_then_environment() {
    let desk = Desk::new();
    desk.ok(&["--vault", "v", "init", "--generate-identity", "id.txt"]);
    // The warning about a readable key is the line to look for.
    std::fs::set_permissions(desk.path("id.txt"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = desk.command(&["--vault", "v", "--identity-file", "id.txt", "list"]);
        command.args(arguments).envs(environment.iter().copied());
        answers(&command.output().unwrap(), 0).contains("WARN")
    };
    assert!(said(&[], &[]) && !said(&["-q"], &[]));
    assert!(!said(&[], &[("LOG_LEVEL", "ERROR")]) && said(&[], &[("LOG_LEVEL", "nonsense")]));
    assert!(said(&["-v"], &[("LOG_LEVEL", "ERROR")]) && !said(&["-q"], &[("LOG_LEVEL", "DEBUG")]));
    assert!(!said(&["-v"], &[("STRONGROOM_LOG", "error")]));
}

#[test]
fn logs_for_programs_are_documents_without_secrets() {
    let desk = Desk::new();
    desk.ok(&["--vault", "v", "init", "--generate-identity", "password=canary"]);
    std::fs::set_permissions(desk.path("password=canary"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = desk.command(&["--vault", "v", "--identity-file", "password=canary", "list"]);
    let text = command.output().unwrap();
    let text = String::from_utf8_lossy(&text.stderr).into_owned();
    assert!(text.contains("password=<hidden>") && !text.contains("canary"), "{text}");
    let output = command.env("STRONGROOM_LOG_FORMAT", "json").output().unwrap();
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    let documents: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents.len(), 1, "{lines}");
    let said = &documents[0];
    assert_eq!(said["level"], "WARN");
    assert!(said["timestamp"].as_str().unwrap().ends_with('Z') && said["target"].is_string(), "{lines}");
    assert!(said["message"].as_str().unwrap().contains("password=<hidden>"), "{lines}");
}

/// `--vault` means the first vault for every verb; those that can go to another by `--in` must not take the one for the other.
#[test]
fn recipients_come_and_go_in_the_vault_that_is_meant() {
    let desk = Desk::new();
    let (first, second) = (desk.put("one", "correct horse\n"), desk.put("two", "battery staple\n"));
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    desk.ok(&["--vault", "v", "init", "--generate-identity", "id.txt"]);
    let by = |key: [&str; 2], words: &[&str], code: i32| {
        answers(&desk.run(&[&["--vault", "v"][..], &key, words].concat()), code)
    };
    let (identity, one, two) =
        (["--identity-file", "id.txt"], ["--passphrase-file", first], ["--passphrase-file", second]);
    for words in [&["key", "list"][..], &["sweep", "--dry-run"], &["expire", "--dry-run"], &["hold", "list"]]
    {
        by(identity, words, 0);
    }
    by(identity, &["key", "add", "--new-passphrase-file", first, "--label", "safe"], 0);
    let last = by(identity, &["key", "remove", "1"], 12);
    assert!(last.contains("only one that is proven") && last.contains("--passphrase-file"), "{last}");
    by(one, &["key", "remove", "1"], 0);
    by(identity, &["key", "list"], 7);
    by(one, &["key", "rotate", "2", "--new-passphrase-file", second, "--label", "operations"], 0);
    by(one, &["key", "list"], 7);
    let listed = by(two, &["key", "list"], 0);
    assert!(listed.contains("operations") && !listed.contains("safe"), "{listed}");
    for words in [&["key", "remove", "9"][..], &["key", "rotate", "9", "--generate-identity", "none.txt"]] {
        let unknown = by(two, words, 2);
        assert!(unknown.contains("no recipient 9") && unknown.contains("`strongroom key list`"), "{unknown}");
    }
    assert!(!desk.path("none.txt").exists(), "an identity was written for a recipient that is not");
    by(two, &["key", "add", "--age-recipient", "nonsense"], 3);
    // Nothing is sealed in this vault yet that could prove the key.
    assert!(by(two, &["key", "check"], 4).contains("take a backup first"));
    assert!(by(two, &["key", "sheet"], 0).contains("operations"));
    let unknown = by(two, &["key", "list", "--in", "elsewhere"], 2);
    assert!(unknown.contains("no vault is called elsewhere"), "{unknown}");
    let also = "[[also]]\nname = \"twin\"\nurl = ";
    desk.put("twins.toml", &format!("[vault]\nurl = \"v\"\n{also}\"a\"\n{also}\"b\"\n"));
    let twins = answers(&desk.run(&["--config", "twins.toml", "verify", "--in", "twin"]), 3);
    assert!(twins.contains("two vaults are called twin"), "{twins}");
}

/// What is kept for ever as the record of a hold must say something.
#[test]
fn a_hold_without_a_reason_or_an_owner_is_refused() {
    let desk = Desk::new();
    for (reason, owner) in [("", "legal"), ("case 4711", "")] {
        let hold = ["hold", "place", "20261120T120000Z-1f2e3d4c", "--reason", reason, "--owner", owner];
        assert!(answers(&desk.run(&hold), 2).contains("a value is required"), "{reason:?}, {owner:?}");
    }
}

/// A script must not take half a report, or none, for the whole of it.
#[test]
fn a_report_that_cannot_be_written_is_no_success() {
    let desk = Desk::new();
    desk.ok(&["--vault", "v", "init", "--generate-identity", "id.txt"]);
    let key = ["--vault", "v", "--identity-file", "id.txt"];
    let into =
        |words: &[&str], out: Stdio| desk.command(&[&key, words].concat()).stdout(out).output().unwrap();
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    for words in [&["key", "sheet"][..], &["list"], &["list", "--output", "json"], &["completions", "bash"]] {
        let said = answers(&into(words, full()), 20);
        assert!(said.contains("write to standard output: No space left"), "{words:?}: {said}");
        // Whoever stopped reading has what they wanted.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        answers(&into(words, Stdio::from(writer)), 0);
    }
    // Recovery hears nothing of it: what it reads is the code.
    let fetch = ["--output", "json", "wal", "fetch", "--source", "main", "none-of-its-files", "x"];
    answers(&into(&fetch, full()), 1);
}

#[test]
fn a_secret_that_cannot_be_written_whole_is_not_left_in_half() {
    let desk = Desk::new();
    let binary = env!("CARGO_BIN_EXE_strongroom");
    let script =
        format!("trap '' XFSZ; ulimit -f 0; exec {binary} --vault v init --generate-identity id.txt");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(desk.path(".")).env_clear().env("HOME", desk.path("."));
    let said = answers(&command.output().unwrap(), 20);
    assert!(said.contains("write id.txt: File too large"), "{said}");
    assert!(!desk.path("id.txt").exists());
    desk.ok(&["--vault", "v", "init", "--generate-identity", "id.txt"]);
    let nowhere = answers(&desk.run(&["--vault", "w", "init", "--generate-identity", "no/id.txt"]), 20);
    assert!(nowhere.contains("make its folder first"), "{nowhere}");
}

/// A listener that takes connections and never says a word.
#[test]
fn a_vault_that_recovery_cannot_wait_for_is_named() {
    let desk = Desk::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    desk.ok(&["--vault", "v", "init", "--no-encryption"]);
    desk.put(
        "strongroom.toml",
        &format!(
            "[vault]\nurl = \"s3://bucket/far\"\nendpoint = \"{endpoint}\"\nallow_http = true\n[[also]]\nname = \"near\"\nurl = \"v\"\n"
        ),
    );
    let mut fetch = desk.command(&["wal", "fetch", "--source", "main", "000000010000000000000001", "x"]);
    fetch.envs([("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_REGION", "us-east-1")]);
    let said = answers(&fetch.output().unwrap(), 200);
    assert!(said.contains("open vault s3://bucket/far: it does not answer in time"), "{said}");
    assert!(said.contains("hint: is it up and reachable?"), "{said}");
}

/// As other systems write an accent: a letter of its own behind its vowel.
#[test]
fn settings_that_init_writes_can_be_read_whatever_the_paths() {
    let desk = Desk::new();
    let odd = ["va\u{300}ult \"1\" \\", "it's\tid\u{301}.txt"];
    desk.ok(&["--vault", odd[0], "init", "--generate-identity", odd[1], "--write-config", "strongroom.toml"]);
    desk.ok(&["list"]);
}
