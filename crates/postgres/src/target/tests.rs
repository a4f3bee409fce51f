//! Restores into folders made here. A real server's: `tests/files.rs`.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;
use strongroom_model::page::PAGE_SIZE;

use super::*;
use crate::control::Control;
use crate::control::tests::control;
use crate::version::Major;

fn entry(path: &str, kind: EntryKind) -> Entry {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owner = Owner { uid, gid, user: None, group: None };
    Entry { path: EntryPath::new(path).unwrap(), kind, mode: 0o700, owner, modified: 1_700_000_000 }
}

pub(super) fn folder(path: &str) -> Entry {
    entry(path, EntryKind::Folder)
}

pub(super) fn link(path: &str, to: &Path) -> Entry {
    entry(path, EntryKind::Link(to.as_os_str().as_bytes().to_vec()))
}

pub(super) fn file(path: &str, size: usize) -> Entry {
    Entry { mode: 0o640, ..entry(path, EntryKind::File(size as u64)) }
}

fn target(path: &Path) -> FolderTarget {
    FolderTarget::create(path, TargetOptions::default()).unwrap()
}

fn refusal(path: &Path) -> TargetError {
    let error = FolderTarget::create(path, TargetOptions::default()).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    error
}

pub(super) fn put(target: &FolderTarget, entry: &Entry, bytes: &[u8]) {
    target.prepare(entry).unwrap();
    let mut sink = target.open(entry).unwrap();
    sink.write(0, bytes).unwrap();
    sink.close().unwrap();
}

fn put_control(target: &FolderTarget) -> Vec<u8> {
    let bytes = control(Major::new(16).unwrap());
    target.prepare(&folder("global")).unwrap();
    put(target, &file(CONTROL_FILE, bytes.len()), &bytes);
    bytes
}

#[test]
fn only_an_empty_folder_is_taken() {
    let all = tempfile::tempdir().unwrap();
    let at = |name: &str| all.path().join(name);
    for name in ["full", "dead", "running", "free"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::write(at("full").join("precious"), "x").unwrap();
    std::fs::write(at("dead").join("postmaster.pid"), "2147483647\n/x\n").unwrap();
    std::fs::write(at("running").join("postmaster.pid"), format!("{}\n/x\n", std::process::id())).unwrap();
    std::fs::write(at("file"), "x").unwrap();
    symlink(at("free"), at("link")).unwrap();
    assert!(matches!(refusal(&at("full")), TargetError::NotEmpty { found, .. } if found == "precious"));
    assert!(matches!(refusal(&at("dead")), TargetError::NotEmpty { .. }));
    assert!(
        matches!(refusal(&at("running")), TargetError::Running { pid, .. } if pid as u32 == std::process::id())
    );
    assert!(matches!(refusal(&at("link")), TargetError::Link { .. }));
    assert!(matches!(refusal(&at("file")), TargetError::NotAFolder { .. }));
    let first = target(&at("free"));
    assert!(matches!(refusal(&at("free")), TargetError::Busy { .. }));
    drop(first);
    target(&at("free"));
    target(&at("new/and/deep"));
    assert_eq!(std::fs::metadata(at("new/and/deep")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_to_string(at("full").join("precious")).unwrap(), "x");
    for error in [refusal(&at("full")), refusal(&at("running")), refusal(&at("link"))] {
        assert!(EngineError::from(error).hint().is_some());
    }
}

#[test]
fn somebody_elses_folder_is_refused() {
    if !rustix::process::geteuid().is_root() {
        assert!(matches!(refusal(Path::new("/usr")), TargetError::ForeignOwner { owner: 0, .. }));
        return;
    }
    let root = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(root.path(), Some(4711), None).unwrap();
    let error = target(root.path()).prepare(&folder("global")).unwrap_err();
    assert!(error.to_string().contains("belongs to user 4711"), "{error}");
    let named = Entry { owner: Owner { uid: 4711, ..Owner::default() }, ..folder("global") };
    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(other.path(), Some(4711), None).unwrap();
    target(other.path()).prepare(&named).unwrap();
}

#[test]
fn owner_and_mode_are_as_stored_or_as_asked() {
    let stored = Owner { uid: 4711, gid: 4712, user: None, group: None };
    let made = |options: TargetOptions| {
        let root = tempfile::tempdir().unwrap();
        let target = FolderTarget::create(root.path(), options).unwrap();
        target.prepare(&Entry { owner: stored.clone(), mode: 0o750, ..folder("global") }).unwrap();
        target.prepare(&Entry { owner: stored.clone(), ..file("PG_VERSION", 3) }).unwrap();
        let found = |path: &str| std::fs::metadata(root.path().join(path)).unwrap();
        let modes = ["", "global", "PG_VERSION"].map(|path| found(path).permissions().mode() & 0o777);
        assert_eq!(modes, [0o750, 0o750, 0o640]);
        let owners = ["", "global", "PG_VERSION"].map(|path| (found(path).uid(), found(path).gid()));
        assert!(owners.iter().all(|owner| *owner == owners[1]));
        (owners[0], target.notes().len())
    };
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let other =
        TargetOptions { owner: OwnerPolicy::Numbers { uid: 4713, gid: 4714 }, ..TargetOptions::default() };
    let ours = TargetOptions { owner: OwnerPolicy::Ourselves, ..TargetOptions::default() };
    assert_eq!(made(ours), (me, 0));
    if me.0 == 0 {
        assert_eq!(made(TargetOptions::default()), ((4711, 4712), 0));
        assert_eq!(made(other), ((4713, 4714), 0));
    } else {
        assert_eq!(made(TargetOptions::default()), (me, 1));
        assert_eq!(made(other), (me, 1));
    }
}

#[test]
fn no_path_leads_out_through_a_link() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("pg_control"), "theirs").unwrap();
    let target = target(root.path());
    target.prepare(&link("global", outside.path())).unwrap();
    for hostile in [
        file("global/evil", 3),
        folder("global/evil"),
        link("global/evil", Path::new("/")),
        file(CONTROL_FILE, 3),
    ] {
        assert!(matches!(target.prepare(&hostile), Err(EngineError::Damaged { .. })), "{hostile:?}");
        assert!(target.open(&hostile).is_err());
    }
    // A file in place of a link is refused as well.
    target.prepare(&link("a", &outside.path().join("b"))).unwrap();
    assert!(target.prepare(&file("a", 3)).is_err() && target.open(&file("a", 3)).is_err());
    assert!(target.append_file(&EntryPath::new("a").unwrap(), b"x").is_err());
    assert!(target.finish().is_err());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(outside.path().join("pg_control")).unwrap(), "theirs");
}

