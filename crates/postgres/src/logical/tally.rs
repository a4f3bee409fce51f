//! What is counted of a table's rows while they pass: how many, their sum, and the latest of their times.
//!
//! A row's text is hashed (XXH3, 128 bits) and the hashes are added up, so that the sum is the same in whatever order rows
//! come, and parts' sums add up to the table's. It finds mistakes, not malice: what lies in the vault is authenticated anyway.
//!
//! **Invariant**: the same rows give the same tally, however they are cut into pieces.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

/// The longest a time's text may be: what is longer is none.
const LONGEST_TIME: usize = 48;

/// A sum of rows' hashes. Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sum(u128);

impl Sum {
    /// Both sums' rows together.
    pub fn with(self, other: Sum) -> Sum {
        Sum(self.0.wrapping_add(other.0))
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Sum {
    type Err = String;

    fn from_str(text: &str) -> Result<Sum, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(Sum).ok_or_else(|| format!("'{text}' is not a sum: it has 32 hexadecimal digits"))
    }
}

impl TryFrom<String> for Sum {
    type Error = String;

    fn try_from(text: String) -> Result<Sum, String> {
        text.parse()
    }
}

impl From<Sum> for String {
    fn from(sum: Sum) -> String {
        sum.to_string()
    }
}

/// The count of some rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub rows: u64,
    /// Their text's bytes, with line ends.
    pub bytes: u64,
    /// Their sum.
    pub sum: Sum,
    /// The latest value of each time-like column, by its place among the columns.
    pub latest: Vec<Option<String>>,
}

impl Counted {
    /// Both counts together.
    pub fn with(mut self, other: &Counted) -> Counted {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.sum = self.sum.with(other.sum);
        self.latest.resize(self.latest.len().max(other.latest.len()), None);
        for (mine, theirs) in self.latest.iter_mut().zip(&other.latest) {
            if let Some(theirs) = theirs
                && mine.as_ref().is_none_or(|mine| is_later(theirs.as_bytes(), mine.as_bytes()))
            {
                *mine = Some(theirs.clone());
            }
        }
        self
    }
}

/// Counts rows as COPY writes them.
pub struct Tally {
    counted: Counted,
    /// Of a row that came in pieces, what came so far.
    hasher: Option<XxHash3_128>,
    /// Whether each column is a time.
    is_time: Vec<bool>,
    /// The column that the row is at, and what was read of it, if it is a time.
    column: usize,
    value: Vec<u8>,
}

impl Tally {
    /// Counts rows of which these columns hold times.
    pub fn new(mut is_time: Vec<bool>) -> Tally {
        // Behind the last one nothing needs to be looked at.
        is_time.truncate(is_time.iter().rposition(|is| *is).map_or(0, |last| last + 1));
        let counted = Counted { latest: vec![None; is_time.len()], ..Counted::default() };
        Tally { counted, hasher: None, is_time, column: 0, value: Vec::new() }
    }

    /// Takes a piece of a row, and whether the row ends with it.
    pub fn take(&mut self, piece: &[u8], ends: bool) {
        self.counted.bytes += piece.len() as u64;
        let hash = match (&mut self.hasher, ends) {
            (None, true) => Some(XxHash3_128::oneshot(piece)),
            (hasher, _) => {
                let hasher = hasher.get_or_insert_with(XxHash3_128::new);
                hasher.write(piece);
                ends.then(|| hasher.finish_128())
            }
        };
        if !self.is_time.is_empty() {
            self.look_for_times(piece, ends);
        }
        if let Some(hash) = hash {
            self.hasher = None;
            self.counted.rows += 1;
            self.counted.sum = self.counted.sum.with(Sum(hash));
        }
    }

    /// What was counted.
    pub fn finish(self) -> Counted {
        self.counted
    }

    fn look_for_times(&mut self, piece: &[u8], ends: bool) {
        // A tab inside a value is written as `\t`.
        for field in piece.split_inclusive(|byte| *byte == b'\t') {
            let Some(is_time) = self.is_time.get(self.column) else { break };
            let (text, closed) = match field.strip_suffix(b"\t") {
                Some(text) => (text, true),
                None => (field, false),
            };
            if *is_time && self.value.len() <= LONGEST_TIME {
                self.value.extend_from_slice(&text[..text.len().min(LONGEST_TIME + 1)]);
            }
            if closed {
                self.close_field();
            }
        }
        if ends {
            if self.value.last() == Some(&b'\n') {
                self.value.pop();
            }
            self.close_field();
            self.column = 0;
        }
    }

