//! What verbs tell pages: `list`, `report`, `hold list` and `plan lint`, each in a process of its own, whose memory goes with it.
//!
//! **Invariants**
//! - Nobody who asks leads to the vault oftener than the watch looks at it: what was told holds for a round, whoever asks.
//! - So many processes run at a time, and so many bytes are kept, however many ask. What was asked for longest ago goes first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use strongroom_model::Timestamp;
use tokio::sync::{Notify, Semaphore};

use crate::agent::jobs::told_by;
use crate::agent::present::Present;
use crate::http::shown::source::Told;

/// Processes at a time.
const AT_A_TIME: usize = 2;

/// Bytes of reports that are kept.
const KEPT: usize = 16 << 20;

/// How long a verb may take to tell.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a request waits for what nobody asked for before.
const FIRST_WAIT: Duration = Duration::from_secs(4);

/// What verbs told last, by their words.
pub struct Tellings {
    settings: Arc<Present>,
    known: Mutex<BTreeMap<Vec<String>, Telling>>,
    seats: Semaphore,
    came: Notify,
}

/// One of them.
#[derive(Default)]
struct Telling {
    /// When it was last asked for by a request.
    wanted: Option<Timestamp>,
    /// When its process was last begun, if it has not come back.
    begun: bool,
    /// When it was asked, and the document that was printed, or why there is none.
    told: Option<(Timestamp, Arc<Result<String, String>>)>,
}

impl Tellings {
    /// Those of an agent with these settings.
    pub fn new(settings: Arc<Present>) -> Arc<Tellings> {
        let (known, seats, came) = (Mutex::default(), Semaphore::new(AT_A_TIME), Notify::new());
        Arc::new(Tellings { settings, known, seats, came })
    }

    /// What a verb told last, as this type. Begins to ask it if that was longer than a round of the watch ago; waits a moment
    /// if it was never asked.
    pub async fn of<T: DeserializeOwned>(self: &Arc<Self>, words: &[&str]) -> Told<T> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let wait = async {
            loop {
                let came = self.came.notified();
                tokio::pin!(came);
                // Before looking: what comes in between is not missed.
                came.as_mut().enable();
                if let Some(told) = self.wanted(&words) {
                    return told;
                }
                came.await;
            }
        };
        let Ok((at, told)) = tokio::time::timeout(FIRST_WAIT, wait).await else { return Told::Asking };
        match &*told {
            Ok(document) => match serde_json::from_str(document) {
                Ok(said) => Told::Said(at, said),
                Err(error) => Told::Silent(format!("{} tells what does not read: {error}", words.join(" "))),
            },
            Err(why) => Told::Silent(why.clone()),
        }
    }

    /// The first of a list with one member, as verbs answer who names a source; nothing, where it has nothing of it.
    pub async fn one_of<T: DeserializeOwned + Default>(self: &Arc<Self>, words: &[&str]) -> Told<T> {
        match self.of::<Vec<T>>(words).await {
            Told::Said(at, said) => Told::Said(at, said.into_iter().next().unwrap_or_default()),
            Told::Asking => Told::Asking,
            Told::Silent(why) => Told::Silent(why),
        }
    }

    /// What was told; begins to ask if that is old.
    fn wanted(self: &Arc<Self>, words: &[String]) -> Option<(Timestamp, Arc<Result<String, String>>)> {
        let context = self.settings.context();
        let now = context.cx.now();
        let mut known = self.lock();
        let telling = known.entry(words.to_vec()).or_default();
        telling.wanted = Some(now);
        // A clock that went back makes it old as well.
        let holds = |at: Timestamp| now >= at && now.since(at) < context.settings.watch.every.0;
        let is_old = telling.told.as_ref().is_none_or(|(at, _)| !holds(*at));
        if is_old && !telling.begun {
            telling.begun = true;
            tokio::spawn(Arc::clone(self).ask(words.to_vec()));
        }
        telling.told.clone()
    }

    async fn ask(self: Arc<Self>, words: Vec<String>) {
        let seat = self.seats.acquire().await;
        let context = self.settings.context();
        let at = context.cx.now();
        let told = tokio::time::timeout(PATIENCE, told_by(&context, &words)).await;
        let told = told.unwrap_or_else(|_| Err("it does not answer in time".to_owned()));
        drop(seat);
        let told = Arc::new(told.map(|document| document.to_string()));
        {
            let mut known = self.lock();
            let telling = known.entry(words).or_default();
            telling.begun = false;
            telling.told = Some((at, told));
            make_room(&mut known);
        }
        self.came.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, Telling>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(known: &mut BTreeMap<Vec<String>, Telling>) {
    let size = |telling: &Telling| match telling.told.as_ref().map(|(_, told)| &**told) {
        Some(Ok(text) | Err(text)) => text.len(),
        None => 0,
    };
    let mut held: usize = known.values().map(size).sum();
    while held > KEPT {
        let idle = known.iter().filter(|(_, telling)| !telling.begun && telling.told.is_some());
        let Some(oldest) = idle.min_by_key(|(_, telling)| telling.wanted).map(|(words, _)| words.clone())
        else {
            return;
        };
        held -= known.remove(&oldest).as_ref().map_or(0, size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wanted_longest_ago_makes_room() {
        let at = |seconds| Timestamp::from_unix_seconds(seconds);
        let telling = |wanted: i64, bytes: usize, begun: bool| Telling {
            wanted: at(wanted),
            begun,
            told: Some((at(0).unwrap(), Arc::new(Ok("x".repeat(bytes))))),
        };
        let name = |name: &str| vec![name.to_owned()];
        let mut known = BTreeMap::from([
            (name("old"), telling(1, KEPT / 2, false)),
            (name("begun"), telling(0, KEPT / 2, true)),
            (name("new"), telling(2, KEPT / 2, false)),
        ]);
        make_room(&mut known);
        assert_eq!(known.keys().flatten().collect::<Vec<_>>(), ["begun", "new"]);
        make_room(&mut known);
        assert_eq!(known.len(), 2);
    }
}
