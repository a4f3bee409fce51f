//! What servers say: slots of ours that nobody reads from, which fill their disks; and how far they have written, since one that
//! writes nothing ships nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use strongroom_model::alert::observed::{SlotState, Written};
use strongroom_model::plan::objectives_of;
use strongroom_model::source::Protected;
use strongroom_model::{SourceName, Timestamp};
use strongroom_postgres::connect::connect;
use strongroom_postgres::sender::{IdleSlot, idle_slots, written};
use tokio::task::JoinSet;

use crate::context::Context;
use crate::settings::SourceSettings;

/// How long a server may take to say it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Servers that are asked at a time.
const AT_A_TIME: usize = 16;

/// What servers said, by source. One that did not answer is left out: that it is away others tell.
pub type Servers = BTreeMap<SourceName, Said>;

/// What a server said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Slots that nobody reads from; `None` if it was not asked.
    pub slots: Option<Vec<SlotState>>,
    /// How far it has written, and when it said so; `None` of a standby, or if it was not asked.
    pub written: Option<(Written, Timestamp)>,
}

/// What a server is asked.
#[derive(Clone, Copy)]
struct Questions {
    slots: bool,
    written: bool,
}

impl Questions {
    fn of(context: &Context, source: &Protected, settings: &SourceSettings) -> Option<Questions> {
        let slots = settings.receive.as_ref().is_some_and(|receive| !receive.no_slot);
        let rpo = objectives_of(&context.settings.plans, source).rpo;
        let written = source.kind.has_journal() && rpo.is_some();
        (slots || written).then_some(Questions { slots, written })
    }
}

/// Asks the servers of the sources that are received, or of which no more than so much may be lost.
pub async fn servers(context: &Arc<Context>) -> Servers {
    let wanted = context.settings.sources.iter().filter_map(|(source, settings)| {
        Some((source.clone(), Questions::of(context, &settings.protected(source), settings)?))
    });
    let wanted: Vec<(SourceName, Questions)> = wanted.collect();
    let mut said = Servers::new();
    for some in wanted.chunks(AT_A_TIME) {
        let mut asked: JoinSet<Option<(SourceName, Said)>> = JoinSet::new();
        for (source, questions) in some {
            let (context, source, questions) = (Arc::clone(context), source.clone(), *questions);
            asked.spawn(async move {
                let answer = tokio::time::timeout(PATIENCE, ask(&context, &source, questions)).await;
                Some((source, answer.ok()??))
            });
        }
        said.extend(asked.join_all().await.into_iter().flatten());
    }
    said
}

async fn ask(context: &Context, source: &SourceName, questions: Questions) -> Option<Said> {
    let client = connect(&context.conninfo_of(source).ok()?).await.ok()?;
    let state = |IdleSlot { name, kept, is_lost }| SlotState { name, kept, is_lost };
    let mut said = Said { slots: None, written: None };
    if questions.slots {
        said.slots = Some(idle_slots(&client).await.ok()?.into_iter().map(state).collect());
    }
    if questions.written {
        // Before it is asked: what it writes while it answers is newer.
        let now = context.cx.now();
        said.written = written(&client).await.ok()?.map(|written| (written, now));
    }
    Some(said)
}
