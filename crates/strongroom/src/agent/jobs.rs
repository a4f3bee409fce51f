//! Jobs of the catalog as verbs of the command line, and their exit codes as what became of them.
//!
//! ```text
//! backup ▶ done ▶ copy into each vault that the rule names
//! ```
//!
//! **Invariants**
//! - What an agent does, `strongroom VERB` does by hand.
//! - A backup that may have been taken by an attempt whose agent died is looked for in the vault before another is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use strongroom_catalog::job::{Standing, seat};
use strongroom_catalog::lease::{Ended, How};
use strongroom_catalog::worker::{Runner, Stop};
use strongroom_catalog::{Job, Kind};
use strongroom_model::plan::Work;
use strongroom_model::{PointId, SourceName, Timestamp};

use crate::actor::{AGENT, of_person, of_rule};
use crate::agent::child::{Report, run};
use crate::agent::deed::{Deed, seat_of_host};
use crate::agent::present::Present;
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::settings::Settings;

/// The longest result that goes into the catalog.
const LONGEST_RESULT: usize = 64 << 10;

/// Carries jobs out as processes.
pub struct Processes {
    settings: Arc<Present>,
}

impl Processes {
    /// Those of an agent with these settings.
    pub fn new(settings: Arc<Present>) -> Processes {
        Processes { settings }
    }
}

#[async_trait]
impl Runner for Processes {
    async fn run(&self, job: &Job, mut stop: Stop) -> Ended {
        let context = self.settings.context();
        if let (Kind::Backup, Some(source), Some(began), 2..) = (job.kind, &job.source, job.began, job.token)
            && let Some(found) = tokio::select! {
                found = point_since(&context, source, began) => found,
                _ = stop.asked() => None,
            }
        {
            let ended =
                Report { code: Some(0), json: Some(found), said: "an earlier attempt took it".into() };
            return ended_as(&context, job, ended);
        }
        let stop = async {
            stop.asked().await;
        };
        let words = match words(&context, job) {
            Ok(words) => words,
            Err(failure) => return not_begun(How::FailedForGood, failure.on_one_line()),
        };
        let actor = match actor(job) {
            Ok(actor) => actor,
            Err(failure) => return not_begun(How::FailedForGood, failure.on_one_line()),
        };
        match run(&words, &actor, stop).await {
            Ok(report) => ended_as(&context, job, report),
            Err(error) => not_begun(How::Failed, format!("run strongroom {}: {error}", job.kind)),
        }
    }

    fn seats(&self) -> Vec<String> {
        let context = self.settings.context();
        let of_vault = Kind::ALL.iter().map(|kind| seat(None, *kind));
        let of_host = std::iter::once(seat_of_host());
        context.settings.sources.keys().map(SourceName::to_string).chain(of_vault).chain(of_host).collect()
    }
}

fn not_begun(how: How, why: String) -> Ended {
    Ended { how, exit_code: None, result: None, said: Some(why), sequels: Vec::new() }
}

/// For whom a job is done: who ordered it, or the rule that did.
fn actor(job: &Job) -> Result<String, Failure> {
    if job.act.is_none() {
        return Ok(of_rule(&job.plan, &job.rule));
    }
    let nobody =
        || Failure::new(Code::Usage, format!("nobody who could order job {} is named in it", job.id));
    job.person.as_deref().and_then(of_person).ok_or_else(nobody)
}

/// The command line of a job.
fn words(context: &Context, job: &Job) -> Result<Vec<String>, Failure> {
    let mut words = context.own_words()?;
    if let Some(act) = &job.act {
        words.extend(Deed::read(act)?.words(context, job.person.as_deref().unwrap_or_default())?);
    } else {
        words.extend(verb(&context.settings, (job.kind, &job.rule), job.source.as_ref(), &job.vault));
    }
    words.extend(["--output", "json"].map(str::to_owned));
    Ok(words)
}

/// The verb that does a kind of job of a rule, and what it is told: the same for agents and for whoever runs commands at times.
pub fn verb(
    settings: &Settings,
    (kind, rule): (Kind, &str),
    source: Option<&SourceName>,
    vault: &str,
) -> Vec<String> {
    let mut words = vec![kind.to_string()];
    words.extend(source.map(SourceName::to_string));
    if kind == Kind::Copy {
        words.extend(["--to".to_owned(), vault.to_owned()]);
    }
    if kind == Kind::Report {
        words.extend(["send".to_owned(), rule.to_owned()]);
    }
    if kind == Kind::Verify {
        words.push("--data".to_owned());
        words.extend(["--budget".to_owned(), settings.agent.verify_budget.to_string()]);
    }
    words
}

/// What an exit code says of a job (`docs/exit-codes.md`).
fn how(code: Option<i32>) -> How {
    let is = |known: &[Code]| known.iter().any(|known| code == Some(*known as i32));
    if is(&[Code::Ok, Code::Problems, Code::Incomplete]) {
        return How::Done;
    }
    let of_person = [
        Code::Usage,
        Code::Settings,
        Code::Damaged,
        Code::NoRestore,
        Code::Target,
        Code::Newer,
        Code::Conflict,
        Code::Unproven,
        Code::TooSlow,
    ];
    // A server or store that is away comes back, and a key service as well; a signal may have been meant for another.
    if is(&of_person) { How::FailedForGood } else { How::Failed }
}

