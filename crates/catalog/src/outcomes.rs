//! What the newest jobs came to: what alerts and metrics are made of.

use std::collections::BTreeMap;

use strongroom_model::{SourceName, Timestamp};

use crate::catalog::{Catalog, CatalogError};
use crate::history::{COLUMNS, Reader, read_job};
use crate::job::{Job, Kind, State};

impl Catalog {
    /// Of each source, kind and vault the newest job that came to an end, or was begun and is to be tried again.
    pub async fn newest_ends(&self) -> Result<Vec<Job>, CatalogError> {
        let sql = format!(
            "select {COLUMNS} from jobs where id in (
               select max(id) from jobs
               where state in ('done', 'failed', 'expired') or (state = 'queued' and attempt > 0) or (state = 'leased' and attempt > 1)
               group by source, kind, vault)
             order by id"
        );
        self.rows("look what jobs came to", sql, []).await?.iter().map(|row| read_job(self, row)).collect()
    }

    /// When jobs of this kind were last done, by source.
    pub async fn last_done(&self, kind: Kind) -> Result<BTreeMap<SourceName, Timestamp>, CatalogError> {
        let sql = "select source, max(ended_at) from jobs
             where kind = $1 and state = 'done' and source is not null and ended_at is not null group by source";
        let rows = self.rows("look what was done", sql, [kind.word().into()]).await?;
        let read = |row| {
            let mut reader = Reader::of(self, row);
            let source = reader.text("source")?;
            Ok((reader.source(source)?, reader.time("ended_at")?))
        };
        rows.iter().map(read).collect()
    }

    /// The sources of which a job of this kind is under way.
    pub async fn under_way(&self, kind: Kind) -> Result<Vec<SourceName>, CatalogError> {
        let sql =
            "select distinct source from jobs where kind = $1 and state = 'leased' and source is not null";
        let rows = self.rows("look what is under way", sql, [kind.word().into()]).await?;
        let read = |row| {
            let mut reader = Reader::of(self, row);
            let source = reader.text("source")?;
            reader.source(source)
        };
        rows.iter().map(read).collect()
    }

    /// How many jobs stand how, by kind.
    pub async fn counts(&self) -> Result<BTreeMap<(Kind, State), i64>, CatalogError> {
        let rows = self
            .rows("count jobs", "select kind, state, count(*) from jobs group by kind, state", [])
            .await?;
        let read = |row| {
            let mut reader = Reader::of(self, row);
            Ok(((reader.word("kind")?, reader.word("state")?), reader.number("count")?))
        };
        rows.iter().map(read).collect()
    }
}
