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
//! left out; of the one that is open, what is new is shipped as a part. A timeline that ended in the middle of a segment
//! leaves that segment's parts behind and no whole one: its rest was never written.
//!
//! **Invariants**
//! - A lane's [`Lane::durable`] never passes a byte that its vault was not given.
//! - Of an open segment, parts follow each other without a gap.
//! - What every lane has passed is let go; nothing else is.

use std::collections::VecDeque;

use bytes::Bytes;
use strongroom_model::page::PAGE_SIZE;
use strongroom_model::{Lsn, SegmentSize, Timeline, WalSegment};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Items passed, counted from the first that ever was in the queue.
    item: u64,
    /// What the vault has without us: WAL before this place.
    from: Lsn,
    /// Bytes of this segment that are durable as parts.
    parts: Option<(WalSegment, u32)>,
    durable: Lsn,
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

/// New bytes of an incomplete segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPart {
    /// Of which.
    pub segment: WalSegment,
    /// Where in it they begin.
    pub offset: u32,
    /// From the beginning of the page that holds the first of them.
    pages: Vec<u8>,
}

impl NewPart {
    /// The new bytes.
    pub fn content(&self) -> &[u8] {
        &self.pages[self.offset as usize % PAGE_SIZE..]
    }

    /// The same with what precedes them on their first page: records can be found in it.
    pub fn pages(&self) -> &[u8] {
        &self.pages
    }
}

impl Lane {
    /// A vault that has everything before `from`, a segment's beginning, and of the segment there, bytes as parts.
    pub fn new(from: Lsn, parts: Option<(WalSegment, u32)>) -> Lane {
        let in_parts = parts.map_or(0, |(_, end)| u64::from(end));
        Lane { item: 0, from, parts, durable: Lsn(from.0 + in_parts) }
    }

    /// Up to where the vault has everything, whole or in parts.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Takes note that a segment is durable up to `end`.
    pub fn part_is_durable(&mut self, segment: WalSegment, end: u32, size: SegmentSize) {
        self.parts = Some((segment, end));
        let start = segment.number(size).unwrap_or_default() * size.bytes();
        self.durable = self.durable.max(Lsn(start + u64::from(end)));
    }

    /// Takes note that a whole segment is durable.
    pub fn segment_is_durable(&mut self, segment: WalSegment, size: SegmentSize) {
        self.item += 1;
        let end = (segment.number(size).unwrap_or_default() + 1) * size.bytes();
        self.durable = self.durable.max(Lsn(end));
    }

    /// Takes note that a history is durable.
    pub fn history_is_durable(&mut self) {
        self.item += 1;
    }

    fn in_parts(&self, segment: WalSegment) -> usize {
        self.parts.filter(|(of, _)| *of == segment).map_or(0, |(_, end)| end as usize)
    }
}

impl Receiving {
    /// From the beginning of the segment that holds `at` on.
    pub fn new(timeline: Timeline, at: Lsn, size: SegmentSize) -> Receiving {
        let number = at.0 / size.bytes();
        Receiving { size, timeline, number, open: Vec::new(), queue: VecDeque::new(), left: 0 }
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
        self.timeline = timeline;
        self.number = left_at.0 / self.size.bytes();
    }

    /// Bytes that wait in the queue, the open segment's not counted.
    pub fn waiting(&self) -> u64 {
        let length = |item: &Item| match item {
            Item::History(_, content) | Item::Whole(_, content) | Item::Ended(_, content) => content.len() as u64,
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
                    if let Some(part) = new_part(*segment, content, lane.in_parts(*segment)) {
                        return Some(part);
                    }
                }
            }
            lane.item += 1;
        }
        let (segment, has) = (self.segment(), lane.in_parts(self.segment()));
        let new = (self.open.len() as u64).saturating_sub(has as u64);
        if self.end_of(segment) <= lane.from || !(due || new >= part_size) {
            return None;
        }
        new_part(segment, &self.open, has)
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

