//! Packs: frames of pages, a footer that says where each is, a trailer that says where the footer is.
//!
//! ```text
//! | header 32 | frame 0 | frame 1 | … | footer (sealed) | trailer 32 |
//! frame:   | "FRAM" | index u32 | stored length u32 | raw length u24, codec u8 | ciphertext ‖ tag |   at most 128 KiB raw
//! footer:  per frame: stored and raw length, codec, hash, runs of (file, first page, pages, bytes of the last page),
//!          one 8-byte fingerprint per page; a frame of streams has the bytes of each page, and 16 of its fingerprint
//! trailer: | footer offset u64 | stored length u32 | raw length u32 | frames u32 | codec u8, 3 zero | "STRGPEND" |
//! ```
//!
//! A frame holds up to 16 pages, of one file or of many small ones; or up to 64 pages of streams, as many as fit into
//! 128 KiB. Pages are numbered from zero through the whole pack; that number is what a page map keeps. All-zero pages of
//! files are not stored at all.
//!
//! The frame's own short header is in the clear, so that a pack that lost its tail can still be read frame by frame.

use std::ops::Range;

use strongroom_model::VaultId;
use strongroom_model::page::{FRAME_PAGES, FRAME_SIZE, PAGE_SIZE, Place, Run, STREAM_FRAME_PAGES, push_run};

use crate::compress::{Codec, Compression, Compressor, decompress};
use crate::fingerprint::{
    Fingerprint, FingerprintKey, FrameHash, FrameHasher, PageHash, StreamPrint, is_zero,
};
use crate::header::{HEADER_SIZE, Header, HeaderError, Kind, Suite};
use crate::keys::PointKey;
use crate::seal::{BlockPlace, BlockType, NotAuthentic, Sealer, TAG_SIZE};
use crate::wire::{Malformed, WireReader, put_varint};

/// Bytes of a frame's clear header.
pub const FRAME_HEADER_SIZE: usize = 16;

/// Bytes of the trailer.
pub const TRAILER_SIZE: usize = 32;

/// A footer longer than this is refused: a pack of the largest size has one of well under 2 MiB.
const FOOTER_LIMIT: usize = 64 << 20;

/// Set in the footer's codec of a frame of streams: a build that does not know of them refuses it.
const OF_STREAMS: u8 = 0x80;

const FRAME_MAGIC: [u8; 4] = *b"FRAM";
const TRAILER_MAGIC: [u8; 8] = *b"STRGPEND";

/// A pack that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Its header is not of this format or kind.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Its structure is broken.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A frame or the footer does not open.
    #[error(transparent)]
    NotAuthentic(#[from] NotAuthentic),
    /// A page came out other than it went in.
    #[error("page {page} of the pack does not match its fingerprint")]
    Fingerprint {
        /// The page's number in the pack.
        page: u32,
    },
}

/// Pages of one file that lie side by side in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRun {
    /// The file: the number its writer gave it. Pages of one file share it, so that a pack without its manifest
    /// still shows which pages belong together.
    pub file: u32,
    /// First page of the file.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Bytes in the last of them: 8192, or less at the end of a file. In a frame of streams each page is a run of its own.
    pub last_len: u32,
}

impl FrameRun {
    fn raw_len(&self) -> usize {
        (self.count as usize - 1) * PAGE_SIZE + self.last_len as usize
    }
}

/// A frame, as the footer tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameRow {
    /// Where its clear header begins in the pack.
    pub offset: u64,
    /// Bytes of ciphertext and tag.
    pub stored_len: u32,
    /// Bytes before compression.
    pub raw_len: u32,
    /// How it is compressed.
    pub codec: Codec,
    /// Number of its first page in the pack.
    pub first_page: u32,
    /// Hash of its content.
    pub hash: FrameHash,
    /// Whose pages it holds.
    pub runs: Vec<FrameRun>,
    /// One per page.
    pub prints: Vec<Fingerprint>,
    /// In a frame of streams one per page, which with that makes its [`StreamPrint`]; otherwise none.
    pub second_halves: Vec<[u8; 8]>,
}

