//! What PostgreSQL's archiver and recovery are promised, by exit code and by what lies on disk.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use live::{Site, said, until, versions};
use strongroom_postgres::cluster::{Cluster, InitOptions};

/// A site of this host's server, whose WAL is shipped by hand: its archiver is given nothing to do.
fn site() -> Option<Site> {
    let binaries = versions().into_iter().next()?;
    Some(Site::new(&binaries, InitOptions::default()))
}

/// A folder that looks like a data directory: `pg_wal`, and the control file of `cluster`.
fn waiting_room(site: &Site, cluster: &Cluster, name: &str) -> PathBuf {
    let room = site.path(name);
    for folder in ["pg_wal", "global"] {
        std::fs::create_dir_all(room.join(folder)).unwrap();
    }
    std::fs::copy(cluster.data().join("global/pg_control"), room.join("global/pg_control")).unwrap();
    for path in [&room, &room.join("pg_wal"), &room.join("global"), &room.join("global/pg_control")] {
        site.binaries.give(path).unwrap();
    }
    room
}

fn put(site: &Site, path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap();
    site.binaries.give(path).unwrap();
}

/// The oldest finished segment of the server, by name and content.
fn segment(site: &Site) -> (String, Vec<u8>) {
    let name = site.cluster.sql("select pg_walfile_name(pg_switch_wal())").unwrap();
    site.ship(&site.cluster);
    let path = site.cluster.data().join("pg_wal").join(&name);
    let content = std::fs::read(&path).unwrap();
    (name, content)
}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn objects(site: &Site) -> Vec<(PathBuf, Vec<u8>)> {
    walk(&site.path("vault")).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn behaviours_1_3_and_6_the_same_file_is_fine_and_a_different_one_is_refused() {
    let Some(site) = site() else { return };
    let (name, content) = segment(&site);
    let room = waiting_room(&site, &site.cluster, "room");
    let path = room.join("pg_wal").join(&name);
    put(&site, &path, &content);
    let before = objects(&site);
    for _ in 0..2 {
        site.ok(&["wal", "push", path.to_str().unwrap()]);
    }
    // Another content under the same name: refused, by a code the archiver survives; nothing changes.
    let mut other = content.clone();
    let last = other.len() - 1;
    other[last] ^= 1;
    put(&site, &path, &other);
    let refused = site.fails(12, &["wal", "push", path.to_str().unwrap()]);
    assert!(refused.contains("already has a different file of this name"), "{refused}");
    // Cut short, or of another cluster: refused before anything is asked of the vault.
    put(&site, &path, &content[..content.len() - 1]);
    site.fails(8, &["wal", "push", path.to_str().unwrap()]);
    let stranger = Site::new(&site.binaries, InitOptions::default());
    let (foreign, content) = segment(&stranger);
    let foreign_room = waiting_room(&site, &stranger.cluster, "foreign");
    let foreign = foreign_room.join("pg_wal").join(&foreign);
    put(&site, &foreign, &content);
    let refused = site.fails(12, &["wal", "push", foreign.to_str().unwrap()]);
    assert!(refused.contains("is registered as system"), "{refused}");
    let mixed = room.join("pg_wal").join(foreign.file_name().unwrap());
    put(&site, &mixed, &content);
    site.fails(8, &["wal", "push", mixed.to_str().unwrap()]);
    assert!(objects(&site) == before, "a refused push changed the vault");
}

#[test]
fn behaviours_4_5_and_13_every_kind_of_name_comes_back_and_absence_is_certain() {
    let Some(site) = site() else { return };
    let (name, content) = segment(&site);
    let room = waiting_room(&site, &site.cluster, "room");
    let partial = format!("{name}.partial");
    let label = format!("{name}.00000028.backup");
    let files: [(&str, &[u8]); 4] = [
        (&partial, &content),
        (&label, b"START WAL LOCATION"),
        ("0000000B.history", b""),
        ("0000001F.history", b"1\t0/3000000\tno reason\n"),
    ];
    for (name, content) in files {
        put(&site, &room.join("pg_wal").join(name), content);
        site.ok(&["wal", "push", room.join("pg_wal").join(name).to_str().unwrap()]);
    }
    let destination = room.join("pg_wal/RECOVERYXLOG");
    let to = destination.to_str().unwrap();
    for (name, content) in files.into_iter().chain([(name.as_str(), &content[..])]) {
        site.ok(&["wal", "fetch", name, to]);
        assert!(std::fs::read(&destination).unwrap() == content, "{name}");
        std::fs::remove_file(&destination).unwrap();
    }
    // Certainly absent, or no WAL file's name at all: 1, and nothing at the destination.
    for absent in ["000000010000004200000042", "00000042.history", "no such name", "../../etc/passwd"] {
        site.fails(1, &["wal", "fetch", absent, to]);
    }
    assert_eq!(
        std::fs::read_dir(room.join("pg_wal")).unwrap().count(),
        files.len(),
        "something was left behind"
    );
}

#[test]
fn behaviours_12_13_and_14_whatever_is_uncertain_stops_recovery() {
    let Some(site) = site() else { return };
    let (name, _) = segment(&site);
    let room = waiting_room(&site, &site.cluster, "room");
    let destination = room.join("pg_wal/RECOVERYXLOG");
    let to = destination.to_str().unwrap();
    let fetch = ["wal", "fetch", &name, to];
    site.ok(&fetch);
    std::fs::remove_file(&destination).unwrap();

    // A damaged object.
    let (object, bytes) = objects(&site).into_iter().find(|(path, _)| path.ends_with(&name)).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    std::fs::write(&object, &damaged).unwrap();
    assert!(site.fails(200, &fetch).contains("is damaged"));
    std::fs::write(&object, &bytes).unwrap();
    // The wrong key, no key, no settings, wrong words.
    let stranger = site.inside("stranger.txt");
    site.run(&["init", "--vault", &site.inside("elsewhere"), "--generate-identity", &stranger]);
    site.fails(200, &[&["--identity-file", &stranger][..], &fetch].concat());
    site.fails(200, &[&["--identity-file", "/nowhere"][..], &fetch].concat());
    site.fails(200, &["wal", "fetch", &name]);
    site.fails(200, &[&fetch[..], &["--no-such-flag"]].concat());
    let broken = site.command_with("no-such.toml", &fetch).output().unwrap();
    assert_eq!(broken.status.code(), Some(200), "{}", said(&broken));
    site.fails(200, &["wal", "fetch", "--source", "unknown", &name, to]);
    // Wherever the options stand, and however the verb is misspelt.
    site.fails(200, &["wal", "--identity-file", "/nowhere", "fetch", &name, to]);
    site.fails(200, &["wal", "--no-such-flag", "fetch", &name, to]);
    site.fails(200, &["wal", "fecth", &name, to]);
    // A vault that is not there: moved away, and an empty place left where it was mounted.
    std::fs::rename(site.path("vault"), site.path("moved")).unwrap();
    site.fails(200, &fetch);
    std::fs::create_dir(site.path("vault")).unwrap();
    site.binaries.give(&site.path("vault")).unwrap();
    site.fails(200, &fetch);
    site.fails(200, &["wal", "fetch", "000000010000004200000042", to]);
    std::fs::remove_dir(site.path("vault")).unwrap();
    std::fs::rename(site.path("moved"), site.path("vault")).unwrap();
    // A history that something else in the vault leads through (behaviour 14).
    put(&site, &room.join("pg_wal/00000003.history"), b"1\t0/3000000\tx\n2\t0/4000000\tx\n");
    site.ok(&["wal", "push", room.join("pg_wal/00000003.history").to_str().unwrap()]);
    assert!(
        site.fails(200, &["wal", "fetch", "00000002.history", to])
            .contains("the history of timeline 2 is missing")
    );
    assert!(!destination.exists(), "something unchecked lies at the destination");
    site.ok(&fetch);
}

#[test]
fn behaviour_8_two_vaults_one_down() {
    let Some(site) = site() else { return };
    let (name, content) = segment(&site);
    let room = waiting_room(&site, &site.cluster, "room");
    let path = room.join("pg_wal/000000010000004200000042");
    put(&site, &path.with_file_name(&name), &content);
    let second = format!(
        "[[also]]\nurl = \"{}\"\nidentity_file = \"{}\"\n",
        site.inside("second"),
        site.inside("second.txt")
    );
    site.ok(&["init", "--vault", &site.inside("second"), "--generate-identity", &site.inside("second.txt")]);
    let settings = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    put(&site, &site.path("two.toml"), format!("{settings}{second}").as_bytes());
    let run = |arguments: &[&str]| {
        let output = site.command_with("two.toml", arguments).output().unwrap();
        (output.status.code().unwrap(), said(&output))
    };
    let push = ["wal", "push", room.join("pg_wal").join(&name).to_str().unwrap()].map(str::to_owned);
    let push = || run(&push.each_ref().map(String::as_str));
    let to = room.join("pg_wal/RECOVERYXLOG").display().to_string();
    let has = |vault: &str| {
        site.path(vault).exists() && walk(&site.path(vault)).iter().any(|path| path.ends_with(&name))
    };

    // The main vault is down: the second gets the file, and the command fails, so that the server offers it again.
    std::fs::rename(site.path("vault"), site.path("away")).unwrap();
    let (code, said) = push();
    assert!((1..=125).contains(&code) && has("second"), "{code}: {said}");
    // What one has is fetched; what none has is not certain while one is down.
    assert_eq!(run(&["wal", "fetch", &name, &to]).0, 0);
    assert_eq!(run(&["wal", "fetch", "000000010000004200000042", &to]).0, 200);
    std::fs::rename(site.path("away"), site.path("vault")).unwrap();
    // The hole, had there been one, is filled by the next run; then both say that there is no other file.
    std::fs::remove_file(walk(&site.path("second")).into_iter().find(|path| path.ends_with(&name)).unwrap())
        .unwrap();
    assert_eq!(push().0, 0);
    assert!(has("vault") && has("second"));
    assert_eq!(run(&["wal", "fetch", "000000010000004200000042", &to]).0, 1);
}

/// A store that takes the connection and never answers; the server is shut down meanwhile and sends SIGTERM.
#[test]
fn behaviour_12_a_signal_never_looks_like_a_clean_shutdown() {
    let Some(site) = site() else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = format!(
        "[vault]\nurl = \"s3://b\"\nendpoint = \"http://{}\"\npath_style = true\nallow_http = true\nidentity_file = \"{}\"\n[source.main]\nkind = \"postgres\"\n",
        silent.local_addr().unwrap(),
        site.inside("identity.txt")
    );
    put(&site, &site.path("silent.toml"), settings.as_bytes());
    let to = site.inside("RECOVERYXLOG");
    let mut command = site.command_with("silent.toml", &["wal", "fetch", "000000010000000000000001", &to]);
    command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "x");
    let mut fetch = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    // It hangs once the store has its connection.
    let _connection = silent.accept().unwrap();
    let pid = rustix::process::Pid::from_raw(fetch.id() as i32).unwrap();
    // Once: a server that shuts down sends it once, and waits.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until("the signal to be heard", || fetch.try_wait().unwrap().is_some());
    assert_eq!(fetch.wait().unwrap().code(), Some(200));
}

/// The real thing: recovery with the vault away must abort, never promote; with the vault back it goes through.
#[test]
fn behaviour_12_recovery_without_its_store_aborts_and_never_promotes() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        site.cluster.sql("create table marks (mark text)").unwrap();
        site.backup();
        site.cluster.sql("insert into marks values ('after')").unwrap();
        site.ship(&site.cluster);
        site.ok(&["restore", "--yes", "--no-archiving", "--to", &site.inside("restored")]);
        std::fs::rename(site.path("vault"), site.path("away")).unwrap();
        let mut cluster = Cluster::adopt(&binaries, &site.path("restored")).unwrap();
        assert!(cluster.start().is_err(), "it started without its WAL: {}", cluster.log());
        let log = cluster.log();
        assert!(log.contains("FATAL:  could not restore file"), "{log}");
        assert!(!log.contains("selected new timeline"), "it promoted with data missing: {log}");
        std::fs::rename(site.path("away"), site.path("vault")).unwrap();
        drop(cluster);
        let recovered = site.start("restored");
        assert_eq!(recovered.sql("select mark from marks").unwrap(), "after");
    }
}
