//! Making and opening a vault.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use strongroom_codec::fingerprint::FingerprintKey;
use strongroom_codec::header::{FORMAT, Suite};
use strongroom_codec::keys::{Keyring, VaultKey};
use strongroom_codec::manifest::to_hex;
use strongroom_model::{Cx, Timestamp, VaultId, audit};
use strongroom_store::{Head, Key, PutError, Store, StoreError};

use crate::error::{VaultError, written};
use crate::keys::{KeySlot, Recipient, Unlock};
use crate::layout;

/// `vault.json`: what a vault is. The nonce makes its bytes its writer's own, and tells a vault from its replicas.
#[derive(Serialize, Deserialize)]
pub(crate) struct VaultFile {
    pub(crate) format: u16,
    pub(crate) vault: VaultId,
    pub(crate) suite: Suite,
    pub(crate) key: String,
    pub(crate) created_at: Timestamp,
    pub(crate) tool: String,
    pub(crate) nonce: String,
    /// Of the vault's keys, where the suite divides them: what opens another pair is forged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commitment: Option<String>,
}

/// The front of `vault.json` that every later format keeps.
#[derive(Deserialize)]
struct AnyVaultFile {
    format: u16,
}

/// An open vault.
pub struct Vault {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) id: VaultId,
    pub(crate) suite: Suite,
    pub(crate) keys: Keyring,
    pub(crate) fingerprints: FingerprintKey,
    pub(crate) key_id: String,
    /// The nonce of its `vault.json`: this place's own, whereas a replica has the same id.
    pub(crate) nonce: String,
    /// The newest entry of its audit log that was seen: where to look for newer ones from.
    pub(crate) audit_seen: Mutex<Option<audit::Head>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({} in {})", self.id, self.store.place())
    }
}

impl Vault {
    /// Makes a vault where there is none. The key is wrapped for every recipient before `vault.json` is written: of
    /// two that try at once one wins, and the loser leaves only wrapped keys nobody refers to.
    pub async fn create(
        cx: &Cx,
        store: Arc<dyn Store>,
        suite: Suite,
        recipients: &[Recipient],
        tool: &str,
    ) -> Result<Vault, VaultError> {
        let place = store.place();
        match store.head(&layout::vault()).await {
            Ok(_) => return Err(VaultError::AlreadyAVault { place }),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        if suite != Suite::Plain && recipients.is_empty() {
            return Err(VaultError::Recipient(
                "a vault needs a passphrase, an age recipient or a key service to keep its key for".into(),
            ));
        }
        let (id, key_id) = (VaultId::new(cx.random()), to_hex(&cx.random::<4>()));
        let key = if suite == Suite::Plain { VaultKey::public() } else { VaultKey::new(cx.random()) };
        let keys = Keyring::whole(suite, key);
        for (n, recipient) in (1..).zip(recipients) {
            let Some(secret) = keys.secret() else { unreachable!("a new vault's key is whole") };
            let slot = KeySlot::wrap(cx, (&id, suite), &secret, recipient).await?;
            let slot =
                serde_json::to_vec_pretty(&slot).map_err(|why| VaultError::Recipient(why.to_string()))?;
            written(store.put_new(&layout::key_slot(&key_id, n), slot.into()).await)?;
        }
        let file = VaultFile {
            format: FORMAT,
            vault: id.clone(),
            suite,
            key: key_id.clone(),
            created_at: cx.now(),
            tool: tool.to_owned(),
            nonce: to_hex(&cx.random::<16>()),
            commitment: keys.commitment().map(|commitment| to_hex(&commitment)),
        };
        Vault::write(store, file, keys).await
    }

    /// Writes `vault.json`, last of all: from here on there is a vault.
    pub(crate) async fn write(
        store: Arc<dyn Store>,
        file: VaultFile,
        keys: Keyring,
    ) -> Result<Vault, VaultError> {
        let place = store.place();
        let json = serde_json::to_vec_pretty(&file)
            .map_err(|why| VaultError::VaultFile { place: place.clone(), why: why.to_string() })?;
        match store.put_new(&layout::vault(), json.into()).await {
            Ok(()) => Ok(Vault::of(store, file, keys)),
            Err(PutError::Exists { .. }) => Err(VaultError::AlreadyAVault { place }),
            Err(PutError::Store(error)) => Err(error.into()),
        }
    }

    fn of(store: Arc<dyn Store>, file: VaultFile, keys: Keyring) -> Vault {
        let VaultFile { vault: id, suite, key: key_id, nonce, .. } = file;
        let fingerprints = keys.append_key().fingerprint_key(suite);
        Vault { fingerprints, store, id, suite, keys, key_id, nonce, audit_seen: Mutex::default() }
    }

    /// Opens the vault in `store`.
    pub async fn open(store: Arc<dyn Store>, unlock: &Unlock) -> Result<Vault, VaultError> {
        let place = store.place();
        let file = match store.get(&layout::vault()).await {
            Ok(bytes) => read_vault_file(&bytes, &place)?,
            Err(error) if error.is_not_found() => return Err(VaultError::NotAVault { place }),
            Err(error) => return Err(error.into()),
        };
        let keys = match file.suite {
            Suite::Plain => Keyring::whole(Suite::Plain, VaultKey::public()),
            _ => unlock_keys(&*store, &file, unlock).await?,
        };
        Ok(Vault::of(store, file, keys))
    }

    /// The vault's id.
    pub fn id(&self) -> &VaultId {
        &self.id
    }

    /// How its objects are protected.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Whether this host may read what points and WAL hold, and sign; with the append key it may not.
    pub fn may_read(&self) -> bool {
        self.keys.vault_key().is_some()
    }

    /// An error if this host may only append.
    pub fn check_may_read(&self) -> Result<(), VaultError> {
        if self.may_read() { Ok(()) } else { Err(VaultError::AppendOnly { place: self.place() }) }
    }

    /// Where it is.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// How many wrapped copies of its key there are.
    pub async fn key_slots(&self) -> Result<usize, VaultError> {
        Ok(live_slots(&*self.store, &self.key_id).await?.len())
    }

    /// Every object below `prefix`, in order of key.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Head>, VaultError> {
        Ok(list_all(&*self.store, prefix).await?)
    }
}

