//! Time zones by their names in the IANA database.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A time zone: `Europe/Berlin`. UTC unless something else is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

/// A name that is not in the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no time zone: use a name such as Europe/Berlin, or UTC")]
pub struct ZoneError(String);

impl Zone {
    /// Universal time, which knows no summer.
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// Its rules.
    pub fn rules(&self) -> &TimeZone {
        &self.0
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// What a clock on the wall shows: `2026-11-22 02:30 +0100`.
    pub fn shown(&self, at: Timestamp) -> String {
        at.0.to_zoned(self.0.clone()).strftime("%Y-%m-%d %H:%M %z").to_string()
    }
}

impl Default for Zone {
    fn default() -> Zone {
        Zone::UTC
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Zone {
    type Err = ZoneError;
    fn from_str(text: &str) -> Result<Zone, ZoneError> {
        let wrong = |_| ZoneError(text.to_owned());
        match text {
            "UTC" | "Etc/UTC" => Ok(Zone::UTC),
            _ => TimeZone::get(text).map(Zone).map_err(wrong),
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = ZoneError;
    fn try_from(text: String) -> Result<Zone, ZoneError> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_one_of_the_database() {
        for (text, name) in [
            ("UTC", "UTC"),
            ("Etc/UTC", "UTC"),
            ("Europe/Berlin", "Europe/Berlin"),
            ("asia/tokyo", "Asia/Tokyo"),
        ] {
            assert_eq!(text.parse::<Zone>().unwrap().name(), name);
        }
        for wrong in ["", "Mars/Olympus", "+01:00", "CEST-1", "../../etc/passwd"] {
            assert_eq!(wrong.parse::<Zone>(), Err(ZoneError(wrong.to_owned())));
        }
    }
}
