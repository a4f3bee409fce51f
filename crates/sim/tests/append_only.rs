//! Hosts that may append and cannot read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use strongroom_codec::header::{Kind, SUITES};
use strongroom_codec::keys::{Keyring, VaultKey};
use strongroom_codec::manifest::{hex_bytes, to_hex};
use strongroom_codec::stream::{StreamScope, write_record};
use strongroom_model::estimate::{Measure, Stretch};
use strongroom_model::retention::Retention;
use strongroom_model::{Cx, SystemId, Timeline, VaultId, WalFile};
use strongroom_ops::OpsError;
use strongroom_ops::copy_points::{Choice, CopyRequest, copy};
use strongroom_ops::expire::{expire, plan};
use strongroom_ops::hand::Hand;
use strongroom_ops::hold::{HoldRequest, place, release};
use strongroom_ops::key::{check, rotate};
use strongroom_ops::repair::repair;
use strongroom_ops::verify::verify;
use strongroom_sim::{SimStore, ToyEngine, world as surroundings};
use strongroom_store::{Key, Store};
use strongroom_vault::copy::CopyOptions;
use strongroom_vault::error::KmsError;
use strongroom_vault::evidence::RestoreMeasure;
use strongroom_vault::expire::LetGo;
use strongroom_vault::journal::{JournalFacts, Shipped};
use strongroom_vault::keys::{Kms, KmsKind};
use strongroom_vault::recipients::{Proof, Scope};
use strongroom_vault::sweep::SweepOptions;
use strongroom_vault::verify::Depth;
use strongroom_vault::{Recipient, Suite, Unlock, Vault, VaultError};
use world::{drill_of, restore, ship, ship_content, source, take, toy, verification};
use zeroize::Zeroizing;

fn passphrase(text: &str) -> (Recipient, Unlock) {
    let unlock = Unlock { passphrase: Some(text.to_owned().into()), ..Unlock::default() };
    (Recipient::Passphrase(text.to_owned().into()), unlock)
}

async fn open(store: &Arc<SimStore>, text: &str) -> Arc<Vault> {
    Arc::new(Vault::open(store.clone() as Arc<dyn Store>, &passphrase(text).1).await.unwrap())
}

/// A vault, as its owner and as a host that may only append have it open.
async fn opened(suite: Suite) -> (Cx, Arc<SimStore>, Arc<Vault>, Arc<Vault>) {
    let (cx, store) = (surroundings(suite as u64), Arc::new(SimStore::default()));
    Vault::create(&cx, store.clone(), suite, &[passphrase("owner").0], "test").await.unwrap();
    let owner = open(&store, "owner").await;
    let added = owner.add_recipient(&cx, (&passphrase("host").0, Scope::AppendOnly), None).await;
    assert_eq!(added.unwrap(), 2);
    let host = open(&store, "host").await;
    (cx, store, owner, host)
}

fn divided() -> impl Iterator<Item = Suite> {
    SUITES.into_iter().filter(|suite| suite.divides_keys())
}

fn is_append_only<T>(result: Result<T, impl Into<OpsError>>) -> bool {
    matches!(result.map_err(Into::into), Err(OpsError::Vault(VaultError::AppendOnly { .. })))
}

fn sweeping() -> SweepOptions {
    SweepOptions { stale_after: Duration::ZERO, dry_run: false, host: "sim".into(), tool: "test".into() }
}

