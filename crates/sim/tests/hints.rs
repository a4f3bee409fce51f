//! A source that keeps a record of what changed: what it does not name is not read, and what it conceals is found.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use strongroom_model::Cx;
use strongroom_model::point::{Reading, Summary};
use strongroom_ops::backup::{BackupRequest, Trust, backup};
use strongroom_sim::engine::Files;
use strongroom_sim::{SimStore, ToyEngine, world as surroundings, world_at};
use strongroom_store::Store;
use strongroom_vault::Vault;
use strongroom_vault::upload::UploadOptions;
use world::{create, keys, open, request, restore};

const PAGE: usize = 8192;
const HOUR: u64 = 3600;
const DAY: Duration = Duration::from_secs(24 * HOUR);

async fn vault(seed: u64) -> (Arc<Vault>, Arc<SimStore>) {
    let (cx, keys) = (surroundings(seed), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    (open(&store, &keys).await.unwrap(), store)
}

/// Files of 100 pages that no compression makes shorter, one that is zeros in part, and a short one.
fn files(count: usize) -> Files {
    let chance = surroundings(99);
    let noise =
        |pages: usize| -> Vec<u8> { (0..pages * PAGE / 32).flat_map(|_| chance.random::<32>()).collect() };
    let mut files: Files = (0..count).map(|n| (format!("file{n:03}"), noise(100))).collect();
    let mut hole = noise(60);
    hole[10 * PAGE..40 * PAGE].fill(0);
    files.insert("hole".into(), hole);
    files.insert("short".into(), vec![7; 17]);
    files
}

fn change(files: &mut Files, path: &str, page: usize) {
    files.get_mut(path).unwrap()[page * PAGE + 5] ^= 0xff;
}

fn reading(point: &Summary) -> Reading {
    point.reading.clone().unwrap()
}

/// A point of the source as it is that many hours later.
async fn take_at(vault: &Arc<Vault>, engine: &ToyEngine, hours: u64, trust: Trust) -> (Cx, Summary) {
    let cx = world_at(hours + 1, hours * HOUR);
    world::ship(&cx, vault, engine).await.unwrap();
    let point = backup(&cx, vault, engine, &BackupRequest { trust, ..request() }).await.unwrap();
    (cx, point)
}

/// So long that next to nothing is due to be proven.
const SELDOM: Trust = Trust::ProvenWithin(Duration::from_secs(1 << 40));

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_change_is_not_read_and_restores_all_the_same() {
    let (vault, _) = vault(1).await;
    let first = ToyEngine::new(42, files(3));
    let (_, point) = take_at(&vault, &first, 0, SELDOM).await;
    assert_eq!(reading(&point).no_record.as_deref(), Some("there is no earlier point to compare with"));
    assert_eq!(reading(&point).read, point.bytes - 4);

    let mut files = first.files.clone();
    for (path, page) in [("file000", 0), ("file000", 50), ("file000", 99), ("hole", 20), ("hole", 59)] {
        change(&mut files, path, page);
    }
    files.get_mut("file002").unwrap().extend(vec![3; 2 * PAGE + 9]);
    files.insert("new".into(), vec![4; 3 * PAGE]);
    let second = first.later(files);
    let (cx, point) = take_at(&vault, &second, 1, SELDOM).await;
    let of = reading(&point);
    // One page each, but for what grew and what is new; short files are read whole.
    let expected = 5 * PAGE + (2 * PAGE + 9) + 3 * PAGE + 17;
    assert_eq!((of.read, of.contradicted, of.no_record.clone()), (expected as u64, 0, None));
    assert_eq!(of.read + of.adopted, point.bytes - 4);
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), second.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_close_to_a_change_is_read_over_and_what_changed_throughout_is_read_whole() {
    let (vault, _) = vault(2).await;
    let first = ToyEngine::new(42, files(2));
    take_at(&vault, &first, 0, SELDOM).await;
    let mut files = first.files.clone();
    [10, 20, 60].into_iter().for_each(|page| change(&mut files, "file000", page));
    (0..95).for_each(|page| change(&mut files, "file001", page));
    let second = first.later(files);
    let (cx, point) = take_at(&vault, &second, 1, SELDOM).await;
    let of = reading(&point);
    // Pages 10 to 20 in one, and 60; the nine between are compared in passing.
    assert_eq!((of.read, of.proven), (((11 + 1 + 100) * PAGE + 17) as u64, 9 * PAGE as u64));
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), second.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_conceals_a_change_is_found_out_within_the_period() {
    let (vault, _) = vault(3).await;
    let mut engine = ToyEngine::new(42, files(20));
    take_at(&vault, &engine, 0, SELDOM).await;
    let week = Trust::ProvenWithin(7 * DAY);
    let mut files = engine.files.clone();
    change(&mut files, "file007", 33);
    engine = engine.later(files);
    engine.unrecorded.push(("file007".into(), 33));
    let (mut stale, mut found) = (0, None);
    for day in 1..=8 {
        let (cx, point) = take_at(&vault, &engine, day * 24, week).await;
        let of = reading(&point);
        let restored = restore(&cx, &vault, &point).await.unwrap();
        match of.contradicted {
            // The toy lies well: until the page is due nobody can know.
            0 => stale += usize::from(restored != engine.expected()),
            _ => {
                // Everything was read, and what had been taken over before the lie was found as well.
                assert_eq!((of.contradicted, of.adopted, of.read), (1, 0, point.bytes - 4));
                assert_eq!(restored, engine.expected());
                found = Some(day);
                break;
            }
        }
        // What the record names from now on is nothing: it was all said before.
        engine = ToyEngine { before: Some(engine.files.clone()), ..engine };
    }
    let found = found.expect("the lie was found");
    assert_eq!(stale as u64, found - 1);
    // The next one does not believe a record that was wrong.
    let (_, point) = take_at(&vault, &engine, (found + 1) * 24, week).await;
    let of = reading(&point);
    assert!(of.no_record.unwrap().contains("was found wrong"));
    assert_eq!((of.adopted, of.read), (0, point.bytes - 4));
    let (_, point) = take_at(&vault, &engine, (found + 1) * 24 + 1, week).await;
    assert!(reading(&point).adopted > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_found_late_in_a_copy_undoes_what_was_taken_over_before() {
    let (vault, _) = vault(4).await;
    let first = ToyEngine::new(42, files(20));
    take_at(&vault, &first, 0, SELDOM).await;
    let mut files = first.files.clone();
    // Both are concealed, and the first is taken over: only the last, between two that are named, is read.
    for (path, page) in [("file001", 5), ("file019", 50), ("file019", 51), ("file019", 52)] {
        change(&mut files, path, page);
    }
    let mut second = first.later(files);
    second.unrecorded = vec![("file001".into(), 5), ("file019".into(), 51)];
    let (cx, point) = take_at(&vault, &second, 1, SELDOM).await;
    assert_eq!((reading(&point).contradicted, reading(&point).adopted), (2, 0));
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), second.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backup_reads_everything_and_stores_what_changed() {
    let (vault, store) = vault(5).await;
    let first = ToyEngine::new(42, files(3));
    take_at(&vault, &first, 0, SELDOM).await;
    let mut files = first.files.clone();
    change(&mut files, "file001", 5);
    let second = first.later(files);
    let (cx, point) = take_at(&vault, &second, 1, Trust::Checked).await;
    let of = reading(&point);
    assert_eq!((of.read, of.adopted), (point.bytes - 4, 0));
    assert_eq!(of.proven, ((3 * 100 + 60 - 1) * PAGE) as u64);
    let folder = format!("sources/{}/points/{}/packs", point.source, point.point);
    let packs = store.list(&folder, None).await.unwrap().objects;
    assert!(packs.iter().map(|pack| pack.size).sum::<u64>() < 3 * PAGE as u64);
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), second.expected());
    let (_, point) = take_at(&vault, &second, 2, Trust::Nothing).await;
    assert_eq!((reading(&point).adopted, reading(&point).proven), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_too_old_is_not_taken_over() {
    let unchanged = |first: &ToyEngine| first.later(first.files.clone());
    for lost in [true, false] {
        let (vault, store) = vault(6).await;
        let first = ToyEngine::new(42, files(3));
        let (_, point) = take_at(&vault, &first, 0, SELDOM).await;
        if lost {
            let folder = format!("sources/{}/points/{}/packs", point.source, point.point);
            for pack in store.list(&folder, None).await.unwrap().objects {
                store.delete(&pack.key).await.unwrap();
            }
        }
        let cx = world_at(7, HOUR);
        let rebase_after = if lost { DAY } else { Duration::ZERO };
        let upload = UploadOptions { rebase_after, ..request().upload };
        let again = BackupRequest { upload, trust: SELDOM, ..request() };
        let point = backup(&cx, &vault, &unchanged(&first), &again).await.unwrap();
        assert_eq!((reading(&point).adopted, reading(&point).read), (0, point.bytes - 4), "{lost}");
        assert_eq!(restore(&cx, &vault, &point).await.unwrap(), first.expected(), "{lost}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_and_go_grow_and_shrink_beside_a_record() {
    let (vault, _) = vault(8).await;
    let first = ToyEngine::new(42, files(4));
    take_at(&vault, &first, 0, SELDOM).await;
    let mut files = first.files.clone();
    files.remove("file000");
    files.get_mut("file001").unwrap().truncate(50 * PAGE);
    files.get_mut("file002").unwrap().truncate(50 * PAGE + 100);
    files.get_mut("short").unwrap().extend(vec![9; 2 * PAGE]);
    files.get_mut("hole").unwrap().extend(vec![0; 30 * PAGE + 1]);
    let mut second = first.later(files);
    second.vanishing = vec!["short".into()];
    second.shrinking.insert("hole".into(), 80 * PAGE);
    let (cx, point) = take_at(&vault, &second, 1, SELDOM).await;
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), second.expected());
    assert_eq!(reading(&point).adopted, (60 + 100) * PAGE as u64);
    // What shrank is taken over from a point that has it short.
    let third = second.later(first.files.clone());
    let third = ToyEngine { vanishing: Vec::new(), shrinking: Default::default(), ..third };
    let (cx, point) = take_at(&vault, &third, 2, SELDOM).await;
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), third.expected());
    let (cx, point) = take_at(&vault, &third, 3, SELDOM).await;
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), third.expected());
}

