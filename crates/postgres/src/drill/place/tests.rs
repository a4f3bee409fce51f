//! What goes and what stays.

use std::sync::Arc;

use strongroom_model::{Clock, Entropy};

use super::*;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000).unwrap()
    }
}

/// Another number each time.
struct Counting(std::sync::atomic::AtomicU32);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        let next = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_le_bytes();
        out.iter_mut().zip(next.iter().cycle()).for_each(|(out, byte)| *out = *byte);
    }
}

fn cx() -> Cx {
    Cx::new(Arc::new(Fixed), Arc::new(Counting(std::sync::atomic::AtomicU32::new(1))))
}

fn source() -> SourceName {
    "orders".parse().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A place with something in it, whose drill died.
fn left(cx: &Cx, scratch: &Path) -> PathBuf {
    let place = DrillPlace::make(cx, scratch, &source()).unwrap();
    place.make_folder("data", None).unwrap();
    std::fs::write(place.join("data/PG_VERSION"), "15\n").unwrap();
    // The lock goes with the value, as it does with the process; the folder stays.
    place.folder.clone()
}

#[test]
fn what_a_dead_drill_left_goes_and_what_lives_or_is_kept_stays() {
    let (cx, scratch) = (cx(), tempfile::tempdir().unwrap());
    let dead = left(&cx, scratch.path());
    let alive = DrillPlace::make(&cx, scratch.path(), &source()).unwrap();
    let kept = DrillPlace::make(&cx, scratch.path(), &source()).unwrap().keep().unwrap();
    assert_eq!(
        remove_leftovers(scratch.path()),
        [std::fs::canonicalize(scratch.path()).unwrap().join(dead.file_name().unwrap())]
    );
    assert!(!dead.exists() && alive.folder().exists() && kept.exists());
    assert_eq!(remove_leftovers(scratch.path()), [] as [PathBuf; 0]);
    alive.remove().unwrap();
    assert_eq!(names(scratch.path()), [kept.file_name().unwrap().to_string_lossy()]);
}

#[test]
fn what_does_not_prove_to_be_a_drill_s_is_not_touched() {
    let (cx, scratch) = (cx(), tempfile::tempdir().unwrap());
    let folder = |name: &str| {
        let path = scratch.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    // No mark, a mark that does not read, and a mark that was moved elsewhere with all that is beside it.
    std::fs::write(folder("strongroom-drill-00000000").join("orders.csv"), "precious").unwrap();
    std::fs::write(folder("strongroom-drill-11111111").join(MARK), "{}").unwrap();
    let moved = left(&cx, scratch.path());
    std::fs::rename(&moved, scratch.path().join("strongroom-drill-22222222")).unwrap();
    let named = left(&cx, scratch.path());
    std::fs::rename(&named, scratch.path().join("orders")).unwrap();
    // A link to a dead drill's folder is none itself.
    let elsewhere = tempfile::tempdir().unwrap();
    let dead = left(&cx, elsewhere.path());
    let link = scratch.path().join(dead.file_name().unwrap());
    std::os::unix::fs::symlink(&dead, &link).unwrap();
    let before = names(scratch.path());
    assert_eq!(remove_leftovers(scratch.path()), [] as [PathBuf; 0]);
    assert_eq!(names(scratch.path()), before);
    assert!(dead.join("data/PG_VERSION").exists());
    assert_eq!(remove_leftovers(&scratch.path().join("none")), [] as [PathBuf; 0]);
}

#[test]
fn a_removal_that_was_cut_short_is_gone_on_with() {
    let (cx, scratch) = (cx(), tempfile::tempdir().unwrap());
    let dead = left(&cx, scratch.path());
    std::fs::remove_dir_all(dead.join("data")).unwrap();
    assert_eq!(remove_leftovers(scratch.path()).len(), 1);
    assert_eq!(names(scratch.path()), [] as [String; 0]);
}

#[test]
fn links_in_it_are_not_followed_when_it_goes() {
    let (cx, scratch, precious) = (cx(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(precious.path().join("orders"), "1").unwrap();
    let place = DrillPlace::make(&cx, scratch.path(), &source()).unwrap();
    std::os::unix::fs::symlink(precious.path(), place.join("pg_wal")).unwrap();
    place.remove().unwrap();
    assert_eq!((names(precious.path()), names(scratch.path()).len()), (vec!["orders".to_owned()], 0));
}

#[test]
fn a_path_too_long_for_a_socket_is_refused_before_anything_is_made() {
    let (cx, scratch) = (cx(), tempfile::tempdir().unwrap());
    let deep = scratch.path().join("d".repeat(100));
    let error = DrillPlace::make(&cx, &deep, &source()).unwrap_err();
    assert!(error.to_string().contains("no socket can have a path that long"), "{error}");
    assert_eq!(names(&deep), [] as [String; 0]);
}
