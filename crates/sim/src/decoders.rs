//! Every decoder of the format, given bytes from anywhere. One function per fuzz target; `./test` gives them damaged and drawn
//! bytes, and the targets in `fuzz/` go on from there.
//!
//! What is sealed is sealed here first: behind the seal a decoder meets what only a holder of the key could have written,
//! and without that a fuzzer would never get past the tag. None may panic, and none may allocate more than its input's
//! length or a fixed cap: `fuzz/` runs with a limit of 256 MiB an allocation.

use std::str::FromStr;

use strongroom_codec::compress::{Codec, Compression, decompress};
use strongroom_codec::header::{HEADER_SIZE, Header, Kind, Suite};
use strongroom_codec::keys::{PointKey, VaultKey};
use strongroom_codec::manifest::ManifestReader;
use strongroom_codec::pack::{PackReader, PackScope, TRAILER_SIZE, Trailer, pack_header};
use strongroom_codec::seal::{BlockPlace, BlockType, Sealer};
use strongroom_codec::stream::{StreamReader, StreamScope, StreamWriter};
use strongroom_model::audit::Entry;
use strongroom_model::drill::Drill;
use strongroom_model::history::TimelineHistory;
use strongroom_model::point::{Decision, Intent, JournalRange, PointFacts};
use strongroom_model::{
    ByteSize, Lsn, PointId, SegmentSize, SourceName, SystemId, Timeline, Timestamp, VaultId, WalFile,
    WalSegment,
};
use strongroom_store::address::StoreAddress;

/// A decoder.
pub type Decoder = fn(&[u8]);

/// Every one there is, by the name of its fuzz target.
pub const ALL: [(&str, Decoder); 8] = [
    ("header", header),
    ("compressed", compressed),
    ("stream", stream),
    ("manifest", manifest),
    ("manifest_rows", manifest_rows),
    ("pack", pack),
    ("footer", footer),
    ("names", names),
];

/// The front of every object.
pub fn header(data: &[u8]) {
    for kind in [Kind::Intent, Kind::Pack, Kind::Manifest, Kind::Journal, Kind::Sweep] {
        let _ = Header::read(data, kind);
    }
}

/// A block as it comes out of its seal: codec, length, bytes.
pub fn compressed(data: &[u8]) {
    let [codec, len, rest @ ..] = data else { return };
    let Ok(codec) = Codec::read(codec % 3) else { return };
    let _ = decompress(codec, rest, &mut vec![0; usize::from(*len) * 1024]);
}

fn scope<'a>(key: &'a VaultKey, vault: &'a VaultId) -> StreamScope<'a> {
    StreamScope { suite: Suite::Plain, key, vault, path: "p" }
}

/// A whole object, as a store gave it.
pub fn stream(data: &[u8]) {
    let (key, vault) = (VaultKey::public(), VaultId::new([1; 16]));
    for kind in [Kind::Journal, Kind::Decision, Kind::Sweep, Kind::Audit] {
        let Ok(mut reader) = StreamReader::new(scope(&key, &vault), kind, data) else { continue };
        while let Ok(Some(record)) = reader.next_chunk() {
            let _ = serde_json::from_slice::<Decision>(&record);
            let _ = serde_json::from_slice::<Intent>(&record);
            let _ = serde_json::from_slice::<Drill>(&record);
            let _ = serde_json::from_slice::<Entry>(&record);
        }
    }
}

/// A manifest, as a store gave it.
pub fn manifest(data: &[u8]) {
    let (key, vault) = (VaultKey::public(), VaultId::new([1; 16]));
    let Ok(mut reader) = ManifestReader::new(scope(&key, &vault), data) else { return };
    while let Ok(Some(_)) = reader.next_row() {}
}

/// A manifest whose records a holder of the key wrote.
pub fn manifest_rows(data: &[u8]) {
    manifest(&sealed_manifest(data));
}

fn sealed_manifest(records: &[u8]) -> Vec<u8> {
    let (key, vault) = (VaultKey::public(), VaultId::new([1; 16]));
    let mut writer = StreamWriter::new(scope(&key, &vault), Kind::Manifest, [2; 16]);
    writer.push(&front());
    writer.push(records);
    writer.finish()
}

