//! Evidence: what was verified, when, how deep, and how it came out; how long restores took; and, in [`crate::drills`] and
//! [`crate::checklists`], what drills found and who signed a checklist off. Append-only, in the vault itself, so that neither a
//! lost host nor a rebuilt catalog forgets it; signed, so that an auditor can check a record without the vault.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strongroom_codec::header::{Kind, Suite};
use strongroom_codec::manifest::{hex_bytes, to_hex};
use strongroom_codec::sign::{SigningKey, is_signed};
use strongroom_model::estimate::Measure;
use strongroom_model::{Cx, PointId, SourceName, Timestamp};
use strongroom_store::Key;

use crate::error::{VaultError, written};
use crate::layout;
use crate::open::Vault;
use crate::verify::Depth;

/// One run of `verify` over a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The vault's id, as text.
    pub vault: String,
    /// What was verified.
    pub source: SourceName,
    /// How much was read.
    pub depth: Depth,
    /// By the verifier's clock.
    pub began_at: Timestamp,
    /// By the verifier's clock.
    pub ended_at: Timestamp,
    /// On which host.
    pub host: String,
    /// By which build: `strongroom 0.1.0`.
    pub tool: String,
    /// Bytes read from packs.
    pub bytes: u64,
    /// Points whose records read to their end.
    pub points: Vec<PointId>,
    /// Packs that are as they were committed: by owner, half-open ranges of numbers.
    pub good: BTreeMap<PointId, Vec<(u32, u32)>>,
    /// Packs that were not reached.
    pub left: u64,
    /// Objects that are not as they should be.
    pub damage: Vec<String>,
}

/// How long a restore took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreMeasure {
    /// The vault's id, as text.
    pub vault: String,
    /// What was restored.
    pub source: SourceName,
    /// From which point.
    pub point: PointId,
    /// By the restoring host's clock.
    pub began_at: Timestamp,
    /// By which build: `strongroom 0.1.0`.
    pub tool: String,
    /// What was measured.
    #[serde(flatten)]
    pub measure: Measure,
}

/// A record as it lies in the vault.
#[derive(Serialize, Deserialize)]
pub(crate) struct SignedRecord {
    /// The statement's exact bytes.
    pub(crate) statement: String,
    /// Hexadecimal; empty in a vault without encryption, whose key everybody knows.
    pub(crate) signature: String,
}

/// A statement that was read, and whether it counts.
pub(crate) struct Judged<T> {
    /// The record's name.
    pub(crate) id: String,
    /// What it says; `None` if it does not count.
    pub(crate) said: Option<T>,
    /// Why it does not count; `None` if it does.
    pub(crate) wrong: Option<&'static str>,
    /// Exactly what was signed; empty if that does not read.
    pub(crate) statement: String,
    /// Hexadecimal; empty if the vault does not sign.
    pub(crate) signature: String,
    /// The vault's public key, hexadecimal.
    pub(crate) public_key: String,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Its name.
    pub id: String,
    /// What it says.
    pub verification: Verification,
    /// Exactly what was signed.
    pub statement: String,
    /// Hexadecimal; empty if the vault does not sign.
    pub signature: String,
    /// The vault's public key, hexadecimal.
    pub public_key: String,
    /// Whether the signature is this vault's.
    pub signed: bool,
}

impl Vault {
    /// Keeps a record; its name. Refused on a host that may only append, whose word would prove nothing.
    pub async fn keep_evidence(&self, cx: &Cx, verification: &Verification) -> Result<String, VaultError> {
        let (month, id) = name_of(cx);
        self.keep_statement(cx, &layout::evidence(&month, &id), verification).await?;
        Ok(id)
    }

    /// Keeps what a restore took; refused as [`Vault::keep_evidence`] is.
    pub async fn keep_measure(&self, cx: &Cx, measure: &RestoreMeasure) -> Result<String, VaultError> {
        let (month, id) = name_of(cx);
        self.keep_statement(cx, &layout::measure(&month, &id, &measure.source), measure).await?;
        Ok(id)
    }

    pub(crate) async fn keep_statement<T: Serialize>(
        &self,
        cx: &Cx,
        key: &Key,
        statement: &T,
    ) -> Result<(), VaultError> {
        // A plain struct with string keys, which JSON cannot refuse.
        let statement = serde_json::to_string(statement)
            .unwrap_or_else(|why| unreachable!("a statement is not JSON: {why}"));
        self.check_may_read()?;
        let signature = match self.signing_key() {
            None => String::new(),
            Some(signer) => to_hex(&signer.sign(statement.as_bytes())),
        };
        written(self.put_record(cx, key, Kind::Evidence, &SignedRecord { statement, signature }).await)
    }

    /// Whether this vault signs: in one without encryption everybody could.
    pub fn signs(&self) -> bool {
        self.suite != Suite::Plain
    }

    /// `None` in a vault without encryption, and on a host that may only append.
    pub(crate) fn signing_key(&self) -> Option<SigningKey> {
        self.keys.vault_key().filter(|_| self.signs()).map(|key| SigningKey::of(key, self.suite))
    }

