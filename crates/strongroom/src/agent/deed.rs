//! What a person has the agent do: kept in the catalog as JSON, carried out as words of the command line.
//!
//! **Invariants**
//! - What is kept is read as strictly as what a person sends: a catalog that somebody else wrote to orders nothing that a person
//!   could not.
//! - A restore goes into a folder of the one that the settings name, and nowhere else; that is looked at again when it begins.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strongroom_catalog::Kind;
use strongroom_catalog::job::seat;
use strongroom_model::{PointId, SourceName, Timestamp};

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::surroundings::host;

/// The longest reason.
const LONGEST_REASON: usize = 500;

/// The longest name of a folder.
const LONGEST_FOLDER: usize = 100;

/// One deed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deed {
    /// Takes a recovery point.
    Backup {
        /// Of this source.
        #[schema(value_type = String, pattern = "^[a-z0-9](\\.?[a-z0-9_-]){0,62}$", max_length = 63)]
        source: SourceName,
    },
    /// Reads every byte that the vault has of it.
    Verify {
        /// Of this source.
        #[schema(value_type = String, pattern = "^[a-z0-9](\\.?[a-z0-9_-]){0,62}$", max_length = 63)]
        source: SourceName,
    },
    /// Tries a restore.
    Drill {
        /// Of this source.
        #[schema(value_type = String, pattern = "^[a-z0-9](\\.?[a-z0-9_-]){0,62}$", max_length = 63)]
        source: SourceName,
    },
    /// Keeps a point whatever retention says.
    Hold {
        /// Of this source.
        #[schema(value_type = String, pattern = "^[a-z0-9](\\.?[a-z0-9_-]){0,62}$", max_length = 63)]
        source: SourceName,
        /// This point.
        #[schema(value_type = String, pattern = "^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$")]
        point: PointId,
        /// Why.
        #[schema(min_length = 1, max_length = 500)]
        reason: String,
        /// Until then; left out, until it is released.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, format = DateTime, pattern = "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$")]
        until: Option<Timestamp>,
    },
    /// Ends every hold of a point. Destructive: it may expire then.
    Release {
        /// Of this source.
        #[schema(value_type = String, pattern = "^[a-z0-9](\\.?[a-z0-9_-]){0,62}$", max_length = 63)]
        source: SourceName,
        /// This point.
        #[schema(value_type = String, pattern = "^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$")]
        point: PointId,
        /// Why.
        #[schema(min_length = 1, max_length = 500)]
        reason: String,
    },
    /// Lets go what retention no longer keeps. Destructive.
    Expire {
        /// Of this source.
        #[schema(value_type = String, pattern = "^[a-z0-9](\\.?[a-z0-9_-]){0,62}$", max_length = 63)]
        source: SourceName,
        /// Only this point, which must be damaged for good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, pattern = "^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$")]
        point: Option<PointId>,
    },
    /// Restores into a folder on this agent's host.
    Restore {
        /// This source.
        #[schema(value_type = String, pattern = "^[a-z0-9](\\.?[a-z0-9_-]){0,62}$", max_length = 63)]
        source: SourceName,
        /// A folder in restore_to of [http]: its name alone.
        #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
        folder: String,
        /// To this time: 2026-11-20T12:00:00Z. Left out, as far as there is WAL.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, format = DateTime, pattern = "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$")]
        at: Option<Timestamp>,
        /// From this point.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, pattern = "^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$")]
        point: Option<PointId>,
        /// Over the copy of the same cluster that is in the folder. Destructive.
        #[serde(default)]
        over: bool,
    },
}

impl Deed {
    /// From what the catalog has.
    pub fn read(act: &Value) -> Result<Deed, Failure> {
        let unreadable = |error: serde_json::Error| {
            Failure::new(Code::Usage, format!("what a person ordered does not read: {error}"))
        };
        Deed::deserialize(act).map_err(unreadable)
    }

    /// The source that it is done to.
    pub fn source(&self) -> &SourceName {
        match self {
            Deed::Backup { source }
            | Deed::Verify { source }
            | Deed::Drill { source }
            | Deed::Hold { source, .. }
            | Deed::Release { source, .. }
            | Deed::Expire { source, .. }
            | Deed::Restore { source, .. } => source,
        }
    }

    /// The point that it names, which must be of its source.
    pub fn point(&self) -> Option<&PointId> {
        match self {
            Deed::Hold { point, .. } | Deed::Release { point, .. } => Some(point),
            Deed::Expire { point, .. } | Deed::Restore { point, .. } => point.as_ref(),
            Deed::Backup { .. } | Deed::Verify { .. } | Deed::Drill { .. } => None,
        }
    }

