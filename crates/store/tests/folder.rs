//! What a folder does when its ground gives way: disks that fill up, turn read-only or are taken away; writers that are
//! killed; writers in other processes.
//!
//! Tests that need a file system of their own mount one, which only root may; elsewhere they say so. Tests that need a
//! second process start this program again, told by the environment which writer to be.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "tests make and break files, mounts and processes"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use strongroom_store::{Body, Folder, Key, PutError, Store, StoreError};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn body(text: &str) -> Body {
    Body::from(text.as_bytes().to_vec())
}

/// A vault's folder: one with the marker in it.
async fn vault(root: &Path) -> Folder {
    let folder = Folder::open(root);
    folder.put_new(&key("vault.json"), body("{}")).await.unwrap();
    folder
}

/// What is below `root`, as sorted paths.
fn below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// A small file system of its own, gone with the test.
struct Mount(PathBuf);

impl Mount {
    /// 8 MiB of `kind`. `None`, with the reason printed, where this user cannot mount.
    fn new(kind: &str, at: &Path) -> Option<Mount> {
        fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount").args(["-t", kind, "-o", "size=8m", "vault"]).arg(at).output();
        match mount {
            Ok(output) if output.status.success() => Some(Mount(at.to_owned())),
            Ok(output) => {
                println!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: mount does not start: {error}");
                None
            }
        }
    }

    fn read_only(&self) {
        let mount = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status().unwrap();
        assert!(mount.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_says_so_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("vault");
    let Some(_mount) = Mount::new("tmpfs", &root) else { return };
    let store = vault(&root).await;
    for (name, size) in [("small", 300 << 10), ("large", 16 << 20)] {
        while store.put_new(&key(&format!("fill/{name}")), Body::from(vec![7; size])).await.is_ok() {
            fs::rename(root.join("fill").join(name), root.join(format!("{name}-{}", below(&root).len())))
                .unwrap();
        }
        let outcome = store.put_new(&key(&format!("fill/{name}")), Body::from(vec![7; size])).await;
        assert!(matches!(outcome, Err(PutError::Store(StoreError::Full { .. }))), "{name}: {outcome:?}");
        assert!(store.head(&key(&format!("fill/{name}"))).await.unwrap_err().is_not_found());
    }
    assert!(below(&root.join(".tmp")).is_empty(), "what did not fit is not left lying about");
    // What is there is still readable, and still known to be there, though nothing could be written to find out.
    assert_eq!(store.get(&key("vault.json")).await.unwrap(), "{}");
    let again = store.put_new(&key("vault.json"), Body::from(vec![7; 16 << 20])).await;
    assert!(matches!(again, Err(PutError::Exists { .. })), "{again:?}");
}

#[tokio::test]
async fn a_disk_that_turned_read_only_says_so_and_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("vault");
    let Some(mount) = Mount::new("tmpfs", &root) else { return };
    let store = vault(&root).await;
    mount.read_only();
    let outcome = store.put_new(&key("a"), body("a")).await;
    assert!(matches!(outcome, Err(PutError::Store(StoreError::Denied { .. }))), "{outcome:?}");
    let outcome = store.delete(&key("vault.json")).await;
    assert!(matches!(outcome, Err(StoreError::Denied { .. })), "{outcome:?}");
    assert_eq!(store.get(&key("vault.json")).await.unwrap(), "{}");
}

/// Such a file system makes the file before it refuses to open it so.
#[tokio::test]
async fn a_file_system_that_cannot_write_past_the_page_cache_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("vault");
    let Some(_mount) = Mount::new("ramfs", &root) else { return };
    let store = vault(&root).await;
    store.put_new(&key("large"), Body::from(vec![7; SIZE])).await.unwrap();
    assert!(store.get(&key("large")).await.unwrap() == vec![7; SIZE]);
}

