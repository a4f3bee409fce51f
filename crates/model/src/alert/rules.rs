//! The rules: each looks at what is known, and names what is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use super::observed::{AgentState, End, Held, JobEnd, Observed, SlotState, SourceState, VaultState};
use super::{AlertKind, Condition, Severity};
use crate::size::ByteSize;
use crate::time::{Timestamp, human_duration};

/// Points that a trend is made of at most, and at least.
const TREND: std::ops::RangeInclusive<usize> = 4..=14;

/// The newest point is told of if it is so many times larger or smaller than the middle one of those before.
const MUCH: u64 = 2;

/// Smaller differences are no news: an empty database doubles with its first table.
const LEAST_DIFFERENCE: u64 = 64 << 20;

/// The part of the expected storage, in percent, from which on there is little left.
const NEARLY_FULL: u64 = 80;

/// So long before its end a hold or a lock is told of.
const BEFORE_ITS_END: Duration = Duration::from_secs(7 * 86_400);

/// An agent that was not heard of for so long fell silent; after the longer time it is no longer missed.
const SILENT: Duration = Duration::from_secs(300);
const FORGOTTEN: Duration = Duration::from_secs(7 * 86_400);

/// How long a vault may not answer before people are told: two readings may meet a hiccup.
const PATIENCE: Duration = Duration::from_secs(300);

/// Of what a job said so much is told.
const SAID: usize = 300;

/// Everything that is wrong at `now`, in the order of the sources.
pub fn conditions(observed: &Observed, now: Timestamp) -> Vec<Condition> {
    let mut found: Vec<Condition> =
        observed.sources.iter().flat_map(|source| of_source(source, observed, now)).collect();
    found.extend(of_vault(&observed.vault, now));
    found.extend(observed.chores.iter().filter_map(|job| of_job(None, job)));
    found.extend(of_agents(&observed.agents, now));
    for channel in &observed.channels {
        let failing = channel.failing.as_ref().map(|(since, why)| {
            let text = format!("channel {} does not take what it is told: {why}", channel.name);
            let told = Condition::new(AlertKind::ChannelFails, None, text, *since).of(&channel.name);
            told.look(format!("strongroom alert test {}", channel.name))
        });
        found.extend(failing);
    }
    found
}

fn of_source(source: &SourceState, observed: &Observed, now: Timestamp) -> Vec<Condition> {
    let mut found: Vec<Condition> = source.jobs.iter().filter_map(|job| job_of_source(source, job)).collect();
    found.extend(overdue(source));
    found.extend(slots(source, observed.slot_limit, now));
    let Some(held) = &source.held else { return found };
    found.extend(late(source, held));
    found.extend(rpo(source, held, now));
    found.extend(gap(source, held, now));
    found.extend(size(source, held));
    found.extend(drill(source, held));
    found.extend(ends(source, held, &observed.vault, now));
    found
}

/// What a job of a source came to; a point that was taken since by hand makes up for a backup.
fn job_of_source(source: &SourceState, job: &JobEnd) -> Option<Condition> {
    let newest = source.held.as_ref().and_then(|held| held.last_point.as_ref());
    let made_up = job.kind == "backup" && newest.is_some_and(|(_, begun)| *begun > job.at);
    of_job(Some(source), job).filter(|_| !made_up)
}

fn of_job(source: Option<&SourceState>, job: &JobEnd) -> Option<Condition> {
    let name = source.map(|source| &source.name);
    let of = name.map_or_else(String::new, |name| format!(" of {name}"));
    let to = if job.vault.is_empty() { String::new() } else { format!(" to {}", job.vault) };
    let (kind, what) = match (job.kind.as_str(), job.end) {
        (_, End::Well) => return None,
        ("verify", End::Found) => (AlertKind::Damage, "found damage"),
        // Its record in the vault says more, and counts also if it was done by hand.
        ("drill", End::Found) => return None,
        (_, End::Found) => (AlertKind::JobFailed, "was done, and found something to look at"),
        (_, End::Incomplete) => (AlertKind::JobFailed, "was done, but not in every vault"),
        (_, End::Again) => (AlertKind::JobFailed, "failed, and is tried again"),
        ("backup", End::Failed) => (AlertKind::BackupFailed, "failed"),
        ("backup", End::NotBegun) => (AlertKind::BackupFailed, "was not begun in time"),
        (_, End::Failed) => (AlertKind::JobFailed, "failed"),
        (_, End::NotBegun) => (AlertKind::JobFailed, "was not begun in time"),
    };
    let said = last_of(&job.said);
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let text = format!("{}{of}{to} {what}{said}", job.kind);
    let to = if job.vault.is_empty() { String::new() } else { format!(":{}", job.vault) };
    // What is worse in the end is told once more.
    let again = if job.end == End::Again { ":again" } else { "" };
    let detail = format!("{}{to}{again}", job.kind);
    Some(Condition::new(kind, name, text, job.at).of(detail).look(format!("strongroom jobs show {}", job.id)))
}

