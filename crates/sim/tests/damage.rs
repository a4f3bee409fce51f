//! Damage × object × verb: found, named, contained.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]
#![allow(clippy::single_range_in_vec_init, reason = "lost pages are a list of ranges, mostly of one")]

mod world;

use std::sync::Arc;

use strongroom_model::{Cx, SegmentSize, SystemId, Timeline, WalFile, WalSegment};
use strongroom_ops::OpsError;
use strongroom_ops::verify::{Verdict, verify};
use strongroom_sim::engine::Files;
use strongroom_sim::{Fault, SimStore, ToyEngine, world as surroundings};
use strongroom_store::{Key, Store};
use strongroom_vault::expire::LetGo;
use strongroom_vault::hold::HoldRecord;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Suite, Unlock, Vault, VaultError};
use world::{Keys, create, keys, open, restore, source, take, toy, verification};

async fn verdict(cx: &Cx, vault: &Arc<Vault>, depth: Depth) -> Result<Verdict, OpsError> {
    verify(cx, vault, &verification(Some(source()), depth)).await
}

/// Whether a flipped bit in `key` is noticed: by opening, listing, verifying or restoring; and never restored from.
async fn noticed(cx: &Cx, store: &Arc<SimStore>, keys: &Keys, expected: &Files) -> bool {
    let Ok(vault) = open(store, keys).await else { return true };
    let Ok(points) = vault.points(&source()).await else { return true };
    let found = match verdict(cx, &vault, Depth::Data).await {
        Ok(verdict) => !verdict.sound,
        Err(_) => true,
    };
    for summary in points.iter().filter_map(|row| row.restorable()) {
        if let Ok(files) = restore(cx, &vault, summary).await {
            assert_eq!(files, *expected, "a damaged vault gave other bytes");
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn behaviour_32_any_flipped_byte_is_named_or_harmless_never_wrong_data() {
    let (cx, keys) = (surroundings(1), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    let mut engine = toy();
    engine.files.retain(|path, _| path.len() < 6);
    take(&cx, &vault, &engine).await.unwrap();
    assert!(verdict(&cx, &vault, Depth::Data).await.unwrap().sound);
    let mut flips = 0;
    for (key, object) in store.objects() {
        // Every byte of small objects, a spread of the others.
        let step = (object.len() / 60).max(1);
        for at in (0..object.len()).step_by(step) {
            let mut damaged = object.to_vec();
            damaged[at] ^= 1 << (at % 8);
            store.tamper(&key, damaged.into());
            // Plain text for people may change without harm: a date, a tool's name, whom a key copy is for.
            let harmless = key.as_str() == "vault.json" || key.as_str().starts_with("keys/");
            assert!(noticed(&cx, &store, &keys, &engine.expected()).await || harmless, "byte {at} of {key}");
            flips += 1;
        }
        store.tamper(&key, object);
    }
    assert!(flips > 300, "only {flips} flips");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_object_file_and_pages() {
    let (cx, keys) = (surroundings(2), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    let files =
        Files::from([("only".to_owned(), (0..40 * 8192u32).map(|at| (at / 8192) as u8 + 1).collect())]);
    take(&cx, &vault, &ToyEngine::new(42, files)).await.unwrap();
    let (key, pack) = store.objects().into_iter().find(|(key, _)| key.as_str().contains("/packs/")).unwrap();

    let mut damaged = pack.to_vec();
    damaged[32 + 20] ^= 1;
    store.tamper(&key, damaged.into());
    let found = verdict(&cx, &vault, Depth::Data).await.unwrap();
    let [damage] = &found.points[0].damage[..] else { panic!("{found:?}") };
    assert_eq!(damage.object, key.as_str());
    assert_eq!((damage.lost[0].path.as_str(), &damage.lost[0].pages[..]), ("only", &[0..16][..]));

    // The structure alone cannot see a flipped bit in a frame, but a pack of another size, or none, it does.
    assert!(verdict(&cx, &vault, Depth::Structure).await.unwrap().sound);
    store.tamper(&key, pack.slice(..pack.len() - 1));
    assert!(!verdict(&cx, &vault, Depth::Structure).await.unwrap().sound);
    store.delete(&key).await.unwrap();
    let found = verdict(&cx, &vault, Depth::Structure).await.unwrap();
    assert_eq!(found.points[0].damage[0].why, "it is missing");
    assert_eq!(found.points[0].damage[0].lost[0].pages, [0..40]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_foreign_vaults_have_their_own_answers() {
    let (cx, keys) = (surroundings(3), keys());
    let store = Arc::new(SimStore::default());
    assert!(matches!(open(&store, &keys).await, Err(VaultError::NotAVault { .. })));
    create(&cx, &store, &keys).await.unwrap();
    assert!(matches!(create(&cx, &store, &keys).await, Err(VaultError::AlreadyAVault { .. })));
    let passphrase = |text: &str| Unlock { passphrase: Some(text.to_owned().into()), ..Unlock::default() };
    let opened = async |unlock: &Unlock| Vault::open(store.clone() as Arc<dyn Store>, unlock).await;
    assert!(matches!(opened(&Unlock::default()).await, Err(VaultError::Locked { .. })));
    assert!(matches!(opened(&world::keys().unlock).await, Err(VaultError::WrongKey { .. })));
    assert!(matches!(opened(&passphrase("guess")).await, Err(VaultError::WrongKey { .. })));
    let vault_json = Key::new("vault.json").unwrap();
    let text = String::from_utf8(store.objects()[&vault_json].to_vec()).unwrap();
    store.tamper(&vault_json, text.replace("\"format\": 1", "\"format\": 2").into());
    assert!(matches!(open(&store, &keys).await, Err(VaultError::Newer { format: 2, .. })));
    // The key id is part of a path.
    for id in ["", "../keys", "0g"] {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["key"] = id.into();
        store.tamper(&vault_json, json.to_string().into());
        assert!(matches!(open(&store, &keys).await, Err(VaultError::VaultFile { .. })), "{id}");
    }
    store.tamper(&vault_json, "{".into());
    assert!(matches!(open(&store, &keys).await, Err(VaultError::VaultFile { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_opens_what_it_closed() {
    let cx = surroundings(4);
    let store: Arc<dyn Store> = Arc::new(SimStore::default());
    let recipient = strongroom_vault::Recipient::Passphrase("correct horse".to_owned().into());
    Vault::create(&cx, store.clone(), Suite::Aes256GcmX25519, &[recipient], "test").await.unwrap();
    let unlock = |text: &str| Unlock { passphrase: Some(text.to_owned().into()), ..Unlock::default() };
    assert!(Vault::open(store.clone(), &unlock("correct horse")).await.is_ok());
    assert!(matches!(Vault::open(store, &unlock("correct horse ")).await, Err(VaultError::WrongKey { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_says_nothing_of_what_is_there() {
    let (cx, keys) = (surroundings(5), keys());
    let store = Arc::new(SimStore::default());
    let silent = || store.fail_at(0, Fault::Before);
    let is_silent = |error: &VaultError| matches!(error, VaultError::Store(why) if why.is_passing());
    silent();
    assert!(create(&cx, &store, &keys).await.is_err_and(|error| is_silent(&error)));
    assert!(store.objects().is_empty());
    create(&cx, &store, &keys).await.unwrap();
    silent();
    assert!(open(&store, &keys).await.is_err_and(|error| is_silent(&error)));
    let vault = open(&store, &keys).await.unwrap();
    let point = take(&cx, &vault, &toy()).await.unwrap();

    let segment =
        |number| WalFile::Segment(WalSegment::numbered(Timeline::FIRST, number, SegmentSize::DEFAULT));
    for (number, there) in [(1, true), (2, false)] {
        let file = segment(number);
        assert_eq!(vault.has_journal(&source(), SystemId(42), file).await.unwrap(), there);
        assert_eq!(vault.fetch(&source(), SystemId(42), file).await.unwrap().is_some(), there);
        silent();
        let asked = vault.has_journal(&source(), SystemId(42), file).await;
        assert!(asked.is_err_and(|error| is_silent(&error)));
        silent();
        let fetched = vault.fetch(&source(), SystemId(42), file).await;
        assert!(fetched.is_err_and(|error| is_silent(&error)));
        store.heal();
    }

    let at = cx.now();
    let why = LetGo { why: "test".into(), at, host: "sim".into(), tool: "test".into() };
    assert!(vault.expire(&cx, &source(), &point.point, &why).await.unwrap());
    assert!(!vault.expire(&cx, &source(), &point.point, &why).await.unwrap(), "it had been let go");
    for failing in 0.. {
        store.fail_at(failing, Fault::Before);
        let hold = HoldRecord { reason: "test".into(), owner: "sim".into(), at, until: None };
        let placed = vault.place_hold(&cx, &source(), &point.point, hold).await;
        let met = store.met();
        store.heal();
        assert!(placed.is_err(), "operation {failing}: what was let go was held");
        // A hold whose end could not be written holds for good.
        if met == 0 || !vault.holds(&source()).await.unwrap().iter().all(|hold| hold.released.is_some()) {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_gives_too_few_bytes_is_an_error_and_no_page() {
    let (cx, keys) = (surroundings(6), keys());
    let store = Arc::new(SimStore::default());
    create(&cx, &store, &keys).await.unwrap();
    let vault = open(&store, &keys).await.unwrap();
    let point = take(&cx, &vault, &toy()).await.unwrap();
    let mut refused = 0;
    for at in 0.. {
        store.fail_at(at, Fault::ShortRead);
        let restored = restore(&cx, &vault, &point).await;
        let (ended, met) = (store.operations() <= at, store.met());
        store.heal();
        match restored {
            Ok(files) => assert_eq!(files, toy().expected(), "operation {at}"),
            Err(error) => {
                assert!(met > 0 && !matches!(error, OpsError::Worker(_)), "operation {at}: {error}");
                refused += 1;
            }
        }
        if ended {
            break;
        }
    }
    assert!(refused > 3, "only {refused} short reads were refused");
}
