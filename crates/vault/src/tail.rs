//! A segment that the server still writes to, as far as receivers have brought it: stored as parts, read as one.
//!
//! ```text
//! receive   ship part ▶ ship part ▶ … ▶ ship the segment, whole ▶ a sweep lets the parts go
//! fetch     whole? ▶ list parts ▶ the fewest that hold it from its beginning on ▶ still not whole?
//! ```
//!
//! **Invariant**: parts go only after what holds the same bytes is there, so whoever finds one gone looks again, and what
//! is read is never less than what was once acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use strongroom_model::tail::{Stretch, cover};
use strongroom_model::{SourceName, SystemId, WalFile, WalSegment};
use strongroom_store::Key;

use crate::error::{VaultError, damaged};
use crate::journal::JournalFacts;
use crate::layout;
use crate::open::Vault;

/// How often parts may go while they are read before the store is not believed any more.
const LOOKS: usize = 100;

/// Parts read at a time.
const PARTS_AT_ONCE: usize = 8;

/// What the vault has of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// All of it.
    Whole(Vec<u8>),
    /// Its beginning.
    Tail(Vec<u8>),
}

/// The parts among a journal's files that nobody needs any more: their segment, or another part, holds their bytes.
pub(crate) fn finished(files: &[WalFile]) -> BTreeSet<WalFile> {
    let mut parts = BTreeMap::<WalSegment, Vec<Stretch>>::new();
    for file in files {
        if let WalFile::Part(segment, stretch) = file {
            parts.entry(*segment).or_default().push(*stretch);
        }
    }
    let whole: BTreeSet<WalFile> = files
        .iter()
        .filter(|file| matches!(file, WalFile::Segment(segment) if parts.contains_key(segment)))
        .copied()
        .collect();
    let mut finished = BTreeSet::new();
    for (segment, parts) in parts {
        let is_whole = whole.contains(&WalFile::Segment(segment));
        let is_finished = |part: &&Stretch| is_whole || parts.iter().any(|other| other.covers(**part));
        finished.extend(parts.iter().filter(is_finished).map(|part| WalFile::Part(segment, *part)));
    }
    finished
}

impl Vault {
    /// What there is of a segment, checked: all of it, or its beginning as far as receivers brought it. `None` only if the
    /// store says with authority that there is neither.
    pub async fn fetch_segment(
        &self,
        source: &SourceName,
        lineage: SystemId,
        segment: WalSegment,
    ) -> Result<Option<Held>, VaultError> {
        let whole = WalFile::Segment(segment);
        loop {
            if let Some((_, content)) = self.fetch(source, lineage, whole).await? {
                return Ok(Some(Held::Whole(content)));
            }
            let tail = self.read_tail(source, lineage, segment).await?;
            // Were it whole by now, a sweep could have taken parts before they were listed.
            if !self.has_journal(source, lineage, whole).await? {
                return Ok(tail.map(Held::Tail));
            }
        }
    }

    /// The facts of a tail: when its end was shipped, and the transactions from the segment's beginning on. `None` if
    /// there is no tail.
    pub async fn tail_facts(
        &self,
        source: &SourceName,
        lineage: SystemId,
        segment: WalSegment,
    ) -> Result<Option<JournalFacts>, VaultError> {
        for _ in 0..LOOKS {
            let cover = self.cover(source, lineage, segment).await?;
            let Some(last) = cover.last() else { return Ok(None) };
            let part = WalFile::Part(segment, *last);
            match self.journal_facts(source, lineage, part).await {
                Err(VaultError::Store(error)) if error.is_not_found() => {}
                facts => return facts.map(Some),
            }
        }
        Err(self.contradicts_itself(source, lineage, segment))
    }

    async fn read_tail(
        &self,
        source: &SourceName,
        lineage: SystemId,
        segment: WalSegment,
    ) -> Result<Option<Vec<u8>>, VaultError> {
        'again: for _ in 0..LOOKS {
            let cover = self.cover(source, lineage, segment).await?;
            let reads = cover.iter().map(|part| self.fetch(source, lineage, WalFile::Part(segment, *part)));
            let mut reads = futures::stream::iter(reads.collect::<Vec<_>>()).buffered(PARTS_AT_ONCE);
            let mut content: Vec<u8> = Vec::new();
            for part in &cover {
                // Gone: another part covers it now, or the segment is whole.
                let Some(Some((_, bytes))) = reads.try_next().await? else { continue 'again };
                let known = content.len() - part.start() as usize;
                if bytes.len() != part.bytes() as usize || bytes[..known] != content[part.start() as usize..]
                {
                    let key = layout::wal_file(source, lineage, WalFile::Part(segment, *part));
                    let why = "another part of its segment has other bytes in the same place".to_owned();
                    return Err(damaged(&key, self.place(), why));
                }
                content.extend_from_slice(&bytes[known..]);
            }
            return Ok((!cover.is_empty()).then_some(content));
        }
        Err(self.contradicts_itself(source, lineage, segment))
    }

    /// The error of a store that goes on listing parts that are not there.
    fn contradicts_itself(&self, source: &SourceName, lineage: SystemId, segment: WalSegment) -> VaultError {
        let key = format!("{}.*", layout::wal_file(source, lineage, WalFile::Segment(segment)));
        VaultError::Missing { key, place: self.place() }
    }

    /// The parts that hold the segment from its beginning on.
    async fn cover(
        &self,
        source: &SourceName,
        lineage: SystemId,
        segment: WalSegment,
    ) -> Result<Vec<Stretch>, VaultError> {
        let whole = layout::wal_file(source, lineage, WalFile::Segment(segment));
        let folder = whole.as_str().rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        // The names of its parts are those that follow its own.
        let (mut parts, mut after) = (Vec::new(), Some(whole));
        loop {
            let page = self.store.names(&folder, after.as_ref()).await?;
            let named = |key: &Key| match WalFile::parse_kept(key.last_segment()) {
                Ok(WalFile::Part(of, stretch)) if of == segment => Some(stretch),
                _ => None,
            };
            let before = parts.len();
            parts.extend(page.objects.iter().map_while(|object| named(&object.key)));
            let all = parts.len() - before == page.objects.len();
            match page.next.filter(|_| all) {
                Some(next) => after = Some(next),
                None => return Ok(cover(parts)),
            }
        }
    }
}
