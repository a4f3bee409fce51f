//! Records: small JSON values, each one sealed object written once.
//!
//! Those by which something may go — tombstones, floors, ends of holds and of sweeps — carry a proof that their writer has the vault key,
//! where the suite divides keys: what a host wrote that may only append lets nothing go.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strongroom_codec::header::Kind;
use strongroom_codec::manifest::to_hex;
use strongroom_codec::stream::{StreamScope, read_record, write_record};
use strongroom_model::Cx;
use strongroom_store::{Key, PutError};

use crate::error::{VaultError, damaged, written};
use crate::layout;
use crate::open::Vault;

/// What is wrong with a record at whose word nothing goes.
pub(crate) const FORGED: &str = "it is forged: whoever wrote it may not let anything go";

/// A record with its writer's proof.
#[derive(Serialize, Deserialize)]
struct Proven<T> {
    #[serde(flatten)]
    record: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
}

impl Vault {
    /// What streams under `key` are sealed for.
    pub(crate) fn scope<'a>(&'a self, key: &'a Key) -> StreamScope<'a> {
        let (suite, key, path) = (self.suite, self.keys.append_key(), key.as_str());
        StreamScope { suite, key, vault: &self.id, path }
    }

    /// Writes `value` under `key`, if the key is free.
    pub(crate) async fn put_record<T: Serialize>(
        &self,
        cx: &Cx,
        key: &Key,
        kind: Kind,
        value: &T,
    ) -> Result<(), PutError> {
        // Our own values: plain structs and enums with string keys, which JSON cannot refuse.
        let json =
            serde_json::to_vec(value).unwrap_or_else(|why| unreachable!("{kind:?} is not JSON: {why}"));
        let object = write_record(self.scope(key), kind, cx.random(), &json);
        self.store.put_new(key, object.into()).await
    }

    /// Writes a record by which something may go. Refused on a host that may only append; [`VaultError::Taken`] if there is one.
    pub(crate) async fn put_proven<T: Serialize>(
        &self,
        cx: &Cx,
        key: &Key,
        kind: Kind,
        record: &T,
    ) -> Result<(), VaultError> {
        self.check_may_read()?;
        let proof = self.keys.proof(&self.proven_name(key)).map(|proof| to_hex(&proof));
        match written(self.put_record(cx, key, kind, &Proven { record, proof }).await) {
            Err(VaultError::Taken { .. }) if !self.is_proven(key, kind).await? => {
                Err(damaged(key, self.place(), FORGED.to_owned()))
            }
            result => result,
        }
    }

    /// What a proof is for. Holds and their ends travel between replicas; all else that lets go is one vault's own word, which
    /// must not count in another.
    fn proven_name(&self, key: &Key) -> String {
        match layout::kind(key) {
            Some(Kind::Hold) => key.to_string(),
            _ => format!("{key}@{}", self.nonce),
        }
    }

    /// Whether something may go at this record's word. Who may only append cannot tell, and takes it at its word.
    pub(crate) async fn is_proven(&self, key: &Key, kind: Kind) -> Result<bool, VaultError> {
        let Some(proof) = self.keys.proof(&self.proven_name(key)) else { return Ok(true) };
        match self.get_record::<Proven<serde_json::Value>>(key, kind).await {
            Ok(Some(record)) if record.proof == Some(to_hex(&proof)) => return Ok(true),
            Ok(_) | Err(VaultError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        tracing::warn!("{key} in {} is damaged or forged: nothing goes on its account", self.place());
        Ok(false)
    }

    /// Reads the value under `key`; `None` if there is none.
    pub(crate) async fn get_record<T: DeserializeOwned>(
        &self,
        key: &Key,
        kind: Kind,
    ) -> Result<Option<T>, VaultError> {
        let object = match self.store.get(key).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let json =
            read_record(self.scope(key), kind, &object).map_err(|why| damaged(key, self.place(), why))?;
        serde_json::from_slice(&json).map(Some).map_err(|why| damaged(key, self.place(), why.to_string()))
    }
}
