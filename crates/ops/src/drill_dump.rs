//! A drill that restores a dump: into a server made for it.
//!
//! ```text
//! facts, room ▶ server made and started ▶ plan ▶ loaded, read back and compared ─ the data can be used ─▶ checks ▶ gone, or left running
//! ```

use std::sync::Arc;
use std::time::Duration;

use strongroom_model::drill::Answer;
use strongroom_model::point::Summary;
use strongroom_model::{ByteSize, Cx};
use strongroom_postgres::drill::checks;
use strongroom_postgres::drill::dumped::DumpServer;
use strongroom_postgres::drill::place::DrillPlace;
use strongroom_vault::Vault;

use crate::drill_course::{DrillRequest, UnderWay, expect_room};
use crate::error::{OpsError, with_causes};
use crate::restore::open_point;
use crate::restore_dump::{LoadingOptions, plan, restore_dump};

/// An empty server, with the WAL that loading writes.
const EMPTY: u64 = 256 << 20;

/// Restores the dump into a server made in `place`, and checks it. When this returns, no server runs there any more, unless it was
/// to be kept and got so far.
pub(crate) async fn drill_dump(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    (request, place): (&DrillRequest, &DrillPlace),
    point: &Summary,
    under_way: &mut UnderWay,
) -> Result<(), OpsError> {
    let facts = open_point(vaults, point).await?.facts().engine_facts.clone();
    // Rows take more room in a table than as text, and indexes come on top.
    expect_room(place.folder(), point.bytes.saturating_mul(2).saturating_add(EMPTY))?;
    let starting = async { Ok(DumpServer::start(cx, place, &facts).await?) };
    let server = under_way.phase("start", starting).await?;
    let done = load_and_check(cx, vaults, (request, point), &server, under_way).await;
    match done.is_ok() && request.keep {
        true => under_way.kept = server.leave(place).await?,
        false => server.end().await,
    }
    done
}

async fn load_and_check(
    cx: &Cx,
    vaults: &[Arc<Vault>],
    (request, point): (&DrillRequest, &Summary),
    server: &DumpServer,
    under_way: &mut UnderWay,
) -> Result<(), OpsError> {
    let subject = server.subject();
    under_way.server = Some(subject.ready(cx).await?);
    let target = server.target(request.workers)?;
    let options = LoadingOptions { workers: request.workers, rate_limit: request.rate_limit };
    let loading = async {
        let plan = plan(cx, vaults, point, &target).await?;
        restore_dump(cx, vaults, plan, &target, options).await
    };
    let restored = under_way.phase("load", loading).await;
    let restored = restored.inspect_err(|error| {
        if !matches!(error, OpsError::Cancelled(_)) {
            under_way.note("rows", Duration::ZERO, Answer::failed(with_causes(error)));
        }
    })?;
    under_way.worked_through(restored.bytes);
    under_way.usable();
    let text = format!("{} loaded; {}", ByteSize(restored.bytes), restored.lines.join("; "));
    under_way.note("rows", Duration::ZERO, Answer::passed(text));
    under_way.check(cx, "amcheck", checks::amcheck(cx, subject, request.workers)).await?;
    let of = (server.database.as_str(), point.stopped_at);
    under_way.assertions(cx, subject, &request.assertions, of).await
}