/// The disk is taken away, and the empty place where it was mounted stays. Nothing may be written there: WAL that was
/// "shipped" under a mount point is hidden by the next mount, and lost.
#[tokio::test]
async fn nothing_is_written_where_the_vault_is_not_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("vault");
    let aside = dir.path().join("aside");
    let before = vault(&root).await;
    before.put_new(&key("wal/1"), body("1")).await.unwrap();
    for gone in [false, true] {
        fs::rename(&root, &aside).unwrap();
        if !gone {
            fs::create_dir(&root).unwrap();
        }
        // One that was used before, and one that was opened too late.
        for store in [before.clone(), Folder::open(&root)] {
            let outcome = store.put_new(&key("wal/2"), body("2")).await;
            assert!(matches!(outcome, Err(PutError::Store(StoreError::Broken { .. }))), "{outcome:?}");
            for error in [
                store.get(&key("wal/1")).await.unwrap_err(),
                store.get_range(&key("wal/1"), 0..1).await.unwrap_err(),
                store.head(&key("wal/1")).await.unwrap_err(),
                store.list("wal", None).await.unwrap_err(),
                store.list("", None).await.unwrap_err(),
                store.delete(&key("wal/1")).await.unwrap_err(),
            ] {
                assert!(!error.is_not_found(), "{error:?}");
            }
        }
        // To who has seen the vault, even vault.json is not absent but out of reach.
        assert!(!before.head(&key("vault.json")).await.unwrap_err().is_not_found());
        let outcome = before.put_new(&key("vault.json"), body("another")).await;
        assert!(matches!(outcome, Err(PutError::Store(StoreError::Broken { .. }))), "{outcome:?}");
        assert!(gone || below(&root).is_empty(), "{:?}", below(&root));
        assert_eq!(root.exists(), !gone);
        if !gone {
            fs::remove_dir(&root).unwrap();
        }
        fs::rename(&aside, &root).unwrap();
        assert_eq!(before.get(&key("wal/1")).await.unwrap(), "1", "mounted again");
    }
}

/// `strongroom init` writes wrapped keys before `vault.json`, having asked whether there is a vault.
#[tokio::test]
async fn who_was_told_that_there_is_no_vault_may_found_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("new/vault");
    let store = Folder::open(&root);
    let unasked = store.put_new(&key("keys/1"), body("wrapped")).await;
    assert!(matches!(unasked, Err(PutError::Store(StoreError::Broken { .. }))), "{unasked:?}");
    assert!(store.head(&key("vault.json")).await.unwrap_err().is_not_found());
    store.put_new(&key("keys/1"), body("wrapped")).await.unwrap();
    store.put_new(&key("vault.json"), body("{}")).await.unwrap();
    assert!(store.get(&key("absent")).await.unwrap_err().is_not_found());
    assert_eq!(store.list("", None).await.unwrap().objects.len(), 2);
}

#[tokio::test]
async fn what_is_not_an_object_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = vault(&dir.path().join("vault")).await;
    store.put_new(&key("a/b"), body("b")).await.unwrap();
    for absent in ["a", "a/b/c"] {
        assert!(store.get(&key(absent)).await.unwrap_err().is_not_found(), "{absent}");
        assert!(store.get_range(&key(absent), 0..1).await.unwrap_err().is_not_found(), "{absent}");
        assert!(store.head(&key(absent)).await.unwrap_err().is_not_found(), "{absent}");
        store.delete(&key(absent)).await.unwrap();
    }
    assert_eq!(store.get(&key("a/b")).await.unwrap(), "b");
}

/// A file system's own folders (`lost+found`, which only root may look into) are no part of the vault.
#[tokio::test]
async fn what_is_not_ours_is_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("vault");
    let store = vault(&root).await;
    fs::create_dir_all(root.join("lost+found/#12")).unwrap();
    fs::write(root.join("lost+found/a"), "a").unwrap();
    fs::write(root.join("read me.txt"), "a").unwrap();
    let listed = store.list("", None).await.unwrap().objects;
    assert_eq!(listed.iter().map(|head| head.key.as_str()).collect::<Vec<_>>(), ["vault.json"]);
    let outcome = store.put_new(&key(".tmp/a"), body("a")).await;
    assert!(matches!(outcome, Err(PutError::Store(StoreError::Broken { .. }))), "{outcome:?}");
}

#[tokio::test]
async fn only_the_owner_may_read_a_vault() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("vault");
    let store = vault(&root).await;
    store.put_new(&key("a/small"), body("small")).await.unwrap();
    store.put_new(&key("a/large"), Body::from(vec![7; 3 << 20])).await.unwrap();
    for path in below(&root).into_iter().chain([root]) {
        let facts = fs::metadata(&path).unwrap();
        let mode = if facts.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(facts.permissions().mode() & 0o7777, mode, "{}", path.display());
    }
}

/// Bytes of an object of the writers below: large enough to be written past the page cache.
const SIZE: usize = (2 << 20) + 12_345;

/// Which writer this process is: the folder, and a name.
fn told() -> Option<(PathBuf, u8)> {
    let told = std::env::var("STRONGROOM_TEST_WRITER").ok()?;
    let (name, root) = told.split_once(':').unwrap();
    Some((root.into(), name.parse().unwrap()))
}

