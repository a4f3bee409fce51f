//! What the tests of this crate share: a vault in a simulated store, a toy source, one backup.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod dumps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use strongroom_model::drill::{Choice, Drill, DrillOutcome, SHAPE};
use strongroom_model::point::Summary;
use strongroom_model::tail::Stretch;
use strongroom_model::target::{RecoveryTarget, RestoreRequest, TargetAction, TimelineChoice};
use strongroom_model::{Cx, PointId, SegmentSize, SourceName, SystemId, Timeline, WalFile, WalSegment};
use strongroom_ops::OpsError;
use strongroom_ops::backup::{BackupRequest, Trust, backup};
use strongroom_ops::hand::Hand;
use strongroom_ops::lineage::NewLineage;
use strongroom_ops::restore::{RestoreOptions, Restored};
use strongroom_ops::verify::VerifyRequest;
use strongroom_ops::wal_push::{WalInput, wal_push};
use strongroom_sim::engine::Files;
use strongroom_sim::{SimStore, ToyEngine, ToyTarget};
use strongroom_vault::journal::JournalFacts;
use strongroom_vault::lineage::Lineage;
use strongroom_vault::upload::UploadOptions;
use strongroom_vault::verify::{Budget, Depth};
use strongroom_vault::{Recipient, Suite, Unlock, Vault, VaultError};

/// A real age identity, for tests only.
pub struct Keys {
    pub recipient: Recipient,
    pub unlock: Unlock,
}

pub fn keys() -> Keys {
    let (identities, recipient) = strongroom_vault::keys::generate_identity();
    Keys {
        recipient: Recipient::Age(recipient),
        unlock: Unlock { identities: Some(identities), ..Unlock::default() },
    }
}

pub fn source() -> SourceName {
    "toy".parse().unwrap()
}

/// Files of every shape: empty, short, page-sized, all zeros, many small ones, one with a hole.
pub fn files(seed: u8) -> Files {
    let mut files = BTreeMap::new();
    let noise = |page: usize| {
        (0..8192).map(move |at| (at * 31 + page * 7 + seed as usize * 13) as u8 ^ (at >> 5) as u8)
    };
    files.insert("empty".into(), vec![]);
    files.insert("short".into(), vec![seed; 17]);
    files.insert("zeros".into(), vec![0; 3 * 8192 + 5]);
    files.insert("big".into(), (0..40).flat_map(noise).collect());
    let mut hole: Vec<u8> = (0..6).flat_map(noise).collect();
    hole[8192..4 * 8192].fill(0);
    files.insert("hole".into(), hole);
    for n in 0..20 {
        files.insert(format!("small{n:02}"), vec![n + seed; 100 + n as usize]);
    }
    files
}

pub fn request() -> BackupRequest {
    BackupRequest {
        source: source(),
        workers: 1,
        upload: UploadOptions { uploads: 1, ..UploadOptions::default() },
        afresh: false,
        trust: Trust::ProvenWithin(Duration::from_secs(7 * 24 * 3600)),
        fast: true,
        journal_timeout: Duration::ZERO,
        new_lineage: NewLineage::Refuse,
        followers: Vec::new(),
        host: "sim".into(),
        tool: "strongroom test".into(),
    }
}

/// All of it, of one source or of all.
pub fn verification(source: Option<SourceName>, depth: Depth) -> VerifyRequest {
    VerifyRequest {
        source,
        point: None,
        depth,
        workers: 2,
        budget: Budget::default(),
        hand: Some(Hand { host: "sim".into(), tool: "strongroom test".into() }),
    }
}

impl Keys {
    /// The recipient, which is public, once more.
    pub fn recipient_again(&self) -> Recipient {
        match &self.recipient {
            Recipient::Age(recipient) => Recipient::Age(recipient.clone()),
            _ => unreachable!("the tests' own key is an age identity"),
        }
    }
}

pub async fn create(cx: &Cx, store: &Arc<SimStore>, keys: &Keys) -> Result<Vault, VaultError> {
    Vault::create(cx, store.clone(), Suite::Aes256GcmX25519, std::slice::from_ref(&keys.recipient), "test")
        .await
}

pub async fn open(store: &Arc<SimStore>, keys: &Keys) -> Result<Arc<Vault>, VaultError> {
    Vault::open(store.clone(), &keys.unlock).await.map(Arc::new)
}

/// Ships the one segment a toy backup needs.
pub async fn ship(cx: &Cx, vault: &Vault, engine: &ToyEngine) -> Result<(), OpsError> {
    ship_content(cx, vault, engine, vec![7; 1 << 16]).await
}

/// Ships that segment with this content.
pub async fn ship_content(
    cx: &Cx,
    vault: &Vault,
    engine: &ToyEngine,
    content: Vec<u8>,
) -> Result<(), OpsError> {
    let lineage = Lineage {
        system_id: engine.lineage,
        segment_size: SegmentSize::DEFAULT,
        product: "Toy 1".into(),
        registered_at: cx.now(),
    };
    let segment = WalSegment::numbered(Timeline::FIRST, engine.segment, SegmentSize::DEFAULT);
    let file = WalFile::Segment(segment);
    let input = WalInput { file, content, lineage, transactions: None };
    wal_push(cx, vault, &source(), &input).await.map(|_| ())
}

