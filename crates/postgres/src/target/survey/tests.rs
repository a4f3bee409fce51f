//! Folders made here, looked at and restored over. Whole clusters: the binary's `tests/restore_delta.rs`.

use std::os::unix::fs::symlink;

use strongroom_model::PointId;

use super::super::tests::{file, folder, link, put};
use super::*;
use crate::control::tests::control;
use crate::version::Major;

/// A place for a cluster and its surroundings.
struct Desk(tempfile::TempDir);

fn control_bytes() -> Vec<u8> {
    control(Major::new(16).unwrap())
}

fn begun(system_id: SystemId) -> Begun {
    Begun { system_id, point: "20261120T120000Z-1f2e3d4c".parse::<PointId>().unwrap() }
}

fn ours() -> SystemId {
    SystemId(u64::from_le_bytes(*control_bytes().first_chunk::<8>().unwrap()))
}

impl Desk {
    /// With a data directory that has a control file.
    fn new() -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(desk.at("data/global")).unwrap();
        std::fs::write(desk.at("data/global/pg_control"), control_bytes()).unwrap();
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        std::fs::write(self.at(name), text).unwrap();
    }

    /// The survey for a point with these entries and a control file.
    fn survey(&self, entries: &[Entry]) -> Result<Survey, TargetError> {
        let mut expected = Expected::default();
        let control = [folder("global"), file(CONTROL_FILE, 8192)];
        control.iter().chain(entries).for_each(|entry| expected.add(entry));
        let options = TargetOptions { begun: Some(begun(ours())), ..TargetOptions::default() };
        Survey::of(&self.at("data"), options, &expected)
    }

    fn removed(&self, entries: &[Entry]) -> Vec<String> {
        let mut removed = self.survey(entries).unwrap().removed;
        removed.sort();
        removed
    }
}

#[test]
fn only_the_points_own_cluster_is_taken() {
    let desk = Desk::new();
    assert!(desk.survey(&[]).is_ok());
    let control = |bytes: &[u8]| std::fs::write(desk.at("data/global/pg_control"), bytes).unwrap();
    let mut damaged = control_bytes();
    damaged[100..].fill(9);
    control(&damaged);
    assert!(desk.survey(&[]).is_ok(), "whose it is can still be read");
    let mut other = control_bytes();
    other[0] ^= 1;
    control(&other);
    assert!(matches!(desk.survey(&[]), Err(TargetError::Foreign { .. })));
    for nothing in [&[][..], &[0; 8192]] {
        control(nothing);
        assert!(matches!(desk.survey(&[]), Err(TargetError::NotACluster { found, .. }) if found == "global"));
    }
    // What a restore of ours left when it was killed says whose it is by its note.
    std::fs::remove_file(desk.at("data/global/pg_control")).unwrap();
    std::fs::write(desk.at("data").join(CONTROL_UNFINISHED), [0; 8192]).unwrap();
    begun(ours()).note(std::fs::File::open(desk.at("data")).unwrap()).unwrap();
    assert!(desk.survey(&[]).is_ok());
    begun(SystemId(7)).note(std::fs::File::open(desk.at("data")).unwrap()).unwrap();
    assert!(matches!(desk.survey(&[]), Err(TargetError::Foreign { found: SystemId(7), .. })));
}

#[test]
fn a_folder_that_a_server_ran_in_meanwhile_is_left_alone() {
    let desk = Desk::new();
    desk.write("data/extra", "extra");
    let (started, went) = (desk.survey(&[]).unwrap(), desk.at("data/postmaster.pid"));
    std::fs::write(&went, format!("{}\n", std::process::id())).unwrap();
    assert!(matches!(FolderTarget::over(started), Err(TargetError::Running { .. })));
    assert!(desk.at("data/global/pg_control").exists(), "it has its name again");
    assert!(desk.at("data/extra").exists() && !desk.at("data").join(UNFINISHED).exists());
    std::fs::remove_file(went).unwrap();
    let ran = desk.survey(&[]).unwrap();
    let mut bytes = control_bytes();
    bytes[16] ^= 1;
    std::fs::write(desk.at("data/global/pg_control"), bytes).unwrap();
    assert!(matches!(FolderTarget::over(ran), Err(TargetError::Changed { .. })));
    assert!(desk.at("data/extra").exists());
}

