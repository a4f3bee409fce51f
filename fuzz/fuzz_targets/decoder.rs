//! Fuzzes one decoder of `strongroom_sim::decoders`, named by STRONGROOM_DECODER; all of them if it is not set.
//!
//! ```text
//! STRONGROOM_DECODER=manifest_rows cargo +nightly fuzz run decoder -- -malloc_limit_mb=256
//! ```

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use strongroom_sim::decoders::{ALL, Decoder};

static DECODERS: LazyLock<Vec<Decoder>> = LazyLock::new(|| {
    let wanted = std::env::var("STRONGROOM_DECODER").ok();
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    ALL.into_iter().filter(|(name, _)| is_wanted(name)).map(|(_, decode)| decode).collect()
});

fuzz_target!(|data: &[u8]| DECODERS.iter().for_each(|decode| decode(data)));