/// Ships these bytes of the open segment with this number, which lie at `stretch`.
pub async fn ship_part(cx: &Cx, vault: &Vault, (segment, stretch): (u64, Stretch), content: &[u8]) {
    let segment = WalSegment::numbered(Timeline::FIRST, segment, SegmentSize::DEFAULT);
    let file = WalFile::Part(segment, stretch);
    let (name, size) = (file.to_string(), content.len() as u64);
    let facts = JournalFacts { name, size, shipped_at: cx.now(), transactions: None };
    vault.ship(cx, &source(), toy().lineage, (file, &facts), content).await.unwrap();
}

/// Journal first, then the point: a toy source has no archiver of its own.
pub async fn take(cx: &Cx, vault: &Arc<Vault>, engine: &ToyEngine) -> Result<Summary, OpsError> {
    ship(cx, vault, engine).await?;
    backup(cx, vault, engine, &request()).await
}

pub async fn restore(cx: &Cx, vault: &Arc<Vault>, point: &Summary) -> Result<Files, OpsError> {
    restore_from(cx, std::slice::from_ref(vault), point).await.map(|(files, _)| files)
}

/// Plans by the first vault and restores with the help of the others.
pub async fn restore_from(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    point: &Summary,
) -> Result<(Files, Restored), OpsError> {
    restore_with(cx, vaults, point, false).await
}

/// The same; `accept_loss` goes on without pages that no vault has whole.
pub async fn restore_with(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    point: &Summary,
    accept_loss: bool,
) -> Result<(Files, Restored), OpsError> {
    restore_into(cx, vaults, point, ToyTarget::default(), accept_loss).await
}

/// The same, into a place that may have files already.
pub async fn restore_into(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    point: &Summary,
    target: ToyTarget,
    accept_loss: bool,
) -> Result<(Files, Restored), OpsError> {
    let request = RestoreRequest {
        target: RecoveryTarget::Immediate,
        inclusive: true,
        timeline: TimelineChoice::Latest,
        action: TargetAction::Promote,
    };
    let plan = strongroom_ops::restore::plan(&vaults[0], &source(), &request, Some(&point.point)).await?;
    let options = RestoreOptions { workers: 2, accept_loss, ..RestoreOptions::default() };
    let restored =
        strongroom_ops::restore::restore(cx, vaults, &plan, Arc::new(target.clone()), options).await?;
    Ok((target.files(), restored))
}

pub fn toy() -> ToyEngine {
    ToyEngine::new(SystemId(42).0, files(1))
}

/// No pack and no manifest lies there that none of these points needs, and none that one needs is missing.
pub async fn expect_no_garbage(
    store: &SimStore,
    vault: &Arc<Vault>,
    truth: &BTreeMap<PointId, Files>,
    context: &str,
) {
    let mut needed = BTreeSet::new();
    for point in truth.keys() {
        let opened =
            vault.open_point(&source(), point).await.unwrap_or_else(|error| panic!("{error}\n{context}"));
        needed.insert(format!("{point}/manifest"));
        needed.extend(
            opened.packs().all().iter().map(|pack| format!("{}/packs/{:06}", pack.owner, pack.number)),
        );
    }
    let mut there = BTreeSet::new();
    for key in store.objects().keys() {
        let Some(rest) = key.as_str().strip_prefix("sources/toy/points/") else { continue };
        if rest.contains("/packs/") || rest.ends_with("/manifest") {
            there.insert(
                rest.split_once('-')
                    .map(|(date, rest)| {
                        let end = rest.find('-').unwrap_or(rest.len());
                        format!("{date}-{}", &rest[..end])
                    })
                    .unwrap(),
            );
        }
    }
    let (garbage, lost): (Vec<_>, Vec<_>) =
        (there.difference(&needed).collect(), needed.difference(&there).collect());
    assert!(garbage.is_empty() && lost.is_empty(), "garbage {garbage:?}, lost {lost:?}: {context}");
}

/// A drill of a point that failed.
pub fn drill_of(cx: &Cx, (vault, source): (&Vault, &SourceName), point: &PointId) -> Drill {
    Drill {
        drill: SHAPE,
        vault: vault.id().to_string(),
        source: source.clone(),
        point: point.clone(),
        product: "toy".into(),
        chosen: Choice::Latest,
        target: RecoveryTarget::Latest,
        reached: None,
        began_at: cx.now(),
        ended_at: cx.now(),
        host: "h".into(),
        tool: "t".into(),
        server: None,
        phases: Vec::new(),
        rto_seconds: Some(1.5),
        objective_seconds: None,
        checks: Vec::new(),
        outcome: DrillOutcome::Failed,
        why: None,
    }
}
