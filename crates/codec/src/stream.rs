//! Streams: everything in a vault that is not a pack. A header, then sealed chunks, the last marked as such.
//!
//! ```text
//! | header 32 | chunk 0 | chunk 1 | … | last chunk |
//! chunk: | stored length u32 | raw length u32 | codec u8 | last u8 | ciphertext ‖ tag |
//! ```
//!
//! A stream cut short lacks its last chunk, one with bytes added has too many: neither reads.

use strongroom_model::VaultId;

use crate::compress::{Codec, Compression, Compressor, decompress};
use crate::header::{HEADER_SIZE, Header, HeaderError, Kind, Suite};
use crate::keys::{ContentKey, VaultKey};
use crate::seal::{BlockPlace, BlockType, NotAuthentic, Sealer};
use crate::wire::{Malformed, WireReader};

/// The longest chunk before compression: what a reader may have to allocate.
pub const CHUNK_LIMIT: usize = 4 << 20;

/// Bytes of a chunk's clear header.
const CHUNK_HEADER_SIZE: usize = 10;

/// A stream that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Its header is not of this format or kind.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Its structure is broken: cut short, extended or damaged.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A chunk does not open.
    #[error(transparent)]
    NotAuthentic(#[from] NotAuthentic),
}

/// What a stream is sealed for.
#[derive(Clone, Copy)]
pub struct StreamScope<'a> {
    /// The vault's suite: an object of another is none of its own.
    pub suite: Suite,
    /// The vault's append key.
    pub key: &'a VaultKey,
    /// The vault's id.
    pub vault: &'a VaultId,
    /// The object's key in the store.
    pub path: &'a str,
}

/// Writes a stream, chunk by chunk.
pub struct StreamWriter {
    header: Header,
    sealer: Sealer,
    compressor: Compressor,
    out: Vec<u8>,
    pending: Option<Vec<u8>>,
    index: u32,
}

impl StreamWriter {
    /// A stream of this kind, told apart from all others by `nonce`.
    pub fn new(scope: StreamScope<'_>, kind: Kind, nonce: [u8; 16]) -> StreamWriter {
        let header = Header { kind, suite: scope.suite, nonce };
        StreamWriter {
            header,
            sealer: Sealer::for_object(scope.key, &header, scope.vault, scope.path),
            compressor: Compressor::new(Compression::default()),
            out: header.write().to_vec(),
            pending: None,
            index: 0,
        }
    }

    /// Adds a chunk of at most [`CHUNK_LIMIT`] bytes; a longer one is split.
    pub fn push(&mut self, chunk: &[u8]) {
        for part in chunk.chunks(CHUNK_LIMIT) {
            if let Some(pending) = self.pending.replace(part.to_vec()) {
                self.write(&pending, BlockType::Chunk);
            }
        }
    }

    /// Seals what is added from here on with a content key, which must be open.
    pub fn seal_rest(&mut self, key: &ContentKey) {
        if let Some(pending) = self.pending.take() {
            self.write(&pending, BlockType::Chunk);
        }
        let sealer = self.sealer.for_content(key, &self.header);
        self.sealer = sealer.unwrap_or_else(|| unreachable!("a closed content key was to seal"));
    }

    /// Adds chunks of at most [`CHUNK_LIMIT`] bytes each, compressed and sealed by up to `threads` threads: a WAL segment
    /// is shipped while the server waits, and compression is most of that time.
    pub fn push_all(&mut self, chunks: &[&[u8]], threads: usize) {
        let Some((last, others)) = chunks.split_last().filter(|_| threads > 1) else {
            return chunks.iter().for_each(|chunk| self.push(chunk));
        };
        if let Some(pending) = self.pending.replace(last.to_vec()) {
            self.write(&pending, BlockType::Chunk);
        }
        let (sealer, first) = (&self.sealer, self.index);
        let share = others.len().div_ceil(threads).max(1);
        let encoded: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..)
                .step_by(share)
                .zip(others.chunks(share))
                .map(|(offset, part)| {
                    scope.spawn(move || {
                        let mut compressor = Compressor::new(Compression::default());
                        let mut out = Vec::new();
                        for (index, chunk) in (first + offset..).zip(part) {
                            encode(sealer, &mut compressor, (BlockType::Chunk, index), chunk, &mut out);
                        }
                        out
                    })
                })
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        self.out.extend(encoded.into_iter().flatten());
        self.index += others.len() as u32;
    }

    /// Ends the stream and gives the object's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let last = self.pending.take().unwrap_or_default();
        self.write(&last, BlockType::LastChunk);
        self.out
    }

    fn write(&mut self, raw: &[u8], block_type: BlockType) {
        encode(&self.sealer, &mut self.compressor, (block_type, self.index), raw, &mut self.out);
        self.index += 1;
    }
}

