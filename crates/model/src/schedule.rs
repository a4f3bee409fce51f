//! When something is to run: cron expressions and rates, evaluated in a time zone.
//!
//! ```text
//! 30 2 * * 1-5              Unix, five fields
//! cron(0 3 ? * SUN *)       AWS, six fields
//! rate(6 hours)             AWS; every multiple of it since 1970-01-01 00:00 UTC, whatever the zone
//! @daily                    Unix, for 0 0 * * *
//! ```
//!
//! **Invariants**
//! - [`Schedule::next_after`] is strictly later than what it was asked, and depends on nothing else: no state, no start. So
//!   two agents agree, and a restart shifts nothing.
//! - A job at 02:30 is neither lost nor doubled on the days when clocks change (`schedule/local.rs` has the rule).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::zone::Zone;

mod field;
mod cron;
mod local;
mod foreign;

use cron::{Cron, FieldError};
pub use foreign::Unsayable;

/// When something is to run. Prints as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule {
    text: String,
    times: Times,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Times {
    Cron(Box<Cron>),
    /// Seconds.
    Rate(i64),
}

/// A schedule that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// None of the three forms.
    #[error(
        "'{text}' has {fields} fields: a schedule is five (minute hour day-of-month month day-of-week), cron(…) with six (… year), or rate(6 hours)"
    )]
    Shape {
        /// What was written.
        text: String,
        /// How many words it has.
        fields: usize,
    },
    /// One of the fields.
    #[error("schedule '{text}': {error}")]
    Field {
        /// What was written.
        text: String,
        /// Which field, and why.
        error: FieldError,
    },
    /// Not a rate.
    #[error("'{0}' is no rate: write a number from 1 on and minutes, hours or days, such as rate(5 minutes)")]
    Rate(String),
    /// The 30th of February.
    #[error("schedule '{0}' never runs: no month of it has such a day")]
    Never(String),
}

/// Where the search for a schedule's first run begins.
const BEGINNING: DateTime = jiff::civil::datetime(1970, 1, 1, 0, 0, 0, 0);

/// The longest rate: a year.
const LONGEST_RATE: i64 = 366 * 86_400;

const SHORTHANDS: [(&str, &str); 6] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];

impl Schedule {
    /// The first run after `after`; `None` if there is none any more (before the year 2200).
    pub fn next_after(&self, after: Timestamp, zone: &Zone) -> Option<Timestamp> {
        match &self.times {
            Times::Cron(cron) => local::next_after(cron, zone.rules(), after.0).map(Timestamp),
            Times::Rate(seconds) => {
                let runs = after.unix_seconds().div_euclid(*seconds);
                Timestamp::from_unix_seconds((runs + 1).checked_mul(*seconds)?)
            }
        }
    }

