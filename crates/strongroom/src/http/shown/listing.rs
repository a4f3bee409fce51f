//! What verbs tell with `--output json`, as far as it is shown.

use std::collections::BTreeMap;

use serde::Deserialize;
use strongroom_model::drill::Trend;
use strongroom_model::point::Summary;
use strongroom_model::{Lsn, PointId, SourceName, Timestamp};
use strongroom_ops::report::rto_rpo::Trial;

/// Of one source, what `list` says of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Listed {
    /// Its points, oldest first.
    pub points: Vec<ListedPoint>,
    /// What the restorable ones lead to.
    pub windows: Vec<ListedWindow>,
    /// Points that must be thawed first, and from which class.
    #[serde(default)]
    pub frozen: BTreeMap<PointId, String>,
}

/// A point.
#[derive(Clone, Debug, Deserialize)]
pub struct ListedPoint {
    /// The point.
    pub point: PointId,
    /// Where it stands.
    #[serde(flatten)]
    pub stage: Stage,
    /// Whether retention let it go.
    pub expired: bool,
    /// Whether it is held.
    pub held: bool,
}

/// Where a point stands.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Stage {
    /// Begun and not decided.
    Undecided,
    /// Whole.
    Committed {
        /// In a few lines.
        summary: Box<Summary>,
    },
    /// Given up by its writer.
    Abandoned,
    /// Taken for dead by a sweep.
    Revoked,
    /// Its record does not read.
    Unreadable {
        /// Why.
        why: String,
    },
}

/// How far a point leads.
#[derive(Clone, Debug, Deserialize)]
pub struct ListedWindow {
    /// The point.
    pub point: PointId,
    /// The timeline followed.
    pub timeline: u32,
    /// The earliest time.
    pub from: Timestamp,
    /// The last transaction, if known.
    pub to: Option<Timestamp>,
    /// Where the first of it lies in the journal.
    pub from_lsn: Lsn,
    /// Where the journal that is there ends.
    pub to_lsn: Lsn,
    /// The segment that is missing behind it.
    pub gap: Option<String>,
}

/// Of one source, what `report rto-rpo` says of its drills.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Drilled {
    /// How many of them passed.
    #[serde(default)]
    pub passed: usize,
    /// The middle one, seconds.
    pub median_seconds: Option<f64>,
    /// The slowest, seconds.
    pub worst_seconds: Option<f64>,
    /// Where recovery times go.
    pub trend: Option<TrendSaid>,
    /// When the next one must have passed.
    pub due_at: Option<Timestamp>,
    /// The drills, oldest first.
    #[serde(default)]
    pub trials: Vec<Trial>,
    /// Records that do not count, and why.
    #[serde(default)]
    pub discounted: BTreeMap<String, String>,
}

/// Where recovery times go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", remote = "Trend")]
enum TrendWord {
    Rising,
    Steady,
    Falling,
}

/// The same, as a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TrendSaid(#[serde(with = "TrendWord")] pub Trend);

/// Of one source, what `hold list` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Held {
    /// Its holds.
    pub holds: Vec<HoldSaid>,
}

/// A hold.
#[derive(Clone, Debug, Deserialize)]
pub struct HoldSaid {
    /// What is held.
    pub point: PointId,
    /// Its beginning.
    pub placed: Placed,
    /// Its end, if it was released.
    pub released: Option<Placed>,
}

/// Why and by whom.
#[derive(Clone, Debug, Deserialize)]
pub struct Placed {
    /// For people.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// When.
    pub at: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// What `plan lint` says.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Linted {
    /// What is wrong.
    pub findings: Vec<FindingSaid>,
    /// Why nothing that was measured is reckoned with, if so.
    pub not_measured: Option<String>,
}

/// Something that is wrong with plans.
#[derive(Clone, Debug, Deserialize)]
pub struct FindingSaid {
    /// The linter's rule: `P201`.
    pub number: String,
    /// `warn` or `refuse`.
    pub severity: String,
    /// Of which plan.
    pub plan: Option<String>,
    /// Of which sources.
    pub sources: Vec<SourceName>,
    /// What is wrong.
    pub what: String,
    /// What to do instead.
    pub instead: String,
}
