//! Sign-offs of checklists: who answered for what was asked, and what the answers were; kept and read beside other evidence.
//!
//! **Invariant**: a statement counts only if its signature is this vault's, and it speaks of this vault and this checklist. When it was signed off,
//! its statement says, never its name. What it proves is that who signed held the vault's key; the name is as they said it.

use std::collections::BTreeSet;

use serde::Serialize;
use strongroom_codec::manifest::{hex_bytes, to_hex};
use strongroom_codec::sign::is_signed;
use strongroom_model::Cx;
use strongroom_model::checklist::{Period, SHAPE, SignOff};
use strongroom_store::Key;

use crate::error::VaultError;
use crate::evidence::{SignedRecord, name_of};
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
        let mut keys: Vec<Key> =
            self.list(layout::EVIDENCE).await?.into_iter().map(|object| object.key).collect();
        keys.retain(|key| layout::parse_checklist(key) == Some(period));
        keys.sort_unstable_by(|one, other| other.as_str().cmp(one.as_str()));
        let (mut records, mut seen) = (Vec::new(), BTreeSet::new());
        for key in &keys {
            if seen.len() == newest {
                break;
            }
            let record = self.signed_record(key).await?;
            let record = self.read_sign_off(key, record, period);
            // The same statement under two names was signed once.
            if record.sign_off.is_none() || seen.insert(record.statement.clone()) {
                records.push(record);
            }
        }
        let at = |record: &ChecklistEvidence| record.sign_off.as_ref().map(|sign_off| sign_off.at);
        records.sort_by(|one, other| (at(one), &one.id).cmp(&(at(other), &other.id)));
        Ok(records)
    }

    fn read_sign_off(&self, key: &Key, record: Option<SignedRecord>, period: Period) -> ChecklistEvidence {
        let name = key.last_segment();
        let id = name.split_once('.').map_or(name, |(id, _)| id).to_owned();
        let public = self.signing_key().map(|key| key.public()).unwrap_or_default();
        let public_key = to_hex(&public);
        let Some(SignedRecord { statement, signature }) = record else {
            let (statement, signature) = (String::new(), String::new());
            let wrong = Some("the record is damaged");
            return ChecklistEvidence { id, sign_off: None, wrong, statement, signature, public_key };
        };
        let bytes = hex_bytes(&signature).unwrap_or_default();
        let is_signed = match self.signs() {
            true => is_signed(&public, statement.as_bytes(), &bytes),
            false => signature.is_empty(),
        };
        let read = serde_json::from_str::<SignOff>(&statement).ok();
        let (sign_off, wrong) = match read {
            _ if !self.may_read() => (None, Some("who may only append cannot check it")),
            _ if !is_signed => (None, Some("the signature is wrong")),
            None => (None, Some("the statement does not read: it may be of a newer build")),
            Some(read) if read.checklist > SHAPE => (None, Some("the statement is of a newer build")),
            Some(read) if read.period != period || read.vault != self.id().to_string() => {
                (None, Some("the statement is of another checklist or vault"))
            }
            Some(read) => (Some(read), None),
        };
        ChecklistEvidence { id, sign_off, wrong, statement, signature, public_key }
    }
}
