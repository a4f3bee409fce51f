//! `strongroom sweep`: delete what nothing needs any more.

use std::sync::Arc;

use strongroom_model::{Cx, SourceName};
use strongroom_vault::Vault;
use strongroom_vault::sweep::{SweepOptions, Swept};

use crate::error::OpsError;

/// Sweeps one source, or all. A source that cannot be swept stops the command; those before it are swept.
pub async fn sweep(
    cx: &Cx,
    vault: &Arc<Vault>,
    source: Option<&SourceName>,
    options: &SweepOptions,
) -> Result<Vec<Swept>, OpsError> {
    let sources = match source {
        Some(source) => vec![known(vault, source).await?],
        None => vault.sources().await?,
    };
    let mut swept = Vec::new();
    for source in sources {
        swept.push(vault.sweep(cx, &source, options).await?);
    }
    Ok(swept)
}

/// Declares a sweep dead that did not end; `false` if there is no such sweep.
pub async fn forget(cx: &Cx, vault: &Vault, source: &SourceName, id: &str) -> Result<bool, OpsError> {
    let source = known(vault, source).await?;
    Ok(vault.forget_sweep(cx, &source, id).await?)
}

async fn known(vault: &Vault, source: &SourceName) -> Result<SourceName, OpsError> {
    match vault.sources().await?.contains(source) {
        true => Ok(source.clone()),
        false => Err(OpsError::UnknownSource(source.clone())),
    }
}
