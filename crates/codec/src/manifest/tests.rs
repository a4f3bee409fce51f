//! Manifests read back, and nothing but whole ones do.

use proptest::prelude::*;
use strongroom_model::point::JournalRange;
use strongroom_model::{Lsn, SegmentSize, SystemId, Timeline, Timestamp, VaultId};

use super::*;
use crate::header::Suite;
use crate::keys::VaultKey;

fn facts() -> PointFacts {
    let at = Timestamp::from_unix_seconds(1_800_000_000).unwrap();
    PointFacts {
        point: PointId::new(at, [1; 4]),
        source: "orders".parse().unwrap(),
        engine: "postgres".into(),
        product: "PostgreSQL 17.4".into(),
        parent: None,
        started_at: at,
        stopped_at: at,
        journal: JournalRange {
            lineage: SystemId(u64::MAX),
            timeline: Timeline::FIRST,
            segment_size: SegmentSize::DEFAULT,
            start: Lsn(1),
            stop: Lsn(2),
        },
        engine_facts: serde_json::json!({ "label": "x" }),
    }
}

fn pack(number: u32) -> PackRef {
    PackRef { owner: facts().point, number, nonce: [number as u8; 16], size: 1 << 25, hash: [3; 16] }
}

fn write(packs: &[PackRef], rows: &[FileRow]) -> Vec<u8> {
    let (key, vault) = (VaultKey::new([2; 32]), VaultId::new([1; 16]));
    let scope = StreamScope { suite: Suite::Aes256Gcm, key: &key, vault: &vault, path: "m" };
    let owners = [(facts().point, PointKey::new([4; 32], None))];
    let mut writer = ManifestWriter::new(scope, [5; 16], &facts(), &owners).unwrap();
    packs.iter().for_each(|pack| writer.pack(pack).unwrap());
    rows.iter().for_each(|row| writer.row(row).unwrap());
    writer.finish()
}

fn read(object: &[u8]) -> Result<(Vec<PackRef>, Vec<FileRow>), ManifestError> {
    let (key, vault) = (VaultKey::new([2; 32]), VaultId::new([1; 16]));
    let mut reader = ManifestReader::new(
        StreamScope { suite: Suite::Aes256Gcm, key: &key, vault: &vault, path: "m" },
        object,
    )?;
    assert_eq!(*reader.facts(), facts());
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row);
    }
    Ok((reader.packs().to_vec(), rows))
}

fn kind() -> impl Strategy<Value = (EntryKind, Vec<Run>, Vec<u32>)> {
    let run = (1u32..300, prop::option::of((0u32..3, any::<u32>())));
    prop_oneof![
        Just((EntryKind::Folder, vec![], vec![])),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|target| (
            EntryKind::Link(target),
            vec![],
            vec![]
        )),
        (prop::collection::vec(run, 0..20), prop::collection::vec(any::<u32>(), 0..4)).prop_map(
            |(runs, damaged)| {
                let mut map = Vec::new();
                let mut first = 0;
                for (count, place) in runs {
                    let place = place.map_or(Place::Zero, |(pack, page)| Place::Pack { pack, page });
                    map.push(Run { first, count, place });
                    first += count;
                }
                (EntryKind::File(u64::from(first) * 8192), map, damaged)
            }
        ),
    ]
}

fn row() -> impl Strategy<Value = FileRow> {
    let path =
        prop::collection::vec("[a-zA-Z0-9 \u{80}-\u{ff}]{1,12}", 1..4).prop_map(|parts| parts.join("/"));
    (path, kind(), 0u32..0o10000, any::<(u32, u32, i64)>(), prop::option::of("[a-z]{1,8}")).prop_map(
        |(path, (kind, map, damaged), mode, (uid, gid, modified), user)| FileRow {
            entry: Entry {
                path: EntryPath::new(path).unwrap(),
                kind,
                mode,
                owner: Owner { uid, gid, user, group: None },
                modified,
            },
            map,
            damaged,
        },
    )
}

proptest! {
    #[test]
    fn rows_read_back(rows in prop::collection::vec(row(), 0..50)) {
        let packs = [pack(0), pack(1), pack(2)];
        let (packs_back, rows_back) = read(&write(&packs, &rows)).unwrap();
        prop_assert_eq!(&packs_back[..], &packs[..]);
        prop_assert_eq!(rows_back, rows);
    }

    #[test]
    fn any_bytes_as_a_row_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_row(&mut WireReader::new(&bytes, "file row"), 3);
    }

    #[test]
    fn zigzag_reads_back(value in any::<i64>()) {
        prop_assert_eq!(unzigzag(zigzag(value)), value);
    }
}

#[test]
fn many_rows_span_many_chunks() {
    let entry = |n: u32| Entry {
        path: EntryPath::new(format!("base/1/{n}")).unwrap(),
        kind: EntryKind::File(0),
        mode: 0o600,
        owner: Owner::default(),
        modified: 0,
    };
    let rows: Vec<FileRow> =
        (0..30_000).map(|n| FileRow { entry: entry(n), map: vec![], damaged: vec![] }).collect();
    let object = write(&[pack(0)], &rows);
    assert_eq!(read(&object).unwrap().1, rows);
    assert!(object.len() < rows.len() * 90, "{} bytes for {} rows", object.len(), rows.len());
}

#[test]
fn every_truncation_is_noticed() {
    let object = write(&[pack(0)], &[]);
    for len in 0..object.len() {
        assert!(read(&object[..len]).is_err(), "length {len}");
    }
}

#[test]
fn hexadecimal_reads_back() {
    assert_eq!(from_hex(&to_hex(&[0, 1, 0xab, 0xff])), Some([0, 1, 0xab, 0xff]));
    assert_eq!(from_hex::<2>("AB12"), None);
    assert_eq!(from_hex::<2>("ab1"), None);
    assert_eq!(from_hex::<2>("ab1é"), None);
}
