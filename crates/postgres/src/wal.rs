//! WAL segments: whose they are, and when what in them happened (PostgreSQL `access/xlog_internal.h`, `xlogrecord.h`).
//!
//! ```text
//! segment  | page | page | page | …                        8 KiB each
//! page     magic info timeline address rem_len (24 bytes; the first page's header has 40: system id, sizes)
//!          … rest of a record begun on an earlier page (rem_len) … record, aligned to 8 … record …
//! record   tot_len xid prev info rmgr crc (24 bytes)  headers  data
//! ```
//!
//! [`check_segment`] is what stands between a wrong file and the journal: a segment is shipped only if its own header
//! agrees with its name and the lineage. [`Scan`] walks records to find out when transactions ended and where restore
//! points are; it believes a record only if its CRC-32C holds.
//!
//! **Invariant**: no bytes make this module panic; reading stops where the bytes stop making sense, as replay would.

use strongroom_model::page::PAGE_SIZE;
use strongroom_model::{Lsn, SegmentSize, SystemId, Timeline, Timestamp, WalSegment};

use crate::version::Major;

/// Bytes of the first page's header (`SizeOfXLogLongPHD`): all that is needed to tell whose segment it is.
pub const LONG_HEADER: usize = 40;
const SHORT_HEADER: usize = 24;
const RECORD_HEADER: usize = 24;

/// `XLP_FIRST_IS_CONTRECORD`, `XLP_LONG_HEADER`, `XLP_ALL_FLAGS`.
const PAGE_CONTINUES: u16 = 0x0001;
const PAGE_LONG: u16 = 0x0002;
const PAGE_FLAGS: u16 = 0x000F;

/// `XLogRecordMaxSize` of 16 and later; before, nothing larger was ever written.
const LARGEST_RECORD: usize = 1020 << 20;

/// From 1970-01-01 to PostgreSQL's 2000-01-01, in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Why a file is not the segment it is taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// No WAL page at its beginning.
    #[error(
        "the file does not begin with a WAL page: a page of PostgreSQL 13 to 18 begins with a known number, this with {magic:#06X}"
    )]
    NotWal {
        /// What it begins with.
        magic: u16,
    },
    /// The first page's header does not make sense.
    #[error("the first WAL page's header is damaged: {field} is {value}")]
    Header {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// Built with another block size.
    #[error("the segment has WAL blocks of {0} bytes: only 8192 is supported")]
    BlockSize(u32),
    /// Cut short, or too long.
    #[error("the segment has {bytes} bytes instead of {size}")]
    Size {
        /// How long the file is.
        bytes: u64,
        /// How long its header says segments are.
        size: SegmentSize,
    },
    /// Another cluster's.
    #[error("the segment belongs to the cluster with system identifier {found}, not to {expected}")]
    ForeignSystem {
        /// In its header.
        found: SystemId,
        /// The lineage's.
        expected: SystemId,
    },
    /// Another segment's content: a renamed or recycled file.
    #[error("the segment named {name} holds WAL from {found} on, instead of from {expected}")]
    ForeignPlace {
        /// Its name.
        name: WalSegment,
        /// Where its first page says it lies.
        found: Lsn,
        /// Where its name says.
        expected: Lsn,
    },
    /// WAL of a later timeline than the name's. (An earlier one is normal: a new timeline's first segment begins
    /// with a copy of the old one's.)
    #[error("the segment named {name} holds WAL of timeline {found}")]
    ForeignTimeline {
        /// Its name.
        name: WalSegment,
        /// What its first page says.
        found: Timeline,
    },
    /// The name cannot be one of a cluster whose segments have this size.
    #[error("there is no segment {name} in a cluster with segments of {size}")]
    Name {
        /// The name.
        name: WalSegment,
        /// From the header.
        size: SegmentSize,
    },
}

/// What a segment's first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Who wrote it.
    pub major: Major,
    /// Whose it is.
    pub system_id: SystemId,
    /// The timeline its first page was written on.
    pub timeline: Timeline,
    /// Where it begins.
    pub start: Lsn,
    /// How long it should be.
    pub size: SegmentSize,
}

