//! A drill that restores a cluster's files, and recovers them.
//!
//! ```text
//! facts, room ▶ server's folder and guard ▶ write ▶ sync ▶ settings ▶ replay ▶ connect ─ the data can be used ─▶ checks
//! ▶ stopped ▶ page checksums ▶ gone, or left running
//! ```

use std::sync::Arc;

use strongroom_model::drill::Answer;
use strongroom_model::entry::EntryPath;
use strongroom_model::restore_plan::RestorePlan;
use strongroom_model::target::RecoveryTarget;
use strongroom_model::{ByteSize, Cx, Timestamp};
use strongroom_postgres::course::Course;
use strongroom_postgres::drill::checks;
use strongroom_postgres::drill::files::{FilesServer, leads_out};
use strongroom_postgres::drill::libraries::Libraries;
use strongroom_postgres::drill::place::DrillPlace;
use strongroom_postgres::facts::PostgresFacts;
use strongroom_postgres::launch::{LaunchError, Launched, launch};
use strongroom_postgres::recovery::{Archiving, RecoveringFolder, Role, settings};
use strongroom_postgres::selection::Selection;
use strongroom_vault::Vault;
use strongroom_vault::point::Point;

use crate::drill_course::{DrillRequest, UnderWay, expect_room};
use crate::error::OpsError;
use crate::measure::{self, Took, replayed};
use crate::restore::{
    RestoreOptions, Restored, facts_of, major_of, make_durable, off_the_runtime, open_point, write_point,
};

/// WAL that a server keeps while it replays, at most (`max_wal_size`).
const WAL_KEPT: u64 = 1 << 30;

/// Databases that no assertion names are not asked; this one is, where none is said.
const DATABASE: &str = "postgres";

/// One drill's work.
struct Files<'a> {
    cx: &'a Cx,
    vaults: &'a [Arc<Vault>],
    request: &'a DrillRequest,
    plan: &'a RestorePlan,
    place: &'a DrillPlace,
    facts: PostgresFacts,
    links: Vec<EntryPath>,
}

/// Restores, recovers and checks the plan's point in `place`. When this returns, no server runs there any more, unless it was to
/// be kept and got so far.
pub(crate) async fn drill_files(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    (request, place): (&DrillRequest, &DrillPlace),
    plan: &RestorePlan,
    under_way: &mut UnderWay,
) -> Result<(), OpsError> {
    let point = open_point(vaults, &plan.point).await?;
    let facts = facts_of(&point)?;
    let major = major_of(&plan.point.point, &facts)?;
    let links = links_of(&point)?;
    expect_room(
        place.folder(),
        plan.point.bytes.saturating_add(plan.replays().saturating_mul(2).min(WAL_KEPT)),
    )?;
    let mut server = FilesServer::new(place, major, &request.superuser)?;
    let files = Files { cx, vaults, request, plan, place, facts, links };
    let done = files.work(&mut server, under_way).await;
    match done.is_ok() && request.keep {
        true => under_way.kept = server.leave(cx).await?,
        false => server.end().await,
    }
    done
}

