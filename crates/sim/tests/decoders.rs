//! Every decoder meets damaged objects of a real vault, and drawn bytes. The fuzz targets in `fuzz/` run the same functions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;

use strongroom_sim::decoders::ALL;
use strongroom_sim::{SimStore, world as surroundings};
use strongroom_vault::{Suite, Vault};
use world::{take, toy};

/// Objects of a small vault, and what a sealed object's inside looks like.
async fn seeds() -> Vec<Vec<u8>> {
    let cx = surroundings(1);
    let store = Arc::new(SimStore::default());
    let vault = Arc::new(Vault::create(&cx, store.clone(), Suite::Plain, &[], "test").await.unwrap());
    let mut engine = toy();
    engine.files.retain(|path, _| path.len() < 6);
    take(&cx, &vault, &engine).await.unwrap();
    let mut seeds: Vec<Vec<u8>> = store.objects().into_values().map(|object| object.to_vec()).collect();
    seeds.extend(store.objects().into_keys().map(|key| key.as_str().as_bytes().to_vec()));
    seeds.push(b"P\x00\x00FFE\x00\x00".to_vec());
    seeds.push(b"E\x00\x00".to_vec());
    seeds.push(vec![
        1, 1, 40, 40, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1, 0, 0, 1, 200, 1, 1, 2, 3, 4, 5,
        6, 7, 8,
    ]);
    seeds
}

#[tokio::test(flavor = "multi_thread")]
async fn no_decoder_panics_on_damaged_or_drawn_bytes() {
    let seeds = seeds().await;
    let cx = surroundings(2);
    for (name, decode) in ALL {
        for seed in &seeds {
            decode(seed);
            for round in 0..300usize {
                let [kind, value, rest @ ..] = cx.random::<8>();
                let mut data = seed.clone();
                let at = usize::from_le_bytes([rest[0], rest[1], rest[2], 0, 0, 0, 0, 0]) % data.len().max(1);
                match kind % 5 {
                    0 => data.truncate(at),
                    1 => data[at] = value,
                    2 => data[at] ^= 1 << (value % 8),
                    // A length that says much more than there is.
                    3 => data.splice(at..at, [0xff; 9]).for_each(drop),
                    _ => data.splice(at.., cx.random::<32>()).for_each(drop),
                }
                let shown = (name, round, data.len());
                let caught = std::panic::catch_unwind(|| decode(&data));
                assert!(caught.is_ok(), "{shown:?}: {data:02x?}");
            }
        }
    }
}
