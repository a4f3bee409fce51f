//! `strongroom checklist`: questions that documents ask daily, weekly and monthly, answered by what was measured; and who signed them off.
//!
//! Answers come from the vault alone, but for those of jobs, which the catalog knows: who calls this brings them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use strongroom_model::checklist::{Answer, Period, Question, Reply, SHAPE, SignOff, is_odd_size, overdue};
use strongroom_model::control::{Control, Verdict};
use strongroom_model::time::human_duration;
use strongroom_model::{Cx, SourceName, Timestamp};
use strongroom_vault::Vault;
use strongroom_vault::checklists::ChecklistEvidence;

use crate::error::OpsError;
use crate::hand::Hand;
use crate::report::compliance::Judged;
use crate::report::jobs::JobFigures;
use crate::status::{SourceStatus, status};

/// Sign-offs of a checklist that are looked at: the newest.
const NEWEST: usize = 100;

/// What the vault does not say by itself.
pub struct Known<'a> {
    /// What became of jobs in the checklist's period, by kind; or why nobody knows.
    pub jobs: Result<BTreeMap<String, JobFigures>, String>,
    /// What controls say of each source.
    pub judged: &'a [Judged],
    /// What it may hold, in bytes, as was expected.
    pub expected_storage: Option<u64>,
    /// What it costs a month, in words.
    pub cost: Option<String>,
}

/// Answers every question of a checklist.
pub async fn answers(
    cx: &Cx,
    vault: &Vault,
    period: Period,
    known: &Known<'_>,
) -> Result<Vec<Answer>, OpsError> {
    let states = status(cx, vault, None).await?;
    Ok(period.questions().iter().map(|question| answer(*question, &states, known)).collect())
}

/// Keeps a sign-off in the vault; its name. Refused on a host that may only append.
pub async fn sign(
    cx: &Cx,
    vault: &Vault,
    (period, answers): (Period, Vec<Answer>),
    (by, note): (&str, Option<&str>),
    hand: &Hand,
) -> Result<String, OpsError> {
    let sign_off = SignOff {
        checklist: SHAPE,
        vault: vault.id().to_string(),
        period,
        by: by.to_owned(),
        note: note.map(str::to_owned),
        at: cx.now(),
        host: hand.host.clone(),
        tool: hand.tool.clone(),
        answers,
    };
    Ok(vault.keep_checklist(cx, &sign_off).await?)
}

/// A checklist's sign-offs.
#[derive(Debug, Serialize)]
pub struct SignOffs {
    /// Which checklist.
    pub period: Period,
    /// When it was last signed off by a record that counts.
    pub last: Option<Timestamp>,
    /// Why it must be now; `None` if it need not yet.
    pub overdue: Option<String>,
    /// The newest records, oldest first.
    pub records: Vec<ChecklistEvidence>,
}

/// Past sign-offs of every checklist.
pub async fn sign_offs(cx: &Cx, vault: &Vault) -> Result<Vec<SignOffs>, OpsError> {
    vault.check_may_read()?;
    let mut all = Vec::new();
    for period in Period::ALL {
        let records = vault.checklists(*period, NEWEST).await?;
        let last =
            records.iter().filter_map(|record| record.sign_off.as_ref()).map(|sign_off| sign_off.at).max();
        all.push(SignOffs { period: *period, last, overdue: overdue(*period, last, cx.now()), records });
    }
    Ok(all)
}

fn answer(question: Question, states: &[SourceStatus], known: &Known<'_>) -> Answer {
    match question {
        Question::Jobs => jobs(known),
        Question::Sizes => sizes(states),
        Question::Uploaded => by_controls(question, known, &[Control::Frequency]),
        Question::Journal => journal(states, known),
        Question::Logs => person(
            question,
            "read the agent's log (journalctl -u strongroom) and the servers' own",
            &["strongroom jobs list --state failed"],
        ),
        Question::Retention => by_controls(question, known, &[Control::Retention, Control::NoManualDelete]),
        Question::Space => space(states, known),
        Question::Restored => by_controls(question, known, &[Control::Drilled]),
        Question::Procedures => person(
            question,
            "have those who would carry them out read the disaster procedures, and correct what has changed",
            &["strongroom report architecture", "strongroom restore --dry-run"],
        ),
        Question::Objectives => by_controls(question, known, &[Control::Objectives]),
        Question::Cost => {
            let cost = known.cost.as_deref().unwrap_or("what it costs is not known");
            person(
                question,
                &format!("{cost}; whether that was expected nobody told the settings"),
                &["strongroom report cost"],
            )
        }
    }
}

fn replied(question: Question, reply: Reply, found: impl Into<String>, evidence: Vec<String>) -> Answer {
    Answer { question, reply, found: found.into(), evidence }
}

fn person(question: Question, found: &str, commands: &[&str]) -> Answer {
    replied(question, Reply::Person, found, commands.iter().map(|command| (*command).to_owned()).collect())
}

fn jobs(known: &Known<'_>) -> Answer {
    let evidence = vec!["strongroom report jobs".to_owned()];
    let of = |reply, found: String| replied(Question::Jobs, reply, found, evidence.clone());
    let found = match &known.jobs {
        Err(why) => return of(Reply::Person, format!("no agent's catalog says so: {why}")),
        Ok(jobs) => jobs.get("backup"),
    };
    match found {
        None => of(Reply::Person, "no agent had a backup to take: look where backups are started".to_owned()),
        Some(figures) => {
            let wrong = figures.failed + figures.missed + figures.expired;
            let told = format!(
                "{} of {} done, {} failed, {} missed, {} too late",
                figures.done, figures.ordered, figures.failed, figures.missed, figures.expired
            );
            of(if wrong == 0 { Reply::Yes } else { Reply::No }, told)
        }
    }
}

