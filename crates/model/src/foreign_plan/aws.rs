//! AWS Backup's plan and selections.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::Value;

use super::words::{named, quoted, table};
use super::{ImportError, Imported};
use crate::name::{PlanName, RuleName, SourceName};
use crate::schedule::Schedule;
use crate::span::Span;
use crate::time::Timestamp;
use crate::zone::Zone;

#[derive(Deserialize)]
struct BackupPlan {
    #[serde(rename = "BackupPlanName", default)]
    name: String,
    #[serde(rename = "Rules", alias = "BackupPlanRule", default)]
    rules: Vec<BackupRule>,
    #[serde(rename = "AdvancedBackupSettings", default)]
    advanced: Vec<Value>,
    #[serde(flatten)]
    others: Others,
}

/// Members that this does not know.
type Others = serde_json::Map<String, Value>;

/// Members that say nothing about what is done: names of AWS's own, and rights that are not needed here.
const SILENT: [&str; 3] = ["RuleId", "IamRoleArn", "BackupPlanTags"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BackupRule {
    rule_name: String,
    #[serde(alias = "TargetBackupVault")]
    target_backup_vault_name: Option<String>,
    schedule_expression: Option<String>,
    schedule_expression_timezone: Option<String>,
    start_window_minutes: Option<u64>,
    completion_window_minutes: Option<u64>,
    lifecycle: Option<Lifecycle>,
    #[serde(default)]
    copy_actions: Vec<CopyAction>,
    #[serde(default)]
    enable_continuous_backup: bool,
    #[serde(default)]
    recovery_point_tags: serde_json::Map<String, Value>,
    #[serde(default)]
    index_actions: Vec<Value>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lifecycle {
    move_to_cold_storage_after_days: Option<i64>,
    delete_after_days: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CopyAction {
    destination_backup_vault_arn: String,
    lifecycle: Option<Lifecycle>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BackupSelection {
    selection_name: String,
    resources: Vec<String>,
    not_resources: Vec<String>,
    list_of_tags: Vec<Condition>,
    conditions: Conditions,
    #[serde(flatten)]
    others: Others,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Condition {
    #[serde(default)]
    condition_type: String,
    condition_key: String,
    condition_value: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Conditions {
    string_equals: Vec<Condition>,
    string_not_equals: Vec<Condition>,
    string_like: Vec<Condition>,
    string_not_like: Vec<Condition>,
}

/// Days of what is kept for ever: as many as a retention may say.
const FOR_EVER: i64 = 366_000;

/// The longest window of AWS's continuous backups.
const CONTINUOUS_DAYS: i64 = 35;

/// Reads a plan, with the selections that were given beside it.
pub fn plan(plan: Value, selections: &[Value], imported: &mut Imported) -> Result<(), ImportError> {
    let plan: BackupPlan = serde_json::from_value(plan).map_err(ImportError::Aws)?;
    let selections: Vec<BackupSelection> = selections
        .iter()
        .map(|selection| serde_json::from_value(selection.clone()).map_err(ImportError::Aws))
        .collect::<Result<_, _>>()?;
    let name: PlanName = named(&plan.name);
    let mut toml = format!("[plan.{}]\n{}", table(&name), select(&selections, &mut imported.left));
    for selection in &selections {
        for resource in &selection.not_resources {
            exclude(&name, resource, (&mut toml, &mut imported.left));
        }
    }
    let is_only = plan.rules.len() == 1;
    for rule in &plan.rules {
        toml.push_str(&self::rule(&name, rule, is_only, &mut imported.left)?);
    }
    unknown("the plan", &plan.others, &mut imported.left);
    for selection in &selections {
        unknown(&format!("selection {}", selection.selection_name), &selection.others, &mut imported.left);
    }
    if !plan.advanced.is_empty() {
        imported.left.push("AdvancedBackupSettings: there is nothing like it for databases".to_owned());
    }
    imported.plans.push((name, toml));
    Ok(())
}

fn rule(
    plan: &PlanName,
    rule: &BackupRule,
    is_only: bool,
    left: &mut Vec<String>,
) -> Result<String, ImportError> {
    let said = &rule.rule_name;
    let Some(expression) = &rule.schedule_expression else {
        left.push(format!("rule {said}: it has no schedule, so it never runs by itself and was left out"));
        return Ok(String::new());
    };
    let wrong = |error| ImportError::Schedule { place: format!("rule {said}"), error: Box::new(error) };
    let schedule: Schedule = expression.parse().map_err(wrong)?;
    let name: RuleName = named(said);
    let mut toml =
        format!("\n[[plan.{}.rule]]\nname = \"{name}\"\nschedule = {}\n", table(plan), quoted(expression));
    // Writing to a string cannot go wrong.
    match rule.schedule_expression_timezone.as_deref().map(|zone| (zone, zone.parse::<Zone>())) {
        Some((zone, Ok(_))) => drop(writeln!(toml, "timezone = {}", quoted(zone))),
        Some((zone, Err(error))) => {
            left.push(format!("rule {said}: its time zone {zone} is not known here ({error})"))
        }
        None => {}
    }
    for (key, minutes) in
        [("start_window", rule.start_window_minutes), ("completion_window", rule.completion_window_minutes)]
    {
        if let Some(minutes) = minutes.filter(|minutes| *minutes > 0) {
            let _ = writeln!(toml, "{key} = \"{}\"", Span::from_secs(minutes.saturating_mul(60)));
        }
    }
    let _ = writeln!(toml, "retention = {{ {} }}", retention(rule, &schedule, is_only));
    let cold = rule.lifecycle.and_then(|lifecycle| lifecycle.move_to_cold_storage_after_days);
    if let Some(cold) = cold.filter(|days| *days > 0) {
        let _ = writeln!(toml, "cold_after_days = {cold}");
        left.push(format!(
            "rule {said}: points move to the cold by the vault's own lifecycle; say it there: [vault.lifecycle] packs = [{{ days = {cold}, class = \"GLACIER_IR\" }}]"
        ));
    }
    let copies: Vec<String> = rule.copy_actions.iter().map(|copy| quoted(vault_of(copy))).collect();
    if !copies.is_empty() {
        let _ = writeln!(toml, "copies = [{}]", copies.join(", "));
    }
    leave(rule, left);
    Ok(toml)
}

/// AWS keeps the points of each rule apart; here points are a source's, and the calendar says which stay. So a rule that
/// runs daily keeps the newest point of each day, and only the most frequent one keeps every point.
fn retention(rule: &BackupRule, schedule: &Schedule, is_only: bool) -> String {
    let delete = rule.lifecycle.and_then(|lifecycle| lifecycle.delete_after_days).filter(|days| *days > 0);
    let days = delete.unwrap_or(FOR_EVER).min(FOR_EVER);
    let every = |unit: i64| (days + unit - 1) / unit;
    let rhythm = rhythm(schedule);
    let kept = match rhythm {
        _ if is_only || delete.is_none() => format!("keep_days = {days}"),
        Some(..72_000) | None => format!("keep_days = {days}"),
        Some(72_000..108_000) => format!("daily = {days}"),
        Some(108_000..864_000) => format!("weekly = {}", every(7)),
        Some(864_000..3_456_000) => format!("monthly = {}", every(30)),
        Some(_) => format!("yearly = {}", every(365)),
    };
    match rule.enable_continuous_backup {
        true => format!("{kept}, pitr_days = {}", days.min(CONTINUOUS_DAYS)),
        false => kept,
    }
}

/// Seconds between two runs: the most there are among the first hundred.
fn rhythm(schedule: &Schedule) -> Option<u64> {
    let begin = Timestamp::from_unix_seconds(1_767_225_600)?; // 2026-01-01
    let end = Timestamp::from_unix_seconds(2_082_758_400)?; // 2036-01-01
    let runs: Vec<Timestamp> = schedule.times((begin, end), &Zone::UTC).take(100).collect();
    runs.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).max()
}

/// `arn:aws:backup:eu-west-1:123456789012:backup-vault:dr`
fn vault_of(copy: &CopyAction) -> &str {
    copy.destination_backup_vault_arn.rsplit(':').next().unwrap_or_default()
}

/// What has no place in a rule of ours.
fn leave(rule: &BackupRule, left: &mut Vec<String>) {
    let said = &rule.rule_name;
    unknown(&format!("rule {said}"), &rule.others, left);
    if let Some(vault) = rule.target_backup_vault_name.as_deref().filter(|vault| *vault != "Default") {
        left.push(format!("rule {said}: it kept points in {vault}; here they go to [vault]"));
    }
    for copy in &rule.copy_actions {
        let vault = vault_of(copy);
        left.push(format!(
            "rule {said}: copies go to {vault}; name that vault: [[also]] name = {}, with its url",
            quoted(vault)
        ));
        if let Some(days) = copy.lifecycle.and_then(|lifecycle| lifecycle.delete_after_days) {
            left.push(format!(
                "rule {said}: copies in {vault} are kept for {days} days; say it there: [[also]] retention = {{ keep_days = {days} }}"
            ));
        }
    }
    if rule.enable_continuous_backup {
        left.push(format!(
            "rule {said}: for restores to any second have WAL streamed: [source.NAME.receive]"
        ));
    }
    if !rule.recovery_point_tags.is_empty() {
        let tags: Vec<&str> = rule.recovery_point_tags.keys().map(String::as_str).collect();
        left.push(format!("rule {said}: points have no tags here ({})", tags.join(", ")));
    }
    if !rule.index_actions.is_empty() {
        left.push(format!("rule {said}: points are not indexed (IndexActions)"));
    }
}

/// `select = …`; what cannot be said in one is told.
fn select(selections: &[BackupSelection], left: &mut Vec<String>) -> String {
    let (mut sources, mut tags) = (Vec::new(), Vec::new());
    for selection in selections {
        let said = &selection.selection_name;
        for resource in &selection.resources {
            match source_of(resource) {
                Some(name) => sources.push(quoted(&name)),
                None => left.push(format!("selection {said}: {resource} is nothing that is backed up here")),
            }
        }
        let equal =
            selection.conditions.string_equals.iter().map(|condition| (condition, "aws:ResourceTag/"));
        // One tag of the list is enough for AWS; here all must hold, which is the same for a list of one.
        let listed = selection.list_of_tags.iter().map(|condition| (condition, ""));
        let several = selection.list_of_tags.len() > 1;
        for (condition, prefix) in equal.chain(listed.filter(|_| !several)) {
            let key = condition.condition_key.strip_prefix(prefix).unwrap_or(&condition.condition_key);
            tags.push(format!("{} = {}", quoted(key), quoted(&condition.condition_value)));
        }
        if several {
            left.push(format!("selection {said}: any one of its ListOfTags is enough there, and here all must hold: make a plan of each, or give the sources a tag of their own"));
        }
        let others = [
            ("StringNotEquals", &selection.conditions.string_not_equals),
            ("StringLike", &selection.conditions.string_like),
            ("StringNotLike", &selection.conditions.string_not_like),
        ];
        for (what, conditions) in others {
            for Condition { condition_key, condition_value, .. } in conditions {
                left.push(format!(
                    "selection {said}: {what} {condition_key} = {condition_value} cannot be said here"
                ));
            }
        }
        let strange =
            |condition: &&Condition| !matches!(condition.condition_type.as_str(), "" | "STRINGEQUALS");
        for condition in selection.list_of_tags.iter().filter(strange) {
            left.push(format!("selection {said}: {} is taken for STRINGEQUALS", condition.condition_type));
        }
    }
    sources.sort();
    sources.dedup();
    let mut parts = Vec::new();
    if !sources.is_empty() {
        parts.push(format!("sources = [{}]", sources.join(", ")));
    }
    if !tags.is_empty() {
        parts.push(format!("tags = {{ {} }}", tags.join(", ")));
    }
    if parts.is_empty() {
        left.push(
            "nothing of the selection could be carried over: set select to the sources that are meant"
                .to_owned(),
        );
        parts.push("sources = [\"to-be-named\"]".to_owned());
    }
    format!("select = {{ {} }}\n", parts.join(", "))
}

/// A source's name, of a database's or cluster's ARN: `arn:aws:rds:eu-west-1:123456789012:db:orders`.
fn source_of(resource: &str) -> Option<String> {
    if resource == "*" {
        return Some(resource.to_owned());
    }
    let parts: Vec<&str> = resource.split(':').collect();
    let name = match parts[..] {
        ["arn", _, "rds", _, _, "db" | "cluster", name] => name.to_ascii_lowercase(),
        _ => return None,
    };
    let is_pattern = crate::plan::Pattern::try_from(name.clone()).is_ok() && name.contains(['*', '?']);
    (is_pattern || name.parse::<SourceName>().is_ok()).then_some(name)
}

fn exclude(plan: &PlanName, resource: &str, (toml, left): (&mut String, &mut Vec<String>)) {
    let Some(name) = source_of(resource) else {
        left.push(format!("{resource} was left out, and is nothing that is backed up here"));
        return;
    };
    let _ = write!(
        toml,
        "\n[[plan.{}.exclude]]\nsource = {}\nreason = \"left out in AWS Backup\"\nowner = \"nobody yet\"\nreview = 1970-01-01\n",
        table(plan),
        quoted(&name)
    );
    left.push(format!("{name} is left out: say why, who answers for it, and by when to look again"));
}

fn unknown(place: &str, others: &Others, left: &mut Vec<String>) {
    let unknown =
        others.iter().filter(|(member, value)| !SILENT.contains(&member.as_str()) && !value.is_null());
    left.extend(unknown.map(|(member, _)| format!("{place}: {member} is not known here")));
}