/// What of `bytes`, a segment's beginning, lies behind the first `has`.
fn new_part(segment: WalSegment, bytes: &[u8], has: usize) -> Option<Work> {
    let page = has / PAGE_SIZE * PAGE_SIZE;
    let pages = bytes.get(page..).filter(|_| has < bytes.len())?.to_vec();
    Some(Work::Part(NewPart { segment, offset: has as u32, pages }))
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
        let number = |segment: &WalSegment| format!("{}.{}", segment.timeline, segment.number(size()).unwrap());
        match work {
            None => "-".into(),
            Some(Work::History(timeline, _)) => format!("history {timeline}"),
            Some(Work::Segment(segment, content)) => format!("whole {}:{}", number(segment), content.len()),
            Some(Work::Part(part)) => {
                format!("part {}+{}:{}", number(&part.segment), part.offset, part.content().len())
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
            Some(Work::Part(part)) => {
                let end = part.offset + part.content().len() as u32;
                lane.part_is_durable(part.segment, end, size());
            }
        }
        name
    }

    fn at(mib: usize, bytes: usize) -> Lsn {
        Lsn((mib * MIB + bytes) as u64)
    }

    #[test]
    fn small_changes_wait_until_they_are_due_and_large_ones_do_not() {
        let mut receiving = Receiving::new(tl(1), at(3, 17), size());
        let mut lane = Lane::new(at(3, 0), None);
        assert_eq!(receiving.position(), at(3, 0));
        receiving.push(&[1; 100]);
        assert_eq!(ship(&receiving, &mut lane, false), "-");
        assert_eq!(ship(&receiving, &mut lane, true), "part 1.3+0:100");
        assert_eq!(ship(&receiving, &mut lane, true), "-");
        assert_eq!(lane.durable(), at(3, 100));
        receiving.push(&[2; 64 << 10]);
        assert_eq!(ship(&receiving, &mut lane, false), "part 1.3+100:65536");
        assert_eq!(lane.durable(), receiving.position());
    }

    #[test]
    fn a_part_is_cut_out_where_it_belongs() {
        let mut receiving = Receiving::new(tl(1), at(0, 0), size());
        let bytes: Vec<u8> = (0..60_000u32).map(|n| (n % 251) as u8).collect();
        let mut lane = Lane::new(at(0, 0), None);
        for range in [0..1, 1..8192, 8192..8193, 8193..30_000, 30_000..60_000] {
            receiving.push(&bytes[range.clone()]);
            let Some(Work::Part(part)) = receiving.next(&mut lane, PART, true) else { panic!() };
            assert!(part.content() == &bytes[range.clone()] && part.offset as usize == range.start);
            assert!(part.pages() == &bytes[range.start / 8192 * 8192..range.end]);
            lane.part_is_durable(part.segment, range.end as u32, size());
        }
    }

    #[test]
    fn a_complete_segment_is_shipped_whole_whatever_parts_there_are() {
        let mut receiving = Receiving::new(tl(1), at(3, 0), size());
        let (mut quick, mut slow) = (Lane::new(at(3, 0), None), Lane::new(at(3, 0), None));
        receiving.push(&vec![1; MIB / 2]);
        assert_eq!(ship(&receiving, &mut quick, false), "part 1.3+0:524288");
        receiving.push(&vec![2; 2 * MIB]);
        assert_eq!(receiving.position(), at(5, MIB / 2));
        for expected in ["whole 1.3:1048576", "whole 1.4:1048576", "part 1.5+0:524288", "-"] {
            assert_eq!(ship(&receiving, &mut quick, false), expected);
        }
        assert_eq!((quick.durable(), slow.durable()), (at(5, MIB / 2), at(3, 0)));
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
        let segment = WalSegment::numbered(tl(1), 5, size());
        let mut lane = Lane::new(at(5, 0), Some((segment, 1000)));
        assert_eq!(lane.durable(), at(5, 1000));
        receiving.push(&vec![1; MIB + 7]);
        assert_eq!(ship(&receiving, &mut lane, true), "-");
        receiving.push(&vec![1; MIB]);
        assert_eq!(ship(&receiving, &mut lane, true), "-");
        receiving.push(&[1; 2000]);
        assert_eq!(ship(&receiving, &mut lane, true), "part 1.5+1000:1007");
    }

    #[test]
    fn a_timeline_that_ends_leaves_parts_and_the_next_begins_with_its_history() {
        let mut receiving = Receiving::new(tl(1), at(3, 0), size());
        let mut lane = Lane::new(at(3, 0), None);
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
        assert_eq!(lane.durable(), at(3, 5600));
        // On a segment's boundary nothing is left behind.
        receiving.push(&vec![1; MIB - 5600]);
        receiving.switch(tl(3), at(4, 0));
        assert_eq!(ship(&receiving, &mut lane, true), "whole 2.3:1048576");
        assert_eq!(ship(&receiving, &mut lane, true), "-");
        assert_eq!((receiving.position(), lane.durable()), (at(4, 0), at(4, 0)));
    }
}
