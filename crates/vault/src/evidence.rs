//! Evidence: what was verified, when, how deep, and how it came out. Append-only, in the vault itself, so that neither a
//! lost host nor a rebuilt catalog forgets it; signed, so that an auditor can check a record without the vault.

use serde::{Deserialize, Serialize};
use strongroom_codec::header::{Kind, Suite};
use strongroom_codec::manifest::{hex_bytes, to_hex};
use strongroom_codec::sign::{SigningKey, is_signed};
use strongroom_model::{Cx, PointId, SourceName, Timestamp};

use std::collections::BTreeMap;

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

/// A record as it lies in the vault.
#[derive(Serialize, Deserialize)]
struct SignedRecord {
    /// The statement's exact bytes.
    statement: String,
    /// Hexadecimal; empty in a vault without encryption, whose key everybody knows.
    signature: String,
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
        // A plain struct with string keys, which JSON cannot refuse.
        let statement = serde_json::to_string(verification)
            .unwrap_or_else(|why| unreachable!("a verification is not JSON: {why}"));
        self.check_may_read()?;
        let signature = match self.signing_key() {
            None => String::new(),
            Some(key) => to_hex(&key.sign(statement.as_bytes())),
        };
        let now = cx.now();
        let id = format!("{}-{}", now.compact(), to_hex(&cx.random::<4>()));
        let month = now.0.strftime("%Y-%m").to_string();
        let key = layout::evidence(&month, &id);
        let record = SignedRecord { statement, signature };
        written(self.put_record(cx, &key, Kind::Evidence, &record).await)?;
        Ok(id)
    }

    /// Whether this vault signs: in one without encryption everybody could.
    pub fn signs(&self) -> bool {
        self.suite != Suite::Plain
    }

    /// `None` in a vault without encryption, and on a host that may only append.
    fn signing_key(&self) -> Option<SigningKey> {
        self.keys.vault_key().filter(|_| self.signs()).map(|key| SigningKey::of(key, self.suite))
    }

    /// Every record that reads, oldest first. One that does not is no evidence; `verify` names it.
    pub async fn evidence(&self) -> Result<Vec<Evidence>, VaultError> {
        let public = self.signing_key().map(|key| key.public()).unwrap_or_default();
        let mut records = Vec::new();
        for object in self.list(layout::EVIDENCE).await? {
            let record = match self.get_record::<SignedRecord>(&object.key, Kind::Evidence).await {
                Ok(Some(record)) => record,
                Ok(None) | Err(VaultError::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            };
            let SignedRecord { statement, signature } = record;
            let Ok(verification) = serde_json::from_str(&statement) else { continue };
            let bytes = hex_bytes(&signature).unwrap_or_default();
            let signed = is_signed(&public, statement.as_bytes(), &bytes);
            let (id, public_key) = (object.key.last_segment().to_owned(), to_hex(&public));
            records.push(Evidence { id, verification, statement, signature, public_key, signed });
        }
        Ok(records)
    }
}
