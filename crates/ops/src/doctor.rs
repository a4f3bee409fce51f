//! `strongroom doctor`: look at everything that backups, shipping and restores depend on, and say how to mend what is
//! not as it should be.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use strongroom_model::lifecycle::longest_life;
use strongroom_model::point::Summary;
use strongroom_model::retention::Retention;
use strongroom_model::{ByteSize, Cx, SourceName};
use strongroom_postgres::advice::{self, Advice, Fixed, Verdict, Wanted};
use strongroom_postgres::inspect::{PostgresInspection, inspect};
use strongroom_postgres::sender::idle_slots;
use strongroom_postgres::session::Physical;
use strongroom_postgres::standby::reach_primary;
use strongroom_store::probe::{probe, probe_custody};
use strongroom_store::{Custody, Store};
use strongroom_vault::Vault;
use strongroom_vault::catalog::PointRow;

use crate::error::OpsError;

/// One finding.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was looked at; stable, for scripts.
    pub check: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do.
    pub mend: Option<String>,
}

impl From<Advice> for Finding {
    fn from(advice: Advice) -> Finding {
        Finding {
            check: advice.check.to_owned(),
            verdict: advice.verdict,
            found: advice.found,
            mend: advice.mend.map(|mend| mend.to_string()),
        }
    }
}

/// What the doctor found, and did.
#[derive(Debug, Default, Serialize)]
pub struct Examination {
    /// Everything looked at.
    pub findings: Vec<Finding>,
    /// Settings written (`--fix`).
    pub fixed: Vec<Fixed>,
}

impl Examination {
    /// The worst verdict.
    pub fn worst(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// Adds what a check of the settings or the vault gave.
    pub fn note(&mut self, check: &str, verdict: Verdict, found: impl Into<String>, mend: Option<&str>) {
        let mend = mend.map(str::to_owned);
        self.findings.push(Finding { check: check.to_owned(), verdict, found: found.into(), mend });
    }
}

impl Examination {
    fn note_probe(&mut self, finding: strongroom_store::probe::Finding, mend: &str) {
        let verdict = match (finding.ok, finding.warning) {
            (false, _) => Verdict::Wrong,
            (true, true) => Verdict::Warning,
            (true, false) => Verdict::Ok,
        };
        self.note(finding.check, verdict, finding.detail, (verdict != Verdict::Ok).then_some(mend));
    }
}

/// Whether the doctor may write settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Only look.
    Look,
    /// Write the PostgreSQL settings that it advises (`ALTER SYSTEM`), and look again.
    Fix,
}

/// Examines the server behind `engine`.
pub async fn examine_server(
    cx: &Cx,
    engine: &Physical,
    wanted: &Wanted,
    treatment: Treatment,
    examination: &mut Examination,
) -> Result<PostgresInspection, OpsError> {
    let client = engine.connect().await?;
    let mut server = inspect(cx, &client).await.map_err(strongroom_engine::EngineError::from)?;
    let mut advices = advice::advise(&server, wanted);
    if treatment == Treatment::Fix {
        let fixed = advice::fix(&client, &advices).await;
        examination.fixed = fixed.map_err(|error| unfit(error.to_string()))?;
        server = inspect(cx, &client).await.map_err(strongroom_engine::EngineError::from)?;
        advices = advice::advise(&server, wanted);
    }
    examination.note(
        "server",
        Verdict::Ok,
        format!("PostgreSQL {}, system {}", server.version, server.system_id),
        None,
    );
    examination.findings.extend(advices.into_iter().map(Finding::from));
    if server.in_recovery {
        examine_primary(cx, engine, (&server, wanted), examination).await;
    }
    for slot in idle_slots(&client).await.map_err(strongroom_engine::EngineError::from)? {
        let kept = match slot.is_lost {
            true => "the server gave it up".to_owned(),
            false => format!("the server keeps {} of WAL for it", ByteSize(slot.kept)),
        };
        let found = format!("nobody reads from replication slot {}; {kept}", slot.name);
        let mend = format!(
            "run strongroom wal receive, or remove the slot: strongroom wal receive --slot {} --drop-slot",
            slot.name
        );
        examination.note("slot", Verdict::Warning, found, Some(&mend));
    }
    Ok(server)
}

/// What a primary must be for its WAL to arrive, and to make a standby's backups sound.
const SHIPPING: [&str; 7] = [
    "wal_level",
    "archive_mode",
    "archive_library",
    "archive_command",
    "archiver",
    "full_page_writes",
    "further_rights",
];

/// Where the WAL comes from that backups of a standby wait for.
async fn examine_primary(
    cx: &Cx,
    engine: &Physical,
    (standby, wanted): (&PostgresInspection, &Wanted),
    examination: &mut Examination,
) {
    const CHECK: &str = "shipping";
    let Some(primary) = engine.primary() else {
        let found = "by the primary, which is not named: while that writes nothing, no backup completes";
        let mend = "set primary = \"host=… user=…\" beside the source's connection: it is asked to complete the last segment";
        return examination.note(CHECK, Verdict::Warning, found, Some(mend));
    };
    match reach_primary(cx, primary, standby).await {
        Err(error) => examination.note(CHECK, Verdict::Wrong, error.to_string(), error.hint()),
        Ok((client, server)) => {
            let found = format!("by the primary at {}, on timeline {}", client.place(), server.timeline);
            examination.note(CHECK, Verdict::Ok, found, None);
            let amiss = advice::advise(&server, wanted)
                .into_iter()
                .filter(|advice| advice.verdict != Verdict::Ok && SHIPPING.contains(&advice.check));
            examination.findings.extend(amiss.map(|advice| {
                let found = format!("at the primary: {}", advice.found);
                Finding::from(Advice { found, ..advice })
            }));
        }
    }
}