impl FrameRow {
    /// The frame's bytes in the pack, header included.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + FRAME_HEADER_SIZE as u64 + u64::from(self.stored_len)
    }

    /// What page `slot` is looked for by, if it is a stream's.
    pub fn stream_print(&self, slot: u32) -> Option<StreamPrint> {
        let (first, second) = (self.prints.get(slot as usize)?, self.second_halves.get(slot as usize)?);
        let mut print = [0; 16];
        print[..8].copy_from_slice(&first.0);
        print[8..].copy_from_slice(second);
        Some(StreamPrint(print))
    }

    /// Where page `slot` of this frame lies in its raw bytes.
    pub fn page_range(&self, slot: u32) -> Option<Range<usize>> {
        let (mut slot, mut at) = (slot, 0);
        for run in &self.runs {
            if slot < run.count {
                let start = at + slot as usize * PAGE_SIZE;
                let len = if slot + 1 == run.count { run.last_len as usize } else { PAGE_SIZE };
                return Some(start..start + len);
            }
            slot -= run.count;
            at += run.raw_len();
        }
        None
    }
}

/// What a finished pack is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackDigest {
    /// Bytes of the object.
    pub size: u64,
    /// BLAKE3-128 of the object's bytes: tells damage without any key.
    pub hash: [u8; 16],
    /// Pages in it.
    pub pages: u32,
    /// Bytes of pages in it, before compression.
    pub raw: u64,
}

/// What a pack is written for.
pub struct PackScope<'a> {
    /// The recovery point's keys: open, for whoever writes or reads frames.
    pub key: &'a PointKey,
    /// The vault's fingerprint key.
    pub fingerprints: &'a FingerprintKey,
    /// The vault's id.
    pub vault: &'a VaultId,
    /// The pack's key in the store.
    pub path: &'a str,
}

/// Builds a pack in memory, page by page.
pub struct PackWriter {
    frame_sealer: Sealer,
    footer_sealer: Sealer,
    fingerprints: FingerprintKey,
    compressor: Compressor,
    number: u32,
    out: Vec<u8>,
    raw: Vec<u8>,
    hasher: FrameHasher,
    runs: Vec<FrameRun>,
    in_frame: usize,
    /// Whether the frame that is being filled is one of streams.
    of_streams: bool,
    frames: Vec<FrameRow>,
    pages: u32,
    total_raw: u64,
}

impl PackWriter {
    /// A pack that will be number `number` in its manifest's table, written into `out`, whose content is dropped.
    pub fn new(
        scope: PackScope<'_>,
        header: Header,
        compression: Compression,
        number: u32,
        mut out: Vec<u8>,
    ) -> Self {
        out.clear();
        out.extend_from_slice(&header.write());
        let frame_sealer = Sealer::for_frames(scope.key, &header, scope.vault, scope.path);
        PackWriter {
            // A point being written has just been given its keys.
            frame_sealer: frame_sealer.unwrap_or_else(|| unreachable!("a new point without a content key")),
            footer_sealer: Sealer::for_footer(scope.key, &header, scope.vault, scope.path),
            fingerprints: scope.fingerprints.clone(),
            compressor: Compressor::new(compression),
            number,
            out,
            raw: Vec::with_capacity(FRAME_SIZE),
            hasher: FrameHasher::default(),
            runs: Vec::new(),
            in_frame: 0,
            of_streams: false,
            frames: Vec::new(),
            pages: 0,
            total_raw: 0,
        }
    }

    /// Bytes so far, not counting the frame being filled and the footer.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Pages so far.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Whether no page was added yet.
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Adds pages of `file` from page `first` on (only the last may be short) and appends to `map` where they are.
    pub fn add(&mut self, file: u32, first: u32, pages: &[u8], map: &mut Vec<Run>) {
        self.begin_frame_of(false);
        for (offset, page) in pages.chunks(PAGE_SIZE).enumerate() {
            let first = first + offset as u32;
            if is_zero(page) {
                push_run(map, Run { first, count: 1, place: Place::Zero });
                continue;
            }
            self.hasher.add(&self.fingerprints, page);
            self.note(file, first, page.len() as u32);
            self.place(first, page, map);
            if self.in_frame == FRAME_PAGES {
                self.end_frame();
            }
        }
    }

