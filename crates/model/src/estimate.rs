//! How long a restore will take, by restores that were measured.
//!
//! **Invariants**
//! - Every figure comes from measures; where there is none, there is no figure.
//! - A measure speaks for work of its own kind, of up to [`REACHES`] times its size: what a small one took was mostly beginning.
//! - Measures of this host go before those of others, which have other disks and other ways to the vault.

use serde::{Deserialize, Serialize};

/// How much larger than what was measured the work may be that is estimated by it.
const REACHES: u64 = 10;

/// The longest time that is taken for a measure, in seconds: some thirty years.
const LONGEST: f64 = 1e9;

/// Bytes worked through in so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// How many.
    pub bytes: u64,
    /// In which time.
    pub seconds: f64,
}

/// What one restore took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// On which host.
    pub host: String,
    /// Whether files that were there were compared first.
    pub compared: bool,
    /// The point's files, until they were durable; `None` if something held them up or left a part out.
    pub pages: Option<Stretch>,
    /// The journal, from the server's start until it was in production; `None` if nobody watched.
    pub replay: Option<Stretch>,
}

/// What is to be estimated.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// On which host.
    pub host: &'a str,
    /// Whether files that are there are compared first.
    pub compared: bool,
    /// Bytes of the point's files.
    pub pages: u64,
    /// Bytes of the journal behind it, at most.
    pub replay: u64,
}

/// How long something will take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Expected {
    /// How many measures say so.
    pub measures: usize,
    /// Whether they are of this host.
    pub here: bool,
    /// Bytes a second, in the middle of them; the slowest; the fastest.
    pub rates: [u64; 3],
    /// Seconds at the rate in the middle.
    pub seconds: f64,
    /// Seconds at the fastest.
    pub least: f64,
    /// Seconds at the slowest.
    pub most: f64,
}

/// How long a restore will take, as far as was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Until the point's files are durable.
    pub pages: Option<Expected>,
    /// From the server's start until it is in production.
    pub replay: Option<Expected>,
    /// Bytes of journal to replay, at most.
    pub replay_bytes: u64,
}

/// Estimates by what was measured.
pub fn estimate(measures: &[Measure], wanted: &Wanted<'_>) -> Estimate {
    let kind = |measure: &&Measure| measure.compared == wanted.compared;
    let pages = |measure: &Measure| measure.pages;
    let replay = |measure: &Measure| measure.replay;
    Estimate {
        pages: expected(measures.iter().filter(kind), &pages, (wanted.host, wanted.pages)),
        replay: expected(measures.iter(), &replay, (wanted.host, wanted.replay)),
        replay_bytes: wanted.replay,
    }
}

fn expected<'a>(
    measures: impl Iterator<Item = &'a Measure>,
    part: &dyn Fn(&Measure) -> Option<Stretch>,
    (host, bytes): (&str, u64),
) -> Option<Expected> {
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for measure in measures {
        let Some(rate) = part(measure).and_then(|stretch| stretch.rate_for(bytes)) else { continue };
        if measure.host == host { here.push(rate) } else { elsewhere.push(rate) }
    }
    let is_here = !here.is_empty();
    let mut rates = if is_here { here } else { elsewhere };
    rates.sort_by(f64::total_cmp);
    let (slowest, fastest) = (*rates.first()?, *rates.last()?);
    // The slower of two in the middle: rather early than late.
    let middle = rates[(rates.len() - 1) / 2];
    let seconds = |rate: f64| bytes as f64 / rate;
    Some(Expected {
        measures: rates.len(),
        here: is_here,
        rates: [middle, slowest, fastest].map(|rate| rate as u64),
        seconds: seconds(middle),
        least: seconds(fastest),
        most: seconds(slowest),
    })
}

impl Stretch {
    /// Bytes a second, if that tells something of so many bytes.
    fn rate_for(&self, bytes: u64) -> Option<f64> {
        let is_measure = self.bytes > 0 && self.seconds > 0.0 && self.seconds < LONGEST;
        let reaches = self.bytes.saturating_mul(REACHES) >= bytes;
        (is_measure && reaches).then(|| self.bytes as f64 / self.seconds)
    }
}

