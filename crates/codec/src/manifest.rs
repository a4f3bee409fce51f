//! The manifest: a stream whose first chunk is the point's facts, then packs, then one row per file.
//!
//! ```text
//! chunk 0   JSON: point facts, and the keys of every point that owns a pack
//! chunk 1…  records: 'P' pack (owner, number, nonce, size, hash)     all packs before the first row
//!                    'F' row  (kind, path, mode, owner, modified, size, runs, damaged pages; of a stream: size, pages, runs)
//!                    'E' end  (number of packs, number of rows)      a manifest without it is not whole
//! ```
//!
//! A record never spans chunks, so a reader holds one chunk at a time: memory does not grow with the database.

use serde::{Deserialize, Serialize};
use strongroom_model::PointId;
use strongroom_model::entry::{Entry, EntryKind, EntryPath, Owner};
use strongroom_model::page::{PAGE_SIZE, Place, Run, check_map, page_count};
use strongroom_model::point::{FileRow, PackRef, PointFacts};
use zeroize::Zeroizing;

use crate::header::Kind;
use crate::keys::{ContentKey, PointKey};
use crate::stream::{CHUNK_LIMIT, StreamError, StreamReader, StreamScope, StreamWriter};
use crate::wire::{Malformed, WireReader, put_bytes, put_varint};

/// A chunk of records is closed once it is longer than this.
const CHUNK_TARGET: usize = 256 << 10;

/// A manifest that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The object itself: damaged, cut short, sealed with another key.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A record does not follow the format.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The facts are not the JSON they should be.
    #[error("the facts do not read")]
    Facts(#[source] serde_json::Error),
}

/// The first chunk.
#[derive(Serialize, Deserialize)]
struct Front {
    facts: PointFacts,
    owners: Vec<OwnerKey>,
}

#[derive(Serialize, Deserialize)]
struct OwnerKey {
    point: PointId,
    key: String,
    /// The content key, encapsulated, where the suite has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_key: Option<String>,
}

/// Writes a manifest: facts, then packs, then rows.
pub struct ManifestWriter {
    stream: StreamWriter,
    chunk: Vec<u8>,
    owners: Vec<PointId>,
    packs: u64,
    rows: u64,
}

impl ManifestWriter {
    /// A manifest with these facts. `owners` are the points that own packs, each with its key.
    pub fn new(
        scope: StreamScope<'_>,
        nonce: [u8; 16],
        facts: &PointFacts,
        owners: &[(PointId, PointKey)],
    ) -> Result<ManifestWriter, ManifestError> {
        let front = Front {
            facts: facts.clone(),
            owners: owners
                .iter()
                .map(|(point, key)| OwnerKey {
                    point: point.clone(),
                    key: to_hex(key.expose()),
                    content_key: key.content().map(|content| to_hex(content.encapsulated())),
                })
                .collect(),
        };
        let mut stream = StreamWriter::new(scope, Kind::Manifest, nonce);
        let front = Zeroizing::new(serde_json::to_vec(&front).map_err(ManifestError::Facts)?);
        if front.len() > CHUNK_LIMIT {
            return Err(Malformed { what: "facts longer than a chunk" }.into());
        }
        stream.push(&front);
        let owners = owners.iter().map(|(point, _)| point.clone()).collect();
        Ok(ManifestWriter { stream, chunk: Vec::new(), owners, packs: 0, rows: 0 })
    }

    /// Adds a pack. Its owner must be among the owners.
    pub fn pack(&mut self, pack: &PackRef) -> Result<(), ManifestError> {
        let owner = self.owners.iter().position(|owner| *owner == pack.owner);
        let owner = owner.ok_or(Malformed { what: "pack owner" })?;
        self.chunk.push(b'P');
        put_varint(&mut self.chunk, owner as u64);
        put_varint(&mut self.chunk, u64::from(pack.number));
        self.chunk.extend_from_slice(&pack.nonce);
        put_varint(&mut self.chunk, pack.size);
        self.chunk.extend_from_slice(&pack.hash);
        self.packs += 1;
        self.spill(CHUNK_TARGET);
        Ok(())
    }

    /// Adds a row. A row longer than a chunk (a 1 GiB file of wholly scattered pages has one of under 1 MiB) is refused.
    pub fn row(&mut self, row: &FileRow) -> Result<(), ManifestError> {
        let mut record = vec![b'F'];
        write_row(&mut record, row);
        if record.len() > CHUNK_LIMIT {
            return Err(Malformed { what: "file row longer than a chunk" }.into());
        }
        if self.chunk.len() + record.len() > CHUNK_LIMIT {
            self.spill(0);
        }
        self.chunk.extend_from_slice(&record);
        self.rows += 1;
        self.spill(CHUNK_TARGET);
        Ok(())
    }

