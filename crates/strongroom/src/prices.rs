//! The list prices that this build knows, and those of a file in the same shape.

#![allow(clippy::disallowed_methods, reason = "this module is where a price list is read")]

use std::path::Path;

use strongroom_model::price::PriceList;

use crate::failure::{Code, Failure};

/// List prices: they date, and are printed with their date.
const PRICES: &str = include_str!("prices.toml");

/// Those of this build.
pub fn listed() -> Result<PriceList, Failure> {
    toml::from_str(PRICES).map_err(|error| {
        Failure::new(Code::Bug, format!("the price list of this build does not read: {error}"))
    })
}

/// Those of a file: another region, another date, a contract.
pub fn of_file(path: &Path) -> Result<PriceList, Failure> {
    let wrong = |why: String| {
        let failure = Failure::new(Code::Usage, format!("read prices from {}: {why}", path.display()));
        failure.hint("docs/runbook/report.md shows such a file: date, source, region, currency, and a [class.NAME] each")
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_this_build_reads_and_has_its_date() {
        let listed = listed().unwrap_or_else(|failure| panic!("{}", failure.message));
        assert!(listed.date.year() >= 2025 && listed.source.starts_with("https://"));
        assert!(listed.class.values().all(|price| price.gb_month > 0.0 && price.thousand_puts > 0.0));
    }
}
