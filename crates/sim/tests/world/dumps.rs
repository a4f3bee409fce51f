//! The same for dumps: a toy database, one dump, one restore.

use std::sync::Arc;

use strongroom_model::Cx;
use strongroom_model::point::Summary;
use strongroom_ops::OpsError;
use strongroom_ops::dump::DumpRequest;
use strongroom_ops::restore_dump::{LoadingOptions, RestoredDump, plan, restore_dump};
use strongroom_sim::engine::Files;
use strongroom_sim::{ToyDatabase, ToyDump};
use strongroom_vault::Vault;
use strongroom_vault::upload::UploadOptions;

use super::source;

/// Rows as text, of which those in `changed` have another value.
pub fn rows(numbers: std::ops::Range<u64>, changed: &[u64]) -> Vec<u8> {
    let row = |n: u64| {
        let value = if changed.binary_search(&n).is_ok() { n ^ 0xabcd } else { n };
        let mixed =
            value.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        format!("{n}\tcustomer {}\t{mixed:016x}\t2026-11-{:02}\n", value * 7919 % 1000, value % 30)
    };
    numbers.map(row).collect::<String>().into_bytes()
}

/// A database of every shape of part: empty, short, of one byte over and over, of many pages; `n` differs in a few rows.
pub fn toy(n: u64) -> ToyDump {
    let changed: Vec<u64> = (n * 100..n * 100 + 5).collect();
    let mut parts = Files::new();
    parts.insert("schema".into(), format!("create table orders; -- {n}").into_bytes());
    parts.insert("empty".into(), vec![]);
    parts.insert("tiny".into(), vec![n as u8; 17]);
    parts.insert("zeros".into(), vec![0; 5 * 8192 + 3]);
    parts.insert("orders".into(), rows(0..40_000, &changed));
    parts.insert("items".into(), rows(0..3000, &changed));
    ToyDump::new(parts)
}

/// The same with parts of a few pages only, for tests that take many dumps.
pub fn small(n: u64) -> ToyDump {
    let mut dump = toy(n);
    dump.parts.insert("orders".into(), rows(0..600, &[n, n + 1]));
    dump.parts.insert("items".into(), rows(0..60, &[n]));
    dump
}

pub fn dumping() -> DumpRequest {
    DumpRequest {
        source: source(),
        workers: 1,
        upload: UploadOptions { uploads: 1, ..UploadOptions::default() },
        afresh: false,
        followers: Vec::new(),
        host: "sim".into(),
        tool: "strongroom test".into(),
    }
}

pub async fn dump(cx: &Cx, vault: &Arc<Vault>, engine: &ToyDump) -> Result<Summary, OpsError> {
    dump_with(cx, vault, engine, &dumping()).await
}

pub async fn dump_with(
    cx: &Cx,
    vault: &Arc<Vault>,
    engine: &ToyDump,
    request: &DumpRequest,
) -> Result<Summary, OpsError> {
    strongroom_ops::dump::dump(cx, vault, engine, request).await
}

/// What a restore of the dump gives.
pub async fn load(cx: &Cx, vault: &Arc<Vault>, point: &Summary) -> Result<Files, OpsError> {
    let target = ToyDatabase::default();
    load_into(cx, std::slice::from_ref(vault), point, &target).await?;
    Ok(target.parts().unwrap_or_else(|| unreachable!("a restore that succeeded left nothing")))
}

/// Restores into that database from the first vault, with the help of the others.
pub async fn load_into(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    point: &Summary,
    target: &ToyDatabase,
) -> Result<RestoredDump, OpsError> {
    let plan = plan(cx, vaults, point, target).await?;
    restore_dump(cx, vaults, plan, target, LoadingOptions { workers: 2, rate_limit: None }).await
}
