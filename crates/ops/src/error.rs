//! Why a verb did not do what it was asked.

use std::path::PathBuf;

use strongroom_engine::EngineError;
use strongroom_model::drill::ChoiceError;
use strongroom_model::entry::EntryPath;
use strongroom_model::restore_plan::PlanError;
use strongroom_model::retention::RetentionError;
use strongroom_model::{ByteSize, Cancelled, Lsn, PointId, SourceName, SystemId, Timeline, WalSegment};
use strongroom_postgres::archive::ArchiveError;
use strongroom_postgres::launch::LaunchError;
use strongroom_vault::VaultError;
use strongroom_vault::verify::LostPages;

/// What stopped a verb.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// A WAL file cannot be read, or is not what it should be.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The source, or the place restored into.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Nothing can be restored as asked.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Nothing can be drawn.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// A restored server did not get where it should.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// What the engine wrote of a point does not read.
    #[error("read what recovery point {point} says of its server: {why}")]
    Facts {
        /// The point.
        point: PointId,
        /// What does not fit.
        why: String,
    },
    /// The disk would be full before the drill is over.
    #[error("restore into {}: {free} are free, and a drill of this point needs {needed}", place.display())]
    NoRoom {
        /// The drill's folder.
        place: PathBuf,
        /// Bytes free there.
        free: ByteSize,
        /// Bytes needed.
        needed: ByteSize,
    },
    /// The source has been another cluster so far.
    #[error("source {source_name} is registered as system {registered}, and this is system {found}")]
    OtherLineage {
        /// The source.
        source_name: SourceName,
        /// The newest registered lineage.
        registered: SystemId,
        /// What was found.
        found: SystemId,
    },
    /// The source has been dumped so far, and WAL, or a copy of files that needs it, has no place beside that.
    #[error("source {source_name} is dumped: a dump shows one moment, and no WAL leads on from it")]
    Dumped {
        /// The source.
        source_name: SourceName,
    },
    /// The source has WAL: it is no database that is dumped.
    #[error(
        "source {source_name} is registered as system {registered}, whose files and WAL are backed up: it cannot be dumped as well"
    )]
    NotDumped {
        /// The source.
        source_name: SourceName,
        /// The newest registered lineage.
        registered: SystemId,
    },
    /// A dump lacks what is to be restored of it.
    #[error("recovery point {point} has no part {part}, which its restore needs")]
    PartMissing {
        /// The point.
        point: PointId,
        /// The part's path.
        part: EntryPath,
    },
    /// The journal a copy needs did not arrive.
    #[error(
        "wait for WAL of source {source_name}: {missing} did not reach the vault within {waited_s} s{trouble}"
    )]
    JournalMissing {
        /// The source.
        source_name: SourceName,
        /// The first missing segment.
        missing: WalSegment,
        /// How long was waited, in seconds.
        waited_s: u64,
        /// What the server says, with a leading `; `, or empty.
        trouble: String,
    },
    /// A timeline's history was lost: the server must not take that for the end of history.
    #[error(
        "source {source_name}: the history of timeline {timeline} is missing from the vault, and what came after it is there"
    )]
    HistoryMissing {
        /// The source.
        source_name: SourceName,
        /// The timeline.
        timeline: Timeline,
    },
    /// What retention says cannot be meant.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// Someone took, expired or held a point since the plan was made.
    #[error("the vault changed since the plan for source {source_name} was made; nothing was let go")]
    PlanChanged {
        /// The source.
        source_name: SourceName,
    },
    /// Retention alone lets go of a point that can be restored.
    #[error("let go recovery point {point}: {why}")]
    NotToLetGo {
        /// The point.
        point: PointId,
        /// A clause.
        why: &'static str,
    },
    /// Retention let go the WAL that a point being written begins with.
    #[error(
        "back up source {source_name}: it begins in WAL segment {first}, and retention has let WAL go below {floor}"
    )]
    BelowFloor {
        /// The source.
        source_name: SourceName,
        /// Where the point begins.
        first: WalSegment,
        /// The first segment that stays.
        floor: WalSegment,
    },
    /// No such recipient.
    #[error("the vault has no recipient {0}")]
    UnknownRecipient(u32),
    /// The source was never backed up nor shipped anything into this vault.
    #[error("the vault holds nothing of source {0}")]
    UnknownSource(SourceName),
    /// A standby that lags, or a server that lost WAL: it will catch up, or be replaced.
    #[error(
        "receive WAL of source {source_name}: the server is at {server}, behind {wanted}, where the vault ends"
    )]
    ServerBehind {
        /// The source.
        source_name: SourceName,
        /// How far the server is.
        server: Lsn,
        /// Where receiving goes on.
        wanted: Lsn,
    },
    /// A server that a promotion left behind.
    #[error(
        "receive WAL of source {source_name}: the server is on timeline {found}, which does not come from timeline {followed}"
    )]
    OtherTimeline {
        /// The source.
        source_name: SourceName,
        /// The server's.
        found: Timeline,
        /// The one received so far.
        followed: Timeline,
    },
    /// A worker thread panicked: a broken invariant of ours.
    #[error("a worker stopped on a broken invariant: {0}")]
    Worker(String),
    /// Pages that no vault has whole.
    #[error("recovery point {point} is not whole: pages of {} files are in no vault", lost.len())]
    LostPages {
        /// The point.
        point: PointId,
        /// Which pages.
        lost: Vec<LostPages>,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// An error and its causes on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