    fn spill(&mut self, above: usize) {
        if self.chunk.len() > above {
            self.stream.push(&self.chunk);
            self.chunk.clear();
        }
    }

    /// Ends the manifest and gives the object's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.spill(CHUNK_TARGET);
        self.chunk.push(b'E');
        put_varint(&mut self.chunk, self.packs);
        put_varint(&mut self.chunk, self.rows);
        self.stream.push(&self.chunk);
        self.stream.finish()
    }
}

fn write_row(out: &mut Vec<u8>, row: &FileRow) {
    let Entry { path, kind, mode, owner, modified } = &row.entry;
    out.push(match kind {
        EntryKind::Folder => 0,
        EntryKind::Link(_) => 1,
        EntryKind::File(_) => 2,
        EntryKind::Stream { .. } => 3,
    });
    put_bytes(out, path.as_bytes());
    put_varint(out, u64::from(*mode));
    put_varint(out, u64::from(owner.uid));
    put_varint(out, u64::from(owner.gid));
    put_bytes(out, owner.user.as_deref().unwrap_or_default().as_bytes());
    put_bytes(out, owner.group.as_deref().unwrap_or_default().as_bytes());
    put_varint(out, zigzag(*modified));
    match kind {
        EntryKind::Folder => {}
        EntryKind::Link(target) => put_bytes(out, target),
        EntryKind::File(size) => {
            put_varint(out, *size);
            write_map(out, &row.map);
            put_varint(out, row.damaged.len() as u64);
            row.damaged.iter().for_each(|page| put_varint(out, u64::from(*page)));
        }
        EntryKind::Stream { size, pages } => {
            put_varint(out, *size);
            put_varint(out, u64::from(*pages));
            write_map(out, &row.map);
        }
    }
}

fn write_map(out: &mut Vec<u8>, map: &[Run]) {
    put_varint(out, map.len() as u64);
    for run in map {
        // The first page follows from the run before; zero stands for "all zeros", n + 1 for pack n.
        put_varint(out, u64::from(run.count));
        match run.place {
            Place::Zero => put_varint(out, 0),
            Place::Pack { pack, page } => {
                put_varint(out, u64::from(pack) + 1);
                put_varint(out, u64::from(page));
            }
        }
    }
}

/// Reads a manifest front to back.
pub struct ManifestReader<'a> {
    stream: StreamReader<'a>,
    facts: PointFacts,
    owners: Vec<(PointId, PointKey)>,
    packs: Vec<PackRef>,
    chunk: Vec<u8>,
    at: usize,
    rows: u64,
    ended: bool,
}

impl<'a> ManifestReader<'a> {
    /// Opens `object`: the facts and all packs are read, rows follow by [`ManifestReader::next_row`].
    pub fn new(scope: StreamScope<'_>, object: &'a [u8]) -> Result<Self, ManifestError> {
        let mut stream = StreamReader::new(scope, Kind::Manifest, object)?;
        let front = Zeroizing::new(stream.next_chunk()?.ok_or(Malformed { what: "manifest" })?);
        let front: Front = serde_json::from_slice(&front).map_err(ManifestError::Facts)?;
        let owners = front.owners.iter().map(|owner| {
            let malformed = Malformed { what: "owner key" };
            let key = from_hex::<32>(&owner.key).ok_or(malformed)?;
            let content = owner.content_key.as_deref().map(|text| hex_bytes(text).ok_or(malformed));
            let content = content.transpose()?.map(ContentKey::closed);
            Ok((owner.point.clone(), PointKey::new(key, content)))
        });
        let owners = owners.collect::<Result<Vec<_>, Malformed>>()?;
        let mut reader = ManifestReader {
            stream,
            facts: front.facts,
            owners,
            packs: Vec::new(),
            chunk: Vec::new(),
            at: 0,
            rows: 0,
            ended: false,
        };
        reader.read_packs()?;
        Ok(reader)
    }

    /// The point's facts.
    pub fn facts(&self) -> &PointFacts {
        &self.facts
    }

    /// Every pack the point refers to; a page map's pack number is an index into these.
    pub fn packs(&self) -> &[PackRef] {
        &self.packs
    }

    /// The keys of the points that own packs.
    pub fn owners(&self) -> &[(PointId, PointKey)] {
        &self.owners
    }

    fn fill(&mut self) -> Result<(), ManifestError> {
        while self.at == self.chunk.len() {
            self.chunk = self.stream.next_chunk()?.ok_or(Malformed { what: "manifest without an end" })?;
            self.at = 0;
        }
        Ok(())
    }

