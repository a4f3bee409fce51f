//! Telling a restored cluster where to recover to.
//!
//! Written after all pages and before the control file is renamed into place: a cluster that can start knows its target.
//! The settings go to the end of `postgresql.auto.conf`, the last file the server reads, where the last line wins; every
//! recovery setting is written, also the empty ones, so that none left over from an earlier restore counts (the
//! server refuses two targets at once).

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use strongroom_engine::{EngineError, PageSink, PageSource, Target};
use strongroom_model::Cx;
use strongroom_model::entry::{Entry, EntryPath, Owner};
use strongroom_model::restore_plan::RestorePlan;
use strongroom_model::target::RecoveryTarget;

use crate::quote::quoted_string;
use crate::target::FolderTarget;

const AUTO_CONF: &str = "postgresql.auto.conf";
const SIGNAL: &str = "recovery.signal";
const STANDBY_SIGNAL: &str = "standby.signal";

/// Every setting that names a target.
const TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_time",
    "recovery_target_lsn",
    "recovery_target_xid",
    "recovery_target_name",
];

/// What becomes of the restored cluster's own archiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archiving {
    /// As it was: once promoted, it ships its new timeline to wherever its settings say.
    Keep,
    /// Off: a copy to look at must not write into anyone's vault.
    Off,
}

/// What the restored cluster is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role<'a> {
    /// A cluster by itself, once recovery got to the plan's target.
    Alone,
    /// A standby that begins with the plan's point: WAL from the vault, and from this connection string once that has more.
    Standby(Option<&'a str>),
}

/// The recovery settings of `plan` as lines of `postgresql.auto.conf`.
pub fn settings(plan: &RestorePlan, restore_command: &str, role: Role<'_>, archiving: Archiving) -> String {
    let request = &plan.request;
    let target = match &request.target {
        _ if role != Role::Alone => None,
        RecoveryTarget::Latest => None,
        RecoveryTarget::Immediate => Some(("recovery_target", "immediate".to_owned())),
        RecoveryTarget::Time(time) => Some(("recovery_target_time", time.to_string())),
        RecoveryTarget::Lsn(lsn) => Some(("recovery_target_lsn", lsn.to_string())),
        RecoveryTarget::Xid(xid) => Some(("recovery_target_xid", xid.to_string())),
        RecoveryTarget::Name(name) => Some(("recovery_target_name", name.clone())),
    };
    let mut lines = match role {
        Role::Alone => format!("\n# Recovery of {} by strongroom to {}\n", plan.point.point, request.target),
        Role::Standby(_) => format!("\n# Standby made of {} by strongroom\n", plan.point.point),
    };
    let mut line = |name: &str, value: &str| lines.push_str(&format!("{name} = {}\n", configured(value)));
    line("restore_command", restore_command);
    // The empty ones first: the server applies settings in this order, and refuses even an empty second target.
    let others = TARGETS.iter().filter(|name| target.as_ref().is_none_or(|(chosen, _)| chosen != *name));
    others.for_each(|name| line(name, ""));
    if let Some((name, value)) = &target {
        line(name, value);
    }
    match role {
        Role::Alone => {
            line("recovery_target_inclusive", if request.inclusive { "on" } else { "off" });
            // By number, resolved from what the vault knows: the server's own probing stops at the first missing history.
            line("recovery_target_timeline", &plan.timeline.to_string());
            line("recovery_target_action", request.action.as_str());
        }
        Role::Standby(primary) => {
            line("recovery_target_timeline", "latest");
            // What the point brought is its server's own: two that read from one slot would fight for it.
            line("primary_conninfo", primary.unwrap_or_default());
            line("primary_slot_name", "");
        }
    }
    // A standby that was kept behind on purpose hands that down; recovery would wait as it did.
    line("recovery_min_apply_delay", "0");
    line("archive_cleanup_command", "");
    line("recovery_end_command", "");
    if archiving == Archiving::Off {
        line("archive_mode", "off");
    }
    lines
}

