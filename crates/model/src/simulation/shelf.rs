//! The vault of a simulation: points, what they added, and what is still needed.

use std::time::Duration;

use super::Growth;
use crate::expiry_plan::{ExpiryPlan, Shelved};
use crate::journal::Journal;
use crate::name::{PointId, SourceName};
use crate::point::{JournalRange, PointState, Summary};
use crate::position::{Lsn, SystemId, Timeline};
use crate::segment::{SegmentSize, WalFile, WalSegment};
use crate::source::Shipping;
use crate::time::Timestamp;

/// Bytes of a pack: decision 0001.
const PACK: u64 = 32 << 20;

/// Objects that a point puts beside its packs: intent, manifest, decision.
const RECORDS: u64 = 3;

const DAY: f64 = 86_400.0;

/// What one backup added.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// When.
    pub at: Timestamp,
    /// Bytes.
    pub bytes: u64,
    /// Objects.
    pub objects: u64,
}

/// WAL in the vault.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wal {
    /// Bytes.
    pub bytes: u64,
    /// Objects that are put in a day.
    pub objects_a_day: u64,
}

/// What is there.
pub struct Shelf {
    has_journal: bool,
    rebase: Duration,
    /// Kept points, oldest first. Each began in a segment of its own, by which retention reckons.
    points: Vec<(PointId, PointState, u64)>,
    packs: Vec<Taken>,
    begun: u64,
    last: Option<Timestamp>,
    /// From when on WAL is kept.
    floor: Option<Timestamp>,
}

impl Shelf {
    /// With nothing on it.
    pub fn new(has_journal: bool, rebase_days: u32) -> Shelf {
        let rebase = Duration::from_secs(u64::from(rebase_days) * 86_400);
        Shelf {
            has_journal,
            rebase,
            points: Vec::new(),
            packs: Vec::new(),
            begun: 0,
            last: None,
            floor: None,
        }
    }

    /// A backup: what changed since the last one, and the share of everything that is old enough to be stored afresh.
    pub fn take(&mut self, at: Timestamp, takes: Duration, growth: Option<&Growth>) {
        let bytes = growth.map_or(0, |growth| match self.last {
            None => growth.full,
            Some(last) => {
                let days = at.since(last).as_secs_f64() / DAY;
                let changed = growth.change_a_day as f64 * days;
                let afresh =
                    growth.full as f64 * at.since(last).as_secs_f64() / self.rebase.as_secs_f64().max(1.0);
                ((changed + afresh) as u64).min(growth.full)
            }
        });
        let number = self.begun;
        self.begun += 1;
        self.last = Some(at);
        self.floor.get_or_insert(at);
        self.packs.push(Taken { at, bytes, objects: bytes.div_ceil(PACK) + RECORDS });
        let ended = at.0.checked_add(takes).map_or(at, Timestamp);
        if let Some(summary) = self.summary(number, (at, ended), bytes) {
            self.points.push((
                summary.point.clone(),
                PointState::Committed { summary: Box::new(summary) },
                number,
            ));
        }
    }

    fn summary(&self, number: u64, (began, ended): (Timestamp, Timestamp), stored: u64) -> Option<Summary> {
        let segment = SegmentSize::DEFAULT.bytes();
        let range = JournalRange {
            lineage: SystemId(1),
            timeline: Timeline::FIRST,
            segment_size: SegmentSize::DEFAULT,
            start: Lsn(number * segment + 40),
            stop: Lsn(number * segment + 400),
        };
        let source: SourceName = "simulated".parse().ok()?;
        Some(Summary {
            point: PointId::new(began, (number as u32).to_be_bytes()),
            source,
            engine: String::new(),
            product: String::new(),
            parent: None,
            started_at: began,
            stopped_at: ended,
            committed_at: ended,
            journal: self.has_journal.then_some(range),
            entries: 0,
            bytes: 0,
            stored,
            packs: 0,
            damaged_pages: 0,
            from_standby: false,
            reading: None,
        })
    }

    /// How many points are kept.
    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// As retention sees them.
    pub fn shelved(&self) -> Vec<Shelved<'_>> {
        let shelved = |(point, state, _)| Shelved { point, state, expired: false, held: None };
        self.points.iter().map(|(point, state, number)| shelved((point, state, number))).collect()
    }

    /// Its WAL, from the oldest kept point on, without a gap.
    pub fn journals(&self) -> Vec<Journal> {
        let Some((_, _, oldest)) = self.points.first().filter(|_| self.has_journal) else {
            return Vec::new();
        };
        let segment =
            |number| WalFile::Segment(WalSegment::numbered(Timeline::FIRST, number, SegmentSize::DEFAULT));
        let files = (*oldest..=self.begun).map(segment);
        vec![Journal::new(SystemId(1), SegmentSize::DEFAULT, files, [])]
    }

    /// Lets go what the plan lets go.
    pub fn let_go(&mut self, plan: &ExpiryPlan) {
        // Both are in the order of time, and of names.
        let mut goes = plan.expiring().map(|line| &line.point).peekable();
        self.points.retain(|(point, _, _)| goes.next_if(|gone| *gone == point).is_none());
        let number = |segment: WalSegment| segment.number(SegmentSize::DEFAULT);
        let floor = plan.floors.iter().filter_map(|floor| number(floor.segment)).max();
        let first = |floor: u64| self.points.iter().find(|(_, _, number)| *number >= floor);
        let oldest = self.points.first();
        if let Some((_, PointState::Committed { summary }, _)) = floor.map_or(oldest, first) {
            self.floor = Some(summary.started_at);
        }
    }

    /// Deletes packs that no kept point can refer to any more, and gives them.
    pub fn sweep(&mut self) -> Vec<Taken> {
        let times: Vec<Timestamp> = self.points.iter().filter_map(|(_, state, _)| began(state)).collect();
        let rebase = self.rebase;
        let is_needed = |pack: &Taken| {
            let next = times.partition_point(|at| *at < pack.at);
            times.get(next).is_some_and(|at| at.since(pack.at) <= rebase)
        };
        let (kept, gone) = std::mem::take(&mut self.packs).into_iter().partition(is_needed);
        self.packs = kept;
        gone
    }

    /// What backups added and is still there.
    pub fn packs(&self) -> &[Taken] {
        &self.packs
    }

    /// Bytes of it.
    pub fn stored(&self) -> u64 {
        self.packs.iter().map(|pack| pack.bytes).sum()
    }

    /// WAL from the floor until now. Streamed, it comes in as many parts as its rhythm allows, and in no fewer objects
    /// than it has segments.
    pub fn wal(&self, growth: &Growth, (begin, now): (Timestamp, Timestamp), shipping: Shipping) -> Wal {
        if !self.has_journal || growth.wal_a_day == 0 {
            return Wal::default();
        }
        let days = now.since(self.floor.unwrap_or(begin)).as_secs_f64() / DAY;
        let segments = growth.wal_a_day.div_ceil(SegmentSize::DEFAULT.bytes());
        let parts = match shipping {
            Shipping::Streamed(waits) => 86_400 / waits.as_secs().max(1),
            // One that is closed early is a segment all the same.
            Shipping::Archived(waits) => (86_400 / waits.as_secs().max(1)).saturating_sub(segments),
            Shipping::None => 0,
        };
        Wal { bytes: (growth.wal_a_day as f64 * days) as u64, objects_a_day: segments + parts }
    }
}

fn began(state: &PointState) -> Option<Timestamp> {
    match state {
        PointState::Committed { summary } => Some(summary.started_at),
        _ => None,
    }
}
