//! `strongroom report compliance`: what is seen of each source, for [`strongroom_model::control`] to judge.
//!
//! Reads records, manifests, sizes and footers; no page. Writes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use strongroom_model::control::{Control, CopySeen, Cover, Finding, LockSeen, Seen, Taken, Verdict, judge};
use strongroom_model::expiry_plan::{Shelved, plan_expiry};
use strongroom_model::plan::{Plan, Timetable, Work};
use strongroom_model::point::PointState;
use strongroom_model::retention::Retention;
use strongroom_model::source::Protected;
use strongroom_model::{Cx, PlanName, PointId, SourceName, Timestamp};
use strongroom_store::Custody;
use strongroom_vault::Vault;
use strongroom_vault::catalog::PointRow;
use strongroom_vault::layout::{self, PointPart};
use strongroom_vault::verify::{Budget, Damage, Depth};

use super::architecture::suite;
use super::rto_rpo::{Promise, rto_rpo};
use crate::error::OpsError;
use crate::expire::BY_NAME;
use crate::journal;
use crate::verify::{VerifyRequest, verify};

/// Instants of a rule that are looked at: one each minute of a week.
const MOST_DUE: usize = 10_080;

/// Another vault of the settings: its name, and itself, or why it could not be opened.
pub type Other = (String, Result<Arc<Vault>, String>);

/// What all sources are judged by.
pub struct Bench<'a> {
    /// The plans.
    pub plans: &'a BTreeMap<PlanName, Plan>,
    /// What was promised.
    pub promises: &'a BTreeMap<SourceName, Promise>,
    /// How far back backups are counted.
    pub period: Duration,
    /// What the store does by itself to keep objects; `None` of a folder, or why it was not asked.
    pub custody: Result<Option<Arc<dyn Custody>>, String>,
    /// Days for which the settings lock objects.
    pub lock_days: Option<u32>,
    /// Further vaults.
    pub others: Vec<Other>,
}

/// A source's findings.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The source.
    pub source: SourceName,
    /// One per control that was asked.
    pub findings: Vec<Finding>,
}

impl Judged {
    /// How a control came out, if it was asked.
    pub fn verdict(&self, control: Control) -> Option<Verdict> {
        self.findings.iter().find(|finding| finding.control == control).map(|finding| finding.verdict)
    }
}

/// Judges one source, configured or only in the vault.
pub async fn judged(
    cx: &Cx,
    vault: &Arc<Vault>,
    bench: &Bench<'_>,
    (source, configured, retention): (&SourceName, Option<&Protected>, Option<Retention>),
) -> Result<Judged, OpsError> {
    let now = cx.now();
    let is_known = vault.sources().await?.contains(source);
    let rows = if is_known { vault.points(source).await? } else { Vec::new() };
    let mut taken: Vec<Taken> = rows.iter().filter_map(committed).collect();
    taken.sort_by_key(|taken| taken.begun);
    let restorable = rows.iter().filter(|row| row.restorable().is_some());
    let newest = restorable.clone().filter_map(committed).max_by_key(|taken| taken.begun);
    let (due, patience) = due(bench.plans, configured, now.earlier(bench.period).unwrap_or(now), now);
    let line = rto_rpo_of(cx, vault, bench.promises, (source, is_known)).await?;
    let promise = bench.promises.get(source);
    let seconds = |span: Option<Duration>| span.map(|span| span.as_secs_f64());
    let seen = Seen {
        source: source.clone(),
        now,
        cover: cover(bench.plans, configured),
        due,
        patience,
        lost_early: match &retention {
            Some(retention) => lost_early(vault, source, (&rows, retention, now)).await?,
            None => expired(&rows),
        },
        retention,
        restorable: restorable.count(),
        suite: Some(suite(vault)).filter(|_| vault.signs()),
        lock: lock(bench, source, newest.as_ref()).await,
        copies: copies(bench, source, &rows).await,
        drilled_at: line.as_ref().and_then(|line| line.drills.last_passed_at),
        drilled_within: promise.map_or(DRILLED_WITHIN, |promise| promise.drilled_within),
        drills: line.as_ref().map_or_else(Vec::new, |line| {
            line.evidence.iter().filter_map(|id| evidence_key(id, source)).collect()
        }),
        damage: if is_known { damage(cx, vault, source).await? } else { Vec::new() },
        by_name: by_name(vault, source, &rows).await?,
        rpo: (
            seconds(promise.and_then(|promise| promise.rpo)),
            line.as_ref().and_then(|line| line.rpo_now_s),
        ),
        rto: (
            seconds(promise.and_then(|promise| promise.rto)),
            line.as_ref().and_then(|line| line.drills.last_seconds),
        ),
        taken,
        newest,
    };
    Ok(Judged { source: source.clone(), findings: judge(&seen) })
}

