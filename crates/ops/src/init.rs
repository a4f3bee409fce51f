//! `strongroom init`: make a vault.

use std::sync::Arc;

use serde::Serialize;
use strongroom_model::{Cx, VaultId};
use strongroom_store::Store;
use strongroom_vault::{Recipient, Suite, Vault};

use crate::error::OpsError;

/// A vault that was made.
#[derive(Debug, Serialize)]
pub struct Made {
    /// Its id.
    pub vault: VaultId,
    /// Where it is.
    pub place: String,
    /// How its objects are protected.
    pub suite: Suite,
    /// Wrapped copies of its key.
    pub key_copies: usize,
    /// The vault itself: what opens it may be on another host.
    #[serde(skip)]
    pub opened: Arc<Vault>,
}

/// Makes a replica of `original` in `store`; its key is wrapped for every recipient, or if there is none for whoever
/// opens the original. Refuses a place that holds a vault.
pub async fn replicate(
    cx: &Cx,
    original: &Vault,
    store: Arc<dyn Store>,
    recipients: &[Recipient],
    tool: &str,
) -> Result<Made, OpsError> {
    let vault = original.replicate(cx, store, recipients, tool).await?;
    let key_copies = vault.key_slots().await?;
    let (id, place, suite) = (vault.id().clone(), vault.place(), vault.suite());
    Ok(Made { vault: id, place, suite, key_copies, opened: Arc::new(vault) })
}

/// Makes a vault in `store`; the key is wrapped for every recipient. Refuses a place that holds one.
pub async fn init(
    cx: &Cx,
    store: Arc<dyn Store>,
    suite: Suite,
    recipients: &[Recipient],
    tool: &str,
) -> Result<Made, OpsError> {
    let vault = Vault::create(cx, store, suite, recipients, tool).await?;
    let (id, place, key_copies) = (vault.id().clone(), vault.place(), vault.key_slots().await?);
    Ok(Made { vault: id, place, suite, key_copies, opened: Arc::new(vault) })
}