/// Reads a segment's first [`LONG_HEADER`] bytes (or more).
pub fn read_header(bytes: &[u8]) -> Result<SegmentFacts, WalError> {
    let wrong = |field, value| WalError::Header { field, value };
    let page = Page::read(bytes).ok_or_else(|| WalError::NotWal { magic: u16_at(bytes, 0).unwrap_or(0) })?;
    let (Some(system_id), Some(size), Some(block)) =
        (u64_at(bytes, 24), u32_at(bytes, 32), u32_at(bytes, 36))
    else {
        return Err(wrong("its length", bytes.len() as u64));
    };
    if page.info & PAGE_LONG == 0 || page.info & !PAGE_FLAGS != 0 {
        return Err(wrong("its flags word", page.info.into()));
    }
    if block as usize != PAGE_SIZE {
        return Err(WalError::BlockSize(block));
    }
    let size = SegmentSize::new(size.into()).ok_or(wrong("the segment size", size.into()))?;
    if !page.address.0.is_multiple_of(size.bytes()) {
        return Err(wrong("the page address", page.address.0));
    }
    let timeline = Timeline::new(page.timeline).ok_or(wrong("the timeline", 0))?;
    Ok(SegmentFacts {
        major: page.major,
        system_id: SystemId(system_id),
        timeline,
        start: page.address,
        size,
    })
}

/// Checks that `bytes` are the whole segment `name` of the lineage `system_id`.
pub fn check_segment(bytes: &[u8], name: WalSegment, system_id: SystemId) -> Result<SegmentFacts, WalError> {
    let facts = read_header(bytes)?;
    if facts.system_id != system_id {
        return Err(WalError::ForeignSystem { found: facts.system_id, expected: system_id });
    }
    if bytes.len() as u64 != facts.size.bytes() {
        return Err(WalError::Size { bytes: bytes.len() as u64, size: facts.size });
    }
    let number = name.number(facts.size).ok_or(WalError::Name { name, size: facts.size })?;
    // A 32-bit half of the name shifted by at most 30 bits stays within 64 bits.
    let expected = Lsn(number * facts.size.bytes());
    if facts.start != expected {
        return Err(WalError::ForeignPlace { name, found: facts.start, expected });
    }
    if facts.timeline > name.timeline {
        return Err(WalError::ForeignTimeline { name, found: facts.timeline });
    }
    Ok(facts)
}

/// Something in WAL that a restore can aim at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalEvent {
    /// A transaction was committed (also a prepared one).
    Commit {
        /// Which; for a prepared transaction, the one that was prepared.
        xid: u32,
        /// The server's clock then.
        at: Timestamp,
        /// Where its record begins.
        lsn: Lsn,
        /// Where the next record begins.
        end: Lsn,
    },
    /// A transaction was rolled back (also a prepared one).
    Abort {
        /// Which.
        xid: u32,
        /// The server's clock then.
        at: Timestamp,
        /// Where its record begins.
        lsn: Lsn,
        /// Where the next record begins.
        end: Lsn,
    },
    /// `pg_create_restore_point` was called.
    RestorePoint {
        /// With this name; bytes that are no UTF-8 are replaced.
        name: String,
        /// The server's clock then.
        at: Timestamp,
        /// Where its record begins.
        lsn: Lsn,
        /// Where the next record begins.
        end: Lsn,
    },
}

impl WalEvent {
    /// The server's clock when it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            WalEvent::Commit { at, .. } | WalEvent::Abort { at, .. } | WalEvent::RestorePoint { at, .. } => {
                *at
            }
        }
    }
}

/// The times of the earliest and the latest end of a transaction in a segment, by the server's clock. `None` when none
/// ended. A transaction whose record reaches into the next segment is not counted: the window errs on the short side.
pub fn commit_times(segment: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let mut times = Times::default();
    Scan::default().segment(segment, &mut |event| times.add(&event));
    times.0
}

/// The same of a stretch of a segment that begins with any of its pages and may be cut short. The record that reaches
/// into it is not counted.
pub fn commit_times_from_page(pages: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let first = Page::read(pages)?;
    let mut times = Times::default();
    Scan::default().pages((first.major, first.address), pages, &mut |event| times.add(&event));
    times.0
}

/// The earliest and the latest end of a transaction so far.
#[derive(Default)]
struct Times(Option<(Timestamp, Timestamp)>);

impl Times {
    fn add(&mut self, event: &WalEvent) {
        let at = event.at();
        if !matches!(event, WalEvent::RestorePoint { .. }) {
            self.0 = Some(self.0.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        }
    }
}

/// A walk over the records of one segment after the other. A record that reaches from one segment into the next is
/// seen if the two are given in order.
#[derive(Debug, Default)]
pub struct Scan {
    /// The record begun in what was given so far.
    open: Option<OpenRecord>,
    /// Where the next segment must begin for the open record to go on in it.
    next: Option<Lsn>,
}

/// A record of which the beginning was read.
#[derive(Debug)]
struct OpenRecord {
    start: Lsn,
    total: usize,
    bytes: Vec<u8>,
}

/// Whether to read on in this segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Onward {
    Read,
    Stop,
}

