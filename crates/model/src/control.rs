//! Controls: what an auditor asks of backups, which clauses ask it, and how the answer is judged. Data and pure decisions.
//!
//! ```text
//! what was seen of a source ──▶ a finding per control: passed, failed or not known, what was found, and by which objects
//! ```
//!
//! Clauses are those that a control supports; none is met by backups alone (`docs/compliance.md`). Their numbers are of SOC 2's Trust Services
//! Criteria (2017, points of focus of 2022), ISO/IEC 27001:2022 Annex A, PCI DSS 4.0, NIST SP 800-53 revision 5 and NIST CSF 2.0.
//!
//! **Invariant**: what nobody measured is *not known*: it neither passes nor fails.

use std::time::Duration;

use serde::Serialize;

use crate::name::{PointId, SourceName};
use crate::retention::Retention;
use crate::time::{Timestamp, human_duration};
use crate::words;

mod judging;

pub use judging::judge;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// A plan covers it, or somebody answers for that none does.
    InPlan,
    /// Backups were taken when they were due.
    Frequency,
    /// Nothing was let go before its time.
    Retention,
    /// It is encrypted before it leaves the host.
    Encrypted,
    /// Nobody can delete it before its time.
    Immutable,
    /// There is a copy in another vault.
    Copied,
    /// A restore was tried, and passed.
    Drilled,
    /// Nothing was deleted by hand.
    NoManualDelete,
    /// What was promised holds.
    Objectives,
}

words!(
    Control,
    "control",
    InPlan = "in-plan",
    Frequency = "frequency",
    Retention = "retention",
    Encrypted = "encrypted",
    Immutable = "immutable",
    Copied = "copied",
    Drilled = "drilled",
    NoManualDelete = "no-manual-delete",
    Objectives = "objectives"
);

/// Clauses that a control supports, by whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Clauses {
    /// Trust Services Criteria.
    pub soc2: &'static [&'static str],
    /// ISO/IEC 27001:2022, Annex A.
    pub iso27001: &'static [&'static str],
    /// PCI DSS 4.0.
    pub pci_dss: &'static [&'static str],
    /// NIST SP 800-53, revision 5.
    pub nist_800_53: &'static [&'static str],
    /// NIST Cybersecurity Framework 2.0.
    pub nist_csf: &'static [&'static str],
}

impl Control {
    /// The question.
    pub fn question(self) -> &'static str {
        match self {
            Control::InPlan => "is the source in a plan, or left out for a reason that somebody answers for?",
            Control::Frequency => "was a recovery point taken each time that one was due?",
            Control::Retention => "is everything still there that retention keeps?",
            Control::Encrypted => "is it encrypted before it leaves the host?",
            Control::Immutable => "is it locked against deletion for as long as it is to be kept?",
            Control::Copied => "does another vault have a copy?",
            Control::Drilled => "was a restore tried within the time that is set, and did it pass?",
            Control::NoManualDelete => {
                "is everything there that committed points need, and was no point let go by name?"
            }
            Control::Objectives => "are the recovery objectives met, by what was measured?",
        }
    }

    /// The clauses that it supports.
    pub fn clauses(self) -> Clauses {
        let (soc2, iso27001, pci_dss, nist_800_53, nist_csf): (&[_], &[_], &[_], &[_], &[_]) = match self {
            Control::InPlan | Control::Frequency => {
                (&["A1.2"], &["A.8.13"], &["12.10.1"], &["CP-9"], &["PR.DS-11"])
            }
            Control::Retention => (&["A1.2"], &["A.5.33", "A.8.13"], &[], &["CP-9", "SI-12"], &["PR.DS-11"]),
            Control::Encrypted => {
                (&["CC6.1"], &["A.8.24"], &["3.5.1"], &["CP-9(8)", "SC-28(1)"], &["PR.DS-01"])
            }
            Control::Immutable => (&["A1.2", "CC6.1"], &["A.5.33", "A.8.13"], &[], &["CP-9"], &["PR.DS-11"]),
            Control::Copied => (&["A1.2"], &["A.8.13"], &[], &["CP-6", "CP-9(5)"], &["PR.DS-11"]),
            Control::Drilled => (
                &["A1.3", "CC7.5"],
                &["A.5.30", "A.8.13"],
                &["12.10.2"],
                &["CP-4", "CP-9(1)", "CP-9(2)"],
                &["PR.DS-11", "RC.RP-03"],
            ),
            Control::NoManualDelete => {
                (&["CC6.1"], &["A.5.33", "A.8.13"], &[], &["CP-9", "SI-7"], &["PR.DS-11"])
            }
            Control::Objectives => (
                &["A1.2", "A1.3"],
                &["A.5.30"],
                &["12.10.1"],
                &["CP-6(2)", "CP-10", "CP-10(4)"],
                &["PR.IR-03"],
            ),
        };
        Clauses { soc2, iso27001, pci_dss, nist_800_53, nist_csf }
    }
}

