//! What a copy makes of the target's floors, and of a limit.

use strongroom_codec::header::Suite;
use strongroom_model::entry::{Entry, EntryKind, EntryPath, Owner};
use strongroom_model::point::{FileRow, Intent, JournalRange, PointFacts};
use strongroom_model::{Clock, Entropy, Lsn, SegmentSize, Timeline, Timestamp, WalSegment};
use strongroom_store::{Memory, Store};

use super::*;
use crate::journal::JournalFacts;
use crate::upload::UploadOptions;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_176_000).unwrap()
    }
}

/// Counts: enough to make names differ.
#[derive(Default)]
struct Counting(std::sync::atomic::AtomicU8);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        out.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    }
}

fn source() -> SourceName {
    "orders".parse().unwrap()
}

const LINEAGE: SystemId = SystemId(42);

async fn pair(cx: &Cx) -> (Arc<Vault>, Arc<Vault>) {
    let store = || Arc::new(Memory::default()) as Arc<dyn Store>;
    let from = Vault::create(cx, store(), Suite::Plain, &[], "test").await.unwrap();
    let to = from.replicate(cx, store(), &[], "test").await.unwrap();
    (Arc::new(from), Arc::new(to))
}

fn cx() -> Cx {
    Cx::new(Arc::new(Still), Arc::new(Counting::default()))
}

fn copying(from: &Arc<Vault>, to: &Arc<Vault>) -> Copying {
    let options = CopyOptions { in_flight: 2, read_back: true, limit: None };
    Copying::new(Arc::clone(from), Arc::clone(to), options).unwrap()
}

/// A point of one file of three pages.
async fn point(cx: &Cx, vault: &Arc<Vault>) -> PointId {
    let id = PointId::new(cx.now(), cx.random());
    let intent = Intent {
        point: id.clone(),
        source: source(),
        engine: "test".into(),
        parent: None,
        began_at: cx.now(),
        host: "test".into(),
        tool: "test".into(),
        copied_at: None,
    };
    let upload = vault.begin(cx, intent, UploadOptions::default(), &[]).await.unwrap();
    let mut packer = upload.packer(tokio::runtime::Handle::current());
    let packed = tokio::task::spawn_blocking(move || {
        let mut map = Vec::new();
        packer.add(0, 0, &[7; 3 * 8192], &mut map).unwrap();
        packer.finish().unwrap();
        map
    });
    let entry = Entry {
        path: EntryPath::new("file").unwrap(),
        kind: EntryKind::File(3 * 8192),
        mode: 0o600,
        owner: Owner::default(),
        modified: 0,
    };
    let row = FileRow { entry, map: packed.await.unwrap(), damaged: Vec::new() };
    let journal = JournalRange {
        lineage: LINEAGE,
        timeline: Timeline::FIRST,
        segment_size: SegmentSize::DEFAULT,
        start: Lsn(1),
        stop: Lsn(2),
    };
    let facts = PointFacts {
        point: id.clone(),
        source: source(),
        engine: "test".into(),
        product: "Test 1".into(),
        parent: None,
        started_at: cx.now(),
        stopped_at: cx.now(),
        journal: Some(journal),
        from_standby: false,
        engine_facts: serde_json::Value::Null,
    };
    upload.commit(facts, vec![row], None).await.unwrap();
    id
}

#[tokio::test]
async fn wal_that_the_target_let_go_stays_away() {
    let cx = cx();
    let (from, to) = pair(&cx).await;
    let segment = |number| WalSegment::numbered(Timeline::FIRST, number, SegmentSize::DEFAULT);
    for number in 1..=5 {
        let file = WalFile::Segment(segment(number));
        let facts =
            JournalFacts { name: file.to_string(), size: 3, shipped_at: cx.now(), transactions: None };
        from.ship(&cx, &source(), LINEAGE, (file, &facts), b"wal").await.unwrap();
    }
    for floor in [segment(2), segment(4)] {
        let key = layout::floor(&source(), LINEAGE, floor);
        to.put_record(&cx, &key, Kind::Floor, &serde_json::json!({})).await.unwrap();
    }
    let brought = copying(&from, &to).journal(&cx, &source(), LINEAGE).await.unwrap();
    assert_eq!(brought.objects, 2);
    let there = to.journal_files(&source(), LINEAGE).await.unwrap();
    assert_eq!(there, [4, 5].map(|number| WalFile::Segment(segment(number))));
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "what is tested is time that passes")]
async fn a_limit_is_held() {
    let cx = cx();
    let (from, to) = pair(&cx).await;
    let id = point(&cx, &from).await;
    let options = CopyOptions { in_flight: 2, read_back: false, limit: Some(50_000) };
    let copying = Copying::new(Arc::clone(&from), Arc::clone(&to), options).unwrap();
    let began = Instant::now();
    for _ in 0..2 {
        copying.wait_for(5000).await;
    }
    copying.point(&cx, &source(), &id).await.unwrap();
    // The first goes at once; what comes third waits for what the two before it take.
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}
