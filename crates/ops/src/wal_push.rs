//! `strongroom wal push`: ship one finished WAL file. Called by the server's `archive_command`.

use std::path::Path;
use std::sync::Arc;

use strongroom_model::{Cx, SourceName, Timestamp, WalFile};
use strongroom_postgres::archive::{ArchiveError, read_finished, ready_after};
use strongroom_vault::Vault;
use strongroom_vault::journal::{JournalFacts, Shipped};
use strongroom_vault::lineage::Lineage;

use crate::error::OpsError;
use crate::lineage::{self, NewLineage};

/// Segments shipped ahead at most: those of one call of a server that has a backlog for another vault's sake.
const AHEAD: usize = 256;

/// A WAL file, read and checked by its engine.
#[derive(Debug)]
pub struct WalInput {
    /// Its name.
    pub file: WalFile,
    /// Its whole content.
    pub content: Vec<u8>,
    /// The cluster it is of.
    pub lineage: Lineage,
    /// When its first and last transaction ended.
    pub transactions: Option<(Timestamp, Timestamp)>,
}

impl WalInput {
    /// Reads and checks the file that PostgreSQL offers as `%p`.
    pub fn of_postgres(cx: &Cx, path: &Path) -> Result<WalInput, ArchiveError> {
        let finished = read_finished(path)?;
        let lineage = Lineage {
            system_id: finished.system_id,
            segment_size: finished.segment_size,
            product: finished.product,
            registered_at: cx.now(),
        };
        Ok(WalInput {
            file: finished.file,
            content: finished.content,
            lineage,
            transactions: finished.transactions,
        })
    }
}

/// Ships `input`. `Ok` only when the vault durably holds exactly this content under this name (semantics §7.1): the
/// server removes its copy then.
pub async fn wal_push(
    cx: &Cx,
    vault: &Vault,
    source: &SourceName,
    input: &WalInput,
) -> Result<Shipped, OpsError> {
    lineage::settle(cx, vault, source, &input.lineage, NewLineage::Refuse).await?;
    let facts = JournalFacts {
        name: input.file.to_string(),
        size: input.content.len() as u64,
        shipped_at: cx.now(),
        transactions: input.transactions,
    };
    Ok(vault.ship(cx, source, input.lineage.system_id, (input.file, &facts), &input.content).await?)
}

/// Ships to these vaults the segments that wait behind `input`, which lies at `path` and which another vault does not take:
/// the server offers none of them before. How many were shipped; it will offer each once more, and find it there.
pub async fn ship_waiting(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    source: &SourceName,
    (input, path): (&WalInput, &Path),
) -> Result<usize, OpsError> {
    let mut shipped = 0;
    for path in ready_after(path)?.iter().take(AHEAD) {
        cx.check()?;
        let Some(file) = path.file_name().and_then(|name| WalFile::parse(&name.to_string_lossy()).ok())
        else {
            continue;
        };
        let mut waiting = None;
        for vault in vaults {
            if vault.has_journal(source, input.lineage.system_id, file).await? {
                continue;
            }
            let waiting = match &mut waiting {
                Some(read) => read,
                none => none.insert(WalInput::of_postgres(cx, path)?),
            };
            wal_push(cx, vault, source, waiting).await?;
            shipped += 1;
        }
    }
    Ok(shipped)
}