/// Draws what becomes of the files until the next point.
fn draw(chance: &Cx, files: &mut Files) {
    let below = |limit: usize| u64::from_le_bytes(chance.random()) as usize % limit.max(1);
    for _ in 0..1 + below(6) {
        let path = format!("file{:03}", below(6));
        let file = files.entry(path.clone()).or_default();
        let page = below(file.len() / PAGE + 1) * PAGE;
        match below(7) {
            0 => file.truncate(below(file.len() + 1)),
            1 => file.extend(chance.random::<32>().repeat(below(20 * PAGE) / 32)),
            2 => file.extend(vec![0; below(20 * PAGE)]),
            3 => drop(files.remove(&path)),
            4 => file.iter_mut().skip(page).take(PAGE).for_each(|byte| *byte = 0),
            5 => file.iter_mut().skip(page).take(below(40) * PAGE).for_each(|byte| *byte ^= 0x5a),
            _ => file.iter_mut().skip(page).take(1).for_each(|byte| *byte = byte.wrapping_add(1)),
        }
    }
}

/// Whether these are the source's files. Of one that shrank while it was copied, what lies behind its new end is the journal's
/// business: it may be there as it was, or be zeros, or be cut off.
fn is_as_copied(mut restored: Files, engine: &ToyEngine) -> bool {
    let mut expected = engine.expected();
    for path in engine.shrinking.keys() {
        let (Some(found), Some(shrunk)) = (restored.remove(path), expected.remove(path)) else { continue };
        let was = &engine.files[path];
        let behind = shrunk.len()..found.len();
        let fits = found.starts_with(&shrunk)
            && behind.clone().all(|at| found[at] == 0 || was.get(at) == Some(&found[at]));
        if !fits {
            return false;
        }
    }
    restored == expected
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_of_points_with_a_truthful_record_restore_as_the_source_was() {
    let mut adopted = 0;
    for seed in 0..30 {
        let ((vault, _), chance) = (vault(100 + seed).await, surroundings(200 + seed));
        let mut engine = ToyEngine::new(42, files(6));
        for hour in 0..12 {
            let [often, odd, shrinks] = chance.random::<3>();
            let trust = if often < 64 { Trust::ProvenWithin(DAY) } else { SELDOM };
            if shrinks < 64 {
                let path = format!("file{:03}", odd % 6);
                let size = engine.files.get(&path).map_or(0, |file| file.len() * usize::from(odd) / 256);
                engine.shrinking.insert(path, size);
            }
            let (cx, point) = take_at(&vault, &engine, hour, trust).await;
            adopted += reading(&point).adopted;
            assert_eq!(reading(&point).contradicted, 0, "seed {seed}, point {hour}");
            let restored = restore(&cx, &vault, &point).await.unwrap();
            assert!(is_as_copied(restored, &engine), "seed {seed}, point {hour}");
            engine.shrinking.clear();
            let mut files = engine.files.clone();
            draw(&chance, &mut files);
            engine = engine.later(files);
        }
    }
    assert!(adopted > 100 << 20, "{adopted} bytes were taken over in all");
}
