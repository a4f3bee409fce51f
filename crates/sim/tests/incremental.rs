//! A chain of points: each stores what changed and restores on its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use strongroom_model::Cx;
use strongroom_model::page::Place;
use strongroom_model::point::Summary;
use strongroom_ops::backup::{BackupRequest, backup};
use strongroom_sim::engine::Files;
use strongroom_sim::{SimStore, ToyEngine, world as surroundings, world_at};
use strongroom_store::Store;
use strongroom_vault::point::stored_bytes;
use strongroom_vault::upload::{PACK_TARGET, REBASE_AFTER, UploadOptions, memory_ceiling};
use strongroom_vault::{Vault, VaultError};
use world::{create, keys, open, request, restore, take, toy};

const PAGE: usize = 8192;

async fn vault(seed: u64) -> (Cx, Arc<Vault>, Arc<SimStore>) {
    let (cx, keys) = (surroundings(seed), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    (cx, open(&store, &keys).await.unwrap(), store)
}

/// Pages that no compression makes shorter.
fn noise(pages: usize) -> Vec<u8> {
    let chance = surroundings(99);
    (0..pages * PAGE / 32).flat_map(|_| chance.random::<32>()).collect()
}

/// The toy after its `n`th change: one page of `big` differs each time. What is stored twice of `noise` no compression hides.
fn changed(n: usize) -> ToyEngine {
    let mut engine = toy();
    engine.files.insert("noise".into(), noise(40));
    for change in 0..n {
        let big = engine.files.get_mut("big").unwrap();
        big[(change % 40) * PAGE + 5] = 200 + (change / 40) as u8;
    }
    engine
}

async fn packs_of(store: &SimStore, point: &Summary) -> Vec<strongroom_store::Head> {
    let folder = format!("sources/{}/points/{}/packs", point.source, point.point);
    store.list(&folder, None).await.unwrap().objects
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_stores_what_changed_and_restores_on_its_own() {
    let (cx, vault, store) = vault(1).await;
    let mut points = Vec::new();
    for n in 0..6 {
        points.push(take(&cx, &vault, &changed(n)).await.unwrap());
    }
    assert_eq!(points[0].parent, None);
    for (n, point) in points.iter().enumerate() {
        assert_eq!(restore(&cx, &vault, point).await.unwrap(), changed(n).expected(), "point {n}");
        if n > 0 {
            assert_eq!(point.parent.as_ref(), Some(&points[n - 1].point));
            let bytes: u64 = packs_of(&store, point).await.iter().map(|pack| pack.size).sum();
            assert!(bytes < 3 * PAGE as u64, "point {n} changed one page and packed {bytes} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_source_packs_only_what_is_written_at_the_end() {
    let (cx, vault, store) = vault(2).await;
    take(&cx, &vault, &toy()).await.unwrap();
    let second = take(&cx, &vault, &toy()).await.unwrap();
    assert!(packs_of(&store, &second).await.iter().map(|pack| pack.size).sum::<u64>() < 4096);
    assert_eq!(restore(&cx, &vault, &second).await.unwrap(), toy().expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretch_that_many_points_wrote_is_stored_afresh() {
    let (cx, vault, _) = vault(3).await;
    let (mut most, mut engine) = (0, toy());
    for n in 0..100 {
        // All pages from one on: of a frame of 16 the next points need less and less.
        let big = engine.files.get_mut("big").unwrap();
        (n % 40..40).for_each(|page| big[page * PAGE + 5] = big[page * PAGE + 5].wrapping_add(1));
        let point = take(&cx, &vault, &engine).await.unwrap();
        let opened = vault.open_point(&point.source, &point.point).await.unwrap();
        most = most.max(opened.packs().all().len());
        if n % 20 == 19 {
            assert_eq!(restore(&cx, &vault, &point).await.unwrap(), engine.expected(), "point {n}");
        }
    }
    // When the 40 pages lie in frames of more than 80 pages together, they are packed afresh.
    assert!((4..12).contains(&most), "a point refers to {most} packs");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_packs_are_not_referred_to() {
    let (cx, vault, _) = vault(4).await;
    let first = take(&cx, &vault, &toy()).await.unwrap();
    let upload = UploadOptions { rebase_after: Duration::ZERO, ..request().upload };
    let second = backup(&cx, &vault, &toy(), &BackupRequest { upload, ..request() }).await.unwrap();
    let opened = vault.open_point(&second.source, &second.point).await.unwrap();
    assert!(opened.packs().all().iter().all(|pack| pack.owner != first.point));
    assert_eq!(restore(&cx, &vault, &second).await.unwrap(), toy().expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_taken_afresh_shares_nothing() {
    let (cx, vault, _) = vault(5).await;
    take(&cx, &vault, &toy()).await.unwrap();
    let request = BackupRequest { afresh: true, ..request() };
    let second = backup(&cx, &vault, &toy(), &request).await.unwrap();
    assert_eq!(second.parent, None);
    let opened = vault.open_point(&second.source, &second.point).await.unwrap();
    assert!(opened.packs().all().iter().all(|pack| pack.owner == second.point));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_several_workers_read_is_taken_over_wherever_it_is_the_same() {
    let (cx, vault, store) = vault(8).await;
    let mut engine = changed(0);
    // A worker reads 128 MiB of a file at most; zeros between its ends are not stored. Where the second begins, a run goes on.
    let mut long = engine.files["noise"].clone();
    long.resize((128 << 20) - 4 * PAGE, 0);
    long.extend_from_within(..20 * PAGE);
    engine.files.insert("long".into(), long);
    take(&cx, &vault, &engine).await.unwrap();
    *engine.files.get_mut("long").unwrap().last_mut().unwrap() ^= 1;
    let second = take(&cx, &vault, &engine).await.unwrap();
    let bytes: u64 = packs_of(&store, &second).await.iter().map(|pack| pack.size).sum();
    assert!(bytes < 3 * PAGE as u64, "one page changed and {bytes} bytes were packed");
    assert!(restore(&cx, &vault, &second).await.unwrap() == engine.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_and_go_grow_and_shrink_between_points() {
    let (cx, vault, _) = vault(6).await;
    take(&cx, &vault, &toy()).await.unwrap();
    let mut engine = toy();
    engine.files.remove("hole");
    engine.files.get_mut("big").unwrap().truncate(7 * PAGE + 100);
    engine.files.get_mut("short").unwrap().extend(vec![9; 2 * PAGE]);
    engine.files.insert("new".into(), vec![3; 5 * PAGE]);
    engine.files.get_mut("zeros").unwrap()[PAGE] = 1;
    engine.files.get_mut("small07").unwrap().clear();
    let second = take(&cx, &vault, &engine).await.unwrap();
    assert_eq!(restore(&cx, &vault, &second).await.unwrap(), engine.expected());
    let third = take(&cx, &vault, &toy()).await.unwrap();
    assert_eq!(restore(&cx, &vault, &third).await.unwrap(), toy().expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_parent_lost_is_stored_again() {
    for lost in ["packs", "manifest"] {
        let (cx, vault, store) = vault(7).await;
        let first = take(&cx, &vault, &toy()).await.unwrap();
        let folder = format!("sources/{}/points/{}/{lost}", first.source, first.point);
        let objects = match lost {
            "packs" => store.list(&folder, None).await.unwrap().objects,
            _ => vec![store.head(&strongroom_store::Key::new(folder).unwrap()).await.unwrap()],
        };
        for object in objects {
            store.delete(&object.key).await.unwrap();
        }
        let second = take(&cx, &vault, &toy()).await.unwrap();
        assert_eq!(restore(&cx, &vault, &second).await.unwrap(), toy().expected(), "{lost}");
    }
}

/// How many files refer to the first point's pages in a second one that many hours later.
async fn files_that_refer(rebase_after: Duration, hours: u64) -> usize {
    let (cx, vault, _) = vault(9).await;
    let first = take(&cx, &vault, &toy()).await.unwrap();
    let later = world_at(10, hours * 3600);
    let upload = UploadOptions { rebase_after, ..request().upload };
    let second = backup(&later, &vault, &toy(), &BackupRequest { upload, ..request() }).await.unwrap();
    let opened = vault.open_point(&second.source, &second.point).await.unwrap();
    let mut files = 0;
    let is_first = |place: Place| match place {
        Place::Pack { pack, .. } => opened.packs().all()[pack as usize].owner == first.point,
        Place::Zero => false,
    };
    let each = opened.rows(|row| {
        files += usize::from(row.map.iter().any(|run| is_first(run.place)));
        Ok::<(), VaultError>(())
    });
    each.unwrap();
    assert_eq!(restore(&later, &vault, &second).await.unwrap(), toy().expected());
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_come_due_one_by_one_in_the_last_quarter_of_their_time() {
    let stored = toy().files.values().filter(|file| file.iter().any(|byte| *byte != 0)).count();
    let limit = Duration::from_secs(1000 * 3600);
    assert_eq!((files_that_refer(limit, 740).await, files_that_refer(limit, 1010).await), (stored, 0));
    let some = files_that_refer(limit, 880).await;
    assert!((1..stored).contains(&some), "{some} of {stored} files");
    // A month, unless the user says otherwise.
    assert_eq!(files_that_refer(REBASE_AFTER, 22 * 24).await, stored);
    assert_eq!(files_that_refer(REBASE_AFTER, 30 * 24 + 1).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_of_many_bytes_lies_in_packs_of_bounded_size() {
    let (cx, vault, store) = vault(10).await;
    take(&cx, &vault, &toy()).await.unwrap();
    let mut engine = toy();
    engine.files.insert("noise".into(), noise(5 * 1024));
    let room = memory_ceiling(1, 0);
    assert!(room < 2 * PACK_TARGET as u64 && memory_ceiling(3, 2) == 5 * room);
    // The last is of what is written at the end; one without pages is of the worker that met only zeros.
    for expected in [3, 2] {
        let point = take(&cx, &vault, &engine).await.unwrap();
        let sizes: Vec<u64> = packs_of(&store, &point).await.iter().map(|pack| pack.size).collect();
        assert_eq!(sizes.len(), expected, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= room), "{sizes:?}");
        assert!(restore(&cx, &vault, &point).await.unwrap() == engine.expected());
        // What is in several packs of the parent is taken over from each.
        assert!(expected == 3 || sizes.iter().sum::<u64>() < 3 * PAGE as u64, "{sizes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_has_to_hold_of_a_file_is_its_pages_that_are_not_zero() {
    let (cx, vault, _) = vault(12).await;
    let point = take(&cx, &vault, &toy()).await.unwrap();
    let opened = vault.open_point(&point.source, &point.point).await.unwrap();
    let mut stored = std::collections::BTreeMap::new();
    let each = opened.rows(|row| {
        stored.insert(String::from_utf8_lossy(row.entry.path.as_bytes()).into_owned(), stored_bytes(&row));
        Ok::<(), VaultError>(())
    });
    each.unwrap();
    for (file, pages) in [("big", 40), ("hole", 3), ("zeros", 0), ("empty", 0), ("short", 1)] {
        assert_eq!(stored[file], pages * PAGE as u64, "{file}");
    }
}

/// How often a restore asks for parts of the first point's pack.
async fn reads_of_first(files: [&[u8]; 2]) -> usize {
    let (cx, vault, store) = vault(11).await;
    let engines = files.map(|file| ToyEngine::new(42, Files::from([("only".into(), file.to_vec())])));
    let first = take(&cx, &vault, &engines[0]).await.unwrap();
    let second = take(&cx, &vault, &engines[1]).await.unwrap();
    let pack = format!(" Read {}", packs_of(&store, &first).await[0].key);
    store.heal();
    assert!(restore(&cx, &vault, &second).await.unwrap() == engines[1].expected());
    store.log().iter().filter(|line| line.ends_with(&pack)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_asks_for_neighbours_at_once_and_for_nothing_far_from_what_it_wants() {
    const FRAME: usize = 16 * PAGE;
    // The footer, and 10 MiB in parts of 2 MiB at most, none of which ends within a frame.
    let whole = noise(80 * 16);
    assert_eq!(reads_of_first([&whole, &whole]).await, 1 + 6);
    // Of four frames the second is another's now: it is passed over where it is long, and read where it is not.
    let four = &whole[..4 * FRAME];
    let mut short = four.to_vec();
    short[FRAME..2 * FRAME].fill(1);
    let mut changed = four.to_vec();
    changed[FRAME..2 * FRAME].fill(2);
    assert_eq!(reads_of_first([four, &changed]).await, 1 + 2);
    assert_eq!(reads_of_first([&short, &changed]).await, 1 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_later_points_changed_are_given_where_they_belong() {
    let (cx, vault, _) = vault(17).await;
    let mut newest = take(&cx, &vault, &changed(0)).await.unwrap();
    for n in 1..=3 {
        newest = take(&cx, &vault, &changed(5 * n)).await.unwrap();
    }
    let point = vault.open_point(&newest.source, &newest.point).await.unwrap();
    let mut rows = Vec::new();
    let mut keep = |row| {
        rows.push(row);
        Ok::<_, VaultError>(())
    };
    point.rows(&mut keep).unwrap();
    let owners = point.packs().all().len();
    assert!(owners > 2, "{owners} packs: nothing is scattered");
    let given = tokio::task::spawn_blocking(move || {
        let mut given = vec![Vec::new(); rows.len()];
        let mut take = |row: usize, first: u32, bytes: &[u8]| {
            given[row].extend(first..first + bytes.len().div_ceil(PAGE) as u32);
            Ok::<_, VaultError>(())
        };
        let runtime = tokio::runtime::Handle::current();
        point.read_pages((&cx, &runtime), &rows, &mut take, &mut |_, _, _| false).unwrap();
        given
    });
    let given = given.await.unwrap();
    assert!(given.iter().all(|pages| pages.is_sorted()), "{given:?}");
    assert!(given.iter().any(|pages| pages.len() >= 40), "{given:?}");
}