    /// The verb.
    pub fn kind(&self) -> Kind {
        match self {
            Deed::Backup { .. } => Kind::Backup,
            Deed::Verify { .. } => Kind::Verify,
            Deed::Drill { .. } => Kind::Drill,
            Deed::Hold { .. } | Deed::Release { .. } => Kind::Hold,
            Deed::Expire { .. } => Kind::Expire,
            Deed::Restore { .. } => Kind::Restore,
        }
    }

    /// What only one job at a time may work on: its source; or this host, which is what a restore fills.
    pub fn seat(&self) -> String {
        match self {
            Deed::Restore { .. } => seat_of_host(),
            other => seat(Some(other.source()), other.kind()),
        }
    }

    /// Refuses what could not be carried out here whatever the vault holds.
    pub fn check(&self, context: &Context) -> Result<(), Failure> {
        if !context.settings.sources.contains_key(self.source()) {
            let what = format!("source {} is not in the settings", self.source());
            return Err(Failure::new(Code::Usage, what));
        }
        match self {
            Deed::Hold { reason, .. } | Deed::Release { reason, .. } => check_reason(reason),
            Deed::Restore { folder, .. } => place(context, folder).map(drop),
            _ => Ok(()),
        }
    }

    /// As words of the command line.
    pub fn words(&self, context: &Context, person: &str) -> Result<Vec<String>, Failure> {
        self.check(context)?;
        let mut words = vec![self.kind().to_string()];
        let mut say = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
        match self {
            Deed::Backup { source } | Deed::Drill { source } => say(&[source.as_str()]),
            Deed::Verify { source } => say(&[source.as_str(), "--data"]),
            Deed::Hold { point, reason, until, .. } => {
                say(&["place", &point.to_string(), &given("reason", reason), &given("owner", person)]);
                if let Some(until) = until {
                    say(&["--until", &until.0.to_string()]);
                }
            }
            Deed::Release { point, reason, .. } => {
                say(&["release", &point.to_string(), &given("reason", reason), &given("owner", person)]);
            }
            Deed::Expire { point: Some(point), .. } => say(&["--point", &point.to_string()]),
            Deed::Expire { source, point: None } => say(&[source.as_str()]),
            Deed::Restore { .. } => {
                say(&["--yes"]);
                words.extend(self.restore_words(context)?);
            }
        }
        Ok(words)
    }

    /// The words of a restore's dry run.
    pub fn plan_words(&self, context: &Context) -> Result<Vec<String>, Failure> {
        self.check(context)?;
        let mut words = ["restore", "--dry-run"].map(str::to_owned).to_vec();
        words.extend(self.restore_words(context)?);
        Ok(words)
    }

    fn restore_words(&self, context: &Context) -> Result<Vec<String>, Failure> {
        let Deed::Restore { source, folder, at, point, over } = self else { return Ok(Vec::new()) };
        let mut words =
            vec![source.to_string(), "--to".to_owned(), place(context, folder)?.display().to_string()];
        if let Some(at) = at {
            words.extend(["--at".to_owned(), at.0.to_string()]);
        }
        if let Some(point) = point {
            words.extend(["--point".to_owned(), point.to_string()]);
        }
        words.extend(over.then(|| "--delta".to_owned()));
        // A copy to look at, and one to go on with if somebody says so by hand: it must not ship WAL beside its original.
        words.push("--no-archiving".to_owned());
        Ok(words)
    }
}

/// A flag and its value as one word: whatever it begins with, it is no flag of its own.
fn given(flag: &str, value: &str) -> String {
    format!("--{flag}={value}")
}

/// The seat of what fills this host's disk.
pub fn seat_of_host() -> String {
    format!("restore:{}", host())
}

fn check_reason(reason: &str) -> Result<(), Failure> {
    let is_sound = (1..=LONGEST_REASON).contains(&reason.chars().count())
        && !reason.chars().any(char::is_control)
        && !reason.trim().is_empty();
    let refused = || Failure::new(Code::Usage, "a reason is one line of up to 500 letters");
    is_sound.then_some(()).ok_or_else(refused)
}

/// Where a restore goes.
fn place(context: &Context, folder: &str) -> Result<PathBuf, Failure> {
    let Some(root) = context.settings.http.as_ref().and_then(|http| http.restore_to.as_deref()) else {
        let failure = Failure::new(Code::Settings, "no restores are asked for here");
        return Err(failure.hint(
            "restore_to of [http] says in which folder they may be; `strongroom restore` restores anywhere",
        ));
    };
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let is_sound = (1..=LONGEST_FOLDER).contains(&folder.len())
        && folder.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && folder.chars().all(is_plain);
    let refused = || {
        let failure = Failure::new(Code::Usage, "that is no name of a folder");
        failure.hint("letters, digits, -, _ and ., not beginning with - or .: it is a folder of restore_to")
    };
    let place = is_sound.then(|| root.join(folder)).ok_or_else(refused)?;
    match is_link(&place) {
        true => Err(Failure::new(Code::Target, format!("{} leads elsewhere", place.display()))
            .hint("a restore goes into a folder of restore_to itself")),
        false => Ok(place),
    }
}

