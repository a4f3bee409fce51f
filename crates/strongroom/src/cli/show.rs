//! `strongroom show`

use anstyle::AnsiColor;
use serde::Serialize;
use strongroom_model::{ByteSize, PointId};
use strongroom_ops::OpsError;
use strongroom_ops::keeping::{Kept, kept};
use strongroom_ops::list::{PointView, show};

use crate::cli::backup::describe_reading;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Outcome, tinted};

/// Show one recovery point in full
#[derive(clap::Args)]
pub struct Arguments {
    /// The point, as `strongroom list` names it
    point: PointId,
    /// Ask the bucket about every object, however many there are: until when each is locked, and its class
    #[arg(long)]
    keeping: bool,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let vault = context.answering().await?;
    let view = show(&vault, &arguments.point).await?;
    let summary = &view.summary;
    let mut lines = vec![("point", summary.point.to_string())];
    lines.extend(match &summary.journal {
        Some(journal) => vec![
            ("source", format!("{} ({}, system {})", summary.source, summary.product, journal.lineage)),
            ("started", summary.started_at.to_string()),
            ("consistent", format!("{} at {}", summary.stopped_at, journal.stop)),
        ],
        None => vec![
            ("source", format!("{} ({}, dumped by {})", summary.source, summary.product, summary.engine)),
            ("shows", summary.stopped_at.to_string()),
            ("taken by", summary.committed_at.to_string()),
        ],
    });
    lines.push(("size", format!("{} in {} entries", ByteSize(summary.bytes), summary.entries)));
    lines.push(("stored", format!("{} in {} packs", ByteSize(summary.stored), summary.packs)));
    lines.extend(summary.journal.iter().map(|journal| ("timeline", journal.timeline.to_string())));
    lines.extend(view.wal.iter().map(|(first, last)| ("needs WAL", format!("{first} to {last}"))));
    lines.extend(largest(&view.streams));
    lines.extend(summary.from_standby.then(|| ("taken from", "a standby".to_owned())));
    lines.extend(summary.reading.as_ref().map(|reading| ("read", describe_reading(reading))));
    for (path, pages) in &view.damaged {
        lines.push((
            "damaged",
            format!("{path}: {} pages, from {}", pages.len(), pages.first().copied().unwrap_or(0)),
        ));
    }
    // One request for each object: a large point's are read back only when that is asked for.
    let kept = match context.custody_of(&vault)? {
        Some(custody) if arguments.keeping || summary.packs <= FEW => {
            let of = (&summary.source, &summary.point);
            match kept(&context.cx, &vault, &*custody, of).await {
                Ok(kept) => Some(kept),
                Err(OpsError::Cancelled(stopped)) => return Err(OpsError::Cancelled(stopped).into()),
                // How it is kept is beside the point.
                Err(error) => {
                    lines.push(("kept", format!("the bucket does not say: {error}")));
                    None
                }
            }
        }
        Some(_) => {
            lines.push(("kept", format!("{} packs were not asked about: --keeping", summary.packs)));
            None
        }
        None => None,
    };
    lines.extend(kept.iter().flat_map(|kept| describe(kept, &summary.point)));
    let text: Vec<String> = lines.into_iter().map(|(name, value)| format!("{name:<12}{value}")).collect();
    Ok(Outcome::new(&Answer { view: &view, kept: &kept }, text.join("\n")))
}

/// A dump's largest streams; all of them are in the JSON.
fn largest(streams: &[(String, u64)]) -> impl Iterator<Item = (&'static str, String)> {
    let mut largest: Vec<_> = streams.iter().collect();
    largest.sort_by_key(|(path, size)| (std::cmp::Reverse(*size), path));
    largest.truncate(SHOWN);
    largest.into_iter().map(|(path, size)| ("stream", format!("{path}: {}", ByteSize(*size))))
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    view: &'a PointView,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: &'a Option<Kept>,
}

/// Streams that are named.
const SHOWN: usize = 10;

/// Packs that may be asked about without being told to.
const FEW: u32 = 1000;

fn describe(kept: &Kept, point: &PointId) -> Vec<(&'static str, String)> {
    let mode = match kept.governed {
        0 => "nobody can lift it",
        _ => "governance: a privileged user can lift it",
    };
    let locked = match (kept.locked_until, kept.objects - kept.locked) {
        (None, _) => "no: whoever may delete can delete it".to_owned(),
        (Some(until), 0) => format!("until {until}, all {} objects ({mode})", kept.objects),
        (Some(until), free) => {
            format!(
                "{} {free} of {} objects are not; the others until {until} at least",
                tinted("in part:", AnsiColor::Red),
                kept.objects
            )
        }
    };
    let mut lines = vec![("locked", locked)];
    if kept.held > 0 {
        lines.push(("store holds", format!("{} of {} objects", kept.held, kept.objects)));
    }
    let classes: Vec<String> = kept.classes.iter().map(|(class, count)| format!("{count} {class}")).collect();
    lines.push(("classes", classes.join(", ")));
    if !kept.is_readable() {
        let cold = format!(
            "{} of {} objects ({})",
            kept.frozen + kept.thawing,
            kept.objects,
            ByteSize(kept.cold_bytes)
        );
        let what = format!("{cold}, {} of them being thawed: strongroom thaw {point}", kept.thawing);
        lines.push(("frozen", tinted(&what, AnsiColor::Yellow)));
    } else if let Some(until) = kept.thawed_until {
        lines.push(("thawed", format!("until {until}")));
    }
    lines
}
