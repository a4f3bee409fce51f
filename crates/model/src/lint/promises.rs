//! P2: what is promised (RPO and RTO), against what the rules and the measures come to.
//!
//! ```text
//! RPO   WAL streamed:  how long what is new waits
//!       else:          longest time between two backups + how long one takes (+ as long again, until a copy is elsewhere)
//! RTO   restore of the newest point, by the restores that were measured
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::cadence::{Cadence, cadence};
use super::coverage::{Group, names};
use super::{Finding, Situation};
use crate::source::{Protected, Shipping};
use crate::span::Span;
use crate::tier::{StorageClass, ThawSpeed};
use crate::time::human_duration;

/// What is wrong with promises.
pub fn findings(situation: &Situation<'_>, groups: &[Group<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    for group in groups {
        let rhythm = Rhythm::of(group);
        let mut unmeasured = Vec::new();
        for source in &group.sources {
            let objectives = group.objectives(source);
            if let (Some(rpo), Some(rhythm)) = (objectives.rpo, &rhythm) {
                found.extend(rhythm.of_source(situation, source).finding(source, rpo));
            }
            let Some(rto) = objectives.rto else { continue };
            match situation.measured(source).restore {
                Some(takes) if takes > rto.0 => found.push(too_slow(source, takes, rto)),
                Some(_) => {}
                None => unmeasured.push(*source),
            }
        }
        found.extend(never_measured(&unmeasured));
        found.extend(never_drilled(group));
        found.extend(frozen(situation, group));
    }
    found
}

/// How often a group is backed up, and how late a run may begin.
struct Rhythm {
    cadence: Option<Cadence>,
    start_window: Span,
    is_copied: bool,
}

/// What may be lost of a source.
struct Loss {
    parts: Vec<(&'static str, Duration)>,
    start_window: Option<Span>,
    is_streamed: bool,
    is_measured: bool,
}

impl Rhythm {
    /// `None` for sources that no plan covers.
    fn of(group: &Group<'_>) -> Option<Rhythm> {
        let is_copied = group
            .plans
            .iter()
            .any(|(_, plan)| plan.disaster_recovery && plan.rules.iter().any(|rule| !rule.copies.is_empty()));
        let start_window = group.backups.iter().map(|(_, table)| table.start_window).max()?;
        Some(Rhythm { cadence: cadence(&group.dues), start_window, is_copied })
    }

    fn of_source(&self, situation: &Situation<'_>, source: &Protected) -> Loss {
        if let Shipping::Streamed(waits) = source.shipping {
            let parts = vec![("what is new in WAL waits for more", waits.0)];
            return Loss { parts, start_window: None, is_streamed: true, is_measured: true };
        }
        let takes = situation.measured(source).backup;
        let mut parts = Vec::new();
        if let Some(cadence) = self.cadence {
            parts.push(("between two backups", cadence.longest));
            parts.extend(takes.map(|takes| ("a backup takes", takes)));
            parts.extend(
                takes.filter(|_| self.is_copied).map(|takes| ("its copy, taken to be as long", takes)),
            );
        }
        let start_window = self.cadence.map(|_| self.start_window);
        Loss { parts, start_window, is_streamed: false, is_measured: takes.is_some() }
    }
}

impl Loss {
    fn finding(&self, source: &Protected, rpo: Span) -> Option<Finding> {
        let sum: Duration = self.parts.iter().map(|(_, part)| *part).sum();
        let name = &source.name;
        let finding = if self.parts.is_empty() {
            let what =
                format!("source {name} has an RPO of {rpo}, and no rule backs it up twice within two years");
            Finding::refuse("P201", what, "write a schedule that comes again")
        } else if sum > rpo.0 {
            let parts: Vec<String> =
                self.parts.iter().map(|(what, part)| format!("{what}: {}", human_duration(*part))).collect();
            let what = format!(
                "source {name} may lose {}, and its RPO is {rpo} ({})",
                human_duration(sum),
                parts.join(", ")
            );
            Finding::refuse("P201", what, self.way_out(source, rpo))
        } else if !self.is_measured {
            let what = format!(
                "source {name} has an RPO of {rpo}, and how long its backups take was never measured"
            );
            Finding::warn("P203", what, format!("take one (strongroom backup {name}), and lint again"))
        } else if let Some(late) = self.start_window.filter(|late| sum + late.0 > rpo.0) {
            let what = format!(
                "source {name} keeps its RPO of {rpo} only while runs begin in time: they may begin up to {late} late"
            );
            let left = rpo.0.saturating_sub(sum).as_secs() / 60 * 60;
            Finding::warn(
                "P202",
                what,
                format!("set start_window to {} or less", Span::from_secs(left.max(60))),
            )
        } else {
            return None;
        };
        Some(finding.of_sources([name]))
    }