    /// Adds page `at` of the stream `file`, whose hash was made already, and appends to `map` where it is.
    pub fn add_of_stream(
        &mut self,
        file: u32,
        at: u32,
        (page, hash): (&[u8], &PageHash),
        map: &mut Vec<Run>,
    ) {
        self.begin_frame_of(true);
        if self.raw.len() + page.len() > FRAME_SIZE || self.in_frame == STREAM_FRAME_PAGES {
            self.end_frame();
        }
        self.hasher.add_hashed(hash);
        self.runs.push(FrameRun { file, first: at, count: 1, last_len: page.len() as u32 });
        self.place(at, page, map);
    }

    /// Ends the frame that is being filled if it is of the other kind.
    fn begin_frame_of(&mut self, streams: bool) {
        if self.of_streams != streams {
            self.end_frame();
            self.of_streams = streams;
        }
    }

    fn place(&mut self, at: u32, page: &[u8], map: &mut Vec<Run>) {
        self.raw.extend_from_slice(page);
        let place = Place::Pack { pack: self.number, page: self.pages };
        push_run(map, Run { first: at, count: 1, place });
        self.pages += 1;
        self.in_frame += 1;
    }

    fn note(&mut self, file: u32, first: u32, len: u32) {
        match self.runs.last_mut() {
            Some(run)
                if run.file == file && run.first + run.count == first && run.last_len == PAGE_SIZE as u32 =>
            {
                run.count += 1;
                run.last_len = len;
            }
            _ => self.runs.push(FrameRun { file, first, count: 1, last_len: len }),
        }
    }

    fn end_frame(&mut self) {
        if self.in_frame == 0 {
            return;
        }
        let offset = self.out.len();
        self.out.resize(offset + FRAME_HEADER_SIZE, 0);
        let codec = self.compressor.append(&self.raw, &mut self.out);
        let place = BlockPlace {
            block_type: BlockType::Frame,
            index: self.frames.len() as u32,
            codec,
            raw_len: self.raw.len() as u32,
        };
        let tag = self.frame_sealer.seal(&place, &mut self.out[offset + FRAME_HEADER_SIZE..]);
        self.out.extend_from_slice(&tag);
        let stored_len = (self.out.len() - offset - FRAME_HEADER_SIZE) as u32;
        self.out[offset..offset + FRAME_HEADER_SIZE].copy_from_slice(&frame_header(&place, stored_len));
        let second_halves = if self.of_streams { self.hasher.second_halves() } else { Vec::new() };
        let (hash, prints) = self.hasher.finish(&self.fingerprints);
        self.frames.push(FrameRow {
            offset: offset as u64,
            stored_len,
            raw_len: place.raw_len,
            codec,
            first_page: self.pages - prints.len() as u32,
            hash,
            runs: std::mem::take(&mut self.runs),
            prints,
            second_halves,
        });
        self.total_raw += u64::from(place.raw_len);
        self.raw.clear();
        self.in_frame = 0;
    }

