//! What people did, or were refused, at the agent's door, until it is in the audit log: a queue with so much room.
//!
//! ```text
//! request ▶ note ▶ queue ▶ testimony ▶ a process of its own ▶ the vault
//!             └─▶ the same refusal again within a minute is counted, and becomes one entry
//! ```
//!
//! **Invariants**
//! - Nobody who asks waits for the vault.
//! - What is remembered is bounded, and strangers have half of it: who guesses cannot keep out what known people do.
//! - What was taken stays in the queue until it is known to be written: what a process wrote that died before it said so is there twice.
//!
//! On a crash what was not written is lost; the agent's own log has it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_model::audit::{Act, ActorKind, Stage, Texts};
use strongroom_model::{PointId, SourceName, Timestamp};
use strongroom_ops::audit::Record;
use tokio::sync::Notify;

use crate::actor::standing_for;
use crate::failure::Code;

/// In which variable they are sent to the process that writes them: others on this host see the words of a process, not these.
pub const SIGHTINGS: &str = "STRONGROOM_SIGHTINGS";

/// Who is not known by more than what they say. No person and no token can be called so.
pub const STRANGER: &str = "nobody known";

/// What came of what was done.
pub const OK: &str = "ok";

/// Sightings that wait at most, and refusals whose repetitions are counted at most.
const ROOM: usize = 1000;

/// So many are sent at a time: a variable holds 128 KiB.
const BATCH: usize = 32;

/// The longest text that is kept, in characters.
const LONGEST_TEXT: usize = 300;

/// Refusals within so long are one.
const TOGETHER: Duration = Duration::from_secs(60);

/// Somebody did something, or did not get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sighting {
    /// When.
    pub at: Timestamp,
    /// A person or a token.
    pub kind: ActorKind,
    /// Who.
    pub name: String,
    /// `sign-in`, `order`…
    pub verb: String,
    /// To which source.
    pub source: Option<SourceName>,
    /// To which point.
    pub point: Option<PointId>,
    /// [`OK`], or the code of the problem that was answered.
    pub outcome: String,
    /// What is written under seal.
    pub texts: Texts,
}

impl Sighting {
    /// As an entry of the audit log; `None` for whom an agent cannot speak.
    pub fn record(self) -> Option<Record> {
        if !matches!(self.kind, ActorKind::Web | ActorKind::Token) {
            return None;
        }
        let exit_code = if self.outcome == OK { Code::Ok } else { Code::Failed } as u8;
        let mut texts = self.texts;
        // The entry has the time of its writing: the vault may have been away.
        texts.insert("when".to_owned(), self.at.to_string());
        Some(Record {
            actor: standing_for(self.kind, self.name),
            act: Act { verb: self.verb, source: self.source, point: self.point },
            stage: Stage::Ended { of: None, outcome: self.outcome, exit_code },
            texts,
        })
    }

    fn text(&self, key: &str) -> String {
        self.texts.get(key).cloned().unwrap_or_default()
    }

    /// What refusals must have in common to be counted together.
    fn likeness(&self) -> Vec<String> {
        let source = self.source.as_ref().map(SourceName::to_string).unwrap_or_default();
        let who = [self.kind.to_string(), self.name.clone(), self.text("name"), self.text("from")];
        who.into_iter().chain([self.verb.clone(), self.outcome.clone(), source]).collect()
    }
}

/// A refusal that may come again.
struct Repeated {
    since: Timestamp,
    again: u64,
    sighting: Sighting,
}

#[derive(Default)]
struct Held {
    waiting: VecDeque<Sighting>,
    repeated: BTreeMap<Vec<String>, Repeated>,
    lost: u64,
}

/// All that is not written yet.
#[derive(Default)]
pub struct Sightings {
    held: Mutex<Held>,
    came: Notify,
}

impl Sightings {
    /// One more.
    pub fn note(&self, mut sighting: Sighting) {
        for text in sighting.texts.values_mut() {
            *text = text.chars().take(LONGEST_TEXT).collect();
        }
        self.lock().note(sighting);
        self.came.notify_one();
    }

    /// Waits until there is one more.
    pub async fn came(&self) {
        self.came.notified().await;
    }

    /// The oldest that wait, after what was counted until now; with what is still being counted if it is the `last` time.
    pub fn oldest(&self, now: Timestamp, last: bool) -> Vec<Sighting> {
        let mut held = self.lock();
        held.ripen(now, last);
        held.waiting.iter().take(BATCH).cloned().collect()
    }

    /// The oldest so many are written.
    pub fn written(&self, count: usize) {
        let mut held = self.lock();
        let count = count.min(held.waiting.len());
        held.waiting.drain(..count);
    }

