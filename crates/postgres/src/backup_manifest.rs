//! `backup_manifest`: what `pg_basebackup` leaves beside the files, and `pg_verifybackup` checks them against
//! (PostgreSQL `backup_manifest.c`, `parse_manifest.c`; documentation: "Backup Manifest Format").
//!
//! ```text
//! { "PostgreSQL-Backup-Manifest-Version": 2, "System-Identifier": …,     the identifier from 17 on; before, version 1
//! "Files": [ path or encoded path, size, time, checksum … ],             all but what is in pg_wal
//! "WAL-Ranges": [ timeline, start, end ],                                what pg_verifybackup has pg_waldump read
//! "Manifest-Checksum": "…"}                                              SHA-256 of all lines above
//! ```
//!
//! Files' checksums are CRC-32C, which is `pg_basebackup`'s own default, and the only kind it knows that pages can be
//! added to in any order ([`ScatteredCrc`]): no file is read again for its checksum. It finds accidents, not forgers;
//! against those the pages were checked as they came out of the vault.

use std::collections::BTreeMap;
use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use crc32c::{crc32c_append, crc32c_combine};
use strongroom_model::entry::EntryPath;
use strongroom_model::{Lsn, SystemId, Timeline, Timestamp};

use crate::version::Major;

/// The file's name.
pub const BACKUP_MANIFEST: &str = "backup_manifest";

/// The first version whose manifests name the system.
const NAMES_SYSTEM: u16 = 17;

/// What a manifest says of the backup as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// Of the cluster.
    pub system_id: SystemId,
    /// The timeline of its WAL.
    pub timeline: Timeline,
    /// Where replay begins.
    pub start: Lsn,
    /// Where it must get to (exclusive).
    pub stop: Lsn,
}

/// What a manifest says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Bytes.
    pub size: u64,
    /// Last modification, seconds since 1970 UTC.
    pub modified: i64,
    /// CRC-32C of the content.
    pub crc: u32,
}

/// The manifest's text, in the version that servers of version `major` write.
pub fn backup_manifest(
    major: Major,
    backed_up: &BackedUp,
    files: &BTreeMap<EntryPath, ManifestFile>,
) -> String {
    let BackedUp { system_id, timeline, start, stop } = backed_up;
    let mut text = match major.number() >= NAMES_SYSTEM {
        true => format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {system_id},\n\"Files\": ["
        ),
        false => "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [".to_owned(),
    };
    for (number, (path, file)) in files.iter().enumerate() {
        text.push_str(if number == 0 { "\n" } else { ",\n" });
        push_file(&mut text, path, file);
    }
    text.push_str(&format!(
        "\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": {timeline}, \"Start-LSN\": \"{start}\", \"End-LSN\": \"{stop}\" }}\n],\n"
    ));
    let checksum = digest(&SHA256, text.as_bytes());
    text.push_str(&format!("\"Manifest-Checksum\": \"{}\"}}\n", hex(checksum.as_ref())));
    text
}

fn push_file(text: &mut String, path: &EntryPath, file: &ManifestFile) {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(path) => text.push_str(&format!("{{ \"Path\": {}, ", serde_json::Value::from(path))),
        // JSON has no words for other bytes.
        Err(_) => text.push_str(&format!("{{ \"Encoded-Path\": \"{}\", ", hex(path.as_bytes()))),
    }
    let epoch = Timestamp(jiff::Timestamp::UNIX_EPOCH);
    let modified = Timestamp::from_unix_seconds(file.modified).unwrap_or(epoch).0;
    text.push_str(&format!(
        "\"Size\": {}, \"Last-Modified\": \"{}\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{}\" }}",
        file.size,
        modified.strftime("%Y-%m-%d %H:%M:%S GMT"),
        // The server writes down the number's bytes as they lie in its memory, lowest first on every machine whose files we read.
        hex(&file.crc.to_le_bytes()),
    ));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot be refused.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The CRC-32C of a file of known size whose parts come in any order, each once; what never comes is zeros.
///
/// A CRC without its two inversions is linear: that of a file is the sum (exclusive or) of those of its parts, each as if
/// all around it were zeros. Zeros before a part change nothing; zeros behind it shift what it adds.
#[derive(Debug)]
pub struct ScatteredCrc {
    size: u64,
    sum: u32,
    /// The stretch being added to: where it began, where it ends, the CRC of its bytes.
    began: u64,
    end: u64,
    crc: u32,
}

impl ScatteredCrc {
    /// Of a file of `size` bytes.
    pub fn new(size: u64) -> ScatteredCrc {
        ScatteredCrc { size, sum: 0, began: 0, end: 0, crc: 0 }
    }

    /// Takes in the bytes at `offset`, which end within the file.
    pub fn add(&mut self, offset: u64, bytes: &[u8]) {
        if offset != self.end {
            self.fold();
            (self.began, self.end, self.crc) = (offset, offset, 0);
        }
        self.crc = crc32c_append(self.crc, bytes);
        self.end += bytes.len() as u64;
    }

    /// What the parts taken in add to the checksum of an all-zero file.
    pub fn sum(mut self) -> u32 {
        self.fold();
        self.sum
    }