/// How a control came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It does not hold.
    Failed,
    /// Nobody can tell.
    NotKnown,
    /// It holds.
    Passed,
}

words!(Verdict, "verdict", Failed = "failed", NotKnown = "not known", Passed = "passed");

/// What was found of one control of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub control: Control,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, with its figures.
    pub found: String,
    /// By which objects of the vault, or lines of the settings.
    pub evidence: Vec<String>,
}

/// Which plans are for a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cover {
    /// These.
    Plans(Vec<String>),
    /// None: it is left out.
    LeftOut {
        /// By which plan.
        plan: String,
        /// Why, and who answers for it.
        reason: String,
        /// By when somebody looks again.
        review: jiff::civil::Date,
    },
    /// None, and nobody said why.
    None,
}

/// A committed point, whatever became of it since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub point: PointId,
    /// When it was begun.
    pub begun: Timestamp,
}

/// How objects of the newest point are locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockSeen {
    /// The store has no locks.
    Impossible(String),
    /// It was not asked, or did not answer.
    Unasked(String),
    /// This object is not locked.
    Open(String),
    /// This object is, until then.
    Until(String, Timestamp),
}

/// What another vault has of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySeen {
    /// Its name.
    pub vault: String,
    /// Points of the first vault that it has too, and that can be restored from it.
    pub points: Vec<PointId>,
    /// Why it could not be asked.
    pub silent: Option<String>,
}

/// What was seen of a source.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which.
    pub source: SourceName,
    /// As of when.
    pub now: Timestamp,
    /// The plans that are for it.
    pub cover: Cover,
    /// When backups were due in the time that is looked at, oldest first, as the plans are now.
    pub due: Vec<Timestamp>,
    /// So long after it was due a backup may begin.
    pub patience: Duration,
    /// Points that were committed, oldest first.
    pub taken: Vec<Taken>,
    /// The newest that can be restored.
    pub newest: Option<Taken>,
    /// What is to be kept; `None` if everything is.
    pub retention: Option<Retention>,
    /// Points that retention would keep, and that were let go.
    pub lost_early: Vec<PointId>,
    /// Points that can be restored.
    pub restorable: usize,
    /// The vault's suite, if it encrypts.
    pub suite: Option<String>,
    /// How the newest point is locked.
    pub lock: LockSeen,
    /// What other vaults have.
    pub copies: Vec<CopySeen>,
    /// When a drill last passed.
    pub drilled_at: Option<Timestamp>,
    /// How old that may be.
    pub drilled_within: Duration,
    /// Records of drills that count.
    pub drills: Vec<String>,
    /// What is damaged or missing of what committed points need.
    pub damage: Vec<String>,
    /// Points that were let go by name.
    pub by_name: Vec<PointId>,
    /// What may be lost, and what would be now, in seconds.
    pub rpo: (Option<f64>, Option<f64>),
    /// How long a restore may take, and how long the last drill took, in seconds.
    pub rto: (Option<f64>, Option<f64>),
}

impl Seen {
    fn key(&self, point: &PointId, part: &str) -> String {
        format!("sources/{}/points/{point}/{part}", self.source)
    }
}

/// The most days for which a retention keeps a point; `None` if it does not count in days.
pub fn longest_days(retention: &Retention) -> Option<u32> {
    let days = [
        retention.keep_days,
        retention.pitr_days,
        retention.daily,
        retention.weekly.saturating_mul(7),
        retention.monthly.saturating_mul(31),
        retention.yearly.saturating_mul(366),
    ];
    days.into_iter().max().filter(|days| *days > 0)
}

fn time(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "not known".to_owned(), human_duration)
}

#[cfg(test)]
mod tests;
