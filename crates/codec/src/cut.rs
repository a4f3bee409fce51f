//! Cutting a stream into pages where its content says, so that what is inserted or removed moves only the cuts around it.
//!
//! ```text
//! … | min 512: never | a line's end if its hash says so, the longer the likelier | 960: any line's end | until 8 KiB | …
//!                                        no line ends there: strict until 4 KiB, lenient until 8 KiB, then cut ┘
//! ```
//!
//! Streams are rows as text, a line each. A page ends with a line, so that a row that changed is on one page and no other; and
//! it is short, some 800 bytes, so that few others are on it (docs/decisions/0029). A line of any length is
//! the last of its page with odds of its bytes in 384.
//!
//! Where a row is longer than a page, or there are no lines, FastCDC (Xia et al., USENIX ATC 2016): a gear hash over the last 64
//! bytes; a cut where bits of it are zero, more bits before the wished-for length than behind it.
//!
//! No reader needs to know how it was cut. But two builds that cut differently share nothing, so both hashes are made here, by a
//! fixed rule, and a test holds their cuts: not a library's, which may change them with a release.

use memchr::{memchr_iter, memrchr};
use strongroom_model::page::PAGE_SIZE;

/// No page but a stream's last is shorter.
const SHORTEST: usize = 512;

/// Of so many bytes of lines, one ends a page.
const BETWEEN: u64 = 384;

/// From here on any line's end is taken: BLAKE3 hashes up to 1024 bytes without making a tree of them.
const ANY_LINE: usize = 960;

/// Without lines: where the gear hash begins to look, and where it is asked for less.
const UNLINED: usize = 2048;
const WISHED: usize = 4096;

/// 13 and 11 bits: a cut in 8192 and in 2048 bytes. The upper ones, on which all of the last 64 bytes bear.
const STRICT: u64 = !(u64::MAX >> 13);
const LENIENT: u64 = !(u64::MAX >> 11);

/// What each byte adds: SplitMix64 (Steele, Lea, Flood, 2014), begun at zero.
const GEAR: [u64; 256] = gear();

/// SplitMix64's step, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

