//! The audit log: who did what to a vault, when, and what came of it. Pure values, and what a chain of them proves.
//!
//! ```text
//! entry 1 ◀── hash ── entry 2 ◀── hash ── entry 3 ◀── noted elsewhere: the head, 3 and its hash
//! ```
//!
//! Each entry names the hash of the object before it, as stored. So whoever has plain copies of the objects, and neither key nor
//! vault, can tell that none was changed, left out, doubled or put between others. That the end was cut off shows only against a
//! head that was noted elsewhere.
//!
//! **Invariants**
//! - What a chain proves is found out from the objects alone: no clock has a say in it.
//! - An act that was begun and has no end is shown as such, never as done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{PointId, SourceName};
use crate::time::Timestamp;
use crate::words;

/// The shape of the entries that this build writes, and the newest that it reads.
pub const SHAPE: u32 = 1;

/// The digits of an entry's name.
const DIGITS: usize = 16;

/// What kind of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActorKind {
    /// Somebody on the command line of a host.
    User,
    /// A rule of a plan, whose job an agent carries out.
    Plan,
    /// An agent, by itself.
    Agent,
    /// A person on the web page.
    Web,
    /// Whoever has a token of the HTTP interface.
    Token,
}

words!(
    ActorKind,
    "kind of actor",
    User = "user",
    Plan = "plan",
    Agent = "agent",
    Web = "web",
    Token = "token"
);

/// Who did it, as far as the writer of the entry knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// What kind.
    pub kind: ActorKind,
    /// The user, the plan with its rule, the person, or the token's name.
    pub name: String,
    /// The host that the act was carried out on.
    pub host: String,
    /// The system's user whose process it was.
    pub user: String,
    /// Who became that user, by their own word (`SUDO_USER`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<String>,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Actor { kind, name, host, user, sudo } = self;
        let text = match (kind, sudo) {
            (ActorKind::User, Some(sudo)) => format!("{sudo} as {user}@{host}"),
            (ActorKind::User, None) => format!("{name}@{host}"),
            (kind, _) => format!("{kind} {name} as {user}@{host}"),
        };
        f.pad(&text)
    }
}

/// What was done, as far as it may be read without the vault's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// The words of the command line: `restore`, `hold release`; or another word for what is done elsewhere, `sign-in`.
    pub verb: String,
    /// To which source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
    /// To which recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointId>,
}

/// Where an act stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Stage {
    /// It is about to begin.
    Begun,
    /// It has ended.
    Ended {
        /// The number of the entry of its beginning, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<u64>,
        /// The exit code's word: `ok`, `conflict`.
        outcome: String,
        /// The exit code.
        exit_code: u8,
    },
}

/// An entry's clear part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its shape.
    pub audit: u32,
    /// 128 random bits, in hexadecimal: a writer whose reply was lost knows its own entry by them.
    pub id: String,
    /// The vault's id.
    pub vault: String,
    /// Its number, from 1; also its name.
    pub number: u64,
    /// The hash of the entry before it, as stored; none in the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// By the writer's clock.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub act: Act,
    /// How far.
    #[serde(flatten)]
    pub stage: Stage,
    /// By which build: `strongroom 0.1.0`.
    pub tool: String,
}

/// What is said of an act that may name tables, paths and people: sealed in the vault. `error`, `to`, `reason`…
pub type Texts = BTreeMap<String, String>;

/// Who vouches for an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Voucher {
    /// Somebody with the whole key of the vault signed it.
    Signed,
    /// Somebody with a key of the vault wrote it, perhaps one that only appends.
    Sealed,
    /// Nobody, as far as can be told from here.
    Unknown,
    /// It is not what a holder of the key wrote, for this reason.
    Forged(String),
}

/// An object of the log as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The last part of its key, or its file's name.
    pub name: String,
    /// The hash of its bytes, in hexadecimal.
    pub hash: String,
    /// What it says in clear, or why it does not read.
    pub entry: Result<Entry, String>,
    /// What it says under seal, as far as that was opened.
    pub texts: Texts,
    /// Who vouches for it.
    pub voucher: Voucher,
}

/// The newest entry of a log: kept elsewhere, it shows whether the log's end was cut off since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// The hash of its object, as stored, in hexadecimal.
    pub hash: String,
}

