//! What opens vaults: identities, passphrases and key services, by flag, environment and settings.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_kms::aws::AwsKmsOptions;
use strongroom_kms::transit::TransitAddressError;
use strongroom_kms::{AwsKms, Transit, TransitAddress};
use strongroom_vault::Unlock;
use strongroom_vault::keys::Kms;
use zeroize::Zeroizing;

use super::Context;
use crate::failure::{Code, Failure};
use crate::secret::{self, Reference, SecretError};
use crate::settings::{SettingsError, VaultSettings};

#[allow(clippy::disallowed_methods, reason = "this module is where keys are taken from the environment")]
impl Context {
    /// What opens the vault that goes by this name or url, or the first one.
    pub fn unlock_of(&self, name: Option<&str>) -> Result<Unlock, Failure> {
        let settings = self.named_settings(name)?;
        let given = (self.global.identity_file.clone(), self.given_passphrase()?);
        let mut unlock = self.unlock(settings, given)?;
        unlock.kms = self.kms_of(settings, true)?;
        Ok(unlock)
    }

    /// The services that may be asked for this vault's key: those its settings name, and those given by flag or environment.
    pub fn kms_of(&self, settings: &VaultSettings, with_flags: bool) -> Result<Vec<Arc<dyn Kms>>, Failure> {
        let (kms, transit) = match with_flags {
            true => (self.global.kms_key.as_ref(), self.global.transit_key.as_ref()),
            false => (None, None),
        };
        let mut services: Vec<Arc<dyn Kms>> = Vec::new();
        if let Some(key) = kms.or(settings.kms_key.as_ref()) {
            services.push(self.kms(key, settings)?);
        }
        if let Some(address) = transit.or(settings.transit_key.as_ref()) {
            services.push(self.transit(address, settings)?);
        }
        Ok(services)
    }

    /// A key of AWS KMS, reached as the vault's settings say.
    pub fn kms(&self, key: &str, settings: &VaultSettings) -> Result<Arc<dyn Kms>, Failure> {
        let of_environment = || {
            let names = ["AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"];
            names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        };
        let options = AwsKmsOptions {
            key: key.to_owned(),
            region: settings.region.clone(),
            profile: settings.profile.clone(),
            endpoint: settings.kms_endpoint.clone().or_else(of_environment),
        };
        Ok(Arc::new(AwsKms::new(options)?))
    }

    /// A transit key; the token is in the file that the settings name, else in the environment, as their own tools have it.
    pub fn transit(&self, address: &str, settings: &VaultSettings) -> Result<Arc<dyn Kms>, Failure> {
        let address: TransitAddress = address
            .parse()
            .map_err(|error: TransitAddressError| Failure::new(Code::Settings, error.to_string()))?;
        let variable = |names: &[&str]| {
            names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        };
        let token = match (&settings.transit_token, &settings.transit_token_file) {
            (Some(reference), _) => Some(self.secret("transit_token", reference)?),
            (None, Some(path)) => Some(self.passphrase(&self.beside_file(path))?),
            (None, None) => variable(&["VAULT_TOKEN", "BAO_TOKEN"]).map(Zeroizing::new),
        };
        let missing = || {
            let failure = Failure::new(Code::Settings, format!("no token is given for {address}"));
            failure.hint("set VAULT_TOKEN, or transit_token (env:NAME, file:/path, command:…) in [vault]")
        };
        let namespace = variable(&["VAULT_NAMESPACE", "BAO_NAMESPACE"]);
        Ok(Arc::new(Transit::new(address.clone(), token.ok_or_else(missing)?, namespace)?))
    }

    /// What opens a vault: an identity file and a passphrase that were given, else what its settings name.
    pub(super) fn unlock(
        &self,
        vault: &VaultSettings,
        (identity_file, passphrase): (Option<PathBuf>, Option<Zeroizing<String>>),
    ) -> Result<Unlock, Failure> {
        let of_file = |path: &Option<PathBuf>| path.as_ref().map(|path| self.beside_file(path));
        let mut unlock = Unlock { passphrase, ..Unlock::default() };
        if let Some(path) = identity_file.or_else(|| of_file(&vault.identity_file)) {
            let read = |source| SettingsError::Key { path: path.display().to_string(), source };
            unlock.identities = Some(secret::text_of(&path).map_err(read)?);
        }
        if unlock.passphrase.is_none() {
            unlock.passphrase = self.passphrase_of(vault)?;
        }
        Ok(unlock)
    }