impl Scan {
    /// Tells `visit` of every event in a segment, in order, and returns where the last sound record ends: in a
    /// complete segment, its end or where the server switched. `None` if these bytes are no segment. The segment may
    /// be cut short (a streamed part).
    pub fn segment(&mut self, bytes: &[u8], visit: &mut impl FnMut(WalEvent)) -> Option<Lsn> {
        let facts = read_header(bytes).ok()?;
        if self.next != Some(facts.start) {
            self.open = None;
        }
        self.next = None;
        self.pages((facts.major, facts.start), bytes, visit)
    }

    /// Reads pages that follow each other from `address` on.
    fn pages(
        &mut self,
        (major, mut address): (Major, Lsn),
        bytes: &[u8],
        visit: &mut impl FnMut(WalEvent),
    ) -> Option<Lsn> {
        let mut reached = address;
        let (pages, rest) = bytes.as_chunks::<PAGE_SIZE>();
        let mut tail = [0; PAGE_SIZE];
        tail[..rest.len()].copy_from_slice(rest);
        for page in pages.iter().chain((!rest.is_empty()).then_some(&tail)) {
            let header = Page::read(page).filter(|page| page.major == major && page.address == address);
            let Some(header) = header else {
                self.open = None;
                return Some(reached);
            };
            if self.page(&header, page, &mut reached, visit) == Onward::Stop {
                self.open = None;
                return Some(reached);
            }
            address = Lsn(address.0.checked_add(PAGE_SIZE as u64)?);
        }
        self.next = Some(address);
        Some(reached)
    }

    /// Reads one page: the rest of the open record, then the records that begin here.
    fn page(
        &mut self,
        header: &Page,
        page: &[u8; PAGE_SIZE],
        reached: &mut Lsn,
        visit: &mut impl FnMut(WalEvent),
    ) -> Onward {
        let Some(mut at) = self.continuation(header, page, reached, visit) else {
            return Onward::Stop;
        };
        while at < PAGE_SIZE && self.open.is_none() {
            let start = Lsn(header.address.0 + at as u64);
            let total = u32_at(page, at).unwrap_or(0) as usize;
            if !(RECORD_HEADER..=LARGEST_RECORD).contains(&total) {
                return Onward::Stop;
            }
            let Some(record) = page.get(at..at + total) else {
                self.open = Some(OpenRecord { start, total, bytes: page[at..].to_vec() });
                break;
            };
            at = (at + total).next_multiple_of(8);
            let end = Lsn(header.address.0 + at as u64);
            if read_record(header.major, record, (start, end), visit) == Onward::Stop {
                return Onward::Stop;
            }
            *reached = end;
        }
        Onward::Read
    }

    /// Takes what an earlier page's record left on this one, and returns where the first record that begins here is
    /// (the page's end if none does). `None` when the open record, now complete, ends the walk.
    fn continuation(
        &mut self,
        header: &Page,
        page: &[u8; PAGE_SIZE],
        reached: &mut Lsn,
        visit: &mut impl FnMut(WalEvent),
    ) -> Option<usize> {
        let continued = if header.info & PAGE_CONTINUES != 0 { header.remaining } else { 0 };
        let here = continued.min(PAGE_SIZE - header.length);
        let after = (header.length + here).next_multiple_of(8);
        // A record whose rest is not where it should be was never finished: a crash, or a switch of timelines.
        let open =
            self.open.take().filter(|open| continued > 0 && open.total - open.bytes.len() == continued);
        if let Some(mut open) = open {
            open.bytes.extend_from_slice(&page[header.length..header.length + here]);
            if open.bytes.len() < open.total {
                self.open = Some(open);
                return Some(PAGE_SIZE);
            }
            let end = Lsn(header.address.0 + after as u64);
            if read_record(header.major, &open.bytes, (open.start, end), visit) == Onward::Stop {
                return None;
            }
            *reached = end;
        }
        Some(after)
    }
}

/// A page's header, believed so far.
struct Page {
    major: Major,
    info: u16,
    timeline: u32,
    address: Lsn,
    remaining: usize,
    length: usize,
}

impl Page {
    fn read(page: &[u8]) -> Option<Page> {
        let info = u16_at(page, 2)?;
        let address = u64_at(page, 8)?;
        // Positions within the page and its end must fit, too.
        if !address.is_multiple_of(PAGE_SIZE as u64) || address > u64::MAX - 2 * PAGE_SIZE as u64 {
            return None;
        }
        Some(Page {
            major: Major::of_wal_magic(u16_at(page, 0)?)?,
            info,
            timeline: u32_at(page, 4)?,
            address: Lsn(address),
            remaining: u32_at(page, 16)? as usize,
            length: if info & PAGE_LONG == 0 { SHORT_HEADER } else { LONG_HEADER },
        })
    }
}