fn later() -> ToyEngine {
    let mut engine = toy();
    engine.files.get_mut("big").unwrap()[8192..2 * 8192].fill(9);
    engine
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_appends_only_the_owner_reads() {
    for suite in divided() {
        let (cx, _, owner, host) = opened(suite).await;
        assert!(owner.may_read() && !host.may_read());
        let points = [take(&cx, &host, &toy()).await.unwrap(), take(&cx, &host, &later()).await.unwrap()];
        assert!(points[1].stored < points[0].stored / 2, "{suite:?}: the parent's pages were not told");
        let segment = WalFile::parse("000000010000000000000001").unwrap();
        for point in &points {
            assert!(is_append_only(restore(&cx, &host, point).await), "{suite:?}");
        }
        assert!(is_append_only(host.fetch(&source(), SystemId(42), segment).await));
        for depth in [Depth::Data, Depth::Pages] {
            assert!(is_append_only(verify(&cx, &host, &verification(None, depth)).await));
        }
        assert!(verify(&cx, &host, &verification(None, Depth::Structure)).await.unwrap().sound);

        assert!(verify(&cx, &owner, &verification(None, Depth::Pages)).await.unwrap().sound, "{suite:?}");
        assert!(owner.evidence().await.unwrap().iter().all(|record| record.signed));
        assert!(host.evidence().await.unwrap().iter().all(|record| !record.signed));
        for (point, engine) in points.iter().zip([toy(), later()]) {
            assert_eq!(restore(&cx, &owner, point).await.unwrap(), engine.expected(), "{suite:?}");
        }
        let (_, content) = owner.fetch(&source(), SystemId(42), segment).await.unwrap().unwrap();
        assert_eq!(content, vec![7; 1 << 16]);
        // And the other way round: a host goes on from what the owner took.
        let mut third = later();
        third.files.get_mut("big").unwrap()[..8192].fill(3);
        take(&cx, &owner, &third).await.unwrap();
        let fourth = take(&cx, &host, &third).await.unwrap();
        assert!(fourth.stored < points[0].stored / 2, "{suite:?}");
    }
}

/// It brings them to a second vault as well, unread.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_copies_the_owner_of_the_replica_reads() {
    let (cx, _, owner, host) = opened(Suite::Aes256GcmX25519).await;
    let point = take(&cx, &host, &toy()).await.unwrap();
    let there = Arc::new(SimStore::default());
    owner.replicate(&cx, there.clone(), &[], "test").await.unwrap();
    let options = CopyOptions { in_flight: 2, read_back: true, limit: None };
    let request = CopyRequest { source: Some(source()), choice: Choice::All, options };
    let replica = open(&there, "host").await;
    for _ in 0..2 {
        assert!(copy(&cx, &host, &replica, &request).await.unwrap().is_complete());
    }
    let replica = open(&there, "owner").await;
    assert!(verify(&cx, &replica, &verification(None, Depth::Pages)).await.unwrap().sound);
    assert_eq!(restore(&cx, &replica, &point).await.unwrap(), toy().expected());
}

/// A host that cannot read what is there still knows its own file again, and a different one.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_wal_is_known_by_its_hash_and_other_wal_refused() {
    for suite in divided() {
        let (cx, _, owner, host) = opened(suite).await;
        for vault in [&owner, &host, &host] {
            ship(&cx, vault, &toy()).await.unwrap();
        }
        let other = ship_content(&cx, &host, &toy(), vec![8; 1 << 16]).await;
        assert!(
            matches!(other, Err(OpsError::Vault(VaultError::JournalDiffers { .. }))),
            "{suite:?}: {other:?}"
        );
    }
}