/// Appends a chunk as it is stored: lengths, codec, whether it is the last, the sealed block.
fn encode(
    sealer: &Sealer,
    compressor: &mut Compressor,
    (block_type, index): (BlockType, u32),
    raw: &[u8],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.resize(start + CHUNK_HEADER_SIZE, 0);
    let codec = compressor.append(raw, out);
    // Chunks are at most CHUNK_LIMIT, so their length fits; the index would take 16 PiB to wrap.
    let place = BlockPlace { block_type, index, codec, raw_len: raw.len() as u32 };
    let tag = sealer.seal(&place, &mut out[start + CHUNK_HEADER_SIZE..]);
    out.extend_from_slice(&tag);
    let stored_len = (out.len() - start - CHUNK_HEADER_SIZE) as u32;
    let header = &mut out[start..start + CHUNK_HEADER_SIZE];
    header[..4].copy_from_slice(&stored_len.to_le_bytes());
    header[4..8].copy_from_slice(&place.raw_len.to_le_bytes());
    header[8..].copy_from_slice(&[codec as u8, (block_type == BlockType::LastChunk) as u8]);
}

/// Reads a stream, chunk by chunk.
pub struct StreamReader<'a> {
    header: Header,
    sealer: Sealer,
    rest: WireReader<'a>,
    index: u32,
    ended: bool,
}

impl<'a> StreamReader<'a> {
    /// Reads `object`, which must be a stream of this kind.
    pub fn new(
        scope: StreamScope<'_>,
        kind: Kind,
        object: &'a [u8],
    ) -> Result<StreamReader<'a>, StreamError> {
        let header = Header::read(object, kind)?;
        if header.suite != scope.suite {
            return Err(HeaderError::OtherSuite.into());
        }
        Ok(StreamReader {
            header,
            sealer: Sealer::for_object(scope.key, &header, scope.vault, scope.path),
            rest: WireReader::new(&object[HEADER_SIZE..], "stream"),
            index: 0,
            ended: false,
        })
    }

    /// Opens the chunks from here on with a content key. An error if it is closed.
    pub fn open_rest(&mut self, key: &ContentKey) -> Result<(), StreamError> {
        self.sealer = self.sealer.for_content(key, &self.header).ok_or(NotAuthentic)?;
        Ok(())
    }

    /// The next chunk; `None` after the last, once the whole object was accounted for.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        let Some((place, sealed)) = self.next_sealed()? else { return Ok(None) };
        let mut sealed = sealed.to_vec();
        let block = self.sealer.open(&place, &mut sealed)?;
        let mut raw = vec![0; place.raw_len as usize];
        decompress(place.codec, block, &mut raw)?;
        Ok(Some(raw))
    }

    /// Passes over what is left, unopened: an error if it is cut short or goes on after the last chunk.
    pub fn skip_rest(&mut self) -> Result<(), StreamError> {
        while self.next_sealed()?.is_some() {}
        Ok(())
    }

    fn next_sealed(&mut self) -> Result<Option<(BlockPlace, &'a [u8])>, StreamError> {
        if self.ended {
            self.rest.end()?;
            return Ok(None);
        }
        let (stored_len, raw_len) = (self.rest.u32()?, self.rest.u32()?);
        let codec = Codec::read(self.rest.u8()?)?;
        self.ended = match self.rest.u8()? {
            0 => false,
            1 => true,
            _ => return Err(self.rest.malformed().into()),
        };
        if raw_len as usize > CHUNK_LIMIT {
            return Err(self.rest.malformed().into());
        }
        let sealed = self.rest.take(stored_len as usize)?;
        let block_type = if self.ended { BlockType::LastChunk } else { BlockType::Chunk };
        let place = BlockPlace { block_type, index: self.index, codec, raw_len };
        self.index += 1;
        Ok(Some((place, sealed)))
    }
}

/// A whole object of one chunk: a record.
pub fn write_record(scope: StreamScope<'_>, kind: Kind, nonce: [u8; 16], record: &[u8]) -> Vec<u8> {
    let mut writer = StreamWriter::new(scope, kind, nonce);
    writer.push(record);
    writer.finish()
}

