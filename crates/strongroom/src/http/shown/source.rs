//! One source: its points, to which times they lead, what is held, how drills went, how it grows, what plans order for it.

use serde::Serialize;
use strongroom_model::drill::Trend;
use strongroom_model::point::Summary;
use strongroom_model::{PointId, SourceName, Timestamp};
use strongroom_ops::report::rto_rpo::Trial;

use super::Sight;
use super::alerts::{AlertLine, of_source};
use super::band::{Band, band};
use super::jobs::JobLine;
use super::line::{SourceLine, lines};
use super::listing::{Drilled, Held, Listed, ListedPoint, Stage};

/// Points that are shown, the newest; of more, their number is said.
const POINTS: usize = 200;

/// What was told, and when.
#[derive(Clone, Debug)]
pub enum Told<T> {
    /// It is being asked for: the next request may have it.
    Asking,
    /// At this time.
    Said(Timestamp, T),
    /// It was asked, and did not say, for this reason.
    Silent(String),
}

impl<T> Told<T> {
    /// What was said.
    pub fn said(&self) -> Option<&T> {
        match self {
            Told::Said(_, said) => Some(said),
            Told::Asking | Told::Silent(_) => None,
        }
    }

    /// How it came to be known.
    pub fn knowledge(&self) -> Knowledge {
        match self {
            Told::Asking => Knowledge::Asking,
            Told::Said(at, _) => Knowledge::Read { at: *at },
            Told::Silent(why) => Knowledge::NotRead { why: why.clone() },
        }
    }
}

/// How something is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "knowledge", rename_all = "kebab-case")]
pub enum Knowledge {
    /// The vault is being read: ask again in some seconds.
    Asking,
    /// It was read.
    Read {
        /// When.
        at: Timestamp,
    },
    /// It could not be read.
    NotRead {
        /// Why.
        why: String,
    },
}

/// A point in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PointLine {
    /// Its id.
    pub point: PointId,
    /// What state it is in, in a few words.
    pub state: String,
    /// Whether all it promises can be had.
    pub is_sound: bool,
    /// Whether it can be restored.
    pub is_restorable: bool,
    /// Whether it is held.
    pub held: bool,
    /// Bytes of the source; `None` unless it is whole.
    pub bytes: Option<u64>,
    /// Bytes it added to the vault.
    pub stored: Option<u64>,
    /// The earliest time it restores to.
    pub from: Option<Timestamp>,
    /// The last one that is known.
    pub to: Option<Timestamp>,
    /// The timeline it leads along.
    pub timeline: Option<u32>,
}

/// A hold that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HoldLine {
    /// What is held.
    pub point: PointId,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself; `None` if never.
    pub until: Option<Timestamp>,
}

/// The drills of a source together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrillsOfSource {
    /// How they are known.
    #[serde(flatten)]
    pub knowledge: Knowledge,
    /// Oldest first.
    pub drills: Vec<Trial>,
    /// How many passed.
    pub passed: usize,
    /// The middle one, seconds.
    pub median_seconds: Option<f64>,
    /// The slowest, seconds.
    pub worst_seconds: Option<f64>,
    /// Where recovery times go.
    pub trend: Option<Trend>,
    /// When the next one must have passed.
    pub due_at: Option<Timestamp>,
    /// What is promised now, seconds.
    pub objective_seconds: Option<f64>,
    /// Records that do not count, and why.
    pub discounted: Vec<(String, String)>,
}

/// What orders something for a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ordered {
    /// By which plan and rule.
    pub rule: String,
    /// What is done.
    pub work: String,
    /// When, as the plan has it.
    pub schedule: String,
    /// By whose clock.
    pub zone: String,
    /// The next time.
    pub next: Option<Timestamp>,
    /// Vaults that points are copied to.
    pub copies: Vec<String>,
}

/// A source in full.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceView {
    /// When this was made.
    pub at: Timestamp,
    /// When the vault last said what it holds of all sources.
    pub read_at: Option<Timestamp>,
    /// Why that may no longer hold; `None` if it does.
    pub stale: Option<String>,
    /// In a line.
    pub line: SourceLine,
    /// How its points are known.
    pub listed: Knowledge,
    /// To which times it can be restored; `None` if to none, or if that is not known.
    pub band: Option<Band>,
    /// The newest points, newest first, whatever their state.
    pub points: Vec<PointLine>,
    /// How many there are in all.
    pub points_in_all: usize,
    /// Holds in force.
    pub holds: Vec<HoldLine>,
    /// Drills.
    pub drills: DrillsOfSource,
    /// What plans order.
    pub ordered: Vec<Ordered>,
    /// Its newest jobs, newest first.
    pub jobs: Vec<JobLine>,
    /// Why jobs are not known; `None` if they are.
    pub jobs_unknown: Option<String>,
    /// Its alerts.
    pub alerts: Vec<AlertLine>,
}

/// What was told of a source.
pub struct ToldOfSource {
    /// By `list`.
    pub listed: Told<Listed>,
    /// By `report rto-rpo`.
    pub drilled: Told<Drilled>,
    /// By `hold list`.
    pub held: Told<Vec<Held>>,
    /// By the catalog: the newest jobs, or why there are none.
    pub jobs: Result<Vec<JobLine>, String>,
}

