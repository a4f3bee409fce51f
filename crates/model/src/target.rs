//! What to restore to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::position::{Lsn, Timeline};
use crate::time::Timestamp;

/// Where recovery is to stop (PostgreSQL `recovery_target*`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "value")]
pub enum RecoveryTarget {
    /// The end of the journal.
    Latest,
    /// As soon as the copy is consistent.
    Immediate,
    /// A time.
    Time(Timestamp),
    /// A position.
    Lsn(Lsn),
    /// A transaction.
    Xid(u32),
    /// A named restore point.
    Name(String),
}

impl fmt::Display for RecoveryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryTarget::Latest => f.write_str("the end of the journal"),
            RecoveryTarget::Immediate => f.write_str("the point itself"),
            RecoveryTarget::Time(time) => write!(f, "time {time}"),
            RecoveryTarget::Lsn(lsn) => write!(f, "LSN {lsn}"),
            RecoveryTarget::Xid(xid) => write!(f, "transaction {xid}"),
            RecoveryTarget::Name(name) => write!(f, "restore point '{name}'"),
        }
    }
}

/// Which timeline to follow (PostgreSQL `recovery_target_timeline`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimelineChoice {
    /// The newest that the vault has a history for.
    Latest,
    /// The one the point was taken on.
    Current,
    /// This one.
    Id(Timeline),
}

/// What to do when the target is reached (PostgreSQL `recovery_target_action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetAction {
    /// Wait, read-only, for a person to look.
    Pause,
    /// Become a primary.
    Promote,
    /// Shut down.
    Shutdown,
}

impl TargetAction {
    /// As PostgreSQL spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetAction::Pause => "pause",
            TargetAction::Promote => "promote",
            TargetAction::Shutdown => "shutdown",
        }
    }
}

/// A restore as the user asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreRequest {
    /// Where to stop.
    pub target: RecoveryTarget,
    /// Whether the target itself is still replayed.
    pub inclusive: bool,
    /// Which timeline to follow.
    pub timeline: TimelineChoice,
    /// What then.
    pub action: TargetAction,
}
