//! A job: what a rule ordered for one instant, and what became of it.
//!
//! ```text
//!             ┌────────────── again, after a pause ──────────────┐
//! ordered ▶ queued ▶ leased (one agent works on it) ─┬▶ done     │
//!             │  │                                   ├▶ failed ──┘ as long as attempts and the completion window last
//!             │  └▶ expired (nobody began it in time)└▶ cancelled
//!             └▶ cancelled                                          missed: its instant went by while no agent was there
//! ```

use std::time::Duration;

use serde::Serialize;
use strongroom_model::{SourceName, Timestamp, words};

/// A job's number, which the catalog gives and never gives again.
pub type JobId = i64;

/// What a job does. Each is a verb of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Takes a recovery point.
    Backup,
    /// Brings another vault up to the first one.
    Copy,
    /// Tries a restore.
    Drill,
    /// Lets go what retention no longer keeps.
    Expire,
    /// Keeps a point until it is released, or releases it.
    Hold,
    /// Makes a report and sends it.
    Report,
    /// Restores into a folder.
    Restore,
    /// Deletes what nothing needs.
    Sweep,
    /// Checks what is in the vault.
    Verify,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Waits for an agent, for its source, or for its next attempt.
    Queued,
    /// An agent works on it.
    Leased,
    /// It came to its end; its exit code says whether something was found on the way.
    Done,
    /// It did not come to its end, and is not tried again.
    Failed,
    /// Somebody called it off.
    Cancelled,
    /// Its instant went by while no agent was there, and a later one runs in its stead.
    Missed,
    /// Its start window closed before an agent began it.
    Expired,
}

words!(
    Kind,
    "kind of job",
    Backup = "backup",
    Copy = "copy",
    Drill = "drill",
    Expire = "expire",
    Hold = "hold",
    Report = "report",
    Restore = "restore",
    Sweep = "sweep",
    Verify = "verify"
);
words!(
    State,
    "state of a job",
    Queued = "queued",
    Leased = "leased",
    Done = "done",
    Failed = "failed",
    Cancelled = "cancelled",
    Missed = "missed",
    Expired = "expired"
);

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestState {
    /// Nobody said yes or no.
    Waiting,
    /// A second person said yes.
    Approved,
    /// Somebody said no, or took it back.
    Declined,
    /// Nobody said anything in time.
    Lapsed,
}

words!(
    RequestState,
    "state of a request",
    Waiting = "waiting",
    Approved = "approved",
    Declined = "declined",
    Lapsed = "lapsed"
);

/// What stands in the settings and orders a job at each of its instants: a rule of a plan, as it holds for one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is to be done.
    pub kind: Kind,
    /// To which source; `None` if to a whole vault.
    pub source: Option<SourceName>,
    /// In which vault, by its name; empty for the first one.
    pub vault: String,
    /// The plan's name; empty if it comes from no plan.
    pub plan: String,
    /// The rule's name.
    pub rule: String,
    /// How long after its instant a job may still begin.
    pub start_window: Duration,
    /// How long after it was begun it is given up.
    pub completion_window: Duration,
}

impl Standing {
    /// What tells it from all others: the kind, source, vault, plan and rule.
    pub fn key(&self) -> String {
        let source = self.source.as_ref().map_or("*", SourceName::as_str);
        [self.kind.word(), source, &self.vault, &self.plan, &self.rule].join("/")
    }

    /// What it orders for this instant.
    pub fn order(&self, due: Timestamp) -> Order {
        Order { standing: self.clone(), due }
    }
}

/// One instant of what stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is wanted.
    pub standing: Standing,
    /// The instant it was wanted for.
    pub due: Timestamp,
}

impl Order {
    /// What makes it due exactly once.
    pub fn key(&self) -> String {
        format!("{}/{}", self.standing.key(), self.due.0.as_microsecond())
    }

    /// What only one job at a time may work on: a source; a vault's own chores are apart from its sources.
    pub fn seat(&self) -> String {
        seat(self.standing.source.as_ref(), self.standing.kind)
    }

    /// It may begin up to then.
    pub fn start_by(&self) -> Timestamp {
        later(self.due, self.standing.start_window)
    }