/// Of a source that no settings name.
const DRILLED_WITHIN: Duration = Duration::from_secs(31 * 86_400);

fn committed(row: &PointRow) -> Option<Taken> {
    let is_committed = matches!(row.state, PointState::Committed { .. });
    is_committed.then_some(())?;
    Some(Taken { point: row.point.clone(), begun: row.point.begun()? })
}

/// Every time that a backup of it was due, and how late it may have begun.
fn due(
    plans: &BTreeMap<PlanName, Plan>,
    source: Option<&Protected>,
    since: Timestamp,
    now: Timestamp,
) -> (Vec<Timestamp>, Duration) {
    let covering = plans.values().filter(|plan| source.is_some_and(|source| plan.covers(source)));
    let backups: Vec<Timetable<'_>> =
        covering.flat_map(Plan::timetables).filter(|table| table.work == Work::Backup).collect();
    let of_table = |table: &Timetable<'_>| {
        table.schedule.times((since, now), table.zone).take(MOST_DUE).collect::<Vec<_>>()
    };
    let mut due: Vec<Timestamp> = backups.iter().flat_map(of_table).collect();
    due.sort_unstable();
    due.dedup();
    (due, backups.iter().map(|table| table.start_window.0).max().unwrap_or_default())
}

fn cover(plans: &BTreeMap<PlanName, Plan>, source: Option<&Protected>) -> Cover {
    let Some(source) = source else { return Cover::None };
    let covering = plans.iter().filter(|(_, plan)| plan.covers(source));
    let names: Vec<String> = covering.map(|(name, _)| name.to_string()).collect();
    if !names.is_empty() {
        return Cover::Plans(names);
    }
    let holding = plans.iter().filter(|(_, plan)| plan.select.holds(source));
    let left_out = holding.filter_map(|(name, plan)| Some((name, plan.exclusion(source)?)));
    left_out.min_by_key(|(_, exclusion)| exclusion.review).map_or(Cover::None, |(name, exclusion)| {
        Cover::LeftOut {
            plan: name.to_string(),
            reason: format!("{} ({})", exclusion.reason, exclusion.owner),
            review: exclusion.review,
        }
    })
}

async fn rto_rpo_of(
    cx: &Cx,
    vault: &Vault,
    promises: &BTreeMap<SourceName, Promise>,
    (source, is_known): (&SourceName, bool),
) -> Result<Option<super::rto_rpo::RtoRpo>, OpsError> {
    match is_known || promises.contains_key(source) {
        true => Ok(rto_rpo(cx, vault, promises, Some(source)).await?.into_iter().next()),
        false => Ok(None),
    }
}

/// Points that were let go, of a source of which everything is kept.
fn expired(rows: &[PointRow]) -> Vec<PointId> {
    let gone = rows.iter().filter(|row| row.expired && committed(row).is_some());
    gone.map(|row| row.point.clone()).collect()
}

/// Points that were let go and that retention would keep, were they still there. What it keeps now it kept before: no rule keeps a
/// point later that it did not keep earlier.
async fn lost_early(
    vault: &Vault,
    source: &SourceName,
    (rows, retention, now): (&[PointRow], &Retention, Timestamp),
) -> Result<Vec<PointId>, OpsError> {
    let gone = expired(rows);
    if gone.is_empty() {
        return Ok(gone);
    }
    let shelved: Vec<Shelved<'_>> = rows
        .iter()
        .map(|row| Shelved { point: &row.point, state: &row.state, expired: false, held: None })
        .collect();
    let mut journals = Vec::new();
    for lineage in vault.lineages(source).await? {
        journals.push(journal::load(vault, source, &lineage).await?);
    }
    let plan = plan_expiry(&shelved, &journals, retention, now)?;
    let kept = plan.lines.into_iter().filter(|line| !line.expires && gone.contains(&line.point));
    Ok(kept.map(|line| line.point).collect())
}

