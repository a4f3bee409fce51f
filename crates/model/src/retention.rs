//! Retention: how long a source's points are kept.

use serde::{Deserialize, Serialize};

/// What is kept of a source. A point is kept if any of these rules keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// The newest so many points.
    pub keep_last: u32,
    /// Every point of the last so many days.
    pub keep_days: u32,
    /// The newest point of each of the last so many days that have one.
    pub daily: u32,
    /// The newest point of each of the last so many weeks (Monday to Sunday, ISO 8601) that have one.
    pub weekly: u32,
    /// The newest point of each of the last so many months that have one.
    pub monthly: u32,
    /// The newest point of each of the last so many years that have one.
    pub yearly: u32,
    /// Days back from now to any second of which the source can be restored.
    pub pitr_days: u32,
    /// The newest so many points that can be restored, whatever else is said; at least 1.
    pub minimum_redundancy: u32,
    /// Whose days, weeks, months and years: `Europe/Berlin`. UTC if empty.
    pub timezone: String,
}

/// A retention that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// No rule keeps anything.
    #[error(
        "this retention keeps nothing but the last point: say keep_last, keep_days, daily, weekly, monthly, yearly or pitr_days"
    )]
    KeepsNothing,
    /// The zone is not in the time zone database.
    #[error("'{0}' is no time zone: use a name such as Europe/Berlin, or leave it out for UTC")]
    Zone(String),
    /// More days than there can be.
    #[error("{0} days are more than 1000 years")]
    TooLong(u32),
}

/// The longest time a rule may speak of.
const DAYS_LIMIT: u32 = 366_000;

impl Retention {
    /// Whether this can be meant.
    pub fn check(&self) -> Result<(), RetentionError> {
        let rules = [
            self.keep_last,
            self.keep_days,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
            self.pitr_days,
        ];
        if rules.iter().all(|rule| *rule == 0) {
            return Err(RetentionError::KeepsNothing);
        }
        for days in [self.keep_days, self.pitr_days] {
            if days > DAYS_LIMIT {
                return Err(RetentionError::TooLong(days));
            }
        }
        self.zone().map(|_| ())
    }

    /// Keeps what either keeps, by this one's calendar unless it names none.
    pub fn with(self, other: Retention) -> Retention {
        Retention {
            keep_last: self.keep_last.max(other.keep_last),
            keep_days: self.keep_days.max(other.keep_days),
            daily: self.daily.max(other.daily),
            weekly: self.weekly.max(other.weekly),
            monthly: self.monthly.max(other.monthly),
            yearly: self.yearly.max(other.yearly),
            pitr_days: self.pitr_days.max(other.pitr_days),
            minimum_redundancy: self.minimum_redundancy.max(other.minimum_redundancy),
            timezone: if self.timezone.is_empty() { other.timezone } else { self.timezone },
        }
    }

    /// Whose calendar it follows.
    pub fn zone(&self) -> Result<jiff::tz::TimeZone, RetentionError> {
        match self.timezone.as_str() {
            "" => Ok(jiff::tz::TimeZone::UTC),
            name => jiff::tz::TimeZone::get(name).map_err(|_| RetentionError::Zone(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_delete_everything_is_refused() {
        let none = Retention { minimum_redundancy: 3, ..Retention::default() };
        assert_eq!(none.check(), Err(RetentionError::KeepsNothing));
        assert_eq!(Retention { keep_last: 1, ..none.clone() }.check(), Ok(()));
        assert_eq!(Retention { pitr_days: 1, ..none.clone() }.check(), Ok(()));
        let zone = Retention { keep_last: 1, timezone: "Mars/Olympus".into(), ..none.clone() };
        assert_eq!(zone.check(), Err(RetentionError::Zone("Mars/Olympus".into())));
        let days = |keep_days| Retention { keep_days, ..none.clone() }.check();
        assert_eq!(days(366_000), Ok(()));
        assert_eq!(days(366_001), Err(RetentionError::TooLong(366_001)));
    }
}