    /// Every record of a verification that reads, oldest first. One that does not is no evidence; `verify` names it.
    pub async fn evidence(&self) -> Result<Vec<Evidence>, VaultError> {
        let public = self.signing_key().map(|key| key.public()).unwrap_or_default();
        let mut records = Vec::new();
        for object in self.list(layout::EVIDENCE).await? {
            let is_of_source =
                layout::parse_measure(&object.key).or(layout::parse_drill(&object.key)).is_some();
            if is_of_source || layout::parse_checklist(&object.key).is_some() {
                continue;
            }
            let Some(SignedRecord { statement, signature }) = self.signed_record(&object.key).await? else {
                continue;
            };
            let Ok(verification) = serde_json::from_str(&statement) else { continue };
            let bytes = hex_bytes(&signature).unwrap_or_default();
            let signed = is_signed(&public, statement.as_bytes(), &bytes);
            let (id, public_key) = (object.key.last_segment().to_owned(), to_hex(&public));
            records.push(Evidence { id, verification, statement, signature, public_key, signed });
        }
        Ok(records)
    }

    /// What the newest restores of a source took, at most so many of them, oldest first. What does not read, or is not
    /// signed where the vault signs, was not measured.
    pub async fn measures(
        &self,
        source: &SourceName,
        newest: usize,
    ) -> Result<Vec<RestoreMeasure>, VaultError> {
        let public = self.signing_key().map(|key| key.public()).unwrap_or_default();
        let mut keys: Vec<Key> =
            self.list(layout::EVIDENCE).await?.into_iter().map(|object| object.key).collect();
        keys.retain(|key| layout::parse_measure(key).as_ref() == Some(source));
        keys.sort_unstable_by(|one, other| other.as_str().cmp(one.as_str()));
        let mut measures = Vec::new();
        for key in keys.iter().take(newest) {
            let Some(SignedRecord { statement, signature }) = self.signed_record(key).await? else {
                continue;
            };
            let bytes = hex_bytes(&signature).unwrap_or_default();
            if self.signs() && !is_signed(&public, statement.as_bytes(), &bytes) {
                continue;
            }
            let Ok(measure) = serde_json::from_str::<RestoreMeasure>(&statement) else { continue };
            if measure.source == *source {
                measures.push(measure);
            }
        }
        measures.reverse();
        Ok(measures)
    }

    /// The newest statements under the keys that are wanted, newest first: as many that count, and whatever lies between that does
    /// not. Who may only write can add rubbish, and push nothing out of sight by it. `is_of` says why one is not of what was asked.
    pub(crate) async fn newest_statements<T: DeserializeOwned>(
        &self,
        newest: usize,
        is_wanted: impl Fn(&Key) -> bool,
        is_of: impl Fn(&T) -> Result<(), &'static str>,
    ) -> Result<Vec<Judged<T>>, VaultError> {
        let mut keys: Vec<Key> =
            self.list(layout::EVIDENCE).await?.into_iter().map(|object| object.key).collect();
        keys.retain(is_wanted);
        keys.sort_unstable_by(|one, other| other.as_str().cmp(one.as_str()));
        let (mut records, mut seen) = (Vec::new(), BTreeSet::new());
        for key in &keys {
            if seen.len() == newest {
                break;
            }
            let record = self.judged(key, self.signed_record(key).await?, &is_of);
            // The same statement under two names was signed once.
            if record.said.is_none() || seen.insert(record.statement.clone()) {
                records.push(record);
            }
        }
        Ok(records)
    }

    fn judged<T: DeserializeOwned>(
        &self,
        key: &Key,
        record: Option<SignedRecord>,
        is_of: impl Fn(&T) -> Result<(), &'static str>,
    ) -> Judged<T> {
        let name = key.last_segment();
        let id = name.split_once('.').map_or(name, |(id, _)| id).to_owned();
        let public = self.signing_key().map(|key| key.public()).unwrap_or_default();
        let public_key = to_hex(&public);
        let Some(SignedRecord { statement, signature }) = record else {
            let (statement, signature) = (String::new(), String::new());
            let wrong = Some("the record is damaged");
            return Judged { id, said: None, wrong, statement, signature, public_key };
        };
        let bytes = hex_bytes(&signature).unwrap_or_default();
        let is_signed = match self.signs() {
            true => is_signed(&public, statement.as_bytes(), &bytes),
            false => signature.is_empty(),
        };
        let said = match serde_json::from_str::<T>(&statement) {
            _ if !self.may_read() => Err("who may only append cannot check it"),
            _ if !is_signed => Err("the signature is wrong"),
            Err(_) => Err("the statement does not read: it may be of a newer build"),
            Ok(said) => is_of(&said).map(|()| said),
        };
        let (said, wrong) = match said {
            Ok(said) => (Some(said), None),
            Err(why) => (None, Some(why)),
        };
        Judged { id, said, wrong, statement, signature, public_key }
    }

    /// `None` if it does not read, or is gone.
    pub(crate) async fn signed_record(&self, key: &Key) -> Result<Option<SignedRecord>, VaultError> {
        match self.get_record(key, Kind::Evidence).await {
            Err(VaultError::Damaged { .. }) => Ok(None),
            result => result,
        }
    }
}

/// A new record's month and id.
pub(crate) fn name_of(cx: &Cx) -> (String, String) {
    let now = cx.now();
    (now.0.strftime("%Y-%m").to_string(), format!("{}-{}", now.compact(), to_hex(&cx.random::<4>())))
}
