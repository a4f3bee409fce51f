//! The variables that backup scripts are configured with, and what they mean here. One table, which `docs/environment.md` shows.
//!
//! ```text
//! flag ▶ the scripts' variables ▶ libpq's service file ▶ libpq's variables and ~/.pgpass ▶ default
//! ```
//!
//! **Invariant**: a default that names one organisation's server is taken only by who uses the scripts' variables, and one that
//! names its bucket by nobody: a dump would go to whoever has that name.

use strongroom_postgres::conninfo::{Conninfo, ConninfoError, Environment};
use zeroize::Zeroizing;

/// A setting: the flag that says it, the variables that do, first to last, and what holds if nothing does.
#[derive(Debug)]
pub struct Setting {
    /// The flag of `dump`.
    pub flag: &'static str,
    /// The scripts' variables.
    pub variables: &'static [&'static str],
    /// What holds if none is set.
    pub default: Option<&'static str>,
}

/// The server. With the default of the scripts, for who uses them.
pub const HOST: Setting = Setting {
    flag: "--host",
    variables: &["POSTGRES_HOST"],
    default: Some("postgres-primary.sqlguard.svc.cluster.local"),
};
/// Its port.
pub const PORT: Setting = Setting { flag: "--port", variables: &["POSTGRES_PORT"], default: Some("5432") };
/// The role.
pub const USER: Setting = Setting { flag: "--user", variables: &["POSTGRES_USER"], default: Some("audit") };
/// The database.
pub const DATABASE: Setting =
    Setting { flag: "--dbname", variables: &["POSTGRES_DB"], default: Some("audit") };
/// The password itself; the flag takes a reference to it.
pub const PASSWORD: Setting =
    Setting { flag: "--password", variables: &["POSTGRES_PASSWORD"], default: None };
/// Where the vault is.
pub const PLACE: Setting = Setting {
    flag: "--vault",
    variables: &["S3_BUCKET", "BACKUP_BUCKET", "BACKUP_DIR"],
    default: Some("/backup/postgresql"),
};
/// The bucket's region.
pub const REGION: Setting =
    Setting { flag: "--region", variables: &["AWS_REGION"], default: Some("us-east-1") };
/// Days for which points are kept.
pub const KEEP_DAYS: Setting = Setting {
    flag: "--keep-days",
    variables: &["RETENTION_DAYS", "BACKUP_RETENTION_DAYS"],
    default: Some("30"),
};
/// Days after which the bucket freezes what it holds; its default holds with `BACKUP_BUCKET`, whose scripts set such a rule.
pub const GLACIER_DAYS: Setting =
    Setting { flag: "--glacier-days", variables: &["GLACIER_TRANSITION_DAYS"], default: Some("7") };

/// The settings that lead to a server, and libpq's words and variables for them.
const CONNECTION: [(&Setting, &str, &str); 5] = [
    (&HOST, "host", "PGHOST"),
    (&PORT, "port", "PGPORT"),
    (&USER, "user", "PGUSER"),
    (&DATABASE, "dbname", "PGDATABASE"),
    (&PASSWORD, "password", "PGPASSWORD"),
];

/// A number of days that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is not a number of days")]
pub struct DaysError {
    /// The variable.
    pub name: &'static str,
}

impl Setting {
    /// What the first of its variables that is set says, and which that is.
    pub fn of(&self, environment: Environment<'_>) -> Option<(&'static str, String)> {
        let set = |name: &&'static str| {
            environment(name).filter(|value| !value.is_empty()).map(|value| (*name, value))
        };
        self.variables.iter().find_map(set)
    }

    /// A number of days: the flag's, else the environment's.
    pub fn days(&self, given: Option<u32>, environment: Environment<'_>) -> Result<Option<u32>, DaysError> {
        match (given, self.of(environment)) {
            (Some(days), _) => Ok(Some(days)),
            (None, Some((name, value))) => value.trim().parse().map(Some).map_err(|_| DaysError { name }),
            (None, None) => Ok(None),
        }
    }
}

/// Whose defaults hold where nothing else says how to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defaults {
    /// libpq's.
    Libpq,
    /// The scripts', if one of their variables leads to the server; else libpq's.
    Scripts,
}

