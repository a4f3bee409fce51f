//! Reading packs of a point: their footers, kept while they are likely to be wanted again, and their frames.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_codec::pack::{PackReader, PackScope, TRAILER_SIZE, Trailer, pack_header};
use strongroom_codec::seal::PointKey;
use strongroom_model::point::PackRef;
use strongroom_model::{PointId, SourceName};

use crate::error::{VaultError, damaged};
use crate::layout;
use crate::open::Vault;

/// Bytes read from a pack's end at first: the footer of a full pack is about half of this, so one request does.
const TAIL: u64 = 512 << 10;

/// Footers kept: about 200 KiB each.
const KEPT: usize = 64;

/// Opens the packs of one point.
pub struct Packs {
    vault: Arc<Vault>,
    source: SourceName,
    keys: Vec<(PointId, PointKey)>,
    packs: Vec<PackRef>,
    kept: Mutex<VecDeque<(u32, Arc<PackReader>)>>,
}

impl Packs {
    pub(crate) fn new(
        vault: Arc<Vault>,
        source: SourceName,
        keys: Vec<(PointId, PointKey)>,
        packs: Vec<PackRef>,
    ) -> Packs {
        Packs { vault, source, keys, packs, kept: Mutex::default() }
    }

    /// All packs of the point, in the order a page map counts them.
    pub fn all(&self) -> &[PackRef] {
        &self.packs
    }

    /// The points that own these packs, each with its key.
    pub(crate) fn keys(&self) -> &[(PointId, PointKey)] {
        &self.keys
    }

    pub(crate) fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// The pack's key in the store.
    pub(crate) fn key(&self, pack: &PackRef) -> strongroom_store::Key {
        layout::pack(&self.source, pack)
    }

    /// The pack with this number in the point's table, opened.
    pub async fn open(&self, number: u32) -> Result<Arc<PackReader>, VaultError> {
        if let Some(reader) = self.recall(number) {
            return Ok(reader);
        }
        let pack = self.packs.get(number as usize);
        let pack = pack.ok_or_else(|| {
            VaultError::TooLarge(format!("the page map names pack {number}, which is not in the manifest"))
        })?;
        let reader = Arc::new(self.read_footer(pack).await?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((number, Arc::clone(&reader)));
        kept.truncate(KEPT);
        Ok(reader)
    }

    fn recall(&self, number: u32) -> Option<Arc<PackReader>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(kept, _)| *kept == number)?;
        let found = kept.remove(at)?;
        let reader = Arc::clone(&found.1);
        kept.push_front(found);
        Some(reader)
    }

    async fn read_footer(&self, pack: &PackRef) -> Result<PackReader, VaultError> {
        let (key, place) = (self.key(pack), self.vault.place());
        if pack.size < TRAILER_SIZE as u64 {
            return Err(damaged(key, place, "it is shorter than a pack can be".to_owned()));
        }
        let missing = |error: strongroom_store::StoreError| match error.is_not_found() {
            true => VaultError::Missing { key: key.to_string(), place: self.vault.place() },
            false => error.into(),
        };
        let tail_start = pack.size.saturating_sub(TAIL);
        let tail = self.vault.store.get_range(&key, tail_start..pack.size).await.map_err(missing)?;
        let trailer = Trailer::read(&tail[tail.len() - TRAILER_SIZE..], pack.size);
        let trailer = trailer.map_err(|why| damaged(&key, place.clone(), why.to_string()))?;
        let range = trailer.footer();
        let footer = match range.start.checked_sub(tail_start) {
            Some(start) => tail.slice(start as usize..(range.end - tail_start) as usize),
            None => self.vault.store.get_range(&key, range).await.map_err(missing)?,
        };
        let owner = self.keys.iter().find(|(point, _)| *point == pack.owner);
        let (_, point_key) =
            owner.ok_or_else(|| damaged(&key, place.clone(), "no key for its owner".to_owned()))?;
        let scope = PackScope {
            key: point_key,
            fingerprints: &self.vault.fingerprints,
            vault: &self.vault.id,
            path: key.as_str(),
        };
        // The nonce in the manifest is the one the pack was sealed with: another header does not open.
        let header = pack_header(self.vault.suite, pack.nonce).write();
        PackReader::open(scope, &header, &trailer, &footer).map_err(|why| damaged(&key, place, why))
    }
}
