//! What was received, on its way into every vault: one piece at a time into each, in order, again until it is there.
//!
//! **Invariants**
//! - A vault that is down keeps nothing from the others, and nothing is skipped for it: what it lacks is given to it
//!   once it is back, if need be by the server once more.
//! - What no vault will ever take (another file of that name, another cluster) ends receiving.

use std::sync::Arc;
use std::time::Duration;

use strongroom_model::{Cx, Lsn, SourceName, Timestamp, WalFile};
use strongroom_postgres::archive::ArchiveError;
use strongroom_postgres::receiving::{Lane, Receiving, Transactions, Work};
use strongroom_postgres::wal::{check_segment, commit_times};
use strongroom_vault::journal::JournalFacts;
use strongroom_vault::lineage::Lineage;
use strongroom_vault::{Vault, VaultError};
use tokio::task::JoinSet;

use crate::error::{OpsError, with_causes};

/// Between two tries at a vault that is down.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a vault may take for one piece before it is said that it is down. Stores ask again by themselves meanwhile.
const SILENT_AFTER: Duration = Duration::from_secs(15);

/// How often parts are shipped.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// What is new waits at most this long for more.
    pub interval: Duration,
    /// So many bytes do not wait.
    pub part_size: u64,
}

/// The vaults, and how far each is.
pub struct Shipping {
    cx: Cx,
    source: SourceName,
    lineage: Lineage,
    rhythm: Rhythm,
    berths: Vec<Berth>,
    jobs: JoinSet<(usize, Work, Result<Transactions, OpsError>)>,
}

/// One vault.
struct Berth {
    vault: Arc<Vault>,
    lane: Lane,
    is_busy: bool,
    /// When it was last given something.
    given_at: Option<Timestamp>,
    trouble: Option<Trouble>,
    /// It does not answer, and that was said.
    is_silent: bool,
}

impl Berth {
    fn is_up(&self) -> bool {
        self.trouble.is_none() && !self.is_silent
    }
}

/// Why a vault is not given anything else.
struct Trouble {
    work: Work,
    since: Timestamp,
    pause: Duration,
}

/// What became of one piece.
pub enum Settled {
    /// It is durable.
    Durable {
        /// What.
        work: Work,
        /// The vault, if it had been down.
        back: Option<String>,
    },
    /// It is not, and will be tried again.
    Down {
        /// Which vault.
        vault: String,
        /// Why.
        why: String,
        /// It was not down before.
        is_new: bool,
    },
}

impl Shipping {
    /// Vaults with their lanes. Stopping the command does not stop what is on its way.
    pub fn new(
        cx: &Cx,
        (source, lineage): (&SourceName, &Lineage),
        rhythm: Rhythm,
        vaults: impl Iterator<Item = (Arc<Vault>, Lane)>,
    ) -> Shipping {
        let berth = |(vault, lane)| Berth {
            vault,
            lane,
            is_busy: false,
            given_at: None,
            trouble: None,
            is_silent: false,
        };
        Shipping {
            cx: Cx::new(cx.clock.clone(), cx.entropy.clone()),
            source: source.clone(),
            lineage: lineage.clone(),
            rhythm,
            berths: vaults.map(berth).collect(),
            jobs: JoinSet::new(),
        }
    }

    /// The cluster whose WAL this is.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Up to where every vault has everything.
    pub fn durable(&self, receiving: &Receiving) -> Lsn {
        self.berths.iter().map(|berth| receiving.durable(&berth.lane)).min().unwrap_or(Lsn(0))
    }

    /// Gives every vault that waits its next piece; of what is new, anything if it is `due` whatever the time.
    pub fn give(&mut self, receiving: &mut Receiving, is_due: bool) {
        let now = self.cx.now();
        for index in 0..self.berths.len() {
            let berth = &mut self.berths[index];
            let work = match &berth.trouble {
                _ if berth.is_busy => None,
                Some(Trouble { work, since, pause }) => {
                    Some(work.clone()).filter(|_| now.since(*since) >= *pause)
                }
                None => {
                    let waited = berth.given_at.is_none_or(|then| now.since(then) >= self.rhythm.interval);
                    receiving.next(&mut berth.lane, self.rhythm.part_size, is_due || waited)
                }
            };
            if let Some(work) = work {
                (berth.is_busy, berth.given_at) = (true, Some(now));
                self.begin(index, work);
            }
        }
        receiving.release(self.berths.iter().map(|berth| &berth.lane));
    }

