//! Lengths of time as settings write them: `90s`, `5m`, `8h`, `1h 30m`, `7d`, `2w`.
//!
//! A day is 24 hours here, whatever a calendar with summer time says.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time that prints as it was written, or shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// Units, longest first, in seconds.
const UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// The longest span: 1000 years. What is added to a time in this millennium is still a time.
const LONGEST: u64 = 366_000 * 86_400;

/// Text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a length of time: write it as 90s, 5m, 8h, 1h 30m, 7d or 2w, and at most 1000 years")]
pub struct SpanError(String);

impl Span {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }

    /// So many hours.
    pub const fn from_hours(hours: u64) -> Span {
        Span(Duration::from_secs(hours * 3600))
    }

    /// Whole seconds.
    pub fn as_secs(self) -> u64 {
        self.0.as_secs()
    }
}

impl fmt::Display for Span {
    /// In units from days down: `7d`, `1h 30m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut left, mut parts) = (self.as_secs(), Vec::new());
        for (unit, seconds) in &UNITS[1..] {
            if left >= *seconds {
                parts.push(format!("{}{unit}", left / seconds));
                left %= seconds;
            }
        }
        f.pad(&if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") })
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Span, SpanError> {
        let wrong = || SpanError(text.to_owned());
        let (mut rest, mut sum) = (text.trim(), 0_u64);
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let behind = rest[digits..].trim_start();
            let letters = behind.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(behind.len());
            let seconds = seconds_in(&behind[..letters]).ok_or_else(wrong)?;
            sum = number.checked_mul(seconds).and_then(|part| sum.checked_add(part)).ok_or_else(wrong)?;
            rest = behind[letters..].trim_start();
        }
        if sum <= LONGEST { Ok(Span::from_secs(sum)) } else { Err(wrong()) }
    }
}

fn seconds_in(unit: &str) -> Option<u64> {
    let short = match unit {
        "week" | "weeks" => "w",
        "day" | "days" => "d",
        "hour" | "hours" => "h",
        "min" | "minute" | "minutes" => "m",
        "sec" | "second" | "seconds" => "s",
        other => other,
    };
    UNITS.iter().find(|(name, _)| *name == short).map(|(_, seconds)| *seconds)
}

impl TryFrom<String> for Span {
    type Error = SpanError;
    fn try_from(text: String) -> Result<Span, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads() {
        for (text, seconds, printed) in [
            ("90s", 90, "1m 30s"),
            ("5m", 300, "5m"),
            ("8 hours", 28_800, "8h"),
            ("1h 30m", 5400, "1h 30m"),
            ("1h30m", 5400, "1h 30m"),
            ("7d", 604_800, "7d"),
            ("2w", 1_209_600, "14d"),
            ("0s", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.as_secs(), span.to_string().as_str()), (seconds, printed), "{text}");
            assert_eq!(printed.parse(), Ok(span));
        }
        for wrong in [
            "",
            " ",
            "5",
            "m",
            "-5m",
            "5 parsecs",
            "1.5h",
            "1001y",
            "99999999999999999999s",
            "400000d",
            "5m-",
        ] {
            assert_eq!(wrong.parse::<Span>(), Err(SpanError(wrong.to_owned())), "{wrong}");
        }
    }
}
