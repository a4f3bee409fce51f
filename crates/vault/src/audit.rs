//! The audit log of a vault: entries that are numbered from 1, chained, and written once.
//!
//! ```text
//! audit/0000000000000041 ◀─ SHA-256 ─ audit/0000000000000042 ◀─ put_new decides whose 42 is
//! { "statement": clear JSON, "sealed": record of its hash and of texts, "signature": by the whole key, or empty }
//! ```
//!
//! **Invariants**
//! - A number is its writer's alone: whoever loses it reads the winner's entry, and chains on to that one.
//! - Nothing keeps the log from going on: an entry that is damaged or forged is chained on to as it lies there, and named by whoever
//!   reads the log. A read that went wrong is not: what is not vouched for is read twice.
//! - Each vault has a log of its own. Replicas do not exchange theirs: two chains have no common order.
//!
//! What dies while it writes leaves an entry, or none. The cost of finding the head: some requests at a time for each factor of 16
//! in the number of entries, none of which lists anything; one round of them for who has written before.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use strongroom_codec::digest::chain_hash;
use strongroom_codec::header::{Kind, Suite};
use strongroom_codec::manifest::{hex_bytes, to_hex};
use strongroom_codec::sign::is_signed;
use strongroom_codec::stream::{read_record, write_record};
use strongroom_model::Cx;
use strongroom_model::audit::{Act, Actor, Entry, Head, Link, SHAPE, Stage, Texts, Voucher, number};
use strongroom_store::{Key, PutError};

use crate::error::VaultError;
use crate::layout;
use crate::open::{Vault, list_all};

/// How often a number is tried for. Whoever loses one made way for somebody who did not: so many in a row want a hundred hosts.
const TRIES: u32 = 24;

/// The longest wait after a number was lost, in milliseconds.
const LONGEST_WAIT_MS: u16 = 100;

/// Requests at a time.
const WIDTH: u64 = 16;

/// Powers of [`WIDTH`] below the highest number there can be.
const POWERS: u32 = 13;

/// Of these so many are asked for at once: a log of up to a million entries is found in the first round.
const POWERS_AT_ONCE: u32 = 6;

/// What is to be written of an act.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Who.
    pub actor: Actor,
    /// What.
    pub act: Act,
    /// How far.
    pub stage: Stage,
    /// What only holders of a key may read of it.
    pub texts: Texts,
    /// By which build.
    pub tool: String,
}

/// An entry as it lies in the vault.
#[derive(Serialize, Deserialize)]
struct StoredEntry {
    /// Clear JSON; its exact bytes are what the other two are about.
    statement: String,
    /// A record, in hexadecimal.
    sealed: String,
    /// Hexadecimal; empty if its writer could not sign.
    signature: String,
}

/// What is under seal.
#[derive(Serialize, Deserialize)]
struct SealedPart {
    /// The hash of the statement that it belongs to, in hexadecimal.
    statement: String,
    texts: Texts,
}

/// The front of a statement that every later shape keeps.
#[derive(Deserialize)]
struct AnyShape {
    audit: u32,
}

impl Vault {
    /// Writes an entry behind the newest one; what is the head now. A host that may only append writes as well, and cannot sign.
    pub async fn keep_audit(&self, cx: &Cx, draft: &Draft) -> Result<Head, VaultError> {
        let id = to_hex(&cx.random::<16>());
        for tries in 0..TRIES {
            if tries > 0 {
                pause(cx).await;
            }
            let head = self.audit_head().await?;
            let number = head.as_ref().map_or(0, |head| head.number) + 1;
            let key = layout::audit(number);
            let object = self.audit_object(cx, draft, (&id, &key, number, head));
            let written = Head { number, hash: sha_256(&object) };
            let is_ours = match self.store.put_new(&key, object.clone().into()).await {
                Ok(()) => true,
                // Perhaps by an earlier try of ours whose reply was lost.
                Err(PutError::Exists { .. }) => self.audit_bytes(&key).await?.as_ref() == Some(&object),
                Err(PutError::Store(error)) => return Err(error.into()),
            };
            if is_ours {
                self.note_seen(&written);
                return Ok(written);
            }
        }
        Err(VaultError::Crowded { place: self.place(), tries: TRIES })
    }

