//! Work begun before it is asked for.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

/// Tasks under way, or done and not yet asked for, each under the key it will be asked for by. What the tasks hold while
/// they wait is bounded by how many keys are wanted at a time.
pub struct Ahead<K, T> {
    tasks: Mutex<BTreeMap<K, JoinHandle<T>>>,
}

impl<K, T> Default for Ahead<K, T> {
    fn default() -> Self {
        Ahead { tasks: Mutex::default() }
    }
}

impl<K: Ord + Clone, T: Send + 'static> Ahead<K, T> {
    /// Sees to it that work is under way for these keys. What else `is_stale` is given up.
    pub fn want<F>(&self, keys: &[K], is_stale: impl Fn(&K) -> bool, begin: impl Fn(&K) -> F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut tasks = self.tasks();
        tasks.retain(|key, task| {
            let keep = keys.contains(key) || !is_stale(key);
            if !keep {
                task.abort();
            }
            keep
        });
        for key in keys {
            tasks.entry(key.clone()).or_insert_with(|| tokio::spawn(begin(key)));
        }
    }

    /// Whether work for this key is under way, or done.
    pub fn has(&self, key: &K) -> bool {
        self.tasks().contains_key(key)
    }

    /// What came of the work for this key; `None` if none was begun, or it came to no end.
    pub async fn take(&self, key: &K) -> Option<T> {
        let task = self.tasks().remove(key)?;
        task.await.ok()
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<K, JoinHandle<T>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn each_key_is_worked_on_once_and_given_out_once() {
        let begun = Arc::new(AtomicU32::new(0));
        let ahead = Ahead::default();
        let want = |keys: &[u32]| {
            ahead.want(
                keys,
                |_| true,
                |key| {
                    let (key, begun) = (*key, begun.clone());
                    async move {
                        begun.fetch_add(1, Ordering::SeqCst);
                        key * 10
                    }
                },
            );
        };
        want(&[1, 2]);
        want(&[2, 3]);
        assert_eq!(
            (ahead.take(&1).await, ahead.take(&2).await, ahead.take(&3).await),
            (None, Some(20), Some(30))
        );
        assert_eq!(ahead.take(&2).await, None);
        assert!(begun.load(Ordering::SeqCst) <= 3);
    }

    #[tokio::test]
    async fn what_another_still_wants_is_not_given_up() {
        let ahead = Ahead::default();
        ahead.want(&[(1, 7)], |_| true, |_| async { "one" });
        ahead.want(&[(2, 7)], |(of, _)| *of == 2, |_| async { "two" });
        assert_eq!((ahead.take(&(1, 7)).await, ahead.take(&(2, 7)).await), (Some("one"), Some("two")));
    }
}