/// Reads a connection string; what it leaves open is filled from the scripts' variables, then as libpq does.
pub fn connection(
    text: &str,
    defaults: Defaults,
    environment: Environment<'_>,
) -> Result<Conninfo, ConninfoError> {
    let mut fill = Vec::new();
    for (setting, keyword, _) in CONNECTION {
        fill.extend(setting.of(environment).map(|(_, value)| (keyword, Zeroizing::new(value))));
    }
    // Where a service or an address leads, the scripts' server is not.
    let leads = ["PGSERVICE", "PGHOSTADDR"].iter().any(|name| environment(name).is_some());
    let is_theirs = defaults == Defaults::Scripts && !fill.is_empty() && !leads;
    let default = |name: &str| {
        let of = CONNECTION.iter().find(|(_, _, variable)| *variable == name)?;
        of.0.default.filter(|_| is_theirs).map(str::to_owned)
    };
    let with_defaults =
        |name: &str| environment(name).filter(|value| !value.is_empty()).or_else(|| default(name));
    Conninfo::read_filled(text, &fill, &with_defaults)
}

/// Where the scripts' variables say that backups go, as a vault's url: a bucket before a folder.
pub fn place(environment: Environment<'_>) -> Option<(&'static str, String)> {
    let (name, value) = PLACE.of(environment)?;
    if name == "BACKUP_DIR" {
        return Some((name, value));
    }
    // As `aws-backup-pipeline-{account-id}` is written down.
    let account = environment("AWS_ACCOUNT_ID").unwrap_or_else(|| "{account-id}".to_owned());
    let value = value.replace("{account-id}", &account);
    let url = if value.contains("://") { value } else { format!("s3://{value}") };
    Some((name, url.trim_end_matches('/').to_owned()))
}

/// The table, in the order of the page.
#[cfg(test)]
const TABLE: [&Setting; 9] =
    [&HOST, &PORT, &USER, &DATABASE, &PASSWORD, &PLACE, &REGION, &KEEP_DAYS, &GLACIER_DAYS];

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test writes a service file")]
mod tests {
    use super::*;