/// A value as configuration files quote it (`guc-file.l`): like an SQL string, and backslashes doubled as well.
fn configured(value: &str) -> String {
    quoted_string(&value.replace('\\', "\\\\"))
}

/// A folder being restored into, with the recovery it is to start with.
pub struct RecoveringFolder {
    folder: FolderTarget,
    lines: String,
    signal: &'static str,
    seen: Mutex<Seen>,
}

/// What the point itself brought.
#[derive(Default)]
struct Seen {
    owner: Owner,
    auto_conf: bool,
}

impl RecoveringFolder {
    /// Restores into `folder`; recovery will be told `lines` ([`settings`] for the same role).
    pub fn new(folder: FolderTarget, role: Role<'_>, lines: String) -> RecoveringFolder {
        let signal = if role == Role::Alone { SIGNAL } else { STANDBY_SIGNAL };
        RecoveringFolder { folder, lines, signal, seen: Mutex::default() }
    }

    fn path(name: &str) -> Result<EntryPath, EngineError> {
        EntryPath::new(name).map_err(|why| EngineError::Unfit { what: why.to_string(), hint: String::new() })
    }

    /// What the user should know of the restored folder.
    pub fn notes(&self) -> Vec<String> {
        self.folder.notes()
    }
}

impl Target for RecoveringFolder {
    fn prepare(&self, entry: &Entry) -> Result<(), EngineError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.auto_conf |= entry.path.is(AUTO_CONF);
        // Every data directory has this one, and it belongs to whom the server runs as.
        if entry.path.is("PG_VERSION") {
            seen.owner = entry.owner.clone();
        }
        drop(seen);
        self.folder.prepare(entry)
    }

    fn present(&self, entry: &Entry) -> Result<Option<Box<dyn PageSource>>, EngineError> {
        self.folder.present(entry)
    }

    fn open(&self, entry: &Entry) -> Result<Box<dyn PageSink>, EngineError> {
        self.folder.open(entry)
    }

    fn leave(&self, name: &str, text: &str) -> Result<(), EngineError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.folder.add_file(&Self::path(name)?, text.as_bytes(), &seen.owner)
    }

    fn finish(&self) -> Result<(), EngineError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (auto_conf, lines) = (Self::path(AUTO_CONF)?, self.lines.as_bytes());
        match seen.auto_conf {
            true => self.folder.append_file(&auto_conf, lines)?,
            false => self.folder.add_file(&auto_conf, lines, &seen.owner)?,
        }
        self.folder.add_file(&Self::path(self.signal)?, b"", &seen.owner)?;
        self.folder.finish()
    }

    fn read_ahead(&self, cx: &Cx, bytes: u64) {
        self.folder.read_ahead(cx, bytes);
    }
}

/// Quotes a word for the shell that runs `restore_command`. Words of harmless characters stay as they are.
pub fn shell_word(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    match !word.is_empty() && word.chars().all(harmless) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// `restore_command` (or, with `push`, `archive_command`) of this binary: paths quoted, percent signs doubled as the
/// server expands them.
pub fn command(binary: &Path, arguments: &[&str], placeholders: &str) -> String {
    let words = std::iter::once(binary.to_string_lossy().into_owned())
        .chain(arguments.iter().map(ToString::to_string));
    let words: Vec<String> = words.map(|word| shell_word(&word).replace('%', "%%")).collect();
    format!("{} {placeholders}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_odd_paths() {
        for (binary, argument, command_line) in [
            ("/usr/bin/strongroom", "orders", "/usr/bin/strongroom orders %f \"%p\""),
            ("/opt/my tools/strongroom", "it's", r#"'/opt/my tools/strongroom' 'it'\''s' %f "%p""#),
            ("/opt/50%/strongroom", "$HOME", r#"/opt/50%%/strongroom '$HOME' %f "%p""#),
        ] {
            assert_eq!(command(Path::new(binary), &[argument], "%f \"%p\""), command_line);
        }
    }

    #[test]
    fn values_are_quoted_as_configuration_files_want_it() {
        assert_eq!(configured(""), "''");
        assert_eq!(configured(r"a'b\c"), r"'a''b\\c'");
    }
}