/// Timelines are no content: a host that may not know them could not go on after a promotion.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_read_by_whoever_appends() {
    let (cx, _, _, host) = opened(Suite::Aes256GcmX25519).await;
    let file = WalFile::History(Timeline::new(2).unwrap());
    let text = b"1\t0/3000000\tno recovery target specified\n";
    let (name, size) = (file.to_string(), text.len() as u64);
    let facts = JournalFacts { name, size, shipped_at: cx.now(), transactions: None };
    for expected in [false, true] {
        let shipped = host.ship(&cx, &source(), SystemId(42), (file, &facts), text).await.unwrap();
        assert_eq!(shipped == Shipped::AlreadyThere, expected);
    }
    let (_, content) = host.fetch(&source(), SystemId(42), file).await.unwrap().unwrap();
    assert_eq!(content, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_gives_no_more_than_it_has_and_never_is_the_last() {
    let (cx, store, owner, host) = opened(Suite::Aes256GcmX25519).await;
    take(&cx, &host, &toy()).await.unwrap();
    let third = passphrase("third");
    assert!(is_append_only(host.add_recipient(&cx, (&third.0, Scope::Whole), None).await));
    assert!(is_append_only(host.remove_recipient(&cx, 1, (&third.1, None)).await));
    assert!(is_append_only(host.replicate(&cx, Arc::new(SimStore::default()), &[third.0], "test").await));
    let third = passphrase("third");
    assert_eq!(host.add_recipient(&cx, (&third.0, Scope::AppendOnly), None).await.unwrap(), 3);
    assert!(!open(&store, "third").await.may_read());

    // A drill with what only appends proves no recovery.
    let host_drill = check(&owner, &passphrase("host").1).await.unwrap();
    let proofs: Vec<Proof> = host_drill.recipients.iter().map(|(_, proof)| *proof).collect();
    assert_eq!(proofs, [Proof::DoesNotOpen, Proof::ProvenToAppend, Proof::DoesNotOpen]);
    assert!(!host_drill.is_passed() && check(&owner, &passphrase("owner").1).await.unwrap().is_passed());

    // What stands in its place opens no more than it did, and one that only appends keeps nobody's vault open.
    assert_eq!(rotate(&cx, &owner, 2, (&passphrase("host again").0, None)).await.unwrap(), 4);
    assert!(!open(&store, "host again").await.may_read());
    let last = owner.remove_recipient(&cx, 1, (&passphrase("host again").1, None)).await;
    assert!(matches!(last, Err(VaultError::LastRecipient { number: 1 })), "{last:?}");
    for number in [3, 4] {
        owner.remove_recipient(&cx, number, (&Unlock::default(), None)).await.unwrap();
    }
    assert!(owner.may_read() && open(&store, "owner").await.may_read());
}

/// A key service that wraps nothing: what is to be wrapped lies open in the vault.
#[derive(Debug)]
struct OpenSafe;

#[async_trait::async_trait]
impl Kms for OpenSafe {
    fn kind(&self) -> KmsKind {
        KmsKind::Transit
    }

    fn key(&self) -> String {
        "open".into()
    }

    async fn wrap(&self, _: &VaultId, key: &[u8]) -> Result<String, KmsError> {
        Ok(to_hex(key))
    }

    async fn unwrap(&self, _: &VaultId, wrapped: &str) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        Ok(Zeroizing::new(hex_bytes(wrapped).unwrap()))
    }
}

/// Whoever broke into a host and has what it has.
struct Forger {
    keys: Keyring,
    vault: VaultId,
    suite: Suite,
    store: Arc<SimStore>,
}

impl Forger {
    async fn of(cx: &Cx, store: &Arc<SimStore>, owner: &Vault) -> Forger {
        let service = Recipient::Kms(Arc::new(OpenSafe));
        let number = owner.add_recipient(cx, (&service, Scope::AppendOnly), None).await.unwrap();
        let objects = store.objects();
        let (_, slot) =
            objects.iter().find(|(key, _)| key.as_str().ends_with(&format!("/{number}"))).unwrap();
        let slot: serde_json::Value = serde_json::from_slice(slot).unwrap();
        let secret = hex_bytes(slot["wrapped"].as_str().unwrap()).unwrap();
        let (suite, vault) = (owner.suite(), owner.id().clone());
        Forger { keys: Keyring::read(suite, &secret).unwrap(), vault, suite, store: store.clone() }
    }

    /// A record that opens and reads as the vault's own would.
    async fn write(&self, cx: &Cx, (path, kind): (String, Kind), record: serde_json::Value) {
        let scope =
            StreamScope { suite: self.suite, key: self.keys.append_key(), vault: &self.vault, path: &path };
        let object = write_record(scope, kind, cx.random(), record.to_string().as_bytes());
        self.store.put_new(&Key::new(path.clone()).unwrap(), object.into()).await.unwrap();
    }
}