#[test]
fn the_control_file_comes_last_and_poisoned() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join(CONTROL_FILE);
    let poisoning = target(root.path());
    let stored = put_control(&poisoning);
    assert!(!place.exists(), "until everything is durable there is none");
    poisoning.finish().unwrap();
    let restored = std::fs::read(&place).unwrap();
    assert_eq!(restored, poisoned(&stored).unwrap());
    assert_ne!(Control::parse(&restored).unwrap().checkpoint, Control::parse(&stored).unwrap().checkpoint);
    assert_eq!(std::fs::read_dir(root.path().join("global")).unwrap().count(), 1);

    let plain = tempfile::tempdir().unwrap();
    let options = TargetOptions { control: ControlPolicy::AsStored, ..TargetOptions::default() };
    let target = FolderTarget::create(plain.path(), options).unwrap();
    let stored = put_control(&target);
    target.finish().unwrap();
    assert_eq!(std::fs::read(plain.path().join(CONTROL_FILE)).unwrap(), stored);
}

#[test]
fn without_a_sound_control_file_there_is_no_end() {
    let root = tempfile::tempdir().unwrap();
    let target = target(root.path());
    target.prepare(&folder("global")).unwrap();
    assert!(matches!(target.finish(), Err(EngineError::Damaged { .. })));
    put(&target, &file(CONTROL_FILE, 8192), &[1; 8192]);
    assert!(matches!(target.finish(), Err(EngineError::Damaged { .. })));
    assert!(!root.path().join(CONTROL_FILE).exists());
}

#[test]
fn tablespaces_go_where_they_are_mapped_or_where_they_were() {
    let all = tempfile::tempdir().unwrap();
    let at = |name: &str| all.path().join(name);
    std::fs::create_dir(at("was")).unwrap();
    let options =
        TargetOptions { tablespaces: BTreeMap::from([(1, at("goes"))]), ..TargetOptions::default() };
    let target = FolderTarget::create(&at("data"), options).unwrap();
    put_control(&target);
    target.prepare(&folder("pg_tblspc")).unwrap();
    target.prepare(&link("pg_tblspc/1", Path::new("/not/here"))).unwrap();
    target.prepare(&link("pg_tblspc/2", &at("was"))).unwrap();
    for space in ["pg_tblspc/1", "pg_tblspc/2"] {
        target.prepare(&Entry { mode: 0o750, ..folder(&format!("{space}/PG_16_202307071")) }).unwrap();
        target.prepare(&folder(&format!("{space}/PG_16_202307071/5"))).unwrap();
        put(&target, &file(&format!("{space}/PG_16_202307071/5/9"), 5), b"table");
    }
    put(&target, &file("tablespace_map", 9), b"1 /not/it");
    target.finish().unwrap();
    assert_eq!(std::fs::read(at("data/tablespace_map.old")).unwrap(), b"1 /not/it");
    assert!(!at("data/tablespace_map").exists(), "the server would replace our links by the source's");
    for (space, place) in [("1", at("goes")), ("2", at("was"))] {
        assert_eq!(std::fs::read_link(at("data/pg_tblspc").join(space)).unwrap(), place);
        assert_eq!(std::fs::read(place.join("PG_16_202307071/5/9")).unwrap(), b"table");
        assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o750);
    }
}

