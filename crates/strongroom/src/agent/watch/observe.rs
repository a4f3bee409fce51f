//! From settings, catalog and vault: what alerts are decided by.

use std::collections::BTreeMap;
use std::time::Duration;

use strongroom_catalog::alerts::ChannelRecord;
use strongroom_catalog::history::Agent;
use strongroom_catalog::{Catalog, CatalogError, Job, Kind, State};
use strongroom_model::alert::news::Alert;
use strongroom_model::alert::observed::{
    AgentState, ChannelState, End, JobEnd, Observed, SourceState, VaultState,
};
use strongroom_model::plan::{Timetable, Work, objectives_of};
use strongroom_model::source::Protected;
use strongroom_model::{SourceName, Timestamp};

use crate::agent::watch::reading::Reading;
use crate::agent::watch::servers::Servers;
use crate::context::Context;
use crate::failure::Code;

/// How far back what was due is looked for: a rule of once a year is seen.
const BACK: Duration = Duration::from_secs(400 * 86_400);

/// What the catalog knows.
#[derive(Clone, Default)]
pub struct Facts {
    /// Alerts that fire.
    pub alerts: Vec<Alert>,
    /// Channels that were told something.
    pub channels: Vec<ChannelRecord>,
    /// Jobs, by kind and state.
    pub counts: BTreeMap<(Kind, State), i64>,
    /// What is still to be told.
    pub waiting: i64,
    ends: Vec<Job>,
    verified: BTreeMap<SourceName, Timestamp>,
    under_way: BTreeMap<Kind, Vec<SourceName>>,
    agents: Vec<Agent>,
}

impl Facts {
    /// Reads it.
    pub async fn of(catalog: &Catalog, now: Timestamp) -> Result<Facts, CatalogError> {
        let mut under_way = BTreeMap::new();
        for kind in [Kind::Backup, Kind::Verify] {
            under_way.insert(kind, catalog.under_way(kind).await?);
        }
        Ok(Facts {
            alerts: catalog.alerts().await?,
            channels: catalog.channels().await?,
            counts: catalog.counts().await?,
            waiting: catalog.waiting_tellings(now).await?,
            ends: catalog.newest_ends().await?,
            verified: catalog.last_done(Kind::Verify).await?,
            under_way,
            agents: catalog.agents().await?,
        })
    }

    fn runs(&self, kind: Kind, source: &SourceName) -> bool {
        self.under_way.get(&kind).is_some_and(|sources| sources.contains(source))
    }
}

/// Everything together.
pub fn observed(
    context: &Context,
    facts: &Facts,
    (reading, silent): (Option<&Reading>, Option<(Timestamp, String)>),
    (servers, caught_up): (&Servers, &BTreeMap<SourceName, Timestamp>),
    (known, now): (&BTreeMap<String, Timestamp>, Timestamp),
) -> Observed {
    let settings = &context.settings;
    let sources = settings.protected();
    let sources = sources.iter().map(|source| of_source(context, facts, (source, reading), (known, now)));
    let sources = sources.map(|source| SourceState {
        slots: servers.get(&source.name).and_then(|said| said.slots.clone()),
        caught_up_at: caught_up.get(&source.name).copied(),
        ..source
    });
    let record = |name: &str| facts.channels.iter().find(|record| record.name == name);
    let failing =
        |record: &ChannelRecord| Some((record.failing_since?, record.why.clone().unwrap_or_default()));
    let channel =
        |name: &str| ChannelState { name: name.to_owned(), failing: record(name).and_then(failing) };
    Observed {
        sources: sources.collect(),
        vault: VaultState {
            silent,
            stored: reading.map(|reading| reading.sources.values().map(|said| said.stored_bytes).sum()),
            expected: settings.watch.expected_storage.map(|expected| expected.0),
            lock_days: settings.vault.lock.as_ref().map(|lock| lock.days()),
        },
        chores: facts.ends.iter().filter(|job| job.source.is_none()).map(end_of).collect(),
        slot_limit: settings.watch.slot_limit.0,
        agents: facts
            .agents
            .iter()
            .map(|agent| AgentState { host: agent.host.clone(), seen: agent.seen })
            .collect(),
        channels: settings.alerts.keys().map(|name| channel(name.as_str())).collect(),
    }
}

fn of_source(
    context: &Context,
    facts: &Facts,
    (source, reading): (&Protected, Option<&Reading>),
    (known, now): (&BTreeMap<String, Timestamp>, Timestamp),
) -> SourceState {
    let (settings, name) = (&context.settings, &source.name);
    let until = now.earlier(settings.watch.late_after.0).unwrap_or(now);
    let since = now.earlier(BACK).unwrap_or(now);
    let covering = settings.plans.iter().filter(|(_, plan)| plan.covers(source));
    let tables: Vec<(String, Timetable<'_>)> = covering
        .flat_map(|(name, plan)| {
            plan.timetables().map(move |table| (format!("{name}/{}", table.rule), table))
        })
        .collect();
    let last_due = |work: Work| {
        let of_work = tables.iter().filter(move |(_, table)| table.work == work);
        of_work.filter_map(move |(rule, table)| Some((rule.clone(), table.last_in(since, until)?)))
    };
    let newest = |work: Work| last_due(work).map(|(_, due)| due).max();
    SourceState {
        name: name.clone(),
        has_journal: source.kind.has_journal(),
        rpo: objectives_of(&settings.plans, source).rpo,
        known_since: known.get(name.as_str()).copied().unwrap_or(now),
        held: reading.map(|reading| reading.held(name)),
        backups_due: last_due(Work::Backup).collect(),
        verify_due: newest(Work::Verify).filter(|_| !facts.runs(Kind::Verify, name)),
        drill_due: newest(Work::Drill),
        is_backed_up_now: facts.runs(Kind::Backup, name),
        verified_at: facts.verified.get(name).copied(),
        slots: None,
        caught_up_at: None,
        jobs: facts.ends.iter().filter(|job| job.source.as_ref() == Some(name)).map(end_of).collect(),
    }
}

fn end_of(job: &Job) -> JobEnd {
    let is = |code: Code| job.exit_code == Some(code as i64);
    let end = match job.state {
        // A drill that found something.
        State::Failed if is(Code::Unproven) || is(Code::TooSlow) => End::Found,
        State::Failed => End::Failed,
        State::Expired => End::NotBegun,
        State::Queued | State::Leased => End::Again,
        State::Done if is(Code::Problems) => End::Found,
        State::Done if is(Code::Incomplete) => End::Incomplete,
        State::Done | State::Cancelled | State::Missed => End::Well,
    };
    let at = job.ended.or(job.began).unwrap_or(job.due);
    let (kind, vault, said) = (job.kind.to_string(), job.vault.clone(), job.said.clone().unwrap_or_default());
    JobEnd { id: job.id, kind, vault, end, at, said }
}
