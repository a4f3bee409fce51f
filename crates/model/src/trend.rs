//! Whether a dump is as large as the one before it lets expect: one of the wrong database, or of one that was emptied, is
//! whole and in order, and nothing that anybody wants.

use serde::Serialize;

use crate::name::PointId;
use crate::point::Summary;
use crate::size::ByteSize;

/// A dump that is far smaller than the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shrunk {
    /// The one before it.
    pub before: PointId,
    /// That one's bytes.
    pub bytes_before: u64,
    /// Its own bytes.
    pub bytes: u64,
    /// How many percent of those it should have had at least.
    pub least_percent: u32,
}

/// Whether `dump` has fewer than `least_percent` of the bytes of the dump that shows the moment before it. `points` are those
/// that can be restored, of either kind, in any order. A first dump is as large as it is.
pub fn shrunk<'a>(
    points: impl IntoIterator<Item = &'a Summary>,
    dump: &Summary,
    least_percent: u32,
) -> Option<Shrunk> {
    let is_before = |point: &&Summary| {
        point.journal.is_none() && point.engine == dump.engine && point.stopped_at < dump.stopped_at
    };
    let before =
        points.into_iter().filter(is_before).max_by_key(|point| (point.stopped_at, point.point.clone()))?;
    let least = u128::from(before.bytes) * u128::from(least_percent);
    (u128::from(dump.bytes) * 100 < least).then(|| Shrunk {
        before: before.point.clone(),
        bytes_before: before.bytes,
        bytes: dump.bytes,
        least_percent,
    })
}

impl std::fmt::Display for Shrunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shrunk { before, bytes_before, bytes, least_percent } = self;
        let (bytes, bytes_before) = (ByteSize(*bytes), ByteSize(*bytes_before));
        write!(
            f,
            "{bytes} are less than {least_percent} % of the {bytes_before} that {before} has, the dump before it"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn dump(second: i64, bytes: u64) -> Summary {
        let at = Timestamp::from_unix_micros(second * 1_000_000).unwrap();
        Summary {
            point: PointId::new(at, [second as u8; 4]),
            source: "shop".parse().unwrap(),
            engine: "toy-dump".to_owned(),
            product: "toy".to_owned(),
            parent: None,
            started_at: at,
            stopped_at: at,
            committed_at: at,
            journal: None,
            entries: 1,
            bytes,
            stored: 0,
            packs: 0,
            damaged_pages: 0,
            from_standby: false,
            reading: None,
        }
    }

    #[test]
    fn a_dump_is_held_against_the_one_before_it() {
        let other = Summary { engine: "another".to_owned(), ..dump(25, 1 << 40) };
        let later = dump(40, 1 << 40);
        for (before, bytes, percent, told) in [
            (&[][..], 0, 50, false),
            (&[(10, 100)], 49, 50, true),
            (&[(10, 100)], 50, 50, false),
            (&[(10, 100)], 0, 0, false),
            (&[(10, 0)], 0, 100, false),
            (&[(10, 1000), (20, 100)], 60, 50, false),
            (&[(20, 1000), (10, 100)], 60, 50, true),
            (&[(10, u64::MAX)], u64::MAX - 1, 100, true),
        ] {
            let mut points: Vec<Summary> =
                before.iter().map(|(second, bytes)| dump(*second, *bytes)).collect();
            points.extend([other.clone(), later.clone(), dump(30, bytes)]);
            let found = shrunk(&points, &dump(30, bytes), percent);
            assert_eq!(found.is_some(), told, "{before:?} {bytes} {percent}");
        }
        let found = shrunk([&dump(10, 4096)], &dump(30, 1024), 50).unwrap().to_string();
        assert!(found.starts_with("1.0 KiB are less than 50 % of the 4.0 KiB that 1970"), "{found}");
    }
}