/// A head that does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no head of an audit log: `strongroom audit head` prints one, as 42:9f86d0…")]
pub struct HeadError(pub String);

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.number, self.hash))
    }
}

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Head, HeadError> {
        let wrong = || HeadError(text.to_owned());
        let (number, hash) = text.trim().split_once(':').ok_or_else(wrong)?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let number = number.parse().ok().filter(|number| *number > 0 && is_hash).ok_or_else(wrong)?;
        Ok(Head { number, hash: hash.to_owned() })
    }
}

/// The name of the entry with this number.
pub fn name(number: u64) -> String {
    format!("{number:0DIGITS$}")
}

/// The number in a name; `None` if it is not spelled as [`name`] spells it.
pub fn number(text: &str) -> Option<u64> {
    let is_spelled = text.len() == DIGITS && text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|number| is_spelled && *number > 0)
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Finding {
    /// Something else lies among the entries.
    Stranger {
        /// Its name.
        name: String,
    },
    /// Entries are not there.
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// Two objects have one number.
    Doubled {
        /// Which.
        number: u64,
    },
    /// An entry does not read.
    Unreadable {
        /// Which.
        number: u64,
        /// Why.
        why: String,
    },
    /// An entry says that it is another one.
    Misnumbered {
        /// Under which number it lies.
        number: u64,
        /// Which it says.
        says: u64,
    },
    /// An entry is of another vault than the first one that reads.
    OtherVault {
        /// Which.
        number: u64,
        /// Whose it says it is.
        vault: String,
    },
    /// An entry is not the one that the next one was written after: it was changed, or exchanged.
    Changed {
        /// Which; the next one says so.
        number: u64,
    },
    /// An entry was not written by who has a key.
    Forged {
        /// Which.
        number: u64,
        /// How that shows.
        why: String,
    },
    /// The log ends before an entry that was its head once.
    Cut {
        /// The last entry; 0 if there is none.
        last: u64,
        /// What was noted.
        noted: Head,
    },
    /// The entry that was noted as the head is another one now.
    OtherHead {
        /// What was noted.
        noted: Head,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Finding::Stranger { name } => format!("{name} is no entry of the log"),
            Finding::Missing { from, to } if from == to => format!("entry {from} is missing"),
            Finding::Missing { from, to } => format!("entries {from} to {to} are missing"),
            Finding::Doubled { number } => format!("entry {number} is there twice"),
            Finding::Unreadable { number, why } => format!("entry {number} does not read: {why}"),
            Finding::Misnumbered { number, says } => {
                format!("the object of entry {number} says that it is entry {says}")
            }
            Finding::OtherVault { number, vault } => format!("entry {number} is of another vault, {vault}"),
            Finding::Changed { number: 0 } => "entry 1 says that another one came before it".to_owned(),
            Finding::Changed { number } => {
                format!("entry {number} is not the one that entry {} was written after", number + 1)
            }
            Finding::Forged { number, why } => format!("entry {number} is forged: {why}"),
            Finding::Cut { last, noted } => {
                format!("the log ends with entry {last}, and entry {} was noted as its head", noted.number)
            }
            Finding::OtherHead { noted } => {
                format!("entry {} is not the one that was noted as the head", noted.number)
            }
        };
        f.pad(&text)
    }
}

/// Everything that is wrong with a log, by number: `links` are all of its objects, in any order; `noted` are heads that were kept
/// elsewhere.
pub fn findings(links: &[Link], noted: &[Head]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut numbered: Vec<(u64, &Link)> = Vec::new();
    for link in links {
        match number(&link.name) {
            Some(number) => numbered.push((number, link)),
            None => found.push(Finding::Stranger { name: link.name.clone() }),
        }
    }
    numbered.sort_by_key(|(number, _)| *number);
    let vault = numbered.iter().find_map(|(_, link)| link.entry.as_ref().ok()).map(|entry| &entry.vault);
    let mut before: Option<(u64, &Link)> = None;
    for (number, link) in &numbered {
        let last = before.map_or(0, |(number, _)| number);
        match number - last {
            0 => found.push(Finding::Doubled { number: *number }),
            1 => {}
            _ => found.push(Finding::Missing { from: last + 1, to: number - 1 }),
        }
        found.extend(of_entry(*number, link, vault));
        if let Ok(entry) = &link.entry
            && number - last == 1
            && entry.previous.as_ref() != before.map(|(_, before)| &before.hash)
        {
            found.push(Finding::Changed { number: last });
        }
        before = Some((*number, link));
    }
    found.extend(noted.iter().filter_map(|noted| against(&numbered, noted)));
    found
}