    /// How many wait, and how many were lost since this was last asked.
    pub fn standing(&self) -> (usize, u64) {
        let mut held = self.lock();
        (held.waiting.len(), std::mem::take(&mut held.lost))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of the room somebody may fill.
fn room(sighting: &Sighting) -> usize {
    if sighting.name == STRANGER { ROOM / 2 } else { ROOM }
}

impl Held {
    fn note(&mut self, sighting: Sighting) {
        if sighting.outcome == OK {
            return self.push(sighting);
        }
        self.ripen(sighting.at, false);
        let likeness = sighting.likeness();
        if let Some(repeated) = self.repeated.get_mut(&likeness) {
            repeated.again += 1;
            return;
        }
        if self.repeated.len() >= room(&sighting) {
            self.lost += 1;
            return;
        }
        self.repeated.insert(likeness, Repeated { since: sighting.at, again: 0, sighting: sighting.clone() });
        self.push(sighting);
    }

    fn push(&mut self, sighting: Sighting) {
        match self.waiting.len() < room(&sighting) {
            true => self.waiting.push_back(sighting),
            false => self.lost += 1,
        }
    }

    /// What came again within its minute becomes one entry when that is over.
    fn ripen(&mut self, now: Timestamp, all: bool) {
        // A clock that went back ends it as well.
        let goes_on =
            |repeated: &Repeated| !all && now >= repeated.since && now.since(repeated.since) < TOGETHER;
        let (kept, ripe) = std::mem::take(&mut self.repeated).into_iter().partition(|(_, it)| goes_on(it));
        self.repeated = kept;
        let ripe: BTreeMap<Vec<String>, Repeated> = ripe;
        for Repeated { again, mut sighting, .. } in ripe.into_values().filter(|it| it.again > 0) {
            sighting.texts.insert("again".to_owned(), format!("{again} times within a minute"));
            self.push(sighting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(name: &str, outcome: &str, from: &str, second: i64) -> Sighting {
        Sighting {
            at: Timestamp::from_unix_seconds(1_800_000_000 + second).unwrap(),
            kind: ActorKind::Web,
            name: name.to_owned(),
            verb: "sign-in".to_owned(),
            source: None,
            point: None,
            outcome: outcome.to_owned(),
            texts: [("from".to_owned(), from.to_owned())].into(),
        }
    }

    fn again(sighting: &Sighting) -> String {
        sighting.text("again")
    }

    #[test]
    fn who_guesses_leaves_an_entry_and_one_more_for_each_minute() {
        let queue = Sightings::default();
        for second in 0..59 {
            queue.note(sighting(STRANGER, "wrong-password", "192.0.2.1", second));
        }
        queue.note(sighting(STRANGER, "too-many", "192.0.2.1", 10));
        queue.note(sighting(STRANGER, "wrong-password", "192.0.2.2", 10));
        queue.note(sighting("ada", OK, "192.0.2.1", 10));
        queue.note(sighting("ada", OK, "192.0.2.1", 11));
        let now = |second| sighting("", "", "", second).at;
        assert_eq!(queue.oldest(now(59), false).len(), 5);
        let all = queue.oldest(now(60), false);
        assert_eq!((all.len(), again(&all[5]).as_str()), (6, "58 times within a minute"));
        queue.written(6);
        // The next minute is another entry.
        queue.note(sighting(STRANGER, "wrong-password", "192.0.2.1", 61));
        queue.note(sighting(STRANGER, "wrong-password", "192.0.2.1", 62));
        assert_eq!(queue.oldest(now(63), false).len(), 1);
        assert_eq!(queue.oldest(now(63), true).len(), 2);
        assert_eq!(queue.standing(), (2, 0));
    }

    #[test]
    fn what_is_not_written_stays_and_strangers_keep_nobody_out() {
        let queue = Sightings::default();
        for host in 0..2 * ROOM {
            queue.note(sighting(STRANGER, "wrong-password", &host.to_string(), 0));
        }
        assert_eq!(queue.standing(), (ROOM / 2, (2 * ROOM - ROOM / 2) as u64));
        for _ in 0..ROOM {
            queue.note(sighting("ada", OK, "192.0.2.1", 1));
        }
        assert_eq!(queue.standing(), (ROOM, (ROOM / 2) as u64));
        let now = sighting("", "", "", 2).at;
        let taken = queue.oldest(now, false);
        assert_eq!((taken.len(), queue.oldest(now, false)), (BATCH, taken));
        queue.written(BATCH);
        assert_eq!(queue.standing(), (ROOM - BATCH, 0));
    }

    #[test]
    fn a_batch_fits_a_variable_and_reads_as_it_was_sent() {
        let queue = Sightings::default();
        for _ in 0..BATCH {
            let mut long = sighting("ada", OK, &"€".repeat(10_000), 0);
            long.texts.insert("what".to_owned(), "€".repeat(10_000));
            long.texts.insert("error".to_owned(), "€".repeat(10_000));
            queue.note(long);
        }
        let sent = queue.oldest(sighting("", "", "", 0).at, true);
        let text = serde_json::to_string(&sent).unwrap();
        assert!(text.len() < 128 << 10, "{}", text.len());
        assert_eq!(serde_json::from_str::<Vec<Sighting>>(&text).unwrap(), sent);
    }

    #[test]
    fn an_agent_speaks_for_people_and_tokens_alone() {
        for (kind, speaks) in [
            (ActorKind::Web, true),
            (ActorKind::Token, true),
            (ActorKind::User, false),
            (ActorKind::Plan, false),
            (ActorKind::Agent, false),
        ] {
            let found = Sighting { kind, ..sighting("ada", OK, "", 0) }.record();
            assert_eq!(found.is_some(), speaks, "{kind}");
        }
        let refused = sighting("ada", "not-allowed", "", 0).record().unwrap();
        assert!(matches!(refused.stage, Stage::Ended { exit_code: 20, .. }), "{refused:?}");
    }
}