    fn begin(&mut self, index: usize, work: Work) {
        let (cx, vault) = (self.cx.clone(), self.berths[index].vault.clone());
        let (source, lineage) = (self.source.clone(), self.lineage.clone());
        self.jobs.spawn(async move {
            let done = carry_out(&cx, &vault, (&source, &lineage), &work).await;
            (index, work, done)
        });
    }

    /// Waits until something came of a piece; `None` if nothing is on its way. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Result<Settled, OpsError>> {
        match self.jobs.join_next().await? {
            Ok((index, work, done)) => Some(self.settle(index, work, done)),
            Err(error) => Some(Err(OpsError::Worker(error.to_string()))),
        }
    }

    fn settle(
        &mut self,
        index: usize,
        work: Work,
        done: Result<Transactions, OpsError>,
    ) -> Result<Settled, OpsError> {
        let (size, now) = (self.lineage.segment_size, self.cx.now());
        let berth = &mut self.berths[index];
        berth.is_busy = false;
        match done {
            Ok(transactions) => {
                match &work {
                    Work::History(..) => berth.lane.history_is_durable(),
                    Work::Segment(segment, _) => berth.lane.segment_is_durable(*segment, size),
                    Work::Part(part) => berth.lane.part_is_durable(part, transactions, size),
                }
                let was_down = !berth.is_up();
                (berth.trouble, berth.is_silent) = (None, false);
                let back = was_down.then(|| berth.vault.place());
                Ok(Settled::Durable { work, back })
            }
            Err(error) if is_final(&error) => Err(error),
            Err(error) => {
                let (pause, was_up) = (berth.trouble.as_ref().map(|trouble| trouble.pause), berth.is_up());
                let next = pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
                berth.trouble = Some(Trouble { work, since: now, pause: next });
                let (vault, why) = (berth.vault.place(), with_causes(&error));
                Ok(Settled::Down { vault, why, is_new: was_up })
            }
        }
    }

    /// Lets go of what only vaults that are down still lack, if any vault is up. They get it from the server, later.
    pub fn leave_behind(&mut self, receiving: &mut Receiving) {
        let up = self.berths.iter().filter(|berth| berth.is_up()).map(|berth| &berth.lane);
        if up.clone().next().is_some() {
            receiving.release(up);
        }
    }

    /// Whether a vault that is up again was left behind.
    pub fn is_someone_behind(&self, receiving: &Receiving) -> bool {
        self.berths.iter().any(|berth| berth.is_up() && !receiving.can_serve(&berth.lane))
    }

    /// Vaults that have just turned out not to answer.
    pub fn fell_silent(&mut self) -> Vec<String> {
        let now = self.cx.now();
        let is_late = |berth: &&mut Berth| {
            let waited = berth.given_at.map_or(Duration::ZERO, |then| now.since(then));
            berth.is_up() && berth.is_busy && waited >= SILENT_AFTER
        };
        let late = self.berths.iter_mut().filter(is_late);
        late.map(|berth| {
            berth.is_silent = true;
            berth.vault.place()
        })
        .collect()
    }

    /// Whether nothing is on its way.
    pub fn is_quiet(&self) -> bool {
        self.jobs.is_empty()
    }
}

/// Whether trying again is of no use.
pub fn is_final(error: &OpsError) -> bool {
    matches!(
        error,
        OpsError::OtherLineage { .. }
            | OpsError::Archive(ArchiveError::Wrong { .. })
            | OpsError::Worker(_)
            | OpsError::Vault(VaultError::JournalDiffers { .. })
    )
}

/// Makes one piece durable in one vault; when the transactions in it ended.
async fn carry_out(
    cx: &Cx,
    vault: &Vault,
    (source, lineage): (&SourceName, &Lineage),
    work: &Work,
) -> Result<Transactions, OpsError> {
    let (file, content, transactions) = match work {
        Work::History(timeline, content) => (WalFile::History(*timeline), &content[..], None),
        Work::Segment(segment, content) => {
            let file = WalFile::Segment(*segment);
            check_segment(content, *segment, lineage.system_id)
                .map_err(|source| ArchiveError::Wrong { file, source })?;
            (file, &content[..], commit_times(content))
        }
        Work::Part(part) => (WalFile::Part(part.segment, part.stretch), part.content(), part.transactions()),
    };
    let facts = JournalFacts {
        name: file.to_string(),
        size: content.len() as u64,
        shipped_at: cx.now(),
        transactions,
    };
    vault.ship(cx, source, lineage.system_id, (file, &facts), content).await?;
    Ok(transactions)
}
