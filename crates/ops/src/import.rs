//! `strongroom import`: a file that `pg_dump` made, as a recovery point.
//!
//! ```text
//! file looked at ▶ scratch server ▶ restored there, to the first error ▶ dumped from there ▶ commit ▶ scratch server gone
//! ```
//!
//! What a point of it says of its rows was counted by a server that had restored them: a file that does not restore leaves
//! none. On a crash at any place the point is undecided, and the scratch server's guard removes it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use strongroom_model::Cx;
use strongroom_model::point::Summary;
use strongroom_postgres::logical::import::{Import, ImportOptions};
use strongroom_postgres::logical::incoming::Incoming;
use strongroom_vault::Vault;

use crate::dump::{DumpRequest, dump, expect_no_journal};
use crate::error::OpsError;
use crate::restore::off_the_runtime;

/// A file that was imported.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// The point.
    pub point: Summary,
    /// The file.
    pub file: Incoming,
}

/// Reads the whole file: what it is, and whether it is whole as far as that tells. Touches nothing.
pub async fn look(cx: &Cx, file: PathBuf) -> Result<Incoming, OpsError> {
    cx.progress.begin("reading the file", 0);
    off_the_runtime(move || Ok(Incoming::look(&file).map_err(strongroom_engine::EngineError::from)?)).await
}

/// Restores the file into a server made for it, and takes a point of what came of that.
pub async fn import(
    cx: &Cx,
    vault: &Arc<Vault>,
    file: Incoming,
    (request, options): (&DumpRequest, &ImportOptions),
) -> Result<Imported, OpsError> {
    expect_no_journal(vault, &request.source).await?;
    let restored = Import::restore(cx, &file, options).await?;
    let taken = dump(cx, vault, &restored, request).await;
    restored.stop().await;
    Ok(Imported { point: taken?, file })
}
