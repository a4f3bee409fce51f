//! A source that sends its files: what comes in pieces is stored as what is read, and is a parent for it, and the other way
//! round.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;

use strongroom_engine::EngineError;
use strongroom_model::point::Summary;
use strongroom_model::{Cancelled, Cx};
use strongroom_ops::OpsError;
use strongroom_ops::backup::{BackupRequest, backup};
use strongroom_sim::engine::{DAMAGED, Files};
use strongroom_sim::{SimStore, ToyEngine, world as surroundings, world_at};
use strongroom_vault::Vault;
use world::{create, keys, open, request, restore};

const PAGE: usize = 8192;
const HOUR: u64 = 3600;

async fn vault(seed: u64) -> Arc<Vault> {
    let (cx, keys) = (surroundings(seed), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    open(&store, &keys).await.unwrap()
}

/// What the world has, and a file of several batches, with a short page at its end.
fn files(seed: u8) -> Files {
    let chance = surroundings(u64::from(seed) + 100);
    let mut files = world::files(seed);
    let noise: Vec<u8> = (0..700 * PAGE / 32).flat_map(|_| chance.random::<32>()).collect();
    files.insert("noise".into(), [noise, vec![1; 77]].concat());
    files
}

async fn take(vault: &Arc<Vault>, engine: &ToyEngine, hours: u64) -> (Cx, Result<Summary, OpsError>) {
    let cx = world_at(hours + 1, hours * HOUR);
    world::ship(&cx, vault, engine).await.unwrap();
    let point = backup(&cx, vault, engine, &BackupRequest { workers: 3, ..request() }).await;
    (cx, point)
}

fn sending(engine: &ToyEngine, piece: usize) -> ToyEngine {
    ToyEngine { sends: Some(piece), ..engine.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_in_any_pieces_is_restored_as_it_was() {
    for piece in [511, 8192, 100_000, usize::MAX] {
        let vault = vault(piece as u64).await;
        let toy = sending(&ToyEngine::new(42, files(1)), piece);
        let (cx, point) = take(&vault, &toy, 0).await;
        let point = point.unwrap();
        let reading = point.reading.clone().unwrap();
        assert_eq!((reading.streamed.as_deref(), reading.read), (Some("by the toy itself"), point.bytes - 4));
        assert_eq!(restore(&cx, &vault, &point).await.unwrap(), toy.expected(), "pieces of {piece}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn points_of_both_ways_share_what_did_not_change() {
    let vault = vault(2).await;
    let mut toy = ToyEngine::new(42, files(2));
    let (_, first) = take(&vault, &toy, 0).await;
    let whole = first.unwrap().stored;
    for (hours, is_sent) in [(1, true), (2, true), (3, false), (4, true)] {
        toy.files.get_mut("noise").unwrap()[hours as usize * 130 * PAGE] ^= 0xff;
        toy.files.insert(format!("new{hours}"), vec![hours as u8; 300]);
        let engine = if is_sent { sending(&toy, 50_000) } else { toy.clone() };
        let (cx, point) = take(&vault, &engine, hours).await;
        let point = point.unwrap();
        assert!(point.stored < whole / 20, "{hours}: {} of {whole} stored again", point.stored);
        assert!(point.parent.is_some());
        assert_eq!(restore(&cx, &vault, &point).await.unwrap(), engine.expected(), "{hours}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_at_any_piece_leaves_no_point() {
    let vault = vault(3).await;
    let toy = sending(&ToyEngine::new(42, files(3)), 1 << 20);
    for pieces in (0..30).step_by(3) {
        let broken = ToyEngine { breaks_after: Some(pieces), ..toy.clone() };
        let (_, failed) = take(&vault, &broken, pieces as u64).await;
        let error = failed.unwrap_err();
        assert!(matches!(&error, OpsError::Engine(EngineError::Unreachable { .. })), "{pieces}: {error:?}");
    }
    assert!(vault.points(&world::source()).await.unwrap().iter().all(|row| row.restorable().is_none()));
    let (cx, point) = take(&vault, &toy, 100).await;
    assert_eq!(restore(&cx, &vault, &point.unwrap()).await.unwrap(), toy.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_counted_and_stored_as_they_came() {
    let vault = vault(4).await;
    let mut toy = sending(&ToyEngine::new(42, files(4)), 3000);
    let noise = toy.files.get_mut("noise").unwrap();
    for page in [0, 300, 699] {
        noise[page * PAGE..page * PAGE + DAMAGED.len()].copy_from_slice(DAMAGED);
    }
    let (cx, point) = take(&vault, &toy, 0).await;
    let point = point.unwrap();
    assert_eq!(point.damaged_pages, 3);
    assert_eq!(restore(&cx, &vault, &point).await.unwrap(), toy.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_stop_is_heard() {
    let vault = vault(5).await;
    let toy = sending(&ToyEngine::new(42, files(5)), 8192);
    let cx = world_at(1, HOUR);
    world::ship(&cx, &vault, &toy).await.unwrap();
    cx.cancel();
    let stopped = backup(&cx, &vault, &toy, &request()).await.unwrap_err();
    assert!(
        matches!(stopped, OpsError::Cancelled(Cancelled)) || format!("{stopped:?}").contains("Cancelled"),
        "{stopped:?}"
    );
}
