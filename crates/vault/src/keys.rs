//! Wrapping the vault key: for a passphrase (Argon2id, or PBKDF2 in a vault of the FIPS suite), an age recipient, or by a service that keeps a key of its own.
//! Append-only, one object per recipient.
//!
//! The vault key itself never changes and never leaves memory unwrapped: adding a recipient rewrites no data.

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use aws_lc_rs::pbkdf2;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::num::NonZeroU32;
use std::sync::Arc;
use strongroom_codec::header::{Kind, Suite};
use strongroom_codec::keys::{Keyring, VaultKey};
use strongroom_codec::manifest::{from_hex, hex_bytes, to_hex};
use strongroom_codec::stream::{StreamScope, read_record, write_record};
use strongroom_model::{Cx, VaultId};
use zeroize::Zeroizing;

use crate::error::{KmsError, VaultError};

/// For whom the vault key is wrapped.
pub enum Recipient {
    /// Whoever knows this passphrase.
    Passphrase(Zeroizing<String>),
    /// Whoever holds this age recipient's identity: `age1…`.
    Age(String),
    /// Whomever this service lets use its key.
    Kms(Arc<dyn Kms>),
}

/// Which service wrapped a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KmsKind {
    /// AWS Key Management Service.
    Aws,
    /// The transit engine of HashiCorp Vault or OpenBao.
    Transit,
}

/// A service that keeps a key, never gives it away, and wraps others with it.
#[async_trait::async_trait]
pub trait Kms: std::fmt::Debug + Send + Sync {
    /// Which service.
    fn kind(&self) -> KmsKind;

    /// Its key, for people: `alias/backups in eu-central-1`.
    fn key(&self) -> String;

    /// Wraps a key so that only it unwraps it, and only for this vault.
    async fn wrap(&self, vault: &VaultId, key: &[u8]) -> Result<String, KmsError>;

    /// Unwraps what [`Kms::wrap`] gave.
    async fn unwrap(&self, vault: &VaultId, wrapped: &str) -> Result<Zeroizing<Vec<u8>>, KmsError>;
}

/// What opens a vault.
#[derive(Default)]
pub struct Unlock {
    /// A passphrase.
    pub passphrase: Option<Zeroizing<String>>,
    /// The text of an age identity file.
    pub identities: Option<Zeroizing<String>>,
    /// Services that may be asked. A copy of the key may name any; only these are asked, with what they were set up with.
    pub kms: Vec<Arc<dyn Kms>>,
}

/// Memory, passes and lanes of Argon2id: RFC 9106 §4's second recommendation (64 MiB, 3 passes, 4 lanes).
const ARGON2_MEMORY_KIB: u32 = 64 << 10;
const ARGON2_PASSES: u32 = 3;
const ARGON2_LANES: u32 = 4;

/// OWASP's recommendation of 2023 for HMAC-SHA-256 (Password Storage Cheat Sheet).
const PBKDF2_ITERATIONS: u32 = 600_000;
const PBKDF2_LIMIT: u32 = 20_000_000;

/// The most a wrapped key may ask of us, so that a forged one cannot exhaust the host.
const ARGON2_MEMORY_LIMIT_KIB: u32 = 1 << 20;
const ARGON2_PASSES_LIMIT: u32 = 64;

/// Bytes of an append key and a public key of P-256.
const LONGEST_SECRET: usize = 32 + 65;

/// A wrapped copy of the vault key, as stored (JSON).
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum KeySlot {
    /// Argon2id turns the passphrase into a key; that key seals the vault key.
    Passphrase { memory_kib: u32, passes: u32, lanes: u32, salt: String, wrapped: String },
    /// PBKDF2-HMAC-SHA-256 turns the passphrase into a key; that key seals the vault key. Of the FIPS suite.
    Pbkdf2 { iterations: u32, salt: String, wrapped: String },
    /// An age file (armoured) for this recipient.
    Age { recipient: String, wrapped: String },
    /// As a key management service wrapped it; `key` is for people.
    Kms { kms: KmsKind, key: String, wrapped: String },
}

