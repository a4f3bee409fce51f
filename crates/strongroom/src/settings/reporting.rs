//! `[report.NAME]`: which reports go to whom, and when.

use std::collections::BTreeMap;

use serde::Deserialize;
use strongroom_model::RuleName;
use strongroom_model::schedule::Schedule;
use strongroom_model::word::UnknownWord;
use strongroom_model::words;
use strongroom_model::zone::Zone;

use super::watching::{AlertSettings, ChannelName};

/// `[report.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportSettings {
    /// Which.
    pub kind: ReportKind,
    /// When the agent makes and sends it.
    pub schedule: Schedule,
    /// Whose clock the schedule follows.
    #[serde(default)]
    pub timezone: Zone,
    /// What is attached to mail.
    #[serde(default)]
    pub format: ReportFormat,
    /// The channels that it goes to.
    pub to: Vec<ChannelName>,
}

/// Kinds of reports, as `strongroom report` spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ReportKind {
    /// Who can be recovered to when.
    Status,
    /// Who is in a plan.
    Coverage,
    /// What was promised and measured.
    RtoRpo,
    /// Which controls hold.
    Compliance,
    /// What it costs.
    Cost,
    /// What became of jobs.
    Jobs,
    /// What is protected by what.
    Architecture,
}

words!(
    ReportKind,
    "kind of report",
    Status = "status",
    Coverage = "coverage",
    RtoRpo = "rto-rpo",
    Compliance = "compliance",
    Cost = "cost",
    Jobs = "jobs",
    Architecture = "architecture"
);

impl TryFrom<String> for ReportKind {
    type Error = UnknownWord;

    fn try_from(word: String) -> Result<ReportKind, UnknownWord> {
        word.parse()
    }
}

/// What is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportFormat {
    /// Tables, as a terminal shows them.
    Text,
    /// The first table.
    Csv,
    /// A page.
    #[default]
    Html,
    /// The page, printed by Chromium.
    Pdf,
}

/// A report that would reach nobody.
#[derive(Debug, thiserror::Error)]
pub enum ReportMistake {
    /// It goes nowhere.
    #[error("[report.{0}] goes nowhere: say to = [\"NAME\"], with a channel of [alert.NAME]")]
    Nowhere(RuleName),
    /// It goes to a channel that is not there.
    #[error("[report.{report}] goes to {channel}, and there is no [alert.{channel}]")]
    NoChannel {
        /// The report.
        report: RuleName,
        /// The channel.
        channel: String,
    },
    /// It would wake somebody.
    #[error("[report.{report}] goes to {channel}, which is pagerduty: it takes alerts, and no reports")]
    OnCall {
        /// The report.
        report: RuleName,
        /// The channel.
        channel: String,
    },
}

/// Refuses a report that would reach nobody.
pub fn check(
    reports: &BTreeMap<RuleName, ReportSettings>,
    channels: &BTreeMap<ChannelName, AlertSettings>,
) -> Result<(), ReportMistake> {
    for (name, settings) in reports {
        if settings.to.is_empty() {
            return Err(ReportMistake::Nowhere(name.clone()));
        }
        for to in &settings.to {
            let (report, channel) = (name.clone(), to.as_str().to_owned());
            match channels.get(to) {
                None => return Err(ReportMistake::NoChannel { report, channel }),
                Some(AlertSettings::Pagerduty(_)) => return Err(ReportMistake::OnCall { report, channel }),
                Some(_) => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const CHANNELS: &str = "[alert.script]\nkind = \"exec\"\ncommand = \"cat\"\n[alert.duty]\nkind = \"pagerduty\"\nrouting_key = \"env:PD\"\n";

    fn read(report: &str) -> Result<Settings, String> {
        let text = format!("{CHANNELS}[report.weekly]\n{report}\n");
        Settings::read(&text, "f").map_err(|error| error.to_string())
    }

    #[test]
    fn reports_of_every_kind_read_and_those_that_reach_nobody_are_refused() {
        for kind in ReportKind::ALL {
            let read =
                read(&format!("kind = \"{kind}\"\nschedule = \"0 7 * * 1\"\nto = [\"script\"]")).unwrap();
            let report = read.reports.values().next().unwrap();
            assert_eq!((report.kind, report.format), (*kind, ReportFormat::Html));
        }
        for (report, says) in [
            ("kind = \"status\"\nschedule = \"@weekly\"\nto = []", "[report.weekly] goes nowhere"),
            ("kind = \"status\"\nschedule = \"@weekly\"\nto = [\"mail\"]", "there is no [alert.mail]"),
            ("kind = \"status\"\nschedule = \"@weekly\"\nto = [\"duty\"]", "takes alerts, and no reports"),
            (
                "kind = \"weather\"\nschedule = \"@weekly\"\nto = [\"script\"]",
                "'weather' is no kind of report",
            ),
            ("kind = \"status\"\nschedule = \"at times\"\nto = [\"script\"]", "a schedule is five"),
            ("kind = \"status\"\nto = [\"script\"]", "missing field `schedule`"),
        ] {
            let error = read(report).unwrap_err();
            assert!(error.contains(says), "{report}: {error}");
        }
    }
}
