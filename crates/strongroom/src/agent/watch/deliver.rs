//! What is written down is told, by each channel in its order; what is not taken is tried again, less and less often.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use strongroom_catalog::Catalog;
use strongroom_catalog::alerts::Telling;
use strongroom_catalog::job::later;

use crate::channels::tell;
use crate::context::Context;

/// Before the second attempt; before each later one twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(15);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// Tells what is due, all channels at once: one that hangs holds up none of the others.
pub async fn deliver(context: &Arc<Context>, catalog: &Catalog) -> Result<(), String> {
    let names: Vec<&str> = context.settings.alerts.keys().map(|name| name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let due = catalog.due_tellings(&names, context.cx.now()).await.map_err(|error| error.to_string())?;
    let mut by_channel = BTreeMap::<String, Vec<Telling>>::new();
    for telling in due {
        by_channel.entry(telling.channel.clone()).or_default().push(telling);
    }
    let mut telling = tokio::task::JoinSet::new();
    for (name, tellings) in by_channel {
        telling.spawn(tell_all(Arc::clone(context), name, tellings));
    }
    while let Some(told) = telling.join_next().await {
        let told = told.map_err(|why| format!("a channel ended on a broken invariant: {why}"))?;
        for (telling, why) in told {
            let now = context.cx.now();
            let written = match &why {
                None => catalog.told(&telling).await,
                Some(why) => catalog.not_told(&telling, why, (now, later(now, pause(telling.attempt)))).await,
            };
            written.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Tells one channel, and gives why it did not take what it did not take. One that is silent is not asked again for each.
async fn tell_all(
    context: Arc<Context>,
    name: String,
    tellings: Vec<Telling>,
) -> Vec<(Telling, Option<String>)> {
    let (mut told, mut silent) = (Vec::new(), None);
    for telling in tellings {
        if silent.is_none() {
            let outcome = tell(&context, &name, &telling.news).await;
            if let Err(failure) = &outcome {
                tracing::warn!("alert {name}: {failure}");
                silent = failure.is_of_channel().then(|| failure.to_string());
            }
            told.push((telling, outcome.err().map(|failure| failure.to_string())));
        } else {
            told.push((telling, silent.clone()));
        }
    }
    told
}

fn pause(attempt: i64) -> Duration {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}