async fn by_name(vault: &Vault, source: &SourceName, rows: &[PointRow]) -> Result<Vec<PointId>, OpsError> {
    let mut found = Vec::new();
    for point in expired(rows) {
        if vault.let_go(source, &point).await?.is_some_and(|word| word.why.starts_with(BY_NAME)) {
            found.push(point);
        }
    }
    Ok(found)
}

/// The lock of the newest point's decision, which is written last.
async fn lock(bench: &Bench<'_>, source: &SourceName, newest: Option<&Taken>) -> LockSeen {
    let (custody, point) = match (&bench.custody, newest) {
        (Err(why), _) => return LockSeen::Unasked(why.clone()),
        (Ok(None), _) => return in_folder(bench.lock_days),
        (Ok(Some(_)), None) => return LockSeen::Unasked("there is no recovery point".to_owned()),
        (Ok(Some(custody)), Some(newest)) => (custody, &newest.point),
    };
    let object = layout::point_part(source, point, PointPart::Decision);
    match custody.keeping(&object).await {
        Ok(keeping) => match keeping.lock {
            Some((_, until)) => LockSeen::Until(object.to_string(), Timestamp(until)),
            None => LockSeen::Open(object.to_string()),
        },
        Err(error) => LockSeen::Unasked(error.to_string()),
    }
}

/// A folder makes files immutable, and tells nobody until when.
fn in_folder(lock_days: Option<u32>) -> LockSeen {
    match lock_days {
        None => LockSeen::Impossible("the vault is in a folder, and [vault.lock] is not set".to_owned()),
        Some(days) => LockSeen::Unasked(format!(
            "the vault is in a folder, whose files are immutable for {days} days by the settings; the file system does not say until when, and root can lift it"
        )),
    }
}

async fn copies(bench: &Bench<'_>, source: &SourceName, rows: &[PointRow]) -> Vec<CopySeen> {
    let mut seen = Vec::new();
    for (name, other) in &bench.others {
        let found = match other {
            Ok(other) => other.points(source).await.map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        let here = |row: &PointRow| rows.iter().any(|known| known.point == row.point);
        seen.push(match found {
            Ok(found) => {
                let points = found.iter().filter(|row| row.restorable().is_some() && here(row));
                let points = points.map(|row| row.point.clone()).collect();
                CopySeen { vault: name.clone(), points, silent: None }
            }
            Err(why) => CopySeen { vault: name.clone(), points: Vec::new(), silent: Some(why) },
        });
    }
    seen
}

/// What `verify` finds without reading data.
async fn damage(cx: &Cx, vault: &Arc<Vault>, source: &SourceName) -> Result<Vec<String>, OpsError> {
    let request = VerifyRequest {
        source: Some(source.clone()),
        point: None,
        depth: Depth::Structure,
        workers: 1,
        budget: Budget::default(),
        hand: None,
    };
    let verdict = verify(cx, vault, &request).await?;
    let shown = |damage: &Damage| format!("{}: {}", damage.object, damage.why);
    let mut found: Vec<String> = verdict.points.iter().flat_map(|point| &point.damage).map(shown).collect();
    for journal in &verdict.journals {
        found.extend(journal.damage.iter().map(shown));
        found.extend(journal.inconsistent.iter().map(|point| format!("{point} lacks WAL that it needs")));
    }
    found.extend(verdict.records.iter().map(shown));
    Ok(found)
}

/// A drill's record begins with the time it was written at, which names its month.
fn evidence_key(id: &str, source: &SourceName) -> Option<String> {
    let month = format!("{}-{}", id.get(..4)?, id.get(4..6)?);
    Some(layout::drill(&month, id, source).to_string())
}
