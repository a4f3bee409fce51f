//! The server's own record of which blocks its WAL changed: the files in `pg_wal/summaries` (17 and later).
//!
//! ```text
//! name     timeline 8 · start 16 · end 16 hexadecimal digits · .summary          half-open: WAL records from start to end
//! content  magic 4 | entry | entry | … | 24 zero bytes | CRC-32C of all before it
//! entry    tablespace 4 · database 4 · relation 4 · fork 4 · limit block 4 · chunks 4 | entries of each chunk, 2 each | chunks
//! chunk    of 65,536 blocks: fewer than 4096 entries are offsets, 4096 are a bitmap; lowest bit first
//! ```
//!
//! Formats and names: PostgreSQL `common/blkreftable.c`, `backup/walsummary.c`; numbers are the server's own, little-endian on
//! all machines Strongroom runs on. A **limit block** says that the fork was created, dropped or cut there. A relation numbered
//! 0 stands for all of that database in that tablespace.
//!
//! **Invariant**: a file is believed whole or not at all: its checksum is right, and every byte of it is accounted for. What is
//! allocated for a file is never more than a few times its length.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use strongroom_model::{Lsn, Timeline};

use crate::relation::Relation;

/// `BLOCKREFTABLE_MAGIC`.
const MAGIC: u32 = 0x652b_137b;

/// Bytes of an entry's front.
const ENTRY: usize = 24;

/// `BLOCKS_PER_CHUNK`.
const CHUNK_BLOCKS: u32 = 1 << 16;

/// `MAX_ENTRIES_PER_CHUNK`: as many offsets are as long as the bitmap that takes their place.
const BITMAP: usize = 4096;

/// `MAX_FORKNUM`.
const LAST_FORK: u32 = 3;

/// A summary that cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SummaryError {
    /// Begins with something else.
    #[error("it is no WAL summary")]
    NotASummary,
    /// Damaged, or still being written.
    #[error("its checksum is wrong")]
    BadChecksum,
    /// Right by its checksum and yet not what the server's sources describe.
    #[error("its {what} is none that is known")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
}

/// A summary's file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SummaryName {
    /// The timeline whose WAL it summarises.
    pub timeline: Timeline,
    /// Where the first record is.
    pub start: Lsn,
    /// One past the last.
    pub end: Lsn,
}

impl SummaryName {
    /// Reads a file name.
    pub fn parse(name: &[u8]) -> Option<SummaryName> {
        let digits = str::from_utf8(name.strip_suffix(b".summary")?).ok()?;
        let upper = |digit: u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit);
        if digits.len() != 40 || !digits.bytes().all(upper) {
            return None;
        }
        let number = |range: Range<usize>| u64::from_str_radix(&digits[range], 16).ok();
        let timeline = Timeline::new(u32::try_from(number(0..8)?).ok()?)?;
        let (start, end) = (Lsn(number(8..24)?), Lsn(number(24..40)?));
        (start < end).then_some(SummaryName { timeline, start, end })
    }
}

impl std::fmt::Display for SummaryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08X}{:016X}{:016X}.summary", self.timeline.get(), self.start.0, self.end.0)
    }
}

/// What a summary says of one fork of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The relation; number 0 for all of its database in its tablespace.
    pub relation: Relation,
    /// `ForkNumber`: 0 main, 1 free space, 2 visibility, 3 initial.
    pub fork: u32,
    /// From this block on all that exist count as changed.
    pub limit: Option<u32>,
    lengths: &'a [u8],
    chunks: &'a [u8],
}

impl Entry<'_> {
    /// The blocks that changed, chunk by chunk: the chunk's number and offsets in it, in the order written down.
    fn chunks(&self) -> impl Iterator<Item = (u32, Offsets<'_>)> {
        let (lengths, _) = self.lengths.as_chunks::<2>();
        let mut rest = self.chunks;
        lengths.iter().zip(0u32..).filter_map(move |(length, number)| {
            let (chunk, behind) = rest.split_at(usize::from(u16::from_le_bytes(*length)) * 2);
            rest = behind;
            (!chunk.is_empty()).then_some((number, Offsets(chunk)))
        })
    }

    /// The blocks that changed.
    pub fn blocks(&self) -> impl Iterator<Item = u32> {
        self.chunks().flat_map(|(number, offsets)| {
            offsets.iter().map(move |offset| number * CHUNK_BLOCKS + u32::from(offset))
        })
    }
}