/// What a process said on the side, and why it failed.
fn told(report: &Report) -> String {
    let mut said = report.said.clone();
    if let Some(error) = report.json.as_ref().and_then(|json| json.get("error")) {
        let causes = error["causes"].as_array().into_iter().flatten();
        let reasons = std::iter::once(&error["message"]).chain(causes).filter_map(Value::as_str);
        said.push_str(&reasons.collect::<Vec<_>>().join(": "));
    }
    said
}

fn ended_as(context: &Context, job: &Job, report: Report) -> Ended {
    let mut said = told(&report);
    let Report { code, json, .. } = report;
    let how = how(code);
    let length = json.as_ref().map_or(0, |json| json.to_string().len());
    if length > LONGEST_RESULT {
        said.push_str(&format!("\nits report of {length} bytes is not kept"));
    }
    let sequels = match (job.kind, how) {
        (Kind::Backup, How::Done) => copies(context, job).unwrap_or_default(),
        _ => Vec::new(),
    };
    Ended {
        how,
        exit_code: code.map(i64::from),
        result: json.filter(|_| length <= LONGEST_RESULT),
        said: Some(said.trim().to_owned()).filter(|said| !said.is_empty()),
        sequels: sequels.iter().map(|standing| standing.order(job.due)).collect(),
    }
}

/// The copies that the rule of a backup names, as it is now.
fn copies(context: &Context, job: &Job) -> Option<Vec<Standing>> {
    let (_, plan) = context.settings.plans.iter().find(|(name, _)| name.as_str() == job.plan)?;
    let rule = plan.timetables().find(|table| table.work == Work::Backup && table.rule == job.rule)?;
    let copy = |vault: &String| Standing {
        kind: Kind::Copy,
        source: job.source.clone(),
        vault: vault.clone(),
        plan: job.plan.clone(),
        rule: job.rule.clone(),
        // It is due with its backup, and begins after it.
        start_window: job.end_by.since(job.due) + rule.start_window.0,
        completion_window: rule.completion_window.0,
    };
    Some(rule.copies.iter().map(copy).collect())
}

/// The newest point of `source`, if it was begun at `began` or later.
async fn point_since(context: &Context, source: &SourceName, began: Timestamp) -> Option<Value> {
    let point = newest_points(context, Some(source)).await?.remove(source)?;
    let is_later = point.begun().is_some_and(|begun| begun.unix_seconds() >= began.unix_seconds());
    is_later.then(|| json!({ "source": source, "point": point }))
}

/// The newest point of each source, or of one, that can be restored; `None` if the vault does not say. Asked by a process of its own
/// as well: what opens a vault takes memory that this process would keep.
pub async fn newest_points(
    context: &Context,
    source: Option<&SourceName>,
) -> Option<BTreeMap<SourceName, PointId>> {
    let states = match told_states(context, source).await {
        Ok(states) => states,
        Err(why) => {
            tracing::warn!("the vault does not say which points it has: {why}");
            return None;
        }
    };
    let newest = states.iter().filter_map(|state| {
        let read = |key: &str| state[key].as_str();
        Some((read("source")?.parse().ok()?, read("last_point")?.parse().ok()?))
    });
    Some(newest.collect())
}

/// What `status` says of each source, or of one; or why it says nothing.
pub async fn told_states(context: &Context, source: Option<&SourceName>) -> Result<Vec<Value>, String> {
    let words: Vec<String> =
        std::iter::once("status".to_owned()).chain(source.map(SourceName::to_string)).collect();
    match told_by(context, &words).await? {
        Value::Array(states) => Ok(states),
        _ => Err("status says what is no list".to_owned()),
    }
}

/// What a verb that only reads tells with `--output json`; or why it tells nothing.
pub async fn told_by(context: &Context, verb: &[String]) -> Result<Value, String> {
    let mut words = context.own_words().map_err(|failure| failure.on_one_line())?;
    words.extend(verb.iter().cloned());
    words.extend(["--output", "json"].map(str::to_owned));
    let report = run(&words, AGENT, std::future::pending()).await.map_err(|error| error.to_string())?;
    // Whatever else a person should look at.
    let answered = matches!(how(report.code), How::Done);
    match &report.json {
        Some(document) if answered => Ok(document.clone()),
        None if answered => Err(format!("{} tells more than can be shown", verb.join(" "))),
        _ => Err(told(&report)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_a_person_must_mend_is_not() {
        for code in Code::ALL {
            let expected = match code {
                Code::Ok | Code::Problems | Code::Incomplete => How::Done,
                Code::Usage
                | Code::Settings
                | Code::Damaged
                | Code::NoRestore
                | Code::Target
                | Code::Newer
                | Code::Conflict
                | Code::Unproven
                | Code::TooSlow => How::FailedForGood,
                _ => How::Failed,
            };
            assert_eq!(how(Some(code as i32)), expected, "{code:?}");
        }
        assert_eq!(how(None), How::Failed);
    }

    #[test]
    fn why_a_process_failed_is_told_with_its_causes() {
        let json = json!({ "error": { "message": "open vault v", "causes": ["a", "b"], "hint": "c" } });
        let report = Report { code: Some(6), json: Some(json), said: "WARN slow\n".into() };
        assert_eq!(told(&report), "WARN slow\nopen vault v: a: b");
    }
}
