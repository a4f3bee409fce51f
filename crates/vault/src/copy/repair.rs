//! Repair: an object that the target lost, or that was damaged there, is put back from its replica, byte for byte.
//!
//! ```text
//! the replica's object ▶ is it what was committed? ▶ the damaged one goes ▶ put_new ▶ read back
//! ```
//!
//! Nothing goes before what replaces it is in hand and proven: a manifest by the hash in the decision, a pack by the hash
//! in a manifest, anything else by opening it to its end under the key it is sealed for. So a key gets the bytes it was
//! committed with, and I3 holds. On a crash in between, the object is missing, and the next repair puts it back.
//!
//! Replacing takes the right to delete, which writers do not have; putting back what is missing does not.

use strongroom_model::point::Decision;

use super::*;

impl Copying {
    /// Puts an object back; its size in bytes. `pack` is what a pack was committed as. Without `carry_out` the replica's
    /// object is only proven.
    pub async fn repair(
        &self,
        cx: &Cx,
        (object, pack): (&str, Option<&PackRef>),
        carry_out: bool,
    ) -> Result<u64, VaultError> {
        cx.check()?;
        self.from.check_may_read()?;
        let unknown = |why: &str| damaged(object, self.to.place(), why.to_owned());
        let key = Key::new(object).map_err(|why| unknown(&why.to_string()))?;
        let bytes = match (pack, layout::kind(&key)) {
            (Some(pack), _) => self.proven_pack(&key, pack).await?,
            // A vault's own word, which no other may give for it.
            (None, Some(Kind::Tombstone | Kind::Floor)) if self.to.suite.divides_keys() => {
                return Err(unknown(
                    "what a vault let go is its own word: delete the object, and let go again",
                ));
            }
            (None, Some(Kind::Manifest)) => self.proven_manifest(&key).await?,
            (None, Some(Kind::Decision)) => self.proven_decision(&key).await?,
            (None, Some(kind)) => self.depart(&key, kind).await?,
            (None, None) => return Err(unknown("nothing says what it was")),
        };
        if carry_out {
            self.put_back(&key, &bytes).await?;
        }
        Ok(bytes.len() as u64)
    }

    /// By the target's own decision, or, if that is gone as well, by the replica's.
    async fn proven_manifest(&self, key: &Key) -> Result<Bytes, VaultError> {
        let (source, point) = layout::parse_point(key).ok_or_else(|| self.not_as_committed(key))?;
        let decision = match self.to.decision(&source, &point).await {
            Err(error) if error.is_of_this_place() => self.from.decision(&source, &point).await?,
            decision => decision?,
        };
        let Some(Decision::Commit { manifest_hash, .. }) = decision else {
            return Err(self.not_as_committed(key));
        };
        let object = self.take(key).await?;
        match to_hex(&object_hash(self.from.suite, &object)) == manifest_hash {
            true => Ok(object),
            false => Err(self.not_as_committed(key)),
        }
    }

    /// Only a commit whose manifest reads: how a point ended otherwise is each vault's own affair.
    async fn proven_decision(&self, key: &Key) -> Result<Bytes, VaultError> {
        let (source, point) = layout::parse_point(key).ok_or_else(|| self.not_as_committed(key))?;
        self.from.open_point(&source, &point).await?;
        self.depart(key, Kind::Decision).await
    }

    /// Whether a put was refused is not asked: a damaged object of the same size and header passes for our own earlier try.
    async fn put_back(&self, key: &Key, object: &Bytes) -> Result<(), VaultError> {
        for is_in_the_way in [false, true] {
            if is_in_the_way {
                self.to.store.delete(key).await?;
            }
            match self.to.store.put_new(key, object.clone().into()).await {
                Ok(()) | Err(PutError::Exists { .. }) => {}
                Err(PutError::Store(error)) => return Err(error.into()),
            }
            if self.to.store.get(key).await? == *object {
                return Ok(());
            }
        }
        Err(damaged(key, self.to.place(), "it was read back with other bytes".to_owned()))
    }
}
