//! What retention lets go: a value that is printed, and then carried out as printed.
//!
//! ```text
//! points of a lineage ──▶ each rule names what it keeps ──▶ what no rule names may go
//!                                                       ──▶ floors: below which segment WAL may go
//! ```
//!
//! **Never let go**: a point being written, a held one, one whose record does not read, one whose time lies ahead of this
//! clock; the newest points that can be restored, as many as the minimum redundancy says; every point inside the
//! promised window, and the newest usable one before it, from which the window's beginning is reached.
//!
//! **Lineages** are planned one by one, in the order they were registered: a point of an older cluster never counts as
//! newer than one of its successor, whatever its clock said. As long as the newest lineage alone does not keep what is
//! promised (minimum redundancy, window), the older ones are planned as if they were the newest. Then the calendar's rules
//! and `keep_days` alone keep their points.
//!
//! **Dumps** have no journal: those of a source are planned by themselves, whatever else it has. No window is promised from
//! them (`pitr_days` keeps none), and all that are committed are usable.
//!
//! Points depend on nothing but their own rule: a point that takes pages over from one that goes keeps them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::journal::Journal;
use crate::name::PointId;
use crate::point::{JournalRange, PointState, Summary};
use crate::position::SystemId;
use crate::retention::{Retention, RetentionError};
use crate::segment::WalSegment;
use crate::time::Timestamp;

/// A point as retention sees it.
#[derive(Clone, Debug)]
pub struct Shelved<'a> {
    /// Which.
    pub point: &'a PointId,
    /// Where it stands.
    pub state: &'a PointState,
    /// Whether retention let it go before.
    pub expired: bool,
    /// Why it is held, if it is.
    pub held: Option<String>,
}

/// What becomes of a point, and by which rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpiryLine {
    /// The point.
    pub point: PointId,
    /// When it became consistent.
    pub at: Option<Timestamp>,
    /// Whether it may go.
    pub expires: bool,
    /// Every rule that keeps it; or why none does.
    pub why: Vec<String>,
}

/// Below which segment a timeline's WAL may go, but for what kept points need to become consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FloorLine {
    /// Whose journal.
    pub lineage: SystemId,
    /// The first segment that stays; on its timeline, those before it may go.
    pub segment: WalSegment,
    /// How many are there below it now.
    pub below: u64,
}

/// What retention lets go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpiryPlan {
    /// As of when.
    pub now: Timestamp,
    /// Every point that has not expired yet, oldest first.
    pub lines: Vec<ExpiryLine>,
    /// One per timeline that has WAL to let go.
    pub floors: Vec<FloorLine>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl ExpiryPlan {
    /// Points that go.
    pub fn expiring(&self) -> impl Iterator<Item = &ExpiryLine> {
        self.lines.iter().filter(|line| line.expires)
    }
}

/// Why points of a lineage stay, by point.
type Reasons = BTreeMap<PointId, Vec<String>>;

/// The committed points of one lineage, or the dumps, oldest first.
struct Shelf<'a> {
    /// `None`: these are dumps.
    journal: Option<&'a Journal>,
    points: Vec<&'a Summary>,
    /// Those that rules may count: the WAL they need is all there, and their time is not ahead of this clock.
    usable: Vec<&'a Summary>,
}

/// Plans what may go of a source: `points` in any order, `journals` in the order their lineages were registered.
pub fn plan_expiry(
    points: &[Shelved<'_>],
    journals: &[Journal],
    retention: &Retention,
    now: Timestamp,
) -> Result<ExpiryPlan, RetentionError> {
    retention.check()?;
    let zone = retention.zone()?;
    let shelves: Vec<Shelf<'_>> = journals.iter().map(|journal| shelf(points, Some(journal), now)).collect();
    let dumps = shelf(points, None, now);
    let mut reasons = Reasons::new();
    keep_the_untouchable(points, journals, now, &mut reasons);
    let mut promised = false;
    for shelf in shelves.iter().rev() {
        let rules = Rules { retention, zone: &zone, now, shelf };
        rules.calendar(&mut reasons);
        if !promised {
            rules.promise(&mut reasons);
        }
        promised |= rules.keeps_the_promise_alone();
    }
    let rules = Rules { retention, zone: &zone, now, shelf: &dumps };
    rules.calendar(&mut reasons);
    rules.promise(&mut reasons);
    let mut lines: Vec<ExpiryLine> = points.iter().filter_map(|point| line(point, &reasons)).collect();
    lines.sort_by(|left, right| left.point.cmp(&right.point));
    let mut plan = ExpiryPlan { now, lines, floors: Vec::new(), notes: Vec::new() };
    if retention.pitr_days > 0 && !dumps.points.is_empty() {
        plan.notes.push("pitr_days keeps no dump: a dump has no WAL to restore further with".to_owned());
    }
    floors(&mut plan, points, &shelves, (retention, now));
    Ok(plan)
}

fn shelf<'a>(points: &[Shelved<'a>], journal: Option<&'a Journal>, now: Timestamp) -> Shelf<'a> {
    let mut of_lineage: Vec<&Summary> = points.iter().filter_map(alive).collect();
    let lineage = journal.map(|journal| journal.lineage);
    of_lineage.retain(|summary| summary.journal.map(|range| range.lineage) == lineage);
    of_lineage.sort_by_key(|summary| (summary.stopped_at, summary.point.clone()));
    let counts = |summary: &&Summary| summary.stopped_at <= now && is_usable(summary, journal);
    let usable = of_lineage.iter().copied().filter(counts).collect();
    Shelf { journal, points: of_lineage, usable }
}

