//! `strongroom audit`: who did what to a vault, written down and proven.
//!
//! [`record`] is the one door: the command line comes through it with a user of this host or a plan, the web page with a person.

use std::collections::BTreeSet;

use serde::Serialize;
use strongroom_model::audit::{
    Act, Actor, Finding, Head, Line, Link, Stage, Texts, Voucher, findings, lines,
};
use strongroom_model::{Cx, SourceName, Timestamp};
use strongroom_vault::Vault;
use strongroom_vault::audit::{Draft, read_copy};

use crate::error::OpsError;

/// The longest name of an actor or act, and the longest text, in characters.
const LONGEST_NAME: usize = 200;
const LONGEST_TEXT: usize = 500;

/// Entries read at a time, newest first.
const BATCH: u64 = 64;

/// By how much clocks of hosts may differ: entries are in the order of their numbers, not of their times.
const SKEW_SECONDS: i64 = 86_400;

/// What is to be recorded.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who.
    pub actor: Actor,
    /// What.
    pub act: Act,
    /// How far it is.
    pub stage: Stage,
    /// What may name tables, paths and people: sealed. No secrets: whoever has any key of the vault reads it.
    pub texts: Texts,
}

/// Writes an entry into the vault's audit log; what is the log's head now. Of texts the first line is kept. `tool` is this build:
/// `strongroom 0.1.0`.
pub async fn record(cx: &Cx, vault: &Vault, record: &Record, tool: &str) -> Result<Head, OpsError> {
    let Record { actor, act, stage, texts } = record.clone();
    let name = |text: String| short(&text, LONGEST_NAME);
    let actor = Actor {
        kind: actor.kind,
        name: name(actor.name),
        host: name(actor.host),
        user: name(actor.user),
        sudo: actor.sudo.map(name),
    };
    let act = Act { verb: name(act.verb), ..act };
    let texts = texts.into_iter().map(|(key, text)| (key, short(&text, LONGEST_TEXT))).collect();
    Ok(vault.keep_audit(cx, &Draft { actor, act, stage, texts, tool: tool.to_owned() }).await?)
}

/// The first line, without what a terminal would obey.
fn short(text: &str, longest: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(longest).collect()
}

/// Which acts are looked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// From then on.
    pub since: Option<Timestamp>,
    /// Up to then.
    pub until: Option<Timestamp>,
    /// Part of what the log calls the actor.
    pub actor: Option<String>,
    /// To this source.
    pub source: Option<SourceName>,
    /// By this verb: `hold` finds `hold release` as well.
    pub verb: Option<String>,
}

impl Filter {
    fn takes(&self, line: &Line) -> bool {
        let of_verb = |verb: &String| {
            line.act
                .verb
                .strip_prefix(verb.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        self.since.is_none_or(|since| line.at >= since)
            && self.until.is_none_or(|until| line.at <= until)
            && self.actor.as_ref().is_none_or(|actor| line.actor.to_string().contains(actor.as_str()))
            && self.source.as_ref().is_none_or(|source| line.act.source.as_ref() == Some(source))
            && self.verb.as_ref().is_none_or(of_verb)
    }
}

/// The newest acts that the filter takes, at most so many, oldest first. Reads no further back than that needs.
pub async fn list(vault: &Vault, filter: &Filter, newest: usize) -> Result<Vec<Line>, OpsError> {
    let mut end = vault.audit_head().await?.map_or(0, |head| head.number) + 1;
    let (mut links, mut found): (Vec<Link>, usize) = (Vec::new(), 0);
    while end > 1 && found < newest {
        let begin = end.saturating_sub(BATCH).max(1);
        let batch = vault.audit_entries(begin..end).await?;
        found += lines(&batch).iter().filter(|line| filter.takes(line)).count();
        let is_too_old = batch.first().is_some_and(|link| is_before(link, filter.since));
        links.extend(batch);
        end = begin;
        if is_too_old {
            break;
        }
    }
    // What ended later began earlier.
    let begun: BTreeSet<u64> = links.iter().filter_map(begun_in).filter(|number| *number < end).collect();
    for number in begun {
        links.extend(vault.audit_entries(number..number + 1).await?);
    }
    let mut taken: Vec<Line> = lines(&links).into_iter().filter(|line| filter.takes(line)).collect();
    taken.drain(..taken.len().saturating_sub(newest));
    Ok(taken)
}

fn is_before(link: &Link, since: Option<Timestamp>) -> bool {
    let at = link.entry.as_ref().ok().map(|entry| entry.at.unix_seconds());
    at.zip(since).is_some_and(|(at, since)| at < since.unix_seconds() - SKEW_SECONDS)
}

fn begun_in(link: &Link) -> Option<u64> {
    match link.entry.as_ref().ok()?.stage {
        Stage::Ended { of, .. } => of,
        Stage::Begun => None,
    }
}

/// What a log proves.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Whether nothing is wrong with it.
    pub sound: bool,
    /// Its objects.
    pub entries: usize,
    /// Of these, signed by somebody with the whole key.
    pub signed: usize,
    /// Of these, written by somebody with any key.
    pub sealed: usize,
    /// Of these, vouched for by nobody, as far as can be told from here: the chain alone holds them.
    pub unknown: usize,
    /// The newest entry: to be noted elsewhere.
    pub head: Option<Head>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What the vault's log proves, beside heads that were noted elsewhere.
pub async fn verify(vault: &Vault, noted: &[Head]) -> Result<Verdict, OpsError> {
    Ok(judge(&vault.audit_log().await?, noted))
}

/// The same of copies of its objects, by file name, without vault or key. `signer` is the vault's public key, if it is known.
pub fn verify_copies(copies: &[(String, Vec<u8>)], noted: &[Head], signer: Option<&[u8]>) -> Verdict {
    let links: Vec<Link> = copies.iter().map(|(name, object)| read_copy(name, object, signer)).collect();
    judge(&links, noted)
}

fn judge(links: &[Link], noted: &[Head]) -> Verdict {
    let findings = findings(links, noted);
    let count = |wanted: &Voucher| links.iter().filter(|link| link.voucher == *wanted).count();
    let numbered = links.iter().filter_map(|link| Some((strongroom_model::audit::number(&link.name)?, link)));
    let head = numbered.max_by_key(|(number, _)| *number);
    Verdict {
        sound: findings.is_empty(),
        entries: links.len(),
        signed: count(&Voucher::Signed),
        sealed: count(&Voucher::Sealed),
        unknown: count(&Voucher::Unknown),
        head: head.map(|(number, link)| Head { number, hash: link.hash.clone() }),
        findings,
    }
}

/// The log's newest entry, and what its entries are signed with, as others check it.
#[derive(Debug, Serialize)]
pub struct Newest {
    /// The newest entry; `None` if there is none.
    pub head: Option<Head>,
    /// The vault's public key, in hexadecimal; `None` if it does not sign, or this host may only append.
    pub public_key: Option<String>,
}

/// Finds it.
pub async fn head(vault: &Vault) -> Result<Newest, OpsError> {
    Ok(Newest { head: vault.audit_head().await?, public_key: vault.public_key() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_text_the_first_line_is_kept_and_nothing_that_a_terminal_obeys() {
        assert_eq!(short(" back up: \u{1b}[31mred\nand more", 100), "back up: [31mred");
        assert_eq!(short("äöü", 2), "äö");
        assert_eq!(short("", 2), "");
    }
}