impl Files<'_> {
    async fn work(&self, server: &mut FilesServer, under_way: &mut UnderWay) -> Result<(), OpsError> {
        let cx = self.cx;
        let restored = self.restore(server, under_way).await?;
        let libraries = server.prepare(self.place, &self.request.settings)?;
        note_libraries(under_way, &libraries);
        let course = Course::of(self.plan);
        let launched = under_way.phase("replay", self.launch(server, &course)).await?;
        under_way.worked_through(replayed(self.plan, &launched).map_or(0, |replay| replay.bytes));
        let ready = async { Ok(server.subject().ready(cx).await?) };
        under_way.server = Some(under_way.phase("connect", ready).await?);
        under_way.usable();
        self.keep_measure(&restored, &launched).await;
        self.check(server, (&course, &launched), under_way).await
    }

    async fn restore(&self, server: &FilesServer, under_way: &mut UnderWay) -> Result<Restored, OpsError> {
        let folder = server.target(self.place, &self.facts, &self.links)?;
        let lines = settings(self.plan, &self.request.restore_command, Role::Alone, Archiving::Off);
        let target = Arc::new(RecoveringFolder::new(folder, Role::Alone, lines));
        let options = RestoreOptions {
            workers: self.request.workers,
            accept_loss: false,
            selection: Selection::default(),
            rate_limit: self.request.rate_limit,
        };
        let writing = write_point(self.cx, self.vaults, self.plan, target.clone(), options);
        let restored = under_way.phase("write", writing).await?;
        under_way.worked_through(restored.bytes);
        under_way.phase("sync", make_durable(self.cx, self.plan, target, &restored)).await?;
        let seconds = under_way.phases.iter().rev().take(2).map(|phase| phase.seconds).sum();
        let text = format!(
            "{} in {} entries, every page compared with its fingerprint",
            ByteSize(restored.bytes),
            restored.entries
        );
        under_way.note("pages", std::time::Duration::ZERO, Answer::passed(text));
        Ok(Restored { seconds, ..restored })
    }

    async fn launch(&self, server: &FilesServer, course: &Course) -> Result<Launched, OpsError> {
        let (cx, data, major) = (self.cx.clone(), server.data().to_owned(), server.major);
        let (options, course) = (server.options().to_owned(), course.clone());
        let environment = self.request.environment.clone();
        off_the_runtime(move || {
            launch(&cx, &data, (major, &options), &course, &environment).map_err(|error| match error {
                LaunchError::Cancelled(cancelled) => cancelled.into(),
                error => error.into(),
            })
        })
        .await
    }

    /// A drill is a restore like any other: the next one's estimate learns from it.
    async fn keep_measure(&self, restored: &Restored, launched: &Launched) {
        let replay = replayed(self.plan, launched);
        let took = Took { restored, compared: false, held_up: self.request.rate_limit.is_some(), replay };
        let by = (&self.request.hand, self.cx.now());
        measure::keep(self.cx, &self.vaults[0], self.plan, took, by).await;
    }

    async fn check(
        &self,
        server: &FilesServer,
        (course, launched): (&Course, &Launched),
        under_way: &mut UnderWay,
    ) -> Result<(), OpsError> {
        let (cx, subject, request) = (self.cx, server.subject(), self.request);
        let mut reached = launched.ended.clone();
        let recovery = async {
            let (answer, ended) = checks::recovery(subject, server.data(), course).await?;
            reached = ended.or(reached.take());
            Ok(answer)
        };
        under_way.check(cx, "recovery", recovery).await?;
        note_journal(under_way, self.plan);
        under_way.reached = reached.map(|ended| ended.to_string());
        under_way.check(cx, "facts", checks::facts(subject, &self.facts)).await?;
        let nothing_since = course.target == RecoveryTarget::Immediate;
        let recorded = (&self.facts.databases, nothing_since);
        under_way.check(cx, "databases", checks::databases(cx, subject, recorded)).await?;
        under_way.check(cx, "amcheck", checks::amcheck(cx, subject, request.workers)).await?;
        under_way.assertions(cx, subject, &request.assertions, (DATABASE, self.moment())).await?;
        let checksums = async {
            server.stop(cx).await?;
            server.checksums(cx, &self.facts).await
        };
        under_way.check(cx, "checksums", checksums).await
    }

    /// What was restored to. Of the latest there is: now, for what the journal does not have yet is lost.
    fn moment(&self) -> Timestamp {
        match &self.plan.request.target {
            RecoveryTarget::Time(time) => *time,
            RecoveryTarget::Immediate => self.plan.point.stopped_at,
            _ => self.cx.now(),
        }
    }
}

/// Links of the point that lead out of the data directory.
fn links_of(point: &Point) -> Result<Vec<EntryPath>, OpsError> {
    let mut links = Vec::new();
    point.rows(|row| {
        links.extend(leads_out(&row.entry).then_some(row.entry.path));
        Ok::<(), OpsError>(())
    })?;
    Ok(links)
}

/// Recovery takes a segment that is missing for the end. Of the latest there is, what lies behind it is a loss.
fn note_journal(under_way: &mut UnderWay, plan: &RestorePlan) {
    if plan.request.target != RecoveryTarget::Latest {
        return;
    }
    let (begin, end) = (plan.range.start, plan.reach.end);
    let answer = match plan.reach.gap {
        None => Answer::passed(format!("without a gap from {begin} to its end, {end}")),
        Some(gap) => Answer::failed(format!("{gap} is missing: what is behind it cannot be restored")),
    };
    under_way.note("journal", std::time::Duration::ZERO, answer);
}

fn note_libraries(under_way: &mut UnderWay, libraries: &Libraries) {
    let answer = match (libraries.missing.is_empty(), libraries.found.is_empty()) {
        (true, true) => return,
        (true, false) => Answer::passed(format!("loaded: {}", libraries.found.join(", "))),
        (false, _) => Answer::not_run(format!(
            "left out, for this host has no such library: {}",
            libraries.missing.join(", ")
        )),
    };
    under_way.note("libraries", std::time::Duration::ZERO, answer);
}