    /// The passphrase that a vault's settings name.
    fn passphrase_of(&self, vault: &VaultSettings) -> Result<Option<Zeroizing<String>>, Failure> {
        let command = || vault.passphrase_command.clone().map(Reference::Command);
        match (&vault.passphrase, &vault.passphrase_file) {
            (Some(reference), _) => self.secret("passphrase", reference).map(Some),
            (None, Some(path)) => self.passphrase(&self.beside_file(path)).map(Some),
            (None, None) => command().map(|it| self.secret("passphrase_command", &it)).transpose(),
        }
    }

    /// The secret that the settings file names under `key`.
    fn secret(&self, key: &str, reference: &Reference) -> Result<Zeroizing<String>, Failure> {
        let reference = reference.beside(|path| self.beside_file(path));
        reference.read().map_err(|error| Failure::from(error).under(key))
    }

    /// What `--passphrase` refers to.
    pub(super) fn referred_passphrase(&self) -> Result<Option<Reference>, Failure> {
        let read = |text: &String| {
            text.parse().map_err(|error: SecretError| Failure::from(error).under("--passphrase"))
        };
        self.global.passphrase.as_ref().map(read).transpose()
    }

    /// The passphrase by flag, else by environment.
    pub fn given_passphrase(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        if let Some(reference) = self.referred_passphrase()? {
            let secret = reference.read().map_err(|error| Failure::from(error).under("--passphrase"))?;
            return Ok(Some(secret));
        }
        if let Some(path) = &self.global.passphrase_file {
            return self.passphrase(path).map(Some);
        }
        match std::env::var("STRONGROOM_PASSPHRASE").map(Zeroizing::new) {
            Ok(passphrase) if !passphrase.is_empty() => return Ok(Some(passphrase)),
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Failure::new(Code::Settings, "STRONGROOM_PASSPHRASE is not UTF-8 text"));
            }
            _ => {}
        }
        self.passphrase_file().map(|path| self.passphrase(&path)).transpose()
    }

    /// The passphrase file by flag, else by environment.
    pub fn passphrase_file(&self) -> Option<PathBuf> {
        let named = || std::env::var_os("STRONGROOM_PASSPHRASE_FILE").filter(|path| !path.is_empty());
        self.global.passphrase_file.clone().or_else(|| named().map(PathBuf::from))
    }

    /// The passphrase that every later command will use: as given, else by the settings file.
    pub fn usual_passphrase(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        match self.given_passphrase()? {
            Some(given) => Ok(Some(given)),
            None => self.passphrase_of(&self.settings.vault),
        }
    }

    /// A passphrase file's first line.
    pub fn passphrase(&self, path: &Path) -> Result<Zeroizing<String>, Failure> {
        Reference::File(path.to_owned()).read().map_err(|error| Failure::from(error).under("passphrase"))
    }

    /// A new passphrase, typed twice. `None` if nobody is there to type.
    pub fn ask_new_passphrase(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        if !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let ask = |text: &str| {
            let typed = rpassword::prompt_password(text).map(Zeroizing::new);
            typed.map_err(|error| Failure::new(Code::Usage, format!("read the passphrase: {error}")))
        };
        let first = ask("Passphrase for the new vault: ")?;
        let second = ask("The same again: ")?;
        match *first == *second {
            true => Ok(Some(first)),
            false => Err(Failure::new(Code::Usage, "the two passphrases differ")),
        }
    }

    /// Whether the vault's key is to be had from this process's environment only, which no server has.
    pub fn key_is_in_environment(&self) -> bool {
        let vault = &self.settings.vault;
        let files = [
            &self.global.identity_file,
            &vault.identity_file,
            &self.passphrase_file(),
            &vault.passphrase_file,
        ];
        let referred = self.referred_passphrase().ok().flatten().or_else(|| vault.passphrase.clone());
        files.iter().all(|file| file.is_none())
            && vault.passphrase_command.is_none()
            && matches!(referred, None | Some(Reference::Environment(_)))
            && self.usual_passphrase().is_ok_and(|passphrase| passphrase.is_some())
    }
}
