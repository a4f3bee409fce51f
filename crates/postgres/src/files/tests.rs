//! Listings of folders made here. Real servers' folders: `tests/files.rs`.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;

/// Makes files of these sizes, with the folders they are in; a path with `/` at its end is a folder.
fn tree(files: &[(&str, usize)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, size) in files {
        let place = root.path().join(path);
        if path.ends_with('/') {
            std::fs::create_dir_all(place).unwrap();
        } else {
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, vec![7; *size]).unwrap();
        }
    }
    root
}

fn listed(root: &Path) -> Result<Listing, ListError> {
    list(root, Major::new(15).unwrap())
}

fn paths(listing: &Listing) -> Vec<String> {
    listing.entries.iter().map(|entry| entry.path.to_string()).collect()
}

#[test]
fn only_what_a_restored_server_needs_is_listed() {
    let kept = [
        "base/5/1259",
        "base/5/1259.1",
        "base/5/1259_fsm",
        "base/5/1259_vm",
        "base/5/PG_VERSION",
        "base/5/pg_filenode.map",
        "base/5/700_init",
        "base/5/t_1",
        "base/6/700",
        "global/1262",
        "global/pg_filenode.map",
        "pg_xact/0000",
        "pg_multixact/members/0000",
        "pg_logical/replorigin_checkpoint",
        "postgresql.conf",
        "postgresql.auto.conf",
        "PG_VERSION",
        "log/today.log",
        "mine/postmaster.pid",
        "current_logfiles",
        "pg_stat/pgstat.stat",
    ];
    let left_out = [
        "base/5/700",
        "base/5/700.3",
        "base/5/700_fsm",
        "base/5/700_vm",
        "base/5/t3_1259",
        "base/5/t3_1259_vm.1",
        "base/5/pg_internal.init",
        "base/5/pg_internal.init.4711",
        "base/pgsql_tmp/pgsql_tmp1.0",
        "global/pg_control",
        "global/pg_internal.init",
        "pg_wal/000000010000000000000001",
        "pg_wal/archive_status/x.ready",
        "pg_replslot/s/state",
        "pg_dynshmem/1",
        "pg_notify/0000",
        "pg_serial/1",
        "pg_snapshots/1",
        "pg_stat_tmp/1",
        "pg_subtrans/0000",
        "postmaster.pid",
        "postmaster.opts",
        "backup_label",
        "backup_label.old",
        "tablespace_map",
        "tablespace_map.old",
        "backup_manifest",
        "recovery.signal",
        "standby.signal",
        "postgresql.auto.conf.tmp",
        "current_logfiles.tmp",
        "pgsql_tmp_of_mine",
    ];
    let root = tree(&kept.iter().chain(&left_out).map(|path| (*path, 3)).collect::<Vec<_>>());
    let listing = listed(root.path()).unwrap();
    let mut files: Vec<_> = listing
        .entries
        .iter()
        .filter(|entry| entry.size() == 3)
        .map(|entry| entry.path.to_string())
        .collect();
    let mut expected = kept.map(str::to_owned).to_vec();
    files.sort();
    expected.sort();
    assert_eq!(files, expected);
    for folder in EMPTIED {
        let name = String::from_utf8_lossy(folder).into_owned();
        assert!(paths(&listing).contains(&name), "{name} itself is kept");
    }
    assert_eq!(listing.notes, []);
}

#[test]
fn what_a_server_sends_is_judged_by_the_same_rules() {
    for (path, expected) in [
        ("base/5/1259_vm", false),
        ("base/5/700_init", false),
        ("base/5/t3_1259", true),
        ("base/5/pg_internal.init", true),
        ("base/pgsql_tmp/pgsql_tmp1.0", true),
        ("global/1262", false),
        ("global/pg_control", true),
        ("pg_wal", false),
        ("pg_wal/archive_status", true),
        ("pg_stat_tmp/1", true),
        ("pg_xact/0000", false),
        ("pg_tblspc/800/PG_15_202209061", false),
        ("pg_tblspc/800/PG_15_202209061/5/1", false),
        ("pg_tblspc/800/PG_14_202107181/5/1", true),
        ("pg_tblspc/800/PG_15_202209061/pgsql_tmp/x", true),
        ("backup_label.old", true),
        ("standby.signal", true),
        ("mine/standby.signal", false),
    ] {
        let path = EntryPath::new(path).unwrap();
        assert_eq!(leaves_out(&path, Major::new(15).unwrap()), expected, "{path}");
    }
}

