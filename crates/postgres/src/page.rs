//! A relation's page: its header and its checksum (PostgreSQL `storage/bufpage.h`, `storage/checksum_impl.h`).
//!
//! ```text
//! 0 pd_lsn (two 32-bit halves, high first)   8 pd_checksum   10 pd_flags   12 pd_lower   14 pd_upper …
//! ```
//!
//! The checksum is FNV-1a over 32 interleaved columns of 32-bit words, mixed with the block's number so that a page
//! in the wrong place is found out. The columns are independent, which is what lets the compiler use vectors: keep the
//! inner loop a plain loop over [`LANES`]. Measured on one core: `cargo bench -p strongroom-postgres`.

use strongroom_model::Lsn;
use strongroom_model::page::PAGE_SIZE;

/// Independent columns (`N_SUMS`).
const LANES: usize = 32;

/// Bytes in one row of all columns.
const ROW: usize = LANES * 4;

/// `FNV_PRIME`.
const PRIME: u32 = 16_777_619;

/// `checksumBaseOffsets`: where each column begins.
const OFFSETS: [u32; LANES] = [
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
];

/// What a page is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fits its checksum.
    Good,
    /// All zeros: allocated, not yet used.
    New,
    /// Damaged, or read while it was being written.
    BadChecksum {
        /// What the page says.
        stored: u16,
        /// What its bytes give.
        computed: u16,
        /// The last WAL record that changed the page, as far as the page can be believed.
        lsn: Lsn,
    },
}

/// Judges the page that is block `block` of its relation's fork (counted over all its files).
pub fn judge(page: &[u8; PAGE_SIZE], block: u32) -> Verdict {
    let (stored, computed) = (u16_at(page, 8), checksum(page, block));
    if stored == computed {
        return Verdict::Good;
    }
    // PageIsNew looks at pd_upper alone, but a page whose pd_upper was lost has more to say: only zeros are new.
    if u16_at(page, 14) == 0 && page.iter().all(|byte| *byte == 0) {
        return Verdict::New;
    }
    Verdict::BadChecksum { stored, computed, lsn: lsn(page) }
}

/// `pd_lsn`: one past the last WAL record that changed the page.
pub fn lsn(page: &[u8; PAGE_SIZE]) -> Lsn {
    let half = |at: usize| u64::from(u16_at(page, at)) | u64::from(u16_at(page, at + 2)) << 16;
    Lsn(half(0) << 32 | half(4))
}

/// The checksum of the page as block `block`; its own checksum field counts as zero.
pub fn checksum(page: &[u8; PAGE_SIZE], block: u32) -> u16 {
    let mut first = [0; ROW];
    first.copy_from_slice(&page[..ROW]);
    first[8..10].fill(0);
    let mut sums = OFFSETS;
    add_row(&mut sums, &first);
    let (rows, _) = page.as_chunks::<ROW>();
    for row in &rows[1..] {
        add_row(&mut sums, row);
    }
    add_row(&mut sums, &[0; ROW]);
    add_row(&mut sums, &[0; ROW]);
    let folded = sums.iter().fold(0, |folded, sum| folded ^ sum) ^ block;
    // An offset of one keeps 0 for pages without a checksum. The remainder is below 65535.
    (folded % 65_535 + 1) as u16
}

/// One round of every column.
#[inline(always)]
fn add_row(sums: &mut [u32; LANES], row: &[u8; ROW]) {
    let (words, _) = row.as_chunks::<4>();
    for lane in 0..LANES {
        let mixed = sums[lane] ^ u32::from_le_bytes(words[lane]);
        sums[lane] = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

fn u16_at(page: &[u8; PAGE_SIZE], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(fill: impl Fn(usize) -> u8) -> Box<[u8; PAGE_SIZE]> {
        let mut page = Box::new([0; PAGE_SIZE]);
        page.iter_mut().enumerate().for_each(|(at, byte)| *byte = fill(at));
        page
    }

    fn signed(mut page: Box<[u8; PAGE_SIZE]>, block: u32) -> Box<[u8; PAGE_SIZE]> {
        let sum = checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    /// The same sum, written the slow and obvious way: one column after the other.
    fn plain(page: &[u8; PAGE_SIZE], block: u32) -> u16 {
        let word = |at: usize| match at {
            2 => u32::from(u16_at(page, 10)) << 16,
            _ => u32::from(u16_at(page, at * 4)) | u32::from(u16_at(page, at * 4 + 2)) << 16,
        };
        let round = |sum: u32, value: u32| (sum ^ value).wrapping_mul(PRIME) ^ ((sum ^ value) >> 17);
        let column = |lane: usize| {
            let sum =
                (lane..PAGE_SIZE / 4).step_by(LANES).fold(OFFSETS[lane], |sum, at| round(sum, word(at)));
            round(round(sum, 0), 0)
        };
        ((0..LANES).fold(block, |folded, lane| folded ^ column(lane)) % 65_535 + 1) as u16
    }

    #[test]
    fn a_page_is_new_only_when_all_zero() {
        assert_eq!(judge(&page(|_| 0), 7), Verdict::New);
        let lost_header = page(|at| u8::from(at > 4096));
        assert!(matches!(judge(&lost_header, 7), Verdict::BadChecksum { .. }));
    }

    #[test]
    fn a_page_in_the_wrong_place_is_bad() {
        let page = signed(page(|at| at as u8), 5);
        assert_eq!(judge(&page, 5), Verdict::Good);
        assert!(matches!(judge(&page, 6), Verdict::BadChecksum { .. }));
    }

    #[test]
    fn the_lsn_has_its_high_half_first() {
        let mut page = page(|_| 0);
        page[..8].copy_from_slice(&[0x16, 0, 0, 0, 0x48, 0xD8, 0x74, 0xB3]);
        assert_eq!(lsn(&page).to_string(), "16/B374D848");
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_sum_and_sees_every_flipped_bit(seed: u64, block: u32, at in 0usize..PAGE_SIZE, bit in 0u8..8) {
            let random = page(|at| (seed.rotate_left(at as u32 % 61).wrapping_mul(at as u64 | 1) >> 32) as u8);
            prop_assert_eq!(checksum(&random, block), plain(&random, block));
            let mut flipped = signed(random, block);
            prop_assert_eq!(judge(&flipped, block), Verdict::Good);
            flipped[at] ^= 1 << bit;
            let seen = matches!(judge(&flipped, block), Verdict::BadChecksum { .. });
            prop_assert!(seen);
        }
    }
}
