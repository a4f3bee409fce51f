//! WAL written here record by record, read back; the same bytes damaged. Real servers' WAL: `tests/files.rs`.

use proptest::prelude::*;

use super::*;

const SYSTEM: SystemId = SystemId(7_301_234_567_890_123_456);
const MIB: u64 = 1 << 20;

/// Lays out records on the pages of consecutive 1 MiB segments, as the server does.
struct Writer {
    major: Major,
    start: u64,
    bytes: Vec<u8>,
}

impl Writer {
    fn new(major: u16, start: u64) -> Writer {
        Writer { major: Major::new(major).unwrap(), start, bytes: Vec::new() }
    }

    fn put(&mut self, mut rest: &[u8]) {
        let mut begun = false;
        while !rest.is_empty() {
            if self.bytes.len().is_multiple_of(PAGE_SIZE) {
                self.page(if begun { rest.len() } else { 0 });
            }
            let room = PAGE_SIZE - self.bytes.len() % PAGE_SIZE;
            let (here, later) = rest.split_at(rest.len().min(room));
            self.bytes.extend_from_slice(here);
            (rest, begun) = (later, true);
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    fn page(&mut self, remaining: usize) {
        let address = self.start + self.bytes.len() as u64;
        let long = address.is_multiple_of(MIB);
        let info = if remaining > 0 { PAGE_CONTINUES } else { 0 } | if long { PAGE_LONG } else { 0 };
        self.bytes.extend_from_slice(&self.major.wal_magic().to_le_bytes());
        self.bytes.extend_from_slice(&info.to_le_bytes());
        self.bytes.extend_from_slice(&2u32.to_le_bytes());
        self.bytes.extend_from_slice(&address.to_le_bytes());
        self.bytes.extend_from_slice(&(remaining as u64).to_le_bytes());
        if long {
            self.bytes.extend_from_slice(&SYSTEM.0.to_le_bytes());
            self.bytes.extend_from_slice(&(MIB as u32).to_le_bytes());
            self.bytes.extend_from_slice(&(PAGE_SIZE as u32).to_le_bytes());
        }
    }

    /// The segments written, the last filled up with zeros.
    fn segments(mut self) -> Vec<Vec<u8>> {
        self.bytes.resize(self.bytes.len().next_multiple_of(MIB as usize), 0);
        self.bytes.chunks(MIB as usize).map(<[u8]>::to_vec).collect()
    }
}

fn record(manager: u8, info: u8, xid: u32, main: &[u8]) -> Vec<u8> {
    let mut record = vec![0; RECORD_HEADER];
    if main.len() < 256 {
        record.extend_from_slice(&[255, main.len() as u8]);
    } else {
        record.push(254);
        record.extend_from_slice(&(main.len() as u32).to_le_bytes());
    }
    record.extend_from_slice(main);
    let total = record.len() as u32;
    record[..4].copy_from_slice(&total.to_le_bytes());
    record[4..8].copy_from_slice(&xid.to_le_bytes());
    record[16..18].copy_from_slice(&[info, manager]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&record[RECORD_HEADER..]), &record[..20]);
    record[20..24].copy_from_slice(&crc.to_le_bytes());
    record
}

/// A commit `seconds` after 2000-01-01, of any size.
fn commit(xid: u32, seconds: i64, padding: usize) -> Vec<u8> {
    let mut main = (seconds * 1_000_000).to_le_bytes().to_vec();
    main.resize(8 + padding, 0);
    record(1, 0, xid, &main)
}

fn second(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros(seconds * 1_000_000 + EPOCH_MICROS).unwrap()
}

fn events(segments: &[Vec<u8>]) -> Vec<WalEvent> {
    let (mut scan, mut events) = (Scan::default(), Vec::new());
    for segment in segments {
        scan.segment(segment, &mut |event| events.push(event));
    }
    events
}

fn commits(segments: &[Vec<u8>]) -> Vec<(u32, Timestamp)> {
    let commit = |event| match event {
        WalEvent::Commit { xid, at, .. } => Some((xid, at)),
        _ => None,
    };
    events(segments).into_iter().filter_map(commit).collect()
}

/// Segment 5 of timeline 2, with one commit.
fn segment() -> Vec<u8> {
    let mut writer = Writer::new(15, 5 * MIB);
    writer.put(&commit(7, 100, 0));
    writer.segments().remove(0)
}

#[test]
fn a_segment_must_be_the_one_its_name_says() {
    let name =
        |timeline: u32, low: u32| WalSegment::parse(&format!("{timeline:08X}00000000{low:08X}")).unwrap();
    let good = segment();
    let facts = check_segment(&good, name(2, 5), SYSTEM).unwrap();
    assert_eq!((facts.major.number(), facts.start, facts.size.bytes()), (15, Lsn(5 * MIB), MIB));
    assert!(
        check_segment(&good, name(3, 5), SYSTEM).is_ok(),
        "a new timeline begins with a copy of the old one"
    );

    let refused = |bytes: &[u8], name, system| check_segment(bytes, name, system).unwrap_err();
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        refused(&bytes, name(2, 5), SYSTEM)
    };
    assert!(matches!(refused(&good, name(2, 5), SystemId(1)), WalError::ForeignSystem { .. }));
    assert!(matches!(refused(&good, name(2, 6), SYSTEM), WalError::ForeignPlace { .. }));
    assert!(matches!(refused(&good, name(1, 5), SYSTEM), WalError::ForeignTimeline { .. }));
    assert!(matches!(refused(&good, name(2, 5000), SYSTEM), WalError::Name { .. }));
    assert!(matches!(refused(&good[..good.len() - 1], name(2, 5), SYSTEM), WalError::Size { .. }));
    assert!(matches!(refused(&good[..39], name(2, 5), SYSTEM), WalError::Header { .. }));
    assert!(matches!(refused(&[], name(2, 5), SYSTEM), WalError::NotWal { magic: 0 }));
    assert!(matches!(changed(0, 0xFF), WalError::NotWal { magic: 0xD1FF }));
    assert!(matches!(changed(2, 0), WalError::Header { field: "its flags word", .. }));
    assert!(matches!(changed(4, 0), WalError::Header { field: "the timeline", .. }));
    assert!(matches!(changed(34, 0x11), WalError::Header { field: "the segment size", .. }));
    assert!(matches!(changed(37, 0x40), WalError::BlockSize(16384)));
}