fn unfit(what: String) -> OpsError {
    OpsError::Engine(strongroom_engine::EngineError::Unfit { what, hint: String::new() })
}

/// Tests the store's contract with real objects under `probe/`, which are removed again.
pub async fn examine_store(cx: &Cx, store: &Arc<dyn Store>, examination: &mut Examination) {
    let mend = "a vault needs a store that keeps this promise: use another bucket, endpoint or file system";
    for finding in probe(store, &nonce(cx)).await {
        let mend = match finding.warning {
            true => {
                "give writers credentials without s3:DeleteObject; `strongroom sweep` alone needs it, under an identity of its own"
            }
            false => mend,
        };
        examination.note_probe(finding, mend);
    }
}

/// Tests what a bucket does by itself to keep objects. `locking` is the store that locks what it puts, for a minute.
pub async fn examine_custody(
    cx: &Cx,
    custody: &dyn Custody,
    locking: Option<&Arc<dyn Store>>,
    examination: &mut Examination,
) {
    for finding in probe_custody(locking, custody, (&nonce(cx), cx.now().0)).await {
        let mend = match finding.check {
            "bucket: versions" => {
                "switch versioning on: aws s3api put-bucket-versioning --versioning-configuration Status=Enabled --bucket …"
            }
            "bucket: bypass" => {
                "take s3:BypassGovernanceRetention from these credentials, or lock with mode = \"compliance\""
            }
            "bucket: clock" => "let both clocks be set by NTP",
            _ => "make the bucket with object lock, and say [vault.lock] mode and days in strongroom.toml",
        };
        examination.note_probe(finding, mend);
    }
}

/// Whether locks last as long as packs live: later points refer to a pack while it is younger than the rebase, and are kept
/// for as long as retention says.
pub fn examine_lock(
    (lock_days, rebase_days): (u32, u32),
    retentions: &[Retention],
    examination: &mut Examination,
) {
    let Some(kept) = longest_life(retentions) else {
        let found =
            format!("objects are locked for {lock_days} days; how long points are kept is not said in days");
        examination.note("lock duration", Verdict::Ok, found, None);
        return;
    };
    let needed = rebase_days.saturating_add(kept);
    let found = format!(
        "objects are locked for {lock_days} days; a pack can be needed for {needed} (rebase {rebase_days}, kept {kept})"
    );
    let mend = format!("set days = {needed} in [vault.lock]");
    match lock_days < needed {
        true => examination.note("lock duration", Verdict::Warning, found, Some(&mend)),
        false => examination.note("lock duration", Verdict::Ok, found, None),
    }
}

fn nonce(cx: &Cx) -> String {
    cx.random::<8>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether there is room for another full point in a local vault.
pub fn examine_space(folder: &Path, last: Option<&Summary>, examination: &mut Examination) {
    match strongroom_store::folder::free_bytes(folder) {
        Ok(free) => {
            let needed = last.map_or(1 << 30, |last| last.stored + (last.stored >> 2));
            let text = format!("{} free for about {} of the next point", ByteSize(free), ByteSize(needed));
            let verdict = if free >= needed { Verdict::Ok } else { Verdict::Wrong };
            let mend = (free < needed).then_some("free space, or move the vault to a larger file system");
            examination.note("space", verdict, text, mend);
        }
        Err(error) => {
            examination.note(
                "space",
                Verdict::Warning,
                format!("cannot tell how much is free: {error}"),
                None,
            );
        }
    }
}

/// Whether the source is this cluster, and what its last point is.
pub async fn examine_source(
    vault: &Vault,
    source: &SourceName,
    server: &PostgresInspection,
    examination: &mut Examination,
) -> Result<Option<Summary>, OpsError> {
    let lineages = vault.lineages(source).await?;
    match lineages.last() {
        None => {
            let mend = format!("strongroom backup {source}");
            examination.note(
                "lineage",
                Verdict::Warning,
                "nothing of this source is in the vault yet",
                Some(&mend),
            );
        }
        Some(last) if last.system_id == server.system_id => {
            examination.note(
                "lineage",
                Verdict::Ok,
                format!("the vault knows this cluster as {}", last.system_id),
                None,
            );
        }
        Some(last) => {
            let found = format!(
                "the vault knows this source as system {}, the server is {}",
                last.system_id, server.system_id
            );
            let mend = format!(
                "is this the right server? After pg_upgrade: strongroom backup {source} --new-lineage"
            );
            examination.note("lineage", Verdict::Wrong, found, Some(&mend));
        }
    }
    let points = vault.points(source).await?;
    Ok(points.iter().filter_map(PointRow::restorable).max_by_key(|summary| summary.stopped_at).cloned())
}