impl KeySlot {
    /// Wraps a secret for `recipient`: a vault key, or what a host needs that may only append.
    pub(crate) async fn wrap(
        cx: &Cx,
        (vault, suite): (&VaultId, Suite),
        secret: &[u8],
        recipient: &Recipient,
    ) -> Result<KeySlot, VaultError> {
        match recipient {
            Recipient::Passphrase(passphrase) if passphrase.is_empty() => {
                Err(VaultError::Recipient("an empty passphrase protects nothing".into()))
            }
            Recipient::Passphrase(passphrase) if suite.is_fips() => {
                let salt = cx.random::<16>();
                let wrapping = stretch_fips(passphrase, &salt, PBKDF2_ITERATIONS)?;
                let scope = StreamScope { suite: Suite::Fips, key: &wrapping, vault, path: "key" };
                let wrapped = write_record(scope, Kind::Key, cx.random(), secret);
                let (salt, wrapped) = (to_hex(&salt), to_hex(&wrapped));
                Ok(KeySlot::Pbkdf2 { iterations: PBKDF2_ITERATIONS, salt, wrapped })
            }
            Recipient::Age(_) if suite.is_fips() => Err(VaultError::Recipient(
                "age is not made of approved algorithms: a vault of the FIPS suite opens by passphrase or a key management service"
                    .into(),
            )),
            Recipient::Passphrase(passphrase) => {
                let salt = cx.random::<16>();
                let cost = (ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES);
                let wrapping = stretch(passphrase, &salt, cost)?;
                let scope = StreamScope { suite: Suite::Aes256Gcm, key: &wrapping, vault, path: "key" };
                let wrapped = write_record(scope, Kind::Key, cx.random(), secret);
                Ok(KeySlot::Passphrase {
                    memory_kib: cost.0,
                    passes: cost.1,
                    lanes: cost.2,
                    salt: to_hex(&salt),
                    wrapped: to_hex(&wrapped),
                })
            }
            Recipient::Age(text) => {
                let recipient: age::x25519::Recipient = text.trim().parse().map_err(|why| {
                    VaultError::Recipient(format!("'{text}' is not an age recipient: {why}"))
                })?;
                let wrapped = age_encrypt(&recipient, secret)
                    .map_err(|why| VaultError::Recipient(format!("wrap the vault key for {text}: {why}")))?;
                Ok(KeySlot::Age { recipient: recipient.to_string(), wrapped })
            }
            Recipient::Kms(kms) => {
                let wrapped = kms.wrap(vault, secret).await?;
                Ok(KeySlot::Kms { kms: kms.kind(), key: kms.key(), wrapped })
            }
        }
    }

    /// Whether `unlock` has something for slots of this kind.
    pub(crate) fn is_tried_by(&self, unlock: &Unlock) -> bool {
        match self {
            KeySlot::Passphrase { .. } | KeySlot::Pbkdf2 { .. } => unlock.passphrase.is_some(),
            KeySlot::Age { .. } => unlock.identities.is_some(),
            KeySlot::Kms { kms, .. } => unlock.kms.iter().any(|known| known.kind() == *kms),
        }
    }

    /// For people: `passphrase`, or the age recipient.
    pub(crate) fn shown(&self) -> String {
        match self {
            KeySlot::Passphrase { .. } | KeySlot::Pbkdf2 { .. } => "passphrase".to_owned(),
            KeySlot::Age { recipient, .. } => recipient.clone(),
            KeySlot::Kms { kms: KmsKind::Aws, key, .. } => format!("AWS KMS {key}"),
            KeySlot::Kms { kms: KmsKind::Transit, key, .. } => format!("transit {key}"),
        }
    }

    /// Whether whoever wrote this slot must have known a secret of the one it opens for. Anybody can wrap any key for an
    /// age recipient, whose text is public, and a service may let more people wrap than unwrap.
    pub(crate) fn proves_its_writer(&self) -> bool {
        matches!(self, KeySlot::Passphrase { .. } | KeySlot::Pbkdf2 { .. })
    }

    /// The vault's keys, if this slot is of the kind that `unlock` has something for and it opens. An error means that a service
    /// could not be asked.
    pub(crate) async fn unwrap(
        &self,
        (vault, suite): (&VaultId, Suite),
        unlock: &Unlock,
    ) -> Result<Option<Keyring>, KmsError> {
        let opened = match self {
            KeySlot::Kms { kms, wrapped, .. } => self.unwrap_by_kms(vault, (*kms, wrapped), unlock).await?,
            KeySlot::Passphrase { .. } | KeySlot::Pbkdf2 { .. } | KeySlot::Age { .. } => {
                self.unwrap_here(vault, unlock)
            }
        };
        Ok(opened.and_then(|secret| Keyring::read(suite, &secret)))
    }