    /// The newest entry; `None` if there is none.
    pub async fn audit_head(&self) -> Result<Option<Head>, VaultError> {
        let seen = self.audit_seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let number = self.newest_number(seen.as_ref().map_or(0, |head| head.number)).await?;
        if number == 0 || seen.as_ref().is_some_and(|head| head.number == number) {
            return Ok(seen);
        }
        let key = layout::audit(number);
        let gone = || VaultError::Missing { key: key.to_string(), place: self.place() };
        let mut object = self.audit_bytes(&key).await?.ok_or_else(gone)?;
        let is_doubtful = |object: &Bytes| {
            let link = self.audit_link(key.last_segment(), object);
            link.entry.is_err() || matches!(link.voucher, Voucher::Forged(_))
        };
        if is_doubtful(&object) {
            object = self.audit_bytes(&key).await?.ok_or_else(gone)?;
        }
        let head = Head { number, hash: sha_256(&object) };
        self.note_seen(&head);
        Ok(Some(head))
    }

    /// The entries with these numbers (half-open), oldest first; what is not there is left out.
    pub async fn audit_entries(&self, numbers: std::ops::Range<u64>) -> Result<Vec<Link>, VaultError> {
        self.audit_links(numbers.map(layout::audit).collect()).await
    }

    /// Every object of the log, in order of name, whatever it is.
    pub async fn audit_log(&self) -> Result<Vec<Link>, VaultError> {
        let listed = list_all(&*self.store, layout::AUDIT).await?;
        self.audit_links(listed.into_iter().map(|object| object.key).collect()).await
    }

    /// What entries are signed with, as others check it, in hexadecimal; `None` where the vault does not sign, and on a host that
    /// may only append.
    pub fn public_key(&self) -> Option<String> {
        self.signing_key().map(|key| to_hex(&key.public()))
    }

    async fn audit_links(&self, keys: Vec<Key>) -> Result<Vec<Link>, VaultError> {
        let read = stream::iter(keys).map(async |key| {
            let object = self.audit_bytes(&key).await?;
            Ok::<_, VaultError>(object.map(|object| self.audit_link(key.last_segment(), &object)))
        });
        let links: Vec<Option<Link>> = read.buffered(WIDTH as usize).try_collect().await?;
        Ok(links.into_iter().flatten().collect())
    }

    fn note_seen(&self, head: &Head) {
        *self.audit_seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(head.clone());
    }

    /// The object of an entry: `place` is its id, key and number, and the head before it.
    fn audit_object(
        &self,
        cx: &Cx,
        draft: &Draft,
        (id, key, number, head): (&str, &Key, u64, Option<Head>),
    ) -> Bytes {
        let Draft { actor, act, stage, texts, tool } = draft.clone();
        let entry = Entry {
            audit: SHAPE,
            id: id.to_owned(),
            vault: self.id.to_string(),
            number,
            previous: head.map(|head| head.hash),
            at: cx.now(),
            actor,
            act,
            stage,
            tool,
        };
        let statement = json(&entry);
        let hash = sha_256(statement.as_bytes());
        let part = json(&SealedPart { statement: hash, texts });
        let sealed = write_record(self.scope(key), Kind::Audit, cx.random(), part.as_bytes());
        let signature = self.signing_key().map(|signer| to_hex(&signer.sign(statement.as_bytes())));
        let (sealed, signature) = (to_hex(&sealed), signature.unwrap_or_default());
        json(&StoredEntry { statement, sealed, signature }).into_bytes().into()
    }

    /// An object of the log, read and vouched for as far as this host can.
    fn audit_link(&self, name: &str, object: &[u8]) -> Link {
        let read = |number: Option<u64>, stored: &StoredEntry| {
            let key = layout::audit(number.unwrap_or_default());
            let (seal, texts) = match self.open_part(&key, stored) {
                Ok(texts) => (Ok(()), texts),
                Err(why) => (Err(why), Texts::new()),
            };
            let voucher = match (seal, self.signing_key()) {
                (Err(why), _) => Voucher::Forged(why.to_owned()),
                // Everybody has this vault's key.
                (Ok(()), _) if self.suite == Suite::Plain => Voucher::Unknown,
                (Ok(()), Some(key)) => match signed_by(&key.public(), stored) {
                    Voucher::Unknown => Voucher::Sealed,
                    voucher => voucher,
                },
                (Ok(()), None) => Voucher::Sealed,
            };
            (voucher, texts)
        };
        link(name, object, read)
    }

