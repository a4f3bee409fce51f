//! Replicas: further vaults with the same id and the same key, so that objects travel between them byte for byte.
//!
//! Every block is sealed for its vault's id and its object's key path. What one vault wrote opens in another only if both
//! have the same id and key: such a vault is a replica. Its `vault.json` has the same id, suite and key id, and a nonce
//! of its own, which tells it from the vault it was made of even when one place has two addresses.
//!
//! Nothing below knows which of two replicas was first. Retention, tombstones and sweeps are each one's own.
//!
//! On a crash before `vault.json` there are wrapped keys nobody refers to; the next try writes its own beside them.

use std::sync::Arc;

use strongroom_codec::header::{FORMAT, Suite};
use strongroom_codec::manifest::to_hex;
use strongroom_model::Cx;
use strongroom_store::{PutError, Store};

use crate::error::{VaultError, written};
use crate::keys::{KeySlot, Recipient};
use crate::layout;
use crate::open::{Vault, VaultFile, list_all};

impl Vault {
    /// Makes a replica of this vault in `store`, where there is no vault yet. Its key is wrapped for `recipients`;
    /// without any it is wrapped for whoever can open this vault.
    pub async fn replicate(
        &self,
        cx: &Cx,
        store: Arc<dyn Store>,
        recipients: &[Recipient],
        tool: &str,
    ) -> Result<Vault, VaultError> {
        match store.head(&layout::vault()).await {
            Ok(_) => return Err(VaultError::AlreadyAVault { place: store.place() }),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        // An earlier try may have left wrapped keys there: ours go behind them.
        let there = list_all(&*store, &layout::keys(&self.key_id)).await?;
        let numbers = there.iter().filter_map(|slot| slot.key.last_segment().parse::<u32>().ok());
        let free = numbers.max().unwrap_or(0).saturating_add(1);
        if recipients.is_empty() && self.suite != Suite::Plain {
            self.copy_slots(&*store).await?;
        }
        for (n, recipient) in (free..).zip(recipients) {
            let slot = KeySlot::wrap(cx, &self.id, &self.key, recipient)?;
            let slot =
                serde_json::to_vec_pretty(&slot).map_err(|why| VaultError::Recipient(why.to_string()))?;
            written(store.put_new(&layout::key_slot(&self.key_id, n), slot.into()).await)?;
        }
        let file = VaultFile {
            format: FORMAT,
            vault: self.id.clone(),
            suite: self.suite,
            key: self.key_id.clone(),
            created_at: cx.now(),
            tool: tool.to_owned(),
            nonce: to_hex(&cx.random::<16>()),
        };
        Vault::write(store, file, self.key.clone()).await
    }

    async fn copy_slots(&self, store: &dyn Store) -> Result<(), VaultError> {
        for slot in list_all(&*self.store, &layout::keys(&self.key_id)).await? {
            let wrapped = self.store.get(&slot.key).await?;
            match store.put_new(&slot.key, wrapped.clone().into()).await {
                Ok(()) => {}
                Err(PutError::Exists { .. }) if store.get(&slot.key).await? == wrapped => {}
                other => written(other)?,
            }
        }
        Ok(())
    }

    /// Whether objects travel between this vault and `other`; if not, why.
    pub fn check_replica(&self, other: &Vault) -> Result<(), VaultError> {
        let differs =
            |why: String| Err(VaultError::NotAReplica { place: self.place(), of: other.place(), why });
        if self.id != other.id {
            return differs(format!("it is another vault, {} and not {}", self.id, other.id));
        }
        if self.nonce == other.nonce {
            return Err(VaultError::SamePlace { place: self.place(), other: other.place() });
        }
        if self.suite != other.suite || self.key != other.key {
            return differs("it has the same id and another key".to_owned());
        }
        Ok(())
    }
}
