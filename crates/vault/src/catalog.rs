//! What a vault holds, derived from listings and the small records; nothing here is kept anywhere else.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use strongroom_codec::header::Kind;
use strongroom_model::point::{Decision, Intent, PointState, Summary};
use strongroom_model::{PointId, SourceName, SystemId, WalFile};
use strongroom_store::Key;

use crate::error::VaultError;
use crate::layout::{self, PointPart};
use crate::open::Vault;

/// Small records asked for at a time: what hides a network's delay without being a burden to the store.
pub(crate) const RECORDS_AT_ONCE: usize = 32;

/// A recovery point as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PointRow {
    /// The point.
    pub point: PointId,
    /// Where it stands.
    #[serde(flatten)]
    pub state: PointState,
    /// Whether retention let it go.
    pub expired: bool,
    /// Whether it is held.
    pub held: bool,
}

impl PointRow {
    /// The summary of a point that can be restored; `None` for every other state.
    pub fn restorable(&self) -> Option<&Summary> {
        match &self.state {
            PointState::Committed { summary } if !self.expired => Some(summary),
            _ => None,
        }
    }
}

impl Vault {
    /// Every source that has anything in this vault.
    pub async fn sources(&self) -> Result<Vec<SourceName>, VaultError> {
        let mut sources = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.list(layout::SOURCES, after.as_ref()).await?;
            let Some(first) = page.objects.first() else { return Ok(sources) };
            let name = first.key.as_str().split('/').nth(1).unwrap_or_default();
            sources.extend(name.parse::<SourceName>());
            // '0' follows '/' in ASCII: the next listing begins behind everything of this source.
            after = Key::new(format!("{}/{name}0", layout::SOURCES)).ok();
        }
    }

    /// The source's points, oldest first. A point whose record does not read is listed as such: who may only write must not
    /// be able to make the others unusable.
    pub async fn points(&self, source: &SourceName) -> Result<Vec<PointRow>, VaultError> {
        let rows = futures::stream::iter(self.point_parts(source).await?)
            .map(|(point, parts)| self.point_row(source, point, parts))
            .buffered(RECORDS_AT_ONCE);
        let rows: Vec<Option<PointRow>> = rows.try_collect().await?;
        let held = self.held(source).await?;
        let hold = |row: PointRow| {
            let held = held.contains(&row.point);
            PointRow { held, expired: row.expired && !held, ..row }
        };
        Ok(rows.into_iter().flatten().map(hold).collect())
    }

    async fn point_row(
        &self,
        source: &SourceName,
        point: PointId,
        parts: Vec<String>,
    ) -> Result<Option<PointRow>, VaultError> {
        let has = |part: PointPart| parts.iter().any(|name| name == part.name());
        let state = match has(PointPart::Decision) {
            true => {
                self.decision(source, &point).await.map(|decision| decision.map(PointState::from_decision))
            }
            false => {
                let intent = self.intent(source, &point).await;
                intent.map(|intent| intent.map(|intent| PointState::Undecided { intent }))
            }
        };
        let state = match state {
            Err(error) => match &error {
                VaultError::Damaged { key, .. } => {
                    Some(PointState::Unreadable { object: key.clone(), why: error.to_string() })
                }
                _ => return Err(error),
            },
            Ok(state) => state,
        };
        let expired = has(PointPart::Expired) && {
            let tombstone = layout::point_part(source, &point, PointPart::Expired);
            self.is_proven(&tombstone, Kind::Tombstone).await?
        };
        // A folder with packs only: a copy brought them, and the points that refer to them say so.
        Ok(state.map(|state| PointRow { expired, held: false, point, state }))
    }

    /// The names of what each of the source's points consists of, without its packs.
    pub(crate) async fn point_parts(
        &self,
        source: &SourceName,
    ) -> Result<BTreeMap<PointId, Vec<String>>, VaultError> {
        let mut parts: BTreeMap<PointId, Vec<String>> = BTreeMap::new();
        let folder = layout::points(source);
        let mut after = None;
        loop {
            let page = self.store.list(&folder, after.as_ref()).await?;
            for object in &page.objects {
                let rest = object.key.as_str().get(folder.len() + 1..).unwrap_or_default();
                if let Some((id, part)) = rest.split_once('/')
                    && !part.contains('/')
                    && let Ok(id) = id.parse()
                {
                    parts.entry(id).or_default().push(part.to_owned());
                }
            }
            // A big point has many packs, which sort last: the next listing begins behind them ('0' follows '/').
            after = match (
                page.next,
                page.objects.last().and_then(|last| last.key.as_str().rsplit_once("/packs/")),
            ) {
                (None, _) => return Ok(parts),
                (Some(_), Some((point, _))) => Key::new(format!("{point}/packs0")).ok(),
                (next, None) => next,
            };
        }
    }

    /// The point's decision, if it was decided.
    pub async fn decision(
        &self,
        source: &SourceName,
        point: &PointId,
    ) -> Result<Option<Decision>, VaultError> {
        self.get_record(&layout::point_part(source, point, PointPart::Decision), Kind::Decision).await
    }

    /// What the point's writer said before it stored anything; `None` if it is not there.
    pub async fn intent(&self, source: &SourceName, point: &PointId) -> Result<Option<Intent>, VaultError> {
        self.get_record(&layout::point_part(source, point, PointPart::Intent), Kind::Intent).await
    }

    /// Every WAL file of a lineage, in order of key.
    pub async fn journal_files(
        &self,
        source: &SourceName,
        lineage: SystemId,
    ) -> Result<Vec<WalFile>, VaultError> {
        let (mut files, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.names(&layout::wal(source, lineage), after.as_ref()).await?;
            files.extend(
                page.objects.iter().filter_map(|object| WalFile::parse_kept(object.key.last_segment()).ok()),
            );
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(files),
            }
        }
    }
}
