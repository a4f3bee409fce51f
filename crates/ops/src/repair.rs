//! `strongroom verify --repair-from`: what a verification found damaged is put back from a replica.
//!
//! ```text
//! verdict ▶ records of each point ▶ the point again, if they read now ▶ its packs ▶ WAL ▶ holds, floors, evidence
//! ```
//!
//! What the replica has not whole either stays in the verdict, with the replica's answer beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use strongroom_model::{Cx, SourceName};
use strongroom_store::Key;
use strongroom_vault::copy::{CopyOptions, Copying};
use strongroom_vault::layout::parse_point;
use strongroom_vault::verify::Damage;
use strongroom_vault::{Vault, VaultError};

use crate::error::OpsError;
use crate::verify::{JournalVerdict, Verdict, VerifyRequest, lacking, verify_points};

/// What a repair came to.
#[derive(Debug, Serialize)]
pub struct Repair {
    /// The replica's place.
    pub from: String,
    /// Whether anything was written; a rehearsal only asks the replica.
    pub carried_out: bool,
    /// Objects that the replica has whole: put back, or to be.
    pub repaired: Vec<Repaired>,
    /// Objects that the replica cannot give, and why.
    pub beyond: Vec<Damage>,
}

/// An object that a replica has whole.
#[derive(Debug, Serialize)]
pub struct Repaired {
    /// Its key.
    pub object: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Takes out of `verdict` what could be put back into `vault`. An error means that one of the vaults could not be asked;
/// what was put back until then stays.
pub async fn repair(
    cx: &Cx,
    (vault, from): (&Arc<Vault>, &Arc<Vault>),
    (verdict, request): (&mut Verdict, &VerifyRequest),
    carry_out: bool,
) -> Result<Repair, OpsError> {
    let options = CopyOptions { in_flight: request.workers, read_back: true, limit: None };
    let copying = Copying::new(Arc::clone(from), Arc::clone(vault), options)?;
    let repair =
        Repair { from: from.place(), carried_out: carry_out, repaired: Vec::new(), beyond: Vec::new() };
    let mut way = Way { cx, copying, repair, mended: BTreeMap::new() };
    for point in &mut verdict.points {
        let source = point.damage.iter().find_map(source_of);
        way.mend(&mut point.damage, &|damage| damage.pack.is_none()).await?;
        if let Some(source) = source.filter(|_| carry_out) {
            // Its records may read now, and with them what it refers to.
            let again = verify_points(cx, vault, (&source, vec![point.point.clone()]), request).await?;
            for found in again.points {
                *point = found;
            }
        }
        way.mend(&mut point.damage, &|damage| damage.pack.is_some()).await?;
    }
    for journal in &mut verdict.journals {
        way.mend_journal(vault, journal).await?;
    }
    way.mend(&mut verdict.records, &|_| true).await?;
    verdict.judge();
    Ok(way.repair)
}

/// Whose record is damaged.
fn source_of(damage: &Damage) -> Option<SourceName> {
    let key = Key::new(damage.object.as_str()).ok().filter(|_| damage.pack.is_none())?;
    parse_point(&key).map(|(source, _)| source)
}

struct Way<'a> {
    cx: &'a Cx,
    copying: Copying,
    repair: Repair,
    /// Packs are shared: each is put back once. Whether it is whole now, by object.
    mended: BTreeMap<String, bool>,
}

impl Way<'_> {
    /// Mends the damage that is `wanted`, and leaves the rest.
    async fn mend(
        &mut self,
        damage: &mut Vec<Damage>,
        wanted: &(dyn Fn(&Damage) -> bool + Sync),
    ) -> Result<(), OpsError> {
        let mut left = Vec::new();
        for found in damage.drain(..) {
            if !wanted(&found) || !self.mend_one(&found).await? {
                left.push(found);
            }
        }
        *damage = left;
        Ok(())
    }

    /// Whether the object is whole now.
    async fn mend_one(&mut self, found: &Damage) -> Result<bool, OpsError> {
        if let Some(mended) = self.mended.get(&found.object) {
            return Ok(*mended);
        }
        let object = (found.object.as_str(), found.pack.as_ref());
        let mended = match self.copying.repair(self.cx, object, self.repair.carried_out).await {
            Ok(bytes) => {
                self.repair.repaired.push(Repaired { object: found.object.clone(), bytes });
                self.repair.carried_out
            }
            Err(error) if is_answer(&error) => {
                self.repair.beyond.push(Damage::of(found.object.as_str(), error.to_string()));
                false
            }
            Err(error) => return Err(error.into()),
        };
        self.mended.insert(found.object.clone(), mended);
        Ok(mended)
    }

    /// Damaged WAL is put back, and missing WAL brought, as a copy would.
    async fn mend_journal(
        &mut self,
        vault: &Arc<Vault>,
        journal: &mut JournalVerdict,
    ) -> Result<(), OpsError> {
        let was_whole = journal.damage.is_empty() && journal.inconsistent.is_empty();
        self.mend(&mut journal.damage, &|_| true).await?;
        if was_whole || !self.repair.carried_out || !journal.damage.is_empty() {
            return Ok(());
        }
        let rows = vault.points(&journal.source).await?;
        journal.inconsistent.clear();
        for lineage in vault.lineages(&journal.source).await? {
            let brought = self.copying.journal(self.cx, &journal.source, lineage.system_id).await?;
            if brought.objects > 0 {
                let object = format!("{} missing WAL files", brought.objects);
                self.repair.repaired.push(Repaired { object, bytes: brought.bytes });
            }
            journal.inconsistent.extend(lacking(vault, (&journal.source, &lineage), &rows).await?);
        }
        Ok(())
    }
}

/// Whether the replica was asked and has it not whole.
fn is_answer(error: &VaultError) -> bool {
    match error {
        VaultError::Damaged { .. }
        | VaultError::Missing { .. }
        | VaultError::NotCommitted { .. }
        | VaultError::NoSuchPoint { .. } => true,
        VaultError::Store(error) => error.is_not_found(),
        _ => false,
    }
}
