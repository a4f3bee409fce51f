//! The golden vaults of format 1 under `testdata/`: written once, before keys were divided and when they were, and when there
//! were dumps; read by every build, never regenerated.
//!
//! If this test fails, this build cannot read vaults that users have. The vault is right and the build is wrong.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test reads test data")]

mod world;

use std::path::PathBuf;
use std::sync::Arc;

use strongroom_model::{SystemId, WalFile};
use strongroom_ops::verify::{VerifyRequest, verify};
use strongroom_sim::world as surroundings;
use strongroom_store::{Folder, Store};
use strongroom_vault::verify::Depth;
use strongroom_vault::{Unlock, Vault};
use world::{dumps, restore, source, toy, verification};

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

async fn open(name: &str, unlock: &Unlock) -> Arc<Vault> {
    let store: Arc<dyn Store> = Arc::new(Folder::open(testdata(name)));
    Arc::new(Vault::open(store, unlock).await.unwrap())
}

async fn reads_in_full(vault: Arc<Vault>) {
    let cx = surroundings(1);
    // No record: the golden vault stays as it is.
    let request = VerifyRequest { hand: None, ..verification(None, Depth::Pages) };
    let verdict = verify(&cx, &vault, &request).await.unwrap();
    assert!(verdict.sound, "{verdict:?}");
    let points = vault.points(&source()).await.unwrap();
    let [point] = &points[..] else { panic!("{points:?}") };
    let mut engine = toy();
    engine.files.retain(|path, _| path != "big");
    assert_eq!(restore(&cx, &vault, point.restorable().unwrap()).await.unwrap(), engine.expected());
    let file = WalFile::parse("000000010000000000000001").unwrap();
    let (_, content) = vault.fetch(&source(), SystemId(42), file).await.unwrap().unwrap();
    assert_eq!(content, vec![7; 1 << 16]);
}

#[tokio::test(flavor = "multi_thread")]
async fn behaviour_31_the_golden_vault_opens_by_its_age_identity() {
    let identities = std::fs::read_to_string(testdata("vault-v1.identity.txt")).unwrap();
    reads_in_full(
        open("vault-v1", &Unlock { identities: Some(identities.into()), ..Unlock::default() }).await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_vault_opens_by_its_passphrase() {
    let passphrase = Some("golden vault, format 1".to_owned().into());
    reads_in_full(open("vault-v1", &Unlock { passphrase, ..Unlock::default() }).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_vault_without_encryption_reads() {
    reads_in_full(open("vault-v1-plain", &Unlock::default()).await).await;
}

/// Of divided keys; what is in them was written by a host that may only append.
#[tokio::test(flavor = "multi_thread")]
async fn the_golden_vaults_of_divided_keys_read() {
    let identities = std::fs::read_to_string(testdata("vault-v1.identity.txt")).unwrap();
    let by_passphrase = |text: &str| Unlock { passphrase: Some(text.to_owned().into()), ..Unlock::default() };
    let by_identity = Unlock { identities: Some(identities.into()), ..Unlock::default() };
    reads_in_full(open("vault-v1-x25519", &by_identity).await).await;
    for name in ["vault-v1-x25519", "vault-v1-fips-p256"] {
        reads_in_full(open(name, &by_passphrase("golden vault, format 1")).await).await;
        let host = open(name, &by_passphrase("golden host")).await;
        assert!(!host.may_read() && !host.points(&source()).await.unwrap().is_empty());
    }
}

/// Two dumps, of which the second refers to the first's packs.
#[tokio::test(flavor = "multi_thread")]
async fn the_golden_vault_of_dumps_reads() {
    let (cx, vault) = (surroundings(1), open("vault-v1-dumps", &Unlock::default()).await);
    let request = VerifyRequest { hand: None, ..verification(None, Depth::Pages) };
    let verdict = verify(&cx, &vault, &request).await.unwrap();
    assert!(verdict.sound, "{verdict:?}");
    let points = vault.points(&source()).await.unwrap();
    assert_eq!(points.len(), 2);
    for (n, row) in (1..).zip(&points) {
        let summary = row.restorable().unwrap();
        assert_eq!(dumps::load(&cx, &vault, summary).await.unwrap(), dumps::small(n).parts, "dump {n}");
    }
    let second = vault.open_point(&source(), &points[1].point).await.unwrap();
    assert!(second.packs().all().iter().any(|pack| pack.owner == points[0].point));
}
