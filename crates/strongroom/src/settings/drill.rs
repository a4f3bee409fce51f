//! `[drill]` and `[source.<name>.drill]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use strongroom_postgres::drill::assertion::Assertion;

use super::{DAY, at_least_one, duration, some_duration};

/// How long a question may take if it does not say.
const TIMEOUT: Duration = Duration::from_secs(60);

/// `[drill]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScratchSettings {
    /// The folder that drills make their folders in.
    pub scratch: Option<PathBuf>,
}

/// `[source.<name>.drill]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrillSettings {
    /// Days that may pass between drills that pass.
    #[serde(deserialize_with = "at_least_one")]
    pub within_days: usize,
    /// The role that may do everything in the restored cluster.
    pub superuser: String,
    /// What its server needs besides: `{ max_prepared_transactions = "500" }`.
    pub settings: BTreeMap<String, String>,
    /// What is asked of it.
    pub sql: Vec<AssertionSettings>,
}

impl Default for DrillSettings {
    fn default() -> DrillSettings {
        DrillSettings {
            within_days: 31,
            superuser: "postgres".to_owned(),
            settings: BTreeMap::new(),
            sql: Vec::new(),
        }
    }
}

impl DrillSettings {
    /// [`DrillSettings::within_days`] as a length of time.
    pub fn within(&self) -> Duration {
        Duration::from_secs(DAY.saturating_mul(self.within_days as u64))
    }

    /// What is asked.
    pub fn assertions(&self) -> Vec<Assertion> {
        self.sql.iter().map(|settings| settings.0.clone()).collect()
    }
}

/// One of `sql`: it reads as what it means, or not at all.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct AssertionSettings(Assertion);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    database: Option<String>,
    query: String,
    expect: Option<String>,
    #[serde(default, deserialize_with = "some_duration")]
    max_age: Option<Duration>,
    #[serde(default = "timeout", deserialize_with = "duration")]
    timeout: Duration,
}

fn timeout() -> Duration {
    TIMEOUT
}

impl TryFrom<Written> for AssertionSettings {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<AssertionSettings, &'static str> {
        let Written { database, query, expect, max_age, timeout } = written;
        if expect.is_none() && max_age.is_none() {
            return Err("a query without expect and max_age would pass whatever it answers");
        }
        // Zero would be no limit at all.
        if timeout.as_millis() == 0 {
            return Err("timeout must be longer than nothing");
        }
        Ok(AssertionSettings(Assertion { database, query, expect, max_age, timeout }))
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    const SOURCE: &str = "[source.a]\nkind = \"postgres\"\n";

    #[test]
    fn what_is_asked_and_promised_reads() {
        let text = format!(
            "[drill]\nscratch = \"/srv/drills\"\n{SOURCE}rpo = \"5m\"\nrto = \"30m\"\n[source.a.drill]\nwithin_days = 7\n\
             sql = [{{ database = \"app\", query = \"select true\", expect = \"t\" }}, {{ query = \"select now()\", max_age = \"1h\" }}]\n"
        );
        let settings = Settings::parse(&text).unwrap();
        let source = settings.sources.values().next().unwrap();
        let asked = source.drill.assertions();
        assert_eq!(asked.len(), 2);
        assert_eq!((asked[0].expect.as_deref(), asked[0].timeout.as_secs()), (Some("t"), 60));
        assert_eq!(asked[1].max_age.unwrap().as_secs(), 3600);
        let (name, _) = settings.sources.first_key_value().unwrap();
        assert_eq!(settings.objectives_of(name).rto.unwrap().to_string(), "30m");
        assert_eq!(source.drill.within().as_secs(), 7 * 86_400);
        let plain = Settings::parse(SOURCE).unwrap();
        let plain = plain.sources.values().next().unwrap();
        assert_eq!((plain.drill.within_days, plain.drill.superuser.as_str()), (31, "postgres"));
    }

    #[test]
    fn what_would_prove_nothing_is_refused() {
        for (line, says) in [
            ("sql = [{ query = \"select 1\" }]", "would pass whatever it answers"),
            ("sql = [{ query = \"q\", expect = \"t\", timeout = \"0s\" }]", "longer than nothing"),
            ("sql = [{ expect = \"t\" }]", "missing field `query`"),
            ("sql = [{ qeury = \"q\" }]", "unknown field `qeury`"),
            ("within_days = 0", "at least 1"),
            ("within = 1", "unknown field `within`"),
        ] {
            let text = format!("{SOURCE}[source.a.drill]\n{line}\n");
            let error = Settings::parse(&text).unwrap_err().why;
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