    fn environment(pairs: &[(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        let pairs = pairs.to_vec();
        move |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    /// `user@host:port/database` of what a connection came to.
    fn connected(text: &str, defaults: Defaults, pairs: &[(&'static str, &'static str)]) -> String {
        let found = connection(text, defaults, &environment(pairs)).unwrap();
        let password = found.password_for(&found.hosts[0]);
        let password = password.as_ref().map_or("-", |password| password.expose());
        format!("{}@{}/{} {password}", found.user, found.hosts[0], found.database)
    }

    #[test]
    fn flag_then_scripts_then_libpq_then_default() {
        use Defaults::{Libpq, Scripts};
        let folder = tempfile::tempdir().unwrap();
        let services = folder.path().join("services");
        std::fs::write(&services, "[s]\nhost=sv\nuser=su\ndbname=sd\n").unwrap();
        let services: &'static str = Box::leak(services.to_string_lossy().into_owned().into_boxed_str());
        let host = "postgres-primary.sqlguard.svc.cluster.local";
        for (text, defaults, pairs, expected) in [
            // The scripts' own defaults, for who uses the scripts' variables.
            ("", Scripts, &[("POSTGRES_PASSWORD", "p")][..], format!("audit@{host}:5432/audit p")),
            ("", Scripts, &[("POSTGRES_HOST", "h")], "audit@h:5432/audit -".into()),
            ("", Scripts, &[("POSTGRES_DB", "d"), ("PGHOST", "g"), ("PGUSER", "u")], "u@g:5432/d -".into()),
            ("", Scripts, &[("POSTGRES_USER", "u"), ("PGHOSTADDR", "::1")], "u@::1:5432/postgres -".into()),
            // libpq's for everybody else.
            ("", Scripts, &[("PGHOST", "g"), ("PGUSER", "u")], "u@g:5432/postgres -".into()),
            ("", Libpq, &[("POSTGRES_HOST", "h"), ("PGUSER", "u")], "u@h:5432/postgres -".into()),
            // Scripts before libpq, flags and files before both; what is empty is not set.
            (
                "",
                Scripts,
                &[
                    ("POSTGRES_HOST", "h"),
                    ("POSTGRES_PORT", "7"),
                    ("POSTGRES_USER", "u"),
                    ("POSTGRES_DB", "d"),
                    ("POSTGRES_PASSWORD", "p"),
                    ("PGHOST", "g"),
                    ("PGPORT", "8"),
                    ("PGUSER", "gu"),
                    ("PGDATABASE", "gd"),
                    ("PGPASSWORD", "gp"),
                ],
                "u@h:7/d p".into(),
            ),
            (
                "host=f user=fu dbname=fd port=9 password=fp",
                Scripts,
                &[("POSTGRES_HOST", "h"), ("POSTGRES_PORT", "7"), ("POSTGRES_PASSWORD", "p")],
                "fu@f:9/fd fp".into(),
            ),
            ("user=u", Libpq, &[("POSTGRES_HOST", ""), ("PGHOST", "g")], "u@g:5432/postgres -".into()),
            // A service stands between the scripts' variables and libpq's.
            (
                "",
                Scripts,
                &[("PGSERVICEFILE", services), ("PGSERVICE", "s"), ("POSTGRES_USER", "u"), ("PGHOST", "g")],
                "u@sv:5432/sd -".into(),
            ),
        ] {
            assert_eq!(connected(text, defaults, pairs), expected, "{text} {pairs:?}");
        }
    }

    #[test]
    fn a_bucket_comes_before_a_folder() {
        for (pairs, expected) in [
            (&[][..], None),
            (&[("BACKUP_DIR", "/b")], Some(("BACKUP_DIR", "/b"))),
            (&[("BACKUP_DIR", "/b"), ("BACKUP_BUCKET", "b")], Some(("BACKUP_BUCKET", "s3://b"))),
            (
                &[("BACKUP_BUCKET", "p-{account-id}"), ("AWS_ACCOUNT_ID", "12")],
                Some(("BACKUP_BUCKET", "s3://p-12")),
            ),
            (
                &[("S3_BUCKET", "s3://a/postgresql/"), ("BACKUP_BUCKET", "b"), ("BACKUP_DIR", "/b")],
                Some(("S3_BUCKET", "s3://a/postgresql")),
            ),
            (&[("S3_BUCKET", ""), ("BACKUP_DIR", "/b")], Some(("BACKUP_DIR", "/b"))),
        ] {
            let found = place(&environment(pairs));
            assert_eq!(found.as_ref().map(|(name, url)| (*name, url.as_str())), expected, "{pairs:?}");
        }
    }

    #[test]
    fn days_are_numbers_and_the_flag_wins() {
        let both = [("RETENTION_DAYS", "14"), ("BACKUP_RETENTION_DAYS", "60")];
        for (given, pairs, expected) in [
            (None, &[][..], Ok(None)),
            (None, &both, Ok(Some(14))),
            (None, &both[1..], Ok(Some(60))),
            (Some(3), &both, Ok(Some(3))),
            (None, &[("RETENTION_DAYS", "")], Ok(None)),
            (None, &[("RETENTION_DAYS", "a month")], Err(DaysError { name: "RETENTION_DAYS" })),
            (None, &[("RETENTION_DAYS", "-1")], Err(DaysError { name: "RETENTION_DAYS" })),
        ] {
            assert_eq!(KEEP_DAYS.days(given, &environment(pairs)), expected, "{pairs:?}");
        }
    }

    /// The page shows the table, row by row and in this order.
    #[test]
    fn the_page_of_the_environment_is_the_table() {
        let page = include_str!("../../../docs/environment.md");
        let rows: Vec<[String; 3]> = page
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| `--")?.split('|').map(|cell| cell.replace('`', ""));
                Some([
                    format!("--{}", cells.next()?.trim()),
                    cells.next()?.trim().to_owned(),
                    cells.next()?.trim().to_owned(),
                ])
            })
            .collect();
        let table: Vec<[String; 3]> = TABLE
            .iter()
            .map(|setting| {
                let default = setting.default.unwrap_or("-").to_owned();
                [setting.flag.to_owned(), setting.variables.join(", "), default]
            })
            .collect();
        assert_eq!(rows, table);
    }
}
