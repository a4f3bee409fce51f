//! For whom the vault key is wrapped: listed, added, removed, and proven to open.
//!
//! A wrapped key is an object of its own, written once. Removing one puts a second object beside it, which every opening
//! honours from then on; nothing is rewritten. What a removal cannot do is make anybody forget: whoever opened the vault
//! before may have kept its key.
//!
//! On a crash a recipient is added or not, removed or not. In an exchange the new one is added first.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use strongroom_codec::header::Suite;
use strongroom_model::{Cx, Timestamp};
use strongroom_store::PutError;

use crate::error::VaultError;
use crate::keys::{KeySlot, Recipient, Unlock};
use crate::layout;
use crate::open::{Vault, live_slots};

/// A recipient as it lies in the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecipientRow {
    /// Its number.
    pub number: u32,
    /// `passphrase`, the age recipient, or the service and its key; `None` if it does not read.
    pub kind: Option<String>,
    /// What people call it.
    pub label: Option<String>,
    /// When it was added, by the clock of whoever did; unknown for those of `init` before version 0.2.
    pub added_at: Option<Timestamp>,
    /// Whether it says that it opens no more than is needed to append.
    pub append_only: bool,
}

/// How much a recipient opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Whole,
    /// What is needed to append points and WAL; nothing that they hold.
    AppendOnly,
}

/// Whether a recipient was proven to open the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// Its copy was unwrapped and is the key that opened a sealed object of this vault.
    Proven,
    /// The same, of a copy that may only append: no restore comes of it.
    ProvenToAppend,
    /// Nothing was given that could open it.
    NotTried,
    /// What was given for its kind does not open it.
    DoesNotOpen,
    /// It wraps another key than this vault's, or none: rubbish, or forged.
    Worthless,
}

/// A wrapped key as stored: the copy, and what people want to know of it.
#[derive(Serialize, Deserialize)]
struct SlotFile {
    #[serde(flatten)]
    slot: KeySlot,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    added_at: Option<Timestamp>,
    /// For people: what the copy opens, only its opening shows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    append_only: bool,
}

/// Why and when a recipient was removed.
#[derive(Serialize, Deserialize)]
struct Removal {
    at: Timestamp,
}

impl Vault {
    /// Everybody the key is wrapped for, by number.
    pub async fn recipients(&self) -> Result<Vec<RecipientRow>, VaultError> {
        Ok(self.slot_files().await?.into_iter().map(|(number, file)| row(number, file.as_ref())).collect())
    }

    /// Wraps the key for one more recipient, or as much of it as `scope` says; its number.
    pub async fn add_recipient(
        &self,
        cx: &Cx,
        (recipient, scope): (&Recipient, Scope),
        label: Option<String>,
    ) -> Result<u32, VaultError> {
        if self.suite == Suite::Plain {
            let why = "this vault is not encrypted: there is no key to wrap";
            return Err(VaultError::Recipient(why.into()));
        }
        let secret = match scope {
            Scope::Whole => {
                self.keys.secret().ok_or_else(|| VaultError::AppendOnly { place: self.place() })?
            }
            Scope::AppendOnly => self.keys.append_secret().ok_or_else(|| {
                let place = self.place();
                VaultError::Recipient(format!(
                    "the vault in {place} was made before keys were divided: whoever opens it reads everything"
                ))
            })?,
        };
        let slot = KeySlot::wrap(cx, (&self.id, self.suite), &secret, recipient).await?;
        let append_only = scope == Scope::AppendOnly;
        let file = SlotFile { slot, label, added_at: Some(cx.now()), append_only };
        self.put_slot(&file).await
    }

    /// Stores a wrapped key under the lowest free number: one that a stranger took at the end of all numbers is in nobody's way.
    async fn put_slot(&self, file: &SlotFile) -> Result<u32, VaultError> {
        let json = serde_json::to_vec_pretty(file).map_err(|why| VaultError::Recipient(why.to_string()))?;
        let taken = self.list(&layout::keys(&self.key_id)).await?;
        let taken: BTreeSet<u32> =
            taken.iter().filter_map(|object| number_of(object.key.last_segment())).collect();
        for number in (1..=u32::MAX).filter(|number| !taken.contains(number)) {
            match self.store.put_new(&layout::key_slot(&self.key_id, number), json.clone().into()).await {
                Ok(()) => return Ok(number),
                // Somebody else adds one at the same time.
                Err(PutError::Exists { .. }) => {}
                Err(PutError::Store(error)) => return Err(error.into()),
            }
        }
        Err(VaultError::TooLarge("every number a recipient can have is taken".into()))
    }