const fn gear() -> [u64; 256] {
    let (mut table, mut state, mut at) = ([0; 256], 0u64, 0);
    while at < 256 {
        state = state.wrapping_add(STEP);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    table
}

/// How long the first page of `bytes` is. `None` if more must be known to tell: `bytes` are fewer than a page and the stream
/// goes on.
pub fn first_page(bytes: &[u8]) -> Option<usize> {
    let page = bytes.get(..PAGE_SIZE).unwrap_or(bytes);
    let whole = (page.len() == PAGE_SIZE).then_some(page);
    end_of_lines(page).or_else(|| whole.map(end_without_lines))
}

/// Where a page ends with a line.
fn end_of_lines(page: &[u8]) -> Option<usize> {
    let behind = page.get(SHORTEST..)?;
    let mut begin = memrchr(b'\n', &page[..SHORTEST]).map_or(0, |at| at + 1);
    let mut ends = memchr_iter(b'\n', behind).map(|at| SHORTEST + at + 1);
    ends.find(|end| {
        let line = &page[begin..*end];
        begin = *end;
        *end >= ANY_LINE || is_last(line)
    })
}

/// Whether a line ends its page.
fn is_last(line: &[u8]) -> bool {
    let (words, rest) = line.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = words.iter().chain([&last]).fold(line.len() as u64, |hash, word| {
        let mixed = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(STEP);
        mixed ^ (mixed >> 32)
    });
    hash % BETWEEN < line.len() as u64
}

/// Where a page ends in which no line does.
fn end_without_lines(page: &[u8]) -> usize {
    let mut hash = 0u64;
    let mut look = |from: usize, to: usize, mask: u64| {
        let found = page[from..to].iter().position(|byte| {
            hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            hash & mask == 0
        });
        found.map(|at| from + at + 1)
    };
    look(UNLINED, WISHED, STRICT).or_else(|| look(WISHED, page.len(), LENIENT)).unwrap_or(page.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of a whole stream's pages.
    fn cut(mut bytes: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !bytes.is_empty() {
            let length = first_page(bytes).unwrap_or(bytes.len());
            lengths.push(length);
            bytes = &bytes[length..];
        }
        lengths
    }

    /// Rows of a table as text.
    fn rows(count: u64) -> Vec<u8> {
        let row = |n: u64| {
            format!("{n}\tcustomer {}\t{:x}\t2026-11-{:02}\n", n * 7919 % 1000, n.wrapping_mul(n), n % 30)
        };
        (0..count).map(row).collect::<String>().into_bytes()
    }

    #[test]
    fn the_cuts_stay_what_they_are() {
        // Another table or other masks would store every dump afresh once: that must be meant.
        assert_eq!(GEAR[..2], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        assert_eq!(cut(&rows(1000))[..6], CUTS);
    }

    const CUTS: [usize; 6] = [989, 523, 593, 541, 644, 623];

    #[test]
    fn pages_are_neither_too_short_nor_too_long() {
        let bytes = rows(200_000);
        let lengths = cut(&bytes);
        assert_eq!(lengths.iter().sum::<usize>(), bytes.len());
        let (_, all) = lengths.split_last().unwrap();
        assert!(all.iter().all(|length| (SHORTEST + 1..ANY_LINE + 100).contains(length)));
        let mean = bytes.len() / lengths.len();
        assert!((700..850).contains(&mean), "{mean}");
        let unlined: Vec<u8> = bytes.into_iter().filter(|byte| *byte != b'\n').collect();
        let lengths = cut(&unlined);
        let (_, all) = lengths.split_last().unwrap();
        assert!(all.iter().all(|length| (UNLINED + 1..=PAGE_SIZE).contains(length)));
        let mean = unlined.len() / lengths.len();
        assert!((4600..5800).contains(&mean), "{mean}");
        assert_eq!(cut(&[0; 3 * PAGE_SIZE]), [PAGE_SIZE; 3]);
        assert_eq!((first_page(&[]), first_page(&[1; 100])), (None, None));
    }

    #[test]
    fn what_is_inserted_moves_only_the_cuts_around_it() {
        let mut bytes = rows(20_000);
        let before = cut(&bytes);
        bytes.splice(300_000..300_000, *b"a row that was not there before\n");
        let after = cut(&bytes);
        let tail =
            before.iter().rev().zip(after.iter().rev()).take_while(|(one, other)| one == other).count();
        let head = before.iter().zip(&after).take_while(|(one, other)| one == other).count();
        assert!(
            before.len() - head - tail <= 4,
            "{} of {} pages changed",
            before.len() - head - tail,
            before.len()
        );
    }

    /// A thousand rows that changed are a thousand pages at most, but for cuts that moved with them.
    #[test]
    fn a_row_that_changed_is_on_one_page() {
        let all = rows(100_000);
        let mut changed: Vec<Vec<u8>> =
            all.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        // Odd multiples of a prime, so that they are not at even distances.
        (0..1000).for_each(|n| changed[(n * 7919 * 2 + 1) % 100_000].insert(0, b'9'));
        let changed = changed.concat();
        let pages = |bytes: &[u8]| {
            let mut at = 0;
            let page = |length| {
                at += length;
                bytes[at - length..at].to_vec()
            };
            cut(bytes).into_iter().map(page).collect::<Vec<_>>()
        };
        let had: std::collections::HashSet<_> = pages(&all).into_iter().collect();
        let pages = pages(&changed);
        let new = pages.iter().filter(|page| !had.contains(*page)).count();
        assert!(pages.len() > 4500 && new < 1300, "{new} of {} pages", pages.len());
    }

    #[test]
    fn a_page_does_not_depend_on_how_much_is_known_behind_it() {
        let bytes = rows(1000);
        let length = first_page(&bytes).unwrap();
        for known in [length, length + 1, PAGE_SIZE, PAGE_SIZE + 1] {
            assert_eq!(first_page(&bytes[..known]), Some(length), "{known}");
        }
        assert_eq!(first_page(&bytes[..length - 1]), None);
    }
}
