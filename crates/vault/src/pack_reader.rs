//! Reading packs of a point: their footers, kept while they are likely to be wanted again, and their frames.
//!
//! A reader that may go on with replicas asks them for what its own vault has lost or damaged: objects are the same
//! byte for byte, so any replica's range will do, and what it gives is checked like any other. A vault that did not
//! answer once is asked last from then on: waiting for it anew at every range would take days.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use strongroom_codec::keys::PointKey;
use strongroom_codec::pack::{PackReader, PackScope, TRAILER_SIZE, Trailer, pack_header};
use strongroom_model::point::PackRef;
use strongroom_model::{PointId, SourceName};
use strongroom_store::Key;

use crate::error::{VaultError, damaged};
use crate::layout;
use crate::open::Vault;
use crate::pace::Pace;

/// Bytes read from a pack's end at first: the footer of a full pack is about half of this, so one request does.
const TAIL: u64 = 512 << 10;

/// Footers kept at most, and their bytes: about 200 KiB each if it is files that the packs hold, up to 2 MiB if streams.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 16 << 20;

/// Opens the packs of one point.
pub struct Packs {
    vault: Arc<Vault>,
    source: SourceName,
    keys: Vec<(PointId, PointKey)>,
    packs: Vec<PackRef>,
    kept: Mutex<VecDeque<(u32, Arc<PackReader>)>>,
    replicas: Vec<Arc<Vault>>,
    lent: Arc<Mutex<Lent>>,
    silent: Silent,
    traffic: Arc<Traffic>,
}

/// What is fetched of packs, all in all.
#[derive(Default)]
struct Traffic {
    bytes: AtomicU64,
    /// How fast; set once, before the first range.
    pace: OnceLock<Pace>,
}

impl Traffic {
    async fn turn(&self, range: &Range<u64>) {
        if let Some(pace) = self.pace.get() {
            pace.turn(range.end - range.start).await;
        }
    }

