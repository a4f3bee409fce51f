//! `[vault]` and `[[also]]`: where a vault is, who opens it, and how its store keeps objects.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use strongroom_model::lifecycle::Lifecycle;
use strongroom_model::retention::Retention;
use strongroom_model::tier::{ClassError, StorageClass};
use strongroom_store::{Lock, LockMode, Manner};

use crate::secret::Reference;

/// `[vault]` and `[[also]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultSettings {
    /// What `copy --to` calls it; the first one is called `vault` unless it has a name.
    pub name: Option<String>,
    /// `s3://bucket/prefix` or a folder.
    pub url: Option<String>,
    /// Of an S3-compatible store, or of an emulator.
    pub endpoint: Option<String>,
    /// Azure's storage account.
    pub account: Option<String>,
    /// Of the bucket.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name.
    #[serde(default)]
    pub path_style: bool,
    /// Plain HTTP: only for a store on this host or network that one trusts.
    #[serde(default)]
    pub allow_http: bool,
    /// A profile of the shared AWS files. It outweighs `AWS_PROFILE` and keys in the environment.
    pub profile: Option<String>,
    /// Where the passphrase is.
    pub passphrase: Option<Reference>,
    /// A file that holds the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// A command whose first line of output is the passphrase.
    pub passphrase_command: Option<String>,
    /// A key of AWS KMS: its id, alias or ARN.
    pub kms_key: Option<String>,
    /// Another endpoint of KMS than AWS's own.
    pub kms_endpoint: Option<String>,
    /// A key of the transit engine: `https://vault.example:8200/v1/transit/keys/NAME`.
    pub transit_key: Option<String>,
    /// Where the token for it is.
    pub transit_token: Option<Reference>,
    /// A file that holds the token for it.
    pub transit_token_file: Option<PathBuf>,
    /// An age identity file.
    pub identity_file: Option<PathBuf>,
    /// What this vault keeps, whatever its sources say.
    pub retention: Option<Retention>,
    /// How each new object is locked.
    pub lock: Option<LockSettings>,
    /// Into which storage class new objects go.
    #[serde(default)]
    pub classes: ClassSettings,
    /// Where the bucket moves objects as they age.
    #[serde(default)]
    pub lifecycle: Lifecycle,
}

impl VaultSettings {
    /// How new objects are put.
    pub fn manner(&self) -> Manner {
        Manner {
            lock: self.lock.as_ref().map(LockSettings::lock),
            packs: self.classes.packs,
            wal: self.classes.wal,
            tagged: !(self.lifecycle.packs.is_empty() && self.lifecycle.wal.is_empty()),
        }
    }
}

/// `[vault.classes]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassSettings {
    /// Of packs.
    #[serde(deserialize_with = "readable_class")]
    pub packs: Option<StorageClass>,
    /// Of WAL files.
    #[serde(deserialize_with = "readable_class")]
    pub wal: Option<StorageClass>,
}

/// The next backup reads what the last one wrote.
fn readable_class<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<StorageClass>, D::Error> {
    readable(StorageClass::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

/// Reads a class that objects can be put into at once: `STANDARD_IA`.
pub fn parse_class(text: &str) -> Result<StorageClass, String> {
    readable(text.parse().map_err(|error: ClassError| error.to_string())?)
}

fn readable(class: StorageClass) -> Result<StorageClass, String> {
    match class.is_frozen() {
        true => Err(format!(
            "objects in {class} must be thawed before they can be read, and the next backup reads them: freeze them later, with [vault.lifecycle]"
        )),
        false => Ok(class),
    }
}

/// `[vault.lock]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockSettings {
    mode: LockModeName,
    #[serde(deserialize_with = "days_of_lock")]
    days: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LockModeName {
    Governance,
    Compliance,
}

impl LockSettings {
    /// How long objects are locked.
    pub fn days(&self) -> u32 {
        self.days
    }

    /// As the store takes it.
    pub fn lock(&self) -> Lock {
        let mode = match self.mode {
            LockModeName::Governance => LockMode::Governance,
            LockModeName::Compliance => LockMode::Compliance,
        };
        Lock { mode, keep: Duration::from_secs(u64::from(self.days) * 86_400) }
    }
}

/// What nobody can lift may not last longer than anybody lives to regret.
fn days_of_lock<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        days @ 1..=36_500 => Ok(days),
        _ => Err(serde::de::Error::custom("it must be between 1 and 36500 (100 years)")),
    }
}