/// A chunk as written down.
#[derive(Clone, Copy)]
struct Offsets<'a>(&'a [u8]);

impl<'a> Offsets<'a> {
    fn iter(self) -> impl Iterator<Item = u16> + 'a {
        let (words, _) = self.0.as_chunks::<2>();
        let bitmap = words.len() == BITMAP;
        let list = words.iter().filter(move |_| !bitmap).map(|word| u16::from_le_bytes(*word));
        let bits = words.iter().filter(move |_| bitmap).zip(0u16..).flat_map(|(word, number)| {
            let word = u16::from_le_bytes(*word);
            (0..16u16).filter(move |bit| word >> bit & 1 == 1).map(move |bit| number * 16 + bit)
        });
        list.chain(bits)
    }
}

/// Calls `each` with every entry of a summary file's content, once its checksum is found right.
pub fn read_summary(content: &[u8], mut each: impl FnMut(Entry<'_>)) -> Result<(), SummaryError> {
    if content.first_chunk() != Some(&MAGIC.to_le_bytes()) {
        return Err(SummaryError::NotASummary);
    }
    let (content, sum) = content.split_last_chunk::<4>().ok_or(SummaryError::BadChecksum)?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*sum) {
        return Err(SummaryError::BadChecksum);
    }
    let malformed = |what| SummaryError::Malformed { what };
    let mut rest = content.get(4..).ok_or(malformed("end"))?;
    loop {
        let front = rest.split_first_chunk::<ENTRY>().ok_or(malformed("end"))?;
        let (words, _) = front.0.as_chunks::<4>();
        let word = |index: usize| u32::from_le_bytes(words[index]);
        rest = front.1;
        if front.0 == &[0; ENTRY] {
            return if rest.is_empty() { Ok(()) } else { Err(malformed("end")) };
        }
        let relation = Relation { tablespace: word(0), database: word(1), number: word(2) };
        if word(3) > LAST_FORK {
            return Err(malformed("fork"));
        }
        let count = usize::try_from(word(5)).ok().filter(|count| *count <= CHUNK_BLOCKS as usize);
        let lengths = count.and_then(|count| rest.split_at_checked(count * 2)).ok_or(malformed("table"))?;
        let (each_length, _) = lengths.0.as_chunks::<2>();
        let each_length = each_length.iter().map(|length| usize::from(u16::from_le_bytes(*length)));
        if each_length.clone().any(|length| length > BITMAP) {
            return Err(malformed("chunk"));
        }
        let chunks = lengths.1.split_at_checked(each_length.sum::<usize>() * 2).ok_or(malformed("chunk"))?;
        rest = chunks.1;
        // `InvalidBlockNumber`: none.
        let limit = Some(word(4)).filter(|limit| *limit != u32::MAX);
        each(Entry { relation, fork: word(3), limit, lengths: lengths.0, chunks: chunks.0 });
    }
}

/// Bytes that a record of changed blocks may take up: 64 GiB of scattered pages, or 1 TiB side by side. What goes beyond is
/// remembered as "all of that relation".
const ROOM: usize = 16 << 20;

/// The main forks' blocks that any of several summaries names.
#[derive(Debug)]
pub struct ChangedBlocks {
    relations: HashMap<Relation, Changed>,
    /// Databases, by tablespace and number, that were created or dropped.
    databases: HashSet<(u32, u32)>,
    room: usize,
}

/// Of one relation.
#[derive(Debug)]
enum Changed {
    /// It was created, dropped or cut, or too much changed to keep account of: nothing of it is as it was.
    All,
    /// These, by chunk.
    Some(BTreeMap<u32, Chunk>),
}