    /// Ends the pack: its bytes, and what to remember of it.
    pub fn finish(mut self) -> (Vec<u8>, PackDigest) {
        self.end_frame();
        let offset = self.out.len() as u64;
        let raw = write_footer(&self.frames);
        let codec = self.compressor.append(&raw, &mut self.out);
        let place = footer_place(codec, raw.len() as u32);
        let tag = self.footer_sealer.seal(&place, &mut self.out[offset as usize..]);
        self.out.extend_from_slice(&tag);
        let stored_len = self.out.len() as u32 - offset as u32;
        self.out.extend_from_slice(&offset.to_le_bytes());
        self.out.extend_from_slice(&stored_len.to_le_bytes());
        self.out.extend_from_slice(&place.raw_len.to_le_bytes());
        self.out.extend_from_slice(&(self.frames.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&[codec as u8, 0, 0, 0]);
        self.out.extend_from_slice(&TRAILER_MAGIC);
        let digest = PackDigest {
            size: self.out.len() as u64,
            hash: self.fingerprints.hashing().object(&self.out),
            pages: self.pages,
            raw: self.total_raw,
        };
        (self.out, digest)
    }
}

fn footer_place(codec: Codec, raw_len: u32) -> BlockPlace {
    BlockPlace { block_type: BlockType::Footer, index: 0, codec, raw_len }
}

fn frame_header(place: &BlockPlace, stored_len: u32) -> [u8; FRAME_HEADER_SIZE] {
    let mut out = [0; FRAME_HEADER_SIZE];
    out[..4].copy_from_slice(&FRAME_MAGIC);
    out[4..8].copy_from_slice(&place.index.to_le_bytes());
    out[8..12].copy_from_slice(&stored_len.to_le_bytes());
    // A frame is at most 128 KiB: its length takes three bytes, the codec the fourth.
    out[12..16].copy_from_slice(&(place.raw_len | (place.codec as u32) << 24).to_le_bytes());
    out
}

fn write_footer(frames: &[FrameRow]) -> Vec<u8> {
    let pages: usize = frames.iter().map(|frame| frame.prints.len()).sum();
    let mut out = Vec::with_capacity(frames.len() * 40 + pages * 8);
    put_varint(&mut out, frames.len() as u64);
    for frame in frames {
        put_varint(&mut out, u64::from(frame.stored_len));
        put_varint(&mut out, u64::from(frame.raw_len));
        let of_streams = !frame.second_halves.is_empty();
        out.push(frame.codec as u8 | if of_streams { OF_STREAMS } else { 0 });
        out.extend_from_slice(&frame.hash);
        if of_streams {
            write_stream_runs(&mut out, &frame.runs)
        } else {
            write_runs(&mut out, &frame.runs)
        }
        frame.prints.iter().for_each(|print| out.extend_from_slice(&print.0));
        frame.second_halves.iter().for_each(|half| out.extend_from_slice(half));
    }
    out
}

fn write_runs(out: &mut Vec<u8>, runs: &[FrameRun]) {
    put_varint(out, runs.len() as u64);
    for run in runs {
        put_varint(out, u64::from(run.file));
        put_varint(out, u64::from(run.first));
        put_varint(out, u64::from(run.count));
        put_varint(out, u64::from(run.last_len));
    }
}

/// Pages that follow one another in a stream are one run, with the bytes of each.
fn write_stream_runs(out: &mut Vec<u8>, pages: &[FrameRun]) {
    let follows = |one: &FrameRun, next: &FrameRun| one.file == next.file && one.first + 1 == next.first;
    put_varint(out, pages.chunk_by(follows).count() as u64);
    for run in pages.chunk_by(follows) {
        put_varint(out, u64::from(run[0].file));
        put_varint(out, u64::from(run[0].first));
        put_varint(out, run.len() as u64);
        run.iter().for_each(|page| put_varint(out, u64::from(page.last_len)));
    }
}

/// A pack's trailer: where its footer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    offset: u64,
    stored_len: u32,
    raw_len: u32,
    frames: u32,
    codec: Codec,
}

impl Trailer {
    /// Reads the last [`TRAILER_SIZE`] bytes of a pack of `size` bytes.
    pub fn read(bytes: &[u8], size: u64) -> Result<Trailer, Malformed> {
        let mut reader = WireReader::new(bytes, "pack trailer");
        let (offset, stored_len, raw_len, frames) =
            (reader.u64()?, reader.u32()?, reader.u32()?, reader.u32()?);
        let [codec, zeros @ ..] = reader.array::<4>()?;
        let ends = offset.checked_add(u64::from(stored_len) + TRAILER_SIZE as u64);
        let sound = reader.array()? == TRAILER_MAGIC
            && reader.end().is_ok()
            && zeros == [0; 3]
            && offset >= HEADER_SIZE as u64
            && ends == Some(size)
            && raw_len as usize <= FOOTER_LIMIT;
        if !sound {
            return Err(reader.malformed());
        }
        Ok(Trailer { offset, stored_len, raw_len, frames, codec: Codec::read(codec)? })
    }

    /// Where the sealed footer lies in the pack.
    pub fn footer(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.stored_len)
    }
}

