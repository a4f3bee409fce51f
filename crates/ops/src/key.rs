//! `strongroom key`: for whom the vault's key is wrapped.

use serde::Serialize;
use strongroom_model::Cx;
use strongroom_vault::recipients::{Proof, RecipientRow, Scope};
use strongroom_vault::{Recipient, Unlock, Vault};

use crate::error::OpsError;

/// What the key-loss drill came to.
#[derive(Debug, Serialize)]
pub struct KeyDrill {
    /// Every recipient, and whether it was proven.
    pub recipients: Vec<(RecipientRow, Proof)>,
    /// The sealed object that was read with the key; `None` if the vault has none yet.
    pub read: Option<String>,
}

impl KeyDrill {
    /// Whether at least one recipient was proven to open everything, none is worthless, and an object was read.
    pub fn is_passed(&self) -> bool {
        let worthless = |(_, proof): &(RecipientRow, Proof)| *proof == Proof::Worthless;
        self.proven() > 0 && !self.recipients.iter().any(worthless) && self.read.is_some()
    }

    /// How many were proven.
    pub fn proven(&self) -> usize {
        self.recipients.iter().filter(|(_, proof)| *proof == Proof::Proven).count()
    }
}

/// Proves, of every recipient that can be tried with what was given, that it opens the vault.
pub async fn check(vault: &Vault, unlock: &Unlock) -> Result<KeyDrill, OpsError> {
    let recipients = vault.prove_recipients(unlock).await?;
    let read = vault.reads_a_sealed_object().await?;
    Ok(KeyDrill { recipients, read })
}

/// Puts a new recipient, which opens as much, in the place of another: the new one first, so that there is no moment without.
pub async fn rotate(
    cx: &Cx,
    vault: &Vault,
    old: u32,
    (new, label): (&Recipient, Option<String>),
) -> Result<u32, OpsError> {
    let known = vault.recipients().await?;
    let Some(replaced) = known.iter().find(|row| row.number == old) else {
        return Err(OpsError::UnknownRecipient(old));
    };
    let scope = if replaced.append_only { Scope::AppendOnly } else { Scope::Whole };
    let number = vault.add_recipient(cx, (new, scope), label).await?;
    vault.remove_recipient(cx, old, (&Unlock::default(), Some(number))).await?;
    Ok(number)
}