    async fn unwrap_by_kms(
        &self,
        vault: &VaultId,
        (kind, wrapped): (KmsKind, &str),
        unlock: &Unlock,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KmsError> {
        for kms in unlock.kms.iter().filter(|kms| kms.kind() == kind) {
            match kms.unwrap(vault, wrapped).await {
                Ok(opened) => return Ok(Some(opened)),
                Err(error @ KmsError::Refused { .. }) => tracing::info!("{error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn unwrap_here(&self, vault: &VaultId, unlock: &Unlock) -> Option<Zeroizing<Vec<u8>>> {
        match (self, &unlock.passphrase, &unlock.identities) {
            (KeySlot::Passphrase { memory_kib, passes, lanes, salt, wrapped }, Some(passphrase), _) => {
                let cheap = *memory_kib <= ARGON2_MEMORY_LIMIT_KIB && *passes <= ARGON2_PASSES_LIMIT;
                let salt = from_hex::<16>(salt).filter(|_| cheap)?;
                let wrapping = stretch(passphrase, &salt, (*memory_kib, *passes, *lanes)).ok()?;
                let wrapped = hex_bytes(wrapped)?;
                let scope = StreamScope { suite: Suite::Aes256Gcm, key: &wrapping, vault, path: "key" };
                read_record(scope, Kind::Key, &wrapped).ok().map(Zeroizing::new)
            }
            (KeySlot::Pbkdf2 { iterations, salt, wrapped }, Some(passphrase), _) => {
                let salt = from_hex::<16>(salt).filter(|_| *iterations <= PBKDF2_LIMIT)?;
                let wrapping = stretch_fips(passphrase, &salt, *iterations).ok()?;
                let scope = StreamScope { suite: Suite::Fips, key: &wrapping, vault, path: "key" };
                read_record(scope, Kind::Key, &hex_bytes(wrapped)?).ok().map(Zeroizing::new)
            }
            (KeySlot::Age { wrapped, .. }, _, Some(identities)) => {
                age_decrypt(identities, wrapped).map(Zeroizing::new)
            }
            _ => None,
        }
    }
}

/// A passphrase's 256-bit key by Argon2id (RFC 9106), cost = (memory in KiB, passes, lanes).
fn stretch(passphrase: &str, salt: &[u8], cost: (u32, u32, u32)) -> Result<VaultKey, VaultError> {
    let unusable =
        |why: argon2::Error| VaultError::Recipient(format!("stretch the passphrase by Argon2id: {why}"));
    let params = argon2::Params::new(cost.0, cost.1, cost.2, Some(32)).map_err(unusable)?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = Zeroizing::new([0; 32]);
    argon2.hash_password_into(passphrase.as_bytes(), salt, &mut *key).map_err(unusable)?;
    Ok(VaultKey::new(*key))
}

/// The same by PBKDF2-HMAC-SHA-256 (NIST SP 800-132).
fn stretch_fips(passphrase: &str, salt: &[u8], iterations: u32) -> Result<VaultKey, VaultError> {
    let none = || VaultError::Recipient("stretch the passphrase by PBKDF2 without a single iteration".into());
    let iterations = NonZeroU32::new(iterations).ok_or_else(none)?;
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, passphrase.as_bytes(), &mut *key);
    Ok(VaultKey::new(*key))
}

fn age_encrypt(recipient: &age::x25519::Recipient, key: &[u8]) -> Result<String, Box<dyn std::error::Error>> {
    let mut out = Vec::new();
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient as &dyn age::Recipient))?;
    let mut writer = encryptor.wrap_output(ArmoredWriter::wrap_output(&mut out, Format::AsciiArmor)?)?;
    writer.write_all(key)?;
    writer.finish()?.finish()?;
    Ok(String::from_utf8(out)?)
}

fn age_decrypt(identities: &str, wrapped: &str) -> Option<Vec<u8>> {
    let identities = age::IdentityFile::from_buffer(identities.as_bytes()).ok()?.into_identities().ok()?;
    let decryptor = age::Decryptor::new(ArmoredReader::new(wrapped.as_bytes())).ok()?;
    let mut reader =
        decryptor.decrypt(identities.iter().map(|identity| &**identity as &dyn age::Identity)).ok()?;
    let mut secret = Vec::with_capacity(2 * LONGEST_SECRET);
    // One byte more than a secret would already be wrong: a forged file cannot make us read on.
    reader.by_ref().take(LONGEST_SECRET as u64 + 1).read_to_end(&mut secret).ok()?;
    Some(secret)
}

/// A new age identity: the text of an identity file, and its recipient.
pub fn generate_identity() -> (Zeroizing<String>, String) {
    use age::secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let text = format!("# recipient: {recipient}\n{}\n", identity.to_string().expose_secret());
    (Zeroizing::new(text), recipient)
}
