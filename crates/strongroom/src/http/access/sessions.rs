//! Who is signed in, in this process's memory: an agent that starts anew knows nobody.
//!
//! **Invariants**
//! - What the browser holds is 256 random bits; here is their hash alone.
//! - A session ends when nobody uses it, when its time is up, and when its user's entry in the settings is another or gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use strongroom_model::{Cx, Timestamp};

use crate::http::access::person::{By, Person};
use crate::settings::access::{PersonName, UserSettings};

/// Sessions at most; the one that was used longest ago makes room.
const MOST: usize = 2000;

/// One person at one browser.
struct Session {
    name: PersonName,
    /// The entry that they signed in under.
    entry: UserSettings,
    began: Timestamp,
    used: Timestamp,
    csrf: String,
}

/// All of them.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<blake3::Hash, Session>>);

/// How long one lasts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Unused.
    pub idle: Duration,
    /// In all.
    pub length: Duration,
}

impl Sessions {
    /// Begins one, and gives what the browser is to hold, and what forms are to.
    pub fn begin(&self, cx: &Cx, name: &PersonName, entry: &UserSettings) -> (String, String) {
        let [id, csrf] =
            [cx.random::<32>(), cx.random::<32>()].map(|random| blake3::Hash::from_bytes(random).to_hex());
        let now = cx.now();
        let (id, csrf) = (id.to_string(), csrf.to_string());
        let session =
            Session { name: name.clone(), entry: entry.clone(), began: now, used: now, csrf: csrf.clone() };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST
            && let Some(oldest) = known.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| *id)
        {
            known.remove(&oldest);
        }
        known.insert(blake3::hash(id.as_bytes()), session);
        (id, csrf)
    }

    /// Whose it is, if it still holds.
    pub fn person(
        &self,
        id: &str,
        users: &BTreeMap<PersonName, UserSettings>,
        (limits, now): (Limits, Timestamp),
    ) -> Option<Person> {
        let id = blake3::hash(id.as_bytes());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = known.get_mut(&id)?;
        let is_over = now.since(session.used) >= limits.idle || now.since(session.began) >= limits.length;
        if is_over || users.get(&session.name) != Some(&session.entry) {
            known.remove(&id);
            return None;
        }
        session.used = now;
        Some(Person {
            name: session.name.to_string(),
            role: session.entry.role,
            sources: None,
            by: By::Session,
            csrf: Some(session.csrf.clone()),
        })
    }

    /// Ends one.
    pub fn end(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&blake3::hash(id.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::access::{Password, Role};
    use crate::surroundings::real;

    fn users(role: Role) -> BTreeMap<PersonName, UserSettings> {
        let entry = UserSettings { role, password: Password::Hash("$argon2id$…".into()) };
        [("ada".parse().unwrap(), entry)].into()
    }

    #[test]
    fn a_session_ends_with_its_time_its_use_or_its_entry() {
        let (cx, limits) =
            (real(), Limits { idle: Duration::from_secs(60), length: Duration::from_secs(150) });
        let users_then = users(Role::Operator);
        let (name, entry) = users_then.iter().next().unwrap();
        // Seconds of its uses, the users that there are then, and whether it holds at the last.
        for (uses, users_now, holds) in [
            (vec![0], users(Role::Operator), true),
            (vec![59], users(Role::Operator), true),
            (vec![61], users(Role::Operator), false),
            (vec![50, 100, 149], users(Role::Operator), true),
            (vec![50, 100, 151], users(Role::Operator), false),
            (vec![1], users(Role::Admin), false),
            (vec![1], BTreeMap::new(), false),
        ] {
            let sessions = Sessions::default();
            let (id, csrf) = sessions.begin(&cx, name, entry);
            let now = cx.now();
            let at = |seconds: &u64| Timestamp(now.0.checked_add(Duration::from_secs(*seconds)).unwrap());
            let found =
                uses.iter().map(|use_| sessions.person(&id, &users_now, (limits, at(use_)))).last().unwrap();
            assert_eq!(found.is_some(), holds, "{uses:?}");
            assert!(found.is_none_or(|person| person.csrf == Some(csrf) && person.name == "ada"));
            // What ended does not begin again.
            let again = sessions.person(&id, &users_then, (limits, now));
            assert_eq!(again.is_some(), holds, "{uses:?}");
        }
    }

    #[test]
    fn another_id_is_nobodys_and_an_ended_one_too() {
        let (cx, users) = (real(), users(Role::Viewer));
        let (name, entry) = users.iter().next().unwrap();
        let limits = Limits { idle: Duration::from_secs(60), length: Duration::from_secs(60) };
        let sessions = Sessions::default();
        let (id, _) = sessions.begin(&cx, name, entry);
        for wrong in ["", "0", &id[1..], &id.to_uppercase()] {
            assert!(sessions.person(wrong, &users, (limits, cx.now())).is_none());
        }
        sessions.end(&id);
        assert!(sessions.person(&id, &users, (limits, cx.now())).is_none());
        for _ in 0..MOST + 10 {
            sessions.begin(&cx, name, entry);
        }
        assert_eq!(sessions.0.lock().unwrap().len(), MOST);
    }
}
