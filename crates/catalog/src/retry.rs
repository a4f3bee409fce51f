//! When a job is tried again.

use std::time::Duration;

/// How often, and how far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all.
    pub attempts: i64,
    /// Before the second attempt; before each later one twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Retry {
    /// Eight attempts over half an hour: as long as a server is moved, or a store is not to be had.
    fn default() -> Retry {
        Retry { attempts: 8, first: Duration::from_secs(30), longest: Duration::from_secs(600) }
    }
}

impl Retry {
    /// How long to wait after so many attempts; `None` if they were enough. Between three and five quarters of the plan, as
    /// `chance` has it, so that the jobs of many hosts do not all come back at once.
    pub fn pause_after(&self, attempt: i64, [chance]: [u8; 1]) -> Option<Duration> {
        let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(16);
        let planned = self.first.saturating_mul(1 << doublings).min(self.longest);
        (attempt < self.attempts).then(|| planned * 3 / 4 + planned * u32::from(chance) / 510)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_end() {
        let retry = Retry { attempts: 9, first: Duration::from_secs(1), longest: Duration::from_secs(8) };
        let check = |attempt, expected: Option<[u64; 2]>| {
            let pauses = [0, 255].map(|chance| retry.pause_after(attempt, [chance]));
            let pauses = pauses.map(|pause| pause.map(|pause| pause.as_millis() as u64));
            assert_eq!(pauses, expected.map_or([None, None], |pauses| pauses.map(Some)), "{attempt}");
        };
        check(1, Some([750, 1250]));
        check(2, Some([1500, 2500]));
        check(4, Some([6000, 10_000]));
        check(8, Some([6000, 10_000]));
        check(9, None);
        check(i64::MAX, None);
    }
}
