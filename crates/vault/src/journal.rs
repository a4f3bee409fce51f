//! The journal in the vault: one object per WAL file, under the name PostgreSQL gave it.
//!
//! The first chunk of an object is its facts, the others its content in parts of 1 MiB. A name is written once: the
//! same content again is fine, other content is refused and what is there stays (incidents 14 and 17).

use serde::{Deserialize, Serialize};
use strongroom_codec::header::Kind;
use strongroom_codec::keys::ContentKey;
use strongroom_codec::manifest::{hex_bytes, to_hex};
use strongroom_codec::stream::{StreamReader, StreamWriter};
use strongroom_model::{Cx, SourceName, SystemId, Timestamp, WalFile};
use strongroom_store::{Key, PutError};

use crate::error::{VaultError, damaged};
use crate::layout;
use crate::open::Vault;

/// Content per chunk: what a reader holds besides the segment itself.
const PART: usize = 1 << 20;

/// Threads that compress one WAL file at most: the server's own work goes on beside it.
const THREADS: usize = 4;

/// Bytes read to learn a journal file's facts: its first chunk is a few hundred bytes.
const FACTS_READ: u64 = 4096;

/// What is known of a shipped WAL file besides its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalFacts {
    /// Its name.
    pub name: String,
    /// Bytes of content.
    pub size: u64,
    /// When it was shipped, by the shipper's clock.
    pub shipped_at: Timestamp,
    /// When its first and last transaction ended, by the server's clock; `None` if none did in this file. Those of a part
    /// are counted from its segment's beginning.
    pub transactions: Option<(Timestamp, Timestamp)>,
}

/// The first chunk of a WAL file's object: its facts and, where keys are divided and it is no history, both others.
#[derive(Serialize, Deserialize)]
struct Front {
    #[serde(flatten)]
    facts: JournalFacts,
    /// What opens the content, encapsulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_key: Option<String>,
    /// Keyed hash of the content, for hosts that may not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_hash: Option<String>,
}

/// What shipping a file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shipped {
    /// It is in the vault now.
    Stored {
        /// Bytes of the object.
        bytes: u64,
    },
    /// The same content was there, durably.
    AlreadyThere,
}

/// Whether a file holds what databases hold. Timelines are no content: whoever appends must know them.
fn is_content(file: WalFile) -> bool {
    !matches!(file, WalFile::History(_))
}