    fn read_packs(&mut self) -> Result<(), ManifestError> {
        loop {
            self.fill()?;
            if self.chunk[self.at] != b'P' {
                return Ok(());
            }
            let mut reader = WireReader::new(&self.chunk[self.at + 1..], "pack record");
            let owner = reader.varint()?;
            let owner =
                self.owners.get(usize::try_from(owner).unwrap_or(usize::MAX)).ok_or(reader.malformed())?;
            self.packs.push(PackRef {
                owner: owner.0.clone(),
                number: reader.varint32()?,
                nonce: reader.array()?,
                size: reader.varint()?,
                hash: reader.array()?,
            });
            self.at = self.chunk.len() - reader.remaining();
        }
    }

    /// The next row; `None` once the manifest proved whole.
    pub fn next_row(&mut self) -> Result<Option<FileRow>, ManifestError> {
        if self.ended {
            return Ok(None);
        }
        self.fill()?;
        let mut reader = WireReader::new(&self.chunk[self.at + 1..], "file row");
        match self.chunk[self.at] {
            b'F' => {
                let row = read_row(&mut reader, self.packs.len())?;
                self.at = self.chunk.len() - reader.remaining();
                self.rows += 1;
                Ok(Some(row))
            }
            b'E' => {
                let (packs, rows) = (reader.varint()?, reader.varint()?);
                reader.end()?;
                if packs != self.packs.len() as u64
                    || rows != self.rows
                    || self.stream.next_chunk()?.is_some()
                {
                    return Err(Malformed { what: "manifest end" }.into());
                }
                self.ended = true;
                Ok(None)
            }
            _ => Err(reader.malformed().into()),
        }
    }
}

fn read_row(reader: &mut WireReader<'_>, packs: usize) -> Result<FileRow, Malformed> {
    let kind = reader.u8()?;
    let path = EntryPath::new(reader.bytes()?).map_err(|_| reader.malformed())?;
    let mode = reader.varint32()?;
    let (uid, gid) = (reader.varint32()?, reader.varint32()?);
    let (user, group) = (read_name(reader)?, read_name(reader)?);
    let modified = unzigzag(reader.varint()?);
    let (mut map, mut damaged) = (Vec::new(), Vec::new());
    let kind = match kind {
        0 => EntryKind::Folder,
        1 => EntryKind::Link(reader.bytes()?.to_vec()),
        2 => {
            let size = reader.varint()?;
            let pages = page_count(size).ok_or(reader.malformed())?;
            map = read_map(reader, pages, packs)?;
            for _ in 0..reader.count(1)? {
                damaged.push(reader.varint32()?);
            }
            EntryKind::File(size)
        }
        3 => {
            let (size, pages) = (reader.varint()?, reader.varint32()?);
            map = read_map(reader, pages, packs)?;
            let stored = map.iter().all(|run| run.place != Place::Zero);
            if !stored || size > u64::from(pages) * PAGE_SIZE as u64 || size < u64::from(pages) {
                return Err(reader.malformed());
            }
            EntryKind::Stream { size, pages }
        }
        _ => return Err(reader.malformed()),
    };
    let owner = Owner { uid, gid, user, group };
    Ok(FileRow { entry: Entry { path, kind, mode, owner, modified }, map, damaged })
}

fn read_map(reader: &mut WireReader<'_>, pages: u32, packs: usize) -> Result<Vec<Run>, Malformed> {
    let count = reader.count(2)?;
    let mut map = Vec::with_capacity(count);
    let mut first = 0u32;
    for _ in 0..count {
        let count = reader.varint32()?;
        let place = match reader.varint32()? {
            0 => Place::Zero,
            pack if (pack as usize) <= packs => Place::Pack { pack: pack - 1, page: reader.varint32()? },
            _ => return Err(reader.malformed()),
        };
        map.push(Run { first, count, place });
        first = first.checked_add(count).ok_or(reader.malformed())?;
    }
    check_map(&map, pages).map_err(|_| Malformed { what: "page map" })?;
    Ok(map)
}

fn read_name(reader: &mut WireReader<'_>) -> Result<Option<String>, Malformed> {
    let bytes = reader.bytes()?;
    let name = std::str::from_utf8(bytes).map_err(|_| reader.malformed())?;
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(bytes.len() * 2);
    bytes.iter().for_each(|byte| {
        let _ = write!(out, "{byte:02x}");
    });
    out
}

/// Bytes from lower-case hexadecimal.
pub fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let byte = |pair: &[u8; 2]| from_hex::<1>(std::str::from_utf8(pair).ok()?).map(|[byte]| byte);
    pairs.iter().map(byte).collect()
}

/// Exactly `N` bytes from lower-case hexadecimal.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if digits.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests;