    /// The texts under seal, if they were sealed with the vault's key for this entry.
    fn open_part(&self, key: &Key, stored: &StoredEntry) -> Result<Texts, &'static str> {
        const CLOSED: &str = "its sealed part was not sealed with the vault's key for this number";
        let sealed = hex_bytes(&stored.sealed).ok_or(CLOSED)?;
        let part = read_record(self.scope(key), Kind::Audit, &sealed).map_err(|_| CLOSED)?;
        let part: SealedPart = serde_json::from_slice(&part).map_err(|_| CLOSED)?;
        match part.statement == sha_256(stored.statement.as_bytes()) {
            true => Ok(part.texts),
            false => Err("its sealed part belongs to another statement"),
        }
    }

    async fn audit_bytes(&self, key: &Key) -> Result<Option<Bytes>, VaultError> {
        match self.store.get(key).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The highest number that is taken, `known` or above; 0 if there is none.
    async fn newest_number(&self, known: u64) -> Result<u64, VaultError> {
        let (mut low, mut high) = (known, None);
        for first in (0..POWERS).step_by(POWERS_AT_ONCE as usize) {
            let powers = first..(first + POWERS_AT_ONCE).min(POWERS);
            let probes: Vec<u64> = powers.map(|power| known + WIDTH.pow(power)).collect();
            (low, high) = self.narrowed((low, high), &probes).await?;
            if high.is_some() {
                break;
            }
        }
        while let Some(end) = high.filter(|high| high - low > 1) {
            let step = (end - low).div_ceil(WIDTH);
            let probes: Vec<u64> = (1..WIDTH).map(|n| low + n * step).take_while(|n| *n < end).collect();
            (low, high) = self.narrowed((low, high), &probes).await?;
        }
        Ok(low)
    }

    /// Between which numbers the log ends, after a look at each of `probes`, which ascend. Beyond a hole it goes on: the highest
    /// that is there counts.
    async fn narrowed(
        &self,
        (low, high): (u64, Option<u64>),
        probes: &[u64],
    ) -> Result<(u64, Option<u64>), VaultError> {
        let look = async |number: &u64| match self.store.head(&layout::audit(*number)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(VaultError::from(error)),
        };
        let there = try_join_all(probes.iter().map(look)).await?;
        let found = probes.iter().zip(there);
        let low = found.clone().filter(|(_, there)| *there).map(|(number, _)| *number).max().unwrap_or(low);
        let missing = found.filter(|(number, there)| !there && **number > low).map(|(number, _)| *number);
        Ok((low, missing.min().or(high)))
    }
}

/// A copy of an object of a log, read without the vault or its key. `signer` is the vault's public key, if it is known.
pub fn read_copy(name: &str, object: &[u8], signer: Option<&[u8]>) -> Link {
    link(name, object, |_, stored| {
        let voucher = signer.map_or(Voucher::Unknown, |signer| signed_by(signer, stored));
        (voucher, Texts::new())
    })
}

/// Reads what is clear, and leaves it to `vouch` to say whose word it is; that is told the number which the name has.
fn link(name: &str, object: &[u8], vouch: impl Fn(Option<u64>, &StoredEntry) -> (Voucher, Texts)) -> Link {
    let hash = sha_256(object);
    let unreadable = |why: String| Link {
        name: name.to_owned(),
        hash: hash.clone(),
        entry: Err(why),
        texts: Texts::new(),
        voucher: Voucher::Unknown,
    };
    let stored: StoredEntry = match serde_json::from_slice(object) {
        Ok(stored) => stored,
        Err(why) => return unreadable(why.to_string()),
    };
    match serde_json::from_str::<AnyShape>(&stored.statement) {
        Ok(shape) if shape.audit > SHAPE => return unreadable("it is of a newer build".to_owned()),
        Ok(_) => {}
        Err(why) => return unreadable(why.to_string()),
    }
    match serde_json::from_str::<Entry>(&stored.statement) {
        Ok(entry) => {
            let (voucher, texts) = vouch(number(name), &stored);
            Link { name: name.to_owned(), hash, entry: Ok(entry), texts, voucher }
        }
        Err(why) => unreadable(why.to_string()),
    }
}

/// What the log names objects and files by, in hexadecimal.
pub fn sha_256(bytes: &[u8]) -> String {
    to_hex(&chain_hash(bytes))
}

/// Whether the holder of this public key signed; nobody knows of an entry that nobody signed.
fn signed_by(public: &[u8], stored: &StoredEntry) -> Voucher {
    if stored.signature.is_empty() {
        return Voucher::Unknown;
    }
    let signature = hex_bytes(&stored.signature).unwrap_or_default();
    match is_signed(public, stored.statement.as_bytes(), &signature) {
        true => Voucher::Signed,
        false => Voucher::Forged("the signature is wrong".to_owned()),
    }
}

/// A plain struct with string keys, which JSON cannot refuse.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|why| unreachable!("an entry is not JSON: {why}"))
}

/// Waits a moment of chance: two writers that met do not meet again.
#[allow(
    clippy::disallowed_methods,
    reason = "waiting is what makes way: bounded, drawn, and nothing tells when others are done"
)]
async fn pause(cx: &Cx) {
    let drawn = u16::from_le_bytes(cx.random()) % LONGEST_WAIT_MS;
    tokio::time::sleep(Duration::from_millis(u64::from(drawn))).await;
}
