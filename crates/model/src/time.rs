//! Points in time: UTC, to the microsecond, as PostgreSQL keeps them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An instant, in UTC. Prints as `2026-11-20 12:00:00.5+00`, which PostgreSQL reads back as the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub jiff::Timestamp);

impl Timestamp {
    /// From whole seconds since 1970-01-01 UTC; `None` outside the years -9999 to 9999.
    pub fn from_unix_seconds(seconds: i64) -> Option<Timestamp> {
        jiff::Timestamp::from_second(seconds).ok().map(Timestamp)
    }

    /// From microseconds since 1970-01-01 UTC; `None` outside the years -9999 to 9999.
    pub fn from_unix_micros(micros: i64) -> Option<Timestamp> {
        jiff::Timestamp::from_microsecond(micros).ok().map(Timestamp)
    }

    /// Whole seconds since 1970-01-01 UTC, rounded down.
    pub fn unix_seconds(self) -> i64 {
        self.0.as_millisecond().div_euclid(1000)
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        std::time::Duration::try_from(self.0.duration_since(earlier.0)).unwrap_or_default()
    }

    /// That much earlier; `None` before the year -9999.
    pub fn earlier(self, by: std::time::Duration) -> Option<Timestamp> {
        self.0.checked_sub(by).ok().map(Timestamp)
    }

    /// As `20261120T120000Z`: sorts by time, safe in object keys and file names.
    pub fn compact(self) -> String {
        self.0.strftime("%Y%m%dT%H%M%SZ").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0.subsec_nanosecond() / 1000 {
            0 => self.0.strftime("%Y-%m-%d %H:%M:%S+00").to_string(),
            _ => self.0.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string(),
        };
        f.pad(&text)
    }
}

/// A length of time for people: `850 ms`, `12.3 s`, `4 min 10 s`, `3 h 5 min`.
pub fn human_duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A time as a person typed it: with a zone it is an instant; without one only the server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypedTime {
    /// Carried its own offset or zone.
    Zoned(Timestamp),
    /// No zone: to be read in the server's time zone, and echoed back in UTC.
    Local(jiff::civil::DateTime),
}

impl TypedTime {
    /// The instant meant, reading a zoneless time in `zone` (an IANA name, as in the server's `TimeZone` setting).
    pub fn in_zone(&self, zone: &str) -> Result<Timestamp, TimeError> {
        match self {
            TypedTime::Zoned(instant) => Ok(*instant),
            TypedTime::Local(civil) => {
                let zone =
                    jiff::tz::TimeZone::get(zone).map_err(|_| TimeError::UnknownZone(zone.to_owned()))?;
                match zone.to_ambiguous_zoned(*civil).unambiguous() {
                    Ok(zoned) => Ok(Timestamp(zoned.timestamp())),
                    Err(_) => Err(TimeError::Ambiguous(civil.to_string())),
                }
            }
        }
    }
}

/// A time that could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TimeError {
    /// Not a time at all.
    #[error("'{0}' is not a time: write it as 2026-11-20 12:00:00+00")]
    NotATime(String),
    /// A zone name not in the IANA database.
    #[error("time zone '{0}' is not known here: give the time with an offset, such as 12:00:00+00")]
    UnknownZone(String),
    /// Falls into a daylight-saving fold or gap.
    #[error(
        "'{0}' happens twice or never in the server's time zone (daylight saving): give it with an offset, such as +00"
    )]
    Ambiguous(String),
}

impl FromStr for TypedTime {
    type Err = TimeError;

    /// Reads ISO 8601 and PostgreSQL's own output: `2026-11-20 12:00:00.123456+00`, `…T12:00:00Z`, `… +05:30`, `… UTC`,
    /// `…[Europe/Berlin]`; without a zone, or a date alone, it is local.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError::NotATime(text.to_owned());
        let trimmed = text.trim();
        let trimmed = trimmed
            .strip_suffix("UTC")
            .map(|rest| format!("{}Z", rest.trim_end()))
            .unwrap_or_else(|| trimmed.to_owned());
        if let Ok(instant) = trimmed.parse::<jiff::Timestamp>() {
            return Ok(TypedTime::Zoned(Timestamp(instant)));
        }
        // PostgreSQL writes a space before no offset at all, people write one before an offset.
        if let Some(at) = trimmed.rfind([' ']).filter(|at| trimmed[at + 1..].starts_with(['+', '-'])) {
            let joined = format!("{}{}", trimmed[..at].trim_end(), &trimmed[at + 1..]);
            return joined.parse().map(|instant| TypedTime::Zoned(Timestamp(instant))).map_err(|_| wrong());
        }
        if let Ok(zoned) = trimmed.parse::<jiff::Zoned>() {
            return Ok(TypedTime::Zoned(Timestamp(zoned.timestamp())));
        }
        if let Ok(civil) = trimmed.parse::<jiff::civil::DateTime>() {
            return Ok(TypedTime::Local(civil));
        }
        let date: jiff::civil::Date = trimmed.parse().map_err(|_| wrong())?;
        Ok(TypedTime::Local(date.at(0, 0, 0, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, zone: &str) -> Result<String, TimeError> {
        text.parse::<TypedTime>()?.in_zone(zone).map(|t| t.to_string())
    }

    #[test]
    fn a_typed_time_means_one_instant() {
        for (typed, zone, meant) in [
            ("2026-11-20 12:00:00+00", "Asia/Tokyo", "2026-11-20 12:00:00+00"),
            ("2026-11-20 12:00:00.123456+00", "UTC", "2026-11-20 12:00:00.123456+00"),
            ("2026-11-20T12:00:00Z", "Asia/Tokyo", "2026-11-20 12:00:00+00"),
            ("2026-11-20 12:00:00 +05:30", "UTC", "2026-11-20 06:30:00+00"),
            ("2026-11-20 12:00:00 UTC", "Asia/Tokyo", "2026-11-20 12:00:00+00"),
            ("2026-11-20 12:00:00[Europe/Berlin]", "UTC", "2026-11-20 11:00:00+00"),
            ("2026-11-20 12:00:00", "Europe/Berlin", "2026-11-20 11:00:00+00"),
            ("2026-11-20", "UTC", "2026-11-20 00:00:00+00"),
        ] {
            assert_eq!(at(typed, zone).as_deref(), Ok(meant), "{typed} in {zone}");
        }
    }

    #[test]
    fn a_wrong_time_is_refused() {
        assert!(matches!(at("yesterday", "UTC"), Err(TimeError::NotATime(_))));
        assert!(matches!(at("2026-13-40 12:00:00+00", "UTC"), Err(TimeError::NotATime(_))));
        assert!(matches!(at("2026-11-20 12:00", "Mars/Olympus"), Err(TimeError::UnknownZone(_))));
        // Clocks go back in Berlin on 2026-10-25 at 03:00 and forward on 2026-03-29 at 02:00.
        assert!(matches!(at("2026-10-25 02:30:00", "Europe/Berlin"), Err(TimeError::Ambiguous(_))));
        assert!(matches!(at("2026-03-29 02:30:00", "Europe/Berlin"), Err(TimeError::Ambiguous(_))));
    }
}