/// This program again, running one test as that writer.
fn writer(test: &str, root: &Path, name: u8) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("STRONGROOM_TEST_WRITER", format!("{name}:{}", root.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The keys a writer reported, one by one as it does.
fn reported(writer: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.filter_map(|line| line.rsplit_once("wrote ").map(|(_, key)| key.to_owned()))
}

#[tokio::test]
async fn of_writers_in_two_processes_one_wins_each_key() {
    const TEST: &str = "of_writers_in_two_processes_one_wins_each_key";
    if let Some((root, name)) = told() {
        let store = Folder::open(root);
        for number in 0..60 {
            let key = key(&format!("raced/{}/{number:02}", number / 10));
            match store.put_new(&key, Body::from(vec![name; 20_000])).await {
                Ok(()) => println!("wrote {key}"),
                Err(PutError::Exists { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("vault");
    let store = vault(&root).await;
    let mut winners = BTreeMap::new();
    let writers: Vec<(u8, Child)> = (1..=2).map(|name| (name, writer(TEST, &root, name))).collect();
    for (name, mut writer) in writers {
        for key in reported(&mut writer) {
            assert_eq!(winners.insert(key.clone(), name), None, "{key} has two winners");
        }
        assert!(writer.wait().unwrap().success());
    }
    assert_eq!(winners.len(), 60, "a key without a winner");
    for (text, name) in winners {
        assert!(store.get(&key(&text)).await.unwrap() == vec![name; 20_000], "{text} is not its winner's");
    }
}

#[tokio::test]
async fn behaviour_2_a_killed_writer_leaves_whole_objects_or_none() {
    const TEST: &str = "behaviour_2_a_killed_writer_leaves_whole_objects_or_none";
    if let Some((root, name)) = told() {
        let store = Folder::open(root);
        for number in 0.. {
            let key = key(&format!("run-{name}/{number:05}"));
            store.put_new(&key, Body::from(vec![name; SIZE])).await.unwrap();
            println!("wrote {key}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("vault");
    let store = vault(&root).await;
    for run in 1..=8 {
        let mut writer = writer(TEST, &root, run);
        // The next one is under way when it is killed.
        let acknowledged: Vec<String> = reported(&mut writer).take(usize::from(run)).collect();
        writer.kill().unwrap();
        writer.wait().unwrap();
        let listed = store.list(&format!("run-{run}"), None).await.unwrap().objects;
        assert!(listed.len() >= acknowledged.len(), "what was acknowledged is there");
        for head in listed {
            assert!(store.get(&head.key).await.unwrap() == vec![run; SIZE], "{} is not whole", head.key);
        }
        let next = key(&format!("run-{run}/after"));
        store.put_new(&next, Body::from(vec![run; SIZE])).await.unwrap();
    }
}

/// Whether this process can make files immutable where the tests write.
fn can_lock(folder: &Path) -> bool {
    let probe = folder.join("probe");
    fs::write(&probe, b"x").unwrap();
    let chattr = |flag: &str| Command::new("chattr").arg(flag).arg(&probe).output();
    let can = chattr("+i").is_ok_and(|output| output.status.success());
    let _ = chattr("-i");
    if !can {
        println!("skipped: no file can be made immutable here (root and ext4, xfs or btrfs)");
    }
    can
}

#[tokio::test]
async fn a_locked_object_stays_until_its_time() {
    let dir = tempfile::tempdir().unwrap();
    if !can_lock(dir.path()) {
        return;
    }
    let (root, key) = (dir.path().join("vault"), Key::new("a/b").unwrap());
    let locking = |keep: Duration| Folder::locking(&root, keep);
    let body = || Body::from(b"content".to_vec());
    let marker = Key::new("vault.json").unwrap();
    let week = locking(Duration::from_secs(7 * 86_400));
    week.put_new(&marker, body()).await.unwrap();
    week.put_new(&key, body()).await.unwrap();
    assert!(fs::write(root.join("a/b"), b"other").is_err(), "it can be overwritten");
    assert!(fs::remove_file(root.join("a/b")).is_err(), "it can be removed");
    let refused = week.delete(&key).await.unwrap_err();
    assert!(matches!(refused, StoreError::Denied { .. }), "{refused:?}");
    let unaware = Folder::open(&root).delete(&key).await.unwrap_err();
    assert!(matches!(unaware, StoreError::Denied { .. }), "{unaware:?}");
    assert!(matches!(week.put_new(&key, body()).await, Err(PutError::Exists { .. })));
    week.delete(&Key::new("a/none").unwrap()).await.unwrap();
    // Its time has come.
    let now = locking(Duration::ZERO);
    assert_eq!(now.get(&key).await.unwrap(), "content");
    for key in [&key, &marker] {
        now.delete(key).await.unwrap();
    }
    assert!(!root.join("a/b").exists());
}
