//! Makes the records of a large vault without its data, for `bench/scale`: what listing, planning and sweeping read.
//!
//! ```text
//! large_vault DIR points 10000 SEGMENTS     many small points and a long journal
//! large_vault DIR packs 90 PACKS            few points of very many packs; each refers to the packs of those before it
//! ```
//!
//! Objects are written as they would lie in a folder vault, without waiting for the disk. Segments and packs are empty files:
//! nothing that is measured opens them, but for the last segments, which are real.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a tool for the bench: it stops at the first problem"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_codec::digest::object_hash;
use strongroom_codec::header::{Kind, Suite};
use strongroom_codec::keys::{PointKey, VaultKey};
use strongroom_codec::manifest::{ManifestWriter, to_hex};
use strongroom_codec::stream::{StreamScope, write_record};
use strongroom_model::point::{Decision, JournalRange, PackRef, PointFacts, Summary};
use strongroom_model::{
    Cx, Lsn, PointId, SegmentSize, SourceName, SystemId, Timeline, Timestamp, WalFile, WalSegment,
};
use strongroom_sim::world;
use strongroom_store::folder::Folder;
use strongroom_vault::journal::JournalFacts;
use strongroom_vault::lineage::Lineage;
use strongroom_vault::{Vault, layout};

const LINEAGE: SystemId = SystemId(42);
const SIZE: SegmentSize = SegmentSize::DEFAULT;
const HOUR: u64 = 3600;

struct Maker {
    dir: PathBuf,
    cx: Cx,
    vault: Vault,
    source: SourceName,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, kind, points, things] = &arguments[..] else {
        panic!("large_vault DIR points|packs POINTS COUNT")
    };
    let (points, things): (u64, u64) = (points.parse().unwrap(), things.parse().unwrap());
    let cx = world(1);
    fs::create_dir_all(dir).unwrap();
    let vault =
        Vault::create(&cx, Arc::new(Folder::open(Path::new(dir))), Suite::Plain, &[], "bench").await.unwrap();
    let maker = Maker { dir: dir.into(), cx, vault, source: "large".parse().unwrap() };
    maker.register().await;
    match kind.as_str() {
        "points" => maker.points(points, things).await,
        _ => maker.packs(points, things).await,
    }
}

impl Maker {
    async fn register(&self) {
        let registered_at = self.cx.now();
        let lineage = Lineage {
            system_id: LINEAGE,
            segment_size: SIZE,
            product: "PostgreSQL 18".into(),
            registered_at,
        };
        self.vault.register_lineage(&self.cx, &self.source, 1, &lineage).await.unwrap();
    }

    async fn points(&self, points: u64, segments: u64) {
        for number in 0..points {
            self.point(number, number * (segments / points), &[]);
        }
        self.journal(segments).await;
    }

    /// The first point owns all packs but one for each later point, which refers to all the others.
    async fn packs(&self, points: u64, packs: u64) {
        let pack = |owner: PointId, number: u32| PackRef {
            owner,
            number,
            nonce: self.cx.random(),
            size: 0,
            hash: [7; 16],
        };
        let mut table: Vec<PackRef> = (0..packs as u32).map(|number| pack(self.id(0), number)).collect();
        for number in 0..points {
            // One in a hundred packs is new; the pack it takes the place of stays for the older points.
            for slot in (0..packs as usize).skip(number as usize).step_by(100).filter(|_| number > 0) {
                table[slot] = pack(self.id(number), slot as u32);
            }
            for pack in table.iter().filter(|pack| pack.owner == self.id(number)) {
                self.write(layout::pack(&self.source, pack).as_str(), b"");
            }
            self.point(number, number, &table);
        }
        self.journal(points + 2).await;
    }

    async fn journal(&self, segments: u64) {
        for number in 0..segments {
            let file = WalFile::Segment(WalSegment::numbered(Timeline::FIRST, number, SIZE));
            let key = layout::wal_file(&self.source, LINEAGE, file);
            if number + 40 < segments {
                self.write(key.as_str(), b"");
                continue;
            }
            let at = self.time(number);
            let facts = JournalFacts {
                name: file.to_string(),
                size: 3,
                shipped_at: at,
                transactions: Some((at, at)),
            };
            self.vault.ship(&self.cx, &self.source, LINEAGE, (file, &facts), b"wal").await.unwrap();
        }
    }

    fn time(&self, hours: u64) -> Timestamp {
        Timestamp::from_unix_seconds((1_700_000_000 + hours * HOUR) as i64).unwrap()
    }

    fn id(&self, number: u64) -> PointId {
        PointId::new(self.time(number), (number as u32).to_be_bytes())
    }

    /// The records of a point that begins in this segment and refers to these packs.
    fn point(&self, number: u64, segment: u64, packs: &[PackRef]) {
        let (point, at) = (self.id(number), self.time(number));
        let start = Lsn(segment * SIZE.bytes() + 40);
        let journal = JournalRange {
            lineage: LINEAGE,
            timeline: Timeline::FIRST,
            segment_size: SIZE,
            start,
            stop: Lsn(start.0 + 1000),
        };
        let facts = PointFacts {
            point: point.clone(),
            source: self.source.clone(),
            engine: "postgres".into(),
            product: "PostgreSQL 18".into(),
            parent: None,
            started_at: at,
            stopped_at: at,
            journal: Some(journal),
            from_standby: false,
            engine_facts: serde_json::Value::Null,
        };
        let owners: std::collections::BTreeSet<PointId> =
            packs.iter().map(|pack| pack.owner.clone()).collect();
        let owners: Vec<_> = owners.into_iter().map(|owner| (owner, PointKey::new([1; 32], None))).collect();
        let path = layout::point_part(&self.source, &point, layout::PointPart::Manifest);
        let key = VaultKey::public();
        let scope =
            StreamScope { suite: Suite::Plain, key: &key, vault: self.vault.id(), path: path.as_str() };
        let mut manifest = ManifestWriter::new(scope, self.cx.random(), &facts, &owners).unwrap();
        packs.iter().for_each(|pack| manifest.pack(pack).unwrap());
        let manifest = manifest.finish();
        self.write(path.as_str(), &manifest);
        let summary = Summary {
            point: point.clone(),
            source: facts.source,
            engine: facts.engine,
            product: facts.product,
            parent: None,
            started_at: at,
            stopped_at: at,
            committed_at: at,
            journal: Some(journal),
            entries: 0,
            bytes: 10 << 40,
            stored: manifest.len() as u64,
            packs: packs.len() as u32,
            damaged_pages: 0,
            from_standby: false,
            reading: None,
        };
        let hash = to_hex(&object_hash(Suite::Plain, &manifest));
        let decision = Decision::Commit {
            manifest_hash: hash,
            manifest_size: manifest.len() as u64,
            summary: Box::new(summary),
        };
        let path = layout::point_part(&self.source, &point, layout::PointPart::Decision);
        let scope =
            StreamScope { suite: Suite::Plain, key: &key, vault: self.vault.id(), path: path.as_str() };
        let decision = serde_json::to_vec(&decision).unwrap();
        self.write(path.as_str(), &write_record(scope, Kind::Decision, self.cx.random(), &decision));
    }

    fn write(&self, key: &str, bytes: &[u8]) {
        let path = self.dir.join(key);
        // Most files have many neighbours: their folder is there.
        if fs::write(&path, bytes).is_err() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }
}