    /// Every time after `after` and not after `until`, in order.
    pub fn times<'a>(
        &'a self,
        (after, until): (Timestamp, Timestamp),
        zone: &'a Zone,
    ) -> impl Iterator<Item = Timestamp> + 'a {
        let next = move |at: &Timestamp| self.next_after(*at, zone).filter(|at| *at <= until);
        std::iter::successors(next(&after), next)
    }

    /// The last run that is not after `until` and is after `since`.
    pub fn last_in(&self, (since, until): (Timestamp, Timestamp), zone: &Zone) -> Option<Timestamp> {
        // Halves the stretch until a run is the only one in it: a rule of each minute may have been away for a year.
        let (mut low, mut found) = (since, self.next_after(since, zone).filter(|at| *at <= until)?);
        let mut high = until;
        while let Some(next) = self.next_after(found, zone).filter(|at| *at <= until) {
            found = next;
            low = low.max(found);
            let middle = low.0.as_second() + (high.0.as_second() - low.0.as_second()) / 2;
            let middle = Timestamp::from_unix_seconds(middle)?;
            match self.next_after(middle, zone).filter(|at| *at <= until) {
                Some(later) => found = found.max(later),
                None => high = middle,
            }
        }
        Some(found)
    }

    /// Whether the time zone says nothing: a rate runs by the clock of the world.
    pub fn is_rate(&self) -> bool {
        matches!(self.times, Times::Rate(_))
    }

    /// The same in five fields of numbers, which every cron reads alike: Vixie's, cronie, Kubernetes, GitHub. What runs by a
    /// rate runs so by the clock of whoever reads it.
    pub fn five_fields(&self) -> Result<String, Unsayable> {
        foreign::five_fields(&*self.as_cron()?).ok_or_else(|| Unsayable::Fields(self.text.clone()))
    }

    /// The same as `OnCalendar=` of systemd.timer(5) has it: a line for each way of choosing days.
    pub fn calendars(&self, zone: &Zone) -> Result<Vec<String>, Unsayable> {
        let zone = if self.is_rate() { &Zone::UTC } else { zone };
        let days = foreign::calendars(&*self.as_cron()?, zone.name());
        days.ok_or_else(|| Unsayable::Calendar(self.text.clone()))
    }

    /// A rate that divides the hour or the day is a cron expression as well.
    fn as_cron(&self) -> Result<Cow<'_, Cron>, Unsayable> {
        let seconds = match &self.times {
            Times::Cron(cron) => return Ok(Cow::Borrowed(cron)),
            Times::Rate(seconds) => *seconds,
        };
        let (minutes, hours) = (format!("*/{}", seconds / 60), format!("*/{}", seconds / 3600));
        let fields = match seconds {
            86_400 => ["0", "0"],
            3600 => ["0", "*"],
            _ if seconds < 3600 && 3600 % seconds == 0 => [minutes.as_str(), "*"],
            _ if seconds % 3600 == 0 && 86_400 % seconds == 0 => ["0", hours.as_str()],
            _ => return Err(Unsayable::Rate(self.text.clone())),
        };
        let cron = Cron::unix([fields[0], fields[1], "*", "*", "*"]);
        cron.map(Cow::Owned).map_err(|_| Unsayable::Rate(self.text.clone()))
    }

    fn cron(text: &str, cron: Result<Cron, FieldError>) -> Result<Times, ScheduleError> {
        let cron = cron.map_err(|error| ScheduleError::Field { text: text.to_owned(), error })?;
        match cron.at_or_after(BEGINNING) {
            Some(_) => Ok(Times::Cron(Box::new(cron))),
            None => Err(ScheduleError::Never(text.to_owned())),
        }
    }
}

fn inside<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.strip_prefix(word)?.trim_start().strip_prefix('(')?.strip_suffix(')').map(str::trim)
}

fn rate(text: &str) -> Option<i64> {
    let (number, unit) = text.split_once(char::is_whitespace)?;
    let seconds = match unit.trim() {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 86_400,
        _ => return None,
    };
    let number: i64 = number.parse().ok()?;
    number.checked_mul(seconds).filter(|seconds| (1..=LONGEST_RATE).contains(seconds))
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Schedule, ScheduleError> {
        let text = text.trim();
        if let Some(inside) = inside(text, "rate") {
            let seconds = rate(inside).ok_or_else(|| ScheduleError::Rate(text.to_owned()))?;
            return Ok(Schedule { text: text.to_owned(), times: Times::Rate(seconds) });
        }
        let long = SHORTHANDS.iter().find(|(short, _)| *short == text).map_or(text, |(_, long)| long);
        let of_aws = inside(text, "cron");
        let fields: Vec<&str> = of_aws.unwrap_or(long).split_whitespace().collect();
        let cron = match (of_aws, &fields[..]) {
            (None, &[minute, hour, day, month, week]) => Cron::unix([minute, hour, day, month, week]),
            (Some(_), &[minute, hour, day, month, week, year]) => {
                Cron::aws([minute, hour, day, month, week, year])
            }
            _ => return Err(ScheduleError::Shape { text: text.to_owned(), fields: fields.len() }),
        };
        Ok(Schedule { text: text.to_owned(), times: Schedule::cron(text, cron)? })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl TryFrom<String> for Schedule {
    type Error = ScheduleError;
    fn try_from(text: String) -> Result<Schedule, ScheduleError> {
        text.parse()
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> String {
        schedule.text
    }
}

#[cfg(test)]
mod tests;