/// What one entry shows by itself.
fn of_entry(number: u64, link: &Link, vault: Option<&String>) -> Vec<Finding> {
    let mut found = Vec::new();
    match &link.entry {
        Err(why) => found.push(Finding::Unreadable { number, why: why.clone() }),
        Ok(entry) => {
            if entry.number != number {
                found.push(Finding::Misnumbered { number, says: entry.number });
            }
            if vault != Some(&entry.vault) {
                found.push(Finding::OtherVault { number, vault: entry.vault.clone() });
            }
        }
    }
    if let Voucher::Forged(why) = &link.voucher {
        found.push(Finding::Forged { number, why: why.clone() });
    }
    found
}

fn against(numbered: &[(u64, &Link)], noted: &Head) -> Option<Finding> {
    let last = numbered.last().map_or(0, |(number, _)| *number);
    if last < noted.number {
        return Some(Finding::Cut { last, noted: noted.clone() });
    }
    let mut there = numbered.iter().filter(|(number, _)| *number == noted.number);
    // One that is missing is named as such.
    let is_other = there.next().is_some_and(|(_, link)| link.hash != noted.hash);
    is_other.then(|| Finding::OtherHead { noted: noted.clone() })
}

/// An act as people read it: one line, whether it has one entry or two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The number of its entry, or of the first of two.
    pub number: u64,
    /// When it began, or when its only entry was written.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub act: Act,
    /// What came of it: the exit code's word; `None` if no end is known, for it goes on or its process died.
    pub outcome: Option<String>,
    /// The exit code.
    pub exit_code: Option<u8>,
    /// When it ended, if its beginning is known.
    pub ended_at: Option<Timestamp>,
    /// What is under seal of both entries.
    pub texts: Texts,
    /// Who vouches for it: the weaker of the two.
    pub voucher: Voucher,
}

/// The acts that these entries tell of, in the order in which they began. An end belongs to the beginning it names only if actor
/// and act are the same: nobody ends another's.
pub fn lines(links: &[Link]) -> Vec<Line> {
    let mut lines: BTreeMap<u64, Line> = BTreeMap::new();
    let read = links.iter().filter_map(|link| Some((link, link.entry.as_ref().ok()?)));
    let mut read: Vec<(&Link, &Entry)> = read.collect();
    read.sort_by_key(|(_, entry)| entry.number);
    let mut ended = BTreeSet::new();
    for (link, entry) in read {
        let (of, outcome) = match &entry.stage {
            Stage::Begun => (None, None),
            Stage::Ended { of, outcome, exit_code } => (*of, Some((outcome.clone(), *exit_code))),
        };
        let begun = of.filter(|of| !ended.contains(of)).and_then(|of| lines.get_mut(&of));
        let begun = begun.filter(|line| line.actor == entry.actor && line.act.verb == entry.act.verb);
        let (outcome, exit_code) = outcome.unzip();
        match begun {
            Some(line) => {
                (line.outcome, line.exit_code, line.ended_at) = (outcome, exit_code, Some(entry.at));
                line.texts.extend(link.texts.clone());
                line.act = entry.act.clone();
                line.voucher = weaker(&line.voucher, &link.voucher);
                ended.extend(of);
            }
            None => {
                let (actor, act) = (entry.actor.clone(), entry.act.clone());
                let (texts, voucher) = (link.texts.clone(), link.voucher.clone());
                let (number, at, ended_at) = (entry.number, entry.at, None);
                let line = Line { number, at, actor, act, outcome, exit_code, ended_at, texts, voucher };
                lines.insert(number, line);
            }
        }
    }
    lines.into_values().collect()
}

fn weaker(one: &Voucher, other: &Voucher) -> Voucher {
    let strength = |voucher: &Voucher| match voucher {
        Voucher::Forged(_) => 0,
        Voucher::Unknown => 1,
        Voucher::Sealed => 2,
        Voucher::Signed => 3,
    };
    if strength(other) < strength(one) { other.clone() } else { one.clone() }
}

#[cfg(test)]
mod tests;
