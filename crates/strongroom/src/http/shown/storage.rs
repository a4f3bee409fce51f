//! What is stored, how it grows, and what keeping it costs by a price list that carries its date.

use serde::Serialize;
use strongroom_model::price::PriceList;
use strongroom_model::tier::StorageClass;
use strongroom_model::{SourceName, Timestamp};

use super::Sight;

/// Days in a month, on average.
const MONTH: f64 = 365.25 / 12.0;

/// A source's part of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredLine {
    /// The source.
    pub source: SourceName,
    /// Points that can be restored.
    pub points: u64,
    /// Bytes of the source, in its newest point.
    pub bytes: Option<u64>,
    /// The same of points before, oldest first.
    pub sizes: Vec<u64>,
    /// Bytes that all its points added to the vault.
    pub stored: u64,
    /// Bytes that the newest one added.
    pub added: Option<u64>,
    /// What a month of that costs.
    pub a_month: Option<f64>,
}

/// Where prices come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PriceNote {
    /// When they were looked up.
    pub date: String,
    /// Where.
    pub source: String,
    /// For which region.
    pub region: String,
    /// In which currency.
    pub currency: String,
    /// In which class packs are counted.
    pub class: String,
    /// The vault is elsewhere: this is what it would cost there.
    pub is_elsewhere: bool,
}

/// What is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Storage {
    /// When this was made.
    pub at: Timestamp,
    /// When the vault was read.
    pub read_at: Option<Timestamp>,
    /// Why that may no longer hold; `None` if it does.
    pub stale: Option<String>,
    /// Bytes that points of these sources added to the vault; `None` if it was never read.
    pub stored: Option<u64>,
    /// Bytes that are expected.
    pub expected: Option<u64>,
    /// What a month of it costs.
    pub a_month: Option<f64>,
    /// By which prices; `None` if none fit.
    pub prices: Option<PriceNote>,
    /// The largest first.
    pub sources: Vec<StoredLine>,
}

/// What is stored of sources that `may_see` lets be seen.
pub fn storage(
    sight: Sight<'_>,
    prices: Option<&PriceList>,
    may_see: impl Fn(&SourceName) -> bool,
) -> Storage {
    let class = sight.settings.vault.classes.packs.unwrap_or(StorageClass::Standard);
    let cost = |bytes: u64| prices?.keeping(class, bytes, MONTH);
    let reading = sight.snapshot.and_then(|snapshot| snapshot.reading.as_ref());
    let said = reading.into_iter().flat_map(|reading| &reading.sources).filter(|(name, _)| may_see(name));
    let mut sources: Vec<StoredLine> = said
        .map(|(name, said)| StoredLine {
            source: name.clone(),
            points: reading.map_or(0, |reading| reading.held(name).points),
            bytes: said.sizes.last().copied(),
            sizes: said.sizes.clone(),
            stored: said.stored_bytes,
            added: said.last_point_stored_bytes,
            a_month: cost(said.stored_bytes),
        })
        .collect();
    sources.sort_by(|one, other| (other.stored, &one.source).cmp(&(one.stored, &other.source)));
    let stored = reading.map(|_| sources.iter().map(|line| line.stored).sum::<u64>());
    let note = prices.filter(|prices| prices.class.contains_key(&class)).map(|prices| PriceNote {
        date: prices.date.to_string(),
        source: prices.source.clone(),
        region: prices.region.clone(),
        currency: prices.currency.clone(),
        class: class.to_string(),
        is_elsewhere: !sight.settings.vault.url.as_deref().is_some_and(|url| url.starts_with("s3://")),
    });
    Storage {
        at: sight.now,
        read_at: sight.read_at(),
        stale: sight.staleness(),
        stored,
        expected: sight.settings.watch.expected_storage.map(|expected| expected.0),
        a_month: stored.and_then(cost),
        prices: note,
        sources,
    }
}
