//! The queue and its lanes, as tables and under random orders.

use std::collections::BTreeMap;

use proptest::prelude::*;

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

/// What a timeline has at a place: of timelines that share it, the same.
fn byte(at: u64) -> u8 {
    (at % 251) as u8
}

fn bytes(from: u64, count: usize) -> Vec<u8> {
    (from..from + count as u64).map(byte).collect()
}

/// Of each segment, up to where a vault has it.
type Stored = BTreeMap<WalSegment, u64>;

/// Puts into a vault what is next, if anything is.
fn store(receiving: &Receiving, lane: &mut Lane, stored: &mut Stored, due: bool) {
    let Some(work) = receiving.next(lane, PART, due) else { return };
    let (segment, start, content) = match &work {
        Work::History(..) => return lane.history_is_durable(),
        Work::Segment(segment, content) => (*segment, 0, &content[..]),
        Work::Part(part) => (part.segment, u64::from(part.stretch.start()), part.content()),
    };
    let has = stored.entry(segment).or_default();
    assert!(start <= *has, "{segment}: a gap before {start}");
    let place = segment.number(size()).unwrap() * size().bytes() + start;
    assert!(content == bytes(place, content.len()), "{segment}: other bytes at {start}");
    *has = (*has).max(start + content.len() as u64);
    match work {
        Work::Segment(segment, content) => {
            assert_eq!(content.len() as u64, size().bytes());
            lane.segment_is_durable(segment, size());
        }
        Work::Part(part) => lane.part_is_durable(&part, None, size()),
        Work::History(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order, a vault has every byte before the position that is reported for it.
    #[test]
    fn what_is_reported_is_there(steps in prop::collection::vec((0u8..8, 1usize..300_000), 1..60)) {
        let start = at(3, 0);
        let mut receiving = Receiving::new(tl(1), start, size());
        let mut lanes = [Lane::new((tl(1), start)), Lane::new((tl(1), start))];
        let mut stored = [Stored::new(), Stored::new()];
        // Each timeline, and where the next one left it.
        let mut path: Vec<(Timeline, Lsn)> = Vec::new();
        for (step, count) in steps {
            match step {
                0..=2 => receiving.push(&bytes(receiving.position().0, count)),
                3 => {
                    let (timeline, position) = (receiving.timeline(), receiving.position());
                    let least = path.last().map_or(start, |(_, left_at)| *left_at).0;
                    let left_at = Lsn(least + (count as u64) % (position.0.saturating_sub(least) + 1));
                    let next = tl(timeline.get() + 1);
                    path.push((timeline, left_at));
                    receiving.push_history(next, Bytes::from_static(b"history"));
                    receiving.switch(next, left_at);
                }
                4 => receiving.release(lanes.iter()),
                other => {
                    let vault = usize::from(other % 2);
                    store(&receiving, &mut lanes[vault], &mut stored[vault], count % 2 == 0);
                }
            }
            for (lane, stored) in lanes.iter().zip(&stored) {
                let durable = receiving.durable(lane);
                let mut from = start;
                for (timeline, end) in path.iter().copied().chain([(receiving.timeline(), durable)]) {
                    let end = end.min(durable);
                    for number in from.0 / size().bytes()..end.0.div_ceil(size().bytes()) {
                        let segment = WalSegment::numbered(timeline, number, size());
                        let wanted = (end.0 - number * size().bytes()).min(size().bytes());
                        let has = stored.get(&segment).copied().unwrap_or(0);
                        // The beginning of a newer timeline's first segment is the older one's.
                        let shared = from.0.saturating_sub(number * size().bytes());
                        prop_assert!(has >= wanted || wanted <= shared, "{segment}: {has} of {wanted}");
                    }
                    from = end;
                }
            }
        }
    }
}