    /// It is given up then, if it begins as late as it may.
    pub fn end_by(&self) -> Timestamp {
        later(self.start_by(), self.standing.completion_window)
    }
}

/// The seat of a source's jobs, or of a whole vault's of one kind. No source has a name with a colon in it.
pub fn seat(source: Option<&SourceName>, kind: Kind) -> String {
    source.map_or_else(|| format!("vault:{kind}"), |source| source.to_string())
}

/// That much later, or in the year 9000.
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    let last = Timestamp::from_unix_seconds(LAST).unwrap_or(time);
    time.0.checked_add(by).map_or(last, Timestamp).min(last)
}

/// As good as never, and early enough that a window of that length may begin anew today.
const LAST: i64 = 221_845_305_600;

/// A job of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What it does.
    pub kind: Kind,
    /// To which source; `None` if to a whole vault.
    pub source: Option<SourceName>,
    /// In which vault, by its name; empty for the first one.
    pub vault: String,
    /// The plan that ordered it; empty if none did.
    pub plan: String,
    /// The plan's rule.
    pub rule: String,
    /// The instant it was ordered for.
    pub due: Timestamp,
    /// It may begin up to then.
    pub start_by: Timestamp,
    /// It is given up then.
    pub end_by: Timestamp,
    /// Where it stands.
    pub state: State,
    /// How often it was begun.
    pub attempt: i64,
    /// The next attempt is not before.
    pub run_at: Timestamp,
    /// The agent that works on it.
    pub owner: Option<String>,
    /// Counts its leases: what comes from an earlier one is not taken.
    pub token: i64,
    /// When its lease ends, unless its agent is heard of.
    pub lease_until: Option<Timestamp>,
    /// When its agent was last heard of.
    pub heartbeat: Option<Timestamp>,
    /// When it was first begun.
    pub began: Option<Timestamp>,
    /// When it came to where it stands now.
    pub ended: Option<Timestamp>,
    /// Somebody called it off; its agent is about to hear of it.
    pub cancelling: bool,
    /// The exit code of its last attempt.
    pub exit_code: Option<i64>,
    /// What its last attempt came to, for scripts.
    pub result: Option<serde_json::Value>,
    /// What its last attempt said on the side, or why there is none: its end, if that was long.
    pub said: Option<String>,
    /// Who ordered it by hand.
    pub person: Option<String>,
    /// What exactly they ordered.
    pub act: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_due_apart_and_a_source_has_one_lane() {
        let due = Timestamp::from_unix_seconds(1_800_000_000).unwrap();
        let standing = |kind, source: &str, rule: &str| Standing {
            kind,
            source: source.parse().ok(),
            vault: String::new(),
            plan: "gold".into(),
            rule: rule.into(),
            start_window: Duration::from_secs(3600),
            completion_window: Duration::MAX,
        };
        let order = standing(Kind::Backup, "orders", "daily").order(due);
        assert_eq!(order.key(), "backup/orders//gold/daily/1800000000000000");
        assert_eq!(order.start_by().unix_seconds(), 1_800_003_600);
        assert_eq!(order.end_by().unix_seconds(), LAST);
        let others = [
            standing(Kind::Expire, "orders", "daily"),
            standing(Kind::Backup, "other", "daily"),
            standing(Kind::Backup, "orders", "weekly"),
            standing(Kind::Backup, "*", "daily"),
        ];
        let keys: std::collections::BTreeSet<String> =
            others.iter().map(Standing::key).chain([order.standing.key()]).collect();
        assert_eq!(keys.len(), 5);
        let seats: Vec<String> = others.iter().map(|standing| standing.order(due).seat()).collect();
        assert_eq!(seats, ["orders", "other", "orders", "vault:backup"]);
    }

    #[test]
    fn words_are_read_back_and_others_are_refused() {
        for kind in Kind::ALL {
            assert_eq!(kind.word().parse(), Ok(*kind));
        }
        for state in State::ALL {
            assert_eq!(state.word().parse(), Ok(*state));
        }
        let refused = "dnoe".parse::<State>().unwrap_err().to_string();
        assert!(
            refused.starts_with("'dnoe' is no state of a job: there are queued, leased, done"),
            "{refused}"
        );
    }
}
