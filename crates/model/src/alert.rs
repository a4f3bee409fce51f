//! Alerts: what people must be told, decided from what is known.
//!
//! ```text
//! observed ▶ conditions: what is wrong now ▶ step, against what was told before ▶ news: fired · reminded · recovered
//! ```
//!
//! **Invariants**
//! - The same condition has the same key, whoever sees it and whenever: by that it is told once.
//! - What cannot be known now (a vault that does not answer) neither fires nor recovers: only what is seen to be well is well.

use serde::{Deserialize, Serialize};

use crate::name::SourceName;
use crate::time::Timestamp;
use crate::words;

pub mod observed;
pub mod rules;
pub mod news;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It should be known.
    Info,
    /// It should be mended in days.
    Warning,
    /// Something would be lost if it were needed now.
    Critical,
}

words!(Severity, "severity", Info = "info", Warning = "warning", Critical = "critical");

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// A backup failed, and is not tried again by itself.
    BackupFailed,
    /// Another job did.
    JobFailed,
    /// A backup was due, and there is no point since.
    Late,
    /// More would be lost than may be.
    Rpo,
    /// WAL is missing between what can be restored and what was shipped.
    WalGap,
    /// The server keeps WAL for a slot that nobody reads from, or gave the slot up.
    Slot,
    /// The newest point is much smaller or larger than those before.
    Size,
    /// The vault is nearly as large as it was expected to become.
    Storage,
    /// A verification found damage.
    Damage,
    /// A verification was due, and none came to its end since.
    VerifyOverdue,
    /// A drill did not prove that a restore works.
    DrillFailed,
    /// A drill was due, and there was none since; or never one.
    DrillOverdue,
    /// A point is about to lose the hold on it.
    HoldEnds,
    /// The newest point is about to lose its lock.
    LockEnds,
    /// The vault does not say what it holds.
    VaultSilent,
    /// An agent of the fleet fell silent.
    AgentSilent,
    /// A channel did not take what it was told.
    ChannelFails,
    /// Somebody tries whether alerts arrive.
    Test,
}

words!(
    AlertKind,
    "kind of alert",
    BackupFailed = "backup-failed",
    JobFailed = "job-failed",
    Late = "late",
    Rpo = "rpo",
    WalGap = "wal-gap",
    Slot = "slot",
    Size = "size",
    Storage = "storage",
    Damage = "damage",
    VerifyOverdue = "verify-overdue",
    DrillFailed = "drill-failed",
    DrillOverdue = "drill-overdue",
    HoldEnds = "hold-ends",
    LockEnds = "lock-ends",
    VaultSilent = "vault-silent",
    AgentSilent = "agent-silent",
    ChannelFails = "channel-fails",
    Test = "test"
);

impl AlertKind {
    /// How much it matters.
    pub fn severity(self) -> Severity {
        use AlertKind::*;
        match self {
            BackupFailed | Late | Rpo | WalGap | Damage | DrillFailed | VaultSilent => Severity::Critical,
            JobFailed | Slot | Size | Storage | VerifyOverdue | DrillOverdue | HoldEnds | LockEnds => {
                Severity::Warning
            }
            AgentSilent | ChannelFails => Severity::Warning,
            Test => Severity::Info,
        }
    }
}

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What.
    pub kind: AlertKind,
    /// With which source; `None` if with all of them.
    pub source: Option<SourceName>,
    /// What tells it from others of its kind and source: a rule, a vault, a channel. Often nothing does.
    pub detail: String,
    /// How much it matters.
    pub severity: Severity,
    /// For people, in one sentence.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
    /// What to type next.
    pub command: String,
}

impl Condition {
    /// One of this kind, as severe as its kind is.
    pub fn new(
        kind: AlertKind,
        source: Option<&SourceName>,
        text: impl Into<String>,
        since: Timestamp,
    ) -> Condition {
        let (detail, command) = (String::new(), String::new());
        Condition {
            kind,
            source: source.cloned(),
            detail,
            severity: kind.severity(),
            text: text.into(),
            since,
            command,
        }
    }

    /// Told from others of its kind and source.
    pub fn of(self, detail: impl Into<String>) -> Condition {
        Condition { detail: detail.into(), ..self }
    }

    /// With what to type next.
    pub fn look(self, command: impl Into<String>) -> Condition {
        Condition { command: command.into(), ..self }
    }

    /// What it is known by.
    pub fn key(&self) -> String {
        let source = self.source.as_ref().map_or("*", SourceName::as_str);
        format!("{}/{source}/{}", self.kind, self.detail)
    }
}

#[cfg(test)]
mod tests;
