//! Waiting for worker threads, and telling them of each other's failures.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;

use strongroom_model::Cancelled;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::error::OpsError;

/// What two that worked together came to: the first error. Who stopped because the other had failed says that it was
/// cancelled: that is the answer only if nobody has a better one.
pub fn outcome_of_both(one: Result<(), OpsError>, other: Result<(), OpsError>) -> Result<(), OpsError> {
    match (&one, &other) {
        (Ok(()), _) | (Err(OpsError::Cancelled(_)), Err(_)) => other,
        (Err(_), _) => one,
    }
}

/// Threads that pack, and what feeds them: when either fails, the other stops.
#[derive(Default)]
pub struct Doom {
    doomed: AtomicBool,
    /// A packer failed: nobody need go on feeding.
    failed: Notify,
}

impl Doom {
    /// Whether somebody failed.
    pub fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Relaxed)
    }

    /// Passes on what a packer came to.
    pub fn note(&self, outcome: Result<(), OpsError>) -> Result<(), OpsError> {
        if outcome.is_err() {
            self.doomed.store(true, Ordering::Relaxed);
            self.failed.notify_one();
        }
        outcome
    }

    /// Feeds the packers until there is no more, or one of them fails; then waits for them.
    pub async fn feed(
        &self,
        feeding: impl Future<Output = Result<(), OpsError>>,
        packing: JoinHandle<Result<(), OpsError>>,
    ) -> Result<(), OpsError> {
        let fed = tokio::select! {
            fed = feeding => fed,
            () = self.failed.notified() => Err(Cancelled.into()),
        };
        // The senders are gone by now: packers end when they have packed what came.
        if fed.is_err() {
            self.doomed.store(true, Ordering::Relaxed);
        }
        let packed = packing.await.map_err(|why| OpsError::Worker(why.to_string()))?;
        outcome_of_both(fed, packed)
    }
}

/// Waits for all of them; the first error in their order, a panic being one, but see [`outcome_of_both`].
pub fn join_all(threads: Vec<ScopedJoinHandle<'_, Result<(), OpsError>>>) -> Result<(), OpsError> {
    let joined = threads.into_iter().map(|thread| {
        thread.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(OpsError::Worker(text.unwrap_or_else(|| "it left no message".into())))
        })
    });
    // All are waited for, also after an error: they borrow what the caller owns.
    joined.fold(Ok(()), outcome_of_both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use strongroom_model::Cancelled;

    fn outcome(of: &[Result<(), &str>]) -> Result<(), String> {
        std::thread::scope(|scope| {
            let thread = |outcome: &Result<(), &str>| {
                let outcome = outcome.map_err(|why| match why {
                    "cancelled" => OpsError::Cancelled(Cancelled),
                    other => OpsError::Worker(other.to_owned()),
                });
                scope.spawn(move || outcome)
            };
            join_all(of.iter().map(thread).collect()).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn the_thread_that_has_the_reason_is_heard() {
        assert_eq!(outcome(&[Ok(()), Ok(())]), Ok(()));
        assert!(outcome(&[Err("cancelled"), Err("disk full"), Ok(())]).unwrap_err().contains("disk full"));
        assert!(outcome(&[Err("disk full"), Err("cancelled")]).unwrap_err().contains("disk full"));
        assert_eq!(outcome(&[Ok(()), Err("cancelled")]).unwrap_err(), "stopped on request");
    }
}