/// Reads a whole record that lies at `place` (start and end); stops the walk at one that is damaged or that ends its
/// segment.
fn read_record(major: Major, record: &[u8], place: (Lsn, Lsn), visit: &mut impl FnMut(WalEvent)) -> Onward {
    const XLOG: u8 = 0;
    const TRANSACTION: u8 = 1;
    const XLOG_SWITCH: u8 = 0x40;
    const XLOG_RESTORE_POINT: u8 = 0x70;
    let (Some(xid), Some(crc)) = (u32_at(record, 4), u32_at(record, 20)) else { return Onward::Stop };
    // The server sums what follows the header first, then the header up to the sum itself.
    if crc32c::crc32c_append(crc32c::crc32c(&record[RECORD_HEADER..]), &record[..20]) != crc {
        return Onward::Stop;
    }
    let (info, manager) = (record[16], record[17]);
    let event = match (manager, info & 0xF0) {
        (XLOG, XLOG_SWITCH) => return Onward::Stop,
        (XLOG, XLOG_RESTORE_POINT) => main_part(record).and_then(|main| restore_point(main, place)),
        (TRANSACTION, _) => main_part(record).and_then(|main| transaction_end(major, info, xid, main, place)),
        _ => None,
    };
    if let Some(event) = event {
        visit(event);
    }
    Onward::Read
}

/// The main data of a record that refers to no blocks.
fn main_part(record: &[u8]) -> Option<&[u8]> {
    const SHORT: u8 = 255;
    const LONG: u8 = 254;
    const ORIGIN: u8 = 253;
    const TOP_XID: u8 = 252;
    let mut at = RECORD_HEADER;
    loop {
        match *record.get(at)? {
            ORIGIN => at += 3,
            TOP_XID => at += 5,
            SHORT => return record.get(at + 2..)?.get(..usize::from(*record.get(at + 1)?)),
            LONG => return record.get(at + 5..)?.get(..u32_at(record, at + 1)? as usize),
            _ => return None,
        }
    }
}

/// `xl_restore_point`: a time and a name of up to 63 bytes, ended by zero.
fn restore_point(main: &[u8], (lsn, end): (Lsn, Lsn)) -> Option<WalEvent> {
    let name = main.get(8..)?.split(|byte| *byte == 0).next()?;
    let name = String::from_utf8_lossy(name).into_owned();
    Some(WalEvent::RestorePoint { name, at: time_at(main)?, lsn, end })
}

/// The end of a transaction, if the record is one (`xl_xact_commit`, `xl_xact_abort`).
fn transaction_end(
    major: Major,
    info: u8,
    xid: u32,
    main: &[u8],
    (lsn, end): (Lsn, Lsn),
) -> Option<WalEvent> {
    let at = time_at(main)?;
    match info & 0x70 {
        0x00 => Some(WalEvent::Commit { xid, at, lsn, end }),
        0x20 => Some(WalEvent::Abort { xid, at, lsn, end }),
        // The record's own xid is none: who was prepared stands in its data.
        0x30 => prepared_xid(major, info, main).map(|xid| WalEvent::Commit { xid, at, lsn, end }),
        0x40 => prepared_xid(major, info, main).map(|xid| WalEvent::Abort { xid, at, lsn, end }),
        _ => None,
    }
}

/// Walks the optional parts of a commit or abort record (`ParseCommitRecord`) up to the prepared transaction's number.
fn prepared_xid(major: Major, info: u8, main: &[u8]) -> Option<u32> {
    const HAS_PARTS: u8 = 0x80;
    const TWO_PHASE: u32 = 1 << 4;
    if info & HAS_PARTS == 0 {
        return None;
    }
    let parts = u32_at(main, 8)?;
    let mut at = 12usize;
    if parts & 1 != 0 {
        at += 8; // the database
    }
    // Counted lists, in this order: subtransactions, dropped relations, dropped statistics, invalidations.
    let lists = [(1u32 << 1, 4usize), (1 << 2, 12), (1 << 8, major.dropped_stats_item()), (1 << 3, 16)];
    for (flag, item) in lists {
        if parts & flag != 0 {
            let count = u32_at(main, at)? as usize;
            at = count.checked_mul(item)?.checked_add(at)?.checked_add(4)?;
        }
    }
    if parts & TWO_PHASE == 0 { None } else { u32_at(main, at) }
}

/// A `TimestampTz` at the beginning of a record's data.
fn time_at(main: &[u8]) -> Option<Timestamp> {
    let micros = u64_at(main, 0)? as i64;
    Timestamp::from_unix_micros(micros.checked_add(EPOCH_MICROS)?)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests;