fn read_vault_file(bytes: &[u8], place: &str) -> Result<VaultFile, VaultError> {
    let wrong = |why: String| VaultError::VaultFile { place: place.to_owned(), why };
    let any: AnyVaultFile = serde_json::from_slice(bytes).map_err(|why| wrong(why.to_string()))?;
    if any.format > FORMAT {
        return Err(VaultError::Newer {
            object: "vault.json".into(),
            place: place.to_owned(),
            format: any.format,
        });
    }
    let file: VaultFile = serde_json::from_slice(bytes).map_err(|why| wrong(why.to_string()))?;
    if file.key.is_empty() || !file.key.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(wrong("the key id is not hexadecimal".into()));
    }
    Ok(file)
}

/// The keys that `unlock` opens: the whole of them if any copy has it.
async fn unlock_keys(store: &dyn Store, file: &VaultFile, unlock: &Unlock) -> Result<Keyring, VaultError> {
    let place = store.place();
    let what = match (&unlock.passphrase, &unlock.identities, unlock.kms.is_empty()) {
        (None, None, true) => return Err(VaultError::Locked { place }),
        (Some(_), None, true) => "this passphrase does not open",
        (None, Some(_), true) => "none of these age identities opens",
        (Some(_), Some(_), true) => "neither this passphrase nor any of these age identities opens",
        (None, None, false) => "this key service does not open",
        (_, _, false) => "nothing that was given opens",
    };
    let slots = live_slots(store, &file.key).await?;
    if slots.is_empty() {
        return Err(VaultError::Missing { key: layout::keys(&file.key), place });
    }
    let damaged =
        |key: &Key, why: String| VaultError::Damaged { key: key.to_string(), place: place.clone(), why };
    let (mut unreadable, mut silent) = (None, None);
    let (mut proven, mut opened): (Option<Keyring>, Vec<(Key, Keyring)>) = (None, Vec::new());
    for path in slots {
        let bytes = store.get(&path).await?;
        let slot = match serde_json::from_slice::<KeySlot>(&bytes) {
            Ok(slot) => slot,
            Err(why) => {
                unreadable = Some(damaged(&path, why.to_string()));
                continue;
            }
        };
        let keys = match slot.unwrap((&file.vault, file.suite), unlock).await {
            Ok(Some(keys)) => keys,
            Ok(None) => continue,
            // Another copy may open without it.
            Err(error) => {
                silent = Some(VaultError::from(error));
                continue;
            }
        };
        if keys.commitment().map(|commitment| to_hex(&commitment)) != file.commitment {
            unreadable = Some(damaged(&path, "it wraps other keys than the vault's: it is forged".into()));
            continue;
        }
        match slot.proves_its_writer() {
            true if keys.vault_key().is_some() => return Ok(keys),
            true => proven = Some(keys),
            false => opened.push((path, keys)),
        }
    }
    // In a vault without a commitment, who may only write could wrap a key of their own for our recipient, and read what we
    // seal with it from then on.
    if let Some((first, keys)) = opened.first()
        && let Some((other, _)) = opened.iter().find(|(_, other)| !other.is_same_vault(keys))
    {
        return Err(damaged(other, format!("it wraps another key than {first}: one of them is forged")));
    }
    let opened: Vec<Keyring> = proven.into_iter().chain(opened.into_iter().map(|(_, keys)| keys)).collect();
    let whole = opened.iter().find(|keys| keys.vault_key().is_some());
    match whole.or(opened.first()) {
        Some(keys) => Ok(keys.clone()),
        None => Err(silent.or(unreadable).unwrap_or(VaultError::WrongKey { what, place })),
    }
}

/// The wrapped copies of the vault key `id` that were not removed.
pub(crate) async fn live_slots(store: &dyn Store, id: &str) -> Result<Vec<Key>, StoreError> {
    const REMOVED: &str = ".removed";
    let listed = list_all(store, &layout::keys(id)).await?;
    let removed: Vec<&str> =
        listed.iter().filter_map(|object| object.key.as_str().strip_suffix(REMOVED)).collect();
    let live = listed
        .iter()
        .map(|object| &object.key)
        .filter(|key| !key.as_str().ends_with(REMOVED) && !removed.contains(&key.as_str()));
    Ok(live.cloned().collect())
}

/// A whole listing. Any error fails it: a listing cut short must never look like a small one (I6).
pub(crate) async fn list_all(store: &dyn Store, prefix: &str) -> Result<Vec<Head>, StoreError> {
    let (mut all, mut after): (Vec<Head>, Option<Key>) = (Vec::new(), None);
    loop {
        let page = store.list(prefix, after.as_ref()).await?;
        all.extend(page.objects);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}
