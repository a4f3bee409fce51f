//! What servers keep for us: slots of ours that nobody reads from fill their disks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use strongroom_model::SourceName;
use strongroom_model::alert::observed::SlotState;
use strongroom_postgres::connect::connect;
use strongroom_postgres::sender::{IdleSlot, idle_slots};
use tokio::task::JoinSet;

use crate::context::Context;
use crate::settings::SourceSettings;

/// How long a server may take to say it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Servers that are asked at a time.
const AT_A_TIME: usize = 16;

/// Slots, by source.
pub type Slots = BTreeMap<SourceName, Vec<SlotState>>;

/// Asks the servers of the sources that are received. One that does not answer is left out: that it is away others tell.
pub async fn slots(context: &Arc<Context>) -> Slots {
    let is_received = |of: &SourceSettings| of.receive.as_ref().is_some_and(|receive| !receive.no_slot);
    let received = context.settings.sources.iter().filter(|(_, of)| is_received(of));
    let received: Vec<SourceName> = received.map(|(source, _)| source.clone()).collect();
    let mut said = Slots::new();
    for some in received.chunks(AT_A_TIME) {
        let mut asked: JoinSet<Option<(SourceName, Vec<SlotState>)>> = JoinSet::new();
        for source in some {
            let (context, source) = (Arc::clone(context), source.clone());
            asked.spawn(async move {
                let slots = tokio::time::timeout(PATIENCE, ask(&context, &source)).await.ok()??;
                Some((source, slots))
            });
        }
        said.extend(asked.join_all().await.into_iter().flatten());
    }
    said
}

async fn ask(context: &Context, source: &SourceName) -> Option<Vec<SlotState>> {
    let client = connect(&context.conninfo_of(source).ok()?).await.ok()?;
    let state = |IdleSlot { name, kept, is_lost }| SlotState { name, kept, is_lost };
    Some(idle_slots(&client).await.ok()?.into_iter().map(state).collect())
}
