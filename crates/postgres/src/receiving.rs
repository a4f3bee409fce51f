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
type Transactions = Option<(Timestamp, Timestamp)>;

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
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const PART: u64 = 64 << 10;

    fn tl(id: u32) -> Timeline {
        Timeline::new(id).unwrap()
    }

    fn size() -> SegmentSize {
        SegmentSize::new(MIB as u64).unwrap()
    }

    /// `tail 3+100` is a part of segment 3 from offset 100 on; the number behind the colon is how many bytes it has.
    fn name(work: Option<&Work>) -> String {
        let number =
            |segment: &WalSegment| format!("{}.{}", segment.timeline, segment.number(size()).unwrap());
        match work {
            None => "-".into(),
            Some(Work::History(timeline, _)) => format!("history {timeline}"),
            Some(Work::Segment(segment, content)) => format!("whole {}:{}", number(segment), content.len()),
            Some(Work::Part(part)) => {
                format!("part {}+{}:{}", number(&part.segment), part.stretch.start(), part.content().len())
            }
        }
    }

    /// Ships what is next, and says what it was.
    fn ship(receiving: &Receiving, lane: &mut Lane, due: bool) -> String {
        let work = receiving.next(lane, PART, due);
        let name = name(work.as_ref());
        match work {
            None => {}
            Some(Work::History(..)) => lane.history_is_durable(),
            Some(Work::Segment(segment, _)) => lane.segment_is_durable(segment, size()),
            Some(Work::Part(part)) => lane.part_is_durable(&part, part.transactions(), size()),
        }
        name
    }

    fn at(mib: usize, bytes: usize) -> Lsn {
        Lsn((mib * MIB + bytes) as u64)
    }

    #[test]
    fn small_changes_wait_until_they_are_due_and_large_ones_do_not() {
        let mut receiving = Receiving::new(tl(1), at(3, 17), size());
        let mut lane = Lane::new((tl(1), at(3, 0)));
        assert_eq!(receiving.position(), at(3, 0));
        receiving.push(&[1; 100]);
        assert_eq!(ship(&receiving, &mut lane, false), "-");
        assert_eq!(ship(&receiving, &mut lane, true), "part 1.3+0:100");
        assert_eq!(ship(&receiving, &mut lane, true), "-");
        assert_eq!(receiving.durable(&lane), at(3, 100));
        receiving.push(&[2; 64 << 10]);
        assert_eq!(ship(&receiving, &mut lane, false), "part 1.3+100:65536");
        assert_eq!(receiving.durable(&lane), receiving.position());
    }

    #[test]
    fn a_part_is_cut_out_where_it_belongs() {
        let mut receiving = Receiving::new(tl(1), at(0, 0), size());
        let bytes: Vec<u8> = (0..60_000u32).map(|n| (n % 251) as u8).collect();
        let mut lane = Lane::new((tl(1), at(0, 0)));
        for range in [0..1, 1..8192, 8192..8193, 8193..30_000, 30_000..60_000] {
            receiving.push(&bytes[range.clone()]);
            let Some(Work::Part(part)) = receiving.next(&mut lane, PART, true) else { panic!() };
            let (start, end) = (part.stretch.start() as usize, part.stretch.end() as usize);
            assert!(part.content() == &bytes[start..end] && (start, end) == (range.start, range.end));
            lane.part_is_durable(&part, None, size());
        }
    }

    #[test]
    fn a_complete_segment_is_shipped_whole_whatever_parts_there_are() {
        let mut receiving = Receiving::new(tl(1), at(3, 0), size());
        let (mut quick, mut slow) = (Lane::new((tl(1), at(3, 0))), Lane::new((tl(1), at(3, 0))));
        receiving.push(&vec![1; MIB / 2]);
        assert_eq!(ship(&receiving, &mut quick, false), "part 1.3+0:524288");
        receiving.push(&vec![2; 2 * MIB]);
        assert_eq!(receiving.position(), at(5, MIB / 2));
        for expected in ["whole 1.3:1048576", "whole 1.4:1048576", "part 1.5+0:524288", "-"] {
            assert_eq!(ship(&receiving, &mut quick, false), expected);
        }
        assert_eq!((receiving.durable(&quick), receiving.durable(&slow)), (at(5, MIB / 2), at(3, 0)));
        receiving.release([&quick, &slow].into_iter());
        assert_eq!(receiving.waiting(), 2 * MIB as u64);
        assert_eq!(ship(&receiving, &mut slow, false), "whole 1.3:1048576");
        receiving.release([&quick, &slow].into_iter());
        assert_eq!(receiving.waiting(), MIB as u64);
        // Without the slow one.
        receiving.release([&quick].into_iter());
        assert!(receiving.waiting() == 0 && !receiving.can_serve(&slow) && receiving.can_serve(&quick));
        assert_eq!(receiving.next(&mut slow, PART, true), None);
    }

    #[test]
    fn what_a_vault_has_is_not_shipped_again() {
        let mut receiving = Receiving::new(tl(1), at(3, 0), size());
        let mut lane = Lane::new((tl(1), at(5, 0)));
        // Nothing is reported that did not arrive, though the vault has it.
        assert_eq!(receiving.durable(&lane), at(3, 0));
        receiving.push(&vec![1; MIB + 7]);
        assert_eq!(ship(&receiving, &mut lane, true), "-");
        receiving.push(&vec![1; MIB]);
        assert_eq!(ship(&receiving, &mut lane, true), "part 1.5+0:7");
        receiving.push(&[1; 2000]);
        assert_eq!(ship(&receiving, &mut lane, true), "part 1.5+7:2000");
    }

    #[test]
    fn a_timeline_that_ends_leaves_parts_and_the_next_begins_with_its_history() {
        let mut receiving = Receiving::new(tl(1), at(3, 0), size());
        let mut lane = Lane::new((tl(1), at(3, 0)));
        receiving.push(&[1; 5000]);
        assert_eq!(ship(&receiving, &mut lane, true), "part 1.3+0:5000");
        receiving.push(&[1; 500]);
        receiving.push_history(tl(2), Bytes::from_static(b"1\t0/301000\n"));
        receiving.switch(tl(2), at(3, 5500));
        assert_eq!((receiving.timeline(), receiving.position()), (tl(2), at(3, 0)));
        receiving.push(&[1; 5600]);
        // The history was pushed first here; either way all of it comes before the new timeline's WAL.
        for expected in ["history 2", "part 1.3+5000:500", "part 2.3+0:5600", "-"] {
            assert_eq!(ship(&receiving, &mut lane, true), expected);
        }
        assert_eq!(receiving.durable(&lane), at(3, 5600));
        // On a segment's boundary nothing is left behind.
        receiving.push(&vec![1; MIB - 5600]);
        receiving.switch(tl(3), at(4, 0));
        assert_eq!(ship(&receiving, &mut lane, true), "whole 2.3:1048576");
        assert_eq!(ship(&receiving, &mut lane, true), "-");
        assert_eq!((receiving.position(), receiving.durable(&lane)), (at(4, 0), at(4, 0)));
    }
    #[test]
    fn what_was_written_after_a_timeline_was_left_is_kept_and_does_not_count() {
        let mut receiving = Receiving::new(tl(1), at(3, 0), size());
        let mut lane = Lane::new((tl(1), at(3, 0)));
        receiving.push(&vec![1; MIB + 900]);
        assert_eq!(ship(&receiving, &mut lane, true), "whole 1.3:1048576");
        // Its standby had less when it was promoted.
        receiving.switch(tl(2), at(3, 400));
        assert_eq!(receiving.durable(&lane), at(3, 400));
        assert_eq!(ship(&receiving, &mut lane, true), "part 1.4+0:900");
        assert_eq!(receiving.durable(&lane), at(3, 400));
        receiving.push(&[2; 500]);
        assert_eq!(receiving.durable(&lane), at(3, 400));
        assert_eq!(ship(&receiving, &mut lane, true), "part 2.3+0:500");
        assert_eq!(receiving.durable(&lane), at(3, 500));
    }
}
