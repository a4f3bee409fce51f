//! What was received and is not yet durable, and what each vault is to be given next. A pure value.
//!
//! ```text
//!            history 2   segment   segment   ended tail   history 3   open segment
//! queue      ───────────────────────────────────────────────────────  ▓▓▓▓▓▓▓░░░░░   ◀─ push
//!                            ▲                                             ▲
//!                            a lane that is slower                         a lane that has shipped parts
//! ```
//!
//! Each vault has a [`Lane`] along the same queue. A segment that is complete is shipped whole, with nothing before it
//! left out; of the one that is open, what is new is shipped as a part ([`strongroom_model::tail`]). A timeline that ended
//! in the middle of a segment leaves that segment's parts behind and no whole one: its rest was never written.
//!
//! **Invariants**
//! - [`Receiving::durable`] of a lane never passes a byte that its vault was not given.
//! - Of an open segment, parts hold the bytes from its beginning on without a gap.
//! - What every lane has passed is let go; nothing else is.

use std::collections::VecDeque;

use bytes::Bytes;
use strongroom_model::page::PAGE_SIZE;
use strongroom_model::tail::{Parts, Stretch};
use strongroom_model::{Lsn, SegmentSize, Timeline, Timestamp, WalSegment};

use crate::wal::commit_times_from_page;

/// The queue of what was received.
#[derive(Debug)]
pub struct Receiving {
    size: SegmentSize,
    timeline: Timeline,
    /// Counted from LSN 0/0: the open segment.
    number: u64,
    open: Vec<u8>,
    queue: VecDeque<Item>,
    /// How many items have left the queue.
    left: u64,
    /// Timelines that ended, and where the next one left each.
    switches: Vec<(Timeline, Lsn)>,
}

/// What lies before the open segment.
#[derive(Debug)]
enum Item {
    History(Timeline, Bytes),
    Whole(WalSegment, Bytes),
    /// A timeline's last segment, as far as it was written.
    Ended(WalSegment, Bytes),
}

/// How far one vault is along the queue.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Items passed, counted from the first that ever was in the queue.
    item: u64,
    /// What the vault has without us: WAL before this place.
    from: Lsn,
    /// What is durable as parts.
    tail: Option<Tail>,
    /// Up to where the vault has everything, on this timeline.
    durable: (Timeline, Lsn),
}

/// The next thing to be made durable in one vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A timeline's history.
    History(Timeline, Bytes),
    /// A complete segment.
    Segment(WalSegment, Bytes),
    /// New bytes of an incomplete one.
    Part(NewPart),
}

/// New bytes of an incomplete segment, and old ones as far as the part is to hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPart {
    /// Of which.
    pub segment: WalSegment,
    /// Which bytes the part is to hold.
    pub stretch: Stretch,
    /// The segment's bytes from `from` to the stretch's end.
    bytes: Vec<u8>,
    from: usize,
    /// The first page on which a transaction may have ended that is not among those known.
    page: usize,
    known: Transactions,
}

/// When the first and last transaction ended.
pub type Transactions = Option<(Timestamp, Timestamp)>;

impl NewPart {
    /// The part's bytes.
    pub fn content(&self) -> &[u8] {
        &self.bytes[self.stretch.start() as usize - self.from..]
    }

    /// When the first and last transaction from the segment's beginning to the part's end ended. One whose record is
    /// longer than a page may be overlooked until the segment is whole.
    pub fn transactions(&self) -> Transactions {
        let new = commit_times_from_page(&self.bytes[self.page - self.from..]);
        let (Some((first, last)), Some((of_new, until))) = (self.known, new) else {
            return self.known.or(new);
        };
        Some((first.min(of_new), last.max(until)))
    }
}

/// What is durable of a segment as parts.
#[derive(Clone, Debug)]
struct Tail {
    segment: WalSegment,
    parts: Parts,
    transactions: Transactions,
}

impl Lane {
    /// A vault that has everything before `from`, the beginning of a segment of `timeline`.
    pub fn new((timeline, from): (Timeline, Lsn)) -> Lane {
        Lane { item: 0, from, tail: None, durable: (timeline, from) }
    }

    /// Takes note that a part is durable.
    pub fn part_is_durable(&mut self, part: &NewPart, transactions: Transactions, size: SegmentSize) {
        let NewPart { segment, stretch, .. } = *part;
        let mut parts = self.parts_of(segment).cloned().unwrap_or_default();
        parts.stored(stretch);
        self.tail = Some(Tail { segment, parts, transactions });
        let start = segment.number(size).unwrap_or_default() * size.bytes();
        self.reach(segment.timeline, Lsn(start + u64::from(stretch.end())));
    }

    /// Takes note that a whole segment is durable.
    pub fn segment_is_durable(&mut self, segment: WalSegment, size: SegmentSize) {
        self.item += 1;
        let end = (segment.number(size).unwrap_or_default() + 1) * size.bytes();
        self.reach(segment.timeline, Lsn(end));
    }

    /// Takes note that a history is durable.
    pub fn history_is_durable(&mut self) {
        self.item += 1;
    }

    fn reach(&mut self, timeline: Timeline, end: Lsn) {
        let before = if timeline == self.durable.0 { self.durable.1 } else { Lsn(0) };
        self.durable = (timeline, end.max(before));
    }

    fn parts_of(&self, segment: WalSegment) -> Option<&Parts> {
        self.tail.as_ref().filter(|tail| tail.segment == segment).map(|tail| &tail.parts)
    }