/// Reads a pack's footer and frames. Holds no page data itself.
pub struct PackReader {
    /// `None` on a host that may not read frames.
    frame_sealer: Option<Sealer>,
    fingerprints: FingerprintKey,
    frames: Vec<FrameRow>,
    pages: u32,
}

impl PackReader {
    /// Opens a pack from its header, its trailer and the sealed footer between them.
    pub fn open(
        scope: PackScope<'_>,
        header: &[u8],
        trailer: &Trailer,
        footer: &[u8],
    ) -> Result<PackReader, PackError> {
        let header = Header::read(header, Kind::Pack)?;
        let sealer = Sealer::for_footer(scope.key, &header, scope.vault, scope.path);
        let mut sealed = footer.to_vec();
        let block = sealer.open(&footer_place(trailer.codec, trailer.raw_len), &mut sealed)?;
        let mut raw = vec![0; trailer.raw_len as usize];
        decompress(trailer.codec, block, &mut raw)?;
        let (frames, pages) = read_footer(&raw, trailer)?;
        let frame_sealer = Sealer::for_frames(scope.key, &header, scope.vault, scope.path);
        Ok(PackReader { frame_sealer, fingerprints: scope.fingerprints.clone(), frames, pages })
    }

    /// The frames, in order.
    pub fn frames(&self) -> &[FrameRow] {
        &self.frames
    }

    /// Pages in the pack.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Bytes of memory it takes, as good as all of them.
    pub fn bytes(&self) -> usize {
        let of_pages = |frame: &FrameRow| {
            size_of_val(frame.runs.as_slice())
                + size_of_val(frame.prints.as_slice())
                + size_of_val(frame.second_halves.as_slice())
        };
        size_of_val(self.frames.as_slice()) + self.frames.iter().map(of_pages).sum::<usize>()
    }

    /// The frame that holds page `page` of the pack.
    pub fn frame_of(&self, page: u32) -> Option<usize> {
        let at = self.frames.partition_point(|frame| frame.first_page <= page);
        (page < self.pages && at > 0).then(|| at - 1)
    }

    /// Opens frame `index` from its bytes in the pack into `raw`, and checks every page against its fingerprint.
    pub fn read_frame(&self, index: usize, stored: &mut [u8], raw: &mut Vec<u8>) -> Result<(), PackError> {
        let malformed = Malformed { what: "frame" };
        let frame = self.frames.get(index).ok_or(malformed)?;
        let place = BlockPlace {
            block_type: BlockType::Frame,
            index: index as u32,
            codec: frame.codec,
            raw_len: frame.raw_len,
        };
        let (header, sealed) = stored.split_first_chunk_mut::<FRAME_HEADER_SIZE>().ok_or(malformed)?;
        if *header != frame_header(&place, frame.stored_len) || sealed.len() != frame.stored_len as usize {
            return Err(malformed.into());
        }
        let sealer = self.frame_sealer.as_ref().ok_or(NotAuthentic)?;
        let block = sealer.open(&place, sealed)?;
        // What is in it from before is written over, or the frame does not open.
        raw.resize(frame.raw_len as usize, 0);
        decompress(frame.codec, block, raw)?;
        self.check(frame, raw)
    }

    fn check(&self, frame: &FrameRow, raw: &[u8]) -> Result<(), PackError> {
        let mut hasher = FrameHasher::default();
        for slot in 0..frame.prints.len() as u32 {
            let range = frame.page_range(slot).ok_or(Malformed { what: "frame" })?;
            hasher.add(&self.fingerprints, raw.get(range).ok_or(Malformed { what: "frame" })?);
        }
        let second_halves = hasher.second_halves();
        let (hash, prints) = hasher.finish(&self.fingerprints);
        let differs = prints.iter().zip(&frame.prints).position(|(found, kept)| found != kept);
        let differs = differs.or_else(|| {
            second_halves.iter().zip(&frame.second_halves).position(|(found, kept)| found != kept)
        });
        match differs {
            Some(slot) => Err(PackError::Fingerprint { page: frame.first_page + slot as u32 }),
            None if hash != frame.hash => Err(PackError::Fingerprint { page: frame.first_page }),
            None => Ok(()),
        }
    }
}