    fn close_field(&mut self) {
        if let Some(best) = self.counted.latest.get_mut(self.column)
            && is_time(&self.value)
            && best.as_ref().is_none_or(|best| is_later(&self.value, best.as_bytes()))
        {
            *best = std::str::from_utf8(&self.value).ok().map(str::to_owned);
        }
        self.value.clear();
        self.column += 1;
    }
}

/// Whether this is a moment of our era: neither NULL, infinite nor before Christ.
fn is_time(text: &[u8]) -> bool {
    text.len() <= LONGEST_TIME && text.first().is_some_and(u8::is_ascii_digit) && !text.ends_with(b"BC")
}

/// Whether ISO's writing of one moment is later than another's. Years have four digits or more.
fn is_later(one: &[u8], other: &[u8]) -> bool {
    let year = |text: &[u8]| text.iter().position(|byte| *byte == b'-').unwrap_or(text.len());
    (year(one), one) > (year(other), other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(is_time: &[bool], rows: &[&str]) -> Counted {
        let mut tally = Tally::new(is_time.to_vec());
        for row in rows {
            tally.take(format!("{row}\n").as_bytes(), true);
        }
        tally.finish()
    }

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let sum = |rows: &[&str]| counted(&[], rows).sum;
        assert_eq!(sum(&["a\t1", "b\t2", "b\t2"]), sum(&["b\t2", "a\t1", "b\t2"]));
        for other in [&["a\t1", "b\t2"][..], &["a\t1", "b\t2", "b\t3"], &["a\t1", "a\t1", "b\t2"], &[]] {
            assert_ne!(sum(&["a\t1", "b\t2", "b\t2"]), sum(other), "{other:?}");
        }
        assert_ne!(sum(&["a", "b"]), sum(&["ab", ""]));
        let text = sum(&["a"]).to_string();
        assert_eq!(text.parse(), Ok(sum(&["a"])));
        for wrong in ["", "0", "+000000000000000000000000000000f", "zz"] {
            assert!(wrong.parse::<Sum>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_latest_time_of_each_column_is_found() {
        let found = counted(
            &[false, true, false, true, false],
            &[
                "x\t2026-11-21 12:00:00+00\ty\t9999-12-31\tz",
                "x\t2026-11-21 12:00:00.5+00\ty\t10000-01-01\tz",
                "x\tinfinity\t9999\t0044-03-15 BC\tz",
                "x\t\\N\t\t\\N\tz",
            ],
        );
        let latest =
            [None, Some("2026-11-21 12:00:00.5+00".to_owned()), None, Some("10000-01-01".to_owned())];
        assert_eq!(found.latest, latest);
        assert_eq!(counted(&[true], &["2026-01-01"]).latest, [Some("2026-01-01".to_owned())]);
        let both = counted(&[true], &["2026-01-01"]).with(&counted(&[true], &["2026-01-02"]));
        assert_eq!((both.rows, both.latest), (2, vec![Some("2026-01-02".to_owned())]));
        assert_eq!(counted(&[true], &[&"1".repeat(1000)]).latest, [None]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(rows: Vec<Vec<u8>>, cuts: Vec<usize>) {
            let is_time = vec![true, false, true];
            let (mut whole, mut cut) = (Tally::new(is_time.clone()), Tally::new(is_time));
            let mut cuts = cuts.iter().cycle();
            for row in &rows {
                whole.take(row, true);
                let (first, rest) = row.split_at(cuts.next().map_or(0, |cut| cut % (row.len() + 1)));
                let (second, third) = rest.split_at(cuts.next().map_or(0, |cut| cut % (rest.len() + 1)));
                cut.take(first, false);
                cut.take(second, false);
                cut.take(third, true);
            }
            prop_assert_eq!(whole.finish(), cut.finish());
        }
    }
}
