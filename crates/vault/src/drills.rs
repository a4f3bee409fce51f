//! What drills found: evidence that a state was restored, looked at and timed; kept and read.
//!
//! **Invariants**
//! - A statement counts only if its signature is this vault's, and what it speaks of is this vault and this source.
//! - The same statement under two names is one drill: who may only write could say an old one again. When a drill was, its
//!   statement says, never its name.

use serde::Serialize;
use strongroom_model::drill::{Drill, SHAPE};
use strongroom_model::{Cx, SourceName};
use strongroom_store::Key;

use crate::error::VaultError;
use crate::evidence::{Judged, name_of};
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

    /// The newest records of a source's drills, oldest first: as many that count, and whatever lies between that does not.
    pub async fn drills(&self, source: &SourceName, newest: usize) -> Result<Vec<DrillEvidence>, VaultError> {
        let vault = self.id().to_string();
        let is_wanted = |key: &Key| layout::parse_drill(key).as_ref() == Some(source);
        let is_of = |drill: &Drill| match drill {
            drill if drill.drill > SHAPE => Err("the statement is of a newer build"),
            drill if drill.source != *source || drill.vault != vault => {
                Err("the statement is of another source or vault")
            }
            _ => Ok(()),
        };
        let judged = self.newest_statements(newest, is_wanted, is_of).await?;
        let mut records: Vec<DrillEvidence> = judged.into_iter().map(DrillEvidence::from).collect();
        let ended_at = |record: &DrillEvidence| record.drill.as_ref().map(|drill| drill.ended_at);
        records.sort_by(|one, other| (ended_at(one), &one.id).cmp(&(ended_at(other), &other.id)));
        Ok(records)
    }
}

impl From<Judged<Drill>> for DrillEvidence {
    fn from(judged: Judged<Drill>) -> DrillEvidence {
        let Judged { id, said: drill, wrong, statement, signature, public_key } = judged;
        DrillEvidence { id, drill, wrong, statement, signature, public_key }
    }
}