/// How long restores take the owner is told by the owner's own restores.
#[tokio::test(flavor = "multi_thread")]
async fn what_restores_took_is_not_believed_of_who_may_only_append() {
    for suite in divided() {
        let (cx, store, owner, host) = opened(suite).await;
        let point = take(&cx, &host, &toy()).await.unwrap().point;
        let pages = Some(Stretch { bytes: 1 << 30, seconds: 1.0 });
        let measure = Measure { host: "h".into(), compared: false, pages, replay: None };
        let (vault, tool) = (owner.id().to_string(), "t".to_owned());
        let record = RestoreMeasure { vault, source: source(), point, began_at: cx.now(), tool, measure };
        assert!(is_append_only(host.keep_measure(&cx, &record).await), "{suite:?}");
        owner.keep_measure(&cx, &record).await.unwrap();
        let forger = Forger::of(&cx, &store, &owner).await;
        let forged = serde_json::json!({
            "statement": serde_json::to_string(&record).unwrap(), "signature": "00".repeat(64),
        });
        let path = "evidence/2099-01/20990101T000000Z-00000000.restore.toy";
        forger.write(&cx, (path.into(), Kind::Evidence), forged).await;
        assert_eq!(owner.measures(&source(), 9).await.unwrap(), [record], "{suite:?}");
    }
}

/// Nor is what a drill found, whatever it says; and rubbish with newer names pushes no record out of sight.
#[tokio::test(flavor = "multi_thread")]
async fn what_drills_found_is_not_believed_of_who_may_only_append() {
    for suite in divided() {
        let (cx, store, owner, host) = opened(suite).await;
        let point = take(&cx, &host, &toy()).await.unwrap().point;
        let drill = drill_of(&cx, (&owner, &source()), &point);
        assert!(is_append_only(host.keep_drill(&cx, &drill).await), "{suite:?}");
        let id = owner.keep_drill(&cx, &drill).await.unwrap();
        let forger = Forger::of(&cx, &store, &owner).await;
        let kept = owner.drills(&source(), 1).await.unwrap().pop().unwrap();
        let other = drill_of(&cx, (&owner, &"other".parse().unwrap()), &point);
        owner.keep_drill(&cx, &other).await.unwrap();
        let of_other = owner.drills(&other.source, 1).await.unwrap().remove(0);
        for (number, (statement, signature)) in [
            // Never signed; the owner's own, said again; the owner's own of another source.
            (kept.statement.replace("failed", "passed"), "00".repeat(64)),
            (kept.statement.clone(), kept.signature.clone()),
            (of_other.statement, of_other.signature),
        ]
        .into_iter()
        .enumerate()
        {
            let forged = serde_json::json!({ "statement": statement, "signature": signature });
            let path = format!("evidence/2099-01/2099010{}T000000Z-00000000.drill.toy", number + 1);
            forger.write(&cx, (path, Kind::Evidence), forged).await;
        }
        let records = owner.drills(&source(), 9).await.unwrap();
        let wrong: Vec<_> = records.iter().filter_map(|record| record.wrong).collect();
        assert_eq!(
            wrong,
            ["the signature is wrong", "the statement is of another source or vault"],
            "{suite:?}"
        );
        let counted: Vec<_> = records.iter().filter_map(|record| record.drill.clone()).collect();
        assert_eq!(counted, [drill], "{suite:?}: {id} counts once");
        let hidden = host.drills(&source(), 9).await.unwrap();
        assert!(hidden.iter().all(|record| record.drill.is_none()), "{suite:?}: a host cannot check");
    }
}