    /// Removes a recipient, if another one is proven to open the whole vault: by `unlock`, or as the one just added. What merely lies
    /// there is no proof, for anybody who may write could have put it there.
    ///
    /// Of two removals at once that rely on each other's recipient, each looks again after its own, and at least one sees that
    /// nobody is left: it puts its recipient back, under a new number, and says so.
    pub async fn remove_recipient(
        &self,
        cx: &Cx,
        number: u32,
        (unlock, added): (&Unlock, Option<u32>),
    ) -> Result<(), VaultError> {
        let slots = self.slot_files().await?;
        self.check_may_read()?;
        let Some((_, file)) = slots.iter().find(|(other, _)| *other == number) else {
            return Err(VaultError::Recipient(format!("the vault has no recipient {number}")));
        };
        // Nothing is lost with one that could not read.
        let append_only = file.as_ref().is_some_and(|file| file.append_only);
        if !append_only && !self.is_another_proven(&slots, number, (unlock, added)).await? {
            return Err(VaultError::LastRecipient { number });
        }
        let json = serde_json::to_vec_pretty(&Removal { at: cx.now() })
            .map_err(|why| VaultError::Recipient(why.to_string()))?;
        match self.store.put_new(&layout::key_removed(&self.key_id, number), json.into()).await {
            Ok(()) | Err(PutError::Exists { .. }) => {}
            Err(PutError::Store(error)) => return Err(error.into()),
        }
        if append_only || self.is_another_proven(&self.slot_files().await?, number, (unlock, added)).await? {
            return Ok(());
        }
        if let Some(file) = file {
            self.put_slot(file).await?;
        }
        Err(VaultError::LastRecipient { number })
    }

    async fn is_another_proven(
        &self,
        slots: &[(u32, Option<SlotFile>)],
        number: u32,
        (unlock, added): (&Unlock, Option<u32>),
    ) -> Result<bool, VaultError> {
        for (other, file) in slots.iter().filter(|(other, _)| *other != number) {
            let opened = match file {
                Some(file) if Some(*other) == added => return Ok(!file.append_only),
                Some(file) => file.slot.unwrap((&self.id, self.suite), unlock).await?,
                None => None,
            };
            if opened.is_some_and(|keys| keys.vault_key().is_some() && keys.is_same_vault(&self.keys)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The key-loss drill: unwraps every copy that can be unwrapped with what was given. That the key they are compared with is
    /// the vault's, [`Vault::reads_a_sealed_object`] shows.
    pub async fn prove_recipients(&self, unlock: &Unlock) -> Result<Vec<(RecipientRow, Proof)>, VaultError> {
        let mut proofs = Vec::new();
        for (number, file) in self.slot_files().await? {
            let proof = match &file {
                None => Proof::Worthless,
                Some(file) if !file.slot.is_tried_by(unlock) => Proof::NotTried,
                Some(file) => match file.slot.unwrap((&self.id, self.suite), unlock).await? {
                    Some(keys) if !keys.is_same_vault(&self.keys) => Proof::Worthless,
                    Some(keys) if keys.vault_key().is_some() => Proof::Proven,
                    Some(_) => Proof::ProvenToAppend,
                    None => Proof::DoesNotOpen,
                },
            };
            proofs.push((row(number, file.as_ref()), proof));
        }
        Ok(proofs)
    }

    /// Reads one sealed object of any source, which shows that the key is the vault's. `None` if there is none yet.
    pub async fn reads_a_sealed_object(&self) -> Result<Option<String>, VaultError> {
        for source in self.sources().await? {
            if let Some(object) = self.list(&layout::lineages(&source)).await?.first() {
                self.lineages(&source).await?;
                return Ok(Some(object.key.to_string()));
            }
        }
        Ok(None)
    }

    async fn slot_files(&self) -> Result<Vec<(u32, Option<SlotFile>)>, VaultError> {
        let mut slots = Vec::new();
        for key in live_slots(&*self.store, &self.key_id).await? {
            let Some(number) = number_of(key.last_segment()) else { continue };
            let bytes = self.store.get(&key).await?;
            slots.push((number, serde_json::from_slice(&bytes).ok()));
        }
        slots.sort_by_key(|(number, _)| *number);
        Ok(slots)
    }
}

/// The number in a copy's name, spelled as it is written: `+1` and `01` are nobody's, and so cannot pass for 1.
fn number_of(name: &str) -> Option<u32> {
    let digits = name.split('.').next()?;
    digits.parse().ok().filter(|number: &u32| number.to_string() == digits)
}

fn row(number: u32, file: Option<&SlotFile>) -> RecipientRow {
    RecipientRow {
        number,
        kind: file.map(|file| file.slot.shown()),
        label: file.and_then(|file| file.label.clone()),
        added_at: file.and_then(|file| file.added_at),
        append_only: file.is_some_and(|file| file.append_only),
    }
}

#[cfg(test)]
mod tests {
    use super::number_of;

    #[test]
    fn only_the_written_spelling_is_a_number() {
        assert_eq!((number_of("1"), number_of("12.removed")), (Some(1), Some(12)));
        for name in ["+1", "01", "", "x", "4294967296"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