fn alive<'a>(point: &Shelved<'a>) -> Option<&'a Summary> {
    match point.state {
        PointState::Committed { summary } if !point.expired => Some(summary),
        _ => None,
    }
}

/// Whether the WAL the point needs to become consistent is there. A dump needs none.
fn is_usable(summary: &Summary, journal: Option<&Journal>) -> bool {
    let (Some(range), Some(journal)) = (&summary.journal, journal) else { return true };
    let history = journal.history(range.timeline);
    history.is_some_and(|history| journal.reach(range.start, &history).end >= range.stop)
}

fn keep(reasons: &mut Reasons, point: &PointId, why: impl Into<String>) {
    reasons.entry(point.clone()).or_default().push(why.into());
}

/// What no rule may take.
fn keep_the_untouchable(points: &[Shelved<'_>], journals: &[Journal], now: Timestamp, reasons: &mut Reasons) {
    for point in points {
        if let Some(why) = &point.held {
            keep(reasons, point.point, format!("held: {why}"));
        }
        match point.state {
            PointState::Undecided { .. } => keep(reasons, point.point, "it is being written"),
            PointState::Unreadable { .. } => keep(reasons, point.point, "its record does not read"),
            PointState::Committed { summary } => {
                if summary.stopped_at > now {
                    keep(reasons, point.point, "its time lies ahead of this clock");
                }
                let is_known =
                    |range: JournalRange| journals.iter().any(|journal| journal.lineage == range.lineage);
                if !summary.journal.is_none_or(is_known) {
                    keep(reasons, point.point, "its lineage is not registered");
                }
            }
            PointState::Abandoned { .. } | PointState::Revoked { .. } => {}
        }
    }
}

/// The rules, applied to one lineage.
struct Rules<'a> {
    retention: &'a Retention,
    zone: &'a jiff::tz::TimeZone,
    now: Timestamp,
    shelf: &'a Shelf<'a>,
}

impl Rules<'_> {
    fn days_ago(&self, days: u32) -> Option<Timestamp> {
        self.now.earlier(std::time::Duration::from_secs(u64::from(days) * 24 * 3600))
    }

    /// Days, weeks, months, years: these hold for every lineage.
    fn calendar(&self, reasons: &mut Reasons) {
        let Retention { keep_days, daily, weekly, monthly, yearly, .. } = self.retention;
        if *keep_days > 0 {
            let since = self.days_ago(*keep_days);
            let young = |summary: &&&Summary| since.is_none_or(|since| summary.stopped_at >= since);
            for summary in self.shelf.points.iter().filter(young) {
                keep(reasons, &summary.point, format!("keep_days = {keep_days}"));
            }
        }
        self.newest_per("daily", *daily, reasons, |date| (date.year(), date.day_of_year()));
        self.newest_per("weekly", *weekly, reasons, |date| {
            let week = date.iso_week_date();
            (week.year(), i16::from(week.week()))
        });
        self.newest_per("monthly", *monthly, reasons, |date| (date.year(), i16::from(date.month())));
        self.newest_per("yearly", *yearly, reasons, |date| (date.year(), 0));
    }

    /// The newest usable point of each of the last `count` stretches of the calendar that have one.
    fn newest_per(
        &self,
        rule: &str,
        count: u32,
        reasons: &mut Reasons,
        stretch: impl Fn(jiff::civil::Date) -> (i16, i16),
    ) {
        let (mut kept, mut last) = (0, None);
        for summary in self.shelf.usable.iter().rev() {
            let date = summary.stopped_at.0.to_zoned(self.zone.clone()).date();
            let this = Some(stretch(date));
            if kept < count && last != this {
                kept += 1;
                keep(reasons, &summary.point, format!("{rule} = {count}: the last of its kind"));
            }
            last = this;
        }
    }

    /// The newest points, and the promised window: these hold until a newer lineage keeps the promise alone.
    fn promise(&self, reasons: &mut Reasons) {
        let Retention { keep_last, pitr_days, minimum_redundancy, .. } = self.retention;
        for summary in self.shelf.usable.iter().rev().take(*keep_last as usize) {
            keep(reasons, &summary.point, format!("keep_last = {keep_last}"));
        }
        let redundancy = (*minimum_redundancy).max(1);
        for (number, summary) in self.shelf.usable.iter().rev().take(redundancy as usize).enumerate() {
            let why = match number {
                0 => "the last good point".to_owned(),
                _ => format!("minimum_redundancy = {redundancy}"),
            };
            keep(reasons, &summary.point, why);
        }
        if *pitr_days > 0 && self.shelf.journal.is_some() {
            let begin = self.days_ago(*pitr_days);
            let inside = |summary: &&&Summary| begin.is_none_or(|begin| summary.stopped_at > begin);
            for summary in self.shelf.points.iter().filter(inside) {
                keep(reasons, &summary.point, format!("pitr_days = {pitr_days}: inside the window"));
            }
            if let Some(base) = self.window_base() {
                keep(reasons, &base.point, format!("pitr_days = {pitr_days}: the window begins from it"));
            }
        }
    }

    /// The newest usable point at or before the beginning of the promised window.
    fn window_base(&self) -> Option<&Summary> {
        let begin = self.days_ago(self.retention.pitr_days)?;
        self.shelf.usable.iter().rev().find(|summary| summary.stopped_at <= begin).copied()
    }

    fn keeps_the_promise_alone(&self) -> bool {
        let redundancy = self.retention.minimum_redundancy.max(self.retention.keep_last).max(1) as usize;
        let window = self.retention.pitr_days == 0 || self.window_base().is_some();
        self.shelf.usable.len() >= redundancy && window
    }
}