/// Whoever has what a host has lets nothing go: not by a tombstone, nor by a floor, nor by ending a hold.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_at_the_word_of_who_may_only_append() {
    for suite in divided() {
        let (cx, store, owner, host) = opened(suite).await;
        // WAL that no point needs: a floor would let it go.
        ship(&cx, &host, &toy()).await.unwrap();
        let engines = [ToyEngine { segment: 2, ..toy() }, ToyEngine { segment: 2, ..later() }];
        let points =
            [take(&cx, &host, &engines[0]).await.unwrap(), take(&cx, &host, &engines[1]).await.unwrap()];
        let hand = Hand { host: "sim".into(), tool: "test".into() };
        let why = HoldRequest { reason: "audit".into(), owner: "legal".into(), until: None };
        let hold = place(&cx, &host, &points[0].point, &why).await.unwrap();
        let options = sweeping();
        assert!(is_append_only(release(&cx, &host, &points[0].point, &why).await), "{suite:?}");
        assert!(is_append_only(host.sweep(&cx, &source(), &options).await), "{suite:?}");
        let keep = Retention { keep_last: 1, ..Retention::default() };

        let forger = Forger::of(&cx, &store, &owner).await;
        let let_go = serde_json::json!({
            "why": "forged", "at": cx.now(), "host": "h", "tool": "t", "proof": "00".repeat(32),
        });
        let ended =
            serde_json::json!({ "reason": "forged", "owner": "legal", "at": cx.now(), "until": null });
        let point = |n: usize| format!("sources/toy/points/{}/expired", points[n].point);
        forger.write(&cx, (point(1), Kind::Tombstone), let_go.clone()).await;
        let floor = "sources/toy/floors/42/00000001/000000010000000000000009";
        forger.write(&cx, (floor.into(), Kind::Floor), let_go).await;
        let release = format!("holds/toy/{}/{}/released", points[0].point, hold.id);
        forger.write(&cx, (release.clone(), Kind::Hold), ended).await;

        // The owner is not even misled: both points are listed, and what was forged is named.
        let rows = owner.points(&source()).await.unwrap();
        assert_eq!(rows.iter().filter(|row| row.restorable().is_some()).count(), 2, "{suite:?}: {rows:?}");
        let before = store.objects().len();
        for _ in 0..2 {
            assert!(owner.sweep(&cx, &source(), &options).await.unwrap().garbage.is_empty(), "{suite:?}");
        }
        assert!(store.objects().len() >= before);
        assert!(owner.holds(&source()).await.unwrap()[0].released.is_none(), "{suite:?}");
        let verdict = verify(&cx, &owner, &verification(None, Depth::Structure)).await.unwrap();
        let named: Vec<&str> = verdict.records.iter().map(|damage| damage.object.as_str()).collect();
        assert!(!verdict.sound && named.len() == 3, "{named:?}");
        for forged in [&point(1), floor, &release] {
            assert!(named.contains(&forged), "{forged} in {named:?}");
        }
        // The owner's own word counts as ever; that a name is taken by a forgery is said.
        let word = LetGo { why: "mine".into(), at: cx.now(), host: "h".into(), tool: "t".into() };
        assert!(is_append_only(host.expire(&cx, &source(), &points[0].point, &word).await));
        let taken = owner.release_hold(&cx, &source(), &hold, &hold.placed).await;
        assert!(matches!(taken, Err(VaultError::Damaged { .. })), "{taken:?}");
        for key in [point(1), floor.into(), release] {
            store.delete(&Key::new(key).unwrap()).await.unwrap();
        }
        for (point, engine) in points.iter().zip(&engines) {
            assert_eq!(restore(&cx, &owner, point).await.unwrap(), engine.expected(), "{suite:?}");
        }
        owner.release_hold(&cx, &source(), &hold, &hold.placed).await.unwrap();
        let planned = plan(&owner, &source(), &keep, cx.now()).await.unwrap();
        expire(&cx, &owner, &source(), (&planned, &keep, &hand)).await.unwrap();
        assert!(!owner.sweep(&cx, &source(), &options).await.unwrap().garbage.is_empty(), "{suite:?}");
        assert_eq!(restore(&cx, &owner, &points[1]).await.unwrap(), engines[1].expected(), "{suite:?}");
    }
}

/// What one vault let go is no word for its replica, which may keep for longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_of_one_vault_lets_nothing_go_in_its_replica() {
    let (cx, store, owner, _) = opened(Suite::Aes256GcmX25519).await;
    let points = [take(&cx, &owner, &toy()).await.unwrap(), take(&cx, &owner, &later()).await.unwrap()];
    let there = Arc::new(SimStore::default());
    owner.replicate(&cx, there.clone(), &[], "test").await.unwrap();
    let replica = open(&there, "owner").await;
    let options = CopyOptions { in_flight: 2, read_back: true, limit: None };
    let everything = CopyRequest { source: Some(source()), choice: Choice::All, options };
    assert!(copy(&cx, &owner, &replica, &everything).await.unwrap().is_complete());
    let word = LetGo { why: "keep_last = 1".into(), at: cx.now(), host: "h".into(), tool: "t".into() };
    owner.expire(&cx, &source(), &points[0].point, &word).await.unwrap();
    let tombstone = Key::new(format!("sources/toy/points/{}/expired", points[0].point)).unwrap();
    there.put_new(&tombstone, store.objects()[&tombstone].clone().into()).await.unwrap();
    assert!(replica.sweep(&cx, &source(), &sweeping()).await.unwrap().garbage.is_empty());
    let request = verification(None, Depth::Structure);
    let mut verdict = verify(&cx, &replica, &request).await.unwrap();
    assert_eq!(verdict.records.iter().map(|of| of.object.as_str()).collect::<Vec<_>>(), [tombstone.as_str()]);
    // Nor is it put back from where it counts.
    let repaired = repair(&cx, (&replica, &owner), (&mut verdict, &request), true).await.unwrap();
    assert!(repaired.repaired.is_empty() && repaired.beyond.len() == 1, "{repaired:?}");
    assert_eq!(restore(&cx, &replica, &points[0]).await.unwrap(), toy().expected());
}

