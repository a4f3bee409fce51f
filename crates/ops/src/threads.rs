//! Waiting for worker threads.

use std::thread::ScopedJoinHandle;

use crate::error::OpsError;

/// Waits for all of them; the first error in their order, a panic being one. A thread that stopped because another had
/// failed says that it was cancelled: that is the answer only if nobody has a better one.
pub fn join_all(threads: Vec<ScopedJoinHandle<'_, Result<(), OpsError>>>) -> Result<(), OpsError> {
    let joined = threads.into_iter().map(|thread| {
        thread.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(OpsError::Worker(text.unwrap_or_else(|| "it left no message".into())))
        })
    });
    // All are waited for, also after an error: they borrow what the caller owns.
    let mut result = Ok(());
    for outcome in joined {
        result = match (&result, &outcome) {
            (Ok(()), _) | (Err(OpsError::Cancelled(_)), Err(_)) => outcome,
            (Err(_), _) => result,
        };
    }
    result
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