    /// What of `bytes`, the beginning of `segment`, is not yet durable.
    fn new_part(&self, segment: WalSegment, bytes: &[u8]) -> Option<Work> {
        let tail = self.tail.as_ref().filter(|tail| tail.segment == segment);
        let (parts, known) =
            tail.map_or((Parts::default(), None), |tail| (tail.parts.clone(), tail.transactions));
        let stretch = parts.next(u32::try_from(bytes.len()).ok()?)?;
        // A record that was cut short by the last part's end began on its last page, or on the one before.
        let page = (parts.end() as usize / PAGE_SIZE).saturating_sub(1) * PAGE_SIZE;
        let from = page.min(stretch.start() as usize);
        Some(Work::Part(NewPart { segment, stretch, bytes: bytes[from..].to_vec(), from, page, known }))
    }
}

impl Receiving {
    /// From the beginning of the segment that holds `at` on.
    pub fn new(timeline: Timeline, at: Lsn, size: SegmentSize) -> Receiving {
        let number = at.0 / size.bytes();
        Receiving {
            size,
            timeline,
            number,
            open: Vec::new(),
            queue: VecDeque::new(),
            left: 0,
            switches: Vec::new(),
        }
    }

    /// The timeline that is being received.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Where the next byte belongs.
    pub fn position(&self) -> Lsn {
        Lsn(self.number * self.size.bytes() + self.open.len() as u64)
    }

    /// Takes the bytes at [`Receiving::position`].
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.open.capacity() == 0 {
                self.open.reserve_exact(self.size.bytes() as usize);
            }
            let room = self.size.bytes() as usize - self.open.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.extend_from_slice(now);
            bytes = later;
            if self.open.len() as u64 == self.size.bytes() {
                let whole = Bytes::from(std::mem::take(&mut self.open));
                self.queue.push_back(Item::Whole(self.segment(), whole));
                self.number += 1;
            }
        }
    }

    /// Takes a timeline's history, to be shipped before all WAL that comes after.
    pub fn push_history(&mut self, timeline: Timeline, content: Bytes) {
        self.queue.push_back(Item::History(timeline, content));
    }

    /// Goes on with another timeline, from the beginning of the segment in which it left this one.
    pub fn switch(&mut self, timeline: Timeline, left_at: Lsn) {
        if !self.open.is_empty() {
            let ended = Bytes::from(std::mem::take(&mut self.open));
            self.queue.push_back(Item::Ended(self.segment(), ended));
        }
        self.switches.push((self.timeline, left_at));
        self.timeline = timeline;
        self.number = left_at.0 / self.size.bytes();
    }

    /// Up to where a vault has everything of the timeline that is being received and of those that led there. What a
    /// timeline wrote after it was left does not count, however durable it is.
    pub fn durable(&self, lane: &Lane) -> Lsn {
        let (timeline, end) = lane.durable;
        let since = self.switches.iter().position(|(ended, _)| *ended == timeline);
        let left =
            self.switches.iter().skip(since.unwrap_or(self.switches.len())).map(|(_, left_at)| *left_at);
        let end = left.fold(end, Lsn::min);
        // Work is done in order: a lane on the last timeline has all of the others.
        let ground = self.switches.last().map_or(Lsn(0), |(_, left_at)| *left_at);
        let end = if timeline == self.timeline { end.max(ground) } else { end };
        end.min(self.position().max(ground))
    }

    /// Bytes that wait in the queue, the open segment's not counted.
    pub fn waiting(&self) -> u64 {
        let length = |item: &Item| match item {
            Item::History(_, content) | Item::Whole(_, content) | Item::Ended(_, content) => {
                content.len() as u64
            }
        };
        self.queue.iter().map(length).sum()
    }

    /// What a vault is to be given next. Of the open segment: anything new if it is `due`, else only `part_size` bytes
    /// or more.
    pub fn next(&self, lane: &mut Lane, part_size: u64, due: bool) -> Option<Work> {
        while let Some(item) = self.queue.get(usize::try_from(lane.item.checked_sub(self.left)?).ok()?) {
            match item {
                Item::History(timeline, content) => return Some(Work::History(*timeline, content.clone())),
                Item::Whole(segment, _) if self.end_of(*segment) <= lane.from => {}
                Item::Whole(segment, content) => return Some(Work::Segment(*segment, content.clone())),
                Item::Ended(segment, content) => {
                    if let Some(part) = lane.new_part(*segment, content) {
                        return Some(part);
                    }
                }
            }
            lane.item += 1;
        }
        let segment = self.segment();
        let has = lane.parts_of(segment).map_or(0, |parts| u64::from(parts.end()));
        let is_enough = due || (self.open.len() as u64).saturating_sub(has) >= part_size;
        if self.end_of(segment) <= lane.from || !is_enough {
            return None;
        }
        lane.new_part(segment, &self.open)
    }

    /// Lets go of what all of these lanes have passed.
    pub fn release<'a>(&mut self, lanes: impl Iterator<Item = &'a Lane>) {
        let passed = lanes.map(|lane| lane.item).min().unwrap_or(self.left);
        while self.left < passed && self.queue.pop_front().is_some() {
            self.left += 1;
        }
    }

    /// Whether the queue still holds what this lane is to be given.
    pub fn can_serve(&self, lane: &Lane) -> bool {
        lane.item >= self.left
    }

    fn segment(&self) -> WalSegment {
        WalSegment::numbered(self.timeline, self.number, self.size)
    }

    fn end_of(&self, segment: WalSegment) -> Lsn {
        Lsn((segment.number(self.size).unwrap_or_default() + 1) * self.size.bytes())
    }
}

#[cfg(test)]
mod tests;
