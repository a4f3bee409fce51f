//! What a folder store has acknowledged survives a power cut: by the system calls that it really makes, replayed on a model
//! of a disk that keeps nothing but what was fsynced.
//!
//! The model is harsher than any file system: a file's bytes last from its fsync on, a name from the fsync of its folder on,
//! and a folder's own name likewise. `strace` says what was called; the acknowledgements are in the same trace, as writes to
//! standard output.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_store::{Body, Folder, Key, PutError, Store};

const CHILD: &str = "STRONGROOM_DURABILITY_FOLDER";

/// Small and large (written past the page cache), new folders and known ones, a key that is taken.
fn puts() -> Vec<(&'static str, usize)> {
    vec![
        ("vault.json", 100),
        ("sources/a/points/p/intent", 0),
        ("sources/a/points/p/packs/000000-ab", 3 << 20),
        ("sources/a/points/p/packs/000001-cd", (1 << 20) + 17),
        ("sources/a/points/p/manifest", 70_000),
        ("sources/a/points/p/decision", 500),
        ("sources/a/points/p/decision", 501),
        ("sources/b/wal/1/00000001/00000000/000000010000000000000001", 1 << 16),
    ]
}

/// Not a test of its own: what the other one runs under `strace`.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = Folder::open(PathBuf::from(folder));
    // Whoever asks first founds a vault.
    let marker = Key::new("vault.json").unwrap();
    assert!(store.head(&marker).await.unwrap_err().is_not_found());
    for (name, size) in puts() {
        match store.put_new(&Key::new(name).unwrap(), Body::from(vec![7; size])).await {
            Ok(()) | Err(PutError::Exists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        let mut out = std::io::stdout().lock();
        out.write_all(format!("acknowledged {name}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

/// A disk under crash: names and bytes now, and those that would still be there.
#[derive(Default)]
struct Disk {
    /// Files and folders by path; a file's is its number.
    now: BTreeMap<PathBuf, Entry>,
    lasting: BTreeMap<PathBuf, Entry>,
    files: Vec<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    File(usize),
}

#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    /// Whether anything was written since the last fsync.
    unsynced: bool,
    synced_once: bool,
}

impl Disk {
    /// What there was before the trace began.
    fn with(root: &Path) -> Disk {
        let mut disk = Disk::default();
        for folder in root.ancestors() {
            disk.now.insert(folder.to_owned(), Entry::Folder);
            disk.lasting.insert(folder.to_owned(), Entry::Folder);
        }
        disk
    }

    fn file(&mut self, path: &Path) -> Option<&mut Bytes> {
        match self.now.get(path)? {
            Entry::File(number) => self.files.get_mut(*number),
            Entry::Folder => None,
        }
    }

    fn make_file(&mut self, path: &Path) {
        self.files.push(Bytes::default());
        self.now.insert(path.to_owned(), Entry::File(self.files.len() - 1));
    }

    fn fsync(&mut self, path: &Path) {
        if let Some(bytes) = self.file(path) {
            *bytes = Bytes { unsynced: false, synced_once: true };
            return;
        }
        let inside = |entry: &Path| entry.parent() == Some(path);
        let now: BTreeMap<PathBuf, Entry> = self
            .now
            .iter()
            .filter(|(entry, _)| inside(entry))
            .map(|(path, entry)| (path.clone(), *entry))
            .collect();
        self.lasting.retain(|entry, _| !inside(entry));
        self.lasting.extend(now);
    }

    /// Whether the path is there after a crash at this moment, with all of its bytes.
    fn survives(&self, path: &Path) -> bool {
        let folders = path.ancestors().skip(1).all(|folder| self.lasting.get(folder) == Some(&Entry::Folder));
        match self.lasting.get(path) {
            Some(Entry::File(number)) => {
                let bytes = self.files[*number];
                folders && bytes.synced_once && !bytes.unsynced
            }
            _ => false,
        }
    }

    /// Keys that would be there after a crash with bytes missing.
    fn torn(&self, root: &Path) -> Vec<PathBuf> {
        let torn = |(path, entry): (&PathBuf, &Entry)| match entry {
            Entry::File(number) => {
                let bytes = self.files[*number];
                let is_key = path.starts_with(root) && !path.starts_with(root.join(".tmp"));
                (is_key && (bytes.unsynced || !bytes.synced_once)).then(|| path.clone())
            }
            Entry::Folder => None,
        };
        self.lasting.iter().filter_map(torn).collect()
    }
}

/// Text between the first two quotation marks from `from` on.
fn quoted(text: &str, nth: usize) -> PathBuf {
    text.split('"').nth(2 * nth + 1).unwrap_or_default().into()
}

/// The path of the first descriptor: `fsync(9</path>)`.
fn described(text: &str) -> PathBuf {
    text.split_once('<').and_then(|(_, rest)| rest.split('>').next()).unwrap_or_default().into()
}

/// Replays a trace; what was acknowledged and would be lost, or would be there torn, at whatever moment.
fn losses(trace: &[String], root: &Path) -> BTreeSet<String> {
    let mut disk = Disk::with(root.parent().unwrap().parent().unwrap());
    let mut losses = BTreeSet::new();
    let mut acknowledged = BTreeSet::new();
    for line in trace {
        let Some((call, arguments)) = line.split_once('(') else { continue };
        let failed = line.rsplit_once(" = ").is_some_and(|(_, result)| result.starts_with('-'));
        if failed {
            continue;
        }
        match call.rsplit(' ').next().unwrap_or(call) {
            "openat" if arguments.contains("O_CREAT") => disk.make_file(&quoted(arguments, 0)),
            "mkdir" | "mkdirat" => {
                disk.now.insert(quoted(arguments, 0), Entry::Folder);
            }
            "write" | "pwrite64" | "writev" | "ftruncate" => {
                if let Some((_, said)) = arguments.split_once("\"acknowledged ") {
                    let name = said.split("\\n").next().unwrap_or_default();
                    acknowledged.insert(root.join(name));
                } else if let Some(bytes) = disk.file(&described(arguments)) {
                    bytes.unsynced = true;
                }
            }
            "fsync" | "fdatasync" => disk.fsync(&described(arguments)),
            "link" | "linkat" => {
                if let Some(entry) = disk.now.get(&quoted(arguments, 0)).copied() {
                    disk.now.insert(quoted(arguments, 1), entry);
                }
            }
            "rename" | "renameat" | "renameat2" => {
                if let Some(entry) = disk.now.remove(&quoted(arguments, 0)) {
                    disk.now.insert(quoted(arguments, 1), entry);
                }
            }
            "unlink" | "unlinkat" => {
                disk.now.remove(&quoted(arguments, 0));
            }
            _ => {}
        }
        let lost = acknowledged.iter().filter(|path| !disk.survives(path));
        losses.extend(lost.map(|path| format!("lost {}", path.display())));
        losses.extend(disk.torn(root).iter().map(|path| format!("torn {}", path.display())));
    }
    assert!(acknowledged.len() >= 7, "the trace has {} acknowledgements", acknowledged.len());
    losses
}

/// Joins calls that another thread's came between: `123 fsync(9 <unfinished ...>`, `123 <... fsync resumed>) = 0`.
fn joined(text: &str) -> Vec<String> {
    let mut unfinished = BTreeMap::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let thread = line.split(' ').next().unwrap_or_default();
        if let Some(begun) = line.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread.to_owned(), begun.to_owned());
        } else if let Some((_, ended)) = line.split_once(" resumed>") {
            lines.push(unfinished.remove(thread).unwrap_or_default() + ended);
        } else {
            lines.push(line.to_owned());
        }
    }
    lines
}

#[test]
fn what_was_acknowledged_survives_a_crash_that_drops_all_that_was_not_synced() {
    let scratch = tempfile::tempdir().unwrap();
    // As the kernel names it: a trace has resolved paths.
    let scratch = scratch.path().canonicalize().unwrap();
    let (root, trace) = (scratch.join("new/vault"), scratch.join("trace"));
    let calls = "openat,mkdir,mkdirat,write,writev,pwrite64,ftruncate,fsync,fdatasync,link,linkat,unlink,unlinkat,rename,renameat,renameat2";
    let status = Command::new("strace")
        .args(["-f", "-y", "-s", "200", "-e", &format!("trace={calls}"), "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, &root)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        assert!(std::env::var_os("CI").is_none(), "strace: {status:?}");
        println!("skipped: strace does not run here ({status:?}; ./test installs it)");
        return;
    }
    let trace = joined(&std::fs::read_to_string(&trace).unwrap());
    assert_eq!(losses(&trace, &root), BTreeSet::new());
    // The model must be able to lose: without the syncs of files everything is torn, without those of folders lost.
    let without = |what: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
        let kept: Vec<String> = trace.iter().filter(|line| !what(line)).cloned().collect();
        losses(&kept, &root)
    };
    let is_sync = |line: &str| line.contains("fsync(") || line.contains("fdatasync(");
    let of_file = |line: &str| is_sync(line) && line.contains("/.tmp/");
    assert!(without(&of_file).iter().any(|loss| loss.starts_with("torn")));
    assert!(without(&|line| is_sync(line) && !of_file(line)).iter().any(|loss| loss.starts_with("lost")));
    // Not one of them is there for nothing.
    let syncs: Vec<usize> = (0..trace.len()).filter(|at| is_sync(&trace[*at])).collect();
    let needless: Vec<&String> = syncs
        .iter()
        .filter(|at| {
            let mut kept = trace.clone();
            kept.remove(**at);
            losses(&kept, &root).is_empty()
        })
        .map(|at| &trace[*at])
        .collect();
    // Of the vault's own folder, when it is made, and of the folder of the key that was taken: `Exists` promises as much.
    assert!(needless.len() <= 2 && syncs.len() > 20, "{} syncs, needless: {needless:#?}", syncs.len());
}