/// A forger who takes a host's copy out of use and puts in its place one with a public key of theirs is found out.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_not_made_to_seal_for_a_forger() {
    for suite in divided() {
        let (cx, store, owner, _) = opened(suite).await;
        let forger = Forger::of(&cx, &store, &owner).await;
        let other = Keyring::whole(suite, VaultKey::new([66; 32])).append_secret().unwrap();
        let own = forger.keys.append_secret().unwrap();
        for forged in [[&own[..32], &other[32..]].concat(), [&other[..32], &own[32..]].concat(), vec![66; 32]]
        {
            // Everybody who wraps for the open safe opens it; so does the host.
            let slot = serde_json::json!({ "kind": "kms", "kms": "transit", "key": "open", "wrapped": to_hex(&forged) });
            let objects = store.objects();
            let last = objects.keys().rev().find(|key| key.as_str().starts_with("keys/")).unwrap();
            let removed = Key::new(format!("{last}.removed")).unwrap();
            let place = Key::new(format!("{}/9", last.as_str().rsplit_once('/').unwrap().0)).unwrap();
            let unlock = || Unlock { kms: vec![Arc::new(OpenSafe)], ..Unlock::default() };
            store.put_new(&removed, b"{}".to_vec().into()).await.unwrap();
            store.put_new(&place, slot.to_string().into_bytes().into()).await.unwrap();
            let refused = Vault::open(store.clone() as Arc<dyn Store>, &unlock()).await;
            assert!(matches!(refused, Err(VaultError::Damaged { .. })), "{suite:?}: {refused:?}");
            store.delete(&removed).await.unwrap();
            // Beside the genuine one it is in nobody's way.
            let opened = Vault::open(store.clone() as Arc<dyn Store>, &unlock()).await.unwrap();
            assert!(!opened.may_read());
            store.delete(&place).await.unwrap();
        }
    }
}

/// Who has both opens the whole, in whichever order the copies lie.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_key_is_preferred() {
    let (cx, store, owner, _) = opened(Suite::Aes256GcmX25519).await;
    let identity = world::keys();
    owner.add_recipient(&cx, (&identity.recipient, Scope::Whole), None).await.unwrap();
    let unlock = Unlock { passphrase: passphrase("host").1.passphrase, ..identity.unlock };
    assert!(Vault::open(store.clone() as Arc<dyn Store>, &unlock).await.unwrap().may_read());
    // Also where one passphrase opens both.
    for (text, scope) in [("owner", Scope::AppendOnly), ("host", Scope::Whole)] {
        owner.add_recipient(&cx, (&passphrase(text).0, scope), None).await.unwrap();
        assert!(open(&store, text).await.may_read(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_undivided_keys_says_that_it_cannot_do_it() {
    for suite in SUITES.into_iter().filter(|suite| !suite.divides_keys() && *suite != Suite::Plain) {
        let (cx, store) = (surroundings(9), Arc::new(SimStore::default()));
        Vault::create(&cx, store.clone(), suite, &[passphrase("owner").0], "test").await.unwrap();
        let vault = open(&store, "owner").await;
        let refused = vault.add_recipient(&cx, (&passphrase("host").0, Scope::AppendOnly), None).await;
        assert!(matches!(refused, Err(VaultError::Recipient(_))), "{refused:?}");
        assert_eq!(vault.key_slots().await.unwrap(), 1);
    }
}
