//! Checklists: what is asked daily, weekly and monthly, what can be answered by what was measured, and when one is overdue. Data and pure decisions.
//!
//! ```text
//! period ▶ questions ──▶ an answer each: yes, no, or a person must say ──▶ signed off by somebody, kept beside evidence
//! ```
//!
//! **Invariant**: what the machine cannot see it does not answer: such a question is a person's, and a sign-off says that it was theirs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Timestamp, human_duration};
use crate::words;

/// The shape of the statements that this build writes, and the newest that it reads.
pub const SHAPE: u32 = 1;

const DAY: Duration = Duration::from_secs(86_400);

/// How often it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    /// Each day.
    Daily,
    /// Each week.
    Weekly,
    /// Each month.
    Monthly,
}

words!(Period, "checklist", Daily = "daily", Weekly = "weekly", Monthly = "monthly");

impl Period {
    /// After so long since the last sign-off the next one is overdue: the period, and a quarter of it.
    pub fn patience(self) -> Duration {
        match self {
            Period::Daily => DAY * 5 / 4,
            Period::Weekly => DAY * 35 / 4,
            Period::Monthly => DAY * 155 / 4,
        }
    }

    /// How far back a question of it looks.
    pub fn looks_back(self) -> Duration {
        match self {
            Period::Daily => DAY,
            Period::Weekly => DAY * 7,
            Period::Monthly => DAY * 31,
        }
    }

    /// Its questions, in the order in which they are asked.
    pub fn questions(self) -> &'static [Question] {
        match self {
            Period::Daily => &[Question::Jobs, Question::Sizes, Question::Uploaded, Question::Journal],
            Period::Weekly => &[Question::Logs, Question::Retention, Question::Space],
            Period::Monthly => {
                &[Question::Restored, Question::Procedures, Question::Objectives, Question::Cost]
            }
        }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Did the jobs succeed?
    Jobs,
    /// Are points as large as they should be?
    Sizes,
    /// Is there a point of the last while in the vault?
    Uploaded,
    /// Does WAL arrive without a gap?
    Journal,
    /// Did anybody read what was logged?
    Logs,
    /// Is retention carried out?
    Retention,
    /// Is there room?
    Space,
    /// Was a restore tried?
    Restored,
    /// Are the procedures right?
    Procedures,
    /// Are the objectives met?
    Objectives,
    /// What does it cost?
    Cost,
}

words!(
    Question,
    "question",
    Jobs = "jobs",
    Sizes = "sizes",
    Uploaded = "uploaded",
    Journal = "journal",
    Logs = "logs",
    Retention = "retention",
    Space = "space",
    Restored = "restored",
    Procedures = "procedures",
    Objectives = "objectives",
    Cost = "cost"
);

impl Question {
    /// In words.
    pub fn asks(self) -> &'static str {
        match self {
            Question::Jobs => "did every backup that was due succeed?",
            Question::Sizes => {
                "is the newest recovery point of each source about as large as those before it?"
            }
            Question::Uploaded => {
                "does each source have a recovery point in the vault as new as its plan says?"
            }
            Question::Journal => "does WAL arrive, without a gap, within the RPO?",
            Question::Logs => {
                "were the agent's and the servers' logs read, and is nothing in them that nobody knows of?"
            }
            Question::Retention => "is everything there that retention keeps, and gone what it let go?",
            Question::Space => "is there room for what will be added until the next time?",
            Question::Restored => "was a restore of each source tried in the last month, and did it pass?",
            Question::Procedures => {
                "were the disaster procedures read by those who would carry them out, and are they right?"
            }
            Question::Objectives => "are RTO and RPO met, by what was measured?",
            Question::Cost => "is what it costs what was expected?",
        }
    }
}

/// How a question came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is not as it should be.
    No,
    /// The machine cannot see it.
    Person,
    /// It is as it should be.
    Yes,
}

words!(Reply, "reply", No = "no", Person = "a person must answer", Yes = "yes");

/// A question, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which.
    pub question: Question,
    /// How it came out.
    pub reply: Reply,
    /// What was found, with its figures; or what a person should look at.
    pub found: String,
    /// Objects of the vault, or commands, that show it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// What somebody signed off: the statement that is signed by the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignOff {
    /// The shape of this statement: [`SHAPE`].
    pub checklist: u32,
    /// The vault's id, as text.
    pub vault: String,
    /// Which checklist.
    pub period: Period,
    /// Who signed it, as they said it.
    pub by: String,
    /// What they had to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// By the host's clock.
    pub at: Timestamp,
    /// On which host.
    pub host: String,
    /// By which build: `strongroom 0.1.0`.
    pub tool: String,
    /// The answers as they were then.
    pub answers: Vec<Answer>,
}

/// Whether a checklist must be signed off, and why; `None` if it need not yet. One that was never signed is overdue.
pub fn overdue(period: Period, last: Option<Timestamp>, now: Timestamp) -> Option<String> {
    match last {
        None => Some("never signed off".to_owned()),
        Some(at) if now.since(at) > period.patience() => {
            Some(format!("last signed off {} ago", human_duration(now.since(at))))
        }
        Some(_) => None,
    }
}

/// Points that a size is held against: as many as make a middle.
const SIZES: usize = 4;

/// Whether the newest of these sizes, oldest first, is far from the middle of those before it: less than half, or more than double. `None` if
/// there are too few to tell.
pub fn is_odd_size(sizes: &[u64]) -> Option<bool> {
    let (newest, before) = sizes.split_last().filter(|(_, before)| before.len() >= SIZES - 1)?;
    let mut sorted = before.to_vec();
    sorted.sort_unstable();
    let middle = sorted[sorted.len() / 2];
    Some(newest.saturating_mul(2) < middle || *newest > middle.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_asked_once_and_asks() {
        let mut asked: Vec<Question> =
            Period::ALL.iter().flat_map(|period| period.questions()).copied().collect();
        asked.sort();
        let mut all = Question::ALL.to_vec();
        all.sort();
        assert_eq!(asked, all);
        assert!(all.iter().all(|question| question.asks().ends_with('?')));
    }

    #[test]
    fn what_was_never_signed_is_overdue_and_what_was_lately_is_not() {
        let at = |hours: i64| Timestamp::from_unix_seconds(1_800_000_000 + hours * 3600).unwrap();
        let is_overdue = |period, hours| overdue(period, Some(at(0)), at(hours)).is_some();
        assert!(overdue(Period::Daily, None, at(0)).is_some());
        assert_eq!([24, 30, 31].map(|hours| is_overdue(Period::Daily, hours)), [false, false, true]);
        assert_eq!([8, 9].map(|days| is_overdue(Period::Weekly, days * 24)), [false, true]);
        assert_eq!([38, 39].map(|days| is_overdue(Period::Monthly, days * 24)), [false, true]);
    }

    #[test]
    fn a_size_is_odd_against_the_middle_of_those_before() {
        for (sizes, odd) in [
            (&[][..], None),
            (&[1, 1, 1], None),
            (&[100, 110, 120, 130], Some(false)),
            (&[100, 110, 120, 54], Some(true)),
            (&[100, 110, 120, 221], Some(true)),
            (&[100, 110, 120, 220], Some(false)),
            // One that was odd before does not hide the next.
            (&[100, 900, 100, 110, 100], Some(false)),
            (&[0, 0, 0, 0], Some(false)),
        ] {
            assert_eq!(is_odd_size(sizes), odd, "{sizes:?}");
        }
    }
}