#[test]
fn a_tablespace_is_not_put_where_something_is() {
    let all = tempfile::tempdir().unwrap();
    let at = |name: &str| all.path().join(name);
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full/x"), "x").unwrap();
    let mapped = |data: &str, location: PathBuf| {
        let options =
            TargetOptions { tablespaces: BTreeMap::from([(1, location)]), ..TargetOptions::default() };
        FolderTarget::create(&at(data), options).unwrap_err()
    };
    assert!(matches!(mapped("a", at("full")), TargetError::NotEmpty { .. }));
    assert!(matches!(mapped("b", "relative".into()), TargetError::Elsewhere { .. }));
    assert!(matches!(mapped("c", at("c/spaces/1")), TargetError::Elsewhere { .. }));
    assert!(matches!(mapped("d", at("d")), TargetError::Busy { .. }));
    let target = target(&at("e"));
    target.prepare(&folder("pg_tblspc")).unwrap();
    let error = target.prepare(&link("pg_tblspc/7", &at("full"))).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
}

#[test]
fn files_can_be_added_and_added_to() {
    let root = tempfile::tempdir().unwrap();
    let target = target(root.path());
    let path = |name: &str| EntryPath::new(name).unwrap();
    let read = |name: &str| std::fs::read_to_string(root.path().join(name)).unwrap();
    put(&target, &file("postgresql.auto.conf", 6), b"a = 1\n");
    target.append_file(&path("postgresql.auto.conf"), b"b = 2\n").unwrap();
    target.add_file(&path("recovery.signal"), b"", &Owner::default()).unwrap();
    target.add_file(&path("new.conf"), b"c = 3\n", &Owner::default()).unwrap();
    assert!(target.add_file(&path("recovery.signal"), b"", &Owner::default()).is_err());
    assert_eq!(read("postgresql.auto.conf"), "a = 1\nb = 2\n");
    assert_eq!((read("recovery.signal"), read("new.conf")), (String::new(), "c = 3\n".to_owned()));
}

/// Not as root, who may write everything: then it shows only that the mode is right in the end.
#[test]
fn a_file_that_its_owner_may_not_write_is_restored() {
    let root = tempfile::tempdir().unwrap();
    let target = target(root.path());
    let key = Entry { mode: 0o400, ..file("server.key", 6) };
    put(&target, &key, b"secret");
    let found = std::fs::metadata(root.path().join("server.key")).unwrap();
    assert_eq!((found.mode() & 0o777, found.len()), (0o400, 6));
}

#[test]
fn what_is_not_written_stays_a_hole() {
    let root = tempfile::tempdir().unwrap();
    let target = target(root.path());
    let big = file("big", 64 << 20);
    target.prepare(&big).unwrap();
    let mut sink = target.open(&big).unwrap();
    sink.write(4096, &[7; PAGE_SIZE]).unwrap();
    assert!(matches!(sink.write(8192, &[7; PAGE_SIZE]), Err(EngineError::Damaged { .. })), "beyond the end");
    sink.close().unwrap();
    let found = std::fs::metadata(root.path().join("big")).unwrap();
    assert_eq!((found.len(), found.mtime()), (64 << 20, 1_700_000_000));
    assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());
    let content = std::fs::read(root.path().join("big")).unwrap();
    let written = 4096 * PAGE_SIZE..4097 * PAGE_SIZE;
    assert!(content.iter().enumerate().all(|(at, byte)| *byte == if written.contains(&at) { 7 } else { 0 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn pages_written_in_any_order_end_where_they_belong(
        size in prop_oneof![1usize..100_000, 200_000usize..4_000_000],
        pieces in proptest::collection::vec((0usize..500, 1usize..160, any::<u8>()), 1..30),
    ) {
        let root = tempfile::tempdir().unwrap();
        let target = target(root.path());
        let entry = file("file", size);
        target.prepare(&entry).unwrap();
        let mut sink = target.open(&entry).unwrap();
        let mut expected = vec![0; size];
        for (first, count, fill) in pieces {
            let (from, to) = (first * PAGE_SIZE, (first + count) * PAGE_SIZE);
            let piece = from.min(size)..to.min(size);
            if !piece.is_empty() {
                sink.write(first as u32, &vec![fill; piece.len()]).unwrap();
            }
            expected[piece].fill(fill);
        }
        sink.close().unwrap();
        prop_assert!(std::fs::read(root.path().join("file")).unwrap() == expected);
    }
}
