//! Plans of AWS's own documents, and of those that are to be replaced.

use serde_json::json;

use super::*;

fn read(documents: &[Value]) -> Imported {
    import(&documents.iter().map(Value::to_string).collect::<Vec<_>>()).unwrap()
}

/// The plan of a known disaster-recovery document: twelve-hourly, daily and weekly.
#[test]
fn a_plan_with_three_rules_keeps_by_the_calendar() {
    let rule = |name: &str, schedule: &str, days: u32| {
        json!({
            "RuleName": name, "TargetBackupVaultName": "Default", "ScheduleExpression": schedule,
            "StartWindowMinutes": 60, "CompletionWindowMinutes": 180, "Lifecycle": { "DeleteAfterDays": days },
        })
    };
    let plan = json!({ "BackupPlan": { "BackupPlanName": "Prod_Backup.Plan", "Rules": [
        rule("12-hour-backup-rule", "cron(0 2,14 * * ? *)", 3),
        rule("daily-backup-rule", "cron(0 2 * * ? *)", 7),
        rule("weekly-backup-rule", "cron(0 3 ? * SUN *)", 30),
    ] } });
    let selection = json!({ "BackupSelection": {
        "SelectionName": "s", "IamRoleArn": "arn:aws:iam::1:role/r",
        "Resources": ["arn:aws:rds:ap-southeast-1:123456789012:db:Orders", "arn:aws:dynamodb:ap-southeast-1:1:table/audit"],
    } });
    let imported = read(&[plan, selection]);
    let (name, toml) = &imported.plans[0];
    assert_eq!(name.as_str(), "prod_backup-plan");
    assert_eq!(
        toml,
        r#"[plan.prod_backup-plan]
select = { sources = ["orders"] }

[[plan.prod_backup-plan.rule]]
name = "12-hour-backup-rule"
schedule = "cron(0 2,14 * * ? *)"
start_window = "1h"
completion_window = "3h"
retention = { keep_days = 3 }

[[plan.prod_backup-plan.rule]]
name = "daily-backup-rule"
schedule = "cron(0 2 * * ? *)"
start_window = "1h"
completion_window = "3h"
retention = { daily = 7 }

[[plan.prod_backup-plan.rule]]
name = "weekly-backup-rule"
schedule = "cron(0 3 ? * SUN *)"
start_window = "1h"
completion_window = "3h"
retention = { weekly = 5 }
"#
    );
    assert_eq!(
        imported.left,
        ["selection s: arn:aws:dynamodb:ap-southeast-1:1:table/audit is nothing that is backed up here"]
    );
}

#[test]
fn what_has_no_place_here_is_told() {
    let plan = json!({
        "BackupPlanName": "", "AdvancedBackupSettings": [{ "ResourceType": "EC2" }],
        "Rules": [
            {
                "RuleName": "all of it", "TargetBackupVaultName": "prod \"1\"", "ScheduleExpression": "cron(0 5 ? * * *)",
                "ScheduleExpressionTimezone": "Asia/Singapore", "EnableContinuousBackup": true,
                "Lifecycle": { "MoveToColdStorageAfterDays": 30, "DeleteAfterDays": 120 },
                "CopyActions": [{
                    "DestinationBackupVaultArn": "arn:aws:backup:eu-west-1:1:backup-vault:dr",
                    "Lifecycle": { "DeleteAfterDays": 365 },
                }],
                "RecoveryPointTags": { "env": "prod" }, "IndexActions": [{}], "ScanActions": [{}],
            },
            { "RuleName": "by hand", "RuleId": "4711" },
            { "RuleName": "for ever", "ScheduleExpression": "rate(1 day)", "ScheduleExpressionTimezone": "Mars/Olympus" },
        ],
    });
    let selection = json!({
        "SelectionName": "s", "NotResources": ["arn:aws:rds:*:*:db:scratch-*", "arn:aws:s3:::b"],
        "Conditions": {
            "StringEquals": [{ "ConditionKey": "aws:ResourceTag/env", "ConditionValue": "prod" }],
            "StringNotLike": [{ "ConditionKey": "aws:ResourceTag/x", "ConditionValue": "y*" }],
        },
    });
    let imported = read(&[plan, selection]);
    let (name, toml) = &imported.plans[0];
    assert_eq!(name.as_str(), "imported");
    for line in [
        "select = { tags = { \"env\" = \"prod\" } }",
        "[[plan.imported.exclude]]\nsource = \"scratch-*\"",
        "name = \"all-of-it\"\nschedule = \"cron(0 5 ? * * *)\"\ntimezone = \"Asia/Singapore\"\n",
        "retention = { daily = 120, pitr_days = 35 }\ncold_after_days = 30\ncopies = [\"dr\"]\n",
        "name = \"for-ever\"\nschedule = \"rate(1 day)\"\nretention = { keep_days = 366000 }\n",
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
    assert!(!toml.contains("by-hand") && !toml.contains("Mars"));
    for told in [
        "kept points in prod \"1\"",
        "[vault.lifecycle] packs = [{ days = 30",
        "copies go to dr",
        "copies in dr are kept for 365 days",
        "have WAL streamed",
        "points have no tags here (env)",
        "IndexActions",
        "rule by hand: it has no schedule",
        "Mars/Olympus is not known here",
        "StringNotLike aws:ResourceTag/x = y*",
        "scratch-* is left out: say why",
        "arn:aws:s3:::b was left out",
        "AdvancedBackupSettings",
        "rule all of it: ScanActions is not known here",
    ] {
        assert!(imported.left.iter().any(|left| left.contains(told)), "{told}: {:#?}", imported.left);
    }
}

#[test]
fn schedules_of_others_become_plans_chosen_by_tag() {
    let imported = read(&[json!({
        "ec2_snapshots": "cron(0 2 * * ? *)", "rds_backups": "cron(0 3 * * ? *)", "s3_sync": "cron(0 1 * * ? *)",
    })]);
    assert_eq!(imported.plans.len(), 3);
    let (name, toml) = &imported.plans[1];
    assert_eq!(name.as_str(), "rds_backups");
    assert_eq!(
        toml,
        "[plan.rds_backups]\nselect = { tags = { schedule = \"rds_backups\" } }\n\n[[plan.rds_backups.rule]]\nname = \"rds_backups\"\nschedule = \"cron(0 3 * * ? *)\"\n"
    );
    assert_eq!(imported.left.len(), 6);
}

#[test]
fn what_is_no_plan_is_refused() {
    for (text, says) in [
        ("", "it is no JSON"),
        ("[]", "neither an AWS Backup plan"),
        ("{}", "neither an AWS Backup plan"),
        ("{\"a\": 1}", "neither an AWS Backup plan"),
        (
            "{\"a\": \"cron(0 25 * * ? *)\"}",
            "the schedule of a does not read: schedule 'cron(0 25 * * ? *)': the hour is '25'",
        ),
        ("{\"SelectionName\": \"s\"}", "there is a selection, and no plan"),
        ("{\"Rules\": 1}", "the AWS Backup plan does not read: invalid type"),
        (
            "{\"Rules\": [{\"RuleName\": \"r\", \"ScheduleExpression\": \"daily\"}]}",
            "of rule r does not read: 'daily' has 1 fields",
        ),
    ] {
        let error = import(&[text.to_owned()]).unwrap_err();
        let why = std::error::Error::source(&error).map_or_else(String::new, |why| format!(": {why}"));
        let error = format!("{error}{why}");
        assert!(error.contains(says), "{text}: {error}");
    }
}
