//! `strongroom show`

use strongroom_model::{ByteSize, PointId};
use strongroom_ops::list::show;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Outcome;

/// Show one recovery point in full
#[derive(clap::Args)]
pub struct Arguments {
    /// The point, as `strongroom list` names it
    point: PointId,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let vault = context.answering().await?;
    let view = show(&vault, &arguments.point).await?;
    let summary = &view.summary;
    let mut lines = vec![
        ("point", summary.point.to_string()),
        ("source", format!("{} ({}, system {})", summary.source, summary.product, summary.journal.lineage)),
        ("started", summary.started_at.to_string()),
        ("consistent", format!("{} at {}", summary.stopped_at, summary.journal.stop)),
        ("size", format!("{} in {} entries", ByteSize(summary.bytes), summary.entries)),
        ("stored", format!("{} in {} packs", ByteSize(summary.stored), summary.packs)),
        ("timeline", summary.journal.timeline.to_string()),
        ("needs WAL", format!("{} to {}", view.wal.0, view.wal.1)),
    ];
    for (path, pages) in &view.damaged {
        lines.push((
            "damaged",
            format!("{path}: {} pages, from {}", pages.len(), pages.first().copied().unwrap_or(0)),
        ));
    }
    let text: Vec<String> = lines.into_iter().map(|(name, value)| format!("{name:<12}{value}")).collect();
    Ok(Outcome::new(&view, text.join("\n")))
}
