//! Cutting a stream into pages where its content says, so that what is inserted or removed moves only the cuts around it.
//!
//! ```text
//! … | min 2 KiB: never looked at | strict until 4 KiB | lenient until 8 KiB, then cut | …
//! ```
//!
//! FastCDC (Xia et al., USENIX ATC 2016): a gear hash over the last 64 bytes; a cut where bits of it are zero, more bits
//! before the wished-for length than behind it. Text of rows is cut into some 5.2 KiB on average.
//!
//! No reader needs to know how it was cut. But two builds that cut differently share nothing, so the table is made here, by a
//! fixed rule, and a test holds its cuts: not a library's, which may change them with a release.

use strongroom_model::page::PAGE_SIZE;

/// No page but a stream's last is shorter.
const SHORTEST: usize = 2048;

/// Where the hash begins to be asked for less.
const WISHED: usize = 4096;

/// 13 and 11 bits: a cut in 8192 and in 2048 bytes. The upper ones, on which all of the last 64 bytes bear.
const STRICT: u64 = !(u64::MAX >> 13);
const LENIENT: u64 = !(u64::MAX >> 11);

/// What each byte adds: SplitMix64 (Steele, Lea, Flood, 2014), begun at zero.
const GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let (mut table, mut state, mut at) = ([0; 256], 0u64, 0);
    while at < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
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
    let wished = WISHED.min(page.len());
    let mut hash = 0u64;
    let mut look = |from: usize, to: usize, mask: u64| {
        let found = page.get(from..to)?.iter().position(|byte| {
            hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            hash & mask == 0
        });
        found.map(|at| from + at + 1)
    };
    let cut = look(SHORTEST, wished, STRICT).or_else(|| look(wished, page.len(), LENIENT));
    cut.or((page.len() == PAGE_SIZE).then_some(PAGE_SIZE))
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

    const CUTS: [usize; 6] = [7690, 7541, 4085, 4748, 4479, 4897];

    #[test]
    fn pages_are_neither_too_short_nor_too_long() {
        let bytes = rows(200_000);
        let lengths = cut(&bytes);
        assert_eq!(lengths.iter().sum::<usize>(), bytes.len());
        let (_, all) = lengths.split_last().unwrap();
        assert!(all.iter().all(|length| (SHORTEST + 1..=PAGE_SIZE).contains(length)));
        let mean = bytes.len() / lengths.len();
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