#[test]
fn folders_come_first_and_big_files_before_small_ones() {
    let root = tree(&[("base/5/1", 10), ("base/5/2", 30), ("a", 20), ("empty/deep/", 0)]);
    let paths = paths(&listed(root.path()).unwrap());
    assert_eq!(paths, ["base", "base/5", "empty", "empty/deep", "base/5/2", "a", "base/5/1"]);
}

#[test]
fn a_tablespace_is_followed_to_this_versions_folder() {
    let space =
        tree(&[("PG_15_202209061/5/1", 3), ("PG_14_202107181/5/2", 3), ("PG_15_202209061/pgsql_tmp/x", 3)]);
    let root = tree(&[("pg_tblspc/", 0), ("pg_tblspc/900/PG_15_202209061/5/9", 3)]);
    symlink(space.path(), root.path().join("pg_tblspc/800")).unwrap();
    let listing = listed(root.path()).unwrap();
    assert_eq!(listing.tablespaces, [TablespaceLink { oid: 800, location: space.path().to_owned() }]);
    let link = listing.entries.iter().find(|entry| entry.path.is("pg_tblspc/800")).unwrap();
    assert_eq!(link.kind, EntryKind::Link(space.path().as_os_str().as_bytes().to_vec()));
    let files: Vec<_> = paths(&listing).into_iter().filter(|path| path.contains("/5/")).collect();
    assert_eq!(files, ["pg_tblspc/800/PG_15_202209061/5/1", "pg_tblspc/900/PG_15_202209061/5/9"]);
}

#[test]
fn a_tablespace_within_the_data_directory_or_nowhere_is_refused() {
    let root = tree(&[("pg_tblspc/", 0), ("mine/PG_15_202209061/5/1", 3)]);
    let link = root.path().join("pg_tblspc/800");
    symlink(root.path().join("mine"), &link).unwrap();
    assert!(matches!(listed(root.path()), Err(ListError::TablespaceInside { .. })));
    std::fs::remove_file(&link).unwrap();
    symlink("/no/such/folder", &link).unwrap();
    assert!(matches!(listed(root.path()), Err(ListError::TablespaceGone { .. })));
}

#[test]
fn links_are_kept_noted_or_refused() {
    let elsewhere = tree(&[("wal/000000010000000000000001", 3), ("xact/0000", 3)]);
    let root = tree(&[("base/5/1", 3), ("pg_stat/x", 3)]);
    let at = |path: &str| root.path().join(path);
    symlink(elsewhere.path().join("wal"), at("pg_wal")).unwrap();
    symlink("/etc/postgresql/postgresql.conf", at("postgresql.conf")).unwrap();
    let listing = listed(root.path()).unwrap();
    let kind = |path: &str| listing.entries.iter().find(|entry| entry.path.is(path)).unwrap().kind.clone();
    assert_eq!(kind("pg_wal"), EntryKind::Folder);
    assert_eq!(kind("postgresql.conf"), EntryKind::Link(b"/etc/postgresql/postgresql.conf".to_vec()));
    assert_eq!(
        listing.notes.iter().map(Note::to_string).collect::<Vec<_>>(),
        [
            format!(
                "pg_wal is a link to {}/wal: it will be restored as a folder",
                elsewhere.path().display()
            ),
            "postgresql.conf is a link to /etc/postgresql/postgresql.conf, which is not backed up".to_owned(),
        ]
    );
    for hidden in ["pg_xact", "base/7", "base/5/2", "pg_stat/y"] {
        symlink(elsewhere.path().join("xact"), at(hidden)).unwrap();
        assert!(matches!(listed(root.path()), Err(ListError::Moved { .. })), "{hidden}");
        std::fs::remove_file(at(hidden)).unwrap();
    }
}

#[test]
fn sockets_are_noted_and_pipes_refused() {
    let root = tree(&[("base/5/1", 3)]);
    let _socket = UnixListener::bind(root.path().join(".s.PGSQL.5432")).unwrap();
    let listing = listed(root.path()).unwrap();
    assert_eq!(paths(&listing), ["base", "base/5", "base/5/1"]);
    assert_eq!(listing.notes.len(), 1);
    rustix::fs::mknodat(CWD, root.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let error = listed(root.path()).unwrap_err();
    assert!(matches!(error, ListError::Special { kind: "pipe", .. }));
    assert!(EngineError::from(error).hint().is_some());
}

#[test]
fn a_missing_root_is_an_error() {
    assert!(matches!(listed(Path::new("/no/such/folder")), Err(ListError::Io { .. })));
}
