//! `strongroom list`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anstyle::AnsiColor;
use strongroom_model::point::PointState;
use strongroom_model::restore_plan::PitrWindow;
use strongroom_model::tier::{StorageClass, ThawSpeed};
use strongroom_model::{ByteSize, PointId, SourceName};
use strongroom_ops::keeping::frozen_in;
use strongroom_ops::list::{SourceListing, list};
use strongroom_vault::Vault;
use strongroom_vault::catalog::PointRow;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Outcome, table, tinted};

/// List what can be restored: recovery points, and how far each reaches
#[derive(clap::Args)]
pub struct Arguments {
    /// Only this source
    source: Option<SourceName>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let vault = context.answering().await?;
    let mut listings = list(&vault, arguments.source.as_ref()).await?;
    for listing in &mut listings {
        listing.frozen = frozen(context, &vault, listing).await?;
    }
    let text = match listings.is_empty() {
        true => format!("{} holds no recovery point yet: take one with `strongroom backup`", vault.place()),
        false => listings.iter().map(show).collect::<Vec<_>>().join("\n\n"),
    };
    Ok(Outcome::new(&listings, text))
}

/// Which points lie frozen. Only those are asked about that are old enough for the lifecycle in the settings.
async fn frozen(
    context: &Context,
    vault: &Arc<Vault>,
    listing: &SourceListing,
) -> Result<BTreeMap<PointId, StorageClass>, Failure> {
    let mut frozen = BTreeMap::new();
    let days = context.settings.vault.lifecycle.packs_freeze_after();
    let limit = days.and_then(|days| context.cx.now().earlier(Duration::from_secs(u64::from(days) * 86_400)));
    let Some(limit) = limit else { return Ok(frozen) };
    let Some(custody) = context.custody_of(vault)? else { return Ok(frozen) };
    for summary in listing.points.iter().filter_map(PointRow::restorable) {
        if summary.started_at > limit {
            continue;
        }
        match frozen_in(vault, &*custody, (&listing.source, &summary.point)).await {
            Ok(Some(class)) => drop(frozen.insert(summary.point.clone(), class)),
            Ok(None) => {}
            // A listing says what it can.
            Err(error) => tracing::warn!("whether {} is frozen is not known: {error}", summary.point),
        }
    }
    Ok(frozen)
}

fn show(listing: &SourceListing) -> String {
    let rows: Vec<Vec<String>> = listing.points.iter().map(|row| cells(row, listing)).collect();
    let head = ["point", "size", "stored", "restores from", "to", "timeline", "state"];
    format!("{}\n{}", listing.source, table(&head, &rows, &[1, 2, 5]))
}

fn cells(row: &PointRow, listing: &SourceListing) -> Vec<String> {
    let state = |text: &str, color| tinted(text, color);
    let dash = || "-".to_owned();
    let unfinished = match &row.state {
        PointState::Committed { .. } => None,
        PointState::Undecided { .. } => Some("unfinished"),
        PointState::Abandoned { .. } => Some("abandoned"),
        PointState::Revoked { .. } => Some("revoked"),
        PointState::Unreadable { .. } => Some("unreadable"),
    };
    let (PointState::Committed { summary }, None) = (&row.state, unfinished) else {
        let blank = std::iter::repeat_with(dash).take(5);
        let word = state(unfinished.unwrap_or_default(), AnsiColor::Yellow);
        return std::iter::once(row.point.to_string()).chain(blank).chain([word]).collect();
    };
    let window = listing.windows.iter().find(|window| window.point == row.point);
    let frozen = listing.frozen.get(&row.point).map(|class| match class.thaw(ThawSpeed::Standard) {
        Some(cost) => format!("frozen: {:.0} h to thaw", cost.hours),
        None => "frozen".to_owned(),
    });
    let is_dump = summary.journal.is_none();
    let verdict = match (row.expired, window) {
        (true, _) => state("expired", AnsiColor::Yellow),
        (false, window) if frozen.is_some() && is_whole(window, is_dump) => {
            state(&frozen.unwrap_or_default(), AnsiColor::Cyan)
        }
        (false, None) if !is_dump => state("lacks WAL", AnsiColor::Red),
        (false, Some(PitrWindow { gap: Some(gap), .. })) => state(&format!("gap at {gap}"), AnsiColor::Red),
        (false, _) if summary.damaged_pages > 0 => state("source was damaged", AnsiColor::Red),
        (false, _) if row.held => state("held", AnsiColor::Green),
        (false, _) => state("ok", AnsiColor::Green),
    };
    vec![
        row.point.to_string(),
        ByteSize(summary.bytes).to_string(),
        ByteSize(summary.stored).to_string(),
        summary.stopped_at.to_string(),
        match window {
            Some(window) => window.to.map_or_else(|| window.to_lsn.to_string(), |time| time.to_string()),
            // It restores to the one moment it shows.
            None if is_dump => summary.stopped_at.to_string(),
            None => dash(),
        },
        match (window, &summary.journal) {
            (Some(window), _) => window.timeline.to_string(),
            (None, Some(journal)) => journal.timeline.to_string(),
            (None, None) => dash(),
        },
        verdict,
    ]
}

/// Whether nothing is missing of what a point restores to.
fn is_whole(window: Option<&PitrWindow>, is_dump: bool) -> bool {
    is_dump || window.is_some_and(|window| window.gap.is_none())
}