impl Vault {
    /// Ships a WAL file. `Ok` means that the vault durably holds exactly this content under this name.
    pub async fn ship(
        &self,
        cx: &Cx,
        source: &SourceName,
        lineage: SystemId,
        (file, facts): (WalFile, &JournalFacts),
        content: &[u8],
    ) -> Result<Shipped, VaultError> {
        let key = layout::wal_file(source, lineage, file);
        let mut writer = StreamWriter::new(self.scope(&key), Kind::Journal, cx.random());
        let content_key = self.keys.new_content_key(cx.random()).filter(|_| is_content(file));
        let front = Front {
            facts: facts.clone(),
            content_key: content_key.as_ref().map(|key| to_hex(key.encapsulated())),
            content_hash: content_key.as_ref().map(|_| to_hex(&self.fingerprints.content_hash(content))),
        };
        writer.push(
            &serde_json::to_vec(&front)
                .unwrap_or_else(|why| unreachable!("journal facts are not JSON: {why}")),
        );
        if let Some(key) = &content_key {
            writer.seal_rest(key);
        }
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS);
        writer.push_all(&content.chunks(PART).collect::<Vec<_>>(), threads);
        let object = writer.finish();
        let bytes = object.len() as u64;
        match self.store.put_new(&key, object.into()).await {
            Ok(()) => Ok(Shipped::Stored { bytes }),
            Err(PutError::Store(error)) => Err(error.into()),
            Err(PutError::Exists { .. }) => match self.content_hash(&key).await? {
                Some(there) if there == to_hex(&self.fingerprints.content_hash(content)) => {
                    Ok(Shipped::AlreadyThere)
                }
                Some(_) => {
                    Err(VaultError::JournalDiffers { file, source_name: source.clone(), place: self.place() })
                }
                None => Err(VaultError::Missing { key: key.to_string(), place: self.place() }),
            },
        }
    }

    /// The keyed hash of a WAL file's content: of what was read or, where this host may not read it, as its shipper
    /// noted it. `None` if there is no such file.
    async fn content_hash(&self, key: &Key) -> Result<Option<String>, VaultError> {
        match self.fetch_at(key).await {
            Ok(fetched) => Ok(fetched.map(|(_, content)| to_hex(&self.fingerprints.content_hash(&content)))),
            Err(VaultError::AppendOnly { .. }) => Ok(self.read_front(key).await?.content_hash),
            Err(error) => Err(error),
        }
    }

    /// Whether a replica's WAL file has the same content as ours. Both must be there.
    pub(crate) async fn is_same_journal(&self, key: &Key, other: &Vault) -> Result<bool, VaultError> {
        Ok(self.content_hash(key).await? == other.content_hash(key).await?)
    }

    /// A shipped WAL file, whole and checked; `None` only if the store says with authority that there is none.
    pub async fn fetch(
        &self,
        source: &SourceName,
        lineage: SystemId,
        file: WalFile,
    ) -> Result<Option<(JournalFacts, Vec<u8>)>, VaultError> {
        self.fetch_at(&layout::wal_file(source, lineage, file)).await
    }

    /// Whether the vault has this WAL file. `false` only if the store says so with authority.
    pub async fn has_journal(
        &self,
        source: &SourceName,
        lineage: SystemId,
        file: WalFile,
    ) -> Result<bool, VaultError> {
        match self.store.head(&layout::wal_file(source, lineage, file)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A shipped WAL file's facts, without its content.
    pub async fn journal_facts(
        &self,
        source: &SourceName,
        lineage: SystemId,
        file: WalFile,
    ) -> Result<JournalFacts, VaultError> {
        Ok(self.read_front(&layout::wal_file(source, lineage, file)).await?.facts)
    }

    async fn read_front(&self, key: &Key) -> Result<Front, VaultError> {
        let size = self.store.head(key).await?.size;
        let front = self.store.get_range(key, 0..size.min(FACTS_READ)).await?;
        self.next_front(key, &mut self.open_journal(key, &front)?)
    }

    async fn fetch_at(&self, key: &Key) -> Result<Option<(JournalFacts, Vec<u8>)>, VaultError> {
        let object = match self.store.get(key).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.read_journal(key, &object).map(Some)
    }

    /// Whether a WAL file's object is whole, as far as this host can tell.
    pub(crate) fn check_journal(&self, key: &Key, object: &[u8]) -> Result<(), VaultError> {
        if self.may_read() {
            return self.read_journal(key, object).map(drop);
        }
        let mut reader = self.open_journal(key, object)?;
        self.next_front(key, &mut reader)?;
        reader.skip_rest().map_err(|why| damaged(key, self.place(), why))
    }

    /// A WAL file's object, opened to its end.
    fn read_journal(&self, key: &Key, object: &[u8]) -> Result<(JournalFacts, Vec<u8>), VaultError> {
        let mut reader = self.open_journal(key, object)?;
        let Front { facts, content_key, .. } = self.next_front(key, &mut reader)?;
        if let Some(content_key) = content_key {
            self.check_may_read()?;
            let content_key = ContentKey::closed(hex_bytes(&content_key).unwrap_or_default());
            let opened = reader.open_rest(&self.keys.open(&content_key));
            opened.map_err(|why| damaged(key, self.place(), why))?;
        }
        let mut content = Vec::with_capacity(facts.size.min(1 << 30) as usize);
        while let Some(part) = reader.next_chunk().map_err(|why| damaged(key, self.place(), why))? {
            content.extend_from_slice(&part);
        }
        if content.len() as u64 != facts.size || facts.name != key.last_segment() {
            return Err(damaged(key, self.place(), "its content is not what its facts say".to_owned()));
        }
        Ok((facts, content))
    }

    fn open_journal<'a>(&self, key: &Key, object: &'a [u8]) -> Result<StreamReader<'a>, VaultError> {
        StreamReader::new(self.scope(key), Kind::Journal, object)
            .map_err(|why| damaged(key, self.place(), why))
    }

    fn next_front(&self, key: &Key, reader: &mut StreamReader<'_>) -> Result<Front, VaultError> {
        let front = reader.next_chunk().map_err(|why| damaged(key, self.place(), why))?.unwrap_or_default();
        let front: Front =
            serde_json::from_slice(&front).map_err(|why| damaged(key, self.place(), why.to_string()))?;
        let is_apart =
            WalFile::parse_kept(key.last_segment()).is_ok_and(is_content) && self.suite.divides_keys();
        if front.content_key.is_some() != is_apart || front.content_hash.is_some() != is_apart {
            return Err(damaged(
                key,
                self.place(),
                "its content is not sealed as this vault seals it".to_owned(),
            ));
        }
        Ok(front)
    }
}
