//! Replicas: further vaults with the same id and the same key, so that objects travel between them byte for byte.
//!
//! Every block is sealed for its vault's id and its object's key path. What one vault wrote opens in another only if both
//! have the same id and key: such a vault is a replica. Its `vault.json` has the same id and suite, and a nonce of its own,
//! which tells it from the vault it was made of even when one place has two addresses. Its wrapped keys lie under a key
//! id of their own, so that those of a try that was broken off open nothing.
//!
//! Nothing below knows which of two replicas was first. Retention, tombstones and sweeps are each one's own.
//!
//! On a crash before `vault.json` there are wrapped keys nobody refers to.

use std::sync::Arc;

use bytes::Bytes;
use strongroom_codec::header::FORMAT;
use strongroom_codec::manifest::to_hex;
use strongroom_model::Cx;
use strongroom_store::Store;

use crate::error::{VaultError, written};
use crate::keys::{KeySlot, Recipient};
use crate::layout;
use crate::open::{Vault, VaultFile, live_slots};

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
        let key_id = to_hex(&cx.random::<4>());
        let slots = match recipients {
            [] => self.wrapped_keys().await?,
            recipients => {
                let mut slots = Vec::new();
                for recipient in recipients {
                    slots.push(self.wrap(cx, recipient).await?);
                }
                slots
            }
        };
        for (n, slot) in (1..).zip(slots) {
            written(store.put_new(&layout::key_slot(&key_id, n), slot.into()).await)?;
        }
        let file = VaultFile {
            format: FORMAT,
            vault: self.id.clone(),
            suite: self.suite,
            key: key_id,
            created_at: cx.now(),
            tool: tool.to_owned(),
            nonce: to_hex(&cx.random::<16>()),
            commitment: self.keys.commitment().map(|commitment| to_hex(&commitment)),
        };
        Vault::write(store, file, self.keys.clone()).await
    }

    async fn wrap(&self, cx: &Cx, recipient: &Recipient) -> Result<Bytes, VaultError> {
        let secret = self.keys.secret().ok_or_else(|| VaultError::AppendOnly { place: self.place() })?;
        let slot = KeySlot::wrap(cx, (&self.id, self.suite), &secret, recipient).await?;
        let slot = serde_json::to_vec_pretty(&slot).map_err(|why| VaultError::Recipient(why.to_string()))?;
        Ok(slot.into())
    }

    async fn wrapped_keys(&self) -> Result<Vec<Bytes>, VaultError> {
        let mut slots = Vec::new();
        for slot in live_slots(&*self.store, &self.key_id).await? {
            slots.push(self.store.get(&slot).await?);
        }
        Ok(slots)
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
        if !self.keys.is_same_vault(&other.keys) {
            return differs("it has the same id and another key".to_owned());
        }
        Ok(())
    }
}