fn sizes(states: &[SourceStatus]) -> Answer {
    let of = |is_odd: Option<bool>| {
        let found = states.iter().filter(move |state| is_odd_size(&state.figures.sizes) == is_odd);
        found.map(|state| state.source.to_string()).collect::<Vec<_>>()
    };
    let (odd, sound, unknown) = (of(Some(true)), of(Some(false)), of(None));
    let evidence = states.iter().filter_map(|state| {
        Some(format!("sources/{}/points/{}/decision", state.source, state.last_point.as_ref()?))
    });
    let (reply, found) = match (odd.is_empty(), sound.is_empty(), unknown.is_empty()) {
        (false, ..) => {
            (Reply::No, format!("less than half or more than double of those before: {}", odd.join(", ")))
        }
        (true, _, false) => {
            (Reply::Person, format!("there are too few points to tell of {}", unknown.join(", ")))
        }
        (true, false, true) => (Reply::Yes, format!("as those before: {}", sound.join(", "))),
        (true, true, true) => (Reply::No, "there is no recovery point".to_owned()),
    };
    replied(Question::Sizes, reply, found, evidence.collect())
}

fn journal(states: &[SourceStatus], known: &Known<'_>) -> Answer {
    let with_journal: Vec<&SourceStatus> = states.iter().filter(|state| !state.dumped).collect();
    if with_journal.is_empty() {
        return replied(Question::Journal, Reply::Yes, "no source has WAL", Vec::new());
    }
    let of = |state: &SourceStatus| {
        let age = state.journal_age_s.map(Duration::from_secs);
        let age =
            age.map_or_else(|| "never shipped".to_owned(), |age| format!("last {} ago", human_duration(age)));
        let gap = state.gap.as_ref().map_or_else(String::new, |gap| format!(", {gap} is missing"));
        format!("{}: {age}{gap}", state.source)
    };
    let found = with_journal.iter().map(|state| of(state)).collect::<Vec<_>>().join("; ");
    let is_broken = |state: &&&SourceStatus| state.gap.is_some() || state.journal_age_s.is_none();
    let breaks_rpo =
        |state: &&SourceStatus| verdict(known, &state.source, Control::Objectives) == Some(Verdict::Failed);
    let is_fine = with_journal.iter().find(is_broken).is_none() && !with_journal.iter().any(breaks_rpo);
    let evidence = with_journal.iter().map(|state| format!("strongroom wal status {}", state.source));
    replied(Question::Journal, if is_fine { Reply::Yes } else { Reply::No }, found, evidence.collect())
}

fn space(states: &[SourceStatus], known: &Known<'_>) -> Answer {
    let stored: u64 = states.iter().map(|state| state.figures.stored_bytes).sum();
    let shown = strongroom_model::ByteSize(stored);
    let evidence = vec!["strongroom report cost".to_owned()];
    match known.expected_storage {
        None => {
            let found =
                format!("{shown} are stored; how much may be nobody said (expected_storage of [watch])");
            replied(Question::Space, Reply::Person, found, evidence)
        }
        Some(expected) => {
            // As alerts have it: 80 of 100.
            let is_fine = u128::from(stored) * 100 <= u128::from(expected) * 80;
            let found = format!("{shown} are stored of {} expected", strongroom_model::ByteSize(expected));
            replied(Question::Space, if is_fine { Reply::Yes } else { Reply::No }, found, evidence)
        }
    }
}

fn verdict(known: &Known<'_>, source: &SourceName, control: Control) -> Option<Verdict> {
    known.judged.iter().find(|judged| judged.source == *source)?.verdict(control)
}

/// Yes if these controls passed for every source of which they were asked; a person if one is not known.
fn by_controls(question: Question, known: &Known<'_>, controls: &[Control]) -> Answer {
    let asked =
        known.judged.iter().flat_map(|judged| judged.findings.iter().map(move |finding| (judged, finding)));
    let asked: Vec<_> = asked.filter(|(_, finding)| controls.contains(&finding.control)).collect();
    let reply = match asked.iter().map(|(_, finding)| finding.verdict).min() {
        Some(Verdict::Passed) => Reply::Yes,
        Some(Verdict::NotKnown) => Reply::Person,
        Some(Verdict::Failed) | None => Reply::No,
    };
    let worst = |(_, finding): &&(&Judged, &strongroom_model::control::Finding)| match reply {
        Reply::No => finding.verdict == Verdict::Failed,
        Reply::Person => finding.verdict == Verdict::NotKnown,
        Reply::Yes => true,
    };
    let named = asked.iter().filter(worst);
    let found: Vec<String> =
        named.clone().map(|(judged, finding)| format!("{}: {}", judged.source, finding.found)).collect();
    let evidence = named.flat_map(|(_, finding)| finding.evidence.iter().cloned()).collect();
    let found = if found.is_empty() { "there is no source".to_owned() } else { found.join("; ") };
    replied(question, reply, found, evidence)
}