#[test]
fn each_kind_of_event_is_seen_once() {
    let mut writer = Writer::new(15, 5 * MIB);
    let time = |seconds: i64| (seconds * 1_000_000).to_le_bytes().to_vec();
    let mut point = time(3);
    point.extend_from_slice(b"before the change");
    point.resize(72, 0);
    // A prepared transaction's commit: database, two subtransactions, one dropped relation, one dropped statistic, an
    // invalidation, then its number.
    let mut prepared = time(4);
    prepared.extend_from_slice(&0b1_0001_1111u32.to_le_bytes());
    prepared.extend_from_slice(&[0; 8]);
    for (count, item) in [(2u32, 4), (1, 12), (1, 12), (1, 16)] {
        prepared.extend_from_slice(&count.to_le_bytes());
        prepared.resize(prepared.len() + count as usize * item, 0xEE);
    }
    prepared.extend_from_slice(&777u32.to_le_bytes());
    writer.put(&commit(10, 1, 0));
    writer.put(&record(1, 0x20, 11, &time(2)));
    writer.put(&record(0, 0x70, 0, &point));
    writer.put(&record(1, 0x80 | 0x30, 0, &prepared));
    writer.put(&record(1, 0x50, 12, &time(5)));
    writer.put(&record(10, 0x00, 13, &time(6)));
    let segments = writer.segments();
    let seen = events(&segments);
    assert_eq!(seen.len(), 4);
    assert!(matches!(seen[0], WalEvent::Commit { xid: 10, at, lsn: Lsn(0x500028), .. } if at == second(1)));
    assert!(matches!(seen[1], WalEvent::Abort { xid: 11, at, .. } if at == second(2)));
    assert!(
        matches!(&seen[2], WalEvent::RestorePoint { name, at, .. } if name == "before the change" && *at == second(3))
    );
    assert!(matches!(seen[3], WalEvent::Commit { xid: 777, at, .. } if at == second(4)));
    assert_eq!(commit_times(&segments[0]), Some((second(1), second(4))));
}

#[test]
fn nothing_after_a_switch_counts() {
    let mut writer = Writer::new(15, 5 * MIB);
    writer.put(&commit(10, 1, 0));
    writer.put(&record(0, 0x40, 0, &[]));
    writer.put(&commit(11, 2, 0));
    assert_eq!(commits(&writer.segments()), [(10, second(1))]);
}

#[test]
fn a_record_whose_rest_is_elsewhere_is_dropped() {
    let mut writer = Writer::new(15, 5 * MIB);
    writer.put(&commit(10, 1, MIB as usize));
    writer.put(&commit(11, 2, 0));
    let segments = writer.segments();
    assert_eq!(commits(&segments), [(10, second(1)), (11, second(2))]);
    assert_eq!(commits(&segments[1..]), [(11, second(2))], "the first half is not known");
    assert_eq!(commits(&[segments[1].clone(), segments[0].clone()]), [(11, second(2))]);
    assert_eq!(commit_times(&segments[0]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_of_any_length_read_back(padding in proptest::collection::vec(0usize..40_000, 1..120), major in 13u16..=18) {
        let mut writer = Writer::new(major, 0xFFF * MIB);
        for (xid, padding) in padding.iter().enumerate() {
            writer.put(&commit(xid as u32 + 3, xid as i64, *padding));
        }
        let expected: Vec<_> = (0..padding.len()).map(|xid| (xid as u32 + 3, second(xid as i64))).collect();
        prop_assert_eq!(commits(&writer.segments()), expected);
    }

    #[test]
    fn a_damaged_record_ends_the_walk_before_it(records in 2usize..50, hit in 0usize..50, bit in 0u8..8) {
        let mut writer = Writer::new(15, 5 * MIB);
        for xid in 0..records {
            writer.put(&commit(xid as u32, xid as i64, 0));
        }
        let mut segments = writer.segments();
        let whole = events(&segments);
        let hit = hit % records;
        let WalEvent::Commit { lsn, .. } = whole[hit] else { unreachable!("only commits were written") };
        segments[0][(lsn.0 % MIB) as usize + 26] ^= 1 << bit;
        prop_assert_eq!(events(&segments), &whole[..hit]);
    }

    #[test]
    fn no_bytes_panic(at in 0usize..3 * PAGE_SIZE, junk in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..4 * PAGE_SIZE) {
        let mut writer = Writer::new(18, 5 * MIB);
        (0..200).for_each(|xid| writer.put(&commit(xid, 0, 300)));
        let mut segments = writer.segments();
        segments[0][at..at + junk.len()].copy_from_slice(&junk);
        let length = segments[0].len() - cut;
        segments[0].truncate(length);
        let _ = events(&segments);
        let _ = events(&[junk]);
    }
}
