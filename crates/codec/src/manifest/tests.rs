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
        journal: Some(JournalRange {
            lineage: SystemId(u64::MAX),
            timeline: Timeline::FIRST,
            segment_size: SegmentSize::DEFAULT,
            start: Lsn(1),
            stop: Lsn(2),
        }),
        from_standby: false,
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
    let stored = (1u32..300, 0u32..3, any::<u32>());
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
        (prop::collection::vec(stored, 0..20), 1u64..8193).prop_map(|(runs, length)| {
            let mut map = Vec::new();
            let mut pages = 0;
            for (count, pack, page) in runs {
                map.push(Run { first: pages, count, place: Place::Pack { pack, page } });
                pages += count;
            }
            (EntryKind::Stream { size: u64::from(pages) * length, pages }, map, vec![])
        }),
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
    fn a_stream_that_cannot_be_is_refused(size: u64, pages in 0u32..4, zero: bool) {
        let entry = Entry {
            path: EntryPath::new("s").unwrap(),
            kind: EntryKind::Stream { size, pages },
            mode: 0,
            owner: Owner::default(),
            modified: 0,
        };
        let place = if zero { Place::Zero } else { Place::Pack { pack: 0, page: 0 } };
        let map = if pages == 0 { vec![] } else { vec![Run { first: 0, count: pages, place }] };
        let can_be = (u64::from(pages)..=u64::from(pages) * 8192).contains(&size) && (pages == 0 || !zero);
        prop_assert_eq!(read(&write(&[pack(0)], &[FileRow { entry, map, damaged: vec![] }])).is_ok(), can_be);
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
    assert!(object.len() < rows.len() * 20, "{} bytes for {} rows", object.len(), rows.len());
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

/// A link whose row takes this many bytes.
fn link(bytes: usize) -> FileRow {
    let entry = |target| Entry {
        path: EntryPath::new("link").unwrap(),
        kind: EntryKind::Link(vec![7; target]),
        mode: 0o777,
        owner: Owner::default(),
        modified: 0,
    };
    let row = |target| FileRow { entry: entry(target), map: vec![], damaged: vec![] };
    let len = |target| {
        let mut out = vec![b'F'];
        write_row(&mut out, &row(target));
        out.len()
    };
    let target = (bytes - 60..bytes).find(|target| len(*target) == bytes);
    row(target.unwrap())
}

#[test]
fn a_row_lies_in_one_chunk_and_one_that_is_longer_is_refused() {
    let long = [300, CHUNK_LIMIT - 20, CHUNK_LIMIT - 300, CHUNK_LIMIT, 300];
    let rows = long.map(link);
    assert!(read(&write(&[], &rows)).unwrap().1 == rows);
    let (key, vault) = (VaultKey::new([2; 32]), VaultId::new([1; 16]));
    let scope = StreamScope { suite: Suite::Plain, key: &key, vault: &vault, path: "m" };
    let mut writer = ManifestWriter::new(scope, [5; 16], &facts(), &[]).unwrap();
    assert!(writer.row(&link(CHUNK_LIMIT + 1)).is_err());
    // A short one after it is not: nothing of the long one was taken.
    assert!(writer.row(&link(100)).is_ok());
}

/// Nothing is left out and nothing added, by whoever could seal it.
#[test]
fn an_end_that_counts_otherwise_and_a_pack_that_is_not_there_are_refused() {
    let written = |spoil: fn(&mut ManifestWriter)| {
        let (key, vault) = (VaultKey::new([2; 32]), VaultId::new([1; 16]));
        let scope = StreamScope { suite: Suite::Aes256Gcm, key: &key, vault: &vault, path: "m" };
        let owners = [(facts().point, PointKey::new([4; 32], None))];
        let mut writer = ManifestWriter::new(scope, [5; 16], &facts(), &owners).unwrap();
        writer.pack(&pack(0)).unwrap();
        writer.row(&link(100)).unwrap();
        spoil(&mut writer);
        read(&writer.finish())
    };
    assert!(written(|_| ()).is_ok());
    assert!(written(|writer| writer.packs += 1).is_err());
    assert!(written(|writer| writer.rows += 1).is_err());
    let file = |pack| FileRow {
        entry: Entry { kind: EntryKind::File(1), ..link(100).entry },
        map: vec![Run { first: 0, count: 1, place: Place::Pack { pack, page: 0 } }],
        damaged: vec![],
    };
    assert!(read(&write(&[pack(0)], &[file(0)])).is_ok());
    assert!(read(&write(&[pack(0)], &[file(1)])).is_err());
}

#[test]
fn a_manifest_that_goes_on_behind_its_end_is_refused() {
    let (key, vault) = (VaultKey::new([2; 32]), VaultId::new([1; 16]));
    let scope = StreamScope { suite: Suite::Aes256Gcm, key: &key, vault: &vault, path: "m" };
    let mut writer = ManifestWriter::new(scope, [5; 16], &facts(), &[]).unwrap();
    writer.stream.push(b"E\0\0");
    writer.stream.push(b"E\0\0");
    assert!(read(&writer.stream.finish()).is_err());
}
