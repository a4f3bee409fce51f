//! `strongroom report cost`: what a vault's objects cost to keep, by class; what they would cost in another, or kept for longer or shorter.
//!
//! Bytes are those of the bucket's own listing; prices those of a list that carries its date. What is in neither is named, and reckoned with nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use strongroom_model::price::PriceList;
use strongroom_model::tier::{StorageClass, ThawSpeed};
use strongroom_store::Custody;
use strongroom_store::custody::VersionsFrom;
use strongroom_vault::{Vault, VaultError};

use crate::error::OpsError;

/// Days of a month, on average.
const MONTH: f64 = 365.25 / 12.0;

/// What lies in one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lot {
    /// How many objects, older versions of them among these.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, bytes of older versions, and of what counts as deleted.
    pub old_bytes: u64,
}

/// What a vault holds, by storage class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Holdings {
    /// By class.
    pub classes: BTreeMap<StorageClass, Lot>,
    /// In classes of other names, which no list has.
    pub unknown: BTreeMap<String, Lot>,
    /// Whether the store says in which class objects are. A folder does not: all of it is reckoned as STANDARD.
    pub is_told: bool,
}

impl Holdings {
    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.classes.values().chain(self.unknown.values()).map(|lot| lot.bytes).sum()
    }

    fn lot(&mut self, class: &str) -> &mut Lot {
        match class.parse() {
            Ok(class) => self.classes.entry(class).or_default(),
            // S3 leaves the word out of what is in its usual class.
            Err(_) if class.is_empty() => self.classes.entry(StorageClass::Standard).or_default(),
            Err(_) => self.unknown.entry(class.to_owned()).or_default(),
        }
    }
}

/// Counts every object of the vault, and of a bucket every version that is still paid for.
pub async fn holdings(vault: &Vault, custody: Option<Arc<dyn Custody>>) -> Result<Holdings, OpsError> {
    let mut holdings = Holdings { is_told: custody.is_some(), ..Holdings::default() };
    let Some(custody) = custody else {
        for head in vault.list("").await? {
            let lot = holdings.lot("");
            lot.objects += 1;
            lot.bytes += head.size;
        }
        return Ok(holdings);
    };
    let (mut from, mut last) = (None::<VersionsFrom>, None);
    loop {
        let page = custody.versions("", from.as_ref()).await.map_err(VaultError::from)?;
        for version in &page.versions {
            let Some(size) = version.size else {
                last = Some(version.key.clone());
                continue;
            };
            let lot = holdings.lot(&version.class);
            lot.objects += 1;
            lot.bytes += size;
            // Of each object the newest comes first.
            if last.replace(version.key.clone()).as_ref() == Some(&version.key) {
                lot.old_bytes += size;
            }
        }
        from = match page.next {
            Some(next) => Some(next),
            None => return Ok(holdings),
        };
    }
}

/// What a month costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Month {
    /// To keep what is there; `None` if a class has no price in the list.
    pub keeping: Option<f64>,
    /// To put what is new; `None` if nobody knows how much that is.
    pub putting: Option<f64>,
}

impl Month {
    /// All that is known.
    pub fn total(&self) -> Option<f64> {
        Some(self.keeping? + self.putting.unwrap_or(0.0))
    }
}

/// What this costs a month, with so many objects put in that time.
pub fn month(holdings: &Holdings, prices: &PriceList, puts: Option<u64>) -> Month {
    let lots = holdings.classes.iter();
    let each = lots.map(|(class, lot)| prices.keeping(*class, lot.bytes, MONTH));
    let keeping = each.sum::<Option<f64>>().filter(|_| holdings.unknown.is_empty());
    let put_into = holdings.classes.keys().min().copied().unwrap_or(StorageClass::Standard);
    Month { keeping, putting: puts.and_then(|puts| prices.putting(put_into, puts)) }
}