/// The last line, or its beginning.
fn last_of(said: &str) -> String {
    let line = said.trim().lines().next_back().unwrap_or_default();
    line.chars().take(SAID).collect()
}

/// A backup was due and is not there. It is one condition, whichever rule it is of.
fn late(source: &SourceState, held: &Held) -> Option<Condition> {
    if source.is_backed_up_now {
        return None;
    }
    let newest = held.last_point.as_ref().map(|(_, begun)| *begun);
    let from = newest.unwrap_or(source.known_since);
    let missed = source.backups_due.iter().filter(|(_, due)| *due > from);
    let (rule, due) = missed.max_by_key(|(_, due)| *due)?;
    let text = match newest {
        Some(newest) => format!(
            "{} was to be backed up by {rule} at {due}, and its newest point is of {newest}",
            source.name
        ),
        None => format!("{} was to be backed up by {rule} at {due}, and was never backed up", source.name),
    };
    let look = format!("strongroom jobs list --source {}", source.name);
    Some(Condition::new(AlertKind::Late, Some(&source.name), text, *due).look(look))
}

/// The moment up to which nothing is lost: what `now` is compared with.
pub fn durable_at(source: &SourceState) -> Option<Timestamp> {
    let held = source.held.as_ref()?;
    held.journal_at.max(source.caught_up_at).filter(|_| source.has_journal).max(held.last_point_at)
}

fn rpo(source: &SourceState, held: &Held, now: Timestamp) -> Option<Condition> {
    let rpo = source.rpo?;
    let durable = durable_at(source);
    let from = durable.unwrap_or(source.known_since);
    if now.since(from) <= rpo.0 {
        return None;
    }
    let (name, lost) = (&source.name, human_duration(now.since(from)));
    let text = match durable {
        Some(_) => format!("the newest {lost} of {name} would be lost, and {rpo} may be"),
        None => format!("nothing of {name} is in the vault, and {rpo} of it may be lost"),
    };
    let broken_since = Timestamp(from.0.checked_add(rpo.0).unwrap_or(now.0));
    let look = match source.has_journal && held.points > 0 {
        true => format!("strongroom wal status --source {name}"),
        false => format!("strongroom backup {name}"),
    };
    Some(Condition::new(AlertKind::Rpo, Some(name), text, broken_since).look(look))
}

fn gap(source: &SourceState, held: &Held, now: Timestamp) -> Option<Condition> {
    let gap = held.gap.as_ref()?;
    let text = format!(
        "WAL segment {gap} of {} is missing: nothing behind it can be restored until there is a newer point",
        source.name
    );
    let since = held.last_point_at.unwrap_or(now);
    Some(
        Condition::new(AlertKind::WalGap, Some(&source.name), text, since)
            .look(format!("strongroom backup {}", source.name)),
    )
}

/// Slots that fill the server's disk, and those that it gave up to save it.
fn slots(source: &SourceState, limit: u64, now: Timestamp) -> Vec<Condition> {
    let name = &source.name;
    let told = |slot: &SlotState| {
        let found = |text: String| {
            Condition::new(AlertKind::Slot, Some(name), text, now).look(format!("strongroom doctor {name}"))
        };
        match slot {
            SlotState { name: slot, is_lost: true, .. } => {
                let text = format!(
                    "the server of {name} gave up the slot {slot}, and with it WAL that may be in no vault"
                );
                Some(Condition { severity: Severity::Critical, ..found(text).of(format!("{slot}:lost")) })
            }
            SlotState { name: slot, kept, .. } if *kept > limit => {
                let text = format!(
                    "the server of {name} keeps {} of WAL for the slot {slot}, from which nobody reads",
                    ByteSize(*kept)
                );
                Some(found(text).of(slot))
            }
            SlotState { .. } => None,
        }
    };
    source.slots.iter().flatten().filter_map(told).collect()
}

fn size(source: &SourceState, held: &Held) -> Option<Condition> {
    let (newest, before) = held.sizes.split_last()?;
    let mut trend: Vec<u64> = before.iter().rev().take(*TREND.end()).copied().collect();
    if trend.len() < *TREND.start() {
        return None;
    }
    trend.sort_unstable();
    let middle = trend[trend.len() / 2];
    let is_much = *newest > middle.saturating_mul(MUCH) || newest.saturating_mul(MUCH) < middle;
    if !is_much || newest.abs_diff(middle) < LEAST_DIFFERENCE {
        return None;
    }
    let (point, begun) = held.last_point.as_ref()?;
    let (newest, middle) = (ByteSize(*newest), ByteSize(middle));
    let text = format!(
        "{} has {newest} in {point}, and {middle} in the middle one of the points before: is something missing, or new?",
        source.name
    );
    Some(
        Condition::new(AlertKind::Size, Some(&source.name), text, *begun)
            .look(format!("strongroom show {point}")),
    )
}

