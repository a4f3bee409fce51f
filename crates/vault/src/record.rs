//! Records: small JSON values, each one sealed object written once.

use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_codec::header::Kind;
use strongroom_codec::stream::{StreamScope, read_record, write_record};
use strongroom_model::Cx;
use strongroom_store::{Key, PutError};

use crate::error::{VaultError, damaged};
use crate::open::Vault;

impl Vault {
    /// What streams under `key` are sealed for.
    pub(crate) fn scope<'a>(&'a self, key: &'a Key) -> StreamScope<'a> {
        StreamScope { key: &self.key, vault: &self.id, path: key.as_str() }
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
        let object = write_record(self.scope(key), kind, self.suite, cx.random(), &json);
        self.store.put_new(key, object.into()).await
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