#[derive(Debug)]
enum Chunk {
    /// Offsets, sorted, each once.
    Few(Vec<u16>),
    Bits(Box<[u64; CHUNK_BLOCKS as usize / 64]>),
}

impl Default for ChangedBlocks {
    fn default() -> Self {
        ChangedBlocks { relations: HashMap::new(), databases: HashSet::new(), room: ROOM }
    }
}

impl ChangedBlocks {
    /// Adds what a summary file's content says. On an error nothing may be concluded from any of it.
    pub fn add(&mut self, content: &[u8]) -> Result<(), SummaryError> {
        read_summary(content, |entry| self.add_entry(entry))
    }

    fn add_entry(&mut self, entry: Entry<'_>) {
        if entry.relation.number == 0 {
            self.databases.insert((entry.relation.tablespace, entry.relation.database));
            return;
        }
        // Other forks are always read: the record of free space is not complete, and that of visibility was wrong before.
        if entry.fork != 0 {
            return;
        }
        let changed = self.relations.entry(entry.relation).or_insert_with(|| Changed::Some(BTreeMap::new()));
        if entry.limit.is_some() {
            *changed = Changed::All;
        }
        for (number, offsets) in entry.chunks() {
            let Changed::Some(chunks) = changed else { return };
            let grown = chunks.entry(number).or_insert(Chunk::Few(Vec::new())).add(offsets);
            match self.room.checked_sub(grown) {
                Some(room) => self.room = room,
                None => *changed = Changed::All,
            }
        }
    }

    /// Which of these blocks of the relation's main fork are named, in order; `None` if nothing of it is as it was.
    pub fn of(&self, relation: Relation, blocks: Range<u32>) -> Option<Vec<u32>> {
        if self.databases.contains(&(relation.tablespace, relation.database)) {
            return None;
        }
        let chunks = match self.relations.get(&relation) {
            None => return Some(Vec::new()),
            Some(Changed::All) => return None,
            Some(Changed::Some(chunks)) => chunks,
        };
        let Some(last) = blocks.end.checked_sub(1) else { return Some(Vec::new()) };
        let numbers = blocks.start / CHUNK_BLOCKS..=last / CHUNK_BLOCKS;
        let in_chunks = chunks.range(numbers).flat_map(|(number, chunk)| {
            chunk.offsets().into_iter().map(move |offset| number * CHUNK_BLOCKS + u32::from(offset))
        });
        Some(in_chunks.filter(|block| blocks.contains(block)).collect())
    }
}

impl Chunk {
    /// Adds offsets; by how many bytes the chunk grew.
    fn add(&mut self, offsets: Offsets<'_>) -> usize {
        match self {
            Chunk::Bits(bits) => {
                offsets.iter().for_each(|offset| set(&mut bits[..], offset));
                0
            }
            Chunk::Few(few) => {
                let before = few.len() * 2;
                few.extend(offsets.iter());
                few.sort_unstable();
                few.dedup();
                if few.len() < BITMAP {
                    return few.len() * 2 - before;
                }
                let mut bits = Box::new([0; CHUNK_BLOCKS as usize / 64]);
                few.iter().for_each(|offset| set(&mut bits[..], *offset));
                *self = Chunk::Bits(bits);
                (CHUNK_BLOCKS as usize / 8).saturating_sub(before)
            }
        }
    }

    /// In order.
    fn offsets(&self) -> Vec<u16> {
        match self {
            Chunk::Few(few) => few.clone(),
            Chunk::Bits(bits) => {
                let is_set = |offset: &u16| bits[usize::from(*offset) / 64] >> (offset % 64) & 1 == 1;
                (0..=u16::MAX).filter(is_set).collect()
            }
        }
    }
}

fn set(bits: &mut [u64], offset: u16) {
    bits[usize::from(offset) / 64] |= 1 << (offset % 64);
}

#[cfg(test)]
pub(crate) mod tests;