fn read_footer(raw: &[u8], trailer: &Trailer) -> Result<(Vec<FrameRow>, u32), Malformed> {
    let mut reader = WireReader::new(raw, "pack footer");
    // Length, length, codec, hash, a run of four numbers and a fingerprint: no frame takes less.
    let count = reader.count(32)?;
    let mut frames = Vec::with_capacity(count);
    let (mut offset, mut pages) = (HEADER_SIZE as u64, 0u32);
    for _ in 0..count {
        let frame = read_frame_row(&mut reader, offset, pages)?;
        offset = frame.range().end;
        pages = pages.checked_add(frame.prints.len() as u32).ok_or(reader.malformed())?;
        frames.push(frame);
    }
    reader.end()?;
    if offset != trailer.offset || frames.len() != trailer.frames as usize {
        return Err(reader.malformed());
    }
    Ok((frames, pages))
}

fn read_frame_row(reader: &mut WireReader<'_>, offset: u64, first_page: u32) -> Result<FrameRow, Malformed> {
    let (stored_len, raw_len) = (reader.varint32()?, reader.varint32()?);
    let codec = reader.u8()?;
    let (of_streams, codec) = (codec & OF_STREAMS != 0, Codec::read(codec & !OF_STREAMS)?);
    let hash = reader.array()?;
    let runs = if of_streams { read_stream_runs(reader)? } else { read_runs(reader)? };
    let pages: usize = runs.iter().map(|run| run.count as usize).sum();
    let bytes: usize = runs.iter().map(FrameRun::raw_len).sum();
    if pages == 0
        || bytes != raw_len as usize
        || bytes > FRAME_SIZE
        || stored_len as usize > FRAME_SIZE + TAG_SIZE
    {
        return Err(reader.malformed());
    }
    let prints = reader.take(pages * 8)?.as_chunks::<8>().0.iter().map(|print| Fingerprint(*print)).collect();
    let second_halves = reader.take(if of_streams { pages * 8 } else { 0 })?.as_chunks::<8>().0.to_vec();
    Ok(FrameRow { offset, stored_len, raw_len, codec, first_page, hash, runs, prints, second_halves })
}

fn read_runs(reader: &mut WireReader<'_>) -> Result<Vec<FrameRun>, Malformed> {
    let count = reader.count(4)?;
    let mut runs = Vec::with_capacity(count.min(FRAME_PAGES));
    let mut pages = 0usize;
    for _ in 0..count {
        let run = FrameRun {
            file: reader.varint32()?,
            first: reader.varint32()?,
            count: reader.varint32()?,
            last_len: reader.varint32()?,
        };
        let sound = (1..=FRAME_PAGES as u32).contains(&run.count)
            && (1..=PAGE_SIZE as u32).contains(&run.last_len)
            && run.first.checked_add(run.count).is_some();
        if !sound || pages + run.count as usize > FRAME_PAGES {
            return Err(reader.malformed());
        }
        pages += run.count as usize;
        runs.push(run);
    }
    Ok(runs)
}

fn read_stream_runs(reader: &mut WireReader<'_>) -> Result<Vec<FrameRun>, Malformed> {
    let mut pages = Vec::new();
    for _ in 0..reader.count(4)? {
        let (file, first, count) = (reader.varint32()?, reader.varint32()?, reader.varint32()?);
        if count == 0
            || pages.len() + count as usize > STREAM_FRAME_PAGES
            || first.checked_add(count).is_none()
        {
            return Err(reader.malformed());
        }
        pages.reserve_exact(count as usize);
        for first in first..first + count {
            let last_len = reader.varint32()?;
            if !(1..=PAGE_SIZE as u32).contains(&last_len) {
                return Err(reader.malformed());
            }
            pages.push(FrameRun { file, first, count: 1, last_len });
        }
    }
    Ok(pages)
}

/// The header of a new pack.
pub fn pack_header(suite: Suite, nonce: [u8; 16]) -> Header {
    Header { kind: Kind::Pack, suite, nonce }
}

#[cfg(test)]
mod tests;