/// The same objects in one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct InClass {
    /// Which.
    pub class: StorageClass,
    /// To keep them for a month.
    pub keeping: f64,
    /// To move them there, once.
    pub moving: Option<f64>,
    /// Days that each pays for at least.
    pub minimum_days: u32,
    /// To thaw `thawed` bytes of them; `None` if they can be read at once.
    pub thawing: Option<f64>,
    /// How long that takes, in hours.
    pub thaw_hours: Option<f64>,
}

/// What all of it would cost in each class that has a price, and to have `thawed` bytes back from there.
pub fn in_each_class(holdings: &Holdings, prices: &PriceList, thawed: u64) -> Vec<InClass> {
    let objects = holdings.classes.values().map(|lot| lot.objects).sum();
    let of = |class: &StorageClass| {
        let thaw = class.thaw(ThawSpeed::Standard);
        Some(InClass {
            class: *class,
            keeping: prices.keeping(*class, holdings.bytes(), MONTH)?,
            moving: prices.putting(*class, objects),
            minimum_days: class.minimum_days(),
            thawing: thaw.map(|cost| cost.per_gib * thawed as f64 / (1_u64 << 30) as f64),
            thaw_hours: thaw.map(|cost| cost.hours),
        })
    };
    prices.class.keys().filter_map(of).collect()
}

/// What would be there with so many bytes more or less of it. They are of the oldest, which lie in the coldest class; less than nothing
/// is never there.
pub fn with_difference(holdings: &Holdings, difference: i128) -> Holdings {
    let mut changed = holdings.clone();
    if let Some((_, lot)) = changed.classes.iter_mut().next_back() {
        let bytes = (i128::from(lot.bytes) + difference).max(0);
        lot.bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    }
    changed
}

#[cfg(test)]
mod tests {
    use strongroom_model::price::ClassPrice;

    use super::*;

    fn prices() -> PriceList {
        let price = |gb_month, thousand_puts| ClassPrice { gb_month, thousand_puts };
        PriceList {
            date: jiff::civil::date(2025, 11, 1),
            source: "test".into(),
            region: "test".into(),
            currency: "USD".into(),
            class: [
                (StorageClass::Standard, price(0.023, 0.005)),
                (StorageClass::DeepArchive, price(0.001, 0.05)),
            ]
            .into(),
        }
    }

    fn holding(class: &str, bytes: u64) -> Holdings {
        let mut holdings = Holdings::default();
        *holdings.lot(class) = Lot { objects: 1000, bytes, old_bytes: 0 };
        holdings
    }

    #[test]
    fn a_month_costs_what_the_list_says_and_what_it_does_not_have_nobody_knows() {
        let near =
            |found: Option<f64>, wanted: f64| assert!((found.unwrap() - wanted).abs() < 1e-9, "{found:?}");
        let tera = 1_000_000_000_000;
        let of = month(&holding("", tera), &prices(), Some(2000));
        near(of.keeping, 23.0);
        near(of.total(), 23.01);
        assert_eq!(month(&holding("GLACIER", tera), &prices(), None).total(), None);
        assert_eq!(month(&holding("OUTPOSTS", tera), &prices(), None).keeping, None);
        let classes = in_each_class(&holding("", tera), &prices(), 1 << 30);
        assert_eq!(
            classes.iter().map(|of| of.class).collect::<Vec<_>>(),
            [StorageClass::Standard, StorageClass::DeepArchive]
        );
        near(Some(classes[1].keeping), 1.0);
        near(classes[1].moving, 0.05);
        near(classes[1].thawing, 0.02);
        assert_eq!((classes[0].thawing, classes[1].minimum_days), (None, 180));
    }

    #[test]
    fn days_more_or_less_are_of_the_coldest_class() {
        let mut holdings = holding("", 1000);
        *holdings.lot("GLACIER") = Lot { objects: 1, bytes: 500, old_bytes: 0 };
        let bytes = |difference| with_difference(&holdings, difference).classes[&StorageClass::Glacier].bytes;
        assert_eq!((bytes(100), bytes(0), bytes(-100), bytes(-900)), (600, 500, 400, 0));
        assert_eq!(with_difference(&Holdings::default(), 7).bytes(), 0);
    }
}