/// The content of an object of one chunk.
pub fn read_record(scope: StreamScope<'_>, kind: Kind, object: &[u8]) -> Result<Vec<u8>, StreamError> {
    let mut reader = StreamReader::new(scope, kind, object)?;
    let record = reader.next_chunk()?.unwrap_or_default();
    match reader.next_chunk()? {
        None => Ok(record),
        Some(_) => Err(Malformed { what: "record" }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::SUITES;
    use crate::keys::Keyring;

    fn write(chunks: &[&[u8]], suite: Suite) -> Vec<u8> {
        let vault = VaultId::new([1; 16]);
        let key = VaultKey::new([2; 32]);
        let mut writer = StreamWriter::new(
            StreamScope { suite, key: &key, vault: &vault, path: "p" },
            Kind::Journal,
            [3; 16],
        );
        chunks.iter().for_each(|chunk| writer.push(chunk));
        writer.finish()
    }

    fn read(object: &[u8]) -> Result<Vec<Vec<u8>>, StreamError> {
        let vault = VaultId::new([1; 16]);
        let key = VaultKey::new([2; 32]);
        let suite = SUITES.into_iter().find(|suite| object.get(11) == Some(&(*suite as u8)));
        let suite = suite.unwrap_or(Suite::Aes256Gcm);
        let scope = StreamScope { suite, key: &key, vault: &vault, path: "p" };
        let mut reader = StreamReader::new(scope, Kind::Journal, object)?;
        let mut chunks = Vec::new();
        while let Some(chunk) = reader.next_chunk()? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    #[test]
    fn chunks_read_back() {
        let long = vec![5; CHUNK_LIMIT + 1];
        for suite in SUITES {
            assert_eq!(read(&write(&[], suite)), Ok(vec![vec![]]));
            assert_eq!(read(&write(&[b"one", b"two"], suite)), Ok(vec![b"one".to_vec(), b"two".to_vec()]));
            let split = read(&write(&[&long], suite)).unwrap();
            assert_eq!(split.iter().map(Vec::len).collect::<Vec<_>>(), [CHUNK_LIMIT, 1]);
        }
    }

    #[test]
    fn many_threads_write_what_one_writes() {
        let (vault, key) = (VaultId::new([1; 16]), VaultKey::new([2; 32]));
        let content: Vec<u8> = (0..100_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let chunks: Vec<&[u8]> = content.chunks(30_000).collect();
        for count in 0..=chunks.len() {
            let written = [1, 2, 3, 50].map(|threads| {
                let suite = Suite::Aes256Gcm;
                let scope = StreamScope { suite, key: &key, vault: &vault, path: "p" };
                let mut writer = StreamWriter::new(scope, Kind::Journal, [3; 16]);
                writer.push(b"facts");
                writer.push_all(&chunks[..count], threads);
                writer.finish()
            });
            assert!(written.iter().all(|other| *other == written[0]), "{count} chunks");
            assert_eq!(read(&written[0]).unwrap()[1..].concat(), chunks[..count].concat());
        }
    }

    #[test]
    fn every_flipped_bit_truncation_and_extension_is_noticed() {
        for suite in SUITES {
            let good = write(&[b"first chunk", b"second chunk"], suite);
            for bit in 0..good.len() * 8 {
                let mut wrong = good.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&wrong).is_err(), "bit {bit}");
            }
            for len in 0..good.len() {
                assert!(read(&good[..len]).is_err(), "length {len}");
            }
            let mut longer = good.clone();
            longer.push(0);
            assert!(read(&longer).is_err());
        }
    }

    #[test]
    fn the_rest_opens_by_its_content_key_alone() {
        let suite = Suite::Aes256GcmX25519;
        let (vault, keys) = (VaultId::new([1; 16]), Keyring::whole(suite, VaultKey::new([2; 32])));
        let (content, other) =
            (keys.new_content_key([4; 32]).unwrap(), keys.new_content_key([5; 32]).unwrap());
        let scope = StreamScope { suite, key: keys.append_key(), vault: &vault, path: "p" };
        for rest in [&[][..], &[&b"wal"[..], b"more"]] {
            let mut writer = StreamWriter::new(scope, Kind::Journal, [3; 16]);
            writer.push(b"facts");
            writer.seal_rest(&content);
            rest.iter().for_each(|chunk| writer.push(chunk));
            let object = writer.finish();
            let reader = || {
                let mut reader = StreamReader::new(scope, Kind::Journal, &object).unwrap();
                assert_eq!(reader.next_chunk().unwrap().unwrap(), b"facts");
                reader
            };
            let mut whole = reader();
            whole.open_rest(&content).unwrap();
            for chunk in rest {
                assert_eq!(whole.next_chunk().unwrap().unwrap(), *chunk);
            }
            let mut wrong = reader();
            wrong.open_rest(&other).unwrap();
            assert_eq!(wrong.next_chunk(), Err(NotAuthentic.into()));
            assert_eq!(reader().next_chunk(), Err(NotAuthentic.into()));
            assert_eq!(reader().skip_rest(), Ok(()));
            let mut short = StreamReader::new(scope, Kind::Journal, &object[..object.len() - 1]).unwrap();
            short.next_chunk().unwrap();
            assert!(short.skip_rest().is_err());
            let closed = ContentKey::closed(content.encapsulated().to_vec());
            assert_eq!(reader().open_rest(&closed), Err(NotAuthentic.into()));
        }
    }

    #[test]
    fn an_object_of_another_suite_is_none_of_the_vaults() {
        let (vault, key) = (VaultId::new([1; 16]), VaultKey::new([2; 32]));
        for (suite, other) in SUITES.into_iter().flat_map(|suite| SUITES.map(|other| (suite, other))) {
            let object = write(&[b"sealed"], suite);
            let scope = StreamScope { suite: other, key: &key, vault: &vault, path: "p" };
            let read = read_record(scope, Kind::Journal, &object);
            assert_eq!(read.is_ok(), suite == other, "{suite:?} in a vault of {other:?}");
        }
    }

    #[test]
    fn a_stream_without_its_last_chunk_is_cut_short() {
        let whole = write(&[b"first", b"second"], Suite::Aes256Gcm);
        let first = HEADER_SIZE + 10 + u32::from_le_bytes(whole[32..36].try_into().unwrap()) as usize;
        assert!(matches!(read(&whole[..first]), Err(StreamError::Malformed(_))));
    }
}