#[test]
fn what_goes_is_named_and_looking_changes_nothing() {
    let desk = Desk::new();
    for kept in ["PG_VERSION", "base/5/1259", "lost+found/x"] {
        desk.write(&format!("data/{kept}"), "kept");
    }
    for extra in ["base/5/9999", "old/deep/er", "pg_wal/archive_status/000000010000000000000003.ready"] {
        desk.write(&format!("data/{extra}"), "extra");
    }
    symlink("/nowhere", desk.at("data/dangling")).unwrap();
    symlink("/elsewhere", desk.at("data/log")).unwrap();
    let entries = [
        folder("base"),
        folder("base/5"),
        folder("pg_wal"),
        link("log", Path::new("/var/log")),
        file("PG_VERSION", 4),
        file("base/5/1259", 9),
        file("base/5/2600", 9),
    ];
    let before = desk.removed(&entries);
    assert_eq!(
        before,
        [
            "base/5/9999",
            "dangling",
            "log",
            "old",
            "old/deep",
            "old/deep/er",
            "pg_wal/archive_status",
            "pg_wal/archive_status/000000010000000000000003.ready",
        ]
    );
    let survey = desk.survey(&entries).unwrap();
    assert_eq!((survey.compared, survey.compared_bytes, survey.resized, survey.made), (2, 8, 1, 2));
    assert_eq!(survey.unshipped, ["000000010000000000000003"]);
    assert!(desk.at("data/global/pg_control").exists() && !desk.at("data").join(UNFINISHED).exists());
    FolderTarget::over(survey).unwrap();
    assert!(!desk.at("data/global/pg_control").exists(), "no server starts from here on");
    assert!(desk.at("data").join(CONTROL_UNFINISHED).exists() && desk.at("data").join(UNFINISHED).exists());
    assert!(desk.at("data/lost+found/x").exists() && !desk.at("data/old").exists());
    assert_eq!(desk.removed(&entries), [""; 0]);
}

#[test]
fn in_a_tablespace_only_this_versions_folder_is_touched() {
    let desk = Desk::new();
    desk.write("space/PG_16_202307071/5/9", "table");
    desk.write("space/PG_16_202307071/5/gone", "gone");
    desk.write("space/PG_13_202007201/5/9", "another cluster's");
    std::fs::create_dir(desk.at("data/pg_tblspc")).unwrap();
    symlink(desk.at("space"), desk.at("data/pg_tblspc/77")).unwrap();
    let entries = [
        folder("pg_tblspc"),
        link("pg_tblspc/77", &desk.at("space")),
        folder("pg_tblspc/77/PG_16_202307071"),
        folder("pg_tblspc/77/PG_16_202307071/5"),
        file("pg_tblspc/77/PG_16_202307071/5/9", 5),
    ];
    assert_eq!(desk.removed(&entries), ["pg_tblspc/77/PG_16_202307071/5/gone"]);
    // A running server's tablespace, which a copy of its data directory leads to as well.
    let mut expected = Expected::default();
    entries.iter().for_each(|entry| expected.add(entry));
    desk.write("source/postmaster.pid", &format!("{}\n", std::process::id()));
    std::fs::create_dir(desk.at("source/pg_tblspc")).unwrap();
    symlink(desk.at("space"), desk.at("source/pg_tblspc/77")).unwrap();
    let (begun, source_folder) = (Some(begun(ours())), Some(desk.at("source")));
    let options = TargetOptions { begun, source_folder, ..TargetOptions::default() };
    let refused = Survey::of(&desk.at("data"), options, &expected);
    assert!(matches!(refused, Err(TargetError::Running { path, .. }) if path == desk.at("space")));
    // Elsewhere the same folder is somebody's: the link does not lead there.
    std::fs::remove_file(desk.at("data/pg_tblspc/77")).unwrap();
    assert!(matches!(desk.survey(&entries), Err(TargetError::NotEmpty { .. })));
}

#[test]
fn a_link_in_place_of_global_leads_nobody_out() {
    let desk = Desk::new();
    std::fs::rename(desk.at("data/global"), desk.at("theirs")).unwrap();
    symlink(desk.at("theirs"), desk.at("data/global")).unwrap();
    let target = FolderTarget::over(desk.survey(&[]).unwrap()).unwrap();
    assert!(desk.at("theirs/pg_control").exists() && !desk.at("data/global").exists());
    use strongroom_engine::Target;
    target.prepare(&folder("global")).unwrap();
    put(&target, &file(CONTROL_FILE, 8192), &control_bytes());
    target.finish().unwrap();
    assert_eq!(std::fs::read(desk.at("theirs/pg_control")).unwrap(), control_bytes());
    assert!(!desk.at("data").join(UNFINISHED).exists());
}

#[test]
fn a_file_with_a_second_name_is_made_anew() {
    let desk = Desk::new();
    desk.write("data/PG_VERSION", "16\n");
    std::fs::hard_link(desk.at("data/PG_VERSION"), desk.at("second")).unwrap();
    let entries = [file("PG_VERSION", 3)];
    assert_eq!(desk.removed(&entries), ["PG_VERSION"]);
    let target = FolderTarget::over(desk.survey(&entries).unwrap()).unwrap();
    put(&target, &entries[0], b"17\n");
    assert_eq!(std::fs::read_to_string(desk.at("second")).unwrap(), "16\n");
}
