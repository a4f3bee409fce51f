//! What is known of the sources, their vault, and those who work for them, when alerts are decided. Plain values: who observes fills
//! them in, and leaves out what it could not see.

use std::time::Duration;

use crate::name::{PointId, SourceName};
use crate::position::{Lsn, SystemId};
use crate::span::Span;
use crate::time::Timestamp;

/// Everything that is known.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The sources that are watched.
    pub sources: Vec<SourceState>,
    /// The vault they are in.
    pub vault: VaultState,
    /// The end of the newest job of each kind of chores of the vault's own.
    pub chores: Vec<JobEnd>,
    /// So many bytes a server may keep for a slot that nobody reads from.
    pub slot_limit: u64,
    /// Agents that were heard of.
    pub agents: Vec<AgentState>,
    /// Channels that alerts go to.
    pub channels: Vec<ChannelState>,
}

/// A source.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// Its name.
    pub name: SourceName,
    /// Whether it has a journal, so that it can be restored to any second.
    pub has_journal: bool,
    /// The newest so much of it may be lost.
    pub rpo: Option<Span>,
    /// When it was first watched: for what never happened, time counts from here.
    pub known_since: Timestamp,
    /// What the vault holds of it; `None` if the vault was never read.
    pub held: Option<Held>,
    /// By rule, the last time a backup was due, long enough ago that it should be there.
    pub backups_due: Vec<(String, Timestamp)>,
    /// The last time a verification was due, long enough ago.
    pub verify_due: Option<Timestamp>,
    /// The last time a drill was due, long enough ago.
    pub drill_due: Option<Timestamp>,
    /// A backup is under way.
    pub is_backed_up_now: bool,
    /// The last verification that came to its end.
    pub verified_at: Option<Timestamp>,
    /// Slots of ours at its server that nobody reads from; `None` if it was not asked or did not say.
    pub slots: Option<Vec<SlotState>>,
    /// The last moment of which it is known that all the server had written until then was in the vault.
    pub caught_up_at: Option<Timestamp>,
    /// The end of the newest job of each kind and vault.
    pub jobs: Vec<JobEnd>,
}

/// How far a server has written its WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Whose positions these are.
    pub lineage: SystemId,
    /// Where it writes next.
    pub at: Lsn,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// A segment in which something was written is closed after so long, and archived; zero: it stays open.
    pub archive_timeout: Duration,
}

impl Written {
    /// The moment until which everything is in a vault that has WAL up to `end` of `lineage`, as this was `now`. A server that
    /// writes nothing ships nothing, and loses nothing.
    pub fn caught_up_at(&self, (lineage, end): (SystemId, Lsn), now: Timestamp) -> Option<Timestamp> {
        if lineage != self.lineage {
            return None;
        }
        if end >= self.at {
            return Some(now);
        }
        // All closed segments are there: what is in the open one is no older than the server lets it become.
        let open = self.at.0.checked_rem(self.segment_size)?;
        let has_closed = end.0 >= self.at.0 - open;
        now.earlier(self.archive_timeout).filter(|_| has_closed && !self.archive_timeout.is_zero())
    }
}

/// What the vault holds of a source.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Points that can be restored.
    pub points: u64,
    /// The newest of them, and when it was begun.
    pub last_point: Option<(PointId, Timestamp)>,
    /// The earliest time to which the newest point restores.
    pub last_point_at: Option<Timestamp>,
    /// When WAL last became durable.
    pub journal_at: Option<Timestamp>,
    /// The segment that is missing behind the newest point: what older points lack, that one makes up for.
    pub gap: Option<String>,
    /// Bytes of the source in its restorable points, oldest first.
    pub sizes: Vec<u64>,
    /// Holds that have an end: the point, and when.
    pub holds: Vec<(PointId, Timestamp)>,
    /// The newest drill.
    pub drill: Option<DrillState>,
}

/// A replication slot that nobody reads from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Its name.
    pub name: String,
    /// Bytes of WAL that the server keeps for it.
    pub kept: u64,
    /// The server gave it up: WAL may be missing.
    pub is_lost: bool,
}

/// A drill.
#[derive(Clone, Debug, PartialEq)]
pub struct DrillState {
    /// When it ended.
    pub at: Timestamp,
    /// Whether it proved that a restore works, in time.
    pub passed: bool,
    /// Seconds until the source could have been used again.
    pub rto_seconds: Option<f64>,
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEnd {
    /// Its number.
    pub id: i64,
    /// What it did: `backup`, `verify` and so on.
    pub kind: String,
    /// Into which other vault; empty for the first one.
    pub vault: String,
    /// How it ended.
    pub end: End,
    /// When.
    pub at: Timestamp,
    /// The last it said.
    pub said: String,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was done, and nothing was found.
    Well,
    /// It was done, and found something that a person must look at.
    Found,
    /// It was done, but not in every vault.
    Incomplete,
    /// It was not done, and is tried again.
    Again,
    /// It was not done, and is not tried again.
    Failed,
    /// No agent began it in time.
    NotBegun,
}

/// The vault.
#[derive(Clone, Debug, Default)]
pub struct VaultState {
    /// Since when it does not say what it holds, and why.
    pub silent: Option<(Timestamp, String)>,
    /// Bytes that points hold there.
    pub stored: Option<u64>,
    /// Bytes that it may become.
    pub expected: Option<u64>,
    /// For how many days what is written there is locked.
    pub lock_days: Option<u32>,
}

/// An agent.
#[derive(Clone, Debug)]
pub struct AgentState {
    /// Its host.
    pub host: String,
    /// When it was last heard of.
    pub seen: Timestamp,
}

/// A channel.
#[derive(Clone, Debug)]
pub struct ChannelState {
    /// Its name.
    pub name: String,
    /// Since when it does not take what it is told, and why.
    pub failing: Option<(Timestamp, String)>,
}
