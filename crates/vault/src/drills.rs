//! What drills found: evidence that a state was restored, looked at and timed; kept and read.
//!
//! **Invariants**
//! - A statement counts only if its signature is this vault's, and what it speaks of is this vault and this source.
//! - The same statement under two names is one drill: who may only write could say an old one again. When a drill was, its
//!   statement says, never its name.

use std::collections::BTreeSet;

use serde::Serialize;
use strongroom_codec::manifest::{hex_bytes, to_hex};
use strongroom_codec::sign::is_signed;
use strongroom_model::drill::{Drill, SHAPE};
use strongroom_model::{Cx, SourceName};
use strongroom_store::Key;

use crate::error::VaultError;
use crate::evidence::{SignedRecord, name_of};
use crate::layout;
use crate::open::Vault;

/// A drill's record, read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrillEvidence {
    /// Its name.
    pub id: String,
    /// What it says; `None` if it does not count.
    pub drill: Option<Drill>,
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
    /// Keeps a drill's record; its name. Refused on a host that may only append, whose word would prove nothing.
    pub async fn keep_drill(&self, cx: &Cx, drill: &Drill) -> Result<String, VaultError> {
        let (month, id) = name_of(cx);
        self.keep_statement(cx, &layout::drill(&month, &id, &drill.source), drill).await?;
        Ok(id)
    }

    /// The newest records of a source's drills, oldest first: as many that count, and whatever lies between that does not. Who
    /// may only write can add rubbish, and push nothing out of sight by it.
    pub async fn drills(&self, source: &SourceName, newest: usize) -> Result<Vec<DrillEvidence>, VaultError> {
        let mut keys: Vec<Key> =
            self.list(layout::EVIDENCE).await?.into_iter().map(|object| object.key).collect();
        keys.retain(|key| layout::parse_drill(key).as_ref() == Some(source));
        keys.sort_unstable_by(|one, other| other.as_str().cmp(one.as_str()));
        let (mut records, mut seen) = (Vec::new(), BTreeSet::new());
        for key in &keys {
            if seen.len() == newest {
                break;
            }
            let record = self.signed_record(key).await?;
            let record = self.read_drill(key, record, source);
            if record.drill.is_none() || seen.insert(record.statement.clone()) {
                records.push(record);
            }
        }
        let ended_at = |record: &DrillEvidence| record.drill.as_ref().map(|drill| drill.ended_at);
        records.sort_by(|one, other| (ended_at(one), &one.id).cmp(&(ended_at(other), &other.id)));
        Ok(records)
    }

    fn read_drill(&self, key: &Key, record: Option<SignedRecord>, source: &SourceName) -> DrillEvidence {
        let name = key.last_segment();
        let id = name.split_once('.').map_or(name, |(id, _)| id).to_owned();
        let public = self.signing_key().map(|key| key.public()).unwrap_or_default();
        let public_key = to_hex(&public);
        let Some(SignedRecord { statement, signature }) = record else {
            let (statement, signature) = (String::new(), String::new());
            let wrong = Some("the record is damaged");
            return DrillEvidence { id, drill: None, wrong, statement, signature, public_key };
        };
        let bytes = hex_bytes(&signature).unwrap_or_default();
        let is_signed = match self.signs() {
            true => is_signed(&public, statement.as_bytes(), &bytes),
            false => signature.is_empty(),
        };
        let read = serde_json::from_str::<Drill>(&statement).ok();
        let vault = self.id().to_string();
        let (drill, wrong) = match read {
            _ if !self.may_read() => (None, Some("who may only append cannot check it")),
            _ if !is_signed => (None, Some("the signature is wrong")),
            None => (None, Some("the statement does not read: it may be of a newer build")),
            Some(drill) if drill.drill > SHAPE => (None, Some("the statement is of a newer build")),
            Some(drill) if drill.source != *source || drill.vault != vault => {
                (None, Some("the statement is of another source or vault"))
            }
            Some(drill) => (Some(drill), None),
        };
        DrillEvidence { id, drill, wrong, statement, signature, public_key }
    }
}
