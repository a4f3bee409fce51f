//! The tail of a journal: what is durable of a segment that the server still writes to.
//!
//! A receiver stores it as parts, each under its own stretch of bytes. Small ones are merged as they add up, so that
//! neither a tail of ten hours is ten thousand objects nor each byte is stored over and over:
//!
//! ```text
//! 0 ├─┼─┼─┼─┼─┤                         FAN parts of one size class …
//! 0 ├─────────┼─┼─┼─┼─┼─┤               … are followed by one that covers them and what came meanwhile
//! 0 ├───────────────────┼─┤             so a byte is stored once per class: the logarithm of the number of parts
//! ```

use std::fmt;

/// Parts of one size class before one covers them all.
const FAN: usize = 16;

/// Bytes `start..end` of a segment. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stretch {
    start: u32,
    end: u32,
}

impl Stretch {
    /// Bytes `start..end`; `None` if that is none.
    pub fn new(start: u32, end: u32) -> Option<Stretch> {
        (start < end).then_some(Stretch { start, end })
    }

    /// Its first byte.
    pub fn start(self) -> u32 {
        self.start
    }

    /// Behind its last byte.
    pub fn end(self) -> u32 {
        self.end
    }

    /// Bytes in it.
    pub fn bytes(self) -> u32 {
        self.end - self.start
    }

    /// Whether every byte of `other` is in it, and more.
    pub fn covers(self, other: Stretch) -> bool {
        self != other && self.start <= other.start && other.end <= self.end
    }
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:08X}-{:08X}", self.start, self.end))
    }
}

/// The fewest of `parts` that hold the bytes from 0 on without a gap, in order. The last one's end is the tail's.
pub fn cover(parts: impl IntoIterator<Item = Stretch>) -> Vec<Stretch> {
    let mut parts: Vec<Stretch> = parts.into_iter().collect();
    parts.sort_unstable();
    let (mut chosen, mut end, mut next) = (Vec::new(), 0, 0);
    loop {
        let mut best: Option<Stretch> = None;
        while let Some(part) = parts.get(next).filter(|part| part.start <= end) {
            best = best.into_iter().chain([*part]).max_by_key(|part| part.end);
            next += 1;
        }
        let Some(part) = best.filter(|part| part.end > end) else { return chosen };
        chosen.push(part);
        end = part.end;
    }
}

/// Where the parts of one open segment begin: the state of a receiver. The first covers the segment from its beginning,
/// also after a restart, so that nothing depends on what an earlier receiver stored.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    end: u32,
    /// Begin and size class of those that no other covers, in order; classes do not ascend.
    open: Vec<(u32, u32)>,
}

impl Parts {
    /// The part to store when the segment has been received up to `end`; `None` if all of that is stored.
    /// Call [`stored`](Parts::stored) once it is durable.
    pub fn next(&self, end: u32) -> Option<Stretch> {
        Stretch::new(self.place().1, end).filter(|_| end > self.end)
    }

    /// What [`next`](Parts::next) gave is durable.
    pub fn stored(&mut self, part: Stretch) {
        let (kept, start, class) = self.place();
        self.open.truncate(kept);
        self.open.push((start, class));
        self.end = part.end;
    }

    /// The segment is durable up to here.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// How many open parts the next one leaves alone, its begin and its class.
    fn place(&self) -> (usize, u32, u32) {
        let (mut kept, mut start, mut class) = (self.open.len(), self.end, 0);
        loop {
            let run = self.open[..kept].iter().rev().take_while(|(_, of)| *of == class).count();
            if run + 1 < FAN {
                return (kept, start, class);
            }
            kept -= run;
            start = self.open[kept].0;
            class += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(start: u32, end: u32) -> Stretch {
        Stretch::new(start, end).unwrap()
    }

    #[test]
    fn the_cover_begins_at_the_beginning_and_ends_at_the_first_gap() {
        for (parts, chosen) in [
            (vec![], vec![]),
            (vec![(1, 9)], vec![]),
            (vec![(0, 3), (3, 5)], vec![(0, 3), (3, 5)]),
            (vec![(0, 3), (4, 9)], vec![(0, 3)]),
            (vec![(0, 3), (2, 4), (1, 6), (6, 7)], vec![(0, 3), (1, 6), (6, 7)]),
            (vec![(0, 1), (1, 2), (2, 3), (0, 4)], vec![(0, 4)]),
            (vec![(0, 8), (2, 8), (3, 4)], vec![(0, 8)]),
        ] {
            let stretches = |of: &[(u32, u32)]| of.iter().map(|(a, b)| part(*a, *b)).collect::<Vec<_>>();
            assert_eq!(cover(stretches(&parts).into_iter().rev()), stretches(&chosen), "{parts:?}");
        }
    }

    #[test]
    fn nothing_new_is_no_part() {
        let mut parts = Parts::default();
        assert_eq!(parts.next(0), None);
        parts.stored(parts.next(7).unwrap());
        assert_eq!((parts.next(7), parts.next(6), parts.next(8)), (None, None, Some(part(7, 8))));
    }

    proptest! {
        #[test]
        fn a_tail_is_whole_small_and_not_stored_too_often(steps in prop::collection::vec(1u32..5000, 1..3000)) {
            let (mut parts, mut all, mut end) = (Parts::default(), Vec::new(), 0);
            for step in &steps {
                end += step;
                let next = parts.next(end).unwrap();
                prop_assert_eq!(next.end(), end);
                all.push(next);
                parts.stored(next);
                let chosen = cover(all.iter().copied());
                prop_assert_eq!(chosen.last().map(|last| last.end()), Some(end));
                prop_assert!(chosen.len() <= 3 * FAN);
                all.retain(|old| !next.covers(*old));
            }
            prop_assert_eq!(parts.end(), end);
        }

        #[test]
        fn each_byte_is_stored_once_per_size_class(count in 1u32..5000) {
            let (mut parts, mut stored) = (Parts::default(), 0u64);
            for end in 1..=count {
                let next = parts.next(end).unwrap();
                stored += u64::from(next.bytes());
                parts.stored(next);
            }
            let classes = 1 + u64::from(count.max(1).ilog(FAN as u32));
            prop_assert!(stored <= u64::from(count) * classes, "{} > {} * {}", stored, count, classes);
        }
    }
}