    fn fold(&mut self) {
        let linear = self.crc ^ of_zeros(self.end - self.began);
        self.sum ^= shifted(linear, self.size.saturating_sub(self.end));
    }
}

/// The CRC-32C of `size` bytes, all zeros.
pub fn of_zeros(size: u64) -> u32 {
    !shifted(u32::MAX, size)
}

/// What a linear CRC becomes behind which `zeros` zero bytes follow. (No file has more bytes than a `usize` counts.)
fn shifted(linear: u32, zeros: u64) -> u32 {
    crc32c_combine(linear, 0, zeros as usize)
}

#[cfg(test)]
mod tests {
    use crc32c::crc32c;
    use proptest::prelude::*;

    use super::*;

    fn of(major: u16, files: &[(&[u8], u64, u32)]) -> String {
        let backed_up = BackedUp {
            system_id: SystemId(7_710_384_190_146_594_273),
            timeline: Timeline::new(3).unwrap(),
            start: Lsn(0x1_0200_0028),
            stop: Lsn(0x1_0200_0100),
        };
        let files = files.iter().map(|(path, size, crc)| {
            let file = ManifestFile { size: *size, modified: 1_700_000_000, crc: *crc };
            (EntryPath::new(*path).unwrap(), file)
        });
        backup_manifest(Major::new(major).unwrap(), &backed_up, &files.collect())
    }

    const AFTER: &str =
        "\"Last-Modified\": \"2023-11-14 22:13:20 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\":";

    #[test]
    fn a_manifest_is_as_the_server_writes_it() {
        let head = "{ \"PostgreSQL-Backup-Manifest-Version\"";
        let tail = "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 3, \"Start-LSN\": \"1/2000028\", \"End-LSN\": \"1/2000100\" }\n],\n";
        for (major, version, path, shown) in [
            (13, "1", &b"PG_VERSION"[..], "\"Path\": \"PG_VERSION\""),
            (16, "1", b"odd \" \\ \n name", r#""Path": "odd \" \\ \n name""#),
            (16, "1", "grün".as_bytes(), "\"Path\": \"grün\""),
            (
                17,
                "2,\n\"System-Identifier\": 7710384190146594273",
                b"base/1/\xff",
                "\"Encoded-Path\": \"626173652f312fff\"",
            ),
            (18, "2,\n\"System-Identifier\": 7710384190146594273", b"base/1/1", "\"Path\": \"base/1/1\""),
        ] {
            let lines = format!(
                "{head}: {version},\n\"Files\": [\n{{ {shown}, \"Size\": 3, {AFTER} \"0d0c0b0a\" }}{tail}"
            );
            let text = of(major, &[(path, 3, 0x0a0b_0c0d)]);
            let (before, checksum) = text.split_at(text.rfind("\"Manifest-Checksum\"").unwrap());
            assert_eq!(before, lines);
            let expected = hex(digest(&SHA256, lines.as_bytes()).as_ref());
            assert_eq!(checksum, format!("\"Manifest-Checksum\": \"{expected}\"}}\n"));
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn files_are_parted_by_commas_and_one_byte_changes_the_checksum() {
        let text = of(15, &[(b"b", 0, 0), (b"a", 1, 2), (b"c", 3, 4)]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let paths: Vec<_> = json["Files"].as_array().unwrap().iter().map(|file| &file["Path"]).collect();
        assert_eq!(paths, ["a", "b", "c"]);
        let other: serde_json::Value = serde_json::from_str(&of(15, &[(b"a", 1, 3)])).unwrap();
        assert_ne!(json["Manifest-Checksum"], other["Manifest-Checksum"]);
        // As `sha256sum` says, so that both sides of the test are not one mistake.
        assert_eq!(hex(digest(&SHA256, b"abc").as_ref())[..16], *"ba7816bf8f01cfea");
    }

    proptest! {
        #[test]
        fn parts_in_any_order_make_the_files_checksum(
            parts in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..90)), 0..9),
            order in any::<prop::sample::Index>(), empty in 0u64..200,
        ) {
            // Parts that do not come are zeros.
            let whole: Vec<u8> = parts.iter()
                .flat_map(|(comes, part)| part.iter().map(move |byte| if *comes { *byte } else { 0 }))
                .chain((0..empty).map(|_| 0))
                .collect();
            let mut at = 0;
            let mut coming: Vec<(u64, &[u8])> = parts.iter().map(|(comes, part)| {
                at += part.len() as u64;
                (at - part.len() as u64, if *comes { &part[..] } else { &[] })
            }).collect();
            let turn = order.index(coming.len().max(1));
            coming.rotate_left(turn);
            coming[..turn].reverse();
            // Two openings of one file: their sums are added.
            let (mut first, mut second) =
                (ScatteredCrc::new(whole.len() as u64), ScatteredCrc::new(whole.len() as u64));
            for (number, (offset, part)) in coming.into_iter().enumerate() {
                if number < turn { first.add(offset, part) } else { second.add(offset, part) }
            }
            prop_assert_eq!(of_zeros(whole.len() as u64) ^ first.sum() ^ second.sum(), crc32c(&whole));
        }
    }
}