/// Facts and owners as a manifest begins with.
fn front() -> Vec<u8> {
    let at = Timestamp::from_unix_seconds(0).unwrap_or_else(|| unreachable!("1970 is a year"));
    let point = PointId::new(at, [1; 4]);
    let Ok(source) = "a".parse() else { unreachable!("'a' is a source's name") };
    let journal = JournalRange {
        lineage: SystemId(42),
        timeline: Timeline::FIRST,
        segment_size: SegmentSize::DEFAULT,
        start: Lsn(1 << 24),
        stop: Lsn((1 << 24) + 100),
    };
    let facts = PointFacts {
        point: point.clone(),
        source,
        engine: "toy".into(),
        product: "Toy".into(),
        parent: None,
        started_at: at,
        stopped_at: at,
        journal: Some(journal),
        from_standby: false,
        engine_facts: serde_json::Value::Null,
    };
    let owner = serde_json::json!({ "point": point, "key": "01".repeat(32) });
    serde_json::json!({ "facts": facts, "owners": [owner] }).to_string().into_bytes()
}

fn open(header: &[u8], trailer: &Trailer, footer: &[u8]) -> Option<PackReader> {
    let (key, vault) = (PointKey::new([1; 32], None), VaultId::new([1; 16]));
    let fingerprints = VaultKey::public().fingerprint_key(Suite::Plain);
    let scope = PackScope { key: &key, fingerprints: &fingerprints, vault: &vault, path: "p" };
    PackReader::open(scope, header, trailer, footer).ok()
}

/// A pack, as a store gave it.
pub fn pack(data: &[u8]) {
    let Some(at) = data.len().checked_sub(TRAILER_SIZE) else { return };
    let Ok(trailer) = Trailer::read(&data[at..], data.len() as u64) else { return };
    let footer = trailer.footer();
    let _ = open(data, &trailer, &data[footer.start as usize..footer.end as usize]);
}

/// A pack whose footer a holder of the key wrote: the first byte says how many frames its trailer names.
pub fn footer(data: &[u8]) {
    let Some(reader) = data.split_first().and_then(|(frames, footer)| with_footer(*frames, footer)) else {
        return;
    };
    for page in 0..reader.pages().min(64) {
        let _ = reader.frame_of(page);
    }
    for (index, frame) in reader.frames().iter().enumerate().take(8) {
        let _ = frame.page_range(0);
        let _ = reader.read_frame(index, &mut [0; 64], &mut Vec::new());
    }
}

fn with_footer(frames: u8, footer: &[u8]) -> Option<PackReader> {
    let (key, vault) = (PointKey::new([1; 32], None), VaultId::new([1; 16]));
    let header = pack_header(Suite::Plain, [3; 16]);
    let place = BlockPlace {
        block_type: BlockType::Footer,
        index: 0,
        codec: Codec::Raw,
        raw_len: footer.len() as u32,
    };
    let mut sealed = footer.to_vec();
    let tag = Sealer::for_footer(&key, &header, &vault, "p").seal(&place, &mut sealed);
    sealed.extend_from_slice(&tag);
    let mut trailer = (HEADER_SIZE as u64).to_le_bytes().to_vec();
    trailer.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
    trailer.extend_from_slice(&place.raw_len.to_le_bytes());
    trailer.extend_from_slice(&u32::from(frames).to_le_bytes());
    trailer.extend_from_slice(&[Codec::Raw as u8, 0, 0, 0]);
    trailer.extend_from_slice(b"STRGPEND");
    let size = (HEADER_SIZE + sealed.len() + TRAILER_SIZE) as u64;
    open(&header.write(), &Trailer::read(&trailer, size).ok()?, &sealed)
}

/// Names and values that people, servers and stores write.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = SourceName::from_str(text);
    let _ = PointId::from_str(text);
    let _ = VaultId::from_str(text);
    let _ = ByteSize::from_str(text);
    let _ = Compression::from_str(text);
    let _ = StoreAddress::parse(text);
    let _ = TimelineHistory::parse(Timeline::FIRST, text);
    if let Ok(file) = WalFile::parse_kept(text) {
        assert_eq!(
            WalFile::parse_kept(&file.to_string()).ok(),
            Some(file),
            "a WAL file's name reads back as itself"
        );
    }
    if let Some(segment) = WalSegment::parse(text) {
        assert_eq!(WalSegment::parse(&segment.to_string()), Some(segment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sealed here opens: otherwise no drawn byte would ever come behind a seal.
    #[test]
    fn the_seals_open() {
        let (key, vault) = (VaultKey::public(), VaultId::new([1; 16]));
        let object = sealed_manifest(b"E\x00\x00");
        let reader = ManifestReader::new(scope(&key, &vault), &object);
        assert!(reader.is_ok_and(|mut reader| matches!(reader.next_row(), Ok(None))));
        assert!(with_footer(0, &[0]).is_some_and(|reader| reader.pages() == 0));
    }
}
