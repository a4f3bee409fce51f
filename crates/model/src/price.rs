//! What keeping costs, by a price list that carries its date.
//!
//! A list dates: whoever prints a sum prints the list's date and source beside it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tier::StorageClass;

/// Prices of one place at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceList {
    /// When they were looked up.
    pub date: jiff::civil::Date,
    /// Where.
    pub source: String,
    /// For which region.
    pub region: String,
    /// In which currency: `USD`.
    pub currency: String,
    /// By storage class.
    pub class: BTreeMap<StorageClass, ClassPrice>,
}

/// Prices of one storage class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassPrice {
    /// A GB (10⁹ bytes) for a month.
    pub gb_month: f64,
    /// A thousand objects put, or moved there.
    pub thousand_puts: f64,
}

/// Days in a month, on average.
const MONTH: f64 = 365.25 / 12.0;

impl PriceList {
    /// So many bytes in a class for so many days. `None` if the list does not have the class.
    pub fn keeping(&self, class: StorageClass, bytes: u64, days: f64) -> Option<f64> {
        Some(self.class.get(&class)?.gb_month * bytes as f64 / 1e9 * days / MONTH)
    }

    /// So many objects put into a class, or moved there.
    pub fn putting(&self, class: StorageClass, objects: u64) -> Option<f64> {
        Some(self.class.get(&class)?.thousand_puts * objects as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terabyte_for_a_year_and_a_million_objects() {
        let standard = ClassPrice { gb_month: 0.023, thousand_puts: 0.005 };
        let list = PriceList {
            date: jiff::civil::date(2025, 11, 1),
            source: "test".into(),
            region: "test".into(),
            currency: "USD".into(),
            class: [(StorageClass::Standard, standard)].into(),
        };
        let year = list.keeping(StorageClass::Standard, 1_000_000_000_000, 365.25).unwrap();
        assert!((year - 276.0).abs() < 1e-6, "{year}");
        assert!((list.putting(StorageClass::Standard, 1_000_000).unwrap() - 5.0).abs() < 1e-9);
        assert_eq!(list.keeping(StorageClass::Glacier, 1, 1.0), None);
    }
}