#[allow(clippy::disallowed_methods, reason = "what is restored into must not lead elsewhere")]
fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_symlink())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use clap::Parser;

    use super::*;
    use crate::context::Global;
    use crate::output::Printer;
    use crate::settings::Settings;
    use crate::surroundings::real;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        global: Global,
    }

    fn context(text: &str) -> Context {
        let global = Flags::parse_from(["strongroom"]).global;
        let printer = Printer { format: global.output, color: global.color };
        Context::new(real(), global, Settings::read(text, "f").unwrap(), printer)
    }

    const SETTINGS: &str = "[http]\nrestore_to = \"/srv/r\"\n[source.orders]\nkind = \"postgres\"\n";
    const POINT: &str = "20261120T120000Z-1f2e3d4c";

    #[test]
    fn a_deed_is_a_command_line_and_nothing_more() {
        let context = context(SETTINGS);
        for (act, line) in [
            (json!({ "act": "backup", "source": "orders" }), "backup orders"),
            (json!({ "act": "verify", "source": "orders" }), "verify orders --data"),
            (json!({ "act": "drill", "source": "orders" }), "drill orders"),
            (
                json!({ "act": "hold", "source": "orders", "point": POINT, "reason": "--in", "until": "2027-01-01T00:00:00Z" }),
                "hold place 20261120T120000Z-1f2e3d4c --reason=--in --owner=ada --until 2027-01-01T00:00:00Z",
            ),
            (
                json!({ "act": "release", "source": "orders", "point": POINT, "reason": "over" }),
                "hold release 20261120T120000Z-1f2e3d4c --reason=over --owner=ada",
            ),
            (json!({ "act": "expire", "source": "orders" }), "expire orders"),
            (
                json!({ "act": "expire", "source": "orders", "point": POINT }),
                "expire --point 20261120T120000Z-1f2e3d4c",
            ),
            (
                json!({ "act": "restore", "source": "orders", "folder": "a.b", "at": "2026-11-20T12:00:00Z", "over": true }),
                "restore --yes orders --to /srv/r/a.b --at 2026-11-20T12:00:00Z --delta --no-archiving",
            ),
        ] {
            let deed = Deed::read(&act).unwrap();
            assert_eq!(deed.words(&context, "ada").unwrap().join(" "), line);
            assert_eq!(Deed::read(&serde_json::to_value(&deed).unwrap()).unwrap(), deed);
        }
    }

    #[test]
    fn what_a_person_could_not_send_is_not_carried_out() {
        let context = context(SETTINGS);
        for act in [
            json!({ "act": "sweep", "source": "orders" }),
            json!({ "act": "backup", "source": "orders", "vault": "x" }),
            json!({ "act": "backup", "source": "../x" }),
            json!({ "act": "backup", "source": "other" }),
            json!({ "act": "backup" }),
            json!({ "act": "hold", "source": "orders", "point": "../../x", "reason": "x" }),
            json!({ "act": "hold", "source": "orders", "point": POINT, "reason": "" }),
            json!({ "act": "hold", "source": "orders", "point": POINT, "reason": "a\nb" }),
            json!({ "act": "hold", "source": "orders", "point": POINT, "reason": "x".repeat(501) }),
            json!({ "act": "restore", "source": "orders", "folder": "/etc" }),
            json!({ "act": "restore", "source": "orders", "folder": ".." }),
            json!({ "act": "restore", "source": "orders", "folder": "a/../../b" }),
            json!({ "act": "restore", "source": "orders", "folder": "--delta" }),
            json!({ "act": "restore", "source": "orders", "folder": ".hidden" }),
            json!({ "act": "restore", "source": "orders", "folder": "" }),
            json!({ "act": "restore", "source": "orders", "folder": "a\u{0}b" }),
            json!({ "act": "restore", "source": "orders", "folder": "a", "at": "yesterday" }),
        ] {
            let words = Deed::read(&act).and_then(|deed| deed.words(&context, "ada"));
            assert!(words.is_err(), "{act}: {words:?}");
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test")]
    fn a_restore_does_not_follow_a_link_and_needs_a_folder_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let text = SETTINGS.replace("/srv/r", &folder.path().display().to_string());
        std::os::unix::fs::symlink("/etc", folder.path().join("a")).unwrap();
        let restore = json!({ "act": "restore", "source": "orders", "folder": "a" });
        let failure = Deed::read(&restore).unwrap().words(&context(&text), "ada").unwrap_err();
        assert_eq!(failure.kind, Code::Target);
        let without = context("[source.orders]\nkind = \"postgres\"\n");
        assert_eq!(Deed::read(&restore).unwrap().check(&without).unwrap_err().kind, Code::Settings);
    }
}