fn line(point: &Shelved<'_>, reasons: &Reasons) -> Option<ExpiryLine> {
    let at = match point.state {
        PointState::Committed { .. } if point.expired => return None,
        PointState::Committed { summary } => Some(summary.stopped_at),
        PointState::Undecided { .. } | PointState::Unreadable { .. } => None,
        PointState::Abandoned { .. } | PointState::Revoked { .. } => return None,
    };
    let why = reasons.get(point.point).cloned();
    let expires = why.is_none();
    let why = why.unwrap_or_else(|| vec!["no rule keeps it".into()]);
    Some(ExpiryLine { point: point.point.clone(), at, expires, why })
}

/// WAL below the oldest kept point's start, or below the start of the point from which the promised window begins.
fn floors(
    plan: &mut ExpiryPlan,
    points: &[Shelved<'_>],
    shelves: &[Shelf<'_>],
    (retention, now): (&Retention, Timestamp),
) {
    let open = |point: &&Shelved<'_>| {
        matches!(point.state, PointState::Undecided { .. } | PointState::Unreadable { .. })
    };
    if let Some(point) = points.iter().find(open).filter(|_| !shelves.is_empty()) {
        let why = format!("no WAL is let go while it is not known what {} needs", point.point);
        plan.notes.push(why);
        return;
    }
    let kept: Vec<&PointId> =
        plan.lines.iter().filter(|line| !line.expires).map(|line| &line.point).collect();
    let is_kept = |summary: &&&Summary| kept.binary_search(&&summary.point).is_ok();
    let mut lines = Vec::new();
    for shelf in shelves {
        let Some(journal) = shelf.journal else { continue };
        let size = journal.segment_size;
        // Every point of a shelf with a journal has a stretch of it.
        let number = |summary: &Summary| summary.journal?.segments().0.number(size);
        let oldest =
            shelf.points.iter().filter(is_kept).map(|summary| number(summary).unwrap_or_default()).min();
        let zone = jiff::tz::TimeZone::UTC;
        let rules = Rules { retention, zone: &zone, now, shelf };
        let base = rules.window_base().filter(|_| retention.pitr_days > 0);
        let base = base.map(|summary| number(summary).unwrap_or_default());
        // Nothing is left of this lineage that its journal could serve.
        let floor = base.or(oldest).unwrap_or(u64::MAX);
        lines.extend(floors_of(journal, floor));
    }
    plan.floors = lines;
}

fn floors_of(journal: &Journal, floor: u64) -> Vec<FloorLine> {
    let mut lines = BTreeMap::new();
    for window in journal.windows() {
        let size = journal.segment_size;
        let number = |segment: WalSegment| segment.number(size).unwrap_or_default();
        let first = number(window.first_segment(size));
        // A segment that is still open stays: it is yet to become whole.
        let floor = floor.min(first + window.segments());
        let below = floor.saturating_sub(first);
        if below > 0 {
            let line = lines.entry(window.timeline).or_insert((0, 0));
            *line = (floor, line.1 + below);
        }
    }
    let line = |(timeline, (floor, below))| FloorLine {
        lineage: journal.lineage,
        segment: WalSegment::numbered(timeline, floor, journal.segment_size),
        below,
    };
    lines.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests;