/// A source of the settings; `None` if there is none of this name.
pub fn source(sight: Sight<'_>, name: &SourceName, told: ToldOfSource) -> Option<SourceView> {
    let line = lines(sight).into_iter().find(|line| line.source == *name)?;
    let (jobs, jobs_unknown) = match told.jobs {
        Ok(jobs) => (jobs, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let band = match &told.listed {
        Told::Said(at, listed) => band(listed, *at),
        Told::Asking | Told::Silent(_) => None,
    };
    let mut points = told.listed.said().map(point_lines).unwrap_or_default();
    let points_in_all = points.len();
    points.truncate(POINTS);
    Some(SourceView {
        at: sight.now,
        read_at: sight.read_at(),
        stale: sight.staleness(),
        listed: told.listed.knowledge(),
        band,
        points,
        points_in_all,
        holds: told.held.said().map(|held| hold_lines(held, sight.now)).unwrap_or_default(),
        drills: drills(&told.drilled, line.rto.objective_seconds),
        ordered: ordered(sight, name),
        jobs,
        jobs_unknown,
        alerts: of_source(sight, name),
        line,
    })
}

/// Its points, newest first.
pub fn point_lines(listed: &Listed) -> Vec<PointLine> {
    listed.points.iter().rev().map(|row| point_line(row, listed)).collect()
}

fn point_line(row: &ListedPoint, listed: &Listed) -> PointLine {
    let unfinished = match &row.stage {
        Stage::Committed { summary } => return whole(row, summary, listed),
        Stage::Undecided => "unfinished".to_owned(),
        Stage::Abandoned => "abandoned".to_owned(),
        Stage::Revoked => "revoked".to_owned(),
        Stage::Unreadable { why } => format!("unreadable: {why}"),
    };
    PointLine {
        point: row.point.clone(),
        is_sound: !matches!(row.stage, Stage::Unreadable { .. }),
        state: unfinished,
        is_restorable: false,
        held: row.held,
        bytes: None,
        stored: None,
        from: None,
        to: None,
        timeline: None,
    }
}

fn whole(row: &ListedPoint, summary: &Summary, listed: &Listed) -> PointLine {
    let window = listed.windows.iter().find(|window| window.point == row.point);
    let is_dump = summary.journal.is_none();
    let gap = window.and_then(|window| window.gap.as_ref());
    let frozen = listed.frozen.get(&row.point);
    let (state, is_sound) = match (row.expired, window, gap) {
        (true, ..) => ("expired".to_owned(), true),
        (false, None, _) if !is_dump => ("lacks WAL".to_owned(), false),
        (false, _, Some(gap)) => (format!("gap at {gap}"), false),
        _ if summary.damaged_pages > 0 => ("source was damaged".to_owned(), false),
        _ => match (frozen, row.held) {
            (Some(class), _) => (format!("frozen in {class}: thaw it first"), true),
            (None, true) => ("held".to_owned(), true),
            (None, false) => ("ok".to_owned(), true),
        },
    };
    let to = match window {
        Some(window) => window.to.or(Some(window.from)),
        None => is_dump.then_some(summary.stopped_at),
    };
    PointLine {
        point: row.point.clone(),
        state,
        is_sound,
        is_restorable: !row.expired && (is_dump || window.is_some()),
        held: row.held,
        bytes: Some(summary.bytes),
        stored: Some(summary.stored),
        from: Some(summary.stopped_at),
        to,
        timeline: window.map(|window| window.timeline),
    }
}

fn hold_lines(held: &[Held], now: Timestamp) -> Vec<HoldLine> {
    let in_force = |until: Option<Timestamp>| until.is_none_or(|until| until > now);
    let holds = held.iter().flat_map(|held| &held.holds);
    let holds = holds.filter(|hold| hold.released.is_none() && in_force(hold.placed.until));
    holds
        .map(|hold| HoldLine {
            point: hold.point.clone(),
            reason: hold.placed.reason.clone(),
            owner: hold.placed.owner.clone(),
            since: hold.placed.at,
            until: hold.placed.until,
        })
        .collect()
}

fn drills(told: &Told<Drilled>, objective_seconds: Option<f64>) -> DrillsOfSource {
    let said = told.said().cloned().unwrap_or_default();
    DrillsOfSource {
        knowledge: told.knowledge(),
        drills: said.trials,
        passed: said.passed,
        median_seconds: said.median_seconds,
        worst_seconds: said.worst_seconds,
        trend: said.trend.map(|trend| trend.0),
        due_at: said.due_at,
        objective_seconds,
        discounted: said.discounted.into_iter().collect(),
    }
}

fn ordered(sight: Sight<'_>, name: &SourceName) -> Vec<Ordered> {
    let Some(source) = sight.settings.sources.get(name).map(|settings| settings.protected(name)) else {
        return Vec::new();
    };
    let covering = sight.settings.plans.iter().filter(|(_, plan)| plan.covers(&source));
    let tables = covering.flat_map(|(name, plan)| plan.timetables().map(move |table| (name, table)));
    tables
        .map(|(plan, table)| Ordered {
            rule: format!("{plan}/{}", table.rule),
            work: table.work.as_str().to_owned(),
            schedule: table.schedule.to_string(),
            zone: table.zone.to_string(),
            next: table.next_after(sight.now),
            copies: table.copies.to_vec(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