    fn way_out(&self, source: &Protected, rpo: Span) -> String {
        let name = &source.name;
        if self.is_streamed {
            return format!("lower interval in [source.{name}.receive]");
        }
        let others: Duration = self.parts.iter().skip(1).map(|(_, part)| *part).sum();
        let often = match rpo.0.checked_sub(others).map(|left| left.as_secs() / 60 * 60) {
            Some(left @ 60..) => format!("back it up every {} or more often", Span::from_secs(left)),
            _ => "no schedule reaches that".to_owned(),
        };
        match source.kind.has_journal() {
            true => format!("{often}, or have its WAL streamed: [source.{name}.receive]"),
            false => format!("{often}, or back up the server's files and WAL instead of dumps"),
        }
    }
}

fn too_slow(source: &Protected, takes: Duration, rto: Span) -> Finding {
    let what = format!(
        "a restore of source {} takes {} by what was measured, and its RTO is {rto}",
        source.name,
        human_duration(takes)
    );
    let instead =
        "restore on a faster host or network, back up more often (less WAL to replay), or raise the RTO";
    Finding::refuse("P204", what, instead).of_sources([&source.name])
}

fn never_measured(sources: &[&Protected]) -> Option<Finding> {
    let first = sources.first()?;
    let what = match sources.len() {
        1 => format!("source {} has an RTO, and no restore of it was measured", first.name),
        count => format!("{count} sources have an RTO, and no restore of them was measured"),
    };
    let instead = format!("try one: strongroom drill {}", first.name);
    Some(Finding::warn("P205", what, instead).of_sources(names(sources)))
}

/// What is promised and never tried is a hope.
fn never_drilled(group: &Group<'_>) -> Option<Finding> {
    if group.plans.iter().any(|(_, plan)| plan.drill.is_some()) {
        return None;
    }
    let (name, _) = group.plans.first()?;
    let is_promised = |source: &&&Protected| {
        let objectives = group.objectives(source);
        objectives.rpo.is_some() || objectives.rto.is_some()
    };
    let sources: Vec<&Protected> = group.sources.iter().filter(is_promised).copied().collect();
    let first = sources.first()?;
    let what = match sources.len() {
        1 => format!("source {} has objectives, and no plan tries a restore of it", first.name),
        count => format!("{count} sources have objectives, and no plan tries a restore of them"),
    };
    let instead = format!("add [plan.{name}.drill] with schedule = \"0 4 1 * *\"");
    Some(Finding::warn("P206", what, instead).of_plan(name).of_sources(names(&sources)))
}

/// Older points must be thawed before a restore can begin.
fn frozen(situation: &Situation<'_>, group: &Group<'_>) -> Vec<Finding> {
    let lifecycle = situation.vaults.first().map(|vault| &vault.lifecycle);
    let step = lifecycle.and_then(|lifecycle| lifecycle.packs.iter().find(|step| step.class.is_frozen()));
    let Some((step, hours)) = step.and_then(|step| Some((step, thaw_hours(step.class)?))) else {
        return Vec::new();
    };
    // By the promise that is broken: so many sources may have the same.
    let mut broken: BTreeMap<Span, Vec<&Protected>> = BTreeMap::new();
    for source in &group.sources {
        let rto = group.objectives(source).rto;
        if let Some(rto) = rto.filter(|rto| rto.0 < Duration::from_secs_f64(hours * 3600.0)) {
            broken.entry(rto).or_default().push(source);
        }
    }
    let finding = |(rto, sources): (&Span, &Vec<&Protected>)| {
        let what = format!(
            "points older than {} days lie in {}, which takes up to {hours:.0} h to thaw: the RTO of {rto} holds for newer ones only",
            step.days, step.class
        );
        let instead = "use GLACIER_IR, which is read at once, or say the RTO of newer points";
        Finding::warn("P207", what, instead).of_sources(names(sources))
    };
    broken.iter().map(finding).collect()
}

fn thaw_hours(class: StorageClass) -> Option<f64> {
    class.thaw(ThawSpeed::Standard).map(|cost| cost.hours)
}
