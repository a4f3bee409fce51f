//! Sign-offs of checklists: who answered for what was asked, and what the answers were; kept and read beside other evidence.
//!
//! **Invariant**: a statement counts only if its signature is this vault's, and it speaks of this vault and this checklist. When it
//! was signed off, its statement says, never its name. What it proves is that who signed held the vault's key; the name is as they said it.

use serde::Serialize;
use strongroom_model::Cx;
use strongroom_model::checklist::{Period, SHAPE, SignOff};
use strongroom_store::Key;

use crate::error::VaultError;
use crate::evidence::{Judged, name_of};
use crate::layout;
use crate::open::Vault;

/// A sign-off's record, read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChecklistEvidence {
    /// Its name.
    pub id: String,
    /// What it says; `None` if it does not count.
    pub sign_off: Option<SignOff>,
    /// Why it does not count; `None` if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong: Option<&'static str>,
    /// Exactly what was signed; empty if that does not read.
    pub statement: String,
    /// Hexadecimal; empty if the vault does not sign.
    pub signature: String,
    /// The vault's public key, hexadecimal.
    pub public_key: String,
}

impl Vault {
    /// Keeps a sign-off; its name. Refused on a host that may only append, whose word would prove nothing.
    pub async fn keep_checklist(&self, cx: &Cx, sign_off: &SignOff) -> Result<String, VaultError> {
        let (month, id) = name_of(cx);
        self.keep_statement(cx, &layout::checklist(&month, &id, sign_off.period), sign_off).await?;
        Ok(id)
    }

    /// The newest sign-offs of a checklist, oldest first: as many that count, and whatever lies between that does not.
    pub async fn checklists(
        &self,
        period: Period,
        newest: usize,
    ) -> Result<Vec<ChecklistEvidence>, VaultError> {
        let vault = self.id().to_string();
        let is_wanted = |key: &Key| layout::parse_checklist(key) == Some(period);
        let is_of = |sign_off: &SignOff| match sign_off {
            sign_off if sign_off.checklist > SHAPE => Err("the statement is of a newer build"),
            sign_off if sign_off.period != period || sign_off.vault != vault => {
                Err("the statement is of another checklist or vault")
            }
            _ => Ok(()),
        };
        let judged = self.newest_statements(newest, is_wanted, is_of).await?;
        let mut records: Vec<ChecklistEvidence> = judged.into_iter().map(ChecklistEvidence::from).collect();
        let at = |record: &ChecklistEvidence| record.sign_off.as_ref().map(|sign_off| sign_off.at);
        records.sort_by(|one, other| (at(one), &one.id).cmp(&(at(other), &other.id)));
        Ok(records)
    }
}

impl From<Judged<SignOff>> for ChecklistEvidence {
    fn from(judged: Judged<SignOff>) -> ChecklistEvidence {
        let Judged { id, said: sign_off, wrong, statement, signature, public_key } = judged;
        ChecklistEvidence { id, sign_off, wrong, statement, signature, public_key }
    }
}
