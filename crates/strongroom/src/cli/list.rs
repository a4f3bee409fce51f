//! `strongroom list`

use anstyle::AnsiColor;
use strongroom_model::point::PointState;
use strongroom_model::restore_plan::PitrWindow;
use strongroom_model::{ByteSize, SourceName};
use strongroom_ops::list::{SourceListing, list};
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
    let listings = list(&vault, arguments.source.as_ref()).await?;
    let text = match listings.is_empty() {
        true => format!("{} holds no recovery point yet: take one with `strongroom backup`", vault.place()),
        false => listings.iter().map(show).collect::<Vec<_>>().join("\n\n"),
    };
    Ok(Outcome::new(&listings, text))
}

fn show(listing: &SourceListing) -> String {
    let rows: Vec<Vec<String>> = listing.points.iter().map(|row| cells(row, &listing.windows)).collect();
    let head = ["point", "size", "stored", "restores from", "to", "timeline", "state"];
    format!("{}\n{}", listing.source, table(&head, &rows, &[1, 2, 5]))
}

fn cells(row: &PointRow, windows: &[PitrWindow]) -> Vec<String> {
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
    let window = windows.iter().find(|window| window.point == row.point);
    let verdict = match (row.expired, window) {
        (true, _) => state("expired", AnsiColor::Yellow),
        (false, None) => state("lacks WAL", AnsiColor::Red),
        (false, Some(PitrWindow { gap: Some(gap), .. })) => state(&format!("gap at {gap}"), AnsiColor::Red),
        (false, Some(_)) if summary.damaged_pages > 0 => state("source was damaged", AnsiColor::Red),
        (false, Some(_)) if row.held => state("held", AnsiColor::Green),
        (false, Some(_)) => state("ok", AnsiColor::Green),
    };
    vec![
        row.point.to_string(),
        ByteSize(summary.bytes).to_string(),
        ByteSize(summary.stored).to_string(),
        summary.stopped_at.to_string(),
        window.map_or_else(dash, |window| {
            window.to.map_or_else(|| window.to_lsn.to_string(), |time| time.to_string())
        }),
        window.map_or(summary.journal.timeline, |window| window.timeline).to_string(),
        verdict,
    ]
}