fn overdue(source: &SourceState) -> Option<Condition> {
    let due = source.verify_due?;
    if source.verified_at.unwrap_or(source.known_since) >= due {
        return None;
    }
    let text = match source.verified_at {
        Some(last) => format!("{} was to be verified at {due}, and was last at {last}", source.name),
        None => format!("{} was to be verified at {due}, and never was", source.name),
    };
    Some(
        Condition::new(AlertKind::VerifyOverdue, Some(&source.name), text, due)
            .look(format!("strongroom verify {} --data", source.name)),
    )
}

fn drill(source: &SourceState, held: &Held) -> Vec<Condition> {
    let (name, mut found) = (&source.name, Vec::new());
    if let Some(last) = held.drill.as_ref().filter(|last| !last.passed) {
        let text = format!(
            "the drill of {name} that ended at {} did not prove that it can be restored in time",
            last.at
        );
        found.push(
            Condition::new(AlertKind::DrillFailed, Some(name), text, last.at)
                .look(format!("strongroom status {name}")),
        );
    }
    let last = held.drill.as_ref().map(|drill| drill.at);
    if let Some(due) = source.drill_due.filter(|due| last.unwrap_or(source.known_since) < *due) {
        let text = match last {
            Some(last) => format!("a drill of {name} was due at {due}, and the last one was at {last}"),
            None => format!(
                "a drill of {name} was due at {due}, and there was never one: nobody knows whether it can be restored"
            ),
        };
        found.push(
            Condition::new(AlertKind::DrillOverdue, Some(name), text, due)
                .look(format!("strongroom drill {name}")),
        );
    }
    found
}

/// Holds and locks that end soon.
fn ends(source: &SourceState, held: &Held, vault: &VaultState, now: Timestamp) -> Vec<Condition> {
    let name = &source.name;
    let is_soon = |end: &Timestamp| *end > now && end.since(now) <= BEFORE_ITS_END;
    let told_from = |end: Timestamp| end.earlier(BEFORE_ITS_END).unwrap_or(now);
    let holds = held.holds.iter().filter(|(_, until)| is_soon(until)).map(|(point, until)| {
        let text = format!("the hold on {point} of {name} ends at {until}: then retention may let it go");
        Condition::new(AlertKind::HoldEnds, Some(name), text, told_from(*until))
            .of(point.as_str())
            .look("strongroom hold list".to_owned())
    });
    let mut found: Vec<Condition> = holds.collect();
    let locked = vault.lock_days.map(|days| Duration::from_secs(u64::from(days) * 86_400));
    // Where every lock is as short as this, its end is always near.
    let locked = locked.filter(|lock| *lock > BEFORE_ITS_END * 2);
    if let (Some(lock), Some((point, begun))) = (locked, &held.last_point) {
        let end = Timestamp(begun.0.checked_add(lock).unwrap_or(begun.0));
        if end <= now || is_soon(&end) {
            let text = format!(
                "the newest point of {name}, {point}, loses its lock at {end}: whoever has the store's rights can then delete all there is"
            );
            found.push(
                Condition::new(AlertKind::LockEnds, Some(name), text, told_from(end))
                    .look(format!("strongroom backup {name}")),
            );
        }
    }
    found
}

fn of_vault(vault: &VaultState, now: Timestamp) -> Vec<Condition> {
    let mut found = Vec::new();
    if let Some((since, why)) = vault.silent.as_ref().filter(|(since, _)| now.since(*since) >= PATIENCE) {
        let text = format!("the vault does not say what it holds: {why}");
        found.push(Condition::new(AlertKind::VaultSilent, None, text, *since).look("strongroom status"));
    }
    if let (Some(stored), Some(expected)) = (vault.stored, vault.expected)
        && u128::from(stored) * 100 > u128::from(expected) * u128::from(NEARLY_FULL)
    {
        let text = format!(
            "points hold {} in the vault, more than {NEARLY_FULL} % of the {} that are expected",
            ByteSize(stored),
            ByteSize(expected)
        );
        found.push(Condition::new(AlertKind::Storage, None, text, now).look("strongroom list"));
    }
    found
}

/// Hosts of whose agents none is heard of any more. One that left in an orderly manner is not among them.
fn of_agents(agents: &[AgentState], now: Timestamp) -> Vec<Condition> {
    let mut last_seen = BTreeMap::<&str, Timestamp>::new();
    for agent in agents {
        let seen = last_seen.entry(&agent.host).or_insert(agent.seen);
        *seen = agent.seen.max(*seen);
    }
    let is_missed = |seen: &Timestamp| (SILENT..FORGOTTEN).contains(&now.since(*seen));
    let missed = last_seen.into_iter().filter(|(_, seen)| is_missed(seen));
    missed
        .map(|(host, seen)| {
            let text = format!("the agent on {host} was last heard of at {seen}");
            Condition::new(AlertKind::AgentSilent, None, text, seen).of(host).look("strongroom jobs list")
        })
        .collect()
}