impl Estimate {
    /// Seconds of everything that was measured: in the middle, the least and the most.
    pub fn seconds(&self) -> Option<[f64; 3]> {
        let parts = || self.pages.iter().chain(&self.replay);
        let sum = |of: &dyn Fn(&Expected) -> f64| parts().map(of).sum();
        self.pages?;
        Some([sum(&|part| part.seconds), sum(&|part| part.least), sum(&|part| part.most)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn measure(host: &str, pages: (u64, f64), replay: Option<(u64, f64)>) -> Measure {
        let stretch = |(mib, seconds)| Stretch { bytes: mib * MIB, seconds };
        Measure {
            host: host.into(),
            compared: false,
            pages: Some(stretch(pages)),
            replay: replay.map(stretch),
        }
    }

    /// 1000 MiB of pages and 100 MiB of WAL on host `a`: measures and rate of each, in MiB a second.
    fn check(
        measures: &[Measure],
        pages: Option<(usize, bool, [u64; 3])>,
        replay: Option<(usize, bool, [u64; 3])>,
    ) {
        let wanted = Wanted { host: "a", compared: false, pages: 1000 * MIB, replay: 100 * MIB };
        let found = estimate(measures, &wanted);
        let shown = |part: Option<Expected>, bytes: u64| {
            part.map(|part| {
                let [middle, slowest, fastest] = part.rates;
                for (rate, seconds) in [(middle, part.seconds), (slowest, part.most), (fastest, part.least)] {
                    assert!((seconds - bytes as f64 / rate as f64).abs() < 0.01 * seconds, "{part:?}");
                }
                (part.measures, part.here, part.rates.map(|rate| rate / MIB))
            })
        };
        assert_eq!(shown(found.pages, wanted.pages), pages, "{measures:?}");
        assert_eq!(shown(found.replay, wanted.replay), replay, "{measures:?}");
    }

    #[test]
    fn what_was_measured_and_only_that_is_estimated() {
        check(&[], None, None);
        check(&[measure("a", (1000, 10.0), None)], Some((1, true, [100; 3])), None);
        // Other hosts count where there is nothing of this one, for each part by itself.
        check(
            &[measure("b", (1000, 5.0), Some((50, 1.0)))],
            Some((1, false, [200; 3])),
            Some((1, false, [50; 3])),
        );
        check(
            &[measure("b", (1000, 5.0), Some((50, 1.0))), measure("a", (1000, 10.0), None)],
            Some((1, true, [100; 3])),
            Some((1, false, [50; 3])),
        );
        // The middle, and the range.
        check(
            &[1.0, 20.0, 10.0].map(|seconds| measure("a", (1000, seconds), None)),
            Some((3, true, [100, 50, 1000])),
            None,
        );
        check(
            &[10.0, 20.0].map(|seconds| measure("a", (1000, seconds), None)),
            Some((2, true, [50, 50, 100])),
            None,
        );
        // Too small to tell.
        check(&[measure("a", (99, 1.0), Some((9, 1.0)))], None, None);
        check(
            &[measure("a", (100, 1.0), Some((10, 1.0)))],
            Some((1, true, [100; 3])),
            Some((1, true, [10; 3])),
        );
        // Nobody measures this.
        for seconds in [0.0, -1.0, f64::INFINITY, f64::NAN, 1e300] {
            check(&[measure("a", (1000, seconds), None)], None, None);
        }
        check(&[measure("a", (0, 1.0), None)], None, None);
    }

    #[test]
    fn a_comparing_restore_tells_nothing_of_one_that_does_not_compare() {
        let compared = Measure { compared: true, ..measure("a", (1000, 1.0), Some((100, 1.0))) };
        check(&[compared], None, Some((1, true, [100; 3])));
    }

    #[test]
    fn the_whole_is_the_sum_of_what_is_known_and_needs_the_pages() {
        let wanted = Wanted { host: "a", compared: false, pages: 1000 * MIB, replay: 100 * MIB };
        let of = |measures: &[Measure]| estimate(measures, &wanted).seconds();
        assert_eq!(of(&[measure("a", (1000, 10.0), Some((100, 4.0)))]), Some([14.0; 3]));
        assert_eq!(of(&[measure("a", (1000, 10.0), None)]), Some([10.0; 3]));
        assert_eq!(of(&[Measure { pages: None, ..measure("a", (1, 1.0), Some((100, 4.0))) }]), None);
    }
}