    fn count(&self, bytes: &Bytes) {
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

/// Why the point's own vault did not answer, once a replica did in its place.
type Silent = Arc<OnceLock<String>>;

/// Which objects came from a replica, by its place.
type Lent = BTreeMap<String, BTreeSet<String>>;

impl Packs {
    pub(crate) fn new(
        vault: Arc<Vault>,
        source: SourceName,
        keys: Vec<(PointId, PointKey)>,
        packs: Vec<PackRef>,
    ) -> Packs {
        let (kept, lent, silent) = (Mutex::default(), Arc::default(), Arc::default());
        let traffic = Arc::default();
        Packs { vault, source, keys, packs, kept, replicas: Vec::new(), lent, silent, traffic }
    }

    /// Goes on with these when a pack is missing or damaged.
    pub(crate) fn go_on_with(&mut self, replicas: Vec<Arc<Vault>>) {
        self.replicas = replicas;
    }

    /// Fetches no more than so many bytes a second from here on. What was set first holds.
    pub(crate) fn limit(&self, bytes_per_second: u64) {
        let _ = self.traffic.pace.set(Pace::new(bytes_per_second));
    }

    /// Bytes of packs that were fetched so far, footers included.
    pub fn fetched(&self) -> u64 {
        self.traffic.bytes.load(Ordering::Relaxed)
    }

    /// How many packs a replica had to help out with, by its place.
    pub fn lent(&self) -> BTreeMap<String, usize> {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        lent.iter().map(|(place, keys)| (place.clone(), keys.len())).collect()
    }

    /// What fetches ranges of a pack, for a task of its own.
    pub(crate) fn lender(&self, pack: &PackRef) -> Lender {
        Lender {
            key: self.key(pack),
            size: pack.size,
            vault: Arc::clone(&self.vault),
            replicas: self.replicas.clone(),
            lent: Arc::clone(&self.lent),
            silent: Arc::clone(&self.silent),
            traffic: Arc::clone(&self.traffic),
        }
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
    pub(crate) fn key(&self, pack: &PackRef) -> Key {
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
        let reader = Arc::new(self.read_footer_anywhere(pack).await?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((number, Arc::clone(&reader)));
        let mut bytes = 0;
        let fits = kept.iter().take(KEPT).take_while(|(_, reader)| {
            bytes += reader.bytes();
            bytes <= KEPT_BYTES
        });
        let fits = fits.count().max(1);
        kept.truncate(fits);
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

    async fn read_footer_anywhere(&self, pack: &PackRef) -> Result<PackReader, VaultError> {
        let lender = self.lender(pack);
        if let Some(why) = lender.silent.get()
            && let Some(reader) = self.read_footer_elsewhere(pack, &lender, why).await
        {
            return Ok(reader);
        }
        let error = match self.read_footer(&self.vault, pack).await {
            Err(error) if error.is_of_this_place() => error,
            answer => return answer,
        };
        let Some(reader) = self.read_footer_elsewhere(pack, &lender, &error).await else { return Err(error) };
        lender.remember(&error);
        Ok(reader)
    }

    async fn read_footer_elsewhere(
        &self,
        pack: &PackRef,
        lender: &Lender,
        error: &(impl Display + Sync),
    ) -> Option<PackReader> {
        for replica in &self.replicas {
            match self.read_footer(replica, pack).await {
                Ok(reader) => {
                    lender.note(replica, error);
                    return Some(reader);
                }
                Err(second) => tracing::warn!("{second}"),
            }
        }
        None
    }

    async fn read_footer(&self, vault: &Vault, pack: &PackRef) -> Result<PackReader, VaultError> {
        let (key, place) = (self.key(pack), vault.place());
        if pack.size < TRAILER_SIZE as u64 {
            return Err(damaged(key, place, "it is shorter than a pack can be".to_owned()));
        }
        let tail_start = pack.size.saturating_sub(TAIL);
        self.traffic.turn(&(tail_start..pack.size)).await;
        let tail = read_range(vault, &key, tail_start..pack.size, pack.size).await?;
        self.traffic.count(&tail);
        let trailer = Trailer::read(&tail[tail.len() - TRAILER_SIZE..], pack.size);
        let trailer = trailer.map_err(|why| damaged(&key, place.clone(), why.to_string()))?;
        let range = trailer.footer();
        let footer = match range.start.checked_sub(tail_start) {
            Some(start) => tail.slice(start as usize..(range.end - tail_start) as usize),
            None => {
                self.traffic.turn(&range).await;
                let footer = read_range(vault, &key, range, pack.size).await?;
                self.traffic.count(&footer);
                footer
            }
        };
        let owner = self.keys.iter().find(|(point, _)| *point == pack.owner);
        let (_, point_key) =
            owner.ok_or_else(|| damaged(&key, place.clone(), "no key for its owner".to_owned()))?;
        let scope = PackScope {
            key: &vault.keys.open_point(point_key),
            fingerprints: &vault.fingerprints,
            vault: &vault.id,
            path: key.as_str(),
        };
        // The nonce in the manifest is the one the pack was sealed with: another header does not open.
        let header = pack_header(vault.suite, pack.nonce).write();
        PackReader::open(scope, &header, &trailer, &footer).map_err(|why| damaged(&key, place, why))
    }
}

/// A range of a pack, or what is wrong with the pack if it cannot be had.
async fn read_range(vault: &Vault, key: &Key, range: Range<u64>, size: u64) -> Result<Bytes, VaultError> {
    let error = match vault.store.get_range(key, range).await {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error,
    };
    if error.is_not_found() {
        return Err(VaultError::Missing { key: key.to_string(), place: vault.place() });
    }
    // Who does not answer would not answer this either.
    if error.is_passing() {
        return Err(error.into());
    }
    // A range beyond the end is the store's to refuse; that the end is not where it was is the pack's damage.
    match vault.store.head(key).await {
        Ok(head) if head.size != size => {
            Err(damaged(key, vault.place(), format!("it has {} bytes instead of {size}", head.size)))
        }
        _ => Err(error.into()),
    }
}

/// Fetches ranges of one pack: from its vault, else from a replica.
pub(crate) struct Lender {
    key: Key,
    size: u64,
    vault: Arc<Vault>,
    replicas: Vec<Arc<Vault>>,
    lent: Arc<Mutex<Lent>>,
    silent: Silent,
    traffic: Arc<Traffic>,
}

impl Lender {
    /// The range; from a replica if its vault has it not, or does not answer.
    pub(crate) async fn fetch(&self, range: Range<u64>) -> Result<Bytes, VaultError> {
        self.traffic.turn(&range).await;
        let bytes = self.fetch_anywhere(range).await?;
        self.traffic.count(&bytes);
        Ok(bytes)
    }

    async fn fetch_anywhere(&self, range: Range<u64>) -> Result<Bytes, VaultError> {
        if let Some(why) = self.silent.get()
            && let Some(bytes) = self.fetch_elsewhere(range.clone(), why).await.into_iter().next()
        {
            return Ok(bytes);
        }
        let error = match read_range(&self.vault, &self.key, range.clone(), self.size).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        let helped = self.fetch_elsewhere(range, &error).await.into_iter().next();
        let Some(bytes) = helped else { return Err(error) };
        self.remember(&error);
        Ok(bytes)
    }

    /// From now on replicas are asked first, if it was no answer that `error` tells of.
    fn remember(&self, error: &VaultError) {
        if matches!(error, VaultError::Store(error) if error.is_passing()) {
            let _ = self.silent.set(error.to_string());
        }
    }

    /// The range as every replica has it that answers; `error` is why its vault's own will not do.
    pub(crate) async fn fetch_elsewhere(
        &self,
        range: Range<u64>,
        error: &(impl Display + Sync),
    ) -> Vec<Bytes> {
        let mut found = Vec::new();
        for replica in &self.replicas {
            match replica.store.get_range(&self.key, range.clone()).await {
                Ok(bytes) => {
                    self.note(replica, error);
                    found.push(bytes);
                }
                Err(second) => tracing::warn!("{second}"),
            }
        }
        found
    }

    fn note(&self, replica: &Vault, error: &impl Display) {
        let (place, key) = (replica.place(), self.key.to_string());
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        if lent.entry(place.clone()).or_default().insert(key) {
            tracing::warn!("going on with {place}: {error}");
        }
    }
}
