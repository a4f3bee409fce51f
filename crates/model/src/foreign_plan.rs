//! Plans of others, read as ours: AWS Backup's plan and selection, and a file of EventBridge crons.
//!
//! ```text
//! JSON ──▶ plans (text for strongroom.toml) + everything that could not be carried over, by name
//! ```
//!
//! **Invariant**: nothing is dropped in silence. What has no place in a plan of ours is told, with what to do about it.
//!
//! Members are those of the AWS Backup API (`GetBackupPlan`, `GetBackupSelection`) and of CloudFormation's resource.

use std::fmt::Write;

use serde_json::Value;

use crate::name::PlanName;
use crate::schedule::{Schedule, ScheduleError};

mod words;
mod aws;

use words::named;

/// What a file came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Plans, by name, each as text for `strongroom.toml`.
    pub plans: Vec<(PlanName, String)>,
    /// What could not be carried over.
    pub left: Vec<String>,
}

/// A file that is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not JSON.
    #[error("it is no JSON")]
    Json(#[source] serde_json::Error),
    /// JSON of something else.
    #[error(
        "it is neither an AWS Backup plan (BackupPlan with Rules, or a BackupSelection) nor an object of schedules (\"name\": \"cron(…)\")"
    )]
    Unknown,
    /// A selection, and no plan that it is for.
    #[error("there is a selection, and no plan: name the file with the plan as well")]
    OnlySelections,
    /// A member of AWS's that is not of its type.
    #[error("the AWS Backup plan does not read")]
    Aws(#[source] serde_json::Error),
    /// A schedule that does not read.
    #[error("the schedule of {place} does not read")]
    Schedule {
        /// Of which rule.
        place: String,
        /// Why.
        #[source]
        error: Box<ScheduleError>,
    },
}

/// Reads files that belong together: a plan with its selections, or schedules.
pub fn import(texts: &[String]) -> Result<Imported, ImportError> {
    let documents: Vec<Value> = texts
        .iter()
        .map(|text| serde_json::from_str(text))
        .collect::<Result<_, _>>()
        .map_err(ImportError::Json)?;
    let (mut plans, mut selections, mut imported) = (Vec::new(), Vec::new(), Imported::default());
    for document in documents {
        let (of_plan, of_selection) = (member(&document, "BackupPlan"), member(&document, "BackupSelection"));
        let bare = of_plan.is_none() && of_selection.is_none();
        if bare && (document.get("Rules").is_some() || document.get("BackupPlanRule").is_some()) {
            plans.push(document);
        } else if bare && document.get("SelectionName").is_some() {
            selections.push(document);
        } else if bare {
            schedules(&document, &mut imported)?;
        }
        plans.extend(of_plan);
        selections.extend(of_selection);
    }
    if plans.is_empty() && !selections.is_empty() {
        return Err(ImportError::OnlySelections);
    }
    for plan in plans {
        aws::plan(plan, &selections, &mut imported)?;
    }
    Ok(imported)
}

fn member(document: &Value, name: &str) -> Option<Value> {
    document.get(name).filter(|member| member.is_object()).cloned()
}

/// `{"rds_backups": "cron(0 3 * * ? *)"}`: what each is for stands nowhere, so a tag says it.
fn schedules(document: &Value, imported: &mut Imported) -> Result<(), ImportError> {
    let entries = document.as_object().filter(|entries| !entries.is_empty()).ok_or(ImportError::Unknown)?;
    if entries.values().any(|value| !value.is_string()) {
        return Err(ImportError::Unknown);
    }
    for (key, value) in entries {
        let text = value.as_str().unwrap_or_default();
        let schedule: Schedule = text
            .parse()
            .map_err(|error| ImportError::Schedule { place: key.clone(), error: Box::new(error) })?;
        let name: PlanName = named(key);
        let mut toml = String::new();
        // Writing to a string cannot go wrong.
        let _ = write!(
            toml,
            "[plan.{table}]\nselect = {{ tags = {{ schedule = \"{name}\" }} }}\n\n[[plan.{table}.rule]]\nname = \"{name}\"\nschedule = {}\n",
            words::quoted(&schedule.to_string()),
            table = words::table(&name),
        );
        imported.plans.push((name.clone(), toml));
        imported.left.push(format!(
            "{key}: the file does not say what it backs up; give its sources the tag: [source.NAME] tags = {{ schedule = \"{name}\" }}"
        ));
        imported.left.push(format!(
            "{key}: the file does not say how long points are kept; say retention in its rule, or in [retention]"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
